"""What tiles of given rows and columns cost: the least of all residents and splits of the buffer, and floors below it.

More residents load keys less often and leave less room for slots, more query slots leave fewer key slots; of all that
fit, those of the least cycles (`bound`). A floor is what no residents and no slots are faster than. Compiled, for one
design; which rows and columns is the business of `tile_choice`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cascadesim.accelerators.compiled import compiled
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

LESS = 1e-9  # by how much a tile must be better than another: more than sums of floats differ
_CYCLES_AT = 6  # in FIGURES
_EACH = 32  # residents up to which each number is tried; assumed: of more, only those of groups of equal size differ
_FEW_KEY_SLOTS = 4  # more are taken to wait for nothing, in a floor
_NEAR = 1e-3  # how much worse than the best a tile may be and still decide between ties: far more than LESS
# of a tile, then cycles
FIGURES = ("rows", "columns", "residents", "query_slots", "key_slots", "maximum_age", *TileCycles._fields)


@compiled
def most_of(cycles: TileCycles) -> float:
    found = 0.0
    for own in cycles:
        found = max(found, own)
    return found


@compiled
def fewest(extent: float, size: float) -> float:
    """The smallest tile of which there are as few as of `size`."""
    return float(np.ceil(extent / np.ceil(extent / size)))


@compiled
def fewest_columns(d: DesignPoint, columns: float) -> float:
    if d.queries >= columns:
        return fewest(d.queries, columns)
    return fewest(d.group * d.queries, columns)


@compiled
def tile_bytes(w: TileWork, rows: float, columns: float) -> tuple[float, float]:
    """Bytes of a query tile with its running values, and of a key tile and its values."""
    resident = columns * (w.resident_words + w.resident_words_row * rows) * w.word_bytes
    return resident, rows * w.key_words * w.word_bytes


@compiled
def on_best_slots(
    w: TileWork, d: DesignPoint, rows: float, columns: float, residents: float, out: Floats
) -> float:
    """The least cycles of a tile over all splits of the buffer, whose figures are written to `out`; inf: no room.

    More query slots leave fewer key slots. The first split is that of the published rule: as many query slots as tiles
    under way can use, where two key slots remain; others only matter where tiles wait for slots.
    """
    query_bytes, key_bytes = tile_bytes(w, rows, columns)
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
            found = most_of(cycles)
            if found < best * (1 - LESS):
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
    query_bytes, key_bytes = tile_bytes(w, rows, columns)
    least = np.inf
    for key_slots in range(1, _FEW_KEY_SLOTS + 1):
        residents = np.floor((d.buffer_bytes - key_slots * key_bytes) / query_bytes)
        if residents < 1:
            break
        slots = key_slots if key_slots < _FEW_KEY_SLOTS else np.inf
        least = min(least, _row_floor(w, d, rows, columns, residents, slots) / residents)
    return least


@compiled
def reach_of(best: float, likely: float) -> float:
    """Cycles below which tiles are looked at; `likely`: what the best tile has at most."""
    return min(best * (1 - LESS), likely * (1 + _NEAR))


@compiled
def least_of(
    w: TileWork, d: DesignPoint, rows: float, columns: float, own: Floats, out: Floats, best: float, likely: float,
    ahead: float,
) -> tuple[float, float]:  # fmt: skip
    """The least cycles of all residents that fit beside a key tile, where less than `best`; figures to `out`.

    Also cycles that none of them is below: their least, or what was in reach.
    """
    query_bytes, key_bytes = tile_bytes(w, rows, columns)
    tiles, reach, least = query_tiles(d, columns), reach_of(best, likely) * (1 + ahead), np.inf
    most = min(tiles, np.floor((d.buffer_bytes - key_bytes) / query_bytes))
    groups, oldest = np.ceil(tiles / max(most, 1.0)), oldest_maximum(w, d, rows, columns)
    settled = _settled_tiles(w, d, rows, columns)
    residents = np.ceil(tiles / groups) if most >= 1 else 0.0
    while residents >= 1:
        cycles = cycles_on(w, d, rows, columns, residents, np.inf, np.inf, oldest)
        floor = max(cycles.array_2d, cycles.array_1d, cycles.stages, cycles.dram, cycles.ports)
        if floor >= reach:
            break  # fewer residents load keys more often
        key_slots = np.floor((d.buffer_bytes - residents * query_bytes) / key_bytes)
        row = settled / residents * _row_floor(w, d, rows, columns, residents, key_slots) if settled > 0 else 0.0
        if row < reach:
            found = on_best_slots(w, d, rows, columns, residents, own)
            least = min(least, found)
            if found < best * (1 - LESS):
                best = found
                reach = reach_of(best, likely) * (1 + ahead)
                for number in range(len(out)):
                    out[number] = own[number]
            if found <= floor:
                break
        if residents <= _EACH:
            residents -= 1
        else:  # groups of equal size, one more of them
            groups = np.ceil(tiles / (residents - 1))
            residents = np.ceil(tiles / groups)
    return best, min(least, reach)


@compiled
def floor_of(
    w: TileWork, d: DesignPoint, rows: float, columns: float, tiles: float, turns: float, narrow: bool
) -> tuple[float, float]:
    """What no residents and no slots are faster than: so many query tiles, so many turns of the 1D array.

    Cycles, and bytes that DRAM moves. `narrow`: tiles have so many columns; otherwise any number up to it.
    """
    query_bytes, key_bytes = tile_bytes(w, rows, columns)
    key_tiles, room = np.ceil(d.keys / rows), np.floor((d.buffer_bytes - key_bytes) / (query_bytes / columns))
    if room < (columns if narrow else 1):
        return float(np.inf), 0.0
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
    return float(busy), float(d.instances * words * w.word_bytes)


@compiled
def narrow_floor(w: TileWork, d: DesignPoint, rows: float, columns: float) -> float:
    tiles = query_tiles(d, columns)
    busy, moved_bytes = floor_of(w, d, rows, columns, tiles, tiles * np.ceil(columns / d.lanes), True)
    return max(busy, moved_bytes / d.dram_bytes_per_cycle)


@compiled
def published_residents(w: TileWork, d: DesignPoint, rows: float, columns: float) -> float:
    """P1 by the published rule, 0 where no query tile fits: `mapping.resident_tiles`.

    The largest divisor of the query tiles that fits, or the balanced split where that is below half of what fits.
    """
    query_bytes, key_bytes = tile_bytes(w, rows, columns)
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
