"""Random numbers by address: the number depends on (seed, draw, deal, step) and on nothing else.

No generator is advanced. A deal's text id is hashed to 64 bits, a key is made of seed, draw and step, and the sum of
the two goes through the splitmix64 finaliser (Steele, Lea, Flood 2014, doi:10.1145/2660193.2660195). So the same deal
meets the same fate in the same draw whatever the block size, the number of workers, the order of the deals or the
company it keeps, and two scenarios differ only where they differ.

The 64 bits of an address serve two draws: draw ``2 i`` takes the low half, draw ``2 i + 1`` the high half. Blocks of
draws therefore start at even numbers.
"""

import math

import numpy as np
from numpy.typing import NDArray
from pandas.util import hash_array

from forecasting.engine.compiled import jit_inline, jit_kernel

SEED_STRIDE = np.uint64(0x9E3779B97F4A7C15)
"""Odd constant (golden ratio) that spreads consecutive counters over all 64 bits."""
STEP_STRIDE = np.uint64(0xD1B54A32D192ED03)
"""Another odd constant, so that steps and draws do not meet."""
ONE_BITS, TWO_52_BITS = np.uint64(0x3FF0000000000000), np.uint64(0x4330000000000000)
"""Bits of the float64 numbers 1 and 2^52."""
FRACTION_BITS = np.uint64(0x000FFFFFFFFFFFFF)
SQRT_2, LOG_2 = 1.4142135623730951, 0.6931471805599453
TO_UNIT_52 = 2.0**-52

STEP_FATE = 0
STEP_AMOUNT_SAME = 1
STEP_AMOUNT_CHANGE = 2
STEP_AMOUNT_POOL = 3
STEP_WINS = 4
STEP_WIN_AMOUNT = 5
STEP_WIN_CREATED = 6
STEP_NOT_WON = 7
STEP_CLOCK = 9
"""When within a day of progress a deal moves; 8 is taken by leads needed."""
STEP_STAY = 16
"""First stay of a path; the stays that follow take the next numbers."""


def deal_keys(deal_ids: NDArray[np.object_]) -> NDArray[np.uint64]:
    """Hash text ids to 64 bits: SipHash-2-4 of the UTF-8 bytes with a fixed key, then the splitmix64 finaliser.

    Parameters
    ----------
    deal_ids : ndarray of str objects, shape (deal,)

    Returns
    -------
    ndarray of uint64, shape (deal,)

    Examples
    --------
    >>> keys = deal_keys(np.array(["D-1", "D-2", "D-1"], dtype=object))
    >>> bool(keys[0] == keys[2]), bool(keys[0] == keys[1])
    (True, False)
    """
    return np.asarray(hash_array(deal_ids, categorize=False), dtype=np.uint64)


@jit_inline
def mix(bits: np.uint64) -> np.uint64:
    """Scramble 64 bits: the splitmix64 finaliser, a bijection."""
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return bits ^ (bits >> np.uint64(31))


@jit_kernel
def pair_key(seed: int, draw: int, step: int) -> np.uint64:
    """Key of a step for the pair of draws that ``draw`` belongs to."""
    start = mix(np.uint64(seed) + SEED_STRIDE)
    pair = mix(start + np.uint64(draw >> 1) * SEED_STRIDE)
    return mix(pair + np.uint64(step) * STEP_STRIDE)


@jit_kernel
def draw_key(seed: int, draw: int, step: int) -> np.uint64:
    """Key of a step for one draw alone, for steps that need all 64 bits."""
    start = mix(np.uint64(seed) + STEP_STRIDE)
    single = mix(start + np.uint64(draw) * SEED_STRIDE)
    return mix(single + np.uint64(step) * STEP_STRIDE)


@jit_inline
def half(bits: np.uint64, draw: int) -> np.uint32:
    """The 32 bits that belong to ``draw``."""
    return np.uint32(bits >> np.uint64(32)) if draw & 1 else np.uint32(bits & np.uint64(0xFFFFFFFF))


@jit_inline
def unit(bits: np.uint64) -> float:
    """Uniform in (0, 1) from the upper 52 bits, never exactly 0 or 1."""
    return (float(bits >> np.uint64(12)) + 0.5) * TO_UNIT_52


@jit_inline
def standard_exponential(bits: np.uint64) -> float:
    """Standard exponential from 32 random bits b: ``-log((b + 1/2) / 2^32)``, as code that compilers turn into vectors.

    log(2^e m) = e log 2 + 2 atanh(s), s = (m - 1) / (m + 1), 1/sqrt(2) < m < sqrt(2); the series of atanh is cut where
    its terms are below 1e-11 of it.
    """
    uniform = np.uint64((bits << np.uint64(20)) | ONE_BITS).view(np.float64) - (1.0 - 2.0**-33)
    pattern = np.float64(uniform).view(np.uint64)
    exponent = np.uint64((pattern >> np.uint64(52)) | TWO_52_BITS).view(np.float64) - (2.0**52 + 1023.0)
    mantissa = np.uint64((pattern & FRACTION_BITS) | ONE_BITS).view(np.float64)
    large = mantissa > SQRT_2
    mantissa = 0.5 * mantissa if large else mantissa
    exponent = exponent + 1.0 if large else exponent
    s = (mantissa - 1.0) / (mantissa + 1.0)
    z = s * s
    series = 2.0 / 11.0 + z * (2.0 / 13.0)
    series = 2.0 / 9.0 + z * series
    series = 2.0 / 7.0 + z * series
    series = 2.0 / 5.0 + z * series
    series = 2.0 / 3.0 + z * series
    series = 2.0 + z * series
    negative: float = -(exponent * LOG_2) - s * series
    return negative


@jit_kernel
def standard_normal(bits: np.uint64) -> float:
    """Standard normal from two uniforms (Box and Muller 1958)."""
    radius = math.sqrt(-2.0 * math.log(unit(bits)))
    return radius * math.cos(2.0 * math.pi * unit(mix(bits + SEED_STRIDE)))


@jit_kernel
def poisson(rate: float, bits: np.uint64) -> int:
    """Poisson count by inversion, large rates in pieces of at most 16 (sums of Poissons are Poisson)."""
    if rate <= 0.0:
        return 0
    pieces = math.ceil(rate / 16.0)
    total = 0
    for piece in range(pieces):
        u = unit(mix(bits + np.uint64(piece) * SEED_STRIDE))
        probability = math.exp(-rate / pieces)
        cumulative = probability
        count = 0
        while u > cumulative and probability > 0.0:
            count += 1
            probability *= rate / pieces / count
            cumulative += probability
        total += count
    return total
