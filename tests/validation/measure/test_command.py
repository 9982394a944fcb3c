"""Measuring without a GPU: what a record holds, that an interrupted run goes on, and that nothing runs without a
device."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
import tomllib
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.einsum_cascades.sparsity.masks import neighborhood
from cascadesim.simulator.gna.neighborhood import question
from cascadesim.validation.cli import measure
from cascadesim.validation.kernels.records import TIMES, append, read
from cascadesim.validation.measure import command as program
from cascadesim.validation.measure.cases import BenchmarkCase, Prepared, cases
from cascadesim.validation.measure.device import file_stem, kind_of, query, sampled
from cascadesim.validation.measure.process import TimeUsedUp
from cascadesim.validation.measure.run import _problem_of, estimated_s, identity_of, recorded, timed_s

ABOUT: Mapping[str, Any] = {
    "device": {"name": "NVIDIA Test", "compute_capability": "9.0", "driver_version": "580.1", "uuid_hash": "a"},
    "env": {"python": "3.12.3", "torch": "2.11.0", "triton": "3.6.0", "cuda": "13.0"},
}
SHAPE, WORK = {"B": 1, "H": 1, "L": 16, "D": 64, "causal": False}, {"flop": 1}


class Device:
    """Stands where a process on a GPU would: times of 1, 2 and 3 us for each variant that does not fail."""

    def __init__(self, *fails: str) -> None:
        self.fails, self.asked = fails, []

    def __call__(self, case: BenchmarkCase, wanted: Sequence[str], ends: float) -> dict[str, Any]:
        self.asked.append((case.name, *wanted))
        right = [name for name in wanted if name not in self.fails]
        return {"timing": {name: {"cold": [3.0, 1.0, 2.0], "hot": [1.0]} for name in right},
                "check": dict.fromkeys(right, 1e-4),
                "errors": {name: "RuntimeError: out of memory" for name in wanted if name in self.fails}}  # fmt: skip


def case(name: str, *variants: str) -> BenchmarkCase:
    return BenchmarkCase("attention", name, SHAPE, WORK, variants or ("ours",), lambda device: Prepared({}))


def run(path: Path, *chosen: BenchmarkCase, device: Device, **about: Any) -> list[str]:
    return list(recorded(chosen, path, TIMES, {**ABOUT, **about}, device, 60))


def test_each_case_is_one_line_with_every_sample(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    assert run(path, case("a"), device=Device()) == ["[1/1] attention: a: ours 2.0 us"]
    (written,) = read(path).records
    assert written["timing"]["ours"]["cold"] == [3.0, 1.0, 2.0]
    assert (written["schema"], written["work"], written["check"]) == (TIMES, WORK, {"ours": 1e-4})
    assert written["device"]["name"] == "NVIDIA Test"
    assert len(written["code"]) == len(written["timing_code"]) == 16


def test_a_run_goes_on_where_it_was_cut_off(tmp_path: Path) -> None:
    """A line that was cut off swallows nothing that is written after it."""
    path, device = tmp_path / "records.jsonl", Device()
    run(path, case("a"), case("b"), device=device)
    path.write_bytes(path.read_bytes()[:-30])
    lines = run(path, case("a"), case("b"), case("c"), device=device)
    assert [name for name, _ in device.asked] == ["a", "b", "b", "c"]
    assert lines[0].endswith("already there")
    assert [record["case"] for record in read(path).records] == ["a", "b", "c"]
    assert read(path).complaints == ("records.jsonl: line 2 left out: no JSON object",)


def test_a_variant_that_fails_costs_no_other_and_is_tried_once_more(tmp_path: Path) -> None:
    path, device = tmp_path / "records.jsonl", Device("theirs")
    chosen = case("a", "ours", "theirs")
    assert run(path, chosen, device=device) == [
        "[1/1] attention: a: ours 2.0 us, theirs: RuntimeError: out of memory"
    ]
    run(path, chosen, device=device)
    run(path, chosen, device=device)
    assert device.asked == [("a", "ours", "theirs"), ("a", "theirs")]


def test_another_card_of_the_kind_goes_on_and_another_kind_does_not() -> None:
    def identity(**changes: Any) -> str:
        about = {part: {name: changes.get(name, value) for name, value in ABOUT[part].items()} for part in ABOUT}
        return identity_of(case("a"), TIMES, about)

    same, other = ABOUT["device"] | {"uuid_hash": "b", "clocks.max.sm": "1755"}, {**ABOUT["env"], "python": "3.13.0"}
    assert identity() == identity_of(case("a"), TIMES, {"device": same, "env": other})
    for name in ("name", "compute_capability", "driver_version", "torch", "triton", "cuda"):
        assert identity(**{name: "another"}) != identity()
    assert identity_of(case("b"), TIMES, ABOUT) != identity()


def test_files_belong_to_a_kind() -> None:
    kind = kind_of(ABOUT)
    assert file_stem(kind).startswith("nvidia-test-")
    assert file_stem(kind) == file_stem(kind_of({**ABOUT, "device": {**ABOUT["device"], "uuid_hash": "b"}}))
    assert file_stem(kind) != file_stem({**kind, "driver_version": "581.0"})


def test_the_time_allowed_is_kept_between_cases(tmp_path: Path) -> None:
    ticks = iter([0.0, 0.0, 100.0])
    lines = list(recorded([case("a"), case("b")], tmp_path / "r.jsonl", TIMES, ABOUT, Device(), 60,
                          lambda: next(ticks)))  # fmt: skip
    assert lines[-1] == "time is used up: 1 cases left; run again to go on"


def test_a_case_that_the_end_of_the_time_cuts_off_leaves_no_record(tmp_path: Path) -> None:
    def look(case: BenchmarkCase, wanted: Sequence[str], ends: float) -> dict[str, Any]:
        raise TimeUsedUp

    path = tmp_path / "r.jsonl"
    lines = list(recorded([case("a"), case("b")], path, TIMES, ABOUT, look, 60))
    assert lines == ["time is used up: 2 cases left; run again to go on"]
    assert not path.exists()


def test_a_full_disk_is_one_line() -> None:
    with pytest.raises(CascadeSimError, match=r"/dev/full: cannot be written: No space left"):
        append(Path("/dev/full"), {"a": 1})


@pytest.mark.parametrize(("text", "problem"), [
    ("pass", None),
    ("import sys; sys.exit('one\\ntwo')", "two"),
    ("import sys; sys.exit(3)", "no reason given"),
])  # fmt: skip
def test_a_program_beside_the_measuring_ends_well_or_says_why(text: str, problem: str | None) -> None:
    assert _problem_of([sys.executable, "-c", text], 60) == problem


def test_none_of_its_processes_outlives_its_time(tmp_path: Path) -> None:
    alive = tmp_path / "alive"
    text = f"import subprocess; subprocess.run(['sh', '-c', 'while true; do touch {alive}; sleep 0.05; done'])"
    assert _problem_of([sys.executable, "-c", text], 0.5) == "not done within 0 s"
    alive.unlink(missing_ok=True)
    time.sleep(0.2)
    assert not alive.exists()


def test_cases_state_the_work_they_do() -> None:
    """B4 H16 L4096 D128: 4 * 4 * 16 * 4096^2 * 128 FLOP, half of it if causal."""
    by_name = {each.name: each for each in cases()}
    assert len(by_name) == len(cases())
    full, causal = by_name["B4 H16 L4096 D128"], by_name["B4 H16 L4096 D128 causal"]
    assert full.work["flop"] == 4 * 4 * 16 * 4096**2 * 128 == 2 * causal.work["flop"]


def test_a_buffer_in_the_cache_is_read_many_times_and_a_chain_through_dram_exceeds_every_cache() -> None:
    by_name = {each.name: each for each in cases()}
    cached = by_name["L2 copy, read, write"]
    assert cached.work["read_bytes"] == 64 * cached.work["bytes"] == 1 << 30
    assert 4 * by_name["latency DRAM"].shape["words"] >= 4 * 126 * 2**20  # B200: 126 MiB


def test_neighborhood_cases_state_the_tiles_that_the_simulator_counts() -> None:
    for each in (case for case in cases() if case.suite == "neighborhood"):
        counted = question(
            neighborhood(*(each.shape[name] for name in ("layout", "window", "stride"))),
            each.shape["query_tile"],
            each.shape["key_tile"],
        ).visits("multidim_static")
        assert (each.work["key_tiles"], each.work["without_mask"]) == (counted.total, counted.full)


def test_where_torch_is_missing_there_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program, "find_spec", lambda name: None)
    result = CliRunner().invoke(measure, ["--output", "nowhere"])
    assert isinstance(result.exception, CascadeSimError)
    assert str(result.exception).startswith("needs torch and triton, and has no torch: pip install")
    assert not Path("nowhere").exists()


def test_the_command_line_finds_its_command_in_the_program() -> None:
    entry_points = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())["project"]["entry-points"]
    module, _, name = entry_points["cascadesim.commands"]["measure"].partition(":")
    assert getattr(import_module(module), name) is measure


@pytest.mark.slow
def test_the_module_is_the_program() -> None:
    """`python -m`, where the package is not installed. Without a device or torch: one line, and exit code 2."""
    done = subprocess.run([sys.executable, "-m", "cascadesim.validation.measure", "--output", "nowhere"],
                          capture_output=True, text=True, check=False)  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.startswith("measure: needs ")
    assert done.stderr.count("\n") == 1
    assert not Path("nowhere").exists()


@pytest.mark.parametrize(("arguments", "line"), [
    (["atention", "--output", "x"], "no measurement suite 'atention'; did you mean 'attention'?"),
    (["--output", "x", "--seconds", "0"], "--seconds: needs at least 1, got 0"),
    (["--output", "x", "--seconds", "nan"], "--seconds: needs at least 1, got nan"),
    ([], "the following arguments are required: --output"),
    (["microbenchmarks", "--counters", "--output", "x"], "--counters: microbenchmarks have none; known: attention, "
     "decode, neighborhood, pruned"),
])  # fmt: skip
def test_what_cannot_be_asked_for_is_one_line(
    capsys: pytest.CaptureFixture[str], arguments: list[str], line: str
) -> None:
    assert program.main(arguments) == 2
    assert capsys.readouterr().err == f"measure: {line}\n"


def test_clocks_and_power_are_sampled_while_a_case_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program in place of nvidia-smi reports, and goes on until it is ended; a line cut off is none."""
    smi = tmp_path / "nvidia-smi"
    smi.write_text("#!/bin/sh\necho '1980, 650.5'\necho '1965, 690.0'\nprintf '19'\n"
                   "echo > \"$0.started\"\nexec sleep 60\n")  # fmt: skip
    smi.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with sampled("clocks.sm", "power.draw") as found:
        while not (tmp_path / "nvidia-smi.started").exists():
            time.sleep(0.01)
        assert found == []
    assert found == [{"clocks.sm": "1980", "power.draw": "650.5"}, {"clocks.sm": "1965", "power.draw": "690.0"}]


