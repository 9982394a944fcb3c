"""Nests of single Einsums inside shared loops, words that pass by, sums that leave unfinished: against the walker."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from mapped_cases import CHAIN, PRODUCT, RUNNING, array, check_ports, check_schedule, sized
from test_group import Case, expected_of, inputs_of
from walker import Execution, words_moved

from cascadesim.accelerators.mapping.group import BoundGroup
from cascadesim.accelerators.mapping.legality import Draft, Kept, outside_of_late
from cascadesim.accelerators.mapping.mapper.candidates import Neighbours
from cascadesim.accelerators.mapping.mapper.described import described
from cascadesim.accelerators.mapping.placing import bind
from cascadesim.accelerators.mapping.resolve import resolved
from cascadesim.accelerators.mapping.runs import BoundLoop
from cascadesim.accelerators.mapping.text import parse_mapping
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
