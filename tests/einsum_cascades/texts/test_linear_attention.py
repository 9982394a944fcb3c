"""Linear attention: the summed form equals a weight per pair, the chunked form the same one key at a time."""

from __future__ import annotations

import numpy as np
import pytest

from cascadesim.einsum_cascades.analysis.evaluate import evaluate
from cascadesim.einsum_cascades.texts import find

RANDOM = np.random.default_rng(2)
Q, K, V = RANDOM.normal(size=(2, 6, 3)), RANDOM.normal(size=(2, 6, 3)), RANDOM.normal(size=(2, 6, 4))


def test_the_sum_over_keys_can_be_taken_first() -> None:
    weights = np.exp(Q) @ np.exp(K).transpose(0, 2, 1)
    expected = weights @ V / weights.sum(axis=2, keepdims=True)
    assert np.allclose(evaluate(find("linear-attention"), {"Q": Q, "K": K, "V": V})["AV"], expected)


@pytest.mark.parametrize("chunk", [1, 2, 3, 6])
def test_chunks_of_any_size_give_causal_linear_attention(chunk: int) -> None:
    expected = np.tril(Q @ K.transpose(0, 2, 1)) @ V
    found = evaluate(find("linear-attention-chunked"), {"Q": Q, "K": K, "V": V}, {"C0": chunk, "P0": chunk})["AV"]
    assert np.allclose(found, expected)
