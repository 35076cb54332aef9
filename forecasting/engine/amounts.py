"""What a win is worth: amounts at the win from amounts known now, in integer cents.

Random numbers are taken only for wins, by address, so a deal's amount in a draw does not depend on other deals.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from forecasting.engine.compiled import jit_inline, jit_kernel
from forecasting.engine.streams import standard_normal, unit

CENTS = 100.0
"""Cents in a unit of currency."""


class AmountDraws(NamedTuple):
    """The amount model's arrays for the draws of one block, as kernels take them.

    ``same``, ``shift`` and ``spread`` have shape (draw, stage), ``scale`` (draw, group): probability that the known
    amount stays, mean and sd of the log change otherwise, factor on the amounts of the pool.
    ``pool[pool_start[g]:pool_start[g + 1]]`` are the amounts of group g.
    """

    same: NDArray[np.float64]
    shift: NDArray[np.float64]
    spread: NDArray[np.float64]
    pool: NDArray[np.float64]
    pool_start: NDArray[np.int64]
    scale: NDArray[np.float64]


@jit_inline
def to_cents(amount: float) -> int:
    """Nearest cent."""
    return math.floor(amount * CENTS + 0.5)


@jit_kernel
def changed_cents(
    amount: float, same: float, shift: float, spread: float, same_bits: np.uint64, change_bits: np.uint64
) -> int:
    """Cents of a win whose amount was known: the same with probability ``same``, else times a log-normal factor."""
    if unit(same_bits) < same:
        return to_cents(amount)
    return to_cents(amount * math.exp(shift + spread * standard_normal(change_bits)))


@jit_kernel
def pooled_cents(pool: NDArray[np.float64], start: int, stop: int, factor: float, bits: np.uint64) -> int:
    """Cents of a win whose amount was not known: one of past wins, times the draw's factor."""
    pick = min(start + int(unit(bits) * (stop - start)), stop - 1)
    return to_cents(pool[pick] * factor)
