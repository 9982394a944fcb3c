"""What predicts the rows of a table: the GPU model in closed form and at cycle level, and two baselines.

A kind is what one vectorised call takes: device, kernel, operation, types, and what the library runs before attention.
Settings are `dotted.field=value` changes of every device, or `constants.NAME=value` of the calibrated constants. For
the suite `gpu-left-out` a device is predicted with constants that have seen none of its rows (`left_out.yaml`, written
by `calibrate`): those of the other devices of its architecture, and of the nearest architecture where these say
nothing. Baselines, what a model must beat: the plain roofline, and the nearest measured neighbour.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import ArrayLike

from cascadesim.accelerators.catalogue import presets
from cascadesim.accelerators.gpu import batch as vectorised
from cascadesim.accelerators.gpu.attention.tile import case_of
from cascadesim.accelerators.gpu.batch import Before
from cascadesim.accelerators.gpu.calibration import Constants, CycleConstants, constants
from cascadesim.accelerators.gpu.engines.engine import GemmLibrary
from cascadesim.accelerators.gpu.gemm import InL2
from cascadesim.accelerators.gpu.grid import shape
from cascadesim.accelerators.gpu.kernel import load_kernel
from cascadesim.accelerators.gpu.memory import WalkedRows, share_in_l2
from cascadesim.accelerators.gpu.programs import attention_program
from cascadesim.accelerators.gpu.spec import Device, Dtype
from cascadesim.accelerators.gpu.timing import attention_timing
from cascadesim.einsum_cascades.notation.schema import read_yaml, validate, with_settings
from cascadesim.simulator.engine.engine import run
from cascadesim.validation.gpu.layouts import CALIBRATION, SHAPE, Floats, Shapes

CONSTANT = "constants."
# software that LLMCompass's timings include: hardware_model/compute_module.py of that project, as recalled; its
# shortest calls take about as long
FRAMEWORK_S = {
    ("a100-sxm", "linear"): 21e-6, ("a100-sxm", "softmax"): 12e-6, ("a100-sxm", "layernorm"): 45e-6,
    ("a100-sxm", "gelu"): 45e-6, ("mi210", "linear"): 34e-6, ("mi210", "softmax"): 22e-6,
    ("mi210", "layernorm"): 28e-6, ("mi210", "gelu"): 21e-6,
}  # fmt: skip
COLD = ("LLMServingSim",)  # timed inside whole layers, so that other kernels empty L2 between two calls
LIBRARY = "aiconfigurator"  # timed calls of serving libraries
# vidur/profiling, cuda_timer.py and record_function_tracer.py: durations of kernels added up, without what lies between
KERNELS_ONLY = "vidur"
UNLAUNCHED = ("measured.launch_graph_s=1e-9",)  # nothing: the field has to be positive
SETS, MOST_WEIGHTS = 6, 5  # collect_gemm.py of SGLang and vLLM, and of TensorRT-LLM, outside_loop_count
LIBRARY_KERNELS = 1  # TensorRT-LLM, attentionOp.cpp: invokeBuildDecoderInfo, offsets of the sequences
# TensorRT-LLM: the one scale of a matrix is cleared before its largest element is sought (cudaFp8Utils.cu), has the
# type of the rows, and is converted to FP32 for the product (fp8Op.cpp; linear.py, FP8QDQLinearMethod)
SCALE_KERNELS = 2
QUANTISES = ("sglang:fa3",)
# flash-attention, benchmark_flash_attention.py, attention_pytorch: rearranged queries and keys, and values in an einsum
UNFUSED = ("Pytorch", "Standard_attention")
ATTENTION = ("encoder", "prefill", "decode")
# vllm of that time, csrc/layernorm_kernels.cu and activation_kernels.cu: a thread loads an element at a time, a norm
# those of its row for the sum of squares, and each once more with its weight
SCALAR_LOADS = {"layernorm": 3, "mlp_act": 1}
JUST_WRITTEN = {"add": 1 / 2}  # of what vidur's operations read: residuals are added to what the product before wrote
LEFT_OUT_FILE = Path(__file__).with_name("left_out.yaml")
# device -> (architecture, the nearest other one): the same kind of tensor instruction, warp-specialised kernels or not
LEFT_OUT: Mapping[str, tuple[str, str]] = {
    "a100-sxm": ("ampere", "ada"), "a40": ("ampere", "ada"), "l40s": ("ada", "ampere"), "rtx4090": ("ada", "ampere"),
    "h100-sxm": ("hopper", "blackwell"), "h200-sxm": ("hopper", "blackwell"), "b200": ("blackwell", "hopper"),
}  # fmt: skip
# constants that can be left out, what that means, and the value that leaves them out
REMOVABLE: Mapping[str, tuple[str, float]] = {
    "dram_ramp_s": ("ramp of DRAM (none)", 0), "spilled_rate": ("spills (none)", 1),
    "persistent_share": ("loads ahead (none)", 1), "tensor_energy_pj": ("limit of power (none)", 0),
    "element_instructions": ("FP32 products (none)", 0), "narrow_share": ("slower 8-bit products (not slower)", 1),
    "conversion_instructions": ("conversions, element by element (none)", 0),
    "copied_bytes_per_clock": ("copies by index (as fast as streams)", 1e9),
}  # fmt: skip
ConstantsOf = Mapping[str, Constants]  # generation -> its constants; of the others, the calibrated ones


@cache
def device(name: str, settings: tuple[str, ...] = ()) -> Device:
    """A preset, changed by `settings`."""
    return Device.model_validate(with_settings(read_yaml(presets()[f"gpu/{name}"]), settings))


def predicted_s(shapes: Shapes, settings: Sequence[str] = (), of: ConstantsOf | None = None) -> Floats:
    """(rows,) float64, seconds of every row; NaN where the model has nothing to say."""
    found = np.full(len(shapes), np.nan)
    for kind, rows in shapes.kinds.items():
        name, _, operation, _, _, source, _ = kind
        framework_s = FRAMEWORK_S.get((name, operation), 0.0) if source == "LLMCompass" else 0.0
        found[rows] = _seconds(kind, shapes.at(rows), tuple(settings), of or {}) + framework_s
    return found


def _seconds(kind: tuple[str, ...], part: Shapes, settings: tuple[str, ...], of: ConstantsOf) -> Floats:
    name, kernel, operation, given_dtype, given_kv_dtype, source, impl = kind
    dtype, kv_dtype = cast(Dtype, given_dtype), cast(Dtype, given_kv_dtype)
    others = tuple(one for one in settings if not one.startswith(CONSTANT))
    on = device(name, (*others, *UNLAUNCHED) if source == KERNELS_ONLY else others)
    known = of.get(on.generation) or constants(on.generation)
    changes = [one.removeprefix(CONSTANT).partition("=") for one in settings if one.startswith(CONSTANT)]
    if changes:
        known = known.model_copy(update={name: float(value) for name, _, value in changes})
    launches = small_kernels(operation, source, impl, kv_dtype)
    if operation in ATTENTION:
        return vectorised.attention_seconds(
            on, load_kernel(kernel), batch=part.batch, heads=part.heads_q, heads_kv=part.heads_kv,
            queries=part.seqlen_q, keys=part.kv_len, head_dim=part.head_dim, causal=part.causal > 0,
            window=part.window, dtype=dtype, kv_dtype=kv_dtype,
            before=before(operation, source, impl, dtype, kv_dtype), launches=launches, cold=source in COLD,
            constants=known,
        )  # fmt: skip
    if operation.startswith("mla"):
        return vectorised.mla_seconds(
            on, load_kernel(kernel), batch=part.batch, heads=part.heads_q, queries=part.seqlen_q, keys=part.kv_len,
            absorbed=operation == "mla-generation", dtype=dtype, kv_dtype=kv_dtype, launches=launches,
            library="sglang" if source.endswith("sglang") else "tensorrt-llm", constants=known,
        )  # fmt: skip
    if operation in ("gemm", "bmm", "linear"):
        return vectorised.gemm_seconds(
            on, rows=part.m, outputs=part.n, depth=part.k, copies=np.maximum(part.batch, 1), dtype=dtype,
            library=library(source, impl), quantises=quantisations(dtype, source),
            launches=SCALE_KERNELS if quantisations(dtype, source) > 1 else 0,
            in_l2=in_l2(on, source, part), constants=known,
        )  # fmt: skip
    # all operands but the result are read; these sources run an operation between others, which empty L2
    result, vidur = part.m * part.n * part.dtype_bytes, source == KERNELS_ONLY
    return vectorised.elementwise_seconds(
        on, read_bytes=part.bytes - result, write_bytes=result, warm=False,
        scalar_loads=SCALAR_LOADS.get(operation, 0) * vidur,
        just_written_bytes=(part.bytes - result) * JUST_WRITTEN.get(operation, 0.0) * vidur,
        walked=walked(operation, source, part), constants=known,
    )  # fmt: skip


def walked(operation: str, source: str, part: Shapes) -> WalkedRows | None:
    """Rows of PyTorch's norms and softmaxes, which reduce them first.

    layer_norm_kernel.cu: 128 threads a row, its statistics, then the row again. SoftMax.cu: up to 1,024 columns in
    registers, else a maximum, a sum and the result, by as many threads as half of its vectors of 16 bytes, 512 at most.
    """
    if source == "vidur" or operation not in ("layernorm", "softmax"):
        return None
    row = part.n * part.dtype_bytes
    if operation == "layernorm":
        return WalkedRows(part.m, row, row, np.full_like(row, 2.0), np.full_like(row, 128.0))
    vectors = np.minimum(part.n * part.dtype_bytes / 16, 1024) / 2
    threads = np.maximum(2.0 ** np.ceil(np.log2(np.maximum(vectors, 1))), 32)
    return WalkedRows(part.m, row, row, np.where(part.n > 1024, 3.0, 1.0), threads)


def library(source: str, impl: str) -> GemmLibrary:
    """Whose choice of tiles a timed product has; vidur's calls are of 2023."""
    return "cublas-12.1" if source == "vidur" else "sgl-kernel" if "sgl_kernel" in impl else "best"


