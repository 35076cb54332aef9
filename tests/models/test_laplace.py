"""The fast posterior against quadrature and against NUTS; the PyMC model against the same log posterior."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from planted_stays import even_rates, planted_history
from scipy.special import ndtri

from models.history import StageHistory
from models.stage_model.data import stage_data
from models.stage_model.laplace import LaplaceFit, laplace_fit
from models.stage_model.options import SamplerOptions
from models.stage_model.problem import StageProblem, log_likelihood, log_posterior, piecewise_problem, smooth_problem
from models.stages import StageGraph

LEVELS = np.array([[0.5, -0.3], [-0.4, 0.2], [0.0, 0.0], [0.2, 0.4]])


def one_rate(exits: int, open_: int) -> StageProblem:
    """One exit, one age bin: a single unknown."""
    graph = StageGraph(open=["Lead"], won=["Won"], lost=["Lost"])
    rows = [(0, 0, 1, 0, exits), (0, 0, -1, 0, open_)]
    counts = pd.DataFrame(rows, columns=["cell", "stage", "next", "days", "count"])
    data = stage_data(StageHistory(graph, counts, (), np.zeros((1, 0), dtype=np.int32)), 0)
    return piecewise_problem(replace(data, exits=(1,)), np.full(1, 0.1))  # no way to a loss, though none has been seen


def quadrature(problem: StageProblem) -> tuple[float, float]:
    """Exact mean and sd of the single innovation."""
    grid = np.linspace(-6.0, 6.0, 20_001)
    log_density = np.array([log_posterior(problem, np.array([x]), np.zeros(0))[0] for x in grid])
    mass = np.exp(log_density - log_density.max())
    mass /= mass.sum()
    mean = float(mass @ grid)
    return mean, float(np.sqrt(mass @ (grid - mean) ** 2))


@pytest.mark.parametrize(("exits", "tolerance"), [(12, 0.1), (200, 0.02)])
def test_one_rate_has_the_exact_mean_and_spread(exits: int, tolerance: float) -> None:
    problem = one_rate(exits, 10 * exits)
    assert problem.size == 1
    mean, sd = quadrature(problem)
    innovations = laplace_fit(problem, draws=40_000, rng=np.random.default_rng(1)).innovations
    assert abs(innovations.mean() - mean) < (tolerance + 0.02) * sd
    assert innovations.std() / sd == pytest.approx(1.0, abs=tolerance)


def test_mean_correction_beats_the_mode() -> None:
    problem = one_rate(12, 120)
    mean, _ = quadrature(problem)
    fit = laplace_fit(problem, draws=40_000, rng=np.random.default_rng(1))
    assert abs(fit.innovations.mean() - mean) < 0.5 * abs(fit.mode[0] - mean)


TAILS = [0.025, 0.25, 0.5, 0.75, 0.975]


def test_few_exits_have_the_exact_quantiles() -> None:
    problem = one_rate(12, 240)
    mean, sd = quadrature(problem)
    innovations = laplace_fit(problem, draws=40_000, rng=np.random.default_rng(1)).innovations[:, 0]
    grid = np.linspace(-6.0, 6.0, 20_001)
    log_density = np.array([log_posterior(problem, np.array([x]), np.zeros(0))[0] for x in grid])
    reached = np.cumsum(np.exp(log_density - log_density.max()))
    exact = grid[np.searchsorted(reached / reached[-1], TAILS)]
    assert np.quantile(innovations, TAILS) == pytest.approx(exact, abs=0.06 * sd)
    assert np.abs(mean + sd * ndtri(TAILS) - exact).max() > 0.1 * sd


def test_a_scale_and_a_shape_seen_in_few_stays_have_their_exact_quantiles() -> None:
    graph = StageGraph(open=["Lead"], won=["Won"], lost=["Lost"])
    rows = [(0, 0, 1, day, 1) for day in (3, 9, 10, 22, 41)] + [(0, 0, -1, day, 1) for day in (15, 60, 90)]
    counts = pd.DataFrame(rows, columns=["cell", "stage", "next", "days", "count"])
    history = StageHistory(graph, counts, (), np.zeros((1, 0), dtype=np.int32))
    data = replace(stage_data(history, 0), exits=(1,))
    problem = smooth_problem(data, "weibull", zero_mass=False)
    drawn = laplace_fit(problem, draws=40_000, rng=np.random.default_rng(1)).innovations
    grid = np.linspace(-5.0, 5.0, 301)
    log_density = np.array([[log_posterior(problem, np.array([x, y]), np.zeros(0))[0] for y in grid] for x in grid])
    density = np.exp(log_density - log_density.max())
    for index in range(2):
        reached = np.cumsum(density.sum(axis=1 - index))
        exact = np.interp(TAILS, reached / reached[-1], grid)
        sd = float((exact[-2] - exact[1]) / (ndtri(0.75) - ndtri(0.25)))
        assert np.quantile(drawn[:, index], TAILS) == pytest.approx(exact, abs=0.12 * sd)


@pytest.mark.slow
def test_nuts_recovers_one_rate_exactly() -> None:
    from models.stage_model.sampling import sample_stage

    problem = one_rate(30, 300)
    mean, sd = quadrature(problem)
    start = laplace_fit(problem, draws=4000, rng=np.random.default_rng(1))
    sampled = sample_stage(problem, start, draws=24_000, seed=1, options=SamplerOptions())
    assert abs(sampled.innovations.mean() - mean) <= 0.05 * sd
    assert 0.97 <= sampled.innovations.std() / sd <= 1.03
    assert sampled.divergences == 0


@pytest.mark.parametrize("family", ["piecewise", "weibull"])
def test_pymc_model_is_the_same_log_posterior(family: str) -> None:
    from models.stage_model.problem import LOG_SCALE_MEAN, LOG_SCALE_SD
    from models.stage_model.sampling import build_stage_model

    data = stage_data(planted_history(150, 1, LEVELS), 0)
    problem = (
        piecewise_problem(data, even_rates(data))
        if family == "piecewise"
        else smooth_problem(data, family, zero_mass=True)
    )
    model = build_stage_model(problem)
    n_scales = problem.n_scales
    constant = -0.5 * (problem.size + n_scales) * np.log(2 * np.pi) - n_scales * np.log(LOG_SCALE_SD)
    evaluate = model.logp_dlogp_function(ravel_inputs=True, mode="FAST_COMPILE")
    evaluate.set_extra_values({})
    rng = np.random.default_rng(3)
    for _ in range(5):
        innovations, log_scales = 0.5 * rng.standard_normal(problem.size), rng.standard_normal(n_scales) - 1.0
        value, gradient = evaluate(np.concatenate([log_scales, innovations]))
        ours, our_gradient = log_posterior(problem, innovations, log_scales)
        assert value == pytest.approx(ours + constant, rel=1e-10)
        assert gradient[n_scales:] == pytest.approx(our_gradient, rel=1e-9, abs=1e-9)
        scale_gradient = (
            log_likelihood(problem, innovations, log_scales)[2] - (log_scales - LOG_SCALE_MEAN) / LOG_SCALE_SD**2
        )
        assert gradient[:n_scales] == pytest.approx(scale_gradient, rel=1e-8)


def moments(draws: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return draws.mean(axis=0), draws.std(axis=0)


def test_fast_agrees_with_nuts() -> None:
    from models.stage_model.sampling import sample_stage

    problem = piecewise_problem(stage_data(planted_history(800, 2, LEVELS), 1), np.full(2, 0.05))
    start: LaplaceFit = laplace_fit(problem, draws=4000, rng=np.random.default_rng(1))
    sampled = sample_stage(problem, start, draws=1200, seed=1, options=SamplerOptions(tune=200, cores=1))
    fast_mean, fast_sd = moments(start.innovations)
    nuts_mean, nuts_sd = moments(sampled.innovations)
    assert sampled.divergences == 0
    assert np.abs(fast_mean - nuts_mean).max() < 0.25 * nuts_sd.max()
    assert np.quantile(np.abs(np.log(fast_sd / nuts_sd)), 0.9) < 0.16
    gap = np.abs(start.log_scales.mean(axis=0) - sampled.log_scales.mean(axis=0))
    assert (gap < 0.25 * sampled.log_scales.std(axis=0)).all()
    assert np.log(start.log_scales.std(axis=0) / sampled.log_scales.std(axis=0)) == pytest.approx(0.0, abs=0.2)


@pytest.mark.parametrize("factors", [0, 1])
def test_a_stage_too_thin_to_tell_levels_apart_is_sampled_all_the_same(factors: int) -> None:
    from models.stage_model.sampling import sample_stage

    history = planted_history(150, 1, LEVELS)
    if not factors:
        history = replace(history, factors=(), cells=history.cells[:, :0])
    one = replace(history, counts=history.counts.query("stage == 0").head(1).assign(count=1))
    problem = piecewise_problem(stage_data(one, 0), np.full(2, 0.05))
    assert (problem.n_factors, problem.design.shape[1]) == (factors, 0)
    start = laplace_fit(problem, draws=100, rng=np.random.default_rng(1))
    sampled = sample_stage(problem, start, draws=80, seed=1, options=SamplerOptions(chains=2, tune=40, cores=1))
    assert np.isfinite(sampled.innovations).all()
    assert sampled.log_scales.shape == (80, 2 * factors)


@pytest.mark.parametrize("family", ["piecewise", "weibull"])
@pytest.mark.parametrize("far", [20.0, 1e3, 1e150])
def test_where_numbers_overflow_the_likelihood_is_zero_without_a_slope(family: str, far: float) -> None:
    data = stage_data(planted_history(150, 1, LEVELS), 0)
    problem = (
        piecewise_problem(data, even_rates(data))
        if family == "piecewise"
        else smooth_problem(data, family, zero_mass=True)
    )
    value, *gradients = log_likelihood(problem, np.full(problem.size, far), np.full(problem.n_scales, far))
    assert value == -np.inf
    assert all((gradient == 0.0).all() for gradient in gradients)
