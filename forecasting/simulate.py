"""Play the future of a pipeline forward over posterior draws: deals open now, and deals not created yet.

Draw i uses draw i of every posterior. Results hold integer cents by draw, period and segment; they depend on the seed
and the inputs, never on how the work was cut or where it ran (``tests/forecasting/test_simulate.py``).
"""

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from forecasting.engine.blocks import MEGABYTE, EngineOptions, run_blocks
from forecasting.engine.chances import GroupChances
from forecasting.engine.clock import check_pace, longest_reach
from forecasting.engine.cost import faster_sampler
from forecasting.engine.deal_groups import GroupedDeals, amount_draws, group_deals, slice_groups
from forecasting.engine.new_business import ArrivalKinds, NewTotals
from forecasting.engine.paths import StayRows
from forecasting.engine.tasks import (
    NewTask,
    OpenTask,
    Situation,
    new_totals,
    run_fate_task,
    run_new_task,
    run_path_task,
)
from forecasting.simulation import NewSimulation as NewSimulation
from forecasting.simulation import OpenSimulation as OpenSimulation
from forecasting.simulation import PathSimulation as PathSimulation
from models.errors import SettingsError
from models.hazards import HazardSource

if TYPE_CHECKING:
    from forecasting.data.open_pipeline import OpenPipeline
    from models.amounts import AmountPosterior
    from models.arrivals.model import ArrivalPosterior
    from models.stages import StageGraph

BYTES_PER_GROUP_AND_PERIOD = 16
"""Table of one draw, thresholds of two or more (some megabytes at most)."""


def simulate_open(
    pipeline: "OpenPipeline",
    stage: HazardSource,
    *,
    edges: ArrayLike,
    seed: int,
    draws: int,
    amounts: "AmountPosterior | None" = None,
    options: EngineOptions | None = None,
    pace: NDArray[np.float64] | None = None,
    lost_pace: NDArray[np.float64] | None = None,
) -> OpenSimulation:
    """Simulate which open deals are won when, and for how much.

    Parameters
    ----------
    pipeline : OpenPipeline
    stage : HazardSource
        Posterior of the stage model.
    edges : array_like of int, shape (period,)
        Last forecast day of each period, 1 = the day after the as-of date, ascending.
    seed : int
    draws : int
        Posterior draws to use, the first ones.
    amounts : AmountPosterior, optional
        Without it amounts stay as they are and missing amounts count as zero.
    options : EngineOptions, optional
    pace : ndarray of float64, shape (draw,) or (draw, day), optional
        Days of progress that deals make on forecast day 1, 2, ..., the same on all or day by day: 1 is an ordinary day,
        0 a day on which nothing moves; see :mod:`forecasting.engine.clock`.
    lost_pace : ndarray of float64, same shapes, optional
        Pace at which deals are lost, where that is asked by date: kinds of lost by the horizon, closed by day.

    Returns
    -------
    OpenSimulation

    Raises
    ------
    SettingsError
        Edges not ascending from 1, more draws than a posterior holds, or a pace of fewer draws or days.
    """
    started = time.perf_counter()
    options, days = options or EngineOptions(), check_edges(edges)
    check_pace(lost_pace, draws=draws, days=int(days[-1]), name="lost_pace")
    run = _prepare(pipeline, stage, days, draws=draws, amounts=amounts, pace=pace)
    sampler = faster_sampler(run.deals.arrays, run.situation) if options.sampler == "auto" else options.sampler
    shape = draws, len(days), len(run.deals.segments)
    cents, count = np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=np.int32)
    sums = np.zeros(len(run.deals.arrays.group_cell), dtype=np.int64) if sampler == "fate" else None
    tasks = _open_tasks(run, days, amounts, seed=seed, draws=draws, options=options)
    if sums is not None:
        for fate in run_blocks(run_fate_task, tasks, options, draws=draws):
            cents[fate.draws] += fate.cents
            count[fate.draws] += fate.count
            sums[fate.groups] += fate.win_sum
    else:
        for path in run_blocks(run_path_task, tasks, options, draws=draws):
            cents[path.draws] += path.totals.cents
            count[path.draws] += path.totals.wins
    return OpenSimulation(
        revenue_cents=cents,
        won_count=count,
        edges=days,
        segments=run.deals.segments,
        outcomes=(*pipeline.graph.won, *pipeline.graph.lost, "open"),
        group=run.deals.group_of_deal,
        chances=GroupChances(run.situation, run.deals.arrays, days, draws, options, sums, pace, lost_pace),
        sampler=sampler,
        seconds=time.perf_counter() - started,
    )


