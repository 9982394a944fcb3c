"""Variance, layer norm and similarity against NumPy, and where the one-pass sum of squares fails."""

from __future__ import annotations

import numpy as np
import pytest

from cascadesim.einsum_cascades.analysis.evaluate import evaluate
from cascadesim.einsum_cascades.texts.catalogue import find

X = np.random.default_rng(1).normal(size=(3, 8))
FORMS = ("variance-1pass", "variance-2pass", "variance-welford")


@pytest.mark.parametrize("name", FORMS)
def test_every_form_is_the_variance(name: str) -> None:
    assert np.allclose(evaluate(find(name), {"X": X})["VAR"], X.var(axis=1), rtol=1e-12)


def test_the_sum_of_squares_loses_what_the_running_form_keeps() -> None:
    """Mean 1e8, variance about 1: squares of 1e16 have a spacing of 2 in float64."""
    far = X + 1e8
    errors = {name: abs(evaluate(find(name), {"X": far})["VAR"] - far.var(axis=1)).max() for name in FORMS}
    assert errors["variance-1pass"] > 0.1
    assert errors["variance-welford"] < 1e-6


def test_welford_normalises_like_the_plain_layer_norm() -> None:
    inputs = {"X": X, "G": np.arange(8.0), "B": np.ones(8)}
    plain, running = (evaluate(find(name), inputs)["Y"] for name in ("layer-norm", "layer-norm-welford"))
    assert np.allclose(running, plain, rtol=1e-12)


def test_cosine_similarity() -> None:
    y = X[::-1]
    expected = (X * y).sum(axis=1) / np.linalg.norm(X, axis=1) / np.linalg.norm(y, axis=1)
    assert np.allclose(evaluate(find("cosine-similarity"), {"X": X, "Y": y})["COS"], expected)
