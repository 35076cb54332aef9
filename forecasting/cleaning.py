"""Cleaning of the two tables in SQL, once for all sources: which rows count, and why the others do not.

The rules follow from one principle: a row may be dropped, but no deal may be kept with a story known to be false.

- A deal without id, with an unreadable creation date or amount, or with a negative amount, is rejected with its stage
  rows.
- A deal whose closing row has no readable date is rejected: it is closed, nobody knows since when, and it must not pass
  as open. So is a deal that entered a stage before it was created.
- A stage row without id, stage or readable date, of an unknown deal, or delivered twice, is rejected.
- A stage row with an unreadable or negative amount is used as a move; its amount counts as missing and is noted. (The
  move is known to have happened, and what is written later must not change what was known before.)
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
import pandas as pd

from forecasting.quality import MAX_EXAMPLES, DataQuality, Finding, TableQuality
from forecasting.sources import RAW_DEALS, RAW_HISTORY, TABLE_NAMES, check_columns
from models.errors import EmptyInputError, SettingsError, UnknownStageError
from models.stages import StageGraph

MAX_AMOUNT = 1e14
"""Amounts above are taken for typing errors; a thousand of them still fit into 64-bit cents."""
_DATE = r"\d{4}-\d{1,2}-\d{1,2}"
_STAMP = r"\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}(:\d{2}(\.\d+)?)?"
_ZONE = r" ?(Z|UTC|[+-]\d{2}(:?\d{2})?)"
_FIRST_YEAR, _LAST_YEAR = 1900, 2199


@dataclass(frozen=True)
class Cleaned:
    """The rows that count, see :class:`forecasting.deals.Deals` for the columns."""

    deals: pd.DataFrame
    entries: pd.DataFrame
    quality: DataQuality
    currency: str | None


def clean(connection: Any, graph: StageGraph, *, currency: str | None, timezone: str | None) -> Cleaned:
    """Clean the views ``deals_raw`` and ``history_raw`` of a connection."""
    zone = _checked_zone(timezone)
    deal_types, history_types = check_columns(connection, RAW_DEALS), check_columns(connection, RAW_HISTORY)
    attributes = [name for name in deal_types if name not in {"deal_id", "created_at", "amount"}]
    currency = _checked_currency(connection, currency, "currency" in deal_types)
    _read_deals(connection, deal_types, attributes, currency=currency, zone=zone)
    _read_history(connection, history_types, graph, zone=zone)
    if timezone is None:
        _refuse_instants_without_zone(connection)
    _mark_copies(connection, attributes)
    _reject_deals_by_history(connection, graph)
    deals, entries = _used_deals(connection, attributes), _used_entries(connection)
    copies = _copies(entries)
    quality = DataQuality((_deal_quality(connection), _history_quality(connection, graph, deals, entries, copies)))
    if deals.empty:
        raise EmptyInputError(
            f"no usable deal is left after cleaning; correct the data and try again\n{quality.to_text()}"
        )
    entries = entries[~copies].reset_index(drop=True)
    return Cleaned(deals, _numbered(entries), quality, currency)


def _checked_zone(timezone: str | None) -> str:
    if timezone is None:
        return "UTC"
    try:
        ZoneInfo(timezone)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise SettingsError(
            f"unknown timezone {timezone!r}: expected a name such as 'Europe/Amsterdam' or 'UTC'"
        ) from error
    return timezone


def _checked_currency(connection: Any, currency: str | None, has_column: bool) -> str | None:
    if currency is not None or not has_column:
        return currency
    rows = connection.execute(
        f"SELECT DISTINCT upper({_text('currency')}) AS c FROM {RAW_DEALS} WHERE c IS NOT NULL ORDER BY c"
    ).fetchall()
    if len(rows) > 1:
        raise SettingsError(
            f"deals: amounts are in several currencies ({', '.join(row[0] for row in rows)}) and cannot be added; "
            "name the one to forecast with currency=..., deals in others are then rejected and counted"
        )
    return str(rows[0][0]) if rows else None


def _text(column: str) -> str:
    """Give the SQL of a column as text where the empty or blank text is missing."""
    return f"nullif(trim({_quoted(column)}::VARCHAR), '')"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _when(column: str, kind: str, zone: str) -> tuple[str, str, str]:
    """Give the SQL of a point in time: business date, instant (NULL for a plain date), whether it carries a zone."""
    name = _quoted(column)
    if kind == "DATE":
        day, instant, aware = name, "NULL::TIMESTAMPTZ", "false"
    elif kind.startswith("TIMESTAMP WITH"):
        instant, aware = f"{name}::TIMESTAMPTZ", f"{name} IS NOT NULL"
        day = f"timezone('{zone}', {instant})::DATE"
    elif kind.startswith("TIMESTAMP"):
        day, instant, aware = f"{name}::DATE", f"timezone('{zone}', {name}::TIMESTAMP)", "false"
    else:
        text = _text(column)
        aware = f"coalesce(regexp_full_match({text}, '{_STAMP}{_ZONE}'), false)"
        naive = f"regexp_full_match({text}, '{_STAMP}')"
        # a text with an offset cast to plain TIMESTAMP silently loses the offset: cast to TIMESTAMPTZ
        instant = (
            f"CASE WHEN {aware} THEN try_cast({text} AS TIMESTAMPTZ) "
            f"WHEN {naive} THEN timezone('{zone}', try_cast({text} AS TIMESTAMP)) END"
        )
        day = (
            f"CASE WHEN regexp_full_match({text}, '{_DATE}') THEN try_cast({text} AS DATE) "
            f"WHEN {naive} THEN try_cast({text} AS TIMESTAMP)::DATE ELSE timezone('{zone}', {instant})::DATE END"
        )
    return f"CASE WHEN year({day}) BETWEEN {_FIRST_YEAR} AND {_LAST_YEAR} THEN {day} END", instant, aware


def _amount(kind: str | None) -> tuple[str, str]:
    """Give the SQL of the amount as a number (NULL when it is not one), and of what was written."""
    if kind is None:
        return "NULL::DOUBLE", "NULL::VARCHAR"
    text = _text("amount")
    # a Parquet or pandas NaN means missing
    written = text if kind == "VARCHAR" else f"CASE WHEN NOT isnan(amount::DOUBLE) THEN {text} END"
    number = f"try_cast({written} AS DOUBLE)"
    return f"CASE WHEN abs({number}) <= {MAX_AMOUNT} THEN {number} END", written


def _read_deals(
    connection: Any, types: dict[str, str], attributes: Sequence[str], *, currency: str | None, zone: str
) -> None:
    """Make ``deals_in``: the typed columns, attributes as a0, a1, ..., and the row's own fault."""
    day, _, aware = _when("created_at", types["created_at"], zone)
    amount, written = _amount(types["amount"])
    attribute_sql = "".join(f", {_attribute(name, types[name])} AS a{k}" for k, name in enumerate(attributes))
    foreign = "false"
    if currency is not None and "currency" in types:
        code = currency.strip().upper().replace("'", "''")
        foreign = f"upper({_text('currency')}) <> '{code}'"
    connection.execute(f"""
        CREATE TEMP TABLE deals_in AS
        SELECT *, CASE
            WHEN deal_id IS NULL THEN 'deal_id is missing'
            WHEN created_text IS NULL THEN 'created_at is missing'
            WHEN created_on IS NULL THEN 'created_at is not a date'
            WHEN amount_text IS NOT NULL AND amount IS NULL THEN 'amount is not a number'
            WHEN amount < 0 THEN 'amount is negative'
            WHEN is_foreign THEN 'currency is not the one forecast'
            END AS fault
        FROM (
            SELECT CASE WHEN trim(deal_id::VARCHAR) <> '' THEN deal_id::VARCHAR END AS deal_id,
                {day} AS created_on, {aware} AS aware, {_text("created_at")} AS created_text,
                {amount} AS amount, {written} AS amount_text, {foreign} AS is_foreign{attribute_sql}
            FROM {RAW_DEALS})""")


