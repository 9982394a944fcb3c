"""How a process ends: bugs apart from claims, and endings from outside that clean up."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import click
import pytest

from cascadesim.simulator.cli.shell import exit_code, program_exit

# opens a file to be written again and again, and says when the first one is open
WRITER = """
import sys
from pathlib import Path
import click
from cascadesim.simulator.cli.shell import program_exit
from cascadesim.simulator.views.output import pending_files

@click.command()
def write():
    targets = [Path(sys.argv[1]) / name for name in ("a.json", "b.csv")]
    while True:
        with pending_files(targets) as files:
            for file in files:
                file.write_text("whole")
            click.echo("writing")

sys.exit(program_exit(write, "write", []))
"""


def command(problem: Exception) -> click.Command:
    def fail() -> None:
        raise problem

    return click.Command("toy", callback=fail)


def test_a_bug_keeps_its_traceback_and_is_not_taken_for_a_claim(capsys: pytest.CaptureFixture[str]) -> None:
    assert program_exit(command(RuntimeError("no such case")), "toy", []) == 70
    assert capsys.readouterr().err.endswith("RuntimeError: no such case\n")


def test_out_of_memory_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(command(MemoryError()), "toy", []) == 2
    assert capsys.readouterr().err == "toy: out of memory\n"


def test_handlers_of_signals_are_as_before() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)]
    exit_code(click.Command("toy"), "toy", [])
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)] == before


@pytest.mark.slow
@pytest.mark.parametrize(("number", "said"), [(signal.SIGTERM, "terminated"), (signal.SIGINT, "interrupted"),
                                              (signal.SIGHUP, "terminated")])  # fmt: skip
def test_ended_at_any_moment_nothing_half_written_stays(tmp_path: Path, number: signal.Signals, said: str) -> None:
    for attempt in range(4):
        process = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], text=True,
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE)  # fmt: skip
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(0.0037 * attempt)
        process.send_signal(number)
        _, error = process.communicate(timeout=30)
        assert (process.returncode, error) == (128 + number, f"write: {said}\n")
        assert {path.name for path in tmp_path.iterdir()} <= {"a.json", "b.csv"}
        assert {path.read_text() for path in tmp_path.iterdir()} <= {"whole"}


@pytest.mark.slow
def test_who_waits_for_the_engine_is_told_at_once_and_may_end_it(tmp_path: Path) -> None:
    """First run: nothing kept yet. The line comes before the compilation, not after it."""
    code = "from cascadesim.simulator.cli.commands import simulate_main; simulate_main()"
    options = ["--arch", "fusemax", "--workload", "bert", "--seq-len", "1K", "--scope", "attention", "--output"]
    process = subprocess.Popen([sys.executable, "-c", code, *options, str(tmp_path / "report")], text=True,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                               env={**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "kept")})  # fmt: skip
    assert process.stderr is not None
    first = process.stderr.readline()
    process.send_signal(signal.SIGTERM)
    out, rest = process.communicate(timeout=60)
    assert first.startswith("cascadesim: compiling the simulation engine (about 10 s) once")
    assert (process.returncode, out) == (143, "")
    assert rest.endswith("simulate: terminated\n")
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
