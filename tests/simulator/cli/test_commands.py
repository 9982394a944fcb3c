"""The command line: answers on standard output, a line for every kind of bad input, exit codes, how a process ends."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascadesim.simulator.cli.commands import cascadesim, exit_code, program_exit, simulate, simulate_main

pytestmark = pytest.mark.usefixtures("engine_is_compiled")
BERT = ("--arch", "fusemax", "--workload", "bert", "--seq-len", "1K", "--scope", "attention")
CLOSED = (*BERT, "--fidelity", "analytical")
HEAVY = ("numpy", "pydantic", "numba", "rich", "matplotlib", "sympy", "networkx", "yaml")


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    return Run(capsys)


class Run:
    """Runs `simulate` or `cascadesim` in this process: exit code, standard output, standard error."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.capsys = capsys

    def simulate(self, *arguments: str) -> tuple[int, str, str]:
        return self._run(simulate, "simulate", arguments)

    def cascadesim(self, *arguments: str) -> tuple[int, str, str]:
        return self._run(cascadesim, "cascadesim", arguments)

    def _run(self, command: click.Command, program: str, arguments: tuple[str, ...]) -> tuple[int, str, str]:
        code = exit_code(command, program, arguments)
        printed = self.capsys.readouterr()
        return code, printed.out, printed.err

    def refused(self, *arguments: str) -> str:
        """The one line that a refusal of `simulate` is."""
        code, out, error = self.simulate(*arguments)
        assert (code, out) == (2, ""), error
        assert error.count("\n") == 1, error
        assert error.startswith("simulate: ")
        return error


def test_one_report_as_json(run: Run) -> None:
    code, out, error = run.simulate(*CLOSED, "--format", "json")
    assert (code, error) == (0, "")
    (report,) = json.loads(out)["reports"]
    assert report["cycles"] == 1_892_352  # 12288 tiles x 154 cycles: spec 5.2
    assert report["attention"] == "attention-1pass"


def test_the_cycle_level_is_within_a_percent_above_the_closed_form(run: Run) -> None:
    _, out, _ = run.simulate(*BERT, "--format", "json")
    (report,) = json.loads(out)["reports"]
    assert report["fidelity"] == "cycle"
    assert 1_892_352 <= report["cycles"] <= 1_892_352 * 1.01
    assert report["cycles"] >= max(unit["busy_cycles"] for unit in report["units"])
    explained = report["fill_cycles"] + report["drain_cycles"] + report["waiting_cycles"]
    assert report["cycles"] - report["analytical_cycles"] == explained  # the 1D array is busy all the rest of the time


def test_csv_has_a_row_for_each_report_and_units_in_its_header(run: Run) -> None:
    code, out, _ = run.simulate("--arch", "fusemax,fusemax-architecture", "--workload", "bert,t5", "--seq-len", "1K,4K",
                                "--scope", "attention", "--fidelity", "analytical", "--format", "csv")  # fmt: skip
    rows = list(csv.DictReader(io.StringIO(out)))
    assert code == 0
    assert len(rows) == 2 * 2 * 2
    assert int(rows[0]["cycles"]) == 1_892_352
    assert {"latency_s", "dram_read_bytes", "energy_total_j", "area_total_um2", "array_2d_busy_cycles"} <= set(rows[0])


def test_csv_says_what_a_device_holds(run: Run) -> None:
    """16-bit weights of 8.03 G parameters; 1 GiB of cache."""
    _, out, _ = run.simulate("--arch", "h100-sxm", "--workload", "llama", "--seq-len", "8K", "--format", "csv")
    (row,) = csv.DictReader(io.StringIO(out))
    assert int(row["memory_weights_bytes"]) == 2 * int(row["parameters"])
    assert (row["memory_kv_bytes"], row["memory_capacity_bytes"]) == (str(2**30), "80000000000")


def test_a_sweep_is_one_table_against_the_first_architecture(run: Run) -> None:
    _, out, _ = run.simulate("--arch", "fusemax-architecture,fusemax", "--workload", "bert", "--seq-len", "1K",
                             "--scope", "attention", "--fidelity", "analytical")  # fmt: skip
    assert "2.97x" in out  # (154 + 256 + ...) per tile against 154: the published rows, 5,627,904 / 1,892,352
    assert "against fusemax-architecture" in out


