"""Cutting at a date: what was known then by brute force, and nothing that came later."""

from dataclasses import replace
from datetime import date, timedelta
from itertools import zip_longest

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from forecasting.data.deals import Deals, deals_from_frames
from forecasting.data.sample import DemoHistory, demo_history
from forecasting.data.snapshot import Snapshot, cut, stage_history, within
from forecasting.fitting import fit_snapshot
from forecasting.proof.stay_table import day_of, known_at, stay_table
from models.errors import EmptyInputError, SettingsError
from models.history import STILL_OPEN, UNSEEN_LEVEL
from models.posterior import ModelSpec
from models.stages import StageGraph

GRAPH = StageGraph(open=("Lead", "Proposal", "Negotiation"), won=("Won", "Renewed"), lost=("Lost", "No decision"))
LEAD, PROPOSAL, NEGOTIATION, WON, RENEWED, LOST, NO_DECISION = range(7)
COLUMNS = ["deal_id", "stage", "entered_at", "amount"]


def day(number: int) -> str:
    return str(date(2026, 1, 1) + timedelta(days=number))


def deals_of(*rows: tuple[str, str, int, float | None], amount: float | None = 100.0, **columns: list[object]) -> Deals:
    moves = pd.DataFrame([(name, stage, day(at), value) for name, stage, at, value in rows], columns=COLUMNS)
    names = list(dict.fromkeys(moves["deal_id"]))
    first = moves.groupby("deal_id")["entered_at"].min()
    table = pd.DataFrame({"deal_id": names, "created_at": [first[name] for name in names], "amount": amount, **columns})
    return deals_from_frames(table, moves, stages=GRAPH)


def stays_of(snapshot: Snapshot, deal_id: str = "A") -> list[tuple[int, int, int]]:
    rows = snapshot.stays[snapshot.stays["deal_id"] == deal_id]
    return list(zip(rows["stage"], rows["next"], rows["days"], strict=True))


def dated(n: int, *, closed_on_it: bool, kind: type = str) -> Deals:
    """Deals created a day apart, expected to close ten days later times the number's last digit, won after fifteen."""
    names = [f"{number:04d}" for number in range(n)]
    created = [date(2026, 1, 1) + timedelta(days=number) for number in range(n)]
    closed = [first + timedelta(days=15) for first in created]
    expected = closed if closed_on_it else [first + timedelta(days=10 * (i % 10)) for i, first in enumerate(created)]
    moves = pd.DataFrame(
        [(name, "Lead", first) for name, first in zip(names, created, strict=True)]
        + [(name, "Won", last) for name, last in zip(names, closed, strict=True)],
        columns=COLUMNS[:3],
    )
    table = pd.DataFrame({"deal_id": names, "created_at": created, "amount": 1.0})
    table["expected_close"] = [kind(each) if i % 50 else None for i, each in enumerate(expected)]
    return deals_from_frames(table, moves, stages=GRAPH)


@pytest.mark.parametrize("kind", [str, pd.Timestamp, lambda each: each, lambda each: f"{each} 09:30:00"])
def test_a_date_counts_as_days_from_the_creation_of_the_deal(kind: type) -> None:
    snapshot = cut(dated(700, closed_on_it=False, kind=kind), as_of=date(2027, 12, 31), covariates=["expected_close"])
    factor = snapshot.factors[0]
    assert factor.edges == (20.0, 40.0, 60.0, 80.0)
    assert factor.levels[-1] == "missing"
    level = snapshot.cells[snapshot.stays["cell"].to_numpy(), 0]
    of_digit = [factor.levels[code] for code in level[1:10]]
    assert of_digit[:2] == ["under 20", "20 to 40"]
    assert of_digit[-1] == "80 and more"
    assert factor.levels[level[0]] == "missing"


def test_a_date_that_closing_overwrote_is_refused() -> None:
    deals = dated(200, closed_on_it=True)
    with pytest.raises(SettingsError, match="expected_close is the very day of closing in 98% of closed deals"):
        cut(deals, as_of=date(2027, 12, 31), covariates=["expected_close"])
    assert cut(deals, as_of=date(2026, 2, 1), covariates=["expected_close"]).factors  # too few have closed to tell


