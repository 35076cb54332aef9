"""The accuracy benchmarks run at their toy size."""

import pytest

from benchmarks.accuracy import open_deals, shocks


def test_open_deals_prints_every_step_beside_every_rule(capsys: pytest.CaptureFixture[str]) -> None:
    assert open_deals.main(["--toy"]) == 0
    printed = capsys.readouterr().out
    for name in (
        "chain",
        "+ amount effect",
        "+ levels and own past errors",
        "landmark_by_week",
        "run_rate",
        "all pipelines together",
    ):
        assert name in printed


def test_shocks_compare_every_recipe_with_the_oracle(capsys: pytest.CaptureFixture[str]) -> None:
    assert shocks.main(["--toy"]) == 0
    printed = capsys.readouterr().out
    for name in ("no shock", "log-sd .3", "+ levels", "oracle"):
        assert name in printed
