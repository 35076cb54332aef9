"""Levels of the moment in the quick chain: revenue read off a grid, for more draws than could be worked out one by one."""

import numpy as np
import pytest

from forecasting.data.known_entries import NEVER
from forecasting.proof.quick_chain import _Spread, open_revenue
from forecasting.proof.stay_table import StayTable, known_at

Floats = np.ndarray


def worth(factor: Floats) -> tuple[Floats, Floats]:
    """Revenue and luck of a hundred deals of 5, won or lost within thirty days at hazards of .03 and .02."""
    won, lost = 0.03 * factor[:, 0, 0], 0.02 * factor[:, 0, 1]
    chance = won / (won + lost) * -np.expm1(-30.0 * (won + lost))
    return 500.0 * chance, 2500.0 * chance * (1.0 - chance)


def test_revenue_read_off_the_grid_is_that_worked_out_draw_by_draw() -> None:
    """With heavy tails and a season, the variance of what is not known of the hazards in proportion."""
    rng = np.random.default_rng(3)
    levels = np.clip(0.3 * rng.standard_t(3.0, (2, 1024)), -3.0, 3.0)
    season = np.array([[1.4, 0.9]])
    usual = _Spread(mean=250.0, unknown=100.0, luck=4.0)
    now = usual.at_levels(np.array([[True, False]]), season, levels, worth)
    sums, luck = worth(np.exp(levels.T)[:, None] * season)
    share = 250.0 / worth(np.ones((1, 1, 2)))[0][0]
    assert now.mean == pytest.approx(share * sums.mean(), rel=1e-3)
    assert now.luck == pytest.approx(luck.mean(), rel=1e-3)
    assert now.unknown == pytest.approx(share**2 * (sums.var() + 100.0 * (sums.mean() / 250.0) ** 2), rel=0.02)


def test_where_nothing_can_be_won_levels_change_nothing() -> None:
    usual = _Spread(0.0, 0.0, 0.0)
    levels = np.zeros((2, 10))

    def nothing(factor: Floats) -> tuple[Floats, Floats]:
        return np.zeros(len(factor)), np.zeros(len(factor))

    assert usual.at_levels(np.array([[True, False]]), np.ones((1, 2)), levels, nothing) == usual


def shaken(seed: int) -> StayTable:
    """Three new deals a day for 500 days, in one stage, won or lost at hazards that change from month to month."""
    rng = np.random.default_rng(seed)
    level = np.exp(0.5 * rng.standard_normal(17))
    entered = np.repeat(np.arange(500), 3)
    left, won = np.full(len(entered), NEVER), rng.random(len(entered)) < 0.6
    for day in range(500):
        leaves = (entered < day) & (left == NEVER) & (rng.random(len(entered)) < 0.04 * level[day // 30])
        left[leaves] = day
    nothing = np.zeros(0, dtype=np.int64)
    number = np.arange(len(entered))
    following = np.where(left < NEVER, np.where(won, 1, 2), -1)
    amount = rng.lognormal(3.0, 0.5, len(entered))
    none = np.zeros(0)
    return StayTable(number, 0 * number, following, entered, left, amount, nothing, nothing, none, 1, 1, 3)


@pytest.mark.parametrize("unit", [1.0, 1e-8])
def test_a_fast_pipeline_without_losses_has_a_spread_in_any_currency(unit: float) -> None:
    """Every deal is won within days: sums of rounded chances come out above one."""
    rng = np.random.default_rng(2)
    entered = np.repeat(np.arange(200), 20)
    left = entered + rng.geometric(0.78, len(entered)) - 1
    none, won = np.zeros(0, dtype=np.int64), np.full(len(entered), 1)
    amount = unit * rng.lognormal(3.0, 0.5, len(entered))
    table = StayTable(
        np.arange(len(entered)), 0 * entered, np.where(left < 199, won, -1), entered, np.where(left < 199, left, NEVER),
        amount, none, none, np.zeros(0), 1, 1, 3,
    )  # fmt: skip
    for seed in range(4):
        value = open_revenue(known_at(table, 150), horizons=(60,), seed=seed)[0]
        assert value.mean > 0.0
        assert 0.0 <= value.sd < 0.01 * value.mean
        assert 0.0 <= value.tracked_sd < 0.01 * value.mean


def test_the_spread_that_levels_bring_hangs_little_on_the_draws() -> None:
    """As many draws of heavy-tailed levels as of the hazards would put it anywhere within a factor of two."""
    known = known_at(shaken(4), 499)
    values = [open_revenue(known, horizons=(30,), seed=seed)[0] for seed in range(12)]
    spread = np.log([value.tracked_sd / value.sd for value in values])
    assert spread.min() > np.log(1.3)
    assert spread.std() < 0.06
