"""Means of ratios over 4 models and 6 lengths, by hand where the closed form is simple."""

from __future__ import annotations

import statistics

import pytest

from cascadesim.validation.fusemax.headlines import LENGTHS, STATISTICS, headline
from cascadesim.validation.table import Row


def predicted(**cells: str) -> float:
    value = headline(Row(tuple(cells.items()), "here", 1))["value"]
    assert value is not None
    return value


def test_architecture_is_slower_than_binding_by_the_published_cycles_a_tile() -> None:
    """Cycles a tile, FuseMax's two schedules: E + F/M1 + 10 + E and max(E + 1, 1 + F/M1) + 256 + 9 + 2E.

    Both are compute bound in all 24 points, and M1 = length / 256; E = F = 64 in three models, 128 in one.
    """

    def ratio(depth: int, length: int) -> float:
        rest = depth * 256 / length
        serial = max(depth + 1, 1 + rest) + 256 + 9 + 2 * depth
        return (2 * depth + rest + 10) / serial

    expected = statistics.fmean(ratio(depth, length) for depth in (64, 64, 64, 128) for length in LENGTHS)
    found = predicted(quantity="attention_speedup", architecture="fusemax-architecture", baseline="fusemax",
                      statistic="arithmetic_mean")  # fmt: skip
    assert found == pytest.approx(expected, rel=1e-9)


def test_an_architecture_against_itself_is_one_in_every_statistic() -> None:
    for statistic in STATISTICS:
        for quantity in ("attention_speedup", "end_to_end_energy_ratio"):
            assert predicted(quantity=quantity, architecture="fusemax", baseline="fusemax",
                             statistic=statistic) == pytest.approx(1, rel=1e-12)  # fmt: skip


def test_the_geometric_mean_is_that_of_the_logarithms() -> None:
    assert STATISTICS["geometric_mean"]([1.0, 4.0]) == pytest.approx(2.0)
