"""Both samplers against exact probabilities and against each other; the same bits however the work is cut."""

import os
import signal
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context

import numpy as np
import pandas as pd
import pytest
from engine_cases import LOOP_GRAPH, TABLE_ERROR, loop_hazards, open_deals, plain_amounts, row_graph, row_hazards

from forecasting.data.open_pipeline import OpenPipeline
from forecasting.engine.blocks import EngineOptions
from forecasting.engine.renewal import eventual_outcomes, outcome_table
from forecasting.simulate import OpenSimulation, simulate_open, simulate_paths
from models.errors import SettingsError
from models.hazards import PlantedHazards, ScaledHazards

EDGES = [10, 31, 60]
CASES = [
    pytest.param(row_graph(), row_hazards(400, days=130), id="row"),
    pytest.param(LOOP_GRAPH, loop_hazards(400, days=130), id="loops"),
]


def expected_wins(pipeline: OpenPipeline, source: PlantedHazards, draws: int, edges: list[int]) -> np.ndarray:
    """Exact P(won in each period), shape (draw, deal, period), from the table of outcomes."""
    deals = pipeline.deals
    ages = sorted(set(deals["days_in_stage"]))
    hazards = source.lattice(np.arange(draws), days=max(ages) + edges[-1] + 1, cells=pipeline.cells)
    table = outcome_table(hazards, n_codes=len(pipeline.graph.stages), days=edges, ages=ages)
    by_edge = table.probability[..., list(pipeline.graph.won_codes)].sum(axis=-1)
    at = deals["cell"], deals["stage"], np.searchsorted(ages, deals["days_in_stage"])
    return np.diff(by_edge[:, at[0], at[1], at[2]], axis=-1, prepend=0.0)


def same_totals(first: OpenSimulation, second: OpenSimulation) -> bool:
    return np.array_equal(first.revenue_cents, second.revenue_cents) and np.array_equal(
        first.won_count, second.won_count
    )


@pytest.mark.parametrize("sampler", ["fate", "paths"])
@pytest.mark.parametrize(("graph", "source"), CASES)
def test_wins_follow_the_exact_probabilities(graph, source, sampler):
    pipeline = open_deals(graph, 600)
    made = simulate_open(
        pipeline, source, edges=EDGES, seed=11, draws=400, options=EngineOptions(sampler=sampler, threads=1)
    )
    assert made.sampler == sampler
    p = expected_wins(pipeline, source, 400, EDGES)
    segment = np.array([made.segments.index(label) for label in pipeline.deals["segment"]])
    z = []
    for place in range(len(made.segments)):
        here = p[:, segment == place]
        mean, variance = here.sum(axis=1), (here * (1 - here)).sum(axis=1)
        z.append((made.won_count[:, :, place] - mean) / np.sqrt(variance))
    z = np.stack(z)
    assert 0.85 < (z**2).mean() < 1.15  # 3,600 sums of 200 deals each
    assert abs(z.mean()) * np.sqrt(z.size) < 4
    assert (np.abs(z.mean(axis=1)) * np.sqrt(400) < 4).all()


@pytest.mark.parametrize(("graph", "source"), CASES)
def test_both_samplers_agree_on_revenue(graph, source):
    pipeline, amounts = open_deals(graph, 300), plain_amounts(400, 3)
    pipeline.deals.loc[::7, "amount"] = np.nan
    options = EngineOptions(sampler="fate"), EngineOptions(sampler="paths")
    fate, paths = (
        simulate_open(pipeline, source, edges=EDGES, seed=3, draws=400, amounts=amounts, options=o) for o in options
    )
    gap = (fate.revenue_cents - paths.revenue_cents).sum(axis=2)
    z = gap.mean(axis=0) / (gap.std(axis=0, ddof=1) / np.sqrt(400))
    assert (np.abs(z) < 4).all()


