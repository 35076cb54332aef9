"""The open pipeline: one row per deal that is open at the end of the as-of date."""

from dataclasses import dataclass
from datetime import date
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from forecasting.engine.streams import deal_keys
from models.errors import SettingsError
from models.stages import StageGraph

PIPELINE_COLUMNS = ("deal_id", "stage", "days_in_stage", "amount", "cell", "segment", "owner")


@dataclass(frozen=True)
class OpenPipeline:
    """Deals open at the end of the as-of date.

    Parameters
    ----------
    graph : StageGraph
    as_of : date
    deals : DataFrame
        ``deal_id`` (str), ``stage`` (int, open stage code), ``days_in_stage`` (int, days since the stage was entered),
        ``amount`` (float, currency units, NaN = missing), ``cell`` (int, row of ``cells``), ``segment`` (str, "" when
        there are no segments), ``owner`` (str or None). Sorted by ``deal_id``.
    cells : ndarray of int32, shape (cell, factor)
        Level code of each factor, ``UNSEEN_LEVEL`` for a level that the factors do not know.

    Examples
    --------
    >>> graph = StageGraph(open=["Lead"], won=["Won"], lost=["Lost"])
    >>> row = pd.DataFrame([("A", 0, 12, 900.0, 0, "", None)], columns=PIPELINE_COLUMNS)
    >>> pipeline = OpenPipeline(graph, date(2026, 9, 30), row, np.zeros((1, 0), dtype=np.int32))
    >>> pipeline.n_deals, pipeline.amount_missing
    (1, 0)
    """

    graph: StageGraph
    as_of: date
    deals: pd.DataFrame
    cells: NDArray[np.int32]

    def __post_init__(self) -> None:
        if tuple(self.deals.columns) != PIPELINE_COLUMNS:
            raise SettingsError(f"open deals must have the columns {PIPELINE_COLUMNS}, got {tuple(self.deals.columns)}")
        if len(self.deals) and not self.deals["stage"].between(0, self.graph.n_open - 1).all():
            raise SettingsError("every open deal must be in an open stage: stage codes below the number of open stages")
        if len(self.deals) and self.deals["days_in_stage"].min() < 0:
            raise SettingsError("days_in_stage must not be negative: the stage was entered after the as-of date")

    @property
    def n_deals(self) -> int:
        """Number of open deals."""
        return len(self.deals)

    @property
    def amount_missing(self) -> int:
        """Number of open deals without an amount."""
        return int(self.deals["amount"].isna().sum())

    @cached_property
    def deal_keys(self) -> NDArray[np.uint64]:
        """Hash of each deal's id, which names its random numbers, shape (deal,).

        Made when first asked for and kept: of a million deals it takes as long as a quarter of a simulation.
        """
        return deal_keys(self.deals["deal_id"].to_numpy(dtype=object))

    @cached_property
    def segment_codes(self) -> tuple[tuple[str, ...], NDArray[np.int32]]:
        """Segment labels, sorted, and the place of each deal's among them; kept like ``deal_keys``."""
        code, labels = pd.factorize(self.deals["segment"], sort=True)
        return tuple(str(label) for label in labels), code.astype(np.int32)
