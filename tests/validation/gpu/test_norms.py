"""What reports of whole models say of norms and activations is what the suite measures."""

from __future__ import annotations

import numpy as np
import pytest

from cascadesim.accelerators.catalogue import load
from cascadesim.accelerators.gpu.explain import ENGINE_OVER_MODEL
from cascadesim.einsum_cascades.models.workload import load_workload
from cascadesim.simulator.simulate import simulate
from cascadesim.validation.gpu.model import predicted_s
from cascadesim.validation.gpu.selections import RowSelection, own_shapes
from cascadesim.validation.suites import find_suites


@pytest.mark.parametrize("operation", ["layernorm", "mlp_act"])
def test_the_note_gives_the_median_of_measured_over_predicted(operation: str) -> None:
    rows = own_shapes(RowSelection(("vidur-linear",)))
    found = rows.at((rows.operation == operation) & (rows.scored == "scored"))
    ratio = float(np.median(found.latency_s / predicted_s(found)))
    assert ratio == pytest.approx(ENGINE_OVER_MODEL[operation], abs=0.05)
    on_a100 = found.at(found.device == "a100-sxm")
    expected = {"layernorm": 2.6, "mlp_act": 1.8}[operation]
    assert float(np.median(on_a100.latency_s / predicted_s(on_a100))) == pytest.approx(expected, abs=0.05)


def test_engines_norms_and_activations_have_claims_of_their_own() -> None:
    (suite,) = find_suites(["gpu-ops"])
    names = [claim.name for claim in suite.claims if claim.where.get("source") == ("vidur",)]
    assert [name.partition(" of a serving engine")[0] for name in names] == [
        "norms", "gated activations", "residual sums",
    ]


def test_whole_models_say_it_and_attention_alone_does_not() -> None:
    bert, machine = load_workload("bert"), load("h100-sxm")
    whole = simulate(bert, machine, scope="model", fidelity="analytical", batch=1)[0]
    assert any(note.startswith("norms and activations are priced as one kernel") for note in whole.notes)
    alone = simulate(bert, machine, scope="attention", fidelity="analytical", batch=1)[0]
    assert not any("norms" in note for note in alone.notes)
