"""The two toys compute the same number; so does the perceptron what NumPy does."""

from __future__ import annotations

import numpy as np

from cascadesim.einsum_cascades.analysis.evaluate import evaluate
from cascadesim.einsum_cascades.texts.catalogue import find


def test_deferring_the_product_keeps_the_number() -> None:
    """A = 1 2 3, B = 4 5 6: (4 + 10 + 18) * (1 + 2 + 3) = 192."""
    for name in ("toy-two-pass", "toy-one-pass"):
        assert evaluate(find(name), {"A": [1, 2, 3], "B": [4, 5, 6]})["Z"] == 192


def test_the_perceptron() -> None:
    random = np.random.default_rng(0)
    x, first, second = random.normal(size=(2, 3)), random.normal(size=(3, 5)), random.normal(size=(5, 4))
    found = evaluate(find("perceptron"), {"X": x, "W1": first, "W2": second})["Y"]
    assert np.allclose(found, np.maximum(x @ first, 0) @ second)
