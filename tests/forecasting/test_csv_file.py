"""CSV files with every fault we can think of: rows are read or set aside with a reason, or the file is refused."""

import csv
import gzip
import io
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forecasting.data.csv_file import DELIMITERS, read_csv
from forecasting.data.deals import read_deals
from forecasting.data.given import read_plan
from forecasting.data.sources import connect
from models.errors import EmptyInputError, InputError, MissingColumnError
from models.stages import StageGraph

COLUMNS = ("deal_id", "created_at", "amount", "owner")
HEAD = ",".join(COLUMNS) + "\n"
ROW = "A,2026-01-05,900,Anna\n"
GRAPH = StageGraph(open=["Lead", "Offer"], won=["Won"], lost=["Lost"])
Rows = list[tuple[str | None, ...]]
Aside = list[tuple[int, str, str | None]]


def found(content: bytes, *, name: str = "deals.csv", threads: int = 1) -> tuple[list[str], Rows, Aside]:
    """Columns, rows read, and rows set aside: line, reason, key."""
    with TemporaryDirectory() as folder, connect() as connection:
        path = Path(folder, name)
        path.write_bytes(content)
        connection.execute(f"SET threads = {threads}")
        read_csv(connection, "t", path, what="deals", required=COLUMNS[:3])
        columns = [row[0] for row in connection.execute("DESCRIBE t").fetchall()]
        aside = connection.execute("SELECT line, reason, key FROM t_ragged ORDER BY line").fetchall()
        return columns, connection.execute("FROM t").fetchall(), aside


def wanted(fields: tuple[str, ...]) -> tuple[str | None, ...]:
    """What a row of these fields is read as."""
    return tuple(field or None for field in fields)


@pytest.mark.parametrize("delimiter", DELIMITERS)
@pytest.mark.parametrize("quoted", [False, True])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_the_header_tells_the_delimiter(delimiter: str, quoted: bool, mark: bytes, line_end: str) -> None:
    header = [f'"{name}"' if quoted else name for name in COLUMNS]
    # each row holds the other delimiters more often than the right one
    other = "".join(each * 9 for each in DELIMITERS if each != delimiter)
    lines = [
        delimiter.join(header),
        *([delimiter.join(("A", "2026-01-05", "900", other))] * 3),
        delimiter.join("Bx"),
        "",
    ]
    columns, rows, aside = found(mark + line_end.join(lines).encode())
    assert columns == list(COLUMNS)
    assert rows == [("A", "2026-01-05", "900", other)] * 3
    assert aside == [(5, "expected 4 fields, got 2", "B")]


def test_the_delimiter_is_the_one_that_finds_the_columns() -> None:
    columns, rows, _ = found(b'deal_id;"created_at";"amount";"net, gross, tax, all"\nA;2026-01-05;9;x\n')
    assert columns == ["deal_id", "created_at", "amount", "net, gross, tax, all"]
    assert rows == [("A", "2026-01-05", "9", "x")]


def test_columns_are_told_apart_and_none_is_nameless() -> None:
    columns, rows, _ = found(b"deal_id, created_at ,amount,Amount,,'x'\nA,2026-01-05,9,8,7,6\n")
    assert columns == ["deal_id", "created_at", "amount", "Amount_1", "column4", "'x'"]
    assert rows == [("A", "2026-01-05", "9", "8", "7", "6")]


def test_a_column_named_as_required_keeps_its_name() -> None:
    columns, rows, _ = found(b"deal_id,created_at,Amount,AMOUNT,amount,amount\nA,2026-01-05,8,7,9,6\n")
    assert columns == ["deal_id", "created_at", "Amount_1", "AMOUNT_2", "amount", "amount_3"]
    assert rows == [("A", "2026-01-05", "8", "7", "9", "6")]


FIELD = st.sampled_from(
    ["", "a", "x y", "1.5", " ", "é", "NA", "#", "\\", "'", 'say "x"', '"', "one\ntwo", ",", ";", "\t", "|"]
)


