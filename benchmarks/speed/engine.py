"""What the simulation engine costs: agreement first, then time, memory, size and bits.

    python -m benchmarks.speed.engine agreement     # both samplers and all rivals against exact probabilities
    python -m benchmarks.speed.engine families      # both samplers against NumPy: every family, a million paths each
    python -m benchmarks.speed.engine time          # samplers at the sizes of the targets, one and two threads
    python -m benchmarks.speed.engine rivals        # the same work in NumPy, SimPy, a loop and a plain numba kernel
    python -m benchmarks.speed.engine memory        # peak memory above the inputs, each size in a process of its own
    python -m benchmarks.speed.engine crossover     # cost by deals and draws for both samplers, drawn as a picture
    python -m benchmarks.speed.engine bits          # the same totals however and wherever the work is cut
    python -m benchmarks.speed.engine wait          # a forecast from a ready posterior, results per deal and files too
    python -m benchmarks.speed.engine all [--toy]   # everything; --toy runs each at a size for tests
    python -m benchmarks.speed.engine time --save   # keeps the figures of the parts run in docs/results/engine.csv

Times are the least of several runs through the public ``simulate_open``: tables and sums included, compilation not. On a
machine that is busy with other things they are upper bounds.
"""

import argparse
import gc
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import Executor, ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.speed import families, waiting
from benchmarks.speed.planted_floor import EDGES, Floor, expected_wins, general_floor, row_floor
from benchmarks.speed.rivals import RIVALS
from forecasting.engine.blocks import EngineOptions, Sampler
from forecasting.simulate import OpenSimulation, simulate_open

SAVED = Path("docs/results")
FIGURES, PICTURE = "engine.csv", "engine_crossover.png"
SHORT_SECONDS = 2.0
"""Runs are repeated until they have taken as long together."""


class Figure(NamedTuple):
    """One measured figure: the part of the benchmark, what was run, at which size, and what was measured."""

    part: str
    case: str
    deals: int
    draws: int
    measure: str
    value: float


class Run(NamedTuple):
    """How a part is run: at a size for tests or in full, and where its picture goes, if anywhere."""

    toy: bool
    folder: Path | None


def simulate(
    floor: Floor, draws: int, sampler: Sampler = "auto", *, threads: int = 1, memory_mb: int = 400,
    executor: Executor | None = None, pace: NDArray[np.float64] | None = None,
) -> OpenSimulation:  # fmt: skip
    """One call of the engine as a user makes it."""
    options = EngineOptions(sampler=sampler, threads=threads, memory_mb=memory_mb, executor=executor)
    return simulate_open(floor.pipeline, floor.source, edges=EDGES, seed=1, draws=draws, options=options, pace=pace)


def least_seconds(run: Callable[[], object], repeats: int) -> float:
    """Least time of several runs, after one that may compile; short ones, easily disturbed, run up to ten times as often."""
    run()
    times: list[float] = []
    while len(times) < repeats or (sum(times) < SHORT_SECONDS and len(times) < 10 * repeats):
        started = time.perf_counter()
        run()
        times.append(time.perf_counter() - started)
    return min(times)


def agreement(run: Run) -> list[Figure]:
    """Wins by draw and month against the exact means: z of the sums over draws, mean square of the single ones."""
    n_deals, draws = (300, 40) if run.toy else (2_000, 500)
    figures = []
    print(f"\nAgreement with exact probabilities, {n_deals:,} deals x {draws:,} draws, wins by month")
    for name, floor in (("row", row_floor(n_deals, draws)), ("general", general_floor(n_deals, draws))):
        mean, variance = expected_wins(floor, draws)
        counts = {
            "fate": simulate(floor, draws, "fate").won_count.sum(axis=2),
            "paths": simulate(floor, draws, "paths").won_count.sum(axis=2),
        }
        if name == "row":
            few = min(draws, 40)
            counts |= {rival: play(floor, draws if "P" not in rival else few) for rival, play in RIVALS.items()}
        for sampler, count in counts.items():
            gap, rows = count - mean[: len(count)], variance[: len(count)]
            worst = np.abs(gap.sum(axis=0) / np.sqrt(rows.sum(axis=0))).max()
            print(
                f"  {name:8} {sampler:20} worst |z| of 12 months {worst:5.2f}   mean z^2 {(gap**2 / rows).mean():5.3f}"
            )
            if worst > 5 or not 0.7 < (gap**2 / rows).mean() < 1.3:
                raise SystemExit(f"{sampler} disagrees with the exact probabilities")
            figures.append(Figure("agreement", f"{name} {sampler}", n_deals, len(count), "worst z", worst))
            figures.append(Figure("agreement", f"{name} {sampler}", n_deals, len(count), "z^2", (gap**2 / rows).mean()))
    return figures


