"""The GPU model over the rows of a table: which of its functions predicts a row, kind by kind.

A kind is what one vectorised call takes: device, kernel, operation, types, and what the library runs before attention.
Settings are `dotted.field=value` changes of every device, or `constants.NAME=value` of the calibrated constants.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import cast

import numpy as np

from cascadesim.accelerators.gpu import batch as vectorised
from cascadesim.accelerators.gpu.batch import Before, extra_launches
from cascadesim.accelerators.gpu.calibration import Constants, constants
from cascadesim.accelerators.gpu.kernel import load_kernel
from cascadesim.accelerators.gpu.spec import Device, Dtype
from cascadesim.validation.gpu.work import Floats, Shapes

CONSTANT = "constants."
# software that LLMCompass's timings include: hardware_model/compute_module.py of that project, as recalled; its
# shortest calls take about as long
FRAMEWORK_S = {
    ("a100-sxm", "linear"): 21e-6, ("a100-sxm", "softmax"): 12e-6, ("a100-sxm", "layernorm"): 45e-6,
    ("a100-sxm", "gelu"): 45e-6, ("mi210", "linear"): 34e-6, ("mi210", "softmax"): 22e-6,
    ("mi210", "layernorm"): 28e-6, ("mi210", "gelu"): 21e-6,
}  # fmt: skip
COLD = ("LLMServingSim",)  # timed inside whole layers, so that other kernels empty L2 between two calls
ConstantsOf = Mapping[str, Constants]  # generation -> its constants; of the others, the calibrated ones


def predicted_s(shapes: Shapes, settings: Sequence[str] = (), of: ConstantsOf | None = None) -> Floats:
    """Seconds of every row; NaN where the model has nothing to say."""
    found = np.full(len(shapes), np.nan)
    for kind, rows in shapes.kinds.items():
        found[rows] = _seconds(kind, shapes.at(rows), tuple(settings), of or {}) + framework_s(kind)
    return found


def _seconds(kind: tuple[str, ...], part: Shapes, settings: tuple[str, ...], of: ConstantsOf) -> Floats:
    name, kernel, operation, dtype, kv_dtype, source, impl = kind
    on = device(name, tuple(one for one in settings if not one.startswith(CONSTANT)))
    known = _changed(of.get(on.generation) or constants(on.generation), settings)
    launches = extra_launches(impl, operation, on.generation, kv_dtype)
    if operation in ("prefill", "decode", "encoder"):
        return vectorised.attention_seconds(
            on, load_kernel(kernel), batch=part.batch, heads=part.heads_q, heads_kv=part.heads_kv,
            queries=part.seqlen_q, keys=part.kv_len, head_dim=part.head_dim, causal=part.causal > 0,
            window=part.window, dtype=_dtype(dtype), kv_dtype=_dtype(kv_dtype),
            before=before(operation, source, impl, dtype), launches=launches, cold=source in COLD, constants=known,
        )  # fmt: skip
    if operation.startswith("mla"):
        return vectorised.mla_seconds(
            on, load_kernel(kernel), batch=part.batch, heads=part.heads_q, queries=part.seqlen_q, keys=part.kv_len,
            absorbed=operation == "mla-generation", dtype=_dtype(dtype), kv_dtype=_dtype(kv_dtype), launches=launches,
            constants=known,
        )  # fmt: skip
    if operation in ("gemm", "bmm", "linear"):
        return vectorised.gemm_seconds(
            on, rows=part.m, outputs=part.n, depth=part.k, copies=np.maximum(part.batch, 1), dtype=_dtype(dtype),
            library="sgl-kernel" if "sgl_kernel" in impl else "best", quantises=quantisations(dtype, source),
            launches=small_kernels(dtype, source), constants=known,
        )  # fmt: skip
    return _streamed(on, part, known)


def framework_s(kind: tuple[str, ...]) -> float:
    """What a source's timings hold beside kernels."""
    device_name, _, operation, _, _, source, _ = kind
    return FRAMEWORK_S.get((device_name, operation), 0.0) if source == "LLMCompass" else 0.0


def _streamed(on: Device, part: Shapes, known: Constants) -> Floats:
    """All operands but the result are read; these sources run an operation between others, which empty L2."""
    result = part.m * part.n * part.dtype_bytes
    return vectorised.elementwise_seconds(on, read_bytes=part.bytes - result, write_bytes=result, warm=False,
                                          constants=known)  # fmt: skip


def before(operation: str, source: str, impl: str = "", dtype: str = "") -> Before:
    """What the measured call runs ahead of attention (headers of the public files)."""
    if operation == "encoder" or not source.startswith("aiconfigurator"):
        return "nothing"
    rotates = source.endswith("trtllm") and "flashinfer" not in impl
    return "rope_and_cache_write" if rotates or dtype == "fp8" else "cache_write"  # 8-bit queries are written anew, too


def quantisations(dtype: str, source: str) -> int:
    """Kernels before an 8-bit product: rows of their own scale (SGLang), or one scale of all rows (TensorRT-LLM)."""
    return 0 if dtype != "fp8" else 2 if source.endswith("trtllm") else 1


def small_kernels(dtype: str, source: str) -> int:
    """Beside those, as TensorRT-LLM's shortest 8-bit product takes 10 us longer than its shortest 16-bit one."""
    return 2 if dtype == "fp8" and source.endswith("trtllm") else 0


@cache
def device(name: str, settings: tuple[str, ...] = ()) -> Device:
    """A preset, changed by `settings`."""
    from cascadesim.accelerators.catalogue import presets
    from cascadesim.einsum_cascades.notation.schema import read_yaml, with_settings

    return Device.model_validate(with_settings(read_yaml(presets()[f"gpu/{name}"]), settings))


def _changed(known: Constants, settings: Sequence[str]) -> Constants:
    pairs = [one.removeprefix(CONSTANT).partition("=") for one in settings if one.startswith(CONSTANT)]
    return known.model_copy(update={name: float(value) for name, _, value in pairs}) if pairs else known


def _dtype(name: str) -> Dtype:
    return cast(Dtype, name)
