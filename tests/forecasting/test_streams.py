"""Random numbers by address: a hash pinned to its definition, and the statistics a simulation leans on."""

import numpy as np
import pytest
from scipy import stats

from forecasting.engine.compiled import jit_kernel
from forecasting.engine.streams import (
    deal_keys,
    draw_key,
    half,
    mix,
    pair_key,
    poisson,
    standard_exponential,
    standard_normal,
    unit,
)

MASK = 2**64 - 1


def rotated(word: int, by: int) -> int:
    return ((word << by) | (word >> (64 - by))) & MASK


def siphash_2_4(message: bytes, key: bytes) -> int:
    """SipHash-2-4 after Aumasson and Bernstein 2012, in plain Python."""
    low, high = (int.from_bytes(key[i : i + 8], "little") for i in (0, 8))
    v = [low ^ 0x736F6D6570736575, high ^ 0x646F72616E646F6D, low ^ 0x6C7967656E657261, high ^ 0x7465646279746573]

    def rounds(n: int) -> None:
        for _ in range(n):
            v[0] = (v[0] + v[1]) & MASK
            v[1] = rotated(v[1], 13) ^ v[0]
            v[0] = rotated(v[0], 32)
            v[2] = (v[2] + v[3]) & MASK
            v[3] = rotated(v[3], 16) ^ v[2]
            v[0] = (v[0] + v[3]) & MASK
            v[3] = rotated(v[3], 21) ^ v[0]
            v[2] = (v[2] + v[1]) & MASK
            v[1] = rotated(v[1], 17) ^ v[2]
            v[2] = rotated(v[2], 32)

    padded = message + bytes(7 - len(message) % 8) + bytes([len(message) % 256])
    for start in range(0, len(padded), 8):
        word = int.from_bytes(padded[start : start + 8], "little")
        v[3] ^= word
        rounds(2)
        v[0] ^= word
    v[2] ^= 0xFF
    rounds(4)
    return v[0] ^ v[1] ^ v[2] ^ v[3]


def finalised(word: int) -> int:
    word = ((word ^ (word >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    word = ((word ^ (word >> 27)) * 0x94D049BB133111EB) & MASK
    return word ^ (word >> 31)


def test_the_plain_hash_gives_the_published_value():
    assert siphash_2_4(bytes(range(15)), bytes(range(16))) == 0xA129CA6149BE45E5


@pytest.mark.parametrize("deal_id", ["", "D-1", "0061t00000ABCDEF", "Ångström & Söhne", "NA", "x" * 100])
def test_keys_are_the_hash_of_the_text(deal_id):
    expected = finalised(siphash_2_4(deal_id.encode(), b"0123456789123456"))
    assert int(deal_keys(np.array([deal_id], dtype=object))[0]) == expected


def test_mix_is_the_splitmix_finaliser():
    for word in (0, 1, 12345678901234567, MASK):
        assert int(mix(np.uint64(word))) == finalised(word)
    assert int(mix(np.uint64(0x9E3779B97F4A7C15))) == 0xE220A8397B1DCDAF  # first output of splitmix64 seeded with 0


@jit_kernel
def uniforms(keys: np.ndarray, seed: int, draws: int, step: int) -> np.ndarray:
    out = np.empty((draws, len(keys)))
    for draw in range(draws):
        key = pair_key(seed, draw, step)
        for i in range(len(keys)):
            out[draw, i] = (half(mix(key + keys[i]), draw) + 0.5) / 2.0**32
    return out


KEYS = deal_keys(np.array([f"D{i}" for i in range(2000)], dtype=object))


def test_uniforms_are_uniform_and_unrelated_across_deals_draws_steps_and_seeds():
    first = uniforms(KEYS, 1, 400, 0)
    counts = np.bincount((first * 1000).astype(int).ravel(), minlength=1000)
    assert stats.chisquare(counts).pvalue > 1e-4
    pairs = np.bincount(
        (first[0::2] * 30).astype(int).ravel() * 30 + (first[1::2] * 30).astype(int).ravel(), minlength=900
    )
    assert stats.chisquare(pairs).pvalue > 1e-4  # the two halves of one address
    neighbours = np.roll(first, 1, axis=0), np.roll(first, 1, axis=1)
    for other in (uniforms(KEYS, 2, 400, 0), uniforms(KEYS, 1, 400, 1), *neighbours):
        assert abs(np.corrcoef(first.ravel(), other.ravel())[0, 1]) * np.sqrt(first.size) < 4
    sums = (first.sum(axis=1) - 1000) / np.sqrt(2000 / 12)
    assert stats.kstest(sums, "norm").pvalue > 1e-4


@jit_kernel
def samples(n: int, rate: float) -> tuple[np.ndarray, np.ndarray]:
    counts, normals = np.empty(n), np.empty(n)
    key = draw_key(5, 3, 2)
    for i in range(n):
        bits = mix(key + np.uint64(i))
        counts[i], normals[i] = poisson(rate, bits), standard_normal(bits)
    return counts, normals


@pytest.mark.parametrize("rate", [0.03, 1.7, 15.9, 40.0, 900.0])
def test_poisson_counts_follow_their_law(rate):
    counts, _ = samples(40_000, rate)
    edges = np.unique(stats.poisson.ppf([0.05, 0.2, 0.4, 0.6, 0.8, 0.95, 0.999], rate))
    seen = np.bincount(np.searchsorted(edges, counts), minlength=len(edges) + 1)
    expected = np.diff(stats.poisson.cdf(edges, rate), prepend=0, append=1) * len(counts)
    assert stats.chisquare(seen, expected).pvalue > 1e-4


def test_normals_follow_their_law():
    assert stats.kstest(samples(40_000, 0.0)[1], "norm").pvalue > 1e-4
    assert (samples(10, 0.0)[0] == 0).all()


def test_units_never_touch_zero_or_one():
    assert unit(np.uint64(0)) > 0.0
    assert unit(np.uint64(MASK)) < 1.0


@jit_kernel
def exponentials(bits: np.ndarray) -> np.ndarray:
    found = np.empty(len(bits))
    for i in range(len(bits)):
        found[i] = standard_exponential(bits[i])
    return found


def test_exponentials_are_minus_the_log_of_the_uniform():
    """Over all magnitudes, next to one included, where the logarithm vanishes."""
    near_zero, near_one = np.arange(2_000), 2**32 - 1 - np.arange(2_000)
    powers = (2.0 ** np.arange(32)[:, None] * np.array([1.0, 1.41, 1.42, 1.9])).astype(np.uint64).ravel()
    bits = np.concatenate([near_zero, near_one, powers, KEYS & np.uint64(2**32 - 1)]).astype(np.uint64)
    exact = -np.log1p(-((2.0**32 - 1 - bits.astype(float)) + 0.5) / 2.0**32)
    assert np.abs(exponentials(bits) / exact - 1).max() < 1e-10
    assert exponentials(bits).min() > 0
