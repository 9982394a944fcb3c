"""The cascades themselves, as text: every one of the package by name, and those in a user's `.cascade` files.

A new cascade is one constant `NAME = cascade("name", ...)` in any module of `einsum_cascades`: modules that call
`notation.cascade` are found by reading their source, so nothing is registered and nothing else is imported.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Mapping
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import cascadesim.einsum_cascades as package
from cascadesim.einsum_cascades.notation.errors import UnknownNameError
from cascadesim.einsum_cascades.notation.ir import Cascade
from cascadesim.einsum_cascades.notation.notation import read_cascade

SUFFIX = ".cascade"
_DEFINES = "import cascade\n"  # the line that every module of cascades has


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
    """Modules of the package that define cascades, with their text; this one does not import `cascade` as they do."""
    found = {}
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        spec = find_spec(module.name)
        source = getattr(spec and spec.loader, "get_source", lambda name: None)(module.name)
        if source and _DEFINES in source:
            found[module.name] = source
    return found


@cache
def _constants(module: str) -> Mapping[str, Cascade]:
    """The cascades of a module, those that it imports to go on after them included."""
    return {each.name: each for each in vars(import_module(module)).values() if isinstance(each, Cascade)}
