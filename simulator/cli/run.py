"""What `simulate` does once its options are read: names become values, each combination a request, results text.

Files are opened before the work starts and appear when all of it is done.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from itertools import chain, product
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, cast

from cascadesim.accelerators.protocol import Accelerator, Accounting
from cascadesim.einsum_cascades.models.projections import Phase
from cascadesim.einsum_cascades.models.workload import Scope
from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.simulator import workloads
from cascadesim.simulator.cli.settings import load_architecture, split
from cascadesim.simulator.execution import Fidelity
from cascadesim.simulator.report import Report
from cascadesim.simulator.simulate import Request, reports
from cascadesim.simulator.views.output import pending_files, written_to
from cascadesim.simulator.views.terminal import json_text, printable

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

Answer = TypeVar("Answer")
_LONG_SWEEP = 24  # requests from which a progress bar is worth its import


@dataclass(frozen=True)
class Sweep:
    """Every architecture with every workload at every length."""

    architectures: tuple[str, ...]
    workloads: tuple[str, ...]
    attention: str | None
    sequence_lengths: tuple[int, ...]  # none: the workload's own
    batch: int | None
    phase: str
    scope: str
    fidelity: str | None  # None: the cycle level where the architecture has one
    accounting: str
    settings: tuple[str, ...]


@dataclass(frozen=True)
class Outputs:
    """Where results go, in which form."""

    format: str
    output: Path | None
    plot: Path | None
    trace: Path | None
    show: str | None


class UnansweredError(CascadeSimError):
    """Runs of a sweep that cannot be: each is named, however many there are."""

    def __str__(self) -> str:
        return "\n".join(self.problems)


def run(sweep: Sweep, outputs: Outputs) -> None:
    """A request that cannot be answered does not keep the others from it: raises CascadeSimError at the end."""
    with pending_files((outputs.output, outputs.plot, outputs.trace)) as (output, plot, trace):
        requests = tuple(_requests(sweep))
        problems: tuple[str, ...] = ()
        results: tuple[Report, ...] = ()
        if outputs.show is None or plot is not None:
            requests, results, problems = _answered(requests, reports)
        if outputs.show is not None:
            requests, texts, further = _answered(requests, partial(_shown, outputs.show))
            problems += further
            _print("".join(f"{printable(text)}\n" for text in texts), output)
        else:
            _print_results(results, outputs.format, output)
        if plot is not None:
            from cascadesim.simulator.views.plot import draw

            draw(results, plot)
        if trace is not None:
            from cascadesim.simulator.views.trace import write_trace

            write_trace(requests, trace)
    if problems:
        raise UnansweredError("\n".join(problems))


def _requests(sweep: Sweep) -> Iterator[Request]:
    of_workload, of_architecture = split(sweep.settings)
    accelerators = [load_architecture(name, of_architecture) for name in sweep.architectures]
    loaded = [workloads.load(name, of_workload) for name in sweep.workloads]
    lengths = sweep.sequence_lengths or (None,)
    for workload, length, accelerator in product(loaded, lengths, accelerators):
        yield Request(
            workload,
            accelerator,
            length,
            sweep.batch,
            workloads.phase_of(workload, cast(Phase, sweep.phase)),
            workloads.scope_of(workload, cast(Scope, sweep.scope)),
            _fidelity(sweep, accelerator),
            cast(Accounting, sweep.accounting),
            sweep.attention,
            sweep.settings,
        )


def _fidelity(sweep: Sweep, accelerator: Accelerator) -> Fidelity:
    """--trace and --show schedule are about the cycle level, and say so where there is none."""
    if sweep.fidelity is not None:
        return cast(Fidelity, sweep.fidelity)
    can = accelerator.capabilities
    return "cycle" if can.cycle_level and not can.calibrated else "analytical"


def _answered(
    requests: Sequence[Request], answer: Callable[[Request], Iterable[Answer]]
) -> tuple[tuple[Request, ...], tuple[Answer, ...], tuple[str, ...]]:
    """The requests that could be answered, their answers, and why the others could not.

    Raises CascadeSimError where none could.
    """
    answers: dict[int, tuple[Answer, ...]] = {}
    problems: dict[int, str] = {}
    with _progress(requests) as watched:
        for number, request in enumerate(watched):
            try:
                answers[number] = tuple(answer(request))
            except CascadeSimError as error:
                problems[number] = str(error)
    if not answers and len(set(problems.values())) == 1:
        raise CascadeSimError(problems[0])
    lines = tuple(f"{_named(requests[number])}: {problem}" for number, problem in problems.items())
    if not answers:
        raise UnansweredError("\n".join(lines))
    return tuple(requests[number] for number in answers), tuple(chain.from_iterable(answers.values())), lines


def _named(request: Request) -> str:
    return f"{request.workload.name}, {request.length:,} tokens, on {request.accelerator.name}"


def _progress(requests: Sequence[Request]) -> AbstractContextManager[Iterable[Request]]:
    """The requests, counted on a terminal's standard error where they are many."""
    if len(requests) < _LONG_SWEEP or not sys.stderr.isatty():
        return nullcontext(requests)
    import click

    return click.progressbar(requests, label="simulating", file=sys.stderr)


def _print_results(results: Sequence[Report], format_: str, output: Path | None) -> None:
    with written_to(output) as stream:
        if format_ == "table":
            from cascadesim.simulator.views.render import print_reports

            print_reports(results, stream)
        elif format_ == "json":
            from cascadesim.simulator.report import document

            stream.write(json_text(document(results)))
        else:
            from cascadesim.simulator.views.report_csv import write_csv

            write_csv(results, stream)


def _shown(what: str, request: Request) -> Iterator[str]:
    from cascadesim.simulator.views import describe

    form = {
        "cascade": describe.cascades,
        "mapping": describe.mapping,
        "schedule": describe.schedules,
        "bound": describe.bounds,
        "dram": describe.deliveries,
    }[what]
    return iter(form(request))


def _print(text: str, output: Path | None) -> None:
    with written_to(output) as stream:
        stream.write(text)
