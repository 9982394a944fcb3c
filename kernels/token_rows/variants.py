"""The row copies as they are compiled."""

from __future__ import annotations

from collections.abc import Iterator

from cascadesim.kernels.catalogue import Variant, signature
from cascadesim.kernels.token_rows.triton import ROWS, STAGES, WARPS, gather_rows_kernel, scatter_rows_kernel

ARGUMENTS = signature("SOURCE OUT:*fp16 INDEX:*i32 source_rows out_rows:i32")


def variants(target: int) -> Iterator[Variant]:
    """The same for every target."""
    for name, function in (("gather", gather_rows_kernel), ("scatter", scatter_rows_kernel)):
        yield Variant(
            f"{name} rows fp16 D128", "token_rows", function, ARGUMENTS, {"D": 128, "DP": 128, "R": ROWS}, WARPS, STAGES
        )
