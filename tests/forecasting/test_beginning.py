"""Histories that begin late: deals closed before are missing, or were taken over from another system in the middle."""

from dataclasses import replace
from datetime import date, timedelta

import numpy as np
import pandas as pd
import pytest
from lifelines import KaplanMeierFitter
from numpy.typing import NDArray

from forecasting.answers.forecasts import Forecast, forecast
from forecasting.data.beginning import (
    BEFORE_ALL,
    WHOLE,
    Beginning,
    DealLives,
    beginning,
    days_unseen,
    deal_lives,
    has_arrived,
    what_beginning_means,
)
from forecasting.data.deals import Deals, deals_from_frames
from forecasting.data.snapshot import Snapshot, cut, stage_history
from forecasting.fitting import fit
from forecasting.proof.calibration import own_calibration
from forecasting.proof.past_forecasts import Memory, past_forecasts
from forecasting.proof.quick_chain import open_revenue
from forecasting.proof.quick_new import new_revenue
from forecasting.proof.stay_table import day_of, known_at, stay_table, stays_at
from models.history import STILL_OPEN
from models.stage_model.checks import cumulative_incidence
from models.stages import StageGraph

GRAPH = StageGraph(open=["First", "Second"], won=["Won"], lost=["Lost"])
FIRST = date(2023, 1, 1)
DAYS, N = 900, 3600
AS_OF = FIRST + timedelta(days=DAYS - 1)
CUT = DAYS - 150
"""Day from which on exports are whole."""


def played(seed: int = 3) -> NDArray[np.int64]:
    """Day of entry into each stage, shape (deal, stage), DAYS where not entered by the end."""
    rng = np.random.default_rng(seed)
    entered = np.full((N, 4), DAYS)
    entered[:, 0] = np.sort(rng.integers(0, DAYS, N))
    for stage in (0, 1):
        days, down = 1 + rng.geometric(0.02, N), rng.random(N) < 0.5
        ends = np.minimum(entered[:, stage] + days, DAYS)
        here = entered[:, stage] < DAYS
        np.putmask(entered[:, 3], here & down, ends)
        np.putmask(entered[:, stage + 1], here & ~down, ends)
    return entered


def export(kind: str, *, seed: int = 3) -> Deals:
    """Export all deals, only those closed since ``CUT``, without losses before, or as taken over on that day."""
    entered = played(seed)
    won, lost = entered[:, 2], entered[:, 3]
    closed = np.minimum(won, lost)
    kept = {
        "all": closed > 0,
        "closed since": closed >= CUT,
        "no earlier losses": lost >= CUT,
        "no earlier losses but few": (lost >= CUT) | (np.arange(N) % 80 == 0),
        "taken over": closed > CUT,
        "created since": entered[:, 0] >= CUT,
    }[kind]
    created, entered = entered[kept, 0], entered[kept].copy()
    if kind == "taken over":
        stands = ((entered <= CUT) & (np.arange(4) < 2)).sum(axis=1) - 1
        for stage in (0, 1):
            entered[stands > stage, stage] = DAYS
            entered[stands == stage, stage] = CUT
    ids = np.array([f"D{number:04d}" for number in range(len(created))])
    dates = np.array([str(FIRST + timedelta(days=day)) for day in range(DAYS)])
    table = pd.DataFrame({"deal_id": ids, "created_at": dates[created], "amount": 100.0})
    deal, stage = np.nonzero(entered < DAYS)
    history = pd.DataFrame(
        {"deal_id": ids[deal], "stage": np.array(GRAPH.stages)[stage], "entered_at": dates[entered[deal, stage]]}
    )
    return deals_from_frames(table, history, stages=GRAPH)


def snapshot(kind: str) -> Snapshot:
    return cut(export(kind), as_of=AS_OF)


def foretold(kind: str) -> Forecast:
    deals = export(kind)
    posterior = fit(deals, as_of=AS_OF, covariates=(), durations="piecewise", inference="fast", draws=200, seed=1)
    return forecast(deals, posterior, as_of=AS_OF, until=AS_OF + timedelta(days=90), seed=1)


@pytest.fixture(scope="module")
def from_all() -> Forecast:
    return foretold("all")


