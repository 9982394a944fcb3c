"""What a search reaches: words moved against what no mapping undercuts."""

from __future__ import annotations

from math import sqrt

import pytest
from mapped_cases import layered, sized

from cascadesim.accelerators.catalogue import load
from cascadesim.accelerators.mapping.mapper.bounds import least_of_all
from cascadesim.accelerators.mapping.mapper.costs import first_cycles
from cascadesim.accelerators.mapping.mapper.described import described
from cascadesim.accelerators.mapping.mapper.residency import late_cycles
from cascadesim.accelerators.mapping.mapper.search import by_schedule, search
from cascadesim.accelerators.mapping.plan import fastest, given, searched
from cascadesim.accelerators.mapping.problem import MappingProblem
from cascadesim.accelerators.mapping.schedule.sliced import group_program
from cascadesim.accelerators.mapping.text import parse_mapping
from cascadesim.accelerators.program import Program
from cascadesim.accelerators.spec import SpatialArray
from cascadesim.einsum_cascades.texts import find
from cascadesim.simulator.engine.engine import run


@pytest.mark.slow
@pytest.mark.parametrize(("words", "sizes"), [
    (64, (128, 128, 128)), pytest.param(256, (257, 256, 256), marks=pytest.mark.nightly),
])  # fmt: skip
def test_a_product_moves_few_more_words_than_any_schedule_must(words: int, sizes: tuple[int, int, int]) -> None:
    """One element and a memory of S words: 2 M N K / sqrt(S) - 2 S + M N words at least (Kwasniewski et al., SC'19)."""
    rows, columns, depth = sizes
    least = 2 * rows * columns * depth / sqrt(words) - 2 * words + rows * columns
    assert least <= product_words(words, *sizes) <= 1.1 * least


def one_element(words: int) -> SpatialArray:
    """An element and a memory of so many words."""
    return load("one-element", (f"global_buffer.capacity_bytes={2 * words}",)).spec  # type: ignore[attr-defined,no-any-return]


def product_words(words: int, rows: int, columns: int, depth: int) -> float:
    sizes = (("r", rows), ("n", columns), ("k", depth))
    return searched(find("linear"), sizes, one_element(words), objective="dram", thorough=True).dram_bytes / 2


def attention_words(words: int, keys: int, depth: int) -> float:
    sizes = (("b", 1), ("h", 1), ("g", 1), ("p", keys), ("m", keys), ("e", depth), ("f", depth))
    found = searched(find("attention-1pass"), sizes, one_element(words), objective="dram", thorough=True)
    return found.dram_bytes / 2


@pytest.mark.slow
def test_attention_moves_half_as_many_words_in_twice_the_room() -> None:
    """4,096 keys of 64: queries stay, keys and values pass; from S = d^2 to n d / 4 words are about 4 n^2 d^2 / S."""
    moved = {words: attention_words(words, 4096, 64) for words in (4096, 8192)}
    assert all(4 <= count * words / (4096 * 64) ** 2 <= 5 for words, count in moved.items())
    assert 1.75 <= moved[4096] / moved[8192] <= 2.05


@pytest.mark.slow
def test_what_is_known_of_a_cascade_is_of_one_array() -> None:
    """A narrow array first, then a wide one, as if there had been no other."""
    def sizes_of() -> MappingProblem:
        return sized(find("attention-3pass"), {"H": 1, "P": 32, "M": 32, "E": 8, "F": 8}, 1)

    both = sizes_of()
    for spec in (layered(2, 2, 2), layered(8, 8, 8)):
        alone = search(sizes_of(), spec)[0]
        assert str(described("mine", search(both, spec)[0] or ())) == str(described("mine", alone or ()))
        assert least_of_all(both, spec, range(6)) == least_of_all(sizes_of(), spec, range(6))
    assert least_of_all(both, layered(2, 2, 2), range(6)) > least_of_all(both, spec, range(6))


