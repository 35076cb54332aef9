"""Factors that pull towards one: seen ~ Poisson(factor x expected), factor ~ Gamma(k, k)."""

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln

Floats = NDArray[np.float64]


def log_evidence(seen: Floats, expected: Floats, prior: Floats) -> Floats:
    """Log probability of the seen counts under a prior worth so many counts, up to a term without the prior.

    log [Gamma(seen + k) k^k / (Gamma(k) (expected + k)^(seen + k))], elementwise.

    Parameters
    ----------
    seen, expected, prior : ndarray of float64, of shapes that go together
        ``prior`` is k, the counts that a factor of one stands for.

    Examples
    --------
    >>> seen, expected = np.array([200.0]), np.array([100.0])
    >>> bool(log_evidence(seen, expected, np.array([4.0]))[0] > log_evidence(seen, expected, np.array([1000.0]))[0])
    True
    """
    return np.asarray(
        gammaln(seen + prior) - gammaln(prior) + prior * np.log(prior) - (seen + prior) * np.log(expected + prior)
    )
