"""Pruning traces on the command line: where they run, what is said of bad ones.

What devices that divide a model run and hold, in its types; what does not fit is refused with what does.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from hypothesis import example, given
from hypothesis import strategies as st

from cascadesim.accelerators import catalogue
from cascadesim.accelerators.catalogue import load as accelerator
from cascadesim.einsum_cascades.models.workload import Workload, load_workload
from cascadesim.einsum_cascades.notation.errors import CascadeSimError, SpecError
from cascadesim.einsum_cascades.sparsity.pruning_trace import TracedHead, write_rows
from cascadesim.simulator.cli.commands import exit_code
from cascadesim.simulator.cli.commands import simulate as command
from cascadesim.simulator.report import MemoryUse
from cascadesim.simulator.request import WORKSPACE_BYTES, Request, largest_batch, load_any_workload, memory
from cascadesim.simulator.simulate import parts, simulate

ROWS = tuple(TracedHead(0, 0, head, 300, 200, 60, 8, 8) for head in range(4))


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    write_rows(ROWS, tmp_path / "rows.csv")
    return tmp_path / "rows.csv"


def test_a_trace_is_simulated_as_its_rows_say(trace: Path) -> None:
    (report,) = simulate(load_any_workload(str(trace)), accelerator("spatten-1-8"), scope="attention", phase="decode")
    assert (report.workload, report.scope, report.phase) == ("rows.csv", "attention", "decode")
    assert report.sequence_length == 300
    assert report.parameters is None
    assert report.traffic.read_bytes == 4 * 32 * 2 * (200 + 64)  # values are fetched in multiples of 8
    assert report.analytical_cycles <= report.cycles


def test_the_command_line_needs_no_phase_and_no_scope(trace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(command, "simulate", ("--arch", "spatten", "--workload", str(trace), "--format", "json")) == 0
    (report,) = json.loads(capsys.readouterr().out)["reports"]
    assert (report["scope"], report["phase"], report["parameters"]) == ("attention", "decode", None)
    assert "rows.csv: the attention of 4 traced heads over 1 iterations; nothing else of the model" in report["notes"]


@pytest.mark.parametrize("format_", ["table", "csv"])
def test_it_is_printed_in_every_form(trace: Path, format_: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(command, "simulate", ("--arch", "spatten", "--workload", str(trace), "--format", format_)) == 0
    said = {"table": "rows.csv on spatten: the heads of its rows, up to 300 tokens\n", "csv": "spatten,rows.csv,"}
    assert said[format_] in capsys.readouterr().out


def test_a_bad_row_gets_its_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "rows.csv"
    write_rows([ROWS[0], TracedHead(0, 0, 1, 5000, 3000, 60, 8, 8)], path)
    assert exit_code(command, "simulate", ("--arch", "spatten", "--workload", str(path))) == 2
    error = capsys.readouterr().err
    assert error == "simulate: rows.csv: line 3: key_fetch_num 3000 needs 376 buffer lines, the buffer has 256\n"
    path.write_text(path.read_text().replace(",60,", ",300,"))
    with pytest.raises(SpecError, match=r"rows\.csv: line 2: value_fetch_num 300 is above key_fetch_num 200"):
        load_any_workload(str(path))


@pytest.mark.parametrize("name", ["fusemax", "flat", "unfused"])
def test_other_machines_refuse_a_trace(trace: Path, name: str) -> None:
    with pytest.raises(CascadeSimError, match=rf"rows\.csv: {name} runs models; pruning traces are for accelerators"):
        simulate(load_any_workload(str(trace)), accelerator(name), scope="attention")


def test_a_trace_has_no_fields_to_set(trace: Path) -> None:
    with pytest.raises(SpecError, match="--set hidden=4: a pruning trace has no such field"):
        load_any_workload(str(trace), ("hidden=4",))


def test_models_are_loaded_as_ever() -> None:
    assert isinstance(load_any_workload("bert"), Workload)


LLAMA = 8_030_261_248  # parameters
PER_TOKEN = 32 * 8 * (128 + 128)  # numbers of the KV cache: layers, key heads, key and value


def run(*arguments: str, arch: str = "h100-sxm", batch: int = 128) -> Result:
    chosen = ["--arch", arch, "--workload", "llama", "--phase", "decode", "--batch", str(batch), "--seq-len", "8K"]
    return CliRunner().invoke(command, [*chosen, *arguments])


def settings(*types: str) -> list[str]:
    return [part for one in types for part in ("--set", one)]


def held(*types: str, batch: int = 1, phase: str = "decode", length: int = 8192) -> MemoryUse:
    on = catalogue.load("h100-sxm", types)
    found = memory(Request(load_workload("llama"), on, length, batch, phase))  # type: ignore[arg-type]
    assert found is not None
    return found


def refusal(result: Result) -> str:
    assert isinstance(result.exception, CascadeSimError)
    assert len(str(result.exception)) < 300
    return str(result.exception)


def test_weights_and_cache_in_8_bits_fit_where_16_bits_do_not() -> None:
    """128 x 8192 x 65,536 numbers of cache and 8.03e9 weights, a byte each."""
    result = run(*settings("types.weights=fp8", "types.kv=fp8"), "--format", "json")
    found: dict[str, Any] = json.loads(result.output)["reports"][0]
    assert found["memory_bytes"]["kv"] == found["kv_cache_bytes"] == 128 * 8192 * PER_TOKEN == 68_719_476_736
    assert found["memory_bytes"]["weights"] == LLAMA == found["parameters"]
    assert found["memory_bytes"]["capacity"] == 80_000_000_000
    printed = " ".join(run(*settings("types.weights=fp8", "types.kv=fp8")).output.split())
    assert "of 80.00 GB: weights 8.03 GB, KV cache 68.72 GB, activations 0.03 GB, workspace 1.00 GB" in printed


def test_what_does_not_fit_is_refused_with_each_part_and_the_largest_batch_that_fits() -> None:
    """Of 80 GB less 16.06 and 1 of workspace, 117 x 0.5369 GB of 8-bit cache, 58 x 1.0737 of 16-bit."""
    line = refusal(run(*settings("types.kv=fp8")))
    assert "weights 16.06 + KV cache 68.72 + activations 0.03 + workspace 1.00 = 85.81 GB exceed the 80.00 GB" in line
    assert line.endswith("the largest batch that fits is 117")
    assert refusal(run()).endswith("the largest batch that fits is 58")


@pytest.mark.parametrize(("types", "largest"), [((), 58), (("types.kv=fp8",), 117), (("dtype=fp8",), 132)])
def test_the_largest_batch_that_is_named_fits_and_the_next_does_not(types: tuple[str, ...], largest: int) -> None:
    assert held(*types, batch=largest).fits
    assert not held(*types, batch=largest + 1).fits


@example(weights=39, each=2, kinks=[-212], capacity=251, most=120)
@given(weights=st.integers(0, 100), each=st.integers(0, 9), kinks=st.lists(st.integers(-500, 500), max_size=3),
       capacity=st.integers(0, 3000), most=st.integers(0, 600))  # fmt: skip
def test_the_largest_batch_is_found_with_few_tries(
    weights: int, each: int, kinks: list[int], capacity: int, most: int
) -> None:
    """Activations are the most of several operations: lines with kinks, that start anywhere."""
    tried = []

    def needed(batch: int) -> MemoryUse:
        tried.append(batch)
        live = max([0, *((place + 2) * batch + kink for place, kink in enumerate(kinks))])
        return MemoryUse(weights, each * batch, 0, 0, live, 0, capacity)

    fitting = [batch for batch in range(1, most + 1) if needed(batch).fits]
    tried.clear()
    assert largest_batch(most, needed) == max(fitting, default=0)
    assert len(tried) <= (4 * (most + 1).bit_length() + 4 if kinks else 4)


def test_a_steep_end_does_not_slow_the_search_down() -> None:
    """One byte a request, a million beyond 1,000 of them: lines through both ends alone come nearer by inches."""
    tried = []

    def needed(batch: int) -> MemoryUse:
        tried.append(batch)
        return MemoryUse(0, batch, 0, 0, 1_000_000 * max(0, batch - 1000), 0, 1500)

    assert largest_batch(2**16, needed) == 1000
    assert len(tried) <= 4 * 17


def test_a_larger_memory_takes_it() -> None:
    assert run(*settings("types.kv=fp8"), arch="h200-sxm").exit_code == 0
    assert run(*settings("types.kv=fp8", "dram_bytes=90_000_000_000")).exit_code == 0


def test_one_type_for_all_is_that_of_the_memory_too() -> None:
    kinds = [f"types.{kind}=fp8" for kind in ("weights", "kv", "activations", "attention")]
    assert held("dtype=fp8") == held(*kinds) != held()
    assert held("dtype=fp8").weights == LLAMA


def test_activations_are_the_stream_and_the_widest_operation() -> None:
    """Decode, 4 rows: the vocabulary's scores: 4096 in, 128,256 out, 2 bytes. Prompt: 4096 in, 14,336 out."""
    assert held(batch=4).activations == 2 * 4 * (4096 + 4096 + 128_256)
    assert held(phase="prefill", length=1024).activations == 2 * 1024 * (4096 + 3 * 14_336)  # gate: two in, one out
    assert held().workspace == WORKSPACE_BYTES


