"""Requests that come and go: a loop by hand, what it conserves, and steps that are those of `simulate`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascadesim.accelerators import catalogue
from cascadesim.einsum_cascades.models.workload import load_workload
from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.simulator.generate import generate, phases
from cascadesim.simulator.request import Request
from cascadesim.simulator.serving import Arrivals, closed_loop, run, serve
from cascadesim.simulator.simulate import reports
from cascadesim.simulator.step_times import Chunk, Known, StepTimes, around


def asked(clients: int, workload: str = "llama-3.1-8b", *settings: str, device: str = "h100-sxm") -> Request:
    return Request(load_workload(workload), catalogue.load(device, settings), batch=clients)


def second(running: int, keys: float, chunks: Sequence[Chunk]) -> float:
    """A step lasts a second, whatever is in it."""
    return 1.0


def test_two_clients_by_hand() -> None:
    """Prompts of 2 and 6 tokens, 3 and 2 new ones; a third request of 2 and 1; 4 tokens of a step.

    Second 1: the first prompt, 2 tokens of the second. 2: a token of the first request, 3 of the second prompt. 3: the
    last token of the first request, the last one of the second prompt. 4: the second request ends; the third one comes
    with the end of the first, and has its only token.
    """
    found, elapsed = closed_loop([(2, 3), (6, 2), (2, 1)], clients=2, together=2, budget=4, times=second)
    assert sorted((each.ttft_s, each.latency_s, each.tokens) for each in found) == [(1, 1, 1), (1, 3, 3), (3, 4, 2)]
    assert elapsed == 4


def test_a_step_is_asked_for_with_what_runs_in_it() -> None:
    """A prompt of 3 tokens, then 3 steps of one request whose cache has 4, 5 and 6 keys: 5 in the mean."""
    steps: list[tuple[int, float, tuple[Chunk, ...]]] = []

    def noted(running: int, keys: float, chunks: Sequence[Chunk]) -> float:
        steps.append((running, keys, tuple(chunks)))
        return 1.0

    closed_loop([(3, 4)], clients=1, together=1, budget=2, times=noted)
    assert steps == [(0, 0.0, ((0, 2),)), (0, 0.0, ((2, 3),)), (1, 5.0, ())]


def test_what_a_chunk_leaves_of_the_budget_is_for_the_next_prompt() -> None:
    """Of 4 tokens a step: 4 of the first prompt; then its last one, and all 3 of the second."""
    found, elapsed = closed_loop([(5, 1), (3, 1)], clients=2, together=2, budget=4, times=second)
    assert ([each.ttft_s for each in found], elapsed) == ([2, 2], 2)


def test_a_step_is_the_sum_of_its_parts() -> None:
    """Two requests beside tokens 3 and 4 of a prompt: the rest for 4 tokens, the head for 3, what two new tokens take
    beyond that, and what the prompt does after its first two tokens."""
    _, step = phases(asked(1), 100, 101)
    overhead_s = step.accelerator.capabilities.step_overhead_s
    known: Known = {("rest", 4, 200): 1.0, ("head", 3, 200): 20.0, ("prompt", 4, 1): 700.0, ("prompt", 2, 1): 300.0,
                    ("step", 2, 200): 5000.0, ("step", 2, 100): 3000.0}  # fmt: skip
    assert StepTimes(step, step, known).seconds(2, 150.0, ((2, 4),)) == overhead_s + 1 + 20 + 400 + 4000


def test_prompts_that_begin_together_share_their_kernels() -> None:
    """Three of 5 tokens in the mean, halfway between two (30 s) and four (50 s) of them; no request runs yet."""
    _, step = phases(asked(1), 100, 101)
    overhead_s = step.accelerator.capabilities.step_overhead_s
    known: Known = {("rest", 15, 200): 1.0, ("head", 3, 200): 20.0, ("prompt", 5, 2): 30.0, ("prompt", 5, 4): 50.0}
    assert StepTimes(step, step, known).seconds(0, 0.0, ((0, 4), (0, 5), (0, 6))) == overhead_s + 1 + 20 + 40


@pytest.mark.parametrize(("workload", "tokens"), [("llama-3.1-8b", 7), ("mixtral-8x7b-v0.1", 1)])
def test_many_short_prompts_at_once_take_as_long_as_one_batch_of_them(workload: str, tokens: int) -> None:
    """One step of 128 prompts; but for what a step takes besides its kernels and the last norm."""
    request = asked(128, workload, device="h200-sxm")
    loop = run(request, tokens, 1, Arrivals(requests=128))
    overhead_s = loop.step.accelerator.capabilities.step_overhead_s
    assert loop.ttft_s - overhead_s == pytest.approx(generate(request, tokens, 1).ttft_s, rel=0.1)


def test_requests_that_do_not_fit_wait_for_one_that_ends() -> None:
    found, elapsed = closed_loop([(1, 5)] * 3, clients=3, together=1, budget=8, times=second)
    assert [(each.ttft_s, each.latency_s) for each in found] == [(1, 5), (6, 10), (11, 15)]
    assert elapsed == 15


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 40), st.integers(1, 20)), min_size=1, max_size=30), st.integers(1, 8),
       st.integers(1, 8), st.integers(9, 60))  # fmt: skip
def test_every_token_is_made_once(
    lengths: list[tuple[int, int]], clients: int, together: int, budget: int
) -> None:
    """Steps make a token of each running request, and of each prompt that is done; prompts are read once, in order."""
    read = 0

    def counted(running: int, keys: float, chunks: Sequence[Chunk]) -> float:
        nonlocal read
        assert running <= together
        assert running + sum(after - before for before, after in chunks) <= budget
        read += sum(after - before for before, after in chunks)
        return 1.0

    found, elapsed = closed_loop(lengths, clients, together, budget, counted)
    assert sorted(each.tokens for each in found) == sorted(tokens for _, tokens in lengths)
    assert read == sum(prompt for prompt, _ in lengths)
    assert all(each.ttft_s >= 1 and each.latency_s == each.ttft_s + each.tokens - 1 for each in found)
    assert elapsed >= max(each.latency_s for each in found)


@pytest.mark.parametrize(("workload", "running"), [("llama-3.1-8b", 12), ("gpt-oss-20b", 16), ("qwen3.5-27b", 24)])
def test_a_step_of_new_tokens_alone_takes_what_simulate_says(workload: str, running: int) -> None:
    """At sizes of the grid and its longest cache exactly; sliding and linear layers included."""
    _, step = phases(asked(1, workload, "engine=vllm"), 2000, 1000)
    times = StepTimes(replace(step, batch=1), step)
    host_s = step.accelerator.capabilities.step_overhead_s
    alone = reports(replace(step, batch=running))[0].latency_s
    assert host_s > 0
    assert times.seconds(running, step.length, ()) == pytest.approx(host_s + alone, rel=1e-3)
    assert times.seconds(running, step.length - 700, ()) <= times.seconds(running, step.length, ())


@pytest.mark.parametrize("workload", ["t5-base", "deepseek-v3.2", "qwen3.5-35b-a3b", "kimi-k3-kda"])
def test_prompts_of_models_whose_prompts_do_other_work_take_what_simulate_says(workload: str) -> None:
    """An encoder; an index over all keys; states: the head alone has other rows, one for each request."""
    whole, step = phases(asked(1, workload, "dram_bytes=9_000_000_000_000"), 4096, 256)
    found = StepTimes(whole, step).seconds(0, 0.0, ((0, 4096),))
    assert found == pytest.approx(reports(whole)[0].latency_s, rel=0.02)


def test_a_prompt_beside_a_step_takes_about_what_it_takes_alone() -> None:
    """4,096 tokens of a prompt, beside none: what `simulate` says of the prompt, but for the head's rows."""
    whole, step = phases(asked(1), 4096, 256)
    alone = StepTimes(whole, step).seconds(0, 0.0, ((0, 4096),))
    assert alone == pytest.approx(reports(whole)[0].latency_s, rel=0.01)
    halves = sum(StepTimes(whole, step).seconds(0, 0.0, (chunk,)) for chunk in ((0, 2048), (2048, 4096)))
    assert alone < halves < 1.1 * alone


