"""The job file ``dealcast.toml``: everything a forecast needs besides the as-of date, checked before any work begins.

Paths are relative to the job file. Each complaint names the key it is about.
"""

import re
import tomllib
from dataclasses import dataclass
from datetime import date, timedelta
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails, PydanticCustomError

from forecasting.periods import PeriodName, next_period_start, period_start
from models.calendar.days import DEFAULT_CALENDAR, check_holidays
from models.errors import SettingsError
from models.stage_model.options import LARGEST_SEED
from models.stages import StageGraph

if TYPE_CHECKING:
    from forecasting.data.deals import Deals

DEFAULT_COVARIATES = ("log_amount",)
"""Big deals win and move differently on nearly every real pipeline; an empty list leaves the amount out."""
FORMATS = ("dealcast",)
"""Forms of input that can be read."""
_HORIZON = re.compile(r"(\d+)\s*(d|days?|w|weeks?|months?|quarters?|years?)")
DEFAULT_HORIZON = "90d"
MAX_HORIZON_DAYS = 3653
"""Ten years; nothing learned from past deals is worth anything beyond."""
SHORTEST_WINDOW = 30
"""Days of the past to learn from, at least."""


def _date(value: object) -> object:
    """Take a date written in quotes for a date."""
    if isinstance(value, str):
        try:
            return date.fromisoformat(value)
        except ValueError:
            pass
    return value


def _horizon(value: str) -> str:
    """Refuse a horizon that is not a number and a unit."""
    text = value.strip().lower()
    match = _HORIZON.fullmatch(text)
    if match is None or int(match[1]) == 0:
        raise PydanticCustomError("horizon", "expected a length such as '90d', '8 weeks', '3 months' or '2 quarters'")
    return text


Durations = Literal[
    "auto", "piecewise", "exponential", "weibull", "lognormal", "gamma", "loglogistic", "generalized_gamma"
]
"""Shapes of the times to transition; listed here so that a job file is checked without loading the models."""
CalendarPart = Literal["weekday", "holiday", "period_end"]
"""Properties of a date that the calendar can learn weights of."""
Names = Annotated[tuple[str, ...], Field(strict=False)]
Day = Annotated[date, BeforeValidator(_date)]
Horizon = Annotated[str, BeforeValidator(lambda value: _horizon(value) if isinstance(value, str) else value)]


