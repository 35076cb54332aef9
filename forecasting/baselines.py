"""The simple rules a forecast has to beat, each with only what was known at the as-of date.

Rules that answer for open deals only leave ``total`` empty. A rule that treats deals as independent has a distribution and
is scored by it; the others are points, and the CRPS of a point is its absolute error.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from forecasting.quick_chain import NEVER, StayTable

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

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


@dataclass(frozen=True)
class KnownPast:
    """The stays as known at the end of day ``as_of``, with what the rules ask of them.

    Parameters
    ----------
    stays : StayTable
    as_of : int
        Day number; nothing later is looked at.
    origin_date : Timestamp
        Calendar date of day zero.
    """

    stays: StayTable
    as_of: int
    origin_date: pd.Timestamp

    @cached_property
    def rows(self) -> Ints:
        """Stays begun by the as-of date."""
        return np.flatnonzero(self.stays.entered <= self.as_of)

    @cached_property
    def left(self) -> Ints:
        """Day the known stays ended, ``NEVER`` when not by the as-of date."""
        left = self.stays.left[self.rows]
        return np.where(left <= self.as_of, left, NEVER)

    @cached_property
    def amount(self) -> Floats:
        """Amount of each deal as last known, missing ones at the mean of past wins, shape (deal,)."""
        latest = np.full(int(self.stays.deal.max(initial=-1)) + 1, np.nan)
        latest[self.stays.deal[self.rows]] = self.stays.amount[self.rows]
        wins = self.stays.won_amount[self.rows][self.ended_in_win]
        return np.where(np.isfinite(latest), latest, wins.mean() if len(wins) else 0.0)

    @cached_property
    def ended_in_win(self) -> NDArray[np.bool_]:
        """Known stays that ended in a win by the as-of date."""
        return self.stays.ended_in_win()[self.rows] & (self.left < NEVER)

    @cached_property
    def ended_in_loss(self) -> NDArray[np.bool_]:
        """Known stays that ended in a loss by the as-of date."""
        lost = self.stays.next_stage[self.rows] >= self.stays.n_open + self.stays.n_won
        return lost & (self.left < NEVER)

    @cached_property
    def win_day(self) -> Ints:
        """Day each deal was won, ``NEVER`` when not by the as-of date, shape (deal,)."""
        day = np.full(int(self.stays.deal.max(initial=-1)) + 1, NEVER, dtype=np.int64)
        day[self.stays.deal[self.rows][self.ended_in_win]] = self.left[self.ended_in_win]
        return day

    @cached_property
    def created(self) -> Ints:
        """Day of each deal's first entry, ``NEVER`` when not by the as-of date, shape (deal,)."""
        day = np.full(int(self.stays.deal.max(initial=-1)) + 1, NEVER, dtype=np.int64)
        np.minimum.at(day, self.stays.deal[self.rows], self.stays.entered[self.rows])
        return day

    def open_at(self, day: int) -> tuple[Ints, Ints]:
        """Deal and stage of the stays that were open at the end of the day."""
        rows = (self.stays.entered[self.rows] <= day) & (self.left > day)
        return self.stays.deal[self.rows][rows], self.stays.stage[self.rows][rows]

    def booked(self, *, after: int, until: int) -> float:
        """Revenue won after one day up to another."""
        rows = self.ended_in_win & (self.left > after) & (self.left <= until)
        return float(self.stays.won_amount[self.rows][rows].sum())

    def landmarks(self, horizon_days: int) -> range:
        """Past days whose next ``horizon_days`` days are known, latest first."""
        first = int(self.stays.entered[self.rows].min()) if len(self.rows) else self.as_of
        return range(self.as_of - horizon_days, first, -LANDMARK_DAYS)


def known_past(stays: StayTable, *, as_of: int, origin_date: pd.Timestamp) -> KnownPast:
    """Cut the stays at the end of a day for the rules below."""
    return KnownPast(stays, as_of, origin_date)


def historical_win_rate(past: KnownPast, horizon_days: int, seed: int) -> BaselineForecast:
    """Share of closed deals that were won, times the open amount."""
    won, lost = int(past.ended_in_win.sum()), int(past.ended_in_loss.sum())
    deals, _ = past.open_at(past.as_of)
    return BaselineForecast(won / max(won + lost, 1) * float(past.amount[deals].sum()))


def stage_weighted(past: KnownPast, horizon_days: int, seed: int) -> BaselineForecast:
    """Open amount by stage times the share of closed deals that were in the stage and were won."""
    deal, stage = past.stays.deal[past.rows], past.stays.stage[past.rows]
    closed = np.zeros(len(past.amount), dtype=bool)
    closed[deal[past.ended_in_win | past.ended_in_loss]] = True
    visits = np.unique(np.column_stack([deal[closed[deal]], stage[closed[deal]]]), axis=0)
    won = past.win_day[visits[:, 0]] < NEVER
    n_open = past.stays.n_open
    rate = np.bincount(visits[:, 1], weights=won, minlength=n_open) / np.maximum(
        np.bincount(visits[:, 1], minlength=n_open), 1
    )
    deals, stages = past.open_at(past.as_of)
    return BaselineForecast(float((rate[stages] * past.amount[deals]).sum()))


