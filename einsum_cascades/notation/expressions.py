"""Right-hand sides and indices: Python's expression grammar (`ast`), read into the IR.

Knows one expression at a time; `notation` knows lines and the whole cascade. Every problem is noted with its column
and reading goes on, so that one run reports them all.
"""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from cascadesim.einsum_cascades.notation import ir
from cascadesim.einsum_cascades.notation.algebra import Polynomial, as_index, factor, polynomial, symbol
from cascadesim.einsum_cascades.notation.errors import shortened, suggestion
from cascadesim.einsum_cascades.notation.operators import ELEMENTWISE, FIBER

MOST_INDICES = 32  # of one tensor: as many dimensions as NumPy arrays always could have
DEEPEST_NESTING = 60  # keeps every recursive walk far from Python's recursion limit
LARGEST_COORDINATE = 2**53  # exact in float64 and far beyond any tensor
RANK = re.compile(r"[a-z][a-z0-9_]*")
EXTENT = re.compile(r"[A-Z][A-Z0-9_]*")
BINARY: dict[type[ast.operator], str] = {ast.Add: "add", ast.Sub: "subtract", ast.Mult: "multiply", ast.Div: "divide"}
COMPARISONS: dict[type[ast.cmpop], ir.Comparison] = {
    ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=", ast.Eq: "==", ast.NotEq: "!=",
}  # fmt: skip
NO_STOPPING = "is a stopping condition, which the notation lacks: a rank has a known number of steps, such as I of S[I]"
# what other notations for extended Einsums write, and what to write here
ELSEWHERE = {
    "take": "take (one operand where another is not empty) is not part of the notation, whose tensors are dense: write "
            "a condition, such as X[i] if LO[] <= i else 0, or a product",
}
_STOPPING = re.compile(r"\b(?:while|until)\b")
Built = TypeVar("Built", bound=ir.Expression)
WRONG: ir.Expression = ir.Constant(0.0)  # stands for what could not be read; a problem is noted wherever it is used


@dataclass(frozen=True, slots=True, order=True)
class NotationProblem:
    """Something wrong at a 1-based line and a 0-based column."""

    line: int
    column: int
    message: str


class Unreadable(Exception):
    """Internal: this part cannot be read; caught where reading goes on."""

    def __init__(self, node: ast.AST, message: str) -> None:
        super().__init__(message)
        self.node = node
        self.message = message


