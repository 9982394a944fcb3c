"""What passes by memory: attention through L2 and DRAM, work that streams.

Blocks that are resident together and read the same keys share every tile of them that is fetched. Where more blocks
read a head than are resident, its keys are walked over again, round by round, as far as L2 has lost them. Warm caches
(a call repeated) keep what fits. Streams (norms, activations, residuals, copies into a cache) are bound by DRAM, L2 or
their instructions. Knows sizes and the order of blocks; knows no cascade.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import ArrayLike

from cascadesim.accelerators.gpu.calibration import Constants
from cascadesim.accelerators.gpu.grid import BlockTiles, Reals, Shape, ThreadBlocks, column_parts, walked_keys
from cascadesim.accelerators.gpu.kernel import Kernel
from cascadesim.accelerators.gpu.spec import DTYPE_BYTES, Device, Dtype

TURNAROUND = 0.2  # gpu-benches: a triad, two reads to a write, reaches 0.87 of the bandwidth of reads
DRAM_LATENCY_S = 0.6e-6  # gpu-benches' latency plots read 0.5 to 0.8 us beyond L2
ROUND_TRIP_S = 2 * DRAM_LATENCY_S  # a load, and a store that depends on it
L2_SHARE = 0.5  # assumed: of a trip to DRAM, one to L2
L2_LATENCY_S = L2_SHARE * DRAM_LATENCY_S
# assumed: trips of kernels that wait for one element of each thread take as many clocks on every device as 0.6 us are
# of an A100, since most of a trip passes in SMs, the crossbar and L2
TRIP_CLOCK_HZ = 1.41e9
SMALLER_SMS = {"7.5": 1024, "8.6": 1536, "8.9": 1536, "12.0": 1536}  # threads; others 2048 (CUDA guide, capabilities)
WARP = 32
LANES = 128  # threads that the four schedulers of an SM issue for in a clock
LINE_BYTES = 128  # of L2: CUDA guide, device memory accesses
VECTOR_BYTES = 16  # the widest load of a thread (CUDA guide)
MOST_COPYING_THREADS = 512  # vLLM, csrc/cache_kernels.cu
MOST_BLOCKS_PER_SM = 32  # CUDA guide, capabilities: fewer on GPUs for workstations
TWO_DIES = ("blackwell",)  # NVIDIA, Blackwell architecture
UNEVEN = 0.25  # assumed: sets fill unevenly: some lose lines at a quarter less than L2 holds, all at a quarter more
FLOAT_BYTES = 4  # scores, partial outputs and statistics


@dataclass(frozen=True)
class Movement:
    """Bytes of one call. `again_bytes`: keys and values that DRAM gives more than once, among those read.

    `warm`, `keys_warm`: share of queries and outputs, of keys and values, that L2 has from the call before.
    """

    l2_bytes: Reals
    dram_read_bytes: Reals
    dram_write_bytes: Reals
    again_bytes: Reals
    warm: Reals
    keys_warm: Reals

    @property
    def dram_bytes(self) -> Reals:
        return self.dram_read_bytes + self.dram_write_bytes


def share_in_l2(capacity_bytes: float, touched_bytes: ArrayLike) -> Reals:
    """Share of `touched_bytes` that L2 has from the kernel, the call, or the round before.

    What is walked over again and again leaves the least recently used lines just before they are asked for: all is kept
    of what fits, and nothing of more; in between as many sets are full as are not.
    """
    touched = np.asarray(touched_bytes, dtype=np.float64) / capacity_bytes
    return np.asarray(np.clip((1 + UNEVEN - touched) / (2 * UNEVEN), 0, 1), dtype=np.float64)


def movement(
    device: Device, kernel: Kernel, shape: Shape, tiles: BlockTiles, work: ThreadBlocks, dtype: Dtype, kv_dtype: Dtype,
    cold: bool,
) -> Movement:  # fmt: skip
    """`cold`: keys and values come from DRAM, whatever else fits L2 (other layers ran since they were used)."""
    width, kv_width = DTYPE_BYTES[dtype], DTYPE_BYTES[kv_dtype]
    rows = (shape.batch * shape.heads * shape.queries).astype(np.float64)
    queries, outputs = rows * shape.head_dim * width, rows * shape.value_dim * max(width, 2)  # 8-bit ones write 16 bits
    one_head = np.asarray(shape.keys_in_reach * shape.key_elements * kv_width, dtype=np.float64)
    cache = shape.batch * shape.heads_kv * one_head
    elsewhere = shape.value_dim - shape.value_dim / column_parts(kernel, shape)  # columns of other blocks
    walked = work.visited * tiles.keys * (shape.key_elements - elsewhere) * kv_width
    parts = np.where((work.splits > 1) | kernel.always_combines, work.splits, 0)
    partial = parts * shape.batch * shape.heads * shape.queries
    partial_bytes = partial * (shape.value_dim + 1) * FLOAT_BYTES
    pairs = (shape.batch * shape.heads * shape.queries * shape.keys).astype(np.float64)
    scores = pairs * 2 * width * kernel.stores_scores  # scores written and read, weights written and read
    lines = _heads_of_a_line(kernel, shape, kv_width)
    again = lines * walked * _again_share(device, kernel, shape, work, tiles, kv_width, lines)
    again = np.minimum(again, np.maximum(lines * walked - cache, 0))  # never more than a stream for each block
    touched = queries + cache + outputs + partial_bytes
    warm = share_in_l2(device.l2_bytes, touched * _copies(device, shape, work))
    keys_warm = np.zeros_like(warm) if cold else warm
    reads = queries * (1 - warm) + cache * (1 - keys_warm) + again + scores
    writes = outputs * (1 - warm) + scores
    l2_bytes = walked + queries + outputs + 2 * partial_bytes + 2 * scores
    return Movement(l2_bytes, reads, writes, again, warm, keys_warm)


def _copies(device: Device, shape: Shape, work: ThreadBlocks) -> Reals:
    """Partitions of L2 that have a line at the end: that of its home, and those of the SMs that read it, at random.

    assumed: where every SM has a block at most, blocks of the next call are on the same SMs, and find their lines; of
    more blocks any is anywhere, so that only lines that all partitions have are found. Nor are they found sooner than
    in DRAM where half of them come over the link between two dies, as calibration rows of B200 say.
    """
    readers = work.blocks / (shape.batch * shape.heads_kv * work.splits)
    others, one_die = device.l2_partitions - 1, device.generation not in TWO_DIES
    few = 1 + others * (1 - (1 - 1 / device.l2_partitions) ** readers)
    return np.asarray(np.where((work.blocks <= device.sms) & one_die, few, device.l2_partitions), dtype=np.float64)


def _again_share(
    device: Device, kernel: Kernel, shape: Shape, work: ThreadBlocks, tiles: BlockTiles, key_bytes: float, lines: Reals
) -> Reals:
    """What rounds of resident blocks after the first read from DRAM again, as a share of what all blocks walk over.

    Of `readers` blocks of the same keys, `resident` run at once; a round fetches what its mean block walks over, and
    the first round of each head is the compulsory one. `lines`: key heads that are fetched with each other.
    assumed: the blocks of a round stay within an L2 of one another: whoever is ahead waits for DRAM, those behind only
    for L2, so that they catch up. Evidence: FlashAttention-2 and -3 report no fall of throughput at 16K, where a
    stream for each block would exceed DRAM, and 115K tokens take 267 ms (Sliding Tile Attention, ICML 2025), not 341.
    """
    readers = work.blocks / (shape.batch * shape.heads_kv * work.splits)
    running = device.sms * tiles.blocks_per_sm / work.splits
    missed = partial(_missed, device, kernel, shape, tiles, key_bytes)
    if kernel.heads_first:
        return _heads_first(kernel, shape, readers, running, missed)
    if kernel.heads_last:
        return _heads_last(shape, work, readers * lines, running, lines, missed)
    resident = np.clip(running, 1, readers)
    return np.asarray((1 / resident - 1 / readers) * missed(np.ones_like(readers)), dtype=np.float64)


def _heads_first(
    kernel: Kernel, shape: Shape, readers: Reals, running: Reals, missed: Callable[[Reals], Reals]
) -> Reals:
    """A tile of queries in all sequences of a head, then in all heads, before the next tile.

    Heads of a group find keys that its other heads walked over in all sequences, the next tile what all heads of all
    sequences did.
    """
    sharing = np.where(kernel.packs_group, 1, shape.group).astype(np.float64)
    heads = np.clip(running / shape.batch, 1, sharing)
    row_tiles = readers / sharing
    rounds = row_tiles / np.clip(running * sharing / (shape.batch * shape.heads), 1, row_tiles)
    lost_between_heads, lost_between_tiles = (missed(between.astype(np.float64))
                                              for between in (shape.batch, shape.batch * shape.heads_kv))
    again = (rounds - 1) * lost_between_tiles + rounds * (sharing / heads - 1) * lost_between_heads
    return np.asarray(again / readers, dtype=np.float64)


def _heads_last(
    shape: Shape, work: ThreadBlocks, readers: Reals, running: Reals, lines: Reals, missed: Callable[[Reals], Reals]
) -> Reals:
    """The next query head that reads the same keys follows after the blocks of all sequences."""
    of_a_head = work.row_tiles.astype(np.float64)
    of_one, of_all = np.clip(running, 1, of_a_head), np.clip(running / shape.batch, of_a_head, readers)
    within = (1 / of_one - 1 / of_a_head) * missed(np.ones_like(readers))
    others = (1 / of_all - 1 / readers) * missed(shape.batch * lines)
    return np.asarray(within + others, dtype=np.float64)


def _heads_of_a_line(kernel: Kernel, shape: Shape, key_bytes: float) -> Reals:
    """Key heads that a line of L2 has rows of, where all of it is fetched for each of them."""
    if not kernel.fetches_lines:
        return np.ones(shape.batch.shape)
    return np.clip(LINE_BYTES / (np.minimum(shape.head_dim, shape.value_dim) * key_bytes), 1, shape.heads_kv)


def _missed(
    device: Device, kernel: Kernel, shape: Shape, tiles: BlockTiles, key_bytes: float, between: Reals
) -> Reals:
    """Share of later rounds that finds its keys gone, as L2 kept them or not while a whole round was walked over.

    A round walks over what its blocks do: under a causal mask as evenly distributed between those of the first query
    and of the last. `between`: key heads that blocks walk over from one round to the next, its own included.
    """
    each = shape.key_elements * key_bytes * between / device.l2_kept_bytes
    shortest, longest = (keys * each for keys in walked_keys(kernel, shape, tiles))
    spread, mean = longest - shortest, (longest + shortest) / 2
    evenly = (_gone_up_to(longest) - _gone_up_to(shortest)) / np.where(spread > 0, spread * mean, 1)
    return np.asarray(np.where(spread > 1e-6 * mean, evenly, 1 - share_in_l2(1.0, mean)), dtype=np.float64)


def _gone_up_to(touched: Reals) -> Reals:
    """Integral of what is gone of rounds of 0 to `touched`, both in units of L2: x (1 - share_in_l2(1, x)) dx."""
    fewest, most = 1 - UNEVEN, 1 + UNEVEN
    ramp = np.clip(touched, fewest, most)
    rising = (ramp**3 - fewest**3) / 3 - fewest * (ramp**2 - fewest**2) / 2
    return np.asarray(rising / (2 * UNEVEN) + (np.maximum(touched, most) ** 2 - most**2) / 2, dtype=np.float64)


@dataclass(frozen=True)
class StreamTiming:
    """Seconds of each unit alone, and of the whole."""

    l2_s: Reals
    dram_s: Reals
    launch_s: Reals
    total_s: Reals
    dram_read_bytes: Reals
    dram_write_bytes: Reals
    issue_s: Reals
    special_s: Reals


@dataclass(frozen=True)
class WalkedRows:
    """Rows that a kernel walks over several times, to reduce and to write: bytes of one, and threads that share it."""

    rows: Reals
    read_bytes: Reals
    write_bytes: Reals
    walks: Reals
    threads: Reals
    loaded_bytes: float = VECTOR_BYTES  # by a thread at a time

    def waited_s(self, device: Device, warm: ArrayLike) -> Reals:
        """Loads that follow one another, but the first, which every kernel waits for; walks after the first find L2.

        A thread asks for its next vector when it has the last one: as many trips as it has vectors, in as many rounds
        as SMs need for all rows.
        """
        vectors = np.ceil(self.read_bytes / (self.threads * self.loaded_bytes))
        rounds = np.maximum(self.rows * self.threads / resident_threads(device), 1)
        first_s = DRAM_LATENCY_S + (L2_LATENCY_S - DRAM_LATENCY_S) * np.asarray(warm, dtype=np.float64)
        trips_s = vectors * (first_s + (self.walks - 1) * L2_LATENCY_S)
        return np.asarray(rounds * trips_s - first_s, dtype=np.float64)

    def again_bytes(self, device: Device) -> Reals:
        """What walks after the first read from DRAM, as far as L2 has lost it.

        Between two walks over a row, all that SMs have at the time take a walk, one in so many of them the last.
        """
        running = np.minimum(self.rows, resident_threads(device) / self.threads)
        touched = running * (self.read_bytes + self.write_bytes / self.walks)
        lost = 1 - share_in_l2(device.l2_kept_bytes, touched)
        return np.asarray(self.rows * self.read_bytes * (self.walks - 1) * lost, dtype=np.float64)


def resident_threads(device: Device) -> int:
    return device.sms * threads_of_sm(device)


def threads_of_sm(device: Device) -> int:
    return SMALLER_SMS.get(device.compute_capability, 2048)


def small_kernel_s(device: Device) -> float:
    """A kernel that does next to nothing, in a CUDA graph."""
    return device.launch_s + ROUND_TRIP_S


def stream_timing(
    device: Device, constants: Constants, read_bytes: ArrayLike, write_bytes: ArrayLike, warm: ArrayLike = True,
    instructions: tuple[float, float] = (0.0, 0.0),
) -> StreamTiming:  # fmt: skip
    """One kernel that reads and writes these bytes; `warm`: its operands, or a share, are in L2 as far as they fit.

    DRAM gives what benchmarks reached, which were such kernels. `instructions`: of FP32 lanes, of special functions.
    """
    reads, writes = (np.atleast_1d(np.asarray(size, dtype=np.float64)) for size in (read_bytes, write_bytes))
    total = reads + writes
    missed = 1 - share_in_l2(device.l2_kept_bytes, total) * np.asarray(warm, dtype=np.float64)
    dram_s = total * missed / device.dram_ceiling_bytes_per_s
    l2_s = total / (constants.l2_fraction * device.l2_ceiling_bytes_per_s)
    launch_s = np.full_like(total, small_kernel_s(device))
    rates = device.sm.fp32_fma_per_clock, device.sm.special_per_clock
    issue_s, special_s = (np.full_like(total, count / (device.sms * rate * device.clock_hz))
                          for count, rate in zip(instructions, rates, strict=True))  # fmt: skip
    total_s = launch_s + np.max([dram_s, l2_s, issue_s, special_s], axis=0)
    return StreamTiming(l2_s, dram_s, launch_s, total_s, reads * missed, writes * missed, issue_s, special_s)


def waiting_s(device: Device, read_bytes: ArrayLike, element_bytes: float, loads: int) -> Reals:
    """Of kernels whose threads load one element at a time; `loads` of each, the first from DRAM, others from L2.

    Little's law: an element of every thread that an SM holds is in flight during a trip.
    """
    threads = resident_threads(device)
    trips_s = (DRAM_LATENCY_S + L2_LATENCY_S * (loads - 1)) * TRIP_CLOCK_HZ / device.clock_hz
    return np.asarray(np.asarray(read_bytes) / (threads * element_bytes) * trips_s, dtype=np.float64)


def copy_timing(
    device: Device, constants: Constants, read_bytes: ArrayLike, write_bytes: ArrayLike, warm: bool = True,
    instructions: tuple[float, float] = (0.0, 0.0),
) -> StreamTiming:  # fmt: skip
    """One kernel that copies rows by index: reads and writes take turns, and an SM keeps little in flight."""
    timing = stream_timing(device, constants, read_bytes, write_bytes, warm, instructions)
    moved = np.atleast_1d(np.asarray(read_bytes, dtype=np.float64) + np.asarray(write_bytes, dtype=np.float64))
    sms_s = moved / (device.sms * device.clock_hz * constants.copied_bytes_per_clock)
    dram_s = timing.dram_s / dram_share(timing.dram_read_bytes, timing.dram_write_bytes)
    total_s = timing.launch_s + np.max([dram_s, timing.l2_s, sms_s, timing.issue_s, timing.special_s], axis=0)
    return replace(timing, dram_s=dram_s, total_s=total_s)


def copy_seconds(device: Device, constants: Constants, read_bytes: ArrayLike, write_bytes: ArrayLike) -> Reals:
    return copy_timing(device, constants, read_bytes, write_bytes).total_s


def token_copy_seconds(device: Device, tokens: Reals, elements: Reals, moved_bytes: Reals) -> Reals:
    """A kernel whose blocks copy a token each, its threads an element of the key and of the value at a time.

    vLLM, csrc/cache_kernels.cu, reshape_and_cache_flash: up to 512 threads, which load the token's place in the cache
    first. Little's law: every trip to DRAM waits for the one before. `elements`: of the keys of a token.
    """
    threads = np.clip(-(-elements // WARP) * WARP, WARP, MOST_COPYING_THREADS)
    resident = device.sms * np.minimum(threads_of_sm(device) // threads, MOST_BLOCKS_PER_SM)
    trips_s = DRAM_LATENCY_S * (1 + np.ceil(elements / threads))
    waited_s = np.ceil(tokens / resident) * trips_s
    dram_s = moved_bytes * (1 - share_in_l2(device.l2_kept_bytes, moved_bytes)) / device.dram_ceiling_bytes_per_s
    return np.asarray(small_kernel_s(device) + np.maximum(waited_s, dram_s), dtype=np.float64)


def dram_seconds(device: Device, constants: Constants, moved_bytes: Reals, counted_s: float = 0.0) -> Reals:
    """(shapes) float64: a transfer reaches half of the peak while it is short, and all of it later.

    Until as much is in flight as DRAM can answer (Little's law), up to `dram_ramp_s` is lost, of which a transfer as
    long as that has lost a half. `counted_s`: what of it the caller has elsewhere.
    """
    peak = constants.dram_fraction * device.dram_ceiling_bytes_per_s
    least_s = moved_bytes / peak
    lost_s = constants.dram_ramp_s * least_s / np.maximum(constants.dram_ramp_s + least_s, 1e-12)
    return np.asarray(least_s + np.maximum(lost_s - counted_s, 0.0), dtype=np.float64)


def dram_share(read_bytes: Reals, write_bytes: Reals) -> Reals:
    """Share of the bandwidth of reads alone: turning round costs most where reads and writes balance."""
    mixed = 2 * np.minimum(read_bytes, write_bytes) / np.maximum(read_bytes + write_bytes, 1.0)
    return np.asarray(1 - TURNAROUND * mixed, dtype=np.float64)


def stream_seconds(
    device: Device, constants: Constants, read_bytes: ArrayLike, write_bytes: ArrayLike, warm: ArrayLike = True
) -> Reals:
    return stream_timing(device, constants, read_bytes, write_bytes, warm).total_s
