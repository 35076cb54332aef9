"""What was learned about the levels: draws of where they are, where they return to and how they move.

Draw ``i`` belongs to draw ``i`` of the other posteriors. Nothing here fits; see :mod:`models.levels.fit`.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.errors import SettingsError
from models.levels.counts import DIRECTIONS
from models.stage_model.posterior import Diagnostics

Floats = NDArray[np.float64]
PIECES = ("level", "target", "sigma", "phi", "direction")
"""Arrays of a saved record."""


@dataclass(frozen=True)
class LevelPosterior:
    """Posterior of the two level series; the last axis is (forward, down).

    Parameters
    ----------
    level : ndarray of float64, shape (draw, direction)
        Log factor on the hazards in the period that ends on the as-of date.
    target : ndarray of float64, shape (draw, direction)
        Where the log factor returns to.
    sigma, phi : ndarray of float64, shape (draw, direction)
        Its long-run sd, and the part of a deviation left a period later.
    direction : ndarray of int64, shape (stage, slot)
        Direction of each exit slot of the stage model, -1 where a slot is not used.
    period_days : int
        Length of a period.
    diagnostics : Diagnostics
    """

    level: Floats
    target: Floats
    sigma: Floats
    phi: Floats
    direction: NDArray[np.int64]
    period_days: int
    diagnostics: Diagnostics = field(default_factory=Diagnostics)

    @property
    def n_draws(self) -> int:
        """Number of posterior draws."""
        return len(self.level)

    def to_arrays(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Arrays and JSON-able rest; :meth:`from_arrays` gives back an equal record."""
        meta = {"period_days": self.period_days, "diagnostics": asdict(self.diagnostics)}
        return {name: getattr(self, name) for name in PIECES}, meta

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]], meta: Mapping[str, Any]) -> "LevelPosterior":
        """Inverse of :meth:`to_arrays`."""
        return cls(**arrays, period_days=meta["period_days"], diagnostics=Diagnostics(**meta["diagnostics"]))


def future_factors(levels: LevelPosterior, *, horizon_days: int, draws: int | None = None, seed: int) -> Floats:
    """Draw the mean factor on the hazards over the coming days, shape (draw, direction).

    Each series runs on from its present level: x' = target + phi (x - target) + sigma sqrt(1 - phi^2) normal.

    Parameters
    ----------
    levels : LevelPosterior
    horizon_days : int
    draws : int, optional
        The first ones; all by default. Draw i is the same for any number of draws.
    seed : int

    Raises
    ------
    SettingsError
        More draws than there are, or no day ahead.

    Examples
    --------
    >>> flat = np.zeros((2, 2))
    >>> calm = LevelPosterior(flat + np.log(1.5), flat, flat + 1e-9, flat + 0.5, np.array([[0, 1]]), 7)
    >>> future_factors(calm, horizon_days=7, seed=1).round(4).tolist()
    [[1.2247, 1.2247], [1.2247, 1.2247]]
    """
    draws = levels.n_draws if draws is None else draws
    if not 1 <= draws <= levels.n_draws or horizon_days < 1:
        raise SettingsError(
            f"expected 1 to {levels.n_draws} draws and at least one day ahead, got {draws} and {horizon_days}"
        )
    periods = -(-horizon_days // levels.period_days)
    normal = np.random.default_rng([seed, 3]).standard_normal((draws, periods, len(DIRECTIONS)))
    level, target, sigma, phi = (values[:draws] for values in (levels.level, levels.target, levels.sigma, levels.phi))
    noise = sigma * np.sqrt(1.0 - phi**2)
    total = np.zeros(level.shape)
    for period in range(periods):
        level = target + phi * (level - target) + noise * normal[:, period]
        total += np.exp(level) * min(levels.period_days, horizon_days - period * levels.period_days)
    return np.asarray(total / horizon_days)


def level_effects(levels: LevelPosterior, factors: Floats) -> Floats:
    """Factor on every hazard, shape (draw, stage, slot), from those of the directions (draw, direction).

    The result is what ``effects`` of :func:`forecasting.simulate.simulate_open` takes.
    """
    by_slot = np.concatenate([factors, np.ones((len(factors), 1))], axis=1)
    return np.asarray(by_slot[:, levels.direction])  # -1 of an unused slot takes the one at the end
