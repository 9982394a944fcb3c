"""A block of an input of which the next one takes the place piece by piece: room by hand, words, what is illegal."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mapped_cases import PRODUCT, array, check_ports, check_schedule, sized

from cascadesim.accelerators.mapping.group import BoundGroup
from cascadesim.accelerators.mapping.mapper.described import described
from cascadesim.accelerators.mapping.resolve import resolved
from cascadesim.accelerators.mapping.sliced import group_program
from cascadesim.accelerators.mapping.text import parse_mapping
from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.simulator.engine.engine import run

BLOCKS = """\
mapping blocks for product
for r2, n1, r1:
  split r: r2 by {block}, r1 by {rows}, r0
  split n: n1 by {columns}, n0
  array_2d [r0 over rows, n0 over columns]: Z for k
  keep A in global_buffer at r2 in pieces
  keep W in global_buffer at n1 double
  overlap {overlap}
"""
SIZES = {"R": 24, "K": 5, "N": 12}


def blocks(text: str, sizes: dict[str, int] = SIZES) -> BoundGroup:
    (group,) = resolved(parse_mapping(text), sized(PRODUCT, sizes, 1), array(2, 4, 4))
    return group


def text_of(block: int = 8, rows: int = 2, columns: int = 4, overlap: str = "interleave 2") -> str:
    return BLOCKS.format(block=block, rows=rows, columns=columns, overlap=overlap)


def test_beside_a_block_there_is_room_for_the_next_piece() -> None:
    """8 rows of 5, 2 more on their way, and 2 times 4 columns of 5; two blocks would be 80 words. W comes 3 times."""
    group = blocks(text_of())
    assert group.footprint_words == 8 * 5 + 2 * 5 + 2 * 4 * 5
    assert {read.tensor: group.filled(read) for read in group.reads} == {"A": 24 * 5, "W": 3 * 12 * 5}
    double = blocks(text_of().replace("in pieces", "double"))
    assert double.footprint_words == 2 * 8 * 5 + 2 * 4 * 5
    assert double.read_words == group.read_words


def test_the_next_block_is_loaded_while_the_last_columns_of_this_one_are_worked_on() -> None:
    """Blocks of 8 rows are 40 cycles of the DRAM channel: with one copy of a block the arrays would wait for each."""
    piecewise, double = (run(group_program(blocks(text))).cycles for text in (
        text_of(), text_of().replace("in pieces", "double")))  # fmt: skip
    assert piecewise < double + 3 * 40


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 20), st.integers(1, 4), st.integers(1, 9), st.integers(1, 4), st.integers(2, 4),
       st.integers(1, 3), st.sampled_from(["interleave 2", "interleave 3", "pipeline"]))  # fmt: skip
def test_it_moves_the_words_of_a_whole_block(
    rows: int, depth: int, columns: int, step: int, pieces: int, across: int, overlap: str
) -> None:
    text = text_of(pieces * step, step, across, overlap)
    sizes = {"R": rows, "K": depth, "N": columns}
    group, whole = blocks(text, sizes), blocks(text.replace("in pieces", "double"), sizes)
    assert group.read_words == whole.read_words
    check_schedule(group)
    check_ports(group)
    again = resolved(parse_mapping(str(described("again", [group]))), group.problem, group.spec)[0]
    assert (again.footprint_words, again.read_words, again.bound_cycles) == (
        group.footprint_words, group.read_words, group.bound_cycles)  # fmt: skip


@pytest.mark.parametrize(("right", "wrong", "message"), [
    ("keep A in global_buffer at r2 in pieces", "keep A in global_buffer at r1 in pieces",
     "A has no pieces: no loop inside of where it is kept cuts it"),
    ("interleave 2", "serial", "A: the next tile comes in pieces where tiles overlap"),
])  # fmt: skip
def test_what_has_no_pieces_is_refused_with_its_line(right: str, wrong: str, message: str) -> None:
    with pytest.raises(CascadeSimError, match=f"blocks, line 2: {re.escape(message)}"):
        blocks(text_of().replace(right, wrong))
