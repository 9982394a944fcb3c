"""Which descriptor stands for what a library calls: by phase, generation and query heads that share a key head."""

from __future__ import annotations

import pytest

from cascadesim.validation.gpu.kernels import kernel_of
from cascadesim.validation.gpu.work import tensors


@pytest.mark.parametrize(
    ("device", "group", "kernel"),
    [
        ("h100-sxm", 8, "trtllm-xqa"), ("h100-sxm", 32, "trtllm-xqa"), ("h100-sxm", 48, "trtllm-mmha"),
        ("h100-sxm", 1, "trtllm-mmha"), ("b200", 1, "trtllm-gen-decode"), ("b200", 64, "trtllm-mmha"),
    ],
)  # fmt: skip
def test_tensorrt_llm_decodes_by_group(device: str, group: int, kernel: str) -> None:
    assert kernel_of("trtllm:torch_flow", "decode", device, group) == kernel


def test_other_libraries_and_phases_know_no_groups() -> None:
    assert kernel_of("sglang:trtllm_mha", "decode", "b200", 64) == "trtllm-gen-decode"
    assert kernel_of("trtllm:torch_flow", "prefill", "h100-sxm", 64) == "trtllm-fmha-hopper"
    assert kernel_of("nobody's", "decode", "h100-sxm") is None


def test_parallel_blocks_add_twice() -> None:
    """vidur: attention and feed-forward and residual, three tensors by two kernels; elsewhere one sum of two."""
    assert tensors("add", "add phi-2 tp1") == 6
    assert tensors("add", "add Llama-2-7b-hf tp1") == 3