@pytest.mark.parametrize("written", [["100", "0"], ["competitor", None]])
def test_what_became_of_a_deal_is_no_covariate(written: list[str | None]) -> None:
    """The chance of winning that a CRM sets to 100 or 0 on closing, or a reason that only one kind of ending has."""
    names = [f"{number:04d}" for number in range(300)]
    rows = [(name, "Lead", i, None) for i, name in enumerate(names)]
    ended = names[:200]
    rows += [(name, "Won" if i % 3 else "Lost", i + 9, None) for i, name in enumerate(ended)]
    known = [written[0 if i % 3 else 1] if i < 200 else "40" for i in range(300)]
    deals = deals_of(*rows, mark=known, source=[f"s{i % 2}" for i in range(300)])
    for wanted in ({"covariates": ["mark"]}, {"segment": ["mark"]}):
        with pytest.raises(SettingsError, match=r"mark tells won from lost in 100.0% of closed deals"):
            cut(deals, as_of=day(400), **wanted)
    assert cut(deals, as_of=day(400), covariates=["source"]).factors[0].levels == ("s0", "s1")


def test_words_among_dates_make_a_category() -> None:
    deals = deals_of(("A", "Lead", 0, None), ("B", "Lead", 0, None), renewal=["2026-05-01", "never"])
    assert cut(deals, as_of=day(9), covariates=["renewal"]).factors[0].levels == ("2026-05-01", "never")


# --- one deal at a time --------------------------------------------------------------------------------------


def test_skips_back_moves_and_same_day_moves_are_ordinary_stays() -> None:
    deals = deals_of(
        ("A", "Lead", 0, None), ("A", "Negotiation", 0, None), ("A", "Proposal", 4, None), ("A", "Lost", 9, None)
    )
    assert stays_of(cut(deals, as_of=day(20))) == [
        (LEAD, NEGOTIATION, 0),
        (NEGOTIATION, PROPOSAL, 4),
        (PROPOSAL, LOST, 5),
    ]
    assert stays_of(cut(deals, as_of=day(6))) == [
        (LEAD, NEGOTIATION, 0),
        (NEGOTIATION, PROPOSAL, 4),
        (PROPOSAL, STILL_OPEN, 2),
    ]
    assert stays_of(cut(deals, as_of=day(4)))[-1] == (PROPOSAL, STILL_OPEN, 0)


def test_a_stage_entered_twice_in_a_row_is_one_stay() -> None:
    deals = deals_of(("A", "Lead", 0, 10.0), ("A", "Lead", 3, 20.0), ("A", "Proposal", 8, None))
    snapshot = cut(deals, as_of=day(9))
    assert stays_of(snapshot) == [(LEAD, PROPOSAL, 8), (PROPOSAL, STILL_OPEN, 1)]
    assert snapshot.stays["amount"].tolist() == [20.0, 20.0]


def test_a_reopened_deal_lives_again_and_its_revenue_counts_once_at_the_last_win() -> None:
    deals = deals_of(
        ("A", "Lead", 0, 50.0),
        ("A", "Won", 5, 60.0),
        ("A", "Proposal", 10, 60.0),
        ("A", "Won", 20, 70.0),
        ("A", "Won", 25, 80.0),
    )
    assert cut(deals, as_of=day(7)).won[["won_on", "amount"]].to_numpy().tolist() == [[pd.Timestamp(day(5)), 60.0]]
    reopened = cut(deals, as_of=day(12))
    assert reopened.won.empty
    assert reopened.pipeline.deals[["stage", "days_in_stage", "amount"]].to_numpy().tolist() == [[PROPOSAL, 2, 60.0]]
    again = cut(deals, as_of=day(30))
    assert again.won[["won_on", "amount"]].to_numpy().tolist() == [[pd.Timestamp(day(20)), 80.0]]
    assert stays_of(again) == [(LEAD, PROPOSAL, 5), (PROPOSAL, WON, 10)]  # the first win came to nothing
    assert len(again.arrivals) == 1


