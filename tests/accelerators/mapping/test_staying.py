"""Results that stay in the buffer between groups: words by hand, what may not stay, and that a search never loses."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from mapped_cases import CHAIN, RUNNING, TEXTS, array, check_ports, check_schedule, sized

from cascadesim.accelerators.catalogue import load
from cascadesim.accelerators.mapping.keep_lines import staying_words
from cascadesim.accelerators.mapping.mapper.costs import Objective
from cascadesim.accelerators.mapping.mapper.described import described
from cascadesim.accelerators.mapping.mapper.search import every_group, search
from cascadesim.accelerators.mapping.mapper.staying import with_staying
from cascadesim.accelerators.mapping.plan import Mapped, plan_mapped, searched
from cascadesim.accelerators.mapping.resolve import resolved
from cascadesim.accelerators.mapping.text import parse_mapping
from cascadesim.accelerators.spatial.array import SpatialMachine
from cascadesim.einsum_cascades.models.operation import Operation
from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.einsum_cascades.notation.notation import cascade
from cascadesim.einsum_cascades.texts import find

SIZES = {"R": 4, "K": 3, "N": 5, "J": 2}
TWO_GROUPS = """mapping mine for two-products
keep Y in global_buffer
for r:
  array_2d [n over columns]: Y for k
for r:
  array_2d [j over columns]: Z for n
"""


def test_a_result_that_stays_is_neither_stored_nor_loaded() -> None:
    """Y of 4 x 5 words; A of 12, W of 15, U of 10 words come, Z of 8 leaves. Without it Y leaves and comes back."""
    of, spec = sized(CHAIN, SIZES, 1), array(2, 4, 4)
    first, second = resolved(parse_mapping(TWO_GROUPS), of, spec)
    assert [(group.read_words, group.written_words) for group in (first, second)] == [(12 + 15, 0), (10, 8)]
    without = resolved(parse_mapping(TWO_GROUPS.replace("keep Y in global_buffer\n", "")), of, spec)
    assert [(group.read_words, group.written_words) for group in without] == [(12 + 15, 20), (10 + 20, 8)]


def test_it_is_written_and_read_at_the_ports_and_takes_its_room_in_both_groups() -> None:
    """A row of Y is written in one tile of 4 and read, once each; A and W as before, W whole beside a row of A."""
    of, spec = sized(CHAIN, SIZES, 1), array(2, 4, 4)
    first, second = resolved(parse_mapping(TWO_GROUPS), of, spec)
    without = resolved(parse_mapping(TWO_GROUPS.replace("keep Y in global_buffer\n", "")), of, spec)
    assert first.all_port_words()[1] == 20
    assert second.all_port_words()[0] == without[1].all_port_words()[0]  # loaded or not, Z reads it from the buffer
    assert first.footprint_words == 20 + 3 + 15  # Y, a row of A, W
    assert second.footprint_words == 20 + 10
    check_schedule(first)
    check_schedule(second)


def test_a_result_that_stays_and_is_an_output_by_another_name_leaves_too() -> None:
    text = cascade("two-products", CHAIN.text + "\nC[r,n] = Y[r,n]")
    first, second = resolved(parse_mapping(TWO_GROUPS), sized(text, SIZES, 1), array(2, 4, 4))
    assert (first.written_words, second.read_words) == (20, 10)


def test_an_einsum_waits_for_what_it_reads_and_for_no_other_load() -> None:
    """S reads Y, which stays, and begins at once; Z, once U of 10 words is there, a cycle each, ends with S."""
    text = cascade("three", "Y[r,n] = A[r,k] * W[k,n]\nS[r,n] = exp(Y[r,n])\nZ[r,j] = S[r,n] * U[n,j]")
    mapping = parse_mapping("""mapping mine for three
keep Y in global_buffer
for top:
  array_2d [n over columns]: Y for r, k
for top:
  array_1d [n over lanes]: S for r
  array_2d [j over columns]: Z for r, n
