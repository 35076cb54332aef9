"""Exits that come at the same time of every year: wins of December, files closed each January, nothing in August.

The factor of a week is what came in the same week of the years before over what the hazards of the whole history and the
level of that year let expect,

    f_p = (sum over years y of seen_(p - y) + k) / (sum over years y of level_y expected_(p - y) + k),

both smoothed over weeks nearby, since no year keeps its dates to the week. Ways to smooth, and a year without a season, are
weighed by how well they foretold each past week from the years before it.
"""

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.special import softmax

Floats = NDArray[np.float64]

WEEK_DAYS = 7
YEAR_WEEKS = 52
DAYS_IN_YEAR = 365.25
MIN_WEEKS = 65
"""Weeks of history, a quarter more than the first year, from which on the return of a season can be judged."""
SAME_WEEK = np.array([0.02, 0.14, 0.68, 0.14, 0.02])
SAME_TIME = np.array([1.0, 2.0, 3.0, 4.0, 5.0, 4.0, 3.0, 2.0, 1.0]) / 25.0
"""Share of a week's exits that may as well come some weeks early or late: where a date rules, and where the time of the year
does."""
PRIOR_EXITS = (0.3, 3.0, 30.0)
"""Exits that a factor of one counts for."""
WAYS = tuple((nearby, prior) for nearby in (SAME_WEEK, SAME_TIME) for prior in PRIOR_EXITS)
SEASON_PRIOR = 0.1
"""Probability of a season before the past tells, shared by all ways: most pipelines have none."""
MEMORY_WEEKS = np.array([4.0, 16.0, 200.0])
WEEK_SIZE = np.array([1e6, 30.0, 8.0, 2.0])
"""What else may move exits while seasons are judged: levels remembered for so many weeks, and the negative binomial size of a
week's own luck."""


def yearly_factors(exits: Floats, expected: Floats, *, ahead: int) -> Floats:
    """Factor on the exits expected in every past and coming week, mean over the ways in which the year may go.

    Parameters
    ----------
    exits, expected : ndarray of float64, shape (week,)
        Exits seen, and expected of weeks that are all alike, oldest first.
    ahead : int
        Coming weeks.

    Returns
    -------
    ndarray of float64, shape (week + ahead,)
        That of a week is made of earlier years alone, from the second year on; the first year goes by itself. Ones where
        the history is too short to judge by.

    Examples
    --------
    Three times as many exits as usual in the last five weeks of the first year and of the second.

    >>> busy = np.arange(104) % 52 >= 47
    >>> factor = yearly_factors(np.where(busy, 60.0, 20.0), np.full(104, 24.0), ahead=52)[104:]
    >>> factor[[10, 49]].round(1).tolist()
    [0.8, 2.5]
    """
    weeks = len(exits)
    none = np.ones(weeks + ahead)
    if weeks < MIN_WEEKS or not exits.any():
        return none
    factors = np.stack([none, *(_of_years_before(exits, expected, *way, ahead=ahead) for way in WAYS)])
    prior = np.array([1.0 - SEASON_PRIOR, *np.full(len(WAYS), SEASON_PRIOR / len(WAYS))])
    judged = slice(YEAR_WEEKS, weeks)  # afresh: a first year that explains itself would pass for one foretold
    told = [_log_score(exits[judged], (expected * each[:weeks])[judged], MEMORY_WEEKS, WEEK_SIZE) for each in factors]
    return np.asarray(softmax(np.log(prior) + told) @ factors)


def _of_years_before(exits: Floats, expected: Floats, nearby: Floats, prior: float, *, ahead: int) -> Floats:
    """Factor of each week by the same weeks of the years before; the first year by itself."""
    weeks = len(exits)
    level = _over_a_year(exits) / np.maximum(_over_a_year(expected), 1e-300)
    found = []
    for values in (_smoothed(exits, nearby), _smoothed(expected, nearby) * level):
        total = np.zeros(weeks + ahead)
        total[:YEAR_WEEKS] = values[:YEAR_WEEKS]
        for years in range(1, (weeks + ahead) // YEAR_WEEKS + 1):
            lag = round(years * DAYS_IN_YEAR / WEEK_DAYS)
            part = values[: max(weeks + ahead - lag, 0)]
            total[lag : lag + len(part)] += part
        found.append(total + prior)
    return np.asarray(found[0] / found[1])


def _over_a_year(values: Floats) -> Floats:
    """Sum over the year around each week, or the nearest whole year that the history has."""
    begin = np.clip(np.arange(len(values)) - YEAR_WEEKS // 2, 0, len(values) - YEAR_WEEKS)
    passed = np.concatenate([[0.0], np.cumsum(values)])
    return np.asarray(passed[begin + YEAR_WEEKS] - passed[begin])


def _smoothed(values: Floats, nearby: Floats) -> Floats:
    """Weighted mean of each week and of those nearby that the history has."""
    sums, weight = (np.convolve(each, nearby, mode="same") for each in (values, np.ones(len(values))))
    return np.asarray(sums / weight)


@njit(cache=True, nogil=True)
def _log_score(exits: Floats, expected: Floats, memory: Floats, size: Floats) -> float:
    """Log probability of exits by week: a gamma belief about their level forgets, mean over the ways in which it may."""
    n = len(memory) * len(size)
    total = np.zeros(n)
    for i in range(n):
        kept, week_size = 0.5 ** (1.0 / memory[i // len(size)]), size[i % len(size)]
        shape, rate = 1.0, 1.0
        for p in range(len(exits)):
            if not expected[p] > 0.0:
                continue
            shape, rate = 1.0 + kept * (shape - 1.0), 1.0 + kept * (rate - 1.0)
            mean = expected[p] * shape / rate
            own = 1.0 / ((1.0 + 1.0 / shape) * (1.0 + 1.0 / week_size) - 1.0)
            total[i] += math.lgamma(exits[p] + own) - math.lgamma(own) - math.lgamma(exits[p] + 1.0)
            total[i] -= own * math.log1p(mean / own) + exits[p] * math.log1p(own / mean)
            trust = 1.0 / (1.0 + mean / week_size)
            shape, rate = shape + trust * exits[p], rate + trust * expected[p]
    return math.log(np.exp(total - total.max()).mean()) + total.max()
