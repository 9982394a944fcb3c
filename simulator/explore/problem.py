"""A space made ready: its grid of values, its expressions checked, its model; digits of designs in, costs out.

A design is a row of digits, one per varied field: the position of its value. Knows no search and no file of results.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from cascadesim.einsum_cascades.notation.errors import SpecError, listed, shortened, suggestion
from cascadesim.einsum_cascades.notation.schema import LARGEST_NUMBER
from cascadesim.simulator.explore.expressions import Column, Expression, Kind, kind_of, parse_expression
from cascadesim.simulator.explore.metrics import (
    METRICS,
    Floats,
    Metric,
    available,
    canonical,
    metric_of,
    with_following,
)
from cascadesim.simulator.explore.models import ArchitectureModel, Model, architecture_model, refuse_unread
from cascadesim.simulator.explore.space import Scalar, Space

Digits: TypeAlias = NDArray[np.int32]  # designs x varied fields
_LOOKED_THROUGH = 100_000


@dataclass(frozen=True)
class Field:
    """A varied field, or a free name that expressions use."""

    name: str
    values: tuple[Scalar, ...]

    @cached_property
    def column(self) -> Column:
        return np.asarray(self.values)


@dataclass(frozen=True)
class Judged:
    """What became of some designs. `good`: rows of those that hold every condition and constraint, with their costs."""

    good: NDArray[np.intp]
    costs: Floats  # good designs x objectives, smaller is better
    allowed: int  # designs that hold the conditions
    possible: int  # of these, designs that the model can build and run


@dataclass(frozen=True)
class Problem:
    """`objectives` are minimised as costs: figures times the metric's sign."""

    space: Space
    source: str
    model: Model
    fields: tuple[Field, ...]
    derived: tuple[tuple[str, Expression], ...]
    conditions: tuple[Expression, ...]
    constraints: tuple[Expression, ...]
    objectives: tuple[Metric, ...]

    @property
    def size(self) -> int:
        """Designs, those that break conditions included."""
        return prod(len(field.values) for field in self.fields)

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(len(field.values) for field in self.fields)

    @property
    def metrics(self) -> tuple[Metric, ...]:
        return tuple(METRICS[name] for name in available(self.model.given))

    def digits_of(self, start: int, stop: int) -> Digits:
        """Designs `start` to `stop` in order; the last field varies fastest."""
        found = np.empty((stop - start, len(self.fields)), dtype=np.int32)
        rest = np.arange(start, stop)
        for number in range(len(self.fields) - 1, -1, -1):
            rest, found[:, number] = np.divmod(rest, self.shape[number])
        return found

    def columns(self, digits: Digits) -> dict[str, Column]:
        """Every varied and derived field, one value per design."""
        found = {field.name: field.column[digits[:, number]] for number, field in enumerate(self.fields)}
        for name, expression in self.derived:
            values = expression.evaluate(self._with_constants(found, expression))
            found[name] = _whole(np.broadcast_to(values, (len(digits),)))
        return found

    def corners(self) -> tuple[dict[str, object], ...]:
        """The designs with the first and with the last value of every field."""
        last = np.array([[len(field.values) - 1 for field in self.fields]], dtype=np.int32)
        columns = self.columns(np.concatenate([np.zeros_like(last), last]))
        return tuple({name: column[row].item() for name, column in columns.items() if name in self.model.fields}
                     for row in range(2))  # fmt: skip

    def figures(self, digits: Digits) -> dict[str, Floats]:
        """Every metric of designs, conditions or not."""
        return with_following(self.model.quantities(self.columns(digits)))

    def judge(self, digits: Digits) -> Judged:
        columns = self.columns(digits)
        allowed = np.flatnonzero(self._holds(self.conditions, columns, len(digits)))
        if not allowed.size:
            return Judged(allowed, np.empty((0, len(self.objectives))), 0, 0)
        columns = {name: column[allowed] for name, column in columns.items()}
        self._check_derived(columns)
        figures = with_following(self.model.quantities(columns), self._judged_by)
        costs = self.costs({**columns, **figures})
        possible = np.isfinite(costs.sum(axis=1))
        good = possible & self._holds(self.constraints, {**columns, **figures}, allowed.size)
        return Judged(allowed[good], costs[good], allowed.size, int(possible.sum()))

    def _check_derived(self, columns: Mapping[str, Column]) -> None:
        """Raises SpecError where a field follows from others and has no value, such as a quotient by zero."""
        for name, expression in self.derived:
            values = columns[name]
            if name not in self.model.fields or values.dtype.kind != "f":
                continue
            wrong = np.flatnonzero(~(np.abs(values) <= LARGEST_NUMBER))
            if wrong.size:
                design = listed(f"{used}={columns[used][wrong[0]]}" for used in sorted(expression.names & set(columns)))
                raise SpecError(f"{expression.where}: is {values[wrong[0]]:g} where {design}; a condition may leave "
                                f"such designs out")

    @cached_property
    def _judged_by(self) -> frozenset[str]:
        names = {name for expression in self.constraints for name in expression.names}
        return frozenset(names | {metric.name for metric in self.objectives})

    def costs(self, columns: Mapping[str, Column]) -> Floats:
        """`columns`: fields and metrics. Designs x objectives."""
        return np.stack([metric.sign * columns[metric.name].astype(np.float64) for metric in self.objectives], axis=1)

    def holds_constraints(self, columns: Mapping[str, Column], size: int) -> NDArray[np.bool_]:
        """`columns`: fields and metrics."""
        return self._holds(self.constraints, columns, size)

    def first_allowed(self) -> Digits:
        """The first design that holds the conditions, among the first of a large space; none: no rows."""
        digits = self.digits_of(0, min(self.size, _LOOKED_THROUGH))
        return digits[np.flatnonzero(self._holds(self.conditions, self.columns(digits), len(digits)))[:1]]

    def _holds(self, expressions: Iterable[Expression], columns: Mapping[str, Column], size: int) -> NDArray[np.bool_]:
        holds = np.ones(size, dtype=bool)
        for expression in expressions:
            holds &= expression.holds(self._with_constants(columns, expression))
        return holds

    def _with_constants(self, columns: Mapping[str, Column], expression: Expression) -> dict[str, Column]:
        fixed = {name: np.asarray(self.model.fields[name]) for name in expression.names - set(columns)}
        return {**fixed, **columns}


