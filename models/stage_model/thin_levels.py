"""Effects of levels with next to no stays, found from those, and reproducible noise for levels never seen."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from models.history import STILL_OPEN
from models.stage_model.data import StageData

Floats = NDArray[np.float64]
NEWTON_STEPS = 25


@dataclass(frozen=True)
class ThinLevels:
    """Normal approximation of the log effects of one factor's thin levels in one stage.

    Parameters
    ----------
    codes : ndarray of int64, shape (level,)
        Level codes, ascending.
    mean, sd : ndarray, shape (level, exit)
    """

    codes: NDArray[np.int64]
    mean: Floats
    sd: Floats


def thin_levels(data: StageData, factor: int, *, base: Floats, effect: Floats, scale: Floats) -> ThinLevels:
    """Log effects of the thin levels of a factor, everything else held at its posterior mean.

    A level with ``n_j`` exits where ``e_j`` were expected has the log posterior ``n_j g - e_j exp(g) - g^2 / (2
    scale^2)``.

    Parameters
    ----------
    data : StageData
    factor : int
    base : ndarray, shape (exit, day)
        Base hazard by day up to the longest stay.
    effect : ndarray, shape (group, exit)
        Log effects of the jointly fitted levels.
    scale : ndarray, shape (exit,)
        Spread of the factor's levels.
    """
    level_of_stay = data.stay_levels[:, factor]
    thin = (level_of_stay >= 0) & ~np.isin(level_of_stay, data.joint_levels[factor])
    codes, level = np.unique(level_of_stay[thin], return_inverse=True)
    exit_of_stay, days, group, count = data.exit[thin], data.days[thin], data.group[thin], data.count[thin]
    before = np.concatenate([np.zeros((len(base), 1)), np.cumsum(base, axis=1)], axis=1)
    total = np.maximum((np.exp(effect[group]) * base[:, days].T).sum(axis=1), 1e-12)
    share_of_day = np.where(
        exit_of_stay == STILL_OPEN, 1.0, np.where(total < 1e-3, 0.5, 1 / total - 1 / np.expm1(total))
    )
    exposure = np.exp(effect[group]) * (before[:, days] + share_of_day * base[:, days]).T
    expected, exits = np.zeros((len(codes), data.n_exits)), np.zeros((len(codes), data.n_exits))
    np.add.at(expected, level, count[:, None] * exposure)
    left = exit_of_stay != STILL_OPEN
    np.add.at(exits, (level[left], exit_of_stay[left]), count[left])
    mean = np.zeros_like(expected)
    for _ in range(NEWTON_STEPS):
        rate = expected * np.exp(mean)
        mean += np.clip((exits - rate - mean / scale**2) / (rate + scale**-2), -1.0, 1.0)
    return ThinLevels(codes.astype(np.int64), mean, (expected * np.exp(mean) + scale**-2) ** -0.5)


def keyed_normals(key: int, draws: NDArray[np.int64], numbers: NDArray[np.int64]) -> Floats:
    """Draw standard normals that depend on nothing but key, draw and number, shape (draw, number).

    The splitmix64 finaliser (Steele et al. 2014, doi:10.1145/2714064.2660195) hashes the three.

    Examples
    --------
    >>> draws = np.arange(5)
    >>> whole = keyed_normals(1, draws, np.arange(3))
    >>> bool((keyed_normals(1, draws[2:4], np.arange(3)) == whole[2:4]).all())
    True
    """
    with np.errstate(over="ignore"):
        mixed = _splitmix(np.uint64(key % 2**64) + _splitmix(draws.astype(np.uint64)))[:, None]
        bits = _splitmix(mixed + _splitmix(numbers.astype(np.uint64) ^ np.uint64(0xD6E8FEB86659FD93)))
    return np.asarray(ndtri((bits >> np.uint64(11)).astype(np.float64) * 2.0**-53 + 2.0**-54))


def _splitmix(value: NDArray[np.uint64]) -> NDArray[np.uint64]:
    value = value + np.uint64(0x9E3779B97F4A7C15)
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))
