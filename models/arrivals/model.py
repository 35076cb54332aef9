"""How many new deals will arrive, of which kind: per segment and week, with everything that is uncertain about it.

Arrivals of a segment in week w are Poisson with the rate

    level_w x season_w x noise_w,   noise_w ~ Gamma(shape r, mean 1), in odd weeks much wilder,
    log level_w = log level_(w-1) + growth_w + level_sd x normal - level_sd^2 / 2,

so counts are negative binomial around a level that moves, after a few of the odd weeks by a step for good; growth fades by
``GROWTH_KEPT`` a week into the future.
Weeks are counted back from the as-of date and forward from it, so no week is ever cut short. The season is that of the
months or, where deals are entered in batches, that of the dates of the years before. Within a week days differ by
weekday. Level, growth, its mobility and the overdispersion are learned by
:func:`models.arrivals.level.filter_levels`; what remains unknown about them differs from draw to draw and widens with
the horizon. Segments share a part of their surprises.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import date, timedelta
from typing import Any

import numpy as np
import pandas as pd
from numpy.random import Generator, Philox, SeedSequence
from numpy.typing import NDArray
from scipy.special import gammaincinv, ndtr

from models.amounts import AmountPosterior
from models.arrivals.level import STEP_SD, LevelGrid, draw_levels, filter_levels, shared_surprise, weekly_counts
from models.arrivals.level_kernel import LASTING, ODD_SHAPE
from models.arrivals.mix import draw_mix, kind_counts
from models.arrivals.plan import NO_PLAN, ArrivalPlan, PlannedDeals, apply_plan
from models.arrivals.season import MONTHS, draw_season, past_season
from models.arrivals.year import YEAR, by_day_of_year, day_of_year, past_year, with_yearly_level, year_profile
from models.errors import SettingsError

GROWTH_KEPT = 0.97
"""Share of the weekly growth that is left a week later: half of it is gone after five months."""
MIX_DAYS = 730
"""Only arrivals of the last two years tell of which kind the next ones will be."""
WEEKDAY_WEIGHT = 20.0
"""Arrivals that the weekday profile of all segments counts for in one segment."""
MAX_LOG_GROWTH = 4.0
"""A level may move by a factor of 50 within a horizon, no further: short histories cannot rule out more."""


@dataclass(frozen=True)
class ArrivalPosterior:
    """Posterior of new business; draw i belongs to draw i of the stage and amount posteriors.

    Parameters
    ----------
    as_of : date
        Last day of the history; forecast day t = 1, 2, ... is ``as_of`` + t.
    groups : tuple of str
        Segment labels, one level each.
    cells : ndarray of int32, shape (cell, factor)
        Factor levels of the cells that ``combo_cell`` counts.
    combo_cell, combo_stage, combo_group, combo_pool : ndarray of int64, shape (k,)
        Kinds of arrival: cell, first stage (open stage code, or that of a win at once), segment (place in ``groups``),
        group of the amount pool.
    mix : ndarray of float64, shape (draw, k)
        Share of each kind among the arrivals of its segment; adds up to one within a segment.
    log_level : ndarray of float64, shape (draw, group)
        Log of arrivals per week at the as-of date, season taken out.
    growth : ndarray of float64, shape (draw, group)
        Change of the log level per week at the as-of date.
    level_sd : ndarray of float64, shape (draw, group)
        Sd of the level's weekly log steps.
    noise_shape : ndarray of float64, shape (draw, group)
        Shape of the weekly gamma noise; infinite where counts are Poisson.
    odd_share : ndarray of float64, shape (draw, group)
        Probability of an odd week: its noise has the shape ``ODD_SHAPE``, or, in ``LASTING`` of them, the level a step.
    common : float
        Correlation between segments of their steps and noise, 0 to 1.
    season : ndarray of float64, shape (draw, 12)
        Factor of each calendar month; ones where no season is believed.
    year : ndarray of float64, shape (366,)
        Factor of each day of the year where arrivals come in batches at the same dates.
    by_year : ndarray of bool, shape (draw,)
        Draws in which they do.
    weekday : ndarray of float64, shape (draw, group, 7)
        Share of a week's arrivals by weekday, Monday first.
    plan : ArrivalPlan
        Planned counts that stand in for the level on the days they cover, see :mod:`models.arrivals.plan`.
    """

    as_of: date
    groups: tuple[str, ...]
    cells: NDArray[np.int32]
    combo_cell: NDArray[np.int64]
    combo_stage: NDArray[np.int64]
    combo_group: NDArray[np.int64]
    combo_pool: NDArray[np.int64]
    mix: NDArray[np.float64]
    log_level: NDArray[np.float64]
    growth: NDArray[np.float64]
    level_sd: NDArray[np.float64]
    noise_shape: NDArray[np.float64]
    odd_share: NDArray[np.float64]
    common: float
    season: NDArray[np.float64]
    year: NDArray[np.float64]
    by_year: NDArray[np.bool_]
    weekday: NDArray[np.float64]
    plan: ArrivalPlan = NO_PLAN

    def __post_init__(self) -> None:
        groups = len(self.groups)
        if self.log_level.shape[1] != groups or self.mix.shape[1] != len(self.combo_group):
            raise SettingsError(f"arrival parameters must have one column per group ({groups}) and per kind of arrival")

    @property
    def n_draws(self) -> int:
        """Number of posterior draws."""
        return len(self.mix)

    def to_arrays(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Arrays and JSON-able rest; :meth:`from_arrays` gives back an equal record."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        arrays = {name: value for name, value in values.items() if isinstance(value, np.ndarray)}
        meta = {"as_of": self.as_of.isoformat(), "groups": list(self.groups), "common": self.common}
        return arrays, meta | {"plan": [list(row) for row in self.plan]}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]], meta: Mapping[str, Any]) -> "ArrivalPosterior":
        """Inverse of :meth:`to_arrays`."""
        return cls(
            **arrays,
            as_of=date.fromisoformat(meta["as_of"]),
            groups=tuple(meta["groups"]),
            common=float(meta["common"]),
            plan=tuple(PlannedDeals(*row) for row in meta.get("plan", [])),
        )


def daily_intensity(
    arrivals: ArrivalPosterior, *, days: int, draws: NDArray[np.int64], seed: int
) -> NDArray[np.float64]:
    """Arrivals to expect on each coming day, given the draw's own level path and weekly noise.

    Counts by day are Poisson with these means; over draws they are then negative binomial around a moving level. The
    numbers of a draw depend on nothing but ``seed`` and its number, and a shorter horizon gives the first days of a
    longer one.

    Parameters
    ----------
    arrivals : ArrivalPosterior
    days : int
        Horizon in days; day index 0 is the day after ``arrivals.as_of``.
    draws : ndarray of int, shape (n,)
        Draw numbers, in any order.
    seed : int

    Returns
    -------
    ndarray of float64, shape (n, group, days)
        Deals per day.
    """
    n_groups, weeks = len(arrivals.groups), -(-days // 7)
    if not n_groups or not days:
        return np.zeros((len(draws), n_groups, days))
    normal = np.stack([_draw_generator(seed, int(draw)).standard_normal((weeks, 3, n_groups + 1)) for draw in draws])
    mixed = np.sqrt(arrivals.common) * normal[..., :1] + np.sqrt(1 - arrivals.common) * normal[..., 1:]

    steps, noise = _weekly_luck(arrivals, mixed, draws)
    faded = arrivals.growth[draws][:, None] * GROWTH_KEPT ** np.arange(weeks)[None, :, None]
    path = np.cumsum(faded + steps, axis=1)
    path = arrivals.log_level[draws][:, None] + np.clip(path, -MAX_LOG_GROWTH, MAX_LOG_GROWTH)
    rate = np.exp(path) * noise

    calendar = pd.date_range(arrivals.as_of + timedelta(days=1), periods=days)
    week = np.arange(days) // 7
    middle = pd.date_range(arrivals.as_of + timedelta(days=4), periods=weeks, freq="7D")
    rate = rate * arrivals.season[draws][:, middle.month.to_numpy() - 1, None]
    weekday = arrivals.weekday[draws]
    by_day = rate[:, week].transpose(0, 2, 1) * weekday[:, :, calendar.weekday.to_numpy()]
    by_day[arrivals.by_year[draws]] *= arrivals.year[day_of_year(calendar)]
    if arrivals.plan:
        drift = np.exp(np.clip(np.cumsum(steps, axis=1), -MAX_LOG_GROWTH, MAX_LOG_GROWTH))
        around = (drift * noise)[:, week].transpose(0, 2, 1)
        level, first_day = np.exp(arrivals.log_level[draws]), arrivals.as_of + timedelta(days=1)
        apply_plan(by_day, around, arrivals.plan, first_day=first_day, level=level, weekday=weekday)
    return np.ascontiguousarray(by_day)


def _weekly_luck(
    arrivals: ArrivalPosterior, normal: NDArray[np.float64], draws: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Turn three normal numbers each into steps of the log level and factors of noise, (draw, week, group)."""
    step_sd, odd_share, shape = (
        values[draws][:, None] for values in (arrivals.level_sd, arrivals.odd_share, arrivals.noise_shape)
    )
    chance = ndtr(normal[:, :, 2])
    lasting, odd = chance < LASTING * odd_share, chance < odd_share
    steps = step_sd * normal[:, :, 0] - step_sd**2 / 2
    steps += np.where(lasting, STEP_SD * normal[:, :, 1] - STEP_SD**2 / 2, 0.0)
    return steps, _gamma_noise(normal[:, :, 1], np.where(lasting, np.inf, np.where(odd, ODD_SHAPE, shape)))