@pytest.mark.parametrize(
    ("closed", "then", "after_days", "led"),
    [
        ("Won", "Proposal", 20, STILL_OPEN),
        ("Lost", "Proposal", 20, STILL_OPEN),
        ("Won", "Lead", 1, LEAD),
        ("Won", "Lost", 30, LOST),
        ("Lost", "Won", 3, WON),
        ("Won", "Proposal", 31, WON),
        ("Won", "Lost", 31, WON),
        ("Lost", "Proposal", 31, LOST),
    ],
)
def test_a_close_soon_taken_back_is_none_from_the_day_that_is_known(
    closed: str, then: str, after_days: int, led: int
) -> None:
    deals = deals_of(
        ("A", "Lead", 0, 9.0), ("A", "Proposal", 4, 9.0), ("A", closed, 10, 9.0), ("A", then, 10 + after_days, 9.0)
    )
    before, known = cut(deals, as_of=day(9 + after_days)), cut(deals, as_of=day(10 + after_days))
    assert stays_of(before) == [(LEAD, PROPOSAL, 4), (PROPOSAL, WON if closed == "Won" else LOST, 6)]
    assert stays_of(known)[:2] == [(LEAD, PROPOSAL, 4), (PROPOSAL, led, 6)]
    is_open = then in ("Lead", "Proposal")
    assert known.pipeline.deals["stage"].tolist() == ([known.graph.code(then)] if is_open else [])
    assert known.won["deal_id"].tolist() == (["A"] if then == "Won" else [])
    quick = known_at(stay_table(deals), day_of(known.as_of))
    assert quick.exit_code[:2].tolist() == [PROPOSAL, led]
    assert quick.is_open.tolist() == [False, False] + [True] * is_open
    assert quick.ended_in_loss.tolist()[:2] == [False, led == LOST and not is_open]


def test_from_one_won_stage_to_the_next_a_deal_is_won_once() -> None:
    deals = deals_of(
        ("A", "Lead", 0, 50.0),
        ("A", "Won", 5, None),
        ("A", "Renewed", 35, 60.0),
        ("B", "Lead", 0, 10.0),
        ("B", "Lost", 8, None),
    )
    late = cut(deals, as_of=day(40))
    assert late.won[["deal_id", "won_on", "amount"]].to_numpy().tolist() == [["A", pd.Timestamp(day(5)), 60.0]]
    assert known_at(stay_table(deals), day_of(date.fromisoformat(day(40)))).stands.tolist() == [True, True]


def test_an_amount_is_not_that_of_the_next_deal_whose_first_entry_counts_for_nothing() -> None:
    deals = deals_of(("A", "Lead", 0, None), ("B", "Won", 0, 1.0), ("B", "Renewed", 0, None))
    assert cut(deals, as_of=day(0)).pipeline.deals["amount"].tolist() == [100.0]


def test_a_close_taken_back_the_same_day_is_none() -> None:
    deals = deals_of(("A", "Lead", 0, 9.0), ("A", "Won", 5, None), ("A", "Lost", 5, None), ("B", "Lead", 0, 9.0))
    snapshot = cut(deals, as_of=day(9))
    assert snapshot.won.empty
    assert stays_of(snapshot) == [(LEAD, LOST, 5)]
    at = [("A", "Lead", f"{day(0)}T08:00"), ("A", "Won", f"{day(5)}T09:00"), ("A", "Lead", f"{day(5)}T10:00")]
    table = pd.DataFrame({"deal_id": ["A"], "created_at": [f"{day(0)}T08:00"], "amount": [9.0]})
    history = pd.DataFrame(at, columns=["deal_id", "stage", "entered_at"])
    undone = cut(deals_from_frames(table, history, stages=GRAPH), as_of=day(9))
    assert stays_of(undone) == [(LEAD, STILL_OPEN, 9)]


