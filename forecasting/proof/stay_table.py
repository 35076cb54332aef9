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
from forecasting.data.known_entries import NEVER, Led, Moves, day_numbers, where_it_led, won_at_once
from forecasting.data.lacking import AS_GIVEN, AmountHabits, amount_habits, compared, most_usual
from forecasting.data.process_change import process_changes
from models.calendar.days import CalendarOptions

if TYPE_CHECKING:
    from forecasting.data.deals import Deals

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

NONE_AT_ONCE: Ints = np.zeros((3, 0), dtype=np.int64)

type Lacks = tuple[AmountHabits, Beginning, int]
"""What it means that deals lack an amount, since when the history is whole, and which amounts it told late."""


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
        Amount that the stage history had said when the stay began, NaN where it had said none.
    moves : Moves, optional
        All moves, closes included, that may be taken back; by default none was.
    told_late : int
        Hash of the amounts that stand in the table for what the stage history told after the first entry only.
    """

    deal: Ints
    stage: Ints
    next_stage: Ints
    entered: Ints
    left: Ints
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
    moves: Moves | None = None
    told_late: int = 0


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
    at_once : ndarray of int64, shape (3, win)
        Deals that were entered as won, which have no stay, the days, and whether they still were (1).
    n_open, n_won, n_stages : int
    calendar : CalendarOptions
        What may make a date count for more or less.
    habits : AmountHabits
        What it means that a deal has no amount.
    beginning : Beginning
        Since when the history is whole.
    told_late : int
        As the table of stays has it.
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
    told_late: int = 0

    @property
    def lacks(self) -> Lacks:
        """What the history lacks: forecasts of a day are the same as long as this is."""
        return self.habits, self.beginning, self.told_late

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
            deal, day, stand = self.at_once
            deals = np.append(deals, deal[(day > after) & (day <= until) & (stand == 1)])
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
    is_open, created = stage < deals.graph.n_open, day_numbers(deals.deals["created_on"])
    said, table_amount = entries[entries["amount"].notna()], deals.deals["amount"].to_numpy(dtype=float)
    told = entries.groupby("deal")["amount"].ffill().to_numpy(dtype=float)[entries["moved"]][is_open]
    return StayTable(
        deal=deal[is_open],
        stage=stage[is_open],
        next_stage=np.where(following, np.append(stage[1:], -1), -1)[is_open],
        entered=day[is_open],
        left=left[is_open],
        table_amount=table_amount,
        said_deal=said["deal"].to_numpy(dtype=np.int64),
        said_day=day_numbers(said["entered_on"]),
        said_amount=said["amount"].to_numpy(dtype=float),
        n_open=deals.graph.n_open,
        n_won=len(deals.graph.won),
        n_stages=len(deals.graph.stages),
        calendar=calendar or CalendarOptions(),
        created=created,
        entry_amount=told,
        moves=Moves(deal, stage, day),
    )


def known_at(stays: StayTable, day: int) -> KnownStays:
    """Cut the stays at the end of a day: what came later is not looked at."""
    rows = np.flatnonzero(stays.entered <= day)
    left = stays.left[rows]
    ended = left <= day
    amount = _said_by(stays, day)
    entered, deal, stage = stays.entered[rows], stays.deal[rows], stays.stage[rows]
    left_for = np.where(ended, stays.next_stage[rows], -1)
    led, at_once = Led(left_for, ended), NONE_AT_ONCE
    if stays.moves is not None:
        place = np.flatnonzero(stays.moves.stage < stays.n_open)  # of the moves with which the stays began
        led = where_it_led(stays.moves, place[rows], today=day, n_open=stays.n_open)
        at_once = _entered_as_won(stays, day)
    exit_code = led.stage
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
        stands=led.stands,
        amount=habits.cleared(amount, np.isin(np.arange(len(amount)), at_once[0])),
        entry_amount=habits.cleared(_at_entry(stays, rows, told)),
        at_once=at_once,
        n_open=stays.n_open,
        n_won=stays.n_won,
        n_stages=stays.n_stages,
        calendar=stays.calendar,
        habits=habits,
        beginning=begun,
        told_late=stays.told_late,
    )


def _said_by(stays: StayTable, day: int) -> Floats:
    """Amount of each deal as last said by the end of a day, that of the table where none was."""
    amount, said = stays.table_amount.copy(), stays.said_day <= day
    amount[stays.said_deal[said]] = stays.said_amount[said]  # in order: the last word stays
    return amount


def _at_entry(stays: StayTable, rows: Ints, told: Floats) -> Floats:
    """Amounts as known when stays began; where none had been said, those ``told`` by the day."""
    if stays.entry_amount is None:
        return told
    said = stays.entry_amount[rows]
    return np.where(np.isnan(said), told, said)


def _entered_as_won(stays: StayTable, day: int) -> Ints:
    if stays.moves is None or stays.created is None:
        return NONE_AT_ONCE
    won = range(stays.n_open, stays.n_open + stays.n_won)
    place, stand = won_at_once(stays.moves, stays.created, today=day, n_open=stays.n_open, won=won)
    return np.stack([stays.moves.deal[place], stays.moves.day[place], stand.astype(np.int64)])


def stays_at(deals: "Deals | StayTable", as_of: date, *, calendar: CalendarOptions | None = None) -> StayTable:
    """Lay out the stays for looking back from a date: what it lacks means what the stays known by then show.

    A table of stays has its own calendar, and keeps what a missing amount means, and since when it is whole, once that is
    settled.
    """
    stays = deals if isinstance(deals, StayTable) else stay_table(deals, calendar=calendar)
    if stays.habits and stays.beginning:
        return stays
    known = known_at(stays, day_of(as_of))
    amount, late = _settled(stays, known.as_of)
    return replace(
        stays,
        habits=known.habits,
        beginning=known.beginning,
        table_amount=amount,
        told_late=hash(amount[late].tobytes()),
    )


def _settled(stays: StayTable, day: int) -> tuple[Floats, Ints]:
    """Amounts before the stage history told one, not those of the table, which are today's, where it had told one by a day.

    Given are the amounts, and the deals to which that applies: those whose first entry told none.
    """
    amount = stays.table_amount.copy()
    if stays.entry_amount is None:
        return amount, np.zeros(0, dtype=np.int64)
    first = np.diff(stays.deal, prepend=-1) != 0
    untold = np.zeros(len(amount), dtype=bool)
    untold[stays.deal[first & np.isnan(stays.entry_amount)]] = True
    late = np.unique(stays.said_deal[(stays.said_day <= day) & untold[stays.said_deal]])
    amount[late] = _said_by(stays, day)[late]
    return amount, late


def day_of(when: date) -> int:
    """Day number of a date.

    Examples
    --------
    >>> day_of(date(1970, 1, 31))
    30
    """
    return (when - date(1970, 1, 1)).days