@settings(deadline=None)
@given(
    rows=st.lists(st.lists(FIELD, min_size=1, max_size=7).map(tuple), min_size=1, max_size=30),
    delimiter=st.sampled_from(DELIMITERS),
    line_end=st.sampled_from(["\n", "\r\n"]),
    mark=st.booleans(),
    blank_end=st.sampled_from(["", "\n", "\n\n\n", "   \n"]),
    threads=st.sampled_from([1, 4]),
)
def test_every_row_is_read_or_set_aside(
    rows: list[tuple[str, ...]], delimiter: str, line_end: str, mark: bool, blank_end: str, threads: int
) -> None:
    rows = [row if any(field.strip() for field in row) else ("k", *row[1:]) for row in rows]
    # empty fields beyond the last column say nothing
    rows = [(*row[:-1], row[-1] or "z") if len(row) > 4 else row for row in rows]
    buffer = io.StringIO()
    writer = csv.writer(buffer, delimiter=delimiter, lineterminator="\n")
    writer.writerows([COLUMNS, *rows])
    content = ("\ufeff" if mark else "") + (buffer.getvalue() + blank_end).replace("\n", line_end)
    _, read, aside = found(content.encode(), threads=threads)
    whole = [wanted(row) for row in rows if len(row) == 4]
    assert [tuple(v.replace("\r\n", "\n") if v else v for v in row) for row in read] == whole
    reasons = [f"expected 4 fields, got {len(row)}" for row in rows if len(row) != 4]
    assert [reason for _, reason, _ in aside] == reasons
    assert [(key or "").replace("\r\n", "\n") for _, _, key in aside] == [row[0] for row in rows if len(row) != 4]
    assert len(read) + len(aside) == len(rows)


@pytest.mark.parametrize("threads", [1, 4])
@pytest.mark.parametrize("name", ["deals.csv", "deals.csv.gz"])
@pytest.mark.parametrize("delimiter", [",", ";"])
def test_a_large_file_with_ragged_rows_at_both_ends(threads: int, name: str, delimiter: str) -> None:
    n, bad = 200_000, {0: "D0", 77_777: "D77777,2026-01-05,1,Anna,x,y", 199_999: "D199999,2026-01-05"}
    lines = [bad.get(k, f"D{k},2026-01-05,{k},someone with quite a long name") for k in range(n)]
    text = (HEAD + "\n".join(lines)).replace(",", delimiter).encode()
    content = gzip.compress(text, compresslevel=1) if name.endswith("gz") else text
    _, rows, aside = found(content, name=name, threads=threads)
    assert len(rows) == n - 3
    assert aside == [
        (2, "expected 4 fields, got 1", "D0"),
        (77_779, "expected 4 fields, got 6", "D77777"),
        (200_001, "expected 4 fields, got 2", "D199999"),
    ]


