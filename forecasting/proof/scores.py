"""How good a probabilistic forecast was: pure functions of draws, probabilities and what came true.

Everything here takes arrays and returns numbers; nothing knows of deals. Lower is better for every score. Where
scoringrules has the score it computes it; the laws in ``tests/forecasting/test_scores.py`` hold the rest.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import scoringrules
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from models.errors import SettingsError

RANGE_LEVELS = (0.5, 0.8, 0.95)
"""Central ranges whose coverage is reported."""
BAND_LEVEL = 0.95
"""Mass of the binomial band printed beside a coverage."""
LOWEST_PROBABILITY = 1e-6
"""The log score keeps probabilities this far from 0 and 1: one certainty gone wrong must not hide the rest."""


@dataclass(frozen=True)
class Coverage:
    """How often a central range held the actual value, and how often it should have.

    Parameters
    ----------
    level : float
        Nominal probability of the range.
    hits, n : int
        Ranges that held the actual value, of so many.
    expected_low, expected_high : int
        Central 95 % of Binomial(n, level): the hits of a range that is right, when origins are independent. Overlapping
        horizons are not, so the true band is wider; :func:`block_bootstrap` respects the overlap.
    """

    level: float
    hits: int
    n: int
    expected_low: int
    expected_high: int

    @property
    def share(self) -> float:
        """Share of hits, NaN without forecasts."""
        return self.hits / self.n if self.n else float("nan")

    @property
    def inside_band(self) -> bool:
        """Whether the hits are what a right range may give."""
        return self.expected_low <= self.hits <= self.expected_high


def crps(draws: ArrayLike, actual: ArrayLike) -> NDArray[np.float64]:
    """Continuous ranked probability score of forecasts given as draws.

    CRPS = E|X - y| - E|X - X'| / 2 under the distribution that gives each draw the same mass; in the unit of the
    quantity, zero only for a certain and right forecast.

    Parameters
    ----------
    draws : array, shape (..., draw)
    actual : array, shape (...)

    Returns
    -------
    ndarray of float64, shape (...)

    Examples
    --------
    >>> float(crps([0.0, 2.0], 1.0))
    0.5
    """
    values, truth = np.asarray(draws, dtype=float), np.asarray(actual, dtype=float)
    return np.asarray(
        scoringrules.crps_ensemble(truth, values, estimator="nrg" if values.shape[-1] < 2 else "qd", backend="numpy")
    )


def pinball(quantile: ArrayLike, actual: ArrayLike, *, level: float) -> NDArray[np.float64]:
    """Pinball loss of a forecast quantile: (level - 1[y < q]) (y - q).

    Examples
    --------
    >>> float(pinball(10.0, 14.0, level=0.9)), float(pinball(10.0, 6.0, level=0.9).round(3))
    (3.6, 0.4)
    """
    return np.asarray(
        scoringrules.quantile_score(np.asarray(actual, float), np.asarray(quantile, float), level, backend="numpy")
    )


def log_score(probability: ArrayLike, happened: ArrayLike) -> NDArray[np.float64]:
    """Minus the log of the probability given to what happened, for instance to the target being reached.

    Examples
    --------
    >>> log_score([0.8, 0.8], [True, False]).round(3).tolist()
    [0.223, 1.609]
    """
    given = np.clip(np.asarray(probability, dtype=float), LOWEST_PROBABILITY, 1.0 - LOWEST_PROBABILITY)
    return np.asarray(-np.log(np.where(np.asarray(happened, dtype=bool), given, 1.0 - given)))


def pit(draws: ArrayLike, actual: ArrayLike, *, seed: int) -> NDArray[np.float64]:
    """Probability integral transform, uniform on (0, 1) when the forecasts are right.

    Share of draws below the actual value plus a uniform part of the share equal to it, so that a mass at one value
    (often zero revenue) does not pile up.

    Parameters
    ----------
    draws : array, shape (..., draw)
    actual : array, shape (...)
    seed : int
        Of the uniform numbers that break ties.

    Examples
    --------
    >>> float(pit([1.0, 2.0, 3.0, 4.0], 2.5, seed=1))
    0.5
    """
    values, truth = np.asarray(draws, dtype=float), np.asarray(actual, dtype=float)
    below = (values < truth[..., None]).mean(axis=-1)
    equal = (values == truth[..., None]).mean(axis=-1)
    return np.asarray(below + np.random.default_rng(seed).random(truth.shape) * equal)


def inside_range(draws: ArrayLike, actual: ArrayLike, *, level: float) -> NDArray[np.bool_]:
    """Whether the central range of the given level holds the actual value, its ends included.

    Examples
    --------
    >>> bool(inside_range(np.arange(101.0), 25.0, level=0.5)), bool(inside_range(np.arange(101.0), 24.0, level=0.5))
    (True, False)
    """
    low, high = central_range(draws, level=level)
    truth = np.asarray(actual, dtype=float)
    return np.asarray((low <= truth) & (truth <= high))


def central_range(draws: ArrayLike, *, level: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the ends of the central range of the given level, over the last axis.

    Examples
    --------
    >>> low, high = central_range(np.arange(101.0), level=0.8)
    >>> float(low), float(high)
    (10.0, 90.0)
    """
    if not 0.0 < level < 1.0:
        raise SettingsError(f"the level of a range must lie between 0 and 1, got {level}")
    tail = round((1.0 - level) / 2.0, 12)
    ends = np.quantile(np.asarray(draws, dtype=float), np.array([tail, 1.0 - tail]), axis=-1)
    return ends[0], ends[1]


