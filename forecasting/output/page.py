"""One self-contained page: the answer in words, then pictures, then tables; nothing is loaded from elsewhere."""

from base64 import b64encode
from collections.abc import Mapping
from datetime import date
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from forecasting import plots
from forecasting.output.answer import answer
from forecasting.output.files import write_together
from forecasting.output.words import chance, day, money
from forecasting.plots.style import SOURCE_NAMES, look

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from forecasting.output.findings import Findings

DOTS_PER_INCH = 150
MAX_DEALS, MAX_STALLED = 25, 15
TEMPLATES = Path(__file__).parents[1] / "templates"


def report(found: "Findings", path: str | Path) -> Path:
    """Write the page to a file.

    Parameters
    ----------
    found : Findings
        See :func:`forecasting.output.findings.findings`.
    path : path

    Returns
    -------
    Path
    """
    path = Path(path)
    return write_together({path.name: report_html(found, pictures(found)).encode()}, path.parent)[path.name]


def pictures(found: "Findings") -> dict[str, bytes]:
    """Draw all pictures of a forecast; PNG by name."""
    forecast, span = found.forecast, found.span
    target = found.leads.target if found.leads else None
    drawn = {
        "revenue": plots.fan(forecast, target=target, since=span.start, by=span.end),
        "attainment": plots.attainment(forecast, target=target, since=span.start, by=span.end),
        "stages": plots.stages(found.stages),
    }
    if len(found.deals):
        drawn["deals"] = plots.deals_at_stake(forecast, found.deals)
    return {name: png(ax) for name, ax in drawn.items()}


def report_html(found: "Findings", drawn: Mapping[str, bytes]) -> str:
    """Fill the page.

    Parameters
    ----------
    found : Findings
    drawn : mapping of str to bytes
        PNG by name, from :func:`pictures`.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"money": money, "chance": chance, "day": _day}
    return environment.get_template("report.html").render(
        found=found,
        forecast=found.forecast,
        sentences=answer(found),
        pictures={name: b64encode(data).decode() for name, data in drawn.items()},
        revenue=_records(found.revenue[found.revenue["segment"].isna()]),
        segments=_records(_segment_totals(found)),
        deals=_records(_deals_that_matter(found.deals)),
        stalled=_records(_most_stalled(found.deals)),
        quality=found.forecast.data_quality.tables if found.forecast.data_quality else (),
        source_names=SOURCE_NAMES | {"total": "total"},
        model=found.forecast.posterior.stage,
        named_fits=list(zip(found.stages.graph.open, found.forecast.posterior.stage.stages, strict=True)),
    )


def png(ax: "Axes") -> bytes:
    """Picture of the figure that axes belong to; the figure is closed."""
    import matplotlib.pyplot as plt

    buffer = BytesIO()
    figure = ax.get_figure(root=True)
    assert figure is not None  # an axes that was just drawn into
    with look():
        figure.savefig(buffer, dpi=DOTS_PER_INCH, format="png", metadata={"Software": None})
    plt.close(figure)
    return buffer.getvalue()


def _segment_totals(found: "Findings") -> pd.DataFrame:
    table = found.revenue
    return table[table["segment"].notna() & (table["source"] == "total")]


def _deals_that_matter(deals: pd.DataFrame) -> pd.DataFrame:
    """Pick the deals that move the chance of the target most, larger ones first among equals."""
    ranked = deals.sort_values(["target_swing", "amount"], ascending=False, kind="stable")
    return ranked.head(MAX_DEALS)


def _most_stalled(deals: pd.DataFrame) -> pd.DataFrame:
    from forecasting.output.findings import STALLED

    stalled = deals[deals["stall_percentile"] >= STALLED]
    return stalled.sort_values("amount", ascending=False, kind="stable").head(MAX_STALLED)


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(key): value for key, value in row.items()} for row in table.to_dict("records")]


def _day(when: date) -> str:
    return "later" if pd.isna(when) else day(when)
