"""The only loop over time, tile by tile: a tile enters, and each unit issues its tasks as far as it can.

Compiled by Numba. Units go on independently of each other, each in its own static order (or greedily, in a window of
tiles), and learn the moments they wait for; no cycle is ever counted one by one. Knows nothing of names, nor of the
stream (`steady_state`).
"""

# an element of an array is Any:
# mypy: disable-error-code="no-any-return"
from __future__ import annotations

from cascadesim.accelerators.compiled import compiled
from cascadesim.simulator.engine import state as at
from cascadesim.simulator.engine.state import ABSENT, PENDING, EngineState, int64, to_come

DONE, RING_FULL, DEADLOCK, GIVEN_UNTAKEN = range(4)
NEVER = 2**61


@compiled
def source_time(m: EngineState, edge: int, tile: int, which: int) -> int:
    mask = m.ring.shape[1] - 1
    carrier = m.rows[at.CARRIER, edge]
    if carrier < 0:
        return m.ring[which, (tile - m.rows[at.BACK, edge]) & mask, m.rows[at.SOURCE, edge]]
    last = m.ring[at.CARRIED_TILE, tile & mask, carrier]
    if last < 0:
        return m.ring[at.CARRIED + which, tile & mask, carrier]
    return m.ring[which, last & mask, m.rows[at.SOURCE, edge]]


@compiled
def earliest(m: EngineState, task: int, tile: int, bound: int) -> int:
    """Find the cycle, not before `bound`, in which the task may start; take its slots. PENDING if that is not known."""
    now = m.rows[at.PROGRESS, at.TILE]
    for edge in range(m.rows[at.EDGES_OF, task], m.rows[at.EDGES_OF, task + 1]):
        moment = source_time(m, edge, tile, m.rows[at.STREAMS, edge])
        if moment == PENDING:
            m.rows[at.BLOCKED, m.rows[at.UNIT, task]] = edge
            return PENDING
        if moment != ABSENT:
            m.rows[at.USED, edge] = now
            if moment + m.rows[at.LAG, edge] > bound:
                bound = moment + m.rows[at.LAG, edge]
                m.rows[at.NEEDED, edge] = now
    for place in range(m.rows[at.TAKES_OF, task], m.rows[at.TAKES_OF, task + 1]):
        moment = take_slot(m, m.rows[at.TAKE, place], bound)
        if moment == PENDING:
            m.rows[at.BLOCKED, m.rows[at.UNIT, task]] = m.rows[at.SIZE, at.EDGES] + m.rows[at.TAKE, place]
            return_slots(m, m.rows[at.TAKES_OF, task], place)
            return PENDING
        bound = moment
    return bound


@compiled
def take_slot(m: EngineState, queue: int, bound: int) -> int:
    index = m.rows[at.TAKEN, queue] - m.rows[at.CAPACITY, queue]
    if index >= m.rows[at.GIVEN, queue]:
        return PENDING
    m.rows[at.TAKEN, queue] += 1
    if index < 0:
        return bound
    edge = m.rows[at.SIZE, at.EDGES] + queue
    m.rows[at.USED, edge] = m.rows[at.PROGRESS, at.TILE]
    moment = m.gifts[queue, index % m.gifts.shape[1]]
    if moment > bound:
        m.rows[at.NEEDED, edge] = m.rows[at.PROGRESS, at.TILE]
        return moment
    return bound


@compiled
def return_slots(m: EngineState, first: int, last: int) -> None:
    for place in range(first, last):
        m.rows[at.TAKEN, m.rows[at.TAKE, place]] -= 1


@compiled
def streamed_finish(m: EngineState, task: int, tile: int, finish: int) -> int:
    for edge in range(m.rows[at.EDGES_OF, task], m.rows[at.EDGES_OF, task + 1]):
        if m.rows[at.STREAMS, edge]:
            moment = source_time(m, edge, tile, at.FINISH)
            if moment != ABSENT and moment + m.rows[at.LAG, edge] > finish:
                finish = moment + m.rows[at.LAG, edge]
                m.rows[at.NEEDED, edge] = m.rows[at.PROGRESS, at.TILE]
    return finish


