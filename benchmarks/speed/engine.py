"""What the simulation engine costs: agreement first, then time, memory, size and bits.

    python -m benchmarks.speed.engine agreement     # both samplers and all rivals against exact probabilities
    python -m benchmarks.speed.engine time          # samplers at the sizes of the targets, one and two threads
    python -m benchmarks.speed.engine rivals        # the same work in NumPy, SimPy, a loop and a plain numba kernel
    python -m benchmarks.speed.engine memory        # peak memory above the inputs, each size in a process of its own
    python -m benchmarks.speed.engine crossover     # cost by deals and draws for both samplers, drawn as a picture
    python -m benchmarks.speed.engine bits          # the same totals however and wherever the work is cut
    python -m benchmarks.speed.engine all [--toy]   # everything; --toy runs each at a size for tests

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

import numpy as np

from benchmarks.speed.planted_floor import EDGES, Floor, expected_wins, general_floor, row_floor
from benchmarks.speed.rivals import RIVALS
from forecasting.engine.blocks import EngineOptions, Sampler
from forecasting.simulate import OpenSimulation, simulate_open

PICTURE = Path("benchmarks/results/engine_crossover.png")


def simulate(
    floor: Floor, draws: int, sampler: Sampler = "auto", *, threads: int = 1, memory_mb: int = 400,
    executor: Executor | None = None,
) -> OpenSimulation:  # fmt: skip
    """One call of the engine as a user makes it."""
    options = EngineOptions(sampler=sampler, threads=threads, memory_mb=memory_mb, executor=executor)
    return simulate_open(floor.pipeline, floor.source, edges=EDGES, seed=1, draws=draws, options=options)


def least_seconds(run: Callable[[], object], repeats: int) -> float:
    """Least time of several runs, after one that may compile."""
    run()
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        run()
        times.append(time.perf_counter() - started)
    return min(times)


def agreement(toy: bool) -> None:
    """Wins by draw and month against the exact means: z of the sums over draws, mean square of the single ones."""
    n_deals, draws = (300, 40) if toy else (2_000, 500)
    print(f"\nAgreement with exact probabilities, {n_deals:,} deals x {draws:,} draws, wins by month")
    for name, floor in (("row", row_floor(n_deals, draws)), ("general", general_floor(n_deals, draws))):
        mean, variance = expected_wins(floor, draws)
        counts = {
            "fate": simulate(floor, draws, "fate").won_count.sum(axis=2),
            "paths": simulate(floor, draws, "paths").won_count.sum(axis=2),
        }
        if name == "row":
            few = min(draws, 40)
            counts |= {rival: run(floor, draws if "P" not in rival else few) for rival, run in RIVALS.items()}
        for sampler, count in counts.items():
            gap, rows = count - mean[: len(count)], variance[: len(count)]
            worst = np.abs(gap.sum(axis=0) / np.sqrt(rows.sum(axis=0))).max()
            print(
                f"  {name:8} {sampler:20} worst |z| of 12 months {worst:5.2f}   mean z^2 {(gap**2 / rows).mean():5.3f}"
            )
            if worst > 5 or not 0.7 < (gap**2 / rows).mean() < 1.3:
                raise SystemExit(f"{sampler} disagrees with the exact probabilities")


def times(toy: bool) -> None:
    """Nanoseconds per deal and draw at the sizes of the targets."""
    print("\nTime: five stages in a row (or 8 stages, 3 exits, loops), 365 days, 12 months, 4 segments")
    sizes = [(50, 20), (500, 8)] if toy else [(500, 4_000), (10_000, 4_000), (100_000, 400), (1_000_000, 200)]
    for n_deals, draws in sizes:
        floor = row_floor(n_deals, draws)
        for sampler in ("auto", "fate", "paths"):
            _time_row("row", floor, draws, sampler, toy)
    for n_deals, draws in [(200, 8)] if toy else [(10_000, 400), (100_000, 100)]:
        floor = general_floor(n_deals, draws)
        for sampler in ("fate", "paths"):
            _time_row("general", floor, draws, sampler, toy)


def _time_row(name: str, floor: Floor, draws: int, sampler: Sampler, toy: bool) -> None:
    size = floor.pipeline.n_deals * draws
    repeats = 1 if toy else 3
    one = least_seconds(lambda: simulate(floor, draws, sampler, threads=1), repeats)
    two = least_seconds(lambda: simulate(floor, draws, sampler, threads=2), repeats)
    taken = simulate(floor, min(draws, 2), sampler).sampler
    print(
        f"  {name:8} {floor.pipeline.n_deals:>9,} x {draws:<6,} {sampler:6} ({taken:5}) {one:8.3f} s "
        f"{one / size * 1e9:8.2f} ns   two threads {one / two:4.2f} times as fast"
    )


def rivals(toy: bool) -> None:
    """Time the rivals on the same floor; those written in Python on fewer draws."""
    sizes = [(200, 8)] if toy else [(10_000, 400), (1_000_000, 20)]
    for n_deals, draws in sizes:
        floor = row_floor(n_deals, draws)
        print(f"\nSide by side, {n_deals:,} deals, one core, ns per deal and draw")
        best = least_seconds(lambda f=floor, d=draws: simulate(f, d, "fate"), 3) / (n_deals * draws) * 1e9
        print(f"  {'fate':20} {best:10.2f}")
        for name, run in RIVALS.items():
            part = max(1, min(draws, 200_000 // n_deals)) if "P" in name else draws
            if "P" in name and n_deals > 100_000 and "NumPy" not in name:
                continue
            ns = least_seconds(lambda r=run, f=floor, p=part: r(f, p), 1) / (n_deals * part) * 1e9
            print(f"  {name:20} {ns:10.2f}   {ns / best:8.1f} times fate")


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


def memory(toy: bool) -> None:
    """Peak memory of each size, in a process of its own."""
    print("\nPeak memory above the inputs, fate sampler, two threads")
    for n_deals, draws in [(1_000, 40)] if toy else [(100_000, 4_000), (1_000_000, 1_000)]:
        code = f"from benchmarks.speed.engine import peak_memory; print(peak_memory({n_deals}, {draws}, 40))"
        run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        print(f"  {n_deals:>9,} x {draws:<6,} {float(run.stdout):8.1f} MB")


def crossover(toy: bool) -> None:
    """Cost by size for both samplers, and where they cross, as a picture."""
    import matplotlib.pyplot as plt

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
                run = min(n_draws, 1_000 if n_deals < 30_000 else 100)
                cost.append(
                    least_seconds(lambda f=floor, r=run, s=sampler: simulate(f, r, s), 2) / (n_deals * run) * 1e9
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
    axes.set(xlabel="open deals", ylabel="ns per deal and draw, one core")
    axes.legend(fontsize=8)
    if not toy:
        PICTURE.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(PICTURE, dpi=150, bbox_inches="tight")
        print(f"  drawn in {PICTURE}")
    plt.close(figure)


def bits(toy: bool) -> None:
    """Compare the totals of other blocks, threads, orders and processes."""
    n_deals, draws = (300, 40) if toy else (20_000, 400)
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


PARTS = {
    "agreement": agreement,
    "time": times,
    "rivals": rivals,
    "memory": memory,
    "crossover": crossover,
    "bits": bits,
}


def main(arguments: list[str] | None = None) -> None:
    """Run the parts asked for."""
    parser = argparse.ArgumentParser(description="What the simulation engine costs.")
    parser.add_argument("part", choices=[*PARTS, "all"])
    parser.add_argument("--toy", action="store_true", help="at a size for tests")
    given = parser.parse_args(arguments)
    print(f"{platform.machine()}, {platform.processor() or 'unnamed processor'}, Python {platform.python_version()}")
    for name, run in PARTS.items():
        if given.part in (name, "all"):
            run(given.toy)


if __name__ == "__main__":
    main()
