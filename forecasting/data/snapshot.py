"""What was known at the end of a business date, and nothing later: stays, open deals, wins and arrivals.

Known are the stage entries dated up to ``as_of``, with the amounts they carry. A deal's amount is the last one its
entries had told by then. Before the first it is missing, if entries tell the amounts of nearly all open deals; else, and
where they had told none, it is that of the deals table, since there is no other. The table keeps no history of segments and
further columns: for past dates these are today's values. :mod:`forecasting.data.lacking` says what it means to lack one.

A deal counts from its first stage entry on. One whose first entry closes it has no stay; if won, it is among the wins.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from hashlib import sha256
from typing import TypedDict

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from forecasting.data.beginning import (
    WHOLE,
    Beginning,
    beginning,
    days_unseen,
    deal_lives,
    has_arrived,
    what_beginning_means,
)
from forecasting.data.deal_factors import AMOUNT, check_columns, codes_of, distinct_names, factors_of, lacking
from forecasting.data.deals import Deals
from forecasting.data.factors import as_levels, distinct_cells
from forecasting.data.known_entries import KnownEntries, day_numbers, known_entries, moves_of, stays_of, won_at_once
from forecasting.data.lacking import (
    NONE_CLOSED,
    ClosedDeals,
    amount_habits,
    compared,
    what_closed_deals_mean,
    what_lacking_means,
)
from forecasting.data.open_pipeline import OpenPipeline
from forecasting.data.process_change import process_changes, what_changes_mean
from forecasting.periods import as_date
from models.errors import SettingsError
from models.history import Factor, StageHistory, count_stays
from models.stages import StageGraph

SMALL_AMOUNT = 1.0
"""Usual wins below it are told in other units than the currency's own."""


@dataclass(frozen=True)
class Snapshot:
    """The deals as known at the end of ``as_of``.

    Parameters
    ----------
    as_of : date
    graph : StageGraph
    factors : tuple of Factor
        One per segment column, then one per covariate.
    cells : ndarray of int32, shape (cell, factor)
        Level code of each factor in each cell that occurs.
    stays : DataFrame
        One row per visit of an open stage: ``deal_id``, ``cell`` (as known when the stage was entered), ``stage``,
        ``next`` (stage code, or ``STILL_OPEN``, see :func:`forecasting.data.known_entries.where_it_led`), ``days`` (until it
        left, or until ``as_of``), ``entered_on``,
        ``amount`` (currency units, as known at the end of the stay, NaN = missing), ``amount_told`` (whether the stage
        history had said it by then; else it is the deals table's, which keeps no past), ``days_unseen`` (first days of the
        stay that lie before the history is whole, beyond its end where nothing can be learned from it).
    pipeline : OpenPipeline
    won : DataFrame
        Deals whose last known stage is a won one, once each, at their last win: ``deal_id``, ``won_on``, ``amount``,
        ``segment``.
    arrivals : DataFrame
        Of deals that began while all were told: ``deal_id``, ``arrived_on`` (first entry into an open stage), ``stage``,
        ``cell``, ``amount``, ``segment``. Deals won on the day they were created, without a stage before, are among them,
        their ``stage`` being the won one.
    unknown : tuple of float
        Amounts, such as zero, that stand for amounts that are not known and count as missing.
    untold : tuple of str
        Segments and covariates whose lack tells nothing of a deal, because they are filled in or cleared later.
    beginning : Beginning
        Since when the history is whole.
    changed : ndarray of int64, shape (open stage,), or None
        Last day number before deals left each stage as they do now, see :mod:`forecasting.data.process_change`.
    closed : ClosedDeals
        How many deals have closed.
    """

    as_of: date
    graph: StageGraph
    factors: tuple[Factor, ...]
    cells: NDArray[np.int32]
    stays: pd.DataFrame
    pipeline: OpenPipeline
    won: pd.DataFrame
    arrivals: pd.DataFrame
    unknown: tuple[float, ...] = ()
    untold: tuple[str, ...] = ()
    beginning: Beginning = WHOLE
    changed: NDArray[np.int64] | None = None
    closed: ClosedDeals = NONE_CLOSED

    @property
    def notes(self) -> list[str]:
        """What the export lacks and what is made of it, for people."""
        lacks = what_lacking_means(unknown=self.unknown, untold=self.untold)
        changes = [] if self.changed is None else what_changes_mean(self.changed, self.graph.open)
        found = lacks + what_beginning_means(self.beginning) + changes + what_closed_deals_mean(self.closed)
        if not self.won["amount"].notna().any():
            found.append(
                f"no deal was won with an amount by {self.as_of}: how many will be follows mostly from what is assumed "
                "beforehand, and amounts not known yet from those of deals of any fate"
            )
        brought = self.won["amount"][self.won["amount"] > 0.0]
        if brought.median() < SMALL_AMOUNT:
            found.append(
                f"half of the wins brought less than {SMALL_AMOUNT:g}: revenue is counted in hundredths, so amounts in "
                "thousands or millions lose their digits; bring them in whole units of the currency"
            )
        return found

    @property
    def n_deals(self) -> int:
        """Number of deals that have been in an open stage."""
        return int(self.stays["deal_id"].nunique())

    @property
    def learned_stays(self) -> pd.DataFrame:
        """Stays that were watched, at least at their end."""
        return self.stays[self.stays["days_unseen"] <= self.stays["days"]]

    def content_hash(self) -> str:
        """SHA-256 of all that is in the snapshot."""
        digest = sha256(repr((self.as_of, self.graph.stages, self.factors, self.cells.shape)).encode())
        digest.update(self.cells.tobytes())
        for table in (self.stays, self.pipeline.deals, self.won, self.arrivals):
            digest.update(repr(tuple(table.columns)).encode())
            digest.update(pd.util.hash_pandas_object(table, index=False).to_numpy().tobytes())
        return digest.hexdigest()


