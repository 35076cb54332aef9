"""How right the forecasts are."""
