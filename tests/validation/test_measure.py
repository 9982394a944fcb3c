"""Measuring without a GPU: what a record holds, that an interrupted run goes on, and that nothing runs without a
device."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

import pytest
from click.testing import CliRunner

from cascadesim.einsum_cascades.errors import CascadeSimError
from cascadesim.einsum_cascades.neighborhood import neighborhood
from cascadesim.simulator.neighborhood import question
from cascadesim.validation.measure import measure
from cascadesim.validation.measure_cases import Case, Prepared, cases
from cascadesim.validation.measure_device import sampled, slug
from cascadesim.validation.measure_estimate import seconds_of, timed_s
from cascadesim.validation.measure_run import known, record, timed
from cascadesim.validation.measure_timing import Samples

ABOUT = {"device": {"name": "NVIDIA Test"}, "env": {"triton": "0"}}


class Once:
    """Stands where a GPU's timer would: runs everything once."""

    def measure(self, variants: Mapping) -> dict[str, Samples]:
        for launch in variants.values():
            launch()
        return {name: Samples([2.0, 1.0, 3.0], [1.0], [], [0]) for name in variants}

    def clock_mhz(self) -> dict:
        return {"clocks.sm": "1980"}


def look(case: Case) -> dict:
    return timed(case, Once())


def case(name: str, ran: list[str], fails: bool = False) -> Case:
    def prepare() -> Prepared:
        def launch() -> None:
            ran.append(name)
            if fails:
                raise RuntimeError("out of memory")

        return Prepared({"ours": launch}, {"ours": lambda: 1e-4})

    return Case("attention", name, {"L": 16}, {"flop": 1}, prepare)


def test_each_case_is_one_line_with_every_sample(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    lines = list(record([case("a", [])], path, ABOUT, look, 60))
    assert lines == ["[1/1] attention: a: ours 2.0 us"]
    (written,) = map(json.loads, path.read_text().splitlines())
    assert written["timing"]["ours"]["cold"] == [2.0, 1.0, 3.0]
    assert (written["schema"], written["work"], written["check"]) == (
        "cascadesim.measurement/1",
        {"flop": 1},
        {"ours": 1e-4},
    )


def test_a_run_goes_on_where_it_was_cut_off(tmp_path: Path) -> None:
    path, ran = tmp_path / "records.jsonl", []
    first, second, third = (case(name, ran) for name in "abc")
    list(record([first, second], path, ABOUT, look, 60))
    with path.open("a") as file:
        file.write('{"id": "cut of')
        file.write("\n")
    lines = list(record([first, second, third], path, ABOUT, look, 60))
    assert ran == ["a", "b", "c"]
    assert lines[0].endswith("already measured")
    assert len(known(path)) == 3


def test_a_case_that_fails_is_recorded_and_tried_again(tmp_path: Path) -> None:
    path, ran = tmp_path / "records.jsonl", []
    list(record([case("a", ran, fails=True), case("b", ran)], path, ABOUT, look, 60))
    assert json.loads(path.read_text().splitlines()[0])["error"] == "RuntimeError: out of memory"
    list(record([case("a", ran)], path, ABOUT, look, 60))
    assert ran == ["a", "b", "a"]


def test_the_time_allowed_is_kept_between_cases(tmp_path: Path) -> None:
    ticks = iter([0.0, 0.0, 100.0])
    lines = list(record([case("a", []), case("b", [])], tmp_path / "r.jsonl", ABOUT, look, 60, lambda: next(ticks)))
    assert lines[-1] == "time is used up: 1 cases left; run again to go on"


def test_cases_state_the_work_they_do() -> None:
    """B4 H16 L4096 D128: 4 * 4 * 16 * 4096^2 * 128 FLOP, half of it if causal."""
    by_name = {each.name: each for each in cases("cpu")}
    assert len(by_name) == len(cases("cpu"))
    full, causal = by_name["B4 H16 L4096 D128"], by_name["B4 H16 L4096 D128 causal"]
    assert full.work["flop"] == 4 * 4 * 16 * 4096**2 * 128 == 2 * causal.work["flop"]


def test_neighborhood_cases_state_the_tiles_that_the_simulator_counts() -> None:
    for each in (case for case in cases("cpu") if case.suite == "neighborhood"):
        counted = question(
            neighborhood(*(each.shape[name] for name in ("layout", "window", "stride"))),
            each.shape["query_tile"],
            each.shape["key_tile"],
        ).visits("multidim_static")
        assert (each.work["key_tiles"], each.work["without_mask"]) == (counted.total, counted.full)


def test_without_a_gpu_there_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    if find_spec("torch") is not None:
        monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    result = CliRunner().invoke(measure, ["--output", "nowhere"])
    assert isinstance(result.exception, CascadeSimError)
    assert "\n" not in str(result.exception)
    assert not Path("nowhere").exists()


def test_an_unknown_suite_is_named() -> None:
    result = CliRunner().invoke(measure, ["atention", "--output", "nowhere"])
    assert "did you mean 'attention'" in str(result.exception)


def test_clocks_and_power_are_sampled_while_a_case_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program in place of nvidia-smi reports, and goes on until it is ended; a line cut off is none."""
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho '1980, 650.5'\necho '1965, 690.0'\nprintf '19'\n"
                       "echo > \"$0.started\"\nexec sleep 60\n")  # fmt: skip
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with sampled("clocks.sm", "power.draw") as found:
        while not (tmp_path / "nvidia-smi.started").exists():
            time.sleep(0.01)
        assert found == []
    assert found == [{"clocks.sm": "1980", "power.draw": "650.5"}, {"clocks.sm": "1965", "power.draw": "690.0"}]


def test_without_the_program_nothing_is_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with sampled("clocks.sm") as found:
        pass
    assert found == []


def test_devices_become_file_names() -> None:
    assert slug("NVIDIA H100 80GB HBM3") == "nvidia-h100-80gb-hbm3"


@pytest.mark.skipif(find_spec("triton") is None, reason="needs triton")
def test_kernels_know_the_work_that_cases_state() -> None:
    from cascadesim.kernels.microbenchmarks import triton
    from cascadesim.validation import measure_rates

    assert measure_rates.exponentials(1) == triton.CHAINS * 1024


def test_a_default_run_takes_less_than_nine_minutes_by_its_own_estimate() -> None:
    """It must fit one call of ten minutes, and leave room for the assumptions of `measure_estimate`."""
    assert seconds_of(cases("cpu")) < 9 * 60


def test_a_long_variant_is_timed_as_often_as_the_timer_does() -> None:
    """20 ms: 5 samples a round, 4 rounds, cold and hot: 0.3 s of warm-up, 40 launches of 20 ms, each 60 us more; 20
    times 2 x 50 MiB written at 3.039 TB/s."""
    assert timed_s(20e-3, "h100-sxm") == pytest.approx(0.3 + 40 * (20e-3 + 60e-6) + 20 * 104_857_600 / 3.039e12)
