"""Stage entries known at the end of a business date, and the stays they make up."""

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
a win has counted in its period, and a loss that comes back is new business."""
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


def where_it_led(stage: Ints, left_for: Ints, then: Ints, days_closed: Ints, *, n_open: int) -> Ints:
    """Codes of the stages to which stays led, where closes that were soon taken back are none.

    Such a stay led to where the deal came then; if that is the same stage, it had not ended.

    Parameters
    ----------
    stage, left_for, then : ndarray of int64, shape (stay,)
        The open stage, the one that followed, and the one after that; ``STILL_OPEN`` where nothing followed.
    days_closed : ndarray of int64, shape (stay,)
        Days from the one to the other.
    n_open : int
        Codes below are open stages.

    Returns
    -------
    ndarray of int64, shape (stay,)
        ``STILL_OPEN`` where the stay has not ended, or was taken up again.

    Examples
    --------
    Stages 0 and 1, won (2) and lost (3): a win; wins taken back to 1 from 0, and from 1; lost after a week; after half a year.

    >>> stage, then = np.array([1, 0, 1, 1, 1]), np.array([-1, 1, 1, 3, 3])
    >>> where_it_led(stage, np.full(5, 2), then, np.array([0, 7, 7, 7, 180]), n_open=2).tolist()
    [2, 1, -1, 3, 2]
    """
    taken_back = (left_for >= n_open) & (then != STILL_OPEN) & (days_closed <= TAKEN_BACK_DAYS)
    led = np.where(taken_back, then, left_for)
    return np.where(led == stage, STILL_OPEN, led)


def stays_of(known: KnownEntries, graph: StageGraph) -> pd.DataFrame:
    """One row per visit of an open stage; ``row`` and ``row_end`` are its first and last entry.

    ``next`` is where it led as far as is known, ``left_for`` what followed at once, closes taken back included; in stays that
    are ``current`` the deal still is.
    """
    moves = known.moves
    deal, stage, day = known.deal[moves], known.stage[moves], known.day[moves]
    ends = np.append(deal[1:] != deal[:-1], True)
    following = np.where(ends, STILL_OPEN, np.append(stage[1:], STILL_OPEN))
    then = np.where(ends, STILL_OPEN, np.append(following[1:], STILL_OPEN))
    left = np.where(ends, known.today, np.append(day[1:], known.today))
    days_closed, last = np.append(left[1:], known.today) - left, known.last[np.searchsorted(known.last, moves)]
    # the furthest open stage entered before, per deal: terminal stages do not count as progress
    reached = np.where(stage < graph.n_open, stage, -1) + deal * (graph.n_open + 1)
    furthest = np.concatenate([[-1], np.maximum.accumulate(reached)[:-1]]) - deal * (graph.n_open + 1)
    table = pd.DataFrame(
        {
            "deal": deal,
            "stage": stage,
            "next": where_it_led(stage, following, then, days_closed, n_open=graph.n_open),
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


def begins_with_win(deal: Ints, stage: Ints, day: Ints, *, created: Ints, graph: StageGraph) -> NDArray[np.bool_]:
    """Find the moves with which a deal began as won, on the day it was created; moves of a deal follow each other.

    Parameters
    ----------
    deal, stage, day : ndarray of int64, shape (move,)
    created : ndarray of int64, shape (deal,)
        Day numbers.
    graph : StageGraph

    Returns
    -------
    ndarray of bool, shape (move,)
    """
    first = np.diff(deal, prepend=-1) != 0
    return np.asarray(first & np.isin(stage, graph.won_codes) & (day == created[deal]))
