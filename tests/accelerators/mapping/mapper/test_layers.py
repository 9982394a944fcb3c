"""Operations of a model by search beside the arrays' own plans for them: no slower, and no more words where as fast."""

from __future__ import annotations

import pytest

from cascadesim.accelerators.catalogue import load
from cascadesim.accelerators.mapping.plan import plan_mapped
from cascadesim.accelerators.protocol import Plan
from cascadesim.einsum_cascades.models.operation import Operation, OperationKind
from cascadesim.einsum_cascades.texts import find
from cascadesim.simulator.execution import execute


def plans(arch: str, kind: OperationKind, text: str, sizes: dict[str, int]) -> tuple[Plan, Plan]:
    """By search, and the array's own."""
    machine = load(arch)
    operation = Operation(text, kind, find(text), tuple(sizes.items()))
    return plan_mapped(operation, machine.spec, "physical"), machine.plan(operation, "physical")  # type: ignore[attr-defined]


def cycles(plan: Plan) -> float:
    return sum(phase.analytical_cycles for phase in plan.phases)


def dram_bytes(plan: Plan) -> float:
    return sum(phase.traffic.total_bytes for phase in plan.phases)


@pytest.mark.parametrize(("arch", "text", "rows", "depth"), [
    ("fusemax", "unit-norm", 12432, 128),  # rows are shorter than the lanes are many: several side by side
    ("fusemax", "softmax-router", 1000, 32),
    ("flat-edge", "rms-norm", 4096, 4096),  # 32 rows do not fit twice, 15 do
    ("fusemax", "rms-norm", 1, 4096),  # drains are longer than the work
    ("flat-edge", "rms-norm", 1, 2880),
    ("fusemax", "rotary", 3108, 32),
])  # fmt: skip
def test_rows_are_no_slower_than_by_the_arrays_own_plan(arch: str, text: str, rows: int, depth: int) -> None:
    found, own = plans(arch, "elementwise", text, {"r": rows, "d": depth})
    assert cycles(found) <= cycles(own) * (1 + 1e-9)
    assert execute(found, "cycle").cycles <= 1.02 * execute(own, "cycle").cycles  # fill of larger tiles
    assert dram_bytes(found) <= dram_bytes(own)


@pytest.mark.parametrize(("arch", "sizes"), [
    ("fusemax", {"r": 4096, "k": 4096, "n": 14336, "x": 1}),
    pytest.param("flat-edge", {"r": 65536, "k": 768, "n": 3072, "x": 1}, marks=pytest.mark.slow),
])  # fmt: skip
def test_a_product_as_fast_as_by_the_own_plan_moves_no_more_words(arch: str, sizes: dict[str, int]) -> None:
    """The own plan replaces a block of rows tile by tile; two whole blocks would be half as long."""
    found, own = plans(arch, "linear", "linear", sizes)
    assert cycles(found) == cycles(own)
    assert dram_bytes(found) <= dram_bytes(own)
