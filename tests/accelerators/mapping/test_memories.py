"""Memories between DRAM and the buffer: words, room, energy by hand; refusals; that more memory never loses."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from random import Random

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from mapped_cases import CHAIN, PRODUCT, TEXTS, check_ports, check_schedule, layered, sized
from walker import words_moved

from cascadesim.accelerators.catalogue import load
from cascadesim.accelerators.energy import area_um2, dynamic_energy_j, sram_area_um2, sram_row_energy_pj
from cascadesim.accelerators.mapping.group import BoundGroup
from cascadesim.accelerators.mapping.legality import IllegalMapping
from cascadesim.accelerators.mapping.mapper.costs import ALIKE, Objective, actions, cost, priced, total
from cascadesim.accelerators.mapping.mapper.described import described
from cascadesim.accelerators.mapping.mapper.search import every_group, search
from cascadesim.accelerators.mapping.mapper.single import ways
from cascadesim.accelerators.mapping.mapper.staying import in_memories, with_staying
from cascadesim.accelerators.mapping.placing import bound
from cascadesim.accelerators.mapping.plan import searched
from cascadesim.accelerators.mapping.resolve import resolved
from cascadesim.accelerators.mapping.schedule.program import program
from cascadesim.accelerators.mapping.schedule.sliced import group_program
from cascadesim.accelerators.mapping.text import parse_mapping
from cascadesim.einsum_cascades.models.operation import linear
from cascadesim.einsum_cascades.notation.errors import CascadeSimError, SpecError
from cascadesim.einsum_cascades.notation.notation import cascade
from cascadesim.einsum_cascades.texts import find
from cascadesim.simulator.engine.engine import run

SIZES = {"R": 8, "K": 8, "N": 8}
WEIGHTS_NEAR = """mapping mine for product
for r1, n1:
  split r: r1 by 2, r0
  split n: n1 by 4, n0
  array_2d [r0 over rows, n0 over columns]: Z for k
  keep A in global_buffer at r1 double
  keep W in global_buffer at n1 double
  keep W in far at top
  overlap pipeline
"""
TWO_GROUPS = """mapping mine for two-products
keep Y in far
for r:
  array_2d [n over columns]: Y for k
for r:
  array_2d [j over columns]: Z for n
"""


def group_of(text: str, far: int = 2**12, *near: int) -> BoundGroup:
    return resolved(parse_mapping(text), sized(PRODUCT, SIZES, 1), layered(2, 4, 4, 2**14, far, *near))[0]


def test_what_a_memory_keeps_comes_from_dram_once_and_from_there_as_often_as_it_is_needed() -> None:
    """W of 64 words for each of 4 rounds of rows; A of 64 passes by; Z of 64 leaves."""
    group = group_of(WEIGHTS_NEAR)
    assert group.memory_words == {"dram": (64 + 64, 64), "far": (4 * 64, 64), "global_buffer": (0, 64 + 4 * 64)}
    assert group.rooms == {"far": 64}
    assert group.bound_cycles == 256 + 64  # all that passes the memory, a word a cycle
    assert group_of(WEIGHTS_NEAR.replace("  keep W in far at top\n", "")).read_words == 64 + 4 * 64


def test_each_piece_is_fetched_once_before_it_is_loaded_for_the_first_time() -> None:
    """Two tiles of W of 32 words: 32 cycles from DRAM; a first load moves them in and out of the memory, 64 cycles."""
    made = program(group_of(WEIGHTS_NEAR))
    names = [task.name for task in made.tasks]
    fetches, loads = (names.index(name) for name in ("fetch W in far", "load W"))
    assert {(each[fetches], each[loads]) for each in made.tile_classes} == {(32, 64), (0, 32)}
    assert (made.tasks[fetches].unit, made.tasks[loads].unit) == ("dram", "far")
    check_schedule(group_of(WEIGHTS_NEAR))


def test_a_piece_is_loaded_again_only_after_it_was_fetched() -> None:
    """A comes for the first four columns and is there for the last one, which could begin first: it would take the room
    of what has to come before it, for good."""
    text = """mapping mine for product
