"""One row per open deal: how likely it is won, when it closes, whether it has stalled, how much the target hangs on it.

The *swing* of a deal is what its fate changes in the probability of reaching the target,

    P(target | this deal is won by the target date) - P(target | it is not),

over the very draws of the forecast: the deal's own cents are taken out of each draw's total, and put in whether it won
there or not. Draws, random numbers and amounts are those of the simulation, so nothing is simulated twice
(``tests/forecasting/test_forecast.py`` adds the deals up to the forecast again). Chances by the target date alone are
rounded otherwise than those of every day, which changes one fate in some ten million.
"""

import math
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from forecasting.answers.revenue import Span, cents_in, target_cents
from forecasting.engine.amounts import AmountDraws, DealArrays, amount_keys, most_per_unit, win_cents
from forecasting.engine.blocks import EngineOptions, cut_draws, evenly_spaced, run_blocks
from forecasting.engine.clock import Clock, clock_at, lattice_reach, progress_by_day
from forecasting.engine.compiled import jit_kernel
from forecasting.engine.deal_groups import GroupedDeals, amount_draws, group_deals, pick_groups
from forecasting.engine.fate import threshold, win_probabilities
from forecasting.engine.streams import STEP_FATE, half, mix, pair_key
from models.hazards import HazardSource

if TYPE_CHECKING:
    from forecasting.answers.forecasts import Forecast
    from forecasting.data.open_pipeline import OpenPipeline
    from forecasting.simulate import OpenSimulation

COLUMNS = (
    "deal_id",
    "stage",
    "days_in_stage",
    "amount",
    "win_probability",
    "win_probability_by_until",
    "close_date_p10",
    "close_date_p50",
    "close_date_p90",
    "stall_percentile",
    "target_swing",
)
"""Columns of the table, in order."""
CLOSE_QUANTILES = {"close_date_p10": 0.1, "close_date_p50": 0.5, "close_date_p90": 0.9}
STALL_DRAWS = 100
"""Draws, evenly spaced, that the stall percentile is averaged over."""
DRAW_BLOCK = 32
"""Draws whose hazards are in memory at a time; even, and of no influence on any number."""


def deal_table(
    pipeline: "OpenPipeline", stage: HazardSource, simulation: "OpenSimulation", *, draws: int
) -> pd.DataFrame:
    """All of ``COLUMNS`` but the swing, one row per open deal in the order of the pipeline.

    Parameters
    ----------
    pipeline : OpenPipeline
    stage : HazardSource
    simulation : OpenSimulation
        Of this pipeline, its last edge the end of the forecast.
    draws : int
        Draws of the simulation.
    """
    deals = pipeline.deals
    names = np.array(pipeline.graph.open, dtype=object)
    table = pd.DataFrame(
        {
            "deal_id": deals["deal_id"].to_numpy(),
            "stage": names[deals["stage"].to_numpy(dtype=np.int64)],
            "days_in_stage": deals["days_in_stage"].to_numpy(dtype=np.int64),
            "amount": deals["amount"].to_numpy(dtype=float),
            "win_probability": simulation.eventual_win_probability,
            "win_probability_by_until": simulation.win_probability_by_end,
        }
    )
    as_of = pd.Timestamp(pipeline.as_of)
    for column, level in CLOSE_QUANTILES.items():
        days = close_days(simulation.group_closed, simulation.close_days, level=level)[simulation.group]
        table[column] = as_of + pd.to_timedelta(pd.Series(days).astype("Int64"), unit="D")
    table["stall_percentile"] = stall_percentile(pipeline, stage, draws=draws)
    return table


def close_days(closed: NDArray[np.float64], days: NDArray[np.int64], *, level: float) -> NDArray[np.float64]:
    """First day by which a deal is closed with probability ``level``, NaN beyond the last day.

    Parameters
    ----------
    closed : ndarray of float64, shape (deal, day)
        Probability to be closed by each of ``days``; between two of them it is taken to rise in equal daily steps.
    days : ndarray of int64, shape (day,)
    level : float

    Examples
    --------
    >>> close_days(np.array([[0.2, 0.6], [0.0, 0.1]]), np.array([1, 5]), level=0.5).tolist()
    [4.0, nan]
    """
    reached = closed >= level
    after = reached.argmax(axis=1)
    before, rows = np.maximum(after - 1, 0), np.arange(len(closed))
    low, high = closed[rows, before], closed[rows, after]
    rise = np.where(high > low, high - low, 1.0)
    day = days[before] + np.ceil(np.maximum(level - low, 0.0) / rise * (days[after] - days[before]) - 1e-9)
    return np.where(reached.any(axis=1), np.where(after == 0, days[0], day), np.nan)


