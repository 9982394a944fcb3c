"""Software pipelines as tables (`overlap epochs`): which tile each Einsum works on in an epoch (FuseMax, figure 4)."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import cascadesim as cs
from cascadesim.accelerators.catalogue import load
from cascadesim.accelerators.mapping.group import BoundGroup
from cascadesim.accelerators.mapping.legality import IllegalMapping
from cascadesim.accelerators.mapping.mapper.described import described
from cascadesim.accelerators.mapping.placing import last_use
from cascadesim.accelerators.mapping.resolve import resolved
from cascadesim.accelerators.mapping.schedule.pipeline import epoch_cycles, spacing
from cascadesim.accelerators.mapping.schedule.rounds import _distances
from cascadesim.accelerators.mapping.schedule.sliced import group_program
from cascadesim.accelerators.mapping.text import parse_mapping
from cascadesim.accelerators.program import Repeat, TileRun
from cascadesim.accelerators.spec import SpatialArray
from cascadesim.einsum_cascades.notation.errors import NotationError
from cascadesim.einsum_cascades.notation.notation import cascade
from cascadesim.einsum_cascades.sparsity.masks import CAUSAL, FULL, KeyInterval
from cascadesim.einsum_cascades.texts import find
from cascadesim.simulator.engine.engine import run
from tests.accelerators.mapping.mapped_cases import MASKS, array, check_ports, check_schedule, sized

ONE_PASS = find("attention-1pass")
SCALED = cascade("scaled", """
    Y[r,n] = A[r,k] * W[k,n]
    Z[r,n] = Y[r,n] * S[n]
""")
BLOCKS = """\
mapping blocks for scaled
for r1:
  split r: r1 by 2, r0
  array_2d [r0 over rows, n over columns]: Y for k
  array_1d [n over lanes]: Z for r0
  overlap epochs{}
    array_2d: {}
    array_1d: {}
"""
HEADS = """\
mapping table for attention-1pass
for {loops}:
  split p: p2 by {block}, p1 by {tile}, p0
  split m: m1 by 2, m0
  array_2d [m0 over rows, p0 over columns]: QK for e; LM; SLN; SLD; SLNV for f
  array_1d [p0 over lanes]: RM; PRM; SPD; RD; SPNV for f; RNV for f
  after m1:
    array_1d [p0 over lanes]: AV for f
  overlap {overlap}
