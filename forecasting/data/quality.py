"""What was wrong with the rows that were read: every row is used or rejected, and every rejection is counted.

For each table ``rows_in = rows_used + sum of the rejections``. A *note* tells about rows that were used after all, with
something taken for granted (an amount that could not be read, a stage entered twice in a row).
"""

from dataclasses import dataclass, field
from typing import Any

MAX_EXAMPLES = 5
"""Examples kept per reason."""
MANY_REJECTED = 0.01
"""Part of a table from which on rows left out are worth a word beside the forecast."""
NOTHING_LOST = ("delivered again", "its deal was rejected")
"""In reasons of rows of which nothing is lost, or that are counted already."""


@dataclass(frozen=True)
class Finding:
    """One reason, how many rows it concerns, and up to five of them (deal id and what was found)."""

    reason: str
    count: int
    examples: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain record for JSON."""
        return {"reason": self.reason, "count": self.count, "examples": list(self.examples)}


@dataclass(frozen=True)
class TableQuality:
    """Rows of one table.

    Parameters
    ----------
    table : str
        ``deals`` or ``stage_history``.
    rows_in, rows_used : int
        Rows read, and rows that count.
    rejections : tuple of Finding
        Rows left out, most frequent reason first.
    notes : tuple of Finding
        Rows used with something taken for granted.
    """

    table: str
    rows_in: int
    rows_used: int
    rejections: tuple[Finding, ...] = ()
    notes: tuple[Finding, ...] = ()

    @property
    def rows_rejected(self) -> int:
        """Number of rows left out."""
        return sum(finding.count for finding in self.rejections)


@dataclass(frozen=True)
class DataQuality:
    """What reading the two tables found.

    Examples
    --------
    >>> missing = Finding("created_at is not a date", 2, ("D-7: created_at = 'soon'",))
    >>> quality = DataQuality((TableQuality("deals", 10, 8, (missing,)), TableQuality("stage_history", 30, 30)))
    >>> quality.to_dict()["rows_in"], quality.to_dict()["rows_used"]
    (40, 38)
    >>> print(quality.to_text())
    deals: 10 rows, 8 used, 2 rejected
      rejected 2: created_at is not a date
        D-7: created_at = 'soon'
        ...
    stage_history: 30 rows, 30 used, 0 rejected
    """

    tables: tuple[TableQuality, ...] = field(default=())

    def __getitem__(self, table: str) -> TableQuality:
        return next(quality for quality in self.tables if quality.table == table)

    def to_dict(self) -> dict[str, Any]:
        """Record of the artefacts: ``rows_in``, ``rows_used`` and ``rows_rejected`` over both tables."""
        rejected = [(quality.table, finding) for quality in self.tables for finding in quality.rejections]
        return {
            "rows_in": sum(quality.rows_in for quality in self.tables),
            "rows_used": sum(quality.rows_used for quality in self.tables),
            "rows_rejected": [
                finding.to_dict() | {"reason": f"{table}: {finding.reason}"} for table, finding in rejected
            ],
        }

    @property
    def warnings(self) -> list[str]:
        """What a forecast lacks by the rows that were left out, for people.

        Examples
        --------
        >>> copied, late = Finding("the same entry delivered again", 90), Finding("created_at is not a date", 2)
        >>> DataQuality((TableQuality("stage_history", 300, 210, (copied,)),)).warnings
        []
        >>> DataQuality((TableQuality("deals", 100, 98, (late,)),)).warnings[0][:60]
        '2 of 100 rows of deals are left out, 2 of them because: crea'
        """
        found = []
        for table in self.tables:
            lost = [each for each in table.rejections if not any(said in each.reason for said in NOTHING_LOST)]
            count = sum(finding.count for finding in lost)
            if count > 0 and count >= MANY_REJECTED * table.rows_in:
                found.append(
                    f"{count:,} of {table.rows_in:,} rows of {table.table} are left out, {lost[0].count:,} of them because: "
                    f"{lost[0].reason}. What they would bring is missing; `dealcast check` shows them"
                )
        return found

    def to_text(self) -> str:
        """Report for people."""
        lines: list[str] = []
        for quality in self.tables:
            used = f"{quality.rows_used:,} used, {quality.rows_rejected:,} rejected"
            lines.append(f"{quality.table}: {quality.rows_in:,} rows, {used}")
            lines += [line for finding in quality.rejections for line in _lines("rejected", finding)]
            lines += [line for finding in quality.notes for line in _lines("note", finding)]
        return "\n".join(lines)


def _lines(kind: str, finding: Finding) -> list[str]:
    more = ["    ..."] if finding.examples and finding.count > len(finding.examples) else []
    return [f"  {kind} {finding.count:,}: {finding.reason}", *(f"    {text}" for text in finding.examples), *more]
