"""What a space is about: a model that turns columns of fields into figures, and the metrics that follow from them.

`ArchitectureModel`: any accelerator, by its vectorised evaluator where it has one for the work, otherwise planned
design by design. The neighborhood model is `neighborhood`. Knows no space file and no search.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from cascadesim.accelerators import catalogue
from cascadesim.accelerators.catalogue import QUANTITIES, Column, Evaluator, Floats, find_evaluator
from cascadesim.accelerators.protocol import Accelerator
from cascadesim.einsum_cascades.models.workload import load_workload
from cascadesim.einsum_cascades.notation.errors import CascadeSimError, SpecError, shortened, suggestion
from cascadesim.einsum_cascades.notation.schema import dotted, read_yaml, replaced
from cascadesim.simulator.explore.space import Space, Use
from cascadesim.simulator.request import Fidelity, Request
from cascadesim.simulator.simulate import operations, reports

Point: TypeAlias = Mapping[str, object]  # the fields that a design changes


@dataclass(frozen=True)
class Metric:
    """A figure by which designs are compared. `name` carries the unit; `meaning` is how pictures and tables say it."""

    name: str
    meaning: str
    larger_is_better: bool = False

    @property
    def sign(self) -> float:
        """The factor that makes a cost of the figure: costs are better when smaller."""
        return -1.0 if self.larger_is_better else 1.0


METRICS: Mapping[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("latency_s", "latency (s)"), Metric("energy_j", "energy (J)"),
        Metric("energy_delay_j_s", "energy-delay product (J s)"), Metric("power_w", "average power (W)"),
        Metric("area_um2", "area (um2)"), Metric("area_mm2", "area (mm2)"),
        Metric("dram_bytes", "DRAM traffic (bytes)"), Metric("tokens_per_s", "tokens per second", True),
        Metric("tokens_per_s_per_mm2", "tokens per second and mm2", True),
        Metric("tokens_per_j", "tokens per joule", True), Metric("kernel_s", "time of the kernel (s)"),
        Metric("permute_s", "time of the token permutation (s)"),
        Metric("speedup", "speedup over dense attention", True),
        Metric("worst_bound", "bound by the busiest tile", True), Metric("mean_bound", "bound by the mean tile", True),
        Metric("queries_per_window", "queries that share a window"), Metric("attended_pairs", "attended pairs", True),
    )
}  # fmt: skip
ALIASES: Mapping[str, str] = {
    "latency": "latency_s", "energy": "energy_j", "area": "area_um2", "energy_delay": "energy_delay_j_s",
    "power": "power_w",
}  # fmt: skip
# what follows from the quantities of a model: name -> (those it needs, how)
_FOLLOWING: Mapping[str, tuple[tuple[str, ...], Callable[..., Floats]]] = {
    "energy_delay_j_s": (("energy_j", "latency_s"), lambda energy_j, latency_s: energy_j * latency_s),
    "power_w": (("energy_j", "latency_s"), lambda energy_j, latency_s: energy_j / latency_s),
    "area_mm2": (("area_um2",), lambda area_um2: area_um2 * 1e-6),
    "tokens_per_s": (("tokens", "latency_s"), lambda tokens, latency_s: tokens / latency_s),
    "tokens_per_s_per_mm2": (
        ("tokens", "latency_s", "area_um2"),
        lambda tokens, latency_s, area_um2: tokens / latency_s / (area_um2 * 1e-6),
    ),
    "tokens_per_j": (("tokens", "energy_j"), lambda tokens, energy_j: tokens / energy_j),
}


def metric_of(name: str) -> Metric:
    """The metric of that name, or a field of the space that is to be small."""
    return METRICS.get(name) or Metric(name, name)


def available(given: Collection[str]) -> tuple[str, ...]:
    """Names of all metrics that a model of these quantities has."""
    following = (name for name, (needs, _) in _FOLLOWING.items() if set(needs) <= set(given))
    return tuple(name for name in (*given, *following) if name in METRICS)


def with_following(given: Mapping[str, Floats], wanted: Collection[str] | None = None) -> dict[str, Floats]:
    """The quantities of a model and all that follow from them (or those that are wanted)."""
    found = dict(given)
    with np.errstate(divide="ignore", invalid="ignore"):
        for name in available(given):
            if name not in found and (wanted is None or name in wanted):
                needs, follow = _FOLLOWING[name]
                found[name] = follow(*(given[need] for need in needs))
    return found


def points_of(columns: Mapping[str, Column]) -> list[Point]:
    """Turns columns of fields into designs, one after the other."""
    rows = zip(*(column.tolist() for column in columns.values()), strict=True)
    return [dict(zip(columns, row, strict=True)) for row in rows]


@dataclass(frozen=True)
class Reference:
    """A named design that the space can be compared with."""

    name: str
    quantities: Mapping[str, float]


@dataclass(frozen=True)
class ArchitectureModel:
    """An accelerator of which some fields change, judged on workloads. `content`: what its file holds."""

    name: str
    path: Path
    content: Mapping[str, Any]
    uses: tuple[Use, ...]
    accounting: str

    @cached_property
    def fields(self) -> Mapping[str, object]:
        """Every dotted field but `architecture`, which the space names once."""
        return {name: value for name, value in dotted(self.content) if name != "architecture"}

    @property
    def given(self) -> tuple[str, ...]:
        """Names of the quantities it gives."""
        return (*QUANTITIES, "tokens")

    @cached_property
    def tokens(self) -> float:
        """Tokens that all workloads give together, each counted as often as its weight says."""
        total = 0.0
        for use in self.uses:
            workload = load_workload(use.workload)
            length = 1 if use.phase == "decode" else int(use.sequence_length or workload.sequence_length)
            total += use.weight * ((use.batch or workload.batch) * length)
        return total

    @cached_property
    def _evaluators(self) -> tuple[Evaluator, ...] | None:
        """One for each workload; None if one of them has to be planned design by design."""
        if self.accounting != "physical":
            return None
        folder, accelerator = str(self.content["architecture"]), catalogue.build(self.content, self.path)
        found = [find_evaluator(folder, accelerator, operations(self._request(use, accelerator))) for use in self.uses]
        ready = tuple(evaluator for evaluator in found if evaluator is not None)
        return ready if len(ready) == len(found) else None

    @property
    def is_vectorised(self) -> bool:
        return self._evaluators is not None

    def quantities(self, columns: Mapping[str, Column]) -> dict[str, Floats]:
        """Returns a column for each of `given`, (designs,) float64; nan where a design cannot be."""
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
        known: dict[tuple[object, ...], tuple[float, ...]] = {}
        points = points_of(columns)
        figures = np.empty((len(points), len(QUANTITIES)))
        for number, point in enumerate(points):
            key = tuple(point.values())
            if key not in known:
                known[key] = self._figures(point)
            figures[number] = known[key]
        return dict(zip(QUANTITIES, figures.T.copy(), strict=True))

    def _figures(self, point: Point, fidelity: Fidelity = "analytical") -> tuple[float, ...]:
        try:
            return self._sums(point, fidelity)
        except CascadeSimError:
            return (np.nan,) * len(QUANTITIES)

    def _sums(self, point: Point, fidelity: Fidelity) -> tuple[float, ...]:
        """QUANTITIES of one design over all workloads. Raises CascadeSimError where it cannot be."""
        accelerator = catalogue.build(changed(self.content, point), self.path)
        latency_s = energy_j = dram_bytes = 0.0
        area = accelerator.area_um2()
        for use in self.uses:
            for report in reports(self._request(use, accelerator, fidelity)):
                latency_s += use.weight * report.latency_s
                energy_j += use.weight * (np.nan if report.total_energy_j is None else report.total_energy_j)
                dram_bytes += use.weight * report.traffic.total_bytes
        return latency_s, energy_j, dram_bytes, np.nan if area is None else sum(area.values())

    def _request(self, use: Use, accelerator: Accelerator, fidelity: Fidelity = "analytical") -> Request:
        return Request(
            load_workload(use.workload), accelerator,
            None if use.sequence_length is None else int(use.sequence_length), use.batch, use.phase, use.scope,
            fidelity, "artifact" if self.accounting == "artifact" else "physical", use.attention,
        )  # fmt: skip

    def problem(self, point: Point) -> str | None:
        """Says why one design cannot be; None if it can."""
        try:
            self._sums(point, "analytical")
        except CascadeSimError as error:
            return str(error)
        return None

    @property
    def has_cycle_level(self) -> bool:
        return self.accounting == "physical"

    def cycle_quantities(self, point: Point) -> dict[str, float]:
        """The quantities of one design at cycle level; nan where it cannot be."""
        return {**dict(zip(QUANTITIES, self._figures(point, "cycle"), strict=True)), "tokens": self.tokens}

    def references(self) -> tuple[Reference, ...]:
        """Every preset of the same accelerator that can run the work."""
        found = []
        for name, path in catalogue.presets().items():
            if name.split("/")[0] == self.content["architecture"]:
                model = ArchitectureModel(path.stem, path, read_yaml(path), self.uses, self.accounting)
                figures = dict(zip(QUANTITIES, model._figures({}), strict=True))
                if np.isfinite(figures["latency_s"]):
                    found.append(Reference(path.stem, {**figures, "tokens": self.tokens}))
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
    """Refuses fields that no figure depends on in any of these designs. Raises SpecError with all of them."""
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
        whole = isinstance(value, float) and value.is_integer()
        found = replaced(found, field.split("."), int(value) if whole else value, field)  # type: ignore[call-overload]
    return found
