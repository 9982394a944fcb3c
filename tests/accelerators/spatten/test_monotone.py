"""More hardware is never slower, in every size of the machine: dense, with kept values, with a trace.

At cycle level within 1 % or a pipeline's depth: fewer heads at a time and heads cut where that is faster, and lanes
idle that only delay others. What is left are anomalies of the RTL's arbiters, of about 1 in 700 pairs: keys and values
take turns at the fetcher, so that values that are chosen earlier may delay the next head's keys (docs/spatten.md).
"""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascadesim.accelerators.catalogue import load
from cascadesim.accelerators.protocol import Accelerator, Plan
from cascadesim.accelerators.spatten.accelerator import HEAD_CYCLES, Heads
from cascadesim.einsum_cascades.models.operation import Operation
from cascadesim.einsum_cascades.models.traced import TracedWorkload
from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.einsum_cascades.sparsity.masks import CAUSAL, FULL
from cascadesim.einsum_cascades.sparsity.pruning_trace import PruningTrace, TracedHead
from cascadesim.einsum_cascades.texts import find
from cascadesim.einsum_cascades.texts.transformer import LINEAR, RMS_NORM
from cascadesim.simulator.execution import execute

HARDWARE = ("multipliers", "buffer_lines", "dram.channels", "fetch_channels", "softmax_lanes", "topk_parallelism",
            "clock_hz")  # fmt: skip


def designs(draw: random.Random) -> dict[str, float]:
    return {
        "multipliers": 64 * 2 ** draw.randrange(6), "buffer_lines": draw.choice((32, 48, 64, 200, 256, 1000, 2048)),
        "dram.channels": 2 ** draw.randrange(6), "fetch_channels": draw.choice((1, 2, 3, 4, 8, 16, 24, 32, 64, 128)),
        "softmax_lanes": 2 ** draw.randrange(6), "topk_parallelism": draw.choice((1, 3, 16, 64)),
        "clock_hz": 1e9, "count_multiple": draw.choice((8, 32)),
    }  # fmt: skip


