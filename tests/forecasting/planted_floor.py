"""A small planted sales floor: known hazards, amounts and arrivals, for tests of everything that follows from them."""

from dataclasses import dataclass, field
from datetime import date, timedelta

import numpy as np
import pandas as pd

from forecasting.answers.forecasts import Forecast, forecast_snapshot
from forecasting.data.open_pipeline import PIPELINE_COLUMNS, OpenPipeline
from forecasting.data.snapshot import Snapshot
from models.amounts import ALL_WON, AmountPosterior
from models.arrivals.model import ArrivalPosterior
from models.hazards import LatticeHazards, PlantedHazards
from models.history import Factor
from models.posterior import ModelSpec, Posterior
from models.stage_model.posterior import Diagnostics
from models.stages import StageGraph

GRAPH = StageGraph(open=["Lead", "Proposal"], won=["Won"], lost=["Lost"])
NEXT_STAGE = np.array([[1, 3], [2, 3]], dtype=np.int16)
AS_OF = date(2026, 9, 15)
ONE_CELL = np.zeros((1, 0), dtype=np.int32)


@dataclass(frozen=True)
class PlantedStage:
    """Planted hazards with the words of a fitted stage model."""

    hazards: PlantedHazards
    factors: tuple[Factor, ...] = ()
    graph: StageGraph = GRAPH
    diagnostics: Diagnostics = field(default_factory=Diagnostics)

    @property
    def n_draws(self) -> int:
        return self.hazards.n_draws

    def lattice(self, draws: np.ndarray, *, days: int, cells: np.ndarray) -> LatticeHazards:
        return self.hazards.lattice(draws, days=days, cells=cells)


def daily(*probabilities: float) -> list[float]:
    """Hazards with which a deal leaves by each exit with the given daily probabilities."""
    total = sum(probabilities)
    return [-np.log1p(-total) * part / total for part in probabilities]


def planted_stage(
    draws: int,
    *,
    lead: tuple[float, float] = (0.05, 0.05),
    proposal: tuple[float, float] = (0.04, 0.03),
    spread: float = 0.0,
) -> PlantedStage:
    """Constant hazards: Lead to Proposal or Lost, Proposal to Won or Lost by daily probability; varied over draws."""
    base = np.array([daily(*lead), daily(*proposal)])
    factor = np.exp(spread * np.random.default_rng(0).standard_normal((draws, 1, 1)))
    return PlantedStage(PlantedHazards(NEXT_STAGE, (base * factor)[..., None]))


def planted_amounts(draws: int, *, pool: tuple[float, ...] = (1000.0,), same: float = 1.0) -> AmountPosterior:
    one = np.ones((draws, 2))
    return AmountPosterior(
        same_probability=same * one,
        log_ratio_mean=0 * one,
        log_ratio_sd=0.2 * one,
        pool=np.array(pool),
        pool_start=np.array([0, len(pool)]),
        pool_log_scale=np.zeros((draws, 1)),
        group_labels=(ALL_WON,),
    )


def planted_arrivals(draws: int, *, weekly: dict[str, float], stage: int = 0) -> ArrivalPosterior:
    groups = tuple(sorted(weekly))
    shape = (draws, len(groups))
    kinds = np.arange(len(groups))
    return ArrivalPosterior(
        as_of=AS_OF,
        groups=groups,
        cells=ONE_CELL,
        combo_cell=0 * kinds,
        combo_stage=np.full(len(groups), stage),
        combo_group=kinds,
        combo_pool=0 * kinds,
        mix=np.ones(shape),
        log_level=np.log(np.tile([weekly[group] for group in groups], (draws, 1))).reshape(shape),
        growth=np.zeros(shape),
        level_sd=np.zeros(shape),
        noise_shape=np.full(shape, np.inf),
        odd_share=np.zeros(shape),
        common=0.0,
        season=np.ones((draws, 12)),
        year=np.ones(366),
        by_year=np.zeros(draws, dtype=np.bool_),
        weekday=np.full((*shape, 7), 1 / 7),
    )


def posterior_of(stage: PlantedStage, amounts: AmountPosterior, arrivals: ArrivalPosterior) -> Posterior:
    return Posterior(AS_OF, ModelSpec(covariates=(), draws=stage.n_draws), stage, amounts, arrivals, "planted")  # type: ignore[arg-type]


def open_pipeline(rows: list[tuple[str, int, int, float, str]]) -> OpenPipeline:
    """Open deals from (deal_id, stage, days in stage, amount, segment)."""
    records = [(deal, stage, age, amount, 0, segment, None) for deal, stage, age, amount, segment in rows]
    return OpenPipeline(GRAPH, AS_OF, pd.DataFrame(records, columns=list(PIPELINE_COLUMNS)), ONE_CELL)


def snapshot_of(pipeline: OpenPipeline, won: list[tuple[date, float, str]] = ()) -> Snapshot:  # type: ignore[assignment]
    """Snapshot that holds a pipeline and past wins (date, amount, segment) and no stays."""
    table = pd.DataFrame(
        {
            "deal_id": [f"w{place}" for place in range(len(won))],
            "won_on": pd.to_datetime([day for day, _, _ in won]),
            "amount": np.array([amount for _, amount, _ in won], dtype=float),
            "segment": [segment for _, _, segment in won],
        }
    )
    nothing = pd.DataFrame()
    return Snapshot(AS_OF, GRAPH, (), ONE_CELL, nothing, pipeline, table, nothing)


def sales_floor(draws: int = 600, *, days: int = 60, seed: int = 3, deals: int = 80, weekly: float = 6.0) -> Forecast:
    """Forecast of a floor with two segments, past wins, missing amounts and new business."""
    rng = np.random.default_rng(seed)
    rows = [
        (
            f"D{place:03d}",
            int(rng.integers(2)),
            int(rng.integers(40)),
            np.nan if place % 9 == 0 else float(rng.lognormal(7, 0.8)),
            "North" if place % 3 else "South",
        )
        for place in range(deals)
    ]
    won = [
        (AS_OF - timedelta(days=3 * place), 500.25 + place, "North" if place % 2 else "South") for place in range(30)
    ]
    posterior = posterior_of(
        planted_stage(draws, spread=0.2),
        planted_amounts(draws, pool=(700.0, 1500.0, 4000.0), same=0.8),
        planted_arrivals(draws, weekly={"North": weekly, "South": weekly / 2}),
    )
    return forecast_snapshot(
        snapshot_of(open_pipeline(rows), won), posterior, until=AS_OF + timedelta(days=days), seed=seed
    )
