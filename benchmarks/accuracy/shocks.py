"""Ranges under shocks that hit all stages alike: made-up companies whose best possible forecast is known.

    python -m benchmarks.accuracy.shocks                 # 40 companies a world
    python -m benchmarks.accuracy.shocks --companies 200
    python -m benchmarks.accuracy.shocks --save          # also keeps the table for the results page
    python -m benchmarks.accuracy.shocks --toy           # one company, for the tests

Deals go through three stages; every month has a log factor on all moves forward, autocorrelated by .8, with sd .3 or
.5, and in two worlds a steady rise on top. Forecasts are of the next 60 days of revenue from open deals at three
dates. The oracle knows all parameters and the present level, and plays the rest many times. Printed are the coverage
of the 80 % range, its width and the CRPS over the mean actual revenue: of the chain, of what own past errors make of
it, of the same with levels, and of the oracle.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import product

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.command import command_line, keep, run_all
from forecasting.proof.calibration import calibrations
from forecasting.proof.past_forecasts import FLOOR
from forecasting.proof.quick_chain import open_revenue
from forecasting.proof.scores import central_range, crps
from forecasting.proof.stay_table import NEVER, StayTable, day_of, known_at

Floats = NDArray[np.float64]

FIRST = date(2024, 1, 1)
MONTH, MONTHS, HORIZON = 30, 30, 60
ORIGINS = tuple(MONTH * month - 1 for month in (18, 24, 30))
"""Last days of a month, so that the present level is one that was seen, by the forecaster as by the oracle."""
FORWARD, DOWN = np.array([0.035, 0.03, 0.025]), np.array([0.03, 0.015, 0.01])
DEALS_PER_DAY, AMOUNT_LOG_SD = 1.5, 0.7
AUTOCORRELATION = 0.8
WORLDS = {
    "no shock": (0.0, 0.0),
    "log-sd .3": (0.3, 0.0),
    "log-sd .3, rising": (0.3, 0.015),
    "log-sd .5": (0.5, 0.0),
    "log-sd .3, rising fast": (0.3, 0.03),
}
"""Name of a world to the sd of its monthly log factor and its rise a month: .015 is half as much again over the history,
.03 two and a half times."""
ORACLE_RUNS = 400
DRAWS = 2000
SAVED_NAME = "shocks.csv"


@dataclass(frozen=True)
class Company:
    """Deals that begin in stage 0 on ``created``, and the log factor of each month."""

    created: NDArray[np.int64]
    amount: Floats
    levels: Floats


def make_company(world: str, rng: np.random.Generator) -> Company:
    """Make up the deals and the monthly levels of a company."""
    sd, rise = WORLDS[world]
    months = MONTHS + HORIZON // MONTH + 1
    arrivals = rng.poisson(DEALS_PER_DAY, ORIGINS[-1])
    created = np.repeat(np.arange(len(arrivals)), arrivals)
    return Company(created, rng.lognormal(9.0, AMOUNT_LOG_SD, len(created)), _levels(months, sd, rise, rng))


def _levels(months: int, sd: float, rise: float, rng: np.random.Generator, *, start: float | None = None) -> Floats:
    """AR(1) levels with mean factor one, plus the rise; from a known first one or from the long run."""
    deviation = np.empty(months)
    deviation[0] = rng.normal(0.0, sd) if start is None else start
    for month in range(1, months):
        deviation[month] = AUTOCORRELATION * deviation[month - 1] + rng.normal(
            0.0, sd * np.sqrt(1 - AUTOCORRELATION**2)
        )
    return deviation - sd**2 / 2.0 + rise * np.arange(months)


def play(
    stage: NDArray[np.int64], begin: NDArray[np.int64], days: range, levels: Floats, rng: np.random.Generator
) -> Iterator[tuple[int, NDArray[np.int64], NDArray[np.int64]]]:
    """Move deals day by day; yields day, deals that move and the stage they go to (3 won, 4 lost), changing ``stage``.

    ``levels`` has a factor per month, or per month and deal.
    """
    for day in days:
        rows = np.flatnonzero((stage < 3) & (begin <= day))
        level = np.exp(levels[day // MONTH])
        ahead = FORWARD[stage[rows]] * (level if level.ndim == 0 else level[rows])
        total = ahead + DOWN[stage[rows]]
        moves = rng.random(len(rows)) < -np.expm1(-total)
        rows, ahead, total = rows[moves], ahead[moves], total[moves]
        target = np.where(rng.random(len(rows)) < ahead / total, stage[rows] + 1, 4)
        stage[rows] = target
        yield day, rows, target


def history_of(company: Company, rng: np.random.Generator) -> StayTable:
    """Play the company's deals to the end of the last horizon and lay the stays out."""
    stage, entered = np.zeros(len(company.created), dtype=np.int64), company.created.copy()
    stays = []
    for day, rows, target in play(stage, company.created + 1, range(ORIGINS[-1] + HORIZON + 1), company.levels, rng):
        before = np.where(target == 4, -1, target - 1)
        stays.append(np.column_stack([rows, before, target, entered[rows], np.full(len(rows), day)]))
        entered[rows] = day
    done = np.concatenate(stays)
    still = np.flatnonzero(stage < 3)
    left = np.full(len(still), NEVER)
    table = np.concatenate(
        [done, np.column_stack([still, stage[still], np.full(len(still), -1), entered[still], left])]
    )
    frame = pd.DataFrame(table, columns=["deal", "stage", "next", "entered", "left"]).sort_values(["deal", "left"])
    lost = (frame["stage"] == -1).to_numpy()
    previous = frame.groupby("deal")["next"].shift(1, fill_value=0).to_numpy()
    stage_of = np.where(lost, previous, frame["stage"].to_numpy())
    offset = day_of(FIRST)
    entered_day = frame["entered"].to_numpy() + offset
    return StayTable(
        deal=frame["deal"].to_numpy(),
        stage=stage_of,
        next_stage=frame["next"].to_numpy(),
        entered=entered_day,
        left=np.where(frame["left"] == NEVER, NEVER, frame["left"] + offset),
        table_amount=company.amount,
        said_deal=np.zeros(0, dtype=np.int64),
        said_day=np.zeros(0, dtype=np.int64),
        said_amount=np.zeros(0),
        n_open=3,
        n_won=1,
        n_stages=5,
    )