def test_revenue_is_what_the_amount_model_says():
    graph, source = row_graph(), row_hazards(400, days=130)
    pipeline, amounts = open_deals(graph, 400), plain_amounts(400, 3)
    pipeline.deals.loc[::5, "amount"] = np.nan
    made = simulate_open(pipeline, source, edges=EDGES, seed=5, draws=400, amounts=amounts)
    changed = 0.7 + 0.3 * np.exp(0.05 + 0.1**2 / 2)
    pooled = amounts.pool.mean() * np.exp(0.1)
    worth = np.where(pipeline.deals["amount"].isna(), pooled, pipeline.deals["amount"] * changed)
    p = expected_wins(pipeline, source, 400, EDGES)
    second = np.where(pipeline.deals["amount"].isna(), np.mean(amounts.pool**2) * np.exp(0.2), (worth * 1.05) ** 2)
    se = np.sqrt((p * second[:, None]).sum(axis=(0, 1)))
    z = (made.revenue_cents.sum(axis=(0, 2)) / 100 - (p * worth[:, None]).sum(axis=(0, 1))) / se
    assert (np.abs(z) < 4).all()


def test_without_an_amount_model_known_amounts_stay_and_missing_ones_count_nothing():
    graph, source = row_graph(), row_hazards(8, days=130)
    pipeline = open_deals(graph, 40)
    pipeline.deals["amount"] = 12.34
    pipeline.deals.loc[:19, "amount"] = np.nan
    made = simulate_open(pipeline, source, edges=EDGES, seed=5, draws=8)
    known = replace(pipeline, deals=pipeline.deals.iloc[20:])
    alone = simulate_open(known, source, edges=EDGES, seed=5, draws=8)
    assert np.array_equal(made.revenue_cents.sum(axis=2), alone.revenue_cents.sum(axis=2))
    assert np.array_equal(alone.revenue_cents, 1234 * alone.won_count.astype(np.int64))


@pytest.mark.parametrize("sampler", ["fate", "paths"])
@pytest.mark.parametrize(
    "options",
    [{"threads": 2}, {"threads": 1, "memory_mb": 1}, {"threads": 3, "memory_mb": 2}],
    ids=["two threads", "smallest blocks", "three threads, small blocks"],
)
def test_same_bits_however_the_work_is_cut(sampler, options):
    source, amounts = loop_hazards(21, days=130), plain_amounts(21, 3)
    pipeline = open_deals(LOOP_GRAPH, 3000, max_age=60)
    pipeline.deals.loc[::9, "amount"] = np.nan
    given = {"edges": range(1, 61), "seed": 2**40 + 7, "draws": 21, "amounts": amounts}
    plain = simulate_open(pipeline, source, **given, options=EngineOptions(sampler=sampler, threads=1))
    cut = simulate_open(pipeline, source, **given, options=EngineOptions(sampler=sampler, **options))
    assert same_totals(plain, cut)
    assert np.array_equal(plain.win_probability, cut.win_probability)


@pytest.mark.parametrize("sampler", ["fate", "paths"])
def test_same_bits_in_any_order_and_alone_or_among_others(sampler):
    source, amounts = loop_hazards(21, days=160), plain_amounts(21, 3)
    pipeline = open_deals(LOOP_GRAPH, 500, max_age=90)
    given = {"edges": EDGES, "seed": 7, "draws": 21, "amounts": amounts, "options": EngineOptions(sampler=sampler)}
    whole = simulate_open(pipeline, source, **given)
    shuffled = replace(pipeline, deals=pipeline.deals.sample(frac=1.0, random_state=1).reset_index(drop=True))
    assert same_totals(whole, simulate_open(shuffled, source, **given))
    in_half = np.random.default_rng(0).random(500) < 0.5
    halves = [replace(pipeline, deals=pipeline.deals[rows]) for rows in (in_half, ~in_half)]
    parts = [simulate_open(half, source, **given) for half in halves]
    assert np.array_equal(whole.revenue_cents, parts[0].revenue_cents + parts[1].revenue_cents)
    one = replace(pipeline, deals=pipeline.deals.iloc[[123]])
    others = replace(pipeline, deals=pipeline.deals.drop(index=123))
    gap = whole.revenue_cents.sum(axis=2) - simulate_open(others, source, **given).revenue_cents.sum(axis=2)
    assert np.array_equal(gap, simulate_open(one, source, **given).revenue_cents.sum(axis=2))


