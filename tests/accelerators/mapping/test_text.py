"""A mapping is read, written, and refused with its line; shipped ones mean what the papers say."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascadesim.accelerators.catalogue import load
from cascadesim.accelerators.mapping.legality import IllegalMapping
from cascadesim.accelerators.mapping.mapper.described import described
from cascadesim.accelerators.mapping.nest import Fit, Keep, Run, Sized, Split
from cascadesim.accelerators.mapping.plan import given as given_mapping
from cascadesim.accelerators.mapping.plan import searched
from cascadesim.accelerators.mapping.resolve import resolved
from cascadesim.accelerators.mapping.schedule.program import program
from cascadesim.accelerators.mapping.text import find_mapping, parse_mapping, shipped_mappings
from cascadesim.accelerators.spec import SpatialArray
from cascadesim.einsum_cascades.notation.errors import CascadeSimError, NotationError
from cascadesim.einsum_cascades.notation.notation import cascade
from cascadesim.einsum_cascades.texts import find
from cascadesim.simulator.engine.engine import run

TEXT = """\
mapping mine for attention-1pass
for h, m1, p1:
  split m: m1 by array_2d.rows, m0
  split p: p1 by 2 * array_1d.lanes, p0
  array_2d [m0 over rows, p0 over columns]: QK for e; LM; SLN; SLD; SLNV for f
  array_1d [p0 over lanes]: RM; PRM; SPD; RD; SPNV for f; RNV for f
  after m1:
    array_1d [p0 over lanes]: AV for f
  keep Q in global_buffer at h
  keep K, V in global_buffer at m1 double
  overlap interleave 4