def oracle(
    company: Company, world: str, stage: NDArray[np.int64], amount: Floats, origin: int, rng: np.random.Generator
) -> Floats:
    """Revenue of the open deals in many plays of the future that know the parameters and the present level."""
    sd, rise = WORLDS[world]
    month = origin // MONTH
    deviation = company.levels[month] + sd**2 / 2.0 - rise * month
    months = HORIZON // MONTH + 2
    futures = np.array([_levels(months, sd, 0.0, rng, start=deviation) for _ in range(ORACLE_RUNS)])
    futures += rise * (month + np.arange(months))
    levels = np.zeros((month + months, ORACLE_RUNS * len(stage)))
    levels[month:] = np.repeat(futures, len(stage), axis=0).T
    state, won = np.tile(stage, ORACLE_RUNS), np.zeros(ORACLE_RUNS * len(stage), dtype=bool)
    for _, rows, target in play(
        state, np.zeros(len(state), dtype=np.int64), range(origin + 1, origin + HORIZON + 1), levels, rng
    ):
        won[rows[target == 3]] = True
    return won.reshape(ORACLE_RUNS, -1) @ amount


def measure(world: str, seed: int) -> list[dict[str, object]]:
    """Forecast one company at each origin; a row per origin and recipe."""
    rng = np.random.default_rng([seed, list(WORLDS).index(world)])
    company = make_company(world, rng)
    stays = history_of(company, rng)
    found: list[dict[str, object]] = []
    for origin in ORIGINS:
        as_of = FIRST + timedelta(days=origin)
        today = day_of(as_of)
        known = known_at(stays, today)
        value = open_revenue(known, horizons=(HORIZON,), seed=seed)[0]
        plain, with_levels = calibrations(stays, as_of=as_of, horizon_days=HORIZON, seed=seed, threads=1)
        offset = FLOOR * value.mean
        variance = np.log1p((value.sd / (value.mean + offset)) ** 2)
        normal = rng.standard_normal(DRAWS)
        chain = np.maximum(
            np.exp(np.log(value.mean + offset) - variance / 2 + np.sqrt(variance) * normal) - offset, 0.0
        )
        waiting = known.is_open
        amount = known.amount[known.deal[waiting]]
        most = np.full(DRAWS, amount.sum())
        told = {
            "chain": chain,
            "+ own past errors": chain * plain.factors(chain, seed=seed, most=most),
            "+ levels": chain * with_levels.factors(chain, seed=seed, most=most),
            "oracle": oracle(company, world, known.stage[waiting], amount, origin, rng),
        }
        until = today + HORIZON
        actual = known_at(stays, until).revenue(after=today, until=until, open_deals_only=True)
        for recipe, draws in told.items():
            low, high = central_range(draws, level=0.8)
            row = {"world": world, "recipe": recipe, "actual": actual, "crps": float(crps(draws, actual))}
            found.append({**row, "inside": bool(low <= actual <= high), "width": float(high - low)})
    return found


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark and print its table."""
    parser = command_line(__doc__, toy="one company in two worlds", kept="the table")
    parser.add_argument("--companies", type=int, default=40, help="companies in each world")
    parser.add_argument("--processes", type=int, default=2, help="companies at a time")
    asked = parser.parse_args(argv)
    worlds = list(WORLDS)[:2] if asked.toy else list(WORLDS)
    companies = 1 if asked.toy else asked.companies
    companies_by_world = list(product(worlds, range(companies)))
    measured = run_all(measure, companies_by_world, processes=1 if asked.toy else asked.processes)
    rows = pd.DataFrame([row for found in measured for row in found])
    grouped = rows.groupby(["world", "recipe"], sort=False)
    table = grouped.agg(
        n=("inside", "size"), coverage=("inside", "mean"), width=("width", "mean"), crps=("crps", "mean")
    )
    actual = grouped["actual"].mean()
    table["width"], table["crps"] = (table["width"] / actual).round(3), (table["crps"] / actual).round(4)
    best = table["crps"].groupby("world").transform("last")
    table["crps over oracle"] = (table["crps"] / best).round(2)
    print(table.round(3).to_string())
    if asked.save:
        keep(table.reset_index(), asked.folder / SAVED_NAME)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
