"""What was learned about how deals move: draws of every stage's hazards, and the way back from a file.

Draw ``i`` of one stage goes with draw ``i`` of every other. Nothing here fits; see :mod:`models.stage_model.fit`.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from models.errors import InputError
from models.hazards import NO_EXIT, LatticeHazards
from models.history import Factor
from models.stage_model.base_lattice import BaseShape, fill_base
from models.stage_model.thin_levels import ThinLevels, keyed_normals
from models.stages import StageGraph

if TYPE_CHECKING:
    from xarray import DataTree

Floats = NDArray[np.float64]
SCHEMA_VERSION = 3
PIECES = ("codes", "effect", "log_scale", "thin_codes", "thin_mean", "thin_sd")
"""Arrays saved for each stage and factor."""
FACTOR_PARTS = ("levels", "edges", "places")
"""What is saved of each factor beside its name."""
LARGEST_RHAT = 1.01
"""Chains of the NUTS road beyond it disagree."""
MIN_ESS = 400
"""With fewer effective draws too few independent ones stand behind a 90 % quantile."""
LARGEST_LOG_EFFECT = 20.0
"""Log effects of unseen levels are cut here, so that a wide scale cannot overflow."""


@dataclass(frozen=True)
class FactorEffect:
    """Log effects of one factor's levels on the exits of one stage.

    Parameters
    ----------
    codes : ndarray of int64, shape (level,)
        Level codes fitted jointly, ascending.
    effect : ndarray, shape (draw, level, exit)
        Log factor on the hazards of each exit.
    log_scale : ndarray, shape (draw, exit)
        Log of the spread of the levels.
    thin : ThinLevels
        Levels with next to no stays.
    """

    codes: NDArray[np.int64]
    effect: Floats
    log_scale: Floats
    thin: ThinLevels


@dataclass(frozen=True)
class StageFit:
    """Posterior of one open stage.

    Parameters
    ----------
    exits : tuple of int
        Stage codes the exits lead to.
    shape : BaseShape
        Duration family and how its parameters become hazards.
    base : ndarray, shape (draw, parameter)
        Unconstrained parameters of the base hazard.
    factors : tuple of FactorEffect
    reason : str
        Why this family.
    comparison : tuple of dict
        One row per family tried: ``family``, ``elpd``, ``elpd_diff``, ``se_diff``; empty when the family was given.
    """

    exits: tuple[int, ...]
    shape: BaseShape
    base: Floats
    factors: tuple[FactorEffect, ...]
    reason: str
    comparison: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True)
class Diagnostics:
    """Whether the draws can be trusted; over hazards, effects and scales.

    Parameters
    ----------
    rhat_max, ess_min : float or None
        None for fast inference, which has no chains.
    divergences : int
    """

    rhat_max: float | None = None
    ess_min: float | None = None
    divergences: int = 0

    @property
    def too_short(self) -> bool:
        """Whether chains disagree, or hold too few independent draws: longer ones may mend it."""
        return self.rhat_max is not None and (self.rhat_max > LARGEST_RHAT or (self.ess_min or 0.0) < MIN_ESS)

    @property
    def trusted(self) -> bool:
        """Whether draws can be published; those of fast inference, which has no chains, always."""
        return not self.too_short and self.divergences == 0

    @classmethod
    def worst_of(cls, parts: Sequence["Diagnostics"]) -> "Diagnostics":
        """Join those of several parts of a model.

        Examples
        --------
        >>> Diagnostics.worst_of([Diagnostics(1.002, 900.0, 1), Diagnostics(1.004, 1200.0), Diagnostics()])
        Diagnostics(rhat_max=1.004, ess_min=900.0, divergences=1)
        """
        rhat = [part.rhat_max for part in parts if part.rhat_max is not None]
        ess = [part.ess_min for part in parts if part.ess_min is not None]
        return cls(max(rhat, default=None), min(ess, default=None), sum(part.divergences for part in parts))


@dataclass(frozen=True)
class StagePosterior:
    """Posterior of the stage model; a :class:`~models.hazards.HazardSource`.

    Parameters
    ----------
    graph : StageGraph
    factors : tuple of Factor
    stages : tuple of StageFit
        One per open stage.
    inference : str
        ``fast`` or ``nuts``.
    sampler : str
        What made the draws, with its version.
    seed : int
        Keys the effects of levels never seen.
    diagnostics : Diagnostics
    n_chains : int
        Draws are chain after chain.
    """

    graph: StageGraph
    factors: tuple[Factor, ...]
    stages: tuple[StageFit, ...]
    inference: str
    sampler: str
    seed: int
    diagnostics: Diagnostics = field(default_factory=Diagnostics)
    n_chains: int = 1

    @property
    def n_draws(self) -> int:
        """Number of posterior draws."""
        return len(self.stages[0].base)

    @property
    def families(self) -> dict[str, str]:
        """Duration family of each open stage."""
        return {name: fit.shape.family for name, fit in zip(self.graph.open, self.stages, strict=True)}

    def lattice(self, draws: NDArray[np.int64], *, days: int, cells: NDArray[np.int32]) -> LatticeHazards:
        """Hazards of the given draws for days ``0 .. days - 1``, see :class:`~models.hazards.HazardSource`.

        Parameters
        ----------
        draws : ndarray of int
        days : int
        cells : ndarray of int, shape (cell, factor)
            Level codes, ``UNSEEN_LEVEL`` for a value the history lacks.

        Returns
        -------
        LatticeHazards
        """
        slots = max(len(fit.exits) for fit in self.stages)
        next_stage = np.full((len(self.stages), slots), NO_EXIT, dtype=np.int16)
        base = np.zeros((len(draws), len(self.stages), slots, days))
        effect = np.ones((len(draws), len(cells), len(self.stages), slots))
        for stage, fit in enumerate(self.stages):
            n_exits = len(fit.exits)
            next_stage[stage, :n_exits] = fit.exits
            fill_base(fit.shape, fit.base[draws], base[:, stage, :n_exits])
            if fit.factors:
                effect[:, :, stage, :n_exits] = np.exp(self.log_effect(stage, draws, cells))
        return LatticeHazards(next_stage, base, effect)

    def log_effect(self, stage: int, draws: NDArray[np.int64], cells: NDArray[np.int32]) -> Floats:
        """Log factor on the hazards of one stage, shape (draw, cell, exit)."""
        fit = self.stages[stage]
        total = np.zeros((len(draws), len(cells), len(fit.exits)))
        for number, factor in enumerate(fit.factors):
            codes, of_cell = np.unique(cells[:, number], return_inverse=True)
            key = (self.seed * 1_000_003 + stage) * 1_000_003 + number
            total += level_effects(factor, draws, codes.astype(np.int64), key)[:, of_cell.reshape(-1)]
        return total

    def to_datatree(self) -> "DataTree":
        """Give the draws as an ArviZ tree: a group ``posterior``, dims ``chain`` and ``draw``, variables by stage."""
        import arviz as az

        variables = {}
        for name, fit in zip(self.graph.open, self.stages, strict=True):
            variables[f"{name} base"] = self._by_chain(fit.base)
            for factor, part in zip(self.factors, fit.factors, strict=True):
                variables[f"{name} {factor.name} log_scale"] = self._by_chain(part.log_scale)
                if part.effect.shape[1]:
                    variables[f"{name} {factor.name} effect"] = self._by_chain(part.effect)
        tree: DataTree = az.from_dict({"posterior": variables})
        return tree

    def _by_chain(self, values: Floats) -> Floats:
        return values.reshape(self.n_chains, -1, *values.shape[1:])

    def save(self, path: str | Path) -> None:
        """Write to ``path`` with suffix ``.npz`` (arrays) and ``.json`` (the rest); no pickle."""
        arrays: dict[str, NDArray[Any]] = {}
        stages = []
        for number, fit in enumerate(self.stages):
            arrays[f"{number}_base"] = fit.base
            for place, part in enumerate(fit.factors):
                pieces = (part.codes, part.effect, part.log_scale, part.thin.codes, part.thin.mean, part.thin.sd)
                arrays |= {f"{number}_{place}_{name}": piece for name, piece in zip(PIECES, pieces, strict=True)}
            record = {"exits": fit.exits, "shape": asdict(fit.shape), "reason": fit.reason}
            stages.append(record | {"comparison": [dict(row) for row in fit.comparison]})
        head = {
            "schema_version": SCHEMA_VERSION,
            "graph": {"open": self.graph.open, "won": self.graph.won, "lost": self.graph.lost},
            "factors": [asdict(factor) for factor in self.factors],
            "stages": stages,
            "inference": self.inference,
            "sampler": self.sampler,
            "seed": self.seed,
            "diagnostics": asdict(self.diagnostics),
            "n_chains": self.n_chains,
        }
        Path(path).with_suffix(".json").write_text(json.dumps(head, indent=1), encoding="utf-8")
        np.savez(Path(path).with_suffix(".npz"), allow_pickle=False, **arrays)


def level_effects(factor: FactorEffect, draws: NDArray[np.int64], codes: NDArray[np.int64], key: int) -> Floats:
    """Log effects of any levels of a factor, seen or not, shape (draw, level, exit).

    A thin level is drawn around what its own stays say, a level never seen in the stage from the spread of the levels.
    """
    n_exits = factor.effect.shape[2]
    out = np.empty((len(draws), len(codes), n_exits))
    joint = np.isin(codes, factor.codes)
    out[:, joint] = factor.effect[draws][:, np.searchsorted(factor.codes, codes[joint])]
    if joint.all():
        return out
    other = codes[~joint]
    numbers = ((other + 1)[:, None] * n_exits + np.arange(n_exits)).reshape(-1)
    noise = keyed_normals(key, draws, numbers).reshape(len(draws), len(other), n_exits)
    drawn = np.exp(factor.log_scale[draws])[:, None] * noise
    known = np.isin(other, factor.thin.codes)
    place = np.searchsorted(factor.thin.codes, other[known])
    drawn[:, known] = factor.thin.mean[place] + factor.thin.sd[place] * noise[:, known]
    out[:, ~joint] = np.clip(drawn, -LARGEST_LOG_EFFECT, LARGEST_LOG_EFFECT)
    return out


def load_stage_posterior(path: str | Path) -> StagePosterior:
    """Read what :meth:`StagePosterior.save` wrote.

    Raises
    ------
    InputError
        A file is missing or of another schema version.
    """
    head_path, array_path = Path(path).with_suffix(".json"), Path(path).with_suffix(".npz")
    if not head_path.exists() or not array_path.exists():
        raise InputError(f"expected a saved stage posterior at {head_path} and {array_path}: fit first")
    head = json.loads(head_path.read_text(encoding="utf-8"))
    if head["schema_version"] != SCHEMA_VERSION:
        raise InputError(f"expected schema version {SCHEMA_VERSION}, got {head['schema_version']}: fit again")
    with array_path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        stages = tuple(
            _stage_fit(number, record, arrays, len(head["factors"])) for number, record in enumerate(head["stages"])
        )
    factors = tuple(Factor(f["name"], *(tuple(f[part]) for part in FACTOR_PARTS)) for f in head["factors"])
    diagnostics = Diagnostics(**head["diagnostics"])
    return StagePosterior(
        StageGraph(**head["graph"]),
        factors,
        stages,
        head["inference"],
        head["sampler"],
        head["seed"],
        diagnostics,
        head["n_chains"],
    )


def _stage_fit(number: int, record: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]], n_factors: int) -> StageFit:
    factors = []
    for place in range(n_factors):
        codes, effect, log_scale, *thin = (arrays[f"{number}_{place}_{name}"] for name in PIECES)
        factors.append(FactorEffect(codes, effect, log_scale, ThinLevels(*thin)))
    shape = BaseShape(**{**record["shape"], "starts": tuple(record["shape"]["starts"])})
    return StageFit(
        tuple(record["exits"]),
        shape,
        arrays[f"{number}_base"],
        tuple(factors),
        record["reason"],
        tuple(record["comparison"]),
    )
