"""What was known at the end of a business date, and nothing later: stays, open deals, wins and arrivals.

Known are the stage entries dated up to ``as_of``, with the amounts they carry. A deal's amount is the last one its
entries had told by then. Only a deal of which they had told none takes the amount of the deals table, since there is no
other; so do segments and further columns, of which the table keeps no history: for past dates these are today's values.

A deal counts from its first stage entry on. One whose first entry closes it has no stay; if won, it is among the wins.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from difflib import get_close_matches
from hashlib import sha256

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from forecasting.data.deals import Deals
from forecasting.data.factors import (
    MIN_CLASS_DEALS,
    as_dates,
    as_levels,
    category_factor,
    distinct_cells,
    is_number,
    level_codes,
    number_factor,
)
from forecasting.data.open_pipeline import OpenPipeline
from forecasting.periods import as_date
from models.errors import EmptyInputError, SettingsError
from models.history import STILL_OPEN, Factor, StageHistory, count_stays
from models.stages import StageGraph

AMOUNT, LOG_AMOUNT, LOOPED = "amount", "log_amount", "looped"
"""Covariates that are not columns: the amount known at the time (cut into classes, so its log is the same), and whether
the deal had been in the stage or a later one before."""
OVERWRITTEN = 1 / 3
"""Part of the closed deals whose date is that of closing, beyond which it is not what was expected of them before."""
TOLD, MIN_LEVEL_DEALS = 0.99, 20
"""Part of the closed deals, in levels of so many, that no covariate known beforehand tells won from lost."""
_LOOPED_FACTOR = Factor(LOOPED, ("no", "yes"))


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
        ``next`` (stage code, or ``STILL_OPEN``), ``days`` (until it left, or until ``as_of``), ``entered_on``,
        ``amount`` (currency units, as known at the end of the stay, NaN = missing), ``amount_told`` (whether the stage
        history had said it by then; else it is the deals table's, which keeps no past).
    pipeline : OpenPipeline
    won : DataFrame
        Deals whose last known stage is a won one, once each, at their last win: ``deal_id``, ``won_on``, ``amount``,
        ``segment``.
    arrivals : DataFrame
        ``deal_id``, ``arrived_on`` (first entry into an open stage), ``stage``, ``cell``, ``amount``, ``segment``.
    """

    as_of: date
    graph: StageGraph
    factors: tuple[Factor, ...]
    cells: NDArray[np.int32]
    stays: pd.DataFrame
    pipeline: OpenPipeline
    won: pd.DataFrame
    arrivals: pd.DataFrame

    def content_hash(self) -> str:
        """SHA-256 of all that is in the snapshot."""
        digest = sha256(repr((self.as_of, self.graph.stages, self.factors, self.cells.shape)).encode())
        digest.update(self.cells.tobytes())
        for table in (self.stays, self.pipeline.deals, self.won, self.arrivals):
            digest.update(repr(tuple(table.columns)).encode())
            digest.update(pd.util.hash_pandas_object(table, index=False).to_numpy().tobytes())
        return digest.hexdigest()