def _attribute(name: str, kind: str) -> str:
    numeric = kind in {"DOUBLE", "FLOAT", "BIGINT", "INTEGER", "SMALLINT", "TINYINT", "HUGEINT"} or kind.startswith(
        ("DECIMAL", "U")
    )
    return f"{_quoted(name)}::DOUBLE" if numeric else f"nullif({_quoted(name)}::VARCHAR, '')"


def _read_history(connection: Any, types: dict[str, str], graph: StageGraph, *, zone: str) -> None:
    """Make ``history_in``: the typed columns and the row's own fault; raises where a stage is unknown."""
    codes = pd.DataFrame({"name": list(graph.stages), "code": np.arange(len(graph.stages), dtype=np.int32)})
    connection.register("stage_codes", codes)
    day, instant, aware = _when("entered_at", types["entered_at"], zone)
    amount, written = _amount(types.get("amount"))
    connection.execute(f"""
        CREATE TEMP TABLE history_in AS
        SELECT h.*, s.code, CASE
            WHEN deal_id IS NULL THEN 'deal_id is missing'
            WHEN stage IS NULL THEN 'stage is missing'
            WHEN entered_text IS NULL THEN 'entered_at is missing'
            WHEN entered_on IS NULL THEN 'entered_at is not a date'
            END AS fault
        FROM (
            SELECT CASE WHEN trim(deal_id::VARCHAR) <> '' THEN deal_id::VARCHAR END AS deal_id,
                CASE WHEN trim(stage::VARCHAR) <> '' THEN stage::VARCHAR END AS stage,
                {day} AS entered_on, epoch_us({instant}) AS instant, {aware} AS aware,
                {_text("entered_at")} AS entered_text, {amount} AS amount, {written} AS amount_text
            FROM {RAW_HISTORY}) AS h
        LEFT JOIN stage_codes AS s ON s.name = h.stage""")
    unknown = connection.execute(
        "SELECT stage, count(*), min(deal_id) FROM history_in WHERE stage IS NOT NULL AND code IS NULL "
        "GROUP BY stage ORDER BY stage"
    ).fetchall()
    if unknown:
        listed = "; ".join(f"{stage!r} ({count} rows, for instance deal {deal})" for stage, count, deal in unknown)
        raise UnknownStageError(
            f"stage_history: unknown stages {listed}. Expected {', '.join(graph.stages)}: "
            "add them to open, won or lost in the stage settings"
        )


