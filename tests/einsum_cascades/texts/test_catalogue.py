"""Cascades by name, in files, and what is said when there is none."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from cascadesim.einsum_cascades import texts
from cascadesim.einsum_cascades.analysis.passes import all_passes
from cascadesim.einsum_cascades.notation.errors import NotationError, SpecError, UnknownNameError
from cascadesim.einsum_cascades.texts import cascade_names, find
from cascadesim.einsum_cascades.texts.transformer import ATTENTION_1PASS

MODULES = sorted(Path(texts.__file__).parents[1].rglob("*.py"))


def test_a_cascade_is_found_by_its_name() -> None:
    assert find("attention-1pass") is ATTENTION_1PASS


def test_names_are_sorted_and_each_names_one_cascade() -> None:
    names = cascade_names()
    assert list(names) == sorted(set(names))
    assert all(find(name).name == name for name in names)


def test_no_two_modules_use_one_name() -> None:
    assert "transformer.py" in {path.name for path in MODULES if path.read_text().count(' = cascade("')}
    defined = [name for path in MODULES for name in re.findall(r'(?m)^[A-Z0-9_]+ = cascade\("(.+?)"', path.read_text())]
    assert sorted(defined) == list(cascade_names())


def test_finding_one_cascade_imports_no_other_module_of_cascades() -> None:
    """The command line asks for one; importing all costs every start a quarter of a second."""
    script = ("import sys; from cascadesim.einsum_cascades.texts import find; find('toy-two-pass'); "
              "sys.exit('cascadesim.einsum_cascades.texts.transformer' in sys.modules)")
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_the_page_of_cascades_has_each_with_its_passes() -> None:
    """Its rows are `| name | passes | reads → makes |`."""
    page = (Path(__file__).parents[3] / "docs" / "cascades.md").read_text(encoding="utf-8")
    rows = {row.split(" | ", 1)[0].strip("| `"): row for row in page.splitlines() if row.startswith("| `")}
    for whole in map(find, cascade_names()):
        more = ", ".join(f"{rank} {number}" for rank, number in all_passes(whole).items() if number > 1)
        tensors = f"{', '.join(whole.inputs)} → {', '.join(whole.outputs)}"
        assert rows.get(whole.name) == f"| `{whole.name}` | {more or '1'} | {tensors} |"


def test_a_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "mine.cascade"
    path.write_text("Y[i] = X[i] * X[i]\n")
    assert find(str(path)).name == "mine"
    assert find(path).inputs == ("X",)


def test_an_unknown_name_gets_a_suggestion() -> None:
    with pytest.raises(UnknownNameError, match=r"no cascade 'atention-1pass'; did you mean 'attention-1pass'\?"):
        find("atention-1pass")


def test_a_missing_file_gets_one_line() -> None:
    with pytest.raises(SpecError, match=r"nowhere\.cascade: cannot be read: No such file"):
        find("nowhere.cascade")


def test_all_typos_of_a_file_are_reported(tmp_path: Path) -> None:
    path = tmp_path / "mine.cascade"
    path.write_text("GM[r] mean= X[r,d]\nSN[r,d] = exp(X[r,d] - GM[r)\nY[r] = sume(SN[r,d])\n")
    with pytest.raises(NotationError) as caught:
        find(path)
    assert [problem.split(":")[0] for problem in caught.value.problems] == [
        "mine, line 1", "mine, line 2", "mine, line 3"]
