"""Element-wise work: counted from its text by hand, laid over the lanes, moved once or as often as it must be."""

from __future__ import annotations

import math
from collections.abc import Callable
from math import ceil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascadesim.accelerators.program import Program
from cascadesim.accelerators.protocol import Phase, Plan
from cascadesim.accelerators.spatial.elementwise import NOT_PUBLISHED, plan_elementwise
from cascadesim.accelerators.spec import MADE_OF, Operations, SpatialArray, in_classes_of
from cascadesim.einsum_cascades.models.lowering import elementwise
from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.einsum_cascades.notation.ir import Cascade
from cascadesim.einsum_cascades.notation.notation import cascade
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
    return plan_elementwise(elementwise("work", text, rows, width), spec, "physical")


def only_phase(plan: Plan) -> Phase:
    (phase,) = plan.phases
    return phase


def program_of(plan: Plan) -> Program:
    make = only_phase(plan).program
    assert make is not None
    return make()


def on_lanes(plan: Plan) -> dict[str, int]:
    """Einsum -> cycles on the 1D array."""
    return {part.name: part.cycles for part in only_phase(plan).activities if part.unit == "array_1d"}


def test_a_residual_reads_two_tensors_and_writes_one(fusemax: SpatialArray) -> None:
    """256 rows of 100: one row per lane, one cycle per element."""
    plan = planned(transformer.RESIDUAL_ADD, 256, 100, fusemax)
    assert on_lanes(plan) == {"Y": 100}
    assert only_phase(plan).activities[0].operations == {"add": 25600}
    assert plan.traffic.read_bytes == 2 * 2 * 25600
    assert plan.traffic.write_bytes == 2 * 25600


def test_a_layer_norm_counts_as_its_text_says(fusemax: SpatialArray) -> None:
    """Per element: sum 1, difference 1, square-and-sum 1 mac, divide 1, scale and offset 2. Per row: a divide; then a

    divide, an addition and a square root of 3 macs and 2 divides.
    """
    rows, width = 256, 50
    plan = planned(transformer.LAYER_NORM, rows, width, fusemax)
    assert on_lanes(plan) == {"SX": 50, "MU": 1, "C": 50, "SC": 50, "SD": 7, "N": 50, "Y": 100}
    counts = {part.name: dict(part.operations) for part in only_phase(plan).activities if part.unit == "array_1d"}
    assert counts["SC"] == {"mac": rows * width}
    assert counts["SD"] == {"divide": rows, "add": rows, "sqrt": rows}, "useful ones, as the text names them"
    assert counts["Y"] == {"multiply": rows * width, "add": rows * width}
    assert plan.traffic.read_bytes == 2 * (rows * width + 2 * width)  # X once, G and B once for all rows


def test_an_exponential_takes_as_long_as_the_spec_says(fusemax: SpatialArray, flat: SpatialArray) -> None:
    """silu is x / (1 + exp(-x)): an exponential, an addition, a division."""
    assert on_lanes(planned(transformer.SILU, 256, 10, fusemax)) == {"Y": 10 * (6 + 1 + 1)}
    assert on_lanes(planned(transformer.SILU, 256, 10, flat)) == {"Y": 10 * (1 + 1 + 1)}


def test_a_unit_that_subtracts_saves_the_subtraction(array: Callable[..., SpatialArray]) -> None:
    """SN = exp(X - GM): 2 cycles, or 1 where the exponential unit takes the difference (FLAT)."""
    plain = Operations(mac=1, add=1, max=1, exp=1, divide=1)
    fused = plain.model_copy(update={"exp_subtracts": True})
    cycles = [
        on_lanes(planned(transformer.SOFTMAX_ROUTER, 256, 8, array(operations_1d=can)))["SN"] for can in (plain, fused)
    ]
    assert cycles == [16, 8]


def test_one_long_row_lies_over_all_lanes(fusemax: SpatialArray) -> None:
    """1 row of 4096: 16 elements per lane; sums end in a tree of 8 steps over 256 lanes."""
    plan = planned(transformer.RMS_NORM, 1, 4096, fusemax)
    assert on_lanes(plan)["SX"] == 16 + 8
    assert on_lanes(plan)["N"] == 16
    assert plan.mapping[0] == "array_1d: d over 256 lanes, r in time; 1 rows of 4,096"


def test_many_short_rows_take_a_lane_each(fusemax: SpatialArray) -> None:
    plan = planned(transformer.SOFTMAX_ROUTER, 1000, 8, fusemax)
    assert on_lanes(plan)["GM"] == ceil(1000 / 256) * 8
    assert plan.mapping[0] == "array_1d: r over 256 lanes, d in time; 1,000 rows of 8"


