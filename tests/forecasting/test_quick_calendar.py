"""Looking back on the selling calendar: the weights of the full one, horizons that end where wins end, no future."""

from dataclasses import replace
from datetime import date, timedelta
from functools import cache

import numpy as np
import pandas as pd
import pytest

from forecasting.data.deals import Deals, deals_from_frames
from forecasting.data.snapshot import cut
from forecasting.fitting import fit_snapshot
from forecasting.proof.calibration import own_calibration
from forecasting.proof.new_calibration import own_new_calibration
from forecasting.proof.past_forecasts import log_error, past_forecasts
from forecasting.proof.quick_calendar import progress, win_weights
from forecasting.proof.quick_chain import open_revenue
from forecasting.proof.quick_new import new_revenue
from forecasting.proof.stay_table import StayTable, day_of, known_at, stay_table
from models.calendar.days import CalendarOptions
from models.calendar.model import pace
from models.posterior import ModelSpec
from models.stages import StageGraph

GRAPH = StageGraph(open=["Lead", "Offer"], won=["Won"], lost=["Lost"])
FIRST, AS_OF = date(2023, 1, 2), date(2024, 12, 11)  # a Monday, a Wednesday
WEEKDAY, PERIOD_END = CalendarOptions(("weekday",)), CalendarOptions(("weekday", "period_end"))


def working_days_to_go(day: date) -> int:
    return int(np.busday_count(day, (day.replace(day=1) + timedelta(days=32)).replace(day=1)))


def factor(day: date) -> float:
    """No wins at weekends, six times as many on the last three working days of a month."""
    return 0.0 if day.weekday() >= 5 else 4.2 if working_days_to_go(day) <= 3 else 0.7


@cache
def played() -> Deals:
    rng, rows = np.random.default_rng(3), []
    for number in range(4000):
        day = FIRST + timedelta(days=int(rng.integers(0, 760)))
        created, stage = day, 0
        rows.append((number, stage, day))
        while stage < 2:
            day += timedelta(days=1)
            on, lost = (0.08, 0.02) if stage == 0 else (0.05 * factor(day), 0.02)
            if rng.random() < -np.expm1(-(on + lost)):
                stage = stage + 1 if rng.random() < on / (on + lost) else 3
                rows.append((number, stage, day))
        assert day > created
    moves = pd.DataFrame(rows, columns=["deal", "stage", "entered_at"])
    moves = moves.assign(
        deal_id=moves["deal"].map("D{:05d}".format),
        stage=moves["stage"].map(dict(enumerate(GRAPH.stages))),
        entered_at=pd.to_datetime(moves["entered_at"]),
    )
    first = moves.groupby("deal_id", as_index=False)["entered_at"].min().rename(columns={"entered_at": "created_at"})
    return deals_from_frames(first.assign(amount=100.0), moves[["deal_id", "stage", "entered_at"]], stages=GRAPH)


def stays_on(calendar: CalendarOptions) -> StayTable:
    return stay_table(played(), calendar=calendar)


def test_without_a_calendar_all_days_weigh_one() -> None:
    known = known_at(stay_table(played()), day_of(AS_OF))
    assert win_weights(known, days=30).tolist() == [1.0] * (known.age_days + 30)
    assert progress(known, win_weights(known, days=3)).tolist() == [0.0, 1.0, 2.0, 3.0]


def test_before_the_first_win_all_days_weigh_one() -> None:
    known = known_at(stays_on(PERIOD_END), day_of(FIRST))
    assert win_weights(known, days=5).tolist() == [1.0] * 6


def test_weights_are_those_of_the_full_calendar() -> None:
    snapshot = cut(played(), as_of=AS_OF, covariates=())
    spec = ModelSpec(
        covariates=(), durations="piecewise", inference="fast", draws=400, seed=1, calendar=PERIOD_END.parts
    )
    full = fit_snapshot(snapshot, spec=spec).calendar
    assert full is not None
    days = 60
    mean = pace(full, as_of=AS_OF, days=days, draws=400, kind="won").mean(axis=0)
    quick = win_weights(known_at(stays_on(PERIOD_END), day_of(AS_OF)), days=days)[-days:]
    truth = np.array([factor(AS_OF + timedelta(days=1 + day)) for day in range(days)])
    assert np.abs(quick - mean).max() < 0.6  # of weights up to 4.2
    assert np.corrcoef(quick, truth)[0, 1] > 0.98
    assert quick.sum() == pytest.approx(mean.sum(), rel=0.03)


def test_average_past_day_weighs_one() -> None:
    known = known_at(stays_on(PERIOD_END), day_of(AS_OF))
    past = win_weights(known, days=1)[:-1]
    assert past.mean() == pytest.approx(1.0, abs=0.03)


def test_horizons_that_differ_by_a_weekend_expect_the_same() -> None:
    friday = day_of(date(2024, 12, 6))
    at_friday, at_sunday = open_revenue(known_at(stays_on(WEEKDAY), friday - 14), horizons=(14, 16), seed=1)
    even, even_sunday = open_revenue(known_at(stay_table(played()), friday - 14), horizons=(14, 16), seed=1)
    assert at_sunday.mean == pytest.approx(at_friday.mean, rel=0.01)
    assert even_sunday.mean > 1.05 * even.mean
    assert at_friday.mean == pytest.approx(even.mean, rel=0.02)  # two whole weeks


