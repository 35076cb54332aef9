"""``dealcast init`` and ``dealcast check``."""

from pathlib import Path

from forecasting.commands.terminal import Outcome, as_notes
from forecasting.config import read_job
from forecasting.jobs import Check, check, init
from forecasting.output.words import day, plural


def run_init(path: Path) -> Outcome:
    """Write a job file."""
    written = init(path)
    text = f"wrote {written}: say in it where your tables are and what your stages are called, then run\n"
    return Outcome(text + f"  dealcast check {written}", {"job": str(written)})


def run_check(path: Path, *, as_of: str | None) -> Outcome:
    """Read everything, report on the data."""
    found = check(read_job(path), as_of=as_of)
    data = {
        "as_of": found.as_of.isoformat(),
        "deals": found.deals,
        "won_deals": found.won_deals,
        "open_deals": found.open_deals,
        "open_without_amount": found.open_without_amount,
        "open_by_stage": found.open_by_stage,
        "warnings": list(found.warnings),
        "data_quality": found.quality.to_dict(),
    }
    return Outcome(_text(found), data, notes=as_notes(found.warnings))


def _text(found: Check) -> str:
    lines = [
        found.quality.to_text(),
        "",
        f"as of {day(found.as_of)}: {plural(found.deals, 'deal')}, {found.won_deals:,} won with an amount, "
        f"{found.open_deals:,} open, {found.open_without_amount:,} of these without an amount",
    ]
    width = max(len(stage) for stage in found.open_by_stage)
    lines += [f"  {stage.ljust(width)}  {count:>6,} open" for stage, count in found.open_by_stage.items()]
    return "\n".join(lines)
