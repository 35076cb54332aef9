"""The same question asked of other tools: wins by draw and month of deals in a row of stages.

Every rival draws the day on which a stay ends from its Weibull curve, given the days already spent, and tosses a coin
between moving on and being lost. Their random numbers are NumPy's or numba's own.
"""

import math
import random

import numba
import numpy as np
import simpy
from numpy.typing import NDArray

from benchmarks.speed.planted_floor import EDGES, HORIZON, Floor

Counts = NDArray[np.int64]


def deal_columns(floor: Floor) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Stage and days in stage of every deal."""
    deals = floor.pipeline.deals
    return deals["stage"].to_numpy(dtype=np.int64), deals["days_in_stage"].to_numpy(dtype=np.int64)


def numba_paths(floor: Floor, draws: int) -> Counts:
    """Run a plain compiled loop: one logarithm and two powers per stay."""
    stage, age = deal_columns(floor)
    return _numba_paths(stage, age, floor.shape[:draws], floor.scale[:draws], floor.onward[:draws], EDGES)


@numba.njit(cache=True)
def _numba_paths(stage, age, shape, scale, onward, edges):  # type: ignore[no-untyped-def]
    draws, n_open = shape.shape
    out = np.zeros((draws, len(edges)), dtype=np.int64)
    np.random.seed(1)  # noqa: NPY002
    for i in range(draws):
        for deal in range(len(stage)):
            k, spent, today = stage[deal], age[deal] + 1.0, -age[deal]
            while True:
                past = (spent / scale[i, k]) ** shape[i, k]
                day = scale[i, k] * (past - math.log(np.random.random())) ** (1.0 / shape[i, k])  # noqa: NPY002
                if today + day >= edges[-1] + 1:
                    break
                today += int(day)
                if np.random.random() >= onward[i, k]:  # noqa: NPY002
                    break
                k, spent = k + 1, 0.0
                if k == n_open:
                    out[i, np.searchsorted(edges, today)] += 1
                    break
    return out


def numpy_paths(floor: Floor, draws: int) -> Counts:
    """Vectorised over the deals of a draw, stay by stay."""
    rng = np.random.default_rng(1)
    stage, age = deal_columns(floor)
    out = np.zeros((draws, len(EDGES)), dtype=np.int64)
    for i in range(draws):
        k, spent, today = stage, age + 1.0, -age
        while len(k):
            shape, scale = floor.shape[i, k], floor.scale[i, k]
            day = scale * ((spent / scale) ** shape + rng.standard_exponential(len(k))) ** (1.0 / shape)
            today = today + np.minimum(day, 10.0 * HORIZON).astype(np.int64)
            stays = (today <= HORIZON) & (rng.random(len(k)) < floor.onward[i, k])
            k, today = k[stays] + 1, today[stays]
            won = k == floor.shape.shape[1]
            out[i] += np.bincount(np.searchsorted(EDGES, today[won]), minlength=len(EDGES))
            k, today = k[~won], today[~won]
            spent = np.zeros(len(k))
    return out


def python_paths(floor: Floor, draws: int) -> Counts:
    """Loop in plain Python."""
    source = random.Random(1)
    stage, age = (column.tolist() for column in deal_columns(floor))
    edges, n_open = EDGES.tolist(), floor.shape.shape[1]
    out = np.zeros((draws, len(EDGES)), dtype=np.int64)
    for i in range(draws):
        curves = list(zip(floor.shape[i].tolist(), floor.scale[i].tolist(), floor.onward[i].tolist(), strict=True))
        for k, days in zip(stage, age, strict=True):
            spent, today = days + 1.0, -days
            while True:
                shape, scale, onward = curves[k]
                day = scale * ((spent / scale) ** shape + source.expovariate(1.0)) ** (1.0 / shape)
                if today + day >= HORIZON + 1:
                    break
                today += int(day)
                if source.random() >= onward:
                    break
                k, spent = k + 1, 0.0
                if k == n_open:
                    out[i, next(m for m, edge in enumerate(edges) if today <= edge)] += 1
                    break
    return out


def simpy_paths(floor: Floor, draws: int) -> Counts:
    """Start a process per deal in SimPy, the usual Python package for discrete events."""
    source = random.Random(1)
    stage, age = (column.tolist() for column in deal_columns(floor))
    n_open = floor.shape.shape[1]
    out = np.zeros((draws, len(EDGES)), dtype=np.int64)

    def deal(world: simpy.Environment, i: int, k: int, days: int):  # type: ignore[no-untyped-def]
        spent, passed = days + 1.0, days
        while k < n_open:
            shape, scale = floor.shape[i, k], floor.scale[i, k]
            day = scale * ((spent / scale) ** shape + source.expovariate(1.0)) ** (1.0 / shape)
            yield world.timeout(int(day) - passed)
            if source.random() >= floor.onward[i, k]:
                return
            k, spent, passed = k + 1, 0.0, 0
        out[i, np.searchsorted(EDGES, world.now)] += 1

    for i in range(draws):
        world = simpy.Environment()
        for k, days in zip(stage, age, strict=True):
            world.process(deal(world, i, k, days))
        world.run(until=HORIZON + 0.5)
    return out


RIVALS = {
    "plain numba kernel": numba_paths,
    "vectorised NumPy": numpy_paths,
    "plain Python loop": python_paths,
    "SimPy": simpy_paths,
}
"""Name to function of (floor, draws) that gives wins by (draw, month)."""
