"""The simple rules against small histories worked out by hand, and against peeking."""

from datetime import date, timedelta

import numpy as np
import pandas as pd
import pytest

from forecasting.data.deals import deals_from_frames
from forecasting.proof.baselines import BASELINES
from forecasting.proof.stay_table import KnownStays, day_of, known_at, stay_table
from models.stages import StageGraph

GRAPH = StageGraph(open=["Lead", "Offer"], won=["Won"], lost=["Lost"])
AS_OF = date(2026, 3, 1)


def known(moves: list[tuple[str, float, list[tuple[str, int]]]]) -> KnownStays:
    """What is known at ``AS_OF`` of deals given as (id, amount, [(stage, days before AS_OF), ...])."""
    deals = pd.DataFrame([(name, AS_OF - timedelta(days=way[0][1]), amount) for name, amount, way in moves])
    entries = pd.DataFrame([(name, stage, AS_OF - timedelta(days=ago)) for name, _, way in moves for stage, ago in way])
    deals.columns, entries.columns = (
        pd.Index(["deal_id", "created_at", "amount"]),
        pd.Index(["deal_id", "stage", "entered_at"]),
    )
    return known_at(stay_table(deals_from_frames(deals, entries, stages=GRAPH)), day_of(AS_OF))


SMALL = [
    ("a", 100.0, [("Lead", 60), ("Offer", 50), ("Won", 20)]),
    ("b", 200.0, [("Lead", 60), ("Lost", 30)]),
    ("c", 300.0, [("Lead", 59), ("Offer", 40), ("Lost", 10)]),
    ("d", 400.0, [("Lead", 40), ("Won", 5)]),
    ("e", 1000.0, [("Lead", 30)]),
    ("f", 2000.0, [("Lead", 30), ("Offer", 3)]),
]


def test_win_rate_and_stage_weights_by_hand() -> None:
    past = known(SMALL)
    assert BASELINES["historical_win_rate"](past, 14, 1).open == pytest.approx(0.5 * 3000)
    # Lead: a, d won of a, b, c, d; Offer: a won of a, c
    assert BASELINES["stage_weighted"](past, 14, 1).open == pytest.approx(0.5 * 1000 + 0.5 * 2000)


def test_landmark_table_by_hand() -> None:
    past, won, seen = known(SMALL), np.zeros(2), np.zeros(2)
    stages = {"Lead": 0, "Offer": 1, "Won": 2, "Lost": 3}
    for ago in range(14, 60, 7):
        for _, _, way in SMALL:
            here = [(stage, when) for stage, when in way if when >= ago]
            if here and stages[here[-1][0]] < 2:
                seen[stages[here[-1][0]]] += 1
                won[stages[here[-1][0]]] += any(stage == "Won" and ago > when >= ago - 14 for stage, when in way)
    rate = won / seen
    told = BASELINES["landmark"](past, 14, 1)
    assert told.open == pytest.approx(rate[0] * 1000 + rate[1] * 2000)
    assert told.open_draws is not None
    assert set(told.open_draws) <= {0.0, 1000.0, 2000.0, 3000.0}
    assert told.open_draws.mean() == pytest.approx(told.open, rel=0.1)


def test_last_period_and_run_rate_by_hand() -> None:
    past = known(SMALL)
    told = BASELINES["last_period"](past, 20, 1)
    assert (told.open, told.total) == (400.0, 400.0)
    assert BASELINES["last_period"](past, 21, 1).total == 500.0
    assert BASELINES["run_rate"](past, 14, 1).total == pytest.approx(500 / 61 * 14)


def test_cohort_conversion_of_a_steady_business_is_what_it_earns() -> None:
    steady = [(f"n{ago}", 50.0, [("Lead", ago)] + [("Won", ago - 10)] * (ago % 2 and ago >= 10)) for ago in range(300)]
    told = BASELINES["cohort_conversion"](known(steady), 5, 1)
    assert told.total == pytest.approx(5 * 50 * 0.5, rel=0.15)


def test_every_rule_answers_for_an_empty_pipeline_and_a_first_day() -> None:
    for moves in ([("a", 10.0, [("Lead", 9), ("Lost", 2)])], [("a", 10.0, [("Lead", 0)])]):
        for rule in BASELINES.values():
            told = rule(known(moves), 28, 1)
            assert np.isfinite(told.open)
            assert told.total is None or np.isfinite(told.total)


def test_week_of_month_uses_the_same_week_only() -> None:
    # deals wait in Offer; those seen in the first week of a month are won, others are not
    moves = []
    for k, ago in enumerate(range(20, 320)):
        day = AS_OF - timedelta(days=ago)
        moves.append((f"d{k}", 10.0, [("Offer", ago), ("Won" if day.day <= 7 else "Lost", ago - 1)]))
    moves.append(("open", 100.0, [("Offer", 1)]))
    past = known(moves)
    by_week, overall = BASELINES["landmark_by_week"](past, 7, 1).open, BASELINES["landmark"](past, 7, 1).open
    assert by_week > 80.0
    assert overall < 40.0
