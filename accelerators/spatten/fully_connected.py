"""Work besides attention on SpAtten: linear layers on both multiplier arrays, element-wise work on the softmax lanes.

The paper runs GPT-2 end to end with 8-bit weights (HPCA'21) and describes neither: assumed: weights stream from DRAM
once, activations stay on chip in linear layers; element-wise rows come from DRAM and go back, one element a lane and
cycle. No publication times this on its own.
"""

from __future__ import annotations

from functools import partial
from math import ceil, prod

from cascadesim.accelerators.program import After, Program, Queue, Task, TileRun
from cascadesim.accelerators.protocol import Accounting, EinsumActivity, Phase, Plan, Traffic
from cascadesim.accelerators.spatten.spec import SpattenSpec
from cascadesim.einsum_cascades.models.operation import Operation, work_of

TILES = 64  # assumed: weights arrive in so many pieces, the multiplication one piece behind
LINEAR_TASKS = (
    Task("weights", "dram", takes=("halves",)),
    Task("first half", "multiply_qk", (After("weights"),)),
    Task("second half", "multiply_pv", (After("weights"),), gives_back=("halves",)),
)
ROW_TASKS = (Task("rows", "dram"), Task("elements", "softmax", (After("rows", 1, streaming=True),)))


def plan_linear(operation: Operation, spec: SpattenSpec, accounting: Accounting) -> Plan:
    size = dict(operation.extents)
    weights_bytes = size["x"] * size["k"] * size["n"] * spec.fully_connected.weight_bits / 8
    macs = size["x"] * size["r"] * size["k"] * size["n"]
    tiles = min(TILES, macs)
    load = ceil(ceil(weights_bytes / tiles) / spec.dram.peak_bytes_per_cycle)
    half = ceil(ceil(macs / (2 * spec.multipliers)) / tiles)  # each array takes half of the products
    einsum = operation.cascade.einsums[0].name
    first = EinsumActivity(einsum, "multiply_qk", half * tiles, {"mac": macs - macs // 2},
                           min(1.0, (macs - macs // 2) / (half * tiles * spec.multipliers)))  # fmt: skip
    second = EinsumActivity(einsum, "multiply_pv", half * tiles, {"mac": macs // 2},
                            min(1.0, max(1, macs // 2) / (half * tiles * spec.multipliers)))  # fmt: skip
    memory = EinsumActivity("weights", "dram", load * tiles)
    cycles = float(max(load, half) * tiles)
    phase = Phase(operation.name, (first, second, memory), Traffic(weights_bytes), cycles,
                  partial(Program, LINEAR_TASKS, ((load, half, half),), (TileRun(0, tiles),), (Queue("halves", 2),),
                          in_flight=3))  # fmt: skip
    lines = (f"weights of {spec.fully_connected.weight_bits} bits once from DRAM, activations stay on chip; "
             "products on both multiplier arrays",)  # fmt: skip
    weights = {operation.cascade.einsums[0].inputs[1].tensor: spec.fully_connected.weight_bits / 8}
    return Plan(operation, accounting, lines, (phase,), spec.dynamic_energy_j(weights_bytes, cycles),
                element_bytes=weights)  # fmt: skip


def plan_elementwise(operation: Operation, spec: SpattenSpec, accounting: Accounting) -> Plan:
    size, cascade, counted = dict(operation.extents), operation.cascade, work_of(operation)
    activities = []
    for einsum in cascade.einsums:
        ranks = {rank for access in (einsum.output, *einsum.inputs) for rank in access.ranks}
        points = prod(size[rank] for rank in ranks if rank in size)
        cycles = ceil(points / spec.softmax_lanes)
        activities.append(EinsumActivity(einsum.name, "softmax", cycles, counted.get(einsum.name, {}),
                                         points / (cycles * spec.softmax_lanes)))  # fmt: skip
    accesses = {access.tensor: access.ranks for einsum in cascade.einsums for access in (einsum.output, *einsum.inputs)}
    reads, writes = (
        sum(prod(size.get(rank, 1) for rank in accesses[name]) for name in names) * spec.element_bits / 8
        for names in (cascade.inputs, cascade.outputs)
    )
    busy, memory = sum(one.cycles for one in activities), ceil((reads + writes) / spec.dram.peak_bytes_per_cycle)
    activities.append(EinsumActivity("rows", "dram", memory))
    cycles_bound = float(max(busy, memory))
    phase = Phase(operation.name, tuple(activities), Traffic(reads, writes), cycles_bound,
                  partial(Program, ROW_TASKS, ((memory, busy),), (TileRun(0, 1),), in_flight=1))  # fmt: skip
    energy = spec.dynamic_energy_j(reads + writes, cycles_bound)
    stored = dict.fromkeys((*cascade.inputs, *cascade.outputs), spec.element_bits / 8)
    return Plan(operation, accounting, ("one element a softmax lane and cycle; rows by DRAM",), (phase,), energy,
                element_bytes=stored)  # fmt: skip
