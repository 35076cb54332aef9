"""Exports that lack deals: what is forecast from them, and whether it is seen what they lack.

    python -m benchmarks.accuracy.partial                  # 8 companies of each kind, 3 exports of each
    python -m benchmarks.accuracy.partial --save           # also keeps the table for the results page
    python -m benchmarks.accuracy.partial --toy            # one company, few draws, for the tests

Made-up companies without a quirk, of six weeks from a lead to its end or of half a year, exported at three dates as people
do: only deals closed in the last year, 200 or 100 days, and the open ones; all but the lost ones of before, which the CRM
deletes; from a CRM that took over the open deals of another one 200 days ago; from one in which leads are recorded since 200
or 60 days, deals being entered in the second stage before. Printed are all revenue foretold for the next 90 days, open deals
and deals to come, over what the oracle expects, which knows all parameters; the shares of outcomes within the published
ranges; width of the 80 % range over that of the oracle, CRPS over the mean actual; and in how many exports it was seen that
deals are missing or were taken over.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.accuracy.companies import (
    Company,
    Exit,
    Floats,
    World,
    day_date,
    deals_of,
    make_company,
    oracle,
    part_of,
)
from benchmarks.accuracy.open_deals import SEED
from benchmarks.accuracy.quirks import OPTIONS, range_column, scored
from benchmarks.command import command_line, keep, run_all
from forecasting.answers.forecasts import forecast, with_calibration
from forecasting.data.beginning import WHOLE
from forecasting.data.deals import Deals
from forecasting.data.snapshot import cut
from forecasting.fitting import fit_spec
from forecasting.proof.backtest_result import RANGE_ENDS, score_columns
from forecasting.proof.calibration import own_calibration
from forecasting.proof.new_calibration import own_new_calibration

Bools = NDArray[np.bool_]

HORIZON = 90
WORLDS = {
    "six weeks": World(horizon=HORIZON, with_new=True),
    "half a year": World(
        horizon=HORIZON,
        with_new=True,
        deals_per_day=1.0,
        ahead=(
            Exit(0.6, median=40.0, log_sd=0.6),
            Exit(0.6, median=60.0, log_sd=0.6),
            Exit(0.6, median=50.0, log_sd=0.6),
        ),
        down=(
            Exit(0.5, median=70.0, log_sd=0.7),
            Exit(0.4, median=90.0, log_sd=0.7),
            Exit(0.4, median=90.0, log_sd=0.7),
        ),
    ),
}
BACK_DAYS = (90, 150, 210)
"""Days before the end of the history at which it is exported."""
ALL, CLOSED, LOST, TAKEN_OVER, LEADS = range(5)
EXPORTS = {
    "all deals": (ALL, 0),
    "closed in the last year": (CLOSED, 365),
    "closed in the last 200 days": (CLOSED, 200),
    "closed in the last 100 days": (CLOSED, 100),
    "lost ones of the last 200 days only": (LOST, 200),
    "taken over 200 days ago": (TAKEN_OVER, 200),
    "leads recorded for 200 days": (LEADS, 200),
    "leads recorded for 60 days": (LEADS, 60),
}
"""Name of an export to what it lacks, and since how many days it does not."""
NEVER = 2**40
SAVED_NAME = "partial.csv"


def exported(world: World, company: Company, day: int, kind: str) -> Deals:
    """Give what is exported at the end of a day."""
    lacks, days = EXPORTS[kind]
    since, n = day - days, len(company.created)
    known, past = company.created <= day, company.day <= day
    closed, lost = (np.full(n, NEVER) for _ in range(2))
    ends = past & (company.target >= world.won)
    closed[company.deal[ends]] = company.day[ends]
    losses = ends & (company.target > world.won)
    lost[company.deal[losses]] = company.day[losses]
    if lacks == CLOSED:
        known &= closed > since
    elif lacks == LOST:
        known &= lost > since
    elif lacks == TAKEN_OVER:
        return _taken_over(world, company, known & (closed > since), past, since)
    elif lacks == LEADS:
        return _without_leads(world, company, known, past, since)
    return deals_of(world, part_of(company, known, past))


def _taken_over(world: World, company: Company, known: Bools, past: Bools, since: int) -> Deals:
    """Deals open at the end of a day appear on it, in the stage they are in."""
    before = company.day <= since
    stage = np.zeros(len(company.created), dtype=np.int64)
    stage[company.deal[before]] = company.target[before]  # in order: the last move stays
    first = stage[known], np.maximum(company.created, since)[known]
    return deals_of(world, part_of(company, known, past & ~before), first=first)


def _without_leads(world: World, company: Company, known: Bools, past: Bools, since: int) -> Deals:
    """Deals created up to a day begin with the second stage, and are not known if they never reached it."""
    begun, early = company.created.copy(), company.created <= since
    second = past & (company.target == 1) & early[company.deal]
    reached = np.zeros(len(begun), dtype=bool)
    begun[company.deal[second]], reached[company.deal[second]] = company.day[second], True
    known = known & (reached | ~early)
    part = part_of(replace(company, created=begun), known, past & ~second)
    return deals_of(world, part, first=(early.astype(np.int64)[known], part.created))


def measure(name: str, number: int, kinds: Sequence[str], draws: int) -> pd.DataFrame:
    """Forecast the exports of one company; a row per export and date."""
    world = WORLDS[name]
    company = make_company(world, np.random.default_rng([SEED, list(WORLDS).index(name), number]))
    rows = []
    for back in BACK_DAYS:
        day = world.days - 1 - back
        played = oracle(world, company, day, np.random.default_rng([SEED, number, back]))
        rows += [_scored(world, company, day, kind, played, draws) | {"world": name, "export": kind} for kind in kinds]
    return pd.DataFrame(rows)


def _scored(world: World, company: Company, day: int, kind: str, played: Floats, draws: int) -> dict[str, Any]:
    deals, as_of = exported(world, company, day, kind), day_date(day)
    posterior = fit_spec(deals, as_of=as_of, spec=replace(OPTIONS, draws=draws).spec(SEED))
    made = forecast(deals, posterior, as_of=as_of, until=as_of + timedelta(days=HORIZON), seed=SEED)
    learned = own_calibration(deals, as_of=as_of, horizon_days=HORIZON, seed=SEED)
    of_new = own_new_calibration(deals, as_of=as_of, horizon_days=HORIZON, seed=SEED)
    made = with_calibration(made, learned, seed=SEED, new=of_new)
    revenue = (made.open_cents.sum(axis=(1, 2)) + made.new_cents.sum(axis=(1, 2))) / 100.0
    soon = (company.day > day) & (company.day <= day + HORIZON) & (company.target == world.won)
    actual = float(company.amount[company.deal[soon]].sum())
    ranges = scored(pd.DataFrame([score_columns(revenue, actual, prefix="", seed=SEED)]), pd.Series([actual]), "")
    low, high = np.quantile(played, [0.1, 0.9])
    found = {"foretold": revenue.mean(), "expected": played.mean(), "oracle_width": high - low}
    return found | {"seen": float(cut(deals, as_of=as_of).beginning != WHOLE), **ranges.iloc[0].to_dict()}


def summarised(rows: pd.DataFrame) -> pd.DataFrame:
    """One row per world and export."""
    grouped = rows.groupby(["world", "export"], sort=False)
    means = grouped.mean(numeric_only=True)
    return pd.DataFrame(
        {
            "n": grouped.size(),
            "foretold over expected": means["foretold"] / means["expected"],
            **{name: means[name] for name in map(range_column, RANGE_ENDS)},
            "width over the oracle's": means["width"] / means["oracle_width"],
            "CRPS/actual": means["crps"] / means["actual"],
            "seen": means["seen"],
        }
    ).reset_index()


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark and print its table."""
    parser = command_line(__doc__, toy="one company, few draws", kept="the table")
    parser.add_argument("--companies", type=int, default=8, help="companies of each kind")
    asked = parser.parse_args(argv)
    tasks = [(name, number, list(EXPORTS), OPTIONS.draws) for name in WORLDS for number in range(asked.companies)]
    if asked.toy:
        tasks = [("six weeks", 0, ["all deals", "closed in the last 200 days"], 100)]
    measured = run_all(measure, tasks, processes=1 if asked.toy else 2)
    table = summarised(pd.concat(measured, ignore_index=True))
    print(table.set_index(["world", "export"]).round(3).to_string())
    if asked.save:
        keep(table, asked.folder / SAVED_NAME)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
