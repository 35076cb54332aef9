"""The main job on a real pipeline: ``dealcast forecast`` on the BPI Challenge 2012 loan applications, timed as a whole.

    python -m benchmarks.forecast_bpic2012          # the real log, found through DEALCAST_DATA
    python -m benchmarks.forecast_bpic2012 --toy    # the sample data with the fast inference, for the tests

Prints wall seconds of the command, R-hat, ESS, divergences and the revenue range of the 28 days after 2012-01-16, and
exits with 1 when the run misses its targets: 90 s on two cores, R-hat at most 1.01, every ESS at least 400, no divergence.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

MAX_SECONDS, MAX_RHAT, MIN_ESS = 90.0, 1.01, 400.0

JOB = """
[data]
deals = "deals.csv"
stage_history = "stage_history.csv"
currency = "EUR"
timezone = "Europe/Amsterdam"

[stages]
open = ["1_submitted", "2_preaccepted", "3_accepted", "4_offer_sent", "5_offer_returned"]
won = ["WON"]
lost = ["LOST_declined", "LOST_cancelled"]

[model]
inference = "nuts"
seed = 20120116

[forecast]
horizon = "28d"
period = "week"
draws = 4000

[output]
folder = "out"
"""


def write_job(folder: Path, *, data: Path) -> str:
    """Write the log as the two contract tables with a job file; returns the as-of date."""
    import duckdb

    source = data / "bpic2012"
    cases, entries = source / "cases.csv.gz", source / "stage_entries.csv.gz"
    queries = {
        "deals.csv": "SELECT case_id AS deal_id, REG_DATE AS created_at, AMOUNT_REQ AS amount "
        f"FROM read_csv('{cases}', all_varchar=true)",
        "stage_history.csv": "SELECT case_id AS deal_id, stage, entered_at "
        f"FROM read_csv('{entries}', all_varchar=true)",
    }
    for name, query in queries.items():
        duckdb.sql(f"COPY ({query}) TO '{folder / name}' (HEADER)")
    (folder / "dealcast.toml").write_text(JOB, encoding="utf-8")
    return "2012-01-16"


def write_toy_job(folder: Path) -> str:
    """Write the sample data with a job file that asks for the fast inference; returns the as-of date."""
    from forecasting.data.sample import write_demo

    demo = write_demo(folder, seed=7)
    job = folder / "dealcast.toml"
    job.write_text(
        job.read_text(encoding="utf-8").replace('inference = "nuts"', 'inference = "fast"'), encoding="utf-8"
    )
    return str(demo.as_of)


def run(folder: Path, as_of: str) -> tuple[float, int, dict[str, object]]:
    """Run ``dealcast forecast`` as a user does; returns wall seconds, exit code and the parsed result."""
    command = [
        sys.executable,
        "-m",
        "forecasting.cli",
        "forecast",
        str(folder / "dealcast.toml"),
        "--as-of",
        as_of,
        "--json",
    ]
    began = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - began
    if done.returncode not in (0, 4):
        sys.stderr.write(done.stderr)
    return seconds, done.returncode, json.loads(done.stdout) if done.stdout.strip() else {}


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark and print its figures."""
    from benchmarks.real_data import find_or_tell

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--toy", action="store_true", help="sample data and fast inference")
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if options.toy:
            as_of = write_toy_job(folder)
        else:
            data = find_or_tell()
            if data is None:
                return 0
            as_of = write_job(folder, data=data)
        seconds, code, result = run(folder, as_of)
    diagnostics = result.get("diagnostics") or {}
    assert isinstance(diagnostics, dict)
    totals = [row for row in result.get("revenue", []) if row["source"] == "total" and row["segment"] is None]  # type: ignore[attr-defined]
    print(f"as of {as_of}: exit code {code}, {seconds:.1f} s wall, diagnostics {diagnostics}")
    for row in totals:
        low, middle, high = (f"{row[name]:,.0f}" for name in ("p10", "p50", "p90"))
        print(f"  {row['period_start']} to {row['period_end']}: median {middle}, 80 % range {low} to {high}")
    if options.toy:
        return code
    good = diagnostics and diagnostics["rhat_max"] <= MAX_RHAT and diagnostics["ess_min"] >= MIN_ESS
    return 0 if code == 0 and good and diagnostics["divergences"] == 0 and seconds < MAX_SECONDS else 1


if __name__ == "__main__":
    raise SystemExit(main())
