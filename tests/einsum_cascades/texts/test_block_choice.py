"""What patterns add, evaluated against NumPy: means, the largest, gathered rows, partial softmaxes merged."""

from __future__ import annotations

import numpy as np

from cascadesim.einsum_cascades.analysis.evaluate import evaluate
from cascadesim.einsum_cascades.texts import find

RANDOM = np.random.default_rng(3)


def test_a_block_mean_is_the_mean() -> None:
    blocks = RANDOM.normal(size=(5, 4, 8))
    assert np.allclose(evaluate(find("block-mean"), {"X": blocks})["Y"], blocks.mean(axis=1))


def test_the_largest_score_of_each_query() -> None:
    queries, keys = RANDOM.normal(size=(2, 6, 4)), RANDOM.normal(size=(2, 9, 4))
    expected = np.einsum("hpe,hme->hpm", queries, keys).max(axis=2)
    assert np.allclose(evaluate(find("block-scores"), {"Q": queries, "K": keys})["LM"], expected)


def test_rows_are_gathered_by_their_places() -> None:
    rows, places = RANDOM.normal(size=(7, 3)), np.array([6, 0, 0, 2])
    assert np.array_equal(evaluate(find("gathered-rows"), {"X": rows, "I": places})["Y"], rows[places])


def test_parts_merged_by_their_sums_are_one_softmax() -> None:
    """Attention over 12 keys is that of three times 4 keys, each weighted by its sum of exponentials."""
    scores, values = RANDOM.normal(size=(5, 3, 4)), RANDOM.normal(size=(3, 4, 8))
    weights = np.exp(scores)
    parts = np.einsum("rsm,smd->rsd", weights, values) / weights.sum(axis=2)[..., None]
    merged = evaluate(find("merged-parts"), {"L": np.log(weights.sum(axis=2)), "X": parts})["Y"]
    whole = weights.reshape(5, 12)
    assert np.allclose(merged, whole @ values.reshape(12, 8) / whole.sum(axis=1)[:, None])
