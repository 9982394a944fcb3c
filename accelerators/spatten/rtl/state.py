"""What the compiled pipeline of attention heads keeps between cycles: plain integer arrays, with a name for each place.

Rings and sets of integers come with what compiled stages do with them. The pipeline is described in `run`; its stages
are in `pipeline` and `fetch`. Knows places; knows no order of events.
"""

# an element of an array is Any:
# mypy: disable-error-code="no-any-return"
from __future__ import annotations

from typing import NamedTuple

import numpy as np

from cascadesim.accelerators.compiled import compiled, inlined, lowest_bit
from cascadesim.accelerators.dram.commands import Channels, Integers, channels
from cascadesim.accelerators.dram.standards import standard
from cascadesim.accelerators.spatten.spec import HeadStream

NEVER = 1 << 60
SLOTS = 32  # heads whose lines are remembered at a time; more than can be in flight
ADDRESSES, ORDERS, DATA = 16, 64, 64  # places of a fetch channel's FIFOs (SpAtten RTL)
ROWS = 256  # rows of transactions remembered: a power of two above what the three FIFOs hold together
SET_BITS = 32  # members of a set that are kept in a word
OWNERS = 64  # requests of a DRAM channel remembered for their return; a power of two above what can be outstanding

# columns of `heads`, one row per head
(KEYS, VALUES, KEY_BITS, VALUE_BITS, LOW_BITS, SELECTION, KEY_BASE, VALUE_BASE, LOW_BASE, KEY_PART,
 VALUE_PART) = range(11)  # fmt: skip
WHOLE = -1  # the part of a head that shares its fetch with no other
UNUSED = -1  # the selection of a head that passes by the top-k engine

# kinds of fetch jobs, and columns of `jobs`
KEY, LOW, VALUE = range(3)
KIND, HEAD, VECTORS, TRANSACTIONS, BASE, RESPONSES, GROUP_BITS, BEATS, VALID, SHARED = range(10)

# columns of `times`, one row per head
ACCEPT, REPORT, SECOND_REPORT, DONE, READS, LINES = range(6)
UNKNOWN = -1

# columns of `rows`, `lanes` and `crossbar`
ENTRY, LOADS, ACCEPTS, COMPLETE = range(4)  # when a row entered, how many lanes loaded and accepted it, when all had
LOADED, ACCEPTED, TOOK, REQUEST = range(4)  # rows so far, time of the latest answer, channel-local address or -1
CHOSEN_LANE, BLOCKED, HOLDING, ASKED, RETURNED = range(5)  # lane or -1, address refused or -1, an answer waits; counts
OWNERS_AT = 8

# places of `sizes`
(FETCH_CHANNELS, CHANNELS, CHANNEL_BITS, MULTIPLIERS, LANES, BUFFER_LINES, LANE_BITS, VECTORS_PER_LINE, BEATS_PER_LINE,
 QUEUE_BEATS, GAP, SOFTMAX) = range(12)  # fmt: skip

# places of `now`
(TIME, NEXT, DONE_HEADS, QUIET_UNTIL, LAST_DONE, TOTAL_READS, OCCUPIED, WAITING, WAITING_TIME, BRANCHING, BRANCHING_LOW,
 READ_LINE, READ_TRY, JOBS, CONSUMED, JOB, JOB_LINE, LAST_KIND, SPLIT_ROW, TAKEN_BEATS, BITS, GROUPS, SCORES_GONE,
 LOW_ASKED, LOW_DONE, STREAMING, STREAM_BEAT, STREAM_TIME, SELECTOR_FREE, COLLECTED, COLLECTED_LINES, MULTIPLYING,
 VALUE_LINE, VALUE_TRY, LINES_DONE, CHOSEN, QUEUED, VALUES_WRITTEN, PADDING,
 ENTERED, LOADED_ROWS, FORMED, BEAT_AT, SPLIT_VECTOR, SPLIT_PART, READ_LINES,
 STREAM_BEATS, VALUE_BEATS, VALUE_LINES, BEATS_MET) = range(50)  # fmt: skip
PLACES = BEATS_MET + 1


class Ring(NamedTuple):
    """A ring of a power of two: `ends` holds the place of the first entry and how many there are."""

    entries: Integers  # [places, fields]
    ends: Integers


class Fetch(NamedTuple):
    """Rows of transactions, a ring, one transaction per fetch channel ("lane"); what lanes and DRAM channels are at."""

    rows: Integers  # [place, (ENTRY, ...)]
    address: Integers  # [place, lane]: the address, or -1 for padding
    order: Integers  # [place, lane]: of padding, when its entry of the order is through its FIFO
    lanes: Integers  # [lane, (LOADED, ...)]
    loading: Integers  # the lanes that may turn an address into a request, as a set
    wanting: Integers  # [DRAM channel]: the lanes with a request for it, as a set
    crossbar: Integers  # [DRAM channel, (CHOSEN_LANE, ..., then from OWNERS_AT on lanes of requests, a ring)]


