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

    The part of the bound that knows no waits orders the candidates; waits are looked for until none can be better.
    """
    cycles, sizes = np.array(form.least), tuple(np.array(values) for values in _sizes(form))
    candidates, cheap = _candidates(form, rows_vary)
    for _ in range(_MOST_WAITS):
        which = np.argmin(cheap, axis=0)
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
    each = _rows(form) if rows_vary else [form.given["rows"]]
    pairs = [(rows, columns) for rows in each for columns in _columns(form, rows)]
    rows, columns = (np.array(values) for values in zip(*pairs, strict=True))
    return rows, columns


def _candidates(form: ClosedForm, rows_vary: bool) -> tuple[Sizes, Floats]:
    """Sizes and the cheap part of their cycles, [candidate, design]; inf where they cannot be better."""
    rows, columns = tile_sizes(form, rows_vary)
    designs = np.broadcast_to(np.arange(rows.shape[1]), rows.shape)
    busy = form.at(designs.ravel()).on(rows.ravel(), columns.ravel()).busy_cycles.reshape(rows.shape)
    at, design = np.nonzero(_is_less(busy, form.least))
    few = form.at(design)
    published = few.on(rows[at, design], columns[at, design])
    fewest = ceil_div(published.query_tiles, np.maximum(published.buffer_tiles, 1))
    balanced = published.on(published.given["rows"], published.given["columns"],
                            ceil_div(published.query_tiles, fewest))  # fmt: skip
    found = [np.full((2, *rows.shape), fill) for fill in (1.0, 1.0, 1.0, np.inf)]
    for number, own in enumerate((published, balanced)):
        for values, quantity in zip(found, (*_sizes(own), own.cheap_cycles), strict=True):
            values[number, at, design] = quantity
    *sizes, cheap = (values.reshape(-1, rows.shape[1]) for values in found)
    return tuple(sizes), cheap


def _rows(form: ClosedForm) -> Iterator[Floats]:
    """Numbers of keys in a tile: of the fewest tiles and of some more; with which one more query tile fits."""
    given = form.given
    rows, keys = given["rows"], given["keys"]
    fewest = ceil_div(keys, rows)
    for tiles in (fewest, fewest + 1, fewest + 2, 2 * fewest):
        yield ceil_div(keys, tiles)
    depths = given["query_depth"] + given["value_depth"]
    words = given["buffer_bytes"] / form.spec.word_bytes
    yield _whole(words / (2 * depths), rows, keys)
    for columns in (form.fewest_columns(given["columns"]), form.fewest_columns(_at_most(given["lanes"], form))):
        resident = columns * form.resident_words
        more = np.floor((words - ceil_div(keys, fewest) * depths) / resident) + 1
        yield _whole((words - more * resident) / depths, rows, keys)


def _whole(wanted: Floats, most: Floats, extent: Floats) -> Floats:
    """The smallest size with as few tiles as the wanted one."""
    size = np.clip(np.floor(wanted), 1, most)
    return ceil_div(extent, ceil_div(extent, size))


def _columns(form: ClosedForm, rows: Floats) -> Iterator[Floats]:
    """Numbers of queries in a tile, for so many rows."""
    given, most = form.given, form.given["columns"]
    turns = ceil_div(most, given["lanes"])
    for size in (most, given["lanes"], 2 * given["lanes"], 3 * given["lanes"], (turns - 1) * given["lanes"]):
        yield form.fewest_columns(_at_most(size, form))
    queries = np.minimum(given["queries"], most)
    for more in (1, 2):
        yield ceil_div(given["queries"], ceil_div(given["queries"], queries) + more)
    room = form.on(rows, most).resident_queries
    groups = ceil_div(given["group"] * given["queries"], np.maximum(room, 1))
    own = ceil_div(given["group"] * given["queries"], groups)
    yield form.fewest_columns(_at_most(ceil_div(own, ceil_div(own, np.minimum(most, given["lanes"]))), form))
    tiles = np.floor(room / most)
    for number in (tiles + 1, tiles + 2, 2 * tiles + 1):
        yield form.fewest_columns(_at_most(np.floor(room / number), form))


def _at_most(size: Floats, form: ClosedForm) -> Floats:
    return np.clip(size, 1, form.given["columns"])
