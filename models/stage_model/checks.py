"""Hold a fitted stage model against the stays it was fitted to, and against stays it has not seen.

Everything comes back as tables; nothing here draws.
"""

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from numba import njit
from numpy.typing import NDArray

from models.errors import InputError, SettingsError
from models.history import STILL_OPEN, StageHistory
from models.stage_model.base_lattice import base_by_day
from models.stage_model.fit import choose_problems, stage_fit
from models.stage_model.likelihood import stays_log_likelihood
from models.stage_model.posterior import StagePosterior
from models.stage_model.problem import LOG_SCALE_MEAN, LOG_SCALE_SD
from models.stage_model.selection import Choice

Floats = NDArray[np.float64]
CHECK_DRAWS = 200
"""Draws a check looks at: a 90 % band is then known to a tenth of its width."""
SPIKE_SHARE, SPIKE_Z = 0.05, 4.0
"""A spike is named when it holds this share of an exit's stays more than fitted, so many standard errors away."""
SCORE_COLUMNS = ("cell", "stage", "next", "days", "days_known", "count")


@njit(cache=True)
def incidence(base: Floats, effect: Floats, weights: Floats) -> Floats:
    """Probability to have left by exit ``j`` up to the end of day ``d``: shape (draw, exit, day).

    ``base`` (draw, exit, day) and ``effect`` (draw, cell, exit) multiply to hazards; cells are averaged with
    ``weights``.
    """
    n_draws, n_exits, n_days = base.shape
    out = np.zeros_like(base)
    for draw in range(n_draws):
        for cell in range(len(weights)):
            alive = weights[cell]
            for day in range(n_days):
                total = 0.0
                for j in range(n_exits):
                    total += base[draw, j, day] * effect[draw, cell, j]
                left = -alive * math.expm1(-total)
                for j in range(n_exits):
                    if total > 0.0:
                        out[draw, j, day] += left * base[draw, j, day] * effect[draw, cell, j] / total
                alive -= left
        for j in range(n_exits):
            for day in range(1, n_days):
                out[draw, j, day] += out[draw, j, day - 1]
    return out


def cumulative_incidence(posterior: StagePosterior, history: StageHistory, stage: str) -> pd.DataFrame:
    """Observed against predicted cumulative incidence of each exit of a stage.

    Observed is the Aalen-Johansen estimate ``sum_d S(d) n_j(d) / E(d)`` with ``S(d + 1) = S(d) (1 - n(d) / E(d))``;
    predicted averages the model over the cells of the stage's stays.

    Parameters
    ----------
    posterior : StagePosterior
    history : StageHistory
        The stays to check against.
    stage : str
        Open stage.

    Returns
    -------
    DataFrame
        Columns ``next``, ``day``, ``observed``, ``p05``, ``p50``, ``p95``: share of stays that left to ``next`` by the
        end of that day.

    Raises
    ------
    SettingsError
        The history has other stages, segments or covariates than the fit.
    """
    _check_belongs(posterior, history)
    code = history.graph.code(stage)
    rows = history.counts[history.counts["stage"] == code]
    fit = posterior.stages[code]
    days = int(rows["days"].max()) + 1 if len(rows) else 1
    by_cell = rows[rows["count"] > 0].groupby("cell")["count"].sum()
    draws = _some(posterior)
    effect = np.exp(posterior.log_effect(code, draws, history.cells[by_cell.index.to_numpy()]))
    weights = (by_cell / by_cell.sum()).to_numpy(dtype=np.float64)
    predicted = incidence(base_by_day(fit.shape, fit.base[draws], days=days), effect, weights)
    low, middle, high = np.quantile(predicted, [0.05, 0.5, 0.95], axis=0)
    observed = _aalen_johansen(rows, fit.exits, days)
    tables = [
        pd.DataFrame(
            {
                "next": history.graph.stages[target],
                "day": np.arange(days),
                "observed": observed[j],
                "p05": low[j],
                "p50": middle[j],
                "p95": high[j],
            }
        )
        for j, target in enumerate(fit.exits)
    ]
    return pd.concat(tables, ignore_index=True)


