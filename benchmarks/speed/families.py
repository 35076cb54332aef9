"""Both samplers against probability pushed forward day by day in NumPy: every duration family, loops, a clock, old deals.

The reference knows nothing of the engine: it moves the probability of each (stage, day of the stay) on by a day, moves
within the day included, until the horizon, and reads the result between two days where a clock asks for it. A third of
the deals are new, a third has been in its stage for some weeks, a third is old: it has passed a wall that one deal in
10^12 passes.
"""

from dataclasses import dataclass
from datetime import date

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from forecasting.data.open_pipeline import OpenPipeline
from forecasting.engine.blocks import EngineOptions
from forecasting.engine.clock import progress_by_day
from forecasting.simulate import simulate_open, simulate_paths
from models.durations.families import FAMILIES
from models.hazards import PlantedHazards
from models.stages import StageGraph

EDGES = [1, 5, 12, 21, 33, 45]
AGES = (0, 20, 90)
DAYS = 220
NATURAL = {"scale": 25.0, "shape": 1.3, "location": 3.0, "spread": 0.9, "tail": 0.5}
GRAPHS = {
    "row": np.array([[1, 1, 4], [2, 2, 4], [3, 3, 4]], dtype=np.int16),
    "loops": np.array([[1, 2, 4], [2, 0, 4], [3, 1, 4]], dtype=np.int16),
}
"""Next stages: forward, sideways or back, lost. In a row the second exit leads forward too."""
SHARES = np.array([0.6, 0.15, 0.25])[:, None]
BATCH = 20
"""Draws whose sums make one z: few, so that a case has enough of them to tell by their mean square."""
GRAPH = StageGraph(open=["A", "B", "C"], won=["Won"], lost=["Lost"])


@dataclass(frozen=True)
class Agreement:
    """How one case came out: the worst z of all draws together, and the mean z^2 of the sums over ``BATCH`` draws."""

    family: str
    graph: str
    clock: str
    sampler: str
    paths: int
    worst: float
    mean_square: float


def hazards(family: str, graph: str) -> NDArray[np.float64]:
    """Daily hazards by (stage, exit, day): the family, more on the day of entry, and a wall on days 60 to 79."""
    if family == "piecewise":
        daily = np.array([0.03, 0.06, 0.04, 0.02])[np.digitize(np.arange(DAYS), [3, 10, 40])]
    else:
        named = {p.name: NATURAL[p.name] for p in FAMILIES[family].parameters}
        daily = FAMILIES[family].daily_hazards(FAMILIES[family].to_unconstrained(named)[None], days=DAYS)[0]
    base = SHARES * daily * np.array([1.0, 1.4, 0.8])[:, None, None]
    base[..., 0] += 0.08 if graph == "loops" else 0.02
    base[..., 60:80] += np.log(1e12) / 60
    return base


def pushed_forward(base: NDArray[np.float64], next_stage: NDArray[np.int16], days: int) -> NDArray[np.float64]:
    """Where a deal of each (stage, age) is at the end of days 0 .. ``days``, shape (stage, age, 1 + day, code)."""
    n_stages, total = len(base), base.sum(axis=1)
    stays, leaves = np.exp(-total), -np.expm1(-total)
    share = base / np.maximum(total, 1e-300)[:, None]
    mass = np.zeros((n_stages, len(AGES), n_stages, DAYS))  # start, then stage and next day of the stay
    for k in range(n_stages):
        mass[k, np.arange(len(AGES)), k, np.array(AGES) + 1] = 1.0
    ended = np.zeros((n_stages, len(AGES), n_stages + 2))
    out = [np.concatenate([mass.sum(axis=3), ended[..., n_stages:]], axis=2)]
    for _ in range(days):
        moving, stayed = mass, np.zeros_like(mass)
        while moving.sum() > 1e-14:
            stayed[..., 1:] += (moving * stays)[..., :-1]
            entered = np.zeros_like(mass)
            for k in range(n_stages):
                for slot, code in enumerate(next_stage[k]):
                    moved = (moving[:, :, k] * leaves[k] * share[k, slot]).sum(axis=2)
                    if code < n_stages:
                        entered[:, :, code, 0] += moved
                    else:
                        ended[:, :, code] += moved
            moving = entered
        mass = stayed
        out.append(np.concatenate([mass.sum(axis=3), ended[..., n_stages:]], axis=2))
    return np.stack(out, axis=2)


