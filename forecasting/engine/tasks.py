"""One block of draws, of open deals or of new business: what a worker needs, and what it runs."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from forecasting.engine.amounts import AmountDraws, DealArrays
from forecasting.engine.clock import clock_at, lattice_reach, progress_by_day
from forecasting.engine.fate import fate_block
from forecasting.engine.new_business import ArrivalKinds, NewTotals, new_block
from forecasting.engine.paths import PathTotals, StayRows, path_block
from models.arrivals.model import ArrivalPosterior, daily_intensity
from models.hazards import HazardSource, LatticeHazards


@dataclass(frozen=True)
class Situation:
    """What all blocks share: hazards and how to look at them.

    Parameters
    ----------
    source : HazardSource
    cells : ndarray of int32, shape (cell, factor)
    age : int
        Most days any deal has spent in its stage, -1 without deals.
    reach : int
        Most days of progress that any draw begins by the end of the forecast.
    n_open, n_codes : int
        Number of open stages, and of all stage codes.
    won_codes : tuple of int
    """

    source: HazardSource
    cells: NDArray[np.int32]
    age: int
    reach: int
    n_open: int
    n_codes: int
    won_codes: tuple[int, ...]

    @property
    def days(self) -> int:
        """Days of a stay that the lattice must reach."""
        return self.age + self.reach + 2

    def hazards(self, draws: NDArray[np.int64], progress: NDArray[np.float64]) -> LatticeHazards:
        """Hazards of some draws, as far as their own clocks take them."""
        days = self.age + lattice_reach(progress) + 2
        given = self.source.lattice(draws, days=days, cells=self.cells)
        return LatticeHazards(
            np.ascontiguousarray(given.next_stage, dtype=np.int16),
            np.ascontiguousarray(given.base, dtype=np.float64),
            np.ascontiguousarray(given.effect, dtype=np.float64),
        )

    @property
    def bytes_per_draw(self) -> int:
        """Memory for the hazards of a draw, copies included, if every stage leads to every other."""
        return 24 * self.n_open * (self.n_codes - 1) * (self.days + len(self.cells))

    def win_value(self) -> NDArray[np.float64]:
        """One at the won codes, zero elsewhere, shape (code,)."""
        return np.isin(np.arange(self.n_codes), self.won_codes).astype(np.float64)


@dataclass(frozen=True)
class OpenTask:
    """Draws ``first .. last - 1`` of some groups of deals, ``first_group`` being the first of them.

    ``pace`` is that of these draws, None where time is uniform. Of paths, ``tell`` asks for moves, entries and returns,
    ``record`` for the stays themselves.
    """

    situation: Situation
    deals: DealArrays
    amounts: AmountDraws
    edges: NDArray[np.int64]
    pace: NDArray[np.float64] | None
    seed: int
    n_segments: int
    first: int
    last: int
    first_group: int = 0
    tell: bool = False
    record: bool = False

    @property
    def draws(self) -> slice:
        """Rows of the result."""
        return slice(self.first, self.last)

    def progress(self) -> NDArray[np.float64]:
        """Days of progress by forecast day, shape (draw, 1 + day)."""
        return progress_by_day(self.pace, np.arange(self.last - self.first), days=int(self.edges[-1]))


@dataclass(frozen=True)
class FateResult:
    """Sums of one task: ``cents`` and ``count`` by (draw, period, segment), ``win_sum`` by group."""

    draws: slice
    groups: slice
    cents: NDArray[np.int64]
    count: NDArray[np.int32]
    win_sum: NDArray[np.int64]


@dataclass(frozen=True)
class PathResult:
    """Sums of one task, and its stays if they were recorded."""

    draws: slice
    groups: slice
    totals: PathTotals
    stays: StayRows


def run_fate_task(task: OpenTask) -> FateResult:
    """Simulate one block with the fate sampler."""
    progress = task.progress()
    hazards = task.situation.hazards(np.arange(task.first, task.last), progress)
    n_periods, n_groups = len(task.edges), len(task.deals.group_cell)
    cents = np.zeros((task.last - task.first, n_periods, task.n_segments), dtype=np.int64)
    count = np.zeros(cents.shape, dtype=np.int32)
    win_sum = np.zeros(n_groups, dtype=np.int64)
    fate_block(
        hazards.base,
        hazards.effect,
        hazards.next_stage,
        task.situation.win_value(),
        task.deals,
        task.amounts,
        clock_at(progress, task.edges),
        task.seed,
        task.first,
        cents,
        count,
        win_sum,
    )
    return FateResult(task.draws, slice(task.first_group, task.first_group + n_groups), cents, count, win_sum)


def run_path_task(task: OpenTask) -> PathResult:
    """Simulate one block with the path sampler."""
    situation, progress = task.situation, task.progress()
    hazards = situation.hazards(np.arange(task.first, task.last), progress)
    shape = task.last - task.first, len(task.edges)
    totals = PathTotals(
        np.zeros((*shape, task.n_segments), dtype=np.int64),
        np.zeros((*shape, task.n_segments), dtype=np.int32),
        np.zeros((*shape, situation.n_codes if task.tell else 0), dtype=np.int32),
        np.zeros((*shape, situation.n_open if task.tell else 0), dtype=np.int32),
        np.zeros((*shape, situation.n_open if task.tell else 0), dtype=np.int32),
    )
    stays = path_block(
        hazards.base,
        hazards.effect,
        hazards.next_stage,
        situation.win_value(),
        task.deals,
        task.amounts,
        np.searchsorted(task.edges, np.arange(task.edges[-1] + 1)),
        progress,
        task.seed,
        task.first,
        totals,
        task.record,
    )
    groups = slice(task.first_group, task.first_group + len(task.deals.group_cell))
    return PathResult(task.draws, groups, totals, stays)


@dataclass(frozen=True)
class NewTask:
    """Draws ``first .. last - 1`` of new business over periods that end on the days ``edges``."""

    situation: Situation
    arrivals: ArrivalPosterior
    kinds: ArrivalKinds
    amounts: AmountDraws
    edges: NDArray[np.int64]
    pace: NDArray[np.float64] | None
    seed: int
    first: int
    last: int


def new_totals(draws: int, periods: int, segments: int) -> NewTotals:
    """Totals of nothing yet."""
    shape = draws, periods, segments
    cents, at_once = (np.zeros(shape, dtype=np.int64) for _ in range(2))
    wins, created = (np.zeros(shape, dtype=np.int32) for _ in range(2))
    return NewTotals(cents, at_once, wins, created)


@dataclass(frozen=True)
class NewResult:
    """Sums of one task."""

    draws: slice
    totals: NewTotals


def run_new_task(task: NewTask) -> NewResult:
    """Simulate one block of new business."""
    draws = np.arange(task.first, task.last)
    progress = progress_by_day(task.pace, draws - task.first, days=int(task.edges[-1]))
    hazards = task.situation.hazards(draws, progress)
    intensity = daily_intensity(task.arrivals, days=int(task.edges[-1]), draws=draws, seed=task.seed)
    totals = new_totals(len(draws), len(task.edges), len(task.arrivals.groups))
    new_block(
        hazards.base,
        hazards.effect,
        hazards.next_stage,
        task.situation.win_value(),
        task.kinds,
        np.ascontiguousarray(task.arrivals.mix[draws]),
        intensity,
        task.amounts.pool,
        task.amounts.pool_start,
        task.amounts.scale,
        task.edges,
        progress,
        task.seed,
        task.first,
        totals,
    )
    return NewResult(slice(task.first, task.last), totals)
