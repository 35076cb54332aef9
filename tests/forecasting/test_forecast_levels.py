"""Levels in a forecast: closed forms of the tracked revenue, the average with the static one, and the way to a file."""

import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from planted_floor import (
    AS_OF,
    open_pipeline,
    planted_amounts,
    planted_arrivals,
    planted_stage,
    posterior_of,
    snapshot_of,
)

from forecasting.answers.forecasts import Forecast, forecast_snapshot, with_calibration
from forecasting.answers.levels import level_ranges, log_average_factor, tracked_cents, with_levels
from forecasting.data.deals import deals_from_frames
from forecasting.data.sample import demo_history
from forecasting.fitting import fit
from forecasting.proof.calibration import learn
from forecasting.proof.past_forecasts import NO_PAST
from models.errors import SettingsError
from models.levels.counts import DOWN, FORWARD, NO_DIRECTION
from models.levels.posterior import LevelPosterior
from models.posterior import META_FILE, Posterior, load_posterior, save_posterior
from models.stage_model.posterior import Diagnostics

DRAWS, DAYS = 3000, 20


def steady(factor: float, draws: int = DRAWS) -> LevelPosterior:
    """Moves forward are ``factor`` times as fast as ever, for good."""
    stage = planted_stage(draws)
    target = stage.lattice(np.arange(1), days=2, cells=np.zeros((1, 0), dtype=np.int32)).next_stage
    direction = np.where(target == 3, DOWN, FORWARD)
    direction[target < 0] = NO_DIRECTION
    level = np.tile([np.log(factor), 0.0], (draws, 1))
    return LevelPosterior(level, level, np.full_like(level, 1e-9), np.full_like(level, 0.9), direction, 7)


def made(levels: LevelPosterior | None) -> Forecast:
    """Twelve deals that win with probability 0.04 and are lost with 0.03 a day, and two new ones a day, 1,000 each."""
    pipeline = open_pipeline([(f"D{place}", 1, place % 7, 1000.0, "") for place in range(12)])
    arrivals = planted_arrivals(DRAWS, weekly={"": 14.0}, stage=1)
    posterior = replace(posterior_of(planted_stage(DRAWS), planted_amounts(DRAWS), arrivals), levels=levels)
    until = AS_OF + timedelta(days=DAYS)
    return forecast_snapshot(snapshot_of(pipeline), posterior, until=until, seed=1)


def totals(forecast: Forecast) -> np.ndarray:
    return np.stack([cents.sum(axis=(1, 2)) for cents in (forecast.open_cents, forecast.new_cents)], axis=1)


def win_chance(days: int, factor: float) -> float:
    total = -np.log(0.93)
    forward, down = factor * total * 4 / 7, total * 3 / 7
    return float(forward / (forward + down) * (1 - np.exp(-(forward + down) * days)))


def test_levels_of_one_change_nothing_to_the_last_cent() -> None:
    forecast = made(steady(1.0))
    np.testing.assert_array_equal(tracked_cents(forecast), totals(forecast))
    np.testing.assert_array_equal(totals(with_levels(forecast, share=0.5)), totals(forecast))


def test_tracked_revenue_has_its_closed_form() -> None:
    forecast = made(steady(2.0))
    wins = tracked_cents(forecast) / 100_000
    of_open, of_new = 12 * win_chance(DAYS, 2.0), 2 * sum(win_chance(lag, 2.0) for lag in range(1, DAYS + 1))
    assert wins[:, 0].mean() == pytest.approx(of_open, rel=0.02)
    assert wins[:, 1].mean() == pytest.approx(of_new, rel=0.03)
    assert totals(forecast)[:, 0].mean() / 100_000 == pytest.approx(12 * win_chance(DAYS, 1.0), rel=0.02)


def test_the_average_lies_between_and_its_ends_are_the_two() -> None:
    forecast = made(steady(2.0))
    static = totals(forecast)
    none, half, full = (with_levels(forecast, share=share) for share in (0.0, 0.5, 1.0))
    np.testing.assert_array_equal(none.open_cents, forecast.open_cents)
    some = static > 0
    np.testing.assert_allclose(totals(full)[some], tracked_cents(forecast)[some], atol=DAYS)  # cents, rounded by day
    offset = 0.01 * static.mean(axis=0)
    middle = np.sqrt((static + offset) * (tracked_cents(forecast) + offset)) - offset
    np.testing.assert_allclose(totals(half)[some], middle[some], atol=DAYS)
    learned = learn(NO_PAST, horizon_days=DAYS, age_days=300)
    calibrated = with_calibration(half, learned, seed=1)
    np.testing.assert_allclose(calibrated.open_factor * static[:, 0], totals(calibrated)[:, 0], atol=2 * DAYS)
    with pytest.raises(SettingsError, match="not calibrated yet"):
        with_levels(with_calibration(forecast, learned, seed=1), share=0.5)
    with pytest.raises(SettingsError, match="between 0 and 1"):
        log_average_factor(np.ones(2), np.ones(2), share=1.5)


def test_a_posterior_without_levels_says_so() -> None:
    with pytest.raises(SettingsError, match="before levels were learned"):
        tracked_cents(made(None))


def test_ranges_of_steady_levels_are_points() -> None:
    told = level_ranges(steady(1.5, draws=50), horizon_days=28, seed=1)
    assert told["forward"] == pytest.approx({"p10": 1.5, "p50": 1.5, "p90": 1.5})
    assert told["down"] == pytest.approx({"p10": 1.0, "p50": 1.0, "p90": 1.0})


@pytest.fixture(scope="module")
def fitted() -> Posterior:
    demo = demo_history(seed=1, n_deals=300)
    deals = deals_from_frames(demo.deals, demo.stage_history, stages=demo.graph, timezone="UTC")
    return fit(deals, as_of=demo.as_of, inference="fast", durations="piecewise", draws=60, seed=1)


def test_levels_are_saved_and_old_files_still_load(fitted: Posterior, tmp_path: Path) -> None:
    assert fitted.levels is not None
    again = load_posterior(save_posterior(fitted, tmp_path)).levels
    assert again is not None
    for name in ("level", "target", "sigma", "phi", "direction"):
        np.testing.assert_array_equal(getattr(again, name), getattr(fitted.levels, name))
    assert (again.period_days, again.diagnostics) == (14, Diagnostics())
    meta = json.loads((tmp_path / META_FILE).read_text())
    del meta["levels"]
    (tmp_path / META_FILE).write_text(json.dumps(meta))
    assert load_posterior(tmp_path).levels is None


def test_diagnostics_are_the_worst_of_all_parts(fitted: Posterior) -> None:
    assert fitted.levels is not None
    assert fitted.diagnostics == Diagnostics()
    stage = replace(fitted.stage, diagnostics=Diagnostics(1.004, 900.0, 0))
    levels = replace(fitted.levels, diagnostics=Diagnostics(1.002, 500.0, 2))
    assert replace(fitted, stage=stage, levels=levels).diagnostics == Diagnostics(1.004, 500.0, 2)
    with pytest.raises(SettingsError, match="equally many draws"):
        replace(fitted, levels=steady(1.0, draws=10))
