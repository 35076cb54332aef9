"""What else tells deals or days apart, and whether revenue is foretold better for it, on four public pipelines.

    python -m benchmarks.accuracy.variants            # found through DEALCAST_DATA
    python -m benchmarks.accuracy.variants --save     # also keeps the table for the results page
    python -m benchmarks.accuracy.variants --toy      # the sample data, for the tests

Revenue of open deals, with one thing changed at a time: no covariate at all, a covariate for deals that have been in the
stage or a later one before ("looped"), a selling calendar of weekdays, of period ends too, no levels of the moment, and
the last year alone. Origins are eight days apart in the spans of ``open_deals``, so that every weekday takes part: of
origins on one weekday, all end on one weekday too. Printed are CRPS over the mean actual revenue and the shares of
outcomes within the 50, 80 and 95 % ranges, published and before calibration.
"""

import sys
from collections.abc import Iterator
from concurrent.futures import Executor
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from benchmarks import real_data
from benchmarks.accuracy.open_deals import OPTIONS, SEED, Pipeline, real_pipelines, toy_pipeline
from benchmarks.command import command_line, keep
from forecasting.proof.backtesting import BacktestOptions, backtest, origin_dates
from forecasting.proof.workers import origin_workers

EVERY = "8d"
VARIANTS: dict[str, dict[str, Any]] = {
    "usual": {},
    "no covariate": {"covariates": ()},
    "looped": {"covariates": (*OPTIONS.covariates, "looped")},
    "weekdays": {"calendar": ("weekday",)},
    "weekdays and period ends": {"calendar": ("weekday", "period_end")},
    "no levels": {"levels": False},
    "last year alone": {"window_days": 365},
}
"""Name of a variant to what it changes."""
PROCESSES = 2
TOY_FIRST = "2026-06-30"
ALL = "all, geometric mean"
SAVED_NAME = "variants.csv"


def measure(pipeline: Pipeline, options: BacktestOptions, executor: Executor | None) -> Iterator[dict[str, Any]]:
    """Backtest a pipeline with every variant; a row per variant, published and before calibration."""
    deals = pipeline.load()
    origins = origin_dates(pipeline.first, pipeline.last, every=pipeline.every)
    for variant, changed in VARIANTS.items():
        result = backtest(
            deals,
            origins=origins,
            horizon=pipeline.horizon,
            options=replace(options, **changed),
            executor=executor,
            seed=SEED,
        )
        sys.stderr.write(f"\r{pipeline.name}: {variant:30s}")
        for calibrated, recipe in ((True, "published"), (False, "before calibration")):
            told = result.summary(calibrated=calibrated)["open"]
            held = {f"{level} % range": found["hits"] / found["n"] for level, found in told["coverage"].items()}
            yield {
                "pipeline": pipeline.name,
                "variant": variant,
                "recipe": recipe,
                "n": len(origins),
                **held,
                "width": told["width"]["80"],
                "CRPS/actual": told["crps_over_actual"],
            }


def with_means(rows: pd.DataFrame) -> pd.DataFrame:
    """Add a row per variant and recipe over all pipelines: geometric mean of CRPS and width, shares of all outcomes."""
    found = []
    for (variant, recipe), part in rows.groupby(["variant", "recipe"], sort=False):
        shares = {
            name: float(np.average(part[name], weights=part["n"])) for name in part.columns if name.endswith("range")
        }
        means = {name: float(np.exp(np.log(part[name]).mean())) for name in ("width", "CRPS/actual")}
        found.append(
            {"pipeline": ALL, "variant": variant, "recipe": recipe, "n": int(part["n"].sum()), **shares, **means}
        )
    return pd.concat([rows, pd.DataFrame(found)], ignore_index=True)


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark and print its table."""
    parser = command_line(__doc__, toy="sample data, few draws", kept="the table")
    parser.add_argument("--draws", type=int, default=1000, help="posterior draws of each forecast")
    asked = parser.parse_args(argv)
    pipelines = real_data.toy_or_logs(
        lambda: [replace(toy_pipeline(), first=TOY_FIRST)],
        lambda folder: [replace(pipeline, every=EVERY) for pipeline in real_pipelines(folder)],
        toy=asked.toy,
    )
    if pipelines is None:
        return 0
    options = replace(OPTIONS, draws=100 if asked.toy else asked.draws, new_business=False)
    with origin_workers(PROCESSES, processes=1 if asked.toy else PROCESSES) as executor:
        rows = [row for pipeline in pipelines for row in measure(pipeline, options, executor)]
    table = with_means(pd.DataFrame(rows))
    print(table.set_index(["pipeline", "variant", "recipe"]).round(4).to_string())
    if asked.save:
        keep(table, asked.folder / SAVED_NAME)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
