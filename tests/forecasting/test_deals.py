"""Reading: names stay names, order is irrelevant, every row is used or counted, and what cannot be used says why."""

import gzip
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from forecasting.data.deals import Deals, deals_from_database, deals_from_frames, read_deals
from models.errors import EmptyInputError, InputError, MissingColumnError, SettingsError, UnknownStageError
from models.stages import StageGraph

GRAPH = StageGraph(open=("Lead", "Proposal", "Negotiation"), won=("Won",), lost=("Lost", "No decision"))


def table(*rows: tuple[object, ...], columns: str = "deal_id created_at amount") -> pd.DataFrame:
    return pd.DataFrame(rows, columns=columns.split())


def history(*rows: tuple[object, ...], columns: str = "deal_id stage entered_at") -> pd.DataFrame:
    return pd.DataFrame(rows, columns=columns.split())


def path_of(deals: Deals, deal_id: str = "A") -> list[str]:
    rows = deals.entries[deals.entries["deal_id"] == deal_id]
    return [GRAPH.stages[code] for code in rows["stage"]]


def reasons(deals: Deals, name: str) -> dict[str, int]:
    return {finding.reason: finding.count for finding in deals.quality[name].rejections}


ONE = table(("A", "2026-01-05", "100"))
NO_NUMBER = (
    "amount is not a number: expected plain digits with a decimal point, such as 1200.50; take thousands separators, "
    "decimal commas and currencies out"
)
TOO_LARGE = "amount is beyond 100,000,000,000,000, which is taken for a typing error: correct it, or take a larger unit"


# --- sources -------------------------------------------------------------------------------------------------


@pytest.fixture
def sample() -> tuple[pd.DataFrame, pd.DataFrame]:
    ids = ["NA", "None", "NULL", "001", "1", "nan", "é,1"]
    deals = pd.DataFrame(
        {
            "deal_id": ids,
            "created_at": "2026-01-05",
            "amount": ["10", "", "30.5", "1e3", "0", "7", "8"],
            "region": "N/A",
        }
    )
    rows = [(name, stage, day) for name in ids for stage, day in (("Lead", "2026-01-05"), ("Won", "2026-02-01"))]
    return deals, history(*rows)


def write(folder: Path, tables: tuple[pd.DataFrame, pd.DataFrame], suffix: str) -> tuple[Path, Path]:
    paths = folder / f"deals{suffix}", folder / f"stage_history{suffix}"
    for path, frame in zip(paths, tables, strict=True):
        if suffix == ".parquet":
            frame.to_parquet(path)
        elif suffix == ".csv.gz":
            path.write_bytes(gzip.compress(frame.to_csv(index=False).encode()))
        else:
            frame.to_csv(path, index=False)
    return paths


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz", ".parquet"])
def test_files_and_frames_give_the_same_deals_and_ids_are_names(
    tmp_path: Path, sample: tuple[pd.DataFrame, pd.DataFrame], suffix: str
) -> None:
    read = read_deals(*write(tmp_path, sample, suffix), stages=GRAPH)
    framed = deals_from_frames(*sample, stages=GRAPH)
    pd.testing.assert_frame_equal(read.deals, framed.deals)
    pd.testing.assert_frame_equal(read.entries, framed.entries)
    assert read.deals["deal_id"].tolist() == sorted(sample[0]["deal_id"])
    assert set(read.deals["region"]) == {"N/A"}
    amounts = dict(zip(read.deals["deal_id"], read.deals["amount"], strict=True))
    assert amounts["001"] == 1000
    assert amounts["1"] == 0
    assert np.isnan(amounts["None"])
    assert read.deals["created_on"].dtype == "datetime64[ns]"


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_parquet_with_zoned_times_of_any_unit(
    tmp_path: Path, sample: tuple[pd.DataFrame, pd.DataFrame], unit: str
) -> None:
    deals, moves = sample
    stamp = (
        pd.to_datetime(deals["created_at"].str.replace("-05", "-04") + " 23:30").dt.tz_localize("UTC").dt.as_unit(unit)
    )
    paths = write(tmp_path, (deals.assign(created_at=stamp), moves), ".parquet")
    read = read_deals(*paths, stages=GRAPH, timezone="Europe/Amsterdam")
    assert set(read.deals["created_on"]) == {pd.Timestamp("2026-01-05")}  # half past midnight there