def test_rows_that_do_not_fit_are_read_in_every_pass(array: Callable[..., SpatialArray]) -> None:
    """A row of 1000 in a buffer of 2 KiB: an RMS norm walks it twice."""
    small, large = (planned(transformer.RMS_NORM, 20, 1000, array(16, capacity_bytes=size)) for size in (2048, 2**20))
    parameters_bytes = 2 * 1000
    assert small.traffic.read_bytes - parameters_bytes == 2 * (large.traffic.read_bytes - parameters_bytes)
    assert small.traffic.write_bytes == large.traffic.write_bytes
    assert "read 2x" in small.mapping[1]


def test_work_in_one_pass_never_reads_twice(array: Callable[..., SpatialArray]) -> None:
    small, large = (planned(transformer.GELU, 20, 1000, array(16, capacity_bytes=size)) for size in (1024, 2**20))
    assert small.traffic == large.traffic


def test_registers_and_operations_cost_energy(fusemax: SpatialArray) -> None:
    """One addition per element: 2 register reads, 1 write, 8.3395 pJ."""
    energy = planned(transformer.RESIDUAL_ADD, 64, 64, fusemax).dynamic_energy_j
    assert energy is not None
    assert energy["add_1d"] == pytest.approx(4096 * 8.3395e-12)
    assert energy["registers_1d"] == pytest.approx(4096 * (2 * 2.194455 + 1.906455) * 1e-12, rel=1e-6)
    assert energy["dram"] == pytest.approx(3 * 4096 * 249.6e-12 / 4)


def test_the_publication_has_no_elementwise_work(fusemax: SpatialArray) -> None:
    plan = plan_elementwise(elementwise("norm", transformer.RMS_NORM, 64, 64), fusemax, "artifact")
    assert (plan.phases, plan.mapping, plan.dynamic_energy_j) == ((), (NOT_PUBLISHED,), {})
    assert plan.traffic.total_bytes == 0


def test_work_on_other_ranks_is_refused(fusemax: SpatialArray) -> None:
    with pytest.raises(CascadeSimError, match="work: element-wise work has ranks r and d only, got m"):
        planned(cascade("other", "Y[r,m] = X[r,m] + X[r,m]\n"), 4, 4, fusemax)


def test_what_no_unit_does_is_refused(array: Callable[..., SpatialArray]) -> None:
    spec = array(operations_1d=Operations(mac=1, add=1))
    with pytest.raises(CascadeSimError, match=r"work, Y: vector_array\.operations: no unit does 'max'; it"):
        planned(transformer.RELU, 4, 4, spec)


@settings(deadline=None, max_examples=60)
@given(
    st.sampled_from(CASCADES), st.integers(1, 300), st.integers(1, 600), st.sampled_from((2**11, 2**14, 2**22)),
    st.sampled_from((1.0, 400.0)),
)  # fmt: skip
def test_no_schedule_beats_the_closed_form(
    array: Callable[..., SpatialArray], text: Cascade, rows: int, width: int, capacity_bytes: int, gib_per_s: float
) -> None:
    spec = array(16, capacity_bytes=capacity_bytes, bandwidth_bytes_per_s=gib_per_s * 2**30)
    plan = planned(text, rows, width, spec)
    phase, program = only_phase(plan), program_of(plan)
    schedule = run(program)
    assert schedule.cycles >= phase.analytical_cycles
    assert schedule.unit("array_1d").busy_cycles == sum(on_lanes(plan).values())
    for activity in phase.activities:
        assert activity.cycles <= phase.analytical_cycles
        assert 0 < activity.occupancy <= 1


@settings(deadline=None)
@given(st.sampled_from(CASCADES), st.integers(1, 300), st.integers(1, 600), st.sampled_from((2**11, 2**14, 2**22)))
def test_every_input_is_read_and_every_output_written(
    array: Callable[..., SpatialArray], text: Cascade, rows: int, width: int, capacity_bytes: int
) -> None:
    plan = planned(text, rows, width, array(16, capacity_bytes=capacity_bytes))
    sizes = {"rd": rows * width, "r": rows, "d": width}
    accesses = [access for einsum in text.einsums for access in (einsum.output, *einsum.inputs)]
    ranks = {access.tensor: "".join(access.ranks) for access in accesses}
    assert plan.traffic.write_bytes == 2 * sum(sizes[ranks[tensor]] for tensor in text.outputs)
    assert plan.traffic.read_bytes >= 2 * sum(sizes[ranks[tensor]] for tensor in text.inputs)
    assert plan.dynamic_energy_j is not None
    assert plan.dynamic_energy_j["dram"] == pytest.approx(plan.traffic.total_bytes * 249.6e-12 / 8)


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