"""
BERT = (("b", 64), ("h", 12), ("g", 1), ("m", 1024), ("p", 1024), ("e", 64), ("f", 64))


def spec_of(name: str, *settings_of: str) -> SpatialArray:
    return load(name, settings_of).spec  # type: ignore[attr-defined, no-any-return]


def test_a_mapping_reads_as_what_it_says() -> None:
    mapping = parse_mapping(TEXT)
    (group,) = mapping.groups
    assert (mapping.name, mapping.cascade, group.loops) == ("mine", "attention-1pass", ("h", "m1", "p1"))
    assert group.splits == (Split("m", ("m1", "m0"), (Sized("array_2d.rows"),)),
                            Split("p", ("p1", "p0"), (Sized("array_1d.lanes", 2),)))  # fmt: skip
    assert group.runs[0] == Run("QK", "array_2d", (("m0", "rows"), ("p0", "columns")), ("e",))
    assert group.runs[-1] == Run("AV", "array_1d", (("p0", "lanes"),), ("f",), after="m1")
    assert group.keeps[0] == Keep("Q", "global_buffer", "h")
    assert group.keeps[2] == Keep("V", "global_buffer", "m1", double=True)
    assert group.in_flight == 4


@pytest.mark.parametrize("text", [TEXT, *map(str, shipped_mappings().values())])
def test_printing_and_reading_are_inverse(text: str) -> None:
    assert str(parse_mapping(text)) == text
    assert parse_mapping(str(parse_mapping(text))) == parse_mapping(text)


@pytest.mark.parametrize(("wrong", "given_as", "line", "message"), [
    ("mapping mine for", "mapping mine for attention-1pass", 1, "expected 'mapping NAME for CASCADE'"),
    ("for h, m1, p1", "for h, m1, p1:", 2, "expected 'for LOOP, LOOP:'"),
    ("by 2 / array_1d.lanes", "by 2 * array_1d.lanes", 4, "a step is a number, a field"),
    ("  split p: p1, p0", "  split p: p1 by 2 * array_1d.lanes, p0", 4, "p1 needs a step"),
    ("m0 over row,", "m0 over rows,", 5, "expected 'RANK over rows'"),
    ("keep Q at h", "keep Q in global_buffer at h", 9, "expected 'keep TENSOR"),
    ("overlap interleave 999", "overlap interleave 4", 11, "999 tiles in flight; from 1 to 64"),
    ("array_3d [p0", "array_1d [p0 over lanes]: RM", 6, "expected 'UNIT"),
    ("overlap serial\n  overlap pipeline", "overlap interleave 4", 12, "a second 'overlap' of this group"),
    ("size M0 = 3\nsize M0 = 4\nfor h", "for h", 3, "M0 has a size already: 3"),
])  # fmt: skip
def test_what_cannot_be_read_is_shown_with_its_line(wrong: str, given_as: str, line: int, message: str) -> None:
    text = TEXT.replace(given_as, wrong, 1)
    with pytest.raises(NotationError, match=rf"(?s)mapping, line {line}: .*{re.escape(message)}"):
        parse_mapping(text)


def test_all_problems_are_shown_at_once() -> None:
    text = TEXT.replace("over rows", "over row").replace("keep Q in", "keep Q on")
    with pytest.raises(NotationError) as caught:
        parse_mapping(text)
    assert [problem.split(":")[0] for problem in caught.value.problems] == ["mapping, line 5", "mapping, line 9"]


@pytest.mark.slow
@given(st.integers(0, len(TEXT) - 1), st.characters(min_codepoint=32, max_codepoint=126), st.booleans())
@settings(max_examples=300, deadline=None)
def test_no_mutated_text_ends_in_anything_but_a_mapping_or_an_error_of_ours(
    place: int, letter: str, replaces: bool
) -> None:
    text = TEXT[:place] + letter + TEXT[place + replaces:]
    try:
        found = parse_mapping(text)
        given_mapping(found, find("attention-1pass"), BERT, spec_of("fusemax"))
    except CascadeSimError:
        pass


@pytest.mark.parametrize(("wrong", "right", "message"), [
    ("QK;", "QK for e;", "QK does not walk all of e: add 'for e'"),
    ("SLD;", "SLN; SLD;", "groups take the Einsums in the order of the cascade; SLN comes next"),
    ("for h, m2, p1:", "for h, m1, p1:", "no rank 'm2' here"),
    ("at m7 double", "at m1 double", "no shared loop 'm7'"),
    ("keep W in", "keep Q in", "no tensor 'W' in this group"),
    ("in registers at h", "in global_buffer at h", "no memory 'registers'"),
    ("PRM; SPD; RD; XY;", "PRM; SPD; RD;", "no Einsum 'XY'"),
    ("[m0 over lanes, p0", "[m0 over rows, p0", "array_2d has rows and columns, no lanes"),
    ("split m: m1 by array_2d.rows, m0\n  split m: m1 by 3, m0", "split m: m1 by array_2d.rows, m0", "split twice"),
    ("keep RM, Q in global_buffer at m1", "keep Q in global_buffer at h", "RM is carried over loops, and stays in "
                                                                          "global_buffer at h"),
    ("keep QK, Q in", "keep Q in", "QK is used up in its tile and is not kept"),
    ("keep BK, K, V in", "keep K, V in", "K is kept in global_buffer twice; it has one place there"),
    ("p1 by fit cache, p0", "p1 by 2 * array_1d.lanes, p0", "no memory 'cache' to keep tiles in"),
    ("    array_1d [p0 over lanes]: AV for e\n", "    array_1d [p0 over lanes]: AV for f\n", "AV has no e; it has"),
])  # fmt: skip
def test_what_is_illegal_says_what_would_be_legal_and_names_its_line(wrong: str, right: str, message: str) -> None:
    changed = TEXT.replace(right, wrong, 1)
    lines = zip(TEXT.splitlines(), changed.splitlines(), strict=False)
    line = next(number for number, (before, after) in enumerate(lines, start=1) if before != after)
    with pytest.raises(CascadeSimError, match=rf"mine, line {line}: .*{re.escape(message)}"):
        given_mapping(parse_mapping(changed), find("attention-1pass"), BERT, spec_of("fusemax"))


def test_what_does_not_walk_a_loop_is_named_where_it_stands_and_not_where_the_loop_does() -> None:
    changed = parse_mapping(TEXT.replace("after m1:", "after p1:"))
    with pytest.raises(CascadeSimError, match="mine, line 8: AV does not walk m, so it cannot be in that loop"):
        given_mapping(changed, find("attention-1pass"), BERT, spec_of("fusemax"))


def test_a_mapping_gives_the_sizes_that_the_text_leaves_open() -> None:
    text = TEXT.replace("  split m: m1 by array_2d.rows, m0\n", "").replace("m0 over rows, ", "")
    with pytest.raises(IllegalMapping, match="mine: it leaves M0 open; 'split m: m1 by STEP, m0' or"):
        given_mapping(parse_mapping(text), find("attention-1pass"), BERT, spec_of("fusemax"))


@pytest.mark.parametrize(("size", "message"), [
    ("P = 4", "mine: size P: the text of attention-1pass splits no such rank; known: M0"),
    ("MM0 = 4", "mine: size MM0: the text of attention-1pass splits no such rank; did you mean 'M0'?"),
])  # fmt: skip
def test_a_size_of_nothing_that_the_text_splits_is_no_size(size: str, message: str) -> None:
    text = TEXT.replace("for h", f"size {size}\nfor h")
    with pytest.raises(IllegalMapping, match=re.escape(message)):
        given_mapping(parse_mapping(text), find("attention-1pass"), BERT, spec_of("fusemax"))


def test_a_part_in_space_has_the_loop_that_goes_from_part_to_part_around_it() -> None:
    """Eight of 64 elements of the depth would be all that is counted of QK."""
    text = TEXT.replace("  array_2d [m0 over rows, p0 over columns]: QK for e;", """\
  split e: e1 by 8, e0
  array_2d [m0 over rows, e0 over columns]: QK for p0
  array_2d [m0 over rows, p0 over columns]:""")
    with pytest.raises(IllegalMapping, match="mine, line 6: QK has e0 in space and no e1 around it; 'e' is all of it"):
        given_mapping(parse_mapping(text), find("attention-1pass"), BERT, spec_of("fusemax"))


def test_a_split_of_the_text_is_the_same_in_all_groups() -> None:
    """M0 is 256 by the first one; a later group that says 48 would lay other tiles over the array than it counts."""
    text = """
