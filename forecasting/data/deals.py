"""Deals and their stage history, read and cleaned once; everything else is cut from them at an as-of date."""

from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import pandas as pd

from forecasting.data.cleaning import clean
from forecasting.data.quality import DataQuality
from forecasting.data.sources import RAW_DEALS, RAW_HISTORY, add_file, add_frame, add_query, attach, connect
from models.stages import StageGraph


@dataclass(frozen=True)
class Deals:
    """All usable deals with everything that is known of them; ``snapshot.cut`` tells what was known when.

    Parameters
    ----------
    graph : StageGraph
    deals : DataFrame
        One row per deal, sorted by id: ``deal_id`` (str), ``created_on`` (datetime64[ns] at midnight), ``amount``
        (float, currency units, NaN = missing), then the further columns of the deals table as text (numbers where the
        source had numbers). These columns have no history: they hold what the table says now.
    entries : DataFrame
        One row per entry into a stage, in the order in which they happened: ``deal_id``, ``deal`` (row of ``deals``),
        ``stage`` (code), ``entered_on``, ``order`` (0, 1, ... within the deal), ``moved`` (False when the deal was in
        that stage already and only the amount was written again), ``amount`` (as of then, NaN = not said).
    quality : DataQuality
        What was rejected and why.
    currency, timezone : str or None
    inputs_sha256 : str
        Hash of the content that was read.
    """

    graph: StageGraph
    deals: pd.DataFrame
    entries: pd.DataFrame
    quality: DataQuality
    currency: str | None
    timezone: str | None
    inputs_sha256: str

    @property
    def n_deals(self) -> int:
        """Number of usable deals."""
        return len(self.deals)


def read_deals(
    deals_path: str | Path,
    stage_history_path: str | Path,
    *,
    stages: StageGraph,
    currency: str | None = None,
    timezone: str | None = None,
) -> Deals:
    r"""Read the two tables from CSV (also gzipped) or Parquet files.

    Parameters
    ----------
    deals_path : path
        ``deal_id`` (text), ``created_at`` (date or ISO timestamp), ``amount`` (number or empty), any further columns.
    stage_history_path : path
        ``deal_id``, ``stage``, ``entered_at`` and optionally ``amount``: one row per entry into a stage. Row order is
        irrelevant; entries of the same date (or instant, where times are given) go in stage order, closing last.
    stages : StageGraph
    currency : str, optional
        Deals in another one (column ``currency``) are rejected. Default: the only one there is.
    timezone : str, optional
        Timezone of business days, needed when timestamps carry an offset; others are taken as local time.

    Returns
    -------
    Deals

    Raises
    ------
    MissingColumnError, UnknownStageError, EmptyInputError, InputError
        The tables cannot be used at all. Faulty rows are rejected and counted in ``Deals.quality`` instead.
    SettingsError
        Several currencies or timestamps with offsets, and no word on which one or where.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as name:
    ...     deals, history = Path(name, "deals.csv"), Path(name, "stage_history.csv")
    ...     _ = deals.write_text("deal_id,created_at,amount\n001,2026-01-05,900\nNA,2026-01-06,-5\n")
    ...     _ = history.write_text("deal_id,stage,entered_at\n001,Won,2026-02-01\n001,Lead,2026-01-05\n")
    ...     graph = StageGraph(open=["Lead"], won=["Won"], lost=["Lost"])
    ...     result = read_deals(deals, history, stages=graph)
    >>> result.deals["deal_id"].tolist(), result.entries["stage"].tolist()
    (['001'], [0, 1])
    >>> result.quality["deals"].rejections[0].reason
    'amount is negative'
    """
    with connect() as connection:
        hashes = [
            add_file(connection, RAW_DEALS, deals_path),
            add_file(connection, RAW_HISTORY, stage_history_path),
        ]
        return _cleaned(connection, hashes, stages, currency=currency, timezone=timezone)


def deals_from_frames(
    deals: pd.DataFrame,
    stage_history: pd.DataFrame,
    *,
    stages: StageGraph,
    currency: str | None = None,
    timezone: str | None = None,
) -> Deals:
    """Take the two tables from DataFrames; columns, cleaning and errors as in :func:`read_deals`.

    Examples
    --------
    >>> graph = StageGraph(open=["Lead"], won=["Won"], lost=["Lost"])
    >>> table = pd.DataFrame({"deal_id": ["A"], "created_at": ["2026-01-05"], "amount": [900.0]})
    >>> history = pd.DataFrame({"deal_id": ["A"], "stage": ["Lead"], "entered_at": ["2026-01-05"]})
    >>> deals_from_frames(table, history, stages=graph).n_deals
    1
    """
    with connect() as connection:
        hashes = [add_frame(connection, RAW_DEALS, deals), add_frame(connection, RAW_HISTORY, stage_history)]
        return _cleaned(connection, hashes, stages, currency=currency, timezone=timezone)


def deals_from_database(
    url: str,
    queries: tuple[str, str],
    *,
    stages: StageGraph,
    folder: Path = Path(),
    currency: str | None = None,
    timezone: str | None = None,
) -> Deals:
    """Take the two tables from SQL queries on a database; columns, cleaning and errors as in :func:`read_deals`.

    Parameters
    ----------
    url : str
        Path of a DuckDB file, ``sqlite:///path`` or ``postgresql://...``; opened read-only.
    queries : (str, str)
        SELECT statements giving the deals and the stage history.
    folder : Path
        Paths in ``url`` are relative to it.
    stages, currency, timezone
        See :func:`read_deals`.
    """
    with connect() as connection:
        attach(connection, url, folder=folder)
        hashes = [add_query(connection, RAW_DEALS, queries[0]), add_query(connection, RAW_HISTORY, queries[1])]
        return _cleaned(connection, hashes, stages, currency=currency, timezone=timezone)


def _cleaned(
    connection: Any, hashes: Iterable[str], stages: StageGraph, *, currency: str | None, timezone: str | None
) -> Deals:
    cleaned = clean(connection, stages, currency=currency, timezone=timezone)
    entries = cleaned.entries
    # the ids are shared with the deals table, not copied: one pointer per entry
    ids = cleaned.deals["deal_id"].to_numpy(dtype=object)[entries["deal"].to_numpy()]
    entries.insert(0, "deal_id", ids)
    return Deals(
        graph=stages,
        deals=cleaned.deals,
        entries=entries,
        quality=cleaned.quality,
        currency=cleaned.currency,
        timezone=timezone,
        inputs_sha256=sha256("".join([*hashes, currency or "", timezone or ""]).encode()).hexdigest(),
    )
