"""Simulation-based calibration of the stage model, and three faults it must not let through."""

from concurrent.futures import Executor

import numpy as np
import pytest
from rank_study import Study, outside, positions
from simulated_pipeline import AGE, AGED, CENSORING, IDLE_WEIBULL, SWAP

from models.stage_model.options import SamplerOptions

pytestmark = pytest.mark.calibration
FEW_STEPS = SamplerOptions(chains=2, tune=100, cores=1)


@pytest.mark.parametrize("family", ["piecewise", "weibull", IDLE_WEIBULL])
def test_fast_inference_ranks_the_truth_evenly(family: str, workers: Executor) -> None:
    places = positions(Study(family), workers)
    assert {len(values) for values in places.values()} == {300}
    assert {"Offer effect on Won", "Lead scale for Lost", "Lead base 0", "log-likelihood", "revenue"} < set(places)
    assert outside(places) == {}


@pytest.mark.parametrize("family", ["piecewise", "weibull", IDLE_WEIBULL])
def test_nuts_ranks_the_truth_evenly(family: str, workers: Executor) -> None:
    places = positions(Study(family, simulations=100, n_deals=100, draws=300, nuts=FEW_STEPS), workers)
    assert outside(places) == {}


@pytest.mark.parametrize(
    ("fault", "family", "found_by"),
    [
        (CENSORING, "piecewise", "log-likelihood"),
        (CENSORING, "weibull", "Lead base 2"),
        (AGE, "weibull", f"P(an offer {AGED} days old is won in 30 days)"),
        (SWAP, "weibull", "Lead base 0"),
    ],
)
def test_a_planted_fault_is_found(fault: str, family: str, found_by: str, workers: Executor) -> None:
    assert found_by in outside(positions(Study(family, simulations=80, fault=fault), workers))


def test_the_band_holds_uniform_numbers_and_nothing_much_else() -> None:
    rng = np.random.default_rng(3)
    kept = sum(outside({name: rng.random(100) for name in "abcde"}) == {} for _ in range(200))
    assert 182 <= kept <= 199
    assert set(outside({"even": rng.random(100), "narrow": rng.beta(2, 2, 100), "low": rng.beta(1, 1.6, 100)})) == {
        "narrow",
        "low",
    }
