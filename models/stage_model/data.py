"""The counts of one open stage, arranged for fitting.

Deals that share all factor levels form a *group*. Levels with enough stays are fitted jointly with everything else; a
level with next to none (*thin*) cannot teach the others anything, so its effect is left out of the joint fit and found
afterwards from its own stays (see :mod:`models.stage_model.thin_levels`). That keeps thousands of owners with one deal each as
cheap as ten. Classes of a number lie on a line and are never thin: one without a stay is where the others say.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.history import STILL_OPEN, Factor, StageHistory

MIN_STAYS = 3
"""A level with fewer stays in the stage is thin: two stays move a log hazard by less than its spread between levels."""
MAX_JOINT_LEVELS = 150
"""Levels fitted jointly per stage, the most frequent ones, and all that lie on a line; the joint fit costs the cube of their
number."""
FEW_EXITS = 100
"""Below this many exits a stage also keeps the natural moves it has not shown yet: next stage in order, and lost. With their
prior they are then next to impossible; at once impossible they must not become."""
THIN = -1
"""Joint code of a thin level."""
LINE_SHARE = 0.75
"""Part of the variance of level effects that goes with a straight line where levels lie on one. The few deals of the highest
amounts hold much of the money, and tell little of themselves: they follow what the other classes say of larger amounts."""


@dataclass(frozen=True)
class StageData:
    """One stage's distinct stays and how its groups are told apart.

    Parameters
    ----------
    stage : int
        Code of the open stage.
    exits : tuple of int
        Stage codes the exits lead to.
    group, exit, days, count : ndarray of int64, shape (stay,)
        Distinct stays; ``exit`` is a place in ``exits`` or ``STILL_OPEN``.
    levels : ndarray of int64, shape (group, factor)
        Joint code of each factor's level, ``THIN`` where it has none.
    joint_levels : tuple of ndarray
        Per factor the level codes that are fitted jointly, ascending.
    stay_levels : ndarray of int64, shape (stay, factor)
        Level codes as in the history.
    level_roots : tuple of ndarray, each of shape (level, level)
        Per factor the square root of the prior covariance of its joint levels, in units of their squared scale.
    """

    stage: int
    exits: tuple[int, ...]
    group: NDArray[np.int64]
    exit: NDArray[np.int64]
    days: NDArray[np.int64]
    count: NDArray[np.int64]
    levels: NDArray[np.int64]
    joint_levels: tuple[NDArray[np.int64], ...]
    stay_levels: NDArray[np.int64]
    level_roots: tuple[NDArray[np.float64], ...]

    @property
    def n_groups(self) -> int:
        """Number of groups."""
        return len(self.levels)

    @property
    def n_exits(self) -> int:
        """Number of exits."""
        return len(self.exits)

    def by_day(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Count exits (day, exit) and stays at risk (day,) of all groups together, up to the longest stay."""
        ended = self.exit != STILL_OPEN
        span = int(self.days.max(initial=0)) + 1
        exits = np.zeros((span, self.n_exits), dtype=np.int64)
        np.add.at(exits, (self.days[ended], self.exit[ended]), self.count[ended])
        leaving = np.bincount(self.days, weights=self.count, minlength=span).astype(np.int64)
        return exits, np.cumsum(leaving[::-1])[::-1]


def exits_of(history: StageHistory, stage: int) -> tuple[int, ...]:
    """List the exits the model gives a stage: all moves seen, and the natural ones where little was seen.

    While nobody was ever won, or lost, by any stage, the way there stays open: what has not happened yet still can.
    """
    seen = set(history.exits(stage))
    graph = history.graph
    ended = history.counts[(history.counts["stage"] == stage) & (history.counts["next"] != STILL_OPEN)]
    few, ever = int(ended["count"].sum()) < FEW_EXITS, set(history.counts["next"])
    if few or ever.isdisjoint(graph.won_codes):
        seen.add(stage + 1 if graph.is_open(stage + 1) else graph.won_codes[0])
    if few or ever.isdisjoint(graph.lost_codes):
        seen |= set(graph.lost_codes)
    return tuple(sorted(seen))


