"""Cleaning of the two tables in SQL, once for all sources: which rows count, and why the others do not.

The rules follow from one principle: a row may be dropped, but no deal may be kept with a story known to be false.

- A deal without id, with an unreadable creation date or amount, or with a negative amount, is rejected with its stage
  rows.
- A deal whose closing row has no readable date is rejected: it is closed, nobody knows since when, and it must not pass
  as open. So is a deal that entered a stage before it was created.
- A row of a CSV file with more or fewer fields than the header is rejected: which value belongs where is unknown. Where
  such a stage row has its id in place and names a closing stage, its deal is closed and nobody knows since when, as above.
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

from forecasting.data.cleaning_report import deal_quality, history_quality, likeness
from forecasting.data.csv_file import add_ragged
from forecasting.data.quality import DataQuality
from forecasting.data.sources import RAW_DEALS, RAW_HISTORY, check_columns
from models.errors import EmptyInputError, SettingsError, UnknownStageError
from models.stages import StageGraph

MAX_AMOUNT = 1e14
"""Amounts above are taken for typing errors; a thousand of them still fit into 64-bit cents."""
_NO_NUMBER = (
    "amount is not a number: expected plain digits with a decimal point, such as 1200.50; take thousands separators, "
    "decimal commas and currencies out"
)
_TOO_LARGE = f"amount is beyond {MAX_AMOUNT:,.0f}, which is taken for a typing error: correct it, or take a larger unit"
_DATE = r"\d{4}-\d{1,2}-\d{1,2}"
_STAMP = r"\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}(:\d{2}(\.\d+)?)?"
_ZONE = r" ?(Z|UTC|[+-]\d{2}(:?\d{2})?)"
_FIRST_YEAR, _LAST_YEAR = 1900, 2199


@dataclass(frozen=True)
class Cleaned:
    """The rows that count, see :class:`forecasting.data.deals.Deals` for the columns."""

    deals: pd.DataFrame
    entries: pd.DataFrame
    quality: DataQuality
    currency: str | None


def clean(connection: Any, graph: StageGraph, *, currency: str | None, timezone: str | None) -> Cleaned:
    """Clean the views ``deals_raw`` and ``history_raw`` of a connection."""
    zone = _checked_zone(timezone)
    for table in (RAW_DEALS, RAW_HISTORY):
        add_ragged(connection, table)
    deal_types, history_types = check_columns(connection, RAW_DEALS), check_columns(connection, RAW_HISTORY)
    attributes = [name for name in deal_types if name not in {"deal_id", "created_at", "amount"}]
    currency = _checked_currency(connection, currency, "currency" in deal_types)
    _read_deals(connection, deal_types, attributes, currency=currency, zone=zone)
    _mark_copies(connection, attributes)
    _read_history(connection, history_types, graph, zone=zone)
    if timezone is None:
        _refuse_instants_without_zone(connection)
    _reject_deals_by_history(connection, graph)
    deals, entries = _used_deals(connection, attributes), _used_entries(connection)
    copies = _copies(entries)
    quality = DataQuality((deal_quality(connection), history_quality(connection, graph, deals, entries, copies)))
    if deals.empty:
        raise EmptyInputError(
            f"no usable deal is left after cleaning; correct the data and try again\n{quality.to_text()}"
        )
    entries = entries[~copies].reset_index(drop=True)
    return Cleaned(deals, _numbered(entries, graph), quality, currency)


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


def _when(table: str, column: str, kind: str, zone: str) -> str:
    """Give the SQL of a table with a point in time read: ``day``, ``instant`` (NULL for a plain date), ``aware``.

    Each step is a select of its own, so that every text is matched and cast once.
    """
    name = _quoted(column)
    if kind == "DATE":
        timed = f"SELECT *, {name} AS date, NULL::TIMESTAMPTZ AS instant, false AS aware FROM {table}"
    elif kind.startswith(("TIMESTAMP WITH", "TIMESTAMPTZ")):
        timed = (
            f"SELECT *, NULL::DATE AS date, {name}::TIMESTAMPTZ AS instant, {name} IS NOT NULL AS aware FROM {table}"
        )
    elif kind.startswith("TIMESTAMP"):
        moment = f"timezone('{zone}', {name}::TIMESTAMP)"
        timed = f"SELECT *, {name}::DATE AS date, {moment} AS instant, false AS aware FROM {table}"
    else:
        matched = f"""SELECT *, CASE WHEN regexp_full_match(written, '{_DATE}') THEN 1
            WHEN regexp_full_match(written, '{_STAMP}{_ZONE}') THEN 2
            WHEN regexp_full_match(written, '{_STAMP}') THEN 3 END AS form
            FROM (SELECT *, {_text(column)} AS written FROM {table})"""
        # a text with an offset cast to plain TIMESTAMP silently loses the offset: cast to TIMESTAMPTZ
        timed = f"""SELECT *, form = 2 AS aware, CASE WHEN form = 1 THEN try_cast(written AS DATE)
                WHEN form = 3 THEN try_cast(written AS TIMESTAMP)::DATE END AS date,
            CASE WHEN form = 2 THEN try_cast(written AS TIMESTAMPTZ)
                WHEN form = 3 THEN timezone('{zone}', try_cast(written AS TIMESTAMP)) END AS instant FROM ({matched})"""
    dated = f"SELECT *, coalesce(date, timezone('{zone}', instant)::DATE) AS any_day FROM ({timed})"
    return f"""SELECT *, {_text(column)} AS time_text,
        CASE WHEN year(any_day) BETWEEN {_FIRST_YEAR} AND {_LAST_YEAR} THEN any_day END AS day FROM ({dated})"""


def _amount(kind: str | None) -> tuple[str, str]:
    """Give the SQL of the amount as a number (NULL when it is not one), and of what was written."""
    if kind is None:
        return "NULL::DOUBLE", "NULL::VARCHAR"
    text = _text("amount")
    # a Parquet or pandas NaN means missing
    written = f"CASE WHEN NOT isnan(amount) THEN {text} END" if kind in {"DOUBLE", "FLOAT"} else text
    number = f"try_cast({written} AS DOUBLE)"
    return f"CASE WHEN abs({number}) <= {MAX_AMOUNT} THEN {number} END", written


def _read_deals(
    connection: Any, types: dict[str, str], attributes: Sequence[str], *, currency: str | None, zone: str
) -> None:
    """Make ``deals_in``: the typed columns, attributes as a0, a1, ..., and the row's own fault."""
    amount, amount_text = _amount(types["amount"])
    foreign = "false"
    if currency is not None and "currency" in types:
        code = currency.strip().upper().replace("'", "''")
        foreign = f"upper({_text('currency')}) <> '{code}'"
    # our own names only from here on: the columns of an export may be called anything
    named = "".join(f", {_attribute(name, types[name])} AS a{k}" for k, name in enumerate(attributes))
    plain = f"""SELECT CASE WHEN trim(deal_id::VARCHAR) <> '' THEN deal_id::VARCHAR END AS deal_id, created_at,
        {amount} AS amount, {amount_text} AS amount_text, {foreign} AS is_foreign{named} FROM {RAW_DEALS}"""
    listed = "".join(f", a{k}" for k in range(len(attributes)))
    connection.execute(f"""
        CREATE TEMP TABLE deals_in AS
        SELECT deal_id, day AS created_on, aware, time_text, amount, amount_text{listed}, CASE
            WHEN deal_id IS NULL THEN 'deal_id is missing'
            WHEN time_text IS NULL THEN 'created_at is missing'
            WHEN day IS NULL THEN 'created_at is not a date'
            WHEN amount IS NULL AND isfinite(try_cast(amount_text AS DOUBLE)) THEN '{_TOO_LARGE}'
            WHEN amount_text IS NOT NULL AND amount IS NULL THEN '{_NO_NUMBER}'
            WHEN amount < 0 THEN 'amount is negative'
            WHEN is_foreign THEN 'currency is not the one forecast'
            END AS fault
        FROM ({_when(f"({plain})", "created_at", types["created_at"], zone)})""")


