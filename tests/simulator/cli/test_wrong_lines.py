"""Wrong command lines as people type them: one line of at most 300 characters, exit code 2, and a way out."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cascadesim.einsum_cascades.notation.errors import suggestion

if TYPE_CHECKING:
    from conftest import Run

RUN = "simulate --arch h100-sxm --workload llama"
ARRAY = "simulate --arch fusemax --workload llama"
GNA = "gna --window 18x24x24 --q-tile 4x8x8 --kv-tile 2x8x8"

LINES = [  # what is typed, and the part of the answer that says what to type instead
    ("simulate", "cascadesim simulate --help has examples"),
    ("simulate h100 llama", "missing option '--arch'"),
    ("simulate --arch h100 --workload llama", "did you mean 'h100-sxm'?"),
    ("simulate --arch H100 --workload llama", "did you mean 'h100-sxm'?"),
    ("simulate --arch H100-SXM5 --workload llama", "did you mean 'h100-sxm'?"),
    ("simulate --arch nvidia --workload llama", "`cascadesim list` names all"),
    ("simulate --arch groq-lpu --workload llama", "known: a10, a100-pcie"),
    ("simulate --arch h100-sxm, --workload llama", "empty name"),
    ("simulate --arch mine.yaml --workload llama", "mine.yaml: cannot be read: No such file"),
    ("simulate --arch h100-sxm --workload meta-llama/Llama-3.1-8B-Instruct", "did you mean 'llama-3.1-8b'?"),
    ("simulate --arch h100-sxm --workload config.json", "config.json: cannot be read: No such file"),
    ("workload config.yaml", "config.yaml: cannot be read"),
    ("workload", "cascadesim workload --help has examples"),
    ("simulate --arch h100-sxm --workload llama3", "did you mean 'llama-3'?"),
    ("simulate --arch h100-sxm --workload gpt-5", "did you mean 'gpt"),
    ("simulate --arch h100-sxm --model llama", "give --workload NAME"),
    ("simulate --gpu h100-sxm --workload llama", "give --arch NAME"),
    ("simulate --arch h100-sxm -w llama", "give --workload NAME"),
    (f"{RUN} --seqlen 4096", "give --seq-len N"),
    (f"{RUN} --seq-len 4,096", "did you mean 4096?"),
    (f"{RUN} --seq-len 131,072", "did you mean 131072?"),
    (f"{RUN} --seq-len 4096.0", "give one such as 4096, 64K or 1M"),
    (f"{RUN} --seq-len 4KB", "give one such as 4096, 64K or 1M"),
    (f"{RUN} --seq-len 4 K", "no blanks"),
    (f"{RUN} --seq-len -1", "give a length from 1 to 16M"),
    (f"{RUN} --seq-len 1G", "give one such as 4096, 64K or 1M"),
    (f"{RUN} --batch 0", "give 1 to 65536 sequences"),
    (f"{RUN} --batch 1,024", "did you mean 1024?"),
    (f"{RUN} --batch 8x", "not a whole number"),
    (f"{RUN} --batch-size 8", "did you mean '--batch'?"),
    (f"{RUN} --phase generation", "give one of: prefill, decode"),
    (f"{RUN} --phase decoding", "did you mean 'decode'?"),
    (f"{RUN} --phase prefill decode", "several values go with commas"),
    ("simulate --arch h100-sxm --workload bert --phase decode", "needs a model that generates"),
    (f"{RUN} --scope layer", "give one of: attention, linear, model"),
    (f"{RUN} --fidelity cycles", "did you mean 'cycle'?"),
    (f"{RUN} --dtype fp8", "give --set dtype=TYPE"),
    (f"{RUN} --tp 8", "give --set parallel.tensor=N"),
    (f"{RUN} --set dtype=float16", "'fp16', 'bf16'"),
    (f"{RUN} --set dtype fp8", "give dotted.field=value"),
    (f"{RUN} --set types.weight=int4", "did you mean 'types.weights'?"),
    (f"{RUN} --set bandwidth=6.7TB/s", "`cascadesim show h100-sxm` has all"),
    (f"{RUN} --set dram_bytes_per_s=6.7TB", "a value such as 6.7TB/s"),
    (f"{RUN} --set clock=1.9GHz", "did you mean 'clock_hz'?"),
    (f"{RUN} --set clock_hz=1.9 GHz", "in quotes"),
    (f"{RUN} --set clock_hz:1.9e9", "give dotted.field=value"),
    (f"{RUN} --set power_w=300", "did you mean 'datasheet.power_w'?"),
    (f"{RUN} --set datasheet.power_w=300", "changes nothing: GPUs have no energy model"),
    (f"{ARRAY} --set rows=512", "did you mean 'pe_array.rows'?"),
    (f"{ARRAY} --set pe_array=512x512", "expected fields (rows, columns"),
    (f"{ARRAY} --set global_buffer.capacity_bytes=16M", "a value such as 8MiB"),
    (f"{ARRAY} --set global_buffer.capacity_bytes=1KB", "needs 1028"),
    (f"{RUN} --attention flash", "`cascadesim list` names all"),
    (f"{RUN} --attention attention-1-pass", "did you mean 'attention-1pass'?"),
    (f"{RUN} --mapping best", "known: flat, flat-slices"),
    (f"{RUN} --mapping search", "takes no mapping"),
    (f"{RUN} --show roofline", "give one of: operations, einsums"),
    (f"{RUN} --plot out.pdf", "ends in .png or .svg"),
    (f"{RUN} --plot", "requires an argument"),
    (f"{RUN} --output /no/such/place.json", "no folder '/no/such'"),
    (f"{RUN} --format yaml", "give one of: table, json, csv"),
    (f"{RUN} --json", "give --format json"),
    ("simulate --arch h100-sxm --workload llama-3.1-70b", "not even a batch of 1 fits"),
    (f"{RUN} --phase decode --batch 64 --seq-len 8K", "the largest batch that fits is 58"),
    ("passes", "cascadesim passes --help"),
    ("passes attention-1-pass", "did you mean 'attention-1pass'?"),
    ("passes attention-1pass --rank k", "known: e, f, h, m"),
    ("passes attention-1pass --set M0", "such as M0=256"),
    ("passes nothing.cascade", "No such file"),
    ("gna --layout 30x48x80", "give one of --window"),
    (f"{GNA} --layout 30,48,80", "did you mean 30x48x80?"),
    (f"{GNA} --layout 30x48", "the layout has 2 dimensions"),
    (f"{GNA} --layout 16x48x80", "window 18 is larger than the layout 16"),
    (f"{GNA} --layout 30x48x80 --device h100", "did you mean 'h100-sxm'?"),
    ("gna --layout 4096 --pattern window --q-tile 128 --kv-tile 128", "did you mean 'sink-window'?"),
    ("gna --layout 4096 --pattern moba:topk=3 --q-tile 128 --kv-tile 128", "known: head_dim, block, kept"),
    ("explore fusemax", "known: fusemax-front-256k"),
    ("map attention-2pass", "missing option '--arch'"),
    ("map attention-2pass --arch fusemax --objective speed", "give one of: latency"),
    ("list gpus", "give one of: architectures"),
    ("show h100", "did you mean 'h100-sxm'?"),
    ("validate gpu", "did you mean 'gpu-"),
    ("simulat --arch h100-sxm", "did you mean 'simulate'?"),
    ("help", "known: claims, explore, generate, gna"),
    ("--arch h100-sxm", "no such option '--arch'"),
]


@pytest.mark.parametrize("name", ["x" * 5000, "\0", "a/" * 3000, "x" * 5000 + ".json", "\0.json", "../" * 50])
def test_names_that_no_file_can_have_are_one_line(run: Run, name: str) -> None:
    for line in (("simulate", "--arch", "flat", "--workload", name), ("show", name), ("workload", name),
                 ("simulate", "--arch", name, "--workload", "bert")):  # fmt: skip
        code, out, error = run.cascadesim(*line)
        assert (code, out) == (2, "")
        assert error.count("\n") == 1
        assert len(error) <= 300 + len("simulate: \n")


def test_capitals_do_not_hide_what_was_meant() -> None:
    assert suggestion("m0", ["M0", "K1"]) == "; did you mean 'M0'?"
    assert suggestion("FUSEMAX", ["fusemax", "flat"]) == "; did you mean 'fusemax'?"


def test_there_are_fifty_and_more() -> None:
    assert len({typed for typed, _ in LINES}) == len(LINES) >= 50


@pytest.mark.parametrize(("typed", "way_out"), LINES, ids=[typed for typed, _ in LINES])
def test_a_wrong_line_is_answered_in_one_line(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, typed: str, way_out: str
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, error = run.cascadesim(*shlex.split(typed))
    assert (code, out) == (2, "")
    assert way_out.lower() in error.lower()
    assert error.count("\n") == 1
    assert len(error) <= 300 + len("simulate: \n")
    assert list(tmp_path.iterdir()) == []
