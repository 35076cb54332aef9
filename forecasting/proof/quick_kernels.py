"""Compiled loops of the quick chain: counting by age bin, and the renewal equations over a short horizon."""

import numpy as np
from numba import njit
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@njit(cache=True, nogil=True)
def count_exits(stage: Ints, exit_code: Ints, days: Ints, starts: Ints, n_stages: int) -> tuple[Floats, Floats]:
    """Count exits (stage, code, bin) and days begun at risk (stage, bin); an open stay outlasted days 0..d."""
    n_open, n_bins = starts.shape
    exits = np.zeros((n_open, n_stages, n_bins))
    at_risk = np.zeros((n_open, n_bins))
    for i in range(len(stage)):
        s, last = stage[i], days[i]
        for b in range(n_bins):
            if starts[s, b] > last:
                break
            end = last + 1
            if b + 1 < n_bins and starts[s, b + 1] < end:
                end = starts[s, b + 1]
            at_risk[s, b] += end - starts[s, b]
            if end == last + 1 and exit_code[i] >= 0:
                exits[s, exit_code[i], b] += 1.0
    return exits, at_risk


@njit(cache=True, nogil=True)
def count_exposure(
    stage: Ints,
    exit_code: Ints,
    days: Ints,
    days_ago: Ints,
    amount_class: Ints,
    starts: Ints,
    part_of_day: Floats,
    sizes: tuple[int, int, int, int],
) -> tuple[Floats, Floats]:
    """Exposure (class, period, stage, bin) and exits (class, period, stage, code), by calendar period of the exposure.

    ``sizes`` is classes, periods, stages and days in a period; period 0 is the latest.
    """
    n_classes, n_periods, n_stages, width = sizes
    n_open, n_bins = starts.shape
    exposure = np.zeros((n_classes, n_periods, n_open, n_bins))
    exits = np.zeros((n_classes, n_periods, n_open, n_stages))
    for i in range(len(stage)):
        s, c, last = stage[i], amount_class[i], days[i]
        day, b = 0, 0
        while day <= last:
            while b + 1 < n_bins and starts[s, b + 1] <= day:
                b += 1
            p = (days_ago[i] - day) // width
            end = min(last + 1, days_ago[i] - p * width + 1)
            if b + 1 < n_bins:
                end = min(end, starts[s, b + 1])
            exposure[c, p, s, b] += end - day
            if end == last + 1 and exit_code[i] >= 0:
                exposure[c, p, s, b] += part_of_day[s, b] - 1.0
                exits[c, p, s, exit_code[i]] += 1.0
            day = end
    return exposure, exits


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
    n_draws, n_open = hazards.shape[0], hazards.shape[1]
    longest = horizons.max()
    result = np.zeros((n_draws, len(groups), len(horizons)))
    for i in range(n_draws):
        begin = 0
        while begin < len(groups):
            c, end = groups[begin, 0], begin
            while end < len(groups) and groups[end, 0] == c:
                end += 1
            leave, share = _daily_exits(hazards[i], factors[i, c])
            fresh = _fresh_wins(leave, share, starts, longest, n_won)
            for g in range(begin, end):
                for h in range(len(horizons)):
                    result[i, g, h] = _aged_win(leave, share, starts, fresh, groups[g], horizons[h], n_open + n_won)
            begin = end
    return result


@njit(cache=True, nogil=True)
def _daily_exits(hazard: Floats, factor: Floats) -> tuple[Floats, Floats]:
    """Daily probability to leave (stage, bin) and share of each exit (stage, bin, code)."""
    n_open, n_codes, n_bins = hazard.shape
    leave, share = np.zeros((n_open, n_bins)), np.zeros((n_open, n_bins, n_codes))
    for s in range(n_open):
        for b in range(n_bins):
            total = 0.0
            for j in range(n_codes):
                share[s, b, j] = hazard[s, j, b] * factor[s, j]
                total += share[s, b, j]
            leave[s, b] = -np.expm1(-total)
            if total > 0.0:
                share[s, b] /= total
    return leave, share


@njit(cache=True, nogil=True)
def _fresh_ends(leave: Floats, share: Floats, starts: Ints, longest: int) -> Floats:
    """P(a stay that begins on day 0 ends on day d by exit j), shape (stage, code, day)."""
    n_open, n_bins, n_codes = share.shape
    ends = np.zeros((n_open, n_codes, longest + 1))
    for s in range(n_open):
        alive, b = 1.0, 0
        for d in range(longest + 1):
            while b + 1 < n_bins and starts[s, b + 1] <= d:
                b += 1
            for j in range(n_codes):
                ends[s, j, d] = alive * leave[s, b] * share[s, b, j]
            alive *= 1.0 - leave[s, b]
    return ends


@njit(cache=True, nogil=True)
def _fresh_wins(leave: Floats, share: Floats, starts: Ints, longest: int, n_won: int) -> Floats:
    """P(won by day t of a stay that begins on day 0), shape (stage, day); moves on the day of entry chain on."""
    n_open = len(leave)
    ends = _fresh_ends(leave, share, starts, longest)
    chained = np.linalg.inv(np.eye(n_open) - ends[:, :n_open, 0])
    wins = np.zeros((n_open, longest + 1))
    won, later = np.zeros(n_open), np.zeros(n_open)
    for t in range(longest + 1):
        for s in range(n_open):
            won[s] += ends[s, n_open : n_open + n_won, t].sum()
            later[s] = won[s]
            for j in range(n_open):
                for d in range(1, t + 1):
                    later[s] += ends[s, j, d] * wins[j, t - d]
        wins[:, t] = chained @ later
    return wins


@njit(cache=True, nogil=True)
def _aged_win(
    leave: Floats, share: Floats, starts: Ints, fresh: Floats, group: Ints, horizon: int, last_won: int
) -> float:
    """P(won within the horizon) of a deal that has outlasted ``group[2]`` days of its stay in stage ``group[1]``."""
    s, age = group[1], group[2]
    n_open, n_bins = leave.shape
    alive, b, total = 1.0, 0, 0.0
    for ahead in range(1, horizon + 1):
        while b + 1 < n_bins and starts[s, b + 1] <= age + ahead:
            b += 1
        gain = 0.0
        for j in range(n_open):
            gain += share[s, b, j] * fresh[j, horizon - ahead]
        for j in range(n_open, last_won):
            gain += share[s, b, j]
        total += alive * leave[s, b] * gain
        alive *= 1.0 - leave[s, b]
    return total
