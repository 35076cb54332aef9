"""Deals without an amount, or without a value of a column: lacking from the start, or filled in or cleared later."""

from dataclasses import replace
from datetime import date, timedelta

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from forecasting.answers.forecasts import Forecast, forecast
from forecasting.data.deal_factors import has_level_for_lacking
from forecasting.data.deals import Deals, deals_from_frames
from forecasting.data.factors import (
    ANY_NUMBER,
    MISSING_LEVEL,
    MISSING_NUMBER,
    ZERO,
    amount_factor,
    level_codes,
    spread_codes,
)
from forecasting.data.lacking import AS_GIVEN, AmountHabits, StaysCompared, amount_habits, compared
from forecasting.data.snapshot import Snapshot, cut
from forecasting.fitting import fit
from forecasting.proof.past_forecasts import Memory, past_forecasts
from forecasting.proof.quick_chain import open_revenue
from forecasting.proof.stay_table import day_of, known_at, stay_table, stays_at
from models.history import UNSEEN_LEVEL
from models.stages import StageGraph

GRAPH = StageGraph(open=["First", "Second"], won=["Won"], lost=["Lost"])
FIRST = date(2024, 1, 1)
DAYS, N = 600, 900
AS_OF = FIRST + timedelta(days=DAYS - 1)
KNOWN_LATER = ["entered late", "entered on winning", "cleared on losing"]
KNOWN_FROM_THE_START = ["all", "some at random"]


