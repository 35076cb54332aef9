"""Compiled loops of the quick chain: counting by age bin, and the renewal equations over a short horizon."""

import numpy as np
from numba import njit
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

SMALLEST = 1e-200
"""Below this survival a deal's own days are followed: divided by it the chances would have lost their digits."""


@njit(cache=True, nogil=True)
def count_exits(
    stage: Ints, exit_code: Ints, days: Ints, unseen: Ints, starts: Ints, n_stages: int
) -> tuple[Floats, Floats]:
    """Count exits (stage, code, bin) and days begun at risk (stage, bin); an open stay outlasted days 0..d.

    The first ``unseen`` days of a stay were not watched: on them it was at no risk.
    """
    n_open, n_bins = starts.shape
    of_day = bins_of_days(starts, days.max() + 1)
    exits, at_risk = np.zeros((n_open, n_stages, n_bins)), np.zeros((n_open, n_bins))
    last = np.zeros(of_day.shape)
    for i in range(len(stage)):
        s, day = stage[i], days[i]
        last[s, day] += 1.0
        if unseen[i] > 0:
            last[s, unseen[i] - 1] -= 1.0
        if exit_code[i] >= 0:
            exits[s, exit_code[i], of_day[s, day]] += 1.0
    for s in range(n_open):
        outlasting = 0.0
        for day in range(of_day.shape[1] - 1, -1, -1):
            outlasting += last[s, day]
            at_risk[s, of_day[s, day]] += outlasting
    return exits, at_risk


@njit(cache=True, nogil=True)
def count_expected(
    stage: Ints,
    exit_code: Ints,
    days: Ints,
    days_ago: Ints,
    unseen: Ints,
    amount_class: Ints,
    passed: Floats,
    ending: Floats,
    sizes: tuple[int, int, int],
) -> tuple[Floats, Floats]:
    """Count exits expected and seen (class, period, stage, code), by calendar period.

    ``passed[stage, day, code]`` is the hazard of the days before, ``ending`` that of the part of a day that a stay ending
    on it was exposed to. ``sizes`` is classes, periods and days in a period; period 0 is the latest.
    """
    n_classes, n_periods, width = sizes
    n_open, _, n_codes = passed.shape
    expected = np.zeros((n_classes, n_periods, n_open, n_codes))
    exits = np.zeros((n_classes, n_periods, n_open, n_codes))
    for i in range(len(stage)):
        s, c, last = stage[i], amount_class[i], days[i]
        outlasted = last if exit_code[i] >= 0 else last + 1
        day = unseen[i]
        while day < outlasted:
            p = (days_ago[i] - day) // width
            end = min(outlasted, days_ago[i] - p * width + 1)
            for j in range(n_codes):
                expected[c, p, s, j] += passed[s, end, j] - passed[s, day, j]
            day = end
        if exit_code[i] >= 0:
            p = (days_ago[i] - last) // width
            for j in range(n_codes):
                expected[c, p, s, j] += ending[s, last, j]
            exits[c, p, s, exit_code[i]] += 1.0
    return expected, exits


@njit(cache=True, nogil=True)
def win_probabilities(
    hazards: Floats, factors: Floats, starts: Ints, groups: Ints, horizons: Ints, n_won: int
) -> Floats:
    """P(won within each horizon | class, stage, days in stage), shape (draw, group, horizon).

    ``hazards`` has shape (draw, stage, code, bin), ``factors`` (draw, class, stage, code), ``groups`` rows of class,
    stage and days, sorted by class. With e[s, j](d) the probability that a stay begun in s ends on day d in j,
    W[s](t) = sum over d <= t and j of e[s, j](d) (1 if j is won else W[j](t - d)); a deal aged a takes e given that it
    outlasted the days 0..a.
    """
    n_draws, n_open = hazards.shape[:2]
    longest, last_won = horizons.max(), n_open + n_won
    of_day = bins_of_days(starts, groups[:, 2].max() + longest + 1)
    leads = hazards.sum(axis=3).sum(axis=0)[:, :last_won] > 0.0
    leave_to, stay = np.zeros((n_open, last_won, of_day.shape[1])), np.empty(of_day.shape)
    ends, alive = np.zeros(leave_to.shape), np.empty((n_open, of_day.shape[1] + 1))
    again, result = np.empty(alive.shape[1]), np.zeros((n_draws, len(groups), len(horizons)))
    for i in range(n_draws):
        begin = 0
        while begin < len(groups):
            c, end = groups[begin, 0], begin
            while end < len(groups) and groups[end, 0] == c:
                end += 1
            _daily_exits(hazards[i], factors[i, c], of_day, leads, leave_to, stay)
            for s in range(n_open):
                _fill_ends(leave_to[s], stay[s], leads[s], ends[s], alive[s])
            fresh = _fresh_wins(ends, leads, longest)
            for g in range(begin, end):
                s, first = groups[g, 1], groups[g, 2] + 1
                unit, own = alive[s, first], ends[s]
                if unit < SMALLEST:
                    own = np.zeros((last_won, of_day.shape[1]))
                    _fill_ends(leave_to[s, :, first:], stay[s, first:], leads[s], own[:, first:], again[first:])
                    unit = 1.0
                for h in range(len(horizons)):
                    result[i, g, h] = _aged_win(own, leads[s], fresh, first, horizons[h]) / unit
            begin = end
    return result