def test_sizes_of_the_grid_are_near() -> None:
    for size in range(1, 600):
        low, high = around(size)
        assert low <= size <= high
        assert (low == high == size) if size <= 16 else high - low <= size / 4


def test_one_client_waits_for_itself_alone() -> None:
    """As a static batch of one, request after request; a prompt of 4,096 is a size of the grid."""
    own = asked(1, "llama-3.1-8b", "engine=vllm")
    static, found = generate(own, 4096, 200), serve(own, 4096, 200, Arrivals(requests=3))
    assert found.ttft_s == pytest.approx(static.ttft_s, rel=0.01)
    assert found.tpot_s == pytest.approx(static.tpot_s, rel=0.005)
    assert found.tokens_per_s == pytest.approx(static.tokens_per_s, rel=0.005)
    assert found.to_dict()["elapsed_s"] == pytest.approx(3 * found.latency_s)


@pytest.mark.slow
def test_prompts_of_others_hold_up_tokens() -> None:
    """Long prompts, short answers: each later token waits for a share of a prompt; a static batch has none of that."""
    own = asked(32, "llama-3.1-8b", "engine=vllm")
    static, found = generate(own, 4096, 128), serve(own, 4096, 128, Arrivals(spread=0.3))
    assert found.tpot_s is not None
    assert static.tpot_s is not None
    prompt_s = reports(phases(asked(1), 4096, 128)[0])[0].latency_s
    waited = found.tpot_s - static.tpot_s
    assert 0.5 * 32 / 128 * prompt_s < waited < 1.5 * 32 / 128 * prompt_s
    assert found.ttft_s < static.ttft_s


