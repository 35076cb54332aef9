"""New business, looked back upon: the quick forecast against the full one, errors learned, the mean kept."""

from dataclasses import replace
from datetime import date, timedelta

import numpy as np
import pandas as pd
import pytest
from planted_floor import sales_floor
from test_calibration import FIRST, GRAPH, made_up

from benchmarks.accuracy.companies import World, deals_of, make_company
from forecasting.answers.forecasts import forecast, with_calibration
from forecasting.data.deals import deals_from_frames
from forecasting.data.known_entries import NEVER
from forecasting.fitting import fit
from forecasting.proof.calibration import learn
from forecasting.proof.new_calibration import (
    RAISED,
    SHARED,
    NewCalibration,
    own_new_calibration,
    past_new_forecasts,
)
from forecasting.proof.past_forecasts import NO_PAST, Memory
from forecasting.proof.quick_new import new_revenue
from forecasting.proof.stay_table import day_of, known_at, stay_table
from models.amounts import ALL_WON, AmountPosterior
from models.arrivals.model import daily_intensity, fit_arrivals

DAY = FIRST + timedelta(days=300)


def test_the_quick_forecast_is_the_mean_and_sd_of_the_full_arrival_model() -> None:
    """Arrivals of the fitted model, each won by the observed share for its days left, amounts drawn from the wins."""
    known = known_at(stay_table(made_up(4, n=900)), day_of(DAY))
    created = np.full(len(known.amount), NEVER)
    np.minimum.at(created, known.deal, known.entered)
    won_on = np.full(len(known.amount), NEVER)
    won_on[known.deal[known.ended_in_win]] = known.left[known.ended_in_win]
    begun, won = np.flatnonzero(created < NEVER), np.flatnonzero(won_on < NEVER)
    days, draws, rng = 42, 6000, np.random.default_rng(1)
    share = np.zeros(days)
    for left in range(days):  # share of the deals old enough that were won within so many days, day by day
        old_enough = [known.as_of - created[begun] >= lag for lag in range(left + 1)]
        exactly = [(won_on - created)[won] == lag for lag in range(left + 1)]
        share[left] = sum(hit.sum() / old.sum() for hit, old in zip(exactly, old_enough, strict=True))
    rows = pd.DataFrame(
        {
            "arrived_on": created[begun].astype("datetime64[D]").astype("datetime64[ns]"),
            "stage": 0,
            "cell": 0,
            "segment": "",
        }
    )
    one = np.ones((draws, 1))
    amounts = AmountPosterior(one, one, one, np.array([5.0]), np.array([0, 1]), 0 * one, (ALL_WON,))
    cells = np.zeros((1, 0), dtype=np.int32)
    arrivals = fit_arrivals(rows, amounts, as_of=DAY, cells=cells, draws=draws, seed=1)
    expected = daily_intensity(arrivals, days=days, draws=np.arange(draws), seed=2)[:, 0] @ share[::-1]
    pool = known.filled_amount[won]
    total = np.array([rng.choice(pool, size=count).sum() for count in rng.poisson(expected)])
    quick = new_revenue(known, horizons=(14, days))[1]
    assert quick.mean == pytest.approx(expected.mean() * pool.mean(), rel=0.03)
    # the sd that remains is that of the mean amount and of the share won, which the simulation above takes as known
    unknown = quick.mean * np.sqrt((pool**2).mean() / pool.mean() ** 2 / len(pool))
    assert np.sqrt(quick.sd**2 - unknown**2) == pytest.approx(total.std(), rel=0.05)


