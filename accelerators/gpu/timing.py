"""How long attention takes: cycles of each unit per tile, the overlap of the kernel, thread blocks over SMs, memory.

Closed form over arrays of shapes; one shape is an array of one. Every number comes from instruction counts, sizes and
rates, and from the constants of `calibration`. FlashAttention-3 (arXiv 2407.08608), section 3; FA4 (2603.05451).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from cascadesim.accelerators.gpu.cache_writes import extra_kernels_s
from cascadesim.accelerators.gpu.calibration import Constants
from cascadesim.accelerators.gpu.gemm import L2_PORT_BYTES_PER_CLOCK
from cascadesim.accelerators.gpu.grid import (
    BlockTiles,
    BooleanArray,
    Reals,
    Shape,
    ThreadBlocks,
    column_parts,
    shrunk,
    tiles_of,
    work_of,
)
from cascadesim.accelerators.gpu.kernel import Kernel
from cascadesim.accelerators.gpu.memory import (
    DRAM_LATENCY_S,
    FLOAT_BYTES,
    L2_LATENCY_S,
    LANES,
    VECTOR_BYTES,
    WARP,
    Movement,
    dram_seconds,
    dram_share,
    movement,
)
from cascadesim.accelerators.gpu.spec import DTYPE_BYTES, Device, Dtype, Generation

FP32_PER_SCORE = 2.0  # of the instructions: the scaled difference and the sum, on lanes that A100 has 64 of, not 128
EMULATION_INSTRUCTIONS = 8.0  # FA4, section on software exp2: range reduction, degree-3 polynomial, exponent bits
MMA_SYNC_ON_HOPPER = 2 / 3  # of the tensor peak (FA3 paper)
MMA_SYNC_ON_BLACKWELL = 0.33  # assumed: as much an SM as on Hopper, of twice the peak; any from a quarter suits rows
ROWS_PER_READ = {"mma_sync": 32, "wgmma": 64, "tcgen05": 128}  # rows that one reading of keys or values serves
LATE = 0.5  # assumed: of what the longest block has more than the shortest, when all other SMs are done
MASK_INSTRUCTIONS = 2.0  # a comparison and a select
WINDOW_INSTRUCTIONS = 10.0  # assumed: comparisons with both ends, spills among them; 8 to 12 suit calibration rows
# assumed: kernels that split keys, or load by TMA, load far ahead, so that the norm of memory and schedule is of twice
# the order; 2.5 to 4 suit calibration rows, the longer of the two does not
AHEAD = 2.0
FIRST_TRIPS = 2  # of a block to memory, one after the other: the place of its first page, its first keys
ROWS_OF_A_WARP = 16  # at least: PTX ISA, mma.m16n8k16
CONSUMER_REGISTERS = 240  # of a thread in two consumer groups: FA3, hopper/flash_fwd_kernel_sm90.h
Cycles: TypeAlias = tuple[Reals, Reals, Reals, Reals]  # of one SM: products, exponentials, instructions, shared memory


@dataclass(frozen=True)
class AttentionCase:
    """One kernel on one device, with many shapes."""

    device: Device
    kernel: Kernel
    constants: Constants
    shape: Shape
    dtype: Dtype
    kv_dtype: Dtype
    tiles: BlockTiles
    work: ThreadBlocks
    cold_keys: bool = False  # keys and values are not in L2 when the kernel starts

    @property
    def value_dim(self) -> Reals:
        """Of one block. Padded like the head dimension where it is as large."""
        padded = np.where(self.shape.value_dim == self.shape.head_dim, self.tiles.head_dim, self.shape.value_dim)
        return np.asarray(padded / column_parts(self.kernel, self.shape), dtype=np.float64)

    @property
    def instructions_per_score(self) -> float:
        """Its own where they were counted, else those of its kind."""
        known, specialised = self.constants, self.kernel.overlap == "specialised"
        kind = known.instructions_specialised if specialised else known.instructions_plain
        return self.kernel.instructions_per_score or kind

    @property
    def hidden(self) -> Reals:
        """The share of the shorter of products and softmax that runs unseen."""
        return self.tiles.overlapped * (self.constants.overlap_specialised * (self.kernel.overlap == "specialised"))


@dataclass(frozen=True)
class AttentionTiming:
    """Seconds. Units alone, over the whole device and all blocks; then what the schedule makes of them."""

    tensor_s: Reals
    special_s: Reals
    issue_s: Reals
    shared_memory_s: Reals
    l2_s: Reals
    dram_s: Reals
    schedule_s: Reals  # thread blocks over the SMs, memory as fast as wanted
    launch_s: Reals
    total_s: Reals
    movement: Movement


def case_of(
    device: Device, kernel: Kernel, constants: Constants, shape: Shape, dtype: Dtype, kv_dtype: Dtype,
    cold_keys: bool = False,
) -> AttentionCase:  # fmt: skip
    if kernel.multiplies_in_cache_type:
        dtype = min(dtype, kv_dtype, key=DTYPE_BYTES.__getitem__)
    loaded = kv_dtype if kernel.converts_cache else dtype
    tiles = shrunk(kernel, shape, tiles_of(kernel, device, shape, DTYPE_BYTES[loaded]))
    work = work_of(kernel, device, shape, tiles)
    return AttentionCase(device, kernel, constants, shape, dtype, kv_dtype, tiles, work, cold_keys)


def attention_timing(case: AttentionCase, loops: Sequence[Cycles] = ()) -> AttentionTiming:
    """`loops`: cycles of a key tile in each loop over the keys, of kernels whose instructions were counted."""
    device, work, constants = case.device, case.work, case.constants
    each = tuple(loops) or (tile_cycles(case),)
    per_tile = (np.sum(unit, axis=0) for unit in zip(*each, strict=True))
    tensor, special, issue, shared = (cycles * work.visited / device.sms / device.clock_hz for cycles in per_tile)
    iteration = np.sum([iteration_cycles(case, *loop) for loop in each], axis=0)
    moved = movement(device, case.kernel, case.shape, case.tiles, work, case.dtype, case.kv_dtype, case.cold_keys)
    l2_s = moved.l2_bytes / device.l2_ceiling_bytes_per_s  # asked for ahead, evenly: what benchmarks reach
    share = dram_share(moved.dram_read_bytes, moved.dram_write_bytes)
    dram_s = dram_seconds(device, constants, moved.dram_bytes / share)
    memory_s = np.maximum(l2_s, dram_s)
    schedule_s = _makespan_cycles(case, iteration, moved.keys_warm) / device.clock_hz
    others_s = extra_kernels_s(device, case.kernel, constants, case.shape, work, case.value_dim)
    launch_s = np.full_like(tensor, device.launch_s + constants.kernel_latency_s) + others_s
    softmax_s = _softmax_s(case)
    beside_s = memory_s - softmax_s
    longer, shorter = np.maximum(schedule_s, beside_s), np.minimum(schedule_s, beside_s)
    # two that run at once disturb each other most where they are equal: a norm between the sum and the longer one
    order = np.where(loads_ahead(case), AHEAD, 1.0) / (1 - min(constants.memory_overlap, 0.99))
    both = longer * (1 + (shorter / longer) ** order) ** (1 / order)
    total_s = launch_s + both + softmax_s
    total_s = np.where(case.tiles.supported, total_s, np.nan)
    return AttentionTiming(tensor, special, issue, shared, l2_s, dram_s, schedule_s, launch_s, total_s, moved)


def _softmax_s(case: AttentionCase) -> Reals:
    """DRAM's time for what a softmax of its own reads and writes, where scores are stored: nothing is multiplied."""
    asked, peak = case.shape, case.constants.dram_fraction * case.device.dram_ceiling_bytes_per_s
    pairs = (asked.batch * asked.heads * asked.queries * asked.keys).astype(np.float64)
    moved = pairs * DTYPE_BYTES[case.dtype] * case.kernel.stores_scores  # read, and written
    return np.asarray(2 * moved / (peak * dram_share(moved, moved)), dtype=np.float64)


