"""The backtest: nothing of the future, a planted leak is caught, and the numbers add up."""

import json
import re
import time
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace
from datetime import date, timedelta
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from forecasting.data.deals import Deals, deals_from_frames
from forecasting.data.sample import demo_history
from forecasting.data.snapshot import cut
from forecasting.proof import backtesting as module
from forecasting.proof import past_forecasts
from forecasting.proof.backtest_result import BacktestResult
from forecasting.proof.backtesting import BacktestOptions, Course, backtest, forecast_origin, origin_dates
from forecasting.proof.origin import OriginForecast
from forecasting.proof.stay_table import KnownStays
from forecasting.proof.steps import CHAIN, NO_AMOUNT, NO_ERRORS, NO_LEVELS, PUBLISHED, backtest_steps
from forecasting.proof.workers import origin_workers
from models.errors import SettingsError

FAST = BacktestOptions(durations="piecewise", draws=300)
ORIGINS = [date(2026, 5, 31), date(2026, 6, 30), date(2026, 7, 31)]


@cache
def demo() -> Deals:
    made = demo_history(seed=3, n_deals=500, months=18, faulty_rows=False)
    return deals_from_frames(made.deals, made.stage_history, stages=made.graph, timezone="UTC")


@cache
def result() -> BacktestResult:
    return backtest(demo(), origins=ORIGINS, horizon="30d", options=FAST, seed=1)


QUICK = replace(FAST, draws=100)
ALL_COLUMNS = replace(QUICK, segment=("region",), covariates=("log_amount", "owner"))
"""Everything that could look ahead: attributes as segment and covariate, the amount, calibration of both kinds."""


def with_noise_after(deals: Deals, day: date, *, seed: int) -> Deals:
    """Replace stage, date and amount of everything that happened after the day; deals begun later change altogether."""
    rng = np.random.default_rng(seed)
    entries, table = deals.entries.copy(), deals.deals.copy()
    late = (entries["entered_on"] > pd.Timestamp(day)).to_numpy()
    n = int(late.sum())
    entries.loc[late, "stage"] = rng.integers(0, len(deals.graph.stages), n, dtype=np.int32)
    entries.loc[late, "amount"] = rng.lognormal(12, 2, n)
    entries.loc[late, "entered_on"] += pd.to_timedelta(rng.integers(0, 400, n), unit="D")
    entries.loc[late, "moved"] = True
    first = entries.groupby("deal")["entered_on"].min().reindex(range(len(table)))
    unborn = (first > pd.Timestamp(day)).to_numpy()
    table.loc[unborn, "amount"] = rng.lognormal(12, 2, int(unborn.sum()))
    for name in ("region", "owner", "source"):
        table.loc[unborn, name] = [f"{name} {number}" for number in rng.integers(0, 9, int(unborn.sum()))]
    return replace(deals, deals=table, entries=entries)


def first_origin(deals: Deals, options: BacktestOptions) -> OriginForecast:
    return forecast_origin(Course(deals, options, True, 1), ORIGINS[0], ORIGINS[0] + timedelta(days=30))


def said(made: OriginForecast) -> bytes:
    """All that the forecast said, without what came."""
    arrays = [array for each in (made.draws, made.raw) for array in vars(each).values()]
    told = made.deals[["deal_id", "stage", "probability", "days_p50"]].to_csv().encode()
    points = {name: value for name, value in made.baselines.items() if not name.endswith("_crps")}
    rest = json.dumps([points, made.calibration, made.new_calibration]).encode()
    return b"".join(array.tobytes() for array in arrays) + told + rest


@pytest.mark.parametrize(
    ("options", "seed"),
    [(QUICK, 1), (ALL_COLUMNS, 2), (replace(QUICK, calendar=("weekday", "period_end")), 3)],
    ids=["amounts", "all columns", "calendar"],
)
def test_noise_after_the_origin_changes_no_byte_of_the_forecast(options: BacktestOptions, seed: int) -> None:
    as_it_was, noisy = (
        first_origin(deals, options) for deals in (demo(), with_noise_after(demo(), ORIGINS[0], seed=seed))
    )
    assert said(as_it_was) == said(noisy)
    assert as_it_was.actual != noisy.actual
    for learned in (as_it_was.calibration, as_it_was.new_calibration):
        assert learned is not None
        assert learned["origins"] > 20


