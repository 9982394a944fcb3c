"""What an access, an operation and a component of a spatial array cost in energy and area, at 45 nm.

Per-action figures of the FuseMax artifact (micro24-fusemax-artifact, commit f543beb: its Accelergy tables) and of
CACTI 7 runs of our own for the buffer. Knows sizes of components; knows no cascade and no mapping, and no leakage.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from math import ceil, exp, log, log2
from types import MappingProxyType
from typing import Any

from cascadesim.accelerators.spec import OnChipMemory, Operations, SpatialArray
from cascadesim.einsum_cascades.notation.errors import CascadeSimError

TECHNOLOGY_NM = 45  # of every figure here
DRAM_PJ_PER_BYTE = 249.6 / 8  # HBM2, 3.9 pJ per bit: FuseMax artifact, ERT, 249.6 pJ per 64 bits
OPERATION_PJ: Mapping[str, float] = MappingProxyType({
    "mac": 17.1645,  # FuseMax artifact, ERT: fp_mac
    "add": 8.3395,  # FuseMax artifact, ERT: fp_add
    "max": 0.028036,  # FuseMax artifact, ERT: max
    "exp": 94.6475,  # FuseMax artifact, ERT: exponential_unit
    "divide": 36.251153,  # FuseMax artifact, ERT: divide
})
OPERATION_UM2: Mapping[str, float] = MappingProxyType({
    "mac": 1545.0,  # FuseMax artifact, ART: fp_mac; it also adds, and the artifact leaves fp_add out of its totals
    "max": 49.28944,  # FuseMax artifact, ART: max
    "exp": 8240.0,  # FuseMax artifact, ART: exponential_unit; only where exponentials have a unit of their own
    "divide": 23740.9375,  # FuseMax artifact, ART: divide
})

_ADDRESS_BIT_PJ = 0.004074924  # FuseMax artifact, ERT: address generation, per address bit
_ADDRESS_BIT_UM2 = 2 * 5.81742  # FuseMax artifact, ART: the same, one for reads and one for writes
_REGISTER_READ_PJ = 0.288  # FuseMax artifact, ERT: output of a register file, reads only
_COMPARATOR_PJ = 1.88608 / 64  # FuseMax artifact, ERT: every access compares 64 addresses, however few entries
_REGISTER_UM2 = 32 * 5.98 + 71.0  # FuseMax artifact, ART: one entry, 32 flip-flops and a comparator
_LEAST_REGISTER_WORDS = 64  # FuseMax artifact, ERT and ART: smaller register files cost as much as this one
_CONTAINER_UM2 = 1.0  # FuseMax artifact, ART: one per column, one for all columns, one for the 1D array

# CACTI 7 (HewlettPackard/cacti, commit 1ffd8df), 45 nm, "ram", 1 port, 1 bank: row bytes -> capacity bytes -> mm^2.
_SRAM_MM2: Mapping[int, Mapping[int, float]] = MappingProxyType({
    32: {16_384: 0.0537415, 32_768: 0.103395},
    64: {32_768: 0.11548, 65_536: 0.221984},
    128: {65_536: 0.268744, 131_072: 0.438107},
    256: {131_072: 0.710656, 262_144: 1.04238},
    512: {262_144: 2.14093, 524_288: 2.79737, 16_777_216: 84.2012, 33_554_432: 175.717},
    1024: {1_048_576: 20.0192, 2_097_152: 22.647},
})
_SRAM_ROW_BYTES = 512
_SRAM_READ_PJ: Mapping[int, float] = MappingProxyType({16_777_216: 12_512.7, 33_554_432: 23_854.6})  # as above, 512 B
_SRAM_WRITE_PJ: Mapping[int, float] = MappingProxyType({16_777_216: 15_751.4, 33_554_432: 27_097.5})  # as above, 512 B


@dataclass(frozen=True, slots=True)
class Actions:
    """What a piece of work does: words moved at each level, operations in each array. Actions add up."""

    dram_words: float = 0
    global_buffer_read_words: float = 0
    global_buffer_write_words: float = 0
    register_reads_2d: float = 0
    register_writes_2d: float = 0
    register_reads_1d: float = 0
    register_writes_1d: float = 0
    operations_2d: Mapping[str, int] = field(default_factory=dict)
    operations_1d: Mapping[str, int] = field(default_factory=dict)
    memory_read_words: Mapping[str, int] = field(default_factory=dict)  # by name of what is between DRAM and buffer
    memory_write_words: Mapping[str, int] = field(default_factory=dict)

    def __add__(self, other: Actions) -> Actions:
        own = ((each.name, getattr(self, each.name), getattr(other, each.name)) for each in fields(self))
        added: dict[str, Any] = {name: Counter(one) + Counter(two) if isinstance(one, Mapping) else one + two
                                 for name, one, two in own}  # fmt: skip
        return Actions(**added)


def dynamic_energy_j(actions: Actions, spec: SpatialArray) -> dict[str, float]:
    """Price the actions: component -> joules; operations that never happen are left out.

    Raises CascadeSimError on an operation without a price.
    """
    buffer = spec.global_buffer
    read_row_pj, write_row_pj = sram_row_energy_pj(buffer.capacity_bytes, buffer.row_bytes)
    words_per_row = buffer.row_bytes / spec.word_bytes
    read_2d_pj, write_2d_pj = register_energy_pj(spec.pe_array.register_words_per_pe)
    read_1d_pj, write_1d_pj = register_energy_pj(spec.vector_array.register_words_per_lane)
    energy_pj = {
        **{memory.name: _memory_pj(actions, spec, memory) for memory in spec.other_memories},
        "dram": actions.dram_words * spec.word_bytes * DRAM_PJ_PER_BYTE,
        "global_buffer": actions.global_buffer_read_words / words_per_row * read_row_pj
        + actions.global_buffer_write_words / words_per_row * write_row_pj,
        "registers_2d": actions.register_reads_2d * read_2d_pj + actions.register_writes_2d * write_2d_pj,
        "registers_1d": actions.register_reads_1d * read_1d_pj + actions.register_writes_1d * write_1d_pj,
        **_operations_pj(actions.operations_2d, spec.pe_array.operations, "2d"),
        **_operations_pj(actions.operations_1d, spec.vector_array.operations, "1d"),
    }
    return {component: picojoules * 1e-12 for component, picojoules in energy_pj.items()}


def _memory_pj(actions: Actions, spec: SpatialArray, memory: OnChipMemory) -> float:
    read_pj, write_pj = sram_row_energy_pj(memory.capacity_bytes, memory.row_bytes)
    read, written = (words.get(memory.name, 0) for words in (actions.memory_read_words, actions.memory_write_words))
    return (read * read_pj + written * write_pj) * spec.word_bytes / memory.row_bytes


def sourced_energy_j(actions: Actions, spec: SpatialArray) -> dict[str, float] | None:
    """Price the actions as `dynamic_energy_j`; None where an operation that the user added has no sourced price.

    None, too, for an array of another technology than the prices are of.
    """
    unpriced = {*actions.operations_2d, *actions.operations_1d} - set(OPERATION_PJ)
    return None if unpriced or spec.technology_nm != TECHNOLOGY_NM else dynamic_energy_j(actions, spec)


def has_area(spec: SpatialArray) -> bool:
    """Tell whether every operation of the elements has a sourced area: functions that the user added have none."""
    own = {*spec.pe_array.operations.cycles, *spec.vector_array.operations.cycles}
    own.discard("add")  # a multiply-accumulate unit also adds
    return spec.technology_nm == TECHNOLOGY_NM and own <= set(OPERATION_UM2)


def area_um2(spec: SpatialArray) -> dict[str, float]:
    """Add up areas: component -> area; their sum is the published total (adders, DRAM and wires are not in it)."""
    array, lanes = spec.pe_array, spec.vector_array
    element_um2 = register_area_um2(array.register_words_per_pe) + _operations_um2(array.operations)
    lane_um2 = register_area_um2(lanes.register_words_per_lane) + _operations_um2(lanes.operations)
    return {
        "array_2d": array.elements * element_um2 + array.columns * _CONTAINER_UM2,
        "array_1d": lanes.lanes * lane_um2 + 2 * _CONTAINER_UM2,
        "global_buffer": sram_area_um2(spec.global_buffer.capacity_bytes, spec.global_buffer.row_bytes),
        **{each.name: sram_area_um2(each.capacity_bytes, each.row_bytes) for each in spec.other_memories},
    }


def register_energy_pj(words: int) -> tuple[float, float]:
    """Price one read and one write of a register file of `words` entries; nothing where there is none."""
    if not words:
        return 0.0, 0.0
    # assumed: beyond 64 entries the comparators grow with the entries, as their number does below (64, a minimum)
    shared = _COMPARATOR_PJ * max(_LEAST_REGISTER_WORDS, words) + _ADDRESS_BIT_PJ * max(1, _address_bits(words))
    return _REGISTER_READ_PJ + shared, shared


def register_area_um2(words: int) -> float:
    if not words:
        return 0.0
    return _REGISTER_UM2 * max(_LEAST_REGISTER_WORDS, words) + _ADDRESS_BIT_UM2 * _address_bits(words)


def sram_row_energy_pj(capacity_bytes: int, row_bytes: int) -> tuple[float, float]:
    """Price reading and writing a row of a buffer; exact at the CACTI points (16 and 32 MiB, rows of 512 bytes).

    assumed: in between, and beyond along the same line, log-log in the capacity; in proportion to the width of the
    row, because bit lines and sense amplifiers, one set per bit of it, take the energy.
    """
    width = row_bytes / _SRAM_ROW_BYTES
    address_pj = _ADDRESS_BIT_PJ * _address_bits(-(-capacity_bytes // row_bytes))
    read_pj, write_pj = (_along_line(points, capacity_bytes) * width for points in (_SRAM_READ_PJ, _SRAM_WRITE_PJ))
    return read_pj + address_pj, write_pj + address_pj


def sram_area_um2(capacity_bytes: int, row_bytes: int) -> float:
    """Compute the area of a buffer, exact at the CACTI points.

    assumed: between capacities and between row widths log-log; beyond the measured capacities of a row width the
    area per byte stays that of the nearest one, and beyond the measured widths that of the nearest width.
    """
    um2_per_byte = {
        width: _between({capacity: mm2 * 1e6 / capacity for capacity, mm2 in points.items()}, capacity_bytes)
        for width, points in _SRAM_MM2.items()
    }
    address_um2 = _ADDRESS_BIT_UM2 * _address_bits(-(-capacity_bytes // row_bytes))
    return _between(um2_per_byte, row_bytes) * capacity_bytes + address_um2


def _operations_pj(operations: Mapping[str, int], can: Operations, array: str) -> dict[str, float]:
    counts = Counter(operations)
    if can.exp_by == "mac" and can.exp is not None:
        counts["mac"] += can.exp * counts.pop("exp", 0)
    unknown = sorted(set(counts) - set(OPERATION_PJ))
    if unknown:
        raise CascadeSimError(f"no energy known for operation {', '.join(unknown)}; known: {', '.join(OPERATION_PJ)}")
    return {f"{name}_{array}": count * OPERATION_PJ[name] for name, count in counts.items() if count}


def _operations_um2(can: Operations) -> float:
    """Add up the units of one element; an exponential that is made of multiply-accumulates has none of its own."""
    own = set(can.cycles) - ({"exp"} if can.exp_by == "mac" else set())
    return sum(area for name, area in OPERATION_UM2.items() if name in own)


def _address_bits(rows: int) -> int:
    return ceil(log2(rows))


def _between(points: Mapping[int, float], at: int) -> float:
    """Interpolate log-log between neighbours; outside them, the nearest point's value holds."""
    if at in points:
        return points[at]
    below, above = [x for x in points if x < at], [x for x in points if x > at]
    if not below or not above:
        return points[max(below) if below else min(above)]
    left, right = max(below), min(above)
    return _along_line({left: points[left], right: points[right]}, at)


def _along_line(points: Mapping[int, float], at: int) -> float:
    """Follow the log-log line through two points, exact at both."""
    if at in points:
        return points[at]
    (left, low), (right, high) = sorted(points.items())
    return low * exp(log(high / low) * log(at / left) / log(right / left))