@pytest.mark.parametrize("kind", ["closed since", "no earlier losses", "no earlier losses but few"])
def test_a_history_without_earlier_closes_counts_from_the_day_it_is_whole(kind: str) -> None:
    found = snapshot(kind)
    day = date(1970, 1, 1) + timedelta(days=found.beginning.unseen_until)
    assert abs((day - FIRST).days - (CUT - 1)) <= 3
    assert found.beginning.imported == ()
    entered = (found.stays["entered_on"] - pd.Timestamp(day)).dt.days
    np.testing.assert_array_equal(found.stays["days_unseen"], np.maximum(1 - entered, 0))
    assert (found.arrivals["arrived_on"] > pd.Timestamp(day)).all()
    assert len(found.arrivals) == (found.stays.drop_duplicates("deal_id")["entered_on"] > pd.Timestamp(day)).sum()
    assert found.notes == what_beginning_means(found.beginning)
    assert f"deals {'lost' if 'losses' in kind else 'closed'} by {day} are missing" in found.notes[0]


@pytest.mark.parametrize("kind", ["all", "created since"])
def test_a_whole_history_begins_with_its_first_deal(kind: str) -> None:
    found = snapshot(kind)
    assert found.beginning == WHOLE
    assert not found.stays["days_unseen"].any()
    assert len(found.arrivals) == found.n_deals == export(kind).n_deals
    assert found.notes == []


def test_deals_taken_over_teach_nothing_of_their_first_stay_and_did_not_arrive_then() -> None:
    found = snapshot("taken over")
    day = FIRST + timedelta(days=CUT)
    assert found.beginning == Beginning(imported=(day_of(day),))
    first = ~found.stays["deal_id"].duplicated()
    of_import = first & (found.stays["entered_on"] == pd.Timestamp(day))
    assert of_import.sum() > 60
    assert not found.learned_stays["entered_on"].eq(pd.Timestamp(day)).any()
    assert len(found.learned_stays) == (~of_import).sum()
    assert (found.arrivals["arrived_on"] > pd.Timestamp(day)).all()
    assert (found.arrivals["stage"] == 0).all()
    assert found.n_deals > len(found.arrivals)
    assert any(f"entered on {day} had begun before" in note for note in found.notes)


@pytest.mark.parametrize("kind", ["closed since", "no earlier losses", "taken over"])
def test_forecasts_from_partial_exports_are_those_from_the_whole(kind: str, from_all: Forecast) -> None:
    made = foretold(kind)
    wins = [float(each.deals()["win_probability_by_until"].sum()) for each in (made, from_all)]
    assert wins[0] == pytest.approx(wins[1], rel=0.1)
    new = [each.new_cents.sum(axis=(1, 2)).mean() for each in (made, from_all)]
    assert new[0] == pytest.approx(new[1], rel=0.2)
    assert any("are missing, or were not marked" in text or "had begun before" in text for text in made.warnings)
    assert not any(
        "are missing, or were not marked" in text or "had begun before" in text for text in from_all.warnings
    )


@pytest.mark.parametrize("kind", ["closed since", "no earlier losses", "taken over"])
def test_the_quick_chain_sees_the_same(kind: str) -> None:
    today = day_of(AS_OF)
    stays, whole = stay_table(export(kind)), stay_table(export("all"))
    known, usual = known_at(stays, today), known_at(whole, today)
    found = snapshot(kind)
    assert known.beginning == found.beginning
    np.testing.assert_array_equal(known.unseen, found.stays["days_unseen"])
    assert known.arrived.sum() == len(found.arrivals)
    told, right = (open_revenue(each, horizons=(90,), seed=1)[0].mean for each in (known, usual))
    assert told == pytest.approx(right, rel=0.1)
    told, right = (new_revenue(each, horizons=(90,))[0].mean for each in (known, usual))
    assert told == pytest.approx(right, rel=0.25)
    ignored = known_at(replace(stays, beginning=WHOLE), today)
    assert not ignored.unseen.any()
    if kind == "closed since":  # what it is for
        assert (
            open_revenue(ignored, horizons=(90,), seed=1)[0].mean
            < 0.85 * open_revenue(usual, horizons=(90,), seed=1)[0].mean
        )