def residual_spikes(posterior: StagePosterior, history: StageHistory) -> pd.DataFrame:
    """Days on which far more stays ended than the fitted family has room for, in words.

    Parameters
    ----------
    posterior : StagePosterior
    history : StageHistory

    Returns
    -------
    DataFrame
        Columns ``stage``, ``next``, ``first_day``, ``last_day``, ``observed_share``, ``fitted_share``, ``text``; shares
        of the exit's own mass. Empty when the fit follows the data.
    """
    found = []
    for code, stage in enumerate(history.graph.open):
        table = cumulative_incidence(posterior, history, stage)
        counts = history.counts[history.counts["stage"] == code].groupby("next")["count"].sum()
        for target, part in table.groupby("next", sort=False):
            stays = int(counts.get(history.graph.code(str(target)), 0))
            for first, last, observed, fitted in _spikes(part, stays):
                days = f"day {first}" if first == last else f"days {first} to {last}"
                share = f"{observed:.0%} of its mass on {days}"
                text = f"{stage} to {target} has {share}, the fitted family gives {fitted:.0%}"
                found.append((stage, target, first, last, observed, fitted, text))
    columns = ["stage", "next", "first_day", "last_day", "observed_share", "fitted_share", "text"]
    return pd.DataFrame(found, columns=columns)


def prior_draws(history: StageHistory, *, durations: str = "piecewise", draws: int = 1000, seed: int) -> StagePosterior:
    """Draw the stage model from its prior, as a posterior that has learned nothing.

    Whatever summarises a posterior summarises the prior too, so a prior predictive check needs no code of its own. The
    age bins are those of the history.

    Parameters
    ----------
    history : StageHistory
    durations : str
        Family, as in :func:`models.stage_model.fit.fit_stages`.
    draws : int
    seed : int
    """
    choices = choose_problems(history, {stage: durations for stage in history.graph.open}, seed=seed)
    return prior_of(history, choices, draws=draws, seed=seed)


def prior_of(history: StageHistory, choices: Sequence[Choice], *, draws: int, seed: int) -> StagePosterior:
    """Draw from the priors of chosen problems, one per open stage; see :func:`prior_draws`."""
    rng = np.random.default_rng(seed)
    fits = []
    for choice in choices:
        scales = LOG_SCALE_MEAN + LOG_SCALE_SD * rng.standard_normal((draws, choice.problem.n_scales))
        fits.append(stage_fit(choice, rng.standard_normal((draws, choice.problem.size)), scales))
    return StagePosterior(history.graph, history.factors, tuple(fits), "fast", "prior", seed)


def transition_log_score(posterior: StagePosterior, stays: pd.DataFrame, cells: NDArray[np.int32]) -> float:
    """Log predictive density per transition of stays the model has not seen.

    ``sum log p(stay | known) / number of transitions``, with ``p`` averaged over draws before the logarithm. A stay
    already running when the model was fitted counts from there on, a stay still open at the end by its survival.

    Parameters
    ----------
    posterior : StagePosterior
    stays : DataFrame
        Integer columns ``cell``, ``stage``, ``next`` (``STILL_OPEN`` if it has not ended), ``days``, ``days_known``
        (days in the stage at the end of the last date the model knows, -1 for a stay begun later) and ``count``.
    cells : ndarray of int, shape (cell, factor)

    Returns
    -------
    float
        Minus infinity if a move happened that the model holds impossible.

    Raises
    ------
    InputError
        A column is missing or no stay ended.
    """
    if not set(SCORE_COLUMNS) <= set(stays.columns) or not (stays["next"] != STILL_OPEN).any():
        raise InputError(f"expected columns {', '.join(SCORE_COLUMNS)} and at least one ended stay, got {list(stays)}")
    total = 0.0
    for code, rows in stays.groupby("stage"):
        fit = posterior.stages[int(str(code))]
        place = {target: index for index, target in enumerate(fit.exits)}
        if not set(rows["next"]) <= {STILL_OPEN, *place}:
            return -math.inf
        exit_of_stay = rows["next"].map(lambda target, place=place: place.get(target, -1)).to_numpy(dtype=np.int64)
        days, known = (rows[name].to_numpy(dtype=np.int64) for name in ("days", "days_known"))
        group, count = rows["cell"].to_numpy(dtype=np.int64), rows["count"].to_numpy(dtype=np.float64)
        draws = _some(posterior)
        base = base_by_day(fit.shape, fit.base[draws], days=int(days.max()) + 1)
        effect = posterior.log_effect(int(str(code)), draws, cells)
        ended = _log_mean(stays_log_likelihood(base, effect, group, exit_of_stay, days))
        nothing = np.full_like(exit_of_stay, STILL_OPEN)
        survived = _log_mean(stays_log_likelihood(base, effect, group, nothing, np.maximum(known, 0)))
        total += float(count @ (ended - np.where(known >= 0, survived, 0.0)))
    return total / float(stays.loc[stays["next"] != STILL_OPEN, "count"].sum())


