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
from scipy.linalg import cho_factor, cho_solve, solve_triangular

from models.stage_problem import LOG_SCALE_MEAN, LOG_SCALE_SD, StageProblem, log_posterior, precision

Floats = NDArray[np.float64]
SCALE_GRID = LOG_SCALE_MEAN + LOG_SCALE_SD * np.linspace(-2.25, 2.75, 11)
"""Log scales tried, half a prior sd apart: 0.03 to 1.8."""
NEGLIGIBLE_WEIGHT = 0.01
"""Grid points with less posterior mass are left out."""
MAX_STEPS = 60
GRADIENT_SMALL = 1e-6
"""Newton stops when the predicted gain in log posterior falls below it."""
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
    root = np.eye(len(at))
    for _ in range(MAX_STEPS):
        matrix = precision(problem, at, log_scales)
        while True:
            try:
                root = cho_factor(matrix + damping * np.eye(len(at)), lower=True, check_finite=False)[0]
                step = cho_solve((root, True), gradient, check_finite=False)
            except np.linalg.LinAlgError:
                damping = max(4.0 * damping, 1e-2)
                continue
            new_value, new_gradient = log_posterior(problem, at + step, log_scales)
            gain = 0.5 * float(gradient @ step)
            if new_value >= value - 1e-9 or gain < GRADIENT_SMALL or damping > 1e12:
                break
            damping = max(4.0 * damping, 1e-2)
        if new_value >= value - 1e-9:
            at, value, gradient = at + step, new_value, new_gradient
        damping = 0.0 if damping < 1e-2 else damping / 8.0
        if gain < GRADIENT_SMALL:
            break
    root = np.tril(cho_factor(precision(problem, at, log_scales), lower=True, check_finite=False)[0])
    return at, root, value - float(np.log(np.diag(root)).sum())


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
    log_scales = np.zeros((draws, 0)) if grid_index is None else SCALE_GRID[grid_index]
    normals = rng.standard_normal((draws, problem.size))
    innovations = np.empty_like(normals)
    for scales in np.unique(log_scales, axis=0) if problem.n_factors else [best]:
        chosen = (log_scales == scales).all(axis=1)
        centre, spread, _ = find_mode(problem, scales, mode)
        centre = centre + mean_shift(problem, centre, spread, scales)
        noise = solve_triangular(spread, normals[chosen].T, lower=True, trans="T", check_finite=False)
        innovations[chosen] = centre + noise.T
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
            log_evidence = float(evidence.max() + np.log(mass.sum() * (SCALE_GRID[1] - SCALE_GRID[0])))
            mass /= mass.sum()
            mass[mass < NEGLIGIBLE_WEIGHT] = 0.0
            weights[factor] = mass / mass.sum()
            best[factor] = SCALE_GRID[int(np.argmax(mass))]
    return weights, best, log_evidence


def _systematic(weights: Floats, draws: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Draw grid indices in exact proportion to their weights, in random order."""
    points = (np.arange(draws) + rng.random()) / draws
    index = np.searchsorted(np.cumsum(weights), points, side="right").clip(max=len(weights) - 1)
    return rng.permutation(index).astype(np.int64)
