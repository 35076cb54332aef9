"""Exact outcome probabilities on the day lattice: the semi-Markov renewal equations, solved per posterior draw.

Let ``p[k, j, d]`` be the probability that a deal in stage k at the start of day d of its stay goes to j on that day,
``q[k, d]`` the probability that it stays (see :mod:`models.hazards`), and ``v[c]`` the value of being at stage code
c: one at the outcome asked for, zero elsewhere. The expected value ``G[k, T]`` at the end of the T-th day after
entering k on day 0 solves

    G[k, T] = v[k] S[k, T + 1] + sum over j, d <= T of S[k, d] p[k, j, d] G[j, T - d],
    S[k, d] = q[k, 0] ... q[k, d - 1],

with G = v for terminal j. The terms with d = 0, moves on the day of entry, loops included, make a linear system with
the matrix I - A0, A0[k, j] = p[k, j, 0], solved day by day. A deal in k for a days then has

    W[k, a, 0] = v[k],
    W[k, a, T] = sum over j of p[k, j, a + 1] G[j, T - 1] + q[k, a + 1] W[k, a + 1, T - 1].

Summed up, W is S[k, a + 1 + u] p[k, j, a + 1 + u] G[j, T - 1 - u] over u and j, divided by S[k, a + 1]: a sum of
positive terms of the size of what divides it, never a difference of survivals. Where S is too small for that, and where
every T is asked for, W is had from the recursion, which loses nothing either: what leaves is taken away only where at
least half stays. So a deal whose chance of lasting that
long was 1e-12, or 1e-300, is as right as a new one.
Age -1 is a deal that enters the stage on forecast day 1. Source: Howard (1971), Dynamic Probabilistic Systems, volume
2, chapter 10 (discrete-time semi-Markov processes); the values v and the sums over age are ours.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from forecasting.engine.compiled import jit_fused, jit_kernel
from forecasting.engine.eventual import eventual_outcomes as eventual_outcomes
from forecasting.engine.exits import exit_probabilities as exit_probabilities
from forecasting.engine.stage_sums import PUSHED_DAYS, Values, add_eight, stage_of, stage_values
from models.errors import SettingsError
from models.hazards import LatticeHazards


@jit_kernel
def same_day_solver(leave_to: NDArray[np.float64], next_stage: NDArray[np.int16]) -> NDArray[np.float64]:
    """Inverse of I - A0: all chains of moves within the day of entry."""
    n_stages = leave_to.shape[0]
    system = np.eye(n_stages)
    for k in range(n_stages):
        for s in range(leave_to.shape[1]):
            j = next_stage[k, s]
            if 0 <= j < n_stages:
                system[k, j] -= leave_to[k, s, 0]
    return np.linalg.inv(system)


@jit_kernel
def stages_in_order(next_stage: NDArray[np.int16]) -> NDArray[np.int64]:
    """Open stages, each after all that it leads to; none if a deal can come back to a stage it has left."""
    n_stages, found = len(next_stage), 0
    order, listed = np.empty(n_stages, dtype=np.int64), np.zeros(n_stages, dtype=np.bool_)
    for _ in range(n_stages):
        for k in range(n_stages):
            ready = not listed[k]
            for j in next_stage[k]:
                ready = ready and (j < 0 or j >= n_stages or listed[j])
            if ready:
                order[found], listed[k] = k, True
                found += 1
    return order[: found if found == n_stages else 0]


@jit_fused
def entry_values(
    leave_to: NDArray[np.float64],
    stay: NDArray[np.float64],
    next_stage: NDArray[np.int16],
    value: NDArray[np.float64],
    mass: Values,
    out: Values,
) -> None:
    """Fill ``out[stage, T]`` = G for T = 0, 1, ...; ``mass[stage, slot, day]`` is work space."""
    n_stages, horizon = out.shape
    _enter(leave_to, stay, next_stage, value, mass, out)
    solver, moves = same_day_solver(leave_to, next_stage), _open_moves(next_stage)
    solved = np.zeros((n_stages, PUSHED_DAYS), dtype=out.dtype)
    for start in range(0, horizon, PUSHED_DAYS):
        stop = min(start + PUSHED_DAYS, horizon)
        _solve_days(start, stop, solver, moves, mass, solved, out)
        for i in range(len(moves)):
            k, s, j = moves[i]
            add_eight(out[k, stop:], mass[k, s, 1:], solved[j])


@jit_fused
def _solve_days(
    start: int,
    stop: int,
    solver: NDArray[np.float64],
    moves: NDArray[np.uintp],
    mass: Values,
    solved: Values,
    out: Values,
) -> None:
    """Settle the moves within each of some days, and what these days send to one another.

    ``moves[i]`` are the stage, the exit and the next stage of every move between open stages.
    """
    n_stages = np.uintp(out.shape[0])
    for day in range(start, stop):
        t, place = np.uintp(day), np.uintp(day - start)
        for k in range(n_stages):
            today = 0.0
            for j in range(n_stages):
                today += solver[k, j] * out[j, t]
            solved[k, place] = today
        for k in range(n_stages):
            out[k, t] = solved[k, place]
        for i in range(len(moves)):
            k, s, gain = moves[np.uintp(i), 0], moves[np.uintp(i), 1], solved[moves[np.uintp(i), 2], place]
            for lag in range(1, stop - day):
                out[k, t + np.uintp(lag)] += mass[k, s, np.uintp(lag)] * gain


@jit_kernel
def _open_moves(next_stage: NDArray[np.int16]) -> NDArray[np.uintp]:
    """Stage, exit and next stage of every move between open stages, shape (move, 3)."""
    moves = np.empty((next_stage.size, 3), dtype=np.uintp)
    n = 0
    for k in range(next_stage.shape[0]):
        for s in range(next_stage.shape[1]):
            if 0 <= next_stage[k, s] < next_stage.shape[0]:
                moves[n, 0], moves[n, 1], moves[n, 2] = k, s, next_stage[k, s]
                n += 1
    return moves[:n].copy()


@jit_kernel
def _enter(
    leave_to: NDArray[np.float64],
    stay: NDArray[np.float64],
    next_stage: NDArray[np.int16],
    value: NDArray[np.float64],
    mass: Values,
    out: Values,
) -> None:
    """Fill ``mass`` with the probabilities of the first move and ``out`` with what it brings at once."""
    n_stages, horizon = out.shape
    survival = np.empty(horizon + 1)
    survival[0] = 1.0
    for k in range(n_stages):
        for d in range(horizon):
            survival[d + 1] = survival[d] * stay[k, d]
        for d in range(horizon):
            out[k, d] = value[k] * survival[d + 1]
        for s in range(next_stage.shape[1]):
            j = next_stage[k, s]
            for d in range(horizon):
                mass[k, s, d] = survival[d] * leave_to[k, s, d]
            if j >= n_stages and value[j] != 0.0:
                direct = 0.0
                for d in range(horizon):
                    direct += mass[k, s, d] * value[j]
                    out[k, d] += direct


@dataclass(frozen=True)
class OutcomeTable:
    """Probabilities of every outcome by forecast day, exact for each draw.

    Parameters
    ----------
    probability : ndarray of float64, shape (draw, cell, stage, age, day, code)
        Probability that the deal is at stage ``code`` at the end of forecast day ``days[day]``: in an open stage, or
        ended in a terminal one. Sums to one over ``code``.
    ages : ndarray of int64, shape (age,)
        Days spent in the stage at the as-of date; -1 is a deal entering the stage on forecast day 1.
    days : ndarray of int64, shape (day,)
        Forecast days (1 is the day after the as-of date).
    """

    probability: NDArray[np.float64]
    ages: NDArray[np.int64]
    days: NDArray[np.int64]


def outcome_table(hazards: LatticeHazards, *, n_codes: int, days: Sequence[int], ages: Sequence[int]) -> OutcomeTable:
    """Probability of each stage and outcome by day, given stage and days in stage, without simulation.

    Solves the renewal equations in the module's docstring: G[k, T] by days since entry, W[k, a, T] by days already
    spent.

    Parameters
    ----------
    hazards : LatticeHazards
        Must reach to day ``max(ages) + max(days)`` of a stay.
    n_codes : int
        Number of stage codes, open and terminal (``len(graph.stages)``).
    days : sequence of int
        Forecast days, 1 = the day after the as-of date.
    ages : sequence of int
        Days in stage at the as-of date; -1 = a deal entering on day 1.

    Returns
    -------
    OutcomeTable
        ``probability[draw, cell, stage, age, day, code]``.

    Raises
    ------
    SettingsError
        No day or age, a day below 1, an age below -1, or hazards over too few days.

    Examples
    --------
    A deal that is won with probability 0.1 a day:

    >>> rate = -np.log(0.9) * np.ones((1, 1, 1, 50))
    >>> hazards = LatticeHazards(np.array([[1]], dtype=np.int16), rate, np.ones((1, 1, 1, 1)))
    >>> table = outcome_table(hazards, n_codes=2, days=[1, 2], ages=[0, 30])
    >>> table.probability[0, 0, 0, :, :, 1].round(4).tolist()
    [[0.1, 0.19], [0.1, 0.19]]
    """
    edges, rows = np.unique(np.asarray(days, dtype=np.int64)), np.unique(np.asarray(ages, dtype=np.int64))
    if len(edges) != len(days) or len(rows) != len(ages) or not len(edges) or not len(rows):
        raise SettingsError(f"days and ages must be ascending without repeats, got days={days!r} and ages={ages!r}")
    if edges[0] < 1 or rows[0] < -1:
        raise SettingsError(f"days must be at least 1 and ages at least -1, got {edges[0]} and {rows[0]}")
    needed = int(edges[-1] + rows[-1]) + 1
    if hazards.base.shape[-1] < needed:
        raise SettingsError(f"hazards over {hazards.base.shape[-1]} days, {needed} needed: ask lattice(days={needed})")
    next_stage = np.ascontiguousarray(hazards.next_stage, dtype=np.int16)
    if next_stage.max(initial=-1) >= n_codes:
        raise SettingsError(f"hazards lead to stage code {next_stage.max()}, but n_codes is {n_codes}")
    n_draws, n_cells, n_stages, _ = hazards.effect.shape
    out = np.empty((n_draws, n_cells, n_stages, len(rows), len(edges), n_codes))
    _fill_outcomes(np.ascontiguousarray(hazards.base), hazards.effect, next_stage, rows, edges, out)
    return OutcomeTable(out, rows, edges)


@jit_kernel
def _fill_outcomes(
    base: NDArray[np.float64],
    effect: NDArray[np.float64],
    next_stage: NDArray[np.int16],
    ages: NDArray[np.int64],
    edges: NDArray[np.int64],
    out: NDArray[np.float64],
) -> None:
    n_draws, n_cells, n_stages, n_slots = effect.shape
    n_days, horizon, n_codes = base.shape[3], edges[-1], out.shape[5]
    leave_to, stay = np.empty((n_stages, n_slots, n_days)), np.empty((n_stages, n_days))
    mass, entry = np.empty((n_stages, n_slots, horizon)), np.empty((n_stages, horizon))
    rows = np.empty((len(ages), len(edges)))
    for i in range(n_draws):
        for cell in range(n_cells):
            exit_probabilities(base[i], effect[i, cell], leave_to, stay)
            for code in range(n_codes):
                value = np.zeros(n_codes)
                value[code] = 1.0
                entry_values(leave_to, stay, next_stage, value, mass, entry)
                for k in range(n_stages):
                    stage = stage_of(leave_to, stay, next_stage, value, k, entry)
                    stage_values(stage, ages, edges, entry[k, :0], rows)
                    out[i, cell, k, :, :, code] = rows
