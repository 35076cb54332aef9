"""Run NUTS over the stages, shared out over worker processes, and say whether the draws can be trusted."""

from collections.abc import Sequence

import numpy as np
import pymc as pm
from arviz_stats.base.array import array_stats
from numpy.typing import NDArray

from models.history import StageHistory
from models.stage_model.fit import Progress, stage_fit
from models.stage_model.options import SamplerOptions
from models.stage_model.posterior import Diagnostics, StageFit, StagePosterior
from models.stage_model.sampling import sample_choice
from models.stage_model.selection import Choice
from models.stage_model.worker import collect, start_worker

Floats = NDArray[np.float64]
WORTH_A_PROCESS = 1000
"""Draws from which on a second process saves more than the two seconds its start costs."""
OVERHEAD_SIZE = 60
"""Size of a problem at which the cost that grows with size equals the cost that does not."""


def fit_by_nuts(
    history: StageHistory,
    choices: Sequence[Choice],
    *,
    draws: int,
    seed: int,
    progress: Progress | None,
    options: SamplerOptions,
) -> StagePosterior:
    """Sample every stage and join the draws; see :func:`models.stage_model.fit.fit_stages`."""
    done = 0

    def report(stage: int) -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(history.graph.open[stage], done, len(choices))

    shares = share_out(choices, options.cores if draws >= WORTH_A_PROCESS else 1)
    workers = [start_worker(share, draws=draws, seed=seed, options=options) for share in shares[1:]]
    by_stage = {}
    for stage, choice in shares[0]:
        by_stage[stage] = sample_choice(choice, stage, draws=draws, seed=seed, options=options)
        report(stage)
    for worker in workers:
        for stage, one in collect(worker).items():
            by_stage[stage] = one
            report(stage)
    sampled = [by_stage[stage] for stage in range(len(choices))]
    fits = tuple(
        stage_fit(choice, one.innovations, one.log_scales) for choice, one in zip(choices, sampled, strict=True)
    )
    n_chains = options.chains_for(draws)
    found = diagnose(fits, chains=n_chains, divergences=sum(one.divergences for one in sampled))
    return StagePosterior(
        history.graph, history.factors, fits, "nuts", f"PyMC {pm.__version__} NUTS", seed, found, n_chains
    )


def share_out(choices: Sequence[Choice], workers: int) -> list[list[tuple[int, Choice]]]:
    """Share the stages out so that the largest problems go to different processes."""
    shares: list[list[tuple[int, Choice]]] = [[] for _ in range(max(1, min(workers, len(choices))))]
    loads = [0] * len(shares)
    for stage in sorted(range(len(choices)), key=lambda stage: -choices[stage].problem.size):
        lightest = loads.index(min(loads))
        shares[lightest].append((stage, choices[stage]))
        loads[lightest] += choices[stage].problem.size + OVERHEAD_SIZE
    return shares


def diagnose(fits: Sequence[StageFit], *, chains: int, divergences: int) -> Diagnostics:
    """Largest R-hat and smallest effective sample size (bulk and tail) over log hazards, level effects and scales."""
    columns = []
    for fit in fits:
        columns.append(fit.base)
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
