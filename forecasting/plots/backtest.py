"""How past forecasts did: their ranges beside what came, where outcomes fell in them, and chances beside shares."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.dates import date2num
from matplotlib.ticker import MaxNLocator, PercentFormatter

from forecasting.answers.revenue import Source
from forecasting.output.words import day, plural
from forecasting.plots.style import (
    BAND,
    BAND_ALPHA,
    BANDS,
    HAIRLINE,
    INK,
    PAPER,
    QUIET,
    TARGET,
    as_written,
    date_axis,
    look,
    money_axis,
    new_axes,
    tint_bands,
)  # fmt: skip
from forecasting.proof.scores import coverage

PREFIX = {"total": "", "open": "open_", "new": "new_"}
ACTUAL = {"total": "actual", "open": "actual_open", "new": "actual_new"}
NAMES = {"total": "all revenue", "open": "revenue of open deals", "new": "revenue of deals created later"}
PIT_BINS = 10


def past_forecasts(
    table: pd.DataFrame, *, source: Source = "total", currency: str | None = None, ax: Axes | None = None
) -> Axes:
    """Draw the 50, 80 and 95 % ranges of past forecasts by their date, and what came.

    Parameters
    ----------
    table : DataFrame
        Of a :class:`forecasting.proof.backtest_result.BacktestResult`.
    source : {"total", "open", "new"}
        Revenue of all deals, of those open at the date, or of those created later.
    currency : str, optional
    ax : Axes, optional
        Drawn into if given.
    """
    prefix, came = PREFIX[source], table[ACTUAL[source]]
    dates = pd.to_datetime(table["as_of"])
    inside = came.between(table[f"{prefix}p10"], table[f"{prefix}p90"]).to_numpy()
    with look():
        ax = new_axes(10.5, 5.2) if ax is None else ax
        ax.grid(axis="y", color=HAIRLINE)
        for (low, high, name), opacity in zip(BANDS, BAND_ALPHA, strict=True):
            ends = table[prefix + low], table[prefix + high]
            if len(table) > 1:
                ax.fill_between(dates, *ends, color=BAND, alpha=opacity, linewidth=0, label=f"{name} range")
            else:
                ax.vlines(dates, *ends, color=BAND, alpha=opacity, linewidth=22, label=f"{name} range")
        ax.plot(dates, table[f"{prefix}p50"], color=BAND, linewidth=1.6, label="median")
        ax.plot(dates, came, color=INK, linewidth=1.2)
        ax.plot(dates[inside], came[inside], "o", color=INK, markersize=5, label="what came")
        outside = "outside the 80% range" if not inside.all() else None
        ax.plot(dates[~inside], came[~inside], "o", color=TARGET, markersize=6, label=outside)
        peak = max(float(came.max()), float(table[f"{prefix}p90"].max()), 1e-9)
        ax.set_ylim(0.0, min(1.08 * max(peak, float(table[f"{prefix}p975"].max())), 1.8 * peak))
        if len(table) > 1:
            date_axis(ax.xaxis)
        else:
            only = float(date2num(dates.iloc[0]))  # type: ignore[no-untyped-call]
            ax.set_xlim(only - 7.0, only + 7.0)
            ax.set_xticks([only], [day(dates.iloc[0])])
        money_axis(ax.yaxis, currency)
        ax.set_xlabel(f"date of the forecast, {plural(int(table['horizon_days'].max()), 'day')} ahead")
        ax.set_title(f"Past forecasts of {NAMES[source]}: the 80% range held {inside.sum()} of {len(inside)}")
        legend = ax.legend(
            loc="upper left",
            bbox_to_anchor=(-0.01, -0.16),
            ncols=6,
            frameon=False,
            fontsize=11,
            columnspacing=1.3,
            handlelength=1.5,
        )
        tint_bands(legend)
    return as_written(ax)


def pit(table: pd.DataFrame, *, source: Source = "total", ax: Axes | None = None) -> Axes:
    """Draw where outcomes fell in their forecasts: bars of equal height, but for chance, if the forecasts were right.

    Parameters
    ----------
    table : DataFrame
        Of a :class:`forecasting.proof.backtest_result.BacktestResult`.
    source : {"total", "open", "new"}
    ax : Axes, optional
    """
    values = table[f"{PREFIX[source]}pit"].dropna().to_numpy(dtype=float)
    bins = min(PIT_BINS, max(len(values) // 3, 2))
    counts, edges = np.histogram(values, bins=bins, range=(0.0, 1.0))
    expected = coverage(np.zeros(len(values), dtype=bool), level=1.0 / bins)
    with look():
        ax = new_axes(8.5, 4.6) if ax is None else ax
        ax.axhspan(expected.expected_low, expected.expected_high, color=HAIRLINE, alpha=0.6, linewidth=0)
        ax.bar(edges[:-1], counts, width=1.0 / bins, align="edge", color=BAND, edgecolor=PAPER, linewidth=1.5)
        ax.axhline(len(values) / bins, color=TARGET, linewidth=1.8, linestyle=(0, (5, 3)))
        top = 1.3 * max(float(counts.max()), float(expected.expected_high))
        ax.set(xlim=(0, 1), ylim=(0, top))
        words = "dashed: a right forecast;  grey: 95 of 100 bars of a right one"
        ax.text(0.99, 0.97, words, transform=ax.transAxes, ha="right", va="top", color=QUIET, fontsize=11)
        ax.xaxis.set_major_formatter(PercentFormatter(1))
        ax.yaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
        ax.set_xlabel("share of the forecast that lay below what came")
        ax.set_ylabel("forecasts")
        ax.set_title(f"Where {len(values)} outcomes fell in their forecasts ({NAMES[source]})")
    return as_written(ax)


def reliability(table: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """Draw stated chances of deals to be won in time against the share that was, with the exact 95 % range of the share.

    Parameters
    ----------
    table : DataFrame
        From :meth:`forecasting.proof.backtest_result.BacktestResult.reliability`.
    ax : Axes, optional
    """
    stated, share = table["probability"], table["share"]
    with look():
        ax = new_axes(6.6, 6.0) if ax is None else ax
        top = min(1.0, 1.12 * max(float(table["share_high"].max()), float(stated.max()), 0.05))
        ax.plot([0, 1], [0, 1], color=QUIET, linewidth=1.4, linestyle=(0, (5, 3)))
        ax.vlines(stated, table["share_low"], table["share_high"], color=BAND, alpha=0.55, linewidth=3)
        ax.plot(stated, share, "o", color=INK, markersize=7)
        ax.set(xlim=(0, top), ylim=(0, top), aspect="equal")
        ax.grid(color=HAIRLINE)
        for axis in (ax.xaxis, ax.yaxis):
            axis.set_major_locator(MaxNLocator(nbins=6))
            axis.set_major_formatter(PercentFormatter(1, decimals=0))
        ax.set_xlabel("chance we gave to be won in time")
        ax.set_ylabel("share that was won in time")
        words = (
            f"each dot is about {plural(int(table['n'].median()), 'deal')};\non the dashed line the chances are right"
        )
        ax.text(0.97, 0.04, words, transform=ax.transAxes, ha="right", va="bottom", color=QUIET, fontsize=11)
        ax.set_title(f"Chances of {plural(int(table['n'].sum()), 'open deal')}, and what came")
    return as_written(ax)
