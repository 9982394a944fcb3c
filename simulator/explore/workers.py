"""Pieces of a run: worked on in this process, on all its cores or on a Ray cluster; finished ones kept in a checkpoint.

A piece that dies with its worker is handed out again; `ray` is optional and imported only here. A checkpoint lies
beside the run's output, so that a killed run goes on where it was: one file per chunk, written whole or not at all,
with a checksum that binds it to its name and to the stamp of the run (space, version, how the space is cut).
"""

from __future__ import annotations

import ctypes
import hashlib
import multiprocessing
import os
import re
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import Any, Generic, Literal, TypeAlias, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.einsum_cascades.notation.schema import read_arrays

EngineName: TypeAlias = Literal["local", "ray"]
Context = TypeVar("Context")
Piece = TypeVar("Piece")
Result = TypeVar("Result")

_MOST_LOSSES = 3  # times in a row that workers die without a result before the run gives up
_WAITING_PER_WORKER = 2  # pieces handed out ahead, so that no worker waits for the next one


@dataclass(frozen=True)
class Job(Generic[Context, Piece, Result]):
    """`work(context, piece)`; the context goes to every worker once."""

    work: Callable[[Context, Piece], Result]
    context: Context


def cores() -> int:
    """The number of cores that this process may use."""
    available = getattr(os, "sched_getaffinity", None)
    return len(available(0)) if available is not None else os.cpu_count() or 1


@contextmanager
def session(engine: EngineName) -> Iterator[None]:
    """Keeps one Ray for several `run`s: one that is there, that of RAY_ADDRESS, or one that ends with the block."""
    if engine == "local":
        yield
        return
    ray = _ray()
    ours = not ray.is_initialized()
    if ours:
        ray.init(log_to_driver=False, include_dashboard=False, configure_logging=False)
    try:
        yield
    finally:
        if ours:
            ray.shutdown()


def run(
    job: Job[Context, Piece, Result], pieces: Sequence[Piece], workers: int, engine: EngineName
) -> Iterator[tuple[Piece, Result]]:
    """Yields every piece once with its result, in the order in which they are finished."""
    if engine == "ray":
        with session(engine):
            yield from _on_ray(job, pieces)
    elif workers == 1 or len(pieces) < 2:
        yield from ((piece, job.work(job.context, piece)) for piece in pieces)
    else:
        yield from _on_cores(job, pieces, min(workers, len(pieces)))


def _on_cores(
    job: Job[Context, Piece, Result], pieces: Sequence[Piece], workers: int
) -> Iterator[tuple[Piece, Result]]:
    left, losses = list(pieces), 0
    while left:
        before = len(left)
        try:
            for piece, result in _pooled(job, left, workers):
                left.remove(piece)
                yield piece, result
        except BrokenProcessPool:
            losses = losses + 1 if len(left) == before else 1
            if losses >= _MOST_LOSSES:
                raise CascadeSimError(
                    f"worker processes died {losses} times in a row without finishing anything (out of memory?); "
                    f"{len(left)} of {len(pieces)} pieces are left; try fewer --workers"
                ) from None


def _pooled(job: Job[Context, Piece, Result], pieces: Sequence[Piece], workers: int) -> Iterator[tuple[Piece, Result]]:
    start = "fork" if sys.platform == "linux" else "spawn"  # fork: scripts need no __main__ guard
    context = multiprocessing.get_context(start)
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_begin, initargs=(job,))
    ahead = workers * _WAITING_PER_WORKER
    try:
        for piece, future in _handed_out(_dealt(pieces, workers), ahead, lambda piece: pool.submit(_in_worker, piece),
                                         lambda waiting: wait(waiting, return_when=FIRST_COMPLETED).done):
            yield piece, cast("Result", future.result())
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _handed_out(
    pieces: Iterable[Piece], ahead: int, submit: Callable[[Piece], Any], finished: Callable[[list[Any]], Iterable[Any]]
) -> Iterator[tuple[Piece, Any]]:
    """Each piece with its handle once that is finished; at most `ahead` pieces wait at a time."""
    waiting: dict[Any, Piece] = {}
    unsent = iter(pieces)
    while True:
        for piece in islice(unsent, ahead - len(waiting)):
            waiting[submit(piece)] = piece
        if not waiting:
            return
        for handle in finished(list(waiting)):
            yield waiting.pop(handle), handle