def test_more_clients_get_more_tokens_and_wait_longer_for_each() -> None:
    known: Known = {}
    found = [run(asked(clients, "llama-3.1-8b", "engine=vllm"), 1024, 128, Arrivals(spread=0.1), known)
             for clients in (1, 4, 16, 64)]  # fmt: skip
    for less, more in pairwise(found):
        assert less.tokens_per_s < more.tokens_per_s < 4 * less.tokens_per_s
        assert (less.tpot_s or 0) < (more.tpot_s or 0)
        assert less.ttft_s < more.ttft_s


def test_what_does_not_fit_waits_and_is_said() -> None:
    """70 G of weights on one H200: room for a few long requests."""
    own = asked(64, "llama-3.1-70b", "types.weights=fp8", "types.activations=fp8", device="h200-sxm")
    found = serve(own, 30_000, 64, Arrivals(requests=64))
    assert found.largest_concurrency is not None
    assert 0 < found.largest_concurrency < 64
    assert found.notes[0] == f"{found.largest_concurrency} of 64 requests fit at once; the others wait for memory"
    assert found.memory is not None
    assert found.memory.fits
    with pytest.raises(CascadeSimError, match="exceed"):
        serve(asked(1, "llama-3.1-70b"), 1000, 10, Arrivals())


def test_what_chooses_blocks_for_whole_prompts_is_refused() -> None:
    """A pattern that stands before the data does not choose, and runs: fewer keys, earlier first tokens."""
    own = asked(2)
    chosen, fixed = (replace(own, workload=load_workload("llama-3.1-8b", [f"attention.pattern={pattern}"]))
                     for pattern in ("pbs:share=0.3", "sink-window:sinks=64,window=512"))  # fmt: skip
    with pytest.raises(CascadeSimError, match="chunks of prompts have none: --batching static"):
        serve(chosen, 16_384, 8, Arrivals(requests=2))
    assert serve(fixed, 16_384, 8, Arrivals(requests=2)).ttft_s < serve(own, 16_384, 8, Arrivals(requests=2)).ttft_s


def test_lengths_lie_evenly_within_their_share() -> None:
    """Of 500 requests a quarter has longer prompts than average and longer answers; likewise the other ways."""
    prompts, tokens = zip(*Arrivals(requests=500, spread=0.25).lengths(4, 1000, 400), strict=True)
    assert 750 <= min(prompts) < 760 < 1240 < max(prompts) <= 1250 == Arrivals(spread=0.25).longest(1000)
    assert 300 <= min(tokens) < 305 < 495 < max(tokens) <= 500
    for longer in (True, False):
        for more in (True, False):
            both = sum((own > 1000) == longer and (new > 400) == more for own, new in zip(prompts, tokens, strict=True))
            assert 115 <= both <= 135
    assert Arrivals().lengths(2, 10, 7) == [(10, 7)] * 20
    with pytest.raises(CascadeSimError, match="at most 100,000"):
        Arrivals(requests=100_001).lengths(1, 1, 1)


def test_of_single_tokens_no_step_is_bound_by_anything() -> None:
    found = serve(asked(2), 64, 1, Arrivals(requests=4))
    assert (found.tpot_s, found.bound_by["decode"]) == (None, None)
    assert found.bound_by["prefill"] is not None


@pytest.mark.slow
def test_it_runs_on_an_array_too() -> None:
    """Without an engine, a host or a calibrated kernel."""
    own = Request(load_workload("llama-3.2-1b"), catalogue.load("fusemax"), batch=2)
    found = serve(own, 64, 8, Arrivals(requests=4))
    assert found.tokens_per_s > 0
    assert found.engine == "none"
    assert found.uncertainty is None
