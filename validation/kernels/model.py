"""Our kernels as the GPU model sees them, and which of them a variant of a measured case launches, on what.

Tiles, warps, registers and instructions are those of the disassembly (kernels/static_counts.json), loop by loop:
nothing is guessed of the instruction mix. Rates, overlap and memory are the model's own. Names of variants are those of
`measure.cases`; what depends on the data (values by tile, top-k) has no calls: nothing is predicted of it, for a stated
reason. Single rates and the library's kernels are in `predicted_times`. Needs no torch.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from math import prod
from typing import Any, Literal, TypeAlias, cast

import numpy as np

from cascadesim.accelerators.gpu import timing
from cascadesim.accelerators.gpu.attention import tile
from cascadesim.accelerators.gpu.attention.tile import AttentionCase, Cycles
from cascadesim.accelerators.gpu.batch import attention_seconds
from cascadesim.accelerators.gpu.calibration import constants
from cascadesim.accelerators.gpu.grid import Shape, shape
from cascadesim.accelerators.gpu.kernel import Kernel, Tile, load_kernel
from cascadesim.accelerators.gpu.memory import stream_seconds
from cascadesim.accelerators.gpu.spec import Device, Dtype
from cascadesim.accelerators.gpu.timing import AttentionTiming
from cascadesim.validation.claim import PredictedFigures, Settings
from cascadesim.validation.gpu.model import device
from cascadesim.validation.kernels.compile import THREADS_PER_WARP, target_of
from cascadesim.validation.kernels.gates import WIDE_ROWS
from cascadesim.validation.table import Layout, Row, columns_of, count, not_negative

PRESETS = {
    "NVIDIA H100 80GB HBM3": "h100-sxm", "NVIDIA H100 PCIe": "h100-pcie", "NVIDIA H200": "h200-sxm",
    "NVIDIA B200": "b200", "NVIDIA A100-SXM4-80GB": "a100-sxm", "NVIDIA A100-SXM4-40GB": "a100-sxm-40gb",
    "NVIDIA A100 80GB PCIe": "a100-sxm", "NVIDIA A40": "a40", "NVIDIA L40S": "l40s", "NVIDIA L4": "l4",
    "NVIDIA GeForce RTX 4090": "rtx4090",
}  # fmt: skip # names as the driver reports them -> presets; a PCIe part without its own is taken as the SXM one
HALF_BYTES, FLOAT_BYTES = 2, 4
SPLITS = {"packs_group": True, "splits_keys": True, "split_waves": 2, "keys_per_split": 256, "always_combines": True,
          "extra_kernels": 1}  # kernels/decode_attention/triton.py: PROGRAMS_PER_SM, SPLIT_KEYS, decode_reduce
StaticCounts: TypeAlias = Mapping[str, Any]  # a kernel of static_counts.json
Instructions: TypeAlias = Literal["mma_sync", "wgmma", "tcgen05"]
WIDEST: Mapping[int, Instructions] = {80: "mma_sync", 90: "wgmma", 100: "tcgen05"}
ISSUED_PER_CLOCK = 4  # warps that an SM issues for in a clock: one a scheduler
THREADS_PER_SM = 2048  # CUDA C++ programming guide, table of compute capabilities: 8.0, 9.0, 10.0
REGISTER_STEP = 8  # the same: registers of a thread are given out in eights
RESERVED_SHARED_BYTES = 1024  # the same: of each block, for the system
WITH_TWO_LOOPS = ("attention", "neighborhood_attention")  # families: whole tiles, then masked ones
ShapeOfCase: TypeAlias = Mapping[str, Any]  # the shape, or the work, that a record states


@dataclass(frozen=True)
class Streamed:
    """A kernel that only moves bytes."""

    read_bytes: int
    write_bytes: int


@dataclass(frozen=True)
class Attended:
    """A kernel with counts, or one of the library's: of accelerators/gpu/kernels. Sizes as in `accelerators.gpu.shape`.
    `masked`: share of its tiles with a mask."""

    kernel: str
    batch: int
    heads: int
    heads_kv: int
    queries: int
    keys: int
    head_dim: int
    value_dim: int | None = None
    causal: bool = False
    visited_keys: float = 0.0
    masked: float | None = None
    traits: Mapping[str, Any] = field(default_factory=dict)
    library: bool = False


KernelCall: TypeAlias = Attended | Streamed


def calls_of(suite: str, shape: ShapeOfCase, work: ShapeOfCase) -> Mapping[str, Sequence[KernelCall]]:
    """Variant -> its kernels; none for a suite without predictions."""
    of = {"attention": _attention, "decode": _decode, "neighborhood": _neighborhood, "pruned": _pruned}
    return of[suite](shape, work) if suite in of else {}


DATA = "what it fetches depends on the data"
SELECTS = "no model of selecting: the time depends on the data"
UNPREDICTED: Mapping[str, str] = {
    "top-k": SELECTS, "top-k, radix select": SELECTS, "torch top-k": SELECTS, "values by tile": DATA,
    "values masked": "the kernel that masks single values is not described",
}  # fmt: skip # variant of ours -> why nothing is predicted of it


def _attention(shape: ShapeOfCase, work: ShapeOfCase) -> Mapping[str, Sequence[KernelCall]]:
    B, H, L, D, causal = (shape[name] for name in ("B", "H", "L", "D", "causal"))
    end = f"fp16 D{D}{' causal' * causal}"
    compiled = {f"attention-{passes}pass": f"attention-{passes}pass {end}" for passes in (1, 2, 3)}
    compiled["attention-1pass, mma.sync"] = f"mma.sync attention {end}"
    found: dict[str, Sequence[KernelCall]] = {
        variant: (Attended(counts, B, H, H, L, L, D, causal=causal),) for variant, counts in compiled.items()
    }
    # bound by memory: scores written, read and written, read; 4 bytes each
    one, many = HALF_BYTES * B * H * L * D, FLOAT_BYTES * (B * H * L * L // (1 + causal))
    stored = (Streamed(2 * one, many), Streamed(many, many), Streamed(many + one, one))
    return {**found, "attention-3pass-stored": stored}


def _decode(shape: ShapeOfCase, work: ShapeOfCase) -> Mapping[str, Sequence[KernelCall]]:
    B, H, G, M, D = (shape[name] for name in "BHGMD")
    return {
        variant: (Attended(f"decode {paged}fp16 D{D}", B, H, G, 1, M, D, traits=SPLITS),)
        for variant, paged in (("split keys", ""), ("split keys, paged", "paged "))
    }


def _neighborhood(shape: ShapeOfCase, work: ShapeOfCase) -> Mapping[str, Sequence[KernelCall]]:
    """A list of tiles holds those of the boxes."""
    H, D, tokens = shape["H"], shape["D"], prod(shape["layout"])
    visited = work["key_tiles"] * prod(shape["key_tile"]) / -(-tokens // prod(shape["query_tile"]))
    moved = HALF_BYTES * H * tokens * D
    masked = 1 - work["without_mask"] / work["key_tiles"]

    def walked(kernel: str, masked: float) -> tuple[Attended, ...]:
        counts = f"{kernel} fp16 D{D}"
        return (Attended(counts, 1, H, H, tokens, tokens, D, visited_keys=visited, masked=masked),)

    boxes = f"neighborhood {len(shape['layout'])}-D"
    return {
        "attention in tile order": walked(boxes, masked),
        "masks in every tile": walked(boxes, 1.0),
        "list of tiles": walked("block-sparse", masked),
        "permutation": (Streamed(moved, moved),) * 3,
        "inverse permutation": (Streamed(0, moved), Streamed(moved, moved)),  # zeros first
        "dense, ours": (Attended(f"attention-1pass fp16 D{D}", 1, H, H, tokens, tokens, D),),
    }


def _pruned(shape: ShapeOfCase, work: ShapeOfCase) -> Mapping[str, Sequence[KernelCall]]:
    """A case has some of these. Column sums keep keys and walk over queries; they have no values."""
    if "upper_bytes" in work:
        return _progressive(shape, work)
    H, M, D = (shape[name] for name in "HMD")
    kept, kept_heads = shape.get("kept", M), shape.get("kept_heads", H)
    dense, gathered = f"attention-1pass fp16 D{D}", f"pruned attention fp16 D{D}, values by none"
    moved = HALF_BYTES * H * kept * D

    def attended(counts: str, heads: int, keys: int) -> tuple[Attended, ...]:
        return (Attended(counts, shape["B"], heads, heads, M, keys, D),)

    return {
        **dict.fromkeys(("dense", "forward", "forward, denominators kept"), attended(dense, H, M)),
        "dense after compaction": attended(dense, H, kept),
        "gathered": attended(gathered, H, kept),
        **dict.fromkeys(("all heads", "all values"), attended(gathered, H, M)),
        f"{kept_heads} heads": attended(gathered, kept_heads, M),
        "column sums": (Attended(f"column sums fp16 D{D}", shape["B"], H, H, M, M, D, 1),),
        "compaction": (Streamed(moved, moved),),
        "importance of heads": (Streamed(HALF_BYTES * H * M * D, 0),),
    }


def _progressive(shape: ShapeOfCase, work: ShapeOfCase) -> Mapping[str, Sequence[KernelCall]]:
    """Few bits are unpacked and multiplied on the FP32 units; taken as bound by memory, pass by pass."""
    B, H, M, D = (shape[name] for name in "BHMD")
    upper, rest = Streamed(work["upper_bytes"], 0), Streamed(work["all_bytes"] - work["upper_bytes"], 0)
    return {
        "upper 4 bits": (upper,),
        "all 8 bits": (upper, rest),
        "16 bits, full width": (Attended(f"decode fp16 D{D}", B, H, H, 1, M, D, traits=SPLITS),),
    }


def seconds_of(calls: Sequence[KernelCall], preset: str, settings: Settings = ()) -> float | None:
    """One kernel after the other; None where one is not described, or has no counts, for the device."""
    on = device(preset, tuple(settings))
    each = [_seconds(call, on) for call in calls]
    known = [time_s for time_s in each if time_s is not None]
    return sum(known) if len(known) == len(each) else None


def _seconds(call: KernelCall, on: Device) -> float | None:
    if isinstance(call, Streamed):
        return float(stream_seconds(on, constants(on.generation), call.read_bytes, call.write_bytes, warm=False)[0])
    if call.library:
        kernel = load_kernel(call.kernel)
        time_s = np.nan if on.generation not in kernel.generations else float(attention_seconds(
            on, kernel, batch=call.batch, heads=call.heads, heads_kv=call.heads_kv, queries=call.queries,
            keys=call.keys, head_dim=call.head_dim, causal=call.causal, dtype="fp16", cold=True,
        )[0])  # fmt: skip
        return time_s if np.isfinite(time_s) else None
    counts = counted().get((call.kernel, target_of(on.compute_capability) or 0))
    if counts is None:
        return None
    asked = shape(call.batch, call.heads, call.heads_kv, call.queries, call.keys, call.head_dim, call.value_dim,
                  call.causal, visited_keys=call.visited_keys)  # fmt: skip
    return float(call_timing(counts, on, asked, masked=call.masked, **call.traits).total_s[0])


@cache
def counted() -> Mapping[tuple[str, int], StaticCounts]:
    """(kernel, compute capability compiled for) -> its counts."""
    text = resources.files("cascadesim.kernels").joinpath("static_counts.json").read_text(encoding="utf-8")
    return {(each["name"], each["target"]): each for each in json.loads(text)["kernels"]}


STATIC_COUNTS = Layout(
    (*columns_of(str, "case"), *columns_of(count, "gpu loop"), *columns_of(not_negative, "matrix_flop exponentials")),
    key=("case", "gpu", "loop"),
)


def compiled_counts(row: Row, settings: Settings = ()) -> PredictedFigures:
    """Counts one loop of the kernel, all warps of a program together."""
    kernel = counted().get((row.text("case"), row.count("gpu")))
    loops = kernel["loops"] if kernel else []
    loop = loops[row.count("loop") - 1] if row.count("loop") <= len(loops) else None
    return {name: float(loop[name]) if loop else None for name in ("matrix_flop", "exponentials")}


def call_timing(
    counts: StaticCounts, on: Device, asked: Shape, *, masked: float | None = None, **traits: Any
) -> AttentionTiming:
    """One call in fp16, keys not in L2. `masked`: share of key tiles with a mask; None: what the shape's mask cuts."""
    case = tile.case_of(on, descriptor(counts, on, **traits), constants(on.generation), asked, "fp16", "fp16",
                   cold_keys=True)  # fmt: skip
    return timing.attention_timing(case, loop_cycles(case, counts, masked))


