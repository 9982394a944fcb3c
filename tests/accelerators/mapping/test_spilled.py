"""Nests that several Einsums share, and results that go to DRAM and come back inside a group (FLAT, ASPLOS'23)."""

from __future__ import annotations

import re
from itertools import islice

import pytest

from cascadesim.accelerators.catalogue import load
from cascadesim.accelerators.mapping.group import BoundGroup
from cascadesim.accelerators.mapping.legality import IllegalMapping
from cascadesim.accelerators.mapping.mapper.candidates import Neighbours
from cascadesim.accelerators.mapping.mapper.described import described
from cascadesim.accelerators.mapping.mapper.staying import pass_by_pass
from cascadesim.accelerators.mapping.placing import without_spills
from cascadesim.accelerators.mapping.plan import given as given_mapping
from cascadesim.accelerators.mapping.plan import searched, sized_problems
from cascadesim.accelerators.mapping.resolve import resolved
from cascadesim.accelerators.mapping.schedule.rounds import woven
from cascadesim.accelerators.mapping.schedule.sliced import group_program
from cascadesim.accelerators.mapping.text import find_mapping, parse_mapping
from cascadesim.accelerators.program import After, Repeat, TileRun
from cascadesim.accelerators.spec import SpatialArray
from cascadesim.einsum_cascades.notation.errors import CascadeSimError, NotationError
from cascadesim.einsum_cascades.notation.notation import cascade
from cascadesim.einsum_cascades.texts import find
from cascadesim.simulator.engine.engine import run

ATTENTION = find("attention-3pass")
LONG = (("b", 1), ("h", 1), ("g", 1), ("m", 8192), ("p", 8192), ("e", 128), ("f", 128))
ROWS = """\
mapping rows for attention-3pass
for h, p1:
  split p: p1 by 128, p0
  split m: m1 by 128, m0
  array_2d [m0 over rows, p over columns]: QK for m1, e
  for p0:
    array_1d [m over lanes]: GM; SN; SD; A
  array_2d [p over rows, m0 over columns]: AV for m1, f
  spill QK, A
  keep Q in global_buffer at p1 double
  keep QK in global_buffer at p0 double
  keep K, V, A in global_buffer at m1 double
  overlap interleave 2
"""


def edge() -> SpatialArray:
    return load("flat-edge").spec  # type: ignore[attr-defined, no-any-return]


def bound_rows(text: str = ROWS) -> BoundGroup:
    (group,) = given_mapping(parse_mapping(text), ATTENTION, LONG, edge()).groups
    return group


def test_scores_and_weights_pass_dram_twice_and_only_slices_of_them_have_room() -> None:
    """64 blocks of 128 queries: K and V come for each; scores and weights are written once and read once.

    Room: two blocks of Q and of AV; two rows of scores and of numerators, which those of one block need while AV of the
    one before is added up; of K, of V and of the weights two slices of 128 keys.
    """
    group = bound_rows()
    pairs, words = 8192 * 8192, 8192 * 128
    assert {read.tensor: group.filled(read) for read in group.reads} == {
        "Q": words, "K": 64 * words, "V": 64 * words, "QK from DRAM": pairs, "A from DRAM": pairs}  # fmt: skip
    assert group.read_words == words + 2 * 64 * words + 2 * pairs
    assert group.written_words == 2 * pairs + words
    assert group.footprint_words == 2 * 2 * 128 * 128 + 2 * 2 * 8192 + 3 * 2 * 128 * 128


