"""The selling calendar in some milliseconds: how many usual days the coming ones count for winning, as of many past dates.

The same belief as :mod:`models.calendar` in its cheapest form. The weight of a date is a level times a factor for each
class the date belongs to (its weekday, a holiday, the selling days left in its month and quarter); wins by date are
compared with their mean over a quarter around the date, and a factor is

    f = mean over k of (seen + k) / (expected + k),   both over the luck of a day beyond Poisson,

k wins standing for a factor of one, weighed by the gamma-Poisson evidence. It exists so that a forecast on a calendar
looks back at past forecasts that were made on it too.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from forecasting.proof.shrinkage import log_evidence
from forecasting.proof.stay_table import KnownStays
from models.calendar.days import NO_CLASS, day_classes
from models.calendar.expected import mean_around
from models.calendar.model import LARGEST_WEIGHT, SMALLEST_WEIGHT, without_rare_ends

Floats = NDArray[np.float64]

AROUND_DAYS = 91
"""Days whose mean is what a date would bring if all weighed alike: whole weeks, and three period ends."""
PRIOR_WINS = np.array([1.0, 4.0, 12.0, 40.0, 150.0, 1000.0])
"""Wins that a factor of one counts for; the data weigh these by their gamma-Poisson evidence."""
MOST_ROUNDS, SETTLED = 400, 1e-3
"""Rounds in which factors, level and luck follow each other, until no weight moves by more than ``SETTLED``: a short history
lingers for a hundred before it does."""


def win_weights(known: KnownStays, *, days: int) -> Floats:
    """Weight for winning of each day from the first of the history to so many after the last.

    Parameters
    ----------
    known : KnownStays
        All that was known at the end of a day.
    days : int
        Days ahead.

    Returns
    -------
    ndarray of float64, shape (age in days + days,)
        One on an average day of the past; ones where there is no calendar, or nothing has been won yet.
    """
    date = np.arange(known.first_day, known.as_of + 1 + days).astype("datetime64[D]")
    if not known.calendar.parts:
        return np.ones(len(date))
    won_on = known.left[known.ended_in_win & (known.left >= known.first_day)]
    if not len(won_on):
        return np.ones(len(date))
    classes, age = day_classes(known.calendar, date), known.age_days
    seen = np.bincount(won_on - known.first_day, minlength=age).astype(np.float64)
    past = without_rare_ends(classes[:age], date[:age])
    factor = _learned(past, seen, mean_around(seen, AROUND_DAYS), len(known.calendar.classes))
    weight = np.clip(_product(factor, classes), SMALLEST_WEIGHT, LARGEST_WEIGHT)
    return np.asarray(weight / weight[:age].mean())


def progress(known: KnownStays, weight: Floats) -> Floats:
    """Usual days that have passed for winning by the end of the coming days 0, 1, ..., from :func:`win_weights`."""
    return np.concatenate([[0.0], np.cumsum(weight[known.age_days :])])


def _learned(classes: NDArray[np.int32], seen: Floats, expected: Floats, n_classes: int) -> Floats:
    """Factors that make wins expected and seen agree: of each class, then of being in none of a slot's, then the level."""
    alike, of_date = np.unique(classes, axis=0, return_inverse=True)
    sums = [
        np.bincount(of_date.reshape(-1), values) for values in (seen, expected, seen**2, seen * expected, expected**2)
    ]
    wins, usual, wins_squared, both, usual_squared = sums
    factor, slots = np.ones(n_classes + classes.shape[1] + 1), _with_none(alike, n_classes)
    weight = _product(factor, alike)
    for _ in range(MOST_ROUNDS):
        misses = wins_squared - 2.0 * weight * both + weight**2 * usual_squared
        luck = max(1.0, float(misses.sum() / (weight * usual).sum()))
        for slot in slots.T:
            counts = (wins, usual * _product(factor, alike))
            won, told = (np.bincount(slot, values, len(factor)) / luck for values in counts)
            factor = np.where(told > 0.0, _shrunk(won, told / factor), factor)
        factor[-1] *= float(seen.sum() / (usual * _product(factor, alike)).sum())
        before, weight = weight, _product(factor, alike)
        if np.abs(weight - before).max() < SETTLED:
            break
    return factor


def _product(factor: Floats, classes: NDArray[np.int32]) -> Floats:
    """Weights of dates, from factors as :func:`_learned` gives them."""
    n_classes = len(factor) - 1 - classes.shape[1]
    return np.asarray(factor[-1] * factor[_with_none(classes, n_classes)].prod(axis=1))


def _with_none(classes: NDArray[np.int32], n_classes: int) -> NDArray[np.int64]:
    """Classes, with one more for each slot of which a date is in none."""
    return np.where(classes == NO_CLASS, n_classes + np.arange(classes.shape[1]), classes)


def _shrunk(seen: Floats, expected: Floats) -> Floats:
    """Factors on the expected wins that the seen ones tell, shape (class,)."""
    prior = PRIOR_WINS[:, None]
    probability = softmax(log_evidence(seen, expected, prior), axis=0)
    return np.asarray((probability * (seen + prior) / (expected + prior)).sum(axis=0))
