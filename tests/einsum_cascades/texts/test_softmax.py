"""Softmax and log-sum-exp against NumPy, large values included."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from cascadesim.einsum_cascades.analysis.evaluate import evaluate
from cascadesim.einsum_cascades.texts.catalogue import find

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
