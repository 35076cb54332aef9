"""Run NUTS over the stages, shared out over worker processes, and say whether the draws can be trusted."""

from collections.abc import Sequence

import numpy as np
import pymc as pm
from arviz_stats.base.array import array_stats
from numpy.typing import NDArray

from models.history import StageHistory
from models.laplace import laplace_fit
from models.sampler_options import SamplerOptions
from models.selection import Choice
from models.stage_model import Progress, stage_fit
from models.stage_posterior import Diagnostics, StageFit, StagePosterior
from models.stage_sampling import SampledStage, sample_stage

Floats = NDArray[np.float64]


def fit_by_nuts(
    history: StageHistory,
    choices: Sequence[Choice],
    *,
    draws: int,
    seed: int,
    progress: Progress | None,
    options: SamplerOptions,
) -> StagePosterior:
    """Sample every stage and join the draws; see :func:`models.stage_model.fit_stages`."""
    sampled = []
    for stage, choice in enumerate(choices):
        sampled.append(sample_choice(choice, stage, draws=draws, seed=seed, options=options))
        if progress is not None:
            progress(history.graph.open[stage], stage + 1, len(choices))
    fits = tuple(
        stage_fit(choice, one.innovations, one.log_scales) for choice, one in zip(choices, sampled, strict=True)
    )
    found = diagnose(fits, chains=options.chains, divergences=sum(one.divergences for one in sampled))
    return StagePosterior(
        history.graph, history.factors, fits, "nuts", f"PyMC {pm.__version__} NUTS", seed, found, options.chains
    )


def sample_choice(choice: Choice, stage: int, *, draws: int, seed: int, options: SamplerOptions) -> SampledStage:
    """Laplace fit for a start, then NUTS, of one stage."""
    rng = np.random.default_rng([seed, stage, 1])
    start = laplace_fit(choice.problem, draws=draws, rng=rng)
    return sample_stage(choice.problem, start, draws=draws, seed=int(rng.integers(2**31)), options=options)


def diagnose(fits: Sequence[StageFit], *, chains: int, divergences: int) -> Diagnostics:
    """Largest R-hat and smallest effective sample size (bulk and tail) over log hazards, level effects and scales."""
    columns = []
    for fit in fits:
        columns.append(fit.base)
        for factor in fit.factors:
            columns += [factor.effect.reshape(len(fit.base), -1), factor.log_scale[:, None]]
    values = np.concatenate(columns, axis=1)
    values = values.reshape(chains, -1, values.shape[1])
    values = values[..., values.std(axis=(0, 1)) > 0.0]
    rhat = array_stats.rhat(values, chain_axis=0, draw_axis=1)
    bulk = array_stats.ess(values, chain_axis=0, draw_axis=1, method="bulk")
    tail = array_stats.ess(values, chain_axis=0, draw_axis=1, method="tail", prob=(0.05, 0.95))
    return Diagnostics(float(np.max(rhat)), float(min(np.min(bulk), np.min(tail))), divergences)
