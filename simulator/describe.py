"""What `--show` prints: the cascade that is computed, the mapping, the schedule of the cycle level, as text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from cascadesim.einsum_cascades.operation import Operation
from cascadesim.simulator.execution import schedule_of
from cascadesim.simulator.simulate import Request, operations, parts
from cascadesim.simulator.summary import Work


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
        same: dict[tuple[str, ...], list[Work]] = {}
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


def _title(request: Request, works: Sequence[Work] = ()) -> str:
    layer = works[0].operation.layer if works and request.scope != "model" else ""
    of_layer = f", one {layer} layer" if layer else ""
    return f"{request.workload.name} on {request.accelerator.name}, {request.scope}{of_layer}, {request.phase}"


def _extents(operation: Operation) -> str:
    sizes = " ".join(f"{rank}={size}" for rank, size in operation.extents)
    times = f", {operation.count} times" if operation.count > 1 else ""
    layer = f"{operation.layer}: " if operation.layer else ""
    return f"{layer}{operation.name} ({sizes}{times})"
