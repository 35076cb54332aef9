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
from forecasting.engine.exits import TINY, exit_probabilities, survival_by_day
from forecasting.engine.streams import STEP_STAY, TO_UNIT_32, draw_key, mix

GUIDES = 1024
"""Entries of the table that tells where in the survival curve to start looking."""
TILE = 2048
"""Deals that are under way at a time; what is known of them stays in the first cache."""
CERTAIN = 2**31
"""Shares of exits are told in units of 1 / CERTAIN; a random number of 31 bits is always below it."""
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
    """Of one draw and cell: survival by (stage, day), its units, where to start looking, which exit is taken.

    ``survival`` and ``rescale`` as in :func:`forecasting.engine.exits.survival_by_day`; ``plain[stage]`` says that units
    never change; ``guide[stage, GUIDES]``; ``turn[stage, exit, day]``, the share of this exit and those before it.
    """

    survival: NDArray[np.float64]
    rescale: NDArray[np.float64]
    plain: NDArray[np.bool_]
    guide: NDArray[np.int16]
    turn: NDArray[np.uint32]


class Travellers(NamedTuple):
    """Deals under way: hashed id, place in the arrays, stage, day of progress entered, first day of stay still to come.

    ``level`` and ``final`` are the survival at that day and at the end of the horizon, ``seen`` the stages met so far.
    """

    key: NDArray[np.uint64]
    deal: NDArray[np.int32]
    stage: NDArray[np.int16]
    entered: NDArray[np.int32]
    start: NDArray[np.int32]
    level: NDArray[np.float64]
    final: NDArray[np.float64]
    seen: NDArray[np.uint64]


class Leavers(NamedTuple):
    """Stays that end: place among those under way, survival at the end, random bits, next stage, forecast day, return.

    Where units change, the survival is minus one minus the day of the stay. ``won`` lists those that end in a win.
    """

    at: NDArray[np.int32]
    target: NDArray[np.float64]
    bits: NDArray[np.uint64]
    after: NDArray[np.int16]
    today: NDArray[np.int32]
    again: NDArray[np.int32]
    won: NDArray[np.int32]


@jit_kernel
def empty_tables(n_stages: int, n_slots: int, n_days: int) -> StageTables:
    """Room for the tables."""
    return StageTables(
        np.empty((n_stages, n_days + 1)),
        np.empty((n_stages, n_days + 1)),
        np.empty(n_stages, dtype=np.bool_),
        np.empty((n_stages, GUIDES), dtype=np.int16),
        np.empty((n_stages, n_slots, n_days), dtype=np.uint32),
    )


@jit_kernel
def fill_tables(
    leave_to: NDArray[np.float64], stay: NDArray[np.float64], next_stage: NDArray[np.int16], tables: StageTables
) -> None:
    """Fill the tables from the probabilities to leave and to stay of one draw and cell."""
    n_stages, n_days = stay.shape
    passed = np.empty(n_days)
    for k in range(n_stages):
        survival, guide = tables.survival[k], tables.guide[k]
        tables.plain[k] = not survival_by_day(stay[k], survival, tables.rescale[k])
        day = 0
        for entry in range(GUIDES - 1, -1, -1):  # the curve falls: high values come first
            while tables.plain[k] and day < n_days - 1 and survival[day + 1] * GUIDES > entry + 1:
                day += 1
            guide[entry] = day
        last = 0
        for s in range(next_stage.shape[1]):
            last = s if next_stage[k, s] >= 0 else last
        passed[:] = 0.0
        for s in range(next_stage.shape[1]):
            turn, leave = tables.turn[k, s], leave_to[k, s]
            if s >= last:
                turn[:] = CERTAIN
                continue
            for d in range(n_days):
                passed[d] += leave[d]
                turn[d] = np.uint32(min(passed[d] / max(1.0 - stay[k, d], TINY), 1.0) * CERTAIN + 0.5)


@jit_kernel
def _late_exit_day(survival: NDArray[np.float64], start: int, stop: int, target: float) -> int:
    """Find the day of a low ``target`` by halving: the guide does not reach down there."""
    day, high = start, stop - 1
    while day < high:
        middle = (day + high) >> 1
        if survival[middle + 1] > target:
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
def _set_out(
    deals: DealArrays, first: int, last: int, horizon: int, tables: StageTables, under_way: Travellers
) -> None:
    """All deals of the range where they are on the as-of date."""
    for deal in range(first, last):
        i = deal - first
        group = deals.group[deal]
        stage, age = deals.group_stage[group], deals.group_age[group]
        under_way.key[i], under_way.deal[i], under_way.stage[i] = deals.key[deal], deal, stage
        under_way.entered[i], under_way.start[i] = -age, age + 1
        under_way.level[i] = tables.survival[stage, age + 1]
        under_way.final[i] = tables.survival[stage, horizon + age + 1]
        under_way.seen[i] = np.uint64(1) << np.uint64(stage)


