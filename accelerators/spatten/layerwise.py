"""A plan of attention as the public behavioural simulator times it: fetch, fill, drain and top-k one after another.

bert.cpp of mit-han-lab/spatten takes whole layers of heads with their own keys; what it does not know (shared keys,
masks, low bits) is counted as its heads would. Top-k over tokens follows a layer only in its own files.
"""

from __future__ import annotations

from dataclasses import replace

from cascadesim.accelerators.protocol import EinsumActivity, Plan, Traffic
from cascadesim.accelerators.spatten.behavioural import DRAM_BYTES, BehaviouralDesign, Head, layer_cycles
from cascadesim.accelerators.spatten.mapping import KEPT
from cascadesim.accelerators.spatten.spec import SpattenSpec
from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.einsum_cascades.sparsity.masks import FULL


def behavioural_plan(plan: Plan, spec: SpattenSpec) -> Plan:
    """The same operation in the simulator's cycles. Raises CascadeSimError for a trace: it takes layers."""
    operation = plan.operation
    if operation.trace is not None:
        raise CascadeSimError(f"{operation.name}: the behavioural simulator takes layers of equal heads, no trace")
    design = BehaviouralDesign(spec.dram.channels, spec.multipliers, spec.topk_parallelism, spec.head_dim)
    heads = layer(dict(operation.extents), spec)
    found = layer_cycles(heads, design)
    fetched = found.dram * spec.dram.channels * DRAM_BYTES
    (phase,) = plan.phases
    activities = tuple(
        replace(one, cycles=found.fill + found.drain, occupancy=1.0) if one.unit == "multiply_qk"
        else replace(one, cycles=0, occupancy=1.0)
        for one in phase.activities if one.unit not in ("dram", "top_k")
    )  # fmt: skip
    timed = replace(
        phase, activities=(*activities, EinsumActivity("fetch", "dram", found.dram)), traffic=Traffic(fetched),
        analytical_cycles=float(found.total or 0), program=None, model=None,
    )  # fmt: skip
    lines: tuple[str, ...] = (
        f"behavioural simulator: fetch {found.dram}, fill {found.fill}, drain {found.drain} cycles, nothing overlaps",
        f"{len(heads)} heads of {spec.head_dim} elements, each with keys of its own; no softmax, no selection",
    )
    if operation.mask != FULL:
        lines += ("it knows no masks: pairs that are masked are computed all the same",)
    lines = (*(line for line in plan.mapping if line.startswith(KEPT)), *lines)
    return replace(plan, mapping=lines, phases=(timed,), dynamic_energy_j=None)


def layer(size: dict[str, int], spec: SpattenSpec) -> list[Head]:
    """One head for each 64 elements of each query head."""
    lanes = -(-max(size["e"], size["f"]) // spec.head_dim)
    bits = spec.formats
    return [Head(size["p"], size["m"], bits.key_bits, bits.value_bits)] * (size["b"] * size["h"] * lanes)
