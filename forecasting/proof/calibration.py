"""Learn from one's own closed forecasts how wrong the next one will be.

A forecaster that looks back makes, at every past date, the forecast it would have made with what was known then
(:func:`past_forecasts`), compares with what came, and carries the errors into its next forecast (:func:`learn`). On the
scale of log revenue, with m and s the mean and sd of a forecast and d = log(actual) - m its error,

    d_k ~ Normal(b, alpha^2 s_k^2 + tau^2 (age_k / age_now)^(-2 delta)),

so ``b`` is a lasting bias, ``alpha`` shrinks a spread that was too wide, ``tau`` is what the model does not see (levels
that drift, luck that a period's deals share), and errors shrink with the age of the history at rate ``delta``. The same
errors then act on the next forecast, one per draw: periods, segments and sources of a draw keep adding up.

Two forecasters are judged by the same evidence: one with hazards of the whole history, one at the levels of the moment.
The next forecast is the mixture of both, each with the probability that their closed forecasts leave it.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import logsumexp

from forecasting.proof.quick_chain import OpenValue, open_revenue
from forecasting.proof.stay_table import KnownStays, StayTable, day_of, known_at, stay_table

if TYPE_CHECKING:
    from forecasting.data.deals import Deals

Floats = NDArray[np.float64]

ALPHA, ALPHA_PRIOR = np.array([0.5, 0.7, 1.0]), np.array([0.1, 0.2, 0.7])
"""Factors on the model's own spread: usually right, sometimes too wide, never trusted to less than half."""
DELTA = np.array([0.0, 0.5, 1.0])
"""How errors shrink with the age of the history, equally likely: not at all, like its square root, like its length."""
BIAS_SD = 0.03
"""Prior sd of the lasting bias: past errors tell little about its sign, so it may not move the forecast by much."""
TAU = np.geomspace(0.002, 1.6, 49)
"""Unseen errors on the log scale; beyond its ends lies under one per cent of the prior."""
TAU_MEDIAN, TAU_LOG_SD = 0.04, 1.2
"""Log-normal prior of tau: 4 % typically, 30 % now and then."""
FLOOR = 0.01
"""Part of the expected revenue added before taking logs, so that a period without a win is an error of finite size."""
LARGEST_ERROR = 2.5
"""Errors beyond a factor of 12 count as this, so that one empty period does not rule the rest."""
HALF_LIFE = 12
"""Horizons after which a past forecast counts for half."""
LONG_HORIZON = 45
"""Up to this many days ahead a past forecast is made every week, beyond that every H / 14 weeks."""
MOST_ORIGINS = 60
"""Past dates looked at, the latest ones: older ones weigh little and the look back stays within seconds."""
COLUMNS = (
    "as_of", "horizon_days", "age_days", "days_since", "mean", "sd", "tracked_mean", "tracked_sd", "actual"
)  # fmt: skip
TRACKED_PRIOR = 0.4
"""Prior probability that the levels of the moment foretell better than hazards of the whole history: the simpler of two
nearly equal forecasts is favoured a little."""
NO_PAST = pd.DataFrame({name: pd.Series(dtype="datetime64[ns]" if name == "as_of" else float) for name in COLUMNS})
"""Table of past forecasts without a row: of a history too short to look back."""


@dataclass(frozen=True)
class ErrorDraws:
    """One set of errors per forecast draw, arrays of shape (draw,).

    Parameters
    ----------
    scale : ndarray
        Factor on the distance of log revenue from its mean.
    shift : ndarray
        Added to log revenue: levels of the moment, bias and unseen error.
    """

    scale: Floats
    shift: Floats


