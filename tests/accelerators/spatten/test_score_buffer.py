"""Which keys are fetched: published lines, windows, wrapping."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascadesim.accelerators.spatten.score_buffer import index_lines


def test_the_first_lines_of_two_fetch_channels() -> None:
    """Initial content of the public RTL's score buffer (scala.util.Random, seed 1)."""
    assert index_lines(2, 2048, 6) == ((0, 3), (2, 5), (4, 6), (6, 9), (9, 10), (10, 11))


@given(st.sampled_from([1, 2, 4, 8, 32]), st.integers(1, 40), st.integers(0, 99))
def test_a_line_is_half_of_its_window_in_order(channels: int, lines: int, seed: int) -> None:
    for number, line in enumerate(index_lines(channels, 1 << 20, lines, seed)):
        first = number * channels
        assert list(line) == sorted(set(line))
        assert len(line) == channels
        assert first <= line[0]
        assert line[-1] < first + 2 * channels


@pytest.mark.parametrize("channels", [4, 32])
def test_keys_wrap_at_the_largest(channels: int) -> None:
    lines = index_lines(channels, 64, 40)
    assert {key for line in lines for key in line} <= set(range(64))