def _whole(values: Column) -> Column:
    """Whole numbers as integers, which is what most fields want."""
    if values.dtype.kind == "f" and (np.abs(values) < 2**53).all() and (values == np.floor(values)).all():
        return values.astype(np.int64)
    return values


@dataclass(frozen=True)
class _Expressions:
    """The expressions of a space, in the order of the file."""

    derived: tuple[tuple[str, Expression], ...]
    conditions: tuple[Expression, ...]
    constraints: tuple[Expression, ...]

    @property
    def names(self) -> set[str]:
        everything = (*(expression for _, expression in self.derived), *self.conditions, *self.constraints)
        return {name for expression in everything for name in expression.names}


def problem(space: Space, source: str) -> Problem:
    """Raises SpecError with every name that is not known."""
    model = _model(space, source)
    fields = tuple(Field(name, values.listed()) for name, values in space.vary.items())
    errors: list[str] = []
    parsed = _expressions(space, model, source, errors)
    objectives = _objectives(space, model, parsed, source, errors)
    used = parsed.names | {metric.name for metric in objectives}
    errors += _name_errors(space, model, used, source)
    if errors:
        raise SpecError("\n".join(errors))
    found = Problem(space, source, model, fields, parsed.derived, parsed.conditions, parsed.constraints, objectives)
    if isinstance(model, ArchitectureModel):
        refuse_unread(model, [*space.set, *space.vary, *space.derive], found.corners(), source)
    return found


def _expressions(space: Space, model: Model, source: str, errors: list[str]) -> _Expressions:
    """What is derived may use what is derived before it; only constraints may use metrics."""
    known = {name: kind_of(value) for name, value in model.fields.items() if isinstance(value, int | float | str)}
    known |= {name: kind_of(values.listed()[0]) for name, values in space.vary.items()}
    derived: list[tuple[str, Expression]] = []
    for name, text in space.derive.items():
        found = _parsed(text, known, f"{source}: derive.{shortened(name)}", errors)
        derived += [(name, expression) for expression in found]
        known[name] = found[0].kind if found else "number"
    metrics: dict[str, Kind] = dict.fromkeys(available(model.given), "number")
    conditions, constraints = (
        tuple(expression for number, text in enumerate(texts)
              for expression in _judging(text, names, f"{source}: {kind}.{number}", errors))
        for kind, texts, names in (("conditions", space.conditions, known),
                                   ("constraints", space.constraints, {**known, **metrics}))
    )
    return _Expressions(tuple(derived), conditions, constraints)


def _model(space: Space, source: str) -> Model:
    if space.neighborhood is None:
        return architecture_model(space, source)
    from cascadesim.simulator.explore.neighborhood import neighborhood_model

    return neighborhood_model(space, source)


def _objectives(
    space: Space, model: Model, parsed: _Expressions, source: str, errors: list[str]
) -> tuple[Metric, ...]:
    """Metrics, and numbers among the fields, which are to be small."""
    numbers = [name for name, values in space.vary.items() if kind_of(values.listed()[0]) == "number"]
    derived = [name for name, expression in parsed.derived if expression.kind == "number"]
    known, found = (*available(model.given), *numbers, *derived), []
    for number, given in enumerate(space.objectives):
        name = canonical(given)
        if name not in known:
            errors.append(f"{source}: objectives.{number}: no objective '{shortened(given)}'{suggestion(given, known)}")
        elif metric_of(name) in found:
            errors.append(f"{source}: objectives.{number}: '{given}' is given twice")
        else:
            found.append(metric_of(name))
    return tuple(found)


def _parsed(text: str, known: Mapping[str, Kind], where: str, errors: list[str]) -> tuple[Expression, ...]:
    """One expression; none, and an error more, where it cannot be."""
    try:
        return (parse_expression(text, known, where),)
    except SpecError as error:
        errors.append(str(error))
        return ()


def _judging(text: str, known: Mapping[str, Kind], where: str, errors: list[str]) -> tuple[Expression, ...]:
    """Likewise, of one that is true or false."""
    found = _parsed(text, known, where, errors)
    errors += [f"{where}: is a text; give what is true or false, such as a comparison" for each in found
               if each.kind == "text"]
    return found


def _name_errors(space: Space, model: Model, used: set[str], source: str) -> list[str]:
    """A name that is no field serves expressions only; one that serves none is a misspelt field."""
    errors = []
    for section in ("vary", "derive"):
        for name in getattr(space, section):
            if name not in model.fields and ("." in name or name not in used):
                errors.append(f"{source}: {section}.{shortened(name)}: no such field, and no expression uses it"
                              f"{suggestion(name, model.fields)}")
    doubled = set(space.vary) & set(space.derive)
    errors += [f"{source}: derive.{name}: varied already" for name in sorted(doubled)]
    return errors
