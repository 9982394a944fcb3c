"""The microbenchmarks as they are compiled, with the work of one turn of their loop."""

from __future__ import annotations

from collections.abc import Iterator

from cascadesim.kernels.catalogue import LoopWork, TileProduct, Variant
from cascadesim.kernels.microbenchmarks import FP8_SINCE, MATRIX, WARPS, matrix_warps, triton

FAMILY = "microbenchmarks"
TYPES = {"fp8": "fp8e4nv", "tf32": "fp32"}  # Triton's names of the operands, where they are not the product's
BYTES = {"fp8": 1, "tf32": 4}  # of an operand's element; 2 of the others
EIGHT_BITS = {90: "QGMMA", 100: "UTCQMMA"}  # matrix instructions


def variants(target: int) -> Iterator[Variant]:
    """The same for every target, but for types that it lacks."""
    for kind, M, N, K in MATRIX:
        if kind != "fp8" or target >= FP8_SINCE:
            yield _matrix_peak(target, kind, M, N, K)
    yield _variant("exponential rate", triton.exponential_rate, {"X": "*fp32", "OUT": "*fp32", "turns": "i32"},
                   {"BLOCK": 1024, "CHAINS": triton.CHAINS}, (LoopWork((), 1024 * triton.CHAINS),))  # fmt: skip
    memory = {"X": "*fp16", "OUT": "*fp16", "elements": "i32"}
    yield _variant("copy fp16", triton.copy, memory, {"BLOCK": triton.BLOCK})
    yield _variant("write fp16", triton.write, {"OUT": "*fp16", "elements": "i32"}, {"BLOCK": triton.BLOCK})
    yield _variant("read fp16", triton.read, {**memory, "OUT": "*fp32", "blocks": "i32"}, {"BLOCK": triton.BLOCK})
    yield _variant("clock", triton.clock_rate, {"X": "*fp32", "OUT": "*i64", "turns": "i32"}, {})
    yield _variant("empty", triton.empty, {"X": "*fp16"}, {})


def _matrix_peak(target: int, kind: str, M: int, N: int, K: int) -> Variant:
    operand = f"*{TYPES.get(kind, kind)}"
    signature = {"A": operand, "B": operand, "OUT": "*fp32", "turns": "i32"}
    constants = {"M": M, "N": N, "K": K, "PRECISION": "ieee" if kind == "fp32" else "tf32"}
    loops = () if kind == "fp32" else (LoopWork((TileProduct(M, N, K),), operand_bytes=BYTES.get(kind, 2)),)
    return Variant(f"matrix peak {kind} {M}x{N}x{K}", FAMILY, triton.matrix_peak, signature, constants,
                   matrix_warps(M, N), triton.STAGES, loops,
                   instruction=EIGHT_BITS.get(target) if kind == "fp8" else None)  # fmt: skip


def _variant(name, function, signature, constants, loops=()) -> Variant:  # type: ignore[no-untyped-def]
    return Variant(name, FAMILY, function, signature, constants, WARPS, triton.STAGES, loops)
