"""Cycles of each unit, counted by hand: single queries, many queries over one load, low bits, the choice of values. The
cycle level is never shorter than the closed form."""

from __future__ import annotations

from dataclasses import replace
from math import ceil

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from spatten_plans import attention, busy, cycles, machine

from cascadesim.accelerators.spatten.topk import selection_mean
from cascadesim.einsum_cascades.models.operation import Operation
from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.einsum_cascades.sparsity.masks import CAUSAL, FULL

MODES = ["rtl", "nominal"]


def test_one_query_of_six_heads() -> None:
    """512 keys and values of 64 bytes: 2 x 512 x 2 transactions a head, 2 channels, each one in 2 cycles: 2048 cycles.
    A vector a line: 512 lines for each product; no top-k, because all values are used. DRAM bounds."""
    plan = machine("spatten-1-8", "formats.low_bit_share=0").plan(attention(6, 512), "physical")
    assert busy(plan) == {"dram": 6 * 2048, "multiply_qk": 6 * 512, "softmax": 6 * 512, "multiply_pv": 6 * 512}
    assert plan.traffic.read_bytes == 6 * 2048 * 32
    (phase,) = plan.phases
    assert phase.model is not None
    assert phase.analytical_cycles == 6 * 2048 < cycles(plan)


def test_low_bits_are_one_more_transaction_and_one_more_pass() -> None:
    plan = machine().plan(attention(6, 512), "physical")  # all heads fetch them
    assert busy(plan)["dram"] == 6 * (2048 + 512)
    assert busy(plan)["multiply_qk"] == 6 * 2 * 512


def test_nominal_bandwidth_is_twice_what_the_rtl_gets() -> None:
    slow, fast = (machine("spatten-1-8", f"dram.mode={mode}").plan(attention(2, 256), "physical")
                  for mode in ("rtl", "nominal"))  # fmt: skip
    assert busy(slow)["dram"] == 2 * busy(fast)["dram"]
    assert "at most 32 bytes a cycle" in " ".join(slow.mapping)
    assert cycles(fast) < cycles(slow)


def test_many_queries_share_one_load() -> None:
    """128 queries over 128 keys on 512 multipliers: 8 vectors a line, 16 lines a query and product; keys and values
    of 8 + 8 bits once: 128 x 4 transactions on 16 channels, each one in 2 cycles."""
    plan = machine("spatten", "formats.low_bit_share=0").plan(attention(1, 128, queries=128), "physical")
    assert busy(plan) == {"dram": 64, "multiply_qk": 2048, "softmax": 2048, "multiply_pv": 2048}
    assert plan.phases[0].model is None
    assert 2048 <= cycles(plan) <= 2048 + 64 + 64  # one load before, the pipeline's depth after


def test_a_softmax_pipeline_delays_the_first_probabilities_of_a_load() -> None:
    """87 cycles and the 16 lines of a query, before which no sum is complete; the units are as busy."""
    through, pipeline = (
        machine("spatten", f"softmax_model={model}").plan(attention(1, 128, queries=128), "physical")
        for model in ("pass-through", "pipeline")
    )
    assert busy(pipeline) == busy(through)
    assert cycles(pipeline) == cycles(through) + 87 + 16
    assert any("softmax takes 87 cycles" in line for line in pipeline.mapping)


def test_query_heads_that_share_keys_stream_over_one_load() -> None:
    alone, shared = (machine("spatten").plan(attention(8, 256, group=group), "physical") for group in (1, 4))
    assert 4 * busy(shared)["dram"] == busy(alone)["dram"]
    assert busy(shared)["multiply_qk"] == busy(alone)["multiply_qk"]


def test_a_head_of_128_is_two_lanes() -> None:
    wide, narrow = (machine("spatten").plan(attention(heads, 256, depth=depth), "physical")
                    for heads, depth in ((4, 128), (8, 64)))  # fmt: skip
    assert busy(wide) == busy(narrow)
    assert "a head is 2 lanes of 64 elements" in wide.mapping


def test_few_lanes_bound_the_closed_form() -> None:
    """256 keys and values of 8 bits, two lines of 8 a query in parallel: a transaction a cycle and fetch channel, a
    score a cycle and softmax lane."""
    one = ("formats.low_bit_share=0", "fetch_channels=1")
    assert busy(machine("spatten", *one).plan(attention(1, 256), "physical"))["dram"] == 256 * (2 + 2)
    assert busy(machine("spatten", *one).plan(attention(1, 256), "physical"))["softmax"] == 256
    lanes = machine("spatten", "softmax_lanes=2", "formats.low_bit_share=0").plan(attention(1, 256, 10), "physical")
    assert busy(lanes)["softmax"] == 10 * 256 // 2
    assert busy(lanes)["multiply_qk"] == 10 * 256 // 8


def test_values_are_chosen_at_the_mean_latency_of_the_engine() -> None:
    plan = machine().plan(attention(2, 100, kept=30), "physical")
    assert busy(plan)["top_k"] == 2 * round(selection_mean(100, 30, 16))


def test_nothing_is_selected_where_all_values_are_fetched() -> None:
    """130 keys and 129 values are both fetched as 160: the pipeline of single queries passes the engine by."""
    assert "top_k" not in busy(machine("spatten").plan(attention(1, 130, kept=129), "physical"))
    assert "top_k" in busy(machine("spatten").plan(attention(1, 130, kept=128), "physical"))


