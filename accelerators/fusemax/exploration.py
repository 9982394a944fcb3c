"""FuseMax designs by the million: the closed form of `analytical` for full attention, design by design elsewhere.

Fields that `Points` has are columns; designs that differ in others (registers, ports, operations, policy) are taken
group by group. Figures equal those of the scalar plan in physical accounting.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cascadesim.accelerators.exploration import QUANTITIES, Column, Evaluator, Floats
from cascadesim.accelerators.fusemax.accelerator import FuseMax
from cascadesim.accelerators.fusemax.analytical import Points
from cascadesim.accelerators.fusemax.analytical_costs import area_um2, cycles_traffic_and_energy
from cascadesim.accelerators.fusemax.attention import shape_of
from cascadesim.accelerators.fusemax.spec import FuseMaxSpec
from cascadesim.accelerators.protocol import Accelerator
from cascadesim.einsum_cascades.models.operation import Operation, mask_of
from cascadesim.einsum_cascades.notation.errors import CascadeSimError, SpecError
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
        latency_s = energy_j = dram_bytes = np.zeros(())
        points = None
        for operation in self.operations:
            points = _points(design, operation)
            cycles, moved, joules = cycles_traffic_and_energy(points, spec, operation.cascade)
            cycles = np.ceil(cycles - np.minimum(0.5, cycles * _ROUNDING))
            latency_s = latency_s + operation.count * cycles / design["clock_hz"]
            energy_j = energy_j + operation.count * joules
            dram_bytes = dram_bytes + operation.count * moved
        assert points is not None  # a space has work
        area = area_um2(points, spec)
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
