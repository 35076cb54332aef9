"""Log-likelihood of a smooth duration family in its parameters, with gradient and curvature, compiled.

The likelihood (:mod:`models.stage_model.likelihood`) knows the parameters through the cumulative hazards C[t, j] alone: in a
straight line where stays survived, and through the hazard of the day, a difference of two of them, where they ended. With
w = dL / dC its second derivatives are

    sum over t, j of w[t, j] C''[t, j]  +  sum over days d of h'[d]^T (d^2 L / dh[d]^2) h'[d],

the first from differences of C' at w held. An exit's C depends on its own parameters, so these differences take one step in
a parameter of all exits at once, where differences of the whole gradient would take one for each of them.
"""

import math
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from models.durations.kernels import cumulative_hazard_grid
from models.stage_model.likelihood import leave_terms, stays_terms

Floats = NDArray[np.float64]
LARGEST_LOG_HAZARD = 300.0
"""Log hazards are cut here: every stay has then ended, and nothing overflows."""
TINY_HAZARD = 1e-300
"""Hazards below are taken as this in logarithms and quotients."""
IDLE_PACE = 1e-6
"""Attention an idle deal gets for ever: never quite nothing, so that one that wakes up after all is a surprise of some
fourteen nats and no contradiction."""
DIFFERENCE_STEP = 1e-5
"""Step of central differences, near the cube root of double precision: error about 1e-10 relative."""


class SmoothShape(NamedTuple):
    """Parameters of a stage's smooth hazards.

    ``code`` is that of the family, ``theta[exit]`` are its parameters, ``rundown`` holds the log of the days in which the
    stage runs down, or nothing when it does not, and ``first`` the hazards of day 0, or nothing when the family rules
    there too.
    """

    code: int
    theta: Floats
    rundown: Floats
    first: Floats


class SmoothCounts(NamedTuple):
    """Days, times, exits and survivors as in :class:`models.stage_model.base_hazards.SmoothBaseline`."""

    days: Floats
    times: Floats
    exits: Floats
    survived: Floats


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
def _hazards(shape: SmoothShape, times: Floats) -> tuple[Floats, Floats]:
    """Cumulative hazards (time, exit) and their slopes (exit, time, column) in the parameters of :func:`_place`."""
    code, theta, rundown, first = shape
    n_exits, width = theta.shape
    given_first = len(first) > 0
    start = int(np.searchsorted(times, 1.0)) if given_first else 0
    given, given_slope = attention(times, rundown)
    cumulative = np.zeros((len(times), n_exits))
    slopes = np.zeros((n_exits, len(times), width + len(rundown) + int(given_first)))
    values, own = np.empty(len(times)), np.empty((len(times), width))
    for j in range(n_exits):
        cumulative_hazard_grid(code, given, theta[j], values, own)
        for t in range(start, len(times)):
            cumulative[t, j] = values[t]
            for k in range(width):
                slopes[j, t, k] = own[t, k]
            if len(rundown):  # dH / d log u = -dH / d location
                slopes[j, t, width] = -own[t, 0] * given_slope[t]
        if given_first:  # the family rules from day 1 on
            for t in range(len(times) - 1, start - 1, -1):
                cumulative[t, j] += first[j] - values[start]
                for q in range(width + len(rundown)):
                    slopes[j, t, q] -= slopes[j, start, q]
                slopes[j, t, -1] = first[j]
    return cumulative, slopes


@njit(cache=True)
def _place(j: int, column: int, n_exits: int, width: int, n_rundown: int) -> int:
    """Place in the parameter vector of an exit's column: its own parameters, the rundown of all, its hazard of day 0."""
    if column < width:
        return j * width + column
    return n_exits * width if column < width + n_rundown else n_exits * width + n_rundown + j


@njit(cache=True)
def _by_parameter(weight: Floats, slopes: Floats, width: int, n_rundown: int, out: Floats) -> None:
    """Fill ``out`` with the sum over times and exits of ``weight`` times the slopes, parameter by parameter."""
    out[:] = 0.0
    n_exits, n_times, columns = slopes.shape
    for j in range(n_exits):
        for q in range(columns):
            total = 0.0
            for t in range(n_times):
                total += weight[t, j] * slopes[j, t, q]
            out[_place(j, q, n_exits, width, n_rundown)] += total


@njit(cache=True)
def _likelihood(
    cumulative: Floats, effect: Floats, counts: SmoothCounts, out: tuple[Floats, Floats]
) -> tuple[float, Floats, Floats]:
    """Log-likelihood, hazard of the days and derivative in the cumulative hazards; ``out`` are those in the effects."""
    days, times, exits, survived = counts
    d_effect, in_effect = out
    n_days, n_exits = len(days), cumulative.shape[1]
    at_day, after_day = np.searchsorted(times, days), np.searchsorted(times, days + 1.0)
    hazard = cumulative[after_day] - cumulative[at_day]
    d_hazard, weight = np.empty_like(hazard), np.empty_like(cumulative)
    value: float = stays_terms(hazard, cumulative, effect, exits, survived, d_hazard, weight, d_effect, in_effect)
    for d in range(n_days):
        for j in range(n_exits):
            slope = d_hazard[d, j] / max(hazard[d, j], TINY_HAZARD)
            weight[after_day[d], j] += slope
            weight[at_day[d], j] -= slope
    return value, hazard, weight


