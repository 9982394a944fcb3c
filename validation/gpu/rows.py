"""Rows of the public GPU files as rows of one kind: operation, device, kernel, shape, seconds, and what they count for.

What the files call devices and kernels is here as spellings only: a kernel's facts are in `accelerators/gpu/kernels`
(with what the serving libraries call, in `implementations.yaml`), a device's in `accelerators/gpu/presets`. What a row
says that we cannot predict (a backward pass, a kernel without a descriptor, a shape that is not stated) is counted with
its reason, never scored as something else.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib import resources
from typing import cast

from cascadesim.accelerators.gpu.kernel import KernelPhase, load_kernel
from cascadesim.accelerators.gpu.spec import Dtype
from cascadesim.einsum_cascades.notation.errors import shortened, suggestion
from cascadesim.einsum_cascades.notation.schema import parse_yaml
from cascadesim.validation.gpu.layouts import NAMES, RAW, SCORED, SHAPE, recognised, split_of
from cascadesim.validation.gpu.model import device as preset
from cascadesim.validation.table import CannotJudge, Row, Table, Value, judgeable, parse_table

Cells = dict[str, Value]
DEVICES = {
    "A100-SXM4-80GB": "a100-sxm", "A100-80GB": "a100-sxm", "A100_80GB_PCIe": "a100-pcie", "A100": "a100-sxm",
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
SHORT_S = 20e-6  # issue: rows below are reported apart
# wide enough that the order of a class's rows says more than the scatter of single runs
CLASSES = ((SHORT_S, "below 20 us"), (1e-3, "20 us to 1 ms"), (float("inf"), "1 ms and more"))
DTYPES = {"bfloat16": "bf16", "float16": "fp16", "fp16/bf16": "fp16", "fp8": "fp8", "fp16": "fp16", "fp32": "fp32"}
_NEVER_0 = ("batch", "seqlen_q", "kv_len", "heads_q", "heads_kv", "head_dim", "m")  # n, k: 0 where there is none
UNIFIED_NAMES = (*NAMES, "architecture", "size_class", "stratum", "split", "scored", *SHAPE, "latency_s")


@cache
def kernel_of(
    impl: str, operation: str, device: str, group: int = 1, head_dim: int = 0, kv_dtype: str = ""
) -> str | None:
    """The descriptor of an attention implementation for `group` query heads a key head; None if it has none."""
    if impl in PAPERS:
        return PAPERS[impl]
    phases = _implementations().get(impl, {})
    by_generation = phases.get(operation, phases.get(PHASES[operation], {}))
    special = "of-wide-groups" if group > WIDE_GROUP else "without-groups" if group == 1 else ""
    names = (f"{operation}-{special}", f"{operation}-{special}-in-{kv_dtype}", f"{PHASES[operation]}-of-{head_dim}")
    own = next((phases[name] for name in names if name in phases), {})
    by_generation = {**by_generation, **own}
    return by_generation.get(preset(device).generation, by_generation.get("any"))


@cache
def _implementations() -> Mapping[str, Mapping[str, Mapping[str, str]]]:
    file = resources.files("cascadesim.accelerators.gpu").joinpath("kernels", "implementations.yaml")
    content = parse_yaml(file.read_text(encoding="utf-8"), file.name)
    return cast("Mapping[str, Mapping[str, Mapping[str, str]]]", content)


@cache
def _problem(kernel: str, operation: str, device: str, head_dim: int, dtype: str) -> str | None:
    """Why the descriptor does not cover such a row, as a user of the kernel would be told."""
    phase = cast(KernelPhase, PHASES[operation])
    found = load_kernel(kernel).problem(preset(device), phase, head_dim, cast(Dtype, dtype))
    return None if found is None else f"{kernel} {found}"


def _aiconfigurator(operation: str, shape: Callable[[Cells], Cells]) -> Callable[[Cells], Cells]:
    """Reads a row of an operation of NVIDIA's aiconfigurator, whose library stands before the colon of `impl`."""

    def read(cells: Cells) -> Cells:
        library = str(cells["impl"]).partition(":")[0]
        return {"source": f"aiconfigurator {library}", "operation": operation, **shape(cells)}

    return read