def descriptor(counts: StaticCounts, on: Device, dtype: Dtype = "fp16", **traits: Any) -> Kernel:
    """What the counts say; `traits`: fields of Kernel that no count says, such as how keys are split."""
    head_dim, queries, keys = tile_of(counts)
    whole = counts["loops"][::2] if has_masked_loops(counts) else counts["loops"]
    issued = sum(_issued(counts, loop) for loop in whole) * THREADS_PER_WARP
    exponentials = sum(loop["exponentials"] for loop in whole)
    tile = Tile(head_dim=head_dim, queries=queries, keys=keys, blocks_per_sm=resident_blocks(counts, on))
    narrow = counts.get("language") == "cuda" or queries < WIDE_ROWS
    return Kernel(
        name=counts["name"], source="kernels/static_counts.json", phases=("prefill", "decode"),
        generations=(on.generation,), dtypes=(dtype,), tiles=(tile,), threads=counts["warps"] * THREADS_PER_WARP,
        stages=counts["stages"], overlap="plain", instructions="mma_sync" if narrow else WIDEST[counts["target"]],
        instructions_per_score=(issued - exponentials) / (queries * keys), **traits,
    )  # fmt: skip


def tile_of(counts: StaticCounts) -> tuple[int, int, int]:
    """Head dimension, rows that a block keeps, and keys of a tile; column sums keep keys and walk over queries."""
    of: Mapping[str, int] = counts["constants"]
    if counts["name"].startswith("column sums"):
        return of["E"], of["M0"], of["P0"]
    return of.get("E") or of["F"], of["P0"], of.get("M0") or prod(of[f"U{axis}"] for axis in range(3))