def landmark(past: KnownPast, horizon_days: int, seed: int) -> BaselineForecast:
    """Share of deals in the stage on past dates that were won within the horizon; deals independent."""
    rate = _landmark_rates(past, horizon_days, list(past.landmarks(horizon_days)))
    return _independent(past, rate[0] / np.maximum(rate[1], 1.0), seed)


def landmark_by_week(past: KnownPast, horizon_days: int, seed: int) -> BaselineForecast:
    """Share of deals in the stage, on past dates in the same week of a month, that were won within the horizon.

    A stage not seen in that week takes its share over all weeks.
    """
    every = list(past.landmarks(horizon_days))
    now = _week_of_month(past, past.as_of)
    same = [day for day in every if _week_of_month(past, day) == now]
    overall, week = _landmark_rates(past, horizon_days, every), _landmark_rates(past, horizon_days, same)
    rate = np.where(week[1] > 0, week[0] / np.maximum(week[1], 1.0), overall[0] / np.maximum(overall[1], 1.0))
    return _independent(past, rate, seed)


def cohort_conversion(past: KnownPast, horizon_days: int, seed: int) -> BaselineForecast:
    """Amount created by age times the part of created amount that turns into revenue between that age and the horizon.

    New deals arrive as in the last 13 weeks.
    """
    known = past.created < NEVER
    created, amount, won = past.created[known], past.amount[known], past.win_day[known]
    if len(created) == 0:
        return BaselineForecast(0.0, 0.0)
    span = past.as_of - int(created.min()) + 1
    seen = np.cumsum(np.bincount(past.as_of - created, weights=amount, minlength=span)[::-1])[::-1]
    wins = won < NEVER
    gained = np.bincount((won - created)[wins], weights=amount[wins], minlength=span)
    converted = np.cumsum(gained / np.maximum(seen, 1e-9))
    curve = np.concatenate([converted, np.full(horizon_days, converted[-1])])
    age = past.as_of - created
    open_part = float((amount * (curve[age + horizon_days] - curve[age])).sum())
    recent = min(RUN_RATE_DAYS, span)
    daily = float(amount[age < recent].sum()) / recent
    return BaselineForecast(open_part, open_part + daily * float(curve[:horizon_days].sum()))


def run_rate(past: KnownPast, horizon_days: int, seed: int) -> BaselineForecast:
    """Bookings a day over the last quarter; for open deals the mean over past dates of what the open ones brought."""
    first = int(past.stays.entered[past.rows].min()) if len(past.rows) else past.as_of
    days = max(min(RUN_RATE_DAYS, past.as_of - first + 1), 1)
    total = past.booked(after=past.as_of - days, until=past.as_of) / days * horizon_days
    recent = [day for day in past.landmarks(horizon_days) if day > past.as_of - horizon_days - RUN_RATE_DAYS]
    brought = [_brought(past, day, horizon_days) for day in recent]
    return BaselineForecast(float(np.mean(brought)) if brought else 0.0, total)


def last_period(past: KnownPast, horizon_days: int, seed: int) -> BaselineForecast:
    """Whatever the last period of the same length brought."""
    begin = past.as_of - horizon_days
    return BaselineForecast(_brought(past, begin, horizon_days), past.booked(after=begin, until=past.as_of))


BASELINES: Mapping[str, Callable[[KnownPast, int, int], BaselineForecast]] = {
    "historical_win_rate": historical_win_rate,
    "stage_weighted": stage_weighted,
    "landmark": landmark,
    "landmark_by_week": landmark_by_week,
    "cohort_conversion": cohort_conversion,
    "run_rate": run_rate,
    "last_period": last_period,
}
"""Name to rule; a rule takes the known past, the horizon in days and a seed."""


def _landmark_rates(past: KnownPast, horizon_days: int, days: list[int]) -> Floats:
    """Deals won within the horizon and deals looked at, by stage, over the given past days, shape (2, stage)."""
    counts = np.zeros((2, past.stays.n_open))
    for day in days:
        deals, stages = past.open_at(day)
        won = past.win_day[deals] <= day + horizon_days
        counts[0] += np.bincount(stages, weights=won, minlength=past.stays.n_open)
        counts[1] += np.bincount(stages, minlength=past.stays.n_open)
    return counts


def _independent(past: KnownPast, rate_by_stage: Floats, seed: int) -> BaselineForecast:
    """Each open deal won by its own coin."""
    deals, stages = past.open_at(past.as_of)
    rate, amount = rate_by_stage[stages], past.amount[deals]
    rng = np.random.default_rng([seed, past.as_of])
    draws = np.array([amount[rng.random(len(rate)) < rate].sum() for _ in range(BASELINE_DRAWS)])
    return BaselineForecast(float((rate * amount).sum()), None, draws)


def _brought(past: KnownPast, day: int, horizon_days: int) -> float:
    """Revenue within the horizon of the deals open at the end of a past day."""
    deals, _ = past.open_at(day)
    rows = past.ended_in_win & (past.left > day) & (past.left <= day + horizon_days)
    mine = np.isin(past.stays.deal[past.rows], deals)
    return float(past.stays.won_amount[past.rows][rows & mine].sum())


def _week_of_month(past: KnownPast, day: int) -> int:
    """Week of the calendar month the day lies in, 0 to 3."""
    return min(((past.origin_date + pd.Timedelta(days=day)).day - 1) // 7, WEEKS_OF_MONTH - 1)
