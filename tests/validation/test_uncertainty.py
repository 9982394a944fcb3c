"""What reports say of their own error is what the suites measure today."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascadesim.simulator.uncertainty import DEPTHS
from cascadesim.validation.uncertainty import CYCLE_LEVEL, FILE, measured, text, within


@pytest.mark.slow
def test_the_simulators_copy_is_current() -> None:
    """If not: python -m cascadesim.validation.uncertainty"""
    assert FILE.read_text(encoding="utf-8") == text(measured())


@given(st.lists(st.floats(min_value=1e-7, max_value=5.0), min_size=1, max_size=40), st.sampled_from([0.5, 0.9, 1.0]))
def test_what_is_said_of_a_share_of_the_rows_is_true_of_them(errors: list[float], share: float) -> None:
    said = within(errors, share)
    assert sum(error <= said * (1 + 1e-9) for error in errors) >= share * len(errors) - 1e-9
    assert said == float(f"{said:.2g}")
    assert said <= 1.1 * sorted(errors)[-1]


def test_half_and_nine_tenths_of_ten_errors() -> None:
    errors = [0.01 * number for number in range(1, 11)]
    assert (within(errors, 0.5), within(errors, 0.9), within(errors, 1.0)) == (0.05, 0.09, 0.1)
    assert within([0.0, 0.1234], 0.5) == 0.0
    assert within([0.1234], 0.9) == 0.13  # up, so that it stays true


@pytest.mark.slow
def test_strata_are_of_calls_and_say_what_they_span() -> None:
    for architecture, strata in measured().items():
        for one in strata:
            assert architecture in one.what
            assert one.rows >= (9 if one.fidelity == "cycle" and CYCLE_LEVEL not in one.what else 10)
            assert 0 <= one.latency <= one.p90 <= one.largest
            assert all(list(own) == sorted(own) for own in one.ranges.values())
            assert all(len(own) == 2 for name, own in one.ranges.items() if name not in DEPTHS)
            assert one.masks
            assert one.types
