"""Files appear whole or not at all; standard streams in every state; text that does a terminal no harm.

Numbers as a person reads them.
"""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.simulator.views import output as say
from cascadesim.simulator.views.output import (
    cell,
    console,
    json_text,
    pending_file,
    pending_files,
    printable,
    progress,
    written_to,
)


def test_a_file_appears_when_the_work_is_done(tmp_path: Path) -> None:
    target = tmp_path / "report.json"
    with pending_file(target) as pending:
        pending.write_text("done")
        assert not target.exists()
        assert pending.suffix == ".json"
    assert target.read_text() == "done"
    assert list(tmp_path.iterdir()) == [target]


def test_what_fails_leaves_the_old_file_alone(tmp_path: Path) -> None:
    target = tmp_path / "report.json"
    target.write_text("old")

    def interrupted() -> None:
        with pending_file(target) as pending:
            pending.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_several_files_appear_together_or_not_at_all(tmp_path: Path) -> None:
    with pytest.raises(CascadeSimError), pending_files((tmp_path / "a", None, tmp_path / "missing" / "b")):
        pass
    assert list(tmp_path.iterdir()) == []
    with pending_files((tmp_path / "a", None)) as (first, second):
        assert first is not None
        assert second is None


def test_a_link_keeps_pointing_at_its_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("old")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    with pending_file(tmp_path / "link") as pending:
        pending.write_text("new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "file").read_text() == "new"


def test_a_device_is_written_in_place() -> None:
    with pending_file(Path(os.devnull)) as pending:
        assert pending == Path(os.devnull)


def test_permissions_are_those_the_file_has_or_would_get(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    old.touch(0o600)
    plain = tmp_path / "plain"
    plain.touch()
    for target in (old, new):
        with pending_file(target):
            pass
    assert old.stat().st_mode & 0o777 == 0o600
    assert new.stat().st_mode == plain.stat().st_mode


@pytest.mark.parametrize(("name", "message"), [("", "is a folder"), ("missing/file", "no folder"),
                                               ("file/inside", "no folder")])  # fmt: skip
def test_what_cannot_be_written_is_refused_before_any_work(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CascadeSimError, match=message), pending_file(tmp_path / name):
        pytest.fail("the work started")


def test_one_file_asked_for_twice_is_refused(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "a")
    with pytest.raises(CascadeSimError, match="asked for twice"), pending_files((tmp_path / "a", tmp_path / "link")):
        pass


def test_a_disk_that_is_full_names_the_file_that_was_asked_for(tmp_path: Path) -> None:
    """The system names no file when a write fails, and would name a pending one when a rename does."""
    def full() -> None:
        with pending_file(tmp_path / "report.json"):
            raise OSError(28, "No space left on device")

    with pytest.raises(CascadeSimError, match=r"/report\.json: cannot be written: No space left on device"):
        full()
    assert list(tmp_path.iterdir()) == []


def test_a_device_that_is_full_is_named(tmp_path: Path) -> None:
    with (
        pytest.raises(CascadeSimError, match=r"/dev/full: cannot be written: No space left on device"),
        pending_file(Path("/dev/full")) as pending, written_to(pending) as stream,
    ):  # fmt: skip
        stream.write("text")


def test_what_another_file_did_is_not_said_of_this_one(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), pending_file(tmp_path / "report.json"):
        (tmp_path / "other").read_text()


def test_interrupts_are_held_back_only_while_the_file_is_made(tmp_path: Path) -> None:
    def held_back() -> set[int]:
        return signal.pthread_sigmask(signal.SIG_BLOCK, ()) & {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}

    with pending_file(tmp_path / "a"):
        assert not held_back()
    with pytest.raises(CascadeSimError), pending_file(tmp_path / "missing" / "a"):
        pass
    assert not held_back()


PROGRAM = f'{sys.executable} -c "from cascadesim.simulator.cli.commands import main; main()"'
ONLY_READ = "Bad file descriptor"
FULL = "No space left on device"


def shell(line: str) -> tuple[int, str, str]:
    """Exit code of the program in `line`, what came out, what was said."""
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(("streams", "code", "said"), [
    (">&-", 2, f"cascadesim: standard output: {ONLY_READ}\n"),
    (">/dev/full", 2, f"cascadesim: standard output: {FULL}\n"),
    (">&- 2>&-", 2, ""),
    (">/dev/full 2>/dev/full", 2, ""),
    (">/dev/null 2>&-", 0, ""),
    (">/dev/null 2>/dev/full", 0, ""),
    ("<&-", 0, ""),
])  # fmt: skip
def test_an_answer_that_cannot_be_written_is_exit_code_2(streams: str, code: int, said: str) -> None:
    found, _, error = shell(f"{PROGRAM} --help {streams}")
    assert (found, error) == (code, said)


@pytest.mark.parametrize("streams", [">&-", "2>&-", ">&- 2>&-", ">/dev/full", "2>/dev/full"])
def test_bad_input_is_exit_code_2_whoever_listens_and_never_an_answer(streams: str) -> None:
    code, out, error = shell(f"{PROGRAM} lst {streams}")
    assert (code, out) == (2, "")
    assert error in ("", "cascadesim: no command 'lst'; did you mean 'list'?\n")
    assert bool(error) == ("2>" not in streams)


def test_a_reader_that_takes_nothing_is_no_error() -> None:
    code, _, error = shell(f"set -o pipefail; {PROGRAM} --help | head -n 0")
    assert (code, error) == (0, "")


@pytest.mark.slow
@pytest.mark.parametrize(("streams", "code"), [("| head -n 0", 0), (">/dev/full", 2), (">&-", 2)])
def test_files_asked_for_are_whole_whatever_became_of_standard_output(tmp_path: Path, streams: str, code: int) -> None:
    """With standard output closed, the first file that is opened would otherwise be given its number."""
    target = tmp_path / "trace.json"
    found, _, _ = shell(f"set -o pipefail; {PROGRAM} simulate --arch fusemax --workload bert --seq-len 1K "
                        f"--scope attention --trace {target} {streams}")  # fmt: skip
    assert found == code
    assert json.loads(target.read_text())["traceEvents"]


def test_harmless_text_is_left_alone_and_the_rest_becomes_escapes() -> None:
    assert printable("latency 3 µs – 1.5x\tof \n日本 ▏") == "latency 3 µs – 1.5x\tof \n日本 ▏"
    assert printable("\x1b[31m \x07\r\x7f\x9b") == "\\x1b[31m \\x07\\r\\x7f\\x9b"
    assert printable("a\u202eb\u2028\udcff") == "a\\u202eb\\u2028\\udcff"


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "-"])
def test_a_cell_that_begins_like_a_formula_is_quoted(text: str) -> None:
    assert cell(text) == f"'{text}"


