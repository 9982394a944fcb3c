"""Convolutions, decompositions, graphs, experts, dynamic programming against plain loops; passes derived in words."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from numpy.typing import NDArray

from cascadesim.einsum_cascades.analysis.bound_counts import bound_work
from cascadesim.einsum_cascades.analysis.evaluate import evaluate
from cascadesim.einsum_cascades.analysis.footprint import live_footprint
from cascadesim.einsum_cascades.analysis.passes import passes
from cascadesim.einsum_cascades.texts import find

Values = NDArray[np.float64]
RANDOM = np.random.default_rng(7)
NODES, EDGES = 5, 9
SRC, DST = RANDOM.integers(0, NODES, size=EDGES), np.array([0, 1, 2, 3, 4, 0, 0, 3, 1])  # an edge ends at each node


def convolved(x: Values, w: Values, stride: int, dilation: int) -> Values:
    places = [(size - dilation * (tap - 1) - 1) // stride + 1
              for size, tap in zip(x.shape[1:], w.shape[2:], strict=True)]  # fmt: skip
    found = np.zeros((w.shape[0], *places))
    for p, q, r, s in itertools.product(*map(range, (*places, *w.shape[2:]))):
        found[:, p, q] += w[:, :, r, s] @ x[:, stride * p + dilation * r, stride * q + dilation * s]
    return found


@pytest.mark.parametrize(("stride", "dilation"), [(1, 1), (2, 1), (1, 2), (3, 2)])
def test_a_convolution_with_stride_and_dilation(stride: int, dilation: int) -> None:
    x, w = RANDOM.normal(size=(2, 10, 7)), RANDOM.normal(size=(4, 2, 3, 2))
    expected = convolved(x, w, stride, dilation)
    found = evaluate(find("convolution"), {"X": x, "W": w}, {"STRIDE": stride, "DIL": dilation})["Y"]
    assert np.allclose(found, expected)


@pytest.mark.parametrize(("stride", "dilation", "padding"), [(1, 1, 1), (2, 1, 1), (1, 2, 2)])
def test_a_convolution_with_zeros_around(stride: int, dilation: int, padding: int) -> None:
    x, w = RANDOM.normal(size=(2, 7, 6)), RANDOM.normal(size=(4, 2, 3, 3))
    expected = convolved(np.pad(x, ((0, 0), (padding, padding), (padding, padding))), w, stride, dilation)
    extents = {"STRIDE": stride, "DIL": dilation, "PAD": padding, "XH": 7, "XW": 6,
               "U": 7 + 2 * padding, "V": 6 + 2 * padding}  # fmt: skip
    assert np.allclose(evaluate(find("convolution-padded"), {"X": x, "W": w}, extents)["Y"], expected)


def test_the_largest_of_overlapping_windows() -> None:
    x = RANDOM.normal(size=(2, 7, 5))
    found = evaluate(find("max-pool"), {"X": x}, {"STRIDE": 2, "R": 3, "S": 3})["Y"]
    expected = [[[x[c, 2 * p : 2 * p + 3, 2 * q : 2 * q + 3].max() for q in range(2)] for p in range(3)]
                for c in range(2)]  # fmt: skip
    assert np.array_equal(found, expected)


def test_a_matricised_tensor_times_a_khatri_rao_product_in_both_orders() -> None:
    t, b, a = RANDOM.normal(size=(2, 3, 4)), RANDOM.normal(size=(3, 5)), RANDOM.normal(size=(4, 5))
    khatri_rao = np.stack([np.kron(b[:, column], a[:, column]) for column in range(5)], axis=1)
    for name in ("mttkrp", "mttkrp-factored"):
        assert np.allclose(evaluate(find(name), {"T": t, "B": b, "A": a})["C"], t.reshape(2, 12) @ khatri_rao)


def test_one_factor_after_the_other_saves_products() -> None:
    """2 x 3 x 4 elements of T, 5 columns: a product and a mac at each, or a mac at each and at the 2 x 3 x 5 sums."""
    sizes = {"I": 2, "J": 3, "K": 4, "R": 5}
    assert bound_work(find("mttkrp"), sizes) == {"C": {"multiply": 120, "mac": 120}}
    assert bound_work(find("mttkrp-factored"), sizes) == {"S": {"mac": 120}, "C": {"mac": 30}}


def test_a_product_sampled_where_a_matrix_has_elements() -> None:
    a, b, s = RANDOM.normal(size=(4, 3)), RANDOM.normal(size=(6, 3)), RANDOM.normal(size=5)
    rows, columns = np.array([0, 3, 1, 3, 2]), np.array([5, 0, 2, 2, 4])
    found = evaluate(find("sddmm"), {"A": a, "B": b, "S": s, "ROW": rows, "COL": columns})["Z"]
    assert np.allclose(found, s * (a @ b.T)[rows, columns])
    assert bound_work(find("sddmm"), {"E": 5, "K": 3}) == {"AB": {"mac": 15}, "Z": {"multiply": 5}}


def test_a_layer_of_a_graph_convolutional_network() -> None:
    """relu(N X W), where N has 1/sqrt(degree of both ends) at each edge."""
    x, w = RANDOM.normal(size=(NODES, 3)), RANDOM.normal(size=(3, 2))
    degree = np.bincount(np.concatenate([SRC, DST]), minlength=NODES)
    weights = 1 / np.sqrt(degree[SRC] * degree[DST])
    matrix = np.zeros((NODES, NODES))
    np.add.at(matrix, (DST, SRC), weights)
    found = evaluate(find("gcn"), {"X": x, "W": w, "C": weights, "SRC": SRC, "DST": DST})["Y"]
    assert np.allclose(found, np.maximum(matrix @ x @ w, 0))


def test_a_layer_of_a_graph_attention_network() -> None:
    heads, width = 2, 3
    x, w = RANDOM.normal(size=(NODES, 4)), RANDOM.normal(size=(heads, 4, width))
    left, right = RANDOM.normal(size=(heads, width)), RANDOM.normal(size=(heads, width))
    expected = np.zeros((NODES, heads, width))
    for head, node in itertools.product(range(heads), range(NODES)):
        h = x @ w[head]
        edges = np.flatnonzero(node == DST)
        scores = h[SRC[edges]] @ left[head] + h[node] @ right[head]
        scores = np.where(scores > 0, scores, 0.2 * scores)
        weights = np.exp(scores - scores.max())
        expected[node, head] = weights / weights.sum() @ h[SRC[edges]]
    found = evaluate(find("gat"), {"X": x, "W": w, "AS": left, "AD": right, "SRC": SRC, "DST": DST})["Y"]
    assert np.allclose(found, np.maximum(expected, 0))


def test_a_node_without_edges_gets_nothing() -> None:
    """The sum of nothing is 0: attention over no edges adds up to no features, and not to a division by zero."""
    inputs = {"X": np.ones((3, 2)), "W": np.ones((1, 2, 2)), "AS": np.ones((1, 2)), "AD": np.ones((1, 2)),
              "SRC": np.array([0, 1]), "DST": np.array([1, 1])}  # fmt: skip
    found = evaluate(find("gat"), inputs)["Y"]
    assert found[:, 0].tolist() == [[0, 0], [2, 2], [0, 0]]


def test_each_token_goes_to_its_best_experts() -> None:
    tokens, model, experts, hidden, kept = 4, 3, 5, 6, 2
    x, router = RANDOM.normal(size=(tokens, model)), RANDOM.normal(size=(model, experts))
    w1, w3 = RANDOM.normal(size=(2, experts, model, hidden))
    w2 = RANDOM.normal(size=(experts, hidden, model))
    expected = np.zeros((tokens, model))
    for token in range(tokens):
        scores = x[token] @ router
        best = np.argsort(-scores)[:kept]
        weights = np.exp(scores[best]) / np.exp(scores[best]).sum()
        for weight, expert in zip(weights, best, strict=True):
            gate = x[token] @ w1[expert]
            expected[token] += weight * (gate / (1 + np.exp(-gate)) * (x[token] @ w3[expert])) @ w2[expert]
    inputs = {"X": x, "WR": router, "W1": w1, "W3": w3, "W2": w2}
    assert np.allclose(evaluate(find("mixture-of-experts"), inputs, {"KEEP": kept})["Y"], expected)


def test_the_best_path_of_all_paths() -> None:
    states, steps = 3, 4
    start, moves = RANDOM.normal(size=states), RANDOM.normal(size=(states, states))
    seen = RANDOM.normal(size=(steps, states))
    scores = {path: start[path[0]] + sum(moves[path[t], path[t + 1]] + seen[t, path[t + 1]] for t in range(steps))
              for path in itertools.product(range(states), repeat=steps + 1)}  # fmt: skip
    found = evaluate(find("viterbi"), {"PI": start, "A": moves, "B": seen})
    best = max(scores, key=lambda path: scores[path])
    assert found["Z"].max() == pytest.approx(scores[best])
    traced = [int(found["Z"].argmax())]
    for step in reversed(range(steps)):
        traced.append(int(found["BP"][step, traced[-1], 0]))
    assert tuple(reversed(traced)) == best


@pytest.mark.parametrize(("name", "rank", "expected"), [
    ("convolution", "c", 1),  # one sum
    ("max-pool", "r", 1),
    ("mttkrp", "k", 1),
    ("mttkrp-factored", "j", 1),  # the sum over k of one j is used up before the next j
    ("mttkrp-factored", "k", 1),
    ("sddmm", "k", 1),
    ("gcn", "e", 1),  # every edge adds once
    ("gcn", "n", 2),  # edges read any node: all nodes are transformed (1), and their sums read after the last edge (2)
    ("gat", "e", 3),  # softmax over the edges of a node: maximum (1); exponentials, sums (2); weights, features (3)
    ("gat", "n", 2),  # as in gcn: both halves of a score are made as a node is transformed (1)
    ("gat", "f", 2),  # scores sum all features (1) before the first of them is weighed (2)
    ("mixture-of-experts", "x", 1),  # what is kept is read at KEEP places, not walked
    ("mixture-of-experts", "k", 3),  # softmax over what is kept: maximum (1); exponentials and sum (2); weighed sum (3)
    ("mixture-of-experts", "d", 2),  # the router needs the whole token (1), the experts need it again (2)
    ("mixture-of-experts", "n", 1),  # a hidden unit is made, gated and used up
    ("viterbi", "t", 1),  # a step needs the scores of the one before
    ("viterbi", "i", 1),  # the largest and where it stands, side by side
])  # fmt: skip
def test_passes_by_hand(name: str, rank: str, expected: int) -> None:
    assert passes(find(name), rank) == expected


def test_what_waits_between_the_passes_over_the_edges() -> None:
    """Both ends of each edge, and per head first its score, then its exponential; tables of nodes are no fiber of e."""
    assert str(live_footprint(find("gat"), "e").elements) == "E*H + 2*E"


def test_scattered_results_are_counted_by_their_nodes() -> None:
    """5 nodes, 9 edges, 2 features, 3 of a node: products at nodes, one mac a feature at an edge."""
    sizes = {"N": 5, "E": 9, "F": 2, "D": 3}
    assert bound_work(find("gcn"), sizes) == {"H": {"mac": 30}, "A": {"mac": 18}, "Y": {"max": 10}}
    weights = bound_work(find("gat"), {**sizes, "H": 1})
    assert weights["GM"] == {"max": 9}
    assert weights["SN"] == {"add": 9, "exp": 9}
    assert weights["SD"] == {"add": 9}
    assert weights["AH"] == {"mac": 18}
