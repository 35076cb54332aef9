"""Planned numbers of new deals: where a plan is given it stands in for the level that was learned.

The plan says how many deals a period brings; by weekday they are spread as deals always were. What stays is how far
weeks fall from their level: the learned weekly noise and the drift since the as-of date, both of mean one, now act
around the plan. A plan for all segments together is split by their learned levels, draw by draw.
"""

from datetime import date, timedelta
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.errors import SettingsError

ALL_GROUPS = -1
"""Group number of a plan for all segments together."""


class PlannedDeals(NamedTuple):
    """So many new deals from ``first`` to ``last`` (ISO dates, both included) in one segment, or in all of them."""

    first: str
    last: str
    group: int
    deals: float


ArrivalPlan = tuple[PlannedDeals, ...]
NO_PLAN: ArrivalPlan = ()


def check_plan(plan: ArrivalPlan) -> None:
    """Refuse periods that say twice how many deals come on a day.

    Raises
    ------
    SettingsError

    Examples
    --------
    >>> october = PlannedDeals("2026-10-01", "2026-10-31", ALL_GROUPS, 80)
    >>> check_plan((october, PlannedDeals("2026-11-01", "2026-11-30", ALL_GROUPS, 90)))
    >>> check_plan((october, PlannedDeals("2026-10-26", "2026-11-01", 0, 20)))
    Traceback (most recent call last):
    models.errors.SettingsError: the plan counts 2026-10-26 twice: in the period from 2026-10-01 to 2026-10-31 and in ...
    """
    ordered = sorted(plan)
    for place, one in enumerate(ordered):
        for other in ordered[place + 1 :]:
            same = one.group == other.group or ALL_GROUPS in (one.group, other.group)
            if same and other.first <= one.last:
                raise SettingsError(
                    f"the plan counts {other.first} twice: in the period from {one.first} to {one.last} and in the one "
                    f"from {other.first} to {other.last}; give each day one number, by segment or for all together"
                )


def apply_plan(
    intensity: NDArray[np.float64],
    around: NDArray[np.float64],
    plan: ArrivalPlan,
    *,
    first_day: date,
    level: NDArray[np.float64],
    weekday: NDArray[np.float64],
) -> None:
    """Put the plan in the place of the learned intensity on the days it covers.

    Planned mean of a day = deals x (weekday share of the day / weekday shares of all days of the period); a period that
    began before ``first_day`` keeps its daily pace, whatever came so far.

    Parameters
    ----------
    intensity : ndarray of float64, shape (draw, group, day)
        Deals per day; changed in place.
    around : ndarray of float64, shape (draw, group, day)
        Factor of each draw around the plan, of mean one.
    plan : tuple of PlannedDeals
    first_day : date
        Day of index 0.
    level : ndarray of float64, shape (draw, group)
        Deals per week, splits a plan for all groups.
    weekday : ndarray of float64, shape (draw, group, 7)
        Share of a week's arrivals by weekday, Monday first.
    """
    split = level / level.sum(axis=1, keepdims=True)
    for row in plan:
        first, last = date.fromisoformat(row.first), date.fromisoformat(row.last)
        begin, end = max((first - first_day).days, 0), min((last - first_day).days + 1, intensity.shape[2])
        if begin >= end:
            continue
        groups = slice(None) if row.group == ALL_GROUPS else slice(row.group, row.group + 1)
        of_period = _weekdays(first, (last - first).days + 1)
        of_days = _weekdays(first_day + timedelta(days=begin), end - begin)
        shares = weekday[:, groups]
        mean = row.deals * shares[:, :, of_days] / shares[:, :, of_period].sum(axis=2, keepdims=True)
        if row.group == ALL_GROUPS:
            mean = mean * split[:, :, None]
        intensity[:, groups, begin:end] = mean * around[:, groups, begin:end]


def planned_days(plan: ArrivalPlan, *, first_day: date, days: int) -> int:
    """Days among the next ``days`` for which the plan says anything.

    Examples
    --------
    >>> planned_days((PlannedDeals("2026-10-01", "2026-10-31", 0, 80),), first_day=date(2026, 9, 21), days=20)
    10
    """
    span = [(first_day + timedelta(days=step)).isoformat() for step in range(days)]
    return sum(any(row.first <= day <= row.last for row in plan) for day in span)


def _weekdays(first: date, days: int) -> NDArray[np.int64]:
    return (first.weekday() + np.arange(days)) % 7
