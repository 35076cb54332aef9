"""Tuning: the honest range knows luck from gain, and the job file keeps all but what was chosen."""

import tomllib
from dataclasses import replace
from datetime import date, timedelta
from itertools import pairwise

import numpy as np
import pytest

from forecasting.commands.tune import with_settings
from forecasting.data.deals import deals_from_frames
from forecasting.data.sample import demo_history
from forecasting.proof import tuning
from forecasting.proof.backtesting import BacktestOptions, backtest
from forecasting.proof.tuning import COVARIATES, DURATIONS, Candidate, candidates_of, choose, past_origins, tune
from models.errors import EmptyInputError, SettingsError

NOW = Candidate("auto", ("log_amount",))
ORIGINS = tuple(date(2025, 1, 5) + timedelta(days=28 * step) for step in range(12))


def test_among_equals_the_best_looks_better_than_choosing_it_is() -> None:
    """Candidates that differ by luck only: the best of twenty saves CRPS on its own dates, none on the others."""
    rng = np.random.default_rng(5)
    candidates = tuple(Candidate("auto", (f"column {number}",)) for number in range(20))
    seen, honest = [], []
    for trial in range(30):
        crps = rng.gamma(9.0, 1.0, (12, 20))
        found = choose(candidates, crps, ORIGINS, horizon_days=28, seed=trial)
        means = crps.mean(axis=0)
        seen.append(1.0 - means.min() / means[0])
        honest.append(found.gain)
    assert np.mean(seen) > 0.1
    assert abs(np.mean(honest)) < 0.05


def test_a_real_gain_is_found_and_measured() -> None:
    crps = np.random.default_rng(2).gamma(2500.0, 1.0, (12, 3)) * np.array([1.0, 0.8, 1.1])
    candidates = candidates_of(NOW, [])[:3]
    found = choose(candidates, crps, ORIGINS, horizon_days=28, seed=1)
    assert found.recommended == found.best == candidates[1]
    assert found.gain == pytest.approx(0.2, abs=0.03)
    assert found.gain_low < found.gain < found.gain_high


def test_nothing_is_recommended_when_the_present_settings_are_best() -> None:
    crps = np.ones((12, 2)) * np.array([1.0, 1.5])
    found = choose((NOW, Candidate("piecewise", ())), crps, ORIGINS, horizon_days=28, seed=1)
    assert found.recommended == NOW
    assert found.gain == 0.0


def test_the_present_settings_come_first_and_nothing_comes_twice() -> None:
    found = candidates_of(NOW, ["source"])
    assert found[0] == NOW
    assert len(found) == len(set(found)) == len(DURATIONS) * (len(COVARIATES) + 1)


def test_tuning_scores_candidates_as_a_backtest_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning, "DURATIONS", ("piecewise",))
    monkeypatch.setattr(tuning, "MOST_ORIGINS", 4)
    monkeypatch.setattr(tuning, "COVARIATES", ((), ("looped",)))
    monkeypatch.setattr(tuning, "WINDOWS", (180, 9999))
    demo = demo_history(seed=3, n_deals=200, months=12)
    deals = deals_from_frames(demo.deals, demo.stage_history, stages=demo.graph, timezone="UTC")
    present = BacktestOptions(durations="piecewise", covariates=(), draws=100)
    found = tune(deals, as_of=demo.as_of, horizon_days=60, present=present, seed=1)
    of = {each: found.crps[:, place] for place, each in enumerate(found.candidates)}
    now = Candidate("piecewise", ())
    assert found.candidates[0] == now
    for levels in (True, False):
        asked = replace(present, levels=levels, new_business=False)
        alone = backtest(deals, origins=found.origins, horizon="60d", options=asked, seed=1)
        np.testing.assert_allclose(of[replace(now, levels=levels)], alone.table["open_crps"], rtol=1e-5)
    assert {each.window_days for each in found.candidates} == {None, 180}
    first_round = [each for each in of if each.window_days is None and not each.calendar]
    best = min(first_round, key=lambda each: of[each].mean())
    assert replace(best, window_days=180) in of
    on_weekdays = replace(best, calendar=("weekday",))
    asked = replace(present, covariates=best.covariates, levels=best.levels, calendar=("weekday",), new_business=False)
    alone = backtest(deals, origins=found.origins, horizon="60d", options=asked, seed=1)
    np.testing.assert_allclose(of[on_weekdays], alone.table["open_crps"], rtol=1e-5)
    raw = tune(deals, as_of=demo.as_of, horizon_days=60, present=present, calibrate=False, seed=1)
    bare = backtest(deals, origins=found.origins, horizon="60d", options=present, calibrate=False, seed=1)
    np.testing.assert_allclose(raw.crps[:, 0], bare.table["open_crps"], rtol=1e-9)
    assert all(each.levels for each in raw.candidates)
    assert found.origins[-1] + timedelta(days=60) <= demo.as_of
    assert set(found.to_dict()["recommended"]) == {"durations", "covariates", "window_days", "levels", "calendar"}


