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
BATCH_BYTES = 2**20
"""Thresholds of so many draws are kept as fit in here, two at least: a tile is thrown for all while it is in the cache."""
MAX_BATCH = 32
COUNT_BITS = 12
"""Cents and count of a tile's wins are summed in one number: the count takes so many low bits."""
MAX_PACKED_CENTS = 2**39
"""Amounts below this, five billion, fit a tile's sum."""


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
    leave_to, stay = np.empty((n_stages, n_slots, n_days)), np.empty((n_stages, n_days))
    whole, at = _whole_days(day, fraction)
    horizon = max(whole[-1], 1)
    mass, entry = np.empty((n_stages, n_slots, horizon)), np.empty((n_stages, horizon))
    n_groups, sharp = len(deals.group_cell), (fraction == 0.0).all() and len(whole) == len(day)
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
        if sharp:
            aged_values(leave_to, stay, next_stage, value, stage, entry, ages, whole, out[start:stop])
        else:
            rows = np.empty((stop - start, len(whole)))
            aged_values(leave_to, stay, next_stage, value, stage, entry, ages, whole, rows)
            _between_days(rows, at, fraction, out[start:stop])
        start = stop


@jit_kernel
def _whole_days(day: NDArray[np.int64], fraction: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The whole days, ascending and once each, that a clock's moments lie on or between, and the place of each moment."""
    days, at = np.empty(2 * len(day), dtype=np.int64), np.empty(len(day), dtype=np.int64)
    n = 0
    for m in range(len(day)):
        if n == 0 or days[n - 1] < day[m]:
            days[n] = day[m]
            n += 1
        at[m] = n - 1 if days[n - 1] == day[m] else n - 2
        if fraction[m] > 0.0 and days[n - 1] == day[m]:
            days[n] = day[m] + 1
            n += 1
    return days[:n].copy(), at


@jit_kernel
def _between_days(
    rows: NDArray[np.float64], at: NDArray[np.int64], fraction: NDArray[np.float64], out: NDArray[np.float64]
) -> None:
    for g in range(len(out)):
        for m in range(len(at)):
            reached = rows[g, at[m]]
            if fraction[m] > 0.0:
                reached += fraction[m] * (rows[g, at[m] + 1] - reached)
            out[g, m] = reached


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
def _find_winners(
    uniforms: NDArray[np.uint32], final: NDArray[np.uint32], group: NDArray[np.int32], winners: NDArray[np.int32]
) -> int:
    """Fill ``winners`` with the places, within one tile, of deals won at all; their number."""
    n = 0
    for i in range(len(uniforms)):
        winners[np.uintp(n)] = i
        n += 1 if uniforms[i] < final[np.uintp(group[i])] else 0
    return n


@jit_kernel
def _add_known(
    first: int,
    winners: NDArray[np.int32],
    uniforms: NDArray[np.uint32],
    thresholds: NDArray[np.uint32],
    last: int,
    deals: DealArrays,
    packed: NDArray[np.int64],
    cents: NDArray[np.int64],
    count: NDArray[np.int32],
) -> None:
    """Add the wins of one tile, each for the amount known now; ``packed`` holds cents and count in one number."""
    packed[:] = 0
    group, segment, worth = deals.group, deals.segment, deals.cents
    for w in range(len(winners)):
        i = np.uintp(winners[w])
        deal = np.uintp(first) + i
        period = _period_won(thresholds, group[deal], uniforms[i], last)
        packed[np.uintp(period), np.uintp(segment[deal])] += (worth[deal] << COUNT_BITS) + 1
    for m in range(cents.shape[0]):
        for s in range(cents.shape[1]):
            cents[m, s] += packed[m, s] >> COUNT_BITS
            count[m, s] += packed[m, s] & (2**COUNT_BITS - 1)


@jit_kernel
def _add_drawn(
    seed: int,
    draw: int,
    row: int,
    first: int,
    winners: NDArray[np.int32],
    uniforms: NDArray[np.uint32],
    thresholds: NDArray[np.uint32],
    last: int,
    deals: DealArrays,
    amounts: AmountDraws,
    cents: NDArray[np.int64],
    count: NDArray[np.int32],
) -> None:
    """Add the wins of one tile, their amounts drawn."""
    keys = amount_keys(seed, draw)
    for w in range(len(winners)):
        i = winners[w]
        deal = first + i
        period, segment = _period_won(thresholds, deals.group[deal], uniforms[i], last), deals.segment[deal]
        cents[period, segment] += win_cents(deals, amounts, row, keys, deal)
        count[period, segment] += 1


@jit_kernel
def _set_thresholds(
    table: NDArray[np.float64],
    thresholds: NDArray[np.uint32],
    final: NDArray[np.uint32],
    total: NDArray[np.float64],
) -> None:
    """Thresholds of one draw from its win probabilities, which are added to ``total`` in units of 1 / MEAN_UNIT."""
    n_groups, n_periods = table.shape
    for g in range(n_groups):
        for m in range(n_periods):
            total[g, m] += np.floor(table[g, m] * MEAN_UNIT)
        for m in range(n_periods):
            thresholds[g, m] = np.uint32(min(table[g, m] * TO_BITS, MAX_BITS))
        final[g] = thresholds[g, n_periods - 1]


@jit_kernel
def _throw(
    tables: tuple[NDArray[np.uint32], NDArray[np.uint32]],
    deals: DealArrays,
    amounts: AmountDraws,
    known: bool,
    seed: int,
    first_draw: int,
    first_row: int,
    cents: NDArray[np.int64],
    count: NDArray[np.int32],
) -> None:
    """Decide the fates of all deals in a batch of draws, tile by tile: a tile's data stays in the first cache."""
    thresholds, final = tables
    n_draws, n_deals, last = len(thresholds), len(deals.key), cents.shape[1] - 1
    halves = np.empty((2, TILE), dtype=np.uint32)
    winners, packed = np.empty(TILE + 1, dtype=np.int32), np.empty(cents.shape[1:], dtype=np.int64)
    keys = np.empty(n_draws, dtype=np.uint64)
    for i in range(n_draws):
        keys[i] = pair_key(seed, first_draw + i, STEP_FATE)
    for first in range(0, n_deals, TILE):
        size = min(TILE, n_deals - first)
        deal_key, group = deals.key[first : first + size], deals.group[first : first + size]
        for i in range(n_draws):
            if i % 2 == 0:
                key = keys[i]
                for c in range(size):
                    bits = mix(key + deal_key[c])
                    halves[0, c] = np.uint32(bits & np.uint64(0xFFFFFFFF))
                    halves[1, c] = np.uint32(bits >> np.uint64(32))
            uniforms, row = halves[i % 2, :size], first_row + i
            n = _find_winners(uniforms, final[i], group, winners)
            if known:
                _add_known(
                    first, winners[:n], uniforms, thresholds[i], last, deals, packed, cents[row], count[row]
                )  # fmt: skip
            else:
                _add_drawn(
                    seed, first_draw + i, row, first, winners[:n], uniforms, thresholds[i], last, deals, amounts,
                    cents[row], count[row],
                )  # fmt: skip


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
    n_draws, n_groups, n_periods = base.shape[0], len(deals.group_cell), clock.day.shape[1]
    table, total = np.empty((n_groups, n_periods)), np.zeros((n_groups, n_periods))
    width = PADDING if n_periods <= PADDING else n_periods + PADDING
    batch = max(min(BATCH_BYTES // (4 * width * max(n_groups, 1)), MAX_BATCH) // 2 * 2, 2)
    thresholds = np.full((batch, n_groups, width), MAX_BITS, dtype=np.uint32)
    final = np.empty((batch, n_groups), dtype=np.uint32)
    known = amounts.unchanged and bool((np.abs(deals.cents) < MAX_PACKED_CENTS).all())
    for first in range(0, n_draws, batch):
        size = min(batch, n_draws - first)
        for i in range(size):
            row = first + i
            win_probabilities(
                base[row], effect[row], next_stage, value, deals, clock.day[row], clock.fraction[row], table
            )
            _set_thresholds(table, thresholds[i], final[i], total)
        tables = thresholds[:size], final[:size]
        _throw(tables, deals, amounts, known, seed, first_draw + first, first, cents, count)
    for g in range(n_groups):
        for m in range(n_periods):
            win_sum[g, m] += np.int64(total[g, m])


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
