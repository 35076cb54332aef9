"""The stages deals went through as plain arrays, cut at any past day in a millisecond.

:func:`forecasting.data.snapshot.cut` says what was known at one date, in full; looking back at dozens of dates needs only
this much of it. Both follow the same rules, and ``tests/forecasting/test_calibration.py`` holds them together.
"""

from dataclasses import dataclass, field, replace
from datetime import date
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from forecasting.data.beginning import WHOLE, Beginning, beginning, days_unseen, deal_lives, has_arrived
from forecasting.data.factors import CENT
from forecasting.data.known_entries import NEVER, begins_with_win, day_numbers, where_it_led
from forecasting.data.lacking import AS_GIVEN, AmountHabits, amount_habits, compared, most_usual
from forecasting.data.process_change import process_changes
from models.calendar.days import CalendarOptions

if TYPE_CHECKING:
    from forecasting.data.deals import Deals

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

NONE_AT_ONCE: Ints = np.zeros((2, 0), dtype=np.int64)

type Lacks = tuple[AmountHabits, Beginning]
"""What it means that deals lack an amount, and since when the history is whole."""


@dataclass(frozen=True)
class StayTable:
    """All stays of a history, deal after deal in the order they happened; days are numbers since 1970-01-01.

    Parameters
    ----------
    deal : ndarray of int64, shape (stay,)
        Deal number.
    stage, next_stage : ndarray of int64, shape (stay,)
        Open stage code, and code of the stage the deal went to (-1 when it has not left).
    entered, left : ndarray of int64, shape (stay,)
        Day numbers, ``NEVER`` when it has not left.
    undone : ndarray of int64, shape (stay,)
        Day the stage the deal went to was itself left, ``NEVER`` when it was not: a win after which the deal was opened
        again is no win from that day on.
    then : ndarray of int64, shape (stay,)
        Code of the stage it was left for, -1 when it was not.
    table_amount : ndarray of float64, shape (deal,)
        Amount in the deals table, which holds until the stage history says one.
    said_deal, said_day : ndarray of int64, shape (statement,)
        Every time the stage history said an amount: of which deal and when, deal after deal in order.
    said_amount : ndarray of float64, shape (statement,)
    n_open, n_won : int
        Codes below ``n_open`` are open stages, the next ``n_won`` are won.
    n_stages : int
    calendar : CalendarOptions
        What may make a date count for more or less.
    habits : AmountHabits, optional
        What it means that a deal has no amount; by default what the stays known on the day show.
    created : ndarray of int64, shape (deal,), optional
        Day the deals table has for it; by default the first entry of each.
    beginning : Beginning, optional
        Since when the history is whole; by default what the stays known on the day show.
    entry_amount : ndarray of float64, shape (stay,), optional
        Amount as known when the stay began; by default that of the deals table.
    at_once : ndarray of int64, shape (deal that began as won, 3), optional
        Deal, day of the win and day it was undone; by default none.
    """

    deal: Ints
    stage: Ints
    next_stage: Ints
    entered: Ints
    left: Ints
    undone: Ints
    then: Ints
    table_amount: Floats
    said_deal: Ints
    said_day: Ints
    said_amount: Floats
    n_open: int
    n_won: int
    n_stages: int
    calendar: CalendarOptions = field(default_factory=CalendarOptions)
    habits: AmountHabits | None = None
    created: Ints | None = None
    beginning: Beginning | None = None
    entry_amount: Floats | None = None
    at_once: Ints | None = None


