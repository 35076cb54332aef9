"""Levels that lie on a line, such as classes of amounts: one with few stays follows what the others say of its place."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from planted_stays import GRAPH, draw_stays, even_rates

from models.history import Factor, StageHistory, count_stays
from models.stage_model.data import LINE_SHARE, level_root, stage_data
from models.stage_model.fit import fit_stages, level_effects_of
from models.stage_model.posterior import load_stage_posterior
from models.stage_model.problem import piecewise_problem

PLACES = (-(2**0.5), -(0.5**0.5), 0.0, 0.5**0.5, 2**0.5)
SLOPE = -0.5
LEVELS = ("a", "b", "c", "d", "e", "missing")
LINE = Factor("amount", LEVELS, (1.0, 2.0, 3.0, 4.0), (*PLACES, None))


def falling_history(factor: Factor, *, of_last: int) -> StageHistory:
    """Both exits fall along the line; of the last class on it only so many stays in each stage are known."""
    effects = np.array([[SLOPE * (place or 0.0)] * 2 for place in factor.places])
    stays = draw_stays(3000, 5, effects)
    last = stays["cell"] == 4
    kept = stays[~last | (stays[last].groupby("stage").cumcount().reindex(stays.index) < of_last)]
    return StageHistory(GRAPH, count_stays(kept), (factor,), np.arange(len(LEVELS), dtype=np.int32)[:, None])


def test_effects_have_the_covariance_of_a_line_and_of_levels_apart() -> None:
    root = level_root(LINE, np.array([0, 2, 4, 5]))
    place = np.array([PLACES[0], PLACES[2], PLACES[4], 0.0])
    expected = LINE_SHARE * np.outer(place, place) + np.diag([*[1 - LINE_SHARE] * 3, 1.0])
    np.testing.assert_allclose(root @ root.T, expected, atol=1e-12)
    np.testing.assert_array_equal(level_root(replace(LINE, places=()), np.arange(6)), np.eye(6))


def test_what_is_published_of_a_level_is_what_the_likelihood_saw() -> None:
    data = stage_data(falling_history(LINE, of_last=40), 0)
    problem = piecewise_problem(data, even_rates(data))
    innovations = np.random.default_rng(1).standard_normal((1, problem.size))
    log_scales = np.array([[-1.0, -2.0]])
    effect = level_effects_of(problem, innovations, log_scales)[0][0]
    scaled = np.exp(log_scales) * innovations[0, problem.n_parameters :].reshape(-1, 2)
    seen = problem.design @ scaled
    np.testing.assert_allclose(effect[problem.data.levels[:, 0]], seen, atol=1e-12)


@pytest.mark.parametrize("of_last", [0, 1, 2])
def test_a_class_with_next_to_no_stays_follows_the_line_too(of_last: int) -> None:
    history = falling_history(LINE, of_last=of_last)
    posterior = fit_stages(history, durations="auto", inference="fast", draws=1000, seed=1)
    effect = posterior.log_effect(0, np.arange(1000), history.cells)
    rise = effect[:, 4].mean(axis=-1) - effect[:, 2].mean(axis=-1)
    assert rise.mean() == pytest.approx(SLOPE * PLACES[4], abs=0.3)
    assert rise.std() > 1.5 * (effect[:, 3] - effect[:, 2]).mean(axis=-1).std()


@pytest.mark.parametrize("inference", ["fast", "nuts"])
def test_a_class_with_few_stays_follows_the_line(inference: str) -> None:
    top = {}
    for name, factor in (("line", LINE), ("apart", replace(LINE, places=()))):
        history = falling_history(replace(factor, places=LINE.places), of_last=6)
        posterior = fit_stages(
            replace(history, factors=(factor,)), durations="piecewise", inference=inference, draws=1000, seed=1
        )
        effect = posterior.stages[0].factors[0].effect.mean(axis=0)
        top[name] = float((effect[4] - effect[2]).mean())
    truth = SLOPE * PLACES[4]
    assert abs(top["line"] - truth) < 0.5 * abs(top["apart"] - truth)
    assert top["line"] == pytest.approx(truth, abs=0.25)


def test_places_are_kept_in_files(tmp_path: Path) -> None:
    posterior = fit_stages(falling_history(LINE, of_last=6), durations="piecewise", inference="fast", draws=50, seed=1)
    posterior.save(tmp_path / "stage")
    assert load_stage_posterior(tmp_path / "stage").factors == (LINE,)
