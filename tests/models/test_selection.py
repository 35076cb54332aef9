"""The choice of a family: compressed equals uncompressed, and the truth is found."""

import arviz as az
import numpy as np
import pandas as pd
import pytest
from planted_stays import GRAPH, even_rates, planted_history
from scipy import stats

from models.history import StageHistory, count_stays
from models.stage_model.data import StageData, stage_data
from models.stage_model.selection import (
    COMPARED_SMOOTH,
    Extras,
    choose_family,
    elpd_of_stays,
    needed_extras,
    pooled,
    weighted_total,
)


def weibull_history(n: int, seed: int, *, same_day: float = 0.0, timer: bool = False) -> StageData:
    """Stays with whole days of a Weibull, optionally many on day 0 or a timer at day 30."""
    rng = np.random.default_rng(seed)
    days = np.floor(stats.weibull_min.rvs(1.6, scale=20.0, size=n, random_state=rng)).astype(int)
    days = np.where(rng.random(n) < same_day, 0, days)
    if timer:
        days = np.where(rng.random(n) < 0.4, 30, days)
    stays = pd.DataFrame({"cell": 0, "stage": 0, "next": 1 + 2 * (rng.random(n) < 0.5), "days": days})
    return stage_data(StageHistory(GRAPH, count_stays(stays), (), np.zeros((1, 0), dtype=np.int32)), 0)


def test_loo_with_multiplicities_equals_loo_of_single_stays() -> None:
    rng = np.random.default_rng(1)
    distinct = rng.normal(-2.0, 0.3, size=(400, 30)) + rng.normal(-1.0, 1.0, size=30)
    count = rng.integers(1, 9, 30)
    single = np.repeat(distinct, count, axis=1)
    elpd, se = weighted_total(elpd_of_stays(distinct), count)
    tree = az.from_dict({"posterior": {"x": np.zeros((1, 400))}, "log_likelihood": {"y": single[None]}})
    loo = az.loo(tree, pointwise=True, reff=1.0)
    assert elpd == pytest.approx(loo.elpd, rel=1e-10)
    assert se == pytest.approx(loo.se, rel=1e-10)


def test_stays_that_draws_agree_about_need_no_importance_sampling() -> None:
    from arviz_stats.base.array import array_stats
    from scipy.special import logsumexp

    rng = np.random.default_rng(2)
    terms = rng.normal(-2.0, 0.06, size=(400, 200)).T
    weights = array_stats.psislw(terms, r_eff=1.0)[0]
    smoothed = logsumexp(weights + terms, axis=-1) - logsumexp(weights, axis=-1)
    assert elpd_of_stays(terms.T) == pytest.approx(smoothed, abs=5e-4)


def test_mass_at_day_zero_only_where_the_data_ask() -> None:
    asked = needed_extras(pooled(weibull_history(800, 1, same_day=0.4)), "weibull")
    assert (asked.zero_mass, asked.idle) == (True, False)
    assert asked.text == " with a mass at day 0"
    assert needed_extras(pooled(weibull_history(800, 1)), "weibull") == Extras()


def test_a_timer_needs_the_piecewise_family() -> None:
    data = weibull_history(600, 2, timer=True)
    choice = choose_family(data, even_rates(data), np.random.default_rng(1))
    assert choice.comparison[0]["family"] == "piecewise"
    assert choice.reason.startswith("piecewise: predicts left-out stays better than")


def test_smooth_stays_choose_a_smooth_family_and_say_by_how_much() -> None:
    data = weibull_history(600, 3)
    choice = choose_family(data, even_rates(data), np.random.default_rng(1))
    rows = {row["family"]: row for row in choice.comparison}
    assert choice.comparison[0]["family"] != "piecewise"
    assert rows["weibull"]["elpd_diff"] > -3.0
    assert "lognormal" not in rows or rows["lognormal"]["elpd_diff"] < -2.0
    assert {"piecewise"} < set(rows)
    assert len(choice.comparison) == 1 + COMPARED_SMOOTH


def test_too_few_stays_are_not_compared() -> None:
    data = stage_data(planted_history(6, 1), 0)
    choice = choose_family(data, even_rates(data), np.random.default_rng(1))
    assert "too few to compare" in choice.reason
    assert choice.comparison == ()
