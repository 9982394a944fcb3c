"""The first measurement on a GPU, rehearsed without one: the program as it is typed, in an environment that has nothing
but Python, NumPy and stand-ins for torch and triton."""

from __future__ import annotations

import json
import signal
import subprocess
import time
import venv
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy
import pytest
from click.testing import CliRunner

from cascadesim.validation.cli import validate
from cascadesim.validation.measure.cases import cases

ROOT = Path(__file__).resolve().parents[2]
STAND_INS = Path(__file__).parent / "stand_ins"
SMI = """#!/bin/sh
case "$*" in
  *uuid*) echo "GPU-$CARD, $DRIVER, 700.00, 1980, 2619";;
  *loop-ms*) echo "1980, 2619, 650.1, 60"; exec sleep 60;;
  *) echo "1980, 2619, 650.1, 60, 0x0";;
esac
"""


class Machine:
    """A bare environment, and a card in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        venv.create(folder / "bare", symlinks=True)
        self.python = folder / "bare" / "bin" / "python"
        (site,) = (folder / "bare" / "lib").glob("python*/site-packages")
        for path in Path(numpy.__file__).parent.parent.glob("numpy*"):
            (site / path.name).symlink_to(path)
        (folder / "tools").mkdir()
        (folder / "tools" / "nvidia-smi").write_text(SMI)
        (folder / "tools" / "nvidia-smi").chmod(0o755)

    def start(self, *arguments: str, card: str = "A", driver: str = "580.1", **stand_in: Any) -> subprocess.Popen[str]:
        environment = {
            "PATH": f"{self.folder / 'tools'}:/usr/bin:/bin", "PYTHONPATH": f"{STAND_INS}:{ROOT / '.src'}",
            "PYTHONNOUSERSITE": "1", "CARD": card, "DRIVER": driver, "STAND_IN": json.dumps(stand_in),
        }  # fmt: skip
        command = [str(self.python), "-m", "cascadesim.validation.measure", "--output", "records", *arguments]
        return subprocess.Popen(command, cwd=self.folder, env=environment, stderr=subprocess.PIPE, text=True)

    def run(self, *arguments: str, card: str = "A", driver: str = "580.1", **stand_in: Any) -> tuple[int, list[str]]:
        """Exit code, and the lines that it printed."""
        process = self.start(*arguments, card=card, driver=driver, **stand_in)
        _, said = process.communicate(timeout=120)
        return process.returncode, said.splitlines()

    @property
    def file(self) -> Path:
        (found,) = (self.folder / "records").glob("*.jsonl")
        return found

    def records(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.file.read_text().splitlines()]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def workers(folder: Path) -> list[str]:
    """Processes that measure there."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if (process / "cwd").resolve() == folder and b"measure.worker" in (process / "cmdline").read_bytes():
                found.append(process.name)
    return found


