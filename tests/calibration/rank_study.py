"""Ranks of truths among posterior draws over many simulated pipelines, and the band they must keep to.

The rank of a truth among draws of its own posterior is uniform (Talts et al. 2018, arXiv:1804.06788). The band is the
simultaneous one for the empirical distribution of uniform numbers (Säilynoja et al. 2022,
doi:10.1007/s11222-022-10090-6); with many quantities each keeps to a band so wide that all together leave theirs in
one study of twenty at most.
"""

from concurrent.futures import Executor
from dataclasses import dataclass, replace
from functools import lru_cache, partial

import numpy as np
from arviz_stats.ecdf_utils import compute_ecdf, get_pointwise_confidence_band, simulate_confidence_bands
from numpy.typing import NDArray
from simulated_pipeline import (
    CENSORING,
    Replica,
    fit_replica,
    model_and_truths,
    quantities,
    replicate,
    with_fault,
)

from models.history import STILL_OPEN, StageHistory
from models.stage_model.options import SamplerOptions
from models.stage_model.posterior import StagePosterior

Floats = NDArray[np.float64]
CHUNK = 10
BAND_SIMULATIONS = 20_000


@dataclass(frozen=True)
class Study:
    """What to simulate and how to fit it.

    Parameters
    ----------
    family : str
    simulations, n_deals, draws, seed : int
    fault : str or None
        A fault to plant.
    nuts : SamplerOptions or None
        None is fast inference.
    """

    family: str
    simulations: int = 300
    n_deals: int = 200
    draws: int = 400
    seed: int = 1
    fault: str | None = None
    nuts: SamplerOptions | None = None


def positions(study: Study, executor: Executor) -> dict[str, Floats]:
    """Place of every truth among its posterior draws, by quantity and simulation: uniform in (0, 1) if all is right."""
    starts = range(0, study.simulations, CHUNK)
    rows = [row for chunk in executor.map(partial(_chunk, study), starts) for row in chunk]
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}


def _chunk(study: Study, start: int) -> list[dict[str, float]]:
    choices, truths = model_and_truths(study.family, simulations=study.simulations, seed=study.seed)
    found = []
    for number in range(start, min(start + CHUNK, study.simulations)):
        replica = replicate(truths[number], seed=number, n_deals=study.n_deals)
        known = _ended(replica.history) if study.fault == CENSORING else replica.history
        fitted = fit_replica(choices, known, draws=study.draws, seed=number, nuts=study.nuts)
        found.append(_places(truths[number], with_fault(fitted, study.fault), replica, study.fault, number))
    return found


def _ended(history: StageHistory) -> StageHistory:
    return replace(history, counts=history.counts[history.counts["next"] != STILL_OPEN])


def _places(
    truth: StagePosterior, fitted: StagePosterior, replica: Replica, fault: str | None, seed: int
) -> dict[str, float]:
    rng = np.random.default_rng([seed, 11])
    actual, drawn = quantities(truth, replica), quantities(fitted, replica, fault=fault)
    chance = drawn.pop("wins")
    told = {name: (float(actual[name][0]), values) for name, values in drawn.items()}
    told["revenue"] = replica.revenue, (rng.random(chance.shape) < chance) @ replica.amount
    places = {}
    for name, (value, values) in told.items():
        equal = np.isclose(values, value, rtol=1e-12, atol=0.0)
        below = (values < value) & ~equal
        places[name] = float(below.sum() + rng.random() * (equal.sum() + 1)) / (len(values) + 1)
    return places


@lru_cache
def band(n: int, level: float) -> tuple[Floats, Floats, Floats]:
    """Points, and how low and high the empirical distribution of ``n`` uniform numbers may be there, all at once."""
    points = np.arange(1, n) / n
    prob = simulate_confidence_bands(n, 1, points, level, BAND_SIMULATIONS, np.random.default_rng(1))
    return points, *get_pointwise_confidence_band(prob, n, points)


def outside(places: dict[str, Floats], *, level: float = 0.95) -> dict[str, float]:
    """Quantities that leave the band, with the farthest distance of their distribution from the uniform one."""
    points, low, high = band(len(next(iter(places.values()))), 1.0 - (1.0 - level) / len(places))
    found = {}
    for name, values in places.items():
        reached = compute_ecdf(values, points)
        if ((reached < low) | (reached > high)).any():
            found[name] = float(np.abs(reached - points).max())
    return found
