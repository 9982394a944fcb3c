"""Files that a user names, read whole and once: size checked before and while reading, pipes up to the same limit.

The only place that opens a file given on the command line or to a reader. A file that is larger than anything it
could rightly hold is refused by its size; a pipe or a device, which has none, is read up to the limit and no further.
"""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from cascadesim.einsum_cascades.notation.errors import SpecError

LARGEST_DESCRIPTION_BYTES = 2**20  # assumed: 100 times the longest workload, space or cascade that comes along
LARGEST_TABLE_BYTES = 2**26  # assumed: 64 MiB, half a million rows of a trace or of measurements
LARGEST_ARRAY_BYTES = 2**29  # assumed: 512 MiB; the attention maps of 12 layers of 12 heads at 512 tokens take 302 MB

_PIECE_BYTES = 2**20


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
            content = b"".join(_pieces(file, most_bytes + 1))
    except OSError as error:
        raise SpecError(f"{path}: cannot be read: {error.strerror}") from None
    except ValueError:  # a zero byte in the name
        raise SpecError(f"{path}: cannot be read: not the name of a file") from None
    if len(content) > most_bytes:
        raise _too_large(path, f"more than {most_bytes:,} bytes", most_bytes)
    return content


def _pieces(file: BinaryIO, most_bytes: int) -> Iterator[bytes]:
    """As much memory as the file has bytes; asked for all at once, `read` takes all that it might need."""
    while most_bytes > 0 and (piece := file.read(min(most_bytes, _PIECE_BYTES))):
        most_bytes -= len(piece)
        yield piece


def _too_large(path: Path | str, given: str, most_bytes: int) -> SpecError:
    return SpecError(f"{path}: cannot be read: {given}; give a file of at most {most_bytes // 2**20} MiB")