def simulate_paths(
    pipeline: "OpenPipeline",
    stage: HazardSource,
    *,
    edges: ArrayLike,
    seed: int,
    draws: int,
    amounts: "AmountPosterior | None" = None,
    options: EngineOptions | None = None,
    pace: NDArray[np.float64] | None = None,
    keep_stays: bool = False,
) -> PathSimulation:
    """Play every open deal stay by stay: where deals are by day, what they re-enter, how long they wait.

    Parameters
    ----------
    pipeline, stage, edges, seed, draws, amounts, options, pace
        As for :func:`simulate_open`, whose path sampler gives the very same revenue. What a deal does within one day of
        progress that is spread over several forecast days, it does at one random moment of it.
    keep_stays : bool
        Keep every stay; memory then grows with deals times draws.

    Returns
    -------
    PathSimulation

    Raises
    ------
    SettingsError
        Edges not ascending from 1, or more draws than a posterior holds.
    """
    started = time.perf_counter()
    options, days = options or EngineOptions(), check_edges(edges)
    run = _prepare(pipeline, stage, days, draws=draws, amounts=amounts, pace=pace)
    graph, shape = pipeline.graph, (draws, len(days))
    cents = np.zeros((*shape, len(run.deals.segments)), dtype=np.int64)
    count = np.zeros(cents.shape, dtype=np.int32)
    moves = np.zeros((*shape, len(graph.stages)), dtype=np.int32)
    entries, returns = (np.zeros((*shape, graph.n_open), dtype=np.int32) for _ in range(2))
    rows: dict[tuple[int, int], StayRows] = {}
    tasks = _open_tasks(run, days, amounts, seed=seed, draws=draws, options=options)
    tasks = [replace(task, tell=True, record=keep_stays) for task in tasks]
    for path in run_blocks(run_path_task, tasks, options, draws=draws):
        cents[path.draws] += path.totals.cents
        count[path.draws] += path.totals.wins
        moves[path.draws] += path.totals.moves
        entries[path.draws] += path.totals.entries
        returns[path.draws] += path.totals.returns
        rows[path.draws.start, path.groups.start] = path.stays
    now = np.bincount(pipeline.deals["stage"].to_numpy(dtype=np.int64), minlength=len(graph.stages))
    stays = _stay_table(pipeline, run.deals, rows) if keep_stays else None
    occupancy = np.cumsum(moves, axis=1, dtype=np.int32) + now.astype(np.int32)
    return PathSimulation(
        cents, count, occupancy, entries, returns, days, run.deals.segments, stays, time.perf_counter() - started
    )


def _stay_table(pipeline: "OpenPipeline", deals: GroupedDeals, rows: dict[tuple[int, int], StayRows]) -> pd.DataFrame:
    """Stays by draw and by deal in the order of the pipeline, whatever the order in which blocks came back."""
    order = np.argsort(deals.group_of_deal, kind="stable")
    first_deal = np.searchsorted(deals.arrays.group, np.arange(len(deals.arrays.group_cell) + 1))
    parts = []
    for (_, group), part in sorted(rows.items()):
        columns = part._asdict()
        columns["deal"] = order[part.deal + first_deal[group]]
        parts.append(pd.DataFrame(columns))
    table = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=list(StayRows._fields))
    table = table.sort_values(["draw", "deal", "entered"], kind="stable", ignore_index=True)
    table["deal"] = pipeline.deals["deal_id"].to_numpy()[table["deal"].to_numpy(dtype=np.int64)]
    return table.rename(columns={"deal": "deal_id", "entered": "entered_day", "left": "left_day"})


