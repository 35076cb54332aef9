"""What fitting the stage model costs against the number of historical deals.

    python -m benchmarks.speed.fit            # 2,000 to 2,000,000 deals; then the same model on single stays
    python -m benchmarks.speed.fit --nuts     # and the time of NUTS
    python -m benchmarks.speed.fit --save     # also keeps the figures for the results page
    python -m benchmarks.speed.fit --toy      # a size for tests

Deals move through a known chain of four stages, with losses, a back move and four segments; their stays lie in a table
that DuckDB counts, since the likelihood needs nothing but counts. The fit is of piecewise hazards, then once more with the
family of each stage chosen by what it predicts. Each size runs in a process of its own, which reports
its peak memory; compilation is not counted, the reading of what was compiled is done before the clock starts. The last
table gives the same posterior the stays one by one: the same PyMC model, every stay a row with count one, joined nowhere.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd

from benchmarks.command import command_line, keep
from models.errors import DealcastError
from models.history import COUNT_COLUMNS, STILL_OPEN, Factor, StageHistory, count_stays
from models.stage_model.base_hazards import PIECEWISE, PiecewiseBaseline, piecewise_baseline
from models.stage_model.data import StageData
from models.stage_model.fit import AUTO, choose_problems, fit_stages
from models.stage_model.laplace import laplace_fit
from models.stage_model.options import SamplerOptions
from models.stage_model.problem import StageProblem, log_posterior
from models.stage_model.sampling import sample_stage
from models.stages import StageGraph

SIZES = (2_000, 20_000, 200_000, 2_000_000)
COMPARED = 20_000
"""Deals at which counts are compared with single stays."""
DRAWS, NUTS_DRAWS, SEED = 1000, 4000, 1
CHAIN_DRAWS, TOY_CHAIN_DRAWS = 100, 20
"""Draws of the NUTS that is compared, warm-up not counted: on single stays each takes a good part of a second."""
SHORT_CHAINS = SamplerOptions(chains=2, tune=20, cores=1)
SAVED_NAME, COMPARED_NAME = "fit_speed.csv", "fit_compared.csv"
GRAPH = StageGraph(open=["Lead", "Qualified", "Proposal", "Negotiation"], won=["Won"], lost=["Lost"])
ONWARD, BACK = 0.55, 0.1
"""Share of stays that move on, and back from the second stage on; the rest is lost."""
SHAPE, SCALE = np.array([0.8, 0.9, 1.1, 1.2]), np.array([12.0, 18.0, 25.0, 20.0])
SEGMENT_SPEED = np.array([0.8, 1.0, 1.1, 1.3])
SPAN = 730
"""Days of history."""
ENOUGH_SECONDS = 0.3
"""A short piece of work is repeated for so long."""
SAME = 1e-3
"""Farthest that results from counts and from single stays may lie apart: sums in another order round differently."""


def simulated_stays(n_deals: int, *, seed: int) -> pd.DataFrame:
    """Draw the stays of deals known at the end of the history, all deals one move at a time.

    Returns
    -------
    DataFrame
        Integer columns ``cell``, ``stage``, ``next``, ``days``.
    """
    rng = np.random.default_rng(seed)
    cell, day = rng.integers(0, 4, n_deals), rng.integers(0, SPAN, n_deals)
    stage = np.zeros(n_deals, dtype=np.int64)
    parts = []
    while len(stage):
        days = (SCALE[stage] / SEGMENT_SPEED[cell] * rng.weibull(SHAPE[stage])).astype(np.int64)
        where = rng.random(len(stage))
        onward = np.where(stage == GRAPH.n_open - 1, GRAPH.won_codes[0], stage + 1)
        back = (where < ONWARD + BACK) & (stage > 0)
        following = np.where(where < ONWARD, onward, np.where(back, stage - 1, GRAPH.lost_codes[0]))
        running = day + days > SPAN
        parts.append(
            pd.DataFrame(
                {
                    "cell": cell,
                    "stage": stage,
                    "next": np.where(running, STILL_OPEN, following),
                    "days": np.where(running, SPAN - day, days),
                }
            )
        )
        moving = ~running & (following < GRAPH.n_open)
        cell, stage, day = cell[moving], following[moving], (day + days)[moving]
    return pd.concat(parts, ignore_index=True)


def counted(path: Path) -> StageHistory:
    """Count the distinct stays of a Parquet file in DuckDB."""
    keys = ", ".join(f'"{name}"' for name in COUNT_COLUMNS[:-1])
    with duckdb.connect() as connection:
        counts = connection.execute(
            f"SELECT {keys}, count(*) AS count FROM read_parquet(?) GROUP BY ALL ORDER BY ALL", [str(path)]
        ).df()
    return _history(counts.astype(np.int64))


def _history(counts: pd.DataFrame) -> StageHistory:
    factor = Factor("segment", ("A", "B", "C", "D"))
    return StageHistory(GRAPH, counts, (factor,), np.arange(4, dtype=np.int32)[:, None])


def measure(n_deals: int, *, nuts: bool) -> dict[str, float]:
    """Time and peak memory at one size, a row of the table; meant for a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "stays.parquet"
        subprocess.run([sys.executable, "-m", "benchmarks.speed.fit", "--write", str(path), str(n_deals)], check=True)
        for durations in (PIECEWISE, AUTO):
            fit_stages(counted(_tiny(Path(folder))), durations=durations, inference="fast", draws=10, seed=SEED)
        started = time.perf_counter()
        history = counted(path)
        have_counts = time.perf_counter()
        fit_stages(history, durations=PIECEWISE, inference="fast", draws=DRAWS, seed=SEED)
        fitted = time.perf_counter()
        fit_stages(history, durations=AUTO, inference="fast", draws=DRAWS, seed=SEED)
        chosen = time.perf_counter()
    row = {"deals": n_deals, "stays": history.n_stays, "counts": len(history.counts)}
    row |= {"counting s": round(have_counts - started, 3), "fit s": round(fitted - have_counts, 3)}
    row["family chosen s"] = round(chosen - fitted, 2)
    if nuts:
        started = time.perf_counter()
        fit_stages(history, durations=PIECEWISE, draws=NUTS_DRAWS, seed=SEED)
        row["NUTS s"] = round(time.perf_counter() - started, 2)
    return row | {"peak MB": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)}