def loads_ahead(case: AttentionCase) -> BooleanArray:
    """A latent tile is keys and values at once and stays until multiplied twice: shared memory must hold two."""
    tile_bytes = case.tiles.keys * case.shape.head_dim * DTYPE_BYTES[case.kv_dtype]
    held = (2 * tile_bytes <= case.device.sm.shared_memory_bytes) | (not case.shape.shared_key_value)
    return np.asarray(held & (case.kernel.splits_keys or case.kernel.loads_ahead))


def tile_cycles(case: AttentionCase) -> Cycles:
    """Cycles of one SM for one tile: products, exponentials, instructions issued, shared memory; each (shapes) float64.

    Shared memory: keys and values are written once and read by every group of rows, queries are read.
    """
    device, tiles, constants, kernel = case.device, case.tiles, case.constants, case.kernel
    scores, width = tiles.queries * tiles.keys, DTYPE_BYTES[case.dtype]
    depth = tiles.head_dim + case.value_dim
    spills = tiles.head_dim > (kernel.widest_accumulators or np.inf)
    newest = legacy_rate(kernel.instructions, device.generation)
    reached = newest * np.where(spills, constants.spilled_rate, 1.0)
    rate = device.flop_per_clock_sm(case.dtype) * constants.tensor_fraction * reached
    slowed = 1 + _beyond_registers(case) * (1 / constants.spilled_rate - 1)
    tensor = 2.0 * scores * (tiles.head_dim + case.value_dim * slowed) / rate
    by_unit = scores * (1 - tiles.emulated)
    special = by_unit / (device.sm.special_per_clock * constants.special_fraction)
    per_score = case.instructions_per_score + 1 + mask_instructions(case) + tiles.emulated * EMULATION_INSTRUCTIONS
    sums = 2 if kernel.adds_apart and width < 2 else 1  # the running output, once a tile, and those of the tile
    rescale = tiles.queries * case.value_dim * sums
    narrow = DTYPE_BYTES[case.kv_dtype] < width
    padded = kernel.masks_padding & (case.shape.head_dim < tiles.head_dim)
    one_by_one = depth * (padded | (kernel.converts_cache and narrow))
    converted = (kernel.converting_instructions or constants.conversion_instructions) * one_by_one
    if kernel.merges_warps:  # warps that divide the rows convert all keys, each for its own
        converted = converted * np.clip(tiles.queries / ROWS_OF_A_WARP, 1, kernel.threads / WARP)
    on_lanes = constants.element_instructions * depth * kernel.on_fp32_units
    issued = (scores * per_score + rescale + tiles.keys * (converted + on_lanes)) / LANES
    issue = np.maximum(issued, (scores * FP32_PER_SCORE + rescale) / device.sm.fp32_fma_per_clock)
    groups = np.ceil(tiles.queries / np.minimum(tiles.queries, _rows_per_read(case)))
    reads = groups * tiles.keys * depth + tiles.queries * tiles.head_dim
    shared_bytes = np.asarray((reads + tiles.keys * depth) * width, dtype=np.float64)
    cost = 1.0 if case.shape.listed is None else case.shape.listed.cost
    shared = cost * shared_bytes / device.sm.shared_memory_bytes_per_clock
    return tensor * cost, special * cost, issue * cost, shared