class _Section(BaseModel):
    """Keys are exactly the ones listed and keep their types."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class DataConfig(_Section):
    """``[data]``: where the two tables are.

    ``deals`` and ``stage_history`` are CSV or Parquet files, or SQL when ``url`` names a database. ``commits`` is a file
    of what managers committed to, scored beside the forecasts of a backtest.
    """

    deals: str
    stage_history: str
    url: str | None = None
    format: str = "dealcast"
    folder: str | None = None
    currency: str | None = None
    timezone: str | None = None
    commits: str | None = None

    @model_validator(mode="after")
    def _folder_has_a_use(self) -> Self:
        if self.folder is not None:
            raise PydanticCustomError(
                "data", "folder belongs to the exports of a CRM; name deals and stage_history instead"
            )
        return self


class StagesConfig(_Section):
    """``[stages]``: open stages in order, and the ones that close a deal."""

    open: Names
    won: Names
    lost: Names


class ModelConfig(_Section):
    """``[model]``: what tells deals apart, and how the model is fitted; ``window_days`` leaves out the older past."""

    segment: Names = ()
    covariates: Names = DEFAULT_COVARIATES
    durations: Durations = "auto"
    inference: Literal["nuts", "fast"] = "nuts"
    window_days: Annotated[int, Field(ge=SHORTEST_WINDOW)] | None = None
    seed: Annotated[int, Field(ge=0, le=LARGEST_SEED)] = 1
    calendar: Annotated[tuple[CalendarPart, ...], Field(strict=False, validate_default=True)] = DEFAULT_CALENDAR  # type: ignore[assignment]
    holidays: str | None = None

    @model_validator(mode="after")
    def _holidays_are_known(self) -> Self:
        if self.holidays is not None:
            try:
                check_holidays(self.holidays)
            except SettingsError as error:
                raise PydanticCustomError("holidays", "{reason}", {"reason": str(error)}) from None
        elif "holiday" in self.calendar:
            raise PydanticCustomError(
                "holidays", "calendar names holiday: say of which country in holidays, such as 'NL' or 'US-CA'"
            )
        return self


class ForecastConfig(_Section):
    """``[forecast]``: how far, in which periods, and what counts. Either ``horizon`` or ``until``; default 90 days.

    ``plan`` is a file of planned new deals; ``levels`` says whether calibration counts the levels of the moment,
    seasons of the year included.
    """

    horizon: Horizon | None = None
    until: Day | None = None
    period: PeriodName = "month"
    fiscal_year_start: Annotated[int, Field(ge=1, le=12)] = 1
    draws: Annotated[int, Field(ge=100, le=1_000_000)] = 4000
    new_business: bool = True
    plan: str | None = None
    calibrate: bool = True
    levels: bool = True

    @model_validator(mode="after")
    def _one_end(self) -> Self:
        if self.horizon is not None and self.until is not None:
            raise PydanticCustomError("horizon", "horizon and until both say where the forecast ends: keep one of them")
        if self.plan is not None and not self.new_business:
            raise PydanticCustomError(
                "plan", "plan is of new deals, and new_business = false leaves them out: keep one"
            )
        return self


class TargetConfig(_Section):
    """``[target]``: the amount to reach ``by`` a day; ``since`` defaults to the start of the as-of date's period."""

    amount: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    by: Day
    since: Day | None = None
    confidence: Annotated[float, Field(gt=0, lt=1)] = 0.8

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.since is not None and self.since > self.by:
            raise PydanticCustomError("target", "since lies after by: the target must be counted over at least one day")
        return self


class StoreConfig(_Section):
    """``[store]``: the database that keeps forecasts."""

    url: str


class OutputConfig(_Section):
    """``[output]``: where the artefacts go."""

    folder: str = "out"


class JobConfig(_Section):
    """A checked job file.

    ``path`` is the job file itself; the other fields are its sections. ``target`` and ``store`` are None when absent.
    """

    path: Path
    data: DataConfig
    stages: StagesConfig
    model: ModelConfig = ModelConfig()
    forecast: ForecastConfig = ForecastConfig()
    target: TargetConfig | None = None
    store: StoreConfig | None = None
    output: OutputConfig = OutputConfig()

    @property
    def folder(self) -> Path:
        """Folder of the job file; paths in it are relative to this."""
        return self.path.parent

    @property
    def graph(self) -> StageGraph:
        """The stages."""
        return StageGraph(open=self.stages.open, won=self.stages.won, lost=self.stages.lost)

    @property
    def output_folder(self) -> Path:
        """Folder of the artefacts."""
        return self.folder / Path(self.output.folder).expanduser()

    @property
    def commits_file(self) -> Path | None:
        """File of commits."""
        return None if self.data.commits is None else self.folder / Path(self.data.commits).expanduser()

    @property
    def plan_file(self) -> Path | None:
        """File of planned new deals."""
        return None if self.forecast.plan is None else self.folder / Path(self.forecast.plan).expanduser()

    @property
    def store_url(self) -> str | None:
        """Address of the store; the file of a SQLite store made absolute."""
        if self.store is None:
            return None
        scheme, sep, rest = self.store.url.partition(":///")
        if not sep or not scheme.startswith("sqlite") or rest in {"", ":memory:"}:
            return self.store.url
        return f"{scheme}:///{self.folder / Path(rest).expanduser()}"


@dataclass(frozen=True)
class Job:
    """A job file and the deals it names."""

    config: JobConfig
    deals: "Deals"


