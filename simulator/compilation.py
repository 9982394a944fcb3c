"""How loops over time are compiled: inner functions without reference counts, entries kept on disk between processes.

Numba counts references at every call that passes arrays, which would make calls of these small functions 20 times
longer; nothing compiled here allocates, so the counts are left out. Its cache looks at the file of an entry only, so
an entry closes over a number that changes with every file it is compiled from.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import numba
from numba.extending import intrinsic

Function = TypeVar("Function", bound=Callable[..., object])


def compiled(function: Function) -> Function:
    """For compiled callers only."""
    result: Function = numba.njit(**_options(), **_WITHOUT_WRAPPERS)(function)
    return result


def inlined(function: Function) -> Function:
    """For compiled callers only, where it becomes part of them: a call passes each array of its arguments word by word.

    For what runs every few cycles; what is rare and long stays a call.
    """
    result: Function = numba.njit(forceinline=True, **_options(), **_WITHOUT_WRAPPERS)(function)
    return result


def _lowest_bit(_typing: Any, word: Any) -> Any:
    def generate(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], context.get_constant(numba.types.boolean, True))

    return word(word), generate


# the number of the lowest bit that is set in a word other than 0; for compiled callers only
lowest_bit: Callable[[int], int] = intrinsic(_lowest_bit)  # type: ignore[assignment]


def compiled_entry(function: Function) -> Function:
    """Callable from Python; kept on disk beside its file or in the user's cache, where either can be written."""
    try:
        result: Function = numba.njit(cache=True, **_options())(function)
    except RuntimeError:  # nowhere to keep it: compiled again in each process
        result = numba.njit(**_options())(function)
    return result


def version_of(*sources: str | ModuleType) -> int:
    """A number that differs whenever one of the files or modules does."""
    files = (source if isinstance(source, str) else str(source.__file__) for source in sources)
    return int.from_bytes(sha256(b"".join(Path(file).read_bytes() for file in files)).digest()[:7])


_WITHOUT_WRAPPERS: dict[str, Any] = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}


def _options() -> dict[str, Any]:
    return {"error_model": "numpy", "_nrt": False}
