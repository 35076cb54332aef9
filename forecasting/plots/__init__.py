"""Pictures of results: each takes a result and, optionally, axes to draw into, and returns the axes."""

from forecasting.plots.backtest import past_forecasts, pit, reliability
from forecasting.plots.calendar import day_weights
from forecasting.plots.checks import exit_check, stage_check
from forecasting.plots.deals import deals_at_stake
from forecasting.plots.revenue import attainment, fan
from forecasting.plots.stages import stages

__all__ = [
    "attainment", "day_weights", "deals_at_stake", "exit_check", "fan", "past_forecasts", "pit", "reliability", "stage_check",
    "stages",
]  # fmt: skip
