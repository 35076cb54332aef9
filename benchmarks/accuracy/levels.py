"""What the levels of the moment add to forecasts of four public pipelines, and whether fast levels stand in for NUTS.

    python -m benchmarks.accuracy.levels          # official origins, found through DEALCAST_DATA
    python -m benchmarks.accuracy.levels --nuts   # at the last origin: levels by the Laplace grid and by NUTS, seconds
    python -m benchmarks.accuracy.levels --toy    # the sample data, for the tests

Revenue of open deals: static (hazards of the whole history), tracked (the same posterior played at its own level draws),
their log average with weight a half and with the weight that past forecasts earned, and the static forecast moved by what
the quick chain says of levels; each raw and with own past errors. CRPS and the width of the 80 % range are over the mean
actual revenue.
"""

import time
from dataclasses import replace
from datetime import date

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks import real_data
from benchmarks.accuracy.open_deals import OPTIONS, SEED, Pipeline, real_pipelines, toy_pipeline
from benchmarks.command import command_line
from forecasting.answers.forecasts import Forecast, forecast_snapshot
from forecasting.answers.levels import log_average_factor, tracked_cents
from forecasting.config import ForecastConfig, horizon_end
from forecasting.data.deals import Deals
from forecasting.data.snapshot import cut, stage_history
from forecasting.engine.blocks import EngineOptions
from forecasting.fitting import fit_snapshot
from forecasting.proof.backtesting import origin_dates
from forecasting.proof.calibration import calibrations
from forecasting.proof.scores import central_range, crps
from forecasting.proof.stay_table import StayTable, day_of, known_at, stay_table
from models.levels.counts import DIRECTIONS, level_counts
from models.levels.fit import learn_levels
from models.levels.posterior import future_factors
from models.levels.season import WEEK_DAYS
from models.posterior import ModelSpec
from models.stage_model.fit import fit_stages

Floats = NDArray[np.float64]


def forecast_open(deals: Deals, as_of: date, until: date, *, draws: int) -> Forecast:
    """Forecast the open deals with fast inference, at the levels of the moment too."""
    snapshot = cut(deals, as_of=as_of, covariates=OPTIONS.covariates)
    spec = ModelSpec((), OPTIONS.covariates, OPTIONS.durations, "fast", draws, SEED)
    engine = EngineOptions(threads=1, detail_draws=1)
    return forecast_snapshot(
        snapshot,
        fit_snapshot(snapshot, spec=spec),
        until=until,
        seed=SEED,
        new_business=False,
        options=engine,
    )


def recipes(forecast: Forecast, stays: StayTable) -> dict[str, Floats]:
    """Draws of revenue from open deals by recipe."""
    static, tracked = forecast.open_cents.sum(axis=(1, 2)) / 100.0, tracked_cents(forecast)[:, 0] / 100.0
    without, with_quick = calibrations(stays, as_of=forecast.as_of, horizon_days=forecast.horizon_days, seed=SEED)
    errors_alone = replace(with_quick, level_shift=0.0, level_stretch=1.0)
    raw = {
        "static": (static, without),
        "tracked": (tracked, errors_alone),
        "log average, half": (static * log_average_factor(static, tracked, share=0.5), errors_alone),
        "log average, earned": (
            static * log_average_factor(static, tracked, share=with_quick.tracked_share),
            errors_alone,
        ),
    }
    found = {name: draws for name, (draws, _) in raw.items()}
    found |= {f"{name} + errors": draws * errors.factors(draws, seed=SEED) for name, (draws, errors) in raw.items()}
    found["quick chain's shift + errors"] = static * with_quick.factors(static, seed=SEED)
    return found


def measure(pipeline: Pipeline, *, draws: int) -> pd.DataFrame:
    """One row per origin and recipe."""
    deals = pipeline.load()
    stays, rows = stay_table(deals), []
    for as_of in origin_dates(pipeline.first, pipeline.last, every=pipeline.every):
        until = horizon_end(ForecastConfig(horizon=pipeline.horizon), as_of)
        today, last = day_of(as_of), day_of(until)
        actual = known_at(stays, last).revenue(after=today, until=last, open_deals_only=True)
        for name, told in recipes(forecast_open(deals, as_of, until, draws=draws), stays).items():
            low, high = central_range(told, level=0.8)
            row = {"recipe": name, "actual": actual, "crps": float(crps(told, actual)), "width": float(high - low)}
            rows.append({**row, "inside": bool(low <= actual <= high)})
    return pd.DataFrame(rows)


def compare_inference(pipeline: Pipeline, *, draws: int) -> list[str]:
    """Levels at the last origin, fast and by NUTS."""
    as_of = origin_dates(pipeline.first, pipeline.last, every=pipeline.every)[-1]
    snapshot = cut(pipeline.load(), as_of=as_of, covariates=OPTIONS.covariates)
    stage = fit_stages(stage_history(snapshot), durations="piecewise", inference="fast", draws=200, seed=SEED)
    counts = level_counts(snapshot.learned_stays, stage, cells=snapshot.cells, as_of=as_of, days=WEEK_DAYS)
    told = []
    for inference in ("fast", "nuts"):
        began = time.perf_counter()
        levels = learn_levels(counts, inference=inference, draws=draws, seed=SEED)
        seconds = time.perf_counter() - began
        future = future_factors(levels, horizon_days=28, seed=SEED)
        by_direction = [
            f"{name} {levels.level[:, place].mean():+.3f} (sd {levels.level[:, place].std():.3f}), next 28 days "
            f"{future[:, place].mean():.3f} (sd {future[:, place].std():.3f})"
            for place, name in enumerate(DIRECTIONS)
        ]
        told.append(f"  {inference}: {seconds:.2f} s; " + "; ".join(by_direction))
        if levels.diagnostics.rhat_max is not None:
            found = levels.diagnostics
            told.append(f"    R-hat {found.rhat_max:.4f}, ESS {found.ess_min:.0f}, {found.divergences} divergences")
    return told


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark and print its table."""
    parser = command_line(__doc__, toy="sample data, few draws")
    parser.add_argument("--nuts", action="store_true", help="compare inference at the last origin")
    parser.add_argument("--only", help="name of one pipeline")
    asked = parser.parse_args(argv)
    pipelines = real_data.toy_or_logs(lambda: [toy_pipeline()], real_pipelines, toy=asked.toy)
    if pipelines is None:
        return 0
    for pipeline in (pipeline for pipeline in pipelines if asked.only in (None, pipeline.name)):
        if asked.nuts:
            print(
                "\n".join([pipeline.name, *compare_inference(pipeline, draws=400 if asked.toy else 4000)]), flush=True
            )
            continue
        rows = measure(pipeline, draws=200 if asked.toy else OPTIONS.draws)
        table = rows.groupby("recipe", sort=False).agg(
            n=("inside", "size"), hits=("inside", "sum"), width=("width", "mean"), crps=("crps", "mean")
        )
        table[["width", "crps"]] /= rows["actual"].mean()
        print(f"{pipeline.name}\n{table.round(4).to_string()}\n", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
