"""Chains that leave doubts are sampled again: with care where they moved badly, longer where they merely seem to differ."""

from dataclasses import replace

import numpy as np
import pytest
from planted_stays import planted_history

from models.stage_model import sampling
from models.stage_model.fit import choose_problems
from models.stage_model.laplace import LaplaceFit
from models.stage_model.options import CAREFUL_DEPTH, CHAIN_LENGTH, SMALLEST_STEPS, SamplerOptions
from models.stage_model.posterior import Diagnostics
from models.stage_model.problem import StageProblem
from models.stage_model.sampling import SampledStage, sample_choice, sample_stage

OPTIONS = SamplerOptions(chains=2, cores=1)
GOOD, FAR, SLOW = Diagnostics(1.005, 900.0), Diagnostics(1.012, 900.0), Diagnostics(1.005, 90.0)
FEW = Diagnostics(1.005, 350.0)
"""Too few to be published, though not so few that the chains must have moved badly."""
LEVELS = np.zeros((4, 2))


def attempts(monkeypatch: pytest.MonkeyPatch, found: list[Diagnostics], *, draws: int) -> list[tuple[int, int]]:
    """Tree depth and thinning of every attempt, when what is found of the chains is given."""
    made: list[tuple[int, int]] = []
    answers = iter(found)

    def sampled(
        problem: StageProblem, start: LaplaceFit, *, draws: int, seed: int, options: SamplerOptions, thin: int
    ) -> SampledStage:
        made.append((options.max_tree_depth, thin))
        return SampledStage(start.innovations, start.log_scales, 0)

    monkeypatch.setattr(sampling, "sample_stage", sampled)
    monkeypatch.setattr(sampling, "diagnose", lambda fit, *, chains, divergences: next(answers))
    choice = choose_problems(planted_history(150, 1, LEVELS), {"Lead": "piecewise", "Offer": "piecewise"}, seed=1)[0]
    sample_choice(choice, 0, draws=draws, seed=1, options=OPTIONS)
    assert next(answers, None) is None
    return made


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ([GOOD], [(3, 1)]),
        ([FAR, GOOD], [(3, 1), (3, 2)]),
        ([FAR] * 3, [(3, 1), (3, 2), (3, 4)]),
        ([SLOW, FAR, GOOD], [(3, 1), (CAREFUL_DEPTH, 1), (CAREFUL_DEPTH, 2)]),
        ([SLOW, SLOW, GOOD], [(3, 1), (CAREFUL_DEPTH, 1), (CAREFUL_DEPTH, 2)]),
        ([FEW, GOOD], [(3, 1), (3, 2)]),
        ([FEW, replace(GOOD, divergences=1), GOOD], [(3, 1), (3, 2), (CAREFUL_DEPTH, 2)]),
        ([replace(GOOD, divergences=1), GOOD], [(3, 1), (CAREFUL_DEPTH, 1)]),
        ([replace(GOOD, divergences=1)] * 2 + [GOOD], [(3, 1), (CAREFUL_DEPTH, 1), (SMALLEST_STEPS[1], 1)]),
    ],
)
def test_doubts_are_followed_up(
    monkeypatch: pytest.MonkeyPatch, found: list[Diagnostics], expected: list[tuple[int, int]]
) -> None:
    assert attempts(monkeypatch, found, draws=2 * CHAIN_LENGTH) == expected


def test_chains_too_short_to_tell_are_not_made_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    assert attempts(monkeypatch, [FAR], draws=400) == [(3, 1)]


def test_of_longer_chains_every_second_draw_is_kept() -> None:
    from models.stage_model.laplace import laplace_fit

    choice = choose_problems(planted_history(150, 1, LEVELS), {"Lead": "weibull", "Offer": "weibull"}, seed=1)[0]
    start = laplace_fit(choice.problem, draws=50, rng=np.random.default_rng(1))
    few = SamplerOptions(chains=2, tune=20, cores=1)
    whole = sample_stage(choice.problem, start, draws=80, seed=1, options=few)
    half = sample_stage(choice.problem, start, draws=40, seed=1, options=few, thin=2)
    assert np.array_equal(half.innovations, whole.innovations.reshape(2, 40, -1)[:, 1::2].reshape(40, -1))
