"""The results page, from what the accuracy benchmarks kept.

    python -m benchmarks.accuracy.results        # writes docs/results.md and docs/results/*.png

The benchmarks that keep their figures: ``open_deals --save``, ``open_deals --weekly --draws 1000 --save``,
``deal_level --save`` and ``shocks --save``; where they have been kept, variants (``variants --save``), made-up companies
with quirks (``quirks --save``) and in exports that lack amounts (``lacking --save``) or deals (``partial --save``),
held-out scores and speeds are shown too. Nothing is typed in by hand: a goal is met or missed by the kept figures.
"""

import argparse
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pandas as pd

from benchmarks.accuracy import deal_level, shocks
from benchmarks.accuracy.open_deals import RECIPES, SEED, saved_path
from benchmarks.command import SAVED
from forecasting import plots
from forecasting.proof.backtest_result import RANGE_ENDS, summarise
from forecasting.proof.scores import coverage

PUBLISHED = "published"
ENGINE = "engine"
FURTHER = {
    "variants": ("What else was tried: open deals, origins eight days apart", "benchmarks.accuracy.variants --save"),
    "quirks": ("Quirks of timing, rules and amounts: made-up companies", "benchmarks.accuracy.quirks --save"),
    "lacking": ("Exports that lack amounts: made-up companies", "benchmarks.accuracy.lacking --save"),
    "partial": ("Exports that lack deals: made-up companies", "benchmarks.accuracy.partial --save"),
    "stage_scores": ("Held-out log score per transition, higher is better", "benchmarks.accuracy.stage_scores --save"),
    "nuts_speed": ("What NUTS takes on the loan log, cold and warm", "benchmarks.speed.nuts --save"),
    "fit_speed": ("What a fit costs", "benchmarks.speed.fit --save"),
    "fit_compared": ("The same model from counts and from single stays", "benchmarks.speed.fit --save"),
}
"""Tables that are shown where they have been kept: file name to title and command."""
INTRODUCTION = """# How right the forecasts are

Past dates, forecast with what was known then, compared with what came. This page is written by `python -m
benchmarks.accuracy.results` from the figures that the commands named beside each table keep in `docs/results`; none is
typed in. One setting for all pipelines: piecewise hazards, fast inference, amount as covariate.

Data: BPI Challenge 2012 (loan applications of a bank, doi:10.4121/uuid:3926db30-f712-4394-aebc-75976070e91f, 28 days
ahead from Sundays 2011-12-04 to 2012-02-12) and BPI Challenge 2020 (travel declarations,
doi:10.4121/uuid:52fb97d4-4588-43c9-9d04-3604d4613b51, 30 days ahead from 2017-06-30 to 2018-06-30). They are not part
of this project; `DEALCAST_DATA` names their folder. These four pipelines were looked at while the forecaster was built:
take the figures as a check, and run `dealcast backtest` on your own history for proof. The logs give one amount per case,
and of travel declarations rejected for good nearly all have the amount zero: what amounts tell there is partly hindsight.

CRPS is the mean distance between forecast and outcome, in currency units, 0 for a perfect forecast. Hits of the 50, 80
and 95 % ranges stand beside the hits a right range gives in 95 of 100 cases if the dates were independent; overlapping
ones are not, so a little more is ordinary. Width is that of the 80 % range over the mean actual revenue.
"""


@dataclass(frozen=True)
class Goal:
    """What was aimed at, within which bounds, and what was measured."""

    text: str
    low: float
    high: float
    measured: float

    @property
    def met(self) -> bool:
        """Whether the measured value lies within the bounds."""
        return self.low <= self.measured <= self.high


def open_table(forecasts: pd.DataFrame, *, prefix: str = "open_", actual: str = "actual_open") -> pd.DataFrame:
    """One row per pipeline and recipe, then per simple rule: errors, scores, hits and width."""
    rows: list[dict[str, Any]] = []
    for pipeline, part in forecasts.groupby("pipeline", sort=False):
        wanted = RECIPES if prefix else {name: RECIPES[name] for name in ("amount", PUBLISHED)}
        told = {name: _summary(part[part["recipe"] == name], prefix, actual) for name in wanted}
        rows.extend(_row(str(pipeline), wanted[name], summary) for name, summary in told.items())
        published = part[part["recipe"] == PUBLISHED]
        mean = float(published[actual].mean())
        for rule, skill in told[PUBLISHED]["skill"].items():
            score = float(published[f"{prefix}{rule}_crps"].mean())
            error = float((published[prefix + rule] / published[actual] - 1.0).abs().mean())
            rule_row = {"recipe": f"rule: {rule.replace('_', ' ')}", "MAPE": f"{error:.1%}", "CRPS": f"{score:,.0f}"}
            rows.append(
                {"pipeline": pipeline, **rule_row, "CRPS/actual": f"{score / mean:.4f}", "skill": f"{skill:.2f}"}
            )
    return pd.DataFrame(rows).fillna("")


