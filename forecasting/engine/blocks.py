"""How work is cut and where it runs; neither changes a bit of the result.

Draws are cut into blocks at even draw numbers, deals into chunks of groups. Blocks go to threads (the kernels release
the interpreter lock) or to any :class:`concurrent.futures.Executor`: a process pool, or a Dask cluster through
``Client.get_executor()``. What comes back are integers, whose sum does not depend on the order of addition.
"""

import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ThreadPoolExecutor, wait
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import islice
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from models.errors import SettingsError

Sampler = Literal["auto", "fate", "paths"]
MEGABYTE = 2**20
MAX_BLOCK_DRAWS = 128
"""Larger blocks gain nothing: a block's fixed cost is under a millisecond."""
WAITING_PER_WORKER = 2
"""Blocks handed out beyond the running ones, so that no worker idles and memory stays bounded."""


@dataclass(frozen=True)
class EngineOptions:
    """How the engine may work; no option changes what it answers, ``sampler`` excepted.

    Parameters
    ----------
    memory_mb : int
        Budget for tables and blocks in work, beyond inputs and results.
    threads : int
        Threads when no executor is given.
    sampler : {"auto", "fate", "paths"}
        ``fate`` decides each deal by one uniform against exact win probabilities, ``paths`` plays every stay. Same
        distribution, other random numbers; ``auto`` takes the faster one for the size.
    executor : concurrent.futures.Executor or None
        Where blocks run instead of threads.
    progress : callable or None
        Called with (draws done, draws) after each block, from the calling thread.
    detail_draws : int
        Draws, evenly spaced, over which details per deal (kinds of lost, ever won, closed by day) are averaged.
    """

    memory_mb: int = 400
    threads: int = 2
    sampler: Sampler = "auto"
    executor: Executor | None = None
    progress: Callable[[int, int], None] | None = None
    detail_draws: int = 64

    def __post_init__(self) -> None:
        if self.sampler not in ("auto", "fate", "paths"):
            raise SettingsError(f"sampler must be 'auto', 'fate' or 'paths', got {self.sampler!r}")
        for name in ("memory_mb", "threads", "detail_draws"):
            if getattr(self, name) < 1:
                raise SettingsError(f"{name} must be at least 1, got {getattr(self, name)}")

    @property
    def workers(self) -> int:
        """Blocks that run at the same time, as far as is known."""
        return self.threads if self.executor is None else (os.cpu_count() or 1)

    def draw_blocks(self, draws: int, *, bytes_per_draw: int) -> list[tuple[int, int]]:
        """First and past-the-last draw of each block: blocks within the memory budget, as many for each worker."""
        budget = self.memory_mb * MEGABYTE // (2 * (self.workers + WAITING_PER_WORKER))
        most = max(2, min(MAX_BLOCK_DRAWS, budget // max(bytes_per_draw, 1)) // 2 * 2)
        rounds = math.ceil(draws / (most * self.workers))
        return cut_draws(draws, 2 * math.ceil(draws / (2 * rounds * self.workers)))


def cut_draws(draws: int, size: int) -> list[tuple[int, int]]:
    """First and past-the-last draw of each block.

    Examples
    --------
    >>> cut_draws(5, 2)
    [(0, 2), (2, 4), (4, 5)]
    """
    return [(start, min(start + size, draws)) for start in range(0, draws, size)]


def evenly_spaced(draws: int, count: int) -> NDArray[np.int64]:
    """Some of the draws, the first and the last among them, or all if there are no more.

    Examples
    --------
    >>> evenly_spaced(9, 3).tolist(), evenly_spaced(2, 3).tolist()
    ([0, 4, 8], [0, 1])
    """
    return np.unique(np.linspace(0, draws - 1, min(count, draws)).round().astype(np.int64))


def run_blocks[Task, Result](
    run: Callable[[Task], Result], tasks: Sequence[Task], options: EngineOptions, *, draws: int = 0
) -> Iterator[Result]:
    """Results of ``run(task)`` as they come, with a bounded number of tasks in the air.

    Parameters
    ----------
    run : callable
        At the top level of a module, so that it can be sent to other processes.
    tasks : sequence
    options : EngineOptions
    draws : int
        What the progress is told as the whole.
    """
    for done, result in enumerate(_results(run, tasks, options), start=1):
        yield result
        if options.progress is not None:
            options.progress(draws * done // len(tasks), draws)


def _results[Task, Result](
    run: Callable[[Task], Result], tasks: Iterable[Task], options: EngineOptions
) -> Iterator[Result]:
    tasks = iter(tasks)
    if options.executor is None and options.threads == 1:
        yield from map(run, tasks)
        return
    pool = ThreadPoolExecutor(options.threads) if options.executor is None else nullcontext(options.executor)
    with pool as executor:
        window = options.workers + WAITING_PER_WORKER
        pending: set[Future[Result]] = {executor.submit(run, task) for task in islice(tasks, window)}
        try:
            while pending:
                done, pending = wait(pending, return_when=FIRST_COMPLETED)
                for future in done:
                    yield future.result()
                pending |= {executor.submit(run, task) for task in islice(tasks, len(done))}
        finally:
            for future in pending:
                future.cancel()
