"""The matrix fetcher up to DRAM, cycle by cycle: lines of addresses in, requests out. Compiled.

Address lines pass an arbiter (locked for a whole job) and are split into rows of transactions, one per fetch channel;
each fetch channel asks DRAM in order, through a crossbar. SpAtten RTL, stages D and J of its description.
"""

# an element of an array is Any:
# mypy: disable-error-code="no-any-return"
from __future__ import annotations

from cascadesim.accelerators.compiled import compiled, inlined, lowest_bit
from cascadesim.accelerators.dram.channel import push, tick
from cascadesim.accelerators.spatten.rtl.queue import drop, exclude, filled, first, include, lowest, put
from cascadesim.accelerators.spatten.rtl.state import (
    ACCEPTED,
    ADDRESSES,
    ASKED,
    BASE,
    BLOCKED,
    CHANNEL_BITS,
    CHANNELS,
    CHOSEN_LANE,
    COLLECTED_LINES,
    ENTERED,
    ENTRY,
    FETCH_CHANNELS,
    HEAD,
    JOB,
    JOB_LINE,
    KIND,
    LANES,
    LAST_KIND,
    LOADED,
    LOADED_ROWS,
    LOADS,
    ORDERS,
    OWNERS,
    OWNERS_AT,
    PADDING,
    REQUEST,
    ROWS,
    SET_BITS,
    SLOTS,
    SPLIT_PART,
    SPLIT_ROW,
    SPLIT_VECTOR,
    TIME,
    TOTAL_READS,
    TRANSACTIONS,
    VALID,
    VALUE,
    VECTORS,
    Pipeline,
)

FIFO_CYCLES = 2  # a FIFO of more than one place: pushed at t, popped at t + 2
ORDER_CYCLES = 3  # a register, then a FIFO
SPLIT_CYCLES = 2  # prepare and split, a register each
TRANSACTION_SHIFT = 5  # 32 bytes of HBM, one burst of a channel


@inlined
def memory(p: Pipeline) -> None:
    """Crossbar and DRAM: per channel one request in, one tick.

    An arbiter prefers the lowest fetch channel, and keeps to a choice once made while the controller refuses.
    """
    now = p.now[TIME]
    for channel in range(p.sizes[CHANNELS]):
        port, dram = p.fetch.crossbar[channel], p.dram[channel]
        if port[CHOSEN_LANE] < 0:
            port[CHOSEN_LANE] = lowest(p.fetch.wanting[channel])
        if port[BLOCKED] < 0 and port[CHOSEN_LANE] >= 0:
            _ask(p, channel)
        if port[BLOCKED] >= 0 and push(dram, port[BLOCKED], now):
            port[BLOCKED] = -1
        tick(dram, now)


@inlined
def _ask(p: Pipeline, channel: int) -> None:
    port = p.fetch.crossbar[channel]
    lane = port[CHOSEN_LANE]
    one = p.fetch.lanes[lane]
    port[BLOCKED], port[CHOSEN_LANE] = one[REQUEST], -1
    port[OWNERS_AT + (port[ASKED] & (OWNERS - 1))] = lane
    port[ASKED] += 1
    one[REQUEST] = -1
    exclude(p.fetch.wanting[channel], lane)
    if one[LOADED] < p.now[ENTERED]:
        include(p.fetch.loading, lane)
    p.now[TOTAL_READS] += 1


@inlined
def load(p: Pipeline) -> None:
    """Each fetch channel turns its next address into a request and an entry of its order; padding asks for nothing."""
    for word in range(len(p.fetch.loading)):
        lanes = p.fetch.loading[word]
        while lanes:
            _load(p, word * SET_BITS + lowest_bit(lanes))
            lanes &= lanes - 1


@inlined
def _load(p: Pipeline, lane: int) -> None:
    fetch, now, one = p.fetch, p.now[TIME], p.fetch.lanes[lane]
    place = one[LOADED] & (ROWS - 1)
    row = fetch.rows[place]
    if row[ENTRY] + FIFO_CYCLES > now or one[LOADED] - one[ACCEPTED] > ORDERS:
        return
    address = fetch.address[place, lane]
    if address >= 0:
        number = address >> TRANSACTION_SHIFT
        one[REQUEST] = number >> p.sizes[CHANNEL_BITS] << TRANSACTION_SHIFT
        include(fetch.wanting[number & (p.sizes[CHANNELS] - 1)], lane)
    else:
        p.now[PADDING] += 1
        fetch.order[place, lane] = now + ORDER_CYCLES
    one[LOADED] += 1
    row[LOADS] += 1
    if row[LOADS] == p.sizes[FETCH_CHANNELS]:
        p.now[LOADED_ROWS] += 1
    if not _may_load(p, lane):
        exclude(fetch.loading, lane)


