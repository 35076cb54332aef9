"""What fitting the stage model costs against the number of historical deals.

    python -m benchmarks.speed.fit            # 2,000 to 2,000,000 deals; then the same model on single stays
    python -m benchmarks.speed.fit --nuts     # and the time of NUTS
    python -m benchmarks.speed.fit --toy      # a size for tests

Deals move through a known chain of four stages, with losses, a back move and four segments; their stays lie in a table
that DuckDB counts, since the likelihood needs nothing but counts. Each size runs in a process of its own, which reports
its peak memory; compilation is not counted, the reading of what was compiled is done before the clock starts. The last
line gives the same posterior the stays one by one: the same code, every stay a row with count one, joined nowhere.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd

from models.errors import DealcastError
from models.history import COUNT_COLUMNS, STILL_OPEN, Factor, StageHistory, count_stays
from models.stage_model.base_hazards import PIECEWISE, PiecewiseBaseline, piecewise_baseline
from models.stage_model.data import StageData
from models.stage_model.fit import choose_problems, fit_stages
from models.stage_model.laplace import laplace_fit
from models.stage_model.problem import LOG_SCALE_MEAN, log_posterior
from models.stages import StageGraph

SIZES = (2_000, 20_000, 200_000, 2_000_000)
COMPARED = 20_000
"""Deals at which counts are compared with single stays."""
DRAWS, SEED = 1000, 1
GRAPH = StageGraph(open=["Lead", "Qualified", "Proposal", "Negotiation"], won=["Won"], lost=["Lost"])
ONWARD, BACK = 0.55, 0.1
"""Share of stays that move on, and back from the second stage on; the rest is lost."""
SHAPE, SCALE = np.array([0.8, 0.9, 1.1, 1.2]), np.array([12.0, 18.0, 25.0, 20.0])
SEGMENT_SPEED = np.array([0.8, 1.0, 1.1, 1.3])
SPAN = 730
"""Days of history."""
STEPS = 20
"""Log-densities timed together."""


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


def measure(n_deals: int, *, nuts: bool) -> str:
    """Time and peak memory at one size, as a line of the table; meant for a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "stays.parquet"
        subprocess.run([sys.executable, "-m", "benchmarks.speed.fit", "--write", str(path), str(n_deals)], check=True)
        fit_stages(counted(_tiny(Path(folder))), durations=PIECEWISE, inference="fast", draws=10, seed=SEED)
        started = time.perf_counter()
        history = counted(path)
        have_counts = time.perf_counter()
        fit_stages(history, durations=PIECEWISE, inference="fast", draws=DRAWS, seed=SEED)
        fitted = time.perf_counter()
    line = f"{n_deals:>10,}{history.n_stays:>12,}{len(history.counts):>9,}"
    line += f"{have_counts - started:>12.2f}{fitted - have_counts:>10.2f}"
    if nuts:
        started = time.perf_counter()
        fit_stages(history, durations=PIECEWISE, draws=DRAWS, seed=SEED)
        line += f"{time.perf_counter() - started:>9.1f}"
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return f"{line}{peak:>12,.0f}"


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


def compare(n_deals: int) -> str:
    """Time to fit the busiest stage from counts and from single stays, the posterior held to be the same."""
    stays = simulated_stays(n_deals, seed=SEED)
    history = _history(count_stays(stays))
    problem = choose_problems(history, dict.fromkeys(GRAPH.open, PIECEWISE), seed=SEED)[0].problem
    baseline = problem.baseline
    assert isinstance(baseline, PiecewiseBaseline)
    alone = single_stays(problem.data)
    rows = alone.levels[:, 0]
    plain = replace(
        problem, data=alone, baseline=piecewise_baseline(alone, baseline.starts), design=problem.design[rows]
    )
    fits, steps, modes = [], [], []
    laplace_fit(problem, draws=10, rng=np.random.default_rng(SEED))
    for each in (problem, plain):
        started = time.perf_counter()
        modes.append(laplace_fit(each, draws=DRAWS, rng=np.random.default_rng(SEED)).mode)
        fits.append(time.perf_counter() - started)
        started = time.perf_counter()
        for _ in range(STEPS):
            log_posterior(each, modes[0], np.full(1, LOG_SCALE_MEAN))
        steps.append((time.perf_counter() - started) / STEPS)
    if not np.allclose(*modes, atol=1e-3):
        raise DealcastError(f"the two fits disagree by {np.abs(modes[0] - modes[1]).max()}: a defect, please report it")
    names = (f"{len(problem.data.count):,} counts", f"{len(rows):,} single stays")
    return "\n".join(
        f"{n_deals:,} deals, {GRAPH.open[0]} alone, {what}: {before * unit:.3g} {of} from {names[0]}, "
        f"{after * unit:.3g} {of} from {names[1]}: {after / before:.0f} times slower"
        for what, (before, after), unit, of in (
            ("fast inference", fits, 1.0, "s"),
            ("one log-density with gradient, of which NUTS takes thousands", steps, 1e3, "ms"),
        )
    )


def main(argv: list[str] | None = None) -> int:
    """Measure every size in a process of its own and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--toy", action="store_true", help="a size for tests")
    parser.add_argument("--nuts", action="store_true", help="time NUTS as well")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--write", nargs=2, help=argparse.SUPPRESS)
    asked = parser.parse_args(argv)
    if asked.write:
        simulated_stays(int(asked.write[1]), seed=SEED).to_parquet(asked.write[0])
        return 0
    if asked.one:
        print(measure(asked.one, nuts=asked.nuts))
        return 0
    nuts = ["--nuts"] if asked.nuts else []
    heads = ("stays", "counts", "counting s", "fit s", *(("NUTS s",) if asked.nuts else ()), "peak MB")
    widths = (12, 9, 12, 10, *((9,) if asked.nuts else ()), 12)
    print(f"{'deals':>10}" + "".join(f"{head:>{width}}" for head, width in zip(heads, widths, strict=True)), flush=True)
    for n_deals in (300,) if asked.toy else SIZES:
        subprocess.run([sys.executable, "-m", "benchmarks.speed.fit", "--one", str(n_deals), *nuts], check=True)
    print(compare(300 if asked.toy else COMPARED))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
