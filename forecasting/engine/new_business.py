"""Deals not created yet, without simulating lives that do not matter.

Given a draw's arrival intensity, arrivals of each kind are a Poisson process, and so are the wins among them
(thinning, Kingman 1993, Poisson Processes, section 5.1): wins of segment g whose amount comes from pool p on forecast
day t are independent Poisson counts with mean

    sum over days u <= t of intensity[g, u] x sum over kinds k in (g, p) of mix[k] x w_k(t - u),

w_k(d) being the exact probability that a deal of kind k is won on the d-th day after it was created. Each win then
draws its amount, and the day it was created, given the day it was won; deals created and not won by the last day are
one more Poisson count.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from forecasting.engine.amounts import pooled_cents
from forecasting.engine.compiled import jit_inline, jit_kernel
from forecasting.engine.exits import exit_probabilities
from forecasting.engine.renewal import entry_values
from forecasting.engine.streams import (
    SEED_STRIDE,
    STEP_NOT_WON,
    STEP_STRIDE,
    STEP_WIN_AMOUNT,
    STEP_WIN_CREATED,
    STEP_WINS,
    draw_key,
    mix,
    poisson,
    unit,
)


class ArrivalKinds(NamedTuple):
    """Kinds of arrival as kernels take them.

    ``cell``, ``stage`` and ``lane`` by kind; a lane is a pair (segment, amount pool), ``lane_group`` and
    ``lane_pool``.
    """

    cell: NDArray[np.int64]
    stage: NDArray[np.int64]
    lane: NDArray[np.int64]
    lane_group: NDArray[np.int64]
    lane_pool: NDArray[np.int64]


@jit_kernel
def lane_wins(
    base: NDArray[np.float64],
    effect: NDArray[np.float64],
    next_stage: NDArray[np.int16],
    value: NDArray[np.float64],
    kinds: ArrivalKinds,
    shares: NDArray[np.float64],
    out: NDArray[np.float64],
) -> None:
    """Fill ``out[lane, d]``: expected wins on the d-th day after creation per deal created in the lane's segment."""
    n_stages, n_slots, n_days = base.shape
    horizon = out.shape[1]
    leave_to, stay = np.empty((n_stages, n_slots, n_days)), np.empty((n_stages, n_days))
    mass, entry = np.empty((n_stages, n_slots, horizon)), np.empty((n_stages, horizon))
    out[:] = 0.0
    for cell in range(effect.shape[0]):
        exit_probabilities(base, effect[cell], leave_to, stay)
        entry_values(leave_to, stay, next_stage, value, mass, entry)
        for kind in range(len(kinds.cell)):
            if kinds.cell[kind] == cell:
                lane, won_by = out[kinds.lane[kind]], entry[kinds.stage[kind]]
                lane[0] += shares[kind] * won_by[0]
                for d in range(1, horizon):
                    lane[d] += shares[kind] * max(won_by[d] - won_by[d - 1], 0.0)


@jit_inline
def _address(lane: int, day: int) -> np.uint64:
    return np.uint64(lane) * SEED_STRIDE + np.uint64(day) * STEP_STRIDE


@jit_kernel
def _creation_day(intensity: NDArray[np.float64], wins: NDArray[np.float64], day: int, target: float) -> int:
    """Day on which the deal behind a win on ``day`` was created; ``target`` is a uniform part of the total rate."""
    for created in range(day):
        target -= intensity[created] * wins[day - created]
        if target < 0.0:
            return created
    return day


@jit_kernel
def _new_draw(
    keys: tuple[np.uint64, np.uint64, np.uint64, np.uint64],
    wins: NDArray[np.float64],
    intensity: NDArray[np.float64],
    kinds: ArrivalKinds,
    pool: NDArray[np.float64],
    pool_start: NDArray[np.int64],
    factors: NDArray[np.float64],
    period: NDArray[np.int64],
    cents: NDArray[np.int64],
    count: NDArray[np.int32],
    created: NDArray[np.int32],
) -> None:
    """One draw: wins lane by lane and day by day, then the deals created and not won."""
    horizon = wins.shape[1]
    won_share = np.zeros((intensity.shape[0], horizon))
    for lane in range(len(kinds.lane_group)):
        group, amounts = kinds.lane_group[lane], kinds.lane_pool[lane]
        place = group * 1_000_003 + amounts
        for day in range(horizon):
            won_share[group, day] += wins[lane, day]
            rate = 0.0
            for before in range(day + 1):
                rate += intensity[group, before] * wins[lane, day - before]
            address = _address(place, day)
            for win in range(poisson(rate, mix(keys[0] + address))):
                bits = mix(mix(keys[1] + address) + np.uint64(win))
                cents[period[day], group] += pooled_cents(
                    pool, pool_start[amounts], pool_start[amounts + 1], factors[amounts], bits
                )
                count[period[day], group] += 1
                part = unit(mix(mix(keys[2] + address) + np.uint64(win))) * rate
                created[period[_creation_day(intensity[group], wins[lane], day, part)], group] += 1
    for group in range(intensity.shape[0]):
        won = 0.0
        for day in range(horizon - 1, -1, -1):
            won += won_share[group, horizon - 1 - day]
            rest = intensity[group, day] * max(1.0 - won, 0.0)
            created[period[day], group] += poisson(rest, mix(keys[3] + _address(group, day)))


@jit_kernel
def new_block(
    base: NDArray[np.float64],
    effect: NDArray[np.float64],
    next_stage: NDArray[np.int16],
    value: NDArray[np.float64],
    kinds: ArrivalKinds,
    shares: NDArray[np.float64],
    intensity: NDArray[np.float64],
    pool: NDArray[np.float64],
    pool_start: NDArray[np.int64],
    log_scale: NDArray[np.float64],
    edges: NDArray[np.int64],
    seed: int,
    first_draw: int,
    cents: NDArray[np.int64],
    count: NDArray[np.int32],
    created: NDArray[np.int32],
) -> None:
    """Simulate draws ``first_draw, first_draw + 1, ...``; adds to ``[draw, period, segment]`` arrays."""
    horizon = edges[-1]
    period = np.empty(horizon, dtype=np.int64)
    m = 0
    for day in range(horizon):
        if day + 1 > edges[m]:
            m += 1
        period[day] = m
    wins = np.empty((len(kinds.lane_group), horizon))
    for i in range(base.shape[0]):
        lane_wins(base[i], effect[i], next_stage, value, kinds, shares[i], wins)
        draw = first_draw + i
        keys = (
            draw_key(seed, draw, STEP_WINS),
            draw_key(seed, draw, STEP_WIN_AMOUNT),
            draw_key(seed, draw, STEP_WIN_CREATED),
            draw_key(seed, draw, STEP_NOT_WON),
        )
        factors = np.exp(log_scale[i])
        _new_draw(keys, wins, intensity[i], kinds, pool, pool_start, factors, period, cents[i], count[i], created[i])