def test_an_option_of_lists_may_be_given_again_and_adds_up(run: Run) -> None:
    _, once, _ = run.simulate("--arch", "flat,fusemax", "--workload", "bert,t5", "--seq-len", "1K,4K",
                              "--scope", "attention", "--fidelity", "analytical", "--format", "csv")  # fmt: skip
    _, again, _ = run.simulate("--arch", "flat", "--arch", "fusemax", "--workload", "bert", "--workload", "t5",
                               "--seq-len", "1K", "--seq-len", "4K,1K",
                               "--scope", "attention", "--fidelity", "analytical", "--format", "csv")  # fmt: skip
    assert again == once
    assert len(once.splitlines()) == 1 + 2 * 2 * 2


# 64 sequences of 16K keys: 68.7 GB of keys and values, more than the 80 GB of an H100 less the 16 GB of weights
FULL = ("--workload", "llama", "--phase", "decode", "--batch", "128", "--seq-len", "8K", "--fidelity", "analytical")


def test_a_sweep_goes_on_where_one_architecture_cannot(run: Run) -> None:
    code, out, error = run.simulate("--arch", "flat,h100-sxm,fusemax", *FULL, "--format", "json")
    assert code == 2
    assert [report["architecture"] for report in json.loads(out)["reports"]] == ["flat", "fusemax"]
    assert error.startswith("simulate: llama-3.1-8b, 8,192 tokens, on h100-sxm: ")
    assert error.count("\n") == 1


def test_files_of_a_sweep_hold_what_could_be_answered(run: Run, tmp_path: Path) -> None:
    target = tmp_path / "sweep.csv"
    code, out, _ = run.simulate("--arch", "h100-sxm,flat", *FULL, "--format", "csv", "--output", str(target))
    assert (code, out) == (2, "")
    assert [row["architecture"] for row in csv.DictReader(target.open())] == ["flat"]


def test_a_sweep_in_which_nothing_can_be_answered_writes_nothing(run: Run, tmp_path: Path) -> None:
    target = tmp_path / "sweep.csv"
    code, out, error = run.simulate("--arch", "h100-sxm,a100-sxm", *FULL, "--output", str(target))
    assert (code, out) == (2, "")
    first, second = error.splitlines()
    assert first.startswith("simulate: llama-3.1-8b, 8,192 tokens, on h100-sxm: ")
    assert first.endswith("the largest batch that fits is 58")
    assert second.startswith("simulate: llama-3.1-8b, 8,192 tokens, on a100-sxm: ")
    assert list(tmp_path.iterdir()) == []


def test_what_is_wrong_with_every_run_of_a_sweep_is_said_once(run: Run) -> None:
    assert "did you mean 'attention-1pass'" in run.refused("--arch", "flat,fusemax", "--workload", "bert",
                                                           "--attention", "attention-1pas")  # fmt: skip


def test_control_characters_of_the_users_reach_no_terminal(run: Run, tmp_path: Path) -> None:
    """In errors, tables, text, JSON and CSV; JSON and its readers get the very characters, as escapes."""
    name = "x\x1b]0;title\x07\x9b31m\u202ey"
    path = tmp_path / f"{name}.cascade"
    path.write_text(cascade_text("attention-1pass"))
    shown = [run.simulate(*CLOSED, "--set", f"note{name}=1"), run.simulate(*CLOSED, "--attention", str(path)),
             run.simulate(*CLOSED, "--attention", str(path), "--show", "cascade")]  # fmt: skip
    as_json = run.simulate(*CLOSED, "--attention", str(path), "--format", "json")
    as_csv = run.simulate(*CLOSED, "--attention", str(path), "--format", "csv")
    passes = [run.cascadesim("passes", str(path)), run.cascadesim("passes", str(path), "--format", "json")]
    for _, out, error in (*shown, as_json, as_csv, *passes):
        assert all(each.isprintable() or each == "\n" for each in out + error)
    assert json.loads(as_json[1])["reports"][0]["attention"] == str(path)