def _draw_generator(seed: int, draw: int) -> Generator:
    return Generator(Philox(key=np.array([seed, draw], dtype=np.uint64)))


def _gamma_noise(normal: NDArray[np.float64], shape: NDArray[np.float64]) -> NDArray[np.float64]:
    """Gamma variates of mean one by inversion; ones where the shape is infinite."""
    noise = np.ones(normal.shape)
    finite = np.isfinite(shape)
    noise[finite] = gammaincinv(shape[finite], ndtr(normal[finite])) / shape[finite]
    return noise


def fit_arrivals(
    arrivals: pd.DataFrame,
    amounts: AmountPosterior,
    *,
    as_of: date,
    cells: NDArray[np.int32],
    draws: int,
    seed: int,
) -> ArrivalPosterior:
    """Learn the arrival of new deals from those created up to the as-of date.

    Parameters
    ----------
    arrivals : DataFrame
        One row per deal: ``arrived_on`` (date), ``stage`` (first one), ``cell``, ``segment``, and ``amount_class`` if
        classes are told apart.
    amounts : AmountPosterior
        Fitted to the same deals; tells which amount pool each kind of arrival draws from.
    as_of : date
    cells : ndarray of int32, shape (cell, factor)
        Factor levels that ``arrivals["cell"]`` counts.
    draws, seed : int

    Examples
    --------
    >>> days = pd.date_range("2026-01-01", "2026-06-30")
    >>> rows = pd.DataFrame({"arrived_on": days, "stage": 0, "cell": 0, "segment": ""})
    >>> one = np.ones((100, 1))
    >>> amounts = AmountPosterior(one, one, one, np.array([5.0]), np.array([0, 1]), 0 * one, ("all won deals",))
    >>> cells = np.zeros((1, 0), dtype=np.int32)
    >>> fitted = fit_arrivals(rows, amounts, as_of=date(2026, 6, 30), cells=cells, draws=100, seed=1)
    >>> bool(abs(np.exp(fitted.log_level).mean() - 7) < 0.5)
    True
    """
    rng = np.random.default_rng(SeedSequence([seed, 2]))
    rows = arrivals[pd.to_datetime(arrivals["arrived_on"]) <= pd.Timestamp(as_of)]
    groups = tuple(sorted(rows["segment"].astype(str).unique()))
    group = np.searchsorted(np.array(groups), rows["segment"].to_numpy(dtype=str)).astype(np.int64)
    day = (pd.to_datetime(rows["arrived_on"]) - pd.Timestamp(as_of)).dt.days.to_numpy().astype(np.int64)

    counts, grid = level_grid(day, group, len(groups), as_of)
    level = draw_levels(grid, draws, rng)
    combos, seen = _combos(rows, group, day, amounts)
    return ArrivalPosterior(
        as_of=as_of,
        groups=groups,
        cells=cells,
        combo_cell=combos["combo_cell"],
        combo_stage=combos["combo_stage"],
        combo_group=combos["combo_group"],
        combo_pool=combos["combo_pool"],
        mix=draw_mix(seen, combos["combo_group"], draws=draws, rng=rng),
        log_level=level.log_level,
        growth=level.growth,
        level_sd=level.level_sd,
        noise_shape=level.noise_shape,
        odd_share=level.odd_share,
        common=shared_surprise(grid),
        season=draw_season(counts, as_of, level.season == MONTHS, rng),
        year=by_day_of_year(year_profile(day, as_of), as_of),
        by_year=level.season == YEAR,
        weekday=_weekday_draws(rows, group, len(groups), draws, rng),
    )


