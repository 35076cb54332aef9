"""Histories with a known truth: intervals hold it as often as they say, on the lattice and off it."""

from collections.abc import Callable
from concurrent.futures import Executor

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from scipy import stats

from forecasting.engine.renewal import outcome_table
from models.history import STILL_OPEN, StageHistory, count_stays
from models.stage_model.fit import fit_stages
from models.stage_model.options import SamplerOptions
from models.stages import StageGraph

pytestmark = pytest.mark.calibration
Floats = NDArray[np.float64]
SEEDS = 20
GRAPH = StageGraph(open=["Lead", "Offer"], won=["Won"], lost=["Lost"])
NO_CELL = np.zeros((1, 0), dtype=np.int32)
SHAPE, SCALE = np.array([[0.9, 1.2], [1.3, 0.8]]), np.array([[35.0, 60.0], [25.0, 70.0]])
"""Weibull parameters by (stage, exit): on, and lost."""
LOCATION, SPREAD = np.array([[3.3, 4.0], [3.1, 4.1]]), np.array([[0.9, 0.7], [0.6, 1.0]])
"""Log-normal parameters of the same."""
SPAN, N_DEALS = 300, 1200
AGED = 25
TRUTH_DEALS = 400_000


def latent_weibull(rng: np.random.Generator, stage: int, size: int) -> Floats:
    """Days to each exit, shape (size, exit)."""
    return SCALE[stage] * rng.weibull(SHAPE[stage], (size, 2))


def latent_lognormal(rng: np.random.Generator, stage: int, size: int) -> Floats:
    """Days to each exit, shape (size, exit)."""
    return rng.lognormal(LOCATION[stage], SPREAD[stage], (size, 2))


CLOCKS: dict[str, Callable[[np.random.Generator, int, int], Floats]] = {
    "weibull": latent_weibull,
    "lognormal": latent_lognormal,
}


def in_band(hits: Floats) -> bool:
    """Whether the 95 % intervals held each truth for as many seeds as chance allows, all quantities at once."""
    return bool((hits >= stats.binom.ppf(0.025 / hits.size, SEEDS, 0.95)).all())


def lattice_history(seed: int) -> StageHistory:
    """Stays drawn day by day from the Weibull hazards, watched for 10 to 150 days."""
    rng = np.random.default_rng([seed, 5])
    days = np.arange(152.0)
    parts = []
    for stage in (0, 1):
        hazard = np.diff((days / SCALE[stage][:, None]) ** SHAPE[stage][:, None], axis=1)
        limit = rng.integers(10, 150, 400)
        leaving = rng.random((400, hazard.shape[1])) < -np.expm1(-hazard.sum(axis=0))
        first = np.where(leaving.any(axis=1), leaving.argmax(axis=1), 1000)
        ended = first <= limit
        today = hazard[:, np.minimum(first, 150)]
        lost = rng.random(400) >= today[0] / today.sum(axis=0)
        following = np.where(ended, np.where(lost, 3, stage + 1), STILL_OPEN)
        rows = {"cell": 0, "stage": stage, "next": following, "days": np.where(ended, first, limit)}
        parts.append(pd.DataFrame(rows))
    return StageHistory(GRAPH, count_stays(pd.concat(parts)), (), NO_CELL)


def held_on_the_lattice(seed: int) -> Floats:
    """Which parameters (stage, exit, [log scale, log shape]) the 95 % intervals of a NUTS fit hold."""
    options = SamplerOptions(chains=2, tune=100, cores=1)
    posterior = fit_stages(lattice_history(seed), durations="weibull", draws=600, seed=seed, options=options)
    truth = np.stack([np.log(SCALE), np.log(SHAPE)], axis=-1)
    held = np.empty((2, 2, 2))
    for stage, fit in enumerate(posterior.stages):
        theta = fit.base[:, :4].reshape(-1, 2, 2)
        low, high = np.quantile(theta, [0.025, 0.975], axis=0)
        held[stage] = (low <= truth[stage]) & (truth[stage] <= high)
    return held


def follow(clock: str, rng: np.random.Generator, n_deals: int) -> Floats:
    """Moments (deal, [left Lead, left Offer]) in days since creation, and whether each was a loss, as (deal, 4)."""
    lead, offer = (CLOCKS[clock](rng, stage, n_deals) for stage in (0, 1))
    left_lead = lead.min(axis=1)
    return np.stack([left_lead, left_lead + offer.min(axis=1), lead.argmin(axis=1), offer.argmin(axis=1)], axis=1)


