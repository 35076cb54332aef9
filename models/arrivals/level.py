"""The moving level of weekly arrivals: a gamma filter over a grid of settings, weighted by what it predicted.

For fixed (level_sd, noise shape r, growth) the belief about the level after week w is Gamma(a, b). One step ahead

    mean <- mean x exp(growth),   1 + 1/a <- (1 + 1/a) exp(level_sd^2),

the count is negative binomial with that mean and relative extra variance 1/a + (1 + 1/a)/r, and learning from a count
y with expected value mu adds ``w y`` to a and ``w`` exposures to b, ``w = 1 / (1 + mu / r)``. A week may be odd: mostly its
noise is wild and passes, now and then it is the first one at a new level, a third of the old or three times as much, give
or take a factor of two. Beliefs under each are put together as one gamma of their mean and variance. With level_sd =
growth = 0, infinite r and no odd weeks this is the conjugate gamma-Poisson model exactly. Settings are weighted by the
product of the probabilities they gave to each week before it was seen.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp, softmax

from models.arrivals.level_kernel import filter_weeks

LEVEL_SDS = {0.0: 0.2, 0.02: 0.2, 0.05: 0.2, 0.1: 0.2, 0.2: 0.12, 0.4: 0.08}
"""Weekly sd of the log level, with prior probabilities."""
NOISE_SHAPES = {np.inf: 0.3, 30.0: 0.25, 10.0: 0.25, 4.0: 0.2}
"""Shape of the weekly noise; 10 is a third up or down in a typical week."""
GROWTHS = {-0.01: 0.1, -0.005: 0.15, 0.0: 0.5, 0.005: 0.15, 0.01: 0.1}
"""Weekly growth of the log level; 0.01 is two thirds a year."""
ODD_SHARES = {0.0: 0.5, 0.05: 0.5}
"""Share of odd weeks: holidays, campaigns, imports, two or three a year."""
STEP_SD = 1.0
"""Sd of coming steps of the log level to a new one."""
MAX_WEEKS = 260
"""Older weeks say nothing more about the level of today."""
NO_SEASON = "none"
MIN_SHARED_WEEKS = 13
"""Weeks two segments must have in common before their surprises are compared."""
SHARED_PRIOR_WEEKS = 13.0
"""Weeks without common surprises that the estimate of their share starts from."""


class PastSeason(NamedTuple):
    """A way in which the year may go: factor of every past week, made of earlier weeks only from ``judged_from`` on.

    ``prior`` is its probability against no season before the past tells.
    """

    name: str
    factor: NDArray[np.float64]
    judged_from: int
    prior: float


@dataclass(frozen=True)
class LevelGrid:
    """Beliefs about the level at the as-of date under every setting.

    Parameters
    ----------
    log_weight : ndarray of float64, shape (group, setting)
        Log posterior probability of each setting, not normalised; comparable within a season only.
    season_odds : dict of str to float
        Posterior probability of each season, ``NO_SEASON`` among them.
    shape, rate : ndarray of float64, shape (group, setting)
        Gamma belief about the level in arrivals per week.
    level_sd, noise_shape, growth, odd_share : ndarray of float64, shape (setting,)
    season : ndarray of str, shape (setting,)
    common_sd : ndarray of float64, shape (setting,)
        Sd of a factor of mean one that all groups share, on the log scale; zero but where years differ alike for all.
    surprise, spread : ndarray of float64, shape (week, group)
        One-step relative error of each week (NaN where not seen) and the sd expected of it beside Poisson noise.
    expected : ndarray of float64, shape (week, group)
    """

    log_weight: NDArray[np.float64]
    season_odds: dict[str, float]
    shape: NDArray[np.float64]
    rate: NDArray[np.float64]
    level_sd: NDArray[np.float64]
    noise_shape: NDArray[np.float64]
    growth: NDArray[np.float64]
    odd_share: NDArray[np.float64]
    season: NDArray[np.str_]
    common_sd: NDArray[np.float64]
    surprise: NDArray[np.float64]
    spread: NDArray[np.float64]
    expected: NDArray[np.float64]


@dataclass(frozen=True)
class LevelDraws:
    """Draws of the level and of the settings behind it, shape (draw, group); ``season`` has shape (draw,)."""

    log_level: NDArray[np.float64]
    growth: NDArray[np.float64]
    level_sd: NDArray[np.float64]
    noise_shape: NDArray[np.float64]
    odd_share: NDArray[np.float64]
    season: NDArray[np.str_]


def weekly_counts(
    day: NDArray[np.int64], group: NDArray[np.int64], n_groups: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Arrivals by week, weeks counted back from the as-of date so that none is cut short at the near end.

    A group is watched from the day after its first arrivals on: counting those too would make every young group look
    busier than it is.

    Parameters
    ----------
    day : ndarray of int, shape (deal,)
        Days from the as-of date, 0 or negative.
    group : ndarray of int, shape (deal,)
    n_groups : int

    Returns
    -------
    counts, exposure : ndarray of float64, shape (week, group)
        Oldest week first; exposure is the watched part of the week, 0 before a group is seen.

    Examples
    --------
    >>> counts, exposure = weekly_counts(np.array([-9, -3, -3, 0]), np.zeros(4, dtype=int), 1)
    >>> counts.ravel().tolist(), exposure.ravel().round(3).tolist()
    ([0.0, 3.0], [0.286, 1.0])
    """
    first = np.full(n_groups, 1)
    np.minimum.at(first, group, day)
    watched = -first  # days from the day after the first arrivals to the as-of date
    weeks = int(np.clip(-(-watched.max(initial=0) // 7), 1, MAX_WEEKS))
    back = -day // 7
    seen = (day > first[group]) & (back < weeks)
    counts = np.zeros((weeks, n_groups))
    np.add.at(counts, (weeks - 1 - back[seen], group[seen]), 1.0)
    past = np.arange(weeks)[::-1, None]
    return counts, np.clip((watched[None] - 7 * past) / 7, 0.0, 1.0)


def filter_levels(
    counts: NDArray[np.float64], exposure: NDArray[np.float64], seasons: Sequence[PastSeason] = ()
) -> LevelGrid:
    """Filter the weekly counts under every setting.

    Parameters
    ----------
    counts, exposure : ndarray of float64, shape (week, group)
    seasons : sequence of PastSeason
        Ways in which the year may go, beside every week being like any other.
    """
    seasons = (PastSeason(NO_SEASON, np.ones(len(counts)), 0, 0.5), *seasons)
    (level_sd, noise_shape, growth, odd_share), season, log_prior = _settings([given.name for given in seasons])
    factor = np.repeat(np.column_stack([given.factor for given in seasons]), len(season) // len(seasons), axis=1)
    settings = _Settings(log_prior, level_sd, noise_shape, growth, odd_share)
    found = _filtered(counts, exposure, factor, settings)
    return LevelGrid(
        log_weight=log_prior + found.score,
        season_odds=_season_odds(counts, exposure, factor, settings, season, seasons),
        shape=found.shape,
        rate=found.shape / found.mean,
        level_sd=level_sd,
        noise_shape=noise_shape,
        growth=growth,
        odd_share=odd_share,
        season=season,
        common_sd=np.zeros(len(season)),
        surprise=found.surprise,
        spread=found.spread,
        expected=found.expected,
    )


class _Settings(NamedTuple):
    """Settings of the filter with their log prior probability, each of shape (setting,)."""

    log_prior: NDArray[np.float64]
    level_sd: NDArray[np.float64]
    noise_shape: NDArray[np.float64]
    growth: NDArray[np.float64]
    odd_share: NDArray[np.float64]

    def some(self, chosen: NDArray[np.bool_]) -> "_Settings":
        """Keep those chosen."""
        return _Settings(*(values[chosen] for values in self))


class _Filtered(NamedTuple):
    """Where the filter ends: beliefs and log score by (group, setting), and what it expected by (week, group)."""

    mean: NDArray[np.float64]
    shape: NDArray[np.float64]
    score: NDArray[np.float64]
    surprise: NDArray[np.float64]
    spread: NDArray[np.float64]
    expected: NDArray[np.float64]


def _filtered(
    counts: NDArray[np.float64], exposure: NDArray[np.float64], factor: NDArray[np.float64], settings: _Settings
) -> _Filtered:
    """Go through the weeks under every setting; ``factor`` is that of the season, shape (week, setting)."""
    mean = (counts.sum(0)[:, None] + 0.5) / (exposure.T @ factor + 0.5)
    shape, total = np.ones_like(mean), np.zeros_like(mean)
    told, spread = np.zeros_like(counts), np.zeros_like(counts)
    for group in range(counts.shape[1]):  # one after the other: weeks by settings of all of them take gigabytes
        score, expected, extra = filter_weeks(
            counts[:, group], exposure[:, group], factor, np.stack(settings[1:]), mean[group], shape[group]
        )
        likely = softmax(settings.log_prior + np.cumsum(score, axis=0) - score, axis=1)
        total[group], told[:, group] = score.sum(axis=0), (likely * expected).sum(axis=1)
        spread[:, group] = np.sqrt((likely * extra).sum(axis=1))
    surprise = np.where(exposure > 0.0, counts / np.maximum(told, 1e-300) - 1.0, np.nan)
    return _Filtered(mean, shape, total, surprise, spread, told)


def draw_levels(grid: LevelGrid, draws: int, rng: np.random.Generator) -> LevelDraws:
    """Draw settings by weight, then levels from their gamma beliefs; all groups share the season's existence."""
    n_groups = len(grid.log_weight)
    names, odds = np.array([*grid.season_odds]), np.array([*grid.season_odds.values()])
    season = names[np.searchsorted(np.cumsum(odds)[:-1], rng.random(draws), side="right")]
    chosen = np.zeros((draws, n_groups), dtype=np.int64)
    level = np.zeros((draws, n_groups))
    for group in range(n_groups):
        for name in names:
            rows, settings = np.flatnonzero(season == name), np.flatnonzero(grid.season == name)
            if len(rows):
                chance = softmax(grid.log_weight[group, settings])
                chosen[rows, group] = rng.choice(settings, size=len(rows), p=chance)
        picked = chosen[:, group]
        level[:, group] = rng.gamma(grid.shape[group, picked]) / grid.rate[group, picked]
    if grid.common_sd.any():
        sd = grid.common_sd[chosen]
        level *= np.exp(sd * rng.standard_normal((draws, 1)) - sd**2 / 2.0)
    return LevelDraws(
        log_level=np.log(np.maximum(level, 1e-12)),
        growth=grid.growth[chosen],
        level_sd=grid.level_sd[chosen],
        noise_shape=grid.noise_shape[chosen],
        odd_share=grid.odd_share[chosen],
        season=season,
    )


def shared_surprise(grid: LevelGrid) -> float:
    """Correlation between groups of their weekly surprises, Poisson noise aside, shrunk towards none; 0 to 1."""
    n_groups = grid.surprise.shape[1]
    together, possible, weeks = 0.0, 0.0, 0
    for one in range(n_groups):
        for other in range(one + 1, n_groups):
            both = np.isfinite(grid.surprise[:, [one, other]]).all(1)
            if both.sum() < MIN_SHARED_WEEKS:
                continue
            importance = grid.expected[both, one] * grid.expected[both, other]
            together += float((importance * grid.surprise[both, one] * grid.surprise[both, other]).sum())
            possible += float((importance * grid.spread[both, one] * grid.spread[both, other]).sum())
            weeks = max(weeks, int(both.sum()))
    if possible <= 0:
        return 0.0
    return float(np.clip(together / possible * weeks / (weeks + SHARED_PRIOR_WEEKS), 0.0, 1.0))


def _settings(seasons: Sequence[str]) -> tuple[tuple[NDArray[np.float64], ...], NDArray[np.str_], NDArray[np.float64]]:
    """Columns level_sd, noise_shape, growth and odd_share of all settings, season after season, and their log prior."""
    grid = (LEVEL_SDS, NOISE_SHAPES, GROWTHS, ODD_SHARES)
    values = np.array(list(product(*grid))).T
    prior = np.prod(list(product(*(prior.values() for prior in grid))), axis=1)
    repeated = tuple(np.tile(column, len(seasons)) for column in values)
    return repeated, np.repeat(np.array(seasons), len(prior)), np.tile(np.log(prior), len(seasons))


def _season_odds(
    counts: NDArray[np.float64],
    exposure: NDArray[np.float64],
    factor: NDArray[np.float64],
    settings: _Settings,
    season: NDArray[np.str_],
    seasons: Sequence[PastSeason],
) -> dict[str, float]:
    """Probability of each season, from the weeks it was predicted for.

    Those weeks are gone through afresh: with a level that earlier weeks were given by themselves, quiet weeks before a
    launch would pass for a season and the launch for its return.
    """
    log_odds = {NO_SEASON: 0.0}
    for given in seasons[1:]:
        judged, asked = slice(given.judged_from, None), (season == given.name) | (season == NO_SEASON)
        found = _filtered(counts[judged], exposure[judged], factor[judged, asked], settings.some(asked))
        told, mine = settings.log_prior[asked] + found.score, season[asked] == given.name
        odds = logsumexp(told[:, mine], axis=1) - logsumexp(told[:, ~mine], axis=1)
        log_odds[given.name] = float(np.log(given.prior / (1.0 - given.prior)) + odds.sum())
    return dict(zip(log_odds, softmax([*log_odds.values()]).tolist(), strict=True))
