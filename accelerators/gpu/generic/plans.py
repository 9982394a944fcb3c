"""The plan of a text that no library's kernel computes: a phase for each launch, and lines that say what it does."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from math import ceil

import numpy as np

from cascadesim.accelerators.gpu.calibration import Constants, constants
from cascadesim.accelerators.gpu.explain import activities, closing_lines, shares
from cascadesim.accelerators.gpu.generic.blocks import LOADED_TILES, Stage, problem_of
from cascadesim.accelerators.gpu.generic.problem import Problem
from cascadesim.accelerators.gpu.generic.timing import (
    CIRCUIT_CYCLES,
    Launches,
    StageTiming,
    launched,
    launches,
    own_parts,
    unit_seconds,
)
from cascadesim.accelerators.gpu.grid import Reals
from cascadesim.accelerators.gpu.spec import Device, with_cache
from cascadesim.accelerators.program import After, Program, Task, TileRun
from cascadesim.accelerators.protocol import EinsumActivity, Phase, Plan, Traffic
from cascadesim.einsum_cascades.models.operation import Operation
from cascadesim.einsum_cascades.notation.errors import CascadeSimError

NAME = "generic"
UNITS = ("tensor", "special", "issue")
NOT_MEASURED = (
    "{name}: kernels that no library has, priced by their own work at the efficiency of plain Triton: not validated, "
    "nothing like them was measured"
)


def plan_text(operation: Operation, device: Device) -> Plan:
    """Raises CascadeSimError for a text that kernels cannot compute here, with what is missing."""
    if device.kernel != "auto":
        raise CascadeSimError(f"kernel {device.kernel} does not compute {operation.cascade.name}, which runs as kernels"
                              f" of its own; leave kernel=auto")  # fmt: skip
    problem = problem_of(operation, device)
    parts = shares(operation, problem.splits)
    found = launches(problem, parts, constants(device.generation))
    phases = tuple(_phase(*each, parts) for each in zip(found.stages, found.timings, strict=True))
    stored = {tensor: problem.element_bytes(tensor) * (1 - share) for tensor, share in found.warm.items()
              if tensor not in problem.latent}  # fmt: skip
    return Plan(operation, "physical", tuple(_lines(problem, found, parts)), phases, None, problem.splits, stored,
                (NOT_MEASURED.format(name=operation.cascade.name),), NAME,
                with_cache(device.type_of("attention"), problem.cache_type), validated=False)  # fmt: skip


def _phase(stage: Stage, timing: StageTiming, parts: Sequence[EinsumActivity]) -> Phase:
    device = stage.problem.device
    cycles = {unit: seconds * device.clock_hz for unit, seconds in unit_seconds(timing).items()}
    parts = own_parts(stage, parts)
    known = activities(parts, {unit: cycles[unit] for unit in UNITS}, device.peaks(stage.problem.product_type))
    own = {part.unit for part in parts}  # a division is counted on FP32 lanes, and takes a reciprocal
    others = (EinsumActivity(title(stage), unit, int(spent)) for unit, spent in cycles.items()
              if unit not in own and spent >= 1)  # fmt: skip
    moved = timing.movement
    return Phase(title(stage), (*known, *others), Traffic(moved.read_bytes, moved.write_bytes),
                 timing.total_s * device.clock_hz, partial(stage_program, stage, timing))  # fmt: skip


def title(stage: Stage) -> str:
    own = ", ".join(stage.names)
    return f"sums of {', '.join(stage.partial)}" + (f"; {own}" if own else "") if stage.combines > 1 else own


def _lines(problem: Problem, found: Launches, parts: Sequence[EinsumActivity]) -> Iterator[str]:
    """Kernels with their Einsums, tiles, grid, parts, what each unit would need alone, and what would help."""
    names = "".join(f"; {name} = {size}" for name, size in problem.splits.items())
    types = with_cache(problem.device.type_of("attention"), problem.cache_type)
    yield (f"kernels of the text's own, {len(found.stages)} of them, {types}: tiles of {problem.tiles.rows} rows, "
           f"steps of {problem.tiles.steps}{names}; mask {problem.mask}")  # fmt: skip
    for number, (stage, timing) in enumerate(zip(found.stages, found.timings, strict=True), 1):
        yield f"kernel {number}: {title(stage)}; {_grid(stage)}; {timing.total_s * 1e6:,.1f} us"
        yield f"  {_moved(stage, timing)}"
        if timing.waits_s:
            yield (f"  its steps wait for each other for {timing.waits_s * 1e6:,.1f} us, in which a block computes "
                   f"nothing ({CIRCUIT_CYCLES} cycles from Einsum to Einsum, assumed)")
    def again(changed: Device, known: Constants) -> Reals:
        return np.array([launched(replace(problem, device=changed), found.divided, parts, known).total_s])

    seconds = [unit_seconds(timing) for timing in found.timings]
    alone = {unit: np.array([sum(each[unit] for each in seconds)]) for unit in seconds[0]}
    known, total = constants(problem.device.generation), np.array([found.total_s])
    yield from closing_lines(problem.device, known, alone, total, again)
    shown = ", ".join(f"{name} {share:.0%}" for name, share in found.warm.items() if share > 0.0005)
    if shown:
        yield f"not by DRAM (in L2 from before, or left there): {shown}"


def _grid(stage: Stage) -> str:
    heads = stage.problem.operation.extent("b") * stage.grid_heads
    found = f"{stage.blocks:,} blocks: {heads:,} of sequences and heads"
    rows = stage.row_tiles // stage.column_tiles
    found += f" x {rows:,} tiles of rows" if rows > 1 else ""
    found += f" x {stage.column_tiles:,} columns of results" if stage.column_tiles > 1 else ""
    found += f" x {stage.parts} parts of the walk" if stage.parts > 1 else ""
    if not stage.kernel.streamed or stage.combines > 1:
        return found
    over = " and ".join(group.name for group in stage.kernel.streamed)
    seen = "" if stage.seen.share == 1 else f", {stage.seen.share:.0%} of them visited"
    kept = ", in order, as its running values ask" if stage.kernel.running else ""
    return f"{found}; each walks over {over} in {ceil(stage.steps / stage.parts):,} steps{seen}{kept}"


def _moved(stage: Stage, timing: StageTiming) -> str:
    """What it takes from others and leaves for them, and what passes by memory."""
    moved, parts = timing.movement, f"parts of {', '.join(stage.partial)}"
    read = [*dict.fromkeys(name for name, _ in stage.operands), *([parts] if stage.combines > 1 else [])]
    left = [*(name for name, _ in stage.results), *([parts] if stage.parts > 1 else [])]
    return (
        f"reads {', '.join(read)}; leaves {', '.join(left)}; L2 {moved.l2_bytes:,.0f} bytes, DRAM "
        f"{moved.read_bytes:,.0f} read ({moved.again_bytes:,.0f} of them again), {moved.write_bytes:,.0f} written"
    )


def stage_program(stage: Stage, timing: StageTiming) -> Program:
    """The SM that ends last, step by step of its walks: operands, products, instructions, functions.

    Steps overlap as far as two tiles of operands are held, those of a running value one after another, in turn with
    those of the other blocks that are there; blocks follow each other without a gap.
    """
    device = stage.problem.device
    steps = max(ceil(stage.steps * stage.seen.share / stage.parts), 1) if stage.combines == 1 else 1
    blocks = ceil(stage.blocks / device.sms)
    clocks = device.clock_hz / (steps * blocks)
    whole = device.clock_hz * device.sms / (steps * stage.blocks)
    launched = After("launch", latest=True)
    lag = ceil(stage.kernel.circuit * CIRCUIT_CYCLES / min(stage.together, blocks))
    again = (After("lanes", tiles_back=1, lag_cycles=lag),) if lag and stage.combines == 1 else ()
    tasks = (
        Task("launch", "launch"),
        Task("fetch", "dram", after=(launched,)),
        Task("load", "l2", after=(launched, After("fetch", streaming=True))),
        Task("products", "tensor", after=(After("load"), *again)),
        Task("lanes", "issue", after=(After("load"), After("products"), *again)),
        Task("functions", "special", after=(After("load"), After("products"), After("lanes", streaming=True))),
    )
    cycles = {"fetch": timing.dram_s * clocks, "load": timing.l2_s * clocks, "products": timing.tensor_s * whole,
              "lanes": timing.issue_s * whole, "functions": timing.special_s * whole}  # fmt: skip
    step = tuple(ceil(cycles.get(task.name, 0.0) * (1 - 1e-12)) for task in tasks)
    launch = (ceil(timing.launch_s * device.clock_hz), *(0 for _ in tasks[1:]))
    return Program(tasks, (launch, step), (TileRun(0, 1), TileRun(1, steps * blocks)), in_flight=LOADED_TILES)
