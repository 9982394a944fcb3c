"""What a layer does besides attention: operations and passes counted by hand, values against NumPy."""

from __future__ import annotations

from collections import Counter
from math import erf, sqrt

import numpy as np
import pytest
from numpy.typing import NDArray

from cascadesim.einsum_cascades.analysis.bound_counts import bound_work
from cascadesim.einsum_cascades.analysis.evaluate import evaluate
from cascadesim.einsum_cascades.analysis.passes import passes
from cascadesim.einsum_cascades.models.lowering import activation
from cascadesim.einsum_cascades.models.sections import Activation
from cascadesim.einsum_cascades.notation.ir import Cascade
from cascadesim.einsum_cascades.texts import find, transformer

Values = NDArray[np.float64]

ROWS, WIDTH = 2, 3
EXTENTS = {"R": ROWS, "D": WIDTH, "K": 5, "N": 7}
CASCADES = [each for each in vars(transformer).values() if isinstance(each, Cascade) and "r" in each.ranks]


def operations(cascade: Cascade) -> dict[str, int]:
    total: Counter[str] = Counter()
    for counts in bound_work(cascade, EXTENTS).values():
        total.update(counts)
    return dict(total)


def per_element(cascade: Cascade) -> dict[str, int]:
    counted = operations(cascade)
    assert not [number for number in counted.values() if number % (ROWS * WIDTH)]
    return {name: number // (ROWS * WIDTH) for name, number in counted.items()}


def test_a_product_is_one_multiply_accumulate_per_point() -> None:
    assert operations(transformer.LINEAR) == {"mac": 2 * 5 * 7}


def test_layer_norm_by_hand() -> None:
    """2 rows of 3. Mean: 3 adds, 1 division a row; difference: 3 adds; squares: 3 macs; deviation: 1 division, 1 add,
    1 root; normalised: 3 divisions; scale and shift: 3 products, 3 adds."""
    assert operations(transformer.LAYER_NORM) == {
        "add": 2 * (3 + 3 + 1 + 3), "divide": 2 * (1 + 1 + 3), "mac": 2 * 3, "sqrt": 2, "multiply": 2 * 3,
    }  # fmt: skip


def test_rms_norm_by_hand() -> None:
    """2 rows of 3. Squares: 3 macs; mean and root: 1 division, 1 add, 1 root; normalised: 3 divisions; 3 products."""
    assert operations(transformer.RMS_NORM) == {
        "mac": 2 * 3, "divide": 2 * (1 + 3), "add": 2, "sqrt": 2, "multiply": 2 * 3,
    }  # fmt: skip


def test_softmax_over_experts_by_hand() -> None:
    """Maximum, difference and exponential, sum, quotient: one each per element; difference and sum are adds."""
    assert per_element(transformer.SOFTMAX_ROUTER) == {"max": 1, "add": 2, "exp": 1, "divide": 1}


@pytest.mark.parametrize(
    ("cascade", "expected"),
    [
        (transformer.RELU, {"max": 1}),
        (transformer.SILU, {"exp": 1, "add": 1, "divide": 1}),
        (transformer.GELU, {"multiply": 3, "add": 2, "exp": 1, "divide": 1}),
        (transformer.GATED_RELU, {"max": 1, "multiply": 1}),
        (transformer.GATED_SILU, {"exp": 1, "add": 1, "divide": 1, "multiply": 1}),
        (transformer.GATED_GELU, {"multiply": 4, "add": 2, "exp": 1, "divide": 1}),
        (transformer.ROTARY, {"multiply": 4, "add": 2}),  # per pair of elements
        (transformer.RESIDUAL_ADD, {"add": 1}),
        (transformer.GATED_RESIDUAL, {"multiply": 1, "add": 1}),
        (transformer.SCALED_ADD, {"multiply": 1, "add": 1}),
    ],
    ids=lambda value: value.name if isinstance(value, Cascade) else "",
)
def test_elementwise_work_by_hand(cascade: Cascade, expected: dict[str, int]) -> None:
    assert per_element(cascade) == expected


@pytest.mark.parametrize(
    ("cascade", "over_a_row"),
    [
        (transformer.LAYER_NORM, 3),  # mean, variance of what is left, normalise
        (transformer.RMS_NORM, 2),
        (transformer.SOFTMAX_ROUTER, 3),
        (transformer.GATED_SILU, 1),
        (transformer.RESIDUAL_ADD, 1),
    ],
    ids=lambda value: value.name if isinstance(value, Cascade) else "",
)
def test_passes_over_a_row(cascade: Cascade, over_a_row: int) -> None:
    assert passes(cascade, "d") == over_a_row
    assert passes(cascade, "r") == 1


@pytest.mark.parametrize("cascade", CASCADES, ids=lambda cascade: cascade.name)
def test_ranks_are_those_that_operations_bind(cascade: Cascade) -> None:
    others = {transformer.LINEAR: {"r", "k", "n"}, transformer.PERCEPTRON: {"r", "k", "n", "j"},
              transformer.ALL_REDUCE: {"r", "d", "x"}}
    assert set(cascade.ranks) <= others.get(cascade, {"r", "d"})


@pytest.mark.parametrize("name", ["gelu", "gelu-tanh", "silu", "relu"])
def test_every_activation_has_a_plain_and_a_gated_form(name: Activation) -> None:
    plain, gated = activation(name, False), activation(name, True)
    assert plain.inputs == ("X",)
    assert gated.inputs == ("X", "UP")
    extra = Counter(per_element(gated)) - Counter(per_element(plain))
    assert extra == {"multiply": 1}


# ---- what they compute, against NumPy written another way


def rows(seed: int, *shape: int) -> Values:
    return np.random.default_rng(seed).normal(size=shape)


X, UP, A = rows(0, 4, 6), rows(1, 4, 6), rows(2, 4, 6)
SCALE, SHIFT, WEIGHT = rows(3, 6), rows(4, 6), rows(5, 4)


def sigmoid(x: Values) -> Values:
    return np.asarray(1 / (1 + np.exp(-x)))


def tanh_gelu(x: Values) -> Values:
    """As GPT-2 writes it."""
    return np.asarray(0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))))


