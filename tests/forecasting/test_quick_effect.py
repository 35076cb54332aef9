"""What the amount does in the quick chain: a slope over the classes, and a factor of its own for each."""

import numpy as np
import pytest
from scipy import stats

from forecasting.proof.quick_effect import EFFECT_WEIGHTS, amount_effect

PLACE = np.array([0.0, -1.3, -0.6, 0.0, 0.6, 1.3, 0.0])
"""Deals worth nothing, five classes of amounts, and deals without an amount."""


def counted(slope: float, *, of_last: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Exits seen and expected, shape (class, 1, 1): the last class on the line has few."""
    expected = np.array([0.0, 300.0, 300.0, 300.0, 200.0, of_last, 50.0])[:, None, None]
    mean = expected * np.exp(slope * PLACE)[:, None, None]
    seen = np.random.default_rng(seed).poisson(mean).astype(np.float64)
    return seen, expected * seen.sum() / expected.sum()


def test_without_places_factors_are_a_mixture_of_gammas_around_one() -> None:
    seen, expected = counted(-0.4, of_last=8.0, seed=1)
    effect = amount_effect(seen, expected, np.zeros(len(PLACE)))
    # seen is negative binomial in each class; the weights are equally likely a priori
    told = np.array([
        stats.nbinom(weight, weight / (weight + expected)).logpmf(seen).sum() for weight in EFFECT_WEIGHTS
    ])  # fmt: skip
    share = np.exp(told - told.max()) / np.exp(told - told.max()).sum()
    np.testing.assert_allclose(effect.probability.ravel(), share, atol=1e-10)
    by_weight = np.array([(seen + weight) / (expected + weight) for weight in EFFECT_WEIGHTS])
    np.testing.assert_allclose(effect.mean(), np.tensordot(share, by_weight, 1), rtol=1e-10)


def test_a_class_with_few_deals_follows_the_others() -> None:
    errors = {"line": [], "apart": []}
    for seed in range(40):
        seen, expected = counted(-0.4, of_last=6.0, seed=seed)
        truth = np.exp(-0.4 * PLACE)
        truth *= seen.sum() / (expected.ravel() @ truth)
        for name, place in (("line", PLACE), ("apart", np.zeros(len(PLACE)))):
            errors[name].append(np.log(amount_effect(seen, expected, place).mean().ravel()[5] / truth[5]))
    assert abs(np.mean(errors["line"])) < 0.1 < 0.5 * abs(np.mean(errors["apart"]))


def test_a_slope_leaves_the_number_of_exits_what_it_is() -> None:
    seen, expected = counted(0.3, of_last=80.0, seed=2)
    effect = amount_effect(seen, expected, PLACE)
    np.testing.assert_allclose((effect.usual * expected).sum(axis=1), expected.sum(), rtol=1e-12)
    nothing = amount_effect(np.zeros_like(seen), np.zeros_like(seen), PLACE)
    assert np.isfinite(nothing.mean()).all()
    assert nothing.probability.sum() == pytest.approx(1.0)


def test_draws_have_the_mean_that_is_said() -> None:
    seen, expected = counted(-0.4, of_last=20.0, seed=3)
    both = np.repeat(seen, 2, axis=2), np.repeat(expected, 2, axis=2)
    effect = amount_effect(*both, PLACE)
    drawn = effect.draw(40_000, np.random.default_rng(1))
    error = drawn.std(axis=0) / np.sqrt(len(drawn))
    assert drawn.shape == (40_000, 7, 1, 2)
    assert (np.abs(drawn.mean(axis=0) - effect.mean()) < 4.5 * error).all()
