"""What each ingredient of a forecast is worth: the same past dates with and without it."""

from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from datetime import date
from typing import TYPE_CHECKING

import pandas as pd

from forecasting.proof.backtest_result import BacktestResult, summarise
from forecasting.proof.backtesting import BacktestOptions, backtest
from models.errors import SettingsError

if TYPE_CHECKING:
    from forecasting.data.deals import Deals

Progress = Callable[[str, int, int], None]
"""Called with what is being forecast, how many forecasts are done, and how many there are."""

AMOUNT_NAMES = ("log_amount", "amount")
"""Covariates that stand for the amount."""
PUBLISHED, NO_ERRORS, NO_LEVELS, NO_AMOUNT, CHAIN = (
    "as published", "without own past errors", "without levels", "without amount effect", "stage model alone"
)  # fmt: skip


def backtest_steps(
    deals: "Deals",
    *,
    origins: Sequence[date | str],
    horizon: str = "90d",
    options: BacktestOptions | None = None,
    executor: Executor | None = None,
    progress: Progress | None = None,
    seed: int,
) -> pd.DataFrame:
    """Backtest the forecast with each ingredient switched off in turn.

    Parameters
    ----------
    deals : Deals
    origins, horizon, executor, seed
        As for :func:`forecasting.proof.backtesting.backtest`.
    options : BacktestOptions, optional
        What is switched off there already is left out.
    progress : callable, optional

    Returns
    -------
    DataFrame
        One row per ``step`` and ``source`` (``total``, ``open``): ``crps``, ``crps_over_actual``, ``median_ape``,
        ``coverage_50``, ``coverage_80``, ``coverage_95`` (shares), ``width_80`` (over the mean actual) and ``n``.

    Raises
    ------
    SettingsError
        As for :func:`forecasting.proof.backtesting.backtest`.
    """
    chosen, days = options or BacktestOptions(), list(origins)
    if not days:
        raise SettingsError("a backtest needs at least one origin: give dates, or a span and every = '28d'")
    bare = tuple(name for name in chosen.covariates if name not in AMOUNT_NAMES)
    runs = {PUBLISHED: chosen}
    if chosen.levels:
        runs[NO_LEVELS] = replace(chosen, levels=False)
    if bare != chosen.covariates:
        runs[NO_AMOUNT] = replace(chosen, covariates=bare)
    results: dict[str, BacktestResult] = {}
    for place, (name, each) in enumerate(runs.items()):

        def told(_: date, done: int, of: int, name: str = name, before: int = place * len(days)) -> None:
            if progress is not None:
                progress(name, before + done, len(runs) * of)

        results[name] = backtest(
            deals, origins=days, horizon=horizon, options=each, executor=executor, progress=told, seed=seed
        )
    return step_table(results)


def step_table(results: dict[str, BacktestResult]) -> pd.DataFrame:
    """Table of :func:`backtest_steps` from the backtests of the runs; what calibration adds is in each of them."""
    tables = {name: result.table for name, result in results.items()}
    tables[NO_ERRORS] = results[PUBLISHED].uncalibrated
    if NO_AMOUNT in results:
        tables[CHAIN] = results[NO_AMOUNT].uncalibrated
    order = [name for name in (PUBLISHED, NO_ERRORS, NO_LEVELS, NO_AMOUNT, CHAIN) if name in tables]
    sources = {"total": ("", "actual"), "open": ("open_", "actual_open")}
    if not results[PUBLISHED].new_business:
        del sources["total"]
    rows = []
    for source, (prefix, actual) in sources.items():
        for name in order:
            found = summarise(tables[name], prefix=prefix, actual=actual, seed=results[PUBLISHED].seed)
            rows.append(
                {
                    "step": name,
                    "source": source,
                    **{key: found[key] for key in ("crps", "crps_over_actual", "median_ape")},
                    **{f"coverage_{level}": held["share"] for level, held in found["coverage"].items()},
                    "width_80": found["width"]["80"],
                    "n": len(tables[name]),
                }
            )
    return pd.DataFrame(rows)
