"""Loops over the stream, and the exact shortcut through them: a state that returns repeats for ever.

Compiled, as `stepping`, whose tile by tile semantics it calls. A state is written relative to the clocks of its
units (`snapshot`) and compared at the end of each iteration with one saved earlier (Brent's method). Equal states
add whole periods at once. Units of unequal speed (prefetch without back-pressure) repeat too, if nobody waits for a
faster unit and nobody has waited for a slower one during the period (`lasting`).
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import numba

from cascadesim.simulator import stepping
from cascadesim.simulator.stepping import (
    DEADLOCK,
    DONE,
    ENTERED,
    FINISH,
    GATE,
    OLDEST,
    SKIPS,
    START,
    TILE,
    compiled,
    fill_window,
    push,
    to_come,
)
from cascadesim.simulator.stream import ABSENT, BEGIN, PENDING, RUN, SHORTEST_LOOP, Ints, State, Tables

ITERATION, SAVED_TILE, SAVED_ENTERED, POWER, SINCE, LENGTH, SAVED_SKIPS, SETTLED = 0, 1, 2, 3, 4, 5, 6, 7  # of loop
TO_COME = 2**61  # in a snapshot, added to how many tiles ago the awaited tile entered


@compiled
def floor(tables: Tables, state: State) -> int:
    """No task still to run starts before this cycle."""
    return state.gate[state.progress[OLDEST] & (len(state.gate) - 1)] if tables.in_flight else 0


@compiled
def origin(tables: Tables, state: State, unit: int) -> int:
    """Where the time of a unit is counted from; greedy order compares the times of all units with each other."""
    return state.clock.max() if tables.in_flight else state.clock[unit]


@compiled
def relative(tables: Tables, state: State, task: int, moment: int) -> int:
    """A start or finish of `task` as its readers see it: ABSENT once none of them can be held up by it."""
    if moment <= PENDING:
        return moment
    lowest = floor(tables, state)
    for place in range(tables.readers_of[task], tables.readers_of[task + 1]):
        reader = max(state.clock[tables.reader_unit[place]], lowest)
        if moment + tables.reader_lag[place] > reader:
            return moment - origin(tables, state, tables.unit[task])
    return ABSENT


@compiled
def relative_gift(tables: Tables, state: State, queue: int, moment: int) -> int:
    if moment <= max(state.clock[tables.taker_unit[queue]], floor(tables, state)):
        return ABSENT
    return moment - origin(tables, state, tables.giver_unit[queue])


@compiled
def snapshot(tables: Tables, state: State) -> int:
    """Write the state, relative to the clocks, into `scratch`; return its length."""
    out, size, tile = state.scratch, 0, state.progress[TILE]
    for unit in range(len(state.clock)):
        out[size] = tile - state.epoch[unit]
        out[size + 1] = state.item[unit]
        if tables.in_flight:
            idle = state.clock[unit] <= floor(tables, state)
            out[size] = ABSENT if idle else state.clock[unit] - origin(tables, state, unit)
        size += 2
    depth = tile - state.progress[OLDEST]
    for past in range(1, depth + tables.longest_back + 1):
        size = snapshot_tile(tables, state, tile - past, past <= depth, size)
    for queue in range(len(state.taken)):
        size = snapshot_queue(tables, state, queue, size)
    for carrier in range(len(tables.carrier_task)):
        columns = state.column.shape[2] if tables.by_column[carrier] else 1
        for column in range(columns):
            size = snapshot_column(tables, state, carrier, column, size)
    return size


@compiled
def snapshot_tile(tables: Tables, state: State, tile: int, in_flight: bool, size: int) -> int:
    out, slot = state.scratch, tile & (len(state.gate) - 1)
    for task in range(len(tables.unit)):
        out[size] = relative(tables, state, task, state.time[FINISH, slot, task])
        out[size + 1] = relative(tables, state, task, state.time[START, slot, task])
        size += 2
    if in_flight:
        out[size] = state.tile_class[slot]
        out[size + 1] = state.tile_column[slot] if tables.by_column.any() else 0
        size += 2
        if tables.in_flight:
            out[size] = state.gate[slot] - origin(tables, state, 0)
            out[size + 1] = state.end[slot] - origin(tables, state, 0) if state.end[slot] else ABSENT
            size += 2
        for carrier in range(len(tables.carrier_task)):
            size = snapshot_carried(tables, state, slot, carrier, size)
    return size


@compiled
def snapshot_carried(tables: Tables, state: State, slot: int, carrier: int, size: int) -> int:
    task, last = tables.carrier_task[carrier], state.carried_tile[slot, carrier]
    for which in (FINISH, START):
        moment = state.carried[which, slot, carrier]
        if last >= 0:
            moment = state.time[which, last & (len(state.gate) - 1), task]
        waits = last >= 0 and moment == PENDING
        state.scratch[size] = TO_COME + state.progress[TILE] - last if waits else relative(tables, state, task, moment)
        size += 1
    return size


@compiled
def snapshot_queue(tables: Tables, state: State, queue: int, size: int) -> int:
    """How many slots are free, and since when."""
    first = state.taken[queue] - tables.capacity[queue]
    state.scratch[size] = state.given[queue] - first
    size += 1
    for index in range(first, state.given[queue]):
        moment = state.give_time[queue, index % state.give_time.shape[1]] if index >= 0 else ABSENT
        state.scratch[size] = relative_gift(tables, state, queue, moment)
        size += 1
    return size


@compiled
def snapshot_column(tables: Tables, state: State, carrier: int, column: int, size: int) -> int:
    for which in (FINISH, START):
        if to_come(tables, state, carrier, column):
            state.scratch[size] = TO_COME + state.progress[TILE] - state.column_tile[carrier, column]
        else:
            moment = state.column[which, carrier, column]
            state.scratch[size] = relative(tables, state, tables.carrier_task[carrier], moment)
        size += 1
    return size


@compiled
def detect(tables: Tables, state: State, depth: int, times: int) -> None:
    """Skip whole periods if the state of the saved iteration is back; save another one now and then."""
    loop, size = state.loop[depth], snapshot(tables, state)
    loop[SINCE] += 1
    if size == loop[LENGTH] and equal(state.scratch, state.saved[depth], size) and lasting(tables, state, depth):
        skip(tables, state, depth, (times - loop[ITERATION]) // loop[SINCE])
        loop[SETTLED] = 1
    elif loop[SINCE] >= loop[POWER]:
        loop[POWER] *= 2
        loop[SINCE] = 0
        loop[LENGTH] = size
        loop[SAVED_TILE], loop[SAVED_ENTERED] = state.progress[TILE], state.progress[ENTERED]
        loop[SAVED_SKIPS] = state.progress[SKIPS]
        state.saved[depth, :size] = state.scratch[:size]
        state.loop_clock[depth] = state.clock


@compiled
def equal(one: Ints, other: Ints, size: int) -> bool:
    for place in range(size):  # noqa: SIM110 - compiled
        if one[place] != other[place]:
            return False
    return True


@compiled
def lasting(tables: Tables, state: State, depth: int) -> bool:
    """Whether the clocks may go on at the speed of the last period: sets `shift`, the cycles it added to each."""
    state.shift[:] = state.clock - state.loop_clock[depth]
    if tables.in_flight:
        added = state.clock.max() - state.loop_clock[depth].max()
        return bool(((state.shift == 0) | (state.shift == added)).all())
    for task in range(len(tables.unit)):
        for edge in range(tables.edges_of[task], tables.edges_of[task + 1]):
            if not edge_lasts(tables, state, depth, edge, tables.unit[task]):
                return False
    for queue in range(len(state.taken)):
        taker = state.shift[tables.taker_unit[queue]]
        if state.shift[tables.giver_unit[queue]] > taker > 0:
            return False
        needed = state.needed[len(tables.source) + queue] > state.loop[depth, SAVED_TILE]
        if state.shift[tables.giver_unit[queue]] < taker and needed:
            return False
    return True


@compiled
def edge_lasts(tables: Tables, state: State, depth: int, edge: int, reader: int) -> bool:
    since = state.loop[depth, SAVED_TILE]
    ahead = state.shift[tables.unit[tables.source[edge]]] - state.shift[reader]
    if ahead > 0:  # unused so far, and not only because what there is to wait for lies in the past
        return state.used[edge] <= since and not has_passed(tables, state, edge, reader)
    return ahead == 0 or state.needed[edge] <= since


@compiled
def has_passed(tables: Tables, state: State, edge: int, reader: int) -> bool:
    """Whether `edge` could see a moment that is over for the reader, while later ones will not be."""
    task, carrier, limit = tables.source[edge], tables.carrier[edge], state.clock[reader] - tables.lag[edge]
    depth = state.progress[TILE] - state.progress[OLDEST] + tables.longest_back
    for past in range(1, depth + 1):
        slot = (state.progress[TILE] - past) & (len(state.gate) - 1)
        for which in (FINISH, START):
            if PENDING < state.time[which, slot, task] <= limit:
                return True
            if carrier >= 0 and PENDING < state.carried[which, slot, carrier] <= limit:
                return True
    if carrier >= 0:
        for column in range(state.column.shape[2]):
            for which in (FINISH, START):
                if PENDING < state.column[which, carrier, column] <= limit:
                    return True
    return False


@compiled
def skip(tables: Tables, state: State, depth: int, periods: int) -> None:
    """Add whole periods: every moment that can still matter moves by as much as its unit did."""
    loop, period = state.loop[depth], state.clock.max() - state.loop_clock[depth].max()
    for task in range(len(tables.unit)):
        added = periods * (period if tables.in_flight else state.shift[tables.unit[task]])
        shift_moments(tables, state, task, state.time[:, :, task], added)
        for carrier in range(tables.carriers_of[task], tables.carriers_of[task + 1]):
            shift_moments(tables, state, task, state.carried[:, :, carrier], added)
            shift_moments(tables, state, task, state.column[:, carrier], added)
    for queue in range(len(state.taken)):
        added = periods * (period if tables.in_flight else state.shift[tables.giver_unit[queue]])
        shift_gifts(tables, state, queue, added)
    if tables.in_flight:
        state.gate[:] += periods * period
        state.end[:] += periods * period
        state.progress[GATE] += periods * period
    tiles = state.progress[ENTERED] - loop[SAVED_ENTERED]
    if state.progress[SKIPS] == loop[SAVED_SKIPS] and tiles * periods > state.steady[3]:
        state.steady[0], state.steady[1], state.steady[2] = loop[SAVED_ENTERED], tiles, period
        state.steady[3] = tiles * periods
    state.clock[:] += periods * state.shift
    state.progress[ENTERED] += periods * tiles
    state.progress[SKIPS] += periods > 0
    loop[ITERATION] += periods * loop[SINCE]


@compiled
def shift_moments(tables: Tables, state: State, task: int, moments: Ints, added: int) -> None:
    for which in range(moments.shape[0]):
        for place in range(moments.shape[1]):
            moment = relative(tables, state, task, moments[which, place])
            moments[which, place] = moment if moment <= PENDING else moments[which, place] + added


@compiled
def shift_gifts(tables: Tables, state: State, queue: int, added: int) -> None:
    for place in range(state.give_time.shape[1]):
        moment = relative_gift(tables, state, queue, state.give_time[queue, place])
        state.give_time[queue, place] = ABSENT if moment == ABSENT else state.give_time[queue, place] + added


@compiled
def run_tiles(tables: Tables, state: State, position: int) -> int:
    place = tables.code[position, 2]
    for step in range(tables.code[position, 3]):
        state.progress[ENTERED] += 1
        status = push(tables, state, tables.code[position, 1], place // 2 + step, place % 2 == 1)
        if status != DONE:
            return status
        if 0 < state.log.shape[1] <= state.progress[OLDEST]:
            break
    return DONE


@compiled
def repeat(tables: Tables, state: State, depth: int, times: int) -> bool:
    """At the end of a loop's body: whether it runs again."""
    loop = state.loop[depth]
    loop[ITERATION] += 1
    if tables.extrapolate and times >= SHORTEST_LOOP and not loop[SETTLED] and loop[ITERATION] < times:
        detect(tables, state, depth, times)
    return bool(loop[ITERATION] < times)