def _dealt(pieces: Sequence[Piece], workers: int) -> list[Piece]:
    """The order in which each worker gets neighbours: what it remembers of one may serve the next."""
    share = -(-len(pieces) // workers)
    return [pieces[start] for first in range(share) for start in range(first, len(pieces), share)]


_JOB: list[Job[Any, Any, Any]] = []  # of this worker process


def _begin(job: Job[Any, Any, Any]) -> None:
    """Interrupts are the parent's to handle; a worker does not outlive a killed parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for ending in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(ending, signal.SIG_DFL)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # 1: PR_SET_PDEATHSIG
    _JOB[:] = [job]


def _in_worker(piece: object) -> object:
    return _JOB[0].work(_JOB[0].context, piece)


def _ray() -> Any:
    try:
        return import_module("ray")
    except ImportError:
        raise CascadeSimError("--engine ray needs Ray: pip install 'cascadesim[ray]', or use --engine local") from None


def _on_ray(job: Job[Context, Piece, Result], pieces: Sequence[Piece]) -> Iterator[tuple[Piece, Result]]:
    """Ray hands pieces of lost workers out again."""
    ray = _ray()
    context = ray.put(job.context)
    remote = ray.remote(max_retries=_MOST_LOSSES)(job.work)
    ahead = _WAITING_PER_WORKER * int(ray.cluster_resources().get("CPU", 1))
    for piece, handle in _handed_out(pieces, ahead, lambda piece: remote.remote(context, piece),
                                     lambda waiting: ray.wait(waiting, num_returns=1)[0]):
        try:
            result = ray.get(handle)
        except (ray.exceptions.WorkerCrashedError, ray.exceptions.NodeDiedError) as error:
            raise CascadeSimError(f"Ray lost a worker {_MOST_LOSSES + 1} times on one piece (out of memory?): "
                                  f"{next(iter(str(error).splitlines()), error)}") from None
        yield piece, result


Arrays = Mapping[str, NDArray[np.generic]]
_STAMP = "space.sha256"
_CHECKSUM = "checksum"
_OURS = re.compile(r"\.?(chunk|generation|round)-[0-9-]+(\.pending)?\.npz")


@dataclass(frozen=True)
class Checkpoint:
    """Finished chunks in a folder (None: nothing is kept). `stamp`: what all chunks of the run agree on."""

    folder: Path | None
    stamp: str = ""

    def load(self, name: str) -> dict[str, NDArray[np.generic]] | None:
        """Returns a finished chunk, or None; of a file that is not what this run wrote it says so."""
        path = None if self.folder is None else self.folder / f"{name}.npz"
        if path is None or not path.exists():
            return None
        try:
            found = read_arrays(path)
        except CascadeSimError:
            found = {}
        checksum = found.pop(_CHECKSUM, None)
        if checksum is not None and checksum.tobytes() == self._checksum(name, found):
            return found
        print(f"{path}: damaged or not of this run; computed again", file=sys.stderr)
        return None

    def save(self, name: str, arrays: Arrays) -> None:
        if self.folder is None:
            return
        pending = self.folder / f".{name}.pending.npz"
        checksum = np.frombuffer(self._checksum(name, arrays), np.uint8)
        with pending.open("wb") as stream:
            np.savez(stream, **arrays, **{_CHECKSUM: checksum})  # type: ignore[arg-type]
        os.replace(pending, self.folder / f"{name}.npz")

    def _checksum(self, name: str, arrays: Arrays) -> bytes:
        found = hashlib.sha256(f"{self.stamp}\n{name}".encode())
        for key, array in sorted(arrays.items()):
            found.update(f"\n{key} {array.dtype.str} {array.shape}\n".encode())
            found.update(np.ascontiguousarray(array).tobytes())
        return found.digest()

    def remove(self) -> None:
        if self.folder is not None:
            _clear(self.folder)
            with suppress(OSError):  # something else lies in it: that stays
                (self.folder / _STAMP).unlink(missing_ok=True)
                self.folder.rmdir()


def checkpoint_beside(output: Path | None, stamp: str) -> Checkpoint:
    """Opens what an earlier run of the same stamp left beside `output`; chunks of other runs of ours are removed.

    Raises CascadeSimError where a folder of that name is not of a run, or cannot be written.
    """
    if output is None:
        return Checkpoint(None)
    target = Path(os.path.realpath(output))
    if target.exists() and not target.is_file():
        return Checkpoint(None)  # a pipe or /dev/null has no beside
    folder = target.parent / f".{target.name}.partial"
    try:
        folder.mkdir(exist_ok=True)
        if _known_stamp(folder) != stamp:
            _clear(folder)
            (folder / _STAMP).write_text(stamp, encoding="utf-8")
    except OSError as error:
        raise CascadeSimError(f"{output}: cannot be written: {folder}: {error.strerror}") from None
    return Checkpoint(folder, stamp)


def _known_stamp(folder: Path) -> str:
    """The stamp that a run left in its folder; "" where there is nothing yet."""
    known = folder / _STAMP
    if known.is_file() and not folder.is_symlink():
        with suppress(ValueError):
            return known.read_text(encoding="utf-8")
    elif not folder.is_symlink() and not any(folder.iterdir()):
        return ""
    raise CascadeSimError(f"{folder}: is no folder of unfinished runs (it has no stamp of ours); nothing in it was "
                          "touched: move it away, or give another --output")


def _clear(folder: Path) -> None:
    """Removes the chunks in it, finished and unfinished."""
    for path in list(folder.iterdir()):
        if _OURS.fullmatch(path.name):
            path.unlink(missing_ok=True)
