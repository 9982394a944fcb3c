"""How the buffer is split into slots, and how many tiles pass before a slot is used again.

A query slot holds a query tile and its running values from its fetch to the store of its result; a key slot a key
tile and a value tile while the resident queries pass by. Knows the stream; knows no cycles.
"""

from __future__ import annotations

from dataclasses import dataclass

from cascadesim.accelerators.fusemax.tilestream import TileStream

_TILES_AHEAD = 16  # assumed: more than any pipeline of tiles is deep; further slots would change no cycle


@dataclass(frozen=True, slots=True)
class Slots:
    queries: int
    keys: int


def split_buffer(
    capacity_bytes: int, query_bytes: int, key_bytes: int, stream: TileStream, in_flight: int | None
) -> Slots:
    """Room for the resident query tiles, for two key slots, for queries ahead, and for keys ahead.

    Only as many as the tiles that can be under way need: a buffer has room for more, but nothing would use it.
    """
    ahead = max(_TILES_AHEAD, in_flight or 0)
    resident = stream.tiles.P1
    wanted = min(ahead, resident * -(-ahead // smallest_group(stream)))
    spare_bytes = capacity_bytes - resident * query_bytes - 2 * key_bytes
    queries = resident + max(0, min(wanted, spare_bytes // query_bytes))
    keys = (capacity_bytes - queries * query_bytes) // key_bytes
    return Slots(queries, min(keys, max(2, 1 + -(-ahead // shortest_row(stream)))))


def smallest_group(stream: TileStream) -> int:
    """The fewest tiles of a group of residents."""
    return min(sum(row.tiles * row.times for row in group.rows) for group in stream.groups)


def shortest_row(stream: TileStream) -> int:
    """The fewest query tiles that meet a key tile."""
    return min(row.tiles for group in stream.groups for row in group.rows)


def query_slack(stream: TileStream, slots: Slots) -> int:
    """Tiles from the last tile of a query slot to the first tile of its next query tile, at least.

    In between every other slot finishes or begins a column in a tile of its own, and whole groups pass by: as many as
    the slots hold beside one.
    """
    whole_groups = slots.queries // stream.tiles.P1 - 1
    return max(slots.queries, whole_groups * smallest_group(stream) + 1)


def key_slack(stream: TileStream, slots: Slots) -> int:
    """Tiles from the last tile of a key slot to the first tile of its next key tile, at least: the rows in between."""
    return 1 + (slots.keys - 1) * shortest_row(stream)
