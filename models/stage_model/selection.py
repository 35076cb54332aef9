"""Choose the duration family of a stage by leave-one-out prediction of its stays.

One observation is one stay, not one cell of a count table. Equal stays have equal terms, so the terms of the distinct
stays are computed once and added with their multiplicities ``w``: ``elpd = sum w elpd_i`` and, with ``n = sum w``,
``se = sqrt(n / (n - 1) sum w (elpd_i - elpd / n)^2)``, exactly what the uncompressed stays would give.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

from models.history import STILL_OPEN
from models.stage_model.base_hazards import PIECEWISE, PiecewiseBaseline, SmoothBaseline
from models.stage_model.base_lattice import BaseShape, base_by_day
from models.stage_model.data import StageData
from models.stage_model.laplace import LaplaceFit, find_mode, laplace_fit
from models.stage_model.likelihood import stays_log_likelihood
from models.stage_model.problem import StageProblem, piecewise_problem, smooth_problem

Floats = NDArray[np.float64]
LOO_DRAWS = 200
"""Posterior draws behind the comparison; the error this leaves is small beside the standard error of a difference."""
COMPARED_SMOOTH = 3
"""Smooth candidates with the most evidence that are compared by leave-one-out prediction, beside piecewise: the terms of a
candidate take longer than its fit."""
EVIDENCE_GAP = 20.0
"""Log evidence behind the best smooth candidate from which on one is not compared: they differ by a parameter or two, worth a
few nats."""
NEARLY_CONSTANT = 0.005
"""Variance over draws of a stay's log-likelihood below which its leave-one-out term is taken to second order (mean minus
variance on the log scale, Watanabe 2010): what is left out is under a tenth of this."""
SMOOTH_CANDIDATES = ("weibull", "lognormal", "gamma", "loglogistic", "generalized_gamma")
FEW_STAYS = 20
"""With fewer ended stays no comparison is possible: the most flexible smooth prior-driven choice, Weibull, is taken."""


@dataclass(frozen=True)
class Choice:
    """The family chosen for a stage and how it compared.

    Parameters
    ----------
    problem : StageProblem
    reason : str
    comparison : tuple of dict
        Rows ``family``, ``zero_mass``, ``idle``, ``elpd``, ``elpd_diff``, ``se_diff`` against the chosen one, best first.
    """

    problem: StageProblem
    reason: str
    comparison: tuple[Mapping[str, Any], ...] = ()


def base_shape(problem: StageProblem) -> BaseShape:
    """How the problem's parameters become hazards by day."""
    baseline, n_exits = problem.baseline, problem.data.n_exits
    if isinstance(baseline, PiecewiseBaseline):
        seen = int(problem.data.days.max(initial=-1)) + 1
        return BaseShape(PIECEWISE, n_exits, tuple(int(start) for start in baseline.starts), seen=seen)
    if isinstance(baseline, SmoothBaseline):
        return BaseShape(baseline.family, n_exits, zero_mass=baseline.zero_mass, idle=baseline.idle)
    raise TypeError(f"expected a piecewise or smooth baseline, got {type(baseline).__name__}")


def pooled(data: StageData) -> StageData:
    """Join the equal stays of all groups."""
    keys, index = np.unique(np.stack([data.exit, data.days], axis=1), axis=0, return_inverse=True)
    count = np.bincount(index.reshape(-1), weights=data.count, minlength=len(keys)).astype(np.int64)
    return replace(
        data, group=np.zeros(len(keys), dtype=np.int64), exit=keys[:, 0].copy(), days=keys[:, 1].copy(), count=count,
        levels=np.zeros((1, 0), dtype=np.int64), joint_levels=(), stay_levels=np.zeros((len(keys), 0), dtype=np.int64),
        level_roots=(),
    )  # fmt: skip


def elpd_of_stays(log_likelihood: Floats) -> Floats:
    """Leave-one-out expected log predictive density of each distinct stay, from (draw, stay) log-likelihoods.

    By Pareto smoothed importance sampling where draws differ about the stay, to second order where they hardly do.
    """
    from arviz_stats.base.array import array_stats

    terms = np.ascontiguousarray(log_likelihood.T)
    spread = terms.var(axis=1)
    elpd = logsumexp(terms, axis=-1) - np.log(terms.shape[1]) - spread
    unsure = spread > NEARLY_CONSTANT
    if unsure.any():
        with np.errstate(all="ignore"):  # of what hardly any draw thinks possible no weights can be smoothed
            log_weights = array_stats.psislw(terms[unsure], r_eff=1.0)[0]  # type: ignore[no-untyped-call]
            left_out = logsumexp(log_weights + terms[unsure], axis=-1) - logsumexp(log_weights, axis=-1)
        elpd[unsure] = np.where(np.isfinite(left_out), left_out, elpd[unsure])
    return np.asarray(elpd)


def weighted_total(elpd: Floats, count: NDArray[np.int64]) -> tuple[float, float]:
    """Sum over all stays and its standard error, from distinct stays and their multiplicities.

    What is taken off, see :class:`models.history.StageHistory`, is as much a term as what is added.
    """
    terms, times = np.sign(count) * elpd, np.abs(count)
    n = int(times.sum())
    total = float(times @ terms)
    return total, float(np.sqrt(n / max(n - 1, 1) * (times @ (terms - total / n) ** 2)))