def parse(text: str, column: int, line: int) -> ast.expr | NotationProblem:
    """Python's syntax tree of `text`, which starts at `column`."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # SyntaxWarning: `1if`
            return ast.parse(text, mode="eval").body
    except SyntaxError as error:
        stopping = _STOPPING.search(text)
        if stopping is not None:
            return NotationProblem(line, column + stopping.start(), f"'{stopping.group()}' {NO_STOPPING}")
        return NotationProblem(line, column + min(max((error.offset or 1) - 1, 0), len(text)), f"syntax: {error.msg}")
    except (RecursionError, MemoryError):
        return NotationProblem(line, column, "syntax: nested too deeply")
    except (ValueError, OverflowError) as error:
        return NotationProblem(line, column, f"syntax: {error}")


@dataclass(slots=True)
class Reader:
    """Reads the expressions of one line; `scalars` are the tensors without indices that the cascade produces."""

    line: int
    scalars: frozenset[str]
    column: int = 0  # of the expression being read
    problems: list[NotationProblem] = field(default_factory=list)
    accesses: list[tuple[ir.Access, int]] = field(default_factory=list)  # with columns

    def read(self, text: str, column: int) -> ir.Expression:
        return self._whole(text, column, lambda tree: self._expression(tree, 0), WRONG)

    def read_target(self, text: str, column: int) -> ir.Access:
        """The left-hand side: `RM[h,m1+1,p]` or `Y`."""
        return self._whole(text, column, self._target, ir.Access("", ()))

    def _whole(self, text: str, column: int, build: Callable[[ast.expr], Built], wrong: Built) -> Built:
        self.column = column
        tree = parse(text, column, self.line)
        if isinstance(tree, NotationProblem):
            self.problems.append(tree)
            return wrong
        try:
            return build(tree)
        except Unreadable as error:
            self._note(error)
            return wrong

    def _note(self, error: Unreadable) -> None:
        self.problems.append(NotationProblem(self.line, self._column_of(error.node), error.message))

    def _column_of(self, node: ast.AST) -> int:
        return self.column + int(getattr(node, "col_offset", 0))

    def _target(self, tree: ast.expr) -> ir.Access:
        if isinstance(tree, ast.Name):
            return ir.Access(tree.id, ())
        if not isinstance(tree, ast.Subscript):
            raise Unreadable(tree, "the left side must be one tensor, such as QK[h,m,p]")
        return self._access(tree, 0)

    def _expression(self, node: ast.expr, depth: int) -> ir.Expression:
        if depth > DEEPEST_NESTING:
            raise Unreadable(node, f"nested deeper than {DEEPEST_NESTING} levels")
        match node:
            case ast.Constant():
                return ir.Constant(_number(node))
            case ast.Name():
                return self._name(node)
            case ast.Subscript():
                access = self._access(node, depth)
                self.accesses.append((access, self._column_of(node)))
                return access
            case ast.UnaryOp() | ast.BinOp():
                return self._arithmetic(node, depth)
            case ast.Call():
                return self._call(node, depth)
            case ast.IfExp():
                value, otherwise = self._operand(node.body, depth), self._operand(node.orelse, depth)
                return ir.Select(tuple(self._conditions(node.test)), value, otherwise)
        raise Unreadable(node, f"{_kind(node)} is not part of the notation")

    def _operand(self, node: ast.expr, depth: int) -> ir.Expression:
        """An inner expression; what is wrong in it is noted, and its siblings are still read."""
        try:
            return self._expression(node, depth + 1)
        except Unreadable as error:
            self._note(error)
            return WRONG

    def _name(self, node: ast.Name) -> ir.Expression:
        if node.id in self.scalars:
            access = ir.Access(node.id, ())
            self.accesses.append((access, self._column_of(node)))
            return access
        if node.id == "inf":
            return ir.Constant(float("inf"))
        if EXTENT.fullmatch(node.id):
            return ir.Extent(node.id)
        raise Unreadable(node, f"'{node.id}' is neither a tensor (no line produces it), nor an extent (upper case); "
                               f"a scalar input is written {node.id}[]")

    def _arithmetic(self, node: ast.UnaryOp | ast.BinOp, depth: int) -> ir.Expression:
        if isinstance(node, ast.BinOp):
            name = BINARY.get(type(node.op))
            if name is None:
                raise Unreadable(node, f"{_kind(node.op)} is not an operator of the notation; known: + - * /")
            return ir.Apply(name, (self._operand(node.left, depth), self._operand(node.right, depth)))
        if not isinstance(node.op, ast.UAdd | ast.USub):
            raise Unreadable(node, f"{_kind(node.op)} is not an operator of the notation; known: + - * /")
        operand = self._operand(node.operand, depth)
        if isinstance(node.op, ast.UAdd):
            return operand
        return ir.Constant(-operand.value) if isinstance(operand, ir.Constant) else ir.Apply("negate", (operand,))

    def _call(self, node: ast.Call, depth: int) -> ir.Expression:
        name = node.func.id if isinstance(node.func, ast.Name) else None
        if name is None or node.keywords:
            raise Unreadable(node, "an operator is called by its name with operands only, such as exp(x)")
        if name in FIBER:
            return self._fiber(name, node, depth)
        operands = tuple(self._operand(operand, depth) for operand in node.args)
        operator = ELEMENTWISE.get(name)
        if operator is None:
            unknown = f"unknown operator '{name}'{suggestion(name, (*ELEMENTWISE, *FIBER))}"
            raise Unreadable(node, ELSEWHERE.get(name, unknown))
        if operator.operands is None and len(operands) < 2:
            raise Unreadable(node, f"{name} takes two or more operands, got {len(operands)}")
        if operator.operands is not None and len(operands) != operator.operands:
            raise Unreadable(node, f"{name} takes {operator.operands}, got {len(operands)}")
        return ir.Apply(name, operands)

    def _fiber(self, name: str, node: ast.Call, depth: int) -> ir.Expression:
        if depth:
            raise Unreadable(node, f"{name} works on whole fibers and must be the whole right-hand side")
        operands = tuple(self._operand(operand, depth) for operand in node.args)
        keep = operands[1] if len(operands) == 2 else None
        number = keep.value if isinstance(keep, ir.Constant) else 0
        if not isinstance(keep, ir.Extent) and (number < 1 or number % 1):
            raise Unreadable(node, f"{name} takes a fiber and how many to keep, such as {name}(S[p,m], KEEP)")
        return ir.Apply(name, operands)

    def _conditions(self, node: ast.expr) -> list[ir.Condition]:
        if isinstance(node, ast.BoolOp) and isinstance(node.op, ast.And):
            return [condition for part in node.values for condition in self._conditions(part)]
        if not isinstance(node, ast.Compare):
            raise Unreadable(node, "a condition compares coordinates, such as m <= p; several are joined by 'and'")
        sides = [self._index(side, 0) for side in (node.left, *node.comparators)]
        found = []
        for left, operator, right in zip(sides, node.ops, sides[1:], strict=False):
            if type(operator) not in COMPARISONS:
                raise Unreadable(node, f"{_kind(operator)} is no comparison; known: < <= > >= == !=")
            found.append(ir.Condition(left, COMPARISONS[type(operator)], right))
        return found

    def _access(self, node: ast.Subscript, depth: int) -> ir.Access:
        if not isinstance(node.value, ast.Name):
            raise Unreadable(node, "only a tensor's name can be indexed")
        parts = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        if len(parts) > MOST_INDICES:
            raise Unreadable(node, f"{shortened(node.value.id)} has {len(parts):,} indices; at most {MOST_INDICES}")
        return ir.Access(node.value.id, tuple(self._index(part, depth) for part in parts))

    def _index(self, node: ast.expr, depth: int) -> ir.Index:
        if isinstance(node, ast.Slice):
            raise Unreadable(node, "'P: p' renames a rank, which the notation does not do: a dimension is known by its "
                                   "place; write the index alone, as in K[b,p]")
        if isinstance(node, ast.Subscript):
            if depth > DEEPEST_NESTING:
                raise Unreadable(node, f"nested deeper than {DEEPEST_NESTING} levels")
            access = self._access(node, depth + 1)
            self.accesses.append((access, self._column_of(node)))
            return ir.Index(gather=access)
        if isinstance(node, ast.Name) and node.id in self.scalars:
            self.accesses.append((ir.Access(node.id, ()), self._column_of(node)))
            return ir.Index(gather=ir.Access(node.id, ()))
        try:
            if isinstance(node, ast.BinOp) and isinstance(node.op, ast.FloorDiv):
                return as_index(_coordinate(node.left, 0), self._divisor(node.right))
            return as_index(_coordinate(node, 0))
        except ValueError as error:
            raise Unreadable(node, str(error)) from None

    def _divisor(self, node: ast.expr) -> ir.Factor:
        total = _coordinate(node, 0)
        if len(total.terms) == 1 and not total.ranks and all(number >= 1 for number in total.terms.values()):
            return factor(total)
        raise Unreadable(node, "a coordinate is divided by an extent or a number from 1, such as h//G")


def _coordinate(node: ast.expr, depth: int) -> Polynomial:
    """A sum of ranks times extents. Raises ValueError or Unreadable where the node is none."""
    if depth > DEEPEST_NESTING:
        raise Unreadable(node, f"nested deeper than {DEEPEST_NESTING} levels")
    match node:
        case ast.Constant(value=int(value)) if not isinstance(value, bool):
            if value > LARGEST_COORDINATE:
                raise Unreadable(node, f"coordinate larger than {LARGEST_COORDINATE}")
            return polynomial(value)
        case ast.Name(id=name):
            if not RANK.fullmatch(name) and not EXTENT.fullmatch(name):
                raise Unreadable(node, f"index '{name}' is neither a rank (lower case) nor an extent (upper case)")
            return symbol(name)
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_coordinate(operand, depth + 1)
        case ast.BinOp(left=left, op=ast.Add() | ast.Sub() | ast.Mult() as operator, right=right):
            first, second = _coordinate(left, depth + 1), _coordinate(right, depth + 1)
            return _combined(node, operator, first, second)
    raise Unreadable(node, f"{_kind(node)} is no index; an index is a rank, rank+1, m1*M0+m0, h//G, 0, an extent, "
                           "or a tensor of coordinates")


def _combined(node: ast.expr, operator: ast.operator, first: Polynomial, second: Polynomial) -> Polynomial:
    if isinstance(operator, ast.Mult):
        if first.ranks and second.ranks:
            raise ValueError(f"'{first.ranks[0]}*{second.ranks[0]}' multiplies two ranks")
        total = first * second
    else:
        total = first + second if isinstance(operator, ast.Add) else first - second
    small = all(-LARGEST_COORDINATE <= number <= LARGEST_COORDINATE for number in total.terms.values())
    if not small or len(total.terms) > 64:
        raise Unreadable(node, f"coordinate larger than {LARGEST_COORDINATE}")
    return total


def _number(node: ast.Constant) -> float:
    value = node.value
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Unreadable(node, f"{type(value).__name__} is not a number of the notation")
    try:
        return float(value)
    except OverflowError:
        raise Unreadable(node, "number too large") from None


def _kind(node: ast.AST) -> str:
    """`BitXor` -> 'bit xor': how Python's grammar calls a construct, in words."""
    return "'" + re.sub(r"(?<=[a-z])(?=[A-Z])", " ", type(node).__name__).lower() + "'"
