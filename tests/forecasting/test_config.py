"""The job file: what is wrong is named by its key, and paths and horizons mean what they say."""

from datetime import date
from pathlib import Path
from typing import get_args

import pytest

from forecasting.config import (
    Durations,
    ForecastConfig,
    ModelConfig,
    horizon_after,
    horizon_end,
    job_template,
    read_config,
    read_job,
)
from forecasting.data.sample import write_demo
from models.errors import SettingsError


@pytest.fixture
def job(tmp_path: Path) -> Path:
    (tmp_path / "deals.csv").write_text("deal_id,created_at,amount,region\nA,2026-01-05,100,North\n")
    (tmp_path / "stage_history.csv").write_text("deal_id,stage,entered_at\nA,Lead,2026-01-05\n")
    path = tmp_path / "dealcast.toml"
    path.write_text(job_template())
    return path


def changed(job: Path, old: str, new: str) -> Path:
    text = job.read_text()
    assert old in text
    job.write_text(text.replace(old, new, 1))
    return job


def test_the_template_is_a_job_with_the_defaults(job: Path) -> None:
    config = read_config(job)
    assert config.graph.open == ("Lead", "Qualified", "Meeting", "Proposal", "Negotiation")
    assert config.forecast == ForecastConfig(horizon="90d")
    assert (config.target, config.store, config.model.seed) == (None, None, 1)
    assert config.output_folder == job.parent / "out"


def test_the_keys_that_the_template_comments_out_are_keys(job: Path) -> None:
    text = job.read_text().replace("# since = 2027-01-01", "# since = 2027-01-01\n")
    lines = [line.removeprefix("# ") if " = " in line or line.startswith("# [") else line for line in text.splitlines()]
    text = "\n".join(line for line in lines if not line.startswith('url = "warehouse'))
    job.write_text(text)
    with pytest.raises(SettingsError, match=r"data.commits: there is no file(?s:.*)forecast.plan: there is no file"):
        read_config(job)
    for name in ("commits.csv", "plan.csv"):
        (job.parent / name).touch()
    config = read_config(job)
    assert (config.commits_file, config.plan_file) == (job.parent / "commits.csv", job.parent / "plan.csv")
    assert config.model.window_days == 730
    assert config.target is not None
    assert (config.target.amount, config.target.by, config.target.since) == (5e6, date(2027, 3, 31), date(2027, 1, 1))
    assert config.store_url == f"sqlite:///{job.parent / 'forecasts.db'}"
    assert (config.model.segment, config.model.covariates) == (("region",), ("log_amount",))
    assert (config.model.calendar, config.model.holidays) == (("weekday",), "NL")


@pytest.mark.parametrize(
    ("old", "new", "match"),
    [
        ('period = "month"', 'peroid = "month"', "forecast.peroid: unknown key.*did you mean 'period'"),
        ("[data]", "[dta]\n[data]", "- dta: unknown key.*did you mean 'data'"),
        ("[data]", 'path = "x"\n[data]', "- path: unknown key"),
        ("draws = 4000", 'draws = "many"', "forecast.draws: expected a valid integer, got 'many'"),
        ("draws = 4000", "draws = 4000.5", "forecast.draws: expected a valid integer"),
        ("new_business = true", 'new_business = false\nplan = "p.csv"', "forecast: plan is of new deals"),
        ("seed = 1", "window_days = 7\nseed = 1", "model.window_days: expected greater than or equal to 30, got 7"),
        ("new_business = true", "new_business = 1", "forecast.new_business: expected a valid boolean, got 1"),
        ("open = [", "open = 3 # [", "stages.open: expected a list, got 3"),
        ('# segment = ["region"]', 'segment = "region"', "model.segment: expected a list"),
        ('period = "month"', 'period = "fortnight"', "forecast.period: expected 'day', 'week'.*got 'fortnight'"),
        ('horizon = "90d"', 'horizon = "soon"', "forecast.horizon: expected a length"),
        ('horizon = "90d"', 'horizon = "0d"', "forecast.horizon: expected a length"),
        ('horizon = "90d"', "horizon = 90", "forecast.horizon: expected a valid string, got 90"),
        ('horizon = "90d"', 'horizon = "90d"\nuntil = 2027-01-01', "forecast: horizon and until"),
        ('deals = "deals.csv"', "", "data.deals: this key is missing"),
        ('deals = "deals.csv"', 'deals = "sales.csv"', r"data.deals: there is no file .*sales\.csv"),
        ("currency =", 'format = "hubspot"\ncurrency =', "data.format: 'hubspot' cannot be read; there is 'dealcast'"),
        ("currency =", 'folder = "crm"\ncurrency =', "data: folder belongs to the exports of a CRM"),
        ('won = ["Won"]', 'won = ["Lead"]', "each stage may be listed once.*Lead"),
        ('won = ["Won"]', "won = []", "stages.won is empty"),
        (
            "[output]",
            '[target]\namount = -5\nby = "2027-01-01"\n[output]',
            "target.amount: expected greater than 0, got -5",
        ),
        ("[output]", '[target]\namount = 5\nby = "soon"\n[output]', "target.by: expected a valid date, got 'soon'"),
        (
            "[output]",
            "[target]\namount = 5\nby = 2027-01-01\nsince = 2027-01-02\n[output]",
            "target: since lies after by",
        ),
        ("[output]", "[output", "not a TOML file"),
        (
            '# calendar = ["weekday"]',
            'calendar = ["weekdays"]',
            "model.calendar.0: expected 'weekday', 'holiday' or 'period_end'",
        ),
        ('# calendar = ["weekday"]', 'calendar = "weekday"', "model.calendar: expected a list"),
        ('# calendar = ["weekday"]', 'calendar = ["holiday"]', "model: calendar names holiday.*'NL' or 'US-CA'"),
        ('# holidays = "NL"', 'holidays = "Holland"', "model: holidays must be a country or.*got 'Holland'"),
    ],
)
def test_what_is_wrong_is_named_by_its_key(job: Path, old: str, new: str, match: str) -> None:
    with pytest.raises(SettingsError, match=f"(?s){match}"):
        read_config(changed(job, old, new))


