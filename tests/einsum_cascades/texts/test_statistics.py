"""Variance, layer norm and similarity against NumPy, and where the one-pass sum of squares fails."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from cascadesim.einsum_cascades.analysis.evaluate import evaluate
from cascadesim.einsum_cascades.texts import find

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


ROWS = np.array([[1.0, 2.0, 3.0, -4.0], [800.0, 790.0, 801.0, -800.0], [5.0, 5.0, 5.0, 5.0]])


def softmax(x: NDArray[np.float64]) -> NDArray[np.float64]:
    weights = np.exp(x - x.max(axis=1, keepdims=True))
    result: NDArray[np.float64] = weights / weights.sum(axis=1, keepdims=True)
    return result


@pytest.mark.parametrize("name", ["softmax", "softmax-online"])
def test_both_softmaxes_are_softmax(name: str) -> None:
    assert np.allclose(evaluate(find(name), {"X": ROWS})["Y"], softmax(ROWS), rtol=1e-14)


@pytest.mark.parametrize("name", ["log-sum-exp", "log-sum-exp-running"])
def test_both_log_sum_exps_are_log_sum_exp(name: str) -> None:
    assert np.allclose(evaluate(find(name), {"X": ROWS})["Y"], np.logaddexp.reduce(ROWS, axis=1), rtol=1e-14)


def test_deferring_the_product_keeps_the_number() -> None:
    """A = 1 2 3, B = 4 5 6: (4 + 10 + 18) * (1 + 2 + 3) = 192."""
    for name in ("toy-two-pass", "toy-one-pass"):
        assert evaluate(find(name), {"A": [1, 2, 3], "B": [4, 5, 6]})["Z"] == 192


def test_the_perceptron() -> None:
    random = np.random.default_rng(0)
    x, first, second = random.normal(size=(2, 3)), random.normal(size=(3, 5)), random.normal(size=(5, 4))
    found = evaluate(find("perceptron"), {"X": x, "W1": first, "W2": second})["Y"]
    assert np.allclose(found, np.maximum(x @ first, 0) @ second)
