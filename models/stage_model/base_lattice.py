"""Base hazards by day from draws of a stage's parameters, compiled."""

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from models.durations.families import FAMILIES
from models.durations.kernels import cumulative_hazard_grid
from models.stage_model.base_hazards import PIECEWISE

Floats = NDArray[np.float64]


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
    """

    family: str
    n_exits: int
    starts: tuple[int, ...] = ()
    zero_mass: bool = False


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
    if shape.family == PIECEWISE:
        of_day = np.searchsorted(np.array(shape.starts), np.arange(days), side="right") - 1
        _fill_piecewise(np.exp(parameters).reshape(len(parameters), len(shape.starts), shape.n_exits), of_day, out)
        return out
    family = FAMILIES[shape.family]
    width = len(family.priors)
    theta = np.ascontiguousarray(parameters[:, : shape.n_exits * width]).reshape(-1, shape.n_exits, width)
    _fill_smooth(family.code, theta, out)
    if shape.zero_mass:
        out[:, :, 0] = np.exp(parameters[:, shape.n_exits * width :])
    return out


@njit(cache=True)
def _fill_piecewise(rates: Floats, of_day: NDArray[np.int64], out: Floats) -> None:
    for draw in range(out.shape[0]):
        for j in range(out.shape[1]):
            for day in range(out.shape[2]):
                out[draw, j, day] = rates[draw, of_day[day], j]


@njit(cache=True)
def _fill_smooth(code: int, theta: Floats, out: Floats) -> None:
    n_days = out.shape[2]
    times = np.arange(n_days + 1).astype(np.float64)
    cumulative, slopes = np.empty(n_days + 1), np.empty((n_days + 1, theta.shape[2]))
    for draw in range(out.shape[0]):
        for j in range(out.shape[1]):
            cumulative_hazard_grid(code, times, theta[draw, j], cumulative, slopes)
            for day in range(n_days):
                out[draw, j, day] = cumulative[day + 1] - cumulative[day]
