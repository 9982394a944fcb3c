"""A machine, an attention operation, and what its plan takes: cycles of each unit, cycles at cycle level."""

from __future__ import annotations

from cascadesim.accelerators.catalogue import load
from cascadesim.accelerators.protocol import Plan
from cascadesim.accelerators.spatten.accelerator import Spatten
from cascadesim.einsum_cascades.models.operation import Operation
from cascadesim.einsum_cascades.texts.transformer import ATTENTION_3PASS
from cascadesim.simulator.engine.engine import run


def machine(name: str = "spatten-1-8", *changes: str) -> Spatten:
    found = load(name, changes)
    assert isinstance(found, Spatten)
    return found


def attention(heads: int, keys: int, queries: int = 1, group: int = 1, depth: int = 64, kept: int = 0) -> Operation:
    extents = {"b": 1, "h": heads, "g": group, "m": keys, "p": queries, "e": depth, "f": depth, "k": kept or keys}
    return Operation("attention", "attention", ATTENTION_3PASS, tuple(extents.items()))


def busy(plan: Plan) -> dict[str, int]:
    found: dict[str, int] = {}
    for one in plan.phases[0].activities:
        found[one.unit] = found.get(one.unit, 0) + one.cycles
    return found


def cycles(plan: Plan) -> int:
    (phase,) = plan.phases
    if phase.model is not None:
        return phase.model().run()
    assert phase.program is not None
    return run(phase.program()).cycles
