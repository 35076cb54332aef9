"""How many more leads would it take: the smallest number of additional deals with which a target is reached.

In every draw additional leads 1, 2, 3, ... have fixed fates: lead l arrives on a day of its own (a golden-ratio
sequence with a random start, so that the first n leads are spread evenly over the days whatever n is), is of a kind
drawn from the present mix of arrivals, is won in time with the draw's exact probability and then brings an amount
from its kind's pool. More leads therefore never bring less, and each draw has one number: the leads it takes to close
its own gap. The answer is the quantile of that number at the asked confidence; nothing is searched for.

Leads between two wins are skipped by geometric steps (thinning), so the effort follows the wins, not the leads.
"""

import math
from dataclasses import dataclass
from datetime import date, timedelta
from typing import TYPE_CHECKING

import numba
import numpy as np
from numpy.typing import NDArray

from forecasting.answers.levels import parts_of_new
from forecasting.answers.revenue import Span, attainment, cents_in, target_cents
from forecasting.engine.blocks import EngineOptions, run_blocks
from forecasting.engine.clock import lattice_reach, progress_by_day
from forecasting.engine.renewal import entry_values, eventual_outcomes, exit_probabilities
from forecasting.engine.streams import SEED_STRIDE, draw_key, mix, unit
from models.arrivals.model import ArrivalPosterior
from models.errors import SettingsError

if TYPE_CHECKING:
    from forecasting.answers.forecasts import Forecast

MAX_LEADS = 1_000_000
"""More additional leads than this are no plan: the answer is then that no number suffices."""
USEFUL_SHARE = 0.05
"""A lead is still useful if it has this share of its eventual win probability left by the target date."""
USEFUL_DRAWS = 256
"""Draws that the last useful date is averaged over; it is a date, not a range."""
EVENTUAL_DAYS = 730
"""Lattice days for eventual wins; the hazard of the last one is held for later days."""
BYTES_IN_WORK = 48
"""For each draw, kind of deal and day ahead: wins of stages and days, and what goes into them."""
STEP_LEADS = 8
"""Random stream of the leads."""
GOLDEN = (math.sqrt(5.0) - 1.0) / 2.0
SURE_GAP = 2.0
"""No lead is simulated where MAX_LEADS of them bring many wins, but on average less than the gap divided by this."""
MANY_WINS = 10_000.0

_JIT = {"cache": True, "nogil": True, "error_model": "numpy"}


@dataclass(frozen=True)
class LeadsNeeded:
    """Answer to how many additional leads a target takes.

    Parameters
    ----------
    n : int or None
        Smallest number of additional leads, arriving evenly from the day after the as-of date to ``by``; 0 when none is
        needed, None when no number up to ``MAX_LEADS`` suffices.
    target : float
        Currency units.
    since, by : date
        Days whose revenue counts.
    confidence : float
        Probability asked for.
    attainment_without, attainment_with : float
        Probability of reaching the target without additional leads and with ``n`` of them (with ``MAX_LEADS`` when none
        suffices).
    last_useful_creation_date : date or None
        Last day on which a new lead still has ``USEFUL_SHARE`` of its eventual win probability by ``by``; None when
        even a lead of tomorrow has not.
    """

    n: int | None
    target: float
    since: date
    by: date
    confidence: float
    attainment_without: float
    attainment_with: float
    last_useful_creation_date: date | None


def leads_needed(forecast: "Forecast", span: Span, *, target: float, confidence: float = 0.8) -> LeadsNeeded:
    """Smallest number of additional leads with which revenue in ``span`` reaches ``target``.

    Parameters
    ----------
    forecast : Forecast
    span : Span
        Days whose revenue counts, see :func:`forecasting.answers.revenue.target_span`.
    target : float
        Currency units.
    confidence : float
        Probability with which the target shall be reached, above 0 and below 1.

    Raises
    ------
    SettingsError
        ``confidence`` is not between 0 and 1.
    """
    check_confidence(confidence)
    gap = target_cents(target) - cents_in(forecast, span, "total")
    needed = leads_by_draw(forecast, span, gap=gap)
    n = smallest_number(needed, confidence=confidence)
    return LeadsNeeded(
        n=n,
        target=float(target),
        since=span.start,
        by=span.end,
        confidence=confidence,
        attainment_without=attainment(forecast, span, target=target),
        attainment_with=float(np.mean(needed <= (MAX_LEADS if n is None else n))),
        last_useful_creation_date=last_useful_date(forecast, by=span.end),
    )


def check_confidence(confidence: float, *, name: str = "confidence") -> None:
    """Raise a SettingsError unless a probability lies between 0 and 1."""
    if not 0 < confidence < 1:
        raise SettingsError(f"{name} is a probability between 0 and 1 such as 0.8, got {confidence!r}")


def smallest_number(needed: NDArray[np.int64], *, confidence: float) -> int | None:
    """Smallest n that covers a share ``confidence`` of the draws; None beyond ``MAX_LEADS``.

    Examples
    --------
    >>> smallest_number(np.array([0, 4, 7, 9, 30]), confidence=0.8)
    9
    """
    place = math.ceil(round(confidence * len(needed), 9)) - 1
    n = int(np.sort(needed)[place])
    return n if n <= MAX_LEADS else None


