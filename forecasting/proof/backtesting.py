"""Forecast past dates with what was known then, and score what came: the proof that a range is right that often.

Every origin is a complete forecast: the deals are cut at the date, the models fitted anew, deals still open censored,
the range calibrated by the forecasts that had closed by then. ``tests/forecasting/test_backtest.py`` replaces all that
happened after the origins by noise and finds the same forecasts to the last bit.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, as_completed
from dataclasses import dataclass, field
from datetime import date, timedelta
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from forecasting.answers.forecasts import Forecast, forecast_snapshot, with_calibration
from forecasting.answers.revenue import target_cents
from forecasting.config import DEFAULT_COVARIATES, horizon_after
from forecasting.data.given import commit_table
from forecasting.data.snapshot import Snapshot, cut
from forecasting.engine.blocks import EngineOptions
from forecasting.fitting import fit_snapshot
from forecasting.periods import PeriodName, as_date, next_period_start, period_start
from forecasting.proof.backtest_result import BacktestResult
from forecasting.proof.baselines import BASELINES
from forecasting.proof.calibration import own_calibration
from forecasting.proof.new_calibration import own_new_calibration
from forecasting.proof.origin import Draws, OriginForecast, Told, origin_row
from forecasting.proof.past_forecasts import Memory
from forecasting.proof.scores import crps
from forecasting.proof.stay_table import StayTable, day_of, known_at, stay_table
from forecasting.proof.workers import available_cores
from models.calendar.days import DEFAULT_CALENDAR
from models.errors import SettingsError
from models.history import STILL_OPEN
from models.posterior import ModelSpec
from models.stage_model.options import Inference

if TYPE_CHECKING:
    from forecasting.data.deals import Deals

Progress = Callable[[date, int, int], None]
"""Called with the origin that is done, how many are done, and how many there are."""
MOST_TOGETHER = 8
"""Origins forecast one after the other by one worker at most: they look back at much the same dates."""
ROUNDS = 4
"""Rounds of work left for each core, so that none waits long for the last."""


@dataclass(frozen=True)
class BacktestOptions:
    """How each past forecast is made.

    Parameters
    ----------
    segment, covariates : tuple of str
        As in :func:`forecasting.fit`.
    durations : str
        Family of the times to transition, or ``auto``.
    inference : {"fast", "nuts"}
        ``fast`` for refits in about a second, or ``nuts``.
    draws : int
        Posterior draws.
    window_days : int or None
        Use only stays, wins and arrivals begun within so many days before the origin; None takes all of the past.
    new_business : bool
        Whether deals created after the origin count.
    levels : bool
        Whether calibration counts the levels of the moment, see :mod:`models.levels`.
    calendar, holidays, fiscal_year_start
        As in :class:`models.posterior.ModelSpec`.
    target : float or None
        Amount whose attainment is scored at every origin; None takes what the last period of the same length brought.
    """

    segment: tuple[str, ...] = ()
    covariates: tuple[str, ...] = DEFAULT_COVARIATES
    durations: str = "auto"
    inference: Inference = "fast"
    draws: int = 2000
    window_days: int | None = None
    new_business: bool = True
    levels: bool = True
    calendar: tuple[str, ...] = DEFAULT_CALENDAR
    holidays: str | None = None
    fiscal_year_start: int = 1
    target: float | None = None

    def spec(self, seed: int) -> ModelSpec:
        """Give what the models of one past forecast are asked for."""
        return ModelSpec(
            segment=self.segment,
            covariates=self.covariates,
            durations=self.durations,
            inference=self.inference,
            draws=self.draws,
            seed=seed,
            window_days=self.window_days,
            calendar=self.calendar,
            holidays=self.holidays,
            fiscal_year_start=self.fiscal_year_start,
        )


def backtest(
    deals: "Deals",
    *,
    origins: Sequence[date | str],
    horizon: str = "90d",
    options: BacktestOptions | None = None,
    calibrate: bool = True,
    commits: pd.DataFrame | None = None,
    executor: Executor | None = None,
    progress: Progress | None = None,
    seed: int,
) -> BacktestResult:
    """Forecast at past dates and score the forecasts.

    Parameters
    ----------
    deals : Deals
    origins : sequence of date or ISO text
        As-of dates; :func:`origin_dates` lists them at equal steps. Each horizon must have closed by the last entry.
    horizon : str
        How far each forecast looks, such as ``"28d"`` or ``"2 quarters"``.
    options : BacktestOptions, optional
    calibrate : bool
        Whether each forecast learns from its own closed past forecasts.
    commits : DataFrame, optional
        What managers committed to, scored beside the simple rules at the origins it covers; columns as in
        :func:`forecasting.data.given.commit_table`.
    executor : concurrent.futures.Executor, optional
        Where origins run, for instance a process pool; one after the other without.
    progress : callable, optional
    seed : int

    Returns
    -------
    BacktestResult

    Raises
    ------
    SettingsError
        No origin, one before the first deal, a horizon that has not closed, or commits of other dates than the origins.

    Examples
    --------
    >>> from forecasting.data.deals import deals_from_frames
    >>> from forecasting.data.sample import demo_history
    >>> demo = demo_history(seed=1, n_deals=300)
    >>> past = deals_from_frames(demo.deals, demo.stage_history, stages=demo.graph, timezone="UTC")
    >>> fast = BacktestOptions(durations="piecewise", draws=200)
    >>> result = backtest(past, origins=[demo.as_of - timedelta(days=60)], horizon="28d", options=fast, seed=1)
    >>> result.summary()["n"]
    1
    """
    chosen = options or BacktestOptions()
    if chosen.target is not None and target_cents(chosen.target) == 0:
        raise SettingsError("a target of 0 is reached for sure: expected an amount above 0 to be scored")
    days = sorted({as_date(origin, name="origins") for origin in origins})
    spans = [(day, horizon_after(horizon, day, fiscal_year_start=chosen.fiscal_year_start)) for day in days]
    _check_spans(deals, spans)
    said = _told(commits, spans, chosen.target)
    course = Course(deals, chosen, calibrate, seed)
    done: list[OriginForecast] = []
    for result in _results(course, spans, executor):
        done.append(result)
        if progress is not None:
            progress(result.as_of, len(done), len(spans))
    done.sort(key=lambda result: result.as_of)
    rows = {
        raw: [
            origin_row(each, told, raw=raw, new_business=chosen.new_business, seed=seed)
            for each, told in zip(done, said, strict=True)
        ]
        for raw in (False, True)
    }
    return BacktestResult(
        table=pd.DataFrame(rows[False]),
        uncalibrated=pd.DataFrame(rows[True]),
        deals=_all_deals(done),
        horizon=horizon,
        calibrated=calibrate,
        new_business=chosen.new_business,
        seed=seed,
    )


def _all_deals(done: list[OriginForecast]) -> pd.DataFrame:
    """Deals of all origins, those without an open deal left out: their columns have no types to agree upon."""
    tables = [result.deals.assign(as_of=pd.Timestamp(result.as_of)) for result in done]
    return pd.concat([table for table in tables if len(table)] or tables[:1], ignore_index=True)


def origin_dates(first: date | str, last: date | str, *, every: str) -> list[date]:
    """As-of dates from ``first`` to ``last``.

    Parameters
    ----------
    first, last : date or ISO text
    every : str
        Days such as ``"28d"``, or ``"month"`` or ``"quarter"``: their last days within the span.

    Examples
    --------
    >>> [str(day) for day in origin_dates("2026-01-15", "2026-04-30", every="month")]
    ['2026-01-31', '2026-02-28', '2026-03-31', '2026-04-30']
    >>> len(origin_dates("2011-12-04", "2012-02-12", every="7d"))
    11
    """
    start, end = as_date(first, name="from"), as_date(last, name="to")
    if every in ("month", "quarter"):
        period: PeriodName = "month" if every == "month" else "quarter"
        found, begin = [], period_start(start, period=period)
        while (close := next_period_start(begin, period=period) - timedelta(days=1)) <= end:
            found.append(close)
            begin = close + timedelta(days=1)
    else:
        text = every.removesuffix("d")
        if not text.isdecimal() or int(text) == 0:
            raise SettingsError(f"every must be a number of days such as '28d', 'month' or 'quarter', got {every!r}")
        found = [start + timedelta(days=step) for step in range(0, (end - start).days + 1, int(text))]
    if not found:
        raise SettingsError(f"no origin lies between {start} and {end} with every = {every!r}: widen the span")
    return found


@dataclass(frozen=True)
class Course:
    """What the origins of a backtest have in common.

    Parameters
    ----------
    deals : Deals
    options : BacktestOptions
    calibrate : bool
    seed : int
    memory : Memory
        Past forecasts that the origins forecast so far have looked back at.
    """

    deals: "Deals"
    options: BacktestOptions
    calibrate: bool
    seed: int
    memory: Memory = field(default_factory=Memory)

    @cached_property
    def stays(self) -> StayTable:
        """Stays of all deals."""
        return stay_table(self.deals, calendar=self.options.spec(self.seed).calendar_options)


def forecast_origin(course: Course, as_of: date, until: date) -> OriginForecast:
    """Forecast one past date with what was known then, and look up what came."""
    deals, options, seed, stays, memory = course.deals, course.options, course.seed, course.stays, course.memory
    of_origin, horizon_days = origin_seed(seed, as_of), (until - as_of).days
    snapshot = cut(deals, as_of=as_of, segment=options.segment, covariates=options.covariates)
    made = forecast_past(snapshot, until, options, of_origin)
    learned, of_new, published = None, None, made
    if course.calibrate:
        levels = options.levels
        learned = own_calibration(
            stays, as_of=as_of, horizon_days=horizon_days, seed=seed, levels=levels, memory=memory, threads=1
        )
        if options.new_business:
            of_new = own_new_calibration(
                stays, as_of=as_of, horizon_days=horizon_days, seed=seed, levels=levels, memory=memory, threads=1
            )
        published = with_calibration(made, learned, seed=of_origin, new=of_new)
    later = cut(deals, as_of=until)
    wins = later.won[later.won["won_on"] > pd.Timestamp(as_of)]
    from_open = wins["deal_id"].isin(snapshot.pipeline.deals["deal_id"])
    actual_open, actual = float(wins.loc[from_open, "amount"].sum()), float(wins["amount"].sum())
    return OriginForecast(
        as_of=as_of,
        until=until,
        draws=_draws(published),
        raw=_draws(made),
        deals=_deals(made, later),
        actual_open=actual_open,
        actual=actual,
        actual_wins=len(wins),
        baselines=_baselines(stays, as_of, horizon_days, (actual_open, actual), of_origin),
        calibration=None if learned is None else learned.to_dict(),
        new_calibration=None if of_new is None else of_new.to_dict(),
    )


def origin_seed(seed: int, as_of: date) -> int:
    """Seed of one past forecast: its own, whatever other dates are forecast."""
    return int(np.random.SeedSequence([seed, day_of(as_of)]).generate_state(1)[0] >> 1)


def forecast_past(snapshot: Snapshot, until: date, options: BacktestOptions, seed: int) -> Forecast:
    """Fit and forecast one snapshot, uncalibrated."""
    with threadpool_limits(
        1
    ):  # the matrices are small: threads would only wait for each other, and origins run in parallel
        # calibration filters the levels of the moment by itself: those of the posterior would go unused
        posterior = fit_snapshot(snapshot, spec=options.spec(seed), levels=False)
    engine = EngineOptions(threads=1, detail_draws=1)
    return forecast_snapshot(
        snapshot, posterior, until=until, seed=seed, new_business=options.new_business, options=engine
    )


def _draws(made: Forecast) -> Draws:
    """Revenue and wins over the whole horizon by draw; calibration moves wins as it moves their revenue."""
    open_wins, new_wins = (0.0 if wins is None else wins.sum(axis=1) for wins in (made.open_wins, made.new_wins))
    return Draws(
        open=made.open_cents.sum(axis=(1, 2)) / 100.0,
        new=made.new_cents.sum(axis=(1, 2)) / 100.0,
        open_wins=open_wins * made.open_factor,
        new_wins=new_wins * made.new_factor,
    )


def _deals(made: Forecast, later: Snapshot) -> pd.DataFrame:
    """Table of the open deals: what was said of each, and what became of it by the end of the horizon."""
    told = made.deal_table[["deal_id", "stage", "win_probability_by_until", "close_date_p50"]]
    said = (told["close_date_p50"] - pd.Timestamp(made.as_of)).dt.days
    last = later.stays.drop_duplicates("deal_id", keep="last").set_index("deal_id")
    closed_on = (last["entered_on"] + pd.to_timedelta(last["days"], unit="D"))[last["next"] != STILL_OPEN]
    took = (told["deal_id"].map(closed_on) - pd.Timestamp(made.as_of)).dt.days
    won = later.won.loc[later.won["won_on"] > pd.Timestamp(made.as_of), "deal_id"]
    return pd.DataFrame(
        {
            "deal_id": told["deal_id"],
            "stage": told["stage"],
            "probability": told["win_probability_by_until"],
            "won": told["deal_id"].isin(won),
            "days_p50": said.fillna(made.horizon_days).clip(upper=made.horizon_days).astype(float),
            "days": took.fillna(made.horizon_days).astype(float),
            "closed": took.notna(),
        }
    )


def _baselines(
    stays: StayTable, as_of: date, horizon_days: int, actual: tuple[float, float], seed: int
) -> dict[str, float]:
    """Point and CRPS of every baseline for open deals, and for all deals where it has an answer."""
    known = known_at(stays, day_of(as_of))
    columns: dict[str, float] = {}
    for name, rule in BASELINES.items():
        told = rule(known, horizon_days, seed)
        error = abs(told.open - actual[0])
        columns[f"open_{name}"] = told.open
        columns[f"open_{name}_crps"] = error if told.open_draws is None else float(crps(told.open_draws, actual[0]))
        if told.total is not None:
            columns[name] = told.total
            columns[f"{name}_crps"] = abs(told.total - actual[1])
    return columns


def _results(course: Course, spans: list[tuple[date, date]], executor: Executor | None) -> Iterator[OriginForecast]:
    """Run the origins, here or on the executor, in the order they finish; there some that follow one another together."""
    if executor is None:
        yield from (forecast_origin(course, *span) for span in spans)
        return
    size = max(1, min(len(spans) // (ROUNDS * available_cores()), MOST_TOGETHER))
    groups = [spans[start : start + size] for start in range(0, len(spans), size)]
    for future in as_completed([executor.submit(_forecast_origins, course, group) for group in groups]):
        yield from future.result()


def _forecast_origins(course: Course, spans: list[tuple[date, date]]) -> list[OriginForecast]:
    """Forecast some past dates, which look back at much the same ones."""
    return [forecast_origin(course, *span) for span in spans]


def _told(commits: pd.DataFrame | None, spans: list[tuple[date, date]], target: float | None) -> list[Told]:
    """Look up what people said at each origin; a commit for the very end of the horizon goes before one for any."""
    if commits is None:
        return [Told(None, target) for _ in spans]
    table, found = commit_table(commits), []
    for day, until in spans:
        rows = table[
            (table["as_of"] == pd.Timestamp(day)) & (table["until"].isna() | (table["until"] == pd.Timestamp(until)))
        ]
        if rows.empty:
            found.append(Told(None, target))
            continue
        row = rows.sort_values("until").iloc[0]
        amount, own = (None if np.isnan(row[name]) else float(row[name]) for name in ("amount", "target"))
        found.append(Told(amount, target if own is None else own))
    if all(told == Told(None, target) for told in found):
        dates = sorted(str(day.date()) for day in table["as_of"].unique())
        raise SettingsError(
            f"the commits are of {', '.join(dates)}, and no origin with the same end is among them: origins are "
            f"{', '.join(f'{day} (to {until})' for day, until in spans)}; take those as-of dates or leave the commits out"
        )
    return found


def _check_spans(deals: "Deals", spans: list[tuple[date, date]]) -> None:
    """Refuse origins before the first deal, and those whose outcome is not known yet."""
    if not spans:
        raise SettingsError("a backtest needs at least one origin: give dates, or a span and every = '28d'")
    first, last = (day.date() for day in deals.entries["entered_on"].agg(["min", "max"]))
    too_early = [str(day) for day, _ in spans if day < first]
    if too_early:
        raise SettingsError(
            f"the history begins on {first}, nothing was known at these origins: {', '.join(too_early)}; take later ones"
        )
    still_open = [str(day) for day, until in spans if until > last]
    if still_open:
        raise SettingsError(
            f"the history ends on {last}, before the horizons of these origins close: {', '.join(still_open)}; "
            "take earlier origins or a shorter horizon"
        )
