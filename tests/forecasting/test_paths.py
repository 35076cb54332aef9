"""Paths against exact occupancy, and the table of stays against the sums made from it."""

from dataclasses import replace

import numpy as np
import pytest
from engine_cases import LOOP_GRAPH, loop_hazards, open_deals, row_graph, row_hazards

from forecasting.engine.blocks import EngineOptions
from forecasting.engine.renewal import outcome_table
from forecasting.simulate import simulate_paths
from models.hazards import PlantedHazards
from models.stages import StageGraph

EDGES = [1, 7, 30]


@pytest.mark.parametrize(
    ("graph", "source"), [(row_graph(), row_hazards(300, days=100)), (LOOP_GRAPH, loop_hazards(300, days=100))]
)
def test_occupancy_follows_the_exact_probabilities(graph, source):
    pipeline = open_deals(graph, 300, max_age=20)
    made = simulate_paths(pipeline, source, edges=EDGES, seed=4, draws=300)
    hazards = source.lattice(np.arange(300), days=60, cells=pipeline.cells)
    table = outcome_table(hazards, n_codes=len(graph.stages), days=EDGES, ages=range(21)).probability
    deals = pipeline.deals
    p = table[:, deals["cell"], deals["stage"], deals["days_in_stage"]]
    variance = (p * (1 - p)).sum(axis=1)
    z = (made.occupancy - p.sum(axis=1)) / np.sqrt(np.maximum(variance, 1e-12))
    z = z[variance > 1]
    assert 0.85 < (z**2).mean() < 1.15
    assert abs(z.mean()) * np.sqrt(z.size) < 5  # codes of one draw are dependent
    assert (made.occupancy.sum(axis=2) == 300).all()


def stays_and_sums(seed: int = 3, **options):
    pipeline = open_deals(LOOP_GRAPH, 200, max_age=20)
    source = loop_hazards(12, days=100)
    made = simulate_paths(
        pipeline, source, edges=EDGES, seed=seed, draws=12, options=EngineOptions(**options), keep_stays=True
    )
    return pipeline, made


def test_stays_join_up_into_whole_paths():
    pipeline, made = stays_and_sums()
    stays = made.stays
    assert list(stays.columns) == ["draw", "deal_id", "stage", "entered_day", "left_day", "next"]
    paths = stays.groupby(["draw", "deal_id"], sort=False)
    assert len(paths) == 12 * 200
    first = paths.first().reset_index().merge(pipeline.deals, on="deal_id")
    assert (first["stage_x"] == first["stage_y"]).all()
    assert (first["entered_day"] == -first["days_in_stage"]).all()
    same_path = (stays["deal_id"].shift(-1) == stays["deal_id"]) & (stays["draw"].shift(-1) == stays["draw"])
    assert (stays["next"][same_path] == stays["stage"].shift(-1)[same_path]).all()
    assert (stays["left_day"][same_path] == stays["entered_day"].shift(-1)[same_path]).all()
    last = stays[~same_path]
    assert (last["next"].isin([-1, 3, 4, 5])).all()
    assert (last["left_day"][last["next"] == -1] == 31).all()
    assert (stays["left_day"][stays["next"] >= 0].between(1, 30)).all()


def test_sums_are_those_of_the_stays():
    pipeline, made = stays_and_sums()
    stays = made.stays
    segment = dict(zip(pipeline.deals["deal_id"], pipeline.deals["segment"], strict=True))
    start = 0
    for place, edge in enumerate(EDGES):
        for code in range(3):
            here = stays[(stays["stage"] == code) & (stays["entered_day"] <= edge) & (stays["left_day"] > edge)]
            assert np.array_equal(made.occupancy[:, place, code], np.bincount(here["draw"], minlength=12))
        for code in (3, 4, 5):
            ended = stays[(stays["next"] == code) & (stays["left_day"] <= edge)]
            assert np.array_equal(made.occupancy[:, place, code], np.bincount(ended["draw"], minlength=12))
        moved = stays[stays["left_day"].between(start + 1, edge)]
        for label in made.segments:
            won = moved[moved["next"].isin([3, 4]) & (moved["deal_id"].map(segment) == label)]
            count = made.won_count[:, place, made.segments.index(label)]
            assert np.array_equal(count, np.bincount(won["draw"], minlength=12))
        for code in range(3):
            entered = moved[moved["next"] == code]
            assert np.array_equal(made.entries[:, place, code], np.bincount(entered["draw"], minlength=12))
        start = edge
    visits = stays.groupby(["draw", "deal_id", "stage"]).size()
    assert made.returns.sum() == (visits - 1).sum()
    assert (made.returns <= made.entries).all()


