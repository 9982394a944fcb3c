"""`kernels-measured` on records made up here: what is predicted of them, and what our kernels must reach."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from cascadesim.validation.kernels.measured_calls import calls_of
from cascadesim.validation.kernels.measured_claims import PRESETS, seconds_of
from cascadesim.validation.kernels.record_claims import judged as judged_records
from cascadesim.validation.kernels.record_lines import read
from cascadesim.validation.measure.cases import cases

H100 = "NVIDIA H100 80GB HBM3"
LONG = {"B": 1, "H": 16, "L": 16384, "D": 128, "causal": False}
DECODE = {"B": 16, "H": 32, "G": 8, "M": 8192, "D": 128}


def judged(name: str, paths: list[Path]) -> tuple:
    """Of files without a damaged line."""
    lines = [read(path) for path in paths]
    assert not any(each.damaged for each in lines)
    return judged_records(name, [record for each in lines for record in each.records])


def record(
    folder: Path, suite: str, shape: dict, work: dict, us: dict, device: str = H100, **check: float | None
) -> Path:
    path = folder / "made-up.jsonl"
    line = {"schema": "cascadesim.measurement/2", "suite": suite, "case": "made up", "device": {"name": device},
            "shape": shape, "work": work, "check": {**dict.fromkeys(us, 1e-3), **check},
            "timing": {name: {"cold": [time]} for name, time in us.items()}}  # fmt: skip
    path.write_text(json.dumps(line) + "\n", encoding="utf-8")
    return path


def by_claim(path: Path) -> dict:
    return {verdict.claim.metric: verdict for verdict in judged("kernels-measured", [path])}


def test_times_of_the_model_have_no_error(tmp_path: Path) -> None:
    predicted = {name: seconds_of(calls, "h100-sxm") * 1e6 for name, calls in calls_of("attention", LONG, {}).items()}
    found = by_claim(record(tmp_path, "attention", LONG, {"flop": 4 * 16 * 16384**2 * 128}, predicted))["latency_s"]
    assert len(found.cells) == 5
    assert found.errors.maximum == pytest.approx(0)
    assert not found.judged


@pytest.mark.parametrize(("ours_us", "flash_holds", "triton_holds"), [
    (2900.0, True, True),  # 4 * 16 * 16384^2 * 128 FLOP = 2.2 TFLOP: 758 TFLOP/s
    (3100.0, False, True),
    (6300.0, False, False),  # 349 TFLOP/s, and nine tenths of 395 are 355.5
])  # fmt: skip
def test_the_long_case_is_held_against_flash_attention_and_published_triton(
    tmp_path: Path, ours_us: float, flash_holds: bool, triton_holds: bool
) -> None:
    times = {"attention-1pass": ours_us, "sdpa FLASH_ATTENTION": 3000.0}
    found = by_claim(record(tmp_path, "attention", LONG, {"flop": 4 * 16 * 16384**2 * 128}, times))
    assert found["against_flash"].holds is flash_holds
    assert found["triton_flops"].holds is triton_holds


@pytest.mark.parametrize(("ours_us", "holds"), [(240.0, True), (260.0, False)])
def test_decoding_reaches_eight_tenths_of_a_copy(tmp_path: Path, ours_us: float, holds: bool) -> None:
    times = {"split keys": ours_us, "copy of the keys": 200.0}
    path = record(tmp_path, "decode", DECODE, {"bytes": 2 * 2 * 16 * 8 * 8192 * 128}, times)
    assert by_claim(path)["copy_share"].holds is holds


@pytest.mark.parametrize("error", [None, 0.02])
def test_small_caches_wrong_results_and_unknown_devices_are_left_out(tmp_path: Path, error: float | None) -> None:
    work, times = {"bytes": 33_554_432}, {"split keys": 10.0, "copy of the keys": 10.0}
    assert set(by_claim(record(tmp_path, "decode", {**DECODE, "B": 1}, work, times))) == {"latency_s"}
    assert judged("kernels-measured", [record(tmp_path, "decode", DECODE, work, times, "Other GPU")]) == ()
    wrong = record(tmp_path, "decode", DECODE, work, {"split keys": 10.0, "copy of the keys": 9.0},
                   **{"split keys": error})  # fmt: skip
    assert judged("kernels-measured", [wrong]) == ()


@pytest.mark.parametrize("device", PRESETS)
def test_records_of_a_whole_run_are_compared(tmp_path: Path, device: str) -> None:
    """Every case of a default run, with a stand-in for its timer: each predicted variant has a finite error."""
    path = tmp_path / "made-up.jsonl"
    lines, predicted = [], 0
    for case in cases():
        names = [*calls_of(case.suite, case.shape, case.work), "sdpa FLASH_ATTENTION", "copy of the keys", "top-k"]
        lines.append({
            "schema": "cascadesim.measurement/2", "suite": case.suite, "case": case.name,
            "check": dict.fromkeys(names, 1e-4),
            "device": {"name": device}, "shape": case.shape, "work": case.work,
            "timing": {name: {"cold": [100.0, 101.0, 99.0]} for name in names},
        })  # fmt: skip
        predicted += len(names) - 3
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    found = by_claim(path)
    assert len(found["latency_s"].cells) == predicted > 100
    assert all(math.isfinite(cell.error("deviation")) for cell in found["latency_s"].cells)
    assert ("triton_flops" in found) == (PRESETS[device] == "h100-sxm")
    assert len({cell.row.text("case") for cell in found["copy_share"].cells}) == 3  # 33 MB are too few
    judging, masked, everywhere = judged("gna-kernels", [path])
    assert {cell.row.text("masks") for cell in judging.cells} == {"none"}
    assert len(everywhere.cells) == len(judging.cells) + len(masked.cells)
