"""Reports carry how far published calls of their kind were from the model, and whether these cover the run."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from click.testing import CliRunner

from cascadesim.accelerators import catalogue
from cascadesim.einsum_cascades.sparsity.masks import FULL, KeyInterval, Mask
from cascadesim.simulator.cli.commands import simulate
from cascadesim.simulator.uncertainty import (
    Call,
    MeasuredStratum,
    _measured,
    _nearest,
    attention_sizes,
    mask_name,
    uncertainty_of,
)


def run(*arguments: str) -> list[dict[str, Any]]:
    result = CliRunner().invoke(simulate, [*arguments, "--format", "json"], catch_exceptions=False)
    found: list[dict[str, Any]] = json.loads(result.output)["reports"]
    return found


def error(*arguments: str) -> dict[str, Any]:
    found: dict[str, Any] = run(*arguments)[0]["uncertainty"]
    return found


def on_h100(*arguments: str) -> dict[str, Any]:
    decode = ("--phase", "decode", "--batch", "32") if "--phase" not in arguments else ()
    return error("--arch", "h100-sxm", "--workload", "llama", "--scope", "attention", *decode, *arguments)


def stratum(**changes: Any) -> MeasuredStratum:
    sizes: dict[str, Any] = {"keys": (64, 4096), "head_dim": (64, 128)}
    given: dict[str, Any] = {
        "kind": "attention", "what": "calls of toys", "fidelity": "cycle", "rows": 20, "latency": 0.1, "p90": 0.3,
        "largest": 0.9, "ranges": sizes, "masks": ("full",),
    }  # fmt: skip
    return MeasuredStratum(**{**given, **changes})


def call(keys: float = 128, **changes: Any) -> Call:
    given: dict[str, Any] = {"kind": "attention", "mask": "full", "kernel": "", "types": "", "fidelity": "cycle"}
    return Call(sizes=attention_sizes(1, 8, 8, 1, keys, 64, 64, 1e-3), **{**given, **changes})


def test_a_call_inside_what_was_measured_has_no_problem_and_others_say_theirs() -> None:
    assert stratum().problems(call()) == ()
    assert stratum().problems(call(8192)) == ("keys 8,192 (measured: 64 to 4,096)",)
    assert stratum().problems(call(mask="causal")) == ("mask causal",)
    assert stratum(types=("bf16",)).problems(call(types="fp8")) == ("types fp8",)
    assert stratum(kernel="one").problems(call(kernel="two")) == ("kernel two",)
    assert stratum().problems(call(fidelity="analytical")) == ("the closed form",)
    assert stratum(ranges={"head_dim": (128,)}).problems(call()) == ("head dim 64 (measured: 128)",)


def test_a_depth_between_two_that_were_measured_is_another() -> None:
    """Of 96 nothing is known where kernels for 64 and 128 were timed: it runs as 128 would."""
    wide = replace(call(), sizes=attention_sizes(1, 8, 8, 1, 128, 96, 96, 1e-3))
    assert stratum().problems(wide) == ("head dim 96 (measured: 64, 128)",)


def test_the_nearest_stratum_is_of_the_same_fidelity_then_kernel_then_shape_then_the_largest() -> None:
    far = stratum(fidelity="analytical")
    other = stratum(kernel="two")
    shape = stratum(kernel="one", masks=("causal",))
    small, large = stratum(kernel="one", rows=10), stratum(kernel="one", rows=30)
    asked = call(kernel="one")
    for nearer, further in ((other, far), (shape, other), (small, shape), (large, small)):
        assert _nearest((further, nearer), asked) == _nearest((nearer, further), asked) == nearer
    assert _nearest((stratum(kind="linear"),), asked) is None


@pytest.mark.parametrize(
    ("mask", "name"),
    [
        (FULL, "full"), (KeyInterval(True, None, None), "causal"), (KeyInterval(True, 128, None), "window"),
        (KeyInterval(True, None, 64), "keyinterval"),
    ],
)  # fmt: skip
def test_masks_are_told_apart(mask: Mask, name: str) -> None:
    assert mask_name(mask) == name


def test_decoding_inside_the_measured_shapes_is_covered_by_its_kernel_on_its_device() -> None:
    found = on_h100()
    assert found["covers"] is True
    assert found["basis"] == (
        "published calls of attention in decoding by flash-attention-3-decode on h100-sxm (validation suite gpu-decode)"
    )
    assert set(found) == {"latency", "basis", "p90", "rows", "covers"}
    assert 0 < found["latency"] < found["p90"] < 1
    assert found["rows"] >= 10


def test_a_measured_type_is_covered_and_another_is_not() -> None:
    """Decode rows of an fp8 cache beside bf16 are published; of int4 weights none are."""
    assert on_h100("--set", "types.kv=fp8")["covers"] is True
    linear = ("--arch", "h100-sxm", "--workload", "llama", "--scope", "linear")
    assert error(*linear)["covers"] is True
    narrow = error(*linear, "--set", "types.weights=int4")
    assert narrow["covers"] is False
    assert narrow["basis"].startswith("outside what was measured: types bf16 x int4 in bf16; nearest: ")


@pytest.mark.slow
def test_whole_models_are_not_validated() -> None:
    found = error("--arch", "h100-sxm", "--workload", "llama", "--batch", "4", "--phase", "decode")
    assert found["covers"] is False
    assert found["basis"].startswith("whole models are not validated; nearest: published calls of products on h100")
    assert error("--arch", "fusemax", "--workload", "gemma-3-1b", "--seq-len", "256",
                 "--fidelity", "analytical")["covers"] is False


def test_shapes_beyond_the_rows_are_outside() -> None:
    """115,456 tokens, where published calls end at 65,536; a prompt so short that its call takes less than 20 us."""
    video = error("--arch", "h100-sxm", "--workload", "hunyuanvideo", "--scope", "attention")
    assert video["covers"] is False
    assert "outside what was measured: queries 115,456 (measured: 1 to 65,536)" in video["basis"]
    short = on_h100("--seq-len", "128", "--phase", "prefill")
    assert "outside what was measured: call s" in short["basis"]


def test_the_cycle_level_has_errors_of_its_own() -> None:
    closed, cycle = (on_h100("--seq-len", "8K", "--fidelity", fidelity) for fidelity in ("analytical", "cycle"))
    assert cycle["basis"].endswith("(validation suite gpu-cycle)")
    assert (closed["rows"], closed["covers"], cycle["covers"]) == (cycle["rows"], True, True)
    bert = ("--arch", "h100-sxm", "--workload", "bert", "--scope", "attention", "--fidelity")
    assert error(*bert, "cycle")["latency"] > error(*bert, "analytical")["latency"]


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        (("sms=100",), "measured without sms=100"),
        (("datasheet.dram_bytes_per_s=6.7e+12",), "measured without datasheet.dram_bytes_per_s=6.7e+12"),
        (("kernel=flash-attention-2",), "outside what was measured: kernel flash-attention-2-decode"),
    ],
)
def test_a_changed_machine_was_not_measured(settings: tuple[str, ...], why: str) -> None:
    found = on_h100(*(part for one in settings for part in ("--set", one)))
    assert found["covers"] is False
    assert found["basis"].startswith(f"{why}; nearest: ")


def test_one_device_of_several_is_what_was_measured() -> None:
    """Two key heads and eight query heads on each of four."""
    assert on_h100("--set", "parallel.tensor=4")["covers"] is True


def test_another_cascade_is_not_what_was_measured() -> None:
    found = error("--arch", "fusemax", "--workload", "bert", "--scope", "attention", "--seq-len", "1K",
                  "--attention", "attention-1pass-gqa")  # fmt: skip
    assert found["basis"].startswith("no run of attention-1pass-gqa was measured; nearest: ")


def test_models_that_an_array_was_compared_on_are_covered_and_others_are_not() -> None:
    bert = error("--arch", "fusemax", "--workload", "bert", "--scope", "attention", "--seq-len", "1K")
    assert bert["covers"] is True
    assert bert["rows"] == 13
    asked = ("--arch", "fusemax", "--workload", "llama-3.2-1b", "--scope", "attention", "--seq-len", "1K")
    assert error(*asked)["covers"] is False


def test_heads_of_another_size_are_not_what_the_rtl_ran() -> None:
    """SpAtten's RTL: 64 elements, a key head for each query head; Llama: 128, four query heads."""
    llama = error("--arch", "spatten", "--workload", "llama", "--scope", "attention", "--phase", "decode",
                  "--seq-len", "512")  # fmt: skip
    assert llama["covers"] is False
    gpt = error("--arch", "spatten", "--workload", "gpt-2-small", "--scope", "attention", "--phase", "decode",
                "--seq-len", "512")  # fmt: skip
    assert gpt["covers"] is True


def test_where_nothing_was_published_nothing_is_said() -> None:
    assert error("--arch", "mi300x", "--workload", "llama", "--scope", "linear") is None
    assert uncertainty_of("mine.yaml", (call(),)) is None


def test_only_calls_that_take_time_decide() -> None:
    """Of two calls one is outside: at 4 % of the time it does not matter, at 6 % it does."""
    inside = _inside()
    for share, covers in ((0.04, True), (0.06, False)):
        outside = Call("attention", {**inside.sizes, "head_dim": 4096}, inside.mask, "", "", "cycle", share)
        found = uncertainty_of("fusemax", (inside, outside))
        assert found is not None
        assert found.covers is covers


def _inside() -> Call:
    sizes = attention_sizes(64, 12, 12, 1024, 1024, 64, 64, 1e-3)
    return Call("attention", sizes, "full", "", "", "cycle", 0.9)


def test_only_architectures_that_exist_are_in_the_file() -> None:
    assert set(_measured()) <= set(catalogue.preset_names())
