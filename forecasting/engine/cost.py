"""Which sampler is faster for a pipeline: tables cost the same however few the deals, paths cost by the deal."""

from typing import Literal

import numpy as np

from forecasting.engine.amounts import DealArrays
from forecasting.engine.tasks import Situation

SOLVER_NS = 0.09
"""Cost of one term of the renewal sums."""
TABLE_NS = 3.0
"""Cost of one stage and day of hazards turned into survival and shares of the path sampler."""
FATE_NS = 2.0
"""Cost of one deal's fate."""
PATH_NS = 17.0
"""Cost of one deal's path: two to three stays."""


def faster_sampler(deals: DealArrays, situation: Situation) -> Literal["fate", "paths"]:
    """Sampler with the smaller expected cost, from constants measured by ``python -m benchmarks.speed.engine``."""
    n_deals, n_cells, horizon = len(deals.key), len(situation.cells), situation.reach
    new_run = np.r_[True, np.diff(deals.group_cell * situation.n_open + deals.group_stage) != 0][: len(deals.group_age)]
    gap = np.where(new_run, horizon // 2, np.minimum(np.diff(deals.group_age, prepend=0), horizon // 2))
    solver = horizon * (float(gap.sum()) + n_cells * situation.n_open * horizon / 2)
    fate = SOLVER_NS * solver + FATE_NS * n_deals
    paths = TABLE_NS * n_cells * situation.n_open * situation.days + PATH_NS * n_deals
    return "fate" if fate <= paths else "paths"
