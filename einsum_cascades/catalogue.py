"""Every cascade of the package by name, and cascades in a user's `.cascade` files.

A new cascade is one constant `NAME = cascade("name", ...)` in any module here: modules that call `notation.cascade`
are found by reading their source, so nothing is registered and nothing else is imported.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import cascadesim.einsum_cascades as package
from cascadesim.einsum_cascades.errors import UnknownNameError
from cascadesim.einsum_cascades.ir import Cascade
from cascadesim.einsum_cascades.notation import read_cascade

SUFFIX = ".cascade"
_DEFINES = "import cascade\n"  # the line that every module of cascades has


def cascade_names() -> tuple[str, ...]:
    """Sorted."""
    return tuple(sorted(_catalogue()))


def find(name_or_path: str | Path) -> Cascade:
    """A cascade of the package, or the one in a file. Raises UnknownNameError, or what `read_cascade` raises."""
    name = str(name_or_path)
    known = _catalogue()
    if name in known:
        return known[name]
    if isinstance(name_or_path, Path) or name.endswith(SUFFIX) or "/" in name:
        return read_cascade(name_or_path)
    raise UnknownNameError("cascade", name, known)


@cache
def _catalogue() -> Mapping[str, Cascade]:
    return {each.name: each for module in _modules() for each in vars(import_module(module)).values()
            if isinstance(each, Cascade)}


def _modules() -> Iterator[str]:
    """Modules of the package whose source calls `cascade`; this one does not import it under that name."""
    for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        spec = find_spec(module.name)
        source = getattr(spec and spec.loader, "get_source", lambda name: None)(module.name)
        if source and _DEFINES in source:
            yield module.name
