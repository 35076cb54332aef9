"""Exports that lack amounts: what is forecast from them, and whether it is seen why they lack them.

    python -m benchmarks.accuracy.lacking                  # 8 companies of each size, 3 exports of each
    python -m benchmarks.accuracy.lacking --save           # also keeps the table for the results page
    python -m benchmarks.accuracy.lacking --toy            # one company, few draws, for the tests

The companies of ``quirks`` without a quirk, exported at three dates as their CRM would: the deals table has the amounts of
that day, the stage history none. Amounts are entered in a later stage only, or on winning only, cleared or set to zero on
losing, or stand at zero until they are known: a missing amount then tells of the past what came, and of open deals nothing.
Or one deal in seven has none, or is worth nothing, whatever becomes of it. A backtest cannot show the difference, as it
has one export. Printed are revenue of open deals foretold for the next 30 days over what came, by true amounts, the shares
of outcomes within the published ranges, CRPS over the mean actual, and in how many exports deals without an amount counted
as deals of their own kind.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.accuracy.companies import Company, World, day_date, deals_of, make_company
from benchmarks.accuracy.open_deals import SEED
from benchmarks.accuracy.quirks import OPTIONS, range_column, scored
from benchmarks.command import command_line, keep, run_all
from forecasting.answers.forecasts import forecast, with_calibration
from forecasting.data.deals import Deals
from forecasting.data.snapshot import cut
from forecasting.fitting import fit_spec
from forecasting.proof.backtest_result import RANGE_ENDS, score_columns
from forecasting.proof.calibration import own_calibration

WORLDS = {"45 deals a month": World(), "9 deals a month": World(deals_per_day=0.3)}
BACK_DAYS = (30, 120, 210)
"""Days before the end of the history at which it is exported."""
HORIZON = 30
SOME = 1 / 7
"""Part of the deals that lack an amount from the start."""
NOBODY, EARLY, NOT_LAST, NOT_WON, LOST, CHANCE = range(6)
HABITS = {
    "all have amounts": (NOBODY, np.nan),
    "entered from the second stage on": (EARLY, np.nan),
    "entered in the last stage": (NOT_LAST, np.nan),
    "entered on winning": (NOT_WON, np.nan),
    "cleared on losing": (LOST, np.nan),
    "set to zero on losing": (LOST, 0.0),
    "zero until the last stage": (NOT_LAST, 0.0),
    "some lacking from the start": (CHANCE, np.nan),
    "some worth nothing": (CHANCE, 0.0),
}
"""Name of a habit to which deals are without an amount, by how far they have come, and what stands in its place."""
WORTH_NOTHING = "some worth nothing"
SAVED_NAME = "lacking.csv"


def exported(world: World, company: Company, day: int, habit: str) -> tuple[Deals, NDArray[np.float64]]:
    """Give what a CRM exports at the end of a day, and the revenue that each deal open then brings in time."""
    n = len(company.created)
    past, soon = company.day <= day, (company.day > day) & (company.day <= day + HORIZON)
    stage, reached = np.zeros(n, dtype=np.int64), np.zeros(n, dtype=np.int64)
    stage[company.deal[past]] = company.target[past]  # in order: the last move stays
    forward = past & (company.target <= world.won)
    np.maximum.at(reached, company.deal[forward], company.target[forward])
    some, lost = np.random.default_rng([SEED, n]).random(n) < SOME, stage > world.won
    which, value = HABITS[habit]
    lacking = (lost & ~lost, reached < 1, reached < world.won - 1, stage != world.won, lost, some)[which]
    worth = np.where(some, 0.0, company.amount) if habit == WORTH_NOTHING else company.amount
    brought = np.zeros(n)
    brought[company.deal[soon & (company.target == world.won)]] = 1.0
    known = company.created <= day  # the first ones
    export = replace(
        company,
        created=company.created[known],
        first=company.first[known],
        amount=np.where(lacking, value, company.amount)[known],
        deal=company.deal[past],
        target=company.target[past],
        day=company.day[past],
    )
    return deals_of(world, export), brought * worth * (known & (stage < world.won))


def measure(name: str, number: int, habits: Sequence[str], draws: int) -> pd.DataFrame:
    """Forecast the exports of one company; a row per habit and date."""
    world = WORLDS[name]
    company = make_company(world, np.random.default_rng([SEED, list(WORLDS).index(name), number]))
    rows = [
        _scored(world, company, world.days - 1 - back, habit, draws) | {"world": name, "amounts": habit}
        for habit in habits
        for back in BACK_DAYS
    ]
    return pd.DataFrame(rows)


def _scored(world: World, company: Company, day: int, habit: str, draws: int) -> dict[str, Any]:
    deals, brought = exported(world, company, day, habit)
    as_of, until = day_date(day), day_date(day) + timedelta(days=HORIZON)
    posterior = fit_spec(deals, as_of=as_of, spec=replace(OPTIONS, draws=draws).spec(SEED))
    made = forecast(deals, posterior, as_of=as_of, until=until, seed=SEED, new_business=False)
    made = with_calibration(made, own_calibration(deals, as_of=as_of, horizon_days=HORIZON, seed=SEED), seed=SEED)
    revenue, actual = made.open_cents.sum(axis=(1, 2)) / 100.0, float(brought.sum())
    snapshot = cut(deals, as_of=as_of, covariates=OPTIONS.covariates)
    ranges = scored(pd.DataFrame([score_columns(revenue, actual, prefix="", seed=SEED)]), pd.Series([actual]), "")
    believed = float(not snapshot.untold and not snapshot.unknown)
    return {"foretold": revenue.mean(), "believed": believed, **ranges.iloc[0].to_dict()}


def summarised(rows: pd.DataFrame) -> pd.DataFrame:
    """One row per world and habit."""
    grouped = rows.groupby(["world", "amounts"], sort=False)
    means, sums = grouped.mean(numeric_only=True), grouped.sum(numeric_only=True)
    ranges = [range_column(level) for level in RANGE_ENDS]
    return pd.DataFrame(
        {
            "n": grouped.size(),
            "foretold over actual": sums["foretold"] / sums["actual"],
            **{name: means[name] for name in ranges},
            "CRPS/actual": means["crps"] / means["actual"],
            "taken for a kind of their own": means["believed"],
        }
    ).reset_index()


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark and print its table."""
    parser = command_line(__doc__, toy="one company, few draws", kept="the table")
    parser.add_argument("--companies", type=int, default=8, help="companies of each size")
    asked = parser.parse_args(argv)
    tasks = [(name, number, list(HABITS), OPTIONS.draws) for name in WORLDS for number in range(asked.companies)]
    if asked.toy:
        tasks = [("9 deals a month", 0, ["all have amounts", "cleared on losing"], 100)]
    measured = run_all(measure, tasks, processes=1 if asked.toy else 2)
    table = summarised(pd.concat(measured, ignore_index=True))
    print(table.set_index(["world", "amounts"]).round(3).to_string())
    if asked.save:
        keep(table, asked.folder / SAVED_NAME)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
