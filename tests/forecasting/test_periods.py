"""Calendar periods: they tile the days, start where the calendar says, and follow the fiscal year."""

from datetime import date, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forecasting.periods import PERIOD_NAMES, PeriodName, add_months, as_date, next_period_start, period_start, periods
from models.errors import SettingsError

days = st.dates(date(1999, 1, 1), date(2060, 12, 31))


@given(days, st.integers(0, 900), st.sampled_from(PERIOD_NAMES), st.integers(1, 12))
def test_periods_tile_the_days_without_gap(first: date, length: int, period: PeriodName, fiscal: int) -> None:
    last = first + timedelta(days=length)
    found = periods(first, last, period=period, fiscal_year_start=fiscal)
    assert found[0].start <= first <= found[0].end
    assert found[-1].end == last
    for before, after in pairwise(found):
        assert after.start == before.end + timedelta(days=1)
    for piece in found:
        assert period_start(piece.start, period=period, fiscal_year_start=fiscal) == piece.start
        assert period_start(piece.end, period=period, fiscal_year_start=fiscal) == piece.start
        assert next_period_start(piece.start, period=period) > piece.end


@given(days, st.integers(1, 12))
def test_fiscal_quarters_begin_every_third_month_of_the_fiscal_year(day: date, fiscal: int) -> None:
    start = period_start(day, period="quarter", fiscal_year_start=fiscal)
    assert start.day == 1
    assert (start.month - fiscal) % 3 == 0
    year = period_start(day, period="year", fiscal_year_start=fiscal)
    assert (year.month, year.day) == (fiscal, 1)
    assert timedelta(0) <= day - year < timedelta(days=366)


@given(days, st.integers(-60, 60))
def test_adding_months_keeps_the_day_unless_the_month_is_shorter(day: date, months: int) -> None:
    moved = add_months(day, months)
    assert (moved.year * 12 + moved.month) - (day.year * 12 + day.month) == months
    assert moved.day == day.day or (moved + timedelta(days=1)).day == 1


def test_weeks_start_on_monday() -> None:
    assert period_start(date(2026, 11, 22), period="week") == date(2026, 11, 16)


def test_dates_are_taken_from_texts_and_times() -> None:
    assert (
        as_date("2026-09-30")
        == as_date(date(2026, 9, 30))
        == as_date(datetime(2026, 9, 30, 23, 59))
        == date(2026, 9, 30)
    )
    with pytest.raises(SettingsError, match="as_of must be a date"):
        as_date("30.9.2026")


def test_wrong_settings_are_named() -> None:
    with pytest.raises(SettingsError, match="period must be one of day"):
        period_start(date(2026, 1, 1), period="fortnight")  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match="fiscal_year_start"):
        period_start(date(2026, 1, 1), period="year", fiscal_year_start=13)
    with pytest.raises(SettingsError, match="before the first"):
        periods(date(2026, 1, 2), date(2026, 1, 1), period="day")
