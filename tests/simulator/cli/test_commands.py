"""The programs: a line for every kind of bad input, exit codes, names that can be listed, how a process ends."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascadesim.simulator.cli.commands import exit_code, main, program_exit, simulate, simulate_main

if TYPE_CHECKING:
    from conftest import Run

BERT = ("--arch", "fusemax", "--workload", "bert", "--seq-len", "1K", "--scope", "attention")
CLOSED = (*BERT, "--fidelity", "analytical")
HEAVY = ("numpy", "pydantic", "numba", "rich", "matplotlib", "sympy", "networkx", "yaml")


@pytest.mark.parametrize(("arguments", "message"), [
    (("--arch", "fusmax", "--workload", "bert"), "no architecture 'fusmax'; did you mean 'fusemax'?"),
    (("--arch", "fusemax", "--workload", "brt"), "no workload 'brt'; did you mean 'bert'?"),
    ((*CLOSED, "--attention", "attention-1pas"), "no cascade 'attention-1pas'; did you mean 'attention-1pass'?"),
    ((*CLOSED, "--seq-len", "0"), "0 tokens"),
    ((*CLOSED, "--seq-len", "-4096"), "-4096 tokens"),
    ((*CLOSED, "--seq-len", "4096x"), "'4096x' is not a length"),
    ((*CLOSED, "--batch", "0"), "0; give 1 to 65536 sequences"),
    ((*CLOSED, "--batch", "64K"), "not a whole number"),
    (("--arch", "fusemax", "--workload", "bert", "--batch", "65536", "--seq-len", "16M"), "at most 2^62 count"),
    ((*CLOSED, "--batch", "many"), "'many' is not a whole number"),
    ((*CLOSED, "--phase", "prefil"), "did you mean 'prefill'"),
    ((*CLOSED, "--phase", "decode"), "needs a model that generates"),
    ((*CLOSED, "--set", "clock"), "give dotted.field=value"),
    ((*CLOSED, "--set", "clock_mhz=940"), "--set clock_mhz: no such field; did you mean 'clock_hz'?"),
    ((*CLOSED, "--set", "nonsense=1"), "a workload has attention, batch"),
    ((*CLOSED, "--set", "policy=serial"), "did you mean 'binding.policy'?"),
    ((*CLOSED, "--set", "binding.polcy=serial"), "did you mean 'binding.policy'?"),
    ((*CLOSED, "--set", "binding.policy=serail"), "binding.policy: "),
    ((*CLOSED, "--set", "clock_hz=fast"), "clock_hz: "),
    ((*CLOSED, "--set", "clock_hz=-1.0"), "clock_hz: "),
    ((*CLOSED, "--set", "attention.heads=0"), "attention.heads: "),
    ((*CLOSED, "--set", "global_buffer.capacity_bytes=256"), "buffer"),
    ((*CLOSED, "--output", "missing/report.json"), "no folder 'missing'"),
    ((*CLOSED, "--output", "."), "is a folder"),
    ((*CLOSED, "--plot", "figure.pdf"), "ends in .png or .svg"),
    ((*CLOSED, "--trace", "trace.json"), "--trace shows the cycle-level schedule"),
    ((*CLOSED, "--show", "schedule"), "--show schedule needs --fidelity cycle"),
    ((*CLOSED, "--show", "mapping", "--format", "json"), "leave out --format json"),
    ((*BERT, "--accounting", "artifact", "--fidelity", "cycle"), "artifact accounting has no cycle level"),
    (("--arch", "fusemax", "--workload", "bert", "--seq-len", "1000", "--accounting", "artifact"), "1000"),
    (("--arch", "fusemax", "--workload", "llama", "--accounting", "artifact"), "artifact accounting"),
    (("--arch", "fusemax"), "missing option '--workload'"),
    ((*CLOSED, "--fidelty", "cycle"), "did you mean '--fidelity'?"),
    ((*CLOSED, "stray"), "unexpected extra argument"),
])  # fmt: skip
def test_bad_input_gets_one_line_and_exit_code_2(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert message.lower() in run.refused(*arguments).lower()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", ["", "architecture: [", "architecture: nothing", "- a list", "architecture: fusemax",
                                  "architecture: fusemax\nclock_hz: 940e6", "\x00"])  # fmt: skip
def test_a_bad_file_gets_its_name_and_exit_code_2(run: Run, tmp_path: Path, text: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    for arguments in (("--arch", str(path), "--workload", "bert"), ("--arch", "fusemax", "--workload", str(path))):
        code, out, error = run.simulate(*arguments)
        assert (code, out) == (2, "")
        assert "Traceback" not in error
        assert all("mine.yaml" in line or " more problem" in line for line in error.splitlines())


def test_a_file_that_is_missing_or_no_text_is_refused(run: Run, tmp_path: Path) -> None:
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    for name in ("missing.yaml", "binary.yaml"):
        assert name in run.refused("--arch", str(tmp_path / name), "--workload", "bert")


def test_list_names_everything(run: Run) -> None:
    code, out, _ = run.cascadesim("list")
    assert code == 0
    for name in ("fusemax", "unfused", "llama-3.1-8b", "attention-1pass", "fusemax-attention"):
        assert f"  {name} " in out.replace("\n", " \n")
    _, out, _ = run.cascadesim("list", "kernels")
    assert out.strip()


def test_unknown_commands_and_sections_guess(run: Run) -> None:
    code, _, error = run.cascadesim("simulat", *CLOSED)
    assert (code, error) == (2, "cascadesim: no command 'simulat'; did you mean 'simulate'?\n")
    code, _, error = run.cascadesim("list", "workload")
    assert code == 2
    assert "did you mean 'workloads'" in error


def test_other_packages_register_commands(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    import cascadesim.simulator.cli.commands as shell

    class Point:
        name, value = "hello", "package:hello"

        def load(self) -> click.Command:
            return click.Command("hello", callback=lambda: click.echo("hello"))

    class Broken(Point):
        name = "broken"

        def load(self) -> click.Command:
            raise ImportError("no module 'package'")

    monkeypatch.setattr(shell, "_registered", lambda: {"hello": Point(), "broken": Broken()})
    assert run.cascadesim("hello") == (0, "hello\n", "")
    code, _, error = run.cascadesim("broken")
    assert (code, error) == (2, "broken: command 'broken' (package:hello) cannot be loaded: no module 'package'\n")


def test_an_interrupt_is_130_and_leaves_nothing_half_written(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("cascadesim.simulator.cli.run.reports", interrupted)
    code, out, error = run.simulate(*CLOSED, "--output", str(tmp_path / "report.json"))
    assert (code, out, error) == (130, "", "simulate: interrupted\n")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@given(option=st.sampled_from(["--seq-len", "--batch", "--set", "--arch", "--workload", "--attention"]), text=st.text())
@settings(deadline=None)
def test_no_text_of_an_option_gives_a_traceback(option: str, text: str) -> None:
    """Fidelity analytical and a short length, so that what is accepted runs at once."""
    from contextlib import redirect_stderr, redirect_stdout

    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        code = exit_code(simulate, "simulate", [*CLOSED, option, text])
    assert code in (0, 2)


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys, contextlib, io\n"
        "from cascadesim.simulator.cli.commands import simulate_main\n"
        "with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()): simulate_main(['--help'])\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.slow
def test_a_reader_that_goes_away_is_no_error() -> None:
    code = "from cascadesim.simulator.cli.commands import main; main(['list', 'workloads'])"
    pipeline = f'{sys.executable} -c "{code}" | head -n 1'
    done = subprocess.run(["sh", "-c", pipeline], capture_output=True, text=True, check=True)
    assert done.stderr == ""


def test_the_program_exits_with_the_code(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        simulate_main(["--arch", "fusemax"])
    assert exit_.value.code == 2
    assert "--workload" in capsys.readouterr().err

# opens a file to be written again and again, and says when the first one is open
WRITER = """
import sys
from pathlib import Path
import click
from cascadesim.simulator.cli.commands import program_exit
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
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                   preexec_fn=partial(signal.signal, number, signal.SIG_DFL))  # under nohup, too
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(0.0037 * attempt)
        process.send_signal(number)
        try:
            _, error = process.communicate(timeout=30)
        finally:
            process.kill()
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
    first = next(line for line in iter(process.stderr.readline, "") if "loading " not in line)
    process.send_signal(signal.SIGTERM)
    out, rest = process.communicate(timeout=60)
    assert first.startswith("cascadesim: compiling the choice of tiles (about 8 s) once")  # the engine comes after it
    assert (process.returncode, out) == (143, "")
    assert rest.endswith("simulate: terminated\n")
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


