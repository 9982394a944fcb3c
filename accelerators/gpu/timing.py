"""How long attention takes: key tiles of thread blocks over SMs, what blocks wait for, memory beside them, launches.

Closed form over arrays of shapes; one shape is an array of one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cascadesim.accelerators.gpu.attention import compiled
from cascadesim.accelerators.gpu.attention.tile import (
    ROWS_OF_A_WARP,
    AttentionCase,
    Cycles,
    iteration_cycles,
    tile_cycles,
)
from cascadesim.accelerators.gpu.cache_writes import extra_kernels_s
from cascadesim.accelerators.gpu.gemm import L2_PORT_BYTES_PER_CLOCK
from cascadesim.accelerators.gpu.grid import BooleanArray, Reals, column_parts
from cascadesim.accelerators.gpu.memory import (
    DRAM_LATENCY_S,
    FLOAT_BYTES,
    L2_LATENCY_S,
    VECTOR_BYTES,
    WARP,
    Movement,
    dram_seconds,
    dram_share,
    movement,
)
from cascadesim.accelerators.gpu.spec import DTYPE_BYTES

LATE = 0.5  # assumed: of what the longest block has more than the shortest, when all other SMs are done
# assumed: kernels that split keys, or load by TMA, load far ahead, so that the norm of memory and schedule is of twice
# the order; 2.5 to 4 suit calibration rows, the longer of the two does not
AHEAD = 2.0
FIRST_TRIPS = 2  # of a block to memory, one after the other: the place of its first page, its first keys



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
    schedule_s = makespan_cycles(case, iteration, moved.keys_warm) / device.clock_hz
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
    ahead = case.kernel.loads_ahead or (case.kernel.splits_keys and case.kernel.split_load is None)
    return np.asarray(held & ahead | case.tiles.loop.known)


def makespan_cycles(case: AttentionCase, iteration: Reals, warm: Reals | float = 0.0) -> Reals:
    """Blocks over SMs: all of the work evenly spread, plus what the last blocks leave idle; at least the longest.

    Every block but the first of an SM waits for its loads, unless blocks run together or the kernel is persistent.
    """
    device, work = case.device, case.work
    blocks = work.blocks.astype(np.float64)
    together = np.minimum(case.tiles.blocks_per_sm, np.ceil(blocks / device.sms))
    turns = np.maximum(blocks - device.sms, 0) * turn_cycles(case, iteration, together, warm)
    waiting = waiting_cycles(case)
    tiles = _filled(_walked(case, iteration), hidden_cycles(case) / (iteration + waiting), blocks)
    busy = _of_last_sm(case, tiles, iteration, waiting, turns)
    return busy + append_cycles(case) + scan_cycles(case)


def _filled(tiles: Blocks, share: Reals, blocks: Reals) -> Blocks:
    """With what every block takes besides, in key tiles."""
    return Blocks(tiles.total + share * blocks, tiles.longest + share, tiles.shortest + share, tiles.spread)


def hidden_cycles(case: AttentionCase) -> Reals:
    """What a block does not hide of its first scores, whose softmax has no products beside it, and of its last weights.

    FlashAttention-3, section 3.2: its loop begins with the scores of a tile and ends with the products of one.
    """
    tensor, special, issue, shared = tile_cycles(case)
    hidden = case.hidden * np.minimum(np.maximum(tensor, shared), np.maximum(special, issue))
    return np.asarray(np.where(case.tiles.loop.known, 0.0, hidden))


def scan_cycles(case: AttentionCase) -> Reals:
    """Trips to L2 in which the scheduler of an SM that has several blocks walks over all sequences but once.

    Where every block searches anew: those of the first block, see `search_s`.
    """
    if not case.kernel.sequences_per_scan:
        return np.zeros(len(case.work.visited))
    if case.kernel.searches_anew:
        return search_s(case) * case.device.clock_hz
    scans = case.shape.batch / case.kernel.sequences_per_scan * (case.work.blocks > case.device.sms)
    return np.asarray(scans * L2_LATENCY_S * case.device.clock_hz, dtype=np.float64)


def search_s(case: AttentionCase) -> Reals:
    """Trips to L2 in which a block finds its next tile: one, or twice a walk up to its sequence, on average halfway."""
    if not case.kernel.searches_anew:
        return np.full(len(case.work.visited), L2_LATENCY_S)
    scans = np.ceil(case.shape.batch / case.kernel.sequences_per_scan)
    return np.asarray(2 * (scans + 1) / 2 * L2_LATENCY_S, dtype=np.float64)


def waiting_cycles(case: AttentionCase) -> Reals:
    """Of a block in each iteration, which only other blocks of the SM hide.

    Trips, and where a loop was counted, whose warps do everything in turn, also products or instructions, whichever are
    shorter.
    """
    trips = trip_cycles(case)
    if not case.tiles.loop.known.any():
        return trips
    tensor, special, issue, shared = tile_cycles(case)
    shorter = np.minimum(np.maximum(tensor, shared), np.maximum(special, issue))
    return np.asarray(trips + np.where(case.tiles.loop.known, shorter, 0.0))


def trip_cycles(case: AttentionCase) -> Reals:
    """In which a block neither multiplies nor issues: keys are on their way, or an instruction waits for another."""
    trip_s = L2_LATENCY_S if case.kernel.keys_from_l2 else DRAM_LATENCY_S
    loads = np.where(np.isnan(case.tiles.loop.trips), case.kernel.dependent_loads, case.tiles.loop.trips)
    trips = np.asarray(loads * trip_s * case.device.clock_hz, dtype=np.float64)
    if not case.tiles.loop.known.any():
        return trips
    own = compiled.waiting_cycles(case.device, case.tiles, DTYPE_BYTES[case.kv_dtype])
    return np.asarray(trips + own, dtype=np.float64)


def _walked(case: AttentionCase, iteration: Reals) -> Blocks:
    """Key tiles of blocks, with those that they only compare, as far as these take as long."""
    work = case.work
    if not case.kernel.passes_window:
        return Blocks(work.visited, work.longest, work.shortest, work.spread)
    passing = compiled.block_cycles(case.device, case.tiles.loop, case.tiles.loop.passed)
    share = passing / (iteration + waiting_cycles(case))
    passed = share * work.most_passed
    return Blocks(work.visited + share * work.passed, work.longest + passed, work.shortest, work.spread + passed)


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

    The search reads some sequences, a trip to L2: all blocks read the same few bytes. `together`: blocks that wait at
    once. Their queries and outputs pass by the one port of the SM.
    `warm`: share of the keys in L2, whence a block's first loads come sooner.
    """
    device, kernel = case.device, case.kernel
    if kernel.tiles_between:
        return kernel.tiles_between * iteration / together
    exposed = case.constants.persistent_share if kernel.persistent else 1.0
    sooner_s = FIRST_TRIPS * warm * (DRAM_LATENCY_S - L2_LATENCY_S)
    waited_s: Reals | float = np.maximum(case.constants.block_latency_s - sooner_s, 0.0) * exposed
    if kernel.sequences_per_scan:
        waited_s = waited_s + search_s(case)
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
    iteration = iteration_cycles(case, *tile_cycles(case))
    return _of_last_sm(case, _walked(case, iteration), 1.0)


@dataclass(frozen=True)
class Blocks:
    """Key tiles of thread blocks: of all, of the longest, of the shortest; `spread`: see ThreadBlocks."""

    total: Reals
    longest: Reals
    shortest: Reals
    spread: Reals


def _of_last_sm(
    case: AttentionCase, tiles: Blocks, busy: Reals | float, waiting: Reals | float = 0.0, turns: Reals | float = 0.0
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
    spread = 0.0 if case.kernel.longest_first else tiles.spread
    late = np.where(blocks > sms, idle + LATE * spread * full / at_once, 0)
    evenly = tiles.total * full / (sms * at_once) + turns / sms
    return np.asarray(np.maximum(evenly + late, tiles.longest * (busy + waiting)), dtype=np.float64)
