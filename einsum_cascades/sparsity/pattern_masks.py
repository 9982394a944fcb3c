"""A sparse pattern as the mask of an operation: which tiles of keys a kernel visits, how many pairs are attended.

A pattern is its text and the layout of its tokens, so that equal ones are one. Queries are all tokens, or the last one
(decode). What the data chooses is an expectation: pairs are rounded to whole ones, and tiles so that their running sum
is. Knows no kernel: who walks tiles says how large they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from math import prod
from typing import Protocol

import numpy as np

from cascadesim.einsum_cascades.notation.errors import CascadeSimError, shortened
from cascadesim.einsum_cascades.sparsity.block_selection import ExpectedTiles, Selected
from cascadesim.einsum_cascades.sparsity.masks import Positions, times
from cascadesim.einsum_cascades.sparsity.pattern_names import named, stamp_of


class Pattern(Protocol):
    """What every pattern answers, static or chosen by the data."""

    @property
    def attended_pairs(self) -> float:
        """(query, key) pairs, on average where the data chooses."""

    @property
    def last_keys(self) -> float:
        """Keys that the last query attends."""

    @property
    def causal(self) -> bool:
        """Whether no query attends a later key."""

    @property
    def block(self) -> int:
        """Keys that are chosen together; 0 where any key may be."""

    @property
    def phases(self) -> tuple[str, ...]:
        """Where it runs, of prefill and decode."""

    @property
    def choice_flops(self) -> float:
        """What choosing computes; 0 where nothing is chosen."""

    def tiles(self, query_tile: int, key_tile: int) -> ExpectedTiles:
        """Key tiles that each query tile visits, and those of them that need a mask."""


@dataclass(frozen=True)
class PatternMask:
    """The pattern that `text` names over tokens of `layout`.

    `causal`: of a layer whose queries see nothing later. What the data chooses is then chosen among earlier blocks; a
    static pattern has to be causal as it stands. Raises CascadeSimError for a text that names no pattern there.
    """

    text: str
    layout: tuple[int, ...]
    causal: bool
    stamp: str = field(init=False, default="")  # of the file that the text names: what it holds may change

    def __post_init__(self) -> None:
        object.__setattr__(self, "stamp", stamp_of(self.text))
        _pattern(self.text, self.layout, self.causal, self.stamp)

    @property
    def tokens(self) -> int:
        return prod(self.layout)

    @property
    def name(self) -> str:
        return self.text.partition(":")[0]

    @property
    def pattern(self) -> Pattern:
        """The pattern that is counted."""
        return _pattern(self.text, self.layout, self.causal, self.stamp)

    def attended_pairs(self, queries: int, keys: int) -> int:
        """Pairs in whole numbers: rounded where the data chooses, never fewer than one."""
        if self._decodes(queries, keys):
            return self.last_keys
        most = self.tokens * (self.tokens + 1) // 2 if self.causal else self.tokens**2
        return min(max(round(self.pattern.attended_pairs), 1), most)

    @property
    def last_keys(self) -> int:
        """Keys that the last query attends, rounded: what one more token reads of a cache."""
        return min(max(round(self.pattern.last_keys), 1), self.tokens)

    def runs_in(self, phase: str) -> bool:
        """Whether the pattern limits keys in prefill or decode; where it does not, attention is that of its layer."""
        return phase in self.pattern.phases

    @property
    def by_data(self) -> bool:
        """Whether it is chosen when it runs, by passes of its own."""
        return isinstance(self.pattern, Selected)

    @property
    def repeats_keys(self) -> bool:
        """Whether each query head has keys of its own, even where heads share them."""
        return isinstance(self.pattern, Selected) and self.pattern.repeats_keys

    def visited(self, query_tile: int, key_tile: int) -> ExpectedTiles:
        """Key tiles that each query tile visits, and those of them that need a mask."""
        return _visited(self, query_tile, key_tile)

    def key_tile(self, tile: int) -> int:
        """The keys that a kernel with tiles of so many takes at a time: no more, and an even part of a block."""
        block = self.pattern.block
        return next(size for size in range(min(tile, block), 0, -1) if block % size == 0) if block else tile

    def interval(self, query: Positions, queries: int, keys: int) -> tuple[Positions, Positions]:
        """Raises CascadeSimError: its keys lie anywhere, so that who walks an interval of them cannot run it."""
        raise CascadeSimError(f"{self}: its keys are no interval, which is what this machine or mapping walks over")

    def key_tiles(self, queries: int, keys: int, query_tile: int, key_tile: int) -> tuple[Positions, Positions]:
        """First and last key tile of as many visits (last - first + 1), wherever they lie.

        Ranges end on the diagonal, or cover all keys evenly, and both ends move forwards, as far as the visits allow: a
        machine that walks keys in order fetches them all.
        """
        if self._decodes(queries, keys):
            return np.zeros(1, dtype=np.int64), np.array([-(-self.last_keys // key_tile) - 1])
        total = np.floor(np.cumsum(self.visited(query_tile, key_tile).visited) + 0.5)
        count = np.diff(total, prepend=0.0).astype(np.int64)
        last = self._last_tiles(count, query_tile, key_tile)
        return last - count + 1, last

    def _last_tiles(self, count: Positions, size: int, key_tile: int) -> Positions:
        """The last key tile of each group of `size` queries that visits `count` of them."""
        ends = np.minimum(np.arange(1, len(count) + 1) * size, self.tokens)
        tiles, evenly = -(-self.tokens // key_tile), np.linspace(0, 1, len(count))
        wanted = -(-ends // key_tile) - 1 if self.causal else np.round((tiles - count) * evenly).astype(int) + count - 1
        last = np.empty_like(count)
        begin = previous = 0
        for place, (visits, target) in enumerate(zip(count.tolist(), wanted.tolist(), strict=True)):
            last[place] = previous = min(max(target, previous, begin + visits - 1), tiles - 1)
            begin = previous - visits + 1
        return last

    def _decodes(self, queries: int, keys: int) -> bool:
        """Whether the last query is asked about alone. Raises CascadeSimError for other sizes than its own."""
        if keys != self.tokens or queries not in (1, self.tokens):
            raise CascadeSimError(f"mask: {self} has {self.tokens} tokens, got {queries} queries and {keys} keys")
        return queries < self.tokens

    def __str__(self) -> str:
        return f"pattern {self.text}, layout {times(self.layout)}{', causal' * self.causal}"


@lru_cache(maxsize=256)
def _pattern(text: str, layout: tuple[int, ...], causal: bool, stamp: str) -> Pattern:
    found = named(text, layout, causal)
    for problem in _problems(text, found, causal):
        raise CascadeSimError(problem)
    return found


def _problems(text: str, found: Pattern, causal: bool) -> Iterator[str]:
    if causal and not found.causal:
        yield f"pattern {shortened(text)}: attends later tokens, which a causal layer must not"
    if not found.attended_pairs > 0:
        yield f"pattern {shortened(text)}: no query attends any key"


@lru_cache(maxsize=64)
def _visited(mask: PatternMask, query_tile: int, key_tile: int) -> ExpectedTiles:
    """Without what the last block has beyond the last token."""
    found, rows = mask.pattern.tiles(query_tile, key_tile), -(-mask.tokens // query_tile)
    most = -(-mask.tokens // key_tile)
    return ExpectedTiles(np.minimum(found.visited[:rows], most), np.minimum(found.partial[:rows], most))
