"""Sums over moves still to come: what the deals of one stage are worth, for all days in stage in one pass.

The formula for W stands in :mod:`forecasting.engine.renewal`, whose equations give what is summed up here.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from forecasting.engine.compiled import jit_fused, jit_kernel
from forecasting.engine.exits import survival_by_day

PUSHED_DAYS = 8
"""Days solved before what they send to later days is added up in one pass."""
FEW_DAYS = 2
"""So few are added one by one: eight, filled up with zeros, would cost more."""
BLOCK_DAYS = 512
"""Days whose sums to every edge are made while they and their terms stay in the cache."""


class Survival(NamedTuple):
    """Of one draw and cell by (stage, day): survival, its units, whether they change (see ``survival_by_day``)."""

    level: NDArray[np.float64]
    rescale: NDArray[np.float64]
    changes: NDArray[np.bool_]


class StageTerms(NamedTuple):
    """What is summed up for the deals of one stage.

    ``weight[move, PUSHED_DAYS + day]`` is the survival times the chance to move to an open stage, ``gains[move, day]`` what
    it brings so many days before the end. ``ended[PUSHED_DAYS + day]`` is the survival times what ending that day brings,
    ``still[day]`` what staying through it brings; both empty if nothing. Survival as in :class:`Survival`; ``worth`` is
    the value of the stage itself.
    """

    weight: NDArray[np.float64]
    gains: NDArray[np.float64]
    ended: NDArray[np.float64]
    still: NDArray[np.float64]
    level: NDArray[np.float64]
    rescale: NDArray[np.float64]
    changes: bool
    worth: float


@jit_kernel
def stage_survival(stay: NDArray[np.float64]) -> Survival:
    """Survival in every stage of one draw and cell."""
    n_stages, n_days = stay.shape
    survival = Survival(
        np.empty((n_stages, n_days + 1)), np.empty((n_stages, n_days + 1)), np.empty(n_stages, dtype=np.bool_)
    )
    for k in range(n_stages):
        survival.changes[k] = survival_by_day(stay[k], survival.level[k], survival.rescale[k])
    return survival


@jit_kernel
def stage_terms(
    leave_to: NDArray[np.float64],
    stay: NDArray[np.float64],
    next_stage: NDArray[np.int16],
    value: NDArray[np.float64],
    stage: int,
    survival: Survival,
    entry: NDArray[np.float64],
) -> StageTerms:
    """Terms of one stage from the values of entering the stages it leads to."""
    level, n_open, n_days = survival.level[stage], len(next_stage), len(survival.level[stage]) - 1
    n_moves, ends = 0, False
    for j in next_stage[stage]:
        n_moves += 1 if 0 <= j < n_open else 0
        ends = ends or (j >= n_open and value[j] != 0.0)
    weight, gains = np.zeros((n_moves, PUSHED_DAYS + n_days)), np.empty((n_moves, entry.shape[1]))
    ended = np.zeros(PUSHED_DAYS + n_days if ends else 0)
    still = np.empty(n_days if value[stage] != 0.0 else 0)
    move = 0
    for s in range(next_stage.shape[1]):
        j = next_stage[stage, s]
        if 0 <= j < n_open:
            for day in range(n_days):
                weight[move, PUSHED_DAYS + day] = level[day] * leave_to[stage, s, day]
            gains[move] = entry[j]
            move += 1
        elif j >= 0 and value[j] != 0.0:
            for day in range(n_days):
                ended[PUSHED_DAYS + day] += level[day] * leave_to[stage, s, day] * value[j]
    for day in range(len(still)):
        still[day] = value[stage] * level[day] * stay[stage, day]
    rescale, changes = survival.rescale[stage], survival.changes[stage]
    return StageTerms(weight, gains, ended, still, level, rescale, changes, value[stage])


@jit_fused
def aged_values(terms: StageTerms, ages: NDArray[np.int64], edges: NDArray[np.int64], out: NDArray[np.float64]) -> None:
    """Fill ``out[age, edge]`` = W of one stage for ages and days of progress ``edges``, both ascending.

    A deal of age a has what its days a + 1 .. a + T bring by the end of T days: with e = a + T, the sum over j < T of
    S[e - j] p[e - j] G[j]. The range of j is the same for every age, so one sum for each e, continued from edge to
    edge, serves all ages; it runs over j in order, whatever the edges. Ages far apart are solved in separate runs: a run
    costs horizon x (ages spanned + horizon / 2).
    """
    high, near = len(ages) - 1, edges[-1] // 2
    day_by_day = _follow_closely(edges)
    while high >= 0:
        low = high
        while low > 0 and ages[low] - ages[low - 1] <= near:
            low -= 1
        if day_by_day:
            _sum_day_by_day(terms, ages[low : high + 1], edges, np.empty(0), out[low : high + 1])
        else:
            _sum_run(terms, ages[low : high + 1], edges, out[low : high + 1])
        high = low - 1


@jit_fused
def entry_and_aged_values(
    terms: StageTerms,
    ages: NDArray[np.int64],
    edges: NDArray[np.int64],
    entry: NDArray[np.float64],
    out: NDArray[np.float64],
) -> None:
    """Fill ``out`` as :func:`aged_values` does and ``entry[T]`` = G of the stage, which must not lead back to itself.

    New deals have age -1 and share the sums of those not much older: e = T. The survival must not change its unit within
    the horizon.
    """
    near, n_near = edges[-1] // 2, 0
    while n_near < len(ages) and not terms.changes:
        if ages[n_near] - (ages[n_near - 1] if n_near > 0 else -1) > near:
            break
        n_near += 1
    if _follow_closely(edges):
        _sum_day_by_day(terms, ages[:n_near], edges, entry, out[:n_near])
    else:
        _sum_from_entry(terms, ages[:n_near], edges, entry, out[:n_near])
    aged_values(terms, ages[n_near:], edges, out[n_near:])


@jit_fused
def _sum_from_entry(
    terms: StageTerms,
    ages: NDArray[np.int64],
    edges: NDArray[np.int64],
    entry: NDArray[np.float64],
    out: NDArray[np.float64],
) -> None:
    """Sum from edge to edge, new deals and some ages together; read new deals day by day, ages at the edges."""
    weight, gains, unit = terms.weight, terms.gains, _units(terms, ages)
    start, last, some = 0, edges[-1] + (ages[-1] if len(ages) else -1), np.empty(PUSHED_DAYS)
    sums, windows = _empty_sums(terms, last), _windows(terms.ended, edges)
    for m in range(len(edges)):
        _add_ended(sums, windows, start, edges[m], start, last)
        for since in range(start, edges[m], PUSHED_DAYS):
            stop = min(since + PUSHED_DAYS, edges[m])
            for x in range(len(weight)):
                _add_days(sums, x, since, last - since + 1, weight, gains, since, stop, some)
            for c in range(since, stop):
                t = np.uintp(c)
                entry[t] = sums[0, t]
                for x in range(1, sums.shape[0]):
                    entry[t] += sums[np.uintp(x), t]
        _read_ages(terms, sums, ages, edges[m], unit, m, out)
        start = edges[m]


@jit_fused
def _sum_day_by_day(
    terms: StageTerms,
    ages: NDArray[np.int64],
    edges: NDArray[np.int64],
    entry: NDArray[np.float64],
    out: NDArray[np.float64],
) -> None:
    """Sum to edges that follow one another closely, a stretch of days e at a time, and read ages and entries in it.

    What ends counts as one move more, which brings one on every day.
    """
    n_moves, horizon, unit = len(terms.gains), edges[-1], _units(terms, ages)
    n_rows = n_moves + int(len(terms.ended) > 0)
    weight, gains = np.empty((n_rows, PUSHED_DAYS + len(terms.level) - 1)), np.ones((n_rows, horizon))
    weight[:n_moves], gains[:n_moves] = terms.weight, terms.gains[:, :horizon]
    if n_rows > n_moves:
        weight[n_moves] = terms.ended
    first, last = 0 if len(entry) else max(ages[0], 0), horizon + (ages[-1] if len(ages) else -1)
    sums = np.empty((1, BLOCK_DAYS))
    for begin in range(first, last + 1, BLOCK_DAYS):
        stop, start = min(begin + BLOCK_DAYS, last + 1), 0
        sums[:] = 0.0
        if len(terms.still):
            sums[0, : stop - begin] = terms.still[begin:stop]
        for m in range(len(edges)):
            for j in range(start, min(edges[m], stop)):
                at = max(begin, j)
                if terms.changes and j > 0:
                    _follow_unit(sums[0], at - begin, stop - at, terms.rescale, at - j + 1)
                _add_rows(sums, at - begin, stop - at, weight, PUSHED_DAYS + at - j, gains, j)
            start = edges[m]
            low, high = np.searchsorted(ages, begin - start), np.searchsorted(ages, stop - start)
            for row in range(low, high):
                out[np.uintp(row), np.uintp(m)] = sums[0, np.uintp(ages[row] + start - begin)] * unit[row]
        for day in range(begin, min(stop, len(entry))):
            entry[day] = sums[0, day - begin]
    out[:, edges == 0] = terms.worth


@jit_fused
def _add_rows(
    sums: NDArray[np.float64],
    at: int,
    length: int,
    weight: NDArray[np.float64],
    since: int,
    gains: NDArray[np.float64],
    day: int,
) -> None:
    """Add ``weight[x, since + c] * gains[x, day]`` of every row x to ``sums[0, at + c]`` for ``length`` days c."""
    to, begin, j, first, n_rows = np.uintp(at), np.uintp(since), np.uintp(day), np.uintp(0), len(weight)
    for x in range(0, n_rows - 1, 2):
        a, b = np.uintp(x), np.uintp(x + 1)
        one, two = gains[a, j], gains[b, j]
        for c in range(length):
            d = np.uintp(c)
            total = sums[first, to + d] + weight[a, begin + d] * one
            sums[first, to + d] = total + weight[b, begin + d] * two
    if n_rows % 2:
        _add_one(sums, 0, at, length, weight, n_rows - 1, since, gains[n_rows - 1, day])


@jit_kernel
def _follow_closely(edges: NDArray[np.int64]) -> bool:
    last = 0
    for edge in edges:
        if edge - last > FEW_DAYS:
            return False
        last = edge
    return True


@jit_kernel
def _units(terms: StageTerms, ages: NDArray[np.int64]) -> NDArray[np.float64]:
    """One over the survival of each age."""
    unit = np.empty(len(ages))
    for row in range(len(ages)):
        unit[row] = 1.0 / terms.level[ages[row] + 1]
    return unit


@jit_kernel
def _empty_sums(terms: StageTerms, last: int) -> NDArray[np.float64]:
    """Sums up to a day by move, and a last one of ending and of still being in the stage, which holds the latter."""
    others = len(terms.ended) + len(terms.still) > 0 or len(terms.gains) == 0
    sums = np.zeros((len(terms.gains) + int(others), max(last, 0) + 1))
    if len(terms.still):
        sums[-1] = terms.still[: max(last, 0) + 1]
    return sums


@jit_fused
def _sum_run(terms: StageTerms, ages: NDArray[np.int64], edges: NDArray[np.int64], out: NDArray[np.float64]) -> None:
    """Sum from edge to edge for ages not far apart and read each on the way."""
    weight, gains, unit = terms.weight, terms.gains, _units(terms, ages)
    start, last, some = 0, ages[-1] + edges[-1], np.empty(PUSHED_DAYS)
    sums, windows = _empty_sums(terms, last), _windows(terms.ended, edges)
    ended, ones = terms.ended, np.ones(edges[-1] if terms.changes else 0)
    if terms.changes and len(ended) == 0:
        ended = np.zeros(PUSHED_DAYS + len(terms.level))
    for m in range(len(edges)):
        end = edges[m]
        first = ages[0] + end
        if terms.changes and len(sums) > len(weight):
            _add_across_units(sums[-1], ended, ones, start, end, first, last, terms.rescale)
        else:
            _add_ended(sums, windows, start, end, first, last)
        for x in range(len(weight)):
            if terms.changes:
                _add_across_units(sums[x], weight[x], gains[x], start, end, first, last, terms.rescale)
            else:
                _add_days(sums, x, first, last - first + 1, weight, gains, start, end, some)
        _read_ages(terms, sums, ages, end, unit, m, out)
        start = end


@jit_kernel
def _read_ages(
    terms: StageTerms,
    sums: NDArray[np.float64],
    ages: NDArray[np.int64],
    end: int,
    unit: NDArray[np.float64],
    m: int,
    out: NDArray[np.float64],
) -> None:
    column = np.uintp(m)
    for c in range(len(ages)):
        row = np.uintp(c)
        at = np.uintp(max(ages[row] + end, 0))
        total = sums[0, at]
        for x in range(1, sums.shape[0]):
            total += sums[np.uintp(x), at]
        out[row, column] = total * unit[row] if end > 0 else terms.worth


@jit_kernel
def _windows(ended: NDArray[np.float64], edges: NDArray[np.int64]) -> NDArray[np.float64]:
    """``windows[n, day]``, what ending on that day or one of the ``2 ** n - 1`` days before brings, up to the longest step."""
    longest, n = edges[0], 1
    for m in range(1, len(edges)):
        longest = max(longest, edges[m] - edges[m - 1])
    while (1 << n) <= longest:
        n += 1
    windows = np.zeros((n if len(ended) else 0, len(ended)))
    for w in range(len(windows)):
        windows[w] = ended if w == 0 else windows[w - 1]
        back = 1 << (w - 1) if w > 0 else len(ended)
        for day in range(back, len(ended)):
            windows[w, day] += windows[w - 1, day - back]
    return windows


@jit_fused
def _add_ended(
    sums: NDArray[np.float64], windows: NDArray[np.float64], start: int, end: int, first: int, last: int
) -> None:
    """Add what ending ``start .. end - 1`` days before the end brings: a few windows instead of day by day."""
    begin = start
    for w in range(len(windows) - 1, -1, -1):
        if ((end - start) >> w) & 1:
            at = max(first, begin)
            _add_one(sums, len(sums) - 1, at, last - at + 1, windows, w, PUSHED_DAYS + at - begin, 1.0)
            begin += 1 << w


@jit_fused
def _add_across_units(
    sums: NDArray[np.float64],
    weight: NDArray[np.float64],
    gains: NDArray[np.float64],
    start: int,
    end: int,
    first: int,
    last: int,
    rescale: NDArray[np.float64],
) -> None:
    """As :func:`_add_days` where the unit of the survival changes: sums follow it from one day to the one before."""
    for j in range(start, end):
        if j > 0:
            _follow_unit(sums, first, last - first + 1, rescale, first - j + 1)
        for day in range(first, last + 1):
            sums[day] += weight[PUSHED_DAYS + day - j] * gains[j]


@jit_kernel
def _follow_unit(sums: NDArray[np.float64], at: int, length: int, rescale: NDArray[np.float64], since: int) -> None:
    """Bring ``sums[at + c]`` to the unit of the day before ``since + c`` where it changes on that day."""
    for c in range(length):
        if rescale[since + c] >= 0.0:
            sums[at + c] *= rescale[since + c]


@jit_fused
def _add_days(
    sums: NDArray[np.float64],
    x: int,
    at: int,
    length: int,
    weight: NDArray[np.float64],
    gains: NDArray[np.float64],
    start: int,
    end: int,
    some: NDArray[np.float64],
) -> None:
    """Add ``weight[x, e - j] * gains[x, j]`` for ``start <= j < end`` to the sums of days e from ``at``.

    Eight at once keep the sums in registers; some are filled up with zeros, which changes no bit, and very few go one by
    one.
    """
    row = np.uintp(x)
    if end - start <= FEW_DAYS:
        for j in range(start, end):
            _add_one(sums, x, at, length, weight, x, PUSHED_DAYS + at - j, gains[row, np.uintp(j)])
        return
    for since in range(start, end, PUSHED_DAYS):
        for i in range(PUSHED_DAYS):
            some[np.uintp(i)] = gains[row, np.uintp(min(since + i, end - 1))]
        for i in range(end - since, PUSHED_DAYS):
            some[np.uintp(i)] = 0.0
        add_eight(sums, x, at, length, weight, x, 1 + at - since, some)


@jit_fused
def _add_one(
    sums: NDArray[np.float64],
    x: int,
    at: int,
    length: int,
    weight: NDArray[np.float64],
    y: int,
    since: int,
    gain: float,
) -> None:
    to, begin = np.uintp(at), np.uintp(since)  # unsigned: no index counts from the end, so the loop can be vectorised
    row, own = np.uintp(x), np.uintp(y)
    for c in range(length):
        sums[row, to + np.uintp(c)] += weight[own, begin + np.uintp(c)] * gain


@jit_fused
def add_eight(
    sums: NDArray[np.float64],
    x: int,
    at: int,
    length: int,
    weight: NDArray[np.float64],
    y: int,
    since: int,
    gains: NDArray[np.float64],
) -> None:
    """Add ``weight[y, since + c + 7 - i] * gains[i]``, i from 0 to 7, to ``sums[x, at + c]`` for ``length`` days c."""
    g0, g1, g2, g3 = gains[0], gains[1], gains[2], gains[3]
    g4, g5, g6, g7 = gains[4], gains[5], gains[6], gains[7]
    row, own, to, begin = np.uintp(x), np.uintp(y), np.uintp(at), np.uintp(since)
    for c in range(length):
        d = np.uintp(c)
        e = begin + d
        total = sums[row, to + d] + weight[own, e + np.uintp(7)] * g0 + weight[own, e + np.uintp(6)] * g1
        total = total + weight[own, e + np.uintp(5)] * g2 + weight[own, e + np.uintp(4)] * g3
        total = total + weight[own, e + np.uintp(3)] * g4 + weight[own, e + np.uintp(2)] * g5
        sums[row, to + d] = total + weight[own, e + np.uintp(1)] * g6 + weight[own, e] * g7
