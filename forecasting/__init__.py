"""What the belief about deals means for revenue: reading, forecasting, answering, showing.

>>> import forecasting as fc
>>> demo = fc.demo_history(seed=1, n_deals=300)
>>> deals = fc.deals_from_frames(demo.deals, demo.stage_history, stages=demo.graph, timezone="Europe/Amsterdam")
>>> posterior = fc.fit(deals, as_of=demo.as_of, inference="fast", draws=200, seed=1)
>>> forecast = fc.forecast(deals, posterior, as_of=demo.as_of, until="2026-12-31", seed=1)
>>> forecast.attainment(target=1.0, by="2026-12-31")
1.0
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from forecasting import plots as plots
    from forecasting.answers.forecasts import Forecast as Forecast
    from forecasting.answers.forecasts import forecast as forecast
    from forecasting.answers.leads import leads_needed as leads_needed
    from forecasting.data.deals import Deals as Deals
    from forecasting.data.deals import deals_from_frames as deals_from_frames
    from forecasting.data.deals import read_deals as read_deals
    from forecasting.data.snapshot import cut as cut
    from forecasting.fitting import fit as fit
    from forecasting.proof.backtesting import backtest as backtest
    from models.posterior import Posterior as Posterior
    from models.stages import StageGraph as StageGraph

_EXPORTS = {
    "BacktestOptions": "forecasting.proof.backtesting",
    "BacktestResult": "forecasting.proof.backtest_result",
    "Calibration": "forecasting.proof.calibration",
    "DataQuality": "forecasting.data.quality",
    "Deals": "forecasting.data.deals",
    "Forecast": "forecasting.answers.forecasts",
    "Goal": "forecasting.output.findings",
    "Job": "forecasting.config",
    "JobConfig": "forecasting.config",
    "LeadsNeeded": "forecasting.answers.leads",
    "ModelSpec": "models.posterior",
    "OpenPipeline": "forecasting.data.open_pipeline",
    "Posterior": "models.posterior",
    "Snapshot": "forecasting.data.snapshot",
    "StageGraph": "models.stages",
    "backtest": "forecasting.proof.backtesting",
    "backtest_steps": "forecasting.proof.steps",
    "calendar_table": "models.calendar.model",
    "check": "forecasting.jobs",
    "cut": "forecasting.data.snapshot",
    "deals_from_frames": "forecasting.data.deals",
    "demo": "forecasting.commands.journey",
    "demo_history": "forecasting.data.sample",
    "findings": "forecasting.output.findings",
    "fit": "forecasting.fitting",
    "fit_spec": "forecasting.fitting",
    "forecast": "forecasting.answers.forecasts",
    "forecast_job": "forecasting.jobs",
    "forecast_snapshot": "forecasting.answers.forecasts",
    "init": "forecasting.jobs",
    "leads_needed": "forecasting.answers.leads",
    "load_posterior": "models.posterior",
    "origin_dates": "forecasting.proof.backtesting",
    "own_calibration": "forecasting.proof.calibration",
    "own_new_calibration": "forecasting.proof.new_calibration",
    "read_commits": "forecasting.data.given",
    "read_config": "forecasting.config",
    "read_deals": "forecasting.data.deals",
    "read_job": "forecasting.config",
    "read_plan": "forecasting.data.given",
    "report": "forecasting.output.page",
    "save_posterior": "models.posterior",
    "stage_history": "forecasting.data.snapshot",
    "stage_summary": "forecasting.answers.stage_summary",
    "tune": "forecasting.proof.tuning",
    "with_calibration": "forecasting.answers.forecasts",
    "with_plan": "forecasting.answers.forecasts",
    "write_artefacts": "forecasting.output.artefacts",
    "write_demo": "forecasting.data.sample",
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