def level_grid(
    day: NDArray[np.int64], group: NDArray[np.int64], n_groups: int, as_of: date
) -> tuple[NDArray[np.float64], LevelGrid]:
    """Weekly counts (week, group), and the level filtered from them beside every season that the history can judge.

    Parameters
    ----------
    day, group : ndarray of int, shape (deal,)
        Days from the as-of date on which deals arrived, 0 or negative, and of which group they are.
    n_groups : int
    as_of : date
    """
    counts, exposure = weekly_counts(day, group, n_groups)
    found = (past_season(counts, exposure, as_of), past_year(day, as_of=as_of, weeks=len(counts)))
    grid = filter_levels(counts, exposure, [season for season in found if season is not None])
    return counts, with_yearly_level(grid, day, group, as_of)


def _combos(
    rows: pd.DataFrame, group: NDArray[np.int64], day: NDArray[np.int64], amounts: AmountPosterior
) -> tuple[dict[str, NDArray[np.int64]], NDArray[np.float64]]:
    """Kinds of arrival seen lately (in a group gone silent: ever), and how often by week."""
    last = np.full(group.max(initial=-1) + 1, -np.inf)
    np.maximum.at(last, group, day.astype(float))
    recent = day > last[group] - MIX_DAYS
    kinds = np.column_stack([rows["cell"].to_numpy(np.int64), rows["stage"].to_numpy(np.int64), group])[recent]
    unique, of_row = np.unique(kinds, axis=0, return_inverse=True)
    counts = kind_counts(of_row.reshape(-1), day[recent], len(unique))
    labels = rows["segment"].astype(str).to_numpy()
    label_of = dict(zip(group.tolist(), labels.tolist(), strict=True))
    classes = rows["amount_class"] if "amount_class" in rows else pd.Series(-1, index=rows.index)
    class_of = dict(zip(rows["cell"].tolist(), classes.tolist(), strict=True))
    pool = [
        amounts.arrival_group(
            label_of[place], cell, amount_class=class_of[cell], at_once=stage >= amounts.same_probability.shape[1]
        )
        for cell, stage, place in unique.tolist()
    ]
    columns = {"combo_cell": unique[:, 0], "combo_stage": unique[:, 1], "combo_group": unique[:, 2]}
    return columns | {"combo_pool": np.array(pool, dtype=np.int64)}, counts


def _weekday_draws(
    rows: pd.DataFrame, group: NDArray[np.int64], n_groups: int, draws: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Dirichlet draws of each group's weekday profile, leaning on that of all groups, shape (draw, group, 7)."""
    counts = np.zeros((n_groups, 7))
    np.add.at(counts, (group, pd.to_datetime(rows["arrived_on"]).dt.weekday.to_numpy(np.int64)), 1.0)
    overall = (counts.sum(axis=0) + 1) / (counts.sum() + 7)
    weight = rng.gamma(np.broadcast_to(counts + WEEKDAY_WEIGHT * overall, (draws, n_groups, 7)))
    share: NDArray[np.float64] = weight / weight.sum(axis=2, keepdims=True)
    return share
