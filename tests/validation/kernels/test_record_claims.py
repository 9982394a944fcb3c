"""Claims about records, on records made up here: what would hold, what would not."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from cascadesim.validation.kernels.model import PRESETS, calls_of, seconds_of
from cascadesim.validation.kernels.record_claims import judged as judged_records
from cascadesim.validation.kernels.records import TIMES, committed, fault, read
from cascadesim.validation.measure.cases import BenchmarkCase, cases

BOXES = {"layout": [64, 64], "window": [24, 24], "stride": [1, 1], "query_tile": [16, 8], "key_tile": [8, 8],
         "H": 16, "D": 128}  # fmt: skip


def judged(name: str, paths: list[Path]) -> tuple:
    """Of files without a damaged line."""
    lines = [read(path) for path in paths]
    assert not any(each.complaints for each in lines)
    return judged_records(name, [record for each in lines for record in each.records])


def record(
    dense_us: float, sparse_us: float, without_mask: int = 100, device: str = "none", masked_us: float = 1.0,
    **check: float | None,
) -> str:  # fmt: skip
    """A case that visits 100 of 1000 tile pairs: the bound is 10."""
    return json.dumps({
        "schema": "cascadesim.measurement/2", "suite": "neighborhood", "case": "made up",
        "device": {"name": device}, "shape": BOXES,
        "work": {"key_tiles": 100, "without_mask": without_mask, "dense_key_tiles": 1000},
        "timing": {"dense, ours": {"cold": [dense_us, 1.0, 1e6]}, "attention in tile order": {"cold": [sparse_us]},
                   "masks in every tile": {"cold": [masked_us]}},
        "check": {**dict.fromkeys(("dense, ours", "attention in tile order", "masks in every tile"), 1e-3), **check},
    })  # fmt: skip


@pytest.mark.parametrize(("speedup", "holds"), [(9.1, True), (8.9, False), (10.5, True)])
def test_nine_tenths_of_the_bound_is_asked_where_nothing_is_masked(tmp_path: Path, speedup: float, holds: bool) -> None:
    path = tmp_path / "made-up.jsonl"
    path.write_text(record(1000 * speedup, 1000.0) + "\n")
    (verdict,) = judged("gna-kernels", [path])
    assert verdict.holds is holds


@pytest.mark.parametrize("error", [0.5, None])
@pytest.mark.parametrize("wrong", ["attention in tile order", "dense, ours"])
def test_wrong_results_are_no_evidence_of_speed(tmp_path: Path, wrong: str, error: float | None) -> None:
    path = tmp_path / "made-up.jsonl"
    path.write_text(record(10_000.0, 1000.0, **{wrong: error}) + "\n")
    assert judged("gna-kernels", [path]) == ()


def test_masked_cases_and_other_suites_are_not_judged(tmp_path: Path) -> None:
    path = tmp_path / "made-up.jsonl"
    path.write_text(record(1000.0, 1000.0, without_mask=50) + "\n")
    (verdict,) = judged("gna-kernels", [path])
    assert not verdict.judged
    assert judged("cascade-passes", [path]) == ()


def test_masks_everywhere_are_reported_against_the_static_counts(tmp_path: Path) -> None:
    """Of 100 tiles 50 have no mask; the masked loop has more instructions, so masks everywhere take longer."""
    path = tmp_path / "made-up.jsonl"
    path.write_text(record(1000.0, 100.0, 50, "NVIDIA H100 80GB HBM3", 120.0) + "\n")
    found = {verdict.claim.metric: verdict for verdict in judged("gna-kernels", [path])}
    (cell,) = found["masks_everywhere"].cells
    assert cell.measured == pytest.approx(1.2)
    assert 1.0 < cell.predicted < 2.0
    assert not found["masks_everywhere"].judged


def kernel(read: float, products: float = 0.0) -> dict:
    return {"kernel": "k", "values": {"dram__bytes_read.sum": read,
                                      "sm__inst_executed_pipe_tensor_op_gmma.sum": products}}  # fmt: skip


def counted(path: Path, suite: str, shape: dict, counters: dict) -> Path:
    record = {"schema": "cascadesim.counters/1", "suite": suite, "case": "made up", "device": {"name": "none"},
              "shape": shape, "counters": counters}  # fmt: skip
    path.write_text(json.dumps(record) + "\n", encoding="utf-8")
    return path


@pytest.mark.parametrize(("share", "holds"), [(1.0, True), (1.3, True), (0.9, False)])
def test_a_kernel_that_reads_less_than_its_inputs_would_refute_the_bound(
    tmp_path: Path, share: float, holds: bool
) -> None:
    """Q, K and V of 2 heads, 128 tokens, head dimension 64, 2 bytes: 3 * 2 * 128 * 64 * 2 = 98,304."""
    shape = {"B": 1, "H": 2, "L": 128, "D": 64, "causal": False}
    path = counted(tmp_path / "r.jsonl", "attention", shape, {"attention-1pass": [kernel(share * 98304)]})
    judging, reporting = judged("cascade-passes", [path])
    assert judging.holds is holds
    assert not reporting.judged


@pytest.mark.parametrize(("scores_read", "holds"), [(2, True), (1, False)])
def test_stored_scores_are_read_again_by_each_further_pass(tmp_path: Path, scores_read: int, holds: bool) -> None:
    """Two passes after the first one: 2 heads * 128^2 scores * 4 bytes each time."""
    shape = {"B": 1, "H": 2, "L": 128, "D": 64, "causal": False}
    kernels = [kernel(98304), *[kernel(2 * 128**2 * 4)] * scores_read]
    path = counted(tmp_path / "r.jsonl", "attention", shape, {"attention-3pass-stored": kernels})
    (judging,) = judged("cascade-passes", [path])
    assert judging.holds is holds


def test_causal_kernels_and_the_library_are_not_judged(tmp_path: Path) -> None:
    shape = {"B": 1, "H": 2, "L": 128, "D": 64, "causal": False}
    path = counted(tmp_path / "r.jsonl", "attention", shape, {"sdpa FLASH_ATTENTION": [kernel(1.0)]})
    assert judged("cascade-passes", [path]) == ()


@pytest.mark.parametrize(("dense_reads", "holds"), [(1.0, True), (1.5, False)])
def test_pruned_tokens_save_what_is_counted(tmp_path: Path, dense_reads: float, holds: bool) -> None:
    """Half of the tokens kept: 3 / (1 + 2 / 2) = 1.5 of the traffic; 2 of the products, 4/3 where scores come twice."""
    shape = {"B": 1, "H": 16, "M": 4096, "kept": 2048, "D": 128}
    counters = {"dense": [kernel(dense_reads * 1.5e6, 4e6)], "dense after compaction": [kernel(1e6, 2e6)],
                "gathered": [kernel(1e6, 3e6)]}  # fmt: skip
    traffic, work = judged("spatten-kernels", [counted(tmp_path / "r.jsonl", "pruned", shape, counters)])
    assert traffic.holds is holds
    assert work.holds


PRUNED = {"B": 1, "H": 16, "M": 4096, "D": 128}


def spatten(folder: Path, shape: dict, counters: dict, **work: int) -> dict:
    path = counted(folder / "r.jsonl", "pruned", shape, counters)
    path.write_text(json.dumps({**json.loads(path.read_text()), "work": work}) + "\n", encoding="utf-8")
    return {verdict.claim.name.split(",")[0]: verdict for verdict in judged("spatten-kernels", [path])}


@pytest.mark.parametrize(("read", "holds"), [(0.5e6, True), (0.8e6, False)])
def test_pruned_heads_save_their_share(tmp_path: Path, read: float, holds: bool) -> None:
    """Half of 16 heads: half of the bytes and of the products."""
    counters = {"all heads": [kernel(1e6, 3e6)], "8 heads": [kernel(read, 1.5e6)]}
    found = spatten(tmp_path, {**PRUNED, "kept_heads": 8}, counters)
    assert found["bytes from DRAM"].holds is holds
    assert found["matrix instructions"].holds


@pytest.mark.parametrize(("products", "holds"), [(2.5e6, True), (3e6, False)])
def test_values_that_are_not_fetched_save_a_sixth(tmp_path: Path, products: float, holds: bool) -> None:
    """Three products and three tensors, half a one less of each: 3 / 2.5 = 1.2."""
    counters = {"all values": [kernel(1.2e6, 3e6)], "values by tile": [kernel(1e6, products)]}
    found = spatten(tmp_path, PRUNED, counters)
    assert found["matrix instructions"].holds is holds
    assert found["bytes from DRAM"].holds


def test_planes_of_keys_save_bytes_and_nothing_is_said_of_products(tmp_path: Path) -> None:
    """D 64, per key: 16-bit keys and values 256 bytes; upper plane and values 32 + 128; then both planes and values."""
    counters = {"16 bits, full width": [kernel(256e3)], "upper 4 bits": [kernel(160e3)], "all 8 bits": [kernel(352e3)]}
    found = spatten(tmp_path, PRUNED, counters, full_width_bytes=256, upper_bytes=160, all_bytes=352)
    (verdict,) = found.values()
    assert verdict.holds
    assert len(verdict.cells) == 2


def test_cases_that_prune_nothing_say_nothing(tmp_path: Path) -> None:
    assert spatten(tmp_path, PRUNED, {"forward": [kernel(1.0)], "column sums": [kernel(1.0)]}) == {}


def test_times_are_no_counters(tmp_path: Path) -> None:
    path = tmp_path / "made-up.jsonl"
    path.write_text(record(1000.0, 1000.0) + "\n")
    assert judged("spatten-kernels", [path]) == ()


H100 = "NVIDIA H100 80GB HBM3"
LONG = {"B": 1, "H": 16, "L": 16384, "D": 128, "causal": False}
DECODE = {"B": 16, "H": 32, "G": 8, "M": 8192, "D": 128}


def timed(
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
    found = by_claim(timed(tmp_path, "attention", LONG, {"flop": 4 * 16 * 16384**2 * 128}, predicted))["latency_s"]
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
    found = by_claim(timed(tmp_path, "attention", LONG, {"flop": 4 * 16 * 16384**2 * 128}, times))
    assert found["against_flash"].holds is flash_holds
    assert found["triton_flops"].holds is triton_holds


@pytest.mark.parametrize(("ours_us", "holds"), [(240.0, True), (260.0, False)])
def test_decoding_reaches_eight_tenths_of_a_copy(tmp_path: Path, ours_us: float, holds: bool) -> None:
    times = {"split keys": ours_us, "copy of the keys": 200.0}
    path = timed(tmp_path, "decode", DECODE, {"bytes": 2 * 2 * 16 * 8 * 8192 * 128}, times)
    assert by_claim(path)["copy_share"].holds is holds


@pytest.mark.parametrize("error", [None, 0.02])
def test_small_caches_wrong_results_and_unknown_devices_are_left_out(tmp_path: Path, error: float | None) -> None:
    work, times = {"bytes": 33_554_432}, {"split keys": 10.0, "copy of the keys": 10.0}
    assert set(by_claim(timed(tmp_path, "decode", {**DECODE, "B": 1}, work, times))) == {"latency_s"}
    assert judged("kernels-measured", [timed(tmp_path, "decode", DECODE, work, times, "Other GPU")]) == ()
    wrong = timed(tmp_path, "decode", DECODE, work, {"split keys": 10.0, "copy of the keys": 9.0},
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


def as_predicted(case: BenchmarkCase, factor: float, device: str = H100, **check: float | None) -> dict[str, Any]:
    """Every variant takes `factor` times what was predicted of it."""
    rows = {name: committed()[H100, case.suite, case.name, name] for name in case.variants}
    us = {name: factor * 1e6 * (row.seconds or 1e-3) for name, row in rows.items()}
    made = {"schema": TIMES, "suite": case.suite, "case": case.name, "device": {"name": device},
            "shape": dict(case.shape), "work": dict(case.work), "check": {**dict.fromkeys(us, 1e-4), **check},
            "timing": {name: {"cold": [each], "hot": [], "many": []} for name, each in us.items()}}  # fmt: skip
    return made


def named(name: str) -> BenchmarkCase:
    return next(case for case in cases() if case.name == name)


@pytest.mark.parametrize(("factor", "holds"), [(1.0, True), (1.3, True), (1.4, False), (0.75, False)])
def test_half_of_our_kernels_must_be_within_a_quarter(factor: float, holds: bool) -> None:
    """predicted / measured - 1: 1 / 1.3 is 23 % low, 1 / 1.4 29 %, 1 / 0.75 33 % high."""
    judging, library = judged_records("kernels-predicted", [as_predicted(named("B4 H16 L4096 D128"), factor)])
    assert judging.holds is holds
    assert [cell.row.text("kernel") for cell in judging.cells] == [
        "attention-1pass", "attention-2pass", "attention-3pass", "attention-3pass-stored", "attention-1pass, mma.sync",
    ]  # fmt: skip
    assert not library.judged
    assert len(library.cells) == 3


def test_wrong_results_are_left_out_and_so_is_what_was_not_predicted() -> None:
    case = named("2048 of 4096 tokens")
    (judging,) = judged_records("kernels-predicted", [as_predicted(case, 1.0, gathered=0.5, compaction=None)])
    assert [cell.row.text("kernel") for cell in judging.cells] == ["dense", "dense after compaction"]
    assert judged_records("kernels-predicted", [as_predicted(case, 1.0, device="NVIDIA Other")]) == ()


def test_a_launch_is_told_by_many_in_a_row() -> None:
    made = as_predicted(named("launch"), 5.0)
    made["timing"]["empty"]["many"] = [1.3]
    assert fault(made) is None
    (rates,) = judged_records("kernels-predicted", [made])
    measured = {cell.row.text("kernel"): cell.measured for cell in rates.cells}
    assert measured["empty"] == pytest.approx(1.3e-6)
    assert measured["empty, CUDA C++"] == pytest.approx(5 * 1.3e-6)


def test_the_commit_of_a_prediction_stands_beside_it() -> None:
    (rates,) = judged_records("kernels-predicted", [as_predicted(named("launch"), 1.0)])
    assert {cell.row.text("commit") for cell in rates.cells} == {row.commit for row in committed().values()}
