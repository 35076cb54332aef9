"""Log density of one direction's level series with its gradient, on coordinates in which NUTS walks easily.

The model is that of :mod:`models.levels.filtering`, x AR(1) and the counts negative binomial. What differs is how a series is
named. In innovations of the AR(1) process neighbours are strongly related where counts are large and free where they are
small, and both change with the settings: short trajectories diverge. So a series is written as a draw from the smoother of
pseudo-observations, the counts' own normal approximation around a fixed path (the mode): x = f(settings, u), and then

    log density(settings, u) = log p(counts | x) + log p(x | settings) + log |dx / du| + log p(settings).

This is exact whatever the path; the nearer the approximation, the nearer u is to independent standard normal numbers.
Slopes in the settings come from complex steps through the smoother (Squire and Trapp 1998, doi:10.1137/S003614459631241X),
exact to rounding; slopes in u from its adjoint.
"""

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from models.levels.laplace import LARGEST_LEVEL, LaplaceLevel, count_terms
from models.levels.priors import N_SETTINGS, setting_slopes, settings_at

Floats = NDArray[np.float64]
Complexes = NDArray[np.complex128]

COMPLEX_STEP = 1e-20
"""Relative step along the imaginary axis: far below rounding, and there is no difference in which digits could be lost."""
IMPOSSIBLE = -1e15
"""Log densities below it, met in the first wild steps of a sampler, count as minus infinity with no slope."""


@dataclass(frozen=True)
class LevelSeries:
    """Counts of one direction and the path around which its coordinates are laid.

    Parameters
    ----------
    exits, expected : ndarray of float64, shape (period,)
    path : ndarray of float64, shape (period,)
        Log factors near the mode.
    days : int
        Length of a period.
    """

    exits: Floats
    expected: Floats
    path: Floats
    days: int


@dataclass(frozen=True)
class SeriesPoint:
    """One point of the posterior of a series.

    Parameters
    ----------
    value : float
        Log density less that of the standard normal priors of settings and innovations.
    settings_slope : ndarray, shape (3,)
    innovations_slope : ndarray, shape (period,)
    level : ndarray, shape (period,)
        Log factors.
    """

    value: float
    settings_slope: Floats
    innovations_slope: Floats
    level: Floats


def level_series(exits: Floats, expected: Floats, level: LaplaceLevel, *, days: int) -> LevelSeries:
    """Lay the coordinates of a series around its mode; a period in which nothing was expected has no say."""
    known = expected > 0.0
    return LevelSeries(np.where(known, exits, 0.0), np.where(known, expected, 0.0), level.path, days)


def series_point(series: LevelSeries, normals: Floats, innovations: Floats) -> SeriesPoint:
    """Log density of a series and its gradient.

    Parameters
    ----------
    series : LevelSeries
    normals : ndarray, shape (3,)
        Settings as standard normal numbers.
    innovations : ndarray, shape (period,)
        Coordinates of the series.

    Returns
    -------
    SeriesPoint
    """
    settings = settings_at(normals, days=series.days)
    natural = np.array([settings.sigma, settings.decay, settings.kappa])
    value, slope, in_innovations, level = _log_density(natural, innovations, series.exits, series.expected, series.path)
    if not value > IMPOSSIBLE:
        return SeriesPoint(-np.inf, np.zeros(N_SETTINGS), np.zeros(len(innovations)), level)
    return SeriesPoint(value, slope * setting_slopes(normals, settings), in_innovations, level)