def test_returns_are_told_among_more_than_64_stages():
    """A ring of seventy stages: stage 66 is not taken for stage 2."""
    n_open = 70
    graph = StageGraph(open=[f"S{k}" for k in range(n_open)], won=["Won"], lost=["Lost"])
    following = np.array([[(k + 1) % n_open, (k + 64) % n_open, n_open] for k in range(n_open)], dtype=np.int16)
    hazards = np.broadcast_to(np.array([0.3, 0.2, 0.005])[:, None], (4, n_open, 3, 60))
    pipeline = open_deals(graph, 300, max_age=5, cells=1)
    made = simulate_paths(pipeline, PlantedHazards(following, hazards), edges=[40], seed=2, draws=4, keep_stays=True)
    visits = made.stays.groupby(["draw", "deal_id", "stage"]).size()
    assert made.returns.sum() == (visits - 1).sum() > 100


def test_stays_do_not_depend_on_the_cut():
    _, one = stays_and_sums(threads=1)
    _, two = stays_and_sums(threads=3, memory_mb=1)
    assert one.stays.equals(two.stays)


def test_a_deal_keeps_its_path_among_others():
    pipeline, made = stays_and_sums()
    some = replace(pipeline, deals=pipeline.deals.iloc[[3, 77, 150]])
    alone = simulate_paths(some, loop_hazards(12, days=100), edges=EDGES, seed=3, draws=12, keep_stays=True)
    there = made.stays[made.stays["deal_id"].isin(some.deals["deal_id"])].reset_index(drop=True)
    assert there.equals(alone.stays)


def test_paths_pass_changes_of_unit_in_the_survival_curve():
    """Fifty days at hazard 40 take survival through 1e-868: the deal that is there afterwards moves on as any other."""
    base = np.full((500, 1, 2, 120), 0.02)
    base[..., 10:60] = 20.0
    source = PlantedHazards(np.array([[1, 2]], dtype=np.int16), base)
    pipeline = open_deals(row_graph(1), 40, max_age=0, cells=1)
    for age in (12, 45, 59, 80):
        pipeline.deals["days_in_stage"] = age
        made = simulate_paths(pipeline, source, edges=[1, 20, 30], seed=8, draws=500)
        hazard = base[0, 0, :, age + 1 :].sum(axis=0).cumsum()[[0, 19, 29]]
        p = -np.expm1(-hazard) / 2
        won = made.won_count.sum(axis=(0, 2)).cumsum() / 20_000
        assert (np.abs(won - p) <= 4 * np.sqrt(p * (1 - p) / 20_000)).all()


def many_exits(draws: int) -> PlantedHazards:
    """Five exits from each stage, days without any move, a day on which most leave, and a stage left by one exit only."""
    base = np.zeros((draws, 3, 5, 90))
    share = np.array([[0.1, 0.2, 0.3, 0.15, 0.25], [0.05, 0.5, 0.05, 0.2, 0.2], [0.0, 0.0, 1.0, 0.0, 0.0]])
    base[:] = share[:, :, None] * np.where(np.arange(90) % 7 < 5, 0.03, 0.0)
    base[..., 30] = share * 3.0
    base[:, 0, :, 12] = np.array([0.0, 0.0, 0.0, 0.0, 0.4])
    next_stage = np.array([[1, 2, 3, 4, 5], [0, 2, 3, 4, 5], [0, 1, 3, 4, 5]], dtype=np.int16)
    return PlantedHazards(next_stage, base)


def test_every_exit_is_taken_as_often_as_its_hazard_says():
    graph = StageGraph(open=["A", "B", "C"], won=["Won"], lost=["Lost", "Gone"])
    source = many_exits(400)
    pipeline = open_deals(graph, 240, max_age=40, cells=1)
    made = simulate_paths(pipeline, source, edges=EDGES, seed=5, draws=400)
    hazards = source.lattice(np.arange(1), days=80, cells=pipeline.cells)
    table = outcome_table(hazards, n_codes=6, days=EDGES, ages=range(41)).probability[0, 0]
    p = table[pipeline.deals["stage"], pipeline.deals["days_in_stage"]]
    expected, variance = 400 * p.sum(axis=0), 400 * (p * (1 - p)).sum(axis=0)
    z = (made.occupancy.sum(axis=0) - expected) / np.sqrt(np.maximum(variance, 1e-9))
    assert z.shape == (3, 6)
    assert np.abs(z).max() < 4