mapping mine for attention-2pass
for h:
  split m: m1 by 256, m0
  array_2d [m0 over rows, p over columns]: QK for m1, e; LM for m1
  overlap serial
for h:
  split m: m1 by 48, m0
  array_2d [m0 over rows, p over columns]: SLN for m1; SLD for m1
"""
    with pytest.raises(IllegalMapping, match="mine, line 8: m1 advances by 48, no multiple of a tile of the text: 256"):
        given_mapping(parse_mapping(text), find("attention-2pass"), BERT, spec_of("fusemax"))


def test_a_size_is_the_one_that_was_asked_for() -> None:
    text = TEXT.replace("for h", "size M0 = 128\nfor h").replace("  split m: m1 by array_2d.rows, m0\n", "")
    with pytest.raises(IllegalMapping, match="mine: size M0 = 128, where 256 was asked for"):
        given_mapping(parse_mapping(text), find("attention-1pass"), (*BERT, ("m0", 256)), spec_of("fusemax"))


def test_a_pipeline_hides_what_tiles_that_are_taken_as_they_come_do_not() -> None:
    """Serial tiles wait for each drain of 256 cycles; six at once for some of them; the pipeline for none."""
    text, cycles = str(find_mapping("fusemax")), {}
    for overlap in ("serial", "interleave 6", "pipeline"):
        mapping = parse_mapping(text.replace("overlap pipeline", f"overlap {overlap}"))
        (group,) = given_mapping(mapping, find("attention-1pass"), BERT, spec_of("fusemax")).groups
        cycles[overlap] = run(program(group)).cycles
        assert group.stages is None or overlap == "pipeline"
    assert cycles["serial"] > 4 * cycles["pipeline"]
    assert cycles["pipeline"] < cycles["interleave 6"] < 1.1 * cycles["pipeline"]


def test_epochs_are_the_smallest_that_hide_a_drain() -> None:
    """QK takes 64 of an epoch of 154 cycles, LM one more, and its maximum leaves the array 256 cycles later.

    RM begins its epoch's 1D work, so it runs ceil((65 + 256) / 154) = 3 epochs after QK.
    """
    (group,) = given_mapping(find_mapping("fusemax"), find("attention-1pass"), BERT, spec_of("fusemax")).groups
    assert group.stages is not None
    names = {run.work.name: group.stages[run.place] for run in group.runs}
    assert (names["QK"], names["LM"], names["RM"]) == (1, 1, 1 + 3)
    assert names["SLN"] >= names["RM"]
    assert names["RNV"] >= names["SLNV"] >= names["SLN"]


def test_a_sum_is_not_read_inside_its_loop() -> None:
    """Scores cannot be normalised before all keys have been seen: SN reads GM inside the loop over m."""
    text = """\