def _mla_shape(cells: Cells) -> Cells:
    """DeepSeek: context 192/128 per head, causal; generation 576/512 over one latent head."""
    heads = cells["heads"]
    named: Cells = {"operation": f"mla-{cells['phase']}", "heads_q": heads}
    if cells["phase"] == "context":
        return {**named, "head_dim": 192, "head_dim_v": 128, "heads_kv": heads, "causal": 1}
    return {**named, "head_dim": 576, "head_dim_v": 512, "heads_kv": 1, "causal": 0}


def _vidur_attention(cells: Cells) -> Cells:
    new, cached = int(cells["seqlen_q"] or 0), int(cells["kv_cache"] or 0)
    return {"source": "vidur", "operation": cells["phase"], "kv_len": new + cached,
            "causal": 0 if cells["phase"] == "decode" else 1}  # fmt: skip


def _vidur_linear(cells: Cells) -> Cells:
    gemm = cells["kind"] == "gemm"
    operation = "gemm" if gemm else str(cells["op"]).replace("input_", "").replace("post_attention_", "")
    return {"source": "vidur", "operation": operation, "kernel": operation, "dtype": "fp16",
            "impl": f"{cells['op']} {cells['model']} tp{cells['tp']}"}


def _servingsim(cells: Cells) -> Cells:
    if cells["phase"] == "mixed":
        raise CannotJudge("prefill and decoding in one call")
    new, cached = int(cells["prefill_q"] or 0), int(cells["prefill_kv_cache"] or 0)
    shape: Cells = (
        {"batch": 1, "seqlen_q": new, "kv_len": new + cached, "causal": 1} if cells["phase"] == "prefill" else
        {"batch": cells["n_decode"], "seqlen_q": 1, "kv_len": cells["kv_decode"], "causal": 0}
    )  # fmt: skip
    return {"source": "LLMServingSim", "operation": cells["phase"], **shape}


def _papers(cells: Cells) -> Cells:
    if cells.get("dropout") or cells.get("padding_mask"):  # of FlashAttention's first paper
        raise CannotJudge("dropout or a padding mask")
    if cells["pass"] != "fwd":
        raise CannotJudge("it has a backward pass")
    heads, length, causal = cells["heads"], cells["seqlen"], int(cells.get("causal") or 0)
    return {"source": f"paper {cells['paper']}", "operation": "prefill" if causal else "encoder", "seqlen_q": length,
            "kv_len": length, "heads_q": heads, "heads_kv": heads, "causal": causal}


def _llmcompass(cells: Cells) -> Cells:
    name = str(cells["op"]).replace("gemm", "linear")
    return {"source": "LLMCompass", "operation": name, "kernel": name, "impl": f"pytorch {name}"}


def _neusight(cells: Cells) -> Cells:
    """A batch of products is b products; rows of a row-wise or elementwise operator are b of the stated width."""
    name = str(cells["op"])
    shape: Cells = ({"batch": cells["b"], "m": cells["m_or_width"]} if cells["group"] in ("bmm", "linear")
                    else {"m": cells["b"], "n": cells["m_or_width"]})  # fmt: skip
    operation = {"ln": "layernorm"}.get(name, name)
    return {"source": "NeuSight", "operation": operation, "kernel": operation, "dtype": "fp32",
            "impl": f"pytorch {name}", **shape}


def _misc(cells: Cells) -> Cells:
    attention = cells["kind"] == "attention"
    if cells["unit"] != "TFLOPS" or cells["kind"] == "headline" or not cells.get("batch" if attention else "m"):
        raise CannotJudge("its shape is not stated")
    if cells.get("pass") != "fwd":
        raise CannotJudge("it has a backward pass")
    if cells["kind"] == "gemm":
        raise CannotJudge("a product in a table of attention")
    causal = int(cells.get("causal") or 0)
    batch, heads, new, keys, dim = (
        int(cells[name] or 0) for name in ("batch", "heads_q", "seqlen_q", "seqlen_k", "head_dim")
    )
    flops = 4 * batch * heads * new * keys * dim / (2 if causal else 1)  # the table's convention
    return {"source": "README", "operation": "prefill" if causal else "encoder", "kv_len": keys, "causal": causal,
            "latency_ms": flops / (float(cells["value"] or 0) * 1e12) * 1e3}