@njit(cache=True)
def _log_density(
    settings: Floats, innovations: Floats, exits: Floats, expected: Floats, path: Floats
) -> tuple[float, Floats, Floats, Floats]:
    """Value, slope in (sigma, decay, kappa), slope in the innovations, and levels."""
    periods, sigma, kappa = len(innovations), settings[0], settings[2]
    mean = expected * np.exp(np.minimum(path, LARGEST_LEVEL))
    deviation = np.empty(periods, dtype=np.complex128)
    level, gain, scale = np.empty(periods), np.zeros(periods), np.empty(periods)
    level_slope, slope = np.empty((3, periods)), np.empty(3)
    log_prior = 0.0
    for which in range(3):
        moved, step = settings + 0.0j, COMPLEX_STEP * settings[which]
        moved[which] += 1j * step
        found = _smoothed_path(moved, innovations, exits, mean, path, deviation, gain, scale)
        log_prior, slope[which] = found.real, found.imag / step
        shift = -moved[0] * moved[0] / 2.0
        for p in range(periods):
            value = deviation[p] + shift
            level[p], level_slope[which, p] = value.real, value.imag / step
    pull = np.empty(periods)
    counts, in_kappa = count_terms(exits, expected, level, kappa, pull)
    for which in range(3):
        for p in range(periods):
            slope[which] += pull[p] * level_slope[which, p]
    slope[2] += in_kappa
    in_innovations, square = np.empty(periods), 0.0
    _add_prior_pull(level, sigma, np.exp(-settings[1]), pull)
    carried = 0.0
    for p in range(periods):
        carried = pull[p] + (gain[p - 1] * carried if p > 0 else 0.0)
        in_innovations[p] = scale[p] * carried + innovations[p]
        square += innovations[p] ** 2
    return counts + log_prior + 0.5 * square, slope, in_innovations, level


@njit(cache=True)
def _smoothed_path(
    settings: Complexes,
    innovations: Floats,
    exits: Floats,
    mean: Floats,
    path: Floats,
    deviation: Complexes,
    gain: Floats,
    scale: Floats,
) -> complex:
    """Forward filter of the pseudo-observations, then back with the innovations; fills ``deviation``, ``gain``, ``scale``.

    Returns log p(deviation | settings) + log |d deviation / d innovations|, constants left out. Going back,
    deviation[p] = ... + gain[p] deviation[p + 1] + scale[p] innovations[p].
    """
    sigma, kappa, periods = settings[0], settings[2], len(innovations)
    phi, spread = np.exp(-settings[1]), settings[0] * settings[0]
    noise, middle = spread * (1.0 - phi * phi), -0.5 * spread
    filtered, known, share = np.empty_like(deviation), np.empty_like(deviation), np.empty_like(deviation)
    now, variance = 0.0 * sigma, spread
    for p in range(periods):
        part = mean[p] / (kappa + mean[p])
        weight = (exits[p] + kappa) * part
        bend = weight * (1.0 - part)
        if p > 0:
            share[p - 1] = filtered[p - 1] / variance
        filtered[p] = variance / (1.0 + variance * bend)
        known[p] = now + filtered[p] * (bend * (path[p] - middle - now) + exits[p] - weight)
        now, variance = phi * known[p], phi * phi * filtered[p] + noise
    share[periods - 1] = filtered[periods - 1] / noise
    steps, log_width, after = 0.0 * sigma, 0.0 * sigma, 0.0 * sigma
    for p in range(periods - 1, -1, -1):
        width = np.sqrt(share[p] * noise)
        log_width += np.log(share[p])
        scale[p] = width.real
        deviation[p] = known[p] + width * innovations[p]
        if p < periods - 1:
            back = phi * share[p]
            gain[p] = back.real
            deviation[p] += back * (after - phi * known[p])
            steps += (after - phi * deviation[p]) ** 2
        after = deviation[p]
    # every width holds the root of the noise, which all steps but the first divide by again
    log_widths = 0.5 * (log_width + np.log(noise))
    value: complex = log_widths - 0.5 * (steps / noise + deviation[0] * deviation[0] / spread + np.log(spread))
    return value


@njit(cache=True)
def _add_prior_pull(level: Floats, sigma: float, phi: float, pull: Floats) -> None:
    """Add the slope of the AR(1) log density in each log level."""
    noise, middle = sigma * sigma * (1.0 - phi * phi), -0.5 * sigma * sigma
    pull[0] -= (level[0] - middle) / (sigma * sigma)
    for p in range(1, len(level)):
        step = (level[p] - middle - phi * (level[p - 1] - middle)) / noise
        pull[p] -= step
        pull[p - 1] += phi * step