def test_a_short_history_is_refused() -> None:
    demo = demo_history(seed=3, n_deals=100, months=12)
    deals = deals_from_frames(demo.deals, demo.stage_history, stages=demo.graph, timezone="UTC")
    with pytest.raises(EmptyInputError, match="shorter horizon"):
        past_origins(deals, as_of=demo.as_of, horizon_days=150)


@pytest.mark.parametrize(
    "text",
    [
        '[model]\ncovariates = ["a"] # old\nseed = 7\n\n[forecast]\nhorizon = "90d"\n',
        '# a job\n[model]\n# durations = "auto"\nseed = 7\n[forecast]\nhorizon = "90d"\n',
        '[forecast]\nhorizon = "90d"\n',
    ],
)
def test_the_job_file_keeps_all_else(text: str) -> None:
    chosen = Candidate("piecewise", ("log_amount", "looped"))
    told = tomllib.loads(with_settings(text, chosen))
    before = tomllib.loads(text)
    assert told["forecast"] == before["forecast"]
    expected = {**before.get("model", {}), "durations": "piecewise", "covariates": ["log_amount", "looped"]}
    assert told["model"] == expected


def test_what_is_said_beside_a_setting_stays() -> None:
    text = (
        '[model]\ncovariates = ["a # b"]  # what tells deals apart\n# durations = "auto"  # or one family\nseed = 7\n'
    )
    there = with_settings(text, Candidate("piecewise", ("looped",)))
    assert there.startswith('[model]\ncovariates = ["looped"]  # what tells deals apart\n')
    assert 'durations = "piecewise"' in there
    odd = '[model]\ncovariates = [\'a # b\', "x\\"#"]  # c\nwindow_days = 730  # two years\nseed = 7\n'
    there = with_settings(odd, Candidate("auto", ("looped",)))
    assert 'covariates = ["looped"]  # c\nseed = 7\n' in there
    assert "two years" not in there


def test_window_and_levels_go_where_they_belong_and_come_out_again() -> None:
    text = (
        '[model]\n# window_days = 730   # all by default\nseed = 7\n\n[forecast]\nhorizon = "90d"\nlevels = true  # x\n'
    )
    chosen = Candidate("auto", ("log_amount",), 365, levels=False)
    there = with_settings(text, chosen)
    told = tomllib.loads(there)
    assert told["model"] == {"durations": "auto", "covariates": ["log_amount"], "window_days": 365, "seed": 7}
    assert told["forecast"] == {"horizon": "90d", "levels": False}
    back = tomllib.loads(with_settings(there, Candidate("auto", ("log_amount",))))
    assert back["model"] == {"durations": "auto", "covariates": ["log_amount"], "seed": 7}
    assert back["forecast"]["levels"] is True
    nothing = tomllib.loads(with_settings("[data]\n", replace(chosen, window_days=None)))
    assert nothing["forecast"] == {"levels": False}


def test_a_calendar_is_written_and_taken_out_again() -> None:
    text = '[model]\n# calendar = ["weekday"]  # or more\nholidays = "NL"\n'
    chosen = Candidate("auto", ("log_amount",), calendar=("weekday", "holiday", "period_end"))
    there = with_settings(text, chosen)
    assert tomllib.loads(there)["model"]["calendar"] == ["weekday", "holiday", "period_end"]
    assert chosen.label == "auto, log_amount, weekdays, holidays, period ends"
    back = tomllib.loads(with_settings(there, replace(chosen, calendar=())))
    assert back["model"] == {"durations": "auto", "covariates": ["log_amount"], "holidays": "NL"}


def test_a_layout_that_cannot_be_edited_by_line_is_left_alone() -> None:
    with pytest.raises(SettingsError, match="durations = "):
        with_settings('[model]\ncovariates = [\n  "a",\n]\n', Candidate("auto", ()))


def test_dates_to_choose_at_lie_half_a_horizon_apart() -> None:
    """Nearer ones share most of their outcome: a fifth of a year would pass for five forecasts."""
    demo = demo_history(seed=7, n_deals=300, months=30, faulty_rows=False)
    deals = deals_from_frames(demo.deals, demo.stage_history, stages=demo.graph, timezone="UTC")
    for horizon, apart in ((28, 7), (60, 28), (90, 42)):
        dates = past_origins(deals, as_of=demo.as_of, horizon_days=horizon)
        assert {(after - before).days for before, after in pairwise(dates)} == {apart}
