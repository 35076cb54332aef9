"""Play the future of a pipeline forward over posterior draws: deals open now, and deals not created yet.

Draw i uses draw i of every posterior. Results hold integer cents by draw, period and segment; they depend on the seed
and the inputs, never on how the work was cut or where it ran (``tests/forecasting/test_simulate.py``).
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from forecasting.engine.blocks import MEGABYTE, EngineOptions, cut_draws, run_blocks
from forecasting.engine.deal_groups import GroupedDeals, amount_draws, group_deals, slice_groups
from forecasting.engine.details import DetailMeans, close_day_grid, detail_means
from forecasting.engine.fate import MEAN_UNIT, Clock
from forecasting.engine.new_business import ArrivalKinds
from forecasting.engine.tasks import NewTask, OpenTask, Situation, run_new_task, run_open_task
from models.errors import SettingsError
from models.hazards import HazardSource

if TYPE_CHECKING:
    from forecasting.pipeline import OpenPipeline
    from models.amount_model import AmountPosterior
    from models.arrival_model import ArrivalPosterior
    from models.stages import StageGraph

LONG_HORIZON = 3 * 365
"""Days to which the closing of each deal is followed, whatever the forecast horizon."""


@dataclass(frozen=True)
class OpenSimulation:
    """Simulated fate of the open deals.

    Deals alike in cell, stage and days in stage have the same probabilities; these are held once per group and laid
    out by deal, in the order of the pipeline, when asked.

    Parameters
    ----------
    revenue_cents : ndarray of int64, shape (draw, period, segment)
        Cents won within each period.
    won_count : ndarray of int32, shape (draw, period, segment)
    edges : ndarray of int64, shape (period,)
        Last forecast day of each period.
    segments : tuple of str
    outcomes : tuple of str
        Terminal stages in code order, then ``"open"``.
    close_days : ndarray of int64, shape (day,)
        Forecast days of ``group_closed``.
    group : ndarray of int32, shape (deal,)
        Row of each deal in the tables by group.
    group_win : ndarray of float64, shape (group, period)
        Probability to be won by the end of each period, exact, mean over all draws.
    group_outcome : ndarray of float64, shape (group, outcome)
        Probability of each outcome at the horizon; adds up to one.
    group_ever_won : ndarray of float64, shape (group,)
        Probability to be won at any time, hazards of the last lattice day held beyond it.
    group_closed : ndarray of float64, shape (group, day)
        Probability to have ended, won or lost, by each of ``close_days``; mean over ``EngineOptions.detail_draws``
        draws.
    sampler : str
        Sampler that was used.
    seconds : float
        Time it took.
    """

    revenue_cents: NDArray[np.int64]
    won_count: NDArray[np.int32]
    edges: NDArray[np.int64]
    segments: tuple[str, ...]
    outcomes: tuple[str, ...]
    close_days: NDArray[np.int64]
    group: NDArray[np.int32]
    group_win: NDArray[np.float64]
    group_outcome: NDArray[np.float64]
    group_ever_won: NDArray[np.float64]
    group_closed: NDArray[np.float64]
    sampler: str
    seconds: float

    @property
    def win_probability(self) -> NDArray[np.float64]:
        """Probability to be won by the end of each period, shape (deal, period)."""
        return self.group_win[self.group]

    @property
    def outcome_probability(self) -> NDArray[np.float64]:
        """Probability of each of ``outcomes`` at the horizon, shape (deal, outcome)."""
        return self.group_outcome[self.group]

    @property
    def eventual_win_probability(self) -> NDArray[np.float64]:
        """Probability to be won at any time, shape (deal,)."""
        return self.group_ever_won[self.group]

    @property
    def closed_probability(self) -> NDArray[np.float64]:
        """Probability to have ended by each of ``close_days``, shape (deal, day)."""
        return self.group_closed[self.group]


def simulate_open(
    pipeline: "OpenPipeline",
    stage: HazardSource,
    *,
    edges: ArrayLike,
    seed: int,
    draws: int,
    amounts: "AmountPosterior | None" = None,
    options: EngineOptions | None = None,
    effects: NDArray[np.float64] | None = None,
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
    effects : ndarray of float64, shape (draw, stage, slot), optional
        Factor on the hazards of each draw: a shock that lasts.

    Returns
    -------
    OpenSimulation

    Raises
    ------
    SettingsError
        Edges not ascending from 1, or more draws than a posterior holds.
    """
    started = time.perf_counter()
    options = options or EngineOptions()
    days = check_edges(edges)
    check_draws(draws, stage=stage.n_draws, amounts=draws if amounts is None else amounts.n_draws)
    graph = pipeline.graph
    deals = group_deals(pipeline, amounts)
    situation = Situation(
        stage, deals.cells, deals.max_age + int(days[-1]) + 1, len(graph.stages), graph.won_codes, effects
    )
    n_groups, shape = len(deals.arrays.group_cell), (draws, len(days), len(deals.segments))
    cents, count = np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=np.int32)
    win_sum, done = np.zeros((len(days), n_groups), dtype=np.int64), 0
    tasks = _open_tasks(situation, deals, days, seed=seed, draws=draws, amounts=amounts, options=options)
    for result in run_blocks(run_open_task, tasks, options):
        rows = slice(*result.task_draws)
        cents[rows] += result.cents
        count[rows] += result.count
        win_sum[:, result.first_group : result.first_group + result.win_sum.shape[1]] += result.win_sum
        done += (rows.stop - rows.start) * result.win_sum.shape[1]
        if options.progress is not None:
            options.progress(round(done / max(n_groups, 1)), draws)
    win = np.ascontiguousarray(win_sum.T) / (MEAN_UNIT * draws)
    close_days = close_day_grid(int(days[-1]), max(LONG_HORIZON, int(days[-1])))
    details = _open_details(situation, deals, days, draws=draws, close_days=close_days, options=options)
    outcome, ever = _consistent(win[:, -1], details, graph.n_open, graph.won_codes)
    return OpenSimulation(
        revenue_cents=cents,
        won_count=count,
        edges=days,
        segments=deals.segments,
        outcomes=(*graph.won, *graph.lost, "open"),
        close_days=close_days,
        group=deals.group_of_deal,
        group_win=win,
        group_outcome=outcome,
        group_ever_won=ever,
        group_closed=details.closed,
        sampler="fate",
        seconds=time.perf_counter() - started,
    )