@pytest.mark.parametrize("sampler", ["fate", "paths"])
def test_first_draws_do_not_depend_on_how_many_follow(sampler):
    source, pipeline = row_hazards(30, days=130), open_deals(row_graph(), 200)
    options = EngineOptions(sampler=sampler)
    long = simulate_open(pipeline, source, edges=EDGES, seed=7, draws=30, options=options)
    short = simulate_open(pipeline, source, edges=EDGES, seed=7, draws=13, options=options)
    assert np.array_equal(long.revenue_cents[:13], short.revenue_cents)


@pytest.mark.parametrize("sampler", ["fate", "paths"])
def test_finer_edges_add_up_to_coarser_ones(sampler):
    source, pipeline, amounts = row_hazards(20, days=130), open_deals(row_graph(), 300), plain_amounts(20, 3)
    given = {"seed": 7, "draws": 20, "amounts": amounts, "options": EngineOptions(sampler=sampler)}
    daily = simulate_open(pipeline, source, edges=range(1, 61), **given)
    coarse = simulate_open(pipeline, source, edges=EDGES, **given)
    starts = [0, *EDGES[:-1]]
    assert np.array_equal(np.add.reduceat(daily.revenue_cents, starts, axis=1), coarse.revenue_cents)
    assert np.array_equal(np.add.reduceat(daily.won_count, starts, axis=1), coarse.won_count)
    np.testing.assert_allclose(daily.win_probability[:, [9, 30, 59]], coarse.win_probability, atol=TABLE_ERROR)


@pytest.mark.parametrize("sampler", ["fate", "paths"])
def test_same_bits_in_a_process_pool(sampler):
    source, pipeline, amounts = row_hazards(40, days=130), open_deals(row_graph(), 200), plain_amounts(40, 3)
    given = {"edges": EDGES, "seed": 1, "draws": 40, "amounts": amounts}
    threads = simulate_open(pipeline, source, **given, options=EngineOptions(sampler=sampler))
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        options = EngineOptions(sampler=sampler, executor=pool, memory_mb=1)
        assert same_totals(threads, simulate_open(pipeline, source, **given, options=options))


@pytest.mark.parametrize(("graph", "source"), CASES)
def test_chances_are_those_of_the_tables(graph, source):
    pipeline = open_deals(graph, 50)
    made = simulate_open(
        pipeline, source, edges=EDGES, seed=1, draws=20, options=EngineOptions(detail_draws=20, sampler="fate")
    )
    wins = expected_wins(pipeline, source, 20, EDGES).mean(axis=0).cumsum(axis=1)
    np.testing.assert_allclose(made.win_probability, wins, atol=TABLE_ERROR)
    ages = sorted(set(pipeline.deals["days_in_stage"]))
    at = pipeline.deals["cell"], pipeline.deals["stage"], np.searchsorted(ages, pipeline.deals["days_in_stage"])
    hazards = source.lattice(np.arange(20), days=1300, cells=pipeline.cells)
    codes, n_open = len(graph.stages), graph.n_open
    table = outcome_table(hazards, n_codes=codes, days=[*EDGES, 400], ages=ages).probability.mean(axis=0)[at]
    np.testing.assert_allclose(made.outcome_probability[:, :-1], table[:, 2, n_open:], atol=TABLE_ERROR)
    np.testing.assert_allclose(made.outcome_probability.sum(axis=1), 1.0, atol=1e-12)
    ever = eventual_outcomes(hazards, n_codes=codes, ages=ages).mean(axis=0)[at][:, list(graph.won_codes)].sum(axis=1)
    np.testing.assert_allclose(made.eventual_win_probability, ever, atol=TABLE_ERROR)
    closed = table[:, :, n_open:].sum(axis=-1)
    for day, expected in zip(EDGES, closed.T, strict=False):
        if day in made.close_days:
            np.testing.assert_allclose(
                made.closed_probability[:, made.close_days == day][:, 0], expected, atol=TABLE_ERROR
            )
    assert made.close_days[-1] == 1095
    assert (np.diff(made.closed_probability, axis=1) >= 0).all()


