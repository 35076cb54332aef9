"""Which ways the model keeps open: what little has been seen of must not at once be impossible."""

import numpy as np
import pandas as pd
import pytest

from models.history import StageHistory
from models.stage_model.data import exits_of
from models.stage_model.fit import KIND_SHARES, KIND_WEIGHT, fit_stages, pooled_exit_rates
from models.stages import StageGraph

GRAPH = StageGraph(open=["Lead", "Offer"], won=["Won"], lost=["Lost", "Cancelled"])
LEAD, OFFER, WON, LOST, CANCELLED = range(5)


def history(rows: list[tuple[int, int, int]]) -> StageHistory:
    """Stays of four days that end as told: stage, next, number; none ends without."""
    counts = pd.DataFrame(
        [(0, stage, after, 4, n) for stage, after, n in rows], columns=["cell", "stage", "next", "days", "count"]
    )
    return StageHistory(GRAPH, counts, (), np.zeros((1, 0), dtype=np.int32))


def test_natural_moves_are_kept_while_little_is_seen_or_nothing_of_their_kind_ever_was() -> None:
    everywhere = [(LEAD, OFFER, 500), (LEAD, LOST, 500)]
    assert exits_of(history([*everywhere, (OFFER, LOST, 60)]), OFFER) == (WON, LOST, CANCELLED)
    assert exits_of(history([*everywhere, (OFFER, LOST, 400)]), OFFER) == (WON, LOST)
    assert exits_of(history([*everywhere, (OFFER, WON, 1), (OFFER, LOST, 400)]), OFFER) == (WON, LOST)
    assert exits_of(history([*everywhere, (OFFER, WON, 400)]), OFFER) == (WON,)
    assert exits_of(history([(LEAD, OFFER, 400), (OFFER, WON, 400)]), OFFER) == (WON, LOST, CANCELLED)


@pytest.mark.parametrize("n", [9, 10, 99, 100, 400])
def test_what_never_happened_gets_rarer_without_a_jump_and_never_impossible(n: int) -> None:
    lost_so_far = history([(LEAD, OFFER, n), (OFFER, LOST, n)])
    hazards = fit_stages(lost_so_far, durations="piecewise", inference="fast", draws=400, seed=1).lattice(
        np.arange(400), days=30, cells=lost_so_far.cells
    )
    place = int(np.flatnonzero(hazards.next_stage[OFFER] == WON)[0])
    rates = (hazards.base * hazards.effect[:, 0, :, :, None])[:, OFFER].sum(axis=2)
    share = rates[:, place] / rates.sum(axis=1)
    assert 0.005 / n < share.mean() < 1.0 / n


def test_exits_nothing_is_known_of_follow_those_of_the_whole_pipeline() -> None:
    """Shares of ahead, back and lost by exits of all stages beside a few usual ones; exits of a kind share theirs."""
    seen = history([(LEAD, OFFER, 6), (LEAD, LOST, 3), (OFFER, LEAD, 1)])
    rates = pooled_exit_rates(seen, OFFER, (LEAD, WON, LOST, CANCELLED))
    back, ahead, lost = (KIND_WEIGHT * KIND_SHARES[kind] + n for kind, n in (("back", 1), ("ahead", 6), ("lost", 3)))
    np.testing.assert_allclose(rates / rates.sum(), np.array([back, ahead, lost / 2, lost / 2]) / (10 + KIND_WEIGHT))
    assert rates.sum() == pytest.approx(11 / (10 * 5 + 30))


def test_a_stage_nobody_has_reached_moves_as_the_others_do_give_or_take_a_factor_ten() -> None:
    young = history([(LEAD, OFFER, 6), (LEAD, LOST, 4)])
    drawn = fit_stages(young, durations="piecewise", inference="fast", draws=4000, seed=1).lattice(
        np.arange(4000), days=30, cells=young.cells
    )
    expected = dict(zip((WON, LOST, CANCELLED), pooled_exit_rates(young, OFFER, (WON, LOST, CANCELLED)), strict=True))
    for place, code in enumerate(drawn.next_stage[OFFER]):
        low, middle, high = np.quantile(drawn.base[:, OFFER, place, 7], [0.025, 0.5, 0.975])
        assert middle == pytest.approx(expected[int(code)], rel=0.1)
        assert 8 < high / middle < 13
        assert 8 < middle / low < 13
