"""Levels: counts against a loop over days, the density against its definition, and levels against brute force."""

from datetime import timedelta
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from forecasting.data.deals import deals_from_frames
from forecasting.data.sample import demo_history
from forecasting.data.snapshot import Snapshot, cut, stage_history
from models.errors import SettingsError
from models.levels.counts import DOWN, FORWARD, NO_DIRECTION, LevelCounts, exit_directions, level_counts
from models.levels.density import LevelSeries, level_series, series_point
from models.levels.fit import learn_levels
from models.levels.laplace import laplace_level
from models.levels.posterior import LevelPosterior, future_factors, level_effects
from models.levels.priors import settings_at
from models.stage_model.fit import fit_stages
from models.stage_model.posterior import StagePosterior
from models.stages import StageGraph

DAYS = 7


@pytest.fixture(scope="module")
def fitted() -> tuple[Snapshot, StagePosterior]:
    demo = demo_history(seed=2, n_deals=400, faulty_rows=False)
    deals = deals_from_frames(demo.deals, demo.stage_history, stages=demo.graph, timezone="UTC")
    snapshot = cut(deals, as_of=demo.as_of)
    return snapshot, fit_stages(stage_history(snapshot), durations="piecewise", inference="fast", draws=150, seed=1)


def planted_series(
    rng: np.random.Generator, *, sigma: float, half_life: float, luck: float, expected: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Log levels and exits, simulated from the definition."""
    phi, level = 0.5 ** (DAYS / half_life), np.empty(len(expected))
    level[0] = rng.normal(-(sigma**2) / 2, sigma)
    for p in range(1, len(level)):
        level[p] = -(sigma**2) / 2 + phi * (level[p - 1] + sigma**2 / 2) + rng.normal(0, sigma * np.sqrt(1 - phi**2))
    own = rng.gamma(luck**-2, luck**2, len(level))
    return level, rng.poisson(expected * np.exp(level) * own).astype(float)


def test_expected_exits_are_the_hazards_summed_day_by_day(fitted: tuple[Snapshot, StagePosterior]) -> None:
    snapshot, stage = fitted
    told = level_counts(snapshot.stays, stage, cells=snapshot.cells, as_of=snapshot.as_of, days=DAYS)
    hazards = stage.lattice(np.arange(150), days=int(snapshot.stays["days"].max()) + 1, cells=snapshot.cells)
    base = hazards.base.mean(axis=0)
    exits, expected = np.zeros_like(told.exits), np.zeros_like(told.expected)
    for stay in snapshot.stays.itertuples():
        entered = stay.entered_on.date()
        for day in range(stay.days + 1):
            ago = (snapshot.as_of - entered).days - day
            rates = base[stay.stage, :, day]
            at_risk = 1.0
            if day == stay.days and stay.next >= 0:
                total = rates.sum()
                at_risk = 1 / total - np.exp(-total) / (1 - np.exp(-total))
                slot = list(hazards.next_stage[stay.stage]).index(stay.next)
                exits[-1 - ago // DAYS, told.direction[stay.stage, slot]] += 1
            for slot, rate in enumerate(rates):
                expected[-1 - ago // DAYS, told.direction[stay.stage, slot]] += at_risk * rate
    np.testing.assert_array_equal(told.exits, exits)
    np.testing.assert_allclose(told.expected, expected, rtol=1e-9)
    np.testing.assert_allclose(told.exits.sum(axis=0), told.expected.sum(axis=0), rtol=0.05)


def test_a_win_is_forward_from_a_stage_that_is_never_lost() -> None:
    graph = StageGraph(open=("A", "B"), won=("Won",), lost=("Lost",))
    stages = SimpleNamespace(exits=(1, 3)), SimpleNamespace(exits=(2,))
    found = exit_directions(
        cast(StagePosterior, SimpleNamespace(graph=graph, stages=stages)), np.array([0, 0, 1]), np.array([0, 1, 0])
    )
    np.testing.assert_array_equal(found, [[FORWARD, DOWN], [FORWARD, NO_DIRECTION]])


def test_a_win_is_forward_a_loss_and_a_way_back_are_down(fitted: tuple[Snapshot, StagePosterior]) -> None:
    snapshot, stage = fitted
    told = level_counts(snapshot.stays, stage, cells=snapshot.cells, as_of=snapshot.as_of, days=DAYS)
    graph = snapshot.graph
    ended = snapshot.stays[snapshot.stays["next"] >= 0]
    # the share of visits of a stage that lead to a win, counted rather than solved for
    won = ended.groupby("deal_id")["next"].last().isin(graph.won_codes)
    closed = ended.groupby("deal_id")["next"].last() >= graph.n_open
    visits = ended[ended["deal_id"].map(closed)]
    value = visits["deal_id"].map(won).groupby(visits["stage"]).mean()
    for code, fit in enumerate(stage.stages):
        for slot, target in enumerate(fit.exits):
            if target in graph.won_codes:
                assert told.direction[code, slot] == FORWARD
            elif target in graph.lost_codes:
                assert told.direction[code, slot] == DOWN
            elif abs(value[target] - value[code]) > 0.1:
                assert told.direction[code, slot] == (FORWARD if value[target] > value[code] else DOWN)
        assert (told.direction[code, len(fit.exits) :] == NO_DIRECTION).all()


def some_series(seed: int = 3, periods: int = 6) -> LevelSeries:
    rng = np.random.default_rng(seed)
    expected = rng.uniform(5, 40, periods)
    _, exits = planted_series(rng, sigma=0.4, half_life=40, luck=0.2, expected=expected)
    expected[2] = 0.0  # a period in which nothing was expected
    return level_series(exits, expected, laplace_level(exits, expected, days=DAYS), days=DAYS)


def log_density(series: LevelSeries, normals: NDArray[np.float64], innovations: NDArray[np.float64]) -> float:
    """The definition: counts given levels, levels given settings, and the determinant of the change of variables."""
    settings = settings_at(normals, days=DAYS)
    sigma, phi, kappa = float(settings.sigma), float(settings.phi), float(settings.kappa)
    level = series_point(series, normals, innovations).level
    step = np.eye(len(level)) * 1e-5
    slopes = [
        (series_point(series, normals, innovations + e).level - series_point(series, normals, innovations - e).level)
        / 2e-5
        for e in step
    ]
    mean = series.expected * np.exp(level)
    known = mean > 0
    counts = stats.nbinom.logpmf(series.exits[known], kappa, kappa / (kappa + mean[known])).sum()
    deviation = level + sigma**2 / 2
    prior = stats.norm.logpdf(deviation[0], 0, sigma)
    prior += stats.norm.logpdf(deviation[1:], phi * deviation[:-1], sigma * np.sqrt(1 - phi**2)).sum()
    return float(counts + prior + np.linalg.slogdet(np.array(slopes))[1] + 0.5 * innovations @ innovations)


def test_the_density_is_its_definition_and_its_gradient_its_slope() -> None:
    series, rng = some_series(), np.random.default_rng(4)
    apart = []
    for _ in range(5):
        normals, innovations = rng.standard_normal(3), rng.standard_normal(len(series.exits))
        point = series_point(series, normals, innovations)
        apart.append(point.value - log_density(series, normals, innovations))
        both = np.concatenate([normals, innovations])
        slope = [
            (
                series_point(series, *np.split(both + e, [3])).value
                - series_point(series, *np.split(both - e, [3])).value
            )
            / 2e-5
            for e in np.eye(len(both)) * 1e-5
        ]
        ours = np.concatenate([point.settings_slope, point.innovations_slope])
        np.testing.assert_allclose(ours, slope, atol=1e-5)
    np.testing.assert_allclose(apart, apart[0], atol=1e-5)  # the same but for a constant


def test_the_fast_posterior_equals_weighted_draws_of_the_prior() -> None:
    """A short series, half a million series from the prior, each weighed by the probability of the counts."""
    expected = np.array([30.0, 25.0, 40.0, 35.0, 20.0])
    exits = np.array([36.0, 22.0, 55.0, 50.0, 33.0])
    rng, draws = np.random.default_rng(5), 500_000
    settings = settings_at(rng.standard_normal((draws, 3)), days=DAYS)
    middle, level = -(settings.sigma**2) / 2, np.zeros(draws)
    log_weight = np.zeros(draws)
    for p in range(len(exits)):
        noise = settings.sigma * (1.0 if p == 0 else np.sqrt(1 - settings.phi**2))
        level = middle + (settings.phi * (level - middle) if p else 0.0) + noise * rng.standard_normal(draws)
        mean = expected[p] * np.exp(level)
        log_weight += stats.nbinom.logpmf(exits[p], settings.kappa, settings.kappa / (settings.kappa + mean))
    weight = np.exp(log_weight - log_weight.max())
    weight /= weight.sum()
    assert 1 / (weight**2).sum() > 20_000
    mean, sigma = weight @ level, weight @ settings.sigma
    sd = np.sqrt(weight @ (level - mean) ** 2)
    told = laplace_level(exits, expected, days=DAYS)
    ours = told.probability @ told.mean
    our_sd = np.sqrt(told.probability @ (told.sd**2 + (told.mean - ours) ** 2))
    assert ours == pytest.approx(mean, abs=0.1 * sd)
    assert our_sd == pytest.approx(sd, rel=0.1)
    assert told.probability @ told.settings.sigma == pytest.approx(sigma, rel=0.1)
    assert told.probability @ told.settings.phi == pytest.approx(weight @ settings.phi, abs=0.02)
    finer = laplace_level(exits, expected, days=DAYS, sizes=(24, 16, 10))
    assert finer.probability @ finer.mean == pytest.approx(ours, abs=0.1 * sd)


def counts_of(exits: NDArray[np.float64], expected: NDArray[np.float64]) -> LevelCounts:
    return LevelCounts(exits, expected, DAYS, np.array([[FORWARD, DOWN, NO_DIRECTION]]))


def test_planted_levels_are_found() -> None:
    """One series that moves much and long, one that stands still."""
    rng = np.random.default_rng(6)
    expected = np.full((120, 2), 60.0)
    level, moving = planted_series(rng, sigma=0.4, half_life=60, luck=0.05, expected=expected[:, 0])
    told = learn_levels(
        counts_of(np.column_stack([moving, rng.poisson(60, 120)]), expected), inference="fast", draws=4000, seed=1
    )
    low, high = np.quantile(told.level[:, 0], [0.01, 0.99])
    assert low < level[-1] < high
    assert high - low < 0.8
    assert np.quantile(told.sigma[:, 0], 0.02) < 0.4 < np.quantile(told.sigma[:, 0], 0.98)
    assert told.sigma[:, 1].mean() < 0.1
    assert np.abs(told.level[:, 1]).mean() < 0.1
    assert future_factors(told, horizon_days=28, seed=1)[:, 1].mean() == pytest.approx(1.0, abs=0.05)


def test_future_factors_have_their_closed_form() -> None:
    draws, sigma, phi, target, now = 200_000, 0.5, 0.8, -0.1, 0.7
    flat = np.ones((draws, 2))
    levels = LevelPosterior(now * flat, target * flat, sigma * flat, phi * flat, np.array([[0, 1, -1]]), DAYS)
    steps = np.arange(1, 5)
    mean = np.exp(target + phi**steps * (now - target) + sigma**2 * (1 - phi ** (2 * steps)) / 2)
    expected = mean @ [7, 7, 7, 4] / 25
    told = future_factors(levels, horizon_days=25, seed=3)
    np.testing.assert_allclose(told.mean(axis=0), expected, rtol=0.005)
    np.testing.assert_array_equal(future_factors(levels, horizon_days=25, draws=50, seed=3), told[:50])
    assert np.abs(np.corrcoef(told.T)[0, 1]) < 0.01
    effects = level_effects(levels, told)
    np.testing.assert_array_equal(effects[:, 0], np.column_stack([told, np.ones(draws)]))
    with pytest.raises(SettingsError, match="1 to 200000 draws"):
        future_factors(levels, horizon_days=25, draws=draws + 1, seed=3)


def test_draws_depend_on_the_seed_and_nothing_else() -> None:
    exits = np.random.default_rng(7).poisson(30, (20, 2)).astype(float)
    first, again, other = (
        learn_levels(counts_of(exits, np.full((20, 2), 30.0)), inference="fast", draws=100, seed=seed)
        for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first.level, again.level)
    assert not np.array_equal(first.level, other.level)
    assert first.diagnostics.rhat_max is None


def test_one_period_is_enough() -> None:
    told = learn_levels(counts_of(np.array([[9.0, 0.0]]), np.array([[6.0, 0.0]])), inference="fast", draws=50, seed=1)
    assert np.isfinite(future_factors(told, horizon_days=30, seed=1)).all()


def test_a_week_later_all_stays_lie_one_period_earlier(fitted: tuple[Snapshot, StagePosterior]) -> None:
    snapshot, stage = fitted
    now, later = (
        level_counts(
            snapshot.stays, stage, cells=snapshot.cells, as_of=snapshot.as_of + timedelta(days=days), days=DAYS
        )
        for days in (0, DAYS)
    )
    np.testing.assert_array_equal(later.exits[:-1], now.exits)
    np.testing.assert_allclose(later.expected[-1], 0.0)
