"""Key tiles that row tiles walk over under a mask: exact sums of floors, which tests hold against counts by block."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

IntegerArray: TypeAlias = NDArray[np.int64]


@dataclass(frozen=True)
class Walk:
    """Key tiles that the row tiles of one head walk over: `row_tile` rows over tiles of `key_tile` keys.

    Queries are the last of the keys; rows of a packed group are counted one by one, `group` to a query.
    `window`: keys a query sees, its own included; 0 for all before it.
    """

    queries: IntegerArray
    keys: IntegerArray
    window: IntegerArray
    group: IntegerArray
    row_tile: IntegerArray
    key_tile: IntegerArray

    @property
    def row_tiles(self) -> IntegerArray:
        return -(-self.queries * self.group // self.row_tile)

    @property
    def visited(self) -> IntegerArray:
        """Key tiles of all row tiles: from the first key that the first query sees up to the key of the last query."""
        return self._to_last(self.keys - self.queries) - self._skipped

    @property
    def longest(self) -> IntegerArray:
        """Most of one row tile: first keys lie in a tile as far back as the steps from one to the next allow."""
        steps = np.where(self.row_tile % self.group == 0, self.row_tile // self.group, 1)
        step = np.gcd(steps, self.key_tile)
        offset = self.group - np.gcd(self.row_tile, self.group)  # of the first row in its query, at most
        span = np.minimum((offset + self.row_tile - 1) // self.group + 1, self.queries)
        begin = (self.keys - self.queries - self.window + 1) % step
        in_window = (self.key_tile - step + begin + self.window + span - 2) // self.key_tile + 1
        full = -(-self.keys // self.key_tile)
        found = np.where(self.window > 0, np.minimum(in_window, full), full)
        return np.asarray(np.minimum(found, self.visited))

    @property
    def shortest(self) -> IntegerArray:
        """Those of the first row tile, which reaches the fewest keys; in a window a later one may skip one more."""
        earlier = self.keys - self.queries
        last = earlier + np.minimum((self.row_tile - 1) // self.group, self.queries - 1)
        first = np.where(self.window > 0, np.maximum(earlier - self.window + 1, 0), 0)
        return np.asarray(np.maximum(last // self.key_tile - first // self.key_tile + 1, 0))

    @property
    def cut(self) -> IntegerArray:
        """Those among `visited` with a key that some of their queries do not see."""
        earlier = self.keys - self.queries
        behind = self._to_first(earlier + 1 - self.key_tile)
        diagonal = self._to_last(earlier) - behind
        left = np.where(self.window > 0, self._to_last(earlier - self.window) - self._skipped, 0)
        return np.asarray(np.minimum(diagonal + left, self.visited))

    @property
    def _skipped(self) -> IntegerArray:
        """Tiles before the window of the first query of each row tile."""
        first = self._to_first(self.keys - self.queries - self.window + 1 - self.key_tile)
        return np.where(self.window > 0, first, 0)

    def _to_first(self, offset: IntegerArray) -> IntegerArray:
        """Summed over row tiles: tiles that begin at or before `offset` plus the place of the first query."""
        return self._tiles_to(self.row_tiles, offset * self.group)

    def _to_last(self, offset: IntegerArray) -> IntegerArray:
        """The same of the last query."""
        whole = self._tiles_to(self.row_tiles - 1, offset * self.group + self.row_tile - 1)
        last = np.maximum((offset + self.queries - 1) // self.key_tile + 1, 0)
        return np.asarray(whole + last)

    def _tiles_to(self, count: IntegerArray, row: IntegerArray) -> IntegerArray:
        """Tiles that begin at or before `row`, `row + row_tile`, …; none before row 0."""
        negative = np.clip(-(row // self.row_tile), 0, count)
        left = count - negative
        begin = row + negative * self.row_tile
        return np.asarray(left + floor_sum(left, self.row_tile, begin, self.group * self.key_tile))


def floor_sum(count: IntegerArray, step: IntegerArray, offset: IntegerArray, divisor: IntegerArray) -> IntegerArray:
    """Sum over i < count of (offset + i step) // divisor, element by element, by Euclid's algorithm."""
    count, step, offset, divisor = (np.array(value) for value in np.broadcast_arrays(count, step, offset, divisor))
    found = np.zeros_like(count)
    while count.any():
        found += count * (count - 1) // 2 * (step // divisor) + count * (offset // divisor)
        step, offset = step % divisor, offset % divisor
        top = step * count + offset
        count, offset, step, divisor = top // divisor, top % divisor, divisor, np.maximum(step, 1)
    return found