def test_both_programs_say_their_version(run: Run) -> None:
    import cascadesim as cs

    assert run.simulate("--version") == run.cascadesim("--version") == (0, f"cascadesim {cs.__version__}\n", "")


def completions(line: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What a shell offers for the last word of a line."""
    words = line.split(" ")
    monkeypatch.setenv("COMP_WORDS", line)
    monkeypatch.setenv("COMP_CWORD", str(len(words) - 1))
    monkeypatch.setenv(f"_{words[0].upper()}_COMPLETE", "bash_complete")
    with pytest.raises(SystemExit):
        {"cascadesim": main, "simulate": simulate_main}[words[0]]([])
    return [each.partition(",")[2] for each in capsys.readouterr().out.splitlines()]


@pytest.mark.parametrize(("line", "offered"), [
    ("cascadesim sim", ["simulate"]), ("cascadesim simulate --seq", ["--seq-len"]), ("simulate --fo", ["--format"]),
    ("simulate --arch h100", ["h100-nvl", "h100-pcie", "h100-sxm"]),
    ("simulate --workload hdit", ["hdit-imagenet-256"]),
    ("simulate --arch flat,fusemax-cascade-", ["flat,fusemax-cascade-edge"]),
    ("simulate --phase d", ["decode"]), ("simulate --format c", ["csv"]), ("cascadesim list dev", ["devices"]),
    ("cascadesim show sink", ["sink-window"]), ("simulate --mapping out", ["output-stationary"]),
    ("simulate --arch ./mine.ya", ["./mine.ya"]), ("cascadesim no-such-command x", [""]),
])  # fmt: skip
def test_shells_complete_commands_options_and_names(
    line: str, offered: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = completions(line, capsys, monkeypatch)
    assert found == offered or (offered == [""] and found in ([], [""]))


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_every_shell_gets_its_script(
    shell: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("_CASCADESIM_COMPLETE", f"{shell}_source")
    with pytest.raises(SystemExit) as end:
        main([])
    assert end.value.code == 0
    assert "_CASCADESIM_COMPLETE" in capsys.readouterr().out


def test_phases_and_batches_are_lists_like_lengths(run: Run) -> None:
    sweep = ("--arch", "h100-sxm", "--workload", "llama", "--seq-len", "1K,2K", "--format", "csv")
    _, once, _ = run.simulate(*sweep, "--batch", "1,8", "--phase", "prefill,decode")
    _, again, _ = run.simulate(*sweep, "--batch", "1", "--batch", "8,1", "--phase", "prefill", "--phase", "decode")
    assert once == again
    assert len(once.splitlines()) == 1 + 2 * 2 * 2
    _, table, _ = run.simulate(*sweep[:-2], "--batch", "1,8", "--phase", "prefill,decode")
    assert "decode, 2K tokens, x 8" in table
    assert " · on h100-sxm · model · " in table


def test_ratios_are_within_a_phase_and_a_batch(run: Run) -> None:
    """Every case has the first architecture at 1.00x."""
    _, out, _ = run.simulate("--arch", "h100-sxm,h200-sxm", "--workload", "llama", "--phase", "prefill,decode",
                             "--batch", "1,8", "--seq-len", "1K")  # fmt: skip
    assert [line.split()[4] for line in out.splitlines() if line.startswith("  h100-sxm")] == ["1.00x"] * 4


def test_what_fails_in_a_sweep_says_which_run_it_was(run: Run) -> None:
    code, out, error = run.simulate("--arch", "h100-sxm", "--workload", "llama", "--phase", "prefill,decode", "--batch",
                                    "1,128", "--seq-len", "8K", "--format", "csv")  # fmt: skip
    assert (code, len(out.splitlines())) == (2, 1 + 2)
    lines = error.splitlines()
    assert lines[0].startswith("simulate: llama-3.1-8b, prefill, 8,192 tokens x 128, on h100-sxm: ")
    assert lines[1].startswith("simulate: llama-3.1-8b, decode, 8,192 tokens x 128, on h100-sxm: ")
