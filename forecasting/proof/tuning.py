"""Choose settings of the model by backtest on one's own history, and say honestly how much the choice is worth.

First family and covariates together, then, at the best of these, how much of the past to learn from and whether days
count alike; each with and without the levels of the moment. Every candidate is scored as it would be published, calibrated
by its own past errors.

Every candidate forecasts the same past dates with what was known then. The best of several always looks better on the
dates it was chosen by than it is; so the gain is measured on dates the choice has not seen: blocks of dates are drawn
again and again, the winner among the drawn ones is compared with the present settings on the dates left out. (Windows
and calendars are tried at the best of the first round only; that this best was chosen on all dates is not taken off the
gain.)
"""

from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from forecasting.answers.forecasts import worth_of_open
from forecasting.data.deal_factors import check_columns
from forecasting.data.snapshot import cut
from forecasting.periods import as_date
from forecasting.proof.backtesting import BacktestOptions, forecast_past, origin_seed
from forecasting.proof.calibration import Calibration, calibrations
from forecasting.proof.past_forecasts import LONG_HORIZON, Memory
from forecasting.proof.scores import blocks_that_overlap, crps
from forecasting.proof.stay_table import day_of, known_at, stay_table
from models.errors import EmptyInputError, SettingsError

if TYPE_CHECKING:
    from forecasting.data.deals import Deals

Floats = NDArray[np.float64]
Progress = Callable[[str, int, int], None]
"""Called with the candidate that is done, how many are done, and how many there are."""
type _Errors = tuple[Calibration, Calibration]
"""What past errors teach with levels of the moment, and without."""
LEARNERS = 4
"""Parts the origins are split into for learning: those of a part share their past forecasts."""

DURATIONS = ("auto", "piecewise")
COVARIATES: tuple[tuple[str, ...], ...] = ((), ("log_amount",), ("log_amount", "looped"))
WINDOWS = (365, 730)
"""Days of the past to learn from, beside all of it."""
CALENDARS: tuple[tuple[str, ...], ...] = ((), ("weekday",), ("weekday", "period_end"))
"""What may make a date count for more or less; holidays need a country, so they stay where they are in use."""
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
    window_days: int | None = None
    levels: bool = True
    calendar: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """Name for people.

        Examples
        --------
        >>> Candidate("auto", ()).label, Candidate("piecewise", ("log_amount", "looped")).label
        ('auto, no covariates', 'piecewise, log_amount + looped')
        """
        window = "" if self.window_days is None else f", last {self.window_days} days"
        levels = "" if self.levels else ", without levels"
        days = "".join(f", {part.replace('_', ' ')}s" for part in self.calendar)
        return f"{self.durations}, {' + '.join(self.covariates) or 'no covariates'}{window}{days}{levels}"

    def to_dict(self) -> dict[str, Any]:
        """Return the settings under their names in the job file."""
        return {
            "durations": self.durations,
            "covariates": list(self.covariates),
            "window_days": self.window_days,
            "levels": self.levels,
            "calendar": list(self.calendar),
        }


@dataclass(frozen=True)
class Tuning:
    """What the backtests of all candidates say.

    Parameters
    ----------
    candidates : tuple of Candidate
        The first one is the present settings.
    crps : ndarray of float64, shape (origin, candidate)
        CRPS of revenue from deals open at the origin, as published, in currency units.
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
        tried = [{**each.to_dict(), "crps": float(score)} for each, score in zip(self.candidates, means, strict=True)]
        return {
            "origins": [str(day) for day in self.origins],
            "tried": tried,
            "recommended": self.recommended.to_dict(),
            "gain": {"mean": self.gain, "p10": self.gain_low, "p90": self.gain_high, "sure": self.sure},
        }


def tune(
    deals: "Deals",
    *,
    as_of: date | str,
    horizon_days: int,
    present: BacktestOptions,
    calibrate: bool = True,
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
    as_of : date or ISO text
    horizon_days : int
    present : BacktestOptions
        The settings in use; segment, draws and the rest stay as they are.
    calibrate : bool
        Score forecasts as calibrated; without, levels make no difference and are left as they are.
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
    SettingsError
        A column to consider does not exist.
    """
    check_columns(deals, segment=(), covariates=consider)
    origins = past_origins(deals, as_of=as_date(as_of), horizon_days=horizon_days)
    now = Candidate(present.durations, present.covariates, present.window_days, present.levels, tuple(present.calendar))
    scored: dict[Candidate, Floats] = {}
    learned: dict[tuple[str, ...], list[_Errors | None]] = {}
    run = map if executor is None else executor.map

    def errors_on(calendar: tuple[str, ...]) -> list[_Errors | None]:
        """Say what past errors teach at each origin, which depends on no other setting of a candidate."""
        if calendar not in learned:
            options = replace(present, calendar=calendar)
            parts = [tuple(origins[place] for place in part) for part in np.array_split(range(len(origins)), LEARNERS)]
            tasks = [(deals, options, part, horizon_days, seed) for part in parts]
            learned[calendar] = [each for part in run(_learn, tasks) for each in part]
        return learned[calendar]

    def score(candidates: tuple[Candidate, ...], first: int, of: int) -> None:
        for place, each in enumerate(candidates, start=first):
            options = replace(
                present,
                durations=each.durations,
                covariates=each.covariates,
                window_days=each.window_days,
                calendar=each.calendar,
            )
            known = errors_on(each.calendar) if calibrate else [None] * len(origins)
            tasks = [
                (deals, day, horizon_days, options, errors, seed) for day, errors in zip(origins, known, strict=True)
            ]
            found = np.array(list(run(_score_origin, tasks)))
            by_levels = {True: found[:, 0], False: found[:, 1]} if calibrate else {now.levels: found[:, 0]}
            scored.update({replace(each, levels=levels): column for levels, column in by_levels.items()})
            if progress is not None:
                progress(each.label, place, of)

    shapes = candidates_of(replace(now, levels=True), consider)
    windows, calendars = windows_of(deals, origins[-1]), calendars_of(now)
    score(shapes, 1, len(shapes) + len(windows) + len(calendars))
    best = replace(min(scored, key=lambda each: float(scored[each].mean())), levels=True)
    more = [replace(best, window_days=days) for days in windows if days != best.window_days]
    more += [replace(best, calendar=calendar) for calendar in calendars]
    score(tuple(more), len(shapes) + 1, len(shapes) + len(more))
    candidates = (now, *(each for each in scored if each != now))
    table = np.column_stack([scored[each] for each in candidates])
    return choose(candidates, table, origins, horizon_days=horizon_days, seed=seed)


