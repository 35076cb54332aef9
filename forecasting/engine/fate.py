"""The fate sampler: one uniform per deal and draw against the exact probabilities to be won by each period.

Revenue by period needs no path through the stages. For one posterior draw all that matters of an open deal is P(won
by the end of period m | cell, stage, days in stage), which :mod:`forecasting.engine.renewal` gives exactly for all
deals at once. The kernel fills that table for some draws, throws one uniform per deal at each, and adds up cents and
counts. Tables hold float32, in which the sums over a year are twice as fast: for up to a year probabilities are within
1e-6 of those in float64 (``tests/forecasting/test_renewal.py``), a thousandth of what a million deals could tell apart.
"""

import numpy as np
from numpy.typing import NDArray

from forecasting.engine.amounts import AmountDraws, DealArrays, amount_keys, win_cents
from forecasting.engine.clock import Clock
from forecasting.engine.compiled import jit_inline, jit_kernel
from forecasting.engine.exits import exit_probabilities
from forecasting.engine.renewal import entry_values, stages_in_order
from forecasting.engine.stage_sums import Values, stage_of, stage_values
from forecasting.engine.streams import STEP_FATE, mix, pair_key

TO_BITS = 2.0**32
MAX_BITS = 2**32 - 1
HALF_BITS = 2**31
"""Uniforms and thresholds are lowered by this: processors compare signed numbers faster."""
SIGNS = np.uint64(0x8000000080000000)
"""The sign bits of the two halves of 64 bits."""
MEAN_UNIT = 2.0**40
"""Probabilities are added over draws as integers of this fineness: sums then do not depend on how draws were cut."""
AT_ONCE = 12
"""Thresholds compared in one pass; rows are filled up by as many that no uniform is below."""
MOST_COUNTED = 24
"""Up to so many periods thresholds are compared one by one; beyond, only the won are searched."""
BATCH_BYTES = 2**23
"""Where amounts are known draws are decided side by side, as many as their thresholds fit in here, two at least."""
MAX_BATCH = 128
"""More draws than this gain nothing."""
TILE = 2048
"""Deals whose wins are summed in one number."""
COUNT_BITS = 12
"""Cents and count of a tile's wins are summed in one number: the count takes so many low bits."""
MAX_PACKED_CENTS = 2**39
"""Amounts below this, five billion, fit a tile's sum."""
MOST_SLOTS = 512
"""Beyond so many periods times segments a tile's sums would no longer stay in the cache."""


@jit_inline
def threshold(chance: float) -> np.uint32:
    """Uniforms of 32 bits below it win; never all of them."""
    return np.uint32(min(chance * TO_BITS, MAX_BITS))


@jit_inline
def _lowered(bits: np.uint64) -> tuple[np.int32, np.int32]:
    """Uniforms of the even and the odd draw of a pair, lowered by 2^31."""
    signed = bits ^ SIGNS
    return np.int32(signed & np.uint64(0xFFFFFFFF)), np.int32(signed >> np.uint64(32))


@jit_kernel
def win_probabilities(
    base: NDArray[np.float64],
    effect: NDArray[np.float64],
    next_stage: NDArray[np.int16],
    value: NDArray[np.float64],
    deals: DealArrays,
    day: NDArray[np.int64],
    fraction: NDArray[np.float64],
    out: Values,
) -> None:
    """Fill ``out[group, period]`` with the expected ``value`` of one draw at ``day + fraction``, cell by cell.

    Stages without a way back are solved one after the other, each with its deals in one pass; others all together.
    """
    n_stages, n_slots, n_days = base.shape
    whole, at = _whole_days(day, fraction)
    horizon, oldest = max(whole[-1], 1), -1
    for age in deals.group_age:
        oldest = max(oldest, age)
    n_days = min(n_days, oldest + horizon + 2)
    leave_to, stay = np.empty((n_stages, n_slots, n_days)), np.empty((n_stages, n_days))
    mass = np.empty((n_stages, n_slots, horizon), dtype=out.dtype)
    entry = np.empty((n_stages, horizon), dtype=out.dtype)
    order, sharp = stages_in_order(next_stage), (fraction == 0.0).all() and len(whole) == len(day)
    in_order, start, n_groups = len(order) > 0, 0, len(deals.group_cell)
    while start < n_groups:
        cell, after = deals.group_cell[start], start
        exit_probabilities(base, effect[cell], leave_to, stay)
        if not in_order:
            entry_values(leave_to, stay, next_stage, value, mass, entry)
        while after < n_groups and deals.group_cell[after] == cell:
            after += 1
        stages = deals.group_stage[start:after]
        for n in range(n_stages):
            k = order[n] if in_order else n
            first, last = start + np.searchsorted(stages, k), start + np.searchsorted(stages, k, side="right")
            if first == last and not in_order:
                continue
            stage = stage_of(leave_to, stay, next_stage, value, k, entry)
            ages, rows = deals.group_age[first:last], out[first:last]
            if not sharp:
                rows = np.empty((last - first, len(whole)), dtype=out.dtype)
            stage_values(stage, ages, whole, entry[k] if in_order else entry[k, :0], rows)
            if not sharp:
                _between_days(rows, at, fraction, out[first:last])
        start = after


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
def _between_days(rows: Values, at: NDArray[np.int64], fraction: NDArray[np.float64], out: Values) -> None:
    for g in range(len(out)):
        for m in range(len(at)):
            reached = rows[g, at[m]]
            if fraction[m] > 0.0:
                reached += fraction[m] * (rows[g, at[m] + 1] - reached)
            out[g, m] = reached


