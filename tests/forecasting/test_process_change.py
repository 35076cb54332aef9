"""Stages put in between or taken out: what was before says nothing of how deals leave the stage beside it now."""

from datetime import date, timedelta

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from forecasting.answers.forecasts import forecast
from forecasting.data.beginning import BEFORE_ALL
from forecasting.data.deals import Deals, deals_from_frames
from forecasting.data.process_change import process_changes, what_changes_mean
from forecasting.data.snapshot import cut
from forecasting.fitting import fit
from forecasting.proof.past_forecasts import past_forecasts
from forecasting.proof.quick_chain import open_revenue
from forecasting.proof.stay_table import day_of, known_at, stay_table
from models.stages import StageGraph

GRAPH = StageGraph(open=["Offer", "Review"], won=["Won"], lost=["Lost"])
OFFER, REVIEW, WON, LOST = range(4)
FIRST = date(2024, 1, 1)
DAYS, N, CHANGE = 700, 2100, 500
AS_OF = FIRST + timedelta(days=DAYS - 1)
RIGHT_WINS = 0.6
"""Part of the reviewed deals that are won."""


def leave(codes: NDArray[np.int64] | list[int], *, days: int = 5, gap: int = 1, first: int = 0) -> NDArray[np.int64]:
    """Changes of a stage 0 of which one deal after the other leaves, ``gap`` days apart, after so many days in it."""
    following = np.asarray(codes)
    left = first + gap * np.arange(len(following))
    return process_changes(
        stage=np.zeros_like(following), following=following, entered=left - days, left=left, n_open=2
    )


def test_a_stage_put_in_counts_from_its_first_use() -> None:
    before, after = np.tile([WON, LOST, LOST], 20), np.tile([REVIEW, LOST, LOST], 15)
    assert leave(np.append(before, after))[OFFER] == 59
    assert leave(np.append(before, after), gap=3, first=1000)[OFFER] == 1000 + 3 * 60 - 1
    assert leave(np.append(before, after[:27]))[OFFER] == BEFORE_ALL  # taken nine times: too few to say
    assert leave(np.append(before[:30], after))[OFFER] == BEFORE_ALL  # should have been taken ten times before: too few
    one = np.append(before, after)
    one[20] = REVIEW  # tried once
    assert leave(one)[OFFER] == 59


def test_a_stage_taken_out_counts_from_the_new_way_around_it() -> None:
    before, after = np.tile([REVIEW, LOST, LOST], 20), np.tile([WON, LOST, LOST], 20)
    assert leave(np.append(before, after))[OFFER] == 59
    pause = np.tile([LOST], 80)
    assert leave(np.concatenate([before, pause, after]))[OFFER] == BEFORE_ALL  # no exit to an open stage ended by then


def test_seasons_and_rare_or_slow_ways_are_no_change() -> None:
    summer, winter = np.tile([LOST], 60), np.tile([WON, LOST], 30)
    assert leave(np.concatenate([summer, winter, summer, winter]))[OFFER] == BEFORE_ALL
    steady = np.tile([REVIEW, LOST, WON], 60)
    assert leave(steady)[OFFER] == BEFORE_ALL
    rare = np.append(np.tile([WON, LOST], 100), np.tile([WON, LOST, LOST, LOST, LOST, REVIEW], 20))
    assert leave(rare)[OFFER] == BEFORE_ALL
    young = np.append(np.tile([WON, LOST], 20), np.tile([REVIEW, LOST], 20))
    assert leave(young)[OFFER] == 39
    assert leave(young, days=30)[OFFER] == BEFORE_ALL  # it takes 30 days to get there: nobody could have before


def test_chance_makes_no_change_and_order_within_a_day_none_either() -> None:
    rng = np.random.default_rng(1)
    for _ in range(200):
        share = rng.dirichlet([1.0, 1.0, 1.0])
        assert (leave(rng.choice([REVIEW, WON, LOST], 400, p=share)) == BEFORE_ALL).all()
    codes = np.append(np.tile([WON, LOST], 100), np.tile([REVIEW, LOST], 100))
    left = np.arange(400) // 10
    mixed = rng.permutation(400)
    found = [
        process_changes(stage=0 * left, following=codes[rows], entered=left[rows] - 1, left=left[rows], n_open=2)[0]
        for rows in (np.arange(400), mixed)
    ]
    assert found == [19, 19]


def test_old_deals_given_up_together_are_one_event() -> None:
    """For a reason that is new, on the last day known: since then no deal has gone to review."""
    steady, stale = np.tile([REVIEW, LOST], 60), np.full(80, LOST + 1)
    following, left = np.append(steady, stale), np.append(np.arange(120), np.full(80, 120))
    found = process_changes(stage=0 * left, following=following, entered=left - 5, left=left, n_open=2)
    assert found[OFFER] == BEFORE_ALL


def test_it_is_said_in_words() -> None:
    changed = np.array([BEFORE_ALL, day_of(date(2026, 3, 14))])
    assert what_changes_mean(changed, GRAPH.open)[0].startswith(
        "deals leave the stage Review in other ways since 2026-03-15"
    )
    assert what_changes_mean(np.full(2, BEFORE_ALL), GRAPH.open) == []


