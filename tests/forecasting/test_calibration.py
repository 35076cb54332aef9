"""Looking back: the cut of the forecast, the right probabilities, nothing of the future, errors learned as they are."""

from dataclasses import replace
from datetime import date, timedelta

import numpy as np
import pandas as pd
import pytest
from scipy import integrate, stats

from forecasting.data.deals import Deals, deals_from_frames
from forecasting.data.known_entries import NEVER
from forecasting.data.snapshot import cut
from forecasting.proof.calibration import (
    ALPHA,
    ALPHA_PRIOR,
    BIAS_SD,
    DELTA,
    TAU,
    TAU_LOG_SD,
    TAU_MEDIAN,
    learn,
    own_calibration,
)
from forecasting.proof.past_forecasts import (
    LARGEST_ERROR,
    NO_PAST,
    Memory,
    errors_a_year_before,
    log_error,
    past_forecasts,
    spacing_days,
)
from forecasting.proof.quick_chain import OpenValue, amount_edges, open_revenue
from forecasting.proof.quick_kernels import count_exits, count_expected, win_probabilities
from forecasting.proof.stay_table import day_of, known_at, stay_table
from models.stages import StageGraph

GRAPH = StageGraph(open=["Lead", "Offer"], won=["Won"], lost=["Lost", "Gone"])
FIRST = date(2024, 1, 1)


def made_up(seed: int, n: int = 400, *, days: int = 400, win: float = 0.5) -> Deals:
    """Two stages with a way back, same-day moves, reopened wins, and amounts that are missing, told later or change."""
    rng = np.random.default_rng(seed)
    deals, entries = [], []
    for i in range(n):
        day, stage, amount = int(rng.integers(0, days)), 0, round(rng.lognormal(4, 1), 2)
        deals.append((f"d{i}", FIRST + timedelta(days=day), amount if rng.random() > 0.1 else None))
        for _ in range(30):
            told = amount if rng.random() < 0.2 else None
            entries.append((f"d{i}", GRAPH.stages[stage], FIRST + timedelta(days=day), told))
            if stage >= 2 and rng.random() < 0.95:
                break
            amount = amount * 1.5 if rng.random() < 0.1 else amount
            day += int(rng.geometric(0.06) - (stage < 2))  # a closed deal opens again on a later day
            stage = (
                int(rng.choice(5, p=[[0.05, 0.45, 0, 0.4, 0.1], [0.1, 0, win, 0.4 - win / 2, 0.5 - win / 2]][stage]))
                if stage < 2
                else 1
            )
    return deals_from_frames(
        pd.DataFrame(deals, columns=["deal_id", "created_at", "amount"]),
        pd.DataFrame(entries, columns=["deal_id", "stage", "entered_at", "amount"]),
        stages=GRAPH,
    )


def test_the_quick_cut_follows_the_rules_of_the_full_one() -> None:
    deals = made_up(1)
    stays = stay_table(deals)
    ids = deals.deals["deal_id"].to_numpy()
    for ahead in (30, 150, 390, 600):
        day = FIRST + timedelta(days=ahead)
        snapshot, known = cut(deals, as_of=day), known_at(stays, day_of(day))
        waiting = known.is_open
        quick = pd.DataFrame(
            {
                "deal_id": ids[known.deal[waiting]],
                "stage": known.stage[waiting],
                "days_in_stage": known.as_of - known.entered[waiting],
                "amount": known.amount[known.deal[waiting]],
            }
        )
        full = snapshot.pipeline.deals[list(quick.columns)]
        pd.testing.assert_frame_equal(
            quick.sort_values("deal_id", ignore_index=True),
            full.sort_values("deal_id", ignore_index=True),
            check_dtype=False,
        )
        won = snapshot.won[snapshot.won["won_on"] > pd.Timestamp(FIRST)]
        assert known.revenue(after=day_of(FIRST), until=known.as_of) == pytest.approx(won["amount"].sum())
        assert ids[known.deal].tolist() == snapshot.stays["deal_id"].tolist()
        for name, column in (("stage", known.stage), ("next", known.exit_code)):
            np.testing.assert_array_equal(column, snapshot.stays[name])