@dataclass(frozen=True)
class KnownStays:
    """What was known of the stays at the end of day ``as_of``.

    Parameters
    ----------
    as_of, first_day : int
        Day numbers; ``first_day`` is the first day of the history, or the first from which on it is whole.
    deal, stage, exit_code, entered, left : ndarray of int64, shape (stay,)
        ``exit_code`` is -1 and ``left`` is ``NEVER`` in stays that had not ended; of a close taken back see
        :func:`forecasting.data.known_entries.where_it_led`.
    unseen : ndarray of int64, shape (stay,)
        First days of the stay that lie before the history is whole; beyond its end where nothing is learned from it.
    changed : ndarray of int64, shape (open stage,)
        Last day before deals left each stage as they do now.
    arrived : ndarray of bool, shape (deal,)
        Deals that arrived on the day of their first entry.
    stands : ndarray of bool, shape (stay,)
        Whether the deal still was where the stay had led.
    amount, entry_amount : ndarray of float64, shape (deal,) and (stay,)
        As last said by then, and when the stay began, NaN when missing.
    at_once : ndarray of int64, shape (2, win)
        Deals that began as won and still were, and the days; they have no stay.
    n_open, n_won, n_stages : int
    calendar : CalendarOptions
        What may make a date count for more or less.
    habits : AmountHabits
        What it means that a deal has no amount.
    beginning : Beginning
        Since when the history is whole.
    """

    as_of: int
    first_day: int
    deal: Ints
    stage: Ints
    exit_code: Ints
    entered: Ints
    left: Ints
    unseen: Ints
    changed: Ints
    arrived: NDArray[np.bool_]
    stands: NDArray[np.bool_]
    amount: Floats
    entry_amount: Floats
    at_once: Ints
    n_open: int
    n_won: int
    n_stages: int
    calendar: CalendarOptions = field(default_factory=CalendarOptions)
    habits: AmountHabits = AS_GIVEN
    beginning: Beginning = WHOLE

    @property
    def lacks(self) -> Lacks:
        """What the history lacks: forecasts of a day are the same as long as this is."""
        return self.habits, self.beginning

    @property
    def is_open(self) -> NDArray[np.bool_]:
        """Stays that deals are in."""
        return np.asarray(self.left == NEVER)

    @property
    def ended_in_win(self) -> NDArray[np.bool_]:
        """Stays that ended in a win that stands."""
        return self.stands & (self.exit_code >= self.n_open) & (self.exit_code < self.n_open + self.n_won)

    @property
    def ended_in_loss(self) -> NDArray[np.bool_]:
        """Stays that ended in a loss that stands."""
        return self.stands & (self.exit_code >= self.n_open + self.n_won)

    @property
    def filled_amount(self) -> Floats:
        """Amount of each deal, missing ones at the mean of the wins, shape (deal,)."""
        wins = self.amount[self.deal[self.ended_in_win]]
        wins = wins[np.isfinite(wins)]
        return np.where(np.isfinite(self.amount), self.amount, wins.mean() if len(wins) else 0.0)

    @property
    def age_days(self) -> int:
        """Days of history."""
        return self.as_of - self.first_day + 1

    def same_process(self, later: "KnownStays", *, until: int) -> bool:
        """Whether deals left each stage up to a day as they did on this one, as far as is known later, see ``changed``.

        That a change had come and was not seen yet is another thing, and may happen again.
        """
        return not bool(((later.changed >= self.as_of) & (later.changed < until)).any())

    def open_at(self, day: int) -> NDArray[np.bool_]:
        """Stays that deals were in at the end of an earlier day."""
        return np.asarray((self.entered <= day) & (self.left > day))

    def revenue(self, *, after: int, until: int, open_deals_only: bool = False, told: Floats | None = None) -> float:
        """Revenue won after one day up to another, by all deals or by those open at the end of the first day.

        Where ``told`` has an amount for the deal, shape (deal,), it counts in the place of the final one.
        """
        rows = self.ended_in_win & (self.left > after) & (self.left <= until)
        if open_deals_only:
            waiting = np.zeros(len(self.amount), dtype=bool)
            waiting[self.deal[self.open_at(after)]] = True
            rows &= waiting[self.deal]
        amount = self.amount if told is None else np.where(np.isnan(told), self.amount, told)
        deals = self.deal[rows]
        if not open_deals_only:
            deal, day = self.at_once
            deals = np.append(deals, deal[(day > after) & (day <= until)])
        return float(np.nansum(amount[deals]))


def stay_table(deals: "Deals", *, calendar: CalendarOptions | None = None) -> StayTable:
    """Lay out the stays of all deals.

    Parameters
    ----------
    deals : Deals
    calendar : CalendarOptions, optional
        What may make a date count for more or less; without it all weigh alike.

    Returns
    -------
    StayTable
    """
    entries = deals.entries
    moves = entries[entries["moved"]]
    deal, stage = (moves[name].to_numpy(dtype=np.int64) for name in ("deal", "stage"))
    day = day_numbers(moves["entered_on"])
    following = np.append(deal[1:] == deal[:-1], False)
    left = np.where(following, np.append(day[1:], NEVER), NEVER)
    next_stage = np.where(following, np.append(stage[1:], -1), -1)
    is_open, created = stage < deals.graph.n_open, day_numbers(deals.deals["created_on"])
    at_once = begins_with_win(deal, stage, day, created=created, graph=deals.graph)
    said, table_amount = entries[entries["amount"].notna()], deals.deals["amount"].to_numpy(dtype=float)
    told = entries.groupby("deal")["amount"].ffill().to_numpy(dtype=float)[entries["moved"]][is_open]
    return StayTable(
        deal=deal[is_open],
        stage=stage[is_open],
        next_stage=next_stage[is_open],
        entered=day[is_open],
        left=left[is_open],
        undone=np.where(following, np.append(left[1:], NEVER), NEVER)[is_open],
        then=np.where(following, np.append(next_stage[1:], -1), -1)[is_open],
        table_amount=table_amount,
        said_deal=said["deal"].to_numpy(dtype=np.int64),
        said_day=day_numbers(said["entered_on"]),
        said_amount=said["amount"].to_numpy(dtype=float),
        n_open=deals.graph.n_open,
        n_won=len(deals.graph.won),
        n_stages=len(deals.graph.stages),
        calendar=calendar or CalendarOptions(),
        created=created,
        entry_amount=np.where(np.isnan(told), table_amount[deal[is_open]], told),
        at_once=np.column_stack([deal, day, left])[at_once],
    )


