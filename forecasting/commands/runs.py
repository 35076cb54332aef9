"""``dealcast fit``, ``forecast``, ``leads-needed`` and ``report``."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from forecasting.answers.leads import check_confidence
from forecasting.answers.revenue import Span, span_within, target_cents
from forecasting.commands.progress import shown_progress
from forecasting.commands.terminal import ALERT, Outcome, as_notes
from forecasting.config import Job, JobConfig, horizon_end, read_job
from forecasting.jobs import POSTERIOR_FOLDER, fitted, forecast_job, job_findings, job_goal
from forecasting.output.answer import answer, leads_answer
from forecasting.output.artefacts import write_artefacts
from forecasting.output.findings import Findings, Goal
from forecasting.output.forecast_json import forecast_record
from forecasting.output.page import report
from forecasting.output.words import chance, day
from forecasting.periods import as_date
from forecasting.plots.style import undrawable
from models.errors import SettingsError
from models.posterior import Posterior

REPORT_FILE = "report.html"


@dataclass(frozen=True)
class Asked:
    """What the options of a command say about the target; None leaves the job file's word."""

    amount: float | None = None
    by: str | None = None
    since: str | None = None
    confidence: float | None = None
    min_attainment: float | None = None


def run_fit(path: Path, *, as_of: str, refit: bool, as_json: bool) -> Outcome:
    """Fit and save."""
    job = read_job(path)
    with shown_progress(wanted=not as_json) as progress:
        posterior = fitted(job, as_of=as_of, refit=refit, progress=progress)
    folder = job.config.output_folder / POSTERIOR_FOLDER
    return Outcome(_fit_text(posterior, folder), _fit_data(posterior, folder))


def run_forecast(path: Path, *, as_of: str, asked: Asked, refit: bool, as_json: bool) -> Outcome:
    """Forecast, write the artefacts, say the answer."""
    job = read_job(path)
    goal = goal_of(job.config, asked)
    if asked.min_attainment is not None:
        check_confidence(asked.min_attainment, name="--min-attainment")
        if goal is None:
            raise SettingsError(
                "--min-attainment needs a target: add [target] to the job file, or give --target and --by"
            )
    found = _found(job, as_of=as_of, goal=goal, refit=refit, as_json=as_json)
    files = write_artefacts(found, job.config.output_folder)
    text = "\n".join([*answer(found), "", f"written to {job.config.output_folder}: {', '.join(files)}"])
    outcome = Outcome(text, forecast_record(found).to_json(), notes=_notes(found))
    if asked.min_attainment is None or found.leads is None or found.leads.attainment_without >= asked.min_attainment:
        return outcome
    reached = chance(found.leads.attainment_without)
    alert = f"ALERT: the chance to reach the target is {reached}, below {chance(asked.min_attainment)}"
    return replace(outcome, exit_code=ALERT, notes=(*outcome.notes, alert))


def run_leads_needed(path: Path, *, as_of: str, asked: Asked, as_json: bool) -> Outcome:
    """Say how many more leads a target takes; writes nothing but the fit."""
    job = read_job(path)
    goal = goal_of(job.config, asked)
    if goal is None:
        raise SettingsError("there is no target: give --target and --by, or add [target] to the job file")
    check_goal(job.config, goal, as_of=as_of)
    with shown_progress(wanted=not as_json) as progress:
        made = forecast_job(job, as_of=as_of, progress=progress)
    period, fiscal_year_start = job.config.forecast.period, job.config.forecast.fiscal_year_start
    leads = made.leads_needed(
        target=goal.amount, by=goal.by, since=goal.since, confidence=goal.confidence, period=period,
        fiscal_year_start=fiscal_year_start,
    )  # fmt: skip
    last = leads.last_useful_creation_date
    data = {
        "as_of": made.as_of.isoformat(),
        "target": leads.target,
        "since": leads.since.isoformat(),
        "by": leads.by.isoformat(),
        "confidence": leads.confidence,
        "leads_needed": leads.n,
        "attainment_probability": leads.attainment_without,
        "attainment_probability_with_leads": leads.attainment_with,
        "last_useful_creation_date": last.isoformat() if last else None,
    }
    return Outcome("\n".join(leads_answer(leads, made.currency)), data)


