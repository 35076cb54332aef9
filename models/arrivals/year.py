"""Arrivals that come in batches at the same dates of every year: applications each spring, renewals entered in January.

The factor of a week is its share of the year at the same dates of the years before, smoothed over weeks nearby since no
batch keeps its dates to the week. Only arrivals that crowd into half of the year or less are asked whether they do so every
year: elsewhere the months of :mod:`models.arrivals.season` tell what there is to tell.

Years are counted back from the as-of date, dates forward from it: *place* 0 are the dates that come within a week, and the
year that just ended is the latest one, whether its batch came at its beginning or at its end.
"""

from dataclasses import replace
from datetime import date, timedelta

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from models.arrivals.level import LevelGrid, PastSeason
from models.arrivals.season import refitted

YEAR = "year"
"""Name of this season."""
YEAR_PRIOR = 0.1
"""Probability of it before the past tells: crowded arrivals are a launch more often than a habit."""
YEAR_WEEKS = 52
"""Places of a year; the last one has a day or two more."""
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
SHORT_DAYS = 28
"""Days that a year may lack at its beginning: a company begins with a batch, not on the day after some as-of date."""
DAYS = 366


def past_year(day: NDArray[np.int64], *, as_of: date, weeks: int) -> PastSeason | None:
    """Factor of every past week by the years before it; the first year by itself.

    Returns None where the history is too short, or arrivals are not crowded.

    Parameters
    ----------
    day : ndarray of int, shape (deal,)
        Days from the as-of date on which deals arrived, 0 or negative.
    as_of : date
    weeks : int
        Weeks whose factor is asked for, the latest ones.
    """
    if weeks < MIN_YEAR_WEEKS or len(day) < MIN_ARRIVALS:
        return None
    if crowded_weeks(_by_place(day, as_of)) > CROWDED_WEEKS:
        return None

    def known_before(start: int, told: NDArray[np.int64]) -> NDArray[np.float64]:
        ahead = 7 * (weeks - start)
        profile = year_profile(day[day <= -ahead] + ahead, as_of - timedelta(days=ahead))
        return profile[(told - start) % YEAR_WEEKS]

    return PastSeason(YEAR, refitted(known_before, weeks=weeks, begin=YEAR_WEEKS), YEAR_WEEKS, YEAR_PRIOR)


def crowded_weeks(by_place: NDArray[np.float64]) -> float:
    """Weeks of the year that arrivals effectively take up: one over the chance that two of them share a week.

    Examples
    --------
    >>> once, always = np.zeros(52), np.random.default_rng(1).poisson(90.0, 52)
    >>> once[10] = 60
    >>> round(crowded_weeks(once)), round(crowded_weeks(always))
    (1, 52)
    """
    pairs = float((by_place * (by_place - 1.0)).sum())
    n = float(by_place.sum())
    return n * (n - 1.0) / pairs if pairs > 0.0 else float(YEAR_WEEKS)


def year_profile(day: NDArray[np.int64], as_of: date) -> NDArray[np.float64]:
    """Factor of each of the 52 weeks after the as-of date, mean one, shape (52,); ``day`` as for :func:`past_year`.

    Examples
    --------
    Twenty deals each 1 March, asked on the last of February.

    >>> as_of = date(2026, 2, 28)
    >>> day = np.repeat([(date(year, 3, 1) - as_of).days for year in (2024, 2025)], 20)
    >>> year_profile(day, as_of)[:4].round(1).tolist()
    [42.8, 7.2, 1.0, 0.0]
    """
    by_place = _by_place(day, as_of)
    if not by_place.any():
        return np.ones(YEAR_WEEKS)
    middle, smooth = len(NEARBY) // 2, np.zeros(YEAR_WEEKS)
    for lag, share in enumerate(NEARBY):  # what would come before the as-of date has not come: it is still expected
        to = np.clip(np.arange(YEAR_WEEKS) + lag - middle, 0, YEAR_WEEKS - 1)
        np.add.at(smooth, to, share * by_place)
    return np.asarray(ANY_WEEK + (1.0 - ANY_WEEK) * smooth / smooth.mean())


