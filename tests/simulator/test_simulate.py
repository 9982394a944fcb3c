"""The pipeline on a toy whose every operation takes 40 cycles, plus 3 of fill at cycle level."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from cascadesim.accelerators import catalogue
from cascadesim.einsum_cascades.models.workload import Workload, load_workload
from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.simulator.simulate import simulate

if TYPE_CHECKING:
    from conftest import Toy

# one layer: 2 norms, 4 projections, attention, 2 residuals, 2 feed-forward matrices, 1 activation; then norm and head
OPERATIONS = 2 * 12 + 2


def test_one_attention_layer_takes_its_tiles_one_after_another(toy: Toy, tiny: Workload) -> None:
    (report,) = simulate(tiny, toy, scope="attention")
    assert report.cycles == 3 + 4 * 10  # the first load, then compute hides the others
    assert report.latency_s == 43e-9
    assert report.bound_by == "array"
    assert (report.layer, report.layers, report.attention) == ("decoder", 2, "attention-1pass")
    assert report.kv_cache_bytes == 2 * 2 * 16 * 2 * 8 * 2  # layers, sequences, tokens, K and V, width, bytes


def test_every_cycle_of_every_unit_is_attributed(toy: Toy, tiny: Workload) -> None:
    (report,) = simulate(tiny, toy, scope="attention")
    array, dram = report.units
    assert (array.busy_cycles, array.stalled_cycles, array.idle_cycles) == (40, 0, 3)
    assert dram.busy_cycles == 4 * 3
    assert dram.cycles == array.cycles == 43


def test_the_difference_to_the_closed_form_is_explained(toy: Toy, tiny: Workload) -> None:
    (report,) = simulate(tiny, toy, scope="attention")
    assert report.analytical_cycles == 40
    assert (report.fill_cycles, report.waiting_cycles, report.drain_cycles) == (3, 0, 0)
    (closed,) = simulate(tiny, toy, scope="attention", fidelity="analytical")
    assert closed.cycles == 40
    assert closed.fill_cycles is closed.drain_cycles is closed.waiting_cycles is None


def test_a_model_adds_up_its_operations(toy: Toy, tiny: Workload) -> None:
    (report,) = simulate(tiny, toy)
    assert report.cycles == OPERATIONS * 43
    assert sum(operation.count for operation in report.operations) == OPERATIONS
    assert report.traffic.read_bytes == OPERATIONS * 4 * 32
    assert report.traffic.write_bytes == OPERATIONS * 16
    assert report.energy_j == {"mac": OPERATIONS * 1.0, "dram": OPERATIONS * 2.0}
    assert sum(operation.share for operation in report.operations) == pytest.approx(1)
    assert report.time_to_first_token_s == report.latency_s
    assert report.tokens_per_s == pytest.approx(2 * 16 / report.latency_s)


def test_utilisation_counts_useful_lanes_only(toy: Toy, tiny: Workload) -> None:
    (report,) = simulate(tiny, toy, scope="attention", fidelity="analytical")
    assert report.unit("array") is not None
    assert report.units[0].utilization == 0.5  # always busy, half of the lanes idle


def test_decode_gives_one_token_per_sequence(toy: Toy, tiny: Workload) -> None:
    (report,) = simulate(tiny, toy, phase="decode", batch=8)
    assert report.tokens_per_s == pytest.approx(8 / report.latency_s)
    assert report.time_to_first_token_s is None


def test_each_kind_of_layer_has_a_report_of_its_own(toy: Toy, two_kinds: Workload) -> None:
    reports = simulate(two_kinds, toy, scope="attention")
    assert [(report.layer, report.layers) for report in reports] == [("sliding", 3), ("global", 1)]
    (linear,) = simulate(two_kinds, toy, scope="linear")  # the same matrices in both
    assert (linear.layer, linear.layers) == ("sliding+global", 4)
    assert linear.attention is None


def test_an_accelerator_without_energy_has_none_in_the_report(toy: Toy, tiny: Workload) -> None:
    (report,) = simulate(tiny, replace(toy, energetic=False))
    assert report.energy_j is None
    assert report.total_energy_j is None


def test_leakage_is_power_times_latency(toy: Toy, tiny: Workload) -> None:
    (report,) = simulate(tiny, replace(toy, leakage_w=2e9), scope="attention")
    assert report.energy_j is not None
    assert report.energy_j["leakage"] == pytest.approx(2 * 43)


def test_published_accounting_keeps_fractions_of_cycles_and_leaves_out_elementwise_work(
    toy: Toy, tiny: Workload
) -> None:
    (report,) = simulate(tiny, toy, scope="attention", fidelity="analytical", accounting="artifact")
    assert report.latency_s == 40.5e-9
    assert report.cycles == 41
    (model,) = simulate(tiny, toy, fidelity="analytical", accounting="artifact")
    assert {operation.kind for operation in model.operations} == {"attention", "linear"}
    assert "left out" in model.notes[-1]


def test_published_accounting_has_no_cycle_level(toy: Toy, tiny: Workload) -> None:
    with pytest.raises(CascadeSimError, match="artifact accounting has no cycle level"):
        simulate(tiny, toy, accounting="artifact")


@pytest.mark.parametrize(("asked", "message"), [
    ({"sequence_length": 0}, "sequence length"), ({"batch": 0}, "batch"), ({"batch": -3}, "batch"),
    ({"attention": "attention-9pass"}, "attention-9pass"),
])  # fmt: skip
def test_what_cannot_be_is_refused(toy: Toy, tiny: Workload, asked: dict[str, int], message: str) -> None:
    with pytest.raises(CascadeSimError, match=message):
        simulate(tiny, toy, **asked)  # type: ignore[arg-type]


def test_a_bert_layer_of_1024_tokens_takes_the_published_cycles() -> None:
    """64 x 12 heads x 4 x 4 tiles of 256 x 256, 154 cycles each: FuseMax (MICRO'24), spec 5.2."""
    (report,) = simulate(load_workload("bert"), catalogue.load("fusemax"), scope="attention", sequence_length=1024,
                         fidelity="analytical")  # fmt: skip
    assert report.cycles == 64 * 12 * 16 * 154 == 1_892_352
