"""The accuracy benchmarks run at their toy size."""

import re
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import replace
from io import StringIO
from pathlib import Path
from shutil import copyfile

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from benchmarks.accuracy import (
    companies,
    deal_level,
    lacking,
    levels,
    new_business,
    open_deals,
    partial,
    quirks,
    results,
    shocks,
    variants,
)
from benchmarks.accuracy.outcome_chain import OutcomeChain, Position
from models.hazards import PlantedHazards
from models.stages import StageGraph


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with what every benchmark keeps, and what it printed beside it."""
    folder = tmp_path_factory.mktemp("docs") / "results"
    for name, run in {
        "open_deals": open_deals.main,
        "deal_level": deal_level.main,
        "shocks": shocks.main,
        "quirks": quirks.main,
        "lacking": lacking.main,
        "partial": partial.main,
        "variants": variants.main,
    }.items():
        printed = StringIO()
        with redirect_stdout(printed):
            assert run(["--toy", "--save", "--folder", str(folder)]) == 0
        (folder / f"{name}.txt").write_text(printed.getvalue(), encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    ("benchmark", "names"),
    [
        ("open_deals", ["chain", "+ amount effect", "+ levels and own past errors", "landmark_by_week", "run_rate"]),
        ("open_deals", ["all pipelines together"]),
        ("shocks", ["no shock", "log-sd .3", "+ levels", "oracle"]),
        ("quirks", ["no quirk", "lost after 60 days untouched", *quirks.RECIPES, "95 % range", "width", "crps"]),
        ("lacking", ["all have amounts", "cleared on losing", "foretold over actual", "80 % range"]),
        (
            "partial",
            ["all deals", "closed in the last 200 days", "foretold over expected", "width over the oracle's", "seen"],
        ),
        ("variants", [*variants.VARIANTS, variants.ALL, "published", "before calibration", "CRPS/actual"]),
        ("deal_level", ["Won", "No decision", "AUC", "Brier", "remaining days", "by last activity", "undecided"]),
    ],
)
def test_benchmarks_print_every_recipe_beside_every_rule(kept: Path, benchmark: str, names: list[str]) -> None:
    printed = (kept / f"{benchmark}.txt").read_text(encoding="utf-8")
    assert [name for name in names if name not in printed] == []


def test_the_results_page_tells_what_the_benchmarks_kept(kept: Path) -> None:
    copyfile(kept / "open_deals.csv", kept / "open_deals_weekly.csv")
    page = results.write(kept).read_text(encoding="utf-8")
    for command in (
        "open_deals --save",
        "open_deals --weekly --draws 1000 --save",
        "deal_level --save",
        "shocks --save",
        "quirks --save",
        "lacking --save",
        "partial --save",
        "variants --save",
    ):
        assert f"`python -m benchmarks.accuracy.{command}`" in page
    for picture in re.findall(r"\]\(results/(.+\.png)\)", page):
        assert (kept / picture).stat().st_size > 5_000
    saved = pd.read_csv(kept / "open_deals.csv")
    published = saved[saved["recipe"] == "published"]
    assert f"{published['open_crps'].mean():,.0f}" in page


def test_measures_of_the_engine_stand_side_by_side_and_families_at_their_worst() -> None:
    rows = [
        ("crossover", "row fate", "ns per deal and draw", 5.0),
        ("crossover", "row paths", "ns per deal and draw", 7.0),
        ("crossover", "fate ahead from", "deals", 100.0),
        ("families", "weibull row even fate", "worst z", 1.5),
        ("families", "weibull loops even paths", "worst z", 2.5),
    ]
    engine = pd.DataFrame(rows, columns=["part", "case", "measure", "value"]).assign(
        deals=100, draws=10, machine="here"
    )
    lines = results.engine_parts(engine).splitlines()
    assert "| case | deals | draws | fate | paths | so many deals |" in lines
    assert "| ns per deal and draw | 100 | 10 | 5 | 7 |  |" in lines
    assert "| fate ahead from | 100 | 10 |  |  | 100 |" in lines
    assert "| weibull | 100 | 10 | 2.5 |" in lines


def test_variants_differ_and_their_mean_is_that_of_the_pipelines(kept: Path) -> None:
    saved = pd.read_csv(kept / variants.SAVED_NAME).set_index(["pipeline", "variant", "recipe"])
    score = saved["CRPS/actual"].xs("sample").unstack("recipe")
    assert score["before calibration"].drop("no levels").nunique() > 3
    assert score.loc["no levels", "before calibration"] == score.loc["usual", "before calibration"]
    assert saved.xs("sample").equals(saved.xs(variants.ALL))  # of one pipeline
    two = pd.concat([saved.xs("sample").reset_index().assign(pipeline=name, n=n) for name, n in (("a", 3), ("b", 1))])
    two.loc[two["pipeline"] == "b", ["CRPS/actual", "80 % range"]] = [0.1, 0.0]
    means = variants.with_means(two.reset_index(drop=True)).set_index(["pipeline", "variant", "recipe"])
    usual = saved.loc["sample", "usual", "published"]
    of_both = means.loc[variants.ALL, "usual", "published"]
    assert of_both["CRPS/actual"] == pytest.approx(np.sqrt(0.1 * usual["CRPS/actual"]))
    assert of_both["80 % range"] == pytest.approx(0.75 * usual["80 % range"])


def test_of_cleared_amounts_less_is_believed_and_as_much_foretold(kept: Path) -> None:
    saved = pd.read_csv(kept / lacking.SAVED_NAME).set_index("amounts")
    assert (
        saved.loc["cleared on losing", "taken for a kind of their own"] < saved.loc["all have amounts"].iloc[-1] == 1.0
    )
    told = saved["foretold over actual"]
    assert told["cleared on losing"] == pytest.approx(told["all have amounts"], rel=0.15)


def test_a_stage_put_in_takes_the_place_of_winning_from_its_day_on() -> None:
    world = quirks.WORLDS["a stage put in"]
    company = companies.make_company(world, np.random.default_rng(1))
    put_in, last = world.put_in_day, world.won - 1
    assert put_in is not None
    assert company.day[company.target == last].min() >= put_in
    entries = pd.DataFrame({"deal": company.deal, "target": company.target, "day": company.day})
    before = entries.groupby("deal")["target"].shift()
    wins = entries["target"] == world.won
    assert (before[wins & (entries["day"] >= put_in)] == last).all()
    assert (before[wins & (entries["day"] < put_in)] == last - 1).all()


def test_an_export_of_deals_closed_lately_is_seen_and_as_much_foretold(kept: Path) -> None:
    saved = pd.read_csv(kept / partial.SAVED_NAME).set_index("export")
    assert saved["seen"].tolist() == [0.0, 1.0]
    told = saved["foretold over expected"]
    assert told["closed in the last 200 days"] == pytest.approx(told["all deals"], rel=0.2)


def test_partial_exports_lack_what_they_say() -> None:
    world = partial.WORLDS["six weeks"]
    company = companies.make_company(world, np.random.default_rng(1))
    day = world.days - 91
    made = {kind: partial.exported(world, company, day, kind) for kind in partial.EXPORTS}
    last = {kind: deals.entries.groupby("deal").last() for kind, deals in made.items()}
    first = {kind: deals.entries.groupby("deal").first() for kind, deals in made.items()}
    since = {days: pd.Timestamp(companies.day_date(day - days)) for days in (365, 200, 100, 60)}
    whole = last["all deals"]
    for kind, days in (("year", 365), ("200 days", 200), ("100 days", 100)):
        kept = (whole["stage"] < world.won) | (whole["entered_on"] > since[days])
        assert made[f"closed in the last {kind}"].n_deals == kept.sum()
    kept = (whole["stage"] <= world.won) | (whole["entered_on"] > since[200])
    assert made["lost ones of the last 200 days only"].n_deals == kept.sum()
    begun = first["taken over 200 days ago"]
    assert begun["entered_on"].min() == since[200]
    assert (begun.loc[begun["entered_on"] > since[200], "stage"] == 0).all()
    assert made["taken over 200 days ago"].n_deals == made["closed in the last 200 days"].n_deals
    for days in (200, 60):
        begun = first[f"leads recorded for {days} days"]
        assert (begun["stage"] == 0).sum() == (first["all deals"]["entered_on"] > since[days]).sum()
        assert (begun.loc[begun["entered_on"] <= since[days], "stage"] == 1).all()


def test_quirks_keep_a_row_for_every_recipe_and_no_range_for_a_rule(kept: Path) -> None:
    saved = pd.read_csv(kept / quirks.SAVED_NAME)
    assert list(zip(saved["world"], saved["recipe"], strict=True)) == [
        (world, recipe)
        for world, asked in quirks.TOY_WORLDS.items()
        for recipe in (
            *quirks.RECIPES[:2],
            *(recipe + quirks.WITH_DATES for recipe in quirks.RECIPES[:2] if asked.dated),
            *(quirks.RULES_OF_ALL if asked.with_new else quirks.RULES).values(),
            quirks.ORACLE,
        )
    ]
    of_rule = saved["recipe"].str.startswith("rule")
    assert (saved["n"] == 2).all()
    assert np.isfinite(saved["crps"]).all()
    ranges = ["50 % range", "80 % range", "95 % range"]
    assert np.isfinite(saved.loc[~of_rule, [*ranges, "width"]]).all(axis=None)
    assert saved.loc[~of_rule, ranges].isin([0.0, 0.5, 1.0]).all(axis=None)
    assert saved.loc[of_rule, [*ranges, "width"]].isna().all(axis=None)


@pytest.mark.parametrize(
    ("world", "allowed"),
    [
        ("paid in January only", lambda day: day.month == 1),
        ("paid on the last working day of a month", lambda day: day + pd.offsets.BMonthEnd(0) == day),
    ],
)
def test_a_quirk_of_the_calendar_keeps_wins_to_its_days(world: str, allowed: Callable[[pd.Timestamp], bool]) -> None:
    asked = quirks.WORLDS[world]
    company = companies.make_company(asked, np.random.default_rng(1))
    won = [pd.Timestamp(companies.day_date(int(day))) for day in company.day[company.target == asked.won]]
    assert len(won) > 50
    assert all(map(allowed, won))


def test_no_deal_outlasts_the_rule_that_loses_it() -> None:
    world = quirks.WORLDS["lost after 60 days untouched"]
    company = companies.make_company(world, np.random.default_rng(1))
    n = len(company.created)
    moves = pd.DataFrame({"deal": np.r_[np.arange(n), company.deal], "day": np.r_[company.created, company.day]})
    moves["target"] = np.r_[np.zeros(n, dtype=int), company.target]
    moves["stayed"] = moves.groupby("deal")["day"].diff()
    longest = moves["stayed"] == world.lost_after
    assert moves["stayed"].max() == world.lost_after
    assert (moves.loc[longest, "target"] == world.won + 1).mean() > 0.9
    last = moves.groupby("deal").last()
    assert (world.days - 1 - last.loc[last["target"] < world.won, "day"]).max() < world.lost_after


def test_a_quarter_of_the_wins_is_taken_back_after_a_week() -> None:
    world = quirks.WORLDS["wins taken back"]
    company = companies.make_company(world, np.random.default_rng(1))
    moves = pd.DataFrame({"deal": company.deal, "target": company.target, "day": company.day})
    moves["later"] = -moves.groupby("deal")["day"].diff(-1)
    wins = moves[(moves["target"] == world.won) & (moves["day"] < world.days - 7)]
    assert set(wins["later"].dropna()) == {7.0}
    assert wins["later"].notna().mean() == pytest.approx(world.taken_back, abs=0.05)


def test_deals_entered_as_won_and_amounts_that_double_are_what_their_names_say() -> None:
    world = replace(quirks.WORLDS["some deals entered as won"], raised=2.0)
    company = companies.make_company(world, np.random.default_rng(1))
    deals = companies.deals_of(world, company)
    first = deals.entries.drop_duplicates("deal")
    assert (first["stage"] == world.won).mean() == pytest.approx(world.at_once, abs=0.03)
    won = deals.entries[deals.entries["stage"] == world.won]
    np.testing.assert_allclose(won["amount"], 2.0 * company.amount[won["deal"]])
    np.testing.assert_allclose(deals.deals["amount"].to_numpy()[won["deal"]], won["amount"])
    begun = deals.entries[deals.entries["stage"] == 0]
    np.testing.assert_allclose(begun["amount"], company.amount[begun["deal"]])


def test_the_oracle_of_quirks_agrees_with_the_chances_of_its_world() -> None:
    """One stage with constant hazards: the mean revenue of a deal is its amount times the chance in closed form."""
    world = replace(companies.World(), ahead=(companies.Exit(0.02),), down=(companies.Exit(0.03),), horizon=30)
    none = np.zeros(0, dtype=np.int64)
    company = companies.Company(
        np.zeros(200, dtype=np.int64),
        np.zeros(200, dtype=np.int64),
        np.full(200, 10.0),
        np.ones(200),
        none,
        none,
        none,
        none,
    )
    revenue = companies.oracle(world, company, 5, np.random.default_rng(1))
    assert revenue.mean() == pytest.approx(200 * 10.0 * 0.4 * -np.expm1(-0.05 * 30), rel=0.01)


def test_hazards_of_a_log_normal_stay_give_back_its_survival() -> None:
    found = companies.hazards((companies.Exit(1.0, median=120.0, log_sd=0.5), companies.Exit(0.03)))
    assert np.exp(-found[0, :120].sum()) == pytest.approx(0.5)
    assert np.exp(-found[0, :200].sum()) == pytest.approx(stats.norm.sf(np.log(200 / 120) / 0.5))
    assert (found[1] == 0.03).all()


def test_new_business_is_scored_three_ways() -> None:
    printed = StringIO()
    with redirect_stdout(printed):
        assert new_business.main(["--toy"]) == 0
    for recipe in (new_business.ALONE, new_business.SHIFTED, new_business.OWN):
        assert printed.getvalue().count(recipe) == 2
    assert "correlation of past errors" in printed.getvalue()


def test_a_goal_is_met_within_its_bounds_only() -> None:
    told = [results.Goal("", 3, 8, measured).met for measured in (2.0, 3.0, 8.0, 9.0, float("nan"))]
    assert told == [False, True, True, False, False]


def test_the_outcome_chain_agrees_with_playing_the_deals() -> None:
    """Two stages with a way back: chances and median days from the equations against plays day by day."""
    graph = StageGraph(open=("Lead", "Offer"), won=("Won",), lost=("Lost",))
    next_stage, hazard = (
        np.array([[1, 3, -1], [0, 2, 3]], dtype=np.int16),
        np.array([[0.15, 0.05, 0], [0.05, 0.1, 0.05]]),
    )
    planted = PlantedHazards(next_stage, np.repeat(hazard[None, :, :, None], 2, axis=-1))
    chain = OutcomeChain(planted, graph, offer_stage=1)
    stage, furthest, looped, days = (np.array([value]) for value in (0, 0, 0, 4))
    start = Position(stage, furthest, looped, days, level=np.zeros(1, dtype=np.int32))
    ended, offered, lasted = played(next_stage, hazard, plays=20_000)
    told = chain.outcomes(start)[0]
    assert told.sum() == pytest.approx(1.0)
    assert told[0] == pytest.approx((ended[offered] == 2).mean(), abs=0.015)
    assert chain.median_remaining_days(start)[0] == pytest.approx(np.median(lasted), abs=0.75)


def played(next_stage: np.ndarray, hazard: np.ndarray, *, plays: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Play deals from stage 0: where each ended, whether it saw stage 1, and on which day."""
    rng = np.random.default_rng(3)
    stage, offered, lasted = np.zeros(plays, dtype=int), np.zeros(plays, dtype=bool), np.zeros(plays)
    for day in range(400):
        moving = stage < 2
        while moving.any():  # a deal that has just come may leave on the same day
            rates = hazard[np.minimum(stage, 1)]
            leaves = moving & (rng.random(plays) < -np.expm1(-rates.sum(axis=1)))
            slot = (rng.random(plays)[:, None] * rates.sum(axis=1, keepdims=True) > np.cumsum(rates, axis=1)).sum(
                axis=1
            )
            stage = np.where(leaves, next_stage[np.minimum(stage, 1), np.minimum(slot, 2)], stage)
            offered |= stage == 1
            lasted[leaves] = day
            moving = leaves & (stage < 2)
    return stage, offered, lasted


def test_the_level_benchmark_prints_every_recipe_and_both_inferences(capsys: pytest.CaptureFixture[str]) -> None:
    assert levels.main(["--toy"]) == 0
    printed = capsys.readouterr().out
    for name in ("static", "tracked", "log average, half", "log average, earned + errors", "quick chain's shift"):
        assert name in printed
    assert levels.main(["--toy", "--nuts"]) == 0
    assert re.search(r"fast: .*forward .*\n  nuts: .*down .*\n    R-hat 1\.0", capsys.readouterr().out)
