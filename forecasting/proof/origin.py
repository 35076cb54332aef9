"""One past forecast, what came, and the row of scores they make."""

from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from forecasting.proof.backtest_result import score_columns
from forecasting.proof.scores import auc, brier, log_score

Floats = NDArray[np.float64]

COUNT_QUANTILES = {"p025": 0.025, "p10": 0.1, "p25": 0.25, "p50": 0.5, "p75": 0.75, "p90": 0.9, "p975": 0.975}
"""Quantile columns of counts."""


@dataclass(frozen=True)
class Draws:
    """Revenue (currency units) and number of wins by draw: of deals open at the origin, and of deals created later."""

    open: Floats
    new: Floats
    open_wins: Floats
    new_wins: Floats

    @property
    def total(self) -> Floats:
        """Revenue of all deals."""
        return self.open + self.new


@dataclass(frozen=True)
class OriginForecast:
    """One past forecast and what came, picklable.

    Parameters
    ----------
    as_of, until : date
    draws : Draws
        As published: calibrated, if it was asked for.
    raw : Draws
        Before calibration.
    deals : DataFrame
        ``deal_id``, ``stage``, ``probability`` (won by ``until``), ``won``, ``days_p50`` (median days to close, at most
        the horizon) and ``days`` (that it took; the horizon where it was still open then), ``closed``.
    actual_open, actual : float
    actual_wins : int
    baselines : dict
        Columns of the baselines.
    calibration, new_calibration : dict or None
    """

    as_of: date
    until: date
    draws: Draws
    raw: Draws
    deals: pd.DataFrame
    actual_open: float
    actual: float
    actual_wins: int
    baselines: dict[str, float]
    calibration: dict[str, Any] | None
    new_calibration: dict[str, Any] | None


@dataclass(frozen=True)
class Told:
    """What people said at an origin: what they committed to, and the target; None where they said nothing."""

    commit: float | None = None
    target: float | None = None


def origin_row(result: OriginForecast, told: Told, *, raw: bool, new_business: bool, seed: int) -> dict[str, Any]:
    """Row of the result table, see :class:`forecasting.proof.backtest_result.BacktestResult`.

    Parameters
    ----------
    result : OriginForecast
    told : Told
    raw : bool
        Score the forecast before calibration.
    new_business : bool
        Whether deals created later were asked for; else there is nothing to score of them.
    seed : int
    """
    draws, deals = (result.raw if raw else result.draws), result.deals
    actual_new = result.actual - result.actual_open
    wins = int(deals["won"].sum())
    row = {
        "as_of": pd.Timestamp(result.as_of),
        "until": pd.Timestamp(result.until),
        "horizon_days": (result.until - result.as_of).days,
        "actual": result.actual,
        "actual_open": result.actual_open,
        **score_columns(draws.total, result.actual, prefix="", seed=seed),
        **score_columns(draws.open, result.actual_open, prefix="open_", seed=seed),
        "open_deals": len(deals),
        **count_columns(draws.open_wins, prefix="open_wins_"),
        "open_wins_mean": float(deals["probability"].sum()),
        "actual_open_wins": wins,
        **_deal_scores(deals),
        **_attainment(draws, result, told, new_business=new_business),
        **result.baselines,
    }
    if told.commit is not None:
        row |= {"commit": told.commit, "commit_crps": abs(told.commit - result.actual)}
    if new_business:
        row |= {
            "actual_new": actual_new,
            **score_columns(draws.new, actual_new, prefix="new_", seed=seed),
            **count_columns(draws.open_wins + draws.new_wins, prefix="wins_"),
            "actual_wins": result.actual_wins,
        }
    for name, learned in (("calibration", result.calibration), ("new_calibration", result.new_calibration)):
        row |= {f"{name}_{key}": value for key, value in (learned or {}).items()}
    return row


def count_columns(draws: Floats, *, prefix: str) -> dict[str, float]:
    """Mean and quantiles of a number of wins; quantiles are whole numbers that the draws hold."""
    levels = list(COUNT_QUANTILES.values())
    found = np.quantile(np.rint(draws), levels, method="inverted_cdf")
    named = {prefix + name: float(value) for name, value in zip(COUNT_QUANTILES, found, strict=True)}
    return {f"{prefix}mean": float(draws.mean()), **named}


def _deal_scores(deals: pd.DataFrame) -> dict[str, float]:
    """Scores of the deals of one origin."""
    if not len(deals):
        return dict.fromkeys(("deal_brier", "deal_auc", "deal_days_mae"), float("nan"))
    return {
        "deal_brier": brier(deals["probability"], deals["won"]),
        "deal_auc": auc(deals["probability"], deals["won"]),
        "deal_days_mae": float((deals["days_p50"] - deals["days"]).abs().mean()),
    }


def _attainment(draws: Draws, result: OriginForecast, told: Told, *, new_business: bool) -> dict[str, Any]:
    """Chance of the target and its log score; without a target, of what the last period brought."""
    revenue, actual = (draws.total, result.actual) if new_business else (draws.open, result.actual_open)
    last = result.baselines["last_period" if new_business else "open_last_period"]
    target = last if told.target is None else told.target
    if target <= 0.0:  # reached for sure: nothing to be scored
        return dict.fromkeys(("target", "attainment", "target_reached", "attainment_log_score"), float("nan"))
    chance, reached = float((revenue >= target).mean()), actual >= target
    score = float(log_score((chance * len(revenue) + 0.5) / (len(revenue) + 1.0), reached))
    return {
        "target": target,
        "attainment": chance,
        "target_reached": float(reached),
        "attainment_log_score": score,
    }