@inlined
def _may_load(p: Pipeline, lane: int) -> bool:
    """Whether a fetch channel has an address, and a place for its request; padding needs none."""
    one = p.fetch.lanes[lane]
    if one[LOADED] == p.now[ENTERED]:
        return False
    return one[REQUEST] < 0 or p.fetch.address[one[LOADED] & (ROWS - 1), lane] < 0


@inlined
def split(p: Pipeline) -> None:
    """A line of vectors becomes one row of transactions a cycle, when every fetch channel has room for its own."""
    if filled(p.splitting) == 0 or p.now[ENTERED] - p.now[LOADED_ROWS] == ADDRESSES:
        return
    if first(p.splitting, 2) + SPLIT_CYCLES <= p.now[TIME]:
        _enter(p, first(p.splitting, 0), first(p.splitting, 1))


@inlined
def _enter(p: Pipeline, job: int, line: int) -> None:
    lanes, each, base = p.sizes[FETCH_CHANNELS], p.jobs[job, TRANSACTIONS], p.jobs[job, BASE]
    valid, start = min(lanes, p.jobs[job, VECTORS] - line * lanes), line * lanes
    ahead, around = _order(p, job, valid)
    vector, part = p.now[SPLIT_VECTOR], p.now[SPLIT_PART]
    addresses = p.fetch.address[p.now[ENTERED] & (ROWS - 1)]
    for lane in range(lanes):
        addresses[lane] = -1
        if vector < valid:
            place = vector + ahead
            key = p.gathered[start + (place if place < around else place - around)]
            addresses[lane] = base + ((key * each + part) << TRANSACTION_SHIFT)
        part += 1
        if part == each:
            vector, part = vector + 1, 0
    p.now[SPLIT_VECTOR], p.now[SPLIT_PART] = vector, part
    _entered(p)
    p.now[SPLIT_ROW] += 1
    if p.now[SPLIT_ROW] == each:
        p.now[SPLIT_ROW] = p.now[SPLIT_VECTOR] = p.now[SPLIT_PART] = 0
        drop(p.splitting)


@inlined
def _entered(p: Pipeline) -> None:
    """One more row in front of all fetch channels; those that waited for it may load."""
    number = p.now[ENTERED]
    row = p.fetch.rows[number & (ROWS - 1)]
    row[ENTRY], row[LOADS] = p.now[TIME], 0
    p.now[ENTERED] += 1
    for lane in range(p.sizes[FETCH_CHANNELS]):
        if p.fetch.lanes[lane, LOADED] == number and _may_load(p, lane):
            include(p.fetch.loading, lane)


@inlined
def _order(p: Pipeline, job: int, valid: int) -> tuple[int, int]:
    """Of a line of values, the first beat of indexes comes last: places move on by a beat, around the line's beats."""
    if p.jobs[job, KIND] != VALUE:
        return 0, valid
    lanes = p.sizes[LANES]
    return lanes, (valid + lanes - 1) // lanes * lanes


@inlined
def arbitrate(p: Pipeline) -> None:
    """Keys and values take turns at the fetcher, a whole job at a time; a line passes when it is complete."""
    if p.now[JOB] < 0:
        _grant(p)
    job, line = p.now[JOB], p.now[JOB_LINE]
    if job < 0 or filled(p.splitting) == 2 or not _complete(p, job, line):
        return
    put(p.splitting, job, line, p.now[TIME])
    if p.jobs[job, KIND] == VALUE:
        p.now[COLLECTED_LINES] -= 1
    p.now[JOB_LINE] += 1
    if p.now[JOB_LINE] * p.sizes[FETCH_CHANNELS] >= p.jobs[job, VECTORS]:
        p.now[JOB] = -1


@compiled
def _grant(p: Pipeline) -> None:
    keys = filled(p.key_jobs) > 0 and _complete(p, first(p.key_jobs, 0), 0)
    values = filled(p.value_jobs) > 0 and _complete(p, first(p.value_jobs, 0), 0)
    queue = p.key_jobs if keys and (not values or p.now[LAST_KIND] == VALUE) else p.value_jobs
    if keys or values:
        p.now[JOB], p.now[JOB_LINE] = first(queue, 0), 0
        p.now[LAST_KIND] = p.jobs[p.now[JOB], KIND]
        put(p.granted, p.now[JOB])
        drop(queue)


@inlined
def _complete(p: Pipeline, job: int, line: int) -> bool:
    """Keys are read from the score buffer, a line a cycle; lines of values are collected from probabilities."""
    if p.jobs[job, KIND] != VALUE:
        return bool(p.jobs[job, VALID] + line <= p.now[TIME])
    slot = p.jobs[job, HEAD] % SLOTS
    return bool(line < p.value_line_count[slot] and p.value_lines[slot, line] <= p.now[TIME])
