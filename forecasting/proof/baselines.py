"""The simple rules a forecast has to beat, each with only what was known at the as-of date.

Rules that answer for open deals only leave ``total`` empty. A rule that treats deals as independent has a distribution
and is scored by it; the others are points, and the CRPS of a point is its absolute error.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from forecasting.data.known_entries import NEVER, date_of
from forecasting.proof.stay_table import KnownStays

Floats = NDArray[np.float64]

LANDMARK_DAYS = 7
"""Days between the past dates at which open deals are looked up."""
RUN_RATE_DAYS = 91
"""Days of bookings behind the run-rate: a quarter."""
WEEKS_OF_MONTH = 4
"""Weeks told apart within a calendar month; the days after the 28th belong to the last."""
BASELINE_DRAWS = 2000


@dataclass(frozen=True)
class BaselineForecast:
    """What a rule says of the days after the as-of date, in currency units.

    Parameters
    ----------
    open : float
        Revenue of deals open at the as-of date.
    total : float or None
        Revenue of all deals, None where the rule has no answer for deals not created yet.
    open_draws : ndarray of float64, shape (draw,), or None
        Distribution of ``open`` where the rule has one.
    """

    open: float
    total: float | None = None
    open_draws: Floats | None = None


def historical_win_rate(known: KnownStays, horizon_days: int, seed: int) -> BaselineForecast:
    """Share of closed deals that were won, times the open amount."""
    won, lost = int(known.ended_in_win.sum()), int(known.ended_in_loss.sum())
    deals = known.deal[known.is_open]
    return BaselineForecast(won / max(won + lost, 1) * float(known.filled_amount[deals].sum()))


def stage_weighted(known: KnownStays, horizon_days: int, seed: int) -> BaselineForecast:
    """Open amount by stage times the share of closed deals that were in the stage and were won."""
    closed, won = (np.zeros(len(known.amount), dtype=bool) for _ in range(2))
    won[known.deal[known.ended_in_win]] = True
    closed[known.deal[known.ended_in_win | known.ended_in_loss]] = True
    rows = closed[known.deal]
    visits = np.unique(np.column_stack([known.deal[rows], known.stage[rows]]), axis=0)
    won_visits = np.bincount(visits[:, 1], weights=won[visits[:, 0]], minlength=known.n_open)
    rate = won_visits / np.maximum(np.bincount(visits[:, 1], minlength=known.n_open), 1)
    waiting = known.is_open
    return BaselineForecast(float((rate[known.stage[waiting]] * known.filled_amount[known.deal[waiting]]).sum()))


def landmark(known: KnownStays, horizon_days: int, seed: int) -> BaselineForecast:
    """Share of deals in the stage on past dates that were won within the horizon; deals independent."""
    won, seen = _landmark_counts(known, horizon_days, list(_landmarks(known, horizon_days)))
    return _independent(known, won / np.maximum(seen, 1.0), seed)


def landmark_by_week(known: KnownStays, horizon_days: int, seed: int) -> BaselineForecast:
    """Share of deals in the stage, on past dates in the same week of a month, that were won within the horizon.

    A stage not seen in that week takes its share over all weeks.
    """
    every = list(_landmarks(known, horizon_days))
    same = [day for day in every if _week_of_month(day) == _week_of_month(known.as_of)]
    won, seen = _landmark_counts(known, horizon_days, every)
    won_then, seen_then = _landmark_counts(known, horizon_days, same)
    rate = np.where(seen_then > 0, won_then / np.maximum(seen_then, 1.0), won / np.maximum(seen, 1.0))
    return _independent(known, rate, seed)


def cohort_conversion(known: KnownStays, horizon_days: int, seed: int) -> BaselineForecast:
    """Amount created, by age, times the part of it that turns into revenue between that age and the horizon.

    New deals arrive as in the last 13 weeks.
    """
    if len(known.deal) == 0:
        return BaselineForecast(0.0, 0.0)
    created, won_on = (np.full(len(known.amount), NEVER, dtype=np.int64) for _ in range(2))
    np.minimum.at(created, known.deal, known.entered)
    won_on[known.deal[known.ended_in_win]] = known.left[known.ended_in_win]
    at_once, day, stand = known.at_once
    created[at_once[stand == 1]] = won_on[at_once[stand == 1]] = day[stand == 1]
    age, amount, cycle = known.as_of - created, known.filled_amount, won_on - created
    wins, begun = (created < NEVER) & (won_on < NEVER), created < NEVER
    seen = np.cumsum(np.bincount(age[begun], weights=amount[begun])[::-1])[::-1]
    gained = np.bincount(cycle[wins], weights=amount[wins], minlength=len(seen))
    converted = np.cumsum(gained / np.maximum(seen, 1e-9))
    curve = np.concatenate([converted, np.full(horizon_days, converted[-1])])
    open_part = float((amount[begun] * (curve[age[begun] + horizon_days] - curve[age[begun]])).sum())
    recent = min(RUN_RATE_DAYS, known.age_days)
    daily = float(amount[begun & (age < recent)].sum()) / recent
    return BaselineForecast(open_part, open_part + daily * float(curve[:horizon_days].sum()))


def run_rate(known: KnownStays, horizon_days: int, seed: int) -> BaselineForecast:
    """Bookings a day over the last quarter; for open deals the mean over past dates of what the open ones brought."""
    days = min(RUN_RATE_DAYS, known.age_days)
    total = known.revenue(after=known.as_of - days, until=known.as_of) / days * horizon_days
    recent = [day for day in _landmarks(known, horizon_days) if day > known.as_of - horizon_days - RUN_RATE_DAYS]
    brought = [known.revenue(after=day, until=day + horizon_days, open_deals_only=True) for day in recent]
    return BaselineForecast(float(np.mean(brought)) if brought else 0.0, total)


def last_period(known: KnownStays, horizon_days: int, seed: int) -> BaselineForecast:
    """Whatever the last period of the same length brought."""
    span = known.as_of - horizon_days, known.as_of
    return BaselineForecast(
        known.revenue(after=span[0], until=span[1], open_deals_only=True),
        known.revenue(after=span[0], until=span[1]),
    )


BASELINES: Mapping[str, Callable[[KnownStays, int, int], BaselineForecast]] = {
    "historical_win_rate": historical_win_rate,
    "stage_weighted": stage_weighted,
    "landmark": landmark,
    "landmark_by_week": landmark_by_week,
    "cohort_conversion": cohort_conversion,
    "run_rate": run_rate,
    "last_period": last_period,
}
"""Name to rule; a rule takes what was known, the horizon in days and a seed."""


def _landmarks(known: KnownStays, horizon_days: int) -> range:
    """Past days whose next ``horizon_days`` days are known, a week apart, latest first."""
    return range(known.as_of - horizon_days, known.first_day, -LANDMARK_DAYS)


def _landmark_counts(known: KnownStays, horizon_days: int, days: list[int]) -> tuple[Floats, Floats]:
    """Deals won within the horizon and deals looked at, by stage, over the given past days."""
    won_on = np.full(len(known.amount), NEVER, dtype=np.int64)
    won_on[known.deal[known.ended_in_win]] = known.left[known.ended_in_win]
    won, seen = np.zeros(known.n_open), np.zeros(known.n_open)
    for day in days:
        rows = known.open_at(day)
        stages = known.stage[rows]
        won += np.bincount(stages, weights=won_on[known.deal[rows]] <= day + horizon_days, minlength=known.n_open)
        seen += np.bincount(stages, minlength=known.n_open)
    return won, seen


def _independent(known: KnownStays, rate_by_stage: Floats, seed: int) -> BaselineForecast:
    """Each open deal won by its own coin."""
    rate = rate_by_stage[known.stage[known.is_open]]
    amount = known.filled_amount[known.deal[known.is_open]]
    rng = np.random.default_rng([seed, known.as_of])
    draws = np.array([amount[rng.random(len(rate)) < rate].sum() for _ in range(BASELINE_DRAWS)])
    return BaselineForecast(float((rate * amount).sum()), None, draws)


def _week_of_month(day: int) -> int:
    """Week of the calendar month a day number lies in, 0 to 3."""
    return min((date_of(day).day - 1) // 7, WEEKS_OF_MONTH - 1)
