"""A checkpoint: finished chunks of a run, kept beside its output so that a killed run goes on where it was.

One small file per chunk, written whole or not at all, with a checksum that binds it to its name and to the stamp of
the run (space, version, how the space is cut); what does not fit is computed again. Gone when the run has succeeded.
Nothing is touched that a run did not write. Knows arrays and files, no space.
"""

from __future__ import annotations

import hashlib
import os
import re
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.einsum_cascades.notation.files import read_arrays

Arrays = Mapping[str, NDArray[np.generic]]
_STAMP = "space.sha256"
_CHECKSUM = "checksum"
_OURS = re.compile(r"\.?(chunk|generation|round)-[0-9-]+(\.pending)?\.npz")


@dataclass(frozen=True)
class Checkpoint:
    """Finished chunks in a folder (None: nothing is kept). `stamp`: what all chunks of the run agree on."""

    folder: Path | None
    stamp: str = ""

    def load(self, name: str) -> dict[str, NDArray[np.generic]] | None:
        """Returns a finished chunk, or None; of a file that is not what this run wrote it says so."""
        path = None if self.folder is None else self.folder / f"{name}.npz"
        if path is None or not path.exists():
            return None
        try:
            found = read_arrays(path)
        except CascadeSimError:
            found = {}
        checksum = found.pop(_CHECKSUM, None)
        if checksum is not None and checksum.tobytes() == self._checksum(name, found):
            return found
        print(f"{path}: damaged or not of this run; computed again", file=sys.stderr)
        return None

    def save(self, name: str, arrays: Arrays) -> None:
        if self.folder is None:
            return
        pending = self.folder / f".{name}.pending.npz"
        checksum = np.frombuffer(self._checksum(name, arrays), np.uint8)
        with pending.open("wb") as stream:
            np.savez(stream, **arrays, **{_CHECKSUM: checksum})  # type: ignore[arg-type]
        os.replace(pending, self.folder / f"{name}.npz")

    def _checksum(self, name: str, arrays: Arrays) -> bytes:
        found = hashlib.sha256(f"{self.stamp}\n{name}".encode())
        for key, array in sorted(arrays.items()):
            found.update(f"\n{key} {array.dtype.str} {array.shape}\n".encode())
            found.update(np.ascontiguousarray(array).tobytes())
        return found.digest()

    def remove(self) -> None:
        if self.folder is not None:
            _clear(self.folder)
            with suppress(OSError):  # something else lies in it: that stays
                (self.folder / _STAMP).unlink(missing_ok=True)
                self.folder.rmdir()


def checkpoint_beside(output: Path | None, stamp: str) -> Checkpoint:
    """Opens what an earlier run of the same stamp left beside `output`; chunks of other runs of ours are removed.

    Raises CascadeSimError where a folder of that name is not of a run, or cannot be written.
    """
    if output is None:
        return Checkpoint(None)
    target = Path(os.path.realpath(output))
    if target.exists() and not target.is_file():
        return Checkpoint(None)  # a pipe or /dev/null has no beside
    folder = target.parent / f".{target.name}.partial"
    try:
        folder.mkdir(exist_ok=True)
        if _known_stamp(folder) != stamp:
            _clear(folder)
            (folder / _STAMP).write_text(stamp, encoding="utf-8")
    except OSError as error:
        raise CascadeSimError(f"{output}: cannot be written: {folder}: {error.strerror}") from None
    return Checkpoint(folder, stamp)


def _known_stamp(folder: Path) -> str:
    """The stamp that a run left in its folder; "" where there is nothing yet."""
    known = folder / _STAMP
    if known.is_file() and not folder.is_symlink():
        with suppress(ValueError):
            return known.read_text(encoding="utf-8")
    elif not folder.is_symlink() and not any(folder.iterdir()):
        return ""
    raise CascadeSimError(f"{folder}: is no folder of unfinished runs (it has no stamp of ours); nothing in it was "
                          "touched: move it away, or give another --output")


def _clear(folder: Path) -> None:
    """Removes the chunks in it, finished and unfinished."""
    for path in list(folder.iterdir()):
        if _OURS.fullmatch(path.name):
            path.unlink(missing_ok=True)
