"""Which ways the model keeps open: what little has been seen of must not at once be impossible."""

import numpy as np
import pandas as pd
import pytest

from models.history import StageHistory
from models.stage_model.data import exits_of
from models.stage_model.fit import fit_stages
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
