"""What a simulation leaves: sums by draw, period and segment, and exact chances by deal."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from forecasting.engine.chances import GroupChances


@dataclass(frozen=True)
class OpenSimulation:
    """Simulated fate of the open deals.

    Deals alike in cell, stage and days in stage have the same chances; these are exact, held once per group, worked out
    when first asked for, and laid out by deal in the order of the pipeline.

    Parameters
    ----------
    revenue_cents : ndarray of int64, shape (draw, period, segment)
        Cents won within each period.
    won_count : ndarray of int32, shape (draw, period, segment)
    edges : ndarray of int64, shape (period,)
        Last forecast day of each period.
    segments : tuple of str
    outcomes : tuple of str
        Terminal stages in code order, then ``"open"``.
    group : ndarray of int32, shape (deal,)
        Row of each deal in the tables by group.
    chances : GroupChances
        Tables by group.
    sampler : str
        Sampler that was used, ``fate`` or ``paths``.
    seconds : float
        Time it took.
    """

    revenue_cents: NDArray[np.int64]
    won_count: NDArray[np.int32]
    edges: NDArray[np.int64]
    segments: tuple[str, ...]
    outcomes: tuple[str, ...]
    group: NDArray[np.int32]
    chances: GroupChances
    sampler: str
    seconds: float

    @property
    def close_days(self) -> NDArray[np.int64]:
        """Forecast days of ``group_closed``: daily at first, then coarser, three years long."""
        return self.chances.close_days

    @property
    def group_closed(self) -> NDArray[np.float64]:
        """Probability to have ended by each of ``close_days``, shape (group, day)."""
        return self.chances.closed

    @property
    def win_probability(self) -> NDArray[np.float64]:
        """Probability to be won by the end of each period, mean over all draws, shape (deal, period)."""
        return self.chances.win[self.group]

    @property
    def win_probability_by_end(self) -> NDArray[np.float64]:
        """Probability to be won by the last edge, mean over all draws, shape (deal,)."""
        return self.chances.win_by_end[self.group]

    @property
    def outcome_probability(self) -> NDArray[np.float64]:
        """Probability of each of ``outcomes`` at the horizon, shape (deal, outcome); adds up to one."""
        return self.chances.outcome[self.group]

    @property
    def eventual_win_probability(self) -> NDArray[np.float64]:
        """Probability to be won at any time, the hazards of the last day held beyond it, shape (deal,)."""
        return self.chances.ever_won[self.group]

    @property
    def closed_probability(self) -> NDArray[np.float64]:
        """Probability to have ended, won or lost, by each of ``close_days``, shape (deal, day)."""
        return self.chances.closed[self.group]


@dataclass(frozen=True)
class PathSimulation:
    """Simulated ways of the open deals through the stages.

    Parameters
    ----------
    revenue_cents : ndarray of int64, shape (draw, period, segment)
        Cents won within each period.
    won_count : ndarray of int32, shape (draw, period, segment)
    occupancy : ndarray of int32, shape (draw, period, code)
        Deals at each stage code at the end of each period.
    entries : ndarray of int32, shape (draw, period, stage)
        Deals that entered each open stage within each period.
    returns : ndarray of int32, shape (draw, period, stage)
        Those of them that had been in the stage before, their stage on the as-of date included.
    edges : ndarray of int64, shape (period,)
        Last forecast day of each period.
    segments : tuple of str
    stays : DataFrame or None
        If kept, one row per stay: ``draw``, ``deal_id``, ``stage`` (code), ``entered_day`` (forecast day, 0 or less is
        the past), ``left_day`` (beyond the last edge if it did not end), ``next`` (code, -1 if it did not end).
    seconds : float
        Time it took.
    """

    revenue_cents: NDArray[np.int64]
    won_count: NDArray[np.int32]
    occupancy: NDArray[np.int32]
    entries: NDArray[np.int32]
    returns: NDArray[np.int32]
    edges: NDArray[np.int64]
    segments: tuple[str, ...]
    stays: pd.DataFrame | None
    seconds: float


@dataclass(frozen=True)
class NewSimulation:
    """Simulated deals that do not exist yet.

    Parameters
    ----------
    revenue_cents : ndarray of int64, shape (draw, period, segment)
        Cents won within each period.
    won_count, created_count : ndarray of int32, shape (draw, period, segment)
        Deals won, and deals created, within each period.
    edges : ndarray of int64, shape (period,)
        Last forecast day of each period.
    segments : tuple of str
    seconds : float
        Time it took.
    at_once_cents : ndarray of int64, shape (draw, period, segment)
        Part of the cents that is entered as won, without a stage before.
    """

    revenue_cents: NDArray[np.int64]
    won_count: NDArray[np.int32]
    created_count: NDArray[np.int32]
    edges: NDArray[np.int64]
    segments: tuple[str, ...]
    seconds: float
    at_once_cents: NDArray[np.int64]
