"""What its own past errors add to the forecast of deals not created yet, on four public pipelines, every week.

    python -m benchmarks.accuracy.new_business          # found through DEALCAST_DATA; five minutes on one core
    python -m benchmarks.accuracy.new_business --toy    # the sample data, for the tests

All revenue, three ways: open deals calibrated and new business as simulated; new business moved by the errors of the
open deals; new business with errors of its own, as published. Shares of outcomes within the 50, 80 and 95 % ranges,
CRPS and width of the 80 % range over the mean actual, and the correlation of past errors of the two at the last date.
"""

from dataclasses import replace
from datetime import date

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks import real_data
from benchmarks.accuracy.open_deals import OPTIONS, SEED, Pipeline, real_pipelines, toy_pipeline
from benchmarks.command import command_line
from forecasting.answers.forecasts import Forecast, with_calibration
from forecasting.config import ForecastConfig, horizon_end
from forecasting.data.snapshot import cut
from forecasting.proof.backtesting import BacktestOptions, forecast_past, origin_dates, origin_seed
from forecasting.proof.calibration import own_calibration
from forecasting.proof.new_calibration import own_new_calibration, past_new_forecasts
from forecasting.proof.past_forecasts import Memory, log_error, past_forecasts
from forecasting.proof.scores import central_range, crps
from forecasting.proof.stay_table import StayTable, day_of, known_at, stay_table

ALONE, SHIFTED, OWN = "as simulated", "errors of the open deals", "errors of its own"
LEVELS = (0.5, 0.8, 0.95)


def measure(pipeline: Pipeline, options: BacktestOptions) -> pd.DataFrame:
    """Score all revenue at every origin, a row per origin and recipe."""
    deals = pipeline.load()
    stays, memory, rows = stay_table(deals), Memory(), []
    for day in origin_dates(pipeline.first, pipeline.last, every=pipeline.every):
        until = horizon_end(ForecastConfig(horizon=pipeline.horizon), day)
        days, seed = (until - day).days, origin_seed(SEED, day)
        made = forecast_past(cut(deals, as_of=day, covariates=options.covariates), until, options, seed)
        learned = own_calibration(stays, as_of=day, horizon_days=days, seed=SEED, memory=memory)
        of_new = own_new_calibration(stays, as_of=day, horizon_days=days, seed=SEED, memory=memory)
        shifted, own = (with_calibration(made, learned, seed=seed, new=each) for each in (None, of_new))
        alone = replace(shifted, new_cents=made.new_cents)
        actual = known_at(stays, day_of(until)).revenue(after=day_of(day), until=day_of(until))
        for recipe, forecast in {ALONE: alone, SHIFTED: shifted, OWN: own}.items():
            rows.append({"pipeline": pipeline.name, "recipe": recipe, **_scores(total_revenue(forecast), actual)})
    return pd.DataFrame(rows)


def total_revenue(forecast: Forecast) -> NDArray[np.float64]:
    """Revenue of all deals over the whole horizon, by draw."""
    return (forecast.open_cents.sum(axis=(1, 2)) + forecast.new_cents.sum(axis=(1, 2))) / 100.0


def _scores(draws: NDArray[np.float64], actual: float) -> dict[str, float]:
    ranges = {level: central_range(draws, level=level) for level in LEVELS}
    held = {f"{level:.0%}": float(low <= actual <= high) for level, (low, high) in ranges.items()}
    return {"actual": actual, "crps": float(crps(draws, actual)), "width": float(np.ptp(ranges[0.8])), **held}


def error_correlation(stays: StayTable, as_of: date, horizon_days: int) -> float:
    """Correlation of the log errors of open deals and of new business at past dates."""
    of_open = past_forecasts(stays, as_of=as_of, horizon_days=horizon_days, seed=SEED)
    of_new = past_new_forecasts(stays, as_of=as_of, horizon_days=horizon_days)
    both = of_open.merge(of_new, on=["as_of", "horizon_days"], suffixes=("", "_new"))
    both = both[(both["mean"] > 0) & (both["mean_new"] > 0)]
    later = both[["mean_new", "sd_new", "actual_new"]].set_axis(["mean", "sd", "actual"], axis=1)
    return float(np.corrcoef(log_error(both)[0], log_error(later)[0])[0, 1])


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """One row per pipeline and recipe, then per recipe over all: CRPS over actual is then the geometric mean."""
    grouped = table.groupby(["pipeline", "recipe"], sort=False)
    found = grouped[["50%", "80%", "95%"]].mean()
    for name in ("crps", "width"):
        found[f"{name}/actual"] = grouped[name].mean() / grouped["actual"].mean()
    found["n"] = grouped.size()
    whole = table.groupby("recipe", sort=False)[["50%", "80%", "95%"]].mean()
    for name in ("crps", "width"):
        whole[f"{name}/actual"] = np.exp(np.log(found[f"{name}/actual"]).groupby("recipe").mean())
    whole["n"] = table.groupby("recipe").size()
    return pd.concat([found, pd.concat({"all": whole}, names=["pipeline"])]).round(4)


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark and print its table."""
    parser = command_line(__doc__, toy="sample data, few draws")
    parser.add_argument("--draws", type=int, default=1000, help="posterior draws of each forecast")
    asked = parser.parse_args(argv)
    pipelines = real_data.toy_or_logs(lambda: [toy_pipeline()], real_pipelines, toy=asked.toy)
    if pipelines is None:
        return 0
    options = replace(OPTIONS, draws=200 if asked.toy else asked.draws)
    tables = []
    for pipeline in pipelines:
        weekly = pipeline if asked.toy else replace(pipeline, every="7d")
        tables.append(measure(weekly, options))
        last, days = date.fromisoformat(pipeline.last), int(pipeline.horizon.removesuffix("d"))
        correlation = error_correlation(stay_table(pipeline.load()), last, days)
        print(f"{pipeline.name}: correlation of past errors {correlation:.2f}", flush=True)
    print(summary(pd.concat(tables, ignore_index=True)).to_string())
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