def softmax(x: Values) -> Values:
    return np.asarray(np.exp(x) / np.exp(x).sum(axis=-1, keepdims=True))


@pytest.mark.parametrize(
    ("cascade", "inputs", "output", "expected"),
    [
        (transformer.LINEAR, {"A": X, "W": X.T}, "Z", X @ X.T),
        (
            transformer.LAYER_NORM, {"X": X, "G": SCALE, "B": SHIFT}, "Y",
            (X - X.mean(1, keepdims=True)) / np.sqrt(X.var(1, keepdims=True) + 1e-5) * SCALE + SHIFT,
        ),
        (
            transformer.RMS_NORM, {"X": X, "G": SCALE}, "Y",
            X / np.sqrt((X**2).mean(1, keepdims=True) + 1e-5) * SCALE,
        ),
        (transformer.RELU, {"X": X}, "Y", np.where(X > 0, X, 0)),
        (transformer.SILU, {"X": X}, "Y", X * sigmoid(X)),
        (transformer.GELU, {"X": X}, "Y", tanh_gelu(X)),
        (transformer.GATED_RELU, {"X": X, "UP": UP}, "Y", np.where(X > 0, X, 0) * UP),
        (transformer.GATED_SILU, {"X": X, "UP": UP}, "Y", X * sigmoid(X) * UP),
        (transformer.GATED_GELU, {"X": X, "UP": UP}, "Y", tanh_gelu(X) * UP),
        (transformer.RESIDUAL_ADD, {"X": X, "A": A}, "Y", X + A),
        (transformer.GATED_RESIDUAL, {"X": X, "A": A, "G": SCALE}, "Y", X + SCALE * A),
        (transformer.SCALED_ADD, {"X": X, "ACC": A, "W": WEIGHT}, "Y", A + WEIGHT[:, None] * X),
        (transformer.SOFTMAX_ROUTER, {"X": X}, "A", softmax(X)),
    ],
    ids=lambda value: value.name if isinstance(value, Cascade) else "",
)  # fmt: skip
def test_it_computes_what_numpy_does(
    cascade: Cascade, inputs: dict[str, Values], output: str, expected: Values
) -> None:
    np.testing.assert_allclose(evaluate(cascade, inputs)[output], expected, rtol=1e-12, atol=1e-12)


def test_the_tanh_form_of_gelu_is_close_to_the_exact_one() -> None:
    """Both names of GELU are counted in the tanh form: it is off by less than 5e-4 anywhere."""
    x = np.linspace(-6, 6, 1201).reshape(1, -1)
    exact = x * np.array([[0.5 * (1 + erf(value / sqrt(2))) for value in x[0]]])
    assert np.abs(evaluate(transformer.GELU, {"X": x})["Y"] - exact).max() < 5e-4