def _attribute(name: str, kind: str) -> str:
    numeric = kind in {"DOUBLE", "FLOAT", "BIGINT", "INTEGER", "SMALLINT", "TINYINT", "HUGEINT"} or kind.startswith(
        ("DECIMAL", "U")
    )
    return f"{_quoted(name)}::DOUBLE" if numeric else f"nullif({_quoted(name)}::VARCHAR, '')"


def _read_history(connection: Any, types: dict[str, str], graph: StageGraph, *, zone: str) -> None:
    """Make ``history_in``: the typed columns and the row's own fault; raises where a stage is unknown."""
    codes = pd.DataFrame({"name": list(graph.stages), "code": np.arange(len(graph.stages), dtype=np.int32)})
    connection.register("stage_codes", codes)
    amount, amount_text = _amount(types.get("amount"))
    plain = f"""SELECT CASE WHEN trim(deal_id::VARCHAR) <> '' THEN deal_id::VARCHAR END AS deal_id, entered_at,
        CASE WHEN trim(stage::VARCHAR) <> '' THEN stage::VARCHAR END AS stage,
        {amount} AS amount, {amount_text} AS amount_text FROM {RAW_HISTORY}"""
    # the one join by id: all that follows goes by number
    connection.execute(f"""
        CREATE TEMP TABLE history_in AS
        SELECT h.deal_id, h.stage, h.amount, h.amount_text, h.time_text, h.aware, h.day AS entered_on,
            epoch_us(h.instant) AS clock, s.code, d.deal, d.created_on, CASE
            WHEN h.deal_id IS NULL THEN 'deal_id is missing'
            WHEN h.stage IS NULL THEN 'stage is missing'
            WHEN h.time_text IS NULL THEN 'entered_at is missing'
            WHEN h.day IS NULL THEN 'entered_at is not a date'
            END AS fault
        FROM ({_when(f"({plain})", "entered_at", types["entered_at"], zone)}) AS h
        LEFT JOIN stage_codes AS s ON s.name = h.stage
        LEFT JOIN deals_first AS d ON d.deal_id = h.deal_id""")
    _refuse_unknown_stages(connection, graph)


