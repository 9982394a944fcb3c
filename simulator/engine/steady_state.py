"""Loops over the stream, and the exact shortcut through them: a state that returns repeats for ever.

Compiled, as `issue`, whose tile by tile semantics it calls. A state is written relative to the clocks of its
units (`snapshot`) and compared at the end of each iteration with one saved earlier (Brent's method). Equal states
add whole periods at once. Units of unequal speed (prefetch without back-pressure) repeat too, if nobody waits for a
faster unit and nobody has waited for a slower one during the period (`lasting`).
"""

# an element of an array is Any:
# mypy: disable-error-code="no-any-return"
from __future__ import annotations

from collections.abc import Callable

from cascadesim.accelerators.compiled import compiled, compiled_entry, version_of
from cascadesim.simulator.engine import issue
from cascadesim.simulator.engine import state as at
from cascadesim.simulator.engine.issue import DEADLOCK, DONE, fill_window, int64, push, slowest, to_come
from cascadesim.simulator.engine.state import ABSENT, PENDING, EngineState, Ints

TO_COME = 2**61  # in a snapshot, added to how many tiles ago the awaited tile entered


@compiled
def latest(m: EngineState) -> int:
    clock = m.rows[at.CLOCK, 0]
    for unit in range(1, m.rows[at.SIZE, at.UNITS]):
        clock = max(clock, m.rows[at.CLOCK, unit])
    return clock


@compiled
def period_cycles(m: EngineState, depth: int) -> int:
    """Count the cycles that were added to the latest clock since the saved iteration."""
    saved = m.loops[depth, at.CLOCKS]
    for unit in range(1, m.rows[at.SIZE, at.UNITS]):
        saved = max(saved, m.loops[depth, at.CLOCKS + unit])
    return latest(m) - saved


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
def snapshot(m: EngineState) -> int:
    """Write the state, relative to the clocks, into the last row of `saved`; return its length."""
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
        size = snapshot_tile(m, tile - past, past <= depth, size)
    for queue in range(m.rows[at.SIZE, at.QUEUES]):
        size = snapshot_queue(m, queue, size)
    for carrier in range(m.rows[at.SIZE, at.CARRIERS]):
        columns = m.columns.shape[2] if m.rows[at.BY_COLUMN, carrier] else 1
        for column in range(columns):
            size = snapshot_column(m, carrier, column, size)
    return size