@pytest.mark.parametrize(
    ("content", "n_rows", "n_aside"),
    [
        (HEAD + ROW + "   \n" + ROW, 2, 0),
        (HEAD + ROW + "\n\n" + ROW + "\n\n\n", 2, 0),
        ("\n  \n" + HEAD + ROW, 1, 0),
        (HEAD + ROW.strip(), 1, 0),
        (HEAD + 'A,2026-01-05,9,"two\nlines, and ""more"""\n' + ROW, 2, 0),
        (HEAD + 'A,2026-01-05,9,6" pipe\n' + ROW, 2, 0),
        (HEAD + "A\0,2026-01-05,9,x\n" + ROW, 2, 0),
        (HEAD + ROW + "\0\0\0\0\0", 1, 1),
        (HEAD + ROW + "\x1a", 1, 1),
        (HEAD + ROW.strip() + ",,,\n" + ROW, 2, 0),
        (HEAD + ",,,\n" + ROW, 2, 0),
        (HEAD + ",,\n" + ROW, 1, 1),
        (HEAD + ROW.strip() + ",,,x\n" + ROW, 1, 1),
        (HEAD + ROW + "# a comment\n", 1, 1),
        (HEAD + 'A,"two\nlines, and ""more""",9\n' + ROW, 1, 1),
        (HEAD + 'A,2026-01-05,9,x,"two\nlines","and\n\nthree"\n' + ROW, 1, 1),
        (HEAD + ROW + 'A,"two\nlines"', 1, 1),
        (HEAD + ROW + 'A,2026-01-05,9,"two\rlines",x\n' + ROW, 2, 1),
        # rows end with CR LF, lines within quotes with LF: spreadsheets write so
        ((HEAD + ROW + 'A,2026-01-05,9,"two&lines",x\n' + ROW).replace("\n", "\r\n").replace("&", "\n"), 2, 1),
        (HEAD + ROW + "x" * 200_000 + ",1\n", 1, 1),
        ('deal_id,created_at,"amount",\n' + "A,2026-01-05,9,\n", 1, 0),
        ('deal_id,created_at,amount,"own\ner"\n' + ROW, 1, 0),
    ],
)
def test_odd_but_readable(content: str, n_rows: int, n_aside: int) -> None:
    _, rows, aside = found(content.encode())
    assert (len(rows), len(aside)) == (n_rows, n_aside)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ((HEAD + 'A,"2026-01-05,9,x\n' + ROW * 3).encode(), ["line 2", "close the quote"]),
        ((HEAD + ROW * 3 + '"A,2026-01-05,9,x').encode(), ["line 5", "close the quote"]),
        ((HEAD + 'A,"2026-01-05,9,x\n' + ROW * 50_000).encode(), ["line 2", "close the quote"]),
        ((HEAD + ROW * 200_000 + 'A,"2026-01-05,9,x\n' + ROW * 200_000).encode(), ["line 200002", "close the quote"]),
        ((HEAD + 'A,"2026-01-05,9\nA,2026-01-05,"\n' + ROW).encode(), ["line 2", "close the quote"]),
        (
            (HEAD + 'A,"2026-01-05,9,x\n' + ROW * 3 + 'B,2026-01-05,9,6"\n' + ROW).encode(),
            ["line 2", "close the quote"],
        ),
        ((HEAD + '"A"x,2026-01-05,9,x\n' + ROW).encode(), ["line 2", "close the quote"]),
        ((HEAD + '"A \\"x\\" b",2026-01-05,9,x\n' + ROW).encode(), ["line 2", "twice"]),
        ((HEAD + ROW + "A," + "x" * 3_000_000 + ",9,x\n").encode(), ["2,000,000 bytes", "shorten"]),
        ((HEAD + ROW * 9_000 + "A," + "x" * 3_000_000 + ",9,x\n").encode(), ["line 9002", "2,000,000 bytes"]),
        ((HEAD + ROW + "A,2026-01-05,9,Zoë\n").encode("latin-1"), ["UTF-8", "save"]),
        ((HEAD + ROW * 90_000 + "A,2026-01-05,9,Zoë\n").encode("latin-1"), ["line 90002", "UTF-8", "save"]),
        ((HEAD.replace("owner", "propriété") + ROW).encode("latin-1"), ["UTF-8", "save"]),
        ((HEAD + ROW).encode("utf-16"), ["UTF-8", "save"]),
        ((HEAD + ROW + ROW.replace("\n", "\r\n") + ROW).encode(), ["CR LF", "save"]),
        ((HEAD + ROW * 90_000 + ROW.replace("\n", "\r\n")).encode(), ["CR LF", "save"]),
        ((HEAD.replace("\n", "\r\n") + ROW).encode(), ["CR LF", "save"]),
    ],
)
@pytest.mark.parametrize("threads", [1, 4])
def test_files_that_leave_open_where_rows_end_are_refused(content: bytes, said: list[str], threads: int) -> None:
    with pytest.raises(InputError) as error:
        found(content, threads=threads)
    message = str(error.value)
    for words in ("deals: ", "deals.csv", *said):
        assert words in message
    assert len(message) < 600


def written(folder: Path, deals: str, history: str) -> tuple[Path, Path]:
    """Both files."""
    (folder / "d.csv").write_text(deals)
    (folder / "h.csv").write_text(history)
    return folder / "d.csv", folder / "h.csv"


