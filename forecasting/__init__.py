"""What the belief about deals means for revenue: reading, forecasting, answering, showing.

    import forecasting as fc
    deals = fc.read_deals("deals.csv", "stage_history.csv", stages=stages)
    posterior = fc.fit(deals, as_of="2026-09-30", seed=1)
    forecast = fc.forecast(deals, posterior, as_of="2026-09-30", until="2026-12-31", seed=1)
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from forecasting import plots as plots
    from forecasting.deals import Deals as Deals
    from forecasting.deals import deals_from_frames as deals_from_frames
    from forecasting.deals import read_deals as read_deals
    from forecasting.fitting import fit as fit
    from forecasting.forecast import Forecast as Forecast
    from models.posterior import Posterior as Posterior
    from models.stages import StageGraph as StageGraph

_EXPORTS = {
    "Deals": "forecasting.deals",
    "Forecast": "forecasting.forecast",
    "Posterior": "models.posterior",
    "Snapshot": "forecasting.snapshot",
    "StageGraph": "models.stages",
    "cut": "forecasting.snapshot",
    "deals_from_frames": "forecasting.deals",
    "fit": "forecasting.fitting",
    "load_posterior": "models.posterior",
    "read_config": "forecasting.config",
    "read_deals": "forecasting.deals",
    "read_job": "forecasting.config",
    "save_posterior": "models.posterior",
    "stage_history": "forecasting.snapshot",
}
"""Public name to the module that defines it: imported when first used, so that looking at the help stays quick."""
_MODULES = ("plots",)

__all__ = sorted((*_EXPORTS, *_MODULES))


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f"forecasting.{name}")
    if name not in _EXPORTS:
        raise AttributeError(f"module 'forecasting' has no attribute {name!r}")
    return getattr(import_module(_EXPORTS[name]), name)


def __dir__() -> list[str]:
    return __all__
