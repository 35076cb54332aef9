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
COMMIT = "commit"
"""Name of the manager's commit among the baselines."""
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
        from deals open at the origin, and with ``new_`` (and ``actual_new``) from deals created later; ``open_deals``;
        counts ``wins_mean``, ``wins_p025`` .. ``wins_p975`` and ``actual_wins``, and ``open_wins_...``,
        ``actual_open_wins``; ``deal_brier``, ``deal_auc``, ``deal_days_mae`` (days to close, at most the horizon);
        ``target``, ``attainment`` (its stated chance), ``target_reached``, ``attainment_log_score``; for every baseline
        its point and CRPS (``open_landmark``, ``open_landmark_crps``; ``run_rate``, ``run_rate_crps``; ``commit``,
        ``commit_crps`` where one was told); ``calibration_origins``, ``_bias``, ``_scale``, ``_sd`` when calibrated,
        and ``new_calibration_...``. In currency units.
    uncalibrated : DataFrame
        The same before calibration.
    deals : DataFrame
        One row per open deal and origin: ``as_of``, ``deal_id``, ``stage``, ``probability`` (to be won within the
        horizon), ``won``; ``days_p50`` and ``days``: median days to close, and those it took, both at most the horizon;
        ``closed``: whether it closed within it.
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
            ``share``, ``expected_low``, ``expected_high``, ``share_range`` by block bootstrap), ``skill`` per baseline
            (1 - CRPS / its CRPS, over the origins it covers) and ``skill_range``; ``open`` and ``new`` with the same of
            open deals and of deals created later; ``wins``, ``open_wins`` (``mean_error`` of the mean, ``median_error``
            absolute, both over the mean number, and ``coverage``); ``attainment`` (``n``, ``log_score``, ``brier``,
            ``mean_chance``, ``share_reached``); ``deals`` with ``n``, ``brier``, ``auc``, ``remaining_days_mae`` and
            ``remaining_days_mae_closed`` (of deals that closed within the horizon).
        """
        table = self.table if calibrated else self.uncalibrated
        of_open = summarise(table, prefix="open_", actual="actual_open", seed=self.seed)
        total = summarise(table, prefix="", actual="actual", seed=self.seed) if self.new_business else of_open
        found = {"n": len(table), **total, "open": of_open}
        if self.new_business:
            found["new"] = summarise(table, prefix="new_", actual="actual_new", seed=self.seed)
            found["wins"] = _counts(table, prefix="wins_", actual="actual_wins")
        found["open_wins"] = _counts(table, prefix="open_wins_", actual="actual_open_wins")
        return {**found, "attainment": _attainment(table), "deals": _of_deals(self.deals)}

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
            _percent(share): _coverage((low <= truth) & (truth <= high), level=share, block=block, seed=seed)
            for share, (low, high) in ends.items()
        },
        **_skills(table, prefix=prefix, block=block, seed=seed),
    }


def _skills(table: pd.DataFrame, *, prefix: str, block: int, seed: int) -> dict[str, dict[str, Any]]:
    """Skill over each rule at the origins where it has an answer, and the range of it."""
    skill: dict[str, Any] = {}
    ranges: dict[str, Any] = {}
    for name in (*BASELINES, COMMIT):
        if (column := f"{prefix}{name}_crps") in table:
            told = table[table[column].notna()]
            ours, theirs = told[f"{prefix}crps"], told[column]
            skill[name] = _skill(float(ours.mean()), float(theirs.mean()))
            ranges[name] = scores.skill_bootstrap(ours, theirs, block=block, seed=seed)
    return {"skill": skill, "skill_range": ranges}


def _counts(table: pd.DataFrame, *, prefix: str, actual: str) -> dict[str, Any]:
    """Scores of numbers of wins over the rows of a result table."""
    truth = table[actual].to_numpy(dtype=float)
    level = float(truth.mean()) or math.nan
    return {
        "mean_error": float((table[f"{prefix}mean"] - truth).mean()) / level,
        "median_error": float((table[f"{prefix}p50"] - truth).abs().mean()) / level,
        "coverage": {
            _percent(share): _coverage((table[prefix + low] <= truth) & (truth <= table[prefix + high]), level=share)
            for share, (low, high) in RANGE_ENDS.items()
        },
    }


def _attainment(table: pd.DataFrame) -> dict[str, Any]:
    """Scores of the chance to reach the target, over the origins that have one."""
    told = table[table["target"].notna()]
    chance, reached = told["attainment"], told["target_reached"]
    return {
        "n": len(told),
        "log_score": float(told["attainment_log_score"].mean()),
        "brier": scores.brier(chance, reached) if len(told) else math.nan,
        "mean_chance": float(chance.mean()),
        "share_reached": float(reached.mean()),
    }


def _of_deals(deals: pd.DataFrame) -> dict[str, Any]:
    """Scores of deals one by one, over all origins."""
    missed = (deals["days_p50"] - deals["days"]).abs()
    return {
        "n": len(deals),
        "brier": scores.brier(deals["probability"], deals["won"]) if len(deals) else math.nan,
        "auc": scores.auc(deals["probability"], deals["won"]),
        "remaining_days_mae": float(missed.mean()),
        "remaining_days_mae_closed": float(missed[deals["closed"].astype(bool)].mean()),
    }


def _skill(score: float, of_baseline: float) -> float:
    return 1.0 - score / of_baseline if of_baseline > 0.0 else math.nan


def _coverage(inside: "pd.Series[bool]", *, level: float, block: int | None = None, seed: int = 0) -> dict[str, Any]:
    found = scores.coverage(inside, level=level)
    told: dict[str, Any] = {
        "hits": found.hits,
        "n": found.n,
        "share": found.share,
        "expected_low": found.expected_low,
        "expected_high": found.expected_high,
    }
    if block is not None:
        told["share_range"] = scores.block_bootstrap(inside.to_numpy(dtype=float), block=block, seed=seed)
    return told


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
