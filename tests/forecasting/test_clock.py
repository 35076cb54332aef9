"""Time that is not uniform: every answer against a day-by-day play of the same definition, and against itself."""

from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from datetime import date, timedelta
from multiprocessing import get_context

import numpy as np
import pytest
from deal_fates import deal_fates
from engine_cases import (
    LOOP_GRAPH,
    TABLE_ERROR,
    loop_hazards,
    open_deals,
    plain_amounts,
    row_graph,
    row_hazards,
    steady_arrivals,
)
from numpy.typing import NDArray
from planted_floor import AS_OF, sales_floor, snapshot_of

from forecasting.answers.forecasts import Forecast, forecast_snapshot
from forecasting.answers.leads import win_by_creation
from forecasting.answers.revenue import Span, cents_in
from forecasting.engine.blocks import EngineOptions
from forecasting.engine.clock import progress_by_day
from forecasting.engine.deal_groups import group_deals
from forecasting.engine.renewal import eventual_outcomes, outcome_table
from forecasting.simulate import simulate_new, simulate_open, simulate_paths
from models.errors import SettingsError
from models.hazards import LatticeHazards, PlantedHazards

EDGES = [1, 4, 11, 27, 45]
DAYS = 45
CASES = [
    pytest.param(row_graph(), row_hazards(20, days=200), id="row"),
    pytest.param(LOOP_GRAPH, loop_hazards(20, days=200), id="loops"),
]


def weekdays(draws: int, *, seed: int = 0, days: int = DAYS) -> NDArray[np.float64]:
    """Quiet Saturdays, dead Sundays, and a speed of its own in each draw; day 1 is a Saturday."""
    week = np.array([0.3, 0.0, 1.3, 1.2, 1.1, 1.0, 0.9])
    speed = np.random.default_rng(seed).lognormal(0, 0.3, draws)
    return speed[:, None] * week[np.arange(days) % 7]


