"""Families of time to one exit of a stage, in days since the stage was entered.

A stage's exits compete: each has its own latent time, the earliest happens. A family describes one such time through
its cumulative hazard ``H(t) = -log S(t)``; sampling, quantiles and daily tables follow from ``H`` and its inverse. The
compiled kernels and the meaning of the unconstrained parameters are in ``models/durations/kernels.py``.

Everything takes ``theta``, the unconstrained parameters, because that is what a posterior draw holds;
:meth:`Family.to_unconstrained` makes it from named natural ones.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from models.durations.kernels import (
    EXPONENTIAL,
    GAMMA,
    GENERALIZED_GAMMA,
    LOG_LARGEST,
    LOG_ROOT_TWO_PI,
    LOGLOGISTIC,
    LOGNORMAL,
    WEIBULL,
    cumulative_hazard_and_gradient,
    daily_hazards,
    log_time_at_hazard,
    prentice_parameters,
    second_exponential,
    stirling_remainder,
)
from models.durations.priors import LOG_DAYS, LOG_PEAKED_SHAPE, LOG_SHAPE, LOG_SPREAD, TAIL, DurationPrior
from models.errors import SettingsError

Array = NDArray[np.float64]
SHORTEST_DAYS = 1e-300
"""Where densities are taken instead of at zero days, at which some families have none."""


@dataclass(frozen=True)
class DurationParameter:
    """One parameter of a family.

    Parameters
    ----------
    name : str
        Natural name, such as ``scale``.
    unit : str
        Unit of the natural parameter.
    positive : bool
        Whether the unconstrained parameter is the log of the natural one.
    prior : DurationPrior
        On the unconstrained scale.
    """

    name: str
    unit: str
    positive: bool
    prior: DurationPrior


@dataclass(frozen=True)
class Family:
    """A family of times to one exit.

    Parameters
    ----------
    name : str
    code : int
        By which compiled kernels know the family.
    parameters : tuple of DurationParameter
        In the order of ``theta``; the first is always the location of log days.
    log_density_of_log_days : callable
        From (log days, theta).
    inverse : callable
        Log days at which ``H`` reaches given values, from (H, theta).

    Examples
    --------
    >>> weibull = FAMILIES["weibull"]
    >>> theta = weibull.to_unconstrained({"scale": 30.0, "shape": 1.5})
    >>> weibull.log_survival(3650.0, theta).round(10).item()
    -1342.0151376306
    >>> weibull.quantile(0.5, theta).round(4).item()
    23.4966
    """

    name: str
    code: int
    parameters: tuple[DurationParameter, ...]
    log_density_of_log_days: Callable[[Array, Array], Array]
    inverse: Callable[[Array, Array], Array]

    @property
    def priors(self) -> tuple[DurationPrior, ...]:
        """Default priors of ``theta``."""
        return tuple(parameter.prior for parameter in self.parameters)

    def to_unconstrained(self, natural: Mapping[str, float]) -> Array:
        """Unconstrained parameters from named natural ones.

        Raises
        ------
        SettingsError
            A name is missing or unknown, or a positive parameter is not positive.
        """
        names = [parameter.name for parameter in self.parameters]
        if sorted(natural) != sorted(names):
            raise SettingsError(f"{self.name} takes the parameters {names}, got {sorted(natural)}")
        theta = np.array([natural[name] for name in names], dtype=np.float64)
        for i, parameter in enumerate(self.parameters):
            if parameter.positive and not theta[i] > 0:
                raise SettingsError(f"{self.name}: {parameter.name} must be positive, got {theta[i]}")
            theta[i] = math.log(theta[i]) if parameter.positive else theta[i]
        return theta

    def from_unconstrained(self, theta: ArrayLike) -> dict[str, float]:
        """Named natural parameters from unconstrained ones.

        Examples
        --------
        >>> FAMILIES["lognormal"].from_unconstrained([3.0, 0.0])
        {'location': 3.0, 'spread': 1.0}
        """
        values = self._checked(theta)
        return {
            parameter.name: math.exp(value) if parameter.positive else float(value)
            for parameter, value in zip(self.parameters, values, strict=True)
        }

    def cumulative_hazard(self, days: ArrayLike, theta: ArrayLike) -> Array:
        """``H(t) = -log S(t)`` at days of any shape."""
        times = np.asarray(days, dtype=np.float64)
        hazard, _ = cumulative_hazard_and_gradient(self.code, times.ravel(), self._checked(theta))
        return np.asarray(hazard).reshape(times.shape)

    def log_survival(self, days: ArrayLike, theta: ArrayLike) -> Array:
        """Log of the probability that the time exceeds ``days``: never ``-inf`` for an old open deal."""
        return -self.cumulative_hazard(days, theta)

    def log_density(self, days: ArrayLike, theta: ArrayLike) -> Array:
        """Log density per day; at zero days its value just after zero."""
        log_days = np.log(np.maximum(np.asarray(days, dtype=np.float64), SHORTEST_DAYS))
        return self.log_density_of_log_days(log_days, self._checked(theta)) - log_days

    def quantile(self, probability: ArrayLike, theta: ArrayLike) -> Array:
        """Days by which the exit has happened with the given probability."""
        return self._time_at(-np.log1p(-np.asarray(probability, dtype=np.float64)), theta)

    def draw(self, generator: np.random.Generator, theta: ArrayLike, *, size: int) -> Array:
        """Random times, in days; shape (size,)."""
        return self._time_at(generator.standard_exponential(size), theta)

    def draw_remaining(self, generator: np.random.Generator, theta: ArrayLike, *, days_so_far: ArrayLike) -> Array:
        """Random further days, given that the exit has not happened for ``days_so_far``; one per entry of it.

        The cumulative hazard of a time is exponential, so what is left of it is too, however old the stay.
        """
        elapsed = np.asarray(days_so_far, dtype=np.float64)
        hazard = self.cumulative_hazard(elapsed, theta) + generator.standard_exponential(elapsed.shape)
        return np.maximum(self._time_at(hazard, theta) - elapsed, 0.0)

    def daily_hazards(self, theta: ArrayLike, *, days: int) -> Array:
        """Hazard integrated over days 0 .. days - 1 by draw; ``theta`` (draw, parameter) to (draw, day)."""
        return np.asarray(daily_hazards(self.code, np.ascontiguousarray(theta, dtype=np.float64), days))

    def _time_at(self, hazard: ArrayLike, theta: ArrayLike) -> Array:
        with np.errstate(divide="ignore"):
            log_days = self.inverse(np.asarray(hazard, dtype=np.float64), self._checked(theta))
        return np.exp(np.minimum(log_days, LOG_LARGEST))

    def _checked(self, theta: ArrayLike) -> Array:
        values = np.ascontiguousarray(theta, dtype=np.float64)
        if values.shape != (len(self.parameters),):
            raise SettingsError(f"{self.name} takes {len(self.parameters)} parameters, got shape {values.shape}")
        return values


def _weibull_log_density(log_days: Array, theta: Array) -> Array:
    z = np.exp(theta[1]) * (log_days - theta[0])
    return np.asarray(theta[1] + z - np.exp(np.minimum(z, LOG_LARGEST)))


def _exponential_log_density(log_days: Array, theta: Array) -> Array:
    return _weibull_log_density(log_days, np.array([theta[0], 0.0]))


def _lognormal_log_density(log_days: Array, theta: Array) -> Array:
    w = (log_days - theta[0]) / np.exp(theta[1])
    return np.asarray(-0.5 * w * w - LOG_ROOT_TWO_PI - theta[1])


def _loglogistic_log_density(log_days: Array, theta: Array) -> Array:
    z = np.exp(theta[1]) * (log_days - theta[0])
    return np.asarray(theta[1] + z - 2.0 * np.logaddexp(0.0, z))


def _prentice_log_density(log_days: Array, location: float, spread: float, tail: float) -> Array:
    """Log density of log days of the generalised gamma, smooth at the log-normal limit ``tail = 0``."""
    w = (log_days - location) / spread
    z = np.minimum(tail * w, LOG_LARGEST)
    bend = np.array([second_exponential(value)[0] for value in np.ravel(z)]).reshape(np.shape(z))
    return np.asarray(-w * w * bend - stirling_remainder(tail)[0] - LOG_ROOT_TWO_PI - math.log(spread))


def _gamma_log_density(log_days: Array, theta: Array) -> Array:
    return _prentice_log_density(log_days, *prentice_parameters(GAMMA, theta))


def _generalized_gamma_log_density(log_days: Array, theta: Array) -> Array:
    return _prentice_log_density(log_days, *prentice_parameters(GENERALIZED_GAMMA, theta))


def _exponential_inverse(hazard: Array, theta: Array) -> Array:
    return np.asarray(theta[0] + np.log(hazard))


def _weibull_inverse(hazard: Array, theta: Array) -> Array:
    return np.asarray(theta[0] + np.log(hazard) / np.exp(theta[1]))


def _lognormal_inverse(hazard: Array, theta: Array) -> Array:
    return np.asarray(theta[0] - np.exp(theta[1]) * special.ndtri_exp(-hazard))


def _loglogistic_inverse(hazard: Array, theta: Array) -> Array:
    return np.asarray(theta[0] + (hazard + np.log(-np.expm1(-hazard))) / np.exp(theta[1]))


def _gamma_inverse(hazard: Array, theta: Array) -> Array:
    return np.asarray(log_time_at_hazard(GAMMA, hazard.ravel(), theta)).reshape(hazard.shape)


def _generalized_gamma_inverse(hazard: Array, theta: Array) -> Array:
    return np.asarray(log_time_at_hazard(GENERALIZED_GAMMA, hazard.ravel(), theta)).reshape(hazard.shape)


_SCALE = DurationParameter("scale", unit="days", positive=True, prior=LOG_DAYS)
_SHAPE = DurationParameter("shape", unit="1", positive=True, prior=LOG_SHAPE)
_PEAKED_SHAPE = DurationParameter("shape", unit="1", positive=True, prior=LOG_PEAKED_SHAPE)
_LOCATION = DurationParameter("location", unit="log days", positive=False, prior=LOG_DAYS)
_SPREAD = DurationParameter("spread", unit="log days", positive=True, prior=LOG_SPREAD)
_TAIL = DurationParameter("tail", unit="1", positive=False, prior=TAIL)

FAMILIES: dict[str, Family] = {
    family.name: family
    for family in (
        Family("exponential", EXPONENTIAL, (_SCALE,), _exponential_log_density, _exponential_inverse),
        Family("weibull", WEIBULL, (_SCALE, _SHAPE), _weibull_log_density, _weibull_inverse),
        Family("lognormal", LOGNORMAL, (_LOCATION, _SPREAD), _lognormal_log_density, _lognormal_inverse),
        Family("gamma", GAMMA, (_SCALE, _SHAPE), _gamma_log_density, _gamma_inverse),
        Family("loglogistic", LOGLOGISTIC, (_SCALE, _PEAKED_SHAPE), _loglogistic_log_density, _loglogistic_inverse),
        Family(
            "generalized_gamma",
            GENERALIZED_GAMMA,
            (_LOCATION, _SPREAD, _TAIL),
            _generalized_gamma_log_density,
            _generalized_gamma_inverse,
        ),
    )
}
"""Every family by name; the exponential is there as the reference everything can be checked against."""
