"""Token pruning on FuseMax: what the second pass and the choice cost, by hand for BERT at 1K."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cascadesim.accelerators.catalogue import load
from cascadesim.accelerators.fusemax.accelerator import FuseMax
from cascadesim.accelerators.protocol import Plan, Traffic, problems
from cascadesim.einsum_cascades.models.layers import Phase
from cascadesim.einsum_cascades.models.operation import Operation
from cascadesim.einsum_cascades.models.workload import load_workload
from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.einsum_cascades.sparsity.masks import CAUSAL, KeyInterval
from cascadesim.einsum_cascades.texts import find
from cascadesim.simulator.engine.engine import run
from cascadesim.simulator.simulate import simulate

TILES = 64 * 12 * 4 * 4  # sequences, heads, and 1024 queries and keys in tiles of 256


def attention(cascade: str, length: int = 1024) -> Operation:
    found = load_workload("bert").operations(sequence_length=length, scope="attention", attention=cascade)
    return next(operation for operation in found if operation.kind == "attention")


def planned(cascade: str, length: int = 1024) -> Plan:
    return load("fusemax").plan(attention(cascade, length), "physical")


def test_attention_comes_first_then_importance_then_the_choice() -> None:
    """A tile of the second pass: QK 64 cycles, SLN 7, LS 1; sums and 3.38 comparisons of a key, 256 at once."""
    first, importance, sums, choice = planned("pruned-1pass").phases
    assert first.analytical_cycles == planned("attention-1pass").phases[0].analytical_cycles
    assert importance.analytical_cycles == TILES * (64 + 7 + 1)
    assert [each.cycles for each in sums.activities if each.name == "S"] == [64 * 4]
    assert choice.analytical_cycles == 64 * 14


def test_the_second_pass_reads_no_values() -> None:
    """Keys of 64 elements once an instance, two bytes each; with each query Q, 4 maxima, the last, a denominator."""
    first, importance, sums, _ = planned("pruned-1pass").phases
    vectors, queries, keys = 768 * 1024 * 64 * 2, 768 * 1024 * 2, 64 * 1024 * 2
    assert first.traffic == Traffic(3 * vectors, vectors + (4 + 1) * queries)
    assert importance.traffic == Traffic(2 * vectors + (4 + 1 + 1) * queries)
    assert sums.traffic == Traffic(keys, keys)  # the importance so far; what is added to it stays in the buffer


def test_a_causal_query_leaves_the_maxima_of_the_tiles_that_it_meets() -> None:
    """512 keys in two tiles: half of the queries meet one of them, the others both; and a denominator each."""
    causal = replace(attention("pruned-1pass", 512), mask=CAUSAL)
    first, *_ = load("fusemax").plan(causal, "physical").phases
    plain, *_ = load("fusemax").plan(causal.with_cascade(find("attention-1pass")), "physical").phases
    assert first.traffic.write_bytes - plain.traffic.write_bytes == 768 * 512 * 2 * (1.5 + 1)


def test_no_phase_moves_more_than_its_channel_can() -> None:
    """300 tokens in a short second pass, whose statistics take a share of the channel."""
    machine = load("fusemax")
    for phase in planned("pruned-1pass", 300).phases:
        if phase.program is not None and phase.traffic.total_bytes:
            cycles = run(phase.program()).cycles
            assert phase.traffic.total_bytes <= phase.analytical_cycles * machine.spec.dram_bytes_per_cycle
            assert phase.analytical_cycles <= cycles


def test_the_first_pass_waits_for_its_statistics_where_the_channel_is_slow() -> None:
    """At a tenth of the channel the first pass is as long as its traffic: 2.5 % longer with its statistics."""
    slow = load("fusemax", ("dram.bandwidth_bytes_per_s=40_000_000_000",))
    plain, pruned = (slow.plan(attention(each), "physical").phases[0] for each in ("attention-1pass", "pruned-1pass"))
    assert plain.program is not None
    assert pruned.program is not None
    longer = (4 + 1) / (4 * 64)
    assert pruned.analytical_cycles == pytest.approx(plain.analytical_cycles * (1 + longer), rel=0.01)
    assert run(pruned.program()).cycles == pytest.approx(run(plain.program()).cycles * (1 + longer), rel=0.01)


def test_sums_are_of_each_sequence_also_where_one_key_tile_holds_them() -> None:
    """One query of two sequences on 5 keys: 8 values, a maximum and a denominator each, and 5 sums."""
    sizes = {"pe_array.rows": 5, "pe_array.columns": 2, "vector_array.lanes": 2, "global_buffer.row_bytes": 16}
    accelerator = load("fusemax", tuple(f"{field}={size}" for field, size in sizes.items()))
    extents = (("b", 2), ("h", 1), ("g", 1), ("m", 5), ("p", 1), ("e", 8), ("f", 8))
    plan = accelerator.plan(Operation("attention", "attention", find("pruned-1pass"), extents), "physical")
    assert list(problems(plan, accelerator)) == []
    assert plan.traffic.write_bytes == 2 * 2 * (8 + 1 + 1 + 5)


@pytest.mark.parametrize("name", ["fusemax", "fusemax-architecture", "fusemax-cascade", "fusemax-edge"])
def test_every_design_runs_it_no_faster_than_its_closed_form(name: str) -> None:
    """XLM has no schedule: its one kind of layer keeps all tokens."""
    (report,) = simulate(load_workload("xlm"), load(name), batch=1, scope="attention", attention="pruned-1pass")
    (plain,) = simulate(load_workload("xlm"), load(name), batch=1, scope="attention")
    assert report.analytical_cycles <= report.cycles
    assert report.cycles > plain.cycles


def test_pruning_pays_only_where_enough_tokens_are_dropped() -> None:
    """The second pass costs half as much as the first: keeping 15 of 16 tokens costs time, 11 of 16 saves it.

    In whole tiles of 256: (15 / 16)^2 x 1.47 = 1.29 and (11 / 16)^2 x 1.47 = 0.69.
    """
    dense = planned("attention-1pass", 4096).phases[0].analytical_cycles
    kept = (planned("pruned-1pass", length) for length in (2816, 3840))
    few, many = (sum(phase.analytical_cycles for phase in plan.phases) for plan in kept)
    assert few < dense < many


def test_a_model_with_a_schedule_runs_its_layers_on_the_tokens_they_keep() -> None:
    """BERT's schedule at 4K: the first three layers whole, the last on 1847 tokens (0.45095 x 4096)."""
    machine = load("fusemax")
    assert isinstance(machine, FuseMax)
    dense = attention("pruned-1pass", 4096)
    _, found = machine.prepared((dense, attention("attention-1pass", 4096)), "bert")
    *pruned, plain = found
    assert plain.extents == attention("attention-1pass", 4096).extents
    assert [operation.layer for operation in pruned] == ["encoder:0-2", *(f"encoder:{layer}" for layer in range(3, 12))]
    assert [operation.extent("m") for operation in pruned][::9] == [4096, 1847]
    assert all(operation.extent("m") == operation.extent("p") for operation in pruned)
    assert machine.prepared((dense,), "unknown") == (machine, (dense,))


