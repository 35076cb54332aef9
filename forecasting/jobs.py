"""From a job file to a forecast: fit if needed, simulate, learn from our own past, check what may be published."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from forecasting.answers.forecasts import Forecast, forecast, with_calibration
from forecasting.config import Job, JobConfig, horizon_end, job_template
from forecasting.data.given import arrival_plan, read_commits, read_plan
from forecasting.data.quality import DataQuality
from forecasting.data.snapshot import Snapshot, cut
from forecasting.fitting import check_won, fit_spec
from forecasting.output.findings import Findings, Goal, findings
from forecasting.periods import as_date
from forecasting.proof.calibration import own_calibration
from forecasting.proof.new_calibration import own_new_calibration
from forecasting.proof.past_forecasts import Memory
from forecasting.proof.stay_table import stay_table
from models.errors import DiagnosticsError, InputError, SettingsError
from models.posterior import ModelSpec, Posterior, load_posterior, save_posterior
from models.stage_model.posterior import LARGEST_RHAT, MIN_ESS

MIN_NUTS_DRAWS = 2000
"""Draws over all chains below which the effective sample size could not reach its floor."""
POSTERIOR_FOLDER = "posterior"
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Check:
    """What is in the data of a job at a date.

    Parameters
    ----------
    as_of : date
    quality : DataQuality
    deals, open_deals, won_deals : int
        Deals known by then, deals open, deals won with an amount.
    open_by_stage : dict of str to int
    open_without_amount : int
    warnings : tuple of str
        What the deals open then lack far more or less often than those before.
    """

    as_of: date
    quality: DataQuality
    deals: int
    open_deals: int
    won_deals: int
    open_by_stage: dict[str, int]
    open_without_amount: int
    warnings: tuple[str, ...]


def init(path: str | Path = "dealcast.toml") -> Path:
    """Write a commented job file to start from.

    Raises
    ------
    SettingsError
        There is a file of that name already, or it cannot be written.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     init(Path(folder) / "dealcast.toml").read_text().splitlines()[3]
    '[data]'
    """
    path = Path(path)
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(job_template())
    except FileExistsError:
        raise SettingsError(f"there is a file {path} already: choose another name or remove it") from None
    except OSError as error:
        raise SettingsError(f"cannot write {path}: {error.strerror}") from None
    return path


def check(job: Job, *, as_of: str | date | None = None) -> Check:
    """Look at the data of a job without fitting anything.

    Parameters
    ----------
    job : Job
        From :func:`forecasting.config.read_job`.
    as_of : date, optional
        Day whose state is described; the last day anything is recorded on by default.

    Raises
    ------
    EmptyInputError
        No deal had been won with an amount by then, though one should have been.
    """
    day = last_day(job) if as_of is None else as_date(as_of)
    snapshot = _cut(job, day)
    _check_given(job.config, tuple(snapshot.arrivals["segment"].unique()))
    check_won(snapshot)
    stage = snapshot.pipeline.deals["stage"]
    return Check(
        as_of=day,
        quality=job.deals.quality,
        deals=snapshot.n_deals,
        open_deals=snapshot.pipeline.n_deals,
        won_deals=int(snapshot.won["amount"].notna().sum()),
        open_by_stage={name: int((stage == code).sum()) for code, name in enumerate(snapshot.graph.open)},
        open_without_amount=snapshot.pipeline.amount_missing,
        warnings=tuple(snapshot.notes),
    )


def warnings_on_past(job: Job, *, as_of: date | None = None) -> tuple[str, ...]:
    """Tell what forecasts before a day, the last one by default, know by the export that a forecast of the day does not."""
    return tuple(_cut(job, as_of or last_day(job)).notes)


def _cut(job: Job, day: date) -> Snapshot:
    return cut(job.deals, as_of=day, segment=job.config.model.segment, covariates=job.config.model.covariates)


def _check_given(config: JobConfig, segments: tuple[str, ...]) -> None:
    """Read the small tables that the job names, so that their faults show before any fitting."""
    if config.commits_file is not None:
        read_commits(config.commits_file)
    if config.plan_file is not None:
        arrival_plan(read_plan(config.plan_file), segments)


def last_day(job: Job) -> date:
    """Last day on which anything is recorded."""
    last: date = job.deals.entries["entered_on"].max().date()
    return last


def fitted(job: Job, *, as_of: str | date, refit: bool = False, progress: Progress | None = None) -> Posterior:
    """Fit the models of a job, or load what was fitted to the same data with the same settings.

    Parameters
    ----------
    job : Job
    as_of : date
    refit : bool
        Fit even if there is a saved posterior.
    progress : callable, optional
        Called with what is done, steps done, and steps in all.

    Returns
    -------
    Posterior
        Saved in the folder ``posterior`` of the job's output.

    Raises
    ------
    DiagnosticsError
        The chains cannot be trusted; nothing is saved.
    """
    folder = job.config.output_folder / POSTERIOR_FOLDER
    saved = None if refit else _saved(job, as_date(as_of), folder)
    if saved is not None:
        return saved
    there = next((path for path in (folder, *folder.parents) if path.exists()), folder)
    if there.is_file():  # said before the fit, which takes its time
        raise SettingsError(f"cannot write to {folder}: {there} is a file; choose another output folder")
    if not os.access(there, os.W_OK):
        raise SettingsError(f"cannot write to {folder}: {there} may only be read; choose another output folder")
    posterior = fit_spec(job.deals, as_of=as_of, spec=job_spec(job), progress=progress)
    check_diagnostics(posterior)
    save_posterior(posterior, folder)
    return posterior


def _saved(job: Job, as_of: date, folder: Path) -> Posterior | None:
    """Load the saved posterior, if it is of the same day, data, stages and settings."""
    try:
        saved = load_posterior(folder)
    except InputError:
        return None
    same = saved.spec == job_spec(job) and saved.stage.graph == job.deals.graph
    return saved if same and saved.as_of == as_of and saved.inputs_sha256 == job.deals.inputs_sha256 else None


def job_spec(job: Job) -> ModelSpec:
    """Return what a job file asks of the models; NUTS takes at least ``MIN_NUTS_DRAWS``: fewer cannot be judged."""
    model, draws = job.config.model, job.config.forecast.draws
    return ModelSpec(
        segment=model.segment,
        covariates=model.covariates,
        durations=model.durations,
        inference=model.inference,
        draws=max(draws, MIN_NUTS_DRAWS) if model.inference == "nuts" else draws,
        seed=model.seed,
        window_days=model.window_days,
        calendar=model.calendar,
        holidays=model.holidays,
        fiscal_year_start=job.config.forecast.fiscal_year_start,
    )


def check_diagnostics(posterior: Posterior) -> None:
    """Raise a DiagnosticsError unless the chains agree, mixed well and did not diverge; fast inference has none."""
    found = posterior.diagnostics
    if not found.trusted:
        raise DiagnosticsError(
            f"the fit cannot be trusted and nothing was published: expected R-hat <= {LARGEST_RHAT}, effective sample size "
            f">= {MIN_ESS} and no divergence; got {found.rhat_max:.3f}, {found.ess_min:.0f} and {found.divergences}. "
            "Take more draws (forecast.draws), merge stages with few deals, or drop covariates"
        )


def forecast_job(job: Job, *, as_of: str | date, refit: bool = False, progress: Progress | None = None) -> Forecast:
    """Forecast what a job file asks for.

    Parameters
    ----------
    job, as_of, refit, progress
        As for :func:`fitted`.

    Returns
    -------
    Forecast
        Calibrated by our own closed forecasts unless the job says no.
    """
    config, day = job.config, as_date(as_of)
    until = horizon_end(config.forecast, day)
    posterior = fitted(job, as_of=day, refit=refit, progress=progress)
    made = forecast(
        job.deals,
        posterior,
        as_of=day,
        until=until,
        seed=config.model.seed,
        new_business=config.forecast.new_business,
        plan=None if config.plan_file is None else read_plan(config.plan_file),
    )
    if not config.forecast.calibrate:
        return made
    stays = stay_table(job.deals, calendar=posterior.spec.calendar_options)
    seed, days, levels, memory = config.model.seed, made.horizon_days, config.forecast.levels, Memory()
    learned = own_calibration(stays, as_of=day, horizon_days=days, seed=seed, levels=levels, memory=memory)
    of_new = None
    if config.forecast.new_business:
        of_new = own_new_calibration(stays, as_of=day, horizon_days=days, seed=seed, levels=levels, memory=memory)
    return with_calibration(made, learned, seed=seed, new=of_new)


def job_goal(config: JobConfig) -> Goal | None:
    """Target of the job file, None if it has none."""
    target = config.target
    return None if target is None else Goal(target.amount, target.by, target.since, target.confidence)


def job_findings(job: Job, made: Forecast, *, goal: Goal | None) -> Findings:
    """Say what the forecast of a job says, in the job's periods."""
    asked = job.config.forecast
    return findings(made, period=asked.period, fiscal_year_start=asked.fiscal_year_start, goal=goal)
