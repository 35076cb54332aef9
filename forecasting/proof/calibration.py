"""Learn from one's own closed forecasts how wrong the next one will be.

A forecaster that looks back makes, at every past date, the forecast it would have made with what was known then
(:mod:`forecasting.proof.past_forecasts`), compares with what came, and carries the errors into its next forecast
(:func:`learn`). On the scale of log revenue, with m and s the mean and sd of a forecast and d = log(actual) - m its error,

    d_k ~ Normal(b + r y_k + c_k, alpha^2 s_k^2 + t_k^2),   t_k = tau (age_k / age_now)^(-delta),
    c_k = ((1 - alpha^2) s_k^2 - t_k^2) / 2,

so ``b`` is a lasting bias, ``alpha`` shrinks a spread that was too wide, ``tau`` is what the model does not see (levels
that drift, luck that a period's deals share), and errors shrink with the age of the history at rate ``delta``. ``y_k`` is
the error of the same days a year before, and ``r`` the part of it that comes again: where all deals are paid in December
there is nothing in November, every year. ``c_k`` keeps the model's mean revenue, which is right where nothing says
otherwise: errors on the log scale would raise it, and a smaller spread would lower it.

The same errors then act on the next forecast, one per draw: periods, segments and sources of a draw keep adding up. They
are cut off where those learned from are, a draw at the lower end being an empty period, and no error makes open deals
bring more than all of them are worth.

Two forecasters are judged by the same evidence: one with hazards of the whole history, one at the levels of the moment,
which are those of the season where exits have one. The next forecast is the mixture of both, each with the probability
that their closed forecasts leave it.
"""

from dataclasses import asdict, dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import logsumexp

from forecasting.periods import as_date
from forecasting.proof.past_forecasts import (
    FLOOR,
    LARGEST_ERROR,
    THREADS,
    Memory,
    errors_a_year_before,
    foretold,
    level_change,
    log_error,
    past_forecasts,
    spacing_days,
    telling,
)
from forecasting.proof.quick_chain import OpenValue
from forecasting.proof.stay_table import StayTable, day_of, known_at, stays_at
from models.calendar.days import CalendarOptions

if TYPE_CHECKING:
    from forecasting.data.deals import Deals

Floats = NDArray[np.float64]

ALPHA, ALPHA_PRIOR = np.array([0.5, 0.7, 1.0]), np.array([0.1, 0.2, 0.7])
"""Factors on the model's own spread: usually right, sometimes too wide, never trusted to less than half."""
DELTA = np.array([0.0, 0.5, 1.0])
"""How errors shrink with the age of the history, equally likely: not at all, like its square root, like its length."""
BIAS_SD = 0.03
"""Prior sd of the lasting bias: past errors tell little about its sign, so it may not move the forecast by much."""
TAU = np.geomspace(0.002, 1.6, 49)
"""Unseen errors on the log scale; beyond its ends lies under one per cent of the prior."""
TAU_MEDIAN, TAU_LOG_SD = 0.04, 1.2
"""Log-normal prior of tau: 4 % typically, 30 % now and then."""
HALF_LIFE = 12
"""Horizons after which a past forecast counts for half."""
TRACKED_PRIOR = 0.4
"""Prior probability that the levels of the moment foretell better than hazards of the whole history: the simpler of two
nearly equal forecasts is favoured a little."""
FARTHEST = 1.0
"""Distance from the middle, on the log scale, beyond which draws keep theirs when a spread is scaled: revenue with two humps,
of a large deal or of next to no wins, is no wide version of one hump."""
AGAIN, AGAIN_PRIOR = np.array([0.0, 0.5, 1.0]), np.array([0.9, 0.05, 0.05])
"""Part of last year's error that comes again: most pipelines have no season of their own."""


@dataclass(frozen=True)
class ErrorDraws:
    """One set of errors per forecast draw, arrays of shape (draw,).

    Parameters
    ----------
    scale : ndarray
        Factor ``alpha`` on the distance of log revenue from its mean.
    stretch : ndarray
        Factor on it of the levels of the moment, which comes first.
    shift : ndarray
        Added to log revenue: levels of the moment, bias, what comes again of last year's error, and unseen error.
    empty : ndarray of bool
        Whether next to nothing comes of what was expected.
    """

    scale: Floats
    stretch: Floats
    shift: Floats
    empty: NDArray[np.bool_]


