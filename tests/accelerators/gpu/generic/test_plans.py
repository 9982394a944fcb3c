"""Plans of texts that no library's kernel computes: right, said to be unmeasured, on every device."""

from __future__ import annotations

import pytest

from cascadesim.accelerators.catalogue import load
from cascadesim.accelerators.gpu.accelerator import Gpu, device_names
from cascadesim.accelerators.gpu.generic import timing
from cascadesim.accelerators.gpu.generic.timing import StageMovement
from cascadesim.accelerators.protocol import Accelerator, Plan, PlanError, checked, problems
from cascadesim.einsum_cascades.models.workload import load_workload
from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.einsum_cascades.notation.notation import cascade
from cascadesim.einsum_cascades.texts import find
from cascadesim.simulator.engine.engine import run
from cascadesim.simulator.simulate import simulate

RUN = ("attention-2pass", "attention-3pass-deferred", "linear-attention", "linear-attention-chunked", "pruned-1pass")


def plan(text: str, name: str = "h100-sxm", workload: str = "bert", length: int = 1024, phase: str = "prefill",
         settings: tuple[str, ...] = ()) -> tuple[Plan, Accelerator]:  # fmt: skip
    machine = load(name, settings)
    (asked,) = load_workload(workload).operations(
        sequence_length=length, batch=1, phase=phase, scope="attention", attention=text  # type: ignore[arg-type]
    )
    return machine.plan(asked, "physical"), machine


@pytest.mark.parametrize("name", device_names())
@pytest.mark.parametrize("text", RUN)
def test_they_run_on_every_device(name: str, text: str) -> None:
    found, machine = plan(text, name)
    assert list(problems(found, machine)) == []
    assert found.kernel == "generic"


@pytest.mark.parametrize("text", [text for text in RUN if "linear" not in text])
def test_grouped_heads_and_masks_run_in_both_phases(text: str) -> None:
    for phase, length in (("prefill", 1000), ("decode", 5000), ("decode", 1)):
        for workload in ("llama-3.2-1b", "mistral-7b"):
            found, machine = plan(text, workload=workload, length=length, phase=phase)
            assert list(problems(found, machine)) == [], (workload, phase, length)


def test_linear_attention_decodes() -> None:
    found, machine = plan("linear-attention", workload="llama-3.2-1b", length=5000, phase="decode")
    assert list(problems(found, machine)) == []
    assert found.traffic.read_bytes == 2 * 8 * 5000 * 64 * 2  # a cold cache of 8 key heads; all else is in L2


def test_each_launch_is_a_phase_with_its_own_einsums() -> None:
    found, _ = plan("linear-attention", length=65536)
    assert [phase.name for phase in found.phases] == ["FK, KV, SK", "sums of KV, SK", "FQ, NV, SD, AV"]
    activities = [one for phase in found.phases for one in phase.activities]
    units = {(one.name, kind): one.unit for one in activities for kind in one.operations}
    assert units == {("FK", "exp"): "special", ("FQ", "exp"): "special", ("KV", "mac"): "tensor",
                     ("NV", "mac"): "tensor", ("SD", "mac"): "tensor", ("SK", "add"): "issue",
                     ("AV", "divide"): "issue"}  # fmt: skip


def test_the_mapping_shows_kernels_tiles_grid_and_parts() -> None:
    found, _ = plan("linear-attention", length=65536)
    text = "\n".join(found.mapping)
    assert "3 of them, bf16: tiles of 128 rows, steps of 64; mask full" in text
    assert "kernel 1: FK, KV, SK; 96 blocks: 12 of sequences and heads x 8 parts of the walk; each walks" in text
    assert "kernel 2: sums of KV, SK; 12 blocks" in text
    assert "kernel 3: FQ, NV, SD, AV; 6,144 blocks: 12 of sequences and heads x 512 tiles of rows" in text
    assert "leaves parts of KV, SK" in text
    assert "10% faster would make the whole faster by: " in found.mapping[-1]
    assert "dram" in found.mapping[-1]


