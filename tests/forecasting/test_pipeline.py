"""The open pipeline refuses what cannot be open."""

from datetime import date

import numpy as np
import pandas as pd
import pytest

from forecasting.data.open_pipeline import PIPELINE_COLUMNS, OpenPipeline
from models.errors import SettingsError
from models.stages import StageGraph

GRAPH = StageGraph(open=("Lead",), won=("Won",), lost=("Lost",))
CELLS = np.zeros((1, 0), dtype=np.int32)


def pipeline(stage: int = 0, days: int = 3) -> OpenPipeline:
    rows = [("A", stage, days, np.nan, 0, "", None)]
    return OpenPipeline(GRAPH, date(2026, 1, 1), pd.DataFrame(rows, columns=PIPELINE_COLUMNS), CELLS)


def test_it_counts_its_deals() -> None:
    assert (pipeline().n_deals, pipeline().amount_missing) == (1, 1)


@pytest.mark.parametrize(("stage", "days", "match"), [(1, 3, "open stage"), (0, -1, "negative"), (-1, 0, "open stage")])
def test_closed_deals_and_negative_days_are_refused(stage: int, days: int, match: str) -> None:
    with pytest.raises(SettingsError, match=match):
        pipeline(stage, days)


def test_columns_are_fixed() -> None:
    with pytest.raises(SettingsError, match="columns"):
        OpenPipeline(GRAPH, date(2026, 1, 1), pd.DataFrame({"deal_id": ["A"]}), CELLS)


def test_an_empty_pipeline_is_a_pipeline() -> None:
    empty = pd.DataFrame({name: [] for name in PIPELINE_COLUMNS})
    assert OpenPipeline(GRAPH, date(2026, 1, 1), empty, CELLS).n_deals == 0
