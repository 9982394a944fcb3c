"""Simple expressions of space files: parsed with `ast`, checked name by name, evaluated over whole columns at once.

Arithmetic, comparisons, `and`/`or`/`not`, `a if c else b` and a few functions; nothing of Python beyond that is
reachable. Names may be dotted (`pe_array.rows`). Numbers are float64, exact up to 2^53.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from cascadesim.einsum_cascades.errors import SpecError, suggestion

Column: TypeAlias = NDArray[np.generic]
Columns: TypeAlias = Mapping[str, Column]

LONGEST_EXPRESSION = 500  # characters; keeps nesting within what the parser takes
_Value: TypeAlias = Any  # a column or a number: NumPy treats them alike

_OPERATORS: Mapping[type[ast.AST], Callable[..., _Value]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv, ast.Mod: operator.mod, ast.Pow: operator.pow,
    ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt, ast.GtE: operator.ge,
    ast.Eq: operator.eq, ast.NotEq: operator.ne,
    ast.And: np.logical_and, ast.Or: np.logical_or, ast.Not: np.logical_not,
    ast.USub: operator.neg, ast.UAdd: operator.pos,
}  # fmt: skip
_FUNCTIONS: Mapping[str, tuple[Callable[..., _Value], int, int]] = {  # function, least and most operands
    "min": (lambda *values: reduce(np.minimum, values), 2, 9),
    "max": (lambda *values: reduce(np.maximum, values), 2, 9),
    "abs": (np.abs, 1, 1), "sqrt": (np.sqrt, 1, 1), "log2": (np.log2, 1, 1), "ceil": (np.ceil, 1, 1),
    "floor": (np.floor, 1, 1), "round": (np.round, 1, 1),
}  # fmt: skip
_PARTS = (
    ast.BoolOp, ast.BinOp, ast.UnaryOp, ast.Compare, ast.IfExp, ast.Call, ast.Name, ast.Attribute, ast.Constant,
)  # fmt: skip


@dataclass(frozen=True)
class Expression:
    """One expression that has been checked; made by `parse_expression`."""

    text: str
    names: frozenset[str]

    def evaluate(self, columns: Columns) -> Column:
        """One value per row; nan and inf where arithmetic has no answer (a division by zero)."""
        with np.errstate(all="ignore"):
            found: Column = np.asarray(_evaluate(_tree(self.text), columns))
        return found


def parse_expression(text: str, known: Collection[str], where: str) -> Expression:
    """Raises SpecError that starts with `where`, shows the expression and points into it."""
    if len(text) > LONGEST_EXPRESSION:
        raise SpecError(f"{where}: an expression of {len(text)} characters; at most {LONGEST_EXPRESSION}")
    try:
        tree = _tree(text)
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        place = (getattr(error, "offset", None) or 1) - 1
        raise SpecError(_pointed(f"{where}: not an expression: {getattr(error, 'msg', error)}", text, place)) from None
    names: set[str] = set()
    _check(tree, text, known, where, names)
    return Expression(text, frozenset(names))


def _tree(text: str) -> ast.expr:
    return ast.parse(text.strip(), mode="eval").body


def _pointed(message: str, text: str, column: int) -> str:
    return f"{message}\n    {text.strip()}\n    {' ' * column}^"


def _check(node: ast.expr, text: str, known: Collection[str], where: str, names: set[str]) -> None:
    """Walk over everything reachable; collect the names."""
    problem = _problem(node, known)
    if problem is not None:
        raise SpecError(_pointed(f"{where}: {problem}", text, node.col_offset))
    name = _name(node)
    if name is not None:
        names.add(name)
        return
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.expr) and not (isinstance(node, ast.Call) and child is node.func):
            _check(child, text, known, where, names)


def _problem(node: ast.expr, known: Collection[str]) -> str | None:
    if not isinstance(node, _PARTS):
        return f"{type(node).__name__} is not used here; give arithmetic, comparisons, and, or, not"
    if isinstance(node, ast.Call):
        return _call_problem(node)
    if isinstance(node, ast.Constant) and type(node.value) not in (int, float, str):
        return f"{node.value!r} is not used here; give numbers or 'text'"
    used = [*getattr(node, "ops", ()), *([node.op] if isinstance(node, ast.BinOp | ast.UnaryOp) else ())]
    foreign = [type(each).__name__ for each in used if type(each) not in _OPERATORS]
    if foreign:
        return f"operator {foreign[0]} is not used here; known: + - * / // % ** < <= > >= == !="
    if isinstance(node, ast.Name | ast.Attribute):
        name = _name(node)
        return None if name in known else f"no field or name '{name or ast.unparse(node)}'{_close(name, known)}"
    return None


def _call_problem(node: ast.Call) -> str | None:
    name = node.func.id if isinstance(node.func, ast.Name) else ast.unparse(node.func)
    if name not in _FUNCTIONS:
        return f"no function '{name}'{suggestion(name, _FUNCTIONS)}"
    _, least, most = _FUNCTIONS[name]
    if node.keywords or not least <= len(node.args) <= most:
        return f"{name} takes {least if least == most else f'{least} to {most}'} operands"
    return None


def _close(name: str | None, known: Collection[str]) -> str:
    return suggestion(name or "", known)


def _name(node: ast.AST) -> str | None:
    """`a` and `a.b.c`; None for everything else."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        above = _name(node.value)
        return None if above is None else f"{above}.{node.attr}"
    return None


def _evaluate(node: ast.expr, columns: Columns) -> _Value:
    match node:
        case ast.Constant(value=value):
            return float(value) if isinstance(value, int | float) else value
        case ast.Name() | ast.Attribute():
            return _numbers(columns[_name(node) or ""])
        case ast.UnaryOp():
            return _OPERATORS[type(node.op)](_evaluate(node.operand, columns))
        case ast.BinOp():
            left, right = (_numbers(np.asarray(_evaluate(part, columns))) for part in (node.left, node.right))
            return _OPERATORS[type(node.op)](left, right)  # what holds counts as 1
        case ast.BoolOp():
            return reduce(_OPERATORS[type(node.op)], (_evaluate(value, columns) for value in node.values))
        case ast.Compare():
            return _compared(node, columns)
        case ast.IfExp():
            return np.where(*(_evaluate(part, columns) for part in (node.test, node.body, node.orelse)))
        case ast.Call(func=ast.Name(id=name)):
            return _FUNCTIONS[name][0](*(_evaluate(argument, columns) for argument in node.args))
    raise AssertionError(node)  # `parse_expression` lets nothing else pass


def _compared(node: ast.Compare, columns: Columns) -> _Value:
    values = [_evaluate(part, columns) for part in (node.left, *node.comparators)]
    pairs = zip(node.ops, values[:-1], values[1:], strict=True)
    return reduce(np.logical_and, (_OPERATORS[type(each)](left, right) for each, left, right in pairs))


def _numbers(column: Column) -> Column:
    """Whole numbers as float64, so that nothing wraps around; text as it is."""
    return column.astype(np.float64) if column.dtype.kind in "iub" else column