@pytest.mark.parametrize("value", [pd.Timestamp("2026-01-05"), [1.0], True])
def test_parquet_with_amounts_that_are_none_is_rejected_row_by_row(
    tmp_path: Path, sample: tuple[pd.DataFrame, pd.DataFrame], value: object
) -> None:
    deals, moves = sample
    paths = write(tmp_path, (deals.assign(amount=[value] * len(deals)), moves), ".parquet")
    with pytest.raises(EmptyInputError, match="amount is not a number"):
        read_deals(*paths, stages=GRAPH)


def test_a_database_gives_the_same_deals(tmp_path: Path, sample: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    with duckdb.connect(str(tmp_path / "crm.duckdb")) as connection:
        for name, frame in zip(("opportunity", "moves"), sample, strict=True):
            connection.register("frame", frame)
            connection.execute(f"CREATE TABLE {name} AS SELECT * FROM frame")
    queries = ("SELECT * FROM opportunity", "SELECT deal_id, stage, entered_at FROM moves;")
    read = deals_from_database("crm.duckdb", queries, stages=GRAPH, folder=tmp_path)
    pd.testing.assert_frame_equal(read.entries, deals_from_frames(*sample, stages=GRAPH).entries)
    with pytest.raises(InputError, match="deals: the database refuses the query"):
        deals_from_database("crm.duckdb", ("SELECT * FROM nothing", queries[1]), stages=GRAPH, folder=tmp_path)


@pytest.mark.parametrize(
    ("url", "error", "match"),
    [
        ("missing.duckdb", InputError, "no database file"),
        ("oracle://host/db", SettingsError, "not supported"),
    ],
)
def test_a_database_that_is_not_there_is_named(tmp_path: Path, url: str, error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        deals_from_database(url, ("SELECT 1", "SELECT 1"), stages=GRAPH, folder=tmp_path)


def test_the_hash_follows_the_content(tmp_path: Path, sample: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    paths = write(tmp_path, sample, ".csv")
    first = read_deals(*paths, stages=GRAPH).inputs_sha256
    assert read_deals(*paths, stages=GRAPH).inputs_sha256 == first
    assert read_deals(*paths, stages=GRAPH, currency="EUR").inputs_sha256 != first
    assert read_deals(*paths, stages=GRAPH, timezone="Asia/Tokyo").inputs_sha256 != first
    paths[0].write_text(paths[0].read_text(encoding="utf-8").replace("1e3", "1e4"), encoding="utf-8")
    assert read_deals(*paths, stages=GRAPH).inputs_sha256 != first


@pytest.mark.parametrize(
    ("deals", "moves", "error", "match"),
    [
        ("deal_id,created_at,amout\nA,2026-01-05,1\n", None, MissingColumnError, "'amount' is missing.*'amout'"),
        (None, "deal_id,stage,date\nA,Lead,2026-01-05\n", MissingColumnError, "stage_history: the column 'entered_at'"),
        ("", None, EmptyInputError, "is empty"),
        ("deal_id,created_at,amount\n", None, EmptyInputError, "no rows"),
        (None, "deal_id,stage,entered_at\n", EmptyInputError, "no rows"),
        ("deal_id,created_at,amount\nA,2026-01-05,-1\n", None, EmptyInputError, "no usable deal.*negative"),
        (b"deal_id,created_at,amount\nA\xff,2026-01-05,1\n", None, InputError, "UTF-8"),
    ],
)
def test_files_that_cannot_be_used_give_a_named_error(
    tmp_path: Path, deals: str | bytes | None, moves: str | None, error: type[Exception], match: str
) -> None:
    paths = tmp_path / "deals.csv", tmp_path / "stage_history.csv"
    written = "deal_id,created_at,amount\nA,2026-01-05,1\n" if deals is None else deals
    paths[0].write_bytes(written if isinstance(written, bytes) else written.encode())
    paths[1].write_text("deal_id,stage,entered_at\nA,Lead,2026-01-05\n" if moves is None else moves)
    with pytest.raises(error, match=f"(?s){match}"):
        read_deals(*paths, stages=GRAPH)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no file .*nowhere\.csv"):
        read_deals(tmp_path / "nowhere.csv", tmp_path / "b.csv", stages=GRAPH)


def test_unknown_stages_are_refused_all_at_once_with_counts() -> None:
    moves = history(
        ("A", "Lead", "2026-01-05"), ("A", "lead", "2026-01-06"), ("A", "Demo", "2026-01-07"), ("B", "Demo", "")
    )
    with pytest.raises(UnknownStageError, match=r"'Demo' \(2 rows, for instance deal A\); 'lead' \(1 rows"):
        deals_from_frames(ONE, moves, stages=GRAPH)


@pytest.mark.parametrize("written", ["Won ", " won", "WON", "\u00a0Won", "W on\u3000"])
def test_a_stage_that_differs_by_blanks_or_case_is_refused_with_the_one_it_resembles(written: str) -> None:
    moves = history(("A", "Lead", "2026-01-05"), ("A", written, "2026-01-06"), ("A", "Demo", "2026-01-07"))
    with pytest.raises(UnknownStageError) as error:
        deals_from_frames(ONE, moves, stages=GRAPH)
    assert f"{written!r} (1 rows, for instance deal A), which is 'Won' but for blanks or case" in str(error.value)
    assert "'Demo' (1 rows, for instance deal A)" in str(error.value)
    assert str(error.value).count("but for") == 1


@pytest.mark.parametrize("written", ["A ", " A", "\u00a0A", "a", "A\t"])
def test_an_id_that_differs_by_blanks_or_case_is_another_deal_and_says_which_it_resembles(written: str) -> None:
    moves = history(
        ("A", "Lead", "2026-01-05"), (written, "Won", "2026-01-06"), ("B", "Lead", "2026-01-05"), ("C", "Lead", "")
    )
    result = deals_from_frames(ONE, moves, stages=GRAPH)
    assert path_of(result) == ["Lead"]
    alike = next(each for each in result.quality["stage_history"].rejections if "other blanks" in each.reason)
    assert (alike.count, alike.examples) == (1, (f"{written}: Won, the deals table has 'A'",))
    assert reasons(result, "stage_history")["deal is not in the deals table"] == 1
    # both are in the table: two deals, whatever they look like
    both = deals_from_frames(table(("A", "2026-01-05", "1"), (written, "2026-01-05", "2")), moves, stages=GRAPH)
    assert sorted(both.deals["deal_id"]) == sorted(["A", written])


def test_stage_rows_of_a_rejected_deal_name_no_other_deal() -> None:
    deals = table(("A", "2026-01-05", "1"), ("a", "2026-01-05", "-1"))
    moves = history(("A", "Lead", "2026-01-05"), ("a", "Lead", "2026-01-05"))
    found = deals_from_frames(deals, moves, stages=GRAPH).quality["stage_history"].rejections
    assert [(each.reason, each.examples) for each in found] == [("its deal was rejected", ("a: Lead",))]


# --- time ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "timezone", "day"),
    [
        ("2026-03-31", None, "2026-03-31"),
        ("2026-03-31", "America/New_York", "2026-03-31"),
        ("2026-03-31T23:30:00", None, "2026-03-31"),
        ("2026-03-31 23:30", "America/New_York", "2026-03-31"),
        ("2026-03-31T23:30:00Z", "Europe/Amsterdam", "2026-04-01"),
        ("2026-04-01T03:30:00.123456789Z", "America/New_York", "2026-03-31"),
        ("2026-04-01T00:30:00.5+02:00", "UTC", "2026-03-31"),
        ("2026-04-01 00:30:00+0200", "UTC", "2026-03-31"),
        ("2026-01-31T22:30:00Z", "Europe/Amsterdam", "2026-01-31"),
        ("2026-07-31T22:30:00Z", "Europe/Amsterdam", "2026-08-01"),
    ],
)
def test_instants_become_the_date_at_the_place_of_business(written: str, timezone: str | None, day: str) -> None:
    result = deals_from_frames(
        table(("A", "2026-01-01", 1.0)), history(("A", "Lead", written)), stages=GRAPH, timezone=timezone
    )
    assert result.entries["entered_on"].tolist() == [pd.Timestamp(day)]


def test_columns_that_are_dates_already_need_no_parsing() -> None:
    moves = history(("A", "Lead", pd.Timestamp("2026-01-05 23:30", tz="UTC")))
    deals = pd.DataFrame({"deal_id": ["A"], "created_at": pd.to_datetime(["2026-01-05"]), "amount": [1]})
    result = deals_from_frames(deals, moves, stages=GRAPH, timezone="Europe/Amsterdam")
    assert result.entries["entered_on"].tolist() == [pd.Timestamp("2026-01-06")]


def test_an_instant_without_a_timezone_is_refused_and_an_unknown_one_too() -> None:
    moves = history(("A", "Lead", "2026-01-05T10:00:00Z"))
    with pytest.raises(SettingsError, match=r"entered_at carries a time with an offset .*timezone"):
        deals_from_frames(ONE, moves, stages=GRAPH)
    with pytest.raises(SettingsError, match="unknown timezone 'Europe/Atlantis'"):
        deals_from_frames(ONE, moves, stages=GRAPH, timezone="Europe/Atlantis")


@pytest.mark.parametrize(
    "text", ["31/12/2026", "soon", "infinity", "2026-02-30", "2026-13-01", "9999-12-31", "12", "epoch"]
)
def test_what_is_not_a_date_is_rejected(text: str) -> None:
    moves = history(("A", "Lead", "2026-01-05"), ("A", "Proposal", text))
    result = deals_from_frames(ONE, moves, stages=GRAPH)
    assert reasons(result, "stage_history") == {"entered_at is not a date": 1}
    assert path_of(result) == ["Lead"]


# --- order ---------------------------------------------------------------------------------------------------


def test_entries_of_one_date_are_taken_in_stage_order_with_the_closing_last() -> None:
    moves = history(("A", "No decision", "2026-01-05"), ("A", "Proposal", "2026-01-05"), ("A", "Lead", "2026-01-05"))
    assert path_of(deals_from_frames(ONE, moves, stages=GRAPH)) == ["Lead", "Proposal", "No decision"]


def test_the_clock_orders_a_day_and_a_plain_date_in_it_hands_over_to_the_stages() -> None:
    timed = [("A", "Proposal", "2026-01-05T09:00:00"), ("A", "Lead", "2026-01-05T10:00:00")]
    assert path_of(deals_from_frames(ONE, history(*timed), stages=GRAPH)) == ["Proposal", "Lead"]
    mixed = history(*timed, ("A", "Negotiation", "2026-01-05"), ("A", "Won", "2026-01-06"))
    assert path_of(deals_from_frames(ONE, mixed, stages=GRAPH)) == ["Lead", "Proposal", "Negotiation", "Won"]


def test_a_stage_entered_twice_in_a_row_is_used_and_noted() -> None:
    moves = history(("A", "Lead", "2026-01-05"), ("A", "Lead", "2026-01-09"), ("A", "Won", "2026-01-10"))
    result = deals_from_frames(ONE, moves, stages=GRAPH)
    assert result.entries["moved"].tolist() == [True, False, True]
    assert result.entries["order"].tolist() == [0, 1, 2]
    assert result.quality["stage_history"].notes[0].count == 1
    assert result.quality["stage_history"].rows_rejected == 0


def dated(*later: tuple[str, str, str], n: int = 40) -> Deals:
    """A history of n entries on days in a row, and some later ones."""
    days = pd.date_range("2026-01-05", periods=n).strftime("%Y-%m-%d")
    ids = [f"D{place}" for place in range(n)]
    deals = pd.DataFrame({"deal_id": ids, "created_at": days, "amount": "1"})
    moves = history(*((name, "Lead", day) for name, day in zip(ids, days, strict=True)), *later)
    return deals_from_frames(deals, moves, stages=GRAPH)


@pytest.mark.parametrize(
    ("later", "noted"),
    [
        ([("D7", "Won", "2062-03-01")], ["D7: Won on 2062-03-01"]),
        # far ahead of each other too: all are named at once
        (
            [("D7", "Won", "2099-01-01"), ("D1", "Lost", "2062-03-01"), ("D7", "Proposal", "2062-03-01")],
            ["D1: Lost on 2062-03-01", "D7: Proposal on 2062-03-01", "D7: Won on 2099-01-01"],
        ),
        ([("D7", "Won", "2027-02-14")], []),
        # a break in the business, not a slip
        ([(f"D{place}", "Won", "2029-01-01") for place in range(10)], []),
        ([], []),
    ],
)
def test_entries_far_from_all_others_are_named(later: list[tuple[str, str, str]], noted: list[str]) -> None:
    quality = dated(*later).quality["stage_history"]
    far = [note for note in quality.notes if note.reason.startswith("dated more than a year after all other rows")]
    assert [example for note in far for example in note.examples] == noted
    assert sum(note.count for note in far) == len(noted)
    assert quality.rows_rejected == 0


@pytest.mark.parametrize(("day", "n", "noted"), [("1970-01-01", 4, 4), ("1970-01-01", 9, 0), ("2025-03-01", 4, 0)])
def test_deals_that_begin_long_before_all_others_are_named(day: str, n: int, noted: int) -> None:
    days = [day] * n + pd.date_range("2026-01-05", periods=40).strftime("%Y-%m-%d").tolist()
    ids = [f"D{place:02d}" for place in range(len(days))]
    deals = pd.DataFrame({"deal_id": ids, "created_at": days, "amount": "1"})
    moves = history(*((name, "Lead", entered) for name, entered in zip(ids, days, strict=True)))
    quality = deals_from_frames(deals, moves, stages=GRAPH).quality["stage_history"]
    early = [note for note in quality.notes if note.reason.startswith("dated more than a year before all other rows")]
    assert sum(note.count for note in early) == noted


def test_a_history_of_rare_entries_is_not_doubted() -> None:
    moves = history(*(("A", "Lead", f"{year}-01-05") for year in range(2011, 2027, 2)))
    deals = deals_from_frames(table(("A", "2010-01-05", "1")), moves, stages=GRAPH)
    assert [note.count for note in deals.quality["stage_history"].notes] == [7]  # the stage it was in already


# --- faults --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (("B", "2026-01-05", "-3"), "amount is negative"),
        *((("B", "2026-01-05", text), NO_NUMBER) for text in ("1.234,56", "1,200", "EUR 500", "1 200", "inf", "nan")),
        *((("B", "2026-01-05", text), TOO_LARGE) for text in ("1e15", "-100000000000001")),
        (("B", "05.01.2026", "3"), "created_at is not a date"),
        (("B", "", "3"), "created_at is missing"),
        (("", "2026-01-05", "3"), "deal_id is missing"),
        (("C", "2026-01-05", "3"), "no usable stage entry"),
    ],
)
def test_a_faulty_deal_is_rejected_with_its_stage_rows(row: tuple[str, str, str], reason: str) -> None:
    moves = history(("A", "Lead", "2026-01-05"), ("B", "Lead", "2026-01-05"), ("B", "Won", "2026-01-09"))
    result = deals_from_frames(table(*ONE.itertuples(index=False), row), moves, stages=GRAPH)
    assert reasons(result, "deals") == {reason: 1}
    assert result.deals["deal_id"].tolist() == ["A"]
    why = "its deal was rejected" if row[0] == "B" else "deal is not in the deals table"
    assert reasons(result, "stage_history") == {why: 2}
    assert result.quality["deals"].rejections[0].examples[0].startswith(row[0] or "(no id)")


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (("B", "Won", "2026-01-04"), "closed before it was created"),
        (("B", "Proposal", "2026-01-04"), "entered a stage before it was created"),
        (("B", "Won", "yesterday"), "closed at an unknown date"),
        (("B", "Lost", ""), "closed at an unknown date"),
    ],
)
def test_a_deal_whose_story_is_known_to_be_false_is_rejected(row: tuple[str, str, str], reason: str) -> None:
    deals = table(("A", "2026-01-05", "1"), ("B", "2026-01-05", "1"))
    moves = history(("A", "Lead", "2026-01-05"), ("B", "Lead", "2026-01-05"), row)
    result = deals_from_frames(deals, moves, stages=GRAPH)
    assert reasons(result, "deals") == {reason: 1}
    assert result.quality["stage_history"].rows_used == 1


