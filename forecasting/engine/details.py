"""What becomes of each deal, exactly: kinds of ending by the horizon, ever won, closed by day."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from forecasting.engine.amounts import DealArrays
from forecasting.engine.clock import Clock, clock_at
from forecasting.engine.compiled import jit_kernel
from forecasting.engine.eventual import eventual_aged_values, eventual_entry_values
from forecasting.engine.exits import exit_probabilities
from forecasting.engine.fate import win_probabilities
from models.hazards import LatticeHazards


class DetailMeans(NamedTuple):
    """Means over draws: ``won[group]`` by the horizon, ``ever_won[group]``, ``closed[group, day]``."""

    won: NDArray[np.float64]
    ever_won: NDArray[np.float64]
    closed: NDArray[np.float64]


class EndingMeans(NamedTuple):
    """Means over draws: ``ended[group, terminal]`` by the horizon."""

    ended: NDArray[np.float64]


def close_day_grid(horizon: int, long_horizon: int) -> NDArray[np.int64]:
    """Days at which "closed by" is asked: daily for two months, then every eighth, horizon and end included."""
    days = np.unique(np.concatenate([np.arange(1, 61), np.arange(60, long_horizon, 8), [horizon, long_horizon]]))
    return days[days <= long_horizon].astype(np.int64)


class DetailClocks(NamedTuple):
    """Clocks of some draws at the horizon and at the days of ``closed``; those of losses are None if they are alike."""

    end: Clock
    days: Clock
    lost_end: Clock | None
    lost_days: Clock | None


def detail_clocks(
    won: NDArray[np.float64], lost: NDArray[np.float64] | None, *, horizon: int, close_days: NDArray[np.int64]
) -> DetailClocks:
    """Read the clocks from days of progress by forecast day, shape (draw, 1 + day)."""
    last = np.array([horizon])
    both = clock_at(won, last), clock_at(won, close_days)
    if lost is None:
        return DetailClocks(*both, None, None)
    return DetailClocks(*both, clock_at(lost, last), clock_at(lost, close_days))


def detail_means(
    hazards: LatticeHazards, deals: DealArrays, clocks: DetailClocks, *, n_codes: int, won_codes: tuple[int, ...]
) -> DetailMeans:
    """Average the details of each group over the draws of ``hazards``.

    What is lost may have a clock of its own. Outcomes still add up to one at most: the chances to be won by some day
    and to be lost by another are parts of those to be won, and lost, ever.
    """
    n_draws, n_stages, n_groups = len(hazards.base), len(hazards.next_stage), len(deals.group_cell)
    shape = n_groups, clocks.days.day.shape[1]
    won, ever, closed = np.zeros(n_groups), np.zeros(n_groups), np.zeros(shape)
    one, grid = np.empty((n_groups, 1), dtype=np.float32), np.empty(shape, dtype=np.float32)
    any_win = np.isin(np.arange(n_codes), won_codes).astype(np.float64)
    any_end = (np.arange(n_codes) >= n_stages).astype(np.float64)
    asked = [(any_end, clocks.days)]
    if clocks.lost_days is not None:
        asked = [(any_win, clocks.days), (any_end - any_win, clocks.lost_days)]
    for i in range(n_draws):
        draw = hazards.base[i], hazards.effect[i], hazards.next_stage
        win_probabilities(*draw, any_win, deals, clocks.end.day[i], clocks.end.fraction[i], one)
        won += one[:, 0]
        for value, days in asked:
            win_probabilities(*draw, value, deals, days.day[i], days.fraction[i], grid)
            closed += grid
        _add_eventual(*draw, any_win, deals, ever)
    return DetailMeans(won / n_draws, ever / n_draws, closed / n_draws)


def ending_means(
    hazards: LatticeHazards, deals: DealArrays, clocks: DetailClocks, *, n_codes: int, won_codes: tuple[int, ...]
) -> EndingMeans:
    """Average how each group has ended by the horizon over the draws of ``hazards``, arguments as for :func:`detail_means`."""
    n_draws, n_stages = len(hazards.base), len(hazards.next_stage)
    ended = np.zeros((len(deals.group_cell), n_codes - n_stages))
    one = np.empty((len(ended), 1), dtype=np.float32)
    for i in range(n_draws):
        for code in range(n_stages, n_codes):
            only = (np.arange(n_codes) == code).astype(np.float64)
            end = clocks.end if code in won_codes or clocks.lost_end is None else clocks.lost_end
            win_probabilities(
                hazards.base[i], hazards.effect[i], hazards.next_stage, only, deals, end.day[i], end.fraction[i], one
            )
            ended[:, code - n_stages] += one[:, 0]
    return EndingMeans(ended / n_draws)


@jit_kernel
def _add_eventual(
    base: NDArray[np.float64],
    effect: NDArray[np.float64],
    next_stage: NDArray[np.int16],
    value: NDArray[np.float64],
    deals: DealArrays,
    out: NDArray[np.float64],
) -> None:
    n_stages, n_slots, n_days = base.shape
    leave_to, stay = np.empty((n_stages, n_slots, n_days)), np.empty((n_stages, n_days))
    entry = value.copy()
    rows = np.empty(len(out))
    n_groups = len(deals.group_cell)
    start = 0
    while start < n_groups:
        cell, k = deals.group_cell[start], deals.group_stage[start]
        if start == 0 or cell != deals.group_cell[start - 1]:
            exit_probabilities(base, effect[cell], leave_to, stay)
            entry = eventual_entry_values(leave_to, stay, next_stage, value)
        stop = start
        while stop < n_groups and deals.group_cell[stop] == cell and deals.group_stage[stop] == k:
            stop += 1
        eventual_aged_values(leave_to[k], stay[k], next_stage[k], entry, deals.group_age[start:stop], rows[start:stop])
        start = stop
    out += rows
