"""The made-up company: its numbers follow its truth, its past does not know its future, its dirt is found."""

from datetime import date

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binom

from forecasting.data.deals import deals_from_frames
from forecasting.data.sample import GRAPH, REGIONS, DemoHistory, demo_history
from forecasting.data.snapshot import cut
from models.errors import SettingsError

ZONE = "Europe/Amsterdam"


@pytest.fixture(scope="module")
def demo() -> DemoHistory:
    return demo_history(seed=11)


def test_the_same_seed_gives_the_same_history_and_another_one_another(demo: DemoHistory) -> None:
    again = demo_history(seed=11)
    pd.testing.assert_frame_equal(again.deals, demo.deals)
    pd.testing.assert_frame_equal(again.stage_history, demo.stage_history)
    assert not demo_history(seed=12).stage_history.equals(demo.stage_history)


def test_next_probabilities_are_probabilities_and_give_the_win_probabilities(demo: DemoHistory) -> None:
    moves = demo.truth.next_probability
    np.testing.assert_allclose(moves.sum(axis=2), 1)
    # the same chances by walking the chain instead of solving for them
    table = demo.truth.win_probability.set_index(["stage", "region"])["win_probability"]
    for code, region in enumerate(REGIONS):
        chain = np.eye(len(GRAPH.stages))
        chain[: GRAPH.n_open] = moves[code]
        reached = np.linalg.matrix_power(chain, 400)[: GRAPH.n_open, GRAPH.won_codes[0]]
        np.testing.assert_allclose(table.xs(region, level="region")[list(GRAPH.open)], reached, rtol=1e-9)


def test_wins_occur_as_often_as_the_truth_says() -> None:
    demo = demo_history(seed=2, n_deals=20_000, months=48, faulty_rows=False)
    deals = deals_from_frames(demo.deals, demo.stage_history, stages=demo.graph, timezone=ZONE)
    entries = deals.entries.merge(deals.deals[["deal_id", "region", "created_on"]], on="deal_id")
    old = entries[entries["created_on"] < "2024-07-01"]  # two years and more to close
    closed = old[old["stage"] >= GRAPH.n_open].drop_duplicates("deal_id").set_index("deal_id")["stage"]
    leads = old[(old["order"] == 0) & (old["stage"] == 0) & old["deal_id"].isin(closed.index)]
    truth = demo.truth.win_probability.set_index(["stage", "region"])["win_probability"]
    for region in REGIONS:
        mine = leads.loc[leads["region"] == region, "deal_id"]
        wins = int((closed[mine] == GRAPH.won_codes[0]).sum())
        low, high = binom.interval(0.9999, len(mine), truth["Lead", region])
        assert low <= wins <= high


def test_the_future_that_came_true_is_not_in_the_tables(demo: DemoHistory) -> None:
    future = demo.truth.future_won
    assert (future["won_on"] > pd.Timestamp(demo.as_of)).all()
    stamps = demo.stage_history["entered_at"].str.slice(0, 10)
    assert stamps[stamps.str.match(r"\d{4}-\d\d-\d\d")].max() <= str(demo.as_of)
    deals = deals_from_frames(demo.deals, demo.stage_history, stages=demo.graph, timezone=ZONE)
    known = set(deals.deals["deal_id"])
    assert set(future.loc[future["source"] == "open", "deal_id"]) <= known
    assert not set(future.loc[future["source"] == "new", "deal_id"]) & known
    until = date(2026, 12, 31)
    parts = demo.truth.revenue(until, source="open") + demo.truth.revenue(until, source="new")
    assert demo.truth.revenue(until) == pytest.approx(parts)
    assert demo.truth.revenue(demo.as_of) == 0


def test_faulty_rows_are_found_and_touch_no_sound_deal(demo: DemoHistory) -> None:
    clean = demo_history(seed=11, faulty_rows=False)
    found = deals_from_frames(demo.deals, demo.stage_history, stages=demo.graph, timezone=ZONE)
    sound = deals_from_frames(clean.deals, clean.stage_history, stages=demo.graph, timezone=ZONE)
    assert sound.quality["deals"].rows_rejected == sound.quality["stage_history"].rows_rejected == 0
    assert len(found.quality["deals"].rejections) >= 6
    assert len(found.quality["stage_history"].rejections) >= 4
    pd.testing.assert_frame_equal(found.deals, sound.deals)
    pd.testing.assert_frame_equal(found.entries, sound.entries)


def test_it_looks_like_a_company(demo: DemoHistory) -> None:
    deals = deals_from_frames(demo.deals, demo.stage_history, stages=demo.graph, timezone=ZONE)
    snapshot = cut(deals, as_of=demo.as_of, segment=["region"], covariates=["log_amount", "looped"])
    assert deals.n_deals == 3000
    assert 100 < snapshot.pipeline.n_deals < 600
    assert 0 < snapshot.pipeline.amount_missing < snapshot.pipeline.n_deals / 4
    assert not snapshot.won["amount"].isna().any()
    moves = deals.entries[deals.entries["moved"]]
    step = moves.groupby("deal")["stage"].diff()
    assert (step[moves["stage"] < GRAPH.n_open] < 0).any()
    assert (step > 1).any()
    assert (snapshot.stays["days"] == 0).mean() > 0.05
    assert (moves["entered_on"].dt.weekday < 5).all()
    assert {GRAPH.stages[code] for code in moves["stage"].unique()} == set(GRAPH.stages)


def test_too_small_a_company_is_refused() -> None:
    with pytest.raises(SettingsError, match="at least 10 deals"):
        demo_history(seed=1, n_deals=3)