def _summary(part: pd.DataFrame, prefix: str, actual: str) -> dict[str, Any]:
    return summarise(part, prefix=prefix, actual=actual, seed=SEED)


def _row(pipeline: str, recipe: str, told: dict[str, Any]) -> dict[str, Any]:
    hits = {
        f"{level} %": f"{held['hits']} of {held['n']} ({held['expected_low']}-{held['expected_high']})"
        for level, held in told["coverage"].items()
    }
    return {
        "pipeline": pipeline,
        "recipe": recipe,
        "MAPE": f"{told['mape']:.1%}",
        "CRPS": f"{told['crps']:,.0f}",
        "CRPS/actual": f"{told['crps_over_actual']:.4f}",
        **hits,
        "width": f"{told['width']['80']:.3f}",
    }


def pooled_coverage(forecasts: pd.DataFrame) -> pd.DataFrame:
    """Coverage of the ranges over all pipelines, a row per recipe."""
    rows = []
    for recipe, told in RECIPES.items():
        part = forecasts[forecasts["recipe"] == recipe]
        row: dict[str, Any] = {"recipe": told, "forecasts": len(part)}
        for level, (low, high) in RANGE_ENDS.items():
            row[f"{100 * level:.0f} % range"] = f"{coverage(_held(part, low, high), level=level).share:.3f}"
        rows.append(row)
    return pd.DataFrame(rows)


def _held(part: pd.DataFrame, low: str, high: str) -> "pd.Series[bool]":
    return part["actual_open"].between(part[f"open_{low}"], part[f"open_{high}"])


def goals(kept: dict[str, pd.DataFrame]) -> list[Goal]:
    """Compare what was aimed at with the kept figures."""
    official, weekly, deals = kept["official"], kept["weekly"], kept["deals"]
    found: list[Goal] = []
    if "bpic2012" in set(official["pipeline"]):
        found += _official_goals(official)
    if "bpic2012" in set(weekly["pipeline"]):
        found += _weekly_goals(weekly)
    if "LOST_declined" in set(deals["question"]):
        found += _deal_goals(deals)
    return found + _shock_goals(kept["shocks"])


def _official_goals(official: pd.DataFrame) -> list[Goal]:
    def told(name: str, recipe: str = PUBLISHED) -> dict[str, Any]:
        part = official[(official["pipeline"] == name) & (official["recipe"] == recipe)]
        return _summary(part, "open_", "actual_open")

    bank = told("bpic2012")
    total = official[(official["pipeline"] == "bpic2012") & (official["recipe"] == PUBLISHED)]
    of_all = _summary(total, "", "actual")
    found = [
        Goal("BPI 2012: MAPE at most 5 %", 0.0, 0.05, bank["mape"]),
        Goal("BPI 2012: CRPS at most 150,000", 0.0, 150_000.0, bank["crps"]),
        Goal("BPI 2012: 50 % range hit 3 to 8 times of 11", 3, 8, bank["coverage"]["50"]["hits"]),
        Goal("BPI 2012: 80 % range hit 8 to 11 times of 11", 8, 11, bank["coverage"]["80"]["hits"]),
        Goal("BPI 2012: CRPS before calibration at most 128,000", 0.0, 128_000.0, told("bpic2012", "amount")["crps"]),
    ]
    for rule in ("run_rate", "last_period"):
        skill = of_all["skill"][rule]
        found.append(Goal(f"BPI 2012, all revenue: skill over the {rule.replace('_', ' ')}", 0.0, 1.0, skill))
    for name, most, fewest in (("international", 0.095, 8), ("domestic", 0.037, 9), ("prepaid", 0.088, 9)):
        each = told(f"bpic2020_{name}")
        found.append(Goal(f"{name}: CRPS/actual at most {most}", 0.0, most, each["crps_over_actual"]))
        text = f"{name}: 80 % range hit {fewest} to 13 times of 13"
        found.append(Goal(text, fewest, 13, each["coverage"]["80"]["hits"]))
        text = f"{name}: skill over the best of the simple rules"
        found.append(Goal(text, 0.0, 1.0, min(each["skill"].values())))
    return found


