"""Accumulators: what the 2D array adds up or hands over lies there, beside the buffer; room, ports, energy by hand."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mapped_cases import CHAIN, PRODUCT, TEXTS, accumulating, check_ports, check_schedule, layered, sized

from cascadesim.accelerators.catalogue import load
from cascadesim.accelerators.energy import dynamic_energy_j, sram_row_energy_pj
from cascadesim.accelerators.mapping.group import BoundGroup
from cascadesim.accelerators.mapping.legality import IllegalMapping
from cascadesim.accelerators.mapping.mapper.costs import actions
from cascadesim.accelerators.mapping.mapper.described import described
from cascadesim.accelerators.mapping.mapper.search import search
from cascadesim.accelerators.mapping.resolve import resolved
from cascadesim.accelerators.mapping.schedule.sliced import group_program
from cascadesim.accelerators.mapping.text import parse_mapping
from cascadesim.einsum_cascades.notation.errors import CascadeSimError, SpecError

SLICES = """mapping mine for product
for r1, k1, n1:
  split r: r1 by 2, r0
  split k: k1 by 4, k0
  split n: n1 by 4, n0
  array_2d [r0 over rows, n0 over columns]: Z for k0
  keep A, W in global_buffer at n1 double
  overlap serial
"""
ARRAY = layered(2, 4, 4, 2**14)


def group_of(words: int) -> BoundGroup:
    return resolved(parse_mapping(SLICES), sized(PRODUCT, {"R": 4, "K": 8, "N": 8}, 1), accumulating(ARRAY, words))[0]


def test_sums_over_several_tiles_lie_there_and_leave_from_there() -> None:
    """Two rows of 8 sums over two slices of k: 16 words. All 32 of Z are read and written twice, and leave once."""
    group, of = group_of(16), sized(PRODUCT, {"R": 4, "K": 8, "N": 8}, 1)
    (without,) = resolved(parse_mapping(SLICES), of, ARRAY)
    assert group.room_in("accumulators") == 16
    assert group.footprint_words == without.footprint_words - 16
    assert group.all_port_words("accumulators") == (2 * 32, 2 * 32)
    assert group.accumulated_words == 4 * 32 + 32
    assert group.moved_words == without.moved_words - 5 * 32
    assert group.read_words + group.written_words == without.read_words + without.written_words
    check_schedule(group)
    check_ports(group)


def test_their_ports_are_busy_in_the_schedule() -> None:
    made = group_program(group_of(16))
    assert made.busy_cycles()["accumulator rows"] == 5 * 32  # a word a cycle
    assert "accumulators" in made.units


def test_what_does_not_fit_says_so() -> None:
    with pytest.raises(IllegalMapping, match=r"results of Z take 32 bytes of accumulators, which has 30"):
        group_of(15)


def test_a_result_that_passes_to_the_lanes_lies_there_and_what_they_make_does_not() -> None:
    """Y of 4 x 5 words, more than registers of a word hold: made by the array and read by the lanes, and the other way
    round."""
    chain = """mapping mine for two-products
for top:
  MAKER: Y for r, k
  READER: Z for r, n
"""
    spec = accumulating(ARRAY, 2**10).model_copy(update={
        unit: getattr(ARRAY, unit).model_copy(update={field: 1}) for unit, field in (
            ("pe_array", "register_words_per_pe"), ("vector_array", "register_words_per_lane"))})  # fmt: skip
    of = sized(CHAIN, {"R": 4, "K": 3, "N": 5, "J": 2}, 1)
    places = {}
    for maker, reader in (("array_2d [n over columns]", "array_1d [j over lanes]"),
                          ("array_1d [n over lanes]", "array_2d [j over columns]")):  # fmt: skip
        text = chain.replace("MAKER", maker).replace("READER", reader)
        (group,) = resolved(parse_mapping(text), of, spec)
        places[maker[:8]] = {each.tensor: each.where for each in group.made}["Y"]
        check_schedule(group)
    assert places == {"array_2d": "accumulators", "array_1d": "global_buffer"}


def test_energy_is_that_of_the_smaller_memory() -> None:
    """160 words, of which 64 are written."""
    group = group_of(16)
    read_pj, write_pj = sram_row_energy_pj(32, 2)
    assert dynamic_energy_j(actions(group), group.spec)["accumulators"] == pytest.approx(
        (96 * read_pj + 64 * write_pj) * 1e-12)  # fmt: skip


def test_published_arrays_have_none() -> None:
    fields = ("capacity_bytes=65536", "row_bytes=64", "ports=1")
    with pytest.raises(SpecError, match="only arrays that are mapped throughout have some"):
        load("fusemax", [f"accumulators.{field}" for field in fields])
    units = [unit.name for unit in load("edge-array", [f"accumulators.{field}" for field in fields]).units]
    assert units == ["array_2d", "array_1d", "global_buffer", "accumulators", "dram"]


@pytest.mark.slow
@settings(max_examples=8, deadline=None)
@given(st.sampled_from(TEXTS), st.integers(2, 9), st.integers(5, 9), st.sampled_from(["latency", "dram", "energy"]))
def test_searches_with_accumulators_read_back_and_run(text, length, bits, objective) -> None:  # type: ignore[no-untyped-def]
    sizes = {"B": 1, "X": 1, "H": 2, "G": 1, "M": length, "P": length, "E": 3, "F": 3, "R": 5, "K": 4, "N": 6, "J": 3,
             "D": 2}  # fmt: skip
    of, spec = sized(text, sizes, 2), accumulating(layered(2, 4, 4, 2**bits, 2**9), 2 ** (bits - 3))
    try:
        groups, _ = search(of, spec, 3, objective)
    except CascadeSimError:
        return
    assert groups is not None
    again = resolved(parse_mapping(str(described("mine", groups))), of, spec)
    for group, other in zip(groups, again, strict=True):
        assert group.fits
        assert (group.moved_words, group.accumulated_words, group.bound_cycles) == (
            other.moved_words, other.accumulated_words, other.bound_cycles)  # fmt: skip
        check_schedule(group)
        check_ports(group)
