"""Sums of kernels that were timed one by one: what they hold, and what each part is worth, worked out by hand."""

from __future__ import annotations

import pytest

from cascadesim.accelerators import catalogue
from cascadesim.accelerators.gpu.accelerator import Gpu
from cascadesim.accelerators.gpu.memory import small_kernel_s
from cascadesim.einsum_cascades.models.layers import Phase
from cascadesim.einsum_cascades.models.operation import Operation
from cascadesim.einsum_cascades.models.workload import load_workload
from cascadesim.simulator.request import Request
from cascadesim.validation.models.kernel_sums import counted, seconds


def gpu(library: str, devices: int = 1) -> Gpu:
    engine = {"vllm": "vllm", "trtllm": "tensorrt-llm"}[library]
    found = catalogue.load("h100-sxm", (f"engine={engine}", f"parallel.tensor={devices}"))
    assert isinstance(found, Gpu)
    return found


def asked(model: str, library: str, phase: Phase = "decode", devices: int = 1) -> Request:
    return Request(load_workload(model), gpu(library, devices), 2048, 8, phase, "model", "analytical")


def parts(request: Request) -> dict[str, Operation]:
    return {one.name: one for one in counted(request)}


def test_a_sum_over_devices_and_the_norm_after_it_are_two_kernels() -> None:
    found = parts(asked("llama-3.1-8b", "trtllm", devices=2))
    assert {"out_proj_all_reduce", "attn_residual_norm", "ffn_down_all_reduce", "ffn_residual_norm"} <= set(found)
    assert not [name for name in found if name.endswith("all_reduce_norm")]


@pytest.mark.parametrize("name", ["q_norm", "k_norm", "rotary_cache"])
def test_steps_have_no_kernel_for_norms_of_heads_and_rotations(name: str) -> None:
    """Prompts have a formula: 4 kernels of 3 us for the rotation and the cache, 8 for both norms, times 1.1."""
    step, prompt = asked("qwen3-32b", "vllm"), asked("qwen3-32b", "vllm", "prefill")
    on = gpu("vllm").spec
    assert seconds(parts(step)[name], step, on, "vllm") == 0
    expected = {"rotary_cache": 4}.get(name, 4) * 3e-6 * 1.1
    assert seconds(parts(prompt)[name], prompt, on, "vllm") == pytest.approx(expected)


def test_norms_are_a_formula() -> None:
    """8 rows of 4,096: two are read, two written, and the weights of the norm; 0.8 of 3.35 TB/s, and 3 us."""
    request = asked("llama-3.1-8b", "vllm")
    moved_bytes = 2 * (4 * 8 * 4096 + 4096)
    found = seconds(parts(request)["attn_residual_norm"], request, gpu("vllm").spec, "vllm")
    assert found == pytest.approx(3e-6 + moved_bytes / (0.8 * 3.35e12))


def test_small_weights_are_partly_in_l2_where_they_were_timed() -> None:
    """Half of L2, 25 MiB, keeps a half of five sets of 5.2 MB (2,048 x 1,280), a tenth of six (vLLM), nothing of two of
    33.6 MB.
    """
    on = gpu("trtllm", 4).spec
    step = asked("qwen3-30b-a3b", "trtllm", devices=4)
    product = parts(step)["qkv_proj"]
    five, six = (seconds(product, step, on, library) for library in ("trtllm", "vllm"))
    launch_s = small_kernel_s(on)
    assert five - launch_s < 0.85 * (six - launch_s)
    step = asked("llama-3.1-8b", "trtllm")
    product = parts(step)["out_proj"]
    assert seconds(product, step, on, "trtllm") == seconds(product, step, on, "vllm")


def test_a_call_of_attention_has_what_its_library_does_besides() -> None:
    """TensorRT-LLM rotates in the call, vLLM copies the new token; both are more than the kernel alone."""
    found = {library: seconds(parts(asked("llama-3.1-8b", library))["attention"], asked("llama-3.1-8b", library),
                              gpu(library).spec, library) for library in ("vllm", "trtllm")}  # fmt: skip
    assert all(2e-6 < each < 60e-6 for each in found.values())
    assert found["vllm"] != found["trtllm"]
