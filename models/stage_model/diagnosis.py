"""Whether chains can be trusted: R-hat and effective sample size over what a forecast takes from them."""

from collections.abc import Callable

import numpy as np
from arviz_stats.base.array import array_stats
from numpy.typing import NDArray

from models.stage_model.options import CHAIN_LENGTH, LONGEST, SamplerOptions
from models.stage_model.posterior import Diagnostics, StageFit

Floats = NDArray[np.float64]
DOUBTFUL_SHARE = 0.15
"""Chains with fewer effective draws than this share moved too little."""


def diagnose(fit: StageFit, *, chains: int, divergences: int) -> Diagnostics:
    """Largest R-hat and smallest effective sample size (bulk and tail) over log hazards, level effects and scales."""
    columns = [fit.base]
    for factor in fit.factors:
        columns += [factor.effect.reshape(len(fit.base), -1), factor.log_scale]
    return diagnose_columns(np.concatenate(columns, axis=1), chains=chains, divergences=divergences)


def diagnose_columns(columns: Floats, *, chains: int, divergences: int) -> Diagnostics:
    """Largest R-hat and smallest effective sample size (bulk and tail) of columns (draw, column), chain after chain."""
    values = columns.reshape(chains, -1, columns.shape[1])
    values = values[..., values.std(axis=(0, 1)) > 0.0]
    rhat = array_stats.rhat(values, chain_axis=0, draw_axis=1)  # type: ignore[no-untyped-call]
    bulk = array_stats.ess(values, chain_axis=0, draw_axis=1, method="bulk")  # type: ignore[no-untyped-call]
    tail = array_stats.ess(values, chain_axis=0, draw_axis=1, method="tail", prob=(0.05, 0.95))  # type: ignore[no-untyped-call]
    return Diagnostics(float(np.max(rhat)), float(min(np.min(bulk), np.min(tail))), divergences)


def moved_badly(found: Diagnostics, *, draws: int) -> bool:
    """Whether chains diverged, or few of their draws are independent."""
    return found.divergences > 0 or found.ess_min is None or found.ess_min < DOUBTFUL_SHARE * draws


def sample_until_trusted[Sampled](
    attempt: Callable[[SamplerOptions, int], tuple[Sampled, Diagnostics]],
    options: SamplerOptions,
    *,
    draws: int,
    doubtful: Callable[[Diagnostics], bool],
) -> tuple[Sampled, Diagnostics]:
    """Sample; while that leaves doubts again with more care, or in longer chains.

    Parameters
    ----------
    attempt : callable
        Samples with given options and thinning: of so many steps one draw is kept.
    options : SamplerOptions
    draws : int
        Over all chains together; of chains shorter than ``CHAIN_LENGTH`` nothing can be told, however long they are made.
    doubtful : callable
        Whether the first diagnosis asks for care, divergences apart, which always do.
    """
    steps, care, thin = (options, options.careful(), options.most_careful()), 0, 1
    can_tell = draws >= CHAIN_LENGTH * options.chains_for(draws)
    while True:
        sampled, found = attempt(steps[care], thin)
        if care + 1 < len(steps) and (found.divergences or (care == 0 and doubtful(found))):
            care += 1
        elif can_tell and found.too_short and thin < LONGEST:
            thin *= 2
        else:
            return sampled, found