def test_tensor_cores_add_what_they_accumulate_and_lanes_add_the_rest() -> None:
    """Sums of chunks beside their products; a bias of queries in a kernel without any."""
    found, machine = plan("linear-attention-chunked")
    units = {(one.name, kind): one.unit for one in found.phases[0].activities for kind in one.operations}
    assert units["RKV", "add"] == "tensor"
    assert list(problems(found, machine)) == []
    biased = cascade("biased", """
        KV[h,e,f] = K[h,m,e] * V[h,m,f]
        BQ[h,p,e] = Q[h,p,e] + B[h,p,e]
    """)
    own = machine.plan(found.operation.with_cascade(biased), "physical")
    units = {(one.name, kind): one.unit for phase in own.phases for one in phase.activities for kind in one.operations}
    assert units == {("KV", "mac"): "tensor", ("BQ", "add"): "issue"}
    assert list(problems(own, machine)) == []


def test_a_report_states_no_error() -> None:
    (report,) = simulate(load_workload("bert"), load("h100-sxm"), sequence_length=1024, batch=1, scope="attention",
                         fidelity="analytical", attention="linear-attention")  # fmt: skip
    assert report.uncertainty is None
    assert any("not validated, nothing like them was measured" in note for note in report.notes)


@pytest.mark.parametrize("kernel", ["flash-attention-2", "unfused-pytorch", "triton"])
def test_a_kernel_that_is_asked_for_computes_no_other_text(kernel: str) -> None:
    with pytest.raises(CascadeSimError, match=f"^kernel {kernel} does not compute linear-attention.*kernel=auto$"):
        plan("linear-attention", settings=(f"kernel={kernel}",))


@pytest.mark.parametrize("name", ["h100-sxm", "a100-sxm", "rtx4090"])
@pytest.mark.parametrize("text", RUN)
def test_the_cycle_level_is_never_below_the_busiest_unit(name: str, text: str) -> None:
    found, _ = plan(text, name, length=2000)
    for phase in found.phases:
        assert phase.program is not None
        schedule = run(phase.program())
        assert schedule.cycles >= max(one.cycles for one in phase.activities)
        assert schedule.cycles <= 1.05 * phase.analytical_cycles + 10_000  # no calibrated overlap, no turns of blocks


@pytest.mark.parametrize("settings", [("dtype=fp8",), ("types.kv=fp8",), ("types.kv=int4",), ("dtype=fp32",)])
def test_types_of_operands_are_moved_at_their_width(settings: tuple[str, ...]) -> None:
    found, machine = plan("linear-attention", "h100-sxm", "llama-3.2-1b", 100_000, "decode", settings)
    plain, _ = plan("linear-attention", "h100-sxm", "llama-3.2-1b", 100_000, "decode")
    assert list(problems(found, machine)) == []
    width = {"fp8": 1, "int4": 4.25 / 8, "fp32": 4}[settings[0].split("=")[1]]
    assert found.traffic.read_bytes == pytest.approx(plain.traffic.read_bytes * width / 2, rel=0.01)


def test_types_that_do_not_convert_are_refused() -> None:
    with pytest.raises(CascadeSimError, match="neither converts to the other"):
        plan("linear-attention", "h100-sxm", "llama-3.2-1b", 100, "decode", ("types.attention=int8", "types.kv=fp8"))


def test_a_plan_that_loses_half_its_traffic_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    _, machine = plan("linear-attention", length=65536)
    whole = timing.BetweenLaunches.movement

    def halved(self: timing.BetweenLaunches, number: int) -> StageMovement:
        found = whole(self, number)
        return StageMovement(found.l2_bytes, found.read_bytes / 2, found.write_bytes, found.again_bytes)

    monkeypatch.setattr(timing.BetweenLaunches, "movement", halved)
    with pytest.raises(PlanError, match="are compulsory"):
        checked(plan("linear-attention", length=65536)[0], machine)


def test_texts_of_libraries_stay_theirs() -> None:
    for text in ("attention-1pass", "attention-3pass", "attention-1pass-causal"):
        found, machine = plan(text)
        assert isinstance(machine, Gpu)
        assert found.kernel != "generic"
        assert found.validated
    assert find("attention-1pass").outputs == ("AV",)
