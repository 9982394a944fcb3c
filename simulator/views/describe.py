"""What `--show` prints: cascade, mapping, schedule of the cycle level, what bounds it, what DRAM standards deliver."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from cascadesim.accelerators.protocol import Phase
from cascadesim.einsum_cascades.models.operation import Operation
from cascadesim.simulator.execution import OperationRun, mapped_alike, schedule_of
from cascadesim.simulator.request import Request
from cascadesim.simulator.simulate import operations, parts
from cascadesim.simulator.views.output import aligned

if TYPE_CHECKING:  # the other views need none of the engine
    from cascadesim.simulator.engine.engine import Schedule


def cascades(request: Request) -> Iterator[str]:
    """List each cascade once, under the operations that run it and their extents."""
    found = operations(request)
    yield f"{_title(request)}: {len(found)} operations"
    for cascade in dict.fromkeys(operation.cascade.text for operation in found):
        rows = [operation for operation in found if operation.cascade.text == cascade]
        yield f"\n{rows[0].cascade.name}"
        yield from (f"  {_extents(operation)}" for operation in rows)
        yield from (f"    {line.strip()}" for line in cascade.strip().splitlines())


def mapping(request: Request) -> Iterator[str]:
    """Say what goes where; operations that are mapped alike share their lines."""
    for runs in parts(request):
        yield _title(request, runs)
        for lines, names in mapped_alike(runs).items():
            yield f"\n{', '.join(names)}"
            yield from (f"  {line}" for line in lines or ("no mapping to show",))


def schedules(request: Request) -> Iterator[str]:
    """Show each phase of each operation: its cycles, its steady state, and where the cycles of each unit went."""
    for runs in parts(request):
        yield _title(request, runs)
        for run in runs:
            for time in run.execution.phases:
                phase = f", {time.phase.name}" if len(run.execution.phases) > 1 else ""
                yield f"\n{_named(run, phase)}"
                schedule = schedule_of(run.execution.plan, time.phase)
                yield from (f"  {line}" for line in _schedule(schedule))
                yield f"  closed form: {time.phase.analytical_cycles:,.0f} cycles"


def _schedule(schedule: Schedule) -> Iterator[str]:
    yield (f"{schedule.cycles:,} cycles for {schedule.tiles:,} tiles; {schedule.bound_by} is busiest: "
           f"{schedule.fill_cycles:,} cycles before it starts, {schedule.drain_cycles:,} after it ends")
    if (steady := schedule.steady) is not None:
        yield (f"steady from tile {steady.first_tile:,}: {steady.cycles:,} cycles every {steady.tiles:,} tiles "
               f"({steady.cycles_per_tile:,.2f} per tile)")
    rows = [(unit.name, f"{unit.busy_cycles:,}", f"{unit.stalled_cycles:,}", f"{unit.idle_cycles:,}",
             f"{schedule.utilization(unit.name):.1%}") for unit in schedule.units]
    yield from aligned([("unit", "busy", "stalled", "idle", "busy share"), *rows], names=1)


def deliveries(request: Request) -> Iterator[str]:
    """Compare what DRAM standards deliver of each phase's traffic, on channels enough for its bandwidth."""
    for runs in parts(request):
        yield _title(request, runs)
        for run in runs:
            for phase in run.execution.plan.phases:
                if phase.program is not None and phase.traffic.total_bytes:
                    yield f"\n{run.operation.name}, {phase.name}"
                    yield from _delivered(phase, request.accelerator.clock_hz)
    yield "\nneighbouring requests go to neighbouring channels; in each, 512 bytes (HBM) or 1 KiB lie side by side"


def _delivered(phase: Phase, clock_hz: float) -> Iterator[str]:
    from cascadesim.accelerators.dram import delivery, standards

    carried = delivery.carried_bytes_per_s(phase, clock_hz)
    yield f"  counts on {carried / 1e9:,.1f} GB/s"
    yield "  standard       channels  peak GB/s  delivered GB/s  share  row hits"
    for standard in standards.STANDARDS.values():
        found = delivery.delivered(phase, standard, delivery.channels_for(standard, carried))
        peak, got = found.peak_bytes_per_s, found.bandwidth_bytes_per_s
        yield (f"  {standard.name:<14} {found.channels:>8} {peak / 1e9:>10,.1f} {got / 1e9:>15,.1f} {got / peak:>6.1%} "
               f"{found.run.row_hit_rate:>9.1%}")  # fmt: skip


def bounds(request: Request) -> Iterator[str]:
    """Show how busy each unit is, operation by operation, the longest first; then its mapping."""
    for runs in parts(request):
        yield _title(request, runs)
        total = sum(run.cycles for run in runs)
        for run in sorted(runs, key=lambda run: -run.cycles):
            microseconds = run.execution.cycles / request.accelerator.clock_hz * 1e6
            yield f"\n{_named(run)}: {microseconds:,.1f} us each, {run.cycles / total:.1%} of the whole"
            busy: Counter[str] = Counter()
            for time in run.execution.phases:
                busy.update(time.busy_cycles)
            shares = (f"{unit} {cycles / max(run.execution.cycles, 1):.0%}" for unit, cycles in busy.most_common())
            yield f"  {', '.join(shares) or 'no unit is told apart'}"
            yield from (f"  {line}" for line in run.execution.plan.mapping)


def _named(run: OperationRun, phase: str = "") -> str:
    return f"{run.operation.name}{phase}{f' ({run.count:,} times)' if run.count > 1 else ''}"


def _title(request: Request, runs: Sequence[OperationRun] = ()) -> str:
    layer = runs[0].operation.layer if runs and request.scope != "model" else ""
    of_layer = f", one {layer} layer" if layer else ""
    return f"{request.workload.name} on {request.accelerator.name}, {request.scope}{of_layer}, {request.phase}"


def _extents(operation: Operation) -> str:
    sizes = " ".join(f"{rank}={size}" for rank, size in operation.extents)
    times = f", {operation.count} times" if operation.count > 1 else ""
    layer = f"{operation.layer}: " if operation.layer else ""
    return f"{layer}{operation.name} ({sizes}{times})"
