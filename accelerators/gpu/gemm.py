"""Dense products of matrices: the tile a library would choose, waves of thread blocks, L2 and DRAM.

Z[rows,outputs] = A[rows,depth] W[depth,outputs]. Closed form over arrays; the fastest of a list of tiles is taken, as
cuBLAS and CUTLASS heuristics try to. Weights come from DRAM, activations from L2 where they fit, unless the caller says
what L2 has. Knows sizes and types; knows no cascade.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from math import ceil
from operator import mul

import numpy as np
from numpy.typing import ArrayLike

from cascadesim.accelerators.gpu.attention.walk import IntegerArray
from cascadesim.accelerators.gpu.calibration import Constants
from cascadesim.accelerators.gpu.engines.engine import GemmLibrary
from cascadesim.accelerators.gpu.engines.library_tiles import FINE_TILES, FIXED_TILES, TILES, XMMA_TILES
from cascadesim.accelerators.gpu.grid import Reals
from cascadesim.accelerators.gpu.memory import ROUND_TRIP_S, dram_seconds, dram_share, share_in_l2, small_kernel_s
from cascadesim.accelerators.gpu.spec import DTYPE_BYTES, Device, Dtype, Generation, OperandTypes

SPLITS = (1, 2, 3, 4, 6, 8, 12, 16)  # blocks that share the depth of an output tile; 8-bit products do not split it
CLUSTERED = ("hopper", "blackwell")  # TMA multicast: two blocks of a cluster share the larger operand (CUTLASS 2x1x1)
# tcgen05 on two SMs (PTX ISA, cta_group::2): each loads its own operand and a half of what the pair shares. Names of
# cuBLAS's kernels say as much: 128x256_64x6_2x1_2cta has six stages where 128x256_64x4_1x2 has four; two pairs of a
# cluster (2x2_2cta) share the other operand, too
PAIRED = ("blackwell",)
FEWEST_ROWS: Mapping[Generation, int] = {"hopper": 64, "blackwell": 128}  # at full rate: of wgmma, of tcgen05 on one SM
# tcgen05 accumulates in tensor memory, which holds two tiles: the next one begins while results are stored (CUTLASS,
# Blackwell tutorial); elsewhere a block's first loads wait for the last stores of the one before
LOADS_AHEAD = ("blackwell",)
L2_PORT_BYTES_PER_CLOCK = 64.0  # of one SM (CUDA microbenchmarks: 64 B/clk on V100 to H100)
# assumed: threads of FP32 kernels write words of different lines, a line in two clocks: with 2.0, calibration rows of
# P4, P100 and V100 are off by 6 to 10 %, with 1.5 or 2.5 by 8 to 24 %; those of H100 bear out no such limit
SCATTERED_BYTES_PER_CLOCK = 2.0
WHOLE_LINES = ("hopper", "blackwell")
# mma.sync leaves pairs of results to a thread: a store of a warp touches eight lines, 16 bytes of each. assumed: a line
# in a clock; calibration rows suit 12 to 24 bytes
PAIRED_BYTES_PER_CLOCK = 16.0
# mma.sync reads operands from registers, for 16 rows at a time; wgmma and tcgen05 have them in shared memory, for 64
# and 128 rows. assumed: what a board may draw holds down the clock of the first alone, and voltage follows the clock:
# calibration rows of L40S are slower the longer they take, those of A100 and A40 are not
POWER_LIMITED = ("volta", "turing", "ampere", "ada", "blackwell-consumer")
# assumed: a call that takes as long is timed half at the clock that power allows: collectors repeat a product 72 times,
# warming up included, and limits act on means over tens of milliseconds; 0.2 to 1 ms suit calibration rows
POWER_S = 0.5e-3
# assumed: 1 would add what runs at once, infinity take the longest; calibration rows suit 4 to 6
ORDER = 5
AT_ONCE = 128  # products whose options are timed together: their arrays stay in the caches
STEP, FP32_STEP = 64, 8  # of the depth; blocks work in whole ones. CUTLASS: 64 of tensor cores, 8 of FP32 units (SIMT)
NARROWEST_OUTPUT_BYTES = 2  # results of 8-bit products are 16-bit
PARTIAL_BYTES = 4


@dataclass(frozen=True)
class GemmTiming:
    """Seconds of each unit alone, and of the whole; the tile that was chosen."""

    tensor_s: Reals
    l2_s: Reals
    dram_s: Reals
    launch_s: Reals
    total_s: Reals
    slowed: Reals  # how many times as long blocks take as at the full clock
    dram_read_bytes: Reals
    dram_write_bytes: Reals
    options: TileOptions  # one of each product
    operands: OperandTypes


@dataclass(frozen=True)
class InL2:
    """Shares of what a product touches that L2 has when it starts: rows and results, weights."""

    rows: Reals
    results: Reals
    weights: Reals


@dataclass(frozen=True)
class GemmSizes:
    """Sizes as arrays of one size."""

    rows: Reals
    outputs: Reals
    depth: Reals
    copies: Reals
    element_bytes: float  # of the type that is multiplied
    row_bytes: float
    weight_bytes: float
    in_l2: InL2 | None = None

    def part(self, which: slice) -> GemmSizes:
        """Some of the products."""
        sizes = {name: getattr(self, name)[which] for name in ("rows", "outputs", "depth", "copies")}
        kept = self.in_l2 and InL2(*(share[which] for share in vars(self.in_l2).values()))
        return replace(self, **sizes, in_l2=kept)


@dataclass(frozen=True)
class TileOptions:
    """Tiles and splits to choose from, one a line of arrays with a column a product."""

    rows: Reals
    outputs: Reals
    splits: Reals
    share_rows: Reals  # blocks of a cluster that load their rows together
    share_outputs: Reals

    def picked(self, choice: IntegerArray) -> TileOptions:
        """The chosen line of each column."""
        return TileOptions(*(np.take_along_axis(values, choice[None], 0)[0] for values in vars(self).values()))


@dataclass(frozen=True)
class TileChoice:
    """What one product takes: its tile and sizes (arrays of one), blocks, and the depth of each in whole steps."""

    options: TileOptions
    rows: Reals
    outputs: Reals
    blocks: int
    depth: int

    @property
    def splits(self) -> int:
        return int(self.options.splits[0])

    @property
    def tile(self) -> tuple[int, int]:
        return int(self.options.rows[0]), int(self.options.outputs[0])


def choice_of(timing: GemmTiming, sizes: tuple[int, int, int, int]) -> TileChoice:
    """The tile of the first product of `timing`; sizes: rows, outputs, depth, copies."""
    (rows, outputs, depth, copies), step = sizes, depth_step(timing.operands.product)
    options = TileOptions(*(values[:1] for values in vars(timing.options).values()))
    asked, wanted = (np.array([size], dtype=np.float64) for size in (rows, outputs))
    splits = int(options.splits[0])
    blocks = copies * splits * int(_tiles(options, asked, wanted)[0])
    return TileChoice(options, asked, wanted, blocks, step * ceil(depth / splits / step))


def gemm_timing(
    device: Device, constants: Constants, rows: ArrayLike, outputs: ArrayLike, depth: ArrayLike, copies: ArrayLike,
    dtype: Dtype, library: GemmLibrary = "best", operands: OperandTypes | None = None, in_l2: InL2 | None = None,
) -> GemmTiming:  # fmt: skip
    """`dtype`: of the products; `library`: whose choice of tiles; `best` takes the fastest.

    `operands`: the types in which they are stored, where these differ. `in_l2`: what L2 has; None: the rows of the
    operation before as they fit, no weights.
    """
    stored = operands or OperandTypes(dtype, dtype)
    sizes = [np.atleast_1d(np.asarray(size, dtype=np.float64)) for size in (rows, outputs, depth, copies)]
    first, second, third, fourth = np.broadcast_arrays(*sizes)
    multiplied, of_rows, of_weights = (DTYPE_BYTES[kind] for kind in (dtype, stored.rows, stored.second))
    product = GemmSizes(first, second, third, fourth, multiplied, of_rows, of_weights, in_l2)
    parts = [_chosen(device, constants, product.part(slice(start, start + AT_ONCE)), dtype, library, stored)
             for start in range(0, max(len(first), 1), AT_ONCE)]  # fmt: skip
    return parts[0] if len(parts) == 1 else _joined(parts)


def _joined(parts: Sequence[GemmTiming]) -> GemmTiming:
    """The products of all parts, in their order."""
    options = zip(*(vars(part.options).values() for part in parts), strict=True)
    figures = {name: np.concatenate([vars(part)[name] for part in parts]) for name in vars(parts[0])
               if name not in ("options", "operands")}  # fmt: skip
    return GemmTiming(**figures, options=TileOptions(*map(np.concatenate, options)), operands=parts[0].operands)


def _chosen(
    device: Device, constants: Constants, product: GemmSizes, dtype: Dtype, library: GemmLibrary, stored: OperandTypes
) -> GemmTiming:
    """The tile of each product that takes least, or that the library takes."""
    options = _options(device, product, library)
    timed = _timed(device, constants, product, dtype, options, stored)
    choice = np.asarray(np.argmin(timed["total_s"], axis=0), dtype=np.int64)
    picked = {name: np.take_along_axis(values, choice[None], 0)[0] for name, values in timed.items()}
    return GemmTiming(**picked, options=options.picked(choice), operands=stored)


def _options(device: Device, product: GemmSizes, library: GemmLibrary) -> TileOptions:
    """Every tile and split (lines), or the one tile that the library takes, of every product (columns)."""
    fixed = FIXED_TILES.get((library, device.generation))
    if fixed is not None and product.element_bytes < 2:
        holds = [(product.rows <= one.most_rows) & (product.outputs <= one.most_outputs) for one in fixed]
        columns = np.array([(*one.tile, 1, one.share_rows, one.share_outputs) for one in fixed], dtype=np.float64)
        return TileOptions(*columns[np.argmax(holds, axis=0)].T[:, None])
    clustered = device.generation in CLUSTERED
    tiles, known = _choices(device, product, library)
    every = np.array([(*tile, splits) for tile in tiles for splits in known], dtype=np.float64)
    rows, outputs, splits = (np.repeat(column[:, None], len(product.rows), axis=1) for column in every.T)
    # the larger operand of a tile is shared, where there is a second tile to share it with
    larger = rows >= outputs
    shares = [((product.outputs > outputs) & larger, (product.rows > rows) & ~larger)]
    if device.generation in PAIRED:  # none or both, whichever is faster: whole clusters may reach beyond the product
        shares = [(np.zeros_like(larger),) * 2, (np.ones_like(larger),) * 2]
    shared = (np.where(np.concatenate(one) & clustered, 2.0, 1.0) for one in zip(*shares, strict=True))
    return TileOptions(*(np.concatenate([one] * len(shares)) for one in (rows, outputs, splits)), *shared)


def _choices(
    device: Device, product: GemmSizes, library: GemmLibrary
) -> tuple[Sequence[tuple[int, int]], Sequence[int]]:
    """Tiles and splits that the library has."""
    if library == "cublas-12.1" and device.generation == "hopper":
        return XMMA_TILES, SPLITS[:1]
    fine = product.element_bytes <= 2 and device.generation in CLUSTERED
    return FINE_TILES if fine else TILES, SPLITS if product.element_bytes >= 2 else SPLITS[:1]


def _timed(
    device: Device, constants: Constants, product: GemmSizes, dtype: Dtype, options: TileOptions, operands: OperandTypes
) -> dict[str, Reals]:
    """Every option (lines) of every product (columns)."""
    splits = options.splits
    blocks = product.copies * _tiles(options, product.rows, product.outputs) * splits
    step = depth_step(dtype)
    depth = np.ceil(product.depth / splits / step) * step
    loaded = loaded_bytes(operands, options, product.rows, product.outputs)
    arriving = loaded_bytes(operands, arriving_tiles(device, options), product.rows, product.outputs)
    cycles = np.maximum(products_cycles(device, constants, dtype, options), arriving / L2_PORT_BYTES_PER_CLOCK)
    products, stored = depth * cycles, stored_cycles(device, dtype, options)
    # nothing multiplies while results are stored, but on FP32 units: a second block fits beside the first
    block_cycles = np.maximum(products, stored) if on_fp32_units(dtype) else products + stored
    block_s = block_cycles / device.clock_hz
    partial = product.rows * product.outputs * product.copies * PARTIAL_BYTES * np.where(splits > 1, splits, 0)
    l2_s = (blocks * depth * loaded + 2 * partial) / (constants.l2_fraction * device.l2_ceiling_bytes_per_s)
    reads, writes = _dram_bytes(device, product, options)
    # a transfer loses the trips of its first load and its last store, too, which the launch has
    dram_s = dram_seconds(device, constants, (reads + writes) / dram_share(reads, writes), ROUND_TRIP_S)
    waves = np.ceil(blocks / device.sms)
    turn_s = 0.0 if device.generation in LOADS_AHEAD else ROUND_TRIP_S
    busy = blocks * products / (waves * device.sms * block_cycles)
    slowed = 1.0 if on_fp32_units(dtype) else slowed_by(device, constants, busy, waves * block_s)
    schedule_s = waves * block_s * slowed + (waves - 1) * turn_s
    launch_s = small_kernel_s(device) * np.where(splits > 1, 2.0, 1.0)  # a second kernel sums (cuBLAS: splitKreduce)
    total_s = launch_s + _together(schedule_s, l2_s, dram_s)  # stages of loads run ahead of the products
    return {
        "tensor_s": blocks * block_s / device.sms, "l2_s": l2_s, "dram_s": dram_s,
        "launch_s": launch_s, "total_s": total_s, "slowed": np.broadcast_to(slowed, total_s.shape),
        "dram_read_bytes": reads, "dram_write_bytes": np.broadcast_to(writes, total_s.shape),
    }  # fmt: skip


def slowed_by(device: Device, constants: Constants, busy: Reals, full_clock_s: Reals) -> Reals:
    """How many times as long blocks take as at the full clock, for the power that the board is allowed.

    At a clock f tensor cores draw as its cube: rate times energy, which goes with the square of the voltage. `busy`:
    the share of them that multiply, on average; `full_clock_s`: how long all blocks take, the longer the more of it.
    """
    allowed_w = device.datasheet.power_w
    if device.generation not in POWER_LIMITED or allowed_w is None:
        return np.ones_like(full_clock_s)
    operations_per_s = busy * device.sms * device.flop_per_clock_sm("fp16") * device.clock_hz
    energy_j = 1e-12 * constants.tensor_energy_pj * (device.clock_hz / 1e9) ** 2
    most = np.maximum(operations_per_s * energy_j / allowed_w, 1.0) ** (1 / 3)
    return np.asarray(1 + (most - 1) * full_clock_s / (full_clock_s + POWER_S), dtype=np.float64)


def _together(*parts: Reals) -> Reals:
    """Seconds of what runs at once: the longest, and more where others are as long, as in attention."""
    longest = reduce(np.maximum, parts)
    shares = [part / longest for part in parts]
    return np.asarray(longest * sum(reduce(mul, [share] * ORDER) for share in shares) ** (1 / ORDER))


def _tiles(options: TileOptions, rows: Reals, outputs: Reals) -> Reals:
    """Tiles of one product, in whole clusters: blocks that share outputs lie along the rows, others along outputs."""
    along_rows = np.ceil(rows / (options.rows * options.share_outputs)) * options.share_outputs
    along_outputs = np.ceil(outputs / (options.outputs * options.share_rows)) * options.share_rows
    return np.asarray(along_rows * along_outputs, dtype=np.float64)


def loaded_bytes(
    operands: OperandTypes, options: TileOptions, product_rows: Reals, product_outputs: Reals
) -> Reals:  # fmt: skip
    """Bytes for one element of the depth that L2 gives to one block: no more rows and outputs than there are.

    What the blocks of a cluster share is given once for all of them.
    """
    rows = np.minimum(options.rows, product_rows) / options.share_rows
    outputs = np.minimum(options.outputs, product_outputs) / options.share_outputs
    return np.asarray(rows * DTYPE_BYTES[operands.rows] + outputs * DTYPE_BYTES[operands.second], dtype=np.float64)


def arriving_tiles(device: Device, options: TileOptions) -> TileOptions:
    """The tiles with what is shared as it arrives at an SM: all of it, or a half where two SMs multiply together.

    A pair of a cluster that shares both shares the larger.
    """
    paired = device.generation in PAIRED
    of_rows = (options.share_rows == 2) & ((options.share_outputs == 1) | (options.rows > options.outputs))
    rows = np.where(of_rows & paired, 2.0, 1.0)
    outputs = np.where((options.share_outputs == 2) & ~of_rows & paired, 2.0, 1.0)
    return replace(options, share_rows=rows, share_outputs=outputs)


def products_cycles(device: Device, constants: Constants, dtype: Dtype, options: TileOptions) -> Reals:
    """Cycles of one block for one element of the depth: tensor cores, or their operands from shared memory.

    Instructions need a number of rows for their full rate; either side of the tile can give them.
    """
    fewest, rows, outputs = FEWEST_ROWS.get(device.generation, 16), options.rows, options.outputs
    area = np.minimum(np.maximum(rows, fewest) * outputs, rows * np.maximum(outputs, fewest))
    fraction = constants.gemm_fraction * (constants.narrow_share if DTYPE_BYTES[dtype] < 2 else 1.0)
    tensor = 2.0 * area / (device.flop_per_clock_sm(dtype) * fraction)
    shared = (rows + outputs) * DTYPE_BYTES[dtype] / device.sm.shared_memory_bytes_per_clock
    return np.asarray(np.maximum(tensor, shared), dtype=np.float64)


def stored_cycles(device: Device, dtype: Dtype, options: TileOptions) -> Reals:
    """Cycles in which one block stores its results."""
    broken = SCATTERED_BYTES_PER_CLOCK if on_fp32_units(dtype) else PAIRED_BYTES_PER_CLOCK
    rate = L2_PORT_BYTES_PER_CLOCK if device.generation in WHOLE_LINES else broken
    return options.rows * options.outputs * output_bytes(DTYPE_BYTES[dtype]) / rate


def depth_step(dtype: Dtype) -> int:
    """Blocks work in whole steps of the depth."""
    return FP32_STEP if on_fp32_units(dtype) else STEP


def on_fp32_units(dtype: Dtype) -> bool:
    return dtype == "fp32"


def output_bytes(element_bytes: float) -> float:
    """Bytes of one result, of products of elements of so many bytes."""
    return max(element_bytes, NARROWEST_OUTPUT_BYTES)


def _dram_bytes(device: Device, product: GemmSizes, options: TileOptions) -> tuple[Reals, Reals]:
    """Each operand once; rows again for every wave of outputs that L2 does not hold."""
    rows_bytes = product.copies * product.rows * product.depth * product.row_bytes
    weight_bytes = product.copies * product.depth * product.outputs * product.weight_bytes
    writes = product.copies * product.rows * product.outputs * output_bytes(product.element_bytes)
    kept = share_in_l2(device.l2_kept_bytes, rows_bytes + writes)
    in_l2 = product.in_l2 or InL2(kept, kept, np.zeros_like(kept))
    side = np.sqrt(device.sms * options.rows * options.outputs)  # a wave covers about a square of outputs
    again = np.clip(1 - device.l2_kept_bytes / np.minimum(rows_bytes, weight_bytes), 0, 1)
    sweeps = np.ceil(np.maximum(product.outputs, 1) / side) - 1
    repeated = again * sweeps * np.minimum(rows_bytes, weight_bytes) * 0.5
    reads = rows_bytes * (1 - in_l2.rows) + weight_bytes * (1 - in_l2.weights) + repeated
    return reads, writes * (1 - in_l2.results)