@njit(cache=True, nogil=True)
def bins_of_days(starts: Ints, days: int) -> Ints:
    """Age bin of each day of a stay, shape (stage, day)."""
    found = np.empty((len(starts), days), dtype=np.int64)
    for s in range(len(starts)):
        b = 0
        for d in range(days):
            while b + 1 < starts.shape[1] and starts[s, b + 1] <= d:
                b += 1
            found[s, d] = b
    return found


@njit(cache=True, nogil=True)
def _daily_exits(
    hazard: Floats, factor: Floats, of_day: Ints, leads: NDArray[np.bool_], leave_to: Floats, stay: Floats
) -> None:
    """Fill the daily probabilities to leave by each exit that may lead to a win (stage, code, day) and to stay."""
    n_open, n_codes, n_bins = hazard.shape
    part, still = np.empty(n_bins), np.empty(n_bins)
    for s in range(n_open):
        n_used = of_day[s, -1] + 1
        for b in range(n_used):
            total = 0.0
            for j in range(n_codes):
                total += hazard[s, j, b] * factor[s, j]
            still[b] = np.exp(-total)
            part[b] = -np.expm1(-total) / total if total > 0.0 else 0.0
        for d in range(of_day.shape[1]):
            stay[s, d] = still[of_day[s, d]]
        for j in range(leads.shape[1]):
            if leads[s, j]:
                chance = hazard[s, j, :n_used] * factor[s, j] * part[:n_used]
                for d in range(of_day.shape[1]):
                    leave_to[s, j, d] = chance[of_day[s, d]]


@njit(cache=True, nogil=True)
def _fill_ends(leave_to: Floats, stay: Floats, leads: NDArray[np.bool_], ends: Floats, alive: Floats) -> None:
    """Fill P(a stay lasts to the start of a day), shape (day + 1,), and P(it ends on the day by an exit), (code, day)."""
    alive[0] = 1.0
    for d in range(len(stay)):
        alive[d + 1] = alive[d] * stay[d]
    for j in range(len(leads)):
        if leads[j]:
            for d in range(len(stay)):
                ends[j, d] = alive[d] * leave_to[j, d]


@njit(fastmath={"reassoc", "contract"}, cache=True, nogil=True)
def _fresh_wins(ends: Floats, leads: NDArray[np.bool_], longest: int) -> Floats:
    """P(won by day t of a deal that comes to a code on day 0), shape (code, longest - t): one where it is won.

    Moves on the day of entry chain on. The order of sums is the compiler's, so that several terms are added at a time.
    """
    n_open, last_won, _ = ends.shape
    chained = np.linalg.inv(np.eye(n_open) - ends[:, :n_open, 0])
    wins, later = np.ones((last_won, longest + 1)), np.zeros(n_open)
    for t in range(longest + 1):
        at = longest - t
        for s in range(n_open):
            total = 0.0
            for j in range(n_open):
                if leads[s, j]:
                    for d in range(1, t + 1):
                        total += ends[s, j, np.uintp(d)] * wins[j, np.uintp(at + d)]
            for j in range(n_open, last_won):
                for d in range(t + 1):
                    total += ends[s, j, np.uintp(d)]
            later[s] = total
        for s in range(n_open):
            wins[s, at] = (chained[s] * later).sum()
    return wins


@njit(fastmath={"reassoc", "contract"}, cache=True, nogil=True)
def _aged_win(ends: Floats, leads: NDArray[np.bool_], wins: Floats, first: int, horizon: int) -> float:
    """P(won within the horizon) of a deal whose stay ends on the coming days as ``ends[code, first + ...]`` says."""
    begin, total = wins.shape[1] - horizon, 0.0
    for j in range(len(leads)):
        if leads[j]:
            for d in range(horizon):
                total += ends[j, np.uintp(first + d)] * wins[j, np.uintp(begin + d)]
    return total
