"""The prediction of a published figure: the rule of its system that speaks of it, and what the parts of it take."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache

import numpy as np

from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.simulator.explore.expressions import Kind, parse_expression
from cascadesim.validation.systems import amounts
from cascadesim.validation.systems.amounts import Machine
from cascadesim.validation.systems.claim_row import NAMES, ClaimRow
from cascadesim.validation.systems.system import (
    SHARED,
    WORD,
    CannotPredict,
    Number,
    Part,
    Rule,
    System,
    find_system,
    names_of,
)

SIXTEEN_BITS = "fp16"  # where a row says no more: as fast as bf16 on every device here


@dataclass(frozen=True)
class RowPrediction:
    """A figure in the units of its row, and the parts it is made of (seconds, FLOPs or numbers, each once).

    `rounding`: how much of it the last digits of numbers leave open that the row's texts state (density .31).
    """

    value: float
    rounding: float
    parts: Mapping[str, float]
    rule: Rule


@dataclass
class _Asked:
    """One row on its way to its figure; `parts` collects what was worked out."""

    system: System
    row: ClaimRow
    named: Mapping[str, str]
    parts: dict[str, float] = field(default_factory=dict)

    @property
    def machine(self) -> Machine:
        if not self.row.device:
            raise CannotPredict("lacks", "the device")
        return Machine(self.row.device, self.row.dtype or SIXTEEN_BITS)

    def value(self, given: Number) -> float:
        """A figure, or an expression of what the row, its system's tables and its parts name."""
        if not isinstance(given, str):
            return float(given)
        known: dict[str, Kind] = dict.fromkeys(self._names(), "number")
        expression = parse_expression(given, known, self.system.name)
        return float(expression.evaluate({name: np.asarray(self._named(name)) for name in expression.names}))

    def words(self, text: str) -> str:
        """A text with the numbers that its braces name."""
        return WORD.sub(lambda match: f"{self._named(match[1]):.12g}", text)

    def _names(self) -> set[str]:
        return {*self.named, *self.system.parts, *self.system.tables, *NAMES, *SHARED}

    def _named(self, name: str) -> float:
        if name in self.named:
            return float(self.named[name])
        if name in self.system.tables:
            table = self.system.tables[name]
            key = getattr(self.row, table.by)
            if not isinstance(key, int | str) or key not in table.values:
                raise CannotPredict("lacks", f"{name} at {table.by} {key}: {table.source} has none")
            return table.values[key]
        if name in self.system.parts:
            if name not in self.parts:
                self.parts[name] = self._amount(self.system.parts[name])
            return self.parts[name]
        if name in SHARED:
            return SHARED[name]
        cell = getattr(self.row, name)
        if cell is None and name == "devices":
            return 1.0  # a row that counts none has one
        if not isinstance(cell, int | float):
            raise CannotPredict("lacks", name)
        return float(cell)

    def _amount(self, part: Part) -> float:
        if part.attention is not None:
            return amounts.attention_s(part.attention, self.machine, self.value, self.words, self.row.causal == "yes")
        if part.model is not None:
            return amounts.model_s(part.model, self.system.workloads, self.machine, self.value, self.words)
        if part.passes is not None:
            return amounts.pass_s(part.passes, self.machine, self.value)
        if part.product is not None:
            return amounts.product_s(part.product, self.machine, self.value)
        if part.flops is not None:
            return amounts.flops(part.flops, self.system.workloads, self.value, self.words)
        if part.fusemax is not None:
            return amounts.fusemax_mean(part.fusemax)
        return self.value(part.number or 0)


def rule_for(system: System, row: ClaimRow) -> tuple[Rule, Mapping[str, str]]:
    """The first rule that matches, and the numbers that it names. Raises CannotPredict where none does."""
    for rule in system.rows:
        named = rule.names_in(row)
        if named is not None:
            return rule, named
    if row.backward:
        raise CannotPredict("later", "backward passes and training")
    if row.certainty == "abstract":
        raise CannotPredict("lacks", "their configuration: headlines, of which no more is stated")
    if row.lacks:
        raise CannotPredict("lacks", row.lacks)
    raise CannotPredict("missing", f"no rule speaks of {row.quantity} of '{row.mechanism or 'this row'}'")


@lru_cache(maxsize=8192)
def predicted(row: ClaimRow) -> RowPrediction:
    """Raises CannotPredict with the reason where there is no prediction."""
    system = find_system(row.system)
    rule, named = rule_for(system, row)
    for kind in ("lacks", "missing", "later"):
        why = getattr(rule, kind)
        if why is not None:
            raise CannotPredict(kind, why)
    asked = _Asked(system, row, named)
    try:
        value = asked.value(rule.predict or "")
    except CannotPredict:
        raise
    except CascadeSimError as error:
        raise CannotPredict("missing", str(error)) from None
    if not np.isfinite(value) or value <= 0:
        raise CannotPredict("missing", f"the prediction comes out as {value:g}")
    return RowPrediction(value, _left_open(asked, rule.predict or "", value), dict(asked.parts), rule)


def _left_open(asked: _Asked, text: str, value: float) -> float:
    """The sum over numbers with decimals that the expression itself names; parts that name them keep their value."""
    total = 0.0
    for name, stated in asked.named.items():
        decimals = len(stated.partition(".")[2])
        if decimals and name in names_of(text):
            moved = replace(asked, named={**asked.named, name: str(float(stated) + 0.5 * 10.0**-decimals)})
            total += abs(moved.value(text) - value)
    return total
