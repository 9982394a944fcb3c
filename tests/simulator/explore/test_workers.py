"""Pieces of work on cores and on Ray: each done once, whatever happens to the workers.

What a killed run left: believed where this run wrote it, computed again otherwise, and never somebody else's.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import numpy as np
import pytest

from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.simulator.explore import search as explore_search
from cascadesim.simulator.explore.explore import explore
from cascadesim.simulator.explore.workers import Checkpoint, Job, _dealt, _handed_out, checkpoint_beside, cores, run


def square(context: int, piece: int) -> int:
    return context * piece * piece


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_every_piece_is_done_once(workers: int) -> None:
    found = list(run(Job(square, 3), range(10), workers, "local"))
    assert sorted(found) == [(piece, 3 * piece * piece) for piece in range(10)]
    assert cores() >= 1


def die_once(marker: str, piece: int) -> int:
    path = Path(marker)
    if piece == 3 and not path.exists():
        path.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return piece * piece


def always_die(marker: str, piece: int) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return piece


def test_a_killed_worker_loses_nothing(tmp_path: Path) -> None:
    found = dict(run(Job(die_once, str(tmp_path / "died")), range(8), 2, "local"))
    assert found == {piece: piece * piece for piece in range(8)}
    assert (tmp_path / "died").exists()


def test_workers_that_always_die_are_one_clear_error() -> None:
    with pytest.raises(CascadeSimError, match=r"worker processes died 3 times .* fewer --workers"):
        list(run(Job(always_die, ""), range(4), 2, "local"))


@pytest.mark.slow
def test_a_killed_ray_worker_loses_nothing(tmp_path: Path) -> None:
    ray = pytest.importorskip("ray")
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import this file
    found = dict(run(Job(die_once, str(tmp_path / "died")), range(8), 2, "ray"))
    assert found == {piece: piece * piece for piece in range(8)}
    assert (tmp_path / "died").exists()


@pytest.mark.slow
def test_ray_workers_that_always_die_are_one_clear_error() -> None:
    ray = pytest.importorskip("ray")
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    with pytest.raises(CascadeSimError, match="Ray lost a worker"):
        list(run(Job(always_die, ""), range(2), 2, "ray"))


def test_each_worker_gets_neighbours() -> None:
    """Of ten pieces, three workers that take turns get 0 1 2 3, 4 5 6 7, 8 9."""
    assert _dealt(range(10), 3) == [0, 4, 8, 1, 5, 9, 2, 6, 3, 7]
    for pieces in range(1, 20):
        for workers in range(1, 6):
            assert sorted(_dealt(range(pieces), workers)) == list(range(pieces))


def test_pieces_are_handed_out_ahead_and_no_more_than_that() -> None:
    """Seven pieces, three at a time: one is finished, the next goes out."""
    seen: list[int] = []

    def first_one(waiting: list[int]) -> list[int]:
        seen.append(len(waiting))
        return waiting[:1]

    found = list(_handed_out(range(7), 3, lambda piece: 10 * piece, first_one))
    assert found == [(piece, 10 * piece) for piece in range(7)]
    assert seen == [3, 3, 3, 3, 3, 2, 1]


ARRAYS = {"digits": np.arange(6, dtype=np.int32).reshape(3, 2), "costs": np.array([[1.5], [2.5], [3.5]])}
SMALL = Path(__file__).parent / "small_space.yaml"


@pytest.fixture
def begun(tmp_path: Path) -> Checkpoint:
    checkpoint = checkpoint_beside(tmp_path / "front.csv", "a" * 64)
    checkpoint.save("chunk-000000-0-3", ARRAYS)
    return checkpoint


def chunk(checkpoint: Checkpoint) -> Path:
    assert checkpoint.folder is not None
    return checkpoint.folder / "chunk-000000-0-3.npz"


def test_a_chunk_comes_back_as_it_was(begun: Checkpoint, tmp_path: Path) -> None:
    found = checkpoint_beside(tmp_path / "front.csv", "a" * 64).load("chunk-000000-0-3")
    assert found is not None
    assert all(np.array_equal(found[name], array) for name, array in ARRAYS.items())
    assert begun.load("chunk-000001-3-6") is None


@pytest.mark.parametrize("damage", [
    lambda content: b"", lambda content: content[:100], lambda content: b"PK\x03\x04", lambda content: b"\xff" * 99,
    lambda content: content.replace(b"digits", b"digitz"), lambda content: content[:-40] + bytes(40),
])  # fmt: skip
def test_a_damaged_chunk_is_computed_again_and_said_once(
    begun: Checkpoint, damage: object, capsys: pytest.CaptureFixture[str]
) -> None:
    path = chunk(begun)
    path.write_bytes(damage(path.read_bytes()))  # type: ignore[operator]
    assert begun.load("chunk-000000-0-3") is None
    assert capsys.readouterr().err == f"{path}: damaged or not of this run; computed again\n"


@pytest.mark.parametrize("arrays", [
    {**ARRAYS, "costs": ARRAYS["costs"] * 0.5}, {"digits": ARRAYS["digits"]}, {},
    {**ARRAYS, "digits": ARRAYS["digits"].reshape(2, 3)},
])  # fmt: skip
def test_a_readable_chunk_with_other_contents_is_not_believed(begun: Checkpoint, arrays: dict[str, np.ndarray]) -> None:
    with np.load(chunk(begun)) as written:
        checksum = written["checksum"]
    np.savez(chunk(begun), checksum=checksum, **arrays)  # type: ignore[arg-type]
    assert begun.load("chunk-000000-0-3") is None


def test_a_chunk_is_bound_to_its_range_and_to_its_run(begun: Checkpoint) -> None:
    path = chunk(begun)
    path.rename(path.with_name("chunk-000001-3-6.npz"))
    assert begun.load("chunk-000001-3-6") is None
    path.with_name("chunk-000001-3-6.npz").rename(path)
    assert Checkpoint(begun.folder, "b" * 64).load("chunk-000000-0-3") is None
    assert begun.load("chunk-000000-0-3") is not None


def test_chunks_of_another_run_are_removed(begun: Checkpoint, tmp_path: Path) -> None:
    checkpoint_beside(tmp_path / "front.csv", "b" * 64)
    assert not chunk(begun).exists()


@pytest.mark.parametrize("stamp", [None, b"\xff\xfe"])
def test_a_folder_that_no_run_wrote_is_left_alone(stamp: bytes | None, tmp_path: Path) -> None:
    folder = tmp_path / ".front.csv.partial"
    folder.mkdir()
    (folder / "chunk-000000-0-3.npz").write_text("mine")
    if stamp is not None:
        (folder / "space.sha256").write_bytes(stamp)
    with pytest.raises(CascadeSimError, match=r"\.front\.csv\.partial: is no folder of unfinished runs"):
        checkpoint_beside(tmp_path / "front.csv", "a" * 64)
    assert (folder / "chunk-000000-0-3.npz").read_text() == "mine"


def test_what_a_user_put_beside_the_chunks_stays(begun: Checkpoint) -> None:
    path = chunk(begun).with_name("notes.txt")
    path.write_text("mine")
    begun.remove()
    assert path.read_text() == "mine"
    assert not chunk(begun).exists()


def test_nothing_is_left_of_a_run_that_succeeded(begun: Checkpoint) -> None:
    begun.remove()
    assert not chunk(begun).parent.exists()


def test_a_run_with_damaged_and_foreign_chunks_finds_the_same_front(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(explore_search, "_VECTORISED_CHUNK", 50)
    expected = list(explore(SMALL, workers=1, cycle_level=False).rows())
    target = tmp_path / "front.csv"
    monkeypatch.setattr(Checkpoint, "remove", lambda self: None)
    explore(SMALL, workers=1, cycle_level=False, output=target)
    first, second, _ = sorted((tmp_path / ".front.csv.partial").glob("chunk-*.npz"))
    first.write_bytes(first.read_bytes()[:200])
    with np.load(second) as found:
        arrays = {name: found[name] for name in found.files}
    np.savez(second, **{**arrays, "costs": arrays["costs"] * 0.01})
    capsys.readouterr()  # what was compiled for the first time has been said
    assert list(explore(SMALL, workers=1, cycle_level=False, output=target).rows()) == expected
    said = capsys.readouterr().err.splitlines()
    assert [line.split(":")[0] for line in said] == [str(first), str(second)]