def test_chances_do_not_depend_on_the_sampler_and_stay_consistent_over_few_draws():
    source, pipeline = loop_hazards(60, days=130), open_deals(LOOP_GRAPH, 50)
    fate, paths = (
        simulate_open(pipeline, source, edges=EDGES, seed=1, draws=60, options=EngineOptions(sampler=s, detail_draws=7))
        for s in ("fate", "paths")
    )
    assert np.array_equal(fate.win_probability, paths.win_probability)
    won = [fate.outcomes.index(name) for name in LOOP_GRAPH.won]
    np.testing.assert_allclose(fate.outcome_probability[:, won].sum(axis=1), fate.win_probability[:, -1], atol=1e-12)
    np.testing.assert_allclose(fate.outcome_probability.sum(axis=1), 1.0, atol=1e-12)
    assert (fate.eventual_win_probability >= fate.win_probability[:, -1] - 1e-12).all()


def test_old_deals_are_simulated_as_well_as_new_ones():
    """A wall on days 5 to 24 that a deal passes with probability 1e-12; all deals are beyond it."""
    base = np.full((2000, 1, 2, 80), 0.01)
    base[..., 5:25] = np.log(1e12) / 40
    source = PlantedHazards(np.array([[1, 2]], dtype=np.int16), base)
    graph = row_graph(1)
    pipeline = open_deals(graph, 50, max_age=0, cells=1)
    pipeline.deals["days_in_stage"] = 30
    exact = 0.5 * -np.expm1(-0.02 * np.array([10, 40]))
    for sampler in ("fate", "paths"):
        made = simulate_open(
            pipeline, source, edges=[10, 40], seed=9, draws=2000, options=EngineOptions(sampler=sampler)
        )
        won = made.won_count.sum(axis=(0, 2)).cumsum() / 100_000
        assert (np.abs(won - exact) < 4 * np.sqrt(exact * (1 - exact) / 100_000)).all()
        np.testing.assert_allclose(made.win_probability[0], exact, atol=TABLE_ERROR)


def test_shocks_multiply_the_hazards_and_leave_other_draws_alone():
    source, pipeline = row_hazards(10, days=130), open_deals(row_graph(), 300)
    factor = np.ones((10, 3, 3))
    factor[4:] = 1.7
    made = simulate_open(pipeline, ScaledHazards(source, factor), edges=EDGES, seed=1, draws=10)
    planted = replace(source, effect=source.effect * factor[:, None])
    assert same_totals(made, simulate_open(pipeline, planted, edges=EDGES, seed=1, draws=10))
    plain = simulate_open(pipeline, source, edges=EDGES, seed=1, draws=10)
    assert np.array_equal(made.revenue_cents[:4], plain.revenue_cents[:4])


def test_a_constant_pace_moves_the_ends_of_periods():
    source, pipeline = row_hazards(10, days=200), open_deals(row_graph(), 300)
    twice = simulate_open(pipeline, source, edges=[10, 30], seed=1, draws=10, pace=np.full(10, 2.0), options=fate())
    assert same_totals(twice, simulate_open(pipeline, source, edges=[20, 60], seed=1, draws=10, options=fate()))
    between = simulate_open(pipeline, source, edges=[10, 30], seed=1, draws=10, pace=np.full(10, 1.05))
    days = simulate_open(pipeline, source, edges=[10, 11, 31, 32], seed=1, draws=10, options=fate()).win_probability
    halfway = np.column_stack([days[:, :2].mean(axis=1), days[:, 2:].mean(axis=1)])
    np.testing.assert_allclose(between.win_probability, halfway, atol=1e-11)


def fate() -> EngineOptions:
    return EngineOptions(sampler="fate")