def all_families(run: Run) -> list[Figure]:
    """Every family, graph and clock with both samplers against probability pushed forward in NumPy."""
    deals, draws = (90, 200) if run.toy else (540, 2_000)
    print(f"\nAgreement of every family, {deals * draws:,} paths each, a third of the deals past a wall of 1e-12")
    figures = []
    for number, (family, graph, clock) in enumerate(families.cases(toy=run.toy)):
        for found in families.agreements(family, graph, clock, deals=deals, draws=draws, seed=1 + number):
            name = f"{family} {graph} {clock} {found.sampler}"
            print(f"  {name:44} worst |z| {found.worst:5.2f}   mean z^2 {found.mean_square:5.3f}")
            figures.append(Figure("families", name, deals, draws, "worst z", found.worst))
            figures.append(Figure("families", name, deals, draws, "z^2", found.mean_square))
    squares = [figure.value for figure in figures if figure.measure == "z^2"]
    print(f"  over all cases: mean z^2 {np.mean(squares):5.3f}")
    told = [float(np.mean(squares))] if run.toy else squares  # a toy case has too few sums to be judged alone
    if max(f.value for f in figures if f.measure == "worst z") > 4 or not 0.7 < min(told) <= max(told) < 1.3:
        raise SystemExit("a sampler disagrees with the reference")
    return figures


def times(run: Run) -> list[Figure]:
    """Nanoseconds per deal and draw at the sizes of the targets."""
    print("\nTime: five stages in a row (or 8 stages, 3 exits, loops), 365 days, 12 months, 4 segments")
    sizes = [(50, 20), (500, 8)] if run.toy else [(500, 4_000), (10_000, 4_000), (100_000, 400), (1_000_000, 200)]
    figures = []
    for n_deals, draws in sizes:
        floor = row_floor(n_deals, draws)
        figures += _time_rows("row", floor, draws, "fate", run.toy)
        if n_deals * draws <= 50_000_000 or run.toy:
            figures += _time_rows("row", floor, draws, "paths", run.toy)
    for n_deals, draws in [(200, 8)] if run.toy else [(10_000, 400), (100_000, 100)]:
        floor = general_floor(n_deals, draws)
        for sampler in ("fate", "paths"):
            figures += _time_rows("general", floor, draws, sampler, run.toy)
    n_deals, draws = (200, 8) if run.toy else (10_000, 1_000)
    week = np.array([0.2, 0.1, 1.3, 1.2, 1.2, 1.1, 1.1])[np.arange(EDGES[-1]) % 7]
    pace = np.random.default_rng(1).lognormal(0, 0.2, (draws, 1)) * week
    for sampler in ("fate", "paths"):
        for name, clock in (("row", None), ("row, a clock by draw and weekday", pace)):
            figures += _time_rows(name, row_floor(n_deals, draws), draws, sampler, run.toy, pace=clock)
    return figures


def _time_rows(
    name: str, floor: Floor, draws: int, sampler: Sampler, toy: bool, *, pace: NDArray[np.float64] | None = None
) -> list[Figure]:
    n_deals, repeats = floor.pipeline.n_deals, 1 if toy else 2
    one = least_seconds(lambda: simulate(floor, draws, sampler, pace=pace), repeats)
    two = least_seconds(lambda: simulate(floor, draws, sampler, threads=2, pace=pace), repeats)
    measured = {
        "seconds": one, "seconds, two threads": two, "ns per deal and draw": one / (n_deals * draws) * 1e9,
        "two threads, times as fast": one / two,
    }  # fmt: skip
    print(
        f"  {name:34} {n_deals:>9,} x {draws:<6,} {sampler:6} {one:8.3f} s "
        f"{measured['ns per deal and draw']:8.2f} ns   two threads {one / two:4.2f} times as fast"
    )
    return [Figure("time", f"{name} {sampler}", n_deals, draws, measure, value) for measure, value in measured.items()]