@pytest.mark.parametrize(("text", "amount"), [("1.5e3", 1500.0), ("1E14", 1e14), ("+5", 5.0), (" 7 ", 7.0)])
def test_any_plain_number_is_an_amount(text: str, amount: float) -> None:
    result = deals_from_frames(table(("A", "2026-01-05", text)), history(("A", "Lead", "2026-01-05")), stages=GRAPH)
    assert result.deals["amount"].tolist() == [amount]
    assert not result.quality["deals"].rejections


def test_duplicate_deals_keep_the_one_created_first() -> None:
    deals = table(
        ("A", "2026-01-07", "7"), ("A", "2026-01-05", "5"), ("A", "2026-01-05", "5"), ("A", "2026-01-01", "-1")
    )
    result = deals_from_frames(deals, history(("A", "Lead", "2026-01-08")), stages=GRAPH)
    assert result.deals["amount"].tolist() == [5.0]
    assert sorted(reasons(result, "deals").values()) == [1, 1, 1]
    assert "deal_id came before: the same row delivered again" in reasons(result, "deals")


def test_entries_delivered_again_are_rejected_and_another_amount_is_no_copy() -> None:
    moves = history(
        ("A", "Lead", "2026-01-05", "1"),
        ("A", "Lead", "2026-01-05", "1"),
        ("A", "Lead", "2026-01-05", "2"),
        ("A", "Won", "2026-01-06", "x"),
        ("A", "Won", "2026-01-06", "-5"),
        columns="deal_id stage entered_at amount",
    )
    result = deals_from_frames(ONE, moves, stages=GRAPH)
    assert reasons(result, "stage_history") == {"the same entry delivered again": 2}
    np.testing.assert_array_equal(result.entries["amount"], [1.0, 2.0, np.nan])
    noted = [note for note in result.quality["stage_history"].notes if note.reason.startswith("amount cannot be read")]
    assert noted[0].count == 2


