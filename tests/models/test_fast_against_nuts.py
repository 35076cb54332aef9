"""Fast inference and NUTS side by side on whole histories: the same hazards, the same chances to win."""

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks import real_data
from forecasting.data.deals import deals_from_frames
from forecasting.data.sample import demo_history
from forecasting.data.snapshot import cut, stage_history
from forecasting.engine.renewal import outcome_table
from models.history import STILL_OPEN, StageHistory
from models.stage_model.fit import fit_stages
from models.stage_model.options import SamplerOptions
from models.stage_model.posterior import StagePosterior

pytestmark = pytest.mark.slow
DRAWS = 2000
ENOUGH_EVENTS, ENOUGH_DEALS = 100, 20


def demo() -> StageHistory:
    made = demo_history(seed=1, n_deals=20_000)
    deals = deals_from_frames(made.deals, made.stage_history, stages=made.graph, timezone="Europe/Amsterdam")
    return stage_history(cut(deals, as_of=made.as_of, covariates=("log_amount",)))


def bpic2012() -> StageHistory:
    folder = real_data.find_data()
    if folder is None:
        pytest.skip("the data folder is not there; set DEALCAST_DATA")
    return stage_history(cut(real_data.load_bpic2012(folder), as_of="2012-01-16", covariates=("log_amount",)))


def well_known_hazards(posterior: StagePosterior, history: StageHistory) -> NDArray[np.float64]:
    """Log hazards (draw, cell) of every level, stage, age bin and exit with at least ``ENOUGH_EVENTS`` exits."""
    columns = []
    draws = np.arange(posterior.n_draws)
    for stage, fit in enumerate(posterior.stages):
        rows = history.counts[(history.counts["stage"] == stage) & (history.counts["next"] != STILL_OPEN)]
        bins = np.searchsorted(fit.shape.starts, rows["days"], side="right") - 1
        level = history.cells[rows["cell"], 0]
        exits = np.searchsorted(fit.exits, rows["next"])
        base = fit.base.reshape(len(draws), len(fit.shape.starts), len(fit.exits))
        effect = posterior.log_effect(stage, draws, np.unique(history.cells[:, 0])[:, None].astype(np.int32))
        events = np.zeros((effect.shape[1], base.shape[1], base.shape[2]))
        np.add.at(events, (np.searchsorted(np.unique(history.cells[:, 0]), level), bins, exits), rows["count"])
        columns += [base[:, b, j] + effect[:, c, j] for c, b, j in np.argwhere(events >= ENOUGH_EVENTS)]
    return np.stack(columns, axis=1)


def ages_seen(history: StageHistory) -> NDArray[np.int64]:
    """Number of stays (stage, age) that were still running at the end of that day of the stay."""
    counts = history.counts
    outlasted = counts["days"].to_numpy() - (counts["next"] != STILL_OPEN).to_numpy()
    longest = int(outlasted.max())
    seen = np.zeros((history.graph.n_open, longest + 1), dtype=np.int64)
    for stage in range(history.graph.n_open):
        rows = (counts["stage"] == stage).to_numpy() & (outlasted >= 0)
        ended = np.bincount(outlasted[rows], weights=counts["count"].to_numpy()[rows], minlength=longest + 1)
        seen[stage] = np.cumsum(ended[::-1])[::-1]
    return seen


def chance_to_win(posterior: StagePosterior, history: StageHistory, ages: NDArray[np.int64]) -> NDArray[np.float64]:
    """Mean P(won within 30 and 90 days) by (cell, stage, age, horizon)."""
    n_cells = len(history.cells)
    total = np.zeros((n_cells, history.graph.n_open, len(ages), 2))
    blocks = np.array_split(np.arange(posterior.n_draws), 40)
    for draws in blocks:
        hazards = posterior.lattice(draws, days=int(ages[-1]) + 92, cells=history.cells)
        table = outcome_table(hazards, n_codes=len(history.graph.stages), days=[30, 90], ages=ages.tolist())
        total += table.probability[..., list(history.graph.won_codes)].sum(axis=(0, -1))
    return total / sum(len(draws) for draws in blocks)


@pytest.mark.parametrize("history_of", [demo, bpic2012])
def test_fast_inference_stands_in_for_nuts(history_of) -> None:
    history = history_of()
    fast = fit_stages(history, durations="piecewise", inference="fast", draws=DRAWS, seed=1)
    nuts = fit_stages(history, durations="piecewise", draws=DRAWS, seed=1, options=SamplerOptions(chains=2))
    assert nuts.diagnostics.divergences == 0
    ours, exact = well_known_hazards(fast, history), well_known_hazards(nuts, history)
    assert ours.shape[1] >= 20
    apart = np.abs(ours.mean(axis=0) - exact.mean(axis=0)) / exact.std(axis=0)
    ratio = ours.std(axis=0) / exact.std(axis=0)
    assert (apart <= 0.25).mean() >= 0.9
    assert ((ratio >= 0.85) & (ratio <= 1.2)).mean() >= 0.9
    seen = ages_seen(history)
    ages = np.flatnonzero((seen >= ENOUGH_DEALS).any(axis=0))
    far = np.abs(chance_to_win(fast, history, ages) - chance_to_win(nuts, history, ages))
    held = (seen[:, ages] >= ENOUGH_DEALS)[None, :, :, None] & np.ones_like(far, dtype=bool)
    assert far[held].max() <= 0.01
