"""The slow road: the stage's posterior as a PyMC model, sampled by NUTS.

The likelihood is one operation with a gradient of its own, so the graph is a dozen nodes whatever the data, and compiling it
takes about a second. NUTS starts at draws of the Laplace fit and uses its covariance as mass matrix: what is left of the
posterior is nearly spherical, so short trajectories do.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt
from numpy.typing import NDArray
from pytensor.graph.basic import Apply
from pytensor.graph.op import Op

from models.baselines import Baseline
from models.laplace import LaplaceFit
from models.sampler_options import SamplerOptions
from models.stage_problem import LOG_SCALE_MEAN, LOG_SCALE_SD, StageProblem

Floats = NDArray[np.float64]


class StageLikelihood(Op):  # type: ignore[misc]
    """Log-likelihood of a stage with its two gradients, from base parameters and log effects."""

    __props__ = ()

    def __init__(self, baseline: Baseline) -> None:
        self.baseline = baseline

    def __eq__(self, other: object) -> bool:
        return self is other

    def __hash__(self) -> int:
        return id(self)

    def make_node(self, base: Any, effect: Any) -> Apply:
        """Three outputs: value, gradient in the parameters, gradient in the effects."""
        base, effect = pt.as_tensor_variable(base), pt.as_tensor_variable(effect)
        return Apply(self, [base, effect], [pt.dscalar(), pt.dvector(), pt.dmatrix()])

    def perform(self, node: Apply, inputs: list[Floats], output_storage: list[list[Any]]) -> None:
        """Evaluate by the compiled kernels."""
        value, d_base, d_effect = self.baseline.terms(*inputs)
        output_storage[0][0] = np.asarray(value)
        output_storage[1][0] = d_base
        output_storage[2][0] = d_effect

    def pullback(self, inputs: list[Any], outputs: list[Any], cotangents: list[Any]) -> list[Any]:
        """Only the value is ever differentiated."""
        return [cotangents[0] * outputs[1], cotangents[0] * outputs[2]]


def build_stage_model(problem: StageProblem) -> pm.Model:
    """PyMC model of one stage.

    Parameters
    ----------
    problem : StageProblem

    Returns
    -------
    pm.Model
        Free variables ``raw`` (parameter,), and with factors ``log_scales`` (factor,) and ``levels`` (level, exit).
    """
    n_levels, n_exits = problem.design.shape[1], problem.data.n_exits
    with pm.Model() as model:
        raw = pm.Normal("raw", 0.0, 1.0, shape=problem.n_parameters)
        effect = pt.zeros((problem.data.n_groups, n_exits))
        if problem.n_factors:
            log_scales = pm.Normal("log_scales", LOG_SCALE_MEAN, LOG_SCALE_SD, shape=problem.n_factors)
            if n_levels:
                levels = pm.Normal("levels", 0.0, 1.0, shape=(n_levels, n_exits))
                effect = (problem.design * pt.exp(log_scales)[problem.column_factor]) @ levels
        base = problem.prior_mean + pt.dot(problem.prior_root, raw)
        pm.Potential("log_likelihood", StageLikelihood(problem.baseline)(base, effect)[0])
    return model


@dataclass(frozen=True)
class SampledStage:
    """NUTS draws of one stage, chain after chain.

    Parameters
    ----------
    innovations : ndarray, shape (draw, size)
    log_scales : ndarray, shape (draw, factor)
    divergences : int
    """

    innovations: Floats
    log_scales: Floats
    divergences: int


def sample_stage(
    problem: StageProblem, start: LaplaceFit, *, draws: int, seed: int, options: SamplerOptions
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
    """
    names = [("raw", start.innovations[:, : problem.n_parameters])]
    if problem.n_factors:
        names.append(("log_scales", start.log_scales))
    if problem.design.shape[1]:
        names.append(("levels", start.innovations[:, problem.n_parameters :]))
    flat = np.concatenate([values for _, values in names], axis=1)
    covariance = np.atleast_2d(np.cov(flat, rowvar=False))
    covariance[np.diag_indices_from(covariance)] += 1e-3
    mode = pytensor.compile.mode.Mode(linker="vm", optimizer="fast_compile")
    per_chain = -(-draws // options.chains)
    with build_stage_model(problem) as model:
        starts = [
            {name: values[chain].reshape(model[name].type.shape) for name, values in names}
            for chain in range(options.chains)
        ]
        step = pm.NUTS(
            potential=pm.step_methods.hmc.quadpotential.QuadPotentialFull(covariance),
            target_accept=options.target_accept,
            compile_kwargs={"mode": mode},
        )
        trace = pm.sample(
            per_chain, tune=options.tune, chains=options.chains, cores=1, step=step, initvals=starts, random_seed=seed,
            progressbar=False, quiet=True, compute_convergence_checks=False, return_inferencedata=False,
            compile_kwargs={"mode": mode},
        )  # fmt: skip
    pieces = {name: trace.get_values(name).reshape(per_chain * options.chains, -1) for name, _ in names}
    innovations = np.concatenate([pieces[name] for name in ("raw", "levels") if name in pieces], axis=1)
    log_scales = pieces.get("log_scales", np.zeros((len(innovations), 0)))
    return SampledStage(innovations, log_scales, int(trace.get_sampler_stats("diverging").sum()))
