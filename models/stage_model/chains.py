"""Run NUTS over the stages, shared out over worker processes, and say whether the draws can be trusted."""

from collections.abc import Sequence

import pymc as pm

from models.history import StageHistory
from models.stage_model.fit import Progress
from models.stage_model.options import SamplerOptions
from models.stage_model.posterior import Diagnostics, StagePosterior
from models.stage_model.sampling import sample_choice
from models.stage_model.selection import Choice
from models.stage_model.worker import collect, start_worker

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
    fits, found = zip(*(by_stage[stage] for stage in range(len(choices))), strict=True)
    sampler, n_chains = f"PyMC {pm.__version__} NUTS", options.chains_for(draws)
    return StagePosterior(
        history.graph, history.factors, fits, "nuts", sampler, seed, Diagnostics.worst_of(found), n_chains
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