def rivals(run: Run) -> list[Figure]:
    """Time the rivals on the same floor; those written in Python on fewer draws."""
    sizes = [(200, 8)] if run.toy else [(10_000, 400), (1_000_000, 200)]
    figures = []
    for n_deals, draws in sizes:
        floor = row_floor(n_deals, draws)
        print(f"\nSide by side, {n_deals:,} deals, one core, ns per deal and draw")
        best = least_seconds(lambda f=floor, d=draws: simulate(f, d, "fate"), 3) / (n_deals * draws) * 1e9
        print(f"  {'fate':20} {best:10.2f}")
        figures.append(Figure("rivals", "fate", n_deals, draws, "ns per deal and draw", best))
        for name, play in RIVALS.items():
            part = max(1, min(draws, 200_000 // n_deals)) if "P" in name else min(draws, 20_000_000 // n_deals)
            if "P" in name and n_deals > 100_000 and "NumPy" not in name:
                continue
            ns = least_seconds(lambda r=play, f=floor, p=part: r(f, p), 1) / (n_deals * part) * 1e9
            print(f"  {name:20} {ns:10.2f}   {ns / best:8.1f} times fate")
            figures.append(Figure("rivals", name, n_deals, part, "ns per deal and draw", ns))
            figures.append(Figure("rivals", name, n_deals, part, "times fate", ns / best))
    return figures


def peak_memory(n_deals: int, draws: int, distinct: int) -> float:
    """Megabytes above the inputs at the highest point of a simulation on two threads; run in a fresh process (Linux)."""
    floor = row_floor(n_deals, distinct)
    simulate(row_floor(50, 2), 2, "fate", threads=2)
    repeated = _Repeated(floor, draws)
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # Linux: the peak starts again from here
    before = _status_mb("VmRSS")
    options = EngineOptions(sampler="fate", threads=2)
    made = simulate_open(floor.pipeline, repeated, edges=EDGES, seed=1, draws=draws, options=options)
    assert made.revenue_cents.any()
    return _status_mb("VmHWM") - before


def _status_mb(name: str) -> float:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(float(line.split()[1]) / 1024 for line in lines if line.startswith(name))


class _Repeated:
    """Planted hazards that start again after the last draw, so that inputs stay small."""

    def __init__(self, floor: Floor, draws: int) -> None:
        self.source, self.n_draws = floor.source, draws

    def lattice(self, draws, *, days, cells):  # type: ignore[no-untyped-def]
        return self.source.lattice(draws % self.source.n_draws, days=days, cells=cells)


def memory(run: Run) -> list[Figure]:
    """Peak memory of each size, in a process of its own."""
    print("\nPeak memory above the inputs, fate sampler, two threads")
    figures = []
    for n_deals, draws in [(1_000, 40)] if run.toy else [(100_000, 4_000), (1_000_000, 1_000)]:
        code = f"from benchmarks.speed.engine import peak_memory; print(peak_memory({n_deals}, {draws}, 40))"
        made = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        print(f"  {n_deals:>9,} x {draws:<6,} {float(made.stdout):8.1f} MB")
        figures.append(Figure("memory", "row fate", n_deals, draws, "MB above the inputs", float(made.stdout)))
    return figures


def crossover(run: Run) -> list[Figure]:
    """Cost by size for both samplers, and where they cross, as a picture."""
    import matplotlib.pyplot as plt

    toy, figures = run.toy, []
    deals = [100, 300] if toy else [100, 300, 1_000, 3_000, 10_000, 30_000, 100_000, 300_000, 1_000_000]
    draws = [10] if toy else [100, 1_000, 10_000]
    figure, axes = plt.subplots(figsize=(7, 4.5))
    print("\nCost by size, ns per deal and draw")
    for n_draws in draws:
        costs: dict[Sampler, list[float]] = {"fate": [], "paths": []}
        sizes = [n for n in deals if n * n_draws <= 200_000_000]
        for n_deals in sizes:
            floor = row_floor(n_deals, min(n_draws, 1_000))
            for sampler, cost in costs.items():
                part = min(n_draws, 1_000 if n_deals < 30_000 else 100)
                least = least_seconds(lambda f=floor, p=part, s=sampler: simulate(f, p, s), 1)
                cost.append(least / (n_deals * part) * 1e9)
                figures.append(
                    Figure("crossover", f"row {sampler}", n_deals, n_draws, "ns per deal and draw", cost[-1])
                )
            print(f"  {n_deals:>9,} x {n_draws:<6,} fate {costs['fate'][-1]:8.1f}  paths {costs['paths'][-1]:8.1f}")
        for sampler, cost in costs.items():
            axes.loglog(
                sizes, cost, marker="o", ls="-" if sampler == "fate" else "--", label=f"{sampler}, {n_draws:,} draws"
            )
        crossed = [n for n, f, p in zip(sizes, costs["fate"], costs["paths"], strict=True) if f <= p]
        if crossed:
            axes.axvline(crossed[0], lw=0.8, color="grey")
            print(f"  fate is ahead from {crossed[0]:,} deals on")
            figures.append(Figure("crossover", "fate ahead from", crossed[0], n_draws, "deals", crossed[0]))
    axes.set(xlabel="open deals", ylabel="ns per deal and draw, one core")
    axes.legend(fontsize=8)
    if run.folder is not None:
        run.folder.mkdir(parents=True, exist_ok=True)
        figure.savefig(run.folder / PICTURE, dpi=110, bbox_inches="tight")
    plt.close(figure)
    return figures


def bits(run: Run) -> list[Figure]:
    """Compare the totals of other blocks, threads, orders and processes."""
    n_deals, draws = (300, 40) if run.toy else (20_000, 400)
    figures = []
    floor = row_floor(n_deals, draws)
    shuffled = Floor(
        type(floor.pipeline)(
            floor.pipeline.graph,
            floor.pipeline.as_of,
            floor.pipeline.deals.sample(frac=1, random_state=1).reset_index(drop=True),
            floor.pipeline.cells,
        ),
        floor.source, floor.shape, floor.scale, floor.onward,
    )  # fmt: skip
    print(f"\nSame bits, {n_deals:,} deals x {draws:,} draws")
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        for sampler in ("fate", "paths"):
            plain = simulate(floor, draws, sampler).revenue_cents
            others = {
                "two threads": simulate(floor, draws, sampler, threads=2),
                "small blocks": simulate(floor, draws, sampler, memory_mb=2),
                "shuffled": simulate(shuffled, draws, sampler),
                "two processes": simulate(floor, draws, sampler, executor=pool),
            }
            for name, other in others.items():
                same = np.array_equal(plain, other.revenue_cents)
                print(f"  {sampler:6} {name:14} {'identical' if same else 'DIFFERENT'}")
                if not same:
                    raise SystemExit("totals depend on how the work was cut")
                figures.append(Figure("bits", f"{sampler} {name}", n_deals, draws, "identical", 1.0))
    return figures


def wait(run: Run) -> list[Figure]:
    """Seconds a user waits for a forecast, see :mod:`benchmarks.speed.waiting`."""
    print("\nA forecast from a ready posterior, results per deal and files but pictures included, two threads")
    made = waiting.measured(toy=run.toy)
    return [Figure("wait", found.name, found.deals, found.draws, "seconds", found.seconds) for found in made]


def save(figures: list[Figure], folder: Path) -> None:
    """Keep the figures of the parts run; those of other parts stay."""
    folder.mkdir(parents=True, exist_ok=True)
    table = pd.DataFrame(figures, columns=list(Figure._fields))
    machine = f"{platform.system()} {platform.machine()}, Python {platform.python_version()}"
    table["machine"] = machine
    path = folder / FIGURES
    if path.exists():
        kept = pd.read_csv(path)
        table = pd.concat([kept[~kept["part"].isin(table["part"])], table])
    table.to_csv(path, index=False, float_format="%.5g")


PARTS = {
    "agreement": agreement,
    "families": all_families,
    "time": times,
    "rivals": rivals,
    "memory": memory,
    "crossover": crossover,
    "bits": bits,
    "wait": wait,
}


def main(arguments: list[str] | None = None) -> None:
    """Run the parts asked for."""
    parser = argparse.ArgumentParser(description="What the simulation engine costs.")
    parser.add_argument("part", choices=[*PARTS, "all"])
    parser.add_argument("--toy", action="store_true", help="at a size for tests")
    parser.add_argument("--save", action="store_true", help="keep the figures for the results page")
    parser.add_argument("--folder", type=Path, default=SAVED, help="where --save keeps them")
    given = parser.parse_args(arguments)
    print(f"{platform.machine()}, {platform.processor() or 'unnamed processor'}, Python {platform.python_version()}")
    for name, part in PARTS.items():
        if given.part in (name, "all"):
            figures = part(Run(given.toy, given.folder if given.save else None))
            if given.save:
                save(figures, given.folder)


if __name__ == "__main__":
    main()
