"""What each unit of an SM does of each Einsum, and why it takes so long, as lines of text.

Functions go to the special-function units, contractions over a depth to the tensor cores, which also add what they
accumulate, everything else to the FP32 lanes. Lines print kernel, tiles, waves, what each unit would need alone and
what would help: "if X were 10% faster" repeats the timing with that unit's rate raised. Knows no timing from within.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Literal

from cascadesim.accelerators.binding import DEPTHS, contracts
from cascadesim.accelerators.gpu.attention.tile import AttentionCase, iteration_cycles, tile_cycles
from cascadesim.accelerators.gpu.calibration import NEAREST, Constants
from cascadesim.accelerators.gpu.engines.collectives import RingTiming, link_of
from cascadesim.accelerators.gpu.gemm import GemmTiming, choice_of, gemm_timing
from cascadesim.accelerators.gpu.grid import Reals
from cascadesim.accelerators.gpu.kernel import key_tiles, text_on
from cascadesim.accelerators.gpu.memory import StreamTiming, stream_timing
from cascadesim.accelerators.gpu.programs import residents
from cascadesim.accelerators.gpu.spec import DTYPE_BYTES, Device, with_cache
from cascadesim.accelerators.gpu.timing import AttentionTiming, attention_timing
from cascadesim.accelerators.protocol import EinsumActivity
from cascadesim.accelerators.spec import point_operations
from cascadesim.einsum_cascades.analysis.bound_counts import KEY
from cascadesim.einsum_cascades.models.operation import Operation, work_of
from cascadesim.einsum_cascades.notation.ir import Einsum

TENSOR, SPECIAL, ISSUE = "tensor", "special", "issue"
FUNCTIONS = ("exp", "log", "sqrt", "tanh", "erf", "sin", "cos")  # in the names of `passes`
# assumed: instructions of an FP32 lane per operation beside one of a special function (CUDA's libraries, as recalled:
# a range reduction and a scale for exp2, a Newton step and its checks for IEEE division, a polynomial for erf)
LANE_INSTRUCTIONS: Mapping[str, int] = {
    **dict.fromkeys(("add", "multiply", "mac", "max", "min", "compare", "round"), 1),
    "divide": 8, "exp": 2, "log": 2, "sqrt": 4, "tanh": 1, "sin": 2, "cos": 2, "erf": 16,
}  # fmt: skip
SPECIAL_PER_OPERATION: Mapping[str, int] = {**dict.fromkeys(FUNCTIONS, 1), "divide": 1}  # a reciprocal
FASTER = 1.1
# measured over predicted, median of vidur's scored rows on A100, A40 and H100 (suite gpu-ops; a test holds them to it)
ENGINE_OVER_MODEL: Mapping[str, float] = {"layernorm": 1.8, "mlp_act": 1.5}
UNITS_OF_TILE = ("tensor", "special", "issue", "shared memory")  # in the order of `tile_cycles`
RATES: Mapping[str, tuple[str, ...]] = {  # units with achieved fractions to raise
    "tensor": ("tensor_fraction", "gemm_fraction"), "special": ("special_fraction",),
}


def attention_lines(
    case: AttentionCase, timing: AttentionTiming, mask: str, interval: bool, inner: Mapping[str, int]
) -> tuple[str, ...]:
    """`inner`: extents of the text that the kernel's tile decides."""
    kernel, tiles, work, device = case.kernel, case.tiles, case.work, case.device
    blocks, together = int(work.blocks[0]), int(tiles.blocks_per_sm[0])
    splits = f", keys split over {int(work.splits[0])} blocks" if work.splits[0] > 1 else ""
    types = with_cache(case.dtype, case.kv_dtype)
    span = "" if interval else "; tiles between a query tile's first and last attended key, in token order"
    units = {"tensor": timing.tensor_s, "special": timing.special_s, "issue": timing.issue_s,
             "shared_memory": timing.shared_memory_s, "l2": timing.l2_s, "dram": timing.dram_s,
             "launch": timing.launch_s}  # fmt: skip

    def again(changed: Device, constants: Constants) -> Reals:
        return attention_timing(replace(case, device=changed, constants=constants)).total_s

    return (
        f"kernel {kernel.name}, {types}: tiles of {int(tiles.queries[0])} queries x {int(tiles.keys[0])} keys, "
        f"head dimension padded to {int(tiles.head_dim[0])}; overlap {kernel.overlap}"
        + "".join(f"; {name} = {size}" for name, size in inner.items()),
        f"mask {mask}: {float(work.visited[0]):,.0f} key tiles, the longest block {float(work.longest[0]):,.0f}{span}",
        f"{blocks:,} blocks{splits}, up to {together} at once on each of {device.sms} SMs: "
        f"{blocks / (device.sms * together):,.2f} waves",
        *_attention_details(case, timing),
        *closing_lines(device, case.constants, units, timing.total_s, again),
    )


