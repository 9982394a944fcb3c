"""What `simulate` does once its options are read: names become values, each combination a request, results text.

Files are opened before the work starts and appear when all of it is done.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import chain, product
from pathlib import Path
from typing import TextIO, TypeVar, cast

from cascadesim.accelerators import catalogue
from cascadesim.accelerators.protocol import Accelerator, Accounting, TakesMappings
from cascadesim.einsum_cascades.models.layers import Phase
from cascadesim.einsum_cascades.models.workload import Scope, Workload
from cascadesim.einsum_cascades.notation.errors import CascadeSimError, shortened
from cascadesim.einsum_cascades.texts import cascade_names, find
from cascadesim.simulator import cli, report_page, views
from cascadesim.simulator.report import Report, document
from cascadesim.simulator.request import AnyWorkload, Fidelity, Request, load_any_workload
from cascadesim.simulator.result import Result, delivered, write_lines
from cascadesim.simulator.simulate import reports
from cascadesim.simulator.views.output import cell, progress

Answer = TypeVar("Answer")
_LONG_SWEEP = 24  # requests from which a progress bar is worth its import


class UnansweredError(CascadeSimError):
    """Some runs of a sweep cannot be: each is named, however many there are."""

    def __str__(self) -> str:
        return "\n".join(self.problems)


def run(
    ask: Callable[[tuple[str, ...]], Iterable[Request]], settings: tuple[str, ...], format_: str, output: Path | None,
    plot: Path | None, trace: Path | None, report: Path | None, show: str | None, again: bool,
) -> Result[tuple[Report, ...]]:  # fmt: skip
    """Answer every request; `ask` makes them of settings once the files are open.

    A request that cannot be answered does not keep the others from it: the result says why, and (where names can be
    read `again`) which settings change nothing. Raises CascadeSimError where none could be answered.
    """

    def found() -> Result[tuple[Report, ...]]:
        requests = asked = tuple(ask(settings))
        problems: tuple[str, ...] = ()
        results: tuple[Report, ...] = ()
        if show is None or report is not None or (plot is not None and show != "mapping"):
            requests, results, problems = _answered(requests, reports)
        asked_of, page = requests, partial(_page, requests, results)
        if show is None:
            table = partial(_print_table, results)
        else:
            requests, texts, further = _answered(requests, _view(show))
            problems, table = (*problems, *further), partial(write_lines, texts)
        drawn = partial(_draw_mappings, requests) if show == "mapping" else partial(_draw, results, asked_of)
        return Result(
            results, lambda: document(results), lambda: (each.to_row() for each in results), table,
            drawn, partial(_write_trace, requests), page, {"csv": partial(_write_csv, results)}, problems,
            _unused(ask, settings, asked) if settings and again and show is None else (), 2 if problems else 0,
        )  # fmt: skip

    return delivered(found, format_, output, plot, trace, report)


def _unused(
    ask: Callable[[tuple[str, ...]], Iterable[Request]], settings: tuple[str, ...], requests: Sequence[Request]
) -> tuple[str, ...]:
    return cli.settings.unused(ask, settings, requests)


def requests_of(
    settings: tuple[str, ...], architectures: Sequence[str | Accelerator], workloads: Sequence[str | AnyWorkload],
    attention: str | None, lengths: Sequence[int], batches: Sequence[int], phases: Sequence[str], scope: str,
    fidelity: str | None, accounting: str, mapping: str | None = None,
) -> Iterator[Request]:  # fmt: skip
    """Combine every workload, phase, batch and length (or the workload's own) with every architecture.

    `fidelity` None: the cycle level where the architecture has one.
    """
    loaded, of_workload = _loaded(settings, architectures)
    accelerators, made = zip(*loaded, strict=True)
    if mapping is not None:
        accelerators, attention = mapped(accelerators, mapping, attention)
    also = () if mapping is None else (f"mapping={mapping}",)
    models = [load_any_workload(name, of_workload) for name in workloads]
    asked = product(models, phases, batches or (None,), lengths or (None,), zip(accelerators, made, strict=True))
    for workload, phase, batch, length, (accelerator, own) in asked:
        traced = None if isinstance(workload, Workload) else workload  # its phase is that of its rows
        can = accelerator.capabilities
        yield Request(
            workload, accelerator, length, batch, cast(Phase, phase) if traced is None else traced.phase,
            cast(Scope, scope) if traced is None or scope != "model" else "attention",
            cast(Fidelity, fidelity or ("cycle" if can.cycle_level and not can.calibrated else "analytical")),
            cast(Accounting, accounting), attention, (*own, *also),
        )  # fmt: skip


def _loaded(
    settings: tuple[str, ...], architectures: Sequence[str | Accelerator]
) -> tuple[list[tuple[Accelerator, tuple[str, ...]]], tuple[str, ...]]:
    """Load every architecture with its settings, and name the settings as they were made; and those of workloads."""
    if not settings:
        return [(catalogue.load(name) if isinstance(name, str) else name, ()) for name in architectures], ()
    of_workload = tuple(setting for setting in settings if cli.settings.of_a_workload(setting))
    own = tuple(setting for setting in settings if setting not in of_workload)
    loaded = (cli.settings.load_architecture(name, own) for name in architectures)
    return [(found, tuple(made.get(each, each) for each in settings)) for found, made in loaded], of_workload


def mapped(
    accelerators: Sequence[Accelerator], mapping: str, attention: str | None
) -> tuple[tuple[Accelerator, ...], str | None]:
    """Give every accelerator a mapping by name, from a file, or with `search` its best one; and the cascade it is for.

    Raises CascadeSimError for a machine that takes none, and for a mapping of another cascade than was asked for.
    """
    from cascadesim.accelerators.mapping.text import find_mapping  # only where a mapping is given

    chosen = None if mapping == "search" else find_mapping(mapping)
    if chosen is not None and attention is not None and chosen.cascade != Path(attention).stem:
        raise CascadeSimError(f"{chosen.name} is a mapping for {chosen.cascade}, not for {shortened(attention)}")
    found = []
    for accelerator in accelerators:
        if not isinstance(accelerator, TakesMappings):
            raise CascadeSimError(f"{accelerator.name} takes no mapping: its own model says what goes where")
        found.append(accelerator.with_mapping(chosen))
    known = chosen is not None and chosen.cascade in cascade_names()
    is_attention = known and {"Q", "K", "V"} <= set(find(chosen.cascade).inputs) if chosen is not None else False
    return tuple(found), chosen.cascade if chosen is not None and attention is None and is_attention else attention


def _answered(
    requests: Sequence[Request], answer: Callable[[Request], Iterable[Answer]]
) -> tuple[tuple[Request, ...], tuple[Answer, ...], tuple[str, ...]]:
    """Return the requests that could be answered, their answers, and why the others could not.

    Raises CascadeSimError where none could.
    """
    answers: dict[int, tuple[Answer, ...]] = {}
    problems: dict[int, str] = {}
    with progress(("simulating",), shown=len(requests) >= _LONG_SWEEP) as watches:
        for number, request in enumerate(requests):
            try:
                answers[number] = tuple(answer(request))
            except CascadeSimError as error:
                problems[number] = str(error)
            for watch in watches.values():
                watch(number + 1, len(requests))
    if not answers and len(set(problems.values())) == 1:
        raise CascadeSimError(problems[0])
    phases, batches = ({getattr(each, name) for each in requests} for name in ("phase", "sequences"))
    lines = tuple(
        f"{asked.workload.name}, {f'{asked.phase}, ' * (len(phases) > 1)}{asked.length:,} tokens"
        f"{f' x {asked.sequences:,}' * (len(batches) > 1)}, on {asked.accelerator.name}: {problems[number]}"
        for number, asked in enumerate(requests) if number in problems
    )  # fmt: skip
    if not answers:
        raise UnansweredError("\n".join(lines))
    return tuple(requests[number] for number in answers), tuple(chain.from_iterable(answers.values())), lines


def _print_table(results: Sequence[Report], stream: TextIO) -> None:
    views.render.print_reports(results, stream)


def _write_csv(results: Sequence[Report], stream: TextIO) -> None:
    """Every column that any of the reports has; a figure that a report lacks is an empty cell."""
    rows = [report.to_row() for report in results]
    columns = list(dict.fromkeys(column for row in rows for column in row))
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(cell(column) for column in columns)
    writer.writerows([cell(row.get(column)) for column in columns] for row in rows)


def _draw(results: Sequence[Report], requests: Sequence[Request], target: Path) -> int:
    return views.plot.draw(results, target, requests)


def _draw_mappings(requests: Sequence[Request], target: Path) -> int:
    return views.mapping_plot.draw(views.mapping_plot.mapped_runs(requests), target)


def _page(requests: Sequence[Request], results: Sequence[Report]) -> str:
    return report_page.page(requests, results)


def _write_trace(requests: Sequence[Request], target: Path) -> None:
    views.trace.write_trace(requests, target)


def _view(what: str) -> Callable[[Request], Iterable[str]]:
    """Find the view that `--show` prints of a request."""
    describe, render = views.describe, views.render
    if what in render.DETAILS:
        return lambda request: (line for report in reports(request) for line in render.details(report, what))
    return {"cascade": describe.cascades, "mapping": describe.mapping, "schedule": describe.schedules,
            "bound": describe.bounds, "dram": describe.deliveries}[what]  # fmt: skip
