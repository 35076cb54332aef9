"""The benchmark of the calendar runs at its toy size; its deviance is the textbook's."""

import numpy as np
import pytest
from scipy.stats import poisson

from benchmarks.accuracy import calendar, open_deals


def test_every_score_is_printed_with_and_without_a_calendar(capsys: pytest.CaptureFixture[str]) -> None:
    assert calendar.main(["--toy"]) == 0
    printed = capsys.readouterr().out
    for name in ("none", "weekday", "dates: won", "dates: lost", "wins by date", "wins rms", "CRPS/actual", "80 %"):
        assert name in printed


def test_the_command_line_names_the_calendar_and_holidays_are_dutch() -> None:
    plain, full = (open_deals.on_calendar(open_deals.OPTIONS, named) for named in ("none", "weekday,holiday"))
    assert (plain.calendar, plain.holidays) == ((), None)
    assert (full.calendar, full.holidays) == (("weekday", "holiday"), "NL")


def test_deviance_is_twice_the_loss_of_log_likelihood_against_the_perfect_mean() -> None:
    seen, mean = np.array([0.0, 3.0, 7.0]), np.array([0.5, 4.0, 6.0])
    best = poisson.logpmf(seen, np.maximum(seen, 1e-12)).sum()
    assert calendar.deviance(seen, mean) == pytest.approx(2 * (best - poisson.logpmf(seen, mean).sum()), abs=1e-6)
