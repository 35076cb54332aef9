"""Learn from one's own closed forecasts how wrong the forecast of new business will be.

As for open deals (:mod:`forecasting.proof.calibration`): at past dates the revenue of deals created later is forecast
with what was known then and compared with what came, and the errors act on the next forecast, one per draw. Three things
differ. New business of a short horizon is often next to nothing, so a tenth of the expected value is added before taking
logs. Errors are large, and on the log scale a large error raises the mean as well as the range: half its variance is
taken off again, so that the range widens around the same expected value. And a part of each error is shared with that
of the draw's open deals, because a good month is good for both.
"""

from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import ndtri

from forecasting.periods import as_date
from forecasting.proof.calibration import Calibration, learn, scaled_distance
from forecasting.proof.past_forecasts import (
    FLOOR,
    MOST_ORIGINS,
    THREADS,
    ClosedOrigin,
    Memory,
    closed_origins,
    foretold,
    look_back,
    recalled,
)
from forecasting.proof.quick_new import NewValue, new_revenue
from forecasting.proof.stay_table import KnownStays, StayTable, day_of, known_at, stays_at
from models.calendar.days import CalendarOptions

if TYPE_CHECKING:
    from forecasting.data.deals import Deals

Floats = NDArray[np.float64]

SHARED = 0.3
"""Correlation of the errors of new business with those of open deals: at past dates of four logs it was .7, .3, .3 and
.1 (`python -m benchmarks.accuracy.new_business`)."""
RAISED = 0.1
"""Part of the expected revenue added before taking logs: a month without a win is then an error of ordinary size. With it
the 80 % range of all revenue holds .76 of 170 weekly outcomes at a CRPS of .1174 of the actual; moved by the errors of
the open deals alone it held .71 at .1180 (the same command)."""
COLUMNS = ("as_of", "horizon_days", "age_days", "days_since", "mean", "sd", "actual")


@dataclass(frozen=True)
class NewCalibration:
    """What closed forecasts of new business say about the next one.

    Parameters
    ----------
    errors : Calibration
        Posterior of the errors, on the log scale of the revenue of deals created later.
    shared : float
        Correlation with the errors of open deals, 0 to 1.
    """

    errors: Calibration
    shared: float = SHARED

    def factors(self, revenue: Floats, *, open_errors: Floats, seed: int) -> Floats:
        """Factor on the new business of each draw, from the uncalibrated total of each draw.

        log(y + c) = log(x + c) + scaled + bias + s (r e + sqrt(1 - r^2) z) - s^2 / 2, with c a part of the mean of x,
        ``scaled`` what a smaller spread makes of its distance from the middle (see
        :func:`forecasting.proof.calibration.scaled_distance`), s the size of the draw's error, e the error of its open
        deals in sd, z a normal number of its own and r the shared part; the factor is y / x, one where x is zero.

        Parameters
        ----------
        revenue : ndarray of float64, shape (draw,)
        open_errors : ndarray of float64, shape (draw,)
            Errors of the open deals, of mean zero and sd one.
        seed : int

        Examples
        --------
        >>> from forecasting.proof.past_forecasts import NO_PAST
        >>> none = NewCalibration(learn(NO_PAST, horizon_days=28, age_days=365))
        >>> factors = none.factors(np.full(20_000, 100.0), open_errors=np.zeros(20_000), seed=1)
        >>> bool(0.99 < factors.mean() < 1.01), bool(factors.std() > 0.03)
        (True, True)
        """
        total = np.asarray(revenue, dtype=float)
        offset = _offset(max(float(total.mean()), 0.0))
        if offset <= 0.0:
            return np.ones_like(total)
        learned, numbers = self.errors, np.random.default_rng([seed, 4]).random((len(total), 2))
        point = np.minimum(np.searchsorted(np.cumsum(learned.probability), numbers[:, 0]), len(learned.tau) - 1)
        size = np.hypot(learned.bias_sd, learned.tau)[point]
        mixed = self.shared * open_errors + np.sqrt(1.0 - self.shared**2) * ndtri(np.maximum(numbers[:, 1], 1e-16))
        shift = learned.bias_mean[point] + size * mixed - size**2 / 2.0
        logs, scale = np.log(total + offset), learned.alpha[point]
        scaled = scaled_distance(total + offset, logs - logs.mean(), scale=scale, stretch=np.ones_like(scale))
        moved = (total + offset) * np.exp(scaled + shift) - offset
        factors = np.ones_like(total)
        np.divide(np.maximum(moved, 0.0), total, out=factors, where=total > 0.0)
        return factors

    def to_dict(self) -> dict[str, Any]:
        """Return the summary as written to ``forecast.json``."""
        return self.errors.to_dict()

    def in_words(self) -> str:
        """Say what our past errors add to new business, for people.

        Examples
        --------
        >>> from forecasting.proof.past_forecasts import NO_PAST
        >>> NewCalibration(learn(NO_PAST, horizon_days=28, age_days=365)).in_words()
        'no closed forecast of deals to come to learn from yet'
        """
        if self.errors.origins == 0:
            return "no closed forecast of deals to come to learn from yet"
        return f"forecasts of deals to come at {self.errors.origins} past dates: they add {self.errors.sd:.0%} to the range"


