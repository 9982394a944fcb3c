"""Which tiles a design works on: rows, columns and residents, chosen among those that fit for the least time.

An array may leave rows and columns idle, and a buffer room: a larger design can always run the plan of a smaller one.
Idle rows drain nothing and idle columns take no turn of the 1D array. Where the published tile (the whole array, as
many residents as `residency` says) takes no longer than any other, it stays. Full attention, physical accounting, many
designs at once. Of all sizes only those are tried that can win: the smallest for each number of tiles, what fills the
lanes of the 1D array for some turns, and what lets one more query tile stay in the buffer.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from cascadesim.accelerators.fusemax.closedform import ClosedForm, Floats
from cascadesim.accelerators.fusemax.residency import ceil_div

_MOST_WAITS = 16  # candidates of a design whose waits are looked for; assumed: the best is among the first
_LESS = 1e-9  # by how much a tile must be better than another: more than sums of floats differ
_SIZES_OF_ALL = [2.0**step for step in range(2, 10)]  # tried in every array that has them
_ROOMS = [(1, 1), (2, 1), (3, 1), (1, 2), (2, 2), (3, 2), (1, 3), (2, 3), (2, 4)]  # key tiles and query tiles that fit
SIZES = ("rows", "columns", "P1")
Sizes = tuple[Floats, ...]  # as SIZES


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


def _sizes(form: ClosedForm) -> Sizes:
    return form.given["rows"], form.given["columns"], form.P1


def _is_less(cycles: Floats, than: Floats) -> NDArray[np.bool_]:
    return cycles < than * (1 - _LESS)


def _searched(form: ClosedForm, rows_vary: bool) -> tuple[Floats, Sizes]:
    """Of each design the least cycles of any candidate, and its sizes.

    Waits are looked for where they are likely to be short, until by the rest of the bound none can be better.
    """
    cycles, sizes = np.array(form.least), tuple(np.array(values) for values in _sizes(form))
    candidates, cheap, likely = _candidates(form, rows_vary)
    for _ in range(_MOST_WAITS):
        which = np.argmin(np.where(_is_less(cheap, cycles), likely, np.inf), axis=0)
        hopeful = np.flatnonzero(_is_less(cheap[which, np.arange(which.size)], cycles))
        if not hopeful.size:
            break
        at = which[hopeful], hopeful
        own = tuple(values[at] for values in candidates)
        found = form.at(hopeful).on(*own).least
        wins = _is_less(found, cycles[hopeful])
        for mine, theirs in zip((cycles, *sizes), (found, *own), strict=True):
            mine[hopeful[wins]] = theirs[wins]
        cheap[at] = np.inf
    return cycles, sizes


def tile_sizes(form: ClosedForm, rows_vary: bool = True) -> tuple[Floats, Floats]:
    """Rows and columns of the tiles that are tried, [candidate, design]."""
    whole, columns = [*_rows(form)] if rows_vary else [form.given["rows"]], [*_columns(form)]
    pairs = [(own, other) for own in whole for other in columns]
    if rows_vary:
        pairs += [(own, other) for other in columns for own in _rows_that_fit(form, other)]
    pairs += [(own, other) for own in whole for other in _columns_that_fit(form, own)]
    rows, columns = (np.array(values) for values in zip(*pairs, strict=True))
    return rows, columns


def _candidates(form: ClosedForm, rows_vary: bool) -> tuple[Sizes, Floats, Floats]:
    """Sizes, the part of their cycles without waits, likely cycles: [candidate, design]; inf where hopeless."""
    rows, columns = tile_sizes(form, rows_vary)
    designs = np.broadcast_to(np.arange(rows.shape[1]), rows.shape)
    busy = form.at(designs.ravel()).on(rows.ravel(), columns.ravel()).busy_cycles.reshape(rows.shape)
    at, design = np.nonzero(_is_less(busy, form.least))
    few = form.at(design)
    published = few.on(rows[at, design], columns[at, design])
    fewest = ceil_div(published.query_tiles, np.maximum(published.buffer_tiles, 1))
    balanced = published.on(published.given["rows"], published.given["columns"],
                            ceil_div(published.query_tiles, fewest))  # fmt: skip
    found = [np.full((2, *rows.shape), fill) for fill in (1.0, 1.0, 1.0, np.inf, np.inf)]
    for number, own in enumerate((published, balanced)):
        likely = np.maximum(own.cheap_cycles, own.streams.likely_cycles())
        for values, quantity in zip(found, (*_sizes(own), own.cheap_cycles, likely), strict=True):
            values[number, at, design] = quantity
    *sizes, cheap, likely = (values.reshape(-1, rows.shape[1]) for values in found)
    return tuple(sizes), cheap, likely


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
        yield form.fewest_columns(np.clip(ceil_div(own, ceil_div(own, np.minimum(most, lanes))), 1, most))


def _rows_that_fit(form: ClosedForm, columns: Floats) -> Iterator[Floats]:
    """Of tiles of which some fit beside some query tiles."""
    given = form.given
    words, depths = given["buffer_bytes"] / form.spec.word_bytes, given["query_depth"] + given["value_depth"]
    none, one = (form.on(np.full_like(columns, rows), columns).resident_words for rows in (0.0, 1.0))
    for tiles, residents in _ROOMS:
        rows = (words - residents * columns * none) / (tiles * depths + residents * columns * (one - none))
        yield _fewest_rows(form, np.clip(np.floor(rows), 1, given["rows"]))


def _columns_that_fit(form: ClosedForm, rows: Floats) -> Iterator[Floats]:
    """Of query tiles of which some fit beside some key tiles."""
    given, most = form.given, form.given["columns"]
    words, depths = given["buffer_bytes"] / form.spec.word_bytes, given["query_depth"] + given["value_depth"]
    resident = form.on(rows, most).resident_words
    whole = np.floor(np.maximum((words - rows * depths) / (resident * most), 0))
    for tiles, residents in (*_ROOMS, (1, whole + 1), (1, whole + 2)):
        columns = np.floor((words - tiles * rows * depths) / (residents * resident))
        yield form.fewest_columns(np.clip(columns, 1, most))


def _fewest_rows(form: ClosedForm, rows: Floats) -> Floats:
    """The smallest tile of which there are as few as of this one."""
    return ceil_div(form.given["keys"], ceil_div(form.given["keys"], rows))
