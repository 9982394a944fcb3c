"""Plans of attention, products, element-wise work and sums over devices on a GPU: closed forms of one shape, as a Plan.

A plan's activities say how long each unit would need alone; `analytical_cycles` is what the schedule makes of them, and
`programs` holds one SM for the cycle level. Bytes of an element in DRAM are its compulsory bytes less the share that
the model of L2 keeps, whatever the traffic of the plan. The lines of the mapping say which kernel, tiles, waves and
what would help. No energy: no source here gives any.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TypeAlias

import numpy as np

from cascadesim.accelerators.gpu.attention.tile import AttentionCase, case_of
from cascadesim.accelerators.gpu.attention.walk import IntegerArray
from cascadesim.accelerators.gpu.calibration import constants
from cascadesim.accelerators.gpu.engines.collectives import fastest_sum
from cascadesim.accelerators.gpu.engines.engine import find_engine
from cascadesim.accelerators.gpu.engines.fusion import ROTARY_CACHE_NAME, after_all_reduce
from cascadesim.accelerators.gpu.explain import (
    ISSUE,
    SPECIAL,
    TENSOR,
    activities,
    attention_lines,
    attention_notes,
    instructions,
    norm_notes,
    product_lines,
    ring_lines,
    shares,
    stream_lines,
)
from cascadesim.accelerators.gpu.gemm import GemmTiming, choice_of, gemm_timing, output_bytes
from cascadesim.accelerators.gpu.grid import KeyList, Reals, Shape, shape, tiles_of
from cascadesim.accelerators.gpu.kernel import Asked, Kernel, KernelPhase, choose_kernel, kernel_text, key_tiles
from cascadesim.accelerators.gpu.memory import (
    Movement,
    StreamTiming,
    copy_timing,
    share_in_l2,
    small_kernel_s,
    stream_seconds,
    stream_timing,
)
from cascadesim.accelerators.gpu.programs import attention_program, product_program, ring_program, stream_program
from cascadesim.accelerators.gpu.spec import DTYPE_BYTES, Device, Dtype, OperandTypes, with_cache
from cascadesim.accelerators.gpu.timing import AttentionTiming, attention_timing
from cascadesim.accelerators.program import Program
from cascadesim.accelerators.protocol import EinsumActivity, ListedSeconds, Phase, Plan, Traffic
from cascadesim.einsum_cascades.analysis.bound_counts import KEY, QUERY
from cascadesim.einsum_cascades.analysis.passes import all_accesses
from cascadesim.einsum_cascades.models.operation import Operation, TiledMask, least_elements, mask_of
from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.einsum_cascades.notation.ir import Cascade
from cascadesim.einsum_cascades.sparsity.masks import KeyInterval, Mask

Timed: TypeAlias = AttentionTiming | GemmTiming | StreamTiming


def plan_attention(operation: Operation, device: Device) -> Plan:
    """Raises CascadeSimError for a text that no kernel computes, where its kernel does not run on the device or takes
    no such head dimension."""
    kernel, mask = kernel_of(operation, device), mask_of(operation)
    cold = operation.extent("p") == 1  # a cache of the step before: all other layers ran since
    case = case_of(device, kernel, constants(device.generation), shape_of(operation, mask, kernel, device),
                   device.type_of("attention"), _cache_type(operation, device), cold)  # fmt: skip
    timing = _beside(attention_timing(case), operation, device)
    splits = {rank.upper(): int(case.tiles.keys[0]) for rank in key_tiles(operation.cascade)[1:]}
    parts = shares(operation, splits, float(case.tiles.emulated[0]))
    busy = {TENSOR: timing.tensor_s, SPECIAL: timing.special_s, ISSUE: timing.issue_s}
    stored, widths = _attention_bytes(operation, splits, case, timing)
    lines = (*attention_lines(case, timing, str(mask), isinstance(mask, KeyInterval | TiledMask), splits),
             *_resident_lines(stored, widths))  # fmt: skip
    spent = (*activities(parts, _cycles(busy, device), device.peaks(case.dtype)),
             *_memory(operation.name, timing, device))  # fmt: skip
    phase = _phase(f"attention of {operation.extent('h')} heads", spent, timing, timing.movement, device,
                   partial(attention_program, case, timing))  # fmt: skip
    return Plan(operation, "physical", lines, (phase,), None, splits, stored, attention_notes(case), kernel.name,
                with_cache(device.type_of("attention"), case.kv_dtype))  # fmt: skip


def kernel_of(operation: Operation, device: Device) -> Kernel:
    """The kernel that computes the operation's text there. Raises CascadeSimError for a text that none computes."""
    phase: KernelPhase = "decode" if operation.extent("p") == 1 else "prefill"
    asked = Asked("mla" if is_absorbed(operation) else phase, operation.extent("e"), device.type_of("attention"),
                  operation.extent("g"), kernel_text(operation.cascade) == "unfused",
                  _cache_type(operation, device))  # fmt: skip
    return choose_kernel(device, asked)


