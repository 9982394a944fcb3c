"""What `simulate` does once its options are read: names become values, each combination a request, results text.

Files are opened before the work starts and appear when all of it is done.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, TextIO, cast

from cascadesim.accelerators.protocol import Accelerator, Accounting
from cascadesim.einsum_cascades.projections import Phase
from cascadesim.einsum_cascades.workload import Scope
from cascadesim.simulator import workloads
from cascadesim.simulator.cli_settings import load_architecture, split
from cascadesim.simulator.execution import Fidelity
from cascadesim.simulator.output import pending_files
from cascadesim.simulator.report import Report
from cascadesim.simulator.simulate import Request, reports

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

_LONG_SWEEP = 24  # requests from which a progress bar is worth its import


@dataclass(frozen=True)
class Sweep:
    """Every architecture with every workload at every length."""

    architectures: tuple[str, ...]
    workloads: tuple[str, ...]
    attention: str | None
    sequence_lengths: tuple[int, ...] | None
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


def run(sweep: Sweep, outputs: Outputs) -> None:
    with pending_files((outputs.output, outputs.plot, outputs.trace)) as (output, plot, trace):
        requests = tuple(_requests(sweep))
        results = _simulated(requests) if outputs.show is None or plot is not None else ()
        if outputs.show is not None:
            _print("".join(f"{text}\n" for text in _shown(requests, outputs.show)), output)
        else:
            _print_results(results, outputs.format, output)
        if plot is not None:
            from cascadesim.simulator.plot import draw

            draw(results, plot)
        if trace is not None:
            from cascadesim.simulator.trace import write_trace

            write_trace(requests, trace)


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


def _simulated(requests: Sequence[Request]) -> tuple[Report, ...]:
    with _progress(requests) as watched:
        return tuple(report for request in watched for report in reports(request))


def _progress(requests: Sequence[Request]) -> AbstractContextManager[Iterable[Request]]:
    """The requests, counted on a terminal's standard error where they are many."""
    if len(requests) < _LONG_SWEEP or not sys.stderr.isatty():
        return nullcontext(requests)
    import click

    return click.progressbar(requests, label="simulating", file=sys.stderr)


def _print_results(results: Sequence[Report], format_: str, output: Path | None) -> None:
    with _target(output) as stream:
        if format_ == "table":
            from cascadesim.simulator.render import print_reports

            print_reports(results, stream)
        elif format_ == "json":
            import json

            from cascadesim.simulator.report import document

            stream.write(json.dumps(document(results), indent=1, allow_nan=False, ensure_ascii=False) + "\n")
        else:
            from cascadesim.simulator.flat_rows import write_csv

            write_csv(results, stream)


def _shown(requests: Sequence[Request], what: str) -> Iterator[str]:
    from cascadesim.simulator import describe

    form = {
        "cascade": describe.cascades,
        "mapping": describe.mapping,
        "schedule": describe.schedules,
        "bound": describe.bounds,
        "dram": describe.deliveries,
    }[what]
    for request in requests:
        yield from form(request)


def _print(text: str, output: Path | None) -> None:
    with _target(output) as stream:
        stream.write(text)


def _target(output: Path | None) -> AbstractContextManager[TextIO]:
    return nullcontext(sys.stdout) if output is None else output.open("w", encoding="utf-8")
