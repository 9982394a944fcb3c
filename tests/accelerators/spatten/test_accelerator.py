"""SpAtten's plans: kinds of layers under a schedule, published figures, what reports say, what is refused."""

from __future__ import annotations

from dataclasses import replace

import pytest
from spatten_plans import attention, machine

from cascadesim.accelerators.protocol import Prepares, problems
from cascadesim.einsum_cascades.models.workload import load_workload
from cascadesim.einsum_cascades.notation.errors import CascadeSimError, SpecError, UnknownNameError
from cascadesim.einsum_cascades.texts import find
from cascadesim.einsum_cascades.texts.pruned_attention import LOCAL_VALUE_PRUNING_1PASS


def test_gpt_2_medium_has_seven_kinds_of_layers() -> None:
    """Workload file of mit-han-lab/spatten: 1024, 921, 819, 614, 307 tokens by layers; 16, 13, 10 heads."""
    operations = load_workload("gpt2-medium").operations(
        sequence_length=1024, batch=None, phase="decode", scope="model", attention="attention-3pass"
    )
    found = machine("spatten")
    assert isinstance(found, Prepares)
    prepared, work = found.prepared(tuple(operations), "gpt-2-medium")
    layers = [one for one in work if one.kind == "attention"]
    assert [(one.layer, one.count, one.extent("m"), one.extent("h"), one.extent("k")) for one in layers] == [
        ("decoder:0-1", 2, 1024, 16, 307), ("decoder:2", 1, 921, 16, 276), ("decoder:3-4", 2, 819, 16, 245),
        ("decoder:5-10", 6, 614, 16, 184), ("decoder:11-15", 5, 307, 16, 92), ("decoder:16-21", 6, 307, 13, 92),
        ("decoder:22-23", 2, 307, 10, 92),
    ]  # fmt: skip
    assert "gpt-2-medium" in prepared.plan(layers[0], "physical").mapping[0]
    assert [one for one in work if one.kind != "attention"] == [one for one in operations if one.kind != "attention"]


def test_shares_replace_what_the_schedule_says() -> None:
    found = machine("spatten", "pruning.schedule=none", "pruning.token_keep=0.5", "pruning.head_keep=0.75",
                    "pruning.value_keep=0.25")  # fmt: skip
    _, (only,) = found.prepared((attention(16, 1024),), "gpt-2-medium")
    assert [only.extent(rank) for rank in "mhk"] == [512, 12, 128]


def test_pruning_makes_dropped_tokens_ask_nothing_in_prefill() -> None:
    found = machine("spatten", "pruning.schedule=none", "pruning.token_keep=0.5")
    _, (only,) = found.prepared((attention(16, 128, queries=128),), "bert-base")
    assert only.extent("p") == only.extent("m") == 64


def test_published_figures_hold_for_the_published_size_only() -> None:
    areas = machine("spatten").area_um2()
    assert areas is not None
    assert sum(areas.values()) == pytest.approx(18.71e6)  # HPCA 2021: 18.71 mm^2
    assert machine("spatten", "multipliers=256").area_um2() is None
    plan = machine("spatten").plan(attention(1, 64), "physical")
    assert plan.dynamic_energy_j is not None
    assert plan.dynamic_energy_j["dram"] == pytest.approx(plan.traffic.read_bytes * 8 * 3.9e-12)
    assert machine("spatten-1-8").plan(attention(1, 64), "physical").dynamic_energy_j is None


def test_what_it_cannot_run_is_refused() -> None:
    tiled = attention(1, 64).with_cascade(LOCAL_VALUE_PRUNING_1PASS)
    with pytest.raises(CascadeSimError, match="walks keys in tiles; spatten does so in attention-1pass"):
        machine().plan(tiled, "physical")
    with pytest.raises(CascadeSimError, match="no artifact accounting"):
        machine().plan(attention(1, 64), "artifact")
    with pytest.raises(UnknownNameError, match="did you mean 'bert-base'"):
        machine("spatten", "pruning.schedule=bert-bass").prepared((attention(1, 64),), "x")
    with pytest.raises(SpecError, match=r"multipliers \(100\) must be a multiple of head_dim"):
        machine("spatten", "multipliers=100")
    with pytest.raises(SpecError, match="two heads share a fetch"):
        machine("spatten", "formats.value_bits=6")


def test_reports_say_the_bandwidth_mode_and_the_schedule() -> None:
    """16 channels of 32 bytes every second cycle at 1 GHz: 256 GB/s; nominal 512 (HPCA 2021)."""
    found = machine("spatten", "dram.mode=nominal")
    assert machine("spatten").notes(1024) == ("DRAM mode rtl: at most 256 GB/s; heads run as lanes of 64 elements",)
    prepared, _ = found.prepared((), "gpt-2-small")
    assert prepared.notes(1024)[0].startswith("DRAM mode nominal: at most 512 GB/s")
    assert prepared.notes(1024)[1].startswith("pruning schedule gpt-2-small")


def test_beyond_its_context_a_schedule_keeps_shares_and_says_so() -> None:
    """gpt-2-small keeps 20 % of 1,024 tokens in layer 2; of 4,096 tokens that is 819, not 204."""
    prepared, work = machine("spatten").prepared((replace(attention(12, 4096), count=12),), "gpt-2-small")
    assert dict(work[2].extents)["m"] == 819
    assert "for contexts of 1,024 tokens: of 4,096 each layer keeps the same shares" in prepared.notes(4096)[-1]
    assert len(prepared.notes(1024)) == len(prepared.notes(4096)) - 1


def test_what_replaces_a_schedule_is_named_beside_it() -> None:
    prepared, _ = machine("spatten", "pruning.token_keep=0.5").prepared((), "gpt-2-small")
    assert prepared.notes(4096)[1].endswith("with token_keep 0.5 in place of its own")
    assert len(prepared.notes(4096)) == 2


@pytest.mark.parametrize("schedule", ["published", "none"])
@pytest.mark.parametrize("cascade", ["attention-3pass", "attention-1pass", "pruned-1pass"])
def test_operations_are_those_of_the_cascade_with_what_each_layer_keeps(schedule: str, cascade: str) -> None:
    found = machine("spatten", f"pruning.schedule={schedule}")
    given = replace(attention(12, 200), cascade=find(cascade), count=12)
    prepared, work = found.prepared((given,), "bert-base")
    for operation in work:
        plan = prepared.plan(operation, "physical")
        assert list(problems(plan, prepared)) == []
        size = dict(operation.extents)
        assert f"kept: {size['h']} heads, {size['m']} tokens" in plan.mapping[1]
    assert schedule == "published" or dict(work[0].extents)["m"] == 200
