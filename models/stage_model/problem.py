"""The posterior of one stage: base hazard, level effects and their scales, on one set of coordinates.

Both roads, Laplace and NUTS, use the same coordinates, all standard normal a priori: ``base = prior_mean + prior_root @
raw`` and ``effect = design @ (scale * innovations)``; the log scale of each factor and exit has a normal prior of its
own: what tells apart who goes back need not tell who wins. So
"same model, same priors" is not a promise but one function, :func:`log_posterior`, to which a test holds the PyMC
model.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.durations.families import FAMILIES
from models.durations.priors import DurationPrior
from models.stage_model.age_bins import age_bins
from models.stage_model.base_hazards import (
    Baseline,
    SmoothBaseline,
    piecewise_baseline,
    smooth_baseline,
)
from models.stage_model.data import StageData, zero_sum_design
from models.stage_model.smooth_kernels import LARGEST_LOG_HAZARD

Floats = NDArray[np.float64]

LOG_SCALE_MEAN, LOG_SCALE_SD = math.log(0.12), 0.8
"""Log-normal prior of the spread between levels, exit by exit: median 0.12 (a good region is some 12 % faster), 95 % from
0.025 to 0.6."""
LEVEL_SD = 1.2
"""Sd of an exit's overall log hazard around its share of the stage's rate: 95 % within a factor 10."""
SMOOTH_SD, SMOOTH_LENGTH = 1.0, 1.0
"""Slow change of the log hazard over log(1 + days): within a factor 7 over the life of a stay, related over a factor
e."""
BIN_SD = 1.0
"""Free departure of each bin: worth one exit per bin, so a spike needs few exits to stand, and a bin without any is
kept from hazard zero. Day 0, where it is a bin of its own, has twice this and no part in the slow change: what happens
on the day of entry is another process."""
ZERO_DAY_MEAN, ZERO_DAY_SD = -3.0, 2.0
"""Log hazard of the day of entry under a smooth family: 5 % leave at once, 95 % from 0.1 % to nearly all."""
RUNDOWN_STAYS, RUNDOWN_SD = 3.0, 1.2
"""A stage with idle deals runs down in three mean stays, 95 % from a third of one to thirty: days that mean something in a
stage of hours as in one of months."""
IMPOSSIBLE = -1e15
"""Log-likelihoods below it, met in the first wild steps of a sampler, count as minus infinity with no gradient: farther
out numbers overflow."""
SHAPE_CORRELATION = 0.5
"""Prior correlation of the shapes of two exits of a stage: they share the stage's habits, lightly."""


@dataclass(frozen=True)
class StageProblem:
    """All that the posterior of one stage is made of.

    Parameters
    ----------
    data : StageData
    baseline : Baseline
    prior_mean : ndarray, shape (parameter,)
    prior_root : ndarray, shape (parameter, parameter)
        Square root of the prior covariance.
    design : ndarray, shape (group, level)
        Effects of the innovations of all factors' levels side by side, zero-sum; on a line they share innovations.
    column_factor : ndarray of int, shape (level,)
        Factor of each column of ``design``.
    level_weights : ndarray, shape (level,)
        Share of the factor's exits each level has; the weighted mean is what ``design`` takes out.
    """

    data: StageData
    baseline: Baseline
    prior_mean: Floats
    prior_root: Floats
    design: Floats
    column_factor: NDArray[np.int64]
    level_weights: Floats

    @property
    def n_factors(self) -> int:
        """Number of factors."""
        return int(self.data.levels.shape[1])

    @property
    def n_scales(self) -> int:
        """Scales of the level effects: one per factor and exit, factor after factor."""
        return self.n_factors * self.data.n_exits

    @property
    def n_parameters(self) -> int:
        """Parameters of the base hazard."""
        return len(self.prior_mean)

    @property
    def exit_of_innovation(self) -> NDArray[np.int64]:
        """Exit that each innovation belongs to, shape (size,)."""
        n_exits = self.data.n_exits
        levels = np.tile(np.arange(n_exits), self.design.shape[1])
        return np.concatenate([exits_of_parameters(self.baseline, n_exits), levels])

    @property
    def size(self) -> int:
        """Number of innovations: base parameters, then levels times exits."""
        return int(self.n_parameters + self.design.shape[1] * self.data.n_exits)


