"""Scores of a backtest: one row per origin, and what they come to."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from forecasting.proof import scores
from forecasting.proof.baselines import BASELINES

Floats = NDArray[np.float64]

QUANTILES = {
    "p025": 0.025, "p05": 0.05, "p10": 0.1, "p25": 0.25, "p50": 0.5, "p75": 0.75, "p90": 0.9, "p95": 0.95, "p975": 0.975
}  # fmt: skip
"""Quantile columns of the result table."""
RANGE_ENDS = {0.5: ("p25", "p75"), 0.8: ("p10", "p90"), 0.95: ("p025", "p975")}
"""Columns that hold the ends of each reported range."""


@dataclass(frozen=True)
class BacktestResult:
    """Forecasts of past dates beside what came.

    Parameters
    ----------
    table : DataFrame
        One row per origin: ``as_of``, ``until``, ``horizon_days``, ``actual``, ``actual_open``; of all revenue
        ``mean``, ``p025`` .. ``p975``, ``crps``, ``pinball``, ``pit``; the same with the prefix ``open_`` of revenue
        from deals open at the origin; ``open_deals``, ``open_wins_mean``, ``actual_open_wins``, ``deal_brier``,
        ``deal_auc``; for every baseline its point and CRPS (``open_landmark``, ``open_landmark_crps``; ``run_rate``,
        ``run_rate_crps``); ``calibration_origins``, ``_bias``, ``_scale``, ``_sd`` when calibrated. In currency units.
    uncalibrated : DataFrame
        The same before calibration.
    deals : DataFrame
        One row per open deal and origin: ``as_of``, ``deal_id``, ``stage``, ``probability`` (to be won within the
        horizon), ``won``.
    horizon : str
    calibrated, new_business : bool
    seed : int
    """

    table: pd.DataFrame
    uncalibrated: pd.DataFrame
    deals: pd.DataFrame
    horizon: str
    calibrated: bool
    new_business: bool
    seed: int

    def summary(self, *, calibrated: bool = True) -> dict[str, Any]:
        """Return what the origins come to.

        Parameters
        ----------
        calibrated : bool
            False scores the forecasts as they were before calibration.

        Returns
        -------
        dict
            ``n``; of all revenue (of open deals, in a backtest without new business) ``mape`` and ``bias`` of the mean,
            ``median_ape`` of the median, ``crps``, ``crps_range`` (95 %, block bootstrap), ``crps_over_actual``,
            ``pinball``, ``width`` by level (mean width over mean actual), ``coverage`` by level (``hits``, ``n``,
            ``share``, ``expected_low``, ``expected_high``), ``skill`` per baseline (1 - CRPS / its CRPS); ``open`` with
            the same of open deals; ``deals`` with ``brier`` and ``auc``.
        """
        table = self.table if calibrated else self.uncalibrated
        of_open = summarise(table, prefix="open_", actual="actual_open", seed=self.seed)
        total = summarise(table, prefix="", actual="actual", seed=self.seed) if self.new_business else of_open
        return {
            "n": len(table),
            **total,
            "open": of_open,
            "deals": {
                "brier": scores.brier(self.deals["probability"], self.deals["won"]) if len(self.deals) else math.nan,
                "auc": scores.auc(self.deals["probability"], self.deals["won"]),
            },
        }

    def reliability(self, *, bins: int = 10) -> pd.DataFrame:
        """Stated win probabilities against observed shares, see :func:`forecasting.proof.scores.reliability`."""
        return scores.reliability(self.deals["probability"], self.deals["won"], bins=bins)

    def to_dict(self) -> dict[str, Any]:
        """Return all of it in the form of ``dealcast backtest --json``: dates as ISO text, what is unknown as None."""
        rows = self.table.assign(**{name: self.table[name].dt.strftime("%Y-%m-%d") for name in ("as_of", "until")})
        return {
            "horizon": self.horizon,
            "calibrated": self.calibrated,
            "origins": _plain(rows.to_dict("records")),
            "summary": _plain(self.summary()),
        }


def score_columns(draws: Floats, actual: float, *, prefix: str, seed: int) -> dict[str, float]:
    """Mean, quantiles and scores of one forecast, as columns with a prefix."""
    quantiles = dict(zip(QUANTILES, np.quantile(draws, list(QUANTILES.values())), strict=True))
    losses = [scores.pinball(quantiles[name], actual, level=level) for name, level in QUANTILES.items()]
    columns = {
        "mean": float(draws.mean()),
        **{name: float(value) for name, value in quantiles.items()},
        "crps": float(scores.crps(draws, actual)),
        "pinball": float(np.mean(losses)),
        "pit": float(scores.pit(draws, actual, seed=seed)),
    }
    return {prefix + name: value for name, value in columns.items()}


def summarise(table: pd.DataFrame, *, prefix: str, actual: str, seed: int) -> dict[str, Any]:
    """Scores over the rows of a result table, of the columns with the prefix."""
    truth, score = table[actual].to_numpy(dtype=float), table[f"{prefix}crps"].to_numpy(dtype=float)
    level = float(truth.mean()) or math.nan
    ends = {share: (table[prefix + low], table[prefix + high]) for share, (low, high) in RANGE_ENDS.items()}
    block = scores.blocks_that_overlap(list(table["as_of"]), horizon_days=int(table["horizon_days"].max()))
    return {
        "mape": scores.mape(table[f"{prefix}mean"], truth),
        "bias": scores.bias(table[f"{prefix}mean"], truth),
        "median_ape": scores.mape(table[f"{prefix}p50"], truth),
        "crps": float(score.mean()),
        "crps_range": scores.block_bootstrap(score, block=block, seed=seed),
        "crps_over_actual": float(score.mean()) / level,
        "pinball": float(table[f"{prefix}pinball"].mean()),
        "width": {_percent(share): float((high - low).mean()) / level for share, (low, high) in ends.items()},
        "coverage": {
            _percent(share): _coverage((low <= truth) & (truth <= high), level=share)
            for share, (low, high) in ends.items()
        },
        "skill": {
            name: _skill(float(score.mean()), float(table[column].mean()))
            for name in BASELINES
            if (column := f"{prefix}{name}_crps") in table
        },
    }


def _skill(score: float, of_baseline: float) -> float:
    return 1.0 - score / of_baseline if of_baseline > 0.0 else math.nan


def _coverage(inside: "pd.Series[bool]", *, level: float) -> dict[str, float]:
    found = scores.coverage(inside, level=level)
    return {
        "hits": found.hits,
        "n": found.n,
        "share": found.share,
        "expected_low": found.expected_low,
        "expected_high": found.expected_high,
    }


def _percent(share: float) -> str:
    return f"{share:.0%}".removesuffix("%")


def _plain(value: Any) -> Any:
    """Value of plain JSON types; numbers that are not finite become None."""
    if isinstance(value, dict):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
