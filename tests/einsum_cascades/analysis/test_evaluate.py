"""What cascades compute, against plain NumPy; what does not fit is named."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from cascadesim.einsum_cascades.analysis.evaluate import evaluate
from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.einsum_cascades.notation.notation import cascade
from cascadesim.einsum_cascades.texts import find
from cascadesim.einsum_cascades.texts.transformer import ATTENTION_1PASS, ATTENTION_3PASS

Values = NDArray[np.float64]


def run(text: str, extents: dict[str, int] | None = None, **inputs: object) -> dict[str, Values]:
    return evaluate(cascade("example", text), {name: np.asarray(array) for name, array in inputs.items()}, extents)


def attention(q: Values, k: Values, v: Values, causal: bool = False) -> Values:
    """Softmax attention, written plainly: h heads, p queries, m keys; query heads share key heads in groups."""
    group = q.shape[0] // k.shape[0]
    scores = q @ np.repeat(k, group, axis=0).transpose(0, 2, 1)
    if causal:
        queries, keys = scores.shape[1:]
        scores = np.where(np.arange(keys) <= np.arange(queries)[:, None] + keys - queries, scores, -np.inf)
    weights = np.exp(scores - scores.max(axis=2, keepdims=True))
    result: Values = weights / weights.sum(axis=2, keepdims=True) @ np.repeat(v, group, axis=0)
    return result


def test_a_product_of_matrices() -> None:
    a, b = np.arange(6.0).reshape(2, 3), np.arange(12.0).reshape(3, 4)
    assert np.array_equal(run("Z[m,n] = A[m,k] * B[k,n]", A=a, B=b)["Z"], a @ b)


@pytest.mark.parametrize(("operator", "expected"), [("=", 6.0), ("+=", 6.0), ("max=", 3.0), ("min=", 1.0)])
def test_reductions(operator: str, expected: float) -> None:
    assert run(f"Y {operator} X[i]", X=[1, 2, 3])["Y"] == expected


def test_ranks_that_only_conditions_have_are_summed_too() -> None:
    counts = run("C[i] = 1 if j <= i else 0", {"I": 4, "J": 3})["C"]
    assert counts.tolist() == [1, 2, 3, 3]


def test_extents_are_values() -> None:
    assert run("Y = X[i] / I", X=[1, 2, 6])["Y"] == pytest.approx(3.0)


def test_a_state_keeps_every_step() -> None:
    assert run("S[0] = 0\nS[i+1] = S[i] + X[i]\nY = S[I]", X=[1, 2, 3])["S"].tolist() == [0, 1, 3, 6]


def test_a_recurrence_of_two_steps() -> None:
    """Fibonacci: 1 1 2 3 5 8."""
    fibonacci = run("F[0] = 1\nF[1] = 1\nF[i+2] = F[i] + F[i+1]", {"I": 4})["F"]
    assert fibonacci.tolist() == [1, 1, 2, 3, 5, 8]


def test_a_recurrence_along_two_ranks() -> None:
    """Longest path through a grid: every point takes the better of its two predecessors."""
    text = """
        T[0,0]     = 0
        T[0,j+1]   = 0
        T[i+1,0]   = 0
        T[i+1,j+1] = max(T[i,j+1], T[i+1,j]) + X[i,j]
    """
    assert run(text, {"J": 3}, X=[[1, 2, 3], [4, 5, 6]])["T"][2, 3] == 1 + 4 + 5 + 6


def test_states_that_need_each_other_advance_together() -> None:
    text = """
        A[0]   = 0
        B[0]   = 1
        S[i]   = A[i] + B[i]
        A[i+1] = B[i]
        B[i+1] = S[i]
    """
    assert run(text, {"I": 5})["B"].tolist() == [1, 1, 2, 3, 5, 8]


def test_a_condition_keeps_reads_inside_a_tensor() -> None:
    assert run("Y[i] = X[i] - X[i-1] if i >= 1 else X[i]", X=[1, 2, 4])["Y"].tolist() == [1, 1, 2]


def test_what_a_condition_excludes_does_not_matter() -> None:
    """Infinite or not a number: it is not read."""
    for beyond in (np.inf, np.nan, 1.0):
        text = "Y[p] = X[i] * W[i] * U[p] if i <= p else 0"
        assert run(text, X=[1, 2, beyond], W=[3, 4, beyond], U=[1, 1])["Y"].tolist() == [3, 11]


def test_neighbours_shorten_the_rank() -> None:
    assert run("D[i] = X[i+1] - X[i]", X=[1, 4, 9])["D"].tolist() == [3, 5]


def test_a_convolution() -> None:
    x, w = np.arange(7.0), np.array([1.0, 2.0, -1.0])
    assert np.allclose(run("Y[i] = X[i+k] * W[k]", X=x, W=w)["Y"], np.convolve(x, w[::-1], "valid"))


def test_even_and_odd_elements() -> None:
    assert run("Y[d] = X[2*d] - X[2*d+1]", X=[5, 1, 7, 2])["Y"].tolist() == [4, 5]


def test_a_partition_read_and_written() -> None:
    both = run("B[k1,k0] = A[k1*K0+k0]\nC[k1*K0+k0] = B[k1,k0]", {"K0": 2}, A=[1, 2, 3, 4, 5, 6])
    assert both["B"].tolist() == [[1, 2], [3, 4], [5, 6]]
    assert both["C"].tolist() == [1, 2, 3, 4, 5, 6]


def test_a_divided_coordinate_repeats_elements() -> None:
    assert run("Y[h] = X[h] * W[h//G]", X=[1, 1, 1, 1], W=[3, 7])["Y"].tolist() == [3, 3, 7, 7]


def test_the_largest_of_a_fiber_and_what_stands_there() -> None:
    found = run("I[p,j] = top(S[p,m], 2)\nG[p,j] = V[I[p,j]]", S=[[1, 9, 5], [4, 4, 0]], V=[10, 20, 30])
    assert found["I"].tolist() == [[1, 2], [0, 1]]  # of equals the first
    assert found["G"].tolist() == [[20, 30], [10, 20]]


def test_a_single_number_can_be_a_coordinate() -> None:
    found = run("N = C[i]\nY = X[N[]]\nZ[i] = X[i] if i < N[] else 0", C=[0, 1, 1], X=[10, 20, 30])
    assert found["Y"] == 30
    assert found["Z"].tolist() == [10, 20, 0]


def test_the_length_of_a_choice_may_be_given_by_either_name() -> None:
    for name in ("KEEP", "J"):
        assert run("I[j] = bottom(S[m], KEEP)", {name: 1}, S=[3, 1, 2])["I"].tolist() == [1]


EXTENTS = st.tuples(*(st.integers(1, 3) for _ in range(4)), st.integers(1, 4), st.integers(1, 4))
ROWS = ("attention-3pass", "attention-3pass-deferred", "attention-2pass", "attention-1pass")


@pytest.mark.slow
@settings(deadline=None, max_examples=60)
@given(EXTENTS, st.integers(0, 2**32 - 1), st.sampled_from([0.1, 1.0, 30.0, 1000.0]))
def test_all_forms_of_attention_agree(sizes: tuple[int, ...], seed: int, magnitude: float) -> None:
    """Any partition, large scores included: 1e-12, from float64 sums in another order."""
    heads, queries, depth, value_depth, tiles, tile = sizes
    random = np.random.default_rng(seed)
    q = random.normal(size=(heads, queries, depth)) * magnitude
    k = random.normal(size=(heads, tiles * tile, depth))
    v = random.normal(size=(heads, tiles * tile, value_depth))
    for name in ROWS:
        extents = {"M0": tile} if name in ("attention-2pass", "attention-1pass") else {}
        result = evaluate(find(name), {"Q": q, "K": k, "V": v}, extents)["AV"]
        assert np.allclose(result, attention(q, k, v), rtol=1e-12, atol=1e-12), name


@pytest.mark.slow
@settings(deadline=None, max_examples=40)
@given(EXTENTS, st.integers(0, 2**32 - 1), st.sampled_from([1.0, 100.0]), st.integers(0, 11))
def test_causal_attention(sizes: tuple[int, ...], seed: int, magnitude: float, missing: int) -> None:
    """As many queries as keys, or fewer (the last ones)."""
    heads, _, depth, value_depth, tiles, tile = sizes
    keys = tiles * tile
    queries = max(1, keys - missing)
    random = np.random.default_rng(seed)
    q = random.normal(size=(heads, queries, depth)) * magnitude
    k, v = random.normal(size=(heads, keys, depth)), random.normal(size=(heads, keys, value_depth))
    for name, extents in (("attention-3pass-causal", {}), ("attention-1pass-causal", {"M0": tile})):
        result = evaluate(find(name), {"Q": q, "K": k, "V": v}, extents)["AV"]
        assert np.allclose(result, attention(q, k, v, causal=True), rtol=1e-12, atol=1e-12), name


@settings(deadline=None, max_examples=40)
@given(EXTENTS, st.integers(1, 3), st.integers(0, 2**32 - 1))
def test_grouped_query_attention(sizes: tuple[int, ...], group: int, seed: int) -> None:
    heads, queries, depth, value_depth, tiles, tile = sizes
    random = np.random.default_rng(seed)
    q = random.normal(size=(heads * group, queries, depth)) * 10
    k = random.normal(size=(heads, tiles * tile, depth))
    v = random.normal(size=(heads, tiles * tile, value_depth))
    for name, extents in (("attention-3pass-gqa", {}), ("attention-1pass-gqa", {"M0": tile})):
        result = evaluate(find(name), {"Q": q, "K": k, "V": v}, extents)["AV"]
        assert np.allclose(result, attention(q, k, v), rtol=1e-12, atol=1e-12), name


def test_a_row_of_equal_maxima() -> None:
    ones = np.ones((1, 4, 1))
    for extents in ({"M0": 1}, {"M0": 2}, {"M0": 4}):
        result = evaluate(ATTENTION_1PASS, {"Q": ones, "K": ones, "V": np.arange(4.0).reshape(1, 4, 1)}, extents)
        assert np.allclose(result["AV"], 1.5)


Q, K, V = np.ones((2, 5, 3)), np.ones((2, 12, 3)), np.ones((2, 12, 4))


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"Q": Q, "K": K, "V": V[:, :5]}, "V has 5 elements along 'm', expected 12 (M=12)"),
        ({"Q": Q, "K": K[0], "V": V}, "K must have 3 dimensions, K[h,m,e], got shape (12, 3)"),
        ({"Q": Q, "K": K}, "no array for V; its inputs are Q, K, V"),
        ({"Q": Q, "K": K, "V": V, "VV": V}, "no input 'VV'; did you mean 'V'?"),
        ({"Q": Q, "K": "keys", "V": V}, "inputs must be arrays of numbers"),
        ({"Q": Q, "K": [[1], [1, 2]], "V": V}, "inputs must be arrays of numbers"),
        ({"Q": Q[:, :0], "K": K, "V": V}, "Q has no elements, shape (2, 0, 3)"),
    ],
)
def test_arrays_that_do_not_fit_are_named(inputs: dict[str, NDArray[np.float64]], message: str) -> None:
    with pytest.raises(CascadeSimError) as caught:
        evaluate(ATTENTION_3PASS, inputs)
    assert str(caught.value).startswith("attention-3pass: ")
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("extents", "message"),
    [
        ({}, "no array says how large M1, M0 is: give it as an extent"),
        ({"M0": 5}, "K has 12 elements along 'm1*M0+m0', expected 10 (M1=2, M0=5)"),
        ({"M0": 4, "M1": 2}, "K has 12 elements along 'm1*M0+m0', expected 8 (M1=2, M0=4)"),
        ({"M9": 5}, "no extent 'M9'"),
        ({"M0": 0}, "M0: must be a whole number from 1, got 0"),
        ({"M0": 4.0}, "M0: must be a whole number from 1, got 4.0"),
    ],
)
def test_extents_that_do_not_fit_are_named(extents: dict[str, int], message: str) -> None:
    with pytest.raises(CascadeSimError) as caught:
        evaluate(ATTENTION_1PASS, {"Q": Q, "K": K, "V": V}, extents)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("text", "inputs", "message"),
    [
        ("I[j] = top(S[m], 4)", {"S": [1, 2]}, "top keeps 4 of 2 elements along 'm'"),
        ("Y[j] = V[I[j]]", {"V": [1, 2], "I": [0, 2]}, "V is read at 2 in dimension 1, which has 2 elements"),
        ("Y[j] = V[I[j]]", {"V": [1, 2], "I": [0, 0.5]}, "I holds coordinates and must hold whole numbers"),
        ("Y[i] = X[i-1]", {"X": [1, 2]}, "X is read at -1"),
    ],
)
def test_reads_outside_a_tensor_are_errors(text: str, inputs: dict[str, list[float]], message: str) -> None:
    with pytest.raises(CascadeSimError) as caught:
        run(text, None, **inputs)
    assert message in str(caught.value)


def test_a_value_needed_before_it_exists_is_an_error() -> None:
    with pytest.raises(CascadeSimError, match="need values of each other that do not exist yet"):
        run("T[0] = 1\nS = T[i] * X[i]\nT[i+1] = T[i] + S", X=[1, 2])
