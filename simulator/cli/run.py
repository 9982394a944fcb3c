"""What `simulate` does once its options are read: names become values, each combination a request, results text.

`--set field=value` is the workload's or the architecture's, and says what was meant where nobody has the field. Files
are opened before the work starts and appear when all of it is done.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Iterator, Sequence
from difflib import get_close_matches
from itertools import chain, product
from pathlib import Path
from typing import TypeVar, cast

from cascadesim.accelerators import catalogue
from cascadesim.accelerators.protocol import Accelerator, Accounting, TakesMappings
from cascadesim.einsum_cascades.models.layers import Phase
from cascadesim.einsum_cascades.models.workload import Scope, TracedWorkload, Workload
from cascadesim.einsum_cascades.notation.errors import CascadeSimError, SpecError, listed, shortened
from cascadesim.einsum_cascades.notation.schema import dotted, read_yaml
from cascadesim.einsum_cascades.texts import cascade_names, find
from cascadesim.simulator.report import Report, document
from cascadesim.simulator.request import Fidelity, Request, load_any_workload
from cascadesim.simulator.simulate import reports
from cascadesim.simulator.views.output import cell, json_text, pending_files, printable, progress, written_to

Answer = TypeVar("Answer")
WIDTHS = ("word_bytes", "element_bits")  # fields of arrays that are built for one
_LONG_SWEEP = 24  # requests from which a progress bar is worth its import
_LONGEST_LIST = 60  # characters of the fields that an architecture, or a workload, has


class UnansweredError(CascadeSimError):
    """Some runs of a sweep cannot be: each is named, however many there are."""

    def __str__(self) -> str:
        return "\n".join(self.problems)


def run(
    asked: Iterable[Request], format_: str, output: Path | None, plot: Path | None, trace: Path | None, show: str | None
) -> None:
    """Answer every request; they are made once the files are open.

    A request that cannot be answered does not keep the others from it: raises CascadeSimError at the end.
    """
    with pending_files((output, plot, trace)) as (text_file, plot_file, trace_file):
        requests = tuple(asked)
        problems: tuple[str, ...] = ()
        results: tuple[Report, ...] = ()
        if show is None or (plot_file is not None and show != "mapping"):
            requests, results, problems = _answered(requests, reports)
        if show is None:
            _print_results(results, format_, text_file)
        else:
            requests, texts, further = _answered(requests, _view(show))
            problems += further
            with written_to(text_file) as stream:
                stream.write("".join(f"{printable(text)}\n" for text in texts))
        if plot_file is not None and show == "mapping":
            from cascadesim.simulator.views import mapping_plot

            mapping_plot.draw(mapping_plot.mapped_runs(requests), plot_file)
        elif plot_file is not None:
            from cascadesim.simulator.views import plot as figures

            figures.draw(results, plot_file)
        if trace_file is not None:
            from cascadesim.simulator.views import trace as chrome_trace

            chrome_trace.write_trace(requests, trace_file)
    if problems:
        raise UnansweredError("\n".join(problems))


def requests_of(
    architectures: Sequence[str], workloads: Sequence[str], attention: str | None, lengths: Sequence[int],
    batch: int | None, phase: str, scope: str, fidelity: str | None, accounting: str, settings: tuple[str, ...],
    mapping: str | None = None,
) -> Iterator[Request]:  # fmt: skip
    """Combine every architecture with every workload at every length, or at the workload's own.

    `fidelity` None: the cycle level where the architecture has one.
    """
    of_workload = tuple(setting for setting in settings if _field(setting).split(".")[0] in Workload.model_fields)
    of_architecture = tuple(setting for setting in settings if setting not in of_workload)
    accelerators = [load_architecture(name, of_architecture) for name in architectures]
    if mapping is not None:
        accelerators, attention = mapped(accelerators, mapping, attention)
        settings = (*settings, f"mapping={mapping}")
    loaded = [load_any_workload(name, of_workload) for name in workloads]
    for workload, length, accelerator in product(loaded, lengths or (None,), accelerators):
        traced = workload if isinstance(workload, TracedWorkload) else None  # its phase is that of its rows
        can = accelerator.capabilities
        yield Request(
            workload, accelerator, length, batch, cast(Phase, phase) if traced is None else traced.phase,
            cast(Scope, scope) if traced is None or scope != "model" else "attention",
            cast(Fidelity, fidelity or ("cycle" if can.cycle_level and not can.calibrated else "analytical")),
            cast(Accounting, accounting), attention, settings,
        )  # fmt: skip


def mapped(
    accelerators: Sequence[Accelerator], mapping: str, attention: str | None
) -> tuple[list[Accelerator], str | None]:
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
    return found, chosen.cascade if chosen is not None and attention is None and is_attention else attention


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
    lines = tuple(
        f"{asked.workload.name}, {asked.length:,} tokens, on {asked.accelerator.name}: {problems[number]}"
        for number, asked in enumerate(requests) if number in problems
    )  # fmt: skip
    if not answers:
        raise UnansweredError("\n".join(lines))
    return tuple(requests[number] for number in answers), tuple(chain.from_iterable(answers.values())), lines


def _print_results(results: Sequence[Report], format_: str, output: Path | None) -> None:
    with written_to(output) as stream:
        if format_ == "table":
            from cascadesim.simulator.views import render

            render.print_reports(results, stream)
        elif format_ == "json":
            stream.write(json_text(document(results)))
        else:  # every column that any of the reports has; a figure that a report lacks is an empty cell
            rows = [report.to_row() for report in results]
            columns = list(dict.fromkeys(column for row in rows for column in row))
            writer = csv.writer(stream, lineterminator="\n")
            writer.writerow(cell(column) for column in columns)
            writer.writerows([cell(row.get(column)) for column in columns] for row in rows)


def _view(what: str) -> Callable[[Request], Iterable[str]]:
    """Find the view that `--show` prints of a request."""
    from cascadesim.simulator.views import describe

    return {"cascade": describe.cascades, "mapping": describe.mapping, "schedule": describe.schedules,
            "bound": describe.bounds, "dram": describe.deliveries}[what]  # fmt: skip


def load_architecture(name: str, settings: Sequence[str]) -> Accelerator:
    """Load an architecture by name or file.

    Raises SpecError for a file or a setting that cannot be used, UnknownNameError for an unknown name.
    """
    try:
        return catalogue.load(name, settings)
    except SpecError as error:
        if not settings or Path(name).is_fifo():  # a pipe has been read, and would be waited for
            raise
        catalogue.load(name)  # a file with problems of its own says so first
        unknown = [  # the field, or the group that it would be in
            field for field in map(_field, settings)
            if any(f": {path}: unknown field" in str(error) for path in (field, field.partition(".")[0]))
        ]  # fmt: skip
        if not unknown:
            raise
        file = next((path for full, path in catalogue.presets().items() if name in (full, path.stem)), Path(name))
        known = tuple(path for path, _ in dotted(read_yaml(file)))
        problems = [f"--set {shortened(field)}: {_meant(name, field, known)}" for field in unknown]
        raise SpecError("\n".join(problems)) from None


def _field(setting: str) -> str:
    return ".".join(part.strip() for part in setting.partition("=")[0].split("."))


def _meant(name: str, field: str, known: Sequence[str]) -> str:
    """Guess the field that was meant: of the same last name, or else spelt nearly so."""
    width = next((path for path in known if path in WIDTHS), None)
    if width is not None and field.partition(".")[0] in ("types", "dtype"):
        return f"{name} keeps all numbers in one width, {width}, and has no types"
    last = field.rpartition(".")[2]
    all_known = (*known, *Workload.model_fields)
    same = [path for path in all_known if path.rpartition(".")[2] == last]
    close = same or get_close_matches(field, all_known, n=1)
    if close:
        return f"no such field; did you mean {' or '.join(map(repr, close))}?"
    own = listed(dict.fromkeys(path.partition(".")[0] for path in known), _LONGEST_LIST)
    of_workload = listed(sorted(Workload.model_fields), _LONGEST_LIST)
    return f"no such field; {shortened(name)} has {own}; a workload has {of_workload}"
