"""What tells deals apart, as known at a date: segments and covariates as factors, and the level of every deal in each.

Of columns the deals table keeps no history: for past dates they are today's values. Two things could pass for knowledge
then. A column overwritten when deals close is refused. A value that is filled in or cleared as deals move tells nothing by
being lacking: such deals are spread over the levels of the others, see :mod:`forecasting.data.lacking`.
"""

from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from forecasting.data.deals import Deals
from forecasting.data.factors import (
    CENT,
    MIN_CLASS_DEALS,
    MISSING_LEVEL,
    MISSING_NUMBER,
    ZERO,
    amount_factor,
    as_dates,
    as_levels,
    category_factor,
    is_number,
    level_codes,
    number_factor,
    spread_codes,
)
from forecasting.data.known_entries import KnownEntries
from models.errors import SettingsError
from models.history import UNSEEN_LEVEL, Factor

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

AMOUNT, LOG_AMOUNT, LOOPED = "amount", "log_amount", "looped"
"""Covariates that are not columns: the amount known at the time (cut into classes, so its log is the same), and whether
the deal had been in the stage or a later one before."""
OVERWRITTEN = 1 / 3
"""Part of the closed deals whose date is that of closing, beyond which it is not what was expected of them before."""
TOLD, MIN_LEVEL_DEALS = 0.99, 20
"""Part of the closed deals, in levels of so many, that no covariate known beforehand tells won from lost."""
_LOOPED_FACTOR = Factor(LOOPED, ("no", "yes"))


def distinct_names(names: Sequence[str], what: str) -> tuple[str, ...]:
    """Names of columns as the factors have them, each once."""
    given = (names,) if isinstance(names, str) else tuple(names)
    if len(set(given)) < len(given):
        raise SettingsError(f"{what} names a column twice: {', '.join(given)}")
    return tuple(AMOUNT if name == LOG_AMOUNT else name for name in given)


def check_columns(deals: Deals, *, segment: Sequence[str], covariates: Sequence[str]) -> None:
    """Raise a SettingsError where a segment or a covariate is not among the columns of the deals, or is both."""
    columns = [name for name in deals.deals.columns if name not in {"deal_id", "created_on", "amount"}]
    for what, names, known in (
        ("segment", segment, columns),
        ("covariates", covariates, [*columns, AMOUNT, LOG_AMOUNT, LOOPED]),
    ):
        for name in names:
            if name not in known:
                close = get_close_matches(name, known, n=1)
                hint = f"; did you mean {close[0]!r}?" if close else ""
                raise SettingsError(
                    f"{what}: the deals have no column {name!r}; there are {', '.join(known) or 'none'}{hint}"
                )
    twice = sorted(set(segment) & set(covariates))
    if twice:
        raise SettingsError(f"{', '.join(twice)} cannot be a segment and a covariate at once; name it in one of them")


def factors_of(
    deals: Deals,
    known: KnownEntries,
    segment: tuple[str, ...],
    covariates: tuple[str, ...],
    *,
    untold: tuple[str, ...],
) -> tuple[Factor, ...]:
    """Levels and classes of the deals known at the date.

    Parameters
    ----------
    deals : Deals
    known : KnownEntries
    segment, covariates : tuple of str
        As :func:`distinct_names` gives them.
    untold : tuple of str
        Names whose lack tells nothing: it has no level.
    """
    found = []
    for name in (*segment, *covariates):
        if name == LOOPED:
            found.append(_LOOPED_FACTOR)
        elif name == AMOUNT:
            found.append(amount_factor(AMOUNT, known.amount[known.last], lacking_tells=AMOUNT not in untold))
        else:
            values, missing = _values(deals, known, name, as_text=name in segment), lacking(deals, known, name)
            make = number_factor if values.dtype.kind == "f" else category_factor
            factor = make(name, values)
            _check_not_overwritten(deals, known, name, level_codes(factor, _comparable(values)))
            found.append(make(name, values[~missing]) if name in untold else factor)
    return tuple(found)


def lacking(deals: Deals, known: KnownEntries, name: str) -> Bools:
    """Known deals without a value of a column, in order."""
    return np.zeros(len(known.last), dtype=bool) if name == LOOPED else np.asarray(pd.isna(_column(deals, known, name)))


def has_level_for_lacking(factor: Factor) -> bool:
    """Whether deals that lack the factor's value have a level of their own."""
    if is_number(factor):
        return factor.levels[-1] == MISSING_NUMBER or (factor.name == AMOUNT and factor.levels[0] == ZERO)
    return MISSING_LEVEL in factor.levels