def test_a_deal_won_the_day_it_is_created_arrives_with_the_win() -> None:
    deals = deals_of(
        ("A", "Renewed", 3, None),
        ("B", "Lead", 0, None),
        ("B", "Lost", 3, None),
        ("C", "Won", 4, 7.0),
        ("C", "Lead", 6, 8.0),
    )
    late, soon = (
        cut(
            replace(
                deals,
                deals=deals.deals.assign(
                    created_on=deals.deals["created_on"].where(
                        deals.deals["deal_id"] != "A", pd.Timestamp(day(created))
                    )
                ),
            ),
            as_of=day(9),
        )
        for created in (1, 2)
    )
    snapshot, before = cut(deals, as_of=day(9)), cut(deals, as_of=day(5))
    columns = ["deal_id", "arrived_on", "stage", "cell", "amount"]
    lead = ["B", pd.Timestamp(day(0)), LEAD, 0, 100.0]
    a, c = ["A", pd.Timestamp(day(3)), RENEWED, 0, 100.0], ["C", pd.Timestamp(day(4)), WON, 0, 7.0]
    assert before.arrivals[columns].to_numpy().tolist() == [lead, a, c]
    assert snapshot.arrivals[columns].to_numpy().tolist() == [
        lead,
        ["C", pd.Timestamp(day(6)), LEAD, 0, 8.0],
        a,
    ]  # taken back
    assert late.arrivals["deal_id"].tolist() == ["B", "C"]  # told only once it was won, and created before
    assert soon.arrivals["deal_id"].tolist() == ["B", "C", "A"]  # a night lies between
    assert snapshot.won["deal_id"].tolist() == late.won["deal_id"].tolist() == ["A"]
    assert set(snapshot.stays["deal_id"]) == {"B", "C"}
    for until, expected in ((5, 107.0), (9, 100.0)):
        known = known_at(stay_table(deals), day_of(date.fromisoformat(day(until))))
        assert known.revenue(after=day_of(date.fromisoformat(day(0))), until=known.as_of) == expected
        assert known.revenue(after=day_of(date.fromisoformat(day(0))), until=known.as_of, open_deals_only=True) == 0.0


def test_what_is_entered_as_won_for_nothing_is_worth_nothing_though_zeros_of_leads_stand_for_none() -> None:
    rows: list[tuple[str, str, int, float | None]] = []
    for at in range(300):
        name = f"L{at}"
        rows += [(name, "Lead", at, 0.0 if at >= 290 else 50.0), (f"F{at}", "Won", at, 0.0)]
        rows += [(name, "Lost" if at % 2 else "Won", at + 10, 50.0)] if at < 290 else []
    entries = [(name, stage, at, None) for name, stage, at, _ in rows]  # the deals table alone has amounts
    deals = deals_of(*entries)
    names = deals.deals["deal_id"].astype(str)
    worth = np.where(names.str.startswith("F"), 0.0, np.where(names.str.slice(1).astype(int) >= 290, 0.0, 50.0))
    deals = replace(deals, deals=deals.deals.assign(amount=worth))
    found = cut(deals, as_of=day(299))
    assert found.unknown == (0.0,)
    assert found.pipeline.deals["amount"].isna().all()
    free = found.arrivals["deal_id"].str.startswith("F")
    assert (found.arrivals.loc[free, "amount"] == 0.0).all()
    assert (found.won.loc[found.won["deal_id"].str.startswith("F"), "amount"] == 0.0).all()
    known = known_at(stay_table(deals), day_of(found.as_of))
    assert (known.amount[known.at_once[0]] == 0.0).all()
    assert np.isnan(known.amount[known.deal[known.is_open]]).all()


def test_amounts_are_the_last_told_by_then_and_the_tables_only_where_none_was_told() -> None:
    deals = deals_of(
        ("A", "Lead", 0, None), ("A", "Proposal", 4, 70.0), ("A", "Won", 9, 90.0), ("B", "Lead", 0, None), amount=90.0
    )
    assert cut(deals, as_of=day(5)).pipeline.deals["amount"].tolist() == [70.0, 90.0]
    late = cut(deals, as_of=day(9))
    assert late.won["amount"].tolist() == [90.0]
    assert late.stays["amount"].tolist() == [90.0, 70.0, 90.0]
    assert late.stays["amount_told"].tolist() == [False, True, False]


def test_where_the_history_tells_the_amounts_of_open_deals_they_are_missing_before_it_does() -> None:
    deals = deals_of(
        ("A", "Lead", 0, None), ("A", "Proposal", 4, 70.0), ("A", "Won", 9, 90.0), ("B", "Lead", 0, 40.0), amount=90.0
    )
    found = cut(deals, as_of=day(9))
    np.testing.assert_array_equal(found.stays["amount"], [np.nan, 70.0, 40.0])
    assert found.won["amount"].tolist() == [90.0]


