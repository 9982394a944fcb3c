"""Prices of actions and areas: published figures exactly, sane between and beyond them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascadesim.accelerators.energy import (
    Actions,
    area_um2,
    dynamic_energy_j,
    register_area_um2,
    register_energy_pj,
    sram_area_um2,
    sram_row_energy_pj,
)
from cascadesim.accelerators.spec import Operations, SpatialArray
from cascadesim.einsum_cascades.notation.errors import CascadeSimError

EXACT = 1e-9  # published areas are sums of table entries: equal but for the order of the sum
MIB = 2**20


def test_a_mac_and_a_dram_access_cost_what_the_artifact_says(fusemax: SpatialArray) -> None:
    energy = dynamic_energy_j(Actions(dram_words=4, operations_2d={"mac": 2}), fusemax)
    assert energy["dram"] == pytest.approx(249.6e-12)  # 64 bits
    assert energy["mac_2d"] == pytest.approx(2 * 17.1645e-12)
    assert sum(energy.values()) == pytest.approx((249.6 + 2 * 17.1645) * 1e-12)


# micro24-fusemax-artifact, commit f543beb: pareto.csv, PE_dim, array_2d_area_um2, area_um2 (256K tokens). The buffer
# has 16 * D * E bytes (twice that for D = 512); with t = 2 * max(1, D // E) register files have 2 t and 8 t entries.
@pytest.mark.parametrize(
    ("side", "depth", "buffers", "array_2d_um2", "total_um2"),
    [
        (16, 64, 1, 4712617.37472, 5441230.48908),  # BERT
        (32, 64, 1, 18850437.49888, 20315554.014039997),  # BERT
        (64, 64, 1, 75401685.99552, 78369596.31228),  # BERT
        (256, 64, 1, 1207951209.6768, 1220894441.8412402),  # BERT
        (512, 64, 2, 4834854330.20416, 4885081008.9724),  # BERT
        (16, 128, 1, 4712617.37472, 5490895.623919999),  # XLM
        (32, 128, 1, 18850437.49888, 20422069.648879997),  # XLM
        (64, 128, 1, 75401685.99552, 78538970.94712),  # XLM
        (256, 128, 1, 1207188708.80256, 1220785414.0828004),  # XLM
    ],
)
def test_areas_of_the_design_space_are_the_published_ones(
    array: Callable[..., SpatialArray], side: int, depth: int, buffers: int, array_2d_um2: float, total_um2: float
) -> None:
    threads = 2 * max(1, side // depth)
    capacity_bytes = 16 * side * depth * buffers
    area = area_um2(array(side, None, capacity_bytes, 2 * threads, 8 * threads))
    assert area["array_2d"] == pytest.approx(array_2d_um2, rel=EXACT)
    assert sum(area.values()) == pytest.approx(total_um2, rel=EXACT)


def test_the_fusemax_architecture_is_6_4_percent_smaller(fusemax: SpatialArray, flat: SpatialArray) -> None:
    """FuseMax (MICRO'24), section VI: half the buffer and no exponential unit outweigh larger register files."""
    ratio = sum(area_um2(fusemax).values()) / sum(area_um2(flat).values())
    assert ratio == pytest.approx(1 - 0.064, abs=0.0005)


def test_one_element_adds_its_registers_and_its_units(array: Callable[..., SpatialArray]) -> None:
    """A column of 2 elements instead of 1: one register file of the least size, a MAC, a comparator."""
    tall, short = (area_um2(array(rows, 1, 1024))["array_2d"] for rows in (2, 1))
    registers = 64 * (32 * 5.98 + 71.0) + 4 * 2 * 5.81742  # 12 entries cost as 64; 4 address bits, read and write
    assert tall - short == pytest.approx(registers + 1545.0 + 49.28944)


@pytest.mark.parametrize(("words", "address_bits"), [(1, 1), (4, 2), (12, 4), (16, 4), (32, 5), (64, 6)])
def test_register_files_differ_by_their_address_bits(words: int, address_bits: int) -> None:
    """FuseMax artifact, ERT: 12 entries (attention) and 16 (linear layers) cost the same."""
    read, write = register_energy_pj(words)
    assert write == pytest.approx(1.88608 + 0.004074924 * address_bits)
    assert read == pytest.approx(write + 0.288)


def test_beyond_64_entries_registers_cost_more() -> None:
    assert register_energy_pj(128) > register_energy_pj(64)
    assert register_area_um2(128) > 1.9 * register_area_um2(64)
    assert register_area_um2(16) < 1.01 * register_area_um2(2)


@pytest.mark.parametrize(
    ("mebibytes", "read_nj", "write_nj", "address_bits"),
    [(16, 12.5127, 15.7514, 15), (32, 23.8546, 27.0975, 16)],  # CACTI 7, 45 nm, rows of 512 bytes
)
def test_buffer_rows_cost_what_cacti_says(mebibytes: int, read_nj: float, write_nj: float, address_bits: int) -> None:
    address_pj = 0.004074924 * address_bits
    expected = (1000 * read_nj + address_pj, 1000 * write_nj + address_pj)
    assert sram_row_energy_pj(mebibytes * MIB, 512) == pytest.approx(expected)


capacities = st.integers(min_value=2**12, max_value=2**28)
row_widths = st.integers(min_value=4, max_value=4096)


@given(capacities, row_widths)
def test_between_the_cacti_points_a_larger_buffer_costs_more(capacity_bytes: int, row_bytes: int) -> None:
    small, large = (sram_row_energy_pj(size, row_bytes) for size in (capacity_bytes, 2 * capacity_bytes))
    assert 0 < small[0] < large[0]
    assert 0 < small[1] < large[1]
    assert 0 < sram_area_um2(capacity_bytes, row_bytes) < sram_area_um2(2 * capacity_bytes, row_bytes)


@given(capacities, row_widths)
def test_a_wider_row_costs_more_per_access(capacity_bytes: int, row_bytes: int) -> None:
    narrow, wide = (sram_row_energy_pj(capacity_bytes, width)[0] for width in (row_bytes, 2 * row_bytes))
    assert narrow < wide


def test_8_mebibytes_lie_between_the_measured_sizes() -> None:
    """Log-log through 512 KiB (2.79737 mm^2) and 16 MiB (84.2012 mm^2): 8 MiB is 4 of 5 doublings up."""
    expected = 2.79737e6 * (84.2012 / 2.79737) ** (4 / 5)
    assert sram_area_um2(8 * MIB, 512) == pytest.approx(expected, rel=1e-4)


def test_actions_add_up(fusemax: SpatialArray) -> None:
    one = Actions(1, 2, 3, 4, 5, 6, 7, {"mac": 8}, {"max": 9})
    once, twice = dynamic_energy_j(one, fusemax), dynamic_energy_j(one + one, fusemax)
    assert twice == pytest.approx({component: 2 * joules for component, joules in once.items()})
    assert one + Actions() == Actions(1, 2, 3, 4, 5, 6, 7, {"mac": 8}, {"max": 9})


def test_operations_that_never_happen_are_no_component(fusemax: SpatialArray) -> None:
    assert set(dynamic_energy_j(Actions(), fusemax)) == {"dram", "global_buffer", "registers_2d", "registers_1d"}


def test_an_exponential_costs_its_unit_or_its_macs(fusemax: SpatialArray, flat: SpatialArray) -> None:
    """94.6475 pJ in the unit of FLAT; six multiply-accumulates on FuseMax."""
    work = Actions(operations_1d={"exp": 1})
    assert dynamic_energy_j(work, flat)["exp_1d"] == pytest.approx(94.6475e-12)
    assert dynamic_energy_j(work, fusemax)["mac_1d"] == pytest.approx(6 * 17.1645e-12)
    assert "exp_1d" not in dynamic_energy_j(work, fusemax)


def test_charging_the_exponentials_of_cascade_adds_three_percent(flat: SpatialArray) -> None:
    """The published +Cascade leaves them out (BERT 4K). Its total: attn-cascade.csv, micro24-fusemax-artifact f543beb.

    SLN: one per score, 64 * 12 * 4096^2; PRM: one per query and tile of 256 keys.
    """
    published_j = 35440720067095.01e-12
    exponentials = 64 * 12 * 4096 * (4096 + 4096 // 256)
    charged = dynamic_energy_j(Actions(operations_1d={"exp": exponentials}), flat)["exp_1d"]
    assert 0.03 < charged / published_j < 0.036


def test_a_wide_word_moves_more_bytes(fusemax: SpatialArray) -> None:
    wide = fusemax.model_copy(update={"word_bytes": 4})
    work = Actions(dram_words=100, global_buffer_read_words=100, global_buffer_write_words=50)
    narrow_j, wide_j = dynamic_energy_j(work, fusemax), dynamic_energy_j(work, wide)
    assert wide_j["dram"] == pytest.approx(2 * narrow_j["dram"])
    assert wide_j["global_buffer"] == pytest.approx(2 * narrow_j["global_buffer"])


def test_an_operation_without_a_price_is_refused(fusemax: SpatialArray) -> None:
    with pytest.raises(CascadeSimError, match="no energy known for operation sqrt; known: mac, add, max, exp, divide"):
        dynamic_energy_j(Actions(operations_2d={"sqrt": 1}), fusemax)


def test_what_an_element_cannot_do_takes_no_area(array: Callable[..., SpatialArray]) -> None:
    with_divide = Operations(mac=1, add=1, max=1, divide=1)
    without = Operations(mac=1, add=1, max=1)
    areas = [area_um2(array(16, operations_1d=can, capacity_bytes=16384))["array_1d"] for can in (with_divide, without)]
    assert areas[0] - areas[1] == pytest.approx(16 * 23740.9375)
