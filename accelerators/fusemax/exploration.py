"""FuseMax designs by the million: the closed form of `closed_form` for full attention, design by design elsewhere.

Fields that `Points` has are columns; designs that differ in others (registers, ports, operations, policy) are taken
group by group. Figures equal those of the scalar plan in physical accounting.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cascadesim.accelerators import energy
from cascadesim.accelerators.catalogue import QUANTITIES, Column, Evaluator, Floats
from cascadesim.accelerators.fusemax.accelerator import FuseMax, plan_attention, shape_of
from cascadesim.accelerators.fusemax.closed_form import ClosedForm, Points, by_chunk
from cascadesim.accelerators.fusemax.spec import ARRAY_1D, ARRAY_2D, FuseMaxSpec, Placed, place
from cascadesim.accelerators.fusemax.timing import check_policy
from cascadesim.accelerators.protocol import Accelerator
from cascadesim.accelerators.spec import Operations
from cascadesim.einsum_cascades.models.operation import Operation, mask_of
from cascadesim.einsum_cascades.notation.errors import CascadeSimError, SpecError
from cascadesim.einsum_cascades.notation.ir import Cascade
from cascadesim.einsum_cascades.notation.schema import validate
from cascadesim.einsum_cascades.sparsity.masks import FULL
from cascadesim.einsum_cascades.texts.pruned_attention import PRUNED_1PASS

_POINT_FIELDS: Mapping[str, str] = {
    "pe_array.rows": "rows",
    "pe_array.columns": "columns",
    "vector_array.lanes": "lanes",
    "global_buffer.capacity_bytes": "buffer_bytes",
    "global_buffer.row_bytes": "row_bytes",
    "dram.bandwidth_bytes_per_s": "bandwidth_bytes_per_s",
    "clock_hz": "clock_hz",
}
_ROUNDING = 1e-12  # of sums of float cycles: a run ends with a whole cycle, as the simulator counts it


def evaluator(accelerator: Accelerator, operations: Sequence[Operation]) -> Evaluator | None:
    """None for work that is not full attention, which the closed form does not cover."""
    if not isinstance(accelerator, FuseMax) or not all(map(_is_covered, operations)):
        return None
    return _Evaluator(accelerator.spec, tuple(operations))


def _is_covered(operation: Operation) -> bool:
    """A pruned text has a second pass; a text that is refused is left to the plan, which says why."""
    if operation.kind != "attention" or operation.cascade == PRUNED_1PASS:
        return False
    try:
        return mask_of(operation) == FULL
    except CascadeSimError:
        return False


@dataclass(frozen=True)
class _Evaluator:
    spec: FuseMaxSpec
    operations: tuple[Operation, ...]

    def __call__(self, columns: Mapping[str, Column]) -> dict[str, Floats]:
        size = next(iter(columns.values())).size
        found = {name: np.full(size, np.nan) for name in QUANTITIES}
        if any(columns[name].dtype.kind not in "iuf" for name in columns if name in _POINT_FIELDS):
            return found  # a text is no size
        groups, which = _groups({name: column for name, column in columns.items() if name not in _POINT_FIELDS}, size)
        for number, changes in enumerate(groups):
            spec = _changed(self.spec, changes)
            if spec is None:
                continue
            rows = np.flatnonzero(which == number) if len(groups) > 1 else slice(None)
            sizes = {name: columns[name][rows] for name in columns if name in _POINT_FIELDS}
            for name, values in self._group(spec, sizes).items():
                found[name][rows] = values
        return found

    def _group(self, spec: FuseMaxSpec, columns: Mapping[str, Column]) -> dict[str, Floats]:
        """Designs that differ in sizes, bandwidth and clock only."""
        design = _sizes(spec, columns)
        possible = _possible(design)
        design = {name: np.where(possible, values, 1.0) for name, values in design.items()}
        latency_s = energy_j = dram_bytes = area = np.zeros(())
        for operation in self.operations:
            points = _points(design, operation)
            cycles, moved, joules, area = cycles_traffic_energy_and_area(points, spec, operation.cascade)
            cycles = np.ceil(cycles - np.minimum(0.5, cycles * _ROUNDING))
            latency_s = latency_s + operation.count * cycles / design["clock_hz"]
            energy_j = energy_j + operation.count * joules
            dram_bytes = dram_bytes + operation.count * moved
        energy_j = energy_j + spec.leakage_w_per_um2 * area * latency_s
        quantities = zip(QUANTITIES, (latency_s, energy_j, dram_bytes, area), strict=True)
        return {name: np.where(possible & np.isfinite(latency_s), values, np.nan) for name, values in quantities}


def _points(design: Mapping[str, Floats], operation: Operation) -> Points:
    shape = shape_of(operation)
    return Points(**design, instances=shape.instances, queries=shape.queries, keys=shape.keys,
                  query_depth=shape.query_depth, value_depth=shape.value_depth, group=shape.group)


def _sizes(spec: FuseMaxSpec, columns: Mapping[str, Column]) -> dict[str, Floats]:
    content = spec.model_dump()
    own = {field: _at(content, field) for field in _POINT_FIELDS}
    given = [np.asarray(columns.get(field, own[field]), dtype=np.float64) for field in _POINT_FIELDS]
    return dict(zip(_POINT_FIELDS.values(), map(np.atleast_1d, np.broadcast_arrays(*given)), strict=True))


def _possible(design: Mapping[str, Floats]) -> Column:
    """What the spec would refuse: sizes that are no whole numbers above 0, a buffer shorter than its row."""
    whole = [name for name in design if name not in ("bandwidth_bytes_per_s", "clock_hz")]
    possible = np.logical_and.reduce([(design[name] >= 1) & (np.floor(design[name]) == design[name]) for name in whole])
    possible &= (design["bandwidth_bytes_per_s"] >= 1) & (design["clock_hz"] >= 1)
    found: Column = possible & (design["buffer_bytes"] >= design["row_bytes"])
    return found


def _groups(columns: Mapping[str, Column], size: int) -> tuple[list[dict[str, object]], Column]:
    """Every combination of values that occurs, and which of them each design has."""
    which = np.zeros(size, dtype=np.int64)
    for column in columns.values():
        values, own = np.unique(column, return_inverse=True)
        _, which = np.unique(which * len(values) + own, return_inverse=True)
    _, first = np.unique(which, return_index=True)
    return [{name: column[row].item() for name, column in columns.items()} for row in first.tolist()], which


def _changed(spec: FuseMaxSpec, changes: Mapping[str, object]) -> FuseMaxSpec | None:
    """None where the changed design cannot be."""
    content: dict[str, Any] = spec.model_dump()
    for field, value in changes.items():
        *above, last = field.split(".")
        group = content
        for part in above:
            group = group.setdefault(part, {})
        group[last] = int(value) if isinstance(value, float) and value.is_integer() else value
    try:
        return validate(FuseMaxSpec, content, "design")
    except (SpecError, CascadeSimError):
        return None


def _at(content: Mapping[str, Any], field: str) -> object:
    for part in field.split("."):
        content = content[part]
    return content


def cycles_traffic_energy_and_area(points: Points, spec: FuseMaxSpec, cascade: Cascade) -> tuple[Floats, ...]:
    """Cycles, DRAM bytes, joules and um2 of all components, in one pass.

    All but the area are nan where the buffer holds no query tile.
    """
    check_policy(spec.binding.policy, placement := place(cascade, spec))
    return tuple(by_chunk(points, spec, placement, 4, _cycles_traffic_energy_and_area))


def _cycles_traffic_energy_and_area(chunk: ClosedForm) -> tuple[Floats, ...]:
    distinct, which = chunk.but_for_the_channel()
    (words,) = distinct.words(lambda forms: (forms.dram_read + forms.dram_write,))
    moved = np.where(distinct.fits, words * chunk.spec.word_bytes, np.nan)
    return chunk.least_cycles, moved[which], _energy_j(distinct)[which], _area_um2(distinct)[which]


def _area_um2(chunk: ClosedForm) -> Floats:
    """Area of both arrays and the buffer: arrays grow with their elements, columns and lanes."""
    spec, given = chunk.spec, chunk.given
    rows, columns, lanes = (given[name] for name in ("rows", "columns", "lanes"))
    one, two_rows = _array_area(spec, 1, 1), _array_area(spec, 2, 1)
    element, column = two_rows["array_2d"] - one["array_2d"], 2 * one["array_2d"] - two_rows["array_2d"]
    lane = _array_area(spec, 1, 2)["array_1d"] - one["array_1d"]
    buffer = _of_buffers(given["buffer_bytes"], given["row_bytes"], lambda *sizes: (energy.sram_area_um2(*sizes),))[0]
    area: Floats = rows * columns * element + columns * column + lanes * lane + (one["array_1d"] - lane) + buffer
    return area


def _array_area(spec: FuseMaxSpec, rows: int, lanes: int) -> Mapping[str, float]:
    array = spec.pe_array.model_copy(update={"rows": rows, "columns": 1})
    vector = spec.vector_array.model_copy(update={"lanes": lanes})
    return energy.area_um2(spec.model_copy(update={"pe_array": array, "vector_array": vector}))


def _energy_j(chunk: ClosedForm) -> Floats:
    spec, given = chunk.spec, chunk.given
    words = chunk.words(
        lambda forms: (
            forms.dram_read + forms.dram_write, forms.buffer_read, forms.buffer_write, forms.registers_2d_read,
            forms.registers_2d_write, forms.registers_1d_read, forms.registers_1d_write,
        )
    )  # fmt: skip
    rows = _of_buffers(given["buffer_bytes"], given["row_bytes"], energy.sram_row_energy_pj)
    words_per_row = given["row_bytes"] / spec.word_bytes
    prices = (
        spec.word_bytes * energy.DRAM_PJ_PER_BYTE, rows[0] / words_per_row, rows[1] / words_per_row,
        *energy.register_energy_pj(spec.pe_array.register_words_per_pe),
        *energy.register_energy_pj(spec.vector_array.register_words_per_lane),
    )  # fmt: skip
    moved = sum((count * price for count, price in zip(words, prices, strict=True)), np.zeros(()))
    computed = sum((chunk.points(placed) * _point_pj(placed, spec) for placed in chunk.placement.einsums), np.zeros(()))
    return np.where(chunk.fits, (moved + computed) * 1e-12, np.nan)


def _point_pj(placed: Placed, spec: FuseMaxSpec) -> float:
    can: Operations = spec.pe_array.operations if placed.unit == ARRAY_2D else spec.vector_array.operations
    price = dict(energy.OPERATION_PJ)
    if can.exp_by == "mac" and can.exp is not None:
        price["exp"] = can.exp * price["mac"]
    return sum(count * price[name] for name, count in placed.operations.items())


def _of_buffers(
    capacity_bytes: Floats, row_bytes: Floats,
    price: Callable[[int, int], tuple[float, ...]],
) -> Floats:  # fmt: skip
    """Prices of each point's buffer, one row for each price, worked out once for each distinct buffer."""
    buffers, which = np.unique(capacity_bytes + 1j * row_bytes, return_inverse=True)  # pairs that sort fast
    prices = np.array([price(int(buffer.real), int(buffer.imag)) for buffer in buffers.tolist()])
    found: Floats = prices.T[:, which]
    return found


