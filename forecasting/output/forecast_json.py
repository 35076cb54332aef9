"""The schema of ``forecast.json``, version 1: a promise to whoever reads it; ``docs/schema.md`` says it in prose.

Adding a key is a minor change; renaming, removing or changing the meaning of one is a breaking change and raises
``SCHEMA_VERSION``. The same inputs, settings and seed give the same bytes: no clock, no timing, no path is in it.
"""

from datetime import date
from typing import TYPE_CHECKING, Final, Literal

from pydantic import BaseModel, ConfigDict, JsonValue

from forecasting.answers.levels import level_ranges
from forecasting.answers.revenue import QUANTILES
from forecasting.data.quality import DataQuality

if TYPE_CHECKING:
    from forecasting.output.findings import Findings

SCHEMA_VERSION: Final = "1"


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class CalibrationRecord(_Record):
    """What our own closed forecasts taught; ``bias`` and ``sd`` on the log scale."""

    origins: int
    bias: float
    scale: float
    sd: float


class DiagnosticsRecord(_Record):
    """Of the fit; null where the inference has no chains."""

    rhat_max: float | None
    ess_min: float | None
    divergences: int


class LevelRecord(_Record):
    """Mean factor on the hazards of one direction over the horizon; one is as in the whole history."""

    p10: float
    p50: float
    p90: float


class LevelsRecord(_Record):
    """How much faster or slower than usual deals are believed to move; ``forward`` is towards a win."""

    forward: LevelRecord
    down: LevelRecord


class RevenueRecord(_Record):
    """Revenue of one period, source and segment (null = all), currency units."""

    period_start: date
    period_end: date
    source: Literal["total", "booked", "open", "new"]
    segment: str | None
    mean: float
    p05: float
    p10: float
    p25: float
    p50: float
    p75: float
    p90: float
    p95: float


class TargetRecord(_Record):
    """The target and what it takes; ``leads_needed`` is null when no number suffices."""

    amount: float
    since: date
    by: date
    attainment_probability: float
    leads_needed: int | None
    last_useful_creation_date: date | None


class RejectionRecord(_Record):
    """One reason for leaving rows out."""

    reason: str
    count: int
    examples: list[str]


class DataQualityRecord(_Record):
    """Rows in = rows used + rows rejected, both tables together."""

    rows_in: int
    rows_used: int
    rows_rejected: list[RejectionRecord]


class ForecastRecord(_Record):
    """Content of ``forecast.json``."""

    schema_version: Literal["1"]
    as_of: date
    until: date
    currency: str | None
    seed: int
    draws: int
    inputs_sha256: str
    model: dict[str, JsonValue]
    calibration: CalibrationRecord | None
    new_calibration: CalibrationRecord | None
    levels: LevelsRecord | None
    diagnostics: DiagnosticsRecord
    revenue: list[RevenueRecord]
    target: TargetRecord | None
    data_quality: DataQualityRecord

    def to_json(self) -> str:
        """Text of the file; numbers that are not finite become null."""
        return self.model_dump_json(indent=2) + "\n"


def forecast_record(found: "Findings") -> ForecastRecord:
    """Write findings down in the words of the schema."""
    forecast, leads = found.forecast, found.leads
    diagnostics = forecast.diagnostics
    return ForecastRecord(
        schema_version=SCHEMA_VERSION,
        as_of=forecast.as_of,
        until=forecast.until,
        currency=forecast.currency,
        seed=forecast.seed,
        draws=forecast.draws,
        inputs_sha256=forecast.posterior.inputs_sha256,
        model=_model(found),
        calibration=CalibrationRecord(**forecast.calibration.to_dict()) if forecast.calibration else None,
        new_calibration=CalibrationRecord(**of_new.to_dict()) if (of_new := forecast.new_calibration) else None,
        levels=_levels(found),
        diagnostics=DiagnosticsRecord.model_validate(dict(diagnostics)),
        revenue=_revenue(found),
        target=None
        if leads is None
        else TargetRecord(
            amount=leads.target,
            since=leads.since,
            by=leads.by,
            attainment_probability=leads.attainment_without,
            leads_needed=leads.n,
            last_useful_creation_date=leads.last_useful_creation_date,
        ),
        data_quality=DataQualityRecord.model_validate((forecast.data_quality or DataQuality()).to_dict()),
    )


def _levels(found: "Findings") -> LevelsRecord | None:
    forecast = found.forecast
    if forecast.posterior.levels is None:
        return None
    told = level_ranges(forecast.posterior.levels, horizon_days=forecast.horizon_days, seed=forecast.seed)
    return LevelsRecord(forward=LevelRecord(**told["forward"]), down=LevelRecord(**told["down"]))


def _model(found: "Findings") -> dict[str, JsonValue]:
    spec, stage = found.forecast.posterior.spec, found.forecast.posterior.stage
    return {
        "inference": stage.inference,
        "sampler": stage.sampler,
        "durations": dict(stage.families),
        "segment": list(spec.segment),
        "covariates": list(spec.covariates),
        "calendar": list(spec.calendar),
        "holidays": spec.holidays,
        "seed": spec.seed,
        "window_days": spec.window_days,
    }


def _revenue(found: "Findings") -> list[RevenueRecord]:
    columns = ["source", "mean", *QUANTILES]
    return [
        RevenueRecord(
            period_start=row["period_start"].date(),
            period_end=row["period_end"].date(),
            segment=row["segment"],
            **{name: row[name] for name in columns},
        )
        for row in found.revenue.to_dict("records")
    ]
