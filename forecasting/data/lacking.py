"""What it means that a deal lacks an amount or another value: from the start, or filled in, cleared or set to zero later.

An export tells today's values. Where sellers enter an amount at the proposal only, or a CRM clears it when a deal is lost,
all past deals without one were lost, and of the deals open now most have none yet, or all have one: what a missing amount
would tell of them is wrong, however well it told of the past. The sign of it: among the deals open now another share lacks
an amount than among those open at past dates, as the export has them today. The shares are compared stage by stage,

    odds ratio = (sum of lacking now x given then / all + 1/2) / (sum of given now x lacking then / all + 1/2)

over stages (Mantel and Haenszel 1959, drawn towards one where little is known). That deals which lack something are taken for
average ones then costs next to nothing where it was no habit but a business that changed. That zeros are taken for amounts
not known yet costs much: it is asked first whether deals that closed soon, whose values are final, changed as much, and
whether deals are won with an amount of zero. The same goes for the amount that most of the deals open now have in common,
where it stands for one not known yet.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from forecasting.data.factors import CENT

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

LARGEST_ODDS_RATIO = 4.0
"""Values filled in or cleared later are beyond it, values lacking from the start hardly ever: see
``python -m benchmarks.accuracy.lacking``."""
LOG_LIMIT = math.log(LARGEST_ODDS_RATIO)
PAST_DATES = range(2, 9)
"""Past dates looked at, counted back in stays so long that nine in ten are shorter: most deals open then have moved on."""
LONG_STAY = 0.9
LEAST_STAY_DAYS = 7
LATEST_WINS, WINS_AT_ZERO = 20, 2
"""Of so many wins, the latest, so many at zero say that deals are given away; one may be carelessness."""
PLACEHOLDER_DEALS, PLACEHOLDER_SHARE, CLOSED_SHARE = 10, 0.1, 0.05
"""Open deals with one and the same amount, and their part of all, from which on it may stand for none, if deals that closed
before kept it too: no new price."""


@dataclass(frozen=True)
class StaysCompared:
    """Stays of deals open now and at past dates, and last stays of deals closed soon after they were created.

    Parameters
    ----------
    stage : ndarray of int64, shape (stay,)
        Open stage codes.
    now : ndarray of bool, shape (stay,)
        Whether the deal is in it.
    then : ndarray of int64, shape (stay,)
        Past dates at which the deal was in it.
    closed_lately, closed_before : ndarray of bool, shape (stay,)
        Whether the deal left it to close within the days that half of all closed deals took, and was created within as
        many days before the last that tell, or earlier.
    latest_wins : ndarray of bool, shape (stay,)
        Stays that ended in the latest wins.
    """

    stage: Ints
    now: Bools
    then: Ints
    closed_lately: Bools
    closed_before: Bools
    latest_wins: Bools

    def lack_as_before(self, lacking: Bools) -> bool:
        """Whether deals open now lack something about as often as those open at past dates.

        Examples
        --------
        Of the deals open each day half are lost, and lose what is asked for with it.

        >>> entered = np.repeat(np.arange(100), 2)
        >>> left, lost = entered + 10, np.tile([False, True], 100)
        >>> one = dict(deal=np.arange(200), stage=0 * entered, entered=entered, left=left, closes=left <= 100, wins=~lost)
        >>> stays = compared(**one, as_of=100)
        >>> stays.lack_as_before(lost), stays.lack_as_before(lost & (left <= 100))
        (True, False)
        """
        return abs(self._of_open(lacking)) <= LOG_LIMIT

    def lack_as_closed(self, lacking: Bools) -> bool:
        """Whether they do, or differ as those closed soon and created lately do from those created before."""
        of_open = self._of_open(lacking)
        of_closed = _log_odds_ratio(0 * self.stage, self.closed_lately, self.closed_before.astype(np.int64), lacking)
        return abs(of_open - min(max(of_closed, min(of_open, 0.0)), max(of_open, 0.0))) <= LOG_LIMIT

    def _of_open(self, lacking: Bools) -> float:
        return _log_odds_ratio(self.stage, self.now, self.then, lacking)


def compared(
    *, deal: Ints, stage: Ints, entered: Ints, left: Ints, closes: Bools, wins: Bools, as_of: int
) -> StaysCompared:
    """Find out which stays were open when, and which deals closed soon.

    Parameters
    ----------
    deal : ndarray of int64, shape (stay,)
        Stays of a deal follow each other.
    stage : ndarray of int64, shape (stay,)
        Open stage codes.
    entered, left : ndarray of int64, shape (stay,)
        Day numbers; ``left`` is later than ``as_of`` in stays that have not ended.
    closes, wins : ndarray of bool, shape (stay,)
        Whether it ended in a closing stage, and in a win.
    as_of : int
        Day number.
    """
    days = (left - entered)[left <= as_of]
    step = max(int(np.quantile(days, LONG_STAY)), LEAST_STAY_DAYS) if len(days) else LEAST_STAY_DAYS
    dates = np.array([as_of - step * back for back in reversed(PAST_DATES)])
    first = np.diff(deal, prepend=-1) != 0
    created = entered[first][np.cumsum(first) - 1] if len(deal) else entered
    closed = closes & np.append(first[1:], True)[: len(deal)]
    cycle = left - created
    soon = max(int(np.median(cycle[closed])), LEAST_STAY_DAYS) if closed.any() else LEAST_STAY_DAYS
    tells, lately = closed & (cycle <= soon) & (created <= as_of - soon), created > as_of - 2 * soon
    then = np.searchsorted(dates, left) - np.searchsorted(dates, entered)
    latest, won = np.zeros(len(deal), dtype=bool), np.flatnonzero(closed & wins)
    latest[won[np.argsort(left[won], kind="stable")][-LATEST_WINS:]] = True
    return StaysCompared(stage, left > as_of, then, tells & lately, tells & ~lately, latest)


def _log_odds_ratio(stage: Ints, now: Bools, then: Ints, lacking: Bools) -> float:
    """Of lacking now to lacking then, ``then`` being counts of a stay."""
    stages = int(stage.max(initial=0)) + 1
    n_now, n_then, lacks_now = (np.bincount(stage, each, stages) for each in (now, then > 0, now & lacking))
    seen, seen_lacking = (np.bincount(stage, each, stages) for each in (then, then * lacking))
    lacked_then, both = n_then * seen_lacking / np.maximum(seen, 1.0), np.maximum(n_now + n_then, 1.0)
    more, less = lacks_now * (n_then - lacked_then) / both, (n_now - lacks_now) * lacked_then / both
    return float(np.log((more.sum() + 0.5) / (less.sum() + 0.5)))


@dataclass(frozen=True)
class AmountHabits:
    """How amounts come to be lacking, as the stays known on a day show.

    Parameters
    ----------
    zero_is_amount : bool
        Whether a zero is what the deal was thought to be worth; else it stands for an amount that is not known yet, or not
        any more, and counts as missing.
    lacking_tells : bool
        Whether deals without an amount, or with zero, were so from the start, so that it may tell how they move.
    placeholder : float or None
        Amount that is entered where none is known yet.
    """

    zero_is_amount: bool = True
    lacking_tells: bool = True
    placeholder: float | None = None

    @property
    def unknown(self) -> tuple[float, ...]:
        """Amounts that stand for missing ones."""
        zero = () if self.zero_is_amount else (0.0,)
        return zero if self.placeholder is None else (*zero, self.placeholder)

    def cleared(self, amount: Floats, final: Bools | None = None) -> Floats:
        """Amounts without zeros and others that stand for missing ones; those that are ``final`` stay."""
        if final is not None and final.any():
            return np.where(final, amount, self.cleared(amount))
        given = amount if self.zero_is_amount else np.where(amount >= CENT, amount, np.nan)
        return given if self.placeholder is None else np.where(given == self.placeholder, np.nan, given)


AS_GIVEN = AmountHabits()
"""Amounts are what was known, whatever they are."""


def what_lacking_means(*, unknown: tuple[float, ...], untold: tuple[str, ...]) -> list[str]:
    """Say what was found, see :class:`forecasting.data.snapshot.Snapshot`.

    Examples
    --------
    >>> what_lacking_means(unknown=(), untold=())
    []
    """
    found = []
    if unknown:
        amounts = " and ".join(f"{amount:,.6g}" for amount in unknown)
        found.append(
            f"amounts of {amounts} are taken for missing ones: deals open now have them far more or less often than "
            "those open at past dates, so they are set or replaced as deals move or close"
        )
    if untold:
        found.append(
            f"deals without {' or '.join(untold)} are taken for average ones: of those open now far more or fewer lack it "
            "than of those open at past dates, so it is filled in or cleared as deals move or close. Backtests, which see "
            "the values of today, may flatter"
        )
    return found


@dataclass(frozen=True)
class ClosedDeals:
    """Numbers of closed deals: all, the lost ones, and those that were never in an open stage, nor won when created."""

    n: int = 0
    lost: int = 0
    never_open: int = 0


NONE_CLOSED = ClosedDeals()
ENOUGH_CLOSED = 50
"""Closed deals that say something about all."""
FEW_LOST, MOST = 0.02, 0.5


def what_closed_deals_mean(closed: ClosedDeals) -> list[str]:
    """Say where closed deals tell little of open ones.

    Examples
    --------
    >>> what_closed_deals_mean(ClosedDeals(n=80, lost=50, never_open=3))
    []
    >>> print(what_closed_deals_mean(ClosedDeals(n=80, lost=1))[0])
    1 of 80 closed deals was lost: are lost deals deleted or left open? Then open deals look better than they are
    """
    found = []
    if closed.n >= ENOUGH_CLOSED and closed.lost < FEW_LOST * closed.n:
        were = f"{closed.lost} of {closed.n} closed deals {'was' if closed.lost == 1 else 'were'} lost"
        found.append(f"{were}: are lost deals deleted or left open? Then open deals look better than they are")
    if closed.n >= ENOUGH_CLOSED and closed.never_open > MOST * closed.n:
        found.append(
            f"{closed.never_open} of {closed.n} closed deals have no entry into an open stage: how deals move is hardly "
            "known, what open ones bring a guess. Export the history of stages; where there is none, give every deal one "
            "open stage, entered when it was created"
        )
    return found


def amount_habits(at_entry: Floats, latest: Floats, stays: StaysCompared) -> AmountHabits:
    """Judge amounts by the stays known on a day.

    Parameters
    ----------
    at_entry, latest : ndarray of float64, shape (stay,)
        Amount of the deal as known when the stay began, and as last known; NaN when missing.
    stays : StaysCompared
    """

    def is_amount(said: Bools) -> bool:
        return bool((said & stays.latest_wins).sum() >= WINS_AT_ZERO or stays.lack_as_closed(said))

    placeholder = usual = most_usual(latest[stays.now])
    if usual is not None:
        said, before = np.asarray(latest == usual), stays.closed_before
        kept = before.any() and said[before].mean() >= CLOSED_SHARE
        placeholder = usual if kept and not is_amount(said) else None
    given = AmountHabits(placeholder=placeholder).cleared(at_entry)
    return AmountHabits(is_amount(latest < CENT), stays.lack_as_before(~(given >= CENT)), placeholder)


def most_usual(amount: Floats) -> float | None:
    """Amount above zero that so many open deals have that it may stand for none.

    Examples
    --------
    >>> most_usual(np.array([1.0] * 12 + [300.0, 500.0])), most_usual(np.array([1.0] * 9 + [300.0, 500.0]))
    (1.0, None)
    """
    values, counts = np.unique(amount[amount >= CENT], return_counts=True)
    if not len(values) or counts.max() < max(PLACEHOLDER_DEALS, PLACEHOLDER_SHARE * len(amount)):
        return None
    return float(values[np.argmax(counts)])