@pytest.mark.slow
@pytest.mark.parametrize("words", [40, 200, 1000])
def test_what_is_found_for_traffic_is_legal_and_its_text_reads_back(words: int) -> None:
    sizes = (("b", 1), ("h", 1), ("g", 1), ("p", 60), ("m", 44), ("e", 4), ("f", 4))
    text, spec = find("attention-1pass"), one_element(words)
    found = searched(text, sizes, spec, objective="dram", thorough=True)
    read = given(parse_mapping(str(described("mine", found.groups))), text, sizes, spec)
    assert (read.dram_bytes, read.cycles) == (found.dram_bytes, found.cycles)


@pytest.mark.slow
def test_more_room_never_moves_more() -> None:
    """Down to Q, K, V and the result once; of a product both operands and its result."""
    for moved, least in (
        ([attention_words(64 * 4**power, 32, 4) for power in range(3)], 4 * 32 * 4),
        ([product_words(32 * 8**power, 24, 20, 28) for power in range(3)], 24 * 28 + 28 * 20 + 24 * 20),
    ):
        assert moved == sorted(moved, reverse=True)
        assert moved[-1] == least


@pytest.mark.slow
def test_of_mappings_that_move_as_little_the_fastest_is_taken() -> None:
    """Where everything fits twice, tiles overlap: as fast as a search for time alone finds, in as few words."""
    sizes, spec = (("r", 128), ("n", 128), ("k", 128)), load("edge-array").spec  # type: ignore[attr-defined]
    frugal = searched(find("linear"), sizes, spec, objective="dram", thorough=True)
    assert frugal.dram_bytes == 2 * 3 * 128 * 128
    assert frugal.cycles == searched(find("linear"), sizes, spec).cycles
    assert frugal.groups[0].overlap != 1


def test_of_products_as_fast_to_a_thousandth_the_one_that_moves_least_is_taken() -> None:
    """1,000 x 1,100 x 1,200 on the edge array, in blocks of 256 rows and columns: inputs come 5 and 4 times.
    In closed form another one is 0.02 % shorter, by its first tile, and moves a sixth more."""
    found = searched(find("linear"), (("r", 1000), ("n", 1100), ("k", 1200)), load("edge-array").spec)  # type: ignore[attr-defined]
    assert found.dram_bytes == 2 * (5 * 1000 * 1200 + 4 * 1200 * 1100 + 1000 * 1100)


@pytest.mark.slow
def test_more_lanes_are_no_slower_on_chunks_of_any_size() -> None:
    """Chunks of 16 tokens are tried whatever the sides: 33 lanes alone would choose chunks of 33, and more work."""
    sizes = (("b", 1), ("h", 12), ("g", 1), ("p", 257), ("m", 257), ("e", 64), ("f", 64))
    cycles = [searched(find("linear-attention-chunked"), sizes, load("edge-array", (
        "pe_array.rows=4", "pe_array.columns=128", f"vector_array.lanes={lanes}")).spec).cycles  # type: ignore[attr-defined]
        for lanes in (16, 33, 64)]  # fmt: skip
    assert cycles == sorted(cycles, reverse=True)


def test_an_einsum_that_reads_what_comes_later_is_never_a_group_of_its_own() -> None:
    """QS of a chunked state-space model reads the state of the chunk before, which a later Einsum makes."""
    two_chunks = sized(find("mamba-2-ssd"), {"B": 1, "H": 1, "M": 8, "P": 8, "E": 1, "F": 2}, 4)
    groups, _ = search(two_chunks, layered(2, 4, 4, 2**7), 3)
    of = {run.work.name: number for number, group in enumerate(groups or ()) for run in group.runs}
    assert of["QS"] == of["S"]


