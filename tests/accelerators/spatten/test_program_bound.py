"""The closed form of many queries over a load: counted by hand, exact for prefill, never above the engine."""

from __future__ import annotations

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from cascadesim.accelerators.catalogue import load
from cascadesim.accelerators.program import After, Program, Task, TileRun
from cascadesim.accelerators.protocol import Plan
from cascadesim.accelerators.spatten.accelerator import Spatten
from cascadesim.accelerators.spatten.program_bound import least_cycles, most_cycles
from cascadesim.einsum_cascades.attention import ATTENTION_1PASS, ATTENTION_3PASS
from cascadesim.einsum_cascades.errors import CascadeSimError
from cascadesim.einsum_cascades.ir import Cascade
from cascadesim.einsum_cascades.operation import Operation
from cascadesim.einsum_cascades.pruned_one_pass import PRUNED_1PASS
from cascadesim.simulator.engine import run


def loads(*cycles: tuple[int, int], tiles: int, in_flight: int = 3) -> Program:
    """A load from DRAM, then its product; one class of tiles."""
    tasks = (Task("K", "dram"), Task("QK", "multiply", (After("K", 2),)))
    return Program(tasks, cycles, (TileRun(0, tiles),), in_flight=in_flight, drain_cycles=5)


@pytest.mark.parametrize(("cycles", "least"), [
    ((10, 100), 10 + 2 + 4 * 100 + 5),  # the first load, then products without a gap, then the drain
    ((100, 10), 4 * 100 + 2 + 10 + 5),  # loads without a gap, the last product
])  # fmt: skip
def test_the_way_to_the_busiest_unit_and_from_it(cycles: tuple[int, int], least: int) -> None:
    program = loads(cycles, tiles=4)
    assert least_cycles(program) == run(program).cycles == least


def test_tiles_in_flight_wait_for_each_other() -> None:
    """One at a time: each takes its load, 2 cycles and its product."""
    program = loads((10, 10), tiles=6, in_flight=1)
    assert least_cycles(program) == run(program).cycles == 6 * (10 + 2 + 10) + 5
    assert most_cycles(program) == least_cycles(program)


def test_a_stream_ends_after_the_element_that_it_waits_for() -> None:
    """A selection of 50 cycles behind scores of 20: the products, 8 cycles behind the scores, end with it."""
    tasks = (Task("QK", "scores"), Task("top-k", "top_k", (After("QK", 8, streaming=True),)),
             Task("AV", "results", (After("top-k", streaming=True),)))  # fmt: skip
    program = Program(tasks, ((20, 50, 20),), (TileRun(0, 2),), in_flight=3)
    assert least_cycles(program) == run(program).cycles == 8 + 2 * 50


def attention(cascade: Cascade, heads: int, keys: int, queries: int, kept: int) -> Operation:
    extents = {"b": 1, "h": heads, "g": 1, "m": keys, "p": queries, "e": 64, "f": 64}
    chosen = {"k": kept} if cascade is ATTENTION_3PASS else {}
    return Operation("attention", "attention", cascade, tuple({**extents, **chosen}.items()))


def machine(*changes: str) -> Spatten:
    found = load("spatten", changes)
    assert isinstance(found, Spatten)
    return found


@pytest.mark.parametrize("channels", [1, 4, 16])
@pytest.mark.parametrize(("keys", "kept"), [(1024, 1024), (921, 184), (102, 20)])
def test_prefill_is_exact(channels: int, keys: int, kept: int) -> None:
    plan = machine(f"dram.channels={channels}").plan(attention(ATTENTION_3PASS, 12, keys, keys, kept), "physical")
    (phase,) = plan.phases
    assert phase.program is not None
    assert phase.analytical_cycles == run(phase.program()).cycles


def choices(draw: st.DrawFn) -> list[str]:
    key_bits, value_bits = draw(st.sampled_from([(4, 4), (6, 6), (6, 8), (8, 8), (8, 4)]))
    fields = {
        "multipliers": [64, 256, 1024], "dram.channels": [1, 4, 32], "topk_parallelism": [1, 16, 64],
        "softmax_lanes": [1, 8], "softmax_model": ["pass-through", "pipeline"], "dram.mode": ["rtl", "nominal"],
        "topk_model": ["latency-model", "engine"], "formats.low_bit_share": [0, 0.1, 1], "buffer_lines": [64, 256],
    }  # fmt: skip
    drawn = [f"{name}={draw(st.sampled_from(values))}" for name, values in fields.items()]
    return [*drawn, f"formats.key_bits={key_bits}", f"formats.value_bits={value_bits}"]


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    """Many queries in three passes, or any number in one; whatever a user may set."""
    cascade = draw(st.sampled_from([ATTENTION_3PASS, ATTENTION_1PASS, PRUNED_1PASS]))
    keys = draw(st.integers(1, draw(st.sampled_from([60, 1000, 3000]))))
    queries = draw(st.sampled_from([2, 7, 300] if cascade is ATTENTION_3PASS else [1, 7, 300]))
    work = attention(cascade, draw(st.sampled_from([1, 3, 12])), keys, queries, draw(st.integers(1, keys)))
    try:
        return machine(*choices(draw)).plan(work, "physical")
    except CascadeSimError:
        assume(False)
        raise


@settings(max_examples=80, deadline=None)
@given(plans())
def test_the_engine_takes_what_each_phase_states(plan: Plan) -> None:
    for phase in plan.phases:
        assert phase.program is not None
        assert phase.stated is not None
        found, stated = run(phase.program()).cycles, phase.stated()
        assert phase.analytical_cycles == stated.least_cycles <= found <= stated.most_cycles
