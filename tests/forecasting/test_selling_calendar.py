"""A forecast on the selling calendar: wins fall on the weekdays they fall on, and nothing of the future is known."""

import json
from dataclasses import replace
from datetime import date, timedelta
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from forecasting.answers.forecasts import forecast
from forecasting.answers.pace import LOOK_AHEAD, on_calendar
from forecasting.config import Job, read_config
from forecasting.data.deals import Deals, deals_from_frames
from forecasting.data.sample import write_demo
from forecasting.data.snapshot import cut
from forecasting.fitting import fit, fit_snapshot, fit_spec
from forecasting.jobs import job_spec
from models.calendar.days import CalendarOptions
from models.calendar.model import pace
from models.errors import SettingsError
from models.posterior import ModelSpec, Posterior, load_posterior, save_posterior
from models.stages import StageGraph

GRAPH = StageGraph(open=["Lead", "Offer"], won=["Won"], lost=["Lost"])
START, AS_OF, DAYS = date(2025, 1, 6), date(2026, 3, 25), 21  # a Monday, a Wednesday
WON_WEIGHT = np.array([2.0, 1.5, 0.5, 1.0, 2.0, 0.0, 0.0])
LOST_WEIGHT = np.array([0.5, 0.5, 1.0, 1.5, 1.5, 1.5, 0.5])
SPEC = ModelSpec(
    covariates=(), durations="piecewise", inference="fast", draws=300, seed=1, calendar=("weekday",), holidays=None
)


def play(
    stage: np.ndarray, first: date, last: date, rng: np.random.Generator, arrivals: int
) -> list[tuple[int, int, date]]:
    """Play deals day by day: (deal, stage code entered, date); new ones come on every day."""
    moved, stage = [], stage.copy()
    for step in range((last - first).days + 1):
        today = first + timedelta(days=step)
        won, lost = WON_WEIGHT[today.weekday()], LOST_WEIGHT[today.weekday()]
        new = np.arange(len(stage), len(stage) + arrivals)
        stage = np.append(stage, np.zeros(arrivals, dtype=int))
        moved += [(deal, 0, today) for deal in new]
        rates = np.where(stage[:, None] == 0, [0.12, 0.0, 0.03 * lost], [0.0, 0.08 * won, 0.04 * lost])
        rates[stage > 1] = 0.0
        leaves = rng.random(len(stage)) < -np.expm1(-rates.sum(axis=1))
        slot = (rng.random(len(stage))[:, None] * rates.sum(axis=1, keepdims=True) >= np.cumsum(rates, axis=1)).sum(
            axis=1
        )
        stage = np.where(leaves, slot + 1, stage)
        moved += [(deal, stage[deal], today) for deal in np.flatnonzero(leaves)]
    return moved


@cache
def played() -> Deals:
    moves = pd.DataFrame(
        play(np.zeros(0, dtype=int), START, AS_OF + timedelta(days=40), np.random.default_rng(1), 6),
        columns=["deal", "stage", "entered_at"],
    )
    history = pd.DataFrame(
        {
            "deal_id": moves["deal"].map("D{:05d}".format),
            "stage": moves["stage"].map(dict(enumerate(GRAPH.stages))),
            "entered_at": pd.to_datetime(moves["entered_at"]),
        }
    )
    first = history.groupby("deal_id", as_index=False)["entered_at"].min().rename(columns={"entered_at": "created_at"})
    return deals_from_frames(first.assign(amount=1.0), history, stages=GRAPH)


@cache
def fitted() -> Posterior:
    return fit_spec(played(), as_of=AS_OF, spec=SPEC)


def by_weekday(values: np.ndarray) -> np.ndarray:
    """Share of each weekday of values by forecast day."""
    weekday = [(AS_OF + timedelta(days=step + 1)).weekday() for step in range(len(values))]
    return np.bincount(weekday, weights=values, minlength=7) / values.sum()


def test_wins_fall_on_the_weekdays_of_a_pipeline_played_day_by_day() -> None:
    until = AS_OF + timedelta(days=DAYS)
    table = cut(played(), as_of=AS_OF).pipeline.deals
    copies = np.tile(table["stage"].to_numpy(dtype=int), 100)
    onward = play(copies, AS_OF + timedelta(days=1), until, np.random.default_rng(2), 0)
    truth = np.bincount([(day - AS_OF).days - 1 for _, stage, day in onward if stage == 2], minlength=DAYS) / 100
    made = forecast(played(), fitted(), as_of=AS_OF, until=until, seed=1, new_business=False)
    told = made.open_cents.sum(axis=2).mean(axis=0) / 100
    plain = replace(fitted(), calendar=None)
    even = forecast(played(), plain, as_of=AS_OF, until=until, seed=1, new_business=False)
    np.testing.assert_allclose(by_weekday(told), by_weekday(truth), atol=0.05)
    assert by_weekday(told)[5:].max() < 0.01
    assert by_weekday(even.open_cents.sum(axis=2).mean(axis=0))[5:].min() > 0.1
    assert told.sum() == pytest.approx(truth.sum(), rel=0.1)


