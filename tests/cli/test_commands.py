"""Every command does what its help says, with the promised exit code, on good and on bad input."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from forecasting.cli import app
from forecasting.data.sample import demo_history

AS_OF = ("--as-of", "2026-09-30")
COMMANDS = ("demo", "init", "check", "fit", "forecast", "leads-needed", "backtest", "tune", "report")


def run(*arguments: object) -> Result:
    """Run the command line in this process; a crash would show as a traceback on standard error."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result


def as_json(result: Result) -> dict[str, object]:
    """Standard output as JSON: nothing else may be on it."""
    content = json.loads(result.stdout)
    assert isinstance(content, dict)
    return content


def test_help_lists_every_command_and_the_exit_codes() -> None:
    text = run("--help").stdout
    for name in COMMANDS:
        assert f"\n  {name} " in text
    assert "Exit codes" in text


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_every_command_has_an_example_of_it_and_json(name: str) -> None:
    text = run(name, "--help").stdout
    assert f"  dealcast {name}" in text
    assert "--json" in text


def test_help_imports_nothing_heavy() -> None:
    heavy = "numpy pandas pymc numba matplotlib duckdb scipy rich pydantic"
    code = f"import sys, forecasting.cli; print([m for m in '{heavy}'.split() if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_wrong_usage_is_two() -> None:
    assert run("forecast").exit_code == 2
    assert run("nonsense").exit_code == 2
    assert run("forecast", "job.toml", *AS_OF, "--target", "much").exit_code == 2


def test_init_writes_a_job_file_once(tmp_path: Path) -> None:
    path = tmp_path / "dealcast.toml"
    assert run("init", path).exit_code == 0
    assert "[stages]" in path.read_text(encoding="utf-8")
    again = run("init", path)
    assert again.exit_code == 1
    assert "already" in again.stderr


def test_check_counts_every_row(company: Path) -> None:
    found = as_json(run("check", company / "dealcast.toml", "--json"))
    quality = found["data_quality"]
    assert isinstance(quality, dict)
    assert quality["rows_in"] == quality["rows_used"] + sum(row["count"] for row in quality["rows_rejected"])
    assert isinstance(found["open_by_stage"], dict)
    assert sum(found["open_by_stage"].values()) == found["open_deals"]
    assert "rejected" in run("check", company / "dealcast.toml").stdout