def cut(
    deals: Deals,
    *,
    as_of: date | str,
    segment: Sequence[str] = (),
    covariates: Sequence[str] = (),
    factors: Sequence[Factor] | None = None,
) -> Snapshot:
    """Cut the deals at the end of a business date.

    Parameters
    ----------
    deals : Deals
    as_of : date or ISO text
    segment : sequence of str
        Columns whose values tell segments apart.
    covariates : sequence of str
        ``"amount"`` (also ``"log_amount"``), ``"looped"``, or columns: amounts are cut into at most eight
        classes, other numbers into five.
    factors : sequence of Factor, optional
        Levels and classes of an earlier fit to map onto, in the same order; a level they lack is ``UNSEEN_LEVEL``, a value
        that is missing without a level for it counts as an average one.

    Raises
    ------
    EmptyInputError
        Nothing had happened by then.
    SettingsError
        A column does not exist, or ``factors`` are not those of the segment and the covariates.

    Examples
    --------
    >>> from forecasting.data.deals import deals_from_frames
    >>> graph = StageGraph(open=["Lead"], won=["Won"], lost=["Lost"])
    >>> table = pd.DataFrame({"deal_id": ["A", "B"], "created_at": "2026-01-05", "amount": [900.0, 50.0]})
    >>> rows = [("A", "Lead", "2026-01-05"), ("B", "Lead", "2026-01-05"), ("A", "Won", "2026-02-01")]
    >>> history = pd.DataFrame(rows, columns=["deal_id", "stage", "entered_at"])
    >>> snapshot = cut(deals_from_frames(table, history, stages=graph), as_of="2026-01-31")
    >>> snapshot.pipeline.deals[["deal_id", "days_in_stage"]].values.tolist(), len(snapshot.won)
    ([['A', 26], ['B', 26]], 0)
    """
    day = as_date(as_of)
    segment, covariates = distinct_names(segment, "segment"), distinct_names(covariates, "covariates")
    check_columns(deals, segment=segment, covariates=covariates)
    known = known_entries(deals, day)
    stays, labels = stays_of(known, deals.graph), _segment_labels(deals, segment)
    told_of_stays = _told_of_stays(stays, deals.graph)
    rows, stays_compared = stays["row"].to_numpy(), compared(**told_of_stays, as_of=known.today)
    lives = deal_lives(**told_of_stays, created=_created(deals, stays), as_of=known.today)
    begun = beginning(lives)
    changed = _changes(stays, deals.graph)
    deal, entered = told_of_stays["deal"], told_of_stays["entered"]
    stays["days_unseen"] = days_unseen(begun, deal=deal, entered=entered, changed=changed[told_of_stays["stage"]])
    of_deal = np.searchsorted(known.last, rows)
    habits = amount_habits(known.amount[rows], known.amount[known.last[of_deal]], stays_compared)
    at_once = _won_at_once(deals, known, begun)
    known = replace(known, amount=habits.cleared(known.amount, np.isin(known.deal, known.deal[at_once])))

    def tells(name: str) -> bool:
        return stays_compared.lack_as_before(lacking(deals, known, name)[of_deal])

    asked = segment + covariates
    untold = tuple(name for name in asked if not (habits.lacking_tells if name == AMOUNT else tells(name)))
    found = factors_of(deals, known, segment, covariates, untold=untold) if factors is None else tuple(factors)
    if (names := tuple(factor.name for factor in found)) != asked:
        raise SettingsError(f"factors {names} do not belong to segment and covariates {asked}")
    open_now = known.last[known.stage[known.last] < deals.graph.n_open]
    looped = stays["looped"].to_numpy()
    told_at = np.concatenate([rows, open_now, at_once])
    looped_by = np.concatenate([looped, looped[stays["current"].to_numpy()], np.zeros(len(at_once), dtype=np.bool_)])
    cells, place = distinct_cells(codes_of(deals, known, found, told_at, looped_by))
    of_stays, of_open, of_wins = np.split(place, [len(stays), len(stays) + len(open_now)])
    ends = stays["row_end"].to_numpy()
    stays["cell"], stays["amount"], stays["amount_told"] = of_stays, known.amount[ends], known.told[ends]
    ids, first = deals.deals["deal_id"].to_numpy(dtype=object), ~stays["deal"].duplicated().to_numpy()
    arrived = np.append(rows[first], at_once), np.append(of_stays[first], of_wins)
    are_new = np.append(has_arrived(begun, lives), np.ones(len(at_once), dtype=np.bool_))
    return Snapshot(
        as_of=day,
        graph=deals.graph,
        factors=found,
        cells=cells,
        stays=_stay_table(stays, ids),
        pipeline=_pipeline(deals, stays, of_open, cells, labels, day),
        won=_won(deals, known, labels),
        arrivals=_arrived(_arrivals(known, *arrived, ids, labels), are_new),
        unknown=habits.unknown,
        untold=untold,
        beginning=begun,
        changed=changed,
        closed=_closed(known, np.append(deal, known.deal[at_once]), deals.graph),
    )


