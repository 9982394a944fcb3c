"""Neighborhood attention as a space: window, stride, dilation and tile shapes vary, tile counts and times answer.

Fields: `window_1`, `stride_1`, `dilation_1`, ... one per dimension of the layout, and `tiles` ('8x4x8 4x4x8': query
tile, key tile). Figures are those of `gna`; the counts are exact, so there is no cycle level.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import prod

import numpy as np

from cascadesim.einsum_cascades.models.layers import layout_sizes
from cascadesim.einsum_cascades.models.workload import load_workload
from cascadesim.einsum_cascades.notation.errors import CascadeSimError, SpecError, listed, shortened, shown
from cascadesim.einsum_cascades.sparsity.neighborhood import neighborhood
from cascadesim.simulator.cli.gna import LARGEST_LAYOUT
from cascadesim.simulator.explore.expressions import Column
from cascadesim.simulator.explore.metrics import Floats
from cascadesim.simulator.explore.models import Point, Reference
from cascadesim.simulator.explore.space import Pattern, Space
from cascadesim.simulator.gna.neighborhood import Mode, Question, Tiles
from cascadesim.simulator.gna.shapes import legal_tiles
from cascadesim.simulator.gna.time import Device, device, predict

_COUNTED = ("worst_bound", "mean_bound", "queries_per_window", "attended_pairs")
_TIMED = ("latency_s", "kernel_s", "permute_s", "speedup")


@dataclass(frozen=True)
class NeighborhoodModel:
    """`device` None: bounds only, no times."""

    layout: tuple[int, ...]
    window: tuple[int, ...]
    tiles: str
    extra_keys: int
    heads: int
    head_dim: int
    device: Device | None

    @property
    def fields(self) -> Mapping[str, object]:
        sizes = {"window": self.window, "stride": (1,) * len(self.layout), "dilation": (1,) * len(self.layout)}
        found = {f"{name}_{axis}": size for name, values in sizes.items() for axis, size in enumerate(values, start=1)}
        return {**found, "tiles": self.tiles}

    @property
    def given(self) -> tuple[str, ...]:
        return _COUNTED if self.device is None else (*_TIMED, *_COUNTED)

    def quantities(self, columns: Mapping[str, Column]) -> dict[str, Floats]:
        columns = {name: column for name, column in columns.items() if name in self.fields}
        rows = [dict(zip(columns, values, strict=True))
                for values in zip(*(column.tolist() for column in columns.values()), strict=True)]
        figures = np.array([self._figures(row) for row in rows]).reshape(len(rows), len(self.given))
        return dict(zip(self.given, figures.T.copy(), strict=True))

    def problem(self, point: Point) -> str | None:
        try:
            self._question(point)
        except CascadeSimError as error:
            return str(error)
        return None

    @property
    def has_cycle_level(self) -> bool:
        return False

    def cycle_quantities(self, point: Point) -> dict[str, float]:
        return dict.fromkeys(self.given, np.nan)

    def references(self) -> tuple[Reference, ...]:
        """The asked window at the finest stride, on the first tiles of the device."""
        found = dict(zip(self.given, self._figures({}), strict=True))
        return (Reference("stride 1", found),) if np.isfinite(found["worst_bound"]) else ()

    def _figures(self, point: Point) -> tuple[float, ...]:
        try:
            question = self._question(point)
        except CascadeSimError:
            return (np.nan,) * len(self.given)
        mode: Mode = "multidim_static" if self.device is None else self.device.kernels.mode
        bound = question.bound(mode)
        counted = (bound.worst, bound.mean, float(prod(question.pattern.stride)), float(question.attended_pairs))
        if self.device is None:
            return counted
        predicted = predict(question, self.device, self.heads, self.head_dim)
        return (predicted.total_s, predicted.kernel_s, predicted.permute_s, predicted.speedup, *counted)

    def _question(self, point: Point) -> Question:
        values = {**self.fields, **point}
        sizes = {
            name: tuple(_whole(f"{name}_{axis}", values[f"{name}_{axis}"]) for axis in range(1, len(self.layout) + 1))
            for name in ("window", "stride", "dilation")
        }
        pattern = neighborhood(self.layout, sizes["window"], sizes["stride"], sizes["dilation"])
        return Question(pattern, tiles_of(str(values["tiles"])), self.extra_keys)


def _whole(name: str, value: object) -> int:
    """Raises CascadeSimError where a size is none."""
    if isinstance(value, int | float) and not isinstance(value, bool) and value == int(value):
        return int(value)
    raise CascadeSimError(f"{name}: expected a whole number, got {shown(value)}")


def tiles_of(text: str) -> Tiles:
    """`8x4x8 4x4x8`: query tile, key tile."""
    parts = text.split()
    try:
        query, key = (tuple(int(size) for size in part.split("x")) for part in parts)
    except ValueError:
        raise CascadeSimError("tiles: give a query tile and a key tile such as '8x4x8 4x4x8', not "
                              f"'{shortened(text)}'") from None
    return Tiles(query, key)


def neighborhood_model(space: Space, source: str) -> NeighborhoodModel:
    """Raises CascadeSimError on an unknown workload or device, or a layout that is not given anywhere."""
    asked = _with_workload(space.neighborhood or Pattern(window="1"), source)
    on = None if asked.device is None else device(asked.device)
    layout, window = layout_sizes(asked.layout or ""), layout_sizes(asked.window)
    if len(window) != len(layout) or prod(layout) > LARGEST_LAYOUT:
        raise SpecError(f"{source}: neighborhood: layout {asked.layout} and window {asked.window}: give both the same "
                        f"number of dimensions, and at most {LARGEST_LAYOUT:,} tokens")
    backend = "blackwell-fna" if on is None else on.backend
    first = legal_tiles(backend, len(layout), asked.head_dim)[0]
    tiles = " ".join("x".join(map(str, shape)) for shape in (first.query, first.key))
    made = NeighborhoodModel(layout, window, tiles, asked.extra_keys, asked.heads, asked.head_dim, on)
    for text in _texts(space, "tiles"):
        tiles_of(text)
    fixed = {field: value for field, value in space.set.items() if field in made.fields}
    if len(fixed) < len(space.set):
        raise SpecError(f"{source}: set: known here: {listed(made.fields)}")
    return _fixed(made, fixed, source)


def _fixed(made: NeighborhoodModel, values: Mapping[str, object], source: str) -> NeighborhoodModel:
    strange = [field for field in values if not field.startswith("window_") and field != "tiles"]
    if strange:
        raise SpecError(f"{source}: set.{shortened(strange[0])}: give it in `vary`, with one value")
    given = {f"window_{axis}": size for axis, size in enumerate(made.window, start=1)}
    window = tuple(_whole(name, values.get(name, size)) for name, size in given.items())
    return replace(made, window=window, tiles=str(values.get("tiles", made.tiles)))


def _texts(space: Space, field: str) -> list[str]:
    return [str(value) for value in space.vary[field].listed()] if field in space.vary else []


def _with_workload(asked: Pattern, source: str) -> Pattern:
    """Layout, text and heads of the workload where it is named; what the space gives itself goes first."""
    if asked.workload is None:
        if asked.layout is None:
            raise SpecError(f"{source}: neighborhood: give a layout, or a workload that has one")
        return asked
    workload = load_workload(asked.workload)
    given = asked.model_fields_set
    layout = asked.layout or workload.layout
    if layout is None:
        raise SpecError(f"{source}: neighborhood.workload: {workload.name} has no layout; give neighborhood.layout")
    changes: dict[str, object] = {"layout": layout}
    if workload.attention is not None:
        changes |= {"heads": workload.attention.heads, "head_dim": workload.attention.head_dim}
    changes["extra_keys"] = workload.text_length or 0
    return asked.model_copy(update={"layout": layout, **{k: v for k, v in changes.items() if k not in given}})