def operations(draw: random.Random, longest: int) -> Operation:
    kind = draw.random()
    if kind < 0.15:
        shape = (("r", draw.choice((1, 17, 512))), ("k", draw.choice((64, 768))), ("n", draw.choice((64, 3072))))
        return Operation("linear", "linear", LINEAR, (*shape, ("x", 1)))
    if kind < 0.25:
        return Operation("norm", "elementwise", RMS_NORM, (("r", draw.choice((1, 17, 512))), ("d", 768)))
    if kind < 0.35:
        shapes = [(keys := draw.randint(1, min(longest, 1000)), draw.choice((keys, max(1, keys // 3))))
                  for _ in range(draw.choice((1, 5)))]  # fmt: skip
        rows = [TracedHead(0, 0, head, keys, keys, values, 8, 8, low_bits=draw.random() < 0.5)
                for head, (keys, values) in enumerate(shapes)]  # fmt: skip
        return TracedWorkload("traced", PruningTrace("rows", tuple(rows))).operations()[0]
    group, queries = draw.choice((1, 1, 2)), draw.choice((1, 1, 1, 7, 64, 300))
    keys = max(queries, draw.randint(1, longest))
    sizes = {"b": 1, "h": group * draw.choice((1, 2, 4, 12)), "g": group, "m": keys, "p": queries, "e": 64, "f": 64,
             "k": draw.choice((keys, max(1, keys // 3)))}  # fmt: skip
    text = find(draw.choice(("attention-3pass", "attention-3pass", "attention-1pass")))
    return Operation("attention", "attention", text, tuple(sizes.items()), mask=draw.choice((FULL, CAUSAL)))


def machine(sizes: dict[str, float]) -> Accelerator:
    return load("spatten", [f"{name}={size}" for name, size in sizes.items()] + ["pruning.schedule=none"])


def pairs(seed: int, count: int, longest: int) -> Iterator[tuple[str, Plan, Plan, float]]:
    """(what grew, plan before, plan after, how many times faster the clock is), of designs that exist."""
    draw = random.Random(seed)
    for _ in range(count):
        sizes, operation, grown = designs(draw), operations(draw, longest), draw.choice(HARDWARE)
        times = 2 if grown in ("multipliers", "dram.channels") else draw.choice((1.5, 2, 4))
        larger = {**sizes, grown: sizes[grown] * times if grown == "clock_hz" else int(sizes[grown] * times)}
        try:
            one, other = (machine(each).plan(operation, "physical") for each in (sizes, larger))
        except CascadeSimError:  # counts that do not fill lines in pairs
            continue
        yield grown, one, other, larger["clock_hz"] / sizes["clock_hz"]


def depth_cycles(plan: Plan) -> int:
    """Of the pipeline: a head's way, or what the longest tile of a program spends in all units."""
    programs = [phase.program() for phase in plan.phases if phase.program is not None]
    return HEAD_CYCLES + sum(max(map(sum, program.tile_classes)) for program in programs)


def closed_form(plan: Plan) -> float:
    return sum(phase.analytical_cycles for phase in plan.phases)


@pytest.mark.slow
@pytest.mark.parametrize(("seed", "count"), [(0, 500), *(pytest.param(seed, 500, marks=pytest.mark.nightly)
                                                        for seed in (1, 2, 3))])  # fmt: skip
def test_more_hardware_is_never_slower_in_closed_form(seed: int, count: int) -> None:
    checked = 0
    for grown, one, other, clock in pairs(seed, count, longest=4000):
        checked += 1
        assert closed_form(other) / clock <= closed_form(one) + 1, (grown, one.operation, one.mapping, other.mapping)
    assert checked > 0.8 * count


def cycle_level(seed: int, count: int) -> tuple[int, list[str]]:
    """How many pairs ran, and those of which the larger design is slower; never faster than the closed form."""
    checked, slower = 0, []
    for grown, one, other, clock in pairs(seed, count, longest=500):
        before, after = (execute(plan, "cycle").cycles for plan in (one, other))
        checked += 1
        assert before >= closed_form(one), one
        if after / clock > max(before * 1.01, before + depth_cycles(other)):
            slower.append(f"{grown}: {before} to {after} cycles, {one.operation.extents}, {one.mapping}")
    return checked, slower


def heads_in_order(sizes: dict[str, float], heads: int, keys: int, kept: int) -> tuple[list[int], int]:
    """Lines of the key buffer that each stream of whole heads may use, and the cycles of the plan."""
    extents = {"b": 1, "h": heads, "g": 1, "m": keys, "p": 1, "e": 64, "f": 64, "k": kept}
    operation = Operation("attention", "attention", find("attention-3pass"), tuple(extents.items()))
    (phase,) = machine(sizes).plan(operation, "physical").phases
    assert phase.model is not None
    model = phase.model()
    assert isinstance(model, Heads)
    return [stream.design.buffer_lines for stream in model.streams() if stream.rows[0].keys == keys], model.run()


def test_a_machine_that_could_hold_two_heads_may_hold_one() -> None:
    """255 keys, fetched as 256: 32 lines of 8 vectors at 512 multipliers, the whole buffer; 16 of 16 at 1,024, half.

    Where two heads are there together their choices, of 836 cycles each, end the stream one after the other: 342 more.
    """
    sizes = {"buffer_lines": 32, "dram.channels": 1, "fetch_channels": 24, "softmax_lanes": 2, "topk_parallelism": 1}
    (one, slow), (two, fast) = (heads_in_order({**sizes, "multipliers": count}, 4, 255, 85) for count in (512, 1024))
    assert (one, two) == ([32], [32, 16])
    assert fast <= 1.01 * slow


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(st.integers(1, 8), st.integers(1, 400), st.sampled_from([1, 0.3]), st.sampled_from([64, 512]),
       st.sampled_from([1, 4, 16]), st.sampled_from([1, 16]), st.integers(32, 200), st.integers(1, 200))  # fmt: skip
def test_a_larger_buffer_is_never_slower(
    heads: int, keys: int, share: float, multipliers: int, channels: int, comparators: int, lines: int, more: int
) -> None:
    sizes = {"multipliers": multipliers, "dram.channels": channels, "topk_parallelism": comparators}
    small, large = (heads_in_order({**sizes, "buffer_lines": count}, heads, keys, max(1, int(share * keys)))[1]
                    for count in (lines, lines + more))  # fmt: skip
    assert large <= max(1.02 * small, small + HEAD_CYCLES)  # 3 heads of 385 keys, 32 and 35 lines: 15,059 and 15,264


@pytest.mark.slow
def test_more_hardware_is_never_slower_at_cycle_level() -> None:
    checked, slower = cycle_level(11, 25)
    assert checked >= 20
    assert slower == []


@pytest.mark.slow
@pytest.mark.nightly
def test_more_hardware_is_not_slower_at_cycle_level_in_many_designs() -> None:
    checked, slower = cycle_level(0, 250)
    assert checked >= 200
    assert slower == []