def _refuse_unknown_stages(connection: Any, graph: StageGraph) -> None:
    unknown = connection.execute(f"""
        SELECT stage, n, deal, (SELECT min(name) FROM stage_codes WHERE {likeness("name")} = {likeness("stage")})
        FROM (SELECT stage, count(*) AS n, min(deal_id) AS deal FROM history_in
            WHERE stage IS NOT NULL AND code IS NULL GROUP BY stage) ORDER BY stage""").fetchall()
    if not unknown:
        return
    listed = [
        f"{stage!r} ({count} rows, for instance deal {deal})"
        + (f", which is {known!r} but for blanks or case" if known else "")
        for stage, count, deal, known in unknown
    ]
    raise UnknownStageError(
        f"stage_history: unknown stages {'; '.join(listed)}. Expected {', '.join(graph.stages)}: add them to open, won or "
        "lost in the stage settings, or correct how they are written"
    )


def _refuse_instants_without_zone(connection: Any) -> None:
    for table, column in (("deals_in", "created_at"), ("history_in", "entered_at")):
        row = connection.execute(f"SELECT min(time_text) FROM {table} WHERE aware").fetchone()
        if row[0] is not None:
            raise SettingsError(
                f"{column} carries a time with an offset ({row[0]}), so the business date "
                "depends on where the business is: name its timezone, such as timezone = 'Europe/Amsterdam' (or 'UTC')"
            )