@dataclass(frozen=True)
class Calibration:
    """What the forecaster's closed forecasts say about its next one.

    Parameters
    ----------
    origins : int
        Past dates it learned from; 0 says there were none and the prior widens the forecast.
    bias : float
        Posterior mean of the lasting error on the log scale; positive when the forecasts were too low.
    scale : float
        Posterior mean of the factor on the model's own spread.
    sd : float
        Root mean square of what past errors add, on the log scale; about the relative error it stands for.
    alpha, tau, bias_mean, bias_sd, probability : ndarray of float64, shape (point,)
        The posterior: a mixture over grid points, the bias normal in each.
    tracked : ndarray of float64, shape (point,)
        1 at points where the forecast is the one at the levels of the moment (:mod:`models.levels`), else 0.
    level_shift, level_stretch : float
        What these levels add to mean log revenue, and the factor on its spread.
    level_gain : float
        Log of what they make of the expected revenue.
    again : ndarray of float64, shape (point,)
        Part of last year's error that comes again.
    year_ago : ndarray of float64, shape (point,)
        That error, of the same days a year before; 0 where it is not known.
    season : ndarray of float64, shape (day,)
        Factor of the season on what is won on each coming day; none without levels of the moment.
    """

    origins: int
    bias: float
    scale: float
    sd: float
    alpha: Floats
    tau: Floats
    bias_mean: Floats
    bias_sd: Floats
    probability: Floats
    tracked: Floats
    level_shift: float
    level_stretch: float
    level_gain: float
    again: Floats
    year_ago: Floats
    season: Floats

    @property
    def error_mean(self) -> Floats:
        """Mean error at each point, levels apart."""
        return np.asarray(self.bias_mean + self.again * self.year_ago - self.tau**2 / 2.0)

    @property
    def shift_moments(self) -> tuple[float, float]:
        """Mean and sd of what is added to log revenue, as if no error were cut off and no spread scaled."""
        middle = self.tracked * self.level_shift + self.error_mean
        mean = float(self.probability @ middle)
        return mean, float(np.sqrt(self.probability @ (self.tau**2 + self.bias_sd**2 + (middle - mean) ** 2)))

    @property
    def mean_gain(self) -> float:
        """Log of what levels, bias and last year's error make of the expected revenue; no other error moves it."""
        return float(self.probability @ (self.tracked * self.level_gain + self.bias_mean + self.again * self.year_ago))

    @property
    def tracked_share(self) -> float:
        """Probability that the levels of the moment foretell better than hazards of the whole history."""
        return float(self.probability @ self.tracked)

    def draw(self, n: int, *, seed: int) -> ErrorDraws:
        """Draw errors for ``n`` forecast draws; draw i is the same for any larger n."""
        rng = np.random.default_rng([seed, 2])
        numbers = rng.random((n, 3))
        point = np.minimum(np.searchsorted(np.cumsum(self.probability), numbers[:, 0]), len(self.probability) - 1)
        first, second = _normal_pair(numbers[:, 1], numbers[:, 2])
        error = self.error_mean[point] + self.bias_sd[point] * first + self.tau[point] * second
        stretch = 1.0 + self.tracked[point] * (self.level_stretch - 1.0)
        shift = self.tracked[point] * self.level_shift + np.clip(error, -LARGEST_ERROR, LARGEST_ERROR)
        return ErrorDraws(self.alpha[point], stretch, shift, error <= -LARGEST_ERROR)

    def factors(self, revenue: Floats, *, seed: int, most: Floats | None = None) -> Floats:
        """Factor on all revenue of each draw, from the uncalibrated total of each draw, shape (draw,).

        log(y / x) = (stretch - 1) d + (scale - 1) e + kept + shift, with d the distance of log(x + c) from its mean, c one
        per cent of the mean of x, e = stretch d, at most ``FARTHEST`` either way, ``kept`` what leaves the mean revenue as
        it was without scale, and y = 0 in empty draws: an error moves what a draw brings in proportion, however little
        that is.

        Parameters
        ----------
        revenue : ndarray of float64, shape (draw,)
        seed : int
        most : ndarray of float64, shape (draw,), optional
            Revenue beyond which no error takes a draw.

        Examples
        --------
        >>> from forecasting.proof.past_forecasts import NO_PAST
        >>> none = learn(NO_PAST, horizon_days=28, age_days=365)
        >>> factors = none.factors(np.full(20_000, 100.0), seed=1)
        >>> none.origins, bool(0.95 < np.median(factors) < 1.05)
        (0, True)
        """
        total = np.asarray(revenue, dtype=float)
        errors = self.draw(len(total), seed=seed)
        offset = FLOOR * max(float(total.mean()), 0.0)
        if offset <= 0.0:
            return np.ones_like(total)
        logs = np.log(total + offset)
        scaled = scaled_distance(total, logs - logs.mean(), scale=errors.scale, stretch=errors.stretch)
        factors = np.exp(scaled + errors.shift)
        factors[errors.empty] = 0.0
        if most is not None:
            highest = np.divide(np.maximum(most, total), total, out=np.ones_like(total), where=total > 0.0)
            factors = np.minimum(factors, highest)
        factors[total <= 0.0] = 1.0
        return factors

    def season_of_days(self, days: int) -> Floats:
        """Factor of the season on what is won on so many coming days, shape (day,): one beyond those that are known."""
        known = self.season[:days]
        return np.concatenate([known, np.ones(days - len(known))])

    def to_dict(self) -> dict[str, Any]:
        """Return the summary as written to ``forecast.json``."""
        return {"origins": self.origins, "bias": self.bias, "scale": self.scale, "sd": self.sd}

    def in_words(self) -> str:
        """Say what our past errors add, for people.

        Examples
        --------
        >>> from forecasting.proof.past_forecasts import NO_PAST
        >>> learn(NO_PAST, horizon_days=28, age_days=365).in_words()
        'no closed forecast to learn from yet: the range is widened by what such forecasts usually miss'
        """
        if self.origins == 0:
            return "no closed forecast to learn from yet: the range is widened by what such forecasts usually miss"
        low, high = self.season.min(initial=1.0), self.season.max(initial=1.0)
        season = f"; the season gives coming weeks {low:.0%} to {high:.0%} of a usual one" if high > 1.1 * low else ""
        return (
            f"learned from our own forecasts of {self.origins} past dates: they add {self.sd:.0%} to the range "
            f"and move the expected revenue by {np.expm1(self.mean_gain):+.1%}{season}"
        )


