"""Einsums with loops of their own: slices pass by, two blocks overlap, what is illegal says what would be legal."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from cascadesim.accelerators.catalogue import load
from cascadesim.accelerators.mapping.legality import IllegalMapping
from cascadesim.accelerators.mapping.mapper.described import described
from cascadesim.accelerators.mapping.placing import without_spills
from cascadesim.accelerators.mapping.plan import given as given_mapping
from cascadesim.accelerators.mapping.plan import searched
from cascadesim.accelerators.mapping.resolve import resolved
from cascadesim.accelerators.mapping.schedule.sliced import group_program
from cascadesim.accelerators.mapping.text import find_mapping, parse_mapping
from cascadesim.accelerators.program import After
from cascadesim.accelerators.spec import SpatialArray
from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.einsum_cascades.notation.notation import cascade
from cascadesim.einsum_cascades.texts import find
from cascadesim.simulator.engine.engine import run

ROOM = "global_buffer.capacity_bytes=1048576"  # of two blocks of scores
STREAMED = (("b", 1), ("h", 12), ("g", 1), ("m", 4096), ("p", 256), ("e", 64), ("f", 64))
GRAM = cascade("gram", """
    QK[h,m,p] = X[h,p,e] * K[h,m,e]
    A[h,m,p]  = exp(QK[h,m,p])
    AV[h,p,e] = A[h,m,p] * X[h,p,e]
""")
TWICE = """\
mapping twice for gram
for h, p1:
  split m: m1 by 32, m0
  split p: p1 by 32, p0
  array_2d [p0 over rows, m0 over columns]: QK for m1, e
  array_1d [m over lanes]: A for p0
  array_2d [p0 over rows, e over columns]: AV for m1, m0
"""


def spec_of(name: str, *settings_of: str) -> SpatialArray:
    return load(name, settings_of).spec  # type: ignore[attr-defined, no-any-return]


def test_what_one_einsum_alone_reads_passes_by_in_slices() -> None:
    """Two blocks of 32 queries have their scores of 4,096 keys in the buffer; of K and V there are two slices of 32.

    K and V come once for each block of queries: 8 times 12 heads. The lanes take the four Einsums of the softmax one
    after another, 2,048 cycles a row and block; while they do the products of the next block go on.
    """
    spec = spec_of("flat-edge", ROOM)
    found = given_mapping(find_mapping("flat-streamed"), find("attention-3pass"), STREAMED, spec)
    (group,) = found.groups
    scores, queries, slices = 2 * 32 * 4096, 2 * 32 * 64, 2 * 2 * 32 * 64
    sums = 2 * 32 * 64  # AV, of which the array holds 32 columns at a time
    assert group.footprint_words == scores + queries + slices + sums  # GM and SD are in registers
    assert {read.tensor: group.filled(read) for read in group.reads} == {
        "Q": 12 * 256 * 64, "K": 12 * 8 * 4096 * 64, "V": 12 * 8 * 4096 * 64}  # fmt: skip
    schedule = run(group_program(group))
    softmax = 12 * 8 * 4 * 32 * 4096 // 32
    assert group.busy_cycles == {"array_1d": softmax, "array_2d": softmax}  # 2 products of depth 64 on 32 x 32
    assert group.bound_cycles <= schedule.cycles < 1.5 * group.bound_cycles
    serial = parse_mapping(str(find_mapping("flat-streamed")).replace("interleave 2", "serial"))
    (alone,) = given_mapping(serial, find("attention-3pass"), STREAMED, spec).groups
    assert run(group_program(alone)).cycles >= 2 * softmax


@pytest.mark.parametrize(("wrong", "right", "line", "message"), [
    ("QK for e, m1", "QK for m1, e", 5, "QK has a loop of its own over m1: before its other ranks"),
    ("m1 by 8192", "m1 by array_2d.columns", 5, "a loop of its own is over an axis that it walks, in at least two "
                                                "steps of a multiple of 1; m1 advances by 8192 of 4096"),
    ("keep Q in global_buffer at m1", "keep Q in global_buffer at p1", 8, "Q cannot be kept inside a loop that only "
                                                                          "one"),
    ("interleave 3", "interleave 2", 10, "overlap two at a time: 'overlap interleave 2', or 'serial'"),
    ("overlap pipeline", "overlap interleave 2", 10, "overlap two at a time"),
])  # fmt: skip
def test_loops_of_single_einsums_that_are_illegal_say_what_would_be_legal(
    wrong: str, right: str, line: int, message: str
) -> None:
    changed = parse_mapping(str(find_mapping("flat-streamed")).replace(right, wrong, 1))
    with pytest.raises(CascadeSimError, match=rf"flat-streamed, line {line}: .*{re.escape(message)}"):
        given_mapping(changed, find("attention-3pass"), STREAMED, spec_of("flat"))


def test_what_two_tiles_read_at_once_is_kept_twice() -> None:
    """Scores of X by itself: the first and the last Einsum read X, of two blocks of queries at once."""
    mapping = TWICE + "  keep X in global_buffer at p1\n  overlap interleave 2\n"
    with pytest.raises(IllegalMapping, match="X is read by Einsums of two tiles at once; keep it 'double'"):
        given_mapping(parse_mapping(mapping), GRAM, STREAMED, spec_of("flat"))
    twice = parse_mapping(mapping.replace("at p1\n", "at p1 double\n"))
    (group,) = given_mapping(twice, GRAM, STREAMED, spec_of("flat")).groups
    assert run(group_program(group)).cycles >= group.bound_cycles


def test_tiles_overlap_only_where_the_last_einsum_ends_them() -> None:
    """Nobody waits for T, which may still read the scores of a tile when those of the next but one are made."""
    text = cascade("two-ends", """
        QK[h,m,p] = Q[h,p,e] * K[h,m,e]
        A[h,m,p]  = exp(QK[h,m,p])
        T[h,p]    = A[h,m,p]
        AV[h,p,f] = A[h,m,p] * V[h,m,f]
    """)
    mapping = """\
