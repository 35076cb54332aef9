"""The fast road: levels by a grid of settings, the series in each approximated by a normal distribution at its mode.

Given the settings a series of deviations is normal a priori with a tridiagonal precision, and the counts are
log-concave in it; so a few Newton steps find the mode, and the curvature there gives the weight of the grid point and
the spread of the present level (Tierney and Kadane 1986, doi:10.1080/01621459.1986.10478240; Rue et al. 2009,
doi:10.1111/j.1467-9868.2008.00700.x).
"""

import math
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from models.levels.priors import N_SETTINGS, Settings, prior_points, settings_at

Floats = NDArray[np.float64]

GRID = (12, 8, 20)
"""Points for sigma, half-life and luck: twice as many in each move no mean by a tenth of a posterior sd. Luck needs most:
where a thousand exits are expected it decides whether a period tells 3 or 8 % of its level, and five points would move a
level by half its sd (BPI 2012)."""
MAX_STEPS, TOLERANCE, LARGEST_STEP = 50, 1e-6, 1.5
"""Newton steps, the change at which they end, and the largest change of a log level in one step."""
LARGEST_LEVEL = 50.0
"""Log levels are cut here in the first wild steps, so that nothing overflows."""


@dataclass(frozen=True)
class LaplaceLevel:
    """Posterior of one direction's series by grid point.

    Parameters
    ----------
    probability : ndarray, shape (point,)
    normals : ndarray, shape (point, 3)
        Settings as standard normal numbers.
    settings : Settings
        Of each point.
    mean, sd : ndarray, shape (point,)
        Of the log factor in the last period.
    path : ndarray, shape (period,)
        Mode of the log factor, averaged over the points.
    """

    probability: Floats
    normals: Floats
    settings: Settings
    mean: Floats
    sd: Floats
    path: Floats


def laplace_level(exits: Floats, expected: Floats, *, days: int, sizes: tuple[int, int, int] = GRID) -> LaplaceLevel:
    """Posterior of one direction's series.

    Parameters
    ----------
    exits, expected : ndarray of float64, shape (period,)
        Exits seen and expected, oldest first.
    days : int
        Length of a period.
    sizes : tuple of int
        Grid points for sigma, half-life and luck.

    Returns
    -------
    LaplaceLevel

    Examples
    --------
    >>> level = laplace_level(np.array([50.0, 52.0, 90.0]), np.full(3, 50.0), days=7)
    >>> bool(0.1 < level.probability @ level.mean < 0.6)
    True
    """
    normals = prior_points(sizes)
    settings = settings_at(normals, days=days)
    exits, expected = (np.ascontiguousarray(values, dtype=np.float64) for values in (exits, expected))
    evidence, sd, paths = _modes(exits, expected, settings.sigma, settings.phi, settings.kappa)
    probability = np.exp(evidence - evidence.max())
    probability /= probability.sum()
    return LaplaceLevel(probability, normals, settings, paths[:, -1].copy(), sd, probability @ paths)


