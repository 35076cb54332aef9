"""Since when a history is whole: what an export leaves out of the time before.

A report of "all deals closed since January, and the open ones" holds of earlier deals only those that were slow: the quick
ones had closed before. Taken as they are, their years in the pipeline without a close say that nothing ever closes. The
sign of it: by a date next to no deal had closed where, at the hazards of closing by age that later deals show, dozens should
have; and of the deals created well before that date fewer are left than a steady stream would be. Losses are judged alone
too, since some systems delete lost deals only; wins are not, since they have seasons. Such a history is taken as
left-truncated: each stay is at risk from the day after that date on (Kalbfleisch and Prentice 2002, section 1.3), and
arrivals count from there.

A CRM that was filled from another one on a day shows dozens of deals that first appear on that day, in several stages or
created over weeks before. When their stay began is not known, so nothing is learned from it, and they have not arrived
then.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from forecasting.data.known_entries import NEVER, date_of

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

BEFORE_ALL = -NEVER
"""Day number of a time that nothing precedes."""
LEAST_EXPECTED = 12.0
"""Closes, or moves, expected by a date, at least, before their lack says anything: chance gives none once in e^12 times."""
LARGEST_SHARE = 0.15
"""Part of the expected ones that may have happened all the same: reports have their exceptions."""
PRICE = 5.0
"""Expected ones that must be missing for each that happened to count as an exception."""
LEAST_LOG_ODDS = 6.0
"""Log-likelihood by which the number of deals created before must say that some are missing."""
DATES_TRIED = 12
CYCLES = 6.0
"""Times that half of the closes took over which deals created before and after are counted."""
AGE_CLASSES = 24
IMPORTED_AT_LEAST, IMPORTED_TIMES = 20, 20.0
"""Deals that first appear on one day in the middle of things, at least, and how many times as many as on a usual day."""
AT_ONCE = 0.8
"""Part of the deals that begin on the day they are created, from which on that is how it is done."""
LEAST_SPREAD_DAYS, LEAST_OF_STAGE = 14.0, 0.1
"""Deals taken over were created over weeks, or stand in several stages; a batch of leads does neither."""
MOST_IMPORTS = 3
"""Days of that kind; more of them are a habit."""
USUAL_STAGE = 0.05
"""Part of the days on which deals begin in a stage from which on it is a usual one to begin in."""


@dataclass(frozen=True)
class Beginning:
    """What is not known of the time before.

    Parameters
    ----------
    unseen_until : int
        Day number of the last day whose closes, or losses, are missing; ``BEFORE_ALL`` where none are.
    imported : tuple of int
        Days on which deals were entered that had begun before.
    lost_only : bool
        Whether losses alone are missing.
    """

    unseen_until: int = BEFORE_ALL
    imported: tuple[int, ...] = ()
    lost_only: bool = False

    def tells(self, day: Ints) -> Bools:
        """Whether deals that first appear on a day are new ones."""
        return np.asarray((day > self.unseen_until) & ~np.isin(day, self.imported))


WHOLE = Beginning()
"""All is there."""


def what_beginning_means(history: Beginning) -> list[str]:
    """Say what was found.

    Examples
    --------
    >>> what_beginning_means(WHOLE)
    []
    """
    found = []
    if history.unseen_until > BEFORE_ALL:
        day = date_of(history.unseen_until)
        found.append(
            f"deals {'lost' if history.lost_only else 'closed'} by {day} are missing, or were not marked: next to none is "
            "there. What happened up to that day is not learned from, and no proof of a forecast of before; an export of "
            "all deals would give a better one"
        )
    if history.imported:
        days = " and ".join(str(date_of(day)) for day in history.imported)
        found.append(
            f"deals entered on {days} had begun before, as if taken over from another system: they are no new ones, and "
            "nothing is learned from how long they stayed in the stage they were entered in"
        )
    return found


@dataclass(frozen=True)
class DealLives:
    """When deals began and closed, as known at the end of a day; day numbers, one per deal.

    Parameters
    ----------
    created, begun : ndarray of int64, shape (deal,)
        As the deals table says, and first entry into an open stage.
    stage : ndarray of int64, shape (deal,)
        That stage.
    closed : ndarray of int64, shape (deal,)
        Later than ``as_of`` where it is open.
    won : ndarray of bool, shape (deal,)
        Whether it closed as won.
    as_of : int
    """

    created: Ints
    begun: Ints
    stage: Ints
    closed: Ints
    won: Bools
    as_of: int


def beginning(lives: DealLives) -> Beginning:
    """Find out what is not known of the time before, from what was known at the end of a day.

    Examples
    --------
    Two deals a day, lost after 30 days or, a third, won after 90; of those closed before day 300 nothing is told.

    >>> begun = np.repeat(np.arange(600), 2)
    >>> won = np.arange(1200) % 3 == 0
    >>> whole = DealLives(begun, begun, 0 * begun, begun + np.where(won, 90, 30), won, as_of=500)
    >>> beginning(whole).unseen_until == BEFORE_ALL
    True
    >>> told = (begun <= 500) & (whole.closed >= 300)
    >>> beginning(DealLives(*(column[told] for column in (begun, begun, 0 * begun, whole.closed, won)), as_of=500))
    Beginning(unseen_until=299, imported=(), lost_only=False)
    """
    is_closed = lives.closed <= lives.as_of
    unseen_until, lost_only = _unseen_until(lives, is_closed), False
    if unseen_until == BEFORE_ALL:
        unseen_until = _unseen_until(lives, is_closed & ~lives.won)
        lost_only = unseen_until > BEFORE_ALL
    return Beginning(unseen_until, _import_days(lives), lost_only)


def deal_lives(
    *, deal: Ints, stage: Ints, entered: Ints, left: Ints, closes: Bools, wins: Bools, created: Ints, as_of: int
) -> DealLives:
    """Put the stays of each deal together; the arguments are as in :func:`forecasting.data.lacking.compared`.

    ``created`` has one number per stay, the same for all of a deal.
    """
    first = np.diff(deal, prepend=-1) != 0
    last = np.append(first[1:], True)[: len(deal)]
    closed = np.where(closes, left, -BEFORE_ALL)
    return DealLives(created[first], entered[first], stage[first], closed[last], wins[last], as_of)


def days_unseen(history: Beginning, *, deal: Ints, entered: Ints, changed: Ints | int = BEFORE_ALL) -> Ints:
    """Days of each stay that lie in the time before: its day ``d`` is the date ``entered + d``.

    Of the first stay of an imported deal nothing is seen. Stays of a deal follow each other. ``changed`` is the last day
    before deals left the stage of a stay as they do now.
    """
    unseen = np.maximum(np.maximum(history.unseen_until, changed) + 1 - entered, 0)
    imported = (np.diff(deal, prepend=-1) != 0) & np.isin(entered, history.imported)
    return np.where(imported, -BEFORE_ALL, unseen)


def has_arrived(history: Beginning, lives: DealLives) -> Bools:
    """Whether deals arrived on the day they first appear: not where that lies before, nor where they had begun before.

    Where no deal is known to have, all count.
    """
    begun, start = lives.begun, int(lives.begun.min(initial=-BEFORE_ALL))
    late = (lives.created < start) & (begun > start) & _begin_when_created(lives, start)
    arrived = history.tells(begun) & ~late
    return np.asarray(arrived | ~arrived.any())


def _begin_when_created(lives: DealLives, start: int) -> bool:
    """Whether deals created since a day usually begin at once: not where leads wait before they are told of."""
    at_once = (lives.begun == lives.created)[lives.created >= start]
    return bool(len(at_once) >= IMPORTED_AT_LEAST and at_once.mean() > AT_ONCE)


def _unseen_until(lives: DealLives, kind: Bools) -> int:
    """Last day by which closes of a kind are missing."""
    days = np.sort(lives.closed[kind])
    if len(days) < LEAST_EXPECTED:
        return BEFORE_ALL
    edges, hazard, other = _hazards_by_age(lives, kind, since=int(days[len(days) // 2]) - 1)
    few = int(LARGEST_SHARE * len(days))
    tried = days[np.unique(np.geomspace(1, few + 1, DATES_TRIED).astype(np.int64)) - 1] - 1
    expected = np.array([_cumulated(np.minimum(lives.closed, day) - lives.begun, edges, hazard).sum() for day in tried])
    happened = np.searchsorted(days, tried, side="right")
    place = last_missing(expected, happened)
    if place is None:
        return BEFORE_ALL
    day = int(tried[place])
    cycle = float(np.median((lives.closed - lives.begun)[kind & (lives.closed > day)]))
    return day if _fewer_before(lives, day, cycle, (edges, hazard, other)) else BEFORE_ALL


def last_missing(expected: Floats, happened: Ints) -> int | None:
    """Place up to which next to nothing happened of what was expected by it, None where there is none."""
    missing = (expected >= LEAST_EXPECTED) & (happened <= LARGEST_SHARE * expected)
    if not missing.any():
        return None
    # from there on things happen as expected: any multiple of them grows faster
    return int(np.argmax(np.where(missing, expected - PRICE * happened, -np.inf)))


def _hazards_by_age(lives: DealLives, kind: Bools, *, since: int) -> tuple[Floats, Floats, Floats]:
    """Edges of age classes, from 0, and the daily hazards of closing after a day in this and in any other way."""
    age, late = lives.closed - lives.begun, lives.closed > since
    closes, others = age[kind & late], age[(lives.closed <= lives.as_of) & ~kind & late]
    edges = np.unique(np.append(0.0, np.quantile(closes, np.linspace(0.0, 1.0, AGE_CLASSES + 1)[1:-1])))
    first, last = np.maximum(since + 1 - lives.begun, 0), np.minimum(lives.closed, lives.as_of) - lives.begun
    bounds = np.append(edges, np.inf)
    exposure = np.empty(len(edges))
    for place, (start, end) in enumerate(pairwise(bounds)):
        exposure[place] = np.maximum(np.minimum(last + 1, end) - np.maximum(first, start), 0.0).sum()
    this, other = (np.histogram(ages, bounds)[0] / np.maximum(exposure, 1.0) for ages in (closes, others))
    return edges, this, other


def _cumulated(age: Ints | Floats, edges: Floats, hazard: Floats) -> Floats:
    """Hazard up to an age, nothing below zero."""
    before = np.append(0.0, np.cumsum(hazard[:-1] * np.diff(edges)))
    place = np.clip(np.searchsorted(edges, age, side="right") - 1, 0, None)
    return np.where(age > 0, before[place] + hazard[place] * (age - edges[place]), 0.0)


def _fewer_before(lives: DealLives, day: int, cycle: float, hazards: tuple[Floats, Floats, Floats]) -> bool:
    """Whether of deals created one to six cycles before a day as few are left as if those closed by it were missing."""
    edges, hazard, other = hazards
    first = max(day - CYCLES * cycle, float(lives.begun.min()))
    before, after = day - cycle - first, min(CYCLES * cycle, lives.as_of - day)
    if cycle <= 0.0 or min(before, after) < cycle / 4.0:
        return False
    ages = np.linspace(0.0, day - first, 91)
    this, both = _cumulated(ages, edges, hazard), _cumulated(ages, edges, hazard + other)
    left = 1.0 - np.cumsum(np.exp(-both) * np.diff(this, prepend=0.0))
    share = left[ages >= cycle].mean()
    seen = ((lives.begun > first) & (lives.begun <= day - cycle)).sum()
    usual = ((lives.begun > day) & (lives.begun <= day + after)).sum() * before / after
    return bool(seen * np.log(share) + usual * (1.0 - share) > LEAST_LOG_ODDS)


def _import_days(lives: DealLives) -> tuple[int, ...]:
    """Days on which far more deals than usual first appear in the middle of things."""
    each = np.unique(np.column_stack([lives.begun, lives.stage]), axis=0)
    unusual = np.bincount(each[:, 1], minlength=1) < USUAL_STAGE * len(np.unique(lives.begun))
    midway = (lives.created < lives.begun) | unusual[lives.stage]
    days, count = np.unique(lives.begun[midway], return_counts=True)
    span = max(int(np.ptp(lives.begun)), 1) if len(lives.begun) else 1
    usual = (count.sum() - count) / span
    found = days[(count >= IMPORTED_AT_LEAST) & (count >= IMPORTED_TIMES * usual)]
    found = np.array([day for day in found if _is_mixed(lives, midway & (lives.begun == day))], dtype=np.int64)
    others = ~np.isin(lives.begun, found)
    enough = len(found) <= MOST_IMPORTS and others.sum() >= IMPORTED_AT_LEAST
    return tuple(int(day) for day in found) if enough else ()


def _is_mixed(lives: DealLives, rows: Bools) -> bool:
    """Whether deals stand in several stages or were created over weeks."""
    share = np.bincount(lives.stage[rows]) / rows.sum()
    early, late = np.quantile(lives.created[rows], [0.1, 0.9])
    return bool((share >= LEAST_OF_STAGE).sum() > 1 or late - early >= LEAST_SPREAD_DAYS)