mapping ends for two-ends
for h, p1:
  split m: m1 by 32, m0
  split p: p1 by 32, p0
  array_2d [p0 over rows, m0 over columns]: QK for m1, e
  array_1d [m over lanes]: A for p0; T for p0
  array_2d [p0 over rows, f over columns]: AV for m1, m0
  overlap interleave 2
"""
    with pytest.raises(IllegalMapping, match="where the last Einsum needs all others, on the unit of the first"):
        given_mapping(parse_mapping(mapping), text, STREAMED, spec_of("flat"))
    serial = parse_mapping(mapping.replace("interleave 2", "serial"))
    assert given_mapping(serial, text, STREAMED, spec_of("flat")).groups
    weighted = cascade("weights", """
        QK[h,m,p] = Q[h,p,e] * K[h,m,e]
        A[h,m,p]  = exp(QK[h,m,p])
    """)
    lanes = parse_mapping(mapping.replace("two-ends", "weights").replace("; T for p0", "").replace(
        "  array_2d [p0 over rows, f over columns]: AV for m1, m0\n", ""))
    with pytest.raises(IllegalMapping, match="on the unit of the first"):  # A of one block may go on beside QK of two
        given_mapping(lanes, weighted, STREAMED, spec_of("flat"))


@pytest.mark.slow
def test_a_search_lets_keys_pass_by_where_they_do_not_fit() -> None:
    """Scores of a block of rows fit 512 KiB; K and V, 2 x 4,096 x 64 words beside them, do not."""
    spec = spec_of("flat-edge")
    found = searched(find("attention-3pass"), STREAMED, spec)
    (group,) = found.groups
    assert {run.work.name for run in group.runs if run.own} >= {"QK", "AV"}
    assert {read.tensor for read in group.reads if read.depth > len(group.loops)} >= {"K", "V"}
    mapping = described("found", found.groups)
    again, = resolved(parse_mapping(str(mapping)), without_spills(group.problem), spec)
    assert str(described("found", (again,))) == str(mapping)
    assert (again.bound_cycles, again.footprint_words) == (group.bound_cycles, group.footprint_words)
    assert run(group_program(again)).cycles == run(group_program(group)).cycles


def test_what_one_einsum_needs_has_the_room_of_what_the_one_before_needed() -> None:
    """AV is added up slice by slice and leaves when it is complete: BV, made after it, takes its room."""
    text = cascade("two-results", """
        QK[h,m,p] = Q[h,p,e] * K[h,m,e]
        A[h,m,p]  = exp(QK[h,m,p])
        AV[h,p,f] = A[h,m,p] * V[h,m,f]
        BV[h,p,f] = A[h,m,p] * W[h,m,f]
    """)
    mapping = parse_mapping("""\
