"""Which tiles a design works on: rows, columns, residents and slots, of all that fit those of the least cycles.

An array may leave rows and columns idle and a buffer room, so a larger design can always run the plan of a smaller one,
and the search is exact: it leaves out only what cannot be better than what it has found. Where no tile is better than
the published one (the whole array, as many residents as `residency` says), that one stays. Full attention, many
designs at once. FuseMax (MICRO'24), section V.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from cascadesim.accelerators.compiled import compiled, compiled_entry, version_of
from cascadesim.accelerators.fusemax import bound
from cascadesim.accelerators.fusemax.bound import (
    FILLING_ROWS,
    DesignPoint,
    TileCycles,
    TileWork,
    cycles_on,
    oldest_maximum,
    query_tiles,
)

Floats = NDArray[np.float64]

_CYCLES_AT = 6  # in FIGURES
_EACH = 32  # residents up to which each number is tried; assumed: of more, only those of groups of equal size differ
_FEW_KEY_SLOTS = 4  # more are taken to wait for nothing, in a floor
_GUESSES = 8  # numbers of rows, and of columns
_LESS = 1e-9  # by how much a tile must be better than another: more than sums of floats differ
# of a tile, then cycles
FIGURES = ("rows", "columns", "residents", "query_slots", "key_slots", "maximum_age", *TileCycles._fields)


@compiled
def _most(cycles: TileCycles) -> float:
    found = 0.0
    for own in cycles:
        found = max(found, own)
    return found


@compiled
def _fewest(extent: float, size: float) -> float:
    """The smallest tile of which there are as few as of `size`."""
    return float(np.ceil(extent / np.ceil(extent / size)))


@compiled
def _fewest_columns(d: DesignPoint, columns: float) -> float:
    if d.queries >= columns:
        return _fewest(d.queries, columns)
    return _fewest(d.group * d.queries, columns)


@compiled
def _tile_bytes(w: TileWork, rows: float, columns: float) -> tuple[float, float]:
    """Bytes of a query tile with its running values, and of a key tile and its values."""
    resident = columns * (w.resident_words + w.resident_words_row * rows) * w.word_bytes
    return resident, rows * w.key_words * w.word_bytes


@compiled
def _on_best_slots(
    w: TileWork, d: DesignPoint, rows: float, columns: float, residents: float, out: Floats
) -> float:
    """The least cycles of a tile over all splits of the buffer, whose figures are written to `out`; inf: no room.

    More query slots leave fewer key slots. The first split is that of the published rule: as many query slots as tiles
    under way can use, where two key slots remain; others only matter where tiles wait for slots.
    """
    query_bytes, key_bytes = _tile_bytes(w, rows, columns)
    if residents < 1 or residents * query_bytes + key_bytes > d.buffer_bytes:
        return float(np.inf)
    tiles, key_tiles = query_tiles(d, columns), np.ceil(d.keys / rows)
    smallest = tiles - np.floor(tiles / residents) * residents
    smallest = residents if smallest == 0 else smallest
    wanted = min(w.slots_ahead, residents * np.ceil(w.slots_ahead / (smallest * key_tiles)))
    spare = np.floor((d.buffer_bytes - residents * query_bytes - 2 * key_bytes) / query_bytes)
    most = np.floor((d.buffer_bytes - residents * query_bytes - key_bytes) / query_bytes)
    published, best, step = max(0.0, min(wanted, spare)), np.inf, 0.0
    ahead = published
    while True:
        key_slots = np.floor((d.buffer_bytes - (residents + ahead) * query_bytes) / key_bytes)
        keys_wait, queries_wait, age = False, False, oldest_maximum(w, d, rows, columns)
        few_key_slots = key_slots < age + _FEW_KEY_SLOTS
        while age >= 0:
            cycles = cycles_on(w, d, rows, columns, residents, residents + ahead, key_slots, age)
            found = _most(cycles)
            if found < best * (1 - _LESS):
                best = found
                out[0], out[1], out[2] = rows, columns, residents
                out[3], out[4], out[5] = residents + ahead, key_slots, age
                for number in range(len(cycles)):
                    out[_CYCLES_AT + number] = cycles[number]
            keys_wait |= max(cycles.key_waits, cycles.recurrence) >= found
            queries_wait |= cycles.query_waits >= found
            if max(cycles.query_waits, cycles.recurrence) < found or not few_key_slots:
                break  # a younger maximum only helps where rows wait for key slots
            age -= 1
        keys_wait |= queries_wait and few_key_slots
        if step >= 0 and queries_wait and ahead < min(w.slots_ahead, most):
            step, ahead = 1.0, ahead + 1  # more query slots
        elif keys_wait and step <= 0 and ahead > 0:
            step, ahead = -1.0, ahead - 1  # more key slots
        elif step == 1 and published > 0:
            step, ahead = -1.0, published - 1
        else:
            return best


@compiled
def _row_floor(w: TileWork, d: DesignPoint, rows: float, columns: float, residents: float, key_slots: float) -> float:
    """What a row under `epochs` takes at least: its load, its maximum, or its way through a share of the slots."""
    turns, load = np.ceil(columns / d.lanes), rows * w.key_words * w.word_bytes / d.dram_bytes_per_cycle
    again = rows + w.weights_2d + turns * w.maximum_1d
    through = rows + w.through_2d + turns * (w.through_1d + w.through_1d_row * rows)
    held = (load + max(residents * w.array_2d, through + (residents - 1) * w.front_2d)) / key_slots
    return float(max(again, load, held))


@compiled
def _settled_tiles(w: TileWork, d: DesignPoint, rows: float, columns: float) -> float:
    """Score tiles of rows once the pipeline is full; 0 but under `epochs`."""
    key_tiles = np.ceil(d.keys / rows)
    if not w.epochs or key_tiles < 2:
        return 0.0
    filled = oldest_maximum(w, d, rows, columns) + FILLING_ROWS
    return float(max(0.0, d.instances * key_tiles - filled) * query_tiles(d, columns))


@compiled
def _rows_floor(w: TileWork, d: DesignPoint, rows: float, columns: float) -> float:
    """What rows take at least, for each of their tiles, whatever the split of the buffer: few slots, many residents."""
    query_bytes, key_bytes = _tile_bytes(w, rows, columns)
    least = np.inf
    for key_slots in range(1, _FEW_KEY_SLOTS + 1):
        residents = np.floor((d.buffer_bytes - key_slots * key_bytes) / query_bytes)
        if residents < 1:
            break
        slots = key_slots if key_slots < _FEW_KEY_SLOTS else np.inf
        least = min(least, _row_floor(w, d, rows, columns, residents, slots) / residents)
    return least


@compiled
def _least_of(
    w: TileWork, d: DesignPoint, rows: float, columns: float, own: Floats, out: Floats, best: float
) -> float:
    """The least cycles of all residents that fit beside a key tile, where less than `best`; figures to `out`."""
    query_bytes, key_bytes = _tile_bytes(w, rows, columns)
    tiles = query_tiles(d, columns)
    most = min(tiles, np.floor((d.buffer_bytes - key_bytes) / query_bytes))
    groups, oldest = np.ceil(tiles / max(most, 1.0)), oldest_maximum(w, d, rows, columns)
    settled = _settled_tiles(w, d, rows, columns)
    residents = np.ceil(tiles / groups) if most >= 1 else 0.0
    while residents >= 1:
        cycles = cycles_on(w, d, rows, columns, residents, np.inf, np.inf, oldest)
        floor = max(cycles.array_2d, cycles.array_1d, cycles.stages, cycles.dram, cycles.ports)
        if floor >= best * (1 - _LESS):
            return best  # fewer residents load keys more often
        key_slots = np.floor((d.buffer_bytes - residents * query_bytes) / key_bytes)
        row = settled / residents * _row_floor(w, d, rows, columns, residents, key_slots) if settled > 0 else 0.0
        if row < best * (1 - _LESS):
            found = _on_best_slots(w, d, rows, columns, residents, own)
            if found < best * (1 - _LESS):
                best = found
                for number in range(len(out)):
                    out[number] = own[number]
            if found <= floor:
                return best
        if residents <= _EACH:
            residents -= 1
        else:  # groups of equal size, one more of them
            groups = np.ceil(tiles / (residents - 1))
            residents = np.ceil(tiles / groups)
    return best


@compiled
def _floor(
    w: TileWork, d: DesignPoint, rows: float, columns: float, tiles: float, turns: float, narrow: bool
) -> float:
    """What no residents and no slots are faster than: so many query tiles, so many turns of the 1D array.

    `narrow`: tiles have so many columns; otherwise any number up to it.
    """
    query_bytes, key_bytes = _tile_bytes(w, rows, columns)
    key_tiles, room = np.ceil(d.keys / rows), np.floor((d.buffer_bytes - key_bytes) / (query_bytes / columns))
    if room < (columns if narrow else 1):
        return float(np.inf)
    passes = np.ceil(d.group * d.queries / room) if key_tiles > 1 else 1.0
    if narrow and key_tiles > 1:
        passes = np.ceil(tiles / np.floor(room / columns))
    score_tiles, words = d.instances * tiles * key_tiles, passes * d.keys * w.key_words
    words += d.group * d.queries * (w.query_words + w.result_words)
    queries = tiles * columns if narrow else d.group * d.queries
    always, fetched, loaded, finished = w.port_words[0], w.port_words[1], w.port_words[2], w.port_words[3]
    through_ports = key_tiles * (tiles * (always[0] + always[1] * rows) + queries * (always[2] + always[3] * rows))
    through_ports += passes * key_tiles * (loaded[0] + loaded[1] * rows) + queries * (fetched[2] + finished[2])
    ports = d.instances * through_ports * w.word_bytes / d.port_bytes
    busy = max(ports, score_tiles * w.array_2d, d.instances * key_tiles * turns * (w.array_1d + w.array_1d_row * rows))
    settled = _settled_tiles(w, d, rows, columns) if narrow else 0.0
    if settled > 0:
        busy = max(busy, settled * _rows_floor(w, d, rows, columns))
    return float(max(busy, d.instances * words * w.word_bytes / d.dram_bytes_per_cycle))


@compiled
def _published_residents(w: TileWork, d: DesignPoint, rows: float, columns: float) -> float:
    """P1 by the published rule, 0 where no query tile fits: `mapping.resident_tiles`.

    The largest divisor of the query tiles that fits, or the balanced split where that is below half of what fits.
    """
    query_bytes, key_bytes = _tile_bytes(w, rows, columns)
    tiles = query_tiles(d, columns)
    fits = min(tiles, np.floor((d.buffer_bytes - key_bytes) / query_bytes))
    if fits < 1:
        return 0.0
    groups = np.ceil(tiles / fits)
    divisor = groups
    while 2 * tiles >= fits * divisor:
        if tiles % divisor == 0:
            return float(tiles / divisor)
        divisor += 1
    return float(np.ceil(tiles / groups))


@compiled
def _guessed(w: TileWork, d: DesignPoint, rows_vary: bool, own: Floats, out: Floats, best: float) -> float:
    """The best of a few tiles, so that few of the others are looked at."""
    for step in range(1, _GUESSES * _GUESSES):
        rows = _fewest(d.keys, np.ceil(d.rows * (1 - step // _GUESSES / _GUESSES))) if rows_vary else d.rows
        columns = _fewest_columns(d, np.ceil(d.columns * (1 - step % _GUESSES / _GUESSES)))
        tiles = query_tiles(d, columns)
        if _floor(w, d, rows, columns, tiles, tiles * np.ceil(columns / d.lanes), True) < best * (1 - _LESS):
            best = _least_of(w, d, rows, columns, own, out, best)
    return best


@compiled
def _search(w: TileWork, d: DesignPoint, rows_vary: bool, scratch: Floats, out: Floats) -> None:
    """All rows, those with the lowest floor first; of each all columns, the widest first."""
    floors, own = scratch[:2], scratch[2]
    rows = _fewest(d.keys, d.rows) if rows_vary else d.rows
    columns = _fewest_columns(d, d.columns)
    best = _on_best_slots(w, d, rows, columns, _published_residents(w, d, rows, columns), out)
    full_turns = np.ceil(d.group * d.queries / d.lanes)
    best = _guessed(w, d, rows_vary, own, out, best)
    sizes, rows = 0, d.rows
    while rows >= 1:
        rows = _fewest(d.keys, rows) if rows_vary else rows
        floors[0, sizes] = rows
        floors[1, sizes] = _floor(w, d, rows, d.columns, query_tiles(d, d.columns), full_turns, False)
        sizes += 1
        if not rows_vary:
            break
        rows -= 1
    while True:
        place = 0
        for other in range(1, sizes):
            place = other if floors[1, other] < floors[1, place] else place
        if floors[1, place] >= best * (1 - _LESS):
            return
        rows = floors[0, place]
        floors[1, place] = np.inf
        key_tiles, (query_bytes, key_bytes) = np.ceil(d.keys / rows), _tile_bytes(w, rows, 1.0)
        room = np.floor((d.buffer_bytes - key_bytes) / query_bytes)  # for resident queries
        word_cycles = d.instances * w.word_bytes / d.dram_bytes_per_cycle
        moved = d.group * d.queries * (w.query_words + w.result_words) * word_cycles
        columns = min(d.columns, d.group * d.queries, room)
        while columns >= 1:
            columns = _fewest_columns(d, columns)
            tiles = query_tiles(d, columns)
            if d.instances * tiles * key_tiles * w.array_2d >= best * (1 - _LESS):
                break  # narrower tiles are more
            passes = np.ceil(tiles / np.floor(room / columns)) if key_tiles > 1 else 1.0
            loaded = passes * d.keys * w.key_words * word_cycles
            turns = tiles * np.ceil(columns / d.lanes)
            limit = best * (1 - _LESS)
            if moved + loaded < limit and _floor(w, d, rows, columns, tiles, turns, True) < limit:
                best = _least_of(w, d, rows, columns, own, out, best)
            columns -= 1


Choose = Callable[[TileWork, Floats, bool, Floats, Floats], None]


def _entry_point(version: int) -> Choose:
    """Numba keys its cache with what a function closes over: `version` rebuilds it when any of the files changes."""

    def choose(w: TileWork, designs: Floats, rows_vary: bool, scratch: Floats, found: Floats) -> None:
        for number in range(len(designs) + 0 * version):
            own = designs[number]
            d = DesignPoint(own[0], own[1], own[2], own[3], own[4], own[5], own[6], own[7], own[8], own[9])
            _search(w, d, rows_vary, scratch, found[number])

    return compiled_entry("the choice of tiles", about_s=5)(choose)


_choose = _entry_point(version_of(__file__, bound))


def chosen_tiles(w: TileWork, designs: Floats, rows_vary: bool = True) -> dict[str, Floats]:
    """FIGURES of each design on its best tile, nan where nothing fits. `designs`: (designs, fields of DesignPoint)."""
    found = np.full((len(designs), len(FIGURES)), np.nan)
    scratch = np.empty((3, max(int(designs[:, 0].max(initial=0)) + 1, len(FIGURES))))
    _choose(w, np.ascontiguousarray(designs), rows_vary, scratch, found)
    return dict(zip(FIGURES, found.T, strict=True))
