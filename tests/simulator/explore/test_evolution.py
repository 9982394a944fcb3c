"""Evolution, for spaces that are too large to count: close to the exact front, repeatable, resumable."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.simulator.explore.explore import explore

SMALL: dict[str, Any] = yaml.safe_load(Path(__file__).with_name("small_space.yaml").read_text(encoding="utf-8"))


class Stop(Exception):
    pass


EVOLUTION: dict[str, Any] = {"search": {"method": "evolutionary", "population": 20, "generations": 12}, "seed": 7}


def test_evolution_finds_most_of_the_exact_front() -> None:
    pytest.importorskip("pymoo")
    frame = explore({**SMALL, **EVOLUTION}, workers=1, cycle_level=False)
    found, exact = (
        {tuple(row[name] for name in SMALL["objectives"]) for row in each.rows()}
        for each in (frame, explore(SMALL, workers=1, cycle_level=False))
    )
    assert len(found & exact) > len(exact) / 2
    assert frame.counts.designs <= 20 * 12


@pytest.mark.slow
def test_seeds_make_evolution_repeatable_and_resumable(tmp_path: Path) -> None:
    pytest.importorskip("pymoo")

    def stop_after_5(done: int, total: int) -> None:
        if done >= 5:
            raise Stop

    space = {**SMALL, **EVOLUTION, "conditions": ["pe_array.rows * pe_array.columns <= 4096"]}
    once = explore(space, workers=1, cycle_level=False)
    with pytest.raises(Stop):
        explore(space, workers=2, output=tmp_path / "a.csv", watches={"searching": stop_after_5})
    again = explore(space, workers=2, cycle_level=False, output=tmp_path / "a.csv")
    assert list(once.rows()) == list(again.rows())
    assert os.listdir(tmp_path) == ["a.csv"]
    other = explore({**space, "seed": 8}, workers=1, cycle_level=False)
    assert once.counts != other.counts or list(once.rows()) != list(other.rows())


@pytest.mark.slow
def test_a_space_beyond_counting_needs_evolution() -> None:
    """10^20 designs."""
    pytest.importorskip("pymoo")
    every = {"range": [16, 100_015, 1]}
    fields = ("pe_array.rows", "pe_array.columns", "vector_array.lanes", "global_buffer.capacity_bytes")
    frame = explore({**SMALL, **EVOLUTION, "derive": {},
                     "vary": {**dict.fromkeys(fields[:3], every), fields[3]: {"range": [10**9, 10**11, 10**6]}},
                     "conditions": [], "set": {"global_buffer.row_bytes": 16}}, workers=1, cycle_level=False)
    assert 0 < frame.counts.possible <= 240


def test_without_pymoo_there_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pymoo.algorithms.moo.nsga2", None)
    with pytest.raises(CascadeSimError, match=r"evolutionary needs pymoo: pip install 'cascadesim\[explore\]'"):
        explore({**SMALL, **EVOLUTION}, workers=1)