def test_routed_experts_are_stored_in_their_own_type() -> None:
    model = load_workload("mixtral")
    experts = 32 * 8 * 3 * 4096 * 14_336
    assert model.expert_parameters() == experts
    found = memory(Request(model, catalogue.load("h200-sxm", ["types.experts=mxfp4"]), 1024, 1, "decode"))
    assert found is not None
    assert found.weights == 2 * (model.parameters() - experts) + experts * 17 // 32  # 4.25 bits


def test_embeddings_and_head_are_stored_in_their_own_type() -> None:
    """Llama-3.1-8B: twice 128,256 x 4096 in 16 bits, the rest in 8."""
    machine = catalogue.load("h100-sxm", ["types.weights=fp8", "types.head=bf16"])
    found = memory(Request(load_workload("llama"), machine, 1024, 1, "decode"))
    assert found is not None
    assert found.weights == load_workload("llama").parameters() + 2 * 128_256 * 4096


def test_attention_alone_is_checked_for_its_cache_alone_and_products_not_at_all() -> None:
    """80 GB hold 74 sequences of 1.0737 GB."""
    line = refusal(run("--scope", "attention"))
    assert line.startswith("llama-3.1-8b: KV cache 137.44 GB exceed the 80.00 GB of h100-sxm; ")
    assert line.endswith("; the largest batch that fits is 74")
    assert run("--scope", "attention", batch=74).exit_code == 0
    assert run("--scope", "linear", batch=1024).exit_code == 0