def with_yearly_level(grid: LevelGrid, day: NDArray[np.int64], group: NDArray[np.int64], as_of: date) -> LevelGrid:
    """Give the settings of this season the level of whole years.

    A filter that goes by weeks reads a batch that is a week late as a collapse. The level of a group is that of its last two
    whole years, the last one counting twice. It is as uncertain as its number of deals is by chance and, all groups alike,
    as years were different, ``YEAR_SD`` counting for two changes.

    Parameters
    ----------
    grid : LevelGrid
    day, group : ndarray of int, shape (deal,)
        Days from the as-of date on which deals arrived, and of which group they are.
    as_of : date
    """
    mine = grid.season == YEAR
    if not mine.any():
        return grid
    years_back, _ = _returns(day, as_of)
    whole, total = _whole_years(day, as_of), np.bincount(years_back, minlength=2)[1:]
    changes = np.diff(np.log(total[:whole] + 0.5))
    variance = (2.0 * YEAR_SD**2 + (changes**2).sum()) / (2.0 + len(changes))
    shape, rate = grid.shape.copy(), grid.rate.copy()
    for place in range(len(shape)):
        own = group == place
        known = min(max(_whole_years(day[own], as_of), 1), 2)
        latest = np.bincount(years_back[own], minlength=3)[1 : 1 + known]
        weight = np.array([2.0, 1.0])[: len(latest)]
        shape[place, mine] = latest.sum() + 0.5
        rate[place, mine] = shape[place, mine] / ((weight @ latest / weight.sum() + 0.5) / YEAR_WEEKS)
    still = np.where(mine, 0.0, 1.0)
    return replace(
        grid,
        shape=shape,
        rate=rate,
        level_sd=grid.level_sd * still,
        growth=grid.growth * still,
        odd_share=grid.odd_share * still,
        noise_shape=np.where(mine, BATCH_NOISE, grid.noise_shape),
        common_sd=np.where(mine, np.sqrt(variance), 0.0),
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


def _by_place(day: NDArray[np.int64], as_of: date) -> NDArray[np.float64]:
    """Arrivals of all whole years by place, shape (52,)."""
    years_back, place = _returns(day, as_of)
    return np.bincount(place[years_back <= _whole_years(day, as_of)], minlength=YEAR_WEEKS).astype(np.float64)


def _returns(day: NDArray[np.int64], as_of: date) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """In how many years from its own the date of each arrival returns after the as-of date, and at which place."""
    oldest = int(day.min(initial=0))  # of every day once: there are many more arrivals than days
    dates = pd.DatetimeIndex(np.datetime64(as_of, "D") + np.arange(oldest, 1))
    month, of_month = dates.month.to_numpy(), dates.day.to_numpy()
    of_month = np.where(month == 2, np.minimum(of_month, 28), of_month)  # a leap day returns the day before
    later = month * 100 + of_month > as_of.month * 100 + as_of.day
    year = np.where(later, as_of.year, as_of.year + 1)
    returns = pd.to_datetime(pd.DataFrame({"year": year, "month": month, "day": of_month}))
    ahead = (returns - pd.Timestamp(as_of)).dt.days.to_numpy(np.int64) - 1
    years_back, place = (year - dates.year.to_numpy()).astype(np.int64), np.minimum(ahead // 7, YEAR_WEEKS - 1)
    return years_back[day - oldest], place[day - oldest]


def _whole_years(day: NDArray[np.int64], as_of: date) -> int:
    """Years back from the as-of date that the history covers, give or take ``SHORT_DAYS``."""
    before = as_of + timedelta(days=int(day.min(initial=0)) - 1 - SHORT_DAYS)
    return as_of.year - before.year - int((before.month, before.day) > (as_of.month, as_of.day))
