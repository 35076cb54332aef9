"""Exact continuous-time answers and nonparametric estimators, to check the day lattice and its simulation against.

Nothing here is used to forecast. A stage is a tuple of competing :class:`LatentTime`, one per exit; the earliest
decides. Stages follow one another with the clock set back to zero on entry (clock reset), so a path is a convolution.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import linalg, optimize

from models.durations.families import FAMILIES, Family
from models.errors import SettingsError

Array = NDArray[np.float64]

_nodes, _weights = np.polynomial.legendre.leggauss(20)
PANEL_NODES: Array = 0.5 * (_nodes + 1.0)
PANEL_WEIGHTS: Array = 0.5 * _weights
SHORTEST_LOG_DAYS = -60.0
"""Integrals over log days start here: a latent time with a shape of 0.5 ends before with probability 1e-13."""
NEGLIGIBLE_HAZARD = 45.0
"""Integrals to infinity stop at a survival of exp(-45) = 3e-20."""
HALVINGS = 50
"""A convolution is cut into panels that halve towards both ends this often: both may start like a power of time."""
_edges = np.concatenate([[0.0], 0.5 ** np.arange(HALVINGS, 0, -1)])
HALF_PLACES: Array = (_edges[:-1, None] + np.diff(_edges)[:, None] * PANEL_NODES).ravel()
HALF_WEIGHTS: Array = (np.diff(_edges)[:, None] * PANEL_WEIGHTS).ravel()


@dataclass(frozen=True)
class LatentTime:
    """The time one exit would take if no other came first.

    Parameters
    ----------
    family : Family
    theta : ndarray, shape (parameter,)
        Unconstrained parameters.
    """

    family: Family
    theta: Array


def latent_time(family: str, natural: dict[str, float]) -> LatentTime:
    """Latent time from a family's name and its natural parameters.

    Examples
    --------
    >>> latent_time("exponential", {"scale": 20.0}).family.log_survival(20.0, [np.log(20.0)]).item()
    -1.0
    """
    if family not in FAMILIES:
        raise SettingsError(f"unknown duration family {family!r}: expected one of {', '.join(FAMILIES)}")
    return LatentTime(FAMILIES[family], FAMILIES[family].to_unconstrained(natural))


def markov_occupancy(rates: ArrayLike, *, days: ArrayLike, start: int = 0) -> Array:
    """Probability of being in each state of a Markov chain, ``P(t) = exp(t Q)``.

    Parameters
    ----------
    rates : array_like, shape (state, state)
        Moves per day from row to column; the diagonal is ignored.
    days : array_like, shape (time,)
    start : int
        State at time zero.

    Returns
    -------
    ndarray, shape (time, state)

    Examples
    --------
    >>> markov_occupancy([[0.0, 0.1], [0.0, 0.0]], days=[10.0]).round(6).tolist()
    [[0.367879, 0.632121]]
    """
    generator = np.array(rates, dtype=np.float64)
    np.fill_diagonal(generator, 0.0)
    np.fill_diagonal(generator, -generator.sum(axis=1))
    return np.array([linalg.expm(generator * time)[start] for time in np.asarray(days, dtype=np.float64)])


def total_hazard(exits: Sequence[LatentTime], days: ArrayLike) -> Array:
    """Cumulative hazard of leaving a stage by any exit; ``-log`` of the probability to be in it still."""
    return np.sum([exit_.family.cumulative_hazard(days, exit_.theta) for exit_ in exits], axis=0)


def exit_density(exits: Sequence[LatentTime], exit_index: int, days: ArrayLike, *, days_so_far: float = 0.0) -> Array:
    """Density per day of leaving by one exit at ``days`` of a stay, given it lasted ``days_so_far``.

    ``h_j(t) exp(-(H(t) - H(a)))``, from differences of log-survival, so that ten years in a stage are no trouble.
    """
    exit_ = exits[exit_index]
    own = exit_.family.cumulative_hazard(days, exit_.theta)
    outlasted = total_hazard(exits, days) - total_hazard(exits, days_so_far)
    return np.asarray(np.exp(exit_.family.log_density(days, exit_.theta) + own - outlasted))


def exit_probability(
    exits: Sequence[LatentTime], exit_index: int, *, within: ArrayLike = np.inf, days_so_far: float = 0.0
) -> Array:
    r"""Probability of leaving by one exit within some days, given the days already spent in the stage.

    .. math:: P(j, t \mid a) = \int_a^{a+t} h_j(u)\, e^{-(H(u) - H(a))}\, du

    Parameters
    ----------
    exits : sequence of LatentTime
        The stage's competing exits.
    exit_index : int
        Which of them.
    within : array_like
        Further days; ``inf`` for ever.
    days_so_far : float
        Days the stay has lasted already.

    Returns
    -------
    ndarray, shape of ``within``

    Examples
    --------
    >>> won = latent_time("exponential", {"scale": 1 / 0.03})
    >>> lost = latent_time("exponential", {"scale": 1 / 0.02})
    >>> exit_probability([won, lost], 0, days_so_far=400.0).round(10).item()
    0.6
    """
    limits = np.asarray(within, dtype=np.float64)
    last = np.minimum(np.log(np.maximum(limits, np.exp(SHORTEST_LOG_DAYS))), _log_days_until_gone(exits, days_so_far))
    log_days, weights = _panels(last.ravel())
    further = np.exp(log_days)
    density = exit_density(exits, exit_index, days_so_far + further, days_so_far=days_so_far)
    widths = last.ravel() - SHORTEST_LOG_DAYS
    return ((density * further) @ weights * widths).reshape(limits.shape)


def _panels(last: Array) -> tuple[Array, Array]:
    """Nodes over log days up to each of ``last``, shape (n, node), and their weights for an interval of one."""
    widths = last - SHORTEST_LOG_DAYS
    panels = max(1, int(np.ceil(widths.max(initial=0.0))))
    places = ((np.arange(panels)[:, None] + PANEL_NODES) / panels).ravel()
    return SHORTEST_LOG_DAYS + widths[:, None] * places, np.tile(PANEL_WEIGHTS / panels, panels)


def _log_days_until_gone(exits: Sequence[LatentTime], days_so_far: float) -> float:
    """Log of the further days by which nearly nobody is left in the stage."""
    grid = np.arange(SHORTEST_LOG_DAYS, 300.0, 0.25)
    gone = total_hazard(exits, days_so_far + np.exp(grid)) - total_hazard(exits, days_so_far) > NEGLIGIBLE_HAZARD
    return float(grid[np.argmax(gone)]) if gone.any() else float(grid[-1])


def exit_quantile(exits: Sequence[LatentTime], exit_index: int, probability: float) -> float:
    """Days by which those who take one exit have taken it with the given probability.

    Examples
    --------
    >>> won, lost = (latent_time("exponential", {"scale": scale}) for scale in (20.0, 30.0))
    >>> round(exit_quantile([won, lost], 0, 0.5), 6)  # median of the earlier of both: 12 log 2
    8.317766
    """
    wanted = probability * float(exit_probability(exits, exit_index))
    end = _log_days_until_gone(exits, 0.0)
    log_days = optimize.brentq(
        lambda x: float(exit_probability(exits, exit_index, within=np.exp(x))) - wanted, -20.0, end, xtol=1e-13
    )
    return float(np.exp(log_days))


def exit_mean(exits: Sequence[LatentTime], exit_index: int) -> float:
    """Mean days to one exit among those who take it.

    Examples
    --------
    >>> won, lost = (latent_time("exponential", {"scale": scale}) for scale in (20.0, 30.0))
    >>> round(exit_mean([won, lost], 0), 9)
    12.0
    """
    log_days, weights = _panels(np.array([_log_days_until_gone(exits, 0.0)]))
    days = np.exp(log_days[0])
    mass = exit_density(exits, exit_index, days) * days * weights
    return float(mass @ days / mass.sum())


def passage(
    exits: Sequence[LatentTime], exit_index: int, *, then: Callable[[Array], ArrayLike], days: ArrayLike
) -> Array:
    r"""Probability that a stage was left by one exit and that what follows had happened ``days`` after entry.

    .. math:: \int_0^t f_j(u)\, g(t - u)\, du

    Parameters
    ----------
    exits : sequence of LatentTime
        The first stage's exits.
    exit_index : int
        The exit taken.
    then : callable
        ``g``: probability, by days since that exit (any shape), of what is asked: of being in the next stage still, or
        of having left it for won.
    days : array_like, shape (time,)

    Returns
    -------
    ndarray, shape (time,)

    Examples
    --------
    Lead to Qualified at 0.05 a day against Lost at 0.05, then Qualified to Won at 0.03 against Lost at 0.02:

    >>> lead = [latent_time("exponential", {"scale": 20.0}), latent_time("exponential", {"scale": 20.0})]
    >>> still_qualified = lambda days: np.exp(-0.05 * days)
    >>> passage(lead, 0, then=still_qualified, days=[30.0]).round(8).tolist()
    [0.17334309]
    """
    out = []
    for time in np.asarray(days, dtype=np.float64):
        near = time * HALF_PLACES
        far = time - near
        early = exit_density(exits, exit_index, near) * np.asarray(then(far))
        late = exit_density(exits, exit_index, far) * np.asarray(then(near))
        out.append(time * (HALF_WEIGHTS @ (early + late)))
    return np.array(out)
