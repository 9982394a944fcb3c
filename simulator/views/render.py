"""Reports as tables that a person reads: one in full, several side by side against the first architecture.

Knows what to show and in which words; numbers are worded by `formatting`. A ratio compares a report with the first
architecture's report of the same case (workload, kind of layer, length, batch). Fits any width from 80 columns on, and
prints plain text where the stream is no terminal.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from io import StringIO
from textwrap import shorten
from typing import TextIO

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from cascadesim.einsum_cascades.models.operation import TRACED
from cascadesim.simulator.report import EinsumTime, Report
from cascadesim.simulator.views import output as say
from cascadesim.simulator.views.output import console, figures_table, print_styled, table

_LONGEST = 5  # names of a line of shares
_NOTES = 3  # lines
_BAR = 10  # characters
_EIGHTHS = " ▏▎▍▌▋▊▉"
ERRORS = ("error: half, nine tenths of published calls of that kind were within; unknown: a whole model, or a run "
          "outside what was measured")
MORE = "more: --show operations|einsums|units|mapping|bound|error|notes, --report F.html"
DETAILS = ("operations", "einsums", "units", "error", "notes")  # tables and texts of a report that `details` prints
SCREEN = 23  # lines of a terminal of 24, the last of which asks for the next command


def print_reports(reports: Sequence[Report], stream: TextIO) -> None:
    """Print one report in full, several as a comparison."""
    on = console(stream)
    content = answer(reports[0]) if len(reports) == 1 else comparison(reports)
    if len(reports) == 1 and len(on.render_lines(content)) > SCREEN:
        content = answer(reports[0], note_columns=on.width)
    print_styled(content, on)


def answer(report: Report, note_columns: int | None = None) -> RenderableType:
    """Say on one screen what a reader asks of one run: how long, what it costs, what bounds it, where the time goes.

    `note_columns`: where notes take too much of the screen, the beginning of each of the first ones on a line of so
    many.
    """
    rows = [*_figure_rows(report), *_where(report)]
    parts: list[RenderableType] = [Text(headline(report), style="bold"), Text(setting(report), style="dim"), Text()]
    parts.append(figures_table(rows))
    notes = [f"note: {note}" for note in report.notes]
    if note_columns is not None:
        first = notes if len(notes) <= _NOTES else notes[: _NOTES - 1]
        notes = [shorten(note, note_columns, placeholder=" …") for note in first]
        notes += [f"{len(report.notes) - len(first)} more notes"] * (len(first) < len(report.notes))
    parts += [Text()] * (note_columns is None) + [Text(note, style="yellow") for note in notes]
    parts.append(Text(MORE, style="dim"))
    return Group(*parts)


def _where(report: Report) -> Iterator[tuple[str, str, str]]:
    """Name the busiest units, and the operations or the Einsums that took longest."""
    busy = {unit.name: unit.busy_cycles / report.cycles for unit in report.units}
    yield "units", "", f"busy: {_largest(busy)}"
    times: defaultdict[str, float] = defaultdict(float)
    einsums = [einsum for einsum in report.einsums if einsum.operations]  # others move what these work on
    rows = report.operations if len(report.operations) > 1 else einsums
    for row in rows:
        times[row.name] += row.share
    yield "time", "", _largest(times)


def _largest(shares: Mapping[str, float]) -> str:
    """Write the largest shares with their names, and the sum of the others where there are more."""
    ordered = sorted(((name, share) for name, share in shares.items() if share > 0), key=lambda each: -each[1])
    names = [f"{name} {say.percent(share)}" for name, share in ordered[:_LONGEST]]
    return ", ".join([*names, *([f"{len(ordered) - _LONGEST} more"] if len(ordered) > _LONGEST else [])]) or "–"


def details(report: Report, what: str) -> Iterator[str]:
    """Print the table of units, operations or Einsums of a report, its error or its notes, in full."""
    tables = {"units": _units, "operations": _operations, "einsums": _einsums}
    texts = {"error": [": ".join(error_of(report))], "notes": report.notes or ["no notes"]}
    shown = [tables[what](report)] if what in tables else list(map(Text, texts[what]))
    with StringIO() as stream:
        print_styled(Group(Text(headline(report)), Text(), *shown), console(stream))
        yield from stream.getvalue().splitlines()


def headline(report: Report) -> str:
    where = f"{report.workload} on {report.architecture}"
    if report.layer == TRACED:
        return f"{where}: the heads of its rows, up to {report.sequence_length:,} tokens"
    sequences = f" x {report.batch:,} sequences" if report.batch > 1 else ""
    layer = f", one {report.layer} layer's {report.scope}" if report.layer is not None else ""
    if report.phase == "decode":
        return f"{where}: decode, the last of {report.sequence_length:,} tokens{sequences}{layer}"
    return f"{where}: {report.phase} of {report.sequence_length:,} tokens{sequences}{layer}"


def setting(report: Report) -> str:
    fidelity = "cycle level" if report.fidelity == "cycle" else "closed form"
    attention = () if report.attention is None else (report.attention,)
    layers = f"{report.layers} layers" if report.layers > 1 else "1 layer"
    cache = "" if report.kv_cache_bytes is None else f", KV cache {say.bytes_of(report.kv_cache_bytes)}"
    kept = ((", states ", report.state_bytes), (", convolutions ", report.convolution_bytes))
    cache += "".join(name + say.bytes_of(size) for name, size in kept if size is not None)
    size = f"{'unknown' if report.parameters is None else say.count(report.parameters)} parameters{cache}"
    of_model = f"{layers} in the model" if report.layer is not None else f"{layers}, {size}"
    model = () if report.layer == TRACED else (of_model,)
    return " · ".join((*model, *attention, fidelity, f"{report.accounting} accounting", say.hertz(report.clock_hz)))


def _figure_rows(report: Report) -> Iterable[tuple[str, str, str]]:
    yield "latency", say.seconds(report.latency_s), f"{say.whole(report.cycles)} cycles"
    yield "error", *error_of(report, brief=True)
    if report.tokens_per_s is not None:
        first = "" if report.time_to_first_token_s is None else (
            f"first new token after {say.seconds(report.time_to_first_token_s)}")
        yield "tokens/s", say.rate(report.tokens_per_s), first
    read, write = say.bytes_of(report.traffic.read_bytes), say.bytes_of(report.traffic.write_bytes)
    yield "DRAM traffic", say.bytes_of(report.traffic.total_bytes), f"{read} read, {write} written"
    if report.memory is not None:
        held = report.memory
        parts = [f"{name} {say.gigabytes(size)}" for name, size in held.parts.items() if size]
        yield "memory", say.gigabytes(held.total), f"of {say.gigabytes(held.capacity)}: {', '.join(parts)}"
    if report.energy_j is not None and report.total_energy_j is not None:
        yield "energy", say.joules(report.total_energy_j), say.shares(report.energy_j)
    if report.area_um2 is not None and report.total_area_um2 is not None:
        yield "area", say.square_millimetres(report.total_area_um2), say.shares(report.area_um2)
    if report.bound_by is not None and (unit := report.unit(report.bound_by)) is not None:
        yield "bound by", unit.name, f"busy {say.percent(unit.busy_cycles / report.cycles)} of the time"
    yield from _difference(report)


def error_of(report: Report, brief: bool = False) -> tuple[str, str]:
    """Give what half of the published errors were within; then the same in words, with nine tenths.

    `brief`: of an error that does not hold for the run, only why, and what the nearest is.
    """
    found = report.uncertainty
    if found is None:
        return "unknown", f"nothing that was published is compared with such a run on {report.architecture}"
    within = f"within {say.error(found.latency)}, nine of ten within {say.error(found.p90)}"
    if not found.covers and brief:
        why = found.basis.partition("; nearest: ")[0]
        return "unknown", f"{why}; half of the nearest were {within}"
    if not found.covers:
        return "unknown", f"{found.basis}: half of {found.rows:,} were {within}"
    return say.error(found.latency), f"half of {found.rows:,} {found.basis} were {within}"


def _difference(report: Report) -> Iterable[tuple[str, str, str]]:
    """Explain why the cycle level is above the closed form, or below one that is an estimate."""
    if report.fill_cycles is None or report.drain_cycles is None or report.waiting_cycles is None:
        return
    more = report.cycles / report.analytical_cycles - 1
    apart = report.fill_cycles + report.drain_cycles + report.waiting_cycles
    counted = apart - (report.cycles - report.analytical_cycles)  # the closed form has them already
    where = "above" if more >= 0 else "below"
    parts = (
        f"{where} a closed form of {say.whole(report.analytical_cycles)} cycles: fill {say.whole(report.fill_cycles)}, "
        f"drain {say.whole(report.drain_cycles)}, waiting {say.whole(report.waiting_cycles)}"
    )
    if more < 0:
        parts += f", where the closed form has {say.whole(counted)} besides the busiest units"
    elif counted > 0:
        parts += f", of which the closed form has {say.whole(counted)}"
    elif counted < 0:
        parts += f", transfers in whole cycles {say.whole(-counted)}"
    yield "cycle level", f"{more:+.2%}", parts


def _units(report: Report) -> Table:
    shown = table("Units: share of the time", ("unit", "busy", "stalled", "idle", "useful"))
    shown.add_column("")
    for unit in report.units:
        shares = (unit.busy_cycles / report.cycles, unit.stalled_cycles / report.cycles,
                  unit.idle_cycles / report.cycles, unit.utilization)  # fmt: skip
        known = map(say.percent, shares) if unit.utilization is not None else ["–"] * 4
        shown.add_row(unit.name, *known, _bar(shares[0]))
    return shown


def _operations(report: Report) -> Table:
    several = len({operation.layer for operation in report.operations}) > 2
    shown = table("Operations", ("operation", "times", "cycles", "share", "DRAM"))
    shown.add_column("")
    for operation in report.operations:
        name = f"{operation.layer}: {operation.name}" if several and operation.layer else operation.name
        shown.add_row(name, say.whole(operation.count), say.whole(operation.cycles), say.percent(operation.share),
                      say.bytes_of(operation.dram_bytes), _bar(operation.share))  # fmt: skip
    return shown


def _einsums(report: Report) -> Table:
    several = len(report.operations) > 1
    names = ("operation", "einsum", "unit") if several else ("einsum", "unit")
    shown = table("Einsums: share of the time on their unit", (*names, "work", "cycles", "share"), len(names))
    shown.add_column("")
    for einsum in (einsum for einsum in report.einsums if einsum.operations or not several):
        own = (einsum.operation,) if several else ()
        shown.add_row(*own, einsum.name, einsum.unit, work(einsum), say.whole(einsum.cycles),
                      say.percent(einsum.share), _bar(einsum.share))  # fmt: skip
    return shown


def work(einsum: EinsumTime) -> str:
    """Write `805 G mac`, or `805 M exp, add` where classes have equal counts."""
    classes: dict[int, list[str]] = {}
    for name, amount in einsum.operations.items():
        classes.setdefault(amount, []).append(name)
    return " + ".join(f"{say.count(amount)} {', '.join(names)}" for amount, names in classes.items())


def _bar(share: float) -> Text:
    eighths = round(min(max(share, 0.0), 1.0) * _BAR * 8)
    return Text(("█" * (eighths // 8) + _EIGHTHS[eighths % 8]).rstrip(), style="green")


def comparison(reports: Sequence[Report]) -> RenderableType:
    """Show what the reports share above a table, and what differs in its rows."""
    first = reports[0]
    several = len({report.architecture for report in reports}) > 1
    differing = [name for name in _case(first) if len({_case(each)[name] for each in reports}) > 1]
    shown = _side_by_side(reports, differing) if several else _one_below_the_other(reports, differing)
    shared = [_case(first)[name] for name in ("workload", "layer", "tokens") if name not in differing]
    ran = [_case(first)["phase"], first.scope] if "phase" not in differing else [first.scope]
    where = "" if several else f"on {first.architecture}"
    fidelity = "cycle level" if first.fidelity == "cycle" else "closed form"
    title = (*shared, where, ", ".join(ran), fidelity, f"{first.accounting} accounting")
    ratios = "speedup, energy ratio" if _any_energy(reports) else "speedup"
    remarks = [Text(f"{ratios}: against {first.architecture}", style="dim")] if several else []
    notes = dict.fromkeys(note for report in reports for note in report.notes)
    remarks += [Text(f"note: {note}", style="yellow") for note in notes]
    remarks.append(Text(ERRORS, style="dim"))
    return Group(Text(" · ".join(filter(None, title)), style="bold"), Text(), shown, Text(), *remarks)


def _case(report: Report) -> Mapping[str, str]:
    """Name what tells cases apart; the layer of a whole model has no name."""
    layer = "" if report.layer is None else f"{report.layer} layer"
    return {"workload": report.workload, "layer": layer, "phase": report.phase,
            "tokens": f"{say.length(report.sequence_length)} tokens", "batch": f"x {report.batch:,}"}  # fmt: skip


def _case_name(report: Report, differing: Sequence[str]) -> str:
    return ", ".join(part for name in differing if (part := _case(report)[name]))


def _comparison_table(columns: Sequence[str]) -> Table:
    """Make a table of a column of names, then numbers; the last column, which may wrap, says what bounds the row."""
    shown = table(None, columns)
    shown.columns[-1].justify, shown.columns[-1].no_wrap = "left", False
    return shown


def _side_by_side(reports: Sequence[Report], differing: Sequence[str]) -> Table:
    """List the architectures of each case under a line that names the case."""
    energies = ["energy", "ratio"] * _any_energy(reports)
    shown = _comparison_table(["architecture", "latency", "error", "speedup", *energies, "DRAM", "bound by"])
    baseline = reports[0].architecture
    for case in dict.fromkeys(report.case for report in reports):
        rows = [report for report in reports if report.case == case]
        first = next((report for report in reversed(rows) if report.architecture == baseline), None)
        heading = _case_name(rows[0], differing)
        if heading:
            shown.add_row(Text(heading, style="bold"))
        for report in rows:
            speedup, energy_ratio = "–", "–"
            if first is not None:
                speedup = f"{first.latency_s / report.latency_s:.2f}x"
                if first.total_energy_j and report.total_energy_j is not None:
                    energy_ratio = f"{report.total_energy_j / first.total_energy_j:.2f}"
            latency, error, energy, moved, bound = _summary(report)
            shown.add_row(f"  {report.architecture}" if heading else report.architecture, latency, error, speedup,
                          *([energy, energy_ratio] if energies else []), moved, bound)  # fmt: skip
    return shown


def _one_below_the_other(reports: Sequence[Report], differing: Sequence[str]) -> Table:
    names = differing or ["tokens"]
    rate_column = ["tokens/s"] if any(report.tokens_per_s is not None for report in reports) else []
    energies = ["energy"] * _any_energy(reports)
    shown = _comparison_table([", ".join(names), "latency", "error", *rate_column, *energies, "DRAM", "bound by"])
    for report in reports:
        latency, error, energy, *others = _summary(report)
        rate = [] if report.tokens_per_s is None else [say.rate(report.tokens_per_s)]
        shown.add_row(_case_name(report, names), latency, error, *rate, *([energy] if energies else []), *others)
    return shown


def _any_energy(reports: Sequence[Report]) -> bool:
    """Whether a table has columns of energy: GPUs have none, and 80 columns are few."""
    return any(report.total_energy_j is not None for report in reports)


def _summary(report: Report) -> Iterator[str]:
    """Write latency, error, energy, DRAM traffic and bound in a few characters each."""
    found = report.uncertainty
    unit = None if report.bound_by is None else report.unit(report.bound_by)
    yield say.seconds(report.latency_s)
    yield f"{say.error(found.latency)}, {say.error(found.p90)}" if found is not None and found.covers else "unknown"
    yield "–" if report.total_energy_j is None else say.joules(report.total_energy_j)
    yield say.bytes_of(report.traffic.total_bytes)
    yield "–" if unit is None else f"{unit.name} {unit.busy_cycles / report.cycles:.0%}"
