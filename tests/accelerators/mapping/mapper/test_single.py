"""An Einsum by itself: closed forms over arrays of sizes are those of single mappings, and products by hand."""

from __future__ import annotations

from collections.abc import Callable
from math import fsum
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascadesim.accelerators.catalogue import load
from cascadesim.accelerators.energy import dynamic_energy_j
from cascadesim.accelerators.mapping.group import BoundGroup
from cascadesim.accelerators.mapping.mapper.costs import actions, cost, is_plain, paced_cycles, priced
from cascadesim.accelerators.mapping.mapper.many_cycles import Way
from cascadesim.accelerators.mapping.mapper.single import fastest, ways
from cascadesim.accelerators.mapping.placing import bound
from cascadesim.accelerators.mapping.plan import plan_mapped, sized_problems
from cascadesim.accelerators.mapping.problem import MappingProblem, problem
from cascadesim.accelerators.mapping.resolve import resolved
from cascadesim.accelerators.mapping.schedule.pipeline import lead
from cascadesim.accelerators.mapping.text import parse_mapping
from cascadesim.accelerators.protocol import Plan
from cascadesim.accelerators.spec import Buffer, Operations, SpatialArray
from cascadesim.einsum_cascades.models.lowering import linear
from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.einsum_cascades.notation.notation import cascade
from cascadesim.einsum_cascades.texts import find
from cascadesim.simulator.engine.engine import run

TEXTS = {
    "product": "Z[r,n] = A[r,k] * W[k,n]",
    "batched": "Z[b,r,n] = A[b,r,k] * W[b,k,n]",
    "three": "Y[i,f] = X[i,j,k] * B[j,f] * C[k,f]",
    "rows": "Y[r,d] = X[r,d] + G[d]",
    "same": "Y[r,d] = X[r,d] + Z[r,d]",
    "sum": "S[r] = X[r,d] * X[r,d]",
}
sizes = st.integers(1, 40)


def sized(name: str, random: Random) -> MappingProblem:
    text = cascade(name, TEXTS[name])
    return problem(text, {rank.upper(): random.randint(1, 40) for rank in text.ranks}, random.choice([1, 1, 3]))


def check_time(way: Way, pipeline: BoundGroup) -> None:
    """What a search compares is what it counted for all sizes: of a pipeline whose loads run ahead as far."""
    fits = way.room_ahead(np.array(lead(bound(way.draft().overlapped(2))))).item() <= way.spec.buffer_words
    if pipeline.stages is not None and fits:
        assert pipeline.footprint_words == way.room_ahead(np.array(min(pipeline.stages.values()))).item()
        assert way.cycles.item() == pytest.approx(cost(pipeline)[0], rel=1e-9)


@pytest.mark.parametrize("name", sorted(TEXTS))
@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 10**6), capacity=st.sampled_from((200, 2000, 10**6)), side=st.sampled_from(((4, 3), (8, 8))),
       apart=st.booleans())
def test_an_array_of_sizes_counts_what_each_mapping_does(
    array: Callable[..., SpatialArray], name: str, seed: int, capacity: int, side: tuple[int, int], apart: bool
) -> None:
    """Of one size of each way: busy cycles, words, ports, room, and the cost that a search compares. `apart`: with
    accumulators for the sums."""
    random = Random(seed)
    whole, spec = sized(name, random), array(*side, capacity_bytes=capacity)
    spec = spec.model_copy(update={"accumulators": Buffer(capacity_bytes=100, row_bytes=2, ports=1)}) if apart else spec
    if not is_plain(whole, spec, 0):
        return
    every = list(ways(whole, spec, 0, random.random() < 0.7))
    for way in random.sample(every, min(len(every), 8)):
        at = random.randrange(len(way.steps[0]))
        own = way.take(np.array([at]))
        group = bound(own.draft().overlapped(2) if own.overlapped else own.draft())
        assert own.bound_cycles.item() == pytest.approx(group.busiest_cycles, rel=1e-12)
        assert own.dram_words.item() == group.read_words + group.written_words
        assert own.port_words.item() == group.moved_words
        assert own.footprint_words.item() == group.footprint_words
        assert own.fits.item() == group.fits
        joules = fsum(dynamic_energy_j(priced(actions(group)), spec).values()) / whole.instances
        assert own.joules.item() == pytest.approx(joules, rel=1e-9)
        if own.accumulates:
            assert own.summed_words.item() == group.accumulated_words
            assert own.sum_words.item() == group.room_in("accumulators")
        if own.overlapped:
            assert own.paced_cycles.item() >= paced_cycles(group) * (1 - 1e-9)
            check_time(own, bound(own.draft()))


