"""Plans of attention, products and element-wise work on a GPU: the vectorised timing with arrays of one, as a Plan.

A plan's activities say how long each unit would need alone; `analytical_cycles` is what the schedule makes of them, and
the programs (`attention_pipeline`, `product_pipeline`) are one SM for the cycle level.
No energy: no source here gives any. The lines of the mapping say which kernel, tiles, waves and what would help.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np

from cascadesim.accelerators.gpu.attention_pipeline import attention_program
from cascadesim.accelerators.gpu.binding import ISSUE, SPECIAL, TENSOR, Share, activities, instructions, shares
from cascadesim.accelerators.gpu.calibration import constants
from cascadesim.accelerators.gpu.collective import ring_lines, ring_program, ring_timing
from cascadesim.accelerators.gpu.elementwise import StreamTiming, stream_timing
from cascadesim.accelerators.gpu.explain import (
    attention_lines,
    attention_notes,
    norm_notes,
    product_lines,
    stream_lines,
)
from cascadesim.accelerators.gpu.gemm import GemmTiming, choice_of, gemm_timing
from cascadesim.accelerators.gpu.grid import tiles_of
from cascadesim.accelerators.gpu.kernel import Asked, Kernel, choose_kernel
from cascadesim.accelerators.gpu.kernel import Phase as KernelPhase
from cascadesim.accelerators.gpu.operand_types import Operands, with_cache
from cascadesim.accelerators.gpu.product_pipeline import product_program, stream_program
from cascadesim.accelerators.gpu.shape import Shape, shape
from cascadesim.accelerators.gpu.spec import DTYPE_BYTES, Device, Dtype
from cascadesim.accelerators.gpu.stored import (
    attention_bytes,
    attention_widths,
    product_bytes,
    product_widths,
    resident_lines,
)
from cascadesim.accelerators.gpu.texts import kernel_text, key_tiles
from cascadesim.accelerators.gpu.timing import Timing, attention_timing, case_of
from cascadesim.accelerators.protocol import Accounting, EinsumActivity, Phase, Plan, Traffic
from cascadesim.einsum_cascades.models.operation import Operation, least_elements, mask_of
from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.einsum_cascades.sparsity.masks import KeyInterval, Mask


def plan_attention(operation: Operation, device: Device, accounting: Accounting) -> Plan:
    """Raises CascadeSimError for a text that no kernel computes, where its kernel does not run on the device or takes
    no such head dimension."""
    _refuse_artifact(accounting)
    kernel, mask = kernel_of(operation, device), mask_of(operation)
    cold = operation.extent("p") == 1  # a cache of the step before: all other layers ran since
    case = case_of(device, kernel, constants(device.generation), shape_of(operation, mask, kernel, device),
                   device.type_of("attention"), _cache_type(operation, device), cold)  # fmt: skip
    timing = attention_timing(case)
    cycles = float(timing.total_s[0]) * device.clock_hz
    traffic = Traffic(float(timing.movement.dram_read_bytes[0]), float(timing.movement.dram_write_bytes[0]))
    splits = {rank.upper(): int(case.tiles.keys[0]) for rank in key_tiles(operation.cascade)[1:]}
    busy = {unit: float(getattr(timing, f"{unit}_s")[0]) * device.clock_hz for unit in (TENSOR, SPECIAL, ISSUE)}
    parts = shares(operation, splits, float(case.tiles.emulated[0]))
    spent = (*activities(parts, busy, device.peaks(case.dtype)), *_memory(operation.name, timing, device))
    stored = attention_bytes(operation, splits, case, timing.movement)
    lines = (*attention_lines(case, timing, str(mask), isinstance(mask, KeyInterval), splits),
             *resident_lines(stored, attention_widths(operation, case)))  # fmt: skip
    phase = Phase(f"attention of {operation.extent('h')} heads", spent, traffic, cycles,
                        partial(attention_program, case, timing))  # fmt: skip
    return Plan(operation, accounting, lines, (phase,), None, splits, stored, attention_notes(case), kernel.name,
                with_cache(device.type_of("attention"), case.kv_dtype))  # fmt: skip


def kernel_of(operation: Operation, device: Device) -> Kernel:
    """The kernel that computes the operation's text there. Raises CascadeSimError for a text that none computes."""
    asked = Asked(_phase(operation), operation.extent("e"), device.type_of("attention"), operation.extent("g"),
                  kernel_text(operation.cascade) == "unfused", _cache_type(operation, device))  # fmt: skip
    return choose_kernel(device, asked)


def _cache_type(operation: Operation, device: Device) -> Dtype:
    """Of keys and values: the cache's, where they come from there; a prompt's are multiplied as they are made."""
    return device.type_of("kv" if operation.operand == "kv" else "attention")


def _phase(operation: Operation) -> KernelPhase:
    if _is_absorbed(operation):
        return "mla"
    return "decode" if operation.extent("p") == 1 else "prefill"


def _is_absorbed(operation: Operation) -> bool:
    """All heads share one latent key whose first elements are the value."""
    size = dict(operation.extents)
    return size["g"] == size["h"] > 1 and size["f"] < size["e"] and size["p"] == 1 and size["f"] >= 256