def test_auto_takes_paths_for_few_deals_and_fate_for_many():
    source = row_hazards(2, days=500)
    few, many = (open_deals(row_graph(), n, max_age=100) for n in (20, 50_000))
    assert simulate_open(few, source, edges=[365], seed=1, draws=2).sampler == "paths"
    assert simulate_open(many, source, edges=[365], seed=1, draws=2).sampler == "fate"


def test_progress_reaches_the_end():
    seen = []
    options = EngineOptions(memory_mb=1, progress=lambda done, draws: seen.append((done, draws)))
    simulate_open(
        open_deals(row_graph(), 30), row_hazards(50, days=130), edges=EDGES, seed=1, draws=50, options=options
    )
    assert seen[-1] == (50, 50)
    assert seen == sorted(seen)


@pytest.mark.parametrize("sampler", ["fate", "paths"])
def test_an_empty_pipeline_earns_nothing(sampler):
    pipeline = open_deals(row_graph(), 5)
    empty = replace(pipeline, deals=pipeline.deals.iloc[:0])
    made = simulate_open(empty, row_hazards(3), edges=EDGES, seed=1, draws=3, options=EngineOptions(sampler=sampler))
    assert made.revenue_cents.shape == (3, 3, 0)
    assert made.win_probability.shape == (0, 3)
    assert made.outcome_probability.shape == (0, 4)


@pytest.mark.parametrize("edges", [[], [0, 5], [5, 5], [2.5], [[1, 2]]])
def test_refuses_bad_edges(edges):
    with pytest.raises(SettingsError, match="edges must be ascending"):
        simulate_open(open_deals(row_graph(), 5), row_hazards(3), edges=edges, seed=1, draws=3)


def test_refuses_more_draws_than_there_are_and_odd_options():
    pipeline = open_deals(row_graph(), 5)
    with pytest.raises(SettingsError, match="draws must be from 1 to 3"):
        simulate_open(pipeline, row_hazards(3), edges=EDGES, seed=1, draws=4)
    with pytest.raises(SettingsError, match="draws must be from 1 to 2"):
        simulate_open(pipeline, row_hazards(3), edges=EDGES, seed=1, draws=3, amounts=plain_amounts(2, 3))
    with pytest.raises(SettingsError, match="factor must be positive"):
        ScaledHazards(row_hazards(3), np.zeros((3, 3, 3)))
    with pytest.raises(SettingsError, match="sampler"):
        EngineOptions(sampler="guess")
    with pytest.raises(SettingsError, match="threads"):
        EngineOptions(threads=0)


def test_path_revenue_is_that_of_the_open_simulation():
    source, pipeline, amounts = loop_hazards(20, days=130), open_deals(LOOP_GRAPH, 100), plain_amounts(20, 3)
    given = {"edges": EDGES, "seed": 1, "draws": 20, "amounts": amounts}
    paths = simulate_paths(pipeline, source, **given)
    made = simulate_open(pipeline, source, **given, options=EngineOptions(sampler="paths"))
    assert np.array_equal(paths.revenue_cents, made.revenue_cents)
    assert isinstance(paths.stays, pd.DataFrame) is False


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # the cluster's own connections to a killed worker
def test_same_bits_on_a_cluster_that_loses_a_worker():
    from distributed import Client, LocalCluster

    source, pipeline, amounts = row_hazards(200, days=130), open_deals(row_graph(), 2000), plain_amounts(200, 3)
    given = {"edges": EDGES, "seed": 1, "draws": 200, "amounts": amounts}
    threads = simulate_open(pipeline, source, **given, options=fate())
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        victims = list(client.run(os.getpid).values())[:1]

        def lose_a_worker(done: int, draws: int) -> None:
            if done > 20 and victims:
                os.kill(victims.pop(), signal.SIGKILL)

        options = EngineOptions(sampler="fate", executor=client.get_executor(), memory_mb=1, progress=lose_a_worker)
        assert same_totals(threads, simulate_open(pipeline, source, **given, options=options))
        assert not victims
