"""Every duration family keeps one contract, and its numbers agree with arbitrary-precision arithmetic."""

from collections.abc import Callable

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

from models.durations.families import FAMILIES, Family
from models.durations.kernels import cumulative_hazard_and_gradient, daily_hazards
from models.errors import SettingsError

CASES: list[tuple[str, dict[str, float]]] = [
    ("exponential", {"scale": 30.0}),
    ("weibull", {"scale": 30.0, "shape": 1.5}),
    ("weibull", {"scale": 30.0, "shape": 0.6}),
    ("lognormal", {"location": 3.0, "spread": 0.5}),
    ("lognormal", {"location": 2.0, "spread": 1.8}),
    ("gamma", {"scale": 15.0, "shape": 2.0}),
    ("gamma", {"scale": 40.0, "shape": 0.4}),
    ("gamma", {"scale": 1.0, "shape": 60.0}),
    ("loglogistic", {"scale": 25.0, "shape": 2.2}),
    ("loglogistic", {"scale": 12.0, "shape": 0.8}),
    ("generalized_gamma", {"location": 3.0, "spread": 0.7, "tail": 0.6}),
    ("generalized_gamma", {"location": 2.5, "spread": 0.9, "tail": -0.5}),
    ("generalized_gamma", {"location": 3.0, "spread": 0.6, "tail": 0.0}),
    ("generalized_gamma", {"location": 3.0, "spread": 0.8, "tail": 2.2}),
]
DAYS = [0.001, 0.1, 1.0, 7.0, 30.0, 200.0, 600.0, 3650.0, 36500.0]
EXTREME_DAYS = np.array([0.0, 1e-300, 1e-6, 0.5, 1.0, 365.0, 36500.0, 1e12])
SMALLEST = 1e-280
"""Cumulative hazards below this have left the range of a float64 or are about to."""


def by_case(cases: list[tuple[str, dict[str, float]]]) -> pytest.MarkDecorator:
    ids = [f"{name}-{'-'.join(str(value) for value in natural.values())}" for name, natural in cases]
    return pytest.mark.parametrize(("name", "natural"), cases, ids=ids)


all_cases = by_case(CASES)
all_families = pytest.mark.parametrize("name", FAMILIES)


def planted(name: str, natural: dict[str, float]) -> tuple[Family, np.ndarray]:
    family = FAMILIES[name]
    return family, family.to_unconstrained(natural)


# ---------------------------------------------------------------- arbitrary precision


def exact_hazard(name: str, days: float, theta: list[mpmath.mpf]) -> mpmath.mpf:
    """-log S(days) from the textbook definition of each family."""
    t = mpmath.mpf(days)
    if name == "exponential":
        return t / mpmath.exp(theta[0])
    if name == "weibull":
        return (t / mpmath.exp(theta[0])) ** mpmath.exp(theta[1])
    if name == "loglogistic":
        return mpmath.log1p((t / mpmath.exp(theta[0])) ** mpmath.exp(theta[1]))
    if name == "lognormal":
        w = (mpmath.log(t) - theta[0]) / mpmath.exp(theta[1])
        half = mpmath.erfc(abs(w) / mpmath.sqrt(2)) / 2
        return -mpmath.log(half) if w > 0 else -mpmath.log1p(-half)
    if name == "gamma":
        shape, x, flip = mpmath.exp(theta[1]), t / mpmath.exp(theta[0]), False
    else:
        if theta[2] == 0:
            return exact_hazard("lognormal", days, theta[:2])
        shape = theta[2] ** -2
        x = shape * mpmath.exp(theta[2] * (mpmath.log(t) - theta[0]) / mpmath.exp(theta[1]))
        flip = theta[2] < 0
    late = (x > shape) != flip
    bounds = (x, mpmath.inf) if x > shape else (0, x)
    tail = mpmath.gammainc(shape, *bounds, regularized=True)
    return -mpmath.log(tail) if late else -mpmath.log1p(-tail)


@all_cases
def test_log_survival_to_a_billionth_out_to_a_century(name: str, natural: dict[str, float]) -> None:
    family, theta = planted(name, natural)
    with mpmath.workdps(60):
        exact = [exact_hazard(name, days, [mpmath.mpf(value) for value in theta]) for days in DAYS]
    ours = -family.log_survival(DAYS, theta)
    for days, expected, got in zip(DAYS, exact, ours, strict=True):
        if expected > SMALLEST:
            assert abs(got - expected) <= 1e-11 * expected, f"{days} days: {got} is not {float(expected)}"
        else:
            assert 0.0 <= got <= SMALLEST


