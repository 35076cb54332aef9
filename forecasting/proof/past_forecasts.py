"""Forecasts of past dates, each with only what was known then, beside what came: what there is to learn from."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from datetime import date
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from forecasting.data.known_entries import date_of
from forecasting.proof.quick_chain import OpenValue, open_revenue
from forecasting.proof.quick_new import NewValue
from forecasting.proof.stay_table import KnownStays, Lacks, StayTable, day_of, known_at, stays_at

if TYPE_CHECKING:
    from forecasting.data.deals import Deals

Floats = NDArray[np.float64]

FLOOR = 0.01
"""Part of the expected revenue added before taking logs, so that a period without a win is an error of finite size."""
USUAL = 0.9
"""Quantile of past forecasts that counts as a usual one: most of them may fall where nothing is sold."""
LARGEST_ERROR = 2.5
"""Errors beyond a factor of 12 count as this, so that one empty period does not rule the rest."""
LONG_HORIZON = 45
"""Up to this many days ahead a past forecast is made every week, beyond that every H / 28 weeks."""
THREADS = 2
"""Past dates forecast at a time: their kernels release the interpreter's lock."""
MOST_ORIGINS = 60
"""Past dates looked at, the latest ones, so that the look back stays within seconds: of a horizon of 90 days three and a half
years, of a month fourteen months."""
COLUMNS = (
    "as_of", "horizon_days", "age_days", "days_since", "mean", "sd", "tracked_mean", "tracked_sd", "actual", "year_ago",
    "tracked_year_ago",
)  # fmt: skip
NO_PAST = pd.DataFrame({name: pd.Series(dtype="datetime64[ns]" if name == "as_of" else float) for name in COLUMNS})
"""Table of past forecasts without a row: of a history too short to look back."""


@dataclass(frozen=True)
class Memory:
    """Forecasts of past dates made already: looking back from one date after the other meets the same ones.

    Of one history, its calendar and one seed; what was known on a day never changes, so neither do they.

    Parameters
    ----------
    open, new : dict
        What was foretold of open deals, by what the history lacks, day number and horizons, and of deals created later, by
        these and whether seasons were followed.
    """

    open: dict[tuple[Lacks, int, tuple[int, ...]], tuple[OpenValue, ...]] = field(default_factory=dict)
    new: dict[tuple[Lacks, int, tuple[int, ...], bool], tuple[NewValue, ...]] = field(default_factory=dict)


def recalled[Key, Value](made: dict[Key, Value], key: Key, make: Callable[[], Value]) -> Value:
    """Give what was made before under the key, made now if it was not."""
    if key not in made:
        made[key] = make()
    return made[key]