def test_deals_that_begin_as_won_are_foretold_by_both() -> None:
    """One more win at once for every two deals: revenue of new deals grows by what these bring in a day, every day."""
    plain = made_up(31, n=800)
    rng, n = np.random.default_rng(32), 400
    ids, days = [f"r{i}" for i in range(n)], [FIRST + timedelta(days=int(day)) for day in rng.integers(0, 400, n)]
    once = deals_from_frames(
        pd.DataFrame({"deal_id": ids, "created_at": days, "amount": 100.0}),
        pd.DataFrame({"deal_id": ids, "stage": GRAPH.won[0], "entered_at": days}),
        stages=GRAPH,
    )
    shifted = once.entries.assign(deal=once.entries["deal"] + plain.n_deals)
    both = replace(
        plain,
        deals=pd.concat([plain.deals, once.deals], ignore_index=True),
        entries=pd.concat([plain.entries, shifted], ignore_index=True),
    )
    expected, horizon = 100.0 * n / 400 * 28, 28
    quick = [
        new_revenue(known_at(stay_table(each), day_of(DAY)), horizons=(horizon,))[0].mean for each in (plain, both)
    ]
    assert quick[1] - quick[0] == pytest.approx(expected, rel=0.25)
    full = []
    for each in (plain, both):
        posterior = fit(each, as_of=DAY, covariates=(), durations="piecewise", inference="fast", draws=400, seed=1)
        made = forecast(each, posterior, as_of=DAY, until=DAY + timedelta(days=horizon), seed=1)
        full.append(made.new_cents.sum(axis=(1, 2)).mean() / 100)
    assert full[1] - full[0] == pytest.approx(expected, rel=0.25)


def test_past_forecasts_know_nothing_later_and_their_outcome_is_what_came() -> None:
    deals = made_up(2)
    stays = stay_table(deals)
    past = past_new_forecasts(stays, as_of=DAY, horizon_days=28)
    assert set(past["horizon_days"]) == {28, 14}
    assert (past["as_of"] + pd.to_timedelta(past["horizon_days"], unit="D") <= pd.Timestamp(DAY)).all()
    row = past.iloc[5]
    then = day_of(row["as_of"].date())
    alone = new_revenue(known_at(stays, then), horizons=(int(row["horizon_days"]),))[0]
    assert (row["mean"], row["sd"]) == pytest.approx((alone.mean, alone.sd))
    now = known_at(stays, day_of(DAY))
    first = np.full(len(now.amount), NEVER)
    np.minimum.at(first, now.deal, now.entered)
    in_time = now.ended_in_win & (now.left > then) & (now.left <= then + row["horizon_days"])
    later = in_time & (first[now.deal] > then)
    reopened = in_time & ~later & ~np.isin(now.deal, now.deal[now.open_at(then)])  # won, then opened and won again
    came = np.nansum(now.amount[now.deal[later | reopened]])
    assert row["actual"] == pytest.approx(came)


@pytest.mark.parametrize("days", [1, 40, 200])
def test_the_look_back_reads_nothing_after_the_as_of_date(days: int) -> None:
    deals = made_up(3)
    late = deals.entries["entered_on"] > pd.Timestamp(DAY)
    cut_off = replace(deals, entries=deals.entries[~late])
    moved = deals.entries.copy()
    moved.loc[late, "entered_on"] += pd.to_timedelta(np.full(int(late.sum()), days), unit="D")
    moved.loc[late, "amount"] = 1e6
    kept, shifted, gone = (
        own_new_calibration(each, as_of=DAY, horizon_days=28)
        for each in (deals, replace(deals, entries=moved), cut_off)
    )
    assert kept.to_dict() == shifted.to_dict() == gone.to_dict()
    assert kept.errors.origins > 20
    peeking = own_new_calibration(deals, as_of=DAY + timedelta(days=28), horizon_days=28)
    assert peeking.to_dict() != kept.to_dict()


def past_of(errors: np.ndarray) -> pd.DataFrame:
    dates = [pd.Timestamp(date(2025, 12, 1) - timedelta(days=28 * place)) for place in range(len(errors))]
    mean, n = 100.0, np.arange(len(errors))
    raised = mean * (1 + RAISED) * 1.01 * np.exp(errors) - mean * (RAISED + 0.01 * (1 + RAISED))
    return pd.DataFrame(
        {
            "as_of": dates, "horizon_days": 28, "age_days": 2000 - 28 * n, "days_since": 28 * n,
            "mean": mean * (1 + RAISED), "sd": 1e-9, "actual": raised + RAISED * mean,
        }
    )  # fmt: skip


