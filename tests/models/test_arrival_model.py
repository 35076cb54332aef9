"""The arrival model against closed forms, planted series and the laws of its streams."""

import json
from dataclasses import replace
from datetime import date, timedelta

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from models.amounts import ALL_WON, AmountPosterior
from models.arrivals.level import (
    LEVEL_SDS,
    NOISE_SHAPES,
    ODD_SHARES,
    filter_levels,
    weekly_counts,
)
from models.arrivals.level_kernel import LASTING, ODD_SHAPE, SHARE_UP, STEP_SHAPE, filter_weeks, log_negative_binomial
from models.arrivals.mix import (
    CHANGED_WEEKS_AGO,
    HALF_LIFE_WEEKS,
    HORIZON_WEEKS,
    LARGEST_TOTAL,
    LONG_RUN_ARRIVALS,
    PRIOR,
    draw_mix,
    memory_odds,
)
from models.arrivals.model import ArrivalPosterior, daily_intensity, fit_arrivals
from models.errors import SettingsError

AS_OF = date(2026, 6, 30)
CELLS = np.zeros((1, 0), dtype=np.int32)
DRAWS = 400


def plain_amounts(draws: int = DRAWS) -> AmountPosterior:
    one = np.ones((draws, 1))
    return AmountPosterior(one, 0 * one, one, np.array([10.0]), np.array([0, 1]), 0 * one, (ALL_WON,))


def deals(counts: np.ndarray, *, segment: str = "", as_of: date = AS_OF) -> pd.DataFrame:
    """One row per arrival; ``counts`` by day, the last one on the as-of date."""
    days = pd.date_range(end=pd.Timestamp(as_of), periods=len(counts))
    return pd.DataFrame({"arrived_on": np.repeat(days, counts), "stage": 0, "cell": 0, "segment": segment})


def fit(rows: pd.DataFrame, *, draws: int = DRAWS, seed: int = 1, as_of: date = AS_OF) -> ArrivalPosterior:
    return fit_arrivals(rows, plain_amounts(draws), as_of=as_of, cells=CELLS, draws=draws, seed=seed)


def planted(
    draws: int, *, rate: float = 7.0, level_sd: float = 0.0, noise: float = np.inf, groups: int = 1
) -> ArrivalPosterior:
    shape = (draws, groups)
    return ArrivalPosterior(
        as_of=AS_OF,
        groups=tuple(f"g{place}" for place in range(groups)),
        cells=CELLS,
        combo_cell=np.zeros(groups, dtype=np.int64),
        combo_stage=np.zeros(groups, dtype=np.int64),
        combo_group=np.arange(groups),
        combo_pool=np.zeros(groups, dtype=np.int64),
        mix=np.ones(shape),
        log_level=np.full(shape, np.log(rate)),
        growth=np.zeros(shape),
        level_sd=np.full(shape, level_sd),
        noise_shape=np.full(shape, noise),
        odd_share=np.zeros(shape),
        common=0.0,
        season=np.ones((draws, 12)),
        year=np.ones(366),
        by_year=np.zeros(draws, dtype=np.bool_),
        weekday=np.full((*shape, 7), 1 / 7),
    )


def test_poisson_limit_is_the_planted_rate() -> None:
    intensity = daily_intensity(planted(3, rate=14.0), days=10, draws=np.arange(3), seed=1)
    np.testing.assert_allclose(intensity, 2.0)


def test_noise_and_level_have_their_closed_forms() -> None:
    """Weekly sums: mean kept, relative variance exp(k sd^2) (1 + 1/r) - 1 after k steps."""
    draws, sd, shape = 40_000, 0.15, 8.0
    weekly = daily_intensity(planted(draws, level_sd=sd, noise=shape), days=28, draws=np.arange(draws), seed=3)
    sums = weekly.reshape(draws, 4, 7).sum(2)
    exact = np.exp(np.arange(1, 5) * sd**2) * (1 + 1 / shape) - 1
    np.testing.assert_allclose(sums.mean(0), 7.0, rtol=0.02)
    np.testing.assert_allclose(sums.var(0) / 49, exact, rtol=0.05)