def test_looking_back_ends_where_the_history_becomes_whole() -> None:
    stays, memory = stay_table(export("closed since")), Memory()
    past = past_forecasts(stays, as_of=AS_OF, horizon_days=30, memory=memory, seed=1)
    begun = snapshot("closed since").beginning
    first = date(1970, 1, 1) + timedelta(days=begun.unseen_until + 1)
    assert (past["as_of"] >= pd.Timestamp(first + timedelta(days=29))).all()
    assert len(past) > 10
    assert past["age_days"].max() == (past["as_of"].max().date() - first).days + 1
    assert {found for (_, found, _), _, _ in memory.open} == {begun}
    learned = own_calibration(stays, as_of=AS_OF, horizon_days=30, seed=1)
    assert learned.origins == past["as_of"].nunique()
    settled = stays_at(stays, AS_OF)
    assert stays_at(settled, FIRST + timedelta(days=100)).beginning == settled.beginning == begun


def test_what_came_later_is_not_looked_at() -> None:
    day = AS_OF - timedelta(days=60)
    known = cut(export("closed since"), as_of=day)
    deals = export("closed since")
    entries = deals.entries[deals.entries["entered_on"] <= pd.Timestamp(day)]
    again = cut(replace(deals, entries=entries.reset_index(drop=True)), as_of=day)
    assert known.beginning == again.beginning != WHOLE
    assert known.content_hash() == again.content_hash()


def test_observed_incidence_of_stays_seen_late_is_that_of_an_independent_package() -> None:
    found = snapshot("closed since")
    deals = export("closed since")
    posterior = fit(deals, as_of=AS_OF, covariates=(), durations="piecewise", inference="fast", draws=50, seed=1)
    table = cumulative_incidence(posterior.stage, stage_history(found), "First")
    left = 1.0 - table.groupby("day")["observed"].sum()
    stays = found.learned_stays[found.learned_stays["stage"] == 0]
    ended = stays["next"] != STILL_OPEN
    # a stay that leaves on its day d was at risk on it, as was one still open after it: times lie between days
    fitter = KaplanMeierFitter().fit(stays["days"] + 1 - 0.5 * ended, ended, entry=stays["days_unseen"])
    days = np.arange(20, 100)
    np.testing.assert_allclose(left.loc[days], fitter.predict(days + 0.75), atol=1e-9)


def lives(n: int, *, seed: int, as_of: int, missing_until: int = 0, per_day: float = 1.0) -> DealLives:
    rng = np.random.default_rng(seed)
    begun = np.sort(rng.integers(0, int(n / per_day), n))
    won = rng.random(n) < 0.3
    closed = begun + 1 + rng.geometric(0.02, n)
    kept = (begun <= as_of) & (closed > missing_until)
    return DealLives(begun[kept], begun[kept], 0 * begun[kept], closed[kept], won[kept], as_of)


def test_steady_histories_are_rarely_taken_for_cut_off_ones() -> None:
    found = [beginning(lives(600, seed=seed, as_of=day)) for seed in range(40) for day in (60, 150, 300, 500)]
    assert found.count(WHOLE) == len(found)


@pytest.mark.parametrize(("per_day", "least"), [(1.0, 0.95), (0.3, 0.4)])
def test_cut_off_histories_are_seen_unless_the_company_is_tiny(per_day: float, least: float) -> None:
    until = 500
    found = np.array(
        [
            beginning(lives(900, seed=seed, as_of=650, missing_until=until, per_day=per_day)).unseen_until
            for seed in range(40)
        ]
    )
    seen = found > BEFORE_ALL
    assert seen.mean() >= least
    assert (np.abs(found[seen] - until) <= 12 / per_day).all()