@pytest.mark.slow
def test_where_the_channel_is_the_slow_one_a_search_lets_go_of_overlap_for_room() -> None:
    """BERT's attention of 1,024 tokens on the edge array with 32 KiB at 1 GB/s: of each tensor 1.5 MiB. Tiles that
    overlap have room for blocks of 64 queries, 16 of them, for each of which all keys and values come; one at a time
    for blocks of 96, 11 of them. At 4 GB/s overlap is worth more than that."""
    spec = load("edge-array", ("global_buffer.capacity_bytes=32KiB", "dram.bandwidth_bytes_per_s=1GB/s")).spec  # type: ignore[attr-defined]
    sizes = (("b", 1), ("h", 12), ("g", 1), ("p", 1024), ("m", 1024), ("e", 64), ("f", 64))
    found = searched(find("attention-1pass"), sizes, spec)
    assert [group.overlap for group in found.groups] == [1]
    of_each = 12 * 1024 * 64 * 2  # bytes of Q, K, V and AV
    assert found.dram_bytes == (2 + 2 * 11) * of_each
    level = sum(run(group_program(group)).cycles for group in found.groups)
    in_turn = found.dram_bytes + sum(cycles for group in found.groups for cycles in group.busy_cycles.values())
    assert found.dram_bytes < found.cycles <= level <= in_turn  # a cycle a byte, and at most all of the arrays besides
    faster = load("edge-array", ("global_buffer.capacity_bytes=32KiB", "dram.bandwidth_bytes_per_s=4GB/s")).spec  # type: ignore[attr-defined]
    overlapped = searched(find("attention-1pass"), sizes, faster)
    assert [group.overlap for group in overlapped.groups] == [2]
    level = sum(run(group_program(group)).cycles for group in overlapped.groups)
    assert overlapped.dram_bytes == (2 + 2 * 16) * of_each
    assert overlapped.dram_bytes / 4 <= level < 1.001 * overlapped.dram_bytes / 4  # keys come while others are used


LONG = (("b", 1), ("h", 1), ("g", 1), ("p", 4096), ("m", 4096), ("e", 64), ("f", 64))


@pytest.mark.slow
def test_the_first_tile_is_no_longer_than_it_has_to_be() -> None:
    """One by one, of 4,096 queries and keys: half of the scores as a tile is as good in closed form, and a quarter or
    more of the time nothing else can be done while it is loaded."""
    spec: SpatialArray = load("tpu-v4i-like").spec  # type: ignore[attr-defined]
    for group in searched(find("attention-3pass"), LONG, spec, most_fused=1).groups:
        assert cycles_of(group_program(group)) < 1.04 * group.bound_cycles, group.runs[0].work.name


@pytest.mark.slow
def test_a_first_tile_that_loads_all_the_time_is_not_late() -> None:
    """DRAM is the busiest unit, and busy from the first cycle: only the first division and its store come after it."""
    spec: SpatialArray = load("tpu-v4i-like").spec  # type: ignore[attr-defined]
    groups = searched(find("attention-1pass"), LONG, spec, most_fused=1).groups
    group = next(group for group in groups if group.runs[0].work.name == "AV")
    assert group.dram_cycles == group.bound_cycles
    assert late_cycles(group) < 0.5 * first_cycles(group)
    assert cycles_of(group_program(group)) < 1.01 * group.bound_cycles


SHORT = (("b", 1), ("h", 4), ("g", 1), ("p", 512), ("m", 512), ("e", 64), ("f", 64))


@pytest.mark.slow
@pytest.mark.parametrize(("arch", "text", "faster"), [
    ("edge-array", "gated-deltanet-chunked", 0.95), ("flat", "attention-3pass", 0.97),
    ("fusemax", "attention-1pass", 0.95),
])  # fmt: skip
def test_of_mappings_near_to_the_best_bound_the_one_that_runs_fastest_is_taken(
    arch: str, text: str, faster: float
) -> None:
    spec: SpatialArray = load(arch).spec  # type: ignore[attr-defined]
    found, best = searched(find(text), SHORT, spec), fastest(find(text), SHORT, spec, cycles_of)
    before, now = (sum(cycles_of(group_program(group)) for group in each.groups) for each in (found, best))
    assert now < faster * before
    assert best.cycles <= now
    assert [run.place for group in best.groups for run in group.runs] == [
        run.place for group in found.groups for run in group.runs]  # fmt: skip


def test_a_group_at_its_bound_is_run_once() -> None:
    spec: SpatialArray = load("edge-array").spec  # type: ignore[attr-defined]
    group, = searched(find("attention-1pass"), SHORT, spec).groups
    asked: list[object] = []

    def at_its_bound(other: object) -> int:
        asked.append(other)
        return int(group.problem.instances * group.bound_cycles)

    assert by_schedule(group, at_its_bound) == (group, at_its_bound(group))
    assert asked == [group, group]


def cycles_of(program: Program) -> int:
    return run(program).cycles
