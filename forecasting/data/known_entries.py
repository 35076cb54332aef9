"""Stage entries known at the end of a business date, and the stays they make up."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from forecasting.data.deals import Deals
from models.errors import EmptyInputError
from models.history import STILL_OPEN
from models.stages import StageGraph

Ints = NDArray[np.int64]

NEVER = 2**40
"""Day number of something that has not happened."""
TAKEN_BACK_DAYS = 30
"""A close that is taken back within so many days is none: of wins, most are gone by the end of the month or quarter. Later on
a win has counted in its period, and a loss that comes back is in no forecast."""
A_NIGHT = 1
"""Days between the creation of a deal and its win up to which it was entered as won."""
TOLD_AS_KNOWN = 0.8
"""Part of the open deals with an amount whose history tells it, from which on a history that tells none yet says that it was
not known; others tell it on winning only, or when it changes."""


@dataclass(frozen=True)
class KnownEntries:
    """Entries known at the as-of date, in order: arrays over entries; ``moves`` and ``last`` are places in them."""

    deal: Ints
    stage: Ints
    day: Ints
    amount: NDArray[np.float64]
    told: NDArray[np.bool_]
    moves: Ints
    last: Ints
    today: int


def day_numbers(column: pd.Series) -> Ints:
    """Days since 1970-01-01."""
    return column.to_numpy().astype("datetime64[D]").astype(np.int64)


def date_of(day: int) -> date:
    """Date of a day number.

    Examples
    --------
    >>> date_of(30).isoformat()
    '1970-01-31'
    """
    return date(1970, 1, 1) + timedelta(days=day)


def known_entries(deals: Deals, as_of: date) -> KnownEntries:
    """Cut the entries at the end of a date: what came later is not looked at."""
    entries, today = deals.entries, int(np.datetime64(as_of, "D").astype(np.int64))
    all_days = day_numbers(entries["entered_on"])
    rows = np.flatnonzero(all_days <= today)
    if len(rows) == 0:
        raise EmptyInputError(
            f"nothing had happened by {as_of}: the first stage entry is on {entries['entered_on'].min().date()}; "
            "choose a later as-of date"
        )
    deal = entries["deal"].to_numpy()[rows].astype(np.int64)
    first = np.flatnonzero(np.diff(deal, prepend=-1))
    last = np.append(first[1:], len(deal)) - 1
    said = entries["amount"].to_numpy()[rows]
    # the last entry up to each one that tells an amount, if it belongs to the same deal
    source = np.maximum.accumulate(np.where(np.isnan(said), -1, np.arange(len(said))))
    of_deal = last - first + 1
    told, stage = source >= np.repeat(first, of_deal), entries["stage"].to_numpy()[rows].astype(np.int64)
    table = deals.deals["amount"].to_numpy()[deal]
    given = last[(stage[last] < deals.graph.n_open) & (told[last] | ~np.isnan(table[last]))]
    if len(given) and told[given].mean() >= TOLD_AS_KNOWN:
        table = np.where(np.repeat(told[last], of_deal), np.nan, table)
    amount = np.where(told, said[source], table)
    return KnownEntries(
        deal=deal,
        stage=stage,
        day=all_days[rows],
        amount=amount,
        told=told,
        moves=np.flatnonzero(entries["moved"].to_numpy()[rows]),
        last=last,
        today=today,
    )


@dataclass(frozen=True)
class Moves:
    """Moves of deals, one deal after the other in the order they happened.

    Parameters
    ----------
    deal, stage, day : ndarray of int64, shape (move,)
    """

    deal: Ints
    stage: Ints
    day: Ints

    def goes_on(self, place: Ints, *, today: int) -> NDArray[np.bool_]:
        """Whether another move of the deal is known, by the places of moves."""
        later = np.minimum(place + 1, len(self.deal) - 1)
        return np.asarray((later > place) & (self.deal[later] == self.deal[place]) & (self.day[later] <= today))

    def settled(self, place: Ints, *, today: int, n_open: int) -> Ints:
        """Places of the moves that came of these ones: a close that was soon taken back came to what followed."""
        at = place.copy()
        while True:
            further = (self.stage[at] >= n_open) & self.goes_on(at, today=today)
            further[further] = self.day[at[further] + 1] - self.day[at[further]] <= TAKEN_BACK_DAYS
            if not further.any():
                return at
            at[further] += 1


@dataclass(frozen=True)
class Led:
    """What came of stays: where they led, ``STILL_OPEN`` where they have not ended, and whether the deal still is there."""

    stage: Ints
    stands: NDArray[np.bool_]


def where_it_led(moves: Moves, place: Ints, *, today: int, n_open: int) -> Led:
    """Find out where stays led, as known at the end of a day; closes that were soon taken back are none.

    Such a stay led to where the deal came then; if that is the same stage, it had not ended.

    Parameters
    ----------
    moves : Moves
    place : ndarray of int64, shape (stay,)
        Of the moves with which the stays began.
    today, n_open : int
        Day number, and the number of open stages: their codes are below.

    Examples
    --------
    Stages 0 and 1, won (2) and lost (3): a win; wins taken back to 1 from 0, and from 1; lost after a week; after half a year.

    >>> days = np.array([0, 9, 0, 9, 16, 0, 9, 16, 0, 9, 16, 0, 9, 190])
    >>> deal, stage = np.repeat(np.arange(5), [2, 3, 3, 3, 3]), np.array([1, 2, 0, 2, 1, 1, 2, 1, 1, 2, 3, 1, 2, 3])
    >>> led = where_it_led(Moves(deal, stage, days), np.array([0, 2, 5, 8, 11]), today=200, n_open=2)
    >>> led.stage.tolist(), led.stands.tolist()
    ([2, 1, -1, 3, 2], [True, True, True, True, False])
    """
    ended = moves.goes_on(place, today=today)
    to = moves.settled(place + ended, today=today, n_open=n_open)
    left = ended & (moves.stage[to] != moves.stage[place])
    return Led(np.where(left, moves.stage[to], STILL_OPEN), ended & ~moves.goes_on(to, today=today))


def won_at_once(
    moves: Moves, created: Ints, *, today: int, n_open: int, won: Collection[int]
) -> tuple[Ints, NDArray[np.bool_]]:
    """Find the wins of deals that began with one when they were created, without a stage before.

    Parameters
    ----------
    moves : Moves
    created : ndarray of int64, shape (deal,)
        Day numbers; a night may lie between the two.
    today, n_open : int
    won : collection of int
        Codes of won stages.

    Returns
    -------
    tuple of ndarray
        Places of the moves, and whether the deals are still won.
    """
    deal, stage, day = moves.deal, moves.stage, moves.day
    begins = (np.diff(deal, prepend=-1) != 0) & (stage >= n_open) & (day <= today)
    place = np.flatnonzero(begins & (day - created[deal] <= A_NIGHT))
    at = moves.settled(place, today=today, n_open=n_open)
    at = at[np.isin(stage[at], list(won))]
    return at, ~moves.goes_on(at, today=today)


def moves_of(known: KnownEntries) -> Moves:
    """Entries that change where deals are."""
    return Moves(known.deal[known.moves], known.stage[known.moves], known.day[known.moves])


def stays_of(known: KnownEntries, graph: StageGraph) -> pd.DataFrame:
    """One row per visit of an open stage; ``row`` and ``row_end`` are its first and last entry.

    ``next`` is where it led as far as is known, ``left_for`` what followed at once, closes taken back included; in stays that
    are ``current`` the deal still is.
    """
    moves, made = known.moves, moves_of(known)
    deal, stage, day = made.deal, made.stage, made.day
    ends = np.append(deal[1:] != deal[:-1], True)
    following = np.where(ends, STILL_OPEN, np.append(stage[1:], STILL_OPEN))
    left = np.where(ends, known.today, np.append(day[1:], known.today))
    last = known.last[np.searchsorted(known.last, moves)]
    # the furthest open stage entered before, per deal: terminal stages do not count as progress
    reached = np.where(stage < graph.n_open, stage, -1) + deal * (graph.n_open + 1)
    furthest = np.concatenate([[-1], np.maximum.accumulate(reached)[:-1]]) - deal * (graph.n_open + 1)
    table = pd.DataFrame(
        {
            "deal": deal,
            "stage": stage,
            "next": where_it_led(made, np.arange(len(deal)), today=known.today, n_open=graph.n_open).stage,
            "left_for": following,
            "current": ends,
            "days": left - day,
            "day": day,
            "row": moves,
            "row_end": np.minimum(np.append(moves[1:], len(known.deal)) - 1, last),
            "looped": furthest >= stage,
        }
    )
    return table[stage < graph.n_open].reset_index(drop=True)