def _weekly_goals(weekly: pd.DataFrame) -> list[Goal]:
    part = weekly[weekly["recipe"] == PUBLISHED]
    found = []
    for level, low, high in ((0.5, 0.44, 0.58), (0.8, 0.76, 0.87), (0.95, 0.92, 0.98)):
        share = coverage(_held(part, *RANGE_ENDS[level]), level=level).share
        found.append(Goal(f"every week: {100 * level:.0f} % range holds {low} to {high}", low, high, share))
    for name, most in (("bpic2012", 0.28), ("international", 0.52), ("domestic", 0.26), ("prepaid", 0.95)):
        told = _summary(part[part["pipeline"].str.endswith(name)], "open_", "actual_open")
        found.append(Goal(f"every week: width for {name} at most {most}", 0.0, most, told["width"]["80"]))
    return found


def _deal_goals(deals: pd.DataFrame) -> list[Goal]:
    def told(question: str, score: str) -> float:
        rows = (deals["prefixes"] == "all") & (deals["question"] == question) & (deals["score"] == score)
        return float(deals.loc[rows, "stage model"].iloc[0])

    found = []
    bounds = {"WON": ("accepted", 0.66, 0.211), "LOST_declined": ("declined", 0.61, 0.143)}
    for question, (name, area, square) in {**bounds, "LOST_cancelled": ("cancelled", 0.69, 0.162)}.items():
        found.append(Goal(f"deal by deal: AUC of {name} at least {area}", area, 1.0, told(question, "AUC")))
        found.append(Goal(f"deal by deal: Brier of {name} at most {square}", 0.0, square, told(question, "Brier")))
    found.append(Goal("deal by deal: remaining days, MAE below 5.86", 0.0, 5.86, told("remaining days", "MAE")))
    return found


def _shock_goals(table: pd.DataFrame) -> list[Goal]:
    told = table.set_index(["world", "recipe"])
    found = []
    most = {"no shock": None, "log-sd .3": 1.45, "log-sd .3, rising": 1.25, "log-sd .5": 1.3}
    for world in [name for name in table["world"].unique() if name in most]:
        ours, best = told.loc[(world, "+ levels")], told.loc[(world, "oracle")]
        low = round(float(best["coverage"]) - 0.06, 3)
        text = f"shocks, {world}: 80 % range holds {low} (oracle's less .06) to .88"
        found.append(Goal(text, low, 0.88, float(ours["coverage"])))
        limit = most[world]
        if limit is None:
            found.append(
                Goal(f"shocks, {world}: width at most 1.3 times the oracle's", 0.0, 1.3, ours["width"] / best["width"])
            )
        else:
            text = f"shocks, {world}: CRPS at most {limit} times the oracle's"
            found.append(Goal(text, 0.0, limit, float(ours["crps over oracle"])))
    return found


