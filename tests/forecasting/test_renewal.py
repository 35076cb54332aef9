"""The renewal solver against mass pushed day by day, matrix powers, and chains solved by linear algebra."""

from dataclasses import replace

import numpy as np
import pytest
from engine_cases import LOOP_GRAPH, TABLE_ERROR, day_by_day, loop_hazards, open_deals, row_graph, row_hazards

from forecasting.engine.blocks import EngineOptions
from forecasting.engine.deal_groups import group_deals
from forecasting.engine.exits import leave_probability
from forecasting.engine.fate import win_probabilities
from forecasting.engine.renewal import eventual_outcomes, outcome_table, stages_in_order
from forecasting.simulate import simulate_open
from models.errors import SettingsError
from models.hazards import LatticeHazards, PlantedHazards
from models.stages import StageGraph

CELLS = np.arange(2, dtype=np.int32)[:, None]
DAYS = 25


@pytest.mark.parametrize(("source", "graph"), [(row_hazards(), row_graph()), (loop_hazards(), LOOP_GRAPH)])
def test_agrees_with_mass_pushed_day_by_day(source, graph):
    hazards = source.lattice(np.array([1, 0]), days=DAYS + 12, cells=CELLS)
    n_codes = len(graph.stages)
    table = outcome_table(hazards, n_codes=n_codes, days=range(1, DAYS + 1), ages=range(-1, 11))
    for draw, cell in [(0, 0), (1, 1)]:
        expected = day_by_day(hazards, n_codes=n_codes, days=DAYS, draw=draw, cell=cell)
        np.testing.assert_allclose(table.probability[draw, cell], expected, atol=1e-13)


def test_probabilities_add_up_to_one_with_loops_on_the_same_day():
    hazards = loop_hazards().lattice(np.arange(2), days=120, cells=CELLS)
    table = outcome_table(hazards, n_codes=6, days=[1, 5, 40], ages=[-1, 0, 3, 70])
    np.testing.assert_allclose(table.probability.sum(axis=-1), 1.0, atol=1e-12)


def test_constant_hazards_follow_the_powers_of_the_daily_matrix():
    rates = np.array([[0.05, 0.05], [0.03, 0.02]])
    base = np.repeat(rates[None, :, :, None], 100, axis=-1)
    base[..., 0] = 0.0  # nothing on the day of entry: then moves are one a day and powers of one matrix give the answer
    hazards = LatticeHazards(np.array([[1, 3], [2, 3]], dtype=np.int16), base, np.ones((1, 1, 2, 2)))
    daily = np.eye(4)
    for k, targets in enumerate([(1, 3), (2, 3)]):
        total = rates[k].sum()
        daily[k] = 0.0
        daily[k, k] = np.exp(-total)
        daily[k, list(targets)] += -np.expm1(-total) * rates[k] / total
    table = outcome_table(hazards, n_codes=4, days=[1, 10, 30], ages=[0, 7])
    for place, day in enumerate([1, 10, 30]):
        power = np.linalg.matrix_power(daily, day)
        np.testing.assert_allclose(table.probability[0, 0, :, 0, place], power[:2], atol=1e-14)
        np.testing.assert_allclose(table.probability[0, 0, :, 1, place], power[:2], atol=1e-14)


def test_old_deals_are_as_right_as_new_ones():
    """Two stretches of the same hazards, one after a wall that a deal passes with probability 1e-12 (and 1e-300)."""
    rng = np.random.default_rng(5)
    later = rng.gamma(1.0, 0.05, (1, 1, 2, 40))
    for log_survival in (np.log(1e-12), np.log(1e-300)):
        wall = np.full((1, 1, 2, 30), -log_survival / 60)
        wall[..., 0] = 0.0
        old = LatticeHazards(
            np.array([[1, 2]], dtype=np.int16), np.concatenate([wall, later], axis=-1), np.ones((1, 1, 1, 2))
        )
        new = LatticeHazards(old.next_stage, later, old.effect)
        aged = outcome_table(old, n_codes=3, days=[1, 10, 30], ages=[29])
        fresh = outcome_table(new, n_codes=3, days=[1, 10, 30], ages=[-1])
        np.testing.assert_allclose(aged.probability, fresh.probability, rtol=1e-13)