@jit_kernel
def _find_leavers(
    key: np.uint64, moving: int, horizon: int, under_way: Travellers, tables: StageTables, leavers: Leavers
) -> int:
    """Which of the deals under way leave their stage within the horizon."""
    leaving, all_plain = 0, tables.plain.all()
    own, level, final = under_way.key, under_way.level, under_way.final
    at, targets, drawn = leavers.at, leavers.target, leavers.bits
    for c in range(moving):
        i = np.uintp(c)
        bits = mix(key + own[i])
        uniform = (float(bits & np.uint64(0xFFFFFFFF)) + 0.5) * TO_UNIT_32
        target = uniform * level[i]
        leaves = final[i] <= target
        if not all_plain and not tables.plain[under_way.stage[c]]:
            k, start = under_way.stage[c], under_way.start[c]
            stop = horizon - under_way.entered[c] + 1
            day = _exit_day_across_units(tables.survival[k], tables.rescale[k], start, stop, uniform)
            leaves, target = day < stop, -1.0 - day
        n = np.uintp(leaving)
        at[n], targets[n], drawn[n] = c, target, bits
        leaving += 1 if leaves else 0
    return leaving


@jit_kernel
def _move_on(
    leaving: int,
    under_way: Travellers,
    leavers: Leavers,
    tables: StageTables,
    next_stage: NDArray[np.int16],
    is_won: NDArray[np.int64],
    calendar: Calendar,
) -> tuple[int, int]:
    """End the stays of all who leave; those who enter another open stage are kept, closed up to the front.

    Their number, and that of the won, whose places among the leavers are listed.
    """
    n_stages, horizon, n_days = next_stage.shape[0], len(calendar.first_day) - 1, len(calendar.reached)
    survival, guide, turn, n_turns, kept = tables.survival, tables.guide, tables.turn, next_stage.shape[1] - 1, 0
    keys, deals, stages, entered_on = under_way.key, under_way.deal, under_way.stage, under_way.entered
    starts, levels, finals, seen_by = under_way.start, under_way.level, under_way.final, under_way.seen
    at, targets, drawn = leavers.at, leavers.target, leavers.bits
    to, on, again, won, n_won = leavers.after, leavers.today, leavers.again, leavers.won, 0
    for c in range(leaving):
        place = np.uintp(c)
        i, target = np.uintp(at[place]), targets[place]
        key, k, entered, seen = keys[i], np.uintp(stages[i]), entered_on[i], seen_by[i]
        if target * GUIDES >= 1.0:
            day = int(guide[k, np.uintp(target * GUIDES)])
            while survival[k, np.uintp(day + 1)] > target:
                day += 1
        elif target >= 0.0:
            day = _late_exit_day(survival[k], starts[i], horizon - entered + 1, target)
        else:
            day = int(-1.0 - target)
        pick, slot = np.uint32(drawn[place] >> np.uint64(33)), np.uintp(0)
        for s in range(n_turns):
            slot += np.uintp(pick >= turn[k, np.uintp(s), np.uintp(day)])
        after, since = next_stage[k, slot], entered + day
        today = since if calendar.plain else forecast_day(calendar, key, since)
        enters = np.int64(after < n_stages) & np.int64(today < n_days)  # no branch: which way it goes is a coin toss
        to[place], on[place], again[place] = after, today, enters & np.int64((seen >> np.uint64(after)) & np.uint64(1))
        won[np.uintp(n_won)] = c
        n_won += is_won[np.uintp(after)] & np.int64(today < n_days)
        n = np.uintp(kept)
        keys[n], deals[n], stages[n], entered_on[n], starts[n], levels[n] = key, deals[i], after, since, 0, 1.0
        seen_by[n] = seen | (np.uint64(1) << np.uint64(after))
        finals[n] = survival[np.uintp(min(after, n_stages - 1)), np.uintp(horizon - since + 1)]
        kept += int(enters)
    return kept, n_won


@jit_kernel
def _add_wins(
    keys: tuple[np.uint64, np.uint64, np.uint64],
    row: int,
    n_won: int,
    place_of: NDArray[np.int32],
    leavers: Leavers,
    deals: DealArrays,
    amounts: AmountDraws,
    period: NDArray[np.int64],
    totals: PathTotals,
) -> None:
    """Cents and number of the deals won on this step; ``place_of`` are the deals that were under way."""
    at, won, on, segment = leavers.at, leavers.won, leavers.today, deals.segment
    cents, wins, known = totals.cents, totals.wins, deals.cents
    for c in range(n_won):
        place = np.uintp(won[np.uintp(c)])
        deal, m = np.uintp(place_of[np.uintp(at[place])]), np.uintp(period[np.uintp(on[place])])
        part = np.uintp(segment[deal])
        if amounts.unchanged:
            cents[m, part] += known[deal]
        else:
            cents[m, part] += win_cents(deals, amounts, row, keys, int(deal))
        wins[m, part] += 1


