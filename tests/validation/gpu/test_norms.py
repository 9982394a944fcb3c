"""What reports of whole models say of norms and activations is what the suite measures."""

from __future__ import annotations

import numpy as np
import pytest

from cascadesim.accelerators.catalogue import load
from cascadesim.accelerators.gpu.batch import elementwise_seconds
from cascadesim.accelerators.gpu.explain import ENGINE_OVER_MODEL
from cascadesim.einsum_cascades.models.workload import load_workload
from cascadesim.simulator.simulate import simulate
from cascadesim.validation.gpu.layouts import Floats, Shapes
from cascadesim.validation.gpu.model import device, predicted_s
from cascadesim.validation.gpu.selections import RowSelection, own_shapes
from cascadesim.validation.suites import find_suites

DEVICES = ("a100-sxm", "a40", "h100-sxm")


def plain_s(rows: Shapes) -> Floats:
    """(rows,) float64, seconds as a plan of a model prices them: kernels that load vectors."""
    result = rows.m * rows.n * rows.dtype_bytes
    return elementwise_seconds(device(str(rows.device[0])), read_bytes=rows.bytes - result, write_bytes=result,
                               warm=False)  # fmt: skip


@pytest.mark.parametrize("operation", ["layernorm", "mlp_act"])
def test_the_note_gives_the_median_of_measured_over_predicted(operation: str) -> None:
    rows = own_shapes(RowSelection(("vidur-linear",)))
    found = rows.at((rows.operation == operation) & (rows.scored == "scored"))
    plain = np.concatenate([plain_s(found.at(found.device == name)) for name in DEVICES])
    found = found.at(np.concatenate([np.flatnonzero(found.device == name) for name in DEVICES]))
    ratio = float(np.median(found.latency_s / plain))
    assert ratio == pytest.approx(ENGINE_OVER_MODEL[operation], abs=0.05)
    on_a100 = found.device == DEVICES[0]
    expected = {"layernorm": 2.5, "mlp_act": 1.8}[operation]
    assert float(np.median((found.latency_s / plain)[on_a100])) == pytest.approx(expected, abs=0.05)


@pytest.mark.parametrize(("operation", "mean"), [("layernorm", 0.25), ("mlp_act", 0.22)])
def test_loads_one_at_a_time_explain_most_of_it(operation: str, mean: float) -> None:
    rows = own_shapes(RowSelection(("vidur-linear",)))
    found = rows.at((rows.operation == operation) & (rows.scored == "scored"))
    assert np.mean(np.abs(predicted_s(found) / found.latency_s - 1)) < mean


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
