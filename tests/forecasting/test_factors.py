"""Numbers cut into classes: enough deals in each, equal shares of weight where deals allow it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forecasting.data.factors import (
    ANY_NUMBER,
    MISSING_NUMBER,
    amount_factor,
    as_levels,
    category_factor,
    distinct_cells,
    is_number,
    level_codes,
    number_factor,
)
from models.history import UNSEEN_LEVEL


@pytest.mark.parametrize("n", [0, 1, 59, 119])
def test_too_few_deals_make_one_class(n: int) -> None:
    factor = number_factor("amount", np.arange(float(n)))
    assert factor.levels == (ANY_NUMBER,)
    assert is_number(factor)
    assert level_codes(factor, np.array([-1e9, 5.0, np.nan])).tolist() == [0, 0, UNSEEN_LEVEL]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(120, 2000), st.floats(0.1, 3))
def test_every_class_has_enough_deals_and_not_too_many_are_there(seed: int, n: int, spread: float) -> None:
    amounts = np.exp(spread * np.random.default_rng(seed).standard_normal(n)) * 1e4
    for factor, most, least in (
        (number_factor("seats", amounts), 5, 60),
        (amount_factor("amount", amounts, lacking_tells=True), 8, 20),
    ):
        counts = np.bincount(level_codes(factor, amounts), minlength=len(factor.levels))
        assert len(factor.levels) <= most
        assert len(set(factor.levels)) == len(factor.levels)
        assert counts.min() >= least
        assert list(factor.edges) == sorted(factor.edges)


def test_with_many_deals_the_classes_share_the_weight_equally() -> None:
    amounts = np.exp(np.random.default_rng(1).standard_normal(50_000)) * 1e4
    codes = level_codes(amount_factor("amount", amounts, lacking_tells=True), amounts)
    shares = np.bincount(codes, weights=np.sqrt(amounts)) / np.sqrt(amounts).sum()
    np.testing.assert_allclose(shares, 0.125, atol=0.01)  # the cut points are rounded to three digits
    shares = np.bincount(level_codes(number_factor("seats", amounts), amounts)) / len(amounts)
    np.testing.assert_allclose(shares, 0.2, atol=0.01)


def test_classes_lie_on_a_line_and_what_is_no_number_on_none() -> None:
    amounts = np.append(np.exp(np.random.default_rng(1).standard_normal(4000)) * 1e4, [0.0, np.nan])
    factor = amount_factor("amount", amounts, lacking_tells=True)
    assert (factor.levels[0], factor.levels[-1]) == ("0", MISSING_NUMBER)
    assert (factor.places[0], factor.places[-1]) == (None, None)
    place = np.array(factor.places[1:-1], dtype=np.float64)
    assert (np.diff(place) > 0.0).all()
    assert (place.mean(), place.std()) == pytest.approx((0.0, 1.0))
    # straight in the log of the amount: of a log-normal, the middle of a class is where its mean log is
    logs, codes = np.log(amounts[:-2]), level_codes(factor, amounts)[:-2]
    means = np.array([logs[codes == code].mean() for code in range(1, len(factor.levels) - 1)])
    assert np.corrcoef(place, means)[0, 1] == pytest.approx(1.0)
    assert amount_factor("amount", amounts[-22:], lacking_tells=True).places == ()


def test_missing_numbers_are_the_last_level() -> None:
    values = np.append(np.arange(200.0), [np.nan, np.nan])
    factor = number_factor("seats", values)
    assert factor.levels[-1] == MISSING_NUMBER
    assert level_codes(factor, values)[-2:].tolist() == [len(factor.levels) - 1] * 2
    assert len(factor.levels) == len(factor.edges) + 2


def test_categories_are_sorted_texts_and_unknown_ones_unseen() -> None:
    factor = category_factor("plan", np.array(["b", None, "a", "b"], dtype=object))
    assert factor.levels == ("(missing)", "a", "b")
    assert level_codes(factor, as_levels(np.array(["a", "c", None], dtype=object))).tolist() == [1, UNSEEN_LEVEL, 0]
    assert as_levels(np.array([2026.0, 1.5, np.nan])).tolist() == ["2026", "1.5", "(missing)"]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(-1, 3), st.integers(-1, 200), st.integers(0, 1)), max_size=50))
def test_distinct_cells_are_the_distinct_rows(rows: list[tuple[int, int, int]]) -> None:
    codes = np.array(rows, dtype=np.int32).reshape(len(rows), 3)
    cells, place = distinct_cells(codes)
    if rows:
        np.testing.assert_array_equal(cells, np.unique(codes, axis=0))
        np.testing.assert_array_equal(cells[place], codes)


def test_without_factors_there_is_one_cell() -> None:
    cells, place = distinct_cells(np.zeros((3, 0), dtype=np.int32))
    assert cells.shape == (1, 0)
    assert place.tolist() == [0, 0, 0]
