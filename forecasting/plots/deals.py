"""The open deals that decide about a target."""

from textwrap import shorten
from typing import TYPE_CHECKING

import pandas as pd
from matplotlib.axes import Axes

from forecasting.output.words import chance, money, plural
from forecasting.plots.style import HAIRLINE, INK, OPEN, QUIET, as_written, look, new_axes

if TYPE_CHECKING:
    from forecasting.answers.forecasts import Forecast

MAX_DEALS = 12
NAME_LETTERS = 22


def deals_at_stake(forecast: "Forecast", table: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """Draw the open deals that promise most by the end of the forecast: amount times chance, and what stays at stake.

    Parameters
    ----------
    forecast : Forecast
        Gives the currency and the last day.
    table : DataFrame
        From :meth:`forecasting.answers.forecasts.Forecast.deals`.
    ax : Axes, optional
    """
    known = table[table["amount"] > 0]
    promised = known["amount"] * known["win_probability_by_until"]
    top = known.loc[promised.sort_values(ascending=False, kind="stable").index[:MAX_DEALS]]
    with look():
        ax = new_axes(10.5, 0.42 * max(len(top), 3) + 1.3) if ax is None else ax
        place = range(len(top))
        ax.barh(place, top["amount"], color="#e3ebf1", height=0.72)
        ax.barh(place, top["amount"] * top["win_probability_by_until"], color=OPEN, height=0.72)
        right = float(top["amount"].max()) if len(top) else 1.0
        for row, (_, deal) in zip(place, top.iterrows(), strict=True):
            words = f"{money(deal['amount'])} × {chance(deal['win_probability_by_until'])}  "
            label = ax.annotate(
                words,
                (deal["amount"], row),
                xytext=(6, 0),
                textcoords="offset points",
                va="center",
                fontsize=12,
                color=INK,
            )
            where = f"{shorten(str(deal['stage']), 28, placeholder=' …')}, {plural(int(deal['days_in_stage']), 'day')}"
            ax.annotate(where, (1, 0.5), xycoords=label, va="center", fontsize=11, color=QUIET, annotation_clip=False)
        ax.set(xlim=(0, right * 1.75), ylim=(max(len(top), 1) - 0.4, -0.6), xticks=[])
        ax.set_yticks(place, [shorten(str(deal), NAME_LETTERS, placeholder=" …") for deal in top["deal_id"]], color=INK)
        ax.spines["bottom"].set_visible(False)
        ax.spines["left"].set_color(HAIRLINE)
        ax.set_title("The open deals that promise most: amount × chance to be won in time")
    return as_written(ax)
