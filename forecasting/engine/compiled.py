"""The one way kernels are compiled: no object mode, on-disk cache, interpreter lock released."""

from collections.abc import Callable

import numba


def jit_kernel[**P, R](function: Callable[P, R]) -> Callable[P, R]:
    """Compile a function of plain arrays and numbers; division by zero gives infinity as in NumPy."""
    compiled: Callable[P, R] = numba.njit(cache=True, nogil=True, error_model="numpy")(function)
    return compiled


def jit_fused[**P, R](function: Callable[P, R]) -> Callable[P, R]:
    """Compile as :func:`jit_kernel`, a product and the sum it goes into rounded once: sums of products, twice as fast."""
    compiled: Callable[P, R] = numba.njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})(function)
    return compiled


def jit_inline[**P, R](function: Callable[P, R]) -> Callable[P, R]:
    """Compile a small function into its callers, so that their loops can be vectorised."""
    compiled: Callable[P, R] = numba.njit(cache=True, nogil=True, error_model="numpy", inline="always")(function)
    return compiled
