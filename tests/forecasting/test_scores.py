"""Scores against published values, exact integrals and the laws they obey."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import brier_score_loss, roc_auc_score

from forecasting.proof import scores
from models.errors import SettingsError

values = st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=30)


def test_crps_of_reference_distributions() -> None:
    grid = (np.arange(200_000) + 0.5) / 200_000
    assert scores.crps(stats.beta.ppf(grid, 0.7, 1.1), 0.3) == pytest.approx(0.0850102437, abs=1e-8)
    assert scores.crps(stats.binom.ppf(grid, 10, 0.9), 8) == pytest.approx(0.6685115, abs=1e-4)


@given(values, st.floats(-1e6, 1e6))
@settings(max_examples=60, deadline=None)
def test_crps_is_the_integrated_squared_difference_of_distribution_functions(draws: list[float], actual: float) -> None:
    knots = np.sort(np.array([*draws, actual]))
    below = np.searchsorted(np.sort(draws), knots[:-1], side="right") / len(draws)
    integral = np.sum((below - (knots[:-1] >= actual)) ** 2 * np.diff(knots))
    assert scores.crps(draws, actual) == pytest.approx(integral, rel=1e-9, abs=1e-4)


@given(values, st.floats(-1e6, 1e6), st.floats(0.1, 10), st.floats(-1e3, 1e3))
@settings(max_examples=40, deadline=None)
def test_crps_moves_and_scales_with_its_unit(draws: list[float], actual: float, scale: float, shift: float) -> None:
    plain = scores.crps(draws, actual)
    moved = scores.crps(np.array(draws) * scale + shift, actual * scale + shift)
    assert moved == pytest.approx(plain * scale, rel=1e-6, abs=1e-3)


def test_crps_is_twice_the_mean_pinball_loss() -> None:
    draws, level = np.random.default_rng(1).gamma(2.0, 1.0, 500), (np.arange(500) + 0.5) / 500
    losses = [scores.pinball(np.sort(draws)[i], 3.0, level=float(p)) for i, p in enumerate(level)]
    assert scores.crps(draws, 3.0) == pytest.approx(2 * np.mean(losses), rel=2e-3)


@pytest.mark.parametrize("score", [lambda p, y: np.mean(scores.log_score(p, y)), lambda p, y: scores.brier(p, y)])
def test_probability_scores_are_proper(score: object) -> None:
    happened = np.array([1] * 3 + [0] * 7)
    by_probability = [score(np.full(10, p), happened) for p in (0.1, 0.2, 0.3, 0.4, 0.5)]  # type: ignore[operator]
    assert int(np.argmin(by_probability)) == 2


def test_pit_is_uniform_for_right_forecasts_even_with_ties() -> None:
    rng = np.random.default_rng(2)
    level = rng.gamma(2.0, 0.4, 2000)
    draws, actual = rng.poisson(level[:, None], (2000, 400)), rng.poisson(level)
    assert stats.kstest(scores.pit(draws, actual, seed=3), "uniform").pvalue > 0.01
    assert stats.kstest(scores.pit(draws, actual + 1, seed=3), "uniform").pvalue < 1e-6


def test_coverage_counts_and_its_band_is_the_binomial_one() -> None:
    rng = np.random.default_rng(4)
    inside = scores.inside_range(rng.normal(size=(400, 500)), rng.normal(size=400), level=0.8)
    result = scores.coverage(inside, level=0.8)
    assert result.inside_band
    assert result.share == pytest.approx(0.8, abs=0.06)
    mass = stats.binom.cdf(result.expected_high, 400, 0.8) - stats.binom.cdf(result.expected_low - 1, 400, 0.8)
    assert 0.95 <= mass < 0.97
    assert np.isnan(scores.coverage([], level=0.5).share)


def test_auc_and_brier_equal_scikit_learn() -> None:
    rng = np.random.default_rng(5)
    probability = rng.random(300).round(1)
    happened = rng.random(300) < probability
    assert scores.auc(probability, happened) == pytest.approx(roc_auc_score(happened, probability))
    assert scores.brier(probability, happened) == pytest.approx(brier_score_loss(happened, probability))
    assert np.isnan(scores.auc([0.2, 0.3], [1, 1]))


def test_reliability_table_adds_up_and_holds_the_truth() -> None:
    rng = np.random.default_rng(6)
    probability = rng.random(4000)
    table = scores.reliability(probability, rng.random(4000) < probability)
    assert table["n"].sum() == 4000
    held = (table["share_low"] <= table["probability"]) & (table["probability"] <= table["share_high"])
    assert held.sum() >= 8


def test_block_bootstrap_covers_where_single_origins_do_not() -> None:
    rng = np.random.default_rng(7)

    def held(block: int) -> float:
        hits = 0
        for seed in range(150):
            noise = rng.normal(size=83)
            low, high = scores.block_bootstrap(
                np.convolve(noise, np.ones(4), "valid"), block=block, seed=seed, resamples=300
            )
            hits += low <= 0.0 <= high
        return hits / 150

    assert held(1) < 0.75
    assert held(8) > 0.82


def test_a_block_spans_the_origins_that_overlap() -> None:
    assert scores.blocks_that_overlap(["2026-01-31", "2026-02-28", "2026-03-31"], horizon_days=30) == 2
    assert scores.blocks_that_overlap(["2026-01-31"], horizon_days=30) == 1


def test_bad_settings_are_named() -> None:
    with pytest.raises(SettingsError, match="between 0 and 1"):
        scores.central_range([1.0, 2.0], level=80)
    with pytest.raises(SettingsError, match="block of at least 1"):
        scores.block_bootstrap([1.0], block=0, seed=1)


def test_errors_of_the_point_forecast() -> None:
    assert scores.mape([120.0, 50.0], [100.0, 100.0]) == pytest.approx(0.35)
    assert scores.bias([120.0, 50.0], [100.0, 100.0]) == pytest.approx(-0.15)
    assert np.isnan(scores.mape([1.0], [0.0]))
    assert np.isnan(scores.bias([1.0], [0.0]))
