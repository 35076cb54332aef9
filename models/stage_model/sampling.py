"""The slow road: the stage's posterior as a PyMC model, sampled by NUTS.

The likelihood is one operation with a gradient of its own, so the graph is a handful of nodes whatever the stage, the
segments or the date, and nothing is compiled: the kernels are, once and for all. NUTS starts at draws of the Laplace
fit and uses their covariance as mass matrix; seen through it the posterior is nearly spherical, so short trajectories
do.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pymc as pm
import pytensor.tensor as pt
from numpy.typing import NDArray
from pymc.step_methods.hmc.quadpotential import QuadPotentialFull
from pytensor.compile.mode import Mode
from scipy.linalg import cho_solve, solve_triangular

from models.likelihood_op import LikelihoodOp
from models.stage_model.diagnosis import diagnose, moved_badly, sample_until_trusted
from models.stage_model.fit import stage_fit
from models.stage_model.laplace import LaplaceFit, laplace_fit
from models.stage_model.options import SamplerOptions
from models.stage_model.posterior import Diagnostics, StageFit
from models.stage_model.problem import LOG_SCALE_MEAN, LOG_SCALE_SD, StageProblem, log_likelihood
from models.stage_model.selection import Choice

Floats = NDArray[np.float64]
SCALE_RIDGE = 1e-2
"""Added to the variances of the log scales: their grid may have held them to a single point."""


@dataclass(frozen=True)
class Centring:
    """How far the level effects are sampled as such instead of as multiples of their scale.

    Where a level has much data its effect is known and its scale is not: sampled as a multiple, the two trade off along
    a bent ridge. Where it has little, the effect follows the scale into a funnel. In between, the coordinate ``innovation *
    exp(part * (log scale - origin))`` is straight (Papaspiliopoulos, Roberts and Skold 2007, doi:10.1214/088342307000000014).

    Parameters
    ----------
    part : ndarray, shape (scale,)
        0 for multiples, 1 for effects; the share of the prior variance that the data take away, a mean over levels.
    origin : ndarray, shape (scale,)
        Log scales at which both coordinates are the same.
    scale_of_innovation : ndarray of int, shape (size,)
        Scale each innovation belongs to, -1 for those of the base hazard.
    """

    part: Floats
    origin: Floats
    scale_of_innovation: NDArray[np.int64]

    def log_stretch(self, log_scales: Any) -> Any:
        """Log factor from innovations to coordinates, shape (..., size), of arrays or of PyTensor variables."""
        owned = self.scale_of_innovation >= 0
        own = np.where(owned, self.scale_of_innovation, 0)
        return (owned * self.part[own]) * (log_scales[..., own] - self.origin[own])


def centring_of(problem: StageProblem, start: LaplaceFit) -> Centring | None:
    """Coordinates that suit what the Laplace fit knows of each factor and exit; None without factors."""
    if not problem.n_factors:
        return None
    half = solve_triangular(start.root, np.eye(problem.size), lower=True, check_finite=False)
    left = (half**2).sum(axis=0)[problem.n_parameters :].reshape(-1, problem.data.n_exits)
    taken = np.zeros((problem.n_factors, problem.data.n_exits))  # stays so where no level has stays enough to be fitted
    for factor in np.unique(problem.column_factor):
        taken[factor] = 1.0 - left[problem.column_factor == factor].mean(axis=0)
    owner = problem.column_factor[:, None] * problem.data.n_exits + np.arange(problem.data.n_exits)
    of_innovation = np.concatenate([np.full(problem.n_parameters, -1), owner.reshape(-1)]).astype(np.int64)
    return Centring(np.clip(taken.reshape(-1), 0.0, 1.0), start.best_scales, of_innovation)


def build_stage_model(problem: StageProblem, centring: Centring | None = None) -> pm.Model:
    """PyMC model of one stage.

    Parameters
    ----------
    problem : StageProblem
    centring : Centring, optional
        Coordinates of the level effects; multiples of their scales without.

    Returns
    -------
    pm.Model
        Free variables ``innovations`` (size,), in their coordinates, and, with factors, ``log_scales`` (scale,).
    """
    with pm.Model() as model:
        log_scales, stretch = pt.zeros(0), pt.ones(problem.size)
        if problem.n_factors:
            log_scales = pm.Normal("log_scales", LOG_SCALE_MEAN, LOG_SCALE_SD, shape=problem.n_scales)
        if centring is not None:
            stretch = pt.exp(centring.log_stretch(log_scales))
        innovations = pm.Normal("innovations", 0.0, stretch, shape=problem.size) / stretch
        likelihood = LikelihoodOp(partial(log_likelihood, problem))
        pm.Potential("log_likelihood", likelihood(innovations, log_scales)[0])
    return model


@dataclass(frozen=True)
class SampledStage:
    """NUTS draws of one stage, chain after chain.

    Parameters
    ----------
    innovations : ndarray, shape (draw, size)
    log_scales : ndarray, shape (draw, scale)
    divergences : int
    """

    innovations: Floats
    log_scales: Floats
    divergences: int


def sample_stage(
    problem: StageProblem, start: LaplaceFit, *, draws: int, seed: int, options: SamplerOptions, thin: int = 1
) -> SampledStage:
    """Sample one stage by PyMC's NUTS.

    Parameters
    ----------
    problem : StageProblem
    start : LaplaceFit
        Gives starting points and mass matrix.
    draws : int
        Over all chains together.
    seed : int
    options : SamplerOptions
    thin : int
        Of so many steps one is kept.
    """
    centring = centring_of(problem, start)
    stretch = 1.0 if centring is None else np.exp(centring.log_stretch(start.log_scales))
    values = {"innovations": start.innovations * stretch} | (
        {"log_scales": start.log_scales} if problem.n_factors else {}
    )
    covariance, chains = mass_covariance(start, values["innovations"]), options.chains_for(draws)
    compile_kwargs = {"mode": Mode(linker="vm", optimizer="fast_compile")}
    with build_stage_model(problem, centring):
        step = pm.NUTS(
            potential=QuadPotentialFull(covariance),
            target_accept=options.target_accept,
            max_treedepth=options.max_tree_depth,
            compile_kwargs=compile_kwargs,
        )
        tree = pm.sample(
            -(-draws // chains) * thin,
            tune=options.tune,
            chains=chains,
            cores=1,
            blas_cores=1,
            step=step,
            initvals=[{name: drawn[chain] for name, drawn in values.items()} for chain in range(chains)],
            random_seed=seed,
            progressbar=False,
            quiet=True,
            compute_convergence_checks=False,
            compile_kwargs=compile_kwargs,
        )
    drawn = {
        name: tree["posterior"][name].to_numpy()[:, thin - 1 :: thin].reshape(-1, sample.shape[1])
        for name, sample in values.items()
    }
    n_draws = len(drawn["innovations"])
    log_scales = drawn.get("log_scales", np.zeros((n_draws, 0)))
    back = 1.0 if centring is None else np.exp(-centring.log_stretch(log_scales))
    return SampledStage(drawn["innovations"] * back, log_scales, int(tree["sample_stats"]["diverging"].sum()))


def mass_covariance(start: LaplaceFit, coordinates: Floats) -> Floats:
    """Covariance of the innovations' coordinates (draw, size) and the log scales by the Laplace fit, scales first.

    Given the scales it is the exact inverse of the curvature: estimated from draws it would be singular or nearly so, since
    a stage has hundreds of innovations. Only the slope of the innovations on the scales comes from the draws.
    """
    given_scales = cho_solve((start.root, True), np.eye(len(start.root)))
    centred = start.log_scales - start.log_scales.mean(axis=0)
    spread = np.diag(centred.var(axis=0) + SCALE_RIDGE)
    slope = coordinates.T @ centred / len(centred) @ np.linalg.inv(spread)
    shared = slope @ spread
    return np.block(
        [[spread, shared.T], [shared, given_scales + shared @ slope.T]]
    )  # in the order of the model's variables


def sample_choice(
    choice: Choice, stage: int, *, draws: int, seed: int, options: SamplerOptions
) -> tuple[StageFit, Diagnostics]:
    """Laplace fit for a start, then NUTS, of one stage; again with care, or in longer chains, while that leaves doubts."""
    rng = np.random.default_rng([seed, stage, 1])
    start = laplace_fit(choice.problem, draws=draws, rng=rng)
    seed = int(rng.integers(2**31))

    def attempt(options: SamplerOptions, thin: int) -> tuple[StageFit, Diagnostics]:
        sampled = sample_stage(choice.problem, start, draws=draws, seed=seed, options=options, thin=thin)
        fit = stage_fit(choice, sampled.innovations, sampled.log_scales)
        return fit, diagnose(fit, chains=options.chains_for(draws), divergences=sampled.divergences)

    return sample_until_trusted(attempt, options, draws=draws, doubtful=partial(moved_badly, draws=draws))
