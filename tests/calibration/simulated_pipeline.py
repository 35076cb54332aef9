"""A small pipeline drawn from the stage model's own prior, and what a fit to it says about each quantity of interest.

Two open stages with a move back, two segments, deals cut off by the as-of date, old open ones among them. The prior is
that of the model, its age bins and level weights taken from one planted history and held for all simulations: drawn
from this prior, a history has exactly the posterior that the fit claims to find.
"""

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numba import njit
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from forecasting.engine.renewal import outcome_table
from models.history import STILL_OPEN, Factor, StageHistory, count_stays
from models.stage_model.base_hazards import PiecewiseBaseline, SmoothBaseline, piecewise_baseline, smooth_baseline
from models.stage_model.base_lattice import base_by_day
from models.stage_model.checks import prior_of
from models.stage_model.data import StageData, stage_data
from models.stage_model.fit import choose_problems, stage_fit
from models.stage_model.laplace import laplace_fit
from models.stage_model.likelihood import stays_log_likelihood
from models.stage_model.options import SamplerOptions
from models.stage_model.posterior import StagePosterior
from models.stage_model.problem import StageProblem, smooth_problem
from models.stage_model.selection import Choice, base_shape
from models.stages import StageGraph

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

GRAPH = StageGraph(open=["Lead", "Offer"], won=["Won"], lost=["Lost"])
EXITS = ((1, 3), (0, 2, 3))
SEGMENTS = (Factor("segment", ("large", "small")),)
CELLS = np.array([[0], [1]], dtype=np.int32)
AS_OF, AHEAD = 180, 90
"""Day of the cut, counted from the first deal, and days of the future."""
STAYS_KEPT = 20
"""A deal is followed up to its twentieth stay: where the watching stops depends on nothing unseen."""
PIPELINE_DEALS = 12
AGED = 40
"""Days in stage of the aged deal."""
IDLE_WEIBULL = "weibull, some deals never move"
CENSORING, AGE, SWAP = "censoring ignored", "age ignored", "shape and scale swapped"
"""Faults that a calibration test must find."""


@dataclass(frozen=True)
class Replica:
    """One simulated pipeline as known at the as-of date, and what became of its open deals.

    Parameters
    ----------
    history : StageHistory
    stage, age, cell : ndarray of int, shape (deal,)
        The open deals watched.
    amount : ndarray, shape (deal,)
    revenue : float
        Sum of the amounts won within ``AHEAD`` days.
    """

    history: StageHistory
    stage: Ints
    age: Ints
    cell: Ints
    amount: Floats
    revenue: float


@njit
def walk(base, effect, next_stage, created, cell, end, rng):
    """Follow deals day by day: stays (deal, order, [stage, entered, left, next]) and the stage code at the end."""
    n_deals, n_open = len(created), len(next_stage)
    stays = np.full((n_deals, 20, 4), -1, dtype=np.int64)
    last = np.zeros(n_deals, dtype=np.int64)
    for deal in range(n_deals):
        stage, today, order, day = 0, created[deal], 0, 0
        while stage < n_open and today <= end and order < 2000:
            total = 0.0
            for slot in range(next_stage.shape[1]):
                total += base[stage, slot, day] * effect[cell[deal], stage, slot]
            if order < 20 and day == 0:
                stays[deal, order, 0], stays[deal, order, 1] = stage, today
            if rng.random() >= -np.expm1(-total):
                today, day = today + 1, day + 1
                continue
            left, slot = rng.random() * total, 0
            while slot < next_stage.shape[1] - 1 and left >= base[stage, slot, day] * effect[cell[deal], stage, slot]:
                left -= base[stage, slot, day] * effect[cell[deal], stage, slot]
                slot += 1
            stage = next_stage[stage, slot]
            if order < 20:
                stays[deal, order, 2], stays[deal, order, 3] = today, stage
            order, day = order + 1, 0
        last[deal] = stage
    return stays, last


def planted_history(n_deals: int = 80) -> StageHistory:
    """The history whose age bins and level weights all simulations share."""
    base = np.zeros((1, 2, 3, AS_OF + 1))
    base[0, 0, :2], base[0, 1] = np.array([[0.03], [0.015]]), np.array([[0.008], [0.025], [0.015]])
    base[..., 0] *= 3.0
    return _simulate(base[0], np.ones((2, 2, 3)), np.random.default_rng(5), n_deals)[0]


def next_stages() -> NDArray[np.int16]:
    """Stage code by stage and slot."""
    return np.array([[*codes, *[-1] * (3 - len(codes))] for codes in EXITS], dtype=np.int16)


