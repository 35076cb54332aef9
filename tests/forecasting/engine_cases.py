"""Pipelines with planted hazards, and the slow independent answer for them: loops over days in plain NumPy."""

from datetime import date

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from forecasting.data.open_pipeline import OpenPipeline
from models.amounts import AmountPosterior
from models.arrivals.model import ArrivalPosterior
from models.hazards import LatticeHazards, PlantedHazards
from models.stages import StageGraph

TABLE_ERROR = 1e-6
"""What samplers may be off the exact probabilities within a year: their tables hold 24 bits."""


def row_graph(n_open: int = 3) -> StageGraph:
    return StageGraph(open=[f"S{k}" for k in range(n_open)], won=["Won"], lost=["Lost", "Gone"])


def row_hazards(n_draws: int = 2, days: int = 120, n_open: int = 3, seed: int = 0) -> PlantedHazards:
    """Stages in a row, two kinds of lost, Weibull-like hazards that differ by draw; two cells."""
    rng = np.random.default_rng(seed)
    next_stage = np.array([[k + 1, n_open + 1, n_open + 2] for k in range(n_open)], dtype=np.int16)
    shape = rng.uniform(0.6, 1.6, (n_draws, n_open, 3, 1))
    scale = rng.uniform(20, 60, (n_draws, n_open, 3, 1))
    day = np.arange(days + 1) / scale
    base = np.diff(day**shape, axis=-1)
    return PlantedHazards(next_stage, base, rng.uniform(0.5, 2.0, (n_draws, 2, n_open, 3)))


def loop_hazards(n_draws: int = 2, days: int = 120, seed: int = 1) -> PlantedHazards:
    """Back moves, a return to the same stage, much on the day of entry: three open stages, two won, one lost."""
    rng = np.random.default_rng(seed)
    next_stage = np.array([[1, 2, 5], [0, 2, 3], [0, 2, 4]], dtype=np.int16)
    base = rng.gamma(0.5, 0.08, (n_draws, 3, 3, days))
    base[..., 0] += rng.uniform(0.2, 0.9, (n_draws, 3, 3))
    return PlantedHazards(next_stage, base, rng.uniform(0.5, 2.0, (n_draws, 2, 3, 3)))


LOOP_GRAPH = StageGraph(open=["A", "B", "C"], won=["Won", "Upsold"], lost=["Lost"])


def open_deals(graph: StageGraph, n: int, *, max_age: int = 40, cells: int = 2, seed: int = 0) -> OpenPipeline:
    """Deals in all stages, ages, cells and three segments."""
    rng = np.random.default_rng(seed)
    deals = pd.DataFrame(
        {
            "deal_id": [f"D{i:06d}" for i in range(n)],
            "stage": rng.integers(0, graph.n_open, n),
            "days_in_stage": rng.integers(0, max_age + 1, n),
            "amount": rng.lognormal(8, 1, n).round(2),
            "cell": rng.integers(0, cells, n),
            "segment": rng.choice(["North", "South", "West"], n),
            "owner": None,
        }
    )
    return OpenPipeline(graph, date(2026, 9, 30), deals, np.arange(cells, dtype=np.int32)[:, None])


def plain_amounts(n_draws: int, n_stages: int, *, same: float = 0.7) -> AmountPosterior:
    """Amounts that change by 10 % or so in three wins of ten; one pool."""
    flat = np.ones((n_draws, n_stages))
    return AmountPosterior(
        same * flat, 0.05 * flat, 0.1 * flat, np.array([100.0, 250.5, 900.0]), np.array([0, 3]),
        np.full((n_draws, 1), 0.1), ("all won deals",),
    )  # fmt: skip


def day_by_day(hazards: LatticeHazards, *, n_codes: int, days: int, draw: int, cell: int) -> NDArray[np.float64]:
    """Where a deal is at the end of each forecast day, by pushing probability mass forward through (stage, age).

    Returns P[stage, age, day, code] for all ages the lattice allows; row 0 of ``age`` is age -1.
    """
    rate = hazards.base[draw] * hazards.effect[draw, cell][:, :, None]
    total = rate.sum(axis=1)
    n_stages, n_ages = total.shape[0], total.shape[1] - days
    out = np.zeros((n_stages, n_ages, days, n_codes))
    for k in range(n_stages):
        for a in range(-1, n_ages - 1):
            mass = np.zeros((n_stages, total.shape[1] + 1))  # by stage and next day of the stay
            mass[k, a + 1] = 1.0
            ended = np.zeros(n_codes)
            for day in range(days):
                stayed = np.zeros_like(mass)
                arriving = mass
                for _ in range(400):  # rounds of moves within one day
                    fresh = np.zeros(n_stages)
                    for stage, d in zip(*np.nonzero(arriving), strict=True):
                        here = arriving[stage, d]
                        leave = -np.expm1(-total[stage, d])
                        stayed[stage, d + 1] += here * np.exp(-total[stage, d])
                        for slot, code in enumerate(hazards.next_stage[stage]):
                            if code < 0:
                                continue
                            moved = here * leave * rate[stage, slot, d] / total[stage, d]
                            if code < n_stages:
                                fresh[code] += moved
                            else:
                                ended[code] += moved
                    if fresh.sum() < 1e-15:
                        break
                    arriving = np.zeros_like(mass)
                    arriving[:, 0] = fresh
                mass = stayed
                out[k, a + 1, day] = ended
                out[k, a + 1, day, :n_stages] += mass.sum(axis=1)
    return out


def steady_arrivals(n_draws: int, *, per_week: float = 14.0) -> ArrivalPosterior:
    """Poisson arrivals at a level that does not move: one segment, three kinds over two cells and two first stages."""
    one = np.ones((n_draws, 1))
    return ArrivalPosterior(
        as_of=date(2026, 9, 30),
        groups=("North",),
        cells=np.arange(2, dtype=np.int32)[:, None],
        combo_cell=np.array([0, 1, 1]),
        combo_stage=np.array([0, 0, 1]),
        combo_group=np.zeros(3, dtype=np.int64),
        combo_pool=np.zeros(3, dtype=np.int64),
        mix=np.tile([0.2, 0.5, 0.3], (n_draws, 1)),
        log_level=np.log(per_week) * one,
        growth=0 * one,
        level_sd=0 * one,
        noise_shape=np.inf * one,
        odd_share=0 * one,
        common=0.0,
        season=np.ones((n_draws, 12)),
        year=np.ones(366),
        by_year=np.zeros(n_draws, dtype=np.bool_),
        weekday=np.full((n_draws, 1, 7), 1 / 7),
    )
