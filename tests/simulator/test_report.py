"""A report is the JSON contract of design section 5, and nothing in it can fail to add up."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascadesim.einsum_cascades.models.workload import Workload
from cascadesim.simulator.report import SCHEMA, MemoryUse, Report, document
from cascadesim.simulator.simulate import simulate

if TYPE_CHECKING:
    from conftest import Toy


@pytest.fixture
def report(toy: Toy, tiny: Workload) -> Report:
    return simulate(tiny, toy, scope="attention")[0]


def test_json_has_the_names_of_the_contract(report: Report) -> None:
    content = document([report])
    assert content["schema"] == SCHEMA == "cascadesim.report/1"
    (found,) = content["reports"]  # type: ignore[misc]
    assert {
        "architecture", "workload", "attention", "scope", "phase", "fidelity", "accounting", "batch",
        "sequence_length", "clock_hz", "cycles", "latency_s", "dram_bytes", "energy_j", "area_um2", "utilization",
        "units", "einsums", "bound_by", "uncertainty",
    } <= set(found)  # fmt: skip
    assert found["dram_bytes"] == {"read": 128, "write": 16, "total": 144}
    assert found["energy_j"] == {"total": 3.0, "by_component": {"mac": 1.0, "dram": 2.0}}
    assert found["area_um2"] == {"total": 4e6, "array": 3e6, "buffer": 1e6}
    assert found["units"][0] == {"name": "array", "busy_cycles": 40, "stalled_cycles": 0, "idle_cycles": 3}
    assert found["utilization"] == {"array": 20 / 43, "dram": 12 / 43}
    assert found["einsums"][0]["operations"] == {"mac": 160}


def test_whole_numbers_stay_whole_and_absent_ones_are_null(report: Report) -> None:
    bare = replace(report, energy_j=None, area_um2=None, uncertainty=None)
    found = json.loads(json.dumps(document([bare])))["reports"][0]
    assert type(found["cycles"]) is type(found["dram_bytes"]["total"]) is int
    assert found["energy_j"] is found["area_um2"] is found["uncertainty"] is found["tokens_per_s"] is None


def test_memory_is_written_with_its_sum(report: Report) -> None:
    (written,) = document([replace(report, memory=MemoryUse(6, 5, 4, 3, 2, 1, 22))])["reports"]  # type: ignore[misc]
    assert written["memory_bytes"] == {
        "weights": 6, "kv": 5, "states": 4, "convolutions": 3, "activations": 2, "workspace": 1, "total": 21,
        "capacity": 22,
    }  # fmt: skip


@given(lost=st.integers(min_value=-50, max_value=50).filter(bool))
def test_a_unit_whose_cycles_do_not_add_up_is_refused(lost: int) -> None:
    from cascadesim.accelerators.protocol import Traffic
    from cascadesim.simulator.report import UnitTime

    unit = UnitTime("array", busy_cycles=60 + lost, stalled_cycles=10, idle_cycles=30, utilization=None)
    with pytest.raises(ValueError, match="does not account for 100 cycles"):
        Report("a", "w", None, "model", None, 1, 1, *([None] * 4), "prefill", "cycle", "physical", 1, 1, 1e9, 100, 1e-7,
               100, 0, 0, 0, Traffic(), None, None, (unit,), (), (), "array", None, None, None)  # fmt: skip
