"""A static batch: its steps are those of `simulate`, one by one, and its figures follow from them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascadesim.accelerators import catalogue
from cascadesim.einsum_cascades.models.operation import linear
from cascadesim.einsum_cascades.models.workload import load_workload, workload_names
from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.simulator.execution import planned_and_executed
from cascadesim.simulator.generate import (
    Generation,
    Growth,
    cycles_over,
    decode_cycles,
    generate,
    passes,
    starts,
    uncertainty_of,
)
from cascadesim.simulator.report import Uncertainty
from cascadesim.simulator.request import Request
from cascadesim.simulator.simulate import reports

# A model whose layers see everything, one with windows, chunks, an index of keys, states, and experts with windows.
MODELS = ("llama-3.1-8b", "gemma-2-9b", "llama-4-scout-17b-16e", "deepseek-v3.2", "qwen3.5-27b", "gpt-oss-20b",
          "t5-base", "mistral-7b-v0.1")  # fmt: skip


def asked(workload: str, batch: int, *given: str, device: str = "h100-sxm") -> Request:
    return Request(load_workload(workload), catalogue.load(device, ("dram_bytes=9_000_000_000_000", *given)),
                   batch=batch, scope="model", fidelity="analytical")  # fmt: skip


def of_steps(request: Request, first: int, steps: int) -> int:
    """Cycles of steps that are simulated one after another."""
    return sum(reports(Request(request.workload, request.accelerator, length, request.batch, "decode", "model",
                               "analytical"))[0].cycles for length in range(first, first + steps))  # fmt: skip


def made(batch: int = 4, inputs: int = 100, outputs: int = 20, *given: str) -> Generation:
    return generate(asked("llama-3.1-8b", batch, *given), inputs, outputs)


@pytest.mark.slow
@pytest.mark.parametrize("workload", MODELS)
def test_steps_take_what_simulate_says_of_each(workload: str) -> None:
    """After 8192 tokens chunks begin anew, after 2048 keys are selected."""
    request = asked(workload, 3, "engine=vllm")
    for first in (2046, 8190):
        step = Request(request.workload, request.accelerator, first + 4, 3, "decode", "model", "analytical")
        assert decode_cycles(step, range(first, first + 5)) == of_steps(request, first, 5)


@pytest.mark.parametrize("workload", [name for name in workload_names() if load_workload(name).generates])
def test_what_grows_in_a_model_is_known_to_the_first_and_the_last_step(workload: str) -> None:
    """Two steps of every model at the end of a window of 4096: keys, an index of the sequence, states that stay."""
    request = asked(workload, 2)
    step = Request(request.workload, request.accelerator, 4096, 2, "decode", "model", "analytical")
    assert decode_cycles(step, (4096, 4097)) == of_steps(request, 4096, 2)


def test_a_session_sets_up_its_batch_once() -> None:
    """Prompts of 8,192 tokens, two a pass of 16,384: three passes of six requests, one start; its steps take no more.
    """
    request = asked("llama-2-7b", 6, "engine=tensorrt-llm-0.9")
    can = request.accelerator.capabilities
    assert can.start_overhead_s > 0 == can.step_overhead_s
    found = generate(request, 8192, 2)
    whole = replace(request, sequence_length=8192, phase="prefill", fidelity="analytical")
    prompts = reports(replace(whole, batch=2))[0].latency_s
    assert passes(whole) == {2: 3}
    assert found.ttft_s == pytest.approx(can.start_overhead_s + 3 * prompts)
    assert found.tpot_s == pytest.approx(of_steps(request, 8193, 1) / request.accelerator.clock_hz)
    assert asked("llama-2-7b", 6, "engine=tensorrt-llm-0.17").accelerator.capabilities.start_overhead_s == 0


def test_each_pass_and_each_step_takes_what_the_engine_takes_besides() -> None:
    """Prompts of 4,096 tokens, two a pass: three passes of six requests. Without the engine's graphs it is nothing."""
    for engine, besides in (("vllm", True), ("none", False)):
        request = asked("llama-3.1-8b", 6, f"engine={engine}")
        overhead_s = request.accelerator.capabilities.step_overhead_s
        assert (overhead_s > 0) == besides
        found = generate(request, 4096, 2)
        whole = replace(request, sequence_length=4096, phase="prefill", fidelity="analytical")
        prompts = {size: reports(replace(whole, batch=size))[0].latency_s for size in passes(whole)}
        assert found.ttft_s == pytest.approx(
            sum(count * (prompts[size] + overhead_s) for size, count in passes(whole).items()))
        assert passes(whole) == ({2: 3} if besides else {6: 1})
        step = replace(whole, sequence_length=4097, phase="decode")
        assert found.tpot_s == pytest.approx(reports(step)[0].latency_s + overhead_s, rel=1e-4)


