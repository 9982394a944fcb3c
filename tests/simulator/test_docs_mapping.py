"""The page on mappings: its commands print what it says they print, its pictures are those that they draw."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from cascadesim.accelerators.mapping.text import find_mapping, parse_mapping
from cascadesim.simulator.cli.commands import cascadesim, exit_code, simulate

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "mapping.md").read_text(encoding="utf-8")
FENCES = re.findall(r"```(\w*)\n(.*?)```", PAGE, re.DOTALL)
TEXT = re.compile(r"<text[^>]*>([^<]*)</text>")
PICTURE = re.compile(r"docs/(\S+\.svg)")


def sessions() -> Iterator[tuple[str, list[str]]]:
    """Commands with the lines that are shown below them."""
    for _, fence in FENCES:
        for part in fence.replace("\\\n", " ").split("$ ")[1:]:
            command, *shown = part.splitlines()
            yield " ".join(command.split()), shown


SESSIONS = list(sessions())


def test_every_fence_is_a_session_or_a_mapping() -> None:
    assert all(fence.startswith(("$ ", "mapping ")) for _, fence in FENCES)
    assert len(SESSIONS) >= 9
    assert all(command.split()[0] in ("simulate", "cascadesim") for command, _ in SESSIONS)


@pytest.mark.slow
@pytest.mark.parametrize(("command", "shown"), SESSIONS, ids=range(len(SESSIONS)))
def test_a_command_prints_what_is_shown(
    command: str, shown: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In order, and nothing but a plain success or one line of error; the picture has the words of the one that is
    stored."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.chdir(ROOT)
    drawn = PICTURE.search(command)
    program, *arguments = shlex.split(PICTURE.sub(str(tmp_path / "drawn.svg"), command))
    code = exit_code(simulate if program == "simulate" else cascadesim, program, arguments)
    printed = capsys.readouterr()
    refused = shown[0].startswith("simulate: ")
    assert code == (2 if refused else 0)
    lines = iter((printed.err if refused else printed.out).splitlines())
    assert [line for line in shown if line not in lines] == []
    if drawn is not None:
        stored = (ROOT / "docs" / drawn[1]).read_text(encoding="utf-8")
        assert TEXT.findall((tmp_path / "drawn.svg").read_text(encoding="utf-8")) == TEXT.findall(stored)


def test_pictures_are_drawn_by_commands_of_the_page_and_small() -> None:
    shown = set(re.findall(r"!\[[^]]+\]\(([^)]+)\)", PAGE))
    assert shown == {name for command, _ in SESSIONS for name in PICTURE.findall(command)}
    assert shown == {path.name for path in (ROOT / "docs").glob("mapping-*")}
    for name in shown:
        assert len((ROOT / "docs" / name).read_bytes()) < 100_000


def test_the_mapping_that_is_read_is_the_published_one() -> None:
    text, *others = (fence for _, fence in FENCES if fence.startswith("mapping "))
    assert str(parse_mapping(text)) == str(find_mapping("fusemax"))
    assert [str(parse_mapping(other)).strip() for other in others] == [other.strip() for other in others]


ROWS = re.findall(r"^\| `([^`]+)` \| `([^`]+)` \| ([\d,]+) \| ([\d,]+) \|", PAGE, re.MULTILINE)


@pytest.mark.parametrize(("line", "other", "level", "closed"), ROWS)
def test_a_changed_line_costs_what_the_table_says(
    line: str, other: str, level: str, closed: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert len(ROWS) == 4
    text = str(find_mapping("fusemax"))
    assert line in text
    (tmp_path / "mine.mapping").write_text(text.replace(line, other), encoding="utf-8")
    arguments = ("--arch", "fusemax", "--workload", "bert", "--scope", "attention", "--seq-len", "1K", "--mapping",
                 str(tmp_path / "mine.mapping"))  # fmt: skip
    assert exit_code(simulate, "simulate", arguments) == 0
    printed = capsys.readouterr().out
    assert f"{level} cycles" in printed
    assert f"closed form of {closed} cycles" in " ".join(printed.split())
