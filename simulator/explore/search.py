"""Every design of a space, chunk by chunk: the front of each chunk, then the front of those fronts.

Memory holds one chunk per worker and the fronts. Knows no files beyond finished chunks (`partial`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.simulator.explore.front import front
from cascadesim.simulator.explore.metrics import Floats
from cascadesim.simulator.explore.models import ArchitectureModel
from cascadesim.simulator.explore.partial import Partial
from cascadesim.simulator.explore.problem import Digits, Problem
from cascadesim.simulator.explore.workers import EngineName, Job, run

MOST_DESIGNS = 2_000_000_000  # assumed: half an hour on two cores; beyond, the evolutionary search serves
_VECTORISED_CHUNK = 1 << 17
_PLANNED_CHUNK = 32  # designs that are planned one by one: a second or two of work

Watch = Callable[[int, int], None]  # designs done, designs in all


@dataclass(frozen=True)
class Found:
    """A front and how many designs stand behind it."""

    digits: Digits
    costs: Floats
    designs: int
    allowed: int
    possible: int
    good: int

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        counts = np.array([self.designs, self.allowed, self.possible, self.good])
        return {"digits": self.digits, "costs": self.costs, "counts": counts}

    @staticmethod
    def of(arrays: dict[str, NDArray[np.generic]]) -> Found:
        counts = (int(count) for count in arrays["counts"].tolist())
        return Found(arrays["digits"].astype(np.int32), arrays["costs"].astype(np.float64), *counts)


@dataclass(frozen=True)
class Chunk:
    number: int
    start: int
    stop: int

    @property
    def name(self) -> str:
        return f"chunk-{self.number:06}-{self.start}-{self.stop}"


def chunk_size(problem: Problem) -> int:
    """The same for every number of workers, so that a run may go on with another."""
    model = problem.model
    vectorised = isinstance(model, ArchitectureModel) and model.is_vectorised
    return _VECTORISED_CHUNK if vectorised else _PLANNED_CHUNK


def exhaustive(problem: Problem, workers: int, engine: EngineName, partial: Partial, watch: Watch) -> Found:
    """Raises CascadeSimError on a space too large for it."""
    if problem.size > MOST_DESIGNS:
        raise CascadeSimError(
            f"{problem.source}: {problem.size:.2e} designs are too many to look at each (at most {MOST_DESIGNS:.0e}); "
            "use search: {method: evolutionary}, or coarser steps"
        )
    chunks = chunks_of(problem)
    found = {chunk.number: Found.of(arrays) for chunk in chunks if (arrays := partial.load(chunk.name)) is not None}
    done = sum(part.designs for part in found.values())
    watch(done, problem.size)
    left = [chunk for chunk in chunks if chunk.number not in found]
    for chunk, part in run(Job(search_chunk, problem), left, workers, engine):
        partial.save(chunk.name, part.arrays())
        found[chunk.number] = part
        done += part.designs
        watch(done, problem.size)
    return merged([found[chunk.number] for chunk in chunks])


def chunks_of(problem: Problem) -> list[Chunk]:
    size = chunk_size(problem)
    return [Chunk(number, start, min(start + size, problem.size))
            for number, start in enumerate(range(0, problem.size, size))]


def search_chunk(problem: Problem, chunk: Chunk) -> Found:
    digits = problem.digits_of(chunk.start, chunk.stop)
    judged = problem.judge(digits)
    kept = front(judged.costs) if judged.good.size else np.empty(0, dtype=np.intp)
    return Found(digits[judged.good[kept]], judged.costs[kept], len(digits), judged.allowed, judged.possible,
                 judged.good.size)


def merged(parts: list[Found]) -> Found:
    """In the order of the parts, so that of equal designs the first of the space stays."""
    digits = np.concatenate([part.digits for part in parts])
    costs = np.concatenate([part.costs for part in parts])
    kept = front(costs) if len(costs) else np.empty(0, dtype=np.intp)
    sums = (sum(getattr(part, name) for part in parts) for name in ("designs", "allowed", "possible", "good"))
    return Found(digits[kept], costs[kept], *sums)


def pieces_of(digits: Digits, pieces: int) -> Iterator[Digits]:
    yield from (part for part in np.array_split(digits, max(1, min(pieces, len(digits)))) if len(part))