def within(snapshot: Snapshot, window_days: int) -> Snapshot:
    """Leave out stays, wins and arrivals that began before a window of days up to the as-of date; open deals stay."""
    since = pd.Timestamp(snapshot.as_of - timedelta(days=window_days))
    return replace(
        snapshot,
        stays=snapshot.stays[snapshot.stays["entered_on"] > since],
        won=snapshot.won[snapshot.won["won_on"] > since],
        arrivals=snapshot.arrivals[snapshot.arrivals["arrived_on"] > since],
    )


def stage_history(snapshot: Snapshot) -> StageHistory:
    """Count the distinct stays: what the stage model is fitted to."""
    return StageHistory(snapshot.graph, count_stays(snapshot.learned_stays), snapshot.factors, snapshot.cells)


def _dates(days: NDArray[np.int64]) -> NDArray[np.datetime64]:
    return days.astype("datetime64[D]").astype("datetime64[ns]")


class _ToldOfStays(TypedDict):
    """What is asked of each stay to judge the history."""

    deal: NDArray[np.int64]
    stage: NDArray[np.int64]
    entered: NDArray[np.int64]
    left: NDArray[np.int64]
    closes: NDArray[np.bool_]
    wins: NDArray[np.bool_]


def _told_of_stays(stays: pd.DataFrame, graph: StageGraph) -> _ToldOfStays:
    entered, following = stays["day"].to_numpy(), stays["next"].to_numpy()
    return _ToldOfStays(
        deal=stays["deal"].to_numpy(),
        stage=stays["stage"].to_numpy(),
        entered=entered,
        left=entered + stays["days"].to_numpy() + stays["current"].to_numpy(),
        closes=following >= graph.n_open,
        wins=np.isin(following, graph.won_codes),
    )


def _changes(stays: pd.DataFrame, graph: StageGraph) -> NDArray[np.int64]:
    stage, following, entered = (stays[name].to_numpy() for name in ("stage", "left_for", "day"))
    left = entered + stays["days"].to_numpy()  # of stays that have not ended nothing is asked
    return process_changes(stage=stage, following=following, entered=entered, left=left, n_open=graph.n_open)