def play(
    hazards: LatticeHazards, draw: int, start: tuple[np.ndarray, ...], reached: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Stage code of each deal at the end of each forecast day, played day by day in NumPy.

    A deal lives through its n-th day of progress at a random moment of it, and in one go.
    """
    cell, code, age = (column.copy() for column in start)
    n_open, spent, n = len(hazards.next_stage), age + 1, np.ones(len(code))
    moment, out = rng.random(len(code)), []
    for progress in reached:
        while (ready := moment <= progress).any():
            acting = np.flatnonzero(ready & (code < n_open))
            while len(acting):
                rate = (
                    hazards.base[draw][code[acting], :, spent[acting]]
                    * hazards.effect[draw, cell[acting], code[acting]]
                )
                leaves = rng.random(len(acting)) < -np.expm1(-rate.sum(axis=1))
                spent[acting[~leaves]] += 1
                acting, rate = acting[leaves], rate[leaves]
                share = rate.cumsum(axis=1) / rate.sum(axis=1, keepdims=True)
                slot = (rng.random(len(acting))[:, None] >= share).sum(axis=1)
                code[acting], spent[acting] = hazards.next_stage[code[acting], slot], 0
                acting = acting[code[acting] < n_open]
            n[ready] += 1
            moment[ready] = n[ready] - 1 + rng.random(ready.sum())
        out.append(code.copy())
    return np.array(out)


@pytest.mark.parametrize(("graph", "source"), CASES)
def test_both_samplers_follow_a_day_by_day_play(graph, source):
    times, pipeline, pace = 50, open_deals(graph, 200), weekdays(20)
    deals, n_codes = pipeline.deals, len(graph.stages)
    hazards = source.lattice(np.arange(20), days=200, cells=pipeline.cells)
    start = tuple(np.tile(deals[name].to_numpy(), times) for name in ("cell", "stage", "days_in_stage"))
    rng = np.random.default_rng(5)
    played = np.empty((20, len(EDGES), n_codes))
    for draw in range(20):
        codes = play(hazards, draw, start, progress_by_day(pace, np.array([draw]), days=DAYS)[0, EDGES], rng)
        played[draw] = [np.bincount(row, minlength=n_codes) / times for row in codes]
    again = PlantedHazards(*(np.repeat(part, times, axis=0) if part.dtype == float else part
                             for part in (source.next_stage, source.base, source.effect)))  # fmt: skip
    given = {"edges": EDGES, "seed": 3, "draws": 20 * times, "pace": np.repeat(pace, times, axis=0)}
    paths = simulate_paths(pipeline, again, **given)
    where = paths.occupancy.reshape(20, times, len(EDGES), n_codes)
    fate = simulate_open(pipeline, again, **given, options=EngineOptions(sampler="fate"))
    won = fate.won_count.sum(axis=2).cumsum(axis=1).reshape(20, times, len(EDGES))
    won_played = played[..., list(graph.won_codes)].sum(axis=-1)
    for made, expected in ((where, played), (won, won_played)):
        z = (made.mean(axis=1) - expected) / np.sqrt(2 * made.var(axis=1, ddof=1) / times + 1e-12)
        z = z[made.mean(axis=1) > 1]
        assert 0.7 < (z**2).mean() < 1.3
        assert np.abs(z).max() < 4.5


@pytest.mark.parametrize(("graph", "source"), CASES)
def test_chances_are_the_tables_read_between_days_also_before_the_first(graph, source):
    pipeline, pace = open_deals(graph, 40), 0.4 * weekdays(20)
    lost_pace = weekdays(20, seed=1)
    made = simulate_open(
        pipeline, source, edges=EDGES, seed=1, draws=20, pace=pace, lost_pace=lost_pace,
        options=EngineOptions(detail_draws=20),
    )  # fmt: skip
    ages = sorted(set(pipeline.deals["days_in_stage"]))
    at = pipeline.deals["cell"], pipeline.deals["stage"], np.searchsorted(ages, pipeline.deals["days_in_stage"])
    hazards = source.lattice(np.arange(20), days=3000, cells=pipeline.cells)
    last = 90
    table = outcome_table(hazards, n_codes=len(graph.stages), days=range(1, last + 1), ages=ages).probability
    ended = table[:, at[0], at[1], at[2]][..., graph.n_open :]  # (draw, deal, day, terminal)
    ended = np.concatenate([np.zeros_like(ended[:, :, :1]), ended], axis=2)
    won = np.array([code - graph.n_open for code in graph.won_codes])

    def read(clock_pace, draw, deal, terminal, day):
        reached = progress_by_day(clock_pace, np.array([draw]), days=day)[0, day]
        return np.interp(reached, np.arange(last + 1), ended[draw, deal, :, terminal])

    for deal in (0, 7, 21):
        for place, day in enumerate(EDGES):
            mean = np.mean([sum(read(pace, i, deal, j, day) for j in won) for i in range(20)])
            assert made.win_probability[deal, place] == pytest.approx(mean, abs=TABLE_ERROR)
        for j in range(ended.shape[-1]):
            mean = np.mean([read(pace if j in won else lost_pace, i, deal, j, DAYS) for i in range(20)])
            assert made.outcome_probability[deal, j] == pytest.approx(mean, abs=TABLE_ERROR)
        for day in (1, 2, 45, 60):
            mean = np.mean(
                [read(pace if j in won else lost_pace, i, deal, j, day) for i in range(20) for j in range(ended.shape[-1])]
            ) * ended.shape[-1]  # fmt: skip
            assert made.closed_probability[deal, made.close_days == day] == pytest.approx(mean, abs=TABLE_ERROR)
    np.testing.assert_allclose(made.outcome_probability.sum(axis=1), 1.0, atol=1e-12)
    assert (made.outcome_probability >= 0).all()
    ever = eventual_outcomes(hazards, n_codes=len(graph.stages), ages=ages).mean(axis=0)[at][:, list(graph.won_codes)]
    np.testing.assert_allclose(made.eventual_win_probability, ever.sum(axis=1), atol=TABLE_ERROR)


@pytest.mark.parametrize(("edges", "pace"), [([1, 4], [0.8, 0.8, 0.8, 0.8]), ([1, 2, 4], [0.0, 1.0, 1.0, 1.0])])
def test_periods_that_end_within_the_first_days_of_progress(edges, pace):
    """A slow start puts the first ends before the first day of progress, between or on days that follow one another."""
    source = PlantedHazards(np.array([[1, 2]], dtype=np.int16), np.full((2, 1, 2, 60), 0.1))
    pipeline = open_deals(row_graph(1), 20, cells=1)
    made = simulate_open(
        pipeline, source, edges=edges, seed=1, draws=2, pace=np.array([pace, pace]),
        options=EngineOptions(sampler="fate"),
    )  # fmt: skip
    reached = np.cumsum(pace)[np.array(edges) - 1]
    won = 0.5 * -np.expm1(-0.2 * np.arange(5))
    expected = np.interp(reached, np.arange(5), won)
    np.testing.assert_allclose(made.win_probability, np.tile(expected, (20, 1)), atol=TABLE_ERROR)


def given_open(**more: object) -> dict[str, object]:
    return {"edges": EDGES, "seed": 2, "draws": 20, "amounts": plain_amounts(20, 3), **more}


@pytest.mark.parametrize("sampler", ["fate", "paths"])
@pytest.mark.parametrize(("graph", "source"), CASES)
def test_a_pace_of_one_is_no_pace_to_the_last_bit(graph, source, sampler):
    pipeline, options = open_deals(graph, 200), EngineOptions(sampler=sampler)
    plain = simulate_open(pipeline, source, **given_open(options=options))
    for pace in (np.ones(20), np.ones((20, DAYS))):
        made = simulate_open(pipeline, source, **given_open(options=options, pace=pace, lost_pace=pace))
        assert np.array_equal(made.revenue_cents, plain.revenue_cents)
        assert np.array_equal(made.win_probability, plain.win_probability)
        np.testing.assert_allclose(made.closed_probability, plain.closed_probability, atol=TABLE_ERROR)
    mixed = np.ones((20, DAYS))
    mixed[1::2] = weekdays(10)
    made = simulate_open(pipeline, source, **given_open(options=options, pace=mixed))
    assert np.array_equal(made.revenue_cents[::2], plain.revenue_cents[::2])


def test_paths_at_a_pace_of_one_are_the_same_stays():
    pipeline, source = open_deals(LOOP_GRAPH, 60), loop_hazards(20, days=200)
    plain = simulate_paths(pipeline, source, **given_open(keep_stays=True))
    made = simulate_paths(pipeline, source, **given_open(keep_stays=True, pace=np.ones((20, DAYS))))
    assert made.stays.equals(plain.stays)


@pytest.mark.parametrize("sampler", ["fate", "paths"])
@pytest.mark.parametrize("speed", [0.5, 2.0])
def test_a_constant_pace_moves_the_ends_of_periods(sampler, speed):
    """At twice the pace a period ends where one of twice its days ends; both ways to give it are one."""
    source, pipeline = row_hazards(20, days=200), open_deals(row_graph(), 200)
    given = {"seed": 2, "draws": 20, "options": EngineOptions(sampler=sampler)}
    by_draw = simulate_open(pipeline, source, edges=[8, 40], **given, pace=np.full(20, speed))
    by_day = simulate_open(pipeline, source, edges=[8, 40], **given, pace=np.full((20, 40), speed))
    moved = simulate_open(pipeline, source, edges=[int(8 * speed), int(40 * speed)], **given)
    for made in (by_draw, by_day):
        assert np.array_equal(made.revenue_cents, moved.revenue_cents)
        assert np.array_equal(made.win_probability, moved.win_probability)


@pytest.mark.parametrize("sampler", ["fate", "paths"])
def test_nothing_moves_while_the_pace_is_zero(sampler):
    pace = np.ones((20, DAYS))
    pace[:, 4:11] = 0
    options = EngineOptions(sampler=sampler)
    for graph, source in ((row_graph(), row_hazards(20, days=200)), (LOOP_GRAPH, loop_hazards(20, days=200))):
        pipeline = open_deals(graph, 200)
        made = simulate_open(pipeline, source, **given_open(pace=pace, options=options))
        assert (made.won_count[:, 2] == 0).all()
        assert made.won_count[:, 1].any()
        assert made.won_count[:, 3].any()
        still = simulate_open(pipeline, source, **given_open(pace=np.zeros(20), options=options))
        assert not still.won_count.any()
        np.testing.assert_array_equal(still.outcome_probability[:, -1], 1.0)
        assert (still.eventual_win_probability > 0).all()


@pytest.mark.parametrize("sampler", ["fate", "paths"])
def test_same_bits_however_the_work_is_cut(sampler):
    source, pipeline = loop_hazards(21, days=200), open_deals(LOOP_GRAPH, 2000)
    given = {"edges": range(1, DAYS + 1), "seed": 2, "draws": 21, "pace": weekdays(21)}
    plain = simulate_open(pipeline, source, **given, options=EngineOptions(sampler=sampler, threads=1))
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        for cut in (
            EngineOptions(sampler=sampler, threads=3, memory_mb=1),
            EngineOptions(sampler=sampler, executor=pool),
        ):
            made = simulate_open(pipeline, source, **given, options=cut)
            assert np.array_equal(made.revenue_cents, plain.revenue_cents)
            assert np.array_equal(made.win_probability, plain.win_probability)
    fewer = simulate_open(
        replace(pipeline, deals=pipeline.deals.iloc[::3]), source, **{**given, "draws": 7},
        options=EngineOptions(sampler=sampler),
    )  # fmt: skip
    others = replace(pipeline, deals=pipeline.deals.drop(index=pipeline.deals.index[::3]))
    rest = simulate_open(others, source, **given, options=EngineOptions(sampler=sampler))
    assert np.array_equal(fewer.revenue_cents + rest.revenue_cents[:7], plain.revenue_cents[:7])


def test_stays_are_told_in_forecast_days():
    pace = np.ones((20, DAYS))
    pace[:, 1::2] = 0.0
    pipeline = open_deals(LOOP_GRAPH, 100)
    made = simulate_paths(pipeline, loop_hazards(20, days=200), **given_open(keep_stays=True, pace=pace))
    ended = made.stays[made.stays["next"] >= 0]
    assert set(ended["left_day"] % 2) == {1}
    for place, edge in enumerate(EDGES):
        for code in range(3):
            stays = made.stays[made.stays["stage"] == code]
            here = stays[(stays["entered_day"] <= edge) & (stays["left_day"] > edge)]
            assert np.array_equal(made.occupancy[:, place, code], np.bincount(here["draw"], minlength=20))


def win_chances(graph, source, arrivals, draw: int, days: int) -> np.ndarray:
    """P(won within 0, 1, 2, ... days of progress) of a deal just created, all kinds together."""
    hazards = source.lattice(np.array([draw]), days=days + 2, cells=arrivals.cells)
    table = outcome_table(hazards, n_codes=len(graph.stages), days=range(1, days + 1), ages=[-1]).probability[0]
    won = table[arrivals.combo_cell, arrivals.combo_stage, 0][..., list(graph.won_codes)].sum(axis=-1)
    return np.r_[0.0, (won * arrivals.mix[draw][:, None]).sum(axis=0)]


def test_new_business_is_won_on_its_own_clock():
    distinct, times = 10, 200
    base, pace = row_hazards(distinct, days=150), np.repeat(weekdays(distinct), times, axis=0)
    draws, arrivals = distinct * times, steady_arrivals(distinct * times)
    source = PlantedHazards(base.next_stage, np.repeat(base.base, times, axis=0), np.repeat(base.effect, times, axis=0))
    made = simulate_new(
        arrivals, source, graph=row_graph(), edges=range(1, DAYS + 1), seed=4, draws=draws,
        amounts=plain_amounts(draws, 3), pace=pace,
    )  # fmt: skip
    z = []
    for case in range(distinct):
        rows = slice(case * times, (case + 1) * times)
        reached = progress_by_day(pace, np.array([case * times]), days=DAYS)[0]
        chance = win_chances(row_graph(), source, arrivals, case * times, 150)
        won_by = [
            sum(np.interp(reached[t] - reached[u], np.arange(151), chance) for u in range(t)) for t in range(DAYS + 1)
        ]
        mean = 2 * np.diff(won_by)  # two deals a day
        assert (made.won_count[rows][:, mean < 1e-9] == 0).all()
        count = made.won_count[rows, :, 0].sum(axis=0)[mean >= 1e-9]
        z.append((count - times * mean[mean >= 1e-9]) / np.sqrt(times * mean[mean >= 1e-9]))
    z = np.concatenate(z)
    assert 0.7 < (z**2).mean() < 1.3
    assert np.abs(z).max() < 4.5
    created = made.created_count.sum(axis=(1, 2))
    assert abs(created.mean() - 2 * DAYS) < 4 * np.sqrt(2 * DAYS / draws)
    assert 0.9 < created.var() / (2 * DAYS) < 1.1
    daily = (made.created_count.mean(axis=0)[:, 0] - 2) / np.sqrt(2 / draws)
    assert np.abs(daily).max() < 4.5


def test_new_business_at_a_pace_of_one_is_the_same():
    arrivals, source = steady_arrivals(30), row_hazards(30, days=150)
    given = {"graph": row_graph(), "edges": EDGES, "seed": 4, "draws": 30, "amounts": plain_amounts(30, 3)}
    plain = simulate_new(arrivals, source, **given)
    mixed = np.ones((30, DAYS))
    mixed[1::2] = weekdays(15)
    for pace, rows in ((np.ones(30), slice(None)), (np.ones((30, DAYS)), slice(None)), (mixed, slice(0, None, 2))):
        made = simulate_new(arrivals, source, **given, pace=pace)
        for name in ("revenue_cents", "won_count", "created_count"):
            assert np.array_equal(getattr(made, name)[rows], getattr(plain, name)[rows])
    cut = simulate_new(arrivals, source, **given, pace=mixed, options=EngineOptions(threads=3, memory_mb=1))
    assert np.array_equal(cut.revenue_cents, simulate_new(arrivals, source, **given, pace=mixed).revenue_cents)
    still = simulate_new(arrivals, source, **given, pace=np.zeros(30))
    assert not still.won_count.any()
    assert still.created_count.any()


def floor_at(pace: NDArray[np.float64] | None, lost_pace: NDArray[np.float64] | None = None) -> Forecast:
    plain = sales_floor(200, days=DAYS)
    return forecast_snapshot(
        snapshot_of(plain.pipeline), plain.posterior, until=plain.until, seed=3, pace=pace, lost_pace=lost_pace
    )


def test_deals_of_a_forecast_on_a_clock_add_up_to_its_revenue():
    floor = floor_at(0.5 * weekdays(200))
    deals = group_deals(floor.pipeline, floor.posterior.amounts)
    for since, last in ((0, DAYS), (9, 33)):
        span = Span(AS_OF + timedelta(days=since + 1), AS_OF + timedelta(days=last))
        won, cents = deal_fates(floor, deals, np.arange(200), span=span)
        np.testing.assert_array_equal((won * cents).sum(axis=1), cents_in(floor, span, "open"))
    plain = floor_at(None)
    assert (floor.deals()["win_probability_by_until"] < plain.deals()["win_probability_by_until"]).all()
    assert (floor.deals()["close_date_p50"] >= plain.deals()["close_date_p50"]).all()


def test_leads_follow_the_clock_of_the_forecast():
    """Expected wins of leads that arrive like the new business are those of the new business."""
    floor = floor_at(weekdays(200))
    for first, last in ((1, DAYS), (12, 40)):
        chance = win_by_creation(floor, np.arange(200), first=first, last=last)
        level = np.exp(floor.posterior.arrivals.log_level[:200]) / 7
        mean = (chance.sum(axis=2) * level * floor.posterior.arrivals.mix[:200]).sum()
        made = simulate_new(
            floor.posterior.arrivals, floor.posterior.stage, graph=floor.pipeline.graph, edges=range(1, last + 1),
            seed=3, draws=200, amounts=floor.posterior.amounts, pace=floor.pace,
        )  # fmt: skip
        count = made.won_count[:, first - 1 :].sum()
        assert abs(count - mean) < 4 * np.sqrt(mean)
    ones, plain = floor_at(np.ones((200, DAYS))), floor_at(None)
    assert ones.deals().equals(plain.deals())
    assert ones.leads_needed(target=2e5, by=floor.until) == plain.leads_needed(target=2e5, by=floor.until)


def test_losses_may_have_a_pace_of_their_own():
    plain, slow = floor_at(None), floor_at(None, np.full(200, 0.2))
    assert np.array_equal(plain.open_cents, slow.open_cents)
    assert (
        slow.deals()["close_date_p50"].fillna(np.datetime64(date(2100, 1, 1))) > plain.deals()["close_date_p50"]
    ).all()
    assert slow.lost_pace is not None


@pytest.mark.parametrize(
    "pace", [np.ones(19), np.ones((20, DAYS - 1)), np.full(20, -0.1), np.full((20, DAYS), np.nan), np.ones((20, 50, 1))]
)
def test_refuses_a_pace_that_does_not_fit(pace):
    pipeline, source = open_deals(row_graph(), 5), row_hazards(20)
    with pytest.raises(SettingsError, match="pace must be days of progress"):
        simulate_open(pipeline, source, **given_open(pace=pace))
    with pytest.raises(SettingsError, match="lost_pace must be days of progress"):
        simulate_open(pipeline, source, **given_open(lost_pace=pace))


def test_beyond_the_given_days_the_last_week_goes_on():
    pace = np.array([[9.0, 1, 1, 1, 1, 1, 0.2, 0.0], [2.0, 0, 0, 0, 0, 0, 0, 7.0]])
    reached = progress_by_day(pace, np.arange(2), days=10)
    np.testing.assert_allclose(reached[:, 8:], [[14.2, 14.2 + 5.2 / 7, 14.2 + 10.4 / 7], [9.0, 10.0, 11.0]])
