"""What a cascade computes: arrays in, arrays out, in NumPy float64. Every other view is checked against it.

Each Einsum is computed whole, on a grid of its ranks; only Einsums that iterate run step by step. Reads outside a
tensor are an error, unless a condition excludes them. Knows no hardware and no order of additions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cascadesim.einsum_cascades.analysis.counts import bind_extents, coordinates, holds, shape_of
from cascadesim.einsum_cascades.analysis.graph import Step, steps
from cascadesim.einsum_cascades.notation import ir, operators
from cascadesim.einsum_cascades.notation.errors import CascadeSimError, suggestion

Where = NDArray[np.bool_]
_EVERYWHERE: Where = np.asarray(True)


def evaluate(
    cascade: ir.Cascade, inputs: Mapping[str, ArrayLike], extents: Mapping[str, int] | None = None
) -> dict[str, operators.Values]:
    """Every tensor that the cascade produces. `extents`: sizes that no input tells, such as M0.

    A state has one element more than its rank: its first value and one after each step.
    """
    arrays = _arrays(cascade, inputs)
    shapes = {name: array.shape for name, array in arrays.items()}
    sizes = bind_extents(cascade, shapes, {**_lengths(cascade, arrays), **(extents or {})})
    results = {name: np.full(shape_of(cascade, name, sizes), _untouched(cascade.einsum(name)))
               for name in cascade.produced}
    run = _Evaluation(cascade, arrays | results, sizes)
    with np.errstate(all="ignore"):  # -inf - -inf of a row that attends nothing is NaN, as on hardware
        run.steps(steps(cascade), {})
    return results


def _untouched(einsum: ir.Einsum) -> float:
    """What stands where nothing is written: the result of reducing nothing, where an Einsum scatters."""
    return {"add": 0.0, "max": -np.inf, "min": np.inf}[einsum.reduction] if einsum.scatters else np.nan


def _lengths(cascade: ir.Cascade, arrays: Mapping[str, operators.Values]) -> dict[str, int]:
    """A scatter whose result nobody reads by a rank writes up to the largest coordinate that its input holds."""
    held = {each.tensor: arrays[each.tensor] for einsum in cascade.einsums for each in einsum.scatters
            if each.tensor in arrays}
    names = {name for names in operators.scattered_extents(cascade).values() for name in names}
    names -= {rank.upper() for rank in cascade.ranks}
    return {name.upper(): max(int(array.max()), 0) + 1 for name, array in held.items()
            if name.upper() in names and np.isfinite(array).all()}


def _arrays(cascade: ir.Cascade, inputs: Mapping[str, ArrayLike]) -> dict[str, operators.Values]:
    missing = [name for name in cascade.inputs if name not in inputs]
    if missing:
        raise CascadeSimError(f"{cascade.name}: no array for {', '.join(missing)}; "
                              f"its inputs are {', '.join(cascade.inputs)}")
    for name in inputs:
        if name not in cascade.inputs:
            raise CascadeSimError(f"{cascade.name}: no input '{name}'{suggestion(name, cascade.inputs)}")
    try:
        arrays = {name: np.asarray(inputs[name], dtype=np.float64) for name in cascade.inputs}
    except (TypeError, ValueError) as error:
        raise CascadeSimError(f"{cascade.name}: inputs must be arrays of numbers: {error}") from None
    empty = [name for name, array in arrays.items() if not array.size]
    if empty:
        raise CascadeSimError(f"{cascade.name}: {empty[0]} has no elements, shape {arrays[empty[0]].shape}")
    return arrays


@dataclass(frozen=True, slots=True)
class _Evaluation:
    cascade: ir.Cascade
    arrays: Mapping[str, operators.Values]  # results are written in place
    sizes: Mapping[str, int]

    def steps(self, order: Sequence[Step], at: Mapping[str, int]) -> None:
        """Run in order; `at` holds the coordinates of the loops around."""
        for step in order:
            if isinstance(step, int):
                self._einsum(self.cascade.einsums[step], at)
            else:
                for coordinate in range(self.sizes[step.rank.upper()]):
                    self.steps(step.body, {**at, step.rank: coordinate})

    def _einsum(self, einsum: ir.Einsum, at: Mapping[str, int]) -> None:
        kept = operators.kept_rank(einsum)
        point = _Grid(self, einsum, tuple(rank for rank in einsum.ranks if rank != kept), at)
        if kept is None:
            self._write(point, einsum.output, point.reduced(einsum.expression))
        else:
            whole = _Grid(self, einsum, einsum.ranks, at)
            self._write(whole, einsum.output, point.fibers(einsum.expression, whole))

    def _write(self, grid: _Grid, output: ir.Access, values: operators.Values) -> None:
        target = self.arrays[output.tensor]
        if not output.indices:
            target[...] = values.reshape(())
            return
        places = (coordinates(index, grid.axes, self.sizes) if index.gather is None else
                  grid.place(output, number, target.shape[number], _EVERYWHERE)
                  for number, index in enumerate(output.indices))
        at = tuple(np.broadcast_to(place, grid.output_shape) for place in places)
        whole = np.broadcast_to(values, grid.output_shape)
        if grid.einsum.scatters:
            operators.REDUCTIONS[grid.einsum.reduction].at(target, at, whole)
        else:
            target[at] = whole


class _Grid:
    """The iteration space of one Einsum: an axis a rank, of length 1 along ranks that a loop holds fixed."""

    def __init__(self, run: _Evaluation, einsum: ir.Einsum, ranks: tuple[str, ...], at: Mapping[str, int]) -> None:
        self.run, self.einsum, self.ranks = run, einsum, ranks
        self.axes: dict[str, NDArray[np.int64]] = {}
        for axis, rank in enumerate(ranks):
            along = np.asarray([at[rank]]) if rank in at else np.arange(run.sizes[rank.upper()])
            self.axes[rank] = along.reshape([-1 if place == axis else 1 for place, _ in enumerate(ranks)])
        self.shape = tuple(self.axes[rank].size for rank in ranks)
        scattered = {rank for each in einsum.scatters for rank in each.ranks}  # reduced as they are written
        self.reduced_ranks = tuple(rank for rank in einsum.reduced_ranks if rank not in scattered)
        self.reduced_axes = tuple(axis for axis, rank in enumerate(ranks) if rank in self.reduced_ranks)
        self.output_shape = tuple(1 if axis in self.reduced_axes else size for axis, size in enumerate(self.shape))

    def reduced(self, expression: ir.Expression, where: Where = _EVERYWHERE) -> operators.Values:
        """The expression, reduced over the ranks missing on the left; all axes stay, at length 1 where reduced."""
        reduced = set(self.reduced_ranks)
        if isinstance(expression, ir.Select) and all(reduced.isdisjoint(each.ranks) for each in expression.conditions):
            inside = self._holds(expression.conditions)
            chosen = self.reduced(expression.value, where & inside)
            return np.where(inside, chosen, self.reduced(expression.otherwise, where & ~inside))
        products = self._products(expression, where) if self.einsum.reduction == "add" and self.reduced_axes else []
        if len(products) > 1:
            return self._contracted(products)
        values = self.value(expression, where)
        if not self.reduced_axes:
            return values
        operator = operators.REDUCTIONS[self.einsum.reduction]
        return np.asarray(operator.reduce(np.broadcast_to(values, self.shape), axis=self.reduced_axes, keepdims=True))

    def _products(self, expression: ir.Expression, where: Where) -> list[operators.Values]:
        """Factors of a sum of products, 0 where a condition excludes them; none where that would not be the same."""
        if not isinstance(expression, ir.Select):
            return [self.value(factor, where) for factor in _factors(expression)]
        if expression.otherwise != ir.Constant(0.0) or len(_factors(expression.value)) == 1:
            return []
        inside = self._holds(expression.conditions)
        first, *others = (self.value(factor, where & inside) for factor in _factors(expression.value))
        finite = all(np.isfinite(other).all() for other in others)  # 0 * inf would be NaN
        return [np.where(inside, first, 0.0), *others] if finite else []

    def _contracted(self, factors: Sequence[operators.Values]) -> operators.Values:
        """A sum of products by np.einsum; an axis of length 1 in a factor does not take part in it."""
        operands: list[object] = []
        present: set[int] = set()
        for factor in factors:
            shape = tuple(factor.shape) if factor.ndim else (1,) * len(self.shape)
            axes = [axis for axis, size in enumerate(shape) if size > 1]
            present.update(axes)
            operands += [factor.reshape([shape[axis] for axis in axes]), axes]
        kept = [axis for axis in sorted(present) if axis not in self.reduced_axes]
        total = np.asarray(np.einsum(*operands, kept, optimize=len(factors) > 2))  # type: ignore[call-overload]
        repeats = [self.shape[axis] for axis in self.reduced_axes if axis not in present]
        result = tuple(size if axis in kept else 1 for axis, size in enumerate(self.shape))
        return total.reshape(result) * float(np.prod(repeats))

    def fibers(self, expression: ir.Expression, whole: _Grid) -> operators.Values:
        """A whole-fiber operator: coordinates along the rank it makes, on the axes of `whole`."""
        operator, rank = operators.fiber_operator(self.einsum), operators.fiber_rank(self.einsum)
        if operator is None or rank is None or not isinstance(expression, ir.Apply):
            raise TypeError(f"{self.einsum.name} applies no operator to whole fibers")
        keep = int(self.value(expression.operands[1], _EVERYWHERE))
        axis = self.ranks.index(rank)
        if keep > self.shape[axis]:
            raise self._wrong(f"{operator.name} keeps {keep} of {self.shape[axis]} elements along '{rank}'")
        fibers = np.moveaxis(np.broadcast_to(self.value(expression.operands[0], _EVERYWHERE), self.shape), axis, -1)
        kept = np.asarray(operator.function(fibers, keep), dtype=np.float64)
        labels = [label for label in self.ranks if label != rank] + [str(operators.kept_rank(self.einsum))]
        order = [labels.index(label) for label in whole.ranks if label in labels]
        return kept.transpose(order).reshape(whole.output_shape)

    def value(self, expression: ir.Expression, where: Where) -> operators.Values:
        """An expression on the grid, of length 1 along axes it does not depend on."""
        match expression:
            case ir.Constant(value=number):
                return np.asarray(number, dtype=np.float64)
            case ir.Extent(name=name):
                return np.asarray(self.run.sizes[name], dtype=np.float64)
            case ir.Access():
                return self._read(expression, where)
            case ir.Select(conditions=conditions, value=value, otherwise=otherwise):
                inside = self._holds(conditions)
                return np.where(inside, self.value(value, where & inside), self.value(otherwise, where & ~inside))
            case ir.Apply(operator=name, operands=operands):
                operator, values = operators.ELEMENTWISE[name], [self.value(operand, where) for operand in operands]
                return reduce(operator.function, values) if operator.operands is None else (
                    np.asarray(operator.function(*values)))  # fmt: skip

    def _read(self, access: ir.Access, where: Where) -> operators.Values:
        array = self.run.arrays[access.tensor]
        if not access.indices:
            return array
        places = [self.place(access, place, array.shape[place], where) for place, _ in enumerate(access.indices)]
        return np.asarray(array[tuple(np.broadcast_arrays(*places))])

    def place(self, access: ir.Access, place: int, size: int, where: Where) -> NDArray[np.int64]:
        """Coordinates of one dimension on the grid. Raises CascadeSimError where one is outside it."""
        index = access.indices[place]
        found = self._gathered(index.gather, where) if index.gather else coordinates(index, self.axes, self.run.sizes)
        outside = ((found < 0) | (found >= size)) & where
        if outside.any():
            wrong = np.broadcast_to(found, outside.shape)[outside].flat[0]
            done = f"{access.tensor} is {'written' if access is self.einsum.output else 'read'} at {wrong}"
            raise self._wrong(f"{done} in dimension {place + 1}, which has {size} elements")
        inside = np.clip(found, 0, size - 1)
        return inside if index.ranks else inside.reshape((1,) * len(self.ranks))

    def _holds(self, conditions: Sequence[ir.Condition]) -> Where:
        return holds(conditions, self.axes, self.run.sizes, lambda held: self._gathered(held, _EVERYWHERE))

    def _gathered(self, access: ir.Access, where: Where) -> NDArray[np.int64]:
        values = self._read(access, where)
        if (where & (values != np.rint(values))).any():
            raise self._wrong(f"{access.tensor} holds coordinates and must hold whole numbers")
        return np.nan_to_num(values).astype(np.int64)

    def _wrong(self, message: str) -> CascadeSimError:
        return CascadeSimError(f"{self.run.cascade.name}, line {self.einsum.line}: {message}")


def _factors(expression: ir.Expression) -> list[ir.Expression]:
    if isinstance(expression, ir.Apply) and expression.operator == "multiply":
        return [factor for operand in expression.operands for factor in _factors(operand)]
    return [expression]