def stall_percentile(pipeline: "OpenPipeline", stage: HazardSource, *, draws: int) -> NDArray[np.float64]:
    """Share of stays in a deal's stage, and cell, that have ended by the deal's age: P(days <= days_in_stage)."""
    deals = pipeline.deals
    if deals.empty:
        return np.zeros(0)
    cell, code, age = (deals[name].to_numpy(dtype=np.int64) for name in ("cell", "stage", "days_in_stage"))
    alike, deal = np.unique(np.column_stack([cell, code, age]), axis=0, return_inverse=True)
    ended = np.zeros(len(alike))
    chosen = evenly_spaced(draws, STALL_DRAWS)
    for first, last in cut_draws(len(chosen), DRAW_BLOCK):
        hazards = stage.lattice(chosen[first:last], days=int(age.max()) + 1, cells=pipeline.cells)
        _add_share_ended(np.ascontiguousarray(hazards.base), hazards.effect, alike, ended)
    return (ended / len(chosen))[deal.ravel()]


@jit_kernel
def _add_share_ended(
    base: NDArray[np.float64], effect: NDArray[np.float64], alike: NDArray[np.int64], ended: NDArray[np.float64]
) -> None:
    """Add the share of stays ended by the age of each row (cell, stage, age), draw by draw."""
    n_draws, n_stages, n_slots, n_days = base.shape
    passed = np.empty((n_stages, n_slots, n_days))
    for i in range(n_draws):
        for k in range(n_stages):
            for s in range(n_slots):
                passed[k, s] = np.cumsum(base[i, k, s])
        for row in range(len(alike)):
            cell, k, age = alike[row]
            hazard = 0.0
            for s in range(n_slots):
                hazard += passed[k, s, age] * effect[i, cell, k, s]
            ended[row] -= math.expm1(-hazard)


def with_swing(forecast: "Forecast", span: Span, *, target: float | None = None) -> pd.DataFrame:
    """Deal table with ``target_swing``, by deal id as in the pipeline.

    Parameters
    ----------
    forecast : Forecast
    span : Span
        Days whose revenue counts towards the target.
    target : float, optional
        Currency units; by default the median of the forecast for the span, which is reached in half of the draws.
    """
    total = cents_in(forecast, span, "total")
    goal = int(np.ceil(np.median(total))) if target is None else target_cents(target)
    return forecast.deal_table.assign(target_swing=target_swing(forecast, span, total=total, goal=goal))[list(COLUMNS)]


def target_swing(forecast: "Forecast", span: Span, *, total: NDArray[np.int64], goal: int) -> NDArray[np.float64]:
    """P(total >= goal | deal won in the span) - P(total >= goal | not), by deal of the pipeline; cents."""
    pipeline = forecast.pipeline
    if not pipeline.n_deals:
        return np.zeros(0)
    deals = group_deals(pipeline, forecast.posterior.amounts)
    order = np.argsort(deals.group_of_deal, kind="stable")
    pivotal = np.zeros(pipeline.n_deals, dtype=np.int64)

    def draws_decided(block: tuple[int, int]) -> NDArray[np.int64]:
        draws = np.arange(*block)
        return _decided_in(forecast, deals, draws, span=span, beyond=total[draws] - goal)

    for decided in run_blocks(draws_decided, cut_draws(forecast.draws, DRAW_BLOCK), EngineOptions()):
        pivotal[order] += decided
    return pivotal / forecast.draws