@njit(cache=True)
def smooth_terms(shape: SmoothShape, effect: Floats, counts: SmoothCounts, out: tuple[Floats, Floats]) -> float:
    """Log-likelihood of a smooth family, from parameters to value; overwrites the gradients in parameters and effects."""
    gradient, d_effect = out
    cumulative, slopes = _hazards(shape, counts.times)
    in_effect = np.empty((*effect.shape, effect.shape[1]))
    value: float
    value, _, weight = _likelihood(cumulative, effect, counts, (d_effect, in_effect))
    _by_parameter(weight, slopes, shape.theta.shape[1], len(shape.rundown), gradient)
    return value


@njit(cache=True)
def smooth_curvature(
    shape: SmoothShape, effect: Floats, counts: SmoothCounts, out: tuple[Floats, Floats, Floats]
) -> None:
    """Second derivatives, arguments as for :func:`smooth_terms`.

    Overwrites those in two parameters, shape (parameter, parameter), in parameter and effect, shape (parameter, group,
    exit), and in two effects of a group, shape (group, exit, exit).
    """
    base, mixed, in_effect = out
    cumulative, slopes = _hazards(shape, counts.times)
    _, hazard, weight = _likelihood(cumulative, effect, counts, (np.empty_like(effect), in_effect))
    _bends_of_hazards(shape, counts.times, weight, base)
    days, times, exits, survived = counts
    (n_exits, width), columns, n_rundown = shape.theta.shape, slopes.shape[2], len(shape.rundown)
    relative = _relative_slopes(hazard, slopes, days, times)
    places = np.empty((n_exits, columns), dtype=np.int64)
    for j in range(n_exits):
        for q in range(columns):
            places[j, q] = _place(j, q, n_exits, width, n_rundown)
    mixed[:] = 0.0
    for g in range(len(exits)):
        _bends_of_days(hazard, np.exp(effect[g]), exits[g], relative, places, base, mixed[:, g])
        for j in range(n_exits):
            factor = math.exp(effect[g, j])
            for q in range(columns):
                for t in range(len(times)):
                    mixed[places[j, q], g, j] -= factor * survived[g, t] * slopes[j, t, q]


@njit(cache=True)
def _relative_slopes(hazard: Floats, slopes: Floats, days: Floats, times: Floats) -> Floats:
    """Slopes of the log hazard of the days, shape (day, exit, column)."""
    n_exits, _, columns = slopes.shape
    relative = np.zeros((len(days), n_exits, columns))
    for d in range(len(days)):
        at_day, after_day = np.searchsorted(times, days[d]), np.searchsorted(times, days[d] + 1.0)
        for j in range(n_exits):
            if hazard[d, j] > TINY_HAZARD:  # below, the likelihood takes it for constant
                relative[d, j] = (slopes[j, after_day] - slopes[j, at_day]) / hazard[d, j]
    return relative


@njit(cache=True)
def _bends_of_hazards(shape: SmoothShape, times: Floats, weight: Floats, base: Floats) -> None:
    """Overwrite ``base`` with the sum of ``weight`` times the second derivatives of the cumulative hazards."""
    code, theta, rundown, first = shape
    (n_exits, width), n_rundown = theta.shape, len(rundown)
    ahead, behind = np.empty(len(base)), np.empty(len(base))
    base[:] = 0.0
    for k in range(width):
        step = np.zeros_like(theta)
        step[:, k] = DIFFERENCE_STEP
        _by_parameter(
            weight, _hazards(SmoothShape(code, theta + step, rundown, first), times)[1], width, n_rundown, ahead
        )
        _by_parameter(
            weight, _hazards(SmoothShape(code, theta - step, rundown, first), times)[1], width, n_rundown, behind
        )
        for j in range(n_exits):
            for other in range(width):
                to = j * width + other
                base[to, j * width + k] = (ahead[to] - behind[to]) / (2.0 * DIFFERENCE_STEP)
    if n_rundown:
        own = n_exits * width
        _by_parameter(
            weight, _hazards(SmoothShape(code, theta, rundown + DIFFERENCE_STEP, first), times)[1], width, 1, ahead
        )
        _by_parameter(
            weight, _hazards(SmoothShape(code, theta, rundown - DIFFERENCE_STEP, first), times)[1], width, 1, behind
        )
        base[own] = base[:, own] = (ahead - behind) / (2.0 * DIFFERENCE_STEP)
    for j in range(len(first)):
        own = n_exits * width + n_rundown + j
        base[own, own] = first[j] * weight[np.searchsorted(times, 1.0) :, j].sum()
    base[:] = 0.5 * (base + base.T)


@njit(cache=True)
def _bends_of_days(
    hazard: Floats,
    factor: Floats,
    exits: Floats,
    relative: Floats,
    places: NDArray[np.int64],
    base: Floats,
    mixed: Floats,
) -> None:
    """Add what one group's exits bend the likelihood of their days, in two parameters and in parameter and effect.

    ``relative[day, exit, column]`` are the slopes of the log hazard of the day.
    """
    (n_days, n_exits, columns), slope = relative.shape, np.zeros(len(base))
    for d in range(n_days):
        ended = exits[d].sum()
        if ended == 0.0:
            continue
        rates = np.maximum(hazard[d], TINY_HAZARD) * factor
        _, d_leave, dd_leave = leave_terms(rates.sum())
        slope[:] = 0.0
        for j in range(n_exits):
            for q in range(columns):
                slope[places[j, q]] += rates[j] * relative[d, j, q]
                for r in range(columns):
                    base[places[j, q], places[j, r]] -= exits[d, j] * relative[d, j, q] * relative[d, j, r]
                mixed[places[j, q], j] += ended * d_leave * rates[j] * relative[d, j, q]
        for p in range(len(base)):
            bend = ended * dd_leave * slope[p]
            for other in range(len(base)):
                base[p, other] += bend * slope[other]
            for j in range(n_exits):
                mixed[p, j] += bend * rates[j]
