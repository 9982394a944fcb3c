"""All kernels that ship: families, and every variant that is compiled ahead of time.

A new family is a folder with a `variants` module; it is listed here. Importing this needs no torch and no triton.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cascadesim.kernels.variant import Variant

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
