"""README and docs: every fenced command and snippet of every page runs, sessions print what stands below them, links
lead somewhere."""

from __future__ import annotations

import contextlib
import io
import json
import re
import shlex
import textwrap
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import click
import pytest
import yaml

from cascadesim.simulator.cli.commands import cascadesim, exit_code, simulate

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
README = ROOT / "README.md"
PAGES = [README, *sorted(DOCS.glob("*.md"))]
PROGRAMS: dict[str, click.Command] = {"cascadesim": cascadesim, "simulate": simulate}
FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
OWN_TESTS = ("gna.md", "mapping.md", "assumptions.md")  # whose sessions and tables have a test module each
NOT_RUN = {
    "make demo": "a target of make, and what it runs is in the README below", "make test": "these tests",
    "cascadesim validate": "the suites have tests of their own",
    "cascadesim validate spatten-rtl-heads spatten-rtl-streams": "the same",
    "cascadesim explore my-space.yaml --engine ray": "needs Ray, and has a test of its own",
    "python -m cascadesim.validation.spatten.ladder --plot ladder.png": "has a test of its own",
    "pip install 'cascadesim[kernels]'": "needs a package index",
    "cascadesim measure --output records": "needs a GPU",
    "cascadesim measure attention decode --output records --seconds 120": "needs a GPU",
    "cascadesim measure attention pruned --counters --output records": "needs a GPU",
    "PYTHONPATH=.src python3 -m cascadesim.validation.measure --output records": "needs a GPU",
}
PRUNED = (  # two lines such as mit-han-lab/spatten's workload files have
    "iteration_id,layer_id,head_id,embedding_length_D,sentence_length_L,key_fetch_num,quant_key_bit,quant_query_bit,"
    "auto_requant_thres,if_requant,auto_requant_incre,value_fetch_num,quant_value_bit,if_accumulate_importance,"
    "if_rescale_previous_importance,if_topk,topk\n"
    "0,0,0,64.0,993,993,8,16,0.05,True,4,204,8,True,False,False,-1\n"
    "0,0,1,64.0,993,993,8,16,0.05,False,4,204,8,True,True,True,921\n"
)
QWEN3_8B = {  # Qwen/Qwen3-8B, config.json
    "model_type": "qwen3", "num_hidden_layers": 36, "hidden_size": 4096, "num_attention_heads": 32,
    "num_key_value_heads": 8, "intermediate_size": 12288, "vocab_size": 151936, "hidden_act": "silu", "head_dim": 128,
    "max_position_embeddings": 40960, "torch_dtype": "bfloat16", "rms_norm_eps": 1e-6,
}  # fmt: skip


class Line(NamedTuple):
    """A command of a page, and those before it in its fence whose output it reads."""

    page: str
    command: str
    before: tuple[str, ...] = ()


def fences(page: Path) -> list[tuple[str, str]]:
    """(language, text) of each."""
    return [(language, textwrap.dedent(text)) for _, language, text in FENCE.findall(page.read_text(encoding="utf-8"))]


def joined(text: str) -> list[str]:
    """Lines without remarks; one that ends in a backslash goes on."""
    lines = (re.split(r"\s{2,}#", line)[0].strip() for line in text.replace("\\\n", " ").splitlines())
    return [" ".join(line.split()) for line in lines if line]


def commands() -> Iterator[Line]:
    for page in PAGES:
        for language, text in fences(page):
            if language in ("sh", "console") and page.name not in OWN_TESTS:
                lines = joined(text)
                for number, line in enumerate(lines):
                    words = line.split()
                    yield Line(page.name, line, tuple(earlier for earlier in lines[:number] if " > " in earlier
                                                      and earlier.split()[-1] in words))  # fmt: skip


COMMANDS = list(dict.fromkeys(commands()))
SNIPPETS = [(page.name, text) for page in PAGES for language, text in fences(page) if language == "python"]
SESSIONS = [(command, shown) for page in PAGES if page.name not in OWN_TESTS for language, text in fences(page)
            if text.startswith("$ ") for command, *shown in (text[2:].splitlines(),)]  # fmt: skip


