"""Findings made by hand: known draws, known hazards, known deals; nothing is fitted."""

from datetime import date, timedelta
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd

from forecasting.answers.forecasts import Forecast
from forecasting.answers.leads import LeadsNeeded
from forecasting.answers.revenue import cents_in
from forecasting.answers.stage_summary import stage_summary
from forecasting.data.quality import DataQuality, Finding, TableQuality
from forecasting.output.findings import Findings, Range, stalled_by_stage
from forecasting.periods import Period
from models.hazards import PlantedHazards
from models.levels.posterior import LevelPosterior
from models.stages import StageGraph

AS_OF, UNTIL = date(2026, 9, 30), date(2026, 12, 31)
SALES = StageGraph(open=["Lead", "Proposal"], won=["Won"], lost=["Lost"])
LOANS = StageGraph(
    open=["1_submitted", "2_preaccepted", "3_accepted", "4_offer_sent", "5_offer_returned and waiting for a signature"],
    won=["WON"],
    lost=["LOST_declined", "LOST_cancelled"],
)


def planted_hazards(graph: StageGraph, *, n_draws: int = 20) -> PlantedHazards:
    """Every stage goes on, is won or is lost at constant hazards that differ a little between draws."""
    base = np.zeros((n_draws, graph.n_open, 3, 1))
    following = np.zeros((graph.n_open, 3), dtype=np.int16)
    for stage in range(graph.n_open):
        ahead = min(stage + 1, graph.n_open)
        following[stage] = [ahead, graph.won_codes[0] if stage + 1 < graph.n_open else 0, graph.lost_codes[-1]]
        base[:, stage, :, 0] = [0.06, 0.01, 0.03]
    base *= np.linspace(0.9, 1.1, n_draws)[:, None, None, None]
    return PlantedHazards(following, base)


def steady_levels() -> LevelPosterior:
    """Deals move forward half as fast again as ever, and fall out as they always did."""
    level = np.tile([np.log(1.5), 0.0], (20, 1))
    still = np.full_like(level, 1e-9)
    return LevelPosterior(level, level, still, still, np.array([[0, 1]]), 7)


def planted_forecast(
    *,
    graph: StageGraph = SALES,
    scale: float = 1e4,
    until: date = UNTIL,
    currency: str | None = "EUR",
    n_open: int = 30,
) -> Forecast:
    """Forecast of two segments with draws from a fixed generator."""
    rng = np.random.default_rng(7)
    size = (400, (until - AS_OF).days, 2)
    wins = [
        np.rint(rng.poisson(rate, size) * rng.gamma(2, scale / 2, size)).astype(np.int64) * 100 for rate in (0.5, 0.2)
    ]
    days = [pd.Timestamp(AS_OF - timedelta(days=back)) for back in (0, 3, 20, 90)]
    won = pd.DataFrame({"won_on": days, "amount": 2 * scale, "segment": "North"})
    hazards = planted_hazards(graph)
    stage = SimpleNamespace(
        lattice=hazards.lattice, n_draws=hazards.n_draws, inference="nuts", sampler="planted by a test", factors=(),
        families=dict.fromkeys(graph.open, "weibull"),
        stages=[SimpleNamespace(shape=SimpleNamespace(family="weibull"), reason="weibull: as asked")] * graph.n_open,
    )  # fmt: skip
    posterior: Any = SimpleNamespace(
        stage=stage,
        spec=SimpleNamespace(
            segment=("region",), covariates=("log_amount",), calendar=(), holidays=None, window_days=None, seed=3
        ),
        inputs_sha256="0123456789abcdef" * 4,
        levels=steady_levels(),
    )
    table = _deals(rng, graph, n_open, scale)
    pipeline: Any = SimpleNamespace(
        graph=graph, deals=table.assign(cell=0), cells=np.zeros((1, 0), dtype=np.int32), n_deals=n_open
    )
    return Forecast(
        as_of=AS_OF, until=until, currency=currency, seed=3, segments=("North", "South"), open_cents=wins[0],
        new_cents=wins[1], at_once_cents=np.zeros_like(wins[1]), booked=won, deal_table=table, pipeline=pipeline,
        posterior=posterior, open_factor=np.ones(400), new_factor=np.ones(400), calibration=None,
        diagnostics={"rhat_max": 1.004, "ess_min": 900.0, "divergences": 0}, data_quality=_quality(),
        warnings=("3 of 30 open deals have no amount: theirs are drawn from past wins",),
    )  # fmt: skip


def planted_findings(forecast: Forecast, *, target: float | None = 1e6, leads: int | None = 40) -> Findings:
    """Findings of a planted forecast, its target's answer planted as well."""
    span = Period(date(2026, 9, 1), forecast.until)
    needed = None
    if target is not None:
        reached = forecast.attainment(target=target, by=span.end, since=span.start)
        last = date(2026, 11, 2) if leads is not None else None
        needed = LeadsNeeded(leads, target, span.start, span.end, 0.8, reached, 0.8, last)
    deals = forecast.deal_table.assign(target_swing=0.01)
    return Findings(
        forecast=forecast, period="month", fiscal_year_start=1, span=span, total=_range(forecast, span, "total"),
        open=_range(forecast, span, "open"), new=_range(forecast, span, "new"),
        booked=float(cents_in(forecast, span, "booked")[0] / 100), leads=needed,
        revenue=forecast.revenue(period="month", by_segment=True), deals=deals, stalled=stalled_by_stage(deals),
        stages=stage_summary(forecast.posterior.stage, forecast.pipeline.graph, cells=forecast.pipeline.cells),
    )  # fmt: skip


def _range(forecast: Forecast, span: Period, source: Any) -> Range:
    return Range(*np.quantile(cents_in(forecast, span, source) / 100, [0.1, 0.5, 0.9]).tolist())


def _deals(rng: np.random.Generator, graph: StageGraph, n_open: int, scale: float) -> pd.DataFrame:
    code = rng.integers(0, graph.n_open, n_open)
    chance = 0.1 + 0.5 * code / graph.n_open
    today = pd.Timestamp(AS_OF)
    amount = np.where(np.arange(n_open) == 1, np.nan, rng.gamma(2, scale / 2, n_open).round(2))
    return pd.DataFrame(
        {
            "deal_id": [f"<NA> & {number}" for number in range(n_open)],
            "stage": np.array(graph.open)[code],
            "days_in_stage": rng.integers(0, 90, n_open),
            "amount": amount,
            "win_probability": chance,
            "win_probability_by_until": 0.7 * chance,
            "close_date_p10": today + pd.to_timedelta(rng.integers(1, 20, n_open), "D"),
            "close_date_p50": today + pd.to_timedelta(rng.integers(20, 50, n_open), "D"),
            "close_date_p90": pd.NaT,
            "stall_percentile": np.linspace(0, 1, n_open),
        }
    )


def _quality() -> DataQuality:
    bad = Finding("created_at is not a date", 2, ("D-7: created_at = '<soon>'",))
    return DataQuality((TableQuality("deals", 10, 8, (bad,)), TableQuality("stage_history", 30, 30)))