def test_hundreds_of_thousands_of_mappings_have_a_closed_form() -> None:
    """Of a product of 4,096 a side: all orders, 19 sizes a side, inputs near and far."""
    spec = load("edge-array").spec  # type: ignore[attr-defined]
    text = find("linear")
    (whole, _), = [next(sized_problems(text, (("r", 4096), ("k", 4096), ("n", 4096), ("x", 1)), spec))]
    count = sum(way.bound_cycles.size for way in ways(whole, spec, 0, overlapped=True))
    assert count > 300_000


def test_what_is_found_is_the_best_of_all_that_fit(array: Callable[..., SpatialArray]) -> None:
    spec = array(4, 3, capacity_bytes=600)
    whole = problem(cascade("product", TEXTS["product"]), {"R": 30, "K": 17, "N": 23})

    def best(way: Way) -> float:
        return float(np.where(way.fits, way.cycles, np.inf).min())

    found = fastest(whole, spec, 0, "latency")
    assert found.best[0].cycles.item() == min(map(best, ways(whole, spec, 0, overlapped=True)))


def test_registers_are_written_where_an_element_gets_another_word(array: Callable[..., SpatialArray]) -> None:
    """128 points: three reads each; a write of each result and of each word of A, and of 16 words of W, which stay in
    their elements while 8 rows pass by."""
    text = """mapping weights for product
for top:
  array_2d [k over rows, n over columns]: Z for r
  overlap serial
"""
    whole = problem(cascade("product", TEXTS["product"]), {"R": 8, "K": 4, "N": 4})
    done = actions(resolved(parse_mapping(text), whole, array(4))[0])
    assert (done.register_reads_2d, done.register_writes_2d) == (3 * 128, 128 + 128 + 16)


def planned(spec: SpatialArray, rows: int, depth: int, columns: int, copies: int = 1) -> Plan:
    return plan_mapped(linear("z", rows, depth, columns, copies=copies), spec, "physical")


def cycles_of(plan: Plan) -> float:
    return sum(phase.analytical_cycles for phase in plan.phases)


def cycle_level(plan: Plan) -> int:
    programs = [phase.program for phase in plan.phases]
    return sum(run(make()).cycles for make in programs if make is not None)


def test_one_tile_takes_its_depth(fusemax: SpatialArray, array: Callable[..., SpatialArray]) -> None:
    """256 x 256 outputs of depth 4096: 4096 cycles on the array; three operands through DRAM at 400 GiB/s take longer.
    """
    fast = array(bandwidth_bytes_per_s=4000.0 * 2**30)
    (phase,) = planned(fast, 256, 4096, 256).phases
    assert (phase.activities[0].cycles, phase.activities[0].occupancy) == (4096, 1.0)
    assert phase.activities[0].operations == {"mac": 256 * 256 * 4096}
    plan = planned(fusemax, 256, 4096, 256)
    assert plan.traffic.read_bytes == 2 * 2 * 256 * 4096
    assert plan.traffic.write_bytes == 2 * 256 * 256
    assert cycles_of(plan) == pytest.approx(plan.traffic.total_bytes / (400 * 2**30) * 940e6)


def test_partial_tiles_cost_whole_ones(array: Callable[..., SpatialArray]) -> None:
    """5 rows and 7 columns of depth 1 on 4 x 4: 4 tiles, however they are cut."""
    assert planned(array(4), 5, 1, 7).phases[0].activities[0].cycles == 4


def test_decode_is_bound_by_its_weights(fusemax: SpatialArray) -> None:
    """One row: every weight once, 4096 * 14336 * 2 bytes at 400 GiB/s; the cycle level shows the channel busy."""
    plan = planned(fusemax, 1, 4096, 14336)
    assert plan.traffic.read_bytes == 2 * 4096 * 14336 + 2 * 4096
    make = plan.phases[0].program
    assert make is not None
    schedule = run(make())
    assert schedule.bound_by == "dram"
    assert schedule.utilization("dram") > 0.99


