"""The fast road: Laplace approximation of a stage's posterior, scales of the factors integrated on a grid.

Given the scales, the posterior of the innovations is close to normal: Newton finds the mode, the curvature there gives
the covariance. Three things make it good enough to stand in for NUTS. The centre is the mean, not the mode: with third
derivatives from gradient differences along the columns of the covariance root, ``mean = mode + 1/2 C sum_i d2g(l_i,
l_i)``, which for a Poisson rate is the exact mean rate. The base hazard, of which few exits may tell, gets the skewness
and the spread that third and fourth derivatives give. And the scales are drawn from their own posterior by Laplace
evidence, level by level of a grid, so a flat or skewed scale is not forced into a normal.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_solve, solve_triangular

from models.stage_model.base_hazards import Baseline, PiecewiseBaseline
from models.stage_model.problem import LOG_SCALE_MEAN, LOG_SCALE_SD, StageProblem, log_posterior, place, precision

Floats = NDArray[np.float64]
SCALE_GRID = LOG_SCALE_MEAN + LOG_SCALE_SD * np.linspace(-2.75, 3.25, 13)
"""Log scales tried, half a prior sd apart: 0.013 to 1.6, which leaves out 0.2 % of the prior."""
GRID_STEP = SCALE_GRID[1] - SCALE_GRID[0]
NEGLIGIBLE_WEIGHT = 0.001
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
MEAN_STEP = 0.5
"""Step of the gradient differences behind the mean, in posterior standard deviations: where there is hardly an exit the
exponential of a whole one says more of the fifth derivative than of the third."""
SKEW_LIMIT = 1.0
"""Longest mean correction in posterior standard deviations: beyond, the third-order expansion says nothing."""
BEND_LIMIT = 0.5
"""Longest bend of a draw as a share of its distance from the centre: there a single bent coordinate would turn back."""
SPREAD_LIMITS = (-0.5, 1.0)
"""Limits of the correction of a variance, as shares of it: beyond, the fourth-order expansion says nothing."""
REMAINING = 1.0 / 2.0 - 1.0 / 18.0
"""Share of the squared third derivatives that the covariance lacks once the draws are bent."""


@dataclass(frozen=True)
class LaplaceFit:
    """Draws of the approximate posterior.

    Parameters
    ----------
    innovations : ndarray, shape (draw, size)
    log_scales : ndarray, shape (draw, scale)
    mode : ndarray, shape (size,)
        Mode at the most probable scales.
    root : ndarray, shape (size, size)
        Lower Cholesky root of the precision there.
    best_scales : ndarray, shape (scale,)
        Most probable log scales on the grid.
    """

    innovations: Floats
    log_scales: Floats
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


def mean_shift(problem: StageProblem, mode: Floats, columns: Floats, log_scales: Floats) -> Floats:
    """Posterior mean minus mode to third order, limited to ``SKEW_LIMIT`` standard deviations.

    ``columns`` are those of a root of the covariance at the mode.
    """
    bend = -2.0 * len(mode) * log_posterior(problem, mode, log_scales)[1]
    for step in MEAN_STEP * columns.T:
        bend += log_posterior(problem, mode + step, log_scales)[1] + log_posterior(problem, mode - step, log_scales)[1]
    whitened = 0.5 / MEAN_STEP**2 * (columns.T @ bend)
    longest = np.abs(whitened).max(initial=0.0)
    return np.asarray(columns @ whitened * min(1.0, SKEW_LIMIT / max(longest, SKEW_LIMIT)))


def shape_base(problem: StageProblem, mode: Floats, columns: Floats, log_scales: Floats, normals: Floats) -> None:
    """Give the whitened base parameters the skewness and the spread of the posterior, in place, their mean left at zero.

    A rate seen in few exits, or a scale in few days, has one long tail, and a normal none. With third and fourth
    derivatives ``T`` and ``U`` of the log posterior, ``z_i + sum_jk T_ijk (z_j z_k - [j = k]) / 6`` has its skewness, and
    the covariance is ``I + sum_k (U_ijkk + T_ijk sum_l T_kll) / 2 + sum_kl T_ikl T_jkl / 2``. The level effects lie
    close to zero and need neither.
    """
    n_base = problem.n_parameters
    move = problem.prior_root @ columns[:n_base, :n_base]
    base, effect = place(problem, mode, log_scales)
    own = normals[:, :n_base]
    derivatives = _rate_derivatives if isinstance(problem.baseline, PiecewiseBaseline) else _differences
    bend, spread = derivatives(problem.baseline, base, effect, move, own)
    sizes, directions = np.linalg.eigh(spread)
    wider = (directions * np.sqrt(1.0 + np.clip(sizes, *SPREAD_LIMITS))) @ directions.T
    length = np.linalg.norm(bend, axis=1)
    most = np.maximum(BEND_LIMIT * np.linalg.norm(own, axis=1), 1e-300)
    normals[:, :n_base] = own @ wider + bend * np.minimum(1.0, most / np.maximum(length, most))[:, None]


def _rate_derivatives(
    baseline: Baseline, base: Floats, effect: Floats, move: Floats, own: Floats
) -> tuple[Floats, Floats]:
    """Bend of each draw and what the covariance lacks, of log rates.

    Bins share no term, and the log-likelihood of a log rate is a straight line less its exponential: all its
    derivatives from the second on are the same.
    """
    third = np.diag(baseline.curvature(base, effect).base)
    size = (move**2).sum(axis=1)
    bend = ((own @ move.T) ** 2 - size) * third @ move / 6.0
    trace = (third * size) @ move
    squares = move.T @ (third[:, None] * (move @ move.T) ** 2 * third) @ move
    return bend, 0.5 * (move.T * (third * (size + move @ trace))) @ move + REMAINING * squares


def _differences(baseline: Baseline, base: Floats, effect: Floats, move: Floats, own: Floats) -> tuple[Floats, Floats]:
    """Bend of each draw and what the covariance lacks, from differences of the curvature one sd to either side."""
    here, *beside = (
        move.T @ baseline.curvature(base + step, effect).base @ move
        for step in (np.zeros_like(base), *move.T, *-move.T)
    )
    ahead, behind = np.split(np.array(beside), 2)
    third = 0.5 * (ahead - behind)
    third = (third + third.transpose(1, 2, 0) + third.transpose(2, 0, 1)) / 3.0
    trace = np.einsum("ijj->i", third)
    bend = (np.einsum("ijk,dj,dk->di", third, own, own, optimize=True) - trace) / 6.0
    squares = np.einsum("ikl,jkl->ij", third, third)
    fourth = (ahead + behind - 2.0 * here).sum(axis=0)
    return bend, 0.5 * (fourth + third @ trace) + REMAINING * squares


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
    grids = _scale_grids(problem)
    best = np.array([SCALE_GRID[int(np.argmax(grid.weight[exit_]))] for grid in grids for exit_ in range(grid.n_exits)])
    mode, root, _ = find_mode(problem, best, np.zeros(problem.size))
    columns = solve_triangular(root, np.eye(problem.size), lower=True, trans="T", check_finite=False)
    shift = mean_shift(problem, mode, columns, best)
    normals = rng.standard_normal((draws, problem.size))
    shape_base(problem, mode, columns, best, normals)
    innovations = mode + shift + _noise(root, normals)
    log_scales = np.zeros((draws, problem.n_scales))
    for factor, grid in enumerate(grids):
        at = np.stack([_systematic(weight, draws, rng) for weight in grid.weight], axis=1)
        log_scales[:, factor * grid.n_exits : (factor + 1) * grid.n_exits] = SCALE_GRID[at]
        _move_to_scales(problem, factor, grid, at, (normals, innovations))
    if problem.n_factors:
        _leave_the_grid(problem, innovations, log_scales, rng)
    return LaplaceFit(innovations, log_scales, mode, root, best)


@dataclass(frozen=True)
class _ScaleGrid:
    """Posterior of one factor's scales on the grid, exit by exit, and the modes found on the way.

    ``weight`` has shape (exit, point); ``modes`` holds mode and precision root where every exit of
    the factor has the scale of the point and the other factors have their best ones, None where no exit weighs it.
    """

    weight: Floats
    modes: tuple[tuple[Floats, Floats] | None, ...]

    @property
    def n_exits(self) -> int:
        return len(self.weight)


def _noise(root: Floats, normals: Floats) -> Floats:
    """Give normals the covariance that belongs to a precision root, shape (draw, size)."""
    return np.asarray(solve_triangular(root, normals.T, lower=True, trans="T", check_finite=False).T)


def _scale_grids(problem: StageProblem) -> list[_ScaleGrid]:
    """Grid posterior of every factor, the others at their best scales.

    With whitened levels the Laplace evidence has the derivative ``sum_l m_l^2 - (1 - C_ll)`` in the log scale of an
    exit, m the mode and C the covariance of that exit's levels (MacKay 1992, doi:10.1162/neco.1992.4.3.415); exits
    compete for deals but share next to nothing of the likelihood, so each is integrated along the grid by itself.
    """
    best = np.full((problem.n_factors, problem.data.n_exits), SCALE_GRID[len(SCALE_GRID) // 2])
    grids: list[_ScaleGrid] = []
    at = np.zeros(problem.size)
    for round_ in range(min(problem.n_factors, 2)):
        for factor in range(problem.n_factors):
            own = np.repeat(problem.column_factor == factor, problem.data.n_exits)
            slope = np.empty((len(SCALE_GRID), problem.data.n_exits))
            modes = []
            for index, log_scale in enumerate(SCALE_GRID):
                trial = best.copy()
                trial[factor] = log_scale
                at, root, _ = find_mode(problem, trial.reshape(-1), at)
                modes.append((at, root))
                half = solve_triangular(root, np.eye(problem.size), lower=True, check_finite=False)
                pull = (at**2 - 1.0 + (half**2).sum(axis=0))[problem.n_parameters :][own]
                slope[index] = pull.reshape(-1, problem.data.n_exits).sum(axis=0)
            grid = _integrated(slope, modes)
            best[factor] = SCALE_GRID[np.argmax(grid.weight, axis=1)]
            grids = [*grids[:factor], grid, *grids[factor + 1 :]] if round_ else [*grids, grid]
    return grids


def _integrated(slope: Floats, modes: list[tuple[Floats, Floats]]) -> _ScaleGrid:
    """Grid posterior from the derivatives of the evidence, shape (point, exit), by the trapezoid rule."""
    steps = 0.5 * GRID_STEP * (slope[1:] + slope[:-1])
    evidence = np.concatenate([np.zeros((1, slope.shape[1])), np.cumsum(steps, axis=0)]).T
    evidence -= 0.5 * ((SCALE_GRID - LOG_SCALE_MEAN) / LOG_SCALE_SD) ** 2
    weight = np.exp(evidence - evidence.max(axis=1, keepdims=True))
    weight /= weight.sum(axis=1, keepdims=True)
    weight[weight < NEGLIGIBLE_WEIGHT] = 0.0
    weight /= weight.sum(axis=1, keepdims=True)
    used = weight.any(axis=0)
    return _ScaleGrid(weight, tuple(found if use else None for found, use in zip(modes, used, strict=True)))


def _move_to_scales(
    problem: StageProblem, factor: int, grid: _ScaleGrid, at: NDArray[np.int64], drawn: tuple[Floats, Floats]
) -> None:
    """Move each draw's innovations, exit by exit, from the best scales to the drawn ones; in place.

    The same normals go through the mode and covariance of each grid point; what an exit's own unknowns change between
    two points is the move.
    """
    normals, innovations = drawn
    exit_of = problem.exit_of_innovation
    chosen = np.argmax(grid.weight, axis=1)
    moved = {point: found[0] + _noise(found[1], normals) for point, found in enumerate(grid.modes) if found is not None}
    for exit_ in range(grid.n_exits):
        own = np.flatnonzero(exit_of == exit_)
        for point, there in moved.items():
            rows = np.flatnonzero(at[:, exit_] == point)
            if len(rows) and point != chosen[exit_]:
                block = np.ix_(rows, own)
                innovations[block] += there[block] - moved[int(chosen[exit_])][block]


def _leave_the_grid(problem: StageProblem, innovations: Floats, log_scales: Floats, rng: np.random.Generator) -> None:
    """Spread the scales evenly over their grid cells, in place; the level effects stay what they are."""
    moved = GRID_STEP * (rng.random(log_scales.shape) - 0.5)
    log_scales += moved
    by_factor = moved.reshape(len(moved), problem.n_factors, problem.data.n_exits)
    by_column = by_factor[:, problem.column_factor].reshape(len(moved), -1)
    innovations[:, problem.n_parameters :] *= np.exp(-by_column)


def _systematic(weights: Floats, draws: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Draw grid indices in exact proportion to their weights, in random order."""
    points = (np.arange(draws) + rng.random()) / draws
    index = np.searchsorted(np.cumsum(weights), points, side="right").clip(max=len(weights) - 1)
    return rng.permutation(index).astype(np.int64)
