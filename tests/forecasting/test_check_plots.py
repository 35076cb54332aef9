"""Pictures of the checks show the tables they were given: lines, bands and marks are read back."""

from collections.abc import Iterator

import matplotlib
import numpy as np
import pandas as pd
import pytest

matplotlib.use("Agg")

import matplotlib.pyplot as plt

import forecasting as fc
import models
from forecasting.plots.style import TARGET
from models.history import StageHistory
from models.stages import StageGraph

GRAPH = StageGraph(open=["Lead", "Offer"], won=["Won"], lost=["Lost"])
COLUMNS = ["cell", "stage", "next", "days", "count"]


@pytest.fixture(autouse=True)
def _no_figure_left() -> Iterator[None]:
    yield
    plt.close("all")


def timer_history() -> StageHistory:
    """Offers won slowly, and lost by a timer on day 30."""
    rows = [(0, 0, 1, 2, 200), *((0, 1, 2, day, 5) for day in range(40)), (0, 1, 3, 30, 150), (0, 1, 3, 3, 40)]
    return StageHistory(GRAPH, pd.DataFrame(rows, columns=COLUMNS), (), np.zeros((1, 0), dtype=np.int32))


def planted_table() -> pd.DataFrame:
    """Two exits over ten days, the commoner one second."""
    days = np.arange(10)
    parts = []
    for name, last in (("Won", 0.2), ("Lost", 0.6)):
        observed = last * np.minimum(days + 1, 8) / 8
        parts.append(
            pd.DataFrame(
                {"next": name, "day": days, "observed": observed, "p05": 0.8 * observed, "p50": 0.95 * observed,
                 "p95": 1.1 * observed}
            )
        )  # fmt: skip
    return pd.concat(parts, ignore_index=True)


def test_a_panel_per_exit_shows_the_counted_share_in_the_band_of_the_model() -> None:
    table = planted_table()
    figure = fc.plots.stage_check(table, stage="Offer")
    panels = [ax for ax in figure.axes if ax.get_visible()]
    assert [ax.get_title(loc="left") for ax in panels] == ["to Lost: 60%", "to Won: 20%"]
    lost = table[table["next"] == "Lost"]
    middle, counted = panels[0].lines
    assert counted.get_ydata().tolist() == [0.0, *lost["observed"][:8]]  # all was seen by day 7: the axis ends there
    assert counted.get_xdata().tolist() == list(range(9))
    assert middle.get_ydata().tolist() == [0.0, *lost["p50"][:8]]
    band = panels[0].collections[0].get_datalim(panels[0].transData)
    assert (band.ymin, band.ymax) == pytest.approx((0.0, lost["p95"].max()))
    assert [text.get_text() for text in panels[0].texts] == ["counted", "the fit, 90% range"]
    assert not len(panels[1].texts)


def test_spikes_are_marked_on_their_days_and_said_in_words() -> None:
    history = timer_history()
    posterior = models.fit_stages(history, durations="weibull", inference="fast", draws=60, seed=1)
    spikes = models.residual_spikes(posterior, history)
    table = models.cumulative_incidence(posterior, history, "Offer")
    figure = fc.plots.stage_check(table, stage="Offer", spikes=spikes)
    own = spikes[spikes["stage"] == "Offer"]
    assert "Offer to Lost has" in " ".join(own["text"])
    assert figure.get_supxlabel().replace("\n", " ") == " ".join(own["text"])
    marks = [patch for ax in figure.axes for patch in ax.patches if patch.get_facecolor()[:3] == _colour(TARGET)]
    assert sorted((mark.get_x(), mark.get_x() + mark.get_width()) for mark in marks) == sorted(
        (first, last + 1) for first, last in zip(own["first_day"], own["last_day"], strict=True)
    )
    assert fc.plots.stage_check(table, stage="Lead", spikes=spikes).get_supxlabel() == ""


def test_the_prior_is_drawn_by_the_same_picture() -> None:
    history = timer_history()
    prior = models.prior_draws(history, durations="weibull", draws=60, seed=1)
    figure = fc.plots.stage_check(
        models.cumulative_incidence(prior, history, "Offer"), stage="Offer", believed="the prior"
    )
    assert "the prior, 90% range" in [text.get_text() for text in figure.axes[0].texts]
    counted = figure.axes[0].lines[1].get_ydata()
    assert counted[-1] == pytest.approx(0.5, abs=0.02)  # 200 of 390 offers were won


def test_an_exit_never_seen_and_many_exits_are_drawn_too() -> None:
    table = planted_table()
    never = table[table["next"] == "Won"].assign(observed=0.0)
    _, ax = plt.subplots()
    assert fc.plots.exit_check(never, ax=ax) is ax
    assert len(ax.lines[1].get_ydata()) == 11
    many = pd.concat([never.assign(next=f"Lost to rival {number}") for number in range(8)])
    assert len([ax for ax in fc.plots.stage_check(many, stage="Offer").axes if ax.get_visible()]) == 6


def _colour(name: str) -> tuple[float, ...]:
    return matplotlib.colors.to_rgb(name)