def _closed(known: KnownEntries, told: NDArray[np.int64], graph: StageGraph) -> ClosedDeals:
    """Count closed deals, those apart of which is not ``told`` how they came there."""
    stage, deal = known.stage[known.last], known.deal[known.last]
    closed, lost = stage >= graph.n_open, np.isin(stage, graph.lost_codes)
    return ClosedDeals(int(closed.sum()), int(lost.sum()), int((closed & ~np.isin(deal, told)).sum()))


def _created(deals: Deals, stays: pd.DataFrame) -> NDArray[np.int64]:
    """Day each stay's deal was created."""
    created: NDArray[np.int64] = day_numbers(deals.deals["created_on"])[stays["deal"].to_numpy()]
    return created


def _segment_labels(deals: Deals, segment: tuple[str, ...]) -> NDArray[np.object_]:
    if not segment:
        return np.full(deals.n_deals, "", dtype=object)
    columns = [pd.Series(as_levels(deals.deals[name].to_numpy())) for name in segment]
    label = columns[0]
    for column in columns[1:]:
        label = label + " / " + column
    return label.to_numpy(dtype=object)


def _stay_table(stays: pd.DataFrame, ids: NDArray[np.object_]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "deal_id": ids[stays["deal"].to_numpy()],
            "cell": stays["cell"].to_numpy(),
            "stage": stays["stage"].to_numpy(),
            "next": stays["next"].to_numpy(),
            "days": stays["days"].to_numpy(),
            "entered_on": _dates(stays["day"].to_numpy()),
            "amount": stays["amount"].to_numpy(),
            "amount_told": stays["amount_told"].to_numpy(),
            "days_unseen": stays["days_unseen"].to_numpy(),
        }
    )


def _pipeline(
    deals: Deals,
    stays: pd.DataFrame,
    cell: NDArray[np.int64],
    cells: NDArray[np.int32],
    labels: NDArray[np.object_],
    as_of: date,
) -> OpenPipeline:
    current = stays[stays["current"]]
    deal = current["deal"].to_numpy()
    table = deals.deals
    owner = table["owner"].to_numpy(dtype=object)[deal] if "owner" in table else np.full(len(deal), None, dtype=object)
    rows = pd.DataFrame(
        {
            "deal_id": table["deal_id"].to_numpy(dtype=object)[deal],
            "stage": current["stage"].to_numpy(),
            "days_in_stage": current["days"].to_numpy(),
            "amount": current["amount"].to_numpy(),
            "cell": cell,
            "segment": labels[deal],
            "owner": owner,
        }
    )
    return OpenPipeline(deals.graph, as_of, rows, cells)


def _won(deals: Deals, known: KnownEntries, labels: NDArray[np.object_]) -> pd.DataFrame:
    last_move = known.moves[np.searchsorted(known.moves, known.last, side="right") - 1]
    won = np.isin(known.stage[known.last], deals.graph.won_codes)
    deal = known.deal[known.last[won]]
    return pd.DataFrame(
        {
            "deal_id": deals.deals["deal_id"].to_numpy(dtype=object)[deal],
            "won_on": _dates(known.day[last_move[won]]),
            "amount": known.amount[known.last[won]],
            "segment": labels[deal],
        }
    )


def _arrived(arrivals: pd.DataFrame, arrived: NDArray[np.bool_]) -> pd.DataFrame:
    """Leave out deals that did not arrive when they first appear; of a segment in which none did, all count."""
    known = pd.Series(arrived, index=arrivals.index).groupby(arrivals["segment"]).transform("any")
    return arrivals[arrived | ~known.astype(bool)].reset_index(drop=True)


def _won_at_once(deals: Deals, known: KnownEntries, history: Beginning) -> NDArray[np.int64]:
    """Entries of deals that were entered as won, while all were told."""
    moves, created = moves_of(known), day_numbers(deals.deals["created_on"])
    place, _ = won_at_once(moves, created, today=known.today, n_open=deals.graph.n_open, won=deals.graph.won_codes)
    return np.asarray(known.moves[place[history.tells(moves.day[place])]])


def _arrivals(
    known: KnownEntries,
    rows: NDArray[np.int64],
    cell: NDArray[np.int64],
    ids: NDArray[np.object_],
    labels: NDArray[np.object_],
) -> pd.DataFrame:
    """Deals that arrived with the given entries."""
    deal = known.deal[rows]
    return pd.DataFrame(
        {
            "deal_id": ids[deal],
            "arrived_on": _dates(known.day[rows]),
            "stage": known.stage[rows],
            "cell": cell,
            "amount": known.amount[rows],
            "segment": labels[deal],
        }
    )