"""
PUBLISHED = """epochs:
    array_2d: ( SLNV[b] | QK[d] ) LM[d] SLN[c] SLD[c]
    array_1d: ( SPNV[a] | RNV[a] | RM[c] ) RD[a] PRM[c] SPD[c] AV[a]"""


def blocks(ages: str = ":", row_2d: str = "Y[b]", row_1d: str = "Z[a]") -> BoundGroup:
    """Two rows and two columns a tile: Y takes 4 cycles and 2 more to leave, Z takes 2; DRAM is fast."""
    fast = array(2, 2, 2).model_copy(update={"dram": load("fusemax").spec.dram})  # type: ignore[attr-defined]
    of = sized(SCALED, {"R": 20, "N": 2, "K": 4}, 1)
    (group,) = resolved(parse_mapping(BLOCKS.format(ages, row_2d, row_1d)), of, fast)
    return group


def heads(
    overlap: str, extents: dict[str, int], loops: str = "h, p2, m1, p1", block: int = 2, tile: int = 2,
    mask: KeyInterval = FULL, spec: SpatialArray | None = None, keys: str = "m1 by 2",
) -> BoundGroup:  # fmt: skip
    of = sized(ONE_PASS, {"E": 4, "F": 4, "B": 1, **extents}, 2, mask)
    text = HEADS.format(loops=loops, block=block, tile=tile, overlap=overlap).replace("m1 by 2", keys)
    (group,) = resolved(parse_mapping(text), of, spec or array(2, 2, 2))
    return group


def test_distances_are_the_smallest_that_hide_cycles_and_drains() -> None:
    """An epoch lasts 4 cycles. Z may begin 6 cycles after Y: one epoch later, and the lanes two cycles late in it."""
    group = blocks()
    assert [group.stages[run.place] for run in group.runs] == [1, 2]  # type: ignore[index]
    assert "overlap epochs a 1, b 0:" in str(described("blocks", [group]))


def test_a_tile_that_is_read_in_the_epoch_that_makes_it_is_waited_for() -> None:
    """Z of the same tile as Y, on another unit: legal, the lanes are late in each epoch, and there is room for less."""
    group = blocks(row_2d="Y[a]", row_1d="Z[a]")
    assert [group.stages[run.place] for run in group.runs] == [1, 1]  # type: ignore[index]
    assert run(group_program(group)).cycles > run(group_program(blocks())).cycles


def test_given_distances_are_kept_though_smaller_ones_would_do() -> None:
    group = blocks(" a 5, b 0:")
    assert [group.stages[run.place] for run in group.runs] == [1, 6]  # type: ignore[index]
    assert run(group_program(group)).cycles >= run(group_program(blocks())).cycles >= group.bound_cycles


def test_the_published_table_has_the_published_distances_and_cycles() -> None:
    """FuseMax's own model and its mapping text: the same epochs, apart by less than one of them at the end.

    1,892,352 cycles are published; six epochs of at most 154 cycles fill and drain, and a tile's loads come first.
    """
    text = cs.simulate("fusemax", "bert", scope="attention", sequence_length=1024, mapping="fusemax-epochs")
    own = cs.simulate("fusemax", "bert", scope="attention", sequence_length=1024)
    assert 1_892_352 <= text.cycles <= 1_892_352 + 7 * 154
    assert abs(text.cycles - own.cycles) < 154


@pytest.mark.parametrize("steps", [2, 7])
def test_one_resident_tile_leaves_epochs_empty(steps: int) -> None:
    """RD of a tile comes two epochs after its SPD, which reads the RD before: with one tile of queries every other
    epoch is empty, but none after the last step."""
    group = heads(PUBLISHED.replace("epochs:", "epochs a 4, b 3, c 2, d 0:"), {"H": 1, "P": 2, "M": 2 * steps})
    assert spacing(group) == 2
    assert group_program(group).tiles == steps + (steps - 1)
    assert group.stages is not None
    assert epoch_cycles(group, group.stages) >= group.busiest_cycles // group.all_tiles
    check_schedule(group)


def test_epochs_are_empty_between_two_loops_over_keys_too() -> None:
    """Two rounds of two steps: one empty epoch in each of them, and as many as could be needed between them."""
    group = heads(PUBLISHED.replace("epochs:", "epochs a 4, b 3, c 2, d 0:"), {"H": 1, "P": 2, "M": 8},
                  "h, p2, m2, m1, p1", keys="m2 by 4, m1 by 2")  # fmt: skip
    assert group_program(group).tiles == 4 + 2 * 1 + spacing(group)
    check_schedule(group)


def test_a_mask_that_ends_a_column_leaves_epochs_empty() -> None:
    """Of keys 0 and 1 two tiles of queries are worked on, of keys 2 and 3 the second one alone, which would be next."""
    group = heads(PUBLISHED.replace("epochs:", "epochs a 4, b 3, c 2, d 0:"), {"H": 1, "P": 4, "M": 4}, block=4,
                  mask=CAUSAL)  # fmt: skip
    assert group_program(group).tiles == 2 + 1 + 1
    check_schedule(group)


def test_what_several_read_is_free_after_the_oldest_tile_that_reads_it() -> None:
    """SLD comes before SLNV in the text, but a tile later in this table."""
    row = "array_2d: ( SLD[b] | QK[d] ) LM[d] SLN[c] SLNV[c]"
    group = heads(PUBLISHED.replace("array_2d: ( SLNV[b] | QK[d] ) LM[d] SLN[c] SLD[c]", row),
                  {"H": 1, "P": 8, "M": 8}, block=8)  # fmt: skip
    made = {each.tensor: (each, run) for each, run in zip(group.made, group.runs, strict=True)}
    found = last_use(group, *made["SLN"])
    assert found is not None
    assert found[0] == "SLD"
    assert found[1] > 0


def test_an_input_is_given_back_by_the_oldest_tile_that_reads_it() -> None:
    two = cascade("two", """
        Y[r,n] = A[r,k] * W[k,n]
        Z[r,n] = A[r,k] * U[k,n]
    """)
    text = """\
mapping two for two
for r1:
  split r: r1 by 2, r0
  array_2d [r0 over rows, n over columns]: Y for k; Z for k
  overlap epochs a 1, b 0:
    array_2d: Y[a] Z[b]
