"""A chain in milliseconds: expected value and spread of revenue from open deals, as of many past dates.

The same model as the published forecast in its cheapest form: semi-Markov, every move seen is possible, one hazard per
age bin and exit with a conjugate Gamma posterior, an amount effect on every exit. It exists so that a forecaster can
look back at dozens of its own closed forecasts before it publishes one; :mod:`forecasting.proof.calibration` does that.

Hazards are those of :mod:`models.hazards`: a deal that starts a day of its stay with total hazard L leaves on it with
probability 1 - exp(-L), to exit j with share lambda_j / L.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import RectBivariateSpline

from forecasting.data.factors import AMOUNT_CLASSES, CENT, MIN_AMOUNT_DEALS, log_places, spread_codes
from forecasting.data.known_entries import NEVER
from forecasting.proof.quick_calendar import progress, win_weights
from forecasting.proof.quick_effect import AmountEffect, amount_effect
from forecasting.proof.quick_kernels import bins_of_days, count_exits, count_expected, win_probabilities
from forecasting.proof.stay_table import KnownStays
from models.levels.filtering import draw_levels, filter_level, period_days
from models.levels.season import WEEK_DAYS, yearly_factors

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

EXITS_PER_BIN = 10
"""An age bin ends once it holds this many exits: its log hazard is then known to about 0.3."""
PRIOR_EXITS = 1.0
"""Exits that the neighbouring bins count for in a bin."""
PERIOD_DAYS = 30
"""Expected and seen exits are compared within calendar periods, or a trend in amounts would pass for an effect."""
LEAST = 1e-9
"""Revenue of a week in which nothing is won, so that weeks are alike where nothing is won at all."""
LEVEL_DRAWS = 1024
"""Draws of the levels, whose tails are heavy."""
LEVEL_GRID = (9, 5)
"""Levels forward and down at which revenue is worked out."""
HAZARD_DRAWS = 48
"""Posterior draws of the hazards: their spread is a small part of the total, and known then to about a tenth."""


@dataclass(frozen=True)
class OpenValue:
    """Revenue that open deals will bring within a number of days: expected value and sd, in currency units.

    Parameters
    ----------
    mean, sd : float
        With hazards as in the whole history.
    tracked_mean, tracked_sd : float
        With hazards at the levels of :mod:`models.levels.filtering` and in the season of :mod:`models.levels.season`.
    season : tuple of float
        Factor of that season on what is won on each coming day; empty where nothing has happened yet.
    """

    mean: float
    sd: float
    tracked_mean: float
    tracked_sd: float
    season: tuple[float, ...] = ()


@dataclass(frozen=True)
class _Counted:
    """The known stays as the counting kernels take them; ``exit_code`` is -1 in stays still open."""

    stage: Ints
    exit_code: Ints
    days: Ints
    days_ago: Ints
    unseen: Ints
    amount_class: Ints
    place: Floats  # (class,): standardised log amount, zero for a class without

    @property
    def n_classes(self) -> int:
        """Classes of amounts, with that of deals worth nothing and that of deals without an amount."""
        return len(self.place)

    @property
    def learned(self) -> "_Counted":
        """Stays that were watched, at least at their end; all where there are none."""
        if not self.unseen.any():
            return self
        rows = self.unseen <= self.days
        if not rows.any():
            return replace(self, unseen=np.zeros_like(self.unseen))
        return replace(
            self,
            stage=self.stage[rows],
            exit_code=self.exit_code[rows],
            days=self.days[rows],
            days_ago=self.days_ago[rows],
            unseen=self.unseen[rows],
            amount_class=self.amount_class[rows],
        )


@dataclass(frozen=True)
class _Chain:
    """Conjugate posterior: hazards Gamma(shape, rate), and the amount's effect."""

    starts: Ints  # (stage, bin)
    shape: Floats  # (stage, code, bin)
    rate: Floats  # (stage, 1, bin)
    effect: AmountEffect
    part_of_day: Floats  # (stage, bin)


