"""The example files that users start from: they read, and compute what they say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cascadesim.einsum_cascades.analysis.evaluate import evaluate
from cascadesim.einsum_cascades.analysis.footprint import analyse
from cascadesim.einsum_cascades.texts import find

EXAMPLES = Path(__file__).parents[2] / "examples"
FILES = sorted(EXAMPLES.glob("*.cascade"))


def test_there_are_examples() -> None:
    assert len(FILES) >= 3


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_an_example_reads_and_is_analysed(path: Path) -> None:
    whole = find(path)
    assert whole.name == path.stem
    assert analyse(whole).to_dict()["cascade"] == path.stem


def test_log_sum_exp() -> None:
    x = np.array([[1.0, 2.0, 3.0], [700.0, 710.0, 705.0]])
    found = evaluate(find(EXAMPLES / "log-sum-exp.cascade"), {"X": x})["Y"]
    assert np.allclose(found, np.logaddexp.reduce(x, axis=1))


def test_a_window_of_one_attends_to_its_own_key() -> None:
    random = np.random.default_rng(0)
    q, k, v = random.normal(size=(1, 4, 2)), random.normal(size=(1, 6, 2)), random.normal(size=(1, 6, 3))
    found = evaluate(find(EXAMPLES / "sliding-window-attention.cascade"), {"Q": q, "K": k, "V": v}, {"W": 1})["AV"]
    assert np.allclose(found[0], v[0, 2:])


def test_the_average_runs() -> None:
    inputs = {"G": [[0.5, 0.5, 0.5]], "X": [[1.0, 2.0, 3.0]]}
    assert evaluate(find(EXAMPLES / "exponential-average.cascade"), inputs)["Y"][0] == 3 + (2 + 1 / 2) / 2
