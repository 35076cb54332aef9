"""How right the ranges are on four public pipelines, step by step, beside the simple rules.

    python -m benchmarks.accuracy.open_deals            # official origins, found through DEALCAST_DATA
    python -m benchmarks.accuracy.open_deals --weekly   # every week in the same spans, about 170 forecasts
    python -m benchmarks.accuracy.open_deals --calendar weekday,holiday    # days that weigh differently, see calendar
    python -m benchmarks.accuracy.open_deals --save     # also keeps every forecast for the results page
    python -m benchmarks.accuracy.open_deals --toy      # the sample data, for the tests

One setting for all pipelines. Per pipeline a row for the chain alone, with the amount effect, and with what the
levels of the moment and the forecaster's own past errors add; then the simple rules. CRPS/actual is over the mean
actual revenue; the coverage columns count the hits of the 50, 80 and 95 % ranges, with the 95 % band of hits that a
right range would give; width is that of the 80 % range over the mean actual revenue.
"""

import sys
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks import real_data
from benchmarks.command import command_line, keep
from forecasting.data.deals import Deals, deals_from_frames
from forecasting.proof.backtest_result import BacktestResult
from forecasting.proof.backtesting import BacktestOptions, backtest, origin_dates
from forecasting.proof.scores import coverage
from forecasting.proof.workers import origin_workers

OPTIONS = BacktestOptions(durations="piecewise", draws=2000)
"""One setting for every pipeline; piecewise hazards spare the many fits of ``auto``."""
SEED = 20261123
RECIPES = {"chain": "chain", "amount": "+ amount effect", "published": "+ levels and own past errors"}
"""Recipes in the saved table and what they are called in the printed one."""
HOLIDAYS = "NL"


@dataclass(frozen=True)
class Pipeline:
    """A pipeline and the dates it is forecast at."""

    name: str
    load: Callable[[], Deals]
    first: str
    last: str
    every: str
    horizon: str


def real_pipelines(folder: Path) -> list[Pipeline]:
    """Return the four public logs with their official origins."""
    found = [
        Pipeline("bpic2012", partial(real_data.load_bpic2012, folder), "2011-12-04", "2012-02-12", "7d", "28d"),
    ]
    for name in ("international", "domestic", "prepaid"):
        load, _ = real_data.LOADERS[f"bpic2020_{name}"]
        found.append(Pipeline(f"bpic2020_{name}", partial(load, folder), "2017-06-30", "2018-06-30", "month", "30d"))
    return found


def toy_pipeline() -> Pipeline:
    """Return a small sample history."""
    return Pipeline("sample", sample_deals, "2026-05-31", "2026-07-31", "month", "30d")


def sample_deals() -> Deals:
    """Make up a small history."""
    from forecasting.data.sample import demo_history

    demo = demo_history(seed=7, n_deals=300, months=18, faulty_rows=False)
    return deals_from_frames(demo.deals, demo.stage_history, stages=demo.graph, timezone="UTC")


def on_calendar(options: BacktestOptions, named: str) -> BacktestOptions:
    """Options with the calendar named on the command line; all four logs are Dutch."""
    parts = () if named == "none" else tuple(named.split(","))
    return replace(options, calendar=parts, holidays=HOLIDAYS if "holiday" in parts else None)


def measure(pipeline: Pipeline, options: BacktestOptions, *, executor: Executor | None) -> dict[str, BacktestResult]:
    """Backtest one pipeline without and with the amount effect."""
    deals = pipeline.load()
    origins = origin_dates(pipeline.first, pipeline.last, every=pipeline.every)
    run = partial(backtest, deals, origins=origins, horizon=pipeline.horizon, executor=executor, seed=SEED)
    bare = replace(options, covariates=(), new_business=False)
    return {
        "chain": run(options=bare, calibrate=False),
        "amount": run(options=options, progress=_progress(pipeline.name)),
    }


def forecasts(name: str, results: dict[str, BacktestResult]) -> pd.DataFrame:
    """One row per forecast and recipe: the columns of :class:`BacktestResult`, with ``pipeline`` and ``recipe``."""
    tables = {
        "chain": results["chain"].table,
        "amount": results["amount"].uncalibrated,
        "published": results["amount"].table,
    }
    found = pd.concat([table.assign(recipe=recipe) for recipe, table in tables.items()], ignore_index=True)
    return found.assign(pipeline=name)


def saved_path(folder: Path, *, weekly: bool) -> Path:
    """File of the saved forecasts."""
    return folder / ("open_deals_weekly.csv" if weekly else "open_deals.csv")


def rows(name: str, results: dict[str, BacktestResult]) -> list[dict[str, Any]]:
    """Table rows of one pipeline, open deals first, then the rules, then all revenue."""
    chain, full = results["chain"].summary(), results["amount"].summary()
    raw = results["amount"].summary(calibrated=False)
    found = [
        _row(name, RECIPES["chain"], chain["open"]),
        _row(name, RECIPES["amount"], raw["open"]),
        _row(name, RECIPES["published"], full["open"]),
        *_baseline_rows(name, results["amount"], prefix="open_", actual="actual_open"),
        _row(name, "all revenue: before calibration", raw),
        _row(name, "all revenue: published", full),
        *_baseline_rows(name, results["amount"], prefix="", actual="actual"),
    ]
    return found


