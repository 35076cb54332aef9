"""Levels by fast inference and by NUTS side by side: the same present level, the same future."""

import numpy as np
import pytest

from benchmarks import real_data
from forecasting.data.deals import deals_from_frames
from forecasting.data.sample import demo_history
from forecasting.data.snapshot import Snapshot, cut, stage_history
from models.levels.counts import LevelCounts, level_counts
from models.levels.fit import learn_levels
from models.levels.posterior import future_factors
from models.levels.season import WEEK_DAYS
from models.stage_model.fit import fit_stages

pytestmark = pytest.mark.slow
DRAWS, HORIZON = 4000, 28


def demo() -> Snapshot:
    made = demo_history(seed=1, n_deals=20_000)
    deals = deals_from_frames(made.deals, made.stage_history, stages=made.graph, timezone="Europe/Amsterdam")
    return cut(deals, as_of=made.as_of, covariates=("log_amount",))


def bpic2012() -> Snapshot:
    folder = real_data.find_data()
    if folder is None:
        pytest.skip("the data folder is not there; set DEALCAST_DATA")
    return cut(real_data.load_bpic2012(folder), as_of="2012-01-16", covariates=("log_amount",))


@pytest.mark.parametrize("snapshot_of", [demo, bpic2012])
def test_fast_levels_stand_in_for_nuts(snapshot_of) -> None:
    snapshot = snapshot_of()
    stage = fit_stages(stage_history(snapshot), durations="piecewise", inference="fast", draws=200, seed=1)
    counts = level_counts(snapshot.stays, stage, cells=snapshot.cells, as_of=snapshot.as_of, days=WEEK_DAYS)
    fast, nuts = (learn_levels(counts, inference=inference, draws=DRAWS, seed=1) for inference in ("fast", "nuts"))
    found = nuts.diagnostics
    assert found.rhat_max is not None
    assert found.ess_min is not None
    assert found.rhat_max <= 1.01
    assert found.ess_min >= 400
    assert found.divergences == 0
    pairs = [(getattr(fast, name), getattr(nuts, name)) for name in ("level", "sigma", "phi")]
    pairs.append(tuple(np.log(future_factors(each, horizon_days=HORIZON, seed=1)) for each in (fast, nuts)))
    for ours, exact in pairs:
        assert (np.abs(ours.mean(axis=0) - exact.mean(axis=0)) <= 0.25 * exact.std(axis=0)).all()
        ratio = ours.std(axis=0) / exact.std(axis=0)
        assert ((ratio >= 0.85) & (ratio <= 1.2)).all()


def test_chains_move_where_thousands_of_exits_pin_the_settings_beyond_the_grid() -> None:
    rng = np.random.default_rng(4)
    expected = np.full((60, 2), [840.0, 3300.0])
    moving = np.exp(np.column_stack([np.zeros(60), rng.normal(0, 0.25, 60)]))
    counts = LevelCounts(rng.poisson(expected * moving).astype(float), expected, 42, np.zeros((1, 1), dtype=np.int64))
    found = learn_levels(counts, inference="nuts", draws=2000, seed=1).diagnostics
    assert found.trusted, found
    assert found.ess_min is not None
    assert found.ess_min > 500
