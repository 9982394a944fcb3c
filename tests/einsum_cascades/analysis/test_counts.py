"""Operations by hand, as polynomials and as numbers; conditions counted exactly; extents found from shapes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascadesim.einsum_cascades.analysis.bound_counts import BoundCascade, bound_work
from cascadesim.einsum_cascades.analysis.counts import bind_extents, bound, tensor_size
from cascadesim.einsum_cascades.notation.algebra import extents_of
from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.einsum_cascades.notation.notation import cascade
from cascadesim.einsum_cascades.texts import cascade_names, find
from cascadesim.einsum_cascades.texts.transformer import ATTENTION_1PASS


def counted(name: str) -> dict[str, dict[str, str]]:
    """Einsum -> class -> count, of the Einsums that compute."""
    work = BoundCascade.of(find(name), {}).work
    return {einsum: {kind: str(count) for kind, count in counts.items()} for einsum, counts in work.items()}


def one(text: str) -> dict[str, str]:
    work = BoundCascade.of(cascade("example", text), {}).work
    return {kind: str(count) for counts in work.values() for kind, count in counts.items()}


def numbers(text: str, **extents: int) -> dict[str, int]:
    return next(iter(bound_work(cascade("example", text), extents).values()), {})


def test_three_pass_attention() -> None:
    """FuseMax, section III: M*P divisions a head; deferring makes them F*P."""
    assert counted("attention-3pass") == {
        "QK": {"mac": "E*H*M*P"},
        "GM": {"max": "H*M*P"},
        "SN": {"exp": "H*M*P", "add": "H*M*P"},
        "SD": {"add": "H*M*P"},
        "A": {"divide": "H*M*P"},
        "AV": {"mac": "F*H*M*P"},
    }
    assert counted("attention-3pass-deferred")["AV"] == {"divide": "F*H*P"}


def test_one_pass_attention() -> None:
    tile, key = "H*M1*P", "H*M0*M1*P"
    assert counted("attention-1pass") == {
        "QK": {"mac": "E*H*M0*M1*P"},
        "LM": {"max": key},
        "RM": {"max": tile},
        "SLN": {"exp": key, "add": key},
        "SLD": {"add": key},
        "SLNV": {"mac": "F*H*M0*M1*P"},
        "PRM": {"exp": tile, "add": tile},
        "SPD": {"multiply": tile},
        "RD": {"add": tile},
        "SPNV": {"multiply": "F*H*M1*P"},
        "RNV": {"add": "F*H*M1*P"},
        "AV": {"divide": "F*H*P"},
    }


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("softmax", {"GM": {"max": "D*R"}, "SN": {"exp": "D*R", "add": "D*R"}, "SD": {"add": "D*R"},
                     "Y": {"divide": "D*R"}}),
        ("log-sum-exp", {"GM": {"max": "D*R"}, "SD": {"exp": "D*R", "add": "2*D*R"}, "Y": {"log": "R", "add": "R"}}),
        ("softmax-online", {"RM": {"max": "D*R"}, "SLN": {"exp": "D*R", "add": "D*R"},
                            "PRM": {"exp": "D*R", "add": "D*R"}, "RD": {"multiply": "D*R", "add": "D*R"},
                            "SN": {"exp": "D*R", "add": "D*R"}, "Y": {"divide": "D*R"}}),
        ("variance-2pass", {"SX": {"add": "D*R"}, "MU": {"divide": "R"}, "C": {"add": "D*R"}, "SC": {"mac": "D*R"},
                            "VAR": {"divide": "R"}}),
        ("variance-1pass", {"SX": {"add": "D*R"}, "SXX": {"mac": "D*R"}, "MU": {"divide": "R"},
                            "VAR": {"divide": "R", "multiply": "R", "add": "R"}}),
        ("variance-welford", {"N": {"add": "D"}, "C": {"add": "D*R"}, "MU": {"divide": "D*R", "add": "D*R"},
                              "SC": {"multiply": "D*R", "add": "2*D*R"}, "VAR": {"divide": "R"}}),
        ("cosine-similarity", {"XY": {"mac": "D*R"}, "XX": {"mac": "D*R"}, "YY": {"mac": "D*R"},
                               "COS": {"multiply": "R", "sqrt": "R", "divide": "R"}}),
        ("perceptron", {"Z": {"mac": "K*N*R"}, "A": {"max": "N*R"}, "Y": {"mac": "J*N*R"}}),
        ("linear-attention", {"FK": {"exp": "E*H*M"}, "KV": {"mac": "E*F*H*M"}, "SK": {"add": "E*H*M"},
                              "FQ": {"exp": "E*H*P"}, "NV": {"mac": "E*F*H*P"}, "SD": {"mac": "E*H*P"},
                              "AV": {"divide": "F*H*P"}}),
        ("top-k-gather", {"QK": {"mac": "E*H*M*P"}, "I": {"compare": "H*M*P"}}),
        ("toy-two-pass", {"Y": {"mac": "K"}, "Z": {"mac": "K"}}),
        ("toy-one-pass", {"Y": {"mac": "K"}, "X": {"add": "K"}, "Z": {"multiply": "1"}}),
    ],
)
def test_operations_by_hand(name: str, expected: dict[str, dict[str, str]]) -> None:
    assert {einsum: dict(sorted(counts.items())) for einsum, counts in counted(name).items()} == {
        einsum: dict(sorted(counts.items())) for einsum, counts in expected.items()}


def test_causal_work_is_a_triangle_beside_a_box() -> None:
    """Query p attends M-P+1+p keys: P*(M-P+1) + P*(P-1)/2 pairs, = M*P - P^2/2 + P/2."""
    assert counted("attention-3pass-causal")["A"] == {"divide": "H*M*P - H*P^2/2 + H*P/2"}
    assert counted("attention-1pass-causal")["SLD"] == {"add": "H*M0*M1*P - H*P^2/2 + H*P/2"}


@given(st.integers(1, 12), st.integers(1, 12), st.integers(-3, 3), st.sampled_from(["<", "<=", ">", ">="]))
def test_any_triangle_is_counted_exactly(m: int, p: int, shift: int, comparison: str) -> None:
    """Also where it leaves its box: more queries than keys, windows at the borders."""
    text = f"Y[m,p] = X[m] * W[p] if m + 3 {comparison} p + {shift + 3} else 0"
    holds = {"<": int.__lt__, "<=": int.__le__, ">": int.__gt__, ">=": int.__ge__}[comparison]
    expected = sum(holds(key, query + shift) for key in range(m) for query in range(p))
    assert numbers(text, M=m, P=p).get("multiply", 0) == expected


@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 5))
def test_any_conditions_are_counted_exactly(m: int, p: int, window: int) -> None:
    text = "Y[m,p] = X[m] * W[p] if m <= p and m > p - W and m != 2 else 0"
    expected = sum(p_ - window < m_ <= p_ and m_ != 2 for m_ in range(m) for p_ in range(p))
    assert numbers(text, M=m, P=p, W=window).get("multiply", 0) == expected


@given(st.integers(1, 8), st.integers(1, 8))
def test_the_polynomial_of_a_triangle_is_its_count_where_queries_are_no_more_than_keys(m: int, p: int) -> None:
    text, extents = "Y[m,p] = X[m] * W[p] if m <= p + M - P else 0", {"M": m, "P": p}
    if p <= m:
        count = BoundCascade.of(cascade("example", text), {}).work["Y"]["multiply"]
        assert bound(count, extents) == numbers(text, **extents)["multiply"]


def test_other_conditions_keep_a_name() -> None:
    assert one("Y[m,p] = X[m] * W[p] if m <= 2*p else 0") == {"multiply": "#(m <= 2*p)"}
    assert one("Y[m,p,e] = X[m] * W[p] * U[e] if m == p else 0") == {"multiply": "2*#(m == p)*E"}


def test_the_other_value_of_a_condition_costs_where_the_condition_fails() -> None:
    assert numbers("Y[i] = X[i] * X[i] if i < 3 else exp(X[i])", I=10) == {"multiply": 3, "exp": 7}


def test_large_triangles_take_no_time() -> None:
    """A million keys and queries are 10^12 pairs; they are counted row by row."""
    size = 1 << 20
    found = bound_work(find("attention-3pass-causal"), {"H": 1, "M": size, "P": size, "E": 1, "F": 1})
    assert found["SD"] == {"add": size * (size + 1) // 2}


def test_conditions_that_would_take_too_long_are_refused() -> None:
    with pytest.raises(CascadeSimError, match="too many points to count"):
        numbers("Y[m,p] = X[m] * W[p] if m != p else 0", M=1 << 20, P=1 << 20)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Z[m,n] = A[m,k] * B[k,n]", {"mac": "K*M*N"}),
        ("Z[m,n] = -A[m,k] * B[k,n]", {"mac": "K*M*N"}),
        ("Z[m] = A[m,k] * B[k] * C[k]", {"mac": "K*M", "multiply": "K*M"}),
        ("Z[m] max= A[m,k] * B[k]", {"max": "K*M", "multiply": "K*M"}),
        ("Z[m] = A[m] / sqrt(E)", {"divide": "M"}),  # sqrt(E) is one number
        ("Z[m1,m0] = A[m1*M0+m0]", {}),
        ("Z[m] = max(A[m], B[m], 0)", {"max": "2*M"}),
        ("Z[m] = silu(A[m])", {"exp": "M", "add": "M", "divide": "M"}),
    ],
)
def test_what_one_einsum_costs(text: str, expected: dict[str, str]) -> None:
    assert one(text) == expected


@pytest.mark.parametrize(
    ("text", "tensor", "size"),
    [
        ("Y[i] = X[i+k] * W[k]", "X", "I + K - 1"),
        ("Y[m1,m0] = X[m1*M0+m0]", "X", "M0*M1"),
        ("Y[h] = X[h] * W[h//G]", "W", "ceil(H/G)"),
        ("S[0] = 0\nS[i+1] = S[i] + X[i]", "S", "I + 1"),
        ("Y[d] = X[2*d] + X[2*d+1]", "X", "2*D"),
        ("Y = X[i]", "Y", "1"),
    ],
)
def test_sizes_of_tensors(text: str, tensor: str, size: str) -> None:
    assert str(tensor_size(cascade("example", text), tensor)) == size


def test_a_rounded_up_quotient_is_bound_as_one() -> None:
    size = tensor_size(cascade("example", "Y[h] = X[h] * W[h//G]"), "W")
    assert [bound(size, {"H": heads, "G": 4}) for heads in (4, 5, 8)] == [1, 2, 2]


def test_a_missing_extent_is_named() -> None:
    with pytest.raises(CascadeSimError, match="example: the extent K is not given"):
        numbers("Z[m,n] = A[m,k] * B[k,n]", M=1, N=2)


@pytest.mark.parametrize("name", cascade_names())
def test_polynomials_and_numbers_agree(name: str) -> None:
    """At extents where queries are as many as keys and partitions match their whole."""
    whole = find(name)
    sizes = {"M": 6, "P": 6, "M0": 3, "M1": 2, "P0": 3, "C0": 3, "C1": 2}
    extents = {name: sizes.get(name, 4) for name in (*extents_of(whole), "M", "P", "M0", "M1")}
    numbers = bound_work(whole, extents)
    for einsum, counts in BoundCascade.of(whole, {}).work.items():
        if not any("#" in str(count) for count in counts.values()):
            assert {kind: bound(count, extents) for kind, count in counts.items()} == numbers[einsum]


def found_extents(text: str, given: dict[str, int] | None = None, **shapes: tuple[int, ...]) -> dict[str, int]:
    return bind_extents(cascade("example", text), shapes, given or {})


def test_plain_ranks_are_as_long_as_their_dimension() -> None:
    assert found_extents("Z[m,n] = A[m,k] * B[k,n]", A=(2, 3), B=(3, 4)) == {"M": 2, "K": 3, "N": 4}


@pytest.mark.parametrize(
    ("text", "given", "shape", "name", "value"),
    [
        ("Y = X[m1*M0+m0]", {"M0": 4}, 12, "M1", 3),
        ("Y = X[m1*M0+m0]", {"m1": 4}, 12, "M0", 3),  # extents go by their rank's letter too
        ("Y = X[i+k]", {"K": 3}, 10, "I", 8),
        ("Y = X[2*d] + X[2*d+1]", {}, 10, "D", 5),
        ("Y = X[2*d]", {}, 9, "D", 5),
        ("Y = X[i+1] - X[i]", {}, 10, "I", 9),
        ("Y = X[h//G]", {"G": 4}, 2, "H", 8),
        ("Y = X[h//G]", {"H": 8}, 2, "G", 4),
        ("I[j] = top(X[m], KEEP)", {"KEEP": 2}, 5, "J", 2),
        ("I[j] = top(X[m], 3)", {}, 5, "J", 3),
    ],
)
def test_what_one_dimension_tells(text: str, given: dict[str, int], shape: int, name: str, value: int) -> None:
    assert found_extents(text, given, X=(shape,))[name] == value


def test_a_rank_that_only_results_have_is_told_by_them() -> None:
    assert found_extents("B[i] = X[i]\nY[j] = B[j]", X=(5,))["J"] == 5


def test_every_extent_has_a_name() -> None:
    assert set(extents_of(ATTENTION_1PASS)) == {"H", "M1", "M0", "P", "E", "F"}


@pytest.mark.parametrize(
    ("text", "given", "shapes", "message"),
    [
        ("Y = X[i] * W[i]", {}, {"X": (3,), "W": (4,)}, "W has 4 elements along 'i', expected 3 (I=3)"),
        ("Y = X[i,j]", {}, {"X": (3,)}, "X must have 2 dimensions, X[i,j], got shape (3,)"),
        ("Y = X[i]", {"I": 2}, {"X": (3,)}, "X has 3 elements along 'i', expected 2 (I=2)"),
        ("C[i] = 1 if j <= i else 0", {"I": 2}, {}, "no array says how large J is: give it as an extent"),
        ("Y = X[i]", {"N": 2}, {"X": (3,)}, "no extent 'N'; known: I"),
        ("Y = X[i]", {"I": -2}, {"X": (3,)}, "I: must be a whole number from 1, got -2"),
        ("Y = X[i]", {"I": True}, {"X": (1,)}, "I: must be a whole number from 1, got True"),
        ("I[j] = top(X[m], 3)", {"J": 2}, {"X": (5,)}, "J is 2, but 3 are kept"),
    ],
)
def test_what_does_not_fit_is_named(
    text: str, given: dict[str, int], shapes: dict[str, tuple[int, ...]], message: str
) -> None:
    with pytest.raises(CascadeSimError) as caught:
        found_extents(text, given, **shapes)
    assert str(caught.value) == f"example: {message}"


def test_an_array_along_the_kept_rank_says_how_many_are_kept() -> None:
    text = "I[j] = top(X[m], KEEP)\nZ[j] = W[j] * X[I[j]]"
    assert found_extents(text, X=(5,), W=(2,)) == {"M": 5, "J": 2, "KEEP": 2}
