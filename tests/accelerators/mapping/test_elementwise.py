"""Element-wise work by mappings: counted from its text by hand, over lanes, moved once or as often as it must be."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascadesim.accelerators.catalogue import load
from cascadesim.accelerators.energy import Actions, dynamic_energy_j
from cascadesim.accelerators.mapping.plan import plan_mapped
from cascadesim.accelerators.protocol import Plan
from cascadesim.accelerators.spec import MADE_OF, Operations, SpatialArray, in_classes_of
from cascadesim.einsum_cascades.models.lowering import elementwise
from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.einsum_cascades.notation.ir import Cascade
from cascadesim.einsum_cascades.texts import transformer
from cascadesim.simulator.engine.engine import run

CASCADES = (
    transformer.LAYER_NORM,
    transformer.RMS_NORM,
    transformer.RELU,
    transformer.GELU,
    transformer.GATED_SILU,
    transformer.ROTARY,
    transformer.RESIDUAL_ADD,
    transformer.GATED_RESIDUAL,
    transformer.SCALED_ADD,
    transformer.SOFTMAX_ROUTER,
)


def planned(text: Cascade, rows: int, width: int, spec: SpatialArray) -> Plan:
    return plan_mapped(elementwise("work", text, rows, width), spec, "physical")


def cycles(plan: Plan) -> dict[str, int]:
    """Einsum -> cycles on its unit."""
    return {part.name: part.cycles for phase in plan.phases for part in phase.activities}


def units(plan: Plan) -> dict[str, str]:
    return {part.name: part.unit for phase in plan.phases for part in phase.activities}


def useful(plan: Plan) -> dict[str, Mapping[str, int]]:
    return {part.name: dict(part.operations) for phase in plan.phases for part in phase.activities}


def test_a_residual_reads_two_tensors_and_writes_one(flat: SpatialArray) -> None:
    """256 rows of 100 on 256 lanes: one cycle per element of a row."""
    plan = planned(transformer.RESIDUAL_ADD, 256, 100, flat)
    assert cycles(plan) == {"Y": 100}
    assert useful(plan) == {"Y": {"add": 25600}}
    assert plan.traffic.read_bytes == 2 * 2 * 25600
    assert plan.traffic.write_bytes == 2 * 25600


def test_a_layer_norm_counts_as_its_text_says(flat: SpatialArray) -> None:
    """Per element of 256 rows on as many lanes: sum 1, difference 1, divide 1, scale and offset 2. Per row: a divide;
    then a divide, an addition and a square root of 3 macs and 2 divides. The square is a MAC, of which the 2D array
    does a column a cycle."""
    rows, width = 256, 50
    plan = planned(transformer.LAYER_NORM, rows, width, flat)
    assert {name: count for name, count in cycles(plan).items() if units(plan)[name] == "array_1d"} == {
        "SX": 50, "MU": 1, "C": 50, "SD": 7, "N": 50, "Y": 100}
    assert useful(plan)["SC"] == {"mac": rows * width}
    assert useful(plan)["SD"] == {"divide": rows, "add": rows, "sqrt": rows}, "as the text names them"
    assert plan.traffic.read_bytes == 2 * (rows * width + 2 * width)  # X once, G and B once for all rows


def test_an_exponential_takes_as_long_as_the_spec_says(fusemax: SpatialArray, flat: SpatialArray) -> None:
    """silu is x / (1 + exp(-x)): an exponential, an addition, a division."""
    assert cycles(planned(transformer.SILU, 256, 10, fusemax)) == {"Y": 10 * (6 + 1 + 1)}
    assert cycles(planned(transformer.SILU, 256, 10, flat)) == {"Y": 10 * (1 + 1 + 1)}


def test_a_unit_that_subtracts_saves_the_subtraction(array: Callable[..., SpatialArray]) -> None:
    """SN = exp(X - GM) of 8 elements a row: 2 cycles, or 1 where the exponential unit takes the difference (FLAT)."""
    plain = Operations(mac=1, add=1, max=1, exp=1, divide=1)
    fused = plain.model_copy(update={"exp_subtracts": True})
    found = [planned(transformer.SOFTMAX_ROUTER, 256, 8, array(operations_2d=Operations(mac=1), operations_1d=can))
             for can in (plain, fused)]
    assert [cycles(plan)["SN"] for plan in found] == [16, 8]


def test_one_long_row_lies_over_all_lanes(flat: SpatialArray) -> None:
    """1 row of 4096: 16 elements per lane."""
    plan = planned(transformer.RMS_NORM, 1, 4096, flat)
    assert cycles(plan)["N"] == 16
    assert "  array_1d [d over lanes]: SX; N; Y" in plan.mapping


def test_rows_that_fill_no_lanes_lie_across_them(flat: SpatialArray) -> None:
    """777 rows would leave a quarter of four rounds of 256 lanes idle; 10,240 channels leave none."""
    plan = load("flat").plan(elementwise("x", transformer.GELU, 777, 10240), "physical")
    busy, points = sum(cycles(plan).values()), 777 * 10240
    each = sum(sum(count for count in operations.values()) for operations in useful(plan).values()) / points
    assert busy <= 1.01 * each * points / 256


def test_rows_that_do_not_fit_are_read_in_every_pass(array: Callable[..., SpatialArray]) -> None:
    """A row of 1000 in a buffer of 1 KiB: an RMS norm walks it twice, 2 KiB hold it with room for what comes."""
    small, large = (planned(transformer.RMS_NORM, 20, 1000, array(16, capacity_bytes=size)) for size in (1024, 2**20))
    parameters_bytes = 2 * 1000
    assert small.traffic.read_bytes - parameters_bytes >= 2 * (large.traffic.read_bytes - parameters_bytes)
    assert large.traffic.read_bytes == 2 * 20 * 1000 + parameters_bytes


def test_work_in_one_pass_never_reads_twice(array: Callable[..., SpatialArray]) -> None:
    small, large = (planned(transformer.GELU, 20, 1000, array(16, capacity_bytes=size)) for size in (1024, 2**20))
    assert small.traffic == large.traffic


def test_operations_cost_energy(flat: SpatialArray) -> None:
    """An addition of two words that an element has not had: 2 reads and 3 writes of registers, 8.3395 pJ."""
    points = 64 * 64
    energy = planned(transformer.RESIDUAL_ADD, 64, 64, flat).dynamic_energy_j
    registers = dynamic_energy_j(Actions(register_reads_1d=2 * points, register_writes_1d=3 * points), flat)
    assert energy is not None
    assert energy["add_1d"] == pytest.approx(points * 8.3395e-12)
    assert energy["registers_1d"] == pytest.approx(registers["registers_1d"])
    assert energy["dram"] == pytest.approx(3 * points * 249.6e-12 / 4)


def test_a_short_row_lies_on_the_lanes_not_where_its_results_take_long_to_leave(fusemax: SpatialArray) -> None:
    """A row of 4,096: 16 cycles of 256 lanes; the 2D array is as fast but its results leave it 256 cycles later."""
    assert units(planned(transformer.RESIDUAL_ADD, 1, 4096, fusemax)) == {"Y": "array_1d"}


def test_the_publication_has_no_elementwise_work() -> None:
    plan = load("fusemax").plan(elementwise("norm", transformer.RMS_NORM, 64, 64), "artifact")
    assert (plan.phases, plan.mapping, plan.dynamic_energy_j) == ((), ("not part of the published accounting",), {})
    assert plan.traffic.total_bytes == 0


def test_what_no_unit_does_is_refused(array: Callable[..., SpatialArray]) -> None:
    spec = array(operations_2d=Operations(mac=1), operations_1d=Operations(mac=1, add=1))
    with pytest.raises(CascadeSimError, match=r"relu: Y: array_1d has no max; it has mac, add \(--set vector_array"):
        planned(transformer.RELU, 4, 4, spec)


@pytest.mark.slow
@settings(deadline=None, max_examples=40)
@given(
    st.sampled_from(CASCADES), st.integers(1, 300), st.integers(1, 600), st.sampled_from((2**12, 2**14, 2**22)),
    st.sampled_from((1.0, 400.0)),
)  # fmt: skip
def test_no_schedule_beats_the_closed_form(
    array: Callable[..., SpatialArray], text: Cascade, rows: int, width: int, capacity_bytes: int, gib_per_s: float
) -> None:
    spec = array(16, capacity_bytes=capacity_bytes, bandwidth_bytes_per_s=gib_per_s * 2**30)
    plan = planned(text, rows, width, spec)
    sizes = {"rd": rows * width, "r": rows, "d": width}
    accesses = [access for einsum in text.einsums for access in (einsum.output, *einsum.inputs)]
    ranks = {access.tensor: "".join(access.ranks) for access in accesses}
    assert plan.traffic.write_bytes >= 2 * sum(sizes[ranks[tensor]] for tensor in text.outputs)
    assert plan.traffic.read_bytes >= 2 * sum(sizes[ranks[tensor]] for tensor in text.inputs)
    for phase in plan.phases:
        assert phase.program is not None
        schedule = run(phase.program())
        assert schedule.cycles >= phase.analytical_cycles
        for activity in phase.activities:
            assert activity.cycles <= phase.analytical_cycles
            assert 0 < activity.occupancy <= 1


def test_what_has_no_unit_is_made_of_what_has() -> None:
    """A tangent is an exponential, an addition, a division and two products; an array that has one uses it."""
    array = Operations(mac=1, add=1, max=1, exp=6, exp_by="mac", divide=1)
    assert in_classes_of(array, {"tanh": 2, "mac": 1}, "here") == {"exp": 2, "add": 2, "mac": 5, "divide": 2}
    assert set(array.cycles) >= set(in_classes_of(array, dict.fromkeys(MADE_OF, 1), "here"))


HALF = 2.0**-11  # relative rounding of the 16-bit words


def test_two_newton_steps_make_a_square_root() -> None:
    """Seed: the line through sqrt at 1 and 4, raised halfway to the curve; then (y + x/y) / 2, twice."""
    x = np.linspace(1.0, 4.0, 10_001)
    line = (x + 2) / 3
    y = line * 1.03
    assert np.max(np.abs(y / np.sqrt(x) - 1)) < 0.04
    for _ in range(2):
        y = 0.5 * (y + x / y)
    assert np.max(np.abs(y / np.sqrt(x) - 1)) < HALF


def test_the_error_function_of_abramowitz_and_stegun_is_good_enough() -> None:
    x = np.linspace(0.0, 6.0, 10_001)
    t = 1 / (1 + 0.47047 * x)
    made = 1 - (0.3480242 * t - 0.0958798 * t**2 + 0.7478556 * t**3) * np.exp(-x * x)
    assert max(abs(value - math.erf(at)) for value, at in zip(made, x, strict=True)) < HALF


def test_a_tangent_is_exactly_an_exponential() -> None:
    x = np.linspace(-5.0, 5.0, 1001)
    assert np.allclose(1 - 2 / (np.exp(2 * x) + 1), np.tanh(x), rtol=1e-12)


def test_polynomials_of_five_and_six_make_sine_and_cosine() -> None:
    """After reduction to a quarter of a turn around 0."""
    x = np.linspace(-math.pi / 4, math.pi / 4, 10_001)
    square = x * x
    assert np.max(np.abs(x * (1 - square / 6 * (1 - square / 20)) - np.sin(x))) < HALF
    assert np.max(np.abs(1 - square / 2 * (1 - square / 12 * (1 - square / 30)) - np.cos(x))) < HALF


def test_a_logarithm_is_a_polynomial_of_the_mantissa() -> None:
    """Degree 5 fitted at Chebyshev points of [1, 2]; the exponent adds a whole number of ln 2."""
    points = 1.5 + 0.5 * np.cos(np.pi * (np.arange(6) + 0.5) / 6)
    coefficients = np.polyfit(points, np.log(points), 5)
    x = np.linspace(1.0, 2.0, 10_001)
    assert np.max(np.abs(np.polyval(coefficients, x) - np.log(x))) < HALF


def test_what_nothing_makes_is_refused() -> None:
    with pytest.raises(CascadeSimError, match="here: no unit does 'gamma'; it does mac, add"):
        in_classes_of(Operations(mac=1, add=1), {"gamma": 1}, "here")
