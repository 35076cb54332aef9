"""Numbers as people say them: money in thousands and millions, chances in percent, ranges, lists."""

import math
from collections.abc import Sequence
from datetime import date

_UNITS = ((1e9, "bn"), (1e6, "M"), (1e3, "k"))


def money(amount: float, currency: str | None = None) -> str:
    """Say an amount with three significant digits and a unit.

    Examples
    --------
    >>> money(1_234_567, "EUR"), money(12_500), money(950.4), money(0, "USD"), money(999_800)
    ('EUR 1.23M', '12.5k', '950', 'USD 0', '1.00M')
    """
    prefix = f"{currency} " if currency else ""
    if not math.isfinite(amount):
        return f"{prefix}unknown"
    sign, size = ("-", -amount) if amount < 0 else ("", amount)
    for unit, letter in _UNITS:
        if size >= 0.9995 * unit:
            scaled = size / unit
            digits = 2 if scaled < 9.995 else 1 if scaled < 99.95 else 0
            return f"{prefix}{sign}{scaled:,.{digits}f}{letter}"
    return f"{prefix}{sign}{size:,.0f}"


def chance(probability: float) -> str:
    """Say a probability in percent, never as certain: it comes from a model and finitely many draws.

    Examples
    --------
    >>> chance(0.624), chance(0.002), chance(1.0), chance(float("nan"))
    ('62%', 'under 1%', 'over 99%', 'unknown')
    """
    if not math.isfinite(probability):
        return "unknown"
    if probability < 0.005:
        return "under 1%"
    return "over 99%" if probability > 0.995 else f"{probability:.0%}"


def days(count: float) -> str:
    """Say a number of days; infinite means that they never come to an end.

    Examples
    --------
    >>> days(1), days(12.4), days(float("inf"))
    ('1 day', '12 days', 'never')
    """
    if not math.isfinite(count):
        return "never"
    rounded = round(count)
    return "1 day" if rounded == 1 else f"{rounded:,} days"


def plural(count: int, noun: str) -> str:
    """Say how many there are of a thing.

    Examples
    --------
    >>> plural(1, "deal"), plural(2400, "deal")
    ('1 deal', '2,400 deals')
    """
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def day(when: date) -> str:
    """Say a date so that nobody mixes up day and month.

    Examples
    --------
    >>> day(date(2026, 9, 3))
    '3 Sep 2026'
    """
    return f"{when.day} {when:%b %Y}"


def listed(names: Sequence[str]) -> str:
    """Join names as in a sentence.

    Examples
    --------
    >>> listed(["Lead"]), listed(["Lead", "Won", "Lost"])
    ('Lead', 'Lead, Won and Lost')
    """
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else "".join(names)
