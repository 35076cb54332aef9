"""Histories drawn from known hazards on the day lattice."""

import numpy as np
import pandas as pd

from models.history import STILL_OPEN, Factor, StageHistory, count_stays
from models.stage_model.data import StageData
from models.stages import StageGraph

GRAPH = StageGraph(open=["Lead", "Offer"], won=["Won"], lost=["Lost"])
EXITS = {0: (1, 3), 1: (2, 3)}


def base_hazards(days: int = 400) -> np.ndarray:
    """True hazards (stage, exit, day): constant from day 0, from day 1 and from day 10 on."""
    base = np.empty((2, 2, days))
    for stage, levels in enumerate([((0.3, 0.05, 0.02), (0.05, 0.02, 0.03)), ((0.1, 0.04, 0.04), (0.02, 0.03, 0.06))]):
        for exit_, (first, early, late) in enumerate(levels):
            base[stage, exit_, 0], base[stage, exit_, 1:10], base[stage, exit_, 10:] = first, early, late
    return base


def draw_stays(n: int, seed: int, effects: np.ndarray | None = None) -> pd.DataFrame:
    """Draw n stays of each stage, observed for 5 to 90 days; ``effects`` (cell, exit) are log factors."""
    rng = np.random.default_rng(seed)
    base = base_hazards()
    effects = np.zeros((1, 2)) if effects is None else effects
    rows = []
    for stage in (0, 1):
        cells = rng.integers(0, len(effects), n)
        for cell, limit in zip(cells, rng.integers(5, 90, n), strict=True):
            hazards = base[stage, :, : limit + 1] * np.exp(effects[cell])[:, None]
            left = np.flatnonzero(rng.random(limit + 1) < -np.expm1(-hazards.sum(axis=0)))
            if len(left) == 0:
                rows.append((cell, stage, STILL_OPEN, limit))
                continue
            today = hazards[:, left[0]]
            rows.append((cell, stage, EXITS[stage][int(rng.random() > today[0] / today.sum())], left[0]))
    return pd.DataFrame(rows, columns=["cell", "stage", "next", "days"])


def planted_history(n: int, seed: int, effects: np.ndarray | None = None) -> StageHistory:
    """Count drawn stays; with effects there is one factor ``region`` whose level is the cell."""
    counts = count_stays(draw_stays(n, seed, effects))
    if effects is None:
        return StageHistory(GRAPH, counts, (), np.zeros((1, 0), dtype=np.int32))
    levels = tuple(f"r{level}" for level in range(len(effects)))
    return StageHistory(GRAPH, counts, (Factor("region", levels),), np.arange(len(effects), dtype=np.int32)[:, None])


def even_rates(data: StageData, rate: float = 0.1) -> np.ndarray:
    """Exit rates of a pipeline that favours no exit, shape (exit,)."""
    return np.full(data.n_exits, rate / data.n_exits)