def run_report(path: Path, *, as_of: str, output: Path | None, as_json: bool) -> Outcome:
    """Write the page only."""
    job = read_job(path)
    found = _found(job, as_of=as_of, goal=job_goal(job.config), refit=False, as_json=as_json)
    written = report(found, job.config.output_folder / REPORT_FILE if output is None else output)
    return Outcome(f"wrote {written}", {"report": str(written)}, notes=_notes(found))


def goal_of(config: JobConfig, asked: Asked) -> Goal | None:
    """Target of the job file with what the options say instead.

    Raises
    ------
    SettingsError
        Only a part of a target is given.
    """
    goal = job_goal(config)
    if goal is None:
        if asked.amount is None and asked.by is None:
            return None
        if asked.amount is None or asked.by is None:
            raise SettingsError("a target has an amount and a last day: give both --target and --by")
        goal = Goal(asked.amount, asked.by)
    return Goal(
        amount=goal.amount if asked.amount is None else asked.amount,
        by=goal.by if asked.by is None else asked.by,
        since=goal.since if asked.since is None else asked.since,
        confidence=goal.confidence if asked.confidence is None else asked.confidence,
    )


def check_goal(config: JobConfig, goal: Goal, *, as_of: str) -> None:
    """Refuse a target that the forecast could not be held against, before any work is done.

    Raises
    ------
    SettingsError
        Its dates lie outside the forecast, or its amount or confidence makes no sense.
    """
    start, forecast = as_date(as_of), config.forecast
    span_within(
        Span(start, horizon_end(forecast, start)), by=goal.by, since=goal.since, period=forecast.period,
        fiscal_year_start=forecast.fiscal_year_start,
    )  # fmt: skip
    target_cents(goal.amount)
    check_confidence(goal.confidence)


def _found(job: Job, *, as_of: str, goal: Goal | None, refit: bool, as_json: bool) -> Findings:
    if goal is not None:
        check_goal(job.config, goal, as_of=as_of)
    with shown_progress(wanted=not as_json) as progress:
        made = forecast_job(job, as_of=as_of, refit=refit, progress=progress)
        return job_findings(job, made, goal=goal)


def _notes(found: Findings) -> tuple[str, ...]:
    warnings = list(found.forecast.warnings)
    if boxes := undrawable((*found.stages.graph.stages, *found.deals["deal_id"])):
        warnings.append(
            f"pictures show boxes for {boxes[:40]!r}: no installed font that they use has these characters of stages "
            "or deal ids; install one, such as Noto Sans CJK or Noto Emoji (numbers and tables are complete)"
        )
    return as_notes(warnings)


def _fit_text(posterior: Posterior, folder: Path) -> str:
    stage = posterior.stage
    lines = [f"fitted as of {day(posterior.as_of)} by {stage.inference} ({stage.sampler}), saved in {folder}"]
    diagnostics = posterior.diagnostics
    if diagnostics.rhat_max is not None:
        lines.append(
            f"R-hat at most {diagnostics.rhat_max:.3f}, effective sample size at least "
            f"{diagnostics.ess_min:,.0f}, {diagnostics.divergences} divergences"
        )
    lines += [f"  {name}: {fit.reason}" for name, fit in zip(stage.graph.open, stage.stages, strict=True)]
    return "\n".join(lines)


def _fit_data(posterior: Posterior, folder: Path) -> dict[str, Any]:
    stage = posterior.stage
    return {
        "as_of": posterior.as_of.isoformat(),
        "folder": str(folder),
        "inputs_sha256": posterior.inputs_sha256,
        "draws": stage.n_draws,
        "inference": stage.inference,
        "durations": dict(stage.families),
        "diagnostics": asdict(posterior.diagnostics),
    }
