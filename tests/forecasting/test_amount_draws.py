"""What a win is worth as kernels draw it, against closed forms."""

import numpy as np
import pytest

from forecasting.engine.amounts import changed_cents
from models.amounts import MAX_LOG_RATIO, mean_change


@pytest.mark.parametrize(("mean", "sd"), [(0.0, 0.2), (0.5, 1.5), (-1.0, 1.2), (3.0, 1.5)])
def test_mean_change_is_that_of_the_changes_drawn(mean: float, sd: float) -> None:
    bits = np.random.default_rng(3).integers(0, 2**64, (2, 200_000), dtype=np.uint64)
    factors = np.array([changed_cents(100.0, 0.0, mean, sd, one, two) for one, two in bits.T]) / 10_000.0
    assert np.exp(-MAX_LOG_RATIO) - 1e-4 <= factors.min()
    assert factors.max() <= np.exp(MAX_LOG_RATIO) + 1e-4
    error = factors.std() / np.sqrt(len(factors))
    assert mean_change(np.array([mean]), np.array([sd]))[0] == pytest.approx(factors.mean(), abs=4 * error)
