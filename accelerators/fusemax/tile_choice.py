"""Which tiles a design works on: rows, columns, residents and slots, of all that fit those of the least cycles.

An array may leave rows and columns idle and a buffer room, so a larger design can always run the plan of a smaller one,
and the search is exact: it leaves out only what cannot be better than what it has found. Where no tile is better than
the published one (the whole array, as many residents as `residency` says), that one stays. Designs that differ in their
channel alone share what is known of tiles: on a slower channel cycles do not fall, and do not grow by more than it is
slower by. Full attention, many designs at once. FuseMax (MICRO'24), section V.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cascadesim.accelerators.compiled import compiled, compiled_entry, version_of
from cascadesim.accelerators.fusemax import bound, tile_costs
from cascadesim.accelerators.fusemax.bound import DesignPoint, TileWork, cycles_on, query_tiles, tile_work
from cascadesim.accelerators.fusemax.spec import FuseMaxSpec, Placement
from cascadesim.accelerators.fusemax.tile_costs import (
    FIGURES,
    LESS,
    fewest,
    fewest_columns,
    floor_of,
    least_of,
    most_of,
    narrow_floor,
    on_best_slots,
    published_residents,
    reach_of,
    tile_bytes,
)

Floats = NDArray[np.float64]

_GUESSES = 8  # numbers of rows, and of columns
_LARGEST_REMEMBERED = 1 << 11  # rows or columns: what is known of each tile then takes 64 MiB
_AHEAD = 0.1  # assumed: how much worse tiles are worked out for channels in between; decides the speed alone
_CHANNEL_AT = DesignPoint._fields.index("dram_bytes_per_cycle")
# in Memory.sizes: for each number of rows what it needs whatever the channel (cycles, bytes moved) and on this one, and
# whether its tiles are in `tiles`; places of guessed rows; all numbers of columns, 0 after the last
_ROWS, _BUSY, _BYTES, _FLOOR, _SEEN, _GUESSED, _COLUMNS = range(7)


class Memory(NamedTuple):
    """What is known of the tiles of a design, for those that differ in their channel alone."""

    sizes: Floats  # (7, sizes): see above
    rows: Floats  # (channels under way, rows), cycles that no tile with so many rows is below
    tiles: Floats  # (1 + rows, columns, 2), the same of each tile, and of which channel; (1, ...): of one row at a time
    figures: Floats  # (FIGURES,), of the tile that is looked at
    intervals: NDArray[np.int64]  # (intervals left, 5): two channels, their places in `rows`, that of one in between


@compiled
def _list_sizes(w: TileWork, d: DesignPoint, sizes: Floats) -> int:
    """Writes all numbers of rows and columns to `sizes`; returns how many rows there are."""
    turns, count, rows = np.ceil(d.group * d.queries / d.lanes), 0, d.rows
    while rows >= 1:
        rows = fewest(d.keys, rows)
        busy, moved_bytes = floor_of(w, d, rows, d.columns, query_tiles(d, d.columns), turns, False)
        sizes[_ROWS, count], sizes[_SEEN, count] = rows, 0.0
        sizes[_BUSY, count], sizes[_BYTES, count] = busy, moved_bytes
        for step in range(_GUESSES):
            if count == 0 or rows == fewest(d.keys, np.ceil(d.rows * (1 - step / _GUESSES))):
                sizes[_GUESSED, step] = count
        count += 1
        rows -= 1
    columns, number = min(d.columns, d.group * d.queries), 0
    while columns >= 1:
        sizes[_COLUMNS, number] = fewest_columns(d, columns)
        columns = sizes[_COLUMNS, number] - 1
        number += 1
    sizes[_COLUMNS, number] = 0.0
    return count


@compiled
def _guessed(
    w: TileWork, d: DesignPoint, memory: Memory, known: Floats, out: Floats, best: float, likely: float
) -> float:
    """The best of a few tiles, so that few of the others are looked at."""
    for step in range(1, _GUESSES * _GUESSES):
        place, reach = int(memory.sizes[_GUESSED, step // _GUESSES]), reach_of(best, likely)
        if known[place] < reach:
            rows = memory.sizes[_ROWS, place]
            columns = fewest_columns(d, np.ceil(d.columns * (1 - step % _GUESSES / _GUESSES)))
            if narrow_floor(w, d, rows, columns) < reach:
                best, _ = least_of(w, d, rows, columns, memory.figures, out, best, likely, 0.0)
    return best


@compiled
def _of_all_columns(
    w: TileWork, d: DesignPoint, rows: float, memory: Memory, known: Floats, out: Floats, best: float, likely: float,
    ahead: float,
) -> tuple[float, float]:  # fmt: skip
    """`least_of` all columns, the widest first; `known`: (columns, 2), of `Memory.tiles`."""
    key_tiles, (query_bytes, key_bytes) = np.ceil(d.keys / rows), tile_bytes(w, rows, 1.0)
    room = np.floor((d.buffer_bytes - key_bytes) / query_bytes)  # for resident queries
    number, least, reach = -1, np.inf, reach_of(best, likely)
    while memory.sizes[_COLUMNS, number + 1] >= 1:
        number += 1
        columns = memory.sizes[_COLUMNS, number]
        if columns > room:
            continue
        found = known[number, 0] * min(1.0, known[number, 1] / d.dram_bytes_per_cycle)
        if found < reach:
            busy = d.instances * query_tiles(d, columns) * key_tiles * w.array_2d
            if busy >= reach:
                return best, min(least, busy)  # narrower tiles are more
            found = narrow_floor(w, d, rows, columns)
            if found < reach:
                best, found = least_of(w, d, rows, columns, memory.figures, out, best, likely, ahead)
                reach, found = reach_of(best, likely), found * (1 - LESS / 2)
            known[number, 0], known[number, 1] = found, d.dram_bytes_per_cycle
        least = min(least, found)
    return best, least


@compiled
def _search(
    w: TileWork, d: DesignPoint, count: int, memory: Memory, known: Floats, likely: float,
    ahead: float, out: Floats,
) -> None:  # fmt: skip
    """All rows, those with the lowest floor first; of each all columns, but where `known` says that it is no use.

    `likely`: cycles of some tile; `ahead`: how much worse ones are worked out.
    """
    rows, columns = fewest(d.keys, d.rows), fewest_columns(d, d.columns)
    best, least = on_best_slots(w, d, rows, columns, published_residents(w, d, rows, columns), out), np.inf
    likely, floors = min(best, likely), memory.sizes[_FLOOR]
    for place in range(count):
        floors[place] = max(memory.sizes[_BUSY, place], memory.sizes[_BYTES, place] / d.dram_bytes_per_cycle)
        least = min(least, max(floors[place], known[place]))
    if least >= reach_of(best, likely):
        return
    best = _guessed(w, d, memory, known, out, best, likely)
    while True:
        place, reach = 0, reach_of(best, likely)
        for other in range(1, count):
            place = other if floors[other] < floors[place] else place
        if floors[place] >= reach:
            return
        floors[place] = np.inf
        if known[place] < reach:
            of_tiles = memory.tiles[place + 1 if len(memory.tiles) > 1 else 0]
            if not memory.sizes[_SEEN, place] or len(memory.tiles) == 1:
                memory.sizes[_SEEN, place] = 1.0
                of_tiles[:] = 0.0
            rows = memory.sizes[_ROWS, place]
            best, known[place] = _of_all_columns(w, d, rows, memory, of_tiles, out, best, likely, ahead)


@compiled
def _same_but_channel(one: Floats, other: Floats) -> bool:
    same = True
    for number in range(len(one)):
        same &= number == _CHANNEL_AT or one[number] == other[number]
    return same


@compiled
def _point(own: Floats) -> DesignPoint:
    return DesignPoint(own[0], own[1], own[2], own[3], own[4], own[5], own[6], own[7], own[8], own[9])


@compiled
def _on_tile_of(w: TileWork, d: DesignPoint, found: Floats) -> float:
    """Cycles on the tile of another design; inf: it has none, or none yet."""
    if np.isnan(found[0]):
        return float(np.inf)
    return most_of(cycles_on(w, d, found[0], found[1], found[2], found[3], found[4], found[5]))


@compiled
def _search_between(
    w: TileWork, designs: Floats, number: int, count: int, memory: Memory,
    channels: tuple[int, int, int, int], place: int, found: Floats,
) -> None:  # fmt: skip
    """One design of which a faster and a slower channel are known; what is learned goes to `memory.rows[place]`."""
    fast, slow, of_fast, of_slow = channels
    d, known = _point(designs[number]), memory.rows[place]
    slower_by = designs[slow, _CHANNEL_AT] / d.dram_bytes_per_cycle
    for row in range(count):
        known[row] = max(memory.rows[of_fast, row], memory.rows[of_slow, row] * slower_by)
    likely = min(_on_tile_of(w, d, found[fast]), _on_tile_of(w, d, found[slow]))
    _search(w, d, count, memory, known, likely, _AHEAD if len(designs) > 1 else 0.0, found[number])


@compiled
def _search_channels(w: TileWork, designs: Floats, memory: Memory, found: Floats) -> None:
    """Designs that differ in their channel alone, faster ones first: both ends, then the middle of what is between."""
    last, left = len(designs) - 1, memory.intervals
    count = _list_sizes(w, _point(designs[0]), memory.sizes)
    for row in range(count):
        memory.rows[2, row] = 0.0  # nothing is known
    _search_between(w, designs, 0, count, memory, (0, 0, 2, 2), 0, found)
    if last > 0:
        _search_between(w, designs, last, count, memory, (0, last, 0, 2), 1, found)
    left[0, 0], left[0, 1], left[0, 2], left[0, 3], left[0, 4] = 0, last, 0, 1, 2
    size = 1
    while size > 0:
        size -= 1
        fast, slow, of_fast, of_slow, place = left[size]
        if slow - fast < 2:
            continue
        middle = (fast + slow) // 2
        _search_between(w, designs, middle, count, memory, (fast, slow, of_fast, of_slow), place, found)
        for start, stop, of_start, of_stop in ((middle, slow, place, of_slow), (fast, middle, of_fast, place)):
            left[size, 0], left[size, 1], left[size, 2], left[size, 3] = start, stop, of_start, of_stop
            left[size, 4] = place + 1
            size += 1


Choose = Callable[[TileWork, Floats, Memory, Floats], None]


def _entry_point(version: int) -> Choose:
    """Numba keys its cache with what a function closes over: `version` rebuilds it when any of the files changes."""

    def choose(w: TileWork, designs: Floats, memory: Memory, found: Floats) -> None:
        start = 0 * version
        for stop in range(1, len(designs) + 1):
            if stop == len(designs) or not _same_but_channel(designs[start], designs[stop]):
                _search_channels(w, designs[start:stop], memory, found[start:stop])
                start = stop

    return compiled_entry("the choice of tiles", about_s=8)(choose)


_choose = _entry_point(version_of(__file__, bound, tile_costs))


def chosen_tiles(w: TileWork, designs: Floats) -> dict[str, Floats]:
    """FIGURES of each design on its best tile, nan where nothing fits. `designs`: (designs, fields of DesignPoint)."""
    varied = [own for at, own in enumerate(designs.T) if at != _CHANNEL_AT and np.ptp(own) > 0]
    order = np.lexsort([-designs[:, _CHANNEL_AT], *varied])  # slower and slower channels side by side
    found = np.full((len(designs), len(FIGURES)), np.nan)
    most, depth = max(int(designs[:, :2].max(initial=0)) + 1, _GUESSES), len(designs).bit_length() + 3
    of_rows = most if len(designs) > 1 and most <= _LARGEST_REMEMBERED else 0
    memory = Memory(np.empty((_COLUMNS + 1, most)), np.empty((depth, most)), np.empty((1 + of_rows, most, 2)),
                    np.empty(len(FIGURES)), np.empty((2 * depth, 5), dtype=np.int64))
    _choose(w, np.ascontiguousarray(designs[order]), memory, found)
    found[order] = found.copy()
    return dict(zip(FIGURES, found.T, strict=True))


def best_tiles(
    spec: FuseMaxSpec, placement: Placement, given: Mapping[str, Floats]
) -> dict[str, Floats]:
    """FIGURES of each point on its best tile, nan where nothing fits."""
    found = {name: np.full(given["rows"].size, np.nan) for name in FIGURES}
    depths = np.stack([given["query_depth"], given["value_depth"]], axis=1)
    for pair in np.unique(depths, axis=0).tolist():
        own = np.flatnonzero((depths == pair).all(axis=1))
        size = {name: array[own] for name, array in given.items()}
        size["port_bytes"] = size["row_bytes"] * spec.global_buffer.ports
        size["dram_bytes_per_cycle"] = size["bandwidth_bytes_per_s"] / size["clock_hz"]
        designs = np.stack([size[name] for name in DesignPoint._fields], axis=1)
        for name, values in chosen_tiles(tile_work(placement, spec, *map(int, pair)), designs).items():
            found[name][own] = values
    return found
