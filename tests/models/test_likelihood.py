"""The kernels against a deal-by-deal product, and every derivative against finite differences."""

import math

import numpy as np
import pandas as pd
import pytest
from planted_stays import even_rates

from models.history import STILL_OPEN, Factor, StageHistory, count_stays
from models.stage_model.base_hazards import Baseline
from models.stage_model.base_lattice import base_by_day
from models.stage_model.data import stage_data
from models.stage_model.likelihood import leave_terms, stays_log_likelihood
from models.stage_model.problem import StageProblem, log_posterior, piecewise_problem, place, precision, smooth_problem
from models.stage_model.selection import base_shape
from models.stages import StageGraph

GRAPH = StageGraph(open=["Lead"], won=["Won"], lost=["Lost"])
EXTRAS = {"zero_mass": True, "idle": True}
SHAPES = ["piecewise", "weibull", "lognormal", "gamma", "loglogistic", "generalized_gamma"]


def random_stays(n: int, seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    days = np.where(rng.random(n) < 0.3, 0, rng.integers(0, 40, n))
    return pd.DataFrame({"cell": rng.integers(0, 6, n), "stage": 0, "next": rng.choice([-1, 1, 2], n), "days": days})


def history_of(stays: pd.DataFrame) -> StageHistory:
    factors = (Factor("region", ("a", "b")), Factor("size", ("s", "m", "l")))
    cells = np.array([[r, s] for r in range(2) for s in range(3)], dtype=np.int32)
    return StageHistory(GRAPH, count_stays(stays), factors, cells)


def problem_of(shape: str, *, zero_mass: bool = True, idle: bool = False) -> StageProblem:
    data = stage_data(history_of(random_stays(120, 3)), 0)
    if shape == "piecewise":
        return piecewise_problem(data, even_rates(data))
    return smooth_problem(data, shape, zero_mass=zero_mass, idle=idle)


def by_hand(base: np.ndarray, effect: np.ndarray, group: int, exit_: int, days: int) -> float:
    """Log-likelihood of one stay, day by day, in plain Python."""
    value = 0.0
    for day in range(days + 1):
        hazards = [base[j, day] * math.exp(effect[group, j]) for j in range(len(base))]
        total = sum(hazards)
        if day < days or exit_ < 0:
            value -= total
        else:
            value += math.log(hazards[exit_] / total * (1.0 - math.exp(-total)))
    return value


@pytest.mark.parametrize("shape", SHAPES)
def test_stays_seen_late_count_from_the_day_they_were_seen(shape: str) -> None:
    """The likelihood given that the unseen days were outlasted, by hand."""
    stays = random_stays(120, 3)
    rng = np.random.default_rng(2)
    stays["days_unseen"] = np.minimum(rng.integers(0, 20, 120) * (rng.random(120) < 0.6), stays["days"])
    data = stage_data(history_of(stays), 0)
    assert (data.count < 0).any()
    problem = (
        piecewise_problem(data, even_rates(data)) if shape == "piecewise" else smooth_problem(data, shape, **EXTRAS)
    )
    innovations, log_scales = 0.5 * rng.standard_normal(problem.size), np.linspace(-0.5, -1.5, problem.n_scales)
    parameters, effect = place(problem, innovations, log_scales)
    base = base_by_day(base_shape(problem), parameters[None], days=41)[0]
    cells = np.array([[r, s] for r in range(2) for s in range(3)])
    group = [int(np.flatnonzero((data.levels == cells[cell]).all(axis=1))[0]) for cell in stays["cell"]]
    exits = [STILL_OPEN if code < 0 else data.exits.index(code) for code in stays["next"]]
    expected = 0.0
    for g, j, days, unseen in zip(group, exits, stays["days"], stays["days_unseen"], strict=True):
        expected += by_hand(base, effect, g, j, days) - (
            by_hand(base, effect, g, STILL_OPEN, unseen - 1) if unseen else 0.0
        )
    assert problem.baseline.terms(parameters, effect)[0] == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("idle", [False, True])
@pytest.mark.parametrize("zero_mass", [False, True])
def test_counts_equal_a_product_over_deals(shape: str, zero_mass: bool, idle: bool) -> None:
    problem = problem_of(shape, zero_mass=zero_mass, idle=idle)
    data, rng = problem.data, np.random.default_rng(1)
    innovations, log_scales = 0.5 * rng.standard_normal(problem.size), np.linspace(-0.5, -1.5, problem.n_scales)
    parameters, effect = place(problem, innovations, log_scales)
    base = base_by_day(base_shape(problem), parameters[None], days=int(data.days.max()) + 1)[0]
    stays = zip(data.group, data.exit, data.days, data.count, strict=True)
    expected = sum(count * by_hand(base, effect, group, exit_, days) for group, exit_, days, count in stays)
    assert problem.baseline.terms(parameters, effect)[0] == pytest.approx(expected, rel=1e-10)
    single = stays_log_likelihood(base[None], effect[None], data.group, data.exit, data.days)[0]
    assert single @ data.count == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("idle", [False, True])
@pytest.mark.parametrize("zero_mass", [False, True])
def test_gradients_and_curvature_are_those_of_finite_differences(shape: str, zero_mass: bool, idle: bool) -> None:
    problem = problem_of(shape, zero_mass=zero_mass, idle=idle)
    rng = np.random.default_rng(2)
    at, log_scales = 0.4 * rng.standard_normal(problem.size), np.linspace(-0.5, -1.5, problem.n_scales)
    direction = rng.standard_normal(problem.size)
    step = 1e-5
    up, down = (log_posterior(problem, at + sign * step * direction, log_scales) for sign in (1, -1))
    _, gradient = log_posterior(problem, at, log_scales)
    assert gradient @ direction == pytest.approx((up[0] - down[0]) / (2 * step), rel=1e-6)
    bent = -(up[1] - down[1]) / (2 * step)
    assert precision(problem, at, log_scales) @ direction == pytest.approx(bent, rel=1e-5, abs=1e-5)


def test_scale_gradient() -> None:
    from models.stage_model.problem import log_likelihood

    problem = problem_of("piecewise")
    at, log_scales = (
        0.4 * np.random.default_rng(2).standard_normal(problem.size),
        np.linspace(-0.5, -1.5, problem.n_scales),
    )
    _, _, gradient = log_likelihood(problem, at, log_scales)
    for scale in range(problem.n_scales):
        step = 1e-6 * np.eye(problem.n_scales)[scale]
        values = [log_likelihood(problem, at, log_scales + sign * step)[0] for sign in (1, -1)]
        assert gradient[scale] == pytest.approx((values[0] - values[1]) / 2e-6, rel=1e-5)


def test_compressed_equals_uncompressed() -> None:
    stays = random_stays(400, 7)
    single = history_of(stays)
    one_by_one = stays.assign(count=1).sort_values(["cell", "stage", "next", "days"]).reset_index(drop=True)
    rows = StageHistory(GRAPH, one_by_one.astype(np.int64), single.factors, single.cells)
    values = []
    for history in (single, rows):
        problem = piecewise_problem(stage_data(history, 0), np.full(2, 0.05))
        values.append(log_posterior(problem, np.full(problem.size, 0.1), np.full(problem.n_scales, -1.0))[0])
    assert len(rows.counts) > len(single.counts)
    assert values[0] == pytest.approx(values[1], rel=1e-12)


@pytest.mark.parametrize("total", [1e-12, 1e-6, 9.99e-5, 1.001e-4, 0.3, 5.0, 40.0, 499.0, 501.0, 1e4])
def test_leave_terms(total: float) -> None:
    import mpmath

    def exact(x: object) -> object:
        return mpmath.log((1 - mpmath.exp(-x)) / x)  # type: ignore[operator]

    with mpmath.workdps(60):
        reference = [exact(mpmath.mpf(total)), *(mpmath.diff(exact, mpmath.mpf(total), n) for n in (1, 2))]
    assert leave_terms(total) == pytest.approx([float(value) for value in reference], rel=1e-6, abs=1e-12)


@pytest.mark.parametrize("shape", SHAPES)
def test_an_open_deal_of_ten_years_is_finite(shape: str) -> None:
    stays = pd.concat([random_stays(50, 1), pd.DataFrame({"cell": [0], "stage": [0], "next": [-1], "days": [3650]})])
    data = stage_data(history_of(stays), 0)
    problem = (
        piecewise_problem(data, even_rates(data))
        if shape == "piecewise"
        else smooth_problem(data, shape, zero_mass=True)
    )
    baseline: Baseline = problem.baseline
    value, gradient, effect_gradient = baseline.terms(
        *place(problem, np.zeros(problem.size), np.full(problem.n_scales, -1.0))
    )
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()
    assert np.isfinite(effect_gradient).all()
