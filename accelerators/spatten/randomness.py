"""The two random generators that the published simulators draw from, as streams of integers: Java's and the MT19937.

A model that is to agree with them draw by draw needs the same draws. No other randomness is in this package.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

_MULTIPLIER, _INCREMENT, _MASK = 0x5DEECE66D, 0xB, (1 << 48) - 1  # java.util.Random, documented


class JavaRandom:
    """java.util.Random (and scala.util.Random): a 48-bit linear congruential generator, upper bits first."""

    def __init__(self, seed: int) -> None:
        self._state = (seed ^ _MULTIPLIER) & _MASK

    def bits(self, count: int) -> int:
        """The next `count` bits as a signed 32-bit integer."""
        self._state = (self._state * _MULTIPLIER + _INCREMENT) & _MASK
        value = self._state >> (48 - count)
        return value - (1 << 32) if value >= 1 << 31 else value

    def integer(self) -> int:
        """nextInt()."""
        return self.bits(32)

    def integers(self, count: int) -> NDArray[np.int32]:
        """The next `count` values of nextInt()."""
        factors, summands = _powers(1 << max(count - 1, 0).bit_length())
        states = factors[:count] * np.uint64(self._state) + summands[:count]  # modulo 2^64, so modulo 2^48 too
        if count:
            self._state = int(states[-1]) & _MASK
        return (states >> np.uint64(16)).astype(np.uint32).view(np.int32)

    def below(self, bound: int) -> int:
        """nextInt(bound): uniform in 0 .. bound-1, drawn again where the last interval is cut short."""
        if bound & (bound - 1) == 0:
            return (bound * self.bits(31)) >> 31
        while True:
            drawn = self.bits(31)
            value = drawn % bound
            if drawn - value + (bound - 1) < 1 << 31:
                return value


@lru_cache(maxsize=64)
def _powers(count: int) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Factor and summand of the state after 1 .. count draws: state * factor + summand."""
    factors, summands = [_MULTIPLIER], [_INCREMENT]
    for _ in range(count - 1):
        factors.append(factors[-1] * _MULTIPLIER & _MASK)
        summands.append(summands[-1] * _MULTIPLIER + _INCREMENT & _MASK)
    return np.array(factors, dtype=np.uint64), np.array(summands, dtype=np.uint64)


def mersenne_twister(seed: int) -> Iterator[int]:
    """std::mt19937: 32-bit outputs."""
    state = [seed & 0xFFFFFFFF]
    for index in range(1, 624):
        state.append((1812433253 * (state[-1] ^ state[-1] >> 30) + index) & 0xFFFFFFFF)
    while True:
        for index in range(624):
            mixed = state[index] & 0x80000000 | state[(index + 1) % 624] & 0x7FFFFFFF
            state[index] = state[(index + 397) % 624] ^ mixed >> 1 ^ (0x9908B0DF if mixed & 1 else 0)
        yield from map(_tempered, state)


def _tempered(value: int) -> int:
    value ^= value >> 11
    value ^= value << 7 & 0x9D2C5680
    value ^= value << 15 & 0xEFC60000
    return value ^ value >> 18


def uniform_int(draws: Iterator[int], low: int, high: int) -> int:
    """libstdc++'s uniform_int_distribution over low .. high, both included (Lemire's multiplication)."""
    size = high - low + 1
    if size >= 1 << 32:
        raise ValueError(f"range of {size} values needs more than 32 bits")
    product = next(draws) * size
    if product & 0xFFFFFFFF < size:
        threshold = ((1 << 32) - size) % size
        while product & 0xFFFFFFFF < threshold:
            product = next(draws) * size
    return low + (product >> 32)