def test_other_currencies_are_rejected_when_one_is_named_and_refused_when_none_is() -> None:
    deals = table(
        ("A", "2026-01-05", "1", "EUR"), ("B", "2026-01-05", "1", "usd"), columns="deal_id created_at amount currency"
    )
    moves = history(("A", "Lead", "2026-01-05"), ("B", "Lead", "2026-01-05"))
    result = deals_from_frames(deals, moves, stages=GRAPH, currency="EUR")
    assert reasons(result, "deals") == {"currency is not the one forecast": 1}
    with pytest.raises(SettingsError, match="several currencies \\(EUR, USD\\)"):
        deals_from_frames(deals, moves, stages=GRAPH)
    assert deals_from_frames(deals.head(1), moves, stages=GRAPH).currency == "EUR"


def test_column_names_of_the_export_cannot_clash_with_ours() -> None:
    deals = ONE.assign(**{"fault": "x", "deal": "y", "stage": "z", 'a "quoted" name': "w", "rank": "1"})
    result = deals_from_frames(deals, history(("A", "Lead", "2026-01-05")), stages=GRAPH)
    assert result.deals.loc[0, ["fault", "deal", "stage", 'a "quoted" name', "rank"]].tolist() == [
        "x",
        "y",
        "z",
        "w",
        "1",
    ]


