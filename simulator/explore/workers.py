"""Works on pieces of a run in this process, on all its cores, or on a Ray cluster, and yields results as they come.

A piece that dies with its worker is handed out again. `local` needs no server; `ray` is optional and imported only
here. Knows pieces and results, no designs.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from itertools import islice
from typing import Any, Generic, Literal, TypeAlias, TypeVar, cast

from cascadesim.einsum_cascades.notation.errors import CascadeSimError

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


def _pooled(
    job: Job[Context, Piece, Result], pieces: Sequence[Piece], workers: int
) -> Iterator[tuple[Piece, Result]]:
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
