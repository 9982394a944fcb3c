"""Pieces of work on cores and on Ray: each done once, whatever happens to the workers."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.simulator.explore.workers import Job, _dealt, _handed_out, cores, run


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
