"""Plans of every kind on GPUs: what is counted is the cascade's, on units that can do it, with traffic that must be."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cascadesim.accelerators.catalogue import load
from cascadesim.accelerators.gpu import plans
from cascadesim.accelerators.gpu.accelerator import Gpu, device_names
from cascadesim.accelerators.protocol import Plan, PlanError, checked, problems
from cascadesim.einsum_cascades.models.operation import Operation, linear
from cascadesim.einsum_cascades.models.workload import load_workload
from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.einsum_cascades.texts import cascade_names, find

USUAL = ("a100-sxm", "h100-sxm", "b200", "mi300x")
DEVICES = [*USUAL, *(pytest.param(name, marks=pytest.mark.nightly) for name in device_names() if name not in USUAL)]
CASES = (("llama-3.2-1b", "prefill", 300, 3), ("llama-3.2-1b", "decode", 5000, 2), ("bert", "prefill", 129, 2),
         ("deepseek-v3", "decode", 1000, 1), ("nat-tiny", "prefill", 3136, 1))  # fmt: skip


def operations(
    workload: str, phase: str, length: int, batch: int, attention: str, scope: str = "model"
) -> tuple[Operation, ...]:
    return load_workload(workload).operations(
        sequence_length=length, batch=batch, phase=phase, scope=scope, attention=attention  # type: ignore[arg-type]
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", DEVICES)
def test_every_operation_of_a_model_is_planned_without_a_problem(name: str) -> None:
    machine = load(name)
    for case in CASES:
        for one in {each.cascade.name: each for each in operations(*case, machine.attention)}.values():
            assert not list(problems(machine.plan(one, "physical"), machine)), (case, one.name)


@pytest.mark.parametrize("name", DEVICES)
@pytest.mark.parametrize("text", ["attention-1pass", "attention-1pass-gqa", "attention-1pass-causal",
                                  "attention-3pass", "attention-3pass-gqa", "attention-3pass-causal"])  # fmt: skip
def test_attention_texts_run_rightly_or_not_at_all(name: str, text: str) -> None:
    machine = load(name)
    for phase, length, batch in (("prefill", 1, 1), ("prefill", 1000, 2), ("decode", 4096, 3)):
        asked = load_workload("llama-3.2-1b").operations(
            sequence_length=length, batch=batch, phase=phase, scope="attention", attention=text  # type: ignore[arg-type]
        )[0]
        if machine.attention == "attention-3pass" and "1pass" in text:
            with pytest.raises(CascadeSimError, match="keeps scores on the chip"):
                machine.plan(asked, "physical")
        else:
            assert not list(problems(machine.plan(asked, "physical"), machine))


@pytest.mark.slow
@pytest.mark.parametrize("text", [name for name in cascade_names() if {"Q", "K", "V"} <= set(find(name).inputs)])
def test_texts_whose_operands_l2_cannot_keep_run_rightly_or_not_at_all(text: str) -> None:
    """Constants of a head (`SINK[h]`) do stay there."""
    machine = load("h100-sxm")
    try:
        (asked,) = operations("llama-3.2-1b", "prefill", 8192, 8, text, "attention")
        plan = machine.plan(asked, "physical")
    except CascadeSimError as error:
        assert "\n" not in str(error)  # noqa: PT017
        return
    assert not list(problems(plan, machine))


def test_tensor_cores_add_what_they_accumulate() -> None:
    """Products and the running output are theirs; exponentials and all else on rows of scores are not."""
    asked = operations("bert", "prefill", 1024, 1, "attention-1pass")
    plan = load("h100-sxm").plan(next(one for one in asked if one.kind == "attention"), "physical")
    found = {(one.name, kind): one.unit for one in plan.phases[0].activities for kind in one.operations}
    on_tensor_cores = {work for work, unit in found.items() if unit == "tensor"}
    assert on_tensor_cores == {("QK", "mac"), ("SLNV", "mac"), ("RNV", "add")}
    assert (found["SPNV", "multiply"], found["SLN", "exp"]) == ("issue", "special")


@pytest.mark.parametrize("name", ["b200", "h100-sxm"])
def test_exponentials_that_fp32_lanes_compute_are_counted_there(name: str) -> None:
    """FlashAttention-4 on Blackwell computes a quarter of the scores' exponentials on FP32 lanes."""
    machine = load(name, ("kernel=flash-attention-4",))
    asked = operations("bert", "prefill", 1024, 1, "attention-1pass")
    plan = machine.plan(next(one for one in asked if one.kind == "attention"), "physical")
    scores = 12 * 1024 * 1024
    by_unit = {activity.unit: activity.operations.get("exp", 0) for activity in plan.phases[0].activities
               if activity.name == "SLN"}  # fmt: skip
    emulated = scores // 4 if name == "b200" else 0
    assert by_unit == {"special": scores - emulated, "issue": emulated}
    assert not list(problems(plan, machine))