def test_groups_share_surprises_as_stated() -> None:
    shared = replace(planted(20_000, level_sd=0.2, groups=2), common=0.6)
    log_level = np.log(daily_intensity(shared, days=7, draws=np.arange(20_000), seed=5)[:, :, 0])
    assert np.corrcoef(log_level.T)[0, 1] == pytest.approx(0.6, abs=0.02)


def test_streams_hang_on_the_draw_alone() -> None:
    arrivals = planted(50, level_sd=0.1, noise=5.0, groups=2)
    whole = daily_intensity(arrivals, days=60, draws=np.arange(50), seed=9)
    some = np.array([41, 3, 17])
    np.testing.assert_array_equal(daily_intensity(arrivals, days=60, draws=some, seed=9), whole[some])
    np.testing.assert_array_equal(daily_intensity(arrivals, days=25, draws=np.arange(50), seed=9), whole[..., :25])
    assert (daily_intensity(arrivals, days=60, draws=some, seed=10) != whole[some]).any()


def test_gamma_poisson_is_exact_in_the_limit() -> None:
    """Without mobility, growth and noise the filter is the conjugate update of a Gamma(1, 1 / mean) prior."""
    counts = np.array([[3.0], [5.0], [0.0], [4.0]])
    grid = filter_levels(counts, np.ones_like(counts))
    still = (grid.level_sd == 0) & np.isinf(grid.noise_shape) & (grid.growth == 0) & (grid.odd_share == 0)
    prior_rate = 1 / ((12 + 0.5) / (4 + 0.5))
    assert grid.shape[0, still].item() == pytest.approx(1 + 12)
    assert grid.rate[0, still].item() == pytest.approx(prior_rate + 4)
    evidence = stats.nbinom.logpmf(3, 1, prior_rate / (prior_rate + 1))
    evidence += stats.nbinom.logpmf(5, 4, (prior_rate + 1) / (prior_rate + 2))
    evidence += stats.nbinom.logpmf(0, 9, (prior_rate + 2) / (prior_rate + 3))
    evidence += stats.nbinom.logpmf(4, 9, (prior_rate + 3) / (prior_rate + 4))
    prior = np.log(LEVEL_SDS[0.0] * NOISE_SHAPES[np.inf] * 0.5 * ODD_SHARES[0.0])
    assert grid.log_weight[0, still].item() == pytest.approx(prior + evidence)


def test_negative_binomial_sums_to_one_with_its_moments() -> None:
    counts = np.arange(2000.0)
    p = np.exp([log_negative_binomial(count, 6.0, 0.4) for count in counts])
    mean = (p * counts).sum()
    assert p.sum() == pytest.approx(1)
    assert mean == pytest.approx(6)
    assert (p * counts**2).sum() - mean**2 == pytest.approx(6 + 0.4 * 36)


def test_no_week_is_cut_short() -> None:
    """Every arrival after the first day is counted once, and exposure adds up to the days watched."""
    rng = np.random.default_rng(4)
    day = np.concatenate([[-100], -rng.integers(0, 100, 300)])
    counts, exposure = weekly_counts(day, np.zeros(301, dtype=np.int64), 1)
    assert counts.sum() == 300
    assert exposure.sum() * 7 == pytest.approx(100)


def simulated_weeks(
    rng: np.random.Generator, weeks: int, *, rate: float, level_sd: float, growth: float, noise: float
) -> np.ndarray:
    level = np.log(rate) + np.cumsum(rng.normal(growth, level_sd, weeks))
    return rng.poisson(np.exp(level) * rng.gamma(noise, 1 / noise, weeks))


