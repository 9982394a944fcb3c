"""Cases in processes that fail in every way, with small programs in place of the one that measures."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.validation.measure import process as measure_process
from cascadesim.validation.measure.cases import BenchmarkCase, Prepared
from cascadesim.validation.measure.process import Runner, TimeUsedUp, environment

START = """
import json, sys, time, os
def say(**message):
    print(json.dumps(message), flush=True)
def measured(request):
    for name in request["variants"]:
        say(running=name)
        act(name)
    say(record={"timing": {name: {"cold": [1.0]} for name in request["variants"]}, "errors": {}})
"""
LOOP = """
say(device={"name": "stand-in"}, env={})
for line in sys.stdin:
    measured(json.loads(line))
"""
NEVER = time.monotonic() + 1e6


@contextmanager
def runner(folder: Path, act: str, loop: str = LOOP) -> Iterator[Runner]:
    path = folder / "worker.py"
    path.write_text(f"{START}\ndef act(name):\n{act}\n{loop}")
    found = Runner((sys.executable, str(path)))
    yield found
    found.close()


def case(name: str, *variants: str) -> BenchmarkCase:
    return BenchmarkCase("attention", name, {}, {}, variants, lambda device: Prepared({}))


ABC = ("a", "b", "c")


def test_one_process_runs_case_after_case(tmp_path: Path) -> None:
    with runner(tmp_path, "    pass") as running:
        assert running.about["device"] == {"name": "stand-in"}
        for _ in range(2):
            assert list(running.run(case("x", *ABC), ABC, NEVER)["timing"]) == ["a", "b", "c"]


def test_a_process_that_ends_loses_the_variant_that_ran(tmp_path: Path) -> None:
    with runner(tmp_path, "    if name == 'b': sys.exit('bus error')") as running:
        found = running.run(case("x", *ABC), ABC, NEVER)
        assert list(found["timing"]) == ["a", "c"]
        assert found["errors"] == {"b": "its process ended with exit code 1: bus error"}


def test_a_silent_process_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with runner(tmp_path, "    if name == 'b': time.sleep(600)") as running:
        monkeypatch.setattr(measure_process, "CASE_S", 0.3)
        found = running.run(case("x", "b", "c"), ("b", "c"), NEVER)
        assert (list(found["timing"]), found["errors"]) == (["c"], {"b": "no answer within 0 s"})


def test_after_two_such_failures_a_variant_is_left_out_of_other_cases(tmp_path: Path) -> None:
    with runner(tmp_path, "    if name == 'b': os._exit(3)") as running:
        for name in ("x", "y"):
            assert running.run(case(name, *ABC), ABC, NEVER)["errors"]["b"].startswith("its process ended")
        begin = running._worker
        found = running.run(case("z", *ABC), ABC, NEVER)
        assert found["errors"] == {"b": "left out: failed twice in other cases"}
        assert list(found["timing"]) == ["a", "c"]
        assert running._worker is begin


def test_a_cheap_failure_is_told_in_every_case(tmp_path: Path) -> None:
    act = "    if name == 'b': say(failed='b', error='ValueError: no such tile')"
    with runner(tmp_path, act) as running:
        for name in ("x", "y", "z"):
            found = running.run(case(name, *ABC), ABC, NEVER)
            assert found["errors"] == {"b": "ValueError: no such tile"}


def test_a_costly_failure_is_had_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure_process, "COSTLY_S", 0.02)
    act = "    if name == 'b':\n        time.sleep(0.05)\n        say(failed='b', error='no')"
    with runner(tmp_path, act) as running:
        assert [running.run(case(name, *ABC), ABC, NEVER)["errors"]["b"][:8] for name in "xyz"] == [
            "no", "no", "left out"]  # fmt: skip


def test_a_case_costs_three_processes_at_most(tmp_path: Path) -> None:
    with runner(tmp_path, "    os._exit(3)") as running:
        found = running.run(case("x", *"abcdef"), "abcdef", NEVER)
        assert list(found["errors"]) == ["a", "b", "c"]
        assert found["error"] == "given up after 3 lost processes"


def test_a_case_that_cannot_be_prepared_is_one_failure(tmp_path: Path) -> None:
    with runner(tmp_path, "    pass", LOOP.replace("measured(json.loads(line))", "sys.exit('no memory')")) as running:
        found = running.run(case("x", *ABC), ABC, NEVER)
        assert found == {"error": "its process ended with exit code 1: no memory", "errors": {}}


def test_what_the_device_was_lost_by_is_told_in_the_words_of_the_failure(tmp_path: Path) -> None:
    act = "    if name == 'b':\n        say(failed='b', error='illegal access')\n        say(lost='no synchronisation')"
    with runner(tmp_path, act) as running:
        assert running.run(case("x", *ABC), ABC, NEVER)["errors"] == {"b": "illegal access"}


def test_the_end_of_the_time_is_no_failure(tmp_path: Path) -> None:
    with runner(tmp_path, "    time.sleep(600)") as running, pytest.raises(TimeUsedUp):
        running.run(case("x", *ABC), ABC, time.monotonic() + 0.3)


def test_a_device_that_does_not_come_back_ends_the_run_after_its_record(tmp_path: Path) -> None:
    once = tmp_path / "once"
    loop = f"""
if os.path.exists({str(once)!r}):
    say(refused="needs an NVIDIA GPU, and torch finds none")
    sys.exit()
open({str(once)!r}, "w").close()
{LOOP}"""
    with runner(tmp_path, "    os._exit(3)", loop) as running:
        found = running.run(case("x", *ABC), ABC, NEVER)
        assert running.gone == found["error"] == "needs an NVIDIA GPU, and torch finds none"
        assert list(found["errors"]) == ["a"]


@pytest.mark.parametrize(("loop", "line"), [
    ("say(refused='needs an NVIDIA GPU')", "needs an NVIDIA GPU"),
    ("sys.exit('no module')", "the process that measures does not start: its process ended with exit code 1: no mod"),
])  # fmt: skip
def test_what_cannot_start_is_one_line(tmp_path: Path, loop: str, line: str) -> None:
    with pytest.raises(CascadeSimError, match=line), runner(tmp_path, "    pass", loop):
        pass


def test_kernels_are_compiled_for_a_device_and_as_they_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    found = environment()
    assert "TRITON_INTERPRET" not in found
    assert found["TRITON_DISABLE_LINE_INFO"] == found["TRITON_DEFAULT_FP_FUSION"] == "1"
