"""What a group keeps: a tensor's tile, its place among the loops and in the memories, and how often it is read there.

Knows one tensor at a time, and no group. mapping.md 1 and 2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod

from cascadesim.accelerators.mapping.problem import TensorUse, Tile
from cascadesim.accelerators.mapping.runs import BoundLoop, BoundRun


@dataclass(frozen=True)
class Resident:
    """A tensor in the group. `depth`: loops outside its tile; `state`: axes along which its value is replaced."""

    tensor: str
    operands: tuple[TensorUse, ...]
    depth: int
    copies: int
    where: str  # the memory, or "registers", or "" for what passes by
    state: frozenset[str] = frozenset()

    def words(self, tile: Tile) -> int:
        """Words of a tile: of the widest use, where the group uses it in several ways; uses that differ in offsets
        (`RM[m1]` and `RM[m1+1]`) need what lies between, too."""
        own = {**tile, **dict.fromkeys(self.state, 1)} if self.state else tile
        first = self.operands[0]
        if len(self.operands) == 1 or any(operand.shape != first.shape for operand in self.operands):
            return max(operand.words(own) for operand in self.operands)
        uses = zip(*(operand.dimensions for operand in self.operands), strict=True)
        return prod(same[0].span(own, 1 + max(one.offset for one in same) - min(one.offset for one in same))
                    for same in uses)  # fmt: skip

    @cached_property
    def axes(self) -> frozenset[str]:
        return frozenset().union(*(operand.axes for operand in self.operands)) - self.state


def operand_reads(run: BoundRun, operand: TensorUse, tile: Tile, state: frozenset[str]) -> int:
    """Words of an operand that an Einsum reads from a memory for a tile: again along loops in time that lack it.

    Unless those are innermost: then it stays in registers. Elements that need a word at once share one read.
    """
    spatial = {axis for axis, _, _ in run.space}
    own = operand.axes
    time = [axis for axis in run.time if axis not in spatial]
    while time and time[-1] not in own:
        time.pop()
    again = prod(run.waves(axis, tile[axis]) for axis in run.work.axes - own
                 if axis in spatial or axis in time or axis not in run.time)
    return again * operand.words({**tile, **dict.fromkeys(state, 1)})


def filled_words(
    loops: Sequence[BoundLoop], resident: Resident, sizes: Tile, depth: int = 0
) -> tuple[int, bool]:
    """Words moved inside so many loops, and whether that is a single tile."""
    if depth == resident.depth:
        return resident.words(sizes), True
    loop = loops[depth]
    whole, rest = divmod(sizes[loop.axis], loop.step)
    parts = [(size, count) for size, count in ((loop.step, whole), (rest, 1)) if size and count]
    words, single = 0, True
    for size, count in parts:
        own, single = filled_words(loops, resident, {**sizes, loop.axis: size}, depth + 1)
        words += count * own
    if whole + bool(rest) == 1:
        return words, single
    if loop.axis not in resident.axes and single:
        return own, True
    return words, False
