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
as others and sellers know it; and none, for comparison.
Forecasts are of the revenue from open deals, or of all revenue where deals are entered in January and once where
summers are slow, 30 days ahead (60 in the first weeks, 90 where cycles are long and of all revenue), at the last days
of months or of every second month, with the setting of ``open_deals``; where wins follow the end of a month also on a
calendar of weekdays and period ends, and where sellers expect a closing date also with that date as a covariate.

Printed for every world are the shares of outcomes within the 50, 80 and 95 % ranges, the width of the 80 % range and the
CRPS, both over the mean actual revenue: of the published forecast, of the same before calibration, of two simple rules
(CRPS alone), and of the oracle, which knows all parameters and plays the rest many times. Where nothing can be won within
a horizon, a range from 0 to 0 holds the outcome: where wins are seasonal, even the oracle's ranges hold too often.
"""

import argparse
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from datetime import date, timedelta
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from benchmarks.accuracy import open_deals
from benchmarks.accuracy.open_deals import SAVED, SEED
from forecasting.data.deals import Deals, deals_from_frames
from forecasting.proof.backtest_result import RANGE_ENDS, score_columns
from forecasting.proof.backtesting import BacktestOptions, backtest, origin_dates
from models.stages import StageGraph

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

FIRST = date(2022, 1, 1)
SPEED_SD, PLANNED_DAYS, PLAN_SD = 0.8, 80.0, 0.3
"""Where closing dates are expected: log-sd of the speed of deals, days expected of a usual one, log-sd of that guess."""
LONGEST = 400
"""Days in a stage after which hazards no longer change."""
OPTIONS = replace(open_deals.OPTIONS, draws=1000, new_business=False)
ORACLE_RUNS = 300
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


@dataclass(frozen=True)
class Exit:
    """A way out of a stage: a daily hazard of ``level``; with a median, ``level`` times that of a log-normal stay."""

    level: float
    median: float | None = None
    log_sd: float = 1.0


@dataclass(frozen=True)
class World:
    """How the deals of a company behave, and when it is forecast.

    Parameters
    ----------
    days : int
        Length of the history, the last horizon included.
    first_origin : int
        Day after which origins may lie.
    horizon : int
        Days ahead.
    origins, every : int
        At most so many origins, the last ones, so many months apart.
    weeks : tuple of int
        Weeks after the first day that origins lie in the place of those.
    copies : int
        Companies made up for each one asked for.
    with_new : bool
        Whether revenue of deals created later is forecast too.
    deals_per_day : float
    created_in : str
        Key of ``CREATED``.
    tail : float or None
        Index of Pareto amounts; None for log-normal ones.
    ahead, down : tuple of Exit
        Of every open stage: to the next one, which is won after the last, and to lost.
    win_factor : str
        Key of ``WIN_FACTORS``.
    lost_after : int or None
        Days in a stage after which a deal is lost.
    drop_day : int or None
        Day from which the hazard of a win is ``drop`` times what it was.
    drop : float
    calendar : tuple of str
        Parts of the calendar on which it is forecast too.
    dated : bool
        Whether deals differ in speed, and sellers know it: a closing date is expected from the first day on.
    """

    days: int = 1095
    first_origin: int = 540
    horizon: int = 30
    origins: int = 12
    every: int = 1
    weeks: tuple[int, ...] = ()
    copies: int = 1
    with_new: bool = False
    deals_per_day: float = 1.5
    created_in: str = "all year"
    tail: float | None = None
    ahead: tuple[Exit, ...] = (Exit(0.035), Exit(0.03), Exit(0.025))
    down: tuple[Exit, ...] = (Exit(0.03), Exit(0.015), Exit(0.01))
    win_factor: str = "always"
    lost_after: int | None = None
    drop_day: int | None = None
    drop: float = 1.0
    calendar: tuple[str, ...] = ()
    dated: bool = False

    @property
    def won(self) -> int:
        """Code of the won stage; open ones are below it, the lost one follows."""
        return len(self.ahead)


@dataclass(frozen=True)
class Company:
    """Deals that begin in stage 0 on day ``created``, and their moves in order of time: which, where to, on what day.

    ``speed`` is a factor on all hazards of a deal, ``expected`` the day on which it is expected to close.
    """

    created: Ints
    amount: Floats
    speed: Floats
    expected: Ints
    deal: Ints
    target: Ints
    day: Ints


def year_end(day: date) -> float:
    """Most wins come in the last two weeks of the year."""
    return 8.0 if day.month == 12 and day.day >= 17 else 0.5


def january(day: date) -> float:
    """Wins come in January only."""
    return 6.0 if day.month == 1 else 0.0


def early_december(day: date) -> float:
    """Nearly all wins come in the first ten days of December, a few in the first half of the year."""
    if day.month == 12 and day.day <= 10:
        return 40.0
    return 0.3 if day.month <= 6 else 0.0


def slow_summer(day: date) -> float:
    """Wins are five times as likely in the last two months of a year as in summer."""
    return 2.0 if day.month >= 11 else 0.4 if day.month in (7, 8) else 0.9


def last_working_day(day: date) -> float:
    """Wins come on the last day of a month that is no Saturday or Sunday."""
    following = day + timedelta(days=1)
    while following.weekday() >= 5:
        following += timedelta(days=1)
    return 50.0 if day.weekday() < 5 and following.month != day.month else 0.0


def busy_month_end(day: date) -> float:
    """Wins are six times as likely on the last three days of a month that are no Saturday or Sunday, and none on these."""
    to_go = np.busday_count(day, (day.replace(day=1) + timedelta(days=32)).replace(day=1))
    return 0.0 if day.weekday() >= 5 else 4.2 if to_go <= 3 else 0.7


def spring(day: date) -> float:
    """Deals are created from April to the middle of May."""
    return 1.0 if day.month == 4 or (day.month == 5 and day.day <= 15) else 0.0


def january_start(day: date) -> float:
    """Deals are created in the first twenty days of the year."""
    return 1.0 if day.month == 1 and day.day <= 20 else 0.0


WIN_FACTORS: dict[str, Callable[[date], float]] = {
    "always": lambda day: 1.0,
    "year end": year_end,
    "january": january,
    "early december": early_december,
    "slow summer": slow_summer,
    "last working day": last_working_day,
    "busy month end": busy_month_end,
}
"""Factor of a day on the hazard of wins."""
CREATED: dict[str, Callable[[date], float]] = {
    "all year": lambda day: 1.0,
    "spring": spring,
    "january start": january_start,
}
"""Factor of a day on the number of new deals."""
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
}
TOY_WORLDS = {
    name: replace(WORLDS[name], days=390, first_origin=300, origins=2)
    for name in ("no quirk", "lost after 60 days untouched", "closing dates expected")
} | {"deals entered in January": replace(WORLDS["deals entered in January"], days=820, first_origin=660, origins=2)}


def day_date(day: int) -> date:
    """Date of a day number."""
    return FIRST + timedelta(days=day)


def hazards(exits: tuple[Exit, ...]) -> Floats:
    """Hazard by stage and days spent in it, shape (stage, LONGEST + 1)."""
    days = np.arange(LONGEST + 2)
    found = np.empty((len(exits), LONGEST + 1))
    for row, way in zip(found, exits, strict=True):
        row[:] = way.level
        if way.median is not None:
            survival = stats.lognorm.sf(days, s=way.log_sd, scale=way.median)
            row *= np.clip(-np.diff(np.log(np.maximum(survival, 1e-12))), 0.0, 2.0)
    return found


def play(
    world: World, stage: Ints, entered: Ints, speed: Floats, days: range, rng: np.random.Generator
) -> Iterator[tuple[int, Ints, Ints]]:
    """Move deals day by day; yields day, deals that move and where to, changing ``stage`` and ``entered``.

    A deal moves at most once a day, and not on the day it is created.
    """
    ahead_by_age, down_by_age = hazards(world.ahead), hazards(world.down)
    factor = WIN_FACTORS[world.win_factor]
    for day in days:
        rows = np.flatnonzero((stage < world.won) & (entered < day))
        now, age = stage[rows], day - entered[rows]
        ahead, down = (table[now, np.minimum(age - 1, LONGEST)] for table in (ahead_by_age, down_by_age))
        dropped = world.drop if world.drop_day is not None and day >= world.drop_day else 1.0
        ahead[now == world.won - 1] *= factor(day_date(day)) * dropped
        total = ahead + down
        moves = rng.random(len(rows)) < -np.expm1(-total * speed[rows])
        forward = moves & (rng.random(len(rows)) * total < ahead)
        if world.lost_after is not None:
            moves |= age >= world.lost_after
        target = np.where(forward, now + 1, world.won + 1)[moves]
        rows = rows[moves]
        stage[rows], entered[rows] = target, day
        yield day, rows, target


def make_company(world: World, rng: np.random.Generator) -> Company:
    """Make up the deals of a company and play them to the end of the history."""
    arrivals = rng.poisson(created_per_day(world, range(world.days)))
    arrivals[-1] = max(arrivals[-1], 1)  # something is written on the last day, so that the last horizon has closed
    created = np.repeat(np.arange(world.days), arrivals)
    n = len(created)
    amount, speed, expected = amounts_of(world, n, rng), np.ones(n), np.zeros(n, dtype=np.int64)
    if world.dated:
        speed = rng.lognormal(0.0, SPEED_SD, n)
        expected = created + (PLANNED_DAYS / speed * rng.lognormal(0.0, PLAN_SD, n)).astype(np.int64)
    stage, entered = np.zeros(n, dtype=np.int64), created.copy()
    days, deal, target = zip(*play(world, stage, entered, speed, range(world.days), rng), strict=True)
    return Company(
        created=created,
        amount=amount,
        speed=speed,
        expected=expected,
        deal=np.concatenate(deal),
        target=np.concatenate(target),
        day=np.repeat(days, [len(rows) for rows in deal]),
    )


def created_per_day(world: World, days: range) -> Floats:
    """Mean number of deals created on each day."""
    return np.array([world.deals_per_day * CREATED[world.created_in](day_date(day)) for day in days])


def amounts_of(world: World, n: int, rng: np.random.Generator) -> Floats:
    """Amounts of so many deals."""
    amount = rng.lognormal(9.0, 0.7, n) if world.tail is None else 10_000.0 * rng.pareto(world.tail, n) + 1_000.0
    return amount.round(2)


def deals_of(world: World, company: Company) -> Deals:
    """Lay the company's history out in the two tables that a user would bring."""
    opened = tuple(f"Stage {number + 1}" for number in range(world.won))
    graph = StageGraph(open=opened, won=("Won",), lost=("Lost",))
    ids = np.array([f"D{number:05d}" for number in range(len(company.created))])
    dates = np.array([str(day_date(day)) for day in range(world.days)])
    table = pd.DataFrame({"deal_id": ids, "created_at": dates[company.created], "amount": company.amount})
    if world.dated:
        table["expected_close"] = [str(day_date(int(day))) for day in company.expected]
    codes = np.concatenate([np.zeros(len(ids), dtype=np.int64), company.target])
    history = pd.DataFrame(
        {
            "deal_id": np.concatenate([ids, ids[company.deal]]),
            "stage": np.array(graph.stages)[codes],
            "entered_at": dates[np.concatenate([company.created, company.day])],
        }
    )
    return deals_from_frames(table, history, stages=graph)


