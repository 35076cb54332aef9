"""Where the two tables come from: CSV, Parquet, DataFrames or SQL; all end as ``deals_raw`` and ``history_raw``."""

from difflib import get_close_matches
from hashlib import sha256
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd

from forecasting.data.csv_file import add_ragged, read_csv
from models.errors import EmptyInputError, InputError, MissingColumnError, SettingsError

RAW_DEALS, RAW_HISTORY = "deals_raw", "history_raw"
REQUIRED = {RAW_DEALS: ("deal_id", "created_at", "amount"), RAW_HISTORY: ("deal_id", "stage", "entered_at")}
"""Columns each table must have."""
TABLE_NAMES = {RAW_DEALS: "deals", RAW_HISTORY: "stage_history"}


def connect() -> Any:
    """Open an in-memory database whose session speaks UTC, whatever the machine is set to."""
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    return connection


def add_file(connection: Any, name: str, path: str | Path) -> str:
    """Make a CSV or Parquet file the table ``name``; returns the SHA-256 of its bytes.

    Values of a CSV file stay text, and only the empty field is missing: ``NA``, ``None`` and ``001`` are names. Its rows
    that do not fit the header are set aside, see :mod:`forecasting.data.csv_file`.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        raise InputError(f"{TABLE_NAMES[name]}: there is no file {file}; check the path")
    if file.stat().st_size == 0:
        raise EmptyInputError(f"{TABLE_NAMES[name]}: the file {file} is empty; expected a header and at least one row")
    # a table, not a view: the file is parsed once
    if file.suffix.lower() in {".parquet", ".pq"}:
        text = str(file).replace("'", "''")
        try:
            connection.execute(f"CREATE TEMP TABLE {name} AS SELECT * FROM read_parquet('{text}')")
        except duckdb.Error as error:
            raise InputError(f"{TABLE_NAMES[name]}: {file} cannot be read; expected Parquet or CSV. {error}") from error
    else:
        read_csv(connection, name, file, what=TABLE_NAMES[name], required=REQUIRED[name])
    with file.open("rb") as handle:
        digest = sha256()
        while block := handle.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def add_frame(connection: Any, name: str, frame: pd.DataFrame) -> str:
    """Make a DataFrame the table ``name``; returns a SHA-256 of its content."""
    plain = frame.reset_index(drop=True).copy()
    plain.columns = [str(column) for column in plain.columns]
    for column in plain.columns:
        if not pd.api.types.is_numeric_dtype(plain[column]) and not pd.api.types.is_datetime64_any_dtype(plain[column]):
            missing = plain[column].isna()
            plain[column] = plain[column].astype(object).map(str).where(~missing, None)
    if plain.empty:
        raise EmptyInputError(f"{TABLE_NAMES[name]}: the table has no rows; expected at least one")
    connection.register(f"{name}_frame", plain)
    connection.execute(f"CREATE TEMP TABLE {name} AS SELECT * FROM {name}_frame")
    connection.unregister(f"{name}_frame")
    header = ",".join(f"{column}:{plain[column].dtype}" for column in plain.columns)
    return sha256(header.encode() + pd.util.hash_pandas_object(plain, index=False).to_numpy().tobytes()).hexdigest()


def add_query(connection: Any, name: str, query: str) -> str:
    """Make the rows of a SQL query on the attached database the table ``name``; returns a SHA-256 of its content."""
    try:
        connection.execute(f"CREATE TEMP TABLE {name} AS {query.strip().rstrip(';')}")
    except duckdb.Error as error:
        raise InputError(f"{TABLE_NAMES[name]}: the database refuses the query {query!r}. {error}") from error
    rows = connection.execute(f"SELECT count(*), sum(hash(t)::HUGEINT)::VARCHAR FROM {name} AS t").fetchone()
    return sha256(f"{query}{rows}".encode()).hexdigest()


def attach(connection: Any, url: str, *, folder: Path) -> None:
    """Attach a database read-only and make it the default one.

    ``url`` is the path of a DuckDB file (also ``duckdb:///path``), ``sqlite:///path`` or ``postgresql://...``; the
    latter two need DuckDB's extension of that name.
    """
    scheme, _, rest = url.partition("://")
    scheme = scheme.split("+")[0]
    if not rest:
        scheme, rest = "duckdb", "/" + url
    if scheme in {"duckdb", "sqlite"}:
        path = (folder / rest.removeprefix("/")).expanduser()
        if not path.is_file():
            raise InputError(f"data.url: there is no database file {path}; check the path")
        target = str(path)
    elif scheme in {"postgresql", "postgres"}:
        scheme, target = "postgres", f"postgresql://{rest}"
    else:
        raise SettingsError(
            f"data.url: databases of kind {scheme!r} are not supported; expected a DuckDB file, sqlite:/// or postgresql://"
        )
    kind = "" if scheme == "duckdb" else f", TYPE {scheme}"
    quoted = target.replace("'", "''")
    try:
        connection.execute(f"ATTACH '{quoted}' AS source (READ_ONLY{kind}); USE source")
    except duckdb.Error as error:
        # the address may hold a password: it is not repeated
        reason = str(error).replace(target, "...")
        raise InputError(
            f"data.url: the {scheme} database cannot be opened (DuckDB needs its extension {scheme!r} for it). {reason}"
        ) from error


def check_columns(connection: Any, name: str) -> dict[str, str]:
    """Column name to DuckDB type; raises where a required column or every row is missing."""
    types = {row[0]: row[1] for row in connection.execute(f"DESCRIBE {name}").fetchall()}
    for column in REQUIRED[name]:
        if column not in types:
            close = get_close_matches(column, types, n=1, cutoff=0.5)
            hint = f"; rename {close[0]!r} if that is it" if close else ""
            raise MissingColumnError(
                f"{TABLE_NAMES[name]}: the column {column!r} is missing; expected {', '.join(REQUIRED[name])}, "
                f"got {', '.join(types)}{hint}"
            )
    if not connection.execute(f"SELECT 1 FROM {name} LIMIT 1").fetchall():
        bad = connection.execute(
            f"SELECT count(*), arg_min(concat('In ', example, ': ', reason), line) FROM {add_ragged(connection, name)}"
        )
        count, first = bad.fetchone()
        if count:
            raise InputError(
                f"{TABLE_NAMES[name]}: none of the {count:,} rows fits the header {', '.join(types)}. {first}. Correct the "
                "header or the rows"
            )
        raise EmptyInputError(f"{TABLE_NAMES[name]}: the table has a header and no rows; expected at least one")
    return types
