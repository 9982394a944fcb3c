"""What a space is about: a model that turns columns of fields into columns of figures.

`ArchitectureModel`: any accelerator, by its vectorised evaluator where it has one for the work, otherwise planned
design by design. Knows no space file and no search. The neighborhood model is `neighborhood`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from cascadesim.accelerators import catalogue
from cascadesim.accelerators.exploration import QUANTITIES, Column, Evaluator, find_evaluator
from cascadesim.accelerators.protocol import Accelerator
from cascadesim.einsum_cascades.models.workload import load_workload
from cascadesim.einsum_cascades.notation.errors import CascadeSimError, SpecError, shortened, suggestion
from cascadesim.einsum_cascades.notation.schema import read_yaml
from cascadesim.simulator.execution import Fidelity
from cascadesim.simulator.explore.metrics import Floats
from cascadesim.simulator.explore.space import Space, Use
from cascadesim.simulator.report import Report
from cascadesim.simulator.simulate import Request, operations, reports

Point = Mapping[str, object]


@dataclass(frozen=True)
class Reference:
    """A named design that the space can be compared with."""

    name: str
    quantities: Mapping[str, float]


class Model(Protocol):
    """What the search may ask."""

    @property
    def fields(self) -> Mapping[str, object]:
        """Every field that may vary, with the value it has otherwise."""
        ...

    @property
    def given(self) -> tuple[str, ...]:
        """Names of the quantities it gives."""
        ...

    def quantities(self, columns: Mapping[str, Column]) -> dict[str, Floats]:
        """nan where a design cannot be."""
        ...

    def problem(self, point: Point) -> str | None:
        """Why one design cannot be; None if it can."""
        ...

    @property
    def has_cycle_level(self) -> bool: ...

    def cycle_quantities(self, point: Point) -> dict[str, float]:
        """The quantities of one design at cycle level, perhaps STATED too; nan where it cannot be."""
        ...

    def references(self) -> tuple[Reference, ...]: ...


@dataclass(frozen=True)
class ArchitectureModel:
    """An accelerator of which some fields change, judged on workloads. `content`: what its file holds."""

    name: str
    path: Path
    content: Mapping[str, Any]
    uses: tuple[Use, ...]
    accounting: str

    @property
    def fields(self) -> Mapping[str, object]:
        """All but which architecture it is: that is the space's to say, once."""
        return {name: value for name, value in _paths(self.content) if name != "architecture"}

    @property
    def given(self) -> tuple[str, ...]:
        return (*QUANTITIES, "tokens")

    @cached_property
    def accelerator(self) -> Accelerator:
        return catalogue.build(self.content, self.path)

    @cached_property
    def tokens(self) -> float:
        return sum(use.weight * _tokens(use) for use in self.uses)

    @cached_property
    def _evaluators(self) -> tuple[Evaluator, ...] | None:
        """One for each workload; None if one of them has to be planned design by design."""
        if self.accounting != "physical":
            return None
        found = [
            find_evaluator(str(self.content["architecture"]), self.accelerator, operations(_request(use, self)))
            for use in self.uses
        ]
        ready = tuple(evaluator for evaluator in found if evaluator is not None)
        return ready if len(ready) == len(found) else None

    @property
    def is_vectorised(self) -> bool:
        return self._evaluators is not None

    def quantities(self, columns: Mapping[str, Column]) -> dict[str, Floats]:
        columns = {name: column for name, column in columns.items() if name in self.fields}
        found = self._planned(columns) if self._evaluators is None else self._vectorised(self._evaluators, columns)
        found["tokens"] = np.full_like(found["latency_s"], self.tokens)
        return found

    def _vectorised(self, evaluators: Sequence[Evaluator], columns: Mapping[str, Column]) -> dict[str, Floats]:
        with np.errstate(all="ignore"):  # sizes beyond all bounds become inf, and so no design
            each = [evaluator(columns) for evaluator in evaluators]
        found = {
            name: sum((use.weight * part[name] for use, part in zip(self.uses, each, strict=True)), np.zeros(()))
            for name in QUANTITIES
        }
        return {**found, "area_um2": each[0]["area_um2"]}  # of the design, whatever it runs

    def _planned(self, columns: Mapping[str, Column]) -> dict[str, Floats]:
        rows = [dict(zip(columns, values, strict=True)) for values in zip(*(c.tolist() for c in columns.values()),
                                                                          strict=True)]
        known: dict[tuple[object, ...], tuple[float, ...]] = {}
        figures = np.empty((len(rows), len(QUANTITIES)))
        for number, row in enumerate(rows):
            key = tuple(row.values())
            if key not in known:
                known[key] = self._figures(row)
            figures[number] = known[key]
        return dict(zip(QUANTITIES, figures.T.copy(), strict=True))

    def _figures(self, point: Point, fidelity: Fidelity = "analytical") -> tuple[float, ...]:
        try:
            return self._sums(catalogue.build(changed(self.content, point), self.path), fidelity)
        except CascadeSimError:
            return (np.nan,) * len(QUANTITIES)

    def _sums(self, accelerator: Accelerator, fidelity: Fidelity) -> tuple[float, ...]:
        latency_s = energy_j = dram_bytes = 0.0
        area = accelerator.area_um2()
        for use in self.uses:
            for report in reports(_request(use, self, accelerator, fidelity)):
                latency_s += use.weight * report.latency_s
                energy_j += use.weight * _known(report.total_energy_j)
                dram_bytes += use.weight * report.traffic.total_bytes
        return latency_s, energy_j, dram_bytes, np.nan if area is None else sum(area.values())

    def problem(self, point: Point) -> str | None:
        try:
            self._sums(catalogue.build(changed(self.content, point), self.path), "analytical")
        except CascadeSimError as error:
            return str(error)
        return None

    @property
    def has_cycle_level(self) -> bool:
        return self.accounting == "physical"

    def cycle_quantities(self, point: Point) -> dict[str, float]:
        figures = dict(zip(QUANTITIES, self._figures(point, "cycle"), strict=True))
        return {**figures, "tokens": self.tokens}

    def references(self) -> tuple[Reference, ...]:
        """Every preset of the same accelerator that can run the work."""
        folder, found = str(self.content["architecture"]), []
        for name, path in catalogue.presets().items():
            if name.split("/")[0] == folder:
                content = read_yaml(path)
                model = ArchitectureModel(path.stem, path, content, self.uses, self.accounting)
                figures = model._figures({})
                if np.isfinite(figures[0]):
                    named = dict(zip(QUANTITIES, figures, strict=True))
                    found.append(Reference(path.stem, {**named, "tokens": self.tokens}))
        return tuple(found)