@pytest.mark.parametrize(
    ("level_sd", "growth", "noise"),
    [(0.0, 0.0, 1e6), (0.0, 0.0, 6.0), (0.06, 0.0, 20.0), (0.0, 0.008, 30.0)],
    ids=["poisson", "overdispersed", "moving", "growing"],
)
def test_ranges_of_weekly_counts_hold(level_sd: float, growth: float, noise: float) -> None:
    """80 % ranges of the next 1, 4 and 12 weeks over sixty series cover as the binomial allows (ends included)."""
    rng, series, horizon = np.random.default_rng([int(1000 * level_sd), int(1e4 * growth), int(noise)]), 60, 12
    hits = np.zeros(3)
    for seed in range(series):
        weekly = simulated_weeks(rng, 60 + horizon, rate=12.0, level_sd=level_sd, growth=growth, noise=noise)
        by_day = np.stack([rng.multinomial(n, np.full(7, 1 / 7)) for n in weekly]).ravel()
        fitted = fit(deals(by_day[: 60 * 7]), seed=seed)
        intensity = daily_intensity(fitted, days=7 * horizon, draws=np.arange(DRAWS), seed=seed)[:, 0]
        counts = np.cumsum(rng.poisson(intensity.reshape(DRAWS, horizon, 7).sum(2)), axis=1)
        for place, weeks in enumerate((1, 4, 12)):
            lower, upper = np.quantile(counts[:, weeks - 1], [0.1, 0.9])
            hits[place] += lower <= weekly[60 : 60 + weeks].sum() <= upper
    assert (hits >= stats.binom.ppf(0.001, series, 0.8)).all(), hits
    assert (hits <= stats.binom.ppf(0.9995, series, 0.9)).all(), hits


def total_width(fitted: ArrivalPosterior, days: int) -> float:
    counts = daily_intensity(fitted, days=days, draws=np.arange(fitted.n_draws), seed=1).sum((1, 2))
    return float(np.subtract(*np.quantile(counts, [0.9, 0.1])) / np.median(counts))


def test_little_history_is_wide_and_ranges_widen() -> None:
    rng = np.random.default_rng(6)
    long, short = fit(deals(rng.poisson(3, 7 * 80))), fit(deals(rng.poisson(3, 14)))
    assert total_width(short, 28) > 1.5 * total_width(long, 28)
    rate = daily_intensity(long, days=182, draws=np.arange(DRAWS), seed=1)[:, 0]
    assert rate[:, -7:].sum(1).std() > rate[:, :7].sum(1).std()


