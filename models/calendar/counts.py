"""Log-linear model of exits by date: factor effects beside the luck of the days' stretch of time and that of each day.

    exits on a date  ~  negative binomial, mean = expected x exp(level + effects of its classes + luck of its stretch),
                        variance = mean + noise x mean^2,
    effects of factor g  ~  normal(0, spread_g),     luck of a stretch of sort h  ~  normal(0, spread_h).

A stretch is a week, or the end of one particular month: what a single period end brought is its luck, and an effect of
period ends has to show at several. Given the spreads and the noise everything is found by Newton steps, the lucks
eliminated on the way (each date has one), and weighed by the Laplace approximation of the evidence. The logs of spreads
and noise have normal priors; they are drawn from a Student curve around their mode and weighed by evidence over curve.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import gammaln
from scipy.stats import multivariate_t

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
LEVEL_SD = 3.0
"""Prior sd of the log level, which the normalisation takes out again."""
NOISE = (math.log(0.05), 1.5)
"""Prior mean and sd of the log noise: a day is 20 % off by more than chance."""
CURVE_FREEDOM = 5
POINTS = 128
"""Drawn settings of spreads and noise; the draws of the effects are spread over them by weight."""
MAX_STEPS, MAX_STEP, MAX_HALVINGS = 60, 2.0, 30
"""Newton steps, by how much one may move a log mean, and how often it is halved where that was too far."""
TOLERANCE = 1e-9
DIFFERENCE = 0.1
"""Step of the finite differences for the curvature in log spreads; the evidence is smooth on that scale."""
SEARCH_STEP, SEARCH_TOLERANCE, SEARCH_STEPS = 5e-3, 1e-6, 40
"""Search for the mode of the spreads: a hundredth of a log point is near enough, draws around it are weighed."""


@dataclass(frozen=True)
class DatedCounts:
    """One kind of exits by date.

    Parameters
    ----------
    seen, expected : ndarray of float64, shape (date,)
        ``expected`` is positive.
    column : ndarray of int64, shape (date, slot)
        Effects of the date, ``NO_CLASS`` in unused slots.
    stretch : ndarray of int64, shape (date,)
        Stretch of time of the date, from 0 on without gaps.
    factor : ndarray of int64, shape (effect,)
        Factor each effect belongs to.
    sort : ndarray of int64, shape (stretch,)
        Sort each stretch is of.
    prior, sort_prior : ndarray of float64, shape (factor, 2) and (sort, 2)
        Prior mean and sd of the log spread of each factor and of each sort.
    """

    seen: Floats
    expected: Floats
    column: Ints
    stretch: Ints
    factor: Ints
    sort: Ints
    prior: Floats
    sort_prior: Floats

    @property
    def hyper_prior(self) -> Floats:
        """Prior mean and sd of the log spreads of factors, then of sorts, and of the log noise."""
        return np.vstack([self.prior, self.sort_prior, NOISE])


@dataclass(frozen=True)
class Fit:
    """What spreads and noise given, the counts say.

    Parameters
    ----------
    log_evidence : float
        Of the spreads and the noise, without their prior.
    mode, precision : ndarray of float64, shape (effect + level,) and (effect + level, effect + level)
        Of the effects and the level, lucks integrated out.
    luck : ndarray of float64, shape (stretch,)
        Mode of the lucks.
    """

    log_evidence: float
    mode: Floats
    precision: Floats
    luck: Floats


def draw_effects(counts: DatedCounts, *, draws: int, rng: np.random.Generator) -> Floats:
    """Draw the effects from their posterior, shape (draw, effect).

    Parameters
    ----------
    counts : DatedCounts
    draws : int
    rng : Generator
    """
    mean, factor, weight = _settings(counts, rng)
    position = (rng.random() + np.arange(draws)) / draws
    point = np.minimum(np.searchsorted(np.cumsum(weight), position), len(weight) - 1)
    point = rng.permutation(point)  # neighbours in draw order must not share their settings
    normal = rng.standard_normal((draws, mean.shape[1]))
    drawn = mean[point] + np.einsum("dij,dj->di", factor[point], normal)
    return np.asarray(drawn[:, :-1])


def fit_effects(counts: DatedCounts, hyper: Floats, *, start: Fit | None = None) -> Fit:
    """Find the effects given the logs of spreads and noise; ``start`` is a fit nearby, from which it is a step or two."""
    scale = np.exp(np.clip(hyper, -12.0, 4.0))
    sd = np.append(scale[counts.factor], LEVEL_SD)
    luck_sd, size = scale[len(counts.prior) + counts.sort], 1.0 / scale[-1]
    column = np.column_stack([counts.column, np.full(len(counts.seen), len(counts.factor))])
    begin = (np.zeros(len(sd)), np.zeros(len(luck_sd))) if start is None else (start.mode, start.luck)
    mode, luck, precision, value = _newton(
        counts.seen, counts.expected, column, counts.stretch, 1.0 / sd**2, 1.0 / luck_sd**2, size, *begin
    )
    constant = float((gammaln(counts.seen + size) - gammaln(size) - gammaln(counts.seen + 1.0)).sum())
    constant += len(counts.seen) * size * math.log(size) - float(np.log(sd).sum() + np.log(luck_sd).sum())
    return Fit(value + constant, mode, precision, luck)


def _settings(counts: DatedCounts, rng: np.random.Generator) -> tuple[Floats, Floats, Floats]:
    """Points (point, effect + level) with a factor of their covariance and their weight."""
    prior = counts.hyper_prior

    def surprise(hyper: Floats) -> Floats:
        return np.asarray(0.5 * (((hyper - prior[:, 0]) / prior[:, 1]) ** 2).sum(axis=-1))

    def loss(hyper: Floats) -> float:
        return float(surprise(hyper)) - fit_effects(counts, hyper, start=begin).log_evidence

    begin = fit_effects(counts, prior[:, 0])
    search = {"eps": SEARCH_STEP, "ftol": SEARCH_TOLERANCE, "maxiter": SEARCH_STEPS}
    best = minimize(loss, prior[:, 0], method="L-BFGS-B", options=search).x  # type: ignore[call-overload]
    begin = fit_effects(counts, best, start=begin)  # all further fits start from the mode
    spread = _covariance(loss, best, prior[:, 1])
    curve = multivariate_t(best, spread, df=CURVE_FREEDOM, seed=rng)
    points = curve.rvs(POINTS)
    found = [fit_effects(counts, point, start=begin) for point in points]
    log_weight = np.array([each.log_evidence for each in found]) - surprise(points) - curve.logpdf(points)
    weight = np.exp(log_weight - log_weight.max())
    inverse = [np.linalg.inv(np.linalg.cholesky(each.precision)).T for each in found]
    return np.array([each.mode for each in found]), np.array(inverse), weight / weight.sum()


def _covariance(loss: Callable[[Floats], float], best: Floats, prior_sd: Floats) -> Floats:
    """Inverse of the curvature at the mode by differences, no wider than the prior in any direction."""
    size = len(best)
    step = np.eye(size) * DIFFERENCE
    middle = loss(best)
    up, down = np.array([loss(best + s) for s in step]), np.array([loss(best - s) for s in step])
    curvature = np.diag(up + down - 2 * middle)
    for i in range(size):
        for j in range(i):
            curvature[i, j] = curvature[j, i] = loss(best + step[i] + step[j]) - up[i] - up[j] + middle
    scaled = curvature / step[0, 0] ** 2 * np.outer(prior_sd, prior_sd)
    value, vector = np.linalg.eigh(scaled)
    return np.asarray(vector / np.maximum(value, 1.0) @ vector.T * np.outer(prior_sd, prior_sd))


@njit(cache=True)
def _objective(
    seen: Floats, log_mean: Floats, size: float, beta: Floats, precision: Floats, luck: Floats, luck_precision: Floats
) -> float:
    """Log posterior of effects and lucks up to a constant."""
    total = -0.5 * (beta * beta * precision).sum() - 0.5 * (luck * luck * luck_precision).sum()
    for i in range(len(seen)):
        total += seen[i] * log_mean[i] - (seen[i] + size) * math.log(size + math.exp(log_mean[i]))
    return total


@njit(cache=True)
def _predict(expected: Floats, column: Ints, stretch: Ints, beta: Floats, luck: Floats, out: Floats) -> None:
    for i in range(len(expected)):
        total = math.log(expected[i]) + luck[stretch[i]]
        for s in range(column.shape[1]):
            if column[i, s] >= 0:
                total += beta[column[i, s]]
        out[i] = min(total, 700.0)


@njit(cache=True)
def _slopes(
    seen: Floats,
    log_mean: Floats,
    size: float,
    column: Ints,
    stretch: Ints,
    beta: Floats,
    precision: Floats,
    luck: Floats,
    luck_precision: Floats,
) -> tuple[Floats, Floats, Floats, Floats, Floats]:
    """Gradient and negative curvature of the log posterior by effects, by lucks (diagonal), and across."""
    gradient, bends = -beta * precision, np.diag(precision)
    luck_gradient, luck_bends = -luck * luck_precision, luck_precision.copy()
    cross = np.zeros((len(beta), len(luck)))
    for i in range(len(seen)):
        mean = math.exp(log_mean[i])
        slope = size * (seen[i] - mean) / (size + mean)
        bend = (seen[i] + size) * size * mean / (size + mean) ** 2
        luck_gradient[stretch[i]] += slope
        luck_bends[stretch[i]] += bend
        for s in range(column.shape[1]):
            a = column[i, s]
            if a >= 0:
                gradient[a] += slope
                cross[a, stretch[i]] += bend
                for r in range(column.shape[1]):
                    if column[i, r] >= 0:
                        bends[a, column[i, r]] += bend
    return gradient, bends, luck_gradient, luck_bends, cross


@njit(cache=True)
def _newton(
    seen: Floats,
    expected: Floats,
    column: Ints,
    stretch: Ints,
    precision: Floats,
    luck_precision: Floats,
    size: float,
    beta: Floats,
    luck: Floats,
) -> tuple[Floats, Floats, Floats, float]:
    """Modes of effects and lucks, precision of the effects alone, and log posterior less half the log curvature."""
    log_mean, trial = np.empty(len(seen)), np.empty(len(seen))
    _predict(expected, column, stretch, beta, luck, log_mean)
    value = _objective(seen, log_mean, size, beta, precision, luck, luck_precision)
    reduced, luck_bends = np.diag(precision), luck_precision.copy()
    for _ in range(MAX_STEPS):
        gradient, bends, luck_gradient, luck_bends, cross = _slopes(
            seen, log_mean, size, column, stretch, beta, precision, luck, luck_precision
        )
        scaled = cross / luck_bends
        reduced = bends - scaled @ cross.T
        move = np.linalg.solve(reduced, gradient - scaled @ luck_gradient)
        luck_move = (luck_gradient - cross.T @ move) / luck_bends
        if move @ gradient + luck_move @ luck_gradient < TOLERANCE:
            break
        length = min(1.0, MAX_STEP / max(np.abs(move).max(), np.abs(luck_move).max()))
        tried = -np.inf
        for _ in range(MAX_HALVINGS):
            _predict(expected, column, stretch, beta + length * move, luck + length * luck_move, trial)
            tried = _objective(
                seen, trial, size, beta + length * move, precision, luck + length * luck_move, luck_precision
            )
            if tried > value:
                break
            length *= 0.5
        if not tried > value:
            break
        beta, luck, value = beta + length * move, luck + length * luck_move, tried
        log_mean, trial = trial, log_mean
    return beta, luck, reduced, value - 0.5 * (np.linalg.slogdet(reduced)[1] + np.log(luck_bends).sum())