@dataclass(frozen=True)
class Calibration:
    """What the forecaster's closed forecasts say about its next one.

    Parameters
    ----------
    origins : int
        Past dates it learned from; 0 says there were none and the prior widens the forecast.
    bias : float
        Posterior mean of the lasting error on the log scale; positive when the forecasts were too low.
    scale : float
        Posterior mean of the factor on the model's own spread.
    sd : float
        Root mean square of what past errors add, on the log scale; about the relative error it stands for.
    alpha, tau, bias_mean, bias_sd, probability : ndarray of float64, shape (point,)
        The posterior: a mixture over grid points, the bias normal in each.
    tracked : ndarray of float64, shape (point,)
        1 at points where the forecast is the one at the levels of the moment (:mod:`models.levels.filtering`), else 0.
    level_shift, level_stretch : float
        What these levels add to mean log revenue, and the factor on its spread.
    """

    origins: int
    bias: float
    scale: float
    sd: float
    alpha: Floats
    tau: Floats
    bias_mean: Floats
    bias_sd: Floats
    probability: Floats
    tracked: Floats
    level_shift: float = 0.0
    level_stretch: float = 1.0

    @property
    def tracked_share(self) -> float:
        """Probability that the levels of the moment foretell better than hazards of the whole history."""
        return float(self.probability @ self.tracked)

    def draw(self, n: int, *, seed: int) -> ErrorDraws:
        """Draw errors for ``n`` forecast draws; draw i is the same for any larger n."""
        rng = np.random.default_rng([seed, 2])
        numbers = rng.random((n, 3))
        point = np.minimum(np.searchsorted(np.cumsum(self.probability), numbers[:, 0]), len(self.probability) - 1)
        first, second = _normal_pair(numbers[:, 1], numbers[:, 2])
        bias = self.bias_mean[point] + self.bias_sd[point] * first
        stretch = 1.0 + self.tracked[point] * (self.level_stretch - 1.0)
        shift = self.tracked[point] * self.level_shift + bias + self.tau[point] * second
        return ErrorDraws(stretch * self.alpha[point], shift)

    def factors(self, revenue: Floats, *, seed: int) -> Floats:
        """Factor on all revenue of each draw, from the uncalibrated total of each draw, shape (draw,).

        log(y + c) = m + scale (log(x + c) - m) + shift, with m the mean of log(x + c) and c one per cent of the mean of
        x; the factor is y / x, one where x is zero and never negative.

        Examples
        --------
        >>> none = learn(NO_PAST, horizon_days=28, age_days=365)
        >>> factors = none.factors(np.full(20_000, 100.0), seed=1)
        >>> none.origins, bool(0.95 < np.median(factors) < 1.05)
        (0, True)
        """
        total = np.asarray(revenue, dtype=float)
        errors = self.draw(len(total), seed=seed)
        offset = FLOOR * max(float(total.mean()), 0.0)
        if offset <= 0.0:
            return np.ones_like(total)
        logs = np.log(total + offset)
        moved = np.exp(logs.mean() + errors.scale * (logs - logs.mean()) + errors.shift) - offset
        factors = np.ones_like(total)
        np.divide(np.maximum(moved, 0.0), total, out=factors, where=total > 0.0)
        return factors

    def to_dict(self) -> dict[str, Any]:
        """Return the summary as written to ``forecast.json``."""
        return {"origins": self.origins, "bias": self.bias, "scale": self.scale, "sd": self.sd}

    def in_words(self) -> str:
        """Say what our past errors add, for people.

        Examples
        --------
        >>> learn(NO_PAST, horizon_days=28, age_days=365).in_words()
        'no closed forecast to learn from yet: the range is widened by what such forecasts usually miss'
        """
        if self.origins == 0:
            return "no closed forecast to learn from yet: the range is widened by what such forecasts usually miss"
        return (
            f"learned from our own forecasts of {self.origins} past dates: they add {self.sd:.0%} to the range "
            f"and move the middle by {np.expm1(self.bias + self.tracked_share * self.level_shift):+.1%}"
        )


def spacing_days(horizon_days: int) -> int:
    """Days between the past dates looked at: a week, or about half the horizon in whole weeks beyond 45 days.

    Examples
    --------
    >>> spacing_days(28), spacing_days(60), spacing_days(90)
    (7, 28, 42)
    """
    return 7 if horizon_days <= LONG_HORIZON else 7 * round(horizon_days / 14)


@dataclass(frozen=True)
class ClosedOrigin:
    """A past date from which forecasts have closed.

    Parameters
    ----------
    as_of : date
    day : int
        The same as a day number.
    horizons : tuple of int
        Days ahead that had passed by the time of looking back.
    known : KnownStays
        What was known then.
    """

    as_of: date
    day: int
    horizons: tuple[int, ...]
    known: KnownStays