def test_the_softmax_of_a_block_runs_beside_products_of_others() -> None:
    """The products take 2 x 8,388,608 cycles, the lanes 8,388,608: neither they nor the channel hold up the array.

    Alone are the scores of the first block and the product of the last one, 2 of 128 such parts, and the softmax of the
    block beside each of them, half as long and waited for: 2 more.
    """
    group = bound_rows()
    schedule = run(group_program(group))
    assert group.busy_cycles == {"array_2d": 2 * 8192**2 * 128 // 32**2, "array_1d": 4 * 8192**2 // 32}
    assert group.bound_cycles == group.busy_cycles["array_2d"]
    most = (1 + 5 / 128) * group.bound_cycles  # one more for slices that wait
    assert group.bound_cycles <= schedule.cycles < most


def test_one_block_waits_for_itself() -> None:
    """A single block: no softmax before all scores are stored, no product before all weights are."""
    one = tuple((rank, 128 if rank == "p" else size) for rank, size in LONG)
    (group,) = given_mapping(parse_mapping(ROWS), ATTENTION, one, edge()).groups
    assert run(group_program(group)).cycles >= sum(group.busy_cycles.values())
    (serial,) = given_mapping(parse_mapping(ROWS.replace("interleave 2", "serial")), ATTENTION, one, edge()).groups
    assert run(group_program(serial)).cycles >= sum(group.busy_cycles.values()) + group.dram_cycles / 2


def test_a_tile_by_itself_takes_its_parts_one_after_another() -> None:
    """128 queries: 2 x 131,072 cycles of products, 4 x 32,768 of the lanes, and 32 until the scores have left."""
    group = bound_rows()
    assert group.latency(group.leaf) == 3 * 131072 + 32
    assert group.open_cycles == 64 // 2 * (3 * 131072 + 32)


def test_slices_have_places_for_two() -> None:
    """The third slice of scores waits for the maximum and for the store of the first; so do numerators and weights."""
    (group,) = given_mapping(find_mapping("flat-slices"), ATTENTION, LONG, edge()).groups
    made = group_program(group)
    assert {queue.name: queue.capacity for queue in made.queues} == dict.fromkeys((
        "Q", "K", "V", "QK from DRAM", "SN from DRAM", "QK for GM", "QK to leave", "SN for SD", "SN to leave",
        "A for AV"), 2)  # fmt: skip
    tasks = {task.name: task for task in made.tasks}
    assert tasks["QK"].takes == ("QK for GM", "QK to leave")
    assert "QK for GM" in tasks["GM"].gives_back
    assert tasks["store QK"].gives_back == ("QK to leave",)


def test_what_is_stored_is_there_before_it_is_loaded_and_a_third_block_waits_for_the_softmax_of_the_first() -> None:
    tasks = {task.name: task.after for task in group_program(bound_rows()).tasks}
    assert After("store QK", same_column=True) in tasks["load QK from DRAM"]
    assert After("store A", same_column=True) in tasks["load A from DRAM"]
    assert {After(name, same_column=True) for name in ("GM", "SN", "SD", "A")} <= set(tasks["QK"])
    assert all(After("AV", same_column=True) in tasks[name] for name in ("GM", "SN", "SD", "A"))  # of the third block
    assert After("A", same_column=True) not in tasks["GM"]
    serial = {task.name: task.after for task in group_program(bound_rows(ROWS.replace("interleave 2", "serial"))).tasks}
    assert After("store QK", latest=True) in serial["load QK from DRAM"]


def test_registers_hold_what_a_slice_has() -> None:
    """A row has one maximum and one sum, of 512 words that the lanes hold; the block has 1,024 of each."""
    short = (("b", 1), ("h", 1), ("g", 1), ("m", 1024), ("p", 4096), ("e", 16), ("f", 16))
    text = ROWS.replace("p1 by 128", "p1 by 1024").replace("m1 by 128", "m1 by 32")
    (group,) = given_mapping(parse_mapping(text), ATTENTION, short, edge()).groups
    assert {made.tensor: made.where for made in group.made if made.tensor in ("GM", "SD")} == {
        "GM": "registers", "SD": "registers"}  # fmt: skip


def test_einsums_of_the_nest_that_makes_a_result_read_it_as_it_is_made() -> None:
    """GM takes the maximum of scores beside them; SN alone has them back from DRAM, A the numerators; SD beside SN."""
    (group,) = given_mapping(find_mapping("flat-slices"), ATTENTION, LONG, edge()).groups
    assert [[run.work.name for run in part] for part in group.parts] == [["QK", "GM"], ["SN", "SD"], ["A", "AV"]]
    assert {run.work.name: [use.tensor for use in run.work.inputs] for run in group.runs} == {
        "QK": ["Q", "K"], "GM": ["QK"], "SN": ["QK from DRAM", "GM"], "SD": ["SN"], "A": ["SN from DRAM", "SD"],
        "AV": ["A", "V"]}  # fmt: skip
    pairs, words, blocks = 8192 * 8192, 8192 * 128, -(-8192 // group.leaf["p"])
    assert group.read_words == words + 2 * blocks * words + 2 * pairs
    in_turn = sum(sum(group.cycles(each) for each in part) for part in group.parts)
    assert group.bound_cycles <= run(group_program(group)).cycles < in_turn


@pytest.mark.parametrize("blocks", range(1, 10))
def test_every_block_does_its_work_once(blocks: int) -> None:
    some = tuple((rank, {"p": 128 * blocks - 7, "m": 1000, "b": 3}.get(rank, size)) for rank, size in LONG)
    (group,) = given_mapping(parse_mapping(ROWS), ATTENTION, some, edge()).groups
    busy = group_program(group).busy_cycles()
    assert {each.work.name: busy[each.work.name] for each in group.runs} == {
        each.work.name: 3 * group.cycles(each) for each in group.runs}
    assert run(group_program(group)).cycles >= 3 * group.bound_cycles


@pytest.mark.slow
def test_the_shipped_mapping_is_faster_than_rows_of_scores_that_stay() -> None:
    """8,192 keys of depth 128 on 512 KiB: 31 rows of scores would fit, so that K and V come 265 times."""
    (spilled,) = given_mapping(find_mapping("flat-spilled"), ATTENTION, LONG, edge()).groups
    queries = (262144 - 2 * 2 * 8192 - 2 * 2 * 32 * 128) // (2 * (128 + 128 + 32))  # of Q, AV and a slice of weights
    assert spilled.leaf["p"] == -(-8192 // -(-8192 // queries))  # balanced blocks
    streamed = str(find_mapping("flat-streamed")).replace("p1 by array_2d.rows", "p1 by fit global_buffer")
    (rows,) = given_mapping(parse_mapping(streamed), ATTENTION, LONG, edge()).groups
    assert spilled.bound_cycles < 0.7 * rows.bound_cycles


@pytest.mark.slow
def test_a_search_gives_each_pass_over_the_keys_a_nest() -> None:
    """Capped scores of 4,096 keys on 128 KiB: three groups one after another wait for the lanes, and for DRAM, in turn.

    Scores, maximum | numerators, sums | weights, products: what goes along the keys from one to the next is spilled.
    """
    sizes = (("b", 1), ("h", 1), ("g", 1), ("m", 4096), ("p", 4096), ("e", 64), ("f", 64))
    spec = load("edge-array", ("global_buffer.capacity_bytes=131072",)).spec  # type: ignore[attr-defined]
    found = searched(find("attention-softcap"), sizes, spec)
    (group,) = found.groups
    assert [[run.work.name for run in part] for part in group.parts] == [
        ["QK", "SC", "GM"], ["SN", "SD"], ["A", "AV"]]  # fmt: skip
    assert set(group.problem.spilled.values()) == {"SC", "SN"}
    text = described("found", found.groups)
    (again,) = resolved(parse_mapping(str(text)), without_spills(group.problem), spec)
    assert str(described("found", (again,))) == str(text)
    units = "array_1d", "array_2d"
    in_turn = sum(max(sum(group.cycles(each) for each in part if each.unit == unit) for unit in units)
                  for part in group.parts)  # fmt: skip
    cycles = run(group_program(group)).cycles
    assert group.bound_cycles <= cycles == run(group_program(again)).cycles < in_turn


@pytest.mark.parametrize(("name", "some"), [("edge-array", True), ("systolic-os-32", False)])
def test_a_search_makes_nests_that_are_legal(name: str, some: bool) -> None:
    """Folds that do not overlap and loops of single Einsums do not go together."""
    spec = load(name).spec  # type: ignore[attr-defined]
    (of, _) = next(sized_problems(ATTENTION, LONG, spec))
    found = list(pass_by_pass(islice(Neighbours(of, spec, tuple(range(6))).drafts(), 8)))
    assert bool(found) == some
    assert all(set(group.problem.spilled.values()) == {"QK", "SN"} for group in found)


def test_text_and_groups_say_the_same() -> None:
    group = bound_rows()
    text = described("rows", (group,))
    again, = resolved(parse_mapping(str(text)), without_spills(group.problem), edge())
    assert str(described("rows", (again,))) == str(text)
    assert "  for p0:\n    array_1d [m over lanes]: GM; SN; SD; A\n" in str(text)
    assert "  spill QK, A\n" in str(text)
    assert (again.bound_cycles, again.footprint_words) == (group.bound_cycles, group.footprint_words)


@pytest.mark.parametrize(("right", "wrong", "message"), [
    ("spill QK, A", "spill QK, SN, A", "SN is spilled and read within the same loops; it stays where it is used up"),
    ("spill QK, A", "spill QK, AV", "no Einsum of this group reads AV, which goes to DRAM anyway; leave it out"),
    ("spill QK, A", "spill QK, B", "no Einsum 'B' of this group to spill"),
    ("  for p0:", "  for m1:", "GM does not walk all of p: add 'for p'"),
    ("  for p0:", "  for p1:", "those are all the loops that it has of its own, inside of the group's"),
    ("GM; SN; SD; A", "GM; SN; A", "it has no place for SD|SD comes between Einsums of one nest"),
])  # fmt: skip
def test_what_is_illegal_says_what_would_be_legal(right: str, wrong: str, message: str) -> None:
    changed = ROWS.replace(right, wrong)
    assert changed != ROWS
    with pytest.raises(CascadeSimError, match="|".join(map(re.escape, message.split("|")))):
        bound_rows(changed)


def test_a_nest_may_be_said_in_other_words() -> None:
    """A row is a single query, which may be named; scores that one nest alone reads need no second place."""
    named = bound_rows(ROWS.replace("GM; SN; SD; A", "GM for p; SN for p; SD for p; A for p"))
    assert named.footprint_words == bound_rows().footprint_words
    assert bound_rows(ROWS.replace("p0 double", "p0")).footprint_words == named.footprint_words - 8192


def test_a_sum_is_not_read_inside_the_nest_that_it_goes_over() -> None:
    wrong = ROWS.replace("  for p0:\n    array_1d [m over lanes]: GM; SN; SD; A",
                         "  for m1:\n    array_1d [m0 over lanes]: GM for p; SN for p; SD for p; A for p")
    with pytest.raises(IllegalMapping, match="SN reads GM before its loop over m has ended"):
        bound_rows(wrong.replace("keep QK in global_buffer at p0", "keep QK in global_buffer at m1"))


TWO = cascade("two-products", """
    Y[p,n] = A[p,k] * W[k,n]
    Z[p,k] = Y[p,n] * U[n,k]
""")
PRODUCTS = """\
mapping two for two-products
for p1:
  split p: p1 by 32, p0
  split n: n1 by 32, n0
  array_2d [p0 over rows, n0 over columns]: Y for n1, k
  array_2d [p0 over rows, k over columns]: Z for n1, n0
  spill Y
  overlap interleave 2
"""
SIZES = (("b", 2), ("p", 100), ("k", 64), ("n", 128))


def test_parts_of_one_unit_follow_each_other() -> None:
    """Y is stored slice by slice, and all of a block is there before its first slice comes back."""
    (group,) = given_mapping(parse_mapping(PRODUCTS), TWO, SIZES, edge()).groups
    schedule = run(group_program(group))
    assert schedule.cycles >= 2 * group.bound_cycles
    assert group.written_words == 100 * 128 + 100 * 64
    assert {read.tensor: group.filled(read) for read in group.reads} == {
        "A": 100 * 64, "W": 4 * 64 * 128, "Y from DRAM": 100 * 128, "U": 4 * 128 * 64}  # fmt: skip


def test_a_spilled_sum_is_not_read_before_the_loop_that_it_goes_over() -> None:
    open_loop = PRODUCTS.replace("for p1:", "for p1, k1:").replace("  split n:", "  split k: k1 by 32, k0\n  split n:")
    with pytest.raises(IllegalMapping, match="Z reads Y before its loop over k has ended"):
        given_mapping(parse_mapping(open_loop.replace(", k\n", ", k0\n").replace("k over", "k0 over").replace(
            "interleave 2", "serial")), TWO, SIZES, edge())  # fmt: skip


def test_a_running_value_is_not_spilled() -> None:
    text = str(find_mapping("fusemax")).replace("  overlap pipeline", "  spill RM\n  overlap serial")
    with pytest.raises(IllegalMapping, match="RM is carried on, or stays between groups; it cannot be spilled"):
        given_mapping(parse_mapping(text), find("attention-1pass"), LONG, load("fusemax").spec)  # type: ignore[attr-defined]


def test_tiles_of_the_text_are_looped_over_by_groups() -> None:
    """Running values go from tile to tile of keys: those are shared loops."""
    apart = str(find_mapping("fusemax")).replace(", m1, p1:", ", p1:")
    text = apart.replace("  array_2d", "  for m1:\n    array_2d", 1)
    with pytest.raises(IllegalMapping, match="the text splits m into m1, m0, which only a group may loop over"):
        given_mapping(parse_mapping(text), find("attention-1pass"), LONG, edge())


def test_einsums_of_a_nest_on_two_units_overlap_slice_by_slice() -> None:
    """GM goes on with the first slice of scores, 32 cycles later; it ends when both have done theirs."""
    (group,) = given_mapping(find_mapping("flat-slices"), ATTENTION, LONG, edge()).groups
    scores, maximum, *_ = group.runs
    ends = group.path({})
    own = [each.tile_cycles(group.leaf) for each in (scores, maximum)]
    assert ends[scores.place] == own[0] > own[1]
    assert ends[maximum.place] == own[0] + 32
    serial = str(find_mapping("flat-slices")).replace("interleave 2", "serial")
    slow = load("flat-edge", ("dram.bandwidth_bytes_per_s=5e9",)).spec  # type: ignore[attr-defined]
    short = tuple((rank, {"m": 512, "p": 512}.get(rank, size)) for rank, size in LONG)
    (alone,) = given_mapping(parse_mapping(serial), ATTENTION, short, slow).groups
    assert alone.bound_cycles <= run(group_program(alone)).cycles  # scores leave while their maximum is taken


def test_nests_stand_in_the_group_itself() -> None:
    with pytest.raises(NotationError, match="line 7: 'for' inside of another; both stand in the group itself"):
        parse_mapping(ROWS.replace("    array_1d", "    for m1:\n      array_1d"))


def test_what_stays_between_groups_is_not_spilled() -> None:
    """Y is read here and by a later group, for which it stays."""
    text = cascade("three-products", """
        Y[p,n] = A[p,k] * W[k,n]
        Z[p,k] = Y[p,n] * U[n,k]
        T[p,k] = Y[p,n] * V[n,k]
    """)
    later = "for p:\n  array_2d [n over rows, k over columns]: T\n  overlap serial\n"
    mapping = PRODUCTS.replace("two-products\n", "three-products\nkeep Y in global_buffer\n") + later
    with pytest.raises(IllegalMapping, match="Y is carried on, or stays between groups; it cannot be spilled"):
        given_mapping(parse_mapping(mapping), text, SIZES, edge())
    assert len(given_mapping(parse_mapping(mapping.replace("  spill Y\n", "")), text, SIZES, edge()).groups) == 2
    both = given_mapping(parse_mapping(mapping.replace("keep Y in global_buffer\n", "")), text, SIZES, edge()).groups
    assert [group.written_words for group in both] == [100 * 128 + 100 * 64, 100 * 64]  # Y is stored once for both


def test_products_of_three_blocks_and_a_softmax_take_turns() -> None:
    """Queries and scores are used before weights, weights and values after: of each two blocks have room."""
    assert woven((TileRun(0, 1),) * 4, (TileRun(1, 1),) * 2, (TileRun(2, 1),) * 2) == (
        Repeat(2, (TileRun(0, 1), TileRun(1, 1), TileRun(0, 1), TileRun(2, 1))),)
    (group,) = given_mapping(find_mapping("flat-slices"), ATTENTION, LONG, edge()).groups
    assert run(group_program(group)).cycles < 1.05 * group.bound_cycles  # 1.12 where products come one block at a time


def test_slices_take_turns() -> None:
    """Eight slices beside two: four, one, four, one; what is equal is a repetition."""
    first, second = (Repeat(8, (TileRun(1, 1, 0),)),), (TileRun(2, 1, 1), TileRun(2, 1, 1))
    assert woven(first, second) == (Repeat(2, (Repeat(4, (TileRun(1, 1, 0),)), TileRun(2, 1, 1))),)
    assert woven(first, ()) == first
    assert woven((), second) == second
