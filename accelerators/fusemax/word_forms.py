"""Words that one attention operation moves, counted once for every extent: the counting engine on symbols.

Which loops the counting leaves out depends only on which of them have a single iteration, so there is one count for
each such pattern. Knows no extents. Full attention only: projections of masked spaces are no products.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import cast

import numpy as np
from numpy.typing import NDArray

from cascadesim.accelerators.access_counts import Accesses, Size
from cascadesim.accelerators.fusemax.actions import (
    PHYSICAL,
    REGISTERS,
    REGISTERS_1D,
    CountedAccesses,
    Nests,
    count,
    single_loops,
    tile_words,
    with_single_loops,
)
from cascadesim.accelerators.fusemax.placement import ARRAY_2D, DRAM, GLOBAL_BUFFER, Placement
from cascadesim.accelerators.spatial.attention_tiles import AttentionShape, AttentionTiles

_SIDE = 2  # any size above 1 shows the same pattern


@dataclass(frozen=True)
class WordForms:
    """Words read and written at each level; `registers_1d` also where the 2D array uses them."""

    dram_read: LinearForm
    dram_write: LinearForm
    buffer_read: LinearForm
    buffer_write: LinearForm
    registers_2d_read: LinearForm
    registers_2d_write: LinearForm
    registers_1d_read: LinearForm
    registers_1d_write: LinearForm

    @property
    def buffer(self) -> LinearForm:
        return self.buffer_read + self.buffer_write


def word_forms(placement: Placement, key_tiles: int, P1: int, P2: int) -> WordForms:
    """Words of every operation whose three loops have a single iteration where these numbers are 1."""
    single = single_loops(key_tiles, P1, P2)
    counted = count(Nests(placement, _example(key_tiles, P1, P2), {"e": _SIDE, "f": _SIDE}, _symbols(single)), PHYSICAL)
    on_2d = [einsum for einsum in counted if einsum.placed.unit == ARRAY_2D]
    on_1d = [einsum for einsum in counted if einsum.placed.unit != ARRAY_2D]
    levels = (
        _level(counted, DRAM), _level(counted, GLOBAL_BUFFER), _level(on_2d, REGISTERS),
        _level(on_1d, REGISTERS) + _level(on_2d, REGISTERS_1D),
    )  # fmt: skip
    return WordForms(*(_form(words) for level in levels for words in (level.reads, level.writes)))


@dataclass(frozen=True)
class TileForms:
    """Words through the buffer in one whole tile: always, and when it fetches or finishes what a Kind says."""

    always: LinearForm
    queries_fetched: LinearForm
    keys_fetched: LinearForm
    finished: LinearForm


def tile_forms(placement: Placement) -> TileForms:
    """Words of a tile of any sizes: projections to m0, p0 and the depths."""
    return _tile_forms(_Kept(placement))


@dataclass(frozen=True, eq=False)
class _Kept:
    """Equal where every Einsum runs on the same unit and keeps the same operands, whatever its operations cost."""

    placement: Placement

    @cached_property
    def _key(self) -> tuple[object, ...]:
        placed = ((each.name, each.unit, each.operands, each.dram_keeps, each.buffer_keeps, each.registers_1d_keeps)
                  for each in self.placement.einsums)  # fmt: skip
        return (self.placement.key_outer, self.placement.key_inner, *placed)

    def __hash__(self) -> int:
        return hash(self._key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Kept) and self._key == other._key


@cache
def _tile_forms(kept: _Kept) -> TileForms:
    placement, single = kept.placement, single_loops(1, 1, 1)
    counted = count(Nests(placement, _example(1, 1, 1), {"e": _SIDE, "f": _SIDE}, _symbols(single)), PHYSICAL)
    return TileForms(*(_form(words) for words in tile_words(placement, counted)))


def _level(counted: Iterable[CountedAccesses], level: str) -> Accesses:
    return sum((einsum.level(level) for einsum in counted), Accesses())


def _symbols(single: frozenset[str]) -> Size:
    """Every projection stands for itself."""

    def size(loops: frozenset[str]) -> LinearForm:
        return LinearForm({with_single_loops(loops, single): 1})

    return cast(Size, size)


def _form(words: object) -> LinearForm:
    return words if isinstance(words, LinearForm) else LinearForm()


def _example(key_tiles: int, P1: int, P2: int) -> AttentionTiles:
    shape = AttentionShape(_SIDE, _SIDE * min(P1, 2) * min(P2, 2), _SIDE * min(key_tiles, 2), _SIDE, _SIDE)
    return AttentionTiles(shape, _SIDE, _SIDE, buffer_tiles=min(P1, 2), P1=min(P1, 2), kv_slots=1)


Floats = NDArray[np.float64]


@dataclass(frozen=True)
class LinearForm:
    """Whole multiples of the sizes of projections, each named by its loops."""

    terms: Mapping[frozenset[str], int] = field(default_factory=dict)

    def __add__(self, other: LinearForm | int) -> LinearForm:
        return self._combined(other, 1)

    __radd__ = __add__

    def __sub__(self, other: LinearForm | int) -> LinearForm:
        return self._combined(other, -1)

    def __bool__(self) -> bool:
        return bool(self.terms)

    def _combined(self, other: LinearForm | int, sign: int) -> LinearForm:
        if isinstance(other, int):
            if other != 0:
                raise TypeError(f"a sum of projections and the number {other} do not add up")
            return self
        sums = Counter(dict(self.terms))
        for loops, times in other.terms.items():
            sums[loops] += sign * times
        return LinearForm({loops: times for loops, times in sums.items() if times})

    def evaluate(self, size: Callable[[frozenset[str]], Floats]) -> Floats:
        total = np.zeros(())
        for loops, times in self.terms.items():
            total = total + times * size(loops)
        return total
