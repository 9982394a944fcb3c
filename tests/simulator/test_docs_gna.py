"""The worked example of a neighborhood is what the command prints today."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from cascadesim.simulator.cli.commands import cascadesim, exit_code, simulate
from cascadesim.simulator.cli.gna import gna

PAGE = Path(__file__).parents[2] / "docs" / "gna.md"


@pytest.mark.slow
def test_the_worked_example_is_up_to_date(tmp_path: Path) -> None:
    text = PAGE.read_text(encoding="utf-8")
    found = re.search(r"```text\n\$ cascadesim gna (.*?--plot) \S+\n(.*?)```", text, re.DOTALL)
    assert found is not None
    arguments, shown = found.groups()
    given = [*arguments.replace("\\\n", "").split(), str(tmp_path / "picture.png")]
    result = CliRunner(env={"COLUMNS": "80"}).invoke(gna, given)
    assert result.exit_code == 0
    printed = [line.rstrip() for line in result.stdout.splitlines()]
    missing = [line for line in shown.splitlines() if line not in printed]
    assert not missing


SESSIONS = [session for session in re.findall(r"```text\n\$ ((?:cascadesim|simulate) .*?)```", PAGE.read_text("utf-8"),
                                               re.DOTALL) if "--plot" not in session]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("session", SESSIONS, ids=[session.splitlines()[0] for session in SESSIONS])
def test_a_session_prints_what_stands_below_it(
    session: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    line, *shown = session.splitlines()
    monkeypatch.setenv("COLUMNS", "80")
    program, *arguments = line.split()
    assert exit_code({"cascadesim": cascadesim, "simulate": simulate}[program], program, arguments) == 0
    printed = iter([each.rstrip() for each in capsys.readouterr().out.splitlines()])
    assert [each for each in shown if each not in printed] == []  # in this order


def test_the_picture_is_there() -> None:
    (picture,) = re.findall(r"!\[[^]]*\]\((flux-[^)]*)\)", PAGE.read_text(encoding="utf-8"))
    assert (PAGE.parent / picture).read_bytes().startswith(b"\x89PNG")
