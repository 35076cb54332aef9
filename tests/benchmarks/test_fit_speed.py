"""The benchmark of the fit runs at its toy size; counting in DuckDB is counting."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks.speed import fit
from models.history import STILL_OPEN, count_stays


def test_every_size_and_the_comparison_are_printed_and_kept(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert fit.main(["--toy", "--save", "--folder", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    for name in ("deals", "counting s", "peak MB", "single stays s", "fast inference", "NUTS, 20 draws"):
        assert name in printed
    kept = pd.read_csv(tmp_path / fit.SAVED_NAME)
    assert kept["deals"].tolist() == [300]
    assert 50 < kept["peak MB"].iloc[0] < 4096
    compared = pd.read_csv(tmp_path / fit.COMPARED_NAME)
    assert compared["times"].to_numpy() == pytest.approx(compared["single stays s"] / compared["counts s"], rel=1e-2)


def test_counts_are_those_of_the_stays(tmp_path: Path) -> None:
    stays = fit.simulated_stays(500, seed=3)
    stays.to_parquet(tmp_path / "stays.parquet")
    pd.testing.assert_frame_equal(fit.counted(tmp_path / "stays.parquet").counts, count_stays(stays))


def test_the_chain_is_the_one_described() -> None:
    stays = fit.simulated_stays(20_000, seed=3)
    assert (stays["days"] <= fit.SPAN).all()
    late = stays[(stays["stage"] == 3) & (stays["next"] != STILL_OPEN)]
    assert (late["next"] == fit.GRAPH.won_codes[0]).mean() == pytest.approx(fit.ONWARD, abs=0.03)
    assert (late["next"] == 2).mean() == pytest.approx(fit.BACK, abs=0.03)
    first = stays[(stays["stage"] == 0) & (stays["cell"] == 1) & (stays["next"] != STILL_OPEN)]
    assert np.median(first["days"]) == pytest.approx(fit.SCALE[0] * np.log(2) ** (1 / fit.SHAPE[0]), abs=1.0)


def test_the_fit_of_single_stays_has_a_row_for_each() -> None:
    from models.stage_model.data import stage_data

    data = stage_data(fit._history(count_stays(fit.simulated_stays(200, seed=3))), 0)
    alone = fit.single_stays(data)
    assert len(alone.days) == data.count.sum() == alone.n_groups
    assert np.array_equal(np.bincount(alone.days), np.bincount(data.days, weights=data.count).astype(int))
