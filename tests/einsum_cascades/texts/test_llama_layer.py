"""A layer of Llama as one cascade, against plain NumPy; its work and its passes derived by hand."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from cascadesim.einsum_cascades.analysis.bound_counts import bound_work
from cascadesim.einsum_cascades.analysis.evaluate import evaluate
from cascadesim.einsum_cascades.analysis.passes import passes
from cascadesim.einsum_cascades.models.workload import load_workload
from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.einsum_cascades.texts.transformer import LLAMA_LAYER
from cascadesim.simulator.mapper import layer_extents

Values = NDArray[np.float64]
HEADS, SHARING, TOKENS, WIDTH, HALF, VALUE, HIDDEN = 2, 3, 6, 7, 2, 4, 10
RANDOM = np.random.default_rng(14)
SHAPES = {
    "X": (TOKENS, WIDTH), "GX": (WIDTH,), "GY": (WIDTH,), "WQ": (HEADS, SHARING, WIDTH, 2, HALF),
    "WK": (HEADS, WIDTH, 2, HALF), "WV": (HEADS, WIDTH, VALUE), "WO": (HEADS, SHARING, VALUE, WIDTH),
    "WG": (WIDTH, HIDDEN), "WU": (WIDTH, HIDDEN), "WD": (HIDDEN, WIDTH),
}  # fmt: skip
INPUTS = {name: RANDOM.normal(size=shape) for name, shape in SHAPES.items()}
ANGLES = np.arange(TOKENS)[:, None] / 10_000 ** (np.arange(HALF) / HALF)  # Su et al. (RoFormer), as in Llama
COS, SIN = np.cos(ANGLES), np.sin(ANGLES)
INPUTS["ROT"] = np.stack([np.stack([COS, SIN], 1), np.stack([-SIN, COS], 1)], 1)  # ROT[p,j,c,i]


def normed(x: Values, scale: Values) -> Values:
    return np.asarray(x / np.sqrt((x * x).mean(-1, keepdims=True) + 1e-5) * scale)


def rotated(x: Values) -> Values:
    """The two halves of a head, (tokens, 2, half): each pair of elements turns by the angle of its token."""
    return np.concatenate([x[:, 0] * COS - x[:, 1] * SIN, x[:, 1] * COS + x[:, 0] * SIN], axis=1)


def layer(of: dict[str, Values]) -> Values:
    """Llama (arXiv 2302.13971), a layer, one head after another; no 1/sqrt(depth), as in all texts."""
    n = normed(of["X"], of["GX"])
    attended = of["X"].copy()
    for h in range(HEADS):
        keys = rotated(np.einsum("pd,dji->pji", n, of["WK"][h]))
        values = n @ of["WV"][h]
        for g in range(SHARING):
            scores = rotated(np.einsum("pd,dji->pji", n, of["WQ"][h, g])) @ keys.T
            scores[np.triu_indices(TOKENS, 1)] = -np.inf
            weights = np.exp(scores - scores.max(1, keepdims=True))
            attended += weights / weights.sum(1, keepdims=True) @ values @ of["WO"][h, g]
    m = normed(attended, of["GY"])
    gate = m @ of["WG"]
    return np.asarray(attended + (gate / (1 + np.exp(-gate)) * (m @ of["WU"])) @ of["WD"])


@pytest.mark.parametrize("tile", [1, 2, 3, 6])
def test_a_layer_is_what_numpy_computes(tile: int) -> None:
    np.testing.assert_allclose(evaluate(LLAMA_LAYER, INPUTS, {"M0": tile})["Z"], layer(INPUTS), rtol=1e-9)


def test_products_of_a_layer_are_its_weights_times_its_tokens() -> None:
    """Every weight once a token; rotations 2 x 2 an element pair; scores and values of attended pairs: 21 of 36."""
    extents = {"P": 6, "M": 6, "M0": 3, "H": 2, "G": 3, "D": 7, "J": 2, "C": 2, "I": 2, "F": 4, "N": 10}
    work = {name: counts.get("mac", 0) for name, counts in bound_work(LLAMA_LAYER, extents).items()}
    assert work["QP"] == 6 * INPUTS["WQ"].size
    assert work["KP"] + work["V"] == 6 * (INPUTS["WK"].size + INPUTS["WV"].size)
    assert work["Q"] == 6 * (2 * 3) * 2 * 4
    assert work["QK"] == 21 * (2 * 3) * 4
    assert work["SLNV"] == 21 * (2 * 3) * 4
    assert work["O"] == 6 * INPUTS["WO"].size
    assert work["GATE"] + work["UP"] + work["DOWN"] == 6 * 3 * INPUTS["WG"].size


def test_passes_by_hand() -> None:
    """Keys: one, they are attended as they come. Tokens: two, all keys and values are made before the first query can
    attend them. Width: X is summed (1), normed (2) and added to what attention gives (3), whose sum of squares comes
    with it; the sum is normed (4), and added to what the perceptron gives (5). Hidden units are used up as they appear.
    """
    assert {rank: passes(LLAMA_LAYER, rank) for rank in ("m1", "p", "d", "n", "h")} == {
        "m1": 1, "p": 2, "d": 5, "n": 1, "h": 1}  # fmt: skip


def test_sizes_of_a_layer_are_those_of_the_model() -> None:
    """Llama-3.1-8B, config.json: 32 heads on 8, depth 128, hidden 4,096, 14,336 hidden units."""
    sizes = layer_extents(load_workload("llama"), 2048)
    assert sizes == {"b": 1, "p": 2048, "m": 2048, "d": 4096, "h": 8, "g": 4, "j": 2, "c": 2, "i": 64, "f": 128,
                     "n": 14336}  # fmt: skip
    weights = sizes["d"] * (sizes["h"] * (sizes["g"] + 1) * 128 + sizes["h"] * 128 + 32 * 128 + 3 * sizes["n"])
    assert weights + 2 * sizes["d"] == 218_112_000  # of 8.03 billion in 32 layers


def test_a_model_of_other_layers_is_refused() -> None:
    with pytest.raises(CascadeSimError, match="bert has no layers of RMS norms"):
        layer_extents(load_workload("bert"))
