"""What the fitted model believes about the stages: where deals go next, how long they stay, how many are won.

From the hazards of :mod:`models.hazards`: with ``alive(d) = exp(-sum of hazards before day d)`` a stay ends on day d by
exit j with probability ``alive(d) (1 - exp(-L(d))) lambda_j(d) / L(d)``. Summed over days this gives the share of each
next stage and the median of the stay; the chance to win from the start of a stage solves ``v = Q v + won`` with Q the
shares between open stages. Cells of covariates are averaged with the given weights.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from forecasting.engine.compiled import jit_kernel
from forecasting.engine.exits import exit_probabilities, survival_by_day
from models.hazards import NO_EXIT, HazardSource, LatticeHazards
from models.stages import StageGraph

SUMMARY_DRAWS = 200
"""Draws looked at: their 80 % range is then known to a few percent of its width."""
SUMMARY_DAYS = 730
"""Days after which a stay that goes on counts as never ending: no move, no win."""


@dataclass(frozen=True)
class StageSummary:
    """Belief about the stages, with 80 % ranges over posterior draws.

    Parameters
    ----------
    graph : StageGraph
    stages : DataFrame
        One row per open stage: ``stage``, ``median_days``, ``win_probability``, each with ``_p10`` and ``_p90``.
        The median counts stays until any exit; infinite where half of them never end.
    moves : DataFrame
        One row per move: ``stage``, ``next``, ``share`` with ``share_p10`` and ``share_p90``.
    """

    graph: StageGraph
    stages: pd.DataFrame
    moves: pd.DataFrame


def stage_summary(
    hazards: HazardSource,
    graph: StageGraph,
    *,
    cells: NDArray[np.int32],
    weights: NDArray[np.float64] | None = None,
    days: int = SUMMARY_DAYS,
) -> StageSummary:
    """Summarise a stage model.

    Parameters
    ----------
    hazards : HazardSource
        A fitted stage posterior or planted hazards.
    graph : StageGraph
    cells : ndarray of int32, shape (cell, factor)
        Covariate cells to average over.
    weights : ndarray, shape (cell,), optional
        Weight of each cell, for example its number of deals; equal by default.
    days : int
        Length of stay looked at.

    Examples
    --------
    A coin a day for leaving, three in four of those leaving are won:

    >>> from models.hazards import PlantedHazards
    >>> graph = StageGraph(open=["Lead"], won=["Won"], lost=["Lost"])
    >>> base = np.log(2) * np.array([0.75, 0.25]).reshape(1, 1, 2, 1)
    >>> planted = PlantedHazards(np.array([[1, 2]], dtype=np.int16), base)
    >>> summary = stage_summary(planted, graph, cells=np.zeros((1, 0), dtype=np.int32))
    >>> round(float(summary.stages["win_probability"].iloc[0]), 6), float(summary.stages["median_days"].iloc[0])
    (0.75, 0.0)
    """
    draws = np.unique(np.linspace(0, hazards.n_draws - 1, SUMMARY_DRAWS).astype(np.int64))
    share_of_cell = np.ones(len(cells)) if weights is None else np.asarray(weights, dtype=np.float64)
    share_of_cell = share_of_cell / share_of_cell.sum()
    shares = np.zeros((len(draws), graph.n_open, len(graph.stages)))
    alive = np.zeros((len(draws), graph.n_open, days + 1))
    won = np.zeros((len(draws), graph.n_open))
    lattice = hazards.lattice(draws, days=days, cells=cells)
    for cell, weight in enumerate(share_of_cell):
        cell_shares, cell_alive = _shares_and_survival(lattice, graph, cell)
        shares += weight * cell_shares
        alive += weight * cell_alive
        won += weight * _win_probability(cell_shares, graph)
    return StageSummary(graph, _stage_table(graph, _median_days(alive), won), _move_table(graph, shares))


def _shares_and_survival(
    lattice: LatticeHazards, graph: StageGraph, cell: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Share of each next stage (draw, stage, stage) and chance to be there still at the start of each day, of one cell."""
    n_draws, n_stages, _, days = lattice.base.shape
    shares, alive = np.zeros((n_draws, n_stages, len(graph.stages))), np.empty((n_draws, n_stages, days + 1))
    effect = np.ascontiguousarray(lattice.effect[:, cell])
    _follow_stays(np.ascontiguousarray(lattice.base), effect, lattice.next_stage, shares, alive)
    return shares, alive


@jit_kernel
def _follow_stays(
    base: NDArray[np.float64],
    effect: NDArray[np.float64],
    next_stage: NDArray[np.int16],
    shares: NDArray[np.float64],
    alive: NDArray[np.float64],
) -> None:
    """Add up what leaves each stage over the days, by next stage, in ``shares``; fill ``alive``."""
    n_draws, n_stages, n_slots, n_days = base.shape
    leave_to, stay = np.empty((n_stages, n_slots, n_days)), np.empty((n_stages, n_days))
    for i in range(n_draws):
        exit_probabilities(base[i], effect[i], leave_to, stay)
        for k in range(n_stages):
            survival_by_day(stay[k], alive[i, k])
            for s in range(n_slots):
                if next_stage[k, s] != NO_EXIT:
                    shares[i, k, next_stage[k, s]] += (alive[i, k, :-1] * leave_to[k, s]).sum()


def _win_probability(shares: NDArray[np.float64], graph: StageGraph) -> NDArray[np.float64]:
    """Solve v = Q v + won for each draw; shape (draw, stage)."""
    between, won = shares[:, :, : graph.n_open], shares[:, :, list(graph.won_codes)].sum(axis=2)
    stuck = np.eye(graph.n_open) * (1 + 1e-12) - between
    return np.asarray(np.linalg.solve(stuck, won[..., None])[..., 0])


def _median_days(alive: NDArray[np.float64]) -> NDArray[np.float64]:
    """First day by whose end half of the stays are over; infinite if none is."""
    over = alive[..., 1:] <= 0.5 + 1e-12
    return np.where(over.any(axis=2), over.argmax(axis=2), np.inf).astype(np.float64)


def _stage_table(graph: StageGraph, median: NDArray[np.float64], won: NDArray[np.float64]) -> pd.DataFrame:
    table = pd.DataFrame({"stage": graph.open})
    for name, values in (("median_days", median), ("win_probability", won)):
        # quantiles that are draws themselves: between a number and infinity there is nothing to interpolate
        low, middle, high = np.quantile(values, [0.1, 0.5, 0.9], axis=0, method="inverted_cdf")
        table[name], table[f"{name}_p10"], table[f"{name}_p90"] = middle, low, high
    return table


def _move_table(graph: StageGraph, shares: NDArray[np.float64]) -> pd.DataFrame:
    low, high = np.quantile(shares, [0.1, 0.9], axis=0)
    mean = shares.mean(axis=0)
    stage, following = np.nonzero(mean > 0)
    return pd.DataFrame(
        {
            "stage": [graph.stages[code] for code in stage],
            "next": [graph.stages[code] for code in following],
            "share": mean[stage, following],
            "share_p10": low[stage, following],
            "share_p90": high[stage, following],
        }
    )
