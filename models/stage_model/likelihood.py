"""Log-likelihood of lattice stays from counts, with gradient and curvature, compiled.

A stay that leaves for exit ``j`` on day ``d`` contributes ``exp(-H(d)) (lambda_j / L) (1 - exp(-L))``, one still open
after ``a`` days ``exp(-H(a + 1))``, where ``L`` is the sum of the hazards ``lambda_j`` of the day and ``H(d)`` the sum
of ``L`` over days ``0 .. d - 1`` (see :mod:`models.hazards`). The log of the product over all stays is a sum over the
distinct combinations of days and groups of deals,

    sum_j n_j log lambda_j + n [log(1 - exp(-L)) - log L] - (E - n) L,

with ``n_j`` exits to ``j``, ``n`` their sum and ``E`` stays at risk. Hazards are ``exp(base + effect)``. Tests hold
every kernel to a deal-by-deal product and every derivative to finite differences.
"""

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
SERIES_BELOW = 1e-4
"""Below this total hazard the closed forms lose digits and their series is exact to double precision."""


@njit(cache=True, inline="always")
def leave_terms(total: float) -> tuple[float, float, float]:
    """``log((1 - exp(-L)) / L)`` and its first and second derivative in ``L``."""
    if total < SERIES_BELOW:
        return -0.5 * total + total * total / 24.0, -0.5 + total / 12.0, 1.0 / 12.0
    value = math.log(-math.expm1(-total) / total)
    if total > 500.0:
        return value, -1.0 / total, 1.0 / (total * total)
    grow = math.expm1(total)
    return value, 1.0 / grow - 1.0 / total, 1.0 / (total * total) - (grow + 1.0) / (grow * grow)


@njit(cache=True)
def piecewise_terms(
    base: Floats, effect: Floats, exits: Floats, at_risk: Floats, d_base: Floats, d_effect: Floats
) -> float:
    """Log-likelihood of a piecewise hazard; adds nothing, overwrites the two gradients.

    ``base`` (bin, exit) and ``effect`` (group, exit) are log hazards; ``exits`` (group, bin, exit) counts ends and
    ``at_risk`` (group, bin) stays at risk, summed over the days of the bin.
    """
    n_groups, n_bins, n_exits = exits.shape
    d_base[:] = 0.0
    d_effect[:] = 0.0
    hazard, factor = np.exp(base), np.exp(effect)
    value = 0.0
    for g in range(n_groups):
        for b in range(n_bins):
            if at_risk[g, b] == 0.0:
                continue
            total = 0.0
            ended = 0.0
            for j in range(n_exits):
                total += hazard[b, j] * factor[g, j]
                ended += exits[g, b, j]
            slope = ended - at_risk[g, b]
            value += slope * total
            if ended > 0.0:
                leave, d_leave, _ = leave_terms(total)
                value += ended * leave
                slope += ended * d_leave
            for j in range(n_exits):
                value += exits[g, b, j] * (base[b, j] + effect[g, j])
                part = exits[g, b, j] + slope * hazard[b, j] * factor[g, j]
                d_base[b, j] += part
                d_effect[g, j] += part
    return value


@njit(cache=True)
def piecewise_curvature(base: Floats, effect: Floats, exits: Floats, at_risk: Floats, out: Floats) -> None:
    """Second derivatives in the log hazards of each group and bin, shape (group, bin, exit, exit)."""
    n_groups, n_bins, n_exits = exits.shape
    out[:] = 0.0
    hazard, factor, rates = np.exp(base), np.exp(effect), np.empty(n_exits)
    for g in range(n_groups):
        for b in range(n_bins):
            if at_risk[g, b] == 0.0:
                continue
            total = 0.0
            ended = 0.0
            for j in range(n_exits):
                rates[j] = hazard[b, j] * factor[g, j]
                total += rates[j]
                ended += exits[g, b, j]
            slope, bend = ended - at_risk[g, b], 0.0
            if ended > 0.0:
                _, d_leave, dd_leave = leave_terms(total)
                slope += ended * d_leave
                bend = ended * dd_leave
            for j in range(n_exits):
                out[g, b, j, j] += slope * rates[j]
                for k in range(n_exits):
                    out[g, b, j, k] += bend * rates[j] * rates[k]