def _learn(task: "tuple[Deals, BacktestOptions, tuple[date, ...], int, int]") -> list[_Errors]:
    """Learn past errors as known at origins, with and without levels; these look back at much the same dates."""
    deals, options, origins, horizon_days, seed = task
    stays, memory = stay_table(deals, calendar=options.spec(seed).calendar_options), Memory()
    found = []
    for day in origins:
        without, with_levels = calibrations(
            stays, as_of=day, horizon_days=horizon_days, seed=seed, memory=memory, threads=1
        )
        found.append((with_levels, without))
    return found


def _score_origin(
    task: "tuple[Deals, date, int, BacktestOptions, _Errors | None, int]",
) -> tuple[float, float]:
    """CRPS of one past forecast of open deals with and without levels; twice the uncalibrated one if so asked."""
    deals, as_of, horizon_days, options, learned, seed = task
    until, of_origin = as_of + timedelta(days=horizon_days), origin_seed(seed, as_of)
    snapshot = cut(deals, as_of=as_of, segment=options.segment, covariates=options.covariates)
    made = forecast_past(snapshot, until, replace(options, new_business=False), of_origin)
    revenue, later = made.open_cents.sum(axis=(1, 2)) / 100.0, known_at(stay_table(deals), day_of(until))
    actual = later.revenue(after=day_of(as_of), until=day_of(until), open_deals_only=True)
    if learned is None:
        return (score := float(crps(revenue, actual))), score
    most = worth_of_open(made)
    found = [float(crps(revenue * each.factors(revenue, seed=of_origin, most=most), actual)) for each in learned]
    return found[0], found[1]


def windows_of(deals: "Deals", last_origin: date) -> tuple[int, ...]:
    """Windows that leave out part of the history known at the last origin."""
    first = pd.Timestamp(deals.entries["entered_on"].min()).date()
    return tuple(days for days in WINDOWS if days < (last_origin - first).days)


def calendars_of(present: Candidate) -> tuple[tuple[str, ...], ...]:
    """Calendars to try beside the present one, holidays on all of them where the present one has them.

    Examples
    --------
    >>> calendars_of(Candidate("auto", ()))
    (('weekday',), ('weekday', 'period_end'))
    >>> calendars_of(Candidate("auto", (), calendar=("weekday", "holiday")))
    ((), ('weekday', 'holiday', 'period_end'))
    """
    holiday = ("holiday",) if "holiday" in present.calendar else ()
    found = [calendar and (calendar[0], *holiday, *calendar[1:]) for calendar in CALENDARS]
    return tuple(calendar for calendar in found if set(calendar) != set(present.calendar))


def past_origins(deals: "Deals", *, as_of: date, horizon_days: int) -> tuple[date, ...]:
    """Dates to forecast at, oldest first: the last ones that have closed, each with twice the horizon of history."""
    entered = deals.entries["entered_on"]
    first, newest = pd.Timestamp(entered.min()).date(), pd.Timestamp(entered.max()).date()
    step = 7 if horizon_days <= LONG_HORIZON else 7 * round(horizon_days / 14)  # half a horizon: outcomes apart
    last = min(as_of, newest) - timedelta(days=horizon_days)
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
    families = dict.fromkeys((present.durations, *DURATIONS))
    combined = [replace(present, durations=durations, covariates=names) for durations in families for names in sets]
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
