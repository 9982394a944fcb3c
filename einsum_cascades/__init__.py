"""WHAT is computed: cascades of extended Einsums, their semantics, their properties, models made of them. No hardware.

What a user works with is imported from here, each name when it is used. Masks and sparse patterns are in `sparsity`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cascadesim.einsum_cascades.analysis.evaluate import evaluate
    from cascadesim.einsum_cascades.analysis.footprint import Analysis, analyse
    from cascadesim.einsum_cascades.analysis.graph import graph
    from cascadesim.einsum_cascades.analysis.online import rewritten_to
    from cascadesim.einsum_cascades.analysis.passes import passes
    from cascadesim.einsum_cascades.models.configurations import workload_fields, workload_yaml
    from cascadesim.einsum_cascades.models.operation import Operation
    from cascadesim.einsum_cascades.models.traced import TracedWorkload, workload_from_rows
    from cascadesim.einsum_cascades.models.workload import Workload, load_workload
    from cascadesim.einsum_cascades.notation.errors import CascadeSimError
    from cascadesim.einsum_cascades.notation.foreign import read_foreign
    from cascadesim.einsum_cascades.notation.ir import Cascade, Einsum
    from cascadesim.einsum_cascades.notation.notation import cascade, parse, read_cascade, to_text
    from cascadesim.einsum_cascades.sparsity.masks import mask_from, neighborhood
    from cascadesim.einsum_cascades.texts import cascade_names, find

__all__ = [
    "Analysis", "Cascade", "CascadeSimError", "Einsum", "Operation", "TracedWorkload", "Workload", "analyse", "cascade",
    "cascade_names", "evaluate", "find", "graph", "load_workload", "mask_from", "neighborhood", "parse", "passes",
    "read_cascade", "read_foreign", "rewritten_to", "to_text", "workload_fields",
    "workload_from_rows", "workload_yaml",
]  # fmt: skip


def exports(package: str, where: Mapping[str, str]) -> Callable[[str], object]:
    """Make the `__getattr__` of a package whose public names are imported when they are used: name -> module:name."""

    def imported(name: str) -> object:
        if name not in where:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module, _, attribute = where[name].partition(":")
        return getattr(import_module(f"cascadesim.{module}"), attribute or name)

    return imported


def submodules(package: str, *names: str) -> Callable[[str], object]:
    """Make the `__getattr__` of a package whose modules are imported when they are used."""

    def imported(name: str) -> object:
        if name not in names:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return import_module(f"{package}.{name}")

    return imported


__getattr__ = exports(__name__, {name: f"einsum_cascades.{module}" for module, names in {
    "analysis.evaluate": ("evaluate",), "analysis.graph": ("graph",), "analysis.online": ("rewritten_to",),
    "analysis.footprint": ("Analysis", "analyse"), "analysis.passes": ("passes",), "models.operation": ("Operation",),
    "models.configurations": ("workload_fields", "workload_yaml"),
    "sparsity.masks": ("mask_from", "neighborhood"),
    "models.traced": ("TracedWorkload", "workload_from_rows"), "models.workload": ("Workload", "load_workload"),
    "notation.errors": ("CascadeSimError",),
    "notation.foreign": ("read_foreign",),
    "notation.ir": ("Cascade", "Einsum"), "texts": ("cascade_names", "find"),
    "notation.notation": ("cascade", "parse", "read_cascade", "to_text"),
}.items() for name in names})  # fmt: skip
