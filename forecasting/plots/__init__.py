"""Pictures of results: each takes a result and, optionally, axes to draw into, and returns the axes."""

from forecasting.plots.backtest import past_forecasts, pit, reliability
from forecasting.plots.deals import deals_at_stake
from forecasting.plots.revenue import attainment, fan
from forecasting.plots.stages import stages

__all__ = ["attainment", "deals_at_stake", "fan", "past_forecasts", "pit", "reliability", "stages"]
