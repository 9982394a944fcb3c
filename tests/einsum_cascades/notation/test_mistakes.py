"""Mistakes in the notation: how each one is named and pointed at, and that any text is read or refused."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascadesim.einsum_cascades.analysis.footprint import analyse
from cascadesim.einsum_cascades.analysis.graph import steps
from cascadesim.einsum_cascades.notation.errors import CascadeSimError, NotationError, SpecError
from cascadesim.einsum_cascades.notation.ir import Cascade
from cascadesim.einsum_cascades.notation.notation import cascade, parse, read_cascade, to_text
from cascadesim.einsum_cascades.texts import cascade_names, find


def complaint(text: str, name: str = "example") -> str:
    with pytest.raises(NotationError) as caught:
        cascade(name, text)
    return str(caught.value)


@pytest.mark.parametrize("others", [
    "Z[i] = Y[i] * U[k]", "Z[i] = X[i] + U[k]\nA[m] = B[m] + Z[i]", "I[n] = top(S[m], 3)\nZ[i] = X[i]",
])  # fmt: skip
def test_a_misspelt_rank_is_no_repetition(others: str) -> None:
    """Only a rank of an input, a condition or kept fibers has a length of its own."""
    text = f"Y[i] = T[j]\n{others.replace('X[i]', 'Y[i]')}"
    assert "rank 'i' of Y does not stand on the right side" in complaint(text)


def test_a_diamond_is_a_stopping_condition() -> None:
    assert "line 2: a diamond (EDGE) is a stopping condition" in complaint("S[0] = X[]\n\u25c7: i == 3")


def test_an_unknown_reduction_is_shown_where_it_stands() -> None:
    """The text of the design page, to the letter."""
    assert complaint("""
    QK[h,m,p] = Q[h,p,e] * K[h,m,e]
    GM[h,p] mean= QK[h,m,p]
    """, "attention-3pass") == (
        "attention-3pass, line 2: unknown reduction 'mean='; known: =, +=, max=, min=\n"
        "    GM[h,p] mean= QK[h,m,p]\n"
        "            ^"
    )


@pytest.mark.parametrize(
    ("text", "message", "pointed"),
    [
        ("Y[i] = expp(X[i])", "unknown operator 'expp'; did you mean 'exp'?", "expp"),
        ("Y[i] = X[i] ** 2", "'pow' is not an operator of the notation; known: + - * /", "X[i] **"),
        ("Y[i] = X[i", "syntax: '[' was never closed", "[i"),
        ("Y[i] = x + X[i]", "'x' is neither a tensor", "x +"),
        ("Y[i] = X[i*j]", "'i*j' multiplies two ranks", "i*j"),
        ("Y[i] = X[iI]", "index 'iI' is neither a rank (lower case) nor an extent (upper case)", "iI"),
        ("Y[i] = exp(X[i], 2)", "exp takes 1, got 2", "exp("),
        ("Y[i] = X[j]", "rank 'i' of Y does not stand on the right side", "Y["),
        ("Y[i] + X[i]", "expected Tensor[index,...] = expression", "Y["),
        ("Y[i,i] = X[i]", "rank 'i' stands twice on the left side", "Y["),
        ("Y[i] = Y[i] + X[i]", "Y is read here by the line that produces it", "Y[i] +"),
        ("Y[i+1] = Y[i] + X[i]", "Y has no value at 0 to start from", "Y[i+1]"),
        ("Y[i] = X[i] if i else 0", "a condition compares coordinates, such as m <= p", "i else"),
        ("Y[i] = 2 * top(X[m], 3)", "top works on whole fibers", "top("),
        ("Y[i] = top(X[m], 2.5)", "top takes a fiber and how many to keep", "top("),
        ("Y[i//2] = X[i]", "the left side takes ranks", "Y["),
        ("Y[i] = X[i] and X[i]", "'bool op' is not part of the notation", "X[i] and"),
        ("Y[i] = 'text'", "str is not a number of the notation", "'text'"),
        ("Y[i] = X[" + "i," * 32 + "i]", "X has 33 indices; at most 32", "X["),
        ("Y[b] = K[b, P: p]", "'P: p' renames a rank, which the notation does not do", "P: p]"),
        ("Y[m: p] = K[p]", "'P: p' renames a rank", "m: p]"),
        ("Y[i] = take(X[i], W[i], 0)", "take (one operand where another is not empty) is not part", "take("),
        ("Y[i] = X[i] until i > 3", "'until' is a stopping condition, which the notation lacks", "until"),
        ("Y[i] = X[i] while Y[i] > 3", "'while' is a stopping condition", "while"),
        ("Y[E[e]] += V[e]", "nothing says how long Y is (E is the length of rank 'e'): rename E", "Y["),
        ("Y[I[j]] = top(X[m], 3)", "top exchanges one rank for another", "Y["),
        ("Y[I[j]//2] += X[j]", "'subscript' is no index", "I[j]"),
        ("Y[b,I[j]] += X[j]", "rank 'b' of Y does not stand on the right side", "Y["),
    ],
)
def test_mistakes_are_named_and_pointed_at(text: str, message: str, pointed: str) -> None:
    shown = complaint(text)
    first, *rest = shown.splitlines()
    assert first.startswith("example, line 1: ")
    assert message in first
    line, caret = rest
    assert line[caret.index("^"):].startswith(pointed)


def test_all_mistakes_of_a_text_are_reported_at_once() -> None:
    with pytest.raises(NotationError) as caught:
        cascade("example", """
            QK[h,m,p] = Q[h,p,e] * K[h,m,e
            GM[h,p] mean= QK[h,m,p]
            SN[h,m,p] = exq(QK[h,m,p] - GM[h,p])
        """)
    assert [problem.splitlines()[0] for problem in caught.value.problems] == [
        "example, line 1: syntax: '[' was never closed",
        "example, line 2: unknown reduction 'mean='; known: =, +=, max=, min=",
        "example, line 3: unknown operator 'exq'; did you mean 'exp'?",
    ]


def test_a_tensor_keeps_its_number_of_indices() -> None:
    assert "X has 2 indices here and 1 on line 1" in complaint("A[i] = X[i]\nB[i] = X[i,i]")


def test_a_tensor_is_defined_once() -> None:
    assert "Y is already defined on line 1" in complaint("Y[i] = X[i]\nY[i] = W[i]")


def test_a_tensor_is_read_after_its_line() -> None:
    assert "B is read here and produced on line 2" in complaint("A[i] = B[i]\nB[i] = X[i]")


def test_the_extent_is_no_element() -> None:
    assert "'I' is an extent, one past the last element of A; did you mean 'i'?" in complaint("A[i] = X[i]\nY = A[I]")


def test_an_empty_text_is_no_cascade() -> None:
    assert complaint("   # nothing\n") == "example, line 1: no Einsum in it"


def test_a_file_is_named_after_itself_and_reports_its_lines(tmp_path: Path) -> None:
    path = tmp_path / "mine.cascade"
    path.write_text("# my cascade\n\nY[i] = X[i] *\nZ[i] mean= Y[i]\n", encoding="utf-8")
    with pytest.raises(NotationError) as caught:
        read_cascade(path)
    assert "mine, line 3: syntax" in str(caught.value)
    assert "mine, line 4: unknown reduction" in str(caught.value)


@pytest.mark.parametrize("line", [
    "a" * 100_000, "a" * 9_990, "A" + " " * 9_980 + "=", "A[" * 4_990, "A" + "[ ]" * 3_000, "a_" * 4_990 + "== 1",
    "A" + "+" * 9_900, "Y " + "m" * 9_900 + " = X",
])  # fmt: skip
def test_a_line_is_scanned_once(line: str) -> None:
    """Not done in 11 s of CPU, and 2.7 s for 9,990 characters, when each part could begin anywhere."""
    began = time.process_time()
    with pytest.raises(NotationError):
        cascade("long", line)
    assert time.process_time() - began < 0.3


def test_more_einsums_than_a_model_has_are_refused() -> None:
    with pytest.raises(NotationError, match=r"long: 1,001 Einsums; at most 1,000"):
        cascade("long", "Y[i] = X[i]\n" * 1001)


def test_a_long_line_is_shown_around_the_mistake() -> None:
    heading, line, caret = complaint("Y[i] = " + "X[i] + " * 50 + "squar(X[i])").splitlines()
    assert heading == "example, line 1: unknown operator 'squar'; did you mean 'square'?"
    assert line[caret.index("^"):].startswith("squar(X[i])")


def test_a_directory_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="cannot be read: Is a directory"):
        read_cascade(tmp_path)


@pytest.mark.parametrize("content", [b"\xff\xfe", None])
def test_a_file_that_cannot_be_read_gets_one_line(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "mine.cascade"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SpecError, match=r"mine\.cascade: cannot be read: ") as caught:
        read_cascade(path)
    assert len(str(caught.value).splitlines()) == 1


def shape(read: Cascade) -> list[tuple[object, ...]]:
    return [(einsum.output, einsum.reduction, einsum.expression) for einsum in read.einsums]


def read_or_refused(text: str) -> None:
    """Either a cascade, which can be written back and analysed, or our errors: any other exception fails the test."""
    try:
        read = parse("fuzzed", text)
        assert shape(parse("fuzzed", to_text(read))) == shape(read)
        analyse(read).to_dict()
        steps(read)
    except CascadeSimError:
        pass


ALPHABET = "XYZxyzijkMN0123456789[](),.+-*/%=<>!#'\"\\ \t\n{}:@^&|~eE_"


@settings(max_examples=150, deadline=None)
@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    read_or_refused(text)


@settings(max_examples=150, deadline=None)
@given(st.text(alphabet=ALPHABET, max_size=60), st.sampled_from(["Y[i] = ", "Y[i] max= ", "", "S[0] = 0\nS[i+1] = "]))
def test_any_right_hand_side_is_read_or_refused(text: str, start: str) -> None:
    read_or_refused(start + text)


TEXTS = [*(find(name).text for name in cascade_names()), "Y[b,IDX[e]] += V[b,e]\nZ[n] = Y[0,n] * X[2,n]",
         "R[h,0,p] = S[h]\nR[h,i+1,p] = max(R[h,i,p], X[h,i,p])\nY[J[h],p] max= R[h,I,p]"]


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(TEXTS), st.data())
def test_any_near_miss_of_a_real_cascade_is_read_or_refused(text: str, data: st.DataObject) -> None:
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(text)))
        length = data.draw(st.integers(0, 3))
        text = text[:place] + data.draw(st.text(alphabet=ALPHABET, max_size=2)) + text[place + length:]
    read_or_refused(text)


TOKENS = ["X[i]", "Y[i,j]", "exp(", "max(", "top(", ")", "+", "-", "*", "/", "if", "else", "and", "i", "I", "<=", "==",
          "0", "1e999", "inf", ",", "[", "]", "=", "max=", "\n", "S[0]", "S[i+1]", "S[I]", "X[J[i]]", "Y[J[i]]",
          "X[0,i]", ":", "take(", "until", "3", "not"]


@settings(max_examples=150, deadline=None)
@given(st.lists(st.sampled_from(TOKENS), max_size=30).map(" ".join))
def test_any_run_of_tokens_is_read_or_refused(text: str) -> None:
    read_or_refused(text)


@pytest.mark.parametrize(
    "text",
    ["Y[i] = " + "(" * 5000, "Y[i] = " + "-" * 3000 + "X[i]", "Y[i] = X[" + "J[" * 3000,
     "Y[i] = " + "X[i]+" * 2000 + "0", "Y[i] = " + "X[i]+" * 50 + "0",
     "Y = 1" + "0" * 5000, "Y[i] = X[i*" + "9" * 4000 + "]", "Y[" + "i," * 4000 + "] = 0", "\0", "Y[i]\x0c= X[i]",
     "Y[i] = X[i] if " + "i < 3 and " * 800 + "i < 2 else 0"],
)
def test_monstrous_texts_are_read_or_refused(text: str) -> None:
    read_or_refused(text)
