"""Exact chances of each group of open deals, worked out when first asked for."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, partial

import numpy as np
from numpy.typing import NDArray

from forecasting.engine.amounts import DealArrays
from forecasting.engine.blocks import MEGABYTE, EngineOptions, cut_draws, evenly_spaced, run_blocks
from forecasting.engine.clock import clock_at, progress_by_day
from forecasting.engine.deal_groups import slice_groups
from forecasting.engine.details import DetailMeans, close_day_grid, detail_clocks, detail_means, ending_means
from forecasting.engine.fate import MEAN_UNIT, add_win_sums
from forecasting.engine.tasks import Situation

LONG_HORIZON = 3 * 365
"""Days to which the closing of each deal is followed, whatever the forecast horizon."""
SUM_BYTES = 24
"""Table of one draw and sums, in work and on their way back, for each group and period."""
DETAIL_BLOCK = 8
"""Draws whose hazards to the long horizon are in memory at a time."""


@dataclass(frozen=True)
class GroupChances:
    """What the hazards say about each group of deals, without simulation.

    Parameters
    ----------
    situation : Situation
    deals : DealArrays
    edges : ndarray of int64, shape (period,)
        Last forecast day of each period.
    draws : int
    options : EngineOptions
    sums : ndarray of int64, shape (group,), or None
        Probabilities to be won by the last edge, added up over draws in units of 1 / MEAN_UNIT, where the simulation left
        them.
    pace, lost_pace : ndarray of float64, shape (draw,) or (draw, day), or None
        Days of progress per forecast day; deals are lost at ``lost_pace``, if given.
    """

    situation: Situation
    deals: DealArrays
    edges: NDArray[np.int64]
    draws: int
    options: EngineOptions
    sums: NDArray[np.int64] | None = None
    pace: NDArray[np.float64] | None = None
    lost_pace: NDArray[np.float64] | None = None

    @property
    def _local(self) -> EngineOptions:
        """Details are quick: they run in threads even if the simulation went elsewhere."""
        return replace(self.options, executor=None, progress=None)

    @cached_property
    def close_days(self) -> NDArray[np.int64]:
        """Forecast days of ``closed``: daily at first, then every eighth."""
        horizon = int(self.edges[-1])
        return close_day_grid(horizon, max(LONG_HORIZON, horizon))

    @cached_property
    def win(self) -> NDArray[np.float64]:
        """Probability to be won by the end of each period, mean over all draws, shape (group, period)."""
        n_groups, local = len(self.deals.group_cell), self._local
        sums = np.zeros((n_groups, len(self.edges)), dtype=np.int64)
        chunk = max(1, local.memory_mb * MEGABYTE // (2 * local.workers * SUM_BYTES * len(self.edges)))
        blocks = local.draw_blocks(self.draws, bytes_per_draw=self.situation.bytes_per_draw)
        for start in range(0, n_groups, chunk):
            deals = slice_groups(self.deals, start, min(start + chunk, n_groups))
            for part in run_blocks(partial(self._win_sums, deals), blocks, local):
                sums[start : start + chunk] += part
        # rounded apart from one edge to the next, they may neither fall nor go beyond the last one, or one
        sums = np.maximum.accumulate(np.minimum(sums, sums[:, -1:]), axis=1)
        return np.minimum(sums / (MEAN_UNIT * self.draws), 1.0)

    @cached_property
    def win_by_end(self) -> NDArray[np.float64]:
        """Probability to be won by the last edge, mean over all draws, shape (group,)."""
        return self.win[:, -1] if self.sums is None else np.minimum(self.sums / (MEAN_UNIT * self.draws), 1.0)

    def _win_sums(self, deals: DealArrays, block: tuple[int, int]) -> NDArray[np.int64]:
        draws = np.arange(*block)
        progress = progress_by_day(self.pace, draws, days=int(self.edges[-1]))
        hazards, clock = self.situation.hazards(draws, progress), clock_at(progress, self.edges)
        sums = np.zeros((len(deals.group_cell), len(self.edges)), dtype=np.int64)
        value = self.situation.win_value()
        add_win_sums(hazards.base, hazards.effect, hazards.next_stage, value, deals, clock, sums)
        return sums

    @cached_property
    def _details(self) -> DetailMeans:
        return DetailMeans(*self._averaged(detail_means, int(self.close_days[-1])))

    @cached_property
    def _ended(self) -> NDArray[np.float64]:
        """Probability of each kind of ending by the horizon, over the draws of the details, shape (group, terminal)."""
        return self._averaged(ending_means, int(self.edges[-1]))[0]

    def _averaged(self, means: Callable[..., tuple[NDArray[np.float64], ...]], days: int) -> list[NDArray[np.float64]]:
        """Means over the draws of the details, whose hazards reach some forecast days."""
        chosen = evenly_spaced(self.draws, self.options.detail_draws)
        blocks = [chosen[start:stop] for start, stop in cut_draws(len(chosen), DETAIL_BLOCK)]

        def means_of(block: NDArray[np.int64]) -> tuple[int, list[NDArray[np.float64]]]:
            won = progress_by_day(self.pace, block, days=days)
            lost = None if self.lost_pace is None else progress_by_day(self.lost_pace, block, days=days)
            part = means(
                self.situation.hazards(block, won if lost is None else np.maximum(won, lost)),
                self.deals,
                detail_clocks(
                    won, lost, horizon=int(self.edges[-1]), close_days=self.close_days[self.close_days <= days]
                ),
                n_codes=self.situation.n_codes,
                won_codes=self.situation.won_codes,
            )
            return int(block[0]), [len(block) * mean for mean in part]

        parts = dict(run_blocks(means_of, blocks, self._local))
        ordered = [parts[int(block[0])] for block in blocks]
        return [sum(values) / len(chosen) for values in zip(*ordered, strict=True)]

    @cached_property
    def closed(self) -> NDArray[np.float64]:
        """Probability to have ended, won or lost, by each of ``close_days``, shape (group, day)."""
        return np.maximum.accumulate(np.minimum(self._details.closed, 1.0), axis=1)  # rounded apart day by day

    @cached_property
    def outcome(self) -> NDArray[np.float64]:
        """Probability of each outcome at the horizon, open last, shape (group, outcome); adds up to one.

        Details are averaged over fewer draws than ``win``; they tell how the won, and the not won, divide.
        """
        n_open, ended = self.situation.n_open, self._ended
        won = [code - n_open for code in self.situation.won_codes]
        win, thin_win = self.win_by_end, ended[:, won].sum(axis=1)
        outcome = np.empty((len(win), ended.shape[1] + 1))
        outcome[:, :-1] = ended * _rest_ratio(win, thin_win)[:, None]
        equal = np.full((len(win), len(won)), 1.0 / len(won))
        some = thin_win[:, None] > 0.0
        outcome[:, won] = win[:, None] * np.divide(ended[:, won], thin_win[:, None], where=some, out=equal)
        outcome[:, -1] = np.maximum(1.0 - outcome[:, :-1].sum(axis=1), 0.0)
        return outcome / outcome.sum(axis=1, keepdims=True)

    @cached_property
    def ever_won(self) -> NDArray[np.float64]:
        """Probability to be won at any time, the hazards of the last day held beyond it, shape (group,)."""
        thin_win = self._details.won
        later = np.maximum(self._details.ever_won - thin_win, 0.0)
        return np.minimum(self.win_by_end + later * _rest_ratio(self.win_by_end, thin_win), 1.0)


def _rest_ratio(win: NDArray[np.float64], thin_win: NDArray[np.float64]) -> NDArray[np.float64]:
    """Not won over all draws, relative to not won over the draws of the details."""
    rest = np.maximum(1.0 - thin_win, 0.0)
    return np.divide(1.0 - win, rest, where=rest > 0.0, out=np.zeros(len(win)))
