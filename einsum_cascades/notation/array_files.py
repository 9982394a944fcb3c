"""Arrays in `.npy` and `.npz` files, as users and killed runs leave them: read whole, or refused in one line.

What a header promises is compared with what the file can hold before any memory is taken, so that a damaged header
or a bomb costs nothing. Knows files; what the arrays mean is the caller's business.
"""

from __future__ import annotations

import io
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from math import prod
from pathlib import Path
from tokenize import TokenError
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from cascadesim.einsum_cascades.notation.errors import SpecError, shortened
from cascadesim.einsum_cascades.notation.text_files import LARGEST_ARRAY_BYTES, read_bytes

MOST_BYTES = 4 * LARGEST_ARRAY_BYTES  # of one file, unpacked; assumed: attention maps do not shrink by more
_DEFLATED_AT_MOST = 1032  # times: what DEFLATE can shrink a run of equal bytes to (zlib, technical details)
_HEADERS: Mapping[tuple[int, int], Callable[[IO[bytes]], tuple[Any, ...]]] = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}
# What NumPy, zipfile and zlib raise on damaged files: there is no narrower family.
_DAMAGED = (
    ValueError, TypeError, LookupError, ArithmeticError, AttributeError, EOFError, OSError, RuntimeError, SyntaxError,
    MemoryError, TokenError, zipfile.BadZipFile, zlib.error, struct.error,
)  # fmt: skip


def read_arrays(path: Path) -> dict[str, NDArray[np.generic]]:
    """The arrays of a `.npz` by name, or the one of a `.npy` under "". Raises SpecError."""
    content = read_bytes(path, LARGEST_ARRAY_BYTES)
    try:
        return _arrays(content)
    except _DAMAGED as error:
        reason = str(error) or type(error).__name__
        raise SpecError(f"{path}: cannot be read as .npy or .npz: {shortened(reason, 120)}") from None


def _arrays(content: bytes) -> dict[str, NDArray[np.generic]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Python's parser, which NumPy asks to read headers
        if not content.startswith(b"PK"):
            return {"": _array(io.BytesIO(content), len(content))}
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return dict(_members(archive))


def _members(archive: zipfile.ZipFile) -> Iterator[tuple[str, NDArray[np.generic]]]:
    left = MOST_BYTES
    for member in archive.infolist():
        left -= member.file_size
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ValueError(f"{member.filename}: packed in a way that NumPy does not write")
        if left < 0 or member.file_size > _DEFLATED_AT_MOST * member.compress_size:
            raise ValueError(f"{member.filename}: {member.file_size:,} bytes of {member.compress_size:,} packed ones")
        with archive.open(member) as stream:
            yield member.filename.removesuffix(".npy"), _array(stream, member.file_size)


def _array(stream: IO[bytes], size: int) -> NDArray[np.generic]:
    """`size`: bytes of the stream. Raises ValueError, or what NumPy raises, unless they are one array."""
    version = np.lib.format.read_magic(stream)
    if version not in _HEADERS:
        raise ValueError(f"version {version[0]}.{version[1]} of the format")
    shape, by_columns, dtype = _HEADERS[version](stream)
    promised, held = prod(shape) * dtype.itemsize, size - stream.tell()
    if any(side < 0 for side in shape) or promised != held or held > MOST_BYTES:
        raise ValueError(f"{promised:,} bytes of {dtype} promised, {held:,} in it")
    return np.frombuffer(stream.read(held), dtype).reshape(shape, order="F" if by_columns else "C")
