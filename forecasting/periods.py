"""Calendar periods of business dates, fiscal years included."""

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Literal, get_args

from models.errors import SettingsError

PeriodName = Literal["day", "week", "month", "quarter", "year"]
PERIOD_NAMES: tuple[str, ...] = get_args(PeriodName)
_MONTHS = {"month": 1, "quarter": 3, "year": 12}


@dataclass(frozen=True)
class Period:
    """Days from ``start`` to ``end``, both included."""

    start: date
    end: date


def as_date(value: date | str, *, name: str = "as_of") -> date:
    """Take a business date from a date or an ISO text such as ``2026-09-30``.

    Examples
    --------
    >>> as_date("2026-09-30")
    datetime.date(2026, 9, 30)
    """
    if isinstance(value, datetime):
        return value.date()
    if isinstance(value, date):
        return value
    try:
        return date.fromisoformat(value)
    except (TypeError, ValueError) as error:
        raise SettingsError(f"{name} must be a date such as 2026-09-30, got {value!r}") from error


def add_months(day: date, months: int) -> date:
    """Go to the same day of the month that many months later, or to that month's last day if it is shorter.

    Examples
    --------
    >>> add_months(date(2026, 11, 30), 3)
    datetime.date(2027, 2, 28)
    """
    year, month = divmod(day.year * 12 + day.month - 1 + months, 12)
    for last in (day.day, 30, 29, 28):
        try:
            return date(year, month + 1, min(day.day, last))
        except ValueError:
            continue
    raise SettingsError(f"{months} months after {day} lies outside the calendar")


def period_start(day: date, *, period: PeriodName, fiscal_year_start: int = 1) -> date:
    """First day of the calendar period that holds ``day``; weeks start on Monday.

    Parameters
    ----------
    fiscal_year_start : int
        Month (1 to 12) in which years and quarters begin.

    Examples
    --------
    >>> period_start(date(2026, 1, 15), period="quarter", fiscal_year_start=2)
    datetime.date(2025, 11, 1)
    """
    if period not in PERIOD_NAMES:
        raise SettingsError(f"period must be one of {', '.join(PERIOD_NAMES)}, got {period!r}")
    if not 1 <= fiscal_year_start <= 12:
        raise SettingsError(f"fiscal_year_start must be a month from 1 to 12, got {fiscal_year_start!r}")
    if period == "day":
        return day
    if period == "week":
        return day - timedelta(days=day.weekday())
    since = (day.month - fiscal_year_start) % _MONTHS[period]
    return add_months(day.replace(day=1), -since)


def next_period_start(start: date, *, period: PeriodName) -> date:
    """First day of the period after the one that starts on ``start``."""
    if period in _MONTHS:
        return add_months(start, _MONTHS[period])
    return start + timedelta(days=7 if period == "week" else 1)


def periods(first: date, last: date, *, period: PeriodName, fiscal_year_start: int = 1) -> list[Period]:
    """Consecutive calendar periods that cover the days from ``first`` to ``last``.

    The first one begins at its calendar start, which may lie before ``first``; the last one is cut at ``last``.

    Examples
    --------
    >>> [(str(p.start), str(p.end)) for p in periods(date(2026, 8, 20), date(2026, 10, 5), period="month")]
    [('2026-08-01', '2026-08-31'), ('2026-09-01', '2026-09-30'), ('2026-10-01', '2026-10-05')]
    """
    if last < first:
        raise SettingsError(f"the last day {last} lies before the first day {first}")
    found: list[Period] = []
    start = period_start(first, period=period, fiscal_year_start=fiscal_year_start)
    while start <= last:
        following = next_period_start(start, period=period)
        found.append(Period(start, min(following - timedelta(days=1), last)))
        start = following
    return found
