"""Simple expressions of space files: parsed with `ast`, checked name by name, evaluated over whole columns at once.

Arithmetic, comparisons, `and`/`or`/`not`, `a if c else b` and a few functions; nothing of Python beyond that is
reachable. Names may be dotted (`pe_array.rows`). Numbers are float64, exact up to 2^53; texts are compared with texts
and with nothing else.
"""

from __future__ import annotations

import ast
import operator
import warnings
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from cascadesim.accelerators.catalogue import Column
from cascadesim.einsum_cascades.notation.errors import SpecError, excerpt, shortened, suggestion
from cascadesim.einsum_cascades.notation.schema import LARGEST_NUMBER

Columns: TypeAlias = Mapping[str, Column]

Kind: TypeAlias = Literal["number", "text"]

LONGEST_EXPRESSION = 500  # characters; keeps nesting within what the parser takes
DEEPEST_NESTING = 60  # keeps every recursive walk far from Python's recursion limit
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
_PARTS = (ast.BoolOp, ast.BinOp, ast.UnaryOp, ast.Compare, ast.IfExp, ast.Call, ast.Name, ast.Attribute, ast.Constant)


@dataclass(frozen=True)
class Expression:
    """One expression that has been checked; made by `parse_expression`. `where` starts what errors say of it."""

    text: str
    names: frozenset[str]
    kind: Kind
    where: str

    def evaluate(self, columns: Columns) -> Column:
        """Returns one value per row; nan and inf where arithmetic has no answer (a division by zero)."""
        with np.errstate(all="ignore"):
            found: Column = np.asarray(_evaluate(_tree(self.text), columns))
        return found

    def holds(self, columns: Columns) -> NDArray[np.bool_]:
        """Says row by row whether it is true; what has no answer is not. (rows,) bool."""
        found = self.evaluate(columns).astype(np.float64)
        held: NDArray[np.bool_] = (found != 0) & ~np.isnan(found)
        return held


def kind_of(value: object) -> Kind:
    return "text" if isinstance(value, str) else "number"


def parse_expression(text: str, known: Mapping[str, Kind], where: str) -> Expression:
    """`known`: what the expression may name. Raises SpecError that starts with `where` and points into the text."""
    if len(text) > LONGEST_EXPRESSION:
        raise SpecError(f"{where}: an expression of {len(text):,} characters; at most {LONGEST_EXPRESSION}")
    tidy = "".join(each if each.isprintable() else " " for each in text).strip()  # YAML may fold lines
    try:
        tree = _tree(tidy)
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        place = min((getattr(error, "offset", None) or 1) - 1, len(tidy))
        raise SpecError(f"{where}: not an expression: {getattr(error, 'msg', error)}{excerpt(tidy, place)}") from None
    reading = _Reading(tidy, known, where, [])
    kind = reading.kind(tree, 0)
    return Expression(tidy, frozenset(reading.names), kind, where)


def _tree(text: str) -> ast.expr:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # SyntaxWarning: `1if`
        return ast.parse(text, mode="eval").body


