"""Reports carry the error that the validation suites measured, where they did."""

from __future__ import annotations

from cascadesim.accelerators import catalogue
from cascadesim.einsum_cascades.workload import Workload
from cascadesim.simulator.simulate import Request, reports
from cascadesim.simulator.uncertainty import _measured, uncertainty_of


def test_an_architecture_that_was_compared_has_an_error_and_its_basis(tiny: Workload) -> None:
    found = uncertainty_of("fusemax")
    assert found is not None
    assert 0 < found.latency < 0.05
    assert "validation suite" in found.basis
    (report,) = reports(Request(tiny, catalogue.load("fusemax"), scope="attention"))
    assert report.uncertainty == found


def test_others_have_none() -> None:
    assert uncertainty_of("mine.yaml") is None


def test_a_changed_design_was_not_compared(tiny: Workload) -> None:
    changed = catalogue.load("fusemax", ["binding.policy=serial"])
    (report,) = reports(Request(tiny, changed, scope="attention", settings=("binding.policy=serial",)))
    assert report.uncertainty is None
    assert report.notes == ("set binding.policy=serial",)


def test_only_architectures_that_exist_are_in_the_file() -> None:
    assert set(_measured()) <= set(catalogue.preset_names())
