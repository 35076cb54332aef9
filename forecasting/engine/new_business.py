"""Deals not created yet, without simulating lives that do not matter.

Given a draw's arrival intensity, arrivals of each kind are a Poisson process, and so are the wins among them
(thinning, Kingman 1993, Poisson Processes, section 5.1): wins of segment g whose amount comes from pool p on forecast
day t are independent Poisson counts with mean

    sum over days u <= t of intensity[g, u] x sum over kinds k in (g, p) of mix[k] x w_k(t - u),

w_k(d) being the exact probability that a deal of kind k is won on the d-th day after it was created. Each win then
draws its amount, and the day it was created, given the day it was won; deals created and not won by the last day are
one more Poisson count.

A deal is created at the start of its day. Where time is not uniform, with C(t) days of progress by the end of forecast
day t (:mod:`forecasting.engine.clock`), w_k(t - u) becomes W_k(C(t) - C(u - 1)) - W_k(C(t - 1) - C(u - 1)), W_k(x) being
the probability to be won within x days of progress: 0 at 0, w_k(0) at 1, w_k(0) + w_k(1) at 2, and linear in between.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from forecasting.engine.amounts import pooled_cents
from forecasting.engine.compiled import jit_inline, jit_kernel
from forecasting.engine.exits import exit_probabilities
from forecasting.engine.renewal import entry_values
from forecasting.engine.streams import (
    SEED_STRIDE,
    STEP_NOT_WON,
    STEP_STRIDE,
    STEP_WIN_AMOUNT,
    STEP_WIN_CREATED,
    STEP_WINS,
    draw_key,
    mix,
    poisson,
    unit,
)

AT_ONCE_PLACE = 500_009
"""Added to the place of a lane, so that what is won at once has random numbers of its own."""


class ArrivalKinds(NamedTuple):
    """Kinds of arrival as kernels take them.

    ``cell``, ``stage`` and ``lane`` by kind; a lane is a segment, an amount pool and whether what arrives is won on the
    day it is created, ``lane_group``, ``lane_pool`` and ``lane_at_once``: kinds whose stage is no open one.
    """

    cell: NDArray[np.int64]
    stage: NDArray[np.int64]
    lane: NDArray[np.int64]
    lane_group: NDArray[np.int64]
    lane_pool: NDArray[np.int64]
    lane_at_once: NDArray[np.bool_]


class NewTotals(NamedTuple):
    """Sums of new business by (draw, period, segment): cents, those won at once among them, deals won, deals created."""

    cents: NDArray[np.int64]
    at_once: NDArray[np.int64]
    wins: NDArray[np.int32]
    created: NDArray[np.int32]


class Lane(NamedTuple):
    """Of one lane and draw: wins on each day of progress per deal created, and by its end, ``won_by[n]`` of n days."""

    wins: NDArray[np.float64]
    won_by: NDArray[np.float64]


@jit_kernel
def lane_wins(
    base: NDArray[np.float64],
    effect: NDArray[np.float64],
    next_stage: NDArray[np.int16],
    value: NDArray[np.float64],
    kinds: ArrivalKinds,
    shares: NDArray[np.float64],
    out: NDArray[np.float64],
) -> None:
    """Fill ``out[lane, d]``: expected wins on day d of progress per deal created in the lane's segment.

    Of lanes won at once, ``out[lane, 0]`` is the share of the deals created.
    """
    n_stages, n_slots, n_days = base.shape
    horizon = out.shape[1]
    leave_to, stay = np.empty((n_stages, n_slots, n_days)), np.empty((n_stages, n_days))
    mass, entry = np.empty((n_stages, n_slots, horizon)), np.empty((n_stages, horizon))
    out[:] = 0.0
    for cell in range(effect.shape[0]):
        exit_probabilities(base, effect[cell], leave_to, stay)
        entry_values(leave_to, stay, next_stage, value, mass, entry)
        for kind in range(len(kinds.cell)):
            if kinds.cell[kind] == cell and kinds.stage[kind] >= n_stages:
                out[kinds.lane[kind], 0] += shares[kind]
            elif kinds.cell[kind] == cell:
                lane, won_by = out[kinds.lane[kind]], entry[kinds.stage[kind]]
                lane[0] += shares[kind] * won_by[0]
                for d in range(1, horizon):
                    lane[d] += shares[kind] * max(won_by[d] - won_by[d - 1], 0.0)


@jit_inline
def _address(lane: int, day: int) -> np.uint64:
    return np.uint64(lane) * SEED_STRIDE + np.uint64(day) * STEP_STRIDE


@jit_inline
def _won_within(won_by: NDArray[np.float64], progress: float) -> float:
    """W at some days of progress; ``won_by[n]`` is that of n whole days."""
    day = int(progress)
    return float(won_by[day] + (progress - day) * (won_by[day + 1] - won_by[day]))


@jit_inline
def _won_on(lane: Lane, reached: NDArray[np.float64], plain: bool, created: int, day: int) -> float:
    """Probability that a deal created on one forecast day is won on another; days count from zero here."""
    if plain:
        return float(lane.wins[day - created])
    since = reached[created]
    return _won_within(lane.won_by, reached[day + 1] - since) - _won_within(lane.won_by, reached[day] - since)


@jit_kernel
def _rates_by_creation(
    intensity: NDArray[np.float64],
    lane: Lane,
    reached: NDArray[np.float64],
    plain: bool,
    day: int,
    out: NDArray[np.float64],
) -> None:
    """Fill ``out[created]`` with the mean number of wins on ``day`` of deals created before the day ``created`` is over."""
    total = 0.0
    for created in range(day):
        total += intensity[created] * _won_on(lane, reached, plain, created, day)
        out[created] = total


@jit_kernel
def _win_rates(
    intensity: NDArray[np.float64], lane: Lane, reached: NDArray[np.float64], plain: bool, rates: NDArray[np.float64]
) -> None:
    """Fill ``rates[day]`` with the mean number of wins of each forecast day."""
    rates[:] = 0.0
    if plain:
        for created in range(len(rates)):
            later, arrivals = rates[created:], intensity[created]
            for days in range(len(later)):
                later[days] += arrivals * lane.wins[days]
        return
    for created in range(len(rates)):  # first all wins by the end of each day
        for day in range(created, len(rates)):
            rates[day] += intensity[created] * _won_within(lane.won_by, reached[day + 1] - reached[created])
    for day in range(len(rates) - 1, 0, -1):
        rates[day] = max(rates[day] - rates[day - 1], 0.0)


@jit_kernel
def _draw_at_once(
    keys: tuple[np.uint64, np.uint64, np.uint64, np.uint64],
    intensity: NDArray[np.float64],
    share: float,
    lane: tuple[int, int],
    pool: NDArray[np.float64],
    factor: float,
    period: NDArray[np.int64],
    totals: NewTotals,
    i: int,
) -> None:
    """Wins on the day of creation, whatever the progress, of one lane: a segment and a pool of amounts."""
    group = lane[0]
    place = group * 1_000_003 + lane[1] + AT_ONCE_PLACE
    for day in range(len(intensity)):
        address = _address(place, day)
        n_wins = poisson(intensity[day] * share, mix(keys[0] + address))
        for win in range(n_wins):
            bits = mix(mix(keys[1] + address) + np.uint64(win))
            amount = pooled_cents(pool, 0, len(pool), factor, bits)
            totals.cents[i, period[day], group] += amount
            totals.at_once[i, period[day], group] += amount
        totals.wins[i, period[day], group] += n_wins
        totals.created[i, period[day], group] += n_wins


@jit_kernel
def _draw_not_won(
    key: np.uint64,
    intensity: NDArray[np.float64],
    won_by: NDArray[np.float64],
    at_once: float,
    reached: NDArray[np.float64],
    group: int,
    period: NDArray[np.int64],
    created: NDArray[np.int32],
) -> None:
    """Deals of one segment that are created and not won by the last day."""
    horizon = len(intensity)
    for day in range(horizon):
        won = at_once + _won_within(won_by, reached[horizon] - reached[day])
        rest = intensity[day] * max(1.0 - won, 0.0)
        created[period[day], group] += poisson(rest, mix(key + _address(group, day)))


@jit_kernel
def _new_draw(
    keys: tuple[np.uint64, np.uint64, np.uint64, np.uint64],
    wins: NDArray[np.float64],
    intensity: NDArray[np.float64],
    reached: NDArray[np.float64],
    kinds: ArrivalKinds,
    pool: NDArray[np.float64],
    pool_start: NDArray[np.int64],
    factors: NDArray[np.float64],
    period: NDArray[np.int64],
    totals: NewTotals,
    i: int,
) -> None:
    """One draw: wins lane by lane and day by day, then the deals created and not won."""
    horizon, progress_days = intensity.shape[1], wins.shape[1]
    plain = True
    for day in range(horizon + 1):
        plain = plain and reached[day] == day
    won_share, at_once = np.zeros((intensity.shape[0], progress_days + 2)), np.zeros(intensity.shape[0])
    won_by, rates, by_creation = np.zeros(progress_days + 2), np.empty(horizon), np.empty(horizon)
    for number in range(len(kinds.lane_group)):
        group, amounts = kinds.lane_group[number], kinds.lane_pool[number]
        own = pool[pool_start[amounts] : pool_start[amounts + 1]]
        if kinds.lane_at_once[number]:
            share = wins[number, 0]
            at_once[group] += share
            _draw_at_once(keys, intensity[group], share, (group, amounts), own, factors[amounts], period, totals, i)
            continue
        place = group * 1_000_003 + amounts
        for n in range(progress_days):
            won_share[group, n + 1] += wins[number, n]
            won_by[n + 1] = won_by[n] + wins[number, n]
        won_by[progress_days + 1] = won_by[progress_days]
        lane = Lane(wins[number], won_by)
        _win_rates(intensity[group], lane, reached, plain, rates)
        for day in range(horizon):
            rate, address = rates[day], _address(place, day)
            n_wins = poisson(rate, mix(keys[0] + address))
            if n_wins > 0:
                _rates_by_creation(intensity[group], lane, reached, plain, day, by_creation)
            totals.wins[i, period[day], group] += n_wins
            for win in range(n_wins):
                bits = mix(mix(keys[1] + address) + np.uint64(win))
                totals.cents[i, period[day], group] += pooled_cents(own, 0, len(own), factors[amounts], bits)
                part = unit(mix(mix(keys[2] + address) + np.uint64(win))) * rate
                made = np.searchsorted(by_creation[:day], part, side="right")
                totals.created[i, period[made], group] += 1
    for group in range(intensity.shape[0]):
        for n in range(progress_days + 1):
            won_share[group, n + 1] += won_share[group, n]
        _draw_not_won(
            keys[3], intensity[group], won_share[group], at_once[group], reached, group, period, totals.created[i]
        )


@jit_kernel
def new_block(
    base: NDArray[np.float64],
    effect: NDArray[np.float64],
    next_stage: NDArray[np.int16],
    value: NDArray[np.float64],
    kinds: ArrivalKinds,
    shares: NDArray[np.float64],
    intensity: NDArray[np.float64],
    pool: NDArray[np.float64],
    pool_start: NDArray[np.int64],
    log_scale: NDArray[np.float64],
    edges: NDArray[np.int64],
    progress: NDArray[np.float64],
    seed: int,
    first_draw: int,
    totals: NewTotals,
) -> None:
    """Simulate draws ``first_draw, first_draw + 1, ...``; adds to the totals.

    ``progress[draw, day]`` are the days of progress by the end of each forecast day.
    """
    horizon = edges[-1]
    period = np.empty(horizon, dtype=np.int64)
    m = 0
    for day in range(horizon):
        if day + 1 > edges[m]:
            m += 1
        period[day] = m
    for i in range(base.shape[0]):
        wins = np.empty((len(kinds.lane_group), max(math.ceil(progress[i, horizon]), 1)))
        lane_wins(base[i], effect[i], next_stage, value, kinds, shares[i], wins)
        draw = first_draw + i
        keys = (
            draw_key(seed, draw, STEP_WINS),
            draw_key(seed, draw, STEP_WIN_AMOUNT),
            draw_key(seed, draw, STEP_WIN_CREATED),
            draw_key(seed, draw, STEP_NOT_WON),
        )
        factors = np.exp(log_scale[i])
        _new_draw(
            keys, wins, intensity[i], progress[i], kinds, pool, pool_start, factors, period, totals, i,
        )  # fmt: skip
