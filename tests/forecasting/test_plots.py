"""Pictures show what they were given: heights, labels and lines are read back from the axes."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import date, timedelta

import matplotlib
import numpy as np
import pandas as pd
import pytest
from planted_findings import LOANS, planted_findings, planted_forecast, planted_hazards

matplotlib.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.axes import Axes

from forecasting import plots
from forecasting.answers.stage_summary import stage_summary
from forecasting.output.words import chance, money
from forecasting.plots.style import TARGET, short_money
from forecasting.proof import scores


@pytest.fixture(autouse=True)
def _no_figure_left() -> Iterator[None]:
    yield
    plt.close("all")


def words(ax: Axes) -> str:
    """All text of an axes."""
    return "\n".join([text.get_text() for text in ax.texts] + [ax.get_title(loc="left")])


def test_fan_ends_at_the_quantiles_of_the_draws_and_marks_the_target() -> None:
    forecast = planted_forecast()
    ax = plots.fan(forecast, target=9e5, since="2026-09-01")
    total = (forecast.open_cents + forecast.new_cents).sum(axis=(1, 2)) / 100 + 60_000.0
    median = ax.lines[0].get_ydata()
    assert median[0] == 60_000.0  # booked in September, known for sure
    assert median[-1] == pytest.approx(np.quantile(total, 0.5))
    bands = [collection.get_datalim(ax.transData) for collection in ax.collections[:3]]
    assert bands[0].ymax == pytest.approx(np.quantile(total, 0.975))
    assert bands[1].ymax == pytest.approx(np.quantile(total, 0.9))
    assert bands[2].ymax == pytest.approx(np.quantile(total, 0.75))
    line = next(line for line in ax.lines if line.get_color() == TARGET)
    assert set(line.get_ydata()) == {9e5}
    assert f"target 900k: {chance((total >= 9e5).mean())} likely" in words(ax)
    assert "won already 60.0k" in words(ax)


@pytest.mark.parametrize(
    ("scale", "until", "currency"),
    [(1e4, date(2026, 10, 1), None), (50.0, date(2026, 12, 31), "USD"), (4e7, date(2027, 9, 30), "JPY")],
)
def test_fan_and_attainment_take_any_size_and_length(scale: float, until: date, currency: str | None) -> None:
    forecast = planted_forecast(scale=scale, until=until, currency=currency)
    for ax in (plots.fan(forecast, target=30 * scale), plots.attainment(forecast, target=30 * scale)):
        assert all(len(label.get_text()) < 8 for label in [*ax.get_yticklabels(), *ax.get_xticklabels()])
        assert f"target {money(30 * scale)}" in words(ax)


@pytest.mark.parametrize("days", [1, 3, 5, 8, 400])
def test_the_axis_of_dates_has_no_hours(days: int) -> None:
    ax = plots.fan(planted_forecast(until=date(2026, 9, 30) + timedelta(days=days)))
    ax.figure.canvas.draw()
    labels = [label.get_text() for label in ax.get_xticklabels()]
    assert 1 <= len(labels) <= 7
    assert not any(":" in label for label in labels)


def test_they_draw_into_the_axes_they_are_given_and_return_it() -> None:
    forecast = planted_forecast()
    found = planted_findings(forecast)
    _, axes = plt.subplots(2, 2)
    assert plots.fan(forecast, ax=axes[0, 0]) is axes[0, 0]
    assert plots.attainment(forecast, ax=axes[0, 1]) is axes[0, 1]
    assert plots.stages(found.stages, ax=axes[1, 0]) is axes[1, 0]
    assert plots.deals_at_stake(forecast, found.deals, ax=axes[1, 1]) is axes[1, 1]
    assert forecast.plot().get_title(loc="left").startswith("Revenue from 1 Sep 2026 to 31 Dec 2026")


def test_attainment_falls_from_one_to_zero_through_the_target() -> None:
    forecast = planted_forecast()
    ax = plots.attainment(forecast, since="2026-10-01", target=8e5)
    amount, probability = ax.lines[0].get_data()
    assert probability[0] == 1.0
    assert probability[-1] == 0.0
    assert (np.diff(probability) <= 0).all()
    reached = forecast.attainment(target=8e5, since="2026-10-01", by="2026-12-31")
    assert np.interp(8e5, amount, probability) == pytest.approx(reached, abs=0.03)
    assert [list(line.get_data()) for line in ax.lines if line.get_marker() == "o"][-1] == [[8e5], [reached]]


@pytest.mark.parametrize("share", [0.05, 0.3, 0.5, 0.55, 0.62, 0.9, 0.95])
def test_no_words_of_attainment_run_across_the_target_or_out_of_the_picture(share: float) -> None:
    forecast = planted_forecast()
    total = forecast.open_cents.sum(axis=(1, 2)) / 100 + forecast.new_cents.sum(axis=(1, 2)) / 100
    target = float(np.quantile(total, share)) + 60_000.0
    ax = plots.attainment(forecast, target=target)
    canvas = ax.figure.canvas
    canvas.draw()
    line = ax.transData.transform((target, 0.0))[0]
    for text in ax.texts:
        box = text.get_window_extent()
        assert box.x0 > ax.bbox.x0
        assert box.x1 < ax.figure.bbox.x1
        if text.get_text().startswith(("90%", "50%")):
            assert not box.x0 < line < box.x1
    marks, (told,) = ([text.get_window_extent() for text in ax.texts if text.get_text().startswith("target") == is_target]
                      for is_target in (False, True))  # fmt: skip
    assert not any(told.overlaps(mark) for mark in marks)


def test_bands_in_the_legend_have_the_tint_of_the_picture() -> None:
    ax = plots.fan(planted_forecast())
    ax.figure.canvas.draw()
    seen = np.asarray(ax.figure.canvas.buffer_rgba())[..., :3].astype(float)
    legend = ax.get_legend()
    shown = {text.get_text(): handle for handle, text in zip(legend.legend_handles, legend.get_texts(), strict=True)}
    for collection, name, inner in zip(ax.collections[:3], ("95%", "80%", "50%"), (1, 2, None), strict=True):
        top = collection.get_datalim(ax.transData).ymax
        below = ax.collections[inner].get_datalim(ax.transData).ymax if inner else ax.lines[0].get_ydata()[-1]
        y = ax.transData.transform((0.0, (top + below) / 2))[1]
        box = shown[f"{name} range"].get_window_extent()
        in_band = seen[int(len(seen) - y), int(ax.bbox.x1) - 3]
        in_legend = seen[int(len(seen) - (box.y0 + box.y1) / 2), int((box.x0 + box.x1) / 2)]
        np.testing.assert_allclose(in_legend, in_band, atol=3.0)


def test_stage_diagram_says_shares_days_and_chances() -> None:
    summary = stage_summary(planted_hazards(LOANS), LOANS, cells=np.zeros((1, 0), dtype=np.int32))
    ax = plots.stages(summary)
    text = words(ax)
    assert "1_submitted" in text
    assert "60%" in text
    assert "median 6 days" in text
    assert "5_offer_returned and …" in text  # beside the bar, shortened
    assert "5_offer_returned and waiting\nfor a signature" in text  # in its box, broken
    boxes = [patch for patch in ax.patches if type(patch).__name__ == "FancyBboxPatch"]
    assert len(boxes) == LOANS.n_open
    last = summary.stages.iloc[-1]
    assert f"{chance(last['win_probability'])} won in the end" in text


@pytest.mark.parametrize("given_axes", [False, True])
def test_dollar_signs_in_names_are_drawn_as_they_are(given_axes: bool) -> None:
    graph = replace(LOANS, open=("$x_1$ to $50%", "Offer $$", *LOANS.open[2:]))
    summary = stage_summary(planted_hazards(graph), graph, cells=np.zeros((1, 0), dtype=np.int32))
    found = planted_findings(planted_forecast())
    named = found.deals.assign(deal_id=[f"$a_{row}^{{$" for row in range(len(found.deals))])
    ours, theirs, last = (plt.subplots()[1] if given_axes else None for _ in range(3))
    drawn = (
        plots.stages(summary, ax=ours),
        plots.deals_at_stake(found.forecast, named, ax=theirs),
        plots.fan(planted_forecast(currency="$^{$"), ax=last),
    )
    for ax in drawn:
        ax.figure.canvas.draw()
        every = [*ax.texts, *ax.get_yticklabels(), ax.title, ax.yaxis.label]
        assert not any(text.get_parse_math() for text in every if "$" in text.get_text())


def test_deals_are_ranked_by_what_they_promise() -> None:
    found = planted_findings(planted_forecast())
    ax = plots.deals_at_stake(found.forecast, found.deals)
    promised = found.deals["amount"] * found.deals["win_probability_by_until"]
    shown = [label.get_text() for label in ax.get_yticklabels()]
    assert shown == found.deals.loc[promised.sort_values(ascending=False).index[:12], "deal_id"].tolist()
    assert len(plots.deals_at_stake(found.forecast, found.deals.head(0)).patches) == 0


def test_weights_of_days_are_drawn_where_the_table_says() -> None:
    rows = [(kind, "weekday", day, mid - 0.2, mid, mid + 0.3, 5, 6.0) for kind, mid in (("won", 1.4), ("lost", 0.7))
            for day in ("Monday", "Tuesday")]  # fmt: skip
    rows.append(("won", "month end", "last selling day", 1.5, 2.0, 2.5, 9, 4.0))
    columns = ["kind", "factor", "day_class", "p05", "p50", "p95", "seen", "expected"]
    ax = plots.day_weights(pd.DataFrame(rows, columns=columns))
    labels = [label.get_text() for label in ax.get_yticklabels()]
    assert labels == ["Monday", "Tuesday", "last selling day (month end)"]
    points = {line.get_label(): list(line.get_xdata()) for line in ax.lines if line.get_marker() == "o"}
    assert points == {"won": [1.4, 1.4, 2.0], "lost": [0.7, 0.7]}
    spans = [segment[:, 0].round(6).tolist() for segment in ax.collections[0].get_segments()]
    assert spans == [[1.2, 1.7], [1.2, 1.7], [1.5, 2.5]]
    _, given = plt.subplots()
    assert plots.day_weights(pd.DataFrame([], columns=columns), ax=given) is given


def past(n: int) -> pd.DataFrame:
    """Forecasts of a normal quantity and what came."""
    rng = np.random.default_rng(n)
    middle = 1e6 * (1.0 + 0.1 * np.sin(np.arange(n)))
    levels = {"p025": -1.96, "p10": -1.28, "p25": -0.67, "p50": 0.0, "p75": 0.67, "p90": 1.28, "p975": 1.96}
    table = pd.DataFrame({f"open_{name}": middle + 1e5 * z for name, z in levels.items()})
    table["as_of"], table["horizon_days"] = pd.date_range("2025-01-05", periods=n, freq="7D"), 28
    return table.assign(actual_open=middle + 1e5 * rng.standard_normal(n), open_pit=rng.random(n))


@pytest.mark.parametrize("n", [1, 9, 60])
def test_past_forecasts_mark_what_fell_outside(n: int) -> None:
    table = past(n)
    ax = plots.past_forecasts(table, source="open", currency="EUR")
    inside = table["actual_open"].between(table["open_p10"], table["open_p90"])
    assert f"the 80% range held {inside.sum()} of {n}" in words(ax)
    outside = next(line for line in ax.lines if line.get_color() == TARGET)
    np.testing.assert_allclose(outside.get_ydata(), table["actual_open"][~inside])
    assert ax.get_ylim()[0] == 0.0
    assert ax.get_ylim()[1] > table["actual_open"].max()


def test_pit_counts_every_outcome_beside_what_is_expected() -> None:
    table = past(60)
    ax = plots.pit(table, source="open")
    counts, _ = np.histogram(table["open_pit"], bins=10, range=(0, 1))
    bars = [patch.get_height() for patch in ax.patches if patch.get_width() == pytest.approx(0.1)]
    assert bars == counts.tolist()
    assert set(ax.lines[0].get_ydata()) == {6.0}
    assert "Where 60 outcomes fell" in words(ax)


def test_reliability_draws_shares_over_chances() -> None:
    rng = np.random.default_rng(1)
    chances = rng.random(900)
    table = scores.reliability(chances, rng.random(900) < chances)
    ax = plots.reliability(table)
    dots = next(line for line in ax.lines if line.get_marker() == "o")
    np.testing.assert_allclose(dots.get_xydata(), table[["probability", "share"]].to_numpy())
    assert "Chances of 900 open deals" in words(ax)
    assert "about 90 deals" in words(ax)


def test_drawing_leaves_the_settings_of_others_alone() -> None:
    before = dict(plt.rcParams)
    plots.fan(planted_forecast())
    assert dict(plt.rcParams) == before


def test_tick_labels_are_short() -> None:
    assert [short_money(amount) for amount in (0, 999, 1_000, 2_500, 1e6, 2.5e9)] == [
        "0",
        "999",
        "1k",
        "2.5k",
        "1M",
        "2.5bn",
    ]
