"""Made-up companies with one quirk each, whose best possible forecast is known.

    python -m benchmarks.accuracy.quirks                 # 2 companies a world
    python -m benchmarks.accuracy.quirks --companies 10
    python -m benchmarks.accuracy.quirks --save          # also keeps the table for the results page
    python -m benchmarks.accuracy.quirks --toy           # one company in a few short worlds, for the tests

The quirks: wins come mostly in the last two weeks of the year, in January only, five times as often at its end as in
summer, on the last working day of a month, or six times as often on the last three; deals are created in spring and
paid in early December; whatever stays 60 days in a stage is lost; stays take half a year; amounts have so heavy a tail
that one deal is most of the money; the win rate halves from one day to the next; the company is three, six or ten weeks
old (ten companies for one); all deals of a year are entered in its first twenty days; some deals are many times as fast
as others and sellers know it; a stage was put in before winning 80 to 440 days ago; of four wins one is taken back a
week later; amounts double at the win; of twenty deals three are entered as won; hazards ahead fall with the fourth root
of the amount; and none, for comparison.
Forecasts are of the revenue from open deals, or of all revenue where deals are entered in January or as won, where large
deals win less often, and once where summers are slow, 30 days ahead (60 in the first weeks, 90 where cycles are long and
of all revenue in January and summer), at the last days of months or of every second month, with the setting of
``open_deals``; where wins follow the end of a month also on a calendar of weekdays and period ends, and where sellers
expect a closing date also with that date as a covariate.

Printed for every world are the shares of outcomes within the 50, 80 and 95 % ranges, the width of the 80 % range and the
CRPS, both over the mean actual revenue: of the published forecast, of the same before calibration, of two simple rules
(CRPS alone), and of the oracle, which knows all parameters and plays the rest many times. Where nothing can be won within
a horizon, a range from 0 to 0 holds the outcome: where wins are seasonal, even the oracle's ranges hold too often.
"""

import sys
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import date
from functools import partial

import numpy as np
import pandas as pd

from benchmarks.accuracy import open_deals
from benchmarks.accuracy.companies import FIRST, Exit, World, day_date, deals_of, make_company, oracle
from benchmarks.accuracy.open_deals import SEED
from benchmarks.command import command_line, keep, run_all
from forecasting.proof.backtest_result import RANGE_ENDS, score_columns
from forecasting.proof.backtesting import BacktestOptions, backtest, origin_dates

OPTIONS = replace(open_deals.OPTIONS, draws=1000, new_business=False)
PUBLISHED, UNCALIBRATED, ORACLE = "published", "before calibration", "oracle"
ON_CALENDAR = ", on the calendar"
"""Added to the name of a recipe where the world is forecast on its calendar too, which is off by default."""
WITH_DATES = ", expected dates known"
"""The same where the expected closing date is a covariate."""
MONTH_ENDS = ("weekday", "period_end")
RULES = {"landmark": "rule: landmark", "stage_weighted": "rule: stage weighted"}
"""Simple rules of the backtest's table and what they are called here."""
RULES_OF_ALL = {"run_rate": "rule: run rate", "last_period": "rule: last period"}
"""The same where all revenue is forecast."""
RECIPES = (PUBLISHED, UNCALIBRATED, *RULES.values(), ORACLE)
SAVED_NAME = "quirks.csv"

FOUR_YEARS = 1461
SLOW, RARELY_LOST = (Exit(0.02), Exit(0.015), Exit(0.012)), (Exit(0.004),) * 3
WORLDS = {
    "no quirk": World(),
    "most wins at the year's end": World(days=FOUR_YEARS + 31, win_factor="year end", origins=16, every=2),
    "paid in January only": World(days=FOUR_YEARS + 61, win_factor="january", origins=16, every=2),
    "created in spring, paid in December": World(
        days=FOUR_YEARS + 31,
        origins=24,
        deals_per_day=15.0,
        created_in="spring",
        win_factor="early december",
        ahead=(Exit(0.03), Exit(0.02), Exit(0.02)),
        down=(Exit(0.001), Exit(0.0005), Exit(0.0005)),
    ),
    "paid on the last working day of a month": World(win_factor="last working day", calendar=MONTH_ENDS),
    "lost after 60 days untouched": World(lost_after=60, ahead=SLOW, down=RARELY_LOST),
    "long cycles": World(
        days=1005,
        first_origin=500,
        horizon=90,
        deals_per_day=0.35,
        ahead=(Exit(0.6, median=120.0, log_sd=0.5), Exit(0.5, median=200.0, log_sd=0.6)),
        down=(Exit(0.5, median=140.0, log_sd=0.6), Exit(0.4, median=220.0, log_sd=0.6)),
    ),
    "one deal is most of the money": World(tail=1.0, deals_per_day=0.7),
    "win rate halves at once": World(drop_day=760, drop=0.5),
    "first weeks of the company": World(days=7 * 10 + 61, horizon=60, weeks=(3, 6, 10), copies=10),
    "deals entered in January": World(
        days=FOUR_YEARS + 121, horizon=90, every=2, deals_per_day=8.0, created_in="january start", with_new=True
    ),
    "busy month ends, no wins at weekends": World(win_factor="busy month end", calendar=MONTH_ENDS),
    "slow summers, busy ends of years": World(
        days=FOUR_YEARS + 31, win_factor="slow summer", origins=24, deals_per_day=3.0
    ),
    "slow summers, deals to come too": World(
        days=FOUR_YEARS + 91, horizon=90, win_factor="slow summer", origins=20, deals_per_day=3.0, with_new=True
    ),
    "closing dates expected": World(dated=True),
    "a stage put in": World(
        put_in_day=620,
        ahead=(Exit(0.035), Exit(0.03), Exit(0.025), Exit(0.04)),
        down=(Exit(0.03), Exit(0.015), Exit(0.01), Exit(0.01)),
    ),
    "wins taken back": World(taken_back=0.25),
    "amounts double at the win": World(raised=2.0),
    "some deals entered as won": World(at_once=0.15, with_new=True),
    "large deals win less often": World(drag=0.25, amount_sd=1.5, deals_per_day=3.0, with_new=True),
}
TOY_WORLDS = {
    name: replace(WORLDS[name], days=390, first_origin=300, origins=2)
    for name in ("no quirk", "lost after 60 days untouched", "closing dates expected")
} | {"deals entered in January": replace(WORLDS["deals entered in January"], days=820, first_origin=660, origins=2)}


