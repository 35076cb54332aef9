"""Processes for origins: each past date is a forecast of its own, so they run side by side."""

import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager

from models.errors import SettingsError

FEWEST_ORIGINS = 4
"""Starting a process and loading its libraries takes as long as three or four forecasts of a small history."""


@contextmanager
def origin_workers(origins: int, *, processes: int | None = None) -> Iterator[Executor | None]:
    """Pool of processes for so many origins; None where they had better run here one after the other.

    Parameters
    ----------
    origins : int
    processes : int, optional
        Default: one per core, if there are at least ``FEWEST_ORIGINS`` origins.

    Raises
    ------
    SettingsError
        Less than one process.
    """
    if processes is not None and processes < 1:
        raise SettingsError(f"processes must be at least 1, got {processes}")
    wanted = processes or (available_cores() if origins >= FEWEST_ORIGINS else 1)
    wanted = min(wanted, origins)
    if wanted <= 1:
        yield None
        return
    executor = ProcessPoolExecutor(wanted, mp_context=multiprocessing.get_context("spawn"))
    try:
        yield executor
    finally:  # whoever stops a run does not wait for dates that nobody has begun
        executor.shutdown(cancel_futures=True)


def available_cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
