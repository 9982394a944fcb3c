"""How the buffer is split into slots, and how many tiles pass before a slot is used again.

A query slot holds a query tile and its running values from its fetch to the store of its result; a key slot a key
tile and a value tile while the resident queries pass by. Knows how the tiles flow; knows no cycles.
"""

from __future__ import annotations

from dataclasses import dataclass

from cascadesim.accelerators.fusemax.tilestream import TileStream

TILES_AHEAD = 16  # assumed: more than any pipeline of tiles is deep; further slots would change no cycle


@dataclass(frozen=True, slots=True)
class Slots:
    queries: int
    keys: int


@dataclass(frozen=True, slots=True)
class Flow:
    """Of a stream: query tiles resident at a time, tiles of its smallest group, query tiles of its shortest row."""

    resident: int
    smallest_group: int
    shortest_row: int


def flow_of(stream: TileStream) -> Flow:
    rows = [row for group in stream.groups for row in group.rows]
    smallest = min(sum(row.tiles * row.times for row in group.rows) for group in stream.groups)
    return Flow(stream.tiles.P1, smallest, min(row.tiles for row in rows))


def split_buffer(capacity_bytes: int, query_bytes: int, key_bytes: int, flow: Flow, in_flight: int | None) -> Slots:
    """Room for the resident query tiles, for two key slots, for queries ahead, and for keys ahead.

    Only as many as the tiles that can be under way need: a buffer has room for more, but nothing would use it.
    """
    ahead = max(TILES_AHEAD, in_flight or 0)
    wanted = min(ahead, flow.resident * -(-ahead // flow.smallest_group))
    spare_bytes = capacity_bytes - flow.resident * query_bytes - 2 * key_bytes
    queries = flow.resident + max(0, min(wanted, spare_bytes // query_bytes))
    keys = (capacity_bytes - queries * query_bytes) // key_bytes
    return Slots(queries, min(keys, max(2, 1 + -(-ahead // flow.shortest_row))))


def query_slack(flow: Flow, slots: Slots) -> int:
    """Tiles from the last tile of a query slot to the first tile of its next query tile, at least.

    In between every other slot finishes or begins a column in a tile of its own, and whole groups pass by: as many as
    the slots hold beside one.
    """
    whole_groups = slots.queries // flow.resident - 1
    return max(slots.queries, whole_groups * flow.smallest_group + 1)


def key_slack(flow: Flow, slots: Slots) -> int:
    """Tiles from the last tile of a key slot to the first tile of its next key tile, at least: the rows in between."""
    return 1 + (slots.keys - 1) * flow.shortest_row


def bubbles(flow: Flow, slots: Slots, store_stage: int, last_read_stage: int) -> tuple[int, int]:
    """Empty epochs that slots need: after each group of resident queries, after each row of keys."""
    after_group = max(0, store_stage - query_slack(flow, slots))
    return after_group, max(0, last_read_stage + 1 - key_slack(flow, slots))