def in_stretches(source):
    """Hazards that stay the same for some days, and for hundreds in the end."""
    day = np.maximum.accumulate(
        np.where(np.isin(np.arange(700), [0, 1, 3, 7, 30, 60, 110, 250, 400]), np.arange(700), 0)
    )
    return replace(source, base=source.base[..., day])


@pytest.mark.parametrize(
    ("source", "graph"),
    [
        (row_hazards(days=700), row_graph()),
        (loop_hazards(days=700), LOOP_GRAPH),
        (in_stretches(row_hazards(days=700)), row_graph()),
        (in_stretches(loop_hazards(days=700)), LOOP_GRAPH),
    ],
)
def test_values_to_every_day_are_those_to_a_few(source, graph):
    """Edges that follow one another are reached by going back day by day, those far apart by sums."""
    hazards = source.lattice(np.arange(2), days=701, cells=CELLS)
    ages, few = [-1, 0, 30, *range(420, 530), 600], [30, 61, 92]
    every = outcome_table(hazards, n_codes=len(graph.stages), days=range(1, 93), ages=ages).probability
    table = outcome_table(hazards, n_codes=len(graph.stages), days=few, ages=ages).probability
    np.testing.assert_allclose(every[:, :, :, :, np.array(few) - 1], table, atol=1e-13)
    assert (np.diff(every[..., len(graph.open) :], axis=-2) >= -1e-13).all()


@pytest.mark.parametrize("source", [in_stretches(row_hazards(days=700)), in_stretches(loop_hazards(days=700))])
@pytest.mark.parametrize("horizon", [1, 3, 4, 5, 40, 92])
def test_days_of_equal_chances_gone_back_at_once_change_no_bit(source, horizon):
    """With a deal of every age each day is gone back alone; between deals of a few ages several are, or none."""
    ages, few = [-1, *range(550)], [-1, 0, 2, 8, 37, 38, 100, 248, 251, 260, 399, 405, 549]
    hazards, days = source.lattice(np.arange(2), days=700, cells=CELLS), range(1, horizon + 1)
    every = outcome_table(hazards, n_codes=6, days=days, ages=ages).probability
    some = outcome_table(hazards, n_codes=6, days=days, ages=few).probability
    assert np.array_equal(some, every[:, :, :, np.array(few) + 1])
    pipeline = open_deals(row_graph(), 1500, max_age=500)
    draws, options = {"seed": 1, "draws": 2}, EngineOptions(sampler="fate")
    made = simulate_open(pipeline, source, edges=days, **draws, options=options)
    alone = replace(pipeline, deals=pipeline.deals.iloc[[3, 700, 1200]])
    found = simulate_open(alone, source, edges=days, **draws, options=options)
    assert np.array_equal(found.win_probability, made.win_probability[[3, 700, 1200]])


@pytest.mark.parametrize("edges", [range(1, 366), range(30, 366, 30), [365]])
@pytest.mark.parametrize("source", [in_stretches(row_hazards(days=700)), loop_hazards(days=700)])
def test_tables_to_sample_from_stay_right_for_a_year(source, edges):
    """Even where chances of the day stay the same, so that what is rounded is rounded the same way every day."""
    graph = row_graph()
    pipeline = open_deals(graph, 200, max_age=300)
    made = simulate_open(pipeline, source, edges=edges, seed=1, draws=2, options=EngineOptions(sampler="fate"))
    ages = sorted(set(pipeline.deals["days_in_stage"]))
    hazards = source.lattice(np.arange(2), days=700, cells=CELLS)
    table = outcome_table(hazards, n_codes=6, days=edges, ages=ages).probability.mean(axis=0)
    at = pipeline.deals["cell"], pipeline.deals["stage"], np.searchsorted(ages, pipeline.deals["days_in_stage"])
    np.testing.assert_allclose(made.win_probability, table[at][:, :, graph.won_codes[0]], atol=TABLE_ERROR)
    assert np.array_equal(made.win_probability_by_end, made.win_probability[:, -1])
    assert (np.diff(made.win_probability, axis=1) >= 0).all()


