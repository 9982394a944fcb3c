"""Nests of single Einsums inside shared loops, words that pass by, sums that leave unfinished: against the walker."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from mapped_cases import CHAIN, PRODUCT, RUNNING, accumulating, array, check_ports, check_schedule, sized
from test_group import Case, expected_of, inputs_of
from walker import Execution, words_moved

from cascadesim.accelerators.catalogue import load
from cascadesim.accelerators.mapping.group import BoundGroup
from cascadesim.accelerators.mapping.legality import Draft, Kept, outside_of_late
from cascadesim.accelerators.mapping.mapper.candidates import Neighbours
from cascadesim.accelerators.mapping.mapper.described import described
from cascadesim.accelerators.mapping.placing import bind
from cascadesim.accelerators.mapping.resolve import resolved
from cascadesim.accelerators.mapping.runs import BoundLoop, cut
from cascadesim.accelerators.mapping.schedule.sliced import _SlicedBuilder, group_program
from cascadesim.accelerators.mapping.text import parse_mapping
from cascadesim.accelerators.protocol import PlanError
from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.einsum_cascades.notation.notation import cascade
from cascadesim.einsum_cascades.texts import find

TEXTS = [PRODUCT, CHAIN, RUNNING, *map(find, (
    "attention-3pass", "attention-differential", "linear-attention", "attention-1pass", "attention-sinks-1pass",
    "mamba-2-ssd", "deltanet",
))]  # fmt: skip


@st.composite
def nested(draw: st.DrawFn) -> Case:
    """A group one tile at a time, each Einsum with any loops of its own, tensors kept at any of their loops or none."""
    extents = {rank: draw(st.integers(1, 7)) for rank in "HMPEFRKNJ"} | {"H": draw(st.integers(1, 2))}
    of = sized(draw(st.sampled_from(TEXTS)), extents, draw(st.integers(1, 3)))
    spec = array(*(draw(st.integers(1, most)) for most in (2, 3, 3)))
    first = draw(st.integers(0, len(of.work) - 1))
    drafts: list[Draft] = []
    for past in range(len(of.work), first, -1):  # as many as can share loops
        drafts = drafts or list(Neighbours(of, spec, tuple(range(first, past))).drafts())
    assume(drafts)
    draft = drafts[draw(st.integers(0, len(drafts) - 1))].overlapped(1)
    steps = {axis: sorted({draw(st.integers(1, extent)) for _ in range(2)}, reverse=True)
             for axis, extent in of.extents.items()}  # fmt: skip
    own = {member: draw(nest(draft, member, steps)) for member in draft.members}
    draft = replace(draft, own={member: loops for member, loops in own.items() if loops})
    kept: dict[str, Kept] = {}
    for read in bind(draft).reads:
        passes = draw(st.integers(0, 5)) == 0
        late = outside_of_late(draft, read.tensor)
        depths = [depth for depth in range(read.depth + 1) if depth <= late or depth > len(draft.loops)]
        kept[read.tensor] = Kept(draw(st.sampled_from(depths)), False, 0, passes)
    for use in bind(draft).writes:
        innermost = len(draft.loops) + len(draft.own_loops(use.tensor))
        maker = next(member for member in draft.members if draft.work(member).output.tensor == use.tensor)
        alone = not draft.readers(use.tensor) and not draft.work(maker).iterates and maker not in draft.after
        if alone and draw(st.booleans()):
            kept[use.tensor] = Kept(draw(st.integers(0, innermost)), False)
    return Case(of, spec, bind(replace(draft, kept=kept)))


@st.composite
def nest(draw: st.DrawFn, draft: Draft, member: int, steps: dict[str, list[int]]) -> tuple[BoundLoop, ...]:
    """Loops of one Einsum, each shorter than what is outside; their steps need not divide each other."""
    work = draft.work(member)
    axes = draw(st.lists(st.sampled_from(sorted(work.axes - work.iterates) or [""]), max_size=4))
    tile, found = dict(draft.leaf), []
    for axis in filter(None, axes):
        grain = max((walk.grain for each in draft.members for walk in draft.work(each).walks.get(axis, ())), default=1)
        shorter = [(number, step) for number, step in enumerate(steps[axis])
                   if step < tile[axis] and step % grain == 0 and axis not in draft.problem.chains]
        if shorter:
            number, step = draw(st.sampled_from(shorter))
            found.append(BoundLoop(f"{axis}{9 - number}", axis, step, tile[axis]))
            tile[axis] = step
    return tuple(found)


def check(group: BoundGroup) -> None:
    for read in group.reads:
        if read.where and len({operand.shape for operand in read.operands}) == 1:
            assert group.filled(read) == words_moved(group, read), (read.tensor, read.depth)
    for use in group.writes:
        made = next(each for each in group.made if each.tensor == use.tensor)
        if made.kept:
            moved, whole = words_moved(group, made), use.words(group.problem.whole())
            assert (group.stored(use), group.returned(made)) == (moved, moved - whole)
        else:
            assert (group.stored(use), group.returned(made)) == (use.words(group.problem.whole()), 0)
    check_ports(group)
    check_schedule(group)
    if len(group.runs) < len(group.problem.work):
        return
    text = described("mine", (group,))
    again, = resolved(parse_mapping(str(text)), group.problem, group.spec)
    assert str(described("mine", (again,))) == str(text)
    assert (again.memory_words, again.footprint_words, again.bound_cycles) == (
        group.memory_words, group.footprint_words, group.bound_cycles)


TWO = """mapping mine for two-products
for n2:
  split r: r1 by 2, r0
  split n: n2 by 4, n1 by 3, n0
  split j: j1 by 2, j0
  array_2d [r0 over rows, n0 over columns]: Y for r1, n1, k
  array_2d [r0 over rows, j0 over columns]: Z for r1, j1, n
  keep A in global_buffer at r1
  keep W in global_buffer at n2
  keep Z in global_buffer at j1
  bypass U
  overlap serial
