"""Seasons of exits: found where they are, not where they are not, and equal to what slow and plain code makes of them."""

from dataclasses import replace
from datetime import date

import numpy as np
import pytest
from scipy import stats

from benchmarks.accuracy.companies import Exit, World, deals_of, make_company
from forecasting.proof.quick_chain import open_revenue
from forecasting.proof.stay_table import day_of, known_at, stay_table
from models.levels.season import (
    DAYS_IN_YEAR,
    MEMORY_WEEKS,
    MIN_WEEKS,
    SEASON_PRIOR,
    WAYS,
    WEEK_SIZE,
    YEAR_WEEKS,
    yearly_factors,
)


def planted(weeks: int, *, seed: int, busy: float = 3.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Exits with five busy weeks in a year, what was expected without knowing of them, and the true factor."""
    truth = np.where(np.arange(weeks + YEAR_WEEKS) * 7 % DAYS_IN_YEAR < 35, busy, 1.0)
    truth = truth / truth[:weeks].mean()
    expected = np.full(weeks, 30.0)
    return np.random.default_rng(seed).poisson(expected * truth[:weeks]).astype(float), expected, truth


def test_a_season_is_found_and_carried_on() -> None:
    exits, expected, truth = planted(160, seed=1)
    coming = yearly_factors(exits, expected, ahead=YEAR_WEEKS)[160:]
    busy = truth[160:] > 1.5
    assert coming[busy].mean() == pytest.approx(truth[160:][busy].mean(), rel=0.2)  # edges are smooth
    assert coming[~busy].mean() == pytest.approx(truth[160:][~busy].mean(), rel=0.1)


@pytest.mark.parametrize("moving", [0.0, 0.1])
def test_without_a_season_weeks_stay_alike(moving: float) -> None:
    off = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        level = np.exp(moving * np.cumsum(rng.normal(0.0, 1.0, 130)))  # levels that wander are none
        exits = rng.poisson(20.0 * level / level.mean()).astype(float)
        off.append(np.abs(np.log(yearly_factors(exits, np.full(130, 20.0), ahead=8)[130:])).mean())
    assert np.mean(off) < 0.02
    assert np.quantile(off, 0.9) < 0.05


@pytest.mark.parametrize("weeks", [66, 91])
@pytest.mark.parametrize("once", [0.1, 2.5])
def test_what_happened_once_is_no_season_before_a_year_has_passed(weeks: int, once: float) -> None:
    odd = slice(weeks - YEAR_WEEKS, weeks - YEAR_WEEKS + 8)  # the same weeks of the year as those to come
    factors = []
    for seed in range(20):
        level = np.ones(weeks)
        level[odd] = once
        exits = np.random.default_rng(seed).poisson(60.0 * level / level.mean()).astype(float)
        factors.append(yearly_factors(exits, np.full(weeks, 60.0), ahead=4)[weeks:].mean())
    assert 0.85 < np.mean(factors) < 1.2


def test_a_short_history_and_one_without_exits_tell_nothing() -> None:
    exits, expected, _ = planted(MIN_WEEKS - 1, seed=2)
    assert (yearly_factors(exits, expected, ahead=4) == 1.0).all()
    assert (yearly_factors(np.zeros(120), np.full(120, 2.0), ahead=4) == 1.0).all()


def test_weeks_in_which_nothing_was_expected_do_no_harm() -> None:
    exits, expected, _ = planted(120, seed=3)
    exits[20:90] = expected[20:90] = 0.0
    factor = yearly_factors(exits, expected, ahead=60)
    assert np.isfinite(factor).all()
    assert (factor > 0.0).all()


def test_factors_equal_plain_code() -> None:
    exits, _, _ = planted(110, seed=4)
    expected = np.random.default_rng(5).uniform(5.0, 60.0, 110)
    ways = [np.ones(130), *(plain_factors(exits, expected, nearby, prior, 130) for nearby, prior in WAYS)]
    prior = np.array([1.0 - SEASON_PRIOR, *np.full(len(WAYS), SEASON_PRIOR / len(WAYS))])
    score = np.array([plain_score(exits[YEAR_WEEKS:], (expected * each[:110])[YEAR_WEEKS:]) for each in ways])
    weight = prior * np.exp(score - score.max())
    found = yearly_factors(exits, expected, ahead=20)
    np.testing.assert_allclose(found, weight @ np.stack(ways) / weight.sum(), rtol=1e-9)
    changed = exits.copy()
    changed[-1] += 100.0  # the last week may tell which way is right, but no factor of a week before is made of it
    before, after = (plain_factors(each, expected, *WAYS[0], 130)[YEAR_WEEKS:110] for each in (exits, changed))
    np.testing.assert_array_equal(before, after)


def plain_factors(exits: np.ndarray, expected: np.ndarray, nearby: np.ndarray, prior: float, weeks: int) -> np.ndarray:
    """Factors by the formula of the module, week by week."""
    known, reach = len(exits), len(nearby) // 2

    def smooth(values: np.ndarray, week: int) -> float:
        near = [
            (nearby[lag + reach], values[week + lag]) for lag in range(-reach, reach + 1) if 0 <= week + lag < known
        ]
        return sum(share * value for share, value in near) / sum(share for share, _ in near)

    def level(week: int) -> float:
        begin = min(max(week - YEAR_WEEKS // 2, 0), known - YEAR_WEEKS)
        return exits[begin : begin + YEAR_WEEKS].sum() / expected[begin : begin + YEAR_WEEKS].sum()

    found = np.empty(weeks)
    for week in range(weeks):
        back = [week - round(years * DAYS_IN_YEAR / 7) for years in range(1, 9)] if week >= YEAR_WEEKS else [week]
        same = [each for each in back if 0 <= each < known]
        came, told = (
            sum(smooth(exits, each) for each in same),
            sum(smooth(expected, each) * level(each) for each in same),
        )
        found[week] = (came + prior) / (told + prior)
    return found


def plain_score(exits: np.ndarray, expected: np.ndarray) -> float:
    """Log probability of all weeks, mean over the ways in which their level may move."""
    ways = []
    for memory in MEMORY_WEEKS:
        for size in WEEK_SIZE:
            shape, rate, score = 1.0, 1.0, 0.0
            for seen, usual in zip(exits, expected, strict=True):
                shape, rate = (1.0 + 0.5 ** (1.0 / memory) * (value - 1.0) for value in (shape, rate))
                mean = usual * shape / rate
                own = 1.0 / ((1.0 + 1.0 / shape) * (1.0 + 1.0 / size) - 1.0)
                score += stats.nbinom.logpmf(seen, own, own / (own + mean))
                trust = size / (size + mean)
                shape, rate = shape + trust * seen, rate + trust * usual
            ways.append(score)
    return float(np.logaddexp.reduce(ways) - np.log(len(ways)))


@pytest.mark.parametrize("lost_from_last_stage", [0.01, 0.0])
def test_the_quick_forecast_knows_summers_and_ends_of_years(lost_from_last_stage: float) -> None:
    down = Exit(0.03), Exit(0.015), Exit(lost_from_last_stage)
    world = World(days=3 * 365 + 366, win_factor="slow summer", deals_per_day=3.0, down=down)
    stays = stay_table(deals_of(world, make_company(world, np.random.default_rng(6))))
    for as_of, low, high in ((date(2025, 6, 30), 0.4, 0.75), (date(2025, 10, 31), 1.25, 2.5)):
        told = open_revenue(known_at(stays, day_of(as_of)), horizons=(30,), seed=1)[0]
        assert low < told.tracked_mean / told.mean < high
    to_december, to_june = open_revenue(known_at(stays, day_of(date(2025, 5, 31))), horizons=(213, 30), seed=1)
    coming = np.array(to_december.season)
    assert coming[30:92].mean() < 0.75 < 1.3 < coming[153:].mean()
    assert to_june.season == to_december.season[:30]
    assert set(open_revenue(known_at(stays, day_of(date(2023, 3, 1))), horizons=(30,), seed=1)[0].season) == {1.0}


def test_the_season_does_not_hang_on_a_deal_being_open() -> None:
    world = World(days=3 * 365, win_factor="slow summer", deals_per_day=2.0)
    company = make_company(world, np.random.default_rng(8))
    known = known_at(stay_table(deals_of(world, company)), day_of(date(2024, 10, 31)))
    ended = ~known.is_open
    columns = {
        name: getattr(known, name)[ended]
        for name in ("deal", "stage", "exit_code", "entered", "left", "unseen", "stands", "entry_amount")
    }
    closed = replace(known, **columns)
    value = open_revenue(closed, horizons=(60, 30), seed=1)
    assert value[0].mean == value[0].tracked_mean == 0.0
    assert np.mean(value[0].season) > 1.3
    assert value[1].season == value[0].season[:30]
