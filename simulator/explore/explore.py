"""Which design: a space of designs searched, its front simulated at cycle level, the answer as a `Frame`.

Reads top to bottom. The same figures as `simulate`, for millions of designs. Knows neither the shell nor pictures.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import yaml

from cascadesim.accelerators.catalogue import Column, Floats
from cascadesim.einsum_cascades.models.workload import load_workload
from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.simulator.explore.models import Reference, available, with_following
from cascadesim.simulator.explore.problem import Digits, SearchProblem, problem
from cascadesim.simulator.explore.results import SUFFIXES, Frame, evenly_picked, parquet_library, write
from cascadesim.simulator.explore.search import (
    Found,
    Watch,
    chunk_size,
    cycle_figures,
    evolutionary,
    exhaustive,
    refined,
)
from cascadesim.simulator.explore.space import Space, read_space, space_from
from cascadesim.simulator.explore.workers import EngineName, checkpoint_beside, cores, session
from cascadesim.simulator.views.output import pending_file

Watches: TypeAlias = Mapping[str, Watch]  # of "searching", "refining" and "simulating"
_MOST_ELASTICITIES = 256  # designs of the front around which they are taken, evenly picked


def explore(
    space: Space | Mapping[str, Any] | str | Path, *, workers: int | None = None, engine: EngineName = "local",
    output: Path | str | None = None, cycle_level: bool = True, watches: Watches | None = None,
) -> Frame:  # fmt: skip
    """The front of `space`: a Space, its fields as a mapping, a file, or the name of one that comes along.

    `workers`: processes (None: one per core). `output`: also write it there (.parquet, .csv); a run that was killed
    then goes on from what it had. Raises CascadeSimError on whatever is wrong with the space, UnwrittenFrontError
    if the front is found and cannot be written.
    """
    read, text, source = _read(space)
    made = problem(read, source)
    target = None if output is None else Path(output)
    if target is not None:
        if target.suffix.lower() not in SUFFIXES:
            raise CascadeSimError(f"{target}: give a file that ends in {' or '.join(SUFFIXES)}")
        if target.suffix.lower() == ".parquet":
            parquet_library()
        refuse_unwritable(target)
    checkpoint = checkpoint_beside(target, _stamp(text, made))
    watch, processes = watches or {}, workers or cores()
    with session(engine):
        search = evolutionary if made.space.search.method == "evolutionary" else exhaustive
        found = search(made, processes, engine, checkpoint, watch.get("searching", _unwatched))
        if made.space.search.fidelity == "cycle" and found.counts.good:
            found = refined(made, found, processes, engine, checkpoint, watch.get("refining", _unwatched))
        _refuse_nothing(made, found)
        frame = _frame(made, found, text, processes, engine, cycle_level, watch.get("simulating", _unwatched))
    if target is not None:
        try:
            with pending_file(target) as pending:
                write(frame, pending, target.suffix.lower())
        except CascadeSimError as error:
            raise UnwrittenFrontError(error, frame) from None
    checkpoint.remove()
    return frame


class UnwrittenFrontError(CascadeSimError):
    """The answer is there, its file is not: what was worked out is kept beside it for another run, and here."""

    def __init__(self, problem: CascadeSimError, frame: Frame) -> None:
        super().__init__(str(problem))
        self.frame = frame


def _stamp(text: str, made: SearchProblem) -> str:
    """A digest of what chunks of an unfinished run must agree on: version, space, design, workloads, size of chunks."""
    workloads = [repr(load_workload(use.workload)) for use in made.space.workloads]
    parts = "\n".join([version("cascadesim"), str(chunk_size(made)), text, repr(made.model.fields), *workloads])
    return hashlib.sha256(parts.encode()).hexdigest()


def _read(space: Space | Mapping[str, Any] | str | Path) -> tuple[Space, str, str]:
    """Returns the space, its text, and the name that errors give it."""
    if isinstance(space, str | Path):
        read, text = read_space(space)
        return read, text, Path(space).name
    read = space if isinstance(space, Space) else space_from(space, "space")
    content = read.model_dump(exclude_defaults=True, mode="json")
    return read, yaml.safe_dump(content, sort_keys=False, allow_unicode=True), "space"


def refuse_unwritable(target: Path) -> None:
    """Raises CascadeSimError at once if `target` cannot be written; leaves nothing behind, even if killed later."""
    with suppress(_OnlyTried), pending_file(target):
        raise _OnlyTried


class _OnlyTried(Exception):
    """Nothing has been written, so nothing shall appear."""


def _refuse_nothing(made: SearchProblem, found: Found) -> None:
    """An empty front is an error that says at which hurdle the designs fell."""
    counts = found.counts
    if counts.good:
        return
    if not counts.allowed:
        raise CascadeSimError(f"{made.source}: none of {counts.designs:,} designs holds the conditions")
    if not counts.possible:
        why, first = "not among the first designs", made.first_allowed()
        if len(first):
            figures = made.figures(first)
            missing = [metric.name for metric in made.objectives
                       if not np.isfinite(figures.get(metric.name, np.ones(1))[0])]
            why = made.model.problem(made.points(first)[0]) or f"the model has no {', '.join(missing)} for it"
        raise CascadeSimError(f"{made.source}: none of {counts.allowed:,} designs can run the work; the first: {why}")
    raise CascadeSimError(f"{made.source}: none of {counts.possible:,} designs that can run the work holds the "
                          "constraints")


def _frame(
    made: SearchProblem, found: Found, text: str, workers: int, engine: EngineName, cycle_level: bool, watch: Watch
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
    columns |= {name: figures[name] for name in available(made.model.given)}
    references = []
    for reference in made.model.references():
        given = {name: np.array([value]) for name, value in reference.quantities.items()}
        complete = {name: float(values[0]) for name, values in with_following(given).items()}
        references.append(Reference(reference.name, complete))
    first = made.objectives[0]
    order = np.argsort(columns[first.name] * (-1 if first.larger_is_better else 1), kind="stable")
    return Frame(
        columns={name: column[order] for name, column in columns.items()},
        fields=tuple(field.name for field in made.fields), objectives=tuple(metric.name for metric in made.objectives),
        counts=found.counts, references=tuple(references),
        space_text=text, source=made.source, version=version("cascadesim"),
        elasticities=elasticities(made, found.digits[np.argsort(found.costs[:, 0], kind="stable")]),
    )  # fmt: skip


def elasticities(made: SearchProblem, digits: Digits) -> dict[tuple[str, str], tuple[float, float, float]]:
    """Which field moves which objective: (field, objective) -> 10th percentile, median, 90th over the front.

    Elasticity e: one percent more of the field changes the objective by e percent. Fields that are derived follow;
    conditions and constraints do not hold a step back. Fields of numbers only.
    """
    chosen = digits[evenly_picked(len(digits), _MOST_ELASTICITIES)]
    found: dict[tuple[str, str], tuple[float, float, float]] = {}
    for number, field in enumerate(made.fields):
        if len(field.values) > 1 and field.column.dtype.kind in "iuf" and field.column.min() > 0:
            for name, slopes in _slopes(made, chosen, number).items():
                if slopes.size:
                    low, middle, high = np.percentile(slopes, [10, 50, 90]).tolist()
                    found[field.name, name] = (low, middle, high)
    return found


def _slopes(made: SearchProblem, digits: Digits, number: int) -> dict[str, Floats]:
    """The slopes of each objective at every design, over the widest step that the field has around it."""
    below, above = digits.copy(), digits.copy()
    below[:, number] = np.maximum(below[:, number] - 1, 0)
    above[:, number] = np.minimum(above[:, number] + 1, len(made.fields[number].values) - 1)
    values = made.fields[number].column.astype(np.float64)
    step = np.log(values[above[:, number]] / values[below[:, number]])
    figures = [{**made.columns(digits), **made.figures(digits)} for digits in (below, above)]
    found = {}
    for metric in made.objectives:
        low, high = (each[metric.name].astype(np.float64) for each in figures)
        with np.errstate(divide="ignore", invalid="ignore"):
            slopes = np.log(high / low) / step
        found[metric.name] = slopes[np.isfinite(slopes)]
    return found


def _unwatched(done: int, total: int) -> None:
    """Nobody looks at the progress."""
