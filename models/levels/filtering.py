"""Levels move: how much faster or slower than usual deals go forward and fall out now, and will over the horizon.

Every exit is *forward* (won, or to a stage from which more deals are won) or *down*. Each direction has one log factor
on all its hazards, an AR(1) series by week or longer period,

    x_p = mu + phi (x_(p-1) - mu) + sigma sqrt(1 - phi^2) normal,   mu = -sigma^2 / 2,
    exits in period p  ~  negative binomial, mean exp(x_p) E_p, size kappa,

with E_p the exits expected from the hazards of the whole history. ``sigma``, the half-life behind ``phi`` and ``kappa``
are weighed on a grid by how well they foretold each next period; the state is filtered by matching log-normal and gamma
moments.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import digamma, gammaln

Floats = NDArray[np.float64]

SIGMA = np.array([0.0, 0.05, 0.1, 0.2, 0.4, 0.7, 1.2])
"""Long-run sd of the log factor: from levels that never move to ones that triple."""
HALF_LIFE_DAYS = np.array([14.0, 50.0, 180.0, 600.0, 2000.0])
"""Days after which half of a deviation is gone."""
KAPPA = np.array([1e6, 100.0, 30.0, 10.0])
"""Size of the negative binomial: a period's own luck of 0, 10, 18 and 32 % beyond Poisson."""
LONG_HORIZON = 45
"""Up to this many days ahead periods are weeks, beyond that about a quarter of the horizon."""


@dataclass(frozen=True)
class LevelState:
    """Filtered log factor of one direction at the end of the history, by grid point.

    Parameters
    ----------
    probability, mean, sd : ndarray of float64, shape (point,)
        Weight of the point; mean and sd of the log factor in the last period.
    target, target_sd, sigma, phi : ndarray of float64, shape (point,)
        Where the log factor returns to, how sure that is, its long-run sd, and the part of a deviation left a period
        later.
    """

    probability: Floats
    mean: Floats
    sd: Floats
    target: Floats
    target_sd: Floats
    sigma: Floats
    phi: Floats


def period_days(horizon_days: int) -> int:
    """Length of the periods in which levels move.

    Examples
    --------
    >>> period_days(28), period_days(90)
    (7, 21)
    """
    return 7 if horizon_days <= LONG_HORIZON else 7 * max(1, round(horizon_days / 28))


def filter_level(exits: Floats, expected: Floats, *, days: int) -> LevelState:
    """Filter the log factor of one direction.

    Parameters
    ----------
    exits, expected : ndarray of float64, shape (period,)
        Exits seen and expected, oldest first.
    days : int
        Length of a period.

    Returns
    -------
    LevelState
    """
    sigma, half_life, kappa = (axis.ravel() for axis in np.meshgrid(SIGMA, HALF_LIFE_DAYS, KAPPA, indexing="ij"))
    phi = 0.5 ** (days / half_life)
    target = -(sigma**2) / 2.0
    mean, variance = target.copy(), np.maximum(sigma**2, 1e-8)
    evidence = np.zeros(len(sigma))
    for seen, forecast in zip(exits, expected, strict=True):
        mean = target + phi * (mean - target)
        variance = phi**2 * variance + (1.0 - phi**2) * np.maximum(sigma**2, 1e-8)
        if forecast <= 0.0:
            continue
        shape = _gamma_shape(variance)
        rate = np.exp(digamma(shape) - mean)
        size = 1.0 / ((1.0 + 1.0 / shape) * (1.0 + 1.0 / kappa) - 1.0)
        evidence += _negative_binomial(seen, forecast * shape / rate, size)
        weight = 1.0 / (1.0 + forecast * shape / rate / kappa)
        shape, rate = shape + weight * seen, rate + weight * forecast
        mean, variance = digamma(shape) - np.log(rate), 1.0 / shape + 0.5 / shape**2
    probability = np.exp(evidence - evidence.max())
    reversion = np.minimum(1.0, (1.0 + phi) / ((1.0 - phi) * max(len(exits), 1)))
    return LevelState(
        probability=probability / probability.sum(),
        mean=mean,
        sd=np.sqrt(variance),
        target=target,
        target_sd=sigma * np.sqrt(reversion),
        sigma=sigma,
        phi=phi,
    )


def draw_levels(state: LevelState, *, periods: int, draws: int, rng: np.random.Generator) -> Floats:
    """Draw the mean factor over the coming periods, shape (draw,); draws come in antithetic pairs for a steady mean.

    Parameters
    ----------
    state : LevelState
    periods, draws : int
    rng : Generator
    """
    half = -(-draws // 2)
    position = (np.arange(half) + rng.random(half)) / half
    point = np.minimum(np.searchsorted(np.cumsum(state.probability), position), len(state.probability) - 1)
    normal = rng.standard_normal((half, periods + 2))
    normal, point = np.concatenate([normal, -normal])[:draws], np.concatenate([point, point])[:draws]
    target = state.target[point] + state.target_sd[point] * normal[:, 0]
    level = state.mean[point] + state.sd[point] * normal[:, 1]
    total = np.zeros(draws)
    step = state.sigma[point] * np.sqrt(1.0 - state.phi[point] ** 2)
    for period in range(periods):
        level = target + state.phi[point] * (level - target) + step * normal[:, 2 + period]
        total += np.exp(level)
    return total / periods


def _gamma_shape(variance: Floats) -> Floats:
    """Shape of the gamma whose log has the variance, from trigamma(a) = 1/a + 1/(2 a^2), good to 5 % above a = 0.8."""
    return np.asarray((1.0 + np.sqrt(1.0 + 2.0 * variance)) / (2.0 * variance))


def _negative_binomial(count: float, mean: Floats, size: Floats) -> Floats:
    """Log probability of a count."""
    return np.asarray(
        gammaln(count + size)
        - gammaln(size)
        - gammaln(count + 1.0)
        + size * np.log(size / (size + mean))
        + count * np.log(mean / (size + mean))
    )
