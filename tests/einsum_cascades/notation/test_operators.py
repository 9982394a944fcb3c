"""Operators: what they compute, and which operations one application costs."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest

from cascadesim.einsum_cascades.analysis.evaluate import evaluate
from cascadesim.einsum_cascades.notation.ir import Einsum
from cascadesim.einsum_cascades.notation.notation import cascade
from cascadesim.einsum_cascades.notation.operators import ELEMENTWISE, FIBER, charges, fiber_rank, is_copy, kept_rank
from cascadesim.einsum_cascades.texts.transformer import ATTENTION_1PASS


def one(text: str) -> Einsum:
    return cascade("example", text).einsums[0]


def per_point(text: str) -> dict[str, int]:
    (charge,) = charges(one(text)) or ((),)
    return dict(charge.operations) if charge else {}


def test_a_product_under_a_sum_is_one_mac() -> None:
    assert per_point("Z[m] = A[m,k] * B[k]") == {"mac": 1}


@pytest.mark.parametrize(
    ("name", "at", "value"),
    [
        ("exp", 1.0, math.e),
        ("relu", -2.0, 0.0),
        ("sigmoid", 0.0, 0.5),
        ("silu", 2.0, 2 / (1 + math.exp(-2))),
        ("gelu", 1.0, 0.5 * (1 + math.erf(1 / math.sqrt(2)))),
        ("rsqrt", 4.0, 0.5),
        ("square", 3.0, 9.0),
        ("erf", 0.5, math.erf(0.5)),
        ("abs", -1.5, 1.5),
        ("tanh", 0.3, math.tanh(0.3)),
    ],
)
def test_what_operators_compute(name: str, at: float, value: float) -> None:
    assert evaluate(cascade("example", f"Y = {name}(X[])"), {"X": at})["Y"] == pytest.approx(value, rel=1e-15)


@pytest.mark.parametrize("name", [name for name, row in ELEMENTWISE.items() if row.operands == 1])
def test_every_operator_works_on_arrays(name: str) -> None:
    x = np.array([[0.5, 2.0], [1.0, 3.0]])
    found = evaluate(cascade("example", f"Y[i,j] = {name}(X[i,j])") if name != "negate" else cascade(
        "example", "Y[i,j] = -X[i,j]"), {"X": x})["Y"]
    assert found.shape == x.shape
    assert np.isfinite(found).all()


@pytest.mark.parametrize(
    ("text", "costs"),
    [
        ("Y[m] = -X[m]", {}),
        ("Y[m] = X[m] - W[m]", {"add": 1}),
        ("Y[m] = max(X[m], W[m], U[m])", {"max": 2}),
        ("Y = X[m]", {"add": 1}),
        ("Y max= X[m] * 2", {"multiply": 1, "max": 1}),
        ("Y[m] = X[m] * sqrt(E)", {"multiply": 1}),
        ("Y = X[m] * W[m] + U[m]", {"multiply": 1, "add": 2}),
        ("I[j] = top(X[m], 2)", {"compare": 1}),
    ],
)
def test_costs_of_one_point(text: str, costs: dict[str, int]) -> None:
    assert per_point(text) == costs


def test_points_outside_a_condition_cost_what_stands_there() -> None:
    total: Counter[str] = Counter()
    found = charges(one("Y[m] = exp(X[m]) if m < 3 else X[m] * X[m]"))
    for charge in found:
        total.update(charge.operations)
    assert [len(charge.conditions) for charge in found] == [1, 0, 1]
    assert total == {"exp": 1, "multiply": 0}  # everywhere, less where the condition holds


def test_copies_cost_nothing() -> None:
    assert is_copy(ATTENTION_1PASS.einsums[0])  # BK
    assert not is_copy(ATTENTION_1PASS.einsum("QK"))
    assert not is_copy(one("Y = X[m]"))  # a sum


def test_a_choice_exchanges_one_rank_for_another() -> None:
    choice = one("I[p,j] = top(S[p,m], KEEP)")
    assert (fiber_rank(choice), kept_rank(choice)) == ("m", "j")


def test_choices_are_sorted_and_stable() -> None:
    fibers = np.array([[2.0, 7.0, 7.0, 1.0]])
    assert FIBER["top"].function(fibers, 3).tolist() == [[1, 2, 0]]
    assert FIBER["bottom"].function(fibers, 3).tolist() == [[3, 0, 1]]