def _simulate(
    base: Floats, effect: Floats, rng: np.random.Generator, n_deals: int
) -> tuple[StageHistory, pd.DataFrame, Ints]:
    """History at the cut, open stays at the cut with their deal, and the last stage code of every deal."""
    created, cell = np.sort(rng.integers(0, AS_OF + 1, n_deals)), rng.integers(0, 2, n_deals)
    ahead = base.shape[-1] - AS_OF - 1
    stays, last = walk(base, effect, next_stages(), created, cell, AS_OF + ahead, rng)
    deal, order = np.nonzero((stays[..., 0] >= 0) & (stays[..., 1] <= AS_OF))
    stage, entered, left, following = stays[deal, order].T
    running = (left < 0) | (left > AS_OF)
    table = pd.DataFrame(
        {
            "deal": deal,
            "cell": cell[deal],
            "stage": stage,
            "next": np.where(running, STILL_OPEN, following),
            "days": np.where(running, AS_OF, left) - entered,
        }
    )
    return StageHistory(GRAPH, count_stays(table), SEGMENTS, CELLS), table[running], last


def replicate(truth: StagePosterior, *, seed: int, n_deals: int) -> Replica:
    """Simulate a pipeline from the hazards of a one-draw posterior."""
    rng = np.random.default_rng([seed, 7])
    hazards = truth.lattice(np.zeros(1, dtype=np.int64), days=AS_OF + AHEAD + 1, cells=CELLS)
    history, running, last = _simulate(hazards.base[0], hazards.effect[0], rng, n_deals)
    some = running.head(PIPELINE_DEALS)
    amount = rng.lognormal(9.0, 1.0, len(some))
    revenue = float(amount[last[some["deal"]] == 2].sum())
    return Replica(history, *(some[name].to_numpy() for name in ("stage", "days", "cell")), amount, revenue)


def model_and_truths(family: str, *, simulations: int, seed: int) -> tuple[list[Choice], list[StagePosterior]]:
    """The posterior problems of the planted history, and that many truths drawn from their prior."""
    planted = planted_history()
    if family == IDLE_WEIBULL:
        data = [stage_data(planted, stage) for stage in range(GRAPH.n_open)]
        choices = [Choice(smooth_problem(each, "weibull", zero_mass=True, idle=True), "planted") for each in data]
    else:
        choices = choose_problems(planted, dict.fromkeys(GRAPH.open, family), seed=seed)
        assert [base_shape(choice.problem).idle for choice in choices] == [False, False]
    assert tuple(choice.problem.data.exits for choice in choices) == EXITS
    prior = prior_of(planted, choices, draws=simulations, seed=seed)
    return choices, [_one_draw(prior, number) for number in range(simulations)]


def _one_draw(posterior: StagePosterior, number: int) -> StagePosterior:
    at = slice(number, number + 1)
    fits = tuple(
        replace(
            fit,
            shape=replace(fit.shape, seen=AS_OF + 1),
            base=fit.base[at],
            factors=tuple(replace(f, effect=f.effect[at], log_scale=f.log_scale[at]) for f in fit.factors),
        )
        for fit in posterior.stages
    )
    return replace(posterior, stages=fits)


def stage_data_of(problem: StageProblem, history: StageHistory) -> StageData:
    """The stays of a history in the terms of a problem: its exits and its levels, whatever was seen."""
    rows = history.counts[history.counts["stage"] == problem.data.stage]
    place = {code: index for index, code in enumerate(problem.data.exits)}
    exits = rows["next"].map(lambda code: place.get(int(code), STILL_OPEN)).to_numpy(dtype=np.int64)
    cell, days, count = (rows[name].to_numpy(dtype=np.int64) for name in ("cell", "days", "count"))
    return replace(
        problem.data, group=cell, exit=exits, days=days, count=count, stay_levels=cell[:, None],
        levels=np.array([[0], [1]]), joint_levels=(np.array([0, 1]),),
    )  # fmt: skip


def with_history(choice: Choice, history: StageHistory) -> Choice:
    """The same prior, bins and level weights, with the stays of another history."""
    problem, data = choice.problem, stage_data_of(choice.problem, history)
    baseline: PiecewiseBaseline | SmoothBaseline
    if isinstance(problem.baseline, PiecewiseBaseline):
        baseline = piecewise_baseline(data, problem.baseline.starts)
    else:
        assert isinstance(problem.baseline, SmoothBaseline)
        smooth = problem.baseline
        baseline = smooth_baseline(data, smooth.family, zero_mass=smooth.zero_mass, idle=smooth.idle)
    return replace(choice, problem=replace(problem, data=data, baseline=baseline))