def architecture_model(space: Space, source: str) -> ArchitectureModel:
    """Raises CascadeSimError on an unknown name, a field that is not there, a workload that does not exist."""
    name = space.architecture or ""
    path = catalogue.find_file(name)
    content = read_yaml(path)
    known = ArchitectureModel(name, path, content, space.workloads, space.accounting).fields
    unknown = [field for field in space.set if field not in known]
    if unknown:
        raise SpecError("\n".join(f"{source}: set.{shortened(field)}: no such field of {name}"
                                  f"{suggestion(field, known)}" for field in unknown))
    for use in space.workloads:
        load_workload(use.workload)
    return ArchitectureModel(name, path, changed(content, space.set), space.workloads, space.accounting)


def refuse_unread(model: ArchitectureModel, fields: Sequence[str], points: Sequence[Point], source: str) -> None:
    """Fields that no figure depends on in any of these designs. Raises SpecError with all of them."""
    reasons: dict[str, str] = dict.fromkeys(fields, "")
    for point in points:
        with suppress(CascadeSimError):  # a design that cannot be: the others speak
            unread = catalogue.unread(catalogue.build(changed(model.content, point), model.path), fields)
            reasons = {field: unread[field] for field in reasons if field in unread}
    lines = [f"{source}: {field}: changes nothing: {why}" for field, why in reasons.items() if why]
    if lines:
        raise SpecError("\n".join(lines))


def changed(content: Mapping[str, Any], point: Point) -> dict[str, Any]:
    """`content` with each dotted field of `point` replaced; whole numbers as integers, which every field takes."""
    found = dict(content)
    for field, value in point.items():
        group, parts = found, field.split(".")
        for part in parts[:-1]:
            group[part] = dict(group.get(part) or {})
            group = group[part]
        group[parts[-1]] = int(value) if isinstance(value, float) and value.is_integer() else value
    return found


def _request(use: Use, model: ArchitectureModel, accelerator: Accelerator | None = None,
             fidelity: Fidelity = "analytical") -> Request:
    return Request(
        load_workload(use.workload), accelerator or model.accelerator, _length(use), use.batch, use.phase, use.scope,
        fidelity, "artifact" if model.accounting == "artifact" else "physical", use.attention,
    )  # fmt: skip


def _length(use: Use) -> int | None:
    return None if use.sequence_length is None else int(use.sequence_length)


def _tokens(use: Use) -> int:
    workload = load_workload(use.workload)
    per_sequence = 1 if use.phase == "decode" else _length(use) or workload.sequence_length
    return (use.batch or workload.batch) * per_sequence


def _paths(content: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, object]]:
    """Every field of a file, dotted."""
    for name, value in content.items():
        if isinstance(value, Mapping):
            yield from _paths(value, f"{above}{name}.")
        else:
            yield f"{above}{name}", value


def _known(value: float | None) -> float:
    return np.nan if value is None else value


def simulated(model: ArchitectureModel, point: Point, fidelity: Fidelity = "cycle") -> tuple[Report, ...]:
    """The reports of one design, for a closer look."""
    accelerator = catalogue.build(changed(model.content, point), model.path)
    return tuple(report for use in model.uses for report in reports(_request(use, model, accelerator, fidelity)))
