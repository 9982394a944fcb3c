"""Reports as tables that a person reads: one in full, several side by side against the first architecture.

Knows what to show and in which words; numbers are worded by `formatting`. Fits any width from 80 columns on, and
prints plain text where the stream is no terminal.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TextIO, TypeVar

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from cascadesim.einsum_cascades.models.traced_workload import LAYER as TRACED
from cascadesim.simulator.report import EinsumTime, Memory, OperationTime, Report, UnitTime
from cascadesim.simulator.views import formatting as say
from cascadesim.simulator.views.comparison import comparison
from cascadesim.simulator.views.terminal import console, print_styled

_SMALLEST_SHARE = 0.005  # rows below half a percent are added up in one, where there are many
_FEW = 16  # rows
_BAR = 10  # characters
Row = TypeVar("Row", EinsumTime, OperationTime)
_EIGHTHS = " ▏▎▍▌▋▊▉"


def print_reports(reports: Sequence[Report], stream: TextIO) -> None:
    """One report in full; several as a comparison."""
    content = full(reports[0]) if len(reports) == 1 else comparison(reports)
    on = console(stream)
    if on.is_terminal:
        print_styled(content, on)
        return
    with on.capture() as text:
        print_styled(content, on)
    stream.write("\n".join(line.rstrip() for line in text.get().splitlines()) + "\n")


def full(report: Report) -> RenderableType:
    """Everything a reader asks of one run: how long, what it costs, what bounds it, where the time goes."""
    parts: list[RenderableType] = [Text(headline(report), style="bold"), Text(setting(report), style="dim"), Text()]
    parts += [_figures(report), Text(), _units(report), Text()]
    if len(report.operations) > 1:
        parts += [_operations(report), Text()]
    parts += [_einsums(report), *_notes(report)]
    return Group(*parts)


def headline(report: Report) -> str:
    where = f"{report.workload} on {report.architecture}"
    if report.layer == TRACED:
        return f"{where}: the heads of its rows, up to {report.sequence_length:,} tokens"
    layer = f", one {report.layer} layer's {report.scope}" if report.layer is not None else ""
    return f"{where}: {_tokens(report)}{layer}"


def setting(report: Report) -> str:
    fidelity = "cycle level" if report.fidelity == "cycle" else "closed form"
    attention = () if report.attention is None else (report.attention,)
    layers = f"{report.layers} layers" if report.layers > 1 else "1 layer"
    of_model = f"{layers} in the model" if report.layer is not None else f"{layers}, {_size(report)}"
    model = () if report.layer == TRACED else (of_model,)
    return " · ".join((*model, *attention, fidelity, f"{report.accounting} accounting", say.hertz(report.clock_hz)))


def _size(report: Report) -> str:
    cache = "" if report.kv_cache_bytes is None else f", KV cache {say.bytes_of(report.kv_cache_bytes)}"
    return f"{'unknown' if report.parameters is None else say.count(report.parameters)} parameters{cache}"


def _tokens(report: Report) -> str:
    sequences = f" x {report.batch:,} sequences" if report.batch > 1 else ""
    if report.phase == "decode":
        return f"decode, one token after {report.sequence_length:,}{sequences}"
    return f"{report.phase} of {report.sequence_length:,} tokens{sequences}"


def _figures(report: Report) -> Table:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="cyan", no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(overflow="fold")
    for name, figure, remark in _figure_rows(report):
        table.add_row(name, figure, Text(remark, style="dim"))
    return table


def _figure_rows(report: Report) -> Iterable[tuple[str, str, str]]:
    yield "latency", say.seconds(report.latency_s), f"{say.whole(report.cycles)} cycles"
    yield "error", *_error(report)
    if report.tokens_per_s is not None:
        first = "" if report.time_to_first_token_s is None else (
            f"first new token after {say.seconds(report.time_to_first_token_s)}")
        yield "tokens/s", say.rate(report.tokens_per_s), first
    read, write = say.bytes_of(report.traffic.read_bytes), say.bytes_of(report.traffic.write_bytes)
    yield "DRAM traffic", say.bytes_of(report.traffic.total_bytes), f"{read} read, {write} written"
    if report.memory is not None:
        held = report.memory
        yield "memory", say.gigabytes(held.total), f"of {say.gigabytes(held.capacity)}: {_held(held)}"
    if report.energy_j is not None and report.total_energy_j is not None:
        yield "energy", say.joules(report.total_energy_j), say.shares(report.energy_j)
    if report.area_um2 is not None and report.total_area_um2 is not None:
        yield "area", say.square_millimetres(report.total_area_um2), say.shares(report.area_um2)
    if report.bound_by is not None and (unit := report.unit(report.bound_by)) is not None:
        yield "bound by", unit.name, f"busy {say.percent(unit.busy_cycles / report.cycles)} of the time"
    yield from _difference(report)


def _held(memory: Memory) -> str:
    parts = {"weights": memory.weights, "KV cache": memory.kv, "activations": memory.activations,
             "workspace": memory.workspace}  # fmt: skip
    return ", ".join(f"{name} {say.gigabytes(size)}" for name, size in parts.items() if size)


def _error(report: Report) -> tuple[str, str]:
    """Half of what was published was within; then in words, with nine tenths."""
    found = report.uncertainty
    if found is None:
        return "unknown", f"nothing that was published is compared with such a run on {report.architecture}"
    within = f"within {say.error(found.latency)}, nine of ten within {say.error(found.p90)}"
    if not found.covers:
        return "unknown", f"{found.basis}: half of {found.rows:,} were {within}"
    return say.error(found.latency), f"half of {found.rows:,} {found.basis} were {within}"


def _difference(report: Report) -> Iterable[tuple[str, str, str]]:
    """Why the cycle level is above the closed form, or below one that is an estimate."""
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


def _table(title: str, *columns: str, left: int = 1) -> Table:
    """Columns of numbers, the first `left` of them of names."""
    table = Table(title=title, title_justify="left", title_style="bold", box=None, padding=(0, 1, 0, 0), pad_edge=False)
    for position, column in enumerate(columns):
        is_name = position < left
        table.add_column(column, justify="left" if is_name else "right", style="cyan" if is_name else None,
                         header_style="dim", no_wrap=True)
    return table


def _units(report: Report) -> Table:
    table = _table("Units: share of the time", "unit", "busy", "stalled", "idle", "useful")
    table.add_column("")
    for unit in report.units:
        table.add_row(*_unit_row(unit, report.cycles), Text(_bar(unit.busy_cycles / report.cycles), style="green"))
    return table


def _unit_row(unit: UnitTime, cycles: int) -> tuple[str, ...]:
    if unit.utilization is None:
        return (unit.name, "–", "–", "–", "–")
    shares = (unit.busy_cycles / cycles, unit.stalled_cycles / cycles, unit.idle_cycles / cycles)
    return (unit.name, *map(say.percent, shares), say.percent(unit.utilization))


def _operations(report: Report) -> Table:
    several = len({operation.layer for operation in report.operations}) > 2
    table = _table("Operations", "operation", "times", "cycles", "share", "DRAM")
    table.add_column("")
    large, small = _by_size(report.operations)
    for operation in large:
        name = f"{operation.layer}: {operation.name}" if several and operation.layer else operation.name
        table.add_row(name, say.whole(operation.count), say.whole(operation.cycles), say.percent(operation.share),
                      say.bytes_of(operation.dram_bytes), Text(_bar(operation.share), style="green"))
    if small:
        cycles, share = sum(row.cycles for row in small), sum(row.share for row in small)
        moved = say.bytes_of(sum(row.dram_bytes for row in small))
        table.add_row(Text(f"{len(small)} others"), "", say.whole(cycles), say.percent(share), moved)
    return table


def _einsums(report: Report) -> Table:
    several = len(report.operations) > 1
    names = ("operation", "einsum", "unit") if several else ("einsum", "unit")
    table = _table("Einsums: share of the time on their unit", *names, "work", "cycles", "share", left=len(names))
    table.add_column("")
    computing = [einsum for einsum in report.einsums if einsum.operations or not several]
    large, small = _by_size(computing)
    for einsum in large:
        own = (einsum.operation,) if several else ()
        table.add_row(*own, einsum.name, einsum.unit, work(einsum), say.whole(einsum.cycles),
                      say.percent(einsum.share), Text(_bar(einsum.share), style="green"))
    if small:
        blanks = [""] * (len(names) + 1)
        blanks[0] = f"{len(small)} others"
        table.add_row(*blanks, say.whole(sum(row.cycles for row in small)), "")
    return table


def work(einsum: EinsumTime) -> str:
    """`805 G mac`; `805 M exp, add` where classes have equal counts."""
    classes: dict[int, list[str]] = {}
    for name, amount in einsum.operations.items():
        classes.setdefault(amount, []).append(name)
    return " + ".join(f"{say.count(amount)} {', '.join(names)}" for amount, names in classes.items())


def _by_size(rows: Sequence[Row]) -> tuple[list[Row], list[Row]]:
    if len(rows) <= _FEW:
        return list(rows), []
    large = [row for row in rows if row.share >= _SMALLEST_SHARE]
    return large, [row for row in rows if row.share < _SMALLEST_SHARE]


def _notes(report: Report) -> Iterable[RenderableType]:
    if report.notes:
        yield Text()
        yield from (Padding(Text(f"note: {note}", style="yellow"), (0, 0)) for note in report.notes)


def _bar(share: float) -> str:
    eighths = round(min(max(share, 0.0), 1.0) * _BAR * 8)
    return ("█" * (eighths // 8) + _EIGHTHS[eighths % 8]).rstrip()
