"""The selling calendar: how many usual days a date counts for winning, for losing and for moving on.

The weight of a date is a product of factors for its weekday, for being a holiday and for the selling days left in its
month and quarter; the average past day has weight one. Weights are learned from exits by date against what the fitted
stage model expects, separately for each kind of exit, and drawn with their uncertainty: draw i is draw i.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import date
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from models.calendar.counts import DatedCounts, draw_effects
from models.calendar.days import (
    MONTH_END,
    NO_CLASS,
    QUARTER_END,
    WEEKDAY,
    CalendarOptions,
    day_classes,
    forecast_days,
)
from models.calendar.expected import KINDS, DatedExits
from models.errors import SettingsError

Floats = NDArray[np.float64]
SPREADS = {"weekday": (0.3, 1.0), "holiday": (0.3, 1.0), "month end": (0.1, 1.0), "quarter end": (0.1, 1.0)}
"""Median and log-sd of the prior of each factor's spread: weekdays differ by a third, period ends by a tenth, both by
many times that where the data say so."""
WEEK_SPREAD, PERIOD_END_SPREAD = (0.1, 1.0), (0.2, 1.0)
"""The same for the luck of weeks and of single period ends, which are busier than a week by more than their effect."""
MIN_PERIOD_ENDS = 4
"""Months, or quarters, whose end must have been seen before an effect of it is looked for: on the loan log wins doubled
before the only quarter end there is, and one odd week cannot be told from a habit."""
LEAST_EXPECTED = 1e-6
"""Dates on which fewer exits are expected say nothing."""
SMALLEST_WEIGHT, LARGEST_WEIGHT = 3e-4, 31.0
"""A weekday without a single exit tells no more than the first; a day that does the work of a month has the second."""


@dataclass(frozen=True)
class CalendarPosterior:
    """Posterior of the selling calendar.

    Parameters
    ----------
    options : CalendarOptions
    log_effect : ndarray of float64, shape (draw, kind, class)
        Log factor of each class of days, kinds as in ``KINDS``.
    log_level : ndarray of float64, shape (draw, kind)
        Added to the effects, so that the average past day has weight one.
    seen, expected : ndarray of float64, shape (kind, class)
        Past exits on days of the class, and those expected on an even clock.
    """

    options: CalendarOptions
    log_effect: Floats
    log_level: Floats
    seen: Floats
    expected: Floats

    def __post_init__(self) -> None:
        shape = len(KINDS), len(self.options.classes)
        if self.log_effect.shape[1:] != shape or self.seen.shape != shape or self.expected.shape != shape:
            raise SettingsError(f"a calendar must hold {shape[0]} kinds of exits by {shape[1]} classes of days")

    @property
    def n_draws(self) -> int:
        """Number of posterior draws."""
        return len(self.log_effect)

    def to_arrays(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Arrays and JSON-able rest; :meth:`from_arrays` gives back an equal record."""
        names = ("log_effect", "log_level", "seen", "expected")
        return {name: getattr(self, name) for name in names}, asdict(self.options)

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]], meta: Mapping[str, Any]) -> "CalendarPosterior":
        """Inverse of :meth:`to_arrays`."""
        options = CalendarOptions(tuple(meta["parts"]), meta["holidays"], meta["fiscal_year_start"])
        return cls(options, **arrays)


