"""Arrays that work fold by fold: SCALE-Sim's cycles of products, and what may stay in the elements."""

from __future__ import annotations

import pytest

from cascadesim.accelerators.catalogue import load
from cascadesim.accelerators.mapped_array.accelerator import MappedArray
from cascadesim.accelerators.mapping.legality import IllegalMapping
from cascadesim.accelerators.mapping.plan import given, searched
from cascadesim.accelerators.mapping.schedule.program import program
from cascadesim.accelerators.mapping.text import parse_mapping
from cascadesim.einsum_cascades.models.operation import Operation
from cascadesim.einsum_cascades.texts import find
from cascadesim.simulator.engine.engine import run

LINEAR = find("linear")
# M x N x K; outputs stationary: ceil(M/32) ceil(N/32) folds of 32 + 32 + K - 2, weights: ceil(K/32) ceil(N/32) of
# 64 + 32 + M - 2; one cycle less in all
PRODUCTS = {
    (256, 256, 256): (64 * 318 - 1, 64 * 350 - 1),
    (1024, 1024, 64): (1024 * 126 - 1, 64 * 1118 - 1),
    (1024, 64, 1024): (64 * 1086 - 1, 64 * 1118 - 1),
    (512, 512, 512): (256 * 574 - 1, 256 * 606 - 1),
    (100, 70, 50): (12 * 112 - 1, 6 * 194 - 1),
    (1, 1024, 1024): (32 * 1086 - 1, 1024 * 95 - 1),
    (128, 768, 768): (96 * 830 - 1, 576 * 222 - 1),
}
TEXT = """mapping mine for linear
for top:
  array_2d [k over rows, n over columns]: Z for r
  keep A, W in global_buffer at top
  overlap serial
"""


def array(name: str) -> MappedArray:
    found = load(name, ())
    assert isinstance(found, MappedArray)
    return found


@pytest.mark.parametrize("sizes", PRODUCTS, ids=lambda sizes: "x".join(map(str, sizes)))
@pytest.mark.parametrize(("name", "which"), [("systolic-os-32", 0), ("systolic-ws-32", 1)])
def test_a_product_takes_the_cycles_of_its_folds(name: str, which: int, sizes: tuple[int, int, int]) -> None:
    found = searched(LINEAR, tuple(zip("rnk", sizes, strict=True)), array(name).spec)
    assert found.cycles == PRODUCTS[sizes][which]
    (group,) = found.groups
    made = program(group)
    assert made.busy_cycles()["Z"] == found.cycles
    assert found.cycles <= run(made).cycles <= 1.004 * found.cycles  # the first load and the last store beside it


def test_only_what_stays_lies_in_space() -> None:
    text = parse_mapping(TEXT)
    extents = tuple(dict.fromkeys("rnk", 64).items())
    (group,) = given(text, LINEAR, extents, array("systolic-ws-32").spec).groups
    assert group.busy_cycles["array_2d"] == 4 * (64 + 94) - 1
    with pytest.raises(IllegalMapping, match="Z: what stays in the elements of array_2d has no k; it is of n, r"):
        given(text, LINEAR, extents, array("systolic-os-32").spec)


def test_layers_run_fold_by_fold() -> None:
    """Not by the model of other arrays, in which folds overlap."""
    found = array("systolic-os-32")
    plan = found.plan(Operation("layer", "linear", LINEAR, (("r", 64), ("n", 64), ("k", 64), ("x", 3))), "physical")
    assert [activity.cycles for phase in plan.phases for activity in phase.activities] == [3 * (4 * (64 + 62) - 1)]
