"""What cleaning rejected or took for granted, counted from its tables.

The tables are those of :mod:`forecasting.data.cleaning`: ``deals_in`` and ``history_in`` hold all rows, ``deals_first`` one
sound row per deal, ``deals_copies`` and ``deals_broken`` what was sound only by itself, ``deals_used`` what counts; and those
of :mod:`forecasting.data.csv_file`: ``..._ragged`` holds the rows that could not be read.
"""

from typing import Any

import numpy as np
import pandas as pd

from forecasting.data.quality import MAX_EXAMPLES, Finding, TableQuality
from forecasting.data.sources import RAW_DEALS, RAW_HISTORY, TABLE_NAMES
from models.stages import StageGraph

_FAR_DAYS, _FAR_SHARE = 366, 0.1
"""Days without any entry after which those that follow are doubted, and the share of entries they are at most."""


def likeness(column: str) -> str:
    """Give the SQL of what names that differ only by blanks, of any kind, or by case have in common.

    For hints only: two such names are never taken for one.
    """
    return f"lower(regexp_replace({column}, '[\\s\\p{{Z}}]', '', 'g'))"


def _findings(connection: Any, query: str, *, first: str = "example") -> tuple[Finding, ...]:
    """Run a query giving (reason, example) per row; most frequent reason first, examples in the order of ``first``."""
    rows = connection.execute(
        f"SELECT reason, count(*) AS n, arg_min(example, {first}, {MAX_EXAMPLES}) FROM ({query}) "
        "GROUP BY reason ORDER BY n DESC, reason"
    ).fetchall()
    return tuple(Finding(reason, count, tuple(examples)) for reason, count, examples in rows)


def _count(connection: Any, table: str) -> int:
    return int(connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0])


def _sorted(findings: tuple[Finding, ...]) -> tuple[Finding, ...]:
    return tuple(sorted(findings, key=lambda finding: (-finding.count, finding.reason)))


def _ragged(connection: Any, name: str) -> tuple[Finding, ...]:
    """Rows of a CSV file that do not fit its header, first lines first."""
    return _findings(connection, f"SELECT reason, example, line FROM {name}_ragged", first="line")


def deal_quality(connection: Any) -> TableQuality:
    """Count the rows of the deals table by what became of them."""
    written = "concat('created_at = ', coalesce(time_text, ''), ', amount = ', coalesce(amount_text, ''))"
    rejections = _findings(
        connection,
        f"""
        SELECT fault AS reason, concat(coalesce(deal_id, '(no id)'), ': ', {written}) AS example FROM deals_in
            WHERE fault IS NOT NULL
        UNION ALL SELECT fault, concat(deal_id, ': ', detail) FROM deals_copies
        UNION ALL SELECT fault, concat(deal_id, ': ', detail) FROM deals_broken
        UNION ALL SELECT 'no usable stage entry', deal_id FROM deals_first
            ANTI JOIN deals_broken USING (deal) ANTI JOIN deals_used USING (deal)""",
    )
    rejections = _sorted(rejections + _ragged(connection, RAW_DEALS))
    rows_in = _count(connection, "deals_in") + _count(connection, f"{RAW_DEALS}_ragged")
    notes = _findings(
        connection,
        """SELECT 'amount is missing: it is drawn from the amounts of similar deals' AS reason, deal_id AS example
        FROM deals_first SEMI JOIN deals_used USING (deal) WHERE amount IS NULL
        UNION ALL SELECT 'amount is zero: taken as it is, though zero often means unknown', deal_id
        FROM deals_first SEMI JOIN deals_used USING (deal) WHERE amount = 0""",
    )
    return TableQuality(TABLE_NAMES[RAW_DEALS], rows_in, _count(connection, "deals_used"), rejections, notes)


def _entries_found(reason: str, rows: pd.DataFrame, deals: pd.DataFrame, graph: StageGraph) -> tuple[Finding, ...]:
    if rows.empty:
        return ()
    few = rows.head(MAX_EXAMPLES)
    ids = deals["deal_id"].to_numpy(dtype=object)[few["deal"].to_numpy()]
    stages = [graph.stages[code] for code in few["stage"].to_numpy()]
    days = few["entered_on"].dt.strftime("%Y-%m-%d")
    shown = tuple(f"{name}: {stage} on {day}" for name, stage, day in zip(ids, stages, days, strict=True))
    return (Finding(reason, len(rows), shown),)


