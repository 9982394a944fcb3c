"""A toy accelerator whose every figure can be worked out by hand, and the smallest model there is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pytest

from cascadesim.accelerators.program import After, Program, Task, TileRun
from cascadesim.accelerators.protocol import Accounting, Capabilities, EinsumActivity, Phase, Plan, Traffic, Unit
from cascadesim.einsum_cascades.models.operation import Operation
from cascadesim.einsum_cascades.models.workload import Workload, workload_from
from cascadesim.simulator import execution

TILES = 4
LOAD_CYCLES = 3
COMPUTE_CYCLES = 10


@dataclass(frozen=True)
class Toy:
    """Every operation is 4 tiles: 3 cycles on `dram`, then 10 on `array`, where half of the lanes work.

    So each takes 4 x 10 cycles in the closed form and 3 (fill) + 4 x 10 at cycle level; it reads 4 x 32 bytes,
    writes 16 and burns 1 J in `mac` and 2 J in `dram`. One GHz.
    """

    name: str = "toy"
    clock_hz: float = 1e9
    attention: str = "attention-1pass"
    leakage_w: float = 0.0
    energetic: bool = True
    closed_form_cycles: int = TILES * COMPUTE_CYCLES

    @property
    def units(self) -> tuple[Unit, ...]:
        return (Unit("array", 4), Unit("dram"))

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities()

    def area_um2(self) -> Mapping[str, float] | None:
        return {"array": 3e6, "buffer": 1e6}

    def plan(self, operation: Operation, accounting: Accounting) -> Plan:
        compute = EinsumActivity("QK", "array", TILES * COMPUTE_CYCLES, {"mac": 160}, occupancy=0.5)
        load = EinsumActivity("load", "dram", TILES * LOAD_CYCLES)
        closed_form = self.closed_form_cycles + (0.5 if accounting == "artifact" else 0)
        phase = Phase("all", (compute, load), Traffic(TILES * 32, 16), closed_form,
                      program if accounting == "physical" else None)  # fmt: skip
        energy = {"mac": 1.0, "dram": 2.0} if self.energetic else None
        return Plan(operation, accounting, ("4 tiles, one after another",), (phase,), energy)


def program() -> Program:
    tasks = (Task("load", "dram"), Task("QK", "array", after=(After("load"),)))
    return Program(tasks, ((LOAD_CYCLES, COMPUTE_CYCLES),), (TileRun(0, TILES),))


def tiny_workload(**changes: object) -> Workload:
    """Two causal layers: width 8, one head, 16 tokens, batch 2."""
    content = {
        "name": "tiny", "kind": "decoder", "source": "made up", "certainty": "certain", "batch": 2,
        "sequence_length": 16, "hidden": 8, "vocabulary": 32, "norm": "rms", "attention": {"heads": 1, "head_dim": 8},
        "ffn": {"width": 16, "activation": "gelu"}, "layers": {"decoder": {"count": 2, "mask": "causal"}},
    }  # fmt: skip
    return workload_from({**content, **changes}, "tiny.yaml")


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> Toy:
    """Its figures are made up, so that its plans are no plans of the operations they are given for: not checked."""
    monkeypatch.setattr(execution, "checked", lambda plan, _: plan)
    return Toy()


@pytest.fixture
def tiny() -> Workload:
    return tiny_workload()


@pytest.fixture
def two_kinds() -> Workload:
    """A model with a sliding and a global layer: one report for each in scope attention."""
    layers = {"sliding": {"count": 3, "mask": "causal", "window": 4}, "global": {"count": 1, "mask": "causal"}}
    return tiny_workload(name="two-kinds", layers=layers)
