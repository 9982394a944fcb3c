"""The cascades themselves, as text: every one of the package by name, and those in a user's `.cascade` files.

A new cascade is one constant `NAME = cascade("name", ...)` in a module of this folder: modules are searched by reading
their source, so nothing is registered and nothing else is imported.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import import_module
from pathlib import Path

from cascadesim.einsum_cascades.notation.errors import UnknownNameError
from cascadesim.einsum_cascades.notation.ir import Cascade
from cascadesim.einsum_cascades.notation.notation import read_cascade

SUFFIX = ".cascade"


def cascade_names() -> tuple[str, ...]:
    """The names of all cascades of the package, sorted."""
    return tuple(sorted({name for module in _sources() for name in _constants(module)}))


def find(name_or_path: str | Path) -> Cascade:
    """A cascade of the package, or the one in a file. Raises UnknownNameError, or what `read_cascade` raises."""
    name = str(name_or_path)
    for module, source in _sources().items():
        if f'cascade("{name}"' in source:  # only this one is imported
            return _constants(module)[name]
    if isinstance(name_or_path, Path) or name.endswith(SUFFIX) or "/" in name:
        return read_cascade(name_or_path)
    raise UnknownNameError("cascade", name, cascade_names())


@cache
def _sources() -> Mapping[str, str]:
    """The modules of this folder, with their text."""
    paths = (path for path in sorted(Path(__file__).parent.glob("*.py")) if path.name != "__init__.py")
    return {f"{__name__}.{path.stem}": path.read_text(encoding="utf-8") for path in paths}


@cache
def _constants(module: str) -> Mapping[str, Cascade]:
    """The cascades of a module, those that it imports to go on after them included."""
    return {each.name: each for each in vars(import_module(module)).values() if isinstance(each, Cascade)}
