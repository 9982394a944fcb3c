"""Files that a user names, read whole and once: text, and arrays in `.npy` and `.npz` files.

The only place that opens a file given on the command line or to a reader. A file larger than anything it could rightly
hold is refused by its size; a pipe or a device, which has none, is read up to the limit and no further. What the header
of an array promises is compared with what the file can hold before memory is taken, so a damaged header or a bomb costs
nothing. What the contents mean is the caller's business.
"""

from __future__ import annotations

import io
import os
import stat
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

LARGEST_DESCRIPTION_BYTES = 2**20  # assumed: 100 times the longest workload, space or cascade that comes along
LARGEST_TABLE_BYTES = 2**26  # assumed: 64 MiB, half a million rows of a trace or of measurements
LARGEST_ARRAY_BYTES = 2**29  # assumed: 512 MiB; the attention maps of 12 layers of 12 heads at 512 tokens take 302 MB
_PIECE_BYTES = 2**20
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


def read_text(path: Path | str, most_bytes: int = LARGEST_DESCRIPTION_BYTES) -> str:
    """The text of a file in UTF-8, without the mark that editors on Windows write in front; line ends as `\\n`.

    Raises SpecError if it cannot be read, is larger than `most_bytes`, or is no UTF-8 text.
    """
    try:
        with io.TextIOWrapper(io.BytesIO(read_bytes(path, most_bytes)), encoding="utf-8-sig") as text:
            return text.read()
    except UnicodeDecodeError:
        raise SpecError(f"{path}: cannot be read: not UTF-8 text") from None


def read_bytes(path: Path | str, most_bytes: int) -> bytes:
    """What a file holds. Raises SpecError if it cannot be read or is larger than `most_bytes`."""
    try:
        with open(path, "rb") as file:
            found = os.fstat(file.fileno())
            if stat.S_ISREG(found.st_mode) and found.st_size > most_bytes:
                raise _too_large(path, f"{found.st_size:,} bytes", most_bytes)
            pieces, left = [], most_bytes + 1
            while left > 0 and (piece := file.read(min(left, _PIECE_BYTES))):  # as much memory as the file has bytes
                pieces.append(piece)
                left -= len(piece)
            content = b"".join(pieces)
    except OSError as error:
        raise SpecError(f"{path}: cannot be read: {error.strerror}") from None
    except ValueError:  # a zero byte in the name
        raise SpecError(f"{path}: cannot be read: not the name of a file") from None
    if len(content) > most_bytes:
        raise _too_large(path, f"more than {most_bytes:,} bytes", most_bytes)
    return content


def _too_large(path: Path | str, given: str, most_bytes: int) -> SpecError:
    return SpecError(f"{path}: cannot be read: {given}; give a file of at most {most_bytes // 2**20} MiB")


def read_arrays(path: Path) -> dict[str, NDArray[np.generic]]:
    """The arrays of a `.npz` by name, or the one of a `.npy` under "". Raises SpecError."""
    content = read_bytes(path, LARGEST_ARRAY_BYTES)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of Python's parser, which NumPy asks to read headers
            if not content.startswith(b"PK"):
                return {"": _array(io.BytesIO(content), len(content))}
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                return dict(_members(archive))
    except _DAMAGED as error:
        reason = str(error) or type(error).__name__
        raise SpecError(f"{path}: cannot be read as .npy or .npz: {shortened(reason, 120)}") from None


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
