"""How often each memory level is accessed, for any Einsum under any loop nest: a model of what Timeloop reports.

Levels go from DRAM inwards to the registers; spatial loops sit just outside the registers. Counts are sizes of the
iteration space projected to some of its loops, so the same rules hold for rectangular nests (products of bounds) and
ragged ones (masks, partial tiles). Knows no cascade, no accelerator, no energy. Rules: FuseMax artifact
(micro24-fusemax-artifact), Timeloop's counts as the published energies use them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Literal, TypeAlias

from cascadesim.einsum_cascades.notation.errors import CascadeSimError

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
    """A memory, its temporal loops from outer to inner, and the operands it keeps, None for all (others pass it by)."""

    name: str
    loops: tuple[Loop, ...]
    keeps: frozenset[str] | None = None


@dataclass(frozen=True)
class Nest:
    """Levels from outer to inner, the last one the registers of one element; `spatial` spreads over the elements.

    `size`: points of the iteration space projected to the named loops; None for the product of their bounds.
    """

    levels: tuple[Level, ...]
    spatial: tuple[Loop, ...]
    size: Size | None = None

    @cached_property
    def temporal(self) -> tuple[Loop, ...]:
        return tuple(loop for level in self.levels for loop in level.loops)

    def points(self, loops: Iterable[Loop]) -> int:
        """Distinct iterations of `loops` taken together."""
        if self.size is None:
            return prod(loop.bound for loop in set(loops))
        return self.size(frozenset(loop.name for loop in loops))


def ragged(*ranks: tuple[int, tuple[Loop, ...]]) -> Size:
    """The `size` of ranks that are split unevenly: (extent, its loops from outer to inner) per rank.

    Projected to the outer loops of a rank there are as many points as tiles start, the last one a partial one.
    """
    return lambda names: prod(_projected(extent, loops, names) for extent, loops in ranks)


def _projected(extent: int, loops: tuple[Loop, ...], names: frozenset[str]) -> int:
    taken = [index for index, loop in enumerate(loops) if loop.name in names]
    inside = prod(loop.bound for loop in loops[taken[-1] + 1 :]) if taken else extent
    return min(prod(loops[index].bound for index in taken), -(-extent // inside))


@dataclass(frozen=True, slots=True)
class Operand:
    """A tensor as one Einsum uses it, told apart from the same tensor at another coordinate by its name."""

    name: str
    ranks: frozenset[str]
    is_output: bool = False


@dataclass(frozen=True, slots=True)
class Accesses:
    """Words read, filled from further out, and updated by the level inwards."""

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
    """(level, operand) -> accesses, of every level that keeps the operand.

    `registers`: count the register files of all elements, or of one element only (as the artifact reports them).
    `wrap64`: elide first writes with Timeloop's 64-bit products, which wrap for long sequences (rectangular nests).
    """
    if wrap64 and nest.size is not None:
        raise CascadeSimError("64-bit wrap is defined for rectangular loop nests only")
    counter = _Counter(nest, registers, wrap64)
    return {
        (nest.levels[index].name, operand.name): counter.accesses(operand, index)
        for operand in operands
        for index in counter.homes(operand)
    }


@dataclass(frozen=True)
class _Counter:
    """The rules, for one nest."""

    nest: Nest
    registers: Registers
    wrap64: bool

    @property
    def innermost(self) -> int:
        return len(self.nest.levels) - 1

    def homes(self, operand: Operand) -> list[int]:
        """Indices of the levels that keep the operand, outer to inner."""
        levels = enumerate(self.nest.levels)
        return [index for index, level in levels if level.keeps is None or operand.name in level.keeps]

    def accesses(self, operand: Operand, index: int) -> Accesses:
        homes = self.homes(operand)
        moved = self._served(operand, index, homes)
        filled = self._filled(operand, index) if index != homes[0] else 0  # the outermost home is filled by nobody
        if not operand.is_output:
            return Accesses(reads=moved, fills=filled)
        first = self._first_writes(operand, index)
        return Accesses(reads=moved - first, fills=filled - first if filled else 0, updates=moved)

    def _served(self, operand: Operand, index: int, homes: list[int]) -> int:
        """Words that the level hands inwards (or takes from there)."""
        inner = next((home for home in homes if home > index), None)
        if inner is not None:
            return self.nest.points(self._events(operand, inner) + self._tile(operand, inner) + self._spread(operand))
        across = self._across() if index == self.innermost else self._spread(operand)
        return self.nest.points(self.nest.temporal + across)

    def _filled(self, operand: Operand, index: int) -> int:
        """Words that the level receives from its next outer home."""
        loops = self._events(operand, index) + self._tile(operand, index)
        return self.nest.points(loops + (self._across() if index == self.innermost else self._spread(operand)))

    def _events(self, operand: Operand, index: int) -> tuple[Loop, ...]:
        """Loops outside the level, but for the innermost run of them that leaves the operand where it is."""
        outside = [loop for level in self.nest.levels[:index] for loop in level.loops]
        while outside and (outside[-1].bound == 1 or not outside[-1].walks(operand.ranks)):
            outside.pop()
        return tuple(outside)

    def _tile(self, operand: Operand, index: int) -> tuple[Loop, ...]:
        """Temporal loops from the level inwards that walk over the operand."""
        inside = (loop for level in self.nest.levels[index:] for loop in level.loops)
        return tuple(loop for loop in inside if loop.walks(operand.ranks))

    def _spread(self, operand: Operand) -> tuple[Loop, ...]:
        """Spatial loops over the operand; along the others it is multicast, or reduced on its way."""
        return tuple(loop for loop in self.nest.spatial if loop.walks(operand.ranks))

    def _across(self) -> tuple[Loop, ...]:
        """Every element has registers of its own."""
        return self.nest.spatial if self.registers == "all" else ()

    def _first_writes(self, operand: Operand, index: int) -> int:
        """Updates that need no read before them, because nothing has been written there yet."""
        if self.wrap64:
            return self._first_writes_wrapped(operand, index)
        whole = tuple(loop for loop in self.nest.temporal if loop.walks(operand.ranks))
        return self.nest.points(whole + (self._across() if index == self.innermost else self._spread(operand)))

    def _first_writes_wrapped(self, operand: Operand, index: int) -> int:
        """The whole tensor at the outermost level, scaled level by level as `x * size / size` in 64 bits.

        Every level takes part, whether or not it keeps the operand; at the registers the divisor is that of all
        elements. Where the product wraps, too few reads are elided: a quirk of the published energies.
        """
        spread = self.nest.points(self._spread(operand))
        first = self.nest.points([loop for loop in self.nest.temporal if loop.walks(operand.ranks)]) * spread % _WORD64
        for level in range(1, index + 1):
            inner = self.nest.points(self._tile(operand, level))
            size = inner if level == self.innermost else inner * spread
            divisor = inner * spread
            first = first * size % _WORD64 // divisor
        return first
