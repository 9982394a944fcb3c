"""Plans of attention, products and element-wise work on a GPU: the vectorised timing with arrays of one, as a Plan.

A plan's activities say how long each unit would need alone; `analytical_cycles` is what the schedule makes of them, and
the programs (`attention_pipeline`, `product_pipeline`) are one SM for the cycle level.
No energy: no source here gives any. The lines of the mapping say which kernel, tiles, waves and what would help.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from math import prod

import numpy as np

from cascadesim.accelerators.cycle_range import queueing
from cascadesim.accelerators.gpu.attention_pipeline import attention_program
from cascadesim.accelerators.gpu.calibration import constants
from cascadesim.accelerators.gpu.collective import ring_lines, ring_program, ring_timing
from cascadesim.accelerators.gpu.einsums import Share, shares
from cascadesim.accelerators.gpu.elementwise import StreamTiming, stream_timing
from cascadesim.accelerators.gpu.explain import attention_lines, product_lines, stream_lines
from cascadesim.accelerators.gpu.gemm import GemmTiming, choice_of, gemm_timing
from cascadesim.accelerators.gpu.kernel import Kernel, choose_kernel, load_kernel
from cascadesim.accelerators.gpu.kernel import Phase as KernelPhase
from cascadesim.accelerators.gpu.operand_types import Operands, with_cache
from cascadesim.accelerators.gpu.product_pipeline import product_program, stream_program
from cascadesim.accelerators.gpu.shape import Shape, shape
from cascadesim.accelerators.gpu.spec import DTYPE_BYTES, Device, Dtype
from cascadesim.accelerators.gpu.timing import Case, Timing, attention_timing, case_of
from cascadesim.accelerators.gpu.work import tiles_of
from cascadesim.accelerators.program import Program
from cascadesim.accelerators.protocol import Accounting, EinsumActivity, Phase, Plan, Traffic
from cascadesim.einsum_cascades.errors import CascadeSimError
from cascadesim.einsum_cascades.masks import KeyInterval
from cascadesim.einsum_cascades.operation import Operation
from cascadesim.einsum_cascades.passes import passes

UNFUSED = "unfused-pytorch"


def plan_attention(operation: Operation, device: Device, accounting: Accounting) -> Plan:
    """Raises CascadeSimError where the kernel does not run on the device or takes no such head dimension."""
    _refuse_artifact(accounting)
    size = dict(operation.extents)
    kernel = kernel_of(operation, device)
    cold = operation.extent("p") == 1  # a cache of the step before: all other layers ran since
    case = case_of(device, kernel, constants(device.generation), shape_of(operation, kernel, device),
                   device.type_of("attention"), _cache_type(operation, device), cold)  # fmt: skip
    timing = attention_timing(case)
    cycles = float(timing.total_s[0]) * device.clock_hz
    traffic = Traffic(float(timing.movement.dram_read_bytes[0]), float(timing.movement.dram_write_bytes[0]))
    parts = shares(operation, int(case.tiles.keys[0]))
    activities = (*_attention_activities(case, timing, parts), *_memory(operation.name, timing, device))
    name = f"attention of {size['h']} heads"
    lines = attention_lines(case, timing, str(operation.mask), isinstance(operation.mask, KeyInterval))
    phase = _calibrated(name, activities, traffic, cycles, partial(attention_program, case, timing))
    types = with_cache(device.type_of("attention"), case.kv_dtype)
    return Plan(operation, accounting, lines, (phase,), None, kernel=kernel.name, types=types)


def _calibrated(
    name: str, activities: tuple[EinsumActivity, ...], traffic: Traffic, cycles: float, program: Callable[[], Program]
) -> Phase:
    """Its closed form is fitted to measurements, and so no bound of the cycle level."""
    return Phase(name, activities, traffic, cycles, program, stated=lambda: queueing(program()))


def kernel_of(operation: Operation, device: Device) -> Kernel:
    """A cascade of several passes over the keys stores its scores, so it takes the unfused kernels."""
    if device.kernel == "auto" and passes(operation.cascade, "m") > 1:
        return load_kernel(UNFUSED)
    group = operation.extent("g")
    types = device.type_of("attention"), _cache_type(operation, device)
    return choose_kernel(device, _phase(operation), operation.extent("e"), types[0], group, cache=types[1])


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


def shape_of(operation: Operation, kernel: Kernel, device: Device) -> Shape:
    """Masks that are no causal interval are walked as spans of tiles, counted by the mask itself."""
    size, mask = dict(operation.extents), operation.mask
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
    name, macs = operation.cascade.einsums[-1].name, rows * depth * outputs * copies
    cycles = _cycles(timing.tensor_s, device)
    rate = device.sms * device.flop_per_clock_sm(operands.product) / 2
    products = EinsumActivity(name, "tensor", cycles, {"mac": macs}, min(1.0, macs / (max(cycles, 1) * rate)))
    traffic = Traffic(float(timing.dram_read_bytes[0]), float(timing.dram_write_bytes[0]))
    sizes = (rows, outputs, depth, copies)
    choice = choice_of(timing, operands.product, sizes)
    program = partial(product_program, device, known, operands.product, choice, timing, name)
    activities = (products, *_memory(name, timing, device))
    phase = _calibrated(name, activities, traffic, float(timing.total_s[0]) * device.clock_hz, program)
    lines = product_lines(device, known, timing, sizes)
    return Plan(operation, accounting, lines, (phase,), None, types=operands.named)


def plan_elementwise(operation: Operation, device: Device, accounting: Accounting) -> Plan:
    """assumed: one kernel that reads its inputs and writes its outputs once; rows fit the registers of a block."""
    _refuse_artifact(accounting)
    cascade = operation.cascade
    reads, writes = (_bytes(operation, names, device) for names in (cascade.inputs, cascade.outputs))
    known = constants(device.generation)
    timing = stream_timing(device, known, reads, writes)
    traffic = Traffic(float(timing.dram_read_bytes[0]), float(timing.dram_write_bytes[0]))
    cycles = float(timing.total_s[0]) * device.clock_hz
    program = partial(stream_program, device, timing, reads + writes)
    phase = _calibrated(operation.name, tuple(_memory(operation.name, timing, device)), traffic, cycles, program)
    return Plan(operation, accounting, stream_lines(device, known, timing, reads, writes), (phase,), None)


def plan_collective(operation: Operation, device: Device, accounting: Accounting) -> Plan:
    """assumed: what is sent and added passes by L2 meanwhile, and asks nothing of DRAM."""
    _refuse_artifact(accounting)
    elements, count = operation.extent("r") * operation.extent("d"), device.parallel.tensor
    timing, name = ring_timing(device, elements), operation.cascade.einsums[-1].name
    sums = {"add": elements * (count - 1) // count}
    activities = (
        EinsumActivity(name, "link", int(timing.link_s * device.clock_hz), sums),
        EinsumActivity(name, "launch", int(timing.launch_s * device.clock_hz)),
    )
    program = partial(ring_program, device, timing)
    phase = _calibrated(operation.name, activities, Traffic(), timing.total_s * device.clock_hz, program)
    return Plan(operation, accounting, ring_lines(device, timing, elements), (phase,), None)


def _bytes(operation: Operation, tensors: Iterable[str], device: Device) -> float:
    accesses = [access for einsum in operation.cascade.einsums for access in (einsum.output, *einsum.inputs)]
    ranks = {access.tensor: access.ranks for access in accesses}
    width = DTYPE_BYTES[device.type_of("activations")]
    return sum(prod(operation.extent(rank) for rank in ranks[tensor]) for tensor in tensors) * width


def _attention_activities(case: Case, timing: Timing, parts: tuple[Share, ...]) -> Iterator[EinsumActivity]:
    """Each unit's time goes to its Einsums in proportion to their points."""
    device = case.device
    peak = {
        "tensor": device.sms * device.flop_per_clock_sm(case.dtype) / 2,
        "special": float(device.sms * device.sm.special_per_clock),
        "issue": float(device.sms * 128),
    }
    spent = {"tensor": timing.tensor_s, "special": timing.special_s, "issue": timing.issue_s}
    totals = {unit: sum(part.points for part in parts if part.unit == unit) for unit in spent}
    for part in parts:
        cycles = int(float(spent[part.unit][0]) * device.clock_hz * part.points / totals[part.unit])
        operations = {name: count * part.points for name, count in part.operations.items()}
        useful = min(1.0, part.points / (max(cycles, 1) * peak[part.unit]))
        yield EinsumActivity(part.name, part.unit, cycles, operations, useful)


def _memory(name: str, timing: Timing | GemmTiming | StreamTiming, device: Device) -> Iterator[EinsumActivity]:
    for unit, seconds in (("l2", timing.l2_s), ("dram", timing.dram_s), ("launch", timing.launch_s)):
        yield EinsumActivity(name, unit, _cycles(seconds, device))


def _cycles(seconds: object, device: Device) -> int:
    """Whole cycles, rounded down: never more than the closed form."""
    return int(float(np.asarray(seconds)[0]) * device.clock_hz)


def _refuse_artifact(accounting: Accounting) -> None:
    if accounting == "artifact":
        raise CascadeSimError("GPUs have no artifact accounting; use --accounting physical")