def leads_by_draw(forecast: "Forecast", span: Span, *, gap: NDArray[np.int64]) -> NDArray[np.int64]:
    """Leads each draw takes to close its gap (cents), shape (draw,); ``MAX_LEADS`` + 1 where they do not close it."""
    arrivals, amounts = forecast.posterior.arrivals, forecast.posterior.amounts
    if not arrivals.groups:
        return np.where(gap <= 0, 0, MAX_LEADS + 1).astype(np.int64)
    last = (span.end - forecast.as_of).days
    first = max((span.start - forecast.as_of).days, 1)
    needed, in_season = np.zeros(forecast.draws, dtype=np.int64), season_of_span(forecast, first=first, last=last)

    def of_block(block: tuple[int, int]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        draws = np.arange(*block)
        wins = win_by_creation(forecast, draws, first=first, last=last)
        cents = 100 * np.exp(amounts.pool_log_scale[draws]) * in_season * forecast.new_factor[draws, None]
        return draws, _leads_until(
            gap[draws],
            wins * kind_shares(arrivals, draws, n_open=forecast.pipeline.graph.n_open)[:, :, None],
            arrivals.combo_pool,
            amounts.pool,
            amounts.pool_start,
            cents,
            forecast.seed,
            block[0],
        )

    options, in_work = EngineOptions(), BYTES_IN_WORK * len(arrivals.combo_pool) * last
    for draws, leads in run_blocks(of_block, options.draw_blocks(forecast.draws, bytes_per_draw=in_work), options):
        needed[draws] = leads
    return needed


def season_of_span(forecast: "Forecast", *, first: int, last: int) -> float:
    """Season of wins of leads on forecast days ``first`` .. ``last``, over that of all new ones, which ``new_factor`` holds.

    Revenue by day is what came without the season times the season: divided by it, it tells the weights of the days.
    """
    staged, at_once = (cents.sum(axis=(0, 2)).astype(float) for cents in parts_of_new(forecast))
    if forecast.calibration is None or not staged[first - 1 : last].any():
        return 1.0
    usual = staged / forecast.calibration.season_of_days(forecast.horizon_days)
    of_all = (usual.sum() + at_once.sum()) / (staged.sum() + at_once.sum())
    return float(staged[first - 1 : last].sum() / usual[first - 1 : last].sum() * of_all)


def kind_shares(arrivals: ArrivalPosterior, draws: NDArray[np.int64], *, n_open: int) -> NDArray[np.float64]:
    """Share of each kind of lead among all at the present levels, shape (draw, kind).

    What is won without ever being open, from stage ``n_open`` on, is no lead.
    """
    level = np.exp(arrivals.log_level[draws])
    share = (level / level.sum(1, keepdims=True))[:, arrivals.combo_group] * arrivals.mix[draws]
    if (arrivals.combo_stage < n_open).all():
        return np.asarray(share)
    share[:, arrivals.combo_stage >= n_open] = 0.0
    return np.asarray(share / np.maximum(share.sum(axis=1, keepdims=True), np.finfo(np.float64).tiny))


def win_by_creation(forecast: "Forecast", draws: NDArray[np.int64], *, first: int, last: int) -> NDArray[np.float64]:
    """Probability that a lead created on forecast day 1 .. ``last`` is won on day ``first`` .. ``last``.

    A lead of day u has made the progress of days u to t by the end of day t, as new business has.

    Returns
    -------
    ndarray of float64, shape (draw, kind, creation day)
    """
    arrivals, posterior = forecast.posterior.arrivals, forecast.posterior
    graph = forecast.pipeline.graph
    progress = progress_by_day(forecast.pace, draws, days=last)
    reach = max(lattice_reach(progress), 1)
    hazards = posterior.stage.lattice(draws, days=reach + 1, cells=arrivals.cells)
    value = np.zeros(len(graph.stages))
    value[list(graph.won_codes)] = 1.0
    won_by = np.zeros((len(draws), len(arrivals.combo_cell), reach + 2))  # at 0, 1, ... days of progress
    _entry_wins(
        np.ascontiguousarray(hazards.base),
        np.ascontiguousarray(hazards.effect),
        np.ascontiguousarray(hazards.next_stage, dtype=np.int16),
        value,
        arrivals.combo_cell,
        arrivals.combo_stage,
        won_by[:, :, 1:-1],
    )
    won_by[:, :, -1] = won_by[:, :, -2]
    since = progress[:, :last]
    in_time = _read_between_days(won_by, progress[:, last, None] - since)
    early = np.maximum(progress[:, first - 1, None] - since, 0.0)
    return np.maximum(in_time - _read_between_days(won_by, early), 0.0)


def _read_between_days(won_by: NDArray[np.float64], progress: NDArray[np.float64]) -> NDArray[np.float64]:
    """``won_by[draw, kind, whole day]`` at ``progress[draw, i]`` days, linear in between, shape (draw, kind, i)."""
    day = np.floor(progress).astype(np.int64)[:, None, :]
    low, high = (np.take_along_axis(won_by, day + after, axis=2) for after in (0, 1))
    between: NDArray[np.float64] = low + (progress[:, None, :] - day) * (high - low)
    return between


@numba.njit(**_JIT)
def _entry_wins(
    base: NDArray[np.float64],
    effect: NDArray[np.float64],
    next_stage: NDArray[np.int16],
    value: NDArray[np.float64],
    kind_cell: NDArray[np.int64],
    kind_stage: NDArray[np.int64],
    out: NDArray[np.float64],
) -> None:
    """Fill ``out[draw, kind, lag]`` with the probability of being won by the end of day ``lag`` of progress."""
    n_draws, n_cells, n_stages, n_slots = effect.shape
    n_days, horizon = base.shape[3], out.shape[2]
    leave_to, stay = np.empty((n_stages, n_slots, n_days)), np.empty((n_stages, n_days))
    mass, entry = np.empty((n_stages, n_slots, horizon)), np.empty((n_stages, horizon))
    for i in range(n_draws):
        for cell in range(n_cells):
            exit_probabilities(base[i], effect[i, cell], leave_to, stay)
            entry_values(leave_to, stay, next_stage, value, mass, entry)
            for kind in range(len(kind_cell)):
                if kind_cell[kind] == cell and kind_stage[kind] < n_stages:
                    out[i, kind] = entry[kind_stage[kind]]


@numba.njit(**_JIT)
def _leads_until(
    gap: NDArray[np.int64],
    wins: NDArray[np.float64],
    pool_of: NDArray[np.int64],
    pool: NDArray[np.float64],
    pool_start: NDArray[np.int64],
    cents: NDArray[np.float64],
    seed: int,
    first_draw: int,
) -> NDArray[np.int64]:
    """Leads until the gap is closed; ``wins[draw, kind, day]`` is the chance to be of a kind and won in time."""
    n_draws, n_kinds, n_days = wins.shape
    needed = np.zeros(n_draws, dtype=np.int64)
    for i in range(n_draws):
        if gap[i] <= 0:
            continue
        by_day = wins[i].sum(axis=0)
        most = by_day.max()
        average = 0.0
        for kind in range(n_kinds):
            group = pool_of[kind]
            average += wins[i, kind].mean() * pool[pool_start[group] : pool_start[group + 1]].mean() * cents[i, group]
        hopeless = average * MAX_LEADS * SURE_GAP < gap[i] and most * MAX_LEADS > MANY_WINS
        needed[i] = MAX_LEADS + 1
        if most <= 0.0 or hopeless:
            continue
        key = draw_key(seed, first_draw + i, STEP_LEADS)
        start = unit(mix(key))
        lead, won, step = 0, 0, np.uint64(1)
        while True:
            bits = mix(key + step * SEED_STRIDE)
            step += np.uint64(1)
            jump = 1.0 if most >= 1.0 else 1.0 + math.floor(math.log(unit(bits)) / math.log1p(-most))
            if lead + jump > MAX_LEADS:
                break
            lead += int(jump)
            day = int(n_days * ((start + lead * GOLDEN) % 1.0))
            bits = mix(bits + SEED_STRIDE)
            chance = unit(bits) * most
            if chance >= by_day[day]:
                continue
            kind = 0
            while kind < n_kinds - 1 and chance >= wins[i, kind, day]:
                chance -= wins[i, kind, day]
                kind += 1
            group = pool_of[kind]
            size = pool_start[group + 1] - pool_start[group]
            pick = pool_start[group] + int(size * unit(mix(bits + SEED_STRIDE)))
            won += int(np.rint(pool[pick] * cents[i, group]))
            if won >= gap[i]:
                needed[i] = lead
                break
    return needed


def last_useful_date(forecast: "Forecast", *, by: date) -> date | None:
    """Last day on which a new lead still has ``USEFUL_SHARE`` of its eventual win probability by ``by``."""
    arrivals, graph = forecast.posterior.arrivals, forecast.pipeline.graph
    if not arrivals.groups:
        return None
    last = (by - forecast.as_of).days
    draws = np.arange(min(forecast.draws, USEFUL_DRAWS))
    shares = kind_shares(arrivals, draws, n_open=graph.n_open)
    if not shares.any():
        return None
    in_time = (win_by_creation(forecast, draws, first=1, last=last) * shares[:, :, None]).sum(1).mean(0)
    hazards = forecast.posterior.stage.lattice(draws, days=EVENTUAL_DAYS, cells=arrivals.cells)
    ever = eventual_outcomes(hazards, n_codes=len(graph.stages), ages=[-1])
    stage = np.minimum(arrivals.combo_stage, graph.n_open - 1)  # wins at once have no share
    won = ever[..., 0, list(graph.won_codes)].sum(-1)[:, arrivals.combo_cell, stage]
    useful = np.flatnonzero(in_time >= USEFUL_SHARE * (won * shares).sum(1).mean())
    return forecast.as_of + timedelta(days=int(useful[-1]) + 1) if len(useful) else None
