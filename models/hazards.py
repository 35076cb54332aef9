"""What a stage model hands to everything that follows from it: hazards on the day lattice.

Every duration family, whatever its parameters, comes down to one table per posterior draw: the hazard of exit ``j``
integrated over day ``d`` of a stay,

    lambda[j, d] = integral of h_j(t) for t in [d, d + 1),

times one positive factor per covariate cell and exit. A deal that is in the stage at the start of day ``d`` of its stay
leaves on that day with probability ``1 - exp(-L)``, ``L = sum_j lambda[j, d]``, and then goes to ``j`` with probability
``lambda[j, d] / L`` (hazards of one day are taken as proportional within the day). ``d = 0`` is the day of entry, so a stay
may end on the day it began. Simulation, likelihood and closed form all use this definition, which makes them agree exactly.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from models.errors import SettingsError

NO_EXIT = -1
"""Filler in ``next_stage`` where a stage has fewer exits than slots."""


@dataclass(frozen=True)
class LatticeHazards:
    """Integrated daily hazards of a block of posterior draws.

    Parameters
    ----------
    next_stage : ndarray of int16, shape (stage, slot)
        Stage code each exit slot leads to, ``NO_EXIT`` in unused slots; one row per open stage.
    base : ndarray of float64, shape (draw, stage, slot, day)
        Integrated hazard over day 0, 1, 2, ... of a stay; zero in unused slots.
    effect : ndarray of float64, shape (draw, cell, stage, slot)
        Positive factor on ``base``; one in unused slots.
    """

    next_stage: NDArray[np.int16]
    base: NDArray[np.float64]
    effect: NDArray[np.float64]


class HazardSource(Protocol):
    """Anything that can give lattice hazards by draw: a fitted stage model, or one planted by a test."""

    @property
    def n_draws(self) -> int:
        """Number of posterior draws."""
        ...

    def lattice(self, draws: NDArray[np.int64], *, days: int, cells: NDArray[np.int32]) -> LatticeHazards:
        """Hazards of the given draws for days ``0 .. days - 1`` of a stay and the given covariate cells.

        ``cells`` has shape (cell, factor) and holds level codes; ``UNSEEN_LEVEL`` asks for a level drawn from the
        population of levels (the same one whenever the same draw is asked).
        """
        ...


@dataclass(frozen=True)
class ScaledHazards:
    """Hazards of another source times a factor of each draw, stage and exit: a shock that lasts, a what-if.

    Parameters
    ----------
    source : HazardSource
    factor : ndarray of float64, shape (draw, stage, slot)
        Positive; one row for each draw of the source.

    Raises
    ------
    SettingsError
        A factor that is not positive, or not one row per draw.

    Examples
    --------
    >>> plain = PlantedHazards(np.array([[1]], dtype=np.int16), np.full((2, 1, 1, 5), 0.1))
    >>> faster = ScaledHazards(plain, np.array([[[1.0]], [[2.0]]]))
    >>> faster.lattice(np.array([1]), days=5, cells=np.zeros((1, 1), dtype=np.int32)).effect.ravel().tolist()
    [2.0]
    """

    source: HazardSource
    factor: NDArray[np.float64]

    def __post_init__(self) -> None:
        if self.factor.ndim != 3 or len(self.factor) != self.source.n_draws or not (self.factor > 0).all():
            expected = f"({self.source.n_draws}, stage, slot)"
            raise SettingsError(f"factor must be positive and of shape {expected}, got {self.factor.shape}")

    @property
    def n_draws(self) -> int:
        """Number of draws of the source."""
        return self.source.n_draws

    def lattice(self, draws: NDArray[np.int64], *, days: int, cells: NDArray[np.int32]) -> LatticeHazards:
        """Hazards of the given draws, see :class:`HazardSource`."""
        given = self.source.lattice(draws, days=days, cells=cells)
        return LatticeHazards(given.next_stage, given.base, given.effect * self.factor[draws][:, None])


@dataclass(frozen=True)
class PlantedHazards:
    """Known hazards in the place of a posterior: for tests, benchmarks and what-if by hand.

    Parameters
    ----------
    next_stage : ndarray of int16, shape (stage, slot)
    base : ndarray of float64, shape (draw, stage, slot, day)
        The last day's hazard is held for later days.
    effect : ndarray of float64, shape (draw, cell, stage, slot), or None
        Factor by cell, where a cell's one factor is its number; None means one for every cell.
    """

    next_stage: NDArray[np.int16]
    base: NDArray[np.float64]
    effect: NDArray[np.float64] | None = None

    @property
    def n_draws(self) -> int:
        """Number of planted draws."""
        return len(self.base)

    def lattice(self, draws: NDArray[np.int64], *, days: int, cells: NDArray[np.int32]) -> LatticeHazards:
        """Hazards of the given draws, see :class:`HazardSource`."""
        rows = slice(draws[0], draws[-1] + 1) if len(draws) and (np.diff(draws) == 1).all() else draws
        base = self.base[rows, :, :, :days]
        later = days - base.shape[-1]
        if later > 0:
            base = np.concatenate([base, np.repeat(base[..., -1:], later, axis=-1)], axis=-1)
        if self.effect is None:
            effect = np.ones((len(draws), len(cells), *self.next_stage.shape))
        else:
            effect = np.ascontiguousarray(self.effect[draws][:, cells[:, 0]])
        return LatticeHazards(self.next_stage, base, effect)