def test_whole_days_of_progress_are_not_interpolated() -> None:
    plain = known_at(stay_table(played()), day_of(AS_OF))
    both = open_revenue(plain, horizons=(14, 28), seed=1)
    assert both[1] == open_revenue(plain, horizons=(28,), seed=1)[0]


def test_half_a_day_of_progress_lies_between_two_days(monkeypatch: pytest.MonkeyPatch) -> None:
    known = known_at(stay_table(played()), day_of(AS_OF))
    whole = open_revenue(known, horizons=(10, 11), seed=1)
    weight = np.append(np.ones(known.age_days + 9), [1.5, 1.0])
    monkeypatch.setattr(
        "forecasting.proof.quick_chain.win_weights", lambda known, days: weight[: known.age_days + days]
    )
    between = open_revenue(known, horizons=(10,), seed=1)[0]
    assert between.mean == pytest.approx((whole[0].mean + whole[1].mean) / 2, rel=1e-9)


def test_deals_to_come_are_won_on_the_calendar() -> None:
    friday = day_of(date(2024, 12, 6))
    on_weekdays, by_sunday = new_revenue(known_at(stays_on(WEEKDAY), friday - 14), horizons=(14, 16))
    plain, plain_sunday = new_revenue(known_at(stay_table(played()), friday - 14), horizons=(14, 16))
    assert by_sunday.mean == pytest.approx(on_weekdays.mean, rel=0.02)
    assert plain_sunday.mean > 1.1 * plain.mean


def test_past_errors_are_smaller_on_the_calendar() -> None:
    spread = []
    for calendar in (CalendarOptions(), PERIOD_END):
        past = past_forecasts(stays_on(calendar), as_of=AS_OF, horizon_days=10, origins=40)
        error, _ = log_error(past)
        spread.append(float(np.sqrt(np.mean(error**2))))
    assert spread[1] < 0.8 * spread[0]


def test_what_comes_later_changes_nothing() -> None:
    stays = stays_on(PERIOD_END)
    later = stays.entered > day_of(AS_OF)
    assert later.any()
    noisy = replace(
        stays,
        entered=np.where(later, stays.entered + 11, stays.entered),
        left=np.where((stays.left > day_of(AS_OF)) & (stays.left < 2**40), stays.left + 17, stays.left),
    )
    first, second = (own_calibration(each, as_of=AS_OF, horizon_days=10) for each in (stays, noisy))
    for name in ("probability", "bias_mean", "tracked", "level_shift"):
        assert np.array_equal(getattr(first, name), getattr(second, name))


def test_horizons_without_a_selling_day_do_not_speak_of_the_year_before() -> None:
    """All is won on the last working day of a month: in ten days there is mostly nothing, every year."""
    rng, rows = np.random.default_rng(1), []
    for number in range(3000):
        day, last = FIRST + timedelta(days=int(rng.integers(0, 900))), FIRST + timedelta(days=1000)
        rows.append((f"D{number}", "Offer", day))
        while day < last:
            day += timedelta(days=1)
            selling = day.weekday() < 5 and working_days_to_go(day) == 1
            if selling and rng.random() < 0.5:
                rows.append((f"D{number}", "Won", day))
                break
            if rng.random() < 0.01:
                rows.append((f"D{number}", "Lost", day))
                break
    moves = pd.DataFrame(rows, columns=["deal_id", "stage", "entered_at"])
    moves["entered_at"] = pd.to_datetime(moves["entered_at"])
    first = moves.groupby("deal_id", as_index=False)["entered_at"].min().rename(columns={"entered_at": "created_at"})
    deals = deals_from_frames(first.assign(amount=1.0), moves, stages=GRAPH)
    as_of = FIRST + timedelta(days=870)
    past = past_forecasts(stay_table(deals, calendar=PERIOD_END), as_of=as_of, horizon_days=10)
    nearly_empty = past["mean"] < 0.01 * past["mean"].max()
    assert nearly_empty.mean() > 0.5
    learned = own_calibration(deals, as_of=as_of, horizon_days=10, calendar=PERIOD_END)
    assert learned.probability @ learned.again < 0.05
    assert abs(learned.mean_gain) < 0.06


def test_deals_are_looked_back_at_on_the_calendar_asked_for() -> None:
    of_deals = own_calibration(played(), as_of=AS_OF, horizon_days=10, calendar=WEEKDAY)
    of_stays = own_calibration(stays_on(WEEKDAY), as_of=AS_OF, horizon_days=10)
    assert np.array_equal(of_deals.probability, of_stays.probability)
    assert not np.array_equal(of_deals.probability, own_calibration(played(), as_of=AS_OF, horizon_days=10).probability)
    new = own_new_calibration(played(), as_of=AS_OF, horizon_days=10, calendar=WEEKDAY)
    assert np.array_equal(
        new.errors.probability, own_new_calibration(stays_on(WEEKDAY), as_of=AS_OF, horizon_days=10).errors.probability
    )
