"""The microbenchmarks as they are compiled, with the work of one turn of their loop."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

from cascadesim.kernels.catalogue import LoopWork, TileProduct, Variant, signature
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
    block, chains = {"BLOCK": triton.BLOCK}, {"BLOCK": 1024, "CHAINS": triton.CHAINS}
    for name, function, arguments, constants in (
        ("exponential rate", triton.exponential_rate, "X OUT:*fp32 turns:i32", chains),
        ("copy fp16", triton.copy, "X OUT:*fp16 elements:i32", block),
        ("write fp16", triton.write, "OUT:*fp16 elements:i32", block),
        ("read fp16", triton.read, "X:*fp16 OUT:*fp32 elements blocks:i32", block),
        ("clock", triton.clock_rate, "X:*fp32 OUT:*i64 turns:i32", {}),
        ("empty", triton.empty, "X:*fp16", {}),
    ):
        loops = (LoopWork((), prod(chains.values())),) if constants is chains else ()
        yield Variant(name, FAMILY, function, signature(arguments), constants, WARPS, triton.STAGES, loops)


def _matrix_peak(target: int, kind: str, M: int, N: int, K: int) -> Variant:
    operand = f"*{TYPES.get(kind, kind)}"
    constants = {"M": M, "N": N, "K": K, "PRECISION": "ieee" if kind == "fp32" else "tf32"}
    loops = () if kind == "fp32" else (LoopWork((TileProduct(M, N, K),), operand_bytes=BYTES.get(kind, 2)),)
    return Variant(f"matrix peak {kind} {M}x{N}x{K}", FAMILY, triton.matrix_peak,
                   signature(f"A B:{operand} OUT:*fp32 turns:i32"), constants,
                   matrix_warps(M, N), triton.STAGES, loops,
                   instruction=EIGHT_BITS.get(target) if kind == "fp8" else None)  # fmt: skip