def in_l2(on: Device, source: str, part: Shapes) -> InL2 | None:
    """What L2 has when a timed product of aiconfigurator starts."""
    return timed_in_l2(on, source, part.m, part.n, part.k, part.dtype_bytes) if source.startswith(LIBRARY) else None


def timed_in_l2(
    on: Device, source: str, m: ArrayLike, n: ArrayLike, k: ArrayLike, element_bytes: ArrayLike
) -> InL2:  # fmt: skip
    """Its collectors call several products in turn: SGLang's six have operands of their own.

    vLLM's six and TensorRT-LLM's share their rows and results, and have weights of their own; TensorRT-LLM's are as
    many as exceed L2, five at most. Every partition of L2 keeps copies of its own.
    """
    first, second, third, width = np.broadcast_arrays(*(np.atleast_1d(np.asarray(size, dtype=np.float64))
                                                        for size in (m, n, k, element_bytes)))  # fmt: skip
    rows, weights, results = 2 * first * third, width * third * second, 2 * first * second
    own = rows + results + np.where(width < 2, width * first * third, 0)
    if source.endswith("sglang"):
        kept = share_in_l2(on.l2_kept_bytes, SETS * (own + weights))
        return InL2(kept, kept, kept)
    fewest = SETS if source.endswith("vllm") else np.clip(np.ceil(on.l2_bytes / weights), 1, MOST_WEIGHTS)
    kept = share_in_l2(on.l2_kept_bytes, own + weights)
    return InL2(kept, kept, share_in_l2(on.l2_kept_bytes, own + fewest * weights))


