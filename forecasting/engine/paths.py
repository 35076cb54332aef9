"""The path sampler: every deal played stay by stay, for questions about the way and not only its end.

With H[d] the hazard a stay has gone through in its days 0 .. d - 1, a stay ends on the first day d with
H[d + 1] >= H[a + 1] + E, E a standard exponential, a the days already spent; then the next stage is drawn with the shares
of that day's hazards. Sums of hazards know no underflow, however long a deal has been there. Random numbers are
addressed by (seed, draw, deal, number of the stay). Days are days of progress (:mod:`forecasting.engine.clock`), told in
forecast days where something is counted or recorded. Nothing is shared with the renewal equations, so that each checks
the other.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from forecasting.engine.amounts import AmountDraws, DealArrays, amount_keys, win_cents
from forecasting.engine.clock import Calendar, acting_moment, day_of_moment, forecast_day, make_calendar
from forecasting.engine.compiled import jit_fused, jit_inline, jit_kernel
from forecasting.engine.exits import MAX_DAY_HAZARD, STRETCH, TINY
from forecasting.engine.streams import STEP_STAY, draw_key, half, mix, standard_exponential

GUIDES = 1024
"""Entries of the table that tells where among the sums of hazards to start looking."""
TILE = 4096
"""Deals that are under way at a time; what is known of them stays in the nearest caches."""
CERTAIN = 2**31
"""Shares of exits are told in units of 1 / CERTAIN; a random number of 31 bits is always below it."""
TURNS = 2
"""Exits looked at in any case, without a branch."""
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
    """Of one draw and cell: hazard gone through by (stage, day), where to start looking, which exit is taken.

    ``passed[stage, d]`` is the hazard of days 0 .. d - 1, infinite beyond the last day; ``guide[stage, GUIDES]`` the first
    day that ends beyond its share of the whole, ``guides_per_hazard[stage]``; ``turn[stage, day, exit]`` the share of this
    exit and those before it, the last exit left out and two at least.
    """

    passed: NDArray[np.float64]
    guides_per_hazard: NDArray[np.float64]
    guide: NDArray[np.int16]
    turn: NDArray[np.uint32]


class Travellers(NamedTuple):
    """Deals under way: hashed id, where they are as :func:`_at` packs it, hazard of the stay behind them."""

    key: NDArray[np.uint64]
    at: NDArray[np.int64]
    behind: NDArray[np.float64]


class Moves(NamedTuple):
    """One step of all under way: hazard at which the stay ends, random bits, next stage, day of progress, forecast day."""

    target: NDArray[np.float64]
    pick: NDArray[np.uint32]
    after: NDArray[np.int16]
    since: NDArray[np.int32]
    today: NDArray[np.int32]


@jit_inline
def _at(day: int, code: int, place: int) -> int:
    """Day, stage code below 2^16, and place in the tile, in one number: closing up after each step moves one for three."""
    packed: int = (day << 32) | (code << 16) | place
    return packed


@jit_inline
def _day(at: int) -> int:
    return at >> 32


@jit_inline
def _code(at: int) -> int:
    return (at >> 16) & 0xFFFF


@jit_inline
def _place(at: int) -> int:
    return at & 0xFFFF


@jit_kernel
def empty_tables(n_stages: int, n_slots: int, n_days: int) -> StageTables:
    """Room for the tables."""
    return StageTables(
        np.full((n_stages, n_days + 2), np.inf),
        np.empty(n_stages),
        np.empty((n_stages, GUIDES + 1), dtype=np.int16),
        np.full((n_stages, n_days + 1, max(n_slots - 1, TURNS)), CERTAIN, dtype=np.uint32),
    )


@jit_fused
def fill_tables(base: NDArray[np.float64], effect: NDArray[np.float64], tables: StageTables) -> None:
    """Fill the tables from the hazards of one draw and cell, ``base[stage, exit, day]`` and ``effect[stage, exit]``."""
    n_stages, n_slots, n_days = base.shape
    total, so_far, per_hazard = np.empty(n_days), np.empty(n_days), np.empty(n_days)
    for k in range(n_stages):
        total[:] = 0.0
        for s in range(n_slots):
            for d in range(n_days):
                total[d] += base[k, s, d] * effect[k, s]
        so_far[:] = 0.0
        for d in range(n_days):
            per_hazard[d] = CERTAIN / max(total[d], TINY)
        for s in range(n_slots - 1):
            turn = tables.turn[k]
            for d in range(n_days):
                so_far[d] += base[k, s, d] * effect[k, s]
                turn[d, s] = np.uint32(min(so_far[d] * per_hazard[d] + 0.5, CERTAIN))
        passed = tables.passed[k]
        _sum_up(total, passed)
        tables.guides_per_hazard[k] = GUIDES / max(passed[n_days], TINY)
        _fill_guide(passed, n_days, tables.guides_per_hazard[k], tables.guide[k])


@jit_kernel
def _sum_up(hazard: NDArray[np.float64], passed: NDArray[np.float64]) -> None:
    """Sums of the hazards before each day, and of all, in stretches first."""
    n_days = len(hazard)
    passed[0] = 0.0
    for start in range(0, n_days, STRETCH):
        total = 0.0
        for d in range(start, min(start + STRETCH, n_days)):
            total += min(hazard[d], MAX_DAY_HAZARD)
            passed[d + 1] = total
    for start in range(STRETCH, n_days, STRETCH):
        before = passed[start]
        for d in range(start, min(start + STRETCH, n_days)):
            passed[d + 1] += before


@jit_kernel
def _fill_guide(passed: NDArray[np.float64], n_days: int, guides_per_hazard: float, guide: NDArray[np.int16]) -> None:
    """For each entry the number of days that end before it."""
    guide[:] = 0
    for d in range(n_days):
        guide[np.uintp(_guide_entry(passed[d + 1], guides_per_hazard) + 1)] = d + 1
    most = np.int16(0)
    for entry in range(GUIDES):
        most = max(most, guide[entry])
        guide[entry] = most


@jit_inline
def _guide_entry(hazard: float, guides_per_hazard: float) -> int:
    return int(min(hazard * guides_per_hazard, GUIDES - 1.0))


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
def _set_out(first: int, moving: int, start: Travellers, tables: StageTables, under_way: Travellers) -> None:
    """Deals ``first, first + 1, ...`` where they are on the as-of date."""
    key, at = start.key, start.at
    for c in range(moving):
        i, n = np.uintp(c), np.uintp(first + c)
        under_way.key[i], under_way.at[i] = key[n], at[n] | c
        under_way.behind[i] = tables.passed[np.uintp(_code(at[n])), np.uintp(1 - _day(at[n]))]


@jit_fused
def _throw(key: np.uint64, moving: int, under_way: Travellers, moves: Moves) -> None:
    """The random numbers of one step: how much hazard each stay goes through, and what decides where it leads."""
    own, behind, target, pick = under_way.key, under_way.behind, moves.target, moves.pick
    for c in range(moving):
        bits = mix(key + own[c])
        target[c] = behind[c] + standard_exponential(np.uint64(half(bits, 0)))
        pick[c] = np.uint32(bits >> np.uint64(33))


@jit_kernel
def _end_stays(
    moving: int, under_way: Travellers, tables: StageTables, next_stage: NDArray[np.int16], moves: Moves
) -> None:
    """When each stay ends, then where it leads; hardly a branch, as nobody can tell which way it goes.

    Two short passes are faster than one: the processor has more deals in hand at a time.
    """
    passed, guide, turn, per_hazard = tables.passed, tables.guide, tables.turn, tables.guides_per_hazard
    at, target, pick, after, since = under_way.at, moves.target, moves.pick, moves.after, moves.since
    n_turns, first, one = next_stage.shape[1] - 1, np.uintp(0), np.uintp(1)
    for c in range(moving):
        i = np.uintp(c)
        k, end = np.uintp(_code(at[i])), target[i]
        day = np.uintp(guide[k, np.uintp(_guide_entry(end, per_hazard[k]))])
        day += np.uintp(passed[k, day + one] < end)
        while passed[k, day + one] < end:
            day += one
        since[i] = day
    for c in range(moving):
        i = np.uintp(c)
        k, day, bits = np.uintp(_code(at[i])), np.uintp(since[i]), pick[i]
        slot = np.uintp(bits >= turn[k, day, first]) + np.uintp(bits >= turn[k, day, one])
        for s in range(TURNS, n_turns):
            slot += np.uintp(bits >= turn[k, day, np.uintp(s)])
        after[i], since[i] = next_stage[k, slot], _day(at[i]) + np.int64(day)


@jit_kernel
def _forecast_days(moving: int, keys: NDArray[np.uint64], calendar: Calendar, moves: Moves) -> NDArray[np.int32]:
    """Forecast days on which the stays end, those beyond the horizon as one beyond it."""
    if calendar.plain:
        return moves.since
    reached, first_day, own, moment = calendar.reached, calendar.first_day, calendar.key, moves.target
    for place in range(moving):
        moment[place] = acting_moment(own, keys[place], moves.since[place])
    for c in range(moving):
        i = np.uintp(c)
        day = len(reached)
        if moves.since[i] < len(first_day):
            day = day_of_moment(reached, int(first_day[np.uintp(moves.since[i])]), moment[i])
        moves.today[i] = day
    return moves.today


@jit_kernel
def _go_on(
    moving: int,
    n_open: int,
    is_won: NDArray[np.int64],
    n_days: int,
    today: NDArray[np.int32],
    moves: Moves,
    under_way: Travellers,
    won: NDArray[np.int64],
) -> tuple[int, int]:
    """Keep those who enter another open stage in time, closed up to the front, and list the won; tell their numbers."""
    keys, at, after, since = under_way.key, under_way.at, moves.after, moves.since
    kept, n_won = np.uintp(0), np.uintp(0)
    for c in range(moving):
        i = np.uintp(c)
        code, in_time, place = after[i], today[i] < n_days, _place(at[i])
        won[n_won] = _at(today[i], 0, place)
        keys[kept], at[kept] = keys[i], _at(since[i], code, place)
        n_won += np.uintp(in_time and is_won[np.uintp(code)] > 0)
        kept += np.uintp(in_time and code < n_open)
    under_way.behind[:kept] = 0.0
    return int(np.int64(kept)), int(np.int64(n_won))


@jit_kernel
def _add_wins(
    keys: tuple[np.uint64, np.uint64, np.uint64],
    row: int,
    n_won: int,
    won: NDArray[np.int64],
    begin: int,
    deals: DealArrays,
    amounts: AmountDraws,
    period: NDArray[np.int64],
    totals: PathTotals,
) -> None:
    """Cents and number of the deals won on this step; ``begin`` is the first deal of the tile."""
    cents, wins, known, segment = totals.cents, totals.wins, deals.cents, deals.segment
    for c in range(n_won):
        place = np.uintp(c)
        deal, m = np.uintp(begin + _place(won[place])), np.uintp(period[np.uintp(_day(won[place]))])
        part = np.uintp(segment[deal])
        if amounts.unchanged:
            cents[m, part] += known[deal]
        else:
            cents[m, part] += win_cents(deals, amounts, row, keys, int(deal))
        wins[m, part] += 1


@jit_kernel
def _count_moves(
    moving: int,
    under_way: Travellers,
    moves: Moves,
    today: NDArray[np.int32],
    period: NDArray[np.int64],
    seen: NDArray[np.bool_],
    totals: PathTotals,
) -> None:
    """Arrivals, departures, entries and returns of one step; ``seen[place, stage]`` tells the stages met so far."""
    for i in range(moving):
        after, place, stage = moves.after[i], _place(under_way.at[i]), _code(under_way.at[i])
        if today[i] < len(period):
            m = period[today[i]]
            totals.moves[m, stage] -= 1
            totals.moves[m, after] += 1
            seen[place, stage] = True
            if after < totals.entries.shape[1]:
                totals.entries[m, after] += 1
                totals.returns[m, after] += np.int64(seen[place, after])


@jit_kernel
def _record_stays(
    draw: int,
    moving: int,
    under_way: Travellers,
    moves: Moves,
    today: NDArray[np.int32],
    calendar: Calendar,
    begin: int,
    rows: StayRows,
    used: int,
) -> None:
    """Record the stays of one step; ``begin`` is the first deal of the tile."""
    n_days = len(calendar.reached)
    for i in range(moving):
        at = under_way.at[i]
        ends, entered = today[i] < n_days, forecast_day(calendar, under_way.key[i], _day(at))
        left, after = (today[i], moves.after[i]) if ends else (n_days, STILL_HERE)
        _record(rows, used + i, draw, begin + _place(at), _code(at), entered, left, after)


@jit_kernel
def _starting_points(deals: DealArrays) -> Travellers:
    """All deals on the as-of date, none with a place yet."""
    at = np.empty(len(deals.key), dtype=np.int64)
    for deal in range(len(at)):
        group = deals.group[deal]
        at[deal] = _at(-deals.group_age[group], deals.group_stage[group], 0)
    return Travellers(deals.key, at, np.empty(0))


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
    tables = empty_tables(n_stages, n_slots, n_days)
    start, seen = _starting_points(deals), np.empty((TILE if tell else 0, n_stages), dtype=np.bool_)
    under_way, moves, won = _empty_tile()
    rows, used, is_won = empty_rows(0), 0, (value > 0.0).astype(np.int64)
    for i in range(n_draws):
        draw = first_draw + i
        keys, calendar = amount_keys(seed, draw), make_calendar(progress[i], seed, draw)
        sums = PathTotals(totals.cents[i], totals.wins[i], totals.moves[i], totals.entries[i], totals.returns[i])
        first = 0
        for g in range(1, n_groups + 1):
            if g < n_groups and deals.group_cell[g] == deals.group_cell[g - 1]:
                continue
            last = int(np.searchsorted(deals.group, g))
            fill_tables(base[i], effect[i, deals.group_cell[g - 1]], tables)
            for begin in range(first, last, TILE):
                moving, step = min(TILE, last - begin), STEP_STAY
                _set_out(begin, moving, start, tables, under_way)
                seen[:] = False
                while moving > 0:
                    _throw(draw_key(seed, draw, step), moving, under_way, moves)
                    _end_stays(moving, under_way, tables, next_stage, moves)
                    today = _forecast_days(moving, under_way.key, calendar, moves)
                    if tell:
                        _count_moves(moving, under_way, moves, today, period, seen, sums)
                    if record:
                        rows = _grown(rows, used, moving)
                        _record_stays(draw, moving, under_way, moves, today, calendar, begin, rows, used)
                        used += moving
                    moving, n_won = _go_on(moving, n_stages, is_won, len(period), today, moves, under_way, won)
                    _add_wins(keys, i, n_won, won, begin, deals, amounts, period, sums)
                    step += 1
            first = last
    return StayRows(
        rows.draw[:used], rows.deal[:used], rows.stage[:used], rows.entered[:used], rows.left[:used], rows.next[:used]
    )


@jit_kernel
def _empty_tile() -> tuple[Travellers, Moves, NDArray[np.int64]]:
    """Room for the deals of one tile, their moves, and those won."""
    size = TILE + 1
    under_way = Travellers(np.empty(size, dtype=np.uint64), np.empty(size, dtype=np.int64), np.empty(size))
    moves = Moves(
        np.empty(size),
        np.empty(size, dtype=np.uint32),
        np.empty(size, dtype=np.int16),
        np.empty(size, dtype=np.int32),
        np.empty(size, dtype=np.int32),
    )
    return under_way, moves, np.empty(size, dtype=np.int64)