"""
    (group,) = resolved(parse_mapping(text), sized(two, {"R": 20, "N": 2, "K": 4}, 1), array(2, 2, 2))
    assert [task.name for task in group_program(group).tasks if "A" in task.gives_back] == ["Y"]
    check_schedule(group)


def test_no_epoch_is_empty_where_enough_tiles_take_turns() -> None:
    group = heads(PUBLISHED, {"H": 2, "P": 8, "M": 8}, block=8)
    assert group_program(group).tiles == group.all_tiles


def test_a_row_that_begins_later_under_a_mask_comes_too_early_by_as_much() -> None:
    """Columns 0, 1, 2, then 1, 2: column 1 has its next tile two tiles later, not three. Others never meet."""
    assert list(_distances((TileRun(0, 3, 0),), (TileRun(0, 2, 1),))) == [2]
    row = TileRun(0, 3, 0), TileRun(1, 2, 4)
    assert list(_distances(row, row)) == [5, 5]
    assert not list(_distances(row, (TileRun(0, 1, 3),)))


@pytest.mark.parametrize("overlap", ["pipeline", "interleave 4", PUBLISHED], ids=["pipeline", "interleave", "epochs"])
def test_heads_inside_the_loop_over_keys_have_running_values_of_their_own(overlap: str) -> None:
    """4 heads with one tile of queries each: four columns do not wait for each other (this ended in a deadlock)."""
    group = heads(overlap, {"H": 4, "P": 2, "M": 16}, "p2, m1, h, p1", spec=array(4, 2, 2))
    check_schedule(group)
    assert columns_of(group_program(group).stream) == {0, 1, 2, 3}
    wider = heads(overlap, {"H": 4, "P": 4, "M": 16}, "p2, m1, h, p1", block=4, spec=array(4, 2, 2))
    assert columns_of(group_program(wider).stream) == set(range(8))


def columns_of(items: tuple[TileRun | Repeat, ...]) -> set[int]:
    return set().union(*(columns_of(item.body) if isinstance(item, Repeat) else
                         range(item.first_column, item.first_column + item.tiles) for item in items))  # fmt: skip


@pytest.mark.parametrize(("rows", "reason"), [
    (("Y[b]", "Z[b] Q[a]"), "no Einsum 'Q' in this group"),
    (("Y[b]", "Z[b] Z[a]"), "Z has 2 slots; each Einsum has one"),
    (("Y[b] Z[a]", "Z[a]"), "Z has 2 slots"),
    (("Y[b]", "Y[a]"), "Y has 2 slots"),
    (("Y[a]", "Z[b]"), r"Z\[b\] reads Y\[a\], which comes 1 epoch later; give Z an older tile"),
])  # fmt: skip
def test_tables_that_are_none_say_why_with_their_line(rows: tuple[str, str], reason: str) -> None:
    with pytest.raises(IllegalMapping, match=f"blocks, line 6: .*{reason}"):
        blocks(":", *rows)


@pytest.mark.parametrize(("ages", "reason"), [
    (" a 0, b 1:", "they fall from a, the oldest tile, to b, the youngest"),
    (" a 2, b 1:", "the youngest, which is at 0"),
    (" a 2:", "distances of a; the tiles are a, b"),
    (" a 2, a 3, b 0:", "distances of a, a, b; the tiles are a, b"),
    (" a 64, b 0:", "64 epochs old; at most 64 tiles are open"),
])  # fmt: skip
def test_distances_fall_to_the_youngest_tile(ages: str, reason: str) -> None:
    with pytest.raises(IllegalMapping, match=reason):
        blocks(ages)


@pytest.mark.parametrize(("row", "reason"), [
    ("( SLNV[b] | QK[d] ) LM[d] SLN[c]", "no slot for SLD: an epoch has all Einsums of the group"),
    ("( QK[d] | LM[d] ) SLN[c] SLD[c] SLNV[b]", r"LM\[d\] reads QK\[d\] of the same turns"),
    ("LM[d] QK[d] SLN[c] SLD[c] SLNV[b]", "in one epoch .* waits for"),
    ("QK[d] LM[d] SLN[c] SLD[c] SLNV[d]", r"SLNV\[d\] reads SLN\[c\], which comes"),
])  # fmt: skip
def test_an_epoch_never_waits_for_itself(row: str, reason: str) -> None:
    overlap = PUBLISHED.replace("( SLNV[b] | QK[d] ) LM[d] SLN[c] SLD[c]", row)
    with pytest.raises(IllegalMapping, match=reason):
        heads(overlap, {"H": 1, "P": 8, "M": 8}, block=8)


@pytest.mark.parametrize(("line", "reason"), [
    ("array_2d: Y[b", "expected 'EINSUM\\[a\\]'"),
    ("array_2d: ( Y[b]", "a bracket without its other half"),
    ("array_2d: Y", "expected 'EINSUM\\[a\\]'"),
    ("array_1d: Z[b]", "array_1d has a row already"),
    ("lanes: Y[b]", "expected 'UNIT: EINSUM"),
])  # fmt: skip
def test_rows_that_cannot_be_read_are_shown(line: str, reason: str) -> None:
    rows = "    array_2d: \n    array_1d: Z[a]\n"
    text = BLOCKS.format(":", "", "Z[a]").replace(rows, f"    array_1d: Z[a]\n    {line}\n")
    with pytest.raises(NotationError, match=reason):
        parse_mapping(text)


def test_lines_after_the_table_belong_to_the_group_again() -> None:
    text = BLOCKS.format(":", "Y[b]", "Z[a]")
    moved = text + "  keep W in global_buffer at top\n"
    assert parse_mapping(moved).groups[0].keeps
    assert str(parse_mapping(str(parse_mapping(moved)))) == str(parse_mapping(moved))


READS = {"LM": ["QK"], "RM": ["LM"], "SLN": ["QK", "RM"], "SLD": ["SLN"], "SLNV": ["SLN"], "PRM": ["RM"],
         "SPD": ["PRM"], "RD": ["SPD", "SLD"], "SPNV": ["PRM"], "RNV": ["SPNV", "SLNV"],
         "AV": ["RNV", "RD"]}  # fmt: skip
ORDER, ON_2D = ["QK", *READS], ("QK", "LM", "SLN", "SLD", "SLNV")


def table(rng: Random) -> str:
    """A table in which most results are there when they are read, in any order of the tiles."""
    letters, own = "abcd"[: rng.choice((1, 2, 3, 4, 4))], dict[str, str]()
    for name in ORDER:
        youngest = min((own[each] for each in READS.get(name, [])), default=letters[-1])
        own[name] = rng.choice([letter for letter in letters if letter <= youngest][-2:])
    rows = []
    for unit in ("array_2d", "array_1d"):
        block = {letter: rng.random() for letter in letters}
        ranked = sorted((block[own[name]], place, name) for place, name in enumerate(ORDER)
                        if (name in ON_2D) == (unit == "array_2d"))  # fmt: skip
        rows.append(f"    {unit}: {_in_turns(rng, [name for *_, name in ranked], own)}")
    return "\n".join(("epochs:", *rows))


def _in_turns(rng: Random, names: list[str], own: dict[str, str]) -> str:
    found: list[list[str]] = []
    for name in names:
        together = found and rng.random() < 0.4 and own[name] not in {own[each] for each in found[-1]}
        found = [*found[:-1], [*found[-1], name]] if together else [*found, [name]]
    slots = [[f"{name}[{own[name]}]" for name in turns] for turns in found]
    return " ".join(turns[0] if len(turns) == 1 else f"( {' | '.join(turns)} )" for turns in slots)


def check_table(seed: int) -> None:
    """It runs, or says why not; what is printed of it is the same mapping, and takes the same cycles."""
    rng = Random(seed)
    extents = {"H": rng.choice((1, 2, 3)), "P": rng.choice((1, 2, 5, 8, 12)), "M": 2 * rng.choice((1, 2, 5)),
               "E": rng.choice((1, 4)), "F": rng.choice((1, 4))}  # fmt: skip
    tile = rng.choice((1, 2))
    loops = rng.choice(("h, p2, m1, p1", "h, p2, p1, m1", "p2, m1, h, p1", "p2, h, m1, p1"))
    mask = rng.choice(MASKS) if rng.random() < 0.4 else FULL
    spec = array(rng.choice((1, 2, 4)), rng.choice((1, 2)), rng.choice((1, 2)), rng.choice((2**24, 2**24, 1024)))
    try:
        group = heads(table(rng), extents, loops, tile * rng.choice((1, 2, 9)), tile, mask, spec)
    except IllegalMapping:
        return
    check_schedule(group)
    check_ports(group)
    again = described("again", [group])
    (read,) = resolved(parse_mapping(str(again)), group.problem, spec)
    assert str(described("again", [read])) == str(again)
    assert run(group_program(read)).cycles == run(group_program(group)).cycles
    assert group.stages is not None


@pytest.mark.slow
@settings(max_examples=60)
@given(st.integers(0, 10**6))
def test_random_tables_run_or_say_why_not(seed: int) -> None:
    check_table(seed)


@pytest.mark.nightly
def test_many_random_tables() -> None:
    for seed in range(3_000):
        check_table(seed)
