"""``dealcast demo``."""

from pathlib import Path

from forecasting.commands.journey import JOB_FILE, demo
from forecasting.commands.progress import shown_progress
from forecasting.commands.terminal import Outcome
from forecasting.output.answer import answer
from forecasting.output.forecast_json import forecast_record


def run_demo(folder: Path, *, seed: int, as_of: str | None, as_json: bool) -> Outcome:
    """Make sample data, forecast them, say the answer."""
    with shown_progress(wanted=not as_json) as progress:
        found = demo(folder, seed=seed, as_of=as_of, progress=progress)
    lines = [
        *answer(found),
        "",
        f"Look at {folder / 'out' / 'report.html'}; the data and the job file are in {folder}.",
        "The same again, and what it takes to be surer:",
        f"  dealcast forecast {folder / JOB_FILE} --as-of {found.forecast.as_of}",
        f"  dealcast leads-needed {folder / JOB_FILE} --as-of {found.forecast.as_of} --confidence 0.9",
    ]
    return Outcome("\n".join(lines), forecast_record(found).to_json())
