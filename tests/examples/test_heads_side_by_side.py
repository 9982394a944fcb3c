"""Heads beside each other on an array that one of them fills to a sixteenth: the example of the page on mappings."""

from __future__ import annotations

from pathlib import Path

import pytest

from cascadesim.accelerators.catalogue import load
from cascadesim.accelerators.mapping.plan import given
from cascadesim.accelerators.mapping.schedule.sliced import group_program
from cascadesim.accelerators.mapping.text import parse_mapping
from cascadesim.einsum_cascades.texts import find
from cascadesim.simulator.engine.engine import run

ROOT = Path(__file__).parents[2]
SIZES = (("b", 1), ("h", 12), ("g", 1), ("m", 1024), ("p", 1024), ("e", 64), ("f", 64))


@pytest.mark.parametrize("heads", [1, 2, 4])
def test_so_many_heads_share_the_cycles_of_one(heads: int) -> None:
    """12 heads, 16 chunks, 4 products (scores, their sums, queries on states, states) of 64 steps of the depth."""
    text = (ROOT / "examples" / "heads-side-by-side.mapping").read_text().replace("h1 by 4", f"h1 by {heads}")
    spec = load("fusemax").spec  # type: ignore[attr-defined]
    (group,) = given(parse_mapping(text), find("linear-attention-chunked"), SIZES, spec).groups
    assert group.busy_cycles["array_2d"] == 12 * 16 * 4 * 64 / heads
    cycles = run(group_program(group)).cycles
    assert f"{cycles:,}" in (ROOT / "docs" / "mapping.md").read_text()
