"""Compiled cumulative hazards of the duration families, with gradients on the unconstrained scale.

Every family describes log days as location plus spread times a standard variable: ``theta[0]`` is always the location
of log days, and the hazard by day follows from it: ``h(t) = -dH/dtheta[0] / t``.

==================== ===== ============================== ==========================================
family               code  theta                          cumulative hazard H(t) = -log S(t)
==================== ===== ============================== ==========================================
exponential          0     log scale                      t / scale
weibull              1     log scale, log shape           (t / scale) ** shape
lognormal            2     location, log spread           -log Phi(-(log t - location) / spread)
gamma                3     log scale, log shape           -log Q(shape, t / scale)
loglogistic          4     log scale, log shape           log(1 + (t / scale) ** shape)
generalized_gamma    5     location, log spread, tail     see ``log_upper_tail``
==================== ===== ============================== ==========================================

The gamma is the generalised gamma with ``tail = spread = shape ** -0.5``, so one integral serves both, from the
log-normal limit ``tail = 0`` to both far tails. ``H`` and its gradient are finite for every time from zero on.
``tests/models/test_durations.py`` holds the accuracy against arbitrary-precision arithmetic.
"""

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

EXPONENTIAL, WEIBULL, LOGNORMAL, GAMMA, LOGLOGISTIC, GENERALIZED_GAMMA = range(6)

LOG_LARGEST = 650.0
"""Largest exponent taken: the cumulative hazard and its gradient stay finite beyond, where survival is zero anyway."""
ERFC_LIMIT = 20.0
"""Standard normal quantile beyond which the asymptotic series replaces ``erfc`` (its eighth term is below 1e-16)."""
SMALL_EXPONENT = 0.1
"""Below it power series replace differences of exponentials; above it those lose one digit, their slopes three."""
TAIL_REACH = 36.0
"""The tail integral stops where the integrand has fallen to exp(-36) = 2e-16."""
SERIES_TAIL = -0.25
"""Below this tail the power series converges within some forty terms; above it the integrand is close to Gaussian."""
SERIES_END = 1e-17
"""Relative size of the last term of the power series."""
NEGLIGIBLE = -40.0
"""Log probability below which a cumulative hazard and a probability are the same number."""
NEWTON_STEPS = 100
"""Bound on the steps of an inversion; a handful suffices."""
LOG_ROOT_TWO_PI = 0.5 * math.log(2.0 * math.pi)
INVERSE_FACTORIAL: NDArray[np.float64] = np.array([1.0 / math.factorial(n) for n in range(11)])

_nodes, _weights = np.polynomial.legendre.leggauss(24)
NODES: NDArray[np.float64] = 0.5 * (_nodes + 1.0)
WEIGHTS: NDArray[np.float64] = 0.5 * _weights


@njit(cache=True)
def log_normal_upper_tail(quantile: float) -> float:
    """Log of the standard normal upper tail, to 1e-15 relative at any quantile."""
    if quantile < ERFC_LIMIT:
        return math.log(0.5 * math.erfc(quantile / math.sqrt(2.0)))
    term, total, inverse_square = 1.0, 1.0, 1.0 / (quantile * quantile)
    for odd in (1.0, 3.0, 5.0, 7.0, 9.0, 11.0, 13.0):
        term *= -odd * inverse_square
        total += term
    return -0.5 * quantile * quantile - LOG_ROOT_TWO_PI - math.log(quantile) + math.log(total)


@njit(cache=True)
def second_exponential(z: float) -> tuple[float, float]:
    """``k(z) = (exp(z) - 1 - z) / z**2`` and its derivative, without cancellation at zero."""
    if abs(z) > SMALL_EXPONENT:
        excess = math.expm1(z)
        return (excess - z) / (z * z), (excess * z - 2.0 * (excess - z)) / (z * z * z)
    value, slope = 0.0, 0.0
    for n in range(8, -1, -1):  # k(z) = sum of z**n / (n + 2)!
        slope = value + slope * z
        value = INVERSE_FACTORIAL[n + 2] + value * z
    return value, slope


