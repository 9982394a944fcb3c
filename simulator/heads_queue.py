"""Rings of integers for compiled pipelines: put an entry at the end, look at the first, drop it."""

# an element of an array is Any:
# mypy: disable-error-code="no-any-return"
from __future__ import annotations

from cascadesim.simulator.compilation import compiled
from cascadesim.simulator.heads_state import Queue


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
