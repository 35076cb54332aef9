"""What the deals of one stage are worth, for all days in stage in one pass: by sums over moves still to come, or day by day.

The formulas for W stand in :mod:`forecasting.engine.renewal`, whose equations give what entering a stage is worth.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from forecasting.engine.compiled import jit_fused, jit_inline, jit_kernel
from forecasting.engine.exits import survival_by_day

PUSHED_DAYS = 8
"""Days solved before what they send to later days is added up in one pass."""
SEVERAL = 4
"""Days gone back in one pass where chances stay the same; the pass is written out for four."""
FEW_DAYS = 2
"""So few are added one by one: eight, filled up with zeros, would cost more."""
SMALLEST = 2.0**-80
"""Deals past a smaller survival are worth sums over moves too rare for the range of float32."""

type Values = NDArray[np.floating[Any]]
"""What deals are worth, in float64, or in float32 where it need only be sampled from; those of one call are alike."""


class Stage(NamedTuple):
    """What can become of the deals of one stage.

    Their chances on each day of the stay: ``leave[exit, day]`` to leave by an exit, ``stay[day]`` to stay; and what ending
    on that day brings, ``ends[day]``. Exit ``moves[m]`` leads to an open stage and brings ``gains[m, day]`` so many days
    before the end; being in the stage at the end brings ``worth``.
    """

    leave: NDArray[np.float64]
    moves: NDArray[np.intp]
    gains: Values
    ends: NDArray[np.float64]
    stay: NDArray[np.float64]
    worth: float


class Terms(NamedTuple):
    """What is summed up for the deals of one stage, by day of the stay behind ``PUSHED_DAYS`` zeros.

    ``weight[move, day]`` is the survival times the chance to move, ``ended[day]`` times what ending brings; ``still[day]``
    what staying through the day brings. Both are empty if nothing.
    """

    level: NDArray[np.float64]
    weight: Values
    ended: Values
    still: Values


@jit_kernel
def stage_of(
    leave_to: NDArray[np.float64],
    stay: NDArray[np.float64],
    next_stage: NDArray[np.int16],
    value: NDArray[np.float64],
    stage: int,
    entry: Values,
) -> Stage:
    """One stage, from the values of entering the stages it leads to."""
    to, leave, n_open = next_stage[stage], leave_to[stage], len(next_stage)
    moves, n_moves, ends_worth = np.empty(len(to), dtype=np.intp), 0, False
    for s in range(len(to)):
        if 0 <= to[s] < n_open:
            moves[n_moves] = s
            n_moves += 1
        ends_worth = ends_worth or (to[s] >= n_open and value[to[s]] != 0.0)
    gains, ends = np.empty((n_moves, entry.shape[1]), dtype=entry.dtype), np.zeros(stay.shape[1] if ends_worth else 0)
    for m in range(n_moves):
        gains[m] = entry[to[moves[m]]]
    for s in range(len(to)):
        if to[s] >= n_open and value[to[s]] != 0.0:
            for day in range(len(ends)):
                ends[day] += leave[s, day] * value[to[s]]
    return Stage(leave, moves[:n_moves], gains, ends, stay[stage], value[stage])


@jit_fused
def stage_values(
    stage: Stage,
    ages: NDArray[np.int64],
    edges: NDArray[np.int64],
    entry: Values,
    out: Values,
) -> None:
    """Fill ``out[age, edge]`` = W of one stage for ages and days of progress ``edges``, both ascending.

    Fills ``entry[T]`` = G too unless it is empty; the stage must then not lead back to itself.

    Edges that follow one another closely are reached by going back day by day. Others are by sums, whose terms serve all
    ages, save for deals so old that survivals are too small. Ages far apart are solved in separate runs: one of sums costs
    horizon x (ages spanned + horizon / 2), one of days at least as much as two horizons of equal days, or half a horizon
    of others. How an age is solved depends on nothing but itself and the edges.
    """
    closely = _follow_closely(edges)
    terms, n_summed = _terms(stage, not closely), 0
    while n_summed < len(ages) and not closely and terms.level[ages[n_summed] + 1] >= SMALLEST:
        n_summed += 1
    alike = _as_next_day(stage, n_summed < len(ages) or closely)
    near = 2 * edges[-1] if closely and 2 * alike.sum() > len(alike) else edges[-1] // 2
    windows, begin, with_entry = _windows(terms.ended, edges), 0, len(entry) > 0
    while begin < len(ages) or with_entry:
        summed = not closely and (with_entry or begin < n_summed)
        before, stop = -1 if with_entry else ages[begin], begin
        while stop < len(ages) and ages[stop] - before <= near and (stop < n_summed or not summed):
            before = ages[stop]
            stop += 1
        new = entry if with_entry else entry[:0]
        if summed:
            _sum_up(stage, terms, windows, ages[begin:stop], edges, new, out[begin:stop])
        else:
            _go_back(stage, alike, ages[begin:stop], edges, new, out[begin:stop])
        begin, with_entry = stop, False


@jit_kernel
def _follow_closely(edges: NDArray[np.int64]) -> bool:
    last = 0
    for edge in edges:
        if edge - last > FEW_DAYS:
            return False
        last = edge
    return True


@jit_kernel
def _terms(stage: Stage, wanted: bool) -> Terms:
    """Terms of the sums of one stage, empty if not wanted."""
    n_days, kind = len(stage.stay) if wanted else 0, stage.gains.dtype
    level, weight = np.ones(n_days + 1), np.zeros((len(stage.moves), PUSHED_DAYS + n_days), dtype=kind)
    ended = np.zeros(PUSHED_DAYS + n_days if len(stage.ends) else 0, dtype=kind)
    still = np.empty(n_days if stage.worth != 0.0 else 0, dtype=kind)
    survival_by_day(stage.stay[:n_days], level)
    for m in range(len(weight)):
        exit_taken = stage.moves[m]
        for day in range(n_days):
            weight[m, PUSHED_DAYS + day] = level[day] * stage.leave[exit_taken, day]
    for day in range(len(ended) - PUSHED_DAYS):
        ended[PUSHED_DAYS + day] = level[day] * stage.ends[day]
    for day in range(len(still)):
        still[day] = stage.worth * level[day + 1]
    return Terms(level, weight, ended, still)


@jit_fused
def _go_back(
    stage: Stage,
    alike: NDArray[np.bool_],
    ages: NDArray[np.int64],
    edges: NDArray[np.int64],
    entry: Values,
    out: Values,
) -> None:
    """Go back from the oldest age, a day of the stay at a time, and read ages and entries on the way.

    ``values[start + T - 1]`` is W at the end of T days, which every day back changes in place. Days of equal chances, of
    which hazards by bins are made, share what leaving brings, and are gone back several at a time; where they outlast the
    horizon, a day back changes nothing. Which way a day is gone back, to the last bit, depends on the chances alone.
    """
    low, high, horizon = -1 if len(entry) else ages[0], ages[-1] if len(ages) else -1, edges[-1]
    values, row = np.full(max(high - low + horizon, 1), stage.worth, dtype=out.dtype), len(ages) - 1
    brings, age, start, equal_days = np.empty(horizon, dtype=out.dtype), high + horizon, high - low + horizon, 0
    while age > low:
        equal_days = equal_days if alike[age] else 0
        in_stretch = alike[age] or (age > 0 and alike[age - 1])
        if in_stretch and equal_days == 0:
            _leaving_brings(stage, age, brings)
        to_read = ages[row] if row >= 0 else low
        several = horizon >= SEVERAL and to_read <= age - SEVERAL and age <= high
        several = several and alike[age - 1] and alike[age - 2] and alike[age - 3]
        steps = SEVERAL if several else 1
        if equal_days < horizon:
            start -= steps
            reached = values[start : start + min(horizon, high + horizon - age + steps)]
            if several:
                _several_days_back(reached, stage.worth, stage.stay[age], brings)
            elif in_stretch:
                _equal_day_back(reached, stage.stay[age], brings)
            else:
                _one_day_back(stage, age, reached)
        age, equal_days = age - steps, equal_days + steps
        if row >= 0 and ages[row] == age:
            _read_row(values, start, edges, out, row)
            row -= 1
    entry[:] = values[start : start + len(entry)]
    out[:, edges == 0] = stage.worth


@jit_kernel
def _as_next_day(stage: Stage, wanted: bool) -> NDArray[np.bool_]:
    """Tell for each day of the stay whether its chances are those of the day after; empty if not wanted."""
    alike = np.zeros(len(stage.stay) if wanted else 0, dtype=np.bool_)
    last = len(alike) - 1
    for day in range(last):
        alike[day] = stage.stay[day] == stage.stay[day + 1]
    for exit_taken in stage.moves:
        for day in range(last):
            alike[day] &= stage.leave[exit_taken, day] == stage.leave[exit_taken, day + 1]
    for day in range(min(len(stage.ends) - 1, last)):
        alike[day] &= stage.ends[day] == stage.ends[day + 1]
    return alike


@jit_inline
def _kept_and_lost(stay: float) -> tuple[float, float]:
    """Two numbers that make ``kept * W + (gain - lost * W)`` of ``stay * W + gain``.

    A chance to stay near one, rounded to 24 bits, is off the same way on every day of equal chances, and that adds up; the
    chance to leave is not. Where few stay, the difference would cancel.
    """
    return (1.0, 1.0 - stay) if stay >= 0.5 else (stay, 0.0)


@jit_inline
def _one_day_back(stage: Stage, day: int, values: Values) -> None:
    """Replace what deals that have stayed through the day are worth by what they are at its start, by days to the end."""
    as_value, gains, n_moves = values.dtype.type, stage.gains, len(stage.moves)
    keep, lose = _kept_and_lost(stage.stay[day])
    kept, lost, ends = as_value(keep), as_value(lose), as_value(stage.ends[day] if len(stage.ends) else 0.0)
    done = min(n_moves, 3)
    first, second, third = np.uintp(0), np.uintp(1), np.uintp(2)
    one = as_value(stage.leave[stage.moves[0], day] if done > 0 else 0.0)
    two = as_value(stage.leave[stage.moves[1], day] if done > 1 else 0.0)
    three = as_value(stage.leave[stage.moves[2], day] if done > 2 else 0.0)
    if done == 3:
        for c in range(len(values)):
            t = np.uintp(c)
            gain = ends + one * gains[first, t] + two * gains[second, t] + three * gains[third, t]
            values[t] = kept * values[t] + (gain - lost * values[t])
    elif done == 2:
        for c in range(len(values)):
            t = np.uintp(c)
            gain = ends + one * gains[first, t] + two * gains[second, t]
            values[t] = kept * values[t] + (gain - lost * values[t])
    elif done == 1:
        for c in range(len(values)):
            t = np.uintp(c)
            values[t] = kept * values[t] + (ends + one * gains[first, t] - lost * values[t])
    else:
        for c in range(len(values)):
            values[c] = kept * values[c] + (ends - lost * values[c])
    for m in range(3, n_moves):
        move, leave = np.uintp(m), as_value(stage.leave[stage.moves[m], day])
        for c in range(len(values)):
            values[c] += leave * gains[move, np.uintp(c)]


@jit_fused
def _leaving_brings(stage: Stage, day: int, brings: Values) -> None:
    """Fill ``brings[T - 1]`` with what leaving on a day of the stay brings by T - 1 days later."""
    as_value = brings.dtype.type
    brings[:] = as_value(stage.ends[day] if len(stage.ends) else 0.0)
    for m in range(len(stage.moves)):
        move, leave = np.uintp(m), as_value(stage.leave[stage.moves[m], day])
        for c in range(len(brings)):
            brings[c] += leave * stage.gains[move, np.uintp(c)]


@jit_fused
def _equal_day_back(values: Values, stay: float, brings: Values) -> None:
    """Go back one of several days of equal chances."""
    keep, lose = _kept_and_lost(stay)
    kept, lost = values.dtype.type(keep), values.dtype.type(lose)
    for c in range(len(values)):
        t = np.uintp(c)
        values[t] = kept * values[t] + (brings[t] - lost * values[t])


@jit_fused
def _several_days_back(values: Values, worth: float, stay: float, brings: Values) -> None:
    """Go back ``SEVERAL`` days of equal chances in one pass; bit by bit as day by day, in a third of the time."""
    keep, lose = _kept_and_lost(stay)
    kept, lost, young = values.dtype.type(keep), values.dtype.type(lose), SEVERAL - 1
    for c in range(young):
        value = values.dtype.type(worth)
        for back in range(c + 1):
            value = kept * value + (brings[back] - lost * value)
        values[c] = value
    older = values[young:]
    one, two, three = np.uintp(1), np.uintp(2), np.uintp(3)
    for c in range(len(older)):
        t = np.uintp(c)
        value = kept * older[t] + (brings[t] - lost * older[t])
        value = kept * value + (brings[t + one] - lost * value)
        value = kept * value + (brings[t + two] - lost * value)
        older[t] = kept * value + (brings[t + three] - lost * value)


@jit_kernel
def _read_row(values: Values, start: int, edges: NDArray[np.int64], out: Values, row: int) -> None:
    """Read W of one age at the edges; where these are all days, a plain copy is much faster."""
    begin, to = np.uintp(start), np.uintp(row)
    if edges[0] == 1 and len(edges) == edges[-1]:
        for m in range(len(edges)):
            out[to, np.uintp(m)] = values[begin + np.uintp(m)]
    else:
        for m in range(len(edges)):
            out[to, np.uintp(m)] = values[begin + np.uintp(max(edges[m], 1) - 1)]


@jit_fused
def _sum_up(
    stage: Stage,
    terms: Terms,
    windows: Values,
    ages: NDArray[np.int64],
    edges: NDArray[np.int64],
    entry: Values,
    out: Values,
) -> None:
    """Sum from edge to edge for ages not far apart, and read them at the edges, new deals day by day.

    A deal of age a has what its days a + 1 .. a + T bring by the end of T days: with e = a + T, the sum over j < T of
    S[e - j] p[e - j] G[j]. The range of j is the same for every age, so one sum for each e, continued from edge to
    edge, serves all ages; it runs over j in order, whatever the edges. New deals have age -1: e = T.
    """
    unit, start, last = 1.0 / terms.level[ages + 1], 0, edges[-1] + (ages[-1] if len(ages) else -1)
    sums, some = np.zeros(max(last, 0) + 1, dtype=out.dtype), np.empty(PUSHED_DAYS, dtype=out.dtype)
    if len(terms.still):
        sums[:] = terms.still[: len(sums)]
    for m in range(len(edges)):
        end = edges[m]
        first = ages[0] + end if len(entry) == 0 else start
        _add_ended(sums, windows, start, end, first)
        for since in range(start, end, PUSHED_DAYS):
            stop = min(since + PUSHED_DAYS, end)
            first = max(first, since) if len(entry) else first
            for x in range(len(terms.weight)):
                _add_days(sums, first, terms.weight[x], stage.gains[x], since, stop, some)
            for day in range(since, min(stop, len(entry))):
                entry[day] = sums[day]
        for c in range(len(ages)):
            row = np.uintp(c)
            out[row, np.uintp(m)] = sums[np.uintp(ages[row] + end)] * unit[row] if end > 0 else stage.worth
        start = end


@jit_kernel
def _windows(ended: Values, edges: NDArray[np.int64]) -> Values:
    """``windows[n, day]``, what ending on that day or one of the ``2 ** n - 1`` days before brings, up to the longest step."""
    longest, n = edges[0], 1
    for m in range(1, len(edges)):
        longest = max(longest, edges[m] - edges[m - 1])
    while (1 << n) <= longest:
        n += 1
    windows = np.zeros((n if len(ended) else 0, len(ended)), dtype=ended.dtype)
    for w in range(len(windows)):
        windows[w] = ended if w == 0 else windows[w - 1]
        back = 1 << (w - 1) if w > 0 else len(ended)
        for day in range(back, len(ended)):
            windows[w, day] += windows[w - 1, day - back]
    return windows


@jit_fused
def _add_ended(sums: Values, windows: Values, start: int, end: int, first: int) -> None:
    """Add what ending ``start .. end - 1`` days before the end brings: a few windows instead of day by day."""
    begin, one = start, sums.dtype.type(1.0)
    for w in range(len(windows) - 1, -1, -1):
        if ((end - start) >> w) & 1:
            at = max(first, begin)
            _add_one(sums[at:], windows[w, PUSHED_DAYS + at - begin :], one)
            begin += 1 << w


@jit_fused
def _add_days(sums: Values, at: int, weight: Values, gains: Values, start: int, end: int, some: Values) -> None:
    """Add ``weight[e - j] * gains[j]`` for ``start <= j < end`` to the sums of days e from ``at``.

    Eight at once keep the sums in registers; some are filled up with zeros, which changes no bit, and very few go one by
    one.
    """
    if end - start <= FEW_DAYS:
        for j in range(start, end):
            _add_one(sums[at:], weight[PUSHED_DAYS + at - j :], gains[j])
        return
    for since in range(start, end, PUSHED_DAYS):
        for i in range(PUSHED_DAYS):
            some[np.uintp(i)] = gains[np.uintp(min(since + i, end - 1))]
        for i in range(end - since, PUSHED_DAYS):
            some[np.uintp(i)] = 0.0
        add_eight(sums[at:], weight[1 + at - since :], some)


@jit_fused
def _add_one(sums: Values, weight: Values, gain: float | np.floating[Any]) -> None:
    for c in range(len(sums)):
        sums[c] += weight[np.uintp(c)] * gain


@jit_fused
def add_eight(sums: Values, weight: Values, gains: Values) -> None:
    """Add ``weight[c + 7 - i] * gains[i]``, i from 0 to 7, to each of ``sums[c]``."""
    g0, g1, g2, g3 = gains[0], gains[1], gains[2], gains[3]
    g4, g5, g6, g7 = gains[4], gains[5], gains[6], gains[7]
    for c in range(len(sums)):
        e = np.uintp(c)
        total = sums[e] + weight[e + np.uintp(7)] * g0 + weight[e + np.uintp(6)] * g1
        total = total + weight[e + np.uintp(5)] * g2 + weight[e + np.uintp(4)] * g3
        total = total + weight[e + np.uintp(3)] * g4 + weight[e + np.uintp(2)] * g5
        sums[e] = total + weight[e + np.uintp(1)] * g6 + weight[e] * g7
