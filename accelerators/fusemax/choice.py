"""Which tiles a design works on: rows, columns and residents, chosen among those that fit for the least time.

An array may leave rows and columns idle, and a buffer room: a larger design can always run the plan of a smaller one.
Idle rows drain nothing and idle columns take no turn of the 1D array. Where the published tile (the whole array, as
many residents as `residency` says) takes no longer than any other, it stays. Full attention, physical accounting, many
designs at once. Of all sizes only those are tried that can win: the smallest for each number of tiles, what fills the
lanes of the 1D array for some turns, and what lets one more query tile stay in the buffer.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from cascadesim.accelerators.fusemax.closedform import ClosedForm, Floats
from cascadesim.accelerators.fusemax.residency import ceil_div, resident_tiles
from cascadesim.accelerators.fusemax.rowwalks import Family, family_of

_SIZES_OF_ALL = [2.0**step for step in range(2, 10)]  # tried in every array that has them
_ROOMS = [(1.0, 1.0), (2.0, 1.0), (3.0, 1.0), (1.0, 2.0), (2.0, 2.0), (3.0, 2.0), (1.0, 3.0), (2.0, 3.0), (2.0, 4.0)]
_GROUPS_OF_RESIDENTS = (1, 2, 3, 4, 6)  # that one wants the rows for
# _ROOMS: key tiles and query tiles that are to fit side by side
_KEY_TILES = (1, 2, 3)  # that have room beside the residents; assumed: more hide nothing
_CHANNELS = [2.0 ** (step / 2) for step in range(3, 25)]  # bytes a cycle; assumed: what is best in between is at one
_EACH = 4  # tiles that are remembered for each channel
_LIKELY = 1.2  # of the least known cycles; assumed: what is likely to take longer does so
_LESS = 1e-9  # by how much a tile must be better than another: more than sums of floats differ
_GROUPS = 64  # of designs at a time: their candidates stay in the cache
_REMEMBERED = 1 << 16
_FIGURES = 10  # of Tried
_ALIKE = ("rows", "columns", "lanes", "buffer_bytes", "row_bytes", "instances", "queries", "keys", "query_depth",
          "value_depth", "group")  # fmt: skip
SIZES = ("rows", "columns", "P1")


@dataclass(frozen=True)
class Tried:
    """The tiles that a design tries, whatever its channel: [tile, design, figure].

    Figures: rows, columns, P1; then cycles and bytes of which the bound without waits is made, and the likely cycles.
    """

    figures: Floats

    @property
    def sizes(self) -> tuple[Floats, Floats, Floats]:
        return self.figures[..., 0], self.figures[..., 1], self.figures[..., 2]

    def bound(self, bytes_per_cycle: Floats) -> Floats:
        """Cycles without waits."""
        busy, moved, turns, turned = (self.figures[..., figure] for figure in range(3, 7))
        found: Floats = np.maximum(np.maximum(busy, moved / bytes_per_cycle), turns + turned / bytes_per_cycle)
        return found

    def likely(self, bytes_per_cycle: Floats) -> Floats:
        rows, loads, few = (self.figures[..., figure] for figure in range(7, 10))
        waits = np.maximum(rows, loads / bytes_per_cycle + np.where(np.isfinite(few), np.maximum(few, 0.0), 0.0))
        found: Floats = np.maximum(self.bound(bytes_per_cycle), waits)
        return found


def best(form: ClosedForm, rows_vary: bool = True) -> ClosedForm:
    """The same designs on the tiles that they work on; with `rows_vary` False, of as many rows as given."""
    least = form.least
    open_designs = np.flatnonzero(_is_less(form.floor, least))
    if not open_designs.size:
        return form
    cycles, sizes = _searched(form.at(open_designs), rows_vary)
    better = cycles < least[open_designs]
    if not better.any():
        return form
    chosen, given, known = open_designs[better], dict(form.given), least.copy()
    for name, before, values in zip(SIZES, _sizes(form), sizes, strict=True):
        given[name] = np.array(before)
        given[name][chosen] = values[better]
    known[chosen] = cycles[better]
    return replace(form, given=given, known_least=known)


def _sizes(form: ClosedForm) -> tuple[Floats, Floats, Floats]:
    return form.given["rows"], form.given["columns"], form.P1


def _is_less(cycles: Floats, than: Floats) -> NDArray[np.bool_]:
    return cycles < than * (1 - _LESS)


def _searched(form: ClosedForm, rows_vary: bool) -> tuple[Floats, tuple[Floats, ...]]:
    """Of each design the least cycles of any tile, and its sizes: waits are looked for until none can be better."""
    cycles, sizes = np.array(form.least), tuple(np.array(values) for values in _sizes(form))
    tried = tiles_to_try(form, rows_vary)
    per_cycle = form.given["bandwidth_bytes_per_s"] / form.given["clock_hz"]
    bound, likely = tried.bound(per_cycle), tried.likely(per_cycle)
    for _ in range(len(bound)):
        hopes = np.where(_is_less(bound, cycles) & (likely < _LIKELY * cycles), likely, np.inf)
        which = np.argmin(hopes, axis=0)
        hopeful = np.flatnonzero(np.isfinite(hopes[which, np.arange(which.size)]))
        if not hopeful.size:
            break
        at = which[hopeful], hopeful
        own = tuple(values[at] for values in tried.sizes)
        found = form.at(hopeful).on(*own).least
        wins = _is_less(found, cycles[hopeful])
        for mine, theirs in zip((cycles, *sizes), (found, *own), strict=True):
            mine[hopeful[wins]] = theirs[wins]
        bound[at] = np.inf
    return cycles, sizes


def tiles_to_try(form: ClosedForm, rows_vary: bool = True) -> Tried:
    """Worked out once for all designs that differ in bandwidth and clock only."""
    which = np.zeros(form.given["rows"].size, dtype=np.int64)
    for name in _ALIKE:
        values, own = np.unique(form.given[name], return_inverse=True)
        if values.size > 1:
            _, which = np.unique(which * values.size + own, return_inverse=True)
    _, first = np.unique(which, return_index=True)
    keys = list(zip(*(form.given[name][first].tolist() for name in _ALIKE), strict=True))
    known = _known(family_of(form.placement, form.spec), rows_vary)
    missing = [number for number, key in enumerate(keys) if key not in known]
    if len(known) + len(missing) > _REMEMBERED:
        known.clear()
        missing = list(range(len(keys)))
    for start in range(0, len(missing), _GROUPS):
        part = missing[start : start + _GROUPS]
        found = _frontier(form.at(first[part]), rows_vary)
        known.update((keys[number], found[np.isfinite(found[:, own, 3]), own]) for own, number in enumerate(part))
    each = [known[key] for key in keys]
    figures = np.full((max(map(len, each)), len(each), _FIGURES), np.inf)
    for number, tiles in enumerate(each):
        figures[: len(tiles), number] = tiles
    return Tried(figures[:, which])


@lru_cache(maxsize=64)
def _known(family: Family, rows_vary: bool) -> dict[tuple[float, ...], Floats]:
    """Of the designs of a family; filled as they are asked for."""
    return {}


def _frontier(form: ClosedForm, rows_vary: bool) -> Floats:
    """Figures of Tried: of all candidates those of the least likely cycles for some channel."""
    every = _candidates(form, rows_vary)
    kept = []
    for per_cycle in _CHANNELS:
        likely = every.likely(np.array(per_cycle))
        for which in np.argpartition(likely, _EACH, axis=0)[:_EACH]:
            kept.append(every.figures[which, np.arange(which.size)])
    found = np.array(kept)
    for number in range(1, len(found)):  # each tile once
        again = (found[:number, :, :3] == found[number, :, :3]).all(axis=2).any(axis=0)
        found[number, again, 3] = np.inf
    return found


def _candidates(form: ClosedForm, rows_vary: bool) -> Tried:
    """Every pair of rows and columns, with the residents of the published rule and of some others."""
    rows, columns = _tile_sizes(form, rows_vary)
    designs = np.broadcast_to(np.arange(rows.shape[1]), rows.shape).ravel()
    published = form.at(designs).on(rows.ravel(), columns.ravel())
    others = (residents for tiles in _KEY_TILES for residents in _residents(published, tiles))
    found = [_figures(published.on(*_sizes(published)[:2], residents)) for residents in others]
    return Tried(np.concatenate([values.reshape(*rows.shape, -1) for values in found]))


def _figures(form: ClosedForm) -> Floats:
    moved, turns, turned = form.bytes_and_turns()
    waits = form.streams.likely_waits()
    busy = np.where(form.fits, np.maximum(form.busy_cycles, form.streams.port_cycles()), np.inf)
    return np.stack(np.broadcast_arrays(*_sizes(form), busy, moved, turns, turned, *waits), axis=-1)


def _tile_sizes(form: ClosedForm, rows_vary: bool) -> tuple[Floats, Floats]:
    """Rows and columns of the tiles that are tried, [candidate, design]."""
    whole, columns = [*_rows(form)] if rows_vary else [form.given["rows"]], [*_columns(form)]
    pairs = [(own, other) for own in whole for other in columns]
    if rows_vary:
        pairs += [(own, other) for other in columns for own in _rows_that_fit(form, other)]
    pairs += [(own, other) for own in whole for other in _columns_that_fit(form, own)]
    return np.array([own for own, _ in pairs]), np.array([own for _, own in pairs])


def _residents(form: ClosedForm, key_tiles: int) -> tuple[Floats, Floats]:
    """By the published rule, and of the fewest groups, beside so many key tiles and their values."""
    given = form.given
    words = given["buffer_bytes"] / form.spec.word_bytes
    words = words - key_tiles * given["rows"] * (given["query_depth"] + given["value_depth"])
    fits = np.maximum(np.floor(words / (given["columns"] * form.resident_words)), 1)
    return resident_tiles(form.query_tiles, fits), ceil_div(form.query_tiles, ceil_div(form.query_tiles, fits))


def _rows(form: ClosedForm) -> Iterator[Floats]:
    """Keys of a tile: the fewest tiles, some more, and sizes that every array has which is large enough."""
    rows, keys = form.given["rows"], form.given["keys"]
    fewest = ceil_div(keys, rows)
    for tiles in (fewest, fewest + 1, fewest + 2):
        yield ceil_div(keys, tiles)
    for size in _SIZES_OF_ALL:
        yield _fewest_rows(form, np.minimum(size, rows))


def _columns(form: ClosedForm) -> Iterator[Floats]:
    """Queries of a tile: the fewest tiles, some more, full lanes for some turns, and sizes as for rows."""
    given, most = form.given, form.given["columns"]
    lanes, queries = given["lanes"], given["queries"]
    last = (ceil_div(most, lanes) - 1) * lanes
    for size in (most, lanes, 2 * lanes, 3 * lanes, last, *(np.full_like(most, size) for size in _SIZES_OF_ALL)):
        yield form.fewest_columns(np.clip(size, 1, most))
    for more in (1, 2):
        yield ceil_div(queries, ceil_div(queries, np.minimum(queries, most)) + more)
    for room in (form.on(given["rows"], most).resident_queries, form.on(np.ones_like(most), most).resident_queries):
        groups = ceil_div(given["group"] * queries, np.maximum(room, 1))
        own = ceil_div(given["group"] * queries, groups)
        for further in (0, 1, 2):
            tiles = ceil_div(own, np.minimum(most, lanes)) + further
            yield form.fewest_columns(np.clip(ceil_div(own, tiles), 1, most))


def _rows_that_fit(form: ClosedForm, columns: Floats) -> Iterator[Floats]:
    """Of tiles of which some fit beside some query tiles."""
    given = form.given
    words, depths = given["buffer_bytes"] / form.spec.word_bytes, given["query_depth"] + given["value_depth"]
    none, one = (form.on(np.full_like(columns, rows), columns).resident_words for rows in (0.0, 1.0))
    resident = columns * form.on(given["rows"], columns).resident_words
    whole = np.floor(np.maximum((words - given["rows"] * depths) / resident, 0))
    tiles_of_queries = form.on(given["rows"], columns).query_tiles
    groups = [(1.0, ceil_div(tiles_of_queries, np.full_like(columns, number))) for number in _GROUPS_OF_RESIDENTS]
    rooms: list[tuple[float, Floats | float]] = [*_ROOMS, (1.0, whole + 1), (1.0, whole + 2), *groups]
    for tiles, residents in rooms:
        rows = (words - residents * columns * none) / (tiles * depths + residents * columns * (one - none))
        yield _fewest_rows(form, np.clip(np.floor(rows), 1, given["rows"]))


def _columns_that_fit(form: ClosedForm, rows: Floats) -> Iterator[Floats]:
    """Of query tiles of which some fit beside some key tiles."""
    given, most = form.given, form.given["columns"]
    words, depths = given["buffer_bytes"] / form.spec.word_bytes, given["query_depth"] + given["value_depth"]
    resident = form.on(rows, most).resident_words
    whole = np.floor(np.maximum((words - rows * depths) / (resident * most), 0))
    rooms: list[tuple[float, Floats | float]] = [*_ROOMS, (1.0, whole + 1), (1.0, whole + 2)]
    for tiles, residents in rooms:
        columns = np.floor((words - tiles * rows * depths) / (residents * resident))
        yield form.fewest_columns(np.clip(columns, 1, most))


def _fewest_rows(form: ClosedForm, rows: Floats) -> Floats:
    """The smallest tile of which there are as few as of this one."""
    return ceil_div(form.given["keys"], ceil_div(form.given["keys"], rows))