def test_a_company_that_begins_a_season_of_closes_or_grows_is_whole() -> None:
    """Wins come in one month of the year only; or each month brings more deals than the last."""
    begun = np.sort(np.random.default_rng(1).integers(0, 1000, 1500))
    season = begun + 1 + (365 - begun % 365) + np.random.default_rng(2).integers(0, 25, 1500)
    lost = begun + np.random.default_rng(3).geometric(0.01, 1500)
    closed = np.minimum(season, lost)
    known = begun <= 900
    columns = (begun, begun, 0 * begun, closed, season <= lost)
    assert beginning(DealLives(*(column[known] for column in columns), as_of=900)) == WHOLE
    many = np.sort(np.repeat(begun, 1 + (begun % 365 > 240) * 2)[:1500])  # most in autumn
    season = many + 1 + (365 - many % 365) + np.random.default_rng(2).integers(0, 25, len(many))
    lost = many + np.random.default_rng(3).geometric(0.01, len(many))
    for day in (400, 480, 760):
        known = many <= day
        columns = (many, many, 0 * many, np.minimum(season, lost), season <= lost)
        assert beginning(DealLives(*(column[known] for column in columns), as_of=day)) == WHOLE
    grown = np.sort((700 * np.random.default_rng(4).random(1500) ** 0.4).astype(np.int64))
    closed = grown + np.random.default_rng(5).geometric(0.02, 1500)
    assert beginning(DealLives(grown, grown, 0 * grown, closed, closed % 3 == 0, as_of=700)) == WHOLE


def test_batches_on_many_days_are_a_habit_and_no_takeover() -> None:
    begun = np.repeat(np.arange(0, 300, 30), 50)
    batches = DealLives(begun - 20, begun, 0 * begun, begun + 40, begun % 2 == 0, as_of=300)
    assert beginning(batches).imported == ()
    once = np.concatenate([np.full(50, 100), np.arange(101, 300)])
    created = np.where(once == 100, once - 30, once)
    one = DealLives(created, once, 0 * once, once + 40, once % 2 == 0, as_of=300)
    assert beginning(one).imported == ()  # leads of one event
    assert beginning(replace(one, created=np.where(once == 100, once - np.arange(len(once)) % 40, once))).imported == (
        100,
    )
    late = replace(one, created=once, stage=(once == 100) * (1 + np.arange(len(once)) % 2))  # created then, it seems
    assert beginning(late).imported == (100,)
    few = DealLives(created[:60], once[:60], late.stage[:60], once[:60] + 40, once[:60] % 2 == 0, as_of=110)
    assert beginning(few).imported == ()  # next to nothing else to learn from


def test_deals_whose_first_days_are_not_told_have_not_arrived() -> None:
    begun = np.array([10, 12, 15])
    late = DealLives(np.array([10, 3, 15]), begun, 0 * begun, begun + 100, begun > 0, as_of=50)
    assert has_arrived(WHOLE, late).tolist() == [
        True,
        True,
        True,
    ]  # who knows whether deals begin when they are created
    assert has_arrived(Beginning(unseen_until=12), late).tolist() == [False, False, True]
    assert has_arrived(Beginning(unseen_until=40), late).tolist() == [True, True, True]
    begun = np.append(np.arange(10, 40), 50)
    one_late = DealLives(np.append(begun[:-1], 3), begun, 0 * begun, begun + 100, begun > 0, as_of=60)
    assert has_arrived(WHOLE, one_late).tolist() == [True] * 30 + [False]
    all_late = replace(one_late, created=begun - 20)
    assert has_arrived(WHOLE, all_late).all()


def test_lives_and_unseen_days_follow_the_stays_of_each_deal() -> None:
    deal, stage, entered = np.array([0, 0, 2]), np.array([0, 1, 1]), np.array([5, 9, 20])
    left, closes, wins = np.array([9, 30, 61]), np.array([False, True, False]), np.array([False, True, False])
    found = deal_lives(
        deal=deal, stage=stage, entered=entered, left=left, closes=closes, wins=wins, created=entered - 1, as_of=60
    )
    assert (found.begun.tolist(), found.stage.tolist(), found.won.tolist()) == ([5, 20], [0, 1], [True, False])
    assert found.closed.tolist()[0] == 30 < 60 < found.closed.tolist()[1]
    unseen = days_unseen(Beginning(unseen_until=10, imported=(20,)), deal=deal, entered=entered)
    assert unseen[:2].tolist() == [6, 2]
    assert unseen[2] > 1000
