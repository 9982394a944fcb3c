"""The ladder and the paper's figures: what a rung changes, what is counted from schedules, what stands beside what."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from click.testing import CliRunner

from cascadesim.validation.spatten import paper as spatten_paper
from cascadesim.validation.spatten.ladder import MODELS, ladder, main
from cascadesim.validation.suites import find_suites, own_data

(SPATTEN_PAPER,) = find_suites(["spatten-paper"])


def test_a_rung_fetches_what_its_pruning_leaves() -> None:
    """GPT-2 small at 1024 tokens, 144 heads. Dense: keys 8 + 4 bits and values 8 bits, 160 bytes a token and head, in
    all 144 x 1024 x 160."""
    rungs = {rung.name: rung for rung in ladder("gpt-2-small")}
    assert rungs["dense"].dram_bytes == 144 * 1024 * 160
    kept = 12 * (921 + 716 + 4 * 204 + 6 * 102)  # workload file of mit-han-lab/spatten: keys by layer
    padded = 12 * (928 + 736 + 4 * 224 + 6 * 128)  # as fetched at full size: multiples of 32
    assert rungs["+ cascade token pruning"].dram_bytes == padded * 160
    assert rungs["+ cascade token pruning"].products == 2 * 64 * kept


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS)
def test_no_technique_but_a_serial_top_k_slows_it_down(model: str) -> None:
    rungs = ladder(model)
    slower = [rung.name for before, rung in pairwise(rungs) if rung.cycles > before.cycles]
    assert slower == ["+ local value pruning, serial top-k"]
    assert rungs[-1].speedup(rungs[0]) > 1.5


def test_reductions_are_counted_from_the_schedules() -> None:
    """GPT-2 small: dense 2 x 1024 keys and values a head; pruned (921 + 184 + 716 + 143 + 4 x (204 + 40) + 6 x (102 +
    20)) / 12; no heads are pruned. Workload file of mit-han-lab/spatten."""
    dense = spatten_paper._fetched("gpt-2-small", tokens=False, heads=False)
    pruned = spatten_paper._fetched("gpt-2-small", tokens=True, heads=True)
    assert dense == 144 * (1024 + 1024)
    assert pruned == 12 * (921 + 184 + 716 + 143 + 4 * (204 + 40) + 6 * (102 + 20))


def test_every_predicted_figure_is_explained() -> None:
    rows = own_data(SPATTEN_PAPER).rows
    predicted = [row for row in rows if row.get("kind") == spatten_paper.PREDICTED]
    assert len(predicted) == len(spatten_paper._PREDICTED)
    assert all(spatten_paper.explain(row) for row in predicted)
    assert len([row for row in rows if row.get("kind") == spatten_paper.COUNTED]) == len(spatten_paper._COUNTED)
    assert len([row for row in rows if row.get("kind") == spatten_paper.GIVEN]) == len(spatten_paper._GIVEN)


@pytest.mark.slow
def test_the_ladder_prints_and_draws(tmp_path: Path) -> None:
    found = CliRunner().invoke(main, ["--arch", "spatten-1-8", "--plot", str(tmp_path / "ladder.png")])
    assert found.exit_code == 0
    assert found.output.count("+ parallel top-k engine") == len(MODELS)
    assert (tmp_path / "ladder.png").stat().st_size > 1000