@dataclass(frozen=True)
class Extras:
    """What is added to a smooth family.

    Parameters
    ----------
    zero_mass : bool
        A hazard of its own on the day of entry.
    idle : bool
        A share of deals that never move.
    """

    zero_mass: bool = False
    idle: bool = False

    @property
    def text(self) -> str:
        """Say it in words; empty for nothing."""
        said = ["a mass at day 0"] * self.zero_mass + ["a share of deals that never move"] * self.idle
        return f" with {' and '.join(said)}" if said else ""


def needed_extras(data: StageData, family: str) -> Extras:
    """Choose the additions to a smooth family that the integrated likelihood prefers."""
    tried = [Extras(mass, idle) for mass in (False, True) for idle in (False, True)]
    return max(tried, key=lambda extras: log_evidence(smooth_problem(data, family, **asdict(extras))))


def log_evidence(problem: StageProblem) -> float:
    """Integrated likelihood of a problem without level effects, by Laplace."""
    return find_mode(problem, np.zeros(0), np.zeros(problem.size))[2]


def choose_family(data: StageData, exit_rates: Floats, rng: np.random.Generator) -> Choice:
    """Choose piecewise or a smooth family, the latter with a mass at day 0 and idle deals where the data ask for them.

    Families compare on the stays of the whole stage: groups change levels of hazards, hardly their shape over days.

    Parameters
    ----------
    data : StageData
    exit_rates : ndarray, shape (exit,)
        Exits per day at risk that the whole pipeline suggests.
    rng : Generator

    Returns
    -------
    Choice
    """
    plain = pooled(data)
    ended = int(plain.count[plain.exit != STILL_OPEN].sum())
    if ended < FEW_STAYS:
        reason = f"piecewise: {ended} ended stays are too few to compare families, its prior is the widest"
        return Choice(piecewise_problem(data, exit_rates), reason)
    # whether many leave on the day they came, or never, is a fact of the stage more than of the family tried
    extras = needed_extras(plain, SMOOTH_CANDIDATES[0])
    variants = dict.fromkeys((replace(extras, idle=False), extras))
    tried = {(PIECEWISE, Extras()): piecewise_problem(plain, exit_rates)}
    tried |= {
        (name, more): smooth_problem(plain, name, **asdict(more)) for name in SMOOTH_CANDIDATES for more in variants
    }
    evidence = {key: log_evidence(problem) for key, problem in tried.items() if key[0] != PIECEWISE}
    smooth = sorted(evidence, key=lambda key: -evidence[key])[:COMPARED_SMOOTH]
    near = [key for key in smooth[1:] if evidence[key] > evidence[smooth[0]] - EVIDENCE_GAP]
    compared = [(PIECEWISE, Extras()), smooth[0], *near]
    fits = {key: laplace_fit(tried[key], draws=LOO_DRAWS, rng=rng) for key in compared}
    terms = {key: elpd_of_stays(_log_likelihood(tried[key], fits[key])) for key in compared}
    ranked = sorted(compared, key=lambda key: -weighted_total(terms[key], plain.count)[0])
    rows: list[dict[str, Any]] = []
    for key in ranked:
        difference, se = weighted_total(terms[key] - terms[ranked[0]], plain.count)
        total = weighted_total(terms[key], plain.count)[0]
        rows.append({"family": key[0], **asdict(key[1]), "elpd": total, "elpd_diff": difference, "se_diff": se})
    (chosen, added), second = ranked[0], ranked[1]
    reason = (
        f"{chosen}{added.text}: predicts left-out stays better than {second[0]}{second[1].text}, the next best, "
        f"by {-rows[1]['elpd_diff']:.1f} in log score (se {rows[1]['se_diff']:.1f})"
    )
    if chosen == PIECEWISE:
        return Choice(piecewise_problem(data, exit_rates), reason, tuple(rows))
    return Choice(smooth_problem(data, chosen, **asdict(added)), reason, tuple(rows))


def given_family(data: StageData, family: str, exit_rates: Floats) -> Choice:
    """Take the family asked for, with a mass at day 0 and idle deals where the data ask for them."""
    if family == PIECEWISE:
        return Choice(piecewise_problem(data, exit_rates), "piecewise: as asked")
    extras = needed_extras(pooled(data), family)
    added = f"{extras.text}, as the data ask" if extras.text else ""
    return Choice(smooth_problem(data, family, **asdict(extras)), f"{family}: as asked{added}")


def _log_likelihood(problem: StageProblem, fit: LaplaceFit) -> Floats:
    """Log-likelihood (draw, stay) of the problem's stays under its Laplace posterior; no groups."""
    data = problem.data
    parameters = problem.prior_mean + fit.innovations @ problem.prior_root.T
    base = base_by_day(base_shape(problem), parameters, days=int(data.days.max()) + 1)
    return np.asarray(
        stays_log_likelihood(base, np.zeros((LOO_DRAWS, 1, data.n_exits)), data.group, data.exit, data.days)
    )
