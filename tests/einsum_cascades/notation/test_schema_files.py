"""Files of arrays: read as NumPy wrote them, refused in one line however they are damaged."""

from __future__ import annotations

import io
import os
import struct
import threading
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest

from cascadesim.einsum_cascades.notation.errors import CascadeSimError, SpecError
from cascadesim.einsum_cascades.notation.notation import read_cascade
from cascadesim.einsum_cascades.notation.schema import read_arrays, read_bytes, read_text, read_yaml
from cascadesim.einsum_cascades.sparsity.block_selection import read_block_mask
from cascadesim.einsum_cascades.sparsity.pruning_trace import read_rows
from cascadesim.simulator.explore.space import read_space

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


SMALL_SPACE = Path(__file__).parents[2] / "simulator" / "explore" / "small_space.yaml"


def test_a_text_comes_without_byte_order_mark_and_with_plain_line_ends(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_bytes(b"\xef\xbb\xbfone\r\ntwo\n\xc2\xb5s\n")
    assert read_text(path) == "one\ntwo\nµs\n"


def test_a_file_may_be_as_large_as_the_limit_and_no_byte_larger(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_bytes(b"x" * 100)
    assert read_text(path, most_bytes=100) == "x" * 100
    with pytest.raises(SpecError, match="text: cannot be read: 100 bytes; give a file of at most"):
        read_text(path, most_bytes=99)


@pytest.mark.parametrize("content", [b"\xff\xfe", b"caf\xe9"])
def test_what_is_no_text_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "text"
    path.write_bytes(content)
    with pytest.raises(SpecError, match="cannot be read: not UTF-8 text"):
        read_text(path)


def test_what_cannot_be_opened_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="absent: cannot be read: No such file"):
        read_text(tmp_path / "absent")
    with pytest.raises(SpecError, match="cannot be read: Is a directory"):
        read_text(tmp_path)
    with pytest.raises(SpecError, match="not the name of a file"):
        read_text("a\0b")


def test_a_device_without_end_is_read_up_to_the_limit() -> None:
    with pytest.raises(SpecError, match="more than 1,000 bytes"):
        read_bytes("/dev/zero", 1000)


@pytest.mark.parametrize("read", [
    read_yaml, read_cascade, read_rows, read_space, lambda path: read_block_mask(path, 128, 128),
])  # fmt: skip
def test_a_gigabyte_is_refused_by_every_reader_before_it_is_read(tmp_path: Path, read: object) -> None:
    """Sparse: a file that takes no room on disk; to read it would take a gigabyte of memory."""
    path = tmp_path / "huge.yaml"
    path.touch()
    os.truncate(path, 2**30)
    assert callable(read)
    with pytest.raises(CascadeSimError, match=r"huge\.yaml: cannot be read: 1,073,741,824 bytes; give a file of"):
        read(path)


def test_a_space_that_comes_through_a_pipe_is_read_once(tmp_path: Path) -> None:
    """Opened a second time, a pipe whose writer has gone waits for another writer for ever."""
    pipe = tmp_path / "space.yaml"
    os.mkfifo(pipe)
    text = SMALL_SPACE.read_text(encoding="utf-8")
    writer = threading.Thread(target=pipe.write_text, args=(text,), daemon=True)
    writer.start()
    space, read = read_space(pipe)
    writer.join(timeout=10)
    assert read == text
    assert space.vary