"""
SIZES = {"R": 4, "K": 3, "N": 8, "J": 6}


def two(text: str, **spec: int) -> BoundGroup:
    rows = {"rows": 2, "columns": 4, "lanes": 4, **spec}
    return resolved(parse_mapping(text), sized(CHAIN, SIZES, 1), array(**rows))[0]


def test_words_of_a_nest_by_hand() -> None:
    """Two tiles of n, each with Y for all of r: A comes once for each, W once. 2 x 2 of Z come for each of 2 x 3 places
    in the first tile of n, leave, come back in the second and leave again. U is read by each row of tiles of Z: of 4
    columns by 2 of j, 2 times 3 tiles, all of it twice for two rows of r1. Y is in registers; A and W, or a tile of Z,
    take the room."""
    group = two(TWO)
    reads = {read.tensor: group.filled(read) for read in group.reads}
    assert reads == {"A": 2 * 4 * 3, "W": 3 * 8, "U": 2 * 8 * 6}
    made = group.made[-1]
    assert (group.stored(group.writes[0]), group.returned(made)) == (2 * 4 * 6, 4 * 6)
    assert group.memory_words["dram"] == (24 + 24 + 96 + 24, 48)
    assert group.memory_words["global_buffer"] == (0, 24 + 24 + 24)  # U goes straight to the elements
    assert group.footprint_words == max(2 * 3 + 3 * 4, 2 * 2)
    busy = group_program(group).busy_cycles()
    assert {name: busy[name] for name in ("load A", "load W", "load U", "return Z", "store Z")} == {
        "load A": 24, "load W": 24, "load U": 96, "return Z": 24, "store Z": 48}  # a word a cycle


@pytest.mark.parametrize(("old", "new", "says"), [
    ("bypass U", "bypass X", "no tensor 'X' comes from outside this group"),
    ("bypass U", "bypass Y", "no tensor 'Y' comes from outside this group"),
    ("bypass U", "bypass A", "A passes by; 'bypass' and 'keep' do not go together"),
    ("overlap serial", "overlap interleave 2", "words of U pass by: one tile at a time then, 'overlap serial'"),
    ("  bypass U\n  overlap serial", "  overlap interleave 2", "sums of Z leave unfinished: one tile at a time then"),
    ("keep A in global_buffer at r1", "keep A in global_buffer at j1", "A cannot be kept inside a loop that only ano"),
    ("keep W in global_buffer at n2", "keep W in global_buffer at r1\n  keep Y in global_buffer at n1", "Y"),
    ("at j1", "at j1 double", "Z is made here, tile by tile"),
    ("n1 by 3", "n1 by 4", "n1 advances by 4 of 4"),
    ("Y for r1, n1, k", "Y for r1, k, n1", "Y has a loop of its own over n1: before its other ranks"),
])  # fmt: skip
def test_what_is_illegal_says_what_would_be_legal(old: str, new: str, says: str) -> None:
    assert old in TWO
    with pytest.raises(CascadeSimError, match=re.escape(says)):
        two(TWO.replace(old, new))


def test_sums_of_an_array_with_accumulators_stay_there() -> None:
    spec = accumulating(array(2, 4, 4), 64)
    with pytest.raises(CascadeSimError, match="Z is added up in accumulators and stays there as its loops ask"):
        resolved(parse_mapping(TWO), sized(CHAIN, SIZES, 1), spec)


def test_what_is_made_of_a_state_lies_in_its_place() -> None:
    """16 states of one row: S, and nothing for what goes into its next value; with two tiles open, that too."""
    text = cascade("decay", """
        S[r,0]   = 0
        D[r,n]   = G[r,n] * S[r,n]
        S[r,n+1] = D[r,n] + X[r,n]
    """)
    of = sized(text, {"R": 16, "N": 3}, 1)
    mapping, spec = "mapping mine for decay\nfor n:\n  array_2d: D for r; S for r\n  overlap ", load("one-element").spec  # type: ignore[attr-defined]
    serial, both = (resolved(parse_mapping(mapping + how), of, spec)[0] for how in ("serial", "interleave 2"))
    assert serial.footprint_words == 16 + 2 * 16  # S; G and X of a step
    assert both.footprint_words == 16 + 2 * 2 * 16 + 2 * 16


def test_what_a_later_einsum_reads_of_a_state_keeps_its_place() -> None:
    """E reads the state before after D was made of it: D has words of its own."""
    text = cascade("decay", """
        S[r,0]   = 0
        D[r,n]   = G[r,n] * S[r,n]
        E[r,n]   = H[r,n] * S[r,n]
        S[r,n+1] = D[r,n] + E[r,n]
    """)
    of, spec = sized(text, {"R": 16, "N": 3}, 1), load("one-element").spec  # type: ignore[attr-defined]
    mapping = "mapping mine for decay\nfor n:\n  array_2d: D for r; E for r; S for r\n  overlap serial"
    (group,) = resolved(parse_mapping(mapping), of, spec)
    assert group.footprint_words == 16 + 2 * 16 + 16  # S; G and H of a step; D, and E in the place of S


@pytest.mark.parametrize(("at", "held"), [("n1", 4), ("j1", 0)])
def test_what_stays_from_tile_to_tile_is_there_while_others_run(at: str, held: int) -> None:
    """Two rows of Z stay while n1 moves on, and leave with n2: they are there while Y is made, unless they are kept
    inside the nest of Z."""
    text = f"""mapping mine for two-products
