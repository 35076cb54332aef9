"""What is believed about a level series before seeing it, on coordinates that are all standard normal.

Three settings: the long-run sd of the log factor, how long a deviation lasts, and how much a period's own luck adds to
Poisson. Each is flat over all that pipelines show, on the log scale where the order of magnitude is what is unknown; the
ranges are those of the grid of :mod:`models.levels.filtering`, each of its points standing for half the way to its
neighbours.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

Floats = NDArray[np.float64]

SIGMA_RANGE = (0.02, 1.6)
"""Long-run sd of the log factor, equally likely on the log scale: from levels that hardly move (a fifth of the prior lies
below 0.05) to ones that grow fivefold in one period of three."""
HALF_LIFE_RANGE = (7.4, 3700.0)
"""Days after which half of a deviation is gone, equally likely on the log scale: a week to ten years."""
LUCK_RANGE = (0.001, 0.37)
"""Sd of a period's own luck beyond Poisson, 1 / sqrt(kappa), equally likely: at 0.001 counts are Poisson, at 0.37 a third
of a period's exits are its own luck."""
N_SETTINGS = 3
LOWEST = np.log([SIGMA_RANGE[0], HALF_LIFE_RANGE[0], np.exp(LUCK_RANGE[0])])
WIDTH = np.log([SIGMA_RANGE[1], HALF_LIFE_RANGE[1], np.exp(LUCK_RANGE[1])]) - LOWEST
"""Flat ranges of log sigma, log half-life and luck."""


@dataclass(frozen=True)
class Settings:
    """Settings of level series, arrays of one shape.

    Parameters
    ----------
    sigma : ndarray
        Long-run sd of the log factor.
    decay : ndarray
        Share of a deviation lost per period, as a rate: ``phi = exp(-decay)``.
    kappa : ndarray
        Size of the negative binomial.
    """

    sigma: Floats
    decay: Floats
    kappa: Floats

    @property
    def phi(self) -> Floats:
        """Part of a deviation left a period later."""
        return np.asarray(np.exp(-self.decay))

    def target_sd(self, periods: int) -> Floats:
        """Sd of the level that the series returns to, after so many periods: that of their mean.

        The hazards are those of the whole history, whose mean level is one by construction; how far it lay from the lasting
        one nothing tells.
        """
        share = (1.0 + self.phi) / (-np.expm1(-self.decay) * max(periods, 1))
        return np.asarray(self.sigma * np.sqrt(np.minimum(1.0, share)))


def settings_at(normals: Floats, *, days: int) -> Settings:
    """Give the settings of standard normal numbers.

    Parameters
    ----------
    normals : ndarray, shape (..., 3)
        For sigma, half-life and luck.
    days : int
        Length of a period.

    Examples
    --------
    >>> middle = settings_at(np.zeros(3), days=7)
    >>> round(float(middle.sigma), 3), round(float(middle.phi), 3), round(float(middle.kappa), 1)
    (0.179, 0.971, 29.1)
    """
    sigma, half_life, luck = np.moveaxis(LOWEST + WIDTH * ndtr(normals), -1, 0)
    return Settings(np.exp(sigma), np.log(2.0) * days * np.exp(-half_life), luck**-2.0)


def setting_slopes(normals: Floats, settings: Settings) -> Floats:
    """Slope of sigma, decay and kappa in their normal number, shape (3,)."""
    flat = WIDTH * np.exp(-0.5 * normals**2) / np.sqrt(2.0 * np.pi)
    return np.asarray(flat * np.array([settings.sigma, -settings.decay, -2.0 * settings.kappa**1.5]))


def prior_points(sizes: tuple[int, int, int]) -> Floats:
    """Grid of equally likely settings, as normal numbers of shape (point, 3)."""
    axes = [ndtri((np.arange(size) + 0.5) / size) for size in sizes]
    return np.stack([axis.ravel() for axis in np.meshgrid(*axes, indexing="ij")], axis=1)