def fit_calendar(exits: DatedExits, *, options: CalendarOptions, draws: int, seed: int) -> CalendarPosterior:
    """Learn the weights of days.

    Parameters
    ----------
    exits : DatedExits
        From :func:`models.calendar.expected.dated_exits`.
    options : CalendarOptions
    draws : int
        Posterior draws.
    seed : int

    Examples
    --------
    >>> weekday = np.arange(700) % 7  # from a Thursday on
    >>> expected = np.full((700, 3), 5.0)
    >>> seen = np.where(weekday[:, None] == 0, 12.0, 4.0) * np.ones(3)
    >>> exits = DatedExits(np.datetime64("2026-01-01"), seen, expected)
    >>> calendar = fit_calendar(exits, options=CalendarOptions(("weekday",)), draws=500, seed=1)
    >>> pace(calendar, as_of=date(2026, 1, 7), days=3, draws=500, kind="won").mean(axis=0).round(1).tolist()
    [2.3, 0.8, 0.8]
    """
    classes = day_classes(options, exits.days)
    expected, n_classes = exits.weekly_expected(), len(options.classes)
    effect, level = np.zeros((draws, len(KINDS), n_classes)), np.zeros((draws, len(KINDS)))
    seen_by_class, expected_by_class = np.zeros((len(KINDS), n_classes)), np.zeros((len(KINDS), n_classes))
    for kind in range(len(KINDS)):
        rows = expected[:, kind] > LEAST_EXPECTED
        for target, values in ((seen_by_class, exits.seen), (expected_by_class, expected)):
            _add_by_class(target[kind], classes[rows], values[rows, kind])
        if not exits.seen[rows, kind].any() or not n_classes:
            continue
        known = without_rare_ends(classes[rows], exits.days[rows])
        counts = _counts(options, exits.seen[rows, kind], expected[rows, kind], known, exits.days[rows])
        rng = np.random.default_rng(np.random.SeedSequence([seed, 4, kind]))
        looked_for = np.isin(np.arange(n_classes), known)
        effect[:, kind] = draw_effects(counts, draws=draws, rng=rng) * looked_for
        level[:, kind] = -_log_mean_weight(effect[:, kind], classes[rows], expected[rows, kind])
    return CalendarPosterior(options, effect, level, seen_by_class, expected_by_class)


def pace(calendar: CalendarPosterior, *, as_of: date, days: int, draws: int, kind: str) -> Floats:
    """Days of progress on each forecast day.

    Parameters
    ----------
    calendar : CalendarPosterior
    as_of : date
        Forecast day 1 is the day after.
    days : int
        Number of forecast days.
    draws : int
        Posterior draws to use, the first ones.
    kind : str
        ``won``, ``lost`` or ``on``.

    Returns
    -------
    ndarray of float64, shape (draw, day)
        Positive; one on an average day of the past.

    Raises
    ------
    SettingsError
        Another kind, or more draws than the calendar holds.
    """
    if kind not in KINDS:
        raise SettingsError(f"kind must be one of {', '.join(KINDS)}, got {kind!r}")
    if not 1 <= draws <= calendar.n_draws:
        raise SettingsError(f"draws must be from 1 to {calendar.n_draws}, the draws of the calendar; got {draws}")
    place = KINDS.index(kind)
    classes = day_classes(calendar.options, forecast_days(as_of, days))
    return _weight(calendar, classes, place)[:draws]


def mean_weight(calendar: CalendarPosterior, classes: NDArray[np.int32], *, kind: str) -> Floats:
    """Posterior mean weight of dates by their classes, shape (date,); see :func:`models.calendar.days.day_classes`."""
    alike, of_date = np.unique(classes, axis=0, return_inverse=True)
    return np.asarray(_weight(calendar, alike, KINDS.index(kind)).mean(axis=0)[of_date.reshape(-1)])


def calendar_table(calendar: CalendarPosterior) -> pd.DataFrame:
    """Say what was learned, one row per kind of exit and class of days.

    Parameters
    ----------
    calendar : CalendarPosterior

    Returns
    -------
    DataFrame
        ``kind``, ``factor``, ``day_class``, ``p05``, ``p50``, ``p95`` (factor on the exits of the day: against the
        average day for a weekday, against the same day without it for holidays and period ends), ``seen``,
        ``expected`` (exits on such days, seen and expected on an even clock).
    """
    rows = []
    weekday = np.array([factor == WEEKDAY for factor, _ in calendar.options.classes], dtype=bool)
    for place, kind in enumerate(KINDS):
        factor = np.exp(calendar.log_effect[:, place])
        weight = calendar.expected[place] * weekday
        if weight.any():
            factor[:, weekday] /= (factor @ weight / weight.sum())[:, None]
        told = np.quantile(factor, [0.05, 0.5, 0.95], axis=0)
        for number, (name, day_class) in enumerate(calendar.options.classes):
            counts = calendar.seen[place, number], calendar.expected[place, number]
            rows.append((kind, name, day_class, *told[:, number], *counts))
    columns = ["kind", "factor", "day_class", "p05", "p50", "p95", "seen", "expected"]
    return pd.DataFrame(rows, columns=columns).astype({"seen": np.int64})