def _check_belongs(posterior: StagePosterior, history: StageHistory) -> None:
    """Raise a SettingsError where the history is not laid out as the one that was learned from."""
    fitted, given = ((each.graph.stages, tuple(f.name for f in each.factors)) for each in (posterior, history))
    if fitted == given and any(a.levels != b.levels for a, b in zip(posterior.factors, history.factors, strict=True)):
        raise SettingsError(
            f"fit and history cut {', '.join(fitted[1])} into other levels: cut the deals with factors=posterior.stage.factors"
        )
    if fitted != given:
        said = " and ".join(
            f"stages {', '.join(stages)}, told apart by {', '.join(names) or 'nothing'}"
            for stages, names in (fitted, given)
        )
        raise SettingsError(
            f"fit and history are not alike, they have {said}: cut the deals with the segment and covariates of the fit"
        )


def _some(posterior: StagePosterior) -> NDArray[np.int64]:
    """Evenly spaced draws, ``CHECK_DRAWS`` at most."""
    return np.unique(np.linspace(0, posterior.n_draws - 1, min(CHECK_DRAWS, posterior.n_draws)).astype(np.int64))


def _log_mean(log_likelihood: Floats) -> Floats:
    """Log of the mean over draws."""
    top = log_likelihood.max(axis=0)
    return np.asarray(top + np.log(np.exp(log_likelihood - top).mean(axis=0)))


def _aalen_johansen(rows: pd.DataFrame, exits: tuple[int, ...], days: int) -> Floats:
    """Aalen-Johansen cumulative incidence (exit, day) from counts of distinct stays."""
    leaving = np.bincount(rows["days"], weights=rows["count"], minlength=days)
    at_risk = np.maximum(np.cumsum(leaving[::-1])[::-1], 1.0)
    ended = np.zeros((len(exits), days))
    for j, target in enumerate(exits):
        part = rows[rows["next"] == target]
        ended[j] = np.bincount(part["days"], weights=part["count"], minlength=days)
    stay = 1.0 - ended.sum(axis=0) / at_risk
    alive = np.concatenate([[1.0], np.cumprod(stay)[:-1]])
    return np.cumsum(alive * ended / at_risk, axis=1)


def _spikes(part: pd.DataFrame, stays: int) -> list[tuple[int, int, float, float]]:
    """First day, last day, observed share and fitted share of each run of days with far too many exits."""
    observed = np.diff(part["observed"].to_numpy(), prepend=0.0)
    fitted = np.diff(part["p50"].to_numpy(), prepend=0.0)
    observed, fitted = observed / max(observed.sum(), 1e-12), fitted / max(fitted.sum(), 1e-12)
    error = np.sqrt(np.maximum(fitted * (1.0 - fitted), 1e-6) / max(stays, 1))
    high = np.flatnonzero((observed - fitted > SPIKE_Z * error) & (observed - fitted > SPIKE_SHARE / 2.0))
    runs = np.split(high, np.flatnonzero(np.diff(high) > 1) + 1)
    found = []
    for run in (run for run in runs if len(run)):
        share, expected = float(observed[run].sum()), float(fitted[run].sum())
        if share - expected > SPIKE_SHARE:
            found.append((int(run[0]), int(run[-1]), share, expected))
    return found