def test_weights_that_never_fit_are_said_so() -> None:
    result = CliRunner().invoke(command, ["--arch", "h100-sxm", "--workload", "llama-3.1-70b"])
    assert refusal(result).endswith("not even a batch of 1 fits")


def test_the_same_sizes_from_the_cache_and_as_they_are_made_are_two_plans() -> None:
    """Cross-attention of a prompt of one token, then of one token of decoding: in the types of each."""
    on, model = catalogue.load("h100-sxm", ["types.kv=fp8"]), load_workload("t5-small")
    types = [
        work.execution.plan.types
        for phase in ("prefill", "decode")
        for part in parts(Request(model, on, 1, 1, phase, "attention", "analytical"))  # type: ignore[arg-type]
        for work in part if work.operation.name == "cross_attention"
    ]  # fmt: skip
    assert types == ["bf16", "bf16, cache in fp8"]


def test_accelerators_that_state_no_memory_hold_anything() -> None:
    assert memory(Request(load_workload("llama"), catalogue.load("fusemax"), 8192, 4096)) is None


@pytest.mark.parametrize(("arch", "width"), [("fusemax", "word_bytes"), ("spatten", "element_bits")])
@pytest.mark.parametrize("setting", ["types.kv=fp8", "dtype=fp8"])
def test_arrays_of_one_width_refuse_types(arch: str, width: str, setting: str) -> None:
    result = run(*settings(setting), arch=arch)
    assert isinstance(result.exception, SpecError)
    field = setting.partition("=")[0]
    assert str(result.exception) == f"--set {field}: {arch} keeps all numbers in one width, {width}, and has no types"