def _decided_in(
    forecast: "Forecast", deals: GroupedDeals, draws: NDArray[np.int64], *, span: Span, beyond: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Draws in which each deal decides whether the goal is reached, in the order of ``deals.arrays``.

    Parameters
    ----------
    forecast : Forecast
    deals : GroupedDeals
        Its open deals.
    draws : ndarray of int64, shape (n,)
        Consecutive, the first one even.
    span : Span
    beyond : ndarray of int64, shape (n,)
        Cents by which the draw's total exceeds the goal.
    """
    posterior, graph = forecast.posterior, forecast.pipeline.graph
    amounts, seed, factor = amount_draws(posterior.amounts, draws, graph.n_open), forecast.seed, forecast.open_factor
    large = np.zeros((len(draws), len(deals.arrays.key)), dtype=np.bool_)
    _mark_large(deals.arrays, amounts, seed, int(draws[0]), factor[draws], beyond, large)
    decided, near = np.zeros(len(deals.arrays.key), dtype=np.int64), large.any(axis=1)
    draws = draws[near]
    if not len(draws):
        return decided
    before, last = max((span.start - forecast.as_of).days - 1, 0), (span.end - forecast.as_of).days
    progress = progress_by_day(forecast.pace, draws, days=last)
    hazards = posterior.stage.lattice(draws, days=deals.max_age + lattice_reach(progress) + 2, cells=deals.cells)
    wanted = np.zeros(len(deals.arrays.group_cell), dtype=np.bool_)
    wanted[deals.arrays.group[large.any(axis=0)]] = True
    arrays, place = pick_groups(deals.arrays, wanted)
    found = np.zeros(len(place), dtype=np.int64)
    _count_decided(
        np.ascontiguousarray(hazards.base),
        np.ascontiguousarray(hazards.effect),
        np.ascontiguousarray(hazards.next_stage, dtype=np.int16),
        np.isin(np.arange(len(graph.stages)), graph.won_codes).astype(np.float64),
        arrays,
        clock_at(progress, np.array([last] if before == 0 else [before, last])),
        seed,
        draws,
        beyond[near] >= 0,
        large[near][:, place],
        found,
    )
    decided[place] = found
    return decided


@jit_kernel
def _mark_large(
    deals: DealArrays,
    amounts: AmountDraws,
    seed: int,
    first_draw: int,
    factor: NDArray[np.float64],
    beyond: NDArray[np.int64],
    large: NDArray[np.bool_],
) -> None:
    """Mark in ``large[draw, deal]`` the deals that bring, if won, as much as the draw is away from the goal.

    What no deal can bring is told by a bound first: an amount is worked out only where it can matter.
    """
    most, stages = np.empty(amounts.same.shape[1]), deals.group_stage[deals.group]
    for row in range(len(beyond)):
        keys = amount_keys(seed, first_draw + row)
        for stage in range(len(most)):
            most[stage] = most_per_unit(amounts, row, stage) * factor[row]
        least = beyond[row] + 1 if beyond[row] >= 0 else -beyond[row]
        for deal in range(len(deals.key)):
            largest = (deals.amount[deal] + 0.01) * most[np.uintp(stages[deal])] + 1.0
            if deals.pool_group[deal] >= 0 or largest >= least:
                large[row, deal] = np.rint(win_cents(deals, amounts, row, keys, deal) * factor[row]) >= least


@jit_kernel
def _count_decided(  # noqa: PLR0913, PLR0917 (kernels take plain arrays, records cannot cross into them)
    base: NDArray[np.float64],
    effect: NDArray[np.float64],
    next_stage: NDArray[np.int16],
    value: NDArray[np.float64],
    deals: DealArrays,
    clock: Clock,
    seed: int,
    draws: NDArray[np.int64],
    reached: NDArray[np.bool_],
    large: NDArray[np.bool_],
    decided: NDArray[np.int64],
) -> None:
    """Add one to ``decided[deal]`` for every draw that the deal decides, by the numbers of the fate sampler.

    Where the goal is reached only a deal that was won decides, where it is missed only one that was not, and either way
    only a large one.
    """
    n_edges = clock.day.shape[1]
    table = np.empty((len(deals.group_cell), n_edges), dtype=np.float32)
    for row in range(len(draws)):
        win_probabilities(base[row], effect[row], next_stage, value, deals, clock.day[row], clock.fraction[row], table)
        key = pair_key(seed, draws[row], STEP_FATE)
        for deal in np.flatnonzero(large[row]):
            won_by = table[deals.group[deal]]
            uniform = half(mix(key + deals.key[deal]), draws[row])
            early = n_edges > 1 and uniform < threshold(won_by[0])
            won = not early and uniform < threshold(won_by[n_edges - 1])
            decided[deal] += int(won == reached[row])