@pytest.mark.parametrize("edges", [[30, 61, 91], [1, 2, 3, 10, 11, 40], list(range(1, 60)), [90]])
def test_the_same_kernels_are_exact_in_float64(edges):
    """Stages in order, new deals and aged ones in one pass, against stages solved all together."""
    source, graph = straight_on(700, wall=True), StageGraph(open=["A", "B", "C"], won=["Won", "Renewed"], lost=["Lost"])
    pipeline, days = open_deals(graph, 240, max_age=300, cells=1), np.array(edges)
    arrays = group_deals(pipeline, None).arrays
    hazards = source.lattice(np.arange(4), days=600, cells=pipeline.cells)
    ages = np.unique(arrays.group_age)
    exact = (
        outcome_table(hazards, n_codes=6, days=edges, ages=ages.tolist()).probability[:, 0, :, :, :, 3:5].sum(axis=-1)
    )
    value, found = np.array([0.0, 0.0, 0.0, 1.0, 1.0, 0.0]), np.empty((len(arrays.group_age), len(days)))
    for draw in range(4):
        win_probabilities(
            hazards.base[draw],
            hazards.effect[draw],
            hazards.next_stage,
            value,
            arrays,
            days,
            np.zeros(len(days)),
            found,
        )
        expected = exact[draw, arrays.group_stage, np.searchsorted(ages, arrays.group_age)]
        np.testing.assert_allclose(found, expected, rtol=1e-13)


def test_what_nearly_always_wins_is_won_with_a_chance_of_one_at_most():
    base = np.full((3, 2, 2, 400), 1.0)
    base[:, :, 1] = 1e-9
    source = PlantedHazards(np.array([[1, 3], [2, 3]], dtype=np.int16), base)
    graph = StageGraph(open=["A", "B"], won=["Won"], lost=["Lost"])
    made = simulate_open(
        open_deals(graph, 60, cells=1), source, edges=range(1, 121), seed=1, draws=3,
        options=EngineOptions(sampler="fate"),
    )  # fmt: skip
    for chance in (made.win_probability, made.outcome_probability, made.eventual_win_probability):
        assert chance.min() >= 0.0
        assert chance.max() <= 1.0
    np.testing.assert_allclose(made.outcome_probability.sum(axis=1), 1.0, atol=1e-12)


def test_stages_that_only_lead_to_one_another_never_end():
    hazards = LatticeHazards(
        np.array([[1], [0], [3]], dtype=np.int16), np.full((1, 3, 1, 50), 0.3), np.ones((1, 1, 3, 1))
    )
    ever = eventual_outcomes(hazards, n_codes=5, ages=[-1, 10])[0, 0]
    np.testing.assert_allclose(ever[:2], 0.0, atol=1e-9)
    np.testing.assert_allclose(ever[2, :, 3], 1.0, atol=1e-9)


def test_ages_far_apart_are_solved_in_separate_runs():
    hazards = row_hazards(days=900).lattice(np.arange(1), days=900, cells=CELLS)
    together = outcome_table(hazards, n_codes=6, days=[3, 20], ages=[0, 1, 40, 500, 503, 870])
    for place, age in enumerate(together.ages):
        alone = outcome_table(hazards, n_codes=6, days=[3, 20], ages=[age])
        np.testing.assert_allclose(together.probability[..., place, :, :], alone.probability[..., 0, :, :], rtol=1e-14)


@pytest.mark.parametrize("age", [-1, 0, 9, 500])
def test_eventual_outcomes_are_where_the_table_leads(age):
    planted = loop_hazards(days=30)
    planted.base[..., -1] += 0.05  # a tail that ends within the lattice
    hazards = planted.lattice(np.arange(2), days=2600, cells=CELLS)
    table = outcome_table(hazards, n_codes=6, days=[2000], ages=[age]).probability[..., 0, 0, :]
    short = LatticeHazards(hazards.next_stage, hazards.base[..., :40], hazards.effect)
    ever = eventual_outcomes(short, n_codes=6, ages=[age])[..., 0, :]
    np.testing.assert_allclose(ever.sum(axis=-1), 1.0, atol=1e-12)
    still_open = table[..., :3].sum(axis=-1, keepdims=True)
    assert still_open.max() < 1e-8
    np.testing.assert_allclose(ever[..., 3:], table[..., 3:], atol=1e-8)


