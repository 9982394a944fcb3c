"""What a preset may say about an array, and how a wrong one is answered."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from cascadesim.accelerators.spec import Buffer, Operations, SpatialArray
from cascadesim.einsum_cascades.notation.errors import SpecError
from cascadesim.einsum_cascades.notation.schema import parse_yaml, validate

YAML = """
architecture: some
clock_hz: 940_000_000
word_bytes: 2
pe_array: {rows: 32, columns: 16, register_words_per_pe: 8, operations: {mac: 1}}
vector_array: {lanes: 16, register_words_per_lane: 8, operations: {mac: 1, exp: 6, exp_by: mac}}
global_buffer: {capacity_bytes: 65536, row_bytes: 32, ports: 2}
dram: {bandwidth_bytes_per_s: 9.4e+9}
"""


def read(**changes: Any) -> SpatialArray:
    """The array of YAML with `group__field` replaced."""
    content = parse_yaml(YAML, "some.yaml")
    for path, value in changes.items():
        *groups, field = path.split("__")
        inner = content
        for group in groups:
            inner = inner[group]
        inner[field] = value
    return validate(SpatialArray, content, "some.yaml")


def test_an_array_knows_its_sizes() -> None:
    spec = read()
    assert spec.pe_array.elements == 512
    assert spec.buffer_words == 32768
    assert spec.dram_bytes_per_cycle == pytest.approx(10.0)  # 9.4e9 bytes per second at 940 MHz


def test_operations_are_those_that_are_given() -> None:
    assert Operations(mac=1, exp=6, exp_by="mac").cycles == {"mac": 1, "exp": 6}
    assert Operations().cycles == {}


def test_bytes_per_cycle_follow_the_clock() -> None:
    assert read(clock_hz=5e8, dram__bandwidth_bytes_per_s=1e9).dram_bytes_per_cycle == 2.0


def test_a_spec_is_frozen() -> None:
    with pytest.raises(ValidationError):
        read().word_bytes = 4  # type: ignore[misc]


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"pe_array__rows": 0}, "some.yaml: pe_array.rows: should be greater than 0 (got 0)"),
        ({"pe_array__rows": -4}, "some.yaml: pe_array.rows: should be greater than 0 (got -4)"),
        ({"pe_array__rows": 2.5}, "some.yaml: pe_array.rows: should be a valid integer"),
        ({"word_bytes": "two"}, "some.yaml: word_bytes: should be a valid integer (got 'two')"),
        ({"word_bytes": True}, "some.yaml: word_bytes: should be a valid integer (got True)"),
        ({"clock_hz": "940e6"}, "YAML reads this as text: write 940_000_000"),
        ({"clock_hz": float("inf")}, "some.yaml: clock_hz: should be less than or equal to 100000000000"),
        ({"clock_hz": 1.0}, "some.yaml: clock_hz: should be greater than or equal to 1000000"),
        ({"dram": 5}, "some.yaml: dram: "),
        ({"global_buffer__row_bytes": 131072}, "row_bytes (131072) exceed capacity_bytes (65536)"),
        ({"vector_array__operations": {"exp": 6, "exp_by": "mac"}}, "exp_by: mac needs the operation mac"),
        ({"vector_array__operations__exp_by": "magic"}, "vector_array.operations.exp_by: should be 'mac' or 'unit'"),
        ({"clock_mhz": 940}, "some.yaml: clock_mhz: unknown field; did you mean 'clock_hz'?"),
        ({"dram__bandwith_bytes_per_s": 1.0}, "unknown field; did you mean 'bandwidth_bytes_per_s'?"),
        ({"leakage_w_per_um2": -1.0}, "some.yaml: leakage_w_per_um2: should be greater than or equal to 0"),
    ],
)
def test_a_wrong_field_is_named_with_what_is_allowed(changes: dict[str, Any], problem: str) -> None:
    with pytest.raises(SpecError) as caught:
        read(**changes)
    assert problem in str(caught.value)


def test_all_problems_are_told_at_once() -> None:
    with pytest.raises(SpecError) as caught:
        read(pe_array__rows=0, word_bytes=-1, clock_mhz=940)
    assert len(str(caught.value).splitlines()) == 3


def test_a_missing_group_is_told() -> None:
    content = parse_yaml(YAML, "some.yaml")
    del content["dram"]
    with pytest.raises(SpecError, match=r"some\.yaml: dram: missing"):
        validate(SpatialArray, content, "some.yaml")


def test_a_buffer_of_one_row_is_allowed() -> None:
    assert Buffer(capacity_bytes=64, row_bytes=64, ports=1).capacity_bytes == 64
