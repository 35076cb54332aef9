"""A stage's fit held against its stays: who left where by which day, as counted and as believed."""

from textwrap import fill, shorten

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from forecasting.output.words import chance
from forecasting.plots.style import BAND, BAND_ALPHA, HAIRLINE, INK, QUIET, TARGET, as_written, look

MAX_PANELS = 6
"""Exits drawn, the commonest ones."""
COLUMNS = 3
PANEL = 4.2, 3.1
"""Width and height of a panel in inches."""
DRAWN_SHARE = 0.995
"""The axis ends where this share of the exit has been seen: a tail of a few forgotten deals would take all the room."""
LETTERS = 30
"""Length at which a name over a panel is shortened."""
NOTE_LETTERS = 34
"""Letters per inch and panel column below the picture."""


def stage_check(
    table: pd.DataFrame, *, stage: str, spikes: pd.DataFrame | None = None, believed: str = "the fit"
) -> Figure:
    """Draw a stage's observed cumulative incidence in the model's 90 % range, one panel per exit.

    Days that hold far more stays than the model has room for are marked, and said in words below.

    Parameters
    ----------
    table : DataFrame
        From :func:`models.stage_model.checks.cumulative_incidence`, of a posterior or of ``prior_draws``.
    stage : str
        Name for the title.
    spikes : DataFrame, optional
        From :func:`models.stage_model.checks.residual_spikes`; other stages' rows are passed over.
    believed : str
        Whose range it is: ``the fit``, ``the prior``.

    Returns
    -------
    Figure
    """
    parts = {str(name): part for name, part in table.groupby("next", sort=False)}
    shown = sorted(parts, key=lambda name: -float(parts[name]["observed"].iloc[-1]))[:MAX_PANELS]
    own = spikes[(spikes["stage"] == stage) & spikes["next"].isin(shown)] if spikes is not None else None
    notes = own["text"].tolist() if own is not None else []
    columns = min(COLUMNS, len(shown))
    rows = -(-len(shown) // columns)
    with look():
        size = max(PANEL[0] * columns, 6.5), PANEL[1] * rows + 0.9 + 0.3 * len(notes)
        figure, grid = plt.subplots(rows, columns, figsize=size, layout="constrained", squeeze=False)
        for place, (ax, name) in enumerate(zip(grid.flat, shown, strict=False)):
            marks = own[own["next"] == name] if own is not None else None
            exit_check(parts[name], marks=marks, believed=believed if place == 0 else None, ax=ax)
            ax.set_xlabel("days in the stage" if place >= len(shown) - columns else "")
        for ax in grid.flat[len(shown) :]:
            ax.set_visible(False)
        figure.suptitle(f"{stage}: share of stays that left, by day", x=0.01, ha="left", fontsize=15, fontweight="bold")
        if notes:
            figure.supxlabel(
                "\n".join(fill(note, NOTE_LETTERS * max(columns, 2)) for note in notes),
                x=0.01, ha="left", fontsize=11.5, color=TARGET,
            )  # fmt: skip
    return figure


def exit_check(
    table: pd.DataFrame,
    *,
    marks: pd.DataFrame | None = None,
    believed: str | None = "the fit",
    ax: Axes | None = None,
) -> Axes:
    """Draw one exit: the counted share as a step line, the believed range as a band around its median.

    Parameters
    ----------
    table : DataFrame
        Rows of one exit, columns ``next``, ``day``, ``observed``, ``p05``, ``p50``, ``p95``.
    marks : DataFrame, optional
        Columns ``first_day``, ``last_day``: days to mark.
    believed : str, optional
        Whose range it is, for the labels at the lines; None leaves them out.
    ax : Axes, optional
    """
    with look():
        ax = plt.subplots(figsize=PANEL, layout="constrained")[1] if ax is None else ax
        part = table[table["day"] <= _last_day(table)]
        ends = part["day"].to_numpy() + 1.0  # a share by the end of the day
        ends, low, middle, high, observed = (
            np.concatenate([[0.0], values])
            for values in (ends, *(part[name].to_numpy() for name in ("p05", "p50", "p95", "observed")))
        )
        for _, mark in marks.iterrows() if marks is not None else ():
            ax.axvspan(mark["first_day"], mark["last_day"] + 1, color=TARGET, alpha=0.18, linewidth=0)
        ax.fill_between(ends, low, high, color=BAND, alpha=BAND_ALPHA[1], linewidth=0)
        ax.plot(ends, middle, color=BAND, linewidth=1.6)
        ax.step(ends, observed, where="post", color=INK, linewidth=1.6)
        top = 1.12 * max(float(observed.max()), float(middle.max()), 1e-3)
        ax.set(xlim=(0, ends[-1]), ylim=(0, min(max(top, float(high[-1]) if high[-1] < 2 * top else top), 1.02)))
        ax.yaxis.set_major_locator(MaxNLocator(nbins=4))
        ax.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0 if top > 0.05 else 1))
        ax.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
        ax.grid(axis="y", color=HAIRLINE, linewidth=0.8)
        ax.spines["left"].set_visible(False)
        name = shorten(str(table["next"].iloc[0]), LETTERS, placeholder=" …")
        ax.set_title(f"to {name}: {chance(float(table['observed'].iloc[-1]))}", fontsize=12.5, pad=8)
        if believed:
            for words, colour, height in (("counted", INK, 0.24), (f"{believed}, 90% range", BAND, 0.12)):
                ax.text(
                    0.97, height, words, transform=ax.transAxes, ha="right", va="top", color=colour, fontsize=11.5,
                    fontweight="bold",
                )  # fmt: skip
        ax.tick_params(labelsize=11, labelcolor=QUIET)
    return as_written(ax)


def _last_day(table: pd.DataFrame) -> int:
    """Day by which nearly all that was seen of the exit had happened."""
    observed = table["observed"].to_numpy()
    reached = np.flatnonzero(observed >= DRAWN_SHARE * observed[-1])
    return int(table["day"].to_numpy()[reached[0]]) if observed[-1] > 0 else int(table["day"].max())
