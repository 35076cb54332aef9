"""The two shapes a stage's base hazard can take: piecewise by age bin, or a smooth duration family per exit.

Both turn a vector of parameters into hazards on the day lattice and know their own log-likelihood with gradient and
curvature; nothing above them asks which one it holds.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from models.durations.families import FAMILIES
from models.history import STILL_OPEN
from models.stage_model.data import StageData
from models.stage_model.likelihood import piecewise_curvature, piecewise_terms
from models.stage_model.smooth_kernels import (
    LARGEST_LOG_HAZARD,
    SmoothCounts,
    SmoothShape,
    smooth_curvature,
    smooth_terms,
)

Floats = NDArray[np.float64]
PIECEWISE = "piecewise"
"""Name of the family with one hazard per age bin."""


@dataclass(frozen=True)
class Curvature:
    """Second derivatives of a log-likelihood.

    Parameters
    ----------
    base : ndarray, shape (parameter, parameter)
    mixed : ndarray, shape (parameter, group, exit)
    effect : ndarray, shape (group, exit, exit)
        Different groups share no term.
    """

    base: Floats
    mixed: Floats
    effect: Floats


class Baseline(Protocol):
    """A base hazard with the counts it is fitted to."""

    @property
    def n_parameters(self) -> int:
        """Length of the parameter vector."""
        ...

    def terms(self, parameters: Floats, effect: Floats) -> tuple[float, Floats, Floats]:
        """Log-likelihood, gradient in the parameters, gradient in the log effect (group, exit)."""
        ...

    def curvature(self, parameters: Floats, effect: Floats) -> Curvature:
        """Second derivatives at the same place."""
        ...


@dataclass(frozen=True)
class PiecewiseBaseline:
    """Constant hazard per age bin and exit; the parameters are log hazards a day, bin by bin.

    Parameters
    ----------
    starts : ndarray of int, shape (bin,)
        First day of each bin; the last one is open.
    exits : ndarray of float, shape (group, bin, exit)
    at_risk : ndarray of float, shape (group, bin)
    """

    starts: NDArray[np.int64]
    exits: Floats
    at_risk: Floats

    @property
    def n_parameters(self) -> int:
        """Bins times exits."""
        return int(self.exits.shape[1] * self.exits.shape[2])

    def terms(self, parameters: Floats, effect: Floats) -> tuple[float, Floats, Floats]:
        """Log-likelihood and gradients, see :class:`Baseline`."""
        base = parameters.reshape(self.exits.shape[1:])
        d_base, d_effect = np.empty_like(base), np.empty_like(effect)
        value = piecewise_terms(base, effect, self.exits, self.at_risk, d_base, d_effect)
        return value, d_base.reshape(-1), d_effect

    def curvature(self, parameters: Floats, effect: Floats) -> Curvature:
        """Second derivatives; bins share no term."""
        n_groups, n_bins, n_exits = self.exits.shape
        blocks = np.empty((n_groups, n_bins, n_exits, n_exits))
        piecewise_curvature(parameters.reshape(n_bins, n_exits), effect, self.exits, self.at_risk, blocks)
        base = np.zeros((n_bins, n_exits, n_bins, n_exits))
        base[np.arange(n_bins), :, np.arange(n_bins)] = blocks.sum(axis=0)
        size = n_bins * n_exits
        mixed = blocks.transpose(1, 2, 0, 3).reshape(size, n_groups, n_exits)
        return Curvature(base.reshape(size, size), mixed, blocks.sum(axis=1))


def piecewise_baseline(data: StageData, starts: NDArray[np.int64]) -> PiecewiseBaseline:
    """Count exits and days at risk of each group by age bin."""
    n_bins = len(starts)
    exits = np.zeros((data.n_groups, n_bins, data.n_exits))
    ended = data.exit != STILL_OPEN
    of_bin = np.searchsorted(starts, data.days[ended], side="right") - 1
    np.add.at(exits, (data.group[ended], of_bin, data.exit[ended]), data.count[ended])
    ends = np.append(starts[1:], np.iinfo(np.int64).max)
    spent = np.clip(np.minimum(data.days[:, None] + 1, ends) - starts, 0, None)
    at_risk = np.zeros((data.n_groups, n_bins))
    np.add.at(at_risk, data.group, data.count[:, None] * spent)
    return PiecewiseBaseline(starts, exits, at_risk)


@dataclass(frozen=True)
class SmoothBaseline:
    """A duration family per exit, with or without idle deals and a free hazard on the day of entry.

    The parameters are, exit by exit, the family's own; then, with ``idle``, the log of ``r``, the days in which the
    stage runs down: a stay of ``t`` days has had ``u(t) = integral of exp(-(s / r)^2) for s in [0, t]`` days of
    attention, of which the family speaks, so that a share ``exp(-sum of H(u(infinity)))`` of the deals never leaves.
    One number for all exits: they fade together. Last, with ``zero_mass``, the log hazard of day 0 of each exit, and
    the family rules from day 1 on.

    Parameters
    ----------
    family : str
        A key of ``FAMILIES``.
    zero_mass : bool
    idle : bool
    days : ndarray of float, shape (day,)
        Distinct days on which stays ended.
    times : ndarray of float, shape (time,)
        Distinct times at which the cumulative hazard is needed, from 0.
    exits : ndarray of float, shape (group, day, exit)
    survived : ndarray of float, shape (group, time)
        Stays that outlasted the time.
    """

    family: str
    zero_mass: bool
    idle: bool
    days: Floats
    times: Floats
    exits: Floats
    survived: Floats

    @property
    def n_exits(self) -> int:
        """Number of exits."""
        return int(self.exits.shape[2])

    @property
    def n_parameters(self) -> int:
        """Family parameters of all exits, days of running down, zero-day hazards of all exits."""
        return self.n_exits * (len(FAMILIES[self.family].priors) + self.zero_mass) + self.idle

    def terms(self, parameters: Floats, effect: Floats) -> tuple[float, Floats, Floats]:
        """Log-likelihood and gradients, see :class:`Baseline`."""
        gradient, d_effect = np.empty_like(parameters), np.empty_like(effect)
        value = smooth_terms(self._shape(parameters), effect, self._counts, (gradient, d_effect))
        return value, gradient, d_effect

    def curvature(self, parameters: Floats, effect: Floats) -> Curvature:
        """Second derivatives, see :func:`models.stage_model.smooth_kernels.smooth_curvature`."""
        size, shape = len(parameters), effect.shape
        base, mixed, in_effect = np.empty((size, size)), np.empty((size, *shape)), np.empty((*shape, self.n_exits))
        smooth_curvature(self._shape(parameters), effect, self._counts, (base, mixed, in_effect))
        return Curvature(base, mixed, in_effect)

    @property
    def _counts(self) -> SmoothCounts:
        return SmoothCounts(self.days, self.times, self.exits, self.survived)

    def _shape(self, parameters: Floats) -> SmoothShape:
        family = FAMILIES[self.family]
        n_exits, width = self.n_exits, len(family.parameters)
        rundown, log_first = np.split(parameters[n_exits * width :], [int(self.idle)])
        first = np.exp(np.minimum(log_first, LARGEST_LOG_HAZARD))
        return SmoothShape(family.code, parameters[: n_exits * width].reshape(n_exits, width), rundown, first)


def smooth_baseline(data: StageData, family: str, *, zero_mass: bool, idle: bool = False) -> SmoothBaseline:
    """Count exits by day and survivors by time for a smooth family."""
    ended = data.exit != STILL_OPEN
    outlasted = data.days + ~ended
    days, day_index = np.unique(data.days[ended], return_inverse=True)
    times = np.unique(np.concatenate([[0, 1], days, days + 1, outlasted]))
    exits = np.zeros((data.n_groups, len(days), data.n_exits))
    np.add.at(exits, (data.group[ended], day_index, data.exit[ended]), data.count[ended])
    survived = np.zeros((data.n_groups, len(times)))
    np.add.at(survived, (data.group, np.searchsorted(times, outlasted)), data.count)
    times = times.astype(np.float64)
    return SmoothBaseline(family, zero_mass, idle, days.astype(np.float64), times, exits, survived)