def agreements(family: str, graph: str, clock: str, *, deals: int, draws: int, seed: int) -> list[Agreement]:
    """Play one case with both samplers and hold every period, stage and outcome against the reference."""
    base, next_stage = hazards(family, graph), GRAPHS[graph]
    week = np.array([0.2, 0.0, 1.4, 1.3, 1.2, 1.0, 0.9])
    pace = np.tile(week[np.arange(EDGES[-1]) % 7], (draws, 1)) if clock == "weekdays" else None
    reached = progress_by_day(pace, np.arange(1), days=EDGES[-1])[0, EDGES]
    exact = pushed_forward(base, next_stage, int(np.ceil(reached[-1])) + 1)
    low = np.floor(reached).astype(int)
    p = exact[:, :, low] + (reached - low)[:, None] * (exact[:, :, low + 1] - exact[:, :, low])
    pipeline = _pipeline(deals)
    source = PlantedHazards(next_stage, np.broadcast_to(base, (draws, *base.shape)))
    given = pipeline.deals["stage"].to_numpy(), np.searchsorted(AGES, pipeline.deals["days_in_stage"].to_numpy())
    paths = simulate_paths(pipeline, source, edges=EDGES, seed=seed, draws=draws, pace=pace)
    fate = simulate_open(
        pipeline, source, edges=EDGES, seed=seed, draws=draws, pace=pace, options=EngineOptions(sampler="fate")
    )
    counts = {"paths": paths.occupancy, "fate": fate.won_count.sum(axis=2).cumsum(axis=1)[:, :, None]}
    codes = {"paths": np.arange(5), "fate": np.array(GRAPH.won_codes)}
    made = []
    for sampler, count in counts.items():
        chance = p[given][..., codes[sampler]]
        worst, square = _scores(count, chance.sum(axis=0), (chance * (1 - chance)).sum(axis=0))
        made.append(Agreement(family, graph, clock, sampler, deals * draws, worst, square))
    return made


def _scores(count: NDArray[np.int32], mean: NDArray[np.float64], variance: NDArray[np.float64]) -> tuple[float, float]:
    """Worst |z| of the sums over all draws, mean z^2 of those over batches; cells that hardly happen are left out."""
    draws = len(count)
    gap, some = (count - mean).reshape(draws, -1), variance.ravel() * BATCH > 5
    whole = gap.sum(axis=0)[some] / np.sqrt(draws * variance.ravel()[some])
    parts = gap[: draws // BATCH * BATCH].reshape(-1, BATCH, gap.shape[1]).sum(axis=1)[:, some]
    return float(np.abs(whole).max()), float((parts**2 / (BATCH * variance.ravel()[some])).mean())


def _pipeline(deals: int) -> OpenPipeline:
    number = np.arange(deals)
    table = pd.DataFrame(
        {
            "deal_id": np.char.mod("D%06d", number).astype(object),
            "stage": number % 3,
            "days_in_stage": np.array(AGES)[number // 3 % len(AGES)],
            "amount": 1000.0,
            "cell": 0,
            "segment": "",
            "owner": None,
        }
    )
    return OpenPipeline(GRAPH, date(2026, 9, 30), table, np.zeros((1, 1), dtype=np.int32))


def cases(*, toy: bool) -> list[tuple[str, str, str]]:
    """Family, graph and clock of every case."""
    families = ["weibull"] if toy else [*FAMILIES, "piecewise"]
    return [(family, graph, clock) for family in families for graph in GRAPHS for clock in ("even", "weekdays")]
