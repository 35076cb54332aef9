"""How deals move: a box per stage, what comes next, how long it takes, how many are won in the end."""

from textwrap import shorten, wrap
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle

from forecasting.answers.stage_summary import StageSummary
from forecasting.output.words import chance, days
from forecasting.plots.style import BACK, INK, LOST, OPEN, QUIET, WON, as_written, look, new_axes

BOX_RIGHT, BAR_LEFT, BAR_RIGHT = 0.36, 0.42, 0.70
"""Horizontal places: end of the boxes, begin of the bars, end of a bar of 100 %."""
MAX_MOVES = 5
"""Moves drawn per stage; rarer ones are left out of the picture."""
MIN_SHARE = 0.005
NAME_LETTERS = 28
"""Length at which a stage name is broken in its box, and shortened beside a bar."""
ROW, GAP, MIN_ROWS = 0.34, 0.38, 3
"""Height of a move, space between stages (both in inches), and the moves a box is at least as tall as."""


def stages(summary: StageSummary, *, ax: Axes | None = None) -> Axes:
    """Draw the stages in order with where deals go next, median days and chance to win, each with its 80 % range.

    Parameters
    ----------
    summary : StageSummary
        From :func:`forecasting.answers.stage_summary.stage_summary`.
    ax : Axes, optional
        Drawn into if given; a figure tall enough for all stages is made otherwise.
    """
    blocks = [(row, _moves(summary, str(row["stage"]))) for _, row in summary.stages.iterrows()]
    heights = [max(len(moves), MIN_ROWS) * ROW for _, moves in blocks]
    total = sum(heights) + GAP * (len(heights) - 1)
    with look():
        ax = new_axes(10.5, total + 0.9) if ax is None else ax
        ax.set(xlim=(0, 1), ylim=(total + 0.05, -0.35))
        ax.set_axis_off()
        ax.set_title("How deals move through the pipeline")
        ax.text(BAR_LEFT, -0.12, "goes next to (80% range)", color=QUIET, fontsize=11, va="bottom")
        top = 0.0
        for index, ((stage, moves), height) in enumerate(zip(blocks, heights, strict=True)):
            _box(ax, stage, top, height)
            _bars(ax, moves, top, height, summary)
            if index + 1 < len(blocks):
                _arrow(ax, top + height, top + height + GAP)
            top += height + GAP
    return as_written(ax)


def _moves(summary: StageSummary, stage: str) -> pd.DataFrame:
    """Rows of the moves worth drawing, largest first."""
    moves = summary.moves[(summary.moves["stage"] == stage) & (summary.moves["share"] >= MIN_SHARE)]
    return moves.sort_values("share", ascending=False).head(MAX_MOVES)


def _box(ax: Axes, stage: "pd.Series[Any]", top: float, height: float) -> None:
    box = FancyBboxPatch(
        (0.004, top), BOX_RIGHT - 0.004, height, boxstyle="round,pad=0,rounding_size=0.012", mutation_aspect=10,
        facecolor="#eef4f8", edgecolor=OPEN, linewidth=1.2,
    )  # fmt: skip
    ax.add_patch(box)
    name = wrap(str(stage["stage"]), NAME_LETTERS, max_lines=2, placeholder=" …")
    ax.text(0.02, top + 0.12, "\n".join(name), fontsize=13, fontweight="bold", va="top", color=INK, linespacing=1.05)
    won = f"{chance(stage['win_probability'])} won in the end "
    won += f"({_percent_span(stage['win_probability_p10'], stage['win_probability_p90'])})"
    below = top + 0.14 + 0.22 * len(name)
    ax.text(0.02, below, f"{_typical_stay(stage)}\n{won}", fontsize=11, va="top", color=QUIET, linespacing=1.3)


def _typical_stay(stage: "pd.Series[Any]") -> str:
    median, low, high = (float(stage[f"median_days{end}"]) for end in ("", "_p10", "_p90"))
    if median == float("inf"):
        return "half of them never leave"
    if median == 0:
        return "half leave on the day they come"
    return f"median {days(median)}" + ("" if low == high else f" ({_span(low, high)})")


def _bars(ax: Axes, moves: pd.DataFrame, top: float, height: float, summary: StageSummary) -> None:
    """One horizontal bar per move, its length the share, labelled directly."""
    start = top + (height - len(moves) * ROW) / 2
    for place, (_, move) in enumerate(moves.iterrows()):
        middle = start + (place + 0.5) * ROW
        colour = _colour(move, summary)
        length = (BAR_RIGHT - BAR_LEFT) * move["share"]
        ax.add_patch(Rectangle((BAR_LEFT, middle - ROW * 0.34), length, ROW * 0.68, facecolor=colour, linewidth=0))
        label = ax.text(
            BAR_LEFT + length + 0.008, middle, chance(move["share"]), va="center", fontsize=12, fontweight="bold"
        )
        label.set_color(INK)
        span = _percent_span(move["share_p10"], move["share_p90"])
        name = ("↩ " if colour == BACK else "") + shorten(str(move["next"]), NAME_LETTERS, placeholder=" …")
        ax.annotate(
            f"{name}  ({span})", (1, 0.5), xycoords=label, xytext=(8, 0), textcoords="offset points", va="center",
            fontsize=12, color=INK, annotation_clip=False,
        )  # fmt: skip


def _colour(move: "pd.Series[Any]", summary: StageSummary) -> str:
    if move["next"] in summary.graph.won:
        return WON
    if move["next"] in summary.graph.lost:
        return LOST
    return OPEN if summary.graph.code(move["next"]) > summary.graph.code(move["stage"]) else BACK


def _arrow(ax: Axes, top: float, bottom: float) -> None:
    ax.add_patch(
        FancyArrowPatch(
            (0.05, top + 0.03), (0.05, bottom - 0.03), arrowstyle="-|>", mutation_scale=14, color=OPEN, linewidth=1.6
        )
    )


def _span(low: float, high: float) -> str:
    return f"{low:.0f} to {high:.0f}" if high < float("inf") else f"{low:.0f} or more"


def _percent_span(low: float, high: float) -> str:
    low_text, high_text = f"{100 * low:.0f}", f"{100 * high:.0f}%"
    return f"{low_text} to {high_text}" if f"{low_text}%" != high_text else high_text