def test_text_that_a_spreadsheet_would_run_is_quoted_in_csv(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("@SUM(A1).cascade").write_text(cascade_text("attention-1pass"))
    _, out, _ = run.simulate(*CLOSED, "--attention", "@SUM(A1).cascade", "--format", "csv")
    (row,) = csv.DictReader(io.StringIO(out))
    assert row["attention"] == "'@SUM(A1).cascade"
    assert float(row["latency_s"]) > 0


def cascade_text(name: str) -> str:
    from cascadesim.einsum_cascades.texts import find

    return find(name).text


@pytest.mark.parametrize("columns", ["0", "1", "wide", "-5", ""])
def test_a_table_needs_no_sensible_width(run: Run, monkeypatch: pytest.MonkeyPatch, columns: str) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    _, usual, _ = run.simulate("--arch", "flat,fusemax", *CLOSED[2:])
    monkeypatch.setenv("COLUMNS", columns)
    assert run.simulate("--arch", "flat,fusemax", *CLOSED[2:]) == (0, usual, "")
    assert "1,892,352 cycles" in run.simulate(*CLOSED)[1]


def test_both_programs_are_the_same_command(run: Run) -> None:
    assert run.cascadesim("simulate", *CLOSED) == run.simulate(*CLOSED)


def test_published_accounting_is_analytical_by_default(run: Run) -> None:
    _, out, _ = run.simulate(*BERT, "--accounting", "artifact", "--format", "json")
    assert json.loads(out)["reports"][0]["fidelity"] == "analytical"


def test_settings_reach_the_architecture_and_the_workload(run: Run) -> None:
    settings = ("--set", "clock_hz=470_000_000.0", "--set", "attention.heads=6")
    _, out, _ = run.simulate(*CLOSED, *settings, "--format", "json")
    (report,) = json.loads(out)["reports"]
    assert report["clock_hz"] == 470e6
    assert report["cycles"] == 1_892_352 // 2  # half of the heads
    assert report["notes"][:2] == ["set clock_hz=470_000_000.0", "set attention.heads=6"]


@pytest.mark.parametrize(("arguments", "message"), [
    (("--arch", "fusmax", "--workload", "bert"), "no architecture 'fusmax'; did you mean 'fusemax'?"),
    (("--arch", "fusemax", "--workload", "brt"), "no workload 'brt'; did you mean 'bert'?"),
    ((*CLOSED, "--attention", "attention-1pas"), "no cascade 'attention-1pas'; did you mean 'attention-1pass'?"),
    ((*CLOSED, "--seq-len", "0"), "0 tokens"),
    ((*CLOSED, "--seq-len", "-4096"), "-4096 tokens"),
    ((*CLOSED, "--seq-len", "4096x"), "'4096x' is not a length"),
    ((*CLOSED, "--batch", "0"), "0 sequences"),
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


def test_a_preset_of_the_users_own_runs(run: Run, tmp_path: Path) -> None:
    from cascadesim.accelerators.catalogue import presets

    path = tmp_path / "mine.yaml"
    path.write_text(presets()["fusemax/fusemax"].read_text().replace("940_000_000.0", "470_000_000.0"))
    code, out, _ = run.simulate("--arch", str(path), *CLOSED[2:], "--format", "json")
    assert code == 0
    assert json.loads(out)["reports"][0]["architecture"] == "mine.yaml"


@pytest.mark.parametrize("settings", [(), ("--set", "clock_hz=470_000_000.0"), ("--set", "clock=1")])
def test_a_preset_through_a_pipe_is_read_once(run: Run, tmp_path: Path, settings: tuple[str, ...]) -> None:
    """Opened again, a pipe whose writer has gone would be waited for without end."""
    from cascadesim.accelerators.catalogue import presets

    pipe = tmp_path / "mine.yaml"
    os.mkfifo(pipe)
    threading.Thread(target=pipe.write_text, args=(presets()["fusemax/fusemax"].read_text(),), daemon=True).start()
    code, _, error = run.simulate("--arch", str(pipe), *CLOSED[2:], *settings)
    assert code == (2 if "clock=1" in settings else 0), error


def test_output_goes_to_a_file_and_only_there(run: Run, tmp_path: Path) -> None:
    target = tmp_path / "report.json"
    assert run.simulate(*CLOSED, "--format", "json", "--output", str(target)) == (0, "", "")
    assert json.loads(target.read_text())["reports"][0]["cycles"] == 1_892_352


def test_a_refused_run_leaves_earlier_output_alone(run: Run, tmp_path: Path) -> None:
    target = tmp_path / "report.json"
    target.write_text("earlier")
    run.refused(*CLOSED, "--set", "global_buffer.capacity_bytes=256", "--output", str(target))
    assert target.read_text() == "earlier"
    assert list(tmp_path.iterdir()) == [target]


def test_show_prints_text_instead_of_results(run: Run) -> None:
    _, cascade, _ = run.simulate(*CLOSED, "--show", "cascade")
    assert "RM[h,m1+1,p]    = max(RM[h,m1,p], LM[h,m1,p])" in cascade
    assert "m=1024" in cascade
    _, schedule, _ = run.simulate(*BERT, "--show", "schedule")
    assert "12,288 tiles" in schedule
    assert "closed form: 1,892,352 cycles" in schedule
    code, mapping, _ = run.simulate(*CLOSED, "--show", "mapping")
    assert code == 0
    assert mapping.startswith("bert on fusemax")


@pytest.mark.parametrize("passes", [3, 2, 1])
def test_passes_of_attention(run: Run, passes: int) -> None:
    cascade = f"attention-{passes}pass"
    _, out, _ = run.cascadesim("passes", cascade, "--rank", "m", "--format", "json")
    found = json.loads(out)
    assert found["schema"] == "cascadesim.passes/1"
    assert found["passes"] == {"m": passes}
    assert found["live_footprint"]["m"]["constant_in_rank"] is (passes == 1)
    _, out, _ = run.cascadesim("passes", cascade)
    assert f"{passes}-pass" in out.splitlines()[0]


def test_passes_prints_numbers_for_the_extents_it_is_given(run: Run) -> None:
    """1,000 causal queries and keys: 1000 * 1001 / 2 pairs; 256 see one tile, 256 two, 256 three and 232 four."""
    arguments = ("passes", "attention-1pass", "--set", "M0=256", "--set", "M=1000", "--mask", "causal")
    _, out, _ = run.cascadesim(*arguments)
    assert ["QK", "1", "500500*E*H", "mac"] in [line.split() for line in out.splitlines()]
    _, out, _ = run.cascadesim(*arguments, "--set", "H=1", "--set", "E=64", "--set", "F=64", "--format", "json")
    operations = json.loads(out)["operations"]
    assert operations["QK"] == {"mac": 500_500 * 64}
    assert operations["RM"] == {"max": 256 * (1 + 2 + 3) + 232 * 4}


@pytest.mark.parametrize(("option", "message"), [
    (("--set", "M0"), "give EXTENT=N, such as M0=256"),
    (("--set", "M0=x"), "is not a length"),
    (("--set", "N7=2"), "attention-1pass: no extent 'N7'"),
    (("--mask", "casual"), "give full, causal, window:N or chunk:N"),
    (("--mask", "window:0"), "window must be at least 1"),
])
def test_passes_says_which_extent_or_mask_it_cannot_use(run: Run, option: tuple[str, str], message: str) -> None:
    code, out, error = run.cascadesim("passes", "attention-1pass", *option)
    assert (code, out) == (2, "")
    assert message in error


def test_a_typo_in_a_cascade_is_shown_in_its_place(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "mine.cascade"
    path.write_text("QK[p,m] = Q[p,e] * K[m,e]\nGM[p] mean= QK[p,m]\n")
    code, out, error = run.cascadesim("passes", str(path))
    assert (code, out) == (2, "")
    first, line, caret = error.splitlines()
    assert first.startswith("passes: mine, line 2: unknown reduction 'mean='")
    assert line[caret.index("^") :].startswith("mean=")


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


@given(option=st.sampled_from(["--seq-len", "--batch", "--set", "--arch", "--workload", "--attention"]), text=st.text())
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
    assert first.startswith("cascadesim: compiling the choice of tiles (about 5 s) once")  # the engine comes after it
    assert (process.returncode, out) == (143, "")
    assert rest.endswith("simulate: terminated\n")
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
