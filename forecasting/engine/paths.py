"""The path sampler: every deal played stay by stay, for questions about the way and not only its end.

A stay ends on the first day d with S[d + 1] <= u S[a + 1], u uniform, a the days already spent; then the next stage is
drawn with the shares of that day's hazards. Random numbers are addressed by (seed, draw, deal, number of the stay). Days
are days of progress (:mod:`forecasting.engine.clock`), told in forecast days where something is counted or recorded. It
shares the survival table with the renewal equations and nothing else, so that each checks the other.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from forecasting.engine.amounts import AmountDraws, DealArrays, amount_keys, win_cents
from forecasting.engine.clock import Calendar, forecast_day, make_calendar
from forecasting.engine.compiled import jit_inline, jit_kernel
from forecasting.engine.exits import exit_probabilities, survival_by_day
from forecasting.engine.streams import STEP_STAY, TO_UNIT_32, draw_key, mix

GUIDES = 256
"""Entries of the table that tells where in the survival curve to start looking."""
STILL_HERE = -1
"""Next stage of a stay that outlasts the horizon."""


class PathTotals(NamedTuple):
    """What the paths of one draw add up to.

    ``cents`` and number of ``wins`` by (period, segment); ``moves[period, code]`` counts arrivals minus departures,
    ``entries`` and ``returns`` by (period, open stage): deals that entered it, and those of them that had been there
    before (since the as-of date, their stage on that date included).
    """

    cents: NDArray[np.int64]
    wins: NDArray[np.int32]
    moves: NDArray[np.int32]
    entries: NDArray[np.int32]
    returns: NDArray[np.int32]


class StayRows(NamedTuple):
    """Stays, one row each: draw, deal (its place in the arrays), stage, forecast days entered and left, next code.

    Day 0 or less is the past; a stay that outlasts the horizon has next ``STILL_HERE`` and is left on the day after it.
    """

    draw: NDArray[np.int32]
    deal: NDArray[np.int32]
    stage: NDArray[np.int16]
    entered: NDArray[np.int32]
    left: NDArray[np.int32]
    next: NDArray[np.int16]


class StageTables(NamedTuple):
    """Of one draw and cell: survival by (stage, day), its units, whether they ever change, where to start looking.

    ``survival`` and ``rescale`` as in :func:`forecasting.engine.exits.survival_by_day`, ``plain[stage]``,
    ``guide[stage, GUIDES]``.
    """

    survival: NDArray[np.float64]
    rescale: NDArray[np.float64]
    plain: NDArray[np.bool_]
    guide: NDArray[np.int32]


class Travellers(NamedTuple):
    """Deals under way: place in the arrays, stage, day of progress entered, first day of stay still to come, stages seen."""

    deal: NDArray[np.int32]
    stage: NDArray[np.int16]
    entered: NDArray[np.int32]
    start: NDArray[np.int32]
    seen: NDArray[np.uint64]


class Leavers(NamedTuple):
    """Deals whose stay ends before the horizon: place among those under way, level of survival at the end, random bits.

    Where units change, the level is minus one minus the day of the stay.
    """

    at: NDArray[np.int32]
    target: NDArray[np.float64]
    bits: NDArray[np.uint64]


@jit_kernel
def empty_tables(n_stages: int, n_days: int) -> StageTables:
    """Room for the tables."""
    return StageTables(
        np.empty((n_stages, n_days + 1)),
        np.empty((n_stages, n_days + 1)),
        np.empty(n_stages, dtype=np.bool_),
        np.empty((n_stages, GUIDES), dtype=np.int32),
    )


@jit_kernel
def fill_tables(stay: NDArray[np.float64], tables: StageTables) -> None:
    """Fill the tables from the probabilities to stay of one draw and cell."""
    n_stages, n_days = stay.shape
    for k in range(n_stages):
        survival = tables.survival[k]
        tables.plain[k] = not survival_by_day(stay[k], survival, tables.rescale[k])
        day = 0
        for entry in range(GUIDES - 1, -1, -1):  # the curve falls: high values come first
            while tables.plain[k] and day < n_days - 1 and survival[day + 1] * GUIDES > entry + 1:
                day += 1
            tables.guide[k, entry] = day


@jit_inline
def _exit_day(tables: StageTables, stage: int, start: int, stop: int, target: float) -> int:
    """Day of the stay on which survival falls to ``target``, known to be before ``stop``, where units never change."""
    day = start
    if target * GUIDES >= 1.0:
        day = max(start, int(tables.guide[stage, int(target * GUIDES)]))
        while tables.survival[stage, day + 1] > target:
            day += 1
        return day
    high = stop - 1
    while day < high:
        middle = (day + high) >> 1
        if tables.survival[stage, middle + 1] > target:
            day = middle + 1
        else:
            high = middle
    return day


@jit_kernel
def _exit_day_across_units(
    survival: NDArray[np.float64], rescale: NDArray[np.float64], start: int, stop: int, uniform: float
) -> int:
    """Day of the stay on which a deal leaves that is there at the start of day ``start``; ``stop`` if not before it."""
    target = uniform * survival[start]
    for day in range(start, stop):
        if rescale[day + 1] >= 0.0:
            if rescale[day + 1] <= target:
                return day
            target /= rescale[day + 1]
        elif survival[day + 1] <= target:
            return day
    return stop


@jit_inline
def _exit_slot(leave_to: NDArray[np.float64], stage: int, day: int, leave: float, pick: float) -> int:
    """Exit slot, drawn with the shares of the day's hazards."""
    target, chosen = pick * leave, 0
    for s in range(leave_to.shape[1]):
        if leave_to[stage, s, day] > 0.0:
            chosen = s
            target -= leave_to[stage, s, day]
            if target < 0.0:
                break
    return chosen