def exits_of_parameters(baseline: Baseline, n_exits: int) -> NDArray[np.int64]:
    """Exit that each base parameter belongs to."""
    order = np.arange(baseline.n_parameters)
    if isinstance(baseline, SmoothBaseline):
        own = baseline.n_parameters // n_exits - baseline.zero_mass
        return np.where(order < own * n_exits, order // own, order - own * n_exits)
    return np.asarray(order % n_exits)


def piecewise_problem(data: StageData, exit_rates: Floats) -> StageProblem:
    """Posterior with one hazard per age bin and exit.

    Parameters
    ----------
    data : StageData
    exit_rates : ndarray, shape (exit,)
        Exits per day at risk that the whole pipeline suggests; a stage without stays gets its prior from them, others the
        shares of their exits.
    """
    exits, at_risk = data.by_day()
    starts = age_bins(exits, at_risk)
    rate = (exits.sum() + 1.0) / (data.count @ (data.days + 1) + 1.0 / exit_rates.sum())
    place = np.log1p(starts.astype(np.float64))
    smooth = SMOOTH_SD**2 * np.exp(-0.5 * ((place[:, None] - place) / SMOOTH_LENGTH) ** 2)
    free = BIN_SD**2 * np.eye(len(starts))
    if len(starts) == 1:  # a level is all there is
        smooth[:] = free[:] = 0.0
    elif starts[1] == 1:
        smooth[0] = smooth[:, 0] = 0.0
        free[0, 0] *= 4.0
    covariance = LEVEL_SD**2 + smooth + free
    root: Floats = np.kron(np.linalg.cholesky(covariance), np.eye(data.n_exits)).astype(np.float64)
    mean = np.tile(np.log(rate * exit_rates / exit_rates.sum()), len(starts))
    return StageProblem(data, piecewise_baseline(data, starts), mean, root, *zero_sum_design(data))


def smooth_problem(data: StageData, family: str, *, zero_mass: bool, idle: bool = False) -> StageProblem:
    """Posterior with a duration family per exit, the shapes of a stage's exits related."""
    priors = FAMILIES[family].priors
    n_exits, width = data.n_exits, len(priors)
    stay = float(data.count @ data.days + 1) / float(np.maximum(data.count, 0).sum() + 1)
    rundown = DurationPrior(math.log(RUNDOWN_STAYS * (stay + 1.0)), RUNDOWN_SD)
    own = [*priors * n_exits, *[rundown] * idle, *[DurationPrior(ZERO_DAY_MEAN, ZERO_DAY_SD)] * (n_exits * zero_mass)]
    mean, sd = (np.array([getattr(prior, part) for prior in own]) for part in ("mean", "sd"))
    correlation = np.eye(len(mean))
    for shape in range(1, width):
        places = np.arange(n_exits) * width + shape
        correlation[np.ix_(places, places)] = SHAPE_CORRELATION + (1.0 - SHAPE_CORRELATION) * np.eye(n_exits)
    root = sd[:, None] * np.linalg.cholesky(correlation)
    baseline = smooth_baseline(data, family, zero_mass=zero_mass, idle=idle)
    return StageProblem(data, baseline, mean, root, *zero_sum_design(data))


def place(problem: StageProblem, innovations: Floats, log_scales: Floats) -> tuple[Floats, Floats]:
    """Compute base parameters and log effects (group, exit) from innovations."""
    raw, levels = innovations[: problem.n_parameters], innovations[problem.n_parameters :]
    scaled = level_scales(problem, log_scales) * levels.reshape(-1, problem.data.n_exits)
    return problem.prior_mean + problem.prior_root @ raw, problem.design @ scaled


def level_scales(problem: StageProblem, log_scales: Floats) -> Floats:
    """Scale of each level and exit, shape (level, exit)."""
    scales = np.exp(np.minimum(log_scales, LARGEST_LOG_HAZARD)).reshape(problem.n_factors, problem.data.n_exits)
    return np.asarray(scales[problem.column_factor])


def log_likelihood(problem: StageProblem, innovations: Floats, log_scales: Floats) -> tuple[float, Floats, Floats]:
    """Log-likelihood of the stays with its gradients.

    Parameters
    ----------
    problem : StageProblem
    innovations : ndarray, shape (size,)
    log_scales : ndarray, shape (scale,)

    Returns
    -------
    value : float
        Minus infinity below ``IMPOSSIBLE``.
    gradient : ndarray, shape (size,)
    scale_gradient : ndarray, shape (scale,)
    """
    base, effect = place(problem, innovations, log_scales)
    value, d_base, d_effect = problem.baseline.terms(base, effect)
    if not value > IMPOSSIBLE:
        return -math.inf, np.zeros_like(innovations), np.zeros_like(log_scales)
    d_raw = problem.prior_root.T @ d_base
    if not len(problem.column_factor):
        return value, d_raw, np.zeros(problem.n_scales)
    d_levels = level_scales(problem, log_scales) * (problem.design.T @ d_effect)
    by_level = innovations[problem.n_parameters :].reshape(d_levels.shape) * d_levels
    d_scales = np.zeros((problem.n_factors, problem.data.n_exits))
    np.add.at(d_scales, problem.column_factor, by_level)
    return value, np.concatenate([d_raw, d_levels.reshape(-1)]), d_scales.reshape(-1)


def log_posterior(problem: StageProblem, innovations: Floats, log_scales: Floats) -> tuple[float, Floats]:
    """Log of prior times likelihood, up to the normals' constants, and its gradient in the innovations."""
    value, gradient, _ = log_likelihood(problem, innovations, log_scales)
    standard = (log_scales - LOG_SCALE_MEAN) / LOG_SCALE_SD
    return value - 0.5 * float(innovations @ innovations + standard @ standard), gradient - innovations


def precision(problem: StageProblem, innovations: Floats, log_scales: Floats) -> Floats:
    """Minus the second derivative of the log posterior in the innovations, scales held, shape (size, size)."""
    base, effect = place(problem, innovations, log_scales)
    bend = problem.baseline.curvature(base, effect)
    design, root = problem.design, problem.prior_root
    n_base, n_exits = problem.n_parameters, problem.data.n_exits
    out = np.eye(problem.size)
    out[:n_base, :n_base] -= root.T @ bend.base @ root
    if design.shape[1] == 0:
        return out
    scales = level_scales(problem, log_scales)
    by_group = (root.T @ bend.mixed.reshape(n_base, -1)).reshape(n_base, -1, n_exits)
    mixed = (np.einsum("pgj,gl->plj", by_group, design, optimize=True) * scales).reshape(n_base, -1)
    out[:n_base, n_base:] -= mixed
    out[n_base:, :n_base] -= mixed.T
    levels = out[n_base:, n_base:].reshape(design.shape[1], n_exits, design.shape[1], n_exits)
    for j in range(n_exits):
        for k in range(n_exits):
            curved = design.T @ (bend.effect[:, j, k, None] * design)
            levels[:, j, :, k] -= scales[:, j, None] * curved * scales[:, k]
    return out