def test_rotation_keeps_lengths_and_turns_by_the_angle() -> None:
    angle = rows(6, 4, 3)
    first, second = rows(7, 4, 3), rows(8, 4, 3)
    turned = evaluate(
        transformer.ROTARY, {"X1": first, "X2": second, "COS": np.cos(angle), "SIN": np.sin(angle)}
    )  # fmt: skip
    np.testing.assert_allclose(turned["Y1"] + 1j * turned["Y2"], (first + 1j * second) * np.exp(1j * angle))


def test_a_whole_layer_is_its_cascades_one_after_another() -> None:
    """Llama's layer on small numbers: norm, projections, causal grouped attention, residual, norm, gated MLP, residual.

    Expected: the same in plain NumPy. Queries share keys two and two (g = 2). No rotation.
    """
    tokens, hidden, heads, kv_heads, depth, width = 5, 8, 4, 2, 3, 11
    x = rows(10, tokens, hidden)
    q_weight, k_weight, v_weight = (rows(11 + i, hidden, n * depth) for i, n in enumerate((heads, kv_heads, kv_heads)))
    out_weight, up, gate, down = (
        rows(14, heads * depth, hidden), rows(15, hidden, width), rows(16, hidden, width), rows(17, width, hidden),
    )  # fmt: skip
    ones = np.ones(hidden)

    def linear(a: Values, w: Values) -> Values:
        return evaluate(transformer.LINEAR, {"A": a, "W": w})["Z"]

    def norm(a: Values) -> Values:
        return evaluate(transformer.RMS_NORM, {"X": a, "G": ones})["Y"]

    def add(a: Values, b: Values) -> Values:
        return evaluate(transformer.RESIDUAL_ADD, {"X": a, "A": b})["Y"]

    normed = norm(x)
    q, k, v = (linear(normed, weight) for weight in (q_weight, k_weight, v_weight))
    by_head = [
        evaluate(
            find("attention-3pass-causal"),
            {
                "Q": q[None, :, h * depth : (h + 1) * depth],
                "K": k[None, :, h // 2 * depth : (h // 2 + 1) * depth],
                "V": v[None, :, h // 2 * depth : (h // 2 + 1) * depth],
            },
        )["AV"][0]
        for h in range(heads)
    ]
    stream = add(x, linear(np.hstack(by_head), out_weight))
    normed = norm(stream)
    hidden_state = evaluate(transformer.GATED_SILU, {"X": linear(normed, gate), "UP": linear(normed, up)})["Y"]
    result = add(stream, linear(hidden_state, down))

    def plain_norm(a: Values) -> Values:
        return np.asarray(a / np.sqrt((a**2).mean(1, keepdims=True) + 1e-5))

    keys = np.repeat((plain_norm(x) @ k_weight).reshape(tokens, kv_heads, depth), 2, axis=1)
    values = np.repeat((plain_norm(x) @ v_weight).reshape(tokens, kv_heads, depth), 2, axis=1)
    scores = np.einsum("phe,mhe->hpm", (plain_norm(x) @ q_weight).reshape(tokens, heads, depth), keys)
    weights = softmax(np.where(np.tril(np.ones((tokens, tokens), dtype=bool)), scores, -np.inf))
    expected = x + np.einsum("hpm,mhf->phf", weights, values).reshape(tokens, -1) @ out_weight
    inner = plain_norm(expected) @ gate
    expected = expected + (inner * sigmoid(inner) * (plain_norm(expected) @ up)) @ down
    np.testing.assert_allclose(result, expected, rtol=1e-10)


def test_a_squared_relu_and_a_gate_of_results() -> None:
    """A maximum and a product an element; an exponential, a sum and a quotient, the sign is free."""
    x, z = np.array([[-2.0, 0.5, 3.0]]), np.array([[0.0, 1.0, -1.0]])
    assert evaluate(activation("relu2", gated=False), {"X": x})["Y"].tolist() == [[0.0, 0.25, 9.0]]
    found = evaluate(transformer.SIGMOID_GATE, {"X": x, "Z": z})["Y"]
    assert np.allclose(found, x / (1 + np.exp(-z)))
    assert per_element(transformer.RELU_SQUARED) == {"max": 1, "multiply": 1}
    assert per_element(transformer.SIGMOID_GATE) == {"exp": 1, "add": 1, "divide": 1}