def check_gradient(name: str, times: np.ndarray, theta: np.ndarray) -> None:
    """Kernel gradient against differences in sixty digits; against the size of H where a derivative crosses zero."""
    hazard, gradient = cumulative_hazard_and_gradient(FAMILIES[name].code, times, theta)
    with mpmath.workdps(60):
        step = mpmath.mpf("1e-20")
        for j in range(len(theta)):
            up, down = ([mpmath.mpf(value) for value in theta] for _ in range(2))
            up[j] += step
            down[j] -= step
            for i, days in enumerate(times):
                expected = (exact_hazard(name, days, up) - exact_hazard(name, days, down)) / (2 * step)
                assert abs(gradient[i, j] - expected) <= 1e-9 * abs(expected) + 1e-11 * hazard[i] + SMALLEST


@by_case([(name, natural) for name, natural in CASES if natural.get("tail") != 0.0])
def test_gradient_against_arbitrary_precision(name: str, natural: dict[str, float]) -> None:
    _, theta = planted(name, natural)
    check_gradient(name, np.array(DAYS), theta)


@pytest.mark.parametrize("tail", [-3.0, -1.0, -0.26, -0.24, -0.05, 0.05, 0.28, 0.3, 1.0, 3.0])
def test_generalised_gamma_across_its_formulas(tail: float) -> None:
    """No seam where a series hands over to an integral, nor at the mode."""
    theta = np.array([0.0, 0.0, tail])
    times = np.exp([-3.0, -0.5, -1e-9, 0.0, 1e-9, 0.5, 3.0])
    hazard, _ = cumulative_hazard_and_gradient(FAMILIES["generalized_gamma"].code, times, theta)
    with mpmath.workdps(60):
        exact = [float(exact_hazard("generalized_gamma", t, [mpmath.mpf(v) for v in theta])) for t in times]
    np.testing.assert_allclose(hazard, exact, rtol=1e-11)
    check_gradient("generalized_gamma", times, theta)


def test_generalised_gamma_is_smooth_at_the_lognormal_limit() -> None:
    code, times = FAMILIES["generalized_gamma"].code, np.exp([-3.0, -0.5, 0.0, 0.5, 3.0])
    middle, slope = cumulative_hazard_and_gradient(code, times, np.zeros(3))
    np.testing.assert_allclose(middle, -stats.norm.logsf(np.log(times)), rtol=1e-13)
    for step in (1e-9, 1e-5):
        above, slope_above = cumulative_hazard_and_gradient(code, times, np.array([0.0, 0.0, step]))
        below, slope_below = cumulative_hazard_and_gradient(code, times, np.array([0.0, 0.0, -step]))
        np.testing.assert_allclose((above + below) / 2, middle, rtol=1e-8)
        np.testing.assert_allclose((slope_above + slope_below) / 2, slope, rtol=1e-8)
    np.testing.assert_allclose((above - below) / 2e-5, slope[:, 2], rtol=1e-8, atol=1e-10)


# ---------------------------------------------------------------- the contract


SCIPY: dict[str, Callable[..., stats.rv_continuous]] = {
    "exponential": lambda scale: stats.expon(scale=scale),
    "weibull": lambda scale, shape: stats.weibull_min(shape, scale=scale),
    "lognormal": lambda location, spread: stats.lognorm(spread, scale=np.exp(location)),
    "gamma": lambda scale, shape: stats.gamma(shape, scale=scale),
    "loglogistic": lambda scale, shape: stats.fisk(shape, scale=scale),
    "generalized_gamma": lambda location, spread, tail: (
        stats.gengamma(tail**-2, tail / spread, scale=np.exp(location) * tail ** (2 * spread / tail))
        if tail
        else stats.lognorm(spread, scale=np.exp(location))
    ),
}


