"""Many designs at once are the same designs one by one."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascadesim.accelerators.fusemax.accelerator import FuseMax
from cascadesim.accelerators.fusemax.closed_form import Points, evaluate
from cascadesim.accelerators.fusemax.exploration import cycles_traffic_energy_and_area
from cascadesim.einsum_cascades.models.operation import Operation
from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.einsum_cascades.texts.transformer import ATTENTION_1PASS

Make = Callable[..., Operation]
Design = Callable[..., FuseMax]

def same(value: float) -> object:
    """As exact as the two orders of the same operations are."""
    return pytest.approx(value, rel=1e-12)


PRESETS = ["fusemax", "fusemax-architecture", "fusemax-cascade"]


def points(accelerator: FuseMax, **changes: object) -> Points:
    """BERT at 1K on the preset, with changes."""
    spec = accelerator.spec
    sizes: dict[str, object] = {
        "rows": spec.pe_array.rows, "columns": spec.pe_array.columns, "lanes": spec.vector_array.lanes,
        "buffer_bytes": spec.global_buffer.capacity_bytes, "row_bytes": spec.global_buffer.row_bytes,
        "bandwidth_bytes_per_s": spec.dram.bandwidth_bytes_per_s, "clock_hz": spec.clock_hz, "instances": 768,
        "queries": 1024, "keys": 1024, "query_depth": 64, "value_depth": 64,
    }  # fmt: skip
    return Points(**(sizes | changes))  # type: ignore[arg-type]


def test_two_lengths_at_once(design: Design) -> None:
    """1K: 154 cycles for each of 12288 tiles; 4K: 142 (AV once in 16 key tiles) for each of 16 times as many."""
    accelerator = design()
    found = evaluate(points(accelerator, queries=[1024, 4096], keys=[1024, 4096]), accelerator.spec, ATTENTION_1PASS)
    assert found.cycles.tolist() == [12_288 * 154, 16 * 12_288 * 142]
    assert found.latency_s.tolist() == [12_288 * 154 / 940e6, 16 * 12_288 * 142 / 940e6]
    assert found.dram_bytes.tolist() == [2 * 4 * 768 * 1024 * 64, 2 * 4 * 768 * 4096 * 64]
    assert found.resident_tiles.tolist() == [4, 16]


def test_fewer_rows_than_the_pipeline_holds(design: Design) -> None:
    """Two key slots of one query tile hold no maximum of age 2, which nothing waits for where rows are only two."""
    accelerator = design(
        "fusemax", "pe_array.rows=16", "pe_array.columns=4", "vector_array.lanes=4", "global_buffer.row_bytes=16",
        "global_buffer.capacity_bytes=1024", "dram.bandwidth_bytes_per_s=1000000000.0",
    )  # fmt: skip
    sizes = {"instances": 1, "group": 4, "queries": 1, "keys": 17, "query_depth": 2, "value_depth": 5}
    found = evaluate(points(accelerator, **sizes), accelerator.spec, ATTENTION_1PASS)
    assert found.cycles[0] == pytest.approx((2 * 17 * 7 + 2 * 4 * 7) * 0.94)  # DRAM, a byte each ns


def test_areas_of_the_two_published_architectures(design: Design) -> None:
    """FuseMax artifact's prices: 1.3030e9 um^2 for FuseMax, 1.3918e9 for the FLAT architecture (256 x 256)."""
    for preset, area in (("fusemax", 1302951803.13124), ("fusemax-cascade", 1391818841.7587202)):
        accelerator = design(preset)
        *_, found = cycles_traffic_energy_and_area(points(accelerator), accelerator.spec, ATTENTION_1PASS)
        assert found == pytest.approx(area, rel=1e-9)


