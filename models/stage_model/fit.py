"""Fit how deals move: for every open stage, where next and after how many days.

Stages share no unknown, so their posteriors are independent and are fitted one by one; joined draw by draw they are
exactly the joint posterior.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import get_args

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from models.durations.families import FAMILIES
from models.errors import EmptyInputError, SettingsError
from models.history import STILL_OPEN, StageHistory
from models.stage_model.base_hazards import PIECEWISE
from models.stage_model.base_lattice import base_by_day
from models.stage_model.data import stage_data
from models.stage_model.laplace import laplace_fit
from models.stage_model.options import Inference, SamplerOptions, checked_seed
from models.stage_model.posterior import Diagnostics, FactorEffect, StageFit, StagePosterior
from models.stage_model.problem import StageProblem
from models.stage_model.selection import Choice, base_shape, choose_family, given_family
from models.stage_model.thin_levels import thin_levels

Floats = NDArray[np.float64]
Progress = Callable[[str, int, int], None]
"""Called with the name of the stage that is done, how many are done, and how many there are."""
AUTO = "auto"
KIND_SHARES = {"ahead": 0.55, "back": 0.1, "lost": 0.35}
"""Where exits lead in a usual pipeline."""
KIND_WEIGHT = 4.0
"""Exits of the own pipeline that these count for."""


def fit_stages(
    history: StageHistory,
    *,
    durations: str | Mapping[str, str] = AUTO,
    inference: Inference = "nuts",
    draws: int = 4000,
    seed: int,
    progress: Progress | None = None,
    options: SamplerOptions | None = None,
) -> StagePosterior:
    """Fit the stage model.

    The hazard of exit ``j`` on day ``d`` of a stay in cell ``c`` is ``base_j(d) * exp(sum_f effect_f[level_f(c), j])``.

    Parameters
    ----------
    history : StageHistory
    durations : str or mapping of stage name to str
        Shape of the base hazard: ``piecewise``, a duration family, or ``auto``, which chooses per stage by
        leave-one-out prediction. Stages a mapping leaves out are ``auto``.
    inference : {"nuts", "fast"}
        NUTS by PyMC, or a Laplace approximation of the same posterior in a fraction of a second.
    draws : int
        Posterior draws, all chains together.
    seed : int
    progress : callable, optional
        Called after each stage with its name, stages done and stages in all.
    options : SamplerOptions, optional

    Returns
    -------
    StagePosterior

    Raises
    ------
    SettingsError
        Unknown family, stage or inference, or no draws.
    EmptyInputError
        The history holds no stay at all.

    Examples
    --------
    >>> import pandas as pd
    >>> from models.stages import StageGraph
    >>> graph = StageGraph(open=["Lead"], won=["Won"], lost=["Lost"])
    >>> counts = pd.DataFrame([[0, 0, 1, 3, 20], [0, 0, 2, 5, 60], [0, 0, -1, 9, 20]],
    ...                       columns=["cell", "stage", "next", "days", "count"])
    >>> history = StageHistory(graph, counts, (), np.zeros((1, 0), dtype=np.int32))
    >>> posterior = fit_stages(history, inference="fast", draws=100, seed=1)
    >>> posterior.n_draws, posterior.stages[0].exits
    (100, (1, 2))
    """
    wanted, seed = _families(history, durations), checked_seed(seed)
    if inference not in get_args(Inference) or draws < 1:
        raise SettingsError(f"expected inference 'nuts' or 'fast' and at least one draw, got {inference!r} and {draws}")
    if history.n_stays == 0:
        raise EmptyInputError(
            "the stage history holds no stay: nothing can be learned from it; check stages, as-of date and window"
        )
    with threadpool_limits(1, user_api="blas"):
        return _fit(history, wanted, inference=inference, draws=draws, seed=seed, progress=progress, options=options)


def _fit(
    history: StageHistory,
    wanted: Mapping[str, str],
    *,
    inference: Inference,
    draws: int,
    seed: int,
    progress: Progress | None,
    options: SamplerOptions | None,
) -> StagePosterior:
    """Fit, with one BLAS thread: on small matrices, threads that wait for each other cost more than they save."""
    if inference == "nuts":
        from models.stage_model.chains import fit_by_nuts

        choices, options = choose_problems(history, wanted, seed=seed), options or SamplerOptions()
        return fit_by_nuts(history, choices, draws=draws, seed=seed, progress=progress, options=options)
    fits = []
    for stage, name in enumerate(history.graph.open):
        choice = choose_problem(history, stage, wanted[name], seed=seed)
        fit = laplace_fit(choice.problem, draws=draws, rng=np.random.default_rng([seed, stage, 1]))
        fits.append(stage_fit(choice, fit.innovations, fit.log_scales))
        if progress is not None:
            progress(name, stage + 1, history.graph.n_open)
    return StagePosterior(history.graph, history.factors, tuple(fits), inference, "Laplace", seed, Diagnostics())


def choose_problems(history: StageHistory, wanted: Mapping[str, str], *, seed: int) -> list[Choice]:
    """Posterior of every open stage, its family chosen; ``wanted`` maps stage names to families or ``auto``."""
    names = history.graph.open
    return [choose_problem(history, stage, wanted[name], seed=seed) for stage, name in enumerate(names)]


def choose_problem(history: StageHistory, stage: int, family: str, *, seed: int) -> Choice:
    """Posterior of one open stage, its family chosen if that is ``auto``."""
    data = stage_data(history, stage)
    rates = pooled_exit_rates(history, stage, data.exits)
    if family == AUTO:
        return choose_family(data, rates, np.random.default_rng([seed, stage, 0]))
    return given_family(data, family, rates)


def pooled_exit_rates(history: StageHistory, stage: int, exits: Sequence[int]) -> Floats:
    """Rates per day of one stage's exits as the whole pipeline suggests them, before the stage's own stays count.

    All stages together tell how often deals move at all, and how often ahead, back and to lost; exits of a kind share
    its part alike. One exit in a month and ``KIND_WEIGHT`` usual ones are added, so that no rate is zero.

    Parameters
    ----------
    history : StageHistory
    stage : int
        Code of an open stage.
    exits : sequence of int
        Stage codes its exits lead to.

    Returns
    -------
    ndarray of float64, shape (exit,)
    """
    counts, graph = history.counts, history.graph

    def kind_of(start: int, end: int) -> str:
        if graph.is_open(end):
            return "ahead" if end > start else "back"
        return "ahead" if end in graph.won_codes else "lost"

    ended = counts[counts["next"] != STILL_OPEN]
    seen = {kind: KIND_WEIGHT * share for kind, share in KIND_SHARES.items()}
    moves = ended.groupby(["stage", "next"], as_index=False)["count"].sum()
    for start, end, count in moves.itertuples(index=False):
        seen[kind_of(start, end)] += count
    rate = (ended["count"].sum() + 1.0) / ((counts["count"] * (counts["days"] + 1)).sum() + 30.0)
    kinds = [kind_of(stage, code) for code in exits]
    shares = np.array([seen[kind] / kinds.count(kind) for kind in kinds])
    return np.asarray(rate * shares / shares.sum())


def stage_fit(choice: Choice, innovations: Floats, log_scales: Floats) -> StageFit:
    """Turn innovations into parameters, level effects and thin levels of one stage."""
    problem = choice.problem
    data, shape = problem.data, base_shape(problem)
    base = problem.prior_mean + innovations[:, : problem.n_parameters] @ problem.prior_root.T
    by_level = level_effects_of(problem, innovations, log_scales)
    mean_effect = np.zeros((data.n_groups, data.n_exits))
    for factor, effect in enumerate(by_level):
        known = data.levels[:, factor] >= 0
        mean_effect[known] += effect.mean(axis=0)[data.levels[known, factor]]
    span = int(data.days.max(initial=0)) + 1
    mean_base = base_by_day(shape, base.mean(axis=0)[None], days=span)[0]
    factors = []
    for factor, effect in enumerate(by_level):
        own = log_scales.reshape(len(base), problem.n_factors, data.n_exits)[:, factor]
        thin = thin_levels(data, factor, base=mean_base, effect=mean_effect, scale=np.exp(own.mean(axis=0)))
        factors.append(FactorEffect(data.joint_levels[factor], effect, own.copy(), thin))
    return StageFit(data.exits, shape, base, tuple(factors), choice.reason, choice.comparison)


def level_effects_of(problem: StageProblem, innovations: Floats, log_scales: Floats) -> list[Floats]:
    """Log effects (draw, level, exit) of each factor's jointly fitted levels, zero on the exit-weighted average."""
    levels = innovations[:, problem.n_parameters :].reshape(len(innovations), -1, problem.data.n_exits)
    scales = np.exp(log_scales).reshape(len(innovations), problem.n_factors, problem.data.n_exits)
    effects = []
    for factor in range(problem.n_factors):
        columns = problem.column_factor == factor
        part = np.einsum("kl,dlj->dkj", problem.data.level_roots[factor], levels[:, columns])
        centred = part - np.einsum("l,dlj->dj", problem.level_weights[columns], part)[:, None]
        effects.append(scales[:, factor, None] * centred)
    return effects


def _families(history: StageHistory, durations: str | Mapping[str, str]) -> dict[str, str]:
    """Family asked for by stage name."""
    known = (AUTO, PIECEWISE, *FAMILIES)
    given = {stage: durations for stage in history.graph.open} if isinstance(durations, str) else dict(durations)
    unknown_stages = sorted(set(given) - set(history.graph.open))
    if unknown_stages:
        raise SettingsError(
            f"durations names {', '.join(unknown_stages)}: expected open stages {', '.join(history.graph.open)}"
        )
    for family in given.values():
        if family not in known:
            raise SettingsError(f"unknown duration family {family!r}: expected one of {', '.join(known)}")
    return {stage: given.get(stage, AUTO) for stage in history.graph.open}