def closed_origins(stays: StayTable, *, as_of: date, horizon_days: int, origins: int) -> Iterator[ClosedOrigin]:
    """Past dates to learn from, the latest first: the horizon asked and half of it, wherever they had closed.

    A date counts once the history behind it is as long as the horizon.
    """
    today = day_of(as_of)
    first_day = known_at(stays, today).first_day
    spacing, half = spacing_days(horizon_days), max(horizon_days // 2, 1)
    for back in range(1, origins + 1):
        then = today - spacing * back
        if then - first_day + 1 < horizon_days:
            return
        horizons = tuple(days for days in dict.fromkeys((horizon_days, half)) if then + days <= today)
        if horizons:
            yield ClosedOrigin(as_of - timedelta(days=spacing * back), then, horizons, known_at(stays, then))


def past_forecasts(
    deals: "Deals | StayTable", *, as_of: date, horizon_days: int, origins: int = MOST_ORIGINS, seed: int = 0
) -> pd.DataFrame:
    """Forecast the revenue of open deals at past dates, each with only what was known then, and compare with what came.

    Both the horizon asked and half of it are forecast, wherever they had closed by ``as_of``.

    Parameters
    ----------
    deals : Deals or StayTable
        May reach beyond ``as_of``: what came later is not looked at.
    as_of : date
    horizon_days : int
    origins : int
        Past dates at most, the latest ones.
    seed : int

    Returns
    -------
    DataFrame
        One row per closed forecast, latest first: ``as_of``, ``horizon_days``, ``age_days`` (days of history then),
        ``days_since`` (days between its close and ``as_of``); ``mean`` and ``sd`` with hazards of the whole history,
        ``tracked_mean`` and ``tracked_sd`` at the levels of the moment, and ``actual``, in currency units.
    """
    stays = deals if isinstance(deals, StayTable) else stay_table(deals)
    now = known_at(stays, day_of(as_of))
    rows: list[tuple[Any, ...]] = []
    for past in closed_origins(stays, as_of=as_of, horizon_days=horizon_days, origins=origins):
        values = open_revenue(past.known, horizons=past.horizons, seed=seed)
        for days, value in zip(past.horizons, values, strict=True):
            actual = now.revenue(after=past.day, until=past.day + days, open_deals_only=True)
            forecast = (value.mean, value.sd, value.tracked_mean, value.tracked_sd)
            rows.append((past.as_of, days, past.known.age_days, now.as_of - past.day - days, *forecast, actual))
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype({"as_of": "datetime64[ns]"}) if rows else NO_PAST


def learn(
    past: pd.DataFrame, *, horizon_days: int, age_days: float, levels_now: OpenValue | None = None
) -> Calibration:
    """Learn the forecaster's errors from its closed forecasts.

    Parameters
    ----------
    past : DataFrame
        Closed forecasts, see :func:`past_forecasts`.
    horizon_days : int
        Of the forecast to be calibrated.
    age_days : float
        Days of history behind the forecast to be calibrated.
    levels_now : OpenValue, optional
        The quick forecast of the same horizon at the date of the forecast to be calibrated: then the levels of the
        moment take part.

    Returns
    -------
    Calibration
        With an empty table the prior: ``origins`` is 0 and the forecast is widened.
    """
    usable = past[(past["mean"] > 0.0) & (past["age_days"] > 0.0)]
    age = usable["age_days"].to_numpy(dtype=float) / max(age_days, 1.0)
    weight = _weights(usable, horizon_days, age)
    error, spread = log_error(usable)
    tracked, tracked_prior, level_shift, level_stretch = np.zeros(1), np.ones(1), 0.0, 1.0
    past_shift, past_stretch = np.zeros_like(error), np.ones_like(error)
    if levels_now is not None and levels_now.mean > 0.0:
        tracked, tracked_prior = np.array([0.0, 1.0]), np.array([1.0 - TRACKED_PRIOR, TRACKED_PRIOR])
        past_shift, past_stretch = level_change(usable)
        level_shift, level_stretch = (float(now[0]) for now in level_change(pd.DataFrame([asdict(levels_now)])))
    prior = np.log(tracked_prior) + (
        np.log(ALPHA_PRIOR)[:, None, None, None]
        - 0.5 * (np.log(TAU / TAU_MEDIAN) / TAU_LOG_SD)[:, None, None] ** 2
        + np.zeros((len(DELTA), 1))
    )
    alpha, tau, delta, tracked = (axis.ravel() for axis in np.meshgrid(ALPHA, TAU, DELTA, tracked, indexing="ij"))
    error = error - tracked[:, None] * past_shift
    spread = spread * (1.0 + tracked[:, None] * (past_stretch - 1.0))
    variance = alpha[:, None] ** 2 * spread**2 + tau[:, None] ** 2 * age ** (-2.0 * delta[:, None])
    precision = 1.0 / BIAS_SD**2 + (weight / variance).sum(axis=1)
    pull = (weight * error / variance).sum(axis=1)
    evidence = 0.5 * (
        pull**2 / precision
        - np.log(precision * BIAS_SD**2)
        - (weight * (np.log(2.0 * np.pi * variance) + error**2 / variance)).sum(axis=1)
    )
    score = evidence + prior.ravel()
    probability = np.exp(score - logsumexp(score))
    bias_mean = pull / precision
    bias = float(probability @ bias_mean)
    added = float(np.sqrt(probability @ (tau**2 + 1.0 / precision + (bias_mean - bias) ** 2)))
    return Calibration(
        origins=int(usable["as_of"].nunique()),
        bias=bias,
        scale=float(probability @ alpha),
        sd=added,
        alpha=alpha,
        tau=tau,
        bias_mean=bias_mean,
        bias_sd=1.0 / np.sqrt(precision),
        probability=probability,
        tracked=tracked,
        level_shift=level_shift,
        level_stretch=level_stretch,
    )


def own_calibration(
    deals: "Deals | StayTable", *, as_of: date, horizon_days: int, seed: int = 0, levels: bool = True
) -> Calibration:
    """Learn the forecaster's errors from its own past on the given deals: :func:`past_forecasts`, then :func:`learn`.

    Parameters
    ----------
    deals : Deals or StayTable
    as_of : date
        Of the forecast to be calibrated; what came later is not looked at.
    horizon_days : int
    seed : int
    levels : bool
        Whether the levels of the moment count.

    Returns
    -------
    Calibration
    """
    stays = deals if isinstance(deals, StayTable) else stay_table(deals)
    past = past_forecasts(stays, as_of=as_of, horizon_days=horizon_days, seed=seed)
    known = known_at(stays, day_of(as_of))
    now = open_revenue(known, horizons=(horizon_days,), seed=seed)[0] if levels else None
    return learn(past, horizon_days=horizon_days, age_days=known.age_days, levels_now=now)


def level_change(past: pd.DataFrame) -> tuple[Floats, Floats]:
    """Shift of mean log revenue and factor on its sd from the static forecasts to those at the levels of the moment."""
    offset = FLOOR * past["mean"].to_numpy(dtype=float)
    moments = []
    for mean, sd in (("mean", "sd"), ("tracked_mean", "tracked_sd")):
        level = past[mean].to_numpy(dtype=float) + offset
        variance = np.log1p((past[sd].to_numpy(dtype=float) / level) ** 2)
        moments.append((np.log(level) - variance / 2.0, np.sqrt(np.maximum(variance, 1e-12))))
    (static, static_sd), (tracked, tracked_sd) = moments
    return tracked - static, tracked_sd / static_sd


def log_error(past: pd.DataFrame) -> tuple[Floats, Floats]:
    """Error and sd of each forecast on the scale of log(revenue + c), c one per cent of its mean.

    The forecast is taken as log-normal with the given mean and sd.

    Examples
    --------
    >>> error, sd = log_error(pd.DataFrame({"mean": [100.0], "sd": [0.0], "actual": [201.0]}))
    >>> float(error[0].round(4)), float(sd[0])
    (0.6931, 0.0)
    """
    mean, sd, actual = (past[name].to_numpy(dtype=float) for name in ("mean", "sd", "actual"))
    offset = FLOOR * mean
    variance = np.log1p((sd / (mean + offset)) ** 2)
    error = np.log(actual + offset) - np.log(mean + offset) + variance / 2.0
    return np.clip(error, -LARGEST_ERROR, LARGEST_ERROR), np.sqrt(variance)


def _weights(past: pd.DataFrame, horizon_days: int, age: Floats) -> Floats:
    """How much each closed forecast counts: less when it overlaps others, is old, knew little or looked less far."""
    ahead = past["horizon_days"].to_numpy(dtype=float)
    overlap = np.minimum(spacing_days(horizon_days) / ahead, 1.0)
    recent = 0.5 ** (past["days_since"].to_numpy(dtype=float) / (HALF_LIFE * horizon_days))
    return np.asarray(overlap * recent * age * ahead / horizon_days)


def _normal_pair(first: Floats, second: Floats) -> tuple[Floats, Floats]:
    """Two independent standard normal numbers from two uniform ones (Box and Muller 1958)."""
    radius, angle = np.sqrt(-2.0 * np.log1p(-first)), 2.0 * np.pi * second
    return radius * np.cos(angle), radius * np.sin(angle)
