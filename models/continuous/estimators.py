"""Textbook estimators for right-censored histories in continuous time, to check the project's own models against.

Nothing here is used to forecast: Aalen-Johansen needs no model, the maximum-likelihood fits have no priors.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, special

from models.continuous.exact import Array, LatentTime
from models.durations.families import Family
from models.history import STILL_OPEN

GRADIENT_TOLERANCE = 1e-6
"""Where the optimiser stops: log-likelihoods are then right to about 1e-9."""


@dataclass(frozen=True)
class Occupancy:
    """Estimated probability of being in each state.

    Parameters
    ----------
    times : ndarray, shape (event time,)
        Times at which someone moved, ascending.
    probability : ndarray, shape (event time, state)
        From that time until the next.
    start : int
        State at time zero.
    """

    times: Array
    probability: Array
    start: int

    def at(self, times: ArrayLike) -> Array:
        """Probability of each state at any times; shape (time, state)."""
        initial = np.eye(self.probability.shape[1])[self.start]
        rows = np.vstack([initial, self.probability])
        return np.asarray(rows[np.searchsorted(self.times, np.asarray(times, dtype=np.float64), side="right")])


def aalen_johansen(
    state: ArrayLike, to: ArrayLike, *, entered: ArrayLike, left: ArrayLike, n_states: int, start: int = 0
) -> Occupancy:
    r"""Aalen-Johansen estimate of state occupancy, all starting in one state at time zero.

    .. math:: P(t) = \prod_{u \le t} (I + dA(u)), \quad dA_{ij}(u) = dN_{ij}(u) / Y_i(u)

    Parameters
    ----------
    state, to : array_like of int, shape (stay,)
        State of the stay, and the state it was left for or ``STILL_OPEN``.
    entered, left : array_like, shape (stay,)
        Times since the start at which the stay began, and ended or was censored.
    n_states : int
    start : int

    Returns
    -------
    Occupancy

    Examples
    --------
    >>> curve = aalen_johansen([0, 0, 0], [1, 2, -1], entered=[0, 0, 0], left=[1.0, 2.0, 3.0], n_states=3)
    >>> curve.at([0.5, 2.5]).round(3).tolist()
    [[1.0, 0.0, 0.0], [0.333, 0.333, 0.333]]
    """
    states, targets = np.asarray(state), np.asarray(to)
    begins, ends = np.asarray(entered, dtype=np.float64), np.asarray(left, dtype=np.float64)
    times = np.unique(ends[targets != STILL_OPEN])
    # at risk just before u: begun before u and not ended before u
    at_risk = np.empty((len(times), n_states))
    for code in range(n_states):
        begun = np.searchsorted(np.sort(begins[states == code]), times, side="left")
        over = np.searchsorted(np.sort(ends[states == code]), times, side="left")
        at_risk[:, code] = begun - over
    moves = np.zeros((len(times), n_states, n_states))
    moved = targets != STILL_OPEN
    np.add.at(moves, (np.searchsorted(times, ends[moved]), states[moved], targets[moved]), 1.0)
    current = np.eye(n_states)[start]
    rows = []
    for moved_now, exposed in zip(moves, at_risk, strict=True):
        rates = moved_now / np.maximum(exposed, 1.0)[:, None]
        current = current + current @ rates - current * rates.sum(axis=1)
        rows.append(current)
    return Occupancy(times, np.array(rows).reshape(len(times), n_states), start)


@dataclass(frozen=True)
class LatentFit:
    """Maximum-likelihood fit of one latent time."""

    latent: LatentTime
    log_likelihood: float


def _starting_theta(family: Family, mean_days: float) -> Array:
    theta = np.array([prior.mean for prior in family.priors])
    theta[0] = np.log(mean_days)
    return theta


def _log_likelihood(family: Family, theta: Array, days: Array, ended: NDArray[np.bool_]) -> float:
    observed = float(np.sum(family.log_density(days[ended], theta)))
    return observed + float(np.sum(family.log_survival(days[~ended], theta)))


def fit_latent_time(family: Family, days: ArrayLike, ended: ArrayLike) -> LatentFit:
    """Fit one exit's latent time; stays that took another exit, or none yet, count as censored.

    Parameters
    ----------
    family : Family
    days : array_like, shape (stay,)
        Length of each stay; any unit of time.
    ended : array_like of bool, shape (stay,)
        Whether the stay took this exit.

    Returns
    -------
    LatentFit

    Examples
    --------
    >>> from models.durations.families import FAMILIES
    >>> fit = fit_latent_time(FAMILIES["exponential"], [1.0, 2.0, 3.0, 4.0], [True, True, False, True])
    >>> round(float(np.exp(fit.latent.theta[0])), 4), round(fit.log_likelihood, 4)
    (3.3333, -6.6119)
    """
    lengths, exits = np.asarray(days, dtype=np.float64), np.asarray(ended, dtype=bool)

    def loss(theta: Array) -> float:
        return -_log_likelihood(family, theta, lengths, exits)

    found = optimize.minimize(
        loss,
        _starting_theta(family, lengths.sum() / max(exits.sum(), 1)),
        jac="3-point",
        method="BFGS",
        options={"gtol": GRADIENT_TOLERANCE},
    )
    return LatentFit(LatentTime(family, found.x), -float(found.fun))


@dataclass(frozen=True)
class MixtureFit:
    """Maximum-likelihood fit of where next, then when.

    Parameters
    ----------
    share : ndarray, shape (exit,)
        Probability of each exit.
    times : tuple of LatentTime
        Time to the exit, given that it is the one taken.
    log_likelihood : float
    """

    share: Array
    times: tuple[LatentTime, ...]
    log_likelihood: float


def mixture_log_likelihood(
    share: ArrayLike, times: Sequence[LatentTime], days: ArrayLike, exit_index: ArrayLike
) -> float:
    r"""Log-likelihood of where next, then how long given where.

    A stay that ended by exit j after t contributes :math:`\pi_j f_j(t)`, one still open :math:`\sum_j \pi_j S_j(t)`.

    Parameters
    ----------
    share : array_like, shape (exit,)
        Probability of each exit.
    times : sequence of LatentTime
        Time to each exit, given that it is the one taken.
    days : array_like, shape (stay,)
    exit_index : array_like of int, shape (stay,)
        Which exit, or ``STILL_OPEN``.

    Examples
    --------
    >>> from models.continuous.exact import latent_time
    >>> times = [latent_time("exponential", {"scale": 2.0}), latent_time("exponential", {"scale": 4.0})]
    >>> round(mixture_log_likelihood([0.5, 0.5], times, [2.0], [0]), 4)  # log 0.5 + log 0.5 - 1
    -2.3863
    """
    lengths, taken = np.asarray(days, dtype=np.float64), np.asarray(exit_index)
    open_days = lengths[taken == STILL_OPEN]
    outlasted = np.full(len(open_days), -np.inf)
    total = 0.0
    for code, (log_share, time) in enumerate(zip(np.log(share), times, strict=True)):
        own = lengths[taken == code]
        total += len(own) * float(log_share) + float(np.sum(time.family.log_density(own, time.theta)))
        outlasted = np.logaddexp(outlasted, log_share + time.family.log_survival(open_days, time.theta))
    return total + float(np.sum(outlasted))


def fit_mixture(families: Sequence[Family], days: ArrayLike, exit_index: ArrayLike) -> MixtureFit:
    """Fit the mixture form: where next, then how long given where.

    Parameters
    ----------
    families : sequence of Family
        One per exit.
    days : array_like, shape (stay,)
    exit_index : array_like of int, shape (stay,)
        Which exit, or ``STILL_OPEN``.

    Returns
    -------
    MixtureFit

    Examples
    --------
    >>> from models.durations.families import FAMILIES
    >>> exponential = FAMILIES["exponential"]
    >>> fit = fit_mixture([exponential, exponential], [1.0, 2.0, 3.0, 4.0], [0, 0, 0, 1])
    >>> fit.share.round(4).tolist(), [round(float(np.exp(t.theta[0])), 3) for t in fit.times]
    ([0.75, 0.25], [2.0, 4.0])
    """
    lengths, taken = np.asarray(days, dtype=np.float64), np.asarray(exit_index)
    cuts = np.cumsum([len(families) - 1, *(len(family.parameters) for family in families)])

    def unpack(point: Array) -> tuple[Array, tuple[LatentTime, ...]]:
        thetas = [point[start:end] for start, end in pairwise(cuts)]
        times = tuple(LatentTime(family, theta) for family, theta in zip(families, thetas, strict=True))
        return special.softmax(np.append(point[: cuts[0]], 0.0)), times

    def loss(point: Array) -> float:
        return -mixture_log_likelihood(*unpack(point), lengths, taken)

    starts = [_starting_theta(family, lengths[taken == code].mean()) for code, family in enumerate(families)]
    found = optimize.minimize(
        loss,
        np.concatenate([np.zeros(len(families) - 1), *starts]),
        jac="3-point",
        method="BFGS",
        options={"gtol": GRADIENT_TOLERANCE},
    )
    return MixtureFit(*unpack(found.x), -float(found.fun))
