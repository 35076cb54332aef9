"""The forecast: what the open pipeline, and deals that do not exist yet, may bring until a date.

``forecast`` cuts the deals at the as-of date, plays every posterior draw forward to the last day and keeps cents by
draw, day and segment. Every answer is a sum over those, so answers never contradict each other.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from forecasting import revenue as revenue_tables
from forecasting.revenue import LEVELS, Period, Source, target_span

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from forecasting.calibration import Calibration
    from forecasting.leads import LeadsNeeded
    from forecasting.pipeline import OpenPipeline
    from models.posterior import Posterior


@dataclass(frozen=True)
class Forecast:
    """Revenue by draw, day and segment, with all that follows from it.

    Parameters
    ----------
    as_of, until : date
        Last known day and last forecast day; forecast day 1 is the day after ``as_of``.
    currency : str or None
    seed : int
    segments : tuple of str
        Labels of the last axis of the cents; one empty label when deals are not told apart.
    open_cents, new_cents : ndarray of int64, shape (draw, day, segment)
        Revenue of deals open at the as-of date and of deals created later, calibration included.
    booked : DataFrame
        Deals won up to the as-of date: ``won_on``, ``amount``, ``segment``.
    deal_table : DataFrame
        One row per open deal, see :meth:`deals`, without ``target_swing``.
    pipeline : OpenPipeline
    posterior : Posterior
        What the forecast followed from; leads needed and scenarios play it forward again.
    open_factor, new_factor : ndarray of float64, shape (draw,)
        Factor that calibration put on each draw; ones without.
    calibration : Calibration or None
    diagnostics : mapping
        ``rhat_max``, ``ess_min``, ``divergences`` of the fit.
    data_quality : DataQuality or None
        Rows in, used and rejected.
    warnings : tuple of str
        What a reader of the forecast has to know.
    """

    as_of: date
    until: date
    currency: str | None
    seed: int
    segments: tuple[str, ...]
    open_cents: NDArray[np.int64]
    new_cents: NDArray[np.int64]
    booked: pd.DataFrame
    deal_table: pd.DataFrame
    pipeline: "OpenPipeline"
    posterior: "Posterior"
    open_factor: NDArray[np.float64]
    new_factor: NDArray[np.float64]
    calibration: "Calibration | None"
    diagnostics: Mapping[str, Any]
    data_quality: Any
    warnings: tuple[str, ...] = ()

    @property
    def draws(self) -> int:
        """Number of draws."""
        return len(self.open_cents)

    @property
    def horizon_days(self) -> int:
        """Number of forecast days."""
        return (self.until - self.as_of).days

    def revenue(
        self,
        period: Period = "month",
        levels: Sequence[float] = LEVELS,
        *,
        by_segment: bool = False,
        fiscal_year_start: int = 1,
    ) -> pd.DataFrame:
        """Revenue by period and source with its ranges, see :func:`forecasting.revenue.revenue`."""
        return revenue_tables.revenue(
            self, period=period, levels=levels, by_segment=by_segment, fiscal_year_start=fiscal_year_start
        )

    def revenue_draws(
        self,
        period: Period = "month",
        *,
        source: Source = "total",
        segment: str | None = None,
        fiscal_year_start: int = 1,
    ) -> pd.DataFrame:
        """Revenue by draw and period, see :func:`forecasting.revenue.revenue_draws`."""
        return revenue_tables.revenue_draws(
            self, period=period, source=source, segment=segment, fiscal_year_start=fiscal_year_start
        )

    def attainment(
        self,
        *,
        target: float,
        by: str | date,
        since: str | date | None = None,
        period: Period = "month",
        fiscal_year_start: int = 1,
    ) -> float:
        """Probability that revenue from ``since`` to ``by``, what is booked included, reaches ``target``.

        ``since`` defaults to the first day of the ``period`` that holds the as-of date.
        """
        span = target_span(self, by=by, since=since, period=period, fiscal_year_start=fiscal_year_start)
        return revenue_tables.attainment(self, span, target=target)

    def leads_needed(
        self,
        *,
        target: float,
        by: str | date,
        confidence: float = 0.8,
        since: str | date | None = None,
        period: Period = "month",
        fiscal_year_start: int = 1,
    ) -> "LeadsNeeded":
        """Smallest number of additional leads with which the target is reached, see :mod:`forecasting.leads`."""
        from forecasting.leads import leads_needed

        span = target_span(self, by=by, since=since, period=period, fiscal_year_start=fiscal_year_start)
        return leads_needed(self, span, target=target, confidence=confidence)

    def deals(
        self,
        *,
        target: float | None = None,
        by: str | date | None = None,
        since: str | date | None = None,
        period: Period = "month",
        fiscal_year_start: int = 1,
    ) -> pd.DataFrame:
        """One row per open deal, see :func:`forecasting.deal_table.with_swing` for the last column.

        Columns: ``deal_id``, ``stage``, ``days_in_stage``, ``amount`` (NaN = missing), ``win_probability`` (ever),
        ``win_probability_by_until``, ``close_date_p10``, ``close_date_p50``, ``close_date_p90`` (the deal is won or
        lost by that date with that probability; NaT beyond the look-ahead), ``stall_percentile`` (share of stays in
        the stage that end by the deal's age), ``target_swing``.
        """
        from forecasting.deal_table import with_swing

        span = target_span(
            self, by=self.until if by is None else by, since=since, period=period, fiscal_year_start=fiscal_year_start
        )
        return with_swing(self, span, target=target)

    def plot(self, ax: "Axes | None" = None) -> "Axes":
        """Revenue fan by period, see :func:`forecasting.plots.fan`."""
        from forecasting import plots

        return plots.fan(self, ax=ax)