@pytest.mark.slow
def test_a_causal_query_chooses_among_the_keys_that_it_attends() -> None:
    """512 queries with 1 to 512 keys, half of which they keep: within 5 % of the sum over all of them."""
    causal = replace(attention(1, 512, queries=512, kept=256), mask=CAUSAL)
    each = sum(selection_mean(keys, ceil(keys / 2), 16) for keys in range(1, 513))
    chosen, whole = (busy(machine("spatten").plan(each, "physical"))["top_k"]
                     for each in (causal, replace(causal, mask=FULL)))  # fmt: skip
    assert chosen == pytest.approx(each, rel=0.05)
    assert whole == 512 * round(selection_mean(512, 256, 16))


def test_the_closed_form_of_long_selections_meets_the_exact_mean(monkeypatch: pytest.MonkeyPatch) -> None:
    """Section 6 of the RTL's description: about 2n(1 + h) / T + 3.5 I; here within 5 % where both are known."""
    exact = selection_mean(2048, 500, 16)
    monkeypatch.setattr("cascadesim.accelerators.spatten.timing.LARGEST_TABLE", 0)
    assert selection_mean(2048, 500, 16) == pytest.approx(exact, rel=0.05)


@settings(max_examples=25, deadline=None)
@given(
    st.integers(1, 4),
    st.integers(1, 300),
    st.integers(1, 6),
    st.sampled_from([4, 8]),
    st.sampled_from([1, 2, 16]),
    st.data(),
)
def test_cycles_never_fall_when_work_grows_or_the_machine_shrinks(
    heads: int, keys: int, queries: int, bits: int, channels: int, data: st.DataObject
) -> None:  # fmt: skip
    kept = data.draw(st.integers(1, keys))

    def cycles_of(work: Operation, *changes: str) -> float:
        """Of single queries the busiest unit: addresses decide how evenly channels are used, and that a few cycles."""
        own = (f"dram.channels={channels}", f"formats.key_bits={bits}", *changes)
        plan = machine("spatten", *own).plan(work, "physical")
        return plan.phases[0].analytical_cycles if queries > 1 else max(busy(plan).values())

    work = attention(heads, keys, queries, kept=kept)
    least = cycles_of(work)
    for larger in (attention(heads + 1, keys, queries, kept=kept), attention(heads, keys, queries + 1, kept=kept)):
        assert cycles_of(larger) >= least
    unpruned = attention(heads, keys, queries)
    assert cycles_of(attention(heads, keys + 1, queries)) >= cycles_of(unpruned)
    assert cycles_of(work, "formats.key_bits=8") >= least
    for smaller in ("multipliers=256", "topk_parallelism=4", f"dram.channels={channels // 2 or 1}"):
        assert cycles_of(work, smaller) >= least


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 6), st.integers(1, 300), st.sampled_from([1, 2, 16]), st.data())
def test_more_heads_of_one_query_take_longer(heads: int, keys: int, channels: int, data: st.DataObject) -> None:
    kept = data.draw(st.integers(1, keys))
    few, more = (
        machine("spatten", f"dram.channels={channels}").plan(attention(count, keys, kept=kept), "physical")
        for count in (heads, heads + 1)
    )
    assert more.phases[0].analytical_cycles > few.phases[0].analytical_cycles


def test_an_odd_number_of_lines_is_refused() -> None:
    """2048 multipliers: a line holds 32 vectors, and 96 keys fill three."""
    with pytest.raises(CascadeSimError, match=r"96 keys or values fill 3 buffer lines .* count_multiple must be 64"):
        machine("spatten", "multipliers=2048").plan(attention(1, 96), "physical")
    assert machine("spatten", "multipliers=2048").plan(attention(1, 96, queries=2), "physical").phases


def test_beats_that_do_not_fill_lines_are_refused() -> None:
    """1024 multipliers: 32 vectors in two lines; two fetch channels bring 344 of 352, 32 channels all."""
    sizes = ("multipliers=1024", "count_multiple=8", "fetch_channels=2")
    with pytest.raises(CascadeSimError, match=r"339 keys or values fill 22 buffer lines .* count_multiple must be 32"):
        machine("spatten", *sizes).plan(attention(1, 339), "physical")
    assert machine("spatten", *sizes[:2]).plan(attention(1, 339), "physical").phases


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 5), st.integers(1, 200), st.sampled_from([1, 3]), st.data())
def test_the_cycle_level_is_never_shorter(heads: int, keys: int, queries: int, data: st.DataObject) -> None:
    kept = data.draw(st.integers(1, keys))
    key_bits, value_bits = data.draw(st.sampled_from([(4, 4), (6, 6), (6, 8), (8, 8)]))
    changes = (
        f"dram.channels={data.draw(st.sampled_from([1, 2, 16]))}", f"dram.mode={data.draw(st.sampled_from(MODES))}",
        f"topk_parallelism={data.draw(st.sampled_from([1, 16]))}", f"formats.key_bits={key_bits}",
        f"softmax_model={data.draw(st.sampled_from(['pass-through', 'pipeline']))}", f"formats.value_bits={value_bits}",
        f"topk_model={data.draw(st.sampled_from(['latency-model', 'engine']))}",
        f"formats.low_bit_share={data.draw(st.sampled_from([0, 0.3, 1]))}",
    )  # fmt: skip
    for name in ("spatten", "spatten-1-8"):
        plan = machine(name, *changes).plan(attention(heads, keys, queries, kept=kept), "physical")
        assert cycles(plan) >= plan.phases[0].analytical_cycles


def test_too_many_single_queries_run_as_loads() -> None:
    """Beyond 16,384 heads the engine takes the loads at peak bandwidth: closer to the closed form than the pipeline."""
    few, many = (machine("spatten").plan(attention(heads, 64), "physical") for heads in (64, 16_448))
    assert few.phases[0].model is not None
    assert many.phases[0].model is None
    assert any("loads through the engine" in line for line in many.mapping)
    assert many.phases[0].analytical_cycles <= cycles(many)
    assert cycles(many) / 16_448 <= cycles(few) / 64
