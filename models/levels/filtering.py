"""Levels move: how much faster or slower than usual deals go forward and fall out now, and will over the horizon.

Every exit is *forward* (won, or to a stage from which more deals are won) or *down*. Each direction has one log factor
on all its hazards, an AR(1) series by week or longer period,

    x_p = mu + phi (x_(p-1) - mu) + sigma sqrt(1 - phi^2) normal,   mu = -sigma^2 / 2,
    exits in period p  ~  negative binomial, mean exp(x_p + line_p) E_p, size kappa,

with E_p the exits expected from the hazards of the whole history, and a line that grows by ``growth`` per period and
leaves their sum as it is. ``sigma``, the half-life behind ``phi``, ``kappa`` and ``growth`` are weighed on a grid by how
well they foretold each next period; the state is filtered by matching log-normal and gamma moments. Thirty months of
levels that hang together do not tell ``sigma`` well, so coming steps have the tails of a Student distribution; what that
leaves of the shortfall under strong shocks is measured by ``python -m benchmarks.accuracy.shocks``.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import digamma, gammaln

Floats = NDArray[np.float64]

SIGMA = np.array([0.0, 0.05, 0.1, 0.2, 0.4, 0.7, 1.2])
"""Long-run sd of the log factor: from levels that never move to ones that triple."""
SIGMA_PRIOR = np.array([0.08, 0.08, 0.14, 0.25, 0.25, 0.12, 0.08])
"""How likely each is; levels of real pipelines move, so a level that never does is the exception."""
HALF_LIFE_DAYS = np.array([14.0, 50.0, 180.0, 600.0, 2000.0])
"""Days after which half of a deviation is gone."""
KAPPA = np.array([1e6, 100.0, 30.0, 10.0])
"""Size of the negative binomial: a period's own luck of 0, 10, 18 and 32 % beyond Poisson."""
GROWTH = np.array([-0.03, -0.015, 0.0, 0.015, 0.03])
GROWTH_PRIOR = np.array([0.05, 0.15, 0.6, 0.15, 0.05])
"""Lasting growth of the log level in 30 days, and how likely each is: 0.03 doubles a level in two years."""
GROWTH_DAYS = 30.0
"""Days over which ``GROWTH`` is told."""
GROWTH_HALF_LIFE = 150.0
"""Days after which half of a growth is gone: nothing doubles for ever."""
TAIL_DF = 3.0
"""Degrees of freedom of the coming steps: the fewest with a finite variance."""
LARGEST_LEVEL = 3.0
"""Log levels are cut at a factor of twenty: beyond, the history says nothing."""
LONG_HORIZON = 45
"""Up to this many days ahead periods are weeks, beyond that about a quarter of the horizon."""


@dataclass(frozen=True)
class LevelState:
    """Filtered log factor of one direction at the end of the history, by grid point.

    Parameters
    ----------
    probability, mean, sd : ndarray of float64, shape (point,)
        Weight of the point; mean and sd of the log factor in the last period.
    target, target_sd, sigma, phi, growth : ndarray of float64, shape (point,)
        Where the log factor returns to in the last period, how sure that is, its long-run sd, the part of a deviation
        left a period later, and how far the target moves in a period.
    growth_kept : float
        Part of the growth that is left a period later.
    """

    probability: Floats
    mean: Floats
    sd: Floats
    target: Floats
    target_sd: Floats
    sigma: Floats
    phi: Floats
    growth: Floats
    growth_kept: float


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
    sigma, half_life, kappa, growth = (
        axis.ravel() for axis in np.meshgrid(SIGMA, HALF_LIFE_DAYS, KAPPA, GROWTH, indexing="ij")
    )
    phi, growth = 0.5 ** (days / half_life), growth * days / GROWTH_DAYS
    target = -(sigma**2) / 2.0
    line = _growth_lines(expected, growth)
    mean, variance = target.copy(), np.maximum(sigma**2, 1e-8)
    evidence = np.log(np.resize(GROWTH_PRIOR, len(sigma)) * np.repeat(SIGMA_PRIOR, len(sigma) // len(SIGMA)))
    for seen, forecast in zip(exits, expected[:, None] * np.exp(line), strict=True):
        mean = target + phi * (mean - target)
        variance = phi**2 * variance + (1.0 - phi**2) * np.maximum(sigma**2, 1e-8)
        if not forecast[0] > 0.0:
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
        mean=mean + line[-1],
        sd=np.sqrt(variance),
        target=target + line[-1],
        target_sd=sigma * np.sqrt(reversion),
        sigma=sigma,
        phi=phi,
        growth=growth,
        growth_kept=0.5 ** (days / GROWTH_HALF_LIFE),
    )


def _growth_lines(expected: Floats, growth: Floats) -> Floats:
    """Log levels (period, point) that grow steadily and leave the number of exits expected over all periods as it is."""
    line = growth * np.arange(len(expected))[:, None]
    share = expected / max(float(expected.sum()), 1e-300)
    return np.asarray(line - np.log(np.maximum(share @ np.exp(line), 1e-300)))


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
    wild = np.sqrt(TAIL_DF / rng.chisquare(TAIL_DF, half))
    step = state.sigma[point] * np.sqrt(1.0 - state.phi[point] ** 2) * np.concatenate([wild, wild])[:draws]
    for period in range(periods):
        moved = target + state.growth[point] * state.growth_kept ** (period + 1)
        level = moved + state.phi[point] * (level - target) + step * normal[:, 2 + period]
        target = moved
        total += np.exp(np.clip(level, -LARGEST_LEVEL, LARGEST_LEVEL))
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
