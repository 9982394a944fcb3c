"""Energy and area of many designs at once, beside the cycles of `analytical`.

The scalar prices (`accelerators.energy`) on the words and operations of the closed form. Designs that share a buffer
share its prices, so few distinct buffers are fast. Knows no time. Prices: FuseMax artifact, CACTI 7.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from cascadesim.accelerators import energy
from cascadesim.accelerators.fusemax.analytical import Points, by_chunk
from cascadesim.accelerators.fusemax.closedform import ClosedForm, Floats
from cascadesim.accelerators.fusemax.placement import ARRAY_2D, Placed, place
from cascadesim.accelerators.fusemax.spec import FuseMaxSpec
from cascadesim.accelerators.fusemax.timing import check_policy
from cascadesim.accelerators.spec import Operations
from cascadesim.einsum_cascades.notation.ir import Cascade


def dynamic_energy_j(points: Points, spec: FuseMaxSpec, cascade: Cascade) -> Floats:
    """Of all components together; nan where the buffer holds no query tile. Physical accounting."""
    found: Floats = by_chunk(points, spec, place(cascade, spec), 1, lambda chunk: (_energy_j(chunk),))[0]
    return found


def cycles_traffic_and_energy(points: Points, spec: FuseMaxSpec, cascade: Cascade) -> tuple[Floats, Floats, Floats]:
    """Cycles, DRAM bytes and joules in one pass: what `evaluate` and `dynamic_energy_j` say of them."""
    check_policy(spec.binding.policy, placement := place(cascade, spec))
    found = by_chunk(points, spec, placement, 3, lambda chunk: (*chunk.cycles_and_dram_bytes(), _energy_j(chunk)))
    return found[0], found[1], found[2]


def area_um2(points: Points, spec: FuseMaxSpec) -> Floats:
    """Of both arrays and the buffer: arrays grow with their elements, columns and lanes."""
    arrays = {name: array.astype(np.float64) for name, array in points.arrays().items()}
    rows, columns, lanes = (arrays[name] for name in ("rows", "columns", "lanes"))
    one, two_rows = _array_area(spec, 1, 1), _array_area(spec, 2, 1)
    element, column = two_rows["array_2d"] - one["array_2d"], 2 * one["array_2d"] - two_rows["array_2d"]
    lane = _array_area(spec, 1, 2)["array_1d"] - one["array_1d"]
    buffer = _of_buffers(arrays["buffer_bytes"], arrays["row_bytes"], lambda *sizes: (energy.sram_area_um2(*sizes),))[0]
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