@compiled
def cycles_of(m: EngineState, task: int, tile: int) -> int:
    return m.classes[at.CYCLES, m.tiles[at.CLASS, tile & (m.ring.shape[1] - 1)], task]


@compiled
def complete(m: EngineState, task: int, tile: int, start: int, finish: int) -> None:
    """The task of the tile ran from start to finish: everyone who waits for it learns so."""
    slot = tile & (m.ring.shape[1] - 1)
    m.ring[at.START, slot, task] = start
    m.ring[at.FINISH, slot, task] = finish
    for carrier in range(m.rows[at.CARRIERS_OF, task], m.rows[at.CARRIERS_OF, task + 1]):
        column = m.tiles[at.COLUMN, slot] * m.rows[at.BY_COLUMN, carrier]
        if m.columns[at.FROM, carrier, column] == tile:
            m.columns[at.START, carrier, column] = start
            m.columns[at.FINISH, carrier, column] = finish
    for place in range(m.rows[at.GIVES_OF, task], m.rows[at.GIVES_OF, task + 1]):
        queue = m.rows[at.GIVE, place]
        if not m.classes[at.KEEPS, m.tiles[at.CLASS, slot], queue]:
            give_slot(m, queue, finish)
    if tile < m.log.shape[1]:
        m.log[0, tile, task] = start
        m.log[1, tile, task] = finish
    unit = m.rows[at.UNIT, task]
    if m.rows[at.FIRST_START, unit] < 0:
        m.rows[at.FIRST_START, unit] = start


@compiled
def give_slot(m: EngineState, queue: int, finish: int) -> None:
    length = m.gifts.shape[1]
    if m.rows[at.GIVEN, queue] - (m.rows[at.TAKEN, queue] - m.rows[at.CAPACITY, queue]) >= length:
        m.rows[at.PROGRESS, at.FAULT] = GIVEN_UNTAKEN
    m.gifts[queue, m.rows[at.GIVEN, queue] % length] = finish
    m.rows[at.GIVEN, queue] += 1


@compiled
def issue(m: EngineState, unit: int, item: int, epoch: int) -> bool:
    """The members of an item start together, once each of them may; False if one of them must wait for news."""
    start = m.rows[at.CLOCK, unit]
    slots = 0
    first, last = m.rows[at.MEMBERS_OF, item], m.rows[at.MEMBERS_OF, item + 1]
    for place in range(first, last):
        task = m.rows[at.MEMBER, place]
        tile = epoch - m.rows[at.STAGE, task]
        cycles = cycles_of(m, task, tile)
        if cycles:
            bound = earliest(m, task, tile, start)
            if bound == PENDING:
                return_members(m, first, place, epoch)
                return False
            start = bound
            slots += cycles
    if slots:
        occupy(m, item, epoch, start)
    return True


@compiled
def return_members(m: EngineState, first: int, last: int, epoch: int) -> None:
    for place in range(first, last):
        task = m.rows[at.MEMBER, place]
        if cycles_of(m, task, epoch - m.rows[at.STAGE, task]):
            return_slots(m, m.rows[at.TAKES_OF, task], m.rows[at.TAKES_OF, task + 1])


@compiled
def occupy(m: EngineState, item: int, epoch: int, start: int) -> None:
    """Slots go round the members cycle by cycle; each finishes at its own last slot."""
    free, before = start, 0
    for place in range(m.rows[at.MEMBERS_OF, item], m.rows[at.MEMBERS_OF, item + 1]):
        task = m.rows[at.MEMBER, place]
        tile = epoch - m.rows[at.STAGE, task]
        if cycles_of(m, task, tile):
            own = start + last_slot(m, item, place, epoch)
            finish = streamed_finish(m, task, tile, own)
            complete(m, task, tile, start + before, finish)
            free = max(free, finish)
            before += 1
    m.rows[at.CLOCK, m.rows[at.UNIT, m.rows[at.MEMBER, m.rows[at.MEMBERS_OF, item]]]] = free


