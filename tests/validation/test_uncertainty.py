"""What reports say of their own error is what the suites measure today."""

from __future__ import annotations

import pytest

from cascadesim.validation.uncertainty import file, measured, text


@pytest.mark.slow
def test_the_simulators_copy_is_current() -> None:
    """If not: python -m cascadesim.validation.uncertainty"""
    assert file().read_text(encoding="utf-8") == text(measured())


@pytest.mark.slow
def test_each_figure_names_its_suite_and_rows() -> None:
    for entry in measured().values():
        known = (
            "validation suite fusemax-cycle, attention, ",
            "validation suite spatten-rtl-streams, single queries, ",
            "validation suites gpu-*, attention and products of ",
        )
        assert str(entry["basis"]).startswith(known)
        assert isinstance(entry["latency"], float)
        assert 0 <= entry["latency"] < (0.2 if "gpu-*" in str(entry["basis"]) else 0.06)
