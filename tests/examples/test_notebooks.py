"""The notebooks: stored without outputs, and executed from top to bottom where nbclient is there."""

from __future__ import annotations

import importlib.util
import json
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "examples" / "notebooks").glob("*.ipynb"))
LONGEST_S = 300  # engines may be compiled first; afterwards, alone, each takes less than 30


def test_there_are_four() -> None:
    assert [path.stem for path in NOTEBOOKS] == [
        "design_an_array", "fusemax_figures", "sparse_attention", "which_gpu"]  # fmt: skip


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_stored_small_and_without_outputs(path: Path) -> None:
    """So that a change of it can be read."""
    notebook: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    assert path.stat().st_size < 20_000
    assert path.read_text(encoding="utf-8") == json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"
    for cell in notebook["cells"]:
        assert cell["metadata"] == {}
        assert cell["cell_type"] == "markdown" or (cell["outputs"], cell["execution_count"]) == ([], None)
    first = notebook["cells"][0]
    assert "".join(first["source"]).startswith("# ")


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_checks_what_its_text_claims(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    assert source.count('"assert ') >= 4


@pytest.fixture(scope="module")
def notebooks() -> ModuleType:
    """`docs/hooks/notebooks.py`, which also shows them in the site."""
    pytest.importorskip("nbclient", reason="nbclient is in the extra `notebooks`")
    spec = importlib.util.spec_from_file_location("notebooks", ROOT / "docs" / "hooks" / "notebooks.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["notebooks"] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_and_is_shown_with_what_it_prints_and_draws(path: Path, notebooks: ModuleType) -> None:
    start = time.monotonic()
    done = notebooks.executed(path)
    assert time.monotonic() - start < LONGEST_S
    page, pictures = notebooks.as_markdown(done, path.stem)
    assert pictures
    assert all(f"]({name})" in page for name in pictures)
    assert page.count("```text") >= 3
    assert "\x1b" not in page  # what is printed is plain, whatever colours notebooks ask for


def test_a_page_shows_what_a_cell_prints_but_not_what_it_says_besides(notebooks: ModuleType) -> None:
    """Such as that an engine is compiled, once on a machine."""
    import nbformat

    output = nbformat.v4.new_output
    outputs = [
        *(output("stream", name=name, text=f"to {name}\n") for name in ("stdout", "stderr")),
        output("display_data", {"image/png": "AAAA", "text/plain": "<Figure>"}),
        output("execute_result", {"text/html": "<b>x</b>", "text/plain": "x"}, execution_count=1),
    ]
    cell = nbformat.v4.new_code_cell("f()", outputs=outputs)
    made = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# Why"), cell])
    assert notebooks.as_markdown(made, "a") == (
        "# Why\n\n```python\nf()\n```\n\n```text\nto stdout\n```\n\n![Why](a-0.png)\n\n"
        '<div class="output"><b>x</b></div>\n', {"a-0.png": b"\x00\x00\x00"})  # fmt: skip


def test_a_failing_cell_ends_it(notebooks: ModuleType, tmp_path: Path) -> None:
    import nbformat
    from nbclient.exceptions import CellExecutionError

    wrong = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("assert 1 == 2")])
    nbformat.write(wrong, tmp_path / "wrong.ipynb")
    with pytest.raises(CellExecutionError, match="1 == 2"):
        notebooks.executed(tmp_path / "wrong.ipynb")
