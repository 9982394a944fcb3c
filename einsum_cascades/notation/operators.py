"""The operators of the notation: name -> what it computes (NumPy) and which operations one application costs.

Adding an operator is adding a row. Operation classes are those an accelerator prices: mac, add, multiply, max, min,
exp, divide, compare, sqrt, log, erf, ... What an operation costs on a unit is the accelerator's business. Also says
what an Einsum is: a whole-fiber one, a copy, one whose result has dimensions of no known length.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from cascadesim.einsum_cascades.notation.errors import suggestion
from cascadesim.einsum_cascades.notation.ir import (
    Apply,
    Cascade,
    Condition,
    Constant,
    Einsum,
    Expression,
    Extent,
    Select,
    accesses,
    bound_ranks,
    conditions,
    walk,
)

Values = NDArray[np.float64]
Coordinates = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Operator:
    """An element-wise operator; `costs` is what one application costs (per pair, where it takes any number)."""

    name: str
    function: Callable[..., Values]
    costs: tuple[tuple[str, int], ...]
    operands: int | None = 1  # None: two or more


@dataclass(frozen=True, slots=True)
class FiberOperator:
    """An operator on a whole fiber: it names `keep` coordinates of the fiber. Costs are per element of the fiber."""

    name: str
    function: Callable[[Values, int], Coordinates]
    costs: tuple[tuple[str, int], ...]


_erf = np.frompyfunc(math.erf, 1, 1)


def _erf_values(x: Values) -> Values:
    return np.asarray(_erf(x), dtype=np.float64)


def _sigmoid(x: Values) -> Values:
    return 1.0 / (1.0 + np.exp(-x))


def _largest(fibers: Values, keep: int) -> Coordinates:
    """Coordinates of the `keep` largest along the last axis, largest first, the lower coordinate where equal."""
    return np.argsort(-fibers, axis=-1, kind="stable")[..., :keep]


ELEMENTWISE: Mapping[str, Operator] = MappingProxyType({
    row.name: row
    for row in (
        Operator("add", np.add, (("add", 1),), 2),
        Operator("subtract", np.subtract, (("add", 1),), 2),  # an adder with one sign flipped
        Operator("multiply", np.multiply, (("multiply", 1),), 2),
        Operator("divide", np.divide, (("divide", 1),), 2),
        Operator("negate", np.negative, ()),  # a sign bit
        Operator("max", np.maximum, (("max", 1),), None),
        Operator("min", np.minimum, (("min", 1),), None),
        Operator("abs", np.abs, ()),  # a sign bit
        Operator("floor", np.floor, (("round", 1),)),
        Operator("round", np.rint, (("round", 1),)),  # halves to the even neighbour
        Operator("less", lambda x, y: np.where(np.less(x, y), 1.0, 0.0), (("compare", 1),), 2),  # 1 where true, else 0
        Operator("relu", lambda x: np.maximum(x, 0.0), (("max", 1),)),
        Operator("exp", np.exp, (("exp", 1),)),
        Operator("log", np.log, (("log", 1),)),
        Operator("sqrt", np.sqrt, (("sqrt", 1),)),
        Operator("rsqrt", lambda x: 1.0 / np.sqrt(x), (("sqrt", 1), ("divide", 1))),
        Operator("square", np.square, (("multiply", 1),)),
        Operator("tanh", np.tanh, (("tanh", 1),)),
        Operator("erf", _erf_values, (("erf", 1),)),
        Operator("sin", np.sin, (("sin", 1),)),
        Operator("cos", np.cos, (("cos", 1),)),
        Operator("sigmoid", _sigmoid, (("exp", 1), ("add", 1), ("divide", 1))),  # 1 / (1 + exp(-x))
        Operator("silu", lambda x: x * _sigmoid(x), (("exp", 1), ("add", 1), ("divide", 1))),  # x / (1 + exp(-x))
        Operator("gelu", lambda x: 0.5 * x * (1.0 + _erf_values(x / math.sqrt(2.0))),
                 (("erf", 1), ("add", 1), ("multiply", 3))),
    )
})

FIBER: Mapping[str, FiberOperator] = MappingProxyType({  # assumed: a streaming selector, one compare per element
    "top": FiberOperator("top", _largest, (("compare", 1),)),
    "bottom": FiberOperator("bottom", lambda fibers, keep: _largest(-fibers, keep), (("compare", 1),)),
})

# how a reduction combines two results
REDUCTIONS: Mapping[str, np.ufunc] = MappingProxyType({"add": np.add, "max": np.maximum, "min": np.minimum})


@dataclass(frozen=True, slots=True)
class Charge:
    """Operations charged at every point of the box of `ranks` where all `conditions` hold.

    A whole-fiber operator is charged for what it takes, not for the rank that it makes. A negative count takes back
    what a wider charge counted too much (`x if condition else y` charges y everywhere, less y where the condition
    holds).
    """

    ranks: tuple[str, ...]
    conditions: tuple[Condition, ...]
    operations: Mapping[str, int]

    @property
    def tested(self) -> tuple[str, ...]:
        """The ranks that the conditions tell apart."""
        return tuple(dict.fromkeys(rank for each in self.conditions for rank in each.ranks))


def charges(einsum: Einsum) -> tuple[Charge, ...]:
    """What the Einsum computes per point: map operators, then one reduction step per point.

    A product under a sum is one `mac`; a copy, a sign and whatever is the same at all points (`sqrt(E)`) are free.
    """
    found: list[Charge] = []
    _charge(einsum.expression, (), 1, einsum, found)
    return tuple(charge for charge in found if any(charge.operations.values()))


def _charge(
    expression: Expression, where: tuple[Condition, ...], sign: int, einsum: Einsum, found: list[Charge]
) -> None:
    """Charges of the alternatives of a conditional at the root; of the whole expression anywhere else."""
    if isinstance(expression, Select):
        inside = where + expression.conditions
        _charge(expression.value, inside, sign, einsum, found)
        if any(True for _ in accesses(expression.otherwise)):
            _charge(expression.otherwise, where, sign, einsum, found)
            _charge(expression.otherwise, inside, -sign, einsum, found)
        return
    counts = map_operations(expression)
    if einsum.reduced_ranks and fiber_operator(einsum) is None:
        while isinstance(expression, Apply) and expression.operator == "negate":
            expression = expression.operands[0]
        product = isinstance(expression, Apply) and expression.operator == "multiply" and counts["multiply"]
        mac = einsum.reduction == "add" and product
        counts += Counter({"mac" if mac else einsum.reduction: 1})
        counts -= Counter({"multiply": 1 if mac else 0})
    ranks = tuple(rank for rank in einsum.ranks if rank != kept_rank(einsum))
    found.append(Charge(ranks, where, {name: sign * count for name, count in counts.items()}))


def map_operations(expression: Expression) -> Counter[str]:
    """Operations of one evaluation of an expression; both alternatives of a conditional inside an expression."""
    counts: Counter[str] = Counter()
    for each in walk(expression):
        if isinstance(each, Apply) and any(True for _ in accesses(each)):
            operator = FIBER.get(each.operator) or ELEMENTWISE[each.operator]
            variadic = isinstance(operator, Operator) and operator.operands is None
            counts.update({kind: count * (len(each.operands) - 1 if variadic else 1) for kind, count in operator.costs})
    return counts


def fiber_operator(einsum: Einsum) -> FiberOperator | None:
    """The whole-fiber operator that an Einsum applies, if it does."""
    expression = einsum.expression
    return FIBER.get(expression.operator) if isinstance(expression, Apply) else None


def fiber_rank(einsum: Einsum) -> str | None:
    """The rank whose fibers a whole-fiber operator consumes (`m` of `I[p,j] = top(S[p,m], KEEP)`)."""
    return einsum.reduced_ranks[0] if fiber_operator(einsum) is not None else None


def kept_rank(einsum: Einsum) -> str | None:
    """The rank that a whole-fiber operator introduces (`j` of `I[p,j] = top(S[p,m], KEEP)`)."""
    if fiber_operator(einsum) is None:
        return None
    given = {rank for access in einsum.inputs for rank in access.ranks}
    return next(rank for rank in einsum.written_ranks if rank not in given)


def kept_extent(einsum: Einsum) -> tuple[str, int | str] | None:
    """The rank that a whole-fiber operator makes, and how long it says it is."""
    rank = kept_rank(einsum)
    if rank is None or not isinstance(einsum.expression, Apply):
        return None
    match einsum.expression.operands[1]:
        case Extent(name=name):
            return rank, name
        case Constant(value=value):
            return rank, int(value)
    return None


def repeated_ranks(einsum: Einsum) -> tuple[str, ...]:
    """Ranks along which a result is only repeated: p of `RM[h,0,p] = SINK[h]`; none of a constant."""
    if not einsum.inputs or fiber_operator(einsum) is not None:
        return ()
    own = set(bound_ranks(einsum.expression)).union(*(each.ranks for each in einsum.scatters))
    return tuple(rank for rank in einsum.written_ranks if rank not in own)


def is_first(einsum: Einsum) -> bool:
    """Whether the Einsum writes one place, such as what a running value begins with."""
    return any(index.fixed is not None for index in einsum.output.indices)


def is_copy(einsum: Einsum) -> bool:
    """Whether the Einsum only renames or partitions: `BK[m1,m0,e] = K[m1*M0+m0,e]` moves no data by itself.

    Nor does an input with which a running value begins: `RM[h,0,p] = SINK[h]`. A scatter and any other result with more
    ranks than its source (`B[h,p] = S[h]`) are tensors of their own.
    """
    renames = not einsum.scatters and len(einsum.inputs) == 1 and einsum.expression == einsum.inputs[0]
    return renames and (is_first(einsum) or not repeated_ranks(einsum)) and not charges(einsum)


def without_length(einsum: Einsum, others: Sequence[Einsum], measured: Set[str]) -> Iterator[str]:
    """Ranks of the left side that have no length; `measured`: those that `measured_ranks` says of the whole cascade.

    A constant may be repeated along any rank that other lines use, other results along a measured one: a misspelt rank
    is none.
    """
    repeated = repeated_ranks(einsum) if einsum.inputs else einsum.written_ranks
    if not repeated:
        return
    known = measured
    if not einsum.inputs:
        known = {rank for other in others for rank in other.ranks} | set(bound_ranks(einsum.expression))
    for rank in (rank for rank in repeated if rank not in known):
        hint = suggestion(rank, set(einsum.ranks) - set(repeated)) if einsum.inputs else "; no other line has it"
        yield f"rank '{rank}' of {einsum.name} does not stand on the right side{hint}"


def measured_ranks(einsums: Sequence[Einsum]) -> set[str]:
    """Ranks whose length does not depend on who writes them: those of inputs, of conditions and of kept fibers."""
    produced = {einsum.name for einsum in einsums}
    found = {rank for einsum in einsums for access in einsum.inputs if access.tensor not in produced
             for rank in access.ranks}
    found |= {rank for einsum in einsums for each in conditions(einsum.expression) for rank in each.ranks}
    return found | {rank for einsum in einsums if fiber_operator(einsum) is not None for rank in einsum.written_ranks}


def unsized_scatters(einsum: Einsum, others: Sequence[Einsum]) -> Iterator[str]:
    """Dimensions written at data whose length nothing says.

    Such a dimension is as long as a rank at which another line reads it, or any tensor that is read at the same
    coordinates; else it is as long as the extent named after them (IDX), which must be no rank's then.
    """
    used = [access for each in (einsum, *others) for access in (each.output, *each.inputs)] if einsum.scatters else []
    for place, index in enumerate(einsum.output.indices):
        if index.gather is None:
            continue
        spaces = {(einsum.name, place)} | {(access.tensor, at) for access in used
                                           for at, other in enumerate(access.indices)
                                           if other.gather is not None and other.gather.tensor == index.gather.tensor}
        walked = any(other.terms and (access.tensor, at) in spaces
                     for access in used for at, other in enumerate(access.indices))
        name = index.gather.tensor.upper()
        if not walked and name in {rank.upper() for other in (einsum, *others) for rank in other.ranks}:
            yield (f"nothing says how long {einsum.name} is ({name} is the length of rank '{name.lower()}'): rename "
                   f"{index.gather.tensor}, or add a line that reads {einsum.name} by a rank")


@cache
def scattered_extents(cascade: Cascade) -> Mapping[tuple[str, int], tuple[str, ...]]:
    """Extents whose product is the length of each dimension that is written at data: `(Y, 0)` of `Y[IDX[e]] += V[e]`.

    It is as long as the ranks at which another line reads it (N of `Y[n]`), or as those that walk another dimension in
    which the same coordinates are used (N of `X[n]`, where there is `X[IDX[e]]`), or the extent called IDX.
    """
    walked: dict[tuple[str, int], tuple[str, ...]] = {}  # the ranks at which each dimension is read or written
    held: dict[str, list[tuple[str, int]]] = {}  # the dimensions in which the coordinates of a tensor are used
    for access in (access for einsum in cascade.einsums for access in (einsum.output, *einsum.inputs)):
        for place, index in enumerate(access.indices):
            if index.gather is not None:
                held.setdefault(index.gather.tensor, []).append((access.tensor, place))
            elif index.terms:
                walked.setdefault((access.tensor, place), index.ranks)
    found = {}
    for einsum in cascade.einsums:
        for place, index in enumerate(einsum.output.indices):
            if index.gather is not None:
                same = [walked[each] for each in ((einsum.name, place), *held[index.gather.tensor]) if each in walked]
                names = same[0] if same else (index.gather.tensor,)
                found[einsum.name, place] = tuple(name.upper() for name in names)
    return found
