"""Files of a forecast: their keys are a promise, they come together or not at all, and a run repeated repeats them."""

import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from planted_findings import planted_findings, planted_forecast

from forecasting.output import artefacts
from forecasting.output.artefacts import write_artefacts
from forecasting.output.files import write_together
from forecasting.output.forecast_json import ForecastRecord, RevenueRecord, TargetRecord, forecast_record
from models.errors import SettingsError

KEYS = {
    "": (
        "schema_version as_of until currency seed draws inputs_sha256 model calibration new_calibration levels "
        "diagnostics revenue target data_quality"
    ),
    "calibration": "origins bias scale sd",
    "levels": "forward down",
    "levels.forward": "p10 p50 p90",
    "diagnostics": "rhat_max ess_min divergences",
    "revenue": "period_start period_end source segment mean p05 p10 p25 p50 p75 p90 p95",
    "target": "amount since by attainment_probability leads_needed last_useful_creation_date",
    "data_quality": "rows_in rows_used rows_rejected",
    "data_quality.rows_rejected": "reason count examples",
}
DEALS = (
    "deal_id stage days_in_stage amount win_probability win_probability_by_until close_date_p10 close_date_p50 "
    "close_date_p90 stall_percentile target_swing"
)
SCHEMA_PAGE = Path(__file__).parents[2] / "docs" / "schema.md"


def test_the_keys_of_forecast_json_are_those_promised() -> None:
    schema = ForecastRecord.model_json_schema()
    parts = schema["$defs"]
    records = {
        "": schema,
        "calibration": parts["CalibrationRecord"],
        "levels": parts["LevelsRecord"],
        "levels.forward": parts["LevelRecord"],
        "diagnostics": parts["DiagnosticsRecord"],
        "revenue": parts["RevenueRecord"],
        "target": parts["TargetRecord"],
        "data_quality": parts["DataQualityRecord"],
        "data_quality.rows_rejected": parts["RejectionRecord"],
    }
    assert {name: list(record["properties"]) for name, record in records.items()} == {
        name: keys.split() for name, keys in KEYS.items()
    }


def test_files_hold_what_the_record_says(tmp_path: Path) -> None:
    found = planted_findings(planted_forecast())
    files = write_artefacts(found, tmp_path / "out")
    assert set(files) == {
        "forecast.json", "deals.parquet", "revenue.csv", "report.html", "revenue.png", "attainment.png", "stages.png",
        "deals.png",
    }  # fmt: skip
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(files)
    content = json.loads(files["forecast.json"].read_text())
    assert list(content) == KEYS[""].split()
    assert content["schema_version"] == "1"
    assert (content["as_of"], content["until"], content["draws"]) == ("2026-09-30", "2026-12-31", 400)
    assert content["data_quality"]["rows_in"] == content["data_quality"]["rows_used"] + sum(
        row["count"] for row in content["data_quality"]["rows_rejected"]
    )
    assert content["levels"]["forward"] == pytest.approx({"p10": 1.5, "p50": 1.5, "p90": 1.5})
    assert content["levels"]["down"]["p50"] == pytest.approx(1.0)
    table = pd.read_csv(files["revenue.csv"])
    assert list(table.columns) == list(RevenueRecord.model_fields)
    assert len(table) == len(content["revenue"]) == 4 * 4 * 3  # months, sources, all and two segments
    np.testing.assert_allclose(table["mean"], [row["mean"] for row in content["revenue"]], atol=0.005)
    assert " ".join(pd.read_parquet(files["deals.parquet"]).columns) == DEALS


def test_sources_and_segments_add_up_in_the_file() -> None:
    rows = pd.DataFrame([row.model_dump() for row in forecast_record(planted_findings(planted_forecast())).revenue])
    everything = rows[rows["segment"].isna()].pivot_table(index="period_start", columns="source", values="mean")
    np.testing.assert_allclose(everything["total"], everything[["booked", "open", "new"]].sum(axis=1))
    parts = rows[rows["segment"].notna() & (rows["source"] == "total")].groupby("period_start")["mean"].sum()
    np.testing.assert_allclose(parts, everything["total"])


def test_the_same_run_gives_the_same_bytes(tmp_path: Path) -> None:
    first, second = (write_artefacts(planted_findings(planted_forecast()), tmp_path / name) for name in ("a", "b"))
    for name in first:
        assert first[name].read_bytes() == second[name].read_bytes(), name


def test_no_target_is_null_and_an_unreachable_one_needs_no_number() -> None:
    forecast = planted_forecast()
    assert forecast_record(planted_findings(forecast, target=None)).target is None
    target = forecast_record(planted_findings(forecast, target=1e9, leads=None)).target
    assert isinstance(target, TargetRecord)
    assert (target.attainment_probability, target.leads_needed, target.last_useful_creation_date) == (0.0, None, None)


def test_a_failure_while_writing_leaves_the_earlier_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = planted_findings(planted_forecast())
    write_artefacts(found, tmp_path, with_pictures=False)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def fail(*_: object) -> str:
        raise RuntimeError("no page today")

    monkeypatch.setattr(artefacts, "report_html", fail)
    with pytest.raises(RuntimeError, match="no page today"):
        write_artefacts(planted_findings(planted_forecast(scale=5e4)), tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_no_half_file_is_left_behind(tmp_path: Path) -> None:
    contents: dict[str, bytes] = {"good": b"1", "bad/name": b"2"}
    with pytest.raises(OSError, match="bad/name"):
        write_together(contents, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_where_one_file_cannot_be_replaced_all_are_what_they_were(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("old")
    (tmp_path / "c").mkdir()
    with pytest.raises(SettingsError, match="cannot write"):
        write_together({"a": b"new", "b": b"new", "c": b"new"}, tmp_path)
    assert (tmp_path / "a").read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "c"]


def test_a_run_that_is_stopped_while_files_take_their_places_changes_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").write_text("old")
    (tmp_path / "b").symlink_to("nowhere")
    put, moved = os.replace, []

    def stopped(made: Path, place: Path) -> None:
        moved.append(place)
        if len(moved) == 3:
            raise KeyboardInterrupt
        put(made, place)

    monkeypatch.setattr(os, "replace", stopped)
    with pytest.raises(KeyboardInterrupt):
        write_together({"a": b"new", "b": b"new", "c": b"new"}, tmp_path)
    assert (tmp_path / "a").read_text() == "old"
    assert os.readlink(tmp_path / "b") == "nowhere"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


def test_a_folder_that_cannot_be_is_a_settings_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(SettingsError, match="cannot write to the output folder"):
        write_together({"a": b""}, tmp_path / "file" / "out")


def test_the_schema_page_names_every_key_and_column() -> None:
    page = SCHEMA_PAGE.read_text(encoding="utf-8")
    names = [name for keys in KEYS.values() for name in keys.split()] + DEALS.split()
    assert [name for name in names if f"`{name}`" not in page] == []