@dataclass(frozen=True)
class NewSimulation:
    """Simulated deals that do not exist yet.

    Parameters
    ----------
    revenue_cents : ndarray of int64, shape (draw, period, segment)
        Cents won within each period.
    won_count, created_count : ndarray of int32, shape (draw, period, segment)
        Deals won, and deals created, within each period.
    edges : ndarray of int64, shape (period,)
        Last forecast day of each period.
    segments : tuple of str
    seconds : float
        Time it took.
    """

    revenue_cents: NDArray[np.int64]
    won_count: NDArray[np.int32]
    created_count: NDArray[np.int32]
    edges: NDArray[np.int64]
    segments: tuple[str, ...]
    seconds: float


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
    effects: NDArray[np.float64] | None = None,
) -> NewSimulation:
    """Simulate the revenue of deals created after the as-of date.

    Wins are drawn day by day, so that other edges over the same days only sum them differently.

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
    effects : ndarray of float64, shape (draw, stage, slot), optional
        Factor on the hazards of each draw: a shock that lasts.

    Returns
    -------
    NewSimulation

    Raises
    ------
    SettingsError
        Edges not ascending from 1, or more draws than a posterior holds.
    """
    started = time.perf_counter()
    options = options or EngineOptions()
    days = check_edges(edges)
    check_draws(draws, stage=stage.n_draws, amounts=min(amounts.n_draws, arrivals.n_draws))
    used, cell = np.unique(arrivals.combo_cell, return_inverse=True)
    lanes, lane = np.unique(np.column_stack([arrivals.combo_group, arrivals.combo_pool]), axis=0, return_inverse=True)
    kinds = ArrivalKinds(cell, arrivals.combo_stage, lane.ravel(), lanes[:, 0].copy(), lanes[:, 1].copy())
    situation = Situation(stage, arrivals.cells[used], int(days[-1]), len(graph.stages), graph.won_codes, effects)
    shape = draws, len(days), len(arrivals.groups)
    cents = np.zeros(shape, dtype=np.int64)
    count, created, done = np.zeros(shape, dtype=np.int32), np.zeros(shape, dtype=np.int32), 0
    size = options.draws_per_block(24 * (len(graph.stages) ** 2) * situation.days + 16 * shape[1] * shape[2])
    tasks = (
        NewTask(situation, arrivals, kinds, amount_draws(amounts, np.arange(*block), graph.n_open), days, seed, *block)
        for block in cut_draws(draws, size)
    )
    for result in run_blocks(run_new_task, tasks, options):
        rows = slice(*result.task_draws)
        cents[rows], count[rows], created[rows] = result.cents, result.count, result.created
        done += rows.stop - rows.start
        if options.progress is not None:
            options.progress(done, draws)
    return NewSimulation(cents, count, created, days, arrivals.groups, time.perf_counter() - started)


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