for n1, k1:
  split n: n1 by 4, n0
  split k: k1 by 4, k0
  array_2d [r over rows, n0 over columns]: Z for k0
  keep A, W in global_buffer at k1 double
  keep A in far at n1
  overlap interleave 8
"""
    of = sized(PRODUCT, {"R": 2, "K": 7, "N": 5}, 1)
    check_schedule(resolved(parse_mapping(text), of, layered(2, 4, 4, 2**7, 64))[0])


def test_two_memories_in_a_row_keep_a_block_and_a_tile_of_it() -> None:
    """W, all 64 words, far; near it the half that a block of columns needs, once for each of two blocks of rows; from
    there to the buffer for each of four tiles of rows in turn. A comes for each of two blocks of columns."""
    group = group_of("""mapping mine for product
for r2, n2, r1, n1:
  split r: r2 by 4, r1 by 2, r0
  split n: n2 by 4, n1 by 2, n0
  array_2d [r0 over rows, n0 over columns]: Z for k
  keep A in global_buffer at r1
  keep W in global_buffer at n1
  keep W in far at top
  keep W in near at n2
""", 2**12, 2**10)
    assert group.memory_words["far"] == (2 * 64, 64)
    assert group.memory_words["near"] == (4 * 64, 2 * 64)
    assert group.read_words == 2 * 64 + 64
    assert group.rooms == {"far": 64, "near": 32}
    check_schedule(group)


def test_where_tiles_overlap_two_pieces_more_have_room() -> None:
    """Where the tile in the memory moves on: half of W, and two tiles of the buffer, 16 words each."""
    text = """mapping mine for product
for n2, r1, n1:
  split r: r1 by 2, r0
  split n: n2 by 4, n1 by 2, n0
  array_2d [r0 over rows, n0 over columns]: Z for k
  keep W in far at n2
  overlap OVERLAP
"""
    assert group_of(text.replace("OVERLAP", "serial")).rooms == {"far": 32}
    assert group_of(text.replace("OVERLAP", "interleave 2")).rooms == {"far": 32 + 2 * 16}


def test_a_result_that_rests_in_a_memory_passes_no_dram() -> None:
    """Y of 4 x 5 words is stored there and loaded from there; A of 12, W of 15, U of 10 words come, Z of 8 leaves."""
    of = sized(CHAIN, {"R": 4, "K": 3, "N": 5, "J": 2}, 1)
    first, second = resolved(parse_mapping(TWO_GROUPS), of, layered(2, 4, 4, 2**14, 2**12))
    assert [group.memory_words["far"] for group in (first, second)] == [(0, 20), (20, 0)]
    assert [(group.read_words, group.written_words) for group in (first, second)] == [(12 + 15, 0), (10, 8)]
    assert [group.rooms["far"] for group in (first, second)] == [20, 20]
    for group in (first, second):
        check_schedule(group)
        check_ports(group)


def test_energy_and_area_are_those_of_each_memory() -> None:
    group = group_of(WEIGHTS_NEAR)
    far = group.spec.memory("far")
    read_pj, write_pj = sram_row_energy_pj(far.capacity_bytes, far.row_bytes)
    joules = dynamic_energy_j(actions(group), group.spec)
    assert joules["far"] == pytest.approx((256 * read_pj + 64 * write_pj) * 1e-12)  # a word a row
    assert area_um2(group.spec)["far"] == sram_area_um2(far.capacity_bytes, far.row_bytes)


@pytest.mark.parametrize(("old", "new", "says"), [
    ("far at top", "fra at top", "no memory 'fra' to keep tiles in; did you mean 'far'?"),
    ("far at top", "far at top double", "leave out 'double'"),
    ("W in far at top", "Z in far at top", "Z is made here; 'keep Z in far', before the first group"),
    ("W in far at top", "V in far at top", "no tensor 'V' in this group"),
    ("keep W in far at top", "keep W in far at top\n  keep W in far at r1", "W is kept in far twice"),
    ("for product\n", "for product\nkeep Z in far\n", "no later group reads Z"),
])  # fmt: skip
def test_what_is_illegal_says_what_would_be_legal(old: str, new: str, says: str) -> None:
    with pytest.raises(IllegalMapping, match=says):
        group_of(WEIGHTS_NEAR.replace(old, new))


def test_what_does_not_go_together_says_why() -> None:
    """A result that is an output, too; tiles that overlap; slices that pass by."""
    sizes = {"R": 4, "K": 3, "N": 5, "J": 2}
    output = sized(cascade("two-products", CHAIN.text + "\nC[r,n] = Y[r,n]"), sizes, 1)
    with pytest.raises(IllegalMapping, match="line 2: Y is an output, which goes to DRAM"):
        resolved(parse_mapping(TWO_GROUPS), output, layered(2, 4, 4, 2**14, 2**12))
    window = sized(cascade("window", "Y[i,n] = X[i+j] * F[j,n]"), {"I": 8, "J": 3, "N": 6}, 1)
    text = """mapping mine for window
