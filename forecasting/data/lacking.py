"""What it means that a deal lacks an amount or another value: from the start, or filled in, cleared or set to zero later.

An export tells today's values. Where sellers enter an amount at the proposal only, or a CRM clears it when a deal is lost,
all past deals without one were lost, and of the deals open now most have none yet, or all have one: what a missing amount
would tell of them is wrong, however well it told of the past. The sign of it: among the deals open now another share lacks
an amount than among those open at past dates, as the export has them today. The shares are compared stage by stage,

    odds ratio = (sum of lacking now x given then / all + 1/2) / (sum of given now x lacking then / all + 1/2)

over stages (Mantel and Haenszel 1959, drawn towards one where little is known).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

LARGEST_ODDS_RATIO = 4.0
"""Values filled in or cleared later are beyond it, values lacking from the start hardly ever: see
``python -m benchmarks.accuracy.lacking``."""
PAST_DATES = range(2, 9)
"""Past dates looked at, counted back in stays so long that nine in ten are shorter: most deals open then have moved on."""
LONG_STAY = 0.9
LEAST_STAY_DAYS = 7


@dataclass(frozen=True)
class OpenStays:
    """Stays of deals that are open now or were open at past dates.

    Parameters
    ----------
    stage : ndarray of int64, shape (stay,)
        Open stage codes.
    now : ndarray of bool, shape (stay,)
        Whether the deal is in it.
    then : ndarray of int64, shape (stay,)
        Past dates at which the deal was in it.
    """

    stage: Ints
    now: Bools
    then: Ints

    def lack_as_before(self, lacking: Bools) -> bool:
        """Whether deals open now lack something about as often as those open at past dates.

        Examples
        --------
        Of the deals open each day half are lost, and lose what is asked for with it.

        >>> entered = np.repeat(np.arange(100), 2)
        >>> left, lost = entered + 10, np.tile([False, True], 100)
        >>> stays = open_stays(stage=0 * entered, entered=entered, left=left, as_of=100)
        >>> stays.lack_as_before(lost), stays.lack_as_before(lost & (left <= 100))
        (True, False)
        """
        stages = int(self.stage.max(initial=0)) + 1
        now, then, lacks_now = (
            np.bincount(self.stage, each, stages) for each in (self.now, self.then > 0, self.now & lacking)
        )
        seen, seen_lacking = (np.bincount(self.stage, each, stages) for each in (self.then, self.then * lacking))
        lacked_then, both = then * seen_lacking / np.maximum(seen, 1.0), np.maximum(now + then, 1.0)
        more, less = (lacks_now * (then - lacked_then) / both).sum(), ((now - lacks_now) * lacked_then / both).sum()
        return bool(1.0 / LARGEST_ODDS_RATIO <= (more + 0.5) / (less + 0.5) <= LARGEST_ODDS_RATIO)


def open_stays(*, stage: Ints, entered: Ints, left: Ints, as_of: int) -> OpenStays:
    """Find out which stays were open when.

    Parameters
    ----------
    stage : ndarray of int64, shape (stay,)
        Open stage codes.
    entered, left : ndarray of int64, shape (stay,)
        Day numbers; ``left`` is later than ``as_of`` in stays that have not ended.
    as_of : int
        Day number.
    """
    days = (left - entered)[left <= as_of]
    step = max(int(np.quantile(days, LONG_STAY)), LEAST_STAY_DAYS) if len(days) else LEAST_STAY_DAYS
    dates = np.array([as_of - step * back for back in reversed(PAST_DATES)])
    return OpenStays(stage, left > as_of, np.searchsorted(dates, left) - np.searchsorted(dates, entered))


@dataclass(frozen=True)
class AmountHabits:
    """How amounts come to be lacking, as the stays known on a day show.

    Parameters
    ----------
    zero_is_amount : bool
        Whether a zero is what the deal was thought to be worth from the start; else it stands for an amount that is not
        known yet, or not any more, and counts as missing.
    missing_tells : bool
        Whether deals without an amount had none from the start, so that it may tell how they move.
    """

    zero_is_amount: bool = True
    missing_tells: bool = True

    def cleared(self, amount: Floats) -> Floats:
        """Amounts without zeros that stand for missing ones."""
        return amount if self.zero_is_amount else np.where(amount > 0.0, amount, np.nan)


AS_GIVEN = AmountHabits()
"""Amounts are what was known, whatever they are."""


def what_lacking_means(*, unknown_zeros: bool, spread: tuple[str, ...]) -> list[str]:
    """Say what was found, see :class:`forecasting.data.snapshot.Snapshot`.

    Examples
    --------
    >>> what_lacking_means(unknown_zeros=False, spread=())
    []
    """
    found = []
    if unknown_zeros:
        found.append(
            "amounts of 0 are taken for missing ones: deals open now have them far more or less often than those open at "
            "past dates, so they are set or replaced as deals move or close"
        )
    if spread:
        found.append(
            f"deals without {' or '.join(spread)} are taken for average ones: of those open now far more or fewer lack it "
            "than of those open at past dates, so it is filled in or cleared as deals move or close. Backtests, which see "
            "the values of today, may flatter"
        )
    return found


def amount_habits(at_entry: Floats, latest: Floats, stays: OpenStays) -> AmountHabits:
    """Judge amounts by the stays known on a day.

    Parameters
    ----------
    at_entry, latest : ndarray of float64, shape (stay,)
        Amount of the deal as known when the stay began, and as last known; NaN when missing.
    stays : OpenStays
    """
    zeros = AmountHabits(zero_is_amount=stays.lack_as_before(latest == 0.0))
    return AmountHabits(zeros.zero_is_amount, stays.lack_as_before(np.isnan(zeros.cleared(at_entry))))
