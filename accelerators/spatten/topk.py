"""The top-k engine: quick-select cycles as its latency model counts them, draw by draw, and their expected value.

SpAtten (HPCA'21), section IV-B; latency model of its public RTL. The engine compares T scores a cycle and splits them
around a random pivot until the target is found. A model that is to agree draw by draw needs the same draws: Java's.
"""

from __future__ import annotations

from functools import lru_cache
from math import log, log2

import numpy as np
from numpy.typing import ArrayLike, NDArray

ROUND_CYCLES = 3  # of a round beyond its comparisons (TopKLatencyModel)
ENGINE_ROUND_CYCLES = 5 + 1  # RTL, by reading: comparators, zero eliminators and FIFOs; then one cycle decides
LARGEST_TABLE = 2048  # keys up to which the exact mean of the selection is computed
FILTER_CYCLES = 7  # RTL, by reading: of the last pass beyond its rows
_MULTIPLIER, _INCREMENT, _MASK = 0x5DEECE66D, 0xB, (1 << 48) - 1  # java.util.Random, documented


class JavaRandom:
    """java.util.Random (and scala.util.Random): a 48-bit linear congruential generator, upper bits first."""

    def __init__(self, seed: int) -> None:
        self._state = (seed ^ _MULTIPLIER) & _MASK

    def bits(self, count: int) -> int:
        """The next `count` bits as a signed 32-bit integer; 32 of them are nextInt()."""
        self._state = (self._state * _MULTIPLIER + _INCREMENT) & _MASK
        value = self._state >> (48 - count)
        return value - (1 << 32) if value >= 1 << 31 else value

    def integers(self, count: int) -> NDArray[np.int32]:
        """The next `count` values of nextInt(), (count) int32."""
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
    """Factors and summands, (count) uint64: the state after draw k is state * factor + summand, modulo 2^48."""
    factors, summands = [_MULTIPLIER], [_INCREMENT]
    for _ in range(count - 1):
        factors.append(factors[-1] * _MULTIPLIER & _MASK)
        summands.append(summands[-1] * _MULTIPLIER + _INCREMENT & _MASK)
    return np.array(factors, dtype=np.uint64), np.array(summands, dtype=np.uint64)


def quick_select_cycles(scores: ArrayLike, target: int, parallelism: int, draw: JavaRandom) -> int:
    """Cycles to find the score below which `target` others lie, as the RTL's latency model walks down.

    A round keeps the side that holds the target; it ends when the pivot's equals do, or a side is empty.
    """
    left, cycles = np.asarray(scores), 0
    while left.size:
        cycles += -(-left.size // parallelism) + ROUND_CYCLES
        pivot = left[draw.below(left.size)]
        less = left[left < pivot]
        if less.size > target:
            left = less
            continue
        greater = left[left > pivot]
        if left.size - greater.size > target:
            break
        target -= left.size - greater.size
        left = greater
    return cycles


def drawn_cycles(size: int, target: int, parallelism: int, draw: JavaRandom) -> int:
    """The latency model's next call: `size` random scores, then their quick-select."""
    return quick_select_cycles(draw.integers(size), target, parallelism, draw)


def selection_mean(keys: int, values: int, parallelism: int) -> float:
    """Mean cycles: exact up to LARGEST_TABLE; beyond it the closed form of the RTL's description, section 6."""
    if keys <= LARGEST_TABLE:
        return expected_cycles(keys, values, parallelism)
    share = min((values + 0.5) / keys, 1 - 0.5 / keys)
    entropy = -share * log2(share) * log(2) - (1 - share) * log2(1 - share) * log(2)
    rank = min(values + 1, keys)
    harmonic = [sum(1 / number for number in range(1, count + 1)) for count in (rank, keys + 1 - rank)]
    return 2 * keys * (1 + entropy) / parallelism + 3.5 * (sum(harmonic) - 1)


def engine_cycles(size: int, target: int, lanes: int) -> float:
    """Mean of the quick-select engine itself, as the RTL describes one (it does not elaborate as published).

    The list fills a buffer in rows of 2 x `lanes`; each round reads what is left in such rows through comparators and
    zero eliminators and then decides; a filter passes the whole list once more. assumed: pivots are uniform.
    """
    fill, filter_pass = -(-size // (2 * lanes)), -(-size // lanes) + FILTER_CYCLES
    return fill + expected_cycles(size, target, 2 * lanes, ENGINE_ROUND_CYCLES) + filter_pass


def expected_cycles(size: int, target: int, parallelism: int, round_cycles: int = ROUND_CYCLES) -> float:
    """Exact mean over random scores without ties, from the recurrence over the pivot's rank.

    E(n, t) = round(n) + (sum of E(l, t), t < l < n + sum of E(n-l-1, t-l-1), l < t) / n: the first sum grows along a
    column of the table, the second along a diagonal.
    """
    return float(_expected_table(size, parallelism, round_cycles)[size, min(target, size)])


@lru_cache(maxsize=8)
def _expected_table(size: int, parallelism: int, round_cycles: int) -> NDArray[np.float64]:
    """E(n, t) of all n and t up to `size`, (size + 1, size + 1) float64, cycles."""
    table = np.zeros((size + 1, size + 1))
    columns = np.zeros(size + 1)  # by t: E(l, t) of all l so far above t
    diagonals = np.zeros(size + 1)  # by n - t: E(m, m - (n - t)) of all m so far
    for length in range(1, size + 1):
        targets = np.arange(length + 1)
        less = np.where(targets < length, columns[: length + 1], 0.0)
        row = -(-length // parallelism) + round_cycles + (less + diagonals[length - targets]) / length
        table[length, : length + 1] = row
        columns[:length] += row[:length]
        diagonals[length - targets] += row
    return table
