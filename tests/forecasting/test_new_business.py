"""New business against the expectation worked out by hand, and deals created and played one by one."""

from dataclasses import replace

import numpy as np
import pytest
from engine_cases import plain_amounts, row_graph, row_hazards, steady_arrivals

from forecasting.engine.blocks import EngineOptions
from forecasting.engine.renewal import outcome_table
from forecasting.simulate import NewSimulation, simulate_new
from models.errors import SettingsError
from models.hazards import ScaledHazards

GRAPH, DRAWS, DAYS = row_graph(), 2000, 60
SOURCE, ARRIVALS, AMOUNTS = row_hazards(DRAWS, days=80), steady_arrivals(DRAWS), plain_amounts(DRAWS, 3)


def simulate(edges=(20, 45, DAYS), draws=DRAWS, seed=6, source=SOURCE, **options) -> NewSimulation:
    return simulate_new(
        ARRIVALS, source, graph=GRAPH, edges=edges, seed=seed, draws=draws, amounts=AMOUNTS,
        options=EngineOptions(**options),
    )  # fmt: skip


def expected_wins() -> np.ndarray:
    """Mean wins by day: two deals a day, each with the exact win probability of its kind, shape (draw, day)."""
    hazards = SOURCE.lattice(np.arange(DRAWS), days=80, cells=ARRIVALS.cells)
    table = outcome_table(hazards, n_codes=6, days=range(1, DAYS + 1), ages=[-1]).probability[..., 0, :, 3]
    by_age = (table[:, ARRIVALS.combo_cell, ARRIVALS.combo_stage] * ARRIVALS.mix[..., None]).sum(axis=1)
    return 2 * by_age  # a deal created on day u is won on day t with the increment at t - u: these add up over u


def test_wins_are_poisson_around_the_exact_mean():
    made = simulate()
    mean = np.add.reduceat(expected_wins(), [0, 20, 45], axis=1)
    z = (made.won_count[:, :, 0] - mean) / np.sqrt(mean)
    assert (np.abs(z.mean(axis=0)) * np.sqrt(DRAWS) < 4).all()
    assert 0.9 < (z**2).mean() < 1.1


def test_created_deals_are_poisson_and_go_with_the_wins():
    made = simulate()
    z = (made.created_count[:, :, 0] - np.array([40.0, 50.0, 30.0])) / np.sqrt([40.0, 50.0, 30.0])
    assert (np.abs(z.mean(axis=0)) * np.sqrt(DRAWS) < 4).all()
    assert 0.9 < (z**2).mean() < 1.1
    assert (made.won_count.cumsum(axis=1) <= made.created_count.cumsum(axis=1)).all()
    created, won = made.created_count.sum(axis=(1, 2)), made.won_count.sum(axis=(1, 2))
    shared = (
        np.cov(created, won)[0, 1] / won.mean()
    )  # wins thinned from the created: covariance equals the mean of wins
    assert 0.7 < shared < 1.3


def test_each_win_brings_an_amount_of_the_pool():
    made = simulate()
    won = made.won_count.sum()
    pool = AMOUNTS.pool * np.exp(0.1)
    mean = made.revenue_cents.sum() / 100 / won
    assert abs(mean - pool.mean()) < 4 * pool.std() / np.sqrt(won)
    assert (made.revenue_cents[made.won_count == 0] == 0).all()
    single = made.revenue_cents[made.won_count == 1] / 100
    np.testing.assert_allclose(np.unique(single), pool, atol=0.005)


def test_same_bits_however_the_work_is_cut():
    whole = simulate(draws=300, threads=1)
    cut = simulate(draws=300, threads=3, memory_mb=1)
    daily = simulate(draws=300, edges=range(1, DAYS + 1))
    for name in ("revenue_cents", "won_count", "created_count"):
        assert np.array_equal(getattr(whole, name), getattr(cut, name))
        assert np.array_equal(np.add.reduceat(getattr(daily, name), [0, 20, 45], axis=1), getattr(whole, name))


def test_a_longer_horizon_keeps_the_wins_of_the_first_days():
    short, long = simulate(draws=100, edges=[20]), simulate(draws=100, edges=[20, DAYS])
    assert np.array_equal(short.revenue_cents[:, 0], long.revenue_cents[:, 0])


def test_shocks_on_hazards_reach_new_business_too():
    factor = np.ones((DRAWS, 3, 3))
    factor[:, :, 1:] = 0.2  # fewer losses
    plain, scaled = simulate(draws=100), ScaledHazards(SOURCE, factor)
    made = simulate_new(ARRIVALS, scaled, graph=GRAPH, edges=[20, 45, DAYS], seed=6, draws=100, amounts=AMOUNTS)
    assert made.won_count.sum() > 1.1 * plain.won_count.sum()


def test_refuses_more_draws_than_there_are():
    with pytest.raises(SettingsError, match=f"draws must be from 1 to {DRAWS}"):
        simulate(draws=DRAWS + 1)


@pytest.mark.parametrize("pace", [None, 0.5])
def test_what_begins_as_won_is_won_when_it_comes(pace):
    """Of two deals a day three in ten are: within ten days these bring six wins at any pace."""
    at_once = replace(ARRIVALS, combo_stage=np.array([GRAPH.n_open, 0, 0]), mix=np.tile([0.3, 0.7, 0.0], (DRAWS, 1)))
    never = row_hazards(DRAWS, days=80)
    never = ScaledHazards(
        never, np.full((DRAWS, *never.lattice(np.arange(1), days=1, cells=ARRIVALS.cells).effect.shape[2:]), 1e-12)
    )
    made = simulate_new(
        at_once, never, graph=GRAPH, edges=(10,), seed=3, draws=DRAWS, amounts=AMOUNTS,
        pace=None if pace is None else np.full(DRAWS, pace),
    )  # fmt: skip
    assert made.won_count.mean() == pytest.approx(6.0, abs=4 * np.sqrt(6.0 / DRAWS))
    assert made.won_count.var() == pytest.approx(6.0, rel=0.15)
    np.testing.assert_array_equal(made.at_once_cents, made.revenue_cents)
    assert (simulate().at_once_cents == 0).all()
    assert made.created_count.mean() == pytest.approx(20.0, abs=4 * np.sqrt(20 / DRAWS))
