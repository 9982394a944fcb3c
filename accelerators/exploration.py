"""Many designs at once: what an accelerator may offer so that a space of millions is judged in seconds.

A folder that can has `exploration.py: evaluator(accelerator, operations) -> Evaluator | None`; None, or no such file,
and designs are planned one by one. Same figures either way. Knows no accelerator and no space.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from cascadesim.accelerators.protocol import Accelerator
from cascadesim.einsum_cascades.models.operation import Operation

Column: TypeAlias = NDArray[np.generic]
Floats: TypeAlias = NDArray[np.float64]

# Dotted field -> one value per design, in; latency_s, energy_j, dram_bytes and area_um2 of all operations together,
# out: nan for a design that cannot be or cannot run them. Physical accounting, closed form.
Evaluator: TypeAlias = Callable[[Mapping[str, Column]], Mapping[str, Floats]]
QUANTITIES = ("latency_s", "energy_j", "dram_bytes", "area_um2")


def find_evaluator(folder: str, accelerator: Accelerator, operations: Sequence[Operation]) -> Evaluator | None:
    """Of designs like `accelerator`, whose fields the columns replace."""
    module = f"{__package__}.{folder}.exploration"
    if find_spec(module) is None:
        return None
    return cast("Evaluator | None", import_module(module).evaluator(accelerator, operations))