@pytest.mark.slow
def test_a_run_that_is_killed_goes_on_on_another_card_and_validate_reads_what_remains(machine: Machine) -> None:
    process = machine.start()
    deadline = time.monotonic() + 60
    while not list((machine.folder / "records").glob("*.jsonl")) or len(machine.file.read_bytes().splitlines()) < 15:
        assert process.poll() is None, process.stderr.read() if process.stderr else ""
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert workers(machine.folder)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    while workers(machine.folder):  # none goes on measuring when the program is gone
        assert time.monotonic() < deadline
        time.sleep(0.01)
    whole = machine.file.read_bytes()
    before = whole.count(b"\n")
    last = whole.rstrip(b"\n").rindex(b"\n") + 1
    machine.file.write_bytes(whole[: last + 200])  # the last line, cut off

    code, said = machine.run(
        card="B", raises=[["B4 H16 L4096 D128", "attention-2pass"]], poisons=[["2048 of 4096 tokens", "gathered"]]
    )
    assert code == 0
    assert f"{before - 1} records of this kind are there" in said[0]
    assert f"line {before} left out: no JSON object" in said[1]
    assert sum(line.endswith("already there") for line in said) == before - 1

    lines = [line for line in machine.file.read_bytes().splitlines() if not line.startswith(whole[last : last + 200])
             or line.endswith(b"}")]  # fmt: skip
    records = [json.loads(line) for line in lines]
    assert Counter((each["suite"], each["case"]) for each in records) == {
        (each.suite, each.name): 1 for each in cases()
    }
    assert len({each["device"]["uuid_hash"] for each in records}) == 2
    (failed,) = [each for each in records if each["case"] == "B4 H16 L4096 D128"]
    assert failed["errors"] == {"attention-2pass": "ValueError: no such tile"}
    assert {"attention-1pass", "attention-3pass", "sdpa MATH"} <= set(failed["timing"])
    (poisoned,) = [each for each in records if each["case"] == "2048 of 4096 tokens"]
    assert list(poisoned["errors"]) == ["gathered"]
    assert "illegal memory access" in poisoned["errors"]["gathered"]
    assert set(poisoned["timing"]) == set(by_name("2048 of 4096 tokens").variants) - {"gathered"}
    (after,) = [each for each in records if each["case"] == "1024 of 4096 tokens"]
    assert "gathered" in after["timing"]
    assert {sample["clocks.sm"] for each in records for sample in each["sampled"]} == {"1980"}

    result = CliRunner().invoke(validate, ["kernels-predicted", "kernels-measured", "gna-kernels", "cascade-passes",
                                           "--data", str(machine.folder / "records"), "--format", "json"])  # fmt: skip
    assert f"{machine.file.name}: line {before} left out" in result.output
    assert "cascade-passes: 1 files of records, but nothing to hold against them" in result.output
    judged = json.loads(result.stdout)["claims"]
    ours = judged[0]
    assert ours["suite"] == "kernels-predicted"
    assert ours["rows"] > 80
    assert not ours["holds"]  # every stand-in takes as long as every other


@pytest.mark.slow
def test_a_process_ends_with_the_program_also_in_the_middle_of_a_launch(machine: Machine) -> None:
    process = machine.start("decode", hangs=[["B1 H32 G8 M8192 D128", "split keys"]])
    deadline = time.monotonic() + 60
    while not workers(machine.folder) or not (machine.folder / "records").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    time.sleep(1.0)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    while workers(machine.folder):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def by_name(name: str) -> Any:
    return next(case for case in cases() if case.name == name)


@pytest.mark.slow
def test_another_kind_of_device_or_driver_has_a_file_of_its_own(machine: Machine) -> None:
    """And the same kind has nothing left to do, whatever its card."""
    _, first = machine.run("decode")
    file = machine.file
    assert first[0] == f"NVIDIA H100 80GB HBM3, 580.1, 2.11.0, 3.6.0: a new file, {Path('records') / file.name}"
    assert sum(line.startswith("static counts: none, and not tried again") for line in first) == 1
    _, again = machine.run("decode", card="B")
    assert again[0].endswith("4 records of this kind are there")
    assert again[1] == "0 of 4 cases to measure, about 0 s on an H100"
    assert len(machine.records()) == 4
    _, other = machine.run("decode", driver="581.0")
    assert other[0].endswith(f"of other kinds, and left as they are: {file.name}")
    assert len(list((machine.folder / "records").glob("*.jsonl"))) == 2


@pytest.mark.slow
def test_what_hangs_or_ends_its_process_is_a_failure_of_its_variant(machine: Machine) -> None:
    """Tried once more in a later run, and not a third time."""
    wrong = {"hangs": [["B1 H32 G8 M8192 D128", "split keys"]], "ends": [["B16 H32 G8 M8192 D128", "sdpa MATH"]]}
    for _ in range(2):
        code, _ = machine.run("decode", case_s=1.0, **wrong)
        assert code == 0
    records = machine.records()
    assert [each["errors"] for each in records if each["errors"]] == [
        {"split keys": "no answer within 1 s"},
        {"sdpa MATH": "its process ended with exit code 9: a compiler that prints"},
    ] * 2
    assert len(records) == 4 + 2
    assert all(len(each["timing"]) == 5 for each in records[:2])
    _, said = machine.run("decode", case_s=1.0, **wrong)
    assert len(machine.records()) == len(records)
    assert sum(line.endswith("already there") for line in said) == 4


@pytest.mark.slow
def test_without_a_device_nothing_is_written(machine: Machine) -> None:
    code, said = machine.run(available=False)
    assert (code, said) == (2, ["measure: needs an NVIDIA GPU, and torch finds none"])
    assert not (machine.folder / "records").exists()
