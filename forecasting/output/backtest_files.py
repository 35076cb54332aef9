"""Files of a backtest: its JSON, its table and its pictures, all of them or none."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

from forecasting import plots
from forecasting.answers.revenue import Source
from forecasting.output.files import write_together
from forecasting.output.page import png

if TYPE_CHECKING:
    from forecasting.proof.backtest_result import BacktestResult


def write_backtest(result: "BacktestResult", folder: str | Path, *, currency: str | None = None) -> dict[str, Path]:
    """Write ``backtest.json``, ``backtest.csv`` and the pictures of past forecasts.

    Parameters
    ----------
    result : BacktestResult
    folder : path
        Made when missing; files of an earlier backtest are replaced.
    currency : str, optional

    Returns
    -------
    dict of str to Path
        Name of each file and where it is.

    Raises
    ------
    SettingsError
        The folder cannot be written to.
    """
    source: Source = "total" if result.new_business else "open"
    drawn = {
        "past_forecasts.png": plots.past_forecasts(result.table, source=source, currency=currency),
        "pit.png": plots.pit(result.table, source=source),
    }
    if len(result.deals):
        drawn["reliability.png"] = plots.reliability(result.reliability())
    contents = {
        "backtest.json": (json.dumps(result.to_dict(), indent=2, allow_nan=False) + "\n").encode(),
        "backtest.csv": result.table.to_csv(
            index=False, date_format="%Y-%m-%d", lineterminator="\n", float_format="%.6g"
        ).encode(),
    }
    return write_together(contents | {name: png(axes) for name, axes in drawn.items()}, Path(folder))