for n1, i1:
  split i: i1 by 4, i0
  split n: n1 by 2, n0
  array_2d [n0 over rows, i0 over columns]: Y for j
  keep X in far at PLACE
"""
    with pytest.raises(IllegalMapping, match="X comes to far in tiles of i1, which have words in common"):
        resolved(parse_mapping(text.replace("PLACE", "n1")), window, layered(2, 4, 4, 2**14, 2**12))
    without = parse_mapping(text.replace("  keep X in far at PLACE\n", ""))
    (group,) = resolved(without, window, layered(2, 4, 4, 2**14, 64))
    assert [read.upstream for read in in_memories(group, "dram").reads if read.tensor == "X"] == [()]
    sliced = TWO_GROUPS.replace("keep Y in far\n", "").replace("for r:\n  array_2d [j", "  array_2d [j").replace(
        "for r:\n", "for r:\n  split k: k1 by 2, k0\n").replace("Y for k", "Y for k1, k0")  # fmt: skip
    chain = sized(CHAIN, sizes, 1)
    assert resolved(parse_mapping(sliced), chain, layered(2, 4, 4, 2**14, 2**12))[0].in_slices
    with pytest.raises(IllegalMapping, match="loops of single Einsums and tiles in far do not go together"):
        resolved(parse_mapping(sliced + "  keep U in far at top\n"), chain, layered(2, 4, 4, 2**14, 2**12))


def test_what_does_not_fit_names_the_memory() -> None:
    with pytest.raises(IllegalMapping, match=r"takes 128 bytes of far, which has 100; keep less there"):
        group_of(WEIGHTS_NEAR, 100)
    of = sized(CHAIN, {"R": 4, "K": 3, "N": 5, "J": 2}, 1)
    with pytest.raises(IllegalMapping, match=r"takes 40 bytes of far"):
        resolved(parse_mapping(TWO_GROUPS), of, layered(2, 4, 4, 2**14, 38))


@pytest.mark.parametrize(("architecture", "setting", "says"), [
    ("fusemax", "far", "only arrays that are mapped throughout have some"),
    ("flat", "far", "only arrays that are mapped throughout have some"),
    ("edge-array", "dram", "memories: dram names another part of the array"),
    ("edge-array", "Far", r"memories\.Far"),
])  # fmt: skip
def test_which_arrays_have_memories_and_what_they_are_called(architecture: str, setting: str, says: str) -> None:
    fields = {"capacity_bytes": 2**20, "row_bytes": 64, "ports": 1}
    with pytest.raises(SpecError, match=says):
        load(architecture, [f"memories.{setting}.{field}={value}" for field, value in fields.items()])


def test_what_saves_most_by_itself_does_not_take_the_room_of_both() -> None:
    """A product in tiles of 2 x 2 x 2: with 256 bytes all of W fits, alone; parts of both save more, as with 192."""
    text = parse_mapping("""mapping mine for product
for r1, n1, k1:
  split r: r1 by 2, r0
  split n: n1 by 2, n0
  split k: k1 by 2, k0
  array_2d [n0 over rows, r0 over columns]: Z for k0
  keep A, W in global_buffer at k1 double
  overlap pipeline
