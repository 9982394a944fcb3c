"""The two generators of the published simulators, against values that their documents fix."""

from __future__ import annotations

from itertools import islice

from hypothesis import given
from hypothesis import strategies as st

from cascadesim.accelerators.spatten.randomness import JavaRandom, mersenne_twister, uniform_int


def test_java_draws_what_java_util_random_draws() -> None:
    """new Random(42): nextInt() is -1170105035, then 234785527 (Java's documented algorithm, any implementation)."""
    draw = JavaRandom(42)
    assert [draw.integer(), draw.integer()] == [-1170105035, 234785527]


def test_java_draws_below_a_bound() -> None:
    """new Random(42): nextInt(10) is 0, 3, 8, ..."""
    draw = JavaRandom(42)
    assert [draw.below(10) for _ in range(3)] == [0, 3, 8]


def test_a_bound_that_is_a_power_of_two_takes_the_upper_bits() -> None:
    """nextInt(2) of seed 1 is the first of the 31 bits: nextInt() of seed 1 is -1155869325, negative, so 1."""
    assert JavaRandom(1).integer() == -1155869325
    assert JavaRandom(1).below(2) == 1


@given(st.integers(0, 2**48 - 1), st.integers(0, 300))
def test_many_draws_at_once_are_the_draws_one_by_one(seed: int, count: int) -> None:
    together, single = JavaRandom(seed), JavaRandom(seed)
    assert together.integers(count).tolist() == [single.integer() for _ in range(count)]
    assert together.integer() == single.integer()


def test_the_mersenne_twister_is_the_standards() -> None:
    """C++ standard, [rand.predef]: the 10000th output of a default-constructed mt19937 (seed 5489) is 4123659995."""
    draws = list(islice(mersenne_twister(5489), 10_000))
    assert draws[0] == 3499211612
    assert draws[-1] == 4123659995


def test_uniform_draws_take_the_upper_half_of_a_product() -> None:
    """3499211612 x 10 = 8 x 2^32 + 632376832: the first draw of 0 .. 9 is 8, and the remainder is no low one."""
    assert uniform_int(mersenne_twister(5489), 0, 9) == 8


def test_uniform_draws_reject_a_low_remainder() -> None:
    """Range 3: 2^32 mod 3 = 1, so only a remainder of 0 is drawn again: draw 0 is, draw 2^31 gives 1."""
    assert uniform_int(iter([0, 1 << 31]), 0, 2) == 1


@given(st.integers(0, 1000), st.integers(0, 1000), st.integers(0, 2**32 - 1))
def test_uniform_draws_stay_in_their_range(low: int, size: int, seed: int) -> None:
    assert low <= uniform_int(mersenne_twister(seed), low, low + size) <= low + size
