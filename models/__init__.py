"""What we believe about how deals move: stages, histories, duration families, models and their posteriors."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from models.errors import DealcastError as DealcastError
    from models.stages import StageGraph as StageGraph

_EXPORTS = {
    "FAMILIES": "durations.families",
    "AmountPosterior": "amounts",
    "ArrivalPosterior": "arrivals.model",
    "CalendarOptions": "calendar.days",
    "CalendarPosterior": "calendar.model",
    "DealcastError": "errors",
    "DurationPrior": "durations.priors",
    "Factor": "history",
    "Family": "durations.families",
    "LatticeHazards": "hazards",
    "ModelSpec": "posterior",
    "PlantedHazards": "hazards",
    "Posterior": "posterior",
    "SamplerOptions": "stage_model.options",
    "StageGraph": "stages",
    "StageHistory": "history",
    "StagePosterior": "stage_model.posterior",
    "calendar_table": "calendar.model",
    "count_stays": "history",
    "cumulative_incidence": "stage_model.checks",
    "dated_exits": "calendar.expected",
    "fit_amounts": "amounts",
    "fit_arrivals": "arrivals.model",
    "fit_calendar": "calendar.model",
    "fit_stages": "stage_model.fit",
    "load_posterior": "posterior",
    "load_stage_posterior": "stage_model.posterior",
    "prior_draws": "stage_model.checks",
    "residual_spikes": "stage_model.checks",
    "save_posterior": "posterior",
    "transition_log_score": "stage_model.checks",
}
"""Public name to the module that defines it: imported when first used, so that looking at the help stays quick."""

__all__ = sorted(_EXPORTS)


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module 'models' has no attribute {name!r}")
    return getattr(import_module(f"models.{_EXPORTS[name]}"), name)


def __dir__() -> list[str]:
    return __all__
