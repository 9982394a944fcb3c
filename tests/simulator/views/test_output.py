"""Files appear whole or not at all."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.simulator.views.output import pending_file, pending_files, written_to


def test_a_file_appears_when_the_work_is_done(tmp_path: Path) -> None:
    target = tmp_path / "report.json"
    with pending_file(target) as pending:
        pending.write_text("done")
        assert not target.exists()
        assert pending.suffix == ".json"
    assert target.read_text() == "done"
    assert list(tmp_path.iterdir()) == [target]


def test_what_fails_leaves_the_old_file_alone(tmp_path: Path) -> None:
    target = tmp_path / "report.json"
    target.write_text("old")

    def interrupted() -> None:
        with pending_file(target) as pending:
            pending.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_several_files_appear_together_or_not_at_all(tmp_path: Path) -> None:
    with pytest.raises(CascadeSimError), pending_files((tmp_path / "a", None, tmp_path / "missing" / "b")):
        pass
    assert list(tmp_path.iterdir()) == []
    with pending_files((tmp_path / "a", None)) as (first, second):
        assert first is not None
        assert second is None


def test_a_link_keeps_pointing_at_its_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("old")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    with pending_file(tmp_path / "link") as pending:
        pending.write_text("new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "file").read_text() == "new"


def test_a_device_is_written_in_place() -> None:
    with pending_file(Path(os.devnull)) as pending:
        assert pending == Path(os.devnull)


def test_permissions_are_those_the_file_has_or_would_get(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    old.touch(0o600)
    plain = tmp_path / "plain"
    plain.touch()
    for target in (old, new):
        with pending_file(target):
            pass
    assert old.stat().st_mode & 0o777 == 0o600
    assert new.stat().st_mode == plain.stat().st_mode


@pytest.mark.parametrize(("name", "message"), [("", "is a folder"), ("missing/file", "no folder"),
                                               ("file/inside", "no folder")])  # fmt: skip
def test_what_cannot_be_written_is_refused_before_any_work(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CascadeSimError, match=message), pending_file(tmp_path / name):
        pytest.fail("the work started")


def test_one_file_asked_for_twice_is_refused(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "a")
    with pytest.raises(CascadeSimError, match="asked for twice"), pending_files((tmp_path / "a", tmp_path / "link")):
        pass


def test_a_disk_that_is_full_names_the_file_that_was_asked_for(tmp_path: Path) -> None:
    """The system names no file when a write fails, and would name a pending one when a rename does."""
    def full() -> None:
        with pending_file(tmp_path / "report.json"):
            raise OSError(28, "No space left on device")

    with pytest.raises(CascadeSimError, match=r"/report\.json: cannot be written: No space left on device"):
        full()
    assert list(tmp_path.iterdir()) == []


def test_a_device_that_is_full_is_named(tmp_path: Path) -> None:
    with (
        pytest.raises(CascadeSimError, match=r"/dev/full: cannot be written: No space left on device"),
        pending_file(Path("/dev/full")) as pending, written_to(pending) as stream,
    ):  # fmt: skip
        stream.write("text")


def test_what_another_file_did_is_not_said_of_this_one(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), pending_file(tmp_path / "report.json"):
        (tmp_path / "other").read_text()


def test_interrupts_are_held_back_only_while_the_file_is_made(tmp_path: Path) -> None:
    def held_back() -> set[int]:
        return signal.pthread_sigmask(signal.SIG_BLOCK, ()) & {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}

    with pending_file(tmp_path / "a"):
        assert not held_back()
    with pytest.raises(CascadeSimError), pending_file(tmp_path / "missing" / "a"):
        pass
    assert not held_back()