def _refuse_instants_without_zone(connection: Any) -> None:
    for table, column in (("deals_in", "created_text"), ("history_in", "entered_text")):
        row = connection.execute(f"SELECT min({column}) FROM {table} WHERE aware").fetchone()
        if row[0] is not None:
            raise SettingsError(
                f"{column.removesuffix('_text')}_at carries a time with an offset ({row[0]}), so the business date "
                "depends on where the business is: name its timezone, such as timezone = 'Europe/Amsterdam' (or 'UTC')"
            )


def _mark_copies(connection: Any, attributes: Sequence[str]) -> None:
    """Make ``deals_first`` (one sound row per id: the first created, then by its text) and ``deals_copies``."""
    columns = ["created_on", "created_text", "amount_text", *(f"a{k}" for k in range(len(attributes)))]
    whole = f"row({', '.join(columns)})"
    connection.execute(f"""
        CREATE TEMP TABLE deals_copies AS
        SELECT deal_id, rank, CASE WHEN same THEN 'deal_id came before: the same row delivered again'
            ELSE 'deal_id came before with other values: the row created first is used' END AS fault, detail
        FROM (
            SELECT deal_id, row_number() OVER w AS rank, {whole} = first_value({whole}) OVER w AS same,
                concat('created_at = ', created_text, ', amount = ', coalesce(amount_text, '')) AS detail
            FROM deals_in WHERE fault IS NULL AND deal_id IN
                (SELECT deal_id FROM deals_in WHERE fault IS NULL GROUP BY deal_id HAVING count(*) > 1)
            WINDOW w AS (PARTITION BY deal_id ORDER BY {", ".join(columns)}))
        WHERE rank > 1""")
    connection.execute(f"""
        CREATE TEMP TABLE deals_first AS
        SELECT * FROM deals_in WHERE fault IS NULL
        QUALIFY row_number() OVER (PARTITION BY deal_id ORDER BY {", ".join(columns)}) = 1""")


def _reject_deals_by_history(connection: Any, graph: StageGraph) -> None:
    """Make ``deals_broken`` (sound by themselves, contradicted by their stage rows) and ``deals_used``."""
    connection.execute(f"""
        CREATE TEMP TABLE deals_broken AS
        SELECT deal_id, max(fault) AS fault, min(detail) AS detail FROM (
            SELECT h.deal_id, 'closed at an unknown date' AS fault,
                concat(h.stage, ' at ', coalesce(h.entered_text, '(missing)')) AS detail
            FROM history_in AS h SEMI JOIN deals_first AS d ON d.deal_id = h.deal_id
            WHERE h.entered_on IS NULL AND h.code >= {graph.n_open}
            UNION ALL
            SELECT h.deal_id, CASE WHEN h.code >= {graph.n_open} THEN 'closed before it was created'
                ELSE 'entered a stage before it was created' END,
                concat('created ', d.created_on, ', ', h.stage, ' at ', h.entered_on)
            FROM history_in AS h JOIN deals_first AS d ON d.deal_id = h.deal_id
            WHERE h.fault IS NULL AND h.entered_on < d.created_on)
        GROUP BY deal_id""")
    connection.execute("""
        CREATE TEMP TABLE deals_used AS
        SELECT *, (row_number() OVER (ORDER BY deal_id) - 1)::INTEGER AS deal
        FROM deals_first AS d ANTI JOIN deals_broken AS b ON b.deal_id = d.deal_id
        SEMI JOIN (SELECT DISTINCT deal_id FROM history_in WHERE fault IS NULL) AS h ON h.deal_id = d.deal_id""")


