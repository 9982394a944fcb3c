"""A space made ready: its grid of values, its expressions checked, its model; digits of designs in, costs out.

A design is a row of digits, one per varied field: the position of its value. Knows no search and no file of results.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from cascadesim.accelerators.catalogue import Column, Floats
from cascadesim.einsum_cascades.notation.errors import SpecError, listed, shortened, suggestion
from cascadesim.einsum_cascades.notation.schema import LARGEST_NUMBER
from cascadesim.simulator.explore.expressions import Expression, Kind, kind_of, parse_expression
from cascadesim.simulator.explore.models import (
    ALIASES,
    ArchitectureModel,
    Metric,
    Point,
    architecture_model,
    available,
    metric_of,
    points_of,
    refuse_unread,
    with_following,
)
from cascadesim.simulator.explore.neighborhood import NeighborhoodModel, neighborhood_model
from cascadesim.simulator.explore.space import Scalar, Space

Digits: TypeAlias = NDArray[np.int32]  # (designs, varied fields): the position of each value
Model: TypeAlias = ArchitectureModel | NeighborhoodModel
_LOOKED_THROUGH = 100_000


@dataclass(frozen=True)
class Field:
    """A varied field, or a free name that expressions use."""

    name: str
    values: tuple[Scalar, ...]

    @cached_property
    def column(self) -> Column:
        return np.asarray(self.values)


class Counts(NamedTuple):
    """Counts the designs that a search met, by how far they came."""

    designs: int  # looked at
    allowed: int  # that hold the conditions
    possible: int  # of these, that can be built and run the work
    good: int  # of these, that hold the constraints


@dataclass(frozen=True)
class Judged:
    """Some designs after judging. `good`: rows of those that hold every condition and constraint, with their costs."""

    good: NDArray[np.intp]
    costs: Floats  # (good designs, objectives) float64, smaller is better
    counts: Counts


@dataclass(frozen=True)
class SearchProblem:
    """A grid of designs, each judged. `objectives` are minimised as costs: figures times the metric's sign."""

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
        return prod(self.shape)

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(len(field.values) for field in self.fields)

    def digits_of(self, start: int, stop: int) -> Digits:
        """Designs `start` to `stop` in order; the last field varies fastest."""
        found = np.empty((stop - start, len(self.fields)), dtype=np.int32)
        quotient = np.arange(start, stop)
        for number, values in reversed(list(enumerate(self.shape))):
            quotient, found[:, number] = np.divmod(quotient, values)
        return found

    def columns(self, digits: Digits) -> dict[str, Column]:
        """Every varied and derived field, one value per design."""
        found = {field.name: field.column[digits[:, number]] for number, field in enumerate(self.fields)}
        for name, expression in self.derived:
            values = expression.evaluate(self._with_constants(found, expression))
            found[name] = _whole(np.broadcast_to(values, (len(digits),)))
        return found

    def points(self, digits: Digits) -> list[Point]:
        """Each design as the fields of the model that it changes."""
        own = self.model.fields
        return points_of({name: column for name, column in self.columns(digits).items() if name in own})

    def figures(self, digits: Digits) -> dict[str, Floats]:
        """Every metric of designs, conditions or not."""
        return with_following(self.model.quantities(self.columns(digits)))

    def judge(self, digits: Digits) -> Judged:
        """Conditions first, then the figures of what is left. Raises SpecError on derived fields without a value."""
        columns = self.columns(digits)
        allowed = np.flatnonzero(self.holds(self.conditions, columns, len(digits)))
        if not allowed.size:
            return Judged(allowed, np.empty((0, len(self.objectives))), Counts(len(digits), 0, 0, 0))
        columns = {name: column[allowed] for name, column in columns.items()}
        self._check_derived(columns)
        wanted = {metric.name for metric in self.objectives}.union(*(each.names for each in self.constraints))
        columns |= with_following(self.model.quantities(columns), wanted)
        costs = self.costs(columns)
        possible = np.isfinite(costs.sum(axis=1))
        good = possible & self.holds(self.constraints, columns, allowed.size)
        counts = Counts(len(digits), allowed.size, int(possible.sum()), int(good.sum()))
        return Judged(allowed[good], costs[good], counts)

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

    def costs(self, columns: Mapping[str, Column]) -> Floats:
        """Takes columns of fields and metrics, returns costs: (designs, objectives) float64."""
        return np.stack([metric.sign * columns[metric.name].astype(np.float64) for metric in self.objectives], axis=1)

    def holds(self, expressions: Iterable[Expression], columns: Mapping[str, Column], size: int) -> NDArray[np.bool_]:
        """Which of `size` designs hold all expressions. `columns`: fields and metrics."""
        holds = np.ones(size, dtype=bool)
        for expression in expressions:
            holds &= expression.holds(self._with_constants(columns, expression))
        return holds

    def first_allowed(self) -> Digits:
        """The first design that holds the conditions, among the first of a large space; none: no rows."""
        digits = self.digits_of(0, min(self.size, _LOOKED_THROUGH))
        return digits[np.flatnonzero(self.holds(self.conditions, self.columns(digits), len(digits)))[:1]]

    def _with_constants(self, columns: Mapping[str, Column], expression: Expression) -> dict[str, Column]:
        fixed = {name: np.asarray(self.model.fields[name]) for name in expression.names - set(columns)}
        return {**fixed, **columns}


