"""Everything a reader of a forecast wants to know, computed once: what files, page, pictures and words then show."""

from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from forecasting.answers.revenue import cents_in, target_span
from forecasting.answers.stage_summary import StageSummary, stage_summary
from forecasting.periods import Period as Span
from forecasting.periods import PeriodName
from models.history import UNSEEN_LEVEL

if TYPE_CHECKING:
    from forecasting.answers.forecasts import Forecast
    from forecasting.answers.leads import LeadsNeeded

STALLED = 0.9
"""A deal is stalled when nine in ten stays in its stage are over by its age."""
QUANTILES = (0.1, 0.5, 0.9)


@dataclass(frozen=True)
class Goal:
    """The target a forecast is held against.

    Parameters
    ----------
    amount : float
        Currency units.
    by : date or str
    since : date or str, optional
        Start of the period that holds the as-of date when left out.
    confidence : float
        Probability with which leads needed shall reach it.
    """

    amount: float
    by: date | str
    since: date | str | None = None
    confidence: float = 0.8


@dataclass(frozen=True)
class Range:
    """Middle and ends of the 80 % range of an amount, currency units."""

    p10: float
    p50: float
    p90: float


@dataclass(frozen=True)
class Findings:
    """What a forecast says.

    Parameters
    ----------
    forecast : Forecast
    period : str
        Calendar period of the tables.
    fiscal_year_start : int
        Month in which years and quarters begin.
    span : Span
        Days the headline counts: those of the target if there is one, else from the present period to the last day.
    total, open, new : Range
        Revenue of the span: all, from open deals, from deals not created yet.
    booked : float
        Won within the span up to the as-of date.
    leads : LeadsNeeded or None
        The target and what it takes; None without a target.
    revenue : DataFrame
        By period, source and segment, see :func:`forecasting.answers.revenue.revenue`.
    deals : DataFrame
        One row per open deal, see :meth:`forecasting.answers.forecasts.Forecast.deals`.
    stalled : DataFrame
        By stage: ``stage``, ``deals``, ``amount`` of the deals that have been there longer than nine in ten stays last.
    stages : StageSummary
    """

    forecast: "Forecast"
    period: PeriodName
    fiscal_year_start: int
    span: Span
    total: Range
    open: Range
    new: Range
    booked: float
    leads: "LeadsNeeded | None"
    revenue: pd.DataFrame
    deals: pd.DataFrame
    stalled: pd.DataFrame
    stages: StageSummary


def findings(
    forecast: "Forecast", *, period: PeriodName = "month", fiscal_year_start: int = 1, goal: Goal | None = None
) -> Findings:
    """Compute what a forecast says.

    Parameters
    ----------
    forecast : Forecast
    period : {"day", "week", "month", "quarter", "year"}
    fiscal_year_start : int
    goal : Goal, optional

    Raises
    ------
    SettingsError
        The goal's dates do not fit the forecast.
    """
    by, since = (goal.by, goal.since) if goal else (forecast.until, None)
    span = target_span(forecast, by=by, since=since, period=period, fiscal_year_start=fiscal_year_start)
    leads = None
    if goal:
        leads = forecast.leads_needed(target=goal.amount, by=span.end, since=span.start, confidence=goal.confidence)
    deals = forecast.deals(target=goal.amount if goal else None, by=span.end, since=span.start)
    return Findings(
        forecast=forecast,
        period=period,
        fiscal_year_start=fiscal_year_start,
        span=span,
        total=_range(cents_in(forecast, span, "total") / 100),
        open=_range(cents_in(forecast, span, "open") / 100),
        new=_range(cents_in(forecast, span, "new") / 100),
        booked=float(cents_in(forecast, span, "booked")[0] / 100),
        leads=leads,
        revenue=forecast.revenue(
            period=period, by_segment=forecast.segments != ("",), fiscal_year_start=fiscal_year_start
        ),
        deals=deals,
        stalled=stalled_by_stage(deals),
        stages=_stage_summary(forecast),
    )


def stalled_by_stage(deals: pd.DataFrame) -> pd.DataFrame:
    """Count the stalled open deals by stage, most money first.

    Examples
    --------
    >>> table = pd.DataFrame({"stage": ["Lead", "Lead"], "stall_percentile": [0.95, 0.2], "amount": [100.0, 50.0]})
    >>> stalled_by_stage(table).to_dict("records")
    [{'stage': 'Lead', 'deals': 1, 'amount': 100.0}]
    """
    stalled = deals[deals["stall_percentile"] >= STALLED]
    table = stalled.groupby("stage", sort=False)["amount"].agg(deals="size", amount="sum").reset_index()
    return table.sort_values(["amount", "deals"], ascending=False, kind="stable", ignore_index=True)


def _range(amounts: "np.ndarray[tuple[int, ...], np.dtype[np.float64]]") -> Range:
    return Range(*np.quantile(amounts, QUANTILES).tolist())


def _stage_summary(forecast: "Forecast") -> StageSummary:
    """Stages of the average open deal; of a deal nothing is known about where no deal is open."""
    pipeline = forecast.pipeline
    weights = np.bincount(pipeline.deals["cell"].to_numpy(), minlength=len(pipeline.cells)).astype(np.float64)
    used = np.flatnonzero(weights)
    factors = forecast.posterior.stage.factors
    cells = pipeline.cells[used] if len(used) else np.full((1, len(factors)), UNSEEN_LEVEL, dtype=np.int32)
    weights = weights[used] if len(used) else np.ones(1)
    return stage_summary(forecast.posterior.stage, pipeline.graph, cells=cells, weights=weights)