for n2, r1, n1:
  split r: r1 by 2, r0
  split n: n2 by 4, n1 by 2, n0
  split k: k1 by 1, k0
  split j: j1 by 1, j0
  array_2d: Y for k1, r, n0; Z for j1, r, n0
  keep A, W in global_buffer at k1
  keep U in global_buffer at j1
  keep Z in global_buffer at {at}
  overlap serial
"""
    of, spec = sized(CHAIN, {"R": 4, "K": 3, "N": 8, "J": 2}, 1), load("one-element").spec  # type: ignore[attr-defined]
    (group,) = resolved(parse_mapping(text), of, spec)
    assert group.footprint_words == 2 * 2 + 2 + 2 + held  # Y, a column of A and a row of W


def test_steps_need_not_divide_each_other() -> None:
    """Two tiles of 8 in stretches of 5 and 3, those in slices of 3: four of 3 and two of 2."""
    loops = BoundLoop("n2", "n", 5, 8), BoundLoop("k1", "k", 2, 4), BoundLoop("n1", "n", 3, 5)
    assert cut([({"n": 8}, 2)], loops) == [({"n": 3}, 4), ({"n": 2}, 2)]


def test_what_a_nest_keeps_comes_again_with_each_tile_be_it_the_same() -> None:
    """All of W, 3 x 8, stays for two rows of a tile; the next tile brings it again, as others may have had its room."""
    text = """mapping mine for product
for r2:
  split r: r2 by 2, r1 by 1, r0
  split n: n1 by 4, n0
  array_2d: Z for r1, n1, n, k
  keep W in global_buffer at r1
  overlap serial
"""
    of, spec = sized(PRODUCT, {"R": 6, "K": 3, "N": 8}, 1), load("one-element").spec  # type: ignore[attr-defined]
    (group,) = resolved(parse_mapping(text), of, spec)
    assert group.filled(next(read for read in group.reads if read.tensor == "W")) == 3 * 24
    assert group_program(group).busy_cycles()["load W"] == 3 * 24 / 4


@pytest.mark.parametrize(("at", "times"), [("j1", 2), ("r1", 1)])
def test_what_an_einsum_after_a_loop_keeps_comes_when_that_has_ended(at: str, times: int) -> None:
    """Y is summed over three slices of k; U comes for each pair of rows, in slices of j, or once for all rows; not for
    each slice of k."""
    text = f"""mapping mine for two-products
