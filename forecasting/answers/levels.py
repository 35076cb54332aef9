"""What the levels of the moment do to a forecast: how fast deals will move, and a forecast drawn towards the tracked one.

The static forecast takes the hazards of the whole history, the tracked one multiplies them by the levels of
:mod:`models.levels`, with the same random numbers. Their log average, draw by draw, is between the two; how much weight
the tracked one earned is learned from the forecaster's closed forecasts (:mod:`forecasting.proof.calibration`).
"""

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from models.errors import SettingsError
from models.levels.counts import DIRECTIONS
from models.levels.posterior import LevelPosterior, future_factors

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


def with_levels(forecast: "Forecast", *, share: float) -> "Forecast":
    """Forecast drawn towards the tracked one, by one factor per draw on open deals and one on new business.

    Parameters
    ----------
    forecast : Forecast
        Made with ``levels=True`` and not calibrated yet: calibration comes last.
    share : float
        Weight of the tracked forecast, from 0 to 1.

    Raises
    ------
    SettingsError
        The forecast has no tracked revenue, or is calibrated already.
    """
    if forecast.tracked is None or forecast.calibration is not None:
        raise SettingsError("levels need a forecast made with levels=True that is not calibrated yet")
    on_open, on_new = (
        log_average_factor(cents.sum(axis=(1, 2)).astype(float), tracked, share=share)
        for cents, tracked in zip((forecast.open_cents, forecast.new_cents), forecast.tracked.T, strict=True)
    )
    return replace(
        forecast,
        open_cents=scaled(forecast.open_cents, on_open),
        new_cents=scaled(forecast.new_cents, on_new),
        open_factor=forecast.open_factor * on_open,
        new_factor=forecast.new_factor * on_new,
        tracked=None,
    )


def scaled(cents: NDArray[np.int64], factor: Floats) -> NDArray[np.int64]:
    """Cents (draw, day, segment) times a factor per draw."""
    return np.rint(cents * factor[:, None, None]).astype(np.int64)
