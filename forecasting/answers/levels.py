"""What the levels of the moment do to a forecast: how fast deals will move, and a forecast drawn towards the tracked one.

The static forecast takes the hazards of the whole history, the tracked one multiplies them by the levels of
:mod:`models.levels`, with the same random numbers. Their log average, draw by draw, is between the two; how much weight
the tracked one earned is learned from the forecaster's closed forecasts (:mod:`forecasting.proof.calibration`).
"""

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from forecasting.engine.blocks import EngineOptions
from forecasting.simulate import simulate_new, simulate_open
from models.errors import SettingsError
from models.hazards import ScaledHazards
from models.levels.counts import DIRECTIONS
from models.levels.posterior import LevelPosterior, future_factors, level_effects

if TYPE_CHECKING:
    from forecasting.answers.forecasts import Forecast

Floats = NDArray[np.float64]

FLOOR = 0.01
"""Part of the mean static revenue added before taking logs, as in calibration: a draw without a win stays finite."""
QUANTILES = {"p10": 0.1, "p50": 0.5, "p90": 0.9}


def level_ranges(levels: LevelPosterior, *, horizon_days: int, seed: int) -> dict[str, dict[str, float]]:
    """Median and 80 % range of the mean factor on the hazards over the coming days, by direction of the exit.

    Parameters
    ----------
    levels : LevelPosterior
    horizon_days : int
    seed : int

    Returns
    -------
    dict
        ``forward`` and ``down``, each with ``p10``, ``p50``, ``p90``; one is as in the whole history.
    """
    found = np.quantile(future_factors(levels, horizon_days=horizon_days, seed=seed), list(QUANTILES.values()), axis=0)
    return {name: dict(zip(QUANTILES, found[:, place].tolist(), strict=True)) for place, name in enumerate(DIRECTIONS)}


def log_average_factor(static: Floats, tracked: Floats, *, share: float) -> Floats:
    """Factor on the static revenue of each draw that gives the log average of static and tracked, shape (draw,).

    y + c = (x + c)^(1 - share) (t + c)^share with c one per cent of the mean of x; the factor is y / x, one where x is zero.

    Parameters
    ----------
    static, tracked : ndarray, shape (draw,)
        Revenue of the same draws.
    share : float
        Weight of the tracked one, from 0 to 1.

    Examples
    --------
    >>> factor = log_average_factor(np.array([100.0, 100.0, 0.0]), np.array([400.0, 100.0, 50.0]), share=0.5)
    >>> factor.round(2).tolist()
    [2.0, 1.0, 1.0]
    """
    if not 0.0 <= share <= 1.0:
        raise SettingsError(f"the weight of the tracked forecast must lie between 0 and 1, got {share}")
    offset = FLOOR * float(static.mean())
    factor = np.ones(len(static))
    some = static > 0.0
    x, t = static[some] + offset, tracked[some] + offset
    factor[some] = np.maximum(x ** (1.0 - share) * t**share - offset, 0.0) / static[some]
    return factor


def tracked_cents(forecast: "Forecast", *, options: EngineOptions | None = None) -> Floats:
    """Cents of open and of new deals over the whole horizon with hazards at the levels of the moment, shape (draw, 2).

    The forecast is played again with the same random numbers.

    Parameters
    ----------
    forecast : Forecast
        Not calibrated.
    options : EngineOptions, optional

    Raises
    ------
    SettingsError
        The posterior was saved before levels were learned, or the forecast is calibrated already.
    """
    posterior, levels, days = forecast.posterior, forecast.posterior.levels, forecast.horizon_days
    if forecast.calibration is not None:
        raise SettingsError("levels need a forecast that is not calibrated yet: calibration comes last")
    if levels is None:
        raise SettingsError("this posterior was saved before levels were learned: fit again")
    factors = future_factors(levels, horizon_days=days, seed=forecast.seed)
    stage = ScaledHazards(posterior.stage, level_effects(levels, factors))
    engine = replace(options or EngineOptions(), sampler="fate")
    edges, totals = np.array([days]), np.zeros((forecast.draws, 2))
    played = simulate_open(
        forecast.pipeline, stage, edges=edges, seed=forecast.seed, draws=forecast.draws, amounts=posterior.amounts,
        options=engine, pace=forecast.pace, lost_pace=forecast.lost_pace,
    )  # fmt: skip
    totals[:, 0] = played.revenue_cents.sum(axis=(1, 2))
    if forecast.new_cents.any():
        created = simulate_new(
            posterior.arrivals, stage, graph=forecast.pipeline.graph, edges=edges, seed=forecast.seed,
            draws=forecast.draws, amounts=posterior.amounts, options=engine, pace=forecast.pace,
        )  # fmt: skip
        totals[:, 1] = created.revenue_cents.sum(axis=(1, 2))
    return totals