def markdown(table: pd.DataFrame) -> str:
    """Table in Markdown."""
    lines = [list(map(str, table.columns)), ["---"] * len(table.columns)]
    lines += [[_text(value) for value in row] for row in table.itertuples(index=False)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _text(value: object) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000.0 else f"{value:.4g}"
    return str(value)


def engine_parts(engine: pd.DataFrame) -> str:
    """Tables of what a simulation costs: a part after the other, measures side by side, families at their worst."""
    words = engine["case"].str.split()
    families = engine["part"] == "families"
    crossover = (engine["part"] == "crossover") & (engine["measure"] != "deals")
    case = engine["case"].where(~families, words.str[0]).where(~crossover, engine["measure"])
    measure = engine["measure"].replace("deals", "so many deals").where(~crossover, words.str[-1])
    table = engine.assign(case=case, measure=measure)
    found = [f"On {', '.join(engine['machine'].unique())}.\n"]
    for part, rows in table.groupby("part", sort=False):
        wide = rows.pivot_table(
            index=["case", "deals", "draws"], columns="measure", values="value", aggfunc="max", sort=False
        )
        found.append(f"### {part}\n\n{markdown(wide.reset_index().fillna(''))}\n")
    return "\n".join(found)


def draw_coverage(forecasts: pd.DataFrame, path: Path) -> None:
    """Draw where outcomes fell in their forecasts: ten bars that would be equally high if the forecasts were right."""
    _save(plots.pit(forecasts[forecasts["recipe"] == PUBLISHED], source="open"), path)


def draw_fan(forecasts: pd.DataFrame, name: str, path: Path) -> None:
    """Draw forecast ranges over the dates, and what came."""
    part = forecasts[(forecasts["recipe"] == PUBLISHED) & (forecasts["pipeline"] == name)].sort_values("as_of")
    axes = plots.past_forecasts(part, source="open")
    axes.set_title(f"{name}: {axes.get_title(loc='left')}")
    _save(axes, path)


def _save(axes: Any, path: Path) -> None:
    import matplotlib.pyplot as plt

    axes.figure.savefig(path, dpi=110, metadata={"Software": None})
    plt.close(axes.figure)


def page(kept: dict[str, pd.DataFrame], pictures: Sequence[str]) -> str:
    """Page in Markdown."""
    official, weekly = kept["official"], kept["weekly"]
    aims = goals(kept)
    told = [{"goal": aim.text, "measured": aim.measured, "": "met" if aim.met else "**missed**"} for aim in aims]
    parts = [INTRODUCTION, f"## What was aimed at: {sum(aim.met for aim in aims)} of {len(aims)} goals met\n"]
    parts += [markdown(pd.DataFrame(told)) + "\n"] if told else []
    parts += [f"![{name}](results/{name}.png)\n" for name in pictures]
    sections: Iterable[tuple[str, str, pd.DataFrame]] = (
        ("Revenue of open deals, official dates", "open_deals --save", open_table(official)),
        (
            "All revenue, deals not created yet included",
            "open_deals --save",
            open_table(official, prefix="", actual="actual"),
        ),
        (
            "Every week in the same spans, all pipelines together",
            "open_deals --weekly --draws 1000 --save",
            pooled_coverage(weekly),
        ),
        ("Every week, by pipeline", "open_deals --weekly --draws 1000 --save", open_table(weekly)),
        ("Deal by deal", "deal_level --save", kept["deals"]),
        ("Shocks that hit all stages alike: made-up companies", "shocks --save", kept["shocks"]),
    )
    for title, command, table in sections:
        parts.append(f"## {title}\n\n`python -m benchmarks.accuracy.{command}`\n\n{markdown(table)}\n")
    for name, (title, command) in FURTHER.items():
        if name in kept:
            parts.append(f"## {title}\n\n`python -m {command}`\n\n{markdown(kept[name].fillna(''))}\n")
    if ENGINE in kept:
        command = "`python -m benchmarks.speed.engine all --save`"
        parts.append(f"## What a simulation costs\n\n{command}\n\n{engine_parts(kept[ENGINE])}")
    return "\n".join(parts)


def write(folder: Path) -> Path:
    """Write the page beside the folder with the kept figures, and the pictures into it; gives the page's path.

    Raises
    ------
    FileNotFoundError
        A benchmark has not kept its figures yet.
    """
    kept = {
        "official": pd.read_csv(saved_path(folder, weekly=False)),
        "weekly": pd.read_csv(saved_path(folder, weekly=True)),
        "deals": pd.read_csv(folder / deal_level.SAVED_NAME),
        "shocks": pd.read_csv(folder / shocks.SAVED_NAME),
    }
    kept |= {
        name: pd.read_csv(folder / f"{name}.csv") for name in (*FURTHER, ENGINE) if (folder / f"{name}.csv").exists()
    }
    mpl.use("Agg")
    drawn: dict[str, Callable[[Path], None]] = {"coverage": lambda path: draw_coverage(kept["weekly"], path)}
    for name in kept["weekly"]["pipeline"].unique():
        drawn[f"fan_{name}"] = lambda path, name=name: draw_fan(kept["weekly"], name, path)  # type: ignore[misc]
    for name, draw in drawn.items():
        draw(folder / f"{name}.png")
    path = folder.parent / "results.md"
    path.write_text(page(kept, list(drawn)), encoding="utf-8")
    return path


def main(argv: list[str] | None = None) -> int:
    """Write the results page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=SAVED, help="where the benchmarks kept their figures")
    asked = parser.parse_args(argv)
    print(write(asked.folder))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
