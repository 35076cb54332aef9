"""Revenue that has come in by each coming day of a span: the path towards a target, and the chance of any amount."""

from datetime import timedelta
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from forecasting.answers.revenue import SOURCES, cents_in
from forecasting.periods import Period as Span

if TYPE_CHECKING:
    from forecasting.answers.forecasts import Forecast

PATH_QUANTILES = {"p025": 0.025, "p10": 0.1, "p25": 0.25, "p50": 0.5, "p75": 0.75, "p90": 0.9, "p975": 0.975}
"""Edges of the 50, 80 and 95 % ranges and the median."""
PATH_POINTS = 60
"""Days looked at, evenly spread: as many as a picture can show."""


def revenue_path(forecast: "Forecast", span: Span) -> pd.DataFrame:
    """Revenue of the span that has come in by the end of each day, with its ranges.

    Parameters
    ----------
    forecast : Forecast
    span : Span
        Days that count; the path runs from the as-of date to its end.

    Returns
    -------
    DataFrame
        ``day``, ``p025``, ``p10``, ``p25``, ``p50``, ``p75``, ``p90``, ``p975`` of the total, and the means ``booked``,
        ``open``, ``new`` by source; currency units. The first row is the as-of date: what is booked, known for sure.
    """
    horizon = (span.end - forecast.as_of).days
    rows = []
    for step in np.unique(np.linspace(0, horizon, min(PATH_POINTS, horizon) + 1).round().astype(int)):
        last = forecast.as_of + timedelta(days=int(step))
        parts = {source: cents_in(forecast, Span(span.start, last), source) / 100 for source in SOURCES[1:]}
        ranges = np.quantile(sum(parts.values()), list(PATH_QUANTILES.values()))
        means = {source: float(part.mean()) for source, part in parts.items()}
        rows.append({"day": pd.Timestamp(last)} | dict(zip(PATH_QUANTILES, ranges.tolist(), strict=True)) | means)
    return pd.DataFrame(rows)


def attainment_curve(forecast: "Forecast", span: Span, *, points: int = 200) -> pd.DataFrame:
    """Probability that revenue of the span reaches an amount, for amounts from sure to out of reach.

    Half of the amounts lie evenly between the ends, half at even steps of probability: a curve may fall at two places.

    Returns
    -------
    DataFrame
        ``amount`` (currency units, rising) and ``probability`` of at least that much.
    """
    total = np.sort(cents_in(forecast, span, "total")) / 100
    margin = 0.02 * max(total[-1] - total[0], 0.05 * total[-1])
    even = np.linspace(max(total[0] - margin, 0.0), total[-1] + margin, points // 2)
    amount = np.sort(np.concatenate([even, np.quantile(total, np.linspace(0.0, 1.0, points - len(even)))]))
    reached = 1 - np.searchsorted(total, amount, side="left") / len(total)
    return pd.DataFrame({"amount": amount, "probability": reached})
