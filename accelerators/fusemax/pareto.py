"""Square arrays of any side, sized as the published latency-area front sizes them. FuseMax artifact (pareto.csv).

Registers grow with the share of the array that one head does not fill; the buffer is the smallest of a doubling
sequence whose traffic the DRAM channel keeps up with.
"""

from __future__ import annotations

from cascadesim.accelerators.energy import area_um2
from cascadesim.accelerators.fusemax.attention import plan_attention
from cascadesim.accelerators.fusemax.placement import ARRAY_1D
from cascadesim.accelerators.fusemax.spec import FuseMaxSpec
from cascadesim.einsum_cascades.models.operation import Operation
from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.einsum_cascades.notation.schema import validate

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
    return sum(area_um2(spec).values())


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