@pytest.mark.parametrize("value", [-1, -1.5e-9, 0, None, "bert", "1-pass", "", True])
def test_numbers_and_other_text_stay_as_they_are(value: object) -> None:
    assert cell(value) == value


def test_a_document_has_no_raw_control_character_and_reads_back_the_same() -> None:
    content = {"name": "a\x1b\x7f\x9b\u202e\udcffµ𝄞\n"}
    text = json_text(content)
    assert json.loads(text) == content
    assert all(each.isprintable() or each == "\n" for each in text)
    assert "µ𝄞" in text


def test_a_wide_terminal_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "132")
    with open(os.devnull, "w") as stream:
        assert console(stream).width == 132




class Terminal(io.StringIO):
    """A stream that says it is one."""

    def isatty(self) -> bool:
        return True


def test_progress_is_shown_stage_by_stage_on_a_terminal_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with progress(("searching",)) as nobody:
        assert nobody == {}
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    with progress(("searching", "refining")) as watches:
        watches["searching"](1, 4)
        watches["searching"](4, 4)
    shown = terminal.getvalue()
    assert " 25%" in shown
    assert "refining" not in shown  # never began
    *_, last = shown.split("searching")  # one bar that grows
    assert "100%" in last
    assert shown.count("searching") == shown.count("\r")
    monkeypatch.setattr(sys, "stderr", quiet := Terminal())
    with progress(("searching",), shown=False) as short:
        assert short == {}
    with progress(("searching",)):
        pass  # over before it began
    assert quiet.getvalue() == ""


@pytest.mark.parametrize(("text", "expected"), [
    (say.seconds(0.00201314), "2.013 ms"), (say.seconds(61.96), "61.96 s"), (say.seconds(40e-9), "40 ns"),
    (say.joules(12263.0), "12.26 kJ"), (say.joules(3.5e-5), "35 µJ"), (say.joules(0.0), "0 pJ"),
    (say.bytes_of(402653184), "384 MiB"), (say.bytes_of(144), "144 B"), (say.bytes_of(1.5 * 2**30), "1.500 GiB"),
    (say.hertz(940e6), "940 MHz"), (say.square_millimetres(1302951803.1), "1,303.0 mm²"),
    (say.count(51.54e9), "51.54 G"), (say.count(12), "12"), (say.whole(1892352), "1,892,352"),
    (say.percent(0.8896), "89.0%"), (say.percent(None), "–"), (say.rate(6602.7), "6,603"), (say.rate(27.59), "27.6"),
    (say.shares({"mac": 6.0, "dram": 4.0, "none": 0.0}), "60% mac, 40% dram"),
])  # fmt: skip
def test_a_quantity_reads(text: str, expected: str) -> None:
    assert text == expected


@pytest.mark.parametrize(("tokens", "text"), [(1024, "1K"), (2**20, "1M"), (3136, "3136"), (1, "1"), (1536, "1536")])
def test_lengths_read_as_the_command_line_takes_them(tokens: int, text: str) -> None:
    assert say.length(tokens) == text


@given(st.floats(min_value=1e-12, max_value=1e15))
def test_four_digits_are_kept(amount: float) -> None:
    number, unit = say.seconds(amount).split()
    size = {"s": 1, "ms": 1e-3, "µs": 1e-6, "ns": 1e-9}[unit]
    assert float(number.replace(",", "")) * size == pytest.approx(amount, rel=1e-3, abs=5e-13)
