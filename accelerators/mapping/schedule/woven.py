"""Slices of two tiles in turns: those of the softmax of one between those of the products of others.

A channel that takes its transfers in order would else hold up one for all of the other. Slices of neighbouring tiles
are columns of their own, so that each waits for those of its own tile. Knows no task.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

from cascadesim.accelerators.mapping.schedule.rounds import Items, merged, repeated
from cascadesim.accelerators.program import Repeat, TileRun


class Numbered(NamedTuple):
    """A tile by its number, and the column of its slices."""

    number: int
    column: int


Open = tuple[Numbered, ...]  # tiles that are begun, the oldest first


def in_column(item: TileRun | Repeat, column: int) -> TileRun | Repeat:
    """The same slices, all of one column."""
    if isinstance(item, Repeat):
        return replace(item, body=tuple(in_column(inner, column) for inner in item.body))
    one = TileRun(item.tile_class, 1, column)
    return one if item.tiles == 1 else Repeat(item.tiles, (one,))


def slices_of(items: Items) -> int:
    """Count them."""
    return sum(item.tiles if isinstance(item, TileRun) else item.times * slices_of(item.body) for item in items)


def woven(first: Items, second: Items) -> Items:
    """Slices of two stretches in turns, those of the longer one several at a time."""
    runs = [[((item,), 1) if isinstance(item, TileRun) else (item.body, item.times) for item in items]
            for items in (first, second)]  # fmt: skip
    counts = [sum(times for _, times in own) for own in runs]
    rounds = min(counts)
    if not rounds:
        return *first, *second
    turns = [(*_between(runs[0], number * counts[0] // rounds, (number + 1) * counts[0] // rounds),
              *_between(runs[1], number * counts[1] // rounds, (number + 1) * counts[1] // rounds))
             for number in range(rounds)]  # fmt: skip
    return merged([(turn, 1) for turn in turns])


def _between(runs: Sequence[tuple[Items, int]], start: int, past: int) -> Iterator[TileRun | Repeat]:
    """Some slices of a stretch, given as what is repeated and how often."""
    for body, times in runs:
        yield from repeated(body, max(0, min(times, past) - max(0, start)))
        start, past = start - times, past - times