@jit_kernel
def _set_out(deals: DealArrays, first: int, last: int, under_way: Travellers) -> None:
    """All deals of the range where they are on the as-of date."""
    for deal in range(first, last):
        i = deal - first
        group = deals.group[deal]
        under_way.deal[i] = deal
        under_way.stage[i] = deals.group_stage[group]
        under_way.entered[i] = -deals.group_age[group]
        under_way.start[i] = deals.group_age[group] + 1
        under_way.seen[i] = np.uint64(1) << np.uint64(deals.group_stage[group])


@jit_inline
def _record(rows: StayRows, at: int, draw: int, deal: int, stage: int, entered: int, left: int, after: int) -> None:
    rows.draw[at], rows.deal[at], rows.stage[at] = draw, deal, stage
    rows.entered[at], rows.left[at], rows.next[at] = entered, left, after


@jit_kernel
def empty_rows(size: int) -> StayRows:
    """Room for stays."""
    return StayRows(
        np.empty(size, dtype=np.int32),
        np.empty(size, dtype=np.int32),
        np.empty(size, dtype=np.int16),
        np.empty(size, dtype=np.int32),
        np.empty(size, dtype=np.int32),
        np.empty(size, dtype=np.int16),
    )


@jit_kernel
def _grown(rows: StayRows, used: int, needed: int) -> StayRows:
    """Rows with room for ``needed`` more."""
    if used + needed <= len(rows.deal):
        return rows
    larger = empty_rows(2 * (used + needed))
    larger.draw[:used], larger.deal[:used], larger.stage[:used] = rows.draw[:used], rows.deal[:used], rows.stage[:used]
    larger.entered[:used], larger.left[:used], larger.next[:used] = (
        rows.entered[:used], rows.left[:used], rows.next[:used]
    )  # fmt: skip
    return larger


@jit_kernel
def _find_leavers(
    key: np.uint64,
    draw: int,
    moving: int,
    calendar: Calendar,
    under_way: Travellers,
    tables: StageTables,
    deals: DealArrays,
    leavers: Leavers,
    rows: StayRows,
    used: int,
) -> int:
    """Which of the deals under way leave their stage within the horizon; the others' stays are recorded, if at all."""
    leaving, horizon = 0, len(calendar.first_day) - 1
    for i in range(moving):
        k, start = under_way.stage[i], under_way.start[i]
        stop = horizon - under_way.entered[i] + 1
        bits = mix(key + deals.key[under_way.deal[i]])
        uniform = (float(bits & np.uint64(0xFFFFFFFF)) + 0.5) * TO_UNIT_32
        target = uniform * tables.survival[k, start]
        if tables.plain[k]:
            leaves = tables.survival[k, stop] <= target
        else:
            day = _exit_day_across_units(tables.survival[k], tables.rescale[k], start, stop, uniform)
            leaves, target = day < stop, -1.0 - day
        leavers.at[leaving], leavers.target[leaving], leavers.bits[leaving] = i, target, bits
        leaving += 1 if leaves else 0
        if used >= 0 and not leaves:
            deal = under_way.deal[i]
            entered = forecast_day(calendar, deals.key[deal], under_way.entered[i])
            _record(rows, used + i, draw, deal, k, entered, len(calendar.reached), STILL_HERE)
    return leaving


