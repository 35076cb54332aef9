"""Base hazards by day from draws of a stage's parameters, compiled.

A piecewise hazard says nothing about ages that no stay has reached. Held for ever, the small hazard of a tail full of deals
that nobody closes would win half of them in the end. So beyond the oldest age seen the stays are taken as a mixture:
a share ``p`` that still moves at the pace ``h`` the stage had before its last bin, and deals that move
``IDLE_FLOOR`` times as fast; ``p h`` is the hazard of the last bin. Where that is no slower than the stage ever was, ``p`` is
one and the hazard is held: a young pipeline keeps its pace, a tail of idle deals fades as the lively ones leave it.
"""

import math
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from models.durations.families import FAMILIES
from models.durations.kernels import cumulative_hazard_grid
from models.stage_model.base_hazards import PIECEWISE
from models.stage_model.smooth_kernels import attention

Floats = NDArray[np.float64]
IDLE_FLOOR = 1e-4
"""Pace of idle deals beside the others, beyond the oldest age seen: a few in a thousand wake up in ten years."""


@dataclass(frozen=True)
class BaseShape:
    """How a parameter vector becomes hazards by day.

    Parameters
    ----------
    family : str
        ``piecewise`` or a key of ``FAMILIES``.
    n_exits : int
    starts : tuple of int
        First day of each age bin; empty for a smooth family.
    zero_mass : bool
        A smooth family with a hazard of its own on the day of entry.
    idle : bool
        A smooth family of a stage that runs down, of whose deals some never move.
    seen : int
        Days of age that stays have reached, beyond which a piecewise hazard fades; 0 holds it for ever.
    """

    family: str
    n_exits: int
    starts: tuple[int, ...] = ()
    zero_mass: bool = False
    idle: bool = False
    seen: int = 0


def base_by_day(shape: BaseShape, parameters: Floats, *, days: int) -> Floats:
    """Integrated hazard of days ``0 .. days - 1`` for each draw and exit.

    Parameters
    ----------
    shape : BaseShape
    parameters : ndarray, shape (draw, parameter)
    days : int

    Returns
    -------
    ndarray, shape (draw, exit, day)

    Examples
    --------
    >>> shape = BaseShape("piecewise", n_exits=1, starts=(0, 2))
    >>> base_by_day(shape, np.log([[0.1, 0.3]]), days=4).round(2).tolist()
    [[[0.1, 0.1, 0.3, 0.3]]]
    """
    out = np.empty((len(parameters), shape.n_exits, days))
    fill_base(shape, parameters, out)
    return out


def fill_base(shape: BaseShape, parameters: Floats, out: Floats) -> None:
    """Fill ``out[draw, exit, day]`` as :func:`base_by_day` does."""
    if shape.family == PIECEWISE:
        rates, days = np.exp(parameters).reshape(len(parameters), len(shape.starts), shape.n_exits), out.shape[2]
        _fill_piecewise(rates, np.array([*shape.starts[1:], days]), out)
        if 0 < shape.seen < days and shape.starts[-1] > 1:
            _fade(shape.starts[-1], shape.seen, out)
        return
    family = FAMILIES[shape.family]
    own = shape.n_exits * len(family.priors)
    theta, rundown, first = np.split(parameters, [own, own + int(shape.idle)], axis=1)
    theta = np.ascontiguousarray(theta).reshape(-1, shape.n_exits, len(family.priors))
    _fill_smooth(family.code, theta, np.ascontiguousarray(rundown), out)
    if shape.zero_mass:
        out[:, :, 0] = np.exp(first)


@njit(cache=True, nogil=True)
def _fill_piecewise(rates: Floats, ends: NDArray[np.int64], out: Floats) -> None:
    """Hold each bin's rate up to the day before its end; bins may lie beyond the last day."""
    n_days = out.shape[2]
    for draw in range(out.shape[0]):
        for j in range(out.shape[1]):
            start = 0
            for b in range(len(ends)):
                end = min(ends[b], n_days)
                out[draw, j, start:end] = rates[draw, b, j]
                start = max(start, end)


@njit(cache=True, nogil=True)
def _fade(last_start: int, seen: int, out: Floats) -> None:
    """Let the hazard fade from day ``seen`` on, in place; see the head of the module."""
    n_draws, n_exits, n_days = out.shape
    for draw in range(n_draws):
        held, pace = 0.0, 0.0
        for j in range(n_exits):
            held += out[draw, j, seen - 1]
            for day in range(1, last_start):
                pace += out[draw, j, day] / (last_start - 1)
        if held >= pace:
            continue
        lively = held / pace
        for day in range(seen, n_days):
            left = lively * math.exp(-pace * (day - seen + 1))
            total = math.log1p(left * math.expm1(pace) / (1.0 - lively + left))
            factor = max(total, IDLE_FLOOR * pace) / held
            for j in range(n_exits):
                out[draw, j, day] = out[draw, j, seen - 1] * factor


@njit(cache=True, nogil=True)
def _fill_smooth(code: int, theta: Floats, rundown: Floats, out: Floats) -> None:
    n_days = out.shape[2]
    times = np.arange(n_days + 1).astype(np.float64)
    cumulative, slopes = np.empty(n_days + 1), np.empty((n_days + 1, theta.shape[2]))
    for draw in range(out.shape[0]):
        given, _ = attention(times, rundown[draw])
        for j in range(out.shape[1]):
            cumulative_hazard_grid(code, given, theta[draw, j], cumulative, slopes)
            for day in range(n_days):
                out[draw, j, day] = cumulative[day + 1] - cumulative[day]
