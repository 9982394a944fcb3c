"""Nests that Einsums share and results that are spilled, drawn at random: words, ports, results and cycles hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from mapped_cases import CHAIN, array, check_ports, check_schedule, sized
from test_group import Case, check_words, expected_of, inputs_of
from walker import Execution

from cascadesim.accelerators.mapping.group import BoundGroup
from cascadesim.accelerators.mapping.legality import Draft, IllegalMapping
from cascadesim.accelerators.mapping.mapper.candidates import Neighbours
from cascadesim.accelerators.mapping.placing import bind, with_spills
from cascadesim.accelerators.mapping.problem import MappingProblem
from cascadesim.accelerators.mapping.runs import BoundLoop, parts
from cascadesim.einsum_cascades.texts import find

NESTED = [CHAIN, *map(find, ("attention-3pass", "attention-differential", "linear-attention"))]


def nested(draw: st.DrawFn, draft: Draft) -> BoundGroup | None:
    """Stretches of Einsums in loops of their own, and results that others read spilled; None where that is illegal."""
    own, nests, place = {}, {}, 0
    while place < len(draft.members):
        length = draw(st.integers(1, len(draft.members) - place))
        members = draft.members[place : place + length]
        place += length
        common = frozenset.intersection(*(draft.work(member).axes for member in members))
        axes = sorted(axis for axis in common if draft.leaf[axis] > 1)
        if not axes or draw(st.integers(0, 3)) == 0:
            continue
        axis = draw(st.sampled_from(axes))
        loop = BoundLoop(f"{axis}{place}9", axis, draw(st.integers(1, draft.leaf[axis] - 1)), draft.leaf[axis])
        own |= dict.fromkeys(members, (loop,))
        nests |= dict.fromkeys(members, place) if len(members) > 1 else {}
    made = [draft.work(member).output.tensor for member in draft.members]
    if not own:
        return None
    found = replace(draft, own=own, nests=nests)
    part_of = {run.place: number for number, part in enumerate(parts(found.runs)) for run in part}
    readers = {tensor: [reader for reader in draft.problem.readers.get(tensor, ()) if reader in draft.members]
               for tensor in made}  # fmt: skip
    spills = {}
    for tensor, member in zip(made, draft.members, strict=True):
        apart = [reader for reader in readers[tensor] if part_of[reader] != part_of[member]]
        if apart and (nests.get(member) or apart == readers[tensor]) and draw(st.booleans()):
            spills[tensor] = apart
    of = with_spills(draft.problem, spills)
    found = replace(found, problem=of)
    try:
        return bind(found.overlapped(2 if found.pairs_tiles and draw(st.booleans()) else 1))
    except IllegalMapping:
        return None


@st.composite
def spilled_groups(draw: st.DrawFn) -> Case:
    extents = {rank: draw(st.integers(1, 8)) for rank in "HMPEFRKNJ"} | {"H": draw(st.integers(1, 2))}
    of: MappingProblem = sized(draw(st.sampled_from(NESTED)), extents, 1)
    spec = array(*(draw(st.integers(1, most)) for most in (2, 3, 3)))
    drafts = list(Neighbours(of, spec, tuple(range(len(of.work)))).drafts())
    assume(bool(drafts))
    group = nested(draw, drafts[draw(st.integers(0, len(drafts) - 1))])
    assume(group is not None)
    return Case(of, spec, group)


def check_spilled(case: Case) -> None:
    """Words, ports, results and cycles, as of any group."""
    check_words(case)
    check_ports(case.group)
    check_schedule(case.group)
    values: Mapping[str, np.ndarray] = inputs_of(case.of)
    execution = Execution(case.of, values)
    execution.groups((case.group,))
    for name in case.of.cascade.outputs:
        np.testing.assert_allclose(execution.arrays[name], expected_of(case.of, values)[name], rtol=1e-9, atol=1e-9)


@pytest.mark.slow
@given(spilled_groups())
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
def test_nests_and_spills_change_no_answer_and_do_all_of_the_work(case: Case) -> None:
    check_spilled(case)


@pytest.mark.nightly
@given(spilled_groups())
@settings(max_examples=1_500, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
def test_many_more_nests_and_spills(case: Case) -> None:
    check_spilled(case)
