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
positive terms of the size of what divides it, never a difference of survivals. As S is counted in units that change
before it underflows, a deal whose chance of lasting that long was 1e-12, or 1e-300, is as right as a new one.
Age -1 is a deal that enters the stage on forecast day 1. Source: Howard (1971), Dynamic Probabilistic Systems, volume
2, chapter 10 (discrete-time semi-Markov processes); the values v and the sums over age are ours.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from forecasting.engine.compiled import jit_inline, jit_kernel
from forecasting.engine.eventual import eventual_outcomes as eventual_outcomes
from forecasting.engine.exits import exit_probabilities as exit_probabilities
from forecasting.engine.exits import survival_by_day
from models.errors import SettingsError
from models.hazards import LatticeHazards

PUSHED_DAYS = 8
"""Days solved before what they send to later days is added up in one pass."""


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
def entry_values(
    leave_to: NDArray[np.float64],
    stay: NDArray[np.float64],
    next_stage: NDArray[np.int16],
    value: NDArray[np.float64],
    mass: NDArray[np.float64],
    out: NDArray[np.float64],
) -> None:
    """Fill ``out[stage, T]`` = G for T = 0, 1, ...; ``mass[stage, slot, day]`` is work space."""
    n_stages, horizon = out.shape
    _enter(leave_to, stay, next_stage, value, mass, out)
    solver = same_day_solver(leave_to, next_stage)
    solved = np.zeros((n_stages, PUSHED_DAYS))
    for start in range(0, horizon, PUSHED_DAYS):
        stop = min(start + PUSHED_DAYS, horizon)
        _solve_days(start, stop, solver, next_stage, mass, solved, out)
        for k in range(n_stages):
            for s in range(next_stage.shape[1]):
                j = next_stage[k, s]
                if 0 <= j < n_stages:
                    _push(out, k, stop, mass, s, solved, j)


@jit_inline
def _solve_days(
    start: int,
    stop: int,
    solver: NDArray[np.float64],
    next_stage: NDArray[np.int16],
    mass: NDArray[np.float64],
    solved: NDArray[np.float64],
    out: NDArray[np.float64],
) -> None:
    """Settle the moves within each of some days, and what these days send to one another."""
    n_stages = out.shape[0]
    for t in range(start, stop):
        for k in range(n_stages):
            today = 0.0
            for j in range(n_stages):
                today += solver[k, j] * out[j, t]
            solved[k, t - start] = today
        for k in range(n_stages):
            out[k, t] = solved[k, t - start]
            for s in range(next_stage.shape[1]):
                j = next_stage[k, s]
                if 0 <= j < n_stages:
                    for later in range(t + 1, stop):
                        out[k, later] += mass[k, s, later - t] * solved[j, t - start]


@jit_kernel
def _enter(
    leave_to: NDArray[np.float64],
    stay: NDArray[np.float64],
    next_stage: NDArray[np.int16],
    value: NDArray[np.float64],
    mass: NDArray[np.float64],
    out: NDArray[np.float64],
) -> None:
    """Fill ``mass`` with the probabilities of the first move and ``out`` with what it brings at once."""
    n_stages, horizon = out.shape
    for k in range(n_stages):
        survival, direct = 1.0, 0.0
        for d in range(horizon):
            for s in range(next_stage.shape[1]):
                j = next_stage[k, s]
                mass[k, s, d] = survival * leave_to[k, s, d]
                if j >= n_stages:
                    direct += mass[k, s, d] * value[j]
            survival *= stay[k, d]
            out[k, d] = direct + value[k] * survival


@jit_inline
def _push(
    out: NDArray[np.float64],
    k: int,
    stop: int,
    mass: NDArray[np.float64],
    s: int,
    solved: NDArray[np.float64],
    j: int,
) -> None:
    """Add to later days what ``PUSHED_DAYS`` solved days send there; eight at once keeps the sums in registers."""
    g0, g1, g2, g3 = solved[j, 0], solved[j, 1], solved[j, 2], solved[j, 3]
    g4, g5, g6, g7 = solved[j, 4], solved[j, 5], solved[j, 6], solved[j, 7]
    for c in range(out.shape[1] - stop):
        d = np.uintp(c)
        early = out[k, np.uintp(stop) + d] + mass[k, s, d + np.uintp(8)] * g0 + mass[k, s, d + np.uintp(7)] * g1
        early = early + mass[k, s, d + np.uintp(6)] * g2 + mass[k, s, d + np.uintp(5)] * g3
        early = early + mass[k, s, d + np.uintp(4)] * g4 + mass[k, s, d + np.uintp(3)] * g5
        out[k, np.uintp(stop) + d] = early + mass[k, s, d + np.uintp(2)] * g6 + mass[k, s, d + np.uintp(1)] * g7


