"""What a search finds for traffic on one element beside S words, against every nest of loops there is."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from random import Random

import numpy as np
import pytest
from exhaustive import NEVER, Group, Step, fewest_words
from hypothesis import given, settings
from hypothesis import strategies as st
from mapped_cases import CHAIN, PRODUCT, array, sized

from cascadesim.accelerators.catalogue import load
from cascadesim.accelerators.mapping.legality import IllegalMapping
from cascadesim.accelerators.mapping.mapper.candidates import Neighbours
from cascadesim.accelerators.mapping.mapper.costs import total
from cascadesim.accelerators.mapping.mapper.described import described
from cascadesim.accelerators.mapping.mapper.nests import NestSearch, nested
from cascadesim.accelerators.mapping.mapper.search import search
from cascadesim.accelerators.mapping.mapper.staying import with_staying
from cascadesim.accelerators.mapping.mapper.streams import Shared
from cascadesim.accelerators.mapping.placing import bind
from cascadesim.accelerators.mapping.plan import given as given_mapping
from cascadesim.accelerators.mapping.plan import searched, sized_problems
from cascadesim.accelerators.mapping.resolve import resolved
from cascadesim.accelerators.mapping.schedule.sliced import group_program
from cascadesim.accelerators.mapping.text import parse_mapping
from cascadesim.accelerators.spec import SpatialArray
from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.einsum_cascades.notation.ir import Cascade
from cascadesim.einsum_cascades.notation.notation import cascade
from cascadesim.einsum_cascades.texts import find
from cascadesim.simulator.engine.engine import run

NORM = cascade("norm-product", """
    SQ[r]   = X[r,d] * X[r,d]
    IN[r]   = 1 / sqrt(SQ[r])
    N[r,d]  = X[r,d] * IN[r] * G[d]
    Z[r,n]  = N[r,d] * W[d,n]
