"""Revenue on its way to a target, and how likely each amount is to be reached."""

from datetime import date
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MultipleLocator, PercentFormatter

from forecasting.answers.revenue import target_span
from forecasting.answers.revenue_path import attainment_curve, revenue_path
from forecasting.output.words import chance, day, money
from forecasting.periods import PeriodName
from forecasting.plots.style import (
    BAND,
    BAND_ALPHA,
    BANDS,
    HAIRLINE,
    INK,
    PAPER,
    QUIET,
    SOURCE_COLOURS,
    SOURCE_NAMES,
    TARGET,
    as_written,
    date_axis,
    look,
    money_axis,
    new_axes,
    tint_bands,
)  # fmt: skip

if TYPE_CHECKING:
    from forecasting.answers.forecasts import Forecast

COLUMN = (1.05, 1.13)
"""Where the column of sources stands, as a share of the picture's width."""
ROOM_ABOVE = 0.3
"""Chance of a target below which nothing is drawn above the curve there."""
MARK_WIDTH = 0.18
"""Room that the words at a point of the attainment curve take, as a share of the width."""
LABEL_STEP = 0.055
"""Least distance of two labels, as a share of the height."""


def fan(
    forecast: "Forecast",
    *,
    period: PeriodName = "month",
    target: float | None = None,
    by: str | date | None = None,
    since: str | date | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw revenue as it adds up day by day: median, 50, 80 and 95 % ranges, the target, and what it is made of.

    Parameters
    ----------
    forecast : Forecast
    period : {"day", "week", "month", "quarter", "year"}
        Counting starts with the period that holds the as-of date, unless ``since`` is given.
    target : float, optional
        Drawn as a line, with the probability of reaching it.
    by : date, optional
        Last day; the end of the forecast by default.
    since : date, optional
    ax : Axes, optional
        Drawn into if given.
    """
    span = target_span(forecast, by=forecast.until if by is None else by, since=since, period=period)
    path = revenue_path(forecast, span)
    with look():
        ax = new_axes(10.5, 5.4) if ax is None else ax
        end = path.iloc[-1]
        top = max(float(end["p975"]), target or 0.0, float(end[["booked", "open", "new"]].sum()), 1e-9) * 1.1
        ax.set_ylim(0, top)
        ax.grid(axis="y", color=HAIRLINE)
        _bands(ax, path)
        _column(ax, end, top)
        if target is not None:
            reached = forecast.attainment(target=target, by=span.end, since=span.start)
            _target_line(ax, target, f"target {money(target)}: {chance(reached)} likely", path)
        ax.set_xlim(path["day"].iloc[0], path["day"].iloc[-1])
        date_axis(ax.xaxis)
        money_axis(ax.yaxis, forecast.currency)
        ax.set_title(f"Revenue from {day(span.start)} to {day(span.end)}: {_range_words(end, forecast.currency)}")
    return as_written(ax)


def _range_words(end: "pd.Series[float]", currency: str | None) -> str:
    return f"{money(end['p50'], currency)}, 80% range {money(end['p10'])} to {money(end['p90'])}"


def _bands(ax: Axes, path: pd.DataFrame) -> None:
    when = path["day"].to_numpy()
    for (low, high, name), alpha in zip(BANDS, BAND_ALPHA, strict=True):
        ax.fill_between(when, path[low], path[high], color=BAND, alpha=alpha, linewidth=0, label=f"{name} range")
    ax.plot(when, path["p50"], color=INK, linewidth=2.4, label="median", solid_capstyle="round")
    anchor = -0.01, -0.11
    legend = ax.legend(loc="upper left", bbox_to_anchor=anchor, ncols=4, frameon=False, fontsize=11, reverse=True)
    tint_bands(legend)


def _column(ax: Axes, end: "pd.Series[float]", top: float) -> None:
    """Mean revenue at the end, by source, as a column beside the fan."""
    blended = ax.get_yaxis_transform()
    floor = label = 0.0
    for source, colour in SOURCE_COLOURS.items():
        size = float(end[source])
        ax.fill_between(COLUMN, floor, floor + size, color=colour, linewidth=0, transform=blended, clip_on=False)
        label = max(floor + size / 2, label + LABEL_STEP * top)
        words = f"{SOURCE_NAMES[source]} {money(size)}"
        ax.text(COLUMN[1] + 0.012, label, words, transform=blended, va="center", fontsize=11)
        floor += size
    mean = max(floor + LABEL_STEP * top, label + LABEL_STEP * top)
    ax.text(COLUMN[1] + 0.012, mean, f"mean {money(floor)}", transform=blended, va="center", fontsize=11, color=QUIET)


def _target_line(ax: Axes, target: float, words: str, path: pd.DataFrame) -> None:
    ax.axhline(target, color=TARGET, linewidth=1.8, linestyle=(0, (5, 3)))
    text = ax.annotate(
        words, (0.99, target), xycoords=("axes fraction", "data"), xytext=(0, 5), textcoords="offset points",
        ha="right", va="bottom", color=TARGET, fontsize=12, fontweight="bold",
    )  # fmt: skip
    text.set_bbox({"facecolor": PAPER, "alpha": 0.75, "edgecolor": "none", "pad": 1})


def attainment(
    forecast: "Forecast",
    *,
    by: str | date | None = None,
    since: str | date | None = None,
    period: PeriodName = "month",
    target: float | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw the probability that revenue reaches an amount, for all amounts, with the target marked.

    Parameters
    ----------
    forecast : Forecast
    by, since, period
        Days that count, as for :meth:`forecasting.answers.forecasts.Forecast.attainment`.
    target : float, optional
    ax : Axes, optional
    """
    span = target_span(forecast, by=forecast.until if by is None else by, since=since, period=period)
    curve = attainment_curve(forecast, span)
    low, high = float(curve["amount"].iloc[0]), float(curve["amount"].iloc[-1])
    if target is not None:
        low, high = min(low, target), max(high, target)
    margin = 0.04 * (high - low) or 1.0
    with look():
        ax = new_axes(8.5, 4.8) if ax is None else ax
        ax.set(xlim=(low - margin, high + margin), ylim=(0, 1.06))
        ax.fill_between(curve["amount"], curve["probability"], color=BAND, alpha=0.18, linewidth=0)
        ax.plot(curve["amount"], curve["probability"], color=BAND, linewidth=2.6)
        for level in (0.9, 0.5, 0.1):
            amount = float(np.interp(-level, -curve["probability"], curve["amount"]))
            # words to the right would run across a target close by: then to the left, where there is room
            near = target is not None and 0.0 < target - amount < MARK_WIDTH * (high - low)
            left = near and level >= 0.5 and amount - low > MARK_WIDTH * (high - low)
            _mark(ax, amount, level, f"{level:.0%} for {money(amount)}", left=left)
        if target is not None:
            reached = forecast.attainment(target=target, by=span.end, since=span.start)
            ax.axvline(target, color=TARGET, linewidth=1.8, linestyle=(0, (5, 3)))
            right = target - low < 0.25 * (high - low)
            above = reached < ROOM_ABOVE  # the words of the lowest mark are where the target's would be
            words = f"target {money(target)}\n{chance(reached)} likely"
            ax.annotate(
                words, (target, 0.98 if above else 0.03), xytext=(8 if right else -8, 0), textcoords="offset points",
                va="top" if above else "bottom",
                ha="left" if right else "right", color=TARGET, fontsize=12, fontweight="bold", linespacing=1.2,
            )  # fmt: skip
            ax.plot(target, reached, "o", color=TARGET, markersize=8)
        ax.yaxis.set_major_locator(MultipleLocator(0.25))
        ax.yaxis.set_major_formatter(PercentFormatter(1))
        ax.grid(axis="y", color=HAIRLINE)
        money_axis(ax.xaxis, forecast.currency)
        ax.set_title(f"How likely is at least this much by {day(span.end)}?")
    return as_written(ax)


def _mark(ax: Axes, amount: float, level: float, words: str, *, left: bool) -> None:
    """Mark a point on the curve with its words to the right above it or to the left below, off the falling curve."""
    ax.plot(amount, level, "o", color=INK, markersize=6)
    text = ax.annotate(
        words, (amount, level), xytext=(-10, -3) if left else (10, 3), textcoords="offset points", color=INK,
        fontsize=12, ha="right" if left else "left", va="top" if left else "bottom",
    )  # fmt: skip
    if not left:
        text.set_bbox({"facecolor": PAPER, "alpha": 0.85, "edgecolor": "none", "pad": 1})  # a target line may cross
