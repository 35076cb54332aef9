"""From hazards to probabilities of the day: leave to each exit, stay, still be there."""

import numpy as np
from numpy.typing import NDArray

from forecasting.engine.compiled import jit_fused, jit_inline, jit_kernel

TINY = 1e-300
"""Guards divisions by a hazard that may be zero."""
MAX_DAY_HAZARD = 40.0
"""Integrated hazards of one day beyond this leave nobody: 1 - exp(-40) is 1 in float64."""
HALVINGS = 8
"""``1 - exp(-L)`` is summed as a series at ``L / 2 ** HALVINGS``, then doubled back: fast in vector registers."""
STRETCH = 32
"""Products and sums over days are taken in stretches first: each step waits for the one before, stretches do not wait. Its
length must not depend on how many days are asked for, or a deal would not be the same to the last bit among others."""


@jit_inline
def leave_probability(hazard: float) -> float:
    """``1 - exp(-hazard)`` to full relative precision, as straight-line code that compilers turn into vector code.

    With m(x) = 1 - exp(-x): a Taylor series at ``x = hazard / 256``, then m(2 x) = m(x) (2 - m(x)), whose relative
    condition number is below one.
    """
    x = min(hazard, MAX_DAY_HAZARD) * (1.0 / 2**HALVINGS)
    series = 1.0 / 3628800.0 - x * (1.0 / 39916800.0)
    series = 1.0 / 362880.0 - x * series
    series = 1.0 / 40320.0 - x * series
    series = 1.0 / 5040.0 - x * series
    series = 1.0 / 720.0 - x * series
    series = 1.0 / 120.0 - x * series
    series = 1.0 / 24.0 - x * series
    series = 1.0 / 6.0 - x * series
    series = 0.5 - x * series
    series = 1.0 - x * series
    m: float = x * series
    for _ in range(HALVINGS):
        m = m * (2.0 - m)
    return m


@jit_fused
def exit_probabilities(
    base: NDArray[np.float64],
    effect: NDArray[np.float64],
    leave_to: NDArray[np.float64],
    stay: NDArray[np.float64],
) -> None:
    """Fill ``leave_to[stage, slot, day]`` and ``stay[stage, day]`` from the hazards of one draw and cell."""
    n_stages, n_slots, n_days = leave_to.shape
    for k in range(n_stages):
        total = stay[k]
        total[:] = 0.0
        for s in range(n_slots):
            factor = effect[k, s]
            for d in range(n_days):
                total[d] += base[k, s, d] * factor
        first = leave_to[k, 0]
        for d in range(n_days):
            hazard = total[d]
            leave = leave_probability(hazard)
            total[d] = 1.0 - leave
            first[d] = leave / max(hazard, TINY)
        for s in range(n_slots - 1, -1, -1):
            factor = effect[k, s]
            for d in range(n_days):
                leave_to[k, s, d] = base[k, s, d] * factor * first[d]


@jit_kernel
def survival_by_day(stay: NDArray[np.float64], survival: NDArray[np.float64]) -> None:
    """Fill ``survival[d]``, the probability to stay through days 0 .. d - 1; one day longer than ``stay``."""
    n_days = len(stay)
    survival[0] = 1.0
    for start in range(0, n_days, STRETCH):
        left = 1.0
        for d in range(start, min(start + STRETCH, n_days)):
            left *= stay[d]
            survival[d + 1] = left
    for start in range(STRETCH, n_days, STRETCH):
        before = survival[start]
        for d in range(start, min(start + STRETCH, n_days)):
            survival[d + 1] *= before
