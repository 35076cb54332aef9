"""What becomes of every single deal of a forecast, draw by draw: the numbers that the forecast itself is the sum of."""

import numpy as np
from numba import njit
from numpy.typing import NDArray

from forecasting.answers.forecasts import Forecast
from forecasting.answers.revenue import Span
from forecasting.engine.amounts import amount_keys, win_cents
from forecasting.engine.clock import clock_at, lattice_reach, progress_by_day
from forecasting.engine.deal_groups import GroupedDeals, amount_draws
from forecasting.engine.fate import MAX_BITS, TO_BITS, win_probabilities
from forecasting.engine.streams import STEP_FATE, half, mix, pair_key


@njit
def uniform_bits(seed, draw, key):  # type: ignore[no-untyped-def]
    """The number in 0 .. 2^32 - 1 that decides a deal's fate in a draw."""
    return half(mix(pair_key(seed, draw, STEP_FATE) + key), draw)


@njit
def cents_if_won(deals, amounts, row, seed, draw, deal):  # type: ignore[no-untyped-def]
    """Cents that the deal brings in the draw if it is won."""
    return win_cents(deals, amounts, row, amount_keys(seed, draw), deal)


def deal_fates(
    forecast: Forecast, deals: GroupedDeals, draws: NDArray[np.int64], *, span: Span
) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Whether each deal is won in the span, and for how many cents if it is won, shape (draw, deal), not calibrated."""
    posterior, graph, arrays = forecast.posterior, forecast.pipeline.graph, deals.arrays
    before, last = max((span.start - forecast.as_of).days - 1, 0), (span.end - forecast.as_of).days
    progress = progress_by_day(forecast.pace, draws, days=last)
    clock = clock_at(progress, np.array([before, last]))
    hazards = posterior.stage.lattice(draws, days=deals.max_age + lattice_reach(progress) + 2, cells=deals.cells)
    value = np.isin(np.arange(len(graph.stages)), graph.won_codes).astype(np.float64)
    amounts = amount_draws(posterior.amounts, draws, graph.n_open)
    won = np.zeros((len(draws), len(arrays.key)), dtype=np.bool_)
    cents = np.zeros(won.shape, dtype=np.int64)
    table = np.empty((len(arrays.group_cell), 2), dtype=np.float32)
    for row, draw in enumerate(draws.tolist()):
        win_probabilities(
            hazards.base[row], hazards.effect[row], hazards.next_stage, value, arrays, clock.day[row],
            clock.fraction[row], table,
        )  # fmt: skip
        reached = np.minimum(table * TO_BITS, MAX_BITS).astype(np.uint32)[arrays.group]
        bits = np.array([uniform_bits(forecast.seed, draw, key) for key in arrays.key])
        won[row] = (bits < reached[:, 1]) & ~((bits < reached[:, 0]) & (before > 0))
        cents[row] = [cents_if_won(arrays, amounts, row, forecast.seed, draw, deal) for deal in range(len(bits))]
    return won, cents
