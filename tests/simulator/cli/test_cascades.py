"""Rewritten and imported cascades on standard output: they read back, compute the same, need the passes they should."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from cascadesim.einsum_cascades.analysis.evaluate import evaluate
from cascadesim.einsum_cascades.texts import find
from cascadesim.simulator.cli.commands import cascadesim, exit_code

STEPS = ("--to", "defer-division", "--to", "split:m=M0", "--to", "online")


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = exit_code(cascadesim, "cascadesim", ("rewrite", *arguments))
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def test_three_passes_become_one(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, out, error = run(capsys, "attention-3pass", *STEPS)
    assert (code, error) == (0, "")
    saved = tmp_path / "mine.cascade"
    saved.write_text(out)
    mine, random = find(saved), np.random.default_rng(0)
    assert mine.passes("m") == 1
    inputs = {name: random.normal(size=(2, 6, 3)) for name in "QKV"}
    expected = evaluate(find("attention-3pass"), inputs)["AV"]
    assert np.allclose(evaluate(mine, inputs, {"M0": 2})["AV"], expected)


def test_without_a_rewrite_the_text_is_printed_as_the_notation_writes_it(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = run(capsys, "toy-two-pass")
    assert out == "Y = A[k] * B[k]\nZ = Y[] * A[k]   # needs the finished Y with every element of A again\n"


def test_online_by_itself_takes_the_rank_of_the_maximum(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "softmax", "--to", "online") == run(capsys, "softmax", "--to", "online:d")


@pytest.mark.parametrize(("cascade", "step", "message"), [
    ("softmax", "onlin", "no rewrite 'onlin'; give defer-division, split:RANK=EXTENT such as split:m=M0"),
    ("softmax", "split:d", "no rewrite 'split:d'"),
    ("softmax", "defer-division:d", "no rewrite 'defer-division:d'"),
    ("softmax", "split:q=Q0", "no rank of softmax 'q'; known: d, r"),
    ("linear", "online", "linear: online takes one rank that a maximum is taken over, and there are 0"),
    ("softmax", "online:r", "softmax: nothing to make iterative along 'r'"),
    ("softmax", "defer-division", "softmax: no division can be deferred"),
    ("nope", "online", "no cascade 'nope'"),
])  # fmt: skip
def test_what_cannot_be_rewritten_is_said_in_one_line(
    cascade: str, step: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, error = run(capsys, cascade, "--to", step)
    assert (code, out) == (2, "")
    assert error.startswith(f"rewrite: {message}")
    assert error.count("\n") == 1


def test_an_imported_cascade_reads_back(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    theirs, mine = tmp_path / "theirs.yaml", tmp_path / "mine.cascade"
    texts = "QK[b, m, p] = Q[b, m, e] * K[b, M: p, e]", "S[b, m] = QK[b, m, p]"
    theirs.write_text("workload:\n  einsums:\n" + "".join(f'  - "{text}"\n' for text in texts))
    assert exit_code(cascadesim, "cascadesim", ("import", str(theirs))) == 0
    printed = capsys.readouterr().out
    assert printed == "QK[b,m,p] = Q[b,m,e] * K[b,p,e]\nS[b,m]    = QK[b,m,p]\n"
    mine.write_text(printed)
    assert find(mine).outputs == ("S",)


def test_what_cannot_be_imported_is_refused_in_one_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    theirs = tmp_path / "theirs.yaml"
    theirs.write_text("einsum:\n  expressions: 3\n")
    assert exit_code(cascadesim, "cascadesim", ("import", str(theirs))) == 2
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == ("", "import: theirs.yaml, line 2: expected a list of Einsums\n")


LLAMA = {"model_type": "llama", "num_hidden_layers": 32, "hidden_size": 4096, "num_attention_heads": 32,
         "num_key_value_heads": 8, "intermediate_size": 14336, "vocab_size": 128256,
         "max_position_embeddings": 131072}  # fmt: skip


def test_a_models_own_file_runs_as_the_workload_that_comes_along(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Llama 3.1 8B, as its config.json says; and as the YAML that is printed of it."""
    (tmp_path / "config.json").write_text(json.dumps(LLAMA))
    assert exit_code(cascadesim, "cascadesim", ["workload", str(tmp_path)]) == 0
    (tmp_path / "mine.yaml").write_text(capsys.readouterr().out)
    found = []
    for name in (str(tmp_path / "config.json"), str(tmp_path), str(tmp_path / "mine.yaml"), "llama"):
        run = ["simulate", "--arch", "h100-sxm", "--workload", name, "--format", "json"]
        assert exit_code(cascadesim, "cascadesim", run) == 0
        (report,) = json.loads(capsys.readouterr().out)["reports"]
        found.append((report["latency_s"], report["parameters"], report["kv_cache_bytes"], report["memory_bytes"]))
    assert found == [found[3]] * 4
    assert exit_code(cascadesim, "cascadesim", ["show", str(tmp_path / "config.json")]) == 0
    assert "decoder, 8,030,261,248 parameters" in capsys.readouterr().out
