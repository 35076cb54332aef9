"""What a win is worth: amounts at the win from amounts known now, in integer cents.

Random numbers are taken only for wins, by address, so a deal's amount in a draw does not depend on other deals.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from forecasting.engine.compiled import jit_inline, jit_kernel
from forecasting.engine.streams import (
    STEP_AMOUNT_CHANGE,
    STEP_AMOUNT_POOL,
    STEP_AMOUNT_SAME,
    draw_key,
    mix,
    standard_normal,
    unit,
)
from models.amounts import MAX_LOG_RATIO

CENTS = 100.0
"""Cents in a unit of currency."""
LARGEST_NORMAL = 9.0
"""No normal number of the streams is larger: the smallest uniform is 2^-53, a radius of 8.6."""


class AmountDraws(NamedTuple):
    """The amount model's arrays for the draws of one block, as kernels take them.

    ``same``, ``shift`` and ``spread`` have shape (draw, stage), ``scale`` (draw, group): probability that the known
    amount stays, mean and sd of the log change otherwise, factor on the amounts of the pool.
    ``pool[pool_start[g]:pool_start[g + 1]]`` are the amounts of group g. ``unchanged`` says that every deal brings the
    amount known now.
    """

    same: NDArray[np.float64]
    shift: NDArray[np.float64]
    spread: NDArray[np.float64]
    pool: NDArray[np.float64]
    pool_start: NDArray[np.int64]
    scale: NDArray[np.float64]
    unchanged: bool = False


class DealArrays(NamedTuple):
    """Open deals sorted by (cell, stage, days in stage), as kernels take them.

    Deals alike in these three form a group: ``group_cell``, ``group_stage``, ``group_age`` have one entry per group,
    and all else one entry per deal. ``pool_group`` is the amount pool of deals whose amount is missing, -1 where it
    is known.
    """

    group_cell: NDArray[np.int64]
    group_stage: NDArray[np.int64]
    group_age: NDArray[np.int64]
    group: NDArray[np.int32]
    key: NDArray[np.uint64]
    amount: NDArray[np.float64]
    cents: NDArray[np.int64]
    segment: NDArray[np.int32]
    pool_group: NDArray[np.int32]


@jit_inline
def to_cents(amount: float) -> int:
    """Nearest cent."""
    return math.floor(amount * CENTS + 0.5)


@jit_kernel
def changed_cents(
    amount: float, same: float, shift: float, spread: float, same_bits: np.uint64, change_bits: np.uint64
) -> int:
    """Cents of a win whose amount was known: the same with probability ``same``, else times a log-normal factor.

    The factor is cut off where those learned from are.
    """
    if unit(same_bits) < same:
        return to_cents(amount)
    change = min(max(shift + spread * standard_normal(change_bits), -MAX_LOG_RATIO), MAX_LOG_RATIO)
    return to_cents(amount * math.exp(change))


@jit_kernel
def pooled_cents(pool: NDArray[np.float64], start: int, stop: int, factor: float, bits: np.uint64) -> int:
    """Cents of a win whose amount was not known: one of past wins, times the draw's factor."""
    pick = min(start + int(unit(bits) * (stop - start)), stop - 1)
    return to_cents(pool[pick] * factor)


@jit_kernel
def amount_keys(seed: int, draw: int) -> tuple[np.uint64, np.uint64, np.uint64]:
    """Keys of a draw for the three steps that make an amount."""
    return (
        draw_key(seed, draw, STEP_AMOUNT_SAME),
        draw_key(seed, draw, STEP_AMOUNT_CHANGE),
        draw_key(seed, draw, STEP_AMOUNT_POOL),
    )


@jit_kernel
def most_per_unit(amounts: AmountDraws, row: int, stage: int) -> float:
    """Cents that a win can bring at most for each unit of its known amount, and of a cent added to it for rounding."""
    largest = 0.0
    if amounts.same[row, stage] < 1.0:
        largest = amounts.shift[row, stage] + amounts.spread[row, stage] * LARGEST_NORMAL
        largest = max(0.0, min(largest, MAX_LOG_RATIO))
    return CENTS * float(math.exp(largest))


@jit_kernel
def win_cents(
    deals: DealArrays, amounts: AmountDraws, row: int, keys: tuple[np.uint64, np.uint64, np.uint64], deal: int
) -> int:
    """Cents that a deal brings if it is won in the draw of ``row``."""
    key, pool, stage = deals.key[deal], deals.pool_group[deal], deals.group_stage[deals.group[deal]]
    if pool >= 0:
        begin, end = amounts.pool_start[pool], amounts.pool_start[pool + 1]
        return pooled_cents(amounts.pool, begin, end, math.exp(amounts.scale[row, pool]), mix(keys[2] + key))
    same = amounts.same[row, stage]
    if same >= 1.0:
        return int(deals.cents[deal])
    bits = mix(keys[0] + key), mix(keys[1] + key)
    return changed_cents(
        deals.amount[deal], same, amounts.shift[row, stage], amounts.spread[row, stage], bits[0], bits[1]
    )