def _mark_copies(connection: Any, attributes: Sequence[str]) -> None:
    """Make ``deals_first`` (one sound row per id: created first, then by its text; numbered) and ``deals_copies``."""
    columns = ", ".join(["created_on", "time_text", "amount_text", *(f"a{k}" for k in range(len(attributes)))])
    connection.execute("""
        CREATE TEMP TABLE repeated AS
        SELECT deal_id FROM deals_in WHERE fault IS NULL GROUP BY deal_id HAVING count(*) > 1""")
    connection.execute(f"""
        CREATE TEMP TABLE ranked AS
        SELECT *, row_number() OVER w AS place, whole IS NOT DISTINCT FROM first_value(whole) OVER w AS same
        FROM (SELECT *, row({columns}) AS whole FROM deals_in SEMI JOIN repeated USING (deal_id) WHERE fault IS NULL)
        WINDOW w AS (PARTITION BY deal_id ORDER BY {columns})""")
    connection.execute("""
        CREATE TEMP TABLE deals_copies AS
        SELECT deal_id, CASE WHEN same THEN 'deal_id came before: the same row delivered again'
            ELSE 'deal_id came before with other values: the row created first is used' END AS fault,
            concat('created_at = ', time_text, ', amount = ', coalesce(amount_text, '')) AS detail
        FROM ranked WHERE place > 1""")
    connection.execute("""
        CREATE TEMP TABLE deals_first AS
        SELECT *, row_number() OVER (ORDER BY deal_id) AS deal FROM (
            SELECT * FROM deals_in ANTI JOIN repeated USING (deal_id) WHERE fault IS NULL
            UNION ALL SELECT * EXCLUDE (place, same, whole) FROM ranked WHERE place = 1)""")


def _reject_deals_by_history(connection: Any, graph: StageGraph) -> None:
    """Make ``deals_broken`` (sound by themselves, contradicted by their stage rows) and ``deals_used``."""
    connection.execute(f"""
        CREATE TEMP TABLE deals_broken AS
        SELECT deal, min(deal_id) AS deal_id, max(reason) AS fault, min(detail) AS detail FROM (
            SELECT deal, deal_id, 'closed at an unknown date' AS reason,
                concat(stage, ' at ', coalesce(time_text, '(missing)')) AS detail
            FROM history_in WHERE entered_on IS NULL AND code >= {graph.n_open} AND deal IS NOT NULL
            UNION ALL
            SELECT deal, deal_id, 'closed at an unknown date', concat('stage_history, ', example)
            FROM {RAW_HISTORY}_ragged JOIN deals_first ON deal_id = key
            WHERE list_has_any(fields, (SELECT list(name) FROM stage_codes WHERE code >= {graph.n_open}))
            UNION ALL
            SELECT deal, deal_id, CASE WHEN code >= {graph.n_open} THEN 'closed before it was created'
                ELSE 'entered a stage before it was created' END,
                concat('created ', created_on, ', ', stage, ' at ', entered_on)
            FROM history_in WHERE fault IS NULL AND entered_on < created_on)
        GROUP BY deal""")
    connection.execute("""
        CREATE TEMP TABLE deals_used AS
        SELECT deal FROM (SELECT DISTINCT deal FROM history_in WHERE fault IS NULL AND deal IS NOT NULL)
        ANTI JOIN deals_broken USING (deal)""")


def _used_deals(connection: Any, attributes: Sequence[str]) -> pd.DataFrame:
    listed = "".join(f", a{k}" for k in range(len(attributes)))
    frame = connection.execute(
        f"SELECT deal_id, created_on::TIMESTAMP_NS AS created_on, amount{listed} "
        "FROM deals_first SEMI JOIN deals_used USING (deal) ORDER BY deal"
    ).df()
    frame.columns = pd.Index(["deal_id", "created_on", "amount", *attributes])
    frame["amount"] = frame["amount"].astype(np.float64)
    typed: pd.DataFrame = frame.astype({"deal_id": object, "created_on": "datetime64[ns]"})
    return typed