def read_job(path: str | Path) -> Job:
    """Read a job file and the deals it names.

    Raises
    ------
    SettingsError
        As in :func:`read_config`; or a segment or covariate is not a column of the deals.
    InputError
        As in :func:`forecasting.data.deals.read_deals`.
    """
    from forecasting.data.deal_factors import check_columns
    from forecasting.data.deals import deals_from_database, read_deals

    config = read_config(path)
    data = config.data
    if data.url is not None:
        deals = deals_from_database(
            data.url,
            (data.deals, data.stage_history),
            stages=config.graph,
            folder=config.folder,
            currency=data.currency,
            timezone=data.timezone,
        )
    else:
        deals = read_deals(
            config.folder / Path(data.deals).expanduser(),
            config.folder / Path(data.stage_history).expanduser(),
            stages=config.graph,
            currency=data.currency,
            timezone=data.timezone,
        )
    check_columns(deals, segment=config.model.segment, covariates=config.model.covariates)
    return Job(config, deals)


def read_config(path: str | Path) -> JobConfig:
    """Read and check a job file without touching the data.

    Raises
    ------
    SettingsError
        The file is missing or not TOML, a key is unknown, missing or of a wrong type, or a named file does not exist.
    """
    job = Path(path).expanduser().absolute()
    try:
        raw = tomllib.loads(job.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"there is no job file {job}; `dealcast init` writes one to start from") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{job} is not a TOML file: {error}") from error
    if "path" in raw:
        raise SettingsError(f"{job}:\n- path: {_unknown('path', JobConfig)}")
    _check_format(raw)
    try:
        config = JobConfig.model_validate({**raw, "path": job})
    except ValidationError as error:
        lines = "\n".join(f"- {_complaint(detail)}" for detail in error.errors())
        raise SettingsError(f"{job}:\n{lines}") from error
    _check_stages(config)
    _check_files(config)
    return config


def horizon_end(forecast: ForecastConfig, as_of: date) -> date:
    """Last day of the forecast.

    Days and weeks are lengths from ``as_of``. Months, quarters and years are those of the calendar (and the fiscal
    year), the one that holds the day after ``as_of`` being the first: "2 quarters" is this one and the next.

    Examples
    --------
    >>> str(horizon_end(ForecastConfig(horizon="90d"), date(2026, 11, 23)))
    '2027-02-21'
    >>> str(horizon_end(ForecastConfig(horizon="2 quarters"), date(2026, 11, 23)))
    '2027-03-31'
    """
    if forecast.until is not None:
        end = forecast.until
    else:
        match = _HORIZON.fullmatch(forecast.horizon or DEFAULT_HORIZON)
        if match is None:
            raise SettingsError(f"forecast.horizon must be a length such as '90d', got {forecast.horizon!r}")
        try:
            end = _after(as_of, int(match[1]), match[2], forecast.fiscal_year_start)
        except (OverflowError, ValueError):
            raise SettingsError(f"the forecast would end beyond the last date there is: as of {as_of}") from None
    if not 1 <= (end - as_of).days <= MAX_HORIZON_DAYS:
        raise SettingsError(
            f"the forecast would end on {end}, {(end - as_of).days} days after the as-of date {as_of}; "
            f"expected 1 to {MAX_HORIZON_DAYS} days: change forecast.horizon or forecast.until"
        )
    return end


def horizon_after(horizon: str, as_of: date, *, fiscal_year_start: int = 1) -> date:
    """Last day of a forecast of some length.

    Raises
    ------
    SettingsError
        Not a length such as ``90d`` or ``2 quarters``, or too long.

    Examples
    --------
    >>> str(horizon_after("2 Quarters", date(2026, 11, 23)))
    '2027-03-31'
    """
    try:
        forecast = ForecastConfig(horizon=horizon, fiscal_year_start=fiscal_year_start)
    except ValidationError as error:
        if all(each["loc"] == ("fiscal_year_start",) for each in error.errors()):
            raise SettingsError(f"fiscal_year_start must be a month from 1 to 12, got {fiscal_year_start!r}") from error
        raise SettingsError(
            f"the horizon must be a length such as '90d', '8 weeks' or '2 quarters', got {horizon!r}"
        ) from error
    return horizon_end(forecast, as_of)


