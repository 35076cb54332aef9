"""Time that is not uniform: days of progress that deals make by each forecast day, draw by draw.

The *pace* of a forecast day is the days of progress a deal makes on it: 1 on an ordinary day, 0.1 on a quiet Sunday, 0
when nothing moves. With C(t), the pace summed over forecast days 1 .. t, the chance that something has happened by
the end of day t is the one the renewal tables hold for C(t) days, interpolated between two whole days. So a clock
moves the ends of periods and leaves the tables alone. Days already spent in a stage are ordinary ones.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from forecasting.engine.blocks import cut_draws
from forecasting.engine.compiled import jit_inline, jit_kernel
from forecasting.engine.streams import SEED_STRIDE, STEP_CLOCK, draw_key, mix, unit
from models.errors import SettingsError

DRAWS_AT_ONCE = 128
"""Draws whose days of progress are laid out together: they stay in the caches."""
LAST_DAYS = 7
"""Beyond the days given, a draw goes on at the mean pace of so many last ones: a week, so that weekdays weigh alike."""


class Clock(NamedTuple):
    """Days of progress at which periods end, by draw: ``day + fraction``, shape (draw, period)."""

    day: NDArray[np.int64]
    fraction: NDArray[np.float64]


def check_pace(pace: NDArray[np.float64] | None, *, draws: int, days: int, name: str = "pace") -> None:
    """A pace must be given for each draw, or for each draw and forecast day.

    Raises
    ------
    SettingsError
        Too few draws or days, negative or not finite.
    """
    if pace is None:
        return
    enough = pace.ndim in (1, 2) and len(pace) >= draws and (pace.ndim == 1 or pace.shape[1] >= days)
    if not enough or not np.isfinite(pace).all() or (pace < 0).any():
        raise SettingsError(
            f"{name} must be days of progress, 0 or more, of shape ({draws},) or ({draws}, {days}): draws by forecast "
            f"days; got shape {pace.shape}" + (f", least {pace.min()}" if pace.size else "")
        )


def progress_by_day(pace: NDArray[np.float64] | None, draws: NDArray[np.int64], *, days: int) -> NDArray[np.float64]:
    """Days of progress by the end of forecast days 0, 1, ..., ``days``, shape (draw, 1 + days).

    Parameters
    ----------
    pace : ndarray of float64, shape (draw,) or (draw, day), or None
        None means 1.
    draws : ndarray of int64
        Rows of ``pace``.
    days : int
        More than the pace has are filled up at the mean pace of its ``LAST_DAYS``.

    Examples
    --------
    >>> progress_by_day(np.array([[1.0, 0.0, 0.5]]), np.array([0]), days=4).tolist()
    [[0.0, 1.0, 1.0, 1.5, 2.0]]
    """
    if pace is None:
        return np.tile(np.arange(days + 1.0), (len(draws), 1))
    if pace.ndim == 1:
        return np.arange(days + 1.0) * pace[draws, None]
    progress = np.zeros((len(draws), days + 1))
    given = min(days, pace.shape[1])
    progress[:, 1 : given + 1] = pace[draws, :given]
    progress[:, given + 1 :] = pace[draws, -LAST_DAYS:].mean(axis=1, keepdims=True)
    return np.cumsum(progress, axis=1)


def clock_at(progress: NDArray[np.float64], edges: NDArray[np.int64]) -> Clock:
    """Ends of periods on the clocks of some draws; ``edges`` are forecast days."""
    reached = progress[:, edges]
    day = np.floor(reached).astype(np.int64)
    return Clock(day, reached - day)


def lattice_reach(progress: NDArray[np.float64]) -> int:
    """Days of progress that some draw begins by the last forecast day."""
    return math.ceil(progress[:, -1].max(initial=0.0))


def longest_reach(pace: NDArray[np.float64] | None, *, draws: int, days: int) -> int:
    """Days of progress that one of all draws begins by the last forecast day."""
    if pace is None:
        return days
    some = (np.arange(*block) for block in cut_draws(draws, DRAWS_AT_ONCE))
    return max(lattice_reach(progress_by_day(pace, each, days=days)) for each in some)


class Calendar(NamedTuple):
    """One draw's forecast days by days of progress, for lives played in progress.

    ``reached[t]`` is the progress by the end of forecast day t, ``first_day[n]`` the first forecast day that reaches
    beyond n - 1 days of progress, ``key`` that of the draw's random moments, and ``plain`` says that both days are one.
    """

    reached: NDArray[np.float64]
    first_day: NDArray[np.int64]
    key: np.uint64
    plain: bool


@jit_kernel
def make_calendar(reached: NDArray[np.float64], seed: int, draw: int) -> Calendar:
    """The calendar of a draw from its days of progress by forecast day."""
    first_day = np.zeros(math.ceil(reached[-1]) + 1, dtype=np.int64)
    plain, day = True, 0
    for t in range(len(reached)):
        plain = plain and reached[t] == t
    for n in range(1, len(first_day)):
        while reached[day] <= n - 1:
            day += 1
        first_day[n] = day
    return Calendar(reached, first_day, draw_key(seed, draw, STEP_CLOCK), plain)


@jit_inline
def acting_moment(key: np.uint64, deal_key: np.uint64, progress_day: int) -> float:
    """Moment within a day of progress at which a deal does all it does on it, in days of progress."""
    return progress_day - 1 + unit(mix(mix(key + deal_key) + np.uint64(progress_day) * SEED_STRIDE))


@jit_inline
def day_of_moment(reached: NDArray[np.float64], first_day: int, moment: float) -> int:
    """First forecast day from ``first_day`` on by whose end a moment is reached, beyond the last one if it is not."""
    day = first_day + int(reached[np.uintp(first_day)] < moment)  # no branch: mostly one step or none
    while day < len(reached) and reached[np.uintp(day)] < moment:
        day += 1
    return day


@jit_inline
def forecast_day(calendar: Calendar, deal_key: np.uint64, progress_day: int) -> int:
    """Forecast day on which a deal does what it does on a day of progress, beyond the last one if it is not reached.

    A day of progress may be spread over several forecast days. The deal then acts at one random moment of it, the same
    for all it does on it: the chance to have acted is the share of the day that has passed, which is the interpolation.
    """
    day = progress_day
    if not calendar.plain and progress_day > 0:
        moment = acting_moment(calendar.key, deal_key, progress_day)
        day = day_of_moment(calendar.reached, calendar.first_day[progress_day], moment)
    return day
