"""``dealcast tune``."""

import json
import re
import tomllib
from pathlib import Path
from typing import Any

from forecasting.commands.progress import shown_progress
from forecasting.commands.terminal import Outcome, as_notes
from forecasting.config import horizon_end, read_job
from forecasting.jobs import warnings_on_past
from forecasting.output.words import money
from forecasting.periods import as_date
from forecasting.proof.backtesting import BacktestOptions
from forecasting.proof.tuning import MOST_ORIGINS, Candidate, Tuning, tune
from forecasting.proof.workers import origin_workers
from models.errors import SettingsError

VALUE = r"""(?:"(?:\\.|[^"\\\n])*"|'[^'\n]*'|[^"'#\n])*?(?=[ \t]*(?:#.*)?$)"""
"""A value of a job file on one line, without the blanks and the comment that may follow."""
TUNING_DRAWS = 1000
"""Draws of each past forecast: enough to compare settings."""


def run_tune(
    path: Path, *, as_of: str, consider: str | None, write: bool, processes: int | None, as_json: bool
) -> Outcome:
    """Choose settings by backtest and write them into the job file."""
    job, day = read_job(path), as_date(as_of, name="as-of")
    model, asked, notes = job.config.model, job.config.forecast, as_notes(warnings_on_past(job, as_of=day))
    present = BacktestOptions(
        segment=model.segment,
        covariates=model.covariates,
        durations=model.durations,
        draws=TUNING_DRAWS,
        calendar=model.calendar,
        holidays=model.holidays,
        fiscal_year_start=job.config.forecast.fiscal_year_start,
        window_days=model.window_days,
        levels=asked.levels,
    )
    columns = [name.strip() for name in consider.split(",")] if consider else []
    with (
        shown_progress(wanted=not as_json) as progress,
        origin_workers(MOST_ORIGINS, processes=processes) as executor,
    ):
        found = tune(
            job.deals,
            as_of=day,
            horizon_days=(horizon_end(asked, day) - day).days,
            present=present,
            calibrate=asked.calibrate,
            consider=columns,
            executor=executor,
            progress=progress,
            seed=model.seed,
        )
    changed = write and found.recommended != found.candidates[0]
    if changed:
        path.write_text(with_settings(path.read_text(encoding="utf-8"), found.recommended), encoding="utf-8")
    return Outcome(_text(found, path if changed else None), {**found.to_dict(), "written": changed}, notes=notes)


def with_settings(job_text: str, settings: Candidate) -> str:
    r"""Text of a job file with other settings, all else as it was, comments included.

    Raises
    ------
    SettingsError
        The file is laid out in a way that cannot be edited line by line.

    Examples
    --------
    >>> print(with_settings('[model]\nseed = 1\n# durations = "auto"  # or one family\n', Candidate("piecewise", ())))
    [model]
    covariates = []
    seed = 1
    durations = "piecewise"
    <BLANKLINE>
    """
    told, wanted = _told(job_text), settings.to_dict()
    sections: dict[str, dict[str, Any]] = {
        "model": {
            **{key: wanted[key] for key in ("durations", "covariates", "window_days")},
            "calendar": wanted["calendar"] or None,  # none is the default
        },
        "forecast": {"levels": wanted["levels"]},
    }
    if told.get("forecast", {}).get("levels", True) == wanted["levels"]:
        del sections["forecast"]
    text = job_text
    for section, keys in sections.items():
        text = _with_keys(text, section, keys)
    written = _told(text)
    for section, keys in sections.items():
        if {key: written.get(section, {}).get(key) for key in keys} != keys:
            by_hand = ", ".join(f"{key} = {json.dumps(value)}" for key, value in keys.items() if value is not None)
            raise SettingsError(f"the [{section}] section cannot be edited line by line; write into it: {by_hand}")
    return text


def _told(job_text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(job_text)
    except tomllib.TOMLDecodeError:
        return {}


def _with_keys(job_text: str, name: str, wanted: dict[str, Any]) -> str:
    """Text with the keys of one section set, in the place of their lines or of comments that show them; None is none."""
    head, start, rest = _section(job_text, name)
    end = re.search(r"^\s*\[", rest, flags=re.MULTILINE)
    section, after = (rest[: end.start()], rest[end.start() :]) if end else (rest, "")
    for key, value in wanted.items():
        told = re.search(rf"^[ \t]*{key}[ \t]*={VALUE}", section, flags=re.MULTILINE)
        if value is None:
            section = re.sub(rf"^[ \t]*{key}[ \t]*=.*\n?", "", section, count=1, flags=re.MULTILINE)
            continue
        line = f"{key} = {json.dumps(value, ensure_ascii=False)}"
        told = told or re.search(rf"^[ \t]*#[ \t]*{key}[ \t]*=.*$", section, flags=re.MULTILINE)
        before, later = (section[: told.start()], section[told.end() :]) if told else ("", f"\n{section}")
        section = before + line + later
    return head + start + section + after


def _section(job_text: str, name: str) -> tuple[str, str, str]:
    """Text before the header of a section, the header, and all after it; a header is added where none is."""
    header = re.search(rf"^\[{name}\][^\n]*\n", job_text, flags=re.MULTILINE)
    if header is None:
        return job_text.rstrip("\n") + "\n\n", f"[{name}]\n", ""
    return job_text[: header.start()], header.group(), job_text[header.end() :]


def _text(found: Tuning, written: Path | None) -> str:
    scores = found.crps.mean(axis=0)
    lines = [f"{'CRPS':>10}  settings ({len(found.origins)} past dates, {found.origins[0]} to {found.origins[-1]})"]
    for place in scores.argsort(kind="stable"):
        each = found.candidates[int(place)]
        lines.append(f"{money(float(scores[place])):>10}  {each.label}{'   now' if place == 0 else ''}")
    lines.append(
        f"Choosing this way gains {found.gain:+.1%} on dates not used for the choice "
        f"(80% range {found.gain_low:+.1%} to {found.gain_high:+.1%}; it helped in {found.sure:.0%} of the trials)."
    )
    if found.recommended == found.candidates[0]:
        lines.append("Keep the settings as they are: nothing is better with enough certainty.")
    elif written is None:
        lines.append(f"Better: {found.recommended.label}; the job file was left as it is.")
    else:
        lines.append(f"Written into {written}: {found.recommended.label}.")
    return "\n".join(lines)