def _tiny(folder: Path) -> Path:
    path = folder / "tiny.parquet"
    simulated_stays(200, seed=2).to_parquet(path)
    return path


def single_stays(data: StageData) -> StageData:
    """Give every stay a row and a group of its own."""
    repeat = np.repeat(np.arange(len(data.count)), data.count)
    return replace(
        data,
        group=np.arange(len(repeat)),
        exit=data.exit[repeat],
        days=data.days[repeat],
        count=np.ones(len(repeat), dtype=np.int64),
        levels=data.levels[data.group[repeat]],
        stay_levels=data.stay_levels[repeat],
    )


def compare(n_deals: int, *, draws: int) -> pd.DataFrame:
    """Time to fit the busiest stage from counts and from single stays, the posterior held to be the same."""
    history = _history(count_stays(simulated_stays(n_deals, seed=SEED)))
    problem = choose_problems(history, dict.fromkeys(GRAPH.open, PIECEWISE), seed=SEED)[0].problem
    baseline = problem.baseline
    assert isinstance(baseline, PiecewiseBaseline)
    alone = single_stays(problem.data)
    own = piecewise_baseline(alone, baseline.starts)
    plain = replace(problem, data=alone, baseline=own, design=problem.design[alone.levels[:, 0]])
    start = laplace_fit(problem, draws=10, rng=np.random.default_rng(SEED))
    sample_stage(problem, start, draws=8, seed=SEED, options=SHORT_CHAINS)  # what is compiled once is not counted

    def fast(each: StageProblem) -> np.ndarray:
        return laplace_fit(each, draws=DRAWS, rng=np.random.default_rng(SEED)).mode

    def step(each: StageProblem) -> np.ndarray:
        return log_posterior(each, start.mode, start.best_scales)[1]

    def nuts(each: StageProblem) -> np.ndarray:
        return sample_stage(each, start, draws=draws, seed=SEED, options=SHORT_CHAINS).innovations

    rows = []
    work = {"fast inference": fast, "one log-density with gradient": step, f"NUTS, {draws} draws": nuts}
    for what, run in work.items():
        (few, from_counts), (many, from_stays) = (_timed(partial(run, each)) for each in (problem, plain))
        if not np.allclose(from_counts, from_stays, atol=SAME):
            apart = np.abs(from_counts - from_stays).max()
            raise DealcastError(f"{what}: counts and single stays disagree by {apart}: a defect, please report it")
        rows.append({"work": what, "deals": n_deals, "counts s": few, "single stays s": many, "times": many / few})
    return pd.DataFrame(rows)


def _timed(run: Callable[[], np.ndarray]) -> tuple[float, np.ndarray]:
    """Seconds of one run, the quickest of some when it is short, and its result."""
    found, seconds, until = run(), [], time.perf_counter() + ENOUGH_SECONDS
    while not seconds or time.perf_counter() < until:
        started = time.perf_counter()
        found = run()
        seconds.append(time.perf_counter() - started)
    return min(seconds), found


def main(argv: list[str] | None = None) -> int:
    """Measure every size in a process of its own and print the table."""
    parser = command_line(__doc__, toy="a size for tests", kept="the figures")
    parser.add_argument("--nuts", action="store_true", help="time NUTS as well")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--write", nargs=2, help=argparse.SUPPRESS)
    asked = parser.parse_args(argv)
    if asked.write:
        simulated_stays(int(asked.write[1]), seed=SEED).to_parquet(asked.write[0])
        return 0
    if asked.one:
        print(json.dumps(measure(asked.one, nuts=asked.nuts)))
        return 0
    nuts = ["--nuts"] if asked.nuts else []
    rows = []
    for n_deals in (300,) if asked.toy else SIZES:
        command = [sys.executable, "-m", "benchmarks.speed.fit", "--one", str(n_deals), *nuts]
        rows.append(json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout))
    table = pd.DataFrame(rows)
    print(table.to_string(index=False), flush=True)
    compared = compare(300 if asked.toy else COMPARED, draws=TOY_CHAIN_DRAWS if asked.toy else CHAIN_DRAWS)
    print(f"\n{GRAPH.open[0]} alone, from counts and from single stays")
    print(compared.to_string(index=False, float_format=lambda value: f"{value:.3g}"))
    if asked.save:
        keep(compared, asked.folder / COMPARED_NAME)
        table.to_csv(asked.folder / SAVED_NAME, index=False)  # its seconds are rounded already
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