def learn(
    past: pd.DataFrame,
    *,
    horizon_days: int,
    age_days: float,
    levels_now: OpenValue | None = None,
    year_ago: tuple[float, float] = (np.nan, np.nan),
) -> Calibration:
    """Learn the forecaster's errors from its closed forecasts.

    Parameters
    ----------
    past : DataFrame
        Closed forecasts, see :func:`forecasting.proof.past_forecasts.past_forecasts`.
    horizon_days : int
        Of the forecast to be calibrated.
    age_days : float
        Days of history behind the forecast to be calibrated.
    levels_now : OpenValue, optional
        The quick forecast of the same horizon at the date of the forecast to be calibrated: then the levels of the
        moment take part.
    year_ago : tuple of float
        Errors of the same days a year before the forecast to be calibrated, as :func:`errors_a_year_before` gives them.

    Returns
    -------
    Calibration
        With an empty table the prior: ``origins`` is 0 and the forecast is widened.
    """
    usable = past[(past["mean"] > 0.0) & (past["age_days"] > 0.0)]
    age = usable["age_days"].to_numpy(dtype=float) / max(age_days, 1.0)
    weight = _weights(usable, horizon_days, age)
    (static_error, spread), tracked_error = log_error(usable), np.zeros(len(usable))
    tracked, tracked_prior, level_shift, level_stretch, level_gain = np.zeros(1), np.ones(1), 0.0, 1.0, 0.0
    past_stretch = np.ones(len(usable))
    if levels_now is not None and levels_now.mean > 0.0:
        tracked, tracked_prior = np.array([0.0, 1.0]), np.array([1.0 - TRACKED_PRIOR, TRACKED_PRIOR])
        past_shift, past_stretch, _ = level_change(usable)
        tracked_error = log_error(usable, shift=past_shift)[0]
        now = level_change(pd.DataFrame([asdict(levels_now)]))
        level_shift, level_stretch, level_gain = (float(values[0]) for values in now)
    again, again_prior, past_again = np.zeros(1), np.ones(1), np.zeros((2, len(usable)))
    if np.isfinite(year_ago[0]):
        again, again_prior = AGAIN, AGAIN_PRIOR
        past_again = np.nan_to_num(usable[["year_ago", "tracked_year_ago"]].to_numpy(dtype=float).T)
    tau_prior = np.exp(-0.5 * (np.log(TAU / TAU_MEDIAN) / TAU_LOG_SD) ** 2)
    alpha, tau, delta, tracked, again = _grid(ALPHA, TAU, DELTA, tracked, again)
    prior = np.prod(_grid(ALPHA_PRIOR, tau_prior, np.ones(len(DELTA)), tracked_prior, again_prior), axis=0)
    unseen = tau[:, None] ** 2 * age ** (-2.0 * delta[:, None])
    spread = spread * (1.0 + tracked[:, None] * (past_stretch - 1.0))
    variance = alpha[:, None] ** 2 * spread**2 + unseen
    which = tracked.astype(np.int64)
    error = np.stack([static_error, tracked_error])[which] - again[:, None] * past_again[which]
    error += (variance - spread**2) / 2.0
    evidence, bias_mean, bias_sd = _lasting_bias(error, variance, weight)
    score = evidence + np.log(prior)
    probability = np.exp(score - logsumexp(score))
    bias = float(probability @ bias_mean)
    added = float(np.sqrt(probability @ (tau**2 + bias_sd**2 + (bias_mean - bias) ** 2)))
    return Calibration(
        origins=int(usable["as_of"].nunique()),
        bias=bias,
        scale=float(probability @ alpha),
        sd=added,
        alpha=alpha,
        tau=tau,
        bias_mean=bias_mean,
        bias_sd=bias_sd,
        probability=probability,
        tracked=tracked,
        level_shift=level_shift,
        level_stretch=level_stretch,
        level_gain=level_gain,
        again=again,
        year_ago=np.nan_to_num(year_ago)[which],
        season=np.array(() if levels_now is None else levels_now.season),
    )


