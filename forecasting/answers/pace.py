"""Days of progress on each forecast day: what the selling calendar says, times what else is known of the pace."""

from datetime import date
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from models.calendar.model import pace as calendar_pace

if TYPE_CHECKING:
    from models.posterior import Posterior

LOOK_AHEAD = 366
"""Days beyond the horizon that the calendar is known for: closing dates of open deals are looked for there."""
EVEN_DAYS = 7
"""Ordinary days put at the end; what lies beyond the days given goes on at their pace."""


def on_calendar(
    pace: NDArray[np.float64] | None, posterior: "Posterior", *, as_of: date, days: int, draws: int, kind: str
) -> NDArray[np.float64] | None:
    """Pace of deals, or of their losses, on the calendar of a posterior.

    Parameters
    ----------
    pace : ndarray of float64, shape (draw,) or (draw, day), or None
        Days of progress per usual day; None is one.
    posterior : Posterior
    as_of : date
    days : int
        Forecast days.
    draws : int
    kind : str
        ``won`` or ``lost``.

    Returns
    -------
    ndarray of float64, shape (draw, day), or None
        ``pace`` as it is if the posterior has no calendar.
    """
    if posterior.calendar is None:
        return pace
    weight = calendar_pace(posterior.calendar, as_of=as_of, days=days + LOOK_AHEAD, draws=draws, kind=kind)
    weight = np.hstack([weight, np.ones((draws, EVEN_DAYS))])
    if pace is None:
        return weight
    if pace.ndim == 1:
        return pace[:draws, None] * weight
    return pace[:draws, :days] * weight[:, :days]