@njit(cache=True)
def stays_terms(  # noqa: C901 - one pass over the counts
    hazard: Floats,
    cumulative: Floats,
    effect: Floats,
    exits: Floats,
    survived: Floats,
    d_hazard: Floats,
    d_cumulative: Floats,
    d_effect: Floats,
    curvature: Floats,
) -> float:
    """Log-likelihood of smooth hazards given on the days that matter; overwrites the four outputs.

    Parameters
    ----------
    hazard : ndarray, shape (day, exit)
        Hazard of the distinct days on which a stay ended, without effect.
    cumulative : ndarray, shape (time, exit)
        Hazard summed over all days before the distinct survival times, without effect.
    effect : ndarray, shape (group, exit)
        Log factor on the hazards.
    exits : ndarray, shape (group, day, exit)
        Stays ended on the day.
    survived : ndarray, shape (group, time)
        Stays that survived up to the start of that day.
    d_hazard, d_cumulative, d_effect, curvature
        Derivatives in the logarithm of the hazard, in the cumulative hazard, in the effect, and the second derivative
        in the effect, shape (group, exit, exit).
    """
    n_groups, n_days, n_exits = exits.shape
    d_hazard[:] = 0.0
    d_cumulative[:] = 0.0
    d_effect[:] = 0.0
    curvature[:] = 0.0
    rates = np.empty(n_exits)
    value = 0.0
    for g in range(n_groups):
        for d in range(n_days):
            ended = 0.0
            for j in range(n_exits):
                ended += exits[g, d, j]
            if ended == 0.0:
                continue
            total = 0.0
            for j in range(n_exits):
                rates[j] = max(hazard[d, j], 1e-300) * math.exp(effect[g, j])
                total += rates[j]
                if exits[g, d, j] > 0.0:
                    value += exits[g, d, j] * math.log(rates[j])
            leave, d_leave, dd_leave = leave_terms(total)
            value += ended * leave
            for j in range(n_exits):
                part = exits[g, d, j] + ended * d_leave * rates[j]
                d_hazard[d, j] += part
                d_effect[g, j] += part
                curvature[g, j, j] += ended * d_leave * rates[j]
                for k in range(n_exits):
                    curvature[g, j, k] += ended * dd_leave * rates[j] * rates[k]
        for j in range(n_exits):
            factor = math.exp(effect[g, j])
            exposure = 0.0
            for t in range(cumulative.shape[0]):
                exposure += survived[g, t] * cumulative[t, j]
                d_cumulative[t, j] -= survived[g, t] * factor
            value -= exposure * factor
            d_effect[g, j] -= exposure * factor
            curvature[g, j, j] -= exposure * factor
    return value


@njit(cache=True)
def stays_log_likelihood(base: Floats, log_effect: Floats, group: Ints, exit_of_stay: Ints, days: Ints) -> Floats:
    """Log-likelihood of single stays under each draw, straight from the definition.

    Parameters
    ----------
    base : ndarray, shape (draw, exit, day)
        Integrated hazards by day, up to the longest stay.
    log_effect : ndarray, shape (draw, group, exit)
    group, exit_of_stay, days : ndarray of int64, shape (stay,)
        ``exit_of_stay`` is negative for a stay still open.

    Returns
    -------
    ndarray, shape (draw, stay)
    """
    n_draws, n_exits, n_days = base.shape
    out = np.empty((n_draws, len(days)))
    before = np.zeros((n_exits, n_days + 1))
    factor = np.empty((log_effect.shape[1], n_exits))
    for draw in range(n_draws):
        for j in range(n_exits):
            for day in range(n_days):
                before[j, day + 1] = before[j, day] + base[draw, j, day]
            for g in range(factor.shape[0]):
                factor[g, j] = math.exp(log_effect[draw, g, j])
        for stay in range(len(days)):
            g, day, left = group[stay], days[stay], exit_of_stay[stay]
            value = 0.0
            total = 0.0
            for j in range(n_exits):
                value -= factor[g, j] * before[j, day + 1 if left < 0 else day]
                total += factor[g, j] * base[draw, j, day]
            if left >= 0:
                value += math.log(max(factor[g, left] * base[draw, left, day], 1e-300)) + leave_terms(total)[0]
            out[draw, stay] = value
    return out
