"""The engine's benchmark runs, at a toy size, and refuses to time what does not agree."""

import pandas as pd
import pytest

from benchmarks.speed import engine


@pytest.mark.parametrize("part", ["agreement", "families", "time", "rivals", "crossover", "bits", "wait"])
def test_every_part_runs_at_a_toy_size(part, capsys):
    engine.main([part, "--toy"])
    assert len(capsys.readouterr().out.splitlines()) > 3


@pytest.mark.slow
def test_memory_is_measured_in_a_process_of_its_own(capsys):
    engine.main(["memory", "--toy"])
    assert "MB" in capsys.readouterr().out


def test_figures_are_kept_part_by_part(tmp_path, capsys):
    for part in ("crossover", "families", "crossover"):
        engine.main([part, "--toy", "--save", "--folder", str(tmp_path)])
    kept = pd.read_csv(tmp_path / engine.FIGURES)
    assert list(kept.columns) == [*engine.Figure._fields, "machine"]
    assert set(kept["part"]) == {"crossover", "families"}
    assert not kept.duplicated(["part", "case", "deals", "draws", "measure"]).any()
    assert (kept["value"] > 0).all()
    assert (tmp_path / engine.PICTURE).stat().st_size > 0


@pytest.mark.slow
def test_every_family_agrees_at_a_million_paths(capsys):
    engine.main(["families"])
    assert "over all cases" in capsys.readouterr().out
