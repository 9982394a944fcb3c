"""What MkDocs is told beside the pages in docs/: the README as the front page, files of the project, the reference, and
notebooks with what they print.

Links between files of the repository become links between pages; those to files that are no page become their text.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import notebooks
import reference
from mkdocs.structure.files import File

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
OF_THE_PROJECT = {
    "README.md": "index.md", "CONTRIBUTING.md": "project/contributing.md", "CHANGELOG.md": "project/changelog.md",
    "THIRD_PARTY.md": "project/third-party.md", "SECURITY.md": "project/security.md",
    "CODE_OF_CONDUCT.md": "project/conduct.md",
}  # fmt: skip
NOTEBOOKS = {f"examples/notebooks/{path.name}": f"notebooks/{path.stem}.md"
             for path in sorted((ROOT / "examples" / "notebooks").glob("*.ipynb"))}  # fmt: skip
REFERENCE: Mapping[str, Callable[[], str]] = {
    f"reference/{page.__name__}.md": page
    for page in (reference.commands, reference.python, reference.fields, reference.architectures, reference.workloads,
                 reference.cascades, reference.names)
}  # fmt: skip
_LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)")
_FENCE = re.compile(r"(^ *```.*?^ *```$)", re.MULTILINE | re.DOTALL)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are no file of docs/."""
    for name, page in OF_THE_PROJECT.items():
        text = (ROOT / name).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=relinked(text, name, page)))
    for name, page in NOTEBOOKS.items():
        text, pictures = notebooks.as_markdown(notebooks.executed(ROOT / name), Path(page).stem)
        files.append(File.generated(config, page, content=relinked(text, name, page)))
        for picture, content in pictures.items():
            files.append(File.generated(config, f"notebooks/{picture}", content=content))
    for page, text_of in REFERENCE.items():
        files.append(File.generated(config, page, content=text_of()))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Relink a page of docs/; generated ones are already."""
    return markdown if page.file.generated_by else relinked(markdown, f"docs/{page.file.src_uri}", page.file.src_uri)


def relinked(markdown: str, file: str, page: str) -> str:
    """`markdown` of the repository's `file` with its links as they are to be in the site's `page`."""

    def link(found: re.Match[str]) -> str:
        picture, text, target = found.groups()
        name, _, anchor = target.partition("#")
        if not name or "://" in target or target.startswith("mailto:"):
            return found[0]
        there = site_of(posixpath.normpath(posixpath.join(posixpath.dirname(file), name)))
        if there is None:
            return text
        relative = posixpath.relpath(there, posixpath.dirname(page) or ".")
        return f"{picture}[{text}]({relative}{'#' * bool(anchor)}{anchor})"

    parts = _FENCE.split(markdown)
    return "".join(part if number % 2 else _LINK.sub(link, part) for number, part in enumerate(parts))


def site_of(name: str) -> str | None:
    """The page or picture of the site that a file of the repository is; None where it is none."""
    if name in OF_THE_PROJECT or name in NOTEBOOKS:
        return OF_THE_PROJECT.get(name) or NOTEBOOKS[name]
    folder = next((each for each in ("docs/", "examples/") if name.startswith(each)), None)
    if folder is None or (folder == "examples/" and not name.endswith((".png", ".svg"))):  # what a notebook drew
        return None
    return name.removeprefix(folder)