def test_origins_a_week_apart_share_their_look_back_and_change_no_byte(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was known on a past day never changes, so its forecast is made once for all origins that look back at it."""
    made: list[tuple[int, tuple[int, ...]]] = []
    real = past_forecasts.open_revenue

    def counted(known: KnownStays, *, horizons: tuple[int, ...], seed: int) -> object:
        made.append((known.as_of, horizons))
        return real(known, horizons=horizons, seed=seed)

    monkeypatch.setattr(past_forecasts, "open_revenue", counted)
    days = [ORIGINS[0] + timedelta(days=7 * week) for week in range(3)]
    course = Course(demo(), QUICK, True, 1)
    together = [said(forecast_origin(course, day, day + timedelta(days=30))) for day in days]
    assert len(made) == len(set(made))
    n_together = len(made)
    alone = [said(forecast_origin(Course(demo(), QUICK, True, 1), day, day + timedelta(days=30))) for day in days]
    assert alone == together
    assert len(made) - n_together > 2 * n_together


@pytest.mark.parametrize("place", ["own_calibration", "own_new_calibration", "cut", "known_at"])
def test_a_planted_leak_is_caught(monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    """Whatever looks two months ahead gives another forecast once these months are noise."""
    real, ahead = getattr(module, place), 60

    def by_date(deals: Deals, **asked: object) -> object:
        later = asked["as_of"] + timedelta(days=ahead)  # type: ignore[operator]
        if place == "cut":  # later stages and amounts under the old date
            return replace(real(deals, **{**asked, "as_of": later}), as_of=asked["as_of"])
        return real(deals, **{**asked, "as_of": later})

    def by_day(stays: object, day: int) -> object:
        return real(stays, day + ahead)

    monkeypatch.setattr(module, place, by_day if place == "known_at" else by_date)
    noisy = with_noise_after(demo(), ORIGINS[0], seed=1)
    assert said(first_origin(demo(), QUICK)) != said(first_origin(noisy, QUICK))


def test_what_came_is_what_was_won_in_time() -> None:
    for row in result().table.itertuples():
        snapshot, later = cut(demo(), as_of=row.as_of.date()), cut(demo(), as_of=row.until.date())
        wins = later.won[later.won["won_on"] > row.as_of]
        ours = wins["deal_id"].isin(snapshot.pipeline.deals["deal_id"])
        assert row.actual == pytest.approx(wins["amount"].sum())
        assert row.actual_open == pytest.approx(wins.loc[ours, "amount"].sum())
        assert row.actual_open_wins == ours.sum()
        assert row.open_deals == snapshot.pipeline.n_deals


def test_summary_restates_the_table() -> None:
    table, summary = result().table, result().summary()
    assert summary["n"] == 3
    assert summary["crps"] == pytest.approx(table["crps"].mean())
    assert summary["open"]["bias"] == pytest.approx(table["open_mean"].sum() / table["actual_open"].sum() - 1)
    inside = (table["p10"] <= table["actual"]) & (table["actual"] <= table["p90"])
    assert summary["coverage"]["80"]["hits"] == inside.sum()
    assert summary["coverage"]["80"]["expected_low"] <= 2.4 <= summary["coverage"]["80"]["expected_high"]
    assert summary["open"]["skill"]["landmark"] == pytest.approx(
        1 - table["open_crps"].mean() / table["open_landmark_crps"].mean()
    )
    assert set(summary["skill"]) == {"cohort_conversion", "run_rate", "last_period"}
    assert set(summary["open"]["skill"]) > set(summary["skill"])
    low, high = summary["crps_range"]
    assert low <= summary["crps"] <= high
    raw = result().summary(calibrated=False)
    assert raw["open"]["crps"] == pytest.approx(result().uncalibrated["open_crps"].mean())
    assert raw["open"]["width"] != summary["open"]["width"]


def promised(heading: str) -> set[str]:
    """Names in a table of the schema page."""
    page = (Path(__file__).parents[2] / "docs" / "schema.md").read_text(encoding="utf-8")
    return set(re.findall(r"`([^`]+)`", page.split(heading)[1].split("\n\n")[1]))


def test_the_json_has_the_promised_names_and_no_others() -> None:
    told = json.loads(json.dumps(with_commits().to_dict(), allow_nan=False))
    quantiles = {"mean", "p025", "p05", "p10", "p25", "p50", "p75", "p90", "p95", "p975"}
    scored = quantiles | {"crps", "pinball", "pit"}
    counted = quantiles - {"p05", "p95"}
    rules = {"cohort_conversion", "run_rate", "last_period"}
    of_open = {"historical_win_rate", "stage_weighted", "landmark", "landmark_by_week", *rules}
    learned = {
        f"{name}_{key}" for name in ("calibration", "new_calibration") for key in ("origins", "bias", "scale", "sd")
    }
    expected = {
        "as_of", "until", "horizon_days", "actual", "actual_open", "actual_new", "open_deals", "actual_wins",
        "actual_open_wins", "deal_brier", "deal_auc", "deal_days_mae", "target", "attainment", "target_reached",
        "attainment_log_score",
        *scored, *(prefix + name for prefix in ("open_", "new_") for name in scored),
        *(prefix + name for prefix in ("wins_", "open_wins_") for name in counted),
        *(name + end for name in rules | {"commit"} for end in ("", "_crps")),
        *(f"open_{name}{end}" for name in of_open for end in ("", "_crps")), *learned,
    }  # fmt: skip
    for row in told["origins"]:
        assert set(row) == expected
        assert row["p05"] <= row["p50"] <= row["p95"]
    assert told["origins"][0]["as_of"] == "2026-05-31"
    assert set(told) == {"horizon", "calibrated", "origins", "summary"}
    parts = {"open", "new", "wins", "open_wins", "attainment", "deals"}
    scores = set(told["summary"]["open"])
    assert set(told["summary"]) == {"n", *scores, *parts}
    assert {"mape", "bias", "median_ape", "crps", "crps_range", "pinball", "width", "coverage", "skill"} < scores
    assert set(told["summary"]["coverage"]) == {"50", "80", "95"}
    names = scores | parts | {"n", *told["summary"]["deals"], *told["summary"]["attainment"], *told["summary"]["wins"]}
    assert names <= promised("### `summary`")
    listed = promised("### `origins`")
    of_rules = {f"{name}_crps" for name in rules | {"commit"}} | {f"open_{name}_crps" for name in of_open}
    for name in expected - listed - of_rules:
        plain = re.sub(r"^(open|new)_(?=mean|p\d|crps|pit|pinball|wins|calibration|cohort|run|last)", "", name)
        assert re.sub(r"^wins_p\d+$|^calibration_.*", "wins_mean", plain) in listed, name


COMMITS = pd.DataFrame(
    {
        "as_of": ["2026-05-31", "2026-06-30", "2026-06-30"],
        "until": [None, "2026-07-30", "2026-12-31"],
        "amount": [4e5, 5e5, 3e6],
        "target": [None, 6e5, None],
    }
)


@cache
def with_commits() -> BacktestResult:
    options = replace(FAST, target=3e5)
    return backtest(demo(), origins=ORIGINS, horizon="30d", options=options, commits=COMMITS, seed=1)


def test_commits_are_scored_where_they_were_told() -> None:
    table, summary = with_commits().table, with_commits().summary()
    assert table["commit"].tolist()[:2] == [4e5, 5e5]
    assert np.isnan(table["commit"].iloc[2])
    np.testing.assert_allclose(table["commit_crps"][:2], (table["commit"] - table["actual"]).abs()[:2])
    ours, theirs = table["crps"][:2].mean(), table["commit_crps"][:2].mean()
    assert summary["skill"]["commit"] == pytest.approx(1 - ours / theirs)
    low, high = summary["skill_range"]["commit"]
    assert low <= summary["skill"]["commit"] <= high
    assert with_commits().table["mean"].tolist() == result().table["mean"].tolist()
    other = pd.DataFrame({"as_of": ["2026-04-30"], "amount": [1.0]})
    with pytest.raises(SettingsError, match=r"commits are of 2026-04-30, and no origin.*origins are 2026-05-31"):
        backtest(demo(), origins=ORIGINS[:1], horizon="30d", options=FAST, commits=other, seed=1)


def test_attainment_is_of_the_target_told_or_else_of_the_last_period() -> None:
    assert with_commits().table["target"].tolist() == [3e5, 6e5, 3e5]
    table = result().table
    assert table["target"].tolist() == table["last_period"].tolist()
    assert (table["target_reached"] == (table["actual"] >= table["target"])).all()
    for row in table.itertuples():
        given = row.attainment if row.target_reached else 1 - row.attainment
        assert row.attainment_log_score == pytest.approx(-np.log((given * 300 + 0.5) / 301))
        level = np.interp(row.target, [row.p05, row.p25, row.p50, row.p75, row.p95], [0.95, 0.75, 0.5, 0.25, 0.05])
        assert row.attainment == pytest.approx(level, abs=0.12)
    summary = result().summary()["attainment"]
    assert summary["log_score"] == pytest.approx(table["attainment_log_score"].mean())
    assert summary["share_reached"] == table["target_reached"].mean()


def test_revenue_and_wins_of_later_deals_are_scored_apart() -> None:
    table, summary = result().table, result().summary()
    np.testing.assert_allclose(table["actual_new"] + table["actual_open"], table["actual"])
    np.testing.assert_allclose(table["new_mean"] + table["open_mean"], table["mean"])
    assert summary["new"]["crps"] == pytest.approx(table["new_crps"].mean())
    raw = result().uncalibrated
    np.testing.assert_allclose(raw["open_wins_mean"], raw["open_wins_p50"], atol=3)  # chances add up to the count
    assert (table["wins_p10"] >= table["open_wins_p10"]).all()
    assert (table["actual_wins"] >= table["actual_open_wins"]).all()
    held = (table["wins_p10"] <= table["actual_wins"]) & (table["actual_wins"] <= table["wins_p90"])
    assert summary["wins"]["coverage"]["80"]["hits"] == held.sum()


def test_days_to_close_are_counted_up_to_the_horizon() -> None:
    entries = demo().entries
    deals = result().deals[result().deals["as_of"] == pd.Timestamp(ORIGINS[0])]
    assert deals["days"].between(1, 30).all()
    assert deals["days_p50"].between(1, 30).all()
    for row in deals.sample(25, random_state=1).itertuples():
        last_day = pd.Timestamp(ORIGINS[0] + timedelta(days=30))
        known = entries[(entries["deal_id"] == row.deal_id) & (entries["entered_on"] <= last_day)]
        last = known.iloc[-1]
        closed = last["stage"] >= demo().graph.n_open
        assert row.closed == closed
        assert row.days == ((last["entered_on"] - row.as_of).days if closed else 30)
    summary = result().summary()["deals"]
    assert summary["remaining_days_mae"] == pytest.approx(
        (result().deals["days_p50"] - result().deals["days"]).abs().mean()
    )


def test_steps_restate_the_backtests_they_are_made_of() -> None:
    seen: list[tuple[str, int, int]] = []
    steps = backtest_steps(
        demo(), origins=ORIGINS[:2], horizon="30d", options=FAST, seed=1, progress=lambda *told: seen.append(told)
    ).set_index(["source", "step"])
    assert seen[-1] == (NO_AMOUNT, 6, 6)
    assert list(steps.loc["open"].index) == [PUBLISHED, NO_ERRORS, NO_LEVELS, NO_AMOUNT, CHAIN]
    first, bare = result().table[:2], replace(FAST, covariates=(), levels=False)
    assert steps.loc[("open", PUBLISHED), "crps"] == pytest.approx(first["open_crps"].mean())
    assert steps.loc[("total", NO_ERRORS), "crps"] == pytest.approx(result().uncalibrated["crps"][:2].mean())
    alone = backtest(demo(), origins=ORIGINS[:2], horizon="30d", options=bare, calibrate=False, seed=1)
    assert steps.loc[("open", CHAIN), "crps"] == pytest.approx(alone.table["open_crps"].mean())
    assert not np.isclose(steps.loc[("open", NO_LEVELS), "crps"], steps.loc[("open", PUBLISHED), "crps"], rtol=1e-6)


def test_few_origins_stay_here_and_many_go_to_processes() -> None:
    with origin_workers(3) as none:
        assert none is None
    with origin_workers(20, processes=2) as pool:
        assert isinstance(pool, ProcessPoolExecutor)
    with pytest.raises(SettingsError, match="at least 1"), origin_workers(3, processes=0):
        pass


def test_what_nobody_has_begun_is_not_waited_for() -> None:
    waiting: list[Future[None]] = []

    def stopped() -> None:
        with origin_workers(60, processes=2) as pool:
            assert pool is not None
            waiting.extend(pool.submit(time.sleep, 0.2) for _ in range(60))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert sum(each.cancelled() for each in waiting) > 40


@pytest.mark.slow
def test_processes_and_a_cluster_give_the_same_numbers() -> None:
    from distributed import Client, LocalCluster

    with origin_workers(3, processes=2) as pool:
        by_process = backtest(demo(), origins=ORIGINS, horizon="30d", options=FAST, executor=pool, seed=1)
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster, Client(cluster) as client:
        executor = client.get_executor()
        by_cluster = backtest(demo(), origins=ORIGINS, horizon="30d", options=FAST, executor=executor, seed=1)
    for other in (by_process, by_cluster):
        pd.testing.assert_frame_equal(other.table, result().table, check_exact=True)


def test_an_executor_gives_the_same_numbers_and_progress_counts() -> None:
    seen: list[tuple[int, int]] = []
    with ThreadPoolExecutor(2) as executor:
        other = backtest(
            demo(), origins=ORIGINS, horizon="30d", options=FAST, executor=executor, seed=1,
            progress=lambda _, done, of: seen.append((done, of)),
        )  # fmt: skip
    pd.testing.assert_frame_equal(other.table, result().table, check_exact=True)
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_an_origin_alone_is_the_origin_among_others() -> None:
    alone = backtest(demo(), origins=[ORIGINS[1]], horizon="30d", options=FAST, seed=1)
    assert alone.table.iloc[0]["open_mean"] == result().table.iloc[1]["open_mean"]


def test_without_calibration_and_new_business_it_says_less() -> None:
    options = replace(FAST, new_business=False, window_days=365)
    plain = backtest(demo(), origins=ORIGINS[:1], horizon="30d", options=options, calibrate=False, seed=1)
    assert "calibration_sd" not in plain.table
    assert plain.table.iloc[0]["mean"] == plain.table.iloc[0]["open_mean"]
    assert plain.summary()["crps"] == plain.summary()["open"]["crps"]
    assert plain.table.iloc[0]["open_mean"] != result().table.iloc[0]["open_mean"]


def test_probabilities_of_deals_are_scored() -> None:
    table = result().reliability(bins=4)
    assert table["n"].sum() == len(result().deals)
    assert 0.5 < result().summary()["deals"]["auc"] <= 1.0
    assert result().table["open_wins_mean"].sum() == pytest.approx(result().deals["probability"].sum())


def test_origins_at_equal_steps() -> None:
    assert origin_dates("2011-12-04", "2012-02-12", every="7d")[-1] == date(2012, 2, 12)
    assert [d.month for d in origin_dates("2017-01-01", "2017-12-31", every="quarter")] == [3, 6, 9, 12]
    assert origin_dates("2017-06-30", "2018-06-30", every="month")[0] == date(2017, 6, 30)
    with pytest.raises(SettingsError, match="every must be a number of days"):
        origin_dates("2017-01-01", "2017-12-31", every="fortnight")
    with pytest.raises(SettingsError, match="no origin lies between"):
        origin_dates("2017-01-02", "2017-01-20", every="month")


def test_a_horizon_that_has_not_closed_is_refused() -> None:
    with pytest.raises(SettingsError, match="before the horizons of these origins close: 2026-09-20"):
        backtest(demo(), origins=["2026-09-20"], horizon="30d", options=FAST, seed=1)
    with pytest.raises(SettingsError, match="at least one origin"):
        backtest(demo(), origins=[], horizon="30d", options=FAST, seed=1)


def test_an_origin_before_the_first_win_is_forecast_and_one_before_the_first_deal_refused() -> None:
    first = demo().entries["entered_on"].min().date()
    day = cut(demo(), as_of=ORIGINS[-1]).won["won_on"].min().date() - timedelta(days=1)
    young = backtest(demo(), origins=[day], horizon="28d", options=QUICK, seed=1)
    row = young.table.iloc[0]
    assert 0.0 <= row["p10"] <= row["mean"]
    assert row["p975"] > 0.0
    with pytest.raises(SettingsError, match="nothing was known at these origins"):
        backtest(demo(), origins=[first - timedelta(days=1)], horizon="28d", options=FAST, seed=1)


def test_levels_of_the_posterior_are_not_learned_since_they_would_change_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    snapshot, until = cut(demo(), as_of=ORIGINS[0]), ORIGINS[0] + timedelta(days=30)
    made = module.forecast_past(snapshot, until, QUICK, 1)
    plain = module.fit_snapshot
    monkeypatch.setattr(module, "fit_snapshot", lambda known, *, spec, levels: plain(known, spec=spec))
    learned = module.forecast_past(snapshot, until, QUICK, 1)
    assert made.posterior.levels is None
    assert learned.posterior.levels is not None
    np.testing.assert_array_equal(made.open_cents, learned.open_cents)
    np.testing.assert_array_equal(made.new_cents, learned.new_cents)
    pd.testing.assert_frame_equal(made.deal_table, learned.deal_table)
