"""What a fit can be asked, and how NUTS runs; apart from the sampler, so that settings can be read without loading PyMC."""

from dataclasses import dataclass, replace
from typing import Literal, Self

import numpy as np

from models.errors import SettingsError

Inference = Literal["nuts", "fast"]
LARGEST_SEED = 2**63 - 1
"""Compiled code takes a seed as a signed number of 64 bits."""


def checked_seed(seed: object) -> int:
    """Seed as a plain number, or a SettingsError.

    Examples
    --------
    >>> checked_seed(np.int64(7))
    7
    """
    if not isinstance(seed, int | np.integer) or not 0 <= seed <= LARGEST_SEED:
        raise SettingsError(f"expected a whole number from 0 to {LARGEST_SEED} as seed, got {seed!r}")
    return int(seed)


CHAIN_LENGTH = 1000
"""Draws of a chain, warm-up not counted."""
LONGEST = 4
"""Over hundreds of hazards the largest R-hat of chains that agree strays past its limit now and then: chains up to so many
times as long, of which one draw in so many is kept, bring it back."""
CAREFUL_ACCEPT, CAREFUL_DEPTH = 0.98, 8
"""Where a factor has much data and a small scale, the posterior is a bent funnel."""
SMALLEST_STEPS = 0.998, 10
"""Wanted acceptance and tree depth for chains that diverge in spite of care: a single divergence would withhold a forecast."""


@dataclass(frozen=True)
class SamplerOptions:
    """How NUTS runs.

    Parameters
    ----------
    chains : int
        At most so many; see :meth:`chains_for`.
    tune : int
        Steps that adapt the step size, thrown away. The mass matrix comes from the Laplace fit, so a few hundred do.
    target_accept : float
    max_tree_depth : int
        Seven steps cross the posterior, which is nearly a unit ball in these coordinates; longer ones only turn back.
    cores : int
        Worker processes that share the stages; 1 stays in this process.
    """

    chains: int = 4
    tune: int = 200
    target_accept: float = 0.9
    max_tree_depth: int = 3
    cores: int = 2

    def chains_for(self, draws: int) -> int:
        """Say how many chains share so many draws: at least two, and none shorter than ``CHAIN_LENGTH`` beyond that.

        R-hat is the largest over hundreds of hazards; in shorter chains it strays above 1.01 by chance alone.

        Examples
        --------
        >>> [SamplerOptions().chains_for(draws) for draws in (400, 2000, 4000, 9000)]
        [2, 2, 4, 4]
        """
        return min(self.chains, max(2, draws // CHAIN_LENGTH))

    def careful(self) -> Self:
        """Give the same with smaller steps and longer trajectories, for chains that diverged or moved too little."""
        return replace(self, target_accept=CAREFUL_ACCEPT, max_tree_depth=CAREFUL_DEPTH)

    def most_careful(self) -> Self:
        """Give the same with the smallest steps, for chains that diverged in spite of care."""
        accept, depth = SMALLEST_STEPS
        return replace(self, target_accept=accept, max_tree_depth=depth)
