"""``dealcast backtest``."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

import pandas as pd

from forecasting.commands.progress import shown_progress
from forecasting.commands.terminal import Outcome, as_notes
from forecasting.config import SHORTEST_WINDOW, JobConfig, read_job
from forecasting.data.given import read_commits
from forecasting.jobs import warnings_on_past
from forecasting.output.backtest_files import write_backtest
from forecasting.output.words import day, money
from forecasting.proof.backtest_result import COMMIT, BacktestResult
from forecasting.proof.backtesting import BacktestOptions, backtest, origin_dates
from forecasting.proof.steps import backtest_steps
from forecasting.proof.workers import origin_workers
from models.errors import SettingsError


@dataclass(frozen=True)
class Span:
    """Which past dates: either listed, or from ``first`` to ``last`` at steps."""

    first: str | None
    last: str | None
    every: str
    origins: str | None


@dataclass(frozen=True)
class Asked:
    """What the options of the command say; None leaves the job file's word."""

    horizon: str
    nuts: bool = False
    window_days: int | None = None
    target: float | None = None
    commits: Path | None = None
    processes: int | None = None


def run_backtest(path: Path, *, span: Span, asked: Asked, output: Path | None, as_json: bool) -> Outcome:
    """Forecast at past dates and score the forecasts."""
    job, origins = read_job(path), _origins(span)
    notes = as_notes(warnings_on_past(job))
    commits = asked.commits or job.config.commits_file
    with (
        shown_progress(wanted=not as_json) as progress,
        origin_workers(len(origins), processes=asked.processes) as executor,
    ):

        def told(origin: date, done: int, total: int) -> None:
            progress(f"forecast of {day(origin)}", done, total)

        result = backtest(
            job.deals,
            origins=origins,
            horizon=asked.horizon,
            options=backtest_options(job.config, asked),
            calibrate=job.config.forecast.calibrate,
            commits=None if commits is None else read_commits(commits),
            executor=executor,
            progress=told,
            seed=job.config.model.seed,
        )
    text = _text(result, job.deals.currency)
    if output is not None:
        files = write_backtest(result, output, currency=job.deals.currency)
        text += f"\n\nwritten to {output}: {', '.join(files)}"
    return Outcome(text, result.to_dict(), notes=notes)


def run_steps(path: Path, *, span: Span, asked: Asked, as_json: bool) -> Outcome:
    """Score the forecasts with and without each ingredient."""
    job, origins = read_job(path), _origins(span)
    if not job.config.forecast.calibrate:
        raise SettingsError("--steps compares with and without own past errors: set calibrate = true in the job file")
    notes = as_notes(warnings_on_past(job))
    with (
        shown_progress(wanted=not as_json) as progress,
        origin_workers(len(origins), processes=asked.processes) as executor,
    ):
        table = backtest_steps(
            job.deals,
            origins=origins,
            horizon=asked.horizon,
            options=backtest_options(job.config, asked),
            executor=executor,
            progress=progress,
            seed=job.config.model.seed,
        )
    return Outcome(_steps_text(table), {"horizon": asked.horizon, "steps": table.to_dict("records")}, notes=notes)


def backtest_options(config: JobConfig, asked: Asked) -> BacktestOptions:
    """Take the settings of the job file, with what the options say instead."""
    if asked.window_days is not None and asked.window_days < SHORTEST_WINDOW:
        raise SettingsError(f"--window is a number of days, at least {SHORTEST_WINDOW}, got {asked.window_days}")
    model = config.model
    options = BacktestOptions(
        segment=model.segment,
        covariates=model.covariates,
        durations=model.durations,
        inference="nuts" if asked.nuts else "fast",
        draws=config.forecast.draws,
        window_days=model.window_days,
        new_business=config.forecast.new_business,
        levels=config.forecast.levels,
        calendar=model.calendar,
        holidays=model.holidays,
        fiscal_year_start=config.forecast.fiscal_year_start,
        target=asked.target,
    )
    return options if asked.window_days is None else replace(options, window_days=asked.window_days)


def _origins(span: Span) -> Sequence[date | str]:
    if span.origins is not None:
        if span.first is not None or span.last is not None:
            raise SettingsError("past dates are given twice: leave out either --origins or --from and --to")
        return [origin.strip() for origin in span.origins.split(",")]
    if span.first is None or span.last is None:
        raise SettingsError("which past dates? give --from and --to, or --origins DATE,DATE,...")
    return origin_dates(span.first, span.last, every=span.every)


