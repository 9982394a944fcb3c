"""What the scatter of rows that do the same work allows a ranking to reach."""

from __future__ import annotations

import math

import numpy as np
import pytest

from cascadesim.validation.gpu.errors import kendall_tau
from cascadesim.validation.gpu.scatter import FEWEST_PAIRS, scatter, tau_ceiling, twin_key
from cascadesim.validation.table import Row


def row(**cells: float | str) -> Row:
    usual: dict[str, float | str] = {"batch": 4, "heads_q": 32, "heads_kv": 8, "kv_len": 4096, "window": 1024,
                                     "dtype": "bf16", "head_dim": 128}  # fmt: skip
    return Row(tuple({**usual, **cells}.items()), "file", 1)


def test_twins_have_as_many_key_heads_over_the_batch() -> None:
    """32 of them, each of 4 queries; keys beyond the window do not count."""
    assert twin_key(row()) == twin_key(row(batch=8, heads_q=16, heads_kv=4)) == twin_key(row(kv_len=8192))
    others = (row(batch=5), row(heads_q=64), row(window=512), row(dtype="fp8"), row(kv_len=512))
    assert twin_key(row()) not in {twin_key(other) for other in others}


def test_scatter_is_that_of_one_row() -> None:
    """Pairs 10% apart: each row deviates by log(1.1) / sqrt(2)."""
    times = np.array([1.0, 1.1] * FEWEST_PAIRS)
    keys = [pair for pair in range(FEWEST_PAIRS) for _ in range(2)]
    assert scatter(keys, times) == pytest.approx(math.log(1.1) / math.sqrt(2))
    assert scatter(keys[:-2], times[:-2]) is None


def test_two_rows_as_far_apart_as_they_scatter() -> None:
    """sqrt(2) deviations apart: in order with probability 0.8413, so tau is 0.6827 on average."""
    assert tau_ceiling(np.array([1.0, math.exp(math.sqrt(2) * 0.1)]), 0.1) == pytest.approx(0.6827, abs=1e-4)
    assert tau_ceiling(np.array([1.0, 2.0]), 0.0) == 1.0


def test_the_ceiling_is_what_true_times_reach() -> None:
    """assumed: 0.02 for the difference between true and measured distances of 300 rows over a factor of ten."""
    random = np.random.default_rng(1)
    true = np.exp(random.uniform(0, math.log(10), 300))
    measured = true * np.exp(random.normal(0, 0.1, 300))
    reached = kendall_tau(true, measured)
    assert reached == pytest.approx(tau_ceiling(measured, 0.1), abs=0.02)