def test_a_plan_names_the_key_tile_that_its_counts_go_by() -> None:
    """Running maxima: 12 heads of 1,000 queries over ceil(1000 / 192) = 6 tiles of keys."""
    plan = attention_plan("h100-sxm", 1000)
    assert plan.splits == {"M0": 192}
    assert "M0 = 192" in plan.mapping[0]
    found = {activity.name: activity.operations for activity in plan.phases[0].activities}
    assert found["RM"] == {"max": 12 * 1000 * 6}


def attention_plan(name: str, length: int) -> Plan:
    asked = operations("bert", "prefill", length, 1, "attention-1pass")
    return load(name).plan(next(one for one in asked if one.kind == "attention"), "physical")


def test_what_l2_keeps_is_said_and_no_longer_compulsory() -> None:
    """1,000 tokens of 12 heads are 6 MB, all in 26 MB; 64K of them are 403 MB, none of it."""
    small, large = attention_plan("h100-sxm", 1000), attention_plan("h100-sxm", 65536)
    assert small.traffic.read_bytes == 0
    assert any(line.startswith("not by DRAM") and "Q 100%" in line for line in small.mapping)
    assert set(large.element_bytes.values()) == {2.0}
    assert not any(line.startswith("not by DRAM") for line in large.mapping)


PARTLY_KEPT = {
    "stream_timing": Operation("norm", "elementwise", find("layer-norm"), (("r", 8500), ("d", 768))),
    "gemm_timing": Operation("up", "linear", find("linear"), (("r", 1600), ("k", 4096), ("n", 4096), ("x", 1))),
    "attention_timing": next(one for one in operations("bert", "prefill", 4096, 1, "attention-1pass")
                             if one.kind == "attention"),
}  # fmt: skip


