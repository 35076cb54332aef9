"""Exits by date against what the fitted hazards expect of the stays that were running."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numba import njit
from numpy.typing import NDArray

from models.hazards import HazardSource
from models.history import STILL_OPEN, unseen_days

if TYPE_CHECKING:
    from models.stages import StageGraph

Floats = NDArray[np.float64]
KINDS = ("won", "lost", "on")
"""Kinds of exits: to a won stage, to a lost one, and on to another open stage."""
MEAN_DRAWS = 32
"""Draws the mean hazards are taken over; their mean is within a fifth of a posterior sd of that of all draws."""
DRAWS_AT_A_TIME = 4
WEEK = 7


@dataclass(frozen=True)
class DatedExits:
    """Exits of each kind by date.

    Parameters
    ----------
    first : datetime64
        The first date; the others follow day by day.
    seen, expected : ndarray of float64, shape (date, kind)
        Exits that happened, and those the fitted hazards expect of the stays running on the date.
    """

    first: np.datetime64
    seen: Floats
    expected: Floats

    @property
    def days(self) -> NDArray[np.datetime64]:
        """The dates."""
        return np.asarray(self.first + np.arange(len(self.seen)).astype("timedelta64[D]"))

    def weekly_expected(self) -> Floats:
        """Give the expected exits per day of the week around each date, shape (date, kind).

        Who is at risk on a date depends on weekdays itself: few deals move on at weekends, so few are there to be won
        on the same day. Forecasts let deals move on an even clock, hence a weight has to carry both.
        """
        return mean_around(self.expected, WEEK)


def mean_around(values: Floats, days: int) -> Floats:
    """Mean over a stretch of days around each one, at the ends over the first and the last such stretch.

    Parameters
    ----------
    values : ndarray of float64, shape (date, ...)
    days : int
        Length of a stretch.

    Examples
    --------
    >>> mean_around(np.array([3.0, 0.0, 0.0, 6.0]), 3).tolist()
    [1.0, 1.0, 2.0, 2.0]
    """
    span = min(days, len(values))
    total = np.concatenate([np.zeros_like(values[:1]), np.cumsum(values, axis=0)])
    start = np.clip(np.arange(len(values)) - span // 2, 0, len(values) - span)
    return np.asarray((total[start + span] - total[start]) / span)


def dated_exits(stays: pd.DataFrame, source: HazardSource, cells: NDArray[np.int32], graph: "StageGraph") -> DatedExits:
    """Count exits by date and kind, and what the mean hazards expect.

    Parameters
    ----------
    stays : DataFrame
        One row per stay: ``cell``, ``stage``, ``next``, ``days``, ``entered_on``, and ``days_unseen`` if some were not
        watched from their first day on; not empty.
    source : HazardSource
        Posterior of the stage model.
    cells : ndarray of int32, shape (cell, factor)
    graph : StageGraph

    Returns
    -------
    DatedExits
        From the first to the last day any stay was seen.
    """
    days = stays["days"].to_numpy(dtype=np.int64)
    entered, unseen = stays["entered_on"].to_numpy().astype("datetime64[D]"), unseen_days(stays)
    first = (entered + unseen.astype("timedelta64[D]")).min()
    day = (entered - first).astype(np.int64)
    n_dates = int((day + days).max()) + 1
    next_stage, base, effect = _mean_hazards(source, int(days.max()) + 1, cells)
    kind_of = np.full(len(graph.stages) + 1, -1)  # the last place stands for a stay still open, and for no exit
    kind_of[: len(graph.stages)] = [
        KINDS.index("won" if code in graph.won_codes else "on" if graph.is_open(code) else "lost")
        for code in range(len(graph.stages))
    ]
    expected = np.zeros((n_dates, len(KINDS)))
    stage, cell = stays["stage"].to_numpy(dtype=np.int64), stays["cell"].to_numpy(dtype=np.int64)
    _add_expected(stage, cell, day, days, unseen, kind_of[next_stage], base, effect, expected)
    seen = np.zeros_like(expected)
    following = stays["next"].to_numpy(dtype=np.int64)
    ended = following != STILL_OPEN
    np.add.at(seen, ((day + days)[ended], kind_of[following[ended]]), 1.0)
    return DatedExits(first, seen, expected)


def _mean_hazards(
    source: HazardSource, days: int, cells: NDArray[np.int32]
) -> tuple[NDArray[np.int16], Floats, Floats]:
    """Give exits (stage, slot), mean base hazards (stage, slot, day) and mean effects (cell, stage, slot)."""
    draws = np.unique(np.linspace(0, source.n_draws - 1, MEAN_DRAWS).astype(np.int64))
    parts = np.array_split(draws, max(1, len(draws) // DRAWS_AT_A_TIME))
    first = source.lattice(parts[0], days=days, cells=cells)
    base, effect = first.base.sum(axis=0), first.effect.sum(axis=0)
    for some in parts[1:]:
        part = source.lattice(some, days=days, cells=cells)
        base += part.base.sum(axis=0)
        effect += part.effect.sum(axis=0)
    return first.next_stage, base / len(draws), effect / len(draws)


@njit(cache=True)
def _add_expected(
    stage: NDArray[np.int64],
    cell: NDArray[np.int64],
    day: NDArray[np.int64],
    days: NDArray[np.int64],
    unseen: NDArray[np.int64],
    kind: NDArray[np.int64],
    base: Floats,
    effect: Floats,
    out: Floats,
) -> None:
    """Add every stay's chances to leave on each of its days to ``out[date, kind]``."""
    rate = np.empty(out.shape[1])
    for i in range(len(stage)):
        k = stage[i]
        for d in range(unseen[i], days[i] + 1):
            rate[:] = 0.0
            total = 0.0
            for s in range(kind.shape[1]):
                if kind[k, s] >= 0:
                    hazard = base[k, s, d] * effect[cell[i], k, s]
                    rate[kind[k, s]] += hazard
                    total += hazard
            if total > 0.0:
                share = -np.expm1(-total) / total
                for c in range(len(rate)):
                    out[day[i] + d, c] += rate[c] * share
