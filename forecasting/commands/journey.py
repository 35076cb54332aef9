"""The whole journey on made-up data: a CRM export, a job file, a forecast with everything that is written about it."""

from datetime import date
from pathlib import Path

from forecasting.config import read_job
from forecasting.data.sample import write_demo
from forecasting.jobs import Progress, forecast_job, job_findings, job_goal
from forecasting.output.artefacts import write_artefacts
from forecasting.output.findings import Findings

JOB_FILE = "dealcast.toml"
DEFAULT_SEED = 20261123
DEMO_DAY = date(2026, 10, 31)
"""As-of date of the demo: a month into a quarter, so that some of its revenue is booked already."""


def demo(
    folder: str | Path = "demo", *, seed: int = DEFAULT_SEED, as_of: str | None = None, progress: Progress | None = None
) -> Findings:
    """Write sample data and a job file, forecast them as ``dealcast forecast`` would, and write its artefacts.

    Parameters
    ----------
    folder : path
        Made when missing; an earlier demo in it is replaced.
    seed : int
        Another seed, another company.
    as_of : date, optional
        Last known day; the last day of the sample by default.
    progress : callable, optional
    """
    made = write_demo(folder, seed=seed, as_of=DEMO_DAY)
    job = read_job(Path(folder) / JOB_FILE)
    forecast = forecast_job(job, as_of=made.as_of if as_of is None else as_of, progress=progress)
    found = job_findings(job, forecast, goal=job_goal(job.config))
    write_artefacts(found, job.config.output_folder)
    return found
