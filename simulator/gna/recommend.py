"""What to ask for instead: strides, windows, dilations and tile shapes that reach more of the bound.

Every list is a frontier: from the smallest change of what was asked to the largest, each entry strictly faster than
all before it. The stride search is the one behind the published recommendations (GNA, arXiv 2504.16922, tables 2-5).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from math import prod
from typing import Literal, TypeAlias

import numpy as np

from cascadesim.einsum_cascades.sparsity.neighborhood import Axis, times
from cascadesim.simulator.gna.axis import stride_sweep
from cascadesim.simulator.gna.neighborhood import TILINGS, Bound, Mode, Question, Tiles

Change: TypeAlias = Literal["stride", "window", "dilation", "tiles"]


@dataclass(frozen=True)
class Recommendation:
    """A question to ask instead. `distance`: how far it is from what was asked (0: only strides or tiles differ)."""

    change: Change
    question: Question
    mode: Mode
    distance: float = 0.0

    @cached_property
    def bound(self) -> Bound:
        return self.question.bound(self.mode)

    @property
    def block_sparse(self) -> bool:
        return self.mode == "multidim_static" and self.question.block_sparse

    @property
    def coarseness(self) -> int:
        """Queries that share one window: 1 is the finest pattern."""
        return prod(self.question.pattern.stride)

    @property
    def speed(self) -> float:
        """The figure that ranks it: the worst bound, the mean one where some dimension is causal."""
        return self.bound.mean if any(self.question.pattern.causal) else self.bound.worst

    def __str__(self) -> str:
        pattern = self.question.pattern
        return f"stride {times(pattern.stride)}, window {times(pattern.window)}, {self.question.tiles}"


def stride_frontier(question: Question, mode: Mode = "multidim_static") -> tuple[Recommendation, ...]:
    """Strides in order of their product, each with a strictly better bound than all before; the first is 1.

    Bounds are worst bounds; mean ones where some dimension is causal (its last query tile sees everything). Of equal
    products the better one comes first. Multi-dimensional modes only.
    """
    found: list[Recommendation] = []
    best: int | None = None
    for stride, cost in _strides_by_product(question, mode):
        if best is None or cost < best:
            best = cost
            found.append(Recommendation("stride", with_stride(question, stride), mode))
    return tuple(found)


def with_stride(question: Question, stride: Sequence[int]) -> Question:
    return replace(question, pattern=replace(question.pattern, stride=tuple(stride)))


def _strides_by_product(question: Question, mode: Mode) -> list[tuple[tuple[int, ...], int]]:
    """(stride, cost) of the strides worth a look, finest first; the cost is what the bound divides by."""
    axes = zip(question.pattern.axes, question.tiles.query, question.tiles.key, strict=True)
    averaged = any(question.pattern.causal)
    per_axis = [_candidates(axis, query, key, mode, averaged) for axis, query, key in axes]
    combined = [
        (tuple(stride for stride, _ in combination), prod(cost for _, cost in combination))
        for combination in product(*per_axis)
    ]
    return sorted(combined, key=lambda entry: (prod(entry[0]), entry[1], entry[0]))


def _candidates(axis: Axis, query_tile: int, key_tile: int, mode: Mode, averaged: bool) -> list[tuple[int, int]]:
    """(stride, cost) of the strides along one dimension that are cheaper than every smaller one."""
    largest, total = stride_sweep(axis, query_tile, key_tile, TILINGS[mode])
    cost = total if averaged else largest
    smaller = np.concatenate([[np.iinfo(np.int64).max], np.minimum.accumulate(cost)[:-1]])
    strides = np.flatnonzero(cost < smaller)
    return [(int(stride) + 1, int(cost[stride])) for stride in strides]


def window_frontier(question: Question, mode: Mode = "multidim_static") -> tuple[Recommendation, ...]:
    """Windows of whole key tiles, each with its best stride, the nearest to the asked window first."""
    axes = zip(question.pattern.axes, question.tiles.key, strict=True)
    windows = set(product(*(_rounded(axis, key) for axis, key in axes))) - {question.pattern.window}
    options = (_with_window(question, window, mode) for window in windows)
    return _frontier(options, stride_frontier(question, mode)[-1:])


def _rounded(axis: Axis, key_tile: int) -> Iterator[int]:
    """The window and its neighbours that are multiples of the key tile, where the layout has room for them."""
    yield axis.window
    for size in (axis.window // key_tile * key_tile, -(-axis.window // key_tile) * key_tile):
        if 1 <= size <= axis.length // axis.dilation:
            yield size


def _with_window(question: Question, window: tuple[int, ...], mode: Mode) -> Recommendation:
    """With its fastest stride; the distance is the change in attended pairs."""
    pattern = replace(question.pattern, window=window, stride=(1,) * len(window))
    fastest = stride_frontier(replace(question, pattern=pattern), mode)[-1]
    distance = abs(fastest.question.attended_pairs / question.attended_pairs - 1)
    return replace(fastest, change="window", distance=distance)


def dilation_frontier(question: Question, mode: Mode = "multidim_static") -> tuple[Recommendation, ...]:
    """Dilations that make each group exactly one window long: as many keys, spread over the whole dimension."""
    choices = [
        {axis.dilation, axis.length // axis.window if axis.length % axis.window == 0 else axis.dilation}
        for axis in question.pattern.axes
    ]
    dilations = set(product(*choices)) - {question.pattern.dilation}
    options = (_with_dilation(question, dilation, mode) for dilation in dilations)
    return _frontier(options, (Recommendation("dilation", question, mode),))


def _with_dilation(question: Question, dilation: tuple[int, ...], mode: Mode) -> Recommendation:
    """The strides stay as asked; the distance is how much further apart keys are."""
    pattern = replace(question.pattern, dilation=dilation)
    distance = abs(prod(dilation) / prod(question.pattern.dilation) - 1)
    return Recommendation("dilation", replace(question, pattern=pattern), mode, distance)


def _frontier(
    options: Iterable[Recommendation], known: Sequence[Recommendation] = ()
) -> tuple[Recommendation, ...]:
    """Nearest first, each faster than all before it and than what is known already; mask-free is faster than masked."""
    best = max((_rank(option) for option in known), default=(0.0, False))
    found = []
    for option in sorted(options, key=lambda option: (option.distance, option.coarseness, -option.speed)):
        if _rank(option) > best:
            best = _rank(option)
            found.append(option)
    return tuple(found)


def _rank(option: Recommendation) -> tuple[float, bool]:
    return option.speed, option.block_sparse


def tile_frontier(question: Question, shapes: Iterable[Tiles], mode: Mode) -> tuple[Recommendation, ...]:
    """All strides on all the given tile shapes: the finest stride first, each entry faster than all before it."""
    options = [
        replace(option, change="tiles")
        for shape in shapes
        for option in stride_frontier(replace(question, tiles=shape), mode)
    ]
    return _frontier(options)
