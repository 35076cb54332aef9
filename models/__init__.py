"""What we believe about how deals move: stages, histories, duration families, models and their posteriors."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from models.errors import DealcastError as DealcastError
    from models.stages import StageGraph as StageGraph

_EXPORTS = {
    "AmountPosterior": "amount_model",
    "ArrivalPosterior": "arrival_model",
    "DealcastError": "errors",
    "FAMILIES": "durations",
    "LatticeHazards": "hazards",
    "ModelSpec": "posterior",
    "PlantedHazards": "hazards",
    "Posterior": "posterior",
    "StageGraph": "stages",
    "StageHistory": "history",
    "StagePosterior": "stage_posterior",
    "count_stays": "history",
    "fit_amounts": "amount_model",
    "fit_arrivals": "arrival_model",
    "fit_stages": "stage_model",
    "load_posterior": "posterior",
    "save_posterior": "posterior",
}
"""Public name to the module that defines it: imported when first used, so that looking at the help stays quick."""

__all__ = sorted(_EXPORTS)


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module 'models' has no attribute {name!r}")
    return getattr(import_module(f"models.{_EXPORTS[name]}"), name)


def __dir__() -> list[str]:
    return __all__
