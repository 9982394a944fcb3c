"""Figures of merit by hand: weighted medians, Kendall's tau, strata that count alike, gates that fail."""

from __future__ import annotations

import math

import numpy as np
import pytest

from cascadesim.validation.claim import Cell, Claim, Verdict
from cascadesim.validation.gpu.selections import LATENCY
from cascadesim.validation.gpu.verdict import (
    FEWEST_PAIRS,
    OF_ROOFLINE,
    POOLED,
    RANKING,
    equal_weights,
    judge,
    kendall_tau,
    median_error,
    merit,
    scatter,
    tau_ceiling,
    twin_key,
    weighted_quantile,
)
from cascadesim.validation.suites import find_suites
from cascadesim.validation.table import Row


def test_a_median_by_weight() -> None:
    """Weights 1, 1, 4: the third value holds more than half."""
    assert weighted_quantile(np.array([1.0, 2.0, 3.0]), np.array([1.0, 1.0, 4.0]), 0.5) == 3.0
    assert weighted_quantile(np.array([3.0, 1.0, 2.0]), np.ones(3), 0.5) == 2.0


def test_each_stratum_weighs_one() -> None:
    assert equal_weights(["a", "b", "b", "b", "b"], fewest=1).tolist() == [1.0, 0.25, 0.25, 0.25, 0.25]


def test_a_row_alone_is_a_tenth_of_a_stratum() -> None:
    assert equal_weights(["a"] + ["b"] * 20).tolist() == pytest.approx([0.1] + [0.05] * 20)


def test_tau_counts_pairs_in_order() -> None:
    """1 2 3 against 1 3 2: two of three pairs agree, one does not: (2 - 1) / 3."""
    assert kendall_tau(np.array([1.0, 2.0, 3.0]), np.array([1.0, 3.0, 2.0])) == pytest.approx(1 / 3)
    assert kendall_tau(np.array([1.0, 2.0]), np.array([5.0, 5.0])) is None


def test_tau_forgives_ties_of_both_as_tau_b_does() -> None:
    """(1, 1), (1, 2), (2, 3): pairs 0, +, +; 2 / sqrt(2 x 3)."""
    assert kendall_tau(np.array([1.0, 1.0, 2.0]), np.array([1.0, 2.0, 3.0])) == pytest.approx(2 / 6**0.5)


def test_figures_of_a_stratum() -> None:
    """Errors +5 %, -15 %, +40 %, +60 %: bias (5 + 40) / 2."""
    measured = np.full(4, 100.0)
    predicted = np.array([105.0, 85.0, 140.0, 160.0])
    figures = merit({"roofline": np.full(4, 50.0), "predicted": predicted, "measured": measured})
    assert figures["bias"] == pytest.approx(0.225)
    assert (figures["within_10"], figures["within_20"], figures["within_50"]) == (0.25, 0.5, 0.75)
    assert figures["roofline_median_abs_relative_error"] == pytest.approx(0.5)


def test_what_is_not_predicted_has_no_median() -> None:
    assert median_error(np.array([np.nan]), np.array([1.0])) is None


def verdict(gate: str, predicted: list[float], measured: list[float], strata: list[str]) -> Verdict:
    rows = [Row((("stratum", stratum), ("roofline_s", 0.5 * seconds), ("neighbour_s", None)), "test", line)
            for line, (stratum, seconds) in enumerate(zip(strata, measured, strict=True))]  # fmt: skip
    cells = [Cell(row, LATENCY, *pair) for row, *pair in zip(rows, measured, predicted, strict=True)]
    claim = Claim("a claim", LATENCY, 0.2, "a test of gates", gate=gate)  # type: ignore[arg-type]
    return judge(find_suites(["gpu-prefill"])[0], claim, "test", cells)


def test_a_large_stratum_does_not_drown_small_ones() -> None:
    """Forty rows of one stratum are exact; ten each of two others miss by half: two thirds of the weight miss."""
    found = verdict(POOLED, [1.0] * 40 + [1.5] * 20, [1.0] * 60, ["large"] * 40 + ["small"] * 10 + ["other"] * 10)
    assert found.gated == pytest.approx(0.5)
    assert not found.holds


def test_the_share_of_the_rooflines_error() -> None:
    """The roofline misses by a half everywhere; a model that misses by 5 % has a tenth of its error."""
    found = verdict(OF_ROOFLINE, [1.05] * 4, [1.0] * 4, ["one"] * 4)
    assert found.gated == pytest.approx(0.1)
    assert found.holds


def test_one_stratum_in_the_wrong_order_fails_the_ranking() -> None:
    """Thirty rows predicted backwards: tau -1, so 1 - tau is 2; twenty-nine are too few to judge."""
    times = [float(place) for place in range(1, 31)]
    assert verdict(RANKING, times[::-1], times, ["one"] * 30).gated == pytest.approx(2)
    assert verdict(RANKING, times[:0:-1], times[1:], ["one"] * 29).gated == 0


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
