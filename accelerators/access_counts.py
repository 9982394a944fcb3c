"""How often each memory level is accessed, for any Einsum under any loop nest: a model of what Timeloop reports.

Levels go from DRAM inwards to the registers; spatial loops sit just outside the registers. Counts are sizes of the
iteration space projected to some of its loops, so the same rules hold for rectangular nests (products of bounds) and
ragged ones (masks, partial tiles). Knows no cascade, no accelerator, no energy. Rules: FuseMax artifact
(micro24-fusemax-artifact), Timeloop's counts as the published energies use them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from math import prod
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from cascadesim.einsum_cascades.notation.errors import CascadeSimError

Floats: TypeAlias = NDArray[np.float64]
Size: TypeAlias = Callable[[frozenset[str]], int]
Registers: TypeAlias = Literal["all", "one"]

_WORD64 = 1 << 64  # Timeloop multiplies access counts in unsigned 64-bit integers


@dataclass(frozen=True, slots=True)
class Loop:
    """A loop that walks over `ranks`: over the tensors that have one of them."""

    name: str
    ranks: frozenset[str]
    bound: int

    def walks(self, ranks: frozenset[str]) -> bool:
        return not self.ranks.isdisjoint(ranks)


def loop_over(name: str, bound: int) -> Loop:
    """The loop over a rank or its tiles: `m1` walks over the tensors that have m."""
    return Loop(name, frozenset(name[0]), bound)


@dataclass(frozen=True, slots=True)
class Level:
    """A memory with temporal loops from outer to inner; it `keeps` these operands, None for all (others pass it by)."""

    name: str
    loops: tuple[Loop, ...]
    keeps: frozenset[str] | None = None


@dataclass(frozen=True)
class Nest:
    """Levels stand from outer to inner, the last one being the registers of one element; `spatial` is over elements.

    `size`: points of the iteration space projected to the named loops; None for the product of their bounds.
    """

    levels: tuple[Level, ...]
    spatial: tuple[Loop, ...]
    size: Size | None = None

    @cached_property
    def temporal(self) -> tuple[Loop, ...]:
        return tuple(loop for level in self.levels for loop in level.loops)

    def points(self, loops: Iterable[Loop]) -> int:
        """Count the distinct iterations of `loops` taken together."""
        if self.size is None:
            return prod(loop.bound for loop in set(loops))
        return self.size(frozenset(loop.name for loop in loops))


@dataclass(frozen=True, slots=True)
class Operand:
    """A tensor as one Einsum uses it, told apart from the same tensor at another coordinate by its name."""

    name: str
    ranks: frozenset[str]
    is_output: bool = False


@dataclass(frozen=True, slots=True)
class Accesses:
    """Words that are read, filled from further out, and updated by the level inwards."""

    reads: int = 0
    fills: int = 0
    updates: int = 0

    @property
    def writes(self) -> int:
        return self.fills + self.updates

    def __add__(self, other: Accesses) -> Accesses:
        return Accesses(self.reads + other.reads, self.fills + other.fills, self.updates + other.updates)


def count_accesses(
    operands: Iterable[Operand], nest: Nest, registers: Registers = "all", wrap64: bool = False
) -> dict[tuple[str, str], Accesses]:
    """Count the accesses of every operand at every level that keeps it: (level, operand) -> accesses.

    `registers`: count the register files of all elements, or of one element only (as the artifact reports them).
    `wrap64`: elide first writes with Timeloop's 64-bit products, which wrap for long sequences. Raises CascadeSimError
    for that of a nest that is not rectangular.
    """
    if wrap64 and nest.size is not None:
        raise CascadeSimError("64-bit wrap is defined for rectangular loop nests only")
    counter, found = _Counter(nest, registers, wrap64), {}
    for operand in operands:
        homes = [index for index, level in enumerate(nest.levels) if level.keeps is None or operand.name in level.keeps]
        for index in homes:
            found[nest.levels[index].name, operand.name] = counter.accesses(operand, homes, index)
    return found


@dataclass(frozen=True)
class _Counter:
    """The rules apply to one nest. `homes`: the levels that keep an operand, outer to inner; `index`: one of them."""

    nest: Nest
    registers: Registers
    wrap64: bool

    def accesses(self, operand: Operand, homes: list[int], index: int) -> Accesses:
        """Count the words that the level hands inwards (or takes from there), and receives from its next outer home."""
        points, elements = self.nest.points, self._elements(operand, index)
        inner = next((home for home in homes if home > index), None)
        loops = self.nest.temporal if inner is None else self._events(operand, inner) + self._tile(operand, inner)
        moved = points(loops + elements)
        filled = 0  # the outermost home is filled by nobody
        if index != homes[0]:
            filled = points(self._events(operand, index) + self._tile(operand, index) + elements)
        if not operand.is_output:
            return Accesses(reads=moved, fills=filled)
        first = self._first_writes(operand, index)
        return Accesses(reads=moved - first, fills=filled - first if filled else 0, updates=moved)

    def _elements(self, operand: Operand, index: int) -> tuple[Loop, ...]:
        """Select the spatial loops that count at a level: registers belong to one element each.

        Further out, only those over the operand: along the others it is multicast, or reduced on its way.
        """
        if index == len(self.nest.levels) - 1:
            return self.nest.spatial if self.registers == "all" else ()
        return tuple(loop for loop in self.nest.spatial if loop.walks(operand.ranks))

    def _events(self, operand: Operand, index: int) -> tuple[Loop, ...]:
        """Drop the innermost loops outside the level that leave the operand where it is; others make it come again."""
        outside = [loop for level in self.nest.levels[:index] for loop in level.loops]
        while outside and (outside[-1].bound == 1 or not outside[-1].walks(operand.ranks)):
            outside.pop()
        return tuple(outside)

    def _tile(self, operand: Operand, index: int) -> tuple[Loop, ...]:
        """Select the temporal loops from the level inwards that walk over the operand."""
        inside = (loop for level in self.nest.levels[index:] for loop in level.loops)
        return tuple(loop for loop in inside if loop.walks(operand.ranks))

    def _first_writes(self, operand: Operand, index: int) -> int:
        """Count the updates that need no read before them, because nothing has been written there yet.

        With `wrap64`: the whole tensor at the outermost level, scaled level by level as `x * size / size` in 64 bits.
        Every level takes part, whether or not it keeps the operand; at the registers the divisor is that of all
        elements. Where the product wraps, too few reads are elided: a quirk of the published energies.
        """
        if not self.wrap64:
            return self.nest.points(self._tile(operand, 0) + self._elements(operand, index))
        spread = self.nest.points(loop for loop in self.nest.spatial if loop.walks(operand.ranks))
        first = self.nest.points(self._tile(operand, 0)) * spread % _WORD64
        for level in range(1, index + 1):
            inner = self.nest.points(self._tile(operand, level))
            size = inner if level == len(self.nest.levels) - 1 else inner * spread
            first = first * size % _WORD64 // (inner * spread)
        return first


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
