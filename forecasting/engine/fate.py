"""The fate sampler: one uniform per deal and draw against the exact probabilities to be won by each period.

Revenue by period needs no path through the stages. For one posterior draw all that matters of an open deal is P(won
by the end of period m | cell, stage, days in stage), which :mod:`forecasting.engine.renewal` gives exactly for all
deals at once. The kernel fills that table for two draws, throws one uniform per deal at each, and adds up cents and
counts.
"""

import numpy as np
from numpy.typing import NDArray

from forecasting.engine.amounts import AmountDraws, DealArrays, amount_keys, win_cents
from forecasting.engine.clock import Clock
from forecasting.engine.compiled import jit_inline, jit_kernel
from forecasting.engine.exits import exit_probabilities
from forecasting.engine.renewal import aged_values, entry_values
from forecasting.engine.streams import STEP_FATE, mix, pair_key

TO_BITS = 2.0**32
MAX_BITS = 2**32 - 1
MEAN_UNIT = 2.0**40
"""Probabilities are added over draws as integers of this fineness: sums then do not depend on how draws were cut."""
PADDING = 16
"""Thresholds compared at once, in vector registers; rows are filled up by as many of the highest."""
TILE = 2048
"""Deals whose random numbers are made at a time; their buffers stay in the first cache."""


@jit_kernel
def win_probabilities(
    base: NDArray[np.float64],
    effect: NDArray[np.float64],
    next_stage: NDArray[np.int16],
    value: NDArray[np.float64],
    deals: DealArrays,
    day: NDArray[np.int64],
    fraction: NDArray[np.float64],
    out: NDArray[np.float64],
) -> None:
    """Fill ``out[group, period]`` with the expected ``value`` of one draw at ``day + fraction``, cell by cell."""
    n_stages, n_slots, n_days = base.shape
    horizon = max(day[-1] + (1 if fraction[-1] > 0.0 else 0), 1)
    leave_to, stay = np.empty((n_stages, n_slots, n_days)), np.empty((n_stages, n_days))
    mass, entry = np.empty((n_stages, n_slots, horizon)), np.empty((n_stages, horizon))
    work = np.empty(n_days + 1)
    n_groups = len(deals.group_cell)
    start = 0
    while start < n_groups:
        cell, stage = deals.group_cell[start], deals.group_stage[start]
        if start == 0 or cell != deals.group_cell[start - 1]:
            exit_probabilities(base, effect[cell], leave_to, stay)
            entry_values(leave_to, stay, next_stage, value, mass, entry)
        stop = start
        while stop < n_groups and deals.group_cell[stop] == cell and deals.group_stage[stop] == stage:
            stop += 1
        ages = deals.group_age[start:stop]
        aged_values(leave_to, stay, next_stage, value, stage, entry, ages, work, out[start:stop], day, fraction)
        start = stop


@jit_inline
def _period_won(thresholds: NDArray[np.uint32], group: int, uniform: np.uint32, last: int) -> int:
    """First period whose threshold is above the uniform; the last one is known to be."""
    low, high = 0, last
    while high - low > PADDING:
        middle = (low + high) >> 1
        if uniform < thresholds[group, middle]:
            high = middle
        else:
            low = middle + 1
    passed = np.uint32(0)
    for m in range(PADDING):  # thresholds rise: those beyond the sought one are not passed either
        passed += np.uint32(uniform >= thresholds[np.uintp(group), np.uintp(low + m)])
    return min(low + int(passed), last)


