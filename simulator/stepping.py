"""The only loop over time, tile by tile: a tile enters, and each unit issues its tasks as far as it can.

Compiled by Numba. Units go on independently of each other, each in its own static order (or greedily, in a window of
tiles), and learn the moments they wait for; no cycle is ever counted one by one. Knows nothing of names, nor of the
stream (`periods`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import numba

from cascadesim.simulator.stream import ABSENT, PENDING, State, Tables

Function = TypeVar("Function", bound=Callable[..., object])

DONE, RING_FULL, DEADLOCK, GIVEN_UNTAKEN = 0, 1, 2, 3
FINISH, START = 0, 1
TILE, ENTERED, SKIPS, OLDEST, GATE, FAULT = 0, 1, 2, 3, 4, 5  # fields of progress; ENTERED counts skipped ones too
NEVER = 2**61


def compiled(function: Function) -> Function:
    result: Function = numba.njit(error_model="numpy")(function)  # type: ignore[assignment, unused-ignore]
    return result


@compiled
def source_time(tables: Tables, state: State, edge: int, tile: int, which: int) -> int:
    mask = state.time.shape[1] - 1
    carrier = tables.carrier[edge]
    if carrier < 0:
        return state.time[which, (tile - tables.back[edge]) & mask, tables.source[edge]]
    last = state.carried_tile[tile & mask, carrier]
    if last < 0:
        return state.carried[which, tile & mask, carrier]
    return state.time[which, last & mask, tables.source[edge]]


@compiled
def earliest(tables: Tables, state: State, task: int, tile: int, bound: int) -> int:
    """When the task may start, not before `bound`; takes its slots. PENDING if something has yet to happen."""
    now = state.progress[TILE]
    for edge in range(tables.edges_of[task], tables.edges_of[task + 1]):
        moment = source_time(tables, state, edge, tile, tables.streams[edge])
        if moment == PENDING:
            state.blocked[tables.unit[task]] = edge
            return PENDING
        if moment != ABSENT:
            state.used[edge] = now
            if moment + tables.lag[edge] > bound:
                bound = moment + tables.lag[edge]
                state.needed[edge] = now
    for place in range(tables.takes_of[task], tables.takes_of[task + 1]):
        moment = take_slot(tables, state, tables.takes[place], bound)
        if moment == PENDING:
            state.blocked[tables.unit[task]] = len(tables.source) + tables.takes[place]
            return_slots(tables, state, tables.takes_of[task], place)
            return PENDING
        bound = moment
    return bound


@compiled
def take_slot(tables: Tables, state: State, queue: int, bound: int) -> int:
    index = state.taken[queue] - tables.capacity[queue]
    if index >= state.given[queue]:
        return PENDING
    state.taken[queue] += 1
    if index < 0:
        return bound
    edge = len(tables.source) + queue
    state.used[edge] = state.progress[TILE]
    moment = state.give_time[queue, index % state.give_time.shape[1]]
    if moment > bound:
        state.needed[edge] = state.progress[TILE]
        return moment
    return bound


@compiled
def return_slots(tables: Tables, state: State, first: int, last: int) -> None:
    for place in range(first, last):
        state.taken[tables.takes[place]] -= 1


@compiled
def streamed_finish(tables: Tables, state: State, task: int, tile: int, finish: int) -> int:
    for edge in range(tables.edges_of[task], tables.edges_of[task + 1]):
        if tables.streams[edge]:
            moment = source_time(tables, state, edge, tile, FINISH)
            if moment != ABSENT and moment + tables.lag[edge] > finish:
                finish = moment + tables.lag[edge]
                state.needed[edge] = state.progress[TILE]
    return finish


@compiled
def cycles_of(tables: Tables, state: State, task: int, tile: int) -> int:
    return tables.cycles[state.tile_class[tile & (state.time.shape[1] - 1)], task]


@compiled
def complete(tables: Tables, state: State, task: int, tile: int, start: int, finish: int) -> None:
    """The task of the tile ran from start to finish: everyone who waits for it learns so."""
    slot = tile & (state.time.shape[1] - 1)
    state.time[START, slot, task] = start
    state.time[FINISH, slot, task] = finish
    for carrier in range(tables.carriers_of[task], tables.carriers_of[task + 1]):
        column = state.tile_column[slot] * tables.by_column[carrier]
        if state.column_tile[carrier, column] == tile:
            state.column[START, carrier, column] = start
            state.column[FINISH, carrier, column] = finish
    for place in range(tables.gives_of[task], tables.gives_of[task + 1]):
        queue = tables.gives[place]
        if not tables.keeps[state.tile_class[slot], queue]:
            give_slot(tables, state, queue, finish)
    if tile < state.log.shape[1]:
        state.log[0, tile, task] = start
        state.log[1, tile, task] = finish
    unit = tables.unit[task]
    if state.first_start[unit] < 0:
        state.first_start[unit] = start


@compiled
def give_slot(tables: Tables, state: State, queue: int, finish: int) -> None:
    length = state.give_time.shape[1]
    if state.given[queue] - (state.taken[queue] - tables.capacity[queue]) >= length:
        state.progress[FAULT] = GIVEN_UNTAKEN
    state.give_time[queue, state.given[queue] % length] = finish
    state.given[queue] += 1


@compiled
def issue(tables: Tables, state: State, unit: int, item: int, epoch: int) -> bool:
    """The members of an item start together, once each of them may; False if one of them must wait for news."""
    start = state.clock[unit]
    slots = 0
    first, last = tables.members_of[item], tables.members_of[item + 1]
    for place in range(first, last):
        task = tables.members[place]
        tile = epoch - tables.stage[task]
        cycles = cycles_of(tables, state, task, tile)
        if cycles:
            bound = earliest(tables, state, task, tile, start)
            if bound == PENDING:
                return_members(tables, state, first, place, epoch)
                return False
            start = bound
            slots += cycles
    if slots:
        occupy(tables, state, item, epoch, start)
    return True


@compiled
def return_members(tables: Tables, state: State, first: int, last: int, epoch: int) -> None:
    for place in range(first, last):
        task = tables.members[place]
        if cycles_of(tables, state, task, epoch - tables.stage[task]):
            return_slots(tables, state, tables.takes_of[task], tables.takes_of[task + 1])


@compiled
def occupy(tables: Tables, state: State, item: int, epoch: int, start: int) -> None:
    """Slots go round the members cycle by cycle; each finishes at its own last slot."""
    free, before = start, 0
    for place in range(tables.members_of[item], tables.members_of[item + 1]):
        task = tables.members[place]
        tile = epoch - tables.stage[task]
        if cycles_of(tables, state, task, tile):
            own = start + last_slot(tables, state, item, place, epoch)
            finish = streamed_finish(tables, state, task, tile, own)
            complete(tables, state, task, tile, start + before, finish)
            free = max(free, finish)
            before += 1
    state.clock[tables.unit[tables.members[tables.members_of[item]]]] = free


@compiled
def last_slot(tables: Tables, state: State, item: int, own: int, epoch: int) -> int:
    """Slots until the member at `own` has had all of its own: earlier members go first in each round."""
    task = tables.members[own]
    cycles = cycles_of(tables, state, task, epoch - tables.stage[task])
    slots = cycles
    for place in range(tables.members_of[item], tables.members_of[item + 1]):
        if place != own:
            other = tables.members[place]
            others = cycles_of(tables, state, other, epoch - tables.stage[other])
            slots += min(others, cycles if place < own else cycles - 1)
    return slots


@compiled
def advance(tables: Tables, state: State, unit: int, target: int) -> bool:
    """The unit goes on, in its own order, up to the end of epoch `target`; True if it issued anything."""
    moved = False
    while state.epoch[unit] <= target:
        while state.item[unit] < tables.items_of[unit + 1]:
            if not issue(tables, state, unit, state.item[unit], state.epoch[unit]):
                return moved
            state.item[unit] += 1
            moved = True
        state.item[unit] = tables.items_of[unit]
        state.epoch[unit] += 1
    return moved


@compiled
def advance_all(tables: Tables, state: State, target: int) -> None:
    moved, waiting = True, True
    while moved and waiting:
        moved, waiting = False, False
        for unit in range(len(state.clock)):
            if state.epoch[unit] <= target:
                moved |= advance(tables, state, unit, target)
                waiting |= state.epoch[unit] <= target


@compiled
def enter(tables: Tables, state: State, tile: int, tile_class: int, column: int, fresh: bool) -> None:
    slot = tile & (state.time.shape[1] - 1)
    state.tile_class[slot] = tile_class
    state.tile_column[slot] = column
    state.pending[slot], state.end[slot], state.gate[slot] = 0, 0, state.progress[GATE]
    for task in range(len(tables.unit)):
        present = tables.cycles[tile_class, task] > 0
        state.pending[slot] += present
        state.time[:, slot, task] = PENDING if present else ABSENT
    for carrier in range(len(tables.carrier_task)):
        present = tables.cycles[tile_class, tables.carrier_task[carrier]] > 0
        if tables.by_column[carrier]:
            if fresh:
                state.column_tile[carrier, column] = -1
                state.column[:, carrier, column] = ABSENT
            carry(tables, state, slot, carrier, column)
            if present:
                state.column_tile[carrier, column] = tile
        else:
            if present:
                state.column_tile[carrier, 0] = tile
            carry(tables, state, slot, carrier, 0)


@compiled
def carry(tables: Tables, state: State, slot: int, carrier: int, column: int) -> None:
    """What the tile in `slot` will wait for: a moment already known, or the tile that will bring it."""
    if to_come(tables, state, carrier, column):
        state.carried_tile[slot, carrier] = state.column_tile[carrier, column]
    else:
        state.carried_tile[slot, carrier] = -1
        state.carried[:, slot, carrier] = state.column[:, carrier, column]


@compiled
def to_come(tables: Tables, state: State, carrier: int, column: int) -> bool:
    tile, ring = state.column_tile[carrier, column], state.time.shape[1]
    if tile < 0 or state.progress[TILE] - tile >= ring:
        return False
    return state.time[FINISH, tile & (ring - 1), tables.carrier_task[carrier]] == PENDING


@compiled
def push(tables: Tables, state: State, tile_class: int, column: int, fresh: bool) -> int:
    """One tile (or, after the stream, an empty epoch) enters, and everything that may follow from it happens."""
    tile, ring = state.progress[TILE], state.time.shape[1]
    if tile - state.progress[OLDEST] + tables.longest_back >= ring // 2:
        return RING_FULL
    state.progress[TILE] += 1
    enter(tables, state, tile, tile_class, column, fresh)
    if tables.in_flight:
        fault = fill_window(tables, state, tile - tables.in_flight + 1)
    else:
        fault = state.progress[FAULT]
        advance_all(tables, state, tile)
        state.progress[OLDEST] = state.epoch.min() - tables.last_stage
    return max(fault, state.progress[FAULT])


@compiled
def fill_window(tables: Tables, state: State, last: int) -> int:
    """Greedily, until every tile up to `last` is complete."""
    mask = state.time.shape[1] - 1
    while state.progress[OLDEST] <= last:
        slot = state.progress[OLDEST] & mask
        if state.pending[slot] == 0:
            state.progress[GATE] = max(state.progress[GATE], state.end[slot])
            state.progress[OLDEST] += 1
        elif not dispatch(tables, state):
            return DEADLOCK
    return DONE


@compiled
def dispatch(tables: Tables, state: State) -> bool:
    """Run the task of the window that can start first (then: of the oldest tile, first in the list)."""
    mask = state.time.shape[1] - 1
    best, best_tile, best_task = NEVER, -1, -1
    for tile in range(state.progress[OLDEST], state.progress[TILE]):
        for task in range(len(tables.unit)):
            if state.time[FINISH, tile & mask, task] == PENDING:
                bound = max(state.clock[tables.unit[task]], state.gate[tile & mask])
                bound = earliest(tables, state, task, tile, bound)
                if bound != PENDING:
                    return_slots(tables, state, tables.takes_of[task], tables.takes_of[task + 1])
                    if bound < best:
                        best, best_tile, best_task = bound, tile, task
    if best_tile < 0:
        return False
    start = earliest(tables, state, best_task, best_tile, best)
    finish = start + cycles_of(tables, state, best_task, best_tile)
    finish = streamed_finish(tables, state, best_task, best_tile, finish)
    complete(tables, state, best_task, best_tile, start, finish)
    state.clock[tables.unit[best_task]] = finish
    state.pending[best_tile & mask] -= 1
    state.end[best_tile & mask] = max(state.end[best_tile & mask], finish)
    return True
