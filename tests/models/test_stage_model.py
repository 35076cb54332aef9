"""Fitting whole pipelines: truth covered, segments pooled, nothing too sparse, too old or too empty."""

import numpy as np
import pandas as pd
import pytest
from planted_stays import GRAPH, base_hazards, draw_stays, planted_history
from scipy import stats

from models.errors import EmptyInputError, SettingsError
from models.history import UNSEEN_LEVEL, Factor, StageHistory, count_stays
from models.stage_model.fit import fit_stages
from models.stage_model.options import SamplerOptions
from models.stage_model.posterior import StagePosterior

SEEDS = 20
NO_CELL = np.zeros((1, 0), dtype=np.int32)
EFFECTS = np.array([[0.6, -0.4], [-0.5, 0.3], [0.0, 0.0], [0.1, -0.1]])


def counts_of(*rows: tuple[int, ...]) -> pd.DataFrame:
    return pd.DataFrame(list(rows), columns=["cell", "stage", "next", "days", "count"])


def by_day(posterior: StagePosterior, days: int = 60) -> np.ndarray:
    cells = np.full((1, len(posterior.factors)), UNSEEN_LEVEL, dtype=np.int32)
    return posterior.lattice(np.arange(posterior.n_draws), days=days, cells=cells).base


def within_band(hits: np.ndarray) -> bool:
    """Every count of hits out of ``SEEDS`` 95 % intervals is one that chance allows once in a thousand."""
    return bool((hits >= stats.binom.ppf(0.001, SEEDS, 0.95)).all())


def test_intervals_cover_planted_hazards() -> None:
    days = np.array([0, 4, 20])
    hits = np.zeros((2, 2, len(days)))
    for seed in range(SEEDS):
        posterior = fit_stages(
            planted_history(1500, seed), durations="piecewise", inference="fast", draws=1000, seed=seed
        )
        low, high = np.quantile(by_day(posterior)[..., days], [0.025, 0.975], axis=0)
        truth = base_hazards()[..., days]
        hits += (low <= truth) & (truth <= high)
    assert within_band(hits)
    assert hits.sum() >= stats.binom.ppf(0.001, SEEDS * hits.size, 0.9)


def test_intervals_cover_planted_effects() -> None:
    hits = np.zeros((4, 2))
    for seed in range(SEEDS):
        history = planted_history(4000, seed, EFFECTS)  # enough that pooling hardly pulls a level towards the others
        posterior = fit_stages(history, durations="piecewise", inference="fast", draws=1000, seed=seed)
        effect = posterior.stages[0].factors[0].effect
        contrast = effect - effect.mean(axis=1, keepdims=True)
        low, high = np.quantile(contrast, [0.025, 0.975], axis=0)
        truth = EFFECTS - EFFECTS.mean(axis=0)
        hits += (low <= truth) & (truth <= high)
    assert within_band(hits)


def test_a_small_segment_is_pulled_to_the_others() -> None:
    effects = np.array([[0.3, 0.0], [-0.3, 0.0], [0.0, 0.0]])
    stays = draw_stays(1500, 1, effects)
    small = stays[stays["cell"] == 2].groupby("stage").head(6)
    stays = pd.concat([stays[stays["cell"] < 2], small])
    cells = np.arange(3, dtype=np.int32)[:, None]
    history = StageHistory(GRAPH, count_stays(stays), (Factor("region", ("a", "b", "c")),), cells)
    effect = (
        fit_stages(history, durations="piecewise", inference="fast", draws=2000, seed=1).stages[0].factors[0].effect
    )
    assert effect[:, 2, 0].std() > 2 * effect[:, 0, 0].std()
    assert abs(effect[:, 2].mean(axis=0)).max() < 0.4
    assert effect[:, 0, 0].mean() - effect[:, 1, 0].mean() == pytest.approx(0.6, abs=0.25)


def test_thousands_of_owners_with_a_deal_or_two() -> None:
    n = 3000
    stays = draw_stays(n, 3)
    stays["cell"] = np.random.default_rng(1).integers(0, 2000, len(stays))
    levels = tuple(f"o{code}" for code in range(2000))
    history = StageHistory(
        GRAPH, count_stays(stays), (Factor("owner", levels),), np.arange(2000, dtype=np.int32)[:, None]
    )
    posterior = fit_stages(history, durations="piecewise", inference="fast", draws=200, seed=1)
    lattice = posterior.lattice(np.arange(200), days=30, cells=history.cells)
    assert np.isfinite(lattice.effect).all()
    assert (lattice.effect > 0).all()
    factor = posterior.stages[0].factors[0]
    assert len(factor.codes) <= 150
    assert len(factor.thin.codes) > 1000
    assert np.median(by_day(posterior)[:, 0, 0, 0]) == pytest.approx(0.3, rel=0.2)


