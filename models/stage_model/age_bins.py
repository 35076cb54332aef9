"""Cut the days of a stay into bins of constant hazard: fine where stays end, a spike alone, wide in the tail.

The cut maximises the Poisson log-likelihood of the exits by day minus a price per bin, exactly, by dynamic programming
(Scargle et al. 2013, doi:10.1088/0004-637X/764/2/167). A grid of round ages is cut as well wherever both sides hold
enough exits: the prior smooths over bins, so a bin too many costs little and a bin too few cannot be mended.
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray

PRICE_PER_HAZARD = 3.0
"""Log-likelihood a cut must gain for each exit, whose hazard it sets free: a spike of a few stays in a quiet week earns
it, chance seldom does."""
ROUND_AGES = (
    *range(1, 9), 10, 12, 14, 17, 21, 25, 30, 35, 42, 50, 60, 75, 90, 120, 150, 180, 240, 300, 365, 540, 730,
)  # fmt: skip
"""Ages in days at which the hazard may change even if no cut is earned."""
EXITS_PER_BIN = 12
"""A round age is cut only if the bins on both sides keep this many exits: their log rate is then known to about 0.3."""
MAX_CANDIDATES = 800
"""Days tried as edges; beyond, every second, third, ... day on which stays ended (the search is quadratic)."""


def age_bins(ended_by_day: NDArray[np.int64], at_risk_by_day: NDArray[np.int64]) -> NDArray[np.int64]:
    """First day of each bin; the last bin is open.

    Parameters
    ----------
    ended_by_day : ndarray of int, shape (day, exit)
        Stays that left on day 0, 1, ... of their stay.
    at_risk_by_day : ndarray of int, shape (day,)
        Stays in the stage at the start of the day.

    Returns
    -------
    ndarray of int, shape (bin,)
        Starts with 0, increasing.

    Examples
    --------
    A timer at day 30 gets a bin of its own.

    >>> ended = np.zeros((40, 1), dtype=np.int64)
    >>> ended[30] = 50
    >>> age_bins(ended, np.full(40, 100)).tolist()
    [0, 30, 31]
    """
    totals = ended_by_day.sum(axis=1)
    days = np.flatnonzero(totals)
    if len(days) == 0:
        return np.zeros(1, dtype=np.int64)
    edges = np.unique(np.concatenate([[0], days, days + 1, [len(totals)]]))
    if len(edges) > MAX_CANDIDATES:
        step = -(-len(edges) // MAX_CANDIDATES)
        edges = np.unique(
            np.concatenate([edges[: MAX_CANDIDATES // 2], edges[MAX_CANDIDATES // 2 :: step], edges[-1:]])
        )
    exits = np.concatenate([np.zeros((1, ended_by_day.shape[1])), np.cumsum(ended_by_day, axis=0)])[edges]
    risk = np.concatenate([[0.0], np.cumsum(at_risk_by_day)])[edges]
    starts = edges[best_cuts(exits, risk, PRICE_PER_HAZARD * max(1, int((exits[-1] > 0).sum())))]
    return _with_round_ages(starts[starts < len(totals)], np.concatenate([[0], np.cumsum(totals)]))


@njit(cache=True)
def best_cuts(exits: NDArray[np.float64], risk: NDArray[np.float64], price: float) -> NDArray[np.int64]:
    """Index of the edges at which bins start, from cumulated exits (edge, exit) and stays at risk (edge,)."""
    n_edges, n_exits = exits.shape
    best = np.full(n_edges, -np.inf)
    best[0] = 0.0
    previous = np.zeros(n_edges, dtype=np.int64)
    for end in range(1, n_edges):
        for start in range(end):
            exposure = risk[end] - risk[start]
            gain = best[start] - price
            for j in range(n_exits):
                count = exits[end, j] - exits[start, j]
                if count > 0.0:
                    gain += count * np.log(count / exposure)
            if gain > best[end]:
                best[end] = gain
                previous[end] = start
    cuts = np.zeros(n_edges, dtype=np.bool_)
    place = n_edges - 1
    while place > 0:
        place = previous[place]
        cuts[place] = True
    return np.flatnonzero(cuts)


def _with_round_ages(starts: NDArray[np.int64], ended_before: NDArray[np.int64]) -> NDArray[np.int64]:
    """Add the round ages that leave enough exits on both sides of the cut."""
    chosen = [int(start) for start in starts]
    last = len(ended_before) - 1
    for age in ROUND_AGES:
        if age >= last or age in chosen:
            continue
        left = max(start for start in chosen if start < age)
        right = min([start for start in chosen if start > age], default=last)
        if min(ended_before[age] - ended_before[left], ended_before[right] - ended_before[age]) >= EXITS_PER_BIN:
            chosen.append(age)
    return np.array(sorted(chosen), dtype=np.int64)
