"""NUTS as it runs in production, on posteriors known in closed form: Gamma for rates, Dirichlet for where next.

A conjugate prior is written as a nearly flat normal on the log rates and pseudo-counts. A Gamma(1, 1) prior and ``n``
events in an exposure ``E`` make the density ``rate^(n + 1) exp(-(E + 1) rate)`` of the log rate: ``n + 1`` events in
``E + 1``. Shares of one day have a Dirichlet posterior whatever the total hazard does, since the likelihood is their
product times a function of the total.
"""

import numpy as np
import pandas as pd
import pytest
from arviz_stats.base.array import array_stats
from numpy.typing import NDArray
from scipy import stats

from models.history import StageHistory
from models.stage_model.base_hazards import PiecewiseBaseline
from models.stage_model.data import stage_data
from models.stage_model.laplace import laplace_fit
from models.stage_model.options import SamplerOptions
from models.stage_model.problem import StageProblem
from models.stage_model.sampling import sample_stage
from models.stages import StageGraph

pytestmark = pytest.mark.slow
Floats = NDArray[np.float64]
STEPS = 1e7
"""Lattice steps in a unit of exposure: the hazard of a step is then so small that the lattice is continuous time."""
FLAT_SD = 50.0
"""Prior sd of a log rate; it moves no mean by more than a thousandth of a posterior sd."""
DRAWS, CHAINS = 24_000, 4


def conjugate(counts: list[float], at_risk: float, *, start: float) -> StageProblem:
    """One age bin with the given exits and days at risk under a nearly flat prior."""
    lost = [f"Lost {number}" for number in range(1, len(counts))]
    graph = StageGraph(open=["Lead"], won=["Won"], lost=lost or ["Lost"])
    rows = [(0, 0, code, 0, 20) for code in range(1, len(counts) + 1)]
    table = pd.DataFrame(rows, columns=["cell", "stage", "next", "days", "count"])
    data = stage_data(StageHistory(graph, table, (), np.zeros((1, 0), dtype=np.int32)), 0)
    baseline = PiecewiseBaseline(np.zeros(1, dtype=np.int64), np.array([[counts]]), np.array([[at_risk]]))
    size = len(counts)
    none = np.zeros((1, 0))
    return StageProblem(
        data, baseline, np.full(size, start), FLAT_SD * np.eye(size), none, np.zeros(0, dtype=np.int64), none[0]
    )


def sampled_rates(problem: StageProblem) -> Floats:
    """Rates (chain, draw, exit) by the production sampler; it must not complain."""
    start = laplace_fit(problem, draws=4000, rng=np.random.default_rng(1))
    sampled = sample_stage(problem, start, draws=DRAWS, seed=2, options=SamplerOptions(chains=CHAINS))
    assert sampled.divergences == 0
    return np.exp(problem.prior_mean + FLAT_SD * sampled.innovations).reshape(CHAINS, -1, problem.size)


def assert_exact(values: Floats, exact: stats.rv_continuous) -> None:
    """Mean within 0.05 sd, sd within 3 %, and draws one may trust; ``values`` (chain, draw)."""
    assert abs(values.mean() - exact.mean()) <= 0.05 * exact.std()
    assert 0.97 <= values.std() / exact.std() <= 1.03
    assert array_stats.rhat(values, chain_axis=0, draw_axis=1) <= 1.01
    assert array_stats.ess(values, chain_axis=0, draw_axis=1, method="bulk") >= 400


@pytest.mark.parametrize(
    ("events", "exposure"),
    [((103, 29), 542.485968), ((68,), 257.645448)],
    ids=["bosms3 from state 1", "bosms3 from state 2"],
)
def test_rates_have_their_gamma_posteriors(events: tuple[int, ...], exposure: float) -> None:
    """Published: Gamma(104, 543.485968), Gamma(30, 543.485968) and Gamma(69, 258.645448)."""
    counts = [count + 1.0 for count in events]
    # an exit counts half of its step as exposure
    at_risk = STEPS * (exposure + 1.0) + 0.5 * sum(counts)
    rates = STEPS * sampled_rates(conjugate(counts, at_risk, start=np.log(0.15 / STEPS)))
    for place, count in enumerate(counts):
        assert_exact(rates[..., place], stats.gamma(count, scale=1.0 / (exposure + 1.0)))


def test_a_rate_with_ten_events_is_exact_too() -> None:
    rates = STEPS * sampled_rates(conjugate([10.0], STEPS * 200.0 + 5.0, start=np.log(0.05 / STEPS)))
    assert_exact(rates[..., 0], stats.gamma(10, scale=1.0 / 200.0))


def test_where_next_on_one_day_has_its_dirichlet_posterior() -> None:
    moved, prior = np.array([60.0, 25.0, 8.0]), np.ones(3)
    rates = sampled_rates(conjugate((moved + prior).tolist(), 150.0, start=-1.0))
    shares = rates / rates.sum(axis=-1, keepdims=True)
    for place, alpha in enumerate(moved + prior):
        assert_exact(shares[..., place], stats.beta(alpha, (moved + prior).sum() - alpha))
    pooled = shares.reshape(-1, 3)
    assert np.cov(pooled.T) == pytest.approx(stats.dirichlet(moved + prior).cov(), abs=2e-4)
