"""What kind of day a date is: its weekday, whether it is a holiday, how many selling days are left in its period."""

from dataclasses import dataclass
from datetime import date

import numpy as np
from numpy.typing import NDArray

from models.errors import SettingsError

Days = NDArray[np.datetime64]
WEEKDAY, HOLIDAY, PERIOD_END = "weekday", "holiday", "period_end"
CALENDAR_PARTS = (WEEKDAY, HOLIDAY, PERIOD_END)
"""What a calendar can be made of."""
DEFAULT_CALENDAR: tuple[str, ...] = ()
"""None: on four public logs weekdays and holidays tell far better on which day deals are won, but their revenue over a
month no better (``python -m benchmarks.accuracy.calendar``)."""
WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
DAYS_TO_GO = {1: "last selling day", 3: "2 to 3 selling days to go", 7: "4 to 7 selling days to go"}
"""Upper end of each class of days near the end of a period, the day itself counted, and what it is called."""
NO_CLASS = -1
"""Filler where a date belongs to no class of a factor."""
SLOTS = 4
WEEKDAY_SLOT, HOLIDAY_SLOT, MONTH_END, QUARTER_END = range(SLOTS)
"""Classes a date can belong to at once."""


@dataclass(frozen=True)
class CalendarOptions:
    """Which properties of a date may change how many deals are won and lost on it.

    Parameters
    ----------
    parts : tuple of str
        Any of ``weekday``, ``holiday`` and ``period_end``; none switches the calendar off.
    holidays : str or None
        Country, or country and subdivision, as the `holidays` package knows them: ``"NL"``, ``"US-CA"``. Holidays are
        no selling days for the count of days to the end of a period either.
    fiscal_year_start : int
        Month in which quarters begin.

    Examples
    --------
    >>> CalendarOptions(("weekday", "period_end")).factors
    ('weekday', 'month end', 'quarter end')
    """

    parts: tuple[str, ...] = ()
    holidays: str | None = None
    fiscal_year_start: int = 1

    def __post_init__(self) -> None:
        unknown = [part for part in self.parts if part not in CALENDAR_PARTS]
        if unknown or len(set(self.parts)) < len(self.parts):
            raise SettingsError(
                f"calendar must name each of {', '.join(CALENDAR_PARTS)} at most once, got {', '.join(self.parts)}"
            )
        if HOLIDAY in self.parts and self.holidays is None:
            raise SettingsError(
                "calendar names holiday, but no country is given: set holidays to a code such as 'NL' or 'US-CA', "
                "or leave holiday out"
            )
        if self.holidays is not None:
            check_holidays(self.holidays)

    @property
    def factors(self) -> tuple[str, ...]:
        """Names of the factors, one learned spread each."""
        found = [(WEEKDAY,), ("holiday",), ("month end", "quarter end")]
        return tuple(
            name for part, names in zip(CALENDAR_PARTS, found, strict=True) for name in names * self._has(part)
        )

    @property
    def classes(self) -> tuple[tuple[str, str], ...]:
        """Factor and name of every class of days, in the order of the columns of a fit."""
        names = {WEEKDAY: WEEKDAYS, "holiday": ("holiday",)}
        ends = tuple(DAYS_TO_GO.values())
        return tuple((factor, name) for factor in self.factors for name in names.get(factor, ends))

    def _has(self, part: str) -> bool:
        return part in self.parts


def check_holidays(code: str) -> None:
    """Raise a SettingsError unless the `holidays` package knows the country or subdivision."""
    holiday_dates(code, 2020, 2020)


