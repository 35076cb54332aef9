"""What a full NUTS run on a real log costs, from a cold start and again, and whether its draws can be trusted.

    python -m benchmarks.speed.nuts           # BPI Challenge 2012 as of 2012-01-16, found through DEALCAST_DATA
    python -m benchmarks.speed.nuts --save    # also keeps the figures for the results page
    python -m benchmarks.speed.nuts --toy     # the sample data and few draws, for the tests

Two models: a hazard per age bin, and a chain of Weibulls with a mass at day 0 where the data ask for it; both with classes
of the amount, 4,000 draws, whatever processes the fit takes. Every run is a process of its own; seconds count from its
start, imports and reading included. Cold means that nothing was ever compiled: numba and PyTensor get an empty folder for
what they compile; the second run finds it full. R-hat and effective sample size are the worst over all log hazards, level
effects and scales.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd

from benchmarks import real_data
from benchmarks.accuracy.open_deals import sample_deals
from benchmarks.command import command_line, keep
from forecasting.data.snapshot import cut, stage_history
from models.history import StageHistory
from models.stage_model.fit import fit_stages

SAVED_NAME = "nuts_speed.csv"
AS_OF = "2012-01-16"
DRAWS, TOY_DRAWS, SEED = 4000, 200, 1
LIMITS = {"piecewise": (120.0, 60.0), "weibull": (60.0, 60.0)}
"""Seconds a cold and a warm run of each model may take on two cores."""
LARGEST_RHAT, SMALLEST_ESS = 1.01, 400.0


def history(*, toy: bool) -> StageHistory:
    """Stays of the log, or of the sample data, known at the cut."""
    folder = real_data.find_data()
    if toy or folder is None:
        return stage_history(cut(sample_deals(), as_of="2026-05-31", covariates=("log_amount",)))
    return stage_history(cut(real_data.load_bpic2012(folder), as_of=AS_OF, covariates=("log_amount",)))


def run(durations: str, *, toy: bool) -> dict[str, object]:
    """Fit in this process and give its diagnostics."""
    posterior = fit_stages(history(toy=toy), durations=durations, draws=TOY_DRAWS if toy else DRAWS, seed=SEED)
    found = posterior.diagnostics
    masses = sum(fit.shape.zero_mass for fit in posterior.stages)
    return {
        "stages": len(posterior.stages),
        "with mass at 0": masses,
        "draws": posterior.n_draws,
        "R-hat": found.rhat_max,
        "ESS": found.ess_min,
        "divergences": found.divergences,
    }


def timed(durations: str, compiled: Path, *, toy: bool) -> tuple[float, dict[str, object]]:
    """Seconds of a fresh process that keeps what it compiles in a given folder, and what it found."""
    environment = {
        **os.environ,
        "NUMBA_CACHE_DIR": str(compiled / "numba"),
        "PYTENSOR_FLAGS": f"compiledir={compiled / 'pytensor'}",
    }
    command = [sys.executable, "-m", "benchmarks.speed.nuts", "--one", durations, *(["--toy"] if toy else [])]
    started = time.perf_counter()
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    return time.perf_counter() - started, json.loads(done.stdout)


def measure(durations: str, *, toy: bool) -> dict[str, object]:
    """One row of the table: a cold run and a warm one."""
    with tempfile.TemporaryDirectory() as folder:
        cold, _ = timed(durations, Path(folder), toy=toy)
        warm, found = timed(durations, Path(folder), toy=toy)
    return {"durations": durations, **found, "cold s": round(cold, 1), "warm s": round(warm, 1)}


def verdict(row: dict[str, object]) -> str:
    """Say which limits a row keeps."""
    cold, warm = LIMITS[str(row["durations"])]
    quick = float(str(row["cold s"])) < cold and float(str(row["warm s"])) < warm
    sound = (
        float(str(row["R-hat"])) <= LARGEST_RHAT
        and float(str(row["ESS"])) >= SMALLEST_ESS
        and int(str(row["divergences"])) == 0
    )
    return (
        f"{row['durations']}: {'within' if quick else 'beyond'} {cold:.0f} s cold and {warm:.0f} s warm; draws "
        f"{'to be trusted' if sound else f'not within R-hat {LARGEST_RHAT}, ESS {SMALLEST_ESS:.0f}, no divergence'}"
    )


def main(argv: list[str] | None = None) -> int:
    """Measure both models and print the table."""
    parser = command_line(__doc__, toy="sample data, few draws", kept="the figures")
    parser.add_argument("--one", choices=LIMITS, help=argparse.SUPPRESS)
    asked = parser.parse_args(argv)
    if asked.one:
        print(json.dumps(run(asked.one, toy=asked.toy)))
        return 0
    if not asked.toy and real_data.find_or_tell() is None:
        return 0
    rows = [measure(durations, toy=asked.toy) for durations in (["weibull"] if asked.toy else LIMITS)]
    table = pd.DataFrame(rows)
    print(table.round({"R-hat": 4, "ESS": 0}).to_string(index=False))
    for row in rows:
        print(verdict(row))
    if asked.save:
        keep(table, asked.folder / SAVED_NAME, digits=5)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