def test_all_complaints_come_at_once(job: Path) -> None:
    changed(job, "draws = 4000", "draws = 0")
    with pytest.raises(SettingsError, match=r"(?s)model\.seed.*forecast\.draws"):
        read_config(changed(job, "seed = 1 ", 'seed = "x" '))


def test_a_missing_job_file_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"no job file .*dealcast init"):
        read_config(tmp_path / "none.toml")


def test_a_job_reads_its_deals_and_checks_its_columns(job: Path) -> None:
    assert read_job(job).deals.deals["deal_id"].tolist() == ["A"]
    with pytest.raises(SettingsError, match="segment: the deals have no column 'territory'"):
        read_job(changed(job, '# segment = ["region"]', 'segment = ["territory"]'))


def test_a_job_can_read_a_database(job: Path) -> None:
    import duckdb

    folder = job.parent
    with duckdb.connect(str(folder / "w.duckdb")) as connection:
        connection.execute(f"CREATE TABLE opportunities AS FROM read_csv('{folder / 'deals.csv'}')")
        connection.execute(f"CREATE TABLE moves AS FROM read_csv('{folder / 'stage_history.csv'}')")
    changed(job, 'deals = "deals.csv"', 'url = "w.duckdb"\ndeals = "SELECT * FROM opportunities"')
    changed(job, 'stage_history = "stage_history.csv"', 'stage_history = "SELECT * FROM moves"')
    assert read_job(job).deals.deals[["deal_id", "region"]].to_numpy().tolist() == [["A", "North"]]


@pytest.mark.parametrize(
    ("settings", "as_of", "end"),
    [
        ({}, "2026-11-23", "2027-02-21"),
        ({"horizon": "90d"}, "2026-11-23", "2027-02-21"),
        ({"horizon": "8 weeks"}, "2026-11-23", "2027-01-18"),
        ({"horizon": "1 Month"}, "2026-11-23", "2026-11-30"),
        ({"horizon": "3 months"}, "2026-11-30", "2027-02-28"),
        ({"horizon": "2 quarters"}, "2026-11-23", "2027-03-31"),
        ({"horizon": "1 quarter"}, "2026-12-31", "2027-03-31"),
        ({"horizon": "2 quarters", "fiscal_year_start": 2}, "2026-11-23", "2027-04-30"),
        ({"horizon": "1 year", "fiscal_year_start": 4}, "2026-11-23", "2027-03-31"),
        ({"until": "2026-12-24"}, "2026-11-23", "2026-12-24"),
    ],
)
def test_horizons_end_where_the_calendar_says(settings: dict[str, object], as_of: str, end: str) -> None:
    assert str(horizon_end(ForecastConfig(**settings), date.fromisoformat(as_of))) == end  # type: ignore[arg-type]


@pytest.mark.parametrize("settings", [{"until": "2026-11-23"}, {"horizon": "20 years"}, {"horizon": "999999 days"}])
def test_a_horizon_that_makes_no_sense_is_refused(settings: dict[str, str]) -> None:
    with pytest.raises(SettingsError, match="forecast"):
        horizon_end(ForecastConfig(**settings), date(2026, 11, 23))  # type: ignore[arg-type]


def test_the_sample_job_is_a_job(tmp_path: Path) -> None:
    demo = write_demo(tmp_path, seed=3)
    job = read_job(tmp_path / "dealcast.toml")
    assert job.config.graph == demo.graph
    assert job.config.target is not None
    assert job.config.target.since > demo.as_of
    assert horizon_end(job.config.forecast, demo.as_of) == job.config.target.by


def test_the_families_of_a_job_file_are_those_of_the_models() -> None:
    from models.durations.families import FAMILIES

    assert set(get_args(Durations)) == {"auto", "piecewise", *FAMILIES}


def test_the_amount_counts_unless_the_job_says_no() -> None:
    assert ModelConfig().covariates == ("log_amount",)
    assert ModelConfig(covariates=()).covariates == ()


def test_a_horizon_of_quarters_follows_the_fiscal_year() -> None:
    assert str(horizon_after("1 quarter", date(2026, 3, 31), fiscal_year_start=2)) == "2026-04-30"
    assert str(horizon_after("1 quarter", date(2026, 3, 31))) == "2026-06-30"
