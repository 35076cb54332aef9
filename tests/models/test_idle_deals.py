"""Deals that nobody ever closes: the chance to win falls with age as it truly does, whatever the family."""

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from forecasting.engine.renewal import eventual_outcomes, outcome_table
from models.hazards import LatticeHazards
from models.history import STILL_OPEN, StageHistory, count_stays
from models.stage_model.base_lattice import BaseShape, base_by_day
from models.stage_model.data import stage_data
from models.stage_model.fit import fit_stages, stage_fit
from models.stage_model.laplace import laplace_fit
from models.stage_model.posterior import StagePosterior
from models.stage_model.problem import smooth_problem
from models.stage_model.selection import Choice
from models.stages import StageGraph

Floats = NDArray[np.float64]
GRAPH = StageGraph(open=["Lead", "Offer"], won=["Won"], lost=["Lost"])
NEXT = np.array([[1, 3], [2, 3]], dtype=np.int16)
NO_CELL = np.zeros((1, 0), dtype=np.int32)
SCALE, SHAPE = np.array([[25.0, 60.0], [35.0, 70.0]]), np.array([[1.1, 0.9], [1.4, 1.0]])
"""Weibull times of the deals that move, by (stage, exit): on, and lost."""
IDLE, STOPS, SPAN, DAYS = 0.15, 20, 540, 3000
"""Share of deals that idle, days in a stage after which they never move again, days of history, days followed."""
AGES, WITHIN = [-1, 15, 40, 90, 180, 365], [30, 90, 365]
DRAWS = 300


def lively_hazards() -> Floats:
    """Hazards (stage, exit, day) of the deals that move."""
    return np.diff((np.arange(DAYS + 1.0) / SCALE[..., None]) ** SHAPE[..., None], axis=-1)


def planted_history(n_deals: int, seed: int) -> StageHistory:
    """Stays known at the end of the span; an idle deal stops in whatever stage it first spends ``STOPS`` days."""
    rng = np.random.default_rng(seed)
    hazards = lively_hazards()
    entered, idle, stage = rng.integers(0, SPAN, n_deals), rng.random(n_deals) < IDLE, 0
    parts = []
    for stage in (0, 1):
        total = hazards[stage].sum(axis=0)
        days = np.searchsorted(np.cumsum(total), rng.exponential(size=len(entered)))
        days[idle & (days >= STOPS)] = DAYS
        running = entered + days > SPAN
        on = rng.random(len(entered)) < (hazards[stage, 0] / total)[np.minimum(days, DAYS - 1)]
        following = np.where(running, STILL_OPEN, np.where(on, stage + 1, 3))
        table = {"cell": 0, "stage": stage, "next": following, "days": np.where(running, SPAN - entered, days)}
        parts.append(pd.DataFrame(table))
        further = ~running & on
        entered, idle = (entered + days)[further], idle[further]
    return StageHistory(GRAPH, count_stays(pd.concat(parts)), (), NO_CELL)


def true_chances() -> Floats:
    """P(won within days | stage, age), not knowing which deals idle: shape (stage, age, days)."""
    lively = lively_hazards()
    stopping = lively.copy()
    stopping[..., STOPS:] = 0.0
    chance, weight = [], []
    for hazards, share in ((lively, 1.0 - IDLE), (stopping, IDLE)):
        lattice = LatticeHazards(NEXT, hazards[None], np.ones((1, 1, 2, 2)))
        chance.append(outcome_table(lattice, n_codes=4, days=WITHIN, ages=AGES).probability[0, 0, ..., 2])
        total = hazards.sum(axis=1)
        before = np.concatenate([np.zeros((2, 1)), np.cumsum(total, axis=1)], axis=1)
        leave_on = np.where(total > 0.0, hazards[:, 0] / np.maximum(total, 1e-300), 0.0) * -np.expm1(-total)
        reach = np.array([1.0, float((np.exp(-before[0, :-1]) * leave_on[0]).sum())])
        weight.append(share * reach[:, None] * np.exp(-before[:, np.array(AGES) + 1]))
    total_weight = weight[0] + weight[1]
    return np.asarray((weight[0][..., None] * chance[0] + weight[1][..., None] * chance[1]) / total_weight[..., None])


def chances(posterior: StagePosterior) -> tuple[Floats, Floats]:
    """Fitted P(won within days), and P(ever won), by (stage, age)."""
    hazards = posterior.lattice(np.arange(DRAWS), days=AGES[-1] + WITHIN[-1] + 2, cells=NO_CELL)
    table = outcome_table(hazards, n_codes=4, days=WITHIN, ages=AGES).probability[:, 0, ..., 2].mean(axis=0)
    return table, eventual_outcomes(hazards, n_codes=4, ages=AGES)[:, 0, ..., 2].mean(axis=0)


@pytest.mark.parametrize("durations", ["auto", "piecewise", "weibull", "generalized_gamma"])
def test_old_deals_lose_their_chance(durations: str) -> None:
    history = planted_history(4000, 1)
    fitted, ever = chances(fit_stages(history, durations=durations, inference="fast", draws=DRAWS, seed=1))
    truth = true_chances()
    assert truth[1, 0, 2] > 0.6
    assert truth[1, 4:, 2].max() < 1e-3
    assert np.abs(fitted[..., :2] - truth[..., :2]).max() < 0.06
    # nobody knows what forgotten deals do in a year: with some hundred of them watched for one, next to nothing
    assert np.abs(fitted[:, 4:, 2] - truth[:, 4:, 2]).max() < 0.08
    assert np.abs(ever[:, :3] - truth[:, :3, 2]).max() < 0.06
    assert ever[:, 4:].max() < 0.12


def test_without_a_share_of_idle_deals_a_smooth_family_believes_in_them_for_ever() -> None:
    history, fits = planted_history(4000, 1), []
    for stage in (0, 1):
        problem = smooth_problem(stage_data(history, stage), "weibull", zero_mass=False)
        drawn = laplace_fit(problem, draws=DRAWS, rng=np.random.default_rng(1))
        fits.append(stage_fit(Choice(problem, "planted"), drawn.innovations, drawn.log_scales))
    fitted, ever = chances(StagePosterior(GRAPH, (), tuple(fits), "fast", "Laplace", 1))
    assert fitted[1, 4, 2] > 0.5
    assert ever[1, 4] > 0.5


def test_a_choice_of_idle_deals_is_said() -> None:
    posterior = fit_stages(planted_history(2000, 2), durations="weibull", inference="fast", draws=20, seed=1)
    assert [fit.shape.idle for fit in posterior.stages] == [True, True]
    assert posterior.stages[1].reason == "weibull: as asked with a share of deals that never move, as the data ask"


def test_a_young_pipeline_keeps_its_pace() -> None:
    """No older age was seen because none had time to come: the hazard of the last bin is no slower than before."""
    shape = BaseShape("piecewise", n_exits=1, starts=(0, 10), seen=60)
    even, slower = np.log([[0.02, 0.02]]), np.log([[0.02, 0.0002]])
    assert base_by_day(shape, even, days=500)[0, 0, 60:] == pytest.approx(0.02)
    late = base_by_day(shape, slower, days=5000)[0, 0]
    assert late[59] == pytest.approx(0.0002)
    assert late[60] == pytest.approx(0.0002, rel=0.05)
    # one in a hundred still moved at 0.02 a day; the floor adds another 2e-6 a day
    assert late[60:].sum() == pytest.approx(-np.log(0.99) + 2e-6 * 4500, rel=0.1)
