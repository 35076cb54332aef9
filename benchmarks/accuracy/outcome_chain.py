"""How deals will end and when, from a stage posterior, for deals anywhere on their way: exact, by renewal equations.

A state is (stage, furthest stage so far, looped): the covariate ``looped`` changes along the way, so a deal that goes
back moves on with other hazards. Deals in a state are told apart by amount class and days in the stage. With f the
chance to leave a state just entered for an exit on a day, the chances to end are (I - Q)^-1 R, and the days until the
end follow from g_t = r_t + sum_d f_d g_(t-d). Deals already in a state for a days start with f conditioned on a.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.hazards import HazardSource
from models.stages import StageGraph

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

DAYS = 240
"""Days of a stay that are told apart; what is left then ends in the proportions of the stays that ended."""


@dataclass(frozen=True)
class Position:
    """Where deals stand: arrays over deals.

    Parameters
    ----------
    stage, furthest, looped, days : ndarray of int64
        Stage, furthest open stage so far, whether the deal had been there or further before, days in the stage.
    level : ndarray of int32
        Class of the amount.
    """

    stage: Ints
    furthest: Ints
    looped: Ints
    days: Ints
    level: NDArray[np.int32]


class OutcomeChain:
    """Exact answers of a stage posterior with the factors amount and looped.

    Parameters
    ----------
    hazards : HazardSource
        A stage posterior with the factors ``amount`` and ``looped``, in this order.
    graph : StageGraph
    offer_stage : int
        Outcomes are conditioned on the deal reaching this stage or a later one before it ends.
    """

    def __init__(self, hazards: HazardSource, graph: StageGraph, *, offer_stage: int) -> None:
        self._hazards, self._offer = hazards, offer_stage
        self._n_open, self._n_stages = graph.n_open, len(graph.stages)
        self._state: dict[tuple[int, int, int], int] = {}
        for furthest in range(self._n_open):
            self._state[furthest, furthest, 0] = len(self._state)
            for stage in range(furthest + 1):
                self._state[stage, furthest, 1] = len(self._state)

    def outcomes(self, position: Position) -> Floats:
        """Chance of every terminal stage given that an offer is reached, posterior mean, shape (deal, terminal)."""
        waiting = position.stage < self._n_open
        out = np.eye(self._n_stages)[position.stage][:, self._n_open :]
        n_ends = out.shape[1] + 1  # the last one: ended before an offer
        for level in np.unique(position.level[waiting]):
            leave = self._leave(int(level), np.arange(self._hazards.n_draws))
            moves, ends = self._split(_shares(leave, 0))
            eventual = np.linalg.solve(np.eye(len(self._state)) - moves * (1.0 - 1e-9), ends)
            keys, rows, of_deal = self._keys(position, waiting & (position.level == level))
            found = np.zeros((len(keys), n_ends))
            for place, (state, days) in enumerate(keys.tolist()):
                first_moves, first_ends = self._split(_shares(leave, days), only=state)
                found[place] = (first_ends + np.einsum("ds,dse->de", first_moves, eventual)).mean(axis=0)
            out[rows] = (found[:, :-1] / np.maximum(found[:, :-1].sum(axis=1, keepdims=True), 1e-12))[of_deal]
        return out

    def median_remaining_days(self, position: Position) -> Floats:
        """Median days until the end, under posterior mean chances to leave, shape (deal,); zero for a deal that has ended."""
        out = np.zeros(len(position.stage))
        waiting = position.stage < self._n_open
        draws = np.arange(self._hazards.n_draws)
        for level in np.unique(position.level[waiting]):
            leave = self._leave(int(level), draws).mean(axis=0, keepdims=True)
            by_day = [self._split(leave[..., day]) for day in range(DAYS)]
            moves = np.stack([pair[0][0] for pair in by_day])  # (day, state, state)
            ends = np.stack([pair[1][0].sum(axis=1) for pair in by_day])  # (day, state)
            at_once = np.eye(len(self._state)) - moves[0]
            closing = np.zeros((DAYS, len(self._state)))
            for day in range(DAYS):
                later = np.einsum("dij,dj->i", moves[1 : day + 1], closing[day - 1 :: -1][:day]) if day else 0.0
                closing[day] = np.linalg.solve(at_once, ends[day] + later)
            keys, rows, of_deal = self._keys(position, waiting & (position.level == level))
            found = np.array([_median_day(moves[days:, state], ends[days:, state], closing) for state, days in keys])
            out[rows] = found[of_deal]
        return out

    def _keys(self, position: Position, rows: NDArray[np.bool_]) -> tuple[Ints, NDArray[np.bool_], Ints]:
        """Distinct (state, days) among the rows, and the place of each row among them."""
        named = zip(
            position.stage[rows].tolist(), position.furthest[rows].tolist(), position.looped[rows].tolist(), strict=True
        )
        state = [self._state[name] for name in named]
        days = np.minimum(position.days[rows], DAYS - 1)
        keys, of_deal = np.unique(np.column_stack([state, days]), axis=0, return_inverse=True)
        return keys.astype(np.int64), rows, of_deal.reshape(-1)

    def _leave(self, level: int, draws: Ints) -> Floats:
        """Chance to leave on a day of the stay, shape (draw, looped, stage, to stage, day)."""
        cells = np.array([[level, 0], [level, 1]], dtype=np.int32)
        lattice = self._hazards.lattice(draws, days=DAYS, cells=cells)
        hazard = np.einsum("dskt,dcsk->dcskt", lattice.base, lattice.effect)
        total = hazard.sum(axis=3)
        before = np.cumsum(total, axis=-1) - total
        chance = np.exp(-before) * -np.expm1(-total)
        by_slot = hazard / np.maximum(total, 1e-300)[:, :, :, None] * chance[:, :, :, None]
        leave = np.zeros((len(draws), 2, self._n_open, self._n_stages, DAYS))
        for stage, targets in enumerate(lattice.next_stage):
            for slot, target in enumerate(targets):
                if target >= 0:
                    leave[:, :, stage, target] += by_slot[:, :, stage, slot]
        return leave

    def _split(self, share: Floats, only: int | None = None) -> tuple[Floats, Floats]:
        """Chances (draw, looped, stage, to stage) as moves (draw, state, state) and ends (draw, state, end)."""
        n_ends = self._n_stages - self._n_open + 1
        moves = np.zeros((len(share), len(self._state), len(self._state)))
        ends = np.zeros((len(share), len(self._state), n_ends))
        for (stage, furthest, looped), state in self._state.items():
            if only is not None and state != only:
                continue
            from_here = share[:, looped, stage]
            for target in range(self._n_open):
                fresh = target > furthest
                moves[:, state, self._state[target, max(target, furthest), 0 if fresh else 1]] += from_here[:, target]
            if furthest >= self._offer:
                ends[:, state, :-1] = from_here[:, self._n_open :]
            else:
                ends[:, state, -1] = from_here[:, self._n_open :].sum(axis=1)
        return (moves, ends) if only is None else (moves[:, only], ends[:, only])


def _shares(leave: Floats, days: int) -> Floats:
    """Chance of each exit of a stay that has lasted so many days, shape (draw, looped, stage, to stage)."""
    mass = leave[..., days:].sum(axis=-1)
    total = mass.sum(axis=-1, keepdims=True)
    ever = leave.sum(axis=-1)
    return np.asarray(np.where(total > 1e-12, mass / np.maximum(total, 1e-300), ever / ever.sum(-1, keepdims=True)))


def _median_day(moves: Floats, ends: Floats, closing: Floats) -> float:
    """Median days until a deal ends that will move (day, state) or end (day,) from now on.

    Dates that lie n days apart are n days apart on average, so the chance of day n is spread over n - 1/2 to n + 1/2.
    """
    alive = moves.sum() + ends.sum()
    if alive < 1e-12:
        return 0.0
    reached = 0.0
    for day in range(DAYS):
        span = min(day + 1, len(ends))
        now = ends[day] if day < len(ends) else 0.0
        now += float((moves[:span] * closing[day - span + 1 : day + 1][::-1]).sum())
        if reached + now >= 0.5 * alive:
            return max(0.0, day - 0.5 + float((0.5 * alive - reached) / max(now, 1e-300)))
        reached += now
    return float(DAYS)