def simulate_new(
    arrivals: "ArrivalPosterior",
    stage: HazardSource,
    *,
    graph: "StageGraph",
    edges: ArrayLike,
    seed: int,
    draws: int,
    amounts: "AmountPosterior",
    options: EngineOptions | None = None,
    pace: NDArray[np.float64] | None = None,
) -> NewSimulation:
    """Simulate the revenue of deals created after the as-of date.

    Wins are drawn day by day, so that other edges over the same days only sum them differently; counts of deals created
    and not won depend on the last edge too.

    Parameters
    ----------
    arrivals : ArrivalPosterior
    stage : HazardSource
        Posterior of the stage model.
    graph : StageGraph
    edges : array_like of int, shape (period,)
        Last forecast day of each period, 1 = the day after the as-of date, ascending.
    seed : int
    draws : int
        Posterior draws to use, the first ones.
    amounts : AmountPosterior
    options : EngineOptions, optional
    pace : ndarray of float64, shape (draw,) or (draw, day), optional
        Days of progress that deals make on forecast day 1, 2, ..., as for :func:`simulate_open`. A deal is created at
        the start of its day: by the end of day t, one of day u has made the progress of days u to t. How many are
        created does not depend on it.

    Returns
    -------
    NewSimulation

    Raises
    ------
    SettingsError
        Edges not ascending from 1, or more draws than a posterior holds.
    """
    started = time.perf_counter()
    options, days = options or EngineOptions(), check_edges(edges)
    check_draws(draws, stage.n_draws, amounts.n_draws, arrivals.n_draws)
    used, cell = np.unique(arrivals.combo_cell, return_inverse=True)
    at_once = arrivals.combo_stage >= graph.n_open
    told_apart = np.column_stack([arrivals.combo_group, arrivals.combo_pool, at_once])
    lanes, lane = np.unique(told_apart, axis=0, return_inverse=True)
    group, pool, once = (np.ascontiguousarray(column) for column in lanes.T)
    kinds = ArrivalKinds(cell, arrivals.combo_stage, lane.ravel(), group, pool, once.astype(np.bool_))
    check_pace(pace, draws=draws, days=int(days[-1]))
    reach = longest_reach(pace, draws=draws, days=int(days[-1]))
    situation = Situation(stage, arrivals.cells[used], -1, reach, graph.n_open, len(graph.stages), graph.won_codes)
    shape = draws, len(days), len(arrivals.groups)
    totals = new_totals(*shape)
    tasks = [
        NewTask(
            situation,
            arrivals,
            kinds,
            amount_draws(amounts, np.arange(*block), graph.n_open),
            days,
            None if pace is None else pace[slice(*block)],
            seed,
            *block,
        )
        for block in options.draw_blocks(draws, bytes_per_draw=situation.bytes_per_draw + 16 * shape[1] * shape[2])
    ]
    for part in run_blocks(run_new_task, tasks, options, draws=draws):
        for name in NewTotals._fields:
            getattr(totals, name)[part.draws] = getattr(part.totals, name)
    taken = time.perf_counter() - started
    return NewSimulation(totals.cents, totals.wins, totals.created, days, arrivals.groups, taken, totals.at_once)


def check_edges(edges: ArrayLike) -> NDArray[np.int64]:
    """Period ends as an array.

    Raises
    ------
    SettingsError
        Empty, not whole days, below 1 or not ascending.
    """
    days = np.asarray(edges)
    if days.ndim != 1 or not len(days) or (days != np.floor(days)).any() or days[0] < 1 or (np.diff(days) < 1).any():
        raise SettingsError(f"edges must be ascending forecast days from 1 on, got {edges!r}")
    return days.astype(np.int64)


def check_draws(draws: int, *available: int) -> None:
    """Each posterior must hold as many draws as are asked.

    Raises
    ------
    SettingsError
        Draws below 1 or more than there are.
    """
    if not 1 <= draws <= min(available):
        raise SettingsError(f"draws must be from 1 to {min(available)}, the draws of the posterior; got {draws}")


@dataclass(frozen=True)
class _OpenRun:
    """Open deals and hazards, checked and grouped."""

    deals: GroupedDeals
    situation: Situation
    pace: NDArray[np.float64] | None


def _prepare(
    pipeline: "OpenPipeline",
    stage: HazardSource,
    days: NDArray[np.int64],
    *,
    draws: int,
    amounts: "AmountPosterior | None",
    pace: NDArray[np.float64] | None,
) -> _OpenRun:
    check_draws(draws, stage.n_draws, draws if amounts is None else amounts.n_draws)
    check_pace(pace, draws=draws, days=int(days[-1]))
    graph, deals = pipeline.graph, group_deals(pipeline, amounts)
    reach = longest_reach(pace, draws=draws, days=int(days[-1]))
    codes = graph.n_open, len(graph.stages), graph.won_codes
    return _OpenRun(deals, Situation(stage, deals.cells, deals.max_age, reach, *codes), pace)


def _open_tasks(
    run: _OpenRun,
    days: NDArray[np.int64],
    amounts: "AmountPosterior | None",
    *,
    seed: int,
    draws: int,
    options: EngineOptions,
) -> list[OpenTask]:
    """Cut draws and groups so that each block stays within the budget."""
    situation, deals, n_segments = run.situation, run.deals.arrays, len(run.deals.segments)
    n_groups = len(deals.group_cell)
    chunk = max(1, options.memory_mb * MEGABYTE // (2 * options.workers * BYTES_PER_GROUP_AND_PERIOD * len(days)))
    blocks = options.draw_blocks(draws, bytes_per_draw=situation.bytes_per_draw + 12 * len(days) * n_segments)
    tasks = []
    for start in range(0, n_groups, chunk):
        part = slice_groups(deals, start, min(start + chunk, n_groups))
        for first, last in blocks:
            block_amounts = amount_draws(amounts, np.arange(first, last), situation.n_open)
            pace = None if run.pace is None else run.pace[first:last]
            tasks.append(OpenTask(situation, part, block_amounts, days, pace, seed, n_segments, first, last, start))
    return tasks