def _rows_per_read(case: AttentionCase) -> Reals | float:
    """Rows that one reading of keys or values serves: with mma.sync those of a warp, which reads for itself."""
    kernel, most = case.kernel, ROWS_PER_READ[case.kernel.instructions]
    if kernel.instructions != "mma_sync" or kernel.warps_divide_keys:
        return most
    return np.asarray(np.clip(case.tiles.queries * WARP / kernel.threads, ROWS_OF_A_WARP, most), dtype=np.float64)


def _beyond_registers(case: AttentionCase) -> Reals:
    """Share of the tiles whose products with values find two sums where registers hold one.

    vllm-project/flash-attention#104, hopper/utils.h: the sums so far wait while those of an 8-bit tile are made, unless
    it is the first, which begins at zero. Two of 64 rows in 128 threads are as many as a value has elements.
    """
    two = case.kernel.adds_apart & (DTYPE_BYTES[case.dtype] < 2) & (case.value_dim > CONSUMER_REGISTERS)
    return np.asarray(np.maximum(1 - case.work.blocks / case.work.visited, 0) * two, dtype=np.float64)


def legacy_rate(instructions: str, generation: Generation) -> float:
    """Share of the tensor peak that a kind of instruction reaches on devices that have newer ones."""
    newer = {"hopper": MMA_SYNC_ON_HOPPER, "blackwell": MMA_SYNC_ON_BLACKWELL}
    return newer.get(generation, 1.0) if instructions == "mma_sync" else 1.0


