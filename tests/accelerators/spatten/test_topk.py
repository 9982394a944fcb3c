"""The top-k latency model: selections walked by hand, the published draws, the exact mean."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascadesim.accelerators.spatten.topk import (
    ROUND_CYCLES,
    JavaRandom,
    drawn_cycles,
    engine_cycles,
    expected_cycles,
    quick_select_cycles,
)

# TopKLatencyModel of mit-han-lab/spatten, one generator of seed 1: size, target, parallelism, cycles, in this order
PUBLISHED = [
    (746, 219, 64, 97), (50, 9, 16, 40), (284, 218, 64, 21), (94, 42, 16, 41), (378, 331, 2, 648),
    (707, 444, 32, 120), (802, 647, 32, 162), (156, 30, 4, 72), (768, 360, 1, 3691), (818, 487, 32, 158),
]  # fmt: skip


def test_one_score_takes_one_round() -> None:
    """One comparison and 3 cycles."""
    assert quick_select_cycles([5], 0, 16, JavaRandom(1)) == 1 + ROUND_CYCLES


def test_the_published_draws_in_their_order() -> None:
    draw = JavaRandom(1)
    assert [drawn_cycles(*row[:3], draw) for row in PUBLISHED] == [row[3] for row in PUBLISHED]


def test_equal_scores_end_in_the_first_round() -> None:
    """40 equal scores on 16 comparators: ceil(40 / 16) = 3 cycles and 3, whatever the pivot."""
    assert quick_select_cycles([7] * 40, 11, 16, JavaRandom(3)) == 3 + ROUND_CYCLES


def test_two_scores_on_average() -> None:
    """Round of 2: 2 + 3 cycles on one comparator. Target 0 is the lower: half of the pivots are it (done), the other
    half leave it alone (1 + 3). Mean 5 + 4 / 2."""
    assert expected_cycles(2, 0, 1) == pytest.approx(7)


def test_the_mean_is_that_of_all_pivot_orders() -> None:
    """Pivots of 4 distinct scores are the first survivors of a random permutation: 24 equally likely walks."""

    def walk(order: tuple[int, ...], target: int) -> int:
        left, cycles = list(order), 0
        while left:
            cycles += len(left) + ROUND_CYCLES
            pivot = left[0]
            less = [score for score in left if score < pivot]
            if len(less) == target:
                break
            left = less if len(less) > target else [score for score in left if score > pivot]
            target -= 0 if left == less else len(less) + 1
        return cycles

    for target in range(4):
        walks = [walk(order, target) for order in permutations(range(4))]
        assert expected_cycles(4, target, 1) == pytest.approx(float(np.mean(walks)))


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 200), st.data(), st.integers(0, 1000))
def test_more_comparators_never_take_longer(size: int, data: st.DataObject, seed: int) -> None:
    target = data.draw(st.integers(0, size))
    few, many = (drawn_cycles(size, target, width, JavaRandom(seed)) for width in (4, 16))
    assert 1 + ROUND_CYCLES <= many <= few


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 100), st.data())
def test_the_mean_grows_with_fewer_comparators(size: int, data: st.DataObject) -> None:
    target = data.draw(st.integers(0, size))
    assert expected_cycles(size, target, 16) <= expected_cycles(size, target, 1)


def test_the_engine_fills_selects_and_filters() -> None:
    """16 scores, 8 lanes: a row to fill; at least one round of a row, 5 and 1; a filter pass of 2 rows and 7. Equal
    targets need more rounds of a row each: 1 + 6 times the mean number of rounds."""
    rounds = expected_cycles(16, 3, 10**6, 0)  # a row a round, whatever is left
    assert engine_cycles(16, 3, 8) == pytest.approx(1 + 7 * rounds + 2 + 7)
    assert rounds > 1


def test_java_draws_what_java_util_random_draws() -> None:
    """new Random(42): nextInt() is -1170105035, then 234785527 (Java's documented algorithm, any implementation)."""
    draw = JavaRandom(42)
    assert [draw.bits(32), draw.bits(32)] == [-1170105035, 234785527]


def test_java_draws_below_a_bound() -> None:
    """new Random(42): nextInt(10) is 0, 3, 8, ..."""
    draw = JavaRandom(42)
    assert [draw.below(10) for _ in range(3)] == [0, 3, 8]


def test_a_bound_that_is_a_power_of_two_takes_the_upper_bits() -> None:
    """nextInt(2) of seed 1 is the first of the 31 bits: nextInt() of seed 1 is -1155869325, negative, so 1."""
    assert JavaRandom(1).bits(32) == -1155869325
    assert JavaRandom(1).below(2) == 1


@given(st.integers(0, 2**48 - 1), st.integers(0, 300))
def test_many_draws_at_once_are_the_draws_one_by_one(seed: int, count: int) -> None:
    together, single = JavaRandom(seed), JavaRandom(seed)
    assert together.integers(count).tolist() == [single.bits(32) for _ in range(count)]
    assert together.bits(32) == single.bits(32)
