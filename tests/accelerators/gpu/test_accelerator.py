"""A GPU as an accelerator: plans, kernels that do not run, what helps."""

from __future__ import annotations

import pytest

from cascadesim.accelerators.catalogue import load
from cascadesim.accelerators.gpu.accelerator import Gpu
from cascadesim.accelerators.gpu.kernel import Asked, choose_kernel, kernels, load_kernel
from cascadesim.accelerators.gpu.plans import kernel_of
from cascadesim.accelerators.protocol import Plan
from cascadesim.einsum_cascades.models.operation import Operation
from cascadesim.einsum_cascades.models.workload import load_workload
from cascadesim.einsum_cascades.notation.errors import CascadeSimError, UnknownNameError


def gpu(name: str, *settings: str) -> Gpu:
    found = load(name, settings)
    assert isinstance(found, Gpu)
    return found


def attention(workload: str = "llama", phase: str = "prefill", cascade: str = "attention-1pass") -> Operation:
    found = load_workload(workload).operations(sequence_length=4096, batch=4, phase=phase, scope="attention",  # type: ignore[arg-type]
                                               attention=cascade)  # fmt: skip
    return found[0]


def plan(name: str, operation: Operation, *settings: str) -> Plan:
    return gpu(name, *settings).plan(operation, "physical")


def test_llama_on_an_h100_runs_flash_attention_3() -> None:
    found = plan("h100-sxm", attention())
    assert found.mapping[0].startswith("kernel flash-attention-3, bf16: tiles of 128 queries x 128 keys")
    assert "10% faster would make the whole faster by: tensor" in found.mapping[-1]
    assert {activity.name: activity.unit for activity in found.phases[0].activities}["SLNV"] == "tensor"


def test_each_phase_takes_its_own_kernel() -> None:
    device = gpu("b200").spec
    assert kernel_of(attention(), device).name == "trtllm-gen"
    assert kernel_of(attention(phase="decode"), device).name == "trtllm-gen-decode"
    assert kernel_of(attention("deepseek-v3", "decode"), device).name == "mla-trtllm-gen"


def test_three_passes_store_their_scores() -> None:
    device = gpu("h100-sxm").spec
    assert kernel_of(attention(cascade="attention-3pass"), device).name == "unfused-pytorch"
    fused, stored = (plan("h100-sxm", attention(cascade=f"attention-{passes}pass")) for passes in (1, 3))
    assert stored.traffic.total_bytes > 10 * fused.traffic.total_bytes


def test_a_kernel_that_does_not_run_on_a_device_is_refused_in_one_line() -> None:
    with pytest.raises(CascadeSimError, match=r"^kernel flash-attention-3 does not run on A100-SXM4-80GB \(ampere\)"):
        plan("a100-sxm", attention(), "kernel=flash-attention-3")


def test_a_head_dimension_that_a_kernel_does_not_take_is_refused() -> None:
    with pytest.raises(CascadeSimError, match="flash-attention-2 takes head dimensions up to 256, got 512"):
        choose_kernel(gpu("a100-sxm", "kernel=flash-attention-2").spec, Asked("prefill", 512, "bf16"))


def test_a_group_that_a_kernel_does_not_take_is_refused() -> None:
    device = gpu("h100-sxm", "kernel=trtllm-xqa").spec
    assert choose_kernel(device, Asked("decode", 128, "bf16", 32)).name == "trtllm-xqa"
    with pytest.raises(CascadeSimError, match="trtllm-xqa takes up to 32 query heads of a key head, got 64"):
        choose_kernel(device, Asked("decode", 128, "bf16", 64))


def test_an_unknown_kernel_is_guessed() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'flash-attention-2'"):
        gpu("a100-sxm", "kernel=flash-attention-22")


def test_the_decode_kernel_of_a_named_one_is_its_sibling() -> None:
    device = gpu("h100-sxm", "kernel=flash-attention-2").spec
    assert choose_kernel(device, Asked("decode", 128, "bf16")).name == "flash-attention-2-decode"


def test_a_neighborhood_is_walked_over_as_spans() -> None:
    operation = load_workload("flux.1-dev-4k").operations(scope="attention", attention="attention-1pass")[0]
    found = plan("h100-sxm", operation)
    assert found.phases[0].analytical_cycles > 0


def test_every_kernel_runs_somewhere_and_names_its_source() -> None:
    for kernel in kernels().values():
        assert kernel.source
        assert any(kernel.tiles_on(generation, False, 2) for generation in kernel.generations), kernel.name
    with pytest.raises(UnknownNameError):
        load_kernel("flash-attention-1")


def test_a_gpu_says_what_it_has_not() -> None:
    found = gpu("h100-sxm")
    assert found.capabilities.memory_bytes == 80e9
    assert found.capabilities.calibrated
    assert found.area_um2() is None
    assert plan("h100-sxm", attention()).dynamic_energy_j is None
    with pytest.raises(CascadeSimError, match="no artifact accounting"):
        found.plan(attention(), "artifact")
