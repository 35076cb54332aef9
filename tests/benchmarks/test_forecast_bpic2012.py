"""The benchmark of the whole command runs at toy size."""

import pytest

from benchmarks import forecast_bpic2012


def test_toy_size_forecasts_the_sample_data(capsys: pytest.CaptureFixture[str]) -> None:
    assert forecast_bpic2012.main(["--toy"]) == 0
    printed = capsys.readouterr().out
    assert "exit code 0" in printed
    assert "80 % range" in printed
