"""What others join by: the files around the code can be read, agree with each other, and name what is there."""

from __future__ import annotations

import importlib.util
import re
import tarfile
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any

import click
import pytest
import yaml
from click.testing import CliRunner
from hypothesis import settings

import cascadesim as package
from cascadesim.simulator.cli.commands import cascadesim, simulate

ROOT = Path(__file__).parents[1]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
VERSION: str = PROJECT["project"]["version"]


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def test_random_cases_are_the_same_in_each_run(request: pytest.FixtureRequest) -> None:
    asked = request.config.option.markexpr == "nightly" or request.config.getoption("--hypothesis-profile")
    assert settings().derandomize != bool(asked)


def test_the_version_is_one_everywhere() -> None:
    assert package.__version__ == VERSION
    newest, *_ = re.findall(r"^## \[([^]]+)\] - \d{4}-\d\d-\d\d$", text("CHANGELOG.md"), re.MULTILINE)
    assert newest == VERSION
    assert yaml.safe_load(text("CITATION.cff"))["version"] == VERSION
    printed = CliRunner().invoke(cascadesim, ["--version"]).output
    assert printed == f"cascadesim {VERSION}\n"  # of the distribution that is installed


def test_the_changelog_has_the_sections_of_keep_a_changelog_newest_first() -> None:
    dates = re.findall(r"^## \[[^]]+\] - (\S+)$", text("CHANGELOG.md"), re.MULTILINE)
    assert len(dates) >= 2
    assert dates == sorted(dates, reverse=True)
    known = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
    assert set(re.findall(r"^### (.*)$", text("CHANGELOG.md"), re.MULTILINE)) <= known


def test_a_citation_has_what_its_schema_requires() -> None:
    """CFF 1.2.0: authors, cff-version, message, title; of a reference authors, title, type."""
    citation = yaml.safe_load(text("CITATION.cff"))
    assert citation["cff-version"] == "1.2.0"
    assert all(citation[key] for key in ("authors", "message", "title"))
    assert citation["type"] in ("software", "dataset")
    assert citation["license"] == PROJECT["project"]["license"]
    for each in [citation, *citation["references"]]:
        for author in each["authors"]:
            assert set(author) in ({"name"}, {"family-names", "given-names"})
    assert all(each["title"] and each["type"] for each in citation["references"])


def test_who_wrote_it_has_a_name_and_no_invented_address() -> None:
    assert PROJECT["project"]["authors"] == [{"name": "The cascadesim authors"}]
    assert "urls" not in PROJECT["project"]


def test_the_versions_of_python_are_those_that_ci_tries() -> None:
    classifiers = PROJECT["project"]["classifiers"]
    said = {found[1] for each in classifiers if (found := re.fullmatch(r".*:: (3\.\d+)", each))}
    (tried,) = re.findall(r"VERSIONS=\(([^)]*)\)", text(".ci/run"))
    assert said == set(tried.split())
    workflow = yaml.safe_load(text(".github/workflows/ci.yml"))
    (job,) = workflow["jobs"].values()
    *_, python, run = job["steps"]
    assert set(python["with"]["python-version"].split()) == said
    assert python["with"]["python-version"].split()[-1] == tried.split()[0]  # the last one is `python3`
    assert run == {"run": ".ci/run"}


def test_every_format_that_says_its_version_is_a_contract() -> None:
    said = re.compile(r"cascadesim\.[a-z_]+/\d+")
    written = {found for folder in ("simulator", "einsum_cascades", "accelerators", "kernels", "validation")
               for path in (ROOT / folder).rglob("*.py") for found in said.findall(path.read_text(encoding="utf-8"))}
    listed = set(said.findall(text("docs/contracts.md").partition("## How they change")[0]))
    assert len(written) >= 6
    assert written == listed


def targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):", text("Makefile"), re.MULTILINE))


def test_hooks_before_a_commit_are_targets_of_make() -> None:
    (local,) = yaml.safe_load(text(".pre-commit-config.yaml"))["repos"]
    assert [hook["id"] for hook in local["hooks"]] == ["ruff", "mypy"]
    for hook in local["hooks"]:
        make, target = hook["entry"].split()
        assert make == "make"
        assert target in targets()


def test_the_image_is_made_of_what_the_project_promises() -> None:
    lines = text("Dockerfile").splitlines()
    (base,) = (line.split()[1] for line in lines if line.startswith("FROM "))
    assert f"Programming Language :: Python :: {base.removeprefix('python:').removesuffix('-slim')}" in PROJECT[
        "project"]["classifiers"]  # fmt: skip
    (extra,) = re.findall(r"/source\[(\w+)\]", text("Dockerfile"))
    assert extra in PROJECT["project"]["optional-dependencies"]
    assert 'ENTRYPOINT ["cascadesim"]' in lines


