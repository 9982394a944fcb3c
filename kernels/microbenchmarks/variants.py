"""The microbenchmarks as they are compiled, with the work of one turn of their loop."""

from __future__ import annotations

from collections.abc import Iterator

from cascadesim.kernels.microbenchmarks import triton
from cascadesim.kernels.variant import Iteration, Product, Variant

FAMILY = "microbenchmarks"


def variants(target: int) -> Iterator[Variant]:
    """The same for every target."""
    for dtype in ("fp16", "bf16"):
        M, N, K = triton.MATRIX[dtype]
        yield _variant(f"matrix peak {dtype}", triton.matrix_peak, {"A": f"*{dtype}", "B": f"*{dtype}", "OUT": "*fp32",
                       "turns": "i32"}, {"M": M, "N": N, "K": K}, (Iteration((Product(M, N, K),)),))  # fmt: skip
    yield _variant("exponential rate", triton.exponential_rate, {"X": "*fp32", "OUT": "*fp32", "turns": "i32"},
                   {"BLOCK": 1024, "CHAINS": triton.CHAINS})  # fmt: skip
    memory = {"X": "*fp16", "OUT": "*fp16", "elements": "i32"}
    yield _variant("copy fp16", triton.copy, memory, {"BLOCK": triton.BLOCK})
    yield _variant("write fp16", triton.write, {"OUT": "*fp16", "elements": "i32"}, {"BLOCK": triton.BLOCK})
    yield _variant("read fp16", triton.read, {**memory, "OUT": "*fp32", "blocks": "i32"}, {"BLOCK": triton.BLOCK})
    yield _variant("clock", triton.clock_rate, {"X": "*fp32", "OUT": "*i64", "turns": "i32"}, {})
    yield _variant("empty", triton.empty, {"X": "*fp16"}, {})


def _variant(name, function, signature, constants, loops=()) -> Variant:  # type: ignore[no-untyped-def]
    return Variant(name, FAMILY, function, signature, constants, triton.WARPS, triton.STAGES, loops)
