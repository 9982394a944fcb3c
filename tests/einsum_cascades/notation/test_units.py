"""Quantities with units: exact numbers, and a refusal for the unit of something else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascadesim.einsum_cascades.notation.errors import SpecError
from cascadesim.einsum_cascades.notation.schema import with_settings
from cascadesim.einsum_cascades.notation.units import number_of, unit_of


@pytest.mark.parametrize(("field", "text", "number"), [
    ("datasheet.dram_bytes_per_s", "6.7TB/s", 6_700_000_000_000), ("capacity_bytes", "8MiB", 8 * 2**20),
    ("capacity_bytes", "8MB", 8_000_000), ("capacity_bytes", "512B", 512), ("capacity_bytes", "1.5KiB", 1536),
    ("clock_hz", "1.83GHz", 1_830_000_000), ("clock_hz", "940 MHz", 940_000_000), ("clock_hz", "940e6", 940_000_000),
    ("launch_graph_s", "1.3us", 1.3e-6), ("launch_graph_s", "5µs", 5e-6), ("power_w", "0.7kW", 700),
    ("sequence_length", "64K", 65_536), ("max_context", "1M", 2**20), ("energy_pj_per_bit", "3.9pJ/bit", 3.9),
    ("rows", "1e3", 1000), ("shared_memory_bytes_per_clock", "128B/clock", 128), ("clock_hz", "-1GHz", -1_000_000_000),
])  # fmt: skip
def test_a_quantity_is_a_number_in_the_unit_of_its_field(field: str, text: str, number: float) -> None:
    found = number_of(text, field)
    assert found == number
    assert isinstance(found, int) == isinstance(number, int)


@pytest.mark.parametrize(("field", "text"), [
    ("clock_hz", "940_000_000.0"), ("clock_hz", "fast"), ("layout", "30x48x80"), ("dtype", "int4"), ("rows", "1K"),
    ("pruning", "none"), ("clock_hz", ""), ("compute_capability", "9.0a"), ("clock_hz", "1" * 41 + "e1"),
])  # fmt: skip
def test_what_is_no_quantity_is_left_to_yaml(field: str, text: str) -> None:
    assert number_of(text, field) is None


@pytest.mark.parametrize(("field", "text"), [
    ("dram_bytes_per_s", "6.7TB"), ("dram_bytes_per_s", "6.7GHz"), ("capacity_bytes", "8M"), ("clock_hz", "1.83G"),
    ("clock_hz", "5mHz"), ("sequence_length", "64Ki"), ("launch_s", "1ks"), ("capacity_bytes", "8mB"),
    ("clock_hz", "1e999"),
])  # fmt: skip
def test_the_unit_of_something_else_is_refused(field: str, text: str) -> None:
    with pytest.raises(SpecError, match=f"--set {field}={text}: is in .*; give a value such as "):
        number_of(text, field)


def test_a_unit_is_the_end_of_a_name_and_a_whole_word_of_it() -> None:
    assert unit_of("link.bytes_per_s") == "B/s"
    assert unit_of("sms") is None
    assert unit_of("formats.low_bit_share") is None


def test_settings_of_files_take_them() -> None:
    changed = with_settings({"dram": {"bandwidth_bytes_per_s": 1.0}}, ["dram.bandwidth_bytes_per_s=400GiB/s"])
    assert changed == {"dram": {"bandwidth_bytes_per_s": 400 * 2**30}}


@given(st.text(max_size=12), st.sampled_from(["clock_hz", "capacity_bytes", "sequence_length", "rows", "x_s"]))
def test_any_text_is_a_number_left_alone_or_refused(text: str, field: str) -> None:
    try:
        found = number_of(text, field)
    except SpecError:
        return
    assert found is None or isinstance(found, int | float)


@given(st.integers(0, 10**6), st.sampled_from([("B", 1), ("kB", 10**3), ("KiB", 2**10), ("TB", 10**12)]))
def test_prefixes_are_exact(amount: int, unit: tuple[str, int]) -> None:
    assert number_of(f"{amount}{unit[0]}", "capacity_bytes") == amount * unit[1]