SIDES = st.sampled_from([4, 8, 16])


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(
    preset=st.sampled_from(PRESETS), rows=SIDES, columns=SIDES, lanes=SIDES,
    capacity=st.sampled_from([2**10, 2**12, 2**13, 2**14, 2**18]), bandwidth=st.sampled_from([1e9, 1e10, 1e12]),
    extents=st.tuples(st.integers(1, 300), st.integers(1, 300), st.integers(2, 70), st.integers(2, 70)),
    heads=st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 4)),
)  # fmt: skip
def test_arrays_of_points_equal_the_scalar_plan(
    preset: str, rows: int, columns: int, lanes: int, capacity: int, bandwidth: float,
    extents: tuple[int, int, int, int], heads: tuple[int, int, int], attention: Make, design: Design,
) -> None:  # fmt: skip
    accelerator = design(
        preset, f"pe_array.rows={rows}", f"pe_array.columns={columns}", f"vector_array.lanes={lanes}",
        f"global_buffer.capacity_bytes={capacity}", "global_buffer.row_bytes=16",
        f"dram.bandwidth_bytes_per_s={bandwidth:.1f}",
    )  # fmt: skip
    queries, keys, e, f = extents
    batch, key_heads, group = heads
    sizes = {"instances": batch * key_heads, "queries": queries, "keys": keys, "query_depth": e, "value_depth": f}
    found = evaluate(points(accelerator, **sizes, group=group), accelerator.spec, ATTENTION_1PASS)
    try:
        operation = attention(keys, queries, e, f, b=batch, h=key_heads * group, g=group)
        plan = accelerator.plan(operation, "physical")
    except CascadeSimError as error:
        assert "hold no query tile" in str(error)  # noqa: PT017 (what is raised depends on the example)
        assert np.isnan(found.cycles[0])
        assert found.resident_tiles[0] == 0
        return
    phase = plan.phases[0]
    assert found.cycles[0] == same(phase.analytical_cycles)
    assert found.latency_s[0] == same(phase.analytical_cycles / accelerator.clock_hz)
    assert found.dram_read_bytes[0] == same(plan.traffic.read_bytes)
    assert found.dram_write_bytes[0] == same(plan.traffic.write_bytes)
    for unit, busy, used in (
        ("array_2d", found.busy_2d_cycles, found.utilization_2d),
        ("array_1d", found.busy_1d_cycles, found.utilization_1d),
    ):
        own = [activity for activity in phase.activities if activity.unit == unit]
        assert busy[0] == sum(activity.cycles for activity in own)
        useful = sum(activity.cycles * activity.occupancy for activity in own)
        assert used[0] == same(useful / phase.analytical_cycles)
    assert plan.dynamic_energy_j is not None
    made = points(accelerator, **sizes, group=group)
    _, moved, energy_j, area = cycles_traffic_energy_and_area(made, accelerator.spec, ATTENTION_1PASS)
    assert moved[0] == same(plan.traffic.total_bytes)
    assert energy_j[0] == same(sum(plan.dynamic_energy_j.values()))
    assert area[0] == same(sum(accelerator.area_um2().values()))


def test_a_grid_is_evaluated_point_by_point_whatever_its_size(design: Design) -> None:
    """More points than are worked on at a time: the last equals the first where the design is the same."""
    accelerator = design()
    sides = np.tile([64, 128, 256], 20_000)
    found = evaluate(points(accelerator, rows=sides, columns=sides, lanes=sides), accelerator.spec, ATTENTION_1PASS)
    assert (found.cycles.reshape(-1, 3) == found.cycles[:3]).all()
    assert found.cycles[0] > found.cycles[1] > found.cycles[2] == 1_892_352


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"rows": [256, 0]}, "rows: must be at least 1, got 0"), ({"query_depth": 1}, "query_depth: must be at least 2")],
)
def test_sizes_that_mean_nothing_are_refused(changes: dict[str, object], message: str, design: Design) -> None:
    accelerator = design()
    with pytest.raises(CascadeSimError, match=message):
        evaluate(points(accelerator, **changes), accelerator.spec, ATTENTION_1PASS)