def draw_points(level: LaplaceLevel, draws: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Draw grid points by their probability, evenly and in random order, shape (draw,)."""
    position = (rng.permutation(draws) + rng.random(draws)) / draws
    return np.minimum(np.searchsorted(np.cumsum(level.probability), position), len(level.probability) - 1)


def settings_around(level: LaplaceLevel, point: NDArray[np.int64], rng: np.random.Generator) -> Floats:
    """Draw settings as normal numbers, shape (draw, 3): anywhere in the cell that each grid point stands for."""
    sizes = np.array([len(np.unique(column)) for column in level.normals.T])
    share = ndtr(level.normals[point]) + (rng.random((len(point), N_SETTINGS)) - 0.5) / sizes
    return np.asarray(ndtri(np.clip(share, 1e-9, 1.0 - 1e-9)))


@njit(cache=True)
def _modes(exits: Floats, expected: Floats, sigma: Floats, phi: Floats, kappa: Floats) -> tuple[Floats, Floats, Floats]:
    """Log evidence and sd of the last level (point,), and mode of the levels (point, period), by grid point."""
    periods = len(exits)
    evidence, sd = np.empty(len(sigma)), np.empty(len(sigma))
    paths = np.empty((len(sigma), periods))
    slope, bend, root, step = np.empty(periods), np.empty(periods), np.empty(periods), np.empty(periods)
    unit = np.zeros(periods)  # deviations in units of sigma; each point starts where the one before ended
    for point in range(len(sigma)):
        s, noise, link = sigma[point], 1.0 - phi[point] ** 2, -phi[point] / (1.0 - phi[point] ** 2)
        largest, square = 1.0, 0.0
        for _ in range(MAX_STEPS):
            for p in range(periods):
                paths[point, p] = s * unit[p] - 0.5 * s * s
            _slopes(exits, expected, paths[point], kappa[point], slope, bend)
            square = 0.0
            for p in range(periods):
                own = (1.0 if p == 0 else 1.0 / noise) + (phi[point] ** 2 / noise if p < periods - 1 else 0.0)
                pulled = own * unit[p]
                pulled += link * unit[p - 1] if p > 0 else 0.0
                pulled += link * unit[p + 1] if p < periods - 1 else 0.0
                square += unit[p] * pulled
                # root of the tridiagonal precision, and the slope solved forward with it
                below = link / root[p - 1] if p > 0 else 0.0
                root[p] = math.sqrt(own + s * s * bend[p] - below * below)
                step[p] = (s * slope[p] - pulled - (below * step[p - 1] if p > 0 else 0.0)) / root[p]
            if largest < TOLERANCE:
                break
            largest = 0.0
            for p in range(periods - 1, -1, -1):
                carried = link / root[p] * step[p + 1] if p < periods - 1 else 0.0
                step[p] = (step[p] - carried) / root[p]
                largest = max(largest, abs(s * step[p]))
            part = min(1.0, LARGEST_STEP / max(largest, TOLERANCE))
            for p in range(periods):
                unit[p] += part * step[p]
        counts = count_terms(exits, expected, paths[point], kappa[point], slope)[0]
        sd[point] = s / root[periods - 1]  # the last row of the root holds nothing but the last period
        evidence[point] = counts - 0.5 * square - 0.5 * (periods - 1) * math.log(noise) - np.log(root).sum()
    return evidence, sd, paths


@njit(cache=True)
def _slopes(exits: Floats, expected: Floats, level: Floats, kappa: float, slope: Floats, bend: Floats) -> None:
    """Slope of the log probability of the counts in the log levels, and minus its curvature."""
    for p in range(len(level)):
        mean = expected[p] * math.exp(min(level[p], LARGEST_LEVEL))
        part = mean / (kappa + mean)
        slope[p] = exits[p] - (exits[p] + kappa) * part if mean > 0.0 else 0.0
        bend[p] = (exits[p] + kappa) * part * (1.0 - part)


@njit(cache=True)
def count_terms(exits: Floats, expected: Floats, level: Floats, kappa: float, slope: Floats) -> tuple[float, float]:
    """Log probability of the counts and its slope in kappa; overwrites ``slope``, that in the log levels."""
    value, in_kappa = 0.0, 0.0
    for p in range(len(level)):
        slope[p] = 0.0
        if expected[p] <= 0.0:
            continue
        mean = expected[p] * math.exp(min(level[p], LARGEST_LEVEL))
        total, log_rest = kappa + mean, -math.log1p(mean / kappa)
        value += math.lgamma(exits[p] + kappa) - math.lgamma(kappa) - math.lgamma(exits[p] + 1.0)
        value += kappa * log_rest + exits[p] * math.log(mean / total)
        in_kappa += _digamma(exits[p] + kappa) - _digamma(kappa) + log_rest + (mean - exits[p]) / total
        slope[p] = exits[p] - (exits[p] + kappa) * mean / total
    return value, in_kappa


@njit(cache=True)
def _digamma(x: float) -> float:
    """Slope of log gamma by its asymptotic series, good to 1e-10 from 7 on; kappa is never below."""
    square = 1.0 / (x * x)
    series = square * (1.0 / 12.0 - square * (1.0 / 120.0 - square * (1.0 / 252.0 - square / 240.0)))
    return math.log(x) - 0.5 / x - series
