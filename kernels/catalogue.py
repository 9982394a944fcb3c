"""All kernels that ship: families, and what a variant is that is compiled ahead of time, with the work it must do.

The work of one iteration of the loop that matters is derived from the algorithm; the compiled instructions are held
against it. Knows no compiler: `validation.kernels.compile` compiles and `validation.kernels.gates` counts. A new family
is a folder with a `variants` module; it is listed here. Importing this needs no torch and no triton.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from importlib import import_module
from typing import Any, NamedTuple

from cascadesim.kernels.cuda.source import CudaFunction


class TileProduct(NamedTuple):
    """A matrix product of tiles: M x K times K x N."""

    m: int
    n: int
    k: int

    @property
    def flop(self) -> int:
        return 2 * self.m * self.n * self.k


@dataclass(frozen=True)
class LoopWork:
    """What one program does per turn of one loop, which is a key tile in attention.

    `exponentials`: one per score. `replicated_rows`: rows with an exponential of their own (PRM), which every thread
    that shares the row computes: the compiled code has a power of two of them per row. `copies`: loops that do this
    work, one after another, because the source unrolls what is around them.
    """

    products: tuple[TileProduct, ...]
    exponentials: int = 0
    replicated_rows: int = 0
    copies: int = 1
    operand_bytes: int = 2  # of an element: a matrix instruction takes 32 bytes of each row

    @property
    def matrix_flop(self) -> int:
        return sum(product.flop for product in self.products)


@dataclass(frozen=True)
class Variant:
    """`loops`: one entry per innermost loop with matrix products, in program order, or with exponentials where the
    matrix unit has no products; empty: neither is counted."""

    name: str
    family: str
    function: Any  # the @triton.jit function, or a CudaFunction
    signature: Mapping[str, str]
    constants: Mapping[str, Any]
    warps: int
    stages: int
    loops: tuple[LoopWork, ...] = ()
    unaligned: frozenset[str] = field(default_factory=frozenset)  # integers that need not divide by 16
    instruction: str | None = None  # the matrix instruction that the source names; None: the widest of the device

    @property
    def is_cuda(self) -> bool:
        """CUDA C++ rather than Triton."""
        return isinstance(self.function, CudaFunction)


def signature(text: str) -> dict[str, str]:
    """Arguments -> their types, in Triton's spelling, of a text such as `Q K:*fp16 P M:i32`."""
    return {name: kind for names, kind in re.findall(r"([\w ]+):(\S+)", text) for name in names.split()}


def typed(variant: Variant, dtype: str) -> Variant:
    """A variant in fp16 for operands of another type; float32 is multiplied on the FP32 units."""
    signature = {name: f"*{dtype}" if kind == "*fp16" else kind for name, kind in variant.signature.items()}
    name = variant.name.replace("fp16", dtype)
    if dtype != "fp32":
        return replace(variant, name=name, signature=signature)
    constants = {**variant.constants, "PRECISION": "ieee"}
    return replace(variant, name=name, signature=signature, constants=constants, loops=())


FAMILIES = (
    "attention", "neighborhood_attention", "token_rows", "decode_attention", "pruned_attention", "microbenchmarks",
)  # fmt: skip


def families() -> tuple[str, ...]:
    """What `cascadesim list kernels` prints."""
    return FAMILIES


def variants(target: int) -> Iterator[Variant]:
    """`target`: compute capability, 80, 90 or 100. Imports torch and triton."""
    for family in FAMILIES:
        yield from import_module(f"cascadesim.kernels.{family}.variants").variants(target)
