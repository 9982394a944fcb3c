"""Finished chunks of a run, kept beside its output so that a killed run goes on where it was.

One small file per chunk, written whole or not at all; a stamp says which space they belong to. Gone when the run has
succeeded. Knows arrays and files, no space.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cascadesim.einsum_cascades.errors import CascadeSimError

Arrays = Mapping[str, NDArray[np.generic]]
_STAMP = "space.sha256"


@dataclass(frozen=True)
class Partial:
    """`folder` None: nothing is kept."""

    folder: Path | None

    def load(self, name: str) -> dict[str, NDArray[np.generic]] | None:
        """None if this chunk is not finished, or its file not readable."""
        path = None if self.folder is None else self.folder / f"{name}.npz"
        if path is None or not path.exists():
            return None
        try:
            with np.load(path, allow_pickle=False) as found:
                return {key: found[key] for key in found.files}
        except (OSError, ValueError, EOFError, KeyError):
            return None

    def save(self, name: str, arrays: Arrays) -> None:
        if self.folder is None:
            return
        pending = self.folder / f".{name}.pending.npz"
        with pending.open("wb") as stream:
            np.savez(stream, **arrays)  # type: ignore[arg-type]
        os.replace(pending, self.folder / f"{name}.npz")

    def remove(self) -> None:
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)


def partial_beside(output: Path | None, stamp: str) -> Partial:
    """What an earlier run of the same stamp left beside `output`; leavings of other runs are removed."""
    if output is None:
        return Partial(None)
    target = Path(os.path.realpath(output))
    if target.exists() and not target.is_file():
        return Partial(None)  # a pipe or /dev/null has no beside
    folder = target.parent / f".{target.name}.partial"
    known = folder / _STAMP
    if folder.exists() and (not known.exists() or known.read_text(encoding="utf-8") != stamp):
        shutil.rmtree(folder)
    try:
        folder.mkdir(exist_ok=True)
        known.write_text(stamp, encoding="utf-8")
    except OSError as error:
        raise CascadeSimError(f"{output}: cannot be written: {error.strerror}") from None
    return Partial(folder)
