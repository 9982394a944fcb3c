"""Hybrids from their texts: what they hold, where the time of a layer with a state goes, on GPUs and on arrays."""

from __future__ import annotations

import json
from typing import Any, Literal

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from cascadesim.accelerators.catalogue import load
from cascadesim.einsum_cascades.models.workload import load_workload
from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.simulator.cli.commands import simulate as command
from cascadesim.simulator.report import Report
from cascadesim.simulator.request import Request, divided, memory
from cascadesim.simulator.simulate import simulate

HYBRIDS = ("qwen3.5-27b", "qwen3.5-35b-a3b", "nemotron-h-56b", "nemotron-3-nano-30b-a3b", "mimo-v2-flash",
           "kimi-k3-kda")  # fmt: skip
Phase = Literal["prefill", "decode"]
STATE = 48 * 128 * 128  # numbers of one linear layer of Qwen3.5-27B


def layers(arch: str, phase: Phase, length: int, name: str = "qwen3.5-27b", batch: int = 1) -> dict[str, Report]:
    found = simulate(load_workload(name), load(arch), sequence_length=length, batch=batch, phase=phase,
                     scope="attention", fidelity="analytical")  # fmt: skip
    return {str(report.layer): report for report in found}


def test_qwen_3_5_at_256k_tokens_on_one_h100() -> None:
    asked = ["--arch", "h100-sxm", "--workload", "qwen3.5-27b", "--phase", "decode", "--seq-len", "256K"]
    found: dict[str, Any] = json.loads(CliRunner().invoke(command, [*asked, "--format", "json"]).stdout)["reports"][0]
    assert found["kv_cache_bytes"] == found["memory_bytes"]["kv"] == 17_179_869_184
    assert found["state_bytes"] == found["memory_bytes"]["states"] == 150_994_944
    assert found["convolution_bytes"] == found["memory_bytes"]["convolutions"] == 2_949_120
    assert found["memory_bytes"]["total"] == sum(found["memory_bytes"][kind] for kind in (
        "weights", "kv", "states", "convolutions", "activations", "workspace"))  # fmt: skip
    assert found["attention"] == "gated-deltanet-step+attention-1pass"
    printed = " ".join(CliRunner().invoke(command, asked).stdout.split())
    assert "KV cache 16 GiB, states 144 MiB, convolutions 2.812 MiB" in printed
    assert "weights 53.79 GB, KV cache 17.18 GB, states 0.15 GB" in printed


def test_a_step_reads_and_writes_its_states_and_little_else() -> None:
    """In fp32; beside them queries and keys of 16 heads, values, gates and results of 48, in 16 bits: below 1 %."""
    found = layers("h100-sxm", "decode", 4096)["linear"].traffic
    assert STATE * 4 <= found.read_bytes <= STATE * 4 * 1.01
    assert STATE * 4 <= found.write_bytes <= STATE * 4 * 1.01
    many = layers("h100-sxm", "decode", 4096, batch=16)["linear"].traffic
    assert many.total_bytes == pytest.approx(16 * found.total_bytes)


@pytest.mark.parametrize("arch", ["h100-sxm", "fusemax"])
@pytest.mark.parametrize("name", ["qwen3.5-27b", "nemotron-3-nano-30b-a3b", "kimi-k3-kda"])
def test_a_step_takes_as_long_after_any_number_of_tokens(arch: str, name: str) -> None:
    short, long = (layers(arch, "decode", length, name) for length in (100, 1_000_000))
    for kind in short:
        if load_workload(name).layers[kind].recurrence:
            assert (short[kind].cycles, short[kind].traffic) == (long[kind].cycles, long[kind].traffic)
        else:
            assert short[kind].cycles < long[kind].cycles


