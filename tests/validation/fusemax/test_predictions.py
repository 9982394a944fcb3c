"""Rows that are not among the published ones: other models and lengths, by hand from the closed forms of FuseMax."""

from __future__ import annotations

import statistics

import pytest

from cascadesim.validation.claims.fusemax import FUSEMAX_ATTENTION
from cascadesim.validation.columns import Value, length
from cascadesim.validation.fusemax.predictions import LENGTHS, STATISTICS, attention, headline
from cascadesim.validation.suites import own_data
from cascadesim.validation.table import Row


def row(**cells: Value) -> Row:
    return Row(tuple(cells.items()), "here", 1)


def test_bert_of_1k_tokens_takes_154_cycles_a_tile() -> None:
    """768 heads x 4 x 4 tiles; 1+64+64/4 (RD RNV AV) + 1 (RM) + 8 (PRM SPD) + 64 (SPNV) = 154 cycles at 940 MHz."""
    found = attention(row(architecture="fusemax", workload="bert", sequence_length=1024))
    assert found["latency_s"] == pytest.approx(12288 * 154 / 940e6, rel=1e-12)


def test_xlm_of_64k_tokens_is_no_published_row() -> None:
    """1024 heads x 256 x 256 tiles of 1+128+128/256 + 1 + 8 + 128 cycles.

    16 MiB less 2 x 256 x 256 words of 2 bytes hold 125 query tiles of 258 x 256 words: the largest divisor of 256
    is 64, so the keys and values stream by 4 times. Q and AV move once.
    """
    found = attention(row(architecture="fusemax", workload="xlm", sequence_length=65536))
    assert found["latency_s"] == pytest.approx(1024 * 256 * 256 * 266.5 / 940e6, rel=1e-12)
    assert found["traffic_bytes"] == 2 * 1024 * 65536 * 128 * (2 + 2 * 4)


TRXL = [row for row in own_data(FUSEMAX_ATTENTION).rows if row.get("workload") == "trxl"]
LONG = length("64K")  # beyond, the artifact's 64-bit counters wrap for some numbers of heads and not for others


@pytest.mark.parametrize("published", TRXL, ids=lambda row: f"line {row.line}")
def test_t5_is_half_of_trxl(published: Row) -> None:
    """8 heads in place of 16, of the same size."""
    found = attention(Row((*published.cells, ("workload", "t5")), "here", 1))
    columns = ["traffic_bytes", "latency_s"] + ["energy_pj"] * (published.count("sequence_length") < LONG)
    for column in columns:
        figure = published.number(column)
        assert figure is not None
        assert found[column] == pytest.approx(figure / 2, rel=1e-6)


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
