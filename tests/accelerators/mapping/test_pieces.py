"""Inputs that arrive in pieces: room, loads and places by hand, what is refused, and that no answer changes."""

from __future__ import annotations

import pytest
from mapped_cases import CHAIN, PRODUCT, array, check_schedule, sized

from cascadesim.accelerators.catalogue import load
from cascadesim.accelerators.mapping.group import BoundGroup
from cascadesim.accelerators.mapping.legality import IllegalMapping
from cascadesim.accelerators.mapping.mapper.described import described
from cascadesim.accelerators.mapping.mapper.residency import further_out
from cascadesim.accelerators.mapping.mapper.search import best_group
from cascadesim.accelerators.mapping.mapper.staying import with_staying
from cascadesim.accelerators.mapping.plan import given
from cascadesim.accelerators.mapping.resolve import resolved
from cascadesim.accelerators.mapping.schedule.program import program
from cascadesim.accelerators.mapping.text import find_mapping, parse_mapping
from cascadesim.accelerators.spatial.array import SpatialMachine
from cascadesim.einsum_cascades.notation.ir import Cascade
from cascadesim.einsum_cascades.notation.notation import cascade
from cascadesim.einsum_cascades.sparsity.masks import CAUSAL, FULL, KeyInterval
from cascadesim.einsum_cascades.texts import find
from cascadesim.simulator.engine.engine import record, run

BLOCKS = """mapping blocks for product
for r2, n1, r1:
  split r: r2 by 4, r1 by 2, r0
  split n: n1 by 4, n0
  array_2d [r0 over rows, n0 over columns]: Z for k
  keep A in global_buffer at r2 by r1
  keep W in global_buffer at n1 double
  overlap interleave 2
"""
SIZES = {"R": 8, "K": 8, "N": 8}


def group_of(text: str, of: Cascade = PRODUCT, words_per_cycle: int = 1) -> BoundGroup:
    spec = array(2, 4, 4)
    faster = spec.dram.model_copy(update={"bandwidth_bytes_per_s": words_per_cycle * spec.dram.bandwidth_bytes_per_s})
    return resolved(parse_mapping(text), sized(of, SIZES, 1), spec.model_copy(update={"dram": faster}))[0]


def test_a_block_has_room_for_one_more_piece_where_two_of_it_would_be_two_blocks() -> None:
    """4 rows of A, 8 deep, and a piece of 2 rows; W of 4 columns, twice."""
    assert group_of(BLOCKS).footprint_words == (4 + 2) * 8 + 2 * 4 * 8
    assert group_of(BLOCKS.replace("by r1\n", "double\n")).footprint_words == 2 * 4 * 8 + 2 * 4 * 8
    alone = group_of(BLOCKS.replace("interleave 2", "serial"))  # nothing comes before its place is free
    assert alone.footprint_words == 4 * 8 + 2 * 4 * 8


def test_each_piece_comes_once_with_the_first_tile_that_uses_it() -> None:
    """Two blocks of two pieces of 16 words; W, all 64 words, for each block. Columns n1 begin anew for every block."""
    group = group_of(BLOCKS)
    reads = {read.tensor: group.filled(read) for read in group.reads}
    assert reads == {"A": 64, "W": 2 * 64}
    made = program(group)
    assert {queue.name: queue.capacity for queue in made.queues} == {"A": 2 + 1, "W": 2}
    names = [task.name for task in made.tasks]
    assert {each[names.index("load A")] for each in made.tile_classes} == {0, 16}  # a word a cycle
    assert run(made).cycles >= group.bound_cycles
    check_schedule(group)


def test_loads_in_pieces_hide_where_a_whole_block_is_waited_for() -> None:
    """The second block of two comes whole after the first is done with: its 32 words take 8 cycles, as long as a tile,
    while the array waits."""
    in_pieces, whole = (
        run(program(group_of(text, words_per_cycle=4))) for text in (BLOCKS, BLOCKS.replace("by r1\n", "\n")))
    assert in_pieces.cycles + 8 <= whole.cycles


SLICES = """mapping slices for product
for r1, k1, n1:
  split r: r1 by 4, r0
  split k: k1 by 4, k0
  split n: n1 by 2, n0
  array_2d [r0 over rows, n0 over columns]: Z for k0
  keep A, W in global_buffer at n1 double
  overlap pipeline
"""