@compiled
def last_slot(m: EngineState, item: int, own: int, epoch: int) -> int:
    """Count the slots until the member at `own` has had all of its own: earlier members go first in each round."""
    task = m.rows[at.MEMBER, own]
    cycles = cycles_of(m, task, epoch - m.rows[at.STAGE, task])
    slots = cycles
    for place in range(m.rows[at.MEMBERS_OF, item], m.rows[at.MEMBERS_OF, item + 1]):
        if place != own:
            other = m.rows[at.MEMBER, place]
            others = cycles_of(m, other, epoch - m.rows[at.STAGE, other])
            slots += min(others, cycles if place < own else cycles - 1)
    return slots


@compiled
def advance(m: EngineState, unit: int, target: int) -> bool:
    """The unit goes on, in its own order, up to the end of epoch `target`; True if it issued anything."""
    moved = False
    while m.rows[at.EPOCH, unit] <= target:
        while m.rows[at.ITEM, unit] < m.rows[at.ITEMS_OF, unit + 1]:
            if not issue(m, unit, m.rows[at.ITEM, unit], m.rows[at.EPOCH, unit]):
                return moved
            m.rows[at.ITEM, unit] += 1
            moved = True
        m.rows[at.ITEM, unit] = m.rows[at.ITEMS_OF, unit]
        m.rows[at.EPOCH, unit] += 1
    return moved


@compiled
def advance_all(m: EngineState, target: int) -> None:
    moved, waiting = True, True
    while moved and waiting:
        moved, waiting = False, False
        for unit in range(m.rows[at.SIZE, at.UNITS]):
            if m.rows[at.EPOCH, unit] <= target:
                moved |= advance(m, unit, target)
                waiting |= m.rows[at.EPOCH, unit] <= target


@compiled
def enter(m: EngineState, tile: int, tile_class: int, column: int, fresh: bool) -> None:
    slot = tile & (m.ring.shape[1] - 1)
    m.tiles[at.CLASS, slot] = tile_class
    m.tiles[at.COLUMN, slot] = column
    m.tiles[at.LEFT, slot] = m.tiles[at.END, slot] = 0
    m.tiles[at.OPENS, slot] = m.tiles[at.NEARS, slot] = m.rows[at.PROGRESS, at.GATE]
    for task in range(m.rows[at.SIZE, at.TASKS]):
        present = m.classes[at.CYCLES, tile_class, task] > 0
        m.tiles[at.LEFT, slot] += present
        m.ring[at.FINISH, slot, task] = m.ring[at.START, slot, task] = PENDING if present else ABSENT
    for carrier in range(m.rows[at.SIZE, at.CARRIERS]):
        present = m.classes[at.CYCLES, tile_class, m.rows[at.CARRIER_TASK, carrier]] > 0
        if m.rows[at.BY_COLUMN, carrier]:
            if fresh:
                m.columns[at.FROM, carrier, column] = -1
                m.columns[at.FINISH, carrier, column] = m.columns[at.START, carrier, column] = ABSENT
            carry(m, slot, carrier, column)
            if present:
                m.columns[at.FROM, carrier, column] = tile
        else:
            if present:
                m.columns[at.FROM, carrier, 0] = tile
            carry(m, slot, carrier, column * 0)


@compiled
def carry(m: EngineState, slot: int, carrier: int, column: int) -> None:
    """Note what the tile in `slot` will wait for: a moment already known, or the tile that will bring it."""
    if to_come(m, carrier, column):
        m.ring[at.CARRIED_TILE, slot, carrier] = m.columns[at.FROM, carrier, column]
    else:
        m.ring[at.CARRIED_TILE, slot, carrier] = -1
        m.ring[at.CARRIED, slot, carrier] = m.columns[at.FINISH, carrier, column]
        m.ring[at.CARRIED + at.START, slot, carrier] = m.columns[at.START, carrier, column]


@compiled
def slowest(m: EngineState) -> int:
    """Find the first epoch that some unit has not finished yet."""
    epoch = m.rows[at.EPOCH, 0]
    for unit in range(1, m.rows[at.SIZE, at.UNITS]):
        epoch = min(epoch, m.rows[at.EPOCH, unit])
    return epoch