mapping wrong for attention-3pass
for h, p1, m1:
  split p: p1 by 256, p0
  split m: m1 by 256, m0
  array_2d [m0 over rows, p0 over columns]: QK for e; SN
  array_1d [p0 over lanes]: GM for m0; SD for m0; A for m0
  array_2d [m0 over rows, p0 over columns]: AV for f
  overlap serial
"""
    with pytest.raises(IllegalMapping, match="line 5: SN reads GM before its loop over m has ended"):
        given_mapping(parse_mapping(text), find("attention-3pass"), BERT, spec_of("fusemax"))


def test_tiles_that_do_not_fit_are_refused_with_bytes() -> None:
    """K and V whole, and Q: 3 x 1,024 x 64 words of 2 bytes are 384 KiB, and running values come beside."""
    text = TEXT.replace("keep K, V in global_buffer at m1 double", "keep K, V in global_buffer at h")
    tight = spec_of("fusemax", "global_buffer.capacity_bytes=262144")
    with pytest.raises(IllegalMapping, match=r"bytes of global_buffer, which has 262,144; most for "):
        given_mapping(parse_mapping(text), find("attention-1pass"), BERT, tight)


@pytest.mark.parametrize(("name", "capacity", "changes", "said"), [
    ("flat", 65536, (), "most for QK, 2 of 1,024 m x 256 p: smaller steps of p1, loop over m, one tile at a time"),
    ("fusemax", 262144, (), "most for Q, 1 of 64 e x 1,024 p: smaller steps of p2, loop over e around m1"),
    # kept at p1 the pipeline would hold nine tiles of 256
    ("fusemax", 262144, ("overlap pipeline", "overlap serial"), "most for Q, 1 of 64 e x 1,024 p: keep it at p1, "
                        "smaller steps of p2, loop over e around m1"),
    ("fusemax", 131072, ("keep Q in global_buffer at p2 by p1", "keep Q in global_buffer at p1"),
     "most for Q, 9 of 64 e x 256 p: smaller steps of p1, loop over e, one tile at a time"),
])  # fmt: skip
def test_what_would_fit_is_said_in_lines_of_the_mapping(
    name: str, capacity: int, changes: tuple[str, ...], said: str
) -> None:
    """Scores of 256 queries, twice; queries of 1,024 in pieces of 256, results twice; what is said is smaller."""
    text = str(find_mapping(name)).replace("divisor global_buffer else fit", "1024")
    tight = spec_of(name, f"global_buffer.capacity_bytes={capacity}")
    changed = parse_mapping(text.replace(*changes) if changes else text)
    with pytest.raises(IllegalMapping) as refused:
        given_mapping(changed, find(changed.cascade), BERT, tight)
    assert said in str(refused.value)


def test_the_published_mapping_of_fusemax_takes_its_published_cycles() -> None:
    """12,288 tiles of 256 queries and keys, each 154 cycles on the 1D array (FuseMax, table of section VI)."""
    found = given_mapping(find_mapping("fusemax"), find("attention-1pass"), BERT, spec_of("fusemax"))
    (group,) = found.groups
    assert 64 * group.bound_cycles == 12_288 * 154 == 1_892_352
    assert found.splits == {"M0": 256}
    schedule = run(program(group))
    assert 1_892_352 <= schedule.cycles <= 1.001 * 1_892_352  # drains and steps are hidden: the derived pipeline fills
    assert 64 * (group.read_words + group.written_words) == 4 * 64 * 12 * 1024 * 64  # Q, K, V, AV once


def test_fit_takes_balanced_tiles_and_divisor_a_divisor() -> None:
    """Seven tiles of queries: where five fit, two rounds of four; the only divisors are one and seven."""
    text = str(find_mapping("fusemax"))
    sizes = tuple((rank, 1792 if rank in "mp" else size) for rank, size in BERT)

    def tiles(rule: str, capacity: int) -> int:
        mapping = parse_mapping(text.replace("divisor global_buffer else fit", rule))
        tight = spec_of("fusemax", f"global_buffer.capacity_bytes={capacity}")
        (group,) = given_mapping(mapping, find("attention-1pass"), sizes, tight).groups
        return group.loops[1].step // 256

    tile = 256 * (2 * 64 + 2 * 66) * 2  # bytes: two of Q, two of the running values RM, RD and RNV
    room = 2 * 2 * 256 * 64 * 2 + 5 * tile  # beside two tiles of K and V
    assert (tiles("fit global_buffer", room), tiles("divisor global_buffer", room)) == (4, 1)
    assert tiles("divisor global_buffer else fit", room) == 4
    assert tiles("fit global_buffer", 16 * room) == tiles("divisor global_buffer", 16 * room) == 7


@pytest.mark.parametrize("name", [
    "attention-3pass", "attention-2pass", "linear-attention", "linear-attention-chunked", "attention-1pass"])
def test_what_a_search_finds_is_a_text_that_means_the_same(name: str) -> None:
    found = searched(find(name), BERT, spec_of("fusemax"))
    mapping = described("found", found.groups)
    again = parse_mapping(str(mapping))
    assert str(again) == str(mapping)
    groups = resolved(again, found.groups[0].problem, spec_of("fusemax"))
    for group, other in zip(groups, found.groups, strict=True):
        assert (group.loops, group.bound_cycles, group.read_words, group.footprint_words, group.in_flight) == (
            other.loops, other.bound_cycles, other.read_words, other.footprint_words, other.in_flight)
        assert run(program(group)).cycles == run(program(other)).cycles


def test_a_search_is_never_worse_than_a_shipped_mapping() -> None:
    spec = spec_of("fusemax")
    shipped = given_mapping(find_mapping("fusemax"), find("attention-1pass"), BERT, spec)
    assert searched(find("attention-1pass"), BERT, spec).cost() <= shipped.cost()


@pytest.mark.slow
def test_where_tiles_of_the_sides_do_not_fit_smaller_ones_are_taken() -> None:
    """A tile of 256 scores by 256 takes 128 KiB; 64 KiB hold smaller ones, 2 KiB none of 16 keys with their depth."""
    short = tuple((rank, 256 if rank in "mp" else size) for rank, size in BERT)
    small = searched(find("attention-2pass"), short, spec_of("fusemax", "global_buffer.capacity_bytes=65536"))
    assert all(group.footprint_words * 2 <= 65_536 for group in small.groups)
    with pytest.raises(CascadeSimError, match=r"tiles of QK take .* bytes of global_buffer, which has 2,048"):
        searched(find("attention-2pass"), short, spec_of("fusemax", "global_buffer.capacity_bytes=2048"))


@pytest.mark.slow
def test_fewer_columns_are_not_faster() -> None:
    """Tiles of 128 queries, whose scores fit the registers, are tried on 256 columns, too."""
    cycles = [searched(find("attention-2pass"), BERT, spec_of("fusemax", f"pe_array.columns={columns}")).cycles
              for columns in (64, 128, 256, 257)]  # fmt: skip
    assert cycles == sorted(cycles, reverse=True)


def test_a_function_that_no_unit_has_is_made_of_others_or_added() -> None:
    """log as a polynomial: 6 multiply-accumulates and an addition (binding.MADE_OF); a unit for it takes 3 cycles."""
    text = cascade("logs", """
        QK[h,m,p] = Q[h,p,e] * K[h,m,e]
        A[h,m,p]  = log(QK[h,m,p])
        AV[h,p,f] = A[h,m,p] * V[h,m,f]
    """)

    def op_cycles(*settings_of: str) -> dict[str, int]:
        found = searched(text, BERT, spec_of("fusemax", *settings_of))
        return {run.work.name: run.op_cycles for group in found.groups for run in group.runs}

    assert op_cycles() == {"QK": 1, "A": 7, "AV": 1}
    assert op_cycles("pe_array.operations.log=3") == {"QK": 1, "A": 3, "AV": 1}
    assert searched(text, BERT, spec_of("fusemax", "pe_array.operations.log=3")).energy_j is None
    assert load("fusemax", ("pe_array.operations.log=3",)).area_um2() is None


def test_fit_is_one_step_at_most() -> None:
    text = TEXT.replace("m1 by array_2d.rows", "m1 by fit global_buffer").replace(
        "p1 by 2 * array_1d.lanes", "p1 by fit global_buffer")
    assert parse_mapping(text).groups[0].splits[0].steps == (Fit("global_buffer"),)
    with pytest.raises(CascadeSimError):
        given_mapping(parse_mapping(text), find("attention-1pass"), BERT, spec_of("fusemax"))