@jit_kernel
def _count_moves(
    leaving: int,
    stage_of: NDArray[np.int16],
    leavers: Leavers,
    period: NDArray[np.int64],
    totals: PathTotals,
) -> None:
    """Arrivals, departures, entries and returns of one step; ``stage_of`` are the stages deals were in."""
    for place in range(leaving):
        after, today = leavers.after[place], leavers.today[place]
        if today < len(period):
            m = period[today]
            totals.moves[m, stage_of[leavers.at[place]]] -= 1
            totals.moves[m, after] += 1
            if after < totals.entries.shape[1]:
                totals.entries[m, after] += 1
                totals.returns[m, after] += leavers.again[place]


@jit_kernel
def _record_stays(
    draw: int,
    moving: int,
    leaving: int,
    before: tuple[NDArray[np.int32], NDArray[np.int16], NDArray[np.int32]],
    leavers: Leavers,
    deals: DealArrays,
    calendar: Calendar,
    rows: StayRows,
    used: int,
) -> None:
    """Record the stays of one step; ``before`` are deal, stage and day of progress entered of those under way."""
    deal, stage, entered = before
    n_days = len(calendar.reached)
    for i in range(moving):
        since = forecast_day(calendar, deals.key[deal[i]], entered[i])
        _record(rows, used + i, draw, deal[i], stage[i], since, n_days, STILL_HERE)
    for place in range(leaving):
        if leavers.today[place] < n_days:
            at = used + leavers.at[place]
            rows.left[at], rows.next[at] = leavers.today[place], leavers.after[place]


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
    ``totals``, whose arrays have a leading axis of draws (moves, entries and returns only if they have any code), and
    returns the stays if they are to be recorded.
    """
    n_draws, n_stages, n_slots, n_days = base.shape
    n_groups, tell = len(deals.group_cell), record or totals.moves.shape[2] > 0
    leave_to, stay = np.empty((n_stages, n_slots, n_days)), np.empty((n_stages, n_days))
    tables = empty_tables(n_stages, n_slots, n_days)
    under_way, leavers = _empty_tile()
    deal_of, stage_of, day_of = under_way.deal.copy(), under_way.stage.copy(), under_way.entered.copy()
    rows, used, is_won = empty_rows(0), 0, (value > 0.0).astype(np.int64)
    for i in range(n_draws):
        draw = first_draw + i
        keys, calendar = amount_keys(seed, draw), make_calendar(progress[i], seed, draw)
        sums = PathTotals(totals.cents[i], totals.wins[i], totals.moves[i], totals.entries[i], totals.returns[i])
        first, horizon = 0, len(calendar.first_day) - 1
        for g in range(1, n_groups + 1):
            if g < n_groups and deals.group_cell[g] == deals.group_cell[g - 1]:
                continue
            last = int(np.searchsorted(deals.group, g))
            exit_probabilities(base[i], effect[i, deals.group_cell[g - 1]], leave_to, stay)
            fill_tables(leave_to, stay, next_stage, tables)
            for begin in range(first, last, TILE):
                moving, step = min(TILE, last - begin), STEP_STAY
                _set_out(deals, begin, begin + moving, horizon, tables, under_way)
                while moving > 0:
                    key = draw_key(seed, draw, step)
                    leaving = _find_leavers(key, moving, horizon, under_way, tables, leavers)
                    deal_of[:moving] = under_way.deal[:moving]
                    if tell:
                        stage_of[:moving], day_of[:moving] = under_way.stage[:moving], under_way.entered[:moving]
                    kept, n_won = _move_on(leaving, under_way, leavers, tables, next_stage, is_won, calendar)
                    _add_wins(keys, i, n_won, deal_of, leavers, deals, amounts, period, sums)
                    if tell:
                        _count_moves(leaving, stage_of, leavers, period, sums)
                    if record:
                        rows = _grown(rows, used, moving)
                        before = deal_of, stage_of, day_of
                        _record_stays(draw, moving, leaving, before, leavers, deals, calendar, rows, used)
                        used += moving
                    moving = kept
                    step += 1
            first = last
    return StayRows(
        rows.draw[:used], rows.deal[:used], rows.stage[:used], rows.entered[:used], rows.left[:used], rows.next[:used]
    )


@jit_kernel
def _empty_tile() -> tuple[Travellers, Leavers]:
    """Room for the deals of one tile."""
    size = TILE + 1
    under_way = Travellers(
        np.empty(size, dtype=np.uint64),
        np.empty(size, dtype=np.int32),
        np.empty(size, dtype=np.int16),
        np.empty(size, dtype=np.int32),
        np.empty(size, dtype=np.int32),
        np.empty(size),
        np.empty(size),
        np.empty(size, dtype=np.uint64),
    )
    leavers = Leavers(
        np.empty(size, dtype=np.int32),
        np.empty(size),
        np.empty(size, dtype=np.uint64),
        np.empty(size, dtype=np.int16),
        np.empty(size, dtype=np.int32),
        np.empty(size, dtype=np.int32),
        np.empty(size, dtype=np.int32),
    )
    return under_way, leavers
