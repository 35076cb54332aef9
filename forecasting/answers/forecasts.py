"""The forecast: what the open pipeline, and deals that do not exist yet, may bring until a date.

``forecast`` cuts the deals at the as-of date, plays every posterior draw forward to the last day and keeps cents by
draw, day and segment. Every answer is a sum over those, so answers never contradict each other.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from forecasting.answers import revenue as revenue_tables
from forecasting.answers.deal_table import deal_table, with_swing
from forecasting.answers.leads import LeadsNeeded, leads_needed
from forecasting.answers.levels import moved_in_time, parts_of_new, scaled, seasons_of_new
from forecasting.answers.pace import on_calendar
from forecasting.answers.revenue import LEVELS, Period, Source, target_span
from forecasting.config import MAX_HORIZON_DAYS
from forecasting.data.deal_factors import AMOUNT, has_level_for_lacking
from forecasting.data.factors import ZERO
from forecasting.data.given import arrival_plan, plan_table
from forecasting.data.snapshot import Snapshot, cut
from forecasting.engine.blocks import EngineOptions
from forecasting.periods import as_date
from forecasting.simulate import simulate_new, simulate_open
from models.amounts import mean_change
from models.arrivals.plan import planned_days
from models.errors import SettingsError
from models.history import STILL_OPEN
from models.stage_model.options import checked_seed
from models.stages import StageGraph

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from forecasting.data.deals import Deals
    from forecasting.data.open_pipeline import OpenPipeline
    from forecasting.data.quality import DataQuality
    from forecasting.proof.calibration import Calibration
    from forecasting.proof.new_calibration import NewCalibration
    from models.posterior import Posterior


LEAST_SILENT_DAYS, SILENT_DAYS, SILENCE = 7, 45, 2.0
"""Days without any record before the as-of date from which on a forecast asks whether the export is fresh: twice the longest
gap of the last year, within these bounds."""
GAP_YEAR_DAYS = 380


@dataclass(frozen=True)
class Forecast:
    """Revenue by draw, day and segment, with all that follows from it.

    Parameters
    ----------
    as_of, until : date
        Last known day and last forecast day; forecast day 1 is the day after ``as_of``.
    currency : str or None
    seed : int
    segments : tuple of str
        Labels of the last axis of the cents; one empty label when deals are not told apart.
    open_cents, new_cents : ndarray of int64, shape (draw, day, segment)
        Revenue of deals open at the as-of date and of deals created later, calibration included.
    at_once_cents : ndarray of int64, shape (draw, day, segment)
        Part of ``new_cents`` that is entered as won: it knows no season of wins but that of its own arrivals.
    booked : DataFrame
        Deals won up to the as-of date: ``won_on``, ``amount``, ``segment``.
    deal_table : DataFrame
        One row per open deal, see :meth:`deals`, without ``target_swing``.
    pipeline : OpenPipeline
    posterior : Posterior
        What the forecast followed from; leads needed and scenarios play it forward again.
    open_factor, new_factor : ndarray of float64, shape (draw,)
        Factor that calibration put on each draw; ones without.
    pace, lost_pace : ndarray of float64, shape (draw,) or (draw, day), or None
        Days of progress on each forecast day, see :mod:`forecasting.engine.clock`; None is one.
    calibration : Calibration or None
    diagnostics : mapping
        ``rhat_max``, ``ess_min``, ``divergences`` of the fit.
    data_quality : DataQuality or None
        Rows in, used and rejected.
    warnings : tuple of str
        What a reader of the forecast has to know.
    new_calibration : NewCalibration or None
        What closed forecasts of new business taught.
    open_wins, new_wins : ndarray of int32, shape (draw, day), or None
        Deals won, of those open at the as-of date and of those created later (None without new business); calibration
        not included.
    """

    as_of: date
    until: date
    currency: str | None
    seed: int
    segments: tuple[str, ...]
    open_cents: NDArray[np.int64]
    new_cents: NDArray[np.int64]
    at_once_cents: NDArray[np.int64]
    booked: pd.DataFrame
    deal_table: pd.DataFrame
    pipeline: "OpenPipeline"
    posterior: "Posterior"
    open_factor: NDArray[np.float64]
    new_factor: NDArray[np.float64]
    calibration: "Calibration | None"
    diagnostics: Mapping[str, Any]
    data_quality: "DataQuality | None" = None
    warnings: tuple[str, ...] = ()
    pace: NDArray[np.float64] | None = None
    lost_pace: NDArray[np.float64] | None = None
    new_calibration: "NewCalibration | None" = None
    open_wins: NDArray[np.int32] | None = None
    new_wins: NDArray[np.int32] | None = None

    @property
    def draws(self) -> int:
        """Number of draws."""
        return len(self.open_cents)

    @property
    def horizon_days(self) -> int:
        """Number of forecast days."""
        return (self.until - self.as_of).days

    def revenue(
        self,
        period: Period = "month",
        levels: Sequence[float] = LEVELS,
        *,
        by_segment: bool = False,
        fiscal_year_start: int = 1,
    ) -> pd.DataFrame:
        """Revenue by period and source with its ranges, see :func:`forecasting.answers.revenue.revenue`."""
        return revenue_tables.revenue(
            self, period=period, levels=levels, by_segment=by_segment, fiscal_year_start=fiscal_year_start
        )

    def revenue_draws(
        self,
        period: Period = "month",
        *,
        source: Source = "total",
        segment: str | None = None,
        fiscal_year_start: int = 1,
    ) -> pd.DataFrame:
        """Revenue by draw and period, see :func:`forecasting.answers.revenue.revenue_draws`."""
        return revenue_tables.revenue_draws(
            self, period=period, source=source, segment=segment, fiscal_year_start=fiscal_year_start
        )

    def attainment(
        self,
        *,
        target: float,
        by: str | date,
        since: str | date | None = None,
        period: Period = "month",
        fiscal_year_start: int = 1,
    ) -> float:
        """Probability that revenue from ``since`` to ``by``, what is booked included, reaches ``target``.

        ``since`` defaults to the first day of the ``period`` that holds the as-of date.
        """
        span = target_span(self, by=by, since=since, period=period, fiscal_year_start=fiscal_year_start)
        return revenue_tables.attainment(self, span, target=target)

    def leads_needed(
        self,
        *,
        target: float,
        by: str | date,
        confidence: float = 0.8,
        since: str | date | None = None,
        period: Period = "month",
        fiscal_year_start: int = 1,
    ) -> LeadsNeeded:
        """Smallest number of additional leads with which the target is reached, see :mod:`forecasting.answers.leads`."""
        span = target_span(self, by=by, since=since, period=period, fiscal_year_start=fiscal_year_start)
        return leads_needed(self, span, target=target, confidence=confidence)

    def deals(
        self,
        *,
        target: float | None = None,
        by: str | date | None = None,
        since: str | date | None = None,
        period: Period = "month",
        fiscal_year_start: int = 1,
    ) -> pd.DataFrame:
        """One row per open deal, see :func:`forecasting.answers.deal_table.with_swing` for the last column.

        Columns: ``deal_id``, ``stage``, ``days_in_stage``, ``amount`` (NaN = missing), ``win_probability`` (ever),
        ``win_probability_by_until``, ``close_date_p10``, ``close_date_p50``, ``close_date_p90`` (the deal is won or
        lost by that date with that probability; NaT beyond the look-ahead), ``stall_percentile`` (share of stays in
        the stage that end by the deal's age), ``target_swing``.
        """
        span = target_span(
            self, by=self.until if by is None else by, since=since, period=period, fiscal_year_start=fiscal_year_start
        )
        return with_swing(self, span, target=target)

    def plot(self, ax: "Axes | None" = None) -> "Axes":
        """Revenue fan by period, see :func:`forecasting.plots.fan`."""
        from forecasting import plots

        return plots.fan(self, ax=ax)


def forecast(
    deals: "Deals",
    posterior: "Posterior",
    *,
    as_of: str | date,
    until: str | date,
    seed: int,
    draws: int | None = None,
    new_business: bool = True,
    plan: pd.DataFrame | None = None,
    options: EngineOptions | None = None,
) -> Forecast:
    """Forecast revenue from the day after ``as_of`` to ``until``.

    Parameters
    ----------
    deals : Deals
        Read by :func:`forecasting.data.deals.read_deals`; whatever happened after ``as_of`` is not looked at.
    posterior : Posterior
        Fitted on the same deals with an as-of date not later than ``as_of``.
    as_of, until : date or ISO text
    seed : int
    draws : int, optional
        Posterior draws to use, the first ones; by default all.
    new_business : bool
        Whether deals not created yet count.
    plan : DataFrame, optional
        Planned numbers of new deals, in the place of the learned ones on the days it covers; columns as in
        :func:`forecasting.data.given.plan_table`.
    options : EngineOptions, optional
        Where and within which memory the simulation runs.

    Returns
    -------
    Forecast

    Raises
    ------
    SettingsError
        ``until`` is not after ``as_of``, the posterior knows more than ``as_of`` allows or has other stages, or the plan does
        not fit.
    """
    day = as_date(as_of)
    _check_stages(deals.graph, posterior.stage.graph)
    if plan is not None:
        posterior = with_plan(posterior, plan, new_business=new_business)
    snapshot = cut(
        deals,
        as_of=day,
        segment=posterior.spec.segment,
        covariates=posterior.spec.covariates,
        factors=posterior.stage.factors,
    )
    made = forecast_snapshot(
        snapshot, posterior, until=until, seed=seed, draws=draws, new_business=new_business, options=options
    )
    warnings = (*deals.quality.warnings, *made.warnings, *_plan_warnings(made))
    return replace(made, currency=deals.currency, data_quality=deals.quality, warnings=warnings)


def with_plan(posterior: "Posterior", plan: pd.DataFrame, *, new_business: bool = True) -> "Posterior":
    """Posterior whose new deals arrive as planned on the days the plan covers, see :mod:`models.arrivals.plan`.

    Parameters
    ----------
    posterior : Posterior
    plan : DataFrame
        Columns as in :func:`forecasting.data.given.plan_table`.
    new_business : bool
        Whether deals not created yet count; a plan is refused where they do not.

    Raises
    ------
    InputError, SettingsError
        The plan cannot be read, names an unknown segment, counts a day twice, or is not asked for.
    """
    if not new_business:
        raise SettingsError("a plan of new deals needs new business: drop the plan, or set new_business to true")
    arrivals = posterior.arrivals
    rows = arrival_plan(plan_table(plan), arrivals.groups)
    return replace(posterior, arrivals=replace(arrivals, plan=rows))


def forecast_snapshot(
    snapshot: Snapshot,
    posterior: "Posterior",
    *,
    until: str | date,
    seed: int,
    draws: int | None = None,
    new_business: bool = True,
    options: EngineOptions | None = None,
    pace: NDArray[np.float64] | None = None,
    lost_pace: NDArray[np.float64] | None = None,
) -> Forecast:
    """Forecast from deals already cut at the as-of date, see :func:`forecast`; the currency is not known then.

    ``pace`` and ``lost_pace``, shape (draw,) or (draw, day), are days of progress on each forecast day, see
    :func:`forecasting.simulate.simulate_open`; they multiply the weights of the calendar, if the posterior has one, and
    all answers of the forecast follow them.
    Deal tables and swings are taken from the same fates as the revenue, which only the fate sampler allows.
    """
    as_of, end, seed = snapshot.as_of, as_date(until, name="until"), checked_seed(seed)
    _check_dates(as_of, end, posterior.as_of)
    draws = posterior.stage.n_draws if draws is None else draws
    options = replace(options or EngineOptions(), sampler="fate")
    edges, arrivals = np.arange(1, (end - as_of).days + 1), replace(posterior.arrivals, as_of=as_of)
    pace, lost_pace = (
        on_calendar(given, posterior, as_of=as_of, days=len(edges), draws=draws, kind=kind)
        for given, kind in ((pace, "won"), (lost_pace, "lost"))
    )
    simulated = simulate_open(
        snapshot.pipeline, posterior.stage, edges=edges, seed=seed, draws=draws, amounts=posterior.amounts,
        options=options, pace=pace, lost_pace=lost_pace,
    )  # fmt: skip
    groups, labels = arrivals.groups if new_business else (), simulated.segments
    segments = tuple(sorted({*labels, *groups, *snapshot.won["segment"].unique()})) or ("",)
    open_cents, created = _by_segment(simulated.revenue_cents, labels, segments), None
    new_cents, at_once_cents = np.zeros_like(open_cents), np.zeros_like(open_cents)
    if groups:
        created = simulate_new(
            arrivals, posterior.stage, graph=snapshot.graph, edges=edges, seed=seed, draws=draws,
            amounts=posterior.amounts, options=options, pace=pace,
        )  # fmt: skip
        both = created.revenue_cents, created.at_once_cents
        new_cents, at_once_cents = (_by_segment(cents, groups, segments) for cents in both)
    return Forecast(
        as_of=as_of,
        until=end,
        currency=None,
        seed=seed,
        segments=segments,
        open_cents=open_cents,
        new_cents=new_cents,
        at_once_cents=at_once_cents,
        booked=snapshot.won[["won_on", "amount", "segment"]].reset_index(drop=True),
        deal_table=deal_table(snapshot.pipeline, posterior.stage, simulated, draws=draws),
        pipeline=snapshot.pipeline,
        posterior=replace(posterior, arrivals=arrivals),
        open_factor=np.ones(draws),
        new_factor=np.ones(draws),
        calibration=None,
        diagnostics=asdict(posterior.diagnostics),
        warnings=tuple(_warnings(snapshot, posterior.as_of)),
        pace=pace,
        lost_pace=lost_pace,
        open_wins=simulated.won_count.sum(axis=2, dtype=np.int32),
        new_wins=None if created is None else created.won_count.sum(axis=2, dtype=np.int32),
    )


def with_calibration(
    forecast: Forecast, calibration: "Calibration", *, seed: int, new: "NewCalibration | None" = None
) -> Forecast:
    """Forecast that carries what its own closed forecasts taught.

    One factor per draw acts on all days and segments of open deals, one on those of new business, so that everything
    still adds up. The factors come from the draw's error: revenue of open deals is multiplied by ``calibration.factors``
    of its total, new business by ``new.factors`` of its own; without ``new`` by the shift of the open deals alone. A
    season of wins moves revenue from day to day in all draws, and counts in full in the sum of new business, but for what
    is entered as won; in that of open deals it counts as far as the levels of the moment do.

    Parameters
    ----------
    forecast : Forecast
        Not calibrated yet.
    calibration : Calibration
    seed : int
    new : NewCalibration, optional
        What closed forecasts of new business taught.

    Raises
    ------
    SettingsError
        The forecast is calibrated already.
    """
    if forecast.calibration is not None:
        raise SettingsError("this forecast is calibrated already: calibrate the forecast it was made from")
    most = worth_of_open(forecast)
    season = calibration.season_of_days(forecast.horizon_days)
    on_open = calibration.factors(forecast.open_cents.sum(axis=(1, 2)) / 100, seed=seed, most=most)
    shift = calibration.draw(forecast.draws, seed=seed).shift
    staged, at_once = parts_of_new(forecast)
    of_staged, of_all, on_new = 1.0, 1.0, np.exp(shift)
    if new is not None:
        of_staged, of_all = seasons_of_new(forecast, season)
        mean, sd = calibration.shift_moments
        open_errors, revenue = (shift - mean) / max(sd, 1e-9), forecast.new_cents.sum(axis=(1, 2)) / 100
        on_new = new.factors(of_all * revenue, open_errors=open_errors, seed=seed)
    staged, at_once = scaled(moved_in_time(staged, season), of_staged * on_new), scaled(at_once, on_new)
    return replace(
        forecast,
        open_cents=scaled(moved_in_time(forecast.open_cents, season), on_open),
        new_cents=staged + at_once,
        at_once_cents=at_once,
        open_factor=forecast.open_factor * on_open,
        new_factor=forecast.new_factor * of_all * on_new,
        calibration=calibration,
        new_calibration=new,
    )


def worth_of_open(forecast: Forecast) -> NDArray[np.float64]:
    """Give what all open deals would bring if they were won, by draw: amounts change as those of past wins did."""
    deals, amounts = forecast.pipeline.deals, forecast.posterior.amounts
    typical = float(amounts.pool[: amounts.pool_start[1]].mean())
    amount = deals["amount"].fillna(typical).to_numpy(dtype=float)
    stages = deals["stage"].to_numpy(dtype=np.int64)
    changed = mean_change(amounts.log_ratio_mean, amounts.log_ratio_sd)
    change = amounts.same_probability + (1.0 - amounts.same_probability) * changed
    return np.asarray(change @ np.bincount(stages, weights=amount, minlength=change.shape[1]))


def _check_dates(as_of: date, until: date, fitted: date) -> None:
    if until <= as_of:
        raise SettingsError(f"the forecast must end after the as-of date {as_of}, got until = {until}")
    if (until - as_of).days > MAX_HORIZON_DAYS:
        raise SettingsError(f"until = {until} is too far ahead of {as_of}: expected at most {MAX_HORIZON_DAYS} days")
    if fitted > as_of:
        raise SettingsError(
            f"the posterior was fitted on what was known on {fitted}, after the as-of date {as_of}: fit as of {as_of}"
        )


def _check_stages(graph: StageGraph, fitted: StageGraph) -> None:
    if graph != fitted:
        theirs, ours = (
            f"{', '.join(g.open)}; won {', '.join(g.won)}; lost {', '.join(g.lost)}" for g in (fitted, graph)
        )
        raise SettingsError(
            f"the posterior was fitted with the stages {theirs}, the deals have {ours}: fit these deals"
        )


def _by_segment(cents: NDArray[np.int64], labels: tuple[str, ...], segments: tuple[str, ...]) -> NDArray[np.int64]:
    found = np.zeros((*cents.shape[:2], len(segments)), dtype=np.int64)
    found[:, :, [segments.index(label) for label in labels]] = cents
    return found


def _plan_warnings(made: Forecast) -> list[str]:
    plan = made.posterior.arrivals.plan
    covered = planned_days(plan, first_day=made.as_of + timedelta(days=1), days=made.horizon_days)
    if not plan or covered == made.horizon_days:
        return []
    rest = made.horizon_days - covered
    return [f"the plan of new deals says nothing of {rest} of {made.horizon_days} days: there they arrive as learned"]


def _silent_days(snapshot: Snapshot) -> int:
    """Days between the last record and the as-of date, 0 where so long a gap is usual."""
    stays = snapshot.stays
    if stays.empty:
        return 0
    ended = (stays["entered_on"] + pd.to_timedelta(stays["days"], unit="D"))[stays["next"] != STILL_OPEN]
    seen = pd.concat([stays["entered_on"], ended, snapshot.won["won_on"]])
    days = np.unique(seen.to_numpy().astype("datetime64[D]"))
    gaps = np.diff(days[days >= days[-1] - np.timedelta64(GAP_YEAR_DAYS, "D")]).astype(np.int64)
    usual = float(SILENCE * gaps.max(initial=0)) if len(gaps) else SILENT_DAYS
    silent = int((np.datetime64(snapshot.as_of) - days[-1]).astype(np.int64))
    return silent if silent >= min(max(usual, LEAST_SILENT_DAYS), SILENT_DAYS) else 0


def _warnings(snapshot: Snapshot, fitted: date) -> list[str]:
    pipeline, found = snapshot.pipeline, []
    if silent := _silent_days(snapshot):
        found.append(f"nothing was recorded in the {silent} days up to {snapshot.as_of}: is the export fresh?")
    if fitted < snapshot.as_of:
        found.append(f"the model was fitted as of {fitted}: what happened since then is not learned from")
    if not pipeline.n_deals:
        found.append("no deal is open: all coming revenue is new business")
    elif pipeline.amount_missing:
        missing = f"{pipeline.amount_missing} of {pipeline.n_deals} open deals"
        found.append(f"{missing} have no amount: theirs are drawn from past wins")
    found += snapshot.notes
    stale = [
        factor.name
        for factor in snapshot.factors
        if (factor.name in snapshot.untold and has_level_for_lacking(factor))
        or (factor.name == AMOUNT and 0.0 in snapshot.unknown and factor.levels[0] == ZERO)
    ]
    if stale:
        found.append(f"the model was fitted as if lacking {' or '.join(stale)} told how deals move: fit again")
    if unpriced := int(snapshot.won["amount"].isna().sum()):
        found.append(f"{unpriced} won deals have no amount and count as zero in booked revenue")
    return found