def test_experts_have_weights_of_their_own(fusemax: SpatialArray) -> None:
    """8 copies move 8 times as many words as one, and take at most 8 times as long."""
    one, eight = (planned(fusemax, 300, 1024, 700, copies) for copies in (1, 8))
    assert eight.traffic.total_bytes == 8 * one.traffic.total_bytes == 8 * 2 * (300 * 1024 + 1024 * 700 + 300 * 700)
    assert cycles_of(eight) <= 8 * cycles_of(one)


def test_a_million_tiles_are_a_short_stream(fusemax: SpatialArray) -> None:
    plan = planned(fusemax, 64 * 1024 * 1024, 1024, 1024)
    assert plan.phases[0].activities[0].cycles == 1_048_576 * 1024
    assert cycle_level(plan) <= 1.001 * cycles_of(plan)


@pytest.mark.parametrize(("arch", "rows", "depth", "columns"), [
    ("edge-array", 4096, 4096, 4096),  # sums over slices of the depth leave piece by piece, loads run ahead
    ("fusemax", 65536, 512, 2048),  # tiles of 683 columns and one of 682
    ("flat", 65536, 768, 768),  # a tile of rows takes two tiles of weights to come
    ("tpu-v4i-like", 65536, 512, 512),
    pytest.param("flat", 1000, 2880, 512, marks=pytest.mark.slow),  # half of its time is the first tile
])  # fmt: skip
def test_a_product_hides_its_loads(arch: str, rows: int, depth: int, columns: int) -> None:
    """The cycle level is the closed form and what the first tile takes by itself."""
    plan = planned(load(arch).spec, rows, depth, columns)  # type: ignore[attr-defined]
    assert cycles_of(plan) <= cycle_level(plan) <= 1.01 * cycles_of(plan) + 5000


@pytest.mark.slow
@settings(deadline=None, max_examples=30)
@given(sizes, sizes, sizes, st.integers(1, 3), st.integers(1, 12), st.integers(1, 12), st.integers(20, 4000))
def test_any_array_that_holds_a_word_of_each_tensor_runs_it(
    array: Callable[..., SpatialArray], rows: int, depth: int, columns: int, copies: int, height: int, width: int,
    capacity_bytes: int,
) -> None:  # fmt: skip
    """Three words are enough, one of each operand and one of the sum."""
    spec = array(height, width, capacity_bytes=max(capacity_bytes, 2 * width))
    plan = planned(spec, rows, depth, columns, copies)
    assert cycle_level(plan) >= cycles_of(plan)
    assert cycles_of(plan) * height * width >= copies * rows * depth * columns


def test_experts_load_the_next_weights_while_these_are_used(fusemax: SpatialArray) -> None:
    """32 of 125 x 2,880 x 2,880: what comes once for each of them runs ahead as what comes for each tile does."""
    plan = planned(fusemax, 125, 2880, 2880, copies=32)
    assert cycle_level(plan) <= 1.05 * cycles_of(plan)  # the first tiles, and whole cycles


def test_where_little_fits_loads_are_not_waited_for_as_if_much_did() -> None:
    """1 MiB beside 256 x 256 elements: two whole tiles of 256 columns at a time would take 1.77 times the bound."""
    plan = planned(load("flat", ["global_buffer.capacity_bytes=1048576"]).spec, 4096, 768, 768)  # type: ignore[attr-defined]
    assert cycle_level(plan) <= 1.4 * cycles_of(plan)


def test_one_long_axis_lies_along_the_longer_side(array: Callable[..., SpatialArray]) -> None:
    """A sum of 1,136 products on 7 x 212 elements: 6 steps along the columns, 163 along the rows."""
    assert planned(array(7, 212), 1, 1136, 1).phases[0].activities[0].cycles < 163


def test_three_words_hold_a_product(array: Callable[..., SpatialArray]) -> None:
    """One word of each operand and one of the sum at a time; two hold none."""
    plan = planned(array(1, capacity_bytes=6), 3, 4, 5)
    assert plan.traffic.read_bytes >= 2 * (3 * 4 + 4 * 5)
    with pytest.raises(CascadeSimError, match="linear: at the smallest that a search tries, tiles of Z take 6 bytes"):
        planned(array(1, capacity_bytes=4), 3, 4, 5)


def test_an_array_without_macs_says_so(array: Callable[..., SpatialArray]) -> None:
    spec = array(operations_2d=Operations(max=1), operations_1d=Operations(add=1))
    with pytest.raises(CascadeSimError, match="linear: Z: array_1d has no mac; it has add"):
        planned(spec, 4, 4, 4)
