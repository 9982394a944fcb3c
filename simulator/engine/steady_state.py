"""Loops over the stream, and the exact shortcut through them: a state that returns repeats for ever.

Compiled, as `issue`, whose tile by tile semantics it calls. A state is written relative to the clocks of its
units (`snapshot`) and compared at the end of each iteration with one saved earlier (Brent's method). Equal states
add whole periods at once; so do equal states within a run of neighbouring tiles, once what their columns hold is
over. Units of unequal speed (prefetch without back-pressure) repeat too, if nobody waits for a faster unit and nobody
has waited for a slower one during the period (`lasting`).
"""

# an element of an array is Any:
# mypy: disable-error-code="no-any-return"
from __future__ import annotations

from collections.abc import Callable

from cascadesim.accelerators.compiled import compiled, compiled_entry, version_of
from cascadesim.simulator.engine import issue
from cascadesim.simulator.engine import state as at
from cascadesim.simulator.engine.issue import DEADLOCK, DONE, fill_window, push, slowest
from cascadesim.simulator.engine.state import (
    ABSENT,
    PENDING,
    EngineState,
    Ints,
    int64,
    latest,
    relative,
    relative_gift,
    snapshot,
    to_come,
)


@compiled
def period_cycles(m: EngineState, depth: int) -> int:
    """Count the cycles that were added to the latest clock since the saved iteration."""
    saved = m.loops[depth, at.CLOCKS]
    for unit in range(1, m.rows[at.SIZE, at.UNITS]):
        saved = max(saved, m.loops[depth, at.CLOCKS + unit])
    return latest(m) - saved


