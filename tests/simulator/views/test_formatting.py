"""Numbers as a person reads them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascadesim.simulator.views import output as say


@pytest.mark.parametrize(("text", "expected"), [
    (say.seconds(0.00201314), "2.013 ms"), (say.seconds(61.96), "61.96 s"), (say.seconds(40e-9), "40 ns"),
    (say.joules(12263.0), "12.26 kJ"), (say.joules(3.5e-5), "35 µJ"), (say.joules(0.0), "0 pJ"),
    (say.bytes_of(402653184), "384 MiB"), (say.bytes_of(144), "144 B"), (say.bytes_of(1.5 * 2**30), "1.500 GiB"),
    (say.hertz(940e6), "940 MHz"), (say.square_millimetres(1302951803.1), "1,303.0 mm²"),
    (say.count(51.54e9), "51.54 G"), (say.count(12), "12"), (say.whole(1892352), "1,892,352"),
    (say.percent(0.8896), "89.0%"), (say.percent(None), "–"), (say.rate(6602.7), "6,603"), (say.rate(27.59), "27.6"),
    (say.shares({"mac": 6.0, "dram": 4.0, "none": 0.0}), "60% mac, 40% dram"),
])  # fmt: skip
def test_a_quantity_reads(text: str, expected: str) -> None:
    assert text == expected


@pytest.mark.parametrize(("tokens", "text"), [(1024, "1K"), (2**20, "1M"), (3136, "3136"), (1, "1"), (1536, "1536")])
def test_lengths_read_as_the_command_line_takes_them(tokens: int, text: str) -> None:
    assert say.length(tokens) == text


@given(st.floats(min_value=1e-12, max_value=1e15))
def test_four_digits_are_kept(amount: float) -> None:
    number, unit = say.seconds(amount).split()
    size = {"s": 1, "ms": 1e-3, "µs": 1e-6, "ns": 1e-9}[unit]
    assert float(number.replace(",", "")) * size == pytest.approx(amount, rel=1e-3, abs=5e-13)