def origins_of(world: World) -> list[date]:
    """Dates at which a company is forecast."""
    if world.weeks:
        return [day_date(7 * week) for week in world.weeks]
    last = day_date(world.days - 1 - world.horizon)
    return origin_dates(day_date(world.first_origin), last, every="month")[:: world.every][-world.origins :]


def measure(name: str, number: int, world: World, options: BacktestOptions) -> pd.DataFrame:
    """Forecast one company at each origin; a row per origin and recipe."""
    rng = np.random.default_rng([SEED, list(WORLDS).index(name), number])
    company = make_company(world, rng)
    options, own = replace(options, new_business=world.with_new), "" if world.with_new else "open_"
    run = partial(backtest, deals_of(world, company), origins=origins_of(world), horizon=f"{world.horizon}d", seed=SEED)
    result, played = run(options=options), []
    table, runs = result.table, {"": result}
    if world.calendar:
        runs[ON_CALENDAR] = run(options=replace(options, calendar=world.calendar))
    if world.dated:
        runs[WITH_DATES] = run(options=replace(options, covariates=(*options.covariates, "expected_close")))
    actuals = table["actual" if world.with_new else "actual_open"]
    for as_of, actual in zip(table["as_of"], actuals, strict=True):
        draws = oracle(world, company, (as_of.date() - FIRST).days, rng)
        played.append(score_columns(draws, actual, prefix=own, seed=SEED))
    found = [
        *(
            scored(told, actuals, own).assign(recipe=recipe + varied)
            for varied, each in runs.items()
            for recipe, told in ((PUBLISHED, each.table), (UNCALIBRATED, each.uncalibrated))
        ),
        *(
            pd.DataFrame({"actual": actuals, "crps": table[f"{own}{rule}_crps"], "recipe": told})
            for rule, told in (RULES_OF_ALL if world.with_new else RULES).items()
        ),
        scored(pd.DataFrame(played), actuals, own).assign(recipe=ORACLE),
    ]
    return pd.concat(found, ignore_index=True).assign(world=name)


def scored(table: pd.DataFrame, actual: pd.Series, prefix: str) -> pd.DataFrame:
    """Actual, CRPS, width of the 80 % range and whether each range held, of forecasts in the backtest's columns."""
    held = {
        range_column(level): actual.between(table[f"{prefix}{low}"], table[f"{prefix}{high}"]).astype(float)
        for level, (low, high) in RANGE_ENDS.items()
    }
    low, high = RANGE_ENDS[0.8]
    width = table[f"{prefix}{high}"] - table[f"{prefix}{low}"]
    return pd.DataFrame({"actual": actual, "crps": table[f"{prefix}crps"], "width": width, **held})


def range_column(level: float) -> str:
    """Column that tells how often a range held the outcome."""
    return f"{100 * level:.0f} % range"


def summarised(rows: pd.DataFrame) -> pd.DataFrame:
    """One row per world and recipe."""
    grouped = rows.groupby(["world", "recipe"], sort=False)
    table = grouped.agg(
        n=("crps", "size"),
        **{name: (name, "mean") for name in map(range_column, RANGE_ENDS)},
        width=("width", "mean"),
        crps=("crps", "mean"),
    )
    actual = grouped["actual"].mean()
    return table.assign(width=table["width"] / actual, crps=table["crps"] / actual).reset_index()


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark and print its table."""
    parser = command_line(__doc__, toy="one company in a few short worlds, few draws", kept="the table")
    parser.add_argument("--companies", type=int, default=2, help="companies in each world")
    parser.add_argument("--processes", type=int, default=2, help="companies at a time")
    parser.add_argument("--only", help="name of one world")
    asked = parser.parse_args(argv)
    worlds = TOY_WORLDS if asked.toy else WORLDS
    options = replace(OPTIONS, draws=200) if asked.toy else OPTIONS
    tasks = [
        (name, number, world, options)
        for name, world in worlds.items()
        if asked.only in (None, name)
        for number in range(1 if asked.toy else asked.companies * world.copies)
    ]
    processes = 1 if asked.toy else asked.processes
    measured = run_all(measure, tasks, processes=processes)
    table = summarised(pd.concat(measured if processes == 1 else _told(measured, len(tasks)), ignore_index=True))
    print(table.set_index(["world", "recipe"]).round(3).to_string(na_rep=""))
    if asked.save:
        keep(table, asked.folder / SAVED_NAME)
    return 0


def _told(measured: Iterable[pd.DataFrame], of: int) -> Iterator[pd.DataFrame]:
    """Pass the companies through and tell how many are done."""
    for done, rows in enumerate(measured, start=1):
        sys.stderr.write(f"\r{done} of {of} companies ")
        sys.stderr.flush()
        yield rows


if __name__ == "__main__":
    raise SystemExit(main())