""")
    _, group = resolved(mapping, sized(text, SIZES, 1), array(2, 4, 2))
    made, used = group.runs
    assert 10 + used.tile_cycles(group.leaf) < made.tile_cycles(group.leaf)
    assert group.latency(group.leaf) == made.tile_cycles(group.leaf) + made.drain_cycles
    check_schedule(group)


def test_all_instances_are_there_at_once() -> None:
    """A group runs all of them before the next group begins."""
    of = replace(sized(CHAIN, SIZES, 1), instances=3)
    first, _ = resolved(parse_mapping(TWO_GROUPS), of, array(2, 4, 4))
    assert first.footprint_words == 3 * 20 + 3 + 15


@pytest.mark.parametrize(("line", "message"), [
    ("keep X in global_buffer", "line 2: no Einsum makes 'X'"),
    ("keep Y in registers", "line 2: no memory 'registers' to keep Y in"),
    ("keep Z in global_buffer", "line 2: no later group reads Z"),
])
def test_what_cannot_stay_is_refused_with_its_line(line: str, message: str) -> None:
    with pytest.raises(CascadeSimError, match=message):
        resolved(parse_mapping(TWO_GROUPS.replace("keep Y in global_buffer", line)), sized(CHAIN, SIZES, 1),
                 array(2, 4, 4))  # fmt: skip


def test_it_has_one_place() -> None:
    again = TWO_GROUPS + "  keep Y in global_buffer at r\n"
    with pytest.raises(CascadeSimError, match="line 7: Y stays in global_buffer between groups; leave the line out"):
        resolved(parse_mapping(again), sized(CHAIN, SIZES, 1), array(2, 4, 4))


def test_what_does_not_fit_is_refused_with_bytes() -> None:
    """38 words of 2 bytes in a buffer of 64."""
    whole = array(2, 4, 4)
    spec = whole.model_copy(update={"global_buffer": whole.global_buffer.model_copy(update={"capacity_bytes": 64})})
    with pytest.raises(CascadeSimError, match=r"take 76 bytes \(40 for Y between groups\) of global_buffer"):
        resolved(parse_mapping(TWO_GROUPS), sized(CHAIN, SIZES, 1), spec)


def test_a_running_value_stays_where_its_loop_is_shared() -> None:
    text = """mapping mine for running
keep S in global_buffer
for r, n:
  array_1d: S
for r, n:
  array_1d: Y
