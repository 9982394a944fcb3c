"""Every example runs as its docstring says, in fewer than 40 lines, and prints what it is about."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
SAYS = {
    "custom_cascade.py": "attention-relu",
    "neighborhood_stride.py": "stride 16x8x8",  # GNA (arXiv 2504.16922), table 4: the block-sparse one
    "explore_designs.py": "fastest:",
    "gpu_head_size.py": "bound by special",
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SAYS)
def test_an_example_runs(name: str, tmp_path: Path) -> None:
    command = [sys.executable, str(EXAMPLES / name)]
    found = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=tmp_path)
    said = [line for line in found.stderr.splitlines() if not line.startswith(("cascadesim: ", "loading "))]
    assert (found.returncode, said) == (0, [])  # whichever run comes first in a checkout loads and compiles
    assert SAYS[name] in found.stdout
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("name", SAYS)
def test_an_example_fits_a_screen(name: str) -> None:
    assert len((EXAMPLES / name).read_text(encoding="utf-8").splitlines()) < 40
