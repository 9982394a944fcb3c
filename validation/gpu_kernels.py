"""What the public tables call devices and kernels against our presets and kernel descriptors.

Only spellings: a kernel's facts are in `accelerators/gpu/kernels`, a device's in `accelerators/gpu/presets`. An
implementation that is missing here has no descriptor; its rows are counted as left out, never scored as something else.
"""

from __future__ import annotations

import re

DEVICES = {
    "A100-SXM4-80GB": "a100-sxm", "A100-80GB": "a100-sxm", "A100_80GB_PCIe": "a100-sxm", "A100": "a100-sxm",
    "A100-40GB": "a100-sxm-40gb", "A100-SXM4-40GB": "a100-sxm-40gb", "A100-PCIE-40GB": "a100-sxm-40gb",
    "H100-SXM5-80GB": "h100-sxm", "H100-80GB": "h100-sxm", "H100_80GB_HBM3": "h100-sxm", "H800-SXM": "h100-sxm",
    "H100-SXM5": "h100-sxm", "H200-SXM": "h200-sxm", "B200-SXM": "b200", "B200": "b200", "L40S": "l40s", "L4": "l4",
    "A40-48GB": "a40", "A40": "a40", "RTX4090": "rtx4090", "RTX5090": "rtx5090", "V100-PCIE-32GB": "v100-sxm",
    "V100-SXM2": "v100-sxm", "T4": "t4", "P100-PCIE-16GB": "p100-pcie", "P4": "p4", "MI210": "mi210",
}  # fmt: skip
ARCHITECTURES = {
    "a100-sxm": "ampere", "a100-sxm-40gb": "ampere", "a40": "ampere", "h100-sxm": "hopper", "h200-sxm": "hopper",
    "b200": "blackwell", "l40s": "ada", "l4": "ada", "rtx4090": "ada", "rtx5090": "blackwell-consumer",
    "v100-sxm": "volta", "t4": "turing", "p100-pcie": "pascal", "p4": "pascal", "mi210": "cdna2",
}  # fmt: skip

_IMPLEMENTATIONS = tuple(
    (re.compile(pattern), kernel)
    for pattern, kernel in (
        (r"^sglang:flash_attention$", "flash-attention-2"),  # A100: FA3's package built for sm80, the FA2 schedule
        (r"flash_attn_fa2|^vllm:vllm_flash_attn$|vllm-[\d.]+:flash_attn$", "flash-attention-2"),
        (r"^sarathi:flash_attn_paged$|^flash_attn_2$|^FlashAttention-2$", "flash-attention-2"),
        (r"flash_attn_fa3|flash_attention_v3|^sglang:fa3$|^FlashAttention-3$|^FA3$", "flash-attention-3"),
        (r"flash_attn_fa4|flash_attention_v4", "flash-attention-4"),
        (r"torch_flow_flashinfer|^sglang:flashinfer$|fidecode", "flashinfer"),
        (r"trtllm:torch_flow$|trtllm_mha|trtllmprefill|trtllmdecode", "trtllm"),
        (r"^sglang:triton$|^FlashAttention_Triton$|^Triton$|^triton_attention_sink$", "triton"),
        (r"^cuDNN$|^sdpa_cudnn$", "cudnn"),
        (r"^Pytorch$|^PyTorch_Attention$|^Standard_attention$|^Megatron$", "unfused-pytorch"),
        (r"^FlashAttention$", "flash-attention-1"),
    )
)


def kernel_of(impl: str) -> str | None:
    """The descriptor of an attention implementation; None if it has none."""
    return next((kernel for pattern, kernel in _IMPLEMENTATIONS if pattern.search(impl)), None)
