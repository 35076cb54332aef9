"""The backtest: nothing of the future, a planted leak is caught, and the numbers add up."""

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import date, timedelta
from functools import cache

import numpy as np
import pandas as pd
import pytest

from forecasting.data.deals import Deals, deals_from_frames
from forecasting.data.sample import demo_history
from forecasting.data.snapshot import cut
from forecasting.proof import backtesting as module
from forecasting.proof.backtest_result import BacktestResult
from forecasting.proof.backtesting import BacktestOptions, OriginForecast, backtest, forecast_origin, origin_dates
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
    return replace(deals, deals=table, entries=entries)


def forecast_bytes(made: OriginForecast) -> bytes:
    """All that the forecast said, without what came."""
    arrays = (made.open_draws, made.total_draws, made.raw_open_draws, made.raw_total_draws)
    told = made.deals[["deal_id", "probability"]].to_csv().encode()
    points = {name: value for name, value in made.baselines.items() if not name.endswith("_crps")}
    return b"".join(array.tobytes() for array in arrays) + told + json.dumps([points, made.calibration]).encode()


@pytest.mark.parametrize(("seed", "calendar"), [(1, ()), (2, ("weekday", "period_end"))])
def test_noise_after_the_origin_changes_no_byte_of_the_forecast(seed: int, calendar: tuple[str, ...]) -> None:
    origin, until = ORIGINS[0], ORIGINS[0] + timedelta(days=30)
    options = replace(FAST, calendar=calendar)
    as_it_was = forecast_origin(demo(), origin, until, options, True, 1)
    noisy = forecast_origin(with_noise_after(demo(), origin, seed=seed), origin, until, options, True, 1)
    assert as_it_was.calibration is not None
    assert as_it_was.calibration["origins"] > 20
    assert forecast_bytes(as_it_was) == forecast_bytes(noisy)
    assert as_it_was.actual != noisy.actual


def test_a_planted_leak_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    def peeking(deals: Deals, *, as_of: date, horizon_days: int, seed: int, levels: bool) -> object:
        return real(deals, as_of=as_of + timedelta(days=14), horizon_days=horizon_days, seed=seed, levels=levels)

    real = module.own_calibration
    monkeypatch.setattr(module, "own_calibration", peeking)
    origin, until = ORIGINS[0], ORIGINS[0] + timedelta(days=30)
    as_it_was = forecast_origin(demo(), origin, until, FAST, True, 1)
    noisy = forecast_origin(with_noise_after(demo(), origin, seed=1), origin, until, FAST, True, 1)
    assert forecast_bytes(as_it_was) != forecast_bytes(noisy)


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


def test_the_result_is_plain_json_with_the_promised_names() -> None:
    told = json.loads(json.dumps(result().to_dict(), allow_nan=False))
    names = {
        "as_of",
        "until",
        "actual",
        "actual_open",
        "mean",
        "p05",
        "p10",
        "p25",
        "p50",
        "p75",
        "p90",
        "p95",
        "crps",
        "pit",
    }
    for row in told["origins"]:
        assert names < set(row)
        assert {f"open_{name}" for name in names - {"as_of", "until", "actual", "actual_open"}} < set(row)
        assert {
            "open_historical_win_rate",
            "open_stage_weighted",
            "open_landmark_crps",
            "run_rate",
            "last_period",
        } < set(row)
        assert row["p05"] <= row["p50"] <= row["p95"]
    assert told["origins"][0]["as_of"] == "2026-05-31"
    assert {"n", "mape", "bias", "crps", "skill", "coverage"} < set(told["summary"])


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
