"""What engines make of a list of operations: fewer launches, the same work, worked out by hand for Llama."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import pytest

from cascadesim.accelerators import catalogue
from cascadesim.accelerators.gpu.engines.engine import engines, find_engine
from cascadesim.accelerators.gpu.engines.fusion import after_all_reduce, fused
from cascadesim.accelerators.protocol import checked
from cascadesim.einsum_cascades.models.layers import Phase
from cascadesim.einsum_cascades.models.operation import Operation, least_elements, work_of
from cascadesim.einsum_cascades.models.workload import load_workload, workload_names
from cascadesim.simulator.request import Request, own_operations

GENERATING = tuple(name for name in workload_names()
                   if load_workload(name).generates and load_workload(name).vocabulary)  # fmt: skip


def operations(workload: str, phase: Phase = "decode", devices: int = 1) -> tuple[Operation, ...]:
    device = catalogue.load("b200", (f"parallel.tensor={devices}",))
    return own_operations(Request(load_workload(workload), device, 64, 2, phase, "model", "analytical"))


def launches(found: Iterable[Operation]) -> int:
    return sum(one.count for one in found)


def work(found: Iterable[Operation]) -> Counter[str]:
    """Operations of every class, without those of attention, which no engine changes, and of sums over devices.

    A multiply-accumulate is two: eager kernels multiply first and add later.
    """
    total = Counter[str]()
    for one in (one for one in found if one.kind in ("linear", "elementwise")):
        for counts in work_of(one).values():
            parts = [(part, count) for name, count in counts.items()
                     for part in (("multiply", "add") if name == "mac" else (name,))]  # fmt: skip
            for part, count in parts:
                total[part] += one.count * count
    return total


def test_llama_layers_have_nine_launches_instead_of_fifteen() -> None:
    """32 layers: of norm, q, k, v, two rotations, attention, output, sum, norm, up, gate, activation, down, sum are
    left sum and norm, q k v, rotation, attention, output, sum and norm, up and gate, activation, down. The first norm
    is alone, the sum before the last norm goes with it."""
    plain = operations("llama-3.1-8b")
    found = fused(plain, find_engine("vllm"))
    assert launches(plain) == 32 * 15 + 2
    assert launches(found) == 32 * 9 + 2
    counts = {one.name: one.count for one in found}
    assert (counts["attn_norm"], counts["ffn_residual_norm"], counts["attn_residual_norm"]) == (1, 1, 32)
    assert [one.count for one in found if one.name == "ffn_residual_norm"] == [31, 1]
    assert not {"q_proj", "ffn_gate", "q_rotary", "ffn_norm", "final_norm"} & set(counts)


def test_a_fused_product_is_as_wide_as_its_parts() -> None:
    """32 heads and twice 8 key heads of 128: 6144; twice 14336."""
    found = {one.name: one for one in fused(operations("llama-3.1-8b"), find_engine("vllm"))}
    assert dict(found["qkv_proj"].extents) == {"r": 2, "k": 4096, "n": 6144, "x": 1}
    assert found["ffn_up_gate"].extent("n") == 2 * 14336


def test_a_sum_and_its_norm_move_the_stream_twice_less() -> None:
    """2 rows of 4096: the sum read X and A and wrote Y, the norm read Y and G and wrote N: 5 x 8192 + 4096. Together
    they read X, A and G and write the stream and the norm: 4 x 8192 + 4096."""
    (one,) = [one for one in fused(operations("llama-3.1-8b"), find_engine("vllm")) if one.name == "attn_residual_norm"]
    assert sum(least_elements(one).values()) == 4 * 8192 + 4096
    plain = {one.name: one for one in operations("llama-3.1-8b")}
    apart = [sum(least_elements(plain[name]).values()) for name in ("attn_residual", "ffn_norm")]
    assert sum(apart) == 5 * 8192 + 4096


def test_new_values_are_copied_into_the_cache_with_the_rotation() -> None:
    """Two sequences: 2 rows of 32 + 8 heads, pairs of 64; 8 heads of 128 values each."""
    (one,) = [one for one in fused(operations("llama-3.1-8b"), find_engine("vllm")) if one.name == "rotary_cache"]
    assert dict(one.extents) == {"r": 80, "d": 64, "s": 16, "f": 128}
    assert least_elements(one)["VC"] == 2 * 8 * 128
    prompt = {one.name: one for one in fused(operations("llama-3.1-8b", "prefill"), find_engine("vllm"))}
    assert prompt["rotary_cache"].extent("s") == 2 * 64 * 8


def test_queries_and_keys_that_are_normed_are_rotated_together_afterwards() -> None:
    """Qwen3: both norms first, then one kernel for both rotations and the cache."""
    names = [one.name for one in fused(operations("qwen3-32b"), find_engine("vllm"))]
    assert names[names.index("q_norm"):][:4] == ["q_norm", "k_norm", "rotary_cache", "attention"]


def test_the_last_sum_of_a_prompt_keeps_all_its_rows() -> None:
    """The norm before the head takes the newest row of each sequence only: the two cannot be one kernel."""
    found = {one.name: one for one in fused(operations("llama-3.1-8b", "prefill"), find_engine("vllm"))}
    assert (found["ffn_residual"].count, found["ffn_residual"].extent("r")) == (1, 128)
    assert found["final_norm"].extent("r") == 2


def test_the_sum_over_devices_goes_with_the_norm_where_an_engine_has_that_kernel() -> None:
    found = fused(operations("llama-3.1-70b", devices=8), find_engine("tensorrt-llm"))
    counts = Counter({one.name: 0 for one in found})
    counts.update({one.name: one.count for one in found if one.kind == "collective"})
    assert counts["out_proj_all_reduce_norm"] == 80
    assert [one.count for one in found if one.name == "ffn_down_all_reduce_norm"] == [79, 1]
    assert launches(found) == 80 * 9 + 2  # as on one device
    (one, *_) = [one for one in found if one.name == "out_proj_all_reduce_norm"]
    after = after_all_reduce(one.cascade)
    assert after is not None
    assert after.inputs == ("X", "A", "G")


@pytest.mark.parametrize("engine", [name for name in engines() if name != "none"])
@pytest.mark.parametrize("phase", ["prefill", "decode"])
def test_no_operation_is_lost_or_added_by_any_engine(engine: str, phase: Phase) -> None:
    for workload in ("llama-3.1-8b", "gemma-2-9b", "gpt-j-6b", "qwen3-30b-a3b", "deepseek-v3", "qwen3.5-27b",
                     "t5-base"):  # fmt: skip
        plain = operations(workload, phase)
        assert work(fused(plain, find_engine(engine))) == work(plain), workload


@pytest.mark.parametrize("workload", GENERATING)
def test_every_model_launches_fewer_kernels_with_an_engine(workload: str) -> None:
    plain = operations(workload)
    found = fused(plain, find_engine("vllm"))
    assert launches(found) < launches(plain)
    attentions = [[one for one in each if one.kind == "attention"] for each in (found, plain)]
    assert attentions[0] == attentions[1]


def test_no_engine_is_no_change() -> None:
    plain = operations("llama-3.1-8b")
    assert fused(plain, find_engine("none")) == plain


@pytest.mark.parametrize("devices", [1, 8])
def test_plans_of_fused_operations_satisfy_what_every_plan_must(devices: int) -> None:
    machine = catalogue.load("h100-sxm", (f"parallel.tensor={devices}", "engine=tensorrt-llm"))
    for phase in ("prefill", "decode"):
        request = Request(load_workload("llama-3.1-8b"), machine, 256, 2, phase, "model", "analytical")
        for one in fused(own_operations(request), find_engine("tensorrt-llm")):
            plan = checked(machine.plan(one.with_cascade(one.cascade), "physical"), machine)
            assert plan.phases[0].analytical_cycles > 0


def test_experts_of_tensorrt_llm_have_both_halves_in_one_product_and_others_do_not() -> None:
    experts, dense = ({one.name for one in fused(operations(workload), find_engine("tensorrt-llm-0.9"))}
                      for workload in ("mixtral-8x7b-v0.1", "llama-2-7b"))  # fmt: skip
    assert "expert_up_gate" in experts
    assert {"ffn_up", "ffn_gate"} <= dense
