"""The fast road: Laplace approximation of a stage's posterior, scales of the factors integrated on a grid.

Given the scales, the posterior of the innovations is close to normal: Newton finds the mode, the curvature there gives
the covariance. Two things make it good enough to stand in for NUTS. The centre is the mean, not the mode: with third
derivatives from gradient differences along the columns of the covariance root, ``mean = mode + 1/2 C sum_i d2g(l_i,
l_i)``, which for a Poisson rate is the exact mean rate. And the scales are drawn from their own posterior by Laplace
evidence, level by level of a grid, so a flat or skewed scale is not forced into a normal.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_solve, solve_triangular

from models.stage_model.problem import LOG_SCALE_MEAN, LOG_SCALE_SD, StageProblem, log_posterior, precision

Floats = NDArray[np.float64]
SCALE_GRID = LOG_SCALE_MEAN + LOG_SCALE_SD * np.linspace(-2.25, 2.75, 11)
"""Log scales tried, half a prior sd apart: 0.03 to 1.8."""
GRID_STEP = SCALE_GRID[1] - SCALE_GRID[0]
NEGLIGIBLE_WEIGHT = 0.005
"""Grid points with less posterior mass are left out."""
MAX_STEPS = 60
GAIN_SMALL = 1e-6
"""Newton stops when the predicted gain in log posterior falls below it."""
LONGEST_STEP = 2.0
"""Longest Newton step in any innovation, in prior standard deviations: keeps smooth families out of absurd corners."""
FIRST_DAMPING, LARGEST_DAMPING = 1e-2, 1e12
"""Ridge added to the precision when a step fails, and where the search gives up."""
VALUE_NOISE = 1e-13
"""Relative rounding error of the log posterior: a step that loses no more is no failure."""
SKEW_LIMIT = 1.0
"""Longest mean correction in posterior standard deviations: beyond, the third-order expansion says nothing."""


@dataclass(frozen=True)
class LaplaceFit:
    """Draws of the approximate posterior.

    Parameters
    ----------
    innovations : ndarray, shape (draw, size)
    log_scales : ndarray, shape (draw, factor)
    log_evidence : float
        Log of the integrated likelihood under the approximation.
    mode : ndarray, shape (size,)
        Mode at the most probable scales.
    root : ndarray, shape (size, size)
        Lower Cholesky root of the precision there.
    best_scales : ndarray, shape (factor,)
        Most probable log scales on the grid.
    """

    innovations: Floats
    log_scales: Floats
    log_evidence: float
    mode: Floats
    root: Floats
    best_scales: Floats


def find_mode(problem: StageProblem, log_scales: Floats, start: Floats) -> tuple[Floats, Floats, float]:
    """Mode given the scales, the Cholesky root of the precision there, and the Laplace log evidence.

    Newton steps, damped towards the gradient whenever one fails to gain.
    """
    at = start
    value, gradient = log_posterior(problem, at, log_scales)
    damping = 0.0
    for _ in range(MAX_STEPS):
        matrix = precision(problem, at, log_scales)
        gain, accepted = 0.0, False
        while not accepted and damping < LARGEST_DAMPING:
            root = positive_root(matrix, damping)
            step = cho_solve((root, True), gradient, check_finite=False)
            step *= min(1.0, LONGEST_STEP / max(float(np.abs(step).max()), LONGEST_STEP))
            gain = 0.5 * float(gradient @ step)
            new_value, new_gradient = log_posterior(problem, at + step, log_scales)
            accepted = bool(new_value >= value - VALUE_NOISE * max(1.0, abs(value)))
            damping = damping / 8.0 if accepted else max(4.0 * damping, FIRST_DAMPING)
        if not accepted:
            break
        at, value, gradient = at + step, new_value, new_gradient
        damping = damping if damping > FIRST_DAMPING else 0.0
        if gain < GAIN_SMALL:
            break
    root = positive_root(precision(problem, at, log_scales), 0.0)
    return at, root, value - float(np.log(np.diag(root)).sum())


def positive_root(matrix: Floats, damping: float) -> Floats:
    """Lower Cholesky root of a precision, the least ridge added that makes it positive definite."""
    while True:
        try:
            return np.linalg.cholesky(matrix + damping * np.eye(len(matrix)))
        except np.linalg.LinAlgError:
            damping = max(4.0 * damping, FIRST_DAMPING)


def mean_shift(problem: StageProblem, mode: Floats, root: Floats, log_scales: Floats) -> Floats:
    """Posterior mean minus mode to third order, limited to ``SKEW_LIMIT`` standard deviations."""
    columns = solve_triangular(root, np.eye(len(mode)), lower=True, trans="T", check_finite=False)
    bend = -2.0 * len(mode) * log_posterior(problem, mode, log_scales)[1]
    for column in columns.T:
        bend += (
            log_posterior(problem, mode + column, log_scales)[1] + log_posterior(problem, mode - column, log_scales)[1]
        )
    whitened = 0.5 * (columns.T @ bend)
    longest = np.abs(whitened).max(initial=0.0)
    return np.asarray(columns @ whitened * min(1.0, SKEW_LIMIT / max(longest, SKEW_LIMIT)))


def laplace_fit(problem: StageProblem, *, draws: int, rng: np.random.Generator) -> LaplaceFit:
    """Approximate the posterior of one stage.

    Parameters
    ----------
    problem : StageProblem
    draws : int
    rng : Generator

    Returns
    -------
    LaplaceFit
    """
    weights, best, log_evidence = _scale_posterior(problem)
    grid_index = np.stack([_systematic(weight, draws, rng) for weight in weights], axis=1) if weights else None
    mode, root, at_best = find_mode(problem, best, np.zeros(problem.size))
    shift = mean_shift(problem, mode, root, best)
    log_scales = np.zeros((draws, 0)) if grid_index is None else SCALE_GRID[grid_index]
    normals = rng.standard_normal((draws, problem.size))
    innovations = np.empty_like(normals)
    for scales in np.unique(log_scales, axis=0) if problem.n_factors else [best]:
        chosen = (log_scales == scales).all(axis=1)
        centre, spread, _ = find_mode(problem, scales, mode)
        noise = solve_triangular(spread, normals[chosen].T, lower=True, trans="T", check_finite=False)
        innovations[chosen] = centre + shift + noise.T
    if problem.n_factors:
        _leave_the_grid(problem, innovations, log_scales, rng)
    log_evidence = at_best if problem.n_factors == 0 else log_evidence
    return LaplaceFit(innovations, log_scales, log_evidence, mode, root, best)


def _scale_posterior(problem: StageProblem) -> tuple[list[Floats], Floats, float]:
    """Posterior weights of each factor's grid, others at their best; best scales; log evidence.

    With several factors the grid posteriors are taken as independent given the best values of the others.
    """
    best = np.full(problem.n_factors, SCALE_GRID[len(SCALE_GRID) // 2])
    weights: list[Floats] = [np.zeros(0)] * problem.n_factors
    at = np.zeros(problem.size)
    log_evidence = 0.0
    for _ in range(min(problem.n_factors, 2)):
        for factor in range(problem.n_factors):
            evidence = np.empty(len(SCALE_GRID))
            for index, log_scale in enumerate(SCALE_GRID):
                trial = best.copy()
                trial[factor] = log_scale
                at, _, evidence[index] = find_mode(problem, trial, at)
            mass = np.exp(evidence - evidence.max())
            log_evidence = float(evidence.max() + np.log(mass.sum() * GRID_STEP))
            mass /= mass.sum()
            mass[mass < NEGLIGIBLE_WEIGHT] = 0.0
            weights[factor] = mass / mass.sum()
            best[factor] = SCALE_GRID[int(np.argmax(mass))]
    return weights, best, log_evidence


def _leave_the_grid(problem: StageProblem, innovations: Floats, log_scales: Floats, rng: np.random.Generator) -> None:
    """Spread the scales evenly over their grid cells, in place; the level effects stay what they are."""
    moved = GRID_STEP * (rng.random(log_scales.shape) - 0.5)
    log_scales += moved
    by_column = np.repeat(moved[:, problem.column_factor], problem.data.n_exits, axis=1)
    innovations[:, problem.n_parameters :] *= np.exp(-by_column)


def _systematic(weights: Floats, draws: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Draw grid indices in exact proportion to their weights, in random order."""
    points = (np.arange(draws) + rng.random()) / draws
    index = np.searchsorted(np.cumsum(weights), points, side="right").clip(max=len(weights) - 1)
    return rng.permutation(index).astype(np.int64)
