"""The table of engines: what a device makes of one, and what it refuses."""

from __future__ import annotations

import pytest

from cascadesim.accelerators import catalogue
from cascadesim.accelerators.gpu.engines.engine import engines, find_engine
from cascadesim.accelerators.gpu.kernel import kernels
from cascadesim.einsum_cascades.models.operation import least_elements
from cascadesim.einsum_cascades.models.workload import load_workload
from cascadesim.einsum_cascades.notation.errors import UnknownNameError
from cascadesim.simulator.request import Request
from cascadesim.simulator.simulate import operations, reports


def decode_kernel(workload: str, *settings: str, device: str = "h100-sxm") -> str:
    """The attention kernel of a step."""
    from cascadesim.simulator.simulate import parts

    request = Request(load_workload(workload), catalogue.load(device, settings), 1024, 8, "decode", "attention",
                      "analytical")  # fmt: skip
    ((run,),) = parts(request)
    return run.execution.plan.kernel


def test_an_unknown_engine_is_refused_with_what_was_meant() -> None:
    with pytest.raises(UnknownNameError, match="no engine 'vlm'; did you mean 'vllm'"):
        catalogue.load("h100-sxm", ("engine=vlm",))


def test_every_engine_names_kernels_that_exist_and_fuses_nothing_without_a_name() -> None:
    for engine in engines().values():
        assert set(engine.kernels) <= set(kernels())
        assert set(engine.groups) <= set(engine.kernels)
    assert find_engine("none").fuses == ()


def test_early_tensorrt_llm_has_a_kernel_for_groups_of_eight_alone() -> None:
    """Llama-2-70B has 8 query heads a key head, Mistral 4, Llama-2-7B 1."""
    found = {name: decode_kernel(name, "engine=tensorrt-llm-0.9", "parallel.tensor=4")
             for name in ("llama-2-70b", "mistral-7b-v0.1", "llama-2-7b")}
    assert found == {"llama-2-70b": "trtllm-xqa", "mistral-7b-v0.1": "trtllm-mmha", "llama-2-7b": "trtllm-mmha"}
    assert decode_kernel("llama-2-70b", "engine=tensorrt-llm-0.6", "parallel.tensor=4") == "trtllm-mmha"


def test_a_kernel_that_is_named_goes_before_the_engine() -> None:
    assert decode_kernel("llama-3.1-8b", "engine=vllm") == "flash-attention-3-two-sums-decode"
    assert decode_kernel("llama-3.1-8b", "engine=vllm", "kernel=trtllm-xqa") == "trtllm-xqa"


def test_kernels_from_a_stream_start_later_than_from_a_graph() -> None:
    """H100: 2.4 us against 1.3 us; Llama-3.1-8B has 32 x 9 + 2 launches: XQA sums up split keys itself."""
    request = [Request(load_workload("llama-3.1-8b"), catalogue.load("h100-sxm", (f"engine={engine}",)), 1024, 1,
                       "decode", "model", "analytical") for engine in ("tensorrt-llm", "tensorrt-llm-0.17")]
    graph, stream = (reports(one)[0].latency_s for one in request)
    assert stream - graph == pytest.approx((32 * 9 + 2) * 1.1e-6)


def test_an_eager_kernel_takes_at_least_as_long_as_the_host_launches() -> None:
    """One token of Llama-3.1-8B: 3.7 us for parts of norms and the like; products of 4096 x 14336 take longer."""
    device = catalogue.load("h100-sxm", ("engine=pytorch",))
    report = reports(Request(load_workload("llama-3.1-8b"), device, 1024, 1, "decode", "model", "analytical"))[0]
    each = {one.name: one.cycles / one.count / device.clock_hz for one in report.operations}
    assert each["attn_norm_N"] == each["q_rotary_A1"] == pytest.approx(3.7e-6, rel=1e-3)
    assert min(each.values()) == each["attn_norm_N"]
    assert each["ffn_up"] > 2 * 4096 * 14_336 / 3.35e12


