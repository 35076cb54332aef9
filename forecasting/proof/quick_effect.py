"""What the amount does to exits in the quick chain: a slope in the log amount, and a factor of its own for each class.

Of a class, stage and exit, ``seen ~ Poisson(factor x expected)``, the factor Gamma(k, k) around ``exp(slope x place)``; both
slope and k are weighed by the evidence. The few deals of the highest class hold much of the money, and tell little of
themselves: the slope is what the other classes say of larger amounts.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from forecasting.proof.shrinkage import log_evidence
from models.stage_model.data import LINE_SHARE
from models.stage_model.problem import LOG_SCALE_MEAN, LOG_SCALE_SD

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

EFFECT_WEIGHTS = np.array([4.0, 12.0, 40.0, 150.0, 1000.0])
"""Exits that a factor on the slope counts for in a class; the data weigh these by their gamma-Poisson evidence."""
SLOPES = 0.08 * np.sinh(np.linspace(-3.0, 3.0, 25))
"""Slopes tried, in log hazard per standard deviation of the classes' places: closest where most are."""
SCALE_NODES = np.linspace(-3.0, 3.0, 41)
"""Standard deviations of the log scale at which the prior of the slope is summed."""


@dataclass(frozen=True)
class AmountEffect:
    """Posterior of slope and weight on a grid, by stage and exit.

    Parameters
    ----------
    exits, expected : ndarray, shape (class, stage, code)
        Seen, and expected without an effect.
    usual : ndarray, shape (slope, class, stage, code)
        Factor that each slope gives a class; over all classes it leaves the number of exits what it is.
    probability : ndarray, shape (slope, weight, stage, code)
    """

    exits: Floats
    expected: Floats
    usual: Floats
    probability: Floats

    def mean(self) -> Floats:
        """Mean factor, shape (class, stage, code)."""
        weight = EFFECT_WEIGHTS[:, None, None, None]
        usual = self.usual[:, None]
        factor = usual * (self.exits + weight) / (self.expected * usual + weight)
        return np.asarray((self.probability[:, :, None] * factor).sum(axis=(0, 1)))

    def draw(self, n: int, rng: np.random.Generator) -> Floats:
        """Draw factors, shape (draw, class, stage, code)."""
        flat = self.probability.reshape(-1, *self.probability.shape[2:])
        cumulated = np.cumsum(flat, axis=0)
        uniform = rng.random((n, *flat.shape[1:]))
        chosen = np.minimum((uniform[:, None] > cumulated).sum(axis=1), len(flat) - 1)
        slope, weight = np.divmod(chosen, len(EFFECT_WEIGHTS))
        stage, code = np.indices(flat.shape[1:])
        usual = np.moveaxis(self.usual[slope, :, stage, code], -1, 1)
        prior = EFFECT_WEIGHTS[weight][:, None]
        return np.asarray(usual * rng.standard_gamma(self.exits + prior) / (self.expected * usual + prior))


def amount_effect(exits: Floats, expected: Floats, place: Floats) -> AmountEffect:
    """Weigh slopes and weights by what was seen.

    Parameters
    ----------
    exits, expected : ndarray, shape (class, stage, code)
        Expected without an effect, over all classes as many as were seen.
    place : ndarray, shape (class,)
        Standardised log amounts of the classes, zero for one without.

    Returns
    -------
    AmountEffect

    Examples
    --------
    >>> seen, expected = (np.array(each).reshape(2, 1, 1) for each in ([150.0, 50.0], [100.0, 100.0]))
    >>> amount_effect(seen, expected, np.array([-1.0, 1.0])).mean().ravel().round(1).tolist()
    [1.5, 0.5]
    """
    slopes = SLOPES if place.any() else np.zeros(1)
    tilt = np.exp(slopes[:, None] * place)[..., None, None]
    total = (expected * tilt).sum(axis=1, keepdims=True)
    usual = tilt * np.divide(expected.sum(axis=0), total, out=np.ones_like(total), where=total > 0.0)
    weight = EFFECT_WEIGHTS[:, None, None, None]
    told = log_evidence(exits, (expected * usual)[:, None], weight) + (exits * np.log(usual))[:, None]
    evidence = told.sum(axis=2) + _log_prior(slopes)[:, None, None, None]
    probability = np.exp(evidence - evidence.max(axis=(0, 1)))
    return AmountEffect(exits, expected, usual, probability / probability.sum(axis=(0, 1)))


def _log_prior(slopes: Floats) -> Floats:
    """Log prior probability of each slope on the grid: normal, with the line's share of the stage model's spread of levels."""
    if len(slopes) == 1:
        return np.zeros(1)
    scale = np.exp(LOG_SCALE_MEAN + LOG_SCALE_SD * SCALE_NODES) * np.sqrt(LINE_SHARE)
    density = np.exp(-0.5 * ((slopes[:, None] / scale) ** 2 + SCALE_NODES**2)) / scale
    return np.asarray(np.log(density.sum(axis=1) * np.gradient(slopes)))
