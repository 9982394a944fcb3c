"""WHAT is computed: cascades of extended Einsums, their semantics, their properties, models made of them. No hardware.

What a user works with is imported from here, each name when it is used. Masks and sparse patterns are in `sparsity`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cascadesim.einsum_cascades.analysis.evaluate import evaluate
    from cascadesim.einsum_cascades.analysis.graph import graph
    from cascadesim.einsum_cascades.analysis.online import rewritten_to
    from cascadesim.einsum_cascades.analysis.passes import Analysis, analyse, passes
    from cascadesim.einsum_cascades.models.operation import Operation
    from cascadesim.einsum_cascades.models.workload import Workload, load_workload
    from cascadesim.einsum_cascades.notation.errors import CascadeSimError
    from cascadesim.einsum_cascades.notation.foreign import read_foreign
    from cascadesim.einsum_cascades.notation.ir import Cascade, Einsum
    from cascadesim.einsum_cascades.notation.notation import cascade, parse, read_cascade, to_text
    from cascadesim.einsum_cascades.texts import cascade_names, find

_WHERE = {
    "analysis.evaluate": ("evaluate",), "analysis.graph": ("graph",), "analysis.online": ("rewritten_to",),
    "analysis.passes": ("Analysis", "analyse", "passes"), "models.operation": ("Operation",),
    "models.workload": ("Workload", "load_workload"), "notation.errors": ("CascadeSimError",),
    "notation.foreign": ("read_foreign",),
    "notation.ir": ("Cascade", "Einsum"), "texts": ("cascade_names", "find"),
    "notation.notation": ("cascade", "parse", "read_cascade", "to_text"),
}  # fmt: skip
__all__ = [
    "Analysis", "Cascade", "CascadeSimError", "Einsum", "Operation", "Workload", "analyse", "cascade",
    "cascade_names", "evaluate", "find", "graph", "load_workload", "parse", "passes", "read_cascade", "read_foreign",
    "rewritten_to", "to_text",
]  # fmt: skip


def __getattr__(name: str) -> object:
    """Import the public name from the module that defines it. Raises AttributeError for another one."""
    for module, names in _WHERE.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
