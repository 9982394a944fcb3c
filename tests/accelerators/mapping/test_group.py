"""What a group claims, held against a walker that runs every point and moves every word."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from mapped_cases import CHAIN, MASKS, PRODUCT, TEXTS, array, check_ports, check_schedule, sized
from walker import Execution, words_moved

from cascadesim.accelerators.mapping.attended import attended
from cascadesim.accelerators.mapping.group import BoundGroup
from cascadesim.accelerators.mapping.legality import Draft, Kept
from cascadesim.accelerators.mapping.mapper.candidates import Neighbours
from cascadesim.accelerators.mapping.mapper.residency import in_slices
from cascadesim.accelerators.mapping.mapper.search import search
from cascadesim.accelerators.mapping.placing import bind
from cascadesim.accelerators.mapping.problem import MappingProblem, problem
from cascadesim.accelerators.mapping.resolve import resolved
from cascadesim.accelerators.mapping.runs import Resident, divides
from cascadesim.accelerators.mapping.schedule.program import program
from cascadesim.accelerators.mapping.schedule.sliced import group_program
from cascadesim.accelerators.mapping.text import parse_mapping
from cascadesim.accelerators.program import Repeat, TileRun
from cascadesim.accelerators.spec import SpatialArray
from cascadesim.einsum_cascades.analysis.evaluate import evaluate
from cascadesim.einsum_cascades.analysis.passes import partition
from cascadesim.einsum_cascades.notation.algebra import extents_of, factor_polynomial
from cascadesim.einsum_cascades.notation.ir import Cascade, Index
from cascadesim.einsum_cascades.notation.notation import cascade
from cascadesim.einsum_cascades.sparsity.masks import FULL, KeyInterval
from cascadesim.einsum_cascades.texts import find


def inputs_of(of: MappingProblem) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(7)
    return {name: generator.normal(size=shape_of(of, name)) for name in of.cascade.inputs}


def shape_of(of: MappingProblem, tensor: str) -> tuple[int, ...]:
    """As long as the places that are read ask for; a split axis is as long as it is (its last tile may be partial)."""
    uses = [access.indices for einsum in of.cascade.einsums for access in einsum.inputs if access.tensor == tensor]
    whole = {parts: of.extents[axis] for axis, parts in of.chains.items()}

    def reach(index: Index) -> int:
        last = sum((of.sizes[rank.upper()] - 1) * int(factor_polynomial(factor).value(of.sizes))
                   for rank, factor in index.terms)  # fmt: skip
        last += sum(int(factor_polynomial(offset).value(of.sizes)) for offset in index.offsets)
        divisor = int(factor_polynomial(index.divisor).value(of.sizes))
        return whole.get(partition(index) or (), last // divisor + 1)

    return tuple(max(map(reach, places)) for places in zip(*uses, strict=True))


class Case:
    """A drawn value with a short name for hypothesis to print."""

    def __init__(self, of: MappingProblem, spec: SpatialArray, group: BoundGroup | None = None) -> None:
        self.of, self.spec, self._group = of, spec, group

    @property
    def group(self) -> BoundGroup:
        assert self._group is not None
        return self._group

    def __repr__(self) -> str:
        kept = [] if self._group is None else [(read.tensor, read.depth, read.copies, read.piece)
                                               for read in self._group.reads]  # fmt: skip
        return f"{self.of} {self._group} {kept}"


def expected_of(of: MappingProblem, values: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What the text computes; `evaluate` knows no partial last tile, so texts in tiles are taken as the whole one."""
    whole = {"attention-1pass": "attention-3pass", "attention-1pass-gqa": "attention-3pass", "attention-2pass":
             "attention-3pass", "attention-sinks-1pass": "attention-sinks",
             "attention-1pass-causal": "attention-3pass-causal"}  # fmt: skip
    text = find(whole[of.cascade.name]) if of.chains else of.cascade
    return evaluate(text, values, {name: of.sizes[name] for name in extents_of(text) if name not in of.extents})