def test_a_field_that_a_driver_does_not_know_costs_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    smi = tmp_path / "nvidia-smi"
    smi.write_text("#!/bin/sh\ncase \"$1\" in *reasons*) exit 2;; *) echo 1980;; esac\n")
    smi.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert query("clocks.sm", "clocks_event_reasons.active") == {
        "clocks.sm": "1980", "clocks_event_reasons.active": None
    }  # fmt: skip


def test_without_the_program_nothing_is_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with sampled("clocks.sm") as found:
        pass
    assert found == []
    assert query("uuid", "driver_version") == {"uuid": None, "driver_version": None}


def test_devices_become_file_names() -> None:
    assert re.fullmatch("nvidia-h100-80gb-hbm3-[0-9a-f]{8}", file_stem({"name": "NVIDIA H100 80GB HBM3"}))


def test_a_default_run_takes_less_than_nine_minutes_by_its_own_estimate() -> None:
    """It must fit one call of ten minutes, and leave room for the assumptions of `estimate`."""
    assert 60 < estimated_s(cases()) < 9 * 60


def test_a_long_variant_is_timed_as_often_as_the_timer_does() -> None:
    """20 ms: 5 samples a round, 4 rounds: 0.3 s of warm-up, 20 cold launches, 20 hot ones with one more ahead of each;
    270 us of flushes and 40 us of events and waiting for each of the 40 samples."""
    assert timed_s(20e-3) == pytest.approx(0.3 + 60 * 20e-3 + 40 * (270e-6 + 40e-6))


def test_the_shortest_are_timed_many_in_a_row_too() -> None:
    """10 us: 125 samples a round; then 20 samples of a graph of 50, replayed once before."""
    one = 0.3 + 500 * (3 * 10e-6 + 2 * 310e-6)
    assert timed_s(10e-6) == pytest.approx(one + 20 * (2 * 50 * 10e-6 + 270e-6))


def test_records_hold_what_json_can(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    run(path, case("a"), device=Device())
    assert json.loads(path.read_text(), parse_constant=pytest.fail)["case"] == "a"
