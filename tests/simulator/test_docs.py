"""The pages on Python and on the command line: every snippet and every command in them runs."""

from __future__ import annotations

import contextlib
import io
import re
import shlex
from pathlib import Path

import pytest

from cascadesim.simulator.cli.commands import cascadesim, exit_code, simulate

DOCS = Path(__file__).parents[2] / "docs"
PROGRAMS = {"cascadesim": cascadesim, "simulate": simulate}


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (DOCS / page).read_text(encoding="utf-8"), re.DOTALL)


SNIPPETS = blocks("python.md", "python")
COMMANDS = [line for block in blocks("commands.md", "console") for line in block.splitlines()]


def printed(snippet: str) -> str:
    with contextlib.redirect_stdout(io.StringIO()) as out:
        exec(compile(snippet, "python.md", "exec"), {})
    return out.getvalue()


@pytest.mark.parametrize("snippet", SNIPPETS)
def test_every_snippet_runs_and_prints(snippet: str) -> None:
    assert printed(snippet).strip()


def test_remarks_beside_snippets_are_true() -> None:
    assert printed(SNIPPETS[1]).startswith("32\n")
    assert printed(SNIPPETS[3]).strip() in SNIPPETS[3]


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_runs(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    program, *arguments = shlex.split(line)
    assert exit_code(PROGRAMS[program], program, arguments) == 0
    out, error = capsys.readouterr()
    assert out
    assert error == ""
