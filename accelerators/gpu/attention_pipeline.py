"""Attention on one SM as a program: every key tile of every group of warps, and what it waits for.

The SM is the one that ends last, with the key tiles that the closed form gives it. Work of a tile, ceilings and
latencies are those of `timing`; the overlap is not: it follows from the dependences. FlashAttention-3 (arXiv
2407.08608), section 3. Whole cycles, rounded up, of each unit's share of one group.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil

from cascadesim.accelerators.gpu.kernel import Kernel
from cascadesim.accelerators.gpu.shape import Counts, Reals
from cascadesim.accelerators.gpu.timing import (
    DRAM_LATENCY_S,
    LANES,
    ROWS_PER_READ,
    Case,
    Timing,
    iteration_cycles,
    mask_instructions,
    tile_cycles,
    tiles_of_last_sm,
    turn_cycles,
)
from cascadesim.accelerators.program import After, Program, Repeat, Task, TileRun

COMPARISONS = 1.0  # a score, for the running maximum: before any exponential of the row
WARP_GROUP = 128  # threads; where mma.sync is used, one group covers the four schedulers
LAUNCH, LEADS, FOLLOWS, LEADS_NEXT, FOLLOWS_NEXT = range(5)  # classes of tiles


@dataclass(frozen=True)
class Round:
    """`times` over: so many blocks at once, each over so many key tiles."""

    times: int
    blocks: int
    key_tiles: int


@dataclass(frozen=True)
class Residents:
    """What runs on the SM: `blocks` in turn, `together` of them at once, each of `groups` that take turns.

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
        full, rest = divmod(self.blocks, self.together)
        fewest = int(self.key_tiles // self.blocks)
        longer = min(ceil((self.key_tiles - fewest * self.blocks) / self.together), full)
        left = self.key_tiles - (fewest * full + longer) * self.together
        found = (Round(longer, self.together, fewest + 1), Round(full - longer, self.together, fewest),
                 Round(min(rest, 1), rest, max(ceil(left / max(rest, 1)), 1)))  # fmt: skip
        return tuple(one for one in found if one.times)


def residents(case: Case) -> Residents:
    blocks = ceil(_one(case.work.blocks) / case.device.sms)
    together = min(int(_one(case.tiles.blocks_per_sm)), blocks)
    return Residents(blocks, together, _groups(case), max(_one(tiles_of_last_sm(case)), blocks))


def _groups(case: Case) -> int:
    """Of one block, that run apart: warp groups of as many rows as an instruction takes; none in serial kernels."""
    kernel = case.kernel
    if kernel.overlap == "serial":
        return 1
    if kernel.instructions == "mma_sync":
        return ceil(kernel.threads / WARP_GROUP)
    return ceil(_one(case.tiles.queries) / ROWS_PER_READ[kernel.instructions])


def attention_program(case: Case, timing: Timing) -> Program:
    """One call of the kernel, launch included."""
    found = residents(case)
    tasks = _tasks(case)
    lead = _lead_cycles(case, timing, found)
    launch = {"launch": _whole(_one(timing.launch_s) * case.device.clock_hz)}
    follow = {name: cycles for name, cycles in lead.items() if name not in ("fetch", "load")}
    turn = {"turn": 1}
    classes = (launch, lead, follow, lead | turn, follow | turn)
    return Program(
        tasks=tasks,
        tile_classes=tuple(tuple(cycles.get(task.name, 0) for task in tasks) for cycles in classes),
        stream=(TileRun(LAUNCH, 1), *_stream(found)),
        in_flight=found.columns * max(case.kernel.stages, 2),  # the key tiles in use, and those loaded ahead
    )


def _stream(found: Residents) -> Iterator[Repeat]:
    """Round by round; all but the first wait for the blocks before them."""
    for place, one in enumerate(found.rounds()):
        plain = _step(found, one.blocks, LEADS, FOLLOWS)
        if place == 0:
            yield Repeat(one.key_tiles, plain)
        first = _step(found, one.blocks, LEADS_NEXT, FOLLOWS_NEXT)
        yield Repeat(one.times - (place == 0), (*first, Repeat(one.key_tiles - 1, plain)))


def _step(found: Residents, blocks: int, lead: int, follow: int) -> tuple[TileRun, ...]:
    """One key tile of each block: its first group brings keys and values for all."""
    runs = []
    for block in range(blocks):
        column = block * found.groups
        runs += [TileRun(lead, 1, column), TileRun(follow, found.groups - 1, column + 1)]
    return tuple(run for run in runs if run.tiles)


def _tasks(case: Case) -> tuple[Task, ...]:
    """Of one group and key tile, in the cascade's names; `K` and `V` are their reading from shared memory."""
    device, kernel = case.device, case.kernel
    trips = ceil(kernel.dependent_loads * DRAM_LATENCY_S * device.clock_hz)
    turn = ceil(_one(turn_cycles(case, iteration_cycles(case, *tile_cycles(case)))))
    launched = After("launch", latest=True)
    waits = (After("SLNV", lag_cycles=trips, same_column=True),) if trips else ()
    ready = (After("load", latest=True), After("turn", lag_cycles=turn), _registers(kernel))
    return (
        Task("launch", "launch"),
        Task("turn", "launch", after=(After("SLNV", same_column=True),)),
        Task("fetch", "dram", after=(launched, *waits)),
        Task("load", "l2", after=(launched, *waits, After("fetch", streaming=True))),
        Task("K", "shared_memory", after=ready),
        Task("QK", "tensor", after=(*ready, After("K", streaming=True))),
        Task("LM", "issue", after=(After("QK"),)),
        Task("SLD", "issue", after=(After("LM"),)),
        Task("SLN", "special", after=(After("LM"), After("SLD", streaming=True))),
        Task("SPNV", "issue", after=(After("LM"), After("SLNV", same_column=True))),
        Task("V", "shared_memory", after=(After("SLN"), After("SLD"), After("SPNV"))),
        Task("SLNV", "tensor", after=(After("SLN"), After("SLD"), After("SPNV"), After("V", streaming=True))),
    )


def _registers(kernel: Kernel) -> After:
    """The next scores: once the group's weights are done in specialised kernels, once they are multiplied in others."""
    return After("SLN" if kernel.overlap == "specialised" else "SLNV", same_column=True)


def _lead_cycles(case: Case, timing: Timing, found: Residents) -> dict[str, int]:
    """Of the group that brings keys and values; L2 and DRAM have the same share for every key tile of the SM."""
    tensor, special, issue, shared = (_one(cycles) / found.groups for cycles in tile_cycles(case))
    keys_part = _one(case.tiles.head_dim) / (_one(case.tiles.head_dim) + _one(case.value_dim))
    scores = _one(case.tiles.queries) * _one(case.tiles.keys) / found.groups
    first = scores * (COMPARISONS + _one(mask_instructions(case))) / LANES
    rescale = _one(case.tiles.queries) * _one(case.value_dim) / found.groups / LANES
    key_tiles = sum(one.times * one.blocks * one.key_tiles for one in found.rounds())
    moved = {"fetch": timing.dram_s, "load": timing.l2_s}
    cycles = {
        **{name: _one(seconds) * case.device.clock_hz / key_tiles for name, seconds in moved.items()},
        "K": shared * keys_part, "QK": tensor * keys_part, "LM": first, "SLD": issue - first - rescale, "SLN": special,
        "SPNV": rescale, "V": shared * (1 - keys_part), "SLNV": tensor * (1 - keys_part),
    }  # fmt: skip
    return {name: _whole(amount) for name, amount in cycles.items()}


def _whole(cycles: float) -> int:
    """Up to the next whole cycle, not counting the rounding error of a product."""
    return ceil(cycles * (1 - 1e-12))


def _one(values: Counts | Reals) -> float:
    return float(values[0])