def brute_force_win(hazard: np.ndarray, factor: np.ndarray, starts: np.ndarray, horizon: int, days: int) -> np.ndarray:
    """P(won within the horizon) by (stage, days in stage): one deal's mass moved day by day over (stage, day)."""
    n_open = len(hazard)
    length = days + horizon + 1
    of_bin = np.array([np.searchsorted(starts[s], np.arange(length), side="right") - 1 for s in range(n_open)])
    rate = np.stack([hazard[s][:, of_bin[s]] * factor[s][:, None] for s in range(n_open)])
    leave = -np.expm1(-rate.sum(axis=1))
    exits = rate / rate.sum(axis=1, keepdims=True) * leave[:, None]
    table = np.zeros((n_open, days))
    for stage in range(n_open):
        for age in range(days):
            state, won = np.zeros((n_open, length)), 0.0
            state[stage, age + 1] = 1.0
            for _ in range(horizon):
                moving, after = state, np.zeros_like(state)
                while moving.sum() > 1e-17:
                    after[:, 1:] += (moving * (1 - leave))[:, :-1]
                    arrived = np.einsum("sd,sjd->j", moving, exits)
                    won += arrived[n_open]
                    moving = np.zeros_like(state)
                    moving[:, 0] = arrived[:n_open]
                state = after
            table[stage, age] = won
    return table


def test_win_probabilities_equal_a_day_by_day_walk_with_loops_and_same_day_moves() -> None:
    rng = np.random.default_rng(2)
    hazard, factor = rng.gamma(1.0, 0.08, (1, 2, 5, 3)), rng.gamma(20, 0.05, (1, 2, 2, 5))
    starts = np.array([[0, 2, 5], [0, 1, NEVER]])
    for c in range(2):
        expected = brute_force_win(hazard[0], factor[0, c], starts, 6, 8)
        groups = np.array([(c, s, a) for s in range(2) for a in range(8)])
        found = win_probabilities(hazard, factor, starts, groups, np.array([6]), 1)[0, :, 0]
        np.testing.assert_allclose(found.reshape(2, 8), expected, atol=1e-12)


def test_deals_that_hardly_any_outlasts_are_worth_what_their_own_coming_days_say() -> None:
    """In the last bin every age is worth the same, also where survival from the entry on has no digits left."""
    rng = np.random.default_rng(2)
    hazard, factor = rng.gamma(4.0, 0.15, (1, 2, 5, 3)), np.ones((1, 1, 2, 5))
    groups = np.array([(0, s, a) for s in range(2) for a in (6, 200, 300, 900)])
    found = win_probabilities(hazard, factor, np.array([[0, 2, 5], [0, 1, 4]]), groups, np.array([6, 3]), 1)[0]
    by_stage = found.reshape(2, 4, 2)
    np.testing.assert_allclose(by_stage, np.repeat(by_stage[:, :1], 4, axis=1), rtol=1e-12)
    assert np.exp(-hazard[0, :, :, 2].sum(axis=1) * 300).max() < 1e-300


