"""Bad input gives the named error or a counted rejection, never a traceback and never a silent loss."""

import json
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner, Result

from forecasting.cli import app


def run(*arguments: object) -> Result:
    """Run the command line in this process."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit)
    assert "Traceback" not in result.stderr
    return result


def table(folder: Path, name: str) -> pd.DataFrame:
    """One of the input tables, everything as text."""
    return pd.read_csv(folder / f"{name}.csv", dtype=str, keep_default_na=False)


def spoil(folder: Path, name: str, rows: pd.DataFrame) -> None:
    """Write a table back."""
    rows.to_csv(folder / f"{name}.csv", index=False)


def rejected(folder: Path) -> dict[str, int]:
    """Rejections by reason, after checking that every row is accounted for."""
    result = run("check", folder / "dealcast.toml", "--json")
    assert result.exit_code == 0, result.stderr
    quality = json.loads(result.stdout)["data_quality"]
    rows = quality["rows_rejected"]
    assert quality["rows_in"] == quality["rows_used"] + sum(row["count"] for row in rows)
    assert quality["rows_in"] == len(table(folder, "deals")) + len(table(folder, "stage_history"))
    return {row["reason"]: row["count"] for row in rows}


def error_of(result: Result) -> dict[str, str]:
    """The error of a failed command with --json; its message is on standard error too."""
    assert result.exit_code == 1
    error = json.loads(result.stdout)["error"]
    assert isinstance(error, dict)
    assert error["message"] in result.stderr
    return error


@pytest.mark.parametrize(("name", "column"), [("deals", "created_at"), ("stage_history", "stage")])
def test_missing_column(work: Path, name: str, column: str) -> None:
    spoil(work, name, table(work, name).drop(columns=column))
    error = error_of(run("check", work / "dealcast.toml", "--json"))
    assert error["type"] == "MissingColumnError"
    assert column in error["message"]


def test_unknown_stage(work: Path) -> None:
    rows = table(work, "stage_history")
    rows.loc[5, "stage"] = "Nirvana"
    spoil(work, "stage_history", rows)
    error = error_of(run("check", work / "dealcast.toml", "--json"))
    assert error["type"] == "UnknownStageError"
    assert "Nirvana" in error["message"]


@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [
        ("created_at", "soon", "date"),
        ("amount", "-5", "negative"),
        ("amount", "plenty", "amount"),
        ("created_at", "2027-05-05", "created"),
    ],
)
def test_one_bad_deal_is_rejected_and_counted(work: Path, column: str, value: str, reason: str) -> None:
    before = rejected(work)
    rows = table(work, "deals")
    moved = table(work, "stage_history")
    victim = rows.index[rows["deal_id"].eq(moved["deal_id"].value_counts().index[0])][0]
    rows.loc[victim, column] = value
    spoil(work, "deals", rows)
    after = rejected(work)
    grown = [name for name in after if after[name] > before.get(name, 0)]
    assert sum(after.values()) > sum(before.values())
    assert any(reason in name for name in grown), grown


def test_duplicate_id_is_rejected_and_counted(work: Path) -> None:
    before = rejected(work)
    rows = table(work, "deals")
    spoil(work, "deals", pd.concat([rows, rows.iloc[[3]].assign(amount="1")]))
    after = rejected(work)
    assert sum(after.values()) > sum(before.values())
    assert any("id" in name for name in after if after[name] > before.get(name, 0))


def test_close_before_create_is_rejected_and_counted(work: Path) -> None:
    before = rejected(work)
    rows = table(work, "stage_history")
    closed = rows.index[rows["stage"].eq("Won")][0]
    rows.loc[closed, "entered_at"] = "2001-01-01T09:00:00Z"
    spoil(work, "stage_history", rows)
    after = rejected(work)
    assert sum(after.values()) > sum(before.values())


def test_a_mistyped_year_that_moves_the_as_of_date_is_named(work: Path) -> None:
    rows = table(work, "stage_history")
    rows.loc[7, "entered_at"] = "2062-01-01T09:00:00Z"
    spoil(work, "stage_history", rows)
    said = run("check", work / "dealcast.toml").stdout
    assert "note 1: dated more than a year after all other rows" in said
    assert f"    {rows.loc[7, 'deal_id']}: {rows.loc[7, 'stage']} on 2062-01-01\n" in said
    assert "as of 1 Jan 2062" in said


def test_names_that_no_font_can_draw_are_told_once_in_plain_words(work: Path) -> None:
    for path in (work / "stage_history.csv", work / "dealcast.toml"):
        path.write_text(path.read_text(encoding="utf-8").replace("Meeting", "Meeting \U000f0000"), encoding="utf-8")
    said = run("report", work / "dealcast.toml", "--as-of", "2026-09-30").stderr
    assert said.count("note: pictures show boxes for '\\U000f0000': no installed font") == 1
    assert "Glyph" not in said


@pytest.mark.parametrize("name", ["deals", "stage_history"])
def test_empty_file(work: Path, name: str) -> None:
    (work / f"{name}.csv").write_text("")
    assert error_of(run("check", work / "dealcast.toml", "--json"))["type"] in {"EmptyInputError", "MissingColumnError"}
    spoil(work, name, pd.DataFrame(columns=["deal_id", "created_at", "amount", "stage", "entered_at"]))
    assert error_of(run("check", work / "dealcast.toml", "--json"))["type"] == "EmptyInputError"


@pytest.mark.parametrize("command", ["check", "forecast"])
def test_no_won_deal(work: Path, command: str) -> None:
    rows = table(work, "stage_history")
    spoil(work, "stage_history", rows[rows["stage"] != "Won"])
    error = error_of(run(command, work / "dealcast.toml", "--as-of", "2026-09-30", "--json"))
    assert error["type"] == "EmptyInputError"
    assert "won" in error["message"]


@pytest.mark.parametrize(
    ("command", "options", "message"),
    [
        ("forecast", ("--target", "1e6", "--by", "2031-01-01"), "forecast.horizon or forecast.until"),
        ("forecast", ("--target", "nan", "--by", "2026-10-31"), "amount of money"),
        ("forecast", ("--target", "1e6", "--by", "2026-10-31", "--min-attainment", "50"), "--min-attainment"),
        ("leads-needed", ("--target", "1e6", "--by", "2026-10-31", "--confidence", "80"), "confidence"),
        ("tune", ("--consider", "nope"), "no column 'nope'"),
        ("leads-needed", ("--target", "1e17", "--by", "2026-10-31"), "amount of money, zero or more and up to 1e+16"),
    ],
)
def test_what_cannot_be_answered_is_refused_before_any_fit(
    work: Path, command: str, options: tuple[str, ...], message: str
) -> None:
    error = error_of(run(command, work / "dealcast.toml", "--as-of", "2026-09-30", *options, "--json"))
    assert error["type"] == "SettingsError"
    assert message in error["message"]
    assert not (work / "out" / "posterior").exists()


@pytest.mark.parametrize("horizon", ["soon", "0d"])
def test_a_horizon_that_is_no_length_is_named(work: Path, horizon: str) -> None:
    dates = ("--origins", "2026-05-31", "--horizon", horizon, "--json")
    error = error_of(run("backtest", work / "dealcast.toml", *dates))
    assert error["type"] == "SettingsError"
    assert f"'8 weeks' or '2 quarters', got {horizon!r}" in error["message"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--window", "0"), "--window is a number of days, at least 30, got 0"),
        (("--target", "0"), "a target of 0 is reached for sure"),
        (("--target", "-5"), "amount of money"),
    ],
)
def test_options_of_a_backtest_that_make_no_sense_are_refused(
    work: Path, options: tuple[str, ...], message: str
) -> None:
    error = error_of(run("backtest", work / "dealcast.toml", "--origins", "2026-05-31", *options, "--json"))
    assert error["type"] == "SettingsError"
    assert message in error["message"]


def test_an_output_folder_that_is_a_file_is_said_before_the_fit(work: Path) -> None:
    (work / "out").write_text("")
    error = error_of(run("forecast", work / "dealcast.toml", "--as-of", "2026-09-30", "--json"))
    assert error["type"] == "SettingsError"
    assert "is a file; choose another output folder" in error["message"]


def test_a_last_day_beyond_all_dates_is_refused(work: Path) -> None:
    error = error_of(run("forecast", work / "dealcast.toml", "--as-of", "9999-12-31", "--json"))
    assert error["type"] == "SettingsError"
    assert "beyond the last date" in error["message"]


@pytest.mark.parametrize("damage", ["cut short", "missing", "no fit"])
def test_a_damaged_fit_is_made_again(fitted_work: Path, damage: str) -> None:
    saved = fitted_work / "out" / "posterior"
    whole = (saved / "stages.npz").read_bytes()
    if damage == "cut short":
        (saved / "stages.npz").write_bytes(whole[: len(whole) // 2])
    elif damage == "missing":
        (saved / "arrivals.npz").unlink()
    else:
        (saved / "posterior.json").write_text("[]")
    assert run("forecast", fitted_work / "dealcast.toml", "--as-of", "2026-09-30", "--json").exit_code == 0
    assert (saved / "stages.npz").read_bytes() == whole


def test_a_page_cannot_take_the_place_of_a_folder(fitted_work: Path) -> None:
    (fitted_work / "pages").mkdir()
    job, place = fitted_work / "dealcast.toml", fitted_work / "pages"
    error = error_of(run("report", job, "--as-of", "2026-09-30", "--output", place, "--json"))
    assert error["type"] == "SettingsError"
    assert "choose another place" in error["message"]


def test_empty_pipeline_is_said_and_forecast(fitted_work: Path) -> None:
    rows = table(fitted_work, "stage_history")
    closed = rows.loc[rows["stage"].isin(["Won", "Lost to competitor", "No decision"]), "deal_id"]
    last = rows.groupby("deal_id")["entered_at"].transform("max")
    spoil(fitted_work, "stage_history", rows[rows["deal_id"].isin(closed) & last.le("2026-09-30")])
    (fitted_work / "out" / "deals.png").write_text("of an earlier forecast")
    result = run("forecast", fitted_work / "dealcast.toml", "--as-of", "2026-09-30")
    assert result.exit_code == 0
    assert not (fitted_work / "out" / "deals.png").exists()
    assert "no deal is open" in result.stderr
    assert "No deal is open" in result.stdout
    rows = json.loads((fitted_work / "out" / "forecast.json").read_text(encoding="utf-8"))["revenue"]
    assert {row["p95"] for row in rows if row["source"] == "open"} == {0.0}


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('currency = "EUR"', 'currencey = "EUR"', "currencey"),
        ("draws = 200", 'draws = "many"', "forecast.draws"),
        ('"deals.csv"', '"nowhere.csv"', "nowhere.csv"),
        ("[stages]", "[stages", "TOML"),
        ("since = 2026-10-01", "since = 2027-10-01", "target"),
        ("seed = 4", 'seed = 4\nsegment = ["planet"]', "planet"),
    ],
)
def test_a_bad_job_file_is_named_before_any_work(work: Path, old: str, new: str, said: str) -> None:
    job = work / "dealcast.toml"
    text = job.read_text(encoding="utf-8")
    assert old in text
    job.write_text(text.replace(old, new), encoding="utf-8")
    error = error_of(run("forecast", job, "--as-of", "2026-09-30", "--json"))
    assert error["type"] == "SettingsError"
    assert said in error["message"]
    assert not (work / "out").exists()


@pytest.mark.parametrize(
    "options",
    [
        ("--as-of", "yesterday"),
        ("--as-of", "1999-01-01"),
        ("--as-of", "2026-09-30", "--by", "2036-01-01"),
        ("--as-of", "2026-09-30", "--confidence", "80"),
        ("--as-of", "2026-09-30", "--target", "-1"),
    ],
)
def test_options_that_make_no_sense(fitted_work: Path, options: tuple[str, ...]) -> None:
    result = run("forecast", fitted_work / "dealcast.toml", *options)
    assert result.exit_code == 1
    assert not (fitted_work / "out" / "forecast.json").exists()


@pytest.mark.parametrize("name", ["deals", "stage_history"])
@pytest.mark.parametrize("delimiter", [",", ";"])
@pytest.mark.parametrize("where", [1, 100, -1])
@pytest.mark.parametrize("change", [-1, 2])
def test_one_ragged_row_is_rejected_and_counted(work: Path, name: str, delimiter: str, where: int, change: int) -> None:
    before = rejected(work)
    path = work / f"{name}.csv"
    n_rows = {each: len(table(work, each)) for each in ("deals", "stage_history")}
    lines = [line.split(",") for line in path.read_text(encoding="utf-8").splitlines()]
    n_fields = len(lines[0])
    lines[where] = (lines[where] + ["more"] * change) if change > 0 else lines[where][:change]
    path.write_text("\n".join(delimiter.join(line) for line in lines), encoding="utf-8")
    result = run("check", work / "dealcast.toml", "--json")
    assert result.exit_code == 0, result.stderr
    quality = json.loads(result.stdout)["data_quality"]
    after = {row["reason"]: row["count"] for row in quality["rows_rejected"]}
    assert quality["rows_in"] == sum(n_rows.values()) == quality["rows_used"] + sum(after.values())
    reason = f"{name}: expected {n_fields} fields, got {n_fields + change}"
    assert after[reason] == 1
    # besides the row itself only what hangs on it: the deal, and the stage rows of the deal
    others = {key: count - before.get(key, 0) for key, count in after.items() if count > before.get(key, 0)}
    assert set(others) <= {reason, "deals: closed at an unknown date", "stage_history: its deal was rejected"}
    example = next(row["examples"] for row in quality["rows_rejected"] if row["reason"] == reason)
    assert example[0].startswith(f"line {where % len(lines) + 1}: {lines[where][0]}{delimiter}")
    assert reason.partition(": ")[2] in run("check", work / "dealcast.toml").stdout


@pytest.mark.parametrize("content", ["\n\n", "   \n", "\ufeff", "\0\0\0\0"])
def test_a_file_without_a_header(work: Path, content: str) -> None:
    (work / "deals.csv").write_text(content, encoding="utf-8")
    error = error_of(run("check", work / "dealcast.toml", "--json"))
    assert error["type"] in {"EmptyInputError", "MissingColumnError"}


def test_an_open_quote_says_where_and_what_to_do(work: Path) -> None:
    path = work / "stage_history.csv"
    lines = path.read_text(encoding="utf-8").splitlines()
    lines[7] = '"' + lines[7]
    path.write_text("\n".join(lines), encoding="utf-8")
    error = error_of(run("check", work / "dealcast.toml", "--json"))
    assert error["type"] == "InputError"
    assert "line 8 " in error["message"]
    assert "close the quote" in error["message"]