@jit_kernel
def _set_thresholds(table: Values, thresholds: NDArray[np.int32], win_sum: NDArray[np.int64]) -> None:
    """Thresholds of one draw from its win probabilities; those of the last period are added up in units of 1 / MEAN_UNIT."""
    for g in range(len(table)):
        win_sum[g] += np.int64(table[g, -1] * MEAN_UNIT)
    chances, lowered = table.reshape(-1), thresholds.reshape(-1)
    for c in range(len(chances)):
        lowered[c] = np.int32(np.floor(min(chances[c] * TO_BITS, float(MAX_BITS))) - HALF_BITS)


@jit_kernel
def _side_by_side(thresholds: NDArray[np.int32], group: int, rows: NDArray[np.int32]) -> None:
    """Thresholds of one group by (period, draw), last period and even draws first; the room left stays as it is."""
    n_draws, n_periods, own = len(thresholds), thresholds.shape[2], np.uintp(group)
    half_way = (n_draws + 1) // 2
    for i in range(n_draws):
        draw, place = np.uintp(i), np.uintp(i // 2 if i % 2 == 0 else half_way + i // 2)
        for m in range(n_periods):
            rows[np.uintp(m), place] = thresholds[draw, own, np.uintp(n_periods - 1 - m)]


@jit_kernel
def _toss(keys: NDArray[np.uint64], deal_key: np.uint64, uniforms: NDArray[np.int32]) -> None:
    """One uniform for each draw of one deal, lowered by 2^31: even draws first, then the odd ones with the same bits."""
    even, odd = uniforms[: len(keys)], uniforms[len(keys) :]
    for p in range(len(keys)):
        even[p], odd[p] = _lowered(mix(keys[p] + deal_key))


@jit_kernel
def _count_above(uniforms: NDArray[np.int32], rows: NDArray[np.int32], above: NDArray[np.int32]) -> None:
    """Thresholds above each draw's uniform, one after the other in vector registers."""
    above[:] = 0
    for m in range(0, len(rows), AT_ONCE):
        r0, r1, r2, r3, r4, r5 = rows[m], rows[m + 1], rows[m + 2], rows[m + 3], rows[m + 4], rows[m + 5]
        r6, r7, r8, r9, r10, r11 = rows[m + 6], rows[m + 7], rows[m + 8], rows[m + 9], rows[m + 10], rows[m + 11]
        for i in range(len(uniforms)):
            u = uniforms[i]
            n = np.int32(r0[i] > u) + np.int32(r1[i] > u) + np.int32(r2[i] > u) + np.int32(r3[i] > u)
            n += np.int32(r4[i] > u) + np.int32(r5[i] > u) + np.int32(r6[i] > u) + np.int32(r7[i] > u)
            n += np.int32(r8[i] > u) + np.int32(r9[i] > u) + np.int32(r10[i] > u) + np.int32(r11[i] > u)
            above[i] += np.int32(n)


@jit_kernel
def _period_won(rising: NDArray[np.int32], uniform: np.int32) -> int:
    """First period whose threshold is above the uniform; that of the last one is known to be."""
    low, high = 0, len(rising) - 1
    while low < high:
        middle = (low + high) >> 1
        above = rising[middle] > uniform
        high = middle if above else high
        low = low if above else middle + 1
    return low


@jit_kernel
def _add_known(above: NDArray[np.int32], segment: int, worth: int, packed: NDArray[np.int64]) -> None:
    """Add one deal's known amount where each draw has it won, or not at all; no branch asks which."""
    part, value = np.uintp(segment), (worth << COUNT_BITS) + 1
    for c in range(len(above)):
        i = np.uintp(c)
        packed[i, np.uintp(above[i]), part] += value


@jit_kernel
def _unpack(packed: NDArray[np.int64], n_draws: int, cents: NDArray[np.int64], count: NDArray[np.int32]) -> None:
    """Move what a tile's wins add up to from ``packed[draw, thresholds above, segment]`` to cents and counts."""
    half_way, n_periods = (n_draws + 1) // 2, cents.shape[1]
    for i in range(n_draws):
        won = packed[i // 2 if i % 2 == 0 else half_way + i // 2]
        for m in range(n_periods):
            for s in range(cents.shape[2]):
                both = won[n_periods - m, s]
                cents[i, m, s] += both >> COUNT_BITS
                count[i, m, s] += both & (2**COUNT_BITS - 1)
    packed[:] = 0


@jit_kernel
def _throw_drawn(
    thresholds: NDArray[np.int32],
    deals: DealArrays,
    amounts: AmountDraws,
    seed: int,
    first_draw: int,
    first_row: int,
    cents: NDArray[np.int64],
    count: NDArray[np.int32],
) -> None:
    """Decide the fates of all deals in one draw or two, tile by tile; the won are searched, their amounts drawn."""
    n_deals, group, last = len(deals.key), deals.group, np.ascontiguousarray(thresholds[:, :, -1])
    uniforms, winners = np.empty(2 * TILE, dtype=np.int32), np.empty(TILE + 1, dtype=np.int32)
    key = pair_key(seed, first_draw, STEP_FATE)
    for first in range(0, n_deals, TILE):
        size = min(TILE, n_deals - first)
        for c in range(size):
            uniforms[c], uniforms[TILE + c] = _lowered(mix(key + deals.key[first + c]))
        for i in range(len(thresholds)):
            row, mine, n = first_row + i, uniforms[i * TILE : i * TILE + size], 0
            keys = amount_keys(seed, first_draw + i)
            for c in range(size):
                winners[np.uintp(n)] = c
                n += 1 if last[i, np.uintp(group[first + c])] > mine[c] else 0
            for w in range(n):
                c = winners[w]
                deal = first + c
                m, segment = _period_won(thresholds[i, group[deal]], mine[c]), deals.segment[deal]
                cents[row, m, segment] += win_cents(deals, amounts, row, keys, deal)
                count[row, m, segment] += 1


@jit_kernel
def _throw_known(
    thresholds: NDArray[np.int32],
    deals: DealArrays,
    seed: int,
    first_draw: int,
    cents: NDArray[np.int64],
    count: NDArray[np.int32],
) -> None:
    """Decide the fates of all deals in a batch of draws, deal by deal, all draws of a deal side by side."""
    n_draws, n_periods = len(thresholds), thresholds.shape[2]
    keys = np.empty((n_draws + 1) // 2, dtype=np.uint64)
    for p in range(len(keys)):
        keys[p] = pair_key(seed, first_draw + 2 * p, STEP_FATE)
    places, width = 2 * len(keys), AT_ONCE * ((n_periods + AT_ONCE - 1) // AT_ONCE)
    rows = np.full((width, places), -HALF_BITS, dtype=np.int32)
    uniforms, above = np.empty(places, dtype=np.int32), np.empty(places, dtype=np.int32)
    packed, group = np.zeros((places, n_periods + 1, cents.shape[2]), dtype=np.int64), -1
    for deal in range(len(deals.key)):
        if deals.group[deal] != group:
            group = deals.group[deal]
            _side_by_side(thresholds, group, rows)
        _toss(keys, deals.key[deal], uniforms)
        _count_above(uniforms, rows, above)
        _add_known(above, deals.segment[deal], deals.cents[deal], packed)
        if deal % TILE == TILE - 1:
            _unpack(packed, n_draws, cents, count)
    _unpack(packed, n_draws, cents, count)


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

    Adds to ``cents[draw, period, segment]``, ``count`` alike and ``win_sum[group]``, the probabilities to be won by the
    end in units of 1 / MEAN_UNIT.
    """
    n_draws, n_groups, n_periods = base.shape[0], len(deals.group_cell), clock.day.shape[1]
    table = np.empty((n_groups, n_periods), dtype=np.float32)
    few = n_periods <= MOST_COUNTED and n_periods * cents.shape[2] <= MOST_SLOTS
    known = amounts.unchanged and few and bool((np.abs(deals.cents) < MAX_PACKED_CENTS).all())
    most = BATCH_BYTES // (4 * n_periods * max(n_groups, 1)) if known else 2
    batch = max(min(most, MAX_BATCH, n_draws + 1) // 2 * 2, 2)
    thresholds = np.empty((batch, n_groups, n_periods), dtype=np.int32)
    for first in range(0, n_draws, batch):
        size = min(batch, n_draws - first)
        for i in range(size):
            row = first + i
            win_probabilities(
                base[row], effect[row], next_stage, value, deals, clock.day[row], clock.fraction[row], table
            )
            _set_thresholds(table, thresholds[i], win_sum)
        begin = first_draw + first
        if known:
            _throw_known(
                thresholds[:size], deals, seed, begin, cents[first : first + size], count[first : first + size]
            )
        else:
            _throw_drawn(thresholds[:size], deals, amounts, seed, begin, first, cents, count)


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
    table = np.empty((n_groups, n_periods), dtype=np.float32)
    for i in range(base.shape[0]):
        win_probabilities(base[i], effect[i], next_stage, value, deals, clock.day[i], clock.fraction[i], table)
        for g in range(n_groups):
            for m in range(n_periods):
                win_sum[g, m] += np.int64(table[g, m] * MEAN_UNIT)
