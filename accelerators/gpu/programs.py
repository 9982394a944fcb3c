"""What one SM does as programs for the cycle level: key tiles of attention, steps of a product, pieces of a stream.

Work, ceilings and latencies are those of the closed forms (`timing`, `gemm`, `memory`); the overlap is not: it
follows from the dependences, as far as buffers and registers allow. Attention runs on the SM that ends last, with the
key tiles that the closed form gives it: FlashAttention-3 (arXiv 2407.08608), section 3. Whole cycles, rounded up, of
each unit's share of one group of warps.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import ceil

from cascadesim.accelerators.gpu.attention.tile import (
    ROWS_PER_READ,
    AttentionCase,
    iteration_cycles,
    mask_instructions,
    producer_cycles,
    tile_cycles,
)
from cascadesim.accelerators.gpu.attention.walk import IntegerArray
from cascadesim.accelerators.gpu.calibration import Constants, CycleConstants, cycle_constants
from cascadesim.accelerators.gpu.engines.collectives import RingTiming
from cascadesim.accelerators.gpu.gemm import (
    L2_PORT_BYTES_PER_CLOCK,
    GemmTiming,
    TileChoice,
    arriving_tiles,
    depth_step,
    loaded_bytes,
    on_fp32_units,
    products_cycles,
    stored_cycles,
)
from cascadesim.accelerators.gpu.grid import Reals
from cascadesim.accelerators.gpu.memory import LANES, StreamTiming, small_kernel_s
from cascadesim.accelerators.gpu.spec import DTYPE_BYTES, Device
from cascadesim.accelerators.gpu.timing import (
    AttentionTiming,
    append_cycles,
    scan_cycles,
    tiles_of_last_sm,
    trip_cycles,
    turn_cycles,
)
from cascadesim.accelerators.program import After, Program, Repeat, Task, TileRun

COMPARISONS = 1.0  # a score, for the running maximum: before any exponential of the row
WARP_GROUP = 128  # threads; where mma.sync is used, one group covers the four schedulers
LAUNCH, USES, USES_OF_NEXT, LOADS, LOADS_OF_NEXT = range(5)  # classes of tiles of attention: of one group of warps
OF_A_ROUND = 2  # classes that load: the keys of every further kind of round arrive at another rate
STEP, LAST = 1, 2  # classes of tiles of products and streams, beside LAUNCH
BUFFERS = 4  # assumed: steps of the depth in shared memory; CUTLASS takes 3 to 7, as fit
PIECE_BYTES = 16_384  # of one SM: what a block of 1024 threads loads at once, 16 bytes each (CUDA guide: the most)


@dataclass(frozen=True)
class Round:
    """`blocks` run at once, each over `key_tiles` key tiles, and all of that `times` over."""

    times: int
    blocks: int
    key_tiles: int


@dataclass(frozen=True)
class Residents:
    """What runs on the SM: `blocks` one after another, `together` of them at once, each of `groups` that take turns.

    `key_tiles`: of all blocks.
    """

    blocks: int
    together: int
    groups: int
    key_tiles: float

    @property
    def columns(self) -> int:
        return self.together * self.groups

    def rounds(self) -> tuple[Round, ...]:
        """Blocks as equal as whole key tiles can make them, in all no fewer of these."""
        full, remaining = divmod(self.blocks, self.together)
        fewest = int(self.key_tiles // self.blocks)
        longer = min(ceil((self.key_tiles - fewest * self.blocks) / self.together), full)
        left = self.key_tiles - (fewest * full + longer) * self.together
        found = (Round(longer, self.together, fewest + 1), Round(full - longer, self.together, fewest),
                 Round(min(remaining, 1), remaining, max(ceil(left / max(remaining, 1)), 1)))  # fmt: skip
        return tuple(one for one in found if one.times)


def residents(case: AttentionCase) -> Residents:
    """Groups of a block run apart: as many rows as an instruction takes; serial kernels have one."""
    kernel, blocks = case.kernel, ceil(_one(case.work.blocks) / case.device.sms)
    together = min(int(_one(case.tiles.blocks_per_sm)), blocks)
    if kernel.overlap == "serial":
        groups = 1
    elif kernel.instructions == "mma_sync":
        groups = ceil(kernel.threads / WARP_GROUP)
    else:
        groups = ceil(_one(case.tiles.queries) / ROWS_PER_READ[kernel.instructions])
    return Residents(blocks, together, groups, max(_one(tiles_of_last_sm(case)), blocks))


def attention_program(case: AttentionCase, timing: AttentionTiming, known: CycleConstants | None = None) -> Program:
    """One call of the kernel, launch included. The first group of a block brings keys and values for all of them.

    What blocks copy into the cache comes before all their key tiles.

    `known`: constants of the cycle level, those of the device's generation where left out.
    """
    found = residents(case)
    using = _group_cycles(case, found, known or cycle_constants(case.device.generation))
    first = _one(append_cycles(case) + scan_cycles(case))
    launch = {"launch": _whole(_one(timing.launch_s) * case.device.clock_hz + first)}
    turn = {"turn": 1}
    loading = [using | _arrival_cycles(case, timing, found, one) for one in found.rounds()]
    classes = [launch, using, using | turn, *(each | next for each in loading for next in ({}, turn))]
    waited = turn_cycles(case, iteration_cycles(case, *tile_cycles(case)), warm=timing.movement.keys_warm)
    return _program(_attention_tasks(case, ceil(_one(waited))), tuple(classes), tuple(_rounds(found)),
                    found.columns * max(case.kernel.stages, 2))  # fmt: skip


def _rounds(found: Residents) -> Iterator[Repeat]:
    """Round by round; all but the first wait for the blocks before them."""

    def key_tile(blocks: int, loads: int, uses: int) -> tuple[TileRun, ...]:
        """One key tile of each block."""
        runs = []
        for column in range(0, blocks * found.groups, found.groups):
            runs += [TileRun(loads, 1, column), TileRun(uses, found.groups - 1, column + 1)]
        return tuple(run for run in runs if run.tiles)

    for place, one in enumerate(found.rounds()):
        plain = key_tile(one.blocks, LOADS + OF_A_ROUND * place, USES)
        if place == 0:
            yield Repeat(one.key_tiles, plain)
        first = key_tile(one.blocks, LOADS_OF_NEXT + OF_A_ROUND * place, USES_OF_NEXT)
        yield Repeat(one.times - (place == 0), (*first, Repeat(one.key_tiles - 1, plain)))


def _attention_tasks(case: AttentionCase, turn: int) -> tuple[Task, ...]:
    """Tasks of one group and key tile, in the cascade's names; `K` and `V` are their reading from shared memory.

    Registers take the next scores once the group's weights are done in specialised kernels, once they are multiplied in
    others.
    """
    kernel, trips = case.kernel, ceil(_one(trip_cycles(case)))
    registers = After("SLN" if kernel.overlap == "specialised" else "SLNV", same_column=True)
    launched = After("launch", latest=True)
    waits = (After("SLNV", lag_cycles=trips, same_column=True),) if trips else ()
    ready = (After("load", latest=True), After("turn", lag_cycles=turn), registers)
    return (
        Task("launch", "launch"),
        Task("turn", "launch", after=(After("SLNV", same_column=True),)),
        Task("fetch", "dram", after=(launched, *waits)),
        Task("load", "l2", after=(launched, *waits, After("fetch", streaming=True))),
        Task("fetch of others", "dram", after=(After("fetch"),)),
        Task("load of others", "l2", after=(After("load"),)),
        Task("K", "shared_memory", after=ready),
        Task("QK", "tensor", after=(*ready, After("K", streaming=True))),
        Task("LM", "issue", after=(After("QK"),)),
        Task("SLD", "issue", after=(After("LM"),)),
        Task("SLN", "special", after=(After("LM"), After("SLD", streaming=True))),
        Task("SPNV", "issue", after=(After("LM"), After("SLNV", same_column=True))),
        Task("V", "shared_memory", after=(After("SLN"), After("SLD"), After("SPNV"))),
        Task("SLNV", "tensor", after=(After("SLN"), After("SLD"), After("SPNV"), After("V", streaming=True))),
    )


def _arrival_cycles(case: AttentionCase, timing: AttentionTiming, found: Residents, one: Round) -> dict[str, int]:
    """Cycles in which keys and values of a tile reach the SM, and those in which L2 and DRAM then serve other SMs.

    SMs are not in step, so what the device reads is spread evenly over the key tiles that a block has in its turn.
    Warps that load transpose, too.
    """
    in_turn = sum(each.times * each.key_tiles for each in found.rounds())
    depth = _one(case.tiles.head_dim) + _one(case.value_dim)
    port = _one(case.tiles.keys) * depth * DTYPE_BYTES[case.kv_dtype] / L2_PORT_BYTES_PER_CLOCK
    cycles: dict[str, int] = {}
    for name, seconds in (("fetch", timing.dram_s), ("load", timing.l2_s)):
        every = _whole(_one(seconds) * case.device.clock_hz / (in_turn * one.blocks))
        cycles[name] = min(every, _whole(port))
        cycles[f"{name} of others"] = every - cycles[name]
    cycles["load"] = max(cycles["load"], _whole(_one(producer_cycles(case))))
    return cycles


def _group_cycles(case: AttentionCase, found: Residents, known: CycleConstants) -> dict[str, int]:
    """Cycles of one group for a key tile. Other instructions wait for a share of the time of exponentials."""
    tensor, special, issue, shared = (_one(cycles) / found.groups for cycles in tile_cycles(case))
    tensor *= case.constants.tensor_fraction / known.cycle_tensor_fraction
    issue += special * known.cycle_exponential_share
    keys_part = _one(case.tiles.head_dim) / (_one(case.tiles.head_dim) + _one(case.value_dim))
    scores = _one(case.tiles.queries) * _one(case.tiles.keys) / found.groups
    first = scores * (COMPARISONS + _one(mask_instructions(case))) / LANES
    rescale = _one(case.tiles.queries) * _one(case.value_dim) / found.groups / LANES
    cycles = {
        "K": shared * keys_part, "QK": tensor * keys_part, "LM": first, "SLD": issue - first - rescale, "SLN": special,
        "SPNV": rescale, "V": shared * (1 - keys_part), "SLNV": tensor * (1 - keys_part),
    }  # fmt: skip
    return {name: _whole(amount) for name, amount in cycles.items()}


def product_program(
    device: Device, constants: Constants, choice: TileChoice, timing: GemmTiming, name: str
) -> Program:
    """Blocks one after another; the results of one are stored before the next multiplies, but on FP32 units."""
    dtype = timing.operands.product
    size = depth_step(dtype)
    steps, blocks = ceil(choice.depth / size), ceil(choice.blocks / device.sms)
    tiles = arriving_tiles(device, choice.options)
    arriving = _one(loaded_bytes(timing.operands, tiles, choice.rows, choice.outputs))
    port = size * arriving / L2_PORT_BYTES_PER_CLOCK
    share = device.clock_hz / (steps * blocks)
    step = {
        "fetch": _whole(_one(timing.dram_s) * share),
        "load": _whole(max(_one(timing.l2_s) * share, port)),
        name: _whole(size * _one(products_cycles(device, constants, dtype, choice.options)) * _one(timing.slowed)),
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
    sum_s = small_kernel_s(device) if choice.splits > 1 else 0.0  # the second of two launches
    launch = {"launch": _whole((_one(timing.launch_s) - sum_s) * device.clock_hz)}
    last = step | {"store": _whole(_one(stored_cycles(device, dtype, choice.options)))}
    meanwhile = min(steps, ceil(last["store"] / max(step.values())))  # steps of the next block
    ahead = meanwhile if on_fp32_units(dtype) else 0
    work = Repeat(blocks, (TileRun(STEP, steps - 1), TileRun(LAST, 1)))
    return _program(tasks, (launch, step, last), (work,), BUFFERS + ahead, ceil(sum_s * device.clock_hz))


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
    launch = {"launch": _whole(_one(timing.launch_s) * device.clock_hz)}
    each = {"fetch": timing.dram_s, "move": timing.l2_s, "functions": timing.special_s, "lanes": timing.issue_s}
    piece = {name: _whole(_one(seconds) * share) for name, seconds in each.items()}
    return _program(tasks, (launch, piece), (TileRun(STEP, pieces),), BUFFERS)


def ring_program(device: Device, timing: RingTiming) -> Program:
    """What arrives in one step is sent on in the next."""
    lag = ceil(timing.step_latency_s * device.clock_hz)
    tasks = (
        Task("launch", "launch"),
        Task("send", "link", after=(After("launch", latest=True), After("send", tiles_back=1, lag_cycles=lag))),
    )
    launch = {"launch": ceil(timing.launch_s * device.clock_hz)}
    send = {"send": max(ceil(timing.step_link_s * device.clock_hz), 1)}
    return _program(tasks, (launch, send), (TileRun(STEP, timing.steps),), None, lag)


def _program(
    tasks: tuple[Task, ...], classes: tuple[Mapping[str, int], ...], work: tuple[TileRun | Repeat, ...],
    in_flight: int | None, drain_cycles: int = 0,
) -> Program:  # fmt: skip
    """`classes`: task -> cycles, the launch first; `work` is the stream after it."""
    return Program(
        tasks=tasks,
        tile_classes=tuple(tuple(cycles.get(task.name, 0) for task in tasks) for cycles in classes),
        stream=(TileRun(LAUNCH, 1), *work),
        in_flight=in_flight,
        drain_cycles=drain_cycles,
    )


def _whole(cycles: float) -> int:
    """Up to the next whole cycle, not counting the rounding error of a product."""
    return ceil(cycles * (1 - 1e-12))


def _one(values: IntegerArray | Reals) -> float:
    return float(values[0])
