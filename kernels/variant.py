"""One specialisation of a kernel as it is compiled ahead of time: types, constants, options, and the work it must do.

The work of one iteration of the loop that matters is derived here from the algorithm; the compiled instructions are held
against it. Knows no compiler: `validation.kernel_compile` compiles and `validation.sass` counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Iteration:
    """What one program does per key tile, over all loops with matrix products of one kind.

    `matrix_flop`: multiplications and additions of the matrix unit. `exponentials`: at least so many; a row's own ones
    (PRM) are replicated over the threads that share the row, which `replicated_rows` counts.
    """

    matrix_flop: int
    exponentials: int
    replicated_rows: int = 0


@dataclass(frozen=True)
class Variant:
    """`loops`: one entry per loop with matrix products in program order, unmasked ones first; empty: none expected."""

    name: str
    family: str
    function: Any  # the @triton.jit function
    signature: Mapping[str, str]
    constants: Mapping[str, Any]
    warps: int
    stages: int
    loops: tuple[Iteration, ...] = ()
    unaligned: frozenset[str] = field(default_factory=frozenset)  # integers that need not divide by 16

    @property
    def matrix(self) -> bool:
        return bool(self.loops)