def _text(result: BacktestResult, currency: str | None) -> str:
    found = result.summary()
    prefix, actual = ("", "actual") if result.new_business else ("open_", "actual_open")
    lines = [f"{'as of':<13}{'actual':>10}{'median':>10}{'p10':>10}{'p90':>10}  80% range"]
    for row in result.table.to_dict("records"):
        low, high, came = row[f"{prefix}p10"], row[f"{prefix}p90"], row[actual]
        numbers = "".join(f"{money(value):>10}" for value in (came, row[f"{prefix}p50"], low, high))
        verdict = "hit" if low <= came <= high else "too high" if came < low else "too low"
        lines.append(f"{day(row['as_of']):<13}{numbers}  {verdict}")
    what = "all revenue" if result.new_business else "revenue of open deals"
    lines += ["", f"{found['n']} forecasts of {what}{f' in {currency}' if currency else ''}, {result.horizon} ahead:"]
    for level, hits in found["coverage"].items():
        lines.append(
            f"  {level}% range: {hits['hits']} of {hits['n']} hit; by chance alone an honest one hits "
            f"{hits['expected_low']} to {hits['expected_high']}"
        )
    low, high = found["crps_range"]
    lines.append(f"  CRPS {money(found['crps'])} ({money(low)} to {money(high)}), 80% range {_share(found["width"]["80"])} "
                 f"of the actual wide, median off by {_share(found["median_ape"])} on average")  # fmt: skip
    lines += [f"  {line}" for line in _further(found)]
    lines += ["", "Less error than simple rules (CRPS; 95% range over the dates):"]
    for name, skill in found["skill"].items():
        low, high = found["skill_range"][name]
        where = f", at the {result.table[COMMIT].notna().sum()} dates it was told" if name == COMMIT else ""
        told = f"{_share(skill, sign='+')} ({_share(low, sign='+')} to {_share(high, sign='+')})"
        lines.append(f"  {told} than {name.replace('_', ' ')}{where}")
    return "\n".join(lines)


def _share(value: float, *, sign: str = "") -> str:
    """Per cent of something; where nothing came there is no telling."""
    return "?" if math.isnan(value) else f"{value:{sign}.0%}"


def _number(value: float) -> str:
    return "?" if math.isnan(value) else f"{value:.2f}"


def _further(found: dict[str, Any]) -> list[str]:
    """Lines on counts, target and deals."""
    wins, target, deals = found.get("wins", found["open_wins"]), found["attainment"], found["deals"]
    held = wins["coverage"]["80"]
    off = _share(wins["mean_error"], sign="+")
    lines = [f"number of wins: 80% range {held['hits']} of {held['n']} hit, expected number off by {off}"]
    if target["n"]:
        lines.append(
            f"target reached in {target['share_reached']:.0%} of {target['n']}, chance given {target['mean_chance']:.0%} on "
            f"average; log score {target['log_score']:.2f} (a coin: 0.69)"
        )
    if deals["n"]:
        lines.append(
            f"deals won in time or not: AUC {_number(deals['auc'])}, Brier {deals['brier']:.3f}; days to close off by "
            f"{deals['remaining_days_mae']:.1f} on average, counted up to the horizon"
        )
    return lines


def _steps_text(table: pd.DataFrame) -> str:
    names = {"total": "all revenue", "open": "revenue of open deals"}
    lines = []
    for source, part in table.groupby("source", sort=False):
        lines += [f"{names[str(source)]:<26}{'CRPS':>10}{'/actual':>10}{'50%':>7}{'80%':>7}{'95%':>7}{'width':>8}"]
        for row in part.to_dict("records"):
            shares = "".join(f"{row[f'coverage_{level}']:>7.2f}" for level in (50, 80, 95))
            lines.append(
                f"{row['step']:<26}{money(row['crps']):>10}{row['crps_over_actual']:>10.3f}{shares}{row['width_80']:>8.2f}"
            )
        lines.append("")
    n = int(table["n"].iloc[0])
    return "\n".join(
        [*lines, f"{n} forecasts each; shares of outcomes within the ranges, width of the 80% range over the actual"]
    )
