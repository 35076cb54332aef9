"""Checks against closed forms and planted misfit."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from planted_stays import GRAPH, base_hazards, planted_history

from models.errors import InputError, SettingsError
from models.history import StageHistory
from models.stage_model.base_lattice import BaseShape
from models.stage_model.checks import (
    cumulative_incidence,
    incidence,
    prior_draws,
    residual_spikes,
    transition_log_score,
)
from models.stage_model.fit import fit_stages
from models.stage_model.posterior import StageFit, StagePosterior

NO_CELL = np.zeros((1, 0), dtype=np.int32)
COLUMNS = ["cell", "stage", "next", "days", "count"]


def constant(rates: list[float]) -> StagePosterior:
    """Posterior of one draw with constant hazards in both stages."""
    shape = BaseShape("piecewise", n_exits=2, starts=(0,))
    fits = tuple(StageFit((stage + 1, 3), shape, np.log([rates]), (), "planted") for stage in (0, 1))
    return StagePosterior(GRAPH, (), fits, "fast", "planted", 1)


def test_incidence_of_constant_hazards_is_exponential() -> None:
    base = np.full((1, 2, 30), 1.0) * np.array([0.1, 0.05])[None, :, None]
    out = incidence(base, np.array([[[1.0, 1.0], [2.0, 1.0]]]), np.array([0.25, 0.75]))
    ends = np.arange(1, 31)
    first = 0.25 * 0.1 / 0.15 * -np.expm1(-0.15 * ends) + 0.75 * 0.2 / 0.25 * -np.expm1(-0.25 * ends)
    assert out[0, 0] == pytest.approx(first, rel=1e-12)


def test_observed_incidence_is_aalen_johansen_by_hand() -> None:
    rows = [(0, 0, 1, 0, 2), (0, 0, 3, 1, 3), (0, 0, -1, 1, 1), (0, 0, 1, 2, 4)]
    history = StageHistory(GRAPH, pd.DataFrame(rows, columns=COLUMNS), (), NO_CELL)
    table = cumulative_incidence(constant([0.1, 0.1]), history, "Lead")
    forward = table.loc[table["next"] == "Offer", "observed"].tolist()
    lost = table.loc[table["next"] == "Lost", "observed"].tolist()
    assert forward == pytest.approx([0.2, 0.2, 0.2 + 0.8 * (5 / 8) * 1.0])
    assert lost == pytest.approx([0.0, 0.8 * 3 / 8, 0.8 * 3 / 8])


def test_predicted_band_follows_the_truth() -> None:
    history = planted_history(2000, 1)
    posterior = fit_stages(history, durations="piecewise", inference="fast", draws=400, seed=1)
    table = cumulative_incidence(posterior, history, "Lead")
    truth = incidence(base_hazards()[:1], np.ones((1, 1, 2)), np.ones(1))[0]
    for j, target in enumerate(("Offer", "Lost")):
        part = table[table["next"] == target]
        assert part["p50"].to_numpy() == pytest.approx(truth[j, : len(part)], abs=0.03)
        assert ((part["p05"] <= part["p50"]) & (part["p50"] <= part["p95"])).all()


def test_a_timer_is_named_in_words_and_only_where_the_fit_misses_it() -> None:
    history = planted_history(600, 2)
    timer = pd.DataFrame([(0, 1, 3, 30, 120), (0, 1, 3, 31, 60)], columns=COLUMNS)
    counts = pd.concat([history.counts, timer]).groupby(COLUMNS[:-1], as_index=False)["count"].sum()
    with_timer = StageHistory(GRAPH, counts, (), NO_CELL)
    smooth = fit_stages(with_timer, durations="weibull", inference="fast", draws=200, seed=1)
    spikes = residual_spikes(smooth, with_timer)
    named = spikes[(spikes["stage"] == "Offer") & (spikes["next"] == "Lost") & (spikes["first_day"] == 30)]
    assert len(named) == 1
    assert named["text"].iloc[0].startswith("Offer to Lost has ")
    assert "of its mass on days 30 to 31, the fitted family gives" in named["text"].iloc[0]
    piecewise = fit_stages(with_timer, durations="piecewise", inference="fast", draws=200, seed=1)
    assert residual_spikes(piecewise, with_timer).empty


def test_a_history_laid_out_otherwise_is_refused() -> None:
    posterior = fit_stages(planted_history(200, 1), durations="piecewise", inference="fast", draws=50, seed=1)
    with pytest.raises(SettingsError, match="told apart by region"):
        residual_spikes(posterior, planted_history(200, 1, np.zeros((2, 2))))
    by_region = planted_history(200, 1, np.zeros((2, 2)))
    posterior = fit_stages(by_region, durations="piecewise", inference="fast", draws=50, seed=1)
    others = replace(by_region, factors=(replace(by_region.factors[0], levels=("r1", "r2")),))
    with pytest.raises(SettingsError, match="cut region into other levels"):
        residual_spikes(posterior, others)


def test_log_score_by_hand() -> None:
    stays = pd.DataFrame(
        [(0, 0, 1, 3, -1, 2), (0, 0, 3, 5, 2, 1), (0, 0, -1, 9, 4, 1)],
        columns=["cell", "stage", "next", "days", "days_known", "count"],
    )
    leave = np.log(-np.expm1(-0.15))
    expected = 2 * (np.log(2 / 3) + leave - 3 * 0.15) + (np.log(1 / 3) + leave - 2 * 0.15) - 5 * 0.15
    assert transition_log_score(constant([0.1, 0.05]), stays, NO_CELL) == pytest.approx(expected / 3, rel=1e-12)
    impossible = stays.assign(next=2)
    assert transition_log_score(constant([0.1, 0.05]), impossible, NO_CELL) == -np.inf
    with pytest.raises(InputError, match="at least one ended stay"):
        transition_log_score(constant([0.1, 0.05]), stays.assign(next=-1), NO_CELL)


def test_the_prior_is_wide_but_sane() -> None:
    history = planted_history(200, 1, np.zeros((3, 2)))
    prior = prior_draws(history, draws=500, seed=1)
    table = cumulative_incidence(prior, history, "Lead")
    last = table.groupby("next").tail(1).set_index("next")
    assert (last["p05"] < 0.1).all()
    assert (last["p95"] > 0.8).all()