def open_revenue(known: KnownStays, *, horizons: tuple[int, ...], seed: int) -> tuple[OpenValue, ...]:
    """Forecast the revenue of open deals.

    Parameters
    ----------
    known : KnownStays
        All that was known at the end of a day.
    horizons : tuple of int
        Days ahead.
    seed : int
        With the day it names the hazard draws, so that a past forecast stays what it was.

    Returns
    -------
    tuple of OpenValue
        One per horizon.
    """
    waiting = known.is_open
    if not len(waiting):
        return tuple(OpenValue(0.0, 0.0, 0.0, 0.0) for _ in horizons)
    counted = _counted(known)
    learned = counted.learned
    chain = _fit(learned, known.n_open, known.n_stages)
    if not waiting.any():
        weeks = _by_week(known, learned, chain, win_weights(known, days=0))
        season = weeks.season(weeks.wins, days=max(horizons))[1].tolist()
        return tuple(OpenValue(0.0, 0.0, 0.0, 0.0, tuple(season[:days])) for days in horizons)
    rng = np.random.default_rng([seed, known.as_of])
    hazards, factors = _draw(chain, rng)
    mean_hazards, mean_factors = hazards.mean(axis=0), factors.mean(axis=0)
    weight, (groups, amount, squared) = win_weights(known, days=max(horizons)), _alike(known, counted, chain)
    reached = progress(known, weight)

    def won_by(days: Ints, hazards: Floats, factors: Floats) -> Floats:
        return _won_by(reached[days], hazards, factors, chain.starts, groups, known.n_won)

    week_ends = np.minimum(WEEK_DAYS * np.arange(1, -(-max(horizons) // WEEK_DAYS) + 1), max(horizons))
    won_by_week = amount @ won_by(week_ends, mean_hazards[None], mean_factors[None])[0]
    weeks = _by_week(known, learned, chain, weight[: known.age_days])
    levels, in_season, season = _level_draws(weeks, horizons, won_by_week, rng)
    static, found = won_by(np.array(horizons), hazards, factors), []
    for place, (days, seasonal) in enumerate(zip(horizons, in_season, strict=True)):

        def revenue_at(factor: Floats, *, days: int = days) -> tuple[Floats, Floats]:
            """Foretell revenue with hazards times a factor (point, stage, code)."""
            repeated = np.repeat(mean_hazards[None], len(factor), axis=0)
            return _revenue(
                won_by(np.array([days]), repeated, mean_factors * factor[:, None])[:, :, 0], amount, squared
            )

        usual = _Spread.of(*_revenue(static[:, :, place], amount, squared))
        now = usual.at_levels(weeks.forward, seasonal, levels, revenue_at)
        found.append(OpenValue(usual.mean, usual.sd, now.mean, now.sd, tuple(season[:days].tolist())))
    return tuple(found)


def _alike(known: KnownStays, counted: _Counted, chain: _Chain) -> tuple[Ints, Floats, Floats]:
    """Put open deals of one class, stage and age together: rows of these, and sums of their amounts and of the squares."""
    waiting = known.is_open
    stage = counted.stage[waiting]
    last_bin = np.where(chain.starts < NEVER, chain.starts, 0).max(axis=1)
    age = np.minimum(counted.days[waiting], last_bin[stage])  # in the last bin one age is as good as another
    sizes = counted.n_classes, known.n_open, int(age.max()) + 1
    alike = np.ravel_multi_index((counted.amount_class[waiting], stage, age), sizes)
    code, of_deal = np.unique(alike, return_inverse=True)
    groups = np.column_stack(np.unravel_index(code, sizes)).astype(np.int64)
    amount = known.filled_amount[known.deal[waiting]]
    return groups, np.bincount(of_deal, weights=amount), np.bincount(of_deal, weights=amount**2)


def _won_by(reached: Floats, hazards: Floats, factors: Floats, starts: Ints, groups: Ints, n_won: int) -> Floats:
    """P(won once so many usual days have passed), shape (draw, group, horizon): straight between whole days."""
    whole = np.floor(reached).astype(np.int64)
    ahead, place = np.unique(np.concatenate([whole, np.ceil(reached).astype(np.int64)]), return_inverse=True)
    chance = win_probabilities(hazards, factors, starts, groups, ahead, n_won)
    begun, ended = (chance[:, :, each] for each in place.reshape(2, -1))
    return np.asarray(begun + (reached - whole) * (ended - begun))


def _revenue(chance: Floats, amount: Floats, squared: Floats) -> tuple[Floats, Floats]:
    """Turn win probabilities (point, group) into expected revenue and the variance of luck, each of shape (point,)."""
    chance = np.minimum(chance, 1.0)  # sums of rounded parts
    return chance @ amount, (chance * (1.0 - chance)) @ squared


@dataclass(frozen=True)
class _Spread:
    """Mean revenue, the variance of what is not known of it, and that of luck."""

    mean: float
    unknown: float
    luck: float

    @classmethod
    def of(cls, sums: Floats, luck: Floats) -> "_Spread":
        """Take together draws of the expected revenue and of the variance of luck."""
        return cls(float(sums.mean()), float(sums.var()), float(luck.mean()))

    @property
    def sd(self) -> float:
        """Of revenue."""
        return float(np.sqrt(self.unknown + self.luck))

    def at_levels(
        self,
        forward: NDArray[np.bool_],
        season: Floats,
        levels: Floats,
        revenue_at: Callable[[Floats], tuple[Floats, Floats]],
    ) -> "_Spread":
        """Move to the levels of the moment, (direction, draw), and the season (stage, code).

        Levels have tails that a handful of draws tells nothing of: revenue is smooth in them, so it is worked out on a
        grid and read off for many draws.
        """
        usual = float(revenue_at(np.ones((1, *season.shape)))[0][0])
        if not usual > 0.0:
            return self
        ahead, down = (
            np.linspace(each.min() - 0.01, each.max() + 0.01, n) for each, n in zip(levels, LEVEL_GRID, strict=True)
        )
        points = [np.exp(each).ravel()[:, None, None] for each in np.meshgrid(ahead, down, indexing="ij")]
        sums, luck = (
            _read_off(ahead, down, values.reshape(LEVEL_GRID), levels)
            for values in revenue_at(season * np.where(forward, *points))
        )
        now = _Spread.of(sums, luck)
        mean = self.mean * now.mean / usual
        return _Spread(mean, now.unknown * (mean / now.mean) ** 2 + self.unknown * (mean / self.mean) ** 2, now.luck)


def _read_off(ahead: Floats, down: Floats, values: Floats, levels: Floats) -> Floats:
    """Read values known on a grid of log levels off at those drawn, (direction, draw), smooth in their logs."""
    logs = np.log(np.maximum(values, LEAST * values.max() + np.finfo(np.float64).tiny))
    return np.asarray(np.exp(RectBivariateSpline(ahead, down, logs).ev(*levels)))


def amount_edges(amounts: Floats) -> Floats:
    """Upper edges (exclusive) of classes with equal sums of the square root of the amount, at least 20 deals each.

    Examples
    --------
    >>> amount_edges(np.arange(1.0, 41.0)).tolist(), amount_edges(np.arange(1.0, 40.0)).tolist()
    ([21.0], [])
    """
    values = np.sort(amounts[np.isfinite(amounts)])
    classes = min(AMOUNT_CLASSES, len(values) // MIN_AMOUNT_DEALS)
    if classes < 2:
        return np.zeros(0)
    roots = np.cumsum(np.sqrt(np.maximum(values, 0.0)))
    cuts = np.searchsorted(roots, roots[-1] * np.arange(1, classes) / classes)
    room = len(values) - MIN_AMOUNT_DEALS * np.arange(classes - 1, 0, -1)
    cuts = np.minimum.accumulate(np.minimum(cuts, room)[::-1])[::-1]
    edges = np.unique(values[cuts])
    return np.asarray(edges[edges > values[0]])


def _counted(known: KnownStays) -> _Counted:
    """Lay the stays out for counting; deals worth nothing are the first class, those without an amount the last.

    The class is that of the amount known when the stay began, or now where the deal still is: what was won is often worth
    more than it was said to be before.
    """
    deal, latest = np.cumsum(np.diff(known.deal, prepend=-1) != 0) - 1, np.diff(known.deal, append=-1) != 0
    amount, tells = np.where(known.is_open, known.amount[known.deal], known.entry_amount), known.habits.lacking_tells
    lacking = ~(amount >= CENT)
    edges = amount_edges(amount[latest & ~lacking])
    if tells and (amount < CENT).any():
        edges = np.array([CENT, *edges])
    amount_class = np.where(np.isnan(amount), len(edges) + 1, np.searchsorted(edges, amount, side="right"))
    if lacking.any() and not tells:
        weights = np.bincount(amount_class[latest & ~lacking], minlength=len(edges) + 1).astype(np.float64)
        amount_class[lacking] = spread_codes(deal[lacking], weights)
    return _Counted(
        stage=known.stage,
        exit_code=known.exit_code,
        days=np.minimum(known.left, known.as_of) - known.entered,
        days_ago=known.as_of - known.entered,
        unseen=known.unseen,
        amount_class=amount_class,
        place=log_places(amount[latest & ~lacking], amount_class[latest & ~lacking], n_classes=len(edges) + 2),
    )


def _fit(known: _Counted, n_open: int, n_stages: int) -> _Chain:
    """Count exits and exposure by age bin, and by amount class within calendar periods.

    A stay that ends on a day of total hazard L was exposed to 1/L - exp(-L)/(1 - exp(-L)) of that day on average; with
    this exposure the daily lattice has a Poisson likelihood, and exits / exposure is its maximum.
    """
    cuts = [_age_bins(known, stage) for stage in range(n_open)]
    starts = np.full((n_open, max(len(cut) for cut in cuts)), NEVER, dtype=np.int64)
    for stage, cut in enumerate(cuts):
        starts[stage, : len(cut)] = cut
    exits, at_risk = count_exits(known.stage, known.exit_code, known.days, known.unseen, starts, n_stages)
    ended = exits.sum(axis=1)
    share = np.clip(ended / np.maximum(at_risk, 1.0), 1e-9, 1.0 - 1e-6)
    total = -np.log1p(-share)
    part_of_day = 1.0 / total - (1.0 - share) / share
    exposure = at_risk - ended + ended * part_of_day
    hazard = exits / np.maximum(exposure, 1e-9)[:, None, :]
    expected, seen = _expected(known, starts, hazard, part_of_day, PERIOD_DAYS)
    level = seen.sum(axis=0) / np.maximum(expected.sum(axis=0), 1e-9)
    smooth_exits, smooth_exposure = _with_neighbours(ended), _with_neighbours(exposure)
    pilot = (smooth_exits + 0.5) / (smooth_exposure + 1.0)
    mix = exits.sum(axis=2) / np.maximum(exits.sum(axis=(1, 2)), 1.0)[:, None]
    return _Chain(
        starts=starts,
        shape=exits + PRIOR_EXITS * mix[:, :, None],
        rate=(exposure + PRIOR_EXITS / pilot)[:, None, :],
        effect=amount_effect(seen.sum(axis=1), (expected * level).sum(axis=1), known.place),
        part_of_day=part_of_day,
    )


def _expected(known: _Counted, starts: Ints, hazard: Floats, part_of_day: Floats, width: int) -> tuple[Floats, Floats]:
    """Count exits expected from hazards (stage, code, bin), and seen; see :func:`count_expected`."""
    n_open, n_stages, _ = hazard.shape
    days = int(known.days.max()) + 1
    passed, ending = np.zeros((n_open, days + 1, n_stages)), np.empty((n_open, days, n_stages))
    for stage, of_day in enumerate(bins_of_days(starts, days)):
        np.cumsum(hazard[stage][:, of_day].T, axis=0, out=passed[stage, 1:])
        ending[stage] = (hazard[stage] * part_of_day[stage])[:, of_day].T
    periods = int((known.days_ago - known.unseen).max()) // width + 1
    expected, seen = count_expected(
        known.stage, known.exit_code, known.days, known.days_ago, known.unseen, known.amount_class, passed, ending,
        (known.n_classes, periods, width),
    )  # fmt: skip
    return expected, seen


@dataclass(frozen=True)
class _Weeks:
    """Exits by week, the latest first, with hazards of the whole history, and kinds of exit: (stage, code) masks."""

    seen: Floats  # (week, stage, code)
    expected: Floats  # (week, stage, code)
    forward: NDArray[np.bool_]
    wins: NDArray[np.bool_]

    def series(self, which: NDArray[np.bool_], *, weeks: int = 1) -> tuple[Floats, Floats]:
        """Sum exits of a kind, seen and expected, by periods of so many weeks, oldest first."""
        first = np.arange(0, len(self.seen), weeks)
        came, told = (
            np.add.reduceat(values[:, which].sum(axis=1), first)[::-1] for values in (self.seen, self.expected)
        )
        return came, told

    def season(self, which: NDArray[np.bool_], *, days: int) -> tuple[Floats, Floats]:
        """Season of a kind of exits: factor of each past week, the latest first, and of each coming day."""
        yearly = yearly_factors(*self.series(which), ahead=-(-days // WEEK_DAYS))
        past, coming = np.split(yearly, [len(self.seen)])
        return past[::-1], np.repeat(coming, WEEK_DAYS)[:days]


def _by_week(known: KnownStays, counted: _Counted, chain: _Chain, weight: Floats) -> _Weeks:
    """Count exits by week; ``weight`` is that of each past day for winning, see :func:`win_weights`."""
    by_class, by_size = _expected(counted, chain.starts, chain.shape / chain.rate, chain.part_of_day, WEEK_DAYS)
    expected = np.einsum("cpsj,csj->psj", by_class, chain.effect.mean())
    won, week = slice(known.n_open, known.n_open + known.n_won), np.arange(len(weight)) // WEEK_DAYS
    of_week = np.bincount(week, weight[::-1], len(expected)) / np.bincount(week, minlength=len(expected))
    expected[:, :, won] *= of_week[: len(expected), None, None]
    forward = _forward(chain.effect.exits.sum(axis=0), known.n_open + known.n_won)
    wins = np.zeros_like(forward)
    wins[:, won] = True
    return _Weeks(by_size.sum(axis=0), expected, forward, wins)


def _level_draws(
    weeks: _Weeks, horizons: tuple[int, ...], won_by_week: Floats, rng: np.random.Generator
) -> tuple[Floats, Floats, Floats]:
    """Draw log levels of both directions, (direction, draw), beside the season of exits and of the wins of coming days.

    The season has a factor by horizon, stage and code, ``won_by_week`` is what will be won by the end of each week of the
    longest horizon without it: a season counts when wins fall.
    """
    longest = max(horizons)
    when = np.repeat(np.maximum(np.diff(won_by_week, prepend=0.0), LEAST), WEEK_DAYS)[:longest]
    factor, expected = np.ones((len(horizons), *weeks.forward.shape)), weeks.expected.copy()
    kinds = weeks.wins, weeks.forward & ~weeks.wins, ~weeks.forward
    seasons = [weeks.season(kind, days=longest) for kind in kinds]
    for kind, (past, coming) in zip(kinds, seasons, strict=True):
        expected[:, kind] *= past[:, None]
        for of_horizon, days in zip(factor, horizons, strict=True):
            of_horizon[kind] = np.average(coming[:days], weights=when[:days])
    usual, levels = replace(weeks, expected=expected), []
    width = period_days(longest)
    for direction in (weeks.forward, ~weeks.forward):
        state = filter_level(*usual.series(direction, weeks=width // WEEK_DAYS), days=width)
        levels.append(np.log(draw_levels(state, periods=-(-longest // width), draws=LEVEL_DRAWS, rng=rng)))
    return np.stack(levels), factor, seasons[0][1]


def _forward(exits: Floats, first_lost: int) -> NDArray[np.bool_]:
    """Whether an exit leads to a win or to a stage from which more deals are won, shape (stage, code)."""
    n_open, n_stages = exits.shape
    share = exits / np.maximum(exits.sum(axis=1, keepdims=True), 1.0)
    stays = np.eye(n_open) - share[:, :n_open] * (1.0 - 1e-9)
    value = np.zeros(n_stages)
    value[n_open:first_lost] = 1.0
    value[:n_open] = np.linalg.solve(stays, share[:, n_open:first_lost].sum(axis=1))
    forward = value[None, :] > value[:n_open, None]
    forward[:, n_open:first_lost] = True  # from a stage that is never lost too, where a win is worth no more
    return np.asarray(forward)


def _age_bins(known: _Counted, stage: int) -> Ints:
    """First day of each age bin: a bin ends once it holds enough exits, if as many again are still to come."""
    days = known.days[(known.stage == stage) & (known.exit_code >= 0)]
    by_day = np.bincount(days, minlength=1)
    to_come = len(days) - np.cumsum(by_day)
    starts, held = [0], 0
    for day in np.flatnonzero(by_day):
        if held and by_day[day] >= EXITS_PER_BIN and starts[-1] < day:
            starts.append(int(day))  # a day with many exits is not mixed with quiet ones before it
            held = 0
        held += int(by_day[day])
        if held >= EXITS_PER_BIN and to_come[day] >= EXITS_PER_BIN:
            starts.append(int(day) + 1)
            held = 0
    return np.array(starts, dtype=np.int64)


def _with_neighbours(values: Floats) -> Floats:
    """Sum of each bin and its two neighbours, shape (stage, bin)."""
    padded = np.pad(values, ((0, 0), (1, 1)))
    return np.asarray(padded[:, :-2] + padded[:, 1:-1] + padded[:, 2:])


def _draw(chain: _Chain, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Draws of hazards (draw, stage, code, bin) and amount factors (draw, class, stage, code)."""
    hazards = rng.standard_gamma(np.broadcast_to(chain.shape, (HAZARD_DRAWS, *chain.shape.shape))) / chain.rate
    return hazards, chain.effect.draw(HAZARD_DRAWS, rng)