# --- laws ----------------------------------------------------------------------------------------------------

ids = st.sampled_from(["A", "B", "NA", "001", "", None])
dates = st.sampled_from(
    ["2026-01-01", "2026-01-02", "2026-01-03T10:00:00", "2026-01-03", "2026-01-04 08:00", "bad", "", None]
)
amounts = st.sampled_from(["1", "2.5", "", "-1", "x", None])
stages = st.sampled_from([*GRAPH.stages, "", None])
deal_rows = st.lists(st.tuples(ids, dates, amounts), min_size=0, max_size=8)
history_rows = st.lists(st.tuples(ids, stages, dates, amounts), min_size=0, max_size=14)
lawful = settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@lawful
@given(deal_rows, history_rows, st.randoms(use_true_random=False))
def test_every_row_is_used_or_counted_and_row_order_is_irrelevant(
    dirty_deals: list[tuple[str, ...]], dirty_moves: list[tuple[str, ...]], random: object
) -> None:
    sound = ("Z", "2026-01-01", "9")
    deals = table(*dirty_deals, sound)
    moves = history(*dirty_moves, ("Z", "Lead", "2026-01-01", "9"), columns="deal_id stage entered_at amount")
    result = deals_from_frames(deals, moves, stages=GRAPH)
    for name, rows, used in (("deals", deals, result.deals), ("stage_history", moves, result.entries)):
        quality = result.quality[name]
        assert quality.rows_in == len(rows)
        assert quality.rows_used == len(used)
        assert quality.rows_in == quality.rows_used + sum(finding.count for finding in quality.rejections)
        assert all(len(finding.examples) == min(finding.count, 5) for finding in quality.rejections)
    assert result.deals["deal_id"].is_unique
    assert set(result.entries["deal_id"]) == set(result.deals["deal_id"])
    shuffled = deals_from_frames(
        deals.sample(frac=1, random_state=random.randrange(99)),  # type: ignore[attr-defined]
        moves.sample(frac=1, random_state=random.randrange(99)),  # type: ignore[attr-defined]
        stages=GRAPH,
    )
    pd.testing.assert_frame_equal(shuffled.deals, result.deals)
    pd.testing.assert_frame_equal(shuffled.entries, result.entries)
    assert shuffled.quality == result.quality
