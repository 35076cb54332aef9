"""CSV files read by DuckDB with nothing guessed but the delimiter, and that from the header alone.

DuckDB's own detection looks for a delimiter with which all rows agree: one ragged row, and it settles for another one. Here
the header decides, rows that do not fit it are set aside with their line and reason, and what makes the end of rows
uncertain (a quote that is never closed, bytes that are not text) is an error: nothing is lost unsaid.
"""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd

from models.errors import EmptyInputError, InputError

DELIMITERS = (",", ";", "\t", "|")
"""Looked for in the header; the first wins a tie."""
_HEADER_LINES = 50
_SHOWN = 90
_MAX_LINE = 2_000_000
_TOO_LONG = f"has more than {_MAX_LINE:,} bytes; shorten it, or close the quote if one is open there"


def read_csv(connection: Any, name: str, file: Path, *, what: str, required: Sequence[str]) -> None:
    """Make the rows of a CSV file the table ``name``, all columns text, and those that do not fit ``name_ragged``.

    Parameters
    ----------
    connection : DuckDB connection
    name : str
    file : path
        May be compressed, as its name tells.
    what : str
        What the table is called in messages.
    required : sequence of str
        Columns that tell the right delimiter; the first names the row.

    Raises
    ------
    EmptyInputError
        No header.
    InputError
        Not text, quotes or line ends that leave open where rows end, or lines beyond all measure.
    """
    try:
        lines = _first_lines(connection, file)
        if not any(line.strip() for line in lines):
            raise EmptyInputError(f"{what}: the file {file} is blank; expected a header and at least one row")
        skip, delimiter, columns = read_header(lines, required)
        listed = ", ".join(f"{_literal(column)}: 'VARCHAR'" for column in columns)
        connection.execute(f"""
            CREATE TEMP TABLE {name} AS SELECT * FROM read_csv({_literal(str(file))}, auto_detect = false,
                columns = {{{listed}}}, header = true, skip = {skip}, delim = {_literal(delimiter)}, quote = '"',
                escape = '"', nullstr = '', strict_mode = true, store_rejects = true, rejects_limit = 0,
                max_line_size = {_MAX_LINE},
                rejects_table = '{name}_errors', rejects_scan = '{name}_scan')""")
    except duckdb.Error as error:
        raise InputError(f"{what}: {file} cannot be read; {_remedy(str(error))}") from error
    _set_ragged_aside(connection, name, columns, delimiter=delimiter, key=required[0], what=f"{what}: {file}")


def add_ragged(connection: Any, name: str) -> str:
    """Make the table of rows that do not fit, empty unless there is one; returns its name.

    ``key`` is what stands where the first required column should.
    """
    connection.execute(
        f"CREATE TEMP TABLE IF NOT EXISTS {name}_ragged "
        "(line BIGINT, reason VARCHAR, example VARCHAR, key VARCHAR, fields VARCHAR[])"
    )
    return f"{name}_ragged"


def read_header(lines: Sequence[str], required: Sequence[str]) -> tuple[int, str, list[str]]:
    r"""Blank lines before the header, its delimiter, and its columns.

    The delimiter is the one with which most of the required columns are found, then the one that gives most columns.

    Examples
    --------
    >>> read_header(["", '"deal_id";"amount (net, EUR)";created_at'], ("deal_id", "created_at", "amount"))
    (1, ';', ['deal_id', 'amount (net, EUR)', 'created_at'])
    >>> read_header(["deal_id\tamount\tAmount\t"], ("deal_id",))
    (0, '\t', ['deal_id', 'amount', 'Amount_1', 'column3'])
    """
    skip = next((place for place, line in enumerate(lines) if line.strip()), 0)
    text = [line + "\n" for line in lines[skip:]]
    found = [(delimiter, _columns(_fields(text, delimiter), required)) for delimiter in DELIMITERS]
    delimiter, columns = max(found, key=lambda each: (len(set(required) & set(each[1])), len(each[1])))
    return skip, delimiter, columns


def _fields(lines: Sequence[str], delimiter: str) -> list[str]:
    """Fields of the row that begins with the first line."""
    try:
        return next(csv.reader(lines, delimiter=delimiter), [""])
    except csv.Error:  # a field too long for that module
        return lines[0].split(delimiter)


def _columns(cells: Sequence[str], required: Sequence[str]) -> list[str]:
    """Names of the columns: told apart, whatever their case, and never empty; one written as required keeps its name."""
    plain = [cell.strip() or f"column{place}" for place, cell in enumerate(cells)]
    kept = set(required) & set(plain)
    columns: list[str] = []
    taken: set[str] = set()
    for name in plain:
        column, number = name, 0
        while column.lower() in taken or (column.lower() in kept and column not in kept):
            number += 1
            column = f"{name}_{number}"
        taken.add(column.lower())
        columns.append(column)
    return columns


