"""The public event logs that benchmarks and some tests run on, as deals.

    python -m benchmarks.real_data        # what reading and cutting each of them gives

The logs are not part of this project: they are looked for in the folder named by the environment variable
``DEALCAST_DATA``, then beside the project. Sources: BPI Challenge 2012,
doi:10.4121/uuid:3926db30-f712-4394-aebc-75976070e91f, and BPI Challenge 2020,
doi:10.4121/uuid:52fb97d4-4588-43c9-9d04-3604d4613b51.
"""

import os
from collections.abc import Callable
from datetime import date
from pathlib import Path

import duckdb
import pandas as pd

from forecasting.data.deals import Deals, deals_from_frames
from forecasting.data.snapshot import cut, stage_history
from models.stages import StageGraph

TIMEZONE = "Europe/Amsterdam"
BPIC2012 = StageGraph(
    open=("1_submitted", "2_preaccepted", "3_accepted", "4_offer_sent", "5_offer_returned"),
    won=("WON",),
    lost=("LOST_declined", "LOST_cancelled"),
)
BPIC2020 = StageGraph(
    open=("0_permit", "1_submitted", "2_approved_part", "R_rejected", "4_final_approved", "5_request_payment"),
    won=("WON",),
    lost=("LOST_rejected",),
)


def find_data() -> Path | None:
    """Find the folder of the logs; None where there is none."""
    named = os.environ.get("DEALCAST_DATA")
    candidates = [Path(named)] if named else []
    candidates.append(Path(__file__).parents[1] / "../shared/data")
    return next((folder.resolve() for folder in candidates if (folder / "bpic2012").is_dir()), None)


def find_or_tell() -> Path | None:
    """Find the folder of the logs; where there is none, tell that the benchmark is skipped."""
    folder = find_data()
    if folder is None:
        print("skipped: the data folder is not there; set DEALCAST_DATA")
    return folder


def toy_or_logs[Wanted](sample: Callable[[], Wanted], logs: Callable[[Path], Wanted], *, toy: bool) -> Wanted | None:
    """Make what a benchmark runs on, of made-up data or of the logs; None, and told so, where the logs are not there."""
    if toy:
        return sample()
    folder = find_or_tell()
    return None if folder is None else logs(folder)


def load_bpic2012(folder: Path) -> Deals:
    """Load the loan applications of a bank: 13,087 cases, requested amount as the amount."""
    return _load(folder / "bpic2012", BPIC2012, created="REG_DATE", amount="AMOUNT_REQ")


def load_bpic2020_domestic(folder: Path) -> Deals:
    """Load the domestic travel declarations: short cycles, loops."""
    graph = StageGraph(open=BPIC2020.open[1:], won=BPIC2020.won, lost=BPIC2020.lost)
    return _load(folder / "bpic2020_domestic", graph, created="first_ts", amount="Amount")


def load_bpic2020_international(folder: Path) -> Deals:
    """Load the international travel declarations: loops, almost no losses, payment in batches."""
    graph = StageGraph(open=("0_saved", *BPIC2020.open), won=BPIC2020.won, lost=BPIC2020.lost)
    return _load(folder / "bpic2020_international", graph, created="first_ts", amount="Amount")


def load_bpic2020_prepaid(folder: Path) -> Deals:
    """Load the prepaid travel costs: a few huge amounts."""
    return _load(folder / "bpic2020_prepaid", BPIC2020, created="first_ts", amount="Amount")


LOADERS = {
    "bpic2012": (load_bpic2012, date(2012, 1, 16)),
    "bpic2020_domestic": (load_bpic2020_domestic, date(2018, 6, 30)),
    "bpic2020_international": (load_bpic2020_international, date(2018, 6, 30)),
    "bpic2020_prepaid": (load_bpic2020_prepaid, date(2018, 6, 30)),
}
"""Loader of each log and a date to look at it."""


def _load(folder: Path, graph: StageGraph, *, created: str, amount: str) -> Deals:
    """Read the cases and the stage entries of a log, all columns as text, and rename the ones of the contract."""
    with duckdb.connect() as connection:
        cases = connection.execute(
            f'SELECT case_id AS deal_id, "{created}" AS created_at, "{amount}" AS amount, '
            f'* EXCLUDE (case_id, "{created}", "{amount}") FROM read_csv(?, all_varchar = true)',
            [str(folder / "cases.csv.gz")],
        ).df()
        entries = connection.execute(
            "SELECT case_id AS deal_id, stage, entered_at FROM read_csv(?, all_varchar = true)",
            [str(folder / "stage_entries.csv.gz")],
        ).df()
    return deals_from_frames(cases, entries, stages=graph, timezone=TIMEZONE)


def describe(deals: Deals, as_of: date) -> str:
    """Count what is in a log and of its snapshot at a date."""
    snapshot = cut(deals, as_of=as_of)
    history = stage_history(snapshot)
    moves = deals.entries[deals.entries["moved"]]
    following = moves.groupby("deal")["entered_on"].shift(-1)
    same_day = ((following - moves["entered_on"]) == pd.Timedelta(0))[following.notna()].mean()
    open_at_end = (moves.groupby("deal")["stage"].last() < deals.graph.n_open).sum()
    return "\n".join(
        [
            deals.quality.to_text(),
            f"{len(moves):,} moves, {same_day:.1%} of transitions on the same day, {open_at_end:,} open at the end",
            f"as of {as_of}: {snapshot.pipeline.n_deals:,} open, {len(snapshot.won):,} won worth "
            f"{snapshot.won['amount'].sum():,.0f}, {len(snapshot.stays):,} stays in {len(history.counts):,} counts",
        ]
    )


def main() -> int:
    """Print what reading and cutting each log gives."""
    folder = find_or_tell()
    if folder is None:
        return 0
    for name, (load, as_of) in LOADERS.items():
        print(f"== {name}\n{describe(load(folder), as_of)}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