def _far_from_all(entries: pd.DataFrame, *, before: bool = False) -> pd.DataFrame:
    """Entries beyond more than a year in which nothing was recorded, where they are few: a year mistyped, or no date."""
    by_day = entries["entered_on"].value_counts().sort_index(ascending=before)
    days = by_day.index.to_numpy().astype("datetime64[D]")  # the outermost first
    beyond = np.cumsum(by_day.to_numpy())
    gaps = np.abs(np.diff(days).astype(np.int64))
    far = np.flatnonzero((gaps > _FAR_DAYS) & (beyond[:-1] <= _FAR_SHARE * len(entries)))
    if not far.size:
        return entries.head(0)
    last = days[far[-1]]
    entered = entries["entered_on"].to_numpy().astype("datetime64[D]")
    found: pd.DataFrame = entries[entered <= last if before else entered >= last]
    return found.sort_values("entered_on", kind="stable")


def history_quality(
    connection: Any, graph: StageGraph, deals: pd.DataFrame, entries: pd.DataFrame, copies: Any
) -> TableQuality:
    """Count the rows of the stage history by what became of them; ``copies`` marks the entries delivered again."""
    rejections = _findings(
        connection,
        f"""
        SELECT fault AS reason, concat(coalesce(deal_id, '(no id)'), ': ', coalesce(stage, '(no stage)'), ' at ',
            coalesce(time_text, '(missing)')) AS example FROM history_in WHERE fault IS NOT NULL
        UNION ALL SELECT CASE WHEN listed THEN 'its deal was rejected' WHEN known IS NULL
                THEN 'deal is not in the deals table'
                ELSE 'deal is in the deals table with other blanks or another case: write its id alike in both' END,
            concat(deal_id, ': ', stage, CASE WHEN NOT listed THEN ', the deals table has ''' || known || '''' END)
            FROM (SELECT deal_id, stage, {likeness("deal_id")} AS alike,
                    deal_id IN (SELECT deal_id FROM deals_in WHERE deal_id IS NOT NULL
                        UNION ALL SELECT key FROM {RAW_DEALS}_ragged WHERE key IS NOT NULL) AS listed
                FROM history_in ANTI JOIN deals_used USING (deal) WHERE fault IS NULL)
            LEFT JOIN (SELECT {likeness("deal_id")} AS alike, min(deal_id) AS known FROM deals_in GROUP BY alike)
                USING (alike)""",
    )
    used = entries[~copies]
    again = (used["deal"] == used["deal"].shift()) & (used["stage"] == used["stage"].shift())
    repeated = _entries_found("the same entry delivered again", entries[copies], deals, graph)
    stayed = "the stage was entered while already in it: one stay, the later amount counts"
    notes = _entries_found(stayed, used[again], deals, graph)
    far = "dated more than a year after all other rows: correct the date if it is mistyped, or name the as-of date"
    early = (
        "dated more than a year before all other rows: correct the date, or leave out the deal if it stands for none"
    )
    notes = _entries_found(early, _far_from_all(used, before=True), deals, graph) + notes
    notes = _entries_found(f"{far}, which is the last date otherwise", _far_from_all(used), deals, graph) + notes
    notes += _findings(
        connection,
        """SELECT 'amount cannot be read (expected digits such as 1200.50) or is negative: the move counts, '
            || 'the amount as missing' AS reason,
            concat(deal_id, ': ', stage, ', amount = ', amount_text) AS example
        FROM history_in SEMI JOIN deals_used USING (deal)
        WHERE fault IS NULL AND amount_text IS NOT NULL AND (amount IS NULL OR amount < 0)""",
    )
    rows_in = _count(connection, "history_in") + _count(connection, f"{RAW_HISTORY}_ragged")
    rejections = _sorted(rejections + repeated + _ragged(connection, RAW_HISTORY))
    return TableQuality(TABLE_NAMES[RAW_HISTORY], rows_in, len(used), rejections, notes)