def coverage(inside: ArrayLike, *, level: float) -> Coverage:
    """Hits of a range and the exact binomial band of hits that a right range would give.

    Examples
    --------
    >>> coverage([True] * 9 + [False] * 2, level=0.8)
    Coverage(level=0.8, hits=9, n=11, expected_low=6, expected_high=11)
    """
    held = np.asarray(inside, dtype=bool).ravel()
    tail = (1.0 - BAND_LEVEL) / 2.0
    low, high = (int(stats.binom.ppf(mass, len(held), level)) if len(held) else 0 for mass in (tail, 1.0 - tail))
    return Coverage(level, int(held.sum()), len(held), low, high)


def mape(point: ArrayLike, actual: ArrayLike) -> float:
    """Mean absolute error relative to the actual value; origins whose actual value is zero are left out.

    Examples
    --------
    >>> mape([150.0, 50.0, 5.0], [100.0, 100.0, 0.0])
    0.5
    """
    guess, truth = np.asarray(point, dtype=float), np.asarray(actual, dtype=float)
    told = truth != 0.0
    return float(np.mean(np.abs(guess[told] / truth[told] - 1.0))) if told.any() else float("nan")


def bias(point: ArrayLike, actual: ArrayLike) -> float:
    """Mean error relative to the mean of what came: positive when the forecasts are too high.

    Examples
    --------
    >>> bias([150.0, 100.0], [100.0, 100.0])
    0.25
    """
    guess, truth = np.asarray(point, dtype=float), np.asarray(actual, dtype=float)
    total = float(truth.sum())
    return float(guess.sum()) / total - 1.0 if total else float("nan")


def brier(probability: ArrayLike, happened: ArrayLike) -> float:
    """Mean squared difference of probability and outcome.

    Examples
    --------
    >>> brier([0.9, 0.2], [1, 0])
    0.025
    """
    scores = scoringrules.brier_score(np.asarray(happened, float), np.asarray(probability, float), backend="numpy")
    return float(np.round(np.mean(scores), 15))


def auc(probability: ArrayLike, happened: ArrayLike) -> float:
    """Chance that a deal with the outcome got a higher probability than one without (ties count half).

    NaN when all outcomes are the same.

    Examples
    --------
    >>> auc([0.9, 0.4, 0.4, 0.1], [1, 1, 0, 0])
    0.875
    """
    given, outcome = np.asarray(probability, dtype=float), np.asarray(happened, dtype=bool)
    hits, misses = int(outcome.sum()), int((~outcome).sum())
    if hits == 0 or misses == 0:
        return float("nan")
    rank_sum = float(stats.rankdata(given)[outcome].sum())
    return (rank_sum - hits * (hits + 1) / 2.0) / (hits * misses)