""")
    (group,) = resolved(text, sized(PRODUCT, {"R": 5, "K": 16, "N": 7}, 1), layered(2, 4, 4, 2**10))
    smaller, larger = (in_memories(replace(group, spec=layered(2, 4, 4, 2**10, far)), "dram") for far in (192, 256))
    assert larger.read_words <= smaller.read_words


@pytest.mark.slow
@settings(max_examples=10, deadline=None)
@given(st.tuples(*[st.integers(2, 30)] * 4), st.integers(6, 9), st.randoms())
def test_a_larger_memory_never_lets_more_words_pass(sizes, bits, random) -> None:  # type: ignore[no-untyped-def]
    """Of three inputs a small memory holds one, or parts of two: what it holds of one must not cost another."""
    of = sized(cascade("three", "Y[i,f] = X[i,j,k] * B[j,f] * C[k,f]"), dict(zip("IJKF", sizes, strict=True)), 1)
    group = random.choice(list(islice(every_group(of, layered(2, 4, 4, 2**bits), (0,)), 60)))
    moved = []
    for far in (32, 64, 96, 128, 192, 256, 512, 1024, 2048, 4096):
        larger = in_memories(replace(group, spec=layered(2, 4, 4, 2**bits, far)), "dram")
        assert larger.fits
        moved.append(larger.read_words)
    assert moved == sorted(moved, reverse=True)


extents = st.fixed_dictionaries({
    "B": st.just(1), "X": st.just(1), "H": st.integers(1, 3), "G": st.just(1), "M": st.integers(1, 12),
    "P": st.integers(1, 12), "E": st.integers(1, 4), "F": st.integers(1, 4), "R": st.integers(1, 9),
    "K": st.integers(1, 9), "N": st.integers(1, 9), "J": st.integers(1, 5), "D": st.integers(1, 4),
})  # fmt: skip
memories = st.lists(st.integers(5, 12), min_size=1, max_size=2).map(lambda bits: [2**bit for bit in sorted(bits)[::-1]])
objectives: st.SearchStrategy[Objective] = st.sampled_from(["latency", "dram", "energy"])


@pytest.mark.slow
@settings(max_examples=30, deadline=None)
@given(st.sampled_from(TEXTS), extents, st.integers(1, 4), st.integers(5, 8), memories, st.randoms())
def test_words_between_memories_are_those_that_a_walker_moves(text, sizes, inner, bits, room, random) -> None:  # type: ignore[no-untyped-def]
    """Of any group of a search: its schedule moves the words of its closed form and is no shorter; a tile in a memory
    comes when another one is there."""
    of, spec = sized(text, sizes, inner), layered(2, 4, 4, 2**bits, *room)
    members = tuple(range(len(of.work)))
    places = [members[first:last] for first in members for last in range(first + 1, len(members) + 1)]
    groups = list(every_group(of, spec, random.choice(places)))
    assume(groups)
    group = random.choice([group for group in groups if any(read.upstream for read in group.reads)] or groups)
    check_schedule(group)
    check_ports(group)
    for hop in (hop for way in group.hops.values() for hop in way):
        if len({operand.shape for operand in hop.kept.operands}) == 1:  # else a tile is that of the widest use
            assert group.filled(hop.kept) == words_moved(group, hop.kept, again=group.attended is not None)
    for way in group.hops.values():
        assert [group.filled(hop.kept) for hop in way] == sorted(group.filled(hop.kept) for hop in way)


@pytest.mark.slow
@settings(max_examples=6, deadline=None)
@given(st.sampled_from(TEXTS), extents, st.integers(1, 4), st.integers(7, 10), memories, objectives)
def test_a_search_with_memories_never_costs_more_and_its_text_reads_back(  # type: ignore[no-untyped-def]
    text, sizes, inner, bits, room, objective
) -> None:
    of = sized(text, sizes, inner)
    try:
        without, _ = search(of, layered(2, 4, 4, 2**bits), 3, objective)
    except CascadeSimError:
        assume(False)
    found, _ = search(of, layered(2, 4, 4, 2**bits, *room), 3, objective)
    assert found is not None
    assert without is not None
    assert total(found, objective)[0] <= total(without, objective)[0] * ALIKE[objective] * (1 + 1e-9)
    rested = with_staying(found, objective)
    assert total(rested, objective)[0] <= total(found, objective)[0]
    again = resolved(parse_mapping(str(described("mine", rested))), of, rested[0].spec)
    for group, other in zip(rested, again, strict=True):
        assert (group.memory_words, group.rooms, group.bound_cycles) == (
            other.memory_words, other.rooms, other.bound_cycles)  # fmt: skip
        assert run(program(group)).cycles >= group.bound_cycles if not group.in_slices else True


@pytest.mark.parametrize("setting", ["pe_array.count=2", "accumulators={capacity_bytes: 64, row_bytes: 2, ports: 1}",
                                     "memories={far: {capacity_bytes: 64, row_bytes: 2, ports: 1}}"])  # fmt: skip
def test_the_published_rule_for_products_knows_none_of_this(setting: str) -> None:
    operation = linear("q_proj", 64, 64, 64)
    with pytest.raises(CascadeSimError, match="artifact accounting covers published mappings only"):
        load("edge-array", [setting]).plan(operation, "artifact")


def test_a_memory_that_is_slower_than_dram_is_left_alone() -> None:
    """For latency; where fewest words are asked for it is used: outside of all loops, where no piece of a next tile
    takes room beside the 64 words."""
    slow = layered(2, 4, 4, 2**14, 2**12)
    fast_dram = slow.model_copy(update={"dram": slow.dram.model_copy(update={"bandwidth_bytes_per_s": 2e11})})
    text = WEIGHTS_NEAR.replace("  keep W in far at top\n", "")
    group = resolved(parse_mapping(text), sized(PRODUCT, SIZES, 1), fast_dram)[0]
    assert not any(read.upstream for read in in_memories(group, "latency").reads)
    assert [read.upstream for read in in_memories(group, "dram").reads] == [(), (("far", 0),)]


@given(st.integers(0, 10**6), st.sampled_from((9, 10, 12, 14)))
@settings(max_examples=25, deadline=None)
def test_what_is_counted_of_a_memory_on_many_sizes_is_what_each_mapping_moves(seed: int, bits: int) -> None:
    """Of one size of some ways: words from DRAM where the memory keeps the tiles that save most, of all that fit."""
    random = Random(seed)
    of = sized(PRODUCT, {axis: random.randint(1, 40) for axis in "RNK"}, 1)
    spec = layered(3, 2, 2, 2**8, 2**bits)
    every = list(ways(of, spec, 0, overlapped=True))
    for way in random.sample(every, min(len(every), 6)):
        own = way.take(np.array([random.randrange(len(way.steps[0]))]))
        group = in_memories(bound(own.draft().overlapped(2)), "dram")
        if own.fits.item():
            assert own.dram_words.item() == group.read_words + group.written_words
            assert own.bound_cycles.item() == pytest.approx(group.busiest_cycles, rel=1e-12)
            joules = sum(dynamic_energy_j(priced(actions(group)), spec).values())
            assert own.joules.item() == pytest.approx(joules, rel=1e-9)


@pytest.mark.slow
def test_blocks_for_a_memory_are_found_where_the_channel_is_slow() -> None:
    """1,000 x 1,100 of depth 1,200 at two bytes a cycle: a block of A behind the buffer lets W come twice at most, and
    not as often as the buffer alone would ask for it; what is waited for at cycle level is what a search counted."""
    spec = load("edge-array", ("memories.shared.capacity_bytes=2MiB", "memories.shared.row_bytes=64",
                               "memories.shared.ports=1", "dram.bandwidth_bytes_per_s=2GB/s")).spec  # type: ignore[attr-defined]
    found = searched(find("linear"), (("r", 1000), ("n", 1100), ("k", 1200)), spec)
    assert found.dram_bytes / 2 <= 1000 * 1200 + 2 * 1200 * 1100 + 1000 * 1100
    (group,) = found.groups
    # waits for tiles that are used for several count apart from rounds that wait for the channel: a twentieth too much
    assert run(group_program(group)).cycles == pytest.approx(cost(group)[0], rel=0.05)