class HeadPipeline(NamedTuple):
    """Everything that a pipeline of heads is at."""

    sizes: Integers
    now: Integers
    heads: Integers
    gathered: Integers  # keys, in order
    times: Integers
    jobs: Integers
    dram: Channels
    fetch: Fetch
    written: Integers  # [kind of job, port, slot, response]: when its line of that port is in the buffer
    ports: Integers  # [buffer of keys or values, port]: when it may write its next line
    banks: Integers  # [buffer, bank]: the port that wrote last
    value_lines: Integers  # [slot, line]: when an address line of values is complete
    value_line_count: Integers  # [slot]
    key_jobs: Ring
    value_jobs: Ring
    granted: Ring  # jobs in the order of the fetcher
    splitting: Ring  # (job, line, time)
    again: Ring  # (head, time): heads that come back for their low bits
    reports: Ring  # (head, low, time)
    frees: Ring  # (lines, time)
    scored: Ring  # (head, time, low passes to wait for)
    reads: Ring  # (head, time): heads whose values are to be multiplied
    products: Ring  # times of beats in the probability queue


def pipeline(stream: HeadStream, heads: Integers, gathered: Integers) -> HeadPipeline:
    """An idle pipeline with the whole stream in front of it."""
    design = stream.design
    count, lanes, places = len(heads), design.fetch_channels, int(heads[:, (KEYS, VALUES)].max()) + 2
    now = np.zeros(PLACES, dtype=np.int64)
    now[[WAITING, BRANCHING, JOB, STREAMING, MULTIPLYING]] = -1
    now[[SCORES_GONE, SELECTOR_FREE, VALUES_WRITTEN]] = -NEVER
    now[BEAT_AT], now[LAST_KIND], now[TIME] = NEVER, VALUE, 1  # a head is accepted in the cycle before it is seen
    beats = max(lanes // design.softmax_lanes, 1)
    # RTL: 16 lines of indexes, which are no shorter than a line of vectors there; assumed: no fewer where they are
    queue_beats = 16 * max(beats, design.vectors_per_line // design.softmax_lanes)
    sizes = np.array([
        lanes, design.dram_channels, design.dram_channels.bit_length() - 1, design.multipliers, design.softmax_lanes,
        design.buffer_lines, design.softmax_lanes.bit_length() - 1, design.vectors_per_line, beats, queue_beats,
        -1 if stream.gap_cycles is None else stream.gap_cycles, design.softmax_cycles,
    ], dtype=np.int64)  # fmt: skip
    words = -(-lanes // SET_BITS)
    fetch = Fetch(
        _table(ROWS, 4), _table(ROWS, lanes), _table(ROWS, lanes), _table(lanes, 4), np.zeros(words, dtype=np.int64),
        _table(design.dram_channels, words), _table(design.dram_channels, OWNERS_AT + OWNERS),
    )  # fmt: skip
    fetch.rows[:, COMPLETE] = NEVER
    fetch.lanes[:, REQUEST] = -1
    fetch.crossbar[:, (CHOSEN_LANE, BLOCKED)] = -1
    return HeadPipeline(
        sizes, now, heads, gathered, np.full((count, 6), UNKNOWN, dtype=np.int64), _table(3 * count + 1, 10),
        channels(standard(design.dram), design.dram_channels, stream.rows_open), fetch,
        np.full((3, 2, SLOTS, places), NEVER), _table(2, 2), _table(2, 2) + 1,
        np.full((SLOTS, places), NEVER), np.zeros(SLOTS, dtype=np.int64),
        _ring(3 * count + 1, 1), _ring(count + 1, 1), _ring(3 * count + 1, 1), _ring(4, 3),
        _ring(count + 1, 2), _ring(count + 1, 3), _ring(count + 1, 2), _ring(count + 1, 3), _ring(count + 1, 2),
        _ring(queue_beats + 1, 1),
    )  # fmt: skip


def _table(rows: int, columns: int) -> Integers:
    return np.zeros((rows, columns), dtype=np.int64)


def _ring(places: int, fields: int) -> Ring:
    return Ring(_table(1 << (places - 1).bit_length(), fields), np.zeros(2, dtype=np.int64))


@inlined
def put(ring: Ring, first: int, second: int = 0, third: int = 0) -> None:
    place = (ring.ends[0] + ring.ends[1]) & (ring.entries.shape[0] - 1)
    ring.entries[place, 0] = first
    if ring.entries.shape[1] > 1:
        ring.entries[place, 1] = second
    if ring.entries.shape[1] > 2:
        ring.entries[place, 2] = third
    ring.ends[1] += 1


@compiled
def put_in_order(ring: Ring, first: int, second: int, third: int) -> None:
    """The entry goes before the first one with a larger first field; the ring is in that order already."""
    last = ring.entries.shape[0] - 1
    put(ring, first, second, third)
    for place in range(ring.ends[0] + ring.ends[1] - 1, ring.ends[0], -1):
        if ring.entries[(place - 1) & last, 0] < first:
            return
        for field in range(3):
            entry = ring.entries[place & last, field]
            ring.entries[place & last, field] = ring.entries[(place - 1) & last, field]
            ring.entries[(place - 1) & last, field] = entry


@inlined
def filled(ring: Ring) -> int:
    return ring.ends[1]


@inlined
def first(ring: Ring, field: int) -> int:
    return ring.entries[ring.ends[0], field]


@inlined
def drop(ring: Ring) -> None:
    ring.ends[0] = (ring.ends[0] + 1) & (ring.entries.shape[0] - 1)
    ring.ends[1] -= 1


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
