"""The slow road: both level series as one PyMC model, sampled by NUTS.

    log sigma, log half-life, luck   flat within the ranges of :mod:`models.levels.priors`
    x_p = mu + phi (x_(p-1) - mu) + sigma sqrt(1 - phi^2) normal,   mu = -sigma^2 / 2
    exits in period p  ~  NegativeBinomial(mean exp(x_p) E_p, size 1 / luck^2)

The likelihood is one operation with a gradient of its own (:mod:`models.levels.density`), so nothing is compiled when a
model is built. The free variables are near to independent normal numbers, so short chains of steps do.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pymc as pm
from numpy.typing import NDArray
from pymc.step_methods.hmc.quadpotential import QuadPotentialFull
from pytensor.compile.mode import Mode

from models.levels.density import LevelSeries, series_point
from models.levels.laplace import LaplaceLevel, draw_points, settings_around
from models.levels.priors import N_SETTINGS
from models.likelihood_op import LikelihoodOp
from models.stage_model.diagnosis import diagnose_columns, moved_badly, sample_until_trusted
from models.stage_model.options import SamplerOptions
from models.stage_model.posterior import Diagnostics

Floats = NDArray[np.float64]

TREE_DEPTH = 4
"""Chains of fifteen steps: of seven, few luck draws near Poisson are independent (at worst 465 of 4,000, against 1,200)."""
DOUBTFUL_RHAT = 1.009
"""Chains of series that jumped once and for all may sample their long-run sd slowly: above this they are run again with
care, before anyone has to be told that nothing can be published."""
SETTING_RIDGE = 1e-2
"""Added to the variances of the settings: their grid may have held one to the cell of a single point."""
START_DRAWS = 2000
"""Draws of the Laplace fit behind the mass matrix of the settings."""


def series_log_likelihood(
    series: Sequence[LevelSeries], settings: Floats, innovations: Floats
) -> tuple[float, Floats, Floats]:
    """Log-likelihood of the series with its gradients in settings and innovations, both (direction, number)."""
    points = [series_point(one, *numbers) for one, *numbers in zip(series, settings, innovations, strict=True)]
    return (
        sum(point.value for point in points),
        np.stack([point.settings_slope for point in points]),
        np.stack([point.innovations_slope for point in points]),
    )


def build_level_model(series: Sequence[LevelSeries]) -> pm.Model:
    """PyMC model of the level series.

    Parameters
    ----------
    series : sequence of LevelSeries
        One per direction, equally long.

    Returns
    -------
    pm.Model
        Free variables ``settings`` (direction, 3) and ``innovations`` (direction, period).
    """
    with pm.Model() as model:
        settings = pm.Normal("settings", 0.0, 1.0, shape=(len(series), N_SETTINGS))
        innovations = pm.Normal("innovations", 0.0, 1.0, shape=(len(series), len(series[0].exits)))
        pm.Potential("log_likelihood", LikelihoodOp(partial(series_log_likelihood, series))(settings, innovations)[0])
    return model


class LevelPotential(QuadPotentialFull):  # type: ignore[misc]
    """Mass matrix with a covariance for the settings, which come first, and one for each innovation.

    As one full matrix it would cost the square of the number of periods at every step.
    """

    def __init__(self, settings_covariance: Floats, *, innovations: int) -> None:
        super().__init__(settings_covariance)
        self.innovations = innovations

    def velocity(self, x: Floats, out: Floats | None = None) -> Floats:
        """Covariance times momentum."""
        found = np.empty_like(x) if out is None else out
        found[:] = x
        found[: -self.innovations] = self._cov @ x[: -self.innovations]
        return found

    def random(self) -> Floats:
        """Draw a momentum."""
        return np.concatenate([super().random(), self.rng.normal(size=self.innovations)])


@dataclass(frozen=True)
class SampledLevels:
    """NUTS draws of the level series, chain after chain.

    Parameters
    ----------
    normals : ndarray, shape (draw, direction, 3)
        Settings as standard normal numbers.
    level : ndarray, shape (draw, direction, period)
        Log factors.
    diagnostics : Diagnostics
        Over settings and the log factors of the last period.
    """

    normals: Floats
    level: Floats
    diagnostics: Diagnostics


def sample_levels(
    series: Sequence[LevelSeries],
    start: Sequence[LaplaceLevel],
    *,
    draws: int,
    seed: int,
    options: SamplerOptions | None = None,
) -> SampledLevels:
    """Sample both series by PyMC's NUTS; again with more care, or in longer chains, while that leaves doubts.

    Parameters
    ----------
    series : sequence of LevelSeries
        One per direction.
    start : sequence of LaplaceLevel
        Gives starting points and the mass matrix of the settings.
    draws : int
        Over all chains together.
    seed : int
    options : SamplerOptions, optional
    """
    given = options or SamplerOptions()
    options = replace(given, max_tree_depth=max(given.max_tree_depth, TREE_DEPTH))

    def attempt(options: SamplerOptions, thin: int) -> tuple[SampledLevels, Diagnostics]:
        sampled = _sample_once(series, start, draws=draws, seed=seed, options=options, thin=thin)
        return sampled, sampled.diagnostics

    return sample_until_trusted(attempt, options, draws=draws, doubtful=partial(_doubtful, draws=draws))[0]


def _doubtful(found: Diagnostics, draws: int) -> bool:
    """Whether chains diverged, moved too little, or are near to disagreeing."""
    return moved_badly(found, draws=draws) or found.rhat_max is None or found.rhat_max > DOUBTFUL_RHAT


def _sample_once(
    series: Sequence[LevelSeries],
    start: Sequence[LaplaceLevel],
    *,
    draws: int,
    seed: int,
    options: SamplerOptions,
    thin: int,
) -> SampledLevels:
    rng = np.random.default_rng([seed, 5])
    chains, periods = options.chains_for(draws), len(series[0].exits)
    normals = np.stack([settings_around(level, draw_points(level, START_DRAWS, rng), rng) for level in start], axis=1)
    compile_kwargs = {"mode": Mode(linker="vm", optimizer="fast_compile")}
    first = rng.standard_normal((chains, len(series), periods))
    with build_level_model(series):
        step = pm.NUTS(
            potential=LevelPotential(_settings_covariance(normals), innovations=len(series) * periods),
            target_accept=options.target_accept,
            max_treedepth=options.max_tree_depth,
            compile_kwargs=compile_kwargs,
        )
        tree = pm.sample(
            -(-draws // chains) * thin,
            tune=options.tune,
            chains=chains,
            cores=1,
            blas_cores=1,
            step=step,
            initvals=[{"settings": normals[chain], "innovations": first[chain]} for chain in range(chains)],
            random_seed=int(rng.integers(2**31)),
            progressbar=False,
            quiet=True,
            compute_convergence_checks=False,
            compile_kwargs=compile_kwargs,
        )
    drawn, innovations = (
        tree["posterior"][name].to_numpy()[:, thin - 1 :: thin].reshape(-1, len(series), size)
        for name, size in (("settings", N_SETTINGS), ("innovations", periods))
    )
    level = np.stack(
        [
            [series_point(one, *numbers).level for numbers in zip(drawn[:, place], innovations[:, place], strict=True)]
            for place, one in enumerate(series)
        ],
        axis=1,
    )
    # what a forecast takes from the series; over hundreds of past periods the largest R-hat strays by chance alone
    columns = np.concatenate([drawn, level[:, :, -1:]], axis=2).reshape(len(level), -1)
    divergences = int(tree["sample_stats"]["diverging"].sum())
    return SampledLevels(drawn, level, diagnose_columns(columns, chains=chains, divergences=divergences))


def _settings_covariance(normals: Floats) -> Floats:
    """Covariance of all settings, from draws (draw, direction, 3); different directions are independent."""
    n_directions = normals.shape[1]
    covariance = np.zeros((n_directions * N_SETTINGS, n_directions * N_SETTINGS))
    for place in range(n_directions):
        block = slice(N_SETTINGS * place, N_SETTINGS * (place + 1))
        covariance[block, block] = np.cov(normals[:, place].T) + SETTING_RIDGE * np.eye(N_SETTINGS)
    return covariance
