"""How many cycles a stream of single queries may take: what its bound leaves out, as if nothing of it overlapped.

An upper estimate, not a bound. Heads pass one after another, each as long as the longest of these:

* the fork: all reads of values come between those of keys, and the last line comes just after it was looked for;
* the top-k engine, which waits for products where the queue of probabilities is full, or the buffer of values.
"""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from math import ceil

from cascadesim.accelerators.spatten.fetches import Fetch, busiest
from cascadesim.accelerators.spatten.head_latencies import (
    BURST_CYCLES,
    CLOSE_CYCLES,
    FIRST_FORK_CYCLES,
    OPEN_CYCLES,
    READ_CYCLES,
    REQUEST_CYCLES,
    RESPONSE_CYCLES,
    RETRY_CYCLES,
    RETURN_CYCLES,
    VALUE_CYCLES,
)
from cascadesim.accelerators.spatten.stream_bound import StreamBound
from cascadesim.accelerators.spatten.stream_heads import Head

ADDRESS_ROWS = 16 + 1  # RTL: places of a fetch channel's FIFO of addresses, and its register


def most_cycles(bound: StreamBound) -> int:
    """Of all heads and the way of the last one, the longest that there is."""
    fork = bound.waits + sum(_at_fork(head) * count for head, count in bound.counts.items())
    steps = Counter(pairwise(bound.heads)).items()
    values = sum(max(_at_engine(after), _at_values(head)) * count for (head, after), count in steps)
    last = max(_at_engine(head) + _at_values(head) + head.value_lines for head in bound.counts)
    return FIRST_FORK_CYCLES + max(fork, _at_fork(bound.heads[0]) + values) + bound.last.report + last + RETRY_CYCLES


def _at_fork(head: Head) -> int:
    again = waited = 0
    if head.low_fetch is not None:
        again = head.report + RETURN_CYCLES + REQUEST_CYCLES + _to_line(head.low_fetch)
    if head.value_fetch is not None:
        waited = head.rounds * _round(head)
    if head.key_fetch is not None:
        return REQUEST_CYCLES + _to_line(head.key_fetch, head.value_fetch) + waited + again
    values = 0 if head.value_fetch is None else _reads(head.value_fetch)
    return head.first_pass() + RETRY_CYCLES + values + waited + again


def _at_engine(head: Head) -> int:
    if not head.selects:
        return 0
    return head.latency + head.beats + (_at_values(head) if head.rounds else 0)


def _at_values(head: Head) -> int:
    """From the report to the products of all lines; each time the queue is full, a product is waited for."""
    if head.value_fetch is None:
        return head.value_lines
    asked = head.entry + head.beats_of_line + VALUE_CYCLES
    return asked + _to_line(head.value_fetch) + head.rounds * _round(head)


def _round(head: Head) -> int:
    """From a probability to its product."""
    return VALUE_CYCLES + READ_CYCLES[head.design.dram] + RESPONSE_CYCLES + 2


def _to_line(one: Fetch, other: Fetch | None = None) -> int:
    """From the first request to the product of the last line; a line a cycle once the first row is complete.

    That may take as long as all rows that the FIFOs of addresses hold, because low fetch channels ask first.
    """
    reads = _reads(one, other)
    first = ceil(reads * min(1, ADDRESS_ROWS / (one.last_row + 1)))
    arrived = max(reads + one.left + 2, first + one.lines)
    return READ_CYCLES[one.design.dram] + arrived + RESPONSE_CYCLES + RETRY_CYCLES


def _reads(one: Fetch, other: Fetch | None = None) -> int:
    """Of one fetch, whose rows open in one pseudo-channel while the other reads; or of two, of which each row of the
    second closes one of the first, that is opened again, while nothing is read."""
    cells, rows, opened = one.cells, one.last_row, (one.opened + 1) // 2
    if other is not None:
        cells, rows, opened = cells + other.cells, rows + other.last_row, opened + 2 * other.opened
    return max(BURST_CYCLES[one.design.dram] * busiest(cells), rows) + (OPEN_CYCLES + CLOSE_CYCLES) * opened
