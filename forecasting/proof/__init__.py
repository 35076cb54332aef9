"""Whether the ranges are right: scores, simple rules to beat, backtest, calibration."""
