"""What a deal will be worth when it is won, given what is known of its amount now.

Two questions, two parts of :class:`AmountPosterior`:

- The amount is known while the deal is in stage s. Then final = known with probability ``same_probability[s]``,
  else final = known x exp(z), z normal and cut off at ``MAX_LOG_RATIO``: a spike at exactly one beside a log-normal
  change. Both are conjugate (Beta and normal-inverse-gamma); a stage with few changes leans on the other stages.
- The amount is missing, or the deal does not exist yet. Then it is one of the final amounts of past won deals like it,
  drawn from ``pool``, times a factor that carries what few past deals leave unknown about their mean. Before the first
  win the pool is borrowed from deals of any fate, and the factor is wider.

Where the history holds no amount per stage entry nothing is learned about changes: the deals table tells today's
amount only, which for a won deal is the final one by construction. Then ``same_probability`` keeps its prior (mean
0.95) and a change is of 30 % or so, up and down balanced so that it leaves the expected amount as it is: what we do not
know widens the range a little and must not move its middle.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import ndtr

from models.errors import EmptyInputError, InputError, SettingsError

ALL_WON, AT_ONCE = "all won deals", "won at once"
"""Label of the pool that every other pool falls back to, of deals that went through stages if there are some, and of that of
deals entered as won."""
MIN_POOL = 20
"""Amounts a pool needs to stand for itself; below, the deals one step less alike fill it up or are taken."""
FEW = 5
"""Amounts from which on a pool is filled up, in the place of taking the one of deals less alike."""
FILLING = 200
"""Amounts that stand for those of the deals less alike in a pool that is filled up."""
PRIOR_SAME = (19.0, 1.0)
"""Beta prior of an unchanged amount, all stages together: mean 0.95, worth twenty deals."""
STAGE_WEIGHT = 10.0
"""Deals that what the other stages say counts for in one stage."""
PRIOR_CHANGE_SD = 0.3
"""Prior size of a change on the log scale: a changed amount typically moves by a third."""
PRIOR_CHANGE_WEIGHT = 4.0
"""Changes that the prior size counts for."""
MAX_LOG_RATIO = 3.0
"""Changes beyond a factor of 20 are typing errors or another deal; they count as a factor of 20, and none is drawn."""
MAX_CHANGE_SD = MAX_LOG_RATIO / 2.0
"""Largest sd of a change: few changes leave larger ones possible, whose mean factor has no end."""
PRIOR_SPREAD_WEIGHT = 5.0
"""Amounts that the spread of all won deals counts for in the spread of one pool."""
BORROWED_LOG_SD = 0.3
"""Extra uncertainty (log scale) of the mean when the pool had to be borrowed from deals less alike."""


@dataclass(frozen=True)
class AmountPosterior:
    """Posterior of final amounts; draw i belongs to draw i of the stage and arrival posteriors.

    Parameters
    ----------
    same_probability : ndarray of float64, shape (draw, stage)
        Probability that the final amount equals the amount known in the (open) stage.
    log_ratio_mean, log_ratio_sd : ndarray of float64, shape (draw, stage)
        Mean and sd of log(final / known) when it changes, before it is cut off.
    pool : ndarray of float64, shape (amount,)
        Final amounts in currency units, group after group.
    pool_start : ndarray of int64, shape (group + 1,)
        Group g holds ``pool[pool_start[g]:pool_start[g + 1]]``, never empty.
    pool_log_scale : ndarray of float64, shape (draw, group)
        Log of the factor on every amount drawn from the group.
    group_labels : tuple of str
        What each group holds, see :func:`pool_label`.

    Examples
    --------
    >>> one = np.ones((2, 1))
    >>> amounts = AmountPosterior(one, 0 * one, 0.1 * one, np.array([5.0, 7.0]), np.array([0, 2]), 0 * one, (ALL_WON,))
    >>> amounts.n_draws, amounts.missing_group("North", 0), amounts.arrival_group("North", 3)
    (2, 0, 0)
    """

    same_probability: NDArray[np.float64]
    log_ratio_mean: NDArray[np.float64]
    log_ratio_sd: NDArray[np.float64]
    pool: NDArray[np.float64]
    pool_start: NDArray[np.int64]
    pool_log_scale: NDArray[np.float64]
    group_labels: tuple[str, ...]

    def __post_init__(self) -> None:
        groups = len(self.group_labels)
        if self.pool_start.shape != (groups + 1,) or self.pool_log_scale.shape[1] != groups:
            raise SettingsError(f"pool_start and pool_log_scale must fit the {groups} groups of group_labels")
        if (np.diff(self.pool_start) < 1).any() or self.pool_start[-1] != len(self.pool):
            raise SettingsError("every group of the amount pool must hold at least one amount")

    @property
    def n_draws(self) -> int:
        """Number of posterior draws."""
        return len(self.same_probability)

    def missing_group(self, segment: str, stage: int) -> int:
        """Pool for an open deal in ``stage`` whose amount is missing, the most alike there is."""
        steps = (pool_label(segment=segment, stage=stage), pool_label(stage=stage), pool_label(segment=segment))
        return self._first_group(steps)

    def arrival_group(self, segment: str, cell: int, *, amount_class: int = -1, at_once: bool = False) -> int:
        """Pool for a deal that arrives in ``cell`` (row of the cells the arrivals were counted by), or is won at once."""
        own = pool_label(cell=cell, at_once=at_once)
        alike = AT_ONCE if at_once else pool_label(amount_class=amount_class)
        return self._first_group((own, alike, pool_label(segment=segment)))

    def _first_group(self, labels: tuple[str, ...]) -> int:
        known = [self.group_labels.index(label) for label in labels if label in self.group_labels]
        return known[0] if known else self.group_labels.index(ALL_WON)

    def to_arrays(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Arrays and JSON-able rest; :meth:`from_arrays` gives back an equal record."""
        names = ("same_probability", "log_ratio_mean", "log_ratio_sd", "pool", "pool_start", "pool_log_scale")
        return {name: getattr(self, name) for name in names}, {"group_labels": list(self.group_labels)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]], meta: Mapping[str, Any]) -> "AmountPosterior":
        """Inverse of :meth:`to_arrays`."""
        return cls(**arrays, group_labels=tuple(meta["group_labels"]))