def test_segments_and_owners_travel_with_the_deal() -> None:
    deals = deals_of(
        ("A", "Lead", 0, None),
        ("B", "Won", 0, None),
        region=["North", None],
        year=[2026.0, 2025.0],
        owner=["Ann", "Bob"],
    )
    snapshot = cut(deals, as_of=day(1), segment=["region", "year"])
    assert snapshot.pipeline.deals["segment"].tolist() == ["North / 2026"]
    assert snapshot.won["segment"].tolist() == ["(missing) / 2025"]
    assert snapshot.pipeline.deals["owner"].tolist() == ["Ann"]
    assert [factor.levels for factor in snapshot.factors] == [("(missing)", "North"), ("2025", "2026")]
    assert cut(deals, as_of=day(1)).pipeline.deals["segment"].tolist() == [""]


def test_looped_means_having_been_in_that_stage_or_a_later_one() -> None:
    deals = deals_of(
        ("A", "Lead", 0, None), ("A", "Proposal", 1, None), ("A", "Lead", 2, None), ("A", "Negotiation", 3, None),
        ("A", "Lost", 4, None), ("A", "Proposal", 5, None), ("B", "Negotiation", 0, None),
    )  # fmt: skip
    snapshot = cut(deals, as_of=day(9), covariates=["looped"])
    looped = snapshot.cells[snapshot.stays["cell"].to_numpy(), 0]
    assert looped.tolist() == [0, 0, 1, 0, 1, 0]


def test_nothing_known_yet_is_an_error() -> None:
    with pytest.raises(EmptyInputError, match="the first stage entry is on 2026-01-04"):
        cut(deals_of(("A", "Lead", 3, None)), as_of=day(2))


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"segment": ["regio"]}, "no column 'regio'.*did you mean 'region'"),
        ({"covariates": ["log_amout"]}, "did you mean 'log_amount'"),
        ({"segment": ["region"], "covariates": ["region"]}, "cannot be a segment and a covariate"),
        ({"segment": ["region", "region"]}, "names a column twice"),
        ({"segment": ["region"], "factors": []}, "do not belong"),
        ({"as_of": "soon"}, "must be a date"),
    ],
)
def test_wrong_settings_name_what_is_wrong(options: dict[str, object], match: str) -> None:
    deals = deals_of(("A", "Lead", 3, None), region=["North"])
    with pytest.raises(SettingsError, match=match):
        cut(deals, **({"as_of": day(9)} | options))  # type: ignore[arg-type]


# --- against brute force -------------------------------------------------------------------------------------


def by_hand(
    deals: Deals, as_of: str
) -> tuple[list[tuple[object, ...]], list[tuple[object, ...]], list[tuple[object, ...]]]:
    """Stays, open deals and wins, one deal and one entry at a time."""
    stays: list[tuple[object, ...]] = []
    pipeline: list[tuple[object, ...]] = []
    won: list[tuple[object, ...]] = []
    end = pd.Timestamp(as_of)
    for name, rows in deals.entries.groupby("deal_id"):
        table_amount = deals.deals.set_index("deal_id")["amount"][name]
        visits: list[list[object]] = []
        told = None
        known = [row for row in rows.sort_values("order").itertuples() if row.entered_on <= end]
        for row, after in zip_longest(known, known[1:]):
            told = row.amount if not np.isnan(row.amount) else told
            if after is not None and row.stage >= GRAPH.n_open and after.entered_on == row.entered_on:
                continue  # taken back the same day
            if not visits or (visits[-1][0] != row.stage and not {visits[-1][0], row.stage} <= set(GRAPH.won_codes)):
                visits.append([row.stage, row.entered_on])
        for place, (stage, since) in enumerate(visits):
            if stage < GRAPH.n_open:
                following = visits[place + 1 :] or [[STILL_OPEN, end]]
                came = [led for led, _ in following if led < GRAPH.n_open]  # closes are taken back soon here, if at all
                led = came[0] if came else following[-1][0]
                stays.append((name, stage, STILL_OPEN if led == stage else led, (following[0][1] - since).days))
        if visits:
            stage, since = visits[-1]
            amount = table_amount if told is None else told
            if stage < GRAPH.n_open:
                pipeline.append((name, stage, (end - since).days, amount))
            elif stage in GRAPH.won_codes:
                won.append((name, since, amount))
    return stays, pipeline, won


