"""Columns of FuseMax designs: which work they cover, and which designs cannot be."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from cascadesim.accelerators.catalogue import QUANTITIES, Evaluator, find_evaluator
from cascadesim.accelerators.fusemax.accelerator import FuseMax
from cascadesim.einsum_cascades.models.operation import Operation
from cascadesim.einsum_cascades.sparsity.masks import CAUSAL

Make = Callable[..., Operation]
Design = Callable[..., FuseMax]


@pytest.fixture
def evaluator(attention: Make, design: Design) -> Evaluator:
    """BERT at 1K."""
    found = find_evaluator("fusemax", design(), [attention(1024, 1024, 64, 64, b=64, h=12)])
    assert found is not None
    return found


def test_two_clocks(evaluator: Evaluator) -> None:
    """12288 tiles of 154 cycles; the same energy, traffic and area at any clock."""
    found = evaluator({"clock_hz": np.array([9.4e8, 1.88e9])})
    assert set(found) == set(QUANTITIES)
    assert found["latency_s"].tolist() == [12_288 * 154 / 9.4e8, 12_288 * 154 / 1.88e9]
    for name in ("energy_j", "dram_bytes", "area_um2"):
        assert found[name][0] == found[name][1] > 0


def test_fields_without_a_column_form_are_taken_in_groups(evaluator: Evaluator) -> None:
    """More registers: the same time, more area; a serial array exposes drains, so it takes longer."""
    registers, policy = np.array([12, 128, 12]), np.array(["epochs", "epochs", "serial"])
    found = evaluator({"pe_array.register_words_per_pe": registers, "binding.policy": policy})
    first, larger, serial = found["latency_s"]
    assert first == larger < serial
    assert found["area_um2"][0] == found["area_um2"][2] < found["area_um2"][1]


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("pe_array.rows", [256.0, 85.5]),
        ("global_buffer.capacity_bytes", [2**24, 256]),  # shorter than a row
        ("global_buffer.capacity_bytes", [2**24, 514]),  # holds no query tile
        ("global_buffer.ports", [4, 0]),
        ("binding.policy", ["epochs", "interleave"]),  # which needs in_flight
    ],
)
def test_designs_that_cannot_be_have_no_figures(evaluator: Evaluator, field: str, values: list[object]) -> None:
    found = evaluator({field: np.array(values)})
    for name in QUANTITIES:
        assert np.isfinite(found[name]).tolist() == [True, False]


def test_a_text_is_no_size(evaluator: Evaluator) -> None:
    assert np.isnan(evaluator({"clock_hz": np.array(["fast"])})["latency_s"]).all()


def test_masks_and_other_work_are_for_the_scalar_plan(attention: Make, design: Design) -> None:
    assert find_evaluator("fusemax", design(), [attention(1024, 1024, 64, 64, mask=CAUSAL)]) is None


def test_an_accelerator_may_have_none(design: Design) -> None:
    assert find_evaluator("flat", design(), []) is None
