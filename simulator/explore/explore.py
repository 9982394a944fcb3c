"""Which design: a space of designs searched, its front simulated at cycle level, the answer as a `Frame`.

Reads top to bottom. The same figures as `simulate`, for millions of designs. Knows neither the shell nor pictures.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from cascadesim.einsum_cascades.models.workload import load_workload
from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.simulator.explore.cycles import cycle_figures, points_of
from cascadesim.simulator.explore.evolution import evolutionary
from cascadesim.simulator.explore.expressions import Column
from cascadesim.simulator.explore.metrics import with_following
from cascadesim.simulator.explore.models import Reference
from cascadesim.simulator.explore.partial import Partial, partial_beside
from cascadesim.simulator.explore.problem import Digits, Problem, problem
from cascadesim.simulator.explore.refine import refined
from cascadesim.simulator.explore.results import SUFFIXES, Counts, Frame, ordered, parquet_library, write
from cascadesim.simulator.explore.search import Found, Watch, chunk_size, exhaustive
from cascadesim.simulator.explore.sensitivity import elasticities
from cascadesim.simulator.explore.space import Space, read_space, space_from
from cascadesim.simulator.explore.workers import EngineName, cores, session
from cascadesim.simulator.views.output import pending_file

Watches = Mapping[str, Watch]  # of "searching", "refining" and "simulating"


def explore(
    space: Space | Mapping[str, Any] | str | Path,
    *,
    workers: int | None = None,
    engine: EngineName = "local",
    output: Path | str | None = None,
    cycle_level: bool = True,
    watches: Watches | None = None,
) -> Frame:
    """The front of `space`: a Space, its fields as a mapping, a file, or the name of one that comes along.

    `workers`: processes (None: one per core). `output`: also write it there (.parquet, .csv); a run that was killed
    then goes on from what it had. Raises CascadeSimError on whatever is wrong with the space, UnwrittenFrontError
    if the front is found and cannot be written.
    """
    read, text, source = _read(space)
    made = problem(read, source)
    target = None if output is None else _writable(Path(output))
    partial = partial_beside(target, stamp(text, made))
    watch, processes = watches or {}, workers or cores()
    with session(engine):
        found = _searched(made, processes, engine, partial, watch)
        _refuse_nothing(made, found)
        frame = _frame(made, found, text, processes, engine, cycle_level, watch.get("simulating", _unwatched))
    if target is not None:
        _written(frame, target)
    partial.remove()
    return frame


class UnwrittenFrontError(CascadeSimError):
    """The answer is there, its file is not: what was worked out is kept beside it for another run, and here."""

    def __init__(self, problem: CascadeSimError, frame: Frame) -> None:
        super().__init__(str(problem))
        self.frame = frame


def _written(frame: Frame, target: Path) -> None:
    try:
        with pending_file(target) as pending:
            write(frame, pending, target.suffix.lower())
    except CascadeSimError as problem:
        raise UnwrittenFrontError(problem, frame) from None


def stamp(text: str, made: Problem) -> str:
    """What chunks of an unfinished run must agree on: version, space, design and workloads, and how it is cut."""
    workloads = [repr(load_workload(use.workload)) for use in made.space.workloads]
    parts = "\n".join([version("cascadesim"), str(chunk_size(made)), text, repr(made.model.fields), *workloads])
    return hashlib.sha256(parts.encode()).hexdigest()


def _read(space: Space | Mapping[str, Any] | str | Path) -> tuple[Space, str, str]:
    """The space, its text, and what errors call it."""
    if isinstance(space, str | Path):
        read, text = read_space(space)
        return read, text, Path(space).name
    import yaml

    read = space if isinstance(space, Space) else space_from(space, "space")
    content = read.model_dump(exclude_defaults=True, mode="json")
    return read, yaml.safe_dump(content, sort_keys=False, allow_unicode=True), "space"


def _writable(output: Path) -> Path:
    if output.suffix.lower() not in SUFFIXES:
        raise CascadeSimError(f"{output}: give a file that ends in {' or '.join(SUFFIXES)}")
    if output.suffix.lower() == ".parquet":
        parquet_library()
    refuse_unwritable(output)
    return output


def refuse_unwritable(target: Path) -> None:
    """Raises CascadeSimError at once if `target` cannot be written; leaves nothing behind, even if killed later."""
    with suppress(_OnlyTried), pending_file(target):
        raise _OnlyTried


class _OnlyTried(Exception):
    """Nothing has been written, so nothing shall appear."""


def _searched(made: Problem, workers: int, engine: EngineName, partial: Partial, watches: Watches) -> Found:
    asked = made.space.search
    search = evolutionary if asked.method == "evolutionary" else exhaustive
    found = search(made, workers, engine, partial, watches.get("searching", _unwatched))
    if asked.fidelity == "cycle" and found.good:
        return refined(made, found, workers, engine, partial, watches.get("refining", _unwatched))
    return found


def _refuse_nothing(made: Problem, found: Found) -> None:
    """An empty front is an error that says at which hurdle the designs fell."""
    if found.good:
        return
    if not found.allowed:
        raise CascadeSimError(f"{made.source}: none of {found.designs:,} designs holds the conditions")
    if not found.possible:
        raise CascadeSimError(f"{made.source}: none of {found.allowed:,} designs can run the work; the first: "
                              f"{_first_problem(made)}")
    raise CascadeSimError(f"{made.source}: none of {found.possible:,} designs that can run the work holds the "
                          "constraints")


def _first_problem(made: Problem) -> str:
    """Why the first design that holds the conditions cannot be."""
    first = made.first_allowed()
    if not len(first):
        return "not among the first designs"
    figures = made.figures(first)
    missing = [metric.name for metric in made.objectives if not np.isfinite(figures.get(metric.name, np.ones(1))[0])]
    return made.model.problem(points_of(made, first)[0]) or f"the model has no {', '.join(missing)} for it"


def _frame(
    made: Problem, found: Found, text: str, workers: int, engine: EngineName, cycle_level: bool, watch: Watch
) -> Frame:
    columns: dict[str, Column] = {**made.columns(found.digits)}
    closed_form = figures = made.figures(found.digits)
    judged_by_cycles = made.space.search.fidelity == "cycle"
    if made.model.has_cycle_level and (cycle_level or judged_by_cycles):
        simulated = cycle_figures(made, found.digits, workers, engine, watch)
        figures = simulated if judged_by_cycles else closed_form
        columns |= {
            "analytical_latency_s": closed_form["latency_s"], "cycle_latency_s": simulated["latency_s"],
            "cycle_difference": simulated["latency_s"] / closed_form["latency_s"] - 1,
        }  # fmt: skip
    columns |= {metric.name: figures[metric.name] for metric in made.metrics}
    first = made.objectives[0]
    return Frame(
        columns=ordered(columns, first.name, first.larger_is_better),
        fields=tuple(field.name for field in made.fields),
        objectives=tuple(metric.name for metric in made.objectives),
        counts=Counts(found.designs, found.allowed, found.possible, found.good, len(found.digits)),
        references=tuple(_complete(reference) for reference in made.model.references()),
        space_text=text,
        source=made.source,
        version=version("cascadesim"),
        elasticities=elasticities(made, _sorted(made, found)),
    )


def _sorted(made: Problem, found: Found) -> Digits:
    return found.digits[np.argsort(found.costs[:, 0], kind="stable")]


def _complete(reference: Reference) -> Reference:
    """With the metrics that follow."""
    given = {name: np.array([value]) for name, value in reference.quantities.items()}
    return Reference(reference.name, {name: float(values[0]) for name, values in with_following(given).items()})


def _unwatched(done: int, total: int) -> None:
    """Nobody looks at the progress."""