@pytest.mark.parametrize("ways", [("read",), ("write",), ("read", "write")])
@pytest.mark.parametrize("form", PARTLY_KEPT)
def test_a_plan_with_half_its_traffic_is_refused(
    form: str, ways: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What L2 keeps is not taken from the traffic: closed forms that lose half of it are found out.

    Operands are as large as what L2 keeps of streams and of products (26 MB), and of attention: a part of them
    passes by DRAM, and a part does not.
    """
    machine, asked, timing_of = load("h100-sxm"), PARTLY_KEPT[form], getattr(plans, form)
    plan = machine.plan(asked, "physical")
    assert checked(plan, machine) is plan
    assert any(line.startswith("not by DRAM") for line in plan.mapping)
    def halved(*given: object, **named: object) -> object:
        found = timing_of(*given, **named)
        moved = getattr(found, "movement", found)
        less = replace(moved, **{f"dram_{way}_bytes": getattr(moved, f"dram_{way}_bytes") / 2 for way in ways})
        return less if moved is found else replace(found, movement=less)

    monkeypatch.setattr(plans, form, halved)
    with pytest.raises(PlanError, match=rf"it {ways[0]}s [0-9,]+ bytes of DRAM, at least [0-9,]+ are compulsory"):
        checked(machine.plan(asked, "physical"), machine)


def test_a_latent_value_passes_by_with_its_key() -> None:
    asked = operations("deepseek-v3", "decode", 4096, 1, "attention-1pass")
    plan = load("h100-sxm").plan(next(one for one in asked if one.kind == "attention"), "physical")
    assert "V" not in plan.element_bytes
    assert plan.element_bytes["K"] == 2.0


def test_norms_are_bound_by_memory_or_by_their_instructions() -> None:
    """Layer norm of 768 elements: on one FP32 lane an SM instead of 128 it takes as long as its instructions."""
    norm = Operation("norm", "elementwise", find("layer-norm"), (("r", 65536), ("d", 768)))
    machine = load("h100-sxm")
    assert isinstance(machine, Gpu)
    activities = machine.plan(norm, "physical").phases[0].activities
    issue = sum(one.cycles for one in activities if one.unit == "issue")
    counts = {name: sum(one.operations.get(name, 0) for one in activities) for name in ("add", "mac", "sqrt")}
    assert counts == {"add": 65536 * (3 * 768 + 1), "mac": 65536 * 768, "sqrt": 65536}
    one_lane = machine.spec.sm.model_copy(update={"fp32_fma_per_clock": 1})
    slow = replace(machine, spec=machine.spec.model_copy(update={"sm": one_lane}))
    bound = slow.plan(norm, "physical").phases[0]
    busy = sum(one.cycles for one in bound.activities if one.unit == "issue")
    assert busy == pytest.approx(128 * issue, rel=1e-3)
    assert busy > 0.99 * bound.analytical_cycles - 10_000  # the launch besides
    assert not list(problems(slow.plan(norm, "physical"), slow))


def test_sums_of_an_all_reduce_are_done_by_lanes() -> None:
    machine = load("h100-sxm", ("parallel.tensor=8",))
    asked = Operation("sum", "collective", find("all-reduce"), (("r", 4096), ("d", 8192)))
    plan = machine.plan(asked, "physical")
    counted = {one.unit: dict(one.operations) for one in plan.phases[0].activities}
    assert counted["issue"] == {"add": 4096 * 8192 * 7 // 8}
    assert not list(problems(plan, machine))


def planned_s(engine: str, one: Operation, *settings: str) -> float:
    machine = load("h100-sxm", (f"engine={engine}", "dtype=fp16", *settings))
    return sum(phase.analytical_cycles for phase in machine.plan(one, "physical").phases) / machine.clock_hz


NARROW = ("types.weights=fp8", "types.activations=fp8")


def test_prompts_of_tensorrt_llm_have_a_small_kernel_ahead_of_attention() -> None:
    """A launch from a stream of 2.4 us, and a trip of a load and a store of 1.2 us; from a graph it is of 1.3 us."""
    one = operations("llama-2-7b", "prefill", 128, 1, "attention-1pass-causal", "attention")[0]
    with_it, without = (planned_s(name, one, "kernel=trtllm-fmha-hopper") for name in ("tensorrt-llm-0.9", "none"))
    assert with_it - without == pytest.approx(2.4e-6 + 1.2e-6 + (2.4e-6 - 1.3e-6))


def test_products_of_early_tensorrt_llm_have_the_tiles_of_their_time() -> None:
    """528 rows: 5 x 32 blocks of 128 x 256 are two rounds of 132 SMs; later kernels of Hopper have a tile for one."""
    one = linear("up", 528, 2048, 8192)
    early, later = (planned_s(f"tensorrt-llm-{version}", one) for version in ("0.9", "0.17"))
    assert early > 1.3 * later
    lengths = np.array([8192])
    for engine in ("tensorrt-llm-0.9", "tensorrt-llm-0.17"):
        spec = load("h100-sxm", (f"engine={engine}",)).spec  # type: ignore[attr-defined]
        assert plans.cycles_by_outputs(one, spec, lengths)[0] == pytest.approx(planned_s(engine, one) * spec.clock_hz)


def test_turbomind_moves_keys_and_values_of_prompts_twice_more() -> None:
    """Of 8 prompts of 2,048 they are 268 MB, which each copy reads and writes, at 2 to 3 TB/s where both balance."""
    one = operations("llama-2-7b", "prefill", 2048, 8, "attention-1pass-causal", "attention")[0]
    with_it, without = (planned_s(name, one, "kernel=flash-attention-3") for name in ("turbomind", "none"))
    moved_bytes = 2 * 2 * 2 * 8 * 2048 * 4096 * 2
    assert moved_bytes / 3e12 < with_it - without < moved_bytes / 2e12


def test_results_of_attention_are_cast_where_products_take_8_bits() -> None:
    """4,096 numbers of 8 tokens are read in 16 bits and written in 8: less than a microsecond beside the launch."""
    one = operations("llama-2-7b", "decode", 128, 8, "attention-1pass", "attention")[0]
    wide, narrow = (planned_s("tensorrt-llm-0.9", one, "kernel=trtllm-mmha", *types) for types in ((), NARROW))
    assert 3.6e-6 < narrow - wide < 4.6e-6
    wide, narrow = (planned_s("none", one, "kernel=trtllm-mmha", *types) for types in ((), NARROW))
    assert narrow == wide


def test_a_kernel_that_rotates_launches_no_other_for_it() -> None:
    """Multi-head attention of a step (trtllm-mmha) rotates; XQA, of 8 queries a key head, and prompts have a kernel."""
    found = {}
    for workload, phase in (("llama-2-7b", "decode"), ("llama-2-70b", "decode"), ("llama-2-7b", "prefill")):
        machine = load("h100-sxm", ("engine=tensorrt-llm-0.9", "dtype=fp16"))
        assert isinstance(machine, Gpu)
        listed = machine.prepared(operations(workload, phase, 128, 2, machine.attention), workload)[1]
        (one,) = [each for each in listed if each.name == "rotary_cache"]
        found[workload, phase] = one.launched
        apart = planned_s("tensorrt-llm-0.9", replace(one, launched=True))
        assert apart - planned_s("tensorrt-llm-0.9", one) == pytest.approx(0 if one.launched else 3.6e-6)
    assert list(found.values()) == [False, True, True]
