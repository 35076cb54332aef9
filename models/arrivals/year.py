"""Arrivals that come in batches at the same dates of every year: applications each spring, renewals entered in January.

The factor of a week is its share of the year at the same place of the years before, 52 weeks apart, smoothed over weeks
nearby since no batch keeps its dates to the week. Only arrivals that crowd into half of the year or less are asked
whether they do so every year: elsewhere the months of :mod:`models.arrivals.season` tell what there is to tell.
"""

from dataclasses import replace
from datetime import date, timedelta

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from models.arrivals.level import MAX_WEEKS, LevelGrid, PastSeason

YEAR = "year"
"""Name of this season."""
YEAR_WEEKS = 52
MIN_YEAR_WEEKS = 65
"""Weeks of history, a quarter more than the first year, from which on its return can be judged."""
CROWDED_WEEKS = 26.0
"""Arrivals that take up more weeks of the year than this come all year round."""
MIN_ARRIVALS = 20
"""Fewer tell nothing about the weeks of a year."""
NEARBY = (0.02, 0.14, 0.68, 0.14, 0.02)
"""Share of a week's arrivals expected two weeks early, one, in the same week, and late."""
ANY_WEEK = 0.02
"""Share of arrivals that may come in any week."""
YEAR_SD = 0.3
"""Change of the yearly number on the log scale, before years tell."""
BATCH_NOISE = 10.0
"""Shape of the weekly noise around the profile, see :mod:`models.arrivals.level`."""
REFIT_WEEKS = 13
"""The past profile is learned anew every quarter."""
DAYS = 366


def past_year(day: NDArray[np.int64], *, weeks: int) -> PastSeason | None:
    """Factor of every past week by the years before it; the first year by itself.

    Returns None where the history is too short, or arrivals are not crowded.

    Parameters
    ----------
    day : ndarray of int, shape (deal,)
        Days from the as-of date on which deals arrived, 0 or negative.
    weeks : int
        Weeks whose factor is asked for, the latest ones.
    """
    total = weekly_total(day)
    if len(total) < MIN_YEAR_WEEKS or total.sum() < MIN_ARRIVALS or crowded_weeks(total) > CROWDED_WEEKS:
        return None
    factor = np.ones(len(total))
    for start in range(YEAR_WEEKS, len(total), REFIT_WEEKS):
        profile = year_profile(total[:start])
        first = 0 if start == YEAR_WEEKS else start
        places = np.arange(first, min(start + REFIT_WEEKS, len(total))) - start
        factor[places + start] = profile[places % YEAR_WEEKS]
    return PastSeason(YEAR, factor[-weeks:], max(YEAR_WEEKS - (len(total) - weeks), 0))


def weekly_total(day: NDArray[np.int64]) -> NDArray[np.float64]:
    """Arrivals of all segments by week, oldest first, those of the first day included.

    Examples
    --------
    >>> weekly_total(np.array([-14, -14, -6, 0])).tolist()
    [2.0, 0.0, 2.0]
    """
    back = -day // 7
    return np.bincount(back[back < MAX_WEEKS], minlength=1)[::-1].astype(np.float64)


def crowded_weeks(total: NDArray[np.float64]) -> float:
    """Weeks of the year that arrivals effectively take up: one over the chance that two of them share a week.

    Examples
    --------
    >>> once, always = np.zeros(104), np.random.default_rng(1).poisson(9.0, 104)
    >>> once[[10, 62]] = 30
    >>> round(crowded_weeks(once)), round(crowded_weeks(always))
    (1, 52)
    """
    by_place = _by_place(total)
    pairs = float((by_place * (by_place - 1.0)).sum())
    n = float(by_place.sum())
    return n * (n - 1.0) / pairs if pairs > 0.0 else float(YEAR_WEEKS)


def year_profile(total: NDArray[np.float64]) -> NDArray[np.float64]:
    """Factor of each of the 52 weeks that follow the last one given, mean one, shape (52,)."""
    by_place = _by_place(total)
    if not by_place.any():
        return np.ones(YEAR_WEEKS)
    middle = len(NEARBY) // 2
    smooth = np.sum([share * np.roll(by_place, lag - middle) for lag, share in enumerate(NEARBY)], axis=0)
    return np.asarray(ANY_WEEK + (1.0 - ANY_WEEK) * smooth / smooth.mean())


def with_yearly_level(grid: LevelGrid, counts: NDArray[np.float64]) -> LevelGrid:
    """Give the settings of this season the level of whole years.

    A filter that goes by weeks reads a batch that is a week late as a collapse. The level is that of the last two whole
    years, the last one counting twice, and as uncertain as years were different, ``YEAR_SD`` counting for two changes.

    Parameters
    ----------
    grid : LevelGrid
    counts : ndarray of float64, shape (week, group)
        What the grid was filtered from.
    """
    mine, whole = grid.season == YEAR, len(counts) // YEAR_WEEKS
    if not mine.any() or not whole:
        return grid
    years = counts[len(counts) - whole * YEAR_WEEKS :].reshape(whole, YEAR_WEEKS, -1).sum(axis=1)
    changes = np.diff(np.log(years.sum(axis=1) + 0.5))
    variance = (2.0 * YEAR_SD**2 + (changes**2).sum()) / (2.0 + len(changes))
    weight = np.array([1.0, 2.0])[-min(whole, 2) :]
    level = (weight @ years[-2:] / weight.sum() + 0.5) / YEAR_WEEKS
    shape = grid.shape.copy()
    rate = grid.rate.copy()
    shape[:, mine] = 1.0 / np.expm1(variance)
    rate[:, mine] = shape[:, mine] / level[:, None]
    still = np.where(mine, 0.0, 1.0)
    return replace(
        grid,
        shape=shape,
        rate=rate,
        level_sd=grid.level_sd * still,
        growth=grid.growth * still,
        odd_share=grid.odd_share * still,
        noise_shape=np.where(mine, BATCH_NOISE, grid.noise_shape),
    )


def by_day_of_year(profile: NDArray[np.float64], as_of: date) -> NDArray[np.float64]:
    """Factor by day of the year, 1 January first, from that of the weeks after the as-of date, shape (366,)."""
    days = pd.date_range(as_of + timedelta(days=1), periods=DAYS)
    factor = np.full(DAYS, np.nan)
    place = np.minimum(np.arange(DAYS) // 7, YEAR_WEEKS - 1)
    factor[day_of_year(days)[::-1]] = profile[place][::-1]  # days met twice, a year apart, keep the first
    leap_day = np.isnan(factor)
    factor[leap_day] = factor[np.flatnonzero(leap_day) - 1]
    return factor


def day_of_year(days: pd.DatetimeIndex) -> NDArray[np.int64]:
    """Place of dates in a year of 366 days, from 0, so that a date has the same place in every year."""
    after_february = ~days.is_leap_year & (days.month > 2)
    return days.dayofyear.to_numpy(np.int64) - 1 + after_february.astype(np.int64)


def _by_place(total: NDArray[np.float64]) -> NDArray[np.float64]:
    """Arrivals of all whole years by place in the 52 weeks, years counted back from the end."""
    years = len(total) // YEAR_WEEKS
    return np.asarray(total[len(total) - years * YEAR_WEEKS :].reshape(years, YEAR_WEEKS).sum(axis=0))
