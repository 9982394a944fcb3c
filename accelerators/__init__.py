"""WHERE a cascade runs and HOW LONG one task takes on one unit. Nothing here knows when a task runs.

What a user who adds an accelerator needs is imported from here, each name when it is used: the contract (Accelerator,
Capabilities, Plan, Phase ...), programs for the cycle level, and the catalogue that finds accelerators.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cascadesim.accelerators.catalogue import find_file, load, preset_names, presets
    from cascadesim.accelerators.program import After, Program, Queue, Repeat, Task, TileRun
    from cascadesim.accelerators.protocol import (
        Accelerator,
        Accounting,
        Capabilities,
        CycleModel,
        EinsumActivity,
        Phase,
        Plan,
        PlanError,
        Prepares,
        Stored,
        TimesCaches,
        Traffic,
        Unit,
        checked,
    )

__all__ = [
    "Accelerator", "Accounting", "After", "Capabilities", "CycleModel", "EinsumActivity", "Phase", "Plan", "PlanError",
    "Prepares", "Program", "Queue", "Repeat", "Stored", "Task", "TileRun", "TimesCaches", "Traffic", "Unit", "checked",
    "find_file", "load", "preset_names", "presets",
]  # fmt: skip
_CATALOGUE = ("find_file", "load", "preset_names", "presets")
_PROGRAM = ("After", "Program", "Queue", "Repeat", "Task", "TileRun")


def __getattr__(name: str) -> object:
    """Import the public name from the module that defines it. Raises AttributeError for another one."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = "catalogue" if name in _CATALOGUE else "program" if name in _PROGRAM else "protocol"
    return getattr(import_module(f"{__name__}.{module}"), name)
