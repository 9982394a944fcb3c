"""What the compiled pipeline of attention heads keeps between cycles: plain integer arrays, with a name for each place.

The pipeline is described in `heads`; its stages are in `heads_front`, `heads_fetch` and `heads_back`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cascadesim.accelerators.heads import HeadStream
from cascadesim.simulator.dram_channel import Channels, Integers, channels
from cascadesim.simulator.dram_standards import standard

NEVER = 1 << 60
SLOTS = 32  # heads whose lines are remembered at a time; more than can be in flight
ADDRESSES, ORDERS, DATA = 16, 64, 64  # places of a fetch channel's FIFOs (SpAtten RTL)
MARKS = 62  # members of a set that fit a word
OWNERS = 1 << 12  # requests of a DRAM channel remembered for their return; more than can be outstanding

# columns of `heads`, one row per head
(KEYS, VALUES, KEY_BITS, VALUE_BITS, LOW_BITS, SELECTION, KEY_BASE, VALUE_BASE, LOW_BASE, KEY_PART,
 VALUE_PART) = range(11)  # fmt: skip
WHOLE = -1  # the part of a head that shares its fetch with no other

# kinds of fetch jobs, and columns of `jobs`
KEY, LOW, VALUE = range(3)
KIND, HEAD, VECTORS, TRANSACTIONS, BASE, RESPONSES, GROUP_BITS, BEATS, VALID, SHARED = range(10)

# columns of `times`, one row per head
ACCEPT, REPORT, SECOND_REPORT, DONE, READS, LINES = range(6)

# places of `sizes`
(FETCH_CHANNELS, CHANNELS, CHANNEL_BITS, MULTIPLIERS, LANES, BUFFER_LINES, LANE_BITS, VECTORS_PER_LINE, BEATS_PER_LINE,
 QUEUE_BEATS, GAP, SOFTMAX) = range(12)  # fmt: skip

# places of `now`
(TIME, NEXT, DONE_HEADS, QUIET_UNTIL, LAST_DONE, TOTAL_READS, OCCUPIED, WAITING, WAITING_TIME, FORKED, FORKED_LOW,
 READ_LINE, READ_TRY, JOBS, CONSUMED, JOB, JOB_LINE, LAST_KIND, SUB_LINE, TAKEN_BEATS, BITS, GROUPS, SCORES_GONE,
 LOW_ASKED, LOW_DONE, STREAMING, STREAM_BEAT, STREAM_TIME, SELECTOR_FREE, COLLECTED, COLLECTED_LINES, MULTIPLYING,
 VALUE_LINE, VALUE_TRY, LINES_DONE, CHOSEN, QUEUED, VALUES_WRITTEN, ANSWERS,
 PADDING, LANES_WITH_DATA, FULL_LANES) = range(42)  # fmt: skip
PLACES = FULL_LANES + 1


class Queue(NamedTuple):
    """A ring: `ends` holds the place of the first entry and how many there are."""

    entries: Integers  # [places, fields]
    ends: Integers


class Fetch(NamedTuple):
    """Per fetch channel: addresses, one request, the order of requests, data; per DRAM channel: what is under way."""

    address: Integers  # [fetch channel, place, (address or -1, time)]
    address_ends: Integers  # [fetch channel, (first, count)]
    loading: Integers  # the fetch channels that may turn an address into a request, as a set
    request: Integers  # [fetch channel]: its address, or -1
    order: Integers  # [fetch channel, place, (padding, time)]
    order_ends: Integers
    data: Integers  # [fetch channel, place]: times
    data_ends: Integers
    taken: Integers  # [fetch channel]: when it last took an answer
    wanting: Integers  # [DRAM channel]: the fetch channels with a request for it, as a set
    blocked: Integers  # [DRAM channel]: an address the controller refused, or -1
    chosen: Integers  # [DRAM channel]: the fetch channel whose request is next, or -1 where none has been chosen
    owner: Integers  # [DRAM channel, place]: fetch channel of each request
    asked: Integers  # [DRAM channel, (asked, returned)]: how many so far
    output: Integers  # [DRAM channel]: time from which a finished read waits, or -1


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
    beats: Queue  # times at which popped beats reach the realigner
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
    now[LAST_KIND], now[TIME] = VALUE, 1  # a head is accepted in the cycle before it is seen
    times = np.full((count, 6), -1, dtype=np.int64)
    times[:, READS:] = 0
    written, collected = np.full((3, 2, SLOTS, places), NEVER), np.full((SLOTS, places), NEVER)
    return Pipeline(
        _sizes(stream), now, heads, gathered, times, _table(3 * count + 1, 10),
        channels(standard(design.dram), design.dram_channels, stream.rows_open),
        _fetch(channels_, design.dram_channels),
        written, _table(2, 2), _table(2, 2) + 1, collected, np.zeros(SLOTS, dtype=np.int64),
        _queue(3 * count + 1, 1), _queue(count + 1, 1), _queue(3 * count + 1, 1), _queue(4, 3), _queue(64, 1),
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


def _fetch(fetch_channels: int, dram_channels: int) -> Fetch:
    words, none = -(-fetch_channels // MARKS), np.full(fetch_channels, -1)
    nothing = [np.full(dram_channels, -1) for _ in range(3)]
    return Fetch(
        np.zeros((fetch_channels, ADDRESSES, 2), dtype=np.int64), _table(fetch_channels, 2),
        np.zeros(words, dtype=np.int64), none, np.zeros((fetch_channels, 2 * ORDERS, 2), dtype=np.int64),
        _table(fetch_channels, 2), _table(fetch_channels, DATA), _table(fetch_channels, 2), none.copy(),
        _table(dram_channels, words), nothing[0], nothing[1], _table(dram_channels, OWNERS), _table(dram_channels, 2),
        nothing[2],
    )  # fmt: skip


def _table(rows: int, columns: int) -> NDArray[np.int64]:
    return np.zeros((rows, columns), dtype=np.int64)


def _queue(places: int, fields: int) -> Queue:
    return Queue(_table(places, fields), np.zeros(2, dtype=np.int64))