def test_exits_are_expected_in_the_period_in_which_deals_were_exposed() -> None:
    """Against a walk through every day of every stay."""
    rng = np.random.default_rng(3)
    n, classes, periods, width = 200, 3, 7, 30
    stage, exit_code, of_class = rng.integers(0, 2, n), rng.integers(-1, 5, n), rng.integers(0, classes, n)
    days, ago = rng.integers(0, 40, n), rng.integers(40, 200, n)
    unseen = np.minimum(rng.integers(0, 20, n) * (rng.random(n) < 0.5), days)
    hazard, ending = rng.gamma(1.0, 0.1, (2, 41, 5)), rng.gamma(1.0, 0.05, (2, 40, 5))
    passed = np.concatenate([np.zeros((2, 1, 5)), np.cumsum(hazard, axis=1)], axis=1)
    expected, seen = np.zeros((classes, periods, 2, 5)), np.zeros((classes, periods, 2, 5))
    for s, code, c, first, last, since in zip(stage, exit_code, of_class, unseen, days, ago, strict=True):
        for day in range(first, last + 1):
            ends = day == last and code >= 0
            expected[c, (since - day) // width, s] += ending[s, day] if ends else hazard[s, day]
        if code >= 0:
            seen[c, (since - last) // width, s, code] += 1.0
    found = count_expected(stage, exit_code, days, ago, unseen, of_class, passed, ending, (classes, periods, width))
    np.testing.assert_allclose(found[0], expected, atol=1e-12)
    np.testing.assert_array_equal(found[1], seen)


def test_exits_and_days_at_risk_add_up() -> None:
    rng = np.random.default_rng(3)
    stage, exit_code, days = rng.integers(0, 2, 500), rng.integers(-1, 5, 500), rng.integers(0, 40, 500)
    unseen = np.minimum(rng.integers(0, 20, 500) * (rng.random(500) < 0.5), days)
    exits, at_risk = count_exits(stage, exit_code, days, unseen, np.array([[0, 3, 10], [0, 7, NEVER]]), 5)
    assert exits.sum() == (exit_code >= 0).sum()
    assert at_risk.sum() == (days + 1 - unseen).sum()
    in_first = np.minimum(days + 1, 3) - np.minimum(unseen, 3)
    assert at_risk[0, 0] == in_first[stage == 0].sum()


def test_amount_classes_hold_enough_deals_and_like_sums() -> None:
    amounts = np.random.default_rng(4).lognormal(8, 1.2, 5000)
    edges = amount_edges(amounts)
    classes = np.searchsorted(edges, amounts, side="right")
    roots = np.bincount(classes, weights=np.sqrt(amounts))
    assert len(edges) == 7
    np.testing.assert_allclose(roots / roots.sum(), 0.125, atol=0.005)
    assert np.bincount(np.searchsorted(amount_edges(amounts[:130]), amounts[:130], side="right")).min() >= 20
    assert len(amount_edges(np.full(500, 7.0))) == 0


@pytest.mark.parametrize("win", [0.2, 0.6])
def test_the_quick_forecast_is_right_on_what_it_assumes(win: float) -> None:
    scaled = []
    for seed in range(60):
        stays = stay_table(made_up(100 + seed, 700, win=win))
        today = day_of(FIRST) + 300
        value = open_revenue(known_at(stays, today), horizons=(30,), seed=1)[0]
        actual = known_at(stays, today + 30).revenue(after=today, until=today + 30, open_deals_only=True)
        scaled.append((actual - value.mean) / value.sd)
    assert abs(np.mean(scaled)) < 3.5 / np.sqrt(60)
    assert 0.55 < np.std(scaled) < 1.6


def past_of(errors: np.ndarray, *, sd: float = 0.0, age: float = 1000.0, horizon: int = 28) -> pd.DataFrame:
    """Closed forecasts with the given log errors."""
    n = len(errors)
    offset = np.log1p(0.01) - np.log1p((sd / 1.01) ** 2) / 2
    return pd.DataFrame(
        {
            "as_of": pd.date_range("2024-01-01", periods=n, freq="28D"),
            "horizon_days": float(horizon),
            "age_days": age,
            "days_since": 0.0,
            "mean": 1.0,
            "sd": sd,
            "actual": np.exp(errors + offset) - 0.01,
        }
    )


def test_without_a_past_the_prior_widens_and_says_so() -> None:
    prior = learn(NO_PAST, horizon_days=28, age_days=100)
    assert prior.origins == 0
    assert "no closed forecast" in prior.in_words()
    shift = prior.draw(200_000, seed=1).shift
    assert prior.scale == pytest.approx(ALPHA @ ALPHA_PRIOR)
    share = stats.norm.pdf(np.log(TAU / TAU_MEDIAN), 0, TAU_LOG_SD)
    assert prior.sd == pytest.approx(np.sqrt(share @ TAU**2 / share.sum() + BIAS_SD**2))
    assert np.quantile(np.abs(shift), 0.5) == pytest.approx(np.quantile(np.abs(_prior_shift(200_000)), 0.5), rel=0.03)


def _prior_shift(n: int) -> np.ndarray:
    rng = np.random.default_rng(9)
    return rng.normal(0, BIAS_SD, n) + rng.lognormal(np.log(TAU_MEDIAN), TAU_LOG_SD, n) * rng.normal(size=n)


def test_the_grid_equals_integration_over_the_bias() -> None:
    past = past_of(np.array([0.1, -0.2, 0.05]), sd=0.1).assign(
        age_days=[300.0, 500.0, 700.0], days_since=[60.0, 30.0, 0.0]
    )
    found = learn(past, horizon_days=28, age_days=800)
    error, spread = log_error(past)
    weight = 0.25 * 0.5 ** (past["days_since"] / (12 * 28)) * past["age_days"] / 800
    names = [(a, t, d) for a in ALPHA for t in TAU for d in DELTA]
    some = np.random.default_rng(1).choice(len(names), 25, replace=False)

    def density(bias: float, alpha: float, tau: float, delta: float) -> float:
        unseen = tau**2 * (past["age_days"] / 800) ** (-2 * delta)
        mean, sd = bias + ((1 - alpha**2) * spread**2 - unseen) / 2, np.sqrt(alpha**2 * spread**2 + unseen)
        log_likelihood = float((weight * stats.norm.logpdf(error, mean, sd)).sum())
        return float(np.exp(log_likelihood) * stats.norm.pdf(bias, 0, BIAS_SD))

    prior = np.array(
        [
            ALPHA_PRIOR[list(ALPHA).index(a)] * stats.norm.pdf(np.log(t), np.log(TAU_MEDIAN), TAU_LOG_SD)
            for a, t, _ in names
        ]
    )
    mass = np.array([integrate.quad(density, -0.3, 0.3, args=names[i], points=[0.0])[0] for i in some]) * prior[some]
    np.testing.assert_allclose(found.probability[some] / found.probability[some].sum(), mass / mass.sum(), rtol=1e-6)
    first = integrate.quad(lambda b: b * density(b, *names[some[0]]), -0.3, 0.3)[0]
    assert found.bias_mean[some[0]] == pytest.approx(first * prior[some[0]] / mass[0], rel=1e-6)


def test_it_learns_the_size_of_its_errors() -> None:
    rng = np.random.default_rng(5)
    small, large = (learn(past_of(rng.normal(0, sd, 80)), horizon_days=28, age_days=1000) for sd in (0.03, 0.3))
    assert small.sd < 0.06
    assert 0.2 < large.sd < 0.45
    assert small.origins == 80
    sure = learn(past_of(rng.normal(0, 0.1, 80), sd=0.2), horizon_days=28, age_days=1000)
    assert sure.scale < 0.75


def test_a_lasting_bias_is_corrected_only_within_its_prior() -> None:
    rng = np.random.default_rng(6)
    found = learn(past_of(rng.normal(0.3, 0.02, 40)), horizon_days=28, age_days=1000)
    assert 0.0 < found.bias < 0.12


def test_old_origins_weigh_less() -> None:
    errors = np.r_[np.full(20, 0.5), np.full(20, 0.01)] * np.tile([1, -1], 20)
    past = past_of(errors)
    recent_small = learn(
        past.assign(days_since=np.r_[np.full(20, 4000.0), np.zeros(20)]), horizon_days=28, age_days=1000
    )
    recent_large = learn(
        past.assign(days_since=np.r_[np.zeros(20), np.full(20, 4000.0)]), horizon_days=28, age_days=1000
    )
    assert recent_small.sd < 0.3 * recent_large.sd


def test_factors_act_on_the_log_scale_and_keep_zero() -> None:
    rng = np.random.default_rng(7)
    learned = learn(past_of(rng.normal(0, 0.2, 60), sd=0.1), horizon_days=28, age_days=1000)
    revenue = rng.lognormal(10, 0.1, 4000)
    factors, errors = learned.factors(revenue, seed=3), learned.draw(4000, seed=3)
    offset = 0.01 * revenue.mean()
    logs = np.log(revenue + offset)
    rest = np.log(factors) - (errors.scale - 1) * (logs - logs.mean()) - errors.shift
    for scale in np.unique(errors.scale):  # what keeps the mean is the same for all draws whose spread is scaled alike
        mine = errors.scale == scale
        kept = revenue.mean() / (revenue * np.exp((scale - 1) * (logs - logs.mean()))).mean()
        np.testing.assert_allclose(rest[mine], np.log(kept), atol=1e-12)
    assert learned.factors(np.zeros(10), seed=3).tolist() == [1.0] * 10
    revenue[0] = 0.0
    assert learned.factors(revenue, seed=3)[0] == 1.0
    assert (learned.factors(revenue, seed=3) >= 0).all()


def test_an_error_moves_what_a_draw_brings_in_proportion_where_one_deal_is_most_of_the_money() -> None:
    """Draws without the large deal stay in the order of what the others bring."""
    learned = learn(past_of(np.full(20, 0.02), sd=0.1), horizon_days=28, age_days=1000)
    with_large = np.random.default_rng(8).random(4000) < 0.35
    revenue = np.where(with_large, 1e13, 1e5)
    moved = revenue * learned.factors(revenue, seed=3)
    assert moved[~with_large].max() < 1e6
    assert 1e5 < np.median(moved[~with_large]) < 3e5


def test_draw_i_is_draw_i_whatever_their_number() -> None:
    learned = learn(past_of(np.array([0.1, -0.1, 0.2])), horizon_days=28, age_days=1000)
    few, many = learned.draw(10, seed=4), learned.draw(1000, seed=4)
    assert np.array_equal(few.shift, many.shift[:10])
    assert np.array_equal(few.scale, many.scale[:10])
    mean, sd = learned.shift_moments
    assert learned.draw(200_000, seed=5).shift.mean() == pytest.approx(mean, abs=0.003)
    assert np.std(learned.draw(200_000, seed=5).shift) == pytest.approx(sd, rel=0.03)


def test_unseen_errors_leave_the_mean_where_it_is() -> None:
    """Errors as a right forecaster makes them: of sd .5 and mean -.125 on the log scale, of mean one in money."""
    errors = np.random.default_rng(12).normal(-0.125, 0.5, 400)
    learned = learn(past_of(errors, sd=0.01), horizon_days=28, age_days=1000)
    factors = learned.factors(np.full(200_000, 100.0), seed=5)
    assert factors.mean() == pytest.approx(1.0, abs=0.04)
    assert np.median(factors) < 0.92


def test_no_past_leaves_the_mean_of_a_young_company_where_it_is() -> None:
    """Mostly nothing and now and then a win: a smaller spread around the middle of that would take money away."""
    rng = np.random.default_rng(13)
    revenue = rng.binomial(3, 0.2, 100_000) * rng.lognormal(9, 0.7, 100_000)
    moved = revenue * learn(NO_PAST, horizon_days=60, age_days=21).factors(revenue, seed=5)
    assert moved.mean() == pytest.approx(revenue.mean(), rel=0.02)
    assert np.quantile(moved, 0.9) > 0.9 * np.quantile(revenue, 0.9)


@pytest.mark.parametrize(("sd", "tracked_sd"), [(0.2, 0.3), (1.2, 2.0)])
def test_levels_of_the_moment_bring_the_mean_they_say(sd: float, tracked_sd: float) -> None:
    """However wide the revenue: levels that double the expected revenue and its spread do just that."""
    now = OpenValue(mean=1.0, sd=sd, tracked_mean=2.0, tracked_sd=2.0 * tracked_sd)
    learned = learn(NO_PAST, horizon_days=60, age_days=400, levels_now=now)
    width = np.sqrt(np.log1p(sd**2))
    revenue = np.random.default_rng(14).lognormal(-(width**2) / 2, width, 400_000)
    factors, errors = learned.factors(revenue, seed=5), learned.draw(400_000, seed=5)
    tracked = errors.stretch != 1.0
    assert (revenue * factors)[tracked].mean() == pytest.approx(2.0, rel=0.06)
    assert (revenue * factors)[~tracked].mean() == pytest.approx(1.0, rel=0.06)
    assert np.exp(learned.level_gain) == pytest.approx(2.0, rel=0.03)
    assert "expected revenue by" in replace(learned, origins=1).in_words()


def test_empty_periods_come_again() -> None:
    """Every other period was empty and the others brought double: so will the next one be, one way or the other."""
    past = past_of(np.zeros(60), sd=0.01).assign(actual=np.tile([0.0, 2.0], 30))
    factors = learn(past, horizon_days=28, age_days=1000).factors(np.full(50_000, 100.0), seed=6)
    assert (factors == 0.0).mean() > 0.02
    assert np.log(factors.max()) <= LARGEST_ERROR + 0.01


def test_no_error_brings_more_than_the_open_deals_are_worth() -> None:
    learned = learn(past_of(np.random.default_rng(13).normal(0, 1.5, 60)), horizon_days=28, age_days=1000)
    revenue, most = np.linspace(50.0, 150.0, 1000), np.full(1000, 120.0)
    free, held = learned.factors(revenue, seed=7), learned.factors(revenue, seed=7, most=most)
    expected = np.minimum(free * revenue, np.maximum(most, revenue))
    np.testing.assert_allclose(held * revenue, expected, rtol=1e-12)
    assert (free * revenue > 200.0).any()


def test_what_went_wrong_a_year_ago_goes_wrong_again_only_where_it_did() -> None:
    rng = np.random.default_rng(14)
    before, noise = rng.normal(0, 1.0, 60), rng.normal(0, 0.1, 60)
    seasonal, steady = (
        past_of(errors + noise).assign(year_ago=before, tracked_year_ago=np.nan) for errors in (before, 0.0 * before)
    )
    told = {
        name: learn(past, horizon_days=28, age_days=1000, year_ago=(-1.5, np.nan))
        for name, past in (("seasonal", seasonal), ("steady", steady))
    }
    assert told["seasonal"].probability @ told["seasonal"].again == pytest.approx(1.0, abs=0.01)
    assert told["seasonal"].shift_moments[0] == pytest.approx(-1.5, abs=0.1)
    assert told["seasonal"].sd < 0.2
    assert told["steady"].probability @ told["steady"].again < 0.001
    assert "season" not in told["steady"].in_words()
    shares = replace(told["steady"], season=np.repeat([0.5, 1.5], 14))
    assert shares.in_words().endswith("; the season gives coming weeks 50% to 150% of a usual one")
    unknown = learn(seasonal, horizon_days=28, age_days=1000)
    assert abs(unknown.shift_moments[0]) < 0.5 < unknown.sd


def test_errors_a_year_before_are_those_of_the_same_dates() -> None:
    stays, as_of = stay_table(made_up(15, 800, days=800)), FIRST + timedelta(days=700)
    then = date(as_of.year - 1, as_of.month, as_of.day)
    found = errors_a_year_before(stays, known_at(stays, day_of(as_of)), horizons=(28, 366), seed=3)
    value = open_revenue(known_at(stays, day_of(then)), horizons=(28,), seed=3)[0]
    told = known_at(stays, day_of(then)).amount
    actual = known_at(stays, day_of(as_of)).revenue(
        after=day_of(then), until=day_of(then) + 28, open_deals_only=True, told=told
    )
    expected = log_error(pd.DataFrame({"mean": [value.mean], "sd": [value.sd], "actual": [actual]}))[0][0]
    assert found[28][0] == pytest.approx(expected, rel=1e-12)
    tracked = pd.DataFrame({"mean": [value.tracked_mean], "sd": [value.tracked_sd], "actual": [actual]})
    assert found[28][1] == pytest.approx(log_error(tracked)[0][0], abs=0.02)  # one per cent of another mean added
    assert np.isnan(found[366]).all()  # would have closed after the as-of date
    early = known_at(stays, day_of(FIRST) + 380)
    assert np.isnan(errors_a_year_before(stays, early, horizons=(28,), seed=3)[28]).all()  # history of two weeks
    past = past_forecasts(stays, as_of=as_of, horizon_days=28, seed=3)
    day, year_ago = past["as_of"].dt.date, past["year_ago"]
    assert year_ago[day >= FIRST + timedelta(days=430)].notna().all()
    assert year_ago[day < FIRST + timedelta(days=365)].isna().all()


def test_past_forecasts_are_spaced_closed_and_know_nothing_later() -> None:
    deals = made_up(8)
    as_of = FIRST + timedelta(days=330)
    past = past_forecasts(deals, as_of=as_of, horizon_days=28)
    assert set(past["horizon_days"]) == {28, 14}
    assert (past["as_of"] + pd.to_timedelta(past["horizon_days"], unit="D") <= pd.Timestamp(as_of)).all()
    assert set(past["as_of"].drop_duplicates().diff().dropna().dt.days) == {-spacing_days(28)}
    sooner = past_forecasts(deals, as_of=as_of - timedelta(days=70), horizon_days=28)
    both = past.merge(sooner, on=["as_of", "horizon_days"], suffixes=("", "_then"))
    assert len(both) > 20
    assert both["mean"].tolist() == both["mean_then"].tolist()
    assert both["sd"].tolist() == both["sd_then"].tolist()
    assert both["year_ago"].equals(both["year_ago_then"])


def test_amounts_that_double_at_the_win_are_no_error_of_calibration() -> None:
    """How amounts change is learned by the amount model, and a forecast must not be raised for it twice."""
    deals, as_of = made_up(22), FIRST + timedelta(days=330)
    steady = deals.entries.assign(amount=deals.deals["amount"].fillna(50.0).to_numpy()[deals.entries["deal"]])
    at_win = steady["stage"].isin(GRAPH.won_codes) & ~steady["deal"].duplicated(keep="last")
    doubled = steady.assign(amount=steady["amount"] * np.where(at_win, 2.0, 1.0))
    first, second = (
        past_forecasts(replace(deals, entries=entries), as_of=as_of, horizon_days=28) for entries in (steady, doubled)
    )
    assert first["actual"].sum() > 0.0
    pd.testing.assert_frame_equal(second, first)


def test_calibration_reads_no_amount_of_the_table_where_the_history_had_told_one_late() -> None:
    """Amounts are told a day after creation: what the deals table has is told after the as-of date."""
    deals, as_of = made_up(23), FIRST + timedelta(days=250)
    first = ~deals.entries["deal"].duplicated()
    entries = deals.entries.assign(amount=np.where(first, np.nan, deals.entries["deal"] % 7 + 10.0))
    told_again = entries.loc[first].assign(
        entered_on=lambda rows: rows["entered_on"] + np.timedelta64(1, "D"),
        moved=False,
        amount=lambda rows: rows["deal"] % 7 + 10.0,
    )
    told = pd.concat([entries, told_again]).sort_values(
        ["deal", "entered_on", "order"], kind="stable", ignore_index=True
    )
    known = set(told.loc[(told["entered_on"] <= pd.Timestamp(as_of)) & told["amount"].notna(), "deal"])
    noisy = deals.deals.assign(
        amount=np.where(np.isin(np.arange(deals.n_deals), list(known)), 1e6, deals.deals["amount"].to_numpy())
    )
    plain, loud = (
        own_calibration(replace(deals, deals=table, entries=told), as_of=as_of, horizon_days=28)
        for table in (deals.deals, noisy)
    )
    assert plain.origins > 20
    assert plain.probability.tobytes() == loud.probability.tobytes()


def test_calibration_reads_nothing_after_the_as_of_date() -> None:
    deals = made_up(9)
    as_of = FIRST + timedelta(days=250)
    late = deals.entries["entered_on"] > pd.Timestamp(as_of)
    rng = np.random.default_rng(10)
    entries = deals.entries.copy()
    entries.loc[late, "stage"] = rng.integers(0, 5, late.sum(), dtype=np.int32)
    entries.loc[late, "amount"] = rng.lognormal(9, 1, late.sum())
    noisy = Deals(**{**deals.__dict__, "entries": entries})
    first, second = (own_calibration(each, as_of=as_of, horizon_days=28) for each in (deals, noisy))
    assert first.probability.tobytes() == second.probability.tobytes()
    assert first.bias_mean.tobytes() == second.bias_mean.tobytes()
    assert first.origins > 20


def test_a_history_too_short_to_look_back_learns_nothing() -> None:
    deals = made_up(11)
    assert own_calibration(deals, as_of=FIRST + timedelta(days=20), horizon_days=28).origins == 0


def test_an_empty_pipeline_expects_nothing() -> None:
    stays = stay_table(made_up(12, 50))
    value = open_revenue(known_at(stays, day_of(FIRST) + 4000), horizons=(10, 20), seed=1)
    assert [(one.mean, one.sd) for one in value] == [(0.0, 0.0)] * 2


@pytest.mark.parametrize("threads", [2, 5])
def test_dates_side_by_side_give_the_same_forecasts_in_the_same_order(threads: int) -> None:
    deals, as_of, memory = made_up(21), FIRST + timedelta(days=300), Memory()
    alone = past_forecasts(deals, as_of=as_of, horizon_days=28, seed=3, threads=1)
    together = past_forecasts(deals, as_of=as_of, horizon_days=28, seed=3, memory=memory, threads=threads)
    again = past_forecasts(deals, as_of=as_of, horizon_days=28, seed=3, memory=memory, threads=threads)
    assert len(alone) > 20
    pd.testing.assert_frame_equal(together, alone, check_exact=True)
    pd.testing.assert_frame_equal(again, alone, check_exact=True)