@njit(cache=True)
def stirling_remainder(tail: float) -> tuple[float, float]:
    """Remainder of Stirling's formula for ``log Gamma(tail ** -2)``, and its derivative by ``tail``.

    The recurrence in the argument ``a = tail ** -2`` lifts it to 12, where the asymptotic series is exact to 1e-15.
    """
    value, by_argument = 0.0, 0.0
    square = tail * tail
    if square > 1.0 / 12.0:
        a = 1.0 / square
        while a < 12.0:
            step = math.log1p(1.0 / a)
            value += (a + 0.5) * step - 1.0
            by_argument += step - (a + 0.5) / (a * (a + 1.0))
            a += 1.0
        lifted = 1.0 / a
    else:
        lifted = square
    powers = lifted * lifted
    series = 1 / 12 + powers * (-1 / 360 + powers * (1 / 1260 + powers * (-1 / 1680 + powers / 1188)))
    slope = 1 / 12 + powers * (-3 / 360 + powers * (5 / 1260 + powers * (-7 / 1680 + powers * 9 / 1188)))
    value += lifted * series
    if square > 1.0 / 12.0:
        by_argument -= powers * slope  # d lifted / d a = -lifted ** 2
        return value, by_argument * -2.0 / (tail * square)
    return value, 2.0 * tail * slope


@njit(cache=True)
def integration_reach(level: float, growth: float, tail: float) -> float:
    """Where the integrand of the tail has fallen by ``TAIL_REACH``, from above."""
    if tail >= 0.0:
        reach = 2.0 * TAIL_REACH / (growth + math.sqrt(growth * growth + 2.0 * level * TAIL_REACH))
        if tail > 0.0:
            c = TAIL_REACH * tail * tail / level
            reach = min(reach, math.log1p(c + math.sqrt(2.0 * c)) / tail)
    else:
        c = -0.5 * TAIL_REACH * tail - growth
        root = math.sqrt(c * c + 2.0 * TAIL_REACH)
        reach = c + root if c > 0.0 else 2.0 * TAIL_REACH / (root - c)
    for _ in range(2):  # the exponent is convex, so Newton comes down and stays above
        k, slope = second_exponential(tail * reach)
        drop = level * reach * reach * k + growth * reach
        by_reach = level * reach * (2.0 * k + tail * reach * slope) + growth
        reach -= (drop - TAIL_REACH) / by_reach
    return reach


@njit(cache=True)
def mills_by_series(w: float, tail: float) -> tuple[float, float]:
    """Tail over density at ``w >= 0`` for ``tail < 0``, and the derivative of its log by ``tail``.

    The power series of the lower incomplete gamma function at ``x <= a = tail ** -2``: all terms positive.
    """
    a = 1.0 / (tail * tail)
    x = a * math.exp(tail * w)
    log_x_slope, argument_slope = w - 2.0 / tail, 2.0 * a / tail
    term, total, n, harmonic, moment = 1.0, 1.0, 0.0, 0.0, 0.0
    while term > SERIES_END * total:
        n += 1.0
        term *= x / (a + n)
        harmonic += 1.0 / (a + n)
        total += term
        moment += term * (n * log_x_slope + argument_slope * harmonic)
    return -tail * total, 1.0 / tail + moment / total


@njit(cache=True)
def mills_by_integral(w: float, tail: float) -> tuple[float, float]:
    """Tail over density at ``w >= 0``, and the derivative of its log by ``tail``.

    Gauss-Legendre over the reach of a falling log-concave function.
    """
    z = min(tail * w, LOG_LARGEST)
    k, _ = second_exponential(z)
    level = math.exp(z)
    growth = w * (math.expm1(z) / z if abs(z) > SMALL_EXPONENT else 1.0 + z * k)
    growth_by_tail = w * w * (1.0 + (z - 1.0) * k)
    reach = integration_reach(level, growth, tail)
    integral, moment = 0.0, 0.0
    for i in range(len(NODES)):
        s = NODES[i] * reach
        ks, ks_slope = second_exponential(tail * s)
        curved = level * s * s
        mass = WEIGHTS[i] * math.exp(-(curved * ks + growth * s))
        integral += mass
        moment += mass * (curved * (w * ks + s * ks_slope) + growth_by_tail * s)
    return integral * reach, -moment / integral


