"""The order of the tiles of a group: that of its loops, written in rounds, and where each loop stands in a tile.

Equal rounds are one repetition. Slices of two tiles may take turns, so that none holds up the channel for the other, in
columns of their own. Knows no task and no cycle (`program`). mapping.md 2.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain, pairwise, product
from math import prod
from typing import NamedTuple

import numpy as np

from cascadesim.accelerators.mapping.attended import PAIRED
from cascadesim.accelerators.mapping.group import BoundGroup
from cascadesim.accelerators.mapping.runs import BoundLoop, Resident
from cascadesim.accelerators.program import Repeat, TileRun
from cascadesim.einsum_cascades.analysis.bound_counts import KEY, QUERY

Items = tuple[TileRun | Repeat, ...]


@dataclass(frozen=True, slots=True)
class Place:
    """Where one loop stands: its first or last iteration, and the elements of its tile."""

    first: bool
    last: bool
    size: int
    start: int  # first element of its tile
    alone: bool = False  # it is the only iteration
    keys: int = 0  # of all, so many that its queries attend; 0 where that makes no difference

    @property
    def kind(self) -> tuple[bool, bool, bool, int, int]:
        """Places of one kind have the same tiles, wherever they are."""
        return self.first, self.last, self.alone, self.size, self.keys


@dataclass(frozen=True)
class Rounds(ABC):
    """The tiles of a group; `known`: rounds that are written already."""

    group: BoundGroup
    known: dict[object, Items] = field(default_factory=dict)

    @abstractmethod
    def tiles_of(self, places: tuple[Place, ...], edge: bool) -> Items:
        """The innermost tile inside all loops as they stand."""

    def rounds(self, places: tuple[Place, ...], sizes: Mapping[str, int], edge: bool = True) -> Items:
        """The tiles inside so many loops, each of which stands at its place.

        `edge`: not all of these queries attend all of these keys, and keys before and after them.
        """
        key = tuple(place.kind for place in places), self.shape(places, sizes) if edge else None
        if key not in self.known:
            self.known[key] = self.new_rounds(places, sizes, edge)
        return self.known[key]

    def shape(self, places: tuple[Place, ...], sizes: Mapping[str, int]) -> tuple[object, ...] | None:
        """Which of the keys here each of the queries here attends, wherever they are.

        First and last keys never fall from query to query: so many are before these keys, so many after them.
        """
        attended = self.group.attended
        if attended is None:
            return None
        query, key = self.start(QUERY, places), self.start(KEY, places)
        found: list[object] = []
        for ends in (attended.first, attended.last):
            own = ends[query : query + sizes[QUERY]]
            begin, end = np.searchsorted(own, (key, key + sizes[KEY])).tolist()
            found += [begin, (own[begin:end] - key).tobytes()]
        return tuple(found)

    def new_rounds(self, places: tuple[Place, ...], sizes: Mapping[str, int], edge: bool) -> Items:
        depth = len(places)
        if depth == len(self.group.loops):
            return self.tiles_of(places, edge)
        loop = self.group.loops[depth]
        stretches = list(self.stretches(loop, places, sizes, edge))
        begin, end = stretches[0][0], stretches[-1][0] + stretches[-1][1]
        parts: list[tuple[Items, int]] = []
        for start, count, inside in stretches:
            for first, times in _apart(start, count, begin, end):
                size = min(loop.step, sizes[loop.axis] - first * loop.step)
                element = self.start(loop.axis, places) + first * loop.step
                place = Place(first == begin, first + times == end, size, element, self.is_alone(loop, end - begin),
                              self.keys(loop, element, size))  # fmt: skip
                parts.append((self.rounds((*places, place), {**sizes, loop.axis: size}, inside), times))
        if self.steps and depth > self.steps[-1]:
            return _columns(parts, begin, prod(inner.most for inner in self.group.loops[depth + 1 :]))
        if self.spacing and self.steps and depth == self.steps[-1]:
            parts = list(self.spaced(parts, all(places[number].last for number in self.steps[:-1])))
        return merged(parts)

    @property
    def spacing(self) -> int:
        """Tiles from one step of a running value to the next, at least; 0 where its readers wait by themselves."""
        return 0

    def empty(self, tiles: int) -> Items:
        """So many tiles of nothing."""
        raise NotImplementedError

    def spaced(self, parts: list[tuple[Items, int]], ends: bool) -> Iterator[tuple[Items, int]]:
        """Steps of running values one after another, with empty tiles where one would come too early for the next.

        `ends`: no other step follows.
        """
        for (items, times), follower in zip(parts, [*parts[1:], None], strict=True):
            again = self.missing(items, items) if times > 1 else 0
            last = self.missing(items, follower[0]) if follower else 0 if ends else self.spacing
            yield from [((*items, *self.empty(again)), times - 1)] if times > 1 else []
            yield (*items, *self.empty(last)), 1

    def missing(self, step: Items, following: Items) -> int:
        """Empty tiles between two steps, so that no column has its next tile too early."""
        return max(0, self.spacing - min(_distances(step, following), default=self.spacing))

    @cached_property
    def steps(self) -> tuple[int, ...]:
        """Numbers of the loops along which running values go from tile to tile."""
        return tuple(number for number, loop in enumerate(self.group.loops)
                     if self.iterative is not None and loop.axis == self.iterative.axis)  # fmt: skip

    def keys(self, loop: BoundLoop, query: int, queries: int) -> int:
        attended = self.group.attended
        return int(attended.keys_of(query, queries)) if attended is not None and loop.axis == QUERY else 0

    def is_alone(self, loop: BoundLoop, count: int) -> bool:
        return self.group.is_one(loop) if self.group.attended is not None else count == 1  # as `filled` counts

    def stretches(
        self, loop: BoundLoop, places: tuple[Place, ...], sizes: Mapping[str, int], edge: bool
    ) -> Iterator[tuple[int, int, bool]]:
        """First iterations, how many follow alike, and whether an edge of the mask runs through them."""
        count = -(-sizes[loop.axis] // loop.step)
        attended = self.group.attended if edge else None
        if attended is None or loop.axis not in PAIRED:
            yield 0, count, edge
            return
        starts = np.arange(count) * loop.step
        ends = np.minimum(starts + loop.step, sizes[loop.axis])
        (query, past_query), (key, past_key) = (
            (start + starts, start + ends) if axis == loop.axis else (start, start + sizes[axis])
            for axis in (QUERY, KEY) for start in [self.start(axis, places)])  # fmt: skip
        visited = (attended.last[past_query - 1] >= key) & (attended.first[query] < past_key)
        inside = (attended.first[past_query - 1] < key) & (attended.last[query] >= past_key)
        number = 0
        while number < count:
            alike = 1
            while inside[number] and number + alike < count and inside[number + alike]:
                alike += 1
            if visited[number]:
                yield number, alike, not inside[number]
            number += alike

    def start(self, axis: str, places: tuple[Place, ...]) -> int:
        """First element of the tile that an axis has inside the loops as they stand."""
        found = [place.start for loop, place in zip(self.group.loops, places, strict=False) if loop.axis == axis]
        return found[-1] if found else 0

    def of_column(self, places: tuple[Place, ...], edge: bool) -> tuple[bool, bool]:
        """Whether this tile has the first, and the last keys that its queries attend."""
        attended = self.group.attended
        if attended is None or not edge:
            return False, False
        query, key = self.start(QUERY, places), self.start(KEY, places)
        past = query + self.tile(places, len(places))[QUERY]
        return bool(attended.first[query] >= key), bool(attended.last[past - 1] < key + self.group.leaf[KEY])

    @cached_property
    def iterative(self) -> BoundLoop | None:
        """The shared loop along which running values go from tile to tile."""
        axes = frozenset().union(*(run.work.iterates for run in self.group.runs))
        return next((loop for loop in self.group.loops if loop.axis in axes), None)

    def tile(self, places: tuple[Place, ...], depth: int) -> dict[str, int]:
        """The tile inside so many loops as they stand."""
        found, attended = self.group.problem.whole(), self.group.attended
        for loop, place in zip(self.group.loops[:depth], places, strict=False):
            found[loop.axis] = place.size
        if attended is not None and found[KEY] == self.group.problem.extents[KEY]:
            found[KEY] = int(attended.keys_of(self.start(QUERY, places[:depth]), found[QUERY]))
        return found

    def changes(self, read: Resident, places: tuple[Place, ...], end: str) -> bool:
        """Whether a kept tile, or a piece of it, comes before this tile (`first`), or goes after it (`last`)."""
        pieces = self.group.piece_loops(read)
        moves = [number for number, loop in enumerate(self.group.loops[: read.depth])
                 if loop.axis in self.group.moving(read) and not places[number].alone]  # fmt: skip
        return all(getattr(place, end) for number, place in enumerate(places)
                   if number > (moves[-1] if moves else -1) and number not in pieces)  # fmt: skip


def _apart(start: int, count: int, begin: int, end: int) -> Iterator[tuple[int, int]]:
    """The first and the last of all iterations by themselves, others together: the first of them, and how many."""
    edges = sorted({start, start + count, *(edge for edge in (begin + 1, end - 1) if start < edge < start + count)})
    return ((first, past - first) for first, past in pairwise(edges))


def _columns(parts: list[tuple[Items, int]], start: int, width: int) -> Items:
    """Tiles with running values of their own: each iteration, from number `start` on, has so many columns of its own.

    Those of one class side by side are one run.
    """
    found: list[TileRun] = []
    for items, count in parts:
        runs = [item if width > 1 else replace(item, tiles=count) for item in _runs(items)]
        for number, item in product(range(start, start + count if width > 1 else start + 1), runs):
            own = replace(item, first_column=number * width + item.first_column)
            before = found.pop() if found else replace(own, tiles=0)
            if own == replace(before, tiles=own.tiles, first_column=before.first_column + before.tiles):
                found.append(replace(before, tiles=before.tiles + own.tiles))
            else:
                found += [before, own]
        start += count
    return tuple(found)


def _distances(step: Items, following: Items) -> Iterator[int]:
    """Tiles from one step to the next in the columns that both have."""
    tiles = count_tiles(step)
    for column, past, place in _placed(step):
        for other, end, further in _placed(following):
            if column < end and other < past:
                yield tiles + (further - other) - (place - column)


def _placed(items: Items) -> Iterator[tuple[int, int, int]]:
    """First column of each run, the one after its last, and tiles before it."""
    place = 0
    for item in _runs(items):
        yield item.first_column, item.first_column + item.tiles, place
        place += item.tiles


def _runs(items: Items) -> Iterator[TileRun]:
    """The runs of tiles inside a step of a running value, where nothing repeats: each has columns of its own."""
    for item in items:
        assert isinstance(item, TileRun)
        yield item


def merged(parts: list[tuple[Items, int]]) -> Items:
    """Rounds one after another, equal ones as one repetition."""
    joined: list[tuple[Items, int]] = []
    for items, count in parts:
        if joined and joined[-1][0] == items:
            joined[-1] = (items, joined[-1][1] + count)
        else:
            joined.append((items, count))
    return tuple(item for items, count in joined for item in repeated(items, count))


def repeated(items: Items, times: int) -> Items:
    """Rounds so many times over."""
    return items if times == 1 else (Repeat(times, items),) if times else ()


class Numbered(NamedTuple):
    """A tile by its number, and the column of its slices."""

    number: int
    column: int


Open = tuple[Numbered, ...]  # tiles that are begun, the oldest first


def in_column(item: TileRun | Repeat, column: int) -> TileRun | Repeat:
    """The same slices, which stand by themselves, all of one column."""
    if isinstance(item, Repeat):
        return replace(item, body=tuple(in_column(inner, column) for inner in item.body))
    return replace(item, first_column=column)


def count_tiles(items: Items) -> int:
    """Count them."""
    return sum(item.tiles if isinstance(item, TileRun) else item.times * count_tiles(item.body) for item in items)


def woven(first: Items, *others: Items) -> Items:
    """Slices of stretches in turns, of longer ones several at a time: those of the first between those of others."""
    stretches = [first, *(items for items in others if items)]
    runs = [[((item,), 1) if isinstance(item, TileRun) else (item.body, item.times) for item in items]
            for items in stretches]  # fmt: skip
    counts = [sum(times for _, times in own) for own in runs]
    rounds, beside = min(counts), len(runs) - 1
    if not rounds or not beside:
        return tuple(chain.from_iterable(stretches))
    starts = [place * counts[0] // (rounds * beside) for place in range(rounds * beside + 1)]
    turns: list[tuple[Items, int]] = []
    for number in range(rounds):
        turn: list[TileRun | Repeat] = []
        for place, (own, count) in enumerate(zip(runs[1:], counts[1:], strict=True), number * beside):
            turn += _between(runs[0], starts[place], starts[place + 1])
            turn += _between(own, number * count // rounds, (number + 1) * count // rounds)
        turns.append((tuple(turn), 1))
    return merged(turns)


def _between(runs: Sequence[tuple[Items, int]], start: int, past: int) -> Iterator[TileRun | Repeat]:
    """Some slices of a stretch, given as what is repeated and how often."""
    for body, times in runs:
        yield from repeated(body, max(0, min(times, past) - max(0, start)))
        start, past = start - times, past - times
