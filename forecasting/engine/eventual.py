"""Where deals end at last, whenever that is: the embedded chain of moves, absorbed in the terminal stages."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from forecasting.engine.compiled import jit_kernel
from forecasting.engine.exits import exit_probabilities
from models.hazards import LatticeHazards

HELD_DAYS = 3650.0
"""Days for which the hazard of the last lattice day is held: ten years more, so that what hardly ever happens, such as a
forgotten deal that is won, is not made certain by waiting without end."""
NEVER_ENDS = 1e-14
"""Chance to end nowhere, added to every move: stages that only lead to one another are then left unresolved, not refused."""


def eventual_outcomes(hazards: LatticeHazards, *, n_codes: int, ages: Sequence[int]) -> NDArray[np.float64]:
    """Probability of each terminal outcome ever, the hazard of the last lattice day held for ten years more.

    With ``pi[k, j, a]`` the probability that the next move of a deal a days in stage k leads to j, the absorption
    probabilities B of deals entering a stage solve B = pi_open B + pi_terminal (an absorbing Markov chain, Kemeny and
    Snell 1960, theorem 3.3.7).

    Parameters
    ----------
    hazards : LatticeHazards
        Reaching well beyond the ages, since the last day is held.
    n_codes : int
        Number of stage codes.
    ages : sequence of int
        Days in stage, ascending; -1 for a deal about to enter.

    Returns
    -------
    ndarray of float64, shape (draw, cell, stage, age, code)
        Open codes are zero. Rows add up to one where the last hazard is no rarity: what is missing stays open.

    Examples
    --------
    >>> hazards = LatticeHazards(np.array([[1, 2]], dtype=np.int16), np.full((1, 1, 2, 9), 0.1), np.ones((1, 1, 1, 2)))
    >>> eventual_outcomes(hazards, n_codes=3, ages=[5])[0, 0, 0, 0].round(6).tolist()
    [0.0, 0.5, 0.5]
    """
    n_draws, n_cells, n_stages, _ = hazards.effect.shape
    rows = np.asarray(ages, dtype=np.int64)
    next_stage = np.ascontiguousarray(hazards.next_stage, dtype=np.int16)
    out = np.zeros((n_draws, n_cells, n_stages, len(rows), n_codes))
    for code in range(n_stages, n_codes):
        value = np.zeros(n_codes)
        value[code] = 1.0
        _fill_eventual(np.ascontiguousarray(hazards.base), hazards.effect, next_stage, value, rows, out[..., code])
    return out


@jit_kernel
def _fill_eventual(
    base: NDArray[np.float64],
    effect: NDArray[np.float64],
    next_stage: NDArray[np.int16],
    value: NDArray[np.float64],
    ages: NDArray[np.int64],
    out: NDArray[np.float64],
) -> None:
    n_draws, n_cells, n_stages, n_slots = effect.shape
    n_days = base.shape[3]
    leave_to, stay = np.empty((n_stages, n_slots, n_days)), np.empty((n_stages, n_days))
    for i in range(n_draws):
        for cell in range(n_cells):
            exit_probabilities(base[i], effect[i, cell], leave_to, stay)
            entry = eventual_entry_values(leave_to, stay, next_stage, value)
            for k in range(n_stages):
                eventual_aged_values(leave_to[k], stay[k], next_stage[k], entry, ages, out[i, cell, k])


@jit_kernel
def eventual_entry_values(
    leave_to: NDArray[np.float64], stay: NDArray[np.float64], next_stage: NDArray[np.int16], value: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Expected final ``value`` by stage code of a deal entering it: terminal codes keep their own value."""
    n_stages, n_slots, n_days = leave_to.shape
    system, direct = np.eye(n_stages) * (1.0 + NEVER_ENDS), np.zeros(n_stages)
    for k in range(n_stages):
        for s in range(n_slots):
            j = next_stage[k, s]
            if j >= 0:
                leaves = 1.0 - stay[k, n_days - 1]
                ever = 1.0 - stay[k, n_days - 1] ** HELD_DAYS
                share = leave_to[k, s, n_days - 1] / leaves * ever if leaves > 0.0 else 0.0
                for d in range(n_days - 2, -1, -1):
                    share = leave_to[k, s, d] + stay[k, d] * share
                if j < n_stages:
                    system[k, j] -= share
                else:
                    direct[k] += share * value[j]
    entry = value.copy()
    entry[:n_stages] = np.linalg.solve(system, direct)
    return entry


@jit_kernel
def eventual_aged_values(
    leave_to: NDArray[np.float64],
    stay: NDArray[np.float64],
    next_stage: NDArray[np.int16],
    entry: NDArray[np.float64],
    ages: NDArray[np.int64],
    out: NDArray[np.float64],
) -> None:
    """Fill ``out[age]`` with the expected final value in one stage, ages ascending."""
    n_days = stay.shape[0]
    leaves, ever, after = 1.0 - stay[n_days - 1], 1.0 - stay[n_days - 1] ** HELD_DAYS, 0.0
    for s in range(len(next_stage)):
        if next_stage[s] >= 0 and leaves > 0.0:
            after += leave_to[s, n_days - 1] / leaves * ever * entry[next_stage[s]]
    row = len(ages) - 1
    for age in range(n_days - 2, -2, -1):
        while row >= 0 and ages[row] > age:
            out[row] = after
            row -= 1
        after *= stay[age + 1]
        for s in range(len(next_stage)):
            if next_stage[s] >= 0:
                after += leave_to[s, age + 1] * entry[next_stage[s]]
    while row >= 0:
        out[row] = after
        row -= 1
