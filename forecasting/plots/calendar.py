"""How much each kind of day counts for winning and for losing."""

import pandas as pd
from matplotlib.axes import Axes

from forecasting.plots.style import HAIRLINE, INK, LOST, OPEN, QUIET, WON, as_written, look, new_axes

COLOURS = {"won": WON, "lost": LOST, "on": OPEN}
KIND_NAMES = {"won": "won", "lost": "lost", "on": "moved on"}
ROW, SPREAD = 0.36, 0.22
"""Height of a row in inches, and the space between the kinds of one row, in rows."""


def day_weights(weights: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """Draw the factor of each class of days with its 90 % range, a colour per kind of exit.

    Parameters
    ----------
    weights : DataFrame
        From :func:`models.calendar.model.calendar_table`, or some of its rows.
    ax : Axes, optional
        Drawn into if given; a figure tall enough is made otherwise.
    """
    classes = weights[["factor", "day_class"]].drop_duplicates()
    place = {tuple(row): number for number, row in enumerate(classes.to_numpy())}
    kinds = [kind for kind in COLOURS if kind in set(weights["kind"])]
    with look():
        ax = new_axes(9.0, max(len(place), 3) * ROW + 1.2) if ax is None else ax
        ax.axvline(1.0, color=HAIRLINE, linewidth=1.2, zorder=0)
        for number, kind in enumerate(kinds):
            rows = weights[weights["kind"] == kind]
            shift = SPREAD * (number - (len(kinds) - 1) / 2)
            height = [place[pair] + shift for pair in zip(rows["factor"], rows["day_class"], strict=True)]
            ax.hlines(height, rows["p05"], rows["p95"], color=COLOURS[kind], linewidth=3, alpha=0.55)
            ax.plot(rows["p50"], height, "o", color=COLOURS[kind], markersize=6, label=KIND_NAMES[kind])
        ax.set_yticks(list(place.values()), [_label(*pair) for pair in place])
        ax.tick_params(axis="y", labelcolor=INK)
        ax.set(ylim=(len(place) - 0.4, -0.6), xlim=(0.0, None))
        ax.set_xlabel("days a date counts for, 1 = an average day (90% range)", color=QUIET)
        ax.set_title("Which days deals are won and lost on")
        if kinds:
            ax.legend(frameon=False, loc="lower right")
    return as_written(ax)


def _label(factor: str, day_class: str) -> str:
    return f"{day_class} ({factor})" if factor.endswith("end") else day_class
