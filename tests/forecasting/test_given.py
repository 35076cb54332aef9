"""Tables people give: commits and plans, read or refused in words that help."""

from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from planted_floor import (
    AS_OF,
    open_pipeline,
    planted_amounts,
    planted_arrivals,
    planted_stage,
    posterior_of,
    snapshot_of,
)

from forecasting.answers.forecasts import forecast_snapshot, with_plan
from forecasting.data.given import arrival_plan, commit_table, plan_table, read_commits, read_plan
from models.arrivals.plan import ALL_GROUPS, PlannedDeals
from models.errors import EmptyInputError, InputError, MissingColumnError, SettingsError
from models.posterior import Posterior


def written(folder: Path, text: str) -> Path:
    path = folder / "table.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_commits_are_read_with_and_without_an_end(tmp_path: Path) -> None:
    path = written(tmp_path, "as_of,amount,until\n2026-03-31, 500000,2026-06-30\n2026-06-30,4e5,\n")
    found = read_commits(path)
    assert found["amount"].tolist() == [500_000.0, 400_000.0]
    assert found["until"].isna().tolist() == [False, True]
    assert found["target"].isna().all()


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        ("as_of,money\n2026-03-31,5\n", MissingColumnError, "column amount is missing; there are as_of, money"),
        ("as_of,amount\n31.3.2026,5\n", InputError, "row 1: as_of must be a date such as 2026-09-30, got '31.3.2026'"),
        ("as_of,amount\n2026-03-31,5\n2026-04-30,much\n", InputError, "row 2: amount must be a number"),
        ("as_of,amount\n2026-03-31,-5\n", InputError, "zero or more, got '-5'"),
        ("as_of,amount,target\n2026-03-31,,\n", InputError, "neither amount nor target"),
        ("as_of,amount\n2026-03-31,5\n2026-03-31,6\n", InputError, "2026-03-31 is told twice"),
        ("as_of,amount\n", EmptyInputError, "no rows"),
    ],
)
def test_commits_that_cannot_be_used(tmp_path: Path, text: str, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        read_commits(written(tmp_path, text))


def test_periods_are_months_weeks_or_as_told(tmp_path: Path) -> None:
    months = read_plan(written(tmp_path, "period_start,deals\n2026-10-01,80\n2026-02-01,75\n"))
    assert months["period_end"].tolist() == [date(2026, 10, 31), date(2026, 2, 28)]
    weeks = plan_table(pd.DataFrame({"period_start": ["2026-10-05", "2026-10-12"], "deals": [20, 21.5]}))
    assert weeks["period_end"].tolist() == [date(2026, 10, 11), date(2026, 10, 18)]
    told = pd.DataFrame({"period_start": ["2026-10-03"], "period_end": [date(2026, 10, 9)], "deals": ["7"]})
    pd.testing.assert_frame_equal(plan_table(months), months)
    assert plan_table(told).iloc[0].tolist() == [date(2026, 10, 3), date(2026, 10, 9), None, 7.0]


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ({"period_start": ["2026-10-01", "2026-10-05"], "deals": [1, 2]}, "neither all on the first of a month"),
        ({"period_start": ["2026-10-05"], "period_end": ["2026-10-01"], "deals": [1]}, "lies before period_start"),
        ({"period_start": ["2026-10-05"], "deals": [None]}, "row 1: deals is empty"),
        ({"period_start": ["2026-10-05"], "deals": [2.5e6]}, "expected a number of deals, at most 1,000,000"),
    ],
)
def test_plans_that_cannot_be_used(rows: dict[str, list[object]], words: str) -> None:
    with pytest.raises(InputError, match=words):
        plan_table(pd.DataFrame(rows))


def test_segments_of_a_plan_must_have_a_past() -> None:
    plan = plan_table(pd.DataFrame({"period_start": ["2026-10-01"] * 2, "deals": [5, 6], "segment": ["N", "S"]}))
    assert arrival_plan(plan, ("N", "S"))[1] == PlannedDeals("2026-10-01", "2026-10-31", 1, 6.0)
    with pytest.raises(SettingsError, match=r"no deal of segment 'S' has arrived so far.*segments are N"):
        arrival_plan(plan, ("N",))
    everyone = plan_table(pd.DataFrame({"period_start": ["2026-10-01"], "deals": [5], "segment": [""]}))
    assert arrival_plan(everyone, ("N",))[0].group == ALL_GROUPS


def floor(draws: int = 3000) -> Posterior:
    arrivals = planted_arrivals(draws, weekly={"North": 7.0, "South": 14.0}, stage=1)
    return posterior_of(planted_stage(draws), planted_amounts(draws), arrivals)


def test_revenue_follows_the_plan() -> None:
    """Three times the deals bring three times the revenue, by a closed form: rate x sum of win chances x amount."""
    until = AS_OF + timedelta(days=14)
    plan = pd.DataFrame({"period_start": [AS_OF + timedelta(days=1)], "period_end": [until], "deals": [126.0]})
    pipeline = open_pipeline([("D1", 1, 3, 1000.0, "North")])
    made = {
        name: forecast_snapshot(snapshot_of(pipeline), each, until=until, seed=2)
        for name, each in {"learned": floor(), "planned": with_plan(floor(), plan)}.items()
    }
    new = {name: each.new_cents.sum(axis=(1, 2)) / 100 for name, each in made.items()}
    chances = sum(4 / 7 * (1 - 0.93**lag) for lag in range(1, 15))
    for name, daily in (("learned", 3.0), ("planned", 9.0)):
        exact = daily * chances
        assert new[name].mean() / 1000 == pytest.approx(exact, abs=4 * np.sqrt(exact / 3000))
        assert new[name].var() / 1e6 == pytest.approx(exact, rel=0.12)
    np.testing.assert_array_equal(made["learned"].open_cents, made["planned"].open_cents)


def test_a_plan_without_new_business_is_refused() -> None:
    with pytest.raises(SettingsError, match="a plan of new deals needs new business"):
        with_plan(floor(10), pd.DataFrame({"period_start": ["2026-10-01"], "deals": [5]}), new_business=False)


def test_commits_stay_as_they_are_when_checked_twice() -> None:
    once = commit_table(pd.DataFrame({"as_of": ["2026-03-31"], "amount": [5e5], "target": [6e5]}))
    pd.testing.assert_frame_equal(commit_table(once), once)
    assert replace(floor(10).arrivals).plan == ()
