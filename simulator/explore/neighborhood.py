"""Neighborhood attention as a space: window, stride, dilation and tile shapes vary, tile counts and times answer.

Fields: `window_1`, `stride_1`, `dilation_1`, ... one per dimension of the layout, and `tiles` ('8x4x8 4x4x8': query
tile, key tile). Figures are those of `gna`; the counts are exact, so there is no cycle level.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import prod

import numpy as np

from cascadesim.accelerators.catalogue import Column, Floats
from cascadesim.accelerators.neighborhood_kernels import KernelConstants, TileShapes, device, legal_tiles
from cascadesim.einsum_cascades.models.sections import layout_sizes
from cascadesim.einsum_cascades.models.workload import load_workload
from cascadesim.einsum_cascades.notation.errors import CascadeSimError, SpecError, listed, shortened, shown
from cascadesim.einsum_cascades.sparsity.masks import neighborhood, times
from cascadesim.simulator.cli.gna import LARGEST_LAYOUT
from cascadesim.simulator.explore.models import Point, Reference, points_of
from cascadesim.simulator.explore.space import NeighborhoodSpec, Space
from cascadesim.simulator.gna.neighborhood import Mode, Question, predict

_COUNTED = ("worst_bound", "mean_bound", "queries_per_window", "attended_pairs")
_TIMED = ("latency_s", "kernel_s", "permute_s", "speedup")


@dataclass(frozen=True)
class NeighborhoodModel:
    """Answers what `ArchitectureModel` does. `device` None: bounds only, no times."""

    layout: tuple[int, ...]
    window: tuple[int, ...]
    tiles: str
    extra_keys: int
    heads: int
    head_dim: int
    device: KernelConstants | None
    has_cycle_level = False

    @property
    def fields(self) -> Mapping[str, object]:
        sizes = {"window": self.window, "stride": (1,) * len(self.layout), "dilation": (1,) * len(self.layout)}
        found = {f"{name}_{axis}": size for name, values in sizes.items() for axis, size in enumerate(values, start=1)}
        return {**found, "tiles": self.tiles}

    @property
    def given(self) -> tuple[str, ...]:
        return _COUNTED if self.device is None else (*_TIMED, *_COUNTED)

    def quantities(self, columns: Mapping[str, Column]) -> dict[str, Floats]:
        points = points_of({name: column for name, column in columns.items() if name in self.fields})
        figures = np.array([self._figures(point) for point in points]).reshape(len(points), len(self.given))
        return dict(zip(self.given, figures.T.copy(), strict=True))

    def problem(self, point: Point) -> str | None:
        try:
            self._question(point)
        except CascadeSimError as error:
            return str(error)
        return None

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


def tiles_of(text: str) -> TileShapes:
    """`8x4x8 4x4x8`: query tile, key tile."""
    parts = text.split()
    try:
        query, key = (tuple(int(size) for size in part.split("x")) for part in parts)
    except ValueError:
        raise CascadeSimError("tiles: give a query tile and a key tile such as '8x4x8 4x4x8', not "
                              f"'{shortened(text)}'") from None
    return TileShapes(query, key)


def neighborhood_model(space: Space, source: str) -> NeighborhoodModel:
    """Raises CascadeSimError on an unknown workload or device, or a layout that is not given anywhere."""
    asked = _with_workload(space.neighborhood or NeighborhoodSpec(window="1"), source)
    on = None if asked.device is None else device(asked.device)
    layout, window = layout_sizes(asked.layout or ""), layout_sizes(asked.window)
    if len(window) != len(layout) or prod(layout) > LARGEST_LAYOUT:
        raise SpecError(f"{source}: neighborhood: layout {asked.layout} and window {asked.window}: give both the same "
                        f"number of dimensions, and at most {LARGEST_LAYOUT:,} tokens")
    backend = "blackwell-fna" if on is None else on.backend
    first = legal_tiles(backend, len(layout), asked.head_dim)[0]
    tiles = f"{times(first.query)} {times(first.key)}"
    made = NeighborhoodModel(layout, window, tiles, asked.extra_keys, asked.heads, asked.head_dim, on)
    for value in space.vary["tiles"].listed() if "tiles" in space.vary else ():
        tiles_of(str(value))
    if not set(space.set) <= set(made.fields):
        raise SpecError(f"{source}: set: known here: {listed(made.fields)}")
    strange = [field for field in space.set if not field.startswith("window_") and field != "tiles"]
    if strange:
        raise SpecError(f"{source}: set.{shortened(strange[0])}: give it in `vary`, with one value")
    names = [f"window_{axis}" for axis in range(1, len(window) + 1)]
    window = tuple(_whole(name, space.set.get(name, size)) for name, size in zip(names, window, strict=True))
    return replace(made, window=window, tiles=str(space.set.get("tiles", tiles)))


def _with_workload(asked: NeighborhoodSpec, source: str) -> NeighborhoodSpec:
    """Layout, text and heads of the workload where it is named; what the space gives itself goes first."""
    if asked.workload is None:
        if asked.layout is None:
            raise SpecError(f"{source}: neighborhood: give a layout, or a workload that has one")
        return asked
    workload = load_workload(asked.workload)
    layout = asked.layout or workload.layout
    if layout is None:
        raise SpecError(f"{source}: neighborhood.workload: {workload.name} has no layout; give neighborhood.layout")
    changes: dict[str, object] = {"extra_keys": workload.text_length or 0}
    if workload.attention is not None:
        changes |= {"heads": workload.attention.heads, "head_dim": workload.attention.head_dim}
    own = {name: value for name, value in changes.items() if name not in asked.model_fields_set}
    return asked.model_copy(update={"layout": layout, **own})