@pytest.mark.parametrize("rank", ["n", "r"])
def test_what_grows_in_another_extent_is_not_timed_as_a_cache(rank: str) -> None:
    """A product of 64 outputs and 8 rows, of which outputs or rows become 300, and 700 twice."""
    step = asked("llama-3.1-8b", 1)
    product = linear("scores", 8, 128, 64)
    sizes = ((300, 1), (700, 2))
    grown = {size: replace(product, extents=tuple((name, size if name == rank else own)
                                                  for name, own in product.extents)) for size, _ in sizes}  # fmt: skip
    alone = {size: planned_and_executed(one, step.machine, "physical", "analytical").exact_cycles
             for size, one in grown.items()}  # fmt: skip
    found = cycles_over(product, Growth(frozenset((rank,)), dict(sizes)), step)
    assert found == pytest.approx(sum(steps * alone[size] for size, steps in sizes), rel=1e-9)


@pytest.mark.slow
@settings(max_examples=8, deadline=None)
@given(st.integers(1, 5000), st.integers(1, 6), st.integers(1, 30), st.sampled_from(("none", "vllm", "pytorch")))
def test_any_steps_are_summed_exactly(first: int, steps: int, batch: int, engine: str) -> None:
    request = asked("gpt-oss-20b", batch, f"engine={engine}")
    step = Request(request.workload, request.accelerator, first + steps, batch, "decode", "model", "analytical")
    assert decode_cycles(step, range(first, first + steps)) == of_steps(request, first, steps)


@pytest.mark.slow
def test_an_array_generates_too() -> None:
    request = Request(load_workload("llama-3.2-1b"), catalogue.load("fusemax"), batch=1, fidelity="analytical")
    found = generate(request, 64, 4)
    assert found.tpot_s is not None
    assert found.tpot_s * 3 == pytest.approx(of_steps(request, 65, 3) / request.accelerator.clock_hz)
    assert (found.memory, found.largest_concurrency) == (None, None)


@pytest.mark.slow
def test_the_first_token_is_the_prompts_and_the_others_follow() -> None:
    found, request = made(), asked("llama-3.1-8b", 4)
    (prompt,) = reports(Request(request.workload, request.accelerator, 100, 4, "prefill", "model", "analytical"))
    assert found.ttft_s == prompt.latency_s
    assert found.tpot_s is not None
    after = of_steps(request, 101, 19) / request.accelerator.clock_hz  # the first step has 101 keys, its own included
    assert 19 * found.tpot_s == pytest.approx(after, rel=1e-12)
    assert found.latency_s == pytest.approx(found.ttft_s + after)
    assert found.tokens_per_s == pytest.approx(4 * 20 / found.latency_s)


def test_one_token_is_the_first_and_no_step_follows() -> None:
    found = made(outputs=1)
    assert (found.tpot_s, found.bound_by["decode"]) == (None, None)
    assert found.latency_s == found.ttft_s


def test_prompts_go_in_passes_of_as_many_whole_ones_as_the_engine_takes() -> None:
    """8192 tokens at once: 3 prompts of 2500, three times and one; none is cut, however long."""
    request = Request(load_workload("llama-3.1-8b"), catalogue.load("h100-sxm", ("engine=vllm",)), 2500, 10)
    assert passes(request) == {3: 3, 1: 1}
    assert passes(Request(request.workload, request.accelerator, 10_000, 2)) == {1: 2}
    assert passes(Request(request.workload, catalogue.load("h100-sxm"), 2500, 10)) == {10: 1}