def pooled(results: Iterable[dict[str, BacktestResult]]) -> str:
    """Coverage over all forecasts of open deals together, as published."""
    tables = [each["amount"].table for each in results]
    told = []
    for level, low, high in ((0.5, "p25", "p75"), (0.8, "p10", "p90"), (0.95, "p025", "p975")):
        held = pd.concat([t["actual_open"].between(t[f"open_{low}"], t[f"open_{high}"]) for t in tables])
        found = coverage(held, level=level)
        told.append(f"{level:.0%} range {found.share:.3f} ({found.hits} of {found.n})")
    return "all pipelines together, open deals, as published: " + ", ".join(told)


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark and print its table."""
    parser = command_line(__doc__, toy="sample data, few draws", kept="every forecast")
    parser.add_argument("--weekly", action="store_true", help="every week instead of every month end")
    parser.add_argument("--only", help="name of one pipeline")
    parser.add_argument("--draws", type=int, default=OPTIONS.draws, help="posterior draws of each forecast")
    parser.add_argument("--calendar", help="weekday, holiday, period_end, or none; by default the product's")
    parser.add_argument("--processes", type=int, default=2, help="origins forecast at a time")
    asked = parser.parse_args(argv)
    pipelines = real_data.toy_or_logs(lambda: [toy_pipeline()], real_pipelines, toy=asked.toy)
    if pipelines is None:
        return 0
    if asked.weekly:
        pipelines = [replace(pipeline, every="7d") for pipeline in pipelines]
    pipelines = [pipeline for pipeline in pipelines if asked.only in (None, pipeline.name)]
    options = replace(OPTIONS, draws=200 if asked.toy else asked.draws)
    if asked.calendar is not None:
        options = on_calendar(options, asked.calendar)
    with origin_workers(asked.processes, processes=1 if asked.toy else asked.processes) as executor:
        kept = _report(pipelines, options, executor)
    if asked.save:
        path = saved_path(asked.folder, weekly=asked.weekly)
        keep(kept, path, digits=7)
        print(f"kept in {path}")
    return 0


def _report(pipelines: list[Pipeline], options: BacktestOptions, executor: Executor | None) -> pd.DataFrame:
    """Measure and print pipeline by pipeline; gives all forecasts."""
    measured = {}
    for pipeline in pipelines:
        began = time.perf_counter()
        results = measure(pipeline, options, executor=executor)
        measured[pipeline.name] = results
        table = pd.DataFrame(rows(pipeline.name, results)).set_index(["pipeline", "recipe"])
        print(table.to_string(na_rep=""))
        deals = results["amount"].summary()["deals"]
        told = f"AUC {deals['auc']:.3f}, Brier {deals['brier']:.3f}"
        print(f"  {len(results['amount'].table)} origins; deals won in time or not: {told}")
        print(f"  {time.perf_counter() - began:.0f} s\n", flush=True)
    print(pooled(measured.values()))
    return pd.concat([forecasts(name, results) for name, results in measured.items()], ignore_index=True)


def _row(name: str, recipe: str, told: dict[str, Any]) -> dict[str, Any]:
    hits = {
        f"{level} %": f"{held['hits']} [{held['expected_low']}-{held['expected_high']}]"
        for level, held in told["coverage"].items()
    }
    return {
        "pipeline": name,
        "recipe": recipe,
        "MAPE": round(told["mape"], 3),
        "median APE": round(told["median_ape"], 3),
        "bias": round(told["bias"], 3),
        "CRPS": round(told["crps"]),
        "CRPS/actual": round(told["crps_over_actual"], 4),
        **hits,
        "width": round(told["width"]["80"], 3),
    }


def _baseline_rows(name: str, result: BacktestResult, *, prefix: str, actual: str) -> list[dict[str, Any]]:
    """Return a row per simple rule, with our skill over it."""
    table, found = result.table, []
    summary = result.summary()
    skill = summary["open"]["skill"] if prefix else summary["skill"]
    for rule, gain in skill.items():
        point, truth = table[prefix + rule], table[actual]
        score = table[f"{prefix}{rule}_crps"].mean()
        found.append(
            {
                "pipeline": name,
                "recipe": f"  {rule}",
                "MAPE": round(float((point / truth - 1).abs().mean()), 3),
                "bias": round(float(point.sum() / truth.sum() - 1), 3),
                "CRPS": round(score),
                "CRPS/actual": round(score / truth.mean(), 4),
                "skill": round(gain, 2),
            }
        )
    return found


def _progress(name: str) -> Callable[[date, int, int], None]:
    def tell(origin: date, done: int, of: int) -> None:
        sys.stderr.write(f"\r{name}: {done} of {of} origins, last {origin} ")
        sys.stderr.flush()

    return tell


if __name__ == "__main__":
    raise SystemExit(main())
