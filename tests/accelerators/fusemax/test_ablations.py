"""Each quirk of the published accounting moves the energy as far as it should: comparisons that could fail.

Figures: reproduction of micro24-fusemax-artifact (commit f543beb) by an independent script, 24 rows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from cascadesim.accelerators.energy import dynamic_energy_j
from cascadesim.accelerators.fusemax.accelerator import FuseMax, depths_of, shape_of
from cascadesim.accelerators.fusemax.actions import PHYSICAL, Nests, Rules, actions, artifact_rules, count
from cascadesim.accelerators.fusemax.spec import place
from cascadesim.accelerators.spatial.attention_tiles import map_tiles
from cascadesim.einsum_cascades.models.operation import Operation

Make = Callable[..., Operation]
Design = Callable[..., FuseMax]
LENGTHS = [1024, 4096, 16_384, 65_536, 262_144, 1_048_576]


def energy_j(accelerator: FuseMax, operation: Operation, rules: Rules) -> float:
    spec, depths = accelerator.spec, depths_of(operation)
    placement = place(operation.cascade, spec)
    words = placement.resident_words(depths, spec.pe_array.rows)
    capacity = spec.published.resident_capacity_bytes
    tiles = map_tiles(shape_of(operation), spec, words, capacity, whole_groups=True)
    nests = Nests(placement, tiles, depths, None)
    return sum(dynamic_energy_j(actions(count(nests, rules), nests, rules), spec).values())


def ratios(accelerator: FuseMax, model: Make, **changes: object) -> list[float]:
    """Energy with `changes` against the published accounting, for every model and length."""
    rules = artifact_rules(accelerator.spec.published)
    changed = replace(rules, **changes)  # type: ignore[arg-type]
    return [
        energy_j(accelerator, operation, changed) / energy_j(accelerator, operation, rules)
        for operation in (model(name, length) for name in ("BERT", "TrXL", "T5", "XLM") for length in LENGTHS)
    ]


@pytest.mark.parametrize(("preset", "most"), [("fusemax", 0.0052), ("fusemax-cascade", 0.071)])
def test_without_64_bit_products_energy_is_lower_for_long_sequences(
    preset: str, most: float, model: Make, design: Design
) -> None:
    found = ratios(design(preset), model, wrap64=False)
    assert max(found) == pytest.approx(1.0)  # short sequences do not wrap
    assert 1 - min(found) == pytest.approx(most, rel=0.02)  # published to two digits


def test_charging_the_exponentials_of_the_cascade_adds_3_percent(model: Make, design: Design) -> None:
    found = ratios(design("fusemax-cascade"), model, charges_exponentials=True)
    assert sum(found) / len(found) - 1 == pytest.approx(0.030, abs=0.0005)
    assert max(found) - 1 == pytest.approx(0.035, abs=0.0005)


def test_counting_every_register_file_multiplies_the_energy(model: Make, design: Design) -> None:
    """By 1.63 to 1.68, with the registers of the 1D array counted too and no products of 64 bits."""
    found = ratios(design(), model, registers="all", wrap64=False)
    assert 1.62 < min(found) < max(found) < 1.69


def test_the_published_schedules_cost_the_same_energy(model: Make, design: Design) -> None:
    """Leakage is never charged, so a run three times as long costs nothing."""
    operation = model("BERT", 4096)
    plans = [design(preset).plan(operation, "artifact") for preset in ("fusemax", "fusemax-architecture")]
    assert plans[0].dynamic_energy_j == plans[1].dynamic_energy_j


def test_physical_accounting_is_the_ablations_together(model: Make, design: Design) -> None:
    """All registers, no wrap, and running sums that carry their key tile."""
    accelerator, operation = design(), model("BERT", 4096)
    plan = accelerator.plan(operation, "physical")
    assert plan.dynamic_energy_j is not None
    assert sum(plan.dynamic_energy_j.values()) == pytest.approx(energy_j(accelerator, operation, PHYSICAL), rel=1e-12)