def codes_of(
    deals: Deals, known: KnownEntries, factors: tuple[Factor, ...], rows: Ints, looped: Bools
) -> NDArray[np.int32]:
    """Level codes [row, factor] as known at the given entries.

    Deals that lack a value for which the factor has no level are spread over its levels as the others are; where no deal
    is in any of them, they are of an unseen one.
    """
    codes = np.zeros((len(rows), len(factors)), dtype=np.int32)
    place = np.searchsorted(known.last, rows)  # of the deal among the known ones
    for column, factor in enumerate(factors):
        if factor.name == LOOPED:
            codes[:, column] = looped
            continue
        if factor.name == AMOUNT:
            now, then = (_amount_codes(factor, known.amount[entries]) for entries in (known.last, rows))
            without = then == UNSEEN_LEVEL
        else:
            values = (_numbers if is_number(factor) else _texts)(deals, known, factor.name)
            now = level_codes(factor, _comparable(values))
            then = now[place]
            without = lacking(deals, known, factor.name)[place] & (then == UNSEEN_LEVEL)
        weights = np.bincount(now[now != UNSEEN_LEVEL], minlength=len(factor.levels)).astype(np.float64)
        codes[:, column] = np.where(without & weights.any(), spread_codes(place, weights), then)
    return codes


def _amount_codes(factor: Factor, amount: NDArray[np.float64]) -> NDArray[np.int32]:
    """Classes of amounts, ``UNSEEN_LEVEL`` where there is none, or nothing, without a level for it."""
    codes = level_codes(factor, amount)
    return codes if factor.levels[0] == ZERO else np.where(amount < CENT, np.int32(UNSEEN_LEVEL), codes)


def _column(deals: Deals, known: KnownEntries, name: str) -> NDArray[Any]:
    return np.asarray(deals.deals[name].to_numpy()[known.deal[known.last]])


def _texts(deals: Deals, known: KnownEntries, name: str) -> NDArray[Any]:
    return _column(deals, known, name).astype(object)


def _values(deals: Deals, known: KnownEntries, name: str, *, as_text: bool) -> NDArray[Any]:
    """Values of a column of the known deals: numbers if all that are given are numbers or all dates, else as they are."""
    texts = _texts(deals, known, name)
    if as_text:
        return texts
    numbers = _numbers(deals, known, name)
    return texts if np.isnan(numbers).all() or (np.isnan(numbers) & pd.notna(texts)).any() else numbers


def _comparable(values: NDArray[Any]) -> NDArray[Any]:
    return values if values.dtype.kind == "f" else as_levels(values)


def _numbers(deals: Deals, known: KnownEntries, name: str) -> NDArray[np.float64]:
    """Take a column as numbers, dates as days since the deal was created; NaN where it is neither."""
    column = pd.Series(_column(deals, known, name))
    numbers = pd.to_numeric(column, errors="coerce").to_numpy(dtype=np.float64)
    if column.dtype.kind != "M" and not np.isnan(numbers).all():
        return numbers
    days = as_dates(column).to_numpy() - _column(deals, known, "created_on")
    return np.asarray(days / np.timedelta64(1, "D"), dtype=np.float64)


def _check_not_overwritten(deals: Deals, known: KnownEntries, name: str, level: NDArray[np.int32]) -> None:
    """Raise a SettingsError where a column of closed deals is what became of them, by its ``level`` of each known deal.

    A date is the day of closing, or levels tell won from lost nearly without fail.
    """
    stage = known.stage[known.last]
    closed = np.flatnonzero(stage >= deals.graph.n_open)
    if len(closed) < MIN_CLASS_DEALS:
        return
    last = known.last[closed]
    dates = as_dates(pd.Series(deals.deals[name].to_numpy()[known.deal[last]])).to_numpy()
    same = float((dates == known.day[last].astype("datetime64[D]")).mean())
    won = stage[closed] < deals.graph.n_open + len(deals.graph.won)
    by_level = np.stack([np.bincount(level[closed], which) for which in (won, ~won)])
    common = by_level[:, by_level.sum(axis=0) >= MIN_LEVEL_DEALS]
    told = 1.0 - common.min(axis=0).sum() / max(common.sum(), 1.0)
    if same > OVERWRITTEN:
        what = f"is the very day of closing in {same:.0%}"
    elif told >= TOLD and common.sum() > 0.8 * len(closed) and common.sum(axis=1).min() > 0.1 * common.sum():
        what = f"tells won from lost in {told:.1%}"
    else:
        return
    raise SettingsError(
        f"segment or covariates: {name} {what} of closed deals: it was filled in or overwritten when they closed, which tells "
        "the past what came and open deals nothing; leave it out, or bring it as it was when the deal was created"
    )