@pytest.mark.slow
@pytest.mark.parametrize(("arch", "tokens", "within"), [("h100-sxm", 32_768, 0.02), ("fusemax", 4096, 0.01)])
def test_a_prompt_of_twice_as_many_tokens_takes_twice_as_long(arch: str, tokens: int, within: float) -> None:
    """Where softmax takes three to four times as long."""
    short, long = (layers(arch, "prefill", length) for length in (tokens, 2 * tokens))
    assert long["linear"].cycles == pytest.approx(2 * short["linear"].cycles, rel=within)
    assert long["full"].cycles > 3 * short["full"].cycles


@pytest.mark.parametrize("phase", ["prefill", "decode"])
@pytest.mark.parametrize("name", HYBRIDS)
def test_every_hybrid_runs_on_eight_devices(name: str, phase: Phase) -> None:
    """Operations and compulsory traffic of each plan are checked against its text when it is made."""
    (report,) = simulate(load_workload(name), load("h200-sxm", ["parallel.tensor=8"]), phase=phase)
    assert report.memory is not None
    assert report.memory.fits
    assert 0 < report.latency_s < 10


def test_each_device_holds_the_states_of_its_heads() -> None:
    whole = load_workload("qwen3.5-27b")
    assert divided(whole, 8).state_bytes(2) == tuple(kept // 8 for kept in whole.state_bytes(2))
    with pytest.raises(CascadeSimError, match="48 heads divide over 2, 3, 4"):
        divided(whole, 5)
    with pytest.raises(CascadeSimError, match="16 key heads neither divide nor repeat evenly"):
        divided(whole, 24)


@settings(deadline=None, max_examples=50)
@given(name=st.sampled_from(HYBRIDS), length=st.integers(1, 2**20), batch=st.integers(1, 64))
def test_states_grow_with_sequences_and_not_with_tokens(name: str, length: int, batch: int) -> None:
    model, on = load_workload(name), load("h200-sxm")
    one, many = (memory(Request(model, on, of, count, "decode")) for of, count in ((1, 1), (length, batch)))
    assert one is not None
    assert many is not None
    assert (many.states, many.convolutions) == (batch * one.states, batch * one.convolutions)
    assert many.kv == model.kv_cache_bytes(length, batch)


def test_a_report_says_that_an_array_has_narrower_words_and_that_nothing_like_it_was_measured() -> None:
    found = layers("fusemax", "decode", 4096)["linear"]
    assert found.traffic.read_bytes >= 2 * STATE
    assert any(note.startswith("states of recurrences pass in words of 2 bytes") for note in found.notes)
    assert found.uncertainty is None
    assert not any("words of" in note for note in layers("h100-sxm", "decode", 4096)["linear"].notes)


def test_chunks_of_a_text_become_a_step_in_decoding() -> None:
    (found,) = simulate(load_workload("llama"), load("h100-sxm"), sequence_length=5000, phase="decode",
                        scope="attention", attention="gated-deltanet-chunked", fidelity="analytical")  # fmt: skip
    state, heads = 32 * 128 * 128 * 4, 32 * 128 * 2  # of each query head, with queries, keys and values of its own
    assert state + 2 * heads <= found.traffic.read_bytes <= state + 4 * heads
    (prompt,) = simulate(load_workload("llama"), load("h100-sxm"), sequence_length=5000, scope="attention",
                         attention="gated-deltanet-chunked", fidelity="analytical")  # fmt: skip
    assert prompt.cycles > 10 * found.cycles  # the causal mask of the workload is that of the text


@pytest.mark.parametrize(("name", "widest"), [
    ("kimi-k3-kda", 7168 + 2 * 3 * 96 * 128),  # what the convolution reads and writes, beside the residual stream
    ("nemotron-h-56b", 8192 + 2 * 32_768),  # squares of the feed-forward part; recurrences have 36,864
])  # fmt: skip
def test_the_widest_operation_bounds_activations(name: str, widest: int) -> None:
    """Numbers of a token, in 16 bits; weights come once."""
    found = memory(Request(load_workload(name), load("h200-sxm"), 1000, 2, "prefill"))
    assert found is not None
    assert 0 <= found.activations - 2 * 1000 * 2 * widest <= 4 * 2 * 3 * 96 * 128


def test_columns_of_a_convolution_come_from_memory() -> None:
    """Three columns and the token's own of 10,240 channels in 16 bits, 4 taps, and the result; nothing is in L2."""
    (found,) = simulate(load_workload("qwen3.5-27b"), load("h100-sxm"), sequence_length=5, phase="decode")
    (moved,) = (each.dram_bytes for each in found.operations if each.name == "convolution")
    assert moved == 48 * 2 * 10_240 * (4 + 4 + 1)


def test_a_window_is_no_state() -> None:
    """In decoding as in a prompt: layers that see 128 keys cannot keep all that came before in a state."""
    for phase in ("prefill", "decode"):
        with pytest.raises(CascadeSimError, match="gated-deltanet-chunked"):
            simulate(load_workload("gpt-oss-20b"), load("h100-sxm"), phase=phase, scope="attention",
                     attention="gated-deltanet-chunked")  # fmt: skip


def test_attention_alone_holds_its_states_too() -> None:
    found = memory(Request(load_workload("qwen3.5-27b"), load("h100-sxm"), 4096, 2, "decode", "attention"))
    assert found is not None
    assert (found.weights, found.kv, found.states, found.convolutions) == (
        0, 2 * 4096 * 65_536, 2 * 150_994_944, 2 * 2_949_120)  # fmt: skip


@pytest.mark.parametrize(("arch", "name"), [("fusemax", "nemotron-3-nano-30b-a3b"), ("edge-array", "qwen3.5-27b")])
def test_a_step_loads_its_state_at_cycle_level_too(arch: str, name: str) -> None:
    """The state is most of what passes by DRAM, which bounds the step in closed form: without it the cycle level took
    0.5 to 0.8 of that. Fill and drain of a single step are a fifth at most."""
    closed = layers(arch, "decode", 4096, name)
    found = simulate(load_workload(name), load(arch), sequence_length=4096, batch=1, phase="decode", scope="attention")
    for report in found:
        assert closed[str(report.layer)].cycles <= report.cycles <= 1.2 * closed[str(report.layer)].cycles


@pytest.mark.slow
@pytest.mark.parametrize("length", [64, 128, 256])
def test_a_prompt_of_one_chunk_runs(length: int) -> None:
    """Four times as many tokens take at most four times as long, and what fills and drains besides."""
    one, other = (layers("fusemax", "prefill", tokens, "nemotron-3-nano-30b-a3b")["state-space"]
                  for tokens in (length, 4 * length))  # fmt: skip
    assert one.cycles < other.cycles <= 4 * one.cycles


def test_a_mask_that_no_text_can_honour_and_steps_of_one_query_are_refused_on_arrays() -> None:
    def run(attention: str, phase: Phase) -> None:
        simulate(load_workload("gpt-2-small"), load("fusemax"), sequence_length=1000, batch=1, phase=phase,
                 scope="attention", attention=attention)  # fmt: skip

    with pytest.raises(CascadeSimError, match="linear-attention sums over all keys before a query reads"):
        run("linear-attention", "prefill")
    with pytest.raises(CascadeSimError, match="it needs as many of both, got 1 and 1000"):
        run("linear-attention-gated", "decode")


@pytest.mark.slow
@pytest.mark.parametrize(("arch", "chunk"), [("flat", 16), ("fusemax", 256)])
def test_chunks_are_of_the_usual_size_where_that_is_faster_and_the_last_one_may_be_partial(
    arch: str, chunk: int
) -> None:
    """What eliminates inside a chunk grows with its cube, and runs on the few lanes of FLAT."""
    (operation,) = load_workload("bert").operations(
        sequence_length=1000, batch=1, scope="attention", attention="gated-deltanet-chunked"
    )
    assert load(arch).plan(operation, "physical").splits == dict.fromkeys(("M0", "P0", "I0"), chunk)
