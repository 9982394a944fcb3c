"""The notation, read as its grammar: what each construct means."""

from __future__ import annotations

from pathlib import Path

import pytest

from cascadesim.einsum_cascades.notation.ir import (
    Access,
    Apply,
    Cascade,
    Condition,
    Constant,
    Expression,
    Extent,
    Index,
    Select,
)
from cascadesim.einsum_cascades.notation.notation import cascade, parse, read_cascade, to_text


def expression(text: str) -> Expression:
    """The right-hand side of `Y[i] = text`."""
    return parse("example", f"Y[i] = {text}").einsums[0].expression


def index(text: str) -> Index:
    access = expression(f"X[{text}] + U[i,h,m1,m0,d]")
    assert isinstance(access, Apply)
    first = access.operands[0]
    assert isinstance(first, Access)
    return first.indices[0]


ROW = Index((("i", 1),))
X = Access("X", (ROW,))


def test_a_product_sums_over_what_the_left_side_lacks() -> None:
    (einsum,) = cascade("product", "Z[m,n] = A[m,k] * B[k,n]").einsums
    assert einsum.name == "Z"
    assert einsum.ranks == ("m", "n", "k")
    assert einsum.reduced_ranks == ("k",)
    assert einsum.reduction == "add"


@pytest.mark.parametrize(("symbol", "reduction"), [("=", "add"), ("+=", "add"), ("max=", "max"), ("min=", "min")])
def test_the_operator_says_how_it_reduces(symbol: str, reduction: str) -> None:
    assert parse("example", f"Y[i] {symbol} X[i,j]").einsums[0].reduction == reduction


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("m", Index((("m", 1),))),
        ("m1+1", Index((("m1", 1),), (1,))),
        ("m1*M0+m0", Index((("m1", "M0"), ("m0", 1)))),
        ("h//G", Index((("h", 1),), (), "G")),
        ("0", Index()),
        ("M1-1", Index((), ("M1", -1))),
        ("2*i+1", Index((("i", 2),), (1,))),
        ("m1*(2*M0)", Index((("m1", (2, "M0")),))),
        ("i - 1", Index((("i", 1),), (-1,))),
        ("J[i]", Index(gather=Access("J", (ROW,)))),
    ],
)
def test_indices(text: str, meaning: Index) -> None:
    assert index(text) == meaning


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("X[i]", X),
        ("X[i] + 2", Apply("add", (X, Constant(2.0)))),
        ("X[i] - X[i] - X[i]", Apply("subtract", (Apply("subtract", (X, X)), X))),
        ("X[i] * X[i] / X[i]", Apply("divide", (Apply("multiply", (X, X)), X))),
        ("-X[i]", Apply("negate", (X,))),
        ("max(X[i], 0)", Apply("max", (X, Constant(0.0)))),
        ("exp(X[i])", Apply("exp", (X,))),
        ("X[i] / E", Apply("divide", (X, Extent("E")))),
        ("X[i] if i <= 3 else -inf", Select((Condition(ROW, "<=", Index((), (3,))),), X, Constant(float("-inf")))),
        ("X[i] if 1 <= i < I else 0", Select(
            (Condition(Index((), (1,)), "<=", ROW), Condition(ROW, "<", Index((), ("I",)))), X, Constant(0.0))),
    ],
)
def test_expressions(text: str, meaning: Expression) -> None:
    assert expression(text) == meaning


def test_inputs_and_outputs_are_inferred() -> None:
    chain = cascade("chain", """
        B[i] = A[i] * W[i]
        C[i] = B[i] + A[i]
    """)
    assert chain.inputs == ("A", "W")
    assert chain.outputs == ("C",)
    assert chain.produced == ("B", "C")


def test_a_state_has_a_first_value_a_next_value_and_a_last_one() -> None:
    total = cascade("running", """
        S[0]   = 0
        S[i+1] = S[i] + X[i]       # comment
        Y      = S[I]
    """)
    assert total.iterative_ranks == ("i",)
    assert total.einsums[1].iterates == ("i",)
    assert total.einsums[1].comment == "comment"
    assert total.outputs == ("Y",)


def test_a_rank_of_the_left_side_alone_repeats_the_result() -> None:
    """Attention sinks: a running maximum begins with a number per head, for every query."""
    running = cascade("sinks", """
        RM[h,0,p]   = SINK[h]
        RM[h,m+1,p] = max(RM[h,m,p], QK[h,m,p])
    """)
    assert running.inputs == ("SINK", "QK")
    assert running.einsums[0].ranks == ("h", "p")
    assert running.einsums[0].reduced_ranks == ()


@pytest.mark.parametrize("others", [
    "Z[i] = Y[i] * U[i]", "I[i] = top(S[m], 3)", "Z[k] = U[k] if k <= i else 0",
])  # fmt: skip
def test_inputs_conditions_and_kept_fibers_give_a_rank_its_length(others: str) -> None:
    assert cascade("repeats", f"Y[i] = T[j]\n{others}").einsums[0].reduced_ranks == ("j",)


def test_a_scatter_writes_where_a_tensor_says_and_reduces_what_meets() -> None:
    (einsum,) = cascade("scatter", "Y[b,IDX[b,e],f] += W[b,e] * V[b,e,f]").einsums
    assert einsum.written_ranks == ("b", "f")
    assert einsum.reduced_ranks == ("e",)
    assert [access.tensor for access in einsum.inputs] == ["W", "V", "IDX"]
    assert einsum.scatters == (Access("IDX", (Index((("b", 1),)), Index((("e", 1),)))),)


@pytest.mark.parametrize("text", [
    "Y[IDX[e]] += V[e]", "Y[b,IDX[b,e]] max= V[e] * W[b]", "Y[O[I[j]],f] += V[j,f]", "Y[I[e],J[e]] += 1",
    "Y[N[]] += X[i]", "RM[h,0,p] = SINK[h]\nZ[h] = RM[h,0,p] * X[p]",
])  # fmt: skip
def test_scatters_and_repetitions_are_written_as_they_are_read(text: str) -> None:
    read = parse("example", text)
    assert shape(parse("example", to_text(read))) == shape(read)
    assert to_text(read).replace(" ", "") == text.replace(" ", "")


def test_a_scalar_input_is_written_with_empty_brackets() -> None:
    scaled = cascade("scaled", "Y[i] = X[i] * S[]")
    assert scaled.inputs == ("X", "S")


def test_files_of_windows_editors_are_read(tmp_path: Path) -> None:
    path = tmp_path / "mine.cascade"
    path.write_bytes(b"\xef\xbb\xbfY[i] = X[i]\r\n\tZ[i] = Y[i] * Y[i]  # squares\r\n")
    assert read_cascade(path).einsum("Z").comment == "squares"


def shape(read: Cascade) -> list[tuple[object, ...]]:
    return [(einsum.output, einsum.reduction, einsum.expression) for einsum in read.einsums]
