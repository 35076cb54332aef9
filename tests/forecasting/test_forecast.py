"""Laws of a forecast: everything adds up, answers agree with the draws, and closed forms hold."""

from dataclasses import replace
from datetime import date, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pytest
from deal_fates import deal_fates
from planted_floor import (
    AS_OF,
    GRAPH,
    open_pipeline,
    planted_amounts,
    planted_arrivals,
    planted_stage,
    posterior_of,
    sales_floor,
    snapshot_of,
)
from scipy import stats

from forecasting.answers.forecasts import Forecast, forecast, forecast_snapshot, with_calibration, worth_of_open
from forecasting.answers.levels import moved_in_time
from forecasting.answers.revenue import LEVELS, QUANTILES, SOURCES, Span, cents_in, target_cents, target_span
from forecasting.data.deals import Deals, deals_from_frames
from forecasting.fitting import fit, fit_spec
from forecasting.proof.calibration import learn
from forecasting.proof.new_calibration import NewCalibration
from forecasting.proof.past_forecasts import NO_PAST
from models.errors import EmptyInputError, SettingsError
from models.posterior import ModelSpec

MONTH_START = AS_OF.replace(day=1)
UNTIL = AS_OF + timedelta(days=60)


@pytest.fixture(scope="module")
def floor() -> Forecast:
    return sales_floor()


def plain(
    *, draws: int = 4000, days: int = 20, weekly: dict[str, float] | None = None, deals: int = 0, seed: int = 1
) -> Forecast:
    """Deals in the second stage that win with probability 0.04 and are lost with 0.03 a day, 1,000 each."""
    pipeline = open_pipeline([(f"D{place}", 1, place % 7, 1000.0, "") for place in range(deals)])
    posterior = posterior_of(
        planted_stage(draws), planted_amounts(draws), planted_arrivals(draws, weekly=weekly or {}, stage=1)
    )
    return forecast_snapshot(snapshot_of(pipeline), posterior, until=AS_OF + timedelta(days=days), seed=seed)


def win_chance(days: int) -> float:
    return 4 / 7 * (1 - 0.93**days)


def test_open_revenue_is_binomial() -> None:
    wins = plain(deals=12).revenue_draws(source="open").sum(axis=1).to_numpy() / 1000
    exact = stats.binom(12, win_chance(20))
    assert wins.mean() == pytest.approx(exact.mean(), abs=4 * exact.std() / np.sqrt(len(wins)))
    assert wins.var() == pytest.approx(exact.var(), rel=0.1)


def test_new_revenue_is_a_thinned_poisson() -> None:
    """A deal created on day t may be won on that day already: lags of 1 .. 20 days of chance."""
    wins = plain(weekly={"": 14.0}).revenue_draws(source="new").sum(axis=1).to_numpy() / 1000
    mean = 2 * sum(win_chance(lag) for lag in range(1, 21))
    assert wins.mean() == pytest.approx(mean, abs=4 * np.sqrt(mean / len(wins)))
    assert wins.var() == pytest.approx(mean, rel=0.1)


def test_deal_columns_have_their_closed_forms() -> None:
    table = plain(deals=8).deals()
    np.testing.assert_allclose(table["win_probability"], 4 / 7, atol=1e-9)
    np.testing.assert_allclose(table["win_probability_by_until"], win_chance(20), atol=1e-9)
    np.testing.assert_allclose(table["stall_percentile"], 1 - 0.93 ** (table["days_in_stage"] + 1), atol=1e-9)
    for column, level in {"close_date_p10": 0.1, "close_date_p50": 0.5, "close_date_p90": 0.9}.items():
        days = int(np.ceil(np.log(1 - level) / np.log(0.93)))
        assert (table[column] == pd.Timestamp(AS_OF + timedelta(days=days))).all()


def test_sources_and_segments_add_up_in_every_draw(floor: Forecast) -> None:
    span = Span(MONTH_START, UNTIL)
    parts = {source: cents_in(floor, span, source) for source in SOURCES}
    np.testing.assert_array_equal(parts["total"], parts["booked"] + parts["open"] + parts["new"])
    for source in SOURCES:
        by_segment = sum(cents_in(floor, span, source, segment=label) for label in floor.segments)
        np.testing.assert_array_equal(by_segment, parts[source])


