"""Files that a user names: read whole and once, refused by size before they are read."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from cascadesim.einsum_cascades.notation.errors import CascadeSimError, SpecError
from cascadesim.einsum_cascades.notation.notation import read_cascade
from cascadesim.einsum_cascades.notation.schema import read_yaml
from cascadesim.einsum_cascades.notation.text_files import read_bytes, read_text
from cascadesim.einsum_cascades.sparsity.block_selection import read_block_mask
from cascadesim.einsum_cascades.sparsity.pruning_trace import read_rows
from cascadesim.simulator.explore.space import read_space

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