def test_fit_saves_and_the_next_command_uses_it(fitted_work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("fitted again")

    monkeypatch.setattr("forecasting.jobs.fit_spec", never)
    found = as_json(run("fit", fitted_work / "dealcast.toml", *AS_OF, "--json"))
    assert found["as_of"] == "2026-09-30"
    assert found["draws"] == 200
    other_day = CliRunner().invoke(app, ["fit", str(fitted_work / "dealcast.toml"), "--as-of", "2026-09-29"])
    assert other_day.exit_code == 2  # it tried to fit, which this test forbids
    assert "fitted again" in other_day.stderr


def test_forecast_writes_what_it_prints_and_twice_the_same(fitted_work: Path) -> None:
    job = fitted_work / "dealcast.toml"
    first = run("forecast", job, *AS_OF, "--json")
    assert first.exit_code == 0, first.stderr
    written = (fitted_work / "out" / "forecast.json").read_text(encoding="utf-8")
    assert json.loads(written) == as_json(first)
    second = run("forecast", job, *AS_OF)
    assert "Revenue from 1 Oct 2026 to 29 Nov 2026" in second.stdout
    assert (fitted_work / "out" / "forecast.json").read_text(encoding="utf-8") == written
    assert {path.name for path in (fitted_work / "out").iterdir()} >= {"report.html", "deals.parquet", "revenue.csv"}


def test_an_alert_is_published_and_exits_with_four(fitted_work: Path) -> None:
    job = fitted_work / "dealcast.toml"
    result = run("forecast", job, *AS_OF, "--target", "1e12", "--min-attainment", "0.5")
    assert result.exit_code == 4
    assert "ALERT" in result.stderr
    assert (fitted_work / "out" / "forecast.json").exists()
    assert run("forecast", job, *AS_OF, "--target", "1", "--min-attainment", "0.5").exit_code == 0


def test_failed_diagnostics_publish_nothing(work: Path, fitted_company: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from models.posterior import load_posterior
    from models.stage_model.posterior import Diagnostics

    good = load_posterior(fitted_company / "out" / "posterior")
    bad = replace(good, stage=replace(good.stage, diagnostics=Diagnostics(1.2, 90.0, 3)))
    monkeypatch.setattr("forecasting.jobs.fit_spec", lambda *_, **__: bad)
    result = run("forecast", work / "dealcast.toml", *AS_OF, "--json")
    assert result.exit_code == 3
    error = as_json(result)["error"]
    assert isinstance(error, dict)
    assert (error["type"], error["exit_code"]) == ("DiagnosticsError", 3)
    assert not (work / "out").exists()


def test_leads_needed_grow_with_the_target_until_none_suffices(fitted_work: Path) -> None:
    job = fitted_work / "dealcast.toml"
    answers = [
        as_json(run("leads-needed", job, *AS_OF, "--target", target, "--by", "2026-11-29", "--json"))["leads_needed"]
        for target in ("1", "3e6", "1e14")
    ]
    assert answers[0] == 0
    assert isinstance(answers[1], int)
    assert answers[2] is None
    assert "sure" in run("leads-needed", job, *AS_OF).stdout


def test_report_is_one_page(fitted_work: Path) -> None:
    page = fitted_work / "page.html"
    assert as_json(run("report", fitted_work / "dealcast.toml", *AS_OF, "--output", page, "--json"))["report"] == str(
        page
    )
    assert page.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")


def test_backtest_scores_past_dates(work: Path) -> None:
    result = run("backtest", work / "dealcast.toml", "--origins", "2026-07-31", "--horizon", "28d", "--json")
    assert result.exit_code == 0, result.stderr
    found = as_json(result)
    assert {"origins", "summary"} <= set(found)
    assert run("backtest", work / "dealcast.toml").exit_code == 1


def test_backtest_takes_commits_writes_pictures_and_says_steps(work: Path) -> None:
    (work / "commits.csv").write_text("as_of,amount\n2026-07-31,400000\n", encoding="utf-8")
    asked = ("backtest", work / "dealcast.toml", "--origins", "2026-07-31", "--horizon", "28d", "--window", 300)
    told = run(*asked, "--commits", work / "commits.csv", "--target", "3e5", "--output", work / "proof")
    assert told.exit_code == 0, told.stderr
    assert "than commit, at the 1 dates it was told" in told.stdout
    assert "target reached in" in told.stdout
    names = {"backtest.json", "backtest.csv", "past_forecasts.png", "pit.png", "reliability.png"}
    assert {path.name for path in (work / "proof").iterdir()} == names
    written = json.loads((work / "proof" / "backtest.json").read_text(encoding="utf-8"))
    assert written["origins"][0]["commit"] == 400_000.0
    assert written["origins"][0]["target"] == 300_000.0
    steps = as_json(run(*asked, "--steps", "--json"))["steps"]
    assert isinstance(steps, list)
    assert len(steps) == 10
    assert "without levels" in run(*asked, "--steps").stdout
    faulty = run(*asked, "--commits", work / "deals.csv")
    assert faulty.exit_code == 1
    assert "commits: the column as_of is missing" in faulty.stderr


def test_a_plan_is_checked_and_moves_new_business(fitted_work: Path) -> None:
    job = fitted_work / "dealcast.toml"
    text = job.read_text(encoding="utf-8")
    before = as_json(run("forecast", job, *AS_OF, "--json"))["revenue"]
    job.write_text(text.replace('horizon = "60d"', 'horizon = "60d"\nplan = "plan.csv"'), encoding="utf-8")
    (fitted_work / "plan.csv").write_text("period_start,deals\n2026-10-01,100\n2026-10-05,100\n", encoding="utf-8")
    assert "neither all on the first of a month" in run("check", job).stderr
    (fitted_work / "plan.csv").write_text("period_start,deals\n2026-10-01,300\n2026-11-01,0\n", encoding="utf-8")
    assert run("check", job).exit_code == 0
    after = as_json(run("forecast", job, *AS_OF, "--json"))["revenue"]
    new, planned = (
        sum(row["mean"] for row in rows if row["source"] == "new" and row["segment"] is None)  # type: ignore[union-attr]
        for rows in (before, after)
    )
    assert planned > 1.5 * new


def test_tune_says_what_is_better_and_writes_only_that(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("forecasting.proof.tuning.DURATIONS", ("piecewise",))
    monkeypatch.setattr("forecasting.proof.tuning.COVARIATES", ((),))
    monkeypatch.setattr("forecasting.commands.tune.MOST_ORIGINS", 1)
    monkeypatch.setattr("forecasting.commands.tune.TUNING_DRAWS", 100)
    job = work / "dealcast.toml"
    before = job.read_text(encoding="utf-8")
    job.write_text(before.replace("[model]", '[model]\ndurations = "piecewise"'), encoding="utf-8")
    kept = job.read_text(encoding="utf-8")
    result = run("tune", job, "--as-of", "2026-09-30", "--no-write", "--json")
    assert result.exit_code == 0, result.stderr
    found = as_json(result)
    assert {"origins", "tried", "recommended", "gain", "written"} <= set(found)
    assert found["written"] is False
    assert job.read_text(encoding="utf-8") == kept
    assert run("tune", job, "--as-of", "2026-09-30", "--consider", "nowhere").exit_code == 1


def test_amounts_cleared_on_losing_are_noted_by_check_backtest_and_forecast(company: Path, tmp_path: Path) -> None:
    demo, job = demo_history(seed=2, n_deals=300, months=12), tmp_path / "dealcast.toml"
    shutil.copy(company / "dealcast.toml", job)
    demo.deals.to_csv(tmp_path / "deals.csv", index=False)
    demo.stage_history.to_csv(tmp_path / "stage_history.csv", index=False)
    note = "note: deals without amount are taken for average ones"
    assert "note" not in run("check", job).stderr
    lost = demo.stage_history.loc[demo.stage_history["stage"].isin(demo.graph.lost), "deal_id"]
    cleared = demo.deals.assign(amount=demo.deals["amount"].mask(demo.deals["deal_id"].isin(lost)))
    cleared.to_csv(tmp_path / "deals.csv", index=False)
    demo.stage_history.drop(columns="amount").to_csv(tmp_path / "stage_history.csv", index=False)
    checked = run("check", job, "--json")
    assert note in checked.stderr
    assert as_json(checked)["warnings"] == [checked.stderr.split("note: ")[1].strip()]
    assert note in run("backtest", job, "--origins", "2026-07-31", "--horizon", "30d").stderr
    assert note in run("forecast", job, *AS_OF).stderr


def test_deals_closed_before_the_export_begins_are_missed_by_check_and_forecast(company: Path, tmp_path: Path) -> None:
    demo, job = demo_history(seed=2, n_deals=500, months=18, faulty_rows=False), tmp_path / "dealcast.toml"
    shutil.copy(company / "dealcast.toml", job)
    history = demo.stage_history
    closes = history["stage"].isin((*demo.graph.won, *demo.graph.lost)) & (history["entered_at"] < "2026-03-01")
    gone = history.loc[closes, "deal_id"]
    demo.deals[~demo.deals["deal_id"].isin(gone)].to_csv(tmp_path / "deals.csv", index=False)
    history[~history["deal_id"].isin(gone)].to_csv(tmp_path / "stage_history.csv", index=False)
    note = "note: deals closed by 2026-03-01 are missing"
    checked = run("check", job, "--json")
    assert note in checked.stderr
    assert note.removeprefix("note: ") in str(as_json(checked)["warnings"])
    assert note in run("forecast", job, *AS_OF).stderr