def known_at(stays: StayTable, day: int) -> KnownStays:
    """Cut the stays at the end of a day: what came later is not looked at."""
    rows = np.flatnonzero(stays.entered <= day)
    left = stays.left[rows]
    ended = left <= day
    amount = stays.table_amount.copy()
    said = stays.said_day <= day
    amount[stays.said_deal[said]] = stays.said_amount[said]  # in order: the last word stays
    entry_amount = stays.table_amount[stays.deal] if stays.entry_amount is None else stays.entry_amount
    entered, deal, stage = stays.entered[rows], stays.deal[rows], stays.stage[rows]
    left_for, undone = np.where(ended, stays.next_stage[rows], -1), stays.undone[rows]
    then = np.where(undone <= day, stays.then[rows], -1)
    exit_code = where_it_led(stage, left_for, then, undone - left, n_open=stays.n_open)
    closes = exit_code >= stays.n_open
    wins = closes & (exit_code < stays.n_open + stays.n_won)
    habits, told = stays.habits or AS_GIVEN, amount[deal]
    if stays.habits is None and (not (told >= CENT).all() or most_usual(told[~ended]) is not None):
        each = compared(deal=deal, stage=stage, entered=entered, left=left, closes=closes, wins=wins, as_of=day)
        habits = amount_habits(told, told, each)
    created = entered if stays.created is None else stays.created[deal]
    lives = deal_lives(
        deal=deal, stage=stage, entered=entered, left=left, closes=closes, wins=wins, created=created, as_of=day
    )
    changed = process_changes(stage=stage, following=left_for, entered=entered, left=left, n_open=stays.n_open)
    begun, arrived = stays.beginning or beginning(lives), np.zeros(len(amount), dtype=bool)
    arrived[deal[np.diff(deal, prepend=-1) != 0]] = has_arrived(begun, lives)
    return KnownStays(
        as_of=day,
        first_day=max(int(entered.min()), begun.unseen_until + 1) if len(rows) else day,
        deal=deal,
        stage=stage,
        exit_code=exit_code,
        entered=entered,
        left=np.where(ended, left, NEVER),
        unseen=days_unseen(begun, deal=deal, entered=entered, changed=changed[stage]),
        changed=changed,
        arrived=arrived,
        stands=ended & ((undone > day) | (exit_code != left_for)) & (np.diff(deal, append=-1) != 0),
        amount=habits.cleared(amount),
        entry_amount=habits.cleared(entry_amount[rows]),
        at_once=NONE_AT_ONCE if stays.at_once is None else _standing(stays.at_once, day),
        n_open=stays.n_open,
        n_won=stays.n_won,
        n_stages=stays.n_stages,
        calendar=stays.calendar,
        habits=habits,
        beginning=begun,
    )


def _standing(at_once: Ints, day: int) -> Ints:
    """Deals that began as won by a day and still were at its end, and the days of the wins."""
    return np.asarray(at_once[(at_once[:, 1] <= day) & (at_once[:, 2] > day), :2].T)


def stays_at(deals: "Deals | StayTable", as_of: date, *, calendar: CalendarOptions | None = None) -> StayTable:
    """Lay out the stays for looking back from a date: what it lacks means what the stays known by then show.

    A table of stays has its own calendar, and keeps what a missing amount means, and since when it is whole, once that is
    settled.
    """
    stays = deals if isinstance(deals, StayTable) else stay_table(deals, calendar=calendar)
    if stays.habits and stays.beginning:
        return stays
    known = known_at(stays, day_of(as_of))
    return replace(stays, habits=known.habits, beginning=known.beginning)


def day_of(when: date) -> int:
    """Day number of a date.

    Examples
    --------
    >>> day_of(date(1970, 1, 31))
    30
    """
    return (when - date(1970, 1, 1)).days