@st.composite
def problems(draw: st.DrawFn, masked: bool = False) -> Case:
    """A cascade of some size on some small array, so that partial tiles are common."""
    text = draw(st.sampled_from(TEXTS))
    extents = {rank: draw(st.integers(1, 7)) for rank in "HMPEFRKNJ"} | {"H": draw(st.integers(1, 2))}
    inner = draw(st.integers(1, 4))
    if text.name.endswith("causal"):  # whole tiles: the walker takes M1*M0 in a condition by its word
        extents["M"] = -(-(extents["P"] + draw(st.integers(0, 2))) // inner) * inner
    sizes = draw(st.integers(1, 3)), draw(st.integers(1, 4)), draw(st.integers(1, 4))
    mask = draw(st.sampled_from(MASKS)) if masked else FULL
    return Case(sized(text, extents, inner, mask), array(*sizes))


@st.composite
def groups(draw: st.DrawFn) -> Case:
    """One of the ways of fusing a stretch of a cascade that the search looks at."""
    case = draw(problems(masked=True))
    of, spec = case.of, case.spec
    start = draw(st.integers(0, len(of.work) - 1))
    end = draw(st.integers(start + 1, len(of.work)))
    drafts = list(Neighbours(of, spec, tuple(range(start, end))).drafts())
    if not drafts:  # a stretch that cannot share loops, or must share them with others
        found, _ = search(of, spec)
        return Case(of, spec, found[draw(st.integers(0, len(found) - 1))])
    draft = drafts[draw(st.integers(0, len(drafts) - 1))]
    sliced = list(in_slices(draft))
    if sliced and draw(st.booleans()):
        return Case(of, spec, draw(in_own_loops(sliced)))
    kept = {read.tensor: draw(keeping(read, draft)) for read in bind(draft).reads}
    return Case(of, spec, bind(replace(draft, kept=kept, in_flight=draw(st.sampled_from([None, 1, 2, 3, 4])))))


@st.composite
def keeping(draw: st.DrawFn, read: Resident, draft: Draft) -> Kept:
    """An input inside any of the loops, whole or in pieces of a loop inside of that."""
    depth, extents = draw(st.integers(0, read.depth)), draft.problem.extents
    pieces = [number + 1 for number in range(depth, read.depth) if draft.loops[number].axis in read.axes
              and all(divides(read.operands, loop.axis, extents[loop.axis]) for loop in draft.loops[depth : number + 1]
                      if loop.axis in read.axes)]  # fmt: skip
    return Kept(depth, draw(st.booleans()), draw(st.sampled_from([0, *pieces])))


@st.composite
def in_own_loops(draw: st.DrawFn, drafts: list[Draft]) -> BoundGroup:
    """A group in which Einsums have loops of their own; inputs anywhere, two tiles overlapped where that is legal."""
    draft = drafts[draw(st.integers(0, len(drafts) - 1))]
    overlaps = draft.pairs_tiles and draw(st.booleans())
    draft = draft.overlapped(2 if overlaps else 1)
    kept = {read.tensor: Kept(draw(st.integers(0, read.depth)), overlaps or draw(st.booleans()))
            for read in bind(draft).reads}  # fmt: skip
    return bind(replace(draft, kept=kept))


def check_words(case: Case) -> None:
    group = case.group
    for read in group.reads:
        if len({operand.shape for operand in read.operands}) == 1:
            masked = group.attended is not None
            assert group.filled(read) == words_moved(group, read, masked), (read.tensor, read.depth, group.loops)
            assert group.filled(read) >= words_moved(group, read)


def check_order(case: Case) -> None:
    of, spec = case.of, case.spec
    found, _ = search(of, spec)
    values = inputs_of(of)
    execution = Execution(of, values)
    execution.groups(found)
    expected = expected_of(of, values)
    for name in of.cascade.outputs:
        np.testing.assert_allclose(execution.arrays[name], expected[name], rtol=1e-9, atol=1e-9)


@pytest.mark.slow
@given(groups())
@settings(max_examples=50, deadline=None)
def test_words_that_come_from_dram_are_those_a_walker_moves(case: Case) -> None:
    check_words(case)


@pytest.mark.slow
@given(problems())
@settings(max_examples=10, deadline=None)
def test_the_order_of_a_mapping_does_not_change_the_answer(case: Case) -> None:
    check_order(case)


SLICED = [CHAIN, *map(find, ("attention-3pass", "attention-differential", "linear-attention"))]


@pytest.mark.slow
@given(st.data())
@settings(max_examples=25, deadline=None)
def test_loops_of_single_einsums_change_no_answer_and_do_all_of_the_work(data: st.DataObject) -> None:
    """Scores of some queries are made key by key, used up, and read key by key: words, results and cycles hold."""
    extents = {rank: data.draw(st.integers(1, 9)) for rank in "HMPEFRKNJ"} | {"H": data.draw(st.integers(1, 2))}
    of = sized(data.draw(st.sampled_from(SLICED)), extents, 1)
    spec = array(*(data.draw(st.integers(1, most)) for most in (2, 3, 3)))
    drafts = Neighbours(of, spec, tuple(range(len(of.work)))).drafts()
    sliced = [each for draft in drafts for each in in_slices(draft)]
    assume(bool(sliced))
    group = data.draw(in_own_loops(sliced))
    check_words(Case(of, spec, group))
    check_schedule(group)
    values = inputs_of(of)
    execution = Execution(of, values)
    execution.groups((group,))
    for name in of.cascade.outputs:
        np.testing.assert_allclose(execution.arrays[name], expected_of(of, values)[name], rtol=1e-9, atol=1e-9)


@pytest.mark.nightly
@given(groups())
@settings(max_examples=2_000, deadline=None)
def test_words_of_many_more_mappings(case: Case) -> None:
    check_words(case)


@pytest.mark.nightly
@given(problems())
@settings(max_examples=300, deadline=None)
def test_the_order_of_many_more_mappings(case: Case) -> None:
    check_order(case)


@pytest.mark.slow
@given(groups())
@settings(max_examples=100, deadline=None)
def test_no_schedule_is_shorter_than_the_bound_and_the_engine_does_all_of_the_work(case: Case) -> None:
    check_ports(case.group)
    check_schedule(case.group)


def started(order: Iterable[TileRun | Repeat]) -> int:
    """Tiles with which columns of running values begin."""
    return sum(each.times * started(each.body) if isinstance(each, Repeat) else each.tiles * each.fresh
               for each in order)  # fmt: skip


@pytest.mark.parametrize("mask", MASKS, ids=str)
@pytest.mark.parametrize("order", ["mp", "pm"])
def test_each_column_begins_once_under_every_mask(mask: KeyInterval, order: str) -> None:
    """2 heads of 6 queries in tiles of 2 have 6 columns, wherever the mask lets them begin."""
    of = sized(find("attention-1pass"), {"H": 2, "P": 6, "M": 8, "E": 3, "F": 3}, 2, mask)
    (draft, *_) = (draft for draft in Neighbours(of, array(2, 2, 2), tuple(range(len(of.work)))).drafts()
                   if [(loop.axis, loop.step) for loop in draft.loops] == [("h", 1), *((axis, 2) for axis in order)])
    assert started(program(bind(draft)).stream) == 6


def test_a_product_reads_its_operands_as_often_as_loops_outside_say() -> None:
    """8 x 8 results of depth 8 in tiles of 2 x 4: A is read once (its rows stay), W for each of 4 tiles of rows."""
    of = sized(PRODUCT, {"R": 8, "K": 8, "N": 8}, 1)
    spec = array(2, 4, 4)
    drafts = list(Neighbours(of, spec, (0,)).drafts())
    draft = next(draft for draft in drafts if [(loop.axis, loop.step) for loop in draft.loops] == [("r", 2), ("n", 4)])
    group = bind(replace(draft, kept={"A": Kept(1, False), "W": Kept(2, False)}))
    reads = {read.tensor: group.filled(read) for read in group.reads}
    assert reads == {"A": 64, "W": 4 * 64}
    assert group.written_words == 64
    assert group.busy_cycles["array_2d"] == 4 * 2 * 8  # tiles, each 8 steps of the depth


@pytest.mark.parametrize("tiles", [None, 1, 2])
def test_a_tile_goes_although_an_einsum_after_its_loop_reads_it_too(tiles: int | None) -> None:
    """DQ of Mamba-2 reads the sums CS after the last step of m0, DR those of every step: one slot for three of them."""
    of = sized(find("mamba-2-ssd"), dict.fromkeys("HMPEFRKNJ", 1) | {"M": 6, "P": 6}, 3)
    names = [work.name for work in of.work]
    members = tuple(range(names.index("QK"), names.index("DQ") + 1))
    drafts = [draft for draft in Neighbours(of, array(1, 1, 1), members).drafts() if draft.after]
    assert drafts
    for draft in drafts:
        check_schedule(bind(draft.overlapped(tiles)))


@pytest.mark.slow
@pytest.mark.parametrize("text", TEXTS, ids=lambda text: text.name)
def test_every_text_is_mapped_and_covers_its_einsums_once(text: Cascade) -> None:
    of = sized(text, dict.fromkeys("HMPEFRKNJ", 6), 2)
    found, tried = search(of, array(2, 2, 2))
    assert [run.work.name for group in found for run in group.runs] == [work.name for work in of.work]
    assert tried > 0


@pytest.mark.parametrize(("loops", "queries", "window", "visited"), [
    ("m1, p1", 16, None, 16), ("p1, m1", 16, None, 10), ("p1, m1", 16, 2, 7), ("p1, m1", 4, 2, 4)])  # fmt: skip
def test_a_sum_over_queries_is_stored_for_all_keys(loops: str, queries: int, window: int | None, visited: int) -> None:
    """16 causal queries and keys in tiles of 4: 10 of 16 pairs of tiles are met, 7 within a window of 2. All are met
    where each key tile has a sum of its own, and where there are keys that no query attends."""
    text = cascade("importance", "QK[p,m] = Q[p,e] * K[m,e]\nSN[p,m] = exp(QK[p,m])\nS[m] = SN[p,m]")
    sizes = {"P": queries, "M": 16, "E": 2}
    own = problem(text, sizes, attended=attended(text, sizes, KeyInterval(True, window=window)))
    (group,) = resolved(parse_mapping(f"""
mapping mine for importance
for {loops}:
  split m: m1 by 4, m0
  split p: p1 by 4, p0
  array_2d [m0 over rows, p0 over columns]: QK for e; SN; S
  overlap serial
"""), own, array(4, 4, 4))  # fmt: skip
    busy = group_program(group).busy_cycles()
    assert busy["store S"] == group.written_words == 16
    assert busy["SN"] == visited * group.runs[1].cycles(group.leaf)
