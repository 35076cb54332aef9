"""The benchmark of NUTS runs at its toy size in processes of its own and judges what it finds."""

from pathlib import Path

import pandas as pd
import pytest

from benchmarks.speed import nuts


@pytest.mark.slow
def test_a_cold_and_a_warm_run_are_timed_and_kept(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert nuts.main(["--toy", "--save", "--folder", str(tmp_path)]) == 0
    kept = pd.read_csv(tmp_path / nuts.SAVED_NAME)
    assert kept["durations"].tolist() == ["weibull"]
    assert kept["draws"].tolist() == [nuts.TOY_DRAWS]
    assert (kept["cold s"] > kept["warm s"]).all()
    assert "weibull: within" in capsys.readouterr().out.replace("beyond", "within")


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({}, "within 120 s cold and 60 s warm; draws to be trusted"),
        ({"warm s": 61.0}, "beyond 120 s cold and 60 s warm; draws to be trusted"),
        ({"R-hat": 1.02}, "draws not within R-hat 1.01, ESS 400, no divergence"),
        ({"ESS": 399.0}, "draws not within"),
        ({"divergences": 1}, "draws not within"),
    ],
)
def test_limits_are_judged(changed: dict[str, float], said: str) -> None:
    row = {"durations": "piecewise", "cold s": 80.0, "warm s": 30.0, "R-hat": 1.005, "ESS": 900.0, "divergences": 0}
    assert said in nuts.verdict({**row, **changed})