@pytest.mark.slow
def test_the_cache_of_an_array_has_its_width() -> None:
    analytical = ("--fidelity", "analytical", "--format", "json")
    result = run("--set", "word_bytes=1", *analytical, arch="fusemax", batch=2)
    assert json.loads(result.output)["reports"][0]["kv_cache_bytes"] == 2 * 8192 * PER_TOKEN


@pytest.mark.parametrize(
    ("workload", "setting", "line"),
    [
        ("bert", "types.kv=fp8", "types.kv: bert keeps no KV cache"),
        ("dit-xl-2-256", "types.head=fp8", "types.head: dit-xl-2-256 has no vocabulary"),
        ("llama", "types.experts=fp8", "types.experts: llama-3.1-8b has no routed experts"),
    ],
)
def test_a_type_for_what_a_model_lacks_is_refused(workload: str, setting: str, line: str) -> None:
    result = CliRunner().invoke(command, ["--arch", "h100-sxm", "--workload", workload, "--set", setting])
    assert line in refusal(result)


def divided(*arguments: str) -> Result:
    return CliRunner().invoke(command, ["--arch", "h100-sxm", "--workload", "llama", "--seq-len", "8K", *arguments])


def report(*arguments: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(divided("--format", "json", *arguments).output)["reports"][0]
    return found


@pytest.mark.parametrize("fidelity", ["analytical", "cycle"])
def test_the_sums_are_operations_of_the_time_line(fidelity: str) -> None:
    """32 layers x 271.7 us: 14 steps of 8.39 MB at 450 GB/s and 0.6 us, and a launch of 2.3 us."""
    found = report("--set", "parallel.tensor=8", "--fidelity", fidelity)
    sums = [row for row in found["operations"] if row["kind"] == "collective"]
    assert [row["name"] for row in sums] == ["out_proj_all_reduce", "ffn_down_all_reduce"]
    for row in sums:
        assert row["cycles"] / found["clock_hz"] == pytest.approx(32 * 271.7e-6, rel=1e-3)
    assert found["uncertainty"]["covers"] is False
    assert found["parameters"] == report()["parameters"]  # of the whole model


def test_eight_devices_are_faster_than_one_but_not_eight_times() -> None:
    one, eight = report()["latency_s"], report("--set", "parallel.tensor=8")["latency_s"]
    assert one / 8 < eight < one / 3


def test_one_device_is_a_report_without_a_link() -> None:
    assert report("--set", "parallel.tensor=1")["operations"] == report()["operations"]
    assert "link" not in report()["utilization"]


def test_memory_is_that_of_each_device() -> None:
    """64 x 128K tokens: 1,099.5 GB of cache over 8 are 137.4 GB on each; over 16, where key heads repeat, as many."""
    decode = ("--phase", "decode", "--seq-len", "128K", "--batch")
    for devices in (8, 16):
        result = CliRunner().invoke(command, ["--arch", "h100-sxm", "--workload", "llama", *decode, "64",
                                              "--set", f"parallel.tensor={devices}"])  # fmt: skip
        assert isinstance(result.exception, CascadeSimError)
        assert "KV cache 137.44 + " in str(result.exception)
        assert "the 80.00 GB of h100-sxm on each device; the largest batch that fits is 3" in str(result.exception)
    assert divided(*decode, "32", "--set", "parallel.tensor=8").exit_code == 0


def test_the_note_says_what_each_device_holds() -> None:
    """(8.030e9 - 266,240) / 8 + 266,240 parameters; 1 GiB of cache over 8."""
    found = report("--set", "parallel.tensor=8")
    assert any("it has 1.00 G parameters" in note for note in found["notes"])
    assert found["memory_bytes"]["kv"] == 2**27
    assert found["memory_bytes"]["weights"] == pytest.approx(2.008e9, rel=1e-3)
    assert found["kv_cache_bytes"] == 2**30  # of the whole model


def test_heads_that_do_not_divide_are_refused_with_what_does() -> None:
    result = divided("--set", "parallel.tensor=3")
    assert isinstance(result.exception, CascadeSimError)
    assert "32 heads divide over 2, 4, 8, 16, 32" in str(result.exception)


def test_attention_alone_has_no_sums() -> None:
    found = report("--set", "parallel.tensor=8", "--scope", "attention")
    assert [row["name"] for row in found["operations"]] == ["attention"]
