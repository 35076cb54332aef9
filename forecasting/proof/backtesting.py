"""Forecast past dates with what was known then, and score what came: the proof that a range is right that often.

Every origin is a complete forecast: the deals are cut at the date, the models fitted anew, deals still open censored,
the range calibrated by the forecasts that had closed by then. ``tests/forecasting/test_backtest.py`` replaces all that
happened after the origins by noise and finds the same forecasts to the last bit.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, as_completed
from dataclasses import dataclass
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from forecasting.answers.forecasts import Forecast, forecast_snapshot, with_calibration
from forecasting.config import DEFAULT_COVARIATES, ForecastConfig, horizon_end
from forecasting.data.snapshot import Snapshot, cut
from forecasting.engine.blocks import EngineOptions
from forecasting.fitting import fit_snapshot
from forecasting.periods import PeriodName, as_date, next_period_start, period_start
from forecasting.proof.backtest_result import BacktestResult, score_columns
from forecasting.proof.baselines import BASELINES
from forecasting.proof.calibration import own_calibration
from forecasting.proof.new_calibration import own_new_calibration
from forecasting.proof.scores import auc, brier, crps
from forecasting.proof.stay_table import StayTable, day_of, known_at, stay_table
from models.calendar.days import DEFAULT_CALENDAR
from models.errors import SettingsError
from models.posterior import ModelSpec

if TYPE_CHECKING:
    from forecasting.data.deals import Deals

Floats = NDArray[np.float64]
Progress = Callable[[date, int, int], None]
"""Called with the origin that is done, how many are done, and how many there are."""


@dataclass(frozen=True)
class BacktestOptions:
    """How each past forecast is made.

    Parameters
    ----------
    segment, covariates : tuple of str
        As in :func:`forecasting.fit`.
    durations : str
        Family of the times to transition, or ``auto``.
    inference : str
        ``fast`` for refits in about a second, or ``nuts``.
    draws : int
        Posterior draws.
    window_days : int or None
        Use only stays, wins and arrivals begun within so many days before the origin; None takes all of the past.
    new_business : bool
        Whether deals created after the origin count.
    levels : bool
        Whether calibration counts the levels of the moment, see :mod:`models.levels.filtering`.
    calendar, holidays, fiscal_year_start
        As in :class:`models.posterior.ModelSpec`.
    """

    segment: tuple[str, ...] = ()
    covariates: tuple[str, ...] = DEFAULT_COVARIATES
    durations: str = "auto"
    inference: str = "fast"
    draws: int = 2000
    window_days: int | None = None
    new_business: bool = True
    levels: bool = True
    calendar: tuple[str, ...] = DEFAULT_CALENDAR
    holidays: str | None = None
    fiscal_year_start: int = 1


@dataclass(frozen=True)
class OriginForecast:
    """One past forecast and what came, picklable.

    Parameters
    ----------
    as_of, until : date
    open_draws, total_draws : ndarray of float64, shape (draw,)
        Calibrated revenue of deals open at the origin, and of all deals, in currency units.
    raw_open_draws, raw_total_draws : ndarray of float64, shape (draw,)
        The same before calibration.
    deals : DataFrame
        ``deal_id``, ``stage``, ``probability`` (won by ``until``), ``won``.
    actual_open, actual : float
    baselines : dict
        Columns of the baselines.
    calibration : dict or None
    """

    as_of: date
    until: date
    open_draws: Floats
    total_draws: Floats
    raw_open_draws: Floats
    raw_total_draws: Floats
    deals: pd.DataFrame
    actual_open: float
    actual: float
    baselines: dict[str, float]
    calibration: dict[str, Any] | None


def backtest(
    deals: "Deals",
    *,
    origins: Sequence[date | str],
    horizon: str = "90d",
    options: BacktestOptions | None = None,
    calibrate: bool = True,
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
        No origin, or a horizon that has not closed.

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
    days = sorted({as_date(origin, name="origins") for origin in origins})
    spans = [(day, horizon_end(ForecastConfig(horizon=horizon), day)) for day in days]
    _check_closed(deals, spans)
    tasks = [(deals, day, until, chosen, calibrate, seed) for day, until in spans]
    done: list[OriginForecast] = []
    for result in _results(tasks, executor):
        done.append(result)
        if progress is not None:
            progress(result.as_of, len(done), len(tasks))
    done.sort(key=lambda result: result.as_of)
    return BacktestResult(
        table=pd.DataFrame([_row(result, raw=False, seed=seed) for result in done]),
        uncalibrated=pd.DataFrame([_row(result, raw=True, seed=seed) for result in done]),
        deals=pd.concat([result.deals.assign(as_of=pd.Timestamp(result.as_of)) for result in done], ignore_index=True),
        horizon=horizon,
        calibrated=calibrate,
        new_business=chosen.new_business,
        seed=seed,
    )


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


def forecast_origin(
    deals: "Deals", as_of: date, until: date, options: BacktestOptions, calibrate: bool, seed: int
) -> OriginForecast:
    """Forecast one past date with what was known then, and look up what came."""
    of_origin = int(np.random.SeedSequence([seed, day_of(as_of)]).generate_state(1)[0] >> 1)
    stays, horizon_days = stay_table(deals), (until - as_of).days
    snapshot = cut(deals, as_of=as_of, segment=options.segment, covariates=options.covariates)
    made = _forecast(snapshot, until, options, of_origin)
    raw_open, raw_total = _draws(made)
    learned, of_new = None, None
    if calibrate:
        learned = own_calibration(stays, as_of=as_of, horizon_days=horizon_days, seed=seed, levels=options.levels)
    if calibrate and options.new_business:
        of_new = own_new_calibration(stays, as_of=as_of, horizon_days=horizon_days)
    published = made if learned is None else with_calibration(made, learned, seed=of_origin, new=of_new)
    open_draws, total_draws = _draws(published)
    wins = cut(deals, as_of=until).won
    wins = wins[wins["won_on"] > pd.Timestamp(as_of)]
    from_open = wins["deal_id"].isin(snapshot.pipeline.deals["deal_id"])
    actual_open, actual = float(wins.loc[from_open, "amount"].sum()), float(wins["amount"].sum())
    told = made.deal_table[["deal_id", "stage", "win_probability_by_until"]]
    told = told.rename(columns={"win_probability_by_until": "probability"})
    return OriginForecast(
        as_of=as_of,
        until=until,
        open_draws=open_draws,
        total_draws=total_draws,
        raw_open_draws=raw_open,
        raw_total_draws=raw_total,
        deals=told.assign(won=told["deal_id"].isin(wins["deal_id"])),
        actual_open=actual_open,
        actual=actual,
        baselines=_baselines(stays, as_of, horizon_days, (actual_open, actual), of_origin),
        calibration=None if learned is None else learned.to_dict(),
    )


def _forecast(snapshot: Snapshot, until: date, options: BacktestOptions, seed: int) -> Forecast:
    """Fit and forecast one snapshot, uncalibrated."""
    spec = ModelSpec(
        segment=options.segment,
        covariates=options.covariates,
        durations=options.durations,
        inference=options.inference,
        draws=options.draws,
        seed=seed,
        window_days=options.window_days,
        calendar=options.calendar,
        holidays=options.holidays,
        fiscal_year_start=options.fiscal_year_start,
    )
    with threadpool_limits(
        1
    ):  # the matrices are small: threads would only wait for each other, and origins run in parallel
        posterior = fit_snapshot(snapshot, spec=spec)
    engine = EngineOptions(threads=1, detail_draws=1)
    return forecast_snapshot(
        snapshot, posterior, until=until, seed=seed, new_business=options.new_business, options=engine
    )


def _draws(made: Forecast) -> tuple[Floats, Floats]:
    """Revenue over the whole horizon of open deals and of all deals, by draw, in currency units."""
    open_cents, new_cents = (cents.sum(axis=(1, 2)) for cents in (made.open_cents, made.new_cents))
    return open_cents / 100.0, (open_cents + new_cents) / 100.0


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


def _row(result: OriginForecast, *, raw: bool, seed: int) -> dict[str, Any]:
    """Row of the result table."""
    total = result.raw_total_draws if raw else result.total_draws
    of_open = result.raw_open_draws if raw else result.open_draws
    told = result.deals
    return {
        "as_of": pd.Timestamp(result.as_of),
        "until": pd.Timestamp(result.until),
        "horizon_days": (result.until - result.as_of).days,
        "actual": result.actual,
        "actual_open": result.actual_open,
        **score_columns(total, result.actual, prefix="", seed=seed),
        **score_columns(of_open, result.actual_open, prefix="open_", seed=seed),
        "open_deals": len(told),
        "open_wins_mean": float(told["probability"].sum()),
        "actual_open_wins": int(told["won"].sum()),
        "deal_brier": brier(told["probability"], told["won"]) if len(told) else float("nan"),
        "deal_auc": auc(told["probability"], told["won"]),
        **result.baselines,
        **{f"calibration_{name}": value for name, value in (result.calibration or {}).items()},
    }


def _results(tasks: list[tuple[Any, ...]], executor: Executor | None) -> Iterator[OriginForecast]:
    """Run the origins, here or on the executor, in the order they finish."""
    if executor is None:
        yield from (forecast_origin(*task) for task in tasks)
        return
    for future in as_completed([executor.submit(forecast_origin, *task) for task in tasks]):
        yield future.result()


def _check_closed(deals: "Deals", spans: list[tuple[date, date]]) -> None:
    """Refuse origins whose outcome is not known yet."""
    if not spans:
        raise SettingsError("a backtest needs at least one origin: give dates, or a span and every = '28d'")
    last = deals.entries["entered_on"].max().date()
    still_open = [str(day) for day, until in spans if until > last]
    if still_open:
        raise SettingsError(
            f"the history ends on {last}, before the horizons of these origins close: {', '.join(still_open)}; "
            "take earlier origins or a shorter horizon"
        )
