"""Attention over chosen keys: keeping all of them is attention, keeping one is a look-up."""

from __future__ import annotations

import numpy as np

from cascadesim.einsum_cascades.catalogue import find
from cascadesim.einsum_cascades.evaluate import evaluate

RANDOM = np.random.default_rng(4)
INPUTS = {"Q": RANDOM.normal(size=(2, 3, 4)), "K": RANDOM.normal(size=(2, 7, 4)), "V": RANDOM.normal(size=(2, 7, 5))}


def test_keeping_every_key_is_attention() -> None:
    kept = evaluate(find("attention-top-k"), INPUTS, {"KEEP": 7})["AV"]
    assert np.allclose(kept, evaluate(find("attention-3pass"), INPUTS)["AV"], rtol=1e-12)


def test_keeping_one_key_looks_its_value_up() -> None:
    best = np.argmax(INPUTS["Q"] @ INPUTS["K"].transpose(0, 2, 1), axis=2)
    found = evaluate(find("attention-top-k"), INPUTS, {"KEEP": 1})["AV"]
    assert np.allclose(found, np.stack([INPUTS["V"][head, best[head]] for head in range(2)]))


def test_the_kept_rows_are_the_best_ones() -> None:
    found = evaluate(find("top-k-gather"), INPUTS, {"KEEP": 2})
    scores = found["QK"][0, :, 0]
    assert found["I"][0, 0].tolist() == np.argsort(-scores)[:2].tolist()
    assert np.array_equal(found["GV"][0, 0], INPUTS["V"][0, np.argsort(-scores)[:2]])