def origins_of(world: World) -> list[date]:
    """Dates at which a company is forecast."""
    if world.weeks:
        return [day_date(7 * week) for week in world.weeks]
    last = day_date(world.days - 1 - world.horizon)
    return origin_dates(day_date(world.first_origin), last, every="month")[:: world.every][-world.origins :]


def oracle(world: World, company: Company, origin: int, rng: np.random.Generator) -> Floats:
    """Revenue in many plays of the future that know all parameters; of deals created later only if asked for."""
    stage, entered = np.zeros(len(company.created), dtype=np.int64), company.created.copy()
    past = company.day <= origin
    stage[company.deal[past]] = company.target[past]  # in order: the last move stays
    entered[company.deal[past]] = company.day[past]
    waiting = np.flatnonzero((stage < world.won) & (company.created <= origin))
    state, since = np.tile(stage[waiting], ORACLE_RUNS), np.tile(entered[waiting], ORACLE_RUNS)
    run, amount = np.repeat(np.arange(ORACLE_RUNS), len(waiting)), np.tile(company.amount[waiting], ORACLE_RUNS)
    days, speed = range(origin + 1, origin + world.horizon + 1), np.tile(company.speed[waiting], ORACLE_RUNS)
    if world.with_new:
        number = rng.poisson(created_per_day(world, days), (ORACLE_RUNS, len(days)))
        run_of_new, day_of_new = np.indices(number.shape).reshape(2, -1).repeat(number.ravel(), axis=1)
        state = np.concatenate([state, np.zeros_like(run_of_new)])
        since, run = np.concatenate([since, origin + 1 + day_of_new]), np.concatenate([run, run_of_new])
        amount = np.concatenate([amount, amounts_of(world, len(run_of_new), rng)])
        speed = np.concatenate([speed, np.ones(len(run_of_new))])
    for _ in play(world, state, since, speed, days, rng):
        pass
    return np.bincount(run, weights=amount * (state == world.won), minlength=ORACLE_RUNS)


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
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--companies", type=int, default=2, help="companies in each world")
    parser.add_argument("--processes", type=int, default=2, help="companies at a time")
    parser.add_argument("--toy", action="store_true", help="one company in a few short worlds, few draws")
    parser.add_argument("--only", help="name of one world")
    parser.add_argument("--save", action="store_true", help="keep the table for the results page")
    parser.add_argument("--folder", type=Path, default=SAVED, help="where --save keeps it")
    asked = parser.parse_args(argv)
    worlds = TOY_WORLDS if asked.toy else WORLDS
    options = replace(OPTIONS, draws=200) if asked.toy else OPTIONS
    tasks = [
        (name, number, world, options)
        for name, world in worlds.items()
        if asked.only in (None, name)
        for number in range(1 if asked.toy else asked.companies * world.copies)
    ]
    if asked.toy or asked.processes == 1:
        measured = [measure(*task) for task in tasks]
    else:
        with ProcessPoolExecutor(asked.processes, mp_context=get_context("spawn")) as executor:
            measured = list(_told(executor.map(measure, *zip(*tasks, strict=True)), len(tasks)))
    table = summarised(pd.concat(measured, ignore_index=True))
    print(table.set_index(["world", "recipe"]).round(3).to_string(na_rep=""))
    if asked.save:
        asked.folder.mkdir(parents=True, exist_ok=True)
        table.to_csv(asked.folder / SAVED_NAME, index=False, float_format="%.4g")
    return 0


def _told(measured: Iterable[pd.DataFrame], of: int) -> Iterator[pd.DataFrame]:
    """Pass the companies through and tell how many are done."""
    for done, rows in enumerate(measured, start=1):
        sys.stderr.write(f"\r{done} of {of} companies ")
        sys.stderr.flush()
        yield rows


if __name__ == "__main__":
    raise SystemExit(main())
