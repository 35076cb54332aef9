"""The engine's benchmark runs, at a toy size, and refuses to time what does not agree."""

import pytest

from benchmarks.speed import engine


@pytest.mark.parametrize("part", ["agreement", "time", "rivals", "crossover", "bits"])
def test_every_part_runs_at_a_toy_size(part, capsys):
    engine.main([part, "--toy"])
    assert len(capsys.readouterr().out.splitlines()) > 3


@pytest.mark.slow
def test_memory_is_measured_in_a_process_of_its_own(capsys):
    engine.main(["memory", "--toy"])
    assert "MB" in capsys.readouterr().out
