"""The amount model against its closed forms, planted truths and the laws of its record."""

import json

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from models.amounts import (
    ALL_WON,
    BORROWED_LOG_SD,
    MAX_CHANGE_SD,
    MAX_LOG_RATIO,
    MIN_POOL,
    PRIOR_SAME,
    STAGE_WEIGHT,
    AmountPosterior,
    fit_amounts,
    pool_label,
)
from models.errors import EmptyInputError, InputError, SettingsError

DRAWS = 4000
NOTHING_KNOWN = pd.DataFrame({"deal_id": pd.Series(dtype=str), "stage": pd.Series(dtype=int), "amount": []})
NO_ARRIVALS = pd.DataFrame({"deal_id": pd.Series(dtype=str), "cell": pd.Series(dtype=int), "amount": []})


def won_deals(amounts: np.ndarray, segment: str = "") -> pd.DataFrame:
    ids = [f"{segment}{place}" for place in range(len(amounts))]
    return pd.DataFrame({"deal_id": ids, "amount": amounts, "segment": segment})


def planted(n: int, *, same: float, mean: float, sd: float, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Deals with one stay in stage 0 whose amounts change as stated."""
    rng = np.random.default_rng(seed)
    final = rng.lognormal(9, 1, n)
    ratio = np.where(rng.random(n) < same, 1.0, np.exp(rng.normal(mean, sd, n)))
    won = won_deals(final)
    return won, pd.DataFrame({"deal_id": won["deal_id"], "stage": 0, "amount": final / ratio})


def fit(
    known: pd.DataFrame, won: pd.DataFrame, arrivals: pd.DataFrame = NO_ARRIVALS, n_stages: int = 1
) -> AmountPosterior:
    return fit_amounts(known, won, arrivals, n_stages=n_stages, draws=DRAWS, seed=7)


def test_planted_changes_are_recovered() -> None:
    won, known = planted(3000, same=0.7, mean=0.1, sd=0.25, seed=1)
    fitted = fit(known, won)
    assert fitted.same_probability.mean() == pytest.approx(0.7, abs=0.03)
    assert fitted.log_ratio_mean.mean() == pytest.approx(0.1, abs=0.03)
    assert fitted.log_ratio_sd.mean() == pytest.approx(0.25, abs=0.02)


def test_the_posterior_covers_planted_changes() -> None:
    """Hits of 80 % intervals over forty histories, inside the central 99.8 % of the binomial."""
    low, high = stats.binom.ppf([0.001, 0.999], 40, 0.8)
    hits = np.zeros(3)
    for seed in range(40):
        won, known = planted(400, same=0.8, mean=-0.1, sd=0.3, seed=100 + seed)
        fitted = fit(known, won)
        for place, (draws, truth) in enumerate(
            [(fitted.same_probability, 0.8), (fitted.log_ratio_mean, -0.1), (fitted.log_ratio_sd, 0.3)]
        ):
            lower, upper = np.quantile(draws[:, 0], [0.1, 0.9])
            hits[place] += lower <= truth <= upper
    assert ((hits >= low) & (hits <= high)).all(), hits


def test_one_stage_is_conjugate() -> None:
    """With one stage P(unchanged) is a Beta around a Beta: the mean is known exactly."""
    won = won_deals(np.full(30, 100.0))
    known = pd.DataFrame({"deal_id": won["deal_id"], "stage": 0, "amount": [100.0] * 18 + [80.0] * 12})
    prior = PRIOR_SAME[0] / sum(PRIOR_SAME)
    exact = (STAGE_WEIGHT * prior + 18) / (STAGE_WEIGHT + 30)
    assert fit(known, won).same_probability.mean() == pytest.approx(exact, abs=0.005)


def test_without_amounts_per_entry_the_prior_stays() -> None:
    fitted = fit(NOTHING_KNOWN, won_deals(np.array([100.0, 200.0])), n_stages=3)
    assert fitted.same_probability.shape == (DRAWS, 3)
    assert fitted.same_probability.mean() == pytest.approx(PRIOR_SAME[0] / sum(PRIOR_SAME), abs=0.01)
    expected_factor = np.exp(fitted.log_ratio_mean + fitted.log_ratio_sd**2 / 2.0)
    np.testing.assert_allclose(expected_factor, 1.0, rtol=1e-12)


def test_a_stage_with_few_changes_leans_on_the_others() -> None:
    won, known = planted(2000, same=0.2, mean=0.5, sd=0.1, seed=3)
    lonely = known.iloc[:2].assign(stage=1)
    fitted = fit(pd.concat([known, lonely]), won, n_stages=2)
    assert fitted.same_probability[:, 1].mean() < 0.45
    assert fitted.log_ratio_mean[:, 1].mean() == pytest.approx(0.5, abs=0.1)
    assert fitted.same_probability[:, 1].std() > 3 * fitted.same_probability[:, 0].std()


def test_absurd_changes_are_held_in() -> None:
    won = won_deals(np.full(50, 1e9))
    known = pd.DataFrame({"deal_id": won["deal_id"], "stage": 0, "amount": 1.0})
    assert fit(known, won).log_ratio_mean.mean() < MAX_LOG_RATIO


def test_unknown_and_zero_amounts_tell_nothing_of_changes() -> None:
    won = won_deals(np.full(4, 100.0))
    known = pd.DataFrame({"deal_id": won["deal_id"], "stage": 0, "amount": [np.nan, np.nan, 0.0, 0.0]})
    silent = fit(NOTHING_KNOWN, won)
    np.testing.assert_array_equal(fit(known, won).same_probability, silent.same_probability)


def pooled(fitted: AmountPosterior, group: int) -> np.ndarray:
    return fitted.pool[fitted.pool_start[group] : fitted.pool_start[group + 1]]


def test_missing_amounts_take_the_most_alike_pool() -> None:
    north, south = won_deals(np.full(MIN_POOL, 10.0), "North"), won_deals(np.full(MIN_POOL - 1, 99.0), "South")
    won = pd.concat([north, south], ignore_index=True)
    known = pd.concat([won[["deal_id"]].assign(stage=stage, amount=np.nan) for stage in (0, 1)])
    fitted = fit(known, won, n_stages=3)
    label = fitted.group_labels.__getitem__
    assert label(fitted.missing_group("North", 1)) == pool_label(segment="North", stage=1)
    assert label(fitted.missing_group("South", 1)) == pool_label(stage=1)
    assert label(fitted.missing_group("North", 2)) == pool_label(segment="North")
    assert label(fitted.missing_group("South", 2)) == ALL_WON
    np.testing.assert_array_equal(pooled(fitted, fitted.missing_group("North", 0)), np.full(MIN_POOL, 10.0))


def test_new_deals_take_the_amounts_of_their_cell() -> None:
    won = won_deals(np.repeat([10.0, 500.0], [MIN_POOL, 1]))
    arrivals = won.assign(cell=np.repeat([0, 1], [MIN_POOL, 1]))[["deal_id", "cell", "amount"]]
    unwon = pd.DataFrame({"deal_id": [f"x{i}" for i in range(MIN_POOL)], "cell": 1, "amount": 400.0})
    fitted = fit(NOTHING_KNOWN, won, pd.concat([arrivals, unwon]))
    own, borrowed = fitted.arrival_group("", 0), fitted.arrival_group("", 1)
    assert set(pooled(fitted, own)) == {10.0}
    assert set(pooled(fitted, borrowed)) == {400.0, 500.0}
    assert fitted.pool_log_scale[:, borrowed].std() > BORROWED_LOG_SD
    assert fitted.group_labels[fitted.arrival_group("", 9)] == pool_label(segment="")


def test_new_deals_of_a_thin_cell_take_the_amounts_of_their_class() -> None:
    """Twenty owners with four deals each, one of them big: no owner tells what big deals are worth, their class does."""
    n = 20
    won = won_deals(np.tile([10.0, 10.0, 10.0, 900.0], n))
    big = np.tile([0, 0, 0, 1], n)
    arrivals = won.assign(cell=2 * np.repeat(np.arange(n), 4) + big, amount_class=big)
    fitted = fit(NOTHING_KNOWN, won, arrivals)
    assert set(pooled(fitted, fitted.arrival_group("", 1, amount_class=1))) == {900.0}
    assert set(pooled(fitted, fitted.arrival_group("", 0, amount_class=0))) == {10.0}
    assert fitted.group_labels[fitted.arrival_group("", 99)] == pool_label(segment="")


def test_what_is_entered_as_won_has_a_pool_of_its_own_and_is_in_no_other() -> None:
    """Open deals without an amount, and leads, are worth what deals that went through stages were."""
    won = pd.concat([won_deals(np.full(30, 10.0), "s"), won_deals(np.full(60, 900.0), "d").assign(segment="s")])
    arrivals = won.assign(stage=np.repeat([0, 1], [30, 60]), cell=np.repeat([0, 0, 1], [30, 30, 30]))
    fitted = fit(NOTHING_KNOWN, won, arrivals)
    for group in (fitted.missing_group("s", 0), fitted.arrival_group("s", 0), fitted.arrival_group("s", 9)):
        assert set(pooled(fitted, group)) == {10.0}
    for cell in (0, 1, 9):
        assert set(pooled(fitted, fitted.arrival_group("s", cell, at_once=True))) == {900.0}
    alone = fit(NOTHING_KNOWN, won.iloc[30:], arrivals.iloc[30:])
    assert set(pooled(alone, alone.missing_group("s", 0))) == {900.0}


@pytest.mark.parametrize("own", [5, 12, 19])
def test_a_few_own_amounts_weigh_what_they_are_of_a_pool_and_make_it_wider(own: int) -> None:
    won = won_deals(np.random.default_rng(4).lognormal(3, 1, 1000))
    few = pd.DataFrame({"deal_id": [f"x{i}" for i in range(own)], "cell": 1, "amount": 5e4})
    fitted = fit(NOTHING_KNOWN, won, pd.concat([won.assign(cell=0), few]))
    group = fitted.arrival_group("", 1)
    share = own / MIN_POOL
    assert fitted.group_labels[group] == pool_label(cell=1)
    assert pooled(fitted, group).mean() == pytest.approx(share * 5e4 + (1 - share) * won["amount"].mean(), rel=0.04)
    assert fitted.pool_log_scale[:, group].std() > BORROWED_LOG_SD
    assert np.exp(fitted.pool_log_scale[:, group]).mean() == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize("n", [5, 50, 500])
def test_pool_factor_has_mean_one_and_the_uncertainty_of_a_mean(n: int) -> None:
    amounts = np.random.default_rng(2).lognormal(8, 0.8, n)
    factor = np.exp(fit(NOTHING_KNOWN, won_deals(amounts)).pool_log_scale[:, 0])
    error = amounts.std() / amounts.mean() / np.sqrt(n)
    assert factor.mean() == pytest.approx(1, abs=5 * error / np.sqrt(DRAWS))
    assert factor.std() == pytest.approx(error, rel=0.06)


def test_saved_and_loaded_is_the_same() -> None:
    won, known = planted(60, same=0.5, mean=0, sd=0.2, seed=5)
    fitted = fit(known, won)
    arrays, meta = fitted.to_arrays()
    again = AmountPosterior.from_arrays(arrays, json.loads(json.dumps(meta)))
    assert again.group_labels == fitted.group_labels
    for name, values in arrays.items():
        np.testing.assert_array_equal(getattr(again, name), values)


def test_seeds_reproduce() -> None:
    won, known = planted(60, same=0.5, mean=0, sd=0.2, seed=5)
    one, two = fit(known, won), fit(known, won)
    other = fit_amounts(known, won, NO_ARRIVALS, n_stages=1, draws=DRAWS, seed=8)
    np.testing.assert_array_equal(one.log_ratio_sd, two.log_ratio_sd)
    assert (one.log_ratio_sd != other.log_ratio_sd).any()


def test_before_the_first_win_amounts_are_borrowed_from_all_deals() -> None:
    known = pd.DataFrame({"deal_id": ["a", "a", "b"], "stage": [0, 0, 0], "amount": [100.0, 120.0, np.nan]})
    arrivals = pd.DataFrame({"deal_id": ["a", "b", "c"], "cell": [0, 0, 0], "amount": [90.0, np.nan, 400.0]})
    nobody_won = won_deals(np.array([np.nan]))
    fitted = fit_amounts(known, nobody_won, arrivals, n_stages=1, draws=DRAWS, seed=7)
    assert sorted(pooled(fitted, 0)) == [120.0, 400.0]
    assert fitted.pool_log_scale[:, 0].std() > BORROWED_LOG_SD
    np.testing.assert_allclose(fitted.same_probability.mean(), 0.95, atol=0.01)


def test_no_amount_at_all_is_named() -> None:
    with pytest.raises(EmptyInputError, match="no deal has an amount"):
        fit(NOTHING_KNOWN, won_deals(np.array([np.nan])))


def test_negative_amounts_are_named() -> None:
    with pytest.raises(InputError, match="must not be negative"):
        fit(NOTHING_KNOWN, won_deals(np.array([-1.0])))


def test_an_empty_group_is_refused() -> None:
    one = np.ones((1, 1))
    with pytest.raises(SettingsError, match="at least one amount"):
        AmountPosterior(one, one, one, np.array([]), np.array([0, 0]), one, (ALL_WON,))


def test_no_change_is_drawn_beyond_those_learned_from() -> None:
    """A single change leaves its size nearly free: the mean factor of a win must stay finite all the same."""
    won = pd.DataFrame({"deal_id": list("abcdef"), "amount": [100.0] * 5 + [90.0], "segment": ""})
    known = pd.DataFrame({"deal_id": list("abcdef"), "stage": 0, "amount": 100.0})
    arrivals = pd.DataFrame({"deal_id": list("abcdef"), "cell": 0, "amount": 100.0})
    amounts = fit_amounts(known, won, arrivals, n_stages=3, draws=50_000, seed=1)
    assert amounts.log_ratio_sd.max() <= MAX_CHANGE_SD
    assert np.abs(amounts.log_ratio_mean).max() <= MAX_LOG_RATIO
