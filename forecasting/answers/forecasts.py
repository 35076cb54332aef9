"""The forecast: what the open pipeline, and deals that do not exist yet, may bring until a date.

``forecast`` cuts the deals at the as-of date, plays every posterior draw forward to the last day and keeps cents by
draw, day and segment. Every answer is a sum over those, so answers never contradict each other.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from forecasting.answers import revenue as revenue_tables
from forecasting.answers.deal_table import deal_table, with_swing
from forecasting.answers.leads import LeadsNeeded, leads_needed
from forecasting.answers.levels import scaled
from forecasting.answers.revenue import LEVELS, Period, Source, target_span
from forecasting.data.snapshot import Snapshot, cut
from forecasting.engine.blocks import EngineOptions
from forecasting.periods import as_date
from forecasting.simulate import NewSimulation, OpenSimulation, simulate_new, simulate_open
from models.errors import SettingsError
from models.levels.posterior import future_factors, level_effects

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from forecasting.data.deals import Deals
    from forecasting.data.open_pipeline import OpenPipeline
    from forecasting.data.quality import DataQuality
    from forecasting.proof.calibration import Calibration
    from models.posterior import Posterior


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
    booked : DataFrame
        Deals won up to the as-of date: ``won_on``, ``amount``, ``segment``.
    deal_table : DataFrame
        One row per open deal, see :meth:`deals`, without ``target_swing``.
    pipeline : OpenPipeline
    posterior : Posterior
        What the forecast followed from; leads needed and scenarios play it forward again.
    open_factor, new_factor : ndarray of float64, shape (draw,)
        Factor that calibration put on each draw; ones without.
    calibration : Calibration or None
    diagnostics : mapping
        ``rhat_max``, ``ess_min``, ``divergences`` of the fit.
    data_quality : DataQuality or None
        Rows in, used and rejected.
    warnings : tuple of str
        What a reader of the forecast has to know.
    tracked : ndarray of float64, shape (draw, 2), or None
        Cents of open and of new deals over the whole horizon with hazards at the levels of the moment; see
        :func:`forecasting.answers.levels.with_levels`.
    """

    as_of: date
    until: date
    currency: str | None
    seed: int
    segments: tuple[str, ...]
    open_cents: NDArray[np.int64]
    new_cents: NDArray[np.int64]
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
    tracked: NDArray[np.float64] | None = None

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
    levels: bool = False,
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
    levels : bool
        Whether to play the future at the levels of the moment too, see :func:`forecasting.answers.levels.with_levels`.
    options : EngineOptions, optional
        Where and within which memory the simulation runs.

    Returns
    -------
    Forecast

    Raises
    ------
    SettingsError
        ``until`` is not after ``as_of``, the posterior knows more than ``as_of`` allows, or levels are asked for of a
        posterior without.
    """
    day = as_date(as_of)
    snapshot = cut(
        deals,
        as_of=day,
        segment=posterior.spec.segment,
        covariates=posterior.spec.covariates,
        factors=posterior.stage.factors,
    )
    made = forecast_snapshot(
        snapshot,
        posterior,
        until=until,
        seed=seed,
        draws=draws,
        new_business=new_business,
        levels=levels,
        options=options,
    )
    return replace(made, currency=deals.currency, data_quality=deals.quality)


def forecast_snapshot(
    snapshot: Snapshot,
    posterior: "Posterior",
    *,
    until: str | date,
    seed: int,
    draws: int | None = None,
    new_business: bool = True,
    levels: bool = False,
    options: EngineOptions | None = None,
) -> Forecast:
    """Forecast from deals already cut at the as-of date, see :func:`forecast`; the currency is not known then."""
    as_of, end = snapshot.as_of, as_date(until, name="until")
    _check_dates(as_of, end, posterior.as_of)
    draws = posterior.stage.n_draws if draws is None else draws
    # deal tables and swings are taken from the same fates as the revenue, which only this sampler allows
    options = replace(options or EngineOptions(), sampler="fate")
    edges = np.arange(1, (end - as_of).days + 1)
    arrivals = replace(posterior.arrivals, as_of=as_of)
    play = _Play(snapshot, replace(posterior, arrivals=arrivals), seed, draws, new_business, options)
    simulated, created = play.run(edges)
    groups = () if created is None else created.segments
    segments = tuple(sorted({*simulated.segments, *groups, *snapshot.won["segment"].unique()})) or ("",)
    new_cents = np.zeros((draws, len(edges), len(segments)), dtype=np.int64)
    if created is not None:
        new_cents[:, :, [segments.index(label) for label in groups]] = created.revenue_cents
    return Forecast(
        as_of=as_of,
        until=end,
        currency=None,
        seed=seed,
        segments=segments,
        open_cents=_by_segment(simulated, segments),
        new_cents=new_cents,
        booked=snapshot.won[["won_on", "amount", "segment"]].reset_index(drop=True),
        deal_table=deal_table(snapshot.pipeline, posterior.stage, simulated, draws=draws),
        pipeline=snapshot.pipeline,
        posterior=replace(posterior, arrivals=arrivals),
        open_factor=np.ones(draws),
        new_factor=np.ones(draws),
        calibration=None,
        diagnostics=asdict(posterior.diagnostics),
        warnings=tuple(_warnings(snapshot, posterior.as_of)),
        tracked=play.tracked(int(edges[-1])) if levels else None,
    )


@dataclass(frozen=True)
class _Play:
    """How one future is played; twice with the same random numbers when levels are asked for."""

    snapshot: Snapshot
    posterior: "Posterior"
    seed: int
    draws: int
    new_business: bool
    options: EngineOptions

    def run(
        self, edges: NDArray[np.int64], effects: NDArray[np.float64] | None = None
    ) -> tuple[OpenSimulation, NewSimulation | None]:
        """Simulate open deals and, if asked for and there are any, new ones."""
        posterior = self.posterior
        simulated = simulate_open(
            self.snapshot.pipeline,
            posterior.stage,
            edges=edges,
            seed=self.seed,
            draws=self.draws,
            amounts=posterior.amounts,
            options=self.options,
            effects=effects,
        )
        if not self.new_business or not posterior.arrivals.groups:
            return simulated, None
        return simulated, simulate_new(
            posterior.arrivals,
            posterior.stage,
            graph=self.snapshot.graph,
            edges=edges,
            seed=self.seed,
            draws=self.draws,
            amounts=posterior.amounts,
            options=self.options,
            effects=effects,
        )

    def tracked(self, horizon_days: int) -> NDArray[np.float64]:
        """Cents of open and new deals over the whole horizon with hazards at the levels of the moment, (draw, 2)."""
        levels = self.posterior.levels
        if levels is None:
            raise SettingsError("this posterior was saved before levels were learned: fit again")
        factors = future_factors(levels, horizon_days=horizon_days, draws=self.draws, seed=self.seed)
        played = self.run(np.array([horizon_days]), level_effects(levels, factors))
        totals = [
            np.zeros(self.draws) if part is None else part.revenue_cents.sum(axis=(1, 2)).astype(float)
            for part in played
        ]
        return np.stack(totals, axis=1)


def with_calibration(forecast: Forecast, calibration: "Calibration", *, seed: int) -> Forecast:
    """Forecast that carries what its own closed forecasts taught.

    One error per draw acts on all its days, segments and sources, so that everything still adds up: revenue of open
    deals is multiplied by ``calibration.factors`` of its total, new business by the same draw's shift alone, since the
    errors behind the scale are those of open deals.

    Parameters
    ----------
    forecast : Forecast
        Not calibrated yet.
    calibration : Calibration
    seed : int

    Raises
    ------
    SettingsError
        The forecast is calibrated already.
    """
    if forecast.calibration is not None:
        raise SettingsError("this forecast is calibrated already: calibrate the forecast it was made from")
    on_open = calibration.factors(forecast.open_cents.sum(axis=(1, 2)) / 100, seed=seed)
    on_new = np.exp(calibration.draw(forecast.draws, seed=seed).shift)
    return replace(
        forecast,
        open_cents=scaled(forecast.open_cents, on_open),
        new_cents=scaled(forecast.new_cents, on_new),
        open_factor=forecast.open_factor * on_open,
        new_factor=forecast.new_factor * on_new,
        calibration=calibration,
    )


def _check_dates(as_of: date, until: date, fitted: date) -> None:
    if until <= as_of:
        raise SettingsError(f"the forecast must end after the as-of date {as_of}, got until = {until}")
    if fitted > as_of:
        raise SettingsError(
            f"the posterior was fitted on what was known on {fitted}, after the as-of date {as_of}: fit as of {as_of}"
        )


def _by_segment(simulated: OpenSimulation, segments: tuple[str, ...]) -> NDArray[np.int64]:
    cents = np.zeros((*simulated.revenue_cents.shape[:2], len(segments)), dtype=np.int64)
    cents[:, :, [segments.index(label) for label in simulated.segments]] = simulated.revenue_cents
    return cents


def _warnings(snapshot: Snapshot, fitted: date) -> list[str]:
    pipeline, found = snapshot.pipeline, []
    if fitted < snapshot.as_of:
        found.append(f"the model was fitted as of {fitted}: what happened since then is not learned from")
    if not pipeline.n_deals:
        found.append("no deal is open: all coming revenue is new business")
    elif pipeline.amount_missing:
        missing = f"{pipeline.amount_missing} of {pipeline.n_deals} open deals"
        found.append(f"{missing} have no amount: theirs are drawn from past wins")
    unpriced = int(snapshot.won["amount"].isna().sum())
    if unpriced:
        found.append(f"{unpriced} won deals have no amount and count as zero in booked revenue")
    return found