@jit_kernel
def _move_on(
    keys: tuple[np.uint64, np.uint64, np.uint64],
    draw: int,
    row: int,
    leaving: int,
    under_way: Travellers,
    leavers: Leavers,
    leave_to: NDArray[np.float64],
    stay: NDArray[np.float64],
    tables: StageTables,
    next_stage: NDArray[np.int16],
    value: NDArray[np.float64],
    deals: DealArrays,
    amounts: AmountDraws,
    calendar: Calendar,
    period: NDArray[np.int64],
    totals: PathTotals,
    rows: StayRows,
    used: int,
) -> int:
    """End the stays of all who leave; those who enter another open stage are kept, closed up to the front."""
    n_stages, horizon = next_stage.shape[0], len(calendar.first_day) - 1
    kept = 0
    for place in range(leaving):
        i, target = leavers.at[place], leavers.target[place]
        deal, k, entered = under_way.deal[i], under_way.stage[i], under_way.entered[i]
        day = int(-1.0 - target)
        if target >= 0.0:
            day = _exit_day(tables, k, under_way.start[i], horizon - entered + 1, target)
        pick = float(leavers.bits[place] >> np.uint64(32)) * TO_UNIT_32
        slot = _exit_slot(leave_to, k, day, 1.0 - stay[k, day], pick)
        after = next_stage[k, slot]
        today = forecast_day(calendar, deals.key[deal], entered + day)
        within = today < len(period)
        if used >= 0:
            since = forecast_day(calendar, deals.key[deal], entered)
            _record(rows, used + i, draw, deal, k, since, today, after if within else STILL_HERE)
        if not within:
            continue
        totals.moves[period[today], k] -= 1
        totals.moves[period[today], after] += 1
        if after >= n_stages:
            if value[after] > 0.0:
                segment = deals.segment[deal]
                if amounts.unchanged:
                    totals.cents[period[today], segment] += deals.cents[deal]
                else:
                    totals.cents[period[today], segment] += win_cents(deals, amounts, row, keys, deal)
                totals.wins[period[today], segment] += 1
            continue
        flag = np.uint64(1) << np.uint64(after)
        totals.entries[period[today], after] += 1
        totals.returns[period[today], after] += 1 if under_way.seen[i] & flag else 0
        under_way.deal[kept], under_way.stage[kept], under_way.entered[kept] = deal, after, entered + day
        under_way.start[kept], under_way.seen[kept] = 0, under_way.seen[i] | flag
        kept += 1
    return kept


@jit_kernel
def path_block(
    base: NDArray[np.float64],
    effect: NDArray[np.float64],
    next_stage: NDArray[np.int16],
    value: NDArray[np.float64],
    deals: DealArrays,
    amounts: AmountDraws,
    period: NDArray[np.int64],
    progress: NDArray[np.float64],
    seed: int,
    first_draw: int,
    totals: PathTotals,
    record: bool,
) -> StayRows:
    """Play draws ``first_draw, first_draw + 1, ...`` of the given deals.

    ``period`` is that of each forecast day, ``progress[draw, day]`` the days of progress by its end. Adds to
    ``totals``, whose arrays have a leading axis of draws, and returns the stays if they are to be recorded.
    """
    n_draws, n_stages, n_slots, n_days = base.shape
    n_deals, n_groups = len(deals.key), len(deals.group_cell)
    leave_to, stay = np.empty((n_stages, n_slots, n_days)), np.empty((n_stages, n_days))
    tables = empty_tables(n_stages, n_days)
    under_way = Travellers(
        np.empty(n_deals, dtype=np.int32),
        np.empty(n_deals, dtype=np.int16),
        np.empty(n_deals, dtype=np.int32),
        np.empty(n_deals, dtype=np.int32),
        np.empty(n_deals, dtype=np.uint64),
    )
    leavers = Leavers(
        np.empty(n_deals + 1, dtype=np.int32), np.empty(n_deals + 1), np.empty(n_deals + 1, dtype=np.uint64)
    )
    rows, used = empty_rows(0), 0
    for i in range(n_draws):
        draw = first_draw + i
        keys, calendar = amount_keys(seed, draw), make_calendar(progress[i], seed, draw)
        sums = PathTotals(totals.cents[i], totals.wins[i], totals.moves[i], totals.entries[i], totals.returns[i])
        first = 0
        for g in range(1, n_groups + 1):
            if g < n_groups and deals.group_cell[g] == deals.group_cell[g - 1]:
                continue
            last = int(np.searchsorted(deals.group, g))
            exit_probabilities(base[i], effect[i, deals.group_cell[g - 1]], leave_to, stay)
            fill_tables(stay, tables)
            _set_out(deals, first, last, under_way)
            moving, step = last - first, STEP_STAY
            while moving > 0:
                key = draw_key(seed, draw, step)
                if record:
                    rows = _grown(rows, used, moving)
                at = used if record else -1
                leaving = _find_leavers(key, draw, moving, calendar, under_way, tables, deals, leavers, rows, at)
                used += moving if record else 0
                moving = _move_on(
                    keys, draw, i, leaving, under_way, leavers, leave_to, stay, tables, next_stage, value, deals,
                    amounts, calendar, period, sums, rows, at,
                )  # fmt: skip
                step += 1
            first = last
    return StayRows(
        rows.draw[:used], rows.deal[:used], rows.stage[:used], rows.entered[:used], rows.left[:used], rows.next[:used]
    )
