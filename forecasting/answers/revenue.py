"""Revenue by period and the probability of reaching a target: sums over the draws of a forecast.

Revenue is counted in whole cents per draw, day and segment, so weeks add up to months, segments to the total and
sources to the total, draw by draw. Periods are calendar periods; the first one is the period that holds the as-of
date, with what it had already booked by then.
"""

from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from forecasting import periods as calendar
from models.errors import SettingsError

if TYPE_CHECKING:
    from forecasting.answers.forecasts import Forecast

Source = Literal["total", "booked", "open", "new"]
SOURCES: tuple[Source, ...] = get_args(Source)
QUANTILES: Mapping[str, float] = {
    "p05": 0.05,
    "p10": 0.1,
    "p25": 0.25,
    "p50": 0.5,
    "p75": 0.75,
    "p90": 0.9,
    "p95": 0.95,
}
"""Columns of quantiles in every revenue table."""
LARGEST_TARGET = 1e16
"""Currency units; its cents still fit in a whole number of 64 bits beside all revenue."""
LEVELS = (0.5, 0.8, 0.95)
"""Central intervals shown unless others are asked for."""
Period = calendar.PeriodName
"""Names of calendar periods."""
Span = calendar.Period
"""Days whose revenue is counted."""


def cents_in(forecast: "Forecast", span: Span, source: Source, *, segment: str | None = None) -> NDArray[np.int64]:
    """Revenue of one source in a span of days, in cents, shape (draw,)."""
    if source == "total":
        return sum(
            (cents_in(forecast, span, part, segment=segment) for part in SOURCES[1:]),
            np.zeros(forecast.draws, dtype=np.int64),
        )
    if source == "booked":
        return np.full(forecast.draws, booked_cents(forecast, span, segment=segment), dtype=np.int64)
    cents = forecast.open_cents if source == "open" else forecast.new_cents
    first, last = (max((day - forecast.as_of).days, 0) for day in (span.start - timedelta(days=1), span.end))
    part = cents[:, first:last] if segment is None else cents[:, first:last, _place(forecast, segment)]
    return part.sum(axis=tuple(range(1, part.ndim)), dtype=np.int64)


def booked_cents(forecast: "Forecast", span: Span, *, segment: str | None = None) -> int:
    """Cents won in a span of days up to the as-of date."""
    won, last = forecast.booked, min(span.end, forecast.as_of)
    counted = (won["won_on"] >= pd.Timestamp(span.start)) & (won["won_on"] <= pd.Timestamp(last))
    if segment is not None:
        counted &= won["segment"] == segment
    return int(np.rint(won.loc[counted, "amount"].dropna().to_numpy(dtype=float) * 100).astype(np.int64).sum())


def _place(forecast: "Forecast", segment: str) -> int:
    if segment not in forecast.segments:
        raise SettingsError(f"unknown segment {segment!r}: expected one of {', '.join(map(repr, forecast.segments))}")
    return forecast.segments.index(segment)


def revenue(
    forecast: "Forecast",
    *,
    period: Period = "month",
    levels: Sequence[float] = LEVELS,
    by_segment: bool = False,
    fiscal_year_start: int = 1,
) -> pd.DataFrame:
    """Revenue by period and source with its ranges.

    Returns
    -------
    DataFrame
        One row per period, source (``total``, ``booked``, ``open``, ``new``) and segment: ``period_start``,
        ``period_end`` (last day counted), ``source``, ``segment`` (None = all), ``mean``, ``p05`` ... ``p95`` and
        ``lower_80``, ``upper_80`` and so on for each level; currency units.
    """
    _check_levels(levels)
    columns = dict(QUANTILES)
    for level in levels:
        columns |= {f"lower_{100 * level:g}": (1 - level) / 2, f"upper_{100 * level:g}": (1 + level) / 2}
    segments: list[str | None] = [None, *(forecast.segments if by_segment else ())]
    rows = []
    for span in calendar.periods(forecast.as_of, forecast.until, period=period, fiscal_year_start=fiscal_year_start):
        for source in SOURCES:
            for segment in segments:
                amounts = cents_in(forecast, span, source, segment=segment) / 100
                ranges = dict(zip(columns, np.quantile(amounts, list(columns.values())).tolist(), strict=True))
                when = {"period_start": pd.Timestamp(span.start), "period_end": pd.Timestamp(span.end)}
                rows.append(when | {"source": source, "segment": segment, "mean": float(amounts.mean())} | ranges)
    return pd.DataFrame(rows)


def _check_levels(levels: Sequence[float]) -> None:
    wrong = [level for level in levels if not 0 < level < 1]
    if wrong:
        raise SettingsError(f"levels are probabilities between 0 and 1 such as 0.8, got {wrong}")


def revenue_draws(
    forecast: "Forecast",
    *,
    period: Period = "month",
    source: Source = "total",
    segment: str | None = None,
    fiscal_year_start: int = 1,
) -> pd.DataFrame:
    """Revenue by draw (rows) and period (columns: first day of the period), currency units."""
    if source not in SOURCES:
        raise SettingsError(f"source must be one of {', '.join(SOURCES)}, got {source!r}")
    spans = calendar.periods(forecast.as_of, forecast.until, period=period, fiscal_year_start=fiscal_year_start)
    columns = [cents_in(forecast, span, source, segment=segment) / 100 for span in spans]
    starts = pd.DatetimeIndex([span.start for span in spans], name="period_start")
    return pd.DataFrame(np.column_stack(columns), columns=starts).rename_axis(index="draw")


def target_span(
    forecast: "Forecast",
    *,
    by: str | date,
    since: str | date | None = None,
    period: Period = "month",
    fiscal_year_start: int = 1,
) -> Span:
    """Days whose revenue counts towards a target.

    Raises
    ------
    SettingsError
        ``by`` lies beyond the forecast or not after the as-of date, or before ``since``.
    """
    days = Span(forecast.as_of, forecast.until)
    return span_within(days, by=by, since=since, period=period, fiscal_year_start=fiscal_year_start)


def span_within(
    forecast: Span,
    *,
    by: str | date,
    since: str | date | None = None,
    period: Period = "month",
    fiscal_year_start: int = 1,
) -> Span:
    """Days whose revenue counts towards a target, of a forecast still to be made from its as-of date to its end.

    Raises
    ------
    SettingsError
        As :func:`target_span`.
    """
    end = calendar.as_date(by, name="by")
    if since is None:
        start = calendar.period_start(forecast.start, period=period, fiscal_year_start=fiscal_year_start)
    else:
        start = calendar.as_date(since, name="since")
    if not forecast.start < end <= forecast.end:
        raise SettingsError(
            f"the target date must lie after the as-of date {forecast.start} and not after the end of the forecast "
            f"{forecast.end}, got {end}: choose another date, or forecast further (forecast.horizon or forecast.until)"
        )
    if start > end:
        raise SettingsError(f"the target counts from {start} but ends on {end}: choose an earlier start")
    return Span(start, end)


def attainment(forecast: "Forecast", span: Span, *, target: float) -> float:
    """Probability that revenue of all sources in the span reaches ``target`` (currency units)."""
    return float(np.mean(cents_in(forecast, span, "total") >= target_cents(target)))


def target_cents(target: float) -> int:
    """Target in cents.

    Raises
    ------
    SettingsError
        The target is negative, no number, or more money than can be counted in cents.
    """
    if not 0 <= target <= LARGEST_TARGET:
        raise SettingsError(
            f"a target is an amount of money, zero or more and up to {LARGEST_TARGET:.0e}, got {target!r}"
        )
    return int(np.ceil(round(target * 100, 6)))
