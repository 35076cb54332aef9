"""What a selling calendar adds on four public logs: wins by date, and revenue of open deals at the horizon.

    python -m benchmarks.accuracy.calendar              # four public logs, found through DEALCAST_DATA
    python -m benchmarks.accuracy.calendar --weekly     # every week in the same spans
    python -m benchmarks.accuracy.calendar --toy        # the sample data, for the tests

Three tables, each without a calendar and with more and more of it.

Held-out dates: model and calendar are fitted to the first half of the days, and exits by date of the second half are
compared with what the hazards expect of a usual week there, times the weight of the date. Poisson deviance per date,
by kind of exit, lower is better.

Wins: at every origin the wins of deals open then are forecast day by day to the horizon. Poisson deviance by date per
origin; error of their number over the whole horizon, relative, root mean square and mean.

Revenue of open deals over the whole horizon, before calibration: CRPS over the mean actual, bias, hits of the ranges.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import date, timedelta
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks import real_data
from benchmarks.accuracy.open_deals import OPTIONS, SEED, Pipeline, on_calendar, real_pipelines, toy_pipeline
from benchmarks.command import command_line
from forecasting.answers.pace import on_calendar as calendar_pace
from forecasting.config import ForecastConfig, horizon_end
from forecasting.data.deals import Deals
from forecasting.data.snapshot import cut
from forecasting.engine.blocks import EngineOptions
from forecasting.fitting import fit_snapshot
from forecasting.proof.backtesting import BacktestOptions, backtest, origin_dates
from forecasting.simulate import simulate_open
from models.calendar.days import day_classes
from models.calendar.expected import KINDS, DatedExits, dated_exits
from models.calendar.model import mean_weight
from models.posterior import Posterior

Floats = NDArray[np.float64]
SETTINGS = ("none", "weekday", "weekday,holiday", "weekday,holiday,period_end")
TOY = replace(toy_pipeline(), last=toy_pipeline().first)
"""One origin of the sample history."""
LEAST_MEAN = 1e-3
"""Floor of an expected number in a deviance: a win on a day of weight nought is a surprise, not an infinite one."""


def deviance(seen: Floats, mean: Floats) -> float:
    """Poisson deviance, ``2 sum(y log(y / m) - y + m)``.

    Examples
    --------
    >>> round(deviance(np.array([2.0, 0.0]), np.array([1.0, 1.0])), 3)
    2.773
    """
    mean = np.maximum(mean, LEAST_MEAN)
    log_ratio = np.log(np.where(seen > 0, seen, mean) / mean)
    return float(2.0 * (seen * log_ratio - seen + mean).sum())


def fitted(deals: Deals, as_of: date, options: BacktestOptions) -> Posterior:
    """Fit the models as of a date with the settings of a backtest."""
    snapshot = cut(deals, as_of=as_of, covariates=options.covariates)
    return fit_snapshot(snapshot, spec=options.spec(SEED))


def held_out(pipeline: Pipeline, options: BacktestOptions) -> dict[str, float]:
    """Deviance per date of the second half, by kind of exit."""
    deals = pipeline.load()
    first, last = (deals.entries["entered_on"].agg(end).date() for end in ("min", "max"))
    last = min(last, horizon_end(ForecastConfig(horizon=pipeline.horizon), date.fromisoformat(pipeline.last)))
    middle = first + (last - first) / 2
    posterior = fitted(deals, middle, options)
    after = cut(deals, as_of=last, covariates=options.covariates, factors=posterior.stage.factors)
    exits = dated_exits(after.learned_stays, posterior.stage, after.cells, after.graph)
    later = exits.days > np.datetime64(middle)
    return {
        kind: deviance(exits.seen[later, place], expected_by_date(exits, posterior, kind)[later]) / int(later.sum())
        for place, kind in enumerate(KINDS)
    }


def expected_by_date(exits: DatedExits, posterior: Posterior, kind: str) -> Floats:
    """Give the exits expected on each date: those of a day of the week around it, times the weight of the date."""
    expected = exits.weekly_expected()[:, KINDS.index(kind)]
    if posterior.calendar is None:
        return expected
    return expected * mean_weight(posterior.calendar, day_classes(posterior.calendar.options, exits.days), kind=kind)


def wins(pipeline: Pipeline, options: BacktestOptions) -> dict[str, float]:
    """Scores of the daily wins of deals open at the origin, and of their number."""
    deals, found, errors = pipeline.load(), [], []
    for origin in origin_dates(pipeline.first, pipeline.last, every=pipeline.every):
        until = horizon_end(ForecastConfig(horizon=pipeline.horizon), origin)
        days = (until - origin).days
        posterior = fitted(deals, origin, options)
        draws = posterior.stage.n_draws
        pipe = cut(deals, as_of=origin, covariates=options.covariates).pipeline
        simulated = simulate_open(
            pipe,
            posterior.stage,
            edges=np.arange(1, days + 1),
            seed=SEED,
            draws=draws,
            options=EngineOptions(sampler="fate", threads=1),
            pace=calendar_pace(None, posterior, as_of=origin, days=days, draws=draws, kind="won"),
        )
        won = cut(deals, as_of=origin + timedelta(days=days)).won
        won = won[(won["won_on"] > pd.Timestamp(origin)) & won["deal_id"].isin(pipe.deals["deal_id"])]
        seen = np.bincount((won["won_on"] - pd.Timestamp(origin)).dt.days, minlength=days + 1)[1:]
        told = simulated.won_count.sum(axis=2).mean(axis=0)
        found.append(deviance(seen.astype(np.float64), told))
        errors.append((told.sum() - seen.sum()) / max(seen.sum(), 1))
    return {
        "wins by date": round(float(np.mean(found)), 1),
        "wins rms": round(float(np.sqrt(np.mean(np.square(errors)))), 3),
        "wins bias": round(float(np.mean(errors)), 3),
    }


def revenue(pipeline: Pipeline, options: BacktestOptions) -> dict[str, Any]:
    """Scores of the revenue of open deals over the whole horizon, before calibration."""
    origins = origin_dates(pipeline.first, pipeline.last, every=pipeline.every)
    chosen = replace(options, new_business=False)
    result = backtest(
        pipeline.load(), origins=origins, horizon=pipeline.horizon, options=chosen, calibrate=False, seed=SEED
    )
    told = result.summary()["open"]
    hits = {f"{level} %": f"{held['hits']} of {len(origins)}" for level, held in told["coverage"].items()}
    return {"CRPS/actual": round(told["crps_over_actual"], 4), "bias": round(told["bias"], 4), **hits}


def main(argv: list[str] | None = None) -> int:
    """Measure and print the three tables, log by log."""
    parser = command_line(__doc__, toy="sample data, few draws")
    parser.add_argument("--weekly", action="store_true", help="every week instead of every month end")
    parser.add_argument("--only", help="name of one pipeline")
    parser.add_argument("--draws", type=int, default=1000, help="posterior draws of each forecast")
    asked = parser.parse_args(argv)
    pipelines = real_data.toy_or_logs(lambda: [TOY], real_pipelines, toy=asked.toy)
    if pipelines is None:
        return 0
    if asked.weekly:
        pipelines = [replace(pipeline, every="7d") for pipeline in pipelines]
    options = replace(OPTIONS, draws=100 if asked.toy else asked.draws)
    for pipeline in pipelines:
        if asked.only in (None, pipeline.name):
            print(table(pipeline, options, SETTINGS[:2] if asked.toy else SETTINGS).to_string() + "\n", flush=True)
    return 0


def table(pipeline: Pipeline, options: BacktestOptions, settings: Sequence[str]) -> pd.DataFrame:
    """All scores of one log, a row per calendar."""
    rows = {}
    for named in settings:
        chosen = on_calendar(options, named)
        by_kind = {f"dates: {kind}": round(score, 3) for kind, score in held_out(pipeline, chosen).items()}
        rows[pipeline.name, named] = by_kind | wins(pipeline, chosen) | revenue(pipeline, chosen)
    found = pd.DataFrame(rows).T
    found.index.names = ["log", "calendar"]
    return found


if __name__ == "__main__":
    raise SystemExit(main())
