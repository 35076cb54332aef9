"""A second process that samples stages: ``python -m models.stage_model.worker``, a pickled task in, pickled draws out.

Started as a program of its own rather than through ``multiprocessing``: forking a process with threads is unsafe, and
spawning runs the caller's script again unless it is guarded, which a notebook or a ten-line script is not.
"""

import os
import pickle
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from threadpoolctl import threadpool_limits

from models.errors import DealcastError
from models.stage_model.options import SamplerOptions
from models.stage_model.posterior import Diagnostics, StageFit
from models.stage_model.sampling import sample_choice
from models.stage_model.selection import Choice

ROOT = Path(__file__).parents[2]


def start_worker(
    choices: Sequence[tuple[int, Choice]], *, draws: int, seed: int, options: SamplerOptions
) -> subprocess.Popen[bytes]:
    """Start a process that samples the given (stage, choice) pairs one after another."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    worker = subprocess.Popen(
        [sys.executable, "-m", "models.stage_model.worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
    )
    assert worker.stdin is not None
    worker.stdin.write(pickle.dumps((list(choices), draws, seed, options)))
    worker.stdin.close()
    worker.stdin = None
    return worker


def collect(worker: subprocess.Popen[bytes]) -> dict[int, tuple[StageFit, Diagnostics]]:
    """Wait for a worker and take its draws by stage."""
    answer, _ = worker.communicate()
    if worker.returncode != 0:
        raise DealcastError(f"a sampling process ended with code {worker.returncode}; its output is above")
    sampled: dict[int, tuple[StageFit, Diagnostics]] = pickle.loads(answer)
    return sampled


def main() -> None:
    """Read one task, sample, write the draws."""
    choices, draws, seed, options = pickle.loads(sys.stdin.buffer.read())
    answer, sys.stdout = sys.stdout, sys.stderr
    with threadpool_limits(1, user_api="blas"):
        sampled = {
            stage: sample_choice(choice, stage, draws=draws, seed=seed, options=options) for stage, choice in choices
        }
    answer.buffer.write(pickle.dumps(sampled))


if __name__ == "__main__":
    main()