def test_errors_of_a_third_widen_by_a_third_and_keep_the_mean() -> None:
    errors = np.random.default_rng(2).normal(0.0, 0.33, 40)
    learned = NewCalibration(learn(past_of(errors), horizon_days=28, age_days=2028))
    assert learned.errors.sd == pytest.approx(0.33, rel=0.2)
    n = 40_000
    shared = np.random.default_rng(3).standard_normal(n)
    factors = learned.factors(np.full(n, 100.0), open_errors=shared, seed=5)
    bias = learned.errors.bias
    assert factors.mean() == pytest.approx(np.exp(bias), abs=0.02)
    inner = np.log((factors + RAISED) / (1 + RAISED))
    assert inner.std() == pytest.approx(learned.errors.sd, rel=0.1)
    assert np.corrcoef(inner, shared)[0, 1] == pytest.approx(SHARED, abs=0.03)
    assert "40 past dates" in learned.in_words()


def test_a_forecast_carries_both_errors_and_still_adds_up() -> None:
    floor = sales_floor(draws=2000, weekly=40.0)
    of_open = learn(NO_PAST, horizon_days=60, age_days=700)
    of_new = NewCalibration(learn(past_of(np.random.default_rng(1).normal(0, 0.4, 30)), horizon_days=28, age_days=900))
    wide = with_calibration(floor, of_open, seed=2, new=of_new)
    assert wide.new_calibration is of_new
    np.testing.assert_array_equal(wide.open_cents, with_calibration(floor, of_open, seed=2).open_cents)
    totals, raw = (made.new_cents.sum(axis=(1, 2)) for made in (wide, floor))
    np.testing.assert_allclose(totals, raw * wide.new_factor, atol=200)
    assert totals.mean() == pytest.approx(raw.mean(), rel=0.05)
    assert totals.std() > 1.5 * raw.std()
    again = of_new.factors(raw / 100, open_errors=np.zeros(2000), seed=2)
    assert not np.array_equal(again, wide.new_factor)  # the part shared with open deals is in it
    weeks, years = (wide.revenue_draws(period, source="new").sum(axis=1) for period in ("week", "year"))
    np.testing.assert_allclose(weeks, years, rtol=1e-12)


def test_new_wins_count_in_the_season_they_fall_in() -> None:
    known = known_at(stay_table(made_up(2)), day_of(FIRST + timedelta(days=320)))
    usual, half, third = (
        new_revenue(known, horizons=(30, 60), season=season)
        for season in ((), (0.5,) * 60, (0.0,) * 20 + (3.0,) * 20 + (0.0,) * 20)
    )
    assert half[0].mean == pytest.approx(0.5 * usual[0].mean)
    assert half[1].mean == pytest.approx(0.5 * usual[1].mean)
    by_day = [0.0, *(new_revenue(known, horizons=(day,))[0].mean for day in (20, 40))]  # all that is won until then
    assert third[1].mean == pytest.approx(3.0 * (by_day[2] - by_day[1]), rel=1e-6)


def test_nothing_won_expects_nothing_and_learns_nothing() -> None:
    known = known_at(stay_table(made_up(1)), day_of(FIRST + timedelta(days=1)))
    assert new_revenue(known, horizons=(28,))[0].mean == 0.0
    assert own_new_calibration(made_up(1), as_of=FIRST + timedelta(days=20), horizon_days=28).errors.origins == 0
    none = NewCalibration(learn(NO_PAST, horizon_days=28, age_days=30))
    np.testing.assert_array_equal(none.factors(np.zeros(5), open_errors=np.zeros(5), seed=1), np.ones(5))


def test_past_forecasts_of_new_deals_follow_the_season_only_with_levels() -> None:
    world = World(days=1100, win_factor="slow summer", deals_per_day=2.0)
    stays = stay_table(deals_of(world, make_company(world, np.random.default_rng(3))))
    as_of = date(2024, 10, 31)
    memory = Memory()
    with_season, without = (
        past_new_forecasts(stays, as_of=as_of, horizon_days=30, origins=16, levels=levels, memory=memory)
        for levels in (True, False)
    )
    ratio = (with_season["mean"] / without["mean"]).groupby(with_season["as_of"].dt.month).mean()
    assert ratio[7] < 0.8
    alone = past_new_forecasts(stays, as_of=as_of, horizon_days=30, origins=16, threads=1)
    pd.testing.assert_frame_equal(alone, with_season)
