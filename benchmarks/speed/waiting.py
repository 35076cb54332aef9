"""What a user waits for: a forecast from a ready posterior, results per deal and files included.

    python -m benchmarks.speed.waiting          # 10,000 open deals x 4,000 draws, a quarter ahead
    python -m benchmarks.speed.waiting --toy    # a size for tests

A company is made up and its models fitted in a fraction of a second; neither is counted. Counted are cutting the deals
at the date, the simulation of open deals and of new business, the table of deals with its swings, what the forecast
says, and writing the files but pictures. The look back at closed forecasts, from which open deals and new business are
calibrated, is timed apart. The first run may compile; the least of the others is told.
"""

import tempfile
import time
from datetime import date, timedelta
from pathlib import Path
from typing import NamedTuple

from benchmarks.command import command_line
from forecasting.answers.forecasts import forecast
from forecasting.data.deals import Deals, deals_from_frames
from forecasting.data.sample import demo_history
from forecasting.fitting import fit
from forecasting.output.artefacts import write_artefacts
from forecasting.output.findings import Goal, findings
from forecasting.proof.calibration import own_calibration
from forecasting.proof.new_calibration import own_new_calibration
from forecasting.proof.past_forecasts import Memory
from forecasting.proof.stay_table import stay_table
from models.posterior import Posterior

HORIZON_DAYS = 92


AS_OF = date(2026, 9, 30)
COMPANY_DEALS = 120_000
"""Deals of the history, of which some ten thousand are open at its end."""


def company(n_deals: int) -> Deals:
    """Deals of a made-up company."""
    demo = demo_history(seed=1, n_deals=n_deals, as_of=AS_OF, faulty_rows=False)
    return deals_from_frames(
        demo.deals, demo.stage_history, stages=demo.graph, timezone="Europe/Amsterdam", currency="EUR"
    )


def seconds(deals: Deals, posterior: Posterior, *, draws: int, goal: bool = False) -> tuple[float, int]:
    """Time from the deals and a posterior to the files, and the number of open deals."""
    started, until = time.perf_counter(), posterior.as_of + timedelta(days=HORIZON_DAYS)
    made = forecast(deals, posterior, as_of=posterior.as_of, until=until, seed=1, draws=draws)
    amount = float(made.revenue_draws("year", source="total").sum(axis=1).median())
    found = findings(made, goal=Goal(amount, until) if goal else None)
    with tempfile.TemporaryDirectory() as folder:
        write_artefacts(found, Path(folder) / "out", with_pictures=False)
    return time.perf_counter() - started, made.pipeline.n_deals


def look_back_seconds(deals: Deals) -> float:
    """Time of learning from the closed forecasts of open deals and of new business."""
    started, stays, memory = time.perf_counter(), stay_table(deals), Memory()
    own_calibration(stays, as_of=AS_OF, horizon_days=HORIZON_DAYS, memory=memory)
    own_new_calibration(stays, as_of=AS_OF, horizon_days=HORIZON_DAYS, memory=memory)
    return time.perf_counter() - started


class Waited(NamedTuple):
    """Least time of several forecasts of one kind."""

    name: str
    deals: int
    draws: int
    seconds: float


def measured(*, toy: bool, runs: int = 2) -> list[Waited]:
    """Time forecasts of one kind of deal, with a target or not, of deals told apart by size and region, and calibration."""
    n_deals, draws = (400, 40) if toy else (COMPANY_DEALS, 4_000)
    deals, made = company(n_deals), []
    for name, segment, covariates, goal in (
        ("one kind of deal", [], [], False),
        ("one kind of deal, a target and leads needed", [], [], True),
        ("deals by amount, as is usual", [], ["log_amount"], False),
        ("deals by region and amount", ["region"], ["log_amount"], False),
    ):
        posterior = fit(
            deals, as_of=AS_OF, segment=segment, covariates=covariates, inference="fast", draws=draws, seed=1
        )
        times, n_open = [], 0
        for _ in range(1 if toy else runs + 1):
            taken, n_open = seconds(deals, posterior, draws=draws, goal=goal)
            times.append(taken)
        made.append(Waited(name, n_open, draws, min(times)))
        print(f"  {n_open:,} open deals x {draws:,} draws, {HORIZON_DAYS} days, {name}: {min(times):.2f} s", flush=True)
    look_back = min(look_back_seconds(deals) for _ in range(1 if toy else runs + 1))
    made.append(Waited("calibration, a look back", n_open, draws, look_back))
    print(f"  calibration, a look back at closed forecasts of {n_deals:,} deals: {look_back:.2f} s", flush=True)
    return made


def main(arguments: list[str] | None = None) -> None:
    """Time the forecast."""
    measured(toy=command_line("What a user waits for.", toy="at a size for tests").parse_args(arguments).toy)


if __name__ == "__main__":
    main()
