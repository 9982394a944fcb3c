"""What the public tables call devices and kernels against our presets and kernel descriptors.

Only spellings: a kernel's facts are in `accelerators/gpu/kernels` (with what the serving libraries call, in
`implementations.yaml`), a device's in `accelerators/gpu/presets`. An implementation that neither knows has no
descriptor; its rows are counted as left out, never scored as something else.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import cast

DEVICES = {
    "A100-SXM4-80GB": "a100-sxm", "A100-80GB": "a100-sxm", "A100_80GB_PCIe": "a100-sxm", "A100": "a100-sxm",
    "A100-40GB": "a100-sxm-40gb", "A100-SXM4-40GB": "a100-sxm-40gb", "A100-PCIE-40GB": "a100-sxm-40gb",
    "H100-SXM5-80GB": "h100-sxm", "H100-80GB": "h100-sxm", "H100_80GB_HBM3": "h100-sxm", "H800-SXM": "h100-sxm",
    "H100-SXM5": "h100-sxm", "H100-PCIe-80GB": "h100-pcie", "H200-SXM": "h200-sxm", "B200-SXM": "b200", "B200": "b200",
    "L40S": "l40s", "L4": "l4", "A40-48GB": "a40", "A40": "a40", "RTX4090": "rtx4090", "RTX5090": "rtx5090",
    "V100-PCIE-32GB": "v100-sxm", "V100-SXM2": "v100-sxm", "T4": "t4", "P100-PCIE-16GB": "p100-pcie", "P4": "p4",
    "MI210": "mi210",
}  # fmt: skip # PCIe parts without a preset of their own are taken as the SXM part of the same die
PAPERS = {
    "flash_attn_2": "flash-attention-2", "FA3": "flash-attention-3", "FlashAttention_Triton": "triton",
    "Triton": "triton", "triton_attention_sink": "triton", "cuDNN": "cudnn", "sdpa_cudnn": "cudnn",
    "Pytorch": "unfused-pytorch", "PyTorch_Attention": "unfused-pytorch", "Standard_attention": "unfused-pytorch",
}  # fmt: skip # names in papers and README files
WIDE_GROUP = 32  # `implementations.yaml`
PHASES = {"encoder": "prefill", "prefill": "prefill", "decode": "decode", "mla-context": "prefill",
          "mla-generation": "mla"}  # fmt: skip


@cache
def generation_of(device: str) -> str:
    from cascadesim.accelerators.catalogue import presets
    from cascadesim.einsum_cascades.notation.schema import read_yaml

    return str(read_yaml(presets()[f"gpu/{device}"])["generation"])


@cache
def kernel_of(impl: str, operation: str, device: str, group: int = 1) -> str | None:
    """The descriptor of an attention implementation for `group` query heads a key head; None if it has none."""
    if impl in PAPERS:
        return PAPERS[impl]
    phases = _implementations().get(impl, {})
    by_generation = phases.get(operation, phases.get(PHASES[operation], {}))
    special = "of-wide-groups" if group > WIDE_GROUP else "without-groups" if group == 1 else ""
    by_generation = {**by_generation, **phases.get(f"{operation}-{special}", {})}
    generation = generation_of(device)
    return by_generation.get(generation, by_generation.get("any"))


@cache
def _implementations() -> Mapping[str, Mapping[str, Mapping[str, str]]]:
    from importlib import resources

    from cascadesim.einsum_cascades.notation.schema import parse_yaml

    file = resources.files("cascadesim.accelerators.gpu").joinpath("kernels", "implementations.yaml")
    content = parse_yaml(file.read_text(encoding="utf-8"), file.name)
    return cast("Mapping[str, Mapping[str, Mapping[str, str]]]", content)


@cache
def problem(kernel: str, operation: str, device: str, head_dim: int, dtype: str) -> str | None:
    """Why the descriptor does not cover such a row, as a user of the kernel would be told."""
    from cascadesim.accelerators.gpu.kernel import KernelPhase, load_kernel
    from cascadesim.accelerators.gpu.spec import Dtype
    from cascadesim.validation.gpu.model import device as preset

    phase = cast(KernelPhase, PHASES[operation])
    found = load_kernel(kernel).problem(preset(device), phase, head_dim, cast(Dtype, dtype))
    return None if found is None else f"{kernel} {found}"
