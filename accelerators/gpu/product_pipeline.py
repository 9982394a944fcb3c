"""Products and element-wise work on one SM as programs: steps of the depth, pieces of a stream, and what they wait for.

Work and ceilings are those of `gemm` and `elementwise`; loads overlap products as far as their buffers allow. Whole
cycles, rounded up.
"""

from __future__ import annotations

from math import ceil

from cascadesim.accelerators.gpu.calibration import Constants
from cascadesim.accelerators.gpu.elementwise import StreamTiming
from cascadesim.accelerators.gpu.gemm import (
    L2_PORT_BYTES_PER_CLOCK,
    REDUCTION_S,
    Choice,
    GemmTiming,
    depth_step,
    loaded_bytes,
    on_fp32_units,
    products_cycles,
    stored_cycles,
)
from cascadesim.accelerators.gpu.spec import Device, Dtype
from cascadesim.accelerators.program import After, Program, Repeat, Task, TileRun

BUFFERS = 4  # assumed: steps of the depth in shared memory; CUTLASS takes 3 to 7, as fit
PIECE_BYTES = 16_384  # assumed: of one SM, a block of 1024 threads that load 16 bytes each
LAUNCH, STEPS, LAST = range(3)  # classes of tiles


def product_program(
    device: Device, constants: Constants, dtype: Dtype, choice: Choice, timing: GemmTiming, name: str
) -> Program:
    """Blocks one after another; the results of one are stored before the next multiplies, but on FP32 units."""
    size = depth_step(dtype)
    steps, blocks = ceil(choice.depth / size), ceil(choice.blocks / device.sms)
    port = size * float(loaded_bytes(timing.operands, choice.options, choice.rows)[0]) / L2_PORT_BYTES_PER_CLOCK
    share = device.clock_hz / (steps * blocks)
    step = {
        "fetch": _whole(float(timing.dram_s[0]) * share),
        "load": _whole(max(float(timing.l2_s[0]) * share, port)),
        name: _whole(size * float(products_cycles(device, constants, dtype, choice.options)[0])),
    }
    launched = After("launch", latest=True)
    stored = () if on_fp32_units(dtype) else (After("store", tiles_back=1),)
    tasks = (
        Task("launch", "launch"),
        Task("fetch", "dram", after=(launched,)),
        Task("load", "l2", after=(launched, After("fetch", streaming=True))),
        Task(name, "tensor", after=(After("load"), After(name, tiles_back=1), *stored)),
        Task("store", "issue", after=(After(name),)),
    )
    launch = {"launch": _whole(float(timing.launch_s[0]) * device.clock_hz)}
    last = step | {"store": _whole(float(stored_cycles(device, dtype, choice.options)[0]))}
    meanwhile = min(steps, ceil(last["store"] / max(step.values())))  # steps of the next block
    ahead = meanwhile if on_fp32_units(dtype) else 0
    return _program(tasks, (launch, step, last),
                    Repeat(blocks, (TileRun(STEPS, steps - 1), TileRun(LAST, 1))), BUFFERS + ahead,
                    ceil(REDUCTION_S * device.clock_hz) if choice.splits > 1 else 0)  # fmt: skip


def stream_program(device: Device, timing: StreamTiming, moved_bytes: float) -> Program:
    """Pieces of one SM, one after another."""
    pieces = max(ceil(moved_bytes / device.sms / PIECE_BYTES), 1)
    share = device.clock_hz / pieces
    launched = After("launch", latest=True)
    tasks = (
        Task("launch", "launch"),
        Task("fetch", "dram", after=(launched,)),
        Task("move", "l2", after=(launched, After("fetch", streaming=True))),
        Task("functions", "special", after=(After("move", streaming=True),)),
        Task("lanes", "issue", after=(After("move", streaming=True),)),
    )
    launch = {"launch": _whole(float(timing.launch_s[0]) * device.clock_hz)}
    each = {"fetch": timing.dram_s, "move": timing.l2_s, "functions": timing.special_s, "lanes": timing.issue_s}
    piece = {name: _whole(float(seconds[0]) * share) for name, seconds in each.items()}
    return _program(tasks, (launch, piece), TileRun(STEPS, pieces), BUFFERS)


def _program(
    tasks: tuple[Task, ...], classes: tuple[dict[str, int], ...], work: TileRun | Repeat, in_flight: int,
    drain_cycles: int = 0,
) -> Program:  # fmt: skip
    return Program(
        tasks=tasks,
        tile_classes=tuple(tuple(cycles.get(task.name, 0) for task in tasks) for cycles in classes),
        stream=(TileRun(LAUNCH, 1), work),
        in_flight=in_flight,
        drain_cycles=drain_cycles,
    )


def _whole(cycles: float) -> int:
    """Up to the next whole cycle, not counting the rounding error of a product."""
    return ceil(cycles * (1 - 1e-12))
