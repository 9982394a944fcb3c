"""Who runs `simulate` first on a machine is told what takes long, before it does; later runs say nothing."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from cascadesim.accelerators.kept_code import anything_kept
from cascadesim.simulator.cli import options
from cascadesim.simulator.views.output import passing

CLOSED = ("--arch", "fusemax", "--workload", "bert", "--seq-len", "1K", "--scope", "attention", "--fidelity",
          "analytical")  # fmt: skip


@pytest.mark.slow
def test_on_a_terminal_something_is_said_within_a_second(tmp_path: Path) -> None:
    """Before anything heavy is imported, on a machine that has compiled nothing; the best of three."""
    code = "from cascadesim.simulator.cli.commands import simulate_main; simulate_main()"
    waited = []
    for _ in range(3):
        terminal, end = os.openpty()
        start = time.monotonic()
        process = subprocess.Popen([sys.executable, "-c", code, *CLOSED], stderr=end, stdout=subprocess.DEVNULL,
                                   env={**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "kept")})  # fmt: skip
        first = os.read(terminal, 100)
        waited.append(time.monotonic() - start)
        process.terminate()
        process.wait(timeout=60)
        os.close(end)
        os.close(terminal)
        assert first.startswith(b"loading architectures and models")
    assert min(waited) < 1


@pytest.mark.slow
def test_a_first_run_says_so_before_the_compiler_is_loaded(tmp_path: Path) -> None:
    """Standard error is a pipe; what Python imports is listed there, too, in its order."""
    code = "from cascadesim.simulator.cli.commands import simulate_main; simulate_main()"
    process = subprocess.Popen([sys.executable, "-X", "importtime", "-c", code, *CLOSED], text=True,
                               stderr=subprocess.PIPE, stdout=subprocess.DEVNULL,
                               env={**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "kept")})  # fmt: skip
    assert process.stderr is not None
    before: list[str] = []
    for line in process.stderr:
        if line.startswith("cascadesim: loading the compiler"):
            break
        before.append(line)
    process.kill()
    process.wait(timeout=60)
    process.stderr.close()
    assert before
    assert not [line for line in before if line.split("|")[-1].strip().split(".")[0] in ("numba", "llvmlite")]


def test_the_first_run_is_told_apart_from_later_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    assert not anything_kept()
    folder = tmp_path / "engine_1"
    folder.mkdir()
    (folder / "simulate-1.py27-checked.nbi").touch()  # another Python's
    assert not anything_kept()
    (folder / f"simulate-1.py{sys.version_info.major}{sys.version_info.minor}-checked.nbi").touch()
    assert anything_kept()


def test_a_line_that_stays_is_printed_where_nobody_looks(capsys: pytest.CaptureFixture[str]) -> None:
    with passing("working", stays=True):
        assert capsys.readouterr().err == "working …\n"
    with passing("working"):
        pass
    assert capsys.readouterr().err == ""


def test_what_has_been_read_or_kept_is_no_first_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """First: this process has not loaded the work, Python kept nothing of it, and no compiled loop was kept."""
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    assert not options.first_run()  # this process has: see conftest
    monkeypatch.delitem(sys.modules, "cascadesim.simulator.cli.run")
    spec = SimpleNamespace(cached=str(tmp_path / "run.pyc"))
    monkeypatch.setattr(options, "find_spec", lambda _: spec)
    assert options.first_run()
    kept = tmp_path / f"simulate.py{sys.version_info.major}{sys.version_info.minor}-checked.nbi"
    kept.touch()
    assert not options.first_run()
    kept.unlink()
    (tmp_path / "run.pyc").touch()
    assert not options.first_run()
