"""Of which kind the next arrivals will be: shares that may have changed, as when a team begins to record leads it did not.

Shares are those of the past; an arrival counts half as much for every half-life that has passed since, or not at all if
shares changed after it. Which is not known: each way to remember is weighed by how well it foretold the kinds of every
week from those before (Dirichlet-multinomial),

    log p(c | a) = log G(A) - log G(A + n) + sum over kinds of log G(a + c) - log G(a),    A = sum a, n = sum c,

with ``a`` the counts remembered and a few arrivals of the long run's shares, scaled down to a total that weeks with batches
of a kind ask for. Draws take a way to remember and such a total by these odds, then shares from the Dirichlet of its counts.
"""

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.special import gammaln, softmax

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

HALF_LIFE_WEEKS = np.array([np.inf, 104.0, 26.0, 9.0, 3.0, *[np.inf] * 7])
CHANGED_WEEKS_AGO = np.array([0, 0, 0, 0, 0, 4, 6, 9, 15, 26, 43, 65])
"""What may be remembered: all alike, the latest most, or all alike since so many weeks ago."""
PRIOR = np.array([0.5, *[0.25 / 4] * 4, *[0.25 / 7] * 7])
"""Shares that do not change are as likely as those that do."""
LARGEST_TOTAL = np.array([np.inf, 60.0, 15.0, 4.0, 1.5])
"""Arrivals that all that is remembered counts for at most in foretelling a week: where kinds come in batches, weeks differ by
more than chance and no memory foretells them well."""
HORIZON_WEEKS = 6.0
"""Weeks over which such scatter evens out."""
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
    ways = shape.shape[0] * shape.shape[1]
    odds, shape = odds.reshape(len(odds), ways), shape.reshape(ways, len(group))
    chosen = (rng.random((draws, 1, len(odds))) > np.cumsum(odds.T, axis=0)[:-1]).sum(axis=1)[:, group]
    weight = rng.gamma(np.take_along_axis(shape, chosen, axis=0))
    member = (group[:, None] == np.arange(len(odds))).astype(float)
    share: Floats = weight / np.maximum(weight @ member, 1e-300)[:, group]
    return share


def memory_odds(counts: Floats, group: Ints) -> tuple[Floats, Floats]:
    """Probability of each way to remember and largest total in each group, and the counts they leave for a horizon.

    Shapes are (group, way, total) and (way, total, kind).
    """
    n_groups, ways = int(group.max(initial=-1)) + 1, len(HALF_LIFE_WEEKS)
    kept = 0.5 ** (1.0 / HALF_LIFE_WEEKS)[:, None]
    size = np.maximum(np.bincount(group, minlength=n_groups), 1)[group]
    ever, held, score = 1.0 / size, np.zeros((ways, len(group))), np.zeros((ways, len(LARGEST_TOTAL), n_groups))
    member = csr_array((np.ones(len(group)), (np.arange(len(group)), group)), shape=(len(group), n_groups))

    def by_group(values: Floats) -> Floats:
        return np.asarray(values @ member)

    def remembered() -> Floats:
        return np.asarray(held + LONG_RUN_ARRIVALS * ever / by_group(ever)[group])

    for weeks_ago, week in zip(range(len(counts), 0, -1), counts, strict=True):
        held[weeks_ago == CHANGED_WEEKS_AGO] = 0.0
        if week.any():
            whole, n = remembered(), by_group(week)
            total = by_group(whole)
            for place, largest in enumerate(LARGEST_TOTAL):
                part = np.minimum(1.0, largest / np.maximum(total, 1e-300))
                a, sums = whole * part[:, group], total * part
                each = gammaln(a + week) - gammaln(a)
                score[:, place] += gammaln(sums) - gammaln(sums + n) + by_group(each)
        held, ever = held * kept + week, ever + week
    logs = np.moveaxis(score + np.log(PRIOR)[:, None, None], 2, 0).reshape(n_groups, ways * len(LARGEST_TOTAL))
    whole = remembered()
    part = np.minimum(1.0, HORIZON_WEEKS * LARGEST_TOTAL[:, None] / np.maximum(by_group(whole), 1e-300)[:, None])
    shape = whole[:, None] * part[:, :, group]
    return np.asarray(softmax(logs, axis=1).reshape(n_groups, ways, len(LARGEST_TOTAL))), np.asarray(shape)