def _whole(values: Column) -> Column:
    """Whole numbers as integers, which is what most fields want."""
    if values.dtype.kind == "f" and (np.abs(values) < 2**53).all() and (values == np.floor(values)).all():
        return values.astype(np.int64)
    return values


def problem(space: Space, source: str) -> SearchProblem:
    """The space made ready. Raises SpecError with every name that is not known.

    What is derived may use what is derived before it; only constraints may use metrics.
    """
    model = architecture_model(space, source) if space.neighborhood is None else neighborhood_model(space, source)
    fields = tuple(Field(name, values.listed()) for name, values in space.vary.items())
    metrics = available(model.given)
    known = {name: kind_of(value) for name, value in model.fields.items() if isinstance(value, int | float | str)}
    known |= {field.name: kind_of(field.values[0]) for field in fields}
    errors: list[str] = []
    derived: list[tuple[str, Expression]] = []
    for name, text in space.derive.items():
        found = _parsed(text, known, f"{source}: derive.{shortened(name)}", errors)
        derived += [(name, expression) for expression in found]
        known[name] = found[0].kind if found else "number"
    conditions = _judging(space.conditions, known, f"{source}: conditions", errors)
    constraints = _judging(space.constraints, {**known, **dict.fromkeys(metrics, "number")},
                           f"{source}: constraints", errors)  # fmt: skip
    numbers = [field.name for field in fields if kind_of(field.values[0]) == "number"]
    numbers += [name for name, expression in derived if expression.kind == "number"]
    objectives = _objectives(space, (*metrics, *numbers), source, errors)
    expressions = (*(expression for _, expression in derived), *conditions, *constraints)
    used = {name for expression in expressions for name in expression.names} | {metric.name for metric in objectives}
    errors += _name_errors(space, model, used, source)
    if errors:
        raise SpecError("\n".join(errors))
    made = SearchProblem(space, source, model, fields, tuple(derived), conditions, constraints, objectives)
    if isinstance(model, ArchitectureModel):
        last = np.array(made.shape, dtype=np.int32) - 1
        corners = made.points(np.stack([np.zeros_like(last), last]))  # the first and the last value of every field
        refuse_unread(model, [*space.set, *space.vary, *space.derive], corners, source)
    return made


def _objectives(space: Space, known: Sequence[str], source: str, errors: list[str]) -> tuple[Metric, ...]:
    """Metrics, and numbers among the fields, which are to be small."""
    found: list[Metric] = []
    for number, given in enumerate(space.objectives):
        name = ALIASES.get(given, given)
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


def _judging(texts: Sequence[str], known: Mapping[str, Kind], where: str, errors: list[str]) -> tuple[Expression, ...]:
    """Expressions that are true or false of a design; the others are errors."""
    found: list[Expression] = []
    for number, text in enumerate(texts):
        parsed = _parsed(text, known, f"{where}.{number}", errors)
        errors += [f"{where}.{number}: is a text; give what is true or false, such as a comparison" for each in parsed
                   if each.kind == "text"]
        found += parsed
    return tuple(found)


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