def _used_deals(connection: Any, attributes: Sequence[str]) -> pd.DataFrame:
    listed = "".join(f", a{k}" for k in range(len(attributes)))
    frame = connection.execute(
        f"SELECT deal_id, created_on::TIMESTAMP_NS AS created_on, amount{listed} FROM deals_used ORDER BY deal"
    ).df()
    frame.columns = pd.Index(["deal_id", "created_on", "amount", *attributes])
    frame["amount"] = frame["amount"].astype(np.float64)
    typed: pd.DataFrame = frame.astype({"deal_id": object, "created_on": "datetime64[ns]"})
    return typed


def _used_entries(connection: Any) -> pd.DataFrame:
    """Stage rows of the used deals in the order in which they happened, copies included."""
    mixed = connection.execute(
        "SELECT count(instant) NOT IN (0, count(*)) FROM history_in WHERE fault IS NULL"
    ).fetchone()[0]
    # where one entry of a day has no time, the clock cannot order that day: stages do
    clock = (
        "CASE WHEN bool_or(instant IS NULL) OVER (PARTITION BY u.deal, entered_on) THEN NULL ELSE instant END"
        if mixed
        else "instant"
    )
    frame = connection.execute(f"""
        SELECT u.deal, h.code AS stage, h.entered_on::TIMESTAMP_NS AS entered_on, instant,
            CASE WHEN h.amount >= 0 THEN h.amount END AS amount, {clock} AS clock
        FROM history_in AS h JOIN deals_used AS u ON u.deal_id = h.deal_id
        WHERE h.fault IS NULL
        ORDER BY u.deal, h.entered_on, clock NULLS FIRST, stage, instant NULLS FIRST, amount NULLS FIRST""").df()
    types = {"deal": np.int32, "stage": np.int32, "entered_on": "datetime64[ns]", "amount": np.float64}
    typed: pd.DataFrame = frame.astype(types)
    return typed


def _copies(entries: pd.DataFrame) -> Any:
    """Rows equal to the row before in everything: delivered again."""
    same = np.zeros(len(entries), dtype=bool)
    if len(entries):
        same[1:] = True
    for name in ("deal", "stage", "entered_on", "instant", "amount"):
        values = entries[name].to_numpy()
        if values.dtype == object:
            values = entries[name].astype("float64").to_numpy()
        equal = values[1:] == values[:-1]
        if values.dtype.kind == "f":
            equal |= np.isnan(values[1:]) & np.isnan(values[:-1])
        same[1:] &= equal
    return same


def _numbered(entries: pd.DataFrame) -> pd.DataFrame:
    """Columns ``deal``, ``stage``, ``entered_on``, ``order``, ``moved``, ``amount``."""
    deal, stage = entries["deal"].to_numpy(), entries["stage"].to_numpy()
    first = np.ones(len(entries), dtype=bool)
    first[1:] = deal[1:] != deal[:-1]
    moved = first.copy()
    moved[1:] |= stage[1:] != stage[:-1]
    starts = np.flatnonzero(first)
    order = np.arange(len(entries)) - np.repeat(starts, np.diff(np.append(starts, len(entries))))
    return pd.DataFrame(
        {
            "deal": deal,
            "stage": stage,
            "entered_on": entries["entered_on"].to_numpy(),
            "order": order.astype(np.int32),
            "moved": moved,
            "amount": entries["amount"].to_numpy(),
        }
    )


def _findings(connection: Any, query: str) -> tuple[Finding, ...]:
    """Run a query giving (reason, example) per row; most frequent reason first."""
    rows = connection.execute(
        f"SELECT reason, count(*) AS n, min(example, {MAX_EXAMPLES}) FROM ({query}) "
        "GROUP BY reason ORDER BY n DESC, reason"
    ).fetchall()
    return tuple(Finding(reason, count, tuple(examples)) for reason, count, examples in rows)