def test_an_eager_engine_makes_norms_in_fp32_operator_by_operator() -> None:
    """A norm of 4,096 columns and 8,192 rows: to fp32 (2 bytes read and 4 written), squares (4, 4), their sums (4, 0),
    divided by the root (4, 4), back (4, 2), times weights (2, 2): 36 bytes an element, and a few of each row."""
    device = catalogue.load("h100-sxm", ("engine=pytorch",))
    found = [one for one in operations(Request(load_workload("llama-3.1-8b"), device, 8192, 1, "prefill", "model",
                                               "analytical")) if one.name.startswith("attn_norm")]  # fmt: skip
    steps = ("F", "S", "SX", "E", "RMS", "N", "H", "Y")
    assert [one.name for one in found] == [f"attn_norm_{step}" for step in steps]
    rows, columns = 8192, 4096
    moved = [sum((4 if name in one.fp32 else 2) * size for name, size in least_elements(one).items()) for one in found]
    of_rows, weights = (4 + 8 + 8 + 4) * rows, 2 * columns  # a sum written; it and its root, read and written; the root
    assert sum(moved) == 36 * rows * columns + of_rows + weights
    assert sum(run.cycles for run in reports(Request(load_workload("llama-3.1-8b"), device, 8192, 1, "prefill", "model",
                                                     "analytical"))[0].operations
               if run.name.startswith("attn_norm")) / 32 / device.clock_hz > sum(moved) / 3.35e12  # fmt: skip


def test_what_pytorch_has_a_kernel_for_is_one() -> None:
    """LayerNorm and GELU of BERT, and its sums, as without an engine."""
    plain, eager = ([one.name for one in operations(Request(load_workload("bert"), catalogue.load(
        "h100-sxm", (f"engine={engine}",)), 512, 1, "prefill", "model", "analytical"))]
        for engine in ("none", "pytorch"))  # fmt: skip
    assert plain == eager


def test_an_eager_rotation_moves_twenty_bytes_an_element() -> None:
    """Times cosines (2, 2), half of it turned (1, 1), joined (2, 2), times sines (2, 2), added (4, 2); cosines and
    sines are a token's, for all of its heads."""
    device = catalogue.load("h100-sxm", ("engine=pytorch",))
    found = [one for one in operations(Request(load_workload("llama-3.1-8b"), device, 8192, 1, "prefill", "model",
                                               "analytical")) if one.name.startswith("q_rotary")]  # fmt: skip
    elements, half_a_head = 8192 * 4096, 64
    assert len(found) == 5
    assert sum(2 * sum(least_elements(one).values()) for one in found) == 20 * elements + 2 * 2 * half_a_head


def test_a_norm_in_the_kernel_of_an_all_reduce_saves_its_launch() -> None:
    """The same sum and the same norm apart: one launch of 1.3 us and the 1.2 us of a kernel that does nothing."""
    def step(engine: str) -> dict[str, float]:
        device = catalogue.load("h100-sxm", ("parallel.tensor=4", f"engine={engine}"))
        (report,) = reports(Request(load_workload("llama-3.1-8b"), device, 1024, 64, "decode", "model", "analytical"))
        return {one.name: one.cycles / one.count / device.clock_hz for one in report.operations}

    apart, together = step("vllm"), step("tensorrt-llm")
    saved = apart["out_proj_all_reduce"] + apart["attn_residual_norm"] - together["out_proj_all_reduce_norm"]
    assert saved == pytest.approx(2.5e-6, abs=2e-9)


def test_a_step_is_never_slower_for_fusing() -> None:
    for workload in ("llama-3.1-8b", "qwen3-30b-a3b", "gpt-j-6b"):
        plain, found = (reports(Request(load_workload(workload), catalogue.load("h200-sxm", settings), 2048, 4,
                                        "decode", "model", "analytical"))[0].latency_s
                        for settings in ((), ("engine=vllm",)))
        assert found < plain


def test_an_engine_runs_the_kernel_that_its_measured_calls_are_compared_with() -> None:
    """vLLM's fork of FlashAttention-3 adds up 8-bit products apart, SGLang's does not: implementations.yaml."""
    found = {name: decode_kernel("gemma-2-9b", f"engine={name}") for name in ("vllm", "vllm-0.10", "sglang")}
    assert found == {"vllm": "flash-attention-3-two-sums-decode", "vllm-0.10": "flash-attention-3-two-sums-decode",
                     "sglang": "flash-attention-3-decode"}  # fmt: skip