def with_levels(forecast: "Forecast", *, share: float, options: EngineOptions | None = None) -> "Forecast":
    """Forecast drawn towards the tracked one, by one factor per draw on open deals and one on new business.

    Parameters
    ----------
    forecast : Forecast
        Not calibrated yet: calibration comes last.
    share : float
        Weight of the tracked forecast, from 0 to 1.
    options : EngineOptions, optional

    Raises
    ------
    SettingsError
        As :func:`tracked_cents`, or the weight is none.
    """
    tracked = tracked_cents(forecast, options=options)
    on_open, on_new = (
        log_average_factor(cents.sum(axis=(1, 2)).astype(float), column, share=share)
        for cents, column in zip((forecast.open_cents, forecast.new_cents), tracked.T, strict=True)
    )
    return replace(
        forecast,
        open_cents=scaled(forecast.open_cents, on_open),
        new_cents=scaled(forecast.new_cents, on_new),
        at_once_cents=scaled(forecast.at_once_cents, on_new),
        open_factor=forecast.open_factor * on_open,
        new_factor=forecast.new_factor * on_new,
    )


def scaled(cents: NDArray[np.int64] | Floats, factor: Floats) -> NDArray[np.int64]:
    """Cents (draw, day, segment) times a factor per draw."""
    return np.rint(cents * factor[:, None, None]).astype(np.int64)


def parts_of_new(forecast: "Forecast") -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Cents of deals to come that go through stages, and of those entered as won."""
    return forecast.new_cents - forecast.at_once_cents, forecast.at_once_cents


def seasons_of_new(forecast: "Forecast", season: Floats) -> tuple[float, float]:
    """Mean season of the deals to come that go through stages, and of all: what is entered as won has none of its own."""
    staged, at_once = (cents.sum(axis=(0, 2)).astype(float) for cents in parts_of_new(forecast))
    if not staged.any():
        return 1.0, 1.0
    in_season = float(season @ staged)
    return in_season / float(staged.sum()), (in_season + float(at_once.sum())) / float((staged + at_once).sum())


def moved_in_time(cents: NDArray[np.int64], season: Floats) -> NDArray[np.int64] | Floats:
    """Cents (draw, day, segment) moved between days so that they come on average as they did times the season (day,).

    What comes until a day is what came until an earlier or later one, in every draw alike: each keeps its sum.

    Examples
    --------
    >>> moved_in_time(np.array([[[40], [40], [20]]]), np.array([0.5, 0.5, 3.0])).ravel().tolist()
    [20.0, 20.0, 60.0]
    """
    came = cents.sum(axis=(0, 2)).astype(float)
    if (season == 1.0).all() or not (came * season).any():
        return cents
    until, moved_until = (np.concatenate([[0.0], np.cumsum(each) / each.sum()]) for each in (came, came * season))
    ends, begins = np.minimum.outer(until[1:], moved_until[1:]), np.maximum.outer(until[:-1], moved_until[:-1])
    overlap = np.maximum(ends - begins, 0.0)
    share = np.divide(overlap, overlap.sum(axis=1, keepdims=True), out=np.eye(len(came)), where=came[:, None] > 0.0)
    return np.ascontiguousarray(np.moveaxis(np.tensordot(cents, share, axes=(1, 0)), -1, 1))
