"""The stage history as the model sees it: how often each distinct stay occurred.

A *stay* is one visit of a deal to an open stage. The likelihood depends on the stays only through the number of times each
(cell, stage, next, days) occurs, so ten million deals cost the model no more than twenty thousand.

``days`` is a difference of dates. A stay that ended after ``d`` days left on the date ``entered + d``; a stay still open at
the end of the as-of date after ``d`` days outlasted the days 0..d, so its contribution is P(days > d).
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from models.errors import SettingsError
from models.stages import StageGraph

STILL_OPEN = -1
"""Code in ``next`` of a stay that had not ended at the as-of date."""
UNSEEN_LEVEL = -1
"""Level code of a factor value that the history does not contain."""
COUNT_COLUMNS = ("cell", "stage", "next", "days", "count")


@dataclass(frozen=True)
class Factor:
    """A categorical property of deals that changes how they move: a segment, or a covariate cut into classes.

    Parameters
    ----------
    name : str
        Column name, for instance ``region`` or ``amount_class``.
    levels : tuple of str
        Values seen in the history; the level code is the place in this tuple.
    edges : tuple of float
        Upper class edges (exclusive) when the factor is a number cut into ``len(edges) + 1`` classes, lowest class first;
        empty for a categorical factor. A further last level ``missing`` holds deals without the number.
    places : tuple of float or None
        Where the levels lie on a line along which effects may rise or fall: of mean zero and variance one over the levels
        on it, None for one that is on none, such as ``missing``; empty where no level is.
    """

    name: str
    levels: tuple[str, ...]
    edges: tuple[float, ...] = ()
    places: tuple[float | None, ...] = ()


@dataclass(frozen=True)
class StageHistory:
    """Counts of distinct stays; all that fitting the stage model needs.

    Parameters
    ----------
    graph : StageGraph
    counts : DataFrame
        Integer columns ``cell``, ``stage`` (open stage code), ``next`` (stage code or ``STILL_OPEN``), ``days`` and
        ``count``; one row per distinct stay. Stays seen from a later day on only are taken off the count of those that
        outlasted the day before it: sums over stays, the log-likelihood included, then speak of the days seen.
    factors : tuple of Factor
        Empty when deals are not told apart.
    cells : ndarray of int, shape (cell, factor)
        Level code of each factor in each cell; one row and no column when there is no factor.
    """

    graph: StageGraph
    counts: pd.DataFrame
    factors: tuple[Factor, ...]
    cells: NDArray[np.int32]

    def __post_init__(self) -> None:
        if tuple(self.counts.columns) != COUNT_COLUMNS:
            raise SettingsError(f"counts must have the columns {COUNT_COLUMNS}, got {tuple(self.counts.columns)}")
        if self.cells.shape != (max(len(self.cells), 1), len(self.factors)):
            raise SettingsError(f"cells must have one column per factor ({len(self.factors)}), got {self.cells.shape}")

    @cached_property
    def n_stays(self) -> int:
        """Number of stays behind the counts."""
        return int(self.counts["count"].clip(lower=0).sum())

    def exits(self, stage: int) -> tuple[int, ...]:
        """Codes of the stages that deals were seen to go to from ``stage``, in code order."""
        rows = self.counts[(self.counts["stage"] == stage) & (self.counts["next"] != STILL_OPEN)]
        return tuple(int(code) for code in sorted(rows["next"].unique()))


def count_stays(stays: pd.DataFrame) -> pd.DataFrame:
    """Count distinct stays.

    Parameters
    ----------
    stays : DataFrame
        One row per stay with integer columns ``cell``, ``stage``, ``next``, ``days``, and ``days_unseen`` where some were
        not watched from their first day on; others are ignored.

    Returns
    -------
    DataFrame
        Columns ``cell``, ``stage``, ``next``, ``days``, ``count``, sorted; int64.

    Examples
    --------
    >>> stays = pd.DataFrame({"cell": [0, 0, 0], "stage": [0, 0, 0], "next": [1, 1, -1], "days": [3, 3, 9]})
    >>> count_stays(stays).values.tolist()
    [[0, 0, -1, 9, 1], [0, 0, 1, 3, 2]]
    >>> count_stays(stays.assign(days_unseen=[2, 0, 0])).values.tolist()
    [[0, 0, -1, 1, -1], [0, 0, -1, 9, 1], [0, 0, 1, 3, 2]]
    """
    keys, unseen = list(COUNT_COLUMNS[:-1]), unseen_days(stays)
    counted = stays.groupby(keys, sort=True).size().rename("count").reset_index()
    if unseen.any():
        before = stays.assign(next=STILL_OPEN, days=unseen - 1)[unseen > 0]
        taken_off = before.groupby(keys, sort=True).size().rename("count").reset_index()
        both = pd.concat([counted, taken_off.assign(count=-taken_off["count"])])
        counted = both.groupby(keys, sort=True)["count"].sum().reset_index()
    return counted[counted["count"] != 0].astype(np.int64).reset_index(drop=True)


def unseen_days(stays: pd.DataFrame) -> NDArray[np.int64]:
    """First days of each stay that nobody watched: its column ``days_unseen``, 0 without one."""
    if "days_unseen" not in stays:
        return np.zeros(len(stays), dtype=np.int64)
    return stays["days_unseen"].to_numpy(dtype=np.int64)