def _attention_details(case: AttentionCase, timing: AttentionTiming) -> Iterator[str]:
    """Rules by which the library decides, where keys come from, and what the fidelities make of one key tile's cycles.

    Where a rule switches, more SMs can be slower and more work faster.
    """
    kernel, work, shape = case.kernel, case.work, case.shape
    if kernel.splits_keys:
        yield f"rule: keys split over {int(work.splits[0])} blocks, as many as its SMs have room for"
    if kernel.packs_where_fuller or kernel.packs_group:
        packed = int(shape.heads[0] * shape.batch[0] // work.instances[0])
        yield f"rule: {packed} query heads of a key head share a tile"
    if kernel.row_step or kernel.row_choices:
        yield f"rule: tiles shrink to {int(case.tiles.queries[0])} rows where a head has fewer"
    if work.masked[0]:
        yield f"rule: {float(work.masked[0] / work.visited[0]):.1%} of the key tiles compare with the edge of a mask"
    if shape.listed is not None:
        yield f"rule: key tiles come from a list, each {shape.listed.cost:g} times as long as one in a row (assumed)"
    walked = float(work.visited[0] * case.tiles.keys[0] * shape.key_elements[0])
    yield (
        f"keys and values: blocks walk over {walked * DTYPE_BYTES[case.kv_dtype]:,.0f} bytes; those that are resident "
        f"together share what DRAM gives (assumed), later rounds fetch {float(timing.movement.again_bytes[0]):,.0f} "
        "bytes again"
    )
    parts = tile_cycles(case)
    cycles = {unit: float(part[0]) for unit, part in zip(UNITS_OF_TILE, parts, strict=True)}
    alone = ", ".join(f"{unit} {part:,.0f}" for unit, part in cycles.items())
    yield (
        f"key tile on one SM: {alone} cycles; closed form {float(iteration_cycles(case, *parts)[0]):,.0f}, with "
        f"{float(case.hidden[0]):.0%} of the shorter of products and softmax hidden (calibrated); cycle level "
        f"{max(cycles.values()):,.0f} or more, as the dependences of {residents(case).columns} groups of warps allow"
    )


def product_lines(
    device: Device, constants: Constants, timing: GemmTiming, sizes: tuple[int, int, int, int]
) -> tuple[str, ...]:
    rows, outputs, depth, copies = sizes
    dtype, choice = timing.operands.product, choice_of(timing, sizes)
    split = f", depth split over {choice.splits} blocks" if choice.splits > 1 else ""
    units = {"tensor": timing.tensor_s, "l2": timing.l2_s, "dram": timing.dram_s, "launch": timing.launch_s}

    def again(changed: Device, known: Constants) -> Reals:
        return gemm_timing(changed, known, rows, outputs, depth, copies, dtype, operands=timing.operands).total_s

    return (
        f"product {rows:,} x {outputs:,} over {depth:,}, {timing.operands.named}: "
        f"tiles of {choice.tile[0]} x {choice.tile[1]}{split}",
        f"{choice.blocks:,} blocks over {device.sms} SMs: {choice.blocks / device.sms:,.2f} waves",
        *closing_lines(device, constants, units, timing.total_s, again),
    )


def stream_lines(
    device: Device, constants: Constants, timing: StreamTiming, reads: float, writes: float,
    instructions: tuple[float, float], timed: Callable[..., StreamTiming] = stream_timing,
) -> tuple[str, ...]:  # fmt: skip
    units = {"special": timing.special_s, "issue": timing.issue_s, "l2": timing.l2_s, "dram": timing.dram_s,
             "launch": timing.launch_s}  # fmt: skip

    def again(changed: Device, known: Constants) -> Reals:
        return timed(changed, known, reads, writes, instructions=instructions).total_s

    return (
        f"one kernel: {reads:,.0f} bytes read, {writes:,.0f} written",
        *closing_lines(device, constants, units, timing.total_s, again),
    )


def ring_lines(device: Device, timing: RingTiming, elements: int) -> tuple[str, ...]:
    """Devices, steps, bytes of a step, and what the link and the launch take alone."""
    link, count = link_of(device), device.parallel.tensor
    alone = (f"alone: link {timing.link_s * 1e6:,.1f} us, launch {timing.launch_s * 1e6:,.1f} us; "
             f"together {timing.total_s * 1e6:,.1f} us")
    if timing.algorithm != "ring":
        return f"{timing.algorithm} over {count} devices, {timing.steps} steps; {link.kind}", alone
    part_bytes = elements * DTYPE_BYTES[device.type_of("activations")] / count
    return (
        f"ring of {count} devices: {timing.steps} steps of {part_bytes:,.0f} bytes, each "
        f"{timing.step_latency_s * 1e6:.1f} us after the last (assumed); "
        f"{link.kind}, {link.bytes_per_s / 1e9:,.0f} GB/s one way (datasheet)",
        alone,
    )


def closing_lines(
    device: Device, constants: Constants, units: Mapping[str, Reals], total: Reals,
    again: Callable[[Device, Constants], Reals],
) -> Iterator[str]:  # fmt: skip
    """What each unit would need alone, and what would help; `again` times the whole anew."""
    alone = ", ".join(f"{name} {float(seconds[0]) * 1e6:,.1f} us" for name, seconds in units.items())
    yield f"alone: {alone}; together {float(total[0]) * 1e6:,.1f} us"
    if device.generation in NEAREST:
        yield f"no measurements of {device.generation} calibrate this: constants of the nearest generation"
    gains = {unit: float(total[0] / again(changed, known)[0]) - 1
             for unit, (changed, known) in _faster(device, constants).items()}  # fmt: skip
    shown = ", ".join(f"{unit} {gain:.1%}" for unit, gain in gains.items() if gain >= 0.0005)
    yield f"10% faster would make the whole faster by: {shown}"


def _faster(device: Device, constants: Constants) -> Mapping[str, tuple[Device, Constants]]:
    """Each unit 10% faster, the others as they are."""

    def changed(group: Literal["sm", "measured"], **rates: float | None) -> Device:
        return device.model_copy(update={group: getattr(device, group).model_copy(update=rates)})

    found = {unit: (device, constants.model_copy(update={name: FASTER * getattr(constants, name) for name in names}))
             for unit, names in RATES.items()}  # fmt: skip
    latency = constants.model_copy(update={"kernel_latency_s": constants.kernel_latency_s / FASTER})
    shared, dram = FASTER * device.sm.shared_memory_bytes_per_clock, FASTER * device.dram_ceiling_bytes_per_s
    return found | {
        "shared_memory": (changed("sm", shared_memory_bytes_per_clock=shared), constants),
        "l2": (changed("measured", l2_bytes_per_s=FASTER * device.l2_ceiling_bytes_per_s), constants),
        "dram": (changed("measured", dram_bytes_per_s=dram, of_dram_bytes_per_s=None), constants),
        "launch": (changed("measured", launch_graph_s=device.launch_s / FASTER), latency),
    }


def attention_notes(case: AttentionCase) -> tuple[str, ...]:
    """What a reader who compares devices must know of this kernel."""
    if not case.kernel.stores_scores or text_on(case.device.model_copy(update={"kernel": "auto"})) == "fused":
        return ()
    return (
        f"{case.device.device}: no fused attention kernel of its libraries is known here: attention is priced as "
        f"{case.kernel.name}, scores through DRAM, and says nothing of what the device can do",
    )


def norm_notes(operation: Operation) -> tuple[str, ...]:
    """Statistics of rows, and functions of elements; sums and rotations are as fast as memory (suite gpu-ops)."""
    einsums = operation.cascade.einsums
    if not any(einsum.reduced_ranks or set(point_operations(einsum)) & set(FUNCTIONS) for einsum in einsums):
        return ()
    return (
        "norms and activations are priced as one kernel at the speed of memory; those of a serving engine (vidur) took "
        f"{ENGINE_OVER_MODEL['layernorm']:.1f} and {ENGINE_OVER_MODEL['mlp_act']:.1f} times as long in the median, on "
        "A100 2.5 and 1.8 times (suite gpu-ops)",
    )


def shares(operation: Operation, splits: Mapping[str, int], emulated: float = 0.0) -> tuple[EinsumActivity, ...]:
    """What each unit does of each Einsum that computes something, without its time.

    `emulated`: share of the scores' exponentials that FP32 lanes compute.
    """
    counted, scores = work_of(operation, splits), {KEY, *key_tiles(operation.cascade)[-1:]}
    updates = {einsum.name: einsum for einsum in operation.cascade.einsums}  # of a state; its start comes first
    found: dict[tuple[str, str], dict[str, int]] = {}
    for einsum in updates.values():
        for name, count in counted.get(einsum.name, {}).items():
            on_lanes = int(count * emulated) if name == "exp" and scores & set(einsum.ranks) else 0
            for unit, part in ((_unit(einsum, name), count - on_lanes), (ISSUE, on_lanes)):
                if part:
                    found.setdefault((einsum.name, unit), {})[name] = part
    return tuple(EinsumActivity(name, unit, 0, operations) for (name, unit), operations in found.items())


def _unit(einsum: Einsum, operation: str) -> str:
    """Functions go to the special units; contractions, and what they accumulate, to the tensor cores."""
    if operation in FUNCTIONS:
        return SPECIAL
    accumulates = operation == "add" and DEPTHS & set(einsum.ranks) and not einsum.reduced_ranks
    return TENSOR if accumulates or (operation == "mac" and contracts(einsum)) else ISSUE


def activities(
    parts: tuple[EinsumActivity, ...], busy_cycles: Mapping[str, float], peak: Mapping[str, float]
) -> Iterator[EinsumActivity]:
    """Each unit's busy time, shared by its Einsums in proportion to their operations, in whole cycles.

    `peak`: operations of one class that all lanes of a unit finish in a cycle.
    """
    for unit, cycles in busy_cycles.items():
        own = [(part, sum(part.operations.values())) for part in parts if part.unit == unit]
        total, done, ended = sum(count for _, count in own), 0, 0
        for part, count in own:
            done += count
            begun, ended = ended, int(cycles * done / total)
            spent = ended - begun
            useful = max(part.operations.values()) / (max(spent, 1) * peak[unit])
            yield replace(part, cycles=spent, occupancy=min(1.0, useful))


def instructions(parts: tuple[EinsumActivity, ...]) -> tuple[int, int]:
    """Instructions of FP32 lanes and of special-function units, for work that no kernel's own counts describe."""
    counts = [item for part in parts for item in part.operations.items()]
    lanes = sum(LANE_INSTRUCTIONS[name] * count for name, count in counts)
    return lanes, sum(SPECIAL_PER_OPERATION.get(name, 0) * count for name, count in counts)