def attention_cycles(workload: str, phase: Phase, cascade: str, length: int) -> float:
    (report,) = simulate(load_workload(workload), load("fusemax"), sequence_length=length, phase=phase, batch=1,
                         fidelity="analytical", attention=cascade)  # fmt: skip
    found = [each for each in report.operations if each.name.startswith("attention")]
    (layer,) = load_workload(workload).layers.values()
    assert sum(each.count for each in found) == layer.count
    return sum(each.cycles for each in found)


def test_a_mild_schedule_costs_more_than_it_saves() -> None:
    """BERT keeps 0.63 of all pairs on average, in whole tiles more, and the second pass costs 0.48 of what is left."""
    dense, pruned = (attention_cycles("bert", "prefill", each, 4096) for each in ("attention-1pass", "pruned-1pass"))
    assert dense < pruned < 1.1 * dense


def test_a_harsh_schedule_saves_time_in_whole_tiles_of_keys() -> None:
    """Of 4 tiles of 1024 keys GPT-2 small keeps 1 in 10 of its 12 layers; GPT-2 medium 2 in 13 of 24, which is even."""
    dense, pruned = (attention_cycles("gpt-2-small", "decode", each, 1024)
                     for each in ("attention-1pass", "pruned-1pass"))  # fmt: skip
    assert pruned < 0.75 * dense


def test_no_publication_prunes_on_fusemax() -> None:
    with pytest.raises(CascadeSimError, match="no publication prunes on fusemax"):
        load("fusemax").plan(attention("pruned-1pass"), "artifact")


def test_the_second_pass_takes_the_time_of_the_tiles_that_a_mask_leaves() -> None:
    """4,096 causal keys in 16 tiles of 256: 136 of 256 tiles; a window of 256 keys meets two tiles, the first one."""
    for mask, tiles in ((CAUSAL, 136), (KeyInterval(True, window=256), 31)):
        operation = replace(attention("pruned-1pass", 4096), mask=mask)
        plan = load("fusemax").plan(operation, "physical")
        assert plan.splits == {"M0": 256}
        importance = next(phase for phase in plan.phases if phase.name.startswith("importance: QK"))
        busy = sum(each.cycles for each in importance.activities if each.unit == "array_2d")
        assert busy == 768 * tiles * (64 + 7 + 1)