def test_won_and_lost_have_their_own_weights() -> None:
    for kind, truth in (("won", WON_WEIGHT), ("lost", LOST_WEIGHT)):
        calendar = fitted().calendar
        assert calendar is not None
        drawn = pace(calendar, as_of=START - timedelta(days=1), days=7, draws=300, kind=kind)
        low, high = np.quantile(drawn, [0.01, 0.99], axis=0)
        expected = truth / truth.mean()
        assert ((low < expected + 0.15) & (high > expected - 0.15)).all()


def test_what_happens_later_has_no_influence() -> None:
    deals = played()
    entries = deals.entries[deals.entries["entered_on"] <= pd.Timestamp(AS_OF)]
    again = fit_spec(replace(deals, entries=entries), as_of=AS_OF, spec=SPEC)
    assert again.calendar is not None
    assert fitted().calendar is not None
    np.testing.assert_array_equal(again.calendar.log_effect, fitted().calendar.log_effect)  # type: ignore[union-attr]


def test_a_calendar_leaves_the_rest_of_the_posterior_as_it_is_and_may_be_left_out() -> None:
    plain = fit(played(), as_of=AS_OF, covariates=(), durations="piecewise", inference="fast", draws=300, seed=1)
    assert plain.calendar is None
    np.testing.assert_array_equal(plain.stage.stages[1].base, fitted().stage.stages[1].base)
    np.testing.assert_array_equal(plain.arrivals.log_level, fitted().arrivals.log_level)


def test_a_saved_posterior_comes_back_with_its_calendar_and_an_old_one_without(tmp_path: Path) -> None:
    save_posterior(fitted(), tmp_path)
    again = load_posterior(tmp_path)
    assert again.spec == SPEC
    assert again.calendar is not None
    np.testing.assert_array_equal(again.calendar.log_effect, fitted().calendar.log_effect)  # type: ignore[union-attr]
    save_posterior(replace(fitted(), calendar=None), tmp_path)
    assert load_posterior(tmp_path).calendar is None
    text = (tmp_path / "posterior.json").read_text()
    for key in ('"calendar": null', '"holidays": null', '"fiscal_year_start": 1'):
        assert key in text
    old = json.loads(text)
    del old["calendar"], old["spec"]["calendar"], old["spec"]["holidays"], old["spec"]["fiscal_year_start"]
    (tmp_path / "posterior.json").write_text(json.dumps(old))
    assert load_posterior(tmp_path).calendar is None
    assert load_posterior(tmp_path).spec == replace(SPEC, calendar=())


def test_a_given_pace_multiplies_the_calendar() -> None:
    posterior, draws = fitted(), 50
    arguments = {"as_of": AS_OF, "days": 10, "draws": draws, "kind": "won"}
    alone = on_calendar(None, posterior, **arguments)  # type: ignore[arg-type]
    assert alone is not None
    assert alone.shape == (draws, 10 + LOOK_AHEAD + 7)
    np.testing.assert_allclose(on_calendar(np.full(draws, 1.5), posterior, **arguments), 1.5 * alone)  # type: ignore[arg-type]
    by_day = np.tile(np.linspace(0.5, 1.5, 10), (draws, 1))
    np.testing.assert_allclose(on_calendar(by_day, posterior, **arguments), by_day * alone[:, :10])  # type: ignore[arg-type]
    assert on_calendar(None, replace(posterior, calendar=None), **arguments) is None  # type: ignore[arg-type]


def test_a_job_file_asks_for_a_calendar(tmp_path: Path) -> None:
    write_demo(tmp_path, seed=3)
    path = tmp_path / "dealcast.toml"
    path.write_text(
        path.read_text().replace("[model]", '[model]\ncalendar = ["weekday", "period_end"]\nholidays = "NL"', 1)
    )
    config = read_config(path)
    spec = job_spec(Job(config, played()))
    assert spec.calendar_options == CalendarOptions(("weekday", "period_end"), "NL", config.forecast.fiscal_year_start)


def test_a_calendar_that_cannot_be_is_refused_before_anything_is_fitted() -> None:
    with pytest.raises(SettingsError, match="calendar must name"):
        fit_snapshot(cut(played(), as_of=AS_OF), spec=replace(SPEC, calendar=("weekends",)))