mapping results for two-results
for h, p1:
  split m: m1 by 32, m0
  split p: p1 by 32, p0
  array_2d [p0 over rows, m0 over columns]: QK for m1, e
  array_1d [m over lanes]: A for p0
  array_2d [p0 over rows, f over columns]: AV for m1, m0; BV for m1, m0
  overlap serial
""")
    (group,) = given_mapping(mapping, text, STREAMED, spec_of("flat-edge")).groups
    block, scores = 32 * 64, 32 * 4096
    assert group.footprint_words == scores + 2 * block  # and Q and a slice of K, or V and AV, or W and BV


def test_a_sum_that_the_array_does_not_hold_passes_the_ports_for_each_slice() -> None:
    """32 queries by 64 results on 32 columns: two rounds, each reads 32 x 32 weights; 32 keys of V; AV both ways."""
    spec = spec_of("flat-edge", ROOM)
    (group,) = given_mapping(find_mapping("flat-streamed"), find("attention-3pass"), STREAMED, spec).groups
    sums = group.runs[-1]
    assert group.port_words(sums, {**group.leaf, "m": 32}) == (2 * 32 * 32 + 32 * 64 + 32 * 64, 32 * 64)
    narrow = tuple((rank, 32 if rank == "f" else size) for rank, size in STREAMED)
    (held,) = given_mapping(find_mapping("flat-streamed"), find("attention-3pass"), narrow, spec).groups
    assert held.port_words(held.runs[-1], {**held.leaf, "m": 32})[0] == 32 * 32 + 32 * 32  # AV stays in the elements


def test_the_parts_of_a_block_wait_for_each_other() -> None:
    """One block of 32 queries: QK of all keys, then the softmax on the lanes, then AV, and nothing beside them."""
    one = tuple((rank, {"h": 1, "p": 32}.get(rank, size)) for rank, size in STREAMED)
    (group,) = given_mapping(find_mapping("flat-streamed"), find("attention-3pass"), one, spec_of("flat")).groups
    schedule = run(group_program(group))
    assert schedule.cycles >= sum(group.busy_cycles.values())
    assert group.busy_cycles["array_1d"] == 4 * 32 * 4096 // 256


def test_ports_that_are_slow_hold_up_the_last_slice() -> None:
    """With one port of a word a cycle all that a block moves has passed before its last slice of AV ends and drains:
    its 256 cycles run beside the ports, not after them."""
    one = tuple((rank, {"h": 1, "p": 32}.get(rank, size)) for rank, size in STREAMED)
    spec = spec_of("flat", "global_buffer.ports=1", "global_buffer.row_bytes=2")
    (group,) = given_mapping(find_mapping("flat-streamed"), find("attention-3pass"), one, spec).groups
    last = group.runs[-1]
    cycles = run(group_program(group)).cycles
    assert group.port_cycles + last.drain_cycles <= cycles < group.port_cycles + last.cycles({**group.leaf, "m": 256})


def test_what_passes_to_another_part_is_kept_be_it_on_the_same_unit() -> None:
    """Y is made slice by slice and read slice by slice: all 64 x 128 of it lie in the buffer between, twice."""
    text = cascade("two-products", """
        Y[p,n] = A[p,k] * W[k,n]
        Z[p,j] = Y[p,n] * U[n,j]
    """)
    mapping = parse_mapping("""\
