"""What is written down before anything is measured: every case, every variant, a time or a reason."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path

import pytest

from cascadesim.validation.kernels import predicted_times
from cascadesim.validation.kernels.predicted_times import (
    GPUS,
    NO_KERNEL,
    OTHERS,
    Rated,
    as_text,
    made,
    of_library,
    predicted_of,
    seconds,
)
from cascadesim.validation.kernels.records import committed
from cascadesim.validation.measure.cases import BenchmarkCase, Prepared, cases


def rated(unit: str, operations: float, **more: object) -> float:
    return seconds(Rated(unit, operations, **more), "h100-sxm")  # type: ignore[arg-type]


def test_every_variant_of_every_case_is_predicted_or_says_why_not() -> None:
    expected = {(gpu, case.suite, case.name, variant) for gpu in GPUS for case in cases() for variant in case.variants}
    assert set(committed()) == expected
    for row in committed().values():
        assert (row.seconds is None) == bool(row.why), row
        assert row.seconds is None or 1e-7 < row.seconds < 1.0
        assert re.fullmatch(r"[0-9a-f]{12}", row.commit)
    assert len({row.commit for row in committed().values()}) == 1


def test_most_of_our_kernels_are_predicted() -> None:
    ours = [row for row in committed().values() if row.suite != "microbenchmarks"]
    assert sum(row.seconds is not None for row in ours) > 0.85 * len(ours)
    assert {row.why for row in ours} - {""} == {
        "torch compiles a kernel of its own, which is not described",
        "cuDNN's kernel for one query is not described",
        "no model of selecting: the time depends on the data",
        "what it fetches depends on the data",
        "the kernel that masks single values is not described",
    }


def test_the_file_is_made_from_the_models(monkeypatch: pytest.MonkeyPatch) -> None:
    """A launch in a graph is a constant of the device; atomic additions have no rate."""
    some = [case for case in cases() if case.name in ("launch", "atomic additions to 1")]
    monkeypatch.setattr(predicted_times, "cases", lambda: some)
    text = as_text(made("0123456789ab"))
    rows = list(csv.DictReader(io.StringIO(text.split("\n", 2)[2])))
    assert [row["gpu"] for row in rows] == [gpu for gpu in GPUS for _ in range(4)]
    assert [float(row["seconds"]) for row in rows[:3]] == pytest.approx([1.3e-6, 1.3e-4, 1.3e-6])  # preset h100-sxm
    assert (rows[3]["seconds"], rows[3]["why"]) == ("", OTHERS)
    assert {row["commit"] for row in rows} == {"0123456789ab"}


def test_a_device_without_the_kernel_has_a_reason_in_place_of_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """cuDNN's kernel is described for Hopper and later."""
    some = [case for case in cases() if case.name == "B16 H32 L1024 D64"]
    monkeypatch.setattr(predicted_times, "cases", lambda: some)
    monkeypatch.setattr(predicted_times, "GPUS", {"NVIDIA A100-SXM4-80GB": "a100-sxm"})
    found = {row.variant: row for row in made("0123456789ab")}
    assert (found["sdpa CUDNN_ATTENTION"].seconds, found["sdpa CUDNN_ATTENTION"].why) == (None, NO_KERNEL)
    assert found["attention-1pass"].why == ""


def test_once_there_are_records_the_file_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "measurements" / "h100").mkdir(parents=True)
    (tmp_path / "measurements" / "h100" / "a.jsonl").write_text("{}\n")
    (tmp_path / "measurements" / "predictions.csv").write_text("as it was")
    monkeypatch.setattr(predicted_times, "MEASUREMENTS", tmp_path / "measurements")
    with pytest.raises(SystemExit, match="there are records"):
        predicted_times.main()
    assert (tmp_path / "measurements" / "predictions.csv").read_text() == "as it was"


def test_without_a_commit_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predicted_times, "MEASUREMENTS", tmp_path / "validation" / "measurements")
    (tmp_path / "validation").mkdir()
    with pytest.raises(SystemExit, match="predictions name a commit"):
        predicted_times.main()
    assert not (tmp_path / "validation" / "measurements").exists()


def test_rates_are_those_of_the_device() -> None:
    """H100: 132 SMs at 1.83 GHz; 128 FFMA, 128 bytes of shared memory a clock and SM; 1.3 us to launch."""
    per_s = 132 * 1.83e9
    assert rated("fp32", 2 * 128 * per_s) == pytest.approx(1 + 1.3e-6)
    assert rated("shared", 128 * per_s) == pytest.approx(1 + 1.3e-6)
    assert rated("launches", 1e6) == pytest.approx(1.3)
    assert rated("dram latency", 1000) == pytest.approx(0.6e-3 + 1.3e-6)
    assert rated("exponentials", 16 * per_s) > 1.0  # a share of the peak
    assert rated("products", 4096 * per_s) > 1.0
    assert rated("products", 8192 * per_s, dtype="fp8") == pytest.approx(rated("products", 4096 * per_s))
    assert rated("products", 4096.0, per_sm=True) == pytest.approx(rated("products", 4096.0 * 132))
    assert rated("products", 4096 * per_s, legacy=True) - 1.3e-6 == pytest.approx(
        1.5 * (rated("products", 4096 * per_s) - 1.3e-6)  # FA3 paper: mma.sync two thirds on Hopper
    )


def test_lanes_that_meet_in_a_bank_come_one_after_another() -> None:
    shared = predicted_of(next(case for case in cases() if case.name == "shared memory"))
    narrow = {name: found for name, found in shared.items() if name.startswith("4 bytes")}
    first = next(iter(narrow.values()))
    assert isinstance(first, Rated)
    assert [found.operations / first.operations for found in narrow.values() if isinstance(found, Rated)] == [
        1, 2, 8, 32]  # fmt: skip


def test_the_library_has_no_kernel_for_some_devices() -> None:
    dense = (of_library("cudnn", 1, 1, 1, 1024, 1024, 128),)
    assert seconds(dense, "a100-sxm") is None
    assert seconds(dense, "h100-sxm") is not None


def test_predictions_are_of_cold_caches() -> None:
    """16.8 MB of keys and values an entry, of which L2 would keep the first: from DRAM every entry takes as long.

    Of so many that what DRAM loses until it streams is nothing.
    """
    times = [seconds((of_library("flash-attention-2-decode", batch, 32, 8, 1, 4096, 128),), "h100-sxm") or 0.0
             for batch in (4, 8, 16)]  # fmt: skip
    assert times[1] - times[0] == pytest.approx((times[2] - times[1]) / 2, rel=0.1)


def test_a_case_of_its_own_has_reasons_for_everything() -> None:
    made_up = BenchmarkCase("microbenchmarks", "made up", {}, {}, ("a", "b"), lambda device: Prepared({}))
    assert predicted_of(made_up) == {"a": OTHERS, "b": OTHERS}