def _lasting_bias(error: Floats, variance: Floats, weight: Floats) -> tuple[Floats, Floats, Floats]:
    """Log evidence of each point, and mean and sd of the bias there; errors and variances have shape (point, forecast)."""
    precision = 1.0 / BIAS_SD**2 + (weight / variance).sum(axis=1)
    pull = (weight * error / variance).sum(axis=1)
    evidence = 0.5 * (
        pull**2 / precision
        - np.log(precision * BIAS_SD**2)
        - (weight * (np.log(2.0 * np.pi * variance) + error**2 / variance)).sum(axis=1)
    )
    return evidence, pull / precision, 1.0 / np.sqrt(precision)


def _grid(*axes: Floats) -> list[Floats]:
    """Coordinates of all points of a grid."""
    return [axis.ravel() for axis in np.meshgrid(*axes, indexing="ij")]


def own_calibration(
    deals: "Deals | StayTable",
    *,
    as_of: date | str,
    horizon_days: int,
    seed: int = 0,
    levels: bool = True,
    calendar: CalendarOptions | None = None,
    memory: Memory | None = None,
    threads: int = THREADS,
) -> Calibration:
    """Learn the forecaster's errors from its own past on the given deals: :func:`past_forecasts`, then :func:`learn`.

    Parameters
    ----------
    deals : Deals or StayTable
    as_of : date or ISO text
        Of the forecast to be calibrated; what came later is not looked at.
    horizon_days : int
    seed : int
    levels : bool
        Whether the levels of the moment count, seasons included.
    calendar : CalendarOptions, optional
        That of the forecast: ``calendar_options`` of its ``ModelSpec``. A StayTable has its own.
    memory : Memory, optional
        Past forecasts of these deals and this seed made before; new ones are added.
    threads : int
        Past dates forecast at a time; the result is the same.

    Returns
    -------
    Calibration
    """
    day = as_date(as_of)
    stays = stays_at(deals, day, calendar=calendar)
    both = calibrations(stays, as_of=day, horizon_days=horizon_days, seed=seed, memory=memory, threads=threads)
    return both[int(levels)]