@dataclass(frozen=True)
class _Known:
    """Entries known at the as-of date, in order: arrays over entries; ``moves`` and ``last`` are places in them."""

    deal: NDArray[np.int64]
    stage: NDArray[np.int64]
    day: NDArray[np.int64]
    amount: NDArray[np.float64]
    told: NDArray[np.bool_]
    moves: NDArray[np.int64]
    last: NDArray[np.int64]
    today: int


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
        ``"amount"`` (also ``"log_amount"``), ``"looped"``, or columns: numbers are cut into at most five classes.
    factors : sequence of Factor, optional
        Levels and classes of an earlier fit to map onto, in the same order; a level they lack is ``UNSEEN_LEVEL``.

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
    segment, covariates = (
        _names(segment, "segment"),
        tuple(_canonical(name) for name in _names(covariates, "covariates")),
    )
    check_columns(deals, segment=segment, covariates=covariates)
    known = _known(deals, day)
    stays = _stays(known, deals.graph)
    labels = _segment_labels(deals, segment)
    found = _factors(deals, known, segment, covariates) if factors is None else tuple(factors)
    names = tuple(factor.name for factor in found)
    if names != segment + covariates:
        raise SettingsError(f"factors {names} do not belong to segment and covariates {segment + covariates}")
    open_now = known.last[known.stage[known.last] < deals.graph.n_open]
    at_entry = _codes(deals, known, found, stays["row"].to_numpy(), stays["looped"].to_numpy())
    looped_now = stays["looped"].to_numpy()[stays["next"].to_numpy() == STILL_OPEN]
    now = _codes(deals, known, found, open_now, looped_now)
    cells, place = distinct_cells(np.concatenate([at_entry, now]))
    ends = stays["row_end"].to_numpy()
    stays["cell"], stays["amount"], stays["amount_told"] = place[: len(stays)], known.amount[ends], known.told[ends]
    ids = deals.deals["deal_id"].to_numpy(dtype=object)
    return Snapshot(
        as_of=day,
        graph=deals.graph,
        factors=found,
        cells=cells,
        stays=_stay_table(stays, ids),
        pipeline=_pipeline(deals, stays, place[len(stays) :], cells, labels, day),
        won=_won(deals, known, labels),
        arrivals=_arrivals(stays, known, ids, labels),
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
    return StageHistory(snapshot.graph, count_stays(snapshot.stays), snapshot.factors, snapshot.cells)


def _names(names: Sequence[str], what: str) -> tuple[str, ...]:
    given = (names,) if isinstance(names, str) else tuple(names)
    if len(set(given)) < len(given):
        raise SettingsError(f"{what} names a column twice: {', '.join(given)}")
    return given


def _canonical(name: str) -> str:
    return AMOUNT if name == LOG_AMOUNT else name


def check_columns(deals: Deals, *, segment: Sequence[str], covariates: Sequence[str]) -> None:
    """Raise a SettingsError where a segment or a covariate is not among the columns of the deals, or is both."""
    columns = [name for name in deals.deals.columns if name not in {"deal_id", "created_on", "amount"}]
    for what, names, known in (
        ("segment", segment, columns),
        ("covariates", covariates, [*columns, AMOUNT, LOG_AMOUNT, LOOPED]),
    ):
        for name in names:
            if name not in known:
                close = get_close_matches(name, known, n=1)
                hint = f"; did you mean {close[0]!r}?" if close else ""
                raise SettingsError(
                    f"{what}: the deals have no column {name!r}; there are {', '.join(known) or 'none'}{hint}"
                )
    twice = sorted(set(segment) & set(covariates))
    if twice:
        raise SettingsError(f"{', '.join(twice)} cannot be a segment and a covariate at once; name it in one of them")


def _days(column: pd.Series) -> NDArray[np.int64]:
    return column.to_numpy().astype("datetime64[D]").astype(np.int64)


def _dates(days: NDArray[np.int64]) -> NDArray[np.datetime64]:
    return days.astype("datetime64[D]").astype("datetime64[ns]")


def _known(deals: Deals, as_of: date) -> _Known:
    entries, today = deals.entries, int(np.datetime64(as_of, "D").astype(np.int64))
    all_days = _days(entries["entered_on"])
    rows = np.flatnonzero(all_days <= today)
    if len(rows) == 0:
        raise EmptyInputError(
            f"nothing had happened by {as_of}: the first stage entry is on {entries['entered_on'].min().date()}; "
            "choose a later as-of date"
        )
    deal = entries["deal"].to_numpy()[rows].astype(np.int64)
    first = np.flatnonzero(np.diff(deal, prepend=-1))
    last = np.append(first[1:], len(deal)) - 1
    said = entries["amount"].to_numpy()[rows]
    # the last entry up to each one that tells an amount, if it belongs to the same deal
    source = np.maximum.accumulate(np.where(np.isnan(said), -1, np.arange(len(said))))
    told = source >= np.repeat(first, last - first + 1)
    amount = np.where(told, said[source], deals.deals["amount"].to_numpy()[deal])
    return _Known(
        deal=deal,
        stage=entries["stage"].to_numpy()[rows].astype(np.int64),
        day=all_days[rows],
        amount=amount,
        told=told,
        moves=np.flatnonzero(entries["moved"].to_numpy()[rows]),
        last=last,
        today=today,
    )


def _stays(known: _Known, graph: StageGraph) -> pd.DataFrame:
    """One row per visit of an open stage; ``row`` and ``row_end`` are its first and last entry."""
    moves = known.moves
    deal, stage, day = known.deal[moves], known.stage[moves], known.day[moves]
    ends = np.append(deal[1:] != deal[:-1], True)
    following = np.where(ends, STILL_OPEN, np.append(stage[1:], STILL_OPEN))
    left = np.where(ends, known.today, np.append(day[1:], known.today))
    # the furthest open stage entered before, per deal: terminal stages do not count as progress
    reached = np.where(stage < graph.n_open, stage, -1) + deal * (graph.n_open + 1)
    furthest = np.concatenate([[-1], np.maximum.accumulate(reached)[:-1]]) - deal * (graph.n_open + 1)
    table = pd.DataFrame(
        {
            "deal": deal,
            "stage": stage,
            "next": following,
            "days": left - day,
            "day": day,
            "row": moves,
            "row_end": np.append(moves[1:], len(known.deal)) - 1,
            "looped": furthest >= stage,
        }
    )
    return table[stage < graph.n_open].reset_index(drop=True)


def _segment_labels(deals: Deals, segment: tuple[str, ...]) -> NDArray[np.object_]:
    if not segment:
        return np.full(deals.n_deals, "", dtype=object)
    columns = [pd.Series(as_levels(deals.deals[name].to_numpy())) for name in segment]
    label = columns[0]
    for column in columns[1:]:
        label = label + " / " + column
    return label.to_numpy(dtype=object)


def _factors(deals: Deals, known: _Known, segment: tuple[str, ...], covariates: tuple[str, ...]) -> tuple[Factor, ...]:
    """Levels and classes of the deals known at the as-of date."""
    present = known.deal[known.last]
    amount = known.amount[known.last]
    found = []
    for name in (*segment, *covariates):
        if name == LOOPED:
            found.append(_LOOPED_FACTOR)
        elif name == AMOUNT:
            found.append(number_factor(AMOUNT, amount, weights=np.sqrt(np.nan_to_num(amount))))
        else:
            values = deals.deals[name].to_numpy()[present]
            numbers = None if name in segment else _numbers(deals, name, present)
            if numbers is None or np.isnan(numbers).all() or (np.isnan(numbers) & pd.notna(values)).any():
                found.append(category_factor(name, values))
                level = level_codes(found[-1], as_levels(values))
            else:
                found.append(number_factor(name, numbers))
                level = level_codes(found[-1], numbers)
            _check_not_overwritten(deals, known, name, level)
    return tuple(found)


def _numbers(deals: Deals, name: str, rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """Take a column as numbers, dates as days since the deal was created; NaN where it is neither."""
    column = pd.Series(deals.deals[name].to_numpy()[rows])
    numbers = pd.to_numeric(column, errors="coerce").to_numpy(dtype=np.float64)
    if column.dtype.kind != "M" and not np.isnan(numbers).all():
        return numbers
    days = as_dates(column).to_numpy() - deals.deals["created_on"].to_numpy()[rows]
    return np.asarray(days / np.timedelta64(1, "D"), dtype=np.float64)


def _check_not_overwritten(deals: Deals, known: _Known, name: str, level: NDArray[np.int32]) -> None:
    """Raise a SettingsError where a column of closed deals is what became of them, by its ``level`` of each known deal.

    A date is the day of closing, or levels tell won from lost nearly without fail.
    """
    stage = known.stage[known.last]
    closed = np.flatnonzero(stage >= deals.graph.n_open)
    if len(closed) < MIN_CLASS_DEALS:
        return
    last = known.last[closed]
    dates = as_dates(pd.Series(deals.deals[name].to_numpy()[known.deal[last]])).to_numpy()
    same = float((dates == _dates(known.day[last])).mean())
    won = stage[closed] < deals.graph.n_open + len(deals.graph.won)
    by_level = np.stack([np.bincount(level[closed], which) for which in (won, ~won)])
    common = by_level[:, by_level.sum(axis=0) >= MIN_LEVEL_DEALS]
    told = 1.0 - common.min(axis=0).sum() / max(common.sum(), 1.0)
    if same > OVERWRITTEN:
        what = f"is the very day of closing in {same:.0%}"
    elif told >= TOLD and common.sum() > 0.8 * len(closed) and common.sum(axis=1).min() > 0.1 * common.sum():
        what = f"tells won from lost in {told:.1%}"
    else:
        return
    raise SettingsError(
        f"segment or covariates: {name} {what} of closed deals: it was filled in or overwritten when they closed, which tells "
        "the past what came and open deals nothing; leave it out, or bring it as it was when the deal was created"
    )


def _codes(
    deals: Deals, known: _Known, factors: tuple[Factor, ...], rows: NDArray[np.int64], looped: NDArray[np.bool_]
) -> NDArray[np.int32]:
    """Level codes [row, factor] as known at the given entries."""
    codes = np.zeros((len(rows), len(factors)), dtype=np.int32)
    for column, factor in enumerate(factors):
        if factor.name == LOOPED:
            codes[:, column] = looped
        elif factor.name == AMOUNT:
            codes[:, column] = level_codes(factor, known.amount[rows])
        else:
            present = known.deal[known.last]
            values = deals.deals[factor.name].to_numpy()[present]
            mapped = _numbers(deals, factor.name, present) if is_number(factor) else as_levels(values)
            by_deal = np.zeros(deals.n_deals, dtype=np.int32)
            by_deal[present] = level_codes(factor, mapped)
            codes[:, column] = by_deal[known.deal[rows]]
    return codes


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
    current = stays[stays["next"] == STILL_OPEN]
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


def _won(deals: Deals, known: _Known, labels: NDArray[np.object_]) -> pd.DataFrame:
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


def _arrivals(
    stays: pd.DataFrame, known: _Known, ids: NDArray[np.object_], labels: NDArray[np.object_]
) -> pd.DataFrame:
    first = stays[~stays["deal"].duplicated()]
    deal = first["deal"].to_numpy()
    return pd.DataFrame(
        {
            "deal_id": ids[deal],
            "arrived_on": _dates(first["day"].to_numpy()),
            "stage": first["stage"].to_numpy(),
            "cell": first["cell"].to_numpy(),
            "amount": known.amount[first["row"].to_numpy()],
            "segment": labels[deal],
        }
    )