def past_new_forecasts(
    deals: "Deals | StayTable",
    *,
    as_of: date,
    horizon_days: int,
    origins: int = MOST_ORIGINS,
    seed: int = 0,
    levels: bool = True,
    memory: Memory | None = None,
    threads: int = THREADS,
) -> pd.DataFrame:
    """Forecast the revenue of deals created later at past dates, each with only what was known then.

    Parameters
    ----------
    deals : Deals or StayTable
        May reach beyond ``as_of``: what came later is not looked at.
    as_of : date
    horizon_days : int
    origins : int
        Past dates at most, the latest ones.
    seed : int
        Of the forecasts of open deals, which tell the season.
    levels : bool
        Whether these forecasts follow seasons.
    memory : Memory, optional
        Past forecasts of this history and seed made before, of open deals too; new ones are added.
    threads : int
        Past dates forecast at a time; the forecasts are the same.

    Returns
    -------
    DataFrame
        One row per closed forecast, latest first: ``as_of``, ``horizon_days``, ``age_days``, ``days_since``, ``mean``,
        ``sd`` and ``actual``, as in :func:`forecasting.proof.past_forecasts.past_forecasts`.
    """
    stays = stays_at(deals, as_of)
    now, made = known_at(stays, day_of(as_of)), memory or Memory()

    def rows_of(past: ClosedOrigin) -> list[tuple[Any, ...]]:
        known = known_at(stays, past.day)
        values = _foretold_new(known, horizons=past.horizons, seed=seed, levels=levels, memory=made)
        rows = []
        for days, value in zip(past.horizons, values, strict=True):
            if not known.same_process(now, until=past.day + days):
                continue
            of_open = now.revenue(after=past.day, until=past.day + days, open_deals_only=True)
            actual = now.revenue(after=past.day, until=past.day + days) - of_open
            rows.append((past.as_of, days, known.age_days, now.as_of - past.day - days, value.mean, value.sd, actual))
        return rows

    rows = look_back(rows_of, closed_origins(now, horizon_days=horizon_days, origins=origins), threads=threads)
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype({"as_of": "datetime64[ns]"})


def _foretold_new(
    known: KnownStays, *, horizons: tuple[int, ...], seed: int, levels: bool, memory: Memory
) -> tuple[NewValue, ...]:
    """Forecast deals to come as :func:`new_revenue` does, in the season of open ones, unless it was done before."""

    def make() -> tuple[NewValue, ...]:
        open_deals = foretold(known, horizons=horizons, seed=seed, memory=memory) if levels else ()
        season = max((value.season for value in open_deals), key=len, default=())
        return new_revenue(known, horizons=horizons, season=season)

    return recalled(memory.new, (known.lacks, known.as_of, horizons, levels), make)


def own_new_calibration(
    deals: "Deals | StayTable",
    *,
    as_of: date | str,
    horizon_days: int,
    seed: int = 0,
    levels: bool = True,
    calendar: CalendarOptions | None = None,
    memory: Memory | None = None,
    threads: int = THREADS,
) -> NewCalibration:
    """Learn the errors of new business from the forecaster's own past on the given deals.

    Parameters
    ----------
    deals : Deals or StayTable
    as_of : date or ISO text
        Of the forecast to be calibrated; what came later is not looked at.
    horizon_days : int
    seed : int
        Of the forecasts of open deals, which tell the season.
    levels : bool
        Whether the levels of the moment count, seasons included.
    calendar : CalendarOptions, optional
        That of the forecast: ``calendar_options`` of its ``ModelSpec``. A StayTable has its own.
    memory : Memory, optional
        Past forecasts of these deals made before; new ones are added.
    threads : int
        Past dates forecast at a time; the result is the same.
    """
    day = as_date(as_of)
    stays = stays_at(deals, day, calendar=calendar)
    past = past_new_forecasts(
        stays, as_of=day, horizon_days=horizon_days, seed=seed, levels=levels, memory=memory, threads=threads
    )
    age = known_at(stays, day_of(day)).age_days
    raised = past.assign(mean=past["mean"] * (1.0 + RAISED), actual=past["actual"] + past["mean"] * RAISED)
    return NewCalibration(learn(raised, horizon_days=horizon_days, age_days=age))


def _offset(mean: float) -> float:
    """Part added to revenue before taking logs: the raise, and the floor that :func:`learn` adds to what is raised."""
    return mean * (RAISED + FLOOR * (1.0 + RAISED))
