"""The held-out scores run at their toy size, and count what happened after the cut once each."""

from datetime import date
from pathlib import Path

import pandas as pd
import pytest

from benchmarks.accuracy import stage_scores
from forecasting.data.deals import deals_from_frames
from forecasting.data.snapshot import cut
from models.stages import StageGraph


def test_every_family_is_scored_with_and_without_amount(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert stage_scores.main(["--toy", "--save", "--folder", str(tmp_path)]) == 0
    kept = pd.read_csv(tmp_path / stage_scores.SAVED_NAME)
    assert kept["covariates"].tolist() == ["plain", "amount"]
    assert (kept[[*stage_scores.FAMILIES, "auto"]] < 0.0).all(axis=None)
    printed = capsys.readouterr().out
    for name in (*stage_scores.FAMILIES, "auto", "plain", "amount", "behind the best single family"):
        assert name in printed


def test_later_stays_by_hand() -> None:
    graph = StageGraph(open=["Lead", "Offer"], won=["Won"], lost=["Lost"])
    rows = [
        ("A", "Lead", "2026-01-01"), ("A", "Offer", "2026-01-03"), ("A", "Won", "2026-01-09"),
        ("B", "Lead", "2026-01-04"), ("B", "Lost", "2026-01-08"),
        ("C", "Lead", "2026-01-06"), ("C", "Offer", "2026-01-06"),
        ("D", "Lead", "2026-01-01"), ("D", "Won", "2026-01-10"),
        ("E", "Lead", "2026-01-01"), ("E", "Lost", "2026-01-05"),
    ]  # fmt: skip
    entries = pd.DataFrame(rows, columns=["deal_id", "stage", "entered_at"])
    table = pd.DataFrame({"deal_id": list("ABCDE"), "created_at": "2026-01-01", "amount": 1.0})
    deals = deals_from_frames(table, entries, stages=graph)
    before, after = (cut(deals, as_of=date(2026, 1, day)) for day in (5, 10))
    stays, left_out = stage_scores.later_stays(before, after)
    found = sorted(map(tuple, stays[["stage", "next", "days", "days_known", "count"]].to_numpy().tolist()))
    # running at the cut: the offer of A, the leads of B and D; nobody had won by then
    assert found == [(0, 1, 0, -1, 1), (0, 3, 4, 1, 1), (1, -1, 4, -1, 1)]
    assert left_out == 2