def _after(as_of: date, count: int, unit: str, fiscal_year_start: int) -> date:
    if count > MAX_HORIZON_DAYS:
        raise SettingsError(f"forecast.horizon of {count} {unit} is too long; expected at most {MAX_HORIZON_DAYS} days")
    if unit[0] in "dw":
        return as_of + timedelta(days=count * (7 if unit[0] == "w" else 1))
    name: PeriodName = "month" if unit[0] == "m" else "quarter" if unit[0] == "q" else "year"
    start = period_start(as_of + timedelta(days=1), period=name, fiscal_year_start=fiscal_year_start)
    for _ in range(count):
        start = next_period_start(start, period=name)
    return start - timedelta(days=1)


def _check_format(raw: dict[str, Any]) -> None:
    data = raw.get("data")
    given = data.get("format", "dealcast") if isinstance(data, dict) else "dealcast"
    if isinstance(given, str) and given not in FORMATS:
        raise SettingsError(
            f"data.format: {given!r} cannot be read; there is {', '.join(repr(name) for name in FORMATS)}: "
            "export a deals and a stage history table in that form"
        )


def _check_stages(config: JobConfig) -> None:
    try:
        _ = config.graph
    except SettingsError as error:
        raise SettingsError(f"{config.path}:\n- {error}") from error


def _check_files(config: JobConfig) -> None:
    """Complain of files that are named and not there, all at once."""
    named: dict[str, str | None] = {"data.commits": config.data.commits, "forecast.plan": config.forecast.plan}
    if config.data.url is None:
        named |= {"data.deals": config.data.deals, "data.stage_history": config.data.stage_history}
    missing = [
        f"- {key}: there is no file {config.folder / name}"
        for key, name in named.items()
        if name is not None and not (config.folder / Path(name).expanduser()).is_file()
    ]
    if missing:
        raise SettingsError(f"{config.path}:\n" + "\n".join(missing) + "\n  (paths are relative to the job file)")


def _complaint(detail: ErrorDetails) -> str:
    """One line: the key, what was expected, what came."""
    where, kind = detail["loc"], detail["type"]
    key = ".".join(str(part) for part in where)
    if kind == "extra_forbidden":
        return f"{key}: {_unknown(str(where[-1]), _section(where[:-1]))}"
    if kind == "missing":
        return f"{key}: this key is missing and has no default"
    if kind in {"horizon", "target", "data", "plan", "holidays"}:
        return f"{key}: {detail['msg']}" + (f", got {detail['input']!r}" if isinstance(detail["input"], str) else "")
    expected = detail["msg"].removeprefix("Input should be ").replace("a valid tuple", "a list")
    return f"{key}: expected {expected[:1].lower()}{expected[1:]}, got {detail['input']!r}"


def _section(where: tuple[int | str, ...]) -> type[BaseModel]:
    sections: dict[str, type[BaseModel]] = {
        "data": DataConfig,
        "stages": StagesConfig,
        "model": ModelConfig,
        "forecast": ForecastConfig,
        "target": TargetConfig,
        "store": StoreConfig,
        "output": OutputConfig,
    }
    return sections[str(where[0])] if where else JobConfig


def _unknown(name: str, section: type[BaseModel]) -> str:
    known = [field for field in section.model_fields if field != "path"]
    close = get_close_matches(name, known, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    return f"unknown key; expected one of {', '.join(known)}{hint}"


def job_template() -> str:
    """Text of a commented job file to start from."""
    return (Path(__file__).parent / "templates" / "job.toml").read_text(encoding="utf-8")
