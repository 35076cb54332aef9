"""From an open pipeline to the arrays kernels take: deals sorted into groups that share their fate's probabilities."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from forecasting.engine.amounts import CENTS, AmountDraws, DealArrays

if TYPE_CHECKING:
    from forecasting.data.open_pipeline import OpenPipeline
    from models.amounts import AmountPosterior


@dataclass(frozen=True)
class GroupedDeals:
    """Open deals as the samplers take them.

    Parameters
    ----------
    arrays : DealArrays
        Sorted by (cell, stage, days in stage); ``group_cell`` counts rows of ``cells``.
    cells : ndarray of int32, shape (cell, factor)
        Only the cells that hold an open deal.
    group_of_deal : ndarray of int32, shape (deal,)
        Group of each deal in the order of the pipeline.
    segments : tuple of str
        Segment labels, sorted.
    """

    arrays: DealArrays
    cells: NDArray[np.int32]
    group_of_deal: NDArray[np.int32]
    segments: tuple[str, ...]

    @property
    def max_age(self) -> int:
        """Most days any deal has spent in its stage; -1 without deals."""
        return int(self.arrays.group_age.max(initial=-1))


def group_deals(pipeline: "OpenPipeline", amounts: "AmountPosterior | None") -> GroupedDeals:
    """Sort and group the open deals and translate ids, segments and amounts into numbers."""
    deals = pipeline.deals
    cell, stage, age = (deals[name].to_numpy(dtype=np.int64) for name in ("cell", "stage", "days_in_stage"))
    is_used = np.bincount(cell, minlength=len(pipeline.cells)) > 0
    used_cells, cell = np.flatnonzero(is_used), (np.cumsum(is_used) - 1)[cell]
    ages = int(age.max(initial=0)) + 1
    code = (cell * pipeline.graph.n_open + stage) * ages + age
    few = code.max(initial=0) <= np.iinfo(np.uint16).max  # short numbers are sorted in linear time
    order = np.argsort(code.astype(np.uint16) if few else code, kind="stable")
    sorted_code = code[order]
    starts = np.flatnonzero(np.r_[True, sorted_code[1:] != sorted_code[:-1]]) if len(code) else np.empty(0, np.int64)
    group = np.zeros(len(code), dtype=np.int32)
    group[starts[1:]] = 1
    group = np.cumsum(group, dtype=np.int32)
    segments, segment = pipeline.segment_codes
    first = order[starts]
    amount = deals["amount"].to_numpy(dtype=np.float64)
    known = np.nan_to_num(amount)[order]
    arrays = DealArrays(
        group_cell=cell[first],
        group_stage=stage[first],
        group_age=age[first],
        group=group,
        key=pipeline.deal_keys[order],
        amount=known,
        cents=np.floor(known * CENTS + 0.5).astype(np.int64),
        segment=segment[order],
        pool_group=_pool_groups(amount, segment, stage, segments, amounts)[order],
    )
    group_of_deal = np.empty(len(code), dtype=np.int32)
    group_of_deal[order] = group
    return GroupedDeals(arrays, pipeline.cells[used_cells], group_of_deal, segments)


def _pool_groups(
    amount: NDArray[np.float64],
    segment: NDArray[np.int32],
    stage: NDArray[np.int64],
    segments: tuple[str, ...],
    amounts: "AmountPosterior | None",
) -> NDArray[np.int32]:
    """Amount pool of each deal whose amount is missing, -1 for the others."""
    groups = np.full(len(amount), -1, dtype=np.int32)
    missing = np.flatnonzero(np.isnan(amount))
    if amounts is None or not len(missing):
        return groups
    for label, code in sorted({(int(segment[i]), int(stage[i])) for i in missing}):
        rows = missing[(segment[missing] == label) & (stage[missing] == code)]
        groups[rows] = amounts.missing_group(segments[label], code)
    return groups


def amount_draws(amounts: "AmountPosterior | None", draws: NDArray[np.int64], n_stages: int) -> AmountDraws:
    """The amount model's arrays for some draws; without a model amounts stay as they are."""
    if amounts is None:
        flat = np.ones((len(draws), n_stages))
        return AmountDraws(flat, flat, flat, np.zeros(1), np.array([0, 1]), np.zeros((len(draws), 1)), True)
    return AmountDraws(
        np.ascontiguousarray(amounts.same_probability[draws]),
        np.ascontiguousarray(amounts.log_ratio_mean[draws]),
        np.ascontiguousarray(amounts.log_ratio_sd[draws]),
        np.ascontiguousarray(amounts.pool, dtype=np.float64),
        np.ascontiguousarray(amounts.pool_start, dtype=np.int64),
        np.ascontiguousarray(amounts.pool_log_scale[draws]),
    )


def pick_groups(deals: DealArrays, wanted: NDArray[np.bool_]) -> tuple[DealArrays, NDArray[np.intp]]:
    """The deals of the groups marked in ``wanted``, groups renumbered from zero, and the places of these deals."""
    place, number = np.flatnonzero(wanted[deals.group]), (np.cumsum(wanted) - 1).astype(np.int32)
    return _part(deals, wanted, place, number[deals.group[place]]), place


def slice_groups(deals: DealArrays, first: int, last: int) -> DealArrays:
    """The deals of groups ``first .. last - 1``, groups renumbered from zero."""
    if first == 0 and last == len(deals.group_cell):
        return deals
    place = slice(*np.searchsorted(deals.group, [first, last]).tolist())
    return _part(deals, slice(first, last), place, deals.group[place] - np.int32(first))


def _part(
    deals: DealArrays, groups: slice | NDArray[np.bool_], place: slice | NDArray[np.intp], group: NDArray[np.int32]
) -> DealArrays:
    """Some groups and their deals, which are told their new ``group``."""
    return DealArrays(
        deals.group_cell[groups],
        deals.group_stage[groups],
        deals.group_age[groups],
        group,
        deals.key[place],
        deals.amount[place],
        deals.cents[place],
        deals.segment[place],
        deals.pool_group[place],
    )