def stages_reached(log_sd: float) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Day of entry into each stage, shape (deal, stage), DAYS where not entered; stage at the end; true amounts."""
    rng = np.random.default_rng(8)
    entered = np.full((N, 4), DAYS)
    entered[:, 0] = np.sort(rng.integers(0, DAYS, N))
    for stage in (0, 1):
        days, down = 1 + rng.geometric(0.05, N), rng.random(N) < 0.5
        ends = np.minimum(entered[:, stage] + days, DAYS)
        here = entered[:, stage] < DAYS
        np.putmask(entered[:, 3], here & down, ends)
        np.putmask(entered[:, stage + 1], here & ~down, ends)
    now = np.where(entered[:, 3] < DAYS, 3, (entered[:, :3] < DAYS).sum(axis=1) - 1)
    return entered, now, rng.lognormal(8.0, log_sd, N).round(2)


def export(
    habit: str, *, value: float = np.nan, column: bool = False, told: bool = False, log_sd: float = 0.3
) -> Deals:
    """Deals table and history as exported at the end; ``column`` lacks a column too, ``told`` has amounts in the history."""
    entered, now, amount = stages_reached(log_sd)
    some = np.random.default_rng(9).random(N) < 0.2
    lacking = {
        "all": now < 0, "some at random": some, "entered late": entered[:, 1] == DAYS, "entered on winning": now != 2,
        "cleared on losing": now == 3,
    }[habit]  # fmt: skip
    ids = np.array([f"D{number:04d}" for number in range(N)])
    dates = np.array([str(FIRST + timedelta(days=day)) for day in range(DAYS)])
    table = pd.DataFrame(
        {"deal_id": ids, "created_at": dates[entered[:, 0]], "amount": np.where(lacking, value, amount)}
    )
    if column:
        table["industry"] = np.where(lacking, None, np.where(np.arange(N) % 3 == 0, "ships", "trains"))
    deal, stage = np.nonzero(entered < DAYS)
    history = pd.DataFrame(
        {"deal_id": ids[deal], "stage": np.array(GRAPH.stages)[stage], "entered_at": dates[entered[deal, stage]]}
    )
    if told:  # the deals table knows what the history told last
        history["amount"] = np.where((habit == "entered late") & (stage == 0), value, amount[deal])
    return deals_from_frames(table, history, stages=GRAPH)


def foretold(deals: Deals, covariates: tuple[str, ...] = ("log_amount",)) -> Forecast:
    posterior = fit(
        deals, as_of=AS_OF, covariates=covariates, durations="piecewise", inference="fast", draws=200, seed=1
    )
    until = AS_OF + timedelta(days=30)
    return forecast(deals, posterior, as_of=AS_OF, until=until, seed=1, new_business=False)


def wins(made: Forecast) -> float:
    return float(made.deals()["win_probability_by_until"].sum())


def snapshot(deals: Deals, covariates: tuple[str, ...] = ("log_amount",)) -> Snapshot:
    return cut(deals, as_of=AS_OF, covariates=covariates)


@pytest.fixture(scope="module")
def with_all_amounts() -> Forecast:
    return foretold(export("all"))


VALUES = [
    (habit, value)
    for habit in KNOWN_LATER
    for value in (np.nan, 0.0, 1.0)
    if (habit, value) != ("cleared on losing", 1.0)
]
"""Amounts that stand for none; of others than zero it must be the open deals that have them."""


@pytest.mark.parametrize(("habit", "value"), VALUES)
def test_amounts_known_later_leave_wins_and_revenue_as_they_are(
    habit: str, value: float, with_all_amounts: Forecast
) -> None:
    made = foretold(export(habit, value=value))
    assert wins(made) == pytest.approx(wins(with_all_amounts), rel=0.06)
    money = [each.open_cents.sum(axis=(1, 2)).mean() for each in (made, with_all_amounts)]
    assert money[0] == pytest.approx(money[1], rel=0.2)
    assert any("deals without amount are taken for average ones" in text for text in made.warnings)
    said = [text.split(" are taken for missing ones")[0] for text in made.warnings if "for missing ones" in text]
    assert said == ([] if np.isnan(value) else [f"amounts of {value:.0f}"])


@pytest.mark.parametrize("habit", KNOWN_FROM_THE_START)
def test_amounts_lacking_from_the_start_have_a_level_and_raise_no_warning(habit: str) -> None:
    for value, level in ((np.nan, MISSING_NUMBER), (0.0, ZERO), (1.0, None)):
        found = snapshot(export(habit, value=value))
        assert not found.untold
        assert not found.unknown
        assert (level in found.factors[0].levels) == (habit != "all" and level is not None)
        assert found.pipeline.deals["amount"].eq(0.0).any() == (habit != "all" and value == 0.0)


def test_zeros_that_stand_for_missing_amounts_are_none_in_the_open_pipeline_but_stay_in_booked_revenue() -> None:
    deals = export("entered late", value=0.0)
    found = snapshot(deals)
    waiting = found.pipeline.deals
    assert waiting.loc[waiting["stage"] == 0, "amount"].isna().all()
    assert waiting.loc[waiting["stage"] == 1, "amount"].notna().all()
    assert found.won["amount"].notna().all()


def test_an_amount_that_the_history_tells_is_known_at_the_time_and_may_be_missing_before() -> None:
    found = snapshot(export("entered late", told=True))
    assert not found.untold
    assert found.factors[0].levels[-1] == MISSING_NUMBER
    missing = found.cells[found.stays["cell"], 0] == len(found.factors[0].levels) - 1
    np.testing.assert_array_equal(missing, found.stays["stage"] == 0)


def test_a_column_filled_in_later_has_no_level_for_lacking_it() -> None:
    deals = export("entered late", column=True)
    found = snapshot(deals, covariates=("industry",))
    assert found.untold == ("industry",)
    assert found.factors[0].levels == ("ships", "trains")
    assert (found.cells >= 0).all()
    made = foretold(deals, covariates=("industry",))
    assert wins(made) == pytest.approx(wins(foretold(export("all"), covariates=())), rel=0.06)


def test_a_column_lacking_at_random_keeps_its_level() -> None:
    found = snapshot(export("some at random", column=True), covariates=("industry",))
    assert not found.untold
    assert found.factors[0].levels == (MISSING_LEVEL, "ships", "trains")


@pytest.mark.parametrize(("habit", "value"), VALUES)
def test_the_quick_chain_sees_the_same(habit: str, value: float) -> None:
    today = day_of(AS_OF)
    known = known_at(stay_table(export(habit, value=value, log_sd=0.0)), today)
    assert known.habits == AmountHabits(value != 0.0, lacking_tells=False, placeholder=1.0 if value == 1.0 else None)
    told, usual = (
        open_revenue(each, horizons=(30,), seed=1)[0].mean
        for each in (known, known_at(stay_table(export("all", log_sd=0.0)), today))
    )
    assert told == pytest.approx(usual, rel=0.06)


def test_looking_back_takes_amounts_as_the_day_it_looks_from_shows_them() -> None:
    stays, memory = stay_table(export("cleared on losing")), Memory()
    past = past_forecasts(stays, as_of=AS_OF, horizon_days=30, memory=memory, seed=1)
    day = day_of(past["as_of"].iloc[-1].date())
    assert {habits for (habits, *_), _, _ in memory.open} == {AmountHabits(lacking_tells=False)}
    alone = open_revenue(known_at(stays_at(stays, AS_OF), day), horizons=(30, 15), seed=1)
    assert past["mean"].tolist()[-2:] == [each.mean for each in alone]
    first = past["as_of"].iloc[-1].date()
    assert stays_at(stays_at(stays, first), AS_OF).habits == stays_at(stays, first).habits


def test_open_stays_are_counted_at_past_dates_and_closed_deals_by_when_they_began() -> None:
    rng = np.random.default_rng(2)
    entered = np.sort(rng.integers(0, 300, 400))
    left = np.minimum(entered + rng.integers(0, 60, 400), 301)
    one = np.arange(400)
    closes = (left <= 300) & (rng.random(400) < 0.5)
    found = compared(deal=one, stage=0 * one, entered=entered, left=left, closes=closes, wins=closes, as_of=300)
    step = int(np.quantile((left - entered)[left <= 300], 0.9))
    dates = 300 - step * np.arange(2, 9)
    times = [((start <= dates) & (dates < end)).sum() for start, end in zip(entered, left, strict=True)]
    np.testing.assert_array_equal(found.then, times)
    np.testing.assert_array_equal(found.now, left > 300)
    soon = int(np.median((left - entered)[closes]))
    in_time = closes & (left - entered <= soon)
    np.testing.assert_array_equal(found.closed_lately, in_time & (entered > 300 - 2 * soon) & (entered <= 300 - soon))
    np.testing.assert_array_equal(found.closed_before, in_time & (entered <= 300 - 2 * soon))
    assert found.latest_wins.sum() == 20
    assert left[found.latest_wins].min() >= np.sort(left[closes])[-20]


def test_only_the_last_stay_of_a_deal_closes_it() -> None:
    deal, entered = np.array([0, 0, 1]), np.array([0, 9, 0])
    found = compared(
        deal=deal,
        stage=np.array([0, 0, 0]),
        entered=entered,
        left=np.array([9, 12, 200]),
        closes=np.array([True, True, False]),
        wins=np.array([True, True, False]),
        as_of=99,
    )
    assert found.closed_before.tolist() == found.latest_wins.tolist() == [False, True, False]


def test_nothing_is_concluded_from_nothing() -> None:
    none = np.zeros(0, dtype=np.int64)
    nothing = compared(deal=none, stage=none, entered=none, left=none, closes=none > 0, wins=none > 0, as_of=5)
    assert nothing.lack_as_before(none > 0)
    young = compared(
        deal=np.arange(3), stage=np.zeros(3, dtype=np.int64), entered=np.arange(3), left=np.full(3, 9),
        closes=np.zeros(3, dtype=bool),
        wins=np.zeros(3, dtype=bool), as_of=5,
    )  # fmt: skip
    assert young.lack_as_before(np.array([True, True, False]))
    assert amount_habits(np.full(3, np.nan), np.full(3, np.nan), young) == AS_GIVEN


def test_one_stage_that_differs_is_enough() -> None:
    stage, now = np.repeat([0, 1], 100), np.tile(np.arange(100) < 30, 2)
    stays = StaysCompared(stage, now, np.where(now, 0, 1), now & ~now, now & ~now, now & ~now)
    lacking = (stage == 0) & (now | (np.arange(200) % 2 == 0))
    assert not stays.lack_as_before(lacking)
    assert stays.lack_as_before((stage == 0) & (np.arange(200) % 2 == 0))


def test_a_business_that_changes_is_no_habit_of_filling_in() -> None:
    """Deals lacking an amount are new: among those created lately they close without one as well."""
    now, lately = np.repeat([True, False], 100), np.zeros(200, dtype=bool)
    lacking = now & (np.arange(200) % 2 == 0)
    assert not StaysCompared(0 * now.astype(int), now, (~now).astype(int), lately, lately, lately).lack_as_closed(
        lacking
    )
    stage, place = np.zeros(400, dtype=np.int64), np.arange(400)
    lately, before = (place >= 200) & (place < 300), place >= 300
    both = np.concatenate([lacking, (place[:200] < 100) & (place[:200] % 2 == 0)])
    now, then = np.concatenate([now, lately[:200]]), np.concatenate([(~now).astype(int), np.zeros(200, dtype=int)])
    found = StaysCompared(stage, now, then, lately, before, lately & ~lately)
    assert found.lack_as_closed(both)
    assert not found.lack_as_before(both)


def test_wins_at_zero_say_that_zero_is_an_amount() -> None:
    now = np.arange(100) < 30
    stays = StaysCompared(0 * now.astype(int), now, (~now).astype(int), now & ~now, now & ~now, np.arange(100) >= 80)
    for zero_wins, is_amount in ((0, False), (1, False), (2, True)):
        amount = np.where(now | (np.arange(100) >= 100 - zero_wins), 0.0, 5.0)
        assert amount_habits(amount, amount, stays) == AmountHabits(zero_is_amount=is_amount, lacking_tells=False)


@pytest.mark.parametrize(
    ("kept", "won", "placeholder"), [(0, 0, None), (3, 0, None), (4, 0, 250.0), (4, 1, 250.0), (4, 2, None)]
)
def test_an_amount_of_open_deals_is_none_if_closed_ones_kept_it_and_it_is_not_won(
    kept: int, won: int, placeholder: float | None
) -> None:
    """Thirty open deals have it; of those that closed before, seventy, three are less than one in twenty."""
    place = np.arange(100)
    now = place < 30
    stays = StaysCompared(0 * place, now, (~now).astype(int), now & ~now, ~now, place >= 80)
    amount = np.where(now | ((place >= 30) & (place < 30 + kept)) | (place >= 100 - won), 250.0, 5.0 + place)
    assert amount_habits(amount, amount, stays).placeholder == placeholder


def test_spread_codes_follow_the_weights_and_leave_out_what_has_none() -> None:
    codes = spread_codes(np.arange(10_000), np.array([0.0, 3.0, 0.0, 1.0]))
    np.testing.assert_allclose(np.bincount(codes, minlength=4) / 10_000, [0.0, 0.75, 0.0, 0.25], atol=0.001)
    assert spread_codes(np.arange(5), np.zeros(1)).tolist() == [0] * 5


def test_deals_worth_nothing_are_a_class_however_few() -> None:
    amounts = np.array([0.0, 0.004, 5.0, np.nan])
    factor = amount_factor("amount", amounts, lacking_tells=True)
    assert factor.levels == (ZERO, ANY_NUMBER, MISSING_NUMBER)
    assert level_codes(factor, amounts).tolist() == [0, 0, 1, 2]
    assert amount_factor("amount", amounts, lacking_tells=False).levels == (ANY_NUMBER,)
    assert amount_factor("amount", amounts[2:], lacking_tells=True).levels == (ANY_NUMBER, MISSING_NUMBER)


def test_a_history_that_tells_amounts_on_winning_only_leaves_the_tables() -> None:
    """Else an amount missing before it is told would be one that was won."""
    deals = export("some at random")
    entries = deals.entries.copy()
    won = (entries["stage"] == GRAPH.won_codes[0]).to_numpy()
    entries.loc[won, "amount"] = deals.deals["amount"].to_numpy()[entries["deal"].to_numpy()[won]]
    told, plain = snapshot(replace(deals, entries=entries)), snapshot(deals)
    np.testing.assert_array_equal(told.stays["amount"], plain.stays["amount"])
    np.testing.assert_array_equal(told.stays["cell"], plain.stays["cell"])


def test_a_fit_that_took_lacking_for_telling_is_named() -> None:
    fitted = fit(
        export("some at random"), as_of=AS_OF, covariates=("log_amount",), durations="piecewise", inference="fast",
        draws=20, seed=1,
    )  # fmt: skip
    assert has_level_for_lacking(fitted.stage.factors[0])
    until = AS_OF + timedelta(days=30)
    made = forecast(export("cleared on losing"), fitted, as_of=AS_OF, until=until, seed=1, new_business=False)
    assert "the model was fitted as if lacking amount told how deals move: fit again" in made.warnings


def test_a_fit_that_knows_zeros_for_missing_ones_is_not_named() -> None:
    """The history tells amounts from the proposal on, so lacking one tells the stage and not the fate."""
    deals = export("entered late", value=0.0, told=True)
    assert snapshot(deals).unknown == (0.0,)
    made = foretold(deals)
    assert not any("fit again" in text for text in made.warnings)


def test_one_deal_that_lacks_what_none_lacked_when_fitted_is_an_average_one_without_a_word(
    with_all_amounts: Forecast,
) -> None:
    deals = export("all")
    table = deals.deals.copy()
    table.loc[N - 1, "amount"] = np.nan
    posterior = with_all_amounts.posterior
    until = AS_OF + timedelta(days=30)
    made = forecast(replace(deals, deals=table), posterior, as_of=AS_OF, until=until, seed=1, new_business=False)
    assert not any("average" in warning for warning in made.warnings)
    assert wins(made) == pytest.approx(wins(with_all_amounts), rel=0.05)


@pytest.mark.parametrize("now", ["unknown", None, np.nan])
def test_a_number_that_turns_into_text_or_vanishes_after_the_fit_is_no_crash(now: object) -> None:
    deals = export("all")
    seats = deals.deals.assign(seats=np.arange(float(N)))
    fitted = cut(replace(deals, deals=seats), as_of=AS_OF, covariates=("seats",)).factors
    later = seats.assign(seats=np.full(N, now, dtype=object))
    codes = cut(replace(deals, deals=later), as_of=AS_OF, covariates=("seats",), factors=fitted).cells[:, 0]
    assert set(codes) == {UNSEEN_LEVEL}


def test_a_text_column_may_have_a_value_called_any() -> None:
    deals = export("entered late", column=True)
    for values, levels in ((["any", "trains"], ("any", "trains")), (["any", "any"], ("any",))):
        renamed = deals.deals["industry"].replace(["ships", "trains"], values)
        found = snapshot(replace(deals, deals=deals.deals.assign(industry=renamed)), covariates=("industry",))
        assert found.factors[0].levels == levels
        assert (found.cells >= 0).all()


def closed_ones(n: int, *, lost: int, staged: int) -> Deals:
    """Deals closed after ten days, the first ones as lost, the first ones seen in an open stage before; and an open one."""
    ids = [f"D{number:03d}" for number in range(n + 1)]
    created = [str(FIRST + timedelta(days=number)) for number in range(n + 1)]
    rows = [(ids[k], "First", created[k]) for k in range(n + 1) if k < staged or k == n]
    rows += [(ids[k], "Lost" if k < lost else "Won", str(FIRST + timedelta(days=k + 10))) for k in range(n)]
    table = pd.DataFrame({"deal_id": ids, "created_at": created, "amount": 10.0})
    history = pd.DataFrame(rows, columns=["deal_id", "stage", "entered_at"])
    return deals_from_frames(table, history, stages=GRAPH)


@pytest.mark.parametrize(
    ("n", "lost", "staged", "said"),
    [
        (60, 30, 60, []),
        (60, 30, 30, []),
        (60, 30, 29, ["31 of 60 closed deals have no entry into an open stage"]),
        (60, 1, 60, ["1 of 60 closed deals was lost"]),
        (60, 0, 0, ["0 of 60 closed deals were lost", "60 of 60 closed deals have no entry"]),
        (49, 0, 0, []),
    ],
)
def test_closed_deals_that_tell_little_of_open_ones_are_noted(n: int, lost: int, staged: int, said: list[str]) -> None:
    found = cut(closed_ones(n, lost=lost, staged=staged), as_of=FIRST + timedelta(days=n + 20))
    assert (found.closed.n, found.closed.lost, found.closed.never_open) == (n, lost, n - staged)
    assert [note[: len(start)] for note, start in zip(found.notes, said, strict=True)] == said