moves = st.tuples(
    st.sampled_from("ABC"), st.sampled_from(GRAPH.stages), st.integers(0, 12), st.sampled_from([None, 1.0, 2.0, 3.0])
)
lawful = settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@lawful
@given(st.lists(moves, min_size=1, max_size=14), st.integers(0, 12))
def test_a_snapshot_is_what_brute_force_finds_and_ignores_the_future(
    rows: list[tuple[str, str, int, float | None]], at: int
) -> None:
    deals = deals_of(("Z", "Lead", 0, None), *rows)
    snapshot = cut(deals, as_of=day(at))
    stays, pipeline, won = by_hand(deals, day(at))
    keys = ["deal_id", "stage", "next", "days"]
    assert sorted(map(tuple, snapshot.stays[keys].to_numpy())) == sorted(stays)
    open_now = snapshot.pipeline.deals[["deal_id", "stage", "days_in_stage", "amount"]]
    assert list(map(tuple, open_now.to_numpy())) == pipeline
    assert list(map(tuple, snapshot.won[["deal_id", "won_on", "amount"]].to_numpy())) == won
    assert stage_history(snapshot).n_stays == len(stays)
    prefix = deals_of(*[row for row in [("Z", "Lead", 0, None), *rows] if row[2] <= at])
    assert cut(prefix, as_of=day(at)).content_hash() == snapshot.content_hash()


# --- on a whole history --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def demo() -> DemoHistory:
    return demo_history(seed=5, n_deals=700, months=18, faulty_rows=False)


ALL_FACTORS = {"segment": ["region"], "covariates": ["log_amount", "looped", "source", "seats"]}


def read(table: pd.DataFrame, entries: pd.DataFrame, graph: StageGraph) -> Deals:
    seats = table["deal_id"].str.slice(2).map(lambda text: str(int(text) % 37) if text.isdigit() else "5")
    return deals_from_frames(table.assign(seats=seats), entries, stages=graph, timezone="Europe/Amsterdam")


def test_poisoning_the_future_changes_nothing(demo: DemoHistory) -> None:
    as_of = "2026-03-31"
    clean = cut(read(demo.deals, demo.stage_history, demo.graph), as_of=as_of, **ALL_FACTORS)
    later = demo.stage_history["entered_at"].str.slice(0, 10) > as_of
    rng = np.random.default_rng(3)
    entries = demo.stage_history.copy()
    entries.loc[later, "stage"] = rng.choice(demo.graph.stages, later.sum())
    entries.loc[later, "amount"] = rng.choice(["", "1", "-7", "junk", "99999999"], later.sum())
    entries.loc[later, "entered_at"] = rng.choice(["2026-04-01T09:00:00Z", "2026-09-09T09:00:00Z"], later.sum())
    fresh = pd.DataFrame(
        {"deal_id": demo.deals["deal_id"], "stage": "Won", "entered_at": "2026-05-01", "amount": "123456"}
    )
    new = pd.DataFrame({"deal_id": ["N-1", "N-2"], "stage": "Lead", "entered_at": "2026-04-02", "amount": "5"})
    table = demo.deals[demo.deals["created_at"] <= as_of]
    unseen = pd.DataFrame({"deal_id": ["N-1", "N-2"], "created_at": "2026-04-02", "amount": "1e9", "region": "Mars"})
    unseen = unseen.assign(owner="X", account="Y", source="Z")
    twins = table.head(9).assign(created_at="2026-04-03", amount="3", region="Mars")
    poisoned = read(pd.concat([table, unseen, twins]), pd.concat([entries, fresh, new]), demo.graph)
    assert cut(poisoned, as_of=as_of, **ALL_FACTORS).content_hash() == clean.content_hash()
    assert cut(poisoned, as_of="2026-04-30", **ALL_FACTORS).content_hash() != clean.content_hash()


def test_an_extract_taken_then_gives_the_same_snapshot(demo: DemoHistory) -> None:
    as_of = "2026-03-31"
    full = cut(read(demo.deals, demo.stage_history, demo.graph), as_of=as_of, **ALL_FACTORS)
    table = demo.deals[demo.deals["created_at"] <= as_of]
    entries = demo.stage_history[demo.stage_history["entered_at"].str.slice(0, 10) <= as_of]
    assert cut(read(table, entries, demo.graph), as_of=as_of, **ALL_FACTORS).content_hash() == full.content_hash()