def _first_lines(connection: Any, file: Path) -> list[str]:
    """Read the lines in which the header is: DuckDB undoes compression and byte-order marks."""
    rows = connection.execute(
        f"SELECT line FROM read_csv({_literal(str(file))}, auto_detect = false, columns = {{'line': 'VARCHAR'}}, "
        f"header = false, delim = '\x01', quote = '', escape = '', strict_mode = false) LIMIT {_HEADER_LINES}"
    ).fetchall()
    return [row[0] or "" for row in rows]


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _remedy(error: str) -> str:
    """Say what was expected and what to do."""
    if "unicode" in error or "utf-8" in error:
        return f"it is not UTF-8 text: save it as 'CSV UTF-8' and try again. {error.splitlines()[0]}"
    if "line size" in error.lower():
        return f"a line {_TOO_LONG}"
    if "invalid state" in error:
        return "some of its lines end with CR LF and some with LF alone: save it again with one kind of line ends"
    return f"expected UTF-8 text with one header line, or Parquet. {error}"


def _set_ragged_aside(
    connection: Any, name: str, columns: Sequence[str], *, delimiter: str, key: str, what: str
) -> None:
    """Fill ``name_ragged`` from what DuckDB rejected, one row per row of the file; blank lines are no rows."""
    ragged = add_ragged(connection, name)
    rows = connection.execute(f"""
        SELECT line, trim(any_value(csv_line), chr(13) || chr(10)), list(DISTINCT error_type::VARCHAR)
        FROM {name}_errors WHERE NOT regexp_full_match(csv_line, '[ \\r\\n]*')
        GROUP BY line, line_byte_position ORDER BY line""").fetchall()
    found = []
    for line, text, kinds in rows:
        _refuse_uncertain(f"{what}, line {line}", text, kinds, swallows=_swallows_rows(text, delimiter, len(columns)))
        fields = _fields([text], delimiter)
        reason = f"expected {len(columns)} fields, got {len(fields)}"
        place = columns.index(key) if key in columns else len(fields)
        found.append((line, reason, f"line {line}: {shown(text)}", fields[place : place + 1], fields))
    if found:
        table = pd.DataFrame(found, columns=["line", "reason", "example", "key", "fields"])
        connection.register(f"{name}_found", table)
        connection.execute(f"INSERT INTO {ragged} SELECT line, reason, example, key[1], fields FROM {name}_found")
        connection.unregister(f"{name}_found")


def _swallows_rows(text: str, delimiter: str, n_columns: int) -> bool:
    """Whether the line breaks of a row are not those of a text within quotes, or of one with delimiters enough for a row.

    Such a text begins where one quote was forgotten and ends where another was: the rows between are no text.
    """
    if "\n" not in text and "\r" not in text:
        return False
    try:
        (fields,) = csv.reader([text], delimiter=delimiter, strict=True)
    except (csv.Error, ValueError):
        return True
    return any(field.count(delimiter) >= n_columns - 1 for field in fields if len(field.splitlines()) > 1)


def _refuse_uncertain(where: str, text: str, kinds: Sequence[str], *, swallows: bool) -> None:
    """Raise where a row is not only ragged but leaves open what belongs to it."""
    if "INVALID ENCODING" in kinds or "INVALID UNICODE" in kinds:
        raise InputError(
            f"{where}: these bytes are not UTF-8 text: save the file as 'CSV UTF-8' and try again. {shown(text)}"
        )
    if "LINE SIZE OVER MAXIMUM" in kinds:
        raise InputError(f"{where} {_TOO_LONG}. {shown(text)}")
    # where a quote is never closed, DuckDB's account of the row, and what it reads after it, cannot be relied upon
    if "UNQUOTED VALUE" in kinds or swallows:
        raise InputError(
            f"{where} or just after: a quote is opened and not closed, or text follows a closing quote, so it is unknown "
            f"where rows end; close the quote, and write quotes inside a text twice. {shown(text)}"
        )
    strange = set(kinds) - {"MISSING COLUMNS", "TOO MANY COLUMNS"}
    if strange:
        raise InputError(f"{where}: {', '.join(sorted(strange)).lower()}; correct the line. {shown(text)}")


def shown(text: str) -> str:
    """Give the first characters of a line as they can be printed."""
    plain = "".join(letter if letter.isprintable() else " " for letter in text[: _SHOWN + 1])
    return plain if len(plain) <= _SHOWN else plain[:_SHOWN] + " ..."