@jit_kernel
def _add_fates(
    seed: int,
    draw: int,
    row: int,
    first: int,
    uniforms: NDArray[np.uint32],
    thresholds: NDArray[np.uint32],
    final: NDArray[np.uint32],
    deals: DealArrays,
    amounts: AmountDraws,
    winners: NDArray[np.int32],
    cents: NDArray[np.int64],
    count: NDArray[np.int32],
) -> None:
    """Compare one tile's uniforms with the thresholds and add the wins to ``cents[period, segment]`` and ``count``."""
    n_winners = 0
    for i in range(len(uniforms)):
        winners[np.uintp(n_winners)] = i
        n_winners += 1 if uniforms[i] < final[np.uintp(deals.group[np.uintp(first + i)])] else 0
    keys, unchanged, last = amount_keys(seed, draw), amounts.unchanged, cents.shape[0] - 1
    for w in range(n_winners):
        i = winners[w]
        deal = first + i
        group = deals.group[deal]
        period, segment = _period_won(thresholds, group, uniforms[i], last), deals.segment[deal]
        if unchanged:
            cents[period, segment] += deals.cents[deal]
        else:
            cents[period, segment] += win_cents(deals, amounts, row, keys, deal)
        count[period, segment] += 1


@jit_kernel
def fate_block(
    base: NDArray[np.float64],
    effect: NDArray[np.float64],
    next_stage: NDArray[np.int16],
    value: NDArray[np.float64],
    deals: DealArrays,
    amounts: AmountDraws,
    clock: Clock,
    seed: int,
    first_draw: int,
    cents: NDArray[np.int64],
    count: NDArray[np.int32],
    win_sum: NDArray[np.int64],
) -> None:
    """Simulate draws ``first_draw, first_draw + 1, ...`` (``first_draw`` even) of the given deals.

    Adds to ``cents[draw, period, segment]``, ``count`` alike and ``win_sum[group, period]`` (in units of 1 /
    MEAN_UNIT).
    """
    n_draws, n_groups, n_deals = base.shape[0], len(deals.group_cell), len(deals.key)
    n_periods = clock.day.shape[1]
    table = np.empty((n_groups, n_periods))
    thresholds = np.full((2, n_groups, n_periods + PADDING), MAX_BITS, dtype=np.uint32)
    final = np.empty((2, n_groups), dtype=np.uint32)
    halves = np.empty((2, TILE), dtype=np.uint32)
    winners = np.empty(TILE + 1, dtype=np.int32)
    for pair in range(0, n_draws, 2):
        both = min(2, n_draws - pair)
        for side in range(both):
            row = pair + side
            win_probabilities(
                base[row], effect[row], next_stage, value, deals, clock.day[row], clock.fraction[row], table
            )
            for g in range(n_groups):
                for m in range(n_periods):
                    p = table[g, m]
                    thresholds[side, g, m] = np.uint32(min(p * TO_BITS, MAX_BITS))
                    win_sum[g, m] += np.int64(p * MEAN_UNIT)
                final[side, g] = thresholds[side, g, n_periods - 1]
        key = pair_key(seed, first_draw + pair, STEP_FATE)
        for first in range(0, n_deals, TILE):
            size = min(TILE, n_deals - first)
            for i in range(size):
                bits = mix(key + deals.key[np.uintp(first + i)])
                halves[0, i] = np.uint32(bits & np.uint64(0xFFFFFFFF))
                halves[1, i] = np.uint32(bits >> np.uint64(32))
            for side in range(both):
                row = pair + side
                _add_fates(
                    seed,
                    first_draw + row,
                    row,
                    first,
                    halves[side, :size],
                    thresholds[side],
                    final[side],
                    deals,
                    amounts,
                    winners,
                    cents[row],
                    count[row],
                )


@jit_kernel
def add_win_sums(
    base: NDArray[np.float64],
    effect: NDArray[np.float64],
    next_stage: NDArray[np.int16],
    value: NDArray[np.float64],
    deals: DealArrays,
    clock: Clock,
    win_sum: NDArray[np.int64],
) -> None:
    """Add the win probabilities of some draws to ``win_sum[group, period]``, in units of 1 / MEAN_UNIT."""
    n_groups, n_periods = len(deals.group_cell), clock.day.shape[1]
    table = np.empty((n_groups, n_periods))
    for i in range(base.shape[0]):
        win_probabilities(base[i], effect[i], next_stage, value, deals, clock.day[i], clock.fraction[i], table)
        for g in range(n_groups):
            for m in range(n_periods):
                win_sum[g, m] += np.int64(table[g, m] * MEAN_UNIT)