def holiday_dates(code: str, first_year: int, last_year: int) -> Days:
    """Holidays of a country or subdivision, ascending.

    Parameters
    ----------
    code : str
        ``"NL"`` or ``"US-CA"``.
    first_year, last_year : int

    Raises
    ------
    SettingsError
        The package does not know the code.

    Examples
    --------
    >>> [str(day) for day in holiday_dates("NL", 2026, 2026)[:3]]
    ['2026-01-01', '2026-04-03', '2026-04-05']
    """
    import holidays

    country, _, subdivision = code.partition("-")
    try:
        known = holidays.country_holidays(country, subdiv=subdivision or None, years=range(first_year, last_year + 1))
    except NotImplementedError as error:
        raise SettingsError(
            f"holidays must be a country or subdivision code such as 'NL' or 'US-CA', got {code!r}: {error}"
        ) from None
    return np.array(sorted(known), dtype="datetime64[D]")


def day_classes(options: CalendarOptions, days: Days) -> NDArray[np.int32]:
    """Classes that dates belong to.

    A holiday counts as such from Monday to Friday only: what the weekend does already is the weekday's.

    Parameters
    ----------
    options : CalendarOptions
    days : ndarray of datetime64, shape (date,)

    Returns
    -------
    ndarray of int32, shape (date, slot)
        Place in ``options.classes``, ``NO_CLASS`` in unused slots.

    Examples
    --------
    >>> options = CalendarOptions(("weekday", "period_end"))
    >>> found = day_classes(options, np.array(["2026-06-30", "2026-07-15"], dtype="datetime64[D]"))
    >>> [[options.classes[place] for place in row if place != NO_CLASS] for row in found]  # doctest: +ELLIPSIS
    [[('weekday', 'Tuesday'), ('month end', 'last selling day'), ('quarter end', 'last selling day')], [('weekday', ...)]]
    """
    days = days.astype("datetime64[D]")
    found = np.full((len(days), SLOTS), NO_CLASS, dtype=np.int32)
    if not len(days) or not options.parts:
        return found
    off = np.zeros(0, dtype="datetime64[D]")
    if options.holidays is not None:
        off = holiday_dates(options.holidays, _year(days.min()), _year(days.max()))
    first = {factor: place for place, (factor, _) in reversed(list(enumerate(options.classes)))}
    weekday = (days.astype(np.int64) + 3) % 7  # 1970-01-01 was a Thursday
    if WEEKDAY in first:
        found[:, WEEKDAY_SLOT] = first[WEEKDAY] + weekday
    if "holiday" in first:
        found[np.isin(days, off) & (weekday < 5), HOLIDAY_SLOT] = first["holiday"]
    if "month end" in first:
        to_go = selling_days_to_go(days, off)
        place = np.searchsorted(list(DAYS_TO_GO), to_go)
        near = place < len(DAYS_TO_GO)
        month = days.astype("datetime64[M]").astype(np.int64) % 12 + 1
        closing = near & ((month - options.fiscal_year_start) % 3 == 2)
        found[near, MONTH_END] = first["month end"] + place[near]
        found[closing, QUARTER_END] = first["quarter end"] + place[closing]
    return found


def selling_days_to_go(days: Days, off: Days) -> NDArray[np.int64]:
    """Selling days (Monday to Friday, holidays left out) from a date to the end of its month, the date included.

    A date after the last selling day counts as the last one.

    Examples
    --------
    >>> days = np.array(["2026-10-01", "2026-10-29", "2026-10-31"], dtype="datetime64[D]")
    >>> selling_days_to_go(days, np.zeros(0, dtype="datetime64[D]")).tolist()
    [22, 2, 1]
    """
    following = (days.astype("datetime64[M]") + np.timedelta64(1, "M")).astype("datetime64[D]")
    return np.maximum(np.busday_count(days, following, holidays=off), 1).astype(np.int64)


def forecast_days(as_of: date, days: int) -> Days:
    """Dates of forecast days 1, 2, ..., the day after the as-of date being the first."""
    return np.datetime64(as_of, "D") + np.arange(1, days + 1).astype("timedelta64[D]")


def _year(day: np.datetime64) -> int:
    return int(day.astype("datetime64[Y]").astype(np.int64)) + 1970
