"""Fronts are exact: the same designs as comparing each with every other one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from cascadesim.simulator.explore.front import front


def brute_force(costs: NDArray[np.float64]) -> list[int]:
    """A design stays if no other is at least as good everywhere, and better somewhere or earlier."""
    kept = []
    for row, cost in enumerate(costs):
        as_good = (costs <= cost).all(axis=1)
        better = (costs < cost).any(axis=1) | (np.arange(len(costs)) < row)
        if not (as_good & better).any():
            kept.append(row)
    return kept


def test_three_designs_of_which_one_is_beaten() -> None:
    assert front(np.array([[1.0, 3.0], [2.0, 4.0], [3.0, 1.0]])).tolist() == [0, 2]


def test_of_equal_designs_the_first_stays() -> None:
    assert front(np.array([[2.0, 2.0], [1.0, 3.0], [2.0, 2.0]])).tolist() == [0, 1]


@settings(max_examples=300, deadline=None)
@given(st.integers(1, 5), st.integers(1, 60), st.integers(1, 9), st.integers(0, 2**32 - 1))
def test_every_number_of_objectives_equals_brute_force(objectives: int, size: int, levels: int, seed: int) -> None:
    """Few levels: many equal costs."""
    costs = np.random.default_rng(seed).integers(0, levels, (size, objectives)).astype(np.float64)
    assert front(costs).tolist() == brute_force(costs)


@pytest.mark.slow
@pytest.mark.parametrize("objectives", [2, 3, 4])
@pytest.mark.parametrize("below", [0.0, -3.0])
def test_filtering_by_strong_designs_first_changes_nothing(objectives: int, below: float) -> None:
    """Beyond the size at which a few strong designs are tried on all others; costs of either sign."""
    costs = np.random.default_rng(1).uniform(0, 4, (4500, objectives)).round(2) + below
    assert front(costs).tolist() == brute_force(costs)


def test_a_front_of_everything() -> None:
    """Costs on a plane: nothing beats anything."""
    first, second = np.random.default_rng(2).permutation(5000), np.random.default_rng(3).permutation(5000)
    costs = np.stack([first, second, -first - second], axis=1).astype(np.float64)
    assert len(front(costs)) == 5000
