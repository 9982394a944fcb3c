"""The state of the engine, relative to the clocks of its units: equal states go on alike.

Compiled, as `issue`. Moments that can hold nobody up any more are ABSENT.
"""

# an element of an array is Any:
# mypy: disable-error-code="no-any-return"
from __future__ import annotations

from cascadesim.accelerators.compiled import compiled
from cascadesim.simulator.engine import state as at
from cascadesim.simulator.engine.issue import int64, to_come
from cascadesim.simulator.engine.state import ABSENT, PENDING, EngineState, Ints

TO_COME = 2**61  # in a snapshot, added to how many tiles ago the awaited tile entered


@compiled
def latest(m: EngineState) -> int:
    clock = m.rows[at.CLOCK, 0]
    for unit in range(1, m.rows[at.SIZE, at.UNITS]):
        clock = max(clock, m.rows[at.CLOCK, unit])
    return clock


@compiled
def floor(m: EngineState) -> int:
    """No task still to run starts before this cycle."""
    if not m.rows[at.SIZE, at.IN_FLIGHT]:
        return 0
    return m.tiles[at.OPENS, m.rows[at.PROGRESS, at.OLDEST] & (m.ring.shape[1] - 1)]


@compiled
def origin(m: EngineState, unit: int) -> int:
    """Choose where the time of a unit is counted from; greedy order compares the times of all units."""
    return latest(m) if m.rows[at.SIZE, at.IN_FLIGHT] else m.rows[at.CLOCK, unit]


@compiled
def relative(m: EngineState, task: int, moment: int) -> int:
    """See a start or finish of `task` as its readers do: ABSENT once none of them can be held up by it."""
    if moment <= PENDING:
        return moment
    lowest = floor(m)
    for place in range(m.rows[at.READERS_OF, task], m.rows[at.READERS_OF, task + 1]):
        reader = max(m.rows[at.CLOCK, m.rows[at.READER_UNIT, place]], lowest)
        if moment + m.rows[at.READER_LAG, place] > reader:
            return moment - origin(m, m.rows[at.UNIT, task])
    return ABSENT


@compiled
def relative_gift(m: EngineState, queue: int, moment: int) -> int:
    if moment <= max(m.rows[at.CLOCK, m.rows[at.TAKER_UNIT, queue]], floor(m)):
        return ABSENT
    return moment - origin(m, m.rows[at.GIVER_UNIT, queue])


@compiled
def snapshot(m: EngineState, column: int) -> int:
    """Write the state, relative to the clocks, into the last row of `saved`; return its length.

    Within a run of tiles, of which `column` is the next, columns are counted from it and the values that they hold are
    left out; -1 elsewhere.
    """
    out, size, tile = m.saved[-1], int64(0), m.rows[at.PROGRESS, at.TILE]
    for unit in range(m.rows[at.SIZE, at.UNITS]):
        out[size] = tile - m.rows[at.EPOCH, unit]
        out[size + 1] = m.rows[at.ITEM, unit]
        if m.rows[at.SIZE, at.IN_FLIGHT]:
            idle = m.rows[at.CLOCK, unit] <= floor(m)
            out[size] = ABSENT if idle else m.rows[at.CLOCK, unit] - origin(m, unit)
        size += 2
    depth = tile - m.rows[at.PROGRESS, at.OLDEST]
    for past in range(1, depth + m.rows[at.SIZE, at.LONGEST_BACK] + 1):
        size = snapshot_tile(m, tile - past, past <= depth, max(column, 0), size)
    for queue in range(m.rows[at.SIZE, at.QUEUES]):
        size = snapshot_queue(m, queue, size)
    for carrier in range(m.rows[at.SIZE, at.CARRIERS]):
        columns = m.columns.shape[2] if m.rows[at.BY_COLUMN, carrier] else 1
        for own in range(0 if column >= 0 and m.rows[at.BY_COLUMN, carrier] else columns):
            size = snapshot_column(m, carrier, own, size)
    return size


@compiled
def snapshot_tile(m: EngineState, tile: int, in_flight: bool, column: int, size: int) -> int:
    out, slot = m.saved[-1], tile & (m.ring.shape[1] - 1)
    for task in range(m.rows[at.SIZE, at.TASKS]):
        out[size] = relative(m, task, m.ring[at.FINISH, slot, task])
        out[size + 1] = relative(m, task, m.ring[at.START, slot, task])
        size += 2
    if in_flight:
        out[size] = m.tiles[at.CLASS, slot]
        out[size + 1] = m.tiles[at.COLUMN, slot] - column if m.rows[at.SIZE, at.COLUMNWISE] else 0
        size += 2
        if m.rows[at.SIZE, at.IN_FLIGHT]:
            out[size] = m.tiles[at.OPENS, slot] - origin(m, int64(0))
            out[size + 1] = m.tiles[at.END, slot] - origin(m, int64(0)) if m.tiles[at.END, slot] else ABSENT
            size += 2
        for carrier in range(m.rows[at.SIZE, at.CARRIERS]):
            size = snapshot_carried(m, slot, carrier, size)
    return size


@compiled
def snapshot_carried(m: EngineState, slot: int, carrier: int, size: int) -> int:
    task, last = m.rows[at.CARRIER_TASK, carrier], m.ring[at.CARRIED_TILE, slot, carrier]
    for which in (at.FINISH, at.START):
        moment = m.ring[at.CARRIED + which, slot, carrier]
        if last >= 0:
            moment = m.ring[which, last & (m.ring.shape[1] - 1), task]
        waits = last >= 0 and moment == PENDING
        m.saved[-1, size] = TO_COME + m.rows[at.PROGRESS, at.TILE] - last if waits else relative(m, task, moment)
        size += 1
    return size


@compiled
def snapshot_queue(m: EngineState, queue: int, size: int) -> int:
    """Write how many slots are free, and since when."""
    first = m.rows[at.TAKEN, queue] - m.rows[at.CAPACITY, queue]
    m.saved[-1, size] = m.rows[at.GIVEN, queue] - first
    size += 1
    for index in range(first, m.rows[at.GIVEN, queue]):
        moment = m.gifts[queue, index % m.gifts.shape[1]] if index >= 0 else ABSENT
        m.saved[-1, size] = relative_gift(m, queue, moment)
        size += 1
    return size


@compiled
def snapshot_column(m: EngineState, carrier: int, column: int, size: int) -> int:
    for which in (at.FINISH, at.START):
        if to_come(m, carrier, column):
            m.saved[-1, size] = TO_COME + m.rows[at.PROGRESS, at.TILE] - m.columns[at.FROM, carrier, column]
        else:
            moment = m.columns[which, carrier, column]
            m.saved[-1, size] = relative(m, m.rows[at.CARRIER_TASK, carrier], moment)
        size += 1
    return size


@compiled
def equal(one: Ints, other: Ints, size: int) -> bool:
    for place in range(size):  # noqa: SIM110 - compiled
        if one[place] != other[place]:
            return False
    return True
