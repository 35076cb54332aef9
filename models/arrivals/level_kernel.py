"""The compiled loop of the level filter: the weeks of a group one after the other, every setting by itself."""

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

Floats = NDArray[np.float64]

ODD_SHAPE = 1.0
"""Noise shape of an odd week: anything from nothing to three times the level."""
ODD_AGAIN = 0.4
"""Probability that the week after an odd one is odd as well: holidays and campaigns take a fortnight."""
TIRED = 0.4
"""What is left of that probability in each week after the second odd one."""
LASTING = 0.03
"""Part of the odd weeks, those after another apart, that are the first of a new level: a launch or a new team, once in a dozen
years or so."""
STEP_DOWN, STEP_UP, SHARE_UP, STEP_SHAPE = 1.0 / 3.0, 3.0, 0.25, 4.0
"""Where a new level is to be found, beside the old one, how often above it, so that none is expected on the whole, and the
shape of the gamma around it: half of it, or double."""
SMALLEST = 1e-300


@njit(cache=True, nogil=True)
def filter_weeks(
    counts: Floats, exposure: Floats, factor: Floats, settings: Floats, mean: Floats, shape: Floats
) -> tuple[Floats, Floats, Floats]:
    """Learn the level from week after week; ``mean`` and ``shape`` are those of the gamma belief, before and after.

    ``counts`` and ``exposure`` of one group have shape (week,), ``factor`` is that of the season, (week, setting), and
    ``settings`` has rows of level_sd, noise shape, growth and share of odd weeks. Gives the log probability of each week
    before it was seen, its expected count and the relative variance expected of it beside Poisson noise, new levels
    apart, all of shape (week, setting); zeros where the group was not watched.
    """
    n_weeks, n_settings = factor.shape
    score = np.zeros((n_weeks, n_settings))
    expected, spread = np.zeros(score.shape), np.zeros(score.shape)
    told, shapes, rates, log_factorial = np.empty(4), np.empty(4), np.empty(4), np.empty(n_weeks)
    for week in range(n_weeks):
        log_factorial[week] = math.lgamma(counts[week] + 1.0)
    for which in range(n_settings):
        level_sd, noise, growth, odd_share = settings[:, which]
        a, level, was_odd, run = shape[which], mean[which], 0.0, 0.0
        for week in range(n_weeks):
            if not exposure[week] > 0.0:
                continue
            level *= math.exp(growth)
            a = 1.0 / ((1.0 + 1.0 / a) * math.exp(level_sd * level_sd) - 1.0)
            y, part = counts[week], exposure[week] * factor[week, which]
            mu = max(level * part, SMALLEST)
            usual = 1.0 / a + (1.0 + 1.0 / a) / noise
            expected[week, which], spread[week, which] = mu, usual
            if odd_share == 0.0:
                score[week, which] = _log_chance(y, mu, usual) - log_factorial[week]
                trust = 1.0 / (1.0 + mu / noise)
                a, rate = a + trust * y, a / level + trust * part
                level = a / rate
                continue
            again = max(ODD_AGAIN * TIRED ** max(run - 1.0, 0.0), odd_share)
            odd = odd_share + was_odd * (again - odd_share)
            passing, new = 1.0 / a + (1.0 + 1.0 / a) / ODD_SHAPE, (1.0 + 1.0 / a) * (1.0 + 1.0 / STEP_SHAPE) - 1.0
            spread[week, which] += odd * (passing - usual)
            told[0] = math.log(1.0 - odd) + _log_chance(y, mu, usual)
            told[1] = math.log(odd - LASTING * odd_share) + _log_chance(y, mu, passing)
            for place, step, share in ((2, STEP_DOWN, 1.0 - SHARE_UP), (3, STEP_UP, SHARE_UP)):
                told[place] = math.log(LASTING * odd_share * share) + _log_chance(y, mu * step, new)
                shapes[place], rates[place] = 1.0 / new + y, 1.0 / new / (level * step) + part
            for place, size in ((0, noise), (1, ODD_SHAPE)):
                trust = 1.0 / (1.0 + mu / size)
                shapes[place], rates[place] = a + trust * y, a / level + trust * part
            total = _add_up(told)
            score[week, which] = total - log_factorial[week]
            level, a = _together(told, shapes, rates)
            was_odd, run = told[1], told[1] * (run + 1.0)
        mean[which], shape[which] = level, a
    return score, expected, spread


@njit(cache=True, nogil=True)
def _add_up(told: Floats) -> float:
    """Turn log weights into chances, in place; gives the log of their sum."""
    most, total = told.max(), 0.0
    for place in range(len(told)):
        told[place] = math.exp(told[place] - most)
        total += told[place]
    for place in range(len(told)):
        told[place] /= total
    return most + math.log(total)


@njit(cache=True, nogil=True)
def _together(chance: Floats, shapes: Floats, rates: Floats) -> tuple[float, float]:
    """Mean and shape of the gamma with the mean and variance of a mixture of gammas."""
    mean, square = 0.0, 0.0
    for place in range(len(chance)):
        own = shapes[place] / rates[place]
        mean += chance[place] * own
        square += chance[place] * own * own * (1.0 + 1.0 / shapes[place])
    return mean, 1.0 / max(square / (mean * mean) - 1.0, SMALLEST)


@njit(cache=True, nogil=True)
def log_negative_binomial(count: float, mean: float, extra: float) -> float:
    """Log probability of a count with the given mean and relative variance ``extra`` beside the Poisson part.

    Examples
    --------
    >>> round(float(np.exp(log_negative_binomial(0.0, 1.0, 1.0))), 6)  # geometric
    0.5
    """
    return float(_log_chance(count, mean, extra) - math.lgamma(count + 1.0))


@njit(cache=True, nogil=True)
def _log_chance(count: float, mean: float, extra: float) -> float:
    """Give the same with the factorial of the count left out."""
    size = 1.0 / extra
    told = -size * math.log1p(mean * extra)
    if count > 0.0:
        told += math.lgamma(count + size) - math.lgamma(size) + count * math.log(mean / (size + mean))
    return told