def pool_label(
    *,
    segment: str | None = None,
    stage: int | None = None,
    cell: int | None = None,
    amount_class: int | None = None,
    at_once: bool = False,
) -> str:
    """Label of a pool of amounts.

    Examples
    --------
    >>> pool_label(segment="North", stage=2), pool_label(cell=4), pool_label()
    ('missing in stage 2, segment North', 'cell 4', 'all won deals')
    """
    if cell is not None:
        return f"cell {cell}, {AT_ONCE}" if at_once else f"cell {cell}"
    if amount_class is not None:
        return f"amount class {amount_class}"
    parts = ([] if stage is None else [f"missing in stage {stage}"]) + (
        [] if segment is None else [f"segment {segment}"]
    )
    return ", ".join(parts) or ALL_WON


@dataclass(frozen=True)
class _Pool:
    """Amounts to draw from, what they are worth in deals, and whether some are those of deals less alike."""

    amounts: NDArray[np.float64]
    n: int
    borrowed: bool = False


def fit_amounts(
    known: pd.DataFrame, won: pd.DataFrame, arrivals: pd.DataFrame, *, n_stages: int, draws: int, seed: int
) -> AmountPosterior:
    """Learn final amounts from the won deals of the past.

    Parameters
    ----------
    known : DataFrame
        One row per stay of any deal: ``deal_id``, ``stage`` (open stage code) and ``amount`` as recorded at the end of
        the stay (NaN = missing); leave out amounts only known from today's table. May be empty: then nothing is known
        about changes.
    won : DataFrame
        ``deal_id``, ``amount`` (final), ``segment``; deals won without an amount are left out.
    arrivals : DataFrame
        ``deal_id``, ``cell``, ``amount`` (known at arrival) of deals of any fate; ``stage`` (first one, if any begin with
        the win); ``amount_class`` where cells tell classes of amounts apart, the same number in all cells of a class.
    n_stages : int
        Number of open stages.
    draws : int
        Posterior draws.
    seed : int

    Raises
    ------
    EmptyInputError
        No deal of any fate carries an amount.

    Examples
    --------
    >>> won = pd.DataFrame({"deal_id": ["a", "b"], "amount": [100.0, 300.0], "segment": ["", ""]})
    >>> known = pd.DataFrame({"deal_id": ["a", "b"], "stage": [0, 0], "amount": [100.0, 250.0]})
    >>> arrivals = pd.DataFrame({"deal_id": ["a", "b"], "cell": [0, 0], "amount": [100.0, 250.0]})
    >>> amounts = fit_amounts(known, won, arrivals, n_stages=1, draws=1000, seed=1)
    >>> float(amounts.same_probability.mean().round(2)), amounts.pool.tolist()
    (0.87, [100.0, 300.0])
    """
    final = won.loc[won["amount"].notna(), ["deal_id", "amount", "segment"]].rename(columns={"amount": "final"})
    if (final["final"] < 0).any():
        raise InputError("amounts of won deals must not be negative: drop or correct those deals first")
    rng = np.random.default_rng(np.random.SeedSequence([seed, 1]))
    stays = known[["deal_id", "stage", "amount"]].merge(final, on="deal_id")
    same, mean, sd = _ratio_draws(stays, n_stages, draws, rng)
    at_once = arrivals["stage"] >= n_stages if "stage" in arrivals else pd.Series(False, index=arrivals.index)
    staged = final[~final["deal_id"].isin(arrivals.loc[at_once, "deal_id"])]
    staged = staged if len(staged) >= FEW else final
    everything = _all_amounts(staged, known, arrivals)
    arrived = arrivals.drop(columns="segment", errors="ignore").assign(at_once=at_once)
    arrived = arrived.merge(final, on="deal_id", how="left")
    cells = _by_cell(arrived)
    groups = _pools(everything, staged, stays, arrived, cells)
    groups |= _thin_pools(groups, arrived, cells)
    scale = _scale_draws(groups, draws, rng)
    return AmountPosterior(
        same_probability=same,
        log_ratio_mean=mean,
        log_ratio_sd=sd,
        pool=np.concatenate([pool.amounts for pool in groups.values()]),
        pool_start=np.cumsum([0, *(len(pool.amounts) for pool in groups.values())], dtype=np.int64),
        pool_log_scale=scale,
        group_labels=tuple(groups),
    )


