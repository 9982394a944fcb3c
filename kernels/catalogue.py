"""All kernels that ship: families, and every variant that is compiled ahead of time.

A new family is a folder with a `variants` module; it is listed here. Importing this needs no torch and no triton.
"""

from __future__ import annotations

from collections.abc import Iterator
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
    from cascadesim.kernels.attention import variants as attention
    from cascadesim.kernels.decode_attention import variants as decode_attention
    from cascadesim.kernels.microbenchmarks import variants as microbenchmarks
    from cascadesim.kernels.neighborhood_attention import variants as neighborhood_attention
    from cascadesim.kernels.pruned_attention import variants as pruned_attention
    from cascadesim.kernels.token_rows import variants as token_rows

    for family in (attention, neighborhood_attention, token_rows, decode_attention, pruned_attention, microbenchmarks):
        yield from family.variants(target)