@njit(cache=True)
def log_upper_tail(w: float, tail: float, remainder: float, remainder_slope: float) -> tuple[float, float, float]:
    r"""Log upper tail of the standard generalised gamma at ``w >= 0``, and its derivatives by ``w`` and ``tail``.

    The density of ``w = (log t - location) / spread`` is, with Q for ``tail``,

    .. math:: f(w) = \exp\{-(e^{Q w} - 1 - Q w) / Q^2 - \delta(Q)\} / \sqrt{2 \pi}

    (Prentice 1974, https://doi.org/10.1093/biomet/61.3.539), ``delta`` the Stirling remainder: smooth at Q = 0, and
    log-concave, so from the mode w = 0 outwards the tail is ``f(w)`` times an integral of a falling function (its Mills
    ratio). The lower tail is the upper tail of ``-w`` with ``-tail``.
    """
    k, k_slope = second_exponential(min(tail * w, LOG_LARGEST))
    mills, mills_slope = mills_by_series(w, tail) if tail < SERIES_TAIL else mills_by_integral(w, tail)
    log_tail = -w * w * k - remainder - LOG_ROOT_TWO_PI + math.log(mills)
    return log_tail, -1.0 / mills, -w * w * w * k_slope - remainder_slope + mills_slope


@njit(cache=True)
def generalized_gamma_hazard(
    w: float, tail: float, remainder: float, remainder_slope: float
) -> tuple[float, float, float]:
    """Cumulative hazard at the standardised log time ``w``, and its derivatives by ``w`` and ``tail``."""
    if w >= 0.0:
        log_survival, by_w, by_tail = log_upper_tail(w, tail, remainder, remainder_slope)
        return -log_survival, -by_w, -by_tail
    log_ended, by_w, by_tail = log_upper_tail(-w, -tail, remainder, -remainder_slope)
    ended = math.exp(log_ended)
    odds = ended / (1.0 - ended)
    return -math.log1p(-ended), -odds * by_w, -odds * by_tail


@njit(cache=True)
def _power_hazard(code: int, time: float, theta: NDArray[np.float64], out: NDArray[np.float64]) -> float:
    """Exponential, Weibull and log-logistic: functions of ``z = shape (log t - log scale)``."""
    shape = math.exp(theta[1]) if code != EXPONENTIAL else 1.0
    z = min(shape * (math.log(time) - theta[0]), LOG_LARGEST)
    if code == LOGLOGISTIC:
        hazard = z + math.log1p(math.exp(-z)) if z > 0.0 else math.log1p(math.exp(z))
        by_z = 1.0 / (1.0 + math.exp(-z)) if z > -LOG_LARGEST else math.exp(z)
    else:
        hazard = math.exp(z)
        by_z = hazard
    out[0] = -shape * by_z
    if code != EXPONENTIAL:
        out[1] = z * by_z
    return hazard


@njit(cache=True)
def _lognormal_hazard(time: float, theta: NDArray[np.float64], out: NDArray[np.float64]) -> float:
    """Log-normal: the lower tail below the median, so that early hazards keep their relative accuracy."""
    spread = math.exp(theta[1])
    w = (math.log(time) - theta[0]) / spread
    log_survival = log_normal_upper_tail(w) if w >= 0.0 else math.log1p(-0.5 * math.erfc(-w / math.sqrt(2.0)))
    by_w = math.exp(-0.5 * w * w - LOG_ROOT_TWO_PI - log_survival)
    out[0] = -by_w / spread
    out[1] = -by_w * w
    return -log_survival


@njit(cache=True)
def cumulative_hazard_grid(
    code: int,
    times: NDArray[np.float64],
    theta: NDArray[np.float64],
    out_h: NDArray[np.float64],
    out_dh: NDArray[np.float64],
) -> None:
    """Cumulative hazard and gradient of one family at many times, written into given arrays; callable from any kernel.

    Parameters
    ----------
    code : int
        Family code.
    times : ndarray, shape (time,)
        Days, zero or more.
    theta : ndarray, shape (parameter,)
        Unconstrained parameters.
    out_h : ndarray, shape (time,)
    out_dh : ndarray, shape (time, parameter)
    """
    if code in (GAMMA, GENERALIZED_GAMMA):
        _gamma_grid(code, times, theta, out_h, out_dh)
        return
    for i in range(len(times)):
        if times[i] <= 0.0:
            out_h[i] = 0.0
            out_dh[i, :] = 0.0
        elif code == LOGNORMAL:
            out_h[i] = _lognormal_hazard(times[i], theta, out_dh[i])
        else:
            out_h[i] = _power_hazard(code, times[i], theta, out_dh[i])


@njit(cache=True)
def prentice_parameters(code: int, theta: NDArray[np.float64]) -> tuple[float, float, float]:
    """Location, spread and tail of a gamma or generalised gamma."""
    if code == GAMMA:
        tail = math.exp(-0.5 * theta[1])
        return theta[0] + theta[1], tail, tail
    return theta[0], math.exp(theta[1]), theta[2]