def test_a_dead_holiday_week_does_not_blur_the_others() -> None:
    """Two empty weeks a year are odd weeks: the level is kept, and typical weeks keep their narrow range."""
    weekly = np.random.default_rng(12).poisson(40, 104)
    weekly[[38, 39, 90, 91]] = 0
    by_day = np.repeat(weekly // 7, 7)
    usual, shaken = fit(deals(np.full(728, 6))), fit(deals(by_day))
    assert np.exp(shaken.log_level).mean() == pytest.approx(by_day[by_day > 0].mean() * 7, rel=0.1)
    assert shaken.odd_share.mean() > 0.04 > usual.odd_share.mean()
    assert np.mean(shaken.noise_shape >= 10) > 0.9


def test_weekends_stay_quiet() -> None:
    days = pd.date_range(end=pd.Timestamp(AS_OF), periods=364)
    fitted = fit(deals(np.where(days.weekday < 5, 4, 0)))
    share = fitted.weekday.mean((0, 1))
    assert share[5:].max() < 0.005
    intensity = daily_intensity(fitted, days=14, draws=np.arange(DRAWS), seed=1).mean((0, 1))
    weekend = pd.date_range("2026-07-01", periods=14).weekday >= 5
    assert intensity[weekend].max() < 0.1 * intensity[~weekend].min()


@pytest.mark.parametrize(("years", "believed"), [(4, True), (1, False)])
def test_season_needs_years(years: int, believed: bool) -> None:
    rng = np.random.default_rng(8)
    days = pd.date_range(end=pd.Timestamp(AS_OF), periods=years * 365)
    factor = np.where(days.month.isin([7, 8]), 0.4, 1.0)
    fitted = fit(deals(rng.poisson(4 * factor)))
    summer = fitted.season[:, 6:8].mean() / fitted.season[:, :6].mean()
    assert (summer < 0.6) == believed
    if not believed:
        np.testing.assert_array_equal(fitted.season, 1.0)


def test_no_season_is_not_invented() -> None:
    fitted = fit(deals(np.random.default_rng(9).poisson(4, 4 * 365)))
    effects = np.log(fitted.season).mean(0)
    assert np.abs(effects).max() < 0.1


def each_march(years: int, *, rate: float, as_of: date, late_days: int = 0) -> pd.DataFrame:
    """Deals that arrive in the first twenty days of March, every second year some days late."""
    days = pd.date_range(end=pd.Timestamp(as_of), periods=365 * years)
    begins = 1 + late_days * (days.year % 2)
    batch = (days.month == 3) & (days.day >= begins) & (days.day < begins + 20)
    return deals(np.random.default_rng(14).poisson(np.where(batch, rate, 0.0)), as_of=as_of)


@pytest.mark.parametrize("late_days", [0, 5])
@pytest.mark.parametrize("years", [2, 4])
def test_a_yearly_batch_comes_back(years: int, late_days: int) -> None:
    """Some 240 deals each March, nothing else: next March brings as many, and not one month before it."""
    as_of = date(2026, 1, 15)
    fitted = fit(each_march(years, rate=12.0, as_of=as_of, late_days=late_days), as_of=as_of)
    by_day = daily_intensity(fitted, days=180, draws=np.arange(DRAWS), seed=1)[:, 0]
    around_march = slice(35, 80)  # 20 February to 5 April
    assert fitted.by_year.mean() > 0.9
    low, middle, high = np.quantile(by_day[:, around_march].sum(1), [0.1, 0.5, 0.9])
    assert low < 240 < high
    assert 150 < middle < 340
    assert by_day[:, :30].sum(1).mean() < 24 > by_day[:, 106:].sum(1).mean()


def batches(days: int, years: range, *, month: int = 1, number: int = 100, segment: str = "") -> pd.DataFrame:
    """So many deals in the first days of the month of every year."""
    rng, arrived = np.random.default_rng(16), []
    for year in years:
        first = pd.Timestamp(year=year, month=month, day=1)
        arrived.append(first + pd.to_timedelta(rng.integers(0, days, number), unit="D"))
    return pd.DataFrame({"arrived_on": np.concatenate(arrived), "stage": 0, "cell": 0, "segment": segment})


def in_days(rows: pd.DataFrame, as_of: date, *, days: int, draws: int = DRAWS) -> np.ndarray:
    """Draws of the number of deals expected in the days after the as-of date, shape (draw, group)."""
    fitted = fit(rows[rows["arrived_on"] <= pd.Timestamp(as_of)], as_of=as_of, draws=draws)
    return daily_intensity(fitted, days=days, draws=np.arange(draws), seed=1).sum(2)


@pytest.mark.parametrize("days", [1, 5, 20])
@pytest.mark.parametrize(
    ("as_of", "soon"),
    [
        (date(2025, 11, 30), 1.0),
        (date(2025, 12, 31), 1.0),  # the day before the batch begins
        (date(2026, 1, 10), None),  # when one of twenty days is half over
        (date(2026, 1, 25), 0.0),
    ],
)
def test_a_batch_is_foretold_from_any_date(days: int, as_of: date, soon: float | None) -> None:
    """Some 100 deals from 1 January on for five years: how many come within ninety days, and within a year."""
    rows = batches(days, range(2021, 2027))
    share = (0.5 if days == 20 else 0.0) if soon is None else soon
    near, year = (in_days(rows, as_of, days=span)[:, 0] for span in (90, 365))
    assert near.mean() == pytest.approx(100 * share, rel=0.2, abs=2)
    assert year.mean() == pytest.approx(100, rel=0.2)
    assert np.quantile(year, 0.1) < 100 < np.quantile(year, 0.9)


def test_batches_of_many_years_and_of_segments_of_different_age_are_foretold() -> None:
    as_of = date(2026, 1, 15)
    assert in_days(batches(20, range(2018, 2026), month=3), as_of, days=120).mean() == pytest.approx(100, rel=0.15)
    old, young = (
        batches(1, range(2022, 2026), month=3, segment="a"),
        batches(1, range(2025, 2026), month=3, segment="b"),
    )
    assert in_days(pd.concat([old, young]), as_of, days=120).mean(0) == pytest.approx(100, rel=0.2)


def test_labels_do_not_make_the_yearly_number_surer() -> None:
    """Years that differ by half, told apart into ten segments at random: all segments share what a year brings."""
    years = [
        batches(20, range(year, year + 1), month=3, number=n)
        for year, n in zip(range(2022, 2026), (200, 400, 150, 300), strict=True)
    ]
    rows, rng = pd.concat(years), np.random.default_rng(17)
    spreads = [
        np.log(
            in_days(
                rows.assign(segment=rng.integers(0, n, len(rows)).astype(str)), date(2026, 1, 15), days=120, draws=2000
            ).sum(1)
        ).std()
        for n in (1, 10)
    ]
    assert spreads[1] == pytest.approx(spreads[0], rel=0.1)


def test_a_batch_seen_once_is_no_habit() -> None:
    """Nor is an import in the middle of a history of new deals every day."""
    as_of = date(2026, 1, 15)
    assert not fit(each_march(1, rate=12.0, as_of=as_of), as_of=as_of).by_year.any()
    counts = np.random.default_rng(15).poisson(3, 3 * 365)
    counts[500] = 3000
    assert fit(deals(counts)).by_year.mean() < 0.05


def test_an_odd_week_is_weighed_as_luck_and_as_a_new_level() -> None:
    """One week after a belief that is known: chances by scipy's negative binomial, beliefs as gammas of known moments."""
    counts, mean, shape, odd = 40.0, 10.0, 50.0, 0.05
    belief, settings = (np.array([mean]), np.array([shape])), np.array([[0.0], [30.0], [0.0], [odd]])
    one = np.ones(1)
    score, expected, extra = filter_weeks(counts * one, one, np.ones((1, 1)), settings, *belief)
    usual, passing = (1 / shape + (1 + 1 / shape) / noise for noise in (30.0, ODD_SHAPE))
    new = (1 + 1 / shape) * (1 + 1 / STEP_SHAPE) - 1
    told, beliefs = [], []
    for prior, level, more, noise in (
        (1 - odd, mean, usual, 30.0),
        (odd * (1 - LASTING), mean, passing, ODD_SHAPE),
        (odd * LASTING * (1 - SHARE_UP), mean / 3, new, np.inf),
        (odd * LASTING * SHARE_UP, mean * 3, new, np.inf),
    ):
        told.append(prior * stats.nbinom.pmf(counts, 1 / more, 1 / (1 + level * more)))
        a, trust = shape if level == mean else 1 / new, 1 / (1 + level / noise)
        beliefs.append(stats.gamma(a + trust * counts, scale=1 / (a / level + trust)))
    share = np.array(told) / sum(told)
    first, second = (sum(share * [each.moment(power) for each in beliefs]) for power in (1, 2))
    assert score.item() == pytest.approx(np.log(sum(told)))
    assert expected.item() == pytest.approx(mean)
    assert extra.item() == pytest.approx((1 - odd) * usual + odd * passing)
    assert belief[0].item() == pytest.approx(first)
    assert belief[1].item() == pytest.approx(first**2 / (second - first**2))


@pytest.mark.parametrize(
    ("weeks", "times", "low", "high"),
    [
        (2, 0.0, 0.9, 1.1),
        (1, 5.0, 1.0, 2.0),
        (2, 5.0, 2.5, 5.5),
        (5, 5.0, 4.0, 6.0),
        (6, 1 / 3, 0.25, 0.65),
        (10, 0.0, 0.0, 0.1),
    ],
)
def test_a_new_level_is_believed_after_weeks_and_holidays_are_not_one(
    weeks: int, times: float, low: float, high: float
) -> None:
    rng = np.random.default_rng(21)
    counts = np.concatenate([rng.poisson(4.0, 728 - 7 * weeks), rng.poisson(4.0 * times, 7 * weeks)])
    level = np.exp(fit(deals(counts), draws=2000).log_level).mean() / 28.0
    assert low <= level <= high


@pytest.mark.parametrize("seed", [19, 22])
def test_a_launch_after_quiet_holidays_is_no_yearly_batch(seed: int) -> None:
    """Six deals a week in the first year, none over the holidays, then sixty: a level, not the return of a season."""
    counts = np.random.default_rng(seed).poisson(np.repeat([6 / 7, 0.0, 60 / 7], [355, 14, 120]))
    for passed in range(82, 100):
        as_of = date(2026, 1, 1) + timedelta(days=passed)
        fitted = fit(deals(counts[: 355 + 14 + passed], as_of=as_of), draws=50, as_of=as_of)
        assert fitted.by_year.mean() < 0.15, as_of


def test_deals_all_entered_on_one_day_a_year() -> None:
    counts = np.zeros(3 * 365, dtype=np.int64)
    counts[[40, 405, 770]] = 100
    fitted = fit(deals(counts))
    expected = daily_intensity(fitted, days=365, draws=np.arange(DRAWS), seed=1)[:, 0]
    assert np.quantile(expected.sum(1), 0.1) < 100 < np.quantile(expected.sum(1), 0.9)
    assert expected[:, 20:60].sum() > 0.7 * expected.sum()


def test_segments_with_common_luck_are_seen_to_share_it() -> None:
    rng = np.random.default_rng(10)
    weeks = 150
    luck = rng.gamma(4, 1 / 4, weeks)
    together = [deals(rng.poisson(np.repeat(luck, 7) * 4), segment=name) for name in ("a", "b", "c")]
    apart = [deals(rng.poisson(np.repeat(rng.gamma(4, 1 / 4, weeks), 7) * 4), segment=name) for name in ("a", "b", "c")]
    assert fit(pd.concat(together)).common > 0.6
    assert fit(pd.concat(apart)).common < 0.3


def test_kinds_keep_their_shares() -> None:
    rng = np.random.default_rng(11)
    rows = pd.concat([deals(rng.poisson(3, 300), segment=name) for name in ("a", "b")])
    rows["stage"] = rng.choice(2, len(rows), p=[0.75, 0.25])
    fitted = fit(rows)
    for group in range(2):
        member = fitted.combo_group == group
        np.testing.assert_allclose(fitted.mix[:, member].sum(1), 1.0)
        assert fitted.mix[:, member & (fitted.combo_stage == 0)].mean() == pytest.approx(0.75, abs=0.06)


@pytest.mark.parametrize("weeks", [9, 30, 52])
def test_kinds_that_came_up_lately_rule_the_next_ones(weeks: int) -> None:
    """Leads are recorded for some weeks only: before, deals began in the second stage."""
    rng = np.random.default_rng(11)
    rows = deals(rng.poisson(2, 730))
    day = (pd.to_datetime(rows["arrived_on"]).max() - pd.to_datetime(rows["arrived_on"])).dt.days
    rows["stage"] = np.where((day < 7 * weeks) & (rng.random(len(rows)) < 0.8), 0, 1)
    fitted = fit(rows)
    assert fitted.mix[:, fitted.combo_stage == 0].mean() == pytest.approx(0.8, abs=0.1)
    assert fitted.mix[:, fitted.combo_stage == 0].std() < 0.12


def test_ways_to_remember_are_weighed_by_how_well_they_foretold_each_week() -> None:
    """Against single arrivals foretold one after the other."""
    rng = np.random.default_rng(3)
    counts, group = rng.poisson(2.0, (12, 3)).astype(float), np.array([0, 0, 1])
    counts[6:, 0] += 4.0
    odds, shape = memory_odds(counts, group)
    n_totals = len(LARGEST_TOTAL)
    np.testing.assert_allclose(odds[1], np.repeat(PRIOR[:, None], n_totals, axis=1) / n_totals)  # nothing to foretell
    scores = np.zeros((len(PRIOR), n_totals))
    for place, total in np.ndindex(scores.shape):
        held, ever, most = np.zeros(2), np.full(2, 0.5), LARGEST_TOTAL[total]
        for number, week in enumerate(counts[:, :2]):
            held = held * (len(counts) - number != CHANGED_WEEKS_AGO[place])
            expected = held + LONG_RUN_ARRIVALS * ever / ever.sum()
            expected = expected * min(1.0, most / expected.sum())
            for kind in np.repeat([0, 1], week.astype(int)):  # Polya's urn; the order of a week's arrivals is not known
                scores[place, total] += np.log(expected[kind] / expected.sum())
                expected[kind] += 1.0
            held, ever = held * 0.5 ** (1.0 / HALF_LIFE_WEEKS[place]) + week, ever + week
        left = held + LONG_RUN_ARRIVALS * ever / ever.sum()
        np.testing.assert_allclose(shape[place, total, :2], left * min(1.0, HORIZON_WEEKS * most / left.sum()))
    expected_odds = np.exp(scores - scores.max()) * PRIOR[:, None]
    np.testing.assert_allclose(odds[0], expected_odds / expected_odds.sum(), rtol=1e-10)
    assert PRIOR.sum() == pytest.approx(1.0)


def test_a_draw_remembers_all_kinds_of_a_group_alike() -> None:
    counts = np.zeros((60, 4))
    counts[:30, [0, 2]], counts[30:, [1, 3]] = 3.0, 3.0
    mix = draw_mix(counts, np.array([0, 0, 1, 1]), draws=2000, rng=np.random.default_rng(1))
    np.testing.assert_allclose(mix[:, :2].sum(axis=1), 1.0)
    odds, shape = memory_odds(counts, np.array([0, 0, 1, 1]))
    mean = (odds[0] * shape[:, :, 1] / shape[:, :, :2].sum(axis=2)).sum()
    assert mix[:, 1].mean() == pytest.approx(float(mean), abs=0.01)
    assert abs(np.corrcoef(mix[:, 1], mix[:, 3])[0, 1]) < 0.1


def test_batches_of_a_kind_do_not_pass_for_a_change() -> None:
    """Thirty of one kind come every quarter: the long run's share is right, this week as seven weeks after the last ones."""
    rng = np.random.default_rng(2)
    counts = rng.poisson(5.0, (104, 2)) * np.array([1.0, 0.0])
    for since in (1, 4, 7):
        batched = counts.copy()
        batched[-since::-13, 1] += 30.0
        mix = draw_mix(batched, np.zeros(2, dtype=int), draws=500, rng=np.random.default_rng(1))
        assert mix[:, 1].mean() == pytest.approx(30 / 95, abs=0.1)


def test_nothing_after_the_as_of_date_is_seen() -> None:
    rows = deals(np.full(200, 2))
    later = pd.concat([rows, deals(np.full(30, 50), as_of=date(2026, 7, 30))])
    one, two = fit(rows), fit(later)
    for name, values in one.to_arrays()[0].items():
        np.testing.assert_array_equal(getattr(two, name), values)


def test_saved_and_loaded_is_the_same() -> None:
    fitted = fit(deals(np.full(100, 2)))
    arrays, meta = fitted.to_arrays()
    again = ArrivalPosterior.from_arrays(arrays, json.loads(json.dumps(meta)))
    assert (again.as_of, again.groups, again.common) == (fitted.as_of, fitted.groups, fitted.common)
    for name, values in arrays.items():
        np.testing.assert_array_equal(getattr(again, name), values)


@pytest.mark.parametrize("counts", [[], [1], [0, 3, 0]], ids=["none", "one today", "one day"])
def test_hardly_any_history_is_legal(counts: list[int]) -> None:
    fitted = fit(deals(np.array(counts, dtype=int)))
    intensity = daily_intensity(fitted, days=30, draws=np.arange(DRAWS), seed=1)
    assert intensity.shape == (DRAWS, len(fitted.groups), 30)
    assert np.isfinite(intensity).all()


def test_columns_must_fit_the_groups() -> None:
    with pytest.raises(SettingsError, match="one column per group"):
        replace(planted(3), groups=("a", "b"))