def mask_instructions(case: AttentionCase) -> Reals:
    """Instructions a score for the mask, on average over all tiles: those that no mask cuts have none."""
    windowed = (case.shape.window > 0) & (case.shape.window < case.shape.keys)  # others take the causal kernel
    in_a_cut_tile = MASK_INSTRUCTIONS + WINDOW_INSTRUCTIONS * (case.kernel.compares_ends & windowed)
    return np.asarray(in_a_cut_tile * case.work.masked / case.work.visited)


def iteration_cycles(case: AttentionCase, tensor: Reals, special: Reals, issue: Reals, shared: Reals) -> Reals:
    """One key tile of one block on an SM of its own (or its share of blocks that run together)."""
    products, softmax = np.maximum(tensor, shared), np.maximum(special, issue)
    return np.maximum(products + softmax - case.hidden * np.minimum(products, softmax), producer_cycles(case))


def producer_cycles(case: AttentionCase) -> Reals:
    """Of warps that load a key tile and transpose its 8-bit values, while others multiply the tile before.

    hopper/mainloop_fwd_sm90_tma_gmma_ws.hpp: the same warps, in order; hopper/paged_kv.h: they look up the pages first.
    """
    transposes = case.kernel.transposes_values and DTYPE_BYTES[case.dtype] < 2
    issued = case.constants.conversion_instructions * case.tiles.keys * case.value_dim / LANES
    return np.asarray((L2_LATENCY_S * case.device.clock_hz + issued) * transposes, dtype=np.float64)


def _makespan_cycles(case: AttentionCase, iteration: Reals, warm: Reals) -> Reals:
    """Blocks over SMs: all of the work evenly spread, plus what the last blocks leave idle; at least the longest.

    Every block but the first of an SM waits for its loads, unless blocks run together or the kernel is persistent.
    """
    device, work = case.device, case.work
    blocks = work.blocks.astype(np.float64)
    together = np.minimum(case.tiles.blocks_per_sm, np.ceil(blocks / device.sms))
    turns = np.maximum(blocks - device.sms, 0) * turn_cycles(case, iteration, together, warm)
    trips = case.kernel.dependent_loads * DRAM_LATENCY_S * device.clock_hz
    tiles = Blocks(work.visited, work.longest, work.shortest, work.spread)
    return _of_last_sm(case, tiles, iteration, trips, turns) + append_cycles(case)


def append_cycles(case: AttentionCase) -> Reals:
    """Before all else every block copies the new keys and values that it walks over, whoever else copies them, too.

    A load may not pass the store before it, as both could be of one place: an SM has a vector of each thread that it
    has room for in flight during a trip to L2 (Little's law). assumed: also where a single block runs, as calibration
    rows say (mean error 6 %; 9 % where a block has no more in flight than its own threads). Blocks of a head's first
    queries have a tile with new keys at least; where keys are split, those of the first parts have none.
    """
    kernel, work, device = case.kernel, case.work, case.device
    if not kernel.appends_keys:
        return np.zeros(len(work.visited))
    tile_bytes = case.tiles.keys * case.shape.key_elements * DTYPE_BYTES[case.kv_dtype]
    in_flight = kernel.threads * case.tiles.blocks_per_sm * VECTOR_BYTES
    least = np.where(work.splits > 1, 0.0, np.minimum(work.most_appended, 1.0))
    tiles = Blocks(work.appended, work.most_appended, least, work.most_appended - least)
    return _of_last_sm(case, tiles, tile_bytes / in_flight * L2_LATENCY_S * device.clock_hz)