@njit(cache=True)
def _gamma_grid(
    code: int,
    times: NDArray[np.float64],
    theta: NDArray[np.float64],
    out_h: NDArray[np.float64],
    out_dh: NDArray[np.float64],
) -> None:
    """Gamma and generalised gamma: what does not depend on time is computed once."""
    location, spread, tail = prentice_parameters(code, theta)
    remainder, remainder_slope = stirling_remainder(tail)
    for i in range(len(times)):
        if times[i] <= 0.0:
            out_h[i] = 0.0
            out_dh[i, :] = 0.0
            continue
        w = (math.log(times[i]) - location) / spread
        out_h[i], by_w, by_tail = generalized_gamma_hazard(w, tail, remainder, remainder_slope)
        out_dh[i, 0] = -by_w / spread
        if code == GAMMA:  # location = log scale + log shape, log spread = -log shape / 2, tail = spread
            out_dh[i, 1] = -by_w / spread + 0.5 * w * by_w - 0.5 * tail * by_tail
        else:
            out_dh[i, 1] = -w * by_w
            out_dh[i, 2] = by_tail


@njit(cache=True)
def log_time_at_hazard(code: int, hazard: NDArray[np.float64], theta: NDArray[np.float64]) -> NDArray[np.float64]:
    """Log days at which a gamma or generalised gamma reaches given cumulative hazards; shape of ``hazard``, (n,).

    Newton on the log of the hazard over log days, which is nearly straight in both tails.
    """
    location, spread, tail = prentice_parameters(code, theta)
    remainder, remainder_slope = stirling_remainder(tail)
    out = np.empty(len(hazard))
    for i in range(len(hazard)):
        if hazard[i] <= 0.0:
            out[i] = -np.inf
            continue
        target, w = math.log(hazard[i]), 0.0
        for _ in range(NEWTON_STEPS):
            if w >= 0.0:
                log_survival, by_w, _unused = log_upper_tail(w, tail, remainder, remainder_slope)
                log_hazard, slope = math.log(-log_survival), by_w / log_survival
            else:
                log_hazard, by_w, _unused = log_upper_tail(-w, -tail, remainder, -remainder_slope)
                slope = -by_w
                if log_hazard > NEGLIGIBLE:
                    ended = math.exp(log_hazard)
                    value = -math.log1p(-ended)
                    log_hazard, slope = math.log(value), slope * ended / ((1.0 - ended) * value)
            step = (log_hazard - target) / slope
            w -= step
            if abs(step) <= 1e-14 * (1.0 + abs(w)):
                break
        out[i] = location + spread * w
    return out


@njit(cache=True)
def cumulative_hazard_and_gradient(
    code: int, times: NDArray[np.float64], theta: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Cumulative hazard at ``times`` (shape (time,)) and its gradient by ``theta`` (shape (time, parameter)).

    Examples
    --------
    >>> hazard, gradient = cumulative_hazard_and_gradient(WEIBULL, np.array([0.0, 20.0]), np.log([20.0, 1.5]))
    >>> hazard.tolist(), gradient.tolist()
    ([0.0, 1.0], [[0.0, 0.0], [-1.5, 0.0]])
    """
    hazard = np.empty(len(times))
    gradient = np.empty((len(times), len(theta)))
    cumulative_hazard_grid(code, times, theta, hazard, gradient)
    return hazard, gradient


@njit(cache=True)
def daily_hazards(code: int, theta: NDArray[np.float64], days: int) -> NDArray[np.float64]:
    """Hazard integrated over each day of a stay, ``H(d + 1) - H(d)``, by posterior draw.

    Parameters
    ----------
    code : int
        Family code.
    theta : ndarray, shape (draw, parameter)
        Unconstrained parameters.
    days : int
        Number of days from the day of entry.

    Returns
    -------
    ndarray, shape (draw, day)

    Examples
    --------
    >>> daily_hazards(EXPONENTIAL, np.log([[20.0]]), 3).round(12).tolist()
    [[0.05, 0.05, 0.05]]
    """
    times = np.arange(days + 1).astype(np.float64)
    hazard = np.empty(days + 1)
    gradient = np.empty((days + 1, theta.shape[1]))
    out = np.empty((len(theta), days))
    for draw in range(len(theta)):
        cumulative_hazard_grid(code, times, theta[draw], hazard, gradient)
        for day in range(days):
            out[draw, day] = max(hazard[day + 1] - hazard[day], 0.0)
    return out