@by_case([(name, natural) for name, natural in CASES if natural.get("tail", 1.0) >= 0.0])
def test_agrees_with_scipy(name: str, natural: dict[str, float]) -> None:
    """Scipy has no negative tail; arbitrary precision covers that."""
    family, theta = planted(name, natural)
    other = SCIPY[name](**natural)
    days = np.array([0.5, 2.0, 10.0, 30.0, 90.0])
    np.testing.assert_allclose(np.exp(family.log_survival(days, theta)), other.sf(days), rtol=1e-9)
    np.testing.assert_allclose(family.log_density(days, theta), other.logpdf(days), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(family.quantile([0.05, 0.5, 0.99], theta), other.ppf([0.05, 0.5, 0.99]), rtol=1e-8)


@all_cases
def test_quantile_inverts_the_survival(name: str, natural: dict[str, float]) -> None:
    family, theta = planted(name, natural)
    probability = np.array([1e-12, 1e-4, 0.05, 0.5, 0.95, 1 - 1e-9])
    ended = -np.expm1(family.log_survival(family.quantile(probability, theta), theta))
    np.testing.assert_allclose(ended, probability, rtol=1e-9)
    assert family.quantile(0.0, theta) == 0.0


@all_cases
def test_density_integrates_to_survival(name: str, natural: dict[str, float]) -> None:
    family, theta = planted(name, natural)
    for start, end in [(0.5, 3.0), (3.0, 40.0), (40.0, 400.0)]:
        mass, _ = integrate.quad(lambda t: float(np.exp(family.log_density(t, theta))), start, end, epsabs=1e-12)
        survival = np.exp(family.log_survival([start, end], theta))
        assert mass == pytest.approx(survival[0] - survival[1], abs=1e-10)


@all_cases
def test_draws_follow_the_family(name: str, natural: dict[str, float]) -> None:
    family, theta = planted(name, natural)
    draws = family.draw(np.random.default_rng(20), theta, size=20_000)
    ended = -np.expm1(family.log_survival(draws, theta))
    assert stats.kstest(ended, "uniform").pvalue > 1e-3


@all_cases
def test_remaining_days_match_those_who_lasted_that_long(name: str, natural: dict[str, float]) -> None:
    family, theta = planted(name, natural)
    days_so_far = float(family.quantile(0.6, theta))
    drawn = family.draw(np.random.default_rng(1), theta, size=40_000)
    lasted = drawn[drawn > days_so_far] - days_so_far
    remaining = family.draw_remaining(np.random.default_rng(2), theta, days_so_far=np.full(15_000, days_so_far))
    assert stats.ks_2samp(lasted, remaining).pvalue > 1e-3


@all_cases
def test_at_age_zero_remaining_is_the_unconditional_draw(name: str, natural: dict[str, float]) -> None:
    family, theta = planted(name, natural)
    fresh = family.draw(np.random.default_rng(5), theta, size=50)
    remaining = family.draw_remaining(np.random.default_rng(5), theta, days_so_far=np.zeros(50))
    np.testing.assert_array_equal(fresh, remaining)


def test_the_exponential_forgets_its_age() -> None:
    family, theta = planted("exponential", {"scale": 30.0})
    young = family.draw_remaining(np.random.default_rng(5), theta, days_so_far=np.full(50, 3.0))
    old = family.draw_remaining(np.random.default_rng(5), theta, days_so_far=np.full(50, 3650.0))
    np.testing.assert_allclose(young, old, rtol=1e-10)


@all_cases
def test_remaining_days_of_a_ten_year_old_deal_are_finite(name: str, natural: dict[str, float]) -> None:
    family, theta = planted(name, natural)
    remaining = family.draw_remaining(np.random.default_rng(5), theta, days_so_far=np.full(200, 3650.0))
    assert np.isfinite(remaining).all()
    assert (remaining > 0).all()


@all_cases
def test_days_of_the_lattice_sum_to_one(name: str, natural: dict[str, float]) -> None:
    """P(exit on day d) summed over 0 .. n - 1, plus survival to n, is one."""
    family, theta = planted(name, natural)
    daily = family.daily_hazards(theta[None], days=1000)[0]
    before = np.concatenate([[0.0], np.cumsum(daily)[:-1]])
    exit_on = np.exp(-before) * -np.expm1(-daily)
    assert exit_on.sum() + np.exp(family.log_survival(1000.0, theta)) == pytest.approx(1.0, abs=1e-12)
    assert (daily >= 0).all()


@all_cases
def test_daily_hazards_late_in_life(name: str, natural: dict[str, float]) -> None:
    family, theta = planted(name, natural)
    daily = family.daily_hazards(theta[None], days=3651)[0]
    with mpmath.workdps(60):
        exact_theta = [mpmath.mpf(value) for value in theta]
        for day in (1, 30, 365, 3650):
            start, end = (exact_hazard(name, float(d), exact_theta) for d in (day, day + 1))
            assert daily[day] == pytest.approx(float(end - start), rel=1e-9)


@all_families
@settings(max_examples=100, deadline=None)
@given(scores=st.tuples(*[st.floats(-8.0, 8.0)] * 3))
def test_finite_and_rising_wherever_a_sampler_may_wander(name: str, scores: tuple[float, ...]) -> None:
    family = FAMILIES[name]
    theta = np.array([prior.mean + score * prior.sd for prior, score in zip(family.priors, scores, strict=False)])
    hazard, gradient = cumulative_hazard_and_gradient(family.code, EXTREME_DAYS, theta)
    assert np.isfinite(hazard).all()
    assert np.isfinite(gradient).all()
    assert (np.diff(hazard) >= -1e-12 * hazard[1:]).all()
    assert hazard[0] == 0.0
    assert (gradient[0] == 0.0).all()
    assert not np.isnan(family.log_density(EXTREME_DAYS, theta)).any()


standard_scores = st.floats(-2.0, 2.0)


@all_families
@settings(max_examples=60, deadline=None)
@given(scores=st.tuples(standard_scores, standard_scores, standard_scores), log_days=st.floats(-2.0, 10.5))
def test_gradient_against_finite_differences(name: str, scores: tuple[float, ...], log_days: float) -> None:
    family = FAMILIES[name]
    theta = np.array([prior.mean + score * prior.sd for prior, score in zip(family.priors, scores, strict=False)])
    days = np.array([np.exp(log_days)])
    hazard, gradient = cumulative_hazard_and_gradient(family.code, days, theta)
    for j in range(len(theta)):
        step = np.zeros(len(theta))
        step[j] = 1e-5
        up, _ = cumulative_hazard_and_gradient(family.code, days, theta + step)
        down, _ = cumulative_hazard_and_gradient(family.code, days, theta - step)
        scale = abs(gradient[0, j]) + hazard[0]
        assert abs((up[0] - down[0]) / 2e-5 - gradient[0, j]) <= 1e-5 * scale + 1e-12


@all_families
def test_hazard_by_day_is_the_slope_by_location(name: str) -> None:
    """What the kernels promise to whoever needs a hazard: h(t) = -dH / dtheta[0] / t."""
    family = FAMILIES[name]
    theta = np.array([prior.mean for prior in family.priors])
    days = np.array([1.0, 20.0, 300.0])
    hazard, gradient = cumulative_hazard_and_gradient(family.code, days, theta)
    np.testing.assert_allclose(np.log(-gradient[:, 0] / days) - hazard, family.log_density(days, theta), rtol=1e-10)


def test_one_family_within_another() -> None:
    """The generalised gamma holds the Weibull, the gamma and the log-normal."""
    days = np.array([0.3, 5.0, 40.0, 900.0])
    generalized = FAMILIES["generalized_gamma"]
    spread = 0.7
    inside = {
        "weibull": (1.0, {"scale": np.exp(3.0), "shape": 1 / spread}),
        "gamma": (spread, {"scale": np.exp(3.0) * spread**2, "shape": spread**-2}),
        "lognormal": (0.0, {"location": 3.0, "spread": spread}),
    }
    for name, (tail, natural) in inside.items():
        family, theta = planted(name, natural)
        wide = generalized.to_unconstrained({"location": 3.0, "spread": spread, "tail": tail})
        np.testing.assert_allclose(generalized.log_survival(days, wide), family.log_survival(days, theta), rtol=1e-11)


def test_daily_hazards_by_draw() -> None:
    family, _ = planted(*CASES[1])
    theta = np.log([[30.0, 1.5], [10.0, 0.8]])
    table = daily_hazards(family.code, theta, 4)
    assert table.shape == (2, 4)
    np.testing.assert_allclose(table[1], np.diff((np.arange(5) / 10.0) ** 0.8), rtol=1e-13)


@all_cases
def test_natural_parameters_survive_the_round_trip(name: str, natural: dict[str, float]) -> None:
    family, theta = planted(name, natural)
    assert family.from_unconstrained(theta) == pytest.approx(natural)


def test_wrong_parameters_are_named() -> None:
    with pytest.raises(SettingsError, match=r"weibull takes the parameters \['scale', 'shape'\], got \['scale'\]"):
        FAMILIES["weibull"].to_unconstrained({"scale": 3.0})
    with pytest.raises(SettingsError, match="weibull: shape must be positive, got -1"):
        FAMILIES["weibull"].to_unconstrained({"scale": 3.0, "shape": -1.0})
    with pytest.raises(SettingsError, match=r"weibull takes 2 parameters, got shape \(1,\)"):
        FAMILIES["weibull"].log_survival(3.0, [1.0])
