"""The README, the pages on Python, on questions and on the command line: every snippet and every command in them runs;
every link in a page leads somewhere."""

from __future__ import annotations

import contextlib
import io
import re
import shlex
from itertools import pairwise
from pathlib import Path

import pytest

from cascadesim.simulator.cli.commands import cascadesim, exit_code, simulate

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
README = ROOT / "README.md"
PROGRAMS = {"cascadesim": cascadesim, "simulate": simulate}


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (DOCS / page).read_text(encoding="utf-8"), re.DOTALL)


SNIPPETS = blocks("python.md", "python")
README_SNIPPETS = re.findall(r"```python\n(.*?)```|`(import [^`]*)`", README.read_text(encoding="utf-8"), re.DOTALL)
QUESTIONS = [
    line.split("  #")[0].strip()
    for page in ("../README.md", "questions.md") for block in blocks(page, "sh")
    for line in block.replace("\\\n", " ").splitlines() if line.startswith(tuple(PROGRAMS))
]  # fmt: skip
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


@pytest.mark.parametrize("found", README_SNIPPETS, ids=range(len(README_SNIPPETS)))
def test_what_the_readme_types_in_python_runs_and_prints(found: tuple[str, str]) -> None:
    assert len(README_SNIPPETS) == 2
    assert printed("".join(found)).strip()


@pytest.mark.slow
@pytest.mark.parametrize("line", [line for line in QUESTIONS if line != "cascadesim validate"])  # the suites' own tests
def test_every_question_is_answered_and_its_files_are_written(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    program, *arguments = shlex.split(line)
    assert exit_code(PROGRAMS[program], program, arguments) == 0
    assert capsys.readouterr().out
    named = {after for option, after in pairwise(arguments) if option in ("--plot", "--trace", "--output")}
    assert {path.name for path in tmp_path.iterdir()} == named


def test_the_readme_asks_twelve_questions() -> None:
    assert len([line for block in blocks("../README.md", "sh") for line in block.splitlines()
                if line.startswith(tuple(PROGRAMS))]) == 12  # fmt: skip
    assert len(QUESTIONS) == len(set(QUESTIONS)) >= 23


PAGES = [README, *sorted(DOCS.glob("*.md"))]


def anchors(page: Path) -> set[str]:
    """Of its headings, as they are linked: lower case, hyphens for spaces, without punctuation."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
            for title in re.findall(r"^#+ (.*)$", text, re.MULTILINE)}  # fmt: skip


@pytest.mark.parametrize("page", PAGES, ids=[page.name for page in PAGES])
def test_every_link_leads_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if not link.startswith("https://"):
            name, _, anchor = link.partition("#")
            target = (page.parent / name).resolve() if name else page
            assert target.is_file(), link
            assert not anchor or anchor in anchors(target), link


def test_every_page_can_be_reached_from_the_readme() -> None:
    reached, left = set[Path](), [README]
    while left:
        page = left.pop()
        reached.add(page)
        names = re.findall(r"\]\(([^)#\s]+\.md)", page.read_text(encoding="utf-8"))
        left += {(page.parent / name).resolve() for name in names} - reached - {*left}
    assert {page.resolve() for page in PAGES} <= reached
