"""The command `passes`: numbers for extents and masks, and errors in their place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import Run

BERT = ("--arch", "fusemax", "--workload", "bert", "--seq-len", "1K", "--scope", "attention")
CLOSED = (*BERT, "--fidelity", "analytical")


@pytest.mark.parametrize("passes", [3, 2, 1])
def test_passes_of_attention(run: Run, passes: int) -> None:
    cascade = f"attention-{passes}pass"
    _, out, _ = run.cascadesim("passes", cascade, "--rank", "m", "--format", "json")
    found = json.loads(out)
    assert found["schema"] == "cascadesim.passes/1"
    assert found["passes"] == {"m": passes}
    assert found["live_footprint"]["m"]["constant_in_rank"] is (passes == 1)
    _, out, _ = run.cascadesim("passes", cascade)
    assert f"{passes}-pass" in out.splitlines()[0]


def test_passes_prints_numbers_for_the_extents_it_is_given(run: Run) -> None:
    """1,000 causal queries and keys: 1000 * 1001 / 2 pairs; 256 see one tile, 256 two, 256 three and 232 four."""
    arguments = ("passes", "attention-1pass", "--set", "M0=256", "--set", "M=1000", "--mask", "causal")
    _, out, _ = run.cascadesim(*arguments)
    assert ["QK", "1", "500500*E*H", "mac"] in [line.split() for line in out.splitlines()]
    _, out, _ = run.cascadesim(*arguments, "--set", "H=1", "--set", "E=64", "--set", "F=64", "--format", "json")
    operations = json.loads(out)["operations"]
    assert operations["QK"] == {"mac": 500_500 * 64}
    assert operations["RM"] == {"max": 256 * (1 + 2 + 3) + 232 * 4}


@pytest.mark.parametrize(("option", "message"), [
    (("--set", "M0"), "give EXTENT=N, such as M0=256"),
    (("--set", "M0=x"), "is not a length"),
    (("--set", "N7=2"), "attention-1pass: no extent 'N7'"),
    (("--mask", "casual"), "give full, causal, window:N or chunk:N"),
    (("--mask", "window:0"), "window must be at least 1"),
])
def test_passes_says_which_extent_or_mask_it_cannot_use(run: Run, option: tuple[str, str], message: str) -> None:
    code, out, error = run.cascadesim("passes", "attention-1pass", *option)
    assert (code, out) == (2, "")
    assert message in error


def test_a_typo_in_a_cascade_is_shown_in_its_place(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "mine.cascade"
    path.write_text("QK[p,m] = Q[p,e] * K[m,e]\nGM[p] mean= QK[p,m]\n")
    code, out, error = run.cascadesim("passes", str(path))
    assert (code, out) == (2, "")
    first, line, caret = error.splitlines()
    assert first.startswith("passes: mine, line 2: unknown reduction 'mean='")
    assert line[caret.index("^") :].startswith("mean=")
