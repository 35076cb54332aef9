"""The accuracy benchmarks run at their toy size."""

import numpy as np
import pytest

from benchmarks.accuracy import deal_level, open_deals, shocks
from benchmarks.accuracy.outcome_chain import OutcomeChain, Position
from models.hazards import PlantedHazards
from models.stages import StageGraph


def test_open_deals_prints_every_step_beside_every_rule(capsys: pytest.CaptureFixture[str]) -> None:
    assert open_deals.main(["--toy"]) == 0
    printed = capsys.readouterr().out
    for name in (
        "chain",
        "+ amount effect",
        "+ levels and own past errors",
        "landmark_by_week",
        "run_rate",
        "all pipelines together",
    ):
        assert name in printed


def test_shocks_compare_every_recipe_with_the_oracle(capsys: pytest.CaptureFixture[str]) -> None:
    assert shocks.main(["--toy"]) == 0
    printed = capsys.readouterr().out
    for name in ("no shock", "log-sd .3", "+ levels", "oracle"):
        assert name in printed


def test_deal_level_scores_every_outcome_beside_the_rule(capsys: pytest.CaptureFixture[str]) -> None:
    assert deal_level.main(["--toy"]) == 0
    printed = capsys.readouterr().out
    for name in ("Won", "No decision", "AUC", "Brier", "remaining days", "by last activity", "undecided"):
        assert name in printed


def test_the_outcome_chain_agrees_with_playing_the_deals() -> None:
    """Two stages with a way back: chances and median days from the equations against plays day by day."""
    graph = StageGraph(open=("Lead", "Offer"), won=("Won",), lost=("Lost",))
    next_stage, hazard = (
        np.array([[1, 3, -1], [0, 2, 3]], dtype=np.int16),
        np.array([[0.15, 0.05, 0], [0.05, 0.1, 0.05]]),
    )
    planted = PlantedHazards(next_stage, np.repeat(hazard[None, :, :, None], 2, axis=-1))
    chain = OutcomeChain(planted, graph, offer_stage=1)
    stage, furthest, looped, days = (np.array([value]) for value in (0, 0, 0, 4))
    start = Position(stage, furthest, looped, days, level=np.zeros(1, dtype=np.int32))
    ended, offered, lasted = played(next_stage, hazard, plays=20_000)
    told = chain.outcomes(start)[0]
    assert told.sum() == pytest.approx(1.0)
    assert told[0] == pytest.approx((ended[offered] == 2).mean(), abs=0.015)
    assert chain.median_remaining_days(start)[0] == pytest.approx(np.median(lasted), abs=0.75)


def played(next_stage: np.ndarray, hazard: np.ndarray, *, plays: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Play deals from stage 0: where each ended, whether it saw stage 1, and on which day."""
    rng = np.random.default_rng(3)
    stage, offered, lasted = np.zeros(plays, dtype=int), np.zeros(plays, dtype=bool), np.zeros(plays)
    for day in range(400):
        moving = stage < 2
        while moving.any():  # a deal that has just come may leave on the same day
            rates = hazard[np.minimum(stage, 1)]
            leaves = moving & (rng.random(plays) < -np.expm1(-rates.sum(axis=1)))
            slot = (rng.random(plays)[:, None] * rates.sum(axis=1, keepdims=True) > np.cumsum(rates, axis=1)).sum(
                axis=1
            )
            stage = np.where(leaves, next_stage[np.minimum(stage, 1), np.minimum(slot, 2)], stage)
            offered |= stage == 1
            lasted[leaves] = day
            moving = leaves & (stage < 2)
    return stage, offered, lasted