@jit_kernel
def aged_values(
    leave_to: NDArray[np.float64],
    stay: NDArray[np.float64],
    next_stage: NDArray[np.int16],
    value: NDArray[np.float64],
    stage: int,
    entry: NDArray[np.float64],
    ages: NDArray[np.int64],
    work: NDArray[np.float64],
    out: NDArray[np.float64],
    edges: NDArray[np.int64],
    fractions: NDArray[np.float64],
) -> None:
    """Fill ``out[age, edge]`` = W of one stage for ages (ascending) at ``edges + fractions`` days of progress.

    Ages far apart are solved in separate runs: a run costs horizon x (ages spanned + horizon / 2).
    """
    horizon = entry.shape[1]
    reach = ages[-1] + horizon + 2
    survival, rescale, direct = np.empty(reach), np.empty(reach), np.empty(reach)
    survival_by_day(stay[stage], survival, rescale)
    _weigh_direct(leave_to, next_stage, value, stage, survival, direct)
    high = len(ages) - 1
    while high >= 0:
        low = high
        while low > 0 and ages[low] - ages[low - 1] <= horizon // 2:
            low -= 1
        row = high
        origin, last = ages[low], ages[high] + horizon
        for age in range(last - 1, origin - 1, -1):
            at, length = age + 1 - origin, min(horizon, last - age)
            if rescale[age + 2] >= 0.0:
                work[at : at + length] *= rescale[age + 2]
            work[at] = value[stage] * survival[age + 1] * stay[stage, age + 1]
            if direct[age + 1] > 0.0:
                _add_constant(work, at, length, direct[age + 1])
            for s in range(next_stage.shape[1]):
                j = next_stage[stage, s]
                if 0 <= j < entry.shape[0]:
                    _add_row(work, at, length, survival[age + 1] * leave_to[stage, s, age + 1], entry, j)
            if row >= low and ages[row] == age:
                now = value[stage] * survival[age + 1]
                _read_row(work, at, now, 1.0 / survival[age + 1], edges, fractions, out, row)
                row -= 1
        high = low - 1


@jit_inline
def _weigh_direct(
    leave_to: NDArray[np.float64],
    next_stage: NDArray[np.int16],
    value: NDArray[np.float64],
    stage: int,
    survival: NDArray[np.float64],
    direct: NDArray[np.float64],
) -> None:
    """Fill ``direct[day]`` with what the moves of a day to terminal stages bring, in units of the survival."""
    direct[:] = 0.0
    for s in range(next_stage.shape[1]):
        j = next_stage[stage, s]
        if j >= len(next_stage) and value[j] != 0.0:
            for d in range(len(direct) - 1):
                direct[d] += survival[d] * leave_to[stage, s, d] * value[j]


@jit_inline
def _add_constant(work: NDArray[np.float64], at: int, length: int, amount: float) -> None:
    start = np.uintp(at)  # unsigned: the compiler then knows that no index counts from the end, and vectorises
    for c in range(length):
        work[start + np.uintp(c)] += amount


@jit_inline
def _add_row(
    work: NDArray[np.float64], at: int, length: int, factor: float, rows: NDArray[np.float64], row: int
) -> None:
    start = np.uintp(at)
    for c in range(length):
        work[start + np.uintp(c)] += factor * rows[row, np.uintp(c)]


@jit_inline
def _read_row(
    work: NDArray[np.float64],
    at: int,
    now: float,
    unit: float,
    edges: NDArray[np.int64],
    fractions: NDArray[np.float64],
    out: NDArray[np.float64],
    row: int,
) -> None:
    for m in range(len(edges)):
        place = at + edges[m] - 1
        reached = work[place] if edges[m] > 0 else now
        if fractions[m] > 0.0:
            reached += fractions[m] * (work[place + 1] - reached)
        out[row, m] = reached * unit


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
    work, rows, sharp = np.empty(n_days + 1), np.empty((len(ages), len(edges))), np.zeros(len(edges))
    for i in range(n_draws):
        for cell in range(n_cells):
            exit_probabilities(base[i], effect[i, cell], leave_to, stay)
            for code in range(n_codes):
                value = np.zeros(n_codes)
                value[code] = 1.0
                entry_values(leave_to, stay, next_stage, value, mass, entry)
                for k in range(n_stages):
                    aged_values(leave_to, stay, next_stage, value, k, entry, ages, work, rows, edges, sharp)
                    out[i, cell, k, :, :, code] = rows
