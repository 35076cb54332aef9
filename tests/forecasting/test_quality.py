"""The data-quality record: sums over both tables, and a text a person can act on."""

from forecasting.data.quality import DataQuality, Finding, TableQuality

DIRTY = DataQuality(
    (
        TableQuality("deals", 10, 7, (Finding("late", 2, ("A", "B")), Finding("bad", 1, ("C",))), (Finding("odd", 4),)),
        TableQuality("stage_history", 30, 29, (Finding("copy", 1, ("D",)),)),
    )
)


def test_the_record_of_the_artefacts_adds_up() -> None:
    record = DIRTY.to_dict()
    assert set(record) == {"rows_in", "rows_used", "rows_rejected"}
    assert record["rows_in"] == record["rows_used"] + sum(row["count"] for row in record["rows_rejected"])
    assert record["rows_rejected"][0] == {"reason": "deals: late", "count": 2, "examples": ["A", "B"]}


def test_the_text_names_every_reason_and_example() -> None:
    text = DIRTY.to_text()
    for words in ("deals: 10 rows, 7 used, 3 rejected", "rejected 2: late", "note 4: odd", "rejected 1: copy", "    D"):
        assert words in text
    assert DIRTY["stage_history"].rows_rejected == 1


def test_a_forecast_hears_of_rows_left_out_that_are_many_and_lost() -> None:
    assert DIRTY.warnings[0].startswith("3 of 10 rows of deals are left out, 2 of them because: late.")
    assert len(DIRTY.warnings) == 2
    few = TableQuality("deals", 1000, 991, (Finding("late", 9),))
    twice = TableQuality("stage_history", 30, 10, (Finding("the same entry delivered again", 20),))
    assert DataQuality((few, twice)).warnings == []