def without_rare_ends(classes: NDArray[np.int32], days: NDArray[np.datetime64]) -> NDArray[np.int32]:
    """Classes (date, slot) without those of month and quarter ends of which there were too few."""
    month = days.astype("datetime64[M]")
    known = classes.copy()
    for slot in (MONTH_END, QUARTER_END):
        if len(np.unique(month[classes[:, slot] != NO_CLASS])) < MIN_PERIOD_ENDS:
            known[:, slot] = NO_CLASS
    return known


def _counts(
    options: CalendarOptions, seen: Floats, expected: Floats, classes: NDArray[np.int32], days: NDArray[np.datetime64]
) -> DatedCounts:
    factors = options.factors
    near_end = (classes[:, MONTH_END] != NO_CLASS).astype(np.int64)
    month = days.astype("datetime64[M]").astype(np.int64)
    week = (days.astype(np.int64) + 3) // 7  # from Monday to Sunday
    stretches, stretch = np.unique(
        np.column_stack([near_end, np.where(near_end, month, week)]), axis=0, return_inverse=True
    )
    sorts = (WEEK_SPREAD, PERIOD_END_SPREAD) if near_end.any() else (WEEK_SPREAD,)
    return DatedCounts(
        seen=seen,
        expected=expected,
        column=classes.astype(np.int64),
        stretch=stretch.reshape(-1),
        factor=np.array([factors.index(factor) for factor, _ in options.classes]),
        sort=stretches[:, 0],
        prior=_log_prior(SPREADS[factor] for factor in factors),
        sort_prior=_log_prior(sorts),
    )


def _log_prior(spreads: Iterable[tuple[float, float]]) -> Floats:
    return np.array([(np.log(median), log_sd) for median, log_sd in spreads])


def _weight(calendar: CalendarPosterior, classes: NDArray[np.int32], kind: int) -> Floats:
    log_weight = _log_weight(calendar.log_effect[:, kind], classes) + calendar.log_level[:, kind, None]
    return np.exp(np.clip(log_weight, np.log(SMALLEST_WEIGHT), np.log(LARGEST_WEIGHT)))


def _log_weight(effect: Floats, classes: NDArray[np.int32]) -> Floats:
    """Sum of the effects of each date's classes, shape (draw, date)."""
    padded = np.column_stack([effect, np.zeros(len(effect))])  # NO_CLASS is the last column
    total = np.zeros((len(effect), len(classes)))
    for slot in classes.T:
        total += padded[:, slot]
    return total


def _log_mean_weight(effect: Floats, classes: NDArray[np.int32], expected: Floats) -> Floats:
    """Log of the mean weight over past days, weighted by the exits expected on them, shape (draw,)."""
    alike, of_date = np.unique(classes, axis=0, return_inverse=True)
    share = np.bincount(of_date.reshape(-1), weights=expected) / expected.sum()
    log_weight = _log_weight(effect, alike)
    largest = log_weight.max(axis=1, keepdims=True)
    return np.asarray(largest[:, 0] + np.log(np.exp(log_weight - largest) @ share))


def _add_by_class(target: Floats, classes: NDArray[np.int32], values: Floats) -> None:
    for slot in classes.T:
        member = slot != NO_CLASS
        np.add.at(target, slot[member], values[member])
