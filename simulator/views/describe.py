"""What `--show` prints: cascade, mapping, schedule of the cycle level, what bounds it, what DRAM standards deliver."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from cascadesim.accelerators.protocol import Phase
from cascadesim.einsum_cascades.models.operation import Operation
from cascadesim.simulator.execution import schedule_of
from cascadesim.simulator.request import Request
from cascadesim.simulator.simulate import operations, parts
from cascadesim.simulator.summary import OperationRun


def cascades(request: Request) -> Iterator[str]:
    """Each cascade once, under the operations that run it and their extents."""
    found = operations(request)
    yield f"{_title(request)}: {len(found)} operations"
    for cascade in dict.fromkeys(operation.cascade.text for operation in found):
        rows = [operation for operation in found if operation.cascade.text == cascade]
        yield f"\n{rows[0].cascade.name}"
        yield from (f"  {_extents(operation)}" for operation in rows)
        yield from (f"    {line.strip()}" for line in cascade.strip().splitlines())


def mapping(request: Request) -> Iterator[str]:
    """What goes where; operations that are mapped alike share their lines."""
    for works in parts(request):
        yield _title(request, works)
        same: dict[tuple[str, ...], list[OperationRun]] = {}
        for work in works:
            same.setdefault(work.execution.plan.mapping, []).append(work)
        for lines, rows in same.items():
            yield f"\n{', '.join(dict.fromkeys(work.operation.name for work in rows))}"
            yield from (f"  {line}" for line in lines or ("no mapping to show",))


def schedules(request: Request) -> Iterator[str]:
    """Each phase of each operation: its cycles, its steady state, and where the cycles of each unit went."""
    for works in parts(request):
        yield _title(request, works)
        for work in works:
            for time in work.execution.phases:
                phase = f", {time.phase.name}" if len(work.execution.phases) > 1 else ""
                times = f" ({work.count:,} times)" if work.count > 1 else ""
                yield f"\n{work.operation.name}{phase}{times}"
                schedule = schedule_of(work.execution.plan, time.phase)
                yield from (f"  {line}" for line in str(schedule).splitlines())
                yield f"  closed form: {time.phase.analytical_cycles:,.0f} cycles"


def deliveries(request: Request) -> Iterator[str]:
    """What DRAM standards deliver of each phase's traffic, on as many channels as have the bandwidth it counts on."""
    for works in parts(request):
        yield _title(request, works)
        for work in works:
            for phase in work.execution.plan.phases:
                if phase.program is not None and phase.traffic.total_bytes:
                    yield f"\n{work.operation.name}, {phase.name}"
                    yield from _delivered(phase, request.accelerator.clock_hz)
    yield "\nneighbouring requests go to neighbouring channels; in each, 512 bytes (HBM) or 1 KiB lie side by side"


def _delivered(phase: Phase, clock_hz: float) -> Iterator[str]:
    from cascadesim.accelerators.dram.delivery import carried_bytes_per_s, channels_for, delivered
    from cascadesim.accelerators.dram.standards import STANDARDS

    carried = carried_bytes_per_s(phase, clock_hz)
    yield f"  counts on {carried / 1e9:,.1f} GB/s"
    yield "  standard       channels  peak GB/s  delivered GB/s  share  row hits"
    for standard in STANDARDS.values():
        found = delivered(phase, standard, channels_for(standard, carried))
        peak, got = found.peak_bytes_per_s, found.bandwidth_bytes_per_s
        yield (f"  {standard.name:<14} {found.channels:>8} {peak / 1e9:>10,.1f} {got / 1e9:>15,.1f} {got / peak:>6.1%} "
               f"{found.run.row_hit_rate:>9.1%}")  # fmt: skip


def bounds(request: Request) -> Iterator[str]:
    """What each unit would need alone, operation by operation, the longest operation first; then its mapping."""
    for works in parts(request):
        yield _title(request, works)
        total = sum(work.cycles for work in works)
        for work in sorted(works, key=lambda work: -work.cycles):
            times = f" ({work.count:,} times)" if work.count > 1 else ""
            microseconds = work.execution.cycles / request.accelerator.clock_hz * 1e6
            yield f"\n{work.operation.name}{times}: {microseconds:,.1f} us each, {work.cycles / total:.1%} of the whole"
            yield f"  {', '.join(_shares_alone(work)) or 'no unit is told apart'}"
            yield from (f"  {line}" for line in work.execution.plan.mapping)


def _shares_alone(work: OperationRun) -> Iterator[str]:
    """Of the operation's time, the share that each unit is busy; the longest first."""
    busy: dict[str, int] = {}
    for time in work.execution.phases:
        for unit, cycles in time.busy_cycles.items():
            busy[unit] = busy.get(unit, 0) + cycles
    for unit, cycles in sorted(busy.items(), key=lambda pair: -pair[1]):
        yield f"{unit} {cycles / max(work.execution.cycles, 1):.0%}"


def _title(request: Request, works: Sequence[OperationRun] = ()) -> str:
    layer = works[0].operation.layer if works and request.scope != "model" else ""
    of_layer = f", one {layer} layer" if layer else ""
    return f"{request.workload.name} on {request.accelerator.name}, {request.scope}{of_layer}, {request.phase}"


def _extents(operation: Operation) -> str:
    sizes = " ".join(f"{rank}={size}" for rank, size in operation.extents)
    times = f", {operation.count} times" if operation.count > 1 else ""
    layer = f"{operation.layer}: " if operation.layer else ""
    return f"{layer}{operation.name} ({sizes}{times})"
