"""How well each duration family foretells transitions it has not seen: held-out log score per transition.

    python -m benchmarks.accuracy.stage_scores          # four public logs, found through DEALCAST_DATA
    python -m benchmarks.accuracy.stage_scores --save   # also keeps the table for the results page
    python -m benchmarks.accuracy.stage_scores --toy    # the sample data, for the tests

The stage model is fitted (fast inference) to what was known at the end of the cut and scored on every later day of
every stay: the log probability of where each stay went and on which day, a stay already running from its age at the
cut, one still open at the end of the log by its survival; all divided by the number of transitions. Moves never seen
before the cut are left out for every family alike and counted in the last column.

The loan log is cut at 2012-01-15, the travel logs at 2018-06-30 and, across a change in how they run, at 2018-01-01
too. In the domestic log hardly an approval took more than seven days before that date and some did afterwards: a family
that has learned such an edge is surprised, one too smooth to see it is not, and comparing families on the past cannot
tell.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from functools import partial
from pathlib import Path

import pandas as pd

from benchmarks import real_data
from benchmarks.accuracy.open_deals import sample_deals
from benchmarks.command import command_line, keep
from forecasting.data.deals import Deals
from forecasting.data.snapshot import Snapshot, cut, stage_history
from models.history import COUNT_COLUMNS, STILL_OPEN
from models.stage_model.checks import transition_log_score
from models.stage_model.fit import fit_stages

FAMILIES = ("weibull", "lognormal", "gamma", "loglogistic", "generalized_gamma", "piecewise")
AUTO = "auto"
DRAWS, SEED = 1000, 20261123
SAVED_NAME = "stage_scores.csv"
AUTO_SLACK = 0.005
"""By how much per transition ``auto`` may lose to the best single family."""


@dataclass(frozen=True)
class HeldOut:
    """A log and the last day the model knows of it."""

    name: str
    load: Callable[[], Deals]
    as_of: date


def real_logs(folder: Path) -> list[HeldOut]:
    """Return the four public logs with their cuts."""
    travel = [(name, load) for name, (load, _) in real_data.LOADERS.items() if name != "bpic2012"]
    cuts = (date(2018, 6, 30), date(2018, 1, 1))
    return [
        HeldOut("bpic2012", partial(real_data.load_bpic2012, folder), date(2012, 1, 15)),
        *(HeldOut(name, partial(load, folder), as_of) for as_of in cuts for name, load in travel),
    ]


def later_stays(before: Snapshot, after: Snapshot) -> tuple[pd.DataFrame, int]:
    """Stays or parts of stays after the first snapshot, counted, and how many transitions were left out.

    Parameters
    ----------
    before, after : Snapshot
        The same deals at the cut and at the end, with the same factors.

    Returns
    -------
    stays : DataFrame
        Columns as :func:`models.stage_model.checks.transition_log_score` takes them.
    left_out : int
        Transitions along moves never seen before the cut.
    """
    stays = after.stays
    known = (pd.Timestamp(before.as_of) - stays["entered_on"]).dt.days.clip(lower=-1)
    ended = stays["next"] != STILL_OPEN
    later = (known < 0) | ~ended | (stays["days"] > known)
    table = stays.assign(days_known=known)[later]
    history = stage_history(before)
    possible = {(stage, code) for stage in range(before.graph.n_open) for code in history.exits(stage)}
    moves = zip(table["stage"], table["next"], strict=True)
    seen = [code == STILL_OPEN or (stage, code) in possible for stage, code in moves]
    keys = [*COUNT_COLUMNS[:-1], "days_known"]
    counted = table[seen].groupby(keys, sort=True).size().rename("count").reset_index()
    return counted, len(table) - sum(seen)


def scores(held_out: HeldOut, covariates: tuple[str, ...]) -> pd.Series:
    """Log score per transition by family, with the number of transitions and of those left out."""
    deals = held_out.load()
    before = cut(deals, as_of=held_out.as_of, covariates=covariates)
    end = deals.entries["entered_on"].max().date()
    after = cut(deals, as_of=end, covariates=covariates, factors=before.factors)
    stays, left_out = later_stays(before, after)
    found: dict[str, float] = {}
    for family in (*FAMILIES, AUTO):
        posterior = fit_stages(stage_history(before), durations=family, inference="fast", draws=DRAWS, seed=SEED)
        found[family] = transition_log_score(posterior, stays, after.cells)
    ended = stays.loc[stays["next"] != STILL_OPEN, "count"].sum()
    return pd.Series(found | {"transitions": int(ended), "left out": left_out})


def main(argv: list[str] | None = None) -> int:
    """Score and print the table."""
    asked = command_line(__doc__, toy="sample data", kept="the table").parse_args(argv)
    toy = HeldOut("sample", sample_deals, date(2026, 5, 31))
    logs = real_data.toy_or_logs(lambda: [toy], real_logs, toy=asked.toy)
    if logs is None:
        return 0
    table = pd.DataFrame(
        {
            (log.name, str(log.as_of), label): scores(log, covariates)
            for log in logs
            for label, covariates in (("plain", ()), ("amount", ("log_amount",)))
        }
    ).T
    table = table.astype({"transitions": int, "left out": int})
    table.index.names = ["log", "cut", "covariates"]
    print("Held-out log score per transition, higher is better")
    print(table.round(3).to_string())
    if asked.save:
        keep(table.reset_index(), asked.folder / SAVED_NAME, digits=6)
    behind = (table[list(FAMILIES)].max(axis=1) - table[AUTO]).groupby("cut").max()
    for as_of, most in behind.items():
        told = "as it may" if most <= AUTO_SLACK else f"more than the {AUTO_SLACK} it may"
        print(f"cut {as_of}: auto is at most {most:.4f} behind the best single family, {told}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
