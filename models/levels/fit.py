"""Learn the levels of the moment from the stays and the hazards fitted to them."""

from datetime import date
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from models.history import unseen_days
from models.levels.counts import DIRECTIONS, LevelCounts, level_counts
from models.levels.density import level_series
from models.levels.laplace import draw_points, laplace_level, settings_around
from models.levels.posterior import LevelPosterior
from models.levels.priors import Settings, settings_at
from models.levels.season import WEEK_DAYS
from models.stage_model.posterior import Diagnostics

if TYPE_CHECKING:
    import pandas as pd

    from models.stage_model.options import SamplerOptions
    from models.stage_model.posterior import StagePosterior

Floats = NDArray[np.float64]

MOST_PERIODS = 104
"""Longer histories take periods of several weeks: the time that sampling takes grows with their number, and what was two
years ago says little of the level now."""


def fit_levels(
    stays: "pd.DataFrame",
    stage: "StagePosterior",
    *,
    cells: NDArray[np.int32],
    as_of: date,
    days: int | None = None,
    seed: int,
    options: "SamplerOptions | None" = None,
) -> LevelPosterior:
    """Learn the levels, as many draws as the stage model has, by the same inference.

    Parameters
    ----------
    stays : DataFrame
        The stays the stage model was fitted to: ``cell``, ``stage``, ``next``, ``days``, ``entered_on``, and
        ``days_unseen`` if some were not watched from their first day on.
    stage : StagePosterior
    cells : ndarray of int, shape (cell, factor)
        Level codes that ``cell`` points at.
    as_of : date
    days : int, optional
        Length of a period; by default a week, or as many weeks as keep the series within ``MOST_PERIODS``.
    seed : int
    options : SamplerOptions, optional
        Of NUTS.

    Returns
    -------
    LevelPosterior
    """
    counts = level_counts(stays, stage, cells=cells, as_of=as_of, days=days or period_of(stays, as_of))
    return learn_levels(counts, inference=stage.inference, draws=stage.n_draws, seed=seed, options=options)


def period_of(stays: "pd.DataFrame", as_of: date) -> int:
    """Length of a period in days: a week or several, as the levels are asked for weeks ahead, rarely for years.

    Examples
    --------
    >>> import pandas as pd
    >>> period_of(pd.DataFrame({"entered_on": pd.to_datetime(["2024-01-01"])}), date(2025, 6, 30))
    7
    >>> period_of(pd.DataFrame({"entered_on": pd.to_datetime(["2023-01-01"])}), date(2025, 6, 30))
    14
    """
    watched = stays["entered_on"].to_numpy() + unseen_days(stays).astype("timedelta64[D]")
    weeks = (np.datetime64(as_of) - watched.min()) / np.timedelta64(WEEK_DAYS, "D")
    return WEEK_DAYS * max(1, int(np.ceil(weeks / MOST_PERIODS)))


def learn_levels(
    counts: LevelCounts, *, inference: str, draws: int, seed: int, options: "SamplerOptions | None" = None
) -> LevelPosterior:
    """Learn the levels from counts by period, see :func:`fit_levels`; ``inference`` is ``fast`` or ``nuts``."""
    rng = np.random.default_rng([seed, 4])
    approximate = [
        laplace_level(counts.exits[:, place], counts.expected[:, place], days=counts.days)
        for place in range(len(DIRECTIONS))
    ]
    if inference == "nuts":
        from models.levels.model import sample_levels

        series = [
            level_series(counts.exits[:, place], counts.expected[:, place], level, days=counts.days)
            for place, level in enumerate(approximate)
        ]
        sampled = sample_levels(series, approximate, draws=draws, seed=seed, options=options)
        chosen = settings_at(sampled.normals[:draws], days=counts.days)
        return _posterior(counts, sampled.level[:draws, :, -1], chosen, rng, sampled.diagnostics)
    points = [draw_points(level, draws, rng) for level in approximate]
    normals = np.stack(
        [settings_around(level, point, rng) for level, point in zip(approximate, points, strict=True)], axis=1
    )
    middle, spread = (
        np.stack([getattr(level, name)[point] for level, point in zip(approximate, points, strict=True)], axis=1)
        for name in ("mean", "sd")
    )
    now = middle + spread * rng.standard_normal(middle.shape)
    return _posterior(counts, now, settings_at(normals, days=counts.days), rng, Diagnostics())


def _posterior(
    counts: LevelCounts, level: Floats, settings: Settings, rng: np.random.Generator, diagnostics: Diagnostics
) -> LevelPosterior:
    """Draw the levels that the series return to, of which the counts say nothing, and put all draws together."""
    spread = settings.target_sd(len(counts.exits))
    target = -(settings.sigma**2) / 2.0 + spread * rng.standard_normal(level.shape)
    return LevelPosterior(level, target, settings.sigma, settings.phi, counts.direction, counts.days, diagnostics)
