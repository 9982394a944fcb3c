"""What the compiled pipeline of attention heads keeps between cycles: plain integer arrays, with a name for each place.

The pipeline is described in `heads`; its stages are in `front`, `fetch`, `returns`
and `back`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cascadesim.accelerators.dram.standards import standard
from cascadesim.accelerators.dram.state import Channels, Integers, channels
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
(TIME, NEXT, DONE_HEADS, QUIET_UNTIL, LAST_DONE, TOTAL_READS, OCCUPIED, WAITING, WAITING_TIME, FORKED, FORKED_LOW,
 READ_LINE, READ_TRY, JOBS, CONSUMED, JOB, JOB_LINE, LAST_KIND, SPLIT_ROW, TAKEN_BEATS, BITS, GROUPS, SCORES_GONE,
 LOW_ASKED, LOW_DONE, STREAMING, STREAM_BEAT, STREAM_TIME, SELECTOR_FREE, COLLECTED, COLLECTED_LINES, MULTIPLYING,
 VALUE_LINE, VALUE_TRY, LINES_DONE, CHOSEN, QUEUED, VALUES_WRITTEN, PADDING,
 ENTERED, LOADED_ROWS, FORMED, BEAT_AT, SPLIT_VECTOR, SPLIT_PART, READ_LINES,
 STREAM_BEATS, VALUE_BEATS, VALUE_LINES) = range(49)  # fmt: skip
PLACES = VALUE_LINES + 1


class Queue(NamedTuple):
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


class Pipeline(NamedTuple):
    """Everything."""

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
    key_jobs: Queue
    value_jobs: Queue
    granted: Queue  # jobs in the order of the fetcher
    splitting: Queue  # (job, line, time)
    again: Queue  # (head, time): heads that come back for their low bits
    reports: Queue  # (head, low, time)
    frees: Queue  # (lines, time)
    scored: Queue  # (head, time, low passes to wait for)
    reads: Queue  # (head, time): heads whose values are to be multiplied
    products: Queue  # times of beats in the probability queue


def pipeline(stream: HeadStream, heads: Integers, gathered: Integers) -> Pipeline:
    """An idle pipeline with the whole stream in front of it."""
    design = stream.design
    count, channels_, places = len(heads), design.fetch_channels, _places(heads)
    now = np.zeros(PLACES, dtype=np.int64)
    for place in (WAITING, FORKED, JOB, STREAMING, MULTIPLYING):
        now[place] = -1
    for place in (SCORES_GONE, SELECTOR_FREE, VALUES_WRITTEN):
        now[place] = -NEVER
    now[BEAT_AT], now[LAST_KIND], now[TIME] = NEVER, VALUE, 1  # a head is accepted in the cycle before it is seen
    times = np.full((count, 6), UNKNOWN, dtype=np.int64)
    written, collected = np.full((3, 2, SLOTS, places), NEVER), np.full((SLOTS, places), NEVER)
    return Pipeline(
        _sizes(stream), now, heads, gathered, times, _table(3 * count + 1, 10),
        channels(standard(design.dram), design.dram_channels, stream.rows_open),
        _fetch(channels_, design.dram_channels),
        written, _table(2, 2), _table(2, 2) + 1, collected, np.zeros(SLOTS, dtype=np.int64),
        _queue(3 * count + 1, 1), _queue(count + 1, 1), _queue(3 * count + 1, 1), _queue(4, 3),
        _queue(count + 1, 2), _queue(count + 1, 3), _queue(count + 1, 2), _queue(count + 1, 3), _queue(count + 1, 2),
        _queue(1024, 1),
    )  # fmt: skip


def _places(heads: Integers) -> int:
    return int(heads[:, (KEYS, VALUES)].max()) + 2


def _sizes(stream: HeadStream) -> Integers:
    design = stream.design
    beats = max(design.fetch_channels // design.softmax_lanes, 1)
    return np.array([
        design.fetch_channels, design.dram_channels, design.dram_channels.bit_length() - 1, design.multipliers,
        design.softmax_lanes, design.buffer_lines, design.softmax_lanes.bit_length() - 1, design.vectors_per_line,
        beats, 16 * beats, -1 if stream.gap_cycles is None else stream.gap_cycles, design.softmax_cycles,
    ], dtype=np.int64)  # fmt: skip


def _fetch(lanes: int, channels_: int) -> Fetch:
    words = -(-lanes // SET_BITS)
    fetch = Fetch(
        _table(ROWS, 4), _table(ROWS, lanes), _table(ROWS, lanes), _table(lanes, 4), np.zeros(words, dtype=np.int64),
        _table(channels_, words), _table(channels_, OWNERS_AT + OWNERS),
    )  # fmt: skip
    fetch.rows[:, COMPLETE] = NEVER
    fetch.lanes[:, REQUEST] = -1
    fetch.crossbar[:, (CHOSEN_LANE, BLOCKED)] = -1
    return fetch


def _table(rows: int, columns: int) -> NDArray[np.int64]:
    return np.zeros((rows, columns), dtype=np.int64)


def _queue(places: int, fields: int) -> Queue:
    return Queue(_table(1 << (places - 1).bit_length(), fields), np.zeros(2, dtype=np.int64))