READERS: Mapping[str, Callable[[Cells], Cells]] = {
    "prefill": _aiconfigurator(
        "prefill", lambda cells: {"seqlen_q": cells["seqlen"], "kv_len": cells["seqlen"], "causal": 1}
    ),
    "decode": _aiconfigurator("decode", lambda cells: {"seqlen_q": 1, "causal": 0}),
    "encoder": _aiconfigurator(
        "encoder", lambda cells: {"seqlen_q": cells["seqlen"], "kv_len": cells["seqlen"], "causal": 0,
                                  "heads_q": cells["heads"], "heads_kv": cells["heads"]}
    ),
    "gemm": _aiconfigurator("gemm", lambda cells: {"kernel": "gemm"}),
    "mla": _aiconfigurator("mla", _mla_shape),
    "vidur-attention": _vidur_attention, "vidur-linear": _vidur_linear, "servingsim": _servingsim, "papers": _papers,
    "fa1": _papers, "llmcompass": _llmcompass, "neusight": _neusight, "misc": _misc,
}  # fmt: skip


def read_rows(text: str, source: str, layouts: Sequence[str], operations: Callable[[str], bool]) -> Table:
    """Rows of `text`, in one of `layouts`, whose operation is of the suite. Raises SpecError with every problem."""
    lines = (line for line in text.splitlines() if line.strip() and not line.startswith("#"))
    try:
        header = next(csv.reader([next(lines, "")]))
    except csv.Error:
        header = []  # `parse_table` says what is wrong with it
    name = recognised(header, layouts)
    raw = parse_table(text, RAW[name], source)
    rows, left_out = judgeable(raw.rows, lambda row: _unified(row, READERS[name], operations), mark=", ")
    return Table(tuple(rows), raw.comments, raw.unread_columns, tuple(left_out.items()))


def _unified(row: Row, read: Callable[[Cells], Cells], operations: Callable[[str], bool]) -> Row:
    stated: Cells = dict(row.cells)
    cells = {**stated, **read(stated)}
    if not operations(str(cells["operation"])):
        raise CannotJudge("an operation of another suite")
    device = DEVICES.get(str(cells["gpu"]))
    if device is None:
        raise CannotJudge(f"no device {cells['gpu']}")
    dtypes = {"dtype": _dtype(cells, "dtype"),
              "kv_dtype": _dtype(cells, "dtype" if cells.get("kv_dtype") is None else "kv_dtype")}  # fmt: skip
    cells |= {"device": device, **dtypes}
    cells["kernel"] = cells.get("kernel") or _attention_kernel(cells)
    cells["latency_s"] = latency_s = float(cells["latency_ms"] or 0) * 1e-3
    cells["head_dim_v"] = cells.get("head_dim_v") or cells.get("head_dim")
    if empty := [name for name in _NEVER_0 if cells.get(name) == 0]:
        raise CannotJudge(f"{empty[0]} is 0")
    size, split = next(name for limit, name in CLASSES if latency_s < limit), split_of(cells)
    cells |= {"size_class": size, "stratum": f"{cells['source']} / {device} / {cells['kernel']} / {size}",
              "split": split, "architecture": preset(device).generation,
              "scored": "short" if split == SCORED and latency_s < SHORT_S else split}  # fmt: skip
    return Row(tuple((name, cells.get(name)) for name in UNIFIED_NAMES), row.source, row.line)


def _dtype(cells: Cells, column: str) -> str:
    """Our name of a type. Raises ValueError for one that nobody has."""
    given = cells.get(column)
    if given is None:
        raise CannotJudge("its type is not stated")
    found = DTYPES.get(str(given))
    if found is None:
        raise ValueError(f"column '{column}': no type '{shortened(str(given))}'{suggestion(str(given), DTYPES)}")
    return found


def _attention_kernel(cells: Cells) -> str:
    heads = int(cells["heads_q"] or 1)
    group = heads // int(cells["heads_kv"] or heads)
    operation, device = str(cells["operation"]), str(cells["device"])
    head_dim = int(cells["head_dim"] or 0)
    kernel = kernel_of(str(cells["impl"]), operation, device, group, head_dim, str(cells["kv_dtype"]))
    if kernel is None:
        raise CannotJudge(f"no descriptor of {cells['impl']}")
    why = _problem(kernel, operation, device, head_dim, str(cells["dtype"]))
    if why is not None:
        raise CannotJudge(why)
    return kernel
