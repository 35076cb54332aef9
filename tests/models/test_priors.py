"""The default priors say what their reasons claim."""

import numpy as np
import pytest
from scipy import stats

from models.durations.families import FAMILIES
from models.durations.priors import LOG_DAYS, LOG_PEAKED_SHAPE, LOG_SHAPE, LOG_SPREAD, TAIL, DurationPrior


def middle(prior: DurationPrior) -> tuple[float, float]:
    """The 95 % interval on the unconstrained scale."""
    low, high = stats.norm(prior.mean, prior.sd).interval(0.95)
    return float(low), float(high)


@pytest.mark.parametrize(
    ("prior", "low", "high"),
    [(LOG_DAYS, 0.9, 6.2 * 365), (LOG_SHAPE, 0.38, 2.7), (LOG_PEAKED_SHAPE, 0.56, 4.0), (LOG_SPREAD, 0.38, 2.7)],
)
def test_intervals_of_positive_parameters(prior: DurationPrior, low: float, high: float) -> None:
    assert np.exp(middle(prior)) == pytest.approx([low, high], rel=0.02)


def test_the_tail_reaches_from_heavy_to_weibull_and_beyond() -> None:
    assert middle(TAIL) == pytest.approx((-1.0, 2.0), abs=0.05)


def test_what_a_spread_means() -> None:
    """The middle nine tenths of the times span a factor between 3.4 and 6,300."""
    factors = np.exp(2 * stats.norm.ppf(0.95) * np.exp(middle(LOG_SPREAD)))
    assert factors == pytest.approx([3.4, 6300.0], rel=0.03)


@pytest.mark.parametrize("name", FAMILIES)
def test_median_stays_of_days_to_years_are_likely_under_every_family(name: str) -> None:
    family = FAMILIES[name]
    generator = np.random.default_rng(3)
    theta = np.array([[generator.normal(p.mean, p.sd) for p in family.priors] for _ in range(500)])
    medians = np.array([float(family.quantile(0.5, draw)) for draw in theta])
    assert 0.8 < np.mean((medians > 1.0) & (medians < 5 * 365)) < 0.99