@compiled
def snapshot_tile(m: EngineState, tile: int, in_flight: bool, size: int) -> int:
    out, slot = m.saved[-1], tile & (m.ring.shape[1] - 1)
    for task in range(m.rows[at.SIZE, at.TASKS]):
        out[size] = relative(m, task, m.ring[at.FINISH, slot, task])
        out[size + 1] = relative(m, task, m.ring[at.START, slot, task])
        size += 2
    if in_flight:
        out[size] = m.tiles[at.CLASS, slot]
        out[size + 1] = m.tiles[at.COLUMN, slot] if m.rows[at.SIZE, at.COLUMNWISE] else 0
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
def detect(m: EngineState, depth: int, times: int) -> None:
    """Skip whole periods if the state of the saved iteration is back; save another one now and then."""
    loop, size = m.loops[depth], snapshot(m)
    loop[at.SINCE] += 1
    if size == loop[at.LENGTH] and equal(m.saved[-1], m.saved[depth], size) and lasting(m, depth):
        skip(m, depth, (times - loop[at.ITERATION]) // loop[at.SINCE])
        loop[at.SETTLED] = 1
    elif loop[at.SINCE] >= loop[at.POWER]:
        loop[at.POWER] *= 2
        loop[at.SINCE] = 0
        loop[at.LENGTH] = size
        loop[at.SAVED_TILE], loop[at.SAVED_ENTERED] = m.rows[at.PROGRESS, at.TILE], m.rows[at.PROGRESS, at.ENTERED]
        loop[at.SAVED_SKIPS] = m.rows[at.PROGRESS, at.SKIPS]
        for place in range(size):
            m.saved[depth, place] = m.saved[-1, place]
        for unit in range(m.rows[at.SIZE, at.UNITS]):
            loop[at.CLOCKS + unit] = m.rows[at.CLOCK, unit]


@compiled
def equal(one: Ints, other: Ints, size: int) -> bool:
    for place in range(size):  # noqa: SIM110 - compiled
        if one[place] != other[place]:
            return False
    return True


@compiled
def lasting(m: EngineState, depth: int) -> bool:
    """Tell whether the clocks may go on at the speed of the last period; set SHIFT, the cycles it added to each."""
    period = period_cycles(m, depth)
    for unit in range(m.rows[at.SIZE, at.UNITS]):
        shift = m.rows[at.CLOCK, unit] - m.loops[depth, at.CLOCKS + unit]
        m.rows[at.SHIFT, unit] = shift
        if m.rows[at.SIZE, at.IN_FLIGHT] and shift not in (0, period):
            return False
    if m.rows[at.SIZE, at.IN_FLIGHT]:
        return True
    for task in range(m.rows[at.SIZE, at.TASKS]):
        for edge in range(m.rows[at.EDGES_OF, task], m.rows[at.EDGES_OF, task + 1]):
            if not edge_lasts(m, depth, edge, m.rows[at.UNIT, task]):
                return False
    for queue in range(m.rows[at.SIZE, at.QUEUES]):
        taker = m.rows[at.SHIFT, m.rows[at.TAKER_UNIT, queue]]
        if m.rows[at.SHIFT, m.rows[at.GIVER_UNIT, queue]] > taker > 0:
            return False
        needed = m.rows[at.NEEDED, m.rows[at.SIZE, at.EDGES] + queue] > m.loops[depth, at.SAVED_TILE]
        if m.rows[at.SHIFT, m.rows[at.GIVER_UNIT, queue]] < taker and needed:
            return False
    return True


@compiled
def edge_lasts(m: EngineState, depth: int, edge: int, reader: int) -> bool:
    since = m.loops[depth, at.SAVED_TILE]
    ahead = m.rows[at.SHIFT, m.rows[at.UNIT, m.rows[at.SOURCE, edge]]] - m.rows[at.SHIFT, reader]
    if ahead > 0:  # unused so far, and not only because what there is to wait for lies in the past
        return m.rows[at.USED, edge] <= since and not has_passed(m, edge, reader)
    return ahead == 0 or m.rows[at.NEEDED, edge] <= since


@compiled
def has_passed(m: EngineState, edge: int, reader: int) -> bool:
    """Tell whether `edge` could see a moment that is over for the reader, while later ones will not be."""
    task, carrier = m.rows[at.SOURCE, edge], m.rows[at.CARRIER, edge]
    limit = m.rows[at.CLOCK, reader] - m.rows[at.LAG, edge]
    depth = m.rows[at.PROGRESS, at.TILE] - m.rows[at.PROGRESS, at.OLDEST] + m.rows[at.SIZE, at.LONGEST_BACK]
    for past in range(1, depth + 1):
        slot = (m.rows[at.PROGRESS, at.TILE] - past) & (m.ring.shape[1] - 1)
        for which in (at.FINISH, at.START):
            if PENDING < m.ring[which, slot, task] <= limit:
                return True
            if carrier >= 0 and PENDING < m.ring[at.CARRIED + which, slot, carrier] <= limit:
                return True
    if carrier >= 0:
        for column in range(m.columns.shape[2]):
            for which in (at.FINISH, at.START):
                if PENDING < m.columns[which, carrier, column] <= limit:
                    return True
    return False


@compiled
def skip(m: EngineState, depth: int, periods: int) -> None:
    """Add whole periods: every moment that can still matter moves by as much as its unit did."""
    loop, period = m.loops[depth], period_cycles(m, depth)
    for task in range(m.rows[at.SIZE, at.TASKS]):
        added = periods * (period if m.rows[at.SIZE, at.IN_FLIGHT] else m.rows[at.SHIFT, m.rows[at.UNIT, task]])
        shift_moments(m, task, m.ring[:at.CARRIED, :, task], added)
        for carrier in range(m.rows[at.CARRIERS_OF, task], m.rows[at.CARRIERS_OF, task + 1]):
            shift_moments(m, task, m.ring[at.CARRIED:at.CARRIED_TILE, :, carrier], added)
            shift_moments(m, task, m.columns[:at.FROM, carrier], added)
    for queue in range(m.rows[at.SIZE, at.QUEUES]):
        added = periods * (period if m.rows[at.SIZE, at.IN_FLIGHT] else m.rows[at.SHIFT, m.rows[at.GIVER_UNIT, queue]])
        shift_gifts(m, queue, added)
    if m.rows[at.SIZE, at.IN_FLIGHT]:
        for slot in range(m.tiles.shape[1]):
            m.tiles[at.OPENS, slot] += periods * period
            m.tiles[at.END, slot] += periods * period
        m.rows[at.PROGRESS, at.GATE] += periods * period
    tiles = m.rows[at.PROGRESS, at.ENTERED] - loop[at.SAVED_ENTERED]
    if m.rows[at.PROGRESS, at.SKIPS] == loop[at.SAVED_SKIPS] and tiles * periods > m.rows[at.STEADY, at.REPEATED_TILES]:
        m.rows[at.STEADY, at.FIRST_TILE] = loop[at.SAVED_ENTERED]
        m.rows[at.STEADY, at.PERIOD_TILES] = tiles
        m.rows[at.STEADY, at.PERIOD_CYCLES] = period
        m.rows[at.STEADY, at.REPEATED_TILES] = tiles * periods
    for unit in range(m.rows[at.SIZE, at.UNITS]):
        m.rows[at.CLOCK, unit] += periods * m.rows[at.SHIFT, unit]
    m.rows[at.PROGRESS, at.ENTERED] += periods * tiles
    m.rows[at.PROGRESS, at.SKIPS] += periods > 0
    loop[at.ITERATION] += periods * loop[at.SINCE]


@compiled
def shift_moments(m: EngineState, task: int, moments: Ints, added: int) -> None:
    for which in range(moments.shape[0]):
        for place in range(moments.shape[1]):
            moment = relative(m, task, moments[which, place])
            moments[which, place] = moment if moment <= PENDING else moments[which, place] + added


@compiled
def shift_gifts(m: EngineState, queue: int, added: int) -> None:
    for place in range(m.gifts.shape[1]):
        moment = relative_gift(m, queue, m.gifts[queue, place])
        m.gifts[queue, place] = ABSENT if moment == ABSENT else m.gifts[queue, place] + added


@compiled
def run_tiles(m: EngineState, position: int) -> int:
    place = m.code[position, 2]
    for step in range(m.code[position, 3]):
        m.rows[at.PROGRESS, at.ENTERED] += 1
        status = push(m, m.code[position, 1], place // 2 + step, place % 2 == 1)
        if status != DONE:
            return status
        if 0 < m.log.shape[1] <= m.rows[at.PROGRESS, at.OLDEST]:
            break
    return DONE


@compiled
def repeat(m: EngineState, depth: int, times: int) -> bool:
    """Tell at the end of a loop's body whether it runs again."""
    loop = m.loops[depth]
    loop[at.ITERATION] += 1
    again = loop[at.ITERATION] < times
    if again and times >= at.SHORTEST_LOOP and m.rows[at.SIZE, at.EXTRAPOLATE] and not loop[at.SETTLED]:
        detect(m, depth, times)
    return bool(loop[at.ITERATION] < times)


@compiled
def drain(m: EngineState) -> int:
    """Finish whatever is still under way after the stream."""
    if m.rows[at.SIZE, at.IN_FLIGHT]:
        return fill_window(m, m.rows[at.PROGRESS, at.TILE] - 1)
    for _ in range(m.rows[at.SIZE, at.LAST_STAGE]):
        status = push(m, m.rows[at.SIZE, at.CLASSES], int64(0), int64(0) != 0)
        if status != DONE:
            return status
    return DONE if slowest(m) >= m.rows[at.PROGRESS, at.TILE] else DEADLOCK


def _entry_point(version: int) -> Callable[[EngineState], int]:
    """Numba keys its cache with what a function closes over: `version` rebuilds it when any of the files changes."""

    def simulate(m: EngineState) -> int:
        position, depth = 0 * version, int64(-1)
        while position < len(m.code):
            if 0 < m.log.shape[1] <= m.rows[at.PROGRESS, at.OLDEST]:
                return DONE
            if m.code[position, 0] == at.RUN:
                status = run_tiles(m, position)
                if status != DONE:
                    return status
            elif m.code[position, 0] == at.BEGIN:
                depth += 1
                m.loops[depth, : at.CLOCKS] = 0
                m.loops[depth, at.POWER] = 1
            elif repeat(m, depth, m.code[position, 1]):
                position = m.code[position, 2] - 1
            else:
                depth -= 1
            position += 1
        return drain(m)

    return compiled_entry("the simulation engine", about_s=10)(simulate)


simulate = _entry_point(version_of(__file__, issue, at))
