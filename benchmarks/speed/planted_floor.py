"""Pipelines of any size with planted hazards, for timing; amounts known, four segments, twelve months."""

from dataclasses import dataclass
from datetime import date

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from forecasting.data.open_pipeline import OpenPipeline
from forecasting.engine.renewal import outcome_table
from models.hazards import PlantedHazards
from models.stages import StageGraph

HORIZON = 365
EDGES = np.round(np.arange(1, 13) * HORIZON / 12).astype(np.int64)
MAX_AGE = 179
SEGMENTS = ("East", "North", "South", "West")


@dataclass(frozen=True)
class Floor:
    """A pipeline and the hazards of its deals.

    ``shape``, ``scale`` and ``onward`` are the Weibull parameters of every stay and the probability to move on rather
    than be lost, by (draw, stage), where the pipeline is a row of stages; empty otherwise.
    """

    pipeline: OpenPipeline
    source: PlantedHazards
    shape: NDArray[np.float64]
    scale: NDArray[np.float64]
    onward: NDArray[np.float64]


def row_floor(n_deals: int, draws: int, *, seed: int = 1, n_open: int = 5) -> Floor:
    """Stages in a row; days in each are Weibull, and the share that moves on is the same on every day."""
    rng = np.random.default_rng(seed)
    graph = StageGraph(open=[f"Stage {k}" for k in range(n_open)], won=["Won"], lost=["Lost"])
    shape = rng.uniform(0.8, 1.4, (draws, n_open))
    scale = rng.uniform(15.0, 45.0, (draws, n_open))
    onward = rng.uniform(0.7, 0.9, (draws, n_open))
    days = np.arange(MAX_AGE + HORIZON + 3)
    base = np.empty((draws, n_open, 2, len(days) - 1))
    for i in range(draws):
        total = np.diff((days / scale[i][:, None]) ** shape[i][:, None], axis=1)
        base[i, :, 0], base[i, :, 1] = onward[i][:, None] * total, (1 - onward[i][:, None]) * total
    next_stage = np.array([[k + 1, n_open + 1] for k in range(n_open)], dtype=np.int16)
    return Floor(_pipeline(graph, n_deals, 1, rng), PlantedHazards(next_stage, base), shape, scale, onward)


def general_floor(n_deals: int, draws: int, *, seed: int = 2) -> Floor:
    """Eight stages with three exits each, back moves and moves on the day of entry, hazards constant by pieces."""
    rng = np.random.default_rng(seed)
    n_open = 8
    graph = StageGraph(open=[f"Stage {k}" for k in range(n_open)], won=["Won"], lost=["Lost"])
    next_stage = np.array([[k + 1, max(k - 1, 0) if k else 2, n_open + 1] for k in range(n_open)], dtype=np.int16)
    pieces = np.digitize(np.arange(MAX_AGE + HORIZON + 2), [1, 3, 7, 14, 30, 60, 120])
    rate = rng.gamma(4.0, 1.0, (draws, n_open, 3, 8)) * np.array([0.025, 0.003, 0.004])[:, None] / 4
    rate[..., 0] *= 4
    return Floor(
        _pipeline(graph, n_deals, 1, rng), PlantedHazards(next_stage, rate[..., pieces]), *(np.empty((0, 0)),) * 3
    )


def _pipeline(graph: StageGraph, n_deals: int, cells: int, rng: np.random.Generator) -> OpenPipeline:
    deals = pd.DataFrame(
        {
            "deal_id": np.char.mod("D%07d", np.arange(n_deals)).astype(object),
            "stage": rng.integers(0, graph.n_open, n_deals),
            "days_in_stage": rng.integers(0, MAX_AGE + 1, n_deals),
            "amount": rng.lognormal(9, 1, n_deals).round(2),
            "cell": rng.integers(0, cells, n_deals),
            "segment": np.array(SEGMENTS, dtype=object)[rng.integers(0, 4, n_deals)],
            "owner": None,
        }
    )
    return OpenPipeline(graph, date(2026, 9, 30), deals, np.arange(cells, dtype=np.int32)[:, None])


def expected_wins(floor: Floor, draws: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Exact mean and variance of the wins by (draw, month)."""
    deals, graph = floor.pipeline.deals, floor.pipeline.graph
    ages = np.unique(deals["days_in_stage"].to_numpy())
    mean, variance = np.empty((draws, len(EDGES))), np.empty((draws, len(EDGES)))
    at = deals["stage"].to_numpy(), np.searchsorted(ages, deals["days_in_stage"].to_numpy())
    for i in range(draws):
        hazards = floor.source.lattice(
            np.array([i]), days=int(ages[-1]) + HORIZON + 1, cells=np.zeros((1, 1), dtype=np.int32)
        )
        table = outcome_table(hazards, n_codes=len(graph.stages), days=EDGES.tolist(), ages=ages.tolist())
        by_edge = table.probability[0, 0][at][..., list(graph.won_codes)].sum(axis=-1)
        by_month = np.diff(by_edge, axis=1, prepend=0.0)
        mean[i], variance[i] = by_month.sum(axis=0), (by_month * (1 - by_month)).sum(axis=0)
    return mean, variance