def _used_entries(connection: Any) -> pd.DataFrame:
    """Stage rows of the used deals in the order in which they happened, copies included."""
    timed, rows = connection.execute("SELECT count(clock), count(*) FROM history_in WHERE fault IS NULL").fetchone()
    # where one entry of a day has no time, the clock cannot order that day: stages do
    same_day = "OVER (PARTITION BY deal, entered_on)"
    mixed = f"CASE WHEN count(clock) {same_day} = count(*) {same_day} THEN clock END"
    by_clock = "clock" if timed in (0, rows) else mixed
    frame = connection.execute(f"""
        SELECT deal, code AS stage, entered_on::TIMESTAMP_NS AS entered_on, clock,
            CASE WHEN amount >= 0 THEN amount END AS amount, {by_clock} AS by_clock
        FROM history_in SEMI JOIN deals_used USING (deal) WHERE fault IS NULL
        ORDER BY deal, entered_on, by_clock NULLS FIRST, code, clock NULLS FIRST, amount NULLS FIRST""").df()
    # numbers of the used deals without the gaps of the rejected ones: rows of the deals table
    frame["deal"] = np.cumsum(np.diff(frame["deal"].to_numpy(), prepend=-1) != 0) - 1
    types = {"deal": np.int32, "stage": np.int32, "entered_on": "datetime64[ns]", "amount": np.float64}
    typed: pd.DataFrame = frame.astype(types)
    return typed


def _copies(entries: pd.DataFrame) -> Any:
    """Rows equal to the row before in everything: delivered again."""
    same = np.zeros(len(entries), dtype=bool)
    if len(entries):
        same[1:] = True
    for name in ("deal", "stage", "entered_on", "clock", "amount"):
        values = entries[name].to_numpy()
        if values.dtype == object:
            values = entries[name].astype("float64").to_numpy()
        equal = values[1:] == values[:-1]
        if values.dtype.kind == "f":
            equal |= np.isnan(values[1:]) & np.isnan(values[:-1])
        same[1:] &= equal
    return same


def _numbered(entries: pd.DataFrame, graph: StageGraph) -> pd.DataFrame:
    """Columns ``deal``, ``stage``, ``entered_on``, ``order``, ``moved``, ``amount``."""
    deal = entries["deal"].to_numpy()
    first = np.ones(len(entries), dtype=bool)
    first[1:] = deal[1:] != deal[:-1]
    starts = np.flatnonzero(first)
    order = np.arange(len(entries)) - np.repeat(starts, np.diff(np.append(starts, len(entries))))
    return pd.DataFrame(
        {
            "deal": deal,
            "stage": entries["stage"].to_numpy(),
            "entered_on": entries["entered_on"].to_numpy(),
            "order": order.astype(np.int32),
            "moved": _moves(entries, graph),
            "amount": entries["amount"].to_numpy(),
        }
    )


def _moves(entries: pd.DataFrame, graph: StageGraph) -> Any:
    """Entries that change where a deal is at the end of a day.

    A close that the same day takes back is none, nor is the way from one won stage to the next: a deal is won once.
    """
    deal, day = entries["deal"].to_numpy(), entries["entered_on"].to_numpy()
    stage = entries["stage"].to_numpy()
    taken_back = np.zeros(len(entries), dtype=bool)
    taken_back[:-1] = (stage[:-1] >= graph.n_open) & (deal[1:] == deal[:-1]) & (day[1:] == day[:-1])
    place = np.flatnonzero(~taken_back)
    deal, where = deal[place], np.where(np.isin(stage, graph.won_codes), min(graph.won_codes), stage)[place]
    moved = np.zeros(len(entries), dtype=bool)
    moved[place] = np.append(True, (deal[1:] != deal[:-1]) | (where[1:] != where[:-1]))[: len(place)]
    return moved