def fit_replica(
    choices: list[Choice], history: StageHistory, *, draws: int, seed: int, nuts: SamplerOptions | None = None
) -> StagePosterior:
    """Fit a simulated history with the prior it was drawn from."""
    from models.stage_model.sampling import sample_choice

    fits = []
    with threadpool_limits(1, user_api="blas"):
        for stage, choice in enumerate(choices):
            own = with_history(choice, history)
            if nuts is None:
                drawn = laplace_fit(own.problem, draws=draws, rng=np.random.default_rng([seed, stage, 1]))
                fits.append(stage_fit(own, drawn.innovations, drawn.log_scales))
            else:
                fits.append(sample_choice(own, stage, draws=draws, seed=seed, options=nuts)[0])
    # what is believed of ages beyond the cut hangs on the oldest age seen, which must be the truth's
    fits = [replace(fit, shape=replace(fit.shape, seen=AS_OF + 1)) for fit in fits]
    return StagePosterior(GRAPH, SEGMENTS, tuple(fits), "fast", "simulated", seed)


def with_fault(posterior: StagePosterior, fault: str | None) -> StagePosterior:
    """The posterior with its two family parameters swapped, if that is the fault."""
    if fault != SWAP:
        return posterior
    fits = []
    for fit in posterior.stages:
        width = 2 * fit.shape.n_exits
        pairs = fit.base[:, :width].reshape(-1, fit.shape.n_exits, 2)[..., ::-1].reshape(-1, width)
        fits.append(replace(fit, base=np.concatenate([pairs, fit.base[:, width:]], axis=1)))
    return replace(posterior, stages=tuple(fits))


def log_likelihood(posterior: StagePosterior, history: StageHistory) -> Floats:
    """Joint log-likelihood of a history by draw."""
    draws, total = np.arange(posterior.n_draws), np.zeros(posterior.n_draws)
    for stage, rows in history.counts.groupby("stage"):
        fit = posterior.stages[int(str(stage))]
        base = base_by_day(fit.shape, fit.base, days=int(rows["days"].max()) + 1)
        exits = np.array([fit.exits.index(code) if code >= 0 else STILL_OPEN for code in rows["next"]], dtype=np.int64)
        effect = posterior.log_effect(int(str(stage)), draws, CELLS)
        terms = stays_log_likelihood(base, effect, rows["cell"].to_numpy(), exits, rows["days"].to_numpy())
        total += terms @ rows["count"].to_numpy(dtype=np.float64)
    return total


def quantities(posterior: StagePosterior, replica: Replica, *, fault: str | None = None) -> dict[str, Floats]:
    """Every quantity of interest by draw; ``wins`` apart, the chance of each watched deal to be won in time."""
    found: dict[str, Floats] = {}
    for name, fit in zip(GRAPH.open, posterior.stages, strict=True):
        found |= {f"{name} base {index}": column for index, column in enumerate(fit.base.T)}
        contrast = fit.factors[0].effect[:, 0] - fit.factors[0].effect[:, 1]
        found |= {f"{name} effect on {GRAPH.stages[code]}": contrast[:, j] for j, code in enumerate(fit.exits)}
        scale = fit.factors[0].log_scale
        found |= {f"{name} scale for {GRAPH.stages[code]}": scale[:, j] for j, code in enumerate(fit.exits)}
    found["log-likelihood"] = log_likelihood(posterior, replica.history)
    aged, age = (0, np.zeros_like(replica.age)) if fault == AGE else (AGED, replica.age)
    ages = np.unique([-1, aged, *age])
    days = int(ages[-1]) + AHEAD + 1
    hazards = posterior.lattice(np.arange(posterior.n_draws), days=days, cells=CELLS)
    table = outcome_table(hazards, n_codes=4, days=[30, AHEAD], ages=ages.tolist())
    won = table.probability[..., 2]
    for told, stage, days_in_stage in (("a new deal", 0, -1), (f"an offer {AGED} days old", 1, aged)):
        chance = won[:, 0, stage, np.searchsorted(ages, days_in_stage)]
        found |= {f"P({told} is won in {day} days)": chance[:, k] for k, day in enumerate((30, AHEAD))}
    found["wins"] = won[:, replica.cell, replica.stage, np.searchsorted(ages, age), 1]
    return found