def resident_blocks(counts: StaticCounts, on: Device) -> int:
    """Blocks that fit an SM, by threads, registers (4 bytes each) and shared memory."""
    threads = counts["warps"] * THREADS_PER_WARP
    registers = -(-counts["registers"] // REGISTER_STEP) * REGISTER_STEP
    by_shared = on.sm.shared_memory_bytes // (counts["shared_bytes"] + RESERVED_SHARED_BYTES)
    by_registers = on.sm.register_file_bytes // (4 * registers * threads)
    return int(max(1, min(by_shared, by_registers, THREADS_PER_SM // threads)))


def loop_cycles(case: AttentionCase, counts: StaticCounts, masked: float | None = None) -> tuple[Cycles, ...]:
    """Cycles of each pass over the keys: of a whole tile, and of a masked one in the share of tiles that are."""
    each = [_cycles(case, counts, loop) for loop in counts["loops"]]
    if not has_masked_loops(counts):
        return tuple(each)
    share = case.work.masked / case.work.visited if masked is None else masked
    return tuple(
        cast(Cycles, tuple(one + share * (other - one) for one, other in zip(whole, cut, strict=True)))
        for whole, cut in zip(each[::2], each[1::2], strict=True)
    )


def has_masked_loops(counts: StaticCounts) -> bool:
    """Whether loops come in pairs: tiles without a mask, then those with one."""
    if counts["family"] not in WITH_TWO_LOOPS:
        return False
    of = counts["constants"]
    return bool(counts.get("language") == "cuda" or of.get("CAUSAL", True) or of.get("RAGGED"))


def _issued(counts: StaticCounts, loop: Mapping[str, Any]) -> int:
    """Instructions of all warps in an iteration, besides products."""
    return int(counts["warps"] * (loop["instructions_per_warp"] - loop["classes"].get("matrix", 0)))


def _cycles(case: AttentionCase, counts: StaticCounts, loop: Mapping[str, Any]) -> Cycles:
    """Cycles of one SM for an iteration: the counts over the rates; shared memory in proportion to the products."""
    on, known = case.device, case.constants
    reached = known.tensor_fraction * tile.legacy_rate(case.kernel.instructions, on.generation)
    tile_flop = 2.0 * case.tiles.queries * case.tiles.keys * (case.tiles.head_dim + case.value_dim)
    tensor = loop["matrix_flop"] / (on.flop_per_clock_sm(case.dtype) * reached)
    special = loop["exponentials"] / (on.sm.special_per_clock * known.special_fraction)
    issue = _issued(counts, loop) / ISSUED_PER_CLOCK
    shared = tile.tile_cycles(case)[3] * loop["matrix_flop"] / tile_flop
    one = np.ones_like(shared)
    return tensor * one, special * one, issue * one, shared