def reliability(probability: ArrayLike, happened: ArrayLike, *, bins: int = 10) -> pd.DataFrame:
    """Stated probability against observed share, in bins with equally many deals.

    Returns
    -------
    DataFrame
        ``n``, ``probability`` (mean stated), ``share`` (observed), ``share_low`` and ``share_high`` (exact 95 %
        Clopper-Pearson interval of the share); a row per bin, lowest probabilities first.

    Examples
    --------
    >>> reliability([0.1, 0.1, 0.9, 0.9], [0, 0, 1, 0], bins=2)[["n", "probability", "share"]].values.tolist()
    [[2.0, 0.1, 0.0], [2.0, 0.9, 0.5]]
    """
    given, outcome = np.asarray(probability, dtype=float), np.asarray(happened, dtype=float)
    order = np.argsort(given, kind="stable")
    parts = [part for part in np.array_split(order, min(bins, max(len(order), 1))) if len(part)]
    n = np.array([len(part) for part in parts], dtype=np.int64)
    hits = np.array([outcome[part].sum() for part in parts])
    tail = (1.0 - BAND_LEVEL) / 2.0
    with np.errstate(invalid="ignore"):
        low = np.where(hits > 0, stats.beta.ppf(tail, hits, n - hits + 1), 0.0)
        high = np.where(hits < n, stats.beta.ppf(1.0 - tail, hits + 1, n - hits), 1.0)
    stated = np.array([given[part].mean() for part in parts])
    return pd.DataFrame({"n": n, "probability": stated, "share": hits / n, "share_low": low, "share_high": high})


def block_bootstrap(
    values: ArrayLike, *, block: int, seed: int, level: float = BAND_LEVEL, resamples: int = 2000
) -> tuple[float, float]:
    """Range of the mean of a series whose neighbours depend on each other.

    Forecasts made every week for four weeks ahead share three weeks of outcomes, so single origins must not be
    resampled: circular blocks of ``block`` neighbours are (Politis and Romano 1992).

    Parameters
    ----------
    values : array, shape (origin,)
        One score per origin, in order of time.
    block : int
        Origins whose horizons overlap: horizon / spacing, rounded up.
    seed : int
    level : float
        Mass of the range.
    resamples : int

    Returns
    -------
    tuple of float
        Low and high end for the mean.

    Examples
    --------
    >>> block_bootstrap([2.0, 2.0, 2.0], block=2, seed=1)
    (2.0, 2.0)
    """
    series = np.asarray(values, dtype=float)
    means = series[block_resamples(len(series), block=block, seed=seed, resamples=resamples)].mean(axis=1)
    low, high = np.quantile(means, [(1.0 - level) / 2.0, (1.0 + level) / 2.0])
    return float(low), float(high)


def skill_bootstrap(
    score: ArrayLike, of_rule: ArrayLike, *, block: int, seed: int, level: float = BAND_LEVEL
) -> tuple[float, float]:
    """Range of the skill 1 - mean score / mean score of a rule, both scored at the same origins, by blocks of neighbours.

    Examples
    --------
    >>> skill_bootstrap([1.0, 2.0, 1.0], [2.0, 4.0, 2.0], block=1, seed=1)
    (0.5, 0.5)
    """
    ours, theirs = np.asarray(score, dtype=float), np.asarray(of_rule, dtype=float)
    index = block_resamples(len(ours), block=block, seed=seed)
    below = theirs[index].mean(axis=1)
    skill = 1.0 - ours[index].mean(axis=1)[below > 0.0] / below[below > 0.0]
    if not len(skill):
        return float("nan"), float("nan")
    low, high = np.quantile(skill, [(1.0 - level) / 2.0, (1.0 + level) / 2.0])
    return float(low), float(high)


def block_resamples(n: int, *, block: int, seed: int, resamples: int = 2000) -> NDArray[np.int64]:
    """Places of resampled origins, shape (resample, n): circular blocks of neighbours, drawn with replacement."""
    if n == 0 or block < 1:
        raise SettingsError(f"a block bootstrap needs values and a block of at least 1, got {n} values, block {block}")
    length = min(block, n)
    starts = np.random.default_rng(seed).integers(0, n, (resamples, -(-n // length)))
    places = (starts[..., None] + np.arange(length)).reshape(resamples, -1)[:, :n] % n
    return places.astype(np.int64)


def blocks_that_overlap(as_of: Sequence[object], *, horizon_days: int) -> int:
    """Neighbouring origins that share part of their horizon: horizon over the median spacing, rounded up.

    Examples
    --------
    >>> blocks_that_overlap(["2026-01-04", "2026-01-11", "2026-01-18"], horizon_days=28)
    4
    """
    days = np.sort(pd.to_datetime(pd.Series(list(as_of))).to_numpy().astype("datetime64[D]").astype(np.int64))
    spacing = float(np.median(np.diff(days))) if len(days) > 1 else float(horizon_days)
    return max(1, int(np.ceil(horizon_days / max(spacing, 1.0))))
