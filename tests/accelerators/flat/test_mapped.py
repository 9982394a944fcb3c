"""A mapping that is found on FLAT's own array, beside the dataflow that FLAT's own search published: 48 rows.

Both in the closed form of the array. A mapping may fuse all of the softmax and keep K and V, which no published
dataflow does; what it spills goes to DRAM whole, where a dataflow may spill a share.
"""

from __future__ import annotations

import pytest

from cascadesim.accelerators.catalogue import load
from cascadesim.accelerators.flat.accelerator import Flat
from cascadesim.accelerators.flat.search import published_dataflows
from cascadesim.accelerators.mapping.plan import searched
from cascadesim.einsum_cascades.models.operation import Operation
from cascadesim.einsum_cascades.models.workload import load_workload
from cascadesim.einsum_cascades.texts import find

TEXT = find("attention-3pass")
ROWS = [(side, head_size, length) for side, _, head_size, length in published_dataflows()]


def times_as_long(side: int, head_size: int, length: int) -> float:
    """Cycles of the mapping that is found by those of the published dataflow, for one head."""
    machine = load("flat" if side == 256 else "flat-edge")
    assert isinstance(machine, Flat)
    sizes = {"b": 1, "h": 1, "g": 1, "m": length, "p": length, "e": head_size, "f": head_size}
    operation = Operation("attention", "attention", TEXT, tuple(sizes.items()))
    published = machine.published_plan(operation)
    assert published is not None
    assert any("as FLAT's own search published it" in line for line in published.mapping)
    found = searched(TEXT, operation.extents, machine.spec)
    return found.cycles / published.phases[0].analytical_cycles


def test_there_is_a_row_for_each_array_head_size_and_length() -> None:
    lengths = [512 << doubled for doubled in range(12)]
    assert sorted(ROWS) == [(side, depth, length) for side in (32, 256) for depth in (64, 128) for length in lengths]


@pytest.mark.slow
@pytest.mark.parametrize("row", [
    (256, 64, 1024), (256, 64, 32768), (256, 128, 16384), (256, 128, 65536),
    (32, 64, 512), (32, 64, 2048), (32, 64, 4096), (32, 128, 2048), (32, 128, 131072),
])
def test_a_mapping_is_never_slower_than_the_published_dataflow(row: tuple[int, int, int]) -> None:
    """32,768 keys: K, V and a block of rows fit 32 MiB where the block has fewer rows than the array.

    65,536 keys, and 2,048 on 512 KiB: rows of scores stay, and K and V pass by in slices. 4,096 and more on 512 KiB:
    scores and weights, or numerators, go to DRAM and come back, and the softmax runs beside the products.
    """
    assert times_as_long(*row) <= 1 + 1e-9


@pytest.mark.nightly
@pytest.mark.parametrize("row", ROWS)
def test_a_mapping_is_never_slower_in_any_of_the_48_rows(row: tuple[int, int, int]) -> None:
    assert times_as_long(*row) <= 1 + 1e-9


@pytest.mark.parametrize(("name", "together"), [("unfused", 1), ("flat", 9)])
def test_an_array_that_fuses_nothing_maps_each_einsum_by_itself(name: str, together: int) -> None:
    """Two passes have nine Einsums that compute, of which no published plan of either array says anything."""
    (operation,) = load_workload("bert").operations(
        sequence_length=256, batch=1, scope="attention", attention="attention-2pass")  # fmt: skip
    phases = load(name).plan(operation, "physical").phases
    assert len(phases) == 9 // together
    assert all(len({each.name for each in phase.activities if each.unit.startswith("array")}) == together
               for phase in phases)