"""
    of = sized(RUNNING, {"R": 4, "N": 5}, 1)
    with pytest.raises(CascadeSimError, match="S is a running value, which stays where its loop is shared"):
        resolved(parse_mapping(text), of, array(2, 2, 2))


@pytest.mark.slow
def test_a_tile_of_several_of_the_texts_is_read_back_as_such() -> None:
    """Tiles of 4 keys of a text that has them by 2: a round of the columns holds 2, written down or not."""
    sizes = {"H": 1, "M": 6, "P": 6, "E": 5, "F": 2, "R": 3, "K": 3, "N": 1, "J": 1}
    of, spec = sized(find("attention-1pass-causal"), sizes, 2), array(2, 4, 3)
    alone, _ = search(of, spec, 1, "energy")
    assert alone is not None
    wide = [next((each for each in every_group(of, spec, tuple(run.place for run in group.runs))
                  if any(loop.axis == "m" and loop.step == 4 for loop in each.loops)), group)
            for group in alone]  # fmt: skip
    assert wide != list(alone)
    found = with_staying(wide, "energy")
    again = resolved(parse_mapping(str(described("found", found))), of, spec)
    assert [group.bound_cycles for group in again] == [group.bound_cycles for group in found]


@pytest.mark.slow
@given(st.data())
@settings(max_examples=6, deadline=None)
def test_what_stays_saves_its_words_and_nothing_else(data: st.DataObject) -> None:
    check_staying(data)


@pytest.mark.nightly
@given(st.data())
@settings(max_examples=300, deadline=None)
def test_what_stays_in_many_more_mappings(data: st.DataObject) -> None:
    check_staying(data)


def check_staying(data: st.DataObject) -> None:
    """Of any text: cheaper or as it was, words less by those of what stays, the schedule no shorter than the bound.

    Printing and reading again gives the same groups.
    """
    extents = {rank: data.draw(st.integers(1, 7)) for rank in "HMPEFRKNJ"} | {"H": data.draw(st.integers(1, 2))}
    text = data.draw(st.sampled_from(TEXTS))
    if text.name.endswith("causal"):
        extents["M"] = extents["P"] = 6
    of = sized(text, extents, 2)
    spec = array(*(data.draw(st.integers(1, most)) for most in (3, 4, 4)))
    objective: Objective = data.draw(st.sampled_from(["latency", "dram", "energy"]))
    before, _ = search(of, spec, data.draw(st.integers(1, 4)), objective)
    assert before is not None
    assume(len(before) > 1)
    after = with_staying(before, objective)
    stays = {tensor for group in after for tensor in group.problem.staying}
    moved = [sum(group.filled(read) for group in groups for read in group.reads)
             + sum(group.stored(use) for group in groups for use in group.writes) for groups in (before, after)]
    saved = sum(group.filled(read) for group in before for read in group.reads if read.tensor in stays)
    saved += sum(group.stored(use) for group in before for use in group.writes if use.tensor in stays - of.outputs)
    assert moved[0] - moved[1] == saved
    assert Mapped("", after, {}, 1).cost(objective) <= Mapped("", before, {}, 1).cost(objective)
    for old, new in zip(before, after, strict=True):
        assert new.fits
        assert new.footprint_words >= sum(staying_words(of, tensor) for tensor in new.problem.staying)
        check_ports(new)
        check_schedule(new)
        assert [run.work.name for run in new.runs] == [run.work.name for run in old.runs]
    written = str(described("found", after))
    again = resolved(parse_mapping(written), of, spec)
    assert str(described("found", again)) == written
    assert [group.bound_cycles for group in again] == [group.bound_cycles for group in after]


@pytest.mark.slow
def test_a_search_keeps_scores_of_few_keys_between_two_passes_unless_each_einsum_is_alone() -> None:
    """Scores of 64 x 64 take 8 KiB of the 256 of the edge array; on `unfused` all passes by DRAM, as published."""
    sizes = tuple({"b": 1, "h": 2, "g": 1, "m": 64, "p": 64, "e": 16, "f": 16}.items())
    machine = load("edge-array")
    assert isinstance(machine, SpatialMachine)
    text = find("attention-3pass")
    apart = searched(text, sizes, machine.spec, most_fused=1)
    assert not any(group.problem.staying for group in apart.groups)
    kept = with_staying(apart.groups, "latency")
    between = {"QK", "GM", "SN", "SD", "A"}
    assert {tensor for group in kept for tensor in group.problem.staying} == between
    inputs_and_output = 4 * 2 * 64 * 16
    assert sum(group.read_words + group.written_words for group in kept) == inputs_and_output


@pytest.mark.slow
def test_a_plan_with_results_that_stay_does_all_operations_and_moves_what_is_compulsory() -> None:
    machine = load("edge-array")
    assert isinstance(machine, SpatialMachine)
    text = find("attention-3pass")
    sizes = tuple({"b": 1, "h": 1, "g": 1, "m": 48, "p": 48, "e": 16, "f": 16}.items())
    apart = searched(text, sizes, machine.spec, most_fused=1)
    mapping = described("mine", with_staying(apart.groups, "latency"))
    plan = plan_mapped(Operation("attention", "attention", text, sizes), machine.spec, "physical", mapping)
    assert "keep QK, GM, SN, SD, A in global_buffer" in plan.mapping
    assert sum(phase.traffic.total_bytes for phase in plan.phases) == 2 * 4 * 48 * 16