@compiled
def detect(m: EngineState, depth: int, column: int, left: int) -> int:
    """Skip whole periods of `left` iterations if the state of the saved iteration is back; return how many iterations.

    Else save another state now and then. `column`: as `snapshot` has it.
    """
    loop, size, skipped = m.loops[depth], snapshot(m, column), int64(0)
    loop[at.SINCE] += 1
    if size == loop[at.LENGTH] and equal(m.saved[-1], m.saved[depth], size) and lasting(m, depth):
        skipped = left // loop[at.SINCE] * loop[at.SINCE]
        if column >= 0:
            hand_on(m, column, loop[at.SINCE], skipped, period_cycles(m, depth))
        skip(m, depth, left // loop[at.SINCE], column >= 0)
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
    return skipped


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
def skip(m: EngineState, depth: int, periods: int, within_run: bool) -> None:
    """Add whole periods: every moment that can still matter moves by as much as its unit did.

    Within a run of tiles columns keep theirs: it comes to other ones (`hand_on`).
    """
    loop, period = m.loops[depth], period_cycles(m, depth)
    for task in range(m.rows[at.SIZE, at.TASKS]):
        added = periods * (period if m.rows[at.SIZE, at.IN_FLIGHT] else m.rows[at.SHIFT, m.rows[at.UNIT, task]])
        shift_moments(m, task, m.ring[:at.CARRIED, :, task], added)
        for carrier in range(m.rows[at.CARRIERS_OF, task], m.rows[at.CARRIERS_OF, task + 1]):
            shift_moments(m, task, m.ring[at.CARRIED:at.CARRIED_TILE, :, carrier], added)
            if not (within_run and m.rows[at.BY_COLUMN, carrier]):
                shift_moments(m, task, m.columns[:at.FROM, carrier], added)
    for queue in range(m.rows[at.SIZE, at.QUEUES]):
        added = periods * (period if m.rows[at.SIZE, at.IN_FLIGHT] else m.rows[at.SHIFT, m.rows[at.GIVER_UNIT, queue]])
        shift_gifts(m, queue, added)
    if m.rows[at.SIZE, at.IN_FLIGHT]:
        for slot in range(m.tiles.shape[1]):
            m.tiles[at.OPENS, slot] += periods * period
            m.tiles[at.NEARS, slot] += periods * period
            m.tiles[at.END, slot] += periods * period * (m.tiles[at.END, slot] > 0)  # 0: no task of it ran
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


@compiled
def hand_on(m: EngineState, column: int, tiles: int, skipped: int, cycles: int) -> None:
    """Give columns the values that the skipped tiles of a run bring: those `tiles` columns before, `cycles` later.

    So do those that are under way; what is left of these are the last ones of the skipped tiles.
    """
    under_way = m.rows[at.PROGRESS, at.TILE] - m.rows[at.PROGRESS, at.OLDEST]
    for carrier in range(m.rows[at.SIZE, at.CARRIERS]):
        task, newest = m.rows[at.CARRIER_TASK, carrier], (m.rows[at.PROGRESS, at.TILE] - 1) & (m.ring.shape[1] - 1)
        if m.rows[at.BY_COLUMN, carrier] and m.ring[at.FINISH, newest, task] != ABSENT:
            for own in range(column - under_way, column + skipped):
                if own >= column or to_come(m, carrier, own):
                    for which in (at.FINISH, at.START):
                        m.columns[which, carrier, own] = m.columns[which, carrier, own - tiles] + cycles
                m.columns[at.FROM, carrier, own] = -1
            for past in range(1, under_way + 1):
                tile = m.rows[at.PROGRESS, at.TILE] - past
                if m.ring[at.FINISH, tile & (m.ring.shape[1] - 1), task] == PENDING:
                    m.columns[at.FROM, carrier, column + skipped - past] = tile
    for past in range(1, under_way + 1):
        m.tiles[at.COLUMN, (m.rows[at.PROGRESS, at.TILE] - past) & (m.ring.shape[1] - 1)] += skipped


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
    first, fresh, tiles = m.code[position, 2] // 2, m.code[position, 2] % 2 == 1, m.code[position, 3]
    within = m.loops.shape[0] - 1
    m.loops[within, : at.CLOCKS] = 0
    m.loops[within, at.POWER], m.loops[within, at.SETTLED] = 1, not is_long(m, tiles)
    m.loops[within, at.ITERATION] = tiles if fresh else 0
    if fresh and not m.loops[within, at.SETTLED]:
        start_columns(m, first, tiles)
    step = int64(0)
    while step < tiles:
        m.rows[at.PROGRESS, at.ENTERED] += 1
        status = push(m, m.code[position, 1], first + step, fresh)
        if status != DONE:
            return status
        if 0 < m.log.shape[1] <= m.rows[at.PROGRESS, at.OLDEST]:
            break
        step += 1
        if not m.loops[within, at.SETTLED] and is_alone(m, within, first, step, tiles):
            step += detect(m, within, first + step, tiles - step)
    return DONE


@compiled
def start_columns(m: EngineState, first: int, tiles: int) -> None:
    """Columns that start anew hold nothing, those of tiles that will be skipped, too: a tile without the task that
    carries a value leaves nothing either."""
    for carrier in range(m.rows[at.SIZE, at.CARRIERS]):
        if m.rows[at.BY_COLUMN, carrier]:
            m.columns[at.FROM, carrier, first : first + tiles] = -1
            m.columns[at.FINISH, carrier, first : first + tiles] = ABSENT
            m.columns[at.START, carrier, first : first + tiles] = ABSENT


@compiled
def is_long(m: EngineState, tiles: int) -> bool:
    """Tell whether it may pay to look for a period among so many neighbours, whose values come from other columns."""
    return bool(m.rows[at.SIZE, at.EXTRAPOLATE] and m.rows[at.SIZE, at.IN_FLIGHT] and m.rows[at.SIZE, at.COLUMNWISE]
                and tiles >= at.LONGEST_UNWATCHED)  # fmt: skip


@compiled
def is_alone(m: EngineState, within: int, first: int, step: int, tiles: int) -> bool:
    """Tell whether no tile of a run that is still to enter can be held up by what its column holds.

    Clocks never go back, so a value that is over stays so: `ITERATION` counts the columns that are. What tiles under
    way wait for is part of the state.
    """
    loop = m.loops[within]
    loop[at.ITERATION] = max(loop[at.ITERATION], step)
    while loop[at.ITERATION] < tiles and is_over(m, first + loop[at.ITERATION]):
        loop[at.ITERATION] += 1
    return loop[at.ITERATION] >= tiles


@compiled
def is_over(m: EngineState, column: int) -> bool:
    for carrier in range(m.rows[at.SIZE, at.CARRIERS]):
        if m.rows[at.BY_COLUMN, carrier]:
            if to_come(m, carrier, column):
                return False
            for which in (at.FINISH, at.START):
                moment = m.columns[which, carrier, column]
                if relative(m, m.rows[at.CARRIER_TASK, carrier], moment) != ABSENT:
                    return False
    return True


@compiled
def repeat(m: EngineState, depth: int, times: int) -> bool:
    """Tell at the end of a loop's body whether it runs again."""
    loop = m.loops[depth]
    loop[at.ITERATION] += 1
    again = loop[at.ITERATION] < times
    if again and times >= at.SHORTEST_LOOP and m.rows[at.SIZE, at.EXTRAPOLATE] and not loop[at.SETTLED]:
        loop[at.ITERATION] += detect(m, depth, int64(-1), times - loop[at.ITERATION])
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