_BUFFER_ROWS_PER_DEPTH = 8  # artifact: the buffer starts with 16 D E bytes: 8 rows of D words for each of E
_LARGEST_BUFFER_BYTES = 1 << 40  # assumed: beyond this no doubling helps, the channel itself is too slow


def square_spec(spec: FuseMaxSpec, side: int, operation: Operation) -> FuseMaxSpec:
    """`spec` with a `side` x `side` array, its registers, and the first buffer that does not bind `operation`.

    Raises CascadeSimError if no buffer makes the channel fast enough.
    """
    depth = operation.extent("e")
    capacity = _BUFFER_ROWS_PER_DEPTH * side * depth * spec.word_bytes
    while capacity <= _LARGEST_BUFFER_BYTES:
        sized = _sized(spec, side, depth, capacity)
        if not _is_memory_bound(sized, operation):
            return sized
        capacity *= 2
    raise CascadeSimError(
        f"pe_array: with {side} x {side} elements no buffer up to {_LARGEST_BUFFER_BYTES} bytes keeps "
        f"{spec.dram.bandwidth_bytes_per_s:g} bytes/s from being the bound"
    )


def total_area_um2(spec: FuseMaxSpec) -> float:
    return sum(energy.area_um2(spec).values())


def _sized(spec: FuseMaxSpec, side: int, depth: int, capacity_bytes: int) -> FuseMaxSpec:
    tokens = 2 * max(1, side // depth)  # artifact: tiles whose values a PE holds at once
    content = spec.model_dump()
    content["pe_array"] |= {"rows": side, "columns": side, "register_words_per_pe": 2 * tokens}  # artifact
    content["vector_array"] |= {"lanes": side, "register_words_per_lane": 8 * tokens}  # artifact
    content["global_buffer"] |= {"capacity_bytes": capacity_bytes, "row_bytes": side * spec.word_bytes}
    return validate(FuseMaxSpec, content, f"square {side}")


def _is_memory_bound(spec: FuseMaxSpec, operation: Operation) -> bool:
    phase = plan_attention(operation, spec, "artifact").phases[0]
    busy_1d = sum(activity.cycles for activity in phase.activities if activity.unit == ARRAY_1D)
    return phase.traffic.total_bytes / spec.dram_bytes_per_cycle > busy_1d
