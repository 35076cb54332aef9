"""Default priors of the duration families, each number with its reason.

Every prior is a Normal on the unconstrained scale: the log of a positive parameter, the parameter itself otherwise.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class DurationPrior:
    """Normal prior of one unconstrained duration parameter.

    Parameters
    ----------
    mean, sd : float
        On the unconstrained scale; for a positive parameter these are log units.

    Examples
    --------
    >>> DurationPrior(mean=0.0, sd=0.5).sd
    0.5
    """

    mean: float
    sd: float


LOG_DAYS = DurationPrior(mean=3.8, sd=2.0)
"""Log of the typical days to one exit: 45 days, 95 % from one day to six years.

Stages last days to months. The upper end is that wide because exits compete: an exit that takes one deal in a hundred
has a time to that exit about a hundred times as long as the stage itself.
"""

LOG_SHAPE = DurationPrior(mean=0.0, sd=0.5)
"""Log of a Weibull or gamma shape: centred at the constant hazard, 95 % from 0.38 to 2.7.

Below one the exits that come at all come early, as with stale deals; above one they wait for a process to run its
course. Outside the range a smooth family is the wrong answer to a timer or a spike.
"""

LOG_PEAKED_SHAPE = DurationPrior(mean=0.4, sd=0.5)
"""Log of a log-logistic shape: 1.5, 95 % from 0.56 to 4; above one its hazard has a peak and its mean exists."""

LOG_SPREAD = DurationPrior(mean=0.0, sd=0.5)
"""Log of the standard deviation of log days: 95 % from 0.38 to 2.7.

The middle nine tenths of the times then span a factor between 3.4 and 6,300.
"""

TAIL = DurationPrior(mean=0.5, sd=0.75)
"""Tail of the generalised gamma: halfway between the log-normal (0) and the Weibull (1), 95 % from -1 to 2."""