mapping kept for two-products
for p1:
  split p: p1 by 64, p0
  split n: n1 by 32, n0
  array_2d [p0 over rows, n0 over columns]: Y for n1, k
  array_2d [p0 over rows, j over columns]: Z for n1, n0
  overlap interleave 2
""")
    sizes = (("b", 4), ("p", 256), ("k", 32), ("n", 128), ("j", 32))
    (group,) = given_mapping(mapping, text, sizes, spec_of("flat-edge")).groups
    slices = 2 * 2 * 32 * 32  # W and U
    assert group.footprint_words == 2 * 64 * 32 + slices + 2 * 64 * 128 + 2 * 64 * 32  # A; Y; Z, which is added up
    made = group_program(group)
    busy = made.busy_cycles()
    assert {each.work.name: busy[each.work.name] for each in group.runs} == {
        each.work.name: 4 * group.cycles(each) for each in group.runs}  # four instances
    assert busy["store Z"] == 4 * 4 * 72  # 64 x 32 words of 2 bytes at 57.1 bytes a cycle


def test_a_partial_last_slice_takes_what_it_holds() -> None:
    """100 keys in slices of 32: three whole ones and 4, each a round of 64 depths on 32 x 32 elements."""
    sizes = tuple((rank, 100 if rank == "m" else size) for rank, size in STREAMED)
    (group,) = given_mapping(find_mapping("flat-streamed"), find("attention-3pass"), sizes, spec_of("flat-edge")).groups
    scores, *_, sums = group.runs
    assert scores.tile_cycles(group.leaf) == 4 * 64
    assert sums.tile_cycles(group.leaf) == 2 * 100  # 64 results on 32 columns, a key a cycle
    assert group.filled(group.reads[1]) == 12 * 8 * 100 * 64


def test_what_two_parts_read_comes_before_the_first() -> None:
    """X is 32 x 64 words: no product begins before it is there, though the last part reads it, too."""
    mapping = parse_mapping(TWICE + "  overlap serial\n")
    spec = spec_of("flat-edge")
    (group,) = given_mapping(mapping, GRAM, STREAMED, spec).groups
    schedule = run(group_program(group))
    array = next(unit for unit in schedule.units if unit.name == "array_2d")
    assert array.first_start >= 2 * 32 * 64 * spec.word_bytes / spec.dram_bytes_per_cycle  # X, and a slice of K


def test_the_loads_of_the_next_slice_come_before_the_stores_of_this_one() -> None:
    """Z leaves slice by slice: its stores take as long as the loads of U, and the channel is busy all the time."""
    text = cascade("wide", """
        Y[p,n] = A[p,k] * W[k,n]
        Z[p,j] = Y[p,n] * U[n,j]
    """)
    mapping = parse_mapping("""\
mapping wide for wide
for p1:
  split p: p1 by 32, p0
  split j: j1 by 32, j0
  array_2d [p0 over rows, n over columns]: Y for k
  array_2d [p0 over rows, j0 over columns]: Z for j1, n
  overlap interleave 2