def test_a_sum_leaves_piece_by_piece_in_the_last_round_of_the_loop_that_it_is_over() -> None:
    """Blocks of 4 rows and 8 columns are added up over two slices of k; then 2 columns leave with each tile, 8 words
    a time, where 32 at the end of the block would hold up what comes for the next one."""
    group = group_of(SLICES)
    made = program(group)
    names = [task.name for task in made.tasks]
    stores = [each[names.index("store Z")] for each in made.tile_classes]
    assert set(stores) == {0, 8}
    assert made.busy_cycles()["store Z"] == 64
    check_schedule(group)


def test_sums_of_which_as_many_pieces_take_turns_as_tiles_are_open_have_one_place() -> None:
    """4 rows and 8 columns of sums in pieces of 2 columns: 4 of them, and two tiles open. Of 2 pieces, while three
    tiles are open, the next block begins in a second place, and so it does where a block is one piece."""
    two, a, w, z = SLICES.replace("pipeline", "interleave 2"), 2 * 4 * 4, 2 * 4 * 2, 4 * 8
    halves, whole = two.replace("n1 by 2", "n1 by 4"), two.replace("r1, k1, n1", "r1, k1").replace(
        "  split n: n1 by 2, n0\n", "").replace("n0 over", "n over").replace("at n1", "at k1")
    assert group_of(two).footprint_words == a + w + z
    assert group_of(halves).footprint_words == a + 2 * w + z
    assert group_of(halves.replace("interleave 2", "interleave 3")).footprint_words == a + 2 * w + 2 * z
    assert group_of(whole).footprint_words == a + 4 * w + 2 * z
    alone = group_of(two.replace("interleave 2", "serial").replace(" double", ""))
    assert alone.footprint_words == a // 2 + w // 2 + z


def most_alive(group: BoundGroup, rounds: int, columns: int) -> int:
    """Pieces of the sums of two blocks that are there at once, from the first sum until one is stored."""
    runs = {(each.task, each.tile): each for each in record(program(group), 2 * rounds * columns)}
    begins = [block * rounds * columns + column for block in range(2) for column in range(columns)]
    pieces = [(runs["Z", tile].start, runs["store Z", tile + (rounds - 1) * columns].finish) for tile in begins]
    return max(sum(start <= now < end for start, end in pieces) for now, _ in pieces)


@pytest.mark.parametrize("overlap", ["pipeline", "interleave 2"])
@pytest.mark.parametrize("words_per_cycle", [1, 2, 16])
def test_a_piece_has_left_before_another_one_takes_its_place(overlap: str, words_per_cycle: int) -> None:
    """Of two blocks of four pieces never more than four are there."""
    group = group_of(SLICES.replace("pipeline", overlap), words_per_cycle=words_per_cycle)
    assert [made.copies for made in group.made] == [1]
    assert most_alive(group, rounds=2, columns=4) == 4


@pytest.mark.parametrize(("rows", "places"), [(4, 1), (16, 2)])
def test_results_that_drain_for_longer_than_pieces_take_have_a_second_place(rows: int, places: int) -> None:
    """Pieces of 2 columns and depth 4 take 4 cycles; four of them 16. Of 16 rows one drains as long: it leaves in the
    fifth epoch after its sum, when the next piece would lie there already."""
    text = SLICES.replace("r1 by 4", f"r1 by {rows}")
    of = sized(PRODUCT, {"R": 2 * rows, "K": 8, "N": 8}, 1)
    spec = array(rows, 2, 4)
    fast = spec.dram.model_copy(update={"bandwidth_bytes_per_s": 64 * spec.dram.bandwidth_bytes_per_s})
    (group,) = resolved(parse_mapping(text), of, spec.model_copy(update={"dram": fast, "global_buffer": (
        spec.global_buffer.model_copy(update={"row_bytes": 256}))}))  # fmt: skip
    assert [made.copies for made in group.made] == [places]
    assert most_alive(group, rounds=2, columns=4) <= 4 * places


def test_loads_run_ahead_by_as_many_epochs_as_a_tile_takes_to_come() -> None:
    """Tiles of 2 x 4 of depth 8 take 8 cycles, their columns of W 32, one in two tiles: W has 2 times 8 cycles to come
    but for the 16 words of A, and none are left: it runs ahead as far as it may, a tile's use."""
    text = """mapping ahead for product
for n1, r1:
  split r: r1 by 2, r0
  split n: n1 by 4, n0
  array_2d [r0 over rows, n0 over columns]: Z for k
  keep A in global_buffer at r1 double
  keep W in global_buffer at n1 double
  overlap pipeline
"""
    group = group_of(text)
    assert group.stages == {0: 4}  # W is used for the four tiles of r1
    assert {read.tensor: read.copies for read in group.reads} == {"A": 1 + 2 + 3, "W": 1 + 2}
    spec = array(2, 4, 4)
    buffer = spec.global_buffer.model_copy(update={"capacity_bytes": 2 * 180})  # three tiles of W and six of A are 192
    fewer = spec.model_copy(update={"global_buffer": buffer})
    small = resolved(parse_mapping(text), sized(PRODUCT, SIZES, 1), fewer)[0]
    assert small.stages == {0: 2}, "as far as there is room"
    assert run(program(group)).cycles <= run(program(small)).cycles