def run(line: str) -> None:
    """One command, in this process, with its output where `>` says."""
    command, _, target = line.partition(" > ")
    program, *arguments = shlex.split(command)
    with contextlib.ExitStack() as stack:
        if target:
            stack.enter_context(contextlib.redirect_stdout(stack.enter_context(open(target, "w", encoding="utf-8"))))
        assert exit_code(PROGRAMS[program], program, arguments) == 0, line


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a reader of the pages stands: the checkout's examples, and files of his own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    (tmp_path / "Qwen3-8B").mkdir()
    (tmp_path / "Qwen3-8B" / "config.json").write_text(json.dumps(QWEN3_8B), encoding="utf-8")
    (tmp_path / "rows.csv").write_text(PRUNED, encoding="utf-8")
    theirs = {"einsum": {"declaration": {"A": ["K", "M"], "B": ["K", "N"], "Z": ["M", "N"]},
                         "expressions": ["Z[m, n] = A[k, m] * B[k, n]"]}}  # fmt: skip
    (tmp_path / "their.yaml").write_text(yaml.safe_dump(theirs), encoding="utf-8")
    (space,) = (text for language, text in fences(DOCS / "explore.md") if language == "yaml")
    few = space  # the same space with fewer values, for the time it takes
    for many, some in (("[1.0e+11, 1.0e+12, 5]", "[1.0e+11, 1.0e+12, 2]"), ("[1, 9, 2]", "[1, 3, 2]"),
                       ("powers_of_two: [16, 512]", "powers_of_two: [128, 512]")):  # fmt: skip
        assert many in few
        few = few.replace(many, some)
    (tmp_path / "my-space.yaml").write_text(few, encoding="utf-8")
    (cascade,) = (text for _, text in fences(DOCS / "tutorial.md") if text.startswith("$ cat "))
    name, _, text = cascade.removeprefix("$ cat ").partition("\n")
    (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path


def test_every_page_is_read() -> None:
    assert len(COMMANDS) >= 60
    assert len(SNIPPETS) >= 9
    assert len(SESSIONS) >= 7
    assert set(NOT_RUN) <= {line.command for line in COMMANDS}


def test_a_command_is_never_hidden_in_another_kind_of_fence() -> None:
    for page in PAGES:
        for language, text in fences(page):
            if language not in ("sh", "console") and not text.startswith("$ "):
                assert not [line for line in text.splitlines() if line.startswith(tuple(PROGRAMS))], page.name


INLINE = sorted({" ".join(found.split()) for page in PAGES for found in re.findall(
    r"`((?:simulate|cascadesim) [^`]+)`", FENCE.sub("", page.read_text(encoding="utf-8")))})  # fmt: skip


@pytest.mark.parametrize("line", INLINE)
def test_a_command_in_a_sentence_has_these_options(line: str) -> None:
    program, *words = line.split()
    command = PROGRAMS[program]
    if program == "cascadesim":
        name, *words = words
        found = cascadesim.get_command(click.Context(cascadesim), name)
        assert found is not None
        command = found
    known = {name for option in command.params for name in option.opts}
    assert {word for word in words if word.startswith("--")} <= known


@pytest.mark.slow
@pytest.mark.parametrize("line", [each for each in COMMANDS if each.command not in NOT_RUN],
                         ids=lambda line: f"{line.page}: {line.command}")  # fmt: skip
def test_a_command_runs_and_its_files_are_written(
    line: Line, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for each in line.before:
        run(each)
    there = {path.name for path in folder.iterdir()}
    capsys.readouterr()
    run(line.command)
    words = shlex.split(line.command)
    options = ("--plot", "--trace", "--report", ">", *(("--output",) if "generate" not in words else ()))  # tokens
    named = {after for option, after in pairwise(words) if option in options}
    assert capsys.readouterr().out or ">" in words
    assert {path.name for path in folder.iterdir()} == there | named


@pytest.mark.slow
@pytest.mark.parametrize(("command", "shown"), SESSIONS, ids=[command for command, _ in SESSIONS])
def test_a_session_prints_what_stands_below_it_in_that_order(
    command: str, shown: list[str], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if command.startswith("cat "):
        found = (folder / command.removeprefix("cat ")).read_text(encoding="utf-8")
    else:
        run(command)
        found = capsys.readouterr().out
    lines = iter(found.splitlines())
    assert [line for line in shown if not any(line == each.rstrip() for each in lines)] == []


def printed(snippet: str) -> str:
    with contextlib.redirect_stdout(io.StringIO()) as out:
        exec(compile(snippet, "page.md", "exec"), {})
    return out.getvalue()


@pytest.mark.parametrize("snippet", [text for _, text in SNIPPETS], ids=[
    f"{page} {number}" for number, (page, _) in enumerate(SNIPPETS)])  # fmt: skip
def test_a_snippet_runs_and_prints(snippet: str) -> None:
    assert printed(snippet).strip()


def test_remarks_beside_snippets_are_true() -> None:
    own = [text for page, text in SNIPPETS if page == "python.md"]
    assert printed(own[1]).startswith("32\n")
    assert printed(own[3]).strip() in own[3]


def test_what_the_readme_types_in_a_line_of_python_runs() -> None:
    (line,) = re.findall(r"`(import [^`]*)`", README.read_text(encoding="utf-8"))
    assert printed(line).strip()


@pytest.mark.slow
def test_a_yaml_of_a_page_can_be_read(folder: Path) -> None:
    for page in PAGES:
        for language, text in fences(page):
            assert language != "yaml" or isinstance(yaml.safe_load(text), dict)


def test_the_readme_asks_twelve_questions() -> None:
    asked = [line for line in COMMANDS if line.page == "README.md" and line.command.startswith(tuple(PROGRAMS))]
    assert len(asked) == 12


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
