"""How many cycles a stream of single queries may take beyond its bound: what the bound leaves out, taken at its worst.

Nothing here is proved. Head by head, whichever of these is longest, one head after another:

* the fork, where all reads of values come between those of keys, rows of banks open one by one while nothing is read,
  and the last line of a head comes just after it was looked for;
* the top-k engine;
* the buffer of values, with the same for its reads.
"""

from __future__ import annotations

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


def most_cycles(bound: StreamBound) -> int:
    """An upper estimate of the cycle level."""
    engine = sum((head.latency + head.beats) * count for head, count in bound.counts.items() if head.selects)
    fork = bound.waits + sum(_passes(head, bound) * count for head, count in bound.counts.items())
    values = sum(_values(head) * count for head, count in bound.counts.items() if head.value_fetch)
    slowest = max(head.latency + head.beats + _values(head) + head.value_lines for head in bound.counts)
    return FIRST_FORK_CYCLES + max(fork, engine, values) + bound.last.report + slowest + RETRY_CYCLES


def _passes(head: Head, bound: StreamBound) -> int:
    again = 0
    if head.low_fetch is not None:
        again = head.report + RETURN_CYCLES + REQUEST_CYCLES + _longest(head.low_fetch, None)
    if head.key_fetch is None:
        return head.first_pass() + RETRY_CYCLES + again
    return REQUEST_CYCLES + _longest(head.key_fetch, head.value_fetch) + again


def _values(head: Head) -> int:
    if head.value_fetch is None:
        return head.value_lines
    return head.entry + head.beats_of_line + VALUE_CYCLES + _longest(head.value_fetch, None)


def _longest(one: Fetch, other: Fetch | None) -> int:
    cells, opened, rows = one.cells, one.opened, one.last_row
    if other is not None:
        cells, opened, rows = cells + other.cells, opened + other.opened, rows + other.last_row
    name = one.design.dram
    reads = max(BURST_CYCLES[name] * busiest(cells), rows) + (OPEN_CYCLES + CLOSE_CYCLES) * opened
    return READ_CYCLES[name] + max(reads + one.left + 2, one.lines) + RESPONSE_CYCLES + RETRY_CYCLES