def calibrations(
    deals: "Deals | StayTable",
    *,
    as_of: date,
    horizon_days: int,
    seed: int = 0,
    memory: Memory | None = None,
    threads: int = THREADS,
) -> tuple[Calibration, Calibration]:
    """Learn as :func:`own_calibration` does, without and with the levels of the moment, from one look back."""
    stays = stays_at(deals, as_of)
    known, memory = known_at(stays, day_of(as_of)), memory or Memory()
    past = past_forecasts(stays, as_of=as_of, horizon_days=horizon_days, seed=seed, memory=memory, threads=threads)
    now = foretold(known, horizons=(horizon_days,), seed=seed, memory=memory)[0]
    before = errors_a_year_before(stays, known, horizons=(horizon_days,), seed=seed, memory=memory)[horizon_days]
    past = telling(past, mean=now.mean)
    without, with_levels = (
        learn(past, horizon_days=horizon_days, age_days=known.age_days, levels_now=levels, year_ago=before)
        for levels in (None, now)
    )
    return without, with_levels


def scaled_distance(revenue: Floats, distance: Floats, *, scale: Floats, stretch: Floats) -> Floats:
    """Change of each draw's log revenue where its distance from the middle is stretched, then scaled, shape (draw,).

    What is scaled is at most ``FARTHEST`` either way, and the mean revenue stays what it is when only stretched.

    Parameters
    ----------
    revenue : ndarray of float64, shape (draw,)
        Not negative, some of it positive.
    distance : ndarray of float64, shape (draw,)
        Of log revenue from its mean.
    scale, stretch : ndarray of float64, shape (draw,)
        Factors on the distance; few different ones.

    Examples
    --------
    Half the spread, the same mean.

    >>> revenue = np.random.default_rng(1).lognormal(0.0, 0.3, 100_000)
    >>> half, one = np.full(100_000, 0.5), np.ones(100_000)
    >>> moved = revenue * np.exp(scaled_distance(revenue, np.log(revenue), scale=half, stretch=one))
    >>> bool(abs(moved.mean() / revenue.mean() - 1.0) < 1e-12), float(np.log(moved).std().round(2))
    (True, 0.15)
    """
    change = np.empty_like(revenue)
    for narrow, wide in np.unique(np.column_stack([scale, stretch]), axis=0):
        mine = (scale == narrow) & (stretch == wide)
        stretched = (wide - 1.0) * distance
        scaled = stretched + (narrow - 1.0) * np.clip(wide * distance, -FARTHEST, FARTHEST)
        before, after = (float((revenue * np.exp(each)).mean()) for each in (stretched, scaled))
        change[mine] = scaled[mine] + np.log(before / after)
    return change


def _weights(past: pd.DataFrame, horizon_days: int, age: Floats) -> Floats:
    """How much each closed forecast counts: less when it overlaps others, is old, knew little or looked less far."""
    ahead = past["horizon_days"].to_numpy(dtype=float)
    overlap = np.minimum(spacing_days(horizon_days) / ahead, 1.0)
    recent = 0.5 ** (past["days_since"].to_numpy(dtype=float) / (HALF_LIFE * horizon_days))
    return np.asarray(overlap * recent * age * ahead / horizon_days)


def _normal_pair(first: Floats, second: Floats) -> tuple[Floats, Floats]:
    """Two independent standard normal numbers from two uniform ones (Box and Muller 1958)."""
    radius, angle = np.sqrt(-2.0 * np.log1p(-first)), 2.0 * np.pi * second
    return radius * np.cos(angle), radius * np.sin(angle)