@pytest.mark.parametrize("period", ["day", "week", "month", "quarter", "year"])
def test_periods_add_up_to_the_whole(floor: Forecast, period: str) -> None:
    draws = floor.revenue_draws(period)  # type: ignore[arg-type]
    whole = cents_in(floor, Span(draws.columns[0].date(), UNTIL), "total") / 100
    np.testing.assert_allclose(draws.sum(axis=1), whole, rtol=1e-12)


def test_booked_is_counted_once_and_is_certain(floor: Forecast) -> None:
    table = floor.revenue("quarter")
    booked = table[table["source"] == "booked"].set_index("period_start")
    won = floor.booked
    expected = won.loc[won["won_on"] >= pd.Timestamp(2026, 7, 1), "amount"].sum()
    assert booked.loc[pd.Timestamp(2026, 7, 1), ["mean", "p05", "p95"]].tolist() == pytest.approx([expected] * 3)
    assert booked.iloc[1:]["mean"].sum() == 0
    assert cents_in(floor, Span(AS_OF + timedelta(days=1), UNTIL), "booked").sum() == 0


def test_revenue_table(floor: Forecast) -> None:
    table = floor.revenue("month", by_segment=True)
    ranges = [*QUANTILES, *(f"{side}_{100 * level:g}" for level in LEVELS for side in ("lower", "upper"))]
    assert list(table.columns) == ["period_start", "period_end", "source", "segment", "mean", *ranges]
    assert table["period_start"].unique().tolist() == [pd.Timestamp(2026, m, 1) for m in (9, 10, 11)]
    assert table["period_end"].max() == pd.Timestamp(UNTIL)
    assert (table[list(QUANTILES)].diff(axis=1).iloc[:, 1:] >= 0).all(axis=None)
    assert (table["lower_95"] <= table["lower_80"]).all()
    assert (table["upper_80"] <= table["upper_95"]).all()
    np.testing.assert_allclose(table["lower_80"], table["p10"])
    means = table.pivot_table(index="period_start", columns="source", values="mean", aggfunc="sum")
    np.testing.assert_allclose(means["total"], means[["booked", "open", "new"]].sum(axis=1))


def test_fiscal_quarters_shift(floor: Forecast) -> None:
    starts = floor.revenue("quarter", fiscal_year_start=2)["period_start"].unique()
    assert starts.tolist() == [pd.Timestamp(2026, 8, 1), pd.Timestamp(2026, 11, 1)]


def test_attainment_is_the_share_of_draws(floor: Forecast) -> None:
    total = floor.revenue_draws("quarter").iloc[:, 0].to_numpy()
    target = float(np.quantile(total, 0.3))
    reached = floor.attainment(target=target, by="2026-09-30", period="quarter")
    assert reached == np.mean(total >= target)


def test_attainment_falls_with_the_target_and_rises_with_the_date(floor: Forecast) -> None:
    targets = np.linspace(0, 2e5, 30)
    falling = [floor.attainment(target=target, by=UNTIL) for target in targets]
    assert falling[0] == 1
    assert (np.diff(falling) <= 0).all()
    days = [AS_OF + timedelta(days=day) for day in range(1, 61, 7)]
    rising = [floor.attainment(target=60_000, by=day) for day in days]
    assert (np.diff(rising) >= 0).all()


def test_since_leaves_out_what_came_before(floor: Forecast) -> None:
    tomorrow = AS_OF + timedelta(days=1)
    assert floor.attainment(target=1, by=tomorrow, since=tomorrow) < 1
    assert floor.attainment(target=1, by=tomorrow) == 1
    early = floor.attainment(target=70_000, by=UNTIL, since="2026-06-01")
    assert early >= floor.attainment(target=70_000, by=UNTIL)