FENCED = re.findall(r"```sh\n(.*?)```", text("CONTRIBUTING.md"), re.DOTALL)
COMMANDS = sorted({
    *(line.split("#")[0].strip() for block in FENCED for line in block.splitlines()),
    *re.findall(r"`((?:cascadesim|simulate|make|pytest) [^`\n]+)`", text("CONTRIBUTING.md")),
})  # fmt: skip


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_that_contributors_are_told_exists(line: str) -> None:
    program, *arguments = line.split()
    if program == "make":
        assert set(arguments) <= targets()
    elif program == "pytest":
        assert all((ROOT / name).exists() for name in arguments)
    elif program == "simulate":
        assert options_exist(simulate, arguments)
    elif arguments != ["--version"]:
        command = cascadesim.get_command(click.Context(cascadesim), arguments[0])
        assert command is not None
        assert options_exist(command, arguments[1:])


def options_exist(command: click.Command, arguments: list[str]) -> bool:
    known = {name for parameter in command.params for name in parameter.opts}
    return {name for name in arguments if name.startswith("--")} <= known


@pytest.mark.parametrize("page", ["CONTRIBUTING.md", "CHANGELOG.md", "THIRD_PARTY.md", "SECURITY.md",
                                  "CODE_OF_CONDUCT.md"])  # fmt: skip
def test_a_link_or_a_path_leads_somewhere(page: str) -> None:
    for link in re.findall(r"\]\(([^)#\s]+)\)", text(page)):
        assert (ROOT / link).is_file(), link
    if page != "CHANGELOG.md":  # which tells of what is gone, too
        for path in re.findall(r"`([a-z_]+/[^`\s…]*)`", text(page)):
            assert any((ROOT / start / path).exists() for start in ("", "validation/published")), path


DATA = [path for path in sorted((ROOT / "validation" / "published").rglob("*.*")) if path.suffix in (".csv", ".json")]


def test_every_table_of_others_says_whose_it_is() -> None:
    assert len(DATA) >= 30
    listed = set(re.findall(r"`([\w/.-]+\.(?:csv|json))`", text("THIRD_PARTY.md")))
    held = {str(path.relative_to(ROOT / "validation" / "published")) for path in DATA}
    assert listed == held | {"accelerators/flat/published_dataflows.csv"}


def test_a_licence_that_a_table_names_is_listed_with_its_holder() -> None:
    for path in DATA:
        head = "".join(line for line in path.read_text(encoding="utf-8").splitlines()[:12] if line.startswith("#"))
        for licence in re.findall(r"license:? (MIT|BSD-3-Clause|Apache-2\.0)", head):
            (row,) = (line for line in text("THIRD_PARTY.md").splitlines()
                      if f"`{path.relative_to(ROOT / 'validation' / 'published')}`" in line)  # fmt: skip
            assert f"{licence}, Copyright (c)" in row


@pytest.fixture(scope="module")
def hook() -> ModuleType:
    """`hatch_build.py`, which only the build imports."""
    spec = importlib.util.spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_package_index_gets_no_link_that_leads_nowhere(hook: ModuleType) -> None:
    given = "See [a page](docs/a.md#b), [x](https://x.org/y).\n<!-- begin -->\n[LICENSE](LICENSE)\n"
    assert hook.long_description(given) == "See a page, [x](https://x.org/y).\nLICENSE\n"
    shown = hook.long_description(text("README.md"))
    assert not [link for link in re.findall(r"\]\(([^)]+)\)", shown) if not link.startswith("https://")]
    assert "docs/questions.md" in shown


@pytest.mark.slow
def test_sources_that_are_published_hold_everything_and_describe_it(tmp_path: Path) -> None:
    from hatchling.builders.sdist import SdistBuilder

    (made,) = SdistBuilder(str(ROOT)).build(directory=str(tmp_path))
    with tarfile.open(made) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
        member = archive.extractfile(next(name for name in archive.getnames() if name.endswith("/PKG-INFO")))
        assert member is not None
        described = member.read().decode()
    expected = {path.relative_to(ROOT) for folder in ("docs", "examples") for path in (ROOT / folder).rglob("*")
                if path.is_file()}  # fmt: skip
    expected = {path for path in expected if not any(part.startswith((".", "__py")) for part in path.parts)}
    assert {str(path) for path in expected} <= names
    assert {"CHANGELOG.md", "CITATION.cff", "CONTRIBUTING.md", "Makefile", "NOTICE", "THIRD_PARTY.md", "mkdocs.yml",
            "LICENSES/Apache-2.0.txt", ".ci/run", ".github/workflows/ci.yml"} <= names  # fmt: skip
    assert f"Version: {VERSION}\n" in described
    assert "Author: The cascadesim authors\n" in described
    assert "## Questions it answers" in described
