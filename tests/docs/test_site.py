"""The site: built without a warning; it loads nothing from another host, and its reference has what the code has."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from collections.abc import Iterator
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType

import click
import pytest

from cascadesim.simulator.cli.commands import cascadesim
from cascadesim.simulator.cli.options import entries_of

ROOT = Path(__file__).parents[2]
HOOKS = ROOT / "docs" / "hooks"


def hook(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, HOOKS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def reference() -> ModuleType:
    return hook("reference")


@pytest.fixture(scope="module")
def pages(reference: ModuleType) -> ModuleType:
    pytest.importorskip("mkdocs", reason="mkdocs is in the extra `docs`")
    pytest.importorskip("nbclient", reason="nbclient is in the extra `docs`")
    hook("notebooks")
    return hook("pages")


def test_every_command_and_option_is_in_the_reference(reference: ModuleType) -> None:
    page = unescape(reference.commands())
    context = click.Context(cascadesim)
    for name in cascadesim.list_commands(context):
        command = cascadesim.get_command(context, name)
        assert command is not None
        own = page.split(f"\n## {name}\n")[1].split("\n## ")[0]
        for option in command.params:
            assert isinstance(option, click.Argument) or f"{max(option.opts, key=len)}" in own, (name, option.opts)


def test_every_public_name_is_in_the_reference(reference: ModuleType) -> None:
    import cascadesim as cs

    page = reference.python()
    assert {f"## cs.{name}" for name in dir(cs) if not name.startswith("_")} <= set(page.splitlines())
    assert "    arch: Architectures,\n" in page  # annotations, not their quotes


def test_every_field_has_its_type_unit_and_remark(reference: ModuleType) -> None:
    page = reference.fields()
    assert "| <code>clock_hz</code> | number &ge; 1e+06 &le; 1e+11 | Hz | must be given |  |" in page
    assert "| <code>mac</code> | whole number &gt; 0 &le; 65536 or none |  | none |  |" in page
    assert "| must be given | exponentials and other special functions |" in page  # of sm.special_per_clock
    assert {f"## architecture: {name}" for name in ("flat", "fusemax", "gpu", "mapped_array", "spatten")} <= {
        *page.splitlines()}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(("page", "section"), [
    ("architectures", "architectures"), ("workloads", "workloads"), ("cascades", "cascades"), ("names", "mappings"),
    ("names", "patterns"), ("names", "spaces"), ("names", "kernels"), ("names", "suites"),
])  # fmt: skip
def test_everything_that_can_be_named_is_in_the_reference(page: str, section: str, reference: ModuleType) -> None:
    text = getattr(reference, page)()
    assert entries_of(section)
    for name, _ in entries_of(section):
        assert re.search(rf"^##+ {re.escape(name)}$|<code>{re.escape(name)}</code>", text, re.MULTILINE), name


@pytest.mark.slow
def test_a_pattern_says_what_attends_what(reference: ModuleType) -> None:
    rows = reference.names().split("\n## Patterns\n")[1].split("\n## ")[0].splitlines()
    meant = {name: line.split(" | ")[2].strip("| ") for line in rows if line.startswith("| <code>")
             for name in re.findall(r"^\| <code>([\w-]+)", line)}  # fmt: skip
    assert set(meant) == {name for name, _ in entries_of("patterns")}
    assert [name for name, meaning in meant.items() if len(meaning) < 20] == []


def test_links_between_files_become_links_between_pages(pages: ModuleType) -> None:
    given = "[a](docs/gpu.md#any-text) [b](LICENSE) [c](https://x.org) `[d](docs/gpu.md)`\n```\n[e](docs/gpu.md)\n```\n"
    assert pages.relinked(given.replace("`[d](docs/gpu.md)`", ""), "README.md", "index.md") == (
        "[a](gpu.md#any-text) b [c](https://x.org) \n```\n[e](docs/gpu.md)\n```\n")  # fmt: skip
    assert pages.relinked("[a](../README.md)", "docs/gpu.md", "gpu.md") == "[a](index.md)"
    assert pages.relinked("[a](../../docs/gpu.md)", "examples/notebooks/which_gpu.ipynb", "notebooks/which_gpu.md") == (
        "[a](../gpu.md)")  # fmt: skip


class Assets(HTMLParser):
    """What a page loads by itself: sources, style sheets, icons; not what a reader may follow."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = dict(attributes)
        self.found += [given[name] or "" for name in ("src", "srcset", "poster", "data") if name in given]
        if tag == "link" and given.get("rel") not in ("prev", "next", "canonical"):
            self.found.append(given.get("href") or "")


@pytest.fixture(scope="module")
def site(pages: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built as `make docs` builds it; a warning is an error. Notebooks are executed."""
    pytest.importorskip("material", reason="mkdocs-material is in the extra `docs`")
    target = tmp_path_factory.mktemp("site")
    done = subprocess.run([sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(target)], cwd=ROOT,
                          capture_output=True, text=True, check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return target


def html(site: Path) -> Iterator[tuple[str, str]]:
    for path in sorted(site.rglob("*.html")):
        yield str(path.relative_to(site)), path.read_text(encoding="utf-8")


@pytest.mark.slow
def test_a_page_loads_nothing_from_another_host(site: Path) -> None:
    for name, text in html(site):
        assets = Assets()
        assets.feed(text)
        assert not [each for each in assets.found if "://" in each or each.startswith("//")], name
        assert 'class="mermaid"' not in text, name  # for which the theme's script would fetch a library
        for each in assets.found:
            if name != "404.html" and not each.startswith("data:"):
                assert ((site / name).parent / each.split("?")[0]).resolve().is_file(), (name, each)
    styles = [path.read_text(encoding="utf-8") for path in site.rglob("*.css")]
    assert styles
    assert not [found for text in styles for found in re.findall(r"url\(\s*[\"']?(?:https?:)?//", text)]


@pytest.mark.slow
def test_text_of_pages_is_laid_out(site: Path) -> None:
    """No list, fence or table that Markdown did not know as one."""
    for name, text in html(site):
        article = re.sub(r"<(pre|code|table).*?</\1>", "", text.partition("<article")[2].partition("</article>")[0],
                         flags=re.DOTALL)  # fmt: skip
        assert not re.findall(r"(?:<p>|\n)(?:[*-] |```|\| )\S", article), name


@pytest.mark.slow
def test_notebooks_are_pages_with_their_pictures(site: Path) -> None:
    for name in ("fusemax_figures", "sparse_attention", "which_gpu", "design_an_array"):
        text = (site / "notebooks" / f"{name}.html").read_text(encoding="utf-8")
        assert re.search(rf'<img[^>]*src="{name}-0.png"', text)