def _ratio_draws(
    stays: pd.DataFrame, n_stages: int, draws: int, rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Draws of P(unchanged) and of mean and sd of a change, by stage, shape (draw, stage) each."""
    told = stays[(stays["amount"] > 0) & (stays["final"] > 0)]
    log_ratio = np.clip(np.log((told["final"] / told["amount"]).to_numpy()), -MAX_LOG_RATIO, MAX_LOG_RATIO)
    stage = told["stage"].to_numpy(dtype=np.int64)
    changed = ~np.isclose(log_ratio, 0.0, atol=1e-9)

    n_same, n_changed = (np.bincount(stage[rows], minlength=n_stages) for rows in (~changed, changed))
    elsewhere = rng.beta(
        PRIOR_SAME[0] + n_same.sum() - n_same, PRIOR_SAME[1] + n_changed.sum() - n_changed, (draws, n_stages)
    )
    elsewhere = np.clip(elsewhere, 1e-3, 1 - 1e-3)  # a Beta with a parameter near zero has no usable draws
    same = rng.beta(STAGE_WEIGHT * elsewhere + n_same, STAGE_WEIGHT * (1 - elsewhere) + n_changed)

    sums = np.stack(
        [np.bincount(stage[changed], log_ratio[changed] ** power, minlength=n_stages) for power in (0, 1, 2)]
    )
    prior_mean, prior_var = np.zeros((draws, n_stages)), np.full((draws, n_stages), PRIOR_CHANGE_SD**2)
    others = sums.sum(axis=1, keepdims=True) - sums
    mean, var = _normal_draws(others, prior_mean, prior_var, PRIOR_CHANGE_WEIGHT, rng)
    mean, var = _normal_draws(sums, mean, var, STAGE_WEIGHT, rng)
    mean, var = np.clip(mean, -MAX_LOG_RATIO, MAX_LOG_RATIO), np.minimum(var, MAX_CHANGE_SD**2)
    if not len(log_ratio):
        mean = -var / 2.0  # exp of the change has mean one in every draw: silence must not move the expected amount
    return same, mean, np.sqrt(var)


def _normal_draws(
    sums: NDArray[np.float64],
    prior_mean: NDArray[np.float64],
    prior_var: NDArray[np.float64],
    weight: float,
    rng: np.random.Generator,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Normal-inverse-gamma draws of mean and variance, shape (draw, stage); the prior is worth ``weight`` values.

    ``sums`` holds number, sum and sum of squares of the values by stage.
    """
    n, total, squares = sums
    mean = total / np.maximum(n, 1.0)
    gap = np.maximum(squares - n * mean**2, 0.0) + weight * n / (weight + n) * (mean - prior_mean) ** 2
    var = (weight * prior_var + gap) / rng.chisquare(weight + n, prior_mean.shape)
    return rng.normal((weight * prior_mean + total) / (weight + n), np.sqrt(var / (weight + n))), var


def mean_change(mean: NDArray[np.float64], sd: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean of exp(z), z normal with the given mean and sd and cut off at L = ``MAX_LOG_RATIO`` either way.

    exp(m + s^2 / 2) [P((L - m) / s - s) - P((-L - m) / s - s)] + exp(L) P((m - L) / s) + exp(-L) P((-L - m) / s), with P
    the standard normal distribution.

    Examples
    --------
    >>> mean_change(np.array([0.0, 0.0]), np.array([0.1, 1.5])).round(3).tolist()
    [1.005, 2.587]
    """
    top, width = MAX_LOG_RATIO, np.maximum(sd, 1e-12)
    inside = ndtr((top - mean) / width - width) - ndtr((-top - mean) / width - width)
    beyond = np.exp(top) * ndtr((mean - top) / width) + np.exp(-top) * ndtr((-top - mean) / width)
    return np.asarray(np.exp(mean + width**2 / 2.0) * inside + beyond)


def _all_amounts(final: pd.DataFrame, known: pd.DataFrame, arrivals: pd.DataFrame) -> _Pool:
    """Give final amounts of won deals; before the first win, last known amounts of deals of any fate, told as borrowed."""
    if len(final):
        return _Pool(final["final"].to_numpy(), len(final))
    told = pd.concat([arrivals[["deal_id", "amount"]], known[["deal_id", "amount"]]])
    amounts = told[told["amount"] >= 0].drop_duplicates("deal_id", keep="last")["amount"].to_numpy(dtype=float)
    if not len(amounts):
        raise EmptyInputError(
            "no deal has an amount up to the as-of date: a revenue forecast needs at least one; fill in the amount "
            "column, or take a later as-of date"
        )
    return _Pool(amounts, len(amounts), borrowed=True)


type _Cells = list[tuple[str, pd.DataFrame]]
"""Deals that arrived in each cell, by the label of its pool."""


def _pools(
    everything: _Pool, final: pd.DataFrame, stays: pd.DataFrame, arrived: pd.DataFrame, cells: _Cells
) -> dict[str, _Pool]:
    """Amounts by label where they are enough to stand for themselves."""
    groups = {ALL_WON: everything}

    def add(label: str, amounts: pd.Series, *, borrowed: bool = False) -> None:
        if len(amounts) >= MIN_POOL and label not in groups:
            groups[label] = _Pool(amounts.to_numpy(), len(amounts), borrowed)

    for segment, rows in final.groupby("segment", sort=True):
        add(pool_label(segment=str(segment)), rows["final"])
    missing = stays[stays["amount"].isna()].drop_duplicates(["deal_id", "stage"])
    for stage in np.unique(missing["stage"].to_numpy(dtype=np.int64)).tolist():
        there = missing[missing["stage"] == stage]
        add(pool_label(stage=stage), there["final"])
        for segment, rows in there.groupby("segment", sort=True):
            add(pool_label(segment=str(segment), stage=stage), rows["final"])
    add(AT_ONCE, arrived.loc[arrived["at_once"], "final"].dropna())
    for label, there in cells:
        add(label, there["final"].dropna())
        add(label, there["amount"].dropna(), borrowed=True)
    return groups


def _by_cell(arrived: pd.DataFrame) -> _Cells:
    """Deals that arrived in each cell, those won at once apart."""
    cell, at_once = arrived["cell"].to_numpy(dtype=np.int64), arrived["at_once"].to_numpy(dtype=np.int64)
    order = np.lexsort((cell, at_once))
    begins = (np.diff(cell[order], prepend=-1) != 0) | (np.diff(at_once[order], prepend=-1) != 0)
    parts = np.split(order, np.flatnonzero(begins)[1:]) if len(order) else []
    return [(pool_label(cell=int(cell[rows[0]]), at_once=bool(at_once[rows[0]])), arrived.iloc[rows]) for rows in parts]


def _thin_pools(groups: Mapping[str, _Pool], arrived: pd.DataFrame, cells: _Cells) -> dict[str, _Pool]:
    """Pools for cells in which too few deals arrived: of their class of amounts, and of their own filled up."""
    found: dict[str, _Pool] = {}
    thin = [(label, rows) for label, rows in cells if label not in groups]
    staged = [(label, rows) for label, rows in thin if not rows["at_once"].iloc[0]]
    class_of = {label: int(rows["amount_class"].iloc[0]) for label, rows in staged if "amount_class" in rows}
    for code in sorted(set(class_of.values())):
        rows = arrived[(arrived["amount_class"] == code) & ~arrived["at_once"]]
        won, known = (rows[name].dropna().to_numpy() for name in ("final", "amount"))
        if len(won) >= MIN_POOL:
            found[pool_label(amount_class=code)] = _Pool(won, len(won))
        elif len(known) >= FEW:
            found[pool_label(amount_class=code)] = _filled_up(known, groups[ALL_WON])
    for label, rows in thin:
        known = rows["final"].fillna(rows["amount"]).dropna().to_numpy()
        if len(known) >= FEW:
            alike = pool_label(amount_class=class_of[label]) if label in class_of else ALL_WON
            alike = AT_ONCE if rows["at_once"].iloc[0] and AT_ONCE in groups else alike
            found[label] = _filled_up(known, found.get(alike, groups.get(alike, groups[ALL_WON])))
    return found


def _filled_up(own: NDArray[np.float64], others: _Pool) -> _Pool:
    """Pool in which own amounts have the share they have of ``MIN_POOL``; the rest has the mean of the others."""
    if len(own) >= MIN_POOL:
        return _Pool(own, len(own), borrowed=True)
    parts = np.array_split(np.sort(others.amounts), min(FILLING, len(others.amounts)))
    filling = np.array([part.mean() for part in parts])
    copies = max(round(len(filling) / (MIN_POOL - len(own))), 1)
    return _Pool(np.concatenate([np.repeat(own, copies), filling]), MIN_POOL, borrowed=True)


def _scale_draws(groups: Mapping[str, _Pool], draws: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Log factor on a pool's amounts, shape (draw, group): mean one, relative variance that of the pool's mean."""
    typical = max(_relative_variance(groups[ALL_WON].amounts), 0.1)
    columns = []
    for pool in groups.values():
        own = pool.n * _relative_variance(pool.amounts)
        relative = (PRIOR_SPREAD_WEIGHT * typical + own) / (PRIOR_SPREAD_WEIGHT + pool.n)
        variance = np.log1p(relative / pool.n) + (BORROWED_LOG_SD**2 if pool.borrowed else 0.0)
        columns.append(rng.normal(-variance / 2, np.sqrt(variance), draws))
    return np.column_stack(columns)


def _relative_variance(values: NDArray[np.float64]) -> float:
    mean = float(values.mean())
    return float(values.var()) / mean**2 if mean > 0 else 0.0