def test_a_cent_below_the_target_is_not_the_target() -> None:
    assert target_cents(0.1 + 0.2) == 30
    assert target_cents(10.001) == 1001


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"by": UNTIL + timedelta(days=1)}, "not after the end of the forecast"),
        ({"by": AS_OF}, "must lie after the as-of date"),
        ({"by": UNTIL, "since": UNTIL + timedelta(days=1)}, "choose an earlier start"),
        ({"by": "soon"}, "by must be a date"),
        ({"by": UNTIL, "target": -1.0}, "zero or more"),
        ({"by": UNTIL, "target": np.nan}, "zero or more"),
        ({"by": UNTIL, "period": "fortnight"}, "period must be one of"),
    ],
)
def test_bad_targets_are_named(floor: Forecast, changes: dict[str, object], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        floor.attainment(**{"target": 1.0, **changes})  # type: ignore[arg-type]


def test_bad_tables_are_named(floor: Forecast) -> None:
    with pytest.raises(SettingsError, match="levels are probabilities"):
        floor.revenue(levels=(80,))
    with pytest.raises(SettingsError, match="unknown segment 'West'"):
        floor.revenue_draws(segment="West")
    with pytest.raises(SettingsError, match="source must be one of"):
        floor.revenue_draws(source="old")  # type: ignore[arg-type]


def test_seeds_reproduce(floor: Forecast) -> None:
    again, other = sales_floor(), sales_floor(seed=4)
    np.testing.assert_array_equal(floor.open_cents, again.open_cents)
    np.testing.assert_array_equal(floor.new_cents, again.new_cents)
    assert (floor.open_cents != other.open_cents).any()


def test_fewer_draws_or_days_are_part_of_more() -> None:
    whole, fewer, shorter = plain(draws=200, deals=9), plain(draws=64, deals=9), plain(draws=200, deals=9, days=11)
    np.testing.assert_array_equal(whole.open_cents[:64], fewer.open_cents)
    np.testing.assert_array_equal(whole.open_cents[:, :11], shorter.open_cents)


def test_swings_are_the_conditional_difference(floor: Forecast) -> None:
    """By brute force: the forecast of a floor where one deal's win is certain, or its loss, all else being equal."""
    span = target_span(floor, by=UNTIL)
    target = float(np.median(cents_in(floor, span, "total"))) / 100
    table = floor.deals(target=target, by=UNTIL).set_index("deal_id")
    total = cents_in(floor, span, "total")
    deal = floor.pipeline.deals.query("amount > 3000").iloc[0]
    alone = replace(floor.pipeline, deals=floor.pipeline.deals.query("deal_id == @deal.deal_id"))
    own = forecast_snapshot(
        snapshot_of(alone), floor.posterior, until=UNTIL, seed=floor.seed, new_business=False
    ).open_cents.sum(axis=(1, 2))
    goal = target_cents(target)
    lost = total - own >= goal
    won = np.where(own > 0, total >= goal, total - own + int(100 * deal["amount"]) >= goal)
    swing = won.mean() - lost.mean()
    # amounts that change at the win are drawn anew where the deal was lost: one draw in five
    assert table.loc[deal["deal_id"], "target_swing"] == pytest.approx(swing, abs=0.03)
    assert table["target_swing"].between(0, 1).all()


def test_swings_count_the_draws_that_a_deal_decides(floor: Forecast) -> None:
    from forecasting.answers.deal_table import target_swing
    from forecasting.engine.deal_groups import group_deals

    deals = group_deals(floor.pipeline, floor.posterior.amounts)
    order = np.argsort(deals.group_of_deal, kind="stable")
    for span in (Span(MONTH_START, UNTIL), Span(AS_OF + timedelta(days=10), AS_OF + timedelta(days=33))):
        total = cents_in(floor, span, "total")
        won, cents = deal_fates(floor, deals, np.arange(floor.draws), span=span)
        for goal in np.quantile(total, [0.3, 0.5, 0.9]).astype(np.int64).tolist():
            without = total[:, None] - won * cents
            expected = np.zeros(floor.pipeline.n_deals)
            expected[order] = ((without < goal) & (without + cents >= goal)).mean(axis=0)
            assert expected.max() > 0.0
            np.testing.assert_allclose(target_swing(floor, span, total=total, goal=goal), expected, atol=1e-12)


def test_deals_add_up_to_the_open_revenue(floor: Forecast) -> None:
    from forecasting.engine.deal_groups import group_deals

    deals = group_deals(floor.pipeline, floor.posterior.amounts)
    for span in (Span(MONTH_START, UNTIL), Span(AS_OF + timedelta(days=10), AS_OF + timedelta(days=33))):
        won, cents = deal_fates(floor, deals, np.arange(floor.draws), span=span)
        np.testing.assert_array_equal((won * cents).sum(axis=1), cents_in(floor, span, "open"))


def test_calibration_keeps_everything_coherent(floor: Forecast) -> None:
    prior = learn(NO_PAST, horizon_days=60, age_days=700)
    wide = with_calibration(floor, prior, seed=2)
    assert wide.calibration is prior
    open_total, raw = (f.open_cents.sum(axis=(1, 2)) for f in (wide, floor))
    np.testing.assert_allclose(open_total, raw * wide.open_factor, atol=100)
    weeks, years = (wide.revenue_draws(period, source="open").sum(axis=1) for period in ("week", "year"))  # type: ignore[arg-type]
    np.testing.assert_allclose(weeks, years, rtol=1e-12)
    ratio = np.log(wide.new_cents.sum(axis=(1, 2)) / floor.new_cents.sum(axis=(1, 2)))
    np.testing.assert_allclose(ratio, np.log(wide.new_factor), atol=1e-3)
    assert np.corrcoef(np.log(wide.open_factor), np.log(wide.new_factor))[0, 1] > 0.9
    with pytest.raises(SettingsError, match="calibrated already"):
        with_calibration(wide, prior, seed=2)


def test_a_season_moves_revenue_between_days_and_nothing_else(floor: Forecast) -> None:
    plain = learn(NO_PAST, horizon_days=60, age_days=700)
    half, days = floor.horizon_days // 2, floor.horizon_days
    season = np.repeat([0.5, 1.5], [half, days - half])
    usual, moved = (with_calibration(floor, replace(plain, season=each), seed=2) for each in (np.ones(0), season))
    for before, after in ((usual.open_cents, moved.open_cents), (usual.new_cents, moved.new_cents)):
        np.testing.assert_allclose(after.sum(axis=1), before.sum(axis=1), atol=days)
    for raw in (floor.open_cents, floor.new_cents):
        came = raw.sum(axis=(0, 2))
        after = moved_in_time(raw, season)
        np.testing.assert_allclose(
            after.sum(axis=(0, 2)), came * season * came.sum() / (came * season).sum(), rtol=1e-9
        )
        later = [np.cumsum(each, axis=1)[:, :-1].sum() for each in (raw, after)]
        assert later[1] < 0.9 * later[0]
    none = NewCalibration(learn(NO_PAST, horizon_days=60, age_days=700))
    of_new = [with_calibration(floor, replace(plain, season=each), seed=2, new=none) for each in (np.ones(0), season)]
    came = floor.new_cents.sum(axis=(0, 2))
    ratio = of_new[1].new_cents.sum() / of_new[0].new_cents.sum()
    assert ratio == pytest.approx((came @ season) / came.sum(), rel=0.01)
    single = np.zeros((4, 10, 3), dtype=np.int64)
    single[np.arange(4), [0, 3, 5, 9], [0, 1, 2, 0]] = 100  # one win in a draw moves as well
    moved_single = moved_in_time(single, np.repeat([0.5, 1.5], 5))
    np.testing.assert_allclose(moved_single.sum(axis=(0, 2))[:5].sum(), 100.0)
    np.testing.assert_allclose(moved_single.sum(axis=1), single.sum(axis=1))
    assert moved_in_time(single * 0, np.repeat([0.5, 1.5], 5)).sum() == 0


def test_what_is_entered_as_won_has_no_season_of_the_pipeline(floor: Forecast) -> None:
    plain = learn(NO_PAST, horizon_days=60, age_days=400)
    none, half = NewCalibration(plain), floor.horizon_days // 2
    season = np.repeat([0.2, 1.8], [half, floor.horizon_days - half])
    mixed = replace(floor, at_once_cents=floor.new_cents // 2)
    usual, seasonal = (
        with_calibration(mixed, replace(plain, season=each), seed=2, new=none) for each in (np.ones(0), season)
    )
    at_once, staged = [], []
    for made in (usual, seasonal):
        assert made.at_once_cents is not None
        at_once.append(made.at_once_cents.sum(axis=(0, 2)))
        staged.append((made.new_cents - made.at_once_cents).sum(axis=(0, 2)))
    halves = [0, half]
    np.testing.assert_allclose(*(np.add.reduceat(each, halves) for each in at_once), rtol=0.05)
    first, second = (np.add.reduceat(each, halves) for each in staged)
    np.testing.assert_allclose(second / first, [0.2, 1.8], rtol=0.05)


def test_no_error_makes_open_deals_bring_more_than_they_are_worth(floor: Forecast) -> None:
    from forecasting.engine.deal_groups import group_deals

    errors = np.random.default_rng(1).normal(0.0, 2.0, 60)
    past = pd.DataFrame(
        {"horizon_days": 60.0, "age_days": 700.0, "days_since": 0.0, "mean": 1.0, "sd": 0.1}, index=range(60)
    )
    past = past.assign(actual=np.exp(errors), as_of=pd.date_range("2024-01-01", periods=60))
    worth = worth_of_open(floor) * 100
    deals = group_deals(floor.pipeline, floor.posterior.amounts)
    _, cents = deal_fates(floor, deals, np.arange(floor.draws), span=Span(MONTH_START, UNTIL))
    assert worth.mean() == pytest.approx(cents.sum(axis=1).mean(), rel=0.03)
    wild = with_calibration(floor, learn(past, horizon_days=60, age_days=700), seed=2)
    told, raw = (each.open_cents.sum(axis=(1, 2)) for each in (wild, floor))
    most = np.maximum(worth, raw)
    assert (told <= most * 1.001).all()
    assert (told > most * 0.99).mean() > 0.05


def test_an_empty_pipeline_still_has_new_business() -> None:
    made = plain(draws=50, weekly={"": 7.0})
    assert made.open_cents.sum() == 0
    assert made.new_cents.sum() > 0
    assert made.deals().empty
    assert any("no deal is open" in text for text in made.warnings)
    assert (made.revenue().query("source == 'open'")["mean"] == 0).all()


def test_without_new_business_there_is_none() -> None:
    posterior = posterior_of(planted_stage(20), planted_amounts(20), planted_arrivals(20, weekly={"": 50.0}))
    pipeline = open_pipeline([("A", 1, 3, 10.0, "")])
    made = forecast_snapshot(snapshot_of(pipeline), posterior, until=UNTIL, seed=1, new_business=False)
    assert made.new_cents.sum() == 0


def test_amounts_that_are_missing_are_said_to_be(floor: Forecast) -> None:
    assert any("of 80 open deals have no amount" in text for text in floor.warnings)
    assert floor.deals()["amount"].isna().sum() == 9


def deals_until(last: str) -> Deals:
    """Forty deals that reach the second stage, some closing after the as-of date; rows up to ``last``."""
    ids = [f"D{place:02d}" for place in range(40)]
    created = pd.date_range("2026-07-20", periods=40).astype(str)
    steps = [(ids, "Lead", created), (ids, "Proposal", pd.date_range("2026-07-25", periods=40).astype(str))]
    steps += [(ids[::3], "Won", pd.date_range("2026-09-01", periods=14, freq="3D").astype(str))]
    rows = [pd.DataFrame({"deal_id": who, "stage": stage, "entered_at": when}) for who, stage, when in steps]
    history = pd.concat(rows).query("entered_at <= @last")
    table = pd.DataFrame({"deal_id": ids, "created_at": created, "amount": 1000.0})
    return deals_from_frames(table[table["created_at"] <= last], history, stages=GRAPH, currency="EUR")


def test_before_the_first_win_there_is_a_range_and_a_warning() -> None:
    young = deals_until("2026-08-20")
    spec = ModelSpec(durations="piecewise", inference="fast", draws=200, seed=1)
    posterior = fit_spec(young, as_of="2026-08-20", spec=spec)
    made = forecast(young, posterior, as_of="2026-08-20", until="2026-11-20", seed=1)
    assert any("no deal was won with an amount by 2026-08-20" in text for text in made.warnings)
    revenue = made.revenue_draws("year", source="open").sum(axis=1)
    assert revenue.quantile(0.1) < revenue.quantile(0.9) <= 40_000.0


@pytest.mark.parametrize(
    ("asked", "said"),
    [({"inference": "NUTS"}, "inference"), ({"seed": 2**63}, "seed"), ({"seed": -1}, "seed"), ({"seed": "1"}, "seed")],
)
def test_what_models_cannot_be_asked_is_refused(asked: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        ModelSpec(**asked)


def test_a_seed_of_numpy_is_a_plain_number() -> None:
    spec = ModelSpec(seed=np.int64(5))  # type: ignore[arg-type]
    assert (spec.seed, type(spec.seed)) == (5, int)
    posterior = posterior_of(planted_stage(4), planted_amounts(4), planted_arrivals(4, weekly={"": 1.0}))
    seeds = 7, np.int64(7)
    one, other = (forecast(deals_until(str(AS_OF)), posterior, as_of=AS_OF, until=UNTIL, seed=each) for each in seeds)
    np.testing.assert_array_equal(one.open_cents, other.open_cents)
    with pytest.raises(SettingsError, match="as seed, got -1"):
        forecast(deals_until(str(AS_OF)), posterior, as_of=AS_OF, until=UNTIL, seed=-1)


def test_a_year_without_a_win_is_taken_for_a_wrong_setting() -> None:
    with pytest.raises(EmptyInputError, match=r"a year has gone by: check stages\.won"):
        fit_spec(deals_until("2026-08-28"), as_of="2027-08-20", spec=ModelSpec(inference="fast", draws=200, seed=1))


def test_the_future_is_not_seen() -> None:
    """From deals on: what is recorded after the as-of date changes nothing, and wins up to it are booked."""
    posterior = posterior_of(planted_stage(64), planted_amounts(64), planted_arrivals(64, weekly={"": 3.0}))
    known, later = (
        forecast(deals_until(last), posterior, as_of=str(AS_OF), until=str(UNTIL), seed=1)
        for last in (str(AS_OF), "2026-12-31")
    )
    np.testing.assert_array_equal(known.open_cents, later.open_cents)
    pd.testing.assert_frame_equal(known.deals(), later.deals())
    pd.testing.assert_frame_equal(known.booked, later.booked)
    assert (known.currency, len(known.booked), known.pipeline.n_deals) == ("EUR", 5, 35)
    assert known.data_quality is not None


def test_a_posterior_of_other_stages_is_refused() -> None:
    others = replace(planted_stage(4), graph=replace(GRAPH, open=tuple(reversed(GRAPH.open))))
    posterior = posterior_of(others, planted_amounts(4), planted_arrivals(4, weekly={}))
    with pytest.raises(SettingsError, match="fitted with the stages"):
        forecast(deals_until(str(AS_OF)), posterior, as_of=AS_OF, until=UNTIL, seed=1)


def test_dates_must_make_sense() -> None:
    posterior = posterior_of(planted_stage(4), planted_amounts(4), planted_arrivals(4, weekly={}))
    snapshot = snapshot_of(open_pipeline([]))
    with pytest.raises(SettingsError, match="must end after the as-of date"):
        forecast_snapshot(snapshot, posterior, until=AS_OF, seed=1)
    with pytest.raises(SettingsError, match="too far ahead"):
        forecast_snapshot(snapshot, posterior, until=date(2300, 1, 1), seed=1)
    with pytest.raises(SettingsError, match="fitted on what was known on 2026-12-31"):
        forecast_snapshot(snapshot, replace(posterior, as_of=date(2026, 12, 31)), until=UNTIL, seed=1)
    older = replace(posterior, as_of=AS_OF - timedelta(days=9))
    made = forecast_snapshot(snapshot, older, until=UNTIL, seed=1)
    assert any("fitted as of 2026-09-06" in text for text in made.warnings)


@pytest.mark.parametrize(
    ("every", "silent", "told"),
    [(1, 6, False), (1, 7, True), (7, 13, False), (7, 14, True), (40, 44, False), (40, 45, True)],
)
def test_a_gap_twice_as_long_as_any_of_the_last_year_asks_for_the_export(every: int, silent: int, told: bool) -> None:
    days = pd.date_range("2025-01-01", periods=800 // every, freq=f"{every}D").strftime("%Y-%m-%d")
    ids = [f"D{place}" for place in range(len(days))]
    table = pd.DataFrame({"deal_id": ids, "created_at": days, "amount": 10.0})
    entries = pd.DataFrame({"deal_id": ids, "stage": GRAPH.open[0], "entered_at": days})
    won = pd.DataFrame({"deal_id": ids[:-9], "stage": GRAPH.won[0], "entered_at": days[9:]})
    deals = deals_from_frames(table, pd.concat([entries, won]), stages=GRAPH)
    last = date.fromisoformat(days[-1])
    posterior = fit(deals, as_of=last, covariates=(), durations="piecewise", inference="fast", draws=5, seed=1)
    as_of = last + timedelta(days=silent)
    made = forecast(deals, posterior, as_of=as_of, until=as_of + timedelta(days=5), seed=1)
    assert any(f"nothing was recorded in the {silent} days up to {as_of}" in text for text in made.warnings) == told


def test_rows_left_out_are_told_with_the_forecast() -> None:
    table = pd.DataFrame({"deal_id": ["A", "B", "C"], "created_at": "2026-01-05", "amount": [10.0, 10.0, -1.0]})
    rows = [(name, GRAPH.open[0], "2026-01-05") for name in "ABC"] + [("A", GRAPH.won[0], "2026-02-01")]
    deals = deals_from_frames(table, pd.DataFrame(rows, columns=["deal_id", "stage", "entered_at"]), stages=GRAPH)
    posterior = fit(deals, as_of="2026-02-02", covariates=(), durations="piecewise", inference="fast", draws=5, seed=1)
    made = forecast(deals, posterior, as_of="2026-02-02", until="2026-03-02", seed=1)
    assert any(text.startswith("1 of 3 rows of deals are left out") for text in made.warnings)