def before(operation: str, source: str, impl: str = "", dtype: str = "", kv_dtype: str = "") -> Before:
    """What the measured call runs ahead of attention (headers of the public files).

    vLLM's kernel copies token by token, SGLang's stores rows as they lie; beside trtllm-gen one of its own converts
    them to 8 bits, and the largest query of a prompt is sought first (scaled_fp8_quant without a scale; that decoding
    does without is assumed). TensorRT-LLM rotates, but where it calls FlashInfer; its kernel runs in encoders, too
    (attentionOp.cpp, invokeQKVPreprocessing).
    """
    own = source.endswith("trtllm")
    if impl in UNFUSED:
        return "heads_apart"
    if operation == "encoder" or not source.startswith(LIBRARY):
        return "passed" if own else "nothing"
    if source.endswith("vllm"):
        return "cache_by_token"
    if own:
        return "cache_appended" if "flashinfer" in impl else "rotation"
    if impl == "sglang:trtllm_mha" and kv_dtype == "fp8":
        return "scale_sought" if operation == "prefill" else "cache_converted"
    return "cache_stored"


def small_kernels(operation: str, source: str, impl: str, kv_dtype: str) -> int:
    """Those that a timed call of a serving library launches beside attention, the cache and rotation.

    SGLang and vLLM make lengths and schedules before the clock starts (collect_attn.py of either); SGLang quantises
    queries of an 8-bit cache in the call. TensorRT-LLM decodes in one operation.
    """
    if operation.startswith("mla") and source.endswith("sglang"):
        return _latent_kernels(operation, impl, kv_dtype)
    if source == f"{LIBRARY} trtllm":
        return 0 if operation == "decode" else LIBRARY_KERNELS
    return int(operation == "decode" and kv_dtype == "fp8" and impl in QUANTISES)


def _latent_kernels(operation: str, impl: str, kv_dtype: str) -> int:
    """SGLang, trtllm_mla_backend.py: a step merges queries, or rotates them to 8 bits; a prompt puts keys together.

    Keys and values of 8 bits are cast, each by a kernel (the same); where FlashAttention reads the cache, the part of
    keys that is rotated is cast by a kernel of its own (memory_pool.py, set_mla_kv_buffer).
    """
    narrow = int(kv_dtype == "fp8")
    if impl != "sglang:trtllm_mla":
        return narrow
    return 1 if operation == "mla-generation" else 1 + 2 * narrow


