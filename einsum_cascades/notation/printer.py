"""Cascade -> text, in the notation: `parse(name, to_text(cascade))` has the same Einsums."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from cascadesim.einsum_cascades.notation.affine import index_text
from cascadesim.einsum_cascades.notation.ir import (
    Access,
    Apply,
    Cascade,
    Condition,
    Constant,
    Einsum,
    Expression,
    Extent,
    Index,
    Reduction,
    Select,
)
from cascadesim.einsum_cascades.notation.operators import SYMBOLS

REDUCTION_SYMBOLS: Mapping[Reduction, str] = MappingProxyType({"add": "=", "max": "max=", "min": "min="})
_CONDITIONAL, _SUM, _PRODUCT, _SIGN, _ATOM = range(5)  # how tightly a construct binds
_BINDING = MappingProxyType({"add": _SUM, "subtract": _SUM, "multiply": _PRODUCT, "divide": _PRODUCT})
_WHOLE = 2.0**53  # whole numbers up to here are written without a point


def to_text(cascade: Cascade) -> str:
    """One line an Einsum, operators below each other, comments kept."""
    width = max((len(_target(einsum)) for einsum in cascade.einsums), default=0)
    return "\n".join(einsum_text(einsum, width) for einsum in cascade.einsums)


def einsum_text(einsum: Einsum, width: int = 0) -> str:
    """The line of an Einsum, its left side as wide as `width`."""
    line = f"{_target(einsum):<{width}} {REDUCTION_SYMBOLS[einsum.reduction]} {expression_text(einsum.expression)}"
    return f"{line}   # {einsum.comment}" if einsum.comment else line


def _target(einsum: Einsum) -> str:
    return access_text(einsum.output).removesuffix("[]")


def access_text(access: Access) -> str:
    return f"{access.tensor}[{','.join(map(_index, access.indices))}]"


def expression_text(expression: Expression) -> str:
    return _text(expression, _CONDITIONAL)


def _index(index: Index) -> str:
    return index_text(index) if index.gather is None else access_text(index.gather)


def _text(expression: Expression, around: int) -> str:
    """Text of an expression, in brackets where what is around it binds more tightly."""
    text, binding = _bare(expression)
    return f"({text})" if binding < around else text


def _bare(expression: Expression) -> tuple[str, int]:
    match expression:
        case Access():
            return access_text(expression), _ATOM
        case Constant(value=value):
            return _number(value), _SIGN if value < 0 else _ATOM
        case Extent(name=name):
            return name, _ATOM
        case Apply(operator="negate", operands=(operand,)):
            return f"-{_text(operand, _ATOM)}", _SIGN
        case Apply(operator=name, operands=(left, right)) if name in SYMBOLS:
            binding = _BINDING[name]
            return f"{_text(left, binding)} {SYMBOLS[name]} {_text(right, binding + 1)}", binding
        case Apply(operator=name, operands=operands):
            return f"{name}({', '.join(_text(operand, _CONDITIONAL) for operand in operands)})", _ATOM
        case Select(conditions=conditions, value=value, otherwise=otherwise):
            test = " and ".join(map(condition_text, conditions))
            return f"{_text(value, _SUM)} if {test} else {_text(otherwise, _SUM)}", _CONDITIONAL


def condition_text(condition: Condition) -> str:
    return f"{_index(condition.left)} {condition.comparison} {_index(condition.right)}"


def _number(value: float) -> str:
    return str(int(value)) if abs(value) <= _WHOLE and value == int(value) else repr(value)
