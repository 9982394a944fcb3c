"""Rings and sets of integers for compiled pipelines: put, first, drop; include, exclude, lowest."""

# an element of an array is Any:
# mypy: disable-error-code="no-any-return"
from __future__ import annotations

from cascadesim.accelerators.compiled import compiled, inlined, lowest_bit
from cascadesim.accelerators.dram.commands import Integers
from cascadesim.accelerators.spatten.rtl.state import SET_BITS, Queue


@inlined
def put(queue: Queue, first: int, second: int = 0, third: int = 0) -> None:
    place = (queue.ends[0] + queue.ends[1]) & (queue.entries.shape[0] - 1)
    queue.entries[place, 0] = first
    if queue.entries.shape[1] > 1:
        queue.entries[place, 1] = second
    if queue.entries.shape[1] > 2:
        queue.entries[place, 2] = third
    queue.ends[1] += 1


@compiled
def put_in_order(queue: Queue, first: int, second: int, third: int) -> None:
    """Before the first entry with a larger first field; the queue is in that order already."""
    last = queue.entries.shape[0] - 1
    put(queue, first, second, third)
    for place in range(queue.ends[0] + queue.ends[1] - 1, queue.ends[0], -1):
        if queue.entries[(place - 1) & last, 0] < first:
            return
        for field in range(3):
            entry = queue.entries[place & last, field]
            queue.entries[place & last, field] = queue.entries[(place - 1) & last, field]
            queue.entries[(place - 1) & last, field] = entry


@inlined
def filled(queue: Queue) -> int:
    return queue.ends[1]


@inlined
def first(queue: Queue, field: int) -> int:
    return queue.entries[queue.ends[0], field]


@inlined
def drop(queue: Queue) -> None:
    queue.ends[0] = (queue.ends[0] + 1) & (queue.entries.shape[0] - 1)
    queue.ends[1] -= 1


@inlined
def include(words: Integers, number: int) -> None:
    """A set of small numbers, SET_BITS of them in a word."""
    words[number // SET_BITS] |= 1 << number % SET_BITS


@inlined
def exclude(words: Integers, number: int) -> None:
    words[number // SET_BITS] &= ~(1 << number % SET_BITS)


@inlined
def lowest(words: Integers) -> int:
    """The lowest number of a set, -1 where there is none."""
    for word in range(len(words)):
        if words[word]:
            return word * SET_BITS + lowest_bit(words[word])
    return -1