def _deal_quality(connection: Any) -> TableQuality:
    written = "concat('created_at = ', coalesce(created_text, ''), ', amount = ', coalesce(amount_text, ''))"
    rejections = _findings(
        connection,
        f"""
        SELECT fault AS reason, concat(coalesce(deal_id, '(no id)'), ': ', {written}) AS example FROM deals_in
            WHERE fault IS NOT NULL
        UNION ALL SELECT fault, concat(deal_id, ': ', detail) FROM deals_copies
        UNION ALL SELECT fault, concat(deal_id, ': ', detail) FROM deals_broken
        UNION ALL SELECT 'no usable stage entry', deal_id FROM deals_first AS d
            ANTI JOIN deals_broken AS b ON b.deal_id = d.deal_id ANTI JOIN deals_used AS u ON u.deal_id = d.deal_id""",
    )
    counts = connection.execute("SELECT (SELECT count(*) FROM deals_in), (SELECT count(*) FROM deals_used)").fetchone()
    notes = _findings(
        connection,
        """SELECT 'amount is missing: it is drawn from the amounts of similar deals' AS reason, deal_id AS example
        FROM deals_used WHERE amount IS NULL
        UNION ALL SELECT 'amount is zero: taken as it is, though zero often means unknown', deal_id
        FROM deals_used WHERE amount = 0""",
    )
    return TableQuality(TABLE_NAMES[RAW_DEALS], counts[0], counts[1], rejections, notes)


def _entries_found(reason: str, rows: pd.DataFrame, deals: pd.DataFrame, graph: StageGraph) -> tuple[Finding, ...]:
    if rows.empty:
        return ()
    few = rows.head(MAX_EXAMPLES)
    ids = deals["deal_id"].to_numpy(dtype=object)[few["deal"].to_numpy()]
    stages = [graph.stages[code] for code in few["stage"].to_numpy()]
    days = few["entered_on"].dt.strftime("%Y-%m-%d")
    shown = tuple(f"{name}: {stage} on {day}" for name, stage, day in zip(ids, stages, days, strict=True))
    return (Finding(reason, len(rows), shown),)


def _history_quality(
    connection: Any, graph: StageGraph, deals: pd.DataFrame, entries: pd.DataFrame, copies: Any
) -> TableQuality:
    rejections = _findings(
        connection,
        """
        SELECT fault AS reason, concat(coalesce(deal_id, '(no id)'), ': ', coalesce(stage, '(no stage)'), ' at ',
            coalesce(entered_text, '(missing)')) AS example FROM history_in WHERE fault IS NOT NULL
        UNION ALL SELECT 'deal is not in the deals table', concat(h.deal_id, ': ', stage)
            FROM history_in AS h ANTI JOIN deals_in AS d ON d.deal_id = h.deal_id WHERE h.fault IS NULL
        UNION ALL SELECT 'its deal was rejected', concat(h.deal_id, ': ', stage)
            FROM history_in AS h SEMI JOIN deals_in AS d ON d.deal_id = h.deal_id
            ANTI JOIN deals_used AS u ON u.deal_id = h.deal_id WHERE h.fault IS NULL""",
    )
    used = entries[~copies]
    again = (used["deal"] == used["deal"].shift()) & (used["stage"] == used["stage"].shift())
    repeated = _entries_found("the same entry delivered again", entries[copies], deals, graph)
    stayed = "the stage was entered while already in it: one stay, the later amount counts"
    notes = _entries_found(stayed, used[again], deals, graph)
    notes += _findings(
        connection,
        """SELECT 'amount cannot be read or is negative: the move counts, the amount as missing' AS reason,
            concat(h.deal_id, ': ', stage, ', amount = ', h.amount_text) AS example
        FROM history_in AS h SEMI JOIN deals_used AS u ON u.deal_id = h.deal_id
        WHERE h.fault IS NULL AND h.amount_text IS NOT NULL AND (h.amount IS NULL OR h.amount < 0)""",
    )
    rows_in = connection.execute("SELECT count(*) FROM history_in").fetchone()[0]
    rejections = tuple(sorted(rejections + repeated, key=lambda f: (-f.count, f.reason)))
    return TableQuality(TABLE_NAMES[RAW_HISTORY], rows_in, len(used), rejections, notes)