for r1, k1:
  split r: r1 by 2, r0
  split k: k1 by 1, k0
  split j: j1 by 1, j0
  array_2d: Y for r, n
  after k1:
    array_2d: Z for j1, r, n
  keep U in global_buffer at {at}
  overlap serial
"""
    of, spec = sized(CHAIN, {"R": 4, "K": 3, "N": 8, "J": 5}, 1), load("one-element").spec  # type: ignore[attr-defined]
    (group,) = resolved(parse_mapping(text), of, spec)
    kept = next(read for read in group.reads if read.tensor == "U")
    assert group.filled(kept) == words_moved(group, kept) == times * 8 * 5
    busy = group_program(group).busy_cycles()
    assert busy["load U"] == times * 5 * 8 / 4


@pytest.mark.parametrize(("rows", "held"), [(3, 1), (4, 0)])
def test_a_last_stretch_of_one_tile_stays_for_loops_that_it_lacks(rows: int, held: int) -> None:
    """Three rows in stretches of two: the last is alone, and stays while d moves on; IN is there while Z is made."""
    text = cascade("scaled", """
        N[r,d] = X[r,d] * IN[r]
        Z[r,n] = N[r,d] * W[d,n]
    """)
    mapping = """mapping mine for scaled
for r2, d2, r1:
  split r: r2 by 2, r1 by 1, r0
  split d: d2 by 2, d1 by 1, d0
  split n: n1 by 1, n0
  array_2d: N for d1; Z for n1, d1
  keep IN in global_buffer at r1
  keep Z in global_buffer at n1
  bypass X, W
  overlap serial
"""
    of, spec = sized(text, {"R": rows, "D": 4, "N": 3}, 1), load("one-element").spec  # type: ignore[attr-defined]
    (group,) = resolved(parse_mapping(mapping), of, spec)
    assert group.filled(next(read for read in group.reads if read.tensor == "IN")) == {3: 2 * 2 + 1, 4: 2 * 4}[rows]
    assert group.footprint_words == 2 + 1 + held  # a row of N; IN, or a word of Z


def heads_inside() -> BoundGroup:
    """Two heads inside the loop over keys; what comes after that has loops of its own."""
    text = """mapping mine for attention-1pass
size M0 = 3
for m1, h1:
  split m: m1 by 3, m0
  split h: h1 by 1, h0
  split f: f1 by 1, f0
  array_2d [p over rows, m0 over columns]: QK; LM; SLN; SLD
  array_1d [p over lanes]: RM; PRM; SPD; RD; SPNV for f
  array_2d [m0 over rows, p over columns]: SLNV for f
  array_1d [f over lanes]: RNV for p
  after m1:
    array_1d [p over lanes]: AV for f1
  bypass V
  overlap serial
"""
    of = sized(find("attention-1pass"), {"H": 2, "M": 6, "P": 2, "E": 1, "F": 4}, 3)
    return resolved(parse_mapping(text), of, array(2, 3, 3))[0]


def test_a_nest_after_a_loop_runs_for_each_head_inside_that_loop() -> None:
    """4 columns of AV for 2 heads, 2 queries side by side, a division in each cycle: 8 cycles."""
    group = heads_inside()
    busy = group_program(group).busy_cycles()
    assert busy["AV"] == group.cycles(next(run for run in group.runs if run.work.name == "AV")) == 4 * 2
    check(group)


def test_a_schedule_that_leaves_work_out_is_a_fault_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_SlicedBuilder, "runs", lambda self, run, places, edge: run.after is None)
    with pytest.raises(PlanError, match="AV takes 0 cycles in the schedule, 8 in closed form; please report it"):
        group_program(heads_inside())


@pytest.mark.slow
@given(nested())
@settings(max_examples=40, deadline=None)
def test_nests_of_single_einsums_move_what_a_walker_moves_and_change_no_answer(case: Case) -> None:
    group = case.group
    check(group)
    if len(group.runs) < len(group.problem.work):
        return
    values = inputs_of(group.problem)
    execution = Execution(group.problem, values)
    execution.groups((group,))
    expected = expected_of(group.problem, values)
    for name in group.problem.cascade.outputs:
        np.testing.assert_allclose(execution.arrays[name], expected[name], rtol=1e-9, atol=1e-9)


@pytest.mark.nightly
@given(nested())
@settings(max_examples=3_000, deadline=None)
def test_many_more_nests(case: Case) -> None:
    check(case.group)