def test_cells_hold_the_levels_of_the_deals(demo: DemoHistory) -> None:
    deals = read(demo.deals, demo.stage_history, demo.graph)
    snapshot = cut(deals, as_of="2026-09-30", **ALL_FACTORS)
    names = [factor.name for factor in snapshot.factors]
    assert names == ["region", "amount", "looped", "source", "seats"]
    assert len(np.unique(snapshot.cells, axis=0)) == len(snapshot.cells)
    table = deals.deals.set_index("deal_id")
    for rows in (snapshot.pipeline.deals, snapshot.arrivals, snapshot.stays):
        cells = snapshot.cells[rows["cell"].to_numpy()]
        for name in ("region", "source"):
            levels = np.array(snapshot.factors[names.index(name)].levels)
            assert (levels[cells[:, names.index(name)]] == table.loc[rows["deal_id"], name].to_numpy()).all()
    amounts = snapshot.pipeline.deals["amount"].to_numpy()
    factor, codes = snapshot.factors[1], snapshot.cells[snapshot.pipeline.deals["cell"].to_numpy(), 1]
    by_hand = [
        sum(amount >= edge for edge in factor.edges) if amount == amount else len(factor.levels) - 1
        for amount in amounts
    ]
    assert codes.tolist() == by_hand
    assert snapshot.pipeline.cells is snapshot.cells


def test_factors_of_an_earlier_fit_are_kept_and_new_levels_are_unseen(demo: DemoHistory) -> None:
    deals = read(demo.deals, demo.stage_history, demo.graph)
    early = cut(deals, as_of="2026-03-31", **ALL_FACTORS)
    table = demo.deals.copy()
    newest = table["created_at"] > "2026-03-31"
    table.loc[newest, "region"] = "Mars"
    late = cut(read(table, demo.stage_history, demo.graph), as_of="2026-09-30", factors=early.factors, **ALL_FACTORS)
    assert late.factors == early.factors
    unseen = late.cells[late.arrivals["cell"].to_numpy(), 0] == UNSEEN_LEVEL
    assert set(late.arrivals.loc[unseen, "segment"]) == {"Mars"}
    assert not (late.arrivals.loc[~unseen, "segment"] == "Mars").any()
    same = cut(deals, as_of="2026-03-31", factors=early.factors, **ALL_FACTORS)
    assert same.content_hash() == early.content_hash()


def test_a_window_leaves_out_what_began_before_it_and_keeps_the_pipeline() -> None:
    demo = demo_history(seed=2, n_deals=150, months=14)
    deals = deals_from_frames(demo.deals, demo.stage_history, stages=demo.graph, timezone="UTC")
    whole = cut(deals, as_of=demo.as_of)
    recent = within(whole, 90)
    for table, column in (("stays", "entered_on"), ("won", "won_on"), ("arrivals", "arrived_on")):
        kept, all_of_it = getattr(recent, table), getattr(whole, table)
        assert 0 < len(kept) < len(all_of_it)
        assert len(kept) == (all_of_it[column] > pd.Timestamp(demo.as_of - timedelta(days=90))).sum()
    assert recent.pipeline is whole.pipeline
    spec = ModelSpec(covariates=(), durations="piecewise", inference="fast", draws=20, window_days=90)
    by_window, by_hand = (
        fit_snapshot(s, spec=each) for s, each in ((whole, spec), (recent, replace(spec, window_days=None)))
    )
    np.testing.assert_array_equal(by_window.arrivals.log_level, by_hand.arrivals.log_level)
    assert by_window.spec.window_days == 90


def test_amounts_told_in_millions_are_asked_about() -> None:
    deals = dated(200, closed_on_it=False)
    told = {unit: replace(deals, deals=deals.deals.assign(amount=deals.deals["amount"] * unit)) for unit in (1.0, 1e-6)}
    said = {unit: cut(each, as_of=date(2027, 12, 31)).notes for unit, each in told.items()}
    assert [sum("less than 1:" in note for note in notes) for notes in said.values()] == [0, 1]