def company(*, review_since: int) -> Deals:
    """Make up offers that are won or lost after 20 days on average, from a day on by way of a review of 30 days."""
    rng = np.random.default_rng(5)
    created = np.sort(rng.integers(0, DAYS, N))
    moved = created + 1 + rng.geometric(0.05, N)
    accepted, approved = rng.random(N) < 0.5, rng.random(N) < RIGHT_WINS
    closed = moved + 1 + rng.geometric(1 / 30, N)
    ids = np.array([f"D{number:04d}" for number in range(N)])
    reviewed = accepted & (moved >= review_since)
    rows = [
        pd.DataFrame({"deal_id": ids, "stage": "Offer", "day": created}),
        pd.DataFrame({"deal_id": ids, "stage": np.where(accepted, "Won", "Lost"), "day": moved})[~reviewed],
        pd.DataFrame({"deal_id": ids, "stage": "Review", "day": moved})[reviewed],
        pd.DataFrame({"deal_id": ids, "stage": np.where(approved, "Won", "Lost"), "day": closed})[reviewed],
    ]
    history = pd.concat(rows)
    history = history[history["day"] < DAYS]
    dates = np.array([str(FIRST + timedelta(days=day)) for day in range(DAYS)])
    table = pd.DataFrame({"deal_id": ids, "created_at": dates[created], "amount": 100.0})
    return deals_from_frames(table, history.assign(entered_at=dates[history.pop("day")]), stages=GRAPH)


@pytest.fixture(scope="module")
def reviewed() -> Deals:
    return company(review_since=CHANGE)


def test_what_is_learned_of_the_stage_begins_with_the_change(reviewed: Deals) -> None:
    found = cut(reviewed, as_of=AS_OF)
    assert found.changed is not None
    assert found.changed[REVIEW] == BEFORE_ALL
    assert abs(int(found.changed[OFFER]) - day_of(FIRST) - CHANGE) <= 2
    learned = found.learned_stays
    of_offer = learned[learned["stage"] == OFFER]
    ended = of_offer["entered_on"] + pd.to_timedelta(of_offer["days"], unit="D")
    assert (ended > pd.Timestamp(FIRST + timedelta(days=CHANGE - 3))).all()
    assert WON not in set(of_offer["next"])
    assert len(found.arrivals) == found.n_deals  # deals arrive as they did
    assert any("deals leave the stage Offer in other ways since 2025-05" in note for note in found.notes)
    whole = cut(company(review_since=0), as_of=AS_OF)
    assert not whole.stays["days_unseen"].any()
    assert whole.notes == []


def test_forecasts_are_those_of_a_company_that_always_reviewed(reviewed: Deals) -> None:
    """Its deals are the same from the change on, so that the open ones nearly are."""
    until, told = AS_OF + timedelta(days=60), []
    for deals in (reviewed, company(review_since=0)):
        posterior = fit(deals, as_of=AS_OF, covariates=(), durations="piecewise", inference="fast", draws=200, seed=1)
        made = forecast(deals, posterior, as_of=AS_OF, until=until, seed=1, new_business=False)
        quick = open_revenue(known_at(stay_table(deals), day_of(AS_OF)), horizons=(60,), seed=1)[0]
        told.append((made.open_cents.sum(axis=(1, 2)).mean() / 100, quick.mean))
    np.testing.assert_allclose(told[0], told[1], rtol=0.12)


def test_looking_back_leaves_out_forecasts_during_which_the_process_changed(reviewed: Deals) -> None:
    stays, change = stay_table(reviewed), FIRST + timedelta(days=CHANGE)
    past = past_forecasts(stays, as_of=AS_OF, horizon_days=30, seed=1)
    reached = past["as_of"] + pd.to_timedelta(past["horizon_days"], unit="D")
    spans = (past["as_of"] < pd.Timestamp(change)) & (reached > pd.Timestamp(change + timedelta(days=2)))
    assert not spans.any()
    after = past[past["as_of"] > pd.Timestamp(change + timedelta(days=60))]
    assert len(after) > 5
    assert (past["as_of"] < pd.Timestamp(change - timedelta(days=60))).any()
    assert abs(np.log(after["actual"] / after["mean"]).mean()) < 0.25


def test_at_past_dates_no_change_is_known_yet(reviewed: Deals) -> None:
    before = FIRST + timedelta(days=CHANGE - 10)
    known = known_at(stay_table(reviewed), day_of(before))
    assert (known.changed == BEFORE_ALL).all()
    now = known_at(stay_table(reviewed), day_of(AS_OF))
    assert known.same_process(now, until=day_of(before) + 5)
    assert not known.same_process(now, until=day_of(before) + 30)
    assert now.same_process(now, until=day_of(AS_OF) + 30)
    np.testing.assert_array_equal(now.unseen, cut(reviewed, as_of=AS_OF).stays["days_unseen"])
