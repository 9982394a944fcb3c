"""Rewrites change how a result is computed, never the result; what they cannot do they refuse."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from cascadesim.einsum_cascades.analysis.evaluate import evaluate
from cascadesim.einsum_cascades.analysis.footprint import live_footprint
from cascadesim.einsum_cascades.analysis.online import make_iterative
from cascadesim.einsum_cascades.analysis.passes import passes
from cascadesim.einsum_cascades.analysis.rewrites import defer_division, split
from cascadesim.einsum_cascades.notation.errors import CascadeSimError, UnknownNameError
from cascadesim.einsum_cascades.notation.ir import Cascade
from cascadesim.einsum_cascades.notation.notation import cascade, parse, to_text
from cascadesim.einsum_cascades.texts import find

Arrays = dict[str, NDArray[np.float64]]


def shape(whole: Cascade) -> list[tuple[object, ...]]:
    """What a cascade says, without its text, line numbers and comments."""
    return [(einsum.output, einsum.reduction, einsum.expression) for einsum in whole.einsums]


def one_pass(three_pass: Cascade) -> Cascade:
    """The mechanical road from the 3-pass text to the 1-pass text."""
    return make_iterative(split(defer_division(three_pass), "m", "M0"), "m")


def test_the_three_pass_text_becomes_the_one_pass_text() -> None:
    """Line for line: only BK and BV, which rename tiles of the inputs, are not there."""
    published = parse("published", find("attention-1pass-gqa").text.replace("h//G", "h"))
    assert to_text(one_pass(find("attention-3pass"))) == to_text(published)


def test_it_is_the_published_one_pass_cascade() -> None:
    assert shape(one_pass(find("attention-3pass-gqa"))) == shape(find("attention-1pass-gqa"))
    causal = [name for name in find("attention-1pass-causal").produced if name not in ("BK", "BV")]
    assert list(one_pass(find("attention-3pass-causal")).produced) == causal


@pytest.mark.parametrize("form", ["", "-causal", "-gqa"])
def test_each_step_saves_passes_and_the_last_one_the_footprint(form: str) -> None:
    three = find(f"attention-3pass{form}")
    two = defer_division(three)
    one = one_pass(three)
    assert [passes(each, "m") for each in (three, two, one)] == [3, 2, 1]
    assert [str(live_footprint(each, "m").elements) for each in (three, two, one)] == ["M", "M", "M0"]
    assert live_footprint(one, "m").constant_in_rank


def test_deferring_gives_the_deferred_cascade() -> None:
    assert shape(defer_division(find("attention-3pass"))) == shape(find("attention-3pass-deferred"))


def test_softmax_itself_keeps_a_second_pass() -> None:
    online = make_iterative(find("softmax"), "d")
    assert passes(online, "d") == 2
    assert set(online.produced) >= {"RM", "RD", "SN", "Y"}


def test_log_sum_exp_runs_in_one_pass() -> None:
    running = make_iterative(split(find("log-sum-exp"), "d", "D0"), "d")
    assert passes(running, "d") == 1
    assert live_footprint(running, "d").constant_in_rank


@cache
def forms(name: str) -> tuple[Cascade, ...]:
    """Every stop on the way to one pass, and two side roads."""
    three = find(name)
    two = defer_division(three)
    tiled = split(two, "m", "M0")
    return (two, tiled, make_iterative(tiled, "m"), make_iterative(two, "m"),
            make_iterative(split(three, "m", "M0"), "m"))

ATTENTION = ("attention-3pass", "attention-3pass-causal", "attention-3pass-gqa")


@pytest.mark.slow
@settings(deadline=None, max_examples=15)
@given(st.sampled_from(ATTENTION), st.integers(1, 4), st.integers(1, 4), st.integers(1, 3), st.integers(0, 2**32 - 1),
       st.sampled_from([1.0, 200.0]))
def test_attention_stays_the_same_along_the_way(
    name: str, tiles: int, tile: int, queries: int, seed: int, magnitude: float
) -> None:
    random = np.random.default_rng(seed)
    keys = tiles * tile
    heads = 1 if name.endswith("gqa") else 2
    inputs = {
        "Q": random.normal(size=(2, min(queries, keys), 3)) * magnitude,
        "K": random.normal(size=(heads, keys, 3)),
        "V": random.normal(size=(heads, keys, 2)),
    }
    expected = evaluate(find(name), inputs)["AV"]
    for each in forms(name):
        extents = {"M0": tile} if "m0" in each.ranks else {}
        assert np.allclose(evaluate(each, inputs, extents)["AV"], expected, rtol=1e-12, atol=1e-12)


def inputs_of(whole: Cascade, seed: int, rows: int) -> Arrays:
    """Arrays for a cascade over r and d, or over k: 6 elements, any number of rows."""
    random = np.random.default_rng(seed)
    ranks = {"r": rows, "d": 6, "k": 6}
    arrays = {}
    for einsum in whole.einsums:
        for access in einsum.inputs:
            if access.tensor in whole.inputs:
                arrays[access.tensor] = random.normal(size=[ranks[rank] for rank in access.ranks]) * 10
    return arrays

ROWS = ("softmax", "log-sum-exp", "softmax-router", "rms-norm", "layer-norm", "variance-1pass", "variance-2pass",
        "cosine-similarity", "toy-two-pass", "toy-one-pass", "gelu", "gated-silu")


@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("tile", [1, 2, 3, 6])
def test_a_split_rank_changes_no_result(name: str, tile: int) -> None:
    whole = find(name)
    rank = "k" if name.startswith("toy") else "d"
    inputs = inputs_of(whole, seed=tile, rows=2)
    tiled = split(whole, rank, f"{rank.upper()}0")
    expected, found = evaluate(whole, inputs), evaluate(tiled, inputs, {f"{rank}0": tile})
    for output in whole.outputs:
        assert np.allclose(found[output].reshape(expected[output].shape), expected[output], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["softmax", "log-sum-exp", "softmax-router"])
@pytest.mark.parametrize("tile", [None, 1, 2, 6])
def test_the_running_form_changes_no_result(name: str, tile: int | None) -> None:
    whole = find(name)
    inputs = inputs_of(whole, seed=7, rows=3)
    tiled = whole if tile is None else split(whole, "d", "D0")
    found = evaluate(make_iterative(tiled, "d"), inputs, {} if tile is None else {"D0": tile})
    (output,) = whole.outputs
    expected = evaluate(whole, inputs)[output]
    assert np.allclose(found[output].reshape(expected.shape), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    "text",
    [
        "GM max= X[i]\nY = X[i] * exp(X[i] - GM)",  # the exponential inside the sum
        "GM max= X[i]\nY = -exp(X[i] - GM) * W[i] / 3 + 2 * exp(X[i] - GM)",  # anything linear in it
        "GM max= 2*X[i]\nN[i] = exp(2*X[i] - GM)\nSD = N[i]\nSW = N[i] * W[i]\nY = SW / SD + GM",  # two sums, maximum
        "GM max= X[i]\nN[i] = exp(X[i] - GM)\nP[i] = N[i] * W[i]\nS = P[i]\nT = N[i] * N[i]\nY = S + T",  # T not linear
        "GM max= X[i]\nHM max= W[i]\nS = exp(X[i] - GM)\nT = exp(W[i] - HM)\nY = S * T",  # two maxima
        "GM max= X[i] if i >= 1 else W[i]\nS = exp(X[i] - GM) if i >= 1 else 0\nY = S + GM",  # conditions
        "GM max= X[i]\nS = exp(X[i] - GM)\nU[i] = X[i] * S\nY = U[i]",  # someone needs the sum with every element
        "RM max= X[i]\nRD = exp(X[i] - RM)\nY = RD * RM",  # names already in use
    ],
)
def test_what_is_linear_in_the_exponentials_runs(text: str) -> None:
    whole = cascade("example", text)
    random = np.random.default_rng(3)
    inputs = {name: random.normal(size=6) * 5 for name in whole.inputs}
    running = make_iterative(whole, "i")
    assert np.allclose(evaluate(running, inputs)["Y"], evaluate(whole, inputs)["Y"], rtol=1e-12)
    assert passes(running, "i") <= passes(whole, "i")


def test_coordinates_that_wait_for_the_pass_cannot_run_with_it() -> None:
    whole = cascade("waiting", """
        GM    max= X[i]
        N[i]  = exp(X[i] - GM)
        SD    = N[i]
        Y     = N[i] * W[i] if i <= SD[] else 0
    """)
    with pytest.raises(CascadeSimError, match="nothing to make iterative along 'i'"):
        make_iterative(whole, "i")


def test_bounds_held_by_a_tensor_go_along() -> None:
    """A window of keys per query, its ends in LO and HI: split and in running form it gives the same."""
    whole = cascade("windows", """
        GM[p]   max= S[p,m] if LO[p] <= m and m < HI[p] else -inf
        N[p,m]  = exp(S[p,m] - GM[p]) if LO[p] <= m and m < HI[p] else 0
        SD[p]   = N[p,m] if LO[p] <= m and m < HI[p] else 0
        Y[p]    = log(SD[p]) + GM[p]
    """)
    scores = np.random.default_rng(0).normal(size=(3, 6)) * 50
    inputs = {"S": scores, "LO": np.array([0, 2, 5]), "HI": np.array([1, 4, 6])}
    running = make_iterative(split(whole, "m", "M0"), "m")
    for tile in (1, 2, 3, 6):
        assert np.allclose(evaluate(running, inputs, {"M0": tile})["Y"], evaluate(whole, inputs)["Y"], rtol=1e-12)


def test_a_sum_over_rows_with_maxima_of_their_own_does_not_run() -> None:
    """Each row has its own correction, so their common sum cannot be corrected."""
    whole = cascade("rows", """
        GM[r] max= X[r,d]
        N[r,d] = exp(X[r,d] - GM[r])
        Y     = N[r,d]
    """)
    with pytest.raises(CascadeSimError, match="nothing to make iterative along 'd'"):
        make_iterative(whole, "d")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Y[r] = X[r,d] / S[r]", "sum"),
        ("Y[r] = X[r,d] * W[d] / S[r] / T[r]", "sum"),
        ("Q[r,d] = X[r,d] / S[r]\nY[r] = Q[r,d] * W[d]\nZ[r] = Q[r,d]", "sums of one quotient"),
        ("Q[r,d] = X[r,d] / S[r]\nY[r] = Q[r,d] * W[d]\nZ[r,d] = Q[r,d]", "a quotient that is needed"),
        ("Q[r,d] = X[r,d] / W[d]\nY[r] = Q[r,d] / S[r]", "a quotient by the summed rank"),
        ("Q[r,d] = X[r,d] / S[r] if d >= r else 0\nY[r] = Q[r,d] * W[d] if d <= r + 2 else 0", "conditions"),
    ],
)
def test_a_division_by_what_the_sum_lacks_moves_behind_it(text: str, expected: str) -> None:
    whole = cascade("example", text)
    random = np.random.default_rng(5)
    sizes = {"X": (3, 4), "S": (3,), "T": (3,), "W": (4,)}
    inputs = {name: random.uniform(1, 2, size=sizes[name]) for name in whole.inputs}
    deferred = defer_division(whole)
    for output in whole.outputs:
        found = evaluate(deferred, inputs)[output]
        assert np.allclose(found, evaluate(whole, inputs)[output], rtol=1e-12), expected


@pytest.mark.parametrize("name", ["linear", "softmax", "log-sum-exp", "attention-1pass", "rms-norm"])
def test_without_a_division_to_defer_it_says_so(name: str) -> None:
    with pytest.raises(CascadeSimError, match=f"{name}: no division can be deferred"):
        defer_division(find(name))


@pytest.mark.parametrize(("name", "rank"), [("linear", "k"), ("attention-3pass", "p"), ("layer-norm", "d")])
def test_without_a_chain_to_run_it_says_so(name: str, rank: str) -> None:
    with pytest.raises(CascadeSimError, match=f"{name}: nothing to make iterative along '{rank}'"):
        make_iterative(find(name), rank)


@pytest.mark.parametrize(
    ("name", "rank", "inner", "message"),
    [
        ("attention-1pass", "m1", "M2", "line 8: 'm1' cannot be split: RM iterates along it"),
        ("attention-top-k", "m", "M0", "line 2: 'm' cannot be split: I needs its whole fibers"),
        ("attention-3pass", "m", "M1", "the inner extent cannot be M1"),
        ("attention-3pass", "m", "P", "cannot split 'm' into 'm1' and 'p'"),
        ("attention-3pass", "m", "m0", "give an extent such as M0"),
        ("attention-3pass", "m", "4", "give an extent such as M0"),
    ],
)
def test_a_rank_that_cannot_be_split_is_refused(name: str, rank: str, inner: str, message: str) -> None:
    with pytest.raises(CascadeSimError) as caught:
        split(find(name), rank, inner)
    assert message in str(caught.value)


def test_an_unknown_rank_is_refused() -> None:
    with pytest.raises(UnknownNameError):
        split(find("attention-3pass"), "z", "Z0")


def test_a_shifted_read_of_a_result_cannot_be_split() -> None:
    with pytest.raises(CascadeSimError, match=r"line 2: 'i' cannot be split: B is read at 'i\+1'"):
        split(cascade("shift", "B[i] = A[i] * A[i]\nC[i] = B[i+1] * A[i]"), "i", "I0")
