"""Levels: the filter against a particle filter, levels that stand still or moved, and what they do to a forecast."""

import numpy as np
import pandas as pd
import pytest
from scipy.special import gammaln

from forecasting.proof.calibration import learn
from forecasting.proof.past_forecasts import level_change
from forecasting.proof.quick_chain import OpenValue
from models.levels.filtering import GROWTH, HALF_LIFE_DAYS, KAPPA, SIGMA, draw_levels, filter_level


def test_a_level_that_stands_still_stays_near_one() -> None:
    rng = np.random.default_rng(1)
    expected = np.full(100, 60.0)
    state = filter_level(rng.poisson(expected).astype(float), expected, days=7)
    drawn = draw_levels(state, periods=4, draws=4000, rng=rng)
    assert drawn.mean() == pytest.approx(1.0, abs=0.05)
    assert drawn.std() < 0.1
    assert state.probability @ state.sigma < 0.15


def test_a_level_that_has_doubled_is_followed() -> None:
    rng = np.random.default_rng(2)
    expected = np.full(100, 60.0)
    truth = np.where(np.arange(100) < 70, 1.0, 2.0)
    state = filter_level(rng.poisson(truth * expected).astype(float), expected, days=7)
    assert 1.6 < draw_levels(state, periods=4, draws=4000, rng=rng).mean() < 2.2


@pytest.mark.parametrize(("sigma", "half_life", "kappa"), [(0.4, 50.0, 30.0), (0.7, 180.0, 100.0), (0.2, 14.0, 1e6)])
def test_one_grid_point_equals_a_particle_filter(sigma: float, half_life: float, kappa: float) -> None:
    rng = np.random.default_rng(3)
    phi, periods, particles = 0.5 ** (7 / half_life), 40, 200_000
    truth = np.empty(periods)
    truth[0] = rng.normal(-(sigma**2) / 2, sigma)
    for p in range(1, periods):
        truth[p] = -(sigma**2) / 2 + phi * (truth[p - 1] + sigma**2 / 2) + rng.normal(0, sigma * np.sqrt(1 - phi**2))
    expected = rng.uniform(20, 60, periods)
    exits = rng.poisson(expected * np.exp(truth) * rng.gamma(kappa, 1 / kappa, periods)).astype(float)
    cloud = rng.normal(-(sigma**2) / 2, sigma, particles)
    for seen, forecast in zip(exits, expected, strict=True):
        step = rng.normal(0, sigma * np.sqrt(1 - phi**2), particles)
        cloud = -(sigma**2) / 2 + phi * (cloud + sigma**2 / 2) + step
        mean = forecast * np.exp(cloud)
        log_weight = (
            gammaln(seen + kappa)
            - gammaln(kappa)
            + kappa * np.log(kappa / (kappa + mean))
            + seen * np.log(mean / (kappa + mean))
        )
        weight = np.exp(log_weight - log_weight.max())
        cloud = rng.choice(cloud, particles, p=weight / weight.sum())
    state = filter_level(exits, expected, days=7)
    shape = len(SIGMA), len(HALF_LIFE_DAYS), len(KAPPA), len(GROWTH)
    at = list(SIGMA).index(sigma), list(HALF_LIFE_DAYS).index(half_life), list(KAPPA).index(kappa), len(GROWTH) // 2
    place = np.ravel_multi_index(at, shape)
    assert state.mean[place] == pytest.approx(cloud.mean(), abs=0.25 * cloud.std())
    assert state.sd[place] == pytest.approx(cloud.std(), rel=0.15)


def test_far_ahead_levels_return_to_their_mean() -> None:
    rng = np.random.default_rng(4)
    expected = np.full(200, 80.0)
    exits = rng.poisson(expected * np.where(np.arange(200) > 190, 2.0, 1.0)).astype(float)
    state = filter_level(exits, expected, days=7)
    near, far = (np.median(draw_levels(state, periods=periods, draws=20_000, rng=rng)) for periods in (1, 400))
    assert near > far > 0.7


def test_growth_that_lasts_is_carried_on() -> None:
    rng = np.random.default_rng(6)
    truth = np.exp(0.03 / 30 * 7 * (np.arange(130) - 129))
    exits = rng.poisson(200.0 * truth).astype(float)
    expected = np.full(130, 200.0 * truth.mean())
    state = filter_level(exits, expected, days=7)
    ahead = np.log(draw_levels(state, periods=26, draws=20_000, rng=rng))
    came = np.log(np.exp(0.03 / 30 * 7 * np.arange(1, 27)).mean() / truth.mean())
    assert state.probability @ state.growth * 30 / 7 > 0.01
    assert np.median(ahead) == pytest.approx(came, abs=0.06)


def test_the_future_is_wilder_than_the_normal_says() -> None:
    rng = np.random.default_rng(7)
    levels = np.exp(np.cumsum(rng.normal(0.0, 0.1, 100)))
    state = filter_level(rng.poisson(80.0 * levels / levels.mean()).astype(float), np.full(100, 80.0), days=7)
    drawn = np.log(draw_levels(state, periods=8, draws=100_000, rng=rng))
    inner, outer = (np.diff(np.quantile(drawn, [tail, 1 - tail]))[0] for tail in (0.1, 0.005))
    assert outer / inner > 2.2  # 2.01 for a normal


def table(mean: float, tracked: float, actual: float, n: int = 30) -> pd.DataFrame:
    row = {"horizon_days": 28.0, "age_days": 900.0, "days_since": 0.0, "mean": mean, "sd": 0.1 * mean}
    rows = pd.DataFrame([{**row, "tracked_mean": tracked, "tracked_sd": 0.1 * tracked, "actual": actual}] * n)
    return rows.assign(as_of=pd.date_range("2024-01-07", periods=n, freq="7D"))


def test_tracking_that_was_right_moves_the_forecast_and_one_that_was_wrong_does_not() -> None:
    now = OpenValue(100.0, 10.0, 150.0, 15.0)
    right = learn(table(100, 140, 140), horizon_days=28, age_days=1000, levels_now=now)
    wrong = learn(table(100, 140, 100), horizon_days=28, age_days=1000, levels_now=now)
    without = learn(table(100, 140, 100), horizon_days=28, age_days=1000)
    full = float(level_change(pd.DataFrame([now.__dict__]))[0][0])
    assert right.level_shift == wrong.level_shift == full
    assert right.tracked_share > 0.95
    assert wrong.tracked_share < 0.05
    assert (without.tracked_share, without.level_shift, without.level_stretch) == (0.0, 0.0, 1.0)
    revenue = np.random.default_rng(5).lognormal(np.log(100), 0.1, 8000)
    moved = np.median(revenue * right.factors(revenue, seed=1)) / np.median(revenue)
    assert moved == pytest.approx(1.5, rel=0.08)
