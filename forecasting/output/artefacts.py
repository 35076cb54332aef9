"""Files of a forecast: ``forecast.json``, ``deals.parquet``, ``revenue.csv``, ``report.html`` and the pictures.

All are made in a hidden folder beside their places and moved there when every one is complete: a reader never sees
half a file, and a run that fails changes nothing (``tests/forecasting/test_artefacts.py``).
"""

from pathlib import Path
from typing import TYPE_CHECKING

from forecasting.output.files import write_together
from forecasting.output.forecast_json import RevenueRecord, forecast_record
from forecasting.output.page import pictures, report_html

if TYPE_CHECKING:
    from forecasting.output.findings import Findings

FORECAST_JSON, DEALS_PARQUET, REVENUE_CSV, REPORT_HTML = "forecast.json", "deals.parquet", "revenue.csv", "report.html"
DEALS_PNG = "deals.png"
DEAL_COLUMNS = (
    "deal_id", "stage", "days_in_stage", "amount", "win_probability", "win_probability_by_until", "close_date_p10",
    "close_date_p50", "close_date_p90", "stall_percentile", "target_swing",
)  # fmt: skip


def write_artefacts(found: "Findings", folder: str | Path, *, with_pictures: bool = True) -> dict[str, Path]:
    """Write all files of a forecast.

    Parameters
    ----------
    found : Findings
    folder : path
        Made when missing; files of an earlier forecast are replaced.
    with_pictures : bool
        Without, neither pictures nor the page that shows them are written.

    Returns
    -------
    dict of str to Path
        Name of each file and where it is.

    Raises
    ------
    SettingsError
        The folder cannot be written to.
    """
    contents = {
        FORECAST_JSON: forecast_record(found).to_json().encode(),
        REVENUE_CSV: _revenue_csv(found).encode(),
        DEALS_PARQUET: found.deals[list(DEAL_COLUMNS)].to_parquet(index=False),
    }
    if with_pictures:
        drawn = pictures(found)
        contents |= {f"{name}.png": data for name, data in drawn.items()}
        contents[REPORT_HTML] = report_html(found, drawn).encode()
    written = write_together(contents, Path(folder))
    if with_pictures and DEALS_PNG not in written:
        # no deal is open: the picture of an earlier forecast would be read as this one's
        (Path(folder) / DEALS_PNG).unlink(missing_ok=True)
    return written


def _revenue_csv(found: "Findings") -> str:
    table = found.revenue[list(RevenueRecord.model_fields)]
    return table.to_csv(index=False, date_format="%Y-%m-%d", lineterminator="\n", float_format="%.2f")
