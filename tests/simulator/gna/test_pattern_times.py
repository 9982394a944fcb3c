"""Times of patterns on a device: parts that add up, bounds that hold, patterns of one density side by side."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from cascadesim.accelerators.catalogue import load
from cascadesim.einsum_cascades.models.workload import load_workload
from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.einsum_cascades.sparsity.pattern_masks import PatternMask
from cascadesim.simulator.cli.commands import cascadesim, exit_code
from cascadesim.simulator.gna.comparison import at_density, compared
from cascadesim.simulator.gna.pattern_report import pattern_answer
from cascadesim.simulator.gna.pattern_times import PatternPrediction, pattern_prediction
from cascadesim.simulator.gna.report import Scenario
from cascadesim.simulator.simulate import simulate

CARD = Scenario(device="h100-sxm", heads=32)
LENGTH = 16384


def predicted(pattern: str, run: Scenario = CARD, causal: bool = True) -> PatternPrediction:
    return pattern_prediction(PatternMask(pattern, (LENGTH,), causal), run)


def gna(*arguments: str) -> int:
    return exit_code(cascadesim, "cascadesim", ["gna", *arguments, "--q-tile", "128", "--kv-tile", "128"])


@pytest.mark.parametrize("pattern", ["pbs:share=0.2", "flash-moba", "nsa", "xattention",
                                     "sink-window:sinks=64,window=512",
                                     "power:block=256,window=4,sinks=1"])  # fmt: skip
def test_the_gap_is_what_lies_between_the_promise_and_the_time(pattern: str) -> None:
    found = predicted(pattern)
    assert sum(found.gap_s.values()) + found.promised_s == pytest.approx(found.times.total_s, rel=1e-9)
    assert sum(found.passes_s.values()) == pytest.approx(found.times.choice_s + found.times.permute_s, rel=1e-9)
    assert found.gap_s["tiles from a list"] > 0
    assert found.gap_s["masked tiles"] >= 0
    assert found.promised_s < found.times.kernel_s < found.times.dense_s


def test_the_promise_is_the_share_of_the_causal_pairs() -> None:
    """512 keys a query, less what the first 511 queries do not have."""
    pairs = LENGTH * 512 - sum(range(512))
    found = predicted("sink-window:sinks=0,window=512")
    assert found.promised_s / found.times.dense_s == pytest.approx(pairs / (LENGTH * (LENGTH + 1) / 2), rel=1e-12)


def test_times_are_those_of_simulate() -> None:
    """32 heads with keys of their own: a model of such heads, its attention and its passes."""
    workload = load_workload("llama", ["attention.pattern=moba", "attention.kv_heads=32"])
    report = simulate(workload, load("h100-sxm"), sequence_length=LENGTH, batch=1, scope="attention",
                      fidelity="analytical")[0]  # fmt: skip
    assert predicted("moba").times.total_s == pytest.approx(report.latency_s, rel=1e-3)  # whole cycles there


def test_rows_that_are_moved_are_no_choice() -> None:
    found = predicted("pbs")
    assert found.times.permute_s == pytest.approx(found.passes_s["gather_keys"] + found.passes_s["gather_values"])


def test_more_heads_choose_and_attend_in_proportion() -> None:
    """Eight times the batch: eight times the passes, less launches and partial waves."""
    one, eight = predicted("moba"), predicted("moba", replace(CARD, batch=8))
    assert 6 < eight.times.total_s / one.times.total_s < 8.5


def test_json_keeps_the_keys_of_a_prediction(capsys: pytest.CaptureFixture[str]) -> None:
    assert gna("--layout", str(LENGTH), "--pattern", "pbs", "--device", "h100-sxm", "--format", "json") == 0
    found = json.loads(capsys.readouterr().out)["predicted"]
    assert {"device", "kernel_s", "permute_s", "total_s", "dense_s", "kernel_speedup", "speedup"} <= set(found)
    assert found["total_s"] == pytest.approx(found["kernel_s"] + found["choice_s"] + found["permute_s"])
    assert found["speedup"] == pytest.approx(found["dense_s"] / found["total_s"])


@pytest.mark.parametrize("name", ["pbs", "moba", "flash-moba", "sink-window", "xattention"])
def test_a_pattern_is_set_to_a_density(name: str) -> None:
    text = at_density(name, (LENGTH,), 0.2, True)
    assert text is not None
    found = pattern_answer((LENGTH,), text, None, (128,), (128,))
    assert 1 - found.sparsity == pytest.approx(0.2, rel=0.05)


@pytest.mark.parametrize("name", ["power", "tidal", "vsa", "clusters", "vertical-slash", "halo"])
def test_patterns_without_an_amount_or_of_another_causality_are_left_out(name: str) -> None:
    assert at_density(name, (LENGTH,), 0.2, True) is None


def test_patterns_of_one_density_are_compared() -> None:
    """Fastest first; those that pay are those above dense attention; what has no time says why."""
    found = compared((LENGTH,), 0.1, (128,), (128,), CARD, causal=True)
    speedups = [found.speedup_of(answer) for answer in found.answers]
    assert speedups == sorted(speedups, reverse=True)
    assert found.paying == sum(speedup > 1 for speedup in speedups)
    assert {answer.name.partition(":")[0] for answer in found.answers} >= {"pbs", "moba", "sink-window"}
    assert "multiplies no int4" in found.refused["sale"]
    with pytest.raises(CascadeSimError, match="does not say what a list of key tiles costs"):
        compared((LENGTH,), 0.1, (128,), (128,), replace(CARD, device="fusemax"), causal=True)


def test_the_comparison_prints_a_line_for_each(capsys: pytest.CaptureFixture[str]) -> None:
    assert gna("--layout", "4096", "--density", "0.2", "--recommend", "--device", "h100-sxm") == 0
    assert "patterns pay" in capsys.readouterr().out


@pytest.mark.parametrize(("arguments", "message"), [
    (("--density", "0.2"), "--density goes with --device"),
    (("--density", "2", "--device", "h100-sxm"), "give a share from 0 to 1"),
    (("--density", "0.2", "--pattern", "pbs"), "give one of"),
    (("--pattern", "pbs", "--device", "fusemax"), "fusemax does not say what a list of key tiles costs"),
    (("--pattern", "pbs", "--device", "h100"), "did you mean"),
    (("--pattern", "tidal", "--device", "h100-sxm"), "limits new tokens only"),
])  # fmt: skip
def test_what_has_no_time_is_one_line(
    arguments: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert gna("--layout", "4096", *arguments) == 2
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1
    assert message in error


def test_tiles_of_patterns_are_128_unless_given(capsys: pytest.CaptureFixture[str]) -> None:
    """Windows need theirs: their figures are those of the tiles."""
    shown = []
    for tiles in ((), ("--q-tile", "128", "--kv-tile", "128")):
        assert exit_code(cascadesim, "cascadesim", ["gna", "--layout", "4096", "--pattern", "moba", *tiles]) == 0
        shown.append(capsys.readouterr().out)
    assert shown[0] == shown[1]
    for given, missing in ((("--q-tile", "8x8"), "--kv-tile"), ((), "--q-tile")):
        code = exit_code(cascadesim, "cascadesim", ["gna", "--layout", "32x32", "--window", "3x3", *given])
        assert (code, capsys.readouterr().err) == (2, f"gna: missing option '{missing}'\n")
