"""`map` finds a mapping, `simulate --mapping` runs it: what both print, and what they refuse in one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cascadesim.simulator.cli.commands import cascadesim, exit_code

PRODUCT = "Z[r,n] = A[r,k] * W[k,n]\n"
BERT = ("--workload", "bert", "--scope", "attention")


def run(capsys: pytest.CaptureFixture[str], command: str, *arguments: str) -> tuple[int, str, str]:
    code = exit_code(cascadesim, "cascadesim", (command, *arguments))
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def report(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, object]:
    code, out, error = run(capsys, "simulate", *arguments, "--format", "json")
    assert (code, error) == (0, "")
    (found,) = json.loads(out)["reports"]
    return dict(found)


@pytest.mark.slow
def test_what_is_found_is_written_and_runs(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    saved = tmp_path / "mine.mapping"
    code, out, _ = run(capsys, "map", "attention-2pass", "--arch", "flat", "--seq-len", "512", "--output", str(saved),
                       "--format", "json")  # fmt: skip
    found = json.loads(out)
    assert code == 0
    assert found["schema"] == "cascadesim.mapping/1"
    assert saved.read_text() == found["mapping"]
    ran = report(capsys, "--arch", "flat", *BERT, "--seq-len", "512", "--mapping", str(saved))
    assert ran["attention"] == "attention-2pass"
    assert ran["analytical_cycles"] == found["cycles"]
    assert ran["cycles"] == found["cycle_level_cycles"]
    assert found["lower_bound"] <= found["cycles"] <= found["cycle_level_cycles"]
    assert found["optimal"] == (found["lower_bound"] == found["cycles"])


@pytest.mark.slow
def test_a_mapping_is_at_least_as_fast_as_the_published_one(capsys: pytest.CaptureFixture[str]) -> None:
    """FuseMax: 12,288 tiles of 154 cycles for BERT at 1K; work may also move from the busier array to the other."""
    code, out, _ = run(capsys, "map", "attention-1pass", "--arch", "fusemax", "--seq-len", "1K")
    assert code == 0
    figures = {line.split()[0]: line for line in out.splitlines() if line}
    assert int(figures["closed"].split()[2].replace(",", "")) <= 12_288 * 154
    assert "1,892,352 cycles" in figures["published"]
    assert "mapping searched for attention-1pass" in out


@pytest.mark.slow
def test_at_cycle_level_the_mapping_that_runs_fastest_is_found(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    saved, case = tmp_path / "mine.mapping", ("--arch", "edge-array", "--seq-len", "512", "--batch", "1")
    asked = ("map", "gated-deltanet-chunked", *case, "--fidelity")
    bound, found = (json.loads(run(capsys, *asked, each, "--output", str(saved), "--format", "json")[1])
                    for each in ("analytical", "cycle"))  # fmt: skip
    assert bound["analytical"] is None
    figures = ("cycles", "energy_j", "dram_bytes", "cycle_level_cycles")
    assert found["analytical"] == {each: bound[each] for each in figures}
    assert bound["cycles"] <= found["cycles"] <= found["cycle_level_cycles"] < 0.95 * bound["cycle_level_cycles"]
    ran = report(capsys, *case, "--workload", "bert", "--scope", "attention", "--mapping", str(saved))
    assert ran["cycles"] == found["cycle_level_cycles"]
    assert f"cycles, {bound['cycle_level_cycles']:,} at cycle level: what closed forms alone find" in run(
        capsys, *asked, "cycle")[1]  # fmt: skip


@pytest.mark.slow
def test_any_cascade_is_mapped_at_given_sizes(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """512 x 256 results of depth 128 on 256 x 256 elements: two tiles of 128 steps, whatever the order."""
    text = tmp_path / "product.cascade"
    text.write_text(PRODUCT)
    sizes = ("--set", "r=512", "--set", "n=256", "--set", "k=128")
    code, out, _ = run(capsys, "map", str(text), "--arch", "fusemax", *sizes, "--objective", "dram", "--format", "json")
    found = json.loads(out)
    assert code == 0
    assert found["dram_bytes"] == found["lower_bound"] == 2 * (512 * 128 + 128 * 256 + 512 * 256)
    assert found["optimal"] is True
    assert found["cycles"] >= 2 * 128


def test_the_mapping_chooses_the_attention_it_is_for(capsys: pytest.CaptureFixture[str]) -> None:
    closed_form = ("--seq-len", "512", "--fidelity", "analytical")
    ran = report(capsys, "--arch", "fusemax", *BERT, "--mapping", "flat", *closed_form)
    assert ran["attention"] == "attention-3pass"
    assert "mapping=flat" in str(ran["uncertainty"])


def test_search_may_leave_the_published_plan(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("--arch", "fusemax", *BERT, "--seq-len", "1K", "--fidelity", "analytical")
    published, searched = report(capsys, *arguments), report(capsys, *arguments, "--mapping", "search")
    assert searched["cycles"] <= published["cycles"] == 1_892_352  # type: ignore[operator]


@pytest.mark.parametrize("command", [
    ("simulate", "--arch", "fusemax", *BERT, "--mapping", "fusemx"),
    ("simulate", "--arch", "h100-sxm", *BERT, "--mapping", "search"),
    ("simulate", "--arch", "spatten", "--workload", "gpt2", "--mapping", "search"),
    ("simulate", "--arch", "fusemax", *BERT, "--mapping", "fusemax", "--attention", "attention-3pass"),
    ("simulate", "--arch", "fusemax", *BERT, "--mapping", "fusemax", "--accounting", "artifact"),
    ("simulate", "--arch", "fusemax", *BERT, "--mapping", "none.mapping"),
    ("simulate", "--arch", "fusemax", *BERT, "--mapping", "output-stationary"),
    ("simulate", "--arch", "fusemax", "--workload", "bert", "--scope", "linear", "--mapping", "search"),
    ("map", "attention-1pas", "--arch", "fusemax"),
    ("map", "attention-1pass", "--arch", "h100-sxm"),
    ("map", "attention-top-k", "--arch", "flat"),
    ("map", "attention-1pass", "--arch", "flat", "--objective", "speed"),
    ("map", "attention-1pass", "--arch", "flat", "--seq-len", "1K,2K"),
    ("map", "attention-1pass", "--arch", "flat", "--fidelity", "cycle", "--objective", "dram"),
    ("map", "linear", "--arch", "flat"),
    ("map", "attention-1pass", "--arch", "flat", "--set", "m"),
])  # fmt: skip
def test_what_cannot_be_mapped_is_said_in_one_line(
    command: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, error = run(capsys, *command)
    assert (code, out) == (2, "")
    assert error.count("\n") == 1


def test_an_operation_that_no_unit_has_is_named_and_can_be_added(capsys: pytest.CaptureFixture[str]) -> None:
    """Divisions on the 1D array of FLAT, taken away and put back at two cycles each."""
    arguments = ("--arch", "flat", *BERT, "--attention", "attention-2pass", "--fidelity", "analytical")
    without = ("--set", "vector_array.operations.divide=null")
    code, _, error = run(capsys, "simulate", *arguments, *without)
    assert code == 2
    assert "A: array_1d has no divide" in error
    assert "--set vector_array.operations.divide=CYCLES adds it" in error
    code, _, _ = run(capsys, "simulate", *arguments, "--set", "vector_array.operations.divide=2")
    assert code == 0


@pytest.mark.slow
def test_flat_prints_its_published_dataflow_and_what_its_own_model_finds(capsys: pytest.CaptureFixture[str]) -> None:
    """512 KiB, heads of 512 x 64: FLAT published Q, K and V on chip, scores through DRAM; its model finds what 768
    heads of four Einsums of 512 x 512 on 32 lanes take, a mapping hardly more."""
    code, out, _ = run(capsys, "map", "attention-3pass", "--arch", "flat-edge", "--seq-len", "512")
    figures = {line.split()[0]: line for line in out.splitlines() if line}
    least = 768 * 4 * 512 * 512 // 32
    assert code == 0
    assert "the dataflow for these sizes" in figures["published"]
    assert f"{least:,} cycles" in figures["own"]
    published, closed = (int(figures[name].split()[place].replace(",", ""))
                         for name, place in (("published", 1), ("closed", 2)))  # fmt: skip
    assert least <= closed < 1.02 * least < published


LAYER = tuple(word for size in ("p=16", "m=16", "d=8", "h=2", "g=2", "j=2", "c=2", "i=2", "f=4", "n=24")
              for word in ("--set", size))  # fmt: skip


@pytest.mark.slow
def test_a_layer_says_what_fusing_gains_group_by_group(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    saved = tmp_path / "layer.mapping"
    layer = ("llama-layer", "--arch", "tpu-v4i-like", "--workload", "llama", *LAYER)
    code, out, _ = run(capsys, "map", *layer, "--output", str(saved), "--format", "json")
    found = json.loads(out)
    assert code == 0
    assert found["energy_j"] is None
    assert found["cycles"] <= found["unfused"]["cycles"] <= found["unfused"]["cycle_level_cycles"]
    assert found["dram_bytes"] < found["unfused"]["dram_bytes"]
    groups = found["groups"]
    assert len([name for group in groups for name in group["einsums"]]) == 28
    for whole in ("cycles", "dram_bytes"):
        assert sum(group[whole] for group in groups) == pytest.approx(found[whole])
        assert sum(group[f"unfused_{whole}"] for group in groups) == pytest.approx(found["unfused"][whole])
    assert saved.read_text() == found["mapping"]
    code, out, _ = run(capsys, "map", *layer)
    assert code == 0
    assert "fusing gains" in out
    assert f"{groups[0]['einsums'][0]} ... {groups[0]['einsums'][-1]}" in out


@pytest.mark.slow
@pytest.mark.parametrize(("arch", "said"), [("fusemax", True), ("edge-array", False)])
def test_other_tiles_of_the_text_one_by_one_are_said(
    capsys: pytest.CaptureFixture[str], arch: str, said: bool
) -> None:
    """Fused, chunks of 256 fill an array of 256 x 256; one by one, short ones move fewer scores."""
    code, out, _ = run(capsys, "map", "linear-attention-chunked", "--arch", arch, "--seq-len", "256", "--batch", "1")
    assert code == 0
    line = "one by one in tiles of C0 = 32, P0 = 32, fused in tiles of C0 = 256, P0 = 256: Einsums of the text have "
    assert (line in out) == said
    assert ("tiles of C0" in out) == said


def test_a_layer_of_another_model_is_refused_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, error = run(capsys, "map", "llama-layer", "--arch", "tpu-v4i-like")
    assert (code, out) == (2, "")
    assert error.startswith("map: bert has no layers of RMS norms")
    assert error.count("\n") == 1


def test_energy_without_prices_is_no_objective(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, error = run(capsys, "map", "attention-3pass", "--arch", "tpu-v4i-like", "--seq-len", "128",
                         "--objective", "energy")  # fmt: skip
    assert code == 2
    assert "no sourced energy on tpu-v4i-like" in error
