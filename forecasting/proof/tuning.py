"""Choose settings of the model by backtest on one's own history, and say honestly how much the choice is worth.

Every candidate forecasts the same past dates with what was known then. The best of several always looks better on the
dates it was chosen by than it is; so the gain is measured on dates the choice has not seen: blocks of dates are drawn
again and again, the winner among the drawn ones is compared with the present settings on the dates left out.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from forecasting.proof.backtesting import BacktestOptions, backtest
from forecasting.proof.calibration import spacing_days
from forecasting.proof.scores import blocks_that_overlap
from models.errors import EmptyInputError, SettingsError

if TYPE_CHECKING:
    from forecasting.data.deals import Deals

Floats = NDArray[np.float64]
Progress = Callable[[str, int, int], None]
"""Called with the candidate that is done, how many are done, and how many there are."""

DURATIONS = ("auto", "piecewise")
COVARIATES: tuple[tuple[str, ...], ...] = ((), ("log_amount",), ("log_amount", "looped"))
MOST_ORIGINS = 12
FEWEST_ORIGINS = 4
"""Fewer dates cannot tell one candidate from another."""
RESAMPLES = 2000
SURE = 0.8
"""A change is recommended when it helped on the dates left out in this share of the resamples."""


@dataclass(frozen=True)
class Candidate:
    """Settings to be tried: those of the same names in the job file."""

    durations: str
    covariates: tuple[str, ...]

    @property
    def label(self) -> str:
        """Name for people.

        Examples
        --------
        >>> Candidate("auto", ()).label, Candidate("piecewise", ("log_amount", "looped")).label
        ('auto, no covariates', 'piecewise, log_amount + looped')
        """
        return f"{self.durations}, {' + '.join(self.covariates) or 'no covariates'}"


@dataclass(frozen=True)
class Tuning:
    """What the backtests of all candidates say.

    Parameters
    ----------
    candidates : tuple of Candidate
        The first one is the present settings.
    crps : ndarray of float64, shape (origin, candidate)
        CRPS of revenue from deals open at the origin, before calibration, in currency units.
    origins : tuple of date
    best : Candidate
        With the lowest mean CRPS.
    gain : float
        Share of the CRPS that choosing this way saves on dates not used for the choice; negative if it costs.
    gain_low, gain_high : float
        Central 80 % of that over resampled dates.
    sure : float
        Share of the resamples in which the choice helped.
    """

    candidates: tuple[Candidate, ...]
    crps: Floats
    origins: tuple[date, ...]
    best: Candidate
    gain: float
    gain_low: float
    gain_high: float
    sure: float

    @property
    def recommended(self) -> Candidate:
        """The best candidate if choosing it can be trusted, else the present settings."""
        return self.best if self.sure >= SURE else self.candidates[0]

    def to_dict(self) -> dict[str, Any]:
        """Return all of it in plain types."""
        means = self.crps.mean(axis=0)
        tried = [
            {"durations": each.durations, "covariates": list(each.covariates), "crps": float(score)}
            for each, score in zip(self.candidates, means, strict=True)
        ]
        chosen = self.recommended
        return {
            "origins": [str(day) for day in self.origins],
            "tried": tried,
            "recommended": {"durations": chosen.durations, "covariates": list(chosen.covariates)},
            "gain": {"mean": self.gain, "p10": self.gain_low, "p90": self.gain_high, "sure": self.sure},
        }


def tune(
    deals: "Deals",
    *,
    as_of: date,
    horizon_days: int,
    present: BacktestOptions,
    consider: Sequence[str] = (),
    executor: Executor | None = None,
    progress: Progress | None = None,
    seed: int,
) -> Tuning:
    """Backtest every candidate on the closed dates before ``as_of``.

    Parameters
    ----------
    deals : Deals
        What came after ``as_of`` is not looked at.
    as_of : date
    horizon_days : int
    present : BacktestOptions
        The settings in use; segment, draws and the rest stay as they are.
    consider : sequence of str
        Columns to try as further covariates, one at a time.
    executor : concurrent.futures.Executor, optional
        Where origins run.
    progress : callable, optional
    seed : int

    Returns
    -------
    Tuning

    Raises
    ------
    EmptyInputError
        The history is too short for four past forecasts.
    """
    origins = past_origins(deals, as_of=as_of, horizon_days=horizon_days)
    candidates = candidates_of(Candidate(present.durations, present.covariates), consider)
    columns = []
    for done, each in enumerate(candidates, start=1):
        options = replace(present, durations=each.durations, covariates=each.covariates, new_business=False)
        result = backtest(
            deals,
            origins=origins,
            horizon=f"{horizon_days}d",
            options=options,
            calibrate=False,
            executor=executor,
            seed=seed,
        )
        columns.append(result.table["open_crps"].to_numpy(dtype=float))
        if progress is not None:
            progress(each.label, done, len(candidates))
    return choose(candidates, np.column_stack(columns), origins, horizon_days=horizon_days, seed=seed)


def past_origins(deals: "Deals", *, as_of: date, horizon_days: int) -> tuple[date, ...]:
    """Dates to forecast at, oldest first: the last ones that have closed, each with twice the horizon of history."""
    entered = deals.entries["entered_on"]
    first, newest = pd.Timestamp(entered.min()).date(), pd.Timestamp(entered.max()).date()
    last, step = min(as_of, newest) - timedelta(days=horizon_days), spacing_days(horizon_days)
    found = [last - timedelta(days=step * back) for back in range(MOST_ORIGINS)]
    found = [day for day in found if (day - first).days >= 2 * horizon_days]
    if len(found) < FEWEST_ORIGINS:
        raise EmptyInputError(
            f"the history from {first} to {as_of} has room for {len(found)} past forecasts of {horizon_days} days, and "
            f"{FEWEST_ORIGINS} are needed to compare settings: take a shorter horizon or keep the settings"
        )
    return tuple(reversed(found))


def candidates_of(present: Candidate, consider: Sequence[str]) -> tuple[Candidate, ...]:
    """Present settings first, then every other combination.

    Examples
    --------
    >>> [each.label for each in candidates_of(Candidate("auto", ("log_amount",)), ["source"])][:3]
    ['auto, log_amount', 'auto, no covariates', 'auto, log_amount + looped']
    """
    sets = [*COVARIATES, present.covariates, *(("log_amount", column) for column in consider)]
    combined = [
        Candidate(durations, names) for durations in dict.fromkeys((present.durations, *DURATIONS)) for names in sets
    ]
    return tuple(dict.fromkeys([present, *combined]))


def choose(
    candidates: tuple[Candidate, ...], crps: Floats, origins: Sequence[date], *, horizon_days: int, seed: int
) -> Tuning:
    """Choose by mean CRPS, and measure on dates left out what choosing is worth.

    Parameters
    ----------
    candidates : tuple of Candidate
        The first one is the present settings.
    crps : ndarray of float64, shape (origin, candidate)
    origins : sequence of date
    horizon_days : int
    seed : int
    """
    if crps.shape != (len(origins), len(candidates)):
        raise SettingsError(f"expected one CRPS per origin and candidate, got shape {crps.shape}")
    n = len(origins)
    block = min(blocks_that_overlap(list(origins), horizon_days=horizon_days), max(n // 2, 1))
    starts = np.random.default_rng([seed, 3]).integers(0, n, (RESAMPLES, -(-n // block)))
    gains = []
    for drawn in (starts[:, :, None] + np.arange(block)).reshape(RESAMPLES, -1)[:, :n] % n:
        left_out = np.setdiff1d(np.arange(n), drawn)
        if len(left_out):
            winner = int(np.argmin(crps[drawn].mean(axis=0)))
            ours, theirs = crps[left_out, winner].sum(), crps[left_out, 0].sum()
            gains.append(1.0 - ours / theirs if theirs > 0.0 else 0.0)
    told = np.array(gains)
    low, high = np.quantile(told, [0.1, 0.9])
    best = candidates[int(np.argmin(crps.mean(axis=0)))]
    sure = float((told > 0.0).mean())
    return Tuning(candidates, crps, tuple(origins), best, float(told.mean()), float(low), float(high), sure)