def test_the_first_of_some_requests_runs_alone_where_the_engine_waits_for_none() -> None:
    """TurboMind, 4,104 tokens at once: one prompt of 2,000, then twice two of the other four. All five wait for the
    first, four for the others."""
    request = asked("llama-2-7b", 5, "engine=turbomind", "dtype=fp16")
    whole = replace(request, sequence_length=2000, phase="prefill")
    assert starts(whole) == ((5, {1: 1}), (4, {2: 2}))
    one, two = (reports(replace(whole, batch=batch))[0].latency_s for batch in (1, 2))
    assert generate(request, 2000, 1).ttft_s == pytest.approx(one + 4 / 5 * 2 * two)
    assert starts(replace(whole, batch=1)) == ((1, {1: 1}),)
    assert starts(replace(whole, accelerator=catalogue.load("h100-sxm", ("engine=vllm",)))) == ((5, {4: 1, 1: 1}),)


def test_memory_holds_the_longest_cache_and_the_activations_of_a_pass() -> None:
    """Llama-3.1-8B: 131,072 bytes a token, 4 requests of 100 + 19; a step less than a prompt."""
    found = made()
    assert found.memory is not None
    assert found.memory.kv == 4 * 119 * 131_072
    assert found.memory.activations > 4 * 100 * 4096 * 2
    step = made(inputs=1, outputs=119).memory
    assert step is not None
    assert (step.kv, step.weights) == (found.memory.kv, found.memory.weights)
    assert step.activations < found.memory.activations


def test_the_largest_concurrency_fits_and_one_more_does_not() -> None:
    def run(batch: int) -> Generation:
        request = Request(load_workload("llama-3.1-8b"), catalogue.load("h100-sxm", ("engine=vllm",)), batch=batch)
        return generate(request, 4096, 64)

    most = run(1).largest_concurrency
    assert most is not None
    assert run(most).concurrency == most
    with pytest.raises(CascadeSimError, match=f"the largest batch that fits is {most}"):
        run(most + 1)


def test_what_generates_nothing_is_refused() -> None:
    with pytest.raises(CascadeSimError, match="bert: generates no tokens"):
        generate(asked("bert", 1), 128, 8)


@pytest.mark.slow
@settings(max_examples=6, deadline=None)
@given(st.integers(1, 64), st.integers(16, 2000), st.integers(2, 200))
def test_more_requests_more_tokens_and_no_sooner(batch: int, inputs: int, outputs: int) -> None:
    few, many = made(batch, inputs, outputs), made(2 * batch, inputs, outputs)
    assert many.latency_s >= few.latency_s
    assert many.tokens_per_s >= few.tokens_per_s * (1 - 1e-9)
    longer = made(batch, inputs, outputs + 50)
    assert longer.tpot_s is not None
    assert few.tpot_s is not None
    assert longer.tpot_s >= few.tpot_s * (1 - 1e-9)


def test_the_error_of_published_runs_covers_what_they_span() -> None:
    """TensorRT-LLM 0.9 on A100 ran Llama-2-7B in 16 bits; nobody ran Qwen3, one device of it, or another engine."""
    def stated(workload: str, engine: str, device: str = "a100-sxm") -> Uncertainty | None:
        request = Request(load_workload(workload), catalogue.load(device, (f"engine={engine}",)), batch=32)
        return uncertainty_of(request, 2048, 128)

    covered, other, engine = (stated("llama-2-7b", "tensorrt-llm-0.9"), stated("qwen3-8b", "tensorrt-llm-0.9"),
                              stated("llama-2-7b", "vllm"))  # fmt: skip
    assert covered is not None
    assert covered.covers
    assert 0 < covered.latency <= covered.p90
    assert other is not None
    assert not other.covers
    assert "qwen3-8b" in other.basis
    assert engine is not None
    assert not engine.covers
    assert "engine vllm" in engine.basis
    assert stated("llama-2-7b", "vllm", "rtx4090") is None


def test_memory_holds_the_fullest_cache_which_a_chunk_may_have_had_before_the_end() -> None:
    """Llama 4 attends chunks of 8,192 keys in 36 of 48 layers: one token more begins a new chunk."""
    request = Request(load_workload("llama-4-scout-17b-16e"), catalogue.load("gb300", ("parallel.tensor=8",)), batch=1)
    before, after = (generate(request, 7680, outputs).memory for outputs in (513, 514))
    assert before is not None
    assert after is not None
    assert before.kv == after.kv == 8192 * 48 * 2 * 128 * 2  # one key head a device, keys and values, 16 bits
