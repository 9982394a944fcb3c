"""Our kernels as the GPU model sees them: tiles, warps, registers and instructions from the static counts.

Nothing is guessed of their instruction mix: products, exponentials and issue slots of a key tile are those of the
disassembly (kernels/static_counts.json), loop by loop. Rates, overlap and memory are the model's own. Needs no torch.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from math import prod
from typing import Any, Literal, TypeAlias, cast

import numpy as np

from cascadesim.accelerators.gpu.calibration import constants
from cascadesim.accelerators.gpu.grid import Shape
from cascadesim.accelerators.gpu.kernel import Kernel, Tile
from cascadesim.accelerators.gpu.spec import Device, Dtype
from cascadesim.accelerators.gpu.timing import (
    LEGACY_RATE,
    AttentionCase,
    AttentionTiming,
    Cycles,
    attention_timing,
    case_of,
    tile_cycles,
)

Counts: TypeAlias = Mapping[str, Any]  # a kernel of static_counts.json
Instructions: TypeAlias = Literal["mma_sync", "wgmma", "tcgen05"]
TARGETS = {"8": 80, "9": 90, "10": 100}  # major compute capability -> the one that was compiled for
WIDEST: Mapping[int, Instructions] = {80: "mma_sync", 90: "wgmma", 100: "tcgen05"}
WIDE_ROWS = 64  # rows from which they are used; PTX ISA, wgmma
WARP_THREADS, ISSUED_PER_CLOCK = 32, 4  # threads of a warp; warps that an SM issues for in a clock: one a scheduler
THREADS_PER_SM = 2048  # CUDA C++ programming guide, table of compute capabilities: 8.0, 9.0, 10.0
REGISTER_STEP = 8  # the same: registers of a thread are given out in eights
RESERVED_SHARED_BYTES = 1024  # the same: of each block, for the system
WITH_TWO_LOOPS = ("attention", "neighborhood_attention")  # families: whole tiles, then masked ones


@cache
def counted() -> Mapping[tuple[str, int], Counts]:
    """(kernel, compute capability compiled for) -> its counts."""
    text = resources.files("cascadesim.kernels").joinpath("static_counts.json").read_text(encoding="utf-8")
    return {(each["name"], each["target"]): each for each in json.loads(text)["kernels"]}


def target_of(device: Device) -> int | None:
    """None where our kernels are compiled for nothing of its kind."""
    return TARGETS.get(device.compute_capability.partition(".")[0])


def descriptor(counts: Counts, device: Device, dtype: Dtype = "fp16", **traits: Any) -> Kernel:
    """What the counts say; `traits`: fields of Kernel that no count says, such as how keys are split."""
    head_dim, queries, keys = tile_of(counts)
    issued = sum(_issued(counts, loop) for loop in _whole_loops(counts)) * WARP_THREADS
    exponentials = sum(loop["exponentials"] for loop in _whole_loops(counts))
    tile = Tile(head_dim=head_dim, queries=queries, keys=keys, blocks_per_sm=resident_blocks(counts, device))
    return Kernel(
        name=counts["name"], source="kernels/static_counts.json", phases=("prefill", "decode"),
        generations=(device.generation,), dtypes=(dtype,), tiles=(tile,), threads=counts["warps"] * WARP_THREADS,
        stages=counts["stages"], overlap="plain", instructions=instructions_of(counts),
        instructions_per_score=(issued - exponentials) / (queries * keys), **traits,
    )  # fmt: skip


def tile_of(counts: Counts) -> tuple[int, int, int]:
    """Head dimension, rows that a block keeps, and keys of a tile; column sums keep keys and walk over queries."""
    of: Mapping[str, int] = counts["constants"]
    if counts["name"].startswith("column sums"):
        return of["E"], of["M0"], of["P0"]
    return of.get("E") or of["F"], of["P0"], of.get("M0") or prod(of[f"U{axis}"] for axis in range(3))


def instructions_of(counts: Counts) -> Instructions:
    narrow = counts.get("language") == "cuda" or tile_of(counts)[1] < WIDE_ROWS
    return "mma_sync" if narrow else WIDEST[counts["target"]]


def resident_blocks(counts: Counts, device: Device) -> int:
    """Blocks that fit an SM, by threads, registers (4 bytes each) and shared memory."""
    threads = counts["warps"] * WARP_THREADS
    registers = -(-counts["registers"] // REGISTER_STEP) * REGISTER_STEP
    by_shared = device.sm.shared_memory_bytes // (counts["shared_bytes"] + RESERVED_SHARED_BYTES)
    by_registers = device.sm.register_file_bytes // (4 * registers * threads)
    return int(max(1, min(by_shared, by_registers, THREADS_PER_SM // threads)))


def call_timing(
    counts: Counts, device: Device, asked: Shape, *, masked: float | None = None, **traits: Any
) -> AttentionTiming:
    """One call in fp16, keys not in L2. `masked`: share of key tiles with a mask; None: what the shape's mask cuts."""
    case = case_of(device, descriptor(counts, device, **traits), constants(device.generation), asked, "fp16", "fp16",
                   cold_keys=True)  # fmt: skip
    return attention_timing(case, loop_cycles(case, counts, masked))


def loop_cycles(case: AttentionCase, counts: Counts, masked: float | None = None) -> tuple[Cycles, ...]:
    """Of each pass over the keys: of a whole tile, and of a masked one in the share of tiles that are."""
    each = [_cycles(case, counts, loop) for loop in counts["loops"]]
    if not has_masked_loops(counts):
        return tuple(each)
    share = case.work.masked / case.work.visited if masked is None else masked
    return tuple(_mixed(whole, cut, share) for whole, cut in zip(each[::2], each[1::2], strict=True))


def _mixed(whole: Cycles, cut: Cycles, share: Any) -> Cycles:
    return cast(Cycles, tuple(one + share * (other - one) for one, other in zip(whole, cut, strict=True)))


def has_masked_loops(counts: Counts) -> bool:
    """Whether loops come in pairs: tiles without a mask, then those with one."""
    if counts["family"] not in WITH_TWO_LOOPS:
        return False
    of = counts["constants"]
    return bool(counts.get("language") == "cuda" or of.get("CAUSAL", True) or of.get("RAGGED"))


def _whole_loops(counts: Counts) -> Sequence[Mapping[str, Any]]:
    loops: Sequence[Mapping[str, Any]] = counts["loops"]
    return loops[::2] if has_masked_loops(counts) else loops


def _issued(counts: Counts, loop: Mapping[str, Any]) -> int:
    """Instructions of all warps in a turn, besides products."""
    return int(counts["warps"] * (loop["instructions_per_warp"] - loop["classes"].get("matrix", 0)))


def _cycles(case: AttentionCase, counts: Counts, loop: Mapping[str, Any]) -> Cycles:
    """Of one SM for a turn: the counts over the rates; shared memory in proportion to the products."""
    device, known = case.device, case.constants
    reached = known.tensor_fraction * LEGACY_RATE.get((case.kernel.instructions, device.generation), 1.0)
    tile_flop = 2.0 * case.tiles.queries * case.tiles.keys * (case.tiles.head_dim + case.value_dim)
    tensor = loop["matrix_flop"] / (device.flop_per_clock_sm(case.dtype) * reached)
    special = loop["exponentials"] / (device.sm.special_per_clock * known.special_fraction)
    issue = _issued(counts, loop) / ISSUED_PER_CLOCK
    shared = tile_cycles(case)[3] * loop["matrix_flop"] / tile_flop
    one = np.ones_like(shared)
    return tensor * one, special * one, issue * one, shared
