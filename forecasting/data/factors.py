"""Segments and covariates as factors: text by its levels, numbers cut into classes with enough deals in each."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from models.history import UNSEEN_LEVEL, Factor

Floats = NDArray[np.float64]

MISSING_LEVEL = "(missing)"
"""Level of a deal whose segment or category is not given."""
MISSING_NUMBER = "missing"
"""Last level of a number cut into classes: deals without the number."""
ANY_NUMBER = "(any)"
"""The only class of a number that too few deals have for a second class."""
ISO_DATE = r"\d{4}-\d{2}-\d{2}"
ZERO, CENT = "0", 0.01
"""Level of deals that are worth nothing, and the least amount that is something."""
GOLDEN = (5.0**0.5 - 1.0) / 2.0
MAX_CLASSES, MIN_CLASS_DEALS = 5, 60
"""Of a number: enough to separate what it does, and to tell that from luck."""
AMOUNT_CLASSES, MIN_AMOUNT_DEALS = 8, 20
"""Of amounts: within a class all deals are alike, and much of the money may be in few deals."""


def category_factor(name: str, values: Sequence[object] | NDArray[np.object_]) -> Factor:
    """Levels of a text column, sorted; a missing value is a level of its own."""
    return Factor(name, tuple(sorted(set(as_levels(values).tolist()))))


def as_levels(values: Sequence[object] | NDArray[np.object_]) -> NDArray[np.object_]:
    """Values as level texts; whole numbers without a decimal point."""
    kinds, distinct = pd.factorize(pd.Series(np.asarray(values)))
    texts = [f"{value:.15g}" if isinstance(value, int | float) else str(value) for value in distinct]
    return np.array([*texts, MISSING_LEVEL], dtype=object)[kinds]  # a missing value has the code -1: the last text


def as_dates(column: "pd.Series[Any]") -> "pd.Series[pd.Timestamp]":
    """Dates of a column, day by day; missing where a value is none.

    Examples
    --------
    >>> as_dates(pd.Series(["2026-03-31", "2026-04-01 12:00", "soon", None])).dt.day.tolist()
    [31.0, 1.0, nan, nan]
    """
    text = column.astype("string").str.slice(0, 10)
    return pd.to_datetime(text.where(text.str.fullmatch(ISO_DATE).fillna(False)), format="%Y-%m-%d", errors="coerce")


def number_factor(name: str, values: NDArray[np.float64]) -> Factor:
    """Cut a number into at most five classes of equally many values, at least 60; one step apart on a line.

    Parameters
    ----------
    values : ndarray of float64, shape (deal,)
        NaN = missing; then the factor has a last level ``missing``.

    Examples
    --------
    >>> factor = number_factor("seats", np.arange(180.0))
    >>> factor.levels, [round(place, 2) for place in factor.places]
    (('under 108', '108 and more'), [-1.0, 1.0])
    >>> level_codes(factor, np.array([107.0, 108.0, 1e9])).tolist()
    [0, 1, 1]
    """
    known = ~np.isnan(values)
    levels, edges = _classes(values[known], np.ones(int(known.sum())), MAX_CLASSES, MIN_CLASS_DEALS)
    places = (*standardised(np.arange(len(edges) + 1.0)).tolist(), *[None] * (not known.all())) if edges else ()
    return Factor(name, levels if known.all() else (*levels, MISSING_NUMBER), edges, places)


def amount_factor(name: str, amounts: NDArray[np.float64], *, lacking_tells: bool) -> Factor:
    """Classes of equal sums of the square root of the amount, and levels for deals worth nothing and without an amount.

    At most eight classes of at least 20 deals, on a line by the mean of their log amounts.

    Parameters
    ----------
    amounts : ndarray of float64, shape (deal,)
        Not negative, NaN = missing.
    lacking_tells : bool
        Whether deals worth nothing and deals without an amount have levels of their own, the first and the last; else
        :func:`spread_codes` is for them.

    Examples
    --------
    >>> amount_factor("amount", np.array([0.0, np.nan, *range(1, 40)]), lacking_tells=True).levels
    ('0', '(any)', 'missing')
    """
    given = amounts[amounts >= CENT]
    levels, edges = _classes(given, np.sqrt(given), AMOUNT_CLASSES, MIN_AMOUNT_DEALS)
    place = log_places(given, np.searchsorted(edges, given, side="right"), n_classes=len(levels))
    places = place.tolist() if edges else []
    if lacking_tells and (amounts < CENT).any():
        levels, edges, places = (ZERO, *levels), (CENT, *edges), places and [None, *places]
    if lacking_tells and np.isnan(amounts).any():
        levels, places = (*levels, MISSING_NUMBER), places and [*places, None]
    return Factor(name, levels, edges, tuple(places))


def log_places(amounts: Floats, classes: NDArray[np.integer[Any]], *, n_classes: int) -> Floats:
    """Standardised mean log amount of each class; zero for a class without amounts.

    Examples
    --------
    >>> log_places(np.array([1.0, 1.0, 100.0]), np.array([1, 1, 2]), n_classes=4).tolist()
    [0.0, -1.0, 1.0, 0.0]
    """
    deals, place = np.bincount(classes, minlength=n_classes), np.zeros(n_classes)
    told = deals > 0
    place[told] = standardised(np.bincount(classes, np.log(amounts), n_classes)[told] / deals[told])
    return place


def standardised(values: Floats) -> Floats:
    """Values with mean zero and variance one; zeros where all are the same."""
    centred = values - values.mean() if len(values) else values
    spread = float(np.sqrt((centred**2).mean())) if len(values) else 0.0
    return np.asarray(centred / spread) if spread > 0.0 else np.zeros(len(values))


def spread_codes(place: NDArray[np.int64], weights: NDArray[np.float64]) -> NDArray[np.int64]:
    """Codes for deals of which nothing is known, evenly spread over the codes in proportion to their weights.

    ``place`` is any number of the deal that has nothing to do with what becomes of it.

    Examples
    --------
    >>> spread_codes(np.arange(8), np.array([3.0, 1.0])).tolist()
    [0, 1, 0, 0, 1, 0, 0, 0]
    """
    even = (place + 0.5) * GOLDEN % 1.0
    codes = np.searchsorted(np.cumsum(weights) / max(weights.sum(), 1e-300), even, side="right")
    return np.minimum(codes, len(weights) - 1)


def _classes(values: Floats, weights: Floats, most: int, least: int) -> tuple[tuple[str, ...], tuple[float, ...]]:
    """Names and upper edges of at most so many classes of equal sums of weight, with at least so many values each."""
    edges = _class_edges(values, weights, most, least)
    texts = [f"{edge:,.10g}" for edge in edges]
    between = [f"{low} to {high}" for low, high in pairwise(texts)]
    return (f"under {texts[0]}", *between, f"{texts[-1]} and more") if texts else (ANY_NUMBER,), tuple(edges)


def _class_edges(values: Floats, weights: Floats, most: int, least: int) -> list[float]:
    """Cut points with three significant digits; classes with too few values join the class below."""
    if len(values) < 2 * least:
        return []
    order = np.argsort(values, kind="stable")
    ranked, reached = values[order], np.cumsum(weights[order])
    places = np.searchsorted(reached, reached[-1] * np.arange(1, most) / most, side="right")
    wanted = {float(f"{edge:.3g}") for edge in ranked[np.minimum(places, len(ranked) - 1)]}
    edges: list[float] = []
    above = len(ranked)
    for edge in sorted(wanted, reverse=True):
        below = int(np.searchsorted(ranked, edge, side="left"))
        if above - below >= least and below >= least:
            edges.insert(0, edge)
            above = below
    return edges


def is_number(factor: Factor) -> bool:
    """Whether the levels are classes of a number."""
    return bool(factor.edges) or factor.levels in {(ANY_NUMBER,), (ANY_NUMBER, MISSING_NUMBER)}


def level_codes(factor: Factor, values: NDArray[np.float64] | NDArray[np.object_]) -> NDArray[np.int32]:
    """Level code of each value, ``UNSEEN_LEVEL`` where the factor does not know it."""
    if is_number(factor):
        numbers = np.asarray(values, dtype=np.float64)
        codes = np.searchsorted(np.array(factor.edges), numbers, side="right").astype(np.int32)
        missing = factor.levels.index(MISSING_NUMBER) if factor.levels[-1] == MISSING_NUMBER else UNSEEN_LEVEL
        codes[np.isnan(numbers)] = missing
        return codes
    place = {level: code for code, level in enumerate(factor.levels)}
    kinds, distinct = pd.factorize(pd.Series(np.asarray(values, dtype=object)))
    return np.array([place.get(str(value), UNSEEN_LEVEL) for value in distinct], dtype=np.int32)[kinds]


def distinct_cells(codes: NDArray[np.int32]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Distinct rows of ``codes[row, factor]`` in lexicographic order, and the place of each row among them."""
    if codes.shape[1] == 0 or len(codes) == 0:
        return np.zeros((1, codes.shape[1]), dtype=np.int32), np.zeros(len(codes), dtype=np.int64)
    place = np.zeros(len(codes), dtype=np.int64)
    cells = np.zeros((1, 0), dtype=np.int32)
    for factor in range(codes.shape[1]):
        # compressed after every factor, so that the key cannot overflow however many factors there are
        base = int(codes[:, factor].max()) + 2
        place, keys = _compressed(place * base + codes[:, factor] + 1, len(cells) * base)
        cells = np.column_stack([cells[keys // base], keys % base - 1]).astype(np.int32)
    return np.ascontiguousarray(cells), place


def _compressed(key: NDArray[np.int64], n_keys: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Place of each key among the distinct ones, and these; keys lie in 0..n_keys - 1."""
    if n_keys > 4 * len(key) + 1024:
        keys, place = np.unique(key, return_inverse=True)
        return place.astype(np.int64), keys
    # without sorting: a table of all possible keys
    seen = np.zeros(n_keys, dtype=bool)
    seen[key] = True
    return (np.cumsum(seen) - 1)[key], np.flatnonzero(seen)