def test_a_stage_that_is_never_left_again_keeps_its_share():
    base = np.full((1, 1, 2, 4), 0.1)
    base[..., 3] = 0.0
    hazards = LatticeHazards(np.array([[1, 2]], dtype=np.int16), base, np.ones((1, 1, 1, 2)))
    ever = eventual_outcomes(hazards, n_codes=3, ages=[-1, 1, 2, 80])[0, 0, 0]
    np.testing.assert_allclose(ever.sum(axis=-1), [1 - np.exp(-0.6), 1 - np.exp(-0.2), 0.0, 0.0], atol=1e-14)


def test_leaving_probability_keeps_its_relative_precision():
    hazard = 10.0 ** np.random.default_rng(0).uniform(-300, 3, 10_000)
    computed = np.array([leave_probability(h) for h in hazard])
    np.testing.assert_allclose(computed, -np.expm1(-hazard), rtol=3e-15)


def test_refuses_what_it_cannot_answer():
    hazards = row_hazards(days=30).lattice(np.arange(1), days=30, cells=CELLS)
    with pytest.raises(SettingsError, match="51 needed"):
        outcome_table(hazards, n_codes=6, days=[10], ages=[40])
    with pytest.raises(SettingsError, match="at least 1"):
        outcome_table(hazards, n_codes=6, days=[0, 10], ages=[4])
    with pytest.raises(SettingsError, match="ascending"):
        outcome_table(hazards, n_codes=6, days=[10, 10], ages=[4])
    with pytest.raises(SettingsError, match="code 5"):
        outcome_table(hazards, n_codes=4, days=[10], ages=[4])


def straight_on(days: int, *, wall: bool) -> PlantedHazards:
    """Three stages that may be skipped, won and lost from each, no way back; with a wall few deals get past."""
    rng = np.random.default_rng(3)
    next_stage = np.array([[1, 2, 3, 4], [2, 3, 4, 5], [3, 3, 4, -1]], dtype=np.int16)
    base = rng.gamma(2.0, 0.01, (4, 3, 4, days))
    base[:, 2, 3] = 0.0
    if wall:
        base[:, 1, :, 200:260] = 5.0
    return PlantedHazards(next_stage, base)


@pytest.mark.parametrize("wall", [False, True])
@pytest.mark.parametrize("edges", [[30, 61, 91], [1, 2, 3, 10, 11, 40], list(range(1, 60)), [90]])
def test_one_pass_over_stages_without_way_back_is_the_general_solution(edges, wall):
    """New deals and aged ones together, ages far apart, survivals of next to nothing: what the samplers take is the table."""
    graph = StageGraph(open=["A", "B", "C"], won=["Won", "Renewed"], lost=["Lost"])
    source, ages = straight_on(700, wall=wall), [0, 1, 2, 17, 18, 150, 280, 500]
    pipeline = open_deals(graph, 240, max_age=0, cells=1)
    pipeline.deals["days_in_stage"] = np.array(ages)[np.arange(240) % len(ages)]
    hazards = source.lattice(np.arange(4), days=600, cells=pipeline.cells)
    table = outcome_table(hazards, n_codes=6, days=edges, ages=ages).probability.mean(axis=0)[0]
    at = pipeline.deals["stage"], np.searchsorted(ages, pipeline.deals["days_in_stage"])
    exact = table[at][:, :, 3:5].sum(axis=-1)
    made = simulate_open(pipeline, source, edges=edges, seed=1, draws=4, options=EngineOptions(sampler="fate"))
    np.testing.assert_allclose(made.win_probability, exact, atol=TABLE_ERROR)
    for deals in ([5, 12], [7], [26, 30]):
        alone = replace(pipeline, deals=pipeline.deals.iloc[deals])
        some = simulate_open(alone, source, edges=edges, seed=1, draws=4, options=EngineOptions(sampler="fate"))
        assert np.array_equal(some.win_probability, made.win_probability[deals])


def test_stages_are_ordered_only_where_there_is_no_way_back():
    assert stages_in_order(np.array([[1, 2], [2, 3], [3, 4]], dtype=np.int16)).tolist() == [2, 1, 0]
    assert stages_in_order(np.array([[1, 3], [0, 3], [1, 3]], dtype=np.int16)).tolist() == []
    assert stages_in_order(np.array([[0, 1]], dtype=np.int16)).tolist() == []
