"""Standard streams in every state a shell can leave them in, and text that does a terminal no harm."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cascadesim.simulator.views.terminal import cell, console, json_text, printable

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
