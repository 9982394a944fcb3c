"""Files of arrays: read as NumPy wrote them, refused in one line however they are damaged."""

from __future__ import annotations

import io
import struct
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest

from cascadesim.einsum_cascades.notation.array_files import read_arrays
from cascadesim.einsum_cascades.notation.errors import SpecError

NUMBERS = np.arange(24, dtype=np.float32).reshape(4, 6)


def npy(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def with_header(text: str, body: bytes) -> bytes:
    header = text.encode().ljust(118) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + body


def test_arrays_come_back_as_they_were_saved(tmp_path: Path) -> None:
    np.save(tmp_path / "one.npy", np.asfortranarray(NUMBERS))
    np.savez_compressed(tmp_path / "two.npz", a=NUMBERS, b=np.array([True]))
    assert np.array_equal(read_arrays(tmp_path / "one.npy")[""], NUMBERS)
    found = read_arrays(tmp_path / "two.npz")
    assert list(found) == ["a", "b"]
    assert np.array_equal(found["a"], NUMBERS)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"P",
        b"text",
        b"PK\x03\x04 and no archive",  # zipfile: BadZipFile
        npy(NUMBERS)[:-1],
        npy(NUMBERS) + b"!",
        npy(np.array([{}], dtype=object)),
        with_header("{'descr': '<f4', 'fortran_order': False, 'shape': (4, 6), (", b""),  # NumPy: TokenError
        with_header("{'descr': 'what', 'fortran_order': False, 'shape': (4,)}", bytes(16)),
        with_header("{'descr': '<f8', 'fortran_order': False, 'shape': (-2, -1)}", bytes(16)),
        with_header("{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000,)}", bytes(16)),
    ],
)
def test_damaged_files_are_refused_in_one_line(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "mask.npy"
    path.write_bytes(content)
    with pytest.raises(SpecError, match=r"mask\.npy: cannot be read as \.npy or \.npz") as caught:
        read_arrays(path)
    assert "\n" not in str(caught.value)


def test_every_cut_of_a_packed_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "maps.npz"
    np.savez_compressed(path, maps=NUMBERS)
    whole = path.read_bytes()
    for end in range(len(whole)):
        path.write_bytes(whole[:end])
        with pytest.raises(SpecError):
            read_arrays(path)


def test_a_flipped_byte_of_packed_data_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "maps.npz"
    np.savez_compressed(path, maps=np.random.default_rng(1).random(100))
    content = bytearray(path.read_bytes())
    content[300] ^= 0xFF  # zlib.error or a wrong checksum
    path.write_bytes(content)
    with pytest.raises(SpecError):
        read_arrays(path)


def test_a_bomb_takes_no_memory(tmp_path: Path) -> None:
    """64 MB of zeros in 64 kB is what DEFLATE does; a directory that promises more than that is no directory."""
    path = tmp_path / "bomb.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("maps.npy", with_header("{'descr': '|u1', 'fortran_order': False, 'shape': (9,)}", bytes(9)))
    content = path.read_bytes()
    place = content.rindex(b"PK\x01\x02")
    path.write_bytes(content[: place + 24] + struct.pack("<I", 2**31) + content[place + 28 :])
    tracemalloc.start()
    try:
        with pytest.raises(SpecError, match="packed ones"):
            read_arrays(path)
        assert tracemalloc.get_traced_memory()[1] < 2**22
    finally:
        tracemalloc.stop()
