"""`cascadesim generate`: what it prints, its JSON, and what it refuses in one line."""

from __future__ import annotations

import json

import pytest

import cascadesim as cs
from cascadesim.simulator.cli.commands import cascadesim, exit_code

ASKED = ("--arch", "h100-sxm", "--workload", "llama-3.1-8b", "--input", "128", "--output", "16")


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = exit_code(cascadesim, "cascadesim", ("generate", *arguments))
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def found(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, object]:
    code, out, error = run(capsys, *arguments, "--format", "json")
    assert (code, error) == (0, "")
    return dict(json.loads(out))


def test_the_json_has_every_field_of_the_contract(capsys: pytest.CaptureFixture[str]) -> None:
    one = found(capsys, *ASKED, "--concurrency", "4", "--devices", "2", "--engine", "vllm")
    assert one["schema"] == "cascadesim.generation/1"
    for field in ("ttft_s", "tpot_s", "latency_s", "tokens_per_s", "requests_per_s", "memory_bytes",
                  "largest_concurrency", "bound_by", "uncertainty"):  # fmt: skip
        assert one[field] is not None, field
    assert one["latency_s"] == dict.fromkeys(("mean", "p50", "p90", "p99"), one["latency_s"]["mean"])  # type: ignore[index]
    tokens = one["tokens_per_s"]
    assert isinstance(tokens, dict)
    assert tokens["per_device"] == pytest.approx(tokens["total"] / 2)
    assert (one["engine"], one["devices"], one["batching"]) == ("vllm", 2, "static")


def test_the_table_names_what_bounds_each_phase(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, error = run(capsys, *ASKED)
    assert (code, error) == (0, "")
    assert "1 request of 128 tokens at once, 16 new ones each" in " ".join(out.split())
    assert "first token" in out
    assert "bound by dram" in out
    assert "largest concurrency" in out


def test_what_it_prints_fits_80_columns(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory by kind, percentiles and notes go on below themselves."""
    monkeypatch.setenv("COLUMNS", "80")
    asked = (*ASKED, "--devices", "2", "--concurrency", "8", "--engine", "vllm")
    for batching in ("static", "continuous"):
        out = run(capsys, *asked, "--batching", batching)[1]
        assert max(map(len, out.splitlines())) <= 80
        assert "activations" in out


def test_requests_that_come_and_go_have_percentiles(capsys: pytest.CaptureFixture[str]) -> None:
    asked = (*ASKED, "--concurrency", "8", "--engine", "vllm", "--batching", "continuous", "--spread", "0.5")
    one = found(capsys, *asked, "--requests", "40")
    latency, first = one["latency_s"], one["first_token_s"]
    assert isinstance(latency, dict)
    assert isinstance(first, dict)
    assert 0 < latency["p50"] < latency["p90"] <= latency["p99"]
    assert one["ttft_s"] == first["mean"]
    assert (one["batching"], one["requests"], one["concurrency"]) == ("continuous", 40, 8)
    assert "vllm-0.10" in one["uncertainty"]["basis"]  # type: ignore[index]
    assert one["tokens_per_s"]["total"] == pytest.approx(16 * one["requests_per_s"], rel=0.1)  # type: ignore[index,operator]
    code, out, error = run(capsys, *asked)
    assert (code, error) == (0, "")
    said = " ".join(out.split())
    assert "8 requests of 128 tokens at once, 16 new ones each, come and go" in said
    assert "99% within" in said


def test_python_gives_what_the_command_prints(capsys: pytest.CaptureFixture[str]) -> None:
    result = cs.generate("h100-sxm", "llama-3.1-8b", input=128, output=16, concurrency=4, engine="vllm")
    assert result.to_dict() == found(capsys, *ASKED, "--concurrency", "4", "--engine", "vllm")
    assert result.tpot_s > 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--engine", "vlm"), "no engine 'vlm'; did you mean 'vllm'?"),
        (("--batching", "sometimes"), "no 'sometimes'"),
        (("--requests", "20"), "--requests and --spread go with --batching continuous"),
        (("--batching", "continuous", "--spread", "1"), "--spread"),
        (("--batching", "continuous", "--spread", "nan"), "give a number from 0 to below 1"),
        (("--engine", "vllm", "--set", "engine=sglang"), "--engine vllm and --set engine=sglang say the same"),
        (("--input", "1K,2K"), "takes one --input"),
        (("--devices", "3"), "no tensor parallelism over 3 devices"),
        (("--concurrency", "0"), "give 1 to"),
        (("--concurrency", "4000"), "the largest batch that fits is"),
        (("--set", "types.kv=int3"), "types.kv"),
    ],
)
def test_bad_input_is_refused_in_one_line(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], said: str
) -> None:
    code, out, error = run(capsys, *ASKED, *arguments)
    assert (code, out) == (2, "")
    assert said in error
    assert error.count("\n") == 1


def test_models_that_generate_nothing_and_machines_without_devices_are_refused(
    capsys: pytest.CaptureFixture[str],
) -> None:
    code, _, error = run(capsys, "--arch", "h100-sxm", "--workload", "bert")
    assert (code, error.count("\n")) == (2, 1)
    assert "generates no tokens" in error
    code, _, error = run(capsys, "--arch", "fusemax", "--workload", "llama", "--devices", "2", "--engine", "vllm")
    assert (code, error.count("\n")) == (2, 2)
    assert "generate: --devices 2: fusemax is one device" in error
    assert "generate: --engine vllm: fusemax runs no kernels of an engine" in error


def test_settings_that_change_nothing_are_said(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, error = run(capsys, *ASKED, "--set", "batch=4", "--set", "types.kv=fp8")
    assert code == 0
    assert error == "generate: --set batch=4: set but not used: all figures are the same without it\n"


def test_loaded_things_go_in_as_they_are() -> None:
    loaded = cs.generate(cs.load_accelerator("h100-sxm"), cs.load_workload("llama-3.1-8b"), input=128, output=16)
    assert loaded.to_dict() == cs.generate("h100-sxm", "llama-3.1-8b", input=128, output=16).to_dict()
