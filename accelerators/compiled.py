"""How loops over time are compiled: inner functions without reference counts, entries kept on disk between processes.

Numba counts references at every call that passes arrays, which would make calls of these small functions 20 times
longer; loops over time allocate nothing, so the counts are left out. Its cache looks at the file of an entry only, so
an entry closes over a number that changes with every file it is compiled from. Whoever waits for a compilation is told
so on standard error, where nothing has been kept yet before Numba itself is loaded; what a damaged disk made of a kept
entry is never run, but compiled again.
"""

from __future__ import annotations

import multiprocessing
import pickle
import sys
from collections.abc import Callable
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from threading import Event, Thread
from types import ModuleType
from typing import Any, TypeVar

from cascadesim.accelerators.kept_code import anything_kept, say

if multiprocessing.parent_process() is None and not anything_kept():
    say("loading the compiler of the loops over time, whose work is kept; later runs start at once")

import numba
from numba.core import event
from numba.core.caching import FunctionCache, IndexDataCacheFile, NullCache
from numba.extending import intrinsic

Function = TypeVar("Function", bound=Callable[..., object])
_DIGEST_BYTES = sha256().digest_size
_INNER: dict[str, Any] = {
    "error_model": "numpy", "_nrt": False, "no_cpython_wrapper": True, "no_cfunc_wrapper": True,
}  # fmt: skip
_FIRST_LINE_S = 10  # of progress where no display can move; the next ones after 20, 40, ... s


def compiled(function: Function) -> Function:
    """Compile a function that only compiled functions call."""
    result: Function = numba.njit(**_INNER)(function)
    return result


def inlined(function: Function) -> Function:
    """Compile a function that becomes part of its compiled callers: a call passes each array word by word.

    For what runs every few cycles; what is rare and long stays a call.
    """
    result: Function = numba.njit(forceinline=True, **_INNER)(function)
    return result


def _lowest_bit(_typing: Any, word: Any) -> Any:
    def generate(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], context.get_constant(numba.types.boolean, True))

    return word(word), generate


# the number of the lowest bit that is set in a word other than 0; for compiled callers only
lowest_bit: Callable[[int], int] = intrinsic(_lowest_bit)


def compiled_entry(what: str, about_s: int, *, allocates: bool = False) -> Callable[[Function], Function]:
    """Compile a function that Python calls; it is kept beside its file or in the user's cache, if that can be written.

    `what` a person who waits `about_s` seconds for it is told that it is. `allocates`: makes arrays of its own.
    """

    def entry(function: Function) -> Function:
        options: dict[str, Any] = {"error_model": "numpy", "_nrt": allocates}
        result = numba.njit(**options)(function)
        waiting = _Waiting(what, about_s)
        try:
            result._cache = _KeptCode(function, waiting)
        except RuntimeError:  # numba knows no folder that can be written
            result._cache = _NotKept(waiting)
        return result  # type: ignore[no-any-return]

    return entry


class _KeptCode(FunctionCache):  # type: ignore[misc]  # numba has no types
    """Numba's cache of one entry, whose files may be missing or broken, and which says when there is work to do."""

    def __init__(self, function: Callable[..., object], waiting: _Waiting) -> None:
        super().__init__(function)
        stamp = self._impl.locator.get_source_stamp()
        self._cache_file = _CheckedFile(self._cache_path, f"{self._impl.filename_base}-checked", stamp)
        self._waiting = waiting

    def load_overload(self, signature: object, context: object) -> object:
        found, why = None, "once; later runs start at once"
        try:
            if self._cache_file.holds_any():
                found = super().load_overload(signature, context)
        except Exception:  # of unpickling what may be anything
            self._cache_file.remove()
            why = f"again: what was kept in {self._cache_path} is damaged"
        if found is None:
            self._waiting.begin(why)
        return found

    def save_overload(self, signature: object, result: object) -> None:
        try:
            super().save_overload(signature, result)
        except OSError as problem:
            say(f"{self._waiting.what} cannot be kept in {self._cache_path} ({problem.strerror}): "
                 "the next run compiles it again")


class _NotKept(NullCache):  # type: ignore[misc]  # numba has no types
    """It stands in for the cache where there is nowhere to keep one."""

    def __init__(self, waiting: _Waiting) -> None:
        self._waiting = waiting

    def load_overload(self, _signature: object, _context: object) -> None:
        self._waiting.begin("in every run: no folder to keep it in can be written; NUMBA_CACHE_DIR may name one")


class _CheckedFile(IndexDataCacheFile):  # type: ignore[misc]  # numba has no types
    """Machine code with a checksum before it: a byte that changed on disk must not be run."""

    def holds_any(self) -> bool:
        """Tell whether there is code for some arguments; that is cheap, unlike loading it."""
        return bool(self._load_index())

    def remove(self) -> None:
        with suppress(OSError):
            Path(self._index_path).unlink(missing_ok=True)

    def _save_data(self, name: str, data: object) -> None:
        content = self._dump(data)
        with self._open_for_write(self._data_path(name)) as file:
            file.write(sha256(content).digest() + content)

    def _load_data(self, name: str) -> object:
        content = Path(self._data_path(name)).read_bytes()
        if sha256(content[_DIGEST_BYTES:]).digest() != content[:_DIGEST_BYTES]:
            raise ValueError("another checksum")
        return pickle.loads(content[_DIGEST_BYTES:])


class _Waiting(event.Listener):  # type: ignore[misc]  # numba has no types
    """What a person sees while an entry compiles: one line at once, then how far it is. Nothing in worker processes."""

    def __init__(self, what: str, about_s: int) -> None:
        self.what, self.about_s = what, about_s
        self.functions = self.depth = self.seconds = 0
        self.done, self.display = Event(), Thread()

    def begin(self, why: str) -> None:
        if multiprocessing.parent_process() is not None:
            return
        self.functions = self.depth = self.seconds = 0
        self.done, self.display = Event(), Thread(target=self._show, daemon=True)
        say(f"compiling {self.what} (about {self.about_s} s) {why}")
        event.register("numba:compile", self)
        self.display.start()

    def on_start(self, _: object) -> None:
        self.depth += 1

    def on_end(self, _: object) -> None:
        self.functions, self.depth = self.functions + 1, self.depth - 1
        if self.depth == 0:  # the entry itself, compiled or not
            event.unregister("numba:compile", self)
            self.done.set()
            self.display.join()

    def _show(self) -> None:
        moving, due_s = sys.stderr is not None and sys.stderr.isatty(), _FIRST_LINE_S
        while not self.done.wait(1):
            self.seconds += 1
            state = f"{self.seconds} s, {self.functions} functions"
            if moving:
                say(f"compiling {self.what}: {state}", end="\r")
            elif self.seconds == due_s:
                due_s *= 2
                say(f"compiling {self.what}: {state}")
        if moving and self.seconds:
            say(f"compiled {self.what}: {self.seconds} s, {self.functions} functions")


def version_of(*sources: str | ModuleType) -> int:
    """Compute a number that differs whenever one of the files or modules does."""
    files = (source if isinstance(source, str) else str(source.__file__) for source in sources)
    return int.from_bytes(sha256(b"".join(Path(file).read_bytes() for file in files)).digest()[:7])
