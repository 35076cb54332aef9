"""Deal by deal: who will be accepted, declined or cancelled, and how long it takes, beside the rate by last activity.

    python -m benchmarks.accuracy.deal_level          # BPI Challenge 2012, found through DEALCAST_DATA
    python -m benchmarks.accuracy.deal_level --save   # also keeps the figures for the results page
    python -m benchmarks.accuracy.deal_level --toy    # the sample data, for the tests

Split: cases by start, the first 80 % for training; what happened on the day the first test case began, or later, is not
seen by the stage model, cases still open then are censored. The rule "share by last activity" sees the events of the
training cases before that moment and, in its favour, their outcomes whenever they came.

Prefixes: the first k COMPLETE events of a case, k = 1 .. min(40, 90 % quantile of the lengths of the cases scored). Scored
twice: ``all`` prefixes, also those that already contain the decision, where any method that reads the last activity or
the stage is right; and only the ``undecided`` ones, which contain neither the event that closes the case nor the final
offer activity: what a forecast is for. At the last event of a prefix the stage model knows the stage, the days in it,
whether the deal had been there or further before, and the class of the requested amount. The day is not over: the deal
may still leave on it. A deal in a terminal stage is taken to stay there.

Outcomes are scored on cases with a final offer decision (the last offer activity is accepted, declined or cancelled). The
selection looks ahead, as in the literature; so the probabilities are conditioned on an offer being decided: cases that
are lost before an offer are taken out of the model's outcomes. AUC and Brier are averages over prefix lengths, weighted by
cases. The remaining time is scored on all cases: days from the last event of the prefix to the last of the case.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks import real_data
from benchmarks.accuracy.open_deals import SEED, sample_deals
from benchmarks.accuracy.outcome_chain import OutcomeChain, Position
from benchmarks.command import command_line, keep
from forecasting.data.deals import Deals
from forecasting.data.factors import level_codes
from forecasting.data.snapshot import cut, stage_history
from forecasting.proof.scores import auc, brier
from models.history import Factor
from models.stage_model.fit import fit_stages

Floats = NDArray[np.float64]

TRAINING_SHARE, LONGEST_PREFIX = 0.8, 40
DRAWS = 100
OFFER_ACTIVITIES = {"O_ACCEPTED": "WON", "O_DECLINED": "LOST_declined", "O_CANCELLED": "LOST_cancelled"}
SAVED_NAME = "deal_level.csv"


@dataclass(frozen=True)
class Log:
    """A log as deals, and as events with their time.

    Parameters
    ----------
    deals : Deals
    events : DataFrame
        ``deal_id``, ``activity``, ``at`` (UTC), in order within a case.
    entries : DataFrame
        ``deal_id``, ``stage`` (code), ``at``, in order within a case.
    decided : DataFrame
        ``deal_id``, ``outcome`` (stage code), ``at``: final offer decisions.
    offer_stage : int
        First stage with an offer.
    """

    deals: Deals
    events: pd.DataFrame
    entries: pd.DataFrame
    decided: pd.DataFrame
    offer_stage: int


def load_bpic2012(folder: Path) -> Log:
    """Load the BPI Challenge 2012."""
    deals = real_data.load_bpic2012(folder)
    columns = {"case_id": "deal_id", "timestamp": "at", "entered_at": "at"}
    tables = [
        pd.read_csv(folder / "bpic2012" / name, dtype=str, keep_default_na=False).rename(columns=columns)
        for name in ("events.csv.gz", "stage_entries.csv.gz")
    ]
    events, entries = (table.assign(at=pd.to_datetime(table["at"], format="ISO8601", utc=True)) for table in tables)
    events = events[events["lifecycle"] == "COMPLETE"]
    offers = events[events["activity"].str.startswith("O_")].groupby("deal_id", sort=False).tail(1)
    offers = offers[offers["activity"].isin(list(OFFER_ACTIVITIES))]
    stages = deals.graph.stages
    outcome = offers["activity"].map(OFFER_ACTIVITIES).map(stages.index)
    return Log(
        deals=deals,
        events=events[["deal_id", "activity", "at"]].reset_index(drop=True),
        entries=entries.assign(stage=entries["stage"].map(stages.index))[["deal_id", "stage", "at"]],
        decided=offers[["deal_id", "at"]].assign(outcome=outcome),
        offer_stage=stages.index("4_offer_sent"),
    )


def toy_log() -> Log:
    """Make a small log up: every stage entry is an event."""
    deals = sample_deals()
    moves = deals.entries[deals.entries["moved"]]
    ids = deals.deals["deal_id"].to_numpy(dtype=object)[moves["deal"].to_numpy()]
    entries = pd.DataFrame({"deal_id": ids, "stage": moves["stage"].to_numpy(), "at": moves["entered_on"].to_numpy()})
    entries["at"] = entries["at"].dt.tz_localize("UTC")
    closed = entries[entries["stage"] >= deals.graph.n_open].groupby("deal_id", sort=False).tail(1)
    events = entries.assign(activity=entries["stage"].map(lambda code: deals.graph.stages[code]))
    return Log(
        deals=deals,
        events=events[["deal_id", "activity", "at"]],
        entries=entries,
        decided=closed.rename(columns={"stage": "outcome"}),
        offer_stage=0,
    )


def prefixes(log: Log) -> pd.DataFrame:
    """One row per prefix: ``deal_id``, ``length``, ``activity``, ``at``, ``start``, ``remaining`` (days), ``undecided``.

    Beside them the state: ``stage``, ``furthest``, ``looped`` and ``days`` in the stage, dates taken in the log's timezone.
    """
    events = log.events.copy()
    by_case = events.groupby("deal_id", sort=False)
    events["length"] = by_case.cumcount() + 1
    last, start = by_case["at"].transform("max"), by_case["at"].transform("min")
    events["remaining"] = (last - events["at"]).dt.total_seconds() / 86400.0
    events["start"] = start
    ends = log.entries[log.entries["stage"] >= log.deals.graph.n_open].groupby("deal_id")["at"].max()
    ends = pd.concat([ends, log.decided.set_index("deal_id")["at"]]).groupby(level=0).min()
    events["undecided"] = ~(events["at"] >= events["deal_id"].map(ends))
    state = pd.merge_asof(
        events.sort_values("at", kind="stable"),
        states(log).sort_values("at", kind="stable"),
        on="at",
        by="deal_id",
        direction="backward",
    )
    zone = log.deals.timezone
    today, entered = (state[name].dt.tz_convert(zone).dt.tz_localize(None).dt.normalize() for name in ("at", "entered"))
    state["days"] = (today - entered).dt.days
    return state[state["stage"].notna()].astype(
        {"stage": np.int64, "furthest": np.int64, "looped": np.int64, "days": np.int64}
    )


def states(log: Log) -> pd.DataFrame:
    """State after every stage entry; entries at the same moment leave the last one standing."""
    entries = log.entries.copy()
    open_stage = entries["stage"].where(entries["stage"] < log.deals.graph.n_open, -1)
    entries["furthest"] = open_stage.groupby(entries["deal_id"], sort=False).cummax()
    before = entries.groupby("deal_id", sort=False)["furthest"].shift(1, fill_value=-1)
    entries["looped"] = before >= entries["stage"]
    entries["entered"] = entries["at"]
    return entries.drop_duplicates(["deal_id", "at"], keep="last")


def measure(log: Log) -> pd.DataFrame:
    """Score the test cases; a row per question with the stage model beside the share by last activity."""
    table = prefixes(log)
    decided = table.merge(log.decided[["deal_id", "outcome"]], on="deal_id")
    rows: list[dict[str, object]] = []
    for scored, told in ((decided, _outcome_rows), (table, _time_rows)):
        longest = min(LONGEST_PREFIX, int(scored.groupby("deal_id").size().quantile(0.9)))
        scored = scored[scored["length"] <= longest]
        starts = scored.groupby("deal_id")["start"].first().sort_values()
        split = starts.iloc[int(TRAINING_SHARE * len(starts))]
        training, test = scored[(scored["start"] < split) & (scored["at"] < split)], scored[scored["start"] >= split]
        chain, factor = _chain(log, split)
        for which in ("all", "undecided"):
            learned, asked = (part[part["undecided"] | (which == "all")] for part in (training, test))
            about = {"prefixes": which, "longest": longest, "cases": asked["deal_id"].nunique()}
            rows.extend({**about, **row} for row in told(log, learned, asked, chain, _position(log, asked, factor)))
    return pd.DataFrame(rows)


def _chain(log: Log, split: pd.Timestamp) -> tuple[OutcomeChain, Factor]:
    """Fit the stage model to what was known before the day of the split; gives the classes of amount as well."""
    as_of = split.tz_convert(log.deals.timezone).date() - timedelta(days=1)
    snapshot = cut(log.deals, as_of=as_of, covariates=("amount", "looped"))
    posterior = fit_stages(stage_history(snapshot), durations="piecewise", inference="fast", draws=DRAWS, seed=SEED)
    return OutcomeChain(posterior, log.deals.graph, offer_stage=log.offer_stage), snapshot.factors[0]


def _position(log: Log, table: pd.DataFrame, factor: Factor) -> Position:
    """Where the deals of the prefixes stand."""
    amount = log.deals.deals.set_index("deal_id")["amount"].reindex(table["deal_id"]).to_numpy(dtype=float)
    return Position(
        stage=table["stage"].to_numpy(),
        furthest=table["furthest"].to_numpy(),
        looped=table["looped"].to_numpy(),
        days=table["days"].to_numpy(),
        level=level_codes(factor, amount),
    )


def _outcome_rows(
    log: Log, training: pd.DataFrame, test: pd.DataFrame, chain: OutcomeChain, position: Position
) -> Iterator[dict[str, object]]:
    """AUC and Brier of every outcome."""
    stages, told = log.deals.graph.stages, chain.outcomes(position)
    for code in range(log.deals.graph.n_open, len(stages)):
        happened = (test["outcome"] == code).to_numpy(dtype=bool)
        share = (training["outcome"] == code).groupby(training["activity"]).mean()
        rule = test["activity"].map(share).fillna((training["outcome"] == code).mean()).to_numpy(dtype=float)
        length, ours_told = test["length"].to_numpy(), told[:, code - log.deals.graph.n_open]
        for name in ("AUC", "Brier"):
            ours, theirs = (_by_length(length, told_by, happened, score=name) for told_by in (ours_told, rule))
            yield {"question": stages[code], "score": name, "stage model": ours, "by last activity": theirs}


def _by_length(length: NDArray[np.int64], chance: NDArray[Any], happened: NDArray[Any], *, score: str) -> float:
    """Average over prefix lengths, weighted by cases; lengths at which all cases end alike have no AUC."""
    total, cases = 0.0, 0
    for value in np.unique(length):
        rows = length == value
        found = auc(chance[rows], happened[rows]) if score == "AUC" else brier(chance[rows], happened[rows])
        if np.isfinite(found):
            total, cases = total + found * int(rows.sum()), cases + int(rows.sum())
    return total / max(cases, 1)


def _time_rows(
    log: Log, training: pd.DataFrame, test: pd.DataFrame, chain: OutcomeChain, position: Position
) -> Iterator[dict[str, object]]:
    """Mean absolute error of the remaining days."""
    typical = training.groupby("activity")["remaining"].median()
    rule = test["activity"].map(typical).fillna(training["remaining"].median()).to_numpy(dtype=float)
    truth = test["remaining"].to_numpy()
    ours = chain.median_remaining_days(position)
    yield {
        "question": "remaining days",
        "score": "MAE",
        "stage model": float(np.abs(ours - truth).mean()),
        "by last activity": float(np.abs(rule - truth).mean()),
    }


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark and print its table."""
    asked = command_line(__doc__, toy="sample data", kept="the figures").parse_args(argv)
    log = real_data.toy_or_logs(toy_log, load_bpic2012, toy=asked.toy)
    if log is None:
        return 0
    table = measure(log)
    print(table.round(4).to_string(index=False))
    if asked.save:
        keep(table, asked.folder / SAVED_NAME, digits=6)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
