"""The top-k engine: quick-select cycles as its latency model counts them, draw by draw, and their expected value.

SpAtten (HPCA'21), section IV-B; latency model of its public RTL. The engine compares T scores a cycle and splits them
around a random pivot until the target is found.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cascadesim.accelerators.spatten.randomness import JavaRandom

ROUND_CYCLES = 3  # of a round beyond its comparisons (TopKLatencyModel)
ENGINE_ROUND_CYCLES = 5 + 1  # RTL, by reading: comparators, zero eliminators and FIFOs; then one cycle decides
FILTER_CYCLES = 7  # RTL, by reading: of the last pass beyond its rows


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
    """E(n, t) of all n and t up to `size`."""
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