def stage_data(history: StageHistory, stage: int) -> StageData:
    """Arrange the counts of one open stage.

    Parameters
    ----------
    history : StageHistory
    stage : int
        Code of an open stage.

    Returns
    -------
    StageData
    """
    rows = history.counts[history.counts["stage"] == stage]
    exits = exits_of(history, stage)
    place = {code: index for index, code in enumerate(exits)}
    exit_index = rows["next"].map(lambda code: place.get(int(code), STILL_OPEN)).to_numpy(dtype=np.int64)
    count = rows["count"].to_numpy(dtype=np.int64)
    stay_levels = history.cells[rows["cell"].to_numpy()].astype(np.int64)
    joint = _joint_levels(stay_levels, np.maximum(count, 0), history.factors)
    mapped = np.full_like(stay_levels, THIN)
    for factor, codes in enumerate(joint):
        found = np.isin(stay_levels[:, factor], codes)
        mapped[found, factor] = np.searchsorted(codes, stay_levels[found, factor])
    if mapped.shape[1] == 0 or len(mapped) == 0:
        levels = np.full((1, mapped.shape[1]), THIN, dtype=np.int64)
        group = np.zeros(len(rows), dtype=np.int64)
    else:
        levels, group = np.unique(mapped, axis=0, return_inverse=True)
    days = rows["days"].to_numpy(dtype=np.int64)
    roots = tuple(level_root(factor, codes) for factor, codes in zip(history.factors, joint, strict=True))
    return StageData(stage, exits, group.reshape(-1), exit_index, days, count, levels, joint, stay_levels, roots)


def _joint_levels(
    stay_levels: NDArray[np.int64], count: NDArray[np.int64], factors: tuple[Factor, ...]
) -> tuple[NDArray[np.int64], ...]:
    """Levels of each factor with enough stays, the most frequent ones over all factors; all levels of one on a line."""
    stays = [np.bincount(codes[codes >= 0], weights=count[codes >= 0]).astype(np.int64) for codes in stay_levels.T]
    everything = np.sort(np.concatenate([*stays, np.zeros(0, dtype=np.int64)]))[::-1]
    least = max(MIN_STAYS, int(everything[MAX_JOINT_LEVELS]) + 1 if len(everything) > MAX_JOINT_LEVELS else 0)
    return tuple(
        np.arange(len(factor.levels)) if factor.places else np.flatnonzero(by_level >= least)
        for factor, by_level in zip(factors, stays, strict=True)
    )


def level_root(factor: Factor, codes: NDArray[np.int64]) -> NDArray[np.float64]:
    """Square root of the prior covariance of a factor's levels, in units of their squared scale.

    Levels on a line share ``LINE_SHARE`` of their variance along it: ``LINE_SHARE x x' + (1 - LINE_SHARE) I`` with places x.

    Examples
    --------
    >>> steep = level_root(Factor("amount", ("low", "high"), (9.0,), (-1.0, 1.0)), np.array([0, 1]))
    >>> (steep @ steep.T).round(12).tolist()
    [[1.0, -0.75], [-0.75, 1.0]]
    """
    if not factor.places:
        return np.eye(len(codes))
    place = np.array(factor.places, dtype=np.float64)[codes]  # NaN where there is none
    free = np.diag(np.where(np.isnan(place), 1.0, 1.0 - LINE_SHARE))
    return np.asarray(np.linalg.cholesky(LINE_SHARE * np.nan_to_num(np.outer(place, place)) + free))


def zero_sum_design(data: StageData) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.float64]]:
    """Matrix (group, level) that turns level innovations into effects; factor and weight of each column.

    Innovations get the prior covariance of the levels. Each factor's exit-weighted mean is taken out: the base hazard then
    belongs to the typical exit, and sampling does not wander along the direction in which all levels rise and the base falls.
    """
    ended = np.bincount(data.group, weights=data.count * (data.exit != STILL_OPEN), minlength=data.n_groups)
    blocks = [np.zeros((data.n_groups, 0))]
    factors = [np.zeros(0, dtype=np.int64)]
    weights = [np.zeros(0)]
    for factor, codes in enumerate(data.joint_levels):
        levels = data.levels[:, factor]
        known = levels != THIN
        block = np.zeros((data.n_groups, len(codes)))
        block[known, levels[known]] = 1.0
        weights.append(level_weights(block, ended))
        block[known] -= weights[-1]
        blocks.append(block @ data.level_roots[factor])
        factors.append(np.full(len(codes), factor, dtype=np.int64))
    return np.concatenate(blocks, axis=1), np.concatenate(factors), np.concatenate(weights)


def level_weights(indicator: NDArray[np.float64], ended: NDArray[np.float64]) -> NDArray[np.float64]:
    """Share of the exits in each level; half an exit added to each keeps every share positive."""
    weights = ended @ indicator + 0.5
    return weights / weights.sum() if len(weights) else weights