def turn_cycles(
    case: AttentionCase, iteration: Reals, together: Reals | float = 1.0, warm: Reals | float = 0.0
) -> Reals:
    """Cycles from one block of an SM to its next: its scheduler's own figure, or the calibrated latency and a search.

    Blocks of all SMs lie between one block and the next of its SM; the search scans their sequences some at a time,
    each time a trip to L2: all blocks read the same few bytes. `together`: blocks that wait at once. Their queries and
    outputs pass by the one port of the SM. `warm`: share of the keys in L2, whence a block's first loads come sooner.
    """
    device, kernel = case.device, case.kernel
    if kernel.tiles_between:
        return kernel.tiles_between * iteration / together
    exposed = case.constants.persistent_share if kernel.persistent else 1.0
    sooner_s = FIRST_TRIPS * warm * (DRAM_LATENCY_S - L2_LATENCY_S)
    waited_s: Reals | float = np.maximum(case.constants.block_latency_s - sooner_s, 0.0) * exposed
    if kernel.sequences_per_scan:
        sequences = device.sms * case.shape.batch / case.work.blocks
        waited_s = waited_s + np.ceil(sequences / kernel.sequences_per_scan) * L2_LATENCY_S
    waited = waited_s * device.clock_hz / together + carried_bytes(case) / L2_PORT_BYTES_PER_CLOCK
    return np.asarray(np.broadcast_to(waited + _merging_cycles(case), iteration.shape))


def _merging_cycles(case: AttentionCase) -> Reals:
    """Of a block whose warps divide the keys, to sum up through shared memory: each reads what all of them wrote."""
    warps = case.kernel.threads / WARP * case.kernel.merges_warps * (case.tiles.queries <= ROWS_OF_A_WARP)
    moved = warps * (1 + warps) * case.tiles.queries * case.value_dim * FLOAT_BYTES
    return np.asarray(moved / case.device.sm.shared_memory_bytes_per_clock, dtype=np.float64)


def carried_bytes(case: AttentionCase) -> Reals:
    """Queries and outputs of a block, which it loads before the first key and stores after the last."""
    shape, width = case.shape, DTYPE_BYTES[case.dtype]
    parts = column_parts(case.kernel, shape)
    rows = shape.batch * shape.heads * shape.queries * parts * case.work.splits / case.work.blocks
    return np.asarray(rows * (shape.head_dim * width + shape.value_dim / parts * max(width, 2)), dtype=np.float64)


def tiles_of_last_sm(case: AttentionCase) -> Reals:
    """Key tiles that the SM which ends last walks over."""
    work = case.work
    return _of_last_sm(case, Blocks(work.visited, work.longest, work.shortest, work.spread), 1.0)


@dataclass(frozen=True)
class Blocks:
    """Key tiles of thread blocks: of all, of the longest, of the shortest; `spread`: see ThreadBlocks."""

    total: Reals
    longest: Reals
    shortest: Reals
    spread: Reals


def _of_last_sm(
    case: AttentionCase, tiles: Blocks, busy: Reals | float, waiting: float = 0.0, turns: Reals | float = 0.0
) -> Reals:
    """When the SM ends that ends last: rounds of as many blocks as are resident, each as long as the shortest.

    A key tile keeps an SM `busy`, and its block `waiting` besides. Blocks of an SM use it one after the other, and wait
    at the same time: their tiles take as long as all of them use it, or as long as one takes by itself. What blocks
    have beyond the shortest is spread evenly, but for a part of the last one's. `turns`: cycles between blocks, of all.
    """
    sms, at_once = case.device.sms, case.tiles.blocks_per_sm
    blocks = case.work.blocks.astype(np.float64)
    rounds, rest = np.divmod(blocks, sms * at_once)
    left = np.ceil(rest / sms)
    full = np.maximum(at_once * busy, busy + waiting)
    last = np.where(rest > 0, np.maximum(left * busy, busy + waiting), 0)
    idle = tiles.shortest * (rounds * full + last - full * blocks / (sms * at_once))
    idle = idle + (rounds * at_once + left - blocks / sms) * turns / blocks
    late = np.where(blocks > sms, idle + LATE * tiles.spread * full / at_once, 0)
    evenly = tiles.total * full / (sms * at_once) + turns / sms
    return np.asarray(np.maximum(evenly + late, tiles.longest * (busy + waiting)), dtype=np.float64)