def check_draws(draws: int, *, stage: int, amounts: int) -> None:
    """Each posterior must hold as many draws as are asked.

    Raises
    ------
    SettingsError
        Draws below 1 or more than there are.
    """
    if not 1 <= draws <= min(stage, amounts):
        raise SettingsError(f"draws must be from 1 to {min(stage, amounts)}, the draws of the posterior; got {draws}")


def _open_tasks(
    situation: Situation,
    deals: GroupedDeals,
    edges: NDArray[np.int64],
    *,
    seed: int,
    draws: int,
    amounts: "AmountPosterior | None",
    options: EngineOptions,
) -> Iterator[OpenTask]:
    """Cut draws and groups so that each block stays within the budget."""
    n_stages = len(deals.arrays.group_cell) and int(deals.arrays.group_stage.max()) + 1
    n_open = situation.n_codes  # an upper bound is enough for a budget
    n_segments = len(deals.segments)
    group_bytes = 24 * len(edges)
    chunk = max(1, options.memory_mb * MEGABYTE // (2 * options.workers * group_bytes))
    draw_bytes = 24 * n_open * situation.days * max(n_stages, 2) + 12 * len(edges) * n_segments
    blocks = cut_draws(draws, options.draws_per_block(draw_bytes))
    for first_group in range(0, len(deals.arrays.group_cell), chunk):
        part = slice_groups(deals.arrays, first_group, min(first_group + chunk, len(deals.arrays.group_cell)))
        for first, last in blocks:
            rows = np.arange(first, last)
            clock = Clock(np.tile(edges, (last - first, 1)), np.zeros((last - first, len(edges))))
            block_amounts = amount_draws(amounts, rows, n_open)
            yield OpenTask(situation, part, block_amounts, clock, seed, n_segments, first, last, first_group)


def _open_details(
    situation: Situation,
    deals: GroupedDeals,
    edges: NDArray[np.int64],
    *,
    draws: int,
    close_days: NDArray[np.int64],
    options: EngineOptions,
) -> DetailMeans:
    """Details by group, averaged over evenly spaced draws, one after the other."""
    chosen = np.unique(np.linspace(0, draws - 1, min(options.detail_draws, draws)).round().astype(np.int64))
    reach = deals.max_age + int(close_days[-1]) + 1
    sums: list[DetailMeans] = []
    for block in np.array_split(chosen, max(1, len(chosen) // 8)):
        clock = Clock(np.tile(edges, (len(block), 1)), np.zeros((len(block), len(edges))))
        part = detail_means(
            situation.hazards(block, days=reach),
            deals.arrays,
            clock,
            n_codes=situation.n_codes,
            won_codes=situation.won_codes,
            close_days=close_days,
        )
        sums.append(DetailMeans(*(len(block) * mean for mean in part)))
    return DetailMeans(*(sum(values) / len(chosen) for values in zip(*sums, strict=True)))


def _consistent(
    win: NDArray[np.float64], details: DetailMeans, n_open: int, won_codes: tuple[int, ...]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Outcome shares and P(ever won) that agree with the win probability over all draws.

    Details are averaged over fewer draws; they tell how the won, and the not won, divide.
    """
    won = [code - n_open for code in won_codes]
    thin_win = details.ended[:, won].sum(axis=1)
    outcome = np.empty((len(win), details.ended.shape[1] + 1))
    not_won = np.where(thin_win < 1.0, (1.0 - win) / np.maximum(1.0 - thin_win, 1e-300), 0.0)
    outcome[:, :-1] = details.ended * not_won[:, None]
    within = np.divide(
        details.ended[:, won],
        thin_win[:, None],
        where=thin_win[:, None] > 0.0,
        out=np.full((len(win), len(won)), 1.0 / len(won)),
    )
    outcome[:, won] = within * win[:, None]
    outcome[:, -1] = np.maximum(1.0 - outcome[:, :-1].sum(axis=1), 0.0)
    return outcome, win + np.maximum(details.ever_won - thin_win, 0.0) * not_won
