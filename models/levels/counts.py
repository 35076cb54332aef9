"""Exits seen and expected by calendar period and direction: what the levels are learned from.

Expected are those of the posterior-mean hazards of the whole history. A day that a stay outlasts is a whole day at risk;
the day it ends on counts for the part 1/L - 1/(exp(L) - 1) of it, L its total hazard: with this exposure the lattice has
a Poisson likelihood in a factor on the hazards, so that seen over expected is one where the hazards fit.
"""

import math
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING

import numpy as np
from numba import njit
from numpy.typing import NDArray

from models.history import unseen_days
from models.stage_model.base_lattice import base_by_day

if TYPE_CHECKING:
    import pandas as pd

    from models.stage_model.posterior import StagePosterior

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
FORWARD, DOWN, NO_DIRECTION = 0, 1, -1
"""Direction of an exit: to a win or to where more deals are won; to anywhere else; no exit in this slot."""
DIRECTIONS = ("forward", "down")
SMALL_HAZARD = 1e-6
"""Below it the day of an exit counts for half: the formula would lose its digits."""
MEAN_DRAWS = 200
"""Draws that the mean hazards are taken over: their error is then a fourteenth of the posterior sd."""


@dataclass(frozen=True)
class LevelCounts:
    """Exits by calendar period and direction.

    Parameters
    ----------
    exits, expected : ndarray of float64, shape (period, direction)
        Seen, and expected from the mean hazards; oldest period first, the last one ends on the as-of date.
    days : int
        Length of a period.
    direction : ndarray of int64, shape (stage, slot)
        Direction of each exit slot of the stage model: ``FORWARD``, ``DOWN`` or ``NO_DIRECTION``.
    """

    exits: Floats
    expected: Floats
    days: int
    direction: Ints


def level_counts(
    stays: "pd.DataFrame", stage: "StagePosterior", *, cells: NDArray[np.int32], as_of: date, days: int
) -> LevelCounts:
    """Count exits seen and expected.

    Parameters
    ----------
    stays : DataFrame
        One row per stay: ``cell``, ``stage``, ``next``, ``days``, ``entered_on``, and ``days_unseen`` if some were not
        watched from their first day on; the stays the model was fitted to.
    stage : StagePosterior
    cells : ndarray of int, shape (cell, factor)
        Level codes that ``cell`` points at.
    as_of : date
    days : int
        Length of a period.

    Returns
    -------
    LevelCounts
    """
    entered = stays["entered_on"].to_numpy().astype("datetime64[D]").astype(np.int64)
    days_ago = int(np.datetime64(as_of, "D").astype(np.int64)) - entered
    of_stage, cell, length = (stays[name].to_numpy(dtype=np.int64) for name in ("stage", "cell", "days"))
    slot = _slots(stage, of_stage, stays["next"].to_numpy(dtype=np.int64))
    direction = exit_directions(stage, of_stage, slot)
    unseen = unseen_days(stays)
    counts = np.zeros((2, len(DIRECTIONS), int((days_ago - unseen).max(initial=0)) // days + 1))
    draws = np.unique(np.linspace(0, stage.n_draws - 1, min(MEAN_DRAWS, stage.n_draws)).astype(np.int64))
    for code, fit in enumerate(stage.stages):
        rows = of_stage == code
        if not rows.any():
            continue
        used, place = np.unique(cell[rows], return_inverse=True)
        base = base_by_day(fit.shape, fit.base[draws], days=int(length[rows].max()) + 1).mean(axis=0)
        effect = np.exp(stage.log_effect(code, draws, cells[used])).mean(axis=0)
        table = np.column_stack([place.reshape(-1), slot[rows], length[rows], days_ago[rows], unseen[rows]])
        _add_stays(base, effect, direction[code], table, days, counts)
    exits, expected = np.ascontiguousarray(np.moveaxis(counts[:, :, ::-1], 1, 2))
    return LevelCounts(exits, expected, days, direction)


def exit_directions(stage: "StagePosterior", of_stage: Ints, slot: Ints) -> Ints:
    """Direction of every exit, from the value of stages v = (I - Q)^-1 q, the share of stays that lead to a win.

    Parameters
    ----------
    stage : StagePosterior
    of_stage, slot : ndarray of int64, shape (stay,)
        Open stage of each stay and its exit, negative while it has not ended.

    Returns
    -------
    ndarray of int64, shape (stage, slot)
    """
    graph = stage.graph
    slots = max(len(fit.exits) for fit in stage.stages)
    share = np.zeros((graph.n_open, len(graph.stages)))
    for code, fit in enumerate(stage.stages):
        seen = np.bincount(slot[(of_stage == code) & (slot >= 0)], minlength=len(fit.exits))
        # one exit shared out evenly stands for exits of which none has been seen
        share[code, list(fit.exits)] = (seen + 1.0 / len(fit.exits)) / (seen.sum() + 1.0)
    moves = share[:, : graph.n_open] * (1.0 - 1e-9)  # stages that only lead to each other are worth nothing
    value = np.zeros(len(graph.stages))
    value[list(graph.won_codes)] = 1.0
    value[: graph.n_open] = np.linalg.solve(np.eye(graph.n_open) - moves, share[:, list(graph.won_codes)].sum(axis=1))
    direction = np.full((graph.n_open, slots), NO_DIRECTION, dtype=np.int64)
    for code, fit in enumerate(stage.stages):
        exits = np.array(fit.exits, dtype=np.int64)
        wins = np.isin(exits, graph.won_codes)  # from a stage that is never lost too, where a win is worth no more
        direction[code, : len(exits)] = np.where(wins | (value[exits] > value[code]), FORWARD, DOWN)
    return direction


def _slots(stage: "StagePosterior", of_stage: Ints, following: Ints) -> Ints:
    """Place of each stay's next stage among the exits of its stage, -1 where it has not ended."""
    place = np.full((len(stage.stages), len(stage.graph.stages) + 1), -1, dtype=np.int64)
    for code, fit in enumerate(stage.stages):
        place[code, list(fit.exits)] = np.arange(len(fit.exits))
    return np.asarray(place[of_stage, following])  # code -1 of an open stay takes the last column, which is never set


@njit(cache=True)
def _add_stays(base: Floats, effect: Floats, direction: Ints, stays: Ints, width: int, counts: Floats) -> None:
    """Add the stays of one stage to ``counts`` (seen or expected, direction, period), period 0 the latest.

    ``base`` has shape (exit, day), ``effect`` (cell, exit); rows of ``stays`` are cell, slot of the exit or -1, days,
    days from the entry to the as-of date, and days before the stay was watched.
    """
    n_exits, n_days = base.shape
    before = np.zeros((n_exits, n_days + 1))
    for j in range(n_exits):
        for day in range(n_days):
            before[j, day + 1] = before[j, day] + base[j, day]
    for cell, slot, last, days_ago, unseen in stays:
        outlasted = last if slot >= 0 else last + 1
        day = unseen
        while day < outlasted:
            period = (days_ago - day) // width
            end = min(outlasted, days_ago - period * width + 1)
            for j in range(n_exits):
                counts[1, direction[j], period] += effect[cell, j] * (before[j, end] - before[j, day])
            day = end
        if slot < 0:
            continue
        period = (days_ago - last) // width
        counts[0, direction[slot], period] += 1.0
        total = 0.0
        for j in range(n_exits):
            total += effect[cell, j] * base[j, last]
        part = 0.5 if total < SMALL_HAZARD else 1.0 / total - 1.0 / math.expm1(total)
        for j in range(n_exits):
            counts[1, direction[j], period] += part * effect[cell, j] * base[j, last]
