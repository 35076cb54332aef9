"""The yearly season of arrivals, by calendar month, where two years or more of history allow one.

Log counts per week are a broken line (a bend every half year) plus a month effect with a normal prior plus noise: a
linear model with an exact normal posterior. Month effects add up to zero.
"""

from collections.abc import Callable
from datetime import date, timedelta

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from models.arrivals.level import PastSeason

MONTHS = "months"
"""Name of this season."""
MONTHS_PRIOR = 0.5
"""Probability of it before the past tells."""
SEASON_WEEKS = 104
"""Weeks of history from which on a season is believed possible."""
MIN_WEEKLY = 4.0
"""Arrivals a week below which a season cannot be told from chance."""
MONTH_SD = 0.2
"""Prior sd of a month effect on the log scale."""
BEND_WEEKS = 26
BEND_SD = 0.02
"""Prior sd of the change of weekly growth at a bend; four times that over half a year doubles or halves the level."""
REFIT_WEEKS = 13
"""The past season is learned anew every quarter."""


def past_season(counts: NDArray[np.float64], exposure: NDArray[np.float64], as_of: date) -> PastSeason | None:
    """Season factor of every past week: from ``SEASON_WEEKS`` on as it could be known before the week.

    Returns None where the history is too short or too thin for a season.

    Parameters
    ----------
    counts, exposure : ndarray of float64, shape (week, group)
    as_of : date
        Last day of the last week.
    """
    total = counts.sum(axis=1)
    full = exposure.max(axis=1, initial=0.0) >= 1
    weeks = len(total)
    if full.sum() < SEASON_WEEKS or total[full].mean() < MIN_WEEKLY:
        return None
    month = _months(weeks, as_of)

    def known_before(start: int, told: NDArray[np.int64]) -> NDArray[np.float64]:
        return np.exp(_month_effects(total[:start], month[:start])[0][month[told]])

    return PastSeason(MONTHS, refitted(known_before, weeks=weeks, begin=SEASON_WEEKS), SEASON_WEEKS, MONTHS_PRIOR)


def refitted(
    known_before: Callable[[int, NDArray[np.int64]], NDArray[np.float64]], *, weeks: int, begin: int
) -> NDArray[np.float64]:
    """Season factor of every week, shape (week,), learned anew every quarter; those before ``begin`` from themselves.

    Parameters
    ----------
    known_before : callable
        Factors of the given weeks from what came before week ``start``, from (start, weeks).
    weeks : int
    begin : int
        First week whose factor is made of earlier ones only.
    """
    factor = np.ones(weeks)
    for start in range(begin, max(weeks, begin + 1), REFIT_WEEKS):
        told = np.arange(0 if start == begin else start, min(start + REFIT_WEEKS, weeks))
        factor[told] = known_before(start, told)
    return factor


def draw_season(
    counts: NDArray[np.float64], as_of: date, seasonal: NDArray[np.bool_], rng: np.random.Generator
) -> NDArray[np.float64]:
    """Month factors by draw, shape (draw, 12); ones in draws without a season."""
    factor = np.ones((len(seasonal), 12))
    if seasonal.any():
        mean, covariance = _month_effects(counts.sum(axis=1), _months(len(counts), as_of))
        effects = rng.multivariate_normal(mean, covariance, size=int(seasonal.sum()), method="eigh")
        factor[seasonal] = np.exp(effects)
    return factor


def month_factors(counts: NDArray[np.float64], as_of: date) -> NDArray[np.float64]:
    """Most likely factor of each calendar month, shape (12,), from counts of shape (week, group)."""
    return np.exp(_month_effects(counts.sum(axis=1), _months(len(counts), as_of))[0])


def _months(weeks: int, as_of: date) -> NDArray[np.int64]:
    """Month (0 to 11) of the middle day of each past week, oldest first."""
    last_middle = as_of - timedelta(days=3)
    return pd.date_range(end=last_middle, periods=weeks, freq="7D").month.to_numpy(np.int64) - 1


def _month_effects(
    total: NDArray[np.float64], month: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Posterior mean (12,) and covariance (12, 12) of the log month effects."""
    weeks = np.arange(len(total), dtype=float)
    bends = np.arange(BEND_WEEKS, len(total), BEND_WEEKS)
    line = np.column_stack([np.ones_like(weeks), weeks, *(np.maximum(weeks - bend, 0) for bend in bends)])
    centre = np.eye(12) - 1 / 12
    design = np.hstack([line, np.eye(12)[month] @ centre])
    prior_sd = np.r_[10.0, 0.05, np.full(len(bends), BEND_SD), np.full(12, MONTH_SD)]
    target = np.log(total + 0.5)
    noise = 0.25
    for _ in range(3):  # the noise variance settles in two rounds
        precision = design.T @ design / noise + np.diag(prior_sd**-2)
        covariance = np.linalg.inv(precision)
        mean = covariance @ design.T @ target / noise
        noise = max(float(np.mean((target - design @ mean) ** 2)), 1e-4)
    months = slice(line.shape[1], None)
    return centre @ mean[months], centre @ covariance[months, months] @ centre
