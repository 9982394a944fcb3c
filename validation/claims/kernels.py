"""The table of claims about our own kernels that need no GPU: what the compiler made of them does the derived work.

The counts ship in kernels/static_counts.json; tests/kernels holds them against the compiler. Reading this runs nothing.
"""

from __future__ import annotations

from cascadesim.validation.claim import Claim, PredictedFigures, Settings, Suite
from cascadesim.validation.columns import Column, Layout, count, not_negative
from cascadesim.validation.kernels.model import counted
from cascadesim.validation.table import Row

TRITON = "3.9.0"  # whose counts ship, kernels/static_counts.json; the gates hold with 3.6, too
EXACT = "instructions are counted one by one; a tile done twice, or a score too many, would show"

LAYOUT = Layout(
    (
        Column("case", str), Column("gpu", count), Column("loop", count), Column("matrix_flop", not_negative),
        Column("exponentials", not_negative),
    ),
    key=("case", "gpu", "loop"),
)  # fmt: skip


def compiled_counts(row: Row, settings: Settings = ()) -> PredictedFigures:
    """Counts one loop of the kernel, all warps of a program together."""
    kernel = counted().get((row.text("case"), row.count("gpu")))
    loops = kernel["loops"] if kernel else []
    place = row.count("loop") - 1
    if place >= len(loops):
        return {"matrix_flop": None, "exponentials": None}
    return {name: float(loops[place][name]) for name in ("matrix_flop", "exponentials")}


KERNELS_STATIC = Suite(
    "kernels-static",
    f"our kernels as Triton {TRITON} compiles them for A100, H100 and B200: products and exponentials of a tile, "
    "against their derivation",
    "kernels-static.csv",
    LAYOUT,
    compiled_counts,
    (
        Claim("FLOP of the matrix instructions, per tile", "matrix_flop", 0.0, EXACT),
        Claim("exponentials, per tile", "exponentials", 0.0, EXACT),
    ),
    ("gpu",),
)

SUITES = (KERNELS_STATIC,)
