"""What a layer does besides attention: passes and operations counted by hand."""

from __future__ import annotations

from collections import Counter

import pytest

from cascadesim.einsum_cascades import transformer
from cascadesim.einsum_cascades.counts import bound_operations
from cascadesim.einsum_cascades.ir import Cascade
from cascadesim.einsum_cascades.layers import Activation
from cascadesim.einsum_cascades.lowering import activation
from cascadesim.einsum_cascades.passes import passes

ROWS, WIDTH = 2, 3
EXTENTS = {"R": ROWS, "D": WIDTH, "K": 5, "N": 7}
CASCADES = [value for value in vars(transformer).values() if isinstance(value, Cascade)]


def operations(cascade: Cascade) -> dict[str, int]:
    total: Counter[str] = Counter()
    for einsum in cascade.einsums:
        total.update(bound_operations(einsum, EXTENTS))
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
    assert set(cascade.ranks) <= ({"r", "k", "n"} if cascade is transformer.LINEAR else {"r", "d"})


@pytest.mark.parametrize("name", ["gelu", "gelu-tanh", "silu", "relu"])
def test_every_activation_has_a_plain_and_a_gated_form(name: Activation) -> None:
    plain, gated = activation(name, False), activation(name, True)
    assert plain.inputs == ("X",)
    assert gated.inputs == ("X", "UP")
    extra = Counter(per_element(gated)) - Counter(per_element(plain))
    assert extra == {"multiply": 1}
