"""Hazards by day from a fitted posterior, levels never seen, and the way to a file and back."""

from pathlib import Path

import numpy as np
import pytest
from planted_stays import planted_history

from models.durations.families import FAMILIES
from models.errors import InputError
from models.history import UNSEEN_LEVEL
from models.stage_model.fit import fit_stages
from models.stage_model.posterior import StagePosterior, load_stage_posterior

LEVELS = np.array([[0.5, -0.3], [-0.4, 0.2], [0.0, 0.0]])
FAMILY_NAMES = ["piecewise", "weibull", "lognormal"]


@pytest.fixture(scope="module", params=FAMILY_NAMES)
def posterior(request: pytest.FixtureRequest) -> StagePosterior:
    return fit_stages(planted_history(200, 1, LEVELS), durations=request.param, inference="fast", draws=60, seed=4)


def test_lattice_equals_direct_evaluation(posterior: StagePosterior) -> None:
    cells = np.array([[0], [2]], dtype=np.int32)
    lattice = posterior.lattice(np.array([3, 17]), days=121, cells=cells)
    for row, draw in enumerate((3, 17)):
        for stage, fit in enumerate(posterior.stages):
            shape = fit.shape
            for j in range(len(fit.exits)):
                for day in (0, 1, 2, 9, 10, 49, 85, 120):
                    assert lattice.base[row, stage, j, day] == pytest.approx(
                        direct(shape, fit.base[draw], j, day), rel=1e-9
                    )
                for cell, (level,) in enumerate(cells):
                    expected = np.exp(fit.factors[0].effect[draw, level, j])
                    assert lattice.effect[row, cell, stage, j] == pytest.approx(expected, rel=1e-12)


def bin_of(shape: object, day: int) -> int:
    return max(b for b, start in enumerate(shape.starts) if start <= day)  # type: ignore[attr-defined]


def faded(shape: object, hazards: np.ndarray, day: int) -> float:
    """What is left of the last bin's hazard beyond the oldest age seen: lively deals leave, idle ones stay."""
    last, seen = shape.starts[-1], shape.seen  # type: ignore[attr-defined]
    pace = np.mean([hazards[bin_of(shape, earlier)].sum() for earlier in range(1, last)])
    held = hazards[-1].sum()
    if day < seen or held >= pace:
        return 1.0
    idle = 1.0 - held / pace
    alive = [idle + (1.0 - idle) * np.exp(-pace * (day - seen + more)) for more in (0, 1)]
    return float(max(np.log(alive[0] / alive[1]), 1e-4 * pace) / held)


def direct(shape: object, parameters: np.ndarray, j: int, day: int) -> float:
    family, n_exits = shape.family, shape.n_exits  # type: ignore[attr-defined]
    if family == "piecewise":
        hazards = np.exp(parameters).reshape(-1, n_exits)
        return faded(shape, hazards, day) * float(hazards[bin_of(shape, min(day, shape.seen - 1)), j])  # type: ignore[attr-defined]
    width = len(FAMILIES[family].parameters)
    if day == 0 and shape.zero_mass:  # type: ignore[attr-defined]
        return float(np.exp(parameters[n_exits * width + j]))
    theta = parameters[j * width : (j + 1) * width]
    before, after = (-FAMILIES[family].log_survival(float(time), theta) for time in (day, day + 1))
    return float(after - before)


def test_any_block_of_draws_gives_the_same_numbers(posterior: StagePosterior) -> None:
    cells = np.array([[0], [UNSEEN_LEVEL], [99]], dtype=np.int32)
    whole = posterior.lattice(np.arange(60), days=20, cells=cells)
    part = posterior.lattice(np.array([41, 7]), days=20, cells=cells[1:])
    assert np.array_equal(part.base, whole.base[[41, 7]])
    assert np.array_equal(part.effect, whole.effect[[41, 7]][:, 1:])


def test_an_unseen_level_spreads_like_the_levels(posterior: StagePosterior) -> None:
    cells = np.arange(100, 600, dtype=np.int32)[:, None]
    log_effect = posterior.log_effect(0, np.arange(60), cells)
    scale = np.exp(posterior.stages[0].factors[0].log_scale)
    standard = log_effect / scale[:, None]
    assert abs(standard.mean()) < 0.02
    assert standard.std() == pytest.approx(1.0, abs=0.02)


def test_save_and_load(posterior: StagePosterior, tmp_path: Path) -> None:
    posterior.save(tmp_path / "stage")
    again = load_stage_posterior(tmp_path / "stage")
    cells = np.array([[1], [UNSEEN_LEVEL]], dtype=np.int32)
    ours, theirs = (p.lattice(np.arange(60), days=30, cells=cells) for p in (posterior, again))
    assert np.array_equal(ours.base, theirs.base)
    assert np.array_equal(ours.effect, theirs.effect)
    assert np.array_equal(ours.next_stage, theirs.next_stage)
    assert (again.graph, again.factors, again.diagnostics) == (
        posterior.graph,
        posterior.factors,
        posterior.diagnostics,
    )
    assert [fit.reason for fit in again.stages] == [fit.reason for fit in posterior.stages]


def test_nothing_saved_is_an_error_that_says_so(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected a saved stage posterior"):
        load_stage_posterior(tmp_path / "none")


def test_datatree_keeps_draws_and_dims(posterior: StagePosterior) -> None:
    tree = posterior.to_datatree()
    assert tree["posterior"]["Lead base"].shape == (1, *posterior.stages[0].base.shape)
    assert tree["posterior"]["Lead region effect"].shape == (1, 60, 3, 2)
