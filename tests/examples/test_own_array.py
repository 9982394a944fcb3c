"""An architect's own array, cascade and mapping, each in a screen, and the one command that runs them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cascadesim.simulator.cli.commands import cascadesim, exit_code

FOLDER = Path(__file__).parents[2] / "examples" / "own_array"
COMMAND = ("simulate", "--arch", str(FOLDER / "array.yaml"), "--workload", "bert", "--scope", "attention",
           "--attention", str(FOLDER / "sigmoid-attention.cascade"), "--format", "json")  # fmt: skip


def cycles(capsys: pytest.CaptureFixture[str], *more: str) -> int:
    assert exit_code(cascadesim, "cascadesim", (*COMMAND, *more)) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    return int(json.loads(printed.out)["reports"][0]["cycles"])


def test_its_files_are_short() -> None:
    limits = {"array.yaml": 40, "sigmoid-attention.cascade": 10, "sigmoid-attention.mapping": 15}
    assert {path.name for path in FOLDER.iterdir()} == set(limits)
    for name, most in limits.items():
        assert len((FOLDER / name).read_text(encoding="utf-8").splitlines()) <= most


def test_it_is_bound_by_the_lanes_and_a_divider_in_the_elements_mends_that(capsys: pytest.CaptureFixture[str]) -> None:
    """A score costs an exponential (4 cycles), a division (4), another one by sqrt(E) (4) and two additions: 14.

    64 x 12 heads of 1,024 x 1,024 scores on 128 lanes are 88,080,384 cycles; the 2D array does 128 times as many.
    """
    mapping = ("--mapping", str(FOLDER / "sigmoid-attention.mapping"))
    own = cycles(capsys, *mapping)
    assert 64 * 12 * 1024 * 1024 // 128 * 14 <= own <= 1.01 * 64 * 12 * 1024 * 1024 // 128 * 14
    assert cycles(capsys, "--mapping", "search", "--set", "pe_array.operations.divide=4") < own / 10
