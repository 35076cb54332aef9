"""The two shapes a stage's base hazard can take: piecewise by age bin, or a smooth duration family per exit.

Both turn a vector of parameters into hazards on the day lattice and know their own log-likelihood with gradient and
curvature; nothing above them asks which one it holds.
"""

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numba import njit
from numpy.typing import NDArray

from models.durations.families import FAMILIES
from models.durations.kernels import cumulative_hazard_grid
from models.history import STILL_OPEN
from models.stage_model.data import StageData
from models.stage_model.likelihood import piecewise_curvature, piecewise_terms, stays_terms

Floats = NDArray[np.float64]
PIECEWISE = "piecewise"
"""Name of the family with one hazard per age bin."""
DIFFERENCE_STEP = 1e-5
"""Step of central gradient differences, near the cube root of double precision: error about 1e-10 relative."""


LARGEST_LOG_HAZARD = 300.0
"""Log hazards are cut here: every stay has then ended, and nothing overflows."""
TINY_HAZARD = 1e-300
"""Hazards below are taken as this in logarithms and quotients."""
IDLE_PACE = 1e-6
"""Attention an idle deal gets for ever: never quite nothing, so that one that wakes up after all is a surprise of some
fourteen nats and no contradiction."""


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
        value, d_parameters, d_effect, _ = self._terms(parameters, effect)
        return value, d_parameters, d_effect

    def curvature(self, parameters: Floats, effect: Floats) -> Curvature:
        """Second derivatives: central differences of the gradient in the few parameters, exact in the effects."""
        size = len(parameters)
        base = np.empty((size, size))
        mixed = np.empty((size, *effect.shape))
        for index in range(size):
            step = np.zeros(size)
            step[index] = DIFFERENCE_STEP
            _, up, up_effect = self.terms(parameters + step, effect)
            _, down, down_effect = self.terms(parameters - step, effect)
            base[index] = (up - down) / (2.0 * DIFFERENCE_STEP)
            mixed[index] = (up_effect - down_effect) / (2.0 * DIFFERENCE_STEP)
        return Curvature(0.5 * (base + base.T), mixed, self._terms(parameters, effect)[3])

    def _terms(self, parameters: Floats, effect: Floats) -> tuple[float, Floats, Floats, Floats]:
        """Log-likelihood, gradients, and curvature in the effects."""
        family = FAMILIES[self.family]
        n_exits, width = self.n_exits, len(family.parameters)
        theta = parameters[: n_exits * width].reshape(n_exits, width)
        rundown, log_first = np.split(parameters[n_exits * width :], [int(self.idle)])
        gradient, d_effect = np.empty_like(parameters), np.empty_like(effect)
        curvature = np.empty((*effect.shape, n_exits))
        value = smooth_terms(
            family.code,
            theta,
            rundown,
            np.exp(np.minimum(log_first, LARGEST_LOG_HAZARD)),
            effect,
            (self.days, self.times, self.exits, self.survived),
            (gradient, d_effect, curvature),
        )
        return value, gradient, d_effect, curvature


@njit(cache=True)
def attention(times: Floats, rundown: Floats) -> tuple[Floats, Floats]:
    """Days of attention after given days in the stage, and the derivative of their log by the log of the rundown.

    Without a rundown (an empty array) every day counts.
    """
    given, slope = times.copy(), np.zeros(len(times))
    if len(rundown):
        days = math.exp(min(max(rundown[0], -LARGEST_LOG_HAZARD), LARGEST_LOG_HAZARD))
        for t in range(len(times)):
            if times[t] > 0.0:
                age = min(times[t] / days, LARGEST_LOG_HAZARD)
                worked = 0.5 * math.sqrt(math.pi) * days * math.erf(age)
                given[t] = worked + IDLE_PACE * times[t]
                slope[t] = (worked - times[t] * math.exp(-age * age)) / given[t]
    return given, slope


@njit(cache=True)
def smooth_terms(  # noqa: C901 - one pass over the counts
    code: int,
    theta: Floats,
    rundown: Floats,
    first: Floats,
    effect: Floats,
    counts: tuple[Floats, Floats, Floats, Floats],
    out: tuple[Floats, Floats, Floats],
) -> float:
    """Log-likelihood of a smooth family, from parameters to value; overwrites the three outputs.

    ``rundown`` holds the log of the days in which the stage runs down, or nothing when it does not; ``first`` the
    hazards of day 0, or nothing when the family rules there too; ``counts`` are days, times, exits
    and survivors as in :class:`SmoothBaseline`; ``out`` the gradients in parameters and effects, and the curvature in
    the effects.
    """
    days, times, exits, survived = counts
    gradient, d_effect, curvature = out
    n_exits, width = theta.shape
    n_days, n_times = len(days), len(times)
    start = np.searchsorted(times, 1.0) if len(first) else 0
    given, given_slope = attention(times, rundown)
    at_day, after_day = np.searchsorted(times, days), np.searchsorted(times, days + 1.0)
    values, slopes = np.empty(n_times), np.empty((n_exits, n_times, width))
    cumulative, hazard = np.empty((n_times, n_exits)), np.empty((n_days, n_exits))
    for j in range(n_exits):
        cumulative_hazard_grid(code, given, theta[j], values, slopes[j])
        for t in range(n_times):
            cumulative[t, j] = values[t]
            if len(first):
                cumulative[t, j] = values[t] - values[start] + first[j] if t >= start else 0.0
        for d in range(n_days):
            hazard[d, j] = cumulative[after_day[d], j] - cumulative[at_day[d], j]
    d_hazard, d_cumulative = np.empty_like(hazard), np.empty_like(cumulative)
    value: float = stays_terms(hazard, cumulative, effect, exits, survived, d_hazard, d_cumulative, d_effect, curvature)
    gradient[:] = 0.0
    for j in range(n_exits):
        for d in range(n_days):
            slope = d_hazard[d, j] / max(hazard[d, j], TINY_HAZARD)
            d_cumulative[after_day[d], j] += slope
            d_cumulative[at_day[d], j] -= slope
        total = 0.0
        for t in range(start, n_times):
            total += d_cumulative[t, j]
            for k in range(width):
                gradient[j * width + k] += d_cumulative[t, j] * slopes[j, t, k]
            if len(rundown):  # dH / d log u = -dH / d location
                gradient[n_exits * width] -= d_cumulative[t, j] * slopes[j, t, 0] * given_slope[t]
        if len(first):
            for k in range(width):
                gradient[j * width + k] -= total * slopes[j, start, k]
            if len(rundown):
                gradient[n_exits * width] += total * slopes[j, start, 0] * given_slope[start]
            gradient[n_exits * width + len(rundown) + j] = total * first[j]
    return value


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
