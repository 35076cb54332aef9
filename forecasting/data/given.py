"""Small tables that people give beside the deals: what a manager committed to, and how many new deals are planned.

Both are CSV or Parquet files, or DataFrames with the same columns. A complaint names the table, the row and the column.
"""

from collections.abc import Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd

from forecasting.data.csv_file import read_csv
from forecasting.periods import as_date, next_period_start
from models.arrivals.plan import ALL_GROUPS, ArrivalPlan, PlannedDeals, check_plan
from models.errors import EmptyInputError, InputError, MissingColumnError, SettingsError

LARGEST_PLAN = 1_000_000
"""New deals in a period; more are money in the place of deals."""
_COMMITS, _PLAN = ("as_of", "amount"), ("period_start", "deals")


def read_commits(path: str | Path) -> pd.DataFrame:
    """Read a file of commits, see :func:`commit_table`."""
    return commit_table(_read(path, "commits", required=_COMMITS))


def commit_table(frame: pd.DataFrame) -> pd.DataFrame:
    """Check a table of what was committed to.

    Parameters
    ----------
    frame : DataFrame
        ``as_of`` (last known day), ``amount`` (revenue of all deals from the day after to ``until``, currency units; may
        be empty where only a target is told); optionally ``until`` (empty: whatever horizon is asked) and ``target``.

    Returns
    -------
    DataFrame
        ``as_of``, ``until`` (datetime64[ns], NaT = any), ``amount``, ``target`` (NaN = none).

    Raises
    ------
    MissingColumnError, InputError, EmptyInputError

    Examples
    --------
    >>> commit_table(pd.DataFrame({"as_of": ["2026-03-31"], "amount": [5e5]})).values.tolist()
    [[Timestamp('2026-03-31 00:00:00'), NaT, 500000.0, nan]]
    """
    table = _checked(frame, "commits", required=_COMMITS, optional=("until", "target"))
    found = pd.DataFrame(
        {
            "as_of": _dates(table, "commits", "as_of"),
            "until": _dates(table, "commits", "until", empty=True),
            "amount": _numbers(table, "commits", "amount"),
            "target": _numbers(table, "commits", "target"),
        }
    )
    silent = found.index[found["amount"].isna() & found["target"].isna()]
    if len(silent):
        raise InputError(f"commits, row {silent[0] + 1}: neither amount nor target is told; expected one of them")
    twice = found.duplicated(["as_of", "until"])
    if twice.any():
        row = found[twice].iloc[0]
        raise InputError(f"commits: as_of {row['as_of'].date()} is told twice for the same until; keep one row of them")
    return found


def read_plan(path: str | Path) -> pd.DataFrame:
    """Read a file of planned new deals, see :func:`plan_table`."""
    return plan_table(_read(path, "plan", required=_PLAN))


def plan_table(frame: pd.DataFrame) -> pd.DataFrame:
    """Check a table of planned numbers of new deals.

    Parameters
    ----------
    frame : DataFrame
        ``period_start``, ``deals`` (new deals in the period, zero or more); optionally ``segment`` (empty: all together)
        and ``period_end`` (last day). Without ``period_end`` periods are months when all begin on the first of one,
        or weeks when all begin on the same weekday.

    Returns
    -------
    DataFrame
        ``period_start``, ``period_end`` (date, both included), ``segment`` (text, None = all), ``deals``.

    Raises
    ------
    MissingColumnError, InputError, EmptyInputError

    Examples
    --------
    >>> plan_table(pd.DataFrame({"period_start": ["2026-10-01", "2026-11-01"], "deals": [80, 95]}))["period_end"].tolist()
    [datetime.date(2026, 10, 31), datetime.date(2026, 11, 30)]
    """
    table = _checked(frame, "plan", required=_PLAN, optional=("segment", "period_end"))
    deals = _numbers(table, "plan", "deals")
    if deals.isna().any():
        raise InputError(f"plan, row {deals.index[deals.isna()][0] + 1}: deals is empty; expected a number")
    if (deals > LARGEST_PLAN).any():
        row = deals.index[deals > LARGEST_PLAN][0]
        raise InputError(
            f"plan, row {row + 1}: {deals[row]:.6g} deals; expected a number of deals, at most {LARGEST_PLAN:,}"
        )
    first = [stamp.date() for stamp in _dates(table, "plan", "period_start")]
    told = _dates(table, "plan", "period_end", empty=True)
    guessed = _period_ends(first) if told.isna().any() else first
    last = [end if pd.isna(stamp) else stamp.date() for stamp, end in zip(told, guessed, strict=True)]
    for row, (begin, end) in enumerate(zip(first, last, strict=True), start=1):
        if end < begin:
            raise InputError(f"plan, row {row}: period_end {end} lies before period_start {begin}")
    segment = [None if _is_empty(value) else str(value).strip() for value in table["segment"]]
    named = {"period_start": first, "period_end": last, "segment": pd.Series(segment, dtype=object), "deals": deals}
    return pd.DataFrame(named)