@compiled
def push(m: EngineState, tile_class: int, column: int, fresh: bool) -> int:
    """One tile (or, after the stream, an empty epoch) enters, and everything that may follow from it happens."""
    tile, ring = m.rows[at.PROGRESS, at.TILE], m.ring.shape[1]
    if tile - m.rows[at.PROGRESS, at.OLDEST] + m.rows[at.SIZE, at.LONGEST_BACK] >= ring // 2:
        return RING_FULL
    m.rows[at.PROGRESS, at.TILE] += 1
    enter(m, tile, tile_class, column, fresh)
    if m.rows[at.SIZE, at.IN_FLIGHT]:
        fault = fill_window(m, tile - m.rows[at.SIZE, at.IN_FLIGHT] - m.rows[at.SIZE, at.AHEAD] + 1)
    else:
        fault = m.rows[at.PROGRESS, at.FAULT]
        advance_all(m, tile)
        m.rows[at.PROGRESS, at.OLDEST] = slowest(m) - m.rows[at.SIZE, at.LAST_STAGE]
    return max(fault, m.rows[at.PROGRESS, at.FAULT])


@compiled
def fill_window(m: EngineState, last: int) -> int:
    """Dispatch greedily until every tile up to `last` is complete."""
    mask = m.ring.shape[1] - 1
    while m.rows[at.PROGRESS, at.OLDEST] <= last:
        slot = m.rows[at.PROGRESS, at.OLDEST] & mask
        if m.tiles[at.LEFT, slot] == 0:
            m.rows[at.PROGRESS, at.GATE] = max(m.rows[at.PROGRESS, at.GATE], m.tiles[at.END, slot])
            m.rows[at.PROGRESS, at.OLDEST] += 1
            opened = m.rows[at.PROGRESS, at.OLDEST] + m.rows[at.SIZE, at.IN_FLIGHT] - 1
            if opened < m.rows[at.PROGRESS, at.TILE]:
                m.tiles[at.OPENS, opened & mask] = m.rows[at.PROGRESS, at.GATE]
        elif not dispatch(m):
            return DEADLOCK
    return DONE


@compiled
def dispatch(m: EngineState) -> bool:
    """Run the task of the window that can start first (then: of the oldest tile, first in the list)."""
    mask = m.ring.shape[1] - 1
    closed = m.rows[at.PROGRESS, at.OLDEST] + m.rows[at.SIZE, at.IN_FLIGHT]  # but for early tasks
    best, best_tile, best_task = int64(NEVER), int64(-1), int64(-1)
    for tile in range(m.rows[at.PROGRESS, at.OLDEST], m.rows[at.PROGRESS, at.TILE]):
        for task in range(m.rows[at.SIZE, at.TASKS]):
            opens = m.tiles[at.NEARS if m.rows[at.EARLY, task] else at.OPENS, tile & mask]
            bound = max(m.rows[at.CLOCK, m.rows[at.UNIT, task]], opens)
            if tile >= closed and not m.rows[at.EARLY, task]:
                continue
            if bound < best and m.ring[at.FINISH, tile & mask, task] == PENDING:
                bound = earliest(m, task, tile, bound)
                if bound != PENDING:
                    return_slots(m, m.rows[at.TAKES_OF, task], m.rows[at.TAKES_OF, task + 1])
                    if bound < best:
                        best, best_tile, best_task = bound, tile, task
    if best_tile < 0:
        return False
    start = earliest(m, best_task, best_tile, best)
    finish = start + cycles_of(m, best_task, best_tile)
    finish = streamed_finish(m, best_task, best_tile, finish)
    complete(m, best_task, best_tile, start, finish)
    m.rows[at.CLOCK, m.rows[at.UNIT, best_task]] = finish
    m.tiles[at.LEFT, best_tile & mask] -= 1
    m.tiles[at.END, best_tile & mask] = max(m.tiles[at.END, best_tile & mask], finish)
    return True
