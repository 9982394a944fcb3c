"""Expressions of space files: arithmetic on columns, and nothing else of Python."""

from __future__ import annotations

import numpy as np
import pytest

from cascadesim.einsum_cascades.notation.errors import SpecError
from cascadesim.simulator.explore.expressions import Kind, parse_expression

COLUMNS = {"pe_array.rows": np.array([16, 256]), "depth": np.array([64, 64]), "policy": np.array(["serial", "epochs"])}
KINDS: dict[str, Kind] = {"pe_array.rows": "number", "depth": "number", "policy": "text"}


def value(text: str) -> list[object]:
    return parse_expression(text, KINDS, "space").evaluate(COLUMNS).tolist()  # type: ignore[no-any-return]


def test_a_rule_of_a_published_design() -> None:
    """FuseMax artifact: 4 max(1, D // E) registers."""
    assert value("4 * max(1, pe_array.rows // depth)") == [4, 16]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("pe_array.rows >= 2 * depth", [False, True]),
        ("16 <= pe_array.rows < 256", [True, False]),
        ("depth == 64 and not pe_array.rows == 16", [False, True]),
        ("policy == 'serial' or depth > 64", [True, False]),
        ("1 if pe_array.rows > 100 else 2", [2, 1]),
        ("-log2(pe_array.rows) + sqrt(depth)", [4, 0]),
        ("ceil(pe_array.rows / 100) % 2", [1, 1]),
        ("(depth > 1) + (pe_array.rows > 16)", [1, 2]),
        ("2 ** 40 * pe_array.rows * pe_array.rows", [2.0**48, 2.0**56]),
    ],
)
def test_operators(text: str, expected: list[object]) -> None:
    assert value(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("pe_array.row > 1", "no field or name 'pe_array.row'; did you mean 'pe_array.rows'"),
        ("__import__('os').system('true')", "no function"),
        ("depth.__class__", "no field or name 'depth.__class__'"),
        ("(lambda: 1)()", "no function"),
        ("[1, 2]", "List is not used here"),
        ("maxx(1, 2)", "no function 'maxx'; did you mean 'max'"),
        ("max(1)", "max takes 2 to 9 operands"),
        ("1 +", "not an expression"),
        ("depth & 1", "operator BitAnd is not used here"),
        ("True", "True is not used here"),
        ("depth in (1, 2)", "operator In is not used here"),
        ("1" * 501, "at most 500"),
        ("(" * 230 + "1" + ")" * 230, "not an expression"),
    ],
)
def test_everything_else_is_refused_where_it_stands(text: str, message: str) -> None:
    with pytest.raises(SpecError) as caught:
        parse_expression(text, KINDS, "space: conditions.0")
    assert message in str(caught.value)
    assert str(caught.value).startswith("space: conditions.0: ")


def test_the_caret_points_at_the_name() -> None:
    with pytest.raises(SpecError) as caught:
        parse_expression("depth + dpth", KINDS, "space")
    assert str(caught.value).splitlines()[1:] == ["    depth + dpth", "            ^"]


def test_a_division_by_zero_is_no_crash() -> None:
    assert value("1 / (depth - 64)") == [np.inf, np.inf]


@pytest.mark.parametrize(
    ("text", "message", "pointed"),
    [
        ("pe_array.rows < 'a'", "a text beside a number", "'a'"),
        ("depth == policy", "a text beside a number", "policy"),
        ("max('a', 1) > 0", "a text where a number is needed", "'a'"),
        ("not 'a'", "a text where a number is needed", "'a'"),
        ("policy and depth > 1", "a text where a number is needed", "policy"),
        ("-policy", "a text where a number is needed", "policy"),
        ("policy * 2", "a text where a number is needed", "policy"),
        ("1 if policy else 2", "a text where a number is needed", "policy"),
        ("1 if depth > 1 else 'one'", "a text beside a number", "'one'"),
        ("depth < " + "9" * 320, "a number beyond 1e+30", "9999"),
        ("depth < 1e999", "a number beyond 1e+30", "1e999"),
        ("depth + 9 ** 9 ** 9", "is inf; numbers go up to 1e+30", "9 ** 9 ** 9"),
        ("depth + 1 / 0", "divides by 0", "0"),
        ("depth // (2 - 2)", "divides by 0", "2 - 2"),
        ("depth % 0.0 > 1", "divides by 0", "0.0"),
        ("depth + log2(0)", "is -inf; numbers go up to 1e+30", "log2(0)"),
        ("depth + log2(0 - 1)", "is nan; numbers go up to 1e+30", "log2"),
        ("depth + " + "-" * 100 + "1", "nested too deeply", "-"),
    ],
)
def test_what_does_not_fit_together_is_refused_where_it_stands(text: str, message: str, pointed: str) -> None:
    with pytest.raises(SpecError) as caught:
        parse_expression(text, KINDS, "space: derive.x")
    heading, line, caret = str(caught.value).splitlines()
    assert heading == f"space: derive.x: {message}"
    assert line[caret.index("^"):].startswith(pointed)


def test_texts_are_compared_and_chosen_between() -> None:
    assert value("'small' if pe_array.rows < 64 else policy") == ["small", "epochs"]
    assert value("policy < 'f'") == [False, True]


def test_what_has_no_answer_does_not_hold() -> None:
    """0/0 is not a number: neither it nor a comparison with it is true; 1/0 is larger than any number."""
    columns = {"a": np.array([0.0, 0.0, 8.0]), "b": np.array([0.0, 1.0, 2.0])}
    kinds: dict[str, Kind] = {"a": "number", "b": "number"}
    assert parse_expression("a / b", kinds, "space").holds(columns).tolist() == [False, False, True]
    assert parse_expression("b / a > 1", kinds, "space").holds(columns).tolist() == [False, True, False]


def test_a_folded_text_is_shown_in_one_line() -> None:
    with pytest.raises(SpecError) as caught:
        parse_expression("(depth +\n dpth)", KINDS, "space")
    assert str(caught.value).splitlines()[1] == "    (depth +  dpth)"
