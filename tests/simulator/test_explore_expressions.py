"""Expressions of space files: arithmetic on columns, and nothing else of Python."""

from __future__ import annotations

import numpy as np
import pytest

from cascadesim.einsum_cascades.errors import SpecError
from cascadesim.simulator.explore_expressions import parse_expression

COLUMNS = {"pe_array.rows": np.array([16, 256]), "depth": np.array([64, 64]), "policy": np.array(["serial", "epochs"])}


def value(text: str) -> list[object]:
    return parse_expression(text, COLUMNS, "space").evaluate(COLUMNS).tolist()  # type: ignore[no-any-return]


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
        parse_expression(text, COLUMNS, "space: conditions.0")
    assert message in str(caught.value)
    assert str(caught.value).startswith("space: conditions.0: ")


def test_the_caret_points_at_the_name() -> None:
    with pytest.raises(SpecError) as caught:
        parse_expression("depth + dpth", COLUMNS, "space")
    assert str(caught.value).splitlines()[1:] == ["    depth + dpth", "            ^"]


def test_a_division_by_zero_is_no_crash() -> None:
    assert value("1 / (depth - 64)") == [np.inf, np.inf]
