"""Finds what to ask for instead: strides, windows, dilations and tile shapes that reach more of the bound.

Every list is a frontier: from the smallest change of what was asked to the largest, each entry strictly faster than
all before it. The stride search is the one behind the published recommendations (GNA, arXiv 2504.16922, tables 2-5).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from math import prod
from typing import Literal, TypeAlias

import numpy as np

from cascadesim.accelerators.neighborhood_kernels import TileShapes
from cascadesim.einsum_cascades.sparsity.masks import Axis
from cascadesim.simulator.gna.neighborhood import TILINGS, Bound, Mode, Question
from cascadesim.simulator.gna.visits import Tiling, stride_sweep

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

    @property
    def rank(self) -> tuple[float, bool]:
        return self.speed, self.block_sparse


def stride_frontier(question: Question, mode: Mode = "multidim_static") -> tuple[Recommendation, ...]:
    """Strides in order of their product, each with a strictly better bound than all before; the first is 1.

    Bounds are worst bounds; mean ones where some dimension is causal (its last query tile sees everything). Of equal
    products the better one comes first. Multi-dimensional modes only.
    """
    averaged = any(question.pattern.causal)
    per_axis = [_cheaper_strides(*side, TILINGS[mode], averaged) for side in question.sides]
    combined = [
        (tuple(stride for stride, _ in combination), prod(cost for _, cost in combination))
        for combination in product(*per_axis)
    ]
    found: list[Recommendation] = []
    best: int | None = None
    for stride, cost in sorted(combined, key=lambda entry: (prod(entry[0]), entry[1], entry[0])):
        if best is None or cost < best:
            best = cost
            found.append(Recommendation("stride", with_stride(question, stride), mode))
    return tuple(found)


def _cheaper_strides(
    axis: Axis, query_tile: int, key_tile: int, tiling: Tiling, averaged: bool
) -> list[tuple[int, int]]:
    """(stride, cost) of the strides of one dimension that are cheaper than every smaller one.

    The cost is what the bound divides by: the most visited key tiles, all of them where the bound is `averaged`.
    """
    largest, total = stride_sweep(axis, query_tile, key_tile, tiling)
    cost = total if averaged else largest
    smaller = np.concatenate([[np.iinfo(np.int64).max], np.minimum.accumulate(cost)[:-1]])
    return [(int(stride) + 1, int(cost[stride])) for stride in np.flatnonzero(cost < smaller)]


def with_stride(question: Question, stride: Sequence[int]) -> Question:
    return replace(question, pattern=replace(question.pattern, stride=tuple(stride)))


def window_frontier(question: Question, mode: Mode = "multidim_static") -> tuple[Recommendation, ...]:
    """Windows of whole key tiles, each with its best stride, the nearest to the asked window first.

    The distance is the change in attended pairs.
    """
    choices = []
    for axis, _, key in question.sides:
        rounded = (axis.window // key * key, -(-axis.window // key) * key)
        choices.append({axis.window, *(size for size in rounded if 1 <= size <= axis.length // axis.dilation)})
    options = []
    for window in set(product(*choices)) - {question.pattern.window}:
        pattern = replace(question.pattern, window=window, stride=(1,) * len(window))
        fastest = stride_frontier(replace(question, pattern=pattern), mode)[-1]
        distance = abs(fastest.question.attended_pairs / question.attended_pairs - 1)
        options.append(replace(fastest, change="window", distance=distance))
    return _frontier(options, stride_frontier(question, mode)[-1:])


def dilation_frontier(question: Question, mode: Mode = "multidim_static") -> tuple[Recommendation, ...]:
    """Dilations that make each group exactly one window long: as many keys, spread over the whole dimension.

    Strides stay as asked; the distance is how much further apart keys are.
    """
    asked = question.pattern
    choices = [
        {axis.dilation, axis.length // axis.window if axis.length % axis.window == 0 else axis.dilation}
        for axis in asked.axes
    ]
    options = [
        Recommendation("dilation", replace(question, pattern=replace(asked, dilation=dilation)), mode,
                       abs(prod(dilation) / prod(asked.dilation) - 1))
        for dilation in set(product(*choices)) - {asked.dilation}
    ]  # fmt: skip
    return _frontier(options, (Recommendation("dilation", question, mode),))


def tile_frontier(question: Question, shapes: Iterable[TileShapes], mode: Mode) -> tuple[Recommendation, ...]:
    """Tries all strides on all given tile shapes: the finest stride first, each entry faster than all before it."""
    options = [
        replace(option, change="tiles")
        for shape in shapes
        for option in stride_frontier(replace(question, tiles=shape), mode)
    ]
    return _frontier(options)


def _frontier(options: Iterable[Recommendation], known: Sequence[Recommendation] = ()) -> tuple[Recommendation, ...]:
    """Nearest first, each faster than all before it and than what is known already; mask-free is faster than masked."""
    best = max((option.rank for option in known), default=(0.0, False))
    found = []
    for option in sorted(options, key=lambda option: (option.distance, option.coarseness, -option.speed)):
        if option.rank > best:
            best = option.rank
            found.append(option)
    return tuple(found)
