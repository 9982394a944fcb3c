"""Files appear whole or not at all: written beside the target and renamed over it when the work has succeeded.

What ends the work, a signal included, takes the half-written file away; what the disk refuses names the target.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from cascadesim.einsum_cascades.notation.errors import CascadeSimError

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

_ENDINGS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def pending_file(target: Path) -> Iterator[Path]:
    """A path to write to, which becomes `target` when the block ends well and vanishes when it does not.

    Raises CascadeSimError at once, before any work, if `target` cannot be written, and later if it turns out that it
    cannot. What is no regular file (a pipe, /dev/null) is written in place.
    """
    given, target = target, Path(os.path.realpath(target))  # a link keeps pointing at its file
    if target.exists() and not target.is_file() and not target.is_dir():
        with _named(given, target):
            yield target
        return
    pending: Path | None = None
    masked = signal.pthread_sigmask(signal.SIG_BLOCK, _ENDINGS)  # until whoever is interrupted knows of the file
    try:
        pending = _beside(target, given)
        signal.pthread_sigmask(signal.SIG_SETMASK, masked)
        with _named(given, pending):
            yield pending
            os.replace(pending, target)
    finally:
        if pending is not None:
            pending.unlink(missing_ok=True)
        signal.pthread_sigmask(signal.SIG_SETMASK, masked)


@contextmanager
def _named(given: Path, written: Path) -> Iterator[None]:
    """What fails in writing, as a full disk does without naming its file, is said of the file that was asked for."""
    try:
        yield
    except OSError as error:
        if error.filename not in (None, str(written)):
            raise
        raise CascadeSimError(f"{given}: cannot be written: {error.strerror or error}") from None


def written_to(pending: Path | None) -> AbstractContextManager[TextIO]:
    """A pending file to write text to; standard output for None."""
    return nullcontext(sys.stdout) if pending is None else pending.open("w", encoding="utf-8")


@contextmanager
def pending_files(targets: Sequence[Path | None]) -> Iterator[tuple[Path | None, ...]]:
    """`pending_file` of several targets; None stays None. All of them appear, or none."""
    given = [os.path.realpath(target) for target in targets if target is not None]
    for target in given:
        if given.count(target) > 1:
            raise CascadeSimError(f"{target}: asked for twice; give each output a file of its own")
    with ExitStack() as files:
        yield tuple(target and files.enter_context(pending_file(target)) for target in targets)


def _beside(target: Path, given: Path) -> Path:
    """A new empty file in `target`'s folder with the permissions the target has or would get."""
    if target.is_dir():
        raise CascadeSimError(f"{given}: is a folder, give a file")
    if not target.parent.is_dir():
        raise CascadeSimError(f"{given}: no folder '{given.parent}'")
    if target.exists() and not os.access(target, os.W_OK):
        raise CascadeSimError(f"{given}: cannot be written: permission denied")
    try:
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=".pending-", suffix=target.suffix)
    except OSError as error:
        raise CascadeSimError(f"{given}: cannot be written: {error.strerror}") from None
    os.fchmod(handle, target.stat().st_mode & 0o777 if target.exists() else 0o666 & ~_umask())
    os.close(handle)
    return Path(name)


def _umask() -> int:
    """The process's umask, which can only be read by setting it."""
    mask = os.umask(0o022)
    os.umask(mask)
    return mask
