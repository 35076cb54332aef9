"""Of which kind the next arrivals will be: shares that may have changed, as when a team begins to record leads it did not.

Shares are those of the past; an arrival counts half as much for every half-life that has passed since, or not at all if
shares changed after it. Which is not known: each way to remember is weighed by how well it foretold the kinds of every
week from those before (Dirichlet-multinomial),

    log p(c | a) = log G(A) - log G(A + n) + sum over kinds of log G(a + c) - log G(a),    A = sum a, n = sum c,

with ``a`` the counts remembered and a few arrivals of the long run's shares. Draws take a way to remember by these odds,
then shares from the Dirichlet of its counts.
"""

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy.special import gammaln, softmax

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

HALF_LIFE_WEEKS = np.array([np.inf, 104.0, 26.0, 9.0, 3.0, *[np.inf] * 11])
CHANGED_WEEKS_AGO = np.array([0, 0, 0, 0, 0, 4, 6, 9, 13, 18, 26, 34, 43, 52, 65, 78])
"""What may be remembered: all alike, the latest most, or all alike since so many weeks ago."""
PRIOR = np.array([0.5, *[0.25 / 4] * 4, *[0.25 / 11] * 11])
"""Shares that do not change are as likely as those that do."""
LONG_RUN_ARRIVALS = 4.0
"""Arrivals that the shares of the long run count for, so that they rule where little has come lately."""


def kind_counts(kind: Ints, day: Ints, n_kinds: int) -> Floats:
    """Arrivals by week, oldest first, and kind; weeks are counted back from day 0.

    Examples
    --------
    >>> kind_counts(np.array([0, 1, 1]), np.array([-8, -6, 0]), 2).tolist()
    [[1.0, 0.0], [0.0, 2.0]]
    """
    back = -day // 7
    weeks = int(back.max(initial=0)) + 1
    counts = np.zeros((weeks, n_kinds))
    np.add.at(counts, (weeks - 1 - back, kind), 1.0)
    return counts


def draw_mix(counts: Floats, group: Ints, *, draws: int, rng: Generator) -> Floats:
    """Draw the share of each kind among the arrivals of its group.

    Parameters
    ----------
    counts : ndarray of float64, shape (week, kind)
        Oldest week first.
    group : ndarray of int64, shape (kind,)
    draws : int
    rng : Generator

    Returns
    -------
    ndarray of float64, shape (draw, kind)
        Adds up to one within a group.

    Examples
    --------
    A kind that all the latest arrivals are of will hardly be a half of the next ones.

    >>> counts = np.repeat([[5.0, 0.0], [0.0, 5.0]], 30, axis=0)
    >>> bool(draw_mix(counts, np.zeros(2, dtype=int), draws=500, rng=np.random.default_rng(1))[:, 1].mean() > 0.9)
    True
    """
    odds, shape = memory_odds(counts, group)
    chosen = (rng.random((draws, 1, len(odds))) > np.cumsum(odds.T, axis=0)[:-1]).sum(axis=1)[:, group]
    weight = rng.gamma(np.take_along_axis(shape, chosen, axis=0))
    member = (group[:, None] == np.arange(len(odds))).astype(float)
    share: Floats = weight / np.maximum(weight @ member, 1e-300)[:, group]
    return share


def memory_odds(counts: Floats, group: Ints) -> tuple[Floats, Floats]:
    """Probability of each way to remember in each group, (group, way), and the counts it leaves, (way, kind)."""
    n_groups = int(group.max(initial=-1)) + 1
    kept = 0.5 ** (1.0 / HALF_LIFE_WEEKS)[:, None]
    size = np.maximum(np.bincount(group, minlength=n_groups), 1)[group]
    ever, held, score = 1.0 / size, np.zeros((len(kept), len(group))), np.zeros((len(kept), n_groups))

    def by_group(values: Floats) -> Floats:
        return np.stack([np.bincount(group, row, n_groups) for row in np.atleast_2d(values)])

    def shape() -> Floats:
        return np.asarray(held + LONG_RUN_ARRIVALS * ever / by_group(ever)[0, group])

    for weeks_ago, week in zip(range(len(counts), 0, -1), counts, strict=True):
        held[weeks_ago == CHANGED_WEEKS_AGO] = 0.0
        if week.any():
            a, n = shape(), by_group(week)
            total = by_group(a)
            score += gammaln(total) - gammaln(total + n) + by_group(gammaln(a + week) - gammaln(a))
        held, ever = held * kept + week, ever + week
    return np.asarray(softmax(score.T + np.log(PRIOR), axis=1)), shape()