def shape_of(operation: Operation, mask: Mask, kernel: Kernel, device: Device) -> Shape:
    """Masks that are no causal interval are walked as spans of tiles, counted by the mask itself."""
    size = dict(operation.extents)
    interval = isinstance(mask, KeyInterval) and mask.chunk is None
    causal = isinstance(mask, KeyInterval) and mask.causal
    window = mask.window or 0 if isinstance(mask, KeyInterval) else 0
    sizes = (size["b"], size["h"], size["h"] // size["g"], size["p"], size["m"], size["e"], size["f"])
    plain = shape(*sizes, causal if interval else False, window if interval else 0,
                  shared_key_value=_is_absorbed(operation))  # fmt: skip
    if interval:
        return plain
    tiles = tiles_of(kernel, device, plain, DTYPE_BYTES[device.type_of("attention")])
    query_tile, key_tile = int(tiles.queries[0]), int(tiles.keys[0])
    first, last = mask.key_tiles(size["p"], size["m"], query_tile, key_tile)
    visited = float(np.maximum(last - first + 1, 0).mean()) * key_tile
    return shape(*sizes, False, 0, visited)


def plan_linear(operation: Operation, device: Device, accounting: Accounting) -> Plan:
    _refuse_artifact(accounting)
    rows, depth, outputs, copies = (operation.extent(rank) for rank in ("r", "k", "n", "x"))
    known = constants(device.generation)
    operands = Operands(device.type_of("activations"), device.type_of(operation.operand))
    timing = gemm_timing(device, known, rows, outputs, depth, copies, operands.product, operands=operands)
    name, sizes = operation.cascade.einsums[-1].name, (rows, outputs, depth, copies)
    products = activities(shares(operation, {}), {TENSOR: float(timing.tensor_s[0]) * device.clock_hz},
                          device.peaks(operands.product))  # fmt: skip
    traffic = Traffic(float(timing.dram_read_bytes[0]), float(timing.dram_write_bytes[0]))
    choice = choice_of(timing, operands.product, sizes)
    program = partial(product_program, device, known, operands.product, choice, timing, name)
    spent = (*products, *_memory(name, timing, device))
    phase = Phase(name, spent, traffic, float(timing.total_s[0]) * device.clock_hz, program)
    stored = product_bytes(operation, timing)
    lines = (*product_lines(device, known, timing, sizes), *resident_lines(stored, product_widths(operation, operands)))
    return Plan(operation, accounting, lines, (phase,), None, {}, stored, types=operands.named)


def plan_elementwise(operation: Operation, device: Device, accounting: Accounting) -> Plan:
    """assumed: one kernel that reads its inputs and writes its outputs once; rows fit the registers of a block."""
    _refuse_artifact(accounting)
    width, parts = DTYPE_BYTES[device.type_of("activations")], shares(operation, {})
    cascade = operation.cascade
    elements = least_elements(operation)
    reads, writes = (width * sum(elements[name] for name in names) for names in (cascade.inputs, cascade.outputs))
    known = constants(device.generation)
    timing = stream_timing(device, known, reads, writes, instructions=instructions(parts))
    traffic = Traffic(float(timing.dram_read_bytes[0]), float(timing.dram_write_bytes[0]))
    cycles = float(timing.total_s[0]) * device.clock_hz
    busy = {unit: float(getattr(timing, f"{unit}_s")[0]) * device.clock_hz for unit in (SPECIAL, ISSUE)}
    spent = (*activities(parts, busy, device.peaks("fp32")), *_memory(operation.name, timing, device))
    program = partial(stream_program, device, timing, reads + writes)
    phase = Phase(operation.name, spent, traffic, cycles, program)
    missed = traffic.total_bytes / (reads + writes)
    stored = dict.fromkeys((*cascade.inputs, *cascade.outputs), width * missed)
    lines = (*stream_lines(device, known, timing, reads, writes, instructions(parts)),
             *resident_lines(stored, dict.fromkeys(stored, width)))  # fmt: skip
    return Plan(operation, accounting, lines, (phase,), None, {}, stored, norm_notes(operation))


def plan_collective(operation: Operation, device: Device, accounting: Accounting) -> Plan:
    """assumed: what is sent and added passes by L2 meanwhile, and asks nothing of DRAM."""
    _refuse_artifact(accounting)
    elements, count = operation.extent("r") * operation.extent("d"), device.parallel.tensor
    timing, name = ring_timing(device, elements), operation.cascade.einsums[-1].name
    sums = Share(name, ISSUE, {"add": max(elements * (count - 1) // count, 1)})
    lanes = device.peaks("fp32")
    spent = (
        EinsumActivity(name, "link", int(timing.link_s * device.clock_hz)),
        EinsumActivity(name, "launch", int(timing.launch_s * device.clock_hz)),
        *activities((sums,), {ISSUE: sums.total / lanes[ISSUE]}, lanes),
    )
    program = partial(ring_program, device, timing)
    phase = Phase(operation.name, spent, Traffic(), timing.total_s * device.clock_hz, program)
    return Plan(operation, accounting, ring_lines(device, timing, elements), (phase,), None)


def _memory(name: str, timing: Timing | GemmTiming | StreamTiming, device: Device) -> Iterator[EinsumActivity]:
    for unit, seconds in (("l2", timing.l2_s), ("dram", timing.dram_s), ("launch", timing.launch_s)):
        yield EinsumActivity(name, unit, _cycles(seconds, device))


def _cycles(seconds: object, device: Device) -> int:
    """Whole cycles, rounded down: never more than the closed form."""
    return int(float(np.asarray(seconds)[0]) * device.clock_hz)


def _refuse_artifact(accounting: Accounting) -> None:
    if accounting == "artifact":
        raise CascadeSimError("GPUs have no artifact accounting; use --accounting physical")