def quantisations(dtype: str, source: str) -> int:
    """Kernels before an 8-bit product: a scale for each row (SGLang: one kernel) or one for all (TensorRT-LLM: two)."""
    return 0 if dtype != "fp8" else 2 if source.endswith("trtllm") else 1


@cache
def left_out_constants() -> Mapping[str, Constants]:
    """Device -> constants without it."""
    return {name: validate(Constants, found, LEFT_OUT_FILE.name) for name, found in read_yaml(LEFT_OUT_FILE).items()}


def predicted_unseen_s(shapes: Shapes) -> Floats:
    """(rows,) float64, seconds of every row, with the constants that have not seen its device."""
    found = np.full(len(shapes), np.nan)
    for name, known in left_out_constants().items():
        rows = np.flatnonzero(shapes.device == name)
        if len(rows):
            found[rows] = predicted_s(shapes.at(rows), of={LEFT_OUT[name][0]: known})
    return found


def predicted_cycle_level_s(shapes: Shapes, of: Mapping[str, CycleConstants] | None = None) -> Floats:
    """(rows,) float64, seconds of every row of attention: one SM, its groups of warps by their dependences.

    What a library runs besides the kernel is as in the closed form. NaN where the model has nothing to say. `of`:
    constants of the cycle level by architecture, the calibrated ones where left out.
    """
    closed, found = predicted_s(shapes), np.full(len(shapes), np.nan)
    sizes = ("batch", "heads_q", "heads_kv", "seqlen_q", "kv_len", "head_dim", "causal", "window")
    for row in np.flatnonzero(np.isin(shapes.operation, ATTENTION) & np.isfinite(closed)).tolist():
        on = device(str(shapes.device[row]))
        batch, heads, key_heads, queries, keys, head_dim, causal, window = (
            int(getattr(shapes, name)[row]) for name in sizes
        )
        asked = shape(batch, heads, key_heads, queries, keys, head_dim, None, causal > 0, window)
        dtype, kv_dtype = (cast(Dtype, str(column[row])) for column in (shapes.dtype, shapes.kv_dtype))
        case = case_of(on, load_kernel(str(shapes.kernel[row])), constants(on.generation), asked, dtype, kv_dtype,
                       str(shapes.source[row]) in COLD)  # fmt: skip
        timing = attention_timing(case)
        known = None if of is None else of.get(on.generation)
        cycle_level_s = run(attention_program(case, timing, known)).cycles / on.clock_hz
        found[row] = closed[row] - float(timing.total_s[0]) + cycle_level_s
    return found


@cache
def peak_flops(name: str, dtype: str) -> float:
    """FLOP per second as the vendor states them; FP32 on the FP32 units."""
    stated = device(name).datasheet
    tensor = None if dtype == "fp32" else getattr(stated.tensor_tflops, dtype)
    return 1e12 * float(tensor or stated.fp32_tflops)


def roofline_s(shapes: Shapes) -> Floats:
    """(rows,) float64, the larger of FLOPs over the vendor's peak and bytes over the vendor's bandwidth."""
    pairs = list(zip(shapes.device.tolist(), shapes.dtype.tolist(), strict=True))
    peak = np.array([peak_flops(*pair) for pair in pairs])
    bandwidth = np.array([device(name).datasheet.dram_bytes_per_s for name, _ in pairs])
    return np.asarray(np.maximum(shapes.flops / peak, shapes.bytes / bandwidth), dtype=np.float64)


def neighbour_s(shapes: Shapes, measured: Shapes) -> Floats:
    """(rows,) float64, the time of the nearest calibration row, scaled by the ratio of the rooflines.

    Nearest in the logarithms of all extents, among the rows of `measured` of the same source, device, kernel and
    types; NaN where there is none. No scored latency is read.
    """

    def kinds(of: Shapes) -> np.ndarray[tuple[int], np.dtype[np.str_]]:
        columns = (of.source, of.device, of.kernel, of.operation, of.dtype, of.kv_dtype)
        return np.array([" ".join(each) for each in zip(*columns, strict=True)], dtype=np.str_)

    measured = measured.at(measured.split == CALIBRATION)
    own, theirs = kinds(shapes), kinds(measured)
    near, far = (np.stack([np.log2(1 + getattr(of, name)) for name in SHAPE], axis=1) for of in (shapes, measured))
    scale, roofline = roofline_s(shapes), roofline_s(measured)
    found = np.full(len(shapes), np.nan)
    for kind in sorted(set(own)):
        here, there = np.flatnonzero(own == kind), np.flatnonzero(theirs == kind)
        if len(there):
            distance = np.abs(near[here, None, :] - far[None, there, :]).sum(axis=2)
            nearest = there[distance.argmin(axis=1)]
            found[here] = measured.latency_s[nearest] * scale[here] / roofline[nearest]
    return found