def _cache_type(operation: Operation, device: Device) -> Dtype:
    """Keys and values are of the cache's type, where they come from there; a prompt's are multiplied as they are."""
    return device.type_of("kv" if operation.operand == "kv" else "attention")


def is_absorbed(operation: Operation) -> bool:
    """All heads share one latent key whose first elements are the value."""
    size = dict(operation.extents)
    return size["g"] == size["h"] > 1 and size["f"] < size["e"] and size["p"] == 1 and size["f"] >= 256


def shape_of(operation: Operation, mask: Mask, kernel: Kernel, device: Device) -> Shape:
    """Masks that are no causal interval are walked as spans of tiles, counted by the mask itself."""
    size = dict(operation.extents)
    sizes = (size["b"], size["h"], size["h"] // size["g"], size["p"], size["m"], size["e"], size["f"])
    latent = is_absorbed(operation)
    if isinstance(mask, KeyInterval) and mask.chunk is None:
        return shape(*sizes, mask.causal, mask.window or 0, shared_key_value=latent)
    plain = shape(*sizes, shared_key_value=latent)
    tiles = tiles_of(kernel, device, plain, DTYPE_BYTES[device.type_of("attention")])
    query_tile, key_tile = int(tiles.queries[0]), int(tiles.keys[0])
    if isinstance(mask, TiledMask):
        mean, listed = listed_keys(mask, query_tile, key_tile, kernel.block_sparse_factor)
        return shape(*sizes, visited_keys=mean, listed=listed)
    first, last = mask.key_tiles(size["p"], size["m"], query_tile, key_tile)
    visited = float(np.maximum(last - first + 1, 0).mean()) * key_tile
    return shape(*sizes, visited_keys=visited)


def listed_keys(mask: TiledMask, query_tile: int, key_tile: int, cost: float) -> tuple[float, KeyList]:
    """Keys that a tile of queries visits on average, and what else its blocks say of the list."""
    size = mask.key_tile(key_tile)
    found = mask.visited(query_tile, size)
    keys, total = found.visited * size, max(found.total, 1e-9)
    return float(keys.mean()), KeyList(float(keys.min()), float(keys.max()), float(found.partial.sum()) / total, cost)


def listed_seconds(operation: Operation, device: Device) -> ListedSeconds:
    """The kernel's time without masks, with them, and with tiles that come from a list. Raises as `plan_attention`."""
    kernel, mask = kernel_of(operation, device), mask_of(operation)
    found = shape_of(operation, mask, kernel, device)
    types = device.type_of("attention"), _cache_type(operation, device)
    whole = shape_of(operation, KeyInterval(isinstance(mask, TiledMask) and mask.causal), kernel, device)

    def case(sizes: Shape) -> AttentionCase:
        return case_of(device, kernel, constants(device.generation), sizes, *types)

    listed = found.listed or KeyList(0.0, 0.0, 0.0, 1.0)
    seconds = [float(attention_timing(case(replace(found, listed=each))).total_s[0])
               for each in (replace(listed, masked=0.0, cost=1.0), replace(listed, cost=1.0), listed)]
    some, every = (float(each.work.visited[0] * each.tiles.keys[0] * each.tiles.queries[0])
                   for each in map(case, (found, whole)))  # fmt: skip
    return ListedSeconds(some / every, *seconds)


def cycles_by_keys(operation: Operation, device: Device, keys: IntegerArray) -> Reals:
    """Cycles of one query of each head over `keys` keys, for each number of them: those of `plan_attention`."""
    kernel = kernel_of(operation, device)
    one = shape_of(operation, mask_of(operation), kernel, device)
    found = shape(one.batch, one.heads, one.heads_kv, one.queries, keys, one.head_dim, one.value_dim, one.causal,
                  one.window, one.visited_keys, shared_key_value=one.shared_key_value)  # fmt: skip
    case = case_of(device, kernel, constants(device.generation), found, device.type_of("attention"),
                   _cache_type(operation, device), True)  # fmt: skip
    total_s = _beside(attention_timing(case), operation, device).total_s
    return np.maximum(total_s, find_engine(device.engine).host_launch_s) * device.clock_hz


def _beside(timing: AttentionTiming, operation: Operation, device: Device) -> AttentionTiming:
    """With what the engine launches around the kernel: ahead of prompts, and to make results narrower."""
    engine, size, known = find_engine(device.engine), dict(operation.extents), constants(device.generation)
    spent_s = 0.0
    if size["p"] > 1:
        new = size["b"] * size["h"] // size["g"] * size["p"] * (size["e"] + size["f"])
        moved = DTYPE_BYTES[device.type_of("attention")] * new
        copy_s = float(stream_seconds(device, known, moved, moved)[0])
        spent_s = engine.prompt_kernels * small_kernel_s(device) + engine.prompt_copies * copy_s
    wide, narrow = (DTYPE_BYTES[device.type_of(kind)] for kind in ("attention", "activations"))
    if engine.casts_results and narrow < wide:
        results = size["b"] * size["h"] * size["p"] * size["f"]
        spent_s += float(stream_seconds(device, known, wide * results, narrow * results)[0])
    return replace(timing, launch_s=timing.launch_s + spent_s, total_s=timing.total_s + spent_s)


def rotated_inside(operations: Sequence[Operation], device: Device) -> Iterator[Operation]:
    """Rotations of a step are a part of the kernel of attention that does them itself."""
    inside = {one.layer for one in operations if _rotates(one, device)}
    for one in operations:
        yield replace(one, launched=False) if one.name == ROTARY_CACHE_NAME and one.layer in inside else one


def _rotates(operation: Operation, device: Device) -> bool:
    if operation.kind != "attention" or operation.extent("p") > 1 or kernel_text(operation.cascade) is None:
        return False
    with suppress(CascadeSimError):  # planning says why no kernel runs
        return kernel_of(operation, device).rotates
    return False


def _attention_bytes(
    operation: Operation, splits: Mapping[str, int], case: AttentionCase, timing: AttentionTiming
) -> tuple[Mapping[str, float], Mapping[str, float]]:
    """Bytes of an element that at least pass by DRAM, and bytes of it wherever it is.

    Values that are the first elements of a latent key pass by with it. Keys that no query reaches do not, nor do
    constants of a head (`SINK[h]`), which stay in L2.
    """
    cascade, shape = operation.cascade, case.shape
    width, kv_width = DTYPE_BYTES[case.dtype], DTYPE_BYTES[case.kv_dtype]
    passing, keys_passing = 1 - float(timing.movement.warm[0]), 1 - float(timing.movement.keys_warm[0])
    reached = int(shape.keys_in_reach[0]) * operation.extent("b") * int(shape.heads_kv[0])
    least, ranks = least_elements(operation, splits), _ranks(cascade)
    widths: dict[str, float] = {}
    stored: dict[str, float] = dict.fromkeys(cascade.outputs, max(width, 2) * passing)
    for name in cascade.inputs:
        keyed = bool(ranks[name] & {KEY, *key_tiles(cascade)})
        widths[name] = kv_width if keyed else width
        depth = operation.extent("f" if "f" in ranks[name] else "e")
        if not keyed:
            stored[name] = width * passing if QUERY in ranks[name] else 0.0
        elif not (shape.shared_key_value and "f" in ranks[name]):
            stored[name] = kv_width * keys_passing * min(1.0, reached * depth / least[name])
    return stored, widths | dict.fromkeys(cascade.outputs, width)


def plan_linear(operation: Operation, device: Device) -> Plan:
    """Rows and results pass by DRAM as far as L2 does not keep them, weights wholly."""
    rows, depth, outputs, copies = (operation.extent(rank) for rank in ("r", "k", "n", "x"))
    known, cascade = constants(device.generation), operation.cascade
    operands = OperandTypes(device.type_of("activations"), device.type_of(operation.operand))
    dtype = operands.product
    library = find_engine(device.engine).products
    timing = gemm_timing(device, known, rows, outputs, depth, copies, dtype, library, operands)
    name, sizes = cascade.einsums[-1].name, (rows, outputs, depth, copies)
    busy = _cycles({TENSOR: timing.tensor_s}, device)
    spent = (*activities(shares(operation, {}), busy, device.peaks(dtype)), *_memory(name, timing, device))
    program = partial(product_program, device, known, choice_of(timing, sizes), timing, name)
    phase = _phase(name, spent, timing, timing, device, program)
    ranks, least = _ranks(cascade), least_elements(operation)
    widths = {tensor: DTYPE_BYTES[operands.rows if "r" in ranks[tensor] else operands.second]
              for tensor in cascade.inputs}  # fmt: skip
    widths |= dict.fromkeys(cascade.outputs, output_bytes(DTYPE_BYTES[dtype]))
    kept = [tensor for tensor in widths if "r" in ranks[tensor]]
    passing = 1 - float(share_in_l2(device.l2_kept_bytes, sum(widths[tensor] * least[tensor] for tensor in kept)))
    stored = {tensor: width * (passing if tensor in kept else 1.0) for tensor, width in widths.items()}
    lines = (*product_lines(device, known, timing, sizes), *_resident_lines(stored, widths))
    return Plan(operation, "physical", lines, (phase,), None, {}, stored, types=operands.named)


def cycles_by_outputs(operation: Operation, device: Device, outputs: IntegerArray) -> Reals:
    """Cycles of a product with `outputs` columns, for each number of them: those of `plan_linear`."""
    rows, depth, copies = (operation.extent(rank) for rank in ("r", "k", "x"))
    operands = OperandTypes(device.type_of("activations"), device.type_of(operation.operand))
    timing = gemm_timing(device, constants(device.generation), rows, outputs, depth, copies, operands.product,
                         find_engine(device.engine).products, operands)  # fmt: skip
    return np.maximum(timing.total_s, find_engine(device.engine).host_launch_s) * device.clock_hz


def plan_elementwise(operation: Operation, device: Device, launched: bool = True) -> Plan:
    """assumed: one kernel that reads its inputs and writes its outputs once; rows fit the registers of a block.

    Rows that are gathered by index are read one by one, one for each that is written. What has a cache of the step
    before among its inputs finds nothing in L2: all other layers ran since. `launched`: False for the end of a kernel
    that runs already.
    """
    width, parts = DTYPE_BYTES[operation.numbers or device.type_of("activations")], shares(operation, {})
    cascade, known, elements = operation.cascade, constants(device.generation), least_elements(operation)
    gathered = {access.tensor: einsum.name for einsum in cascade.einsums for access in einsum.inputs
                if any(index.gather is not None for index in access.indices) and access.tensor in cascade.inputs}
    elements |= {name: elements[result] for name, result in gathered.items()}
    timed = copy_timing if gathered else stream_timing
    widths = dict.fromkeys((*cascade.inputs, *cascade.outputs), width)
    launched = launched and operation.launched
    widths |= dict.fromkeys(operation.fp32, DTYPE_BYTES["fp32"])
    reads, writes = (sum(widths[name] * elements[name] for name in names)
                     for names in (cascade.inputs, cascade.outputs))  # fmt: skip
    warm = operation.operand != "kv"
    timing = timed(device, known, reads, writes, warm, instructions(parts))
    if not launched:
        timing = replace(timing, total_s=timing.total_s - timing.launch_s, launch_s=0 * timing.launch_s)
    busy = _cycles({SPECIAL: timing.special_s, ISSUE: timing.issue_s}, device)
    spent = (*activities(parts, busy, device.peaks("fp32")), *_memory(operation.name, timing, device))
    phase = _phase(operation.name, spent, timing, timing, device,
                   partial(stream_program, device, timing, reads + writes))  # fmt: skip
    passing = 1 - float(share_in_l2(device.l2_kept_bytes, reads + writes)) * warm
    stored = {name: each * passing for name, each in widths.items()}
    lines = (*stream_lines(device, known, timing, reads, writes, instructions(parts), timed),
             *_resident_lines(stored, widths))  # fmt: skip
    return Plan(operation, "physical", lines, (phase,), None, {}, stored, norm_notes(operation))


def plan_collective(operation: Operation, device: Device) -> Plan:
    """assumed: what is sent and added passes by L2 meanwhile, and asks nothing of DRAM.

    A sum with the stream and a norm in the same kernel come after it, as fast as alone but for the launch.
    """
    elements, count = operation.extent("r") * operation.extent("d"), device.parallel.tensor
    timing, name = fastest_sum(device, elements), operation.cascade.einsums[0].name
    added, lanes = max(elements * (count - 1) // count, 1), device.peaks("fp32")
    sums = EinsumActivity(name, ISSUE, 0, {"add": added})
    spent = (
        EinsumActivity(name, "link", int(timing.link_s * device.clock_hz)),
        EinsumActivity(name, "launch", int(timing.launch_s * device.clock_hz)),
        *activities((sums,), {ISSUE: added / lanes[ISSUE]}, lanes),
    )
    phase = Phase(operation.name, spent, Traffic(), _waited_s(device, timing.total_s) * device.clock_hz,
                  partial(ring_program, device, timing))  # fmt: skip
    after, lines = after_all_reduce(operation.cascade), ring_lines(device, timing, elements)
    if after is None:
        return Plan(operation, "physical", lines, (phase,), None)
    rest = plan_elementwise(replace(operation, kind="elementwise", cascade=after), device, launched=False)
    return Plan(operation, "physical", (*lines, *rest.mapping), (phase, *rest.phases), None)


def _phase(
    name: str, spent: tuple[EinsumActivity, ...], timing: Timed, moved: Movement | GemmTiming | StreamTiming,
    device: Device, program: Callable[[], Program],
) -> Phase:  # fmt: skip
    traffic = Traffic(float(moved.dram_read_bytes[0]), float(moved.dram_write_bytes[0]))
    return Phase(name, spent, traffic, _waited_s(device, float(timing.total_s[0])) * device.clock_hz, program)


def _waited_s(device: Device, kernel_s: float) -> float:
    """A kernel, or the host's launch of the next where that takes longer. assumed: it runs no further ahead."""
    return max(kernel_s, find_engine(device.engine).host_launch_s)


def _memory(name: str, timing: Timed, device: Device) -> Iterator[EinsumActivity]:
    """Whole cycles, rounded down: never more than the closed form."""
    busy = {"l2": timing.l2_s, "dram": timing.dram_s, "launch": timing.launch_s}
    for unit, cycles in _cycles(busy, device).items():
        yield EinsumActivity(name, unit, int(cycles))


def _cycles(seconds: Mapping[str, Reals], device: Device) -> dict[str, float]:
    return {unit: float(alone[0]) * device.clock_hz for unit, alone in seconds.items()}


def _resident_lines(stored: Mapping[str, float], widths: Mapping[str, float]) -> Iterator[str]:
    """Says which inputs and outputs pass by DRAM in part or not at all, from bytes of an element there and anywhere."""
    kept = {name: 1 - stored.get(name, 0.0) / width for name, width in widths.items()}
    shown = ", ".join(f"{name} {share:.0%}" for name, share in kept.items() if share > 0.0005)
    if shown:
        yield f"not by DRAM (in L2 from before, left there, or part of another tensor): {shown}"


def _ranks(cascade: Cascade) -> Mapping[str, frozenset[str]]:
    """Tensor -> the ranks of its indices, wherever it is read or written."""
    found: dict[str, frozenset[str]] = {}
    for _, access in all_accesses(cascade):
        found[access.tensor] = found.get(access.tensor, frozenset()) | frozenset(access.ranks)
    return found