def dated_history(clock: str, seed: int) -> StageHistory:
    """Deals created at any moment of the span, their moments rounded down to dates, cut at the end of the last date."""
    rng = np.random.default_rng([seed, 6])
    created = rng.uniform(0, SPAN + 1, N_DEALS)
    moments = follow(clock, rng, N_DEALS)
    dates = np.floor(created[:, None] + np.column_stack([np.zeros(N_DEALS), moments[:, :2]])).astype(np.int64)
    parts = []
    reached = np.ones(N_DEALS, dtype=bool)
    for stage in (0, 1):
        entered, left, lost = dates[:, stage], dates[:, stage + 1], moments[:, 2 + stage] == 1
        here = reached & (entered <= SPAN)
        ended = left <= SPAN
        following = np.where(ended, np.where(lost, 3, stage + 1), STILL_OPEN)
        table = {"cell": 0, "stage": stage, "next": following, "days": np.minimum(left, SPAN) - entered}
        parts.append(pd.DataFrame(table)[here])
        reached = here & ended & ~lost
    return StageHistory(GRAPH, count_stays(pd.concat(parts)), (), NO_CELL)


def true_answers(clock: str) -> dict[str, float]:
    """Answers by brute force: a great many deals on the same clock, dated the same way."""
    rng = np.random.default_rng(99)
    moments = follow(clock, rng, TRUTH_DEALS)
    created = rng.random(TRUTH_DEALS)
    left, closed = np.floor(created + moments[:, 0]), np.floor(created + moments[:, 1])
    on, won = moments[:, 2] == 0, (moments[:, 2] == 0) & (moments[:, 3] == 0)
    in_offer = closed - left
    ends = np.where(on, closed, left)
    old = on & (in_offer > AGED)
    return {
        "conversion of leads": on.mean(),
        "conversion of offers": won.sum() / on.sum(),
        "new deal won in 30 days": (won & (closed <= 29)).mean(),
        "new deal won in 90 days": (won & (closed <= 89)).mean(),
        "aged offer won in 30 days": (won & (in_offer <= AGED + 30))[old].mean(),
        "aged offer won in 90 days": (won & (in_offer <= AGED + 90))[old].mean(),
        "median days to close": float(np.median(ends)),
    }


def held_off_the_lattice(clock: str, seed: int) -> dict[str, bool]:
    """Which answers the 95 % intervals of a fast fit of the same family hold."""
    posterior = fit_stages(dated_history(clock, seed), durations=clock, inference="fast", draws=400, seed=seed)
    long = 600
    hazards = posterior.lattice(np.arange(400), days=long + AGED + 2, cells=NO_CELL)
    table = outcome_table(hazards, n_codes=4, days=range(1, long + 1), ages=[-1, AGED])
    new, aged = table.probability[:, 0, :, 0], table.probability[:, 0, :, 1]
    closed = new[:, 0, :, 2:].sum(axis=-1)
    drawn = {
        "conversion of leads": _onward(hazards.base[:, 0]),
        "conversion of offers": _onward(hazards.base[:, 1]),
        "new deal won in 30 days": new[:, 0, 29, 2],
        "new deal won in 90 days": new[:, 0, 89, 2],
        "aged offer won in 30 days": aged[:, 1, 29, 2],
        "aged offer won in 90 days": aged[:, 1, 89, 2],
        "median days to close": (closed < 0.5).sum(axis=1).astype(np.float64),
    }
    truth, held = true_answers(clock), {}
    for name, values in drawn.items():
        low, high = np.quantile(values, [0.025, 0.975])
        held[name] = bool(low <= truth[name] <= high)
    return held


def _onward(base: Floats) -> Floats:
    """Share of stays that leave by the first exit rather than the second, by draw."""
    total = base.sum(axis=1)
    alive = np.exp(-np.cumsum(total, axis=1) + total)
    left = alive * -np.expm1(-total) / total
    return (left * base[:, 0]).sum(axis=1) / (left * total).sum(axis=1)


def test_nuts_intervals_hold_the_parameters(workers: Executor) -> None:
    hits = np.sum(list(workers.map(held_on_the_lattice, range(SEEDS))), axis=0)
    assert in_band(hits)


@pytest.mark.parametrize("clock", list(CLOCKS))
def test_answers_hold_though_the_clock_is_continuous(clock: str, workers: Executor) -> None:
    rows = list(workers.map(held_off_the_lattice, [clock] * SEEDS, range(SEEDS)))
    hits = pd.DataFrame(rows).sum()
    assert in_band(hits.to_numpy())