@pytest.mark.parametrize(("mask", "piece"), [(FULL, 4), (CAUSAL, 0)])
def test_where_a_mask_leaves_tiles_out_it_comes_whole(mask: KeyInterval, piece: int) -> None:
    """Which of its keys a query tile meets first and last differs from one to the next."""
    fusemax = load("fusemax")
    assert isinstance(fusemax, SpatialMachine)
    extents = tuple({"b": 1, "h": 2, "g": 1, "m": 1024, "p": 1024, "e": 64, "f": 64}.items())
    (group,) = given(find_mapping("fusemax"), find("attention-1pass"), extents, fusemax.spec, mask).groups
    queries = next(read for read in group.reads if read.tensor == "Q")
    assert (queries.piece, queries.copies > 1) == (piece, piece == 0)
    keys = next(read for read in group.reads if read.tensor == "K")
    assert further_out(group, keys, 1).piece == (keys.depth if piece else 0)  # nor does a search keep it in pieces


@pytest.mark.parametrize(("line", "said"), [
    ("keep A in global_buffer at r2 by n1", "A comes in pieces of a loop inside r2 along one of its ranks; n1 is none"),
    ("keep A in global_buffer at r1 by r2", "A comes in pieces of a loop inside r1 along one of its ranks; r2 is none"),
    ("keep A in global_buffer at r2 by r3", "no shared loop 'r3'; known: n1, r1, r2"),
])  # fmt: skip
def test_what_is_no_piece_is_refused(line: str, said: str) -> None:
    with pytest.raises(IllegalMapping) as refused:
        group_of(BLOCKS.replace("keep A in global_buffer at r2 by r1", line))
    assert said in str(refused.value)


def test_pieces_that_have_words_in_common_are_refused() -> None:
    """A window of 3 reads two words beside those of its tile, which the next tile needs, too."""
    text = cascade("window", "Z[r,n] = A[r+k] * W[k,n]")
    with pytest.raises(IllegalMapping, match="A cannot come in pieces of r1: they have words in common"):
        group_of(BLOCKS.replace("product", "window"), text)


def test_what_every_piece_reads_anew_is_none() -> None:
    """B is the same for each tile m1 of the text: it has no pieces of m1."""
    text = cascade("weighted", "Z[p] = K[m1*M0+m0,p] * B[m0]")
    mapping = """mapping mine for weighted
for p, m1:
  array_1d [m0 over lanes]: Z
  keep B in global_buffer at p by m1
  overlap interleave 2
"""
    with pytest.raises(IllegalMapping, match="B cannot come in pieces of m1: they have words in common"):
        resolved(parse_mapping(mapping), sized(text, {"P": 4, "M": 8}, 2), array(2, 4, 4))


def test_the_text_reads_back() -> None:
    group = group_of(BLOCKS)
    written = str(described("again", (group,)))
    assert "keep A in global_buffer at r2 by r1" in written
    again = group_of(written)
    assert (again.footprint_words, again.bound_cycles) == (group.footprint_words, group.bound_cycles)


def test_a_search_keeps_blocks_in_pieces() -> None:
    """An operand that comes again for each block of the other one is kept in as large blocks as fit beside a piece."""
    of = sized(PRODUCT, {"R": 64, "K": 16, "N": 64}, 1)
    spec = array(4, 4, 4, buffer_bytes=2 * (32 * 16 + 6 * 4 * 16))
    found = best_group(of, spec, (0,)).group
    assert found is not None
    assert any(read.piece for read in found.reads)
    check_schedule(found)


def test_what_comes_in_pieces_does_so_beside_a_result_that_stays() -> None:
    first = BLOCKS.replace("blocks for product", "mine for two-products").replace(": Z for k", ": Y for k")
    text = f"{first}for r:\n  array_2d [j over columns]: Z for n\n"
    groups = resolved(parse_mapping(text), sized(CHAIN, {**SIZES, "J": 2}, 1), array(2, 4, 4))
    staying = with_staying(groups, "dram")
    assert set(staying[0].problem.staying) == {"Y"}
    assert [(read.tensor, read.piece) for read in staying[0].reads] == [("A", 3), ("W", 0)]
