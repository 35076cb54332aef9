"""Since when deals leave a stage as they do now: a stage that was put in between, or taken out, changes the rules.

Where a legal review was put between negotiation and winning, nobody is won from negotiation any more, and all that was
seen of it before speaks of another process. The sign of it: an exit that a good part of the deals now take was taken by
next to none before, though a dozen should have. That alone says so of exits to open stages. Wins and losses have seasons:
a new exit to them counts where at the same time one to an open stage is taken no more. What is learned of the stage then
starts there, as if earlier days had not been seen (:mod:`forecasting.data.beginning`): that is right whatever the reason
was, and costs what the earlier days would have told.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from forecasting.data.beginning import BEFORE_ALL, LARGEST_SHARE, last_missing
from forecasting.data.known_entries import NEVER, date_of

Ints = NDArray[np.int64]

LEAST_TAKEN, LEAST_SHARE = 10, 0.25
"""Days on which an exit was taken, and its part of all exits then, from which on it makes the rules."""
SAME_TIME_DAYS, SLOW, CROWD = 45, 3.0, 3.0


def process_changes(*, stage: Ints, following: Ints, entered: Ints, left: Ints, n_open: int) -> Ints:
    """Last day before deals left each open stage as they do now, ``BEFORE_ALL`` where they always did.

    Parameters
    ----------
    stage, following : ndarray of int64, shape (stay,)
        Open stage codes, and codes of the stages that followed, negative in stays that have not ended.
    entered, left : ndarray of int64, shape (stay,)
        Day numbers.
    n_open : int
        Codes below are open stages.

    Returns
    -------
    ndarray of int64, shape (n_open,)

    Examples
    --------
    Deals go from stage 0 to won (2), from day 100 on to stage 1.

    >>> left = np.arange(200)
    >>> codes = np.where(left < 100, 2, 1)
    >>> process_changes(stage=0 * left, following=codes, entered=left - 5, left=left, n_open=2).tolist()[0]
    99
    """
    ended = np.flatnonzero(following >= 0)
    in_time = ended[np.argsort(left[ended], kind="stable")]
    found = np.full(n_open, BEFORE_ALL, dtype=np.int64)
    for code in range(n_open):
        rows = in_time[stage[in_time] == code]
        found[code] = _change_of(following[rows], entered[rows], left[rows], n_open)
    return found


def what_changes_mean(changed: Ints, stages: Sequence[str]) -> list[str]:
    """Say what was found.

    Examples
    --------
    >>> what_changes_mean(np.array([BEFORE_ALL, 20000]), ("Lead", "Offer"))[0][:55]
    'deals leave the stage Offer in other ways since 2024-10'
    """
    return [
        f"deals leave the stage {stages[code]} in other ways since {date_of(int(changed[code]) + 1)}, as if a stage had been "
        "put in or taken out: what was before is not learned from. If a stage was only renamed, use one name for both"
        for code in np.flatnonzero(changed > BEFORE_ALL).tolist()
    ]


def _change_of(exits: Ints, entered: Ints, day: Ints, n_open: int) -> int:
    """Last day before a stage's exits, in order of time, are as they are now.

    An exit that takes long to come is not new because a young history has not had it yet.
    """
    if len(exits) == 0:
        return BEFORE_ALL
    latest, start, spent = BEFORE_ALL, entered.min(), day - entered
    usual = _without_crowds(exits, day)
    exits, day, spent = exits[usual], day[usual], spent[usual]
    kinds = np.flatnonzero([len(_counts(day[exits == kind])) >= LEAST_TAKEN for kind in range(exits.max() + 1)])
    vanished = [_first_taken(exits[::-1] == kind, -day[::-1]) for kind in kinds if kind < n_open]
    ends = [-each for each in vanished if each < NEVER]
    for kind in kinds:
        begins = _first_taken(exits == kind, day)
        if begins == NEVER or begins < start + SLOW * np.median(spent[exits == kind]):
            continue
        together = [end for end in ends if abs(end - begins) <= SAME_TIME_DAYS]
        if kind < n_open or together:
            latest = max(latest, begins - 1, *together)
    return latest


def _without_crowds(exits: Ints, day: Ints) -> NDArray[np.bool_]:
    """Leave out what is far more than a day's exits, as when fifty old deals are given up together."""
    most = CROWD * np.median(_counts(day))
    kept = np.ones(len(exits), dtype=bool)
    for kind in range(exits.max() + 1):
        rows = np.flatnonzero(exits == kind)
        counts = _counts(day[rows])
        rank = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
        kept[rows] = rank < most
    return kept


def _counts(day: Ints) -> Ints:
    """How often each day comes in days in order of time."""
    starts = np.flatnonzero(np.diff(day, prepend=day[:1] - 1))
    return np.diff(np.append(starts, len(day)))


def _first_taken(taken: NDArray[np.bool_], day: Ints) -> int:
    """Day from which on an exit is taken that was not before, ``NEVER`` if it always was."""
    place = np.flatnonzero(taken)
    share = taken[place[len(place) // 2] :].mean()
    few = place[: int(LARGEST_SHARE * len(place)) + 1]
    found = last_missing(share * few, np.arange(len(few)))
    return NEVER if share < LEAST_SHARE or found is None else int(day[few[found]])