@compiled
def drain(tables: Tables, state: State) -> int:
    """After the stream: whatever is still under way."""
    if tables.in_flight:
        return fill_window(tables, state, state.progress[TILE] - 1)
    for _ in range(tables.last_stage):
        status = push(tables, state, len(tables.cycles) - 1, 0, False)
        if status != DONE:
            return status
    return DONE if state.epoch.min() >= state.progress[TILE] else DEADLOCK


def _entry_point(version: str) -> Callable[[Tables, State], int]:
    """Numba keys its cache with what a function closes over: `version` rebuilds it when either file changes."""

    def simulate(tables: Tables, state: State) -> int:
        position, depth = 0 * len(version), -1
        while position < len(tables.code):
            if 0 < state.log.shape[1] <= state.progress[OLDEST]:
                return DONE
            if tables.code[position, 0] == RUN:
                status = run_tiles(tables, state, position)
                if status != DONE:
                    return status
            elif tables.code[position, 0] == BEGIN:
                depth += 1
                state.loop[depth] = 0
                state.loop[depth, POWER] = 1
            elif repeat(tables, state, depth, tables.code[position, 1]):
                position = tables.code[position, 2] - 1
            else:
                depth -= 1
            position += 1
        return drain(tables, state)

    result: Callable[[Tables, State], int] = numba.njit(cache=True, error_model="numpy")(simulate)
    return result


def _sources() -> str:
    return "".join(sha256(Path(file).read_bytes()).hexdigest() for file in (__file__, stepping.__file__))


simulate = _entry_point(_sources())