HISTORY = "deal_id,stage,entered_at,amount\nA,Lead,2026-01-05,\nB,Lead,2026-01-05,\nC,Lead,2026-01-05,\n"
TABLE = HEAD + ROW + ROW.replace("A,", "B,") + ROW.replace("A,", "C,")


def test_a_deal_whose_ragged_row_closes_it_does_not_pass_as_open(tmp_path: Path) -> None:
    deals = read_deals(*written(tmp_path, TABLE, HISTORY + "A,Won,2026-02-01\nB,Offer,2026-02-01\n"), stages=GRAPH)
    assert deals.deals["deal_id"].tolist() == ["B", "C"]
    assert deals.quality["deals"].rejections[0].reason == "closed at an unknown date"
    assert deals.quality["deals"].rejections[0].examples == ("A: stage_history, line 5: A,Won,2026-02-01",)
    found = {each.reason: each.count for each in deals.quality["stage_history"].rejections}
    assert found == {"expected 4 fields, got 3": 2, "its deal was rejected": 1}
    assert deals.quality["stage_history"].rows_in == 5


def test_stage_rows_of_a_ragged_deal_say_so(tmp_path: Path) -> None:
    deals = read_deals(*written(tmp_path, TABLE.replace("A,", "A;,x,", 1) + "Z,1\n", HISTORY), stages=GRAPH)
    assert deals.quality["deals"].rows_in == 4
    assert {each.reason for each in deals.quality["deals"].rejections} == {
        "expected 4 fields, got 5",
        "expected 4 fields, got 2",
    }
    ragged = read_deals(*written(tmp_path, TABLE.replace("900,Anna", "900", 1), HISTORY), stages=GRAPH)
    assert [each.reason for each in ragged.quality["stage_history"].rejections] == ["its deal was rejected"]


def test_a_ragged_row_with_line_breaks_is_rejected_and_told_in_one_line(tmp_path: Path) -> None:
    lost = HISTORY.replace("B,", 'A,Won,2026-02-01,9,"two\nlines"\nB,', 1)
    deals = read_deals(*written(tmp_path, TABLE + 'Z,"2026-01-05\n"\n', lost), stages=GRAPH)
    assert deals.deals["deal_id"].tolist() == ["B", "C"]
    told = [each.examples for table in deals.quality.tables for each in table.rejections if "fields" in each.reason]
    assert told == [('line 5: Z,"2026-01-05 "',), ('line 3: A,Won,2026-02-01,9,"two lines"',)]
    assert deals.quality["deals"].rejections[0].reason == "closed at an unknown date"
    assert [table.rows_in for table in deals.quality.tables] == [4, 4]


def test_examples_come_in_the_order_of_lines(tmp_path: Path) -> None:
    deals = read_deals(*written(tmp_path, TABLE + "x\n" * 20, HISTORY), stages=GRAPH)
    finding = deals.quality["deals"].rejections[0]
    assert finding.count == 20
    assert finding.examples == tuple(f"line {line}: x" for line in range(5, 10))


def test_no_row_fits_the_header(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"none of the 3 rows fits the header.*line 2: A,2026.*expected 5 fields, got 4"
    ):
        read_deals(*written(tmp_path, TABLE.replace("owner", "owner,region"), HISTORY), stages=GRAPH)
    with pytest.raises(EmptyInputError):
        read_deals(*written(tmp_path, HEAD, HISTORY), stages=GRAPH)
    with pytest.raises(MissingColumnError, match=r"'amount' is missing.*got deal_id, created_at, amt; rename 'amt'"):
        read_deals(*written(tmp_path, "deal_id;created_at;amt\nA;2026-01-05;9\n", HISTORY), stages=GRAPH)


def test_a_ragged_row_of_a_plan_is_named(tmp_path: Path) -> None:
    path = tmp_path / "plan.csv"
    path.write_text("period_start;deals\n2026-10-01;80\n2026-11-01\n")
    with pytest.raises(InputError, match=r"^plan: expected 2 fields, got 1 in line 3: 2026-11-01$"):
        read_plan(path)
    path.write_text("\ufeffperiod_start;deals\n2026-10-01;80\n2026-11-01;75\n")
    assert read_plan(path)["deals"].tolist() == [80, 75]
