"""`simulate --report`: which runs are on the page, what is said of it, what is refused."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from conftest import Run


def data_of(text: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    assert found is not None
    data: dict[str, Any] = json.loads(found[1])
    return data


def test_a_page_is_asked_for_at_the_command_line(run: Run, tmp_path: Path) -> None:
    """With the runs that could be answered, also beside `--show`; it appears whole, or not at all."""
    target = tmp_path / "run.html"
    closed = ("--workload", "bert", "--scope", "attention", "--seq-len", "1K", "--fidelity", "analytical")
    code, out, error = run.simulate("--arch", "fusemax,h100-sxm", *closed, "--report", str(target))
    assert (code, error) == (0, f"wrote {target}\n")
    assert "fusemax" in out
    assert [each["architecture"] for each in data_of(target.read_text())["reports"]] == ["fusemax", "h100-sxm"]
    code, out, error = run.simulate("--arch", "fusemax", *closed, "--show", "mapping", "--report", str(target))
    assert (code, error) == (0, f"wrote {target}\n")
    assert len(data_of(target.read_text())["reports"]) == 1
    assert "ends in .html" in run.refused("--arch", "fusemax", *closed, "--report", str(tmp_path / "run.txt"))
    assert "no folder" in run.refused("--arch", "fusemax", *closed, "--report", str(tmp_path / "a" / "b.html"))
    assert list(tmp_path.iterdir()) == [target]


def test_runs_that_cannot_be_are_not_on_the_page(run: Run, tmp_path: Path) -> None:
    target = tmp_path / "run.html"
    code, _, error = run.simulate("--arch", "h100-sxm,l4", "--workload", "llama-3.1-8b", "--phase", "decode", "--batch",
                                  "1,64", "--seq-len", "4K", "--report", str(target))  # fmt: skip
    assert code == 2
    assert "exceed the 24.00 GB of l4" in error
    found = {(each["architecture"], each["batch"]) for each in data_of(target.read_text())["reports"]}
    assert found == {("h100-sxm", 1), ("h100-sxm", 64), ("l4", 1)}
