"""Rings and sets of integers for compiled pipelines: put, look at the first, drop; mark, find the lowest."""

# an element of an array is Any:
# mypy: disable-error-code="no-any-return"
from __future__ import annotations

from cascadesim.simulator.compilation import compiled
from cascadesim.simulator.dram_channel import Integers
from cascadesim.simulator.heads_state import MARKS, Queue


@compiled
def put(queue: Queue, first: int, second: int = 0, third: int = 0) -> None:
    place = (queue.ends[0] + queue.ends[1]) % queue.entries.shape[0]
    queue.entries[place, 0] = first
    if queue.entries.shape[1] > 1:
        queue.entries[place, 1] = second
    if queue.entries.shape[1] > 2:
        queue.entries[place, 2] = third
    queue.ends[1] += 1


@compiled
def put_in_order(queue: Queue, first: int, second: int, third: int) -> None:
    """Before the first entry with a larger first field; the queue is in that order already."""
    places = queue.entries.shape[0]
    put(queue, first, second, third)
    for place in range(queue.ends[0] + queue.ends[1] - 1, queue.ends[0], -1):
        if queue.entries[(place - 1) % places, 0] < first:
            return
        for field in range(3):
            entry = queue.entries[place % places, field]
            queue.entries[place % places, field] = queue.entries[(place - 1) % places, field]
            queue.entries[(place - 1) % places, field] = entry


@compiled
def filled(queue: Queue) -> int:
    return int(queue.ends[1])


@compiled
def first(queue: Queue, field: int) -> int:
    return int(queue.entries[queue.ends[0], field])


@compiled
def drop(queue: Queue) -> None:
    queue.ends[0] = (queue.ends[0] + 1) % queue.entries.shape[0]
    queue.ends[1] -= 1


@compiled
def mark(words: Integers, number: int, present: bool) -> None:
    """A set of small numbers, MARKS of them in a word."""
    bit = 1 << number % MARKS
    words[number // MARKS] = words[number // MARKS] | bit if present else words[number // MARKS] & ~bit


@compiled
def lowest(words: Integers) -> int:
    """The lowest number of a set, -1 where there is none."""
    for word in range(len(words)):
        bits, number = words[word], word * MARKS
        if bits:
            while bits & 255 == 0:
                bits >>= 8
                number += 8
            while bits & 1 == 0:
                bits >>= 1
                number += 1
            return int(number)
    return -1
