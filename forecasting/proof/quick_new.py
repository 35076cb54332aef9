"""Revenue of deals not created yet in milliseconds: expected value and spread, as of many past dates.

The same belief as the published forecast in its cheapest form: the level of arrivals from the same filter over its grid
of settings, the share of created deals that was won by each number of days since creation (each deal watched as long as
it has existed), by the stage deals begin in, and the mean amount of past wins. With L_j the arrivals of coming week j,
w_j the share of them won within the horizon, in the season of the days they are won on, and a the amount of a win (what is
entered as won, without a stage before, has a share and amounts of its own, and no season but that of its arrivals),

    mean = E[sum_j L_j w_j] E[a],   variance = E[wins] E[a^2] + Var[sum_j L_j w_j] E[a]^2 + what is not known of w and a.

It exists for :mod:`forecasting.proof.new_calibration`.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import softmax

from forecasting.data.known_entries import NEVER, date_of
from forecasting.proof.quick_calendar import progress, win_weights
from forecasting.proof.stay_table import KnownStays
from models.arrivals.level import NO_SEASON, STEP_SD, LevelGrid
from models.arrivals.level_kernel import LASTING, ODD_SHAPE
from models.arrivals.mix import kind_counts, memory_odds
from models.arrivals.model import GROWTH_KEPT, MIX_DAYS, level_grid
from models.arrivals.season import MONTHS, month_factors
from models.arrivals.year import YEAR, YEAR_WEEKS, year_profile

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class NewValue:
    """Revenue that deals created later will bring: expected value and sd, in currency units."""

    mean: float
    sd: float


def new_revenue(
    known: KnownStays, *, horizons: tuple[int, ...], season: tuple[float, ...] = ()
) -> tuple[NewValue, ...]:
    """Forecast the revenue of deals created after the day, within so many days of it.

    Parameters
    ----------
    known : KnownStays
        All that was known at the end of a day.
    horizons : tuple of int
        Days ahead.
    season : tuple of float
        Factor on what is won on each day of the longest horizon, as :class:`forecasting.proof.quick_chain.OpenValue` has
        it; empty is none.

    Returns
    -------
    tuple of NewValue
        One per horizon; zeros while nothing has been won.
    """
    created, won_on = (np.full(len(known.amount), NEVER, dtype=np.int64) for _ in range(2))
    np.minimum.at(created, known.deal, known.entered)
    wins = known.ended_in_win & known.arrived[known.deal]
    won_on[known.deal[wins]] = known.left[wins]
    at_once, day, _ = known.at_once[:, known.beginning.tells(known.at_once[1])]
    created[at_once], won_on[at_once] = day, day
    begun, won = known.arrived.copy(), won_on < NEVER
    begun[at_once] = True
    if not won.any():
        return tuple(NewValue(0.0, 0.0) for _ in horizons)
    staged = won.copy()
    staged[at_once] = False
    amounts = _Amounts.of(known.filled_amount[staged]), _Amounts.of(_filled(known.amount[at_once]))
    won_by, share_at_once = _won_by_kind(known, created, won_on, at_once)
    arriving = _Arriving.from_days(created[begun] - known.as_of, date_of(known.as_of))
    reached, found = progress(known, win_weights(known, days=max(horizons))), []
    for horizon in horizons:
        share = _share_won(reached[1 : horizon + 1], won_by, np.array(season[:horizon]))
        shares = share, np.full(horizon, share_at_once)
        mean, variance = arriving.wins(_sum(each * one.mean for each, one in zip(shares, amounts, strict=True)))
        luck, _ = arriving.wins(_sum(each * one.squared for each, one in zip(shares, amounts, strict=True)))
        unknown = sum(one.unknown * arriving.wins(each)[0] ** 2 for each, one in zip(shares, amounts, strict=True))
        found.append(NewValue(mean, float(np.sqrt(luck + variance + unknown))))
    return tuple(found)


def _sum(parts: Iterable[Floats]) -> Floats:
    return np.sum(list(parts), axis=0)


@dataclass(frozen=True)
class _Amounts:
    """Mean of the amounts of past wins, mean of their squares, and the variance of what is not known of the mean."""

    mean: float = 0.0
    squared: float = 0.0
    unknown: float = 0.0

    @classmethod
    def of(cls, amount: Floats) -> "_Amounts":
        if not len(amount):
            return cls()
        first, second = float(amount.mean()), float((amount**2).mean())
        return cls(first, second, max(second, first**2) / len(amount))


def _filled(amount: Floats) -> Floats:
    """Amounts with missing ones at the mean of the others."""
    known = amount[np.isfinite(amount)]
    return np.where(np.isfinite(amount), amount, known.mean() if len(known) else 0.0)


def _won_by_kind(known: KnownStays, created: Ints, won_on: Ints, at_once: Ints) -> tuple[Floats, float]:
    """Share of the deals to come that is won within 0, 1, ... days of creation, by the stage they begin in, and at once."""
    first = (np.diff(known.deal, prepend=-1) != 0) & known.arrived[known.deal]
    deal, begins_won = np.append(known.deal[first], at_once), np.full(len(at_once), known.n_open)
    stages, kind = np.unique(np.append(known.stage[first], begins_won), return_inverse=True)
    age, cycle = known.as_of - created[deal], (won_on - created)[deal]
    days, won = int(age.max()) + 1, won_on[deal] < NEVER
    found, share_at_once = np.zeros(days), 0.0
    for k, share in enumerate(_shares(kind, age, len(stages)).tolist()):
        if stages[k] == known.n_open:
            share_at_once = share
        else:
            found += share * _won_by(age[kind == k], cycle[won & (kind == k)], days)
    return found, share_at_once


def _shares(kind: Ints, age: Ints, n_kinds: int) -> Floats:
    """Share of each kind among the deals to come, see :mod:`models.arrivals.mix`."""
    lately = age < age.min() + MIX_DAYS
    if n_kinds == 1:
        return np.ones(1)
    odds, shape = memory_odds(kind_counts(kind[lately], -age[lately], n_kinds), np.zeros(n_kinds, dtype=np.int64))
    return np.asarray(np.einsum("wt,wtk->k", odds[0], shape / shape.sum(axis=2, keepdims=True)))


def _won_by(age: Ints, cycle: Ints, days: int) -> Floats:
    """Share of deals won within 0, 1, ... days of their creation; each day among the deals that are that old."""
    watched = np.cumsum(np.bincount(age, minlength=days)[::-1])[::-1]
    return np.cumsum(np.bincount(cycle, minlength=days)[:days] / np.maximum(watched, 1))


def _share_won(reached: Floats, won_by: Floats, season: Floats) -> Floats:
    """Share of the deals created on each coming day that is won by the last, shape (day,).

    ``reached`` counts usual days until each day, ``won_by`` is what is won within 0, 1, ... of them, ``season`` a factor on
    what is won on each day, if there is one.
    """
    ages = np.arange(len(won_by))
    if (season == 1.0).all():
        return np.asarray(np.interp(reached[-1] - reached, ages, won_by))
    old = reached - reached[:, None]  # (created, day)
    by_then = np.where(old >= 0.0, np.interp(old, ages, won_by), 0.0)
    return np.asarray(np.diff(by_then, axis=1, prepend=0.0) @ season)


@dataclass(frozen=True)
class _Arriving:
    """Belief about the coming weeks' arrivals under every setting of the filter."""

    grid: LevelGrid
    weight: Floats  # (setting,)
    season: dict[str, Floats]  # (week,) from the as-of date on, a year long

    @classmethod
    def from_days(cls, day: Ints, as_of: date) -> "_Arriving":
        """Filter the arrivals of all segments together; ``day`` counts from the as-of date, 0 or negative."""
        counts, grid = level_grid(day, np.zeros(len(day), dtype=np.int64), 1, as_of)
        weight = np.zeros(len(grid.growth))
        for name, odds in grid.season_odds.items():
            settings = grid.season == name
            weight[settings] = odds * softmax(grid.log_weight[0, settings])
        middle = pd.date_range(as_of + timedelta(days=4), periods=YEAR_WEEKS, freq="7D")
        ahead = {NO_SEASON: np.ones(YEAR_WEEKS)}
        if MONTHS in grid.season_odds:
            ahead[MONTHS] = month_factors(counts, as_of)[middle.month.to_numpy() - 1]
        if YEAR in grid.season_odds:
            ahead[YEAR] = year_profile(day, as_of)
        return cls(grid, weight, ahead)

    def wins(self, share: Floats) -> tuple[float, float]:
        """Mean and variance of the expected wins, by the share won among the arrivals of each coming day."""
        grid, weeks = self.grid, -(-len(share) // 7)
        shape, week = grid.shape[0], np.arange(1, weeks + 1)
        part = np.bincount(np.arange(len(share)) // 7, weights=share / 7.0, minlength=weeks)
        season = np.stack([self.season[name][(week - 1) % YEAR_WEEKS] for name in grid.season])
        growth = grid.growth[:, None] * np.cumsum(GROWTH_KEPT ** (week - 1.0))
        mean = (shape / grid.rate[0])[:, None] * np.exp(growth) * part * season
        earlier = np.minimum(week[:, None], week)
        known_to = (1.0 + 1.0 / shape) * np.exp(grid.common_sd**2)
        step = np.exp(grid.level_sd**2) * (1.0 + LASTING * grid.odd_share * np.expm1(STEP_SD**2))
        level = known_to[:, None, None] * step[:, None, None] ** earlier
        odd = (1.0 - grid.odd_share) / grid.noise_shape + (1.0 - LASTING) * grid.odd_share / ODD_SHAPE
        level += level * odd[:, None, None] * np.eye(weeks)
        variance = np.einsum("sj,sk,sjk->s", mean, mean, level - 1.0)
        total = mean.sum(axis=1)
        expected = float(self.weight @ total)
        return expected, float(self.weight @ (variance + total**2)) - expected**2
