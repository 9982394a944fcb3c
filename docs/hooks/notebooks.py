"""Notebooks run from top to bottom, and shown as pages: text, code, and what it printed and drew."""

from __future__ import annotations

import base64
import re
import tempfile
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

LONGEST_S = 300  # of one cell; the first one of a machine compiles engines


def executed(path: Path) -> Any:
    """The notebook with its outputs, run in a folder of its own. Raises CellExecutionError where a cell fails."""
    notebook: Any = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
    with tempfile.TemporaryDirectory() as folder:
        NotebookClient(notebook, timeout=LONGEST_S, resources={"metadata": {"path": folder}}).execute()
    return notebook


def as_markdown(notebook: Any, name: str) -> tuple[str, dict[str, bytes | str]]:
    """A page, and the pictures that it shows: name -> content."""
    parts: list[str] = []
    pictures: dict[str, bytes | str] = {}
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            parts.append(cell.source)
            continue
        parts.append(f"```python\n{cell.source}\n```")
        for output in cell.get("outputs", ()):
            data = output.get("data", {"text/plain": output.get("text", "")})
            if drawn := next((kind for kind in ("image/svg+xml", "image/png") if kind in data), None):
                picture = f"{name}-{len(pictures)}.{'svg' if 'svg' in drawn else 'png'}"
                pictures[picture] = data[drawn] if "svg" in drawn else base64.b64decode(data[drawn])
                parts.append(f"![{_title(parts)}]({picture})")
            elif "text/html" in data:
                parts.append(f'<div class="output">{data["text/html"]}</div>')
            elif output.get("name") != "stderr" and data["text/plain"].strip():
                parts.append(f"```text\n{data['text/plain'].rstrip()}\n```")
    return "\n\n".join(parts) + "\n", pictures


def _title(parts: list[str]) -> str:
    """What a picture shows: the last heading before it."""
    headings = re.findall(r"^#+ (.*)$", "\n".join(part for part in parts if not part.startswith("```")), re.MULTILINE)
    return headings[-1] if headings else "picture"