def spacing_days(horizon_days: int) -> int:
    """Days between the past dates looked at: a week, or about a quarter of the horizon in whole weeks beyond 45 days.

    Examples
    --------
    >>> spacing_days(28), spacing_days(60), spacing_days(90)
    (7, 14, 21)
    """
    return 7 if horizon_days <= LONG_HORIZON else 7 * round(horizon_days / 28)


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
    """

    as_of: date
    day: int
    horizons: tuple[int, ...]


def closed_origins(now: KnownStays, *, horizon_days: int, origins: int) -> list[ClosedOrigin]:
    """Past dates to learn from, the latest first: the horizon asked and half of it, wherever they had closed.

    A date counts once the history behind it is as long as the horizon.
    """
    found: list[ClosedOrigin] = []
    spacing, half = spacing_days(horizon_days), max(horizon_days // 2, 1)
    for then in range(now.as_of - spacing, now.as_of - spacing * origins - 1, -spacing):
        horizons = tuple(days for days in dict.fromkeys((horizon_days, half)) if then + days <= now.as_of)
        if horizons and then - now.first_day + 1 >= horizon_days:
            found.append(ClosedOrigin(date_of(then), then, horizons))
    return found


def look_back[Row](
    rows_of: Callable[[ClosedOrigin], list[Row]], closed: Sequence[ClosedOrigin], *, threads: int
) -> list[Row]:
    """Give the rows of all past dates, in their order; dates are worked on side by side."""
    if threads == 1:
        return [row for each in closed for row in rows_of(each)]
    with ThreadPoolExecutor(threads) as pool:
        return [row for rows in pool.map(rows_of, closed) for row in rows]


def past_forecasts(
    deals: "Deals | StayTable",
    *,
    as_of: date,
    horizon_days: int,
    origins: int = MOST_ORIGINS,
    seed: int = 0,
    memory: Memory | None = None,
    threads: int = THREADS,
) -> pd.DataFrame:
    """Forecast the revenue of open deals at past dates, each with only what was known then, and compare with what came.

    Both the horizon asked and half of it are forecast, wherever they had closed by ``as_of``; those during which deals
    began to leave a stage in other ways are no guide to one of the new ways, and left out. Deals count with the amounts known
    then: how these change until the win is known of :mod:`models.amounts`, and no error of what is learned from here.

    Parameters
    ----------
    deals : Deals or StayTable
        May reach beyond ``as_of``: what came later is not looked at.
    as_of : date
    horizon_days : int
    origins : int
        Past dates at most, the latest ones.
    seed : int
    memory : Memory, optional
        Past forecasts of this history and seed made before; new ones are added.
    threads : int
        Past dates forecast at a time; the forecasts are the same.

    Returns
    -------
    DataFrame
        One row per closed forecast, latest first: ``as_of``, ``horizon_days``, ``age_days`` (days of history then),
        ``days_since`` (days between its close and ``as_of``); ``mean`` and ``sd`` with hazards of the whole history,
        ``tracked_mean`` and ``tracked_sd`` at the levels of the moment, and ``actual``, what was won of it; ``year_ago``
        and ``tracked_year_ago``, see :func:`errors_a_year_before`.
    """
    stays = stays_at(deals, as_of)
    now, made = known_at(stays, day_of(as_of)), memory or Memory()

    def rows_of(past: ClosedOrigin) -> list[tuple[Any, ...]]:
        known = known_at(stays, past.day)
        values = foretold(known, horizons=past.horizons, seed=seed, memory=made)
        before = errors_a_year_before(stays, known, horizons=past.horizons, seed=seed, memory=made)
        rows = []
        for days, value in zip(past.horizons, values, strict=True):
            until = past.day + days
            if not known.same_process(now, until=until):
                continue
            actual = now.revenue(after=past.day, until=until, open_deals_only=True, told=known.amount)
            forecast = (value.mean, value.sd, value.tracked_mean, value.tracked_sd)
            since = now.as_of - past.day - days
            rows.append((past.as_of, days, known.age_days, since, *forecast, actual, *before[days]))
        return rows

    rows = look_back(rows_of, closed_origins(now, horizon_days=horizon_days, origins=origins), threads=threads)
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype({"as_of": "datetime64[ns]"}) if rows else NO_PAST


def telling(past: pd.DataFrame, *, mean: float) -> pd.DataFrame:
    """Past forecasts that tell of revenue: those that expect a part of a usual one worth the name, ``FLOOR``.

    On a calendar a horizon without a selling day expects next to nothing, year after year, and nothing comes: as relative
    errors such pairs would speak as loudly as real ones. Usual is what one in ten past forecasts of the horizon exceeds,
    at most ``mean``, what the forecast to be calibrated expects.

    Examples
    --------
    >>> past = pd.DataFrame({"horizon_days": 28, "mean": [100.0, 0.2, 120.0]})
    >>> telling(past, mean=90.0)["mean"].tolist(), telling(past, mean=10.0)["mean"].tolist()
    ([100.0, 120.0], [100.0, 0.2, 120.0])
    """
    usual = past.groupby("horizon_days")["mean"].transform("quantile", USUAL)
    return past[past["mean"] >= FLOOR * np.minimum(usual, mean)]


def foretold(known: KnownStays, *, horizons: tuple[int, ...], seed: int, memory: Memory) -> tuple[OpenValue, ...]:
    """Forecast the revenue of open deals as :func:`open_revenue` does, unless it was done before."""
    key = known.lacks, known.as_of, horizons
    return recalled(memory.open, key, lambda: open_revenue(known, horizons=horizons, seed=seed))


def errors_a_year_before(
    stays: StayTable, known: KnownStays, *, horizons: tuple[int, ...], seed: int, memory: Memory | None = None
) -> dict[int, tuple[float, float]]:
    """Errors, on the log scale, of the forecasts of the same days a year before, as known at the end of a day.

    Parameters
    ----------
    stays : StayTable
        May reach beyond that day: what came later is not looked at.
    known : KnownStays
        What was known at its end.
    horizons : tuple of int
        Days ahead.
    seed : int
    memory : Memory, optional

    Returns
    -------
    dict of int to tuple of float
        Errors by horizon, with hazards of the whole history and at the levels of the moment; NaN where that forecast had
        not closed, had next to nothing to forecast beside the one of the day, or a history behind it that is shorter than
        the horizon.
    """
    day, made = day_of(year_before(date_of(known.as_of))), memory or Memory()
    errors = dict.fromkeys(horizons, (np.nan, np.nan))
    told = tuple(days for days in horizons if days <= min(day - known.first_day + 1, known.as_of - day))
    if not told:
        return errors
    now = dict(zip(horizons, foretold(known, horizons=horizons, seed=seed, memory=made), strict=True))
    then = known_at(stays, day)
    values = foretold(then, horizons=told, seed=seed, memory=made)
    for days, value in zip(told, values, strict=True):
        if value.mean > FLOOR * now[days].mean:
            actual = known.revenue(after=day, until=day + days, open_deals_only=True, told=then.amount)
            closed = pd.DataFrame([asdict(value) | {"actual": actual}])
            static, tracked = (log_error(closed, shift=shift)[0] for shift in (0.0, level_change(closed)[0]))
            errors[days] = float(static[0]), float(tracked[0])
    return errors


def year_before(day: date) -> date:
    """Give the same date a year before, the last of February for a leap day.

    Examples
    --------
    >>> year_before(date(2024, 2, 29)).isoformat(), year_before(date(2025, 12, 31)).isoformat()
    ('2023-02-28', '2024-12-31')
    """
    leap_day = (day.month, day.day) == (2, 29)
    return day.replace(year=day.year - 1, day=28 if leap_day else day.day)


def log_error(past: pd.DataFrame, *, shift: Floats | float = 0.0) -> tuple[Floats, Floats]:
    """Error and sd of each forecast on the scale of log(revenue + c), c one per cent of its mean.

    The forecast is taken as log-normal with the given mean and sd, mean log revenue moved by ``shift``.

    Examples
    --------
    >>> error, sd = log_error(pd.DataFrame({"mean": [100.0], "sd": [0.0], "actual": [201.0]}))
    >>> float(error[0].round(4)), float(sd[0])
    (0.6931, 0.0)
    """
    mean, sd, actual = (past[name].to_numpy(dtype=float) for name in ("mean", "sd", "actual"))
    offset = FLOOR * mean
    variance = np.log1p((sd / (mean + offset)) ** 2)
    error = np.log(actual + offset) - np.log(mean + offset) + variance / 2.0 - shift
    return np.clip(error, -LARGEST_ERROR, LARGEST_ERROR), np.sqrt(variance)


def level_change(past: pd.DataFrame) -> tuple[Floats, Floats, Floats]:
    """Compare static forecasts with those at the levels of the moment.

    Gives the shift of mean log revenue, the factor on its sd, and the shift of the log of mean revenue.
    """
    offset = FLOOR * past["mean"].to_numpy(dtype=float)
    moments = []
    for mean, sd in (("mean", "sd"), ("tracked_mean", "tracked_sd")):
        level = past[mean].to_numpy(dtype=float) + offset
        variance = np.log1p((past[sd].to_numpy(dtype=float) / level) ** 2)
        moments.append((np.log(level), variance, np.sqrt(np.maximum(variance, 1e-12))))
    (static, static_variance, static_sd), (tracked, tracked_variance, tracked_sd) = moments
    gain = tracked - static
    return gain - (tracked_variance - static_variance) / 2.0, tracked_sd / static_sd, gain