""")
    sizes = (("p", 64), ("k", 32), ("n", 32), ("j", 4096))
    (group,) = given_mapping(mapping, text, sizes, spec_of("flat-edge")).groups
    assert group.dram_cycles > group.busy_cycles["array_2d"]
    assert run(group_program(group)).cycles < 1.1 * group.dram_cycles


def test_blocks_of_all_instances_are_begun_and_ended_once() -> None:
    """Three sequences of a block: the first block of one begins before the last one of the one before ends."""
    sizes, spec = tuple((rank, {"b": 3, "h": 1, "p": 64}.get(rank, size)) for rank, size in STREAMED), spec_of("flat")
    (group,) = given_mapping(find_mapping("flat-streamed"), find("attention-3pass"), sizes, spec).groups
    busy = group_program(group).busy_cycles()
    assert {each.work.name: busy[each.work.name] for each in group.runs} == {
        each.work.name: 3 * group.cycles(each) for each in group.runs}
    assert group.cycles(group.runs[0]) == 16 * 64  # 64 queries in one block; slices of 256 keys, depths


@pytest.mark.slow
def test_rows_have_places_for_as_long_as_products_hold_the_channel() -> None:
    """A row takes the lanes 8 cycles, a slice or a block of all else DRAM 1,578: 198 rows more; on less room fewer."""
    some = ("b", 64), ("h", 1), ("g", 1), ("m", 512), ("p", 512), ("e", 64), ("f", 64)
    spec = spec_of("flat")
    (group,) = given_mapping(find_mapping("flat-spilled"), find("attention-3pass"), some, spec).groups
    others = 2 * 512 * 64 + 2 * 256 * 64 + 2 * 512 * 256  # Q, AV; K, V; weights, scores
    rows = -(-others * 2 * 940_000_000 // (400 * 2**30) // 8)
    assert group.places_ahead["QK from DRAM"] == group.places_ahead["A to leave"] == rows == 198
    others = 2 * 512 * 64 + 256 * 64 + 512 * 256 + 2 * 512  # of a slice of scores, 2 x 64 steps: all but K and itself
    assert group.places_ahead["K"] == -(-others * 2 * 940_000_000 // (400 * 2**30) // 128) == 8
    held = tuple(each._replace(where="registers") if each.tensor == "A" else each for each in group.made)
    assert replace(group, made=held).places_ahead.keys() == group.places_ahead.keys() - {"A to leave"}
    program = group_program(group)
    moving = sum(cycles for name, cycles in program.busy_cycles().items() if name.split()[0] in ("load", "store"))
    assert moving <= run(program).cycles < 1.05 * moving  # but for the first and the last blocks
    queues = tuple(replace(queue, capacity=min(2, queue.capacity)) for queue in program.queues)
    assert run(replace(program, queues=queues)).cycles > 1.25 * moving
    buffer = spec.global_buffer.model_copy(update={"capacity_bytes": 2 * (group.footprint_words + 5 * 2 * 512)})
    tight = replace(group, spec=spec.model_copy(update={"global_buffer": buffer}))
    assert {name: more for name, more in tight.places_ahead.items() if more} == {"QK from DRAM": 5, "A to leave": 5}
    assert not any(replace(group, in_flight=1).places_ahead.values())


def test_products_that_use_one_tensor_do_not_take_turns() -> None:
    """X is used by both products: with slices of three blocks in turns it would need a third place, for ever."""
    text = TWICE.replace("array_1d [m over lanes]: A for p0", "for p0:\n    array_1d [m over lanes]: A") + (
        "  spill QK, A\n  keep X in global_buffer at p1 double\n  keep K, A in global_buffer at m1 double\n"
        "  keep QK in global_buffer at p0 double\n  overlap interleave 2\n")
    some = ("b", 1), ("h", 1), ("g", 1), ("m", 256), ("p", 512), ("e", 64)
    (group,) = given_mapping(parse_mapping(text), GRAM, some, spec_of("flat-edge")).groups
    made = group_program(group)
    tasks = {task.name: task.after for task in made.tasks}
    assert After("AV", same_column=True) in tasks["QK"]  # a block after the one before it
    assert After("AV", same_column=True) not in tasks["A"]
    assert group.bound_cycles <= run(made).cycles < 1.05 * group.bound_cycles