@dataclass(frozen=True)
class _Reading:
    """One expression on its way to be checked; `names` collects those that it uses, each time it does."""

    text: str
    known: Mapping[str, Kind]
    where: str
    names: list[str]

    def kind(self, node: ast.expr, depth: int) -> Kind:
        """The kind of a node whose parts fit together. Raises SpecError at the part that does not."""
        problem = _problem(node, self.known, self.text) if depth <= DEEPEST_NESTING else "nested too deeply"
        if problem is not None:
            raise self.error(node, problem)
        name = _name(node)
        if name is not None:
            self.names.append(name)
            return self.known[name]
        if isinstance(node, ast.Constant):
            return kind_of(node.value)
        before = len(self.names)
        found = self._fitting(node, depth)
        if len(self.names) == before:  # what holds no name has one value, which must be one: no log2(0), no 9**9**9
            with np.errstate(all="ignore"):
                value = np.asarray(_evaluate(node, {}))
            if value.dtype.kind == "f" and not abs(value) <= LARGEST_NUMBER:
                raise self.error(node, f"is {float(value):g}; numbers go up to {LARGEST_NUMBER:g}")
        return found

    def _fitting(self, node: ast.expr, depth: int) -> Kind:
        match node:
            case ast.Compare(left=left, comparators=others):
                self._alike(depth, left, *others)
                return "number"
            case ast.IfExp(test=test, body=body, orelse=orelse):
                self._numbers(depth, test)
                return self._alike(depth, body, orelse)
            case ast.BinOp(left=left, op=operation, right=right):
                self._numbers(depth, left)
                before = len(self.names)
                self._numbers(depth, right)
                constant = isinstance(operation, ast.Div | ast.FloorDiv | ast.Mod) and len(self.names) == before
                if constant and np.asarray(_evaluate(right, {})) == 0:  # whatever the fields are
                    raise self.error(right, "divides by 0")
            case ast.Call(args=operands):
                self._numbers(depth, *operands)
            case _:
                self._numbers(depth, *(part for part in ast.iter_child_nodes(node) if isinstance(part, ast.expr)))
        return "number"

    def _numbers(self, depth: int, *parts: ast.expr) -> None:
        for part in parts:
            if self.kind(part, depth + 1) == "text":
                raise self.error(part, "a text where a number is needed")

    def _alike(self, depth: int, *parts: ast.expr) -> Kind:
        kinds = [self.kind(part, depth + 1) for part in parts]
        for part, kind in zip(parts, kinds, strict=True):
            if kind != kinds[0]:
                raise self.error(part, f"a {kind} beside a {kinds[0]}")
        return kinds[0]

    def error(self, node: ast.expr, problem: str) -> SpecError:
        column = len(self.text.encode()[: node.col_offset].decode(errors="ignore"))
        return SpecError(f"{self.where}: {problem}{excerpt(self.text, column)}")


def _problem(node: ast.expr, known: Collection[str], text: str) -> str | None:
    """Says what is wrong with a node by itself, whatever its parts are; None if nothing is."""
    if not isinstance(node, _PARTS):
        return f"{type(node).__name__} is not used here; give arithmetic, comparisons, and, or, not"
    match node:
        case ast.Call(func=function):
            name = function.id if isinstance(function, ast.Name) else ast.get_source_segment(text, function) or ""
            if name not in _FUNCTIONS:
                return f"no function '{shortened(name)}'{suggestion(name, _FUNCTIONS)}"
            _, least, most = _FUNCTIONS[name]
            if node.keywords or not least <= len(node.args) <= most:
                return f"{name} takes {least if least == most else f'{least} to {most}'} operands"
        case ast.Constant(value=value):
            if type(value) not in (int, float, str):
                return f"{shortened(repr(value))} is not used here; give numbers or 'text'"
            if isinstance(value, int | float) and not abs(value) <= LARGEST_NUMBER:
                return f"a number beyond {LARGEST_NUMBER:g}"
        case ast.Name() | ast.Attribute():
            name = _name(node) or ast.get_source_segment(text, node) or ""
            return None if name in known else f"no field or name '{shortened(name)}'{suggestion(name, known)}"
    used = [*getattr(node, "ops", ()), *([node.op] if isinstance(node, ast.BinOp | ast.UnaryOp) else ())]
    foreign = [type(each).__name__ for each in used if type(each) not in _OPERATORS]
    return f"operator {foreign[0]} is not used here; known: + - * / // % ** < <= > >= == !=" if foreign else None


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
            return _OPERATORS[type(node.op)](_numbers(np.asarray(_evaluate(node.operand, columns))))
        case ast.BinOp():
            left, right = (_numbers(np.asarray(_evaluate(part, columns))) for part in (node.left, node.right))
            return _OPERATORS[type(node.op)](left, right)  # what holds counts as 1
        case ast.BoolOp():
            return reduce(_OPERATORS[type(node.op)], (_evaluate(value, columns) for value in node.values))
        case ast.Compare():
            values = [_evaluate(part, columns) for part in (node.left, *node.comparators)]
            pairs = zip(node.ops, values[:-1], values[1:], strict=True)
            return reduce(np.logical_and, (_OPERATORS[type(each)](left, right) for each, left, right in pairs))
        case ast.IfExp():
            return np.where(*(_evaluate(part, columns) for part in (node.test, node.body, node.orelse)))
        case ast.Call(func=ast.Name(id=name)):
            return _FUNCTIONS[name][0](*(_evaluate(argument, columns) for argument in node.args))
    raise AssertionError(node)  # `parse_expression` lets nothing else pass


def _numbers(column: Column) -> Column:
    """Whole numbers as float64, so that nothing wraps around; text as it is."""
    return column.astype(np.float64) if column.dtype.kind in "iub" else column