""")
STEPS = {
    "product": (Step("Z", "rn", (("A", "rk"), ("W", "kn"))),),
    "two-products": (Step("Y", "rn", (("A", "rk"), ("W", "kn"))), Step("Z", "rj", (("Y", "rn"), ("U", "nj")))),
    "norm-product": (
        Step("SQ", "r", (("X", "rd"),)), Step("IN", "r", (("SQ", "r"),)),
        Step("N", "rd", (("X", "rd"), ("IN", "r"), ("G", "d"))), Step("Z", "rn", (("N", "rd"), ("W", "dn")))),
    "attention-3pass": (
        Step("QK", "mp", (("Q", "pe"), ("K", "me"))), Step("GM", "p", (("QK", "mp"),)),
        Step("SN", "mp", (("QK", "mp"), ("GM", "p"))), Step("SD", "p", (("SN", "mp"),)),
        Step("A", "mp", (("SN", "mp"), ("SD", "p"))), Step("AV", "pf", (("A", "mp"), ("V", "mf")))),
    "attention-1pass": (
        Step("QK", "mp", (("Q", "pe"), ("K", "me"))), Step("LM", "mp", (("QK", "mp"),)),
        Step("RM", "p", (("LM", "mp"),), over="m"), Step("SLN", "mp", (("QK", "mp"), ("RM", "p"))),
        Step("SLD", "mp", (("SLN", "mp"),)), Step("SLNV", "mpf", (("SLN", "mp"), ("V", "mf"))),
        Step("PRM", "mp", (("RM", "p"),)), Step("SPD", "mp", (("PRM", "mp"), ("RD", "p")), in_place=True),
        Step("RD", "p", (("SPD", "mp"), ("SLD", "mp")), over="m"),
        Step("SPNV", "mpf", (("PRM", "mp"), ("RNV", "pf")), in_place=True),
        Step("RNV", "pf", (("SPNV", "mpf"), ("SLNV", "mpf")), over="m"),
        Step("AV", "pf", (("RNV", "pf"), ("RD", "p")), late=True)),
}  # fmt: skip


def one_element(words: int) -> SpatialArray:
    """An element without registers and a memory of so many words."""
    return load("one-element", (f"global_buffer.capacity_bytes={2 * words}",)).spec  # type: ignore[attr-defined,no-any-return]


def found_words(text: Cascade, extents: dict[str, int], words: int) -> int:
    """Words of the mapping that is found, whose text reads back and whose schedule does all of it."""
    sizes = (*extents.items(), *((("b", 1), ("h", 1), ("g", 1)) if "Q" in text.inputs else ()))
    spec = one_element(words)
    try:
        found = searched(text, sizes, spec, objective="dram", thorough=True)
    except CascadeSimError:
        return NEVER
    again = given_mapping(parse_mapping(str(described("found", found.groups))), text, sizes, spec)
    assert again.dram_bytes == found.dram_bytes
    for group in found.groups:
        program = group_program(group)
        busy = program.busy_cycles()
        moved = sum(busy[task.name] * 4 for task in program.tasks if task.unit == "dram")  # four words a cycle at most
        assert moved >= sum(group.memory_words["dram"])
        assert run(program).cycles >= group.bound_cycles
    return found.dram_bytes // 2


@pytest.mark.slow
@pytest.mark.parametrize(("text", "extents", "words"), [
    (PRODUCT, {"r": 3, "n": 3, "k": 3}, (1, 3, 9, 13)),
    (PRODUCT, {"r": 4, "n": 3, "k": 2}, (6, 7)),
    (CHAIN, {"r": 3, "n": 3, "k": 3, "j": 3}, (1, 4, 9, 15)),
    (CHAIN, {"r": 3, "n": 4, "k": 2, "j": 3}, (7,)),
    (NORM, {"r": 3, "d": 3, "n": 3}, (3, 5, 10, 20)),
    (find("attention-3pass"), {"p": 3, "m": 3, "e": 2, "f": 2}, (3, 7, 10, 14)),
    (find("attention-3pass"), {"p": 4, "m": 3, "e": 1, "f": 2}, (6,)),
], ids=lambda value: getattr(value, "name", None))  # fmt: skip
def test_no_nest_of_loops_moves_fewer_words(text: Cascade, extents: dict[str, int], words: tuple[int, ...]) -> None:
    for room in words:
        assert found_words(text, extents, room) == fewest_words(STEPS[text.name], extents, room), room


@pytest.mark.slow
@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("extents", [{"p": 3, "m": 3, "e": 2, "f": 2}, {"p": 3, "m": 4, "e": 1, "f": 2}])
def test_no_loops_that_all_of_attention_in_one_pass_share_move_fewer_words(extents: dict[str, int], first: int) -> None:
    """All twelve Einsums, or all but the scores, key by key; running values stay outside the loop over keys."""
    of, steps = sized(find("attention-1pass"), {axis.upper(): size for axis, size in extents.items()} | {"H": 1}, 1), (
        STEPS["attention-1pass"][first:])  # fmt: skip
    for words in (8, 11, 14, 18, 34):
        group, _ = nested(of, one_element(words), tuple(range(first, 12)))
        least = Group(steps, (), tuple(sorted(extents.items()))).fewest(words)
        assert (NEVER if group is None else sum(group.memory_words["dram"])) == least, words


@pytest.mark.nightly
@given(st.sampled_from(sorted(STEPS)[1:]), st.lists(st.integers(2, 4), min_size=4, max_size=4), st.integers(3, 30))
@settings(max_examples=150, deadline=None)
def test_no_nest_of_loops_moves_fewer_words_at_many_sizes(name: str, sizes: list[int], words: int) -> None:
    texts = {text.name: text for text in (PRODUCT, CHAIN, NORM, find("attention-3pass"))}
    axes = sorted({axis for step in STEPS[name] for axis in step.walked})
    extents = dict(zip(axes, sorted(sizes, reverse=True), strict=False))
    extents[axes[0]] = min(extents[axes[0]], 3)
    assert found_words(texts[name], extents, words) == fewest_words(STEPS[name], extents, words)


@pytest.mark.slow
@given(st.data())
@settings(max_examples=15, deadline=None)
def test_balanced_steps_are_as_good_as_all(data: st.DataObject) -> None:
    """Two products of up to 15 a side: no step that is not balanced, and no further loop, moves fewer words."""
    extents = {axis: data.draw(st.integers(4, 15)) for axis in "RNKJ"}
    words = data.draw(st.integers(8, 120))
    of = sized(CHAIN, extents, 1)
    stretch = NestSearch(of, one_element(words), (0, 1), dict.fromkeys(of.extents, 1))
    found = stretch.best(frozenset("rn"))
    for order in ("rnr", "nrn", "rnrn", "nrnr"):
        steps = {axis: [(inner * count, inner) for inner in range(1, of.extents[axis])
                        for count in range(2 if order.count(axis) > 1 else 1, of.extents[axis])
                        if inner * count < of.extents[axis]] for axis in set(order)}  # fmt: skip
        every = [dict(zip(steps, chosen, strict=True)) for chosen in product(*steps.values())]
        taken = [(axis, order[:place].count(axis) + (order.count(axis) == 1)) for place, axis in enumerate(order)]
        arrays = tuple(np.array([each[axis][level] for each in every], np.int64) for axis, level in taken)
        loops = Shared(of.extents, tuple(order), arrays, dict.fromkeys(of.extents, 1))
        assert not every or stretch.in_loops(loops, found) is found


def test_of_long_axes_sizes_next_to_the_best_are_tried_too() -> None:
    """30,011 x 29,989 of depth 64, then by 64, beside 9,000 words: one of 90 sizes has 68 rows, the next longer one has
    room, too. A tile has a row of A and of Z for each of them, a column of Y, and a word of W or U."""
    of = sized(CHAIN, {"R": 30_011, "K": 64, "N": 29_989, "J": 64}, 1)
    search = NestSearch(of, one_element(9_000), (0, 1), dict.fromkeys(of.extents, 1))
    found = search.best(frozenset("rn"))
    assert found.loops == (("r", 69), ("n", 1))
    assert found.words == 2 * 30_011 * 64 + 2 * 29_989 * 64 * -(-30_011 // 69)
    assert 69 * (2 * 64 + 1) + 1 <= 9_000 < 70 * (2 * 64 + 1) + 1


@pytest.mark.slow
@given(st.integers(0, 10**6))
@settings(max_examples=100, deadline=None)
def test_what_is_counted_on_many_sizes_is_what_the_group_moves(seed: int) -> None:
    random = Random(seed)
    text = random.choice([PRODUCT, CHAIN, NORM, find("attention-3pass"), find("attention-1pass")])
    of = sized(text, {axis: random.randint(2, 12) for axis in "MPEFRKNJD"} | {"H": 1}, 1)
    first = random.randrange(len(of.work))
    members = tuple(range(first, random.randint(first + 1, len(of.work))))
    spec = one_element(random.randint(3, 150))
    for inner, closed, shared in Neighbours(of, spec, members).shapes():
        if closed is not None and closed not in "m":
            continue
        search = NestSearch(of, spec, members, dict.fromkeys(of.extents, 1), closed, len(members) - len(inner))
        found = search.best(shared) if search.is_known else None
        if found is not None and found.streams:
            try:
                group = bind(search.draft(found))
            except IllegalMapping:  # Einsums that must share loops with others
                continue
            assert sum(group.memory_words["dram"]) == found.words
            assert group.fits or not group.in_slices  # without a loop of its own a tile has room for all at once


def test_without_registers_a_sum_lies_in_the_buffer() -> None:
    """A row of 8 sums beside a row of A and all of W; on an array with registers a sum stays there."""
    mapping = "mapping mine for product\nfor r:\n  array_2d: Z for n, k\n  keep W in global_buffer at top"
    of = sized(PRODUCT, {"R": 5, "K": 3, "N": 8}, 1)
    rooms = {spec.pe_array.register_words_per_pe > 0: resolved(parse_mapping(mapping), of, spec)[0].footprint_words
             for spec in (one_element(100), array(1, 1, 1))}  # fmt: skip
    assert rooms == {False: 3 + 3 * 8 + 8, True: 3 + 3 * 8}


def test_two_products_of_which_one_needs_the_room_of_the_other() -> None:
    """24 x 28 of depth 20, then by 22, beside 64 words: Y in tiles of 8 x 7 words; 7 of W and one of A stay by turns
    with 7 of U and one of Z. A comes for each of 4 tiles along n, W for each of 3 along r; Z leaves 4 times and comes
    back 3 times. The page of mappings shows it."""
    of = sized(CHAIN, {"R": 24, "K": 20, "N": 28, "J": 22}, 1)
    group, _ = nested(of, one_element(64), (0, 1))
    assert group is not None
    a, w, u, z = 24 * 20 * 4, 20 * 28 * 3, 28 * 22 * 3, 24 * 22 * (2 * 4 - 1)
    assert sum(group.memory_words["dram"]) == a + w + u + z == 9144
    assert group.footprint_words == 8 * 7 + 7 + 1
    page = (Path(__file__).parents[4] / "docs" / "mapping.md").read_text(encoding="utf-8")
    assert str(described("two", (group,))).split("\n", 1)[1] in page


@pytest.mark.slow
@given(st.integers(0, 10**6))
@settings(max_examples=12, deadline=None)
def test_the_nests_of_a_larger_array_let_no_more_words_pass(seed: int) -> None:
    """They may take the tiles of a smaller one."""
    random = Random(seed)
    text, extents = random.choice([CHAIN, NORM, find("attention-3pass")]), {"H": 1}
    extents |= {axis: random.randint(4, 40) for axis in "MPEFRKNJD"}
    of, room = sized(text, extents, 1), random.choice((600, 1_500, 6_000))
    first = random.randrange(len(of.work) - 1)
    members = tuple(range(first, random.randint(first + 2, len(of.work))))
    moved = [NEVER if group is None else sum(group.memory_words["dram"]) for group, _ in (
        nested(of, array(side, side, side, room), members) for side in (1, 3, 4, 8))]  # fmt: skip
    assert moved == sorted(moved, reverse=True)


@pytest.mark.slow
def test_with_nests_a_search_is_never_worse_than_without() -> None:
    """Attention of 200 tokens on 32 x 32 elements beside 4 KiB: what stays between groups, chosen last, favours groups
    that were not the cheapest with nests."""
    sizes = (("b", 1), ("h", 1), ("g", 1), ("p", 200), ("m", 200), ("e", 32), ("f", 32))
    spec = load("edge-array", ("pe_array.rows=32", "pe_array.columns=32", "vector_array.lanes=32",
                               "global_buffer.capacity_bytes=4096")).spec  # type: ignore[attr-defined]
    ((of, _),) = sized_problems(find("attention-3pass"), sizes, spec)
    groups, _ = search(of, spec, objective="dram")
    alone, _ = total(with_staying(groups or (), "dram"), "dram")
    assert searched(find("attention-3pass"), sizes, spec, objective="dram").dram_bytes / 2 <= alone


@pytest.mark.slow
def test_on_an_array_what_lies_side_by_side_moves_together() -> None:
    """Attention beside 6,000 bytes on 4 x 8 elements: what was counted on many sizes at once fits as a group, whose
    Einsums take tiles of several words."""
    of = sized(find("attention-3pass"), {"H": 2, "P": 96, "M": 96, "E": 16, "F": 16, "B": 1}, 1)
    spec = array(4, 8, 8, 6_000)
    group, compared = nested(of, spec, tuple(range(6)))
    assert group is not None
    assert compared > 100
    assert group.fits
    assert max(run.tile_cycles(group.leaf) for run in group.runs) > 1
    assert run(group_program(group)).cycles >= group.bound_cycles
