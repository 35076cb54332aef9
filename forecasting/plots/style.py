"""One look for all pictures: colours with a fixed meaning, type that reads from the back of a room, money on axes."""

import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.font_manager import findfont, fontManager, get_font
from matplotlib.legend import Legend
from matplotlib.text import Text
from matplotlib.ticker import FuncFormatter, MaxNLocator

from forecasting.output.words import money

INK, QUIET, HAIRLINE, PAPER = "#1d2b36", "#5f6f7b", "#d9dfe4", "#ffffff"
BOOKED, OPEN, NEW = "#17405e", "#3d8eb9", "#a9d0e4"
"""Sources of revenue, the surer the darker: won already, deals in the pipeline, deals not created yet."""
SOURCE_COLOURS = {"booked": BOOKED, "open": OPEN, "new": NEW}
SOURCE_NAMES = {"booked": "won already", "open": "open deals", "new": "deals to come"}
BAND = "#3d8eb9"
BAND_ALPHA = (0.16, 0.24, 0.42)
"""Opacity of the bands from the widest to the narrowest."""
BANDS = (("p025", "p975", "95%"), ("p10", "p90", "80%"), ("p25", "p75", "50%"))
"""Quantiles at the ends of a band, and its name."""
TARGET, WON, LOST, BACK = "#c8502d", "#3f8f5b", "#a8b0b7", "#d9a441"

_OTHER_SCRIPTS = (
    "Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans SC", "Noto Sans JP", "PingFang SC", "Hiragino Sans", "Microsoft YaHei",
    "Yu Gothic", "WenQuanYi Zen Hei", "Arial Unicode MS", "Noto Emoji", "Segoe UI Emoji",
)  # fmt: skip
_INSTALLED = {font.name for font in fontManager.ttflist}
FONTS = ["DejaVu Sans", *(name for name in _OTHER_SCRIPTS if name in _INSTALLED)]
"""For characters that the first lacks, those of other scripts that are installed."""

_SETTINGS = {
    "font.family": FONTS,
    "font.size": 12,
    "axes.titlesize": 14,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 14,
    "axes.labelcolor": QUIET,
    "axes.edgecolor": HAIRLINE,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "text.color": INK,
    "text.parse_math": False,  # names of stages and deals may hold dollar signs
    "xtick.color": QUIET,
    "ytick.color": QUIET,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "xtick.major.pad": 7,  # at the origin two labels meet
    "figure.facecolor": PAPER,
    "savefig.facecolor": PAPER,
}


@contextmanager
def look() -> Iterator[None]:
    """Use the settings of this module inside the block, and leave everybody else's alone."""
    with mpl.rc_context(_SETTINGS), warnings.catch_warnings():  # type: ignore[arg-type]
        # one by one and in the words of programmers: see undrawable
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        yield


def as_written(ax: Axes) -> Axes:
    """Draw all words of an axes as they are written, those included that were there before: names may hold dollar signs."""
    for axis in (ax.xaxis, ax.yaxis):
        axis.get_ticklabels()  # makes those of today
    for text in ax.findobj(Text):
        text.set_parse_math(False)
    return ax


def undrawable(names: Iterable[str]) -> str:
    """Give the characters of names that none of our fonts has; pictures show boxes in their place."""
    known = {chr(code) for name in FONTS for code in get_font(findfont(name)).get_charmap()}
    return "".join(sorted(letter for letter in set("".join(names)) - known if not letter.isspace()))


def new_axes(width: float, height: float) -> Axes:
    """Axes of a new figure of pyplot, in inches, so that a notebook shows it."""
    return plt.subplots(figsize=(width, height), layout="constrained")[1]


def tint_bands(legend: Legend) -> None:
    """Give the bands in a legend the tint they have in the picture, where the narrower ones lie on the wider."""
    through, tints = 1.0, {}
    for (_, _, name), opacity in zip(BANDS, BAND_ALPHA, strict=True):
        through *= 1.0 - opacity
        tints[f"{name} range"] = 1.0 - through
    for handle, text in zip(legend.legend_handles, legend.get_texts(), strict=True):
        if handle is not None and text.get_text() in tints:
            handle.set_alpha(tints[text.get_text()])


FEW_DAYS = 6
"""On shorter axes the usual number of dates would be hours."""


def date_axis(axis: Any) -> None:
    """At most seven dates, and once the year; whole days however few there are."""
    low, high = axis.get_view_interval()
    fewest = 1 if high - low < FEW_DAYS else FEW_DAYS - 1
    locator = AutoDateLocator(minticks=fewest, maxticks=7)  # type: ignore[no-untyped-call]
    offsets = ["", *["%Y"] * 5]
    axis.set_major_locator(locator)
    axis.set_major_formatter(ConciseDateFormatter(locator, offset_formats=offsets))  # type: ignore[no-untyped-call]


def money_axis(axis: Any, currency: str | None) -> None:
    """Few round ticks in thousands or millions on an x or y axis."""
    axis.set_major_locator(MaxNLocator(nbins=5, steps=[1, 2, 2.5, 5, 10]))
    axis.set_major_formatter(FuncFormatter(lambda value, _: short_money(value)))
    axis.set_label_text(currency or "", color=QUIET)


def short_money(amount: float) -> str:
    """Tick label: money without trailing zeros.

    Examples
    --------
    >>> short_money(1_500_000), short_money(250_000), short_money(0)
    ('1.5M', '250k', '0')
    """
    said = money(amount)
    number, unit = (
        (said[:-1], said[-1]) if said[-1] in "Mk" else (said.removesuffix("bn"), said[len(said.removesuffix("bn")) :])
    )
    return (number.rstrip("0").rstrip(".") if "." in number else number) + unit
