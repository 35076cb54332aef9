"""How NUTS runs; apart from the sampler itself, so that settings can be read without loading PyMC."""

from dataclasses import dataclass


@dataclass(frozen=True)
class SamplerOptions:
    """How NUTS runs.

    Parameters
    ----------
    chains : int
    tune : int
        Steps that adapt the step size, thrown away. The mass matrix comes from the Laplace fit, so a few hundred do.
    target_accept : float
    cores : int
        Worker processes that share the stages; 1 stays in this process.
    """

    chains: int = 4
    tune: int = 300
    target_accept: float = 0.9
    cores: int = 2
