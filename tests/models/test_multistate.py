"""Exact multi-state answers against closed forms, differential equations and plain counting."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import integrate, stats

from models.continuous.estimators import aalen_johansen, fit_latent_time, fit_mixture, mixture_log_likelihood
from models.continuous.exact import (
    LatentTime,
    exit_density,
    exit_mean,
    exit_probability,
    exit_quantile,
    latent_time,
    markov_occupancy,
    passage,
    total_hazard,
)
from models.durations.families import FAMILIES
from models.errors import SettingsError
from models.history import STILL_OPEN

EXITS = (
    latent_time("lognormal", {"location": 3.0, "spread": 0.6}),
    latent_time("weibull", {"shape": 0.8, "scale": 60.0}),
    latent_time("generalized_gamma", {"location": 4.0, "spread": 0.9, "tail": -0.4}),
)


def exponential(rate: float) -> LatentTime:
    return latent_time("exponential", {"scale": 1.0 / rate})


def test_markov_occupancy_against_a_differential_equation() -> None:
    rates = np.array([[0.0, 0.05, 0.01], [0.02, 0.0, 0.03], [0.0, 0.0, 0.0]])
    leaving = rates - np.diag(rates.sum(axis=1))
    solved = integrate.solve_ivp(lambda _, p: p @ leaving, (0, 60), [1.0, 0.0, 0.0], rtol=1e-11, atol=1e-13)
    np.testing.assert_allclose(markov_occupancy(rates, days=[60.0])[0], solved.y[:, -1], atol=1e-9)


def test_competing_exponentials_have_a_closed_form() -> None:
    exits = [exponential(0.03), exponential(0.02)]
    assert exit_probability(exits, 0) == pytest.approx(0.6, abs=1e-12)
    within = np.array([0.0, 1.0, 30.0])
    np.testing.assert_allclose(
        exit_probability(exits, 1, within=within, days_so_far=900.0), 0.4 * -np.expm1(-0.05 * within), atol=1e-12
    )


@settings(max_examples=25, deadline=None)
@given(days_so_far=st.floats(0.0, 4000.0), within=st.floats(0.01, 500.0))
def test_exits_and_staying_add_up_to_one(days_so_far: float, within: float) -> None:
    leave = sum(float(exit_probability(EXITS, j, within=within, days_so_far=days_so_far)) for j in range(3))
    stay = np.exp(total_hazard(EXITS, days_so_far) - total_hazard(EXITS, days_so_far + within))
    assert leave + stay == pytest.approx(1.0, abs=1e-10)


def test_some_exit_is_taken_in_the_end_at_any_age() -> None:
    for days_so_far in (0.0, 3.0, 400.0, 3650.0):
        total = sum(float(exit_probability(EXITS, j, days_so_far=days_so_far)) for j in range(3))
        assert total == pytest.approx(1.0, abs=1e-10)


def test_age_conditioning_is_a_ratio() -> None:
    """P(exit in (a, a + t]) = S(a) P(exit within t | a)."""
    early, late = exit_probability(EXITS, 0, within=[25.0, 60.0])
    conditioned = exit_probability(EXITS, 0, within=35.0, days_so_far=25.0)
    assert late - early == pytest.approx(np.exp(-total_hazard(EXITS, 25.0)) * conditioned, abs=1e-11)


def test_quantiles_and_mean_of_those_who_take_an_exit() -> None:
    median = exit_quantile(EXITS, 0, 0.5)
    assert exit_probability(EXITS, 0, within=median) == pytest.approx(0.5 * exit_probability(EXITS, 0), abs=1e-11)
    area, _ = integrate.quad(lambda t: t * float(exit_density(EXITS, 0, t)), 0, 2000, limit=400)
    assert exit_mean(EXITS, 0) == pytest.approx(area / float(exit_probability(EXITS, 0)), rel=1e-7)


def test_two_stages_of_exponentials_are_a_markov_chain() -> None:
    rates = np.zeros((4, 4))
    rates[0, 1], rates[0, 3], rates[1, 2], rates[1, 3] = 0.05, 0.05, 0.03, 0.02
    days = np.array([1.0, 30.0, 200.0])
    expected = markov_occupancy(rates, days=days)
    lead, qualified = [exponential(0.05), exponential(0.05)], [exponential(0.03), exponential(0.02)]

    def still_there(elapsed: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.exp(-total_hazard(qualified, elapsed))

    def won(elapsed: NDArray[np.float64]) -> NDArray[np.float64]:
        return exit_probability(qualified, 0, within=elapsed)

    np.testing.assert_allclose(passage(lead, 0, then=still_there, days=days), expected[:, 1], atol=1e-12)
    np.testing.assert_allclose(passage(lead, 0, then=won, days=days), expected[:, 2], atol=1e-12)


def test_aalen_johansen_without_censoring_is_plain_counting() -> None:
    generator = np.random.default_rng(8)
    first = generator.exponential(10.0, 400)
    target = generator.choice([1, 2], 400, p=[0.7, 0.3])
    moved_on = target == 1
    second = first[moved_on] + generator.exponential(5.0, moved_on.sum())
    curve = aalen_johansen(
        np.concatenate([np.zeros(400, dtype=int), np.ones(moved_on.sum(), dtype=int)]),
        np.concatenate([target, np.full(moved_on.sum(), 2)]),
        entered=np.concatenate([np.zeros(400), first[moved_on]]),
        left=np.concatenate([first, second]),
        n_states=3,
    )
    for time in (0.0, 3.0, 12.0, 40.0):
        in_first = np.mean(first > time)
        in_second = (np.sum(first[moved_on] <= time) - np.sum(second <= time)) / 400
        np.testing.assert_allclose(curve.at([time])[0], [in_first, in_second, 1 - in_first - in_second], atol=1e-12)


def test_who_enters_at_the_moment_of_a_move_is_not_yet_at_risk_of_it() -> None:
    """One is in state 1 from 0.5 and leaves it at 1; the other enters it at 1."""
    curve = aalen_johansen([0, 0, 1, 1], [1, 1, 2, 2], entered=[0, 0, 0.5, 1], left=[0.5, 1, 1, 3], n_states=3)
    np.testing.assert_allclose(curve.at([1.0])[0], [0.0, 0.5, 0.5])


def test_aalen_johansen_with_one_exit_is_kaplan_meier() -> None:
    generator = np.random.default_rng(9)
    life, censored = np.ceil(generator.exponential(10.0, 300)), np.ceil(generator.exponential(15.0, 300))
    time, ended = np.minimum(life, censored), life <= censored
    zeros = np.zeros(300, dtype=int)
    curve = aalen_johansen(zeros, np.where(ended, 1, STILL_OPEN), entered=zeros, left=time, n_states=2)
    kept = stats.ecdf(stats.CensoredData.right_censored(time, ~ended)).sf
    np.testing.assert_allclose(curve.at([5.0, 12.0])[:, 0], kept.evaluate([5.0, 12.0]), atol=1e-12)


def test_the_exponential_fit_is_events_over_exposure() -> None:
    generator = np.random.default_rng(10)
    days, ended = generator.exponential(20.0, 200), generator.random(200) < 0.6
    fit = fit_latent_time(FAMILIES["exponential"], days, ended)
    assert np.exp(fit.latent.theta[0]) == pytest.approx(days.sum() / ended.sum(), rel=1e-7)


@pytest.mark.parametrize(
    ("name", "natural"),
    [
        ("weibull", {"scale": 30.0, "shape": 1.5}),
        ("lognormal", {"location": 3.0, "spread": 0.5}),
        ("gamma", {"scale": 15.0, "shape": 2.0}),
        ("loglogistic", {"scale": 25.0, "shape": 2.2}),
        ("generalized_gamma", {"location": 3.0, "spread": 0.7, "tail": 0.5}),
    ],
)
def test_maximum_likelihood_finds_its_way_back(name: str, natural: dict[str, float]) -> None:
    """At the maximum the log-likelihood exceeds the truth's by half a chi-square with one degree per parameter."""
    planted = latent_time(name, natural)
    generator = np.random.default_rng(11)
    days = planted.family.draw(generator, planted.theta, size=3000)
    limit = np.full(3000, 45.0)
    ended = days <= limit
    fit = fit_latent_time(planted.family, np.minimum(days, limit), ended)
    truth = float(np.sum(planted.family.log_density(days[ended], planted.theta)))
    truth += float(np.sum(planted.family.log_survival(limit[~ended], planted.theta)))
    assert 0.0 <= fit.log_likelihood - truth < 0.5 * stats.chi2(len(planted.theta)).ppf(0.999)


def test_the_mixture_finds_its_way_back() -> None:
    times = (latent_time("weibull", {"scale": 20.0, "shape": 1.5}), exponential(0.05))
    generator = np.random.default_rng(12)
    taken = generator.choice(2, 3000, p=[0.7, 0.3])
    days = np.choose(taken, [x.family.draw(generator, x.theta, size=3000) for x in times])
    seen = np.where(days <= 40.0, taken, STILL_OPEN)
    cut = np.minimum(days, 40.0)
    fit = fit_mixture([x.family for x in times], cut, seen)
    truth = mixture_log_likelihood([0.7, 0.3], times, cut, seen)
    assert 0.0 <= fit.log_likelihood - truth < 0.5 * stats.chi2(4).ppf(0.999)
    assert fit.share[0] == pytest.approx(0.7, abs=0.04)


def test_an_unknown_family_is_named() -> None:
    with pytest.raises(SettingsError, match="unknown duration family 'normal': expected one of exponential, weibull"):
        latent_time("normal", {"mean": 3.0})
