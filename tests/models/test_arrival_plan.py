"""A plan stands in for the learned level: its mean, its spread, its split, and what it refuses."""

from dataclasses import replace
from datetime import date, timedelta

import numpy as np
import pytest
from test_arrival_model import AS_OF, planted

from models.arrivals.model import ArrivalPosterior, daily_intensity
from models.arrivals.plan import ALL_GROUPS, PlannedDeals, check_plan
from models.errors import SettingsError

JULY = PlannedDeals("2026-07-01", "2026-07-31", ALL_GROUPS, 62.0)
DRAWS = 4000


def intensity(arrivals: ArrivalPosterior, *plan: PlannedDeals, days: int = 62) -> np.ndarray:
    return daily_intensity(replace(arrivals, plan=plan), days=days, draws=np.arange(arrivals.n_draws), seed=4)


def test_a_plan_without_noise_is_what_comes_and_the_rest_stays_learned() -> None:
    made = intensity(planted(5, rate=7.0), JULY)
    np.testing.assert_allclose(made[:, 0, :31].sum(axis=1), 62.0)
    np.testing.assert_allclose(made[:, 0, :31], 2.0)
    np.testing.assert_allclose(made[:, 0, 31:], 1.0)


def test_mean_is_the_plan_and_spread_the_learned_one() -> None:
    """Weekly gamma noise of shape 4: one week of a flat plan has the variance 1/4 around it, relatively."""
    week = PlannedDeals("2026-07-01", "2026-07-07", ALL_GROUPS, 30.0)
    made = intensity(planted(DRAWS, rate=7.0, noise=4.0), week, days=7).sum(axis=(1, 2))
    assert made.mean() == pytest.approx(30.0, abs=4 * 15.0 / np.sqrt(DRAWS))
    assert made.var() / 900.0 == pytest.approx(0.25, rel=0.1)
    drifting = intensity(planted(DRAWS, rate=7.0, level_sd=0.1), JULY)[:, 0, :31].sum(axis=1)
    assert drifting.mean() == pytest.approx(62.0, rel=0.02)
    assert np.log(drifting).std() > 0.1


def test_a_plan_for_all_is_split_by_the_learned_levels() -> None:
    floor = planted(3, groups=2)
    floor = replace(floor, log_level=np.log(np.tile([3.0, 9.0], (3, 1))))
    made = intensity(floor, JULY)[:, :, :31].sum(axis=2)
    np.testing.assert_allclose(made, np.tile([15.5, 46.5], (3, 1)))
    one = intensity(floor, replace_group(JULY, 1))[:, :, :31].sum(axis=2)
    np.testing.assert_allclose(one, np.tile([3.0 * 31 / 7, 62.0], (3, 1)))


def replace_group(row: PlannedDeals, group: int) -> PlannedDeals:
    return row._replace(group=group)


def test_days_follow_the_weekdays_and_a_running_period_keeps_its_pace() -> None:
    weekdays = np.array([0.2, 0.2, 0.2, 0.2, 0.2, 0.0, 0.0])
    office = replace(planted(2), weekday=np.tile(weekdays, (2, 1, 1)))
    june = PlannedDeals("2026-06-15", "2026-07-12", 0, 40.0)  # four weeks, 20 working days, two deals on each
    made = intensity(office, june, days=12)[0, 0]
    days = [AS_OF + timedelta(days=1 + step) for step in range(12)]
    np.testing.assert_allclose(made, [0.0 if day.weekday() > 4 else 2.0 for day in days])


def test_a_shorter_horizon_and_a_saved_plan_give_the_same_days() -> None:
    planned = replace(planted(20, noise=5.0, level_sd=0.05), plan=(JULY,))
    arrays, meta = planned.to_arrays()
    again = ArrivalPosterior.from_arrays(arrays, meta)
    assert again.plan == (JULY,)
    short, long = (
        daily_intensity(each, days=n, draws=np.arange(20), seed=4) for each, n in ((again, 9), (planned, 40))
    )
    np.testing.assert_array_equal(short, long[:, :, :9])


def test_a_day_planned_twice_is_refused() -> None:
    late = PlannedDeals("2026-07-27", "2026-08-02", 1, 9.0)
    check_plan((replace_group(JULY, 0), late))
    with pytest.raises(SettingsError, match="counts 2026-07-27 twice"):
        check_plan((JULY, late))
    assert date.fromisoformat(JULY.last) == date(2026, 7, 31)