def test_a_thin_level_leans_towards_its_own_stays() -> None:
    stays = pd.concat([draw_stays(400, 1), pd.DataFrame({"cell": 1, "stage": [0, 0], "next": [1, 1], "days": [0, 0]})])
    history = StageHistory(
        GRAPH, count_stays(stays), (Factor("owner", ("many", "two")),), np.array([[0], [1]], dtype=np.int32)
    )
    thin = fit_stages(history, durations="piecewise", inference="fast", draws=200, seed=1).stages[0].factors[0].thin
    assert thin.codes.tolist() == [1]
    assert thin.mean[0, 0] > 0 > thin.mean[0, 1]


@pytest.mark.parametrize("durations", ["auto", "weibull", "piecewise"])
def test_a_stage_nobody_has_left_is_wide_but_proper(durations: str) -> None:
    history = StageHistory(GRAPH, counts_of((0, 0, 1, 3, 40), (0, 0, 3, 5, 40), (0, 1, -1, 2, 3)), (), NO_CELL)
    posterior = fit_stages(history, durations=durations, inference="fast", draws=2000, seed=1)
    assert posterior.stages[1].exits == (2, 3)
    hazards = by_day(posterior)[:, 1].sum(axis=1)
    assert np.isfinite(hazards).all()
    assert (hazards > 0).all()
    low, high = np.quantile(hazards[:, 20], [0.05, 0.95])
    assert high / low > 10


def test_a_stage_without_any_stay() -> None:
    history = StageHistory(GRAPH, counts_of((0, 0, 3, 3, 40)), (), NO_CELL)
    posterior = fit_stages(history, inference="fast", draws=50, seed=1)
    assert np.isfinite(by_day(posterior)).all()


def test_deals_nobody_closes_lower_the_late_hazard() -> None:
    closing, forgotten = (0, 0, 1, 10, 200), (0, 0, -1, 3650, 30)
    history = StageHistory(GRAPH, counts_of(closing, (0, 0, 3, 12, 200), forgotten, (0, 1, 2, 1, 5)), (), NO_CELL)
    posterior = fit_stages(history, durations="piecewise", inference="fast", draws=1000, seed=1)
    late = by_day(posterior, days=1000)[:, 0, :, 900].sum(axis=1)
    assert np.quantile(late, 0.95) < 1e-3


def test_the_same_seed_gives_the_same_draws_and_progress_is_told() -> None:
    history, told = planted_history(100, 1), []
    posteriors = [
        fit_stages(history, inference="fast", draws=50, seed=9, progress=lambda *done: told.append(done))
        for _ in range(2)
    ]
    assert all(np.array_equal(a.base, b.base) for a, b in zip(posteriors[0].stages, posteriors[1].stages, strict=True))
    assert told[:2] == [("Lead", 1, 2), ("Offer", 2, 2)]


def test_nuts_reports_its_diagnostics() -> None:
    options = SamplerOptions(chains=2, tune=150, cores=1)
    posterior = fit_stages(planted_history(300, 1), durations="piecewise", draws=600, seed=1, options=options)
    assert (posterior.inference, posterior.n_chains, posterior.n_draws) == ("nuts", 2, 600)
    assert posterior.sampler.startswith("PyMC")
    found = posterior.diagnostics
    assert found.rhat_max is not None
    assert found.ess_min is not None
    assert found.rhat_max < 1.05
    assert found.ess_min > 50
    fast = fit_stages(planted_history(300, 1), durations="piecewise", inference="fast", draws=600, seed=1)
    assert by_day(posterior).mean(axis=0)[0, 0, 0] == pytest.approx(by_day(fast).mean(axis=0)[0, 0, 0], rel=0.05)


@pytest.mark.slow
def test_worker_processes_change_nothing() -> None:
    runs = [
        fit_stages(
            planted_history(300, 1), durations="piecewise", draws=1000, seed=1, options=SamplerOptions(cores=cores)
        )
        for cores in (1, 2)
    ]
    assert all(np.array_equal(a.base, b.base) for a, b in zip(runs[0].stages, runs[1].stages, strict=True))


def test_what_cannot_be_fitted_says_so() -> None:
    history = planted_history(20, 1)
    with pytest.raises(SettingsError, match="unknown duration family 'cubic'"):
        fit_stages(history, durations="cubic", inference="fast", seed=1)
    with pytest.raises(SettingsError, match="durations names Nowhere"):
        fit_stages(history, durations={"Nowhere": "weibull"}, inference="fast", seed=1)
    with pytest.raises(SettingsError, match="expected inference"):
        fit_stages(history, inference="slow", seed=1)  # type: ignore[arg-type]
    empty = StageHistory(GRAPH, counts_of().astype(np.int64), (), NO_CELL)
    with pytest.raises(EmptyInputError, match="holds no stay"):
        fit_stages(empty, inference="fast", seed=1)