def arrival_plan(plan: pd.DataFrame, groups: Sequence[str]) -> ArrivalPlan:
    """Turn a checked plan into what the arrival model takes.

    Parameters
    ----------
    plan : DataFrame
        From :func:`plan_table`.
    groups : sequence of str
        Segments the arrival model knows.

    Raises
    ------
    SettingsError
        A segment without a past, or a day that is planned twice.
    """
    unknown = sorted({name for name in plan["segment"] if name is not None and name not in groups})
    if unknown:
        known = ", ".join(name for name in groups if name) or "none: leave the column segment empty"
        raise SettingsError(
            f"plan: no deal of segment {unknown[0]!r} has arrived so far, so nothing is known of such deals; "
            f"segments are {known}"
        )
    number = {name: place for place, name in enumerate(groups)}
    columns = (plan[name].tolist() for name in ("period_start", "period_end", "segment", "deals"))
    rows = tuple(
        PlannedDeals(first.isoformat(), last.isoformat(), number.get(segment, ALL_GROUPS), float(deals))
        for first, last, segment, deals in zip(*columns, strict=True)
    )
    check_plan(rows)
    return rows


def _period_ends(first: list[date]) -> list[date]:
    """Last days of months, or of weeks, by how all of them begin."""
    if all(day.day == 1 for day in first):
        return [next_period_start(day, period="month") - timedelta(days=1) for day in first]
    if len({day.weekday() for day in first}) == 1:
        return [day + timedelta(days=6) for day in first]
    raise InputError(
        "plan: periods begin neither all on the first of a month nor all on the same weekday; "
        "add a column period_end with the last day of each"
    )


def _read(path: str | Path, what: str, *, required: Sequence[str]) -> pd.DataFrame:
    """Rows of a CSV (all text) or Parquet file; a row that does not fit the header is an error."""
    file = Path(path).expanduser()
    if not file.is_file():
        raise InputError(f"{what}: there is no file {file}; check the path")
    try:
        if file.suffix.lower() in {".parquet", ".pq"}:
            return pd.read_parquet(file)
        with duckdb.connect() as connection:
            read_csv(connection, "given", file, what=what, required=required)
            ragged = connection.execute("SELECT reason, example FROM given_ragged ORDER BY line LIMIT 1").fetchone()
            if ragged:
                raise InputError(f"{what}: {ragged[0]} in {ragged[1]}")
            frame: pd.DataFrame = connection.execute("FROM given").df()
            return frame
    except InputError:
        raise
    except (duckdb.Error, OSError, ValueError) as error:
        raise InputError(f"{what}: {file} cannot be read; expected UTF-8 text with one header line. {error}") from error


def _checked(frame: pd.DataFrame, what: str, *, required: Sequence[str], optional: Sequence[str]) -> pd.DataFrame:
    """Rows with the wanted columns, optional ones empty where missing."""
    missing = [name for name in required if name not in frame.columns]
    if missing:
        there = ", ".join(map(str, frame.columns))
        raise MissingColumnError(f"{what}: the column {missing[0]} is missing; there are {there}")
    if frame.empty:
        raise EmptyInputError(f"{what}: the table has no rows; expected at least one")
    return frame.reindex(columns=[*required, *optional]).astype(object).reset_index(drop=True)


def _dates(table: pd.DataFrame, what: str, column: str, *, empty: bool = False) -> "pd.Series[pd.Timestamp]":
    found: list[Any] = []
    for row, value in enumerate(table[column], start=1):
        if empty and _is_empty(value):
            found.append(pd.NaT)
            continue
        try:
            found.append(pd.Timestamp(as_date(value.strip() if isinstance(value, str) else value, name=column)))
        except SettingsError:
            raise InputError(f"{what}, row {row}: {column} must be a date such as 2026-09-30, got {value!r}") from None
    return pd.Series(found, dtype="datetime64[ns]")


def _numbers(table: pd.DataFrame, what: str, column: str) -> "pd.Series[float]":
    found = []
    for row, value in enumerate(table[column], start=1):
        number = float("nan")
        if not _is_empty(value):
            try:
                number = float(value)
            except ValueError:
                number = -1.0
            if not 0.0 <= number < float("inf"):
                raise InputError(f"{what}, row {row}: {column} must be a number, zero or more, got {value!r}")
        found.append(number)
    return pd.Series(found, dtype=float)


def _is_empty(value: Any) -> bool:
    return bool(pd.isna(value)) or (isinstance(value, str) and not value.strip())
